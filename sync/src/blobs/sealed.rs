//! Attachments: sealed before they are stored, opened while they are read.
//!
//! Each attachment is sealed in chunks of 64 KiB under a key of its own
//! ([`BlobCipher`]), which travels in the message that names it, and only
//! there: whoever carries or serves the blob cannot read it. Memory stays
//! within a few chunks however long the attachment is, and since every chunk
//! opens alone, a part of it can be shown before the rest has come.

use std::io::{Read, Write};
use std::path::Path;

use bytes::Bytes;
use iroh_blobs::api::blobs::AddProgressItem;
use n0_future::StreamExt as _;
use tokio::sync::{mpsc, watch};

use exo_model::event::talk::Attachment;
use exo_model::id::{BlobHash, CommunityId};
use exo_model::port::Entropy;
use exo_model::sealing::{BLOB_CHUNK_BYTES, BlobCipher, BlobError, BlobLayout, EpochKey};
use exo_model::weights::ByteRange;

use super::disk::{NoRoom, RoomError, is_full};
use super::holdings::Hold;
use super::{Blobs, BlobsError};

/// Most bytes of an attachment that are read at once for a preview.
pub const PREVIEW_BYTES_MAX: u64 = 16 << 20;
/// Sealed chunks that may wait for the store.
const CHUNKS_AHEAD: usize = 8;
/// Chunks that are read and opened together.
const CHUNKS_TOGETHER: u64 = 16;

/// What is to be sealed.
#[derive(Clone, Debug)]
pub enum Plain {
    /// A file, which stays as it is.
    File(std::path::PathBuf),
    /// Bytes in memory.
    Bytes(Bytes),
}

/// How far sealing or opening is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SealProgress {
    /// Bytes of the attachment that are done.
    pub done_bytes: u64,
    /// Bytes of the attachment.
    pub total_bytes: u64,
}

/// An attachment that is not sealed or not opened.
#[derive(Debug, thiserror::Error)]
pub enum AttachmentError {
    /// The file cannot be read, or what is opened cannot be written.
    #[error("{what}: {source}")]
    File {
        /// What was tried.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
    /// There is no room for it.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The store does not take it, or does not have it.
    #[error(transparent)]
    Blobs(#[from] BlobsError),
    /// It does not seal or open.
    #[error(transparent)]
    Sealing(#[from] BlobError),
    /// More was asked for than is read at once.
    #[error("{len} bytes at once are too many: at most {PREVIEW_BYTES_MAX}; open the attachment as a whole")]
    TooMuch {
        /// Bytes asked for.
        len: u64,
    },
    /// The work was given up.
    #[error("sealing ended early: try again")]
    Ended,
}

impl From<RoomError> for AttachmentError {
    fn from(error: RoomError) -> Self {
        match error {
            RoomError::NoRoom(error) => error.into(),
            RoomError::Blobs(error) => error.into(),
        }
    }
}

/// Where the chunks of an attachment lie; its `sealed_len` is the length of
/// the blob to fetch.
///
/// # Errors
/// Where the stated length is none that an attachment can have.
pub fn attachment_layout(attachment: &Attachment) -> Result<BlobLayout, BlobError> {
    BlobLayout::of_plain(attachment.size_bytes)
}

fn cipher(key: &[u8; 32], layout: BlobLayout) -> BlobCipher {
    // The key is this one attachment's, so nothing else has to tell it apart.
    BlobCipher::new(&EpochKey::from_bytes(key), &[0; 32], layout)
}

impl Blobs {
    /// Seals `plain` into the store, holds it for `community`, and describes it
    /// for the message that it goes with. What names and media types may be is
    /// checked when the message is written.
    ///
    /// # Errors
    /// See [`AttachmentError`]; nothing is left behind then.
    pub async fn seal_and_add(
        &self,
        community: CommunityId,
        plain: Plain,
        (name, media_type): (String, String),
        entropy: &dyn Entropy,
        progress: watch::Sender<SealProgress>,
    ) -> Result<Attachment, AttachmentError> {
        let (mut reader, size_bytes) = tokio::task::spawn_blocking(move || open_plain(plain))
            .await
            .map_err(|_| AttachmentError::Ended)??;
        let layout = BlobLayout::of_plain(size_bytes)?;
        let _reservation = self.reserve(layout.sealed_len()).await?;
        let mut key = [0; 32];
        entropy.fill(&mut key);
        let cipher = cipher(&key, layout);
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        let sealing = tokio::task::spawn_blocking(move || seal(&mut *reader, &cipher, &sender, &progress));
        let blob = self.take_in(community, receiver).await;
        // A reader or a cipher that failed explains a stream that broke off.
        sealing.await.map_err(|_| AttachmentError::Ended)??;
        Ok(Attachment { blob: blob?, key, name, media_type, size_bytes })
    }

    /// Opens an attachment that is here as a whole, and writes it to `writer`,
    /// which is given back.
    ///
    /// # Errors
    /// See [`AttachmentError`]; what was written by then is true, but not all.
    pub async fn open_attachment<W: Write + Send + 'static>(
        &self,
        attachment: &Attachment,
        mut writer: W,
        progress: &watch::Sender<SealProgress>,
    ) -> Result<W, AttachmentError> {
        let layout = attachment_layout(attachment)?;
        let total_bytes = layout.plain_len();
        let mut first = 0;
        while first < layout.chunks() {
            let chunks = first..layout.chunks().min(first + CHUNKS_TOGETHER);
            let plain = self.open_chunks(attachment, layout, chunks.clone()).await?;
            let done_bytes = layout.plain_range(chunks.end - 1).map_or(total_bytes, |range| range.end);
            let writing = tokio::task::spawn_blocking(move || {
                writer.write_all(&plain)?;
                Ok(writer)
            });
            let failed = |source| AttachmentError::File { what: "writing the attachment".into(), source };
            writer = writing.await.map_err(|_| AttachmentError::Ended)?.map_err(failed)?;
            progress.send_replace(SealProgress { done_bytes, total_bytes });
            first = chunks.end;
        }
        Ok(writer)
    }

    /// Bytes of an attachment of which only these, in whole chunks, have to be
    /// here ([`BlobLayout::chunks_with`]): for a preview.
    ///
    /// # Errors
    /// [`AttachmentError::TooMuch`] over [`PREVIEW_BYTES_MAX`].
    pub async fn open_range(
        &self,
        attachment: &Attachment,
        range: ByteRange,
    ) -> Result<Vec<u8>, AttachmentError> {
        let layout = attachment_layout(attachment)?;
        let range = ByteRange { start: range.start, end: range.end.min(layout.plain_len()) };
        if range.len() > PREVIEW_BYTES_MAX {
            return Err(AttachmentError::TooMuch { len: range.len() });
        }
        let chunks = layout.chunks_with(range.start..range.end);
        let Some(before) = layout.plain_range(chunks.start).filter(|_| !chunks.is_empty()) else {
            return Ok(Vec::new());
        };
        let mut plain = self.open_chunks(attachment, layout, chunks).await?;
        let too_much = |_| AttachmentError::TooMuch { len: range.len() };
        let skip = usize::try_from(range.start - before.start).map_err(too_much)?;
        let len = usize::try_from(range.len()).map_err(too_much)?;
        plain.drain(..skip.min(plain.len()));
        plain.truncate(len);
        Ok(plain)
    }

    async fn open_chunks(
        &self,
        attachment: &Attachment,
        layout: BlobLayout,
        chunks: std::ops::Range<u64>,
    ) -> Result<Vec<u8>, AttachmentError> {
        let damaged = |index| AttachmentError::Sealing(BlobError::Damaged { index });
        let place = |index| layout.sealed_range(index).ok_or_else(|| damaged(index));
        let (start, end) = (place(chunks.start)?.start, place(chunks.end - 1)?.end);
        let sealed = self.read(attachment.blob, layout.sealed_len(), ByteRange { start, end }).await?;
        let cipher = cipher(&attachment.key, layout);
        let opening = tokio::task::spawn_blocking(move || {
            let mut plain = Vec::with_capacity(sealed.len());
            let mut rest = sealed.as_slice();
            for index in chunks {
                let len = layout.sealed_range(index).map_or(0, |range| range.end - range.start);
                let len = usize::try_from(len).unwrap_or(usize::MAX).min(rest.len());
                let (chunk, after) = rest.split_at(len);
                cipher.open_chunk(index, chunk, &mut plain)?;
                rest = after;
            }
            Ok(plain)
        });
        opening.await.map_err(|_| AttachmentError::Ended)?
    }

    /// Takes sealed chunks into the store as they come, hashed when all are
    /// there.
    async fn take_in(
        &self,
        community: CommunityId,
        chunks: mpsc::Receiver<std::io::Result<Bytes>>,
    ) -> Result<BlobHash, AttachmentError> {
        let chunks = n0_future::stream::unfold(chunks, async |mut chunks| {
            let chunk = chunks.recv().await?;
            Some((chunk, chunks))
        });
        let mut adding = Box::pin(self.inner.store.add_stream(chunks).await.stream().await);
        let ended = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let added = loop {
            match adding.next().await {
                Some(AddProgressItem::Done(tag)) => break Ok(tag),
                Some(AddProgressItem::Error(error)) => break Err(error),
                Some(_) => {}
                None => break Err(ended()),
            }
        };
        let tag = match added {
            Ok(tag) => tag,
            Err(error) if is_full(&error) => return Err(self.disk_full(0).into()),
            Err(source) => {
                return Err(AttachmentError::File { what: "storing the attachment".into(), source });
            }
        };
        let blob = BlobHash::from_bytes(*tag.hash().as_bytes());
        self.hold(community, blob, Hold::Kept).await?;
        Ok(blob)
    }
}

fn open_plain(plain: Plain) -> Result<(Box<dyn Read + Send>, u64), AttachmentError> {
    match plain {
        Plain::Bytes(bytes) => {
            let len = bytes.len() as u64;
            Ok((Box::new(std::io::Cursor::new(bytes)), len))
        }
        Plain::File(path) => {
            let opened = open_file(&path);
            let (file, len) = opened
                .map_err(|source| AttachmentError::File { what: path.display().to_string(), source })?;
            Ok((Box::new(file), len))
        }
    }
}

fn open_file(path: &Path) -> std::io::Result<(std::fs::File, u64)> {
    let file = std::fs::File::open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            "only files can be attached; pack a folder into an archive first",
        ));
    }
    Ok((file, about.len()))
}

/// Reads, seals and hands on chunk after chunk.
fn seal(
    reader: &mut dyn Read,
    cipher: &BlobCipher,
    sender: &mpsc::Sender<std::io::Result<Bytes>>,
    progress: &watch::Sender<SealProgress>,
) -> Result<(), AttachmentError> {
    let layout = cipher.layout();
    let failed = |source: std::io::Error| {
        // The store must not take what there is for the whole.
        let _ = sender.blocking_send(Err(source.kind().into()));
        AttachmentError::File { what: "reading the attachment".into(), source }
    };
    let mut plain = Vec::new();
    for index in 0..layout.chunks() {
        plain.clear();
        let read = (&mut *reader).take(BLOB_CHUNK_BYTES).read_to_end(&mut plain);
        read.map_err(failed)?;
        let mut sealed = Vec::with_capacity(plain.len() + 64);
        if let Err(error) = cipher.seal_chunk(index, &plain, &mut sealed) {
            let _ = sender.blocking_send(Err(std::io::ErrorKind::InvalidData.into()));
            return Err(error.into());
        }
        if sender.blocking_send(Ok(sealed.into())).is_err() {
            // The store failed, and says why.
            return Ok(());
        }
        let done_bytes = layout.plain_range(index).map_or(0, |range| range.end);
        progress.send_replace(SealProgress { done_bytes, total_bytes: layout.plain_len() });
    }
    Ok(())
}
