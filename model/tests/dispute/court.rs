//! A community that disputes: roles, events with the pasts that tests give
//! them, and short names for the steps.

use std::collections::{BTreeMap, BTreeSet};

use exo_model::amount::Amount;
use exo_model::charter::role::{Permission, Role};
use exo_model::dispute::{Dispute, DisputeContext, DisputeFault, Disputes, Verdict, commitment};
use exo_model::event::dispute::{DisputeEvent, Finding};
use exo_model::sealing::SealedFor;
use exo_model::{ChangeHash, PersonId};

pub(crate) use crate::seeded::person;

pub(crate) const OPENER: PersonId = person(1);
pub(crate) const PAYEE: PersonId = person(2);
pub(crate) const OWNER: PersonId = person(3);
pub(crate) const CLAIM: i64 = 100;
pub(crate) const OPENER_HALF: [u8; 32] = [0xaa; 32];
pub(crate) const OTHER_HALF: [u8; 32] = [0xbb; 32];

pub(crate) fn change(n: u64) -> ChangeHash {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    ChangeHash::from_bytes(bytes)
}

pub(crate) const LOCK: ChangeHash = ChangeHash::from_bytes([0x10; 32]);

pub(crate) fn refund(amount: i64) -> Finding {
    match amount {
        0 => Finding::Dismiss,
        _ => Finding::Refund(Amount::from_token_mib(amount)),
    }
}

type Roles = BTreeMap<PersonId, Role>;

fn with_role(roles: &Roles, allowed: impl Fn(Role) -> bool) -> Vec<PersonId> {
    roles.iter().filter(|(_, role)| allowed(**role)).map(|(person, _)| *person).collect()
}

struct At<'a> {
    roles: &'a Roles,
    roles_at: &'a BTreeMap<ChangeHash, Roles>,
    past: &'a BTreeSet<ChangeHash>,
}

impl DisputeContext for At<'_> {
    fn role(&self, person: PersonId) -> Option<Role> {
        self.roles.get(&person).copied()
    }

    fn knew(&self, event: ChangeHash) -> bool {
        self.past.contains(&event)
    }

    fn jurors_at(&self, event: ChangeHash) -> Vec<PersonId> {
        assert!(self.past.contains(&event), "asked about what is not in the past");
        with_role(&self.roles_at[&event], |role| role.may(Permission::Judge))
    }

    fn owners_at(&self, event: ChangeHash) -> Vec<PersonId> {
        assert!(self.past.contains(&event), "asked about what is not in the past");
        with_role(&self.roles_at[&event], |role| role == Role::Owner)
    }
}

/// One community and its disputes.
#[derive(Clone)]
pub(crate) struct Court {
    pub(crate) disputes: Disputes,
    pub(crate) roles: Roles,
    roles_at: BTreeMap<ChangeHash, Roles>,
    /// Everything that counted.
    pub(crate) known: BTreeSet<ChangeHash>,
    minted: u64,
}

impl Court {
    /// Opener, payee, one owner, and this many members more, from person 10.
    pub(crate) fn new(members: u8) -> Self {
        let mut roles: Roles = [(OPENER, Role::Member), (PAYEE, Role::Member), (OWNER, Role::Owner)].into();
        roles.extend((10..10 + members).map(|n| (person(n), Role::Member)));
        let (disputes, roles_at, known) = Default::default();
        Self { disputes, roles, roles_at, known, minted: 0 }
    }

    /// A court with a dispute whose jurors are drawn.
    pub(crate) fn drawn(members: u8) -> (Self, ChangeHash) {
        let mut court = Self::new(members);
        let id = court.open().expect("it opens");
        court.step(PAYEE, seeded(id, OTHER_HALF)).expect("the payee gives a half");
        court.step(OPENER, drawn(id)).expect("the opener draws");
        (court, id)
    }

    pub(crate) fn open(&mut self) -> Result<ChangeHash, DisputeFault> {
        self.step(OPENER, opened(LOCK))
    }

    /// A step by someone who knows everything.
    pub(crate) fn step(&mut self, author: PersonId, event: DisputeEvent) -> Result<ChangeHash, DisputeFault> {
        let past = self.known.clone();
        self.step_knowing(author, event, &past)
    }

    /// A step by someone who knows this and nothing else.
    pub(crate) fn step_knowing(
        &mut self,
        author: PersonId,
        event: DisputeEvent,
        past: &BTreeSet<ChangeHash>,
    ) -> Result<ChangeHash, DisputeFault> {
        self.minted += 1;
        let id = change(self.minted);
        self.apply(id, author, &event, past).map(|()| id)
    }

    /// Applies, and holds every fault to its word: nothing changed.
    pub(crate) fn apply(
        &mut self,
        id: ChangeHash,
        author: PersonId,
        event: &DisputeEvent,
        past: &BTreeSet<ChangeHash>,
    ) -> Result<(), DisputeFault> {
        self.roles_at.insert(id, self.roles.clone());
        let before = self.disputes.clone();
        let context = At { roles: &self.roles, roles_at: &self.roles_at, past };
        let result = self.disputes.apply(id, author, event, &context);
        match result {
            Ok(()) => _ = self.known.insert(id),
            Err(_) => assert_eq!(before, self.disputes, "a fault changed something"),
        }
        result
    }

    /// A step without the court's own check, which is slow in a full house.
    pub(crate) fn light_step(
        &mut self,
        author: PersonId,
        event: DisputeEvent,
        past: &BTreeSet<ChangeHash>,
    ) -> Result<(), DisputeFault> {
        self.minted += 1;
        let context = At { roles: &self.roles, roles_at: &self.roles_at, past };
        self.disputes.apply(change(self.minted), author, &event, &context)
    }

    pub(crate) fn get(&self, id: ChangeHash) -> &Dispute {
        self.disputes.get(&id).expect("it was opened")
    }

    pub(crate) fn seated(&self, id: ChangeHash, round: u8) -> Vec<PersonId> {
        let may = |person| self.roles.get(&person).is_some_and(|role| role.may(Permission::Judge));
        self.get(id).seated(round, &may)
    }

    pub(crate) fn bench(&self, id: ChangeHash, round: usize) -> Vec<PersonId> {
        self.get(id).draw().expect("it is drawn").benches[round].people.clone()
    }

    pub(crate) fn vote(
        &mut self,
        id: ChangeHash,
        juror: PersonId,
        amount: i64,
    ) -> Result<ChangeHash, DisputeFault> {
        self.step(juror, voted(id, 0, amount))
    }

    pub(crate) fn verdict(&self, id: ChangeHash) -> Option<Verdict> {
        let verdict = self.get(id).verdict();
        assert_eq!(verdict, self.disputes.verdicts().find(|verdict| verdict.dispute == id));
        verdict
    }

    /// What goes back, as it stands.
    pub(crate) fn refund(&self, id: ChangeHash) -> Option<i64> {
        self.verdict(id).map(|verdict| verdict.refund.token_mib())
    }
}

pub(crate) fn opened(lock: ChangeHash) -> DisputeEvent {
    opened_with(lock, OPENER, OPENER_HALF)
}

pub(crate) fn opened_with(lock: ChangeHash, opener: PersonId, half: [u8; 32]) -> DisputeEvent {
    DisputeEvent::Opened {
        lock,
        payee: PAYEE,
        claim: Amount::from_token_mib(CLAIM),
        summary: "half of it was noise".to_owned(),
        commitment: commitment(&lock, &opener, &half),
    }
}

pub(crate) fn seeded(dispute: ChangeHash, half: [u8; 32]) -> DisputeEvent {
    DisputeEvent::Seeded { dispute, half }
}

pub(crate) fn drawn(dispute: ChangeHash) -> DisputeEvent {
    DisputeEvent::Drawn { dispute, half: OPENER_HALF }
}

pub(crate) fn evidence(dispute: ChangeHash) -> DisputeEvent {
    DisputeEvent::EvidenceAdded { dispute, evidence: sealed() }
}

pub(crate) fn sealed() -> SealedFor {
    crate::samples::sealed_for()
}

pub(crate) fn declined(dispute: ChangeHash) -> DisputeEvent {
    DisputeEvent::JurorDeclined { dispute }
}

pub(crate) fn voted(dispute: ChangeHash, round: u8, amount: i64) -> DisputeEvent {
    DisputeEvent::Voted { dispute, round, finding: refund(amount) }
}

pub(crate) fn closed(dispute: ChangeHash, round: u8) -> DisputeEvent {
    DisputeEvent::RoundClosed { dispute, round }
}

pub(crate) fn appealed(dispute: ChangeHash) -> DisputeEvent {
    DisputeEvent::Appealed { dispute }
}

pub(crate) fn withdrawn(dispute: ChangeHash) -> DisputeEvent {
    DisputeEvent::Withdrawn { dispute }
}
