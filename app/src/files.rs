//! Communities, and all of a person's, as files: exported, imported, backed up,
//! restored.
//!
//! What is wished for and how files are sealed is said here, once, for the
//! command line, the terminal and JSON. Where no node runs, [`closed`] opens the
//! data folder itself; in a running node, [`crate::node`] does the same with what
//! it has open. [`crate::archive`] knows the files themselves.

mod blobs;
pub(crate) mod closed;
pub(crate) mod restoring;

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use exo_model::id::CommunityId;
use exo_model::phrase::{PhraseError, RecoveryPhrase};
use exo_sync::blobs::BlobsError;
use exo_sync::replica::{Replica, ReplicaError};
use serde::{Deserialize, Serialize};

use crate::archive::ArchiveError;
use crate::archive::read::Archive;
use crate::archive::sealing::{PASSPHRASE_BYTES_MAX, Passphrase, is_sealed};
use crate::folder::FolderError;
use crate::node::{MembershipError, NodeError};
use crate::report::ImportReport;

pub(crate) use blobs::whole_blobs;

/// Longest file with a phrase in it: 24 words and what an editor adds.
const PHRASE_FILE_BYTES_MAX: u64 = 4 * 1_024;

/// Something that is not shown, wherever the rest is.
#[derive(Clone, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) const fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// How a file is sealed, or opened. At most one of the three.
#[derive(Clone, Debug, Default, Deserialize, Serialize, clap::Args)]
#[group(id = "sealing", multiple = false)]
pub(crate) struct Sealing {
    /// The passphrase itself; on a command line others would see it.
    #[arg(skip)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) passphrase: Option<Secret>,
    /// File whose first line is the passphrase.
    #[arg(long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Write a file without a passphrase: whoever has it sees who is in the community.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) no_passphrase: bool,
}

impl Sealing {
    /// Whether somebody has to be asked.
    pub(crate) const fn is_open(&self) -> bool {
        self.passphrase.is_none() && self.passphrase_file.is_none() && !self.no_passphrase
    }

    /// What a new file is sealed with. Reads a file: not for async code.
    pub(crate) fn for_writing(&self) -> Result<Option<Passphrase>, FileError> {
        if self.is_open() { Err(FileError::NoSeal) } else { self.passphrase() }
    }

    fn passphrase(&self) -> Result<Option<Passphrase>, FileError> {
        let text = match (&self.passphrase, &self.passphrase_file) {
            (Some(Secret(text)), _) => text.clone(),
            (None, Some(path)) => first_line(path, PASSPHRASE_BYTES_MAX as u64 + 2)?,
            (None, None) => return Ok(None),
        };
        Ok(Some(Passphrase::new(text)?))
    }
}

/// A community that is to be written into a file.
#[derive(Clone, Debug, Default, Deserialize, Serialize, clap::Args)]
pub(crate) struct ExportWish {
    /// The file to write.
    pub(crate) file: PathBuf,
    /// The community's name or id; without it, the one that was used last.
    #[arg(long, value_name = "NAME|ID")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) community: Option<String>,
    /// Put the models that are whole on this device in as well.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) blobs: bool,
    /// Replace a file of this name.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) replace: bool,
    /// What it is sealed with.
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) sealing: Sealing,
}

/// Everything of a person, to be written into a file.
#[derive(Clone, Debug, Default, Deserialize, Serialize, clap::Args)]
pub(crate) struct BackupWish {
    /// The file to write.
    pub(crate) file: PathBuf,
    /// Put the models that are whole on this device in as well.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) blobs: bool,
    /// Replace a file of this name.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) replace: bool,
    /// What it is sealed with.
    #[command(flatten)]
    #[serde(flatten)]
    pub(crate) sealing: Sealing,
}

/// What is to be taken from a file.
#[derive(Clone, Debug, Default, Deserialize, Serialize, clap::Args)]
pub(crate) struct ImportWish {
    /// The file to read.
    pub(crate) file: PathBuf,
    /// File with the 24 words, if this device has no key to the community and the
    /// phrase is not on it.
    #[arg(long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) phrase_file: Option<PathBuf>,
    /// File whose first line is the passphrase that the file was sealed with.
    #[arg(long, value_name = "FILE")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// The passphrase itself; on a command line others would see it.
    #[arg(skip)]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) passphrase: Option<Secret>,
}

impl ImportWish {
    /// Whether somebody has to be asked for a passphrase.
    pub(crate) fn lacks_passphrase(&self) -> Result<bool, FileError> {
        let is_named = self.passphrase.is_some() || self.passphrase_file.is_some();
        Ok(!is_named && is_sealed(&self.file)?)
    }

    pub(crate) fn sealing(&self) -> Sealing {
        let (passphrase, passphrase_file) = (self.passphrase.clone(), self.passphrase_file.clone());
        Sealing { passphrase, passphrase_file, no_passphrase: false }
    }
}

/// A file that could not be written or taken in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Membership(#[from] MembershipError),
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    #[error(transparent)]
    Blobs(#[from] BlobsError),
    #[error("{path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{0} is too long to hold only a passphrase or a phrase")]
    TooLong(PathBuf),
    #[error("say how the file is to be sealed: a passphrase, --passphrase-file FILE, or --no-passphrase")]
    NoSeal,
    #[error("{path}: {source}")]
    Phrase { path: PathBuf, source: PhraseError },
    #[error("there is no community in this folder yet")]
    NoCommunity,
    #[error("there is no community called \"{0}\" here; \"exo-studio community list\" shows their names")]
    NoSuchCommunity(String),
    #[error("several communities are called \"{0}\"; name it by its id")]
    Ambiguous(String),
    #[error(
        "nothing in this file can be read here: it is of a community that neither this device nor your \
         recovery phrase has a key to (--phrase-file FILE, if the phrase is not on this device)"
    )]
    NotForThisPerson,
    #[error("a background thread failed: {0}")]
    Thread(String),
}

/// Opens an archive with what was said of its seal. Reads all of it: not for
/// async code.
pub(crate) fn open(file: &Path, sealing: &Sealing) -> Result<Archive, FileError> {
    // A passphrase for a file without one is not asked for, nor in the way.
    let passphrase = if is_sealed(file)? { sealing.passphrase()? } else { None };
    Ok(Archive::open(file, passphrase.as_ref())?)
}

/// Takes community number `index` of an archive into its replica. Waits: not for
/// async code.
pub(crate) fn take_in(
    archive: &mut Archive,
    index: usize,
    replica: &Replica,
    phrase: Option<&RecoveryPhrase>,
) -> Result<ImportReport, FileError> {
    let imported = archive.import(index, replica, phrase.map(RecoveryPhrase::recovery_key))?;
    let state = replica.state();
    let is_member = state.charter.is_member(&replica.device());
    Ok(ImportReport::of(state.id, state.charter.name(), is_member, imported).made(archive.header()))
}

/// Whether a community can be read here: without its charter it has no name.
pub(crate) const fn is_readable(report: &ImportReport) -> bool {
    !report.community.is_empty()
}

/// The recovery phrase in a file.
pub(crate) fn read_phrase(path: &Path) -> Result<RecoveryPhrase, FileError> {
    let text = bounded_text(path, PHRASE_FILE_BYTES_MAX)?;
    text.trim().parse().map_err(|source| FileError::Phrase { path: path.to_owned(), source })
}

/// The phrase to open seals with: of the file that was named, or the one that
/// is still on this device.
pub(crate) fn recovery(
    phrase_file: Option<&Path>,
    on_device: Option<String>,
) -> Result<Option<RecoveryPhrase>, FileError> {
    Ok(match (phrase_file, on_device) {
        (Some(path), _) => Some(read_phrase(path)?),
        (None, Some(words)) => words.parse().ok(),
        (None, None) => None,
    })
}

/// One of several communities, by name or id.
pub(crate) fn choose(
    wanted: &str,
    named: impl IntoIterator<Item = (CommunityId, String)>,
) -> Result<CommunityId, FileError> {
    let is_meant = |(id, name): &(CommunityId, String)| id.to_hex() == wanted || name == wanted;
    let mut meant = named.into_iter().filter(is_meant);
    match (meant.next(), meant.next()) {
        (Some((id, _)), None) => Ok(id),
        (Some(_), Some(_)) => Err(FileError::Ambiguous(wanted.to_owned())),
        (None, _) => Err(FileError::NoSuchCommunity(wanted.to_owned())),
    }
}

/// Runs something that waits beside the runtime.
pub(crate) async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
) -> Result<T, FileError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| FileError::Thread(error.to_string()))?
}

/// The first line of a short file, without its end.
fn first_line(path: &Path, bytes_max: u64) -> Result<String, FileError> {
    let text = bounded_text(path, bytes_max)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn bounded_text(path: &Path, bytes_max: u64) -> Result<String, FileError> {
    let failed = |source| FileError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    file.take(bytes_max + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > bytes_max { Err(FileError::TooLong(path.to_owned())) } else { Ok(text) }
}

/// A replica that is open for a while, without a node around it.
struct Opened {
    replica: Replica,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Opened {
    fn open(store: PathBuf, key: [u8; 32], community: CommunityId) -> Result<Self, FileError> {
        // Views read what is new when a node starts here.
        let config = crate::node::replica_config(store, key, community, Vec::new());
        let (replica, thread) = Replica::open(config, |_| ())?;
        Ok(Self { replica, thread: Some(thread) })
    }

    fn state(&self) -> Arc<exo_model::community::CommunityState> {
        self.replica.state()
    }

    /// Ends the thread, and with it the use of the store.
    fn close(self) {
        let Self { replica, thread } = self;
        // It ends with the last handle to it.
        drop(replica);
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown_and_files_with_them_are_bounded() {
        let wish = ExportWish {
            sealing: Sealing { passphrase: Some(Secret::new("marigold".into())), ..Sealing::default() },
            ..ExportWish::default()
        };
        assert!(!format!("{wish:?}").contains("marigold"));
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        let sealing = Sealing { passphrase_file: Some(path.clone()), ..Sealing::default() };
        assert!(matches!(sealing.for_writing(), Err(FileError::Read { .. })));
        std::fs::write(&path, "marigold\r\nsecond line\n").expect("written");
        assert_eq!(first_line(&path, 100).expect("readable"), "marigold");
        assert!(sealing.for_writing().expect("a passphrase").is_some());
        std::fs::write(&path, "\n").expect("written");
        assert!(matches!(sealing.for_writing(), Err(FileError::Archive(ArchiveError::Passphrase))));
        std::fs::write(&path, "x".repeat(5_000)).expect("written");
        assert!(matches!(sealing.for_writing(), Err(FileError::TooLong(_))));
        assert!(matches!(read_phrase(&path), Err(FileError::TooLong(_))));
        std::fs::write(&path, "just some words").expect("written");
        assert!(matches!(read_phrase(&path), Err(FileError::Phrase { .. })));
        assert!(matches!(Sealing::default().for_writing(), Err(FileError::NoSeal)));
        let none = Sealing { no_passphrase: true, ..Sealing::default() };
        assert!(none.for_writing().expect("none").is_none());
    }

    #[test]
    fn a_community_is_chosen_by_its_name_or_id() {
        let id = |byte: u8| CommunityId::from_bytes([byte; 32]);
        let named =
            || [(id(1), "Garden".to_owned()), (id(2), "Choir".to_owned()), (id(3), "Choir".to_owned())];
        assert_eq!(choose("Garden", named()).expect("one"), id(1));
        assert_eq!(choose(&id(3).to_hex(), named()).expect("one"), id(3));
        assert!(matches!(choose("Choir", named()), Err(FileError::Ambiguous(_))));
        assert!(matches!(choose("Band", named()), Err(FileError::NoSuchCommunity(_))));
    }
}
