//! The edits of a board as a graph, whatever order they come in.
//!
//! An edit is *placed* once all it cites and its author's previous edit are.
//! What is said here of a placed edit follows from its past alone, so it never
//! changes: depth, pace, and whether it is sound. Fences and limits, which
//! depend on more, are [`super::count`]'s.

use std::collections::{BTreeMap, BTreeSet};

use super::edit::BoardIntent;
use super::{EDITS_PER_MINUTE_MAX, HELD_MAX, PlacedEdit, WAITING_MAX};
use crate::id::{ChangeHash, DeviceId};

/// One minute, ms.
const MINUTE_MS: i64 = 60_000;

/// Where an edit stands in the one order that every peer gives the edits:
/// depth, then id. All that an edit builds on comes before it.
pub(super) type Place = (u64, ChangeHash);

/// What an edit's past alone says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing speaks against it.
    Sound,
    /// Breaks the bounds of an edit, or its own links are wrong.
    Malformed,
    /// Its author wrote too many in one minute.
    TooFast,
    /// It cites one of the above.
    Unfounded,
}

/// A placed edit.
pub(super) struct Node {
    pub(super) author: DeviceId,
    pub(super) previous: Option<ChangeHash>,
    pub(super) fenced: bool,
    pub(super) verdict: Verdict,
    pub(super) depth: u64,
    pub(super) pace: Pace,
    /// Empty unless sound.
    pub(super) cites: Vec<ChangeHash>,
    /// Empty unless sound.
    pub(super) intents: Vec<BoardIntent>,
}

/// How fast an author writes, along their own edits.
#[derive(Clone, Copy)]
pub(super) struct Pace {
    /// The latest time signed so far, ms since the Unix epoch.
    clock_ms: i64,
    /// Edits in this minute so far.
    in_minute: u32,
}

impl Pace {
    fn start(time_ms: i64) -> Self {
        Self { clock_ms: time_ms, in_minute: 1 }
    }

    /// The author's clock never goes back: an earlier time counts as the same.
    fn next(self, time_ms: i64) -> Self {
        let clock_ms = self.clock_ms.max(time_ms);
        if clock_ms.div_euclid(MINUTE_MS) == self.clock_ms.div_euclid(MINUTE_MS) {
            Self { clock_ms, in_minute: self.in_minute.saturating_add(1) }
        } else {
            Self::start(clock_ms)
        }
    }

    /// The earliest time that the next edit may be signed with.
    pub(super) fn next_ms(self) -> i64 {
        if self.in_minute < EDITS_PER_MINUTE_MAX {
            self.clock_ms
        } else {
            let minute = self.clock_ms.div_euclid(MINUTE_MS).saturating_add(1);
            minute.saturating_mul(MINUTE_MS)
        }
    }
}

/// All edits held.
#[derive(Default)]
pub(super) struct Graph {
    placed: BTreeMap<ChangeHash, Node>,
    /// The last edit of each author.
    last: BTreeMap<DeviceId, Place>,
    waiting: BTreeMap<ChangeHash, PlacedEdit>,
    /// Who waits for an edit. Each waiting edit stands here once, under the
    /// first edit it misses.
    awaited: BTreeMap<ChangeHash, BTreeSet<ChangeHash>>,
}

/// What an insertion did.
#[derive(Default)]
pub(super) struct Insertion {
    /// Newly placed, each after all it builds on.
    pub(super) placed: Vec<ChangeHash>,
    /// No room for these.
    pub(super) deferred: Vec<PlacedEdit>,
    /// A known edit came to lie beyond a fence, or back within.
    pub(super) fences_moved: bool,
}

impl Graph {
    pub(super) fn get(&self, id: &ChangeHash) -> Option<&Node> {
        self.placed.get(id)
    }

    pub(super) fn is_waiting(&self, id: &ChangeHash) -> bool {
        self.waiting.contains_key(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ChangeHash, &Node)> {
        self.placed.iter()
    }

    /// The pace of an author's last edit.
    pub(super) fn pace(&self, author: &DeviceId) -> Option<Pace> {
        let (_, id) = self.last.get(author)?;
        self.placed.get(id).map(|node| node.pace)
    }

    /// How many edits there is room for, if none of them can be placed.
    pub(super) fn room(&self) -> usize {
        let held = self.placed.len() + self.waiting.len();
        HELD_MAX.saturating_sub(held).min(WAITING_MAX.saturating_sub(self.waiting.len()))
    }

    pub(super) fn insert(&mut self, edits: impl IntoIterator<Item = PlacedEdit>) -> Insertion {
        let mut done = Insertion::default();
        let mut fresh = BTreeSet::new();
        for edit in edits {
            if let Some(node) = self.placed.get_mut(&edit.id) {
                done.fences_moved |= node.fenced != edit.fenced;
                node.fenced = edit.fenced;
            } else if let Some(known) = self.waiting.get_mut(&edit.id) {
                known.fenced = edit.fenced;
            } else if self.placed.len() + self.waiting.len() >= HELD_MAX {
                done.deferred.push(edit);
            } else {
                fresh.insert(edit.id);
                self.settle(edit, &mut done.placed);
            }
        }
        self.defer_surplus(&fresh, &mut done.deferred);
        done
    }

    /// Places an edit and all that waited for it, or lets it wait.
    fn settle(&mut self, edit: PlacedEdit, placed: &mut Vec<ChangeHash>) {
        let mut ready = vec![edit];
        while let Some(edit) = ready.pop() {
            if let Some(missing) = self.missing(&edit) {
                self.awaited.entry(missing).or_default().insert(edit.id);
                self.waiting.insert(edit.id, edit);
                continue;
            }
            let (id, author) = (edit.id, edit.author);
            let node = self.judge(edit);
            let place = (node.depth, id);
            self.last.entry(author).and_modify(|last| *last = place.max(*last)).or_insert(place);
            self.placed.insert(id, node);
            placed.push(id);
            let waiters = self.awaited.remove(&id).unwrap_or_default();
            ready.extend(waiters.iter().filter_map(|waiter| self.waiting.remove(waiter)));
        }
    }

    /// An edit this one cannot be judged without.
    fn missing(&self, edit: &PlacedEdit) -> Option<ChangeHash> {
        if edit.links_to_itself() {
            return None;
        }
        // One that breaks its bounds counts for nothing, so its citations are
        // not waited for, however many they are.
        let sound = edit.edit.as_ref().filter(|edit| edit.check().is_ok());
        let cited: &[ChangeHash] = sound.map_or(&[], |edit| &edit.heads);
        edit.previous.iter().chain(cited).find(|id| !self.placed.contains_key(id)).copied()
    }

    fn judge(&self, edit: PlacedEdit) -> Node {
        let PlacedEdit { id: _, author, previous, time_ms, fenced, .. } = edit;
        let before = previous.and_then(|id| self.placed.get(&id));
        let pace = before.map_or_else(|| Pace::start(time_ms), |node| node.pace.next(time_ms));
        let mut depth = before.map_or(0, |node| node.depth + 1);
        let own_chain = before.is_none_or(|node| node.author == author);
        let well_formed = !edit.links_to_itself() && own_chain;
        let content = edit.edit.filter(|content| well_formed && content.check().is_ok());
        let verdict = if let Some(content) = &content {
            let cited = content.heads.iter().filter_map(|id| self.placed.get(id));
            depth = cited.clone().fold(depth, |depth, node| depth.max(node.depth + 1));
            if pace.in_minute > EDITS_PER_MINUTE_MAX {
                Verdict::TooFast
            } else if cited.into_iter().any(|node| node.verdict != Verdict::Sound) {
                Verdict::Unfounded
            } else {
                Verdict::Sound
            }
        } else {
            Verdict::Malformed
        };
        let sound = content.filter(|_| verdict == Verdict::Sound);
        let (cites, intents) = sound.map(|edit| (edit.heads, edit.intents)).unwrap_or_default();
        Node { author, previous, fenced, verdict, depth, pace, cites, intents }
    }

    /// Keeps the waiting few. Those that waited before stay; of the fresh ones
    /// the lowest ids stay.
    fn defer_surplus(&mut self, fresh: &BTreeSet<ChangeHash>, deferred: &mut Vec<PlacedEdit>) {
        for id in fresh.iter().rev() {
            if self.waiting.len() <= WAITING_MAX {
                break;
            }
            let Some(edit) = self.waiting.remove(id) else { continue };
            // What it was found to miss is what it still misses first.
            if let Some(missing) = self.missing(&edit)
                && let Some(waiters) = self.awaited.get_mut(&missing)
            {
                waiters.remove(id);
                if waiters.is_empty() {
                    self.awaited.remove(&missing);
                }
            }
            deferred.push(edit);
        }
    }
}
