//! Double spending: which locks stand beyond a proven fork.
//!
//! That depends on what all of them come to, which later events may change,
//! and what others counted rests on it. So each pass over the events
//! *assumes* an answer, and is repeated until it comes to what it assumed.
//! Amounts of locks do not depend on the assumption, and which lock of one
//! device stands depends only on locks before its fork: every pass gets at
//! least one device further, so their number is bounded by that of barred
//! devices.

use std::collections::{BTreeMap, BTreeSet};

use super::books::{Books, DeviceBook};
use super::graph::Graph;
use crate::amount::Amount;
use crate::event::LedgerEvent;
use crate::id::ChangeHash;

/// What a pass takes for granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Assumed {
    /// Locks beyond proven forks that stand.
    pub(super) stands: BTreeSet<ChangeHash>,
    /// What payees claimed of locks with a verdict.
    pub(super) claims: BTreeMap<ChangeHash, Amount>,
}

impl Assumed {
    /// What a pass came to.
    pub(super) fn outcome(graph: &Graph, books: &Books) -> Self {
        let mut outcome = Self::default();
        for book in books.devices.values() {
            outcome.stands.extend(salvaged(graph, books, book));
        }
        for id in books.verdicts.keys() {
            let claimed = books.locks.get(id).map_or(Amount::ZERO, |lock| lock.tally.claimed);
            if claimed > Amount::ZERO {
                outcome.claims.insert(*id, claimed);
            }
        }
        outcome
    }
}

/// The device's contested locks that stand: first those that the proof knows
/// as settled, then the others, by hash; each while it fits.
fn salvaged(graph: &Graph, books: &Books, book: &DeviceBook) -> BTreeSet<ChangeHash> {
    let mut stands = BTreeSet::new();
    let Some(fork) = book.fork.as_ref().filter(|fork| !fork.contested.is_empty()) else { return stands };
    let known: BTreeSet<ChangeHash> =
        fork.settled.iter().flatten().filter_map(|id| settlement_of(graph, id)).collect();
    let (first, then): (Vec<_>, Vec<_>) = fork.contested.iter().partition(|(id, _)| known.contains(*id));
    let mut used = 0;
    for (id, credit) in first.into_iter().chain(then) {
        let Some(lock) = books.locks.get(id) else { continue };
        let with = used + i128::from(lock.outcome().token_mib());
        if with <= credit + i128::from(book.total) {
            used = with;
            stands.insert(*id);
        }
    }
    stands
}

/// The lock that a counting settlement or close is of.
fn settlement_of(graph: &Graph, id: &ChangeHash) -> Option<ChangeHash> {
    match graph.get(id).filter(|node| node.counts())?.event.as_deref()? {
        LedgerEvent::Settled { lock, .. } | LedgerEvent::Closed { lock, .. } => Some(*lock),
        _ => None,
    }
}
