//! The data folder: where one person's node keeps everything.
//!
//! ```text
//! <data>/device.key     this device's secret key, readable by its owner only
//! <data>/device.cert    whose device it is, signed by their recovery phrase
//! <data>/recovery-phrase.txt   the phrase, until its owner has written it down
//! <data>/profile.json   name, communities, port, joins under way
//! <data>/addresses      where devices were seen
//! <data>/communities/ID/store.db        the signed changes: the truth
//! <data>/communities/ID/store.snapshot  how far words were read; deleted, it comes back
//! <data>/communities/ID/store.keeper    on a keeper: what it goes by instead of reading
//! <data>/communities/ID/store.keys      keys that came by a file, sealed to this device
//! <data>/communities/ID/store.receipts  who has what this device wrote; deleted, it comes back
//! <data>/communities/ID/views.db        SQLite views; deleted, they come back
//! <data>/blobs/         model bytes by hash
//! <data>/models/        model files this program wrote
//! <data>/restored-blobs/ blobs that came in a file, until a community has a use for them; then referred to
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

const STORE: &str = "store.db";
const VIEWS: &str = "views.db";
/// Files of a community that earlier versions kept beside the key; what belongs
/// to the store comes before it, so that a move that was broken off goes on.
const MOVED: [&str; 7] =
    ["views.db-wal", "views.db-shm", VIEWS, "store.snapshot", "store.db-wal", "store.db-shm", STORE];
/// `views.db`, and what SQLite keeps beside it.
const VIEWS_FILES: [&str; 3] = ["views.db-wal", "views.db-shm", VIEWS];
/// What the folder of a community is called while it is being founded.
const FOUNDING: &str = "founding";
/// Where blobs that came in a file are.
pub(crate) const RESTORED_BLOBS: &str = "restored-blobs";
/// Where the communities are.
const COMMUNITIES: &str = "communities";
/// What a node remembers about itself.
const PROFILE: &str = "profile.json";
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
#[serde(from = "StoredProfile")]
pub(crate) struct Profile {
    /// What friends call this person.
    pub(crate) name: String,
    /// The communities, in the order in which they were entered.
    pub(crate) communities: Vec<ProfileCommunity>,
    /// The one that faces show.
    pub(crate) current: Option<String>,
    /// The private one of this person's devices; not among the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) private: Option<ProfileCommunity>,
    /// The UDP port listened on, kept so that friends find this node again.
    pub(crate) port: Option<u16>,
}

/// One community of a profile.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ProfileCommunity {
    /// Its id, in hexadecimal.
    pub(crate) id: String,
    /// A join that is not complete: the ticket's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) joining: Option<String>,
}

/// The file, as this version or an earlier one wrote it: until there were
/// several communities, it named one.
#[derive(Deserialize)]
struct StoredProfile {
    #[serde(default)]
    name: String,
    #[serde(default)]
    communities: Vec<ProfileCommunity>,
    #[serde(default)]
    current: Option<String>,
    #[serde(default)]
    private: Option<ProfileCommunity>,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    community: Option<String>,
    #[serde(default)]
    joining: Option<String>,
}

impl From<StoredProfile> for Profile {
    fn from(stored: StoredProfile) -> Self {
        let StoredProfile { name, mut communities, mut current, private, port, community, joining } = stored;
        if let Some(id) = community.filter(|_| communities.is_empty()) {
            current = Some(id.clone());
            communities.push(ProfileCommunity { id, joining });
        }
        Self { name, communities, current, private, port }
    }
}

impl Profile {
    /// What is remembered of a community.
    pub(crate) fn community(&self, id: &CommunityId) -> Option<&ProfileCommunity> {
        let id = id.to_hex();
        self.communities.iter().find(|community| community.id == id)
    }

    /// Notes a community, as the one that faces show, or how its join goes.
    pub(crate) fn enter(&mut self, id: &CommunityId, joining: Option<String>) {
        let id = id.to_hex();
        match self.communities.iter_mut().find(|community| community.id == id) {
            Some(community) => community.joining = joining,
            None => self.communities.push(ProfileCommunity { id: id.clone(), joining }),
        }
        self.current = Some(id);
    }

    /// Notes that a join is over.
    pub(crate) fn joined(&mut self, id: &CommunityId) {
        let id = id.to_hex();
        if let Some(community) = self.communities.iter_mut().find(|community| community.id == id) {
            community.joining = None;
        }
    }

    /// Forgets a community.
    pub(crate) fn forget(&mut self, id: &CommunityId) {
        let id = id.to_hex();
        self.communities.retain(|community| community.id != id);
        if self.current.as_ref() == Some(&id) {
            self.current = self.communities.last().map(|community| community.id.clone());
        }
    }
}

/// Where one community is kept.
#[derive(Clone, Debug)]
pub(crate) struct CommunityFolder(PathBuf);

impl CommunityFolder {
    /// `store.db`.
    pub(crate) fn store(&self) -> PathBuf {
        self.0.join(STORE)
    }

    /// `views.db`.
    pub(crate) fn views(&self) -> PathBuf {
        self.0.join(VIEWS)
    }

    /// Whether a keeper's replica lies here.
    pub(crate) fn is_kept(&self) -> bool {
        self.store().with_extension("keeper").exists()
    }

    /// Deletes the views: a keeper has none.
    pub(crate) fn forget_views(&self) -> std::io::Result<()> {
        for name in VIEWS_FILES {
            match std::fs::remove_file(self.0.join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
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

    /// Where a community is kept; made where it is not there yet.
    pub(crate) fn community(&self, id: &CommunityId) -> Result<CommunityFolder, FolderError> {
        let path = self.communities().join(id.to_hex());
        std::fs::create_dir_all(&path).map_err(|source| FolderError::Io { path: path.clone(), source })?;
        Ok(CommunityFolder(path))
    }

    /// Moves what an earlier version kept of its one community.
    fn move_single(&self, id: &CommunityId) -> Result<(), FolderError> {
        if !self.root.join(STORE).exists() {
            return Ok(());
        }
        let CommunityFolder(to) = self.community(id)?;
        for name in MOVED {
            let from = self.root.join(name);
            if from.exists() {
                std::fs::rename(&from, to.join(name))
                    .map_err(|source| FolderError::Io { path: from.clone(), source })?;
            }
        }
        Ok(())
    }

    /// An empty place to found a community in, whose id is not known yet.
    pub(crate) fn founding(&self) -> Result<CommunityFolder, FolderError> {
        let path = self.communities().join(FOUNDING);
        let io = |source| FolderError::Io { path: path.clone(), source };
        if path.exists() {
            // A founding that was broken off: nobody has heard of it.
            std::fs::remove_dir_all(&path).map_err(io)?;
        }
        std::fs::create_dir_all(&path).map_err(io)?;
        Ok(CommunityFolder(path.clone()))
    }

    /// Gives what was founded its place.
    pub(crate) fn founded(&self, place: CommunityFolder, id: &CommunityId) -> Result<(), FolderError> {
        let to = self.communities().join(id.to_hex());
        std::fs::rename(&place.0, &to).map_err(|source| FolderError::Io { path: to, source })
    }

    fn communities(&self) -> PathBuf {
        self.root.join(COMMUNITIES)
    }

    /// Where devices were seen.
    pub(crate) fn addresses(&self) -> PathBuf {
        self.root.join("addresses")
    }

    /// `blobs/`.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs")
    }

    /// Where blobs that came in a file are; the store of blobs refers to them.
    pub(crate) fn restored_blobs(&self) -> PathBuf {
        self.root.join(RESTORED_BLOBS)
    }

    /// Takes a community's folder away, where nothing of it could be read.
    pub(crate) fn discard(&self, id: &CommunityId) -> Result<(), FolderError> {
        let path = self.communities().join(id.to_hex());
        match std::fs::remove_dir_all(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                Err(FolderError::Io { path, source })
            }
            _ => Ok(()),
        }
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

    /// Becomes a device of the person that a certificate names. The phrase of the
    /// person that was made on the first run goes with them: they are in no
    /// community.
    pub(crate) fn adopt(&self, certificate: &DeviceCertificate) -> Result<(), FolderError> {
        write_private(&self.root.join("device.cert"), &codec::encode(certificate))?;
        self.forget_phrase()
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
        let path = self.root.join(PROFILE);
        match std::fs::read(&path) {
            Ok(bytes) => {
                let profile: Profile =
                    serde_json::from_slice(&bytes).map_err(|source| FolderError::Profile { path, source })?;
                if let [ProfileCommunity { id, .. }] = profile.communities.as_slice()
                    && let Ok(id) = id.parse()
                {
                    self.move_single(&id)?;
                }
                Ok(profile)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Profile::default()),
            Err(source) => Err(FolderError::Io { path, source }),
        }
    }

    /// Writes the profile. A ticket in it is secret, hence private.
    pub(crate) fn save_profile(&self, profile: &Profile) -> Result<(), FolderError> {
        save_profile_in(&self.root, profile)
    }
}

/// Where the store of a community lies in the folder `root`.
pub(crate) fn store_in(root: &Path, id: &CommunityId) -> PathBuf {
    root.join(COMMUNITIES).join(id.to_hex()).join(STORE)
}

/// Writes the profile of the folder `root`, which need not have its place yet.
pub(crate) fn save_profile_in(root: &Path, profile: &Profile) -> Result<(), FolderError> {
    let path = root.join(PROFILE);
    let bytes = serde_json::to_vec_pretty(profile)
        .map_err(|source| FolderError::Profile { path: path.clone(), source })?;
    write_private(&path, &bytes)
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
pub(crate) fn machine_name() -> String {
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

    /// What a version with one community kept is found again in its new place,
    /// also where the move was broken off.
    #[test]
    fn a_folder_of_one_community_is_carried_over() {
        let id = CommunityId::from_bytes([7; 32]);
        for moved_before in 0..MOVED.len() {
            let root = tempfile::tempdir().expect("temporary folder");
            let folder = Folder::open(root.path()).expect("opens");
            let old =
                serde_json::json!({"name": "Ana", "community": id.to_hex(), "joining": null, "port": 4711});
            std::fs::write(root.path().join("profile.json"), old.to_string()).expect("written");
            let new = root.path().join("communities").join(id.to_hex());
            std::fs::create_dir_all(&new).expect("made");
            for (index, name) in MOVED.iter().enumerate() {
                let place = if index < moved_before { new.clone() } else { root.path().to_owned() };
                std::fs::write(place.join(name), name).expect("written");
            }
            let profile = folder.profile().expect("readable");
            assert_eq!((profile.name.as_str(), profile.port), ("Ana", Some(4711)));
            assert_eq!(profile.current, Some(id.to_hex()));
            assert!(profile.community(&id).is_some_and(|community| community.joining.is_none()));
            for name in MOVED {
                assert_eq!(std::fs::read_to_string(new.join(name)).expect("moved"), name);
                assert!(!root.path().join(name).exists());
            }
            folder.save_profile(&profile).expect("written");
            assert_eq!(folder.profile().expect("readable").communities.len(), 1);
        }
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
