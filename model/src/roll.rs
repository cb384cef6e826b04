//! Lists of who takes part, for keepers that cannot read the charter: which
//! of them a keeper believes.
//!
//! Lists travel unsealed in `keys` feeds, in parts where one event is too
//! small. Each names the list that it takes the place of, so they form a tree;
//! a list is *valid* if its author may list according to the one it follows.
//! Where several valid ones follow the same, the one with more support among
//! those who may list by that one is believed: rank by rank, then by
//! seniority. See `docs/design/keepers.md`.
//!
//! Behind the gate, beside [`epochs`](crate::epochs). A function of the set of
//! events and of where one starts, for keepers and for members, who work out
//! what keepers believe to see whether it has to be put right. Never here:
//! whether a list is true.

mod anchor;
mod listing;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::event::Event;
use crate::event::keys::{KeyEvent, LIST_PARTS_MAX, Listed};
use crate::feed::opening::{FeedContext, Keyring};
use crate::feed::{AcceptedRun, FeedId, LineId, Stream, VerifiedEvent};
use crate::id::{ChangeHash, DeviceId};

pub use anchor::{ANCHOR_BYTES_MAX, AnchorError, KeeperAnchor};
pub use listing::{ListedPerson, Listing};
pub use tree::Tree;

/// Entries of one device's lists that are looked at, its first lists; whoever
/// posts more fills their own room only. Four thousand lists of a thousand
/// entries.
pub const ENTRIES_PER_DEVICE_MAX: usize = 1 << 22;

/// One part of a list, at its place.
#[derive(Clone, Debug)]
struct Part {
    feed: FeedId,
    seq: u64,
    /// The change before it on its author's line.
    previous: ChangeHash,
    follows: Option<ChangeHash>,
    number: u16,
    is_last: bool,
    /// Shared with other lists: most of one is what the one before says.
    entries: Box<[Arc<Listed>]>,
}

/// A whole list that is valid.
#[derive(Clone, Debug)]
pub struct List {
    /// Its name: the change that carries its last part.
    pub id: ChangeHash,
    /// Who posted it.
    pub device: DeviceId,
    /// The list that it takes the place of.
    pub follows: Option<ChangeHash>,
    /// Where it stands in its author's feed: segment and number of the change.
    place: (u32, u64),
    listers: Vec<ListedPerson>,
    entries: Vec<Arc<Listed>>,
}

impl List {
    /// What it says.
    pub fn listing(&self) -> Listing {
        // Read once already, before it was taken for a list.
        Listing::read(&self.entries).unwrap_or_default()
    }

    fn says(&self, entries: &[Listed]) -> bool {
        self.entries.len() == entries.len()
            && self.entries.iter().zip(entries).all(|(one, other)| **one == *other)
    }

    fn is_lister(&self, device: &DeviceId) -> bool {
        self.listers.iter().any(|person| person.devices.contains(device))
    }

    fn lister_devices(&self) -> impl Iterator<Item = &DeviceId> {
        self.listers.iter().flat_map(|person| &person.devices)
    }
}

/// All lists that were posted.
#[derive(Clone, Debug, Default)]
pub struct Roll {
    parts: BTreeMap<ChangeHash, Part>,
    /// Devices whose `keys` feed parts: they have said two things.
    parted: BTreeSet<DeviceId>,
    /// Every entry of any list, once.
    entries: BTreeSet<Arc<Listed>>,
}

impl Roll {
    /// Takes an event of a `keys` feed, with or without meaning; in any order,
    /// more than once. Returns whether what is believed may be otherwise now.
    pub fn take(&mut self, event: &VerifiedEvent) -> bool {
        if event.feed.stream != Stream::Keys {
            return false;
        }
        let parts = event.line > 0 && self.parted.insert(event.feed.device);
        let Ok(Event::Keys(KeyEvent::ListedForKeepers { follows, part, is_last, entries })) = &event.event
        else {
            return parts;
        };
        if *part >= LIST_PARTS_MAX || self.parts.contains_key(&event.hash) {
            return parts;
        }
        let entries = entries.iter().map(|entry| self.share(entry)).collect();
        let part = Part {
            feed: event.feed,
            seq: event.seq,
            previous: event.previous,
            follows: *follows,
            number: *part,
            is_last: *is_last,
            entries,
        };
        self.parts.insert(event.hash, part);
        true
    }

    /// The same for a run of a `keys` feed: nothing in it is sealed.
    pub fn take_run(&mut self, line: LineId, run: &AcceptedRun) -> bool {
        let mut context = FeedContext { at: run.start(), ..FeedContext::default() };
        let no_keys = Keyring::default();
        let mut changed = false;
        for (change, hash) in run.changes().iter().zip(run.hashes()) {
            changed |= self.take(&context.open(&line, change, *hash, &no_keys));
        }
        changed
    }

    fn share(&mut self, entry: &Listed) -> Arc<Listed> {
        if let Some(shared) = self.entries.get(entry) {
            return shared.clone();
        }
        let shared = Arc::new(entry.clone());
        self.entries.insert(shared.clone());
        shared
    }

    /// Every list of which all parts are here, by name, with whom it is by and
    /// what it follows.
    fn names(&self) -> BTreeMap<ChangeHash, (DeviceId, Option<ChangeHash>)> {
        let mut last: Vec<_> = self.parts.iter().filter(|(_, part)| part.is_last).collect();
        last.sort_by_key(|(id, part)| (part.feed, part.seq, **id));
        let mut names = BTreeMap::new();
        for of_device in last.chunk_by(|one, other| one.1.feed.device == other.1.feed.device) {
            let mut room = ENTRIES_PER_DEVICE_MAX;
            for (id, part) in of_device {
                let Some(parts) = self.parts_of(part) else { continue };
                let count: usize = parts.iter().map(|part| part.entries.len()).sum();
                if count > room {
                    break;
                }
                room = room.saturating_sub(count.max(1));
                names.insert(**id, (part.feed.device, part.follows));
            }
        }
        names
    }

    /// The parts of the list that ends with one, the last at the front.
    fn parts_of<'a>(&'a self, last: &'a Part) -> Option<Vec<&'a Part>> {
        let mut parts = vec![last];
        let mut next = last;
        while next.number > 0 {
            let before = self.parts.get(&next.previous)?;
            let continues = before.feed.device == last.feed.device
                && before.number + 1 == next.number
                && before.follows == last.follows
                && !before.is_last;
            if !continues {
                return None;
            }
            parts.push(before);
            next = before;
        }
        Some(parts)
    }

    /// A list; `None` where it is not whole and well-formed.
    fn list(&self, id: ChangeHash) -> Option<List> {
        let last = self.parts.get(&id)?;
        let parts = self.parts_of(last)?;
        let entries: Vec<_> = parts.iter().rev().flat_map(|part| part.entries.iter().cloned()).collect();
        let listers = Listing::read(&entries)?.listers;
        let place = (last.feed.segment, last.seq);
        Some(List { id, device: last.feed.device, follows: last.follows, place, listers, entries })
    }

    /// The tree of lists that are valid for someone who starts with `base`: of
    /// those that follow none, the ones that `is_first` lets begin.
    pub fn tree(&self, base: Listing, is_first: impl Fn(&ChangeHash, &DeviceId) -> bool) -> Tree {
        Tree::grow(base, self, is_first)
    }
}
