//! Credits: a pure function of the set of ledger events and of the charter.
//!
//! [`Ledger::insert`] takes changes in any order and any portions. An event is
//! judged once everything that it rests on has been: the change before it in
//! its own feed, what it names, and the charter heads it cites; until then it,
//! and with it the rest of its feed, waits. Because what it may commit depends
//! on nothing else, no later arrival changes the answer, except a fork of a
//! device, a fence, a bar or a verdict; then everything is judged again.
//!
//! The contract is `docs/design/ledger.md`. The charter is only seen through
//! [`LedgerCharter`]. A fault here means that an event counts for nothing,
//! never that it is refused entry.
//!
//! Never here: who may be trusted with how much, and what an author should do
//! next; nothing is written, only judged.

mod books;
mod charter;
mod fault;
mod fork;
mod graph;
mod income;
mod judge;
mod pass;
mod query;
mod voucher;

use std::collections::{BTreeMap, BTreeSet};

pub use books::{Bounty, BountyState, Lock, LockState, Offer};
pub use charter::{Bar, FormerDevice, LedgerCharter, Member, Place, Verdict};
pub use fault::{LedgerFault, Standing};
pub use graph::Posted;
pub use voucher::Voucher;

use crate::event::LedgerEvent;
use crate::feed::Stream;
use crate::id::{ChangeHash, CommunityId, DeviceId};
use books::Books;
use fork::Assumed;
use graph::Graph;

/// All accounts, locks, offers and bounties of a community.
#[derive(Clone, Debug)]
pub struct Ledger {
    community: CommunityId,
    graph: Graph,
    books: Books,
    assumed: Assumed,
    waiting: Waiting,
}

/// Changes that wait, by what they wait for: each for one thing at a time. Of
/// the changes of one line only the first can be here.
#[derive(Clone, Debug, Default)]
struct Waiting {
    /// For a change of the ledger.
    ledger: BTreeMap<ChangeHash, BTreeSet<ChangeHash>>,
    /// For more of the charter.
    charter: BTreeSet<ChangeHash>,
}

impl Ledger {
    /// The ledger of a community before its first event.
    pub fn new(community: CommunityId) -> Self {
        Self {
            community,
            graph: Graph::default(),
            books: Books::new(Vec::new()),
            assumed: Assumed::default(),
            waiting: Waiting::default(),
        }
    }

    /// Takes changes in and judges what can be judged. Those of other
    /// communities or streams, and those known already, are passed over.
    ///
    /// The charter must be the one of the last [`recompute`](Self::recompute),
    /// or one that has only grown since, in ways that recompute does not name.
    pub fn insert(&mut self, events: impl IntoIterator<Item = Posted>, charter: &dyn LedgerCharter) {
        let mut ready = Vec::new();
        let mut stale = false;
        for posted in events {
            if posted.feed.community != self.community || posted.feed.stream != Stream::Ledger {
                continue;
            }
            let (id, device) = (posted.id, posted.feed.device);
            let is_lock = matches!(posted.event.as_deref(), Some(LedgerEvent::Locked { .. }));
            let void = charter.is_beyond_fence(&posted.feed, posted.seq, &id);
            if !self.graph.insert(posted, void) {
                continue;
            }
            ready.push(id);
            // A lock that was judged before it came.
            stale |= is_lock && charter.verdicts().iter().any(|verdict| verdict.lock == id);
            if !stale
                && !self.follows_a_fork(&id, &device)
                && let Some(other) = self.graph.parts_from(&id)
            {
                stale = self.graph.is_judged_on_line(&other);
                // If it waited, it does so no longer: it is part of a fork.
                ready.push(other);
            }
        }
        if !stale {
            self.pump(ready, charter);
            stale = std::mem::take(&mut self.books.unsettled)
                && Assumed::outcome(&self.graph, &self.books) != self.assumed;
        }
        if stale {
            self.judge_again(charter);
        }
    }

    /// Judges what waited for the charter, after it has grown.
    pub fn resume(&mut self, charter: &dyn LedgerCharter) {
        let ready = std::mem::take(&mut self.waiting.charter).into_iter().collect();
        self.pump(ready, charter);
        if std::mem::take(&mut self.books.unsettled)
            && Assumed::outcome(&self.graph, &self.books) != self.assumed
        {
            self.judge_again(charter);
        }
    }

    /// Judges everything again: needed whenever a fence, a proof of a ledger's
    /// fork or a verdict came, or one stands no longer. Signatures are not verified again.
    pub fn recompute(&mut self, charter: &dyn LedgerCharter) {
        self.graph.fence(&self.community, charter);
        self.judge_again(charter);
    }

    /// Of the verdicts about each lock the first that names its parties, and
    /// whose opener knew the charter that the lock cites: nobody picks an era
    /// with other jurors by citing old heads.
    fn fitting_verdicts(&self, charter: &dyn LedgerCharter) -> Vec<Verdict> {
        let mut fitting: BTreeMap<ChangeHash, Verdict> = BTreeMap::new();
        for verdict in charter.verdicts() {
            let Some(node) = self.graph.get(&verdict.lock) else { continue };
            let Some(LedgerEvent::Locked { payee, .. }) = node.event.as_deref() else { continue };
            let is_between = charter.person_of(&node.device) == Some(verdict.payer)
                && charter.person_of(payee) == Some(verdict.payee);
            let is_informed = node.heads.iter().all(|head| charter.in_past(head, &[verdict.dispute]));
            if is_between && is_informed {
                fitting.entry(verdict.lock).or_insert(verdict);
            }
        }
        fitting.into_values().collect()
    }

    /// Passes over all events until the outcome is what the pass assumed. See
    /// [`fork`] for why there are few.
    fn judge_again(&mut self, charter: &dyn LedgerCharter) {
        let mut left = usize::MAX;
        while left > 0 {
            self.graph.reset();
            self.books = Books::new(self.fitting_verdicts(charter));
            self.waiting = Waiting::default();
            let ready = self.graph.void().chain(self.graph.roots()).collect();
            self.pump(ready, charter);
            self.books.unsettled = false;
            let outcome = Assumed::outcome(&self.graph, &self.books);
            if outcome == self.assumed {
                return;
            }
            self.assumed = outcome;
            let barred = self.books.devices.values().filter(|book| book.is_barred()).count();
            left = left.min(barred + 3) - 1;
        }
        debug_assert!(false, "what stands beyond forks does not settle");
    }

    /// Whether a change follows one that is at or beyond a known fork. Its own
    /// place does not say: the first of a segment may stand beside a change of
    /// the segment before.
    fn follows_a_fork(&self, id: &ChangeHash, device: &DeviceId) -> bool {
        let fork = self.books.devices.get(device).and_then(|book| book.fork.as_ref());
        let parent = self.graph.get(id).and_then(|node| self.graph.get(&node.previous));
        let (Some(fork), Some(parent)) = (fork.and_then(|fork| fork.place), parent) else { return false };
        fork <= parent.place
    }
}
