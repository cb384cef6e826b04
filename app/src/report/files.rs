//! What became of files.

use std::path::Path;

use exo_model::id::CommunityId;
use exo_sync::archive::Imported;
use serde::{Deserialize, Serialize};

use crate::archive::Header;
use crate::archive::write::Written;

/// A community that was written into a file.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct ExportReport {
    pub(crate) file: String,
    pub(crate) community: String,
    pub(crate) id: String,
    pub(crate) changes: u64,
    pub(crate) blobs: usize,
    pub(crate) bytes: u64,
    /// Whether a passphrase is needed to open it.
    pub(crate) sealed: bool,
}

impl ExportReport {
    pub(crate) fn of(file: &Path, id: CommunityId, name: String, written: Written, sealed: bool) -> Self {
        Self {
            file: file.display().to_string(),
            community: name,
            id: id.to_hex(),
            changes: written.changes,
            blobs: written.blobs,
            bytes: written.bytes,
            sealed,
        }
    }
}

/// Everything of a person in a file.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct BackupReport {
    pub(crate) file: String,
    pub(crate) communities: usize,
    pub(crate) changes: u64,
    pub(crate) blobs: usize,
    pub(crate) bytes: u64,
    pub(crate) sealed: bool,
}

impl BackupReport {
    pub(crate) fn of(file: &Path, written: Written, sealed: bool) -> Self {
        let Written { communities, changes, blobs, bytes } = written;
        Self { file: file.display().to_string(), communities, changes, blobs, bytes, sealed }
    }
}

/// What became of the changes of one community in a file.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct ImportReport {
    pub(crate) community: String,
    pub(crate) id: String,
    /// Whether this device is a member and may write.
    pub(crate) member: bool,
    /// Stored now.
    pub(crate) new: u64,
    /// Of these, written by this very device: its store had lost them.
    pub(crate) own: u64,
    /// Stored before.
    pub(crate) known: u64,
    /// Without a place here.
    pub(crate) deferred: u64,
    pub(crate) refused: u64,
    /// Why, for the first of them.
    pub(crate) refusals: Vec<String>,
    /// Keys found for this device or the recovery phrase.
    pub(crate) keys: u64,
    /// Blobs in the file, told with its first community.
    pub(crate) blobs: usize,
    /// The device that made the file.
    pub(crate) made_by: String,
    /// When that was, by its clock.
    pub(crate) made_ms: i64,
}

impl ImportReport {
    pub(crate) fn of(id: CommunityId, name: &str, member: bool, imported: Imported) -> Self {
        let Imported { new, own, known, deferred, refused, refusals, keys } = imported;
        let told = |refused: exo_sync::archive::Refused| format!("{}: {}", refused.feed, refused.reason);
        Self {
            community: name.to_owned(),
            id: id.to_hex(),
            member,
            new,
            own,
            known,
            deferred,
            refused,
            refusals: refusals.into_iter().map(told).collect(),
            keys,
            blobs: 0,
            made_by: String::new(),
            made_ms: 0,
        }
    }

    /// Says which device made the file, and when.
    pub(crate) fn made(self, header: &Header) -> Self {
        Self { made_by: header.device.to_hex(), made_ms: header.made_ms, ..self }
    }
}

/// A data folder made from a backup.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct RestoreReport {
    pub(crate) folder: String,
    /// Whose it is.
    pub(crate) name: String,
    /// The new device, for a member to add.
    pub(crate) device: String,
    pub(crate) communities: Vec<ImportReport>,
    pub(crate) blobs: usize,
}
