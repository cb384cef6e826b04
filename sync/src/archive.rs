//! A community out of its store into a file, and back in.
//!
//! What is written is [`exo_model::export`]'s canonical form, the same bytes on
//! every replica with the same changes, and beside it [`Waypoints`]: signatures
//! within lines, which differ from replica to replica and without which a long
//! line could not be handed on in parts. Writing looks at the store through a
//! reader of its own, so the replica goes on meanwhile; reading goes through
//! the file once before anything is stored, then through the replica's gate
//! part by part. Both hold one line of one segment at a time.
//!
//! Never here: where files lie, passphrases, who made a file; and nothing runs
//! on an async runtime: call these on a blocking thread.

mod read;
mod waypoints;
mod write;

use exo_model::export::ExportError;
use exo_model::id::CommunityId;

use crate::replica::ReplicaError;
use crate::store::StoreError;

pub use read::{Imported, Refused, Scan, import, scan};
pub use waypoints::{WAYPOINTS_BYTES_MAX, Waypoints};
pub use write::{Exported, export};

/// Most lines of segments in one export: 16 bytes are held for each.
pub const FRAMES_MAX: usize = 1 << 20;
/// Longest export, bytes: 256 GiB.
pub const EXPORT_BYTES_MAX: u64 = 1 << 38;

/// A community that cannot be exported or imported.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Reading or writing the file failed.
    #[error("reading or writing: {0}")]
    Io(#[from] std::io::Error),
    /// The file is no export, or not a whole one.
    #[error(transparent)]
    Format(#[from] ExportError),
    /// The signatures beside the export are not readable.
    #[error("the signatures in this export are not readable: export it again")]
    Waypoints,
    /// More than one export may hold.
    #[error("this is more than one export may hold")]
    TooLarge,
    /// Nothing of the community is stored.
    #[error("nothing of community {0} is stored here")]
    Nothing(CommunityId),
    /// The file is of another community than the replica.
    #[error("the export is of community {found}, this is {expected}")]
    OtherCommunity {
        /// The replica's.
        expected: CommunityId,
        /// The file's.
        found: CommunityId,
    },
    /// The event store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The replica failed.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
}
