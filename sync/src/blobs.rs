//! Attachments and model files by BLAKE3, whole or in byte ranges, over
//! iroh-blobs.
//!
//! One store serves the whole node. Each blob in it is held *for* communities
//! ([`Blobs::pin`]): their members may fetch it, and nobody else; what is held
//! for none goes away with the next collection. Behind this port:
//!
//! - `holdings`: who each blob is held for, as tags of the store itself;
//! - `serve`: answers peers, each request judged when it is made;
//! - `fetch`: gets what is missing from several sources at once;
//! - `disk`: room on the disk, the quota, and what to say when there is none;
//! - `sealed`: attachments, which are sealed before they are stored.
//!
//! What is fetched is verified while it arrives (BLAKE3 verified streaming),
//! and what is here already is not fetched again. Files that were added where
//! they lie are never written, moved or deleted.

mod disk;
mod fetch;
pub mod gauge;
mod holdings;
mod sealed;
mod serve;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use iroh_blobs::api::Error as StoreError;
use iroh_blobs::api::RequestError;
use iroh_blobs::api::blobs::{AddPathOptions, Bitfield, BlobStatus, ImportMode};
use iroh_blobs::protocol::{ChunkRanges, ChunkRangesExt as _};
use iroh_blobs::store::GcConfig;
use iroh_blobs::store::fs::FsStore;
use iroh_blobs::store::fs::options::Options;
use iroh_blobs::{BlobFormat, Hash};
use n0_future::StreamExt as _;

use exo_model::id::{BlobHash, CommunityId, DeviceId};
use exo_model::weights::{ByteRange, merge_ranges, total_len};

use holdings::{Hold, Holdings};

pub use disk::{NoRoom, Usage};
pub use fetch::{
    Dial, Dialling, FetchError, FetchProgress, FetchRequest, Fetched, SourceProgress, SourceState,
};
pub use sealed::{AttachmentError, PREVIEW_BYTES_MAX, Plain, SealProgress, attachment_layout};
pub use serve::BlobsProtocol;

/// Ranges are fetched in multiples of this many bytes: unaligned edges could
/// not be served on to others.
pub const ALIGNMENT_BYTES: u64 = 16 * 1024;
/// How often a store that was left by a failed write is asked again, and after
/// what pause: it takes its files up afresh as soon as nobody uses them.
const REOPEN: (u32, Duration) = (50, Duration::from_millis(20));
/// Milliseconds of a day.
const DAY_MS: u128 = 24 * 60 * 60 * 1000;

/// What the store asks of the communities: who is in them now.
pub trait BlobAccess: Send + Sync + 'static {
    /// Whether `peer` is a member's device at this moment.
    fn is_member(&self, peer: &DeviceId, community: &CommunityId) -> bool;
}

/// How a store is kept.
#[derive(Clone, Copy, Debug)]
pub struct BlobsOptions {
    /// Most bytes of blobs that are not somebody's own files in place.
    pub quota_bytes: Option<u64>,
    /// Bytes of the disk that fetches leave free: the store's own tables, and
    /// every other program, would fail without any.
    pub reserve_bytes: u64,
    /// Pause between collections of what nobody holds.
    pub collect_every: Duration,
    /// Days after which a fetch that was not taken up again is given up.
    pub partial_days_max: u32,
    /// Longest silence of a source.
    pub silence_max: Duration,
}

impl Default for BlobsOptions {
    fn default() -> Self {
        Self {
            quota_bytes: None,
            reserve_bytes: 256 << 20,
            collect_every: Duration::from_secs(10 * 60),
            partial_days_max: 14,
            silence_max: Duration::from_secs(30),
        }
    }
}

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
    /// The store cannot read what it has of a blob.
    #[error("blob {blob}: {reason}")]
    Read {
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

/// The blob store of one node.
#[derive(Clone)]
pub struct Blobs {
    inner: Arc<Inner>,
}

struct Inner {
    store: FsStore,
    folder: PathBuf,
    options: BlobsOptions,
    holdings: Holdings,
    /// What running fetches may still write.
    reservations: Mutex<Vec<Weak<disk::Reservation>>>,
}

impl std::fmt::Debug for Blobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blobs({})", self.inner.folder.display())
    }
}

impl Blobs {
    /// Opens the store and the protocol handler that serves members from it.
    ///
    /// # Errors
    /// When the folder cannot be used, or another process has it open.
    pub async fn open(
        folder: &Path,
        access: Arc<dyn BlobAccess>,
    ) -> Result<(Self, BlobsProtocol), BlobsError> {
        Self::open_with(folder, access, BlobsOptions::default()).await
    }

    /// The same with other limits.
    ///
    /// # Errors
    /// As for [`Blobs::open`].
    pub async fn open_with(
        folder: &Path,
        access: Arc<dyn BlobAccess>,
        options: BlobsOptions,
    ) -> Result<(Self, BlobsProtocol), BlobsError> {
        let failed = |reason: String| BlobsError::Store { path: folder.to_owned(), reason };
        let folder = std::path::absolute(folder).map_err(|error| failed(error.to_string()))?;
        let mut settings = Options::new(&folder);
        settings.gc = Some(GcConfig { interval: options.collect_every, add_protected: None });
        let store = FsStore::load_with_opts(folder.join("blobs.db"), settings)
            .await
            .map_err(|error| failed(format!("{error:#}")))?;
        let holdings = Holdings::load(&store).await.map_err(|error| failed(format!("{error:#}")))?;
        let inner = Inner { store, folder, options, holdings, reservations: Mutex::default() };
        let blobs = Self { inner: Arc::new(inner) };
        blobs.sweep_leftovers().await.map_err(|error| failed(format!("{error:#}")))?;
        blobs.give_up_old_fetches().await?;
        let protocol = BlobsProtocol::new(blobs.clone(), access);
        Ok((blobs, protocol))
    }

    /// Takes a file into the store where it lies, without copying it, holds it
    /// for `community` and returns its hash. The file must stay as it is.
    ///
    /// # Errors
    /// When the file cannot be read, or is part of the store itself.
    pub async fn add_file(&self, community: CommunityId, path: &Path) -> Result<BlobHash, BlobsError> {
        let failed = |reason: String| BlobsError::Add { path: path.to_owned(), reason };
        let absolute = std::path::absolute(path).map_err(|error| failed(error.to_string()))?;
        if absolute.starts_with(&self.inner.folder) {
            return Err(failed("it lies in the store's own folder: move it out of there first".into()));
        }
        let options =
            AddPathOptions { path: absolute, format: BlobFormat::Raw, mode: ImportMode::TryReference };
        // The temporary tag keeps the blob until the lasting one is written.
        let added = self.inner.store.add_path_with_opts(options).temp_tag().await;
        let added = added.map_err(|error| failed(format!("{error:#}")))?;
        let blob = BlobHash::from_bytes(*added.hash().as_bytes());
        self.hold(community, blob, Hold::InPlace).await?;
        Ok(blob)
    }

    /// Holds `blob` for `community`: its members may fetch it, and what is here
    /// of it stays.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn pin(&self, community: CommunityId, blob: BlobHash) -> Result<(), BlobsError> {
        self.hold(community, blob, Hold::Kept).await
    }

    /// Holds `blob` for `community` no longer, and gives up a fetch of it. When
    /// nobody holds it, the store's own bytes of it go with the next
    /// collection; a file that was added in place is left alone.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn unpin(&self, community: CommunityId, blob: BlobHash) -> Result<(), BlobsError> {
        let removed = self.inner.holdings.remove(&self.inner.store, community, blob).await;
        removed.map_err(|error| read_failed(blob, &error))
    }

    /// Holds for `community` what earlier versions of this program added, when
    /// a node had one community and tags had no meaning.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn adopt(&self, community: CommunityId) -> Result<(), BlobsError> {
        let failed = |reason: String| BlobsError::Store { path: self.inner.folder.clone(), reason };
        let mut tags =
            self.inner.store.tags().list_prefix(b"auto-").await.map_err(|error| failed(error.to_string()))?;
        while let Some(tag) = tags.next().await {
            let tag = tag.map_err(|error| failed(error.to_string()))?;
            // They were files in place, every one.
            self.hold(community, BlobHash::from_bytes(*tag.hash.as_bytes()), Hold::InPlace).await?;
            let deleted = self.inner.store.tags().delete(tag.name.0).await;
            deleted.map_err(|error| failed(format!("{error:#}")))?;
        }
        Ok(())
    }

    /// The communities that `blob` is held for.
    pub fn held_for(&self, blob: &BlobHash) -> Vec<CommunityId> {
        self.inner.holdings.communities(blob)
    }

    /// What is held for `community` and whole on this device, with sizes.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn whole(&self, community: CommunityId) -> Result<Vec<(BlobHash, u64)>, BlobsError> {
        let mut whole = Vec::new();
        for (blob, holds) in self.inner.holdings.all() {
            if !holds.contains_key(&community) {
                continue;
            }
            let status = self.inner.store.status(hash(blob)).await;
            let status = status.map_err(|error| BlobsError::Read { blob, reason: error.to_string() })?;
            if let BlobStatus::Complete { size } = status {
                whole.push((blob, size));
            }
        }
        Ok(whole)
    }

    /// The parts of the blob, in whole blocks, that are here.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn present(&self, blob: BlobHash, size_bytes: u64) -> Result<Vec<ByteRange>, BlobsError> {
        Ok(byte_ranges(&self.bitfield(blob).await?.ranges, size_bytes))
    }

    /// Reads bytes that are here. They are verified once more: a file that was
    /// added in place may have changed since.
    ///
    /// # Errors
    /// [`BlobsError::NotHere`] where some are not; [`BlobsError::Read`] where
    /// they are not what they were.
    pub async fn read(
        &self,
        blob: BlobHash,
        size_bytes: u64,
        range: ByteRange,
    ) -> Result<Vec<u8>, BlobsError> {
        let missing = || BlobsError::NotHere { blob, range };
        let field = self.bitfield(blob).await?;
        // Nothing is allocated for a size that is merely claimed.
        let known = size_bytes.min(field.size());
        let here = byte_ranges(&field.ranges, known);
        if !here.iter().any(|part| part.start <= range.start && range.end <= part.end) {
            return Err(missing());
        }
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let block = range.aligned(ALIGNMENT_BYTES, known);
        let wanted = ChunkRanges::bytes(block.start..block.end);
        let read = self.inner.store.export_bao(hash(blob), wanted).data_to_vec().await;
        let mut bytes = read.map_err(|error| BlobsError::Read { blob, reason: format!("{error:#}") })?;
        let skip = usize::try_from(range.start - block.start).map_err(|_| missing())?;
        let len = usize::try_from(range.len()).map_err(|_| missing())?;
        if bytes.len() < skip.saturating_add(len) {
            return Err(missing());
        }
        bytes.truncate(skip + len);
        bytes.drain(..skip);
        Ok(bytes)
    }

    /// Closes the store; what was written last is on disk afterwards.
    pub async fn close(&self) {
        if let Err(error) = self.inner.store.shutdown().await {
            tracing::debug!(%error, "blob store shutdown");
        }
    }

    /// Holds a blob, and waits until that is on disk.
    async fn hold(&self, community: CommunityId, blob: BlobHash, hold: Hold) -> Result<(), BlobsError> {
        self.hold_soon(community, blob, hold).await?;
        self.inner.store.sync_db().await.map_err(|error| read_failed(blob, &error))
    }

    async fn hold_soon(&self, community: CommunityId, blob: BlobHash, hold: Hold) -> Result<(), BlobsError> {
        let held = self.inner.holdings.set(&self.inner.store, community, blob, hold).await;
        held.map_err(|error| read_failed(blob, &error))
    }

    async fn bitfield(&self, blob: BlobHash) -> Result<Bitfield, BlobsError> {
        let (tries, pause) = REOPEN;
        let mut tried = 1;
        loop {
            match self.inner.store.observe(hash(blob)).await {
                Ok(field) => return Ok(field),
                Err(error) if tried == tries => return Err(read_failed(blob, &error)),
                Err(_) => tokio::time::sleep(pause).await,
            }
            tried += 1;
        }
    }

    /// Bytes of the blob on this device.
    async fn stored_bytes(&self, blob: BlobHash) -> Result<u64, BlobsError> {
        let status = self.inner.store.status(hash(blob)).await;
        match status.map_err(|error| BlobsError::Read { blob, reason: error.to_string() })? {
            BlobStatus::NotFound => Ok(0),
            BlobStatus::Complete { size } => Ok(size),
            BlobStatus::Partial { .. } => {
                let field = self.bitfield(blob).await?;
                Ok(total_len(&byte_ranges(&field.ranges, field.size())))
            }
        }
    }

    /// Gives up fetches that nobody took up again for too long.
    async fn give_up_old_fetches(&self) -> Result<(), BlobsError> {
        let before = today().saturating_sub(self.inner.options.partial_days_max);
        for (community, blob) in self.inner.holdings.fetches_before(before) {
            tracing::info!(%blob, "a fetch that was not taken up again is given up");
            self.unpin(community, blob).await?;
        }
        Ok(())
    }

    /// Removes what a killed process left half-written: temporary files, and
    /// files of blobs that never got into the store's tables. Only here is
    /// nobody else at work in the folder.
    async fn sweep_leftovers(&self) -> Result<(), std::io::Error> {
        let listed = self.inner.store.list().hashes().await.map_err(io_error)?;
        let known: std::collections::BTreeSet<String> = listed.iter().map(Hash::to_hex).collect();
        let folder = self.inner.folder.clone();
        let sweeping = tokio::task::spawn_blocking(move || {
            let is_known = |name: &str| known.contains(name.split('.').next().unwrap_or_default());
            disk::remove_files(&folder.join("temp"), |name| name.ends_with(".temp"))?;
            disk::remove_files(&folder.join("data"), |name| !is_known(name))
        });
        sweeping.await.map_err(std::io::Error::other)?
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

/// Days since the Unix epoch.
fn today() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u32::try_from(since.as_millis() / DAY_MS).unwrap_or(u32::MAX)
}

fn read_failed(blob: BlobHash, error: &RequestError) -> BlobsError {
    BlobsError::Read { blob, reason: format!("{error:#}") }
}

/// The plain error inside one of the store.
fn io_error(error: RequestError) -> std::io::Error {
    match StoreError::from(error) {
        StoreError::Io(error) => error,
    }
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
