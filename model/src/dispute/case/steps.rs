//! The steps of a dispute: what each needs, and the fact it adds.

use super::{DRAWS_MAX, Dispute, Draw, EVIDENCE_PER_PARTY_MAX, HALVES_MAX, Half, Step, TrailEntry};
use crate::amount::Amount;
use crate::charter::role::{Permission, Role};
use crate::dispute::draw::{self, Bench, ROUNDS};
use crate::dispute::round::Vote;
use crate::dispute::{Claim, DisputeContext, DisputeFault};
use crate::event::dispute::Finding;
use crate::id::{ChangeHash, PersonId};

/// One step, as it is judged.
pub(in crate::dispute) struct Act<'a> {
    pub(in crate::dispute) event: ChangeHash,
    pub(in crate::dispute) author: PersonId,
    pub(in crate::dispute) context: &'a dyn DisputeContext,
}

impl Act<'_> {
    fn knew(&self, event: ChangeHash) -> bool {
        self.context.knew(event)
    }

    fn may_judge(&self, person: PersonId) -> bool {
        self.context.role(person).is_some_and(|role| role.may(Permission::Judge))
    }

    fn is_neutral_owner(&self, claim: &Claim) -> bool {
        !claim.parties().contains(&self.author) && self.context.role(self.author) == Some(Role::Owner)
    }
}

impl Dispute {
    /// What every step but the opening needs.
    pub(in crate::dispute) fn check(&self, act: &Act<'_>) -> Result<(), DisputeFault> {
        if !act.knew(self.id) {
            return Err(DisputeFault::Unknown);
        }
        if self.end.forfeited {
            return Err(DisputeFault::Forfeited);
        }
        if self.end.withdrawn.is_some_and(|event| act.knew(event)) {
            return Err(DisputeFault::Withdrawn);
        }
        Ok(())
    }

    /// The draw, where the author knew it.
    fn known_draw(&self, act: &Act<'_>) -> Result<&Draw, DisputeFault> {
        self.draw
            .as_ref()
            .filter(|draw| draw.events.iter().any(|event| act.knew(*event)))
            .ok_or(DisputeFault::NotDrawn)
    }

    fn knew_appeal(&self, act: &Act<'_>) -> bool {
        self.appeals.iter().any(|(event, _)| act.knew(*event))
    }

    /// Whether the author knew that a round was over.
    fn knew_over(&self, round: usize, act: &Act<'_>) -> bool {
        let bench = self.draw.as_ref().map(|draw| &draw.benches[round]);
        bench.is_some_and(|bench| self.rounds[round].outcome(bench, &|event| act.knew(event)).is_some())
    }

    /// Whether the author knew that nothing was left to judge.
    fn knew_all_over(&self, act: &Act<'_>) -> bool {
        self.knew_over(usize::from(self.knew_appeal(act)), act)
    }

    pub(in crate::dispute) fn seeded(&mut self, act: &Act<'_>, half: [u8; 32]) -> Result<(), DisputeFault> {
        let payee = self.claim.payee;
        if act.author != payee && !act.is_neutral_owner(&self.claim) {
            return Err(DisputeFault::NotNeutralOwner);
        }
        if self.known_draw(act).is_ok() {
            return Err(DisputeFault::AlreadyDrawn);
        }
        // An owner steps in for a silent payee only; the payee may come later
        // and goes before the owners.
        let of_payee = act.author == payee;
        let stands_before = |other: &Half| act.knew(other.event) && (!of_payee || other.author == payee);
        if self.halves.iter().any(stands_before) {
            return Err(DisputeFault::AlreadySeeded);
        }
        let of_side = self.halves.iter().filter(|other| (other.author == payee) == of_payee).count();
        if of_side >= HALVES_MAX {
            return Err(DisputeFault::TooManySteps);
        }
        self.halves.push(Half { event: act.event, author: act.author, half });
        self.record(act.event, act.author, Step::Seeded);
        Ok(())
    }

    pub(in crate::dispute) fn drawn(&mut self, act: &Act<'_>, half: [u8; 32]) -> Result<(), DisputeFault> {
        if act.author != self.claim.opener {
            return Err(DisputeFault::NotOpener);
        }
        if draw::commitment(&self.claim.lock, &act.author, &half) != self.claim.commitment {
            return Err(DisputeFault::Commitment);
        }
        if self.known_draw(act).is_ok() {
            return Err(DisputeFault::AlreadyDrawn);
        }
        // Only what the opener knew: a half that is slipped in under old heads
        // after the reveal changes nothing.
        let known = || self.halves.iter().filter(|other| act.knew(other.event));
        let other = known()
            .find(|other| other.author == self.claim.payee)
            .or_else(|| known().next())
            .ok_or(DisputeFault::NotSeeded)?
            .clone();
        match &mut self.draw {
            Some(draw) if draw.half != other.event => self.forfeit(act.event, act.author),
            Some(draw) if draw.events.len() >= DRAWS_MAX => return Err(DisputeFault::TooManySteps),
            Some(draw) => {
                draw.events.push(act.event);
                self.record(act.event, act.author, Step::Drawn);
            }
            None => {
                let seed = draw::seed(&self.id, &half, &other.half);
                let jurors = act.context.jurors_at(self.id);
                let owners = act.context.owners_at(self.id);
                let benches = draw::deal(&seed, jurors, owners, self.claim.parties());
                self.draw = Some(Draw { events: vec![act.event], half: other.event, seed, benches });
                self.record(act.event, act.author, Step::Drawn);
            }
        }
        Ok(())
    }

    pub(in crate::dispute) fn evidence(&mut self, act: &Act<'_>) -> Result<(), DisputeFault> {
        if !self.claim.parties().contains(&act.author) {
            return Err(DisputeFault::NotParty);
        }
        self.known_draw(act)?;
        if self.knew_all_over(act) {
            return Err(DisputeFault::RoundOver);
        }
        let shown = |entry: &&TrailEntry| entry.step == Step::EvidenceAdded && entry.author == act.author;
        if self.trail.iter().filter(shown).count() >= EVIDENCE_PER_PARTY_MAX {
            return Err(DisputeFault::TooManySteps);
        }
        self.record(act.event, act.author, Step::EvidenceAdded);
        Ok(())
    }

    pub(in crate::dispute) fn declined(&mut self, act: &Act<'_>) -> Result<(), DisputeFault> {
        let draw = self.known_draw(act)?;
        let round = (0..ROUNDS)
            .find(|round| draw.benches[*round].place(&act.author).is_some())
            .ok_or(DisputeFault::NotOnBench)?;
        let bench = draw.benches[round].clone();
        self.rounds[round].decline(&bench, act.event, act.author, &|event| act.knew(event))?;
        self.record(act.event, act.author, Step::Declined);
        Ok(())
    }

    /// The bench of a round that the author knew to have begun.
    fn known_bench(&self, round: u8, act: &Act<'_>) -> Result<(usize, Bench), DisputeFault> {
        let draw = self.known_draw(act)?;
        let index = usize::from(round);
        let bench = draw.benches.get(index).ok_or(DisputeFault::NoSuchRound)?;
        if index > 0 && !self.knew_appeal(act) {
            return Err(DisputeFault::NoSuchRound);
        }
        Ok((index, bench.clone()))
    }

    pub(in crate::dispute) fn voted(
        &mut self,
        act: &Act<'_>,
        round: u8,
        finding: Finding,
    ) -> Result<(), DisputeFault> {
        let (index, bench) = self.known_bench(round, act)?;
        if let Finding::Refund(amount) = finding
            && (amount <= Amount::ZERO || amount > self.claim.amount)
        {
            return Err(DisputeFault::Refund);
        }
        let vote = Vote { event: act.event, juror: act.author, finding };
        let able = |person| act.may_judge(person);
        self.rounds[index].vote(&bench, vote, &|event| act.knew(event), &able)?;
        self.record(act.event, act.author, Step::Voted { round, finding });
        Ok(())
    }

    pub(in crate::dispute) fn closed(&mut self, act: &Act<'_>, round: u8) -> Result<(), DisputeFault> {
        if !act.is_neutral_owner(&self.claim) {
            return Err(DisputeFault::NotNeutralOwner);
        }
        let (index, bench) = self.known_bench(round, act)?;
        let able = |person| act.may_judge(person);
        let step = self.rounds[index].close(&bench, act.event, round, &|event| act.knew(event), &able)?;
        self.record(act.event, act.author, step);
        Ok(())
    }

    pub(in crate::dispute) fn appealed(&mut self, act: &Act<'_>) -> Result<(), DisputeFault> {
        if !self.claim.parties().contains(&act.author) {
            return Err(DisputeFault::NotParty);
        }
        let draw = self.known_draw(act)?;
        if self.knew_appeal(act) || self.appeals.iter().any(|(_, party)| *party == act.author) {
            return Err(DisputeFault::AlreadyAppealed);
        }
        if draw.benches[1].people.is_empty() {
            return Err(DisputeFault::NoSecondBench);
        }
        if !self.knew_over(0, act) {
            return Err(DisputeFault::RoundNotOver);
        }
        self.appeals.push((act.event, act.author));
        self.record(act.event, act.author, Step::Appealed);
        Ok(())
    }

    /// Stops whatever knows of it. A jury that did not know decides all the
    /// same, so that a withdrawal written under old heads undoes no verdict.
    pub(in crate::dispute) fn withdrawn(&mut self, act: &Act<'_>) -> Result<(), DisputeFault> {
        if act.author != self.claim.opener {
            return Err(DisputeFault::NotOpener);
        }
        if self.knew_over(0, act) {
            return Err(DisputeFault::RoundOver);
        }
        if self.end.withdrawn.is_some() {
            return Err(DisputeFault::Withdrawn);
        }
        self.end.withdrawn = Some(act.event);
        self.record(act.event, act.author, Step::Withdrawn);
        Ok(())
    }
}
