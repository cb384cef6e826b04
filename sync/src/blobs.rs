//! Model files by BLAKE3, whole or in byte ranges, over iroh-blobs.
//!
//! Behind this port: what is fetched is verified chunk by chunk while it
//! arrives (BLAKE3 verified streaming), what is here already is not fetched
//! again, and only members are served.

use std::path::{Path, PathBuf};
use std::time::Duration;

use iroh::endpoint::Connection;
use iroh_blobs::api::blobs::{AddPathOptions, ImportMode};
use iroh_blobs::api::remote::GetProgressItem;
use iroh_blobs::protocol::{ChunkRanges, ChunkRangesExt as _, GetRequest};
use iroh_blobs::provider::events::{
    AbortReason, ConnectMode, EventMask, EventSender, ProviderMessage, RequestMode,
};
use iroh_blobs::store::fs::FsStore;
use iroh_blobs::{BlobFormat, BlobsProtocol, Hash};
use n0_future::StreamExt as _;

use exo_model::id::BlobHash;
use exo_model::weights::{ByteRange, merge_ranges, total_len};

use crate::mesh::Communities;
use crate::mesh::LinkError;

/// Ranges are fetched in multiples of this many bytes: unaligned edges could
/// not be served on to others.
pub const ALIGNMENT_BYTES: u64 = 16 * 1024;
/// Longest silence of a source.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Provider events that may wait.
const EVENTS: usize = 32;

/// A blob operation that failed.
#[derive(Debug, thiserror::Error)]
pub enum BlobsError {
    /// The store's folder cannot be used.
    #[error("blob store {path}: {reason}")]
    Store {
        /// The folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file cannot be added.
    #[error("cannot add {path}: {reason}")]
    Add {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The source cannot be reached.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The source refused, vanished, or sent bytes that do not verify.
    #[error("fetching {blob}: {reason}")]
    Fetch {
        /// The blob.
        blob: BlobHash,
        /// Why.
        reason: String,
    },
    /// Bytes that are not here were asked for.
    #[error("blob {blob}: bytes {}..{} are not on this device", range.start, range.end)]
    NotHere {
        /// The blob.
        blob: BlobHash,
        /// The bytes.
        range: ByteRange,
    },
}

/// What a fetch moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Content bytes received, all verified.
    pub payload_bytes: u64,
    /// Hashes and headers received beside them.
    pub overhead_bytes: u64,
}

/// The blob store of one data folder.
#[derive(Clone, Debug)]
pub struct Blobs {
    store: FsStore,
}

impl Blobs {
    /// Opens the store and the protocol handler that serves members from it.
    pub(crate) async fn open(
        folder: &Path,
        communities: Communities,
    ) -> Result<(Self, BlobsProtocol), BlobsError> {
        let store = FsStore::load(folder)
            .await
            .map_err(|error| BlobsError::Store { path: folder.to_owned(), reason: format!("{error:#}") })?;
        let protocol = BlobsProtocol::new(&store, Some(members_only(communities)));
        Ok((Self { store }, protocol))
    }

    /// Takes a file into the store where it lies, without copying it, and
    /// returns its hash.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn add_file(&self, path: &Path) -> Result<BlobHash, BlobsError> {
        let failed = |reason: String| BlobsError::Add { path: path.to_owned(), reason };
        let absolute = std::path::absolute(path).map_err(|error| failed(error.to_string()))?;
        let options =
            AddPathOptions { path: absolute, format: BlobFormat::Raw, mode: ImportMode::TryReference };
        let tag =
            self.store.add_path_with_opts(options).await.map_err(|error| failed(format!("{error:#}")))?;
        Ok(BlobHash::from_bytes(*tag.hash.as_bytes()))
    }

    /// The parts of `ranges`, aligned, that are here.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn present(&self, blob: BlobHash, size_bytes: u64) -> Result<Vec<ByteRange>, BlobsError> {
        let bitfield = self
            .store
            .observe(hash(blob))
            .await
            .map_err(|error| BlobsError::Fetch { blob, reason: format!("{error:#}") })?;
        Ok(byte_ranges(&bitfield.ranges, size_bytes))
    }

    /// Reads bytes that are here.
    ///
    /// # Errors
    /// [`BlobsError::NotHere`] where some are not.
    pub async fn read(
        &self,
        blob: BlobHash,
        size_bytes: u64,
        range: ByteRange,
    ) -> Result<Vec<u8>, BlobsError> {
        let missing = BlobsError::NotHere { blob, range };
        let here = self.present(blob, size_bytes).await?;
        if !here.iter().any(|part| part.start <= range.start && range.end <= part.end) {
            return Err(missing);
        }
        let bytes = self
            .store
            .export_ranges(hash(blob), range.start..range.end)
            .concatenate()
            .await
            .map_err(|error| BlobsError::Fetch { blob, reason: format!("{error:#}") })?;
        if bytes.len() as u64 == range.len() { Ok(bytes) } else { Err(missing) }
    }

    /// Fetches what is missing of `ranges` (aligned outward to
    /// [`ALIGNMENT_BYTES`]) over `connection`; `progress` gets the bytes
    /// received so far.
    pub(crate) async fn fetch(
        &self,
        connection: &Connection,
        blob: BlobHash,
        size_bytes: u64,
        ranges: &[ByteRange],
        mut progress: impl FnMut(u64) + Send,
    ) -> Result<Fetched, BlobsError> {
        let failed = |reason: String| BlobsError::Fetch { blob, reason };
        let mut wanted = ChunkRanges::empty();
        for range in aligned(ranges, size_bytes) {
            wanted |= ChunkRanges::bytes(range.start..range.end);
        }
        let request = GetRequest::builder().root(wanted).build(hash(blob));
        let local = self
            .store
            .remote()
            .local_for_request(request)
            .await
            .map_err(|error| failed(format!("{error:#}")))?;
        if local.is_complete() {
            return Ok(Fetched::default());
        }
        let mut steps = self.store.remote().execute_get(connection.clone(), local.missing()).stream();
        while let Some(step) = tokio::time::timeout(SILENCE_MAX, steps.next())
            .await
            .map_err(|_| failed("the source fell silent".into()))?
        {
            match step {
                GetProgressItem::Progress(bytes) => progress(bytes),
                GetProgressItem::Done(stats) => {
                    return Ok(Fetched {
                        payload_bytes: stats.payload_bytes_read,
                        overhead_bytes: stats.other_bytes_read,
                    });
                }
                GetProgressItem::Error(error) => return Err(failed(format!("{error:#}"))),
            }
        }
        Err(failed("the source ended early".into()))
    }

    pub(crate) async fn close(&self) {
        if let Err(error) = self.store.shutdown().await {
            tracing::debug!(%error, "blob store shutdown");
        }
    }
}

/// `ranges` widened to whole blocks, merged: what a fetch of them transfers.
pub fn aligned(ranges: &[ByteRange], size_bytes: u64) -> Vec<ByteRange> {
    merge_ranges(ranges.iter().map(|range| range.aligned(ALIGNMENT_BYTES, size_bytes)).collect())
}

/// Bytes that a fetch of `ranges` into an empty store transfers.
pub fn aligned_len(ranges: &[ByteRange], size_bytes: u64) -> u64 {
    total_len(&aligned(ranges, size_bytes))
}

fn hash(blob: BlobHash) -> Hash {
    Hash::from_bytes(*blob.as_bytes())
}

fn byte_ranges(chunks: &ChunkRanges, size_bytes: u64) -> Vec<ByteRange> {
    /// Bytes of a BLAKE3 chunk.
    const CHUNK: u64 = 1024;
    let boundaries: Vec<u64> =
        chunks.boundaries().iter().map(|chunk| chunk.0.saturating_mul(CHUNK).min(size_bytes)).collect();
    boundaries
        .chunks(2)
        .map(|pair| ByteRange { start: pair[0], end: pair.get(1).copied().unwrap_or(size_bytes) })
        .filter(|range| !range.is_empty())
        .collect()
}

/// Members may get, but not keepers; nobody may push, observe or bundle.
fn members_only(communities: Communities) -> EventSender {
    let mask = EventMask {
        connected: ConnectMode::Intercept,
        get: RequestMode::None,
        get_many: RequestMode::Disabled,
        push: RequestMode::Disabled,
        ..EventMask::DEFAULT
    };
    let (sender, mut events) = EventSender::channel(EVENTS, mask);
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let ProviderMessage::ClientConnected(connected) = event {
                let may_fetch = connected.inner.endpoint_id.is_some_and(|id| {
                    communities.may_fetch(&exo_model::id::DeviceId::from_bytes(*id.as_bytes()))
                });
                let answer = if may_fetch { Ok(()) } else { Err(AbortReason::Permission) };
                // The connection may be gone; nobody waits for the answer then.
                let _ = connected.tx.send(answer).await;
            }
        }
    });
    sender
}
