//! The data folder: where one person's node keeps everything.
//!
//! ```text
//! <data>/device.key     this device's secret key, readable by its owner only
//! <data>/device.cert    whose device it is, signed by their recovery phrase
//! <data>/recovery-phrase.txt   the phrase, until its owner has written it down
//! <data>/profile.json   name, community, port, a join under way
//! <data>/store.db       the signed changes: the truth
//! <data>/store.snapshot how far words were read; deleted, it comes back
//! <data>/views.db       SQLite views; deleted, they come back
//! <data>/blobs/         model bytes by hash
//! <data>/models/        model files this program wrote
//! <data>/lock           held while a node runs here
//! ```

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use exo_model::certificate::{CertificateError, DeviceCertificate, DeviceClaims, Enroller};
use exo_model::codec;
use exo_model::id::CommunityId;
use exo_model::phrase::RecoveryPhrase;
use exo_model::port::{Entropy, Signer as _};
use exo_model::sealing::SealingKey;
use exo_model::signature::SecretKey;
use exo_model::text::clean_name;
use serde::{Deserialize, Serialize};

/// Longest certificate file.
const CERTIFICATE_BYTES_MAX: usize = 4 * 1024;

/// A data folder that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another node runs here.
    #[error("another Exo-Studio is running on {0}; close it first, or choose another folder with --data")]
    InUse(PathBuf),
    /// The key file is not a key.
    #[error("{0} is not a device key (32 bytes are expected); restore it or start with another folder")]
    Key(PathBuf),
    /// The profile is not readable.
    #[error("{path} is not readable: {source}")]
    Profile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The certificate file is not this device's certificate.
    #[error("{0} is not this device's certificate; restore it or start with another folder")]
    Certificate(PathBuf),
    /// There is no home directory to put the folder in.
    #[error("no home directory found; choose a folder with --data")]
    NoHome,
}

/// What a node remembers about itself.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Profile {
    /// What friends call this person.
    #[serde(default)]
    pub(crate) name: String,
    /// The community, in hexadecimal; none before founding or joining.
    #[serde(default)]
    pub(crate) community: Option<String>,
    /// A join that is not complete: the ticket's text.
    #[serde(default)]
    pub(crate) joining: Option<String>,
    /// The UDP port listened on, kept so that friends find this node again.
    #[serde(default)]
    pub(crate) port: Option<u16>,
}

impl Profile {
    /// The community's id.
    pub(crate) fn community_id(&self) -> Option<CommunityId> {
        self.community.as_deref().and_then(|text| text.parse().ok())
    }
}

/// An opened data folder; holds its lock.
#[derive(Debug)]
pub(crate) struct Folder {
    root: PathBuf,
    _lock: File,
}

impl Folder {
    /// The folder used when none is named.
    pub(crate) fn default_path() -> Result<PathBuf, FolderError> {
        directories::ProjectDirs::from("", "", "exo-studio")
            .map(|dirs| dirs.data_dir().to_owned())
            .ok_or(FolderError::NoHome)
    }

    /// Opens or creates the folder and takes its lock.
    pub(crate) fn open(root: &Path) -> Result<Self, FolderError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| FolderError::Io { path, source }
        };
        std::fs::create_dir_all(root).map_err(io(root))?;
        restrict(root).map_err(io(root))?;
        let path = root.join("lock");
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { root: root.to_owned(), _lock: lock }),
            Err(std::fs::TryLockError::WouldBlock) => Err(FolderError::InUse(root.to_owned())),
            Err(std::fs::TryLockError::Error(source)) => Err(FolderError::Io { path, source }),
        }
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// `store.db`.
    pub(crate) fn store(&self) -> PathBuf {
        self.root.join("store.db")
    }

    /// `views.db`.
    pub(crate) fn views(&self) -> PathBuf {
        self.root.join("views.db")
    }

    /// `blobs/`.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// Where model files that this program writes go.
    pub(crate) fn models(&self) -> PathBuf {
        self.root.join("models")
    }

    /// This device's key; made on the first run.
    pub(crate) fn device_key(&self, entropy: &dyn Entropy) -> Result<SecretKey, FolderError> {
        let path = self.root.join("device.key");
        match std::fs::read(&path) {
            Ok(bytes) => {
                let seed: [u8; 32] = bytes.try_into().map_err(|_| FolderError::Key(path))?;
                Ok(SecretKey::from_bytes(&seed))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = SecretKey::generate(entropy);
                write_private(&path, &key.to_bytes())?;
                Ok(key)
            }
            Err(source) => Err(FolderError::Io { path, source }),
        }
    }

    /// Whose device this is; made on the first run, with a new recovery phrase.
    /// The phrase stays in a private file until [`Folder::forget_phrase`].
    pub(crate) fn certificate(
        &self,
        key: &SecretKey,
        entropy: &dyn Entropy,
    ) -> Result<DeviceCertificate, FolderError> {
        let path = self.root.join("device.cert");
        match std::fs::read(&path) {
            Ok(bytes) => codec::decode::<DeviceCertificate>(&bytes, CERTIFICATE_BYTES_MAX)
                .ok()
                .filter(|certificate| certificate.claims.device == key.device())
                .ok_or(FolderError::Certificate(path)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let phrase = RecoveryPhrase::generate(entropy);
                let certificate =
                    certify(key, &phrase, 1).map_err(|_| FolderError::Certificate(path.clone()))?;
                let words = phrase.words().join(" ");
                write_private(&self.phrase_path(), format!("{words}\n").as_bytes())?;
                write_private(&path, &codec::encode(&certificate))?;
                Ok(certificate)
            }
            Err(source) => Err(FolderError::Io { path, source }),
        }
    }

    /// Where the recovery phrase is, until it is written down elsewhere.
    pub(crate) fn phrase_path(&self) -> PathBuf {
        self.root.join("recovery-phrase.txt")
    }

    /// The recovery phrase; `None` once it was forgotten here.
    pub(crate) fn phrase(&self) -> Result<Option<String>, FolderError> {
        let path = self.phrase_path();
        match std::fs::read_to_string(&path) {
            Ok(words) => Ok(Some(words.trim().to_owned())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(FolderError::Io { path, source }),
        }
    }

    /// Deletes the recovery phrase from this device: its owner has it.
    pub(crate) fn forget_phrase(&self) -> Result<(), FolderError> {
        let path = self.phrase_path();
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(FolderError::Io { path, source })
            }
            _ => Ok(()),
        }
    }

    /// The profile; an empty one on the first run.
    pub(crate) fn profile(&self) -> Result<Profile, FolderError> {
        let path = self.root.join("profile.json");
        match std::fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|source| FolderError::Profile { path, source })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Profile::default()),
            Err(source) => Err(FolderError::Io { path, source }),
        }
    }

    /// Writes the profile. A ticket in it is secret, hence private.
    pub(crate) fn save_profile(&self, profile: &Profile) -> Result<(), FolderError> {
        let path = self.root.join("profile.json");
        let bytes = serde_json::to_vec_pretty(profile)
            .map_err(|source| FolderError::Profile { path: path.clone(), source })?;
        write_private(&path, &bytes)
    }
}

/// The person's word that this is their device, number `serial` of them.
pub(crate) fn certify(
    key: &SecretKey,
    phrase: &RecoveryPhrase,
    serial: u64,
) -> Result<DeviceCertificate, CertificateError> {
    let claims = DeviceClaims {
        person: phrase.person(),
        recovery: phrase.recovery_key().public(),
        device: key.device(),
        sealing: SealingKey::of_device(key).public(),
        name: machine_name(),
        serial,
    };
    let acceptance = claims.accept(Enroller::Phrase, key);
    DeviceCertificate::sign_with_phrase(claims, acceptance, phrase)
}

/// What this machine is called, as far as the system tells.
fn machine_name() -> String {
    ["HOSTNAME", "COMPUTERNAME"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .find_map(|name| clean_name("the machine's name", &name).ok())
        .unwrap_or_else(|| "this machine".into())
}

/// Writes beside the target and renames, so that a crash leaves the old file
/// or the new one; readable by the owner only.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), FolderError> {
    let failed = |source| FolderError::Io { path: path.to_owned(), source };
    let draft = path.with_extension("draft");
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&draft).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&draft, path).map_err(failed)
}

#[cfg(unix)]
pub(crate) fn restrict(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
pub(crate) fn restrict(_folder: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::OsEntropy;

    #[test]
    fn the_key_survives_and_is_private() {
        let root = tempfile::tempdir().expect("temporary folder");
        let folder = Folder::open(root.path()).expect("opens");
        let key = folder.device_key(&OsEntropy).expect("made");
        assert_eq!(folder.device_key(&OsEntropy).expect("read").to_bytes(), key.to_bytes());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode =
                std::fs::metadata(root.path().join("device.key")).expect("exists").permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        std::fs::write(root.path().join("device.key"), b"short").expect("written");
        assert!(matches!(folder.device_key(&OsEntropy), Err(FolderError::Key(_))));
    }

    #[test]
    fn one_node_per_folder() {
        let root = tempfile::tempdir().expect("temporary folder");
        let held = Folder::open(root.path()).expect("opens");
        assert!(matches!(Folder::open(root.path()), Err(FolderError::InUse(_))));
        drop(held);
        Folder::open(root.path()).expect("free again");
    }
}
