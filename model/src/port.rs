//! What the pure core asks of the world, as narrow traits.

use crate::feed::{AcceptedRun, FeedId, FeedPosition, LineId, Run};
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

/// A stored line of a feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredLine {
    /// Which line.
    pub id: LineId,
    /// The line it parts from; none for one that begins with the feed.
    pub parent: Option<u32>,
    /// The last change that it shares with its parent; 0 without one.
    pub base_seq: u64,
    /// Where it ends.
    pub end: FeedPosition,
}

/// Where signed changes live: the truth that everything else derives from.
pub trait ChangeStore {
    /// Failure of the medium (a full disk, a damaged file).
    type Error: std::error::Error + Send + Sync + 'static;

    /// Every stored line of a community, in the order of streams, devices,
    /// segments and numbers.
    ///
    /// # Errors
    /// When the medium fails.
    fn lines(&self, community: CommunityId) -> Result<Vec<StoredLine>, Self::Error>;

    /// The end of one line; [`FeedPosition::START`] when nothing is stored.
    ///
    /// # Errors
    /// When the medium fails.
    fn position(&self, line: impl Into<LineId>) -> Result<FeedPosition, Self::Error>;

    /// The first line of a feed that goes through a position.
    ///
    /// # Errors
    /// When the medium fails.
    fn line_through(&self, feed: &FeedId, at: &FeedPosition) -> Result<Option<LineId>, Self::Error>;

    /// The hash of one stored change of a line, if it is there.
    ///
    /// # Errors
    /// When the medium fails.
    fn hash_at(&self, line: impl Into<LineId>, seq: u64) -> Result<Option<ChangeHash>, Self::Error>;

    /// Appends a run the gate accepted to the line that it continues; durable
    /// when this returns.
    ///
    /// # Errors
    /// When the medium fails, or no line ends where the run starts; nothing
    /// is stored then.
    fn append(&mut self, run: &AcceptedRun) -> Result<(), Self::Error>;

    /// Up to `max_bytes` of changes of a line after `after_seq`, ending at a
    /// signed change; `None` when there are none.
    ///
    /// # Errors
    /// When the medium fails.
    fn read_run(
        &self,
        line: impl Into<LineId>,
        after_seq: u64,
        max_bytes: usize,
    ) -> Result<Option<Run>, Self::Error>;
}
