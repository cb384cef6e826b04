//! How much of all threads is kept: the newest turns.
//!
//! In the order of stamps, the turns kept are the longest run up to the newest
//! that stays within [`TURNS_MAX`] and [`TURN_BYTES_TOTAL_MAX`]. Turns of deleted
//! threads count on, with nothing but their stamp and size; otherwise it would
//! depend on the order of arrival what their deletion made room for.

use std::collections::BTreeMap;

use crate::id::{ChangeHash, ThreadId};
use crate::register::Stamp;

/// Most turns of all threads.
pub const TURNS_MAX: usize = 1 << 18;
/// Most bytes of all turns: more than a person reads in a lifetime.
pub const TURN_BYTES_TOTAL_MAX: u64 = 1 << 30;

#[derive(Clone, Debug)]
pub(super) struct Window {
    turns_max: usize,
    bytes_max: u64,
    turns: BTreeMap<Stamp, (ThreadId, u32)>,
    bytes: u64,
    /// The newest turn that was left out; everything up to it is.
    below: Option<Stamp>,
}

/// A turn that is left out from now on.
pub(super) type LeftOut = (ThreadId, ChangeHash);

impl Window {
    /// No turns yet.
    pub(super) const fn new(turns_max: usize, bytes_max: u64) -> Self {
        Self { turns_max, bytes_max, turns: BTreeMap::new(), bytes: 0, below: None }
    }

    /// Notes a turn; whether it is new and kept. Those it pushes out go to
    /// `left_out`.
    pub(super) fn insert(
        &mut self,
        stamp: Stamp,
        thread: ThreadId,
        bytes: u32,
        left_out: &mut Vec<LeftOut>,
    ) -> bool {
        if self.below.is_some_and(|below| stamp <= below) || self.turns.contains_key(&stamp) {
            return false;
        }
        self.turns.insert(stamp, (thread, bytes));
        self.bytes += u64::from(bytes);
        while self.turns.len() > self.turns_max || self.bytes > self.bytes_max {
            let Some((oldest, (thread, bytes))) = self.turns.pop_first() else { break };
            self.bytes -= u64::from(bytes);
            self.below = Some(oldest);
            left_out.push((thread, oldest.id));
        }
        self.turns.contains_key(&stamp)
    }

    pub(super) const fn below(&self) -> Option<Stamp> {
        self.below
    }

    /// Leaves out everything up to a stamp; for a window with no turns yet.
    pub(super) const fn start_above(&mut self, below: Option<Stamp>) {
        self.below = below;
    }

    /// All turns, by stamp.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (Stamp, ThreadId, u32)> {
        self.turns.iter().map(|(stamp, (thread, bytes))| (*stamp, *thread, *bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The longest run up to the newest that fits, by adding from the newest.
    fn expected(turns: &[(u64, u32)]) -> Vec<u64> {
        let mut newest_first = turns.to_vec();
        newest_first.sort_unstable_by(|a, b| b.cmp(a));
        let mut bytes = 0;
        let kept = newest_first.iter().take(4).take_while(|(_, size)| {
            bytes += u64::from(*size);
            bytes <= 100
        });
        let mut kept: Vec<u64> = kept.map(|(lamport, _)| *lamport).collect();
        kept.reverse();
        kept
    }

    #[test]
    fn the_newest_run_stays_in_every_order() {
        let turns = [(1, 10), (2, 60), (3, 5), (4, 50), (5, 0), (6, 30), (7, 101), (8, 20), (9, 20)];
        for len in 1..=turns.len() {
            let turns = &turns[..len];
            for start in 0..len {
                for stride in (1..len).filter(|stride| len % stride != 0 || *stride == 1) {
                    let mut window = Window::new(4, 100);
                    let mut left_out = Vec::new();
                    // Twice round, so that everything comes again.
                    for at in (0..2 * len).map(|n| (start + n * stride) % len).chain(0..len) {
                        let (lamport, bytes) = turns[at];
                        let stamp = Stamp { lamport, id: ChangeHash::from_bytes([0; 32]) };
                        window.insert(stamp, ThreadId::from_bytes([0; 16]), bytes, &mut left_out);
                    }
                    let kept: Vec<u64> = window.iter().map(|(stamp, ..)| stamp.lamport).collect();
                    assert_eq!(kept, expected(turns), "{len} turns from {start} by {stride}");
                    let below = turns.iter().map(|(lamport, _)| *lamport).filter(|n| !kept.contains(n)).max();
                    assert_eq!(window.below().map(|stamp| stamp.lamport), below);
                }
            }
        }
    }
}
