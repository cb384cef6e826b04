//! Threads with models: trees of turns, one branch of which is shown.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::PrivateEvent;
use crate::event::private::Speaker;
use crate::id::{ChangeHash, ThreadId};
use crate::register::Stamp;

use super::Written;
use super::window::Window;

/// Most threads, deleted ones included: those with the smallest ids are kept,
/// which no order of arrival can change.
pub const THREADS_MAX: usize = 1 << 18;

/// One turn of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// When it was said.
    pub stamp: Stamp,
    /// Wall time of writing, ms since the Unix epoch.
    pub time_ms: i64,
    /// The turn before it, here or not.
    pub parent: Option<ChangeHash>,
    /// Who speaks.
    pub speaker: Speaker,
    /// What.
    pub text: Box<str>,
    /// Model and figures, as its writer states them.
    pub about: Box<str>,
}

/// One thread. Two turns with one parent are branches. A turn whose parent is
/// not here begins a tree of its own until that comes. The branch shown goes
/// through the turn that was chosen last, if that is here, and on to the newest
/// leaf behind it; without a choice, to the newest leaf of all.
#[derive(Clone, Debug, Default)]
pub struct Thread {
    pub(super) titled: Option<(Stamp, Box<str>, Box<str>)>,
    pub(super) chosen: Option<(Stamp, ChangeHash)>,
    pub(super) turns: BTreeMap<ChangeHash, Turn>,
}

impl Thread {
    /// Its title; may be empty.
    pub fn title(&self) -> &str {
        self.titled.as_ref().map_or("", |(_, title, _)| title)
    }

    /// Its folder; empty for none.
    pub fn folder(&self) -> &str {
        self.titled.as_ref().map_or("", |(_, _, folder)| folder)
    }

    /// Its newest turn, or else its title.
    pub fn newest(&self) -> Option<Stamp> {
        self.turns.values().map(|turn| turn.stamp).max().or(self.titled.as_ref().map(|(stamp, ..)| *stamp))
    }

    /// Number of turns on all branches.
    pub fn len(&self) -> usize {
        self.turns.len()
    }

    /// Whether it has no turn.
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// All turns on all branches, by id.
    pub fn turns(&self) -> impl Iterator<Item = &Turn> {
        self.turns.values()
    }

    /// One turn.
    pub fn turn(&self, id: &ChangeHash) -> Option<&Turn> {
        self.turns.get(id)
    }

    /// Turns without a turn after them, newest first.
    pub fn leaves(&self) -> Vec<&Turn> {
        let parents: BTreeSet<ChangeHash> = self.turns.values().filter_map(|turn| turn.parent).collect();
        let mut leaves: Vec<_> =
            self.turns.values().filter(|turn| !parents.contains(&turn.stamp.id)).collect();
        leaves.sort_unstable_by_key(|turn| std::cmp::Reverse(turn.stamp));
        leaves
    }

    /// Turns with the same parent as this one, itself included, oldest first:
    /// the branches to choose from at this place.
    pub fn siblings(&self, id: &ChangeHash) -> Vec<&Turn> {
        let Some(turn) = self.turns.get(id) else { return Vec::new() };
        let mut siblings: Vec<_> = self.turns.values().filter(|other| other.parent == turn.parent).collect();
        siblings.sort_unstable_by_key(|turn| turn.stamp);
        siblings
    }

    /// The last turn of the branch that is shown.
    pub fn shown_leaf(&self) -> Option<&Turn> {
        match self.chosen.and_then(|(_, id)| self.turns.get(&id)) {
            Some(chosen) => Some(self.newest_behind(chosen)),
            None => self.leaves().first().copied(),
        }
    }

    /// The branch that is shown, from its first turn.
    pub fn transcript(&self) -> Vec<&Turn> {
        self.shown_leaf().map_or_else(Vec::new, |leaf| self.branch(&leaf.stamp.id))
    }

    /// The branch that ends in a turn, from its first turn.
    pub fn branch(&self, leaf: &ChangeHash) -> Vec<&Turn> {
        let mut branch: Vec<&Turn> = Vec::new();
        let mut next = self.turns.get(leaf);
        while let Some(turn) = next {
            branch.push(turn);
            // Hashes make no circles, but bytes from anywhere might.
            if branch.len() > self.turns.len() {
                return Vec::new();
            }
            next = turn.parent.and_then(|parent| self.turns.get(&parent));
        }
        branch.reverse();
        branch
    }

    fn newest_behind<'a>(&'a self, from: &'a Turn) -> &'a Turn {
        let children: BTreeSet<(ChangeHash, ChangeHash)> =
            self.turns.values().filter_map(|turn| Some((turn.parent?, turn.stamp.id))).collect();
        let zeros = ChangeHash::from_bytes([0; ChangeHash::LEN]);
        let mut seen = BTreeSet::from([from.stamp.id]);
        let mut open = vec![from];
        let mut newest: Option<&Turn> = None;
        while let Some(turn) = open.pop() {
            let id = turn.stamp.id;
            let mut behind = children.range((id, zeros)..).take_while(|(parent, _)| *parent == id).peekable();
            if behind.peek().is_none() && newest.is_none_or(|other| other.stamp < turn.stamp) {
                newest = Some(turn);
            }
            open.extend(behind.filter(|(_, id)| seen.insert(*id)).filter_map(|(_, id)| self.turns.get(id)));
        }
        newest.unwrap_or(from)
    }
}

/// All threads; a deleted one has no contents.
#[derive(Clone, Debug)]
pub(super) struct Threads {
    max: usize,
    pub(super) by_id: BTreeMap<ThreadId, Option<Thread>>,
    pub(super) window: Window,
}

impl Threads {
    /// No threads yet.
    pub(super) const fn new(max: usize, window: Window) -> Self {
        Self { max, by_id: BTreeMap::new(), window }
    }

    /// Whether a thread that is not among these would have no place.
    pub(super) fn is_full(&self) -> bool {
        self.by_id.len() >= self.max
    }

    pub(super) fn insert(&mut self, written: &Written, event: &PrivateEvent) -> bool {
        let stamp = written.stamp();
        match event {
            PrivateEvent::ThreadTitled { thread, title, folder } => {
                let Some(Some(held)) = self.entry(*thread) else { return false };
                let wins = held.titled.as_ref().is_none_or(|(held, ..)| *held < stamp);
                if wins {
                    held.titled = Some((stamp, title.as_str().into(), folder.as_str().into()));
                }
                wins
            }
            PrivateEvent::BranchChosen { thread, leaf } => {
                let Some(Some(held)) = self.entry(*thread) else { return false };
                let wins = held.chosen.is_none_or(|(held, _)| held < stamp);
                if wins {
                    held.chosen = Some((stamp, *leaf));
                }
                wins
            }
            PrivateEvent::ThreadDeleted { thread } => {
                self.entry(*thread).is_some_and(|held| held.take().is_some())
            }
            PrivateEvent::TurnAdded { thread, parent, speaker, text, about } => {
                let turn = Turn {
                    stamp,
                    time_ms: written.time_ms,
                    parent: *parent,
                    speaker: *speaker,
                    text: text.as_str().into(),
                    about: about.as_str().into(),
                };
                self.add(*thread, turn)
            }
            _ => false,
        }
    }

    fn add(&mut self, thread: ThreadId, turn: Turn) -> bool {
        // A thread is known from here on even where the turn is too old to keep,
        // because it would have been kept had it come earlier.
        self.entry(thread);
        let bytes = u32::try_from(turn.text.len() + turn.about.len()).unwrap_or(u32::MAX);
        if !self.note(thread, turn.stamp, bytes) {
            return false;
        }
        let Some(Some(held)) = self.by_id.get_mut(&thread) else { return false };
        held.turns.insert(turn.stamp.id, turn);
        true
    }

    /// Gives a turn its place in the window, and lets go what that pushes out.
    pub(super) fn note(&mut self, thread: ThreadId, stamp: Stamp, bytes: u32) -> bool {
        let mut left_out = Vec::new();
        let kept = self.window.insert(stamp, thread, bytes, &mut left_out);
        for (thread, turn) in left_out {
            if let Some(Some(held)) = self.by_id.get_mut(&thread) {
                held.turns.remove(&turn);
            }
        }
        kept
    }

    /// A thread's place, made if there is room for it.
    pub(super) fn entry(&mut self, thread: ThreadId) -> Option<&mut Option<Thread>> {
        if !self.by_id.contains_key(&thread) {
            if self.is_full() {
                if self.by_id.last_key_value().is_none_or(|(greatest, _)| *greatest < thread) {
                    return None;
                }
                self.by_id.pop_last();
            }
            self.by_id.insert(thread, Some(Thread::default()));
        }
        self.by_id.get_mut(&thread)
    }

    pub(super) fn get(&self, thread: &ThreadId) -> Option<&Thread> {
        self.by_id.get(thread)?.as_ref()
    }

    fn live(&self) -> impl Iterator<Item = (ThreadId, &Thread)> {
        self.by_id.iter().filter_map(|(id, thread)| Some((*id, thread.as_ref()?)))
    }

    pub(super) fn list(&self, folder: Option<&str>, limit: usize) -> Vec<(ThreadId, &Thread)> {
        let mut list: Vec<_> = self
            .live()
            .filter(|(_, thread)| folder.is_none_or(|folder| thread.folder() == folder))
            .filter_map(|(id, thread)| Some((thread.newest()?, id, thread)))
            .collect();
        list.sort_unstable_by_key(|(newest, id, _)| std::cmp::Reverse((*newest, *id)));
        list.into_iter().take(limit).map(|(_, id, thread)| (id, thread)).collect()
    }

    pub(super) fn folders(&self) -> BTreeSet<&str> {
        self.live().map(|(_, thread)| thread.folder()).filter(|folder| !folder.is_empty()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(thread: u8, text: &str) -> PrivateEvent {
        let thread = ThreadId::from_bytes([thread; 16]);
        match text {
            "gone" => PrivateEvent::ThreadDeleted { thread },
            _ => PrivateEvent::TurnAdded {
                thread,
                parent: None,
                speaker: Speaker::Person,
                text: text.to_owned(),
                about: String::new(),
            },
        }
    }

    /// Deletions, too many threads and too many turns at once: what is left must
    /// not depend on the order.
    #[test]
    fn full_threads_are_the_same_in_every_order() {
        let facts =
            [(4, "four"), (1, "one"), (2, "two"), (1, "gone"), (3, "three"), (2, "more"), (3, "last")];
        let mut first = None;
        let mut order: Vec<usize> = (0..facts.len()).collect();
        permute(&mut order, 0, &mut |order| {
            let mut threads = Threads::new(3, Window::new(4, 1_000));
            for at in order {
                let (thread, text) = facts[*at];
                let n = u8::try_from(*at).unwrap();
                let written = Written { id: ChangeHash::from_bytes([n; 32]), lamport: n.into(), time_ms: 0 };
                threads.insert(&written, &event(thread, text));
            }
            let end = format!("{threads:?}");
            assert_eq!(*first.get_or_insert_with(|| end.clone()), end, "{order:?}");
            let texts: Vec<&str> =
                threads.live().flat_map(|(_, t)| t.turns.values().map(|t| &*t.text)).collect();
            assert_eq!(texts, ["two", "more", "three", "last"]);
        });
    }

    fn permute(order: &mut [usize], from: usize, visit: &mut impl FnMut(&[usize])) {
        if from == order.len() {
            return visit(order);
        }
        for other in from..order.len() {
            order.swap(from, other);
            permute(order, from + 1, visit);
            order.swap(from, other);
        }
    }
}
