//! Who has what this device wrote: the delivery state of a message.
//!
//! A device counts as having everything that was here when an exchange with it
//! began, once that exchange ended well: both sides said what they have, sent what
//! the other lacked, and said that it is stored. What others may have got
//! elsewhere is not known here until they exchange with this device themselves.
//!
//! Kept in a file beside the store: who is away now still has what they had.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use minicbor::{Decode, Encode};

use exo_model::feed::FeedId;
use exo_model::id::DeviceId;

use super::{lock, notebook};
use crate::session::{Ends, Place};

/// How far something has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// On this device only.
    Written,
    /// At so many other devices, of so many.
    Arrived {
        /// Devices that have it.
        devices: usize,
        /// Other devices of members.
        of: usize,
    },
    /// At every device that is online now, of so many that have it.
    AllOnline {
        /// Devices that have it.
        devices: usize,
        /// Other devices of members.
        of: usize,
    },
    /// At every device of every member.
    Everyone,
}

/// How far a device has one feed.
#[derive(Clone, Copy, Debug, Encode, Decode)]
struct Reached {
    #[n(0)]
    place: Place,
    #[n(1)]
    seq: u64,
}

/// What one device has.
#[derive(Debug, Encode, Decode)]
struct Had {
    #[n(0)]
    device: DeviceId,
    #[n(1)]
    feeds: Vec<Reached>,
}

#[derive(Debug, Default)]
struct Known {
    by_device: BTreeMap<DeviceId, BTreeMap<Place, u64>>,
    is_changed: bool,
}

/// What each device is known to have of this device's feeds.
#[derive(Debug)]
pub(super) struct Receipts {
    me: DeviceId,
    path: PathBuf,
    known: Mutex<Known>,
}

impl Receipts {
    /// With what is known from before. A damaged file is begun anew: what is in it
    /// comes again with the next exchanges.
    pub(super) fn open(me: DeviceId, store: &Path) -> Self {
        let path = store.with_extension("receipts");
        let all: Vec<Had> = notebook::read(&path);
        let feeds = |had: Had| had.feeds.into_iter().map(|reached| (reached.place, reached.seq)).collect();
        let by_device = all.into_iter().map(|had| (had.device, feeds(had))).collect();
        Self { me, path, known: Mutex::new(Known { by_device, is_changed: false }) }
    }

    /// A device has all of this.
    pub(super) fn confirm(&self, device: DeviceId, ends: &Ends) {
        let own = ends.iter().filter(|(feed, _)| feed.device == self.me);
        let mut known = lock(&self.known);
        let Known { by_device, is_changed } = &mut *known;
        let confirmed = by_device.entry(device).or_default();
        for (feed, end) in own {
            let seq = confirmed.entry(Place::of(&feed)).or_default();
            if end.seq > *seq {
                *seq = end.seq;
                *is_changed = true;
            }
        }
    }

    /// Writes the file, if anything changed.
    pub(super) fn save(&self) {
        let mut known = lock(&self.known);
        if !std::mem::take(&mut known.is_changed) {
            return;
        }
        let reached = |(place, seq): (&Place, &u64)| Reached { place: *place, seq: *seq };
        let had = |(device, feeds): (&DeviceId, &BTreeMap<Place, u64>)| Had {
            device: *device,
            feeds: feeds.iter().map(reached).collect(),
        };
        let all = known.by_device.iter().map(had).collect();
        drop(known);
        notebook::write(&self.path, &all);
    }

    /// How far a change of this device has got.
    pub(super) fn delivery(
        &self,
        feed: &FeedId,
        seq: u64,
        members: &BTreeSet<DeviceId>,
        online: &BTreeSet<DeviceId>,
    ) -> Delivery {
        let known = lock(&self.known);
        let place = Place::of(feed);
        let has = |device: &&DeviceId| {
            known.by_device.get(device).and_then(|feeds| feeds.get(&place)).is_some_and(|upto| *upto >= seq)
        };
        let (devices, of) = (members.iter().filter(has).count(), members.len());
        match devices {
            0 => Delivery::Written,
            _ if devices == of => Delivery::Everyone,
            _ if online.iter().all(|device| has(&device)) => Delivery::AllOnline { devices, of },
            _ => Delivery::Arrived { devices, of },
        }
    }
}
