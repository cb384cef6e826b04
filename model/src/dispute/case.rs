//! One dispute: its facts, and how it stands. [`steps`] adds to the facts.

mod steps;

use minicbor::Encode;

use super::Verdict;
use super::draw::{Bench, BenchKind, ROUNDS};
use super::round::{ALL, Outcome, Round};
use crate::amount::Amount;
use crate::event::dispute::Finding;
use crate::id::{ChangeHash, PersonId};

pub(super) use steps::Act;

/// Most halves kept of the payee's devices, and most of owners. One is enough.
pub const HALVES_MAX: usize = 8;
/// Most draws kept of an opener who shows the half on several devices at once.
pub const DRAWS_MAX: usize = 4;
/// Most pieces of evidence a party shows. A new juror cannot read what was
/// sealed before, so there is room to seal it again.
pub const EVIDENCE_PER_PARTY_MAX: usize = 16;

/// What is disputed, as its opener put it.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Claim {
    /// The change that carries the lock.
    #[n(0)]
    pub lock: ChangeHash,
    /// Who says that they paid.
    #[n(1)]
    pub opener: PersonId,
    /// Who is said to have been paid.
    #[n(2)]
    pub payee: PersonId,
    /// How much is asked back.
    #[n(3)]
    pub amount: Amount,
    /// In a few words.
    #[n(4)]
    pub summary: String,
    /// What the opener's half must hash to.
    #[cbor(n(5), with = "minicbor::bytes")]
    pub commitment: [u8; 32],
}

impl Claim {
    /// Both sides.
    pub fn parties(&self) -> [PersonId; 2] {
        [self.opener, self.payee]
    }
}

/// The other half of the seed, as one person gave it.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
struct Half {
    #[n(0)]
    event: ChangeHash,
    #[n(1)]
    author: PersonId,
    #[cbor(n(2), with = "minicbor::bytes")]
    half: [u8; 32],
}

/// The draw.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Draw {
    /// The changes that made it; all came to the same.
    #[n(0)]
    pub events: Vec<ChangeHash>,
    /// The change that carries the other half.
    #[n(1)]
    pub half: ChangeHash,
    /// What ranks people.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub seed: [u8; 32],
    /// Who judges, by round.
    #[n(3)]
    pub benches: [Bench; ROUNDS],
}

/// An entry of the trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode)]
pub struct TrailEntry {
    /// The change.
    #[n(0)]
    pub event: ChangeHash,
    /// Who.
    #[n(1)]
    pub author: PersonId,
    /// What it came to.
    #[n(2)]
    pub step: Step,
}

/// What a counting event came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode)]
pub enum Step {
    /// It began.
    #[n(0)]
    Opened,
    /// Somebody gave the other half.
    #[n(1)]
    Seeded,
    /// The jurors were drawn.
    #[n(2)]
    Drawn,
    /// A party showed something.
    #[n(3)]
    EvidenceAdded,
    /// A juror declined.
    #[n(4)]
    Declined,
    /// A juror found something.
    #[n(5)]
    Voted {
        /// In which round.
        #[n(0)]
        round: u8,
        /// What.
        #[n(1)]
        finding: Finding,
    },
    /// An owner ended a round with the votes that were in.
    #[n(6)]
    Closed {
        /// Which.
        #[n(0)]
        round: u8,
    },
    /// An owner excused the silent.
    #[n(7)]
    Excused {
        /// In which round.
        #[n(0)]
        round: u8,
    },
    /// An owner gave a round up.
    #[n(8)]
    GivenUp {
        /// Which.
        #[n(0)]
        round: u8,
    },
    /// A party appealed.
    #[n(9)]
    Appealed,
    /// The opener let it rest.
    #[n(10)]
    Withdrawn,
    /// The opener opened or drew a second time without saying so.
    #[n(11)]
    Forfeited,
}

/// How a dispute stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// For the payee's half, or an owner's.
    WaitsForHalf,
    /// For the opener's half.
    WaitsForDraw,
    /// For the jurors of this round.
    Judging(u8),
    /// This round decided.
    Decided(u8),
    /// No round came to a quorum. The settlement stands.
    GivenUp,
    /// There is nobody who could judge. The settlement stands.
    Undecidable,
    /// The opener let it rest.
    Withdrawn,
    /// The opener opened or drew a second time.
    Forfeited,
}

/// One dispute.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
pub struct Dispute {
    /// The change that opened it.
    #[n(0)]
    pub id: ChangeHash,
    /// What it is about.
    #[n(1)]
    pub claim: Claim,
    #[n(2)]
    halves: Vec<Half>,
    #[n(3)]
    draw: Option<Draw>,
    #[n(4)]
    rounds: [Round; ROUNDS],
    #[n(5)]
    appeals: Vec<(ChangeHash, PersonId)>,
    #[n(6)]
    end: End,
    #[n(7)]
    trail: Vec<TrailEntry>,
}

/// What ends a dispute, or seems to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode)]
struct End {
    #[n(0)]
    withdrawn: Option<ChangeHash>,
    #[n(1)]
    forfeited: bool,
    #[n(2)]
    verdict: Option<Verdict>,
}

impl Dispute {
    pub(super) fn open(id: ChangeHash, claim: Claim) -> Self {
        let mut dispute = Self {
            id,
            halves: Vec::new(),
            draw: None,
            rounds: [Round::default(), Round::default()],
            appeals: Vec::new(),
            end: End::default(),
            trail: Vec::new(),
            claim,
        };
        dispute.trail.push(TrailEntry { event: id, author: dispute.claim.opener, step: Step::Opened });
        dispute
    }

    /// The draw, once it is made.
    pub fn draw(&self) -> Option<&Draw> {
        self.draw.as_ref()
    }

    /// The facts of a round.
    pub fn round(&self, round: u8) -> Option<&Round> {
        self.rounds.get(usize::from(round))
    }

    /// The verdict as it stands.
    pub fn verdict(&self) -> Option<Verdict> {
        self.end.verdict
    }

    /// All that counted, in the charter's order: the audit trail.
    pub fn history(&self) -> &[TrailEntry] {
        &self.trail
    }

    /// Who is to judge in a round now, given who may judge at all.
    pub fn seated(&self, round: u8, able: &dyn Fn(PersonId) -> bool) -> Vec<PersonId> {
        let round = usize::from(round);
        match (&self.draw, self.rounds.get(round)) {
            (Some(draw), Some(facts)) => facts.seated(&draw.benches[round], ALL, able),
            _ => Vec::new(),
        }
    }

    /// Whether owners judge the first round, as the community is too small.
    pub fn is_judged_by_owners(&self) -> bool {
        self.draw.as_ref().is_some_and(|draw| draw.benches[0].kind == BenchKind::Owners)
    }

    /// How it stands.
    pub fn status(&self) -> Status {
        if self.end.forfeited {
            return Status::Forfeited;
        }
        let appealed = !self.appeals.is_empty();
        match (self.outcome(0), self.outcome(1)) {
            (_, Some(Outcome::Decided(_))) if appealed => return Status::Decided(1),
            (Some(_), None) if appealed => return Status::Judging(1),
            (Some(Outcome::Decided(_)), _) => return Status::Decided(0),
            (Some(Outcome::GivenUp), _) => return Status::GivenUp,
            (None, _) => {}
        }
        match &self.draw {
            _ if self.end.withdrawn.is_some() => Status::Withdrawn,
            None if self.halves.is_empty() => Status::WaitsForHalf,
            None => Status::WaitsForDraw,
            Some(draw) if draw.benches[0].people.is_empty() => Status::Undecidable,
            Some(_) => Status::Judging(0),
        }
    }

    fn outcome(&self, round: usize) -> Option<Outcome> {
        let draw = self.draw.as_ref()?;
        self.rounds[round].outcome(&draw.benches[round], ALL)
    }

    /// The opener did something twice that is done once: whatever was to be
    /// gained by it is lost.
    pub(super) fn forfeit(&mut self, event: ChangeHash, author: PersonId) {
        if !self.end.forfeited {
            self.end.forfeited = true;
            self.record(event, author, Step::Forfeited);
        }
    }

    /// Adds to the trail, and sees whether the verdict is another one now.
    fn record(&mut self, event: ChangeHash, author: PersonId, step: Step) {
        self.trail.push(TrailEntry { event, author, step });
        let decided = |round: u8| match self.outcome(usize::from(round)) {
            Some(Outcome::Decided(refund)) => Some((round, refund)),
            Some(Outcome::GivenUp) | None => None,
        };
        let appeal = if self.appeals.is_empty() { None } else { decided(1) };
        let now = if self.end.forfeited { None } else { appeal.or_else(|| decided(0)) };
        let before = self.end.verdict.map(|verdict| (verdict.round, verdict.refund));
        if now == before {
            return;
        }
        self.end.verdict = now.map(|(round, refund)| Verdict {
            dispute: self.id,
            lock: self.claim.lock,
            payer: self.claim.opener,
            payee: self.claim.payee,
            refund,
            round,
            decided_by: event,
        });
    }
}
