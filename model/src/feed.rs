//! Feeds: signed Automerge documents with one writer.
//!
//! A feed is one device's log in one stream of one community. Each Automerge
//! change in it holds exactly one event: one `put` of one byte string at the
//! next key of the root map. Because that shape has one canonical encoding,
//! only `(time, payload)` travels; [`gate`] rebuilds the [`chunk`] itself and
//! never hands a stranger's bytes to Automerge. The hash chain makes one
//! signature over the last change authenticate everything before it.

pub mod chunk;
pub mod document;
pub mod equivocation;
pub mod fence;
pub mod gate;
pub mod opening;

use std::fmt;
use std::sync::Arc;

use minicbor::{Decode, Encode};

use crate::codec;
use crate::envelope::{Envelope, EnvelopeError, SegmentEnd};
use crate::event::Event;
use crate::event::keys::Audience;
use crate::id::{BoardId, ChangeHash, ChannelId, CommunityId, DeviceId, DirectId, KeyId};
use crate::port::Signer;
use crate::signature::Signature;

pub use gate::{AcceptedRun, Rejection};

/// Changes after which an author starts the next segment.
pub const SEGMENT_CHANGES: u64 = 4_096;
/// Age of a segment's first change after which an author starts the next one:
/// 30 days, in ms.
pub const SEGMENT_AGE_MS: i64 = 30 * 24 * 60 * 60 * 1_000;
/// Most changes one segment may hold: room for authors who roll late.
pub const SEGMENT_CHANGES_MAX: u64 = 2 * SEGMENT_CHANGES;
/// Most segments one device's stream may have.
pub const SEGMENTS_MAX: u32 = 1 << 20;
/// Latest wall time a change may carry (end of the year 9999), ms since the
/// Unix epoch. For display, and to order messages written apart; bounded so
/// that it formats.
pub const TIME_MS_MAX: i64 = 253_402_300_799_999;

/// One of a community's kinds of log. The order is that of sending: what
/// others need to be understood comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Stream {
    /// Epoch keys and their seals; never sealed itself.
    #[n(0)]
    Keys,
    /// Governance: founding, invites, members, channels.
    #[n(1)]
    Charter,
    /// Locks, vouchers, settlements.
    #[n(2)]
    Ledger,
    /// What the author's machines offer and host.
    #[n(3)]
    Cluster,
    /// Shared models and documents.
    #[n(4)]
    Library,
    /// Reports to the moderators.
    #[n(5)]
    Moderation,
    /// Edits of one board.
    #[n(6)]
    Board(#[n(0)] BoardId),
    /// Messages of one channel.
    #[n(7)]
    Channel(#[n(0)] ChannelId),
    /// Messages between a few people.
    #[n(8)]
    Direct(#[n(0)] DirectId),
    /// A person's own facts, in their private community.
    #[n(9)]
    Private,
}

impl Stream {
    /// Who reads it; `None` for the stream that is not sealed.
    pub const fn audience(&self) -> Option<Audience> {
        match self {
            Self::Keys => None,
            Self::Charter | Self::Ledger => Some(Audience::Governance),
            Self::Cluster | Self::Library | Self::Moderation | Self::Board(_) | Self::Private => {
                Some(Audience::Members)
            }
            Self::Channel(channel) => Some(Audience::Channel(*channel)),
            Self::Direct(direct) => Some(Audience::Direct(*direct)),
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keys => f.write_str("keys"),
            Self::Charter => f.write_str("charter"),
            Self::Ledger => f.write_str("ledger"),
            Self::Cluster => f.write_str("cluster"),
            Self::Library => f.write_str("library"),
            Self::Moderation => f.write_str("moderation"),
            Self::Board(board) => write!(f, "board/{board}"),
            Self::Channel(channel) => write!(f, "channel/{channel}"),
            Self::Direct(direct) => write!(f, "direct/{direct}"),
            Self::Private => f.write_str("private"),
        }
    }
}

/// Names one feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct FeedId {
    /// The community.
    #[n(0)]
    pub community: CommunityId,
    /// The one device that may write.
    #[n(1)]
    pub device: DeviceId,
    /// The kind of log.
    #[n(2)]
    pub stream: Stream,
    /// Number of the segment, from 0.
    #[n(3)]
    pub segment: u32,
}

impl FeedId {
    /// The first segment of a device's stream.
    pub const fn new(community: CommunityId, device: DeviceId, stream: Stream) -> Self {
        Self { community, device, stream, segment: 0 }
    }

    /// The same device's stream in another segment.
    pub const fn with_segment(self, segment: u32) -> Self {
        Self { segment, ..self }
    }

    /// What the author signs over the change at `position`:
    /// `("exo/chg/1", community, stream, segment, seq, hash)`. The sequence
    /// number makes two signatures for one place a proof by themselves.
    pub fn signed_message(&self, position: &FeedPosition) -> Vec<u8> {
        codec::encode(&("exo/chg/1", self.community, self.stream, self.segment, position.seq, position.hash))
    }
}

impl fmt::Display for FeedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.device, self.stream, self.segment)
    }
}

/// One of the lines that a feed consists of. An honest author's feed is one
/// line, numbered 0; each further one parts from another where the author
/// signed two changes at one place. The numbers are a replica's own, in the
/// order in which lines arrived: only positions travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LineId {
    /// The feed.
    pub feed: FeedId,
    /// Number of the line, from 0.
    pub number: u32,
}

impl From<FeedId> for LineId {
    /// The line that arrived first.
    fn from(feed: FeedId) -> Self {
        Self { feed, number: 0 }
    }
}

impl From<&FeedId> for LineId {
    fn from(feed: &FeedId) -> Self {
        Self::from(*feed)
    }
}

/// Where a feed ends: how many changes it has and the hash of the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct FeedPosition {
    /// Number of changes; the sequence number of the last one.
    #[n(0)]
    pub seq: u64,
    /// Hash of the last change; zeros for an empty feed.
    #[n(1)]
    pub hash: ChangeHash,
}

impl FeedPosition {
    /// Before the first change.
    pub const START: Self = Self { seq: 0, hash: ChangeHash::from_bytes([0; 32]) };
}

/// The variable part of a change: all of it that travels.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Change {
    /// Wall time of writing, ms since the Unix epoch: for display, and to order
    /// messages written apart. The state never depends on it.
    #[n(0)]
    pub time_ms: i64,
    /// The encoded envelope.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub payload: Vec<u8>,
}

/// Consecutive changes of one feed with the author's signature over the last.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Run {
    /// Which feed.
    #[n(0)]
    pub feed: FeedId,
    /// Sequence number of the first change, from 1.
    #[n(1)]
    pub first_seq: u64,
    /// The changes.
    #[n(2)]
    pub changes: Vec<Change>,
    /// The author's signature over the hash of the last change.
    #[n(3)]
    pub signature: Signature,
}

/// An event whose change passed the gate and was opened, or could not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedEvent {
    /// The feed it is in; `feed.device` wrote it.
    pub feed: FeedId,
    /// Its place in the feed, from 1.
    pub seq: u64,
    /// The hash of its change.
    pub hash: ChangeHash,
    /// Number of the line it is on, as this replica counts them (see [`LineId`]).
    /// The state never depends on it.
    pub line: u32,
    /// The hash of the change before it on the device's line, across segments;
    /// zeros for the very first.
    pub previous: ChangeHash,
    /// Wall time of writing, ms since the Unix epoch: for display, and to order
    /// messages written apart. The state never depends on it.
    pub time_ms: i64,
    /// Lamport time; 0 where the envelope cannot be read.
    pub lamport: u64,
    /// Charter heads it was written under, ascending.
    pub heads: Arc<[ChangeHash]>,
    /// Whether the hash of its payload is the community's id.
    pub founding: bool,
    /// The event, or why it counts for nothing here. It is kept either way.
    pub event: Result<Event, Meaningless>,
}

/// Why an authentic change has no meaning here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Meaningless {
    /// Its envelope is not readable.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// It is sealed with a key that this device does not have (yet).
    #[error("sealed with key {0}, which this device does not have")]
    NoKey(KeyId),
    /// It names no key, or the seal does not open with the key it names.
    #[error("the seal is damaged")]
    Seal,
    /// Its event is of no known kind.
    #[error("event: {0}")]
    Event(#[from] codec::DecodeError),
    /// Its event belongs in another stream.
    #[error("this kind of event does not belong in this stream")]
    WrongStream,
}

impl VerifiedEvent {
    /// The line it is on.
    pub const fn line(&self) -> LineId {
        LineId { feed: self.feed, number: self.line }
    }

    /// Order in which words are shown: Lamport time, then hash. It extends
    /// causality, because an author's Lamport time exceeds all it knew.
    pub const fn order(&self) -> (u64, ChangeHash) {
        (self.lamport, self.hash)
    }
}

/// Writes the next change of one's own feed: a run of one, signed.
///
/// The caller stores it durably before showing it to anyone, so that a power
/// cut never makes the author sign one sequence number twice.
pub fn author(signer: &dyn Signer, feed: FeedId, position: &FeedPosition, change: Change) -> Run {
    let hash = chunk::change_hash(&feed.device, position, &change);
    let end = FeedPosition { seq: position.seq + 1, hash };
    let signature = signer.sign(&feed.signed_message(&end));
    Run { feed, first_seq: end.seq, changes: vec![change], signature }
}

/// Where an author's next change goes: on in this segment, or into a new one.
///
/// `first_time_ms` is the wall time of the segment's first change. A segment
/// rolls after [`SEGMENT_CHANGES`] changes or [`SEGMENT_AGE_MS`].
pub fn rolls(position: &FeedPosition, first_time_ms: i64, now_ms: i64) -> bool {
    position.seq >= SEGMENT_CHANGES
        || (position.seq > 0 && now_ms.saturating_sub(first_time_ms) >= SEGMENT_AGE_MS)
}

/// The end of the segment before, as the first of these changes names it; `None`
/// for a segment that follows none, and for changes that do not open one.
pub fn segment_end(opening: &[Change]) -> Option<SegmentEnd> {
    Envelope::decode(&opening.first()?.payload).ok()?.previous
}
