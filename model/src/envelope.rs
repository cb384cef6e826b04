//! The envelope around every event: its format version and its place in time.
//!
//! Version 0 is not sealed: its event is readable by whoever holds the feed.
//! (Links are encrypted; sealing to audiences is the work of version 1.)

use minicbor::{Decode, Encode};

use crate::codec::{self, DecodeError};
use crate::event::Event;

/// The version this build writes and reads.
pub const ENVELOPE_VERSION: u8 = 0;
/// Largest Lamport time that counts; leaves room to add without overflow.
pub const LAMPORT_MAX: u64 = 1 << 53;
/// Largest envelope, in bytes: one change carries one.
pub const ENVELOPE_BYTES_MAX: usize = 32 * 1024;

/// What one change of a feed carries.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Envelope {
    /// Format version; see [`ENVELOPE_VERSION`].
    #[n(0)]
    pub version: u8,
    /// Lamport time: greater than that of every event its author knew.
    #[n(1)]
    pub lamport: u64,
    /// The encoded event; kept as bytes, so that a kind this build does not
    /// know is passed on unharmed.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub event: Vec<u8>,
}

/// Why an envelope counts for nothing here. Its change stays in the feed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not an envelope.
    #[error("envelope: {0}")]
    Decode(#[from] DecodeError),
    /// A version this build does not read.
    #[error("envelope version {0} is not supported; this program reads version {ENVELOPE_VERSION}")]
    Version(u8),
    /// A Lamport time over [`LAMPORT_MAX`].
    #[error("Lamport time {0} is over the limit")]
    Lamport(u64),
}

impl Envelope {
    /// An envelope of the current version around `event`.
    pub fn new(lamport: u64, event: &Event) -> Self {
        Self { version: ENVELOPE_VERSION, lamport, event: codec::encode(event) }
    }

    /// The bytes a change carries.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads an envelope of any origin.
    ///
    /// # Errors
    /// See [`EnvelopeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let envelope: Self = codec::decode(bytes, ENVELOPE_BYTES_MAX)?;
        if envelope.version != ENVELOPE_VERSION {
            return Err(EnvelopeError::Version(envelope.version));
        }
        if envelope.lamport > LAMPORT_MAX {
            return Err(EnvelopeError::Lamport(envelope.lamport));
        }
        Ok(envelope)
    }
}
