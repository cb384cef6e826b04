//! Several sources at once: who brings what, and who is dropped why.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use iroh_blobs::provider::events::EventSender;
use iroh_blobs::provider::{StreamPair, handle_get};
use iroh_blobs::store::mem::MemStore;
use tokio::sync::watch;

use exo_model::id::DeviceId;
use exo_model::weights::ByteRange;
use exo_sync::blobs::{ALIGNMENT_BYTES, BlobsOptions, FetchError, FetchProgress, SourceState, aligned_len};

use super::party::{GARDEN, Map, Party, all, options, random, request, source};
use crate::common::{in_time, until};

fn dropped(progress: &FetchProgress, index: usize) -> &str {
    match &progress.sources[index].state {
        SourceState::Dropped(reason) => reason,
        other => panic!("not dropped: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_sources_share_the_work() {
    let map = Map::default();
    let bytes = random(24 << 20);
    let size = bytes.len() as u64;
    let (ana, ben, eva) = (Party::new(1, &map).await, Party::new(2, &map).await, Party::new(3, &map).await);
    let blob = ana.add(&bytes).await;
    assert_eq!(ben.add(&bytes).await, blob);
    ana.admit(&[&eva]);
    ben.admit(&[&eva]);
    let last = eva.whole(blob, size, &[ana.device(), ben.device()]).await;
    assert_eq!(last.received_bytes, size, "nothing came twice: {last:?}");
    assert!(last.sources.iter().all(|source| source.received_bytes > 0), "{last:?}");
    assert_eq!(last.done_bytes, size);
    assert_eq!(eva.read(blob, size).await, bytes);
    assert_eq!(eva.blobs.held_for(&blob), [GARDEN]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn holders_of_parts_complete_each_other() {
    let map = Map::default();
    let bytes = random(6 << 20);
    let size = bytes.len() as u64;
    let (ana, ben, eva, dan) = (
        Party::new(1, &map).await,
        Party::new(2, &map).await,
        Party::new(3, &map).await,
        Party::new(4, &map).await,
    );
    let blob = ana.add(&bytes).await;
    ana.admit(&[&ben, &eva]);
    let (left, right) = (ByteRange { start: 0, end: 3 << 20 }, ByteRange { start: 2 << 20, end: size });
    ben.fetch(blob, size, &[left], &[ana.device()]).await.expect("the left");
    eva.fetch(blob, size, &[right], &[ana.device()]).await.expect("the right");
    ben.admit(&[&dan]);
    eva.admit(&[&dan]);
    let last = dan.whole(blob, size, &[ben.device(), eva.device()]).await;
    assert!(last.sources.iter().all(|source| source.received_bytes >= 2 << 20), "{last:?}");
    assert_eq!(dan.read(blob, size).await, bytes);

    // What neither has is said to be missing.
    let third = Party::new(5, &map).await;
    ben.admit(&[&third]);
    let error = third.fetch(blob, size, &[all(size)], &[ben.device()]).await.expect_err("not all there");
    match &error {
        FetchError::Sources { missing_bytes, .. } => assert_eq!(*missing_bytes, size - left.len()),
        other => panic!("{other}"),
    }
    assert!(error.to_string().contains("has nothing more of it"), "{error}");
    assert_eq!(third.blobs.present(blob, size).await.expect("known"), [left]);
}

/// Which of them is asked first must not matter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n9_silent_absent_and_refusing_sources_do_not_hold_up_the_others() {
    let map = Map::default();
    let bytes = random(5 << 20);
    let size = bytes.len() as u64;
    let quick = BlobsOptions { silence_max: Duration::from_millis(300), ..options() };
    let (ana, eva) = (Party::new(1, &map).await, Party::with(2, &map, quick).await);
    let stranger = Party::new(3, &map).await;
    let blob = ana.add(&bytes).await;
    stranger.add(&bytes).await;
    ana.admit(&[&eva]);
    let silent = source(4, &map, |_, send, recv| async move {
        let _open = (send, recv);
        std::future::pending::<()>().await;
    })
    .await;
    let absent = DeviceId::from_bytes([99; 32]);
    let useless = [silent, absent, stranger.device()];
    let (result, last) = eva.fetch_watched(blob, size, &[all(size)], &useless).await;
    let error = result.expect_err("nobody gives it").to_string();
    for (index, why) in ["silent", "nobody knows where it is", "does not give this"].into_iter().enumerate() {
        assert!(dropped(&last, index).contains(why), "{last:?}");
        assert!(error.contains(why), "{error}");
    }
    let last = eva.whole(blob, size, &[silent, absent, stranger.device(), ana.device()]).await;
    assert_eq!(eva.read(blob, size).await, bytes);
    assert_eq!(last.sources[3].received_bytes, size);
    let other = random(100_000);
    let unknown = exo_model::hash::blake3(&other);
    let (result, last) = eva.fetch_watched(unknown, 100_000, &[all(100_000)], &[silent]).await;
    assert!(result.is_err());
    assert!(dropped(&last, 0).contains("silent"), "{last:?}");
    assert!(eva.blobs.held_for(&unknown).is_empty(), "nothing is left of it");
}

/// An honest source behind a slow line: it is not waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_source_loses_its_piece_to_a_faster_one() {
    let map = Map::default();
    let bytes = random(3 << 20);
    let size = bytes.len() as u64;
    let store = MemStore::new();
    store.add_slice(&bytes).await.expect("added");
    let asked = Arc::new(AtomicU64::new(0));
    let counting = asked.clone();
    let slow = source(4, &map, move |get, send, recv| {
        let (store, counting) = (store.clone(), counting.clone());
        async move {
            counting.fetch_add(1, Ordering::SeqCst);
            let dripping = Dripping(send);
            let pair = StreamPair::new(1, recv, dripping, EventSender::DEFAULT);
            let _ = handle_get(pair, (*store).clone(), get).await;
        }
    })
    .await;
    let (ana, eva) = (Party::new(1, &map).await, Party::new(2, &map).await);
    let blob = ana.add(&bytes).await;
    ana.admit(&[&eva]);
    let last = eva.whole(blob, size, &[slow, ana.device()]).await;
    assert!(asked.load(Ordering::SeqCst) > 0, "it was asked");
    assert!(last.sources[0].received_bytes < 1 << 20, "and did not bring its first pieces: {last:?}");
    assert_eq!(eva.read(blob, size).await, bytes);
}

/// A stream on which every block takes a while.
struct Dripping(iroh::endpoint::SendStream);

impl iroh_blobs::util::SendStream for Dripping {
    async fn send_bytes(&mut self, bytes: bytes::Bytes) -> std::io::Result<()> {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(self.0.write_chunk(bytes).await?)
    }
    async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        Ok(self.0.write_all(bytes).await?)
    }
    async fn sync(&mut self) -> std::io::Result<()> {
        Ok(())
    }
    fn reset(&mut self, code: iroh::endpoint::VarInt) -> std::io::Result<()> {
        Ok(self.0.reset(code)?)
    }
    async fn stopped(&mut self) -> std::io::Result<Option<iroh::endpoint::VarInt>> {
        Ok(self.0.stopped().await?)
    }
    fn id(&self) -> u64 {
        self.0.id().index()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_that_is_dropped_goes_on_where_it_was() {
    let map = Map::default();
    let bytes = random(32 << 20);
    let size = bytes.len() as u64;
    let (ana, eva) = (Party::new(1, &map).await, Party::new(2, &map).await);
    let blob = ana.add(&bytes).await;
    ana.admit(&[&eva]);
    let (progress, watching) = watch::channel(FetchProgress::default());
    let fetching = eva.blobs.fetch(request(blob, size, &[all(size)], &[ana.device()]), eva.dial(), progress);
    let mut watcher = watching.clone();
    let some = async { watcher.wait_for(|now| now.received_bytes >= 1 << 20).await.is_ok() };
    tokio::select! {
        result = in_time("a fetch", fetching) => panic!("too quick to be dropped: {result:?}"),
        true = some => {}
    }
    let came = watching.borrow().received_bytes;
    // What was handed over is being written.
    let mut here = 0;
    let settled = async {
        loop {
            let now = aligned_len(&eva.blobs.present(blob, size).await.expect("known"), size);
            if now > 0 && now == here {
                break;
            }
            here = now;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    in_time("the store settles", settled).await;
    assert!(here > 0 && here < size, "a part is here: {here} of {came}");
    assert_eq!(eva.blobs.held_for(&blob), [GARDEN], "and kept");
    let last = eva.whole(blob, size, &[ana.device()]).await;
    assert!(last.received_bytes <= size - here, "what is here is not fetched again: {last:?}");
    assert_eq!(last.received_bytes % ALIGNMENT_BYTES, 0);
    assert_eq!(eva.read(blob, size).await, bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_goes_away_is_replaced() {
    let map = Map::default();
    let bytes = random(48 << 20);
    let size = bytes.len() as u64;
    let (ana, ben, eva) = (Party::new(1, &map).await, Party::new(2, &map).await, Party::new(3, &map).await);
    let blob = ana.add(&bytes).await;
    ben.add(&bytes).await;
    ana.admit(&[&eva]);
    ben.admit(&[&eva]);
    let (progress, watching) = watch::channel(FetchProgress::default());
    let sources = [ana.device(), ben.device()];
    let (blobs, dial) = (eva.blobs.clone(), eva.dial());
    let fetching = tokio::spawn(async move {
        blobs.fetch(request(blob, size, &[all(size)], &sources), dial, progress).await
    });
    until("both bring some", || {
        watching.borrow().sources.iter().filter(|s| s.received_bytes > 0).count() == 2
    })
    .await;
    ben.endpoint.close().await;
    in_time("the rest", fetching).await.expect("ran").expect("fetched");
    assert_eq!(eva.read(blob, size).await, bytes);
}
