//! What the pure core asks of the world, as narrow traits.

use crate::feed::{AcceptedRun, FeedId, FeedPosition, Run};
use crate::id::{ChangeHash, CommunityId, DeviceId};
use crate::signature::Signature;

/// Signs for this device. The key itself stays behind the port.
pub trait Signer: Send + Sync {
    /// The device whose key signs.
    fn device(&self) -> DeviceId;
    /// Ed25519 signature over `message`.
    fn sign(&self, message: &[u8]) -> Signature;
}

/// Wall time, in milliseconds since the Unix epoch.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now_ms(&self) -> i64;
}

/// Unpredictable bytes from the operating system.
pub trait Entropy: Send + Sync {
    /// Fills `bytes`.
    fn fill(&self, bytes: &mut [u8]);
}

/// Where signed changes live: the truth that everything else derives from.
pub trait ChangeStore {
    /// Failure of the medium (a full disk, a damaged file).
    type Error: std::error::Error + Send + Sync + 'static;

    /// Every stored feed of a community with its end.
    ///
    /// # Errors
    /// When the medium fails.
    fn feeds(&self, community: CommunityId) -> Result<Vec<(FeedId, FeedPosition)>, Self::Error>;

    /// The end of one feed; [`FeedPosition::START`] when nothing is stored.
    ///
    /// # Errors
    /// When the medium fails.
    fn position(&self, feed: &FeedId) -> Result<FeedPosition, Self::Error>;

    /// The hash of one stored change, if it is there.
    ///
    /// # Errors
    /// When the medium fails.
    fn hash_at(&self, feed: &FeedId, seq: u64) -> Result<Option<ChangeHash>, Self::Error>;

    /// Appends a run the gate accepted; durable when this returns.
    ///
    /// # Errors
    /// When the medium fails; nothing is stored then.
    fn append(&mut self, run: &AcceptedRun) -> Result<(), Self::Error>;

    /// Up to `max_bytes` of changes after `after_seq`, ending at a signed
    /// change; `None` when there are none.
    ///
    /// # Errors
    /// When the medium fails.
    fn read_run(&self, feed: &FeedId, after_seq: u64, max_bytes: usize) -> Result<Option<Run>, Self::Error>;
}
