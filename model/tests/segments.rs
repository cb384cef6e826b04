//! A device's stream as one line of segments: when an author rolls, what the
//! next segment carries, and what proves a line that parts.

mod home;
mod samples;

#[path = "segments/equivocation.rs"]
mod equivocation;

use exo_model::CommunityId;
use exo_model::charter::Role;
use exo_model::community::WordStanding;
use exo_model::decide::Intent;
use exo_model::envelope::{ENVELOPE_VERSION, Envelope, EnvelopeError, SegmentEnd};
use exo_model::feed::gate::{self, Rejection};
use exo_model::feed::{
    Change, FeedId, FeedPosition, Meaningless, Run, SEGMENT_AGE_MS, SEGMENT_CHANGES, SEGMENT_CHANGES_MAX,
    Stream, chunk, rolls,
};
use exo_model::port::Signer as _;
use exo_model::signature::SecretKey;
use home::{Home, Person, found, meet};
use samples::{NOW, author, change, feed, hash, signature};

fn end_of(feed: &FeedId, from: FeedPosition, changes: &[Change]) -> FeedPosition {
    changes.iter().fold(from, |end, change| FeedPosition {
        seq: end.seq + 1,
        hash: chunk::change_hash(&feed.device, &end, change),
    })
}

/// A run as its author makes it.
fn signed(feed: FeedId, from: FeedPosition, changes: Vec<Change>) -> Run {
    let end = end_of(&feed, from, &changes);
    Run { feed, first_seq: from.seq + 1, changes, signature: author().sign(&feed.signed_message(&end)) }
}

/// A change with an envelope that names the end of the segment before.
fn opening(previous: Option<SegmentEnd>) -> Change {
    let envelope = Envelope {
        version: ENVELOPE_VERSION,
        lamport: 9,
        body: b"sealed".to_vec(),
        heads: Some(vec![hash(1)]),
        key: None,
        previous,
    };
    change(NOW, &envelope.encode())
}

/// A first segment of three changes and its signed end.
fn first_segment() -> (Run, SegmentEnd) {
    let feed = feed(Stream::Ledger);
    let run = signed(feed, FeedPosition::START, [b"a", b"b", b"c"].map(|text| change(NOW, text)).into());
    let end = end_of(&feed, FeedPosition::START, &run.changes);
    let signature = run.signature;
    (run, SegmentEnd { end, signature })
}

#[test]
fn authors_roll_by_number_and_by_age_and_not_before() {
    let at = |seq| FeedPosition { seq, hash: hash(1) };
    assert!(!rolls(&at(SEGMENT_CHANGES - 1), NOW, NOW));
    assert!(rolls(&at(SEGMENT_CHANGES), NOW, NOW));
    assert!(rolls(&at(SEGMENT_CHANGES_MAX), NOW, NOW));
    assert!(!rolls(&at(1), NOW, NOW + SEGMENT_AGE_MS - 1));
    assert!(rolls(&at(1), NOW, NOW + SEGMENT_AGE_MS));
    assert!(!rolls(&FeedPosition::START, NOW, NOW + SEGMENT_AGE_MS), "nothing to end");
    assert!(!rolls(&at(1), NOW, NOW - SEGMENT_AGE_MS), "a clock that was set back");
    assert!(!rolls(&at(1), i64::MAX, i64::MIN) && rolls(&at(1), i64::MIN, i64::MAX), "no overflow");
}

/// The segments that a device has in a stream, with their lengths.
fn segments(home: &Home, device: &Home, stream: Stream) -> Vec<u64> {
    let first = FeedId::new(home.community.id(), device.device(), stream);
    let segments = home.store.range(first..=first.with_segment(u32::MAX));
    segments.map(|(_, runs)| runs.last().expect("no empty feed").end().seq).collect()
}

#[test]
fn a_stream_that_rolled_by_number_reads_on_as_one_line() {
    let (ana, ben) = (Person::new(1), Person::new(2));
    let mut a = found("Ana", &ana);
    let room = a.open_channel(1, false);
    let ticket = a.invite(1);
    for n in 0..SEGMENT_CHANGES + 2 {
        a.say(room, &n.to_string());
    }
    let stream = Stream::Channel(room);
    assert_eq!(segments(&a, &a, stream), [SEGMENT_CHANGES, 2]);
    let mut b = a.admit("Ben", &ben, &ticket);
    meet(&mut [&mut a, &mut b]);
    assert_eq!(segments(&b, &a, stream), [SEGMENT_CHANGES, 2]);
    assert_eq!(b.read(room), (0..SEGMENT_CHANGES + 2).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(b.community.feeds_of(&a.device()), a.community.feeds_of(&a.device()));

    let first = FeedId::new(b.community.id(), a.device(), stream);
    let frontier: Vec<_> = b.community.frontier().filter(|(feed, _)| feed.stream == stream).collect();
    assert_eq!(frontier.len(), 1, "only the last segment ends a stream");
    assert_eq!((frontier[0].0, frontier[0].1.seq), (first.with_segment(1), 2));
}

#[test]
fn a_stream_that_rolled_by_age_carries_the_signed_end_and_states_heads_and_key_again() {
    let ana = Person::new(1);
    let mut a = found("Ana", &ana);
    let room = a.open_channel(1, false);
    let stream = Stream::Channel(room);
    a.say(room, "spring");
    a.say(room, "still spring");
    a.now_ms += SEGMENT_AGE_MS;
    a.say(room, "summer");
    a.say(room, "still summer");
    assert_eq!(segments(&a, &a, stream), [2, 2]);

    let first = FeedId::new(a.community.id(), a.device(), stream);
    let end = a.store[&first].last().expect("written").end();
    let envelopes: Vec<_> = [first, first.with_segment(1)]
        .iter()
        .flat_map(|feed| a.changes(feed))
        .map(|change| Envelope::decode(&change.payload).expect("one's own"))
        .collect();
    let stated: Vec<_> = envelopes.iter().map(|e| (e.heads.is_some(), e.key.is_some())).collect();
    assert_eq!(stated, [(true, true), (false, false), (true, true), (false, false)]);
    let ends: Vec<_> = envelopes.iter().map(|e| e.previous.map(|previous| previous.end)).collect();
    assert_eq!(ends, [None, None, Some(end), None]);

    let words: Vec<_> = a.events.iter().filter(|event| event.feed.stream == stream).collect();
    let before = words.iter().map(|event| event.previous);
    let line = std::iter::once(FeedPosition::START.hash).chain(words.iter().map(|event| event.hash));
    assert!(before.eq(line.take(words.len())), "one line across segments");
    assert!(words.iter().all(|event| a.community.word_standing(event) == WordStanding::Counts));
}

#[test]
fn a_charter_that_rolled_governs_on() {
    let (ana, ben) = (Person::new(1), Person::new(2));
    let mut a = found("Ana", &ana);
    a.now_ms += SEGMENT_AGE_MS;
    let ticket = a.invite(1);
    let mut b = a.admit("Ben", &ben, &ticket);
    a.now_ms += SEGMENT_AGE_MS;
    a.act(Intent::SetRole(ben.id(), Role::Admin));
    meet(&mut [&mut a, &mut b]);
    assert_eq!(segments(&b, &a, Stream::Charter).len(), 3);
    assert_eq!((b.role(&ben.id()), b.hash()), (Some(Role::Admin), a.hash()));
}

#[test]
fn a_later_segment_needs_the_signed_end_of_the_one_before() {
    let (first, end) = first_segment();
    let next = first.feed.with_segment(1);
    let admit =
        |feed, change| gate::admit(signed(feed, FeedPosition::START, vec![change]), &FeedPosition::START);
    assert!(admit(next, opening(Some(end))).is_ok());

    let refused = Err(Rejection::SegmentLine { seq: 1 });
    let other_key = SecretKey::from_bytes(&[6; 32]);
    let message = first.feed.signed_message(&end.end);
    let forged: [(&str, Option<SegmentEnd>); 10] = [
        ("missing", None),
        ("another hash", Some(SegmentEnd { end: FeedPosition { hash: hash(9), ..end.end }, ..end })),
        ("another number", Some(SegmentEnd { end: FeedPosition { seq: 2, ..end.end }, ..end })),
        ("empty", Some(SegmentEnd { end: FeedPosition::START, ..end })),
        ("empty, signed", Some(end_at(&first.feed, FeedPosition::START))),
        ("no signature", Some(SegmentEnd { signature: signature(0), ..end })),
        ("another's", Some(SegmentEnd { signature: other_key.sign(&message), ..end })),
        ("another stream's", Some(end_at(&feed(Stream::Library), end.end))),
        ("the next segment's", Some(end_at(&next, end.end))),
        ("another community's", Some(end_at(&elsewhere(first.feed), end.end))),
    ];
    for (what, previous) in forged {
        assert_eq!(admit(next, opening(previous)), refused, "{what}");
    }
    assert_eq!(admit(next, change(NOW, b"no envelope")), refused);
    assert_eq!(admit(first.feed.with_segment(2), opening(Some(end))), refused, "a segment was skipped");
}

fn end_at(feed: &FeedId, end: FeedPosition) -> SegmentEnd {
    SegmentEnd { end, signature: author().sign(&feed.signed_message(&end)) }
}

fn elsewhere(feed: FeedId) -> FeedId {
    FeedId { community: CommunityId::from_bytes([1; 32]), ..feed }
}

/// Behind the gate such a change is kept, and counts for nothing.
#[test]
fn an_end_where_none_belongs_makes_the_change_meaningless() {
    let mut a = found("Ana", &Person::new(1));
    let community = a.community.id();
    let (_, end) = first_segment();
    let feed = FeedId { community, ..feed(Stream::Ledger) };
    for (feed, changes) in [
        (feed, vec![opening(Some(end))]),
        (FeedId { stream: Stream::Library, ..feed }, vec![opening(None), opening(Some(end))]),
    ] {
        let count = changes.len();
        a.take(signed(feed, FeedPosition::START, changes)).expect("authentic, so kept");
        let last = a.events.last().expect("kept");
        assert_eq!(last.event, Err(Meaningless::Envelope(EnvelopeError::Heads)));
        assert_eq!((last.feed, last.seq), (feed, count as u64));
    }
}
