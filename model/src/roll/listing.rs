//! What a list for keepers says.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use crate::charter::Role;
use crate::codec;
use crate::event::keys::{KeyEvent, LIST_PART_BYTES_MAX, LIST_PARTS_MAX, Listed, StreamEnd};
use crate::feed::fence::FENCE_ENTRIES_MAX;
use crate::feed::{FeedId, Stream};
use crate::id::{ChangeHash, DeviceId};

/// Bytes of a list's entries, over all parts; parts are cut between entries,
/// so each has room for its largest one left.
const LIST_BYTES_MAX: usize = LIST_PARTS_MAX as usize * (LIST_PART_BYTES_MAX - ENTRY_BYTES_MAX);
/// Longest entry: a device whose feeds end in [`FENCE_ENTRIES_MAX`] streams.
const ENTRY_BYTES_MAX: usize = FENCE_ENTRIES_MAX * 40 + 64;

/// How far the feeds of a device that takes part no longer count; `None` where
/// nobody has said so.
type Ends = Option<BTreeMap<Stream, (u32, u64)>>;

/// A person whose devices may post lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPerson {
    /// Their rank.
    pub role: Role,
    /// Their devices, the first enrolled at the front.
    pub devices: Vec<DeviceId>,
}

/// Who takes part in a community, as a list says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Who may post lists, by rank and seniority.
    pub listers: Vec<ListedPerson>,
    /// Devices that write, besides theirs.
    pub writers: BTreeSet<DeviceId>,
    /// Devices that carry.
    pub keepers: BTreeSet<DeviceId>,
    /// Devices that take part no longer, with how far their feeds count.
    pub former: BTreeMap<DeviceId, Ends>,
}

impl Listing {
    /// Whether a device may post lists.
    pub fn is_lister(&self, device: &DeviceId) -> bool {
        self.listers.iter().any(|person| person.devices.contains(device))
    }

    /// Whether a device may write.
    pub fn is_writer(&self, device: &DeviceId) -> bool {
        self.writers.contains(device) || self.is_lister(device)
    }

    /// Whether a device takes part.
    pub fn knows(&self, device: &DeviceId) -> bool {
        self.is_writer(device) || self.keepers.contains(device)
    }

    /// Devices that may post lists.
    pub fn lister_devices(&self) -> impl Iterator<Item = &DeviceId> {
        self.listers.iter().flat_map(|person| &person.devices)
    }

    /// All devices that take part.
    pub fn devices(&self) -> impl Iterator<Item = &DeviceId> {
        self.lister_devices().chain(&self.writers).chain(&self.keepers)
    }

    /// Whether changes of this feed after `after_seq` are worth carrying.
    ///
    /// Of a device that takes part no longer, what counts. Its charter goes on
    /// without an end: who had not heard of a removal may have written under
    /// what is void, and the charter's order needs all that is cited.
    pub fn carries(&self, feed: &FeedId, after_seq: u64) -> bool {
        match self.former.get(&feed.device) {
            None => self.is_writer(&feed.device),
            Some(None) => true,
            Some(Some(_)) if feed.stream == Stream::Charter => true,
            Some(Some(ends)) => ends
                .get(&feed.stream)
                .is_some_and(|(segment, seq)| (feed.segment, after_seq) < (*segment, *seq)),
        }
    }

    /// Leaves former devices away that fit no list, the last ones in order.
    pub fn bound(&mut self) {
        let mut room = LIST_BYTES_MAX;
        let is_former = |entry: &Listed| matches!(entry, Listed::Former { .. });
        let mut keep = 0;
        for entry in self.entries() {
            let bytes = codec::encode(&entry).len();
            if is_former(&entry) && bytes > room {
                break;
            }
            keep += usize::from(is_former(&entry));
            room = room.saturating_sub(bytes);
        }
        if let Some(beyond) = self.former.keys().nth(keep).copied() {
            self.former.split_off(&beyond);
        }
    }

    /// The entries of a list, in their one order.
    pub fn entries(&self) -> impl Iterator<Item = Listed> + '_ {
        let lister =
            |person: &ListedPerson| Listed::Lister { role: person.role, devices: person.devices.clone() };
        let former = |(device, ends): (&DeviceId, &Ends)| {
            let end = |(stream, (segment, seq)): (&Stream, &(u32, u64))| StreamEnd {
                stream: *stream,
                segment: *segment,
                seq: *seq,
            };
            let ends = ends.as_ref().map(|ends| ends.iter().map(end).collect());
            Listed::Former { device: *device, ends }
        };
        self.listers
            .iter()
            .map(lister)
            .chain(self.writers.iter().map(|device| Listed::Writer(*device)))
            .chain(self.keepers.iter().map(|device| Listed::Keeper(*device)))
            .chain(self.former.iter().map(former))
    }

    /// What a list of these entries says; `None` where it is not well-formed:
    /// out of order, a device named twice, nobody who may list.
    pub fn read<E: Borrow<Listed>>(entries: &[E]) -> Option<Self> {
        let mut listing = Self::default();
        let mut named = BTreeSet::new();
        for entry in entries.iter().map(|entry| entry.borrow().clone()) {
            let is_new = match entry {
                Listed::Lister { role, devices } => {
                    let all = !devices.is_empty() && devices.iter().all(|device| named.insert(*device));
                    listing.listers.push(ListedPerson { role, devices });
                    all
                }
                Listed::Writer(device) => named.insert(device) && listing.writers.insert(device),
                Listed::Keeper(device) => named.insert(device) && listing.keepers.insert(device),
                Listed::Former { device, ends } => {
                    if ends.as_ref().is_some_and(|ends| ends.len() > FENCE_ENTRIES_MAX) {
                        return None;
                    }
                    let end = |end: StreamEnd| (end.stream, (end.segment, end.seq));
                    let ends = ends.map(|ends| ends.into_iter().map(end).collect());
                    named.insert(device) && listing.former.insert(device, ends).is_none()
                }
            };
            if !is_new {
                return None;
            }
        }
        let ranked = listing.listers.windows(2).all(|two| two[0].role >= two[1].role);
        let in_order = listing.entries().zip(entries).all(|(one, other)| one == *other.borrow());
        (!listing.listers.is_empty() && ranked && in_order).then_some(listing)
    }

    /// The events that post it in place of another.
    pub fn post(&self, follows: Option<ChangeHash>) -> Vec<KeyEvent> {
        let mut parts = vec![Vec::new()];
        let mut room = LIST_PART_BYTES_MAX;
        for entry in self.entries() {
            let bytes = codec::encode(&entry).len();
            if bytes > room {
                parts.push(Vec::new());
                room = LIST_PART_BYTES_MAX;
            }
            room = room.saturating_sub(bytes);
            if let Some(part) = parts.last_mut() {
                part.push(entry);
            }
        }
        let count = parts.len();
        let event = |(number, entries): (u16, Vec<Listed>)| KeyEvent::ListedForKeepers {
            follows,
            part: number,
            is_last: usize::from(number) + 1 == count,
            entries,
        };
        (0..LIST_PARTS_MAX).zip(parts).map(event).collect()
    }
}
