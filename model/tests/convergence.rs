//! M5: the state is a function of the set of events. Every order of delivery,
//! at once or event by event, gives the same state and the same hash.

#[allow(dead_code, reason = "each test binary uses its part")]
mod common;

use common::{Rng, World, channel_event, every_kind, manifest, posting, reduced};
use exo_model::weights::LayerRange;
use exo_model::{BlobHash, CommunityState, Event, VerifiedEvent};

/// A short history in six batches, one writer each, with races: two members
/// admit on a one-use invite at the same Lamport time.
fn six_batches() -> (World, Vec<Vec<VerifiedEvent>>) {
    let mut world = World::found(-1_000);
    let many = world.invites(201, 5);
    let one = world.invites(202, 1);
    let (ana, ben) = (world.welcomes(&many, 0), world.welcomes(&many, 0));
    let (cleo, dan) = (world.stranger(), world.stranger());
    for (host, who) in [(ana, cleo), (ben, dan)] {
        let admission = world.admission(&one, who, "Newcomer");
        world.says_at(host, 50, &admission);
    }
    for who in [cleo, dan] {
        world.says_at(
            who,
            60,
            &Event::MachineOffered { memory_bytes: 1, micros_per_mib: 2, addresses: Vec::new() },
        );
    }
    let lock = world.says_at(ana, 70, &world.lock_event(1, ben, 600));
    world.says_at(ana, 71, &world.lock_event(2, ben, 600));
    let voucher = posting(&world.voucher(ana, lock.hash, ben, 500));
    world.says_at(ben, 72, &voucher);
    world.says_at(ben, 73, &Event::Closed { lock: lock.hash });
    world.says_at(ana, 74, &channel_event(1, "void"));
    world.says_at(0, 74, &channel_event(2, "counts"));
    let batches = by_writer(&world);
    (world, batches)
}

/// The founder's events apart into founding and rest; the others by device.
fn by_writer(world: &World) -> Vec<Vec<VerifiedEvent>> {
    let mut batches = vec![vec![world.events[0].clone()]];
    for device in &world.devices {
        let written = |event: &&VerifiedEvent| event.feed.device == device.id();
        batches.push(world.events[1..].iter().filter(written).cloned().collect());
    }
    batches
}

/// Every order of `count` things.
fn permutations(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(count - 1);
    let inserted = shorter.iter().flat_map(|order| {
        (0..count).map(|at| {
            let mut order = order.clone();
            order.insert(at, count - 1);
            order
        })
    });
    inserted.collect()
}

#[test]
fn m05_all_720_delivery_orders_of_six_batches_give_one_state() {
    let (world, batches) = six_batches();
    assert_eq!(batches.len(), 6);
    let expected = world.state();
    let orders = permutations(6);
    assert_eq!(orders.len(), 720);
    for order in orders {
        let community = reduced(world.id, order.iter().map(|at| batches[*at].as_slice()));
        assert_eq!(community.state(), expected, "{order:?}");
        assert_eq!(community.state().hash(), expected.hash(), "{order:?}");
    }
}

#[test]
fn the_short_history_says_what_its_events_say() {
    let (world, _) = six_batches();
    let state = world.state();
    assert_eq!((state.members.len(), state.channels.len(), state.ledger.locks().len()), (4, 1, 1));
    assert_eq!((world.balance(1), world.balance(2)), (-500, 500));
    assert_eq!(state.machines.len(), 1, "only the race's winner may offer");
}

/// About 120 events of every kind by members, an outsider and a loser of a
/// race, many of them void, with Lamport times that collide.
fn long_history(seed: u64) -> World {
    let (mut world, mut rng) = (World::of_members(5, -5_000), Rng(seed));
    let tickets: Vec<_> = (0..3).map(|i| world.invites(210 + i, 1 + u32::from(i))).collect();
    let outsider = world.stranger();
    for step in 0..110_u8 {
        let who = rng.below(world.devices.len());
        let lamport = 20 + u64::from(step / 4);
        let event = match rng.below(9) {
            0 => {
                let newcomer = if world.devices.len() < 14 { world.stranger() } else { outsider };
                world.admission(&tickets[rng.below(3)], newcomer, "New")
            }
            1 => channel_event(rng.byte() % 4, "talk"),
            2 => Event::MachineOffered { memory_bytes: rng.next(), micros_per_mib: 1, addresses: Vec::new() },
            3 => Event::ModelAdded { manifest: manifest(rng.byte() % 3) },
            4 => Event::ShardHosted {
                model: BlobHash::from_bytes([1; 32]),
                layers: LayerRange::new(0, 1 + u32::from(step)).expect("in bounds"),
            },
            5 => Event::ShardDropped { model: BlobHash::from_bytes([1; 32]) },
            6 => {
                Event::InviteIssued { key: world.ticket(220 + rng.byte() % 3).key(), uses: 1, expires_ms: 0 }
            }
            _ => money(&world, &mut rng, who),
        };
        world.says_at(who, lamport, &event);
    }
    world
}

/// A lock, a voucher (sometimes someone else's) or a close.
fn money(world: &World, rng: &mut Rng, who: usize) -> Event {
    let (payer, payee) = (rng.below(5), rng.below(5));
    let locks: Vec<_> = world.state().ledger.locks().keys().copied().collect();
    match (rng.below(3), locks.is_empty()) {
        (0, _) | (_, true) => world.lock_event(rng.byte(), payee, 1 + (rng.next() % 2_000).cast_signed()),
        (1, _) => {
            let lock = locks[rng.below(locks.len())];
            posting(&world.voucher(payer, lock, who, (rng.next() % 2_000).cast_signed()))
        }
        _ => Event::Closed { lock: locks[rng.below(locks.len())] },
    }
}

fn assert_same(state: &CommunityState, expected: &CommunityState, what: &str) {
    assert_eq!(state, expected, "{what}");
    assert_eq!(state.hash(), expected.hash(), "{what}");
}

#[test]
fn m05_p01_thirty_shuffles_of_long_histories_incremental_and_fresh_agree() {
    for seed in 0..3 {
        let (world, mut rng) = (long_history(seed), Rng(100 + seed));
        let fresh = reduced(world.id, [world.events.as_slice()]);
        assert_same(world.state(), fresh.state(), "as it grew");
        for round in 0..10 {
            let mut events = world.events.clone();
            rng.shuffle(&mut events);
            let chunk = 1 + rng.below(events.len() / 2);
            let community = reduced(world.id, events.chunks(chunk));
            assert_same(
                community.state(),
                fresh.state(),
                &format!("seed {seed} round {round} chunk {chunk}"),
            );
        }
    }
}

#[test]
fn m05_one_event_at_a_time_backwards_agrees() {
    let world = long_history(7);
    let community = reduced(world.id, world.events.chunks(1).rev());
    assert_same(community.state(), world.state(), "backwards");
}

#[test]
fn p01_every_prefix_of_a_delivery_equals_a_fresh_reduce_of_it() {
    let (world, mut rng) = (long_history(9), Rng(9));
    let mut events = world.events.clone();
    rng.shuffle(&mut events);
    let mut growing = exo_model::Community::new(world.id);
    for (count, event) in (1..).zip(&events) {
        growing.insert([event]);
        if count % 10 == 0 {
            assert_same(growing.state(), reduced(world.id, [&events[..count]]).state(), "a prefix");
        }
    }
}

#[test]
fn events_delivered_again_change_nothing() {
    let world = long_history(5);
    let mut community = reduced(world.id, [world.events.as_slice()]);
    let once = community.state().clone();
    let mut rng = Rng(5);
    for _ in 0..5 {
        let mut again = world.events.clone();
        rng.shuffle(&mut again);
        assert!(!community.insert(&again), "nothing is new");
        assert_same(community.state(), &once, "again");
    }
}

#[test]
fn n01_events_of_another_community_are_not_taken() {
    let world = World::of_members(3, -1_000);
    let mut other = World::found(-5);
    assert_ne!(world.id, other.id);
    let before = other.state().clone();
    assert!(!other.community.insert(&world.events));
    assert_same(other.state(), &before, "untouched");
    let change = other.community.next_change(&every_kind()[3], 0);
    let envelope = exo_model::envelope::Envelope::decode(&change.payload).expect("readable");
    assert_eq!(envelope.lamport, 2, "not even its clock");
}
