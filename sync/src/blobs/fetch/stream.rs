//! One request for one range: asked, verified, handed to the store.

use std::io;
use std::num::NonZeroU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use iroh::endpoint::{Connection, ReadError, RecvStream, VarInt};
use iroh_blobs::api::Error as StoreError;
use iroh_blobs::get::fsm::{
    AtBlobHeaderNextError, AtConnected, BlobContentNext, ConnectedNext, DecodeError, RequestCounters,
};
use iroh_blobs::protocol::{ChunkRanges, ChunkRangesExt as _, ERR_INTERNAL, ERR_PERMISSION, GetRequest};
use iroh_blobs::store::fs::FsStore;
use n0_future::time::Instant;

use exo_model::id::BlobHash;

use super::super::hash;
use super::pieces::Piece;

/// Items of one range that may wait for the store: 64 blocks of 16 KiB with
/// their hashes.
const ITEMS: usize = 128;

/// Why a range did not come, or not whole.
#[derive(Debug)]
pub(super) enum RangeError {
    /// The source does not have all of it.
    NotThere,
    /// The source does not let this device have it.
    Refused,
    /// What the source sent is not what was asked for.
    Wrong(String),
    /// The source sent nothing for too long.
    Silent,
    /// The connection broke.
    Lost(String),
    /// This device's store failed.
    Store(io::Error),
}

/// What a range is fetched with.
pub(super) struct Request<'a> {
    pub(super) store: &'a FsStore,
    pub(super) connection: &'a Connection,
    pub(super) blob: BlobHash,
    pub(super) size: NonZeroU64,
    pub(super) silence_max: Duration,
}

impl Request<'_> {
    /// Fetches `piece` up to its end, which may come nearer meanwhile. `came`
    /// is told the next byte to come and how many bytes of content and of
    /// hashes just came. What came before a failure is in the store.
    pub(super) async fn run(
        &self,
        piece: &Piece,
        mut came: impl FnMut(u64, u64, u64) + Send,
    ) -> Result<(), RangeError> {
        let lost = |error: &dyn std::fmt::Display| RangeError::Lost(error.to_string());
        let opening = tokio::time::timeout(self.silence_max, self.connection.open_bi()).await;
        let (send, recv) = opening.map_err(|_| RangeError::Silent)?.map_err(|error| lost(&error))?;
        let wanted = ChunkRanges::bytes(piece.range.start..piece.range.end);
        let request = GetRequest::blob_ranges(hash(self.blob), wanted);
        let reader = Watched { inner: recv, silence_max: self.silence_max };
        let asked = AtConnected::new(Instant::now(), reader, send, request, RequestCounters::default());
        let ConnectedNext::StartRoot(root) = asked.next().await.map_err(|error| lost(&error))? else {
            return Err(RangeError::Wrong("it answered something else".into()));
        };
        let (mut content, size) = root.next().next().await.map_err(header_error)?;
        if size != self.size.get() {
            return Err(RangeError::Wrong(format!("it says that the file has {size} bytes")));
        }
        let import = self.store.import_bao(hash(self.blob), self.size, ITEMS).await;
        let import = import.map_err(|error| RangeError::Store(io::Error::other(error)))?;
        let (mut had, mut had_hashes) = (0, 0);
        let ended = loop {
            match content.next().await {
                BlobContentNext::Done(_) => break Ok(()),
                BlobContentNext::More((_, Err(error))) => break Err(decode_error(error)),
                BlobContentNext::More((next, Ok(item))) => {
                    if import.tx.send(item).await.is_err() {
                        // The store says why below.
                        break Ok(());
                    }
                    let stats = next.stats();
                    let (bytes, hashes) = (stats.payload_bytes_read, stats.other_bytes_read);
                    let at = piece.range.start.saturating_add(bytes);
                    if bytes > had {
                        came(at, bytes - had, hashes - had_hashes);
                        (had, had_hashes) = (bytes, hashes);
                    }
                    if at >= piece.end.load(Ordering::Relaxed) {
                        break Ok(());
                    }
                    content = next;
                }
            }
        };
        drop(import.tx);
        let stored = import.rx.await.map_err(|error| RangeError::Store(io::Error::other(error)))?;
        stored.map_err(|StoreError::Io(error)| RangeError::Store(error))?;
        ended
    }
}

fn header_error(error: AtBlobHeaderNextError) -> RangeError {
    match error {
        AtBlobHeaderNextError::NotFound { .. } => RangeError::NotThere,
        AtBlobHeaderNextError::Read { source, .. } => read_error(&source),
    }
}

fn decode_error(error: DecodeError) -> RangeError {
    match error {
        DecodeError::ChunkNotFound { .. }
        | DecodeError::ParentNotFound { .. }
        | DecodeError::LeafNotFound { .. } => RangeError::NotThere,
        DecodeError::Read { source, .. } => read_error(&source),
        wrong => RangeError::Wrong(format!("it sent bytes that do not verify ({wrong})")),
    }
}

fn read_error(error: &io::Error) -> RangeError {
    if error.kind() == io::ErrorKind::TimedOut {
        return RangeError::Silent;
    }
    match error.get_ref().and_then(|inner| inner.downcast_ref::<ReadError>()) {
        Some(ReadError::Reset(code)) if *code == ERR_PERMISSION => RangeError::Refused,
        // How iroh-blobs says that it has a part only.
        Some(ReadError::Reset(code)) if *code == ERR_INTERNAL => RangeError::NotThere,
        _ => RangeError::Lost(error.to_string()),
    }
}

/// A stream that notices silence.
struct Watched {
    inner: RecvStream,
    silence_max: Duration,
}

impl Watched {
    /// Fills `target`, as far as the stream goes, and says how far.
    async fn fill(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < target.len() {
            let reading = self.inner.read(&mut target[filled..]);
            let read = tokio::time::timeout(self.silence_max, reading).await;
            let read = read.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?;
            let Some(count) = read.map_err(io::Error::other)? else { break };
            filled += count;
        }
        Ok(filled)
    }
}

impl iroh_blobs::util::RecvStream for Watched {
    async fn recv_bytes(&mut self, len: usize) -> io::Result<Bytes> {
        let mut bytes = vec![0; len];
        let filled = self.fill(&mut bytes).await?;
        bytes.truncate(filled);
        Ok(bytes.into())
    }

    async fn recv_bytes_exact(&mut self, len: usize) -> io::Result<Bytes> {
        let bytes = self.recv_bytes(len).await?;
        if bytes.len() == len { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    async fn recv_exact(&mut self, target: &mut [u8]) -> io::Result<()> {
        let filled = self.fill(target).await?;
        if filled == target.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn stop(&mut self, code: VarInt) -> io::Result<()> {
        Ok(self.inner.stop(code)?)
    }

    fn id(&self) -> u64 {
        self.inner.id().index()
    }
}
