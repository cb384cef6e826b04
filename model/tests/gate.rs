//! The gate under attack: whatever is done to a run, only the exact
//! continuation of its feed gets in, and a bad run leaves nothing.

#[path = "gate/mutants.rs"]
mod mutants;
mod samples;
#[path = "support/seeded.rs"]
#[allow(dead_code, reason = "each test binary uses its part")]
mod seeded;

use exo_model::feed::gate::{RUN_CHANGES_MAX, Rejection, admit};
use exo_model::feed::{Change, FeedPosition, Run, SEGMENT_CHANGES_MAX, SEGMENTS_MAX, chunk};
use exo_model::id::BoardId;
use exo_model::port::Signer as _;
use exo_model::signature::{SecretKey, Signature};
use exo_model::{ChangeHash, ChannelId, CommunityId, DeviceId, FeedId, Stream};
use samples::{COMMUNITY, author as key, change, feed};

fn payloads(count: usize) -> Vec<Change> {
    (0..count).map(|i| change(1_000 + i as i64, format!("event {i}").as_bytes())).collect()
}

/// The position after `changes` written from `from` on.
fn end_of(feed: &FeedId, from: FeedPosition, changes: &[Change]) -> FeedPosition {
    changes.iter().fold(from, |end, change| FeedPosition {
        seq: end.seq + 1,
        hash: chunk::change_hash(&feed.device, &end, change),
    })
}

/// A run as its author makes it, even where its contents are out of bounds.
fn signed(feed: FeedId, from: FeedPosition, changes: Vec<Change>) -> Run {
    let end = end_of(&feed, from, &changes);
    Run { feed, first_seq: from.seq + 1, changes, signature: key().sign(&feed.signed_message(&end)) }
}

/// A feed of three changes, and the honest run of four that continues it.
fn honest() -> (FeedPosition, Run) {
    let feed = feed(Stream::Ledger);
    let known = end_of(&feed, FeedPosition::START, &payloads(3));
    (known, signed(feed, known, payloads(4)))
}

type Twist = fn(&mut Run);

fn identity_twists() -> Vec<(&'static str, Twist)> {
    vec![
        ("community", |run| run.feed.community = CommunityId::from_bytes([2; 32])),
        ("device", |run| run.feed.device = SecretKey::from_bytes(&[6; 32]).device()),
        ("device that is no curve point", |run| run.feed.device = DeviceId::from_bytes([2; 32])),
        ("stream", |run| run.feed.stream = Stream::Charter),
        ("stream of a channel", |run| run.feed.stream = Stream::Channel(ChannelId::from_bytes([0; 16]))),
        ("segment", |run| run.feed.segment = 1),
        ("segment max", |run| run.feed.segment = u32::MAX),
    ]
}

fn place_twists() -> Vec<(&'static str, Twist)> {
    vec![
        ("seq zero", |run| run.first_seq = 0),
        ("seq one early", |run| run.first_seq -= 1),
        ("seq one late", |run| run.first_seq += 1),
        ("seq from the start", |run| run.first_seq = 1),
        ("seq max", |run| run.first_seq = u64::MAX),
        ("seq past 32 bits", |run| run.first_seq += 1 << 32),
    ]
}

fn content_twists() -> Vec<(&'static str, Twist)> {
    vec![
        ("first time", |run| run.changes[0].time_ms += 1),
        ("last time", |run| run.changes[3].time_ms -= 1),
        ("time zero", |run| run.changes[1].time_ms = 0),
        ("payload longer", |run| run.changes[0].payload.push(0)),
        ("payload shorter", |run| run.changes[3].payload.truncate(3)),
        ("payload flipped", |run| run.changes[2].payload[0] ^= 1),
        ("byte moved over a boundary", |run| {
            let byte = run.changes[1].payload.pop().expect("not empty");
            run.changes[2].payload.insert(0, byte);
        }),
    ]
}

fn list_twists() -> Vec<(&'static str, Twist)> {
    vec![
        ("swapped first", |run| run.changes.swap(0, 1)),
        ("swapped last", |run| run.changes.swap(2, 3)),
        ("reversed", |run| run.changes.reverse()),
        ("dropped first", |run| drop(run.changes.remove(0))),
        ("dropped middle", |run| drop(run.changes.remove(2))),
        ("dropped last (a truncated tail)", |run| drop(run.changes.pop())),
        ("duplicated", |run| run.changes.insert(1, run.changes[1].clone())),
        ("last twice", |run| run.changes.push(run.changes[3].clone())),
        ("emptied", |run| run.changes.clear()),
        ("one added", |run| run.changes.push(change(9, b"mine"))),
    ]
}

#[test]
fn the_exact_continuation_is_accepted_and_no_mutation_of_it() {
    let (known, run) = honest();
    let twists = [identity_twists(), place_twists(), content_twists(), list_twists()].concat();
    for (name, twist) in twists {
        let mut bad = run.clone();
        twist(&mut bad);
        assert!(admit(bad, &known).is_err(), "{name}");
    }
    let accepted = admit(run.clone(), &known).expect("the honest run");
    assert_eq!(accepted.changes(), run.changes);
    assert_eq!(accepted.end(), end_of(&run.feed, known, &run.changes));
    assert_eq!((accepted.start(), accepted.first_seq()), (known, run.first_seq));
    assert_eq!(accepted.hashes().last(), Some(&accepted.end().hash));
}

#[test]
fn a07_a_run_fits_only_the_end_it_was_written_after() {
    let (known, run) = honest();
    let other_line = FeedPosition { hash: ChangeHash::from_bytes([9; 32]), ..known };
    assert_eq!(admit(run.clone(), &other_line), Err(Rejection::Signature), "another branch");
    assert_eq!(
        admit(run.clone(), &FeedPosition { seq: 3, ..FeedPosition::START }),
        Err(Rejection::Signature)
    );
    for seq in [0, 1, 2, 4, 5, 7, SEGMENT_CHANGES_MAX] {
        let known = FeedPosition { seq, ..known };
        assert!(matches!(admit(run.clone(), &known), Err(Rejection::OutOfPlace { .. })), "{seq}");
    }
    let held = end_of(&run.feed, known, &run.changes);
    assert!(matches!(admit(run, &held), Err(Rejection::OutOfPlace { .. })), "already held");
}

#[test]
fn n01_a_signed_change_is_good_in_no_other_community_stream_or_segment() {
    let home = feed(Stream::Charter);
    let streams = [
        Stream::Ledger,
        Stream::Cluster,
        Stream::Library,
        Stream::Moderation,
        Stream::Private,
        Stream::Keys,
        Stream::Board(BoardId::from_bytes([0; 16])),
        Stream::Channel(ChannelId::from_bytes([0; 16])),
    ];
    let elsewhere = streams
        .map(|stream| FeedId { stream, ..home })
        .into_iter()
        .chain([home.with_segment(1), FeedId { community: CommunityId::from_bytes([2; 32]), ..home }]);
    let first = signed(home, FeedPosition::START, vec![change(1, b"hello")]);
    assert!(admit(first.clone(), &FeedPosition::START).is_ok());
    for feed in elsewhere {
        // The chunk and its hash are the same there; only the signed context differs.
        let replayed = Run { feed, ..first.clone() };
        assert_eq!(admit(replayed, &FeedPosition::START), Err(Rejection::Signature), "{feed}");
        let there = signed(feed, FeedPosition::START, vec![change(1, b"hello")]);
        let brought = Run { feed: home, ..there };
        assert_eq!(admit(brought, &FeedPosition::START), Err(Rejection::Signature), "back from {feed}");
    }
}

#[test]
fn signatures_of_other_keys_changes_and_purposes_are_refused() {
    let (known, run) = honest();
    let end = end_of(&run.feed, known, &run.changes);
    let inner = end_of(&run.feed, known, &run.changes[..3]);
    let message = run.feed.signed_message(&end);
    let mut malleable = *run.signature.as_bytes();
    add_group_order(&mut malleable[32..]);
    let forged = [
        SecretKey::from_bytes(&[6; 32]).sign(&message),
        key().sign(&run.feed.signed_message(&inner)),
        key().sign(&run.feed.signed_message(&known)),
        key().sign(&run.feed.signed_message(&FeedPosition { seq: end.seq + 1, ..end })),
        key().sign(end.hash.as_bytes()),
        key().sign(&message[1..]),
        Signature::from_bytes(malleable),
        Signature::from_bytes([0; 64]),
        Signature::from_bytes([0xff; 64]),
    ];
    for signature in forged {
        assert_eq!(admit(Run { signature, ..run.clone() }, &known), Err(Rejection::Signature));
    }
}

/// Adds the order of the ed25519 group: the classic second form of a signature.
fn add_group_order(scalar: &mut [u8]) {
    let mut order = [0_u8; 32];
    order[..16].copy_from_slice(&0x14de_f9de_a2f7_9cd6_5812_631a_5cf5_d3ed_u128.to_le_bytes());
    order[31] = 0x10;
    let mut carry = 0_u16;
    for (byte, add) in scalar.iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
}

/// Keys of small order verify anything for anyone under lax verification.
#[test]
fn keys_of_small_order_own_no_feed() {
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut minus_one = [0xff; 32];
    (minus_one[0], minus_one[31]) = (0xec, 0x7f);
    let mut signature = [0; 64];
    signature[0] = 1;
    for device in [identity, minus_one, [0; 32]] {
        for attempt in 0..16 {
            let feed = FeedId::new(COMMUNITY, DeviceId::from_bytes(device), Stream::Charter);
            let run = Run {
                feed,
                first_seq: 1,
                changes: vec![change(attempt, b"x")],
                signature: Signature::from_bytes(signature),
            };
            assert_eq!(admit(run, &FeedPosition::START), Err(Rejection::Signature));
        }
    }
}

#[test]
fn runs_and_feeds_have_their_limits() {
    let feed = feed(Stream::Cluster);
    let whole = signed(feed, FeedPosition::START, payloads(RUN_CHANGES_MAX));
    assert!(admit(whole, &FeedPosition::START).is_ok());
    let over = signed(feed, FeedPosition::START, payloads(RUN_CHANGES_MAX + 1));
    assert_eq!(admit(over, &FeedPosition::START), Err(Rejection::Count(RUN_CHANGES_MAX + 1)));
    let near = FeedPosition { seq: SEGMENT_CHANGES_MAX - 2, hash: ChangeHash::from_bytes([3; 32]) };
    assert!(admit(signed(feed, near, payloads(2)), &near).is_ok());
    assert_eq!(admit(signed(feed, near, payloads(3)), &near), Err(Rejection::Count(3)));
    let beyond = feed.with_segment(SEGMENTS_MAX);
    let refused = admit(signed(beyond, FeedPosition::START, payloads(1)), &FeedPosition::START);
    assert_eq!(refused, Err(Rejection::Segment(SEGMENTS_MAX)));
}

/// Two peers sent runs that overlap; what is left of the later one is what is
/// new, and a run of another line is seen for what it is.
#[test]
fn what_overlaps_is_cut_to_what_is_new() {
    let (known, run) = honest();
    let ends: Vec<_> = (0..=4).map(|count| end_of(&run.feed, known, &run.changes[..count])).collect();
    for (count, end) in ends.iter().enumerate() {
        let accepted = admit(run.clone(), &known).expect("the honest run");
        let left = accepted.beyond(end, Some(end.hash)).expect("one line");
        let changes = left.as_ref().map_or(0, |left| left.changes().len());
        assert_eq!(changes, 4 - count);
        if let Some(left) = left {
            assert_eq!((left.start(), left.end(), left.first_seq()), (*end, ends[4], end.seq + 1));
            assert_eq!(left.changes(), &run.changes[count..]);
        }
    }
    let other = ChangeHash::from_bytes([9; 32]);
    let accepted = || admit(run.clone(), &known).expect("the honest run");
    for end in &ends[..4] {
        let fork = accepted().beyond(&FeedPosition { hash: other, ..*end }, None);
        assert_eq!(fork, Err(Rejection::Fork { seq: end.seq }));
    }
    assert_eq!(accepted().beyond(&ends[4], Some(other)), Err(Rejection::Fork { seq: 7 }));
    let before = FeedPosition { seq: 2, hash: other };
    let refused = Rejection::OutOfPlace { first_seq: 4, known_seq: 2 };
    assert_eq!(accepted().beyond(&before, None), Err(refused));
}
