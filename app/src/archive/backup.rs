//! Backups: all communities of a person in one file, and a new device from it.
//!
//! A backup holds no device key and no recovery phrase. Restoring makes a new
//! device, which the phrase certifies: so a disk that comes back never goes on
//! writing where another has gone on meanwhile. What the person could read is
//! readable at once, with the keys that are sealed to their phrase; writing
//! waits until a member enrols the new device
//! ([`Intent::AddDevice`](exo_model::decide::Intent::AddDevice)).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use exo_model::certificate::DeviceCertificate;
use exo_model::codec;
use exo_model::id::{CommunityId, PersonId};
use exo_model::phrase::RecoveryPhrase;
use exo_model::port::Signer;
use exo_model::sealing::SealingKey;
use exo_model::signature::SecretKey;
use exo_sync::archive::Imported;
use exo_sync::replica::{Replica, ReplicaConfig};
use minicbor::{Decode, Encode};

use super::read::Archive;
use super::write::{BlobToWrite, WriteOptions, Written, write_archive};
use super::{ArchiveError, COMMUNITIES_MAX, Header, KEEPSAKES_BYTES_MAX, Kind, TAG_KEEPSAKES};
use crate::folder;
use crate::host::{OsEntropy, SystemClock};

/// What a person's program remembers besides communities. No field of it holds
/// a secret, and none may: not the device's key, the phrase or a ticket.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Keepsakes {
    /// Whose backup it is.
    #[n(0)]
    pub(crate) person: PersonId,
    /// What friends call them.
    #[n(1)]
    pub(crate) name: String,
    /// The communities by name, also those of which nothing is stored.
    #[n(2)]
    pub(crate) communities: BTreeMap<CommunityId, String>,
    /// Settings of the program, by name.
    #[n(3)]
    pub(crate) settings: BTreeMap<String, String>,
}

/// A community and where its store is.
#[derive(Clone, Debug)]
pub(crate) struct StoreAt {
    pub(crate) community: CommunityId,
    pub(crate) store: PathBuf,
}

/// Writes everything of one person into one file. Stores may be in use
/// meanwhile.
pub(crate) fn backup(
    target: &Path,
    keepsakes: &Keepsakes,
    stores: &[StoreAt],
    blobs: Vec<BlobToWrite<'_>>,
    signer: &dyn Signer,
    made_ms: i64,
    options: &WriteOptions<'_>,
) -> Result<Written, ArchiveError> {
    if stores.len() > COMMUNITIES_MAX || codec::encode(keepsakes).len() > KEEPSAKES_BYTES_MAX {
        return Err(ArchiveError::TooLarge);
    }
    let header = Header { kind: Kind::Backup, device: signer.device(), made_ms };
    write_archive(target, options, &header, signer, |archive| {
        archive.put(&[TAG_KEEPSAKES])?;
        archive.put_sized(keepsakes)?;
        for at in stores {
            // A join under way has nothing yet: it is among the names.
            archive.community(&at.store, at.community)?;
        }
        archive.blobs(blobs)
    })
}

/// A folder that was made from a backup.
#[derive(Debug)]
pub(crate) struct Restored {
    /// The new device, for a member to enrol.
    pub(crate) certificate: DeviceCertificate,
    /// What became of each community.
    pub(crate) communities: Vec<(CommunityId, Imported)>,
    /// The blobs of the backup, each in a file named by its hash.
    pub(crate) blobs: Vec<PathBuf>,
    /// For the profile.
    pub(crate) keepsakes: Keepsakes,
}

/// What is done last in a restored folder, while it is not in its place yet.
pub(crate) type Finish<'a> = dyn Fn(&Path, &Keepsakes, &[CommunityId]) -> Result<(), ArchiveError> + 'a;

/// How a data folder is laid out.
pub(crate) struct Layout<'a> {
    /// Where in a folder the store of a community lies.
    pub(crate) store_of: &'a dyn Fn(&Path, &CommunityId) -> PathBuf,
    /// Where in a folder blobs are kept until they are added.
    pub(crate) blobs: &'a str,
    /// Writes what else belongs in a folder, before it has its place.
    pub(crate) finish: &'a Finish<'a>,
}

/// Makes a data folder from a backup: a new device key, its certificate, and
/// all communities, readable. The folder appears whole or not at all; it must
/// not exist, or be empty.
pub(crate) fn restore(
    archive: &mut Archive,
    root: &Path,
    phrase: &RecoveryPhrase,
    layout: &Layout<'_>,
) -> Result<Restored, ArchiveError> {
    let keepsakes = archive.keepsakes().cloned().ok_or(ArchiveError::NotABackup)?;
    if keepsakes.person != phrase.person() {
        return Err(ArchiveError::OtherPerson(keepsakes.person));
    }
    let failed = |source| ArchiveError::Io { path: root.to_owned(), source };
    let is_empty = match std::fs::read_dir(root) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(source) => return Err(failed(source)),
    };
    if !is_empty {
        return Err(ArchiveError::NotEmpty(root.to_owned()));
    }
    let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(failed)?;
    // Deleted again by its destructor unless it is put in its place.
    let draft = tempfile::Builder::new().prefix(".restoring-").tempdir_in(parent).map_err(failed)?;
    folder::restrict(draft.path()).map_err(failed)?;
    let mut restoring =
        Restoring { archive, draft: draft.path(), phrase, key: SecretKey::generate(&OsEntropy) };
    let (communities, serial) = restoring.communities(layout.store_of)?;
    let certificate = restoring.device(serial)?;
    let saved = restoring.archive.save_blobs(&draft.path().join(layout.blobs))?;
    let blobs = saved.into_iter().map(|name| root.join(layout.blobs).join(name)).collect();
    let ids: Vec<_> = communities.iter().map(|(id, _)| *id).collect();
    (layout.finish)(draft.path(), &keepsakes, &ids)?;
    if root.exists() {
        std::fs::remove_dir(root).map_err(failed)?;
    }
    std::fs::rename(draft.path(), root).map_err(failed)?;
    // Nothing is left there to delete.
    let _ = draft.keep();
    Ok(Restored { certificate, communities, blobs, keepsakes })
}

struct Restoring<'a> {
    archive: &'a mut Archive,
    draft: &'a Path,
    phrase: &'a RecoveryPhrase,
    key: SecretKey,
}

impl Restoring<'_> {
    /// Imports all communities; returns also the greatest serial that this
    /// person gave a device in any of them.
    fn communities(
        &mut self,
        store_of: &dyn Fn(&Path, &CommunityId) -> PathBuf,
    ) -> Result<(Vec<(CommunityId, Imported)>, u64), ArchiveError> {
        let ids: Vec<_> = self.archive.communities().collect();
        let (mut communities, mut serial) = (Vec::new(), 0);
        for (index, community) in ids.into_iter().enumerate() {
            let path = store_of(self.draft, &community);
            if let Some(folder) = path.parent() {
                let failed = |source| ArchiveError::Io { path: folder.to_owned(), source };
                std::fs::create_dir_all(folder).map_err(failed)?;
            }
            let config = ReplicaConfig {
                path,
                community,
                signer: Arc::new(SecretKey::from_bytes(&self.key.to_bytes())),
                sealing: SealingKey::of_device(&self.key),
                clock: Arc::new(SystemClock),
                entropy: Arc::new(OsEntropy),
                view_cursors: Vec::new(),
            };
            let (replica, thread) = Replica::open(config, |_| ())?;
            let imported = self.archive.import(index, &replica, Some(self.phrase.recovery_key()));
            let devices = replica.state().charter.devices.clone();
            // The thread ends with the last handle to it.
            drop(replica);
            let _ = thread.join();
            communities.push((community, imported?));
            let mine = devices.values().filter(|device| device.person == self.phrase.person());
            serial = mine.map(|device| device.serial).max().unwrap_or(0).max(serial);
        }
        Ok((communities, serial))
    }

    fn device(&self, serial: u64) -> Result<DeviceCertificate, ArchiveError> {
        let certificate = folder::certify(&self.key, self.phrase, serial.saturating_add(1))?;
        let write = |name: &str, bytes: &[u8]| {
            let path = self.draft.join(name);
            folder::write_private(&path, bytes)
                .map_err(|error| ArchiveError::Io { path, source: std::io::Error::other(error.to_string()) })
        };
        write("device.key", &self.key.to_bytes())?;
        write("device.cert", &codec::encode(&certificate))?;
        Ok(certificate)
    }
}
