//! Communities out of their stores as files and back: byte for byte, with
//! every key, with nothing believed that was not signed.

mod common;

#[path = "archive/hostile.rs"]
mod hostile;
#[path = "archive/phrase.rs"]
mod phrase;

use std::io::{self, Cursor, Write};
use std::path::Path;

use exo_model::feed::{FeedId, Stream};
use exo_model::id::{BoardId, CommunityId};
use exo_model::port::ChangeStore as _;
use exo_model::sealing::SealingKey;
use exo_model::trust::TrustLevel;
use exo_sync::archive::{self, ArchiveError, Exported, Imported, Waypoints};
use exo_sync::replica::Ingested;
use exo_sync::session::{FRAME_BYTES_MAX, Frame};
use exo_sync::store::Store;

use common::{Author, Home, NOW, device, message};

pub(crate) fn export(path: &Path, community: CommunityId) -> (Vec<u8>, Exported) {
    let mut bytes = Vec::new();
    let exported = archive::export(path, community, &mut bytes).expect("exported");
    assert_eq!(exported.bytes, bytes.len() as u64);
    (bytes, exported)
}

pub(crate) async fn try_import(
    home: &Home,
    bytes: &[u8],
    waypoints: &Waypoints,
    recovery: Option<SealingKey>,
) -> Result<Imported, ArchiveError> {
    let (replica, bytes, waypoints) = (home.replica.clone(), bytes.to_vec(), waypoints.clone());
    let importing = tokio::task::spawn_blocking(move || {
        let mut input = Cursor::new(bytes);
        let scan = archive::scan(&mut input, 0)?;
        archive::import(&replica, &mut input, &scan, &waypoints, recovery)
    });
    importing.await.expect("no panic")
}

pub(crate) async fn import(home: &Home, (bytes, exported): &(Vec<u8>, Exported)) -> Imported {
    try_import(home, bytes, &exported.waypoints, None).await.expect("imported")
}

/// Two who wrote to each other.
pub(crate) async fn lived_in() -> (Home, Home) {
    let ana = Home::found(1);
    let ben = ana.befriend(2).await;
    ana.post("hello").await;
    ben.pull(&ana).await;
    ben.replica.tend().await.expect("tended");
    ben.post("hello yourself").await;
    ana.pull(&ben).await;
    ben.pull(&ana).await;
    (ana, ben)
}

#[tokio::test]
async fn export_import_export_gives_the_same_bytes_and_importing_again_nothing() {
    let (ana, ben) = lived_in().await;
    let whole = export(&ana.path(), ana.community);
    assert_eq!(export(&ben.path(), ben.community).0, whole.0, "who has the same changes exports the same");

    // The store is lost, the device is not.
    let again = Home::empty(2, ana.community);
    let imported = import(&again, &whole).await;
    assert_eq!((imported.new, imported.known), (whole.1.changes, 0), "{imported:?}");
    assert_eq!((imported.deferred, imported.refused), (0, 0), "{imported:?}");
    assert!(imported.own > 0 && imported.keys > 0, "{imported:?}");
    assert_eq!(export(&again.path(), ana.community).0, whole.0);
    assert_eq!((again.digest(), again.state().hash()), (ana.digest(), ana.state().hash()));
    assert_eq!(again.texts(), ["hello", "hello yourself"]);

    let twice = import(&again, &whole).await;
    assert_eq!((twice.new, twice.known, twice.keys), (0, whole.1.changes, 0), "{twice:?}");
    assert_eq!(export(&again.path(), ana.community).0, whole.0);
    // And it is a whole member: it reads on after a restart, and writes.
    let again = again.reopen().await;
    assert_eq!(again.state().hash(), ana.state().hash());
    again.post("here I am").await;
    ana.pull(&again).await;
    assert_eq!(ana.texts().len(), 3);
}

#[tokio::test]
async fn an_import_merges_with_what_is_there() {
    let (ana, ben) = lived_in().await;
    ana.post("apart, Ana").await;
    ben.post("apart, Ben").await;
    let imported = import(&ben, &export(&ana.path(), ana.community)).await;
    assert_eq!((imported.new, imported.deferred, imported.refused, imported.own), (1, 0, 0, 0));
    import(&ana, &export(&ben.path(), ben.community)).await;
    assert_eq!(ana.digest(), ben.digest());
    assert_eq!(ana.texts(), ben.texts());
}

/// A member of the public writes more within a day than peers take from them.
#[tokio::test]
async fn no_quota_stops_an_import() {
    let ana = Home::found(1);
    ana.admit_at(2, TrustLevel::Public).await;
    for number in 0..3 {
        let feed = FeedId::new(ana.community, device(2), Stream::Board(BoardId::from_bytes([number; 16])));
        ana.clock.set(NOW + i64::from(number) * 3 * 24 * 60 * 60 * 1_000);
        let run = Author::new(2).run(feed, vec![message(9, "edit"); 8_000]);
        assert_eq!(ana.replica.ingest(run).await.expect("a member's"), Ingested::Stored(8_000));
    }
    let whole = export(&ana.path(), ana.community);
    let again = Home::empty(1, ana.community);
    let imported = import(&again, &whole).await;
    assert_eq!((imported.new, imported.deferred), (whole.1.changes, 0), "{imported:?}");
}

#[tokio::test]
async fn lines_that_part_come_back() {
    let (ana, _ben) = lived_in().await;
    let feed = ana.messages_of(device(2));
    let end = ana.end_of(&feed).await;
    for word in ["one", "other", "third"] {
        let run = Author::at(2, feed, end).line_run(feed, vec![message(90, word); 3]);
        assert_eq!(ana.replica.ingest_line(run).await.expect("a member's"), Ingested::Stored(3));
    }
    let whole = export(&ana.path(), ana.community);
    let again = Home::empty(1, ana.community);
    let imported = import(&again, &whole).await;
    assert_eq!((imported.deferred, imported.refused), (0, 0), "{imported:?}");
    assert_eq!(imported.new, ana.replica.snapshot().change_count(), "{imported:?}");
    assert_eq!(export(&again.path(), ana.community).0, whole.0);
    assert_eq!(again.digest(), ana.digest());
}

/// What was imported can be handed on: long lines are cut where they were
/// signed, and one that could not be handed on is not taken.
#[tokio::test]
async fn long_lines_are_handed_on_after_an_import() {
    let ana = Home::found(1);
    ana.admit(2).await;
    let feed = ana.messages_of(device(2));
    let mut author = Author::new(2);
    for _ in 0..8 {
        let run = author.line_run(feed, vec![message(9, &"word ".repeat(200)); 400]);
        assert_eq!(ana.replica.ingest_line(run).await.expect("a member's"), Ingested::Stored(400));
    }
    let whole = export(&ana.path(), ana.community);
    assert_eq!(whole.1.waypoints.len(), 7);
    assert_eq!(Waypoints::decode(&whole.1.waypoints.encode()).expect("as encoded"), whole.1.waypoints);

    let again = Home::empty(1, ana.community);
    let imported = import(&again, &whole).await;
    assert_eq!((imported.new, imported.refused), (whole.1.changes, 0), "{imported:?}");
    assert_eq!(export(&again.path(), ana.community), whole, "waypoints too");
    let end = again.end_of(&feed).await;
    let mut after = 0;
    while after < end.seq {
        let run = again.replica.read_line(feed, end, after).await.expect("readable").expect("there");
        after += run.run.changes.len() as u64;
        assert!(exo_model::codec::encode(&Frame::Changes(run)).len() <= FRAME_BYTES_MAX);
    }

    let without = Home::empty(1, ana.community);
    let imported = try_import(&without, &whole.0, &Waypoints::default(), None).await.expect("imported");
    assert_eq!((imported.refused, imported.refusals.len()), (3_200, 1), "{imported:?}");
    assert_eq!(imported.refusals[0].feed, feed);
    assert_eq!(without.end_of(&feed).await.seq, 0);
}

/// Writes on in the replica whenever a piece of the export arrives.
struct Busy<'a> {
    home: &'a Home,
    runtime: tokio::runtime::Handle,
    bytes: Vec<u8>,
}

impl Write for Busy<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.runtime.block_on(self.home.post("meanwhile"));
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_export_is_of_one_moment_while_the_replica_goes_on() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (ana, _ben) = runtime.block_on(lived_in());
    let (before, _) = export(&ana.path(), ana.community);
    let mut busy = Busy { home: &ana, runtime: runtime.handle().clone(), bytes: Vec::new() };
    archive::export(&ana.path(), ana.community, &mut busy).expect("exported");
    assert_eq!(busy.bytes, before);
    assert!(ana.texts().len() > 4, "it wrote meanwhile");
    assert_ne!(export(&ana.path(), ana.community).0, before);
}

#[tokio::test]
async fn what_is_no_community_is_not_exported() {
    let (ana, _ben) = lived_in().await;
    let other = CommunityId::from_bytes([9; 32]);
    let nothing = archive::export(&ana.path(), other, &mut io::sink());
    assert!(matches!(nothing, Err(ArchiveError::Nothing(id)) if id == other), "{nothing:?}");
    let missing = archive::export(&ana.folder.path().join("none.db"), ana.community, &mut io::sink());
    assert!(matches!(missing, Err(ArchiveError::Store(_))), "{missing:?}");
    assert!(!ana.folder.path().join("none.db").exists(), "looking makes no store");

    let stranger = Home::empty(5, other);
    let whole = export(&ana.path(), ana.community);
    let mixed_up = try_import(&stranger, &whole.0, &whole.1.waypoints, None).await;
    assert!(matches!(mixed_up, Err(ArchiveError::OtherCommunity { .. })), "{mixed_up:?}");
}

/// A store that is damaged makes no export that nobody can import.
#[tokio::test]
async fn a_damaged_store_is_not_exported() {
    let (ana, _ben) = lived_in().await;
    let path = ana.path();
    let community = ana.community;
    let folder = ana.folder.clone();
    ana.close().await;
    assert!(!Store::open(&path).expect("opens").lines(community).expect("lines").is_empty());
    let db = rusqlite::Connection::open(&path).expect("opens");
    db.execute("UPDATE changes SET payload = x'00' WHERE seq = 1", []).expect("damaged");
    drop(db);
    let damaged = archive::export(&path, community, &mut io::sink());
    assert!(matches!(damaged, Err(ArchiveError::Store(_))), "{damaged:?}");
    drop(folder);
}
