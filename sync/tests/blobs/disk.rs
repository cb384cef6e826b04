//! A disk that is full.

use std::path::{Path, PathBuf};
use std::process::Command;

use exo_sync::blobs::{BlobsOptions, FetchError, NoRoom};

use super::party::{GARDEN, Map, Party, all, options, random};

/// A small file system of its own; unmounted when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, mib: u32) -> Result<Self, String> {
        std::fs::create_dir_all(at).map_err(|error| error.to_string())?;
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "exo-test"])
            .arg(at)
            .output()
            .map_err(|error| error.to_string())?;
        if mounted.status.success() {
            Ok(Self(at.to_owned()))
        } else {
            Err(String::from_utf8_lossy(&mounted.stderr).into_owned())
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a store that a failed test left open must not keep it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// A party whose store lies on a disk of `mib` MiB, or none where mounting is
/// not allowed.
#[allow(clippy::print_stderr, reason = "says why a test checks nothing here")]
async fn on_small_disk(seed: u8, map: &Map, options: BlobsOptions, mib: u32) -> Option<(Party, SmallDisk)> {
    let folder = tempfile::tempdir().expect("a folder");
    match SmallDisk::mount(&folder.path().join("blobs"), mib) {
        Ok(disk) => Some((Party::open(seed, map, options, folder).await, disk)),
        Err(reason) => {
            eprintln!("skipped: no disk of its own can be mounted here: {reason}");
            None
        }
    }
}

#[track_caller]
fn assert_disk_full(error: &FetchError) {
    assert!(matches!(error, FetchError::NoRoom(NoRoom::Disk { .. })), "{error}");
    assert!(error.to_string().contains("free some"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_too_little_room_is_told_before_anything_is_fetched() {
    let map = Map::default();
    let bytes = random(1 << 20);
    let size = bytes.len() as u64;
    let (ana, eva) = (
        Party::new(1, &map).await,
        // More than any disk has.
        Party::with(2, &map, BlobsOptions { reserve_bytes: 1 << 60, ..options() }).await,
    );
    let blob = ana.add(&bytes).await;
    ana.admit(&[&eva]);
    let (result, last) = eva.fetch_watched(blob, size, &[all(size)], &[ana.device()]).await;
    assert_disk_full(&result.expect_err("no room"));
    assert_eq!(last.received_bytes, 0);
    assert!(eva.blobs.held_for(&blob).is_empty());
}

/// Space is there when the fetch begins, and taken by another program then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_disk_full_while_fetching_damages_nothing_and_resumes() {
    let map = Map::default();
    let bytes = random(24 << 20);
    let size = bytes.len() as u64;
    let ana = Party::new(1, &map).await;
    let blob = ana.add(&bytes).await;
    for reserve_bytes in [4 << 20, 0] {
        let sparing = BlobsOptions { reserve_bytes, ..options() };
        let Some((eva, disk)) = on_small_disk(2, &map, sparing, 40).await else { return };
        ana.admit(&[&eva]);
        let filler = disk.0.join("filler");
        let (dial, taken) = (eva.dial(), filler.clone());
        // Filled when the source is dialled: the check before saw room.
        let filling = move |device| {
            std::fs::write(&taken, vec![1; 24 << 20]).expect("room for it");
            dial.dial(device)
        };
        let (progress, watching) = tokio::sync::watch::channel(exo_sync::blobs::FetchProgress::default());
        let request = super::party::request(blob, size, &[all(size)], &[ana.device()]);
        let fetching = eva.blobs.fetch(request, std::sync::Arc::new(filling), progress);
        let error = crate::common::in_time("a fetch", fetching).await.expect_err("no room");
        assert_disk_full(&error);
        let came = watching.borrow().received_bytes;
        assert!(came > 0 && came < size, "some of it came: {came}");
        // What is here is true.
        for here in eva.blobs.present(blob, size).await.expect("known") {
            let read = eva.blobs.read(blob, size, here).await.expect("here");
            let at = usize::try_from(here.start).expect("small");
            assert_eq!(read, bytes[at..at + read.len()]);
        }
        let again = eva.fetch(blob, size, &[all(size)], &[ana.device()]).await;
        assert_disk_full(&again.expect_err("still no room"));
        std::fs::remove_file(&filler).expect("freed");
        let last = eva.whole(blob, size, &[ana.device()]).await;
        assert!(last.received_bytes < size, "it went on: {last:?}");
        assert_eq!(eva.read(blob, size).await, bytes);
        assert_eq!(eva.blobs.held_for(&blob), [GARDEN]);
        let _folder = eva.close().await;
        drop(disk);
    }
}
