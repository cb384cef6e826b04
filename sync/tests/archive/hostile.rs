//! Exports that liars made: no panic, and nothing stored that its author did
//! not sign.

use std::io::Cursor;

use exo_model::codec;
use exo_model::export::{ExportError, Exporter, HEAD_LEN, LENGTH_LEN};
use exo_model::feed::{FeedPosition, Run, gate};
use exo_model::port::ChangeStore as _;
use exo_sync::archive::{self, ArchiveError, Waypoints};
use exo_sync::store::Store;

use super::common::{Author, Home, Rng, device, message};
use super::{export, import, lived_in, try_import};

/// Mutants of one export.
const MUTANTS: usize = 2_000;

/// The frames of an export.
fn frames(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &bytes[HEAD_LEN..];
    let mut frames = Vec::new();
    loop {
        let (length, after) = rest.split_first_chunk::<LENGTH_LEN>().expect("a length");
        match u32::from_be_bytes(*length) as usize {
            0 => return frames,
            length => {
                frames.push(after[..length].to_vec());
                rest = &after[length..];
            }
        }
    }
}

/// Frames under a digest that fits.
fn sealed(head: &[u8], frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = head[..HEAD_LEN].to_vec();
    for frame in frames {
        bytes.extend(u32::try_from(frame.len()).expect("short").to_be_bytes());
        bytes.extend(frame);
    }
    bytes.extend([0; LENGTH_LEN]);
    let digest = *exo_model::hash::blake3(&bytes).as_bytes();
    bytes.extend(digest);
    bytes
}

fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let at = rng.below(bytes.len());
    match rng.below(4) {
        0 => bytes[at] ^= 1 << rng.below(8),
        1 => bytes[at] = rng.bytes(1)[0],
        2 => bytes.truncate(at.max(1)),
        _ => {
            let len = 1 + rng.below(9);
            let piece = rng.bytes(len);
            bytes.splice(at..at, piece);
        }
    }
}

/// Every stored change is one of the original's.
fn assert_authentic(home: &Home, original: &Store) {
    let stored = Store::open_snapshot(&home.path()).expect("opens");
    for line in stored.lines(home.community).expect("lines") {
        let found = original.line_through(&line.id.feed, &line.end).expect("readable");
        assert!(found.is_some(), "{:?} is nobody's", line.id.feed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mutants_never_panic_and_store_nothing_wrong() {
    let (ana, ben) = lived_in().await;
    let whole = export(&ana.path(), ana.community);
    let honest = frames(&whole.0);
    assert_eq!(sealed(&whole.0, &honest), whole.0);
    let original = Store::open_snapshot(&ana.path()).expect("opens");
    let mut home = Home::empty(2, ana.community);
    let mut rng = Rng(7);
    let (mut unreadable, mut imported) = (0, 0);
    for round in 0..MUTANTS {
        let mut bytes = whole.0.clone();
        if round % 2 == 0 {
            mutate(&mut rng, &mut bytes);
        } else {
            // The liar knows how to make a digest.
            let mut lies = honest.clone();
            match rng.below(6) {
                0 => {
                    let (one, other) = (rng.below(lies.len()), rng.below(lies.len()));
                    lies.swap(one, other);
                }
                1 => drop(lies.remove(rng.below(lies.len()))),
                _ => {
                    let index = rng.below(lies.len());
                    mutate(&mut rng, &mut lies[index]);
                }
            }
            bytes = sealed(&whole.0, &lies);
        }
        match try_import(&home, &bytes, &Waypoints::default(), None).await {
            Ok(_) => imported += 1,
            Err(ArchiveError::Format(_) | ArchiveError::OtherCommunity { .. }) => unreadable += 1,
            Err(error) => panic!("round {round}: {error}"),
        }
        if round % 200 == 199 {
            assert_authentic(&home, &original);
            home.close().await;
            home = Home::empty(2, ana.community);
        }
    }
    assert!(unreadable > 900 && imported > 200, "{unreadable} and {imported}");
    // It is none the worse for it.
    import(&home, &whole).await;
    assert_eq!(export(&home.path(), ana.community).0, whole.0);
    drop(ben);
}

#[tokio::test]
async fn waypoints_that_lie_cut_nothing_wrong() {
    let ana = Home::found(1);
    ana.admit(2).await;
    let feed = ana.messages_of(device(2));
    let mut author = Author::new(2);
    for _ in 0..3 {
        let run = author.line_run(feed, vec![message(9, &"word ".repeat(200)); 400]);
        ana.replica.ingest_line(run).await.expect("a member's");
    }
    let whole = export(&ana.path(), ana.community);
    let original = Store::open_snapshot(&ana.path()).expect("opens");
    let encoded = whole.1.waypoints.encode();
    let mut rng = Rng(3);
    let mut readable = 0;
    for _ in 0..300 {
        let mut bytes = encoded.clone();
        mutate(&mut rng, &mut bytes);
        let Ok(waypoints) = Waypoints::decode(&bytes) else { continue };
        readable += 1;
        let home = Home::empty(1, ana.community);
        try_import(&home, &whole.0, &waypoints, None).await.expect("imported");
        assert_authentic(&home, &original);
        home.close().await;
    }
    assert!(readable > 20, "{readable}");
}

/// Who only copies, changes and signs anew as themselves brings in nothing
/// under another's name.
#[tokio::test]
async fn forged_lines_are_refused_and_named() {
    let (ana, _ben) = lived_in().await;
    let whole = export(&ana.path(), ana.community);
    let mut lies = frames(&whole.0);
    let runs: Vec<Run> = lies.iter().map(|frame| codec::decode(frame, frame.len()).expect("a run")).collect();
    let words = runs.iter().position(|run| run.feed == ana.messages_of(device(2))).expect("Ben's words");
    let mut forged = runs[words].clone();
    forged.changes.push(message(99, "Ben never said this"));
    assert!(gate::admit(forged.clone(), &FeedPosition::START).is_err());
    lies[words] = codec::encode(&forged);
    let again = Home::empty(1, ana.community);
    let imported =
        try_import(&again, &sealed(&whole.0, &lies), &Waypoints::default(), None).await.expect("imported");
    assert_eq!(imported.refused, forged.changes.len() as u64, "{imported:?}");
    assert_eq!(imported.refusals.len(), 1);
    assert_eq!(imported.refusals[0].reason, "the signature is not the feed's author's");
    assert_eq!(again.texts(), ["hello"], "the rest is there");
}

#[test]
fn lengths_that_lie_are_not_made_room_for() {
    let (_, mut bytes) = Exporter::new(exo_model::CommunityId::from_bytes([1; 32]));
    bytes.extend(u32::try_from(exo_model::export::FRAME_BYTES_MAX).expect("32 bits").to_be_bytes());
    bytes.extend([7; 100]);
    let cut = archive::scan(&mut Cursor::new(&bytes), 0);
    assert!(matches!(cut, Err(ArchiveError::Format(ExportError::Damaged))), "{cut:?}");
    for len in 0..bytes.len() {
        assert!(archive::scan(&mut Cursor::new(&bytes[..len]), 0).is_err(), "{len} bytes");
    }
}
