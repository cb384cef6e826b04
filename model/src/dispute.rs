//! Disputes: a payer asks credit back, and drawn people decide.
//!
//! A part of the charter's reduction. The charter judges which events count
//! and feeds them in its order; [`Disputes`] adds each to the facts of its
//! dispute and derives the [`Verdict`], which the ledger executes. The rules
//! are in `docs/design/disputes.md`.
//!
//! The order extends what authors knew, but two acts that did not know each
//! other come in an order that nobody intended and that a writer under old
//! heads can choose. So what an act means is judged by what its author
//! *knew*, never by what happens to lie before it.
//!
//! Never here: who paid whom (the ledger compares), evidence in the clear, a
//! clock.

mod case;
mod draw;
mod fault;
mod round;

use std::collections::BTreeMap;

use minicbor::Encode;

use crate::amount::Amount;
use crate::charter::role::{Permission, Role};
use crate::codec;
use crate::event::charter::NOTE_BYTES_MAX;
use crate::event::dispute::DisputeEvent;
use crate::id::{ChangeHash, PersonId};
use crate::text::is_clean_message;

pub use case::{
    Claim, DRAWS_MAX, Dispute, Draw, EVIDENCE_PER_PARTY_MAX, HALVES_MAX, Status, Step, TrailEntry,
};
pub use draw::{BENCH_MAX, Bench, BenchKind, JURORS, ROUNDS, commitment, rank, seed};
pub use fault::DisputeFault;
pub use round::{CLOSINGS_MAX, Round, Vote};

/// Most disputes a community ever has. They are never forgotten: a place that
/// became free again could be used to open the same dispute twice.
pub const DISPUTES_MAX: usize = 4_096;
/// Most disputes a person ever opens, so that no one takes all the places.
pub const DISPUTES_PER_OPENER_MAX: usize = 64;

/// What a dispute asks of the charter. Everything is "at" the event that is
/// being applied, unless it names another.
pub trait DisputeContext {
    /// The person's role; `None` for who is no member.
    fn role(&self, person: PersonId) -> Option<Role>;
    /// Whether `event` is in the past of the event being applied.
    fn knew(&self, event: ChangeHash) -> bool;
    /// Everyone who may judge at `event`, which is in the past; asked once for
    /// a draw.
    fn jurors_at(&self, event: ChangeHash) -> Vec<PersonId>;
    /// The owners at `event`, which is in the past; asked once for a draw.
    fn owners_at(&self, event: ChangeHash) -> Vec<PersonId>;
}

/// What came of a dispute. It takes effect at once; the verdict of an appeal
/// replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode)]
pub struct Verdict {
    /// The dispute.
    #[n(0)]
    pub dispute: ChangeHash,
    /// The lock it is about.
    #[n(1)]
    pub lock: ChangeHash,
    /// Who says that they paid. Worth nothing unless the lock says so too.
    #[n(2)]
    pub payer: PersonId,
    /// Who is said to have been paid. Likewise.
    #[n(3)]
    pub payee: PersonId,
    /// What goes back: zero where it was dismissed, at most the claim.
    #[n(4)]
    pub refund: Amount,
    /// The round that decided.
    #[n(5)]
    pub round: u8,
    /// The change with which it came to this.
    #[n(6)]
    pub decided_by: ChangeHash,
}

/// All disputes of a community.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disputes {
    by_id: BTreeMap<ChangeHash, Dispute>,
    /// The one dispute of each opener about each lock.
    by_opener: BTreeMap<(PersonId, ChangeHash), ChangeHash>,
}

impl Disputes {
    /// Takes the next counting event of the charter's order.
    ///
    /// # Errors
    /// [`DisputeFault`]: the event counts for nothing and changed nothing.
    pub fn apply(
        &mut self,
        id: ChangeHash,
        author: PersonId,
        event: &DisputeEvent,
        context: &dyn DisputeContext,
    ) -> Result<(), DisputeFault> {
        if !context.role(author).is_some_and(|role| role.may(Permission::ReadGovernance)) {
            return Err(DisputeFault::NotAllowed);
        }
        let act = case::Act { event: id, author, context };
        match event {
            DisputeEvent::Opened { lock, payee, claim, summary, commitment } => {
                let (summary, commitment) = (summary.clone(), *commitment);
                let claim =
                    Claim { lock: *lock, opener: author, payee: *payee, amount: *claim, summary, commitment };
                self.open(id, claim, context)
            }
            DisputeEvent::Seeded { dispute, half } => self.open_to(dispute, &act)?.seeded(&act, *half),
            DisputeEvent::Drawn { dispute, half } => self.open_to(dispute, &act)?.drawn(&act, *half),
            DisputeEvent::EvidenceAdded { dispute, .. } => self.open_to(dispute, &act)?.evidence(&act),
            DisputeEvent::JurorDeclined { dispute } => self.open_to(dispute, &act)?.declined(&act),
            DisputeEvent::Voted { dispute, round, finding } => {
                self.open_to(dispute, &act)?.voted(&act, *round, *finding)
            }
            DisputeEvent::RoundClosed { dispute, round } => self.open_to(dispute, &act)?.closed(&act, *round),
            DisputeEvent::Appealed { dispute } => self.open_to(dispute, &act)?.appealed(&act),
            DisputeEvent::Withdrawn { dispute } => self.open_to(dispute, &act)?.withdrawn(&act),
        }
    }

    fn open(
        &mut self,
        id: ChangeHash,
        claim: Claim,
        context: &dyn DisputeContext,
    ) -> Result<(), DisputeFault> {
        if claim.opener == claim.payee {
            return Err(DisputeFault::OwnPayee);
        }
        if claim.amount <= Amount::ZERO || claim.amount > Amount::LOCK_MAX {
            return Err(DisputeFault::Claim);
        }
        if claim.summary.len() > NOTE_BYTES_MAX || !is_clean_message(&claim.summary) {
            return Err(DisputeFault::Summary);
        }
        // Before the bounds: else a full house would hide a second opening.
        if let Some(first) = self.by_opener.get(&(claim.opener, claim.lock)) {
            if !context.knew(*first)
                && let Some(dispute) = self.by_id.get_mut(first)
            {
                dispute.forfeit(id, claim.opener);
                return Ok(());
            }
            return Err(DisputeFault::AlreadyOpened);
        }
        let of_opener = (claim.opener, ChangeHash::from_bytes([0; 32]))
            ..=(claim.opener, ChangeHash::from_bytes([u8::MAX; 32]));
        if self.by_opener.range(of_opener).count() >= DISPUTES_PER_OPENER_MAX {
            return Err(DisputeFault::TooManyOfOpener);
        }
        if self.by_id.len() >= DISPUTES_MAX {
            return Err(DisputeFault::TooMany);
        }
        self.by_opener.insert((claim.opener, claim.lock), id);
        self.by_id.insert(id, Dispute::open(id, claim));
        Ok(())
    }

    /// The dispute that a step names, if it is open to the step.
    fn open_to(&mut self, dispute: &ChangeHash, act: &case::Act<'_>) -> Result<&mut Dispute, DisputeFault> {
        let dispute = self.by_id.get_mut(dispute).ok_or(DisputeFault::Unknown)?;
        dispute.check(act)?;
        Ok(dispute)
    }

    /// One dispute.
    pub fn get(&self, dispute: &ChangeHash) -> Option<&Dispute> {
        self.by_id.get(dispute)
    }

    /// All disputes, by id.
    pub fn iter(&self) -> impl Iterator<Item = &Dispute> {
        self.by_id.values()
    }

    /// All verdicts as they stand, by dispute. Of the disputes about a lock,
    /// the one whose payer and payee are the lock's is worth something.
    pub fn verdicts(&self) -> impl Iterator<Item = Verdict> + '_ {
        self.by_id.values().filter_map(Dispute::verdict)
    }

    /// The canonical form, for the hash of the community's state.
    pub fn encode_state(&self) -> Vec<u8> {
        codec::encode(&self.by_id)
    }
}
