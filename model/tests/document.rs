//! Feeds against Automerge itself: what our encoder says a feed is, Automerge
//! reads the same, and writes the same when it commits the events itself.

#[path = "support/seeded.rs"]
#[allow(dead_code, reason = "each test binary uses its part")]
mod seeded;

use automerge::transaction::{CommitOptions, Transactable as _};
use automerge::{ActorId, Automerge, ROOT, ReadDoc as _};
use exo_model::envelope::ENVELOPE_BYTES_MAX;
use exo_model::feed::document::{audit, encode_file};
use exo_model::feed::{Change, FeedPosition, TIME_MS_MAX, chunk};
use exo_model::{ChangeHash, CommunityId, DeviceId, FeedId, Stream};
use seeded::Rng;

fn change(time_ms: i64, payload: &[u8]) -> Change {
    Change { time_ms, payload: payload.to_vec() }
}

fn random_feed(rng: &mut Rng) -> FeedId {
    let device: [u8; 32] = rng.bytes(32).try_into().expect("32 bytes");
    FeedId::new(CommunityId::from_bytes([1; 32]), DeviceId::from_bytes(device), Stream::Charter)
}

/// Times and lengths lean to where LEB128 grows a byte.
fn random_change(rng: &mut Rng) -> Change {
    let time_ms = match rng.below(3) {
        0 => (rng.next() & 0x1_ffff).cast_signed(),
        1 => (1_i64 << rng.below(47)) - i64::from(rng.one_in(2)),
        _ => (rng.next() & 0x7fff_ffff_ffff).cast_signed(),
    };
    let len = match rng.below(12) {
        0 => 120 + rng.below(16),
        1 => 2_040 + rng.below(16),
        2 => ENVELOPE_BYTES_MAX - rng.below(2),
        3 => 250 + rng.below(12),
        _ => 1 + rng.below(90),
    };
    change(time_ms.min(TIME_MS_MAX), &rng.bytes(len))
}

fn random_changes(rng: &mut Rng, count: usize) -> Vec<Change> {
    (0..count).map(|_| random_change(rng)).collect()
}

/// Commits the same events with Automerge's own transactions.
fn automerges_own(feed: &FeedId, changes: &[Change]) -> Automerge {
    let mut document = Automerge::new().with_actor(ActorId::from(feed.device.as_bytes().as_slice()));
    for (seq, change) in (1..).zip(changes) {
        let mut transaction = document.transaction();
        transaction.put(ROOT, chunk::key(seq), change.payload.clone()).expect("one put");
        transaction.commit_with(CommitOptions::default().with_time(change.time_ms));
    }
    document
}

#[test]
fn automerge_reads_hundreds_of_random_changes_as_we_wrote_them() {
    let mut rng = Rng(11);
    for count in [0, 1, 2, 127, 128, 400] {
        let feed = random_feed(&mut rng);
        let changes = random_changes(&mut rng, count);
        let (_, end) = encode_file(&feed, &changes);
        assert_eq!(audit(&feed, &changes).expect("readable"), end.hash, "{count} changes");
    }
}

#[test]
fn automerges_own_commits_have_our_heads_and_our_bytes() {
    let mut rng = Rng(12);
    for count in [1, 3, 300] {
        let feed = random_feed(&mut rng);
        let changes = random_changes(&mut rng, count);
        let document = automerges_own(&feed, &changes);
        let (file, end) = encode_file(&feed, &changes);
        assert_eq!(
            document.get_heads().iter().map(|head| head.0).collect::<Vec<_>>(),
            [*end.hash.as_bytes()]
        );
        let theirs: Vec<u8> =
            document.get_changes(&[]).iter().flat_map(|change| change.raw_bytes().to_vec()).collect();
        assert!(theirs == file, "{count} changes byte for byte");
    }
}

#[test]
fn every_event_not_only_the_last_is_in_the_document() {
    let mut rng = Rng(13);
    let feed = random_feed(&mut rng);
    let changes = random_changes(&mut rng, 260);
    let (file, _) = encode_file(&feed, &changes);
    let document = Automerge::load(&file).expect("readable");
    let keys: Vec<String> = document.keys(ROOT).collect();
    assert_eq!(keys, (1..=260).map(chunk::key).collect::<Vec<_>>(), "key order is writing order");
    for (key, change) in keys.iter().zip(&changes) {
        let (value, _) = document.get(ROOT, key).expect("readable").expect("there");
        assert!(value.as_bytes() == Some(change.payload.as_slice()), "{key}");
    }
}

#[test]
fn a11_a_cut_file_is_a_shorter_feed_or_unreadable_never_another() {
    let mut rng = Rng(14);
    let feed = random_feed(&mut rng);
    let changes: Vec<Change> = (0..20).map(|_| change(7, &rng.bytes(30))).collect();
    let (file, _) = encode_file(&feed, &changes);
    let heads: Vec<_> = (0..=20).map(|count| encode_file(&feed, &changes[..count]).1.hash).collect();
    for _ in 0..60 {
        let cut = rng.below(file.len());
        let Ok(document) = Automerge::load(&file[..cut]) else { continue };
        let known =
            document.get_heads().iter().all(|head| heads.iter().any(|ours| ours.as_bytes() == &head.0));
        assert!(known, "cut at {cut}");
    }
}

#[test]
fn the_hash_depends_on_every_input_of_the_chain() {
    let device = DeviceId::from_bytes([1; 32]);
    let at = FeedPosition { seq: 5, hash: ChangeHash::from_bytes([2; 32]) };
    let base = change(1_000, b"payload");
    let hash = chunk::change_hash(&device, &at, &base);
    let others = [
        chunk::change_hash(&DeviceId::from_bytes([3; 32]), &at, &base),
        chunk::change_hash(&device, &FeedPosition { seq: 6, ..at }, &base),
        chunk::change_hash(&device, &FeedPosition { hash: ChangeHash::from_bytes([4; 32]), ..at }, &base),
        chunk::change_hash(&device, &at, &change(1_001, b"payload")),
        chunk::change_hash(&device, &at, &change(1_000, b"paylobd")),
    ];
    assert!(others.iter().all(|other| *other != hash));
}
