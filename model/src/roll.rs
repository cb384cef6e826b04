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

use crate::event::Event;
use crate::event::keys::{KeyEvent, LIST_PARTS_MAX, Listed};
use crate::feed::opening::{FeedContext, Keyring};
use crate::feed::{AcceptedRun, FeedId, LineId, Stream, VerifiedEvent};
use crate::id::{ChangeHash, DeviceId};

pub use anchor::{ANCHOR_BYTES_MAX, AnchorError, KeeperAnchor};
pub use listing::{ListedPerson, Listing};
pub use tree::Tree;

/// Lists of one device that are looked at, its first ones: whoever posts more
/// fills their own room only.
pub const LISTS_PER_DEVICE_MAX: usize = 4_096;

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
    entries: Vec<Listed>,
}

/// A whole list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// Its name: the change that carries its last part.
    pub id: ChangeHash,
    /// Who posted it.
    pub device: DeviceId,
    /// Where it stands in its author's feed: segment and number of the change.
    place: (u32, u64),
    /// The list that it takes the place of.
    pub follows: Option<ChangeHash>,
    /// What it says.
    pub listing: Listing,
}

/// All lists that were posted.
#[derive(Clone, Debug, Default)]
pub struct Roll {
    parts: BTreeMap<ChangeHash, Part>,
    /// Devices whose `keys` feed parts: they have said two things.
    parted: BTreeSet<DeviceId>,
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
        let part = Part {
            feed: event.feed,
            seq: event.seq,
            previous: event.previous,
            follows: *follows,
            number: *part,
            is_last: *is_last,
            entries: entries.clone(),
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

    /// Every list of which all parts are here and that is well-formed.
    fn lists(&self) -> BTreeMap<ChangeHash, List> {
        let mut last: Vec<_> = self.parts.iter().filter(|(_, part)| part.is_last).collect();
        last.sort_by_key(|(id, part)| (part.feed, part.seq, **id));
        let mut lists = BTreeMap::new();
        for of_device in last.chunk_by(|one, other| one.1.feed.device == other.1.feed.device) {
            for (id, part) in of_device.iter().take(LISTS_PER_DEVICE_MAX) {
                lists.extend(self.list(**id, part).map(|list| (**id, list)));
            }
        }
        lists
    }

    fn list(&self, id: ChangeHash, last: &Part) -> Option<List> {
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
        let entries = parts.iter().rev().flat_map(|part| part.entries.iter().cloned());
        Some(List {
            id,
            device: last.feed.device,
            place: (last.feed.segment, last.seq),
            follows: last.follows,
            listing: Listing::read(entries.collect())?,
        })
    }

    /// The tree of lists that are valid for someone who starts with `base`: of
    /// those that follow none, the ones that `is_first` lets begin.
    pub fn tree(&self, base: Listing, is_first: impl Fn(&List) -> bool) -> Tree {
        Tree::grow(base, self.lists(), &self.parted, is_first)
    }
}
