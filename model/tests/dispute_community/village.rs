//! A community in which one works for another, they disagree, and the others
//! judge. Everything is written as members write it and read as they read it.

use exo_model::amount::Amount;
use exo_model::charter::{Permission, Role};
use exo_model::decide::{Intent, Refusal};
use exo_model::dispute::{Dispute, commitment};
use exo_model::event::CharterEvent;
use exo_model::event::dispute::{DisputeEvent, Finding};
use exo_model::event::ledger::Account;
use exo_model::ledger::Voucher;
use exo_model::{ChangeHash, CommunityState, JobId, PersonId};

use crate::home::{Home, Person, found, meet, meet_in_every_order};

/// Who began it; an owner, and never a party.
pub(crate) const FOUNDER: usize = 0;
/// Whose machine sets the credit aside.
pub(crate) const PAYER: usize = 1;
/// Whose machine does the work.
pub(crate) const PAYEE: usize = 2;
/// What is set aside for the job.
pub(crate) const MAX: i64 = 600;
/// The credit line of a friend.
pub(crate) const LINE: i64 = 100_000;

/// The two halves of the seed.
const OPENER_HALF: [u8; 32] = [0xaa; 32];
const OTHER_HALF: [u8; 32] = [0xbb; 32];

/// People, each with a home, in the order in which they came.
pub(crate) struct Village {
    pub(crate) people: Vec<Person>,
    pub(crate) homes: Vec<Home>,
}

impl Village {
    /// The founder and these: who pays, who is paid, and the rest.
    pub(crate) fn of<const N: usize>(others: [Role; N]) -> Self {
        let founder = Person::new(1);
        let homes = vec![found("person 1", &founder)];
        let mut village = Self { people: vec![founder], homes };
        for role in others {
            village.join(role);
        }
        village.meet();
        village
    }

    /// The founder lets another person in; nobody else knows yet.
    pub(crate) fn join(&mut self, role: Role) {
        let number = u8::try_from(self.people.len() + 1).expect("few");
        let (person, name) = (Person::new(number), format!("person {number}"));
        let ticket = self.homes[FOUNDER].invite(1);
        let home = self.homes[FOUNDER].admit(&name, &person, &ticket);
        if role > Role::Member {
            self.homes[FOUNDER].act(Intent::SetRole(person.id(), role));
        }
        self.people.push(person);
        self.homes.push(home);
    }

    pub(crate) fn id(&self, at: usize) -> PersonId {
        self.people[at].id()
    }

    fn place(&self, person: &PersonId) -> usize {
        self.people.iter().position(|other| other.id() == *person).expect("one of the village")
    }

    /// One tells another everything.
    pub(crate) fn tell(&mut self, from: usize, to: usize) {
        for run in self.homes[from].missing_at(&self.homes[to]) {
            self.homes[to].take(run).expect("an honest run");
        }
    }

    /// Everyone tells everyone everything.
    pub(crate) fn meet(&mut self) {
        meet(&mut self.homes.iter_mut().collect::<Vec<_>>());
    }

    /// These meet in every order, all to come to one state; then everyone does.
    pub(crate) fn meet_in_every_order(&mut self, who: &[usize]) {
        let homes = self.homes.iter_mut().enumerate();
        let mut some: Vec<&mut Home> =
            homes.filter(|(at, _)| who.contains(at)).map(|(_, home)| home).collect();
        meet_in_every_order(&mut some);
        self.meet();
    }

    /// The payer sets [`MAX`] aside, and the payee knows.
    pub(crate) fn lock(&mut self) -> ChangeHash {
        let (job, payee) = (JobId::from_bytes([1; 16]), self.homes[PAYEE].device());
        let lock = self.homes[PAYER].act(Intent::Lock { job, payee, max: mib(MAX) });
        self.tell(PAYER, PAYEE);
        lock
    }

    /// The payer's word on what is owed so far.
    pub(crate) fn voucher(&self, lock: ChangeHash, amount: i64) -> Voucher {
        let (payer, payee) = (&self.homes[PAYER], self.homes[PAYEE].device());
        Voucher::sign(&payer.key, &payer.community.id(), lock, &payee, mib(amount))
    }

    /// The payee closes a lock with a voucher of this amount, and counts it.
    pub(crate) fn close(&mut self, lock: ChangeHash, paid: i64) {
        let voucher = self.voucher(lock, paid);
        self.homes[PAYEE].act(Intent::Close { lock, voucher: Some(voucher) });
        self.homes[PAYEE].act(Intent::Count);
        self.meet();
    }

    /// A job from the lock to the close, known to everyone.
    pub(crate) fn job(&mut self, paid: i64) -> ChangeHash {
        let lock = self.lock();
        self.close(lock, paid);
        lock
    }

    /// What `opener` says to ask credit back from the payee.
    pub(crate) fn opening(&self, opener: usize, lock: ChangeHash, claim: i64) -> DisputeEvent {
        DisputeEvent::Opened {
            lock,
            payee: self.id(PAYEE),
            claim: mib(claim),
            summary: "half of it was noise".into(),
            commitment: commitment(&lock, &self.id(opener), &OPENER_HALF),
        }
    }

    /// The payee gives the other half, the opener draws, and everyone knows.
    pub(crate) fn draw(&mut self, opener: usize, dispute: ChangeHash) {
        self.tell(opener, PAYEE);
        self.act(PAYEE, DisputeEvent::Seeded { dispute, half: OTHER_HALF });
        self.tell(PAYEE, opener);
        self.act(opener, DisputeEvent::Drawn { dispute, half: OPENER_HALF });
        self.meet();
    }

    /// A dispute of `opener` about a lock, up to the draw.
    pub(crate) fn disputed_by(&mut self, opener: usize, lock: ChangeHash, claim: i64) -> ChangeHash {
        let opening = self.opening(opener, lock, claim);
        let dispute = self.act(opener, opening);
        self.draw(opener, dispute);
        dispute
    }

    /// The payer's dispute about a lock, up to the draw.
    pub(crate) fn disputed(&mut self, lock: ChangeHash, claim: i64) -> ChangeHash {
        self.disputed_by(PAYER, lock, claim)
    }

    pub(crate) fn act(&mut self, who: usize, step: DisputeEvent) -> ChangeHash {
        self.homes[who].act(Intent::Dispute(step))
    }

    pub(crate) fn try_act(&mut self, who: usize, step: DisputeEvent) -> Result<ChangeHash, Refusal> {
        self.homes[who].try_act(Intent::Dispute(step))
    }

    /// Writes a step that would be refused.
    pub(crate) fn force(&mut self, who: usize, step: DisputeEvent) -> ChangeHash {
        self.homes[who].force(CharterEvent::Dispute(step))
    }

    /// The first of these jurors find this, each without being told by another.
    pub(crate) fn votes(
        &mut self,
        dispute: ChangeHash,
        round: u8,
        jurors: &[usize],
        found: &[i64],
    ) -> Vec<ChangeHash> {
        let pairs = jurors.iter().zip(found);
        pairs.map(|(juror, amount)| self.act(*juror, voted(dispute, round, *amount))).collect()
    }

    /// A dispute, as the founder sees it.
    pub(crate) fn dispute(&self, dispute: ChangeHash) -> &Dispute {
        self.homes[FOUNDER].community.state().disputes.get(&dispute).expect("it was opened")
    }

    /// Who is to judge now, as the founder sees it.
    pub(crate) fn jurors(&self, dispute: ChangeHash, round: u8) -> Vec<usize> {
        let charter = &self.homes[FOUNDER].community.state().charter;
        let may = |person: PersonId| {
            charter.members.get(&person).is_some_and(|member| member.role.may(Permission::Judge))
        };
        self.dispute(dispute).seated(round, &may).iter().map(|juror| self.place(juror)).collect()
    }

    /// Everyone on a bench, those who stand in among them.
    pub(crate) fn bench(&self, dispute: ChangeHash, round: usize) -> Vec<usize> {
        let draw = self.dispute(dispute).draw().expect("it is drawn");
        draw.benches[round].people.iter().map(|person| self.place(person)).collect()
    }

    /// What someone's machine has, as the founder sees it.
    pub(crate) fn balance(&self, at: usize) -> i64 {
        let account = Account::Device(self.homes[at].device());
        self.homes[FOUNDER].community.state().ledger.balance(&account).token_mib()
    }

    /// What payer and payee have.
    pub(crate) fn balances(&self) -> [i64; 2] {
        [PAYER, PAYEE].map(|at| self.balance(at))
    }

    /// What payer and payee can still commit, as the founder sees it.
    pub(crate) fn headrooms(&self) -> [i64; 2] {
        let headroom = &self.homes[FOUNDER].community.state().headroom;
        [PAYER, PAYEE].map(|at| headroom[&self.homes[at].device()].token_mib())
    }

    /// What all members say, which is the same; no credit is made or lost.
    pub(crate) fn agreed(&self) -> &CommunityState {
        let state = self.homes[FOUNDER].community.state();
        for home in self.homes.iter().filter(|home| state.charter.is_member(&home.device())) {
            let other = home.community.state();
            assert_eq!(other.hash(), state.hash(), "{}", home.name);
            assert_eq!(other.disputes, state.disputes, "{}", home.name);
            assert_eq!(other.headroom, state.headroom, "{}", home.name);
            assert_eq!(other.ledger.total(), 0, "{}", home.name);
        }
        state
    }
}

pub(crate) const fn mib(amount: i64) -> Amount {
    Amount::from_token_mib(amount)
}

pub(crate) const fn finding(amount: i64) -> Finding {
    match amount {
        0 => Finding::Dismiss,
        _ => Finding::Refund(mib(amount)),
    }
}

pub(crate) const fn voted(dispute: ChangeHash, round: u8, amount: i64) -> DisputeEvent {
    DisputeEvent::Voted { dispute, round, finding: finding(amount) }
}
