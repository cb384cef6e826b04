//! N8: each request is judged when it is made, and while it is answered.

use iroh::endpoint::Connection;
use iroh_blobs::Hash;
use iroh_blobs::get::fsm::{self, BlobContentNext, ConnectedNext, RequestCounters};
use iroh_blobs::protocol::{
    ChunkRanges, ChunkRangesExt as _, GetManyRequest, GetRequest, ObserveRequest, PushRequest,
};
use iroh_blobs::store::mem::MemStore;
use n0_future::StreamExt as _;
use tokio::sync::watch;

use exo_sync::blobs::{FetchProgress, SourceState};

use super::party::{GARDEN, Map, OTHER, Party, all, random, request};
use crate::common::{in_time, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n8_only_members_of_a_community_that_holds_it() {
    let map = Map::default();
    let bytes = random(200_000);
    let size = bytes.len() as u64;
    let (ana, eva) = (Party::new(1, &map).await, Party::new(2, &map).await);
    let blob = ana.add(&bytes).await;
    // In another community of Ana's node, not in the one that it is held for.
    ana.members.admit(eva.device(), OTHER);
    let (result, last) = eva.fetch_watched(blob, size, &[all(size)], &[ana.device()]).await;
    assert!(result.is_err());
    assert_eq!(last.received_bytes, 0);
    assert!(matches!(&last.sources[0].state, SourceState::Dropped(why) if why.contains("does not give")));
    // Held for that one too, it is hers; let go there, no longer.
    ana.blobs.pin(OTHER, blob).await.expect("pinned");
    assert_eq!(ana.blobs.held_for(&blob), [GARDEN, OTHER]);
    let part = exo_model::weights::ByteRange { start: 0, end: 16_384 };
    eva.fetch(blob, size, &[part], &[ana.device()]).await.expect("a member");
    ana.blobs.unpin(OTHER, blob).await.expect("let go");
    assert!(eva.fetch(blob, size, &[all(size)], &[ana.device()]).await.is_err());
    assert_eq!(eva.blobs.present(blob, size).await.expect("known"), [part]);
}

/// On one connection that stays open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n8_a_removed_peer_is_cut_at_its_next_request() {
    let map = Map::default();
    let bytes = random(200_000);
    let (ana, eva) = (Party::new(1, &map).await, Party::new(2, &map).await);
    let blob = ana.add(&bytes).await;
    ana.admit(&[&eva]);
    let connection = eva.dial().dial(ana.device()).await.expect("connected");
    let hash = Hash::from_bytes(*blob.as_bytes());
    let first = || GetRequest::blob_ranges(hash, ChunkRanges::bytes(0..16_384));
    assert_eq!(get(&connection, first()).await, Ok(16_384));
    ana.members.remove(eva.device(), GARDEN);
    assert!(get(&connection, first()).await.is_err(), "refused on the same connection");
    ana.admit(&[&eva]);
    assert!(get(&connection, first()).await.is_ok(), "and served again");
    ana.blobs.unpin(GARDEN, blob).await.expect("let go");
    assert!(get(&connection, first()).await.is_err(), "held for nobody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n8_a_removed_peer_is_cut_within_a_transfer() {
    let map = Map::default();
    let bytes = random(16 << 20);
    let size = bytes.len() as u64;
    let (ana, eva) = (Party::new(1, &map).await, Party::new(2, &map).await);
    let blob = ana.add(&bytes).await;
    ana.admit(&[&eva]);
    // One request for everything, of which only the beginning is read.
    let connection = eva.dial().dial(ana.device()).await.expect("connected");
    let request = GetRequest::blob(Hash::from_bytes(*blob.as_bytes()));
    let connected = fsm::start(connection, request, RequestCounters::default()).next().await;
    let asked = connected.expect("a stream").next().await.expect("asked");
    let ConnectedNext::StartRoot(root) = asked else { panic!("the root was asked for") };
    let (mut content, told) = in_time("a size", root.next().next()).await.expect("served");
    assert_eq!(told, size);
    for _ in 0..10 {
        let BlobContentNext::More((next, Ok(_))) = content.next().await else { panic!("the beginning") };
        content = next;
    }
    ana.members.remove(eva.device(), GARDEN);
    assert!(in_time("the end", content.drain()).await.is_err(), "cut before the end");
}

/// What a fetch sees of it: a refusal, whose reason is kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n8_a_fetch_ends_with_the_membership() {
    let map = Map::default();
    let bytes = random(64 << 20);
    let size = bytes.len() as u64;
    let (ana, eva) = (Party::new(1, &map).await, Party::new(2, &map).await);
    let blob = ana.add(&bytes).await;
    ana.admit(&[&eva]);
    let (progress, watching) = watch::channel(FetchProgress::default());
    let (blobs, dial, from) = (eva.blobs.clone(), eva.dial(), ana.device());
    let fetching =
        tokio::spawn(
            async move { blobs.fetch(request(blob, size, &[all(size)], &[from]), dial, progress).await },
        );
    until("a beginning", || watching.borrow().received_bytes > 0).await;
    ana.members.remove(eva.device(), GARDEN);
    let error = in_time("the end", fetching).await.expect("ran").expect_err("cut");
    assert!(error.to_string().contains("does not give this"), "{error}");
    assert!(watching.borrow().received_bytes < size);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n8_nothing_but_ranges_of_one_blob_is_offered() {
    let map = Map::default();
    let bytes = random(100_000);
    let (ana, eva) = (Party::new(1, &map).await, Party::new(2, &map).await);
    let blob = ana.add(&bytes).await;
    ana.admit(&[&eva]);
    let hash = Hash::from_bytes(*blob.as_bytes());
    let unknown = Hash::new(b"nobody has this");
    let connection = eva.dial().dial(ana.device()).await.expect("connected");
    assert!(get(&connection, GetRequest::blob(unknown)).await.is_err());
    // A list of blobs, even of one's own.
    assert!(get(&connection, GetRequest::all(hash)).await.is_err());
    let many = GetManyRequest::new(vec![hash], GetRequest::blob(hash).ranges);
    match fsm::start_get_many(connection.clone(), many, RequestCounters::default()).await {
        Err(_) => {}
        Ok(Ok(child)) => assert!(in_time("an answer", child.next(hash).drain()).await.is_err()),
        Ok(Err(_)) => panic!("nothing was asked"),
    }
    let store = MemStore::new();
    let pushed = store.add_slice(b"take this").await.expect("added").hash;
    let push = PushRequest::new(pushed, GetRequest::blob(pushed).ranges);
    let _ = in_time("an end", store.remote().execute_push(connection.clone(), push).complete()).await;
    let theirs = exo_model::id::BlobHash::from_bytes(*pushed.as_bytes());
    assert_eq!(ana.blobs.present(theirs, 9).await.expect("known"), []);
    let mut unseen = Box::pin(store.remote().observe(connection.clone(), ObserveRequest::new(unknown)));
    assert!(!matches!(in_time("an answer", unseen.next()).await, Some(Ok(_))));
    // Observing is offered for what may be had, and does not last.
    let mut seen = Box::pin(store.remote().observe(connection.clone(), ObserveRequest::new(hash)));
    let first = in_time("an answer", seen.next()).await.expect("one").expect("told");
    assert_eq!(first.size(), bytes.len() as u64);
    let end = in_time("the end", async { while let Some(Ok(_)) = seen.next().await {} });
    end.await;
}

/// Asks over an open connection, and returns how many bytes came.
async fn get(connection: &Connection, request: GetRequest) -> Result<usize, String> {
    let connected = fsm::start(connection.clone(), request, RequestCounters::default()).next().await;
    let asked = connected.expect("a stream").next().await.map_err(|error| error.to_string())?;
    let ConnectedNext::StartRoot(root) = asked else { panic!("the root was asked for") };
    let read = in_time("an answer", root.next().concatenate_into_vec()).await;
    read.map(|(_, bytes)| bytes.len()).map_err(|error| error.to_string())
}
