//! `store.db`: what was appended comes back, cut only where it is signed, and
//! damage of any kind is noticed instead of served.

mod common;

use std::path::Path;
use std::sync::Arc;

use exo_model::feed::gate::{RUN_CHANGES_MAX, admit};
use exo_model::feed::{AcceptedRun, FeedId, FeedPosition, LineId, Rejection, Run, Stream};
use exo_model::id::{ChannelId, CommunityId};
use exo_model::port::{ChangeStore as _, Signer as _, StoredLine};
use exo_sync::replica::{Replica, ReplicaError};
use exo_sync::store::{Store, StoreError};

use common::{Author, Home, Rng, config, device, key, message};

fn feed(community: u8, stream: Stream) -> FeedId {
    FeedId::new(CommunityId::from_bytes([community; 32]), device(1), stream)
}

fn channel(n: u8) -> Stream {
    Stream::Channel(ChannelId::from_bytes([n; 16]))
}

fn append(store: &mut Store, run: Run) {
    let position = store.position(run.feed).expect("readable");
    store.append(&admit(run, &position).expect("authentic")).expect("stored");
}

/// Reads a whole feed in pieces and passes each through the gate again.
fn read_through(store: &Store, line: impl Into<LineId>, max_bytes: usize) -> (FeedPosition, Vec<u64>) {
    let line = line.into();
    let (mut at, mut cuts) = (FeedPosition::START, Vec::new());
    while let Some(run) = store.read_run(line, at.seq, max_bytes).expect("readable") {
        at = admit(run, &at).expect("served as it was signed").end();
        cuts.push(at.seq);
    }
    (at, cuts)
}

fn open_replica(path: &Path, community: CommunityId) -> Result<(), ReplicaError> {
    Replica::open(config(1, community, path.to_owned(), 0), |_| {}).map(|_| ())
}

#[test]
fn what_is_appended_is_there_after_reopening() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let mut author = Author::new(1);
    let feeds = [feed(1, Stream::Charter), feed(1, channel(2)), feed(2, Stream::Charter)];
    let mut written = Vec::new();
    {
        let mut store = Store::open(&path).expect("opens");
        for n in 0..12 {
            let run = author.messages(feeds[n % 3], n, 1 + n % 4);
            written.push(run.clone());
            append(&mut store, run);
        }
    }
    let store = Store::open(&path).expect("opens again");
    for run in &written {
        let max_bytes = run.changes.iter().map(|change| change.payload.len()).sum();
        let read = store.read_run(run.feed, run.first_seq - 1, max_bytes).expect("readable");
        assert_eq!(read.as_ref(), Some(run));
    }
    let stored = store.lines(CommunityId::from_bytes([1; 32])).expect("readable");
    assert_eq!(stored.iter().map(|line| line.id.feed).collect::<Vec<_>>(), feeds[..2]);
    for StoredLine { id, parent, base_seq, end } in stored {
        assert_eq!((id.number, parent, base_seq), (0, None, 0), "an honest feed is one line");
        let feed = id.feed;
        assert_eq!(store.position(feed).expect("readable"), end);
        assert_eq!(store.hash_at(feed, end.seq).expect("readable"), Some(end.hash));
        assert_eq!(store.hash_at(feed, end.seq + 1).expect("readable"), None);
        assert_eq!(store.read_run(feed, end.seq, usize::MAX).expect("readable"), None);
        assert_eq!(store.read_run(feed, u64::MAX, 0).expect("readable"), None);
    }
    let absent = feed(3, Stream::Ledger);
    assert_eq!(store.position(absent).expect("readable"), FeedPosition::START);
    assert_eq!(store.read_run(absent, 0, usize::MAX).expect("readable"), None);
}

#[test]
fn runs_are_cut_only_where_they_were_signed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut rng = Rng(0x5709_0001);
    for round in 0..4 {
        let mut store = Store::open(&folder.path().join(format!("{round}.db"))).expect("opens");
        let (feed, mut author) = (feed(1, channel(1)), Author::new(1));
        let (mut signed, mut end) = (Vec::new(), 0);
        for _ in 0..6 {
            let count = 1 + rng.below(40);
            append(&mut store, author.messages(feed, end, count));
            end += count;
            signed.push(end as u64);
        }
        let all = store.position(feed).expect("readable");
        for max_bytes in [0, 1, 40, 200, 1_000, usize::MAX] {
            let (read, cuts) = read_through(&store, feed, max_bytes);
            assert_eq!(read, all, "with {max_bytes} bytes");
            assert!(cuts.iter().all(|cut| signed.contains(cut)), "{cuts:?} in {signed:?}");
        }
        for _ in 0..40 {
            let after = rng.below(end) as u64;
            let run = store.read_run(feed, after, rng.below(600)).expect("readable").expect("more");
            let hash = store.hash_at(feed, after).expect("readable");
            let start = hash.map_or(FeedPosition::START, |hash| FeedPosition { seq: after, hash });
            let accepted = admit(run, &start).expect("signed at its end");
            assert!(signed.contains(&accepted.end().seq));
        }
    }
}

#[test]
fn limits_of_bytes_and_count_cut_between_signatures() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = Store::open(&folder.path().join("store.db")).expect("opens");
    let (single, big) = (feed(1, channel(1)), feed(1, channel(2)));
    let mut author = Author::new(1);
    for n in 0..20 {
        append(&mut store, author.run(single, vec![message(n, &"x".repeat(100))]));
    }
    let run = store.read_run(single, 3, 500).expect("readable").expect("more");
    let bytes: usize = run.changes.iter().map(|change| change.payload.len()).sum();
    assert_eq!((run.first_seq, bytes <= 500 && run.changes.len() > 1), (4, true));

    // A whole segment in two runs; no run may be longer, and no segment.
    const FIRST: usize = RUN_CHANGES_MAX - 7;
    append(&mut store, author.messages(big, 0, FIRST));
    append(&mut store, author.messages(big, FIRST, 7));
    let lens = |after, max_bytes| {
        let run = store.read_run(big, after, max_bytes).expect("readable").expect("more");
        run.changes.len()
    };
    assert_eq!(lens(0, usize::MAX), RUN_CHANGES_MAX);
    assert_eq!(lens(0, 1), FIRST);
    assert_eq!(lens(7, usize::MAX), FIRST, "both runs");
    assert_eq!(lens(7, 1), FIRST - 7);
    assert_eq!(lens(FIRST as u64, 1), 7);
    let full = store.position(big).expect("readable");
    assert_eq!(admit(author.messages(big, RUN_CHANGES_MAX, 1), &full), Err(Rejection::Count(1)));
}

#[test]
fn a_run_accepted_against_another_position_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut store = Store::open(&folder.path().join("store.db")).expect("opens");
    let (feed, mut author) = (feed(1, channel(1)), Author::new(1));
    let first = admit(author.messages(feed, 0, 3), &FeedPosition::START).expect("authentic");
    let second = admit(author.messages(feed, 3, 3), &first.end()).expect("authentic");
    assert!(matches!(store.append(&second), Err(StoreError::Damaged(_))), "a gap");
    store.append(&first).expect("in place");
    assert!(matches!(store.append(&first), Err(StoreError::Damaged(_))), "twice");
    assert_eq!(store.position(feed).expect("readable"), first.end());
    store.append(&second).expect("in place now");
    assert_eq!(read_through(&store, feed, 1), (second.end(), vec![3, 6]));
}

/// Lines that part, in a tree three deep: each is read through those it parts
/// from, and cut where it was signed, also across the place.
#[test]
fn a01_lines_that_part_are_stored_once_and_read_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let feed = feed(1, Stream::Charter);
    let mut lines: Vec<Vec<AcceptedRun>> = Vec::new();
    {
        let mut store = Store::open(&path).expect("opens");
        let mut author = Author::new(1);
        let mut at = FeedPosition::START;
        let mut main = Vec::new();
        for n in 0..4 {
            let run = admit(author.messages(feed, n, 3), &at).expect("authentic");
            at = run.end();
            assert_eq!(store.append_received(&run).expect("stored").id.number, 0);
            main.push(run);
        }
        lines.push(main);
        // Each parts from the one before, one change earlier or later.
        for (number, from) in [(1, 5), (2, 7), (3, 0)] {
            let below = lines[number - 1].iter().flat_map(|run| {
                (run.first_seq()..).zip(run.hashes()).map(|(seq, hash)| FeedPosition { seq, hash: *hash })
            });
            let base = below.into_iter().find(|at| at.seq == from).unwrap_or(FeedPosition::START);
            let shared: Vec<_> =
                lines[number - 1].iter().filter(|run| run.end().seq <= from).cloned().collect();
            let mut author = Author::at(1, feed, base);
            let first = admit(author.messages(feed, 100 * number, 4), &base).expect("authentic");
            let line = store.append_received(&first).expect("a line of its own");
            let parent = (from > 0).then_some(u32::try_from(number - 1).expect("few"));
            assert_eq!((line.id.number as usize, line.parent, line.base_seq), (number, parent, from));
            let second = admit(author.messages(feed, 100 * number + 4, 2), &first.end()).expect("authentic");
            assert_eq!(store.append_received(&second).expect("goes on").id, line.id);
            assert!(store.append_received(&first).is_err(), "twice");
            assert!(store.append(&first).is_err(), "no author of ours parts");
            lines.push([shared, vec![first, second]].concat());
        }
    }
    let store = Store::open(&path).expect("opens again");
    let stored = store.lines_of(&feed).expect("readable");
    assert_eq!(stored, store.lines(CommunityId::from_bytes([1; 32])).expect("readable"));
    for (line, runs) in stored.iter().zip(&lines) {
        assert_eq!(line.end, runs.last().expect("runs").end());
        for max_bytes in [0, 1, 100, usize::MAX] {
            assert_eq!(read_through(&store, line.id, max_bytes).0, line.end, "{line:?} by {max_bytes}");
        }
        let own = runs.iter().flat_map(|run| (run.first_seq()..).zip(run.hashes()));
        for (seq, hash) in own.filter(|(seq, _)| *seq > line.base_seq) {
            assert_eq!(store.hash_at(line.id, seq).expect("readable"), Some(*hash));
            let at = FeedPosition { seq, hash: *hash };
            assert_eq!(store.line_through(&feed, &at).expect("readable"), Some(line.id));
        }
        assert_eq!(store.hash_at(line.id, line.end.seq + 1).expect("readable"), None);
    }
}

/// A file of the version before lines: everything is there, as one line each.
#[test]
fn a_file_without_lines_is_carried_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let (feed, mut author) = (feed(1, channel(1)), Author::new(1));
    let mut store = Store::open(&path).expect("opens");
    append(&mut store, author.messages(feed, 0, 3));
    drop(store);
    let db = rusqlite::Connection::open(&path).expect("opens");
    db.execute_batch(
        "PRAGMA foreign_keys = 0; PRAGMA legacy_alter_table = 1; ALTER TABLE feeds RENAME TO lines;
         CREATE TABLE feeds (
             id INTEGER PRIMARY KEY, community BLOB NOT NULL, device BLOB NOT NULL, stream BLOB NOT NULL,
             segment INTEGER NOT NULL, seq INTEGER NOT NULL, hash BLOB NOT NULL,
             UNIQUE (community, device, stream, segment)
         ) STRICT;
         INSERT INTO feeds SELECT id, community, device, stream, segment, seq, hash FROM lines;
         DROP TABLE lines; PRAGMA user_version = 2;",
    )
    .expect("as it was before");
    drop(db);
    let mut store = Store::open(&path).expect("carried over");
    assert_eq!(read_through(&store, feed, usize::MAX).0, author.end_of(&feed));
    append(&mut store, author.messages(feed, 3, 2));
    drop(store);
    let store = Store::open(&path).expect("opens again");
    assert_eq!(read_through(&store, feed, 1), (author.end_of(&feed), vec![3, 5]));
}

#[test]
fn a_newer_schema_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    drop(Store::open(&path).expect("opens"));
    for found in [4_i64, 77, -1] {
        let db = rusqlite::Connection::open(&path).expect("a database");
        db.pragma_update(None, "user_version", found).expect("a newer program");
        drop(db);
        let refused = Store::open(&path).expect_err("too new");
        assert!(matches!(refused, StoreError::Newer { found: said, .. } if said == found), "{refused}");
        let db = rusqlite::Connection::open(&path).expect("a database");
        let kept: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("a number");
        assert_eq!(kept, found);
    }
}

/// Written before events were sealed: nothing of it is read, nothing lost.
#[tokio::test]
async fn a_store_from_before_sealing_is_refused_and_left_alone() {
    let (_folder, path, community) = closed_store().await;
    let db = rusqlite::Connection::open(&path).expect("a database");
    db.pragma_update(None, "user_version", 1).expect("an older program");
    drop(db);
    for _ in 0..2 {
        let refused = Store::open(&path).expect_err("too old");
        assert!(matches!(&refused, StoreError::Unsealed { path: said } if *said == path), "{refused}");
        assert!(refused.to_string().contains("join again"), "it says what to do");
        let refused = open_replica(&path, community);
        assert!(matches!(refused, Err(ReplicaError::Store(StoreError::Unsealed { .. }))), "{refused:?}");
    }
    let db = rusqlite::Connection::open(&path).expect("a database");
    let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).expect("a number");
    let changes: i64 = db.query_row("SELECT count(*) FROM changes", [], |row| row.get(0)).expect("a number");
    assert_eq!(version, 1);
    assert!(changes > 5, "all is there");
}

#[test]
fn a_file_that_is_no_store_is_an_error_not_a_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    std::fs::write(&path, b"SQLite format 4\0 or something else".repeat(200)).expect("written");
    assert!(matches!(Store::open(&path), Err(StoreError::Sqlite(_))));
    assert!(matches!(Store::open(folder.path()), Err(StoreError::Sqlite(_))));
}

/// What a killed program leaves: the files as they are, the log not merged.
#[test]
fn p2_a_killed_writer_loses_no_appended_run_and_a_torn_log_leaves_a_prefix() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store.db");
    let mut store = Store::open(&path).expect("opens");
    let (feed, mut author) = (feed(1, channel(1)), Author::new(1));
    for n in 0..12 {
        append(&mut store, author.messages(feed, n, 1 + n % 3));
    }
    let end = store.position(feed).expect("readable");
    let log = std::fs::read(folder.path().join("store.db-wal")).expect("a log");
    let main = std::fs::read(&path).expect("a file");
    let mut rng = Rng(0x5709_0002);
    let mut reached = 0;
    for cut in 0..16 {
        let copy = folder.path().join(format!("copy{cut}.db"));
        std::fs::write(&copy, &main).expect("copied");
        let keep = if cut == 0 { log.len() } else { rng.below(log.len()) };
        std::fs::write(folder.path().join(format!("copy{cut}.db-wal")), &log[..keep]).expect("copied");
        let copy = Store::open(&copy).expect("a torn log is no damage");
        let (read, _) = read_through(&copy, feed, 100);
        assert_eq!(copy.position(feed).expect("readable"), read, "whole runs only");
        assert!(cut > 0 || read == end, "nothing that was appended is lost");
        let kept = store.hash_at(feed, read.seq).expect("readable");
        assert!(read == FeedPosition::START || kept == Some(read.hash), "another history");
        reached = reached.max(read.seq);
    }
    assert_eq!(reached, end.seq);
}

/// A founder's store with some messages, closed.
async fn closed_store() -> (Arc<tempfile::TempDir>, std::path::PathBuf, CommunityId) {
    let home = Home::found(1);
    for n in 0..5 {
        home.post(&format!("tamper with me {n}")).await;
    }
    let (folder, path, community) = (home.folder.clone(), home.path(), home.community);
    home.close().await;
    (folder, path, community)
}

#[tokio::test]
async fn damaged_rows_are_noticed_when_the_replica_opens() {
    let (folder, path, community) = closed_store().await;
    open_replica(&path, community).expect("undamaged so far");
    let damages = [
        "UPDATE changes SET payload = CAST(x'00' || substr(payload, 2) AS BLOB) WHERE seq = 3",
        "UPDATE changes SET payload = substr(payload, 1, length(payload) - 1) WHERE seq = 1",
        "UPDATE changes SET payload = x'' WHERE seq = 2",
        "UPDATE changes SET time_ms = time_ms + 1 WHERE seq = 2",
        "UPDATE changes SET time_ms = -9223372036854775807 WHERE seq = 2",
        "UPDATE signatures SET signature = zeroblob(64) WHERE seq = 2",
        "UPDATE signatures SET signature = zeroblob(63) WHERE seq = 2",
        "DELETE FROM changes WHERE seq = 1",
        "DELETE FROM changes WHERE seq = 5",
        "DELETE FROM signatures",
        "UPDATE feeds SET seq = seq + 1",
        "UPDATE feeds SET seq = -1",
        "UPDATE feeds SET stream = x'ff' WHERE id = 1",
        "UPDATE feeds SET stream = x'820380' WHERE id = 3",
        "UPDATE feeds SET stream = x'8100' WHERE stream = (SELECT max(stream) FROM feeds)",
        "UPDATE feeds SET device = zeroblob(32)",
        "UPDATE feeds SET segment = segment + 1",
        "UPDATE feeds SET segment = -1",
    ];
    for (n, damage) in damages.iter().enumerate() {
        let copy = folder.path().join(format!("damaged{n}.db"));
        std::fs::copy(&path, &copy).expect("copied");
        let db = rusqlite::Connection::open(&copy).expect("a database");
        // Some break a rule of the schema, which real damage does not ask.
        db.pragma_update(None, "foreign_keys", false).expect("off");
        match db.execute(damage, []) {
            Ok(rows) => assert!(rows > 0, "{damage} does something"),
            Err(_) => continue,
        }
        drop(db);
        assert!(open_replica(&copy, community).is_err(), "not noticed: {damage}");
    }
}

#[tokio::test]
async fn flipped_bytes_in_the_file_are_noticed_when_the_replica_opens() {
    let (folder, path, community) = closed_store().await;
    let bytes = std::fs::read(&path).expect("a file");
    let is_at = |needle: &[u8]| bytes.windows(needle.len()).position(|window| window == needle);
    assert_eq!(is_at(b"tamper with me"), None, "what was said is sealed");
    // What was stored, then: some bytes of every payload.
    let store = Store::open(&path).expect("opens");
    let mut places = Vec::new();
    for line in store.lines(community).expect("readable") {
        let run = store.read_run(line.id, 0, usize::MAX).expect("readable").expect("there");
        places.extend(run.changes.iter().filter_map(|change| is_at(&change.payload[..40])));
    }
    drop(store);
    assert!(places.len() >= 9, "the messages are in the file");
    for (n, at) in places.into_iter().enumerate() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x20;
        let copy = folder.path().join(format!("flipped{n}.db"));
        std::fs::write(&copy, damaged).expect("copied");
        assert!(open_replica(&copy, community).is_err(), "byte {at}");
    }
}

/// Whatever happens to a file, opening it gives an answer.
#[tokio::test]
async fn random_damage_never_panics() {
    let (folder, path, community) = closed_store().await;
    let bytes = std::fs::read(&path).expect("a file");
    let mut rng = Rng(0x5709_0003);
    for n in 0..40 {
        let mut damaged = bytes.clone();
        match n % 3 {
            0 => damaged.truncate(rng.below(bytes.len())),
            1 => {
                let at = rng.below(bytes.len() - 512);
                damaged[at..at + 512].fill(0);
            }
            _ => (0..8).for_each(|_| damaged[rng.below(bytes.len())] ^= 1 << rng.below(8)),
        }
        let copy = folder.path().join(format!("random{n}.db"));
        std::fs::write(&copy, damaged).expect("copied");
        let _ = open_replica(&copy, community);
    }
}

#[test]
fn an_authors_key_is_not_in_the_store() {
    let home = Home::found(7);
    let bytes = std::fs::read(home.path()).expect("a file");
    assert!(!bytes.windows(32).any(|window| window == key(7).to_bytes()), "the seed is on disk");
    assert_eq!(key(7).device(), home.device());
}
