//! The attacks of the ledger, by name.

use std::sync::Arc;

use exo_model::amount::Amount;
use exo_model::event::LedgerEvent;
use exo_model::event::ledger::{Account, GrantReason, Purpose};
use exo_model::feed::equivocation::{Branch, EquivocationProof};
use exo_model::feed::{self, Change, FeedPosition, Stream};
use exo_model::ledger::{Bar, Ledger, LedgerCharter as _, LedgerFault, Place, Standing, Voucher};
use exo_model::port::Signer as _;
use exo_model::signature::SecretKey;
use exo_model::{ChangeHash, CommunityId, DeviceId, FeedId};

use super::fake::{COMMUNITY, Fact, START, World, amount};

fn ledger(world: &World) -> Ledger {
    let mut ledger = Ledger::new(COMMUNITY);
    ledger.insert(world.events.iter().cloned(), &world.charter);
    ledger
}

fn balance(ledger: &Ledger, world: &World, device: usize) -> i64 {
    ledger.balance(&Account::Device(world.id(device))).token_mib()
}

fn headroom(ledger: &Ledger, world: &World, device: usize) -> i64 {
    ledger.headroom(&world.id(device), &world.charter.heads(), &world.charter).token_mib()
}

fn faulty(ledger: &Ledger, id: &ChangeHash) -> LedgerFault {
    match ledger.standing(id) {
        Some(Standing::Faulty(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

/// A payer with 100 and a fork: a lock of 100 for each of two payees, both
/// settled in full.
fn double_spend() -> (World, [ChangeHash; 2], [ChangeHash; 2]) {
    let mut world = World::new(&[(1, 100), (1, 0), (1, 0)]);
    let one = world.lock(0, 1, 100);
    world.devices[0].tip = START;
    let other = world.lock(0, 2, 100);
    let first = world.settle(1, (0, 1), one, 100);
    let second = world.settle(2, (0, 2), other, 100);
    (world, [one, other], [first, second])
}

#[test]
fn l01_fork_shown_to_partitions_is_excluded_alike_by_all() {
    let (mut world, locks, settled) = double_spend();
    for payee in [1, 2] {
        world.count(payee, &[settled[payee - 1]]);
    }
    let spent = world.lock(1, 2, 100);

    // Each partition sees one line only, and it counts there.
    for hidden in locks {
        let mut partition = Ledger::new(COMMUNITY);
        partition.insert(world.events.iter().filter(|event| event.id != hidden).cloned(), &world.charter);
        let shown = if hidden == locks[0] { locks[1] } else { locks[0] };
        assert_eq!(partition.standing(&shown), Some(Standing::Counted));
        assert_eq!(balance(&partition, &world, 0), -100);

        // They meet: nothing of either counts any more, nor what rested on it.
        partition.insert(world.events.iter().cloned(), &world.charter);
        assert_eq!(partition.standing(&hidden), Some(Standing::Forked));
        assert_eq!(partition.standing(&shown), Some(Standing::Forked));
        assert_eq!(balance(&partition, &world, 0), 0);
        assert!(matches!(faulty(&partition, &spent), LedgerFault::Headroom { .. }));
        assert_eq!(partition.encode_state(), ledger(&world).encode_state());

        // Proven: the one that the prover knew as settled stands, on every
        // side, and what rested on it counts again.
        let mut proven = world.charter.clone();
        let device = world.id(0);
        let bar = Bar { place: Place { segment: 0, seq: 1 }, settled: vec![settled[0]] };
        proven.add(Fact::Proven { device, bar });
        partition.recompute(&proven);
        assert_eq!(partition.standing(&locks[0]), Some(Standing::Salvaged));
        assert_eq!(partition.standing(&locks[1]), Some(Standing::Worthless));
        assert_eq!(partition.standing(&spent), Some(Standing::Counted));
        assert_eq!([0, 1, 2].map(|device| balance(&partition, &world, device)), [-100, 100, 0]);
        assert_eq!(partition.total(), 0);
        assert_eq!(partition.headroom(&device, &proven.heads(), &proven), Amount::ZERO);
        let refused = partition.check(
            &device,
            &proven.heads(),
            &LedgerEvent::Transferred { to: Account::Community, amount: amount(1), note: String::new() },
            &proven,
        );
        assert_eq!(refused, Err(LedgerFault::Forked));
    }
}

#[test]
fn l01_a_thousand_branches_are_worth_one_line_together() {
    let mut world = World::new(&[(1, 100), (1, 0)]);
    let early = world.lock(0, 1, 30);
    let tip = world.devices[0].tip;
    for value in 1..=60 {
        world.devices[0].tip = tip;
        let lock = world.lock(0, 1, value);
        world.settle(1, (0, 1), lock, value);
    }
    world.settle(1, (0, 1), early, 30);
    let place = Place { segment: 0, seq: 2 };
    world.prove(0, place, Vec::new());
    let ledger = ledger(&world);
    let paid = balance(&ledger, &world, 1);
    assert!((30..=100).contains(&paid), "{paid}");
    assert_eq!(ledger.lock(&early).expect("before the fork").final_amount(), amount(30));
    // By hash, each that fits.
    let mut left = 70;
    for (id, lock) in ledger.locks().iter().filter(|(id, _)| **id != early) {
        let stands = ledger.standing(id) == Some(Standing::Salvaged);
        assert_eq!(stands, lock.settled.token_mib() <= left);
        left -= if stands { lock.settled.token_mib() } else { 0 };
    }
    assert_eq!(paid, 100 - left);
}

#[test]
fn l01_a_lower_proof_and_a_revocation_give_no_new_line() {
    let (mut world, ..) = double_spend();
    let person = world.devices[0].person;
    let next = world.enrol(person);
    world.prove(0, Place { segment: 0, seq: 1 }, Vec::new());
    // The thief is revoked by its owner: the line passes on, used up.
    let line = world.fence((Place { segment: 0, seq: 1 }, world.events[0].id));
    world.charter.add(Fact::Revoked { device: world.id(0), fence: line });
    let after = ledger(&world);
    assert_eq!(headroom(&after, &world, next), 0);
}

#[test]
fn l02_limit_race_across_own_devices_has_one_line() {
    let mut world = World::new(&[(2, 100), (1, 0)]);
    // Both at once, neither knowing of the other.
    let phone = world.lock(0, 2, 100);
    let laptop = world.lock(1, 2, 100);
    let before = ledger(&world);
    assert_eq!(before.standing(&phone), Some(Standing::Counted));
    let fault = LedgerFault::Headroom { available: Amount::ZERO, wanted: amount(100) };
    assert_eq!(faulty(&before, &laptop), fault);

    // What one hands over, only one of them has.
    let mut world = World::new(&[(2, 100), (1, 0)]);
    let share = world.give(0, 1, 60);
    let early = world.lock(1, 2, 60);
    world.count(1, &[share]);
    let late = world.lock(1, 2, 60);
    let over = world.lock(0, 2, 41);
    let ledger = ledger(&world);
    assert!(matches!(faulty(&ledger, &early), LedgerFault::Headroom { .. }), "not counted yet");
    assert_eq!(ledger.standing(&late), Some(Standing::Counted));
    assert!(matches!(faulty(&ledger, &over), LedgerFault::Headroom { .. }));
    assert_eq!([0, 1, 2].map(|device| headroom(&ledger, &world, device)), [40, 0, 0]);
}

#[test]
fn l02_revoking_a_device_in_debt_renews_no_line() {
    let mut world = World::new(&[(3, 100), (1, 0)]);
    let lock = world.lock(0, 3, 70);
    world.settle(3, (0, 3), lock, 70);
    world.revoke(0);
    let once = ledger(&world);
    assert_eq!(headroom(&once, &world, 1), 30, "70 of the line are used");
    let lock = world.lock(1, 3, 30);
    let over = world.lock(1, 3, 1);
    world.revoke(1);
    let twice = ledger(&world);
    assert_eq!(twice.standing(&lock), Some(Standing::Counted));
    assert!(matches!(faulty(&twice, &over), LedgerFault::Headroom { .. }));
    assert_eq!(headroom(&twice, &world, 2), 0);
}

#[test]
fn l02_old_heads_bring_no_old_line_back() {
    let mut world = World::new(&[(1, 100), (1, 0)]);
    let before = world.charter.heads();
    let person = world.devices[0].person;
    world.charter.add(Fact::Line { person, line: 10 });
    let known = world.lock(0, 1, 5);
    let (payee, max) = (world.id(1), amount(90));
    let purpose = Purpose::Job(exo_model::JobId::from_bytes([0; 16]));
    let back = world.post_at(0, before, Some(LedgerEvent::Locked { payee, purpose, max }), false);
    let ledger = ledger(&world);
    assert_eq!(ledger.standing(&known), Some(Standing::Counted));
    assert_eq!(faulty(&ledger, &back), LedgerFault::OldHeads);
}

#[test]
fn l02_several_devices_of_an_officer_grant_an_allotment_once() {
    let mut world = World::new(&[(2, 10), (1, 0)]);
    let person = world.devices[0].person;
    let allotment = world.charter.add(Fact::Allotted { person, amount: 100 });
    let to = world.id(2);
    let grant = |value| LedgerEvent::Granted {
        allotment,
        to,
        amount: amount(value),
        reason: GrantReason::Uptime,
        note: String::new(),
    };
    let first = world.post(0, grant(60));
    let beside = world.post(1, grant(60));
    world.revoke(0);
    let over = world.post(1, grant(41));
    let rest = world.post(1, grant(40));
    let ledger = ledger(&world);
    assert_eq!(ledger.standing(&first), Some(Standing::Counted));
    assert_eq!(faulty(&ledger, &beside), LedgerFault::NotLineHolder);
    assert_eq!(faulty(&ledger, &over), LedgerFault::Allotment { left: amount(40), wanted: amount(41) });
    assert_eq!(ledger.standing(&rest), Some(Standing::Counted));
    assert_eq!(ledger.balance(&Account::Community), amount(-100));
    assert_eq!(headroom(&ledger, &world, 0), 0);
}

#[test]
fn l03_payer_vanishes_half_way_and_the_payee_is_paid_what_was_vouched() {
    let mut world = World::new(&[(1, 100), (1, 0)]);
    let lock = world.lock(0, 1, 80);
    // Vouched for 50, never posted by the payer, who is removed meanwhile.
    let voucher = world.voucher(0, lock, 1, 50);
    let late = world.voucher(0, lock, 1, 60).signature;
    let person = world.devices[0].person;
    world.remove(person);
    let more = world.lock(0, 1, 10);
    let own = world.post(0, LedgerEvent::Settled { lock, amount: amount(60), voucher: late });
    let mut ledger = ledger(&world);
    assert_eq!(ledger.standing(&more), Some(Standing::Void));
    assert_eq!(ledger.standing(&own), Some(Standing::Void), "a removed payer posts nothing");
    assert_eq!(ledger.held(&world.id(0)), amount(80));

    ledger.check_voucher(&world.id(1), &voucher).expect("the payee may post it");
    let forged = Voucher { amount: amount(51), ..voucher };
    assert_eq!(ledger.check_voucher(&world.id(1), &forged), Err(LedgerFault::Voucher));
    let settled = world.settle(1, (0, 1), lock, 50);
    ledger.insert(world.events.iter().cloned(), &world.charter);
    let heads = world.charter.heads();
    assert_eq!(ledger.countable(&world.id(1), &heads, &world.charter), [settled]);
    world.count(1, &[settled]);
    ledger.insert(world.events.iter().cloned(), &world.charter);
    assert_eq!(headroom(&ledger, &world, 1), 50);
    assert_eq!([0, 1].map(|device| balance(&ledger, &world, device)), [-50, 50]);
    assert_eq!(ledger.held(&world.id(0)), amount(30), "what was committed stays committed");
}

#[test]
fn l03_payee_cannot_close_below_what_it_has_claimed() {
    let mut world = World::new(&[(1, 100), (1, 0)]);
    let lock = world.lock(0, 1, 80);
    let settled = world.settle(0, (0, 1), lock, 50);
    world.count(1, &[settled]);
    let below = world.close((0, 1), lock, 20);
    let close = world.close((0, 1), lock, 55);
    let after = world.settle(0, (0, 1), lock, 70);
    world.count(0, &[close, close]);
    world.count(1, &[after, close]);
    let ledger = ledger(&world);
    assert_eq!(faulty(&ledger, &below), LedgerFault::BelowClaim { claimed: amount(50) });
    assert_eq!(ledger.lock(&lock).expect("counts").final_amount(), amount(55));
    assert_eq!([0, 1].map(|device| headroom(&ledger, &world, device)), [45, 55]);
    assert_eq!([0, 1].map(|device| balance(&ledger, &world, device)), [-55, 55]);
}

fn signed_branch(key: &SecretKey, feed: FeedId, payload: u8) -> Branch {
    let change = Change { time_ms: 0, payload: vec![payload] };
    let hash = feed::chunk::change_hash(&feed.device, &FeedPosition::START, &change);
    let at = FeedPosition { seq: 1, hash };
    Branch { at, then: Vec::new(), signature: key.sign(&feed.signed_message(&at)) }
}

#[test]
fn l04_forged_or_replayed_proof_bars_nobody_and_nothing_more() {
    let (mut world, locks, settled) = double_spend();
    let cheat = SecretKey::from_bytes(&[100; 32]);
    assert_eq!(cheat.device(), world.id(0));
    let thief = SecretKey::from_bytes(&[7; 32]);
    let feed = FeedId::new(COMMUNITY, cheat.device(), Stream::Ledger);
    let branches = |key: &SecretKey, feed| [1, 2].map(|payload| signed_branch(key, feed, payload));
    let prove = |key: &SecretKey, feed: FeedId| {
        let [one, other] = branches(key, feed);
        EquivocationProof::of_fork(feed, one, other)
    };
    let proof = prove(&cheat, feed).expect("both are signed");

    // Forged: by another key; one change twice; out of order; moved elsewhere.
    assert!(prove(&thief, feed).is_err());
    let [one, other] = branches(&cheat, feed);
    let (left, right) = if one.at.hash < other.at.hash { (one, other) } else { (other, one) };
    let mut forged = vec![
        EquivocationProof::Fork { feed, left: left.clone(), right: left.clone() },
        EquivocationProof::Fork { feed, left: right.clone(), right: left.clone() },
        EquivocationProof::Fork { feed: feed.with_segment(1), left: left.clone(), right: right.clone() },
    ];
    let mine = FeedId { device: world.id(1), ..feed };
    forged.push(EquivocationProof::Fork { feed: mine, left, right });
    // Authentic, but of another stream or community.
    let elsewhere = CommunityId::from_bytes([9; 32]);
    for feed in [FeedId { stream: Stream::Charter, ..feed }, FeedId { community: elsewhere, ..feed }] {
        forged.push(prove(&cheat, feed).expect("authentic"));
    }
    for forged in &forged {
        assert_eq!(Bar::of_proof(&COMMUNITY, forged, &settled), None);
    }

    // Replayed by anyone, with other settlements, it means the same fork: the
    // first stands.
    let (device, bar) = Bar::of_proof(&COMMUNITY, &proof, &[settled[1]]).expect("a proof");
    assert_eq!((device, bar.place), (world.id(0), Place { segment: 0, seq: 1 }));
    world.charter.add(Fact::Proven { device, bar });
    let once = ledger(&world);
    assert_eq!(once.standing(&locks[1]), Some(Standing::Salvaged));
    for named in [vec![settled[0]], Vec::new(), vec![locks[0], ChangeHash::from_bytes([9; 32])]] {
        let (device, bar) = Bar::of_proof(&COMMUNITY, &proof, &named).expect("a proof");
        world.charter.add(Fact::Proven { device, bar });
        assert_eq!(ledger(&world).encode_state(), once.encode_state());
    }
}

#[test]
fn l05_overflow_counts_for_nothing_and_wraps_nowhere() {
    let mut world = World::new(&[(1, i64::MAX), (1, i64::MAX), (1, 0)]);
    let gifts = [0, 1].map(|from| world.give(from, 2, i64::MAX));
    let counted = world.count(2, &gifts);
    let small = world.give(2, 0, 1);
    let again = world.count(2, &gifts);
    let wild = [i64::MIN, i64::MIN + 1, -1, 0].map(|value| world.give(2, 0, value));
    let locks = [i64::MIN, -1, 0, (1 << 48) + 1, i64::MAX].map(|value| world.lock(2, 0, value));
    let after = ledger(&world);
    for id in gifts.iter().chain([&counted, &small, &again]) {
        assert_eq!(after.standing(id), Some(Standing::Counted));
    }
    // One fits; the other brings nothing, not even after a unit was spent.
    assert_eq!(headroom(&after, &world, 2), i64::MAX - 1);
    assert!(wild.iter().all(|id| faulty(&after, id) == LedgerFault::AmountSize));
    assert!(locks.iter().all(|id| faulty(&after, id) == LedgerFault::LockSize));
    assert_eq!(balance(&after, &world, 2), i64::MAX, "the nearest amount");
    assert_eq!(after.total(), 0);

    // Amounts of vouchers, and prices that no 64 bits hold.
    let mut world = World::new(&[(1, 1 << 48), (1, 0)]);
    let offer = world.offer(1, exo_model::event::ledger::OfferKind::Other, 1 << 48);
    let payee = world.id(1);
    let purpose = Purpose::Order { offer, units: u32::MAX };
    let order = world.post(0, LedgerEvent::Locked { payee, purpose, max: amount(1 << 48) });
    let hours = world.offer(1, exo_model::event::ledger::OfferKind::Hours, 1 << 48);
    let purpose = Purpose::Booking { offer: hours, from_ms: i64::MIN, until_ms: i64::MAX };
    let booking = world.post(0, LedgerEvent::Locked { payee, purpose, max: amount(1 << 48) });
    let lock = world.lock(0, 1, 1 << 48);
    let vouchers = [i64::MIN, -1, (1 << 48) + 1, i64::MAX].map(|value| world.settle(1, (0, 1), lock, value));
    let closes = [i64::MIN, -1, i64::MAX].map(|value| world.close((0, 1), lock, value));
    let full = world.close((0, 1), lock, 1 << 48);
    let after = ledger(&world);
    assert!([order, booking].iter().all(|id| matches!(faulty(&after, id), LedgerFault::Price { .. })));
    assert!(vouchers.iter().chain(&closes).all(|id| faulty(&after, id) == LedgerFault::AmountOutOfLock));
    assert_eq!(after.standing(&full), Some(Standing::Counted));
    assert_eq!(after.total(), 0);
}

#[test]
fn l05_a_line_and_income_beyond_64_bits_commit_what_is_there() {
    let mut world = World::new(&[(1, i64::MAX), (1, i64::MAX)]);
    let gift = world.give(0, 1, i64::MAX);
    world.count(1, &[gift]);
    let first = world.give(1, 0, i64::MAX);
    let second = world.give(1, 0, i64::MAX);
    let third = world.give(1, 0, 1);
    let ledger = ledger(&world);
    for id in [first, second] {
        assert_eq!(ledger.standing(&id), Some(Standing::Counted));
    }
    assert!(matches!(faulty(&ledger, &third), LedgerFault::Headroom { available: Amount::ZERO, .. }));
    assert_eq!(ledger.total(), 0);
}

#[test]
fn vouchers_bind_payer_payee_lock_community_and_amount() {
    let mut world = World::new(&[(1, 100), (1, 100)]);
    let (lock, other) = (world.lock(0, 1, 50), world.lock(0, 1, 50));
    let good = world.voucher(0, lock, 1, 5);
    let key = SecretKey::from_bytes(&[100; 32]);
    let elsewhere = CommunityId::from_bytes([9; 32]);
    let signatures = [
        world.voucher(1, lock, 1, 5),
        world.voucher(0, other, 1, 5),
        world.voucher(0, lock, 0, 5),
        world.voucher(0, lock, 1, 6),
        Voucher::sign(&key, &elsewhere, lock, &world.id(1), amount(5)),
    ];
    let bad = signatures.map(|voucher| {
        let voucher = voucher.signature;
        world.post(1, LedgerEvent::Settled { lock, amount: amount(5), voucher })
    });
    let unsigned = world.post(1, LedgerEvent::Closed { lock, amount: amount(5), voucher: None });
    let good = world.post(1, LedgerEvent::Settled { lock, amount: amount(5), voucher: good.signature });
    let ledger = ledger(&world);
    assert!(bad.iter().chain([&unsigned]).all(|id| faulty(&ledger, id) == LedgerFault::Voucher));
    assert_eq!(ledger.standing(&good), Some(Standing::Counted));
    assert_eq!([0, 1].map(|device| balance(&ledger, &world, device)), [-5, 5]);
}

#[test]
fn a_verdict_gives_back_what_the_payee_claimed_and_never_more() {
    let mut world = World::new(&[(1, 100), (1, 0)]);
    let lock = world.lock(0, 1, 80);
    let posted = world.settle(0, (0, 1), lock, 60);
    let verdict = world.charter.add(Fact::Judged { lock, refund: 50, parties: world.parties(0, 1) });
    world.count(0, &[verdict]);
    let unclaimed = ledger(&world);
    assert_eq!([0, 1].map(|device| balance(&unclaimed, &world, device)), [-10, 10]);
    assert_eq!(headroom(&unclaimed, &world, 0), 20, "the payee may still close lower");

    world.count(1, &[posted]);
    let claimed = ledger(&world);
    assert_eq!([0, 1].map(|device| headroom(&claimed, &world, device)), [70, 10]);
    let close = world.close((0, 1), lock, 60);
    world.count(0, &[close, verdict]);
    let closed = ledger(&world);
    assert_eq!([0, 1].map(|device| headroom(&closed, &world, device)), [90, 10]);
    assert_eq!([0, 1].map(|device| balance(&closed, &world, device)), [-10, 10]);
}

#[test]
fn what_a_revoked_device_leaves_is_its_heirs() {
    let mut world = World::new(&[(2, 0), (1, 1_000)]);
    let gift = world.give(2, 0, 100);
    let late = world.give(2, 0, 7);
    world.count(0, &[gift]);
    let lock = world.lock(0, 2, 40);
    let revocation = world.revoke(0);
    let before = ledger(&world);
    let heads = world.charter.heads();
    assert_eq!(before.countable(&world.id(1), &heads, &world.charter), [revocation]);
    world.count(1, &[revocation, revocation, gift]);
    let close = world.close((0, 2), lock, 15);
    world.count(1, &[late, close]);
    let ledger = ledger(&world);
    assert_eq!(headroom(&ledger, &world, 1), 60 + 7 + 25);
    assert_eq!([0, 1, 2].map(|device| balance(&ledger, &world, device)), [0, 92, -92]);
    let heads = world.charter.heads();
    assert!(ledger.countable(&world.id(1), &heads, &world.charter).is_empty());
}

#[test]
fn every_order_of_a_few_events_gives_one_state() {
    let mut world = World::new(&[(2, 100), (1, 50)]);
    let lock = world.lock(0, 2, 60);
    let settled = world.settle(0, (0, 2), lock, 30);
    let close = world.close((0, 2), lock, 40);
    world.count(2, &[close, settled]);
    world.count(0, &[close]);
    world.lock(2, 0, 90);
    let forked = every_order(&world);
    assert_eq!(balance(&forked, &world, 2), 40);

    let (mut world, _, settled) = double_spend();
    world.count(1, &[settled[0]]);
    world.give(1, 2, 100);
    every_order(&world);
    world.prove(0, Place { segment: 0, seq: 1 }, vec![settled[0]]);
    let proven = every_order(&world);
    assert_eq!([0, 1, 2].map(|device| balance(&proven, &world, device)), [-100, 0, 100]);
}

fn every_order(world: &World) -> Ledger {
    let whole = ledger(world);
    let mut orders = Vec::new();
    permute(&mut (0..world.events.len()).collect(), 0, &mut orders);
    for order in orders {
        let mut ledger = Ledger::new(COMMUNITY);
        for index in &order {
            ledger.insert([world.events[*index].clone()], &world.charter);
            assert_eq!(ledger.total(), 0);
        }
        assert_eq!(ledger.encode_state(), whole.encode_state(), "{order:?}");
        for event in &world.events {
            assert_eq!(ledger.standing(&event.id), whole.standing(&event.id), "{order:?}");
        }
    }
    whole
}

fn permute(items: &mut Vec<usize>, from: usize, all: &mut Vec<Vec<usize>>) {
    if from == items.len() {
        all.push(items.clone());
    }
    for at in from..items.len() {
        items.swap(from, at);
        permute(items, from + 1, all);
        items.swap(from, at);
    }
}

#[test]
fn what_waits_for_the_charter_is_judged_when_it_comes() {
    let mut world = World::new(&[(1, 100), (1, 0)]);
    let lock = world.lock(0, 1, 80);
    let mut early = world.charter.clone();
    early.here -= 1;
    let mut ledger = Ledger::new(COMMUNITY);
    ledger.insert(world.events.iter().cloned(), &early);
    assert_eq!(ledger.standing(&lock), Some(Standing::Waiting));
    ledger.resume(&world.charter);
    assert_eq!(ledger.standing(&lock), Some(Standing::Counted));
    let heads: Arc<[ChangeHash]> = world.charter.heads();
    assert!(world.charter.is_ready(&heads));
    let stranger = DeviceId::from_bytes([3; 32]);
    assert_eq!(ledger.headroom(&stranger, &heads, &world.charter), Amount::ZERO);
}

/// `cargo test -p exo-model --test ledger_rules -- --ignored --nocapture`
#[test]
#[ignore = "prints figures"]
#[allow(clippy::print_stdout, reason = "that is what it is for")]
fn events_per_second() {
    const JOBS: usize = 20_000;
    let time = |what: &str, count: usize, work: &mut dyn FnMut()| {
        let start = std::time::Instant::now();
        work();
        let rate = f64::from(u32::try_from(count).expect("few")) / start.elapsed().as_secs_f64();
        println!("{what}: {rate:.0} events/s");
    };
    for vouched in [false, true] {
        let mut world = World::new(&[(1, 1 << 40), (1, 0)]);
        for _ in 0..JOBS {
            let lock = world.lock(0, 1, 1_000);
            let mut brings = Vec::new();
            if vouched {
                brings.push(world.settle(1, (0, 1), lock, 500));
            }
            let close = world.close((0, 1), lock, if vouched { 700 } else { 0 });
            brings.push(close);
            world.count(1, &brings);
            world.count(0, &[close]);
        }
        let (events, charter) = (world.events, world.charter);
        let portions: Vec<Vec<_>> = events.chunks(64).map(<[_]>::to_vec).collect();
        let mut portions = portions.into_iter();
        let mut ledger = Ledger::new(COMMUNITY);
        let what = if vouched { "appended, two of five with a signature" } else { "appended, none signed" };
        time(what, events.len(), &mut || {
            portions.by_ref().for_each(|events| ledger.insert(events, &charter))
        });
        assert_eq!(ledger.locks().len(), JOBS);
        time("judged again", events.len(), &mut || ledger.recompute(&charter));
        assert_eq!(ledger.total(), 0);
    }
}
