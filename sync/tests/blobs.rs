//! Blobs between nodes: exactly the ranges asked for, only what is missing,
//! only to members, and no belief in anyone's claims. The modules look at one
//! side each, with stores that stand alone; here whole nodes meet.

mod common;

#[path = "blobs/attachments.rs"]
mod attachments;
#[path = "blobs/disk.rs"]
mod disk;
#[path = "blobs/hostile.rs"]
mod hostile;
#[path = "blobs/kill.rs"]
mod kill;
#[path = "blobs/party.rs"]
mod party;
#[path = "blobs/rights.rs"]
mod rights;
#[path = "blobs/sources.rs"]
mod sources;
#[path = "blobs/store.rs"]
mod store;

use tokio::sync::watch;

use exo_model::id::BlobHash;
use exo_model::weights::ByteRange;
use exo_sync::blobs::{
    ALIGNMENT_BYTES, BlobsError, FetchError, FetchProgress, FetchRequest, Fetched, aligned, aligned_len,
};

use common::net::Node;
use common::{Home, Rng, in_time};

const BLOCK: u64 = ALIGNMENT_BYTES;

fn range(start: u64, end: u64) -> ByteRange {
    ByteRange { start, end }
}

/// A founder with a file of `len` random bytes, and a member without it.
async fn pair(len: usize) -> (Node, Node, Vec<u8>, BlobHash) {
    let source = Node::found(1).await;
    let friend = source.befriend(2).await;
    let bytes = Rng(len as u64).bytes(len);
    let path = source.home.folder.path().join("model.gguf");
    std::fs::write(&path, &bytes).expect("written");
    let blob = source.mesh.blobs().add_file(source.home.community, &path).await.expect("added");
    assert_eq!(blob, exo_model::hash::blake3(&bytes));
    (source, friend, bytes, blob)
}

fn request(to: &Node, from: &Node, blob: BlobHash, size_bytes: u64, ranges: &[ByteRange]) -> FetchRequest {
    FetchRequest {
        community: to.home.community,
        blob,
        size_bytes,
        ranges: ranges.to_vec(),
        sources: vec![from.home.device()],
    }
}

async fn fetch(
    to: &Node,
    from: &Node,
    blob: BlobHash,
    size: u64,
    ranges: &[ByteRange],
) -> Result<Fetched, FetchError> {
    let (progress, _) = watch::channel(FetchProgress::default());
    in_time("a fetch", to.mesh.fetch(request(to, from, blob, size, ranges), progress)).await
}

#[tokio::test]
async fn a_partial_fetch_moves_the_aligned_ranges_and_a_resume_the_rest() {
    let (source, friend, bytes, blob) = pair(1_000_000).await;
    let size = bytes.len() as u64;
    let wanted = [range(20_000, 30_000), range(500_000, 500_001), range(30_000, 40_000)];
    assert_eq!(aligned(&wanted, size), [range(BLOCK, 3 * BLOCK), range(30 * BLOCK, 31 * BLOCK)]);
    let fetched = fetch(&friend, &source, blob, size, &wanted).await.expect("fetched");
    assert_eq!(fetched.payload_bytes, aligned_len(&wanted, size));
    let blobs = friend.mesh.blobs();
    assert_eq!(blobs.present(blob, size).await.expect("known"), aligned(&wanted, size));
    let read = blobs.read(blob, size, range(20_000, 40_000)).await.expect("here");
    assert_eq!(read, bytes[20_000..40_000]);
    let again = fetch(&friend, &source, blob, size, &wanted).await.expect("nothing to do");
    assert_eq!(again, Fetched::default());

    let more = [range(2 * BLOCK, 5 * BLOCK), range(30 * BLOCK, 31 * BLOCK)];
    let fetched = fetch(&friend, &source, blob, size, &more).await.expect("resumed");
    assert_eq!(fetched.payload_bytes, 2 * BLOCK, "only what was missing");
    let here = aligned_len(&[range(BLOCK, 5 * BLOCK), range(30 * BLOCK, 31 * BLOCK)], size);
    let (progress, watching) = watch::channel(FetchProgress::default());
    let all = friend.mesh.fetch(request(&friend, &source, blob, size, &[range(0, size)]), progress);
    assert_eq!(in_time("the rest", all).await.expect("fetched").payload_bytes, size - here);
    let last = watching.borrow().clone();
    assert_eq!((last.done_bytes, last.total_bytes, last.received_bytes), (size, size, size - here));
    assert_eq!(last.sources[0].received_bytes, size - here);
    assert_eq!(blobs.present(blob, size).await.expect("known"), [range(0, size)]);
    assert_eq!(blobs.read(blob, size, range(0, size)).await.expect("here"), bytes);
}

#[tokio::test]
async fn what_was_fetched_survives_a_restart_and_can_be_served_on() {
    let (source, friend, bytes, blob) = pair(300_000).await;
    let size = bytes.len() as u64;
    let wanted = [range(0, 100), range(290_000, size)];
    fetch(&friend, &source, blob, size, &wanted).await.expect("fetched");
    let third = source.befriend(3).await;
    let friend = Node::start(friend.close().await.reopen().await, 0).await;
    friend.offer().await;
    let here = friend.mesh.blobs().present(blob, size).await.expect("known");
    assert_eq!(here, aligned(&wanted, size), "still here");
    source.linked_with(&[&friend]).await;
    third.linked_with(&[&friend]).await;
    let passed_on = fetch(&third, &friend, blob, size, &wanted).await.expect("served by a partial holder");
    assert_eq!(passed_on.payload_bytes, aligned_len(&wanted, size));
    let read = third.mesh.blobs().read(blob, size, range(290_000, size)).await.expect("here");
    assert_eq!(read, bytes[290_000..]);
    let missing = fetch(&third, &friend, blob, size, &[range(100_000, 120_000)]).await;
    assert!(missing.is_err(), "the source does not have it: {missing:?}");
}

#[tokio::test]
async fn reading_what_is_not_here_is_an_error() {
    let (source, friend, bytes, blob) = pair(200_000).await;
    let size = bytes.len() as u64;
    let blobs = friend.mesh.blobs();
    let absent = blobs.read(blob, size, range(0, 10)).await;
    assert!(matches!(absent, Err(BlobsError::NotHere { .. })), "nothing is here: {absent:?}");
    fetch(&friend, &source, blob, size, &[range(BLOCK, 2 * BLOCK)]).await.expect("fetched");
    for (start, end) in [(0, 10), (BLOCK - 1, BLOCK + 1), (2 * BLOCK - 1, 2 * BLOCK + 1), (size, size + 1)] {
        let absent = blobs.read(blob, size, range(start, end)).await;
        assert!(matches!(absent, Err(BlobsError::NotHere { .. })), "{start}..{end}: {absent:?}");
    }
    let here = blobs.read(blob, size, range(BLOCK + 5, BLOCK + 9)).await.expect("here");
    assert_eq!(here, bytes[usize::try_from(BLOCK).expect("small") + 5..][..4]);
    let unknown = exo_model::hash::blake3(b"nobody has this");
    assert!(fetch(&friend, &source, unknown, size, &[range(0, 10)]).await.is_err());
    assert_eq!(blobs.present(unknown, size).await.expect("known"), []);
}

#[tokio::test]
async fn n8_a_non_member_gets_nothing() {
    let (source, friend, bytes, blob) = pair(100_000).await;
    let size = bytes.len() as u64;
    // Knows community, address and hash; was never admitted.
    let stranger = Node::start(Home::empty(9, source.home.community), 0).await;
    let ticket = source.home.invite(1, 0, vec![source.contact()]).await;
    let done =
        |status: &exo_sync::mesh::JoinStatus| !matches!(status, exo_sync::mesh::JoinStatus::Trying { .. });
    stranger.tries(&ticket, done).await;
    let refused = fetch(&stranger, &source, blob, size, &[range(0, size)]).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(stranger.mesh.blobs().present(blob, size).await.expect("known"), []);
    assert!(fetch(&friend, &source, blob, size, &[range(0, size)]).await.is_ok(), "a member does");
}

/// Sizes come from manifests that anyone may write.
#[tokio::test]
async fn wrong_claims_of_size_give_true_bytes_or_errors() {
    let (source, friend, bytes, blob) = pair(100_000).await;
    let blobs = friend.mesh.blobs();
    let true_size = bytes.len() as u64;
    for claimed in [0, 1, 50_001, 1 << 20, u64::MAX] {
        for wanted in [range(0, 10), range(60_000, 60_010), range(claimed.saturating_sub(5), claimed)] {
            let _ = fetch(&friend, &source, blob, claimed, &[wanted]).await;
        }
        for wanted in [range(0, 10), range(60_000, 60_010), range(99_990, 100_010), range(1 << 19, 1 << 20)] {
            for node in [&source, &friend] {
                match node.mesh.blobs().read(blob, claimed, wanted).await {
                    Ok(read) => {
                        let at = usize::try_from(wanted.start).expect("small");
                        assert_eq!(read, bytes[at..at + read.len()]);
                        assert_eq!(read.len() as u64, wanted.len());
                    }
                    Err(error) => drop(error.to_string()),
                }
            }
        }
    }
    let rest = fetch(&friend, &source, blob, true_size, &[range(0, true_size)]).await;
    rest.expect("true claims still work");
    assert_eq!(blobs.read(blob, true_size, range(0, true_size)).await.expect("here"), bytes);
}

#[tokio::test]
async fn ranges_that_are_none_are_harmless() {
    let (source, friend, bytes, blob) = pair(100_000).await;
    let size = bytes.len() as u64;
    for odd in [range(5, 5), range(60_000, 20), range(u64::MAX, 0), range(u64::MAX - 1, u64::MAX)] {
        let _ = fetch(&friend, &source, blob, size, &[odd]).await;
        for node in [&source, &friend] {
            if let Ok(read) = node.mesh.blobs().read(blob, size, odd).await {
                assert!(read.is_empty(), "{odd:?}");
            }
        }
    }
    assert_eq!(fetch(&friend, &source, blob, size, &[]).await.expect("nothing asked"), Fetched::default());
    fetch(&friend, &source, blob, size, &[range(0, size)]).await.expect("still works");
    assert_eq!(friend.mesh.blobs().read(blob, size, range(0, size)).await.expect("here"), bytes);
}
