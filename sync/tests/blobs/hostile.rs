//! Sources that lie: not one wrong byte gets into the store.

use std::sync::Arc;

use iroh::endpoint::{RecvStream, SendStream};
use iroh_blobs::Hash;
use iroh_blobs::protocol::{ChunkRanges, GetRequest};
use iroh_blobs::store::mem::MemStore;

use exo_sync::blobs::{FetchError, SourceState, aligned_len};

use super::party::{Map, Party, all, random, source};

/// What a hostile source sends instead of the truth.
#[derive(Clone, Copy, Debug)]
enum Lie {
    /// Other contents of the same length, well encoded.
    OtherBytes,
    /// The truth, but for one bit near the end.
    OneBit,
    /// The truth under another length.
    OtherLength,
    /// A length that nobody has room for.
    Huge,
    /// The truth, cut short.
    CutShort,
    /// The truth, and then more.
    More,
    /// What nobody asked for.
    OtherRange,
}

const LIES: [Lie; 7] =
    [Lie::OtherBytes, Lie::OneBit, Lie::OtherLength, Lie::Huge, Lie::CutShort, Lie::More, Lie::OtherRange];

async fn told(lie: Lie, store: &MemStore, truth: Hash, other: Hash, get: &GetRequest) -> Vec<u8> {
    let ranges: ChunkRanges = get.ranges.iter_infinite().next().expect("ranges").clone();
    let of =
        |hash, ranges| async move { store.export_bao(hash, ranges).bao_to_vec().await.expect("encoded") };
    let mut bytes = match lie {
        Lie::OtherBytes => of(other, ranges).await,
        Lie::OtherRange => of(truth, ChunkRanges::all()).await,
        _ => of(truth, ranges).await,
    };
    let len = bytes.len();
    match lie {
        Lie::OneBit => bytes[len - 100] ^= 1,
        Lie::OtherLength => bytes[0] ^= 1,
        Lie::Huge => bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes()),
        Lie::CutShort => bytes.truncate(len - 1000),
        Lie::More => bytes.extend_from_slice(&[0; 100]),
        Lie::OtherBytes | Lie::OtherRange => {}
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i6_wrong_bytes_never_get_into_the_store() {
    let bytes = random(3_000_000);
    let size = bytes.len() as u64;
    let mut other = bytes.clone();
    other[1_500_000] ^= 1;
    for lie in LIES {
        let map = Map::default();
        let store = Arc::new(MemStore::new());
        let truth = store.add_slice(&bytes).await.expect("added").hash;
        let wrong = store.add_slice(&other).await.expect("added").hash;
        let liar = source(4, &map, move |get: GetRequest, mut send: SendStream, _: RecvStream| {
            let store = store.clone();
            async move {
                let answer = told(lie, &store, truth, wrong, &get).await;
                // The fetch may have hung up.
                let _ = send.write_all(&answer).await;
            }
        })
        .await;
        let (ana, eva) = (Party::new(1, &map).await, Party::new(2, &map).await);
        let blob = ana.add(&bytes).await;
        ana.admit(&[&eva]);
        let (result, last) = eva.fetch_watched(blob, size, &[all(size)], &[liar]).await;
        if !matches!(lie, Lie::More) {
            assert!(matches!(result, Err(FetchError::Sources { .. })), "{lie:?}: {result:?}");
        }
        if matches!(lie, Lie::OtherBytes | Lie::OneBit | Lie::OtherLength | Lie::Huge | Lie::OtherRange) {
            assert!(matches!(last.sources[0].state, SourceState::Dropped(_)), "{lie:?}: {last:?}");
        }
        for here in eva.blobs.present(blob, size).await.expect("known") {
            let read = eva.blobs.read(blob, size, here).await.expect("here");
            let place =
                usize::try_from(here.start).expect("small")..usize::try_from(here.end).expect("small");
            assert_eq!(read, bytes[place], "{lie:?}: only the truth");
        }
        // Beside an honest source the liar does no harm.
        let last = eva.whole(blob, size, &[liar, ana.device()]).await;
        assert_eq!(eva.read(blob, size).await, bytes, "{lie:?}: {last:?}");
        let folder = eva.close().await;
        let stored = std::fs::read_dir(folder.path().join("blobs/data")).expect("a folder");
        for entry in stored.map(|entry| entry.expect("an entry").path()) {
            if entry.extension().is_some_and(|extension| extension == "data") {
                assert_eq!(std::fs::read(&entry).expect("read"), bytes, "{lie:?}: on disk too");
            }
        }
    }
}

/// A file that was added in place and then changed: its owner serves nothing
/// that does not verify, and its neighbours notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changed_in_place_is_not_served() {
    let map = Map::default();
    let bytes = random(1_000_000);
    let size = bytes.len() as u64;
    let (ana, eva) = (Party::new(1, &map).await, Party::new(2, &map).await);
    let blob = ana.add(&bytes).await;
    ana.admit(&[&eva]);
    let mut changed = bytes.clone();
    changed[700_000] ^= 1;
    std::fs::write(ana.folder.path().join("model.gguf"), &changed).expect("written");
    assert!(eva.fetch(blob, size, &[all(size)], &[ana.device()]).await.is_err());
    let here = eva.blobs.present(blob, size).await.expect("known");
    assert!(aligned_len(&here, size) < size);
    for part in here {
        let read = eva.blobs.read(blob, size, part).await.expect("here");
        let at = usize::try_from(part.start).expect("small");
        assert_eq!(read, bytes[at..at + read.len()]);
    }
    let read = ana.blobs.read(blob, size, all(size)).await;
    assert!(read.is_err(), "its owner is told, too");
}
