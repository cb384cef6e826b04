//! Who has what this device wrote: the delivery state of a message.
//!
//! A device counts as having everything that was here when an exchange with it
//! began, once that exchange ended well: both sides said what they have, sent what
//! the other lacked, and said that it is stored. What others may have got
//! elsewhere is not known here until they exchange with this device themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use exo_model::feed::FeedId;
use exo_model::id::DeviceId;

use super::lock;
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

/// What each device is known to have of this device's feeds.
#[derive(Debug)]
pub(super) struct Receipts {
    me: DeviceId,
    by_device: Mutex<BTreeMap<DeviceId, BTreeMap<Place, u64>>>,
}

impl Receipts {
    pub(super) const fn new(me: DeviceId) -> Self {
        Self { me, by_device: Mutex::new(BTreeMap::new()) }
    }

    /// A device has all of this.
    pub(super) fn confirm(&self, device: DeviceId, ends: &Ends) {
        let own = ends.iter().filter(|(feed, _)| feed.device == self.me);
        let mut by_device = lock(&self.by_device);
        let confirmed = by_device.entry(device).or_default();
        for (feed, end) in own {
            let seq = confirmed.entry(Place::of(&feed)).or_default();
            *seq = end.seq.max(*seq);
        }
    }

    /// How far a change of this device has got.
    pub(super) fn delivery(
        &self,
        feed: &FeedId,
        seq: u64,
        members: &BTreeSet<DeviceId>,
        online: &BTreeSet<DeviceId>,
    ) -> Delivery {
        let by_device = lock(&self.by_device);
        let place = Place::of(feed);
        let has = |device: &&DeviceId| {
            by_device.get(device).and_then(|feeds| feeds.get(&place)).is_some_and(|upto| *upto >= seq)
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
