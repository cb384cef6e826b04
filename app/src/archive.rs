//! Archives: a community, or all of a person's, as one file to keep or to carry.
//!
//! ```text
//! "exo-file", version                        8 + 1 bytes
//! length, header in CBOR                     kind, exporting device, time
//! entries, each after a tag:
//!   3  keepsakes   length, CBOR              backups only: names and settings
//!   1  community   export, length, CBOR      model::export, then its waypoints
//!   2  blob        BLAKE3, length, bytes     on request
//!   0  end         BLAKE3 of all before, signature of the exporting device
//! ```
//!
//! All of it may lie within an age file sealed with a passphrase. The signature
//! says who made the file, and that it is as they made it; who wrote what is
//! in it says the gate, when it is imported. The bytes of an export are the
//! same on every replica with the same changes, whoever signs around them.
//!
//! [`write`] and [`read`] know the form, [`sealing`] the passphrase, and
//! [`backup`] what a backup holds and how one is restored. Nothing here knows
//! the layout of the data folder. All of it blocks: not for async code.

pub(crate) mod backup;
pub(crate) mod read;
pub(crate) mod sealing;
#[cfg(test)]
mod tests;
pub(crate) mod write;

use std::path::PathBuf;

use exo_model::id::{BlobHash, DeviceId};
use exo_sync::replica::ReplicaError;
use minicbor::{Decode, Encode};

/// What every archive starts with, below a seal.
const MAGIC: &[u8; 8] = b"exo-file";
/// The version this build writes and reads.
const VERSION: u8 = 1;
/// Longest header.
const HEADER_BYTES_MAX: usize = 1_024;
/// Longest keepsakes.
const KEEPSAKES_BYTES_MAX: usize = 1 << 20;
/// Most communities in one file.
const COMMUNITIES_MAX: usize = 1_024;
/// Most blobs in one file.
const BLOBS_MAX: usize = 65_536;
/// Longest blob: 4 TiB.
const BLOB_BYTES_MAX: u64 = 1 << 42;

const TAG_END: u8 = 0;
const TAG_COMMUNITY: u8 = 1;
const TAG_BLOB: u8 = 2;
const TAG_KEEPSAKES: u8 = 3;

/// What an archive is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub(crate) enum Kind {
    /// One community.
    #[n(0)]
    Community,
    /// Everything of one person, to start anew with.
    #[n(1)]
    Backup,
}

/// What an archive says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Header {
    /// What it is for.
    #[n(0)]
    pub(crate) kind: Kind,
    /// Whose signature stands at its end.
    #[n(1)]
    pub(crate) device: DeviceId,
    /// When that was, by the device's clock.
    #[n(2)]
    pub(crate) made_ms: i64,
}

impl Header {
    /// What the device signs about the digest of the file.
    fn signed_message(&self, digest: &BlobHash) -> Vec<u8> {
        exo_model::codec::encode(&("exo/archive/1", self.device, *digest))
    }
}

/// An archive that cannot be written, read or restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ArchiveError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{0} exists already: choose another name, or say that it is to be replaced")]
    Exists(PathBuf),
    #[error("a passphrase must not be empty, nor longer than {max} bytes", max = sealing::PASSPHRASE_BYTES_MAX)]
    Passphrase,
    #[error("this file is sealed with a passphrase: name it to open the file")]
    Sealed,
    #[error("the passphrase is not the one that this file was sealed with")]
    WrongPassphrase,
    #[error("this file is not sealed with a passphrase, but for keys that are not here")]
    SealedForKeys,
    #[error(
        "opening this file takes more work than a file of ours ever does (2^{0}, at most 2^{max}): do not \
         trust where it came from",
        max = sealing::WORK_FACTOR_MAX
    )]
    Work(u8),
    #[error("this is no file that Exo-Studio exported")]
    NotAnArchive,
    #[error("this file has version {0}; this program reads version {VERSION}: update it")]
    Version(u8),
    #[error("the file is damaged or incomplete: copy it again from where it came")]
    Damaged,
    #[error("the file is not signed by the device it names: it was changed on its way")]
    Signature,
    #[error("the file holds more than one file may hold")]
    TooLarge,
    #[error("the file is of one community, not a backup: import it instead")]
    NotABackup,
    #[error("there is no community number {0} in this file")]
    NoSuchCommunity(usize),
    #[error("the bytes of {0} are not what its name says: fetch them again, or leave them out")]
    Blob(BlobHash),
    #[error("{0} is not empty: a backup is restored into a folder of its own")]
    NotEmpty(PathBuf),
    #[error("this recovery phrase is another person's: the backup is of {0}")]
    OtherPerson(exo_model::PersonId),
    #[error("the new device cannot be certified: {0}")]
    Certificate(#[from] exo_model::certificate::CertificateError),
    #[error(transparent)]
    Sync(exo_sync::archive::ArchiveError),
    #[error(transparent)]
    Replica(#[from] ReplicaError),
}

impl From<exo_sync::archive::ArchiveError> for ArchiveError {
    fn from(error: exo_sync::archive::ArchiveError) -> Self {
        use exo_model::export::ExportError;
        match error {
            error @ exo_sync::archive::ArchiveError::Format(ExportError::Version(_)) => Self::Sync(error),
            exo_sync::archive::ArchiveError::Format(_) => Self::Damaged,
            exo_sync::archive::ArchiveError::TooLarge => Self::TooLarge,
            error => Self::Sync(error),
        }
    }
}

/// A file that ends early, or that its seal says is not what was written, is
/// damaged; everything else is a failure of this machine.
fn unreadable(path: &std::path::Path, source: std::io::Error) -> ArchiveError {
    match source.kind() {
        std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::InvalidData => ArchiveError::Damaged,
        _ => ArchiveError::Io { path: path.to_owned(), source },
    }
}
