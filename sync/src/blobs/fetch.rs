//! Getting what is missing of a blob, from several members at once.
//!
//! `pieces` decides who brings what, `stream` brings one range. Each source has
//! a task that dials, asks what the source has, and keeps a few streams busy.
//! A source that refuses, lies, or falls silent is dropped for this fetch, and
//! its reason kept; what it did not bring goes to the others. What came is on
//! disk whatever happens then: the next fetch begins where this one ended.

mod course;
mod pieces;
mod source;
mod stream;

use std::num::NonZeroU64;
use std::pin::Pin;
use std::sync::Arc;

use iroh::endpoint::Connection;
use tokio::sync::watch;

use exo_model::id::{BlobHash, CommunityId, DeviceId};
use exo_model::weights::{ByteRange, total_len};

use super::disk::{NoRoom, RoomError};
use super::holdings::Hold;
use super::{Blobs, BlobsError, aligned, today};
use crate::mesh::LinkError;
use course::Shared;

/// A connection on its way.
pub type Dialling = Pin<Box<dyn Future<Output = Result<Connection, LinkError>> + Send>>;

/// How a fetch reaches its sources.
pub trait Dial: Send + Sync + 'static {
    /// Connects to `device` for iroh-blobs' protocol. Each dial gets a deadline
    /// of its own.
    fn dial(&self, device: DeviceId) -> Dialling;
}

impl<F: Fn(DeviceId) -> Dialling + Send + Sync + 'static> Dial for F {
    fn dial(&self, device: DeviceId) -> Dialling {
        self(device)
    }
}

/// What is to be fetched.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// For whom: its members may fetch it from here afterwards.
    pub community: CommunityId,
    /// The blob.
    pub blob: BlobHash,
    /// Its length in bytes, as whoever named it says.
    pub size_bytes: u64,
    /// The bytes that are wanted; they are widened to whole blocks.
    pub ranges: Vec<ByteRange>,
    /// Who may have it; at most 16 are asked, the first ones.
    pub sources: Vec<DeviceId>,
}

/// What a fetch moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Content bytes received, all verified.
    pub payload_bytes: u64,
    /// Hashes received beside them.
    pub overhead_bytes: u64,
}

/// How far a fetch is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchProgress {
    /// Bytes of what is wanted that are here, those from before included.
    pub done_bytes: u64,
    /// Bytes of what is wanted.
    pub total_bytes: u64,
    /// Bytes received by this fetch.
    pub received_bytes: u64,
    /// Each source, in the order of the request.
    pub sources: Vec<SourceProgress>,
}

/// What one source does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceProgress {
    /// Who.
    pub device: DeviceId,
    /// What it is at.
    pub state: SourceState,
    /// Bytes it brought.
    pub received_bytes: u64,
    /// Bytes a second it brings now.
    pub bytes_per_second: u64,
}

/// What a source is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// It is being reached.
    Dialling,
    /// It brings bytes.
    Fetching,
    /// It has nothing more of what is missing.
    Idle,
    /// It is out of this fetch, for this reason.
    Dropped(String),
}

/// A fetch that did not bring everything. What came stays.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There is no room.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// This device's store failed.
    #[error("storing {blob}: {source}")]
    Store {
        /// The blob.
        blob: BlobHash,
        /// Why.
        source: std::io::Error,
    },
    /// The store cannot say what is here.
    #[error(transparent)]
    Blobs(#[from] BlobsError),
    /// The sources did not bring everything.
    #[error("fetching {blob}: {missing_bytes} bytes are still missing; {}", reasons(.sources))]
    Sources {
        /// The blob.
        blob: BlobHash,
        /// Bytes that are not here.
        missing_bytes: u64,
        /// What became of each source.
        sources: Vec<SourceProgress>,
    },
}

impl From<RoomError> for FetchError {
    fn from(error: RoomError) -> Self {
        match error {
            RoomError::NoRoom(error) => error.into(),
            RoomError::Blobs(error) => error.into(),
        }
    }
}

fn reasons(sources: &[SourceProgress]) -> String {
    if sources.is_empty() {
        return "nobody who has it is online: try again when someone is".into();
    }
    let reason = |source: &SourceProgress| match &source.state {
        SourceState::Dropped(reason) => format!("{}: {reason}", source.device),
        _ => format!("{} has nothing more of it", source.device),
    };
    sources.iter().map(reason).collect::<Vec<_>>().join("; ")
}

impl Blobs {
    /// Fetches what is missing of a blob. Dropping the future ends the fetch;
    /// what came by then stays, and is held for the community until the fetch
    /// is taken up again or given up ([`Blobs::unpin`]).
    ///
    /// # Errors
    /// See [`FetchError`].
    pub async fn fetch(
        &self,
        request: FetchRequest,
        dial: Arc<dyn Dial>,
        progress: watch::Sender<FetchProgress>,
    ) -> Result<Fetched, FetchError> {
        let FetchRequest { community, blob, size_bytes, .. } = request;
        let wanted = aligned(&request.ranges, size_bytes);
        let Some(size) = NonZeroU64::new(size_bytes).filter(|_| !wanted.is_empty()) else {
            return Ok(Fetched::default());
        };
        let missing = self.missing(blob, size_bytes, &wanted).await?;
        if missing.is_empty() {
            self.hold_soon(community, blob, Hold::Kept).await?;
            return Ok(Fetched::default());
        }
        let reservation = self.reserve(total_len(&missing)).await?;
        // On disk with the first bytes, which are then not what nobody wants.
        self.hold_soon(community, blob, Hold::Fetching(today())).await?;
        let shared = Arc::new(Shared::new(self, &request, size, dial, progress, reservation));
        let result = shared.run(&wanted, missing).await;
        if result.is_err() && self.stored_bytes(blob).await.is_ok_and(|bytes| bytes == 0) {
            self.unpin_unfetched(community, blob).await?;
        }
        let fetched = result?;
        if let Some(day) = self.inner.holdings.keep_fetched(community, blob) {
            let inner = self.inner.clone();
            tokio::spawn(async move {
                if let Err(error) = inner.holdings.write_kept(&inner.store, community, blob, day).await {
                    tracing::warn!(%blob, %error, "the end of a fetch could not be written down");
                }
            });
        }
        Ok(fetched)
    }

    /// What of `wanted` is not here.
    pub(super) async fn missing(
        &self,
        blob: BlobHash,
        size_bytes: u64,
        wanted: &[ByteRange],
    ) -> Result<Vec<ByteRange>, BlobsError> {
        let here = self.present(blob, size_bytes).await?;
        Ok(wanted.iter().flat_map(|range| pieces::outside(*range, &here)).collect())
    }

    /// A fetch that brought nothing leaves nothing behind.
    async fn unpin_unfetched(&self, community: CommunityId, blob: BlobHash) -> Result<(), BlobsError> {
        let tomorrow = today().saturating_add(1);
        if self.inner.holdings.fetches_before(tomorrow).contains(&(community, blob)) {
            self.unpin(community, blob).await?;
        }
        Ok(())
    }
}
