//! Attachments from file to file: sealed, fetched, opened.

use bytes::Bytes;
use tokio::sync::watch;

use exo_model::event::talk::Attachment;
use exo_model::sealing::{BLOB_CHUNK_BYTES, BlobError};
use exo_model::weights::ByteRange;
use exo_sync::blobs::{
    AttachmentError, BlobsError, PREVIEW_BYTES_MAX, Plain, SealProgress, attachment_layout,
};

use super::party::{GARDEN, Map, Party, all, bytes_below, random};
use crate::common::{in_time, insider::Seeded};

async fn sealed(party: &Party, plain: Plain, seed: u64) -> Attachment {
    let (progress, watching) = watch::channel(SealProgress::default());
    let name = ("photo.jpg".into(), "image/jpeg".into());
    let entropy = Seeded::new(seed);
    let sealing = party.blobs.seal_and_add(GARDEN, plain, name, &entropy, progress);
    let attachment = in_time("sealing", sealing).await.expect("sealed");
    let last = *watching.borrow();
    assert_eq!((last.done_bytes, last.total_bytes), (attachment.size_bytes, attachment.size_bytes));
    attachment
}

async fn opened(party: &Party, attachment: &Attachment) -> Result<Vec<u8>, AttachmentError> {
    let (progress, watching) = watch::channel(SealProgress::default());
    let opened = in_time("opening", party.blobs.open_attachment(attachment, Vec::new(), &progress)).await?;
    assert_eq!(watching.borrow().done_bytes, attachment.size_bytes);
    Ok(opened)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attachment_travels_sealed_and_opens_elsewhere() {
    let map = Map::default();
    let (ana, eva) = (Party::new(1, &map).await, Party::new(2, &map).await);
    ana.admit(&[&eva]);
    let chunk = usize::try_from(BLOB_CHUNK_BYTES).expect("small");
    for (seed, len) in [0, 1, chunk - 1, chunk, chunk + 1, 40 * chunk + 17].into_iter().enumerate() {
        let bytes = random(len);
        let path = ana.folder.path().join("photo");
        std::fs::write(&path, &bytes).expect("written");
        let attachment = sealed(&ana, Plain::File(path), seed as u64).await;
        let size = attachment_layout(&attachment).expect("a layout").sealed_len();
        assert_eq!(ana.blobs.held_for(&attachment.blob), [GARDEN]);
        eva.whole(attachment.blob, size, &[ana.device()]).await;
        assert_eq!(opened(&eva, &attachment).await.expect("opened"), bytes);
        let stored = eva.read(attachment.blob, size).await;
        assert_eq!(exo_model::hash::blake3(&stored), attachment.blob, "hashed after sealing");
        assert!(len < 32 || !stored.windows(32).any(|part| part == &bytes[..32]), "nothing in the clear");
    }
    assert_eq!(bytes_below(&ana.folder.path().join("blobs/temp")), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_can_be_shown_before_the_rest_has_come() {
    let map = Map::default();
    let (ana, eva) = (Party::new(1, &map).await, Party::new(2, &map).await);
    ana.admit(&[&eva]);
    let bytes = random(2_000_000);
    let attachment = sealed(&ana, Plain::Bytes(Bytes::from(bytes.clone())), 5).await;
    let layout = attachment_layout(&attachment).expect("a layout");
    let wanted = ByteRange { start: 1_000_000, end: 1_100_000 };
    let chunks = layout.chunks_with(wanted.start..wanted.end);
    let (first, last) = (layout.sealed_range(chunks.start), layout.sealed_range(chunks.end - 1));
    let part = ByteRange { start: first.expect("a chunk").start, end: last.expect("a chunk").end };
    eva.fetch(attachment.blob, layout.sealed_len(), &[part], &[ana.device()]).await.expect("a part");
    let read = eva.blobs.open_range(&attachment, wanted).await.expect("opened");
    assert_eq!(read, bytes[1_000_000..1_100_000]);
    let absent = eva.blobs.open_range(&attachment, ByteRange { start: 0, end: 10 }).await;
    assert!(matches!(absent, Err(AttachmentError::Blobs(BlobsError::NotHere { .. }))), "{absent:?}");
    let behind = ByteRange { start: 1_999_990, end: u64::MAX };
    assert_eq!(ana.blobs.open_range(&attachment, behind).await.expect("cut"), bytes[1_999_990..]);
    let none = ByteRange { start: 5_000_000, end: 5_000_001 };
    assert!(ana.blobs.open_range(&attachment, none).await.expect("nothing").is_empty());
    let claims = Attachment { size_bytes: 1 << 40, ..attachment };
    let huge = ana.blobs.open_range(&claims, all(PREVIEW_BYTES_MAX + 1)).await;
    assert!(matches!(huge, Err(AttachmentError::TooMuch { .. })), "{huge:?}");
}

/// Key, length and hash come in a message that any member may write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_description_that_lies_opens_nothing() {
    let map = Map::default();
    let ana = Party::new(1, &map).await;
    let honest = sealed(&ana, Plain::Bytes(Bytes::from(random(200_000))), 5).await;
    let mut key = honest.clone();
    key.key[0] ^= 1;
    let error = opened(&ana, &key).await.expect_err("another key");
    assert!(matches!(error, AttachmentError::Sealing(BlobError::Damaged { index: 0 })), "{error}");
    for size_bytes in [0, 1, 65_536, 199_999, 200_001, 1 << 40] {
        assert!(opened(&ana, &Attachment { size_bytes, ..honest.clone() }).await.is_err(), "{size_bytes}");
    }
    for size_bytes in [(1 << 40) + 1, u64::MAX] {
        let error = opened(&ana, &Attachment { size_bytes, ..honest.clone() }).await.expect_err("too long");
        assert!(matches!(error, AttachmentError::Sealing(BlobError::TooLong { .. })), "{error}");
    }
    let same = sealed(&ana, Plain::Bytes(Bytes::from(random(200_000))), 6).await;
    assert_ne!(same.blob, honest.blob, "nobody sees that two attachments are the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_not_attached() {
    let map = Map::default();
    let ana = Party::new(1, &map).await;
    for path in [ana.folder.path().join("absent"), ana.folder.path().to_owned()] {
        let (progress, _) = watch::channel(SealProgress::default());
        let name = ("x".into(), "text/plain".into());
        let entropy = Seeded::new(1);
        let sealing = ana.blobs.seal_and_add(GARDEN, Plain::File(path), name, &entropy, progress);
        let error = in_time("sealing", sealing).await.expect_err("no file");
        assert!(matches!(error, AttachmentError::File { .. }), "{error}");
    }
    assert!(ana.blobs.usage().await.expect("known").is_empty());
}
