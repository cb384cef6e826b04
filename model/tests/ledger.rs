//! Credits under attack, through events alone: sums stay zero, nothing moves
//! without its payer's signature, honest devices never pass the floor.

#[allow(dead_code, reason = "each test binary uses its part")]
mod common;

use std::collections::BTreeMap;

use common::{Rng, World, job_id, posting, reduced};
use exo_model::amount::Amount;
use exo_model::decide::{Intent, Refusal};
use exo_model::ledger::{LedgerFault, Voucher};
use exo_model::signature::Signature;
use exo_model::{ChangeHash, Event, VerifiedEvent};

const FLOOR: i64 = -1_000;
const MEMBERS: usize = 4;
const WILD: [i64; 8] = [i64::MIN, i64::MIN + 1, -1, 0, 1, 1 << 48, (1 << 48) + 1, i64::MAX];

/// What the history should come to, kept without looking at the ledger: each
/// lock's parties, maximum, and largest honest voucher posted while it was open.
#[derive(Default)]
struct Books {
    locks: BTreeMap<ChangeHash, Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    payer: usize,
    payee: usize,
    max: i64,
    settled: i64,
    closed: bool,
}

impl Books {
    fn balance(&self, who: usize) -> i64 {
        let of = |entry: &Entry| match who {
            _ if who == entry.payee => entry.settled,
            _ if who == entry.payer => -entry.settled,
            _ => 0,
        };
        self.locks.values().map(of).sum()
    }

    fn available(&self, who: usize) -> i64 {
        let held = |entry: &&Entry| entry.payer == who && !entry.closed;
        let held: i64 = self.locks.values().filter(held).map(|entry| entry.max - entry.settled).sum();
        self.balance(who) - FLOOR - held
    }

    fn random(&self, rng: &mut Rng) -> Option<(ChangeHash, Entry)> {
        let nth = rng.below(self.locks.len().max(1));
        self.locks.iter().nth(nth).map(|(hash, entry)| (*hash, *entry))
    }
}

fn wild(rng: &mut Rng) -> i64 {
    WILD[rng.below(WILD.len())]
}

/// One step of honest life.
fn live(world: &mut World, books: &mut Books, rng: &mut Rng) {
    match (rng.below(4), books.random(rng)) {
        (0 | 1, _) | (_, None) => lock(world, books, rng),
        (2, Some((hash, entry))) if !entry.closed => {
            let amount = rng.below(usize::try_from(entry.max).expect("positive") + 1) as i64;
            let poster = if rng.below(2) == 0 { entry.payer } else { entry.payee };
            let voucher = world.voucher(entry.payer, hash, entry.payee, amount);
            world.does(poster, Intent::Settle(voucher)).expect("a party's voucher");
            let settled = entry.settled.max(amount);
            books.locks.insert(hash, Entry { settled, ..entry });
        }
        (_, Some((hash, entry))) => {
            world.does(entry.payee, Intent::Close { lock: hash }).expect("the payee");
            books.locks.insert(hash, Entry { closed: true, ..entry });
        }
    }
}

fn lock(world: &mut World, books: &mut Books, rng: &mut Rng) {
    let (payer, payee) = (rng.below(MEMBERS), rng.below(MEMBERS));
    let max = 1 + rng.below(600) as i64;
    let intent =
        Intent::Lock { job: job_id(rng.byte()), payee: world.id_of(payee), max: Amount::from_token_mib(max) };
    let verdict = world.does(payer, intent);
    assert_eq!(verdict.is_ok(), payer != payee && max <= books.available(payer), "decide knows the floor");
    if let Ok(event) = verdict {
        books.locks.insert(event.hash, Entry { payer, payee, max, settled: 0, closed: false });
    }
}

/// One step that must change nothing.
fn attack(world: &mut World, books: &Books, rng: &mut Rng) {
    let outsider = MEMBERS;
    let who = rng.below(MEMBERS + 1);
    let events = match books.random(rng) {
        Some((hash, entry)) if rng.below(3) > 0 => attacks_on(world, hash, entry, rng),
        _ => vec![
            (who, world.lock_event(1, rng.below(MEMBERS), wild(rng).min(0))),
            (who, world.lock_event(1, rng.below(MEMBERS), (1 << 48) + 1)),
            (who % MEMBERS, world.lock_event(1, rng.below(MEMBERS), 1 << 47)),
            (who % MEMBERS, world.lock_event(2, who % MEMBERS, 1)),
            (who % MEMBERS, world.lock_event(2, outsider, 1)),
            (who, posting(&world.voucher(rng.below(MEMBERS), ChangeHash::from_bytes([1; 32]), who, 5))),
        ],
    };
    for (who, event) in events {
        assert!(!world.counts(who, &event), "{who} says {event:?}");
    }
}

fn attacks_on(world: &World, lock: ChangeHash, entry: Entry, rng: &mut Rng) -> Vec<(usize, Event)> {
    let Entry { payer, payee, max, .. } = entry;
    let third = (0..MEMBERS).find(|who| *who != payer && *who != payee).expect("four members");
    let good = world.voucher(payer, lock, payee, max);
    let by = |signer: usize, amount: i64| posting(&world.voucher(signer, lock, payee, amount));
    let raised =
        Voucher { amount: Amount::from_token_mib(max), ..world.voucher(payer, lock, payee, max - 1) };
    let moved = world.voucher(payer, ChangeHash::from_bytes([2; 32]), payee, max);
    vec![
        (payee, by(payee, max)),
        (payee, by(third, max)),
        (third, posting(&good)),
        (MEMBERS, posting(&good)),
        (payee, by(payer, max + 1)),
        (payer, by(payer, wild(rng).min(-1))),
        (payee, by(payer, i64::MAX)),
        (payee, posting(&raised)),
        (payee, posting(&Voucher { lock, ..moved })),
        (payee, posting(&world.voucher(payer, lock, third, max))),
        (third, posting(&world.voucher(payer, lock, third, max))),
        (payee, posting(&Voucher { signature: Signature::from_bytes([0; 64]), ..good })),
        (payer, Event::Closed { lock }),
        (third, Event::Closed { lock }),
    ]
}

/// Everything that must hold after every event.
fn check(world: &World, books: &Books) {
    let ledger = &world.state().ledger;
    assert_eq!(ledger.total(), 0, "the sum of all balances");
    for who in 0..MEMBERS {
        assert_eq!(world.balance(who), books.balance(who), "balance of {who}");
        assert!(world.balance(who) >= FLOOR, "the floor under {who}");
        let available = ledger.available(&world.id_of(who)).map(Amount::token_mib);
        assert_eq!(available, Some(books.available(who)));
        assert!(books.available(who) >= 0, "no honest member locks past the floor");
    }
}

#[test]
fn l05_random_histories_among_forgers_match_independent_books() {
    for seed in 0..4 {
        let (mut world, mut books, mut rng) =
            (World::of_members(MEMBERS, FLOOR), Books::default(), Rng(seed));
        world.stranger();
        for _ in 0..60 {
            live(&mut world, &mut books, &mut rng);
            check(&world, &books);
            if rng.below(4) == 0 {
                attack(&mut world, &books, &mut rng);
                check(&world, &books);
            }
        }
        assert!(books.locks.len() > 10, "the story has some length");
    }
}

#[test]
fn l05_extreme_amounts_from_a_bottomless_floor_never_wrap() {
    for floor in [i64::MIN, i64::MIN + 1, -i64::MAX / 2, i64::MAX, 0] {
        let mut world = World::of_members(3, floor);
        for (payer, payee) in [(0, 1), (1, 2), (2, 0)] {
            for amount in WILD {
                let lock = world.lock_event(1, payee, amount);
                let lock = world.says(payer, &lock).hash;
                for amount in WILD {
                    let settled = posting(&world.voucher(payer, lock, payee, amount));
                    world.says(payee, &settled);
                    assert_eq!(world.state().ledger.total(), 0, "floor {floor} amount {amount}");
                }
            }
        }
        let deep = (0..3).map(|who| world.balance(who)).min().expect("three");
        assert!(deep >= floor.min(0), "floor {floor}: {deep}");
    }
}

#[test]
fn honest_decide_takes_the_floor_to_the_last_credit_and_no_further() {
    let mut world = World::of_members(3, FLOOR);
    let lock = |world: &World, payee: usize, max: i64| Intent::Lock {
        job: job_id(1),
        payee: world.id_of(payee),
        max: Amount::from_token_mib(max),
    };
    let first = lock(&world, 1, 600);
    let held = world.does(0, first).expect("within").hash;
    let over = lock(&world, 2, 401);
    assert!(matches!(world.does(0, over), Err(Refusal::Ledger(LedgerFault::Floor { .. }))));
    let exactly = lock(&world, 2, 400);
    world.does(0, exactly).expect("the last credit");
    let voucher = world.voucher(0, held, 1, 600);
    world.does(1, Intent::Settle(voucher)).expect("the payee");
    let one_more = lock(&world, 1, 1);
    assert!(world.does(0, one_more).is_err());
    let earned = lock(&world, 2, 1_600);
    world.does(1, earned).expect("earnings add to the floor's share");
    assert_eq!((world.balance(0), world.balance(1)), (-600, 600));
}

#[test]
fn a_lock_holds_until_the_payees_close_whoever_else_says_so() {
    let mut world = World::of_members(3, FLOOR);
    let lock = world.lock_event(1, 1, 1_000);
    let lock = world.says(0, &lock).hash;
    let payer = world.id_of(0);
    for who in [0, 2] {
        assert!(!world.counts(who, &Event::Closed { lock }));
    }
    assert_eq!(world.state().ledger.available(&payer), Some(Amount::ZERO));
    assert!(world.counts(1, &Event::Closed { lock }));
    assert_eq!(world.state().ledger.available(&payer), Some(Amount::from_token_mib(1_000)));
    assert!(!world.counts(1, &Event::Closed { lock }), "twice");
    assert!(!world.counts(1, &Event::Closed { lock: ChangeHash::from_bytes([5; 32]) }), "no such lock");
}

#[test]
fn vouchers_posted_by_both_sides_in_any_order_settle_once_at_the_largest() {
    let mut world = World::of_members(3, FLOOR);
    let lock = world.lock_event(1, 1, 500);
    let lock = world.says(0, &lock).hash;
    let base = world.events.len();
    for (poster, lamport, amount) in [(1, 90, 100), (0, 91, 300), (1, 91, 200), (0, 92, 300), (1, 93, 0)] {
        let event = posting(&world.voucher(0, lock, 1, amount));
        world.says_at(poster, lamport, &event);
    }
    let (base, vouchers) = world.events.split_at(base);
    let mut rng = Rng(3);
    for _ in 0..40 {
        let mut late = vouchers.to_vec();
        rng.shuffle(&mut late);
        let community = reduced(world.id, std::iter::once(base).chain(late.chunks(1)));
        let balance = |who: usize| community.state().ledger.balance(&world.id_of(who)).token_mib();
        assert_eq!((balance(0), balance(1)), (-300, 300));
        assert_eq!(community.state(), world.state());
    }
}

/// Six locks, of which the floor allows three: which three depends on their
/// order of writing, never on their order of arrival.
#[test]
fn l02_which_locks_stand_does_not_depend_on_arrival() {
    let mut world = World::of_members(3, FLOOR);
    let base = world.events.len();
    for (job, (lamport, max)) in (0..).zip([(50, 300), (51, 300), (51, 300), (52, 300), (53, 101), (54, 100)])
    {
        let lock = world.lock_event(job, 1 + usize::from(job % 2), max);
        world.says_at(0, lamport, &lock);
    }
    let (base, locks) = world.events.split_at(base);
    let standing: Vec<i64> = world.state().ledger.locks().values().map(|lock| lock.max.token_mib()).collect();
    assert_eq!(standing.iter().sum::<i64>(), 1_000, "filled to the floor: {standing:?}");
    let mut rng = Rng(4);
    for _ in 0..60 {
        let mut late: Vec<VerifiedEvent> = locks.to_vec();
        rng.shuffle(&mut late);
        let community = reduced(world.id, late[..3].chunks(1).chain([base]).chain(late[3..].chunks(2)));
        assert_eq!(community.state(), world.state());
    }
}

#[test]
fn a_voucher_is_worth_nothing_without_its_lock() {
    let mut world = World::of_members(3, FLOOR);
    let void = world.lock_event(1, 1, 1_001);
    let void = world.says(0, &void).hash;
    let voucher = posting(&world.voucher(0, void, 1, 500));
    assert!(!world.counts(1, &voucher), "a lock past the floor is none");
    assert!(!world.counts(0, &voucher), "even when its payer says so");
    let lock = world.lock_event(2, 1, 10);
    let lock = world.says_at(0, 300, &lock).hash;
    let early = posting(&world.voucher(0, lock, 1, 10));
    world.says_at(1, 299, &early);
    assert_eq!(world.balance(1), 0, "a voucher does not precede its lock");
}
