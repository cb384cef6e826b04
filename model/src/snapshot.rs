//! What all snapshots of parts of the state share: their version, how they are
//! refused, and the lengths of lists in them.

use minicbor::Decoder;

use crate::codec::DecodeError;

/// The version this build writes and reads. Another one is made from the feeds.
pub const SNAPSHOT_VERSION: u8 = 1;

/// Why bytes are no snapshot. What it holds can always be made from its
/// feeds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Not the structure, or not the one form of it.
    #[error("snapshot: {0}")]
    Decode(#[from] DecodeError),
    /// Another version of the format.
    #[error("snapshot version {0} is not supported; this program reads version {SNAPSHOT_VERSION}")]
    Version(u8),
    /// Readable, but no set of facts makes this.
    #[error("the snapshot contradicts itself: {0}")]
    Content(&'static str),
}

impl From<minicbor::decode::Error> for SnapshotError {
    fn from(error: minicbor::decode::Error) -> Self {
        Self::Decode(DecodeError::Malformed(error.to_string()))
    }
}

/// The length of the list that comes next.
pub(crate) fn array_len(d: &mut Decoder<'_>) -> Result<u64, SnapshotError> {
    d.array()?.ok_or(SnapshotError::Decode(DecodeError::NotCanonical))
}

/// Demands a list of this length next.
pub(crate) fn expect_array(d: &mut Decoder<'_>, len: u64) -> Result<(), SnapshotError> {
    if array_len(d)? == len { Ok(()) } else { Err(DecodeError::NotCanonical.into()) }
}

/// Reads the version, which comes next.
pub(crate) fn expect_version(d: &mut Decoder<'_>) -> Result<(), SnapshotError> {
    match d.u8()? {
        SNAPSHOT_VERSION => Ok(()),
        version => Err(SnapshotError::Version(version)),
    }
}
