//! Random histories: any order and any portions come to what the reference
//! says.

use std::collections::BTreeMap;

use exo_model::ChangeHash;
use exo_model::event::LedgerEvent;
use exo_model::event::ledger::{Account, GrantReason, OfferKind, Purpose};
use exo_model::ledger::{Ledger, LedgerCharter as _, Place, Posted, Standing};
use exo_model::{BlobHash, JobId};

use super::fake::{COMMUNITY, Charter, Fact, World, amount};
use super::reference::{Reference, Verdict};
use crate::seeded::Rng;

/// Histories that are tried; more with `EXO_HISTORIES=n`, from one of them on
/// with `EXO_FIRST=seed`.
const HISTORIES: u64 = 150;

struct Story {
    rng: Rng,
    world: World,
    /// Locks as (payer, payee, hash).
    locks: Vec<(usize, usize, ChangeHash)>,
    offers: Vec<(usize, ChangeHash)>,
    bounties: Vec<(usize, ChangeHash)>,
    allotments: Vec<ChangeHash>,
    /// Where each device has been.
    tips: BTreeMap<usize, Vec<(Place, ChangeHash)>>,
}

impl Story {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let people: Vec<_> = (0..2 + rng.below(3)).map(|_| (1 + rng.below(2), 100)).collect();
        Self {
            rng,
            world: World::new(&people),
            locks: Vec::new(),
            offers: Vec::new(),
            bounties: Vec::new(),
            allotments: Vec::new(),
            tips: BTreeMap::new(),
        }
    }

    fn device(&mut self) -> usize {
        self.rng.below(self.world.devices.len())
    }

    fn value(&mut self) -> i64 {
        i64::try_from(self.rng.below(70)).expect("small")
    }

    fn post(&mut self, device: usize, event: LedgerEvent) -> ChangeHash {
        let tip = self.world.devices[device].tip;
        let tips = self.tips.entry(device).or_default();
        tips.push(tip);
        // Now and then a device goes on from where it has been before.
        if self.rng.below(90) == 0 {
            let back = *self.rng.pick(&tips[..]).expect("just pushed");
            self.world.devices[device].tip = back;
        }
        let versions = self.world.charter.facts.len();
        let heads = if self.rng.below(30) == 0 {
            Charter::old_heads(self.rng.below(versions))
        } else {
            self.world.charter.heads()
        };
        let event = if self.rng.below(60) == 0 { None } else { Some(event) };
        let opens = self.rng.below(10) == 0;
        self.world.post_at(device, heads, event, opens)
    }

    fn step(&mut self) {
        match self.rng.below(18) {
            0..=2 => self.lock(),
            3..=5 => self.settle(),
            6 | 7 => self.close(),
            8..=10 => self.count(),
            11 => self.give(),
            12 => self.trade(),
            13 => self.bounty(),
            14 => self.grant(),
            15 if self.rng.below(4) == 0 => self.cheat(),
            16 => self.job(),
            _ => self.govern(),
        }
    }

    fn lock(&mut self) {
        let (payer, payee, max) = (self.device(), self.device(), self.value());
        let purpose = match self.rng.pick(&self.offers).copied() {
            Some((_, offer)) if self.rng.below(2) == 0 => {
                let units = u32::try_from(self.rng.below(3)).expect("small");
                if self.rng.below(2) == 0 {
                    Purpose::Order { offer, units }
                } else {
                    Purpose::Booking { offer, from_ms: 5, until_ms: 5 + i64::from(units) * 4_000_000 }
                }
            }
            _ => Purpose::Job(JobId::from_bytes([u8::try_from(self.rng.below(256)).expect("a byte"); 16])),
        };
        let payee_id = self.world.id(payee);
        let lock = self.post(payer, LedgerEvent::Locked { payee: payee_id, purpose, max: amount(max) });
        self.locks.push((payer, payee, lock));
    }

    /// A job as it should be, start to end.
    fn job(&mut self) {
        let known = self.locks.len();
        self.lock();
        let Some((payer, payee, lock)) = self.locks.get(known).copied() else { return };
        let value = self.value() / 2;
        let voucher = self.world.voucher(payer, lock, payee, value).signature;
        let settled = self.post(payee, LedgerEvent::Settled { lock, amount: amount(value), voucher });
        let voucher = (value != 0).then_some(voucher);
        let closed = self.post(payee, LedgerEvent::Closed { lock, amount: amount(value), voucher });
        self.post(payee, LedgerEvent::Counted { events: vec![settled, closed] });
        self.post(payer, LedgerEvent::Counted { events: vec![closed] });
    }

    /// Locks on several branches, all settled; proven in most cases.
    fn cheat(&mut self) {
        let device = self.device();
        let tip = self.world.devices[device].tip;
        let mut settled = Vec::new();
        for _ in 0..2 + self.rng.below(3) {
            self.world.devices[device].tip = tip;
            let (payee, max) = (self.device(), 20 + self.value());
            let lock = self.world.lock(device, payee, max);
            self.locks.push((device, payee, lock));
            let voucher = self.world.voucher(device, lock, payee, max).signature;
            let event = LedgerEvent::Settled { lock, amount: amount(max), voucher };
            settled.push(self.post(payee, event));
        }
        if self.rng.below(4) != 0 {
            settled.truncate(self.rng.below(2));
            let place = Place { seq: tip.0.seq + 1, ..tip.0 };
            self.world.prove(device, place, settled);
        }
    }

    fn settle(&mut self) {
        let Some((payer, payee, lock)) = self.rng.pick(&self.locks).copied() else { return };
        let author = match self.rng.below(12) {
            0 => self.device(),
            1..=3 => payer,
            _ => payee,
        };
        let signer = if self.rng.below(15) == 0 { payee } else { payer };
        let value = self.value();
        let voucher = self.world.voucher(signer, lock, payee, value).signature;
        self.post(author, LedgerEvent::Settled { lock, amount: amount(value), voucher });
    }

    fn close(&mut self) {
        let Some((payer, payee, lock)) = self.rng.pick(&self.locks).copied() else { return };
        let author = if self.rng.below(10) == 0 { payer } else { payee };
        let value = if self.rng.below(4) == 0 { 0 } else { self.value() };
        let voucher = (value != 0).then(|| self.world.voucher(payer, lock, payee, value).signature);
        self.post(author, LedgerEvent::Closed { lock, amount: amount(value), voucher });
    }

    fn count(&mut self) {
        let device = self.device();
        let own = self.world.id(device);
        let person = self.world.devices[device].person;
        let mut named = Vec::new();
        for _ in 0..1 + self.rng.below(4) {
            let any = self.rng.pick(&self.world.events).map(|event| event.id);
            let of_charter = Charter::id(self.rng.below(self.world.charter.facts.len()));
            let wanted = self.rng.below(8);
            let apt: Vec<_> = self
                .world
                .events
                .iter()
                .filter(|event| {
                    let lock = match event.event.as_deref() {
                        Some(LedgerEvent::Settled { lock, .. } | LedgerEvent::Closed { lock, .. }) => lock,
                        Some(LedgerEvent::Transferred { to, .. }) => return *to == Account::Device(own),
                        Some(LedgerEvent::Granted { to, .. } | LedgerEvent::BountyAwarded { to, .. }) => {
                            return *to == own;
                        }
                        _ => return false,
                    };
                    self.locks.iter().any(|(payer, payee, id)| {
                        let parties = [*payer, *payee].map(|party| self.world.devices[party].person);
                        id == lock && parties.contains(&person)
                    })
                })
                .map(|event| event.id)
                .collect();
            named.extend(match wanted {
                0 => any,
                1 | 2 => Some(of_charter),
                _ => self.rng.pick(&apt).copied(),
            });
        }
        self.post(device, LedgerEvent::Counted { events: named });
    }

    fn give(&mut self) {
        let (from, to, value) = (self.device(), self.device(), self.value());
        let to = if self.rng.below(5) == 0 { Account::Community } else { Account::Device(self.world.id(to)) };
        self.post(from, LedgerEvent::Transferred { to, amount: amount(value), note: String::new() });
    }

    fn trade(&mut self) {
        let device = self.device();
        match (self.rng.below(4), self.rng.pick(&self.offers).copied(), self.rng.pick(&self.locks).copied()) {
            (0, Some((provider, offer)), _) => {
                self.post(provider, LedgerEvent::OfferWithdrawn { offer });
            }
            (1, _, Some((_, payee, lock))) => {
                self.post(payee, LedgerEvent::OrderAccepted { lock });
            }
            _ => {
                let kind = match self.rng.below(3) {
                    0 => OfferKind::Hours,
                    1 => OfferKind::Other,
                    _ => OfferKind::Model(BlobHash::from_bytes([7; 32])),
                };
                let price = amount(self.value() / 4 - 1);
                let offer = self.post(device, LedgerEvent::OfferPosted { kind, title: "work".into(), price });
                self.offers.push((device, offer));
            }
        }
    }

    fn bounty(&mut self) {
        let device = self.device();
        let to = self.world.id(device);
        match (self.rng.below(4), self.rng.pick(&self.bounties).copied()) {
            (0 | 1, Some((poster, bounty))) => {
                self.post(poster, LedgerEvent::BountyAwarded { bounty, to });
            }
            (2, Some((poster, bounty))) => {
                self.post(poster, LedgerEvent::BountyWithdrawn { bounty });
            }
            _ => {
                let amount = amount(self.value());
                let bounty = self.post(device, LedgerEvent::BountyPosted { title: "do it".into(), amount });
                self.bounties.push((device, bounty));
            }
        }
    }

    fn grant(&mut self) {
        let device = self.device();
        let Some(allotment) = self.rng.pick(&self.allotments).copied() else { return };
        let to = self.device();
        let (to, amount) = (self.world.id(to), amount(self.value() / 2));
        let (reason, note) = (GrantReason::Grant, String::new());
        self.post(device, LedgerEvent::Granted { allotment, to, amount, reason, note });
    }

    fn govern(&mut self) {
        let device = self.device();
        let person = self.world.devices[device].person;
        let tip = match self.tips.get(&device).and_then(|tips| self.rng.pick(tips)) {
            Some(tip) if self.rng.below(4) == 0 => *tip,
            _ => self.world.devices[device].tip,
        };
        match self.rng.below(14) {
            0 | 1 => {
                let fence = self.world.fence(tip);
                self.world.charter.add(Fact::Revoked { device: self.world.id(device), fence });
            }
            2 => {
                self.world.remove(person);
            }
            3 | 4 => {
                let line = self.value() * 2;
                self.world.charter.add(Fact::Line { person, line });
            }
            5 if self.rng.below(3) == 0 => {
                self.world.charter.add(Fact::Demoted { person });
            }
            6 if self.world.devices.len() < 8 => {
                self.world.enrol(person);
            }
            7 | 8 => {
                let amount = self.value();
                let allotment = self.world.charter.add(Fact::Allotted { person, amount });
                self.allotments.push(allotment);
            }
            9 | 10 => {
                if let Some((payer, payee, lock)) = self.rng.pick(&self.locks).copied() {
                    let (refund, parties) = (self.value(), self.world.parties(payer, payee));
                    self.world.charter.add(Fact::Judged { lock, refund, parties });
                }
            }
            _ => self.prove(),
        }
    }

    /// A proof of a fork that there is.
    fn prove(&mut self) {
        let forks: Vec<_> = self
            .world
            .events
            .iter()
            .filter(|one| {
                self.world.events.iter().any(|other| {
                    let same = (other.feed, other.seq) == (one.feed, one.seq);
                    other.id != one.id && same
                })
            })
            .map(|one| (one.feed.device, Place { segment: one.feed.segment, seq: one.seq }))
            .collect();
        let Some((device, place)) = self.rng.pick(&forks).copied() else { return };
        let device = self.world.devices.iter().position(|other| other.id == device).expect("ours");
        let mut settled = Vec::new();
        for _ in 0..self.rng.below(3) {
            settled.extend(self.rng.pick(&self.world.events).map(|event| event.id));
        }
        self.world.prove(device, place, settled);
    }
}

fn same(standing: &Standing, verdict: Verdict) -> bool {
    matches!(
        (standing, verdict),
        (Standing::Counted, Verdict::Counted)
            | (Standing::Salvaged, Verdict::Salvaged)
            | (Standing::Worthless, Verdict::Worthless)
            | (Standing::Waiting, Verdict::Waiting)
            | (Standing::Void, Verdict::Void)
            | (Standing::Forked, Verdict::Forked)
            | (Standing::Barred, Verdict::Barred)
            | (Standing::Meaningless, Verdict::Meaningless)
            | (Standing::Faulty(_), Verdict::Faulty)
    )
}

/// How often each standing came up, so that the histories are known to be rich.
type Seen = BTreeMap<String, usize>;

fn compare(seed: u64, ledger: &Ledger, events: &[Posted], charter: &Charter, seen: &mut Seen) {
    let reference = Reference::new(events, charter);
    for event in events {
        let standing = ledger.standing(&event.id).expect("inserted");
        let verdict = reference.verdict(&event.id);
        assert!(same(&standing, verdict), "seed {seed}: {event:?} is {standing:?}, should be {verdict:?}");
        let short = format!("{standing:?}");
        let short = short.split(" {").next().expect("one part").to_owned();
        *seen.entry(short).or_default() += 1;
        if let Some(lock) = ledger.lock(&event.id) {
            let amount = i128::from(lock.final_amount().token_mib());
            assert_eq!(
                amount,
                reference.final_amount(&event.id),
                "seed {seed}: final amount of {}",
                event.id
            );
        }
    }
    let heads = charter.heads();
    let mut people: BTreeMap<_, i128> = BTreeMap::new();
    for (account, paid) in reference.paid() {
        match account {
            Account::Community => {
                let has = i128::from(ledger.balance(&account).token_mib());
                assert_eq!(has, paid, "seed {seed}: the community");
            }
            Account::Device(device) => {
                *people.entry(charter.person_of(&device)).or_default() += paid;
            }
        }
    }
    for (person, paid) in people {
        // In a charter that is not all here, somebody may not be enrolled yet.
        let Some(person) = person else { continue };
        let has = ledger.person_balance(&person, charter).token_mib();
        assert_eq!(i128::from(has), paid, "seed {seed}: {person:?}");
    }
    if charter.is_ready(&heads) {
        for event in events {
            let device = event.feed.device;
            let has = i128::from(ledger.headroom(&device, &heads, charter).token_mib());
            assert_eq!(has, reference.headroom_now(&device, &heads), "seed {seed}: headroom of {device}");
        }
    }
    assert_eq!(ledger.total(), 0);
}

/// In any order, in any portions.
fn insert_anyhow(ledger: &mut Ledger, mut events: Vec<Posted>, charter: &Charter, rng: &mut Rng) {
    if rng.below(3) != 0 {
        rng.shuffle(&mut events);
    }
    while !events.is_empty() {
        let portion = (1 + rng.below(6)).min(events.len());
        ledger.insert(events.drain(..portion), charter);
        assert_eq!(ledger.total(), 0);
    }
}

#[test]
fn histories_come_to_what_the_reference_says() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse().ok());
    let histories = number("EXO_HISTORIES").unwrap_or(HISTORIES);
    let mut seen = Seen::new();
    let first = number("EXO_FIRST").unwrap_or(0);
    for seed in first..first + histories {
        let mut story = Story::new(seed);
        for _ in 0..20 + story.rng.below(50) {
            story.step();
        }
        let Story { mut rng, world, .. } = story;
        let (events, charter) = (world.events, world.charter);

        let mut whole = Ledger::new(COMMUNITY);
        whole.insert(events.iter().cloned(), &charter);
        compare(seed, &whole, &events, &charter, &mut seen);

        let mut other = Ledger::new(COMMUNITY);
        insert_anyhow(&mut other, events.clone(), &charter, &mut rng);
        assert_eq!(other.encode_state(), whole.encode_state(), "seed {seed}: another order");
        for event in &events {
            assert_eq!(other.standing(&event.id), whole.standing(&event.id), "seed {seed}: {}", event.id);
        }

        // Some are missing, and so is part of the charter.
        let some: Vec<_> = events.iter().filter(|_| rng.below(25) != 0).cloned().collect();
        let mut part = charter.clone();
        part.here = charter.here - rng.below(4).min(charter.here - 1);
        let mut late = Ledger::new(COMMUNITY);
        insert_anyhow(&mut late, some.clone(), &part, &mut rng);
        compare(seed, &late, &some, &part, &mut seen);
        late.recompute(&charter);
        insert_anyhow(&mut late, events, &charter, &mut rng);
        assert_eq!(late.encode_state(), whole.encode_state(), "seed {seed}: in two parts");
    }
    for standing in ["Counted", "Salvaged", "Worthless", "Waiting", "Void", "Forked", "Barred", "Meaningless"]
    {
        assert!(seen.get(standing).is_some_and(|times| *times > 5), "{standing} hardly came up: {seen:?}");
    }
}
