//! P1 and P2: views fed event by event equal views built at once; views behind
//! the store catch up; a torn log is an earlier whole batch.

use exo_projections::Views;

use crate::grown::grown;
use crate::world::Rng;
use crate::{Folder, Follower, assert_same, crash_image, missing, rebuilt};

/// As the founder sees it, whom a channel is closed to, and as a member does
/// who reads all of it.
#[test]
fn p1_incremental_equals_rebuild() {
    let mut reopened = 0;
    for seed in 0..5 {
        let world = grown(seed, 80);
        let mut rng = Rng::new(!seed);
        for reader in [0, 2] {
            let whole = world.reader(reader);
            let (events, state) = (&whole.events, whole.community.state());
            let expected = rebuilt(events, state);
            assert!(expected.lines().count() > 60, "seed {seed}: a community worth comparing");
            let folder = Folder::new();
            let views = Views::open(folder.path()).expect("a new file");
            let mut follower = Follower::new(views, world.blank(reader));
            for batch in world.shuffled(&mut rng) {
                follower.take(&batch);
            }
            assert_eq!(follower.home.hash(), whole.hash(), "seed {seed}, reader {reader}");
            assert_same(&follower.dump(), &expected, &format!("seed {seed}, reader {reader}"));
            reopened += follower.reopened;
            // The other way to rebuild: in place.
            let mut views = follower.views;
            views.clear().expect("cleared");
            assert!(views.cursors().expect("cursors").is_empty());
            views.apply(events, state).expect("applied");
            assert_same(&views.dump().expect("dumped"), &expected, &format!("seed {seed}, cleared"));
        }
    }
    assert!(reopened > 10, "keys that come late: {reopened}");
}

#[test]
fn p1_every_prefix_equals_its_rebuild() {
    let world = grown(5, 40);
    let folder = Folder::new();
    let views = Views::open(folder.path()).expect("a new file");
    let mut follower = Follower::new(views, world.blank(2));
    for batch in world.shuffled(&mut Rng::new(1)) {
        follower.take(&batch);
        let expected = follower.rebuilt();
        let events = follower.home.events.len();
        assert_same(&follower.dump(), &expected, &format!("after {events} events"));
    }
}

#[test]
fn p2_views_behind_the_store_catch_up() {
    for seed in 20..24 {
        let world = grown(seed, 60);
        let whole = world.reader(2);
        let mut rng = Rng::new(seed);
        let mut batches = world.shuffled(&mut rng);
        // The store has all of it, the views a part: for want of keys, not
        // even what they took is whole.
        batches.truncate(1 + rng.below(batches.len() - 1));
        let folder = Folder::new();
        let views = Views::open(folder.path()).expect("a new file");
        let mut follower = Follower::new(views, world.blank(2));
        for batch in &batches {
            follower.take(batch);
        }
        drop(follower);

        let mut views = Views::open(folder.path()).expect("the same file");
        let rest = missing(&views, &whole.events);
        assert!(!rest.is_empty(), "seed {seed}");
        views.apply(&rest, whole.community.state()).expect("applied");
        let expected = rebuilt(&whole.events, whole.community.state());
        assert_same(&views.dump().expect("dumped"), &expected, &format!("seed {seed}"));
    }
}

/// A process killed at any moment leaves the log cut at any byte: between
/// batches, inside one, inside a page.
#[test]
fn p2_a_log_torn_anywhere_is_a_whole_earlier_batch() {
    let world = grown(25, 60);
    let whole = world.reader(2);
    let (events, state) = (&whole.events, whole.community.state());
    let expected = rebuilt(events, state);
    let mut rng = Rng::new(40);
    let folder = Folder::new();
    let views = Views::open(folder.path()).expect("a new file");
    let mut follower = Follower::new(views, world.blank(2));
    let mut moments = Vec::new();
    for batch in world.shuffled(&mut rng) {
        follower.take(&batch);
        moments.push(follower.dump());
    }
    let log = folder.0.path().join("views.db-wal");
    let log_bytes = usize::try_from(std::fs::metadata(log).expect("a log").len()).expect("small");
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..25 {
        let crashed = Folder::new();
        crash_image(&folder.path(), &crashed.path(), rng.below(log_bytes + 1));
        let mut found = Views::open(crashed.path()).expect("recovered");
        if found.community().expect("readable").is_some() {
            let dump = found.dump().expect("dumped");
            let moment = moments.iter().position(|moment| *moment == dump);
            seen.insert(moment.expect("what some batch left behind"));
        }
        found.apply(&missing(&found, events), state).expect("applied");
        assert_same(&found.dump().expect("dumped"), &expected, "after catching up");
    }
    assert!(seen.len() > 5, "the cuts met {} moments", seen.len());
}
