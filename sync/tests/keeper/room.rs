//! How much a keeper carries, and what that costs it.

use exo_model::feed::{Change, FeedId, Stream};
use exo_model::id::ChannelId;
use exo_sync::replica::Ingested;

use super::{keeper, keeper_with, remove};
use crate::common::{Author, Home, NOW, device};

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// Runs of 32 × 16,000 bytes that mean nothing.
fn flood(home: &Home, seed: u8, runs: usize) -> Vec<exo_model::feed::Run> {
    let mut author = Author::new(seed);
    let feed = home.messages_of(device(seed));
    let change = Change { time_ms: NOW, payload: vec![7; 16_000] };
    (0..runs).map(|_| author.run(feed, vec![change.clone(); 32])).collect()
}

#[tokio::test]
async fn one_device_alone_fills_no_keeper() {
    let ana = Home::found(1);
    for seed in [2, 3] {
        ana.admit(seed).await;
    }
    let keeper = keeper_with(&ana, 9, 16 << 20).await;
    keeper.pull(&ana).await;
    let mut stored = 0;
    for (day, run) in flood(&ana, 2, 100).into_iter().enumerate() {
        // Quotas delay; here it is about the room.
        keeper.clock.set(NOW + DAY_MS * i64::try_from(day).expect("few"));
        match keeper.replica.ingest(run).await.expect("authentic") {
            Ingested::Stored(_) => stored += 32 * 16_000,
            Ingested::Deferred => break,
            Ingested::Known => panic!("new"),
        }
    }
    assert!((7 << 20..=8 << 20).contains(&stored), "half of the room: {stored}");
    // Everyone else still has a share, and the keeper hears who went.
    for run in flood(&ana, 3, 7) {
        assert_eq!(keeper.replica.ingest(run).await.expect("room"), Ingested::Stored(32));
    }
    ana.post("and so has its owner").await;
    ana.replica.record(remove(2)).await.expect("an owner may");
    keeper.pull(&ana).await;
    assert!(!keeper.replica.knows_device(&device(2)));
    assert_eq!(keeper.end_of(&ana.messages_of(device(1))).await.seq, 1);
    let kept = keeper.replica.snapshot().kept.expect("a keeper");
    assert!(kept.carried_bytes <= kept.room_bytes, "{kept:?}");
    let again = keeper.reopen().await;
    assert_eq!(again.replica.snapshot().kept.expect("a keeper").carried_bytes, kept.carried_bytes);
}

#[tokio::test]
async fn the_room_can_be_changed_and_stays_changed() {
    let ana = Home::found(1);
    ana.admit(2).await;
    let keeper = keeper_with(&ana, 9, 1 << 20).await;
    keeper.pull(&ana).await;
    let runs = flood(&ana, 2, 2);
    assert_eq!(keeper.replica.ingest(runs[0].clone()).await.expect("room"), Ingested::Stored(32));
    assert_eq!(keeper.replica.ingest(runs[1].clone()).await.expect("none left"), Ingested::Deferred);
    keeper.replica.keep_up_to(16 << 20).await.expect("written");
    assert_eq!(keeper.replica.ingest(runs[1].clone()).await.expect("room"), Ingested::Stored(32));
    let carried = keeper.replica.snapshot().kept.expect("a keeper").carried_bytes;
    keeper.replica.keep_up_to(carried / 2).await.expect("written");
    let again = keeper.reopen().await;
    let kept = again.replica.snapshot().kept.expect("a keeper");
    assert_eq!(kept.room_bytes, carried / 2);
    assert_eq!(kept.carried_bytes, carried, "what is carried stays");
    // Who reads has no room to change.
    ana.replica.keep_up_to(1).await.expect("nothing happens");
    assert!(ana.replica.snapshot().kept.is_none());
}

#[tokio::test]
async fn feeds_that_a_device_makes_up_are_bounded() {
    let ana = Home::found(1);
    ana.admit(2).await;
    let keeper = keeper(&ana, 9).await;
    keeper.pull(&ana).await;
    let mut stored = 0;
    for n in 0..4_200_u32 {
        let mut id = [0; ChannelId::LEN];
        id[..4].copy_from_slice(&n.to_be_bytes());
        let feed = FeedId::new(ana.community, device(2), Stream::Channel(ChannelId::from_bytes(id)));
        let run = Author::new(2).run(feed, vec![Change { time_ms: NOW, payload: vec![7] }]);
        stored += usize::from(keeper.replica.ingest(run).await.expect("authentic") == Ingested::Stored(1));
    }
    assert_eq!(stored, 4_096);
}

/// Kilobytes that this process holds in memory of its own.
fn resident_kib() -> u64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let pss = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
    pss.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// `cargo test -p exo-sync --test keeper -- --ignored --nocapture what_a_keeper_costs`
#[allow(clippy::print_stdout, reason = "figures, for whoever runs it by hand")]
#[tokio::test]
#[ignore = "a measurement"]
#[expect(clippy::print_stdout, reason = "what it is for")]
async fn what_a_keeper_costs_with_100_000_messages() {
    let ana = Home::found(1);
    ana.admit(2).await;
    let keeper = keeper(&ana, 9).await;
    keeper.pull(&ana).await;
    let before = resident_kib();
    let mut author = Author::new(2);
    let started = std::time::Instant::now();
    for number in 0..25_u32 {
        let mut id = [0; ChannelId::LEN];
        id[..4].copy_from_slice(&number.to_be_bytes());
        let feed = FeedId::new(ana.community, device(2), Stream::Channel(ChannelId::from_bytes(id)));
        for _ in 0..16 {
            let change = Change { time_ms: NOW, payload: vec![7; 200] };
            let run = author.run(feed, vec![change; 250]);
            assert_eq!(keeper.replica.ingest(run).await.expect("room"), Ingested::Stored(250));
        }
    }
    let took = started.elapsed();
    let grown = resident_kib().saturating_sub(before);
    let size = std::fs::metadata(keeper.path()).expect("a store").len();
    println!("100,000 carried in {took:?}, {grown} KiB more PSS, {size} bytes on disk");
    let folder = keeper.folder.clone();
    let community = keeper.community;
    keeper.close().await;
    let started = std::time::Instant::now();
    let again = Home::open(9, community, folder, Vec::new());
    println!("opened in {:?}; {} KiB PSS", started.elapsed(), resident_kib());
    assert_eq!(again.replica.snapshot().kept.expect("a keeper").carried_bytes / 20_000_000, 1);
}
