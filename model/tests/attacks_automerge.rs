//! Attacks A1 to A12: Automerge changes that, applied raw, panic, diverge or
//! make a document unloadable.
//!
//! Each test first lets Automerge itself swallow the change, so that the
//! attack is known to be one; then it shows that the gate refuses it, or that
//! neither a run nor an import can express it.

mod home;
mod samples;

#[path = "attacks_automerge/automerge.rs"]
mod automerge_itself;
#[path = "attacks_automerge/flood.rs"]
mod flood;
#[path = "attacks_automerge/raw.rs"]
mod raw;

use std::collections::BTreeMap;

use automerge_itself::{Harm, harm};
use exo_model::codec::{self, DecodeError, encode};
use exo_model::envelope::{ENVELOPE_BYTES_MAX, Envelope};
use exo_model::export::{EXPORT_VERSION, ExportError, Exporter, Importer, MAGIC};
use exo_model::feed::document::audit;
use exo_model::feed::equivocation::{Branch, EquivocationProof};
use exo_model::feed::gate::{self, Rejection};
use exo_model::feed::{Change, FeedId, FeedPosition, Run, Stream, TIME_MS_MAX, chunk};
use exo_model::port::Signer as _;
use exo_model::{ChangeHash, DeviceId};
use raw::Raw;
use samples::{COMMUNITY, NOW, author, change, feed};

/// A feed of three honest changes.
struct Base {
    feed: FeedId,
    changes: Vec<Change>,
    end: FeedPosition,
}

fn base() -> Base {
    let feed = feed(Stream::Ledger);
    let changes: Vec<_> = [b"one".as_slice(), b"two", b"three"].map(|event| change(NOW, event)).into();
    let end = end_of(&feed, FeedPosition::START, &changes);
    Base { feed, changes, end }
}

impl Base {
    /// Its chunks, as Automerge stores them.
    fn file(&self) -> Vec<u8> {
        exo_model::feed::document::encode_file(&self.feed, &self.changes).0
    }

    /// The honest fourth change, to be twisted.
    fn next(&self) -> Raw {
        Raw::honest(&self.feed.device, &self.end, &change(NOW, b"four"))
    }
}

fn end_of(feed: &FeedId, from: FeedPosition, changes: &[Change]) -> FeedPosition {
    changes.iter().fold(from, |end, change| FeedPosition {
        seq: end.seq + 1,
        hash: chunk::change_hash(&feed.device, &end, change),
    })
}

/// A run as its author makes it, whatever is in it.
fn signed(feed: FeedId, from: FeedPosition, changes: Vec<Change>) -> Run {
    let end = end_of(&feed, from, &changes);
    Run { feed, first_seq: from.seq + 1, changes, signature: author().sign(&feed.signed_message(&end)) }
}

/// An export with any bytes as its one frame and a right digest.
fn export_of(frame: &[u8]) -> Vec<u8> {
    let length = u32::try_from(frame.len()).expect("short").to_be_bytes();
    let mut bytes =
        [MAGIC, [EXPORT_VERSION].as_slice(), COMMUNITY.as_bytes(), &length, frame, &[0; 4]].concat();
    let digest = blake3::hash(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    bytes
}

/// Twists the fourth change, lets Automerge suffer, and shows that nothing
/// that travels can mean the twisted change.
fn twisted(what: &str, expected: Harm, twist: impl FnOnce(&mut Raw)) {
    let base = base();
    let mut hostile = base.next();
    twist(&mut hostile);
    let (bytes, hash) = hostile.encode();
    assert_eq!(harm(&base.file(), &bytes), expected, "{what}");
    cannot_be_expressed(what, &bytes, hash, &hostile);
}

fn cannot_be_expressed(what: &str, bytes: &[u8], hash: ChangeHash, hostile: &Raw) {
    let base = base();
    // Its author signs its hash; all that could be meant travels beside.
    let position = FeedPosition { seq: base.end.seq + 1, hash };
    let closest = Change { time_ms: hostile.time_ms, payload: hostile.op.value.clone() };
    let signature = author().sign(&base.feed.signed_message(&position));
    let run = Run { feed: base.feed, first_seq: position.seq, changes: vec![closest.clone()], signature };
    let (canonical, other) = chunk::encode(&base.feed.device, &base.end, &closest);
    assert!(canonical != bytes && other != hash, "{what}: the gate's own chunk is another");
    assert_eq!(gate::admit(run, &base.end), Err(Rejection::Signature), "{what}");

    // The chunk itself in the place of a run, on the wire and in an export.
    assert!(matches!(codec::decode::<Run>(bytes, 64 << 20), Err(DecodeError::Malformed(_))), "{what}");
    let export = export_of(bytes);
    let frames: Vec<_> = Importer::new(&export).expect("whole").collect();
    assert!(matches!(frames.as_slice(), [Err(ExportError::Frame { index: 0, .. })]), "{what}");

    // As the contents of a change it is bytes like any others.
    let smuggled = signed(base.feed, base.end, vec![change(NOW, bytes)]);
    match gate::admit(smuggled, &base.end) {
        Ok(accepted) => {
            let all = [base.changes.as_slice(), accepted.changes()].concat();
            assert_eq!(audit(&base.feed, &all).expect("readable"), accepted.end().hash, "{what}");
            assert!(Envelope::decode(bytes).is_err(), "{what}: and no event");
        }
        Err(refused) => {
            assert_eq!(refused, Rejection::PayloadLength { seq: 4, len: bytes.len() }, "{what}");
            assert!(bytes.len() > ENVELOPE_BYTES_MAX, "{what}");
        }
    }
}

/// The hostile encoder is honest where nothing is twisted.
#[test]
fn an_untwisted_change_is_the_gates_own() {
    let base = base();
    let honest = change(NOW, b"four");
    assert_eq!(base.next().encode(), chunk::encode(&base.feed.device, &base.end, &honest));
    assert_eq!(harm(&base.file(), &base.next().encode().0), Harm::None);
}

#[test]
fn a01_one_place_with_two_contents_is_refused_and_proves_itself() {
    let base = base();
    let before = end_of(&base.feed, FeedPosition::START, &base.changes[..2]);
    let other = signed(base.feed, before, vec![change(NOW, b"another three")]);
    let (bytes, hash) = Raw::honest(&base.feed.device, &before, &other.changes[0]).encode();
    assert_eq!(harm(&base.file(), &bytes), Harm::Refused, "Automerge 0.12 sees this one");

    let place = Rejection::OutOfPlace { first_seq: 3, known_seq: 3 };
    assert_eq!(gate::admit(other.clone(), &base.end), Err(place));
    let late = gate::admit(other.clone(), &before).expect("authentic, after the second");
    assert_eq!(late.beyond(&base.end, Some(base.end.hash)), Err(Rejection::Fork { seq: 3 }));
    let branch = |at, signature| Branch { at, then: Vec::new(), signature };
    let ours = signed(base.feed, before, base.changes[2..].to_vec());
    let theirs = branch(FeedPosition { seq: 3, hash }, other.signature);
    assert!(EquivocationProof::of_fork(base.feed, branch(base.end, ours.signature), theirs).is_ok());

    // Nothing that follows the other line continues this one.
    let after = FeedPosition { seq: 3, hash };
    let next = signed(base.feed, after, vec![change(NOW, b"four")]);
    assert_eq!(gate::admit(next, &base.end), Err(Rejection::Signature));
}

#[test]
fn a02_a_run_with_one_bad_change_is_refused_whole_and_honest_feeds_land() {
    let payloads = |count: u32| (0..count).map(|n| change(NOW, &n.to_be_bytes())).collect::<Vec<_>>();
    for at in [0, 1, 25, 48, 49] {
        let mut held: BTreeMap<FeedId, FeedPosition> = BTreeMap::new();
        let mut deliver = |run: Run| {
            let known = held.get(&run.feed).copied().unwrap_or(FeedPosition::START);
            let feed = run.feed;
            gate::admit(run, &known).map(|accepted| held.insert(feed, accepted.end()))
        };
        let honest = signed(feed(Stream::Charter), FeedPosition::START, payloads(50));
        let mut bad = signed(feed(Stream::Ledger), FeedPosition::START, payloads(50));
        bad.changes[at].payload[3] ^= 1;
        let neighbour = signed(feed(Stream::Library), FeedPosition::START, payloads(5));
        assert!(deliver(honest).is_ok());
        assert_eq!(deliver(bad.clone()), Err(Rejection::Signature), "change {at}");
        assert!(deliver(neighbour).is_ok());
        bad.changes[at].payload[3] ^= 1;
        assert_eq!(deliver(bad), Ok(None), "nothing of it was kept; fetched again, whole, it lands");
        assert_eq!(held.values().map(|end| end.seq).sum::<u64>(), 105);
    }
}

#[test]
fn a03_the_largest_start_op_cannot_be_expressed() {
    // Automerge takes it, and has no number left for the next change.
    twisted("u32::MAX", Harm::LastWord, |raw| raw.start_op = u32::MAX.into());
    twisted("past 32 bits", Harm::Refused, |raw| raw.start_op = 1 << 32);
    twisted("u64::MAX", Harm::Refused, |raw| raw.start_op = u64::MAX);
}

#[test]
fn a04_a_start_op_that_is_too_low_cannot_be_expressed() {
    twisted("one", Harm::Unloadable, |raw| raw.start_op = 1);
    twisted("the one before", Harm::Unloadable, |raw| raw.start_op = 3);
    twisted("zero", Harm::Refused, |raw| raw.start_op = 0);
}

#[test]
fn a05_predecessors_that_are_not_there_cannot_be_expressed() {
    twisted("absent", Harm::Unloadable, |raw| raw.op.predecessors = vec![(0, 77)]);
    twisted("of another key", Harm::Unloadable, |raw| raw.op.predecessors = vec![(0, 1)]);
}

#[test]
fn a06_a_delete_without_predecessors_cannot_be_expressed() {
    twisted("of a new key", Harm::Unloadable, |raw| raw.op.action = 3);
    twisted("of a known key", Harm::Unloadable, |raw| {
        raw.op.action = 3;
        raw.op.key = chunk::key(1);
    });
}

#[test]
fn a07_gaps_strangers_and_missing_objects_cannot_be_expressed() {
    twisted("a gap", Harm::Panic, |raw| raw.seq = 9);
    twisted("number zero", Harm::Refused, |raw| raw.seq = 0);
    twisted("unknown actor", Harm::Panic, |raw| raw.op.predecessors = vec![(5, 1)]);
    twisted("missing object", Harm::Panic, |raw| raw.op.object = Some((0, 99)));
    twisted("a value for an object", Harm::Panic, |raw| raw.op.object = Some((0, 1)));
    twisted("an unknown actor's object", Harm::Panic, |raw| raw.op.object = Some((7, 1)));

    let base = base();
    let run = signed(base.feed, base.end, vec![change(NOW, b"four")]);
    for seq in [0, 1, 2, 4, 9] {
        let known = FeedPosition { seq, ..base.end };
        let refused = Rejection::OutOfPlace { first_seq: 4, known_seq: seq };
        assert_eq!(gate::admit(run.clone(), &known), Err(refused), "a gap between runs");
    }
}

/// The one field of these that does travel is bounded, signed or not.
#[test]
fn a08_times_out_of_the_calendar_are_refused_even_when_signed() {
    let base = base();
    let mut hostile = base.next();
    hostile.time_ms = i64::MIN;
    assert_eq!(harm(&base.file(), &hostile.encode().0), Harm::Panic);
    for (time_ms, fits) in [
        (i64::MIN, false),
        (-1, false),
        (0, true),
        (TIME_MS_MAX, true),
        (TIME_MS_MAX + 1, false),
        (i64::MAX, false),
    ] {
        for at in 0..3 {
            let mut changes = base.changes.clone();
            changes[at].time_ms = time_ms;
            let verdict = gate::admit(signed(base.feed, base.end, changes), &base.end);
            let expected = (!fits).then_some(Rejection::Time { seq: at as u64 + 4 });
            assert_eq!(verdict.err(), expected, "{time_ms} at {at}");
        }
    }
}

#[test]
fn a09_a_deflate_bomb_is_bytes_like_any_others() {
    let base = base();
    for len in [1 + 250 * raw::REPEAT, 1 + 32_000 * raw::REPEAT] {
        let (bytes, hash) = raw::bomb(&base.next(), len);
        assert!(bytes.len() * 90 < len, "{} bytes", bytes.len());
        assert_eq!(harm(&base.file(), &bytes), Harm::Inflated(len), "Automerge inflates it");
        cannot_be_expressed("a bomb", &bytes, hash, &base.next());
    }
    for (len, fits) in [(0, false), (1, true), (ENVELOPE_BYTES_MAX, true), (ENVELOPE_BYTES_MAX + 1, false)] {
        let changes = vec![change(NOW, b"before"), change(NOW, &vec![0xa5; len])];
        let verdict = gate::admit(signed(base.feed, base.end, changes), &base.end);
        let expected = (!fits).then_some(Rejection::PayloadLength { seq: 5, len });
        assert_eq!(verdict.err(), expected, "{len} bytes");
    }
}

#[test]
fn a10_actors_have_32_bytes() {
    twisted("a megabyte", Harm::None, |raw| (raw.actor, raw.seq) = (vec![7; 1 << 20], 1));
    twisted("nothing", Harm::None, |raw| (raw.actor, raw.seq) = (Vec::new(), 1));
    let bytes = encode(&signed(feed(Stream::Ledger), FeedPosition::START, vec![change(NOW, b"one")]));
    let device = encode(&author().device());
    let at = bytes.windows(device.len()).position(|window| window == device).expect("inside");
    for len in [0, 1, 31, 33, 1 << 20] {
        let longer = encode(&minicbor::bytes::ByteVec::from(vec![7; len]));
        let twisted = [&bytes[..at], &longer, &bytes[at + device.len()..]].concat();
        assert!(matches!(codec::decode::<Run>(&twisted, 4 << 20), Err(DecodeError::Malformed(_))), "{len}");
    }
    assert_eq!(device.len(), DeviceId::LEN + 2, "a head and the id");
}

#[test]
fn a11_a_cut_tail_is_noticed_wherever_it_is_cut() {
    let base = base();
    let run = signed(base.feed, FeedPosition::START, base.changes.clone());
    let bytes = encode(&run);
    for cut in 0..bytes.len() {
        assert!(codec::decode::<Run>(&bytes[..cut], 1 << 20).is_err(), "a run cut at {cut}");
    }
    for count in 0..run.changes.len() {
        let shorter = Run { changes: run.changes[..count].to_vec(), ..run.clone() };
        let refused = if count == 0 { Rejection::Count(0) } else { Rejection::Signature };
        assert_eq!(gate::admit(shorter, &FeedPosition::START), Err(refused));
    }
    let (mut exporter, mut export) = Exporter::new(COMMUNITY);
    export.extend(exporter.segment(&run).expect("in order"));
    export.extend(exporter.finish());
    assert_eq!(Importer::new(&export).expect("whole").collect::<Vec<_>>(), [Ok(run)]);
    for cut in 0..export.len() {
        assert!(Importer::new(&export[..cut]).is_err(), "an export cut at {cut}");
    }
}
