//! The envelope around every event: its version, its place in time and in the
//! charter, and the seal.
//!
//! Everything but the `keys` stream is sealed with an epoch key of the
//! stream's audience, so a peer can carry what it cannot read. What does not
//! change from one change of a feed to the next (charter heads, epoch key) is
//! stated once; the first change of a segment states it always.

use minicbor::{Decode, Encode};

use crate::codec::{self, DecodeError};
use crate::feed::{FeedId, FeedPosition};
use crate::id::{ChangeHash, KeyId};
use crate::signature::Signature;

/// The version this build writes and reads. Version 0 was not sealed and is
/// refused.
pub const ENVELOPE_VERSION: u8 = 1;
/// Largest Lamport time that counts; leaves room to add without overflow.
pub const LAMPORT_MAX: u64 = 1 << 53;
/// Largest envelope, in bytes: one change carries one.
pub const ENVELOPE_BYTES_MAX: usize = 32 * 1024;
/// Most charter heads one event cites.
pub const HEADS_MAX: usize = 64;

/// The end of the segment before: what makes a device's segments one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SegmentEnd {
    /// Its last change.
    #[n(0)]
    pub end: FeedPosition,
    /// The author's signature over it.
    #[n(1)]
    pub signature: Signature,
}

/// What one change of a feed carries.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Envelope {
    /// Format version; see [`ENVELOPE_VERSION`].
    #[n(0)]
    pub version: u8,
    /// Lamport time: greater than that of every event its author knew.
    #[n(1)]
    pub lamport: u64,
    /// The sealed event; in the `keys` stream the event itself.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub body: Vec<u8>,
    /// Charter heads it was written under, ascending; none: those of the
    /// feed's previous change.
    #[n(3)]
    pub heads: Option<Vec<ChangeHash>>,
    /// The key the body is sealed with; none: that of the feed's previous
    /// change.
    #[n(4)]
    pub key: Option<KeyId>,
    /// In the first change of a later segment, and only there.
    #[n(5)]
    pub previous: Option<SegmentEnd>,
}

/// Why an envelope counts for nothing here. Its change stays in the feed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not an envelope.
    #[error("envelope: {0}")]
    Decode(#[from] DecodeError),
    /// A version this build does not read.
    #[error("envelope version {0} is not supported; this program reads version {ENVELOPE_VERSION}")]
    Version(u64),
    /// A Lamport time over [`LAMPORT_MAX`].
    #[error("Lamport time {0} is over the limit")]
    Lamport(u64),
    /// Charter heads out of order, twice, or too many.
    #[error("the list of charter heads is malformed")]
    Heads,
}

/// The part of every version's envelope that says which one it is.
fn version_of(bytes: &[u8]) -> Option<u64> {
    let mut decoder = minicbor::Decoder::new(bytes);
    decoder.array().ok()?;
    decoder.u64().ok()
}

impl Envelope {
    /// The bytes a change carries.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads an envelope of any origin.
    ///
    /// # Errors
    /// See [`EnvelopeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        if bytes.len() <= ENVELOPE_BYTES_MAX
            && let Some(version) = version_of(bytes)
            && version != u64::from(ENVELOPE_VERSION)
        {
            return Err(EnvelopeError::Version(version));
        }
        let envelope: Self = codec::decode(bytes, ENVELOPE_BYTES_MAX)?;
        if envelope.lamport > LAMPORT_MAX {
            return Err(EnvelopeError::Lamport(envelope.lamport));
        }
        let well_formed = envelope
            .heads
            .as_ref()
            .is_none_or(|heads| heads.len() <= HEADS_MAX && heads.windows(2).all(|two| two[0] < two[1]));
        if well_formed { Ok(envelope) } else { Err(EnvelopeError::Heads) }
    }
}

/// What the seal of an event also covers: its exact place, so that no sealed
/// body can be moved to another feed, place, time or set of heads.
pub fn sealed_context(
    feed: &FeedId,
    seq: u64,
    lamport: u64,
    heads: Option<&[ChangeHash]>,
    key: Option<KeyId>,
) -> Vec<u8> {
    codec::encode(&(
        "exo/env/1",
        feed.community,
        feed.device,
        feed.stream,
        feed.segment,
        seq,
        lamport,
        heads,
        key,
    ))
}
