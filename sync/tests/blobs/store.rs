//! What is kept, for whom, and what goes.

use std::time::Duration;

use iroh_blobs::BlobFormat;
use iroh_blobs::api::blobs::{AddPathOptions, ImportMode};
use iroh_blobs::store::fs::FsStore;

use exo_model::weights::ByteRange;
use exo_sync::blobs::{ALIGNMENT_BYTES, Blobs, BlobsError, BlobsOptions, FetchError, NoRoom, Usage};

use super::party::{GARDEN, Map, Members, OTHER, Party, all, bytes_below, options, random};
use crate::common::{DEADLINE, in_time};

/// Waits until nothing is here of a blob.
async fn gone(blobs: &Blobs, blob: exo_model::id::BlobHash, size: u64) {
    let waiting = async {
        while !blobs.present(blob, size).await.expect("known").is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    in_time("the collection", waiting).await;
}

/// Long enough for several collections.
async fn collections() {
    tokio::time::sleep(options().collect_every * 8).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_holds_goes_and_what_somebody_holds_stays() {
    let map = Map::default();
    let bytes = random(300_000);
    let size = bytes.len() as u64;
    let (ana, eva) = (Party::new(1, &map).await, Party::new(2, &map).await);
    let blob = ana.add(&bytes).await;
    ana.admit(&[&eva]);
    eva.whole(blob, size, &[ana.device()]).await;
    eva.blobs.pin(OTHER, blob).await.expect("pinned");
    eva.blobs.unpin(GARDEN, blob).await.expect("let go");
    collections().await;
    assert_eq!(eva.read(blob, size).await, bytes, "the other community still holds it");
    eva.blobs.unpin(OTHER, blob).await.expect("let go");
    gone(&eva.blobs, blob, size).await;
    let data = eva.folder.path().join("blobs/data");
    in_time("the bytes go", async {
        while bytes_below(&data) >= ALIGNMENT_BYTES {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    // What iroh-blobs forgets, a file of hashes under a block, goes at a start.
    let eva = Party::open(2, &map, options(), eva.close().await).await;
    ana.admit(&[&eva]);
    assert_eq!(bytes_below(&eva.folder.path().join("blobs/data")), 0);
    // And it can come back.
    eva.whole(blob, size, &[ana.device()]).await;
    assert_eq!(eva.read(blob, size).await, bytes);
}

/// Whatever becomes of its entry, a person's own file is theirs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_added_in_place_is_never_moved_or_deleted() {
    let map = Map::default();
    let bytes = random(300_000);
    let size = bytes.len() as u64;
    let ana = Party::new(1, &map).await;
    let blob = ana.add(&bytes).await;
    let path = ana.folder.path().join("model.gguf");
    assert!(bytes_below(&ana.folder.path().join("blobs/data")) < size, "not copied");
    ana.blobs.read(blob, size, all(size)).await.expect("served from there");
    ana.blobs.unpin(GARDEN, blob).await.expect("let go");
    gone(&ana.blobs, blob, size).await;
    collections().await;
    assert_eq!(std::fs::read(&path).expect("still there"), bytes);
    // Added again, restarted, let go while closed files are about.
    ana.blobs.add_file(GARDEN, &path).await.expect("added");
    let ana = Party::open(1, &map, options(), ana.close().await).await;
    assert_eq!(ana.read(blob, size).await, bytes);
    ana.blobs.unpin(GARDEN, blob).await.expect("let go");
    gone(&ana.blobs, blob, size).await;
    let folder = ana.close().await;
    assert_eq!(std::fs::read(folder.path().join("model.gguf")).expect("still there"), bytes);
}

/// Fetched first, and then found to be on this machine anyway; and the other
/// way round.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_was_fetched_too_is_not_deleted_either() {
    let map = Map::default();
    let bytes = random(300_000);
    let size = bytes.len() as u64;
    let (ana, eva) = (Party::new(1, &map).await, Party::new(2, &map).await);
    let blob = ana.add(&bytes).await;
    ana.admit(&[&eva]);
    let half = ByteRange { start: 0, end: 9 * ALIGNMENT_BYTES };
    for ranges in [vec![half], vec![all(size)]] {
        eva.fetch(blob, size, &ranges, &[ana.device()]).await.expect("fetched");
        assert_eq!(eva.add(&bytes).await, blob);
        assert_eq!(eva.read(blob, size).await, bytes);
        eva.blobs.unpin(GARDEN, blob).await.expect("let go");
        gone(&eva.blobs, blob, size).await;
        collections().await;
        assert_eq!(std::fs::read(eva.folder.path().join("model.gguf")).expect("still there"), bytes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_are_kept_until_the_fetch_is_given_up() {
    let map = Map::default();
    let bytes = random(300_000);
    let size = bytes.len() as u64;
    let (ana, ben, eva) = (Party::new(1, &map).await, Party::new(2, &map).await, Party::new(3, &map).await);
    let blob = ana.add(&bytes).await;
    ana.admit(&[&ben]);
    let half = ByteRange { start: 0, end: 9 * ALIGNMENT_BYTES };
    ben.fetch(blob, size, &[half], &[ana.device()]).await.expect("a half");
    ben.admit(&[&eva]);
    eva.fetch(blob, size, &[all(size)], &[ben.device()]).await.expect_err("a half only");
    let usage = eva.blobs.usage().await.expect("known");
    assert_eq!(
        usage[&GARDEN],
        Usage { stored_bytes: half.len(), partial_bytes: half.len(), in_place_bytes: 0 }
    );
    collections().await;
    assert_eq!(eva.blobs.present(blob, size).await.expect("known"), [half]);
    // Restarts keep it too, until it is too old.
    let eva = Party::open(3, &map, options(), eva.close().await).await;
    collections().await;
    assert_eq!(eva.blobs.present(blob, size).await.expect("known"), [half]);
    eva.blobs.unpin(GARDEN, blob).await.expect("given up");
    gone(&eva.blobs, blob, size).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_the_quota_nothing_is_fetched_and_the_error_names_what_may_go() {
    let map = Map::default();
    let (first, second) = (random(400_000), random(300_000));
    let ana = Party::new(1, &map).await;
    let one = ana.add(&first).await;
    let path = ana.folder.path().join("second");
    std::fs::write(&path, &second).expect("written");
    let two = ana.blobs.add_file(GARDEN, &path).await.expect("added");
    let limited = BlobsOptions { quota_bytes: Some(600_000), ..options() };
    let eva = Party::with(2, &map, limited).await;
    ana.admit(&[&eva]);
    // Her own files do not count.
    eva.add(&random(900_000)).await;
    eva.whole(one, 400_000, &[ana.device()]).await;
    let error = eva.fetch(two, 300_000, &[all(300_000)], &[ana.device()]).await.expect_err("over the quota");
    match &error {
        FetchError::NoRoom(NoRoom::Quota { needed_bytes, used_bytes, quota_bytes, largest }) => {
            assert_eq!((*needed_bytes, *used_bytes, *quota_bytes), (300_000, 400_000, 600_000));
            assert_eq!(largest, &[(one, 400_000)]);
        }
        other => panic!("{other}"),
    }
    assert!(error.to_string().contains(&one.to_string()), "{error}");
    assert!(eva.blobs.held_for(&two).is_empty());
    let usage = eva.blobs.usage().await.expect("known");
    assert_eq!(usage[&GARDEN], Usage { stored_bytes: 400_000, partial_bytes: 0, in_place_bytes: 900_000 });
    eva.blobs.unpin(GARDEN, one).await.expect("let go");
    eva.whole(two, 300_000, &[ana.device()]).await;
    // What is here already needs no room.
    eva.whole(two, 300_000, &[ana.device()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holdings_survive_restarts_and_leftovers_do_not() {
    let map = Map::default();
    let bytes = random(300_000);
    let ana = Party::new(1, &map).await;
    let blob = ana.add(&bytes).await;
    ana.blobs.pin(OTHER, blob).await.expect("pinned");
    let folder = ana.close().await;
    // As after a kill in the middle of an import.
    let data = folder.path().join("blobs/data");
    let orphan = exo_model::hash::blake3(b"orphan").to_hex();
    std::fs::write(data.join(format!("{orphan}.data")), b"orphan").expect("written");
    std::fs::write(folder.path().join("blobs/temp/0011.temp"), b"half").expect("written");
    let ana = Party::open(1, &map, options(), folder).await;
    assert_eq!(ana.blobs.held_for(&blob), [GARDEN, OTHER]);
    assert!(!data.join(format!("{orphan}.data")).exists());
    assert_eq!(bytes_below(&ana.folder.path().join("blobs/temp")), 0);
    assert_eq!(ana.read(blob, bytes.len() as u64).await, bytes, "what it knows is left alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_opens_once_and_takes_no_file_of_its_own() {
    let map = Map::default();
    let ana = Party::new(1, &map).await;
    let folder = ana.folder.path().join("blobs");
    let again =
        tokio::time::timeout(DEADLINE, Blobs::open(&folder, std::sync::Arc::new(Members::default()))).await;
    assert!(matches!(again.expect("in time"), Err(BlobsError::Store { .. })));
    let inside = folder.join("data/mine");
    std::fs::write(&inside, random(100_000)).expect("written");
    let refused = ana.blobs.add_file(GARDEN, &inside).await.expect_err("its own");
    assert!(refused.to_string().contains("move it out"), "{refused}");
}

/// A folder as the version before holdings left it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_were_added_before_there_were_holdings_are_adopted() {
    let map = Map::default();
    let bytes = random(300_000);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("old.gguf");
    std::fs::write(&path, &bytes).expect("written");
    let old = FsStore::load(folder.path().join("blobs")).await.expect("opened");
    let mode = ImportMode::TryReference;
    let added = AddPathOptions { path: path.clone(), format: BlobFormat::Raw, mode };
    let tag = old.add_path_with_opts(added).await.expect("added");
    let blob = exo_model::id::BlobHash::from_bytes(*tag.hash.as_bytes());
    old.shutdown().await.expect("closed");
    let ana = Party::open(1, &map, options(), folder).await;
    assert!(ana.blobs.held_for(&blob).is_empty());
    ana.blobs.adopt(GARDEN).await.expect("adopted");
    assert_eq!(ana.blobs.held_for(&blob), [GARDEN]);
    ana.blobs.unpin(GARDEN, blob).await.expect("let go");
    ana.blobs.adopt(GARDEN).await.expect("nothing more to adopt");
    assert!(ana.blobs.held_for(&blob).is_empty());
    gone(&ana.blobs, blob, 300_000).await;
    assert_eq!(std::fs::read(&path).expect("still there"), bytes);
}
