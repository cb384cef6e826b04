//! P1, P2, P3 of HAZARDS.md.

use exo_model::community::Community;
use exo_projections::{Reader, Views};

use crate::world::{Rng, World, grown};
use crate::{Home, assert_same, crash_image, follow, missing, rebuilt};

#[test]
fn p1_incremental_equals_rebuild() {
    for seed in 0..12 {
        let world = grown(seed, 120);
        let (events, state) = (world.events(), world.state());
        let expected = rebuilt(&events, &state);
        assert!(expected.lines().count() > 60, "seed {seed}: a community worth comparing");
        let mut rng = Rng::new(!seed);
        for round in 0..3 {
            let home = Home::new();
            let mut views = Views::open(home.path()).expect("a new file");
            let mut community = Community::new(world.id);
            follow(&mut views, &mut community, &world.shuffled(&mut rng));
            assert_eq!(*community.state(), state, "seed {seed}, round {round}");
            assert_same(&views.dump().expect("dumped"), &expected, &format!("seed {seed}, round {round}"));
            // The other way to rebuild: in place.
            views.clear().expect("cleared");
            assert!(views.cursors().expect("cursors").is_empty());
            views.apply(&events, &state).expect("applied");
            assert_same(&views.dump().expect("dumped"), &expected, &format!("seed {seed}, cleared"));
        }
    }
}

#[test]
fn p1_every_prefix_equals_its_rebuild() {
    let world = grown(77, 60);
    let home = Home::new();
    let mut views = Views::open(home.path()).expect("a new file");
    let mut community = Community::new(world.id);
    let mut applied = Vec::new();
    for batch in world.shuffled(&mut Rng::new(1)) {
        follow(&mut views, &mut community, std::slice::from_ref(&batch));
        applied.extend(batch);
        let expected = rebuilt(&applied, community.state());
        assert_same(&views.dump().expect("dumped"), &expected, &format!("after {} events", applied.len()));
    }
}

#[test]
fn p2_views_behind_the_store_catch_up() {
    for seed in 20..28 {
        let world = grown(seed, 100);
        let (events, state) = (world.events(), world.state());
        let mut rng = Rng::new(seed);
        let mut batches = world.shuffled(&mut rng);
        // The store has all of it, the views a part.
        batches.truncate(rng.below(batches.len()));
        let home = Home::new();
        let mut views = Views::open(home.path()).expect("a new file");
        follow(&mut views, &mut Community::new(world.id), &batches);
        drop(views);

        let mut views = Views::open(home.path()).expect("the same file");
        let rest = missing(&views, &events);
        assert!(!rest.is_empty(), "seed {seed}");
        views.apply(&rest, &state).expect("applied");
        assert_same(&views.dump().expect("dumped"), &rebuilt(&events, &state), &format!("seed {seed}"));
        assert!(missing(&views, &events).is_empty());
    }
}

/// A process killed at any moment leaves the log cut at any byte: between
/// batches, inside one, inside a page.
#[test]
fn p2_a_log_torn_anywhere_is_a_whole_earlier_batch() {
    let world = grown(40, 100);
    let (events, state) = (world.events(), world.state());
    let expected = rebuilt(&events, &state);
    let mut rng = Rng::new(40);
    let home = Home::new();
    let mut views = Views::open(home.path()).expect("a new file");
    let mut community = Community::new(world.id);
    let mut moments = Vec::new();
    for batch in world.shuffled(&mut rng) {
        follow(&mut views, &mut community, &[batch]);
        moments.push(views.dump().expect("dumped"));
    }
    let log = home.folder.path().join("views.db-wal");
    let log_bytes = usize::try_from(std::fs::metadata(log).expect("a log").len()).expect("small");
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..40 {
        let crashed = Home::new();
        crash_image(&home.path(), &crashed.path(), rng.below(log_bytes + 1));
        let mut found = Views::open(crashed.path()).expect("recovered");
        if found.community().expect("readable").is_some() {
            let dump = found.dump().expect("dumped");
            let moment = moments.iter().position(|moment| *moment == dump);
            seen.insert(moment.expect("what some batch left behind"));
        }
        found.apply(&missing(&found, &events), &state).expect("applied");
        assert_same(&found.dump().expect("dumped"), &expected, "after catching up");
    }
    assert!(seen.len() > 5, "the cuts met {} moments", seen.len());
}

/// Two members admit two devices with a one-use invite, unaware of each other.
/// The admission later in (lamport, hash) order is seen first, with what the
/// newcomer did; when the earlier one arrives, all of that must go.
#[test]
fn p3_a_late_arrival_takes_derived_rows_back() {
    for seed in 60..64 {
        let mut world = World::found(seed);
        let hall = world.create_channel("hall");
        let many = world.invite(2);
        let (ana, _) = world.admit(0, &many, "Ana").expect("admitted");
        let (ben, _) = world.admit(0, &many, "Ben").expect("admitted");
        let single = world.invite(1);
        world.tell_everyone();
        let one = world.admit(ana, &single, "Cleo").expect("as far as Ana knows");
        let two = world.admit(ben, &single, "Dan").expect("as far as Ben knows");
        let (winner, loser) = if one.1.order() < two.1.order() { (one, two) } else { (two, one) };
        for (newcomer, _) in [&winner, &loser] {
            world.post(*newcomer, hall, &format!("hello from {newcomer}")).expect("a member, to itself");
            offer_and_lock(&mut world, *newcomer);
        }

        let (won, lost) = (world.peers[winner.0].device(), world.peers[loser.0].device());
        let (winners, others): (Vec<_>, Vec<_>) = world
            .events()
            .into_iter()
            .partition(|event| event.feed == winner.1.feed && event.seq >= winner.1.seq);
        let home = Home::new();
        let mut views = Views::open(home.path()).expect("a new file");
        let mut community = Community::new(world.id);
        let reader = Reader::open(home.path()).expect("readable");

        follow(&mut views, &mut community, &[others]);
        let shown = |reader: &Reader| -> Vec<_> {
            let page = reader.messages(&hall, 10, None).expect("a page");
            page.into_iter().map(|message| message.author).collect()
        };
        assert_eq!(shown(&reader), [lost], "seed {seed}: only the loser is a member so far");
        assert_eq!(reader.transactions(10, None).expect("read").len(), 1);
        assert_eq!(reader.machines().expect("read").len(), 1);

        follow(&mut views, &mut community, &[winners]);
        // The winner's message was there all along.
        assert_eq!(shown(&reader), [won], "seed {seed}");
        assert_eq!(reader.message_count(&hall).expect("read"), 1);
        assert!(reader.members().expect("read").iter().all(|member| member.device != lost));
        assert!(reader.balances().expect("read").iter().all(|balance| balance.device != lost));
        assert!(reader.machines().expect("read").iter().all(|machine| machine.device == won));
        assert!(reader.transactions(10, None).expect("read").iter().all(|lock| lock.payer == won));
        assert_eq!(reader.jobs(10).expect("read").len(), 1);
        let expected = rebuilt(&world.events(), &world.state());
        assert_same(&reader.dump().expect("dumped"), &expected, &format!("seed {seed}"));
    }
}

fn offer_and_lock(world: &mut World, peer: usize) {
    use exo_model::amount::Amount;
    use exo_model::decide::Intent;
    let payee = world.peers[0].device();
    let offer =
        Intent::OfferMachine { memory_bytes: 1, micros_per_mib: 0, addresses: vec!["127.0.0.1:1".into()] };
    world.intend(peer, offer).expect("a member, to itself");
    let job = exo_model::JobId::from_bytes([1; 16]);
    let lock = Intent::Lock { job, payee, max: Amount::from_token_mib(100) };
    world.intend(peer, lock).expect("a member, to itself");
}
