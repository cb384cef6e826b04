//! One round: who sits, who found what, and when it is over.
//!
//! A round keeps facts and derives everything else from them, seen through
//! what an author knew or through all there is. More facts never reopen a
//! round that is over, and a better place in the draw always beats a worse
//! one, so writing under old heads cannot push a juror's finding aside.

use minicbor::Encode;

use super::case::Step;
use super::draw::Bench;
use super::fault::DisputeFault;
use crate::amount::Amount;
use crate::event::dispute::Finding;
use crate::id::{ChangeHash, PersonId};

/// Most closings one round keeps. An owner needs two at most.
pub const CLOSINGS_MAX: usize = 8;

/// Which facts to look at: those an author knew, or all.
pub(super) type Known<'a> = &'a dyn Fn(ChangeHash) -> bool;
/// Whether a person may judge at the step being looked at.
pub(super) type Able<'a> = &'a dyn Fn(PersonId) -> bool;

/// Everything there is.
pub(super) const ALL: Known<'static> = &|_| true;

/// A juror's finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode)]
pub struct Vote {
    /// The change that carries it.
    #[n(0)]
    pub event: ChangeHash,
    /// Whose it is.
    #[n(1)]
    pub juror: PersonId,
    /// What was found.
    #[n(2)]
    pub finding: Finding,
}

/// A juror who does not judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode)]
struct Decline {
    #[n(0)]
    event: ChangeHash,
    #[n(1)]
    juror: PersonId,
}

/// What an owner's closing came to, by what its author knew.
#[derive(Clone, Debug, PartialEq, Eq, Encode)]
enum Effect {
    /// A quorum was there: these votes decide.
    #[n(0)]
    Decides(#[n(0)] Vec<ChangeHash>),
    /// These jurors were silent: others sit.
    #[n(1)]
    Excuses(#[n(0)] Vec<PersonId>),
    /// No quorum was there, and none was to come.
    #[n(2)]
    GivesUp,
}

#[derive(Clone, Debug, PartialEq, Eq, Encode)]
struct Closing {
    #[n(0)]
    event: ChangeHash,
    #[n(1)]
    effect: Effect,
}

/// How a round ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// With this refund; zero where it was dismissed.
    Decided(Amount),
    /// Without a quorum.
    GivenUp,
}

/// The facts of one round.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode)]
pub struct Round {
    #[n(0)]
    votes: Vec<Vote>,
    #[n(1)]
    declines: Vec<Decline>,
    #[n(2)]
    closings: Vec<Closing>,
}

impl Round {
    /// The votes that were taken, in the order.
    pub fn votes(&self) -> &[Vote] {
        &self.votes
    }

    fn vote_of(&self, juror: PersonId, known: Known<'_>) -> bool {
        self.votes.iter().any(|vote| vote.juror == juror && known(vote.event))
    }

    fn stepped_down(&self, juror: PersonId, known: Known<'_>) -> bool {
        let declined = self.declines.iter().any(|decline| decline.juror == juror && known(decline.event));
        let excused = |closing: &Closing| match &closing.effect {
            Effect::Excuses(people) => people.contains(&juror) && known(closing.event),
            Effect::Decides(_) | Effect::GivesUp => false,
        };
        declined || self.closings.iter().any(excused)
    }

    /// Who sits: down the bench, whoever voted, or may and neither declined
    /// nor was excused.
    pub(super) fn seated(&self, bench: &Bench, known: Known<'_>, able: Able<'_>) -> Vec<PersonId> {
        let sits = |person: &PersonId| {
            self.vote_of(*person, known) || (!self.stepped_down(*person, known) && able(*person))
        };
        bench.people.iter().copied().filter(sits).take(usize::from(bench.seats)).collect()
    }

    /// The known votes that fill the seats, best place in the draw first.
    fn counted(&self, bench: &Bench, known: Known<'_>) -> Vec<Vote> {
        let mut votes: Vec<_> = self.votes.iter().copied().filter(|vote| known(vote.event)).collect();
        votes.sort_by_key(|vote| bench.place(&vote.juror));
        votes.truncate(usize::from(bench.seats));
        votes
    }

    /// How the round stands. The jury's own end goes before any closing;
    /// several closings count as one that knew the votes of all.
    pub(super) fn outcome(&self, bench: &Bench, known: Known<'_>) -> Option<Outcome> {
        let votes = self.counted(bench, known);
        let agree = |finding: Finding| votes.iter().filter(|vote| vote.finding == finding).count();
        let agreed = votes.iter().any(|vote| agree(vote.finding) >= bench.quorum());
        if !votes.is_empty() && (votes.len() == usize::from(bench.seats) || agreed) {
            return Some(Outcome::Decided(lower_median(&votes)));
        }
        let closings = || self.closings.iter().filter(|closing| known(closing.event));
        let closed_with = |vote: ChangeHash| {
            closings()
                .any(|closing| matches!(&closing.effect, Effect::Decides(votes) if votes.contains(&vote)))
        };
        let votes = self.counted(bench, &closed_with);
        if !votes.is_empty() {
            return Some(Outcome::Decided(lower_median(&votes)));
        }
        closings().any(|closing| closing.effect == Effect::GivesUp).then_some(Outcome::GivenUp)
    }

    /// Takes a juror's finding.
    pub(super) fn vote(
        &mut self,
        bench: &Bench,
        vote: Vote,
        known: Known<'_>,
        able: Able<'_>,
    ) -> Result<(), DisputeFault> {
        if bench.place(&vote.juror).is_none() {
            return Err(DisputeFault::NotOnBench);
        }
        if self.vote_of(vote.juror, ALL) {
            return Err(DisputeFault::AlreadyVoted);
        }
        if self.outcome(bench, known).is_some() {
            return Err(DisputeFault::RoundOver);
        }
        if !self.seated(bench, known, able).contains(&vote.juror) {
            return Err(DisputeFault::NotSeated);
        }
        self.votes.push(vote);
        Ok(())
    }

    /// Lets a juror go. Where vote and decline did not know each other, both
    /// are kept, and the vote counts.
    pub(super) fn decline(
        &mut self,
        bench: &Bench,
        event: ChangeHash,
        juror: PersonId,
        known: Known<'_>,
    ) -> Result<(), DisputeFault> {
        if self.vote_of(juror, known) {
            return Err(DisputeFault::AlreadyVoted);
        }
        if self.declines.iter().any(|decline| decline.juror == juror) {
            return Err(DisputeFault::AlreadyDeclined);
        }
        if self.outcome(bench, known).is_some() {
            return Err(DisputeFault::RoundOver);
        }
        self.declines.push(Decline { event, juror });
        Ok(())
    }

    /// An owner's closing. A quorum of votes ends the round. Without one, the
    /// silent are excused, once; where that was done, or nobody is left to
    /// make a quorum, the round is given up.
    pub(super) fn close(
        &mut self,
        bench: &Bench,
        event: ChangeHash,
        round: u8,
        known: Known<'_>,
        able: Able<'_>,
    ) -> Result<Step, DisputeFault> {
        if self.outcome(bench, known).is_some() {
            return Err(DisputeFault::RoundOver);
        }
        if self.closings.len() >= CLOSINGS_MAX {
            return Err(DisputeFault::TooManySteps);
        }
        let effect = self.effect(bench, known, able);
        let step = match effect {
            Effect::Decides(_) => Step::Closed { round },
            Effect::Excuses(_) => Step::Excused { round },
            Effect::GivesUp => Step::GivenUp { round },
        };
        self.closings.push(Closing { event, effect });
        Ok(step)
    }

    fn effect(&self, bench: &Bench, known: Known<'_>, able: Able<'_>) -> Effect {
        let votes = self.counted(bench, known);
        if !votes.is_empty() && votes.len() >= bench.quorum() {
            return Effect::Decides(votes.iter().map(|vote| vote.event).collect());
        }
        if self.closings.iter().any(|closing| known(closing.event)) {
            return Effect::GivesUp;
        }
        let mut silent = self.seated(bench, known, able);
        silent.retain(|person| !self.vote_of(*person, known));
        let to_come = |person: &&PersonId| {
            !silent.contains(person)
                && !self.vote_of(**person, known)
                && !self.stepped_down(**person, known)
                && able(**person)
        };
        let reachable = votes.len() + bench.people.iter().filter(to_come).count();
        if reachable < bench.quorum() { Effect::GivesUp } else { Effect::Excuses(silent) }
    }
}

/// The middle of the findings, the lower one of two; a dismissal is zero. It
/// is what a majority found, where there is one, and nobody can move it past
/// what a neighbour found by exaggerating.
fn lower_median(votes: &[Vote]) -> Amount {
    let mut refunds: Vec<_> = votes
        .iter()
        .map(|vote| match vote.finding {
            Finding::Dismiss => Amount::ZERO,
            Finding::Refund(amount) => amount,
        })
        .collect();
    refunds.sort_unstable();
    refunds.get(refunds.len().saturating_sub(1) / 2).copied().unwrap_or(Amount::ZERO)
}
