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
pub mod gate;

use std::fmt;

use minicbor::{Decode, Encode};

use crate::codec;
use crate::envelope::{Envelope, EnvelopeError};
use crate::event::Event;
use crate::id::{ChangeHash, ChannelId, CommunityId, DeviceId};
use crate::port::Signer;
use crate::signature::Signature;

pub use gate::{AcceptedRun, Rejection};

/// Most changes one feed may hold.
pub const FEED_CHANGES_MAX: u64 = 1 << 24;
/// Latest wall time a change may carry (end of the year 9999), ms since the
/// Unix epoch. For display, and to order messages written apart; bounded so
/// that it formats.
pub const TIME_MS_MAX: i64 = 253_402_300_799_999;

/// One of a community's kinds of log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub enum Stream {
    /// Governance: founding, invites, members, channels.
    #[n(0)]
    Charter,
    /// Locks, vouchers, settlements.
    #[n(1)]
    Ledger,
    /// What the author's machines offer and host.
    #[n(2)]
    Cluster,
    /// Shared models (and, later, documents).
    #[n(3)]
    Library,
    /// Messages of one channel.
    #[n(4)]
    Channel(#[n(0)] ChannelId),
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Charter => f.write_str("charter"),
            Self::Ledger => f.write_str("ledger"),
            Self::Cluster => f.write_str("cluster"),
            Self::Library => f.write_str("library"),
            Self::Channel(channel) => write!(f, "channel/{channel}"),
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
    /// Number of the segment; 0 until segments roll.
    #[n(3)]
    pub segment: u32,
}

impl FeedId {
    /// The first segment of a device's stream.
    pub const fn new(community: CommunityId, device: DeviceId, stream: Stream) -> Self {
        Self { community, device, stream, segment: 0 }
    }

    /// What the author of the change `hash` signs:
    /// `("exo/chg/1", community, stream, segment, hash)`.
    pub fn signed_message(&self, hash: &ChangeHash) -> Vec<u8> {
        codec::encode(&("exo/chg/1", self.community, self.stream, self.segment, *hash))
    }
}

impl fmt::Display for FeedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.device, self.stream, self.segment)
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

/// An event whose change passed the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedEvent {
    /// The feed it is in; `feed.device` wrote it.
    pub feed: FeedId,
    /// Its place in the feed, from 1.
    pub seq: u64,
    /// The hash of its change.
    pub hash: ChangeHash,
    /// Wall time of writing, ms since the Unix epoch: for display, and to order
    /// messages written apart. The state never depends on it.
    pub time_ms: i64,
    /// BLAKE3 of the payload: what a community's id commits to.
    pub payload_hash: [u8; 32],
    /// Lamport time; 0 where the envelope cannot be read.
    pub lamport: u64,
    /// The event, or why it counts for nothing here. It is kept either way.
    pub event: Result<Event, Meaningless>,
}

/// Why an authentic change has no meaning here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Meaningless {
    /// Its envelope is not readable.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Its event is of no known kind.
    #[error("event: {0}")]
    Event(#[from] codec::DecodeError),
    /// Its event belongs in another stream.
    #[error("this kind of event does not belong in this stream")]
    WrongStream,
}

impl VerifiedEvent {
    /// Order in which events take effect: Lamport time, then hash. It extends
    /// causality, because an author's Lamport time exceeds all it knew.
    pub fn order(&self) -> (u64, ChangeHash) {
        (self.lamport, self.hash)
    }

    /// Interprets an authentic change.
    pub(crate) fn interpret(feed: FeedId, seq: u64, hash: ChangeHash, change: &Change) -> Self {
        let envelope = Envelope::decode(&change.payload);
        let lamport = envelope.as_ref().map_or(0, |envelope| envelope.lamport);
        let event = envelope.map_err(Meaningless::from).and_then(|envelope| {
            let event = Event::decode(&envelope.event)?;
            if event.belongs_in(&feed.stream) { Ok(event) } else { Err(Meaningless::WrongStream) }
        });
        Self {
            feed,
            seq,
            hash,
            time_ms: change.time_ms,
            payload_hash: *blake3::hash(&change.payload).as_bytes(),
            lamport,
            event,
        }
    }
}

/// Writes the next change of one's own feed: a run of one, signed.
///
/// The caller stores it durably before showing it to anyone, so that a power
/// cut never makes the author sign one sequence number twice.
pub fn author(signer: &dyn Signer, feed: FeedId, position: &FeedPosition, change: Change) -> Run {
    let hash = chunk::change_hash(&feed.device, position, &change);
    let signature = signer.sign(&feed.signed_message(&hash));
    Run { feed, first_seq: position.seq + 1, changes: vec![change], signature }
}
