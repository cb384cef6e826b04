//! The gate under attack: whatever is done to a run, only the exact
//! continuation of its feed gets in, and a bad run leaves nothing.

#[allow(dead_code, reason = "each test binary uses its part")]
mod common;

use std::collections::BTreeMap;

use common::{Rng, change};
use exo_model::envelope::ENVELOPE_BYTES_MAX;
use exo_model::feed::gate::{RUN_CHANGES_MAX, Rejection, admit};
use exo_model::feed::{Change, FEED_CHANGES_MAX, FeedPosition, Run, TIME_MS_MAX, author, chunk};
use exo_model::port::Signer as _;
use exo_model::signature::{SecretKey, Signature};
use exo_model::{ChangeHash, ChannelId, CommunityId, DeviceId, FeedId, Stream};

const COMMUNITY: CommunityId = CommunityId::from_bytes([1; 32]);

fn key() -> SecretKey {
    SecretKey::from_bytes(&[5; 32])
}

fn feed(stream: Stream) -> FeedId {
    FeedId::new(COMMUNITY, key().device(), stream)
}

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
    let head = end_of(&feed, from, &changes).hash;
    Run { feed, first_seq: from.seq + 1, changes, signature: key().sign(&feed.signed_message(&head)) }
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
    assert_eq!(accepted.events().len(), run.changes.len());
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
    for seq in [0, 1, 2, 4, 5, 7, FEED_CHANGES_MAX] {
        let known = FeedPosition { seq, ..known };
        assert!(matches!(admit(run.clone(), &known), Err(Rejection::OutOfPlace { .. })), "{seq}");
    }
    let held = end_of(&run.feed, known, &run.changes);
    assert!(matches!(admit(run, &held), Err(Rejection::OutOfPlace { .. })), "already held");
}

#[test]
fn n01_a_signed_change_is_good_in_no_other_community_stream_or_segment() {
    let stream_of = |stream| FeedId { stream, ..feed(Stream::Charter) };
    let elsewhere = [
        FeedId { community: CommunityId::from_bytes([2; 32]), ..feed(Stream::Charter) },
        FeedId { segment: 1, ..feed(Stream::Charter) },
        stream_of(Stream::Ledger),
        stream_of(Stream::Cluster),
        stream_of(Stream::Library),
        stream_of(Stream::Channel(ChannelId::from_bytes([0; 16]))),
    ];
    let first = author(&key(), feed(Stream::Charter), &FeedPosition::START, change(1, b"hello"));
    assert!(admit(first.clone(), &FeedPosition::START).is_ok());
    for feed in elsewhere {
        // The chunk and its hash are the same there; only the signed context differs.
        let replayed = Run { feed, ..first.clone() };
        // Feeds have one segment; any other is refused before its signature.
        let refused = if feed.segment == 0 { Rejection::Signature } else { Rejection::Segment(feed.segment) };
        assert_eq!(admit(replayed, &FeedPosition::START), Err(refused), "{feed:?}");
        let at_home = author(&key(), feed, &FeedPosition::START, change(1, b"hello"));
        let brought = Run { feed: first.feed, ..at_home };
        assert_eq!(admit(brought, &FeedPosition::START), Err(Rejection::Signature), "back from {feed:?}");
    }
}

#[test]
fn signatures_of_other_keys_changes_and_purposes_are_refused() {
    let (known, run) = honest();
    let head = end_of(&run.feed, known, &run.changes).hash;
    let inner = end_of(&run.feed, known, &run.changes[..3]).hash;
    let message = run.feed.signed_message(&head);
    let mut malleable = *run.signature.as_bytes();
    add_group_order(&mut malleable[32..]);
    let forged = [
        SecretKey::from_bytes(&[6; 32]).sign(&message),
        key().sign(&run.feed.signed_message(&inner)),
        key().sign(&run.feed.signed_message(&known.hash)),
        key().sign(head.as_bytes()),
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
fn a08_times_out_of_the_calendar_are_refused_even_when_signed() {
    let feed = feed(Stream::Cluster);
    for (time_ms, fits) in [
        (i64::MIN, false),
        (-1, false),
        (0, true),
        (TIME_MS_MAX, true),
        (TIME_MS_MAX + 1, false),
        (i64::MAX, false),
    ] {
        for at in 0..3 {
            let mut changes = payloads(3);
            changes[at].time_ms = time_ms;
            let verdict = admit(signed(feed, FeedPosition::START, changes), &FeedPosition::START);
            let expected = if fits { None } else { Some(Rejection::Time { seq: at as u64 + 1 }) };
            assert_eq!(verdict.err(), expected, "{time_ms} at {at}");
        }
    }
}

#[test]
fn a09_payloads_are_bounded_even_when_signed() {
    let feed = feed(Stream::Library);
    for (len, fits) in
        [(0, false), (1, true), (ENVELOPE_BYTES_MAX, true), (ENVELOPE_BYTES_MAX + 1, false), (1 << 20, false)]
    {
        let mut changes = payloads(2);
        changes[1].payload = vec![0xa5; len];
        let verdict = admit(signed(feed, FeedPosition::START, changes), &FeedPosition::START);
        let expected = if fits { None } else { Some(Rejection::PayloadLength { seq: 2, len }) };
        assert_eq!(verdict.err(), expected, "{len} bytes");
    }
}

#[test]
fn runs_and_feeds_have_their_limits() {
    let feed = feed(Stream::Cluster);
    let whole = signed(feed, FeedPosition::START, payloads(RUN_CHANGES_MAX));
    assert!(admit(whole, &FeedPosition::START).is_ok());
    let over = signed(feed, FeedPosition::START, payloads(RUN_CHANGES_MAX + 1));
    assert_eq!(admit(over, &FeedPosition::START), Err(Rejection::Count(RUN_CHANGES_MAX + 1)));
    let near = FeedPosition { seq: FEED_CHANGES_MAX - 2, hash: ChangeHash::from_bytes([3; 32]) };
    assert!(admit(signed(feed, near, payloads(2)), &near).is_ok());
    assert_eq!(admit(signed(feed, near, payloads(3)), &near), Err(Rejection::Count(3)));
}

/// What a store does with the gate's verdicts: appends what it accepts.
fn deliver(held: &mut BTreeMap<FeedId, FeedPosition>, run: Run) -> bool {
    let known = held.get(&run.feed).copied().unwrap_or(FeedPosition::START);
    let feed = run.feed;
    admit(run, &known).map(|accepted| held.insert(feed, accepted.end())).is_ok()
}

#[test]
fn a02_a_bad_run_is_refused_whole_and_honest_feeds_land() {
    let charter = feed(Stream::Charter);
    let (honest, mut bad) = (
        signed(charter, FeedPosition::START, payloads(50)),
        signed(feed(Stream::Ledger), FeedPosition::START, payloads(50)),
    );
    bad.changes[49].payload[0] ^= 1;
    let neighbour = signed(feed(Stream::Library), FeedPosition::START, payloads(5));
    let mut held = BTreeMap::new();
    assert!(deliver(&mut held, honest));
    assert!(!deliver(&mut held, bad.clone()));
    assert!(deliver(&mut held, neighbour));
    assert!(!held.contains_key(&bad.feed), "nothing of the bad run stays");
    bad.changes[49].payload[0] ^= 1;
    assert!(deliver(&mut held, bad), "fetched again, whole");
    assert_eq!(held.values().map(|end| end.seq).sum::<u64>(), 105);
}

/// A01: two changes at one place are two lines; the first to arrive stands,
/// and nothing can be appended to it that follows the other.
#[test]
fn a01_an_equivocation_never_mixes_two_lines() {
    let feed = feed(Stream::Ledger);
    let known = end_of(&feed, FeedPosition::START, &payloads(3));
    let [ours, theirs] = [b"ours", b"them"].map(|payload| vec![change(1, payload), change(2, b"next")]);
    let mut held = BTreeMap::from([(feed, known)]);
    assert!(deliver(&mut held, signed(feed, known, ours.clone())));
    let end = held[&feed];
    assert!(!deliver(&mut held, signed(feed, known, theirs.clone())));
    let theirs_end = end_of(&feed, known, &theirs);
    assert!(!deliver(&mut held, signed(feed, theirs_end, payloads(2))));
    let mixed = Run { changes: vec![ours[0].clone(), theirs[1].clone()], ..signed(feed, known, theirs) };
    assert!(!deliver(&mut held, mixed));
    assert_eq!(held[&feed], end);
}

#[test]
fn random_twists_never_pass() {
    let (known, run) = honest();
    let twists = [identity_twists(), place_twists(), content_twists(), list_twists()].concat();
    let mut rng = Rng(2);
    for round in 0..4_000 {
        let mut bad = run.clone();
        match rng.below(4) {
            0 => bad.signature = flipped(&run.signature, &mut rng),
            1 => {
                let at = rng.below(4);
                bad.changes[at].payload = rng.mutate(&run.changes[at].payload);
            }
            2 => bad.changes[rng.below(4)].time_ms ^= 1 << rng.below(40),
            _ => twists[rng.below(twists.len())].1(&mut bad),
        }
        assert!(bad == run || admit(bad, &known).is_err(), "round {round}");
    }
}

fn flipped(signature: &Signature, rng: &mut Rng) -> Signature {
    let mut bytes = *signature.as_bytes();
    bytes[rng.below(64)] ^= 1 << rng.below(8);
    Signature::from_bytes(bytes)
}
