//! Files of a data folder where no node runs.

use std::path::Path;
use std::sync::Arc;

use exo_model::id::{CommunityId, DeviceId};
use exo_model::port::Clock as _;
use exo_model::signature::SecretKey;
use exo_sync::blobs::{BlobAccess, Blobs};

use super::{
    BackupWish, ExportWish, FileError, ImportWish, Opened, aside, choose, is_readable, open, recovery,
    take_in, whole_blobs,
};
use crate::archive::backup::{Keepsakes, StoreAt, backup};
use crate::archive::write::{BlobToWrite, WriteOptions, export_community};
use crate::folder::{Folder, Profile};
use crate::host::{OsEntropy, SystemClock};
use crate::report::{BackupReport, ExportReport, ImportReport};

/// A data folder that this process has for itself.
pub(crate) struct Closed {
    folder: Folder,
    profile: Profile,
    key: SecretKey,
}

/// Nobody is served while no node runs.
struct Nobody;

impl BlobAccess for Nobody {
    fn is_member(&self, _peer: &DeviceId, _community: &CommunityId) -> bool {
        false
    }
}

impl Closed {
    /// Takes the folder, which is made where there is none.
    pub(crate) fn open(data: &Path) -> Result<Self, FileError> {
        let folder = Folder::open(data)?;
        let key = folder.device_key(&OsEntropy)?;
        let profile = folder.profile()?;
        Ok(Self { folder, profile, key })
    }

    /// The communities of this folder with their names, which may be empty where
    /// nothing can be read. Waits.
    pub(crate) fn communities(&self) -> Result<Vec<(CommunityId, String)>, FileError> {
        self.ids().map(|id| Ok((id, self.name_of(id)?))).collect()
    }

    fn ids(&self) -> impl Iterator<Item = CommunityId> + use<'_> {
        self.profile.communities.iter().filter_map(|community| community.id.parse().ok())
    }

    fn open_replica(&self, community: CommunityId) -> Result<Opened, FileError> {
        let store = self.folder.community(&community)?.store();
        Opened::open(store, self.key.to_bytes(), community)
    }

    fn name_of(&self, community: CommunityId) -> Result<String, FileError> {
        let opened = self.open_replica(community)?;
        let name = opened.state().charter.name().to_owned();
        opened.close();
        Ok(name)
    }

    /// The one that was named, or the one that faces show. Waits.
    fn chosen(&self, wanted: Option<&str>) -> Result<(CommunityId, String), FileError> {
        let id = match wanted {
            Some(wanted) => choose(wanted, self.communities()?)?,
            None => {
                let current = self.profile.current.as_ref().and_then(|id| id.parse().ok());
                current.or_else(|| self.ids().next()).ok_or(FileError::NoCommunity)?
            }
        };
        Ok((id, self.name_of(id)?))
    }

    async fn blobs(
        &self,
        communities: Vec<CommunityId>,
        wanted: bool,
    ) -> Result<(Option<Blobs>, Vec<BlobToWrite<'static>>), FileError> {
        if !wanted {
            return Ok((None, Vec::new()));
        }
        let (blobs, _protocol) = Blobs::open(&self.folder.blobs(), Arc::new(Nobody)).await?;
        let whole = whole_blobs(&blobs, communities).await?;
        Ok((Some(blobs), whole))
    }

    /// Writes one community into a file.
    pub(crate) async fn export(self, wish: ExportWish) -> Result<ExportReport, FileError> {
        let chosen = wish.community.clone();
        let (this, (id, name)) = aside(move || {
            let chosen = self.chosen(chosen.as_deref())?;
            Ok((self, chosen))
        })
        .await?;
        let (store, blobs) = this.blobs(vec![id], wish.blobs).await?;
        let report = aside(move || {
            let passphrase = wish.sealing.for_writing()?;
            let options = WriteOptions { passphrase: passphrase.as_ref(), replaces: wish.replace };
            let at = this.folder.community(&id)?.store();
            let now_ms = SystemClock.now_ms();
            let written = export_community(&wish.file, &at, id, blobs, &this.key, now_ms, &options)?;
            Ok(ExportReport::of(&wish.file, id, name, written, passphrase.is_some()))
        });
        let report = report.await;
        if let Some(store) = store {
            store.close().await;
        }
        report
    }

    /// Writes everything of this person into a file.
    pub(crate) async fn backup(self, wish: BackupWish) -> Result<BackupReport, FileError> {
        let ids: Vec<_> = self.ids().collect();
        let (store, blobs) = self.blobs(ids, wish.blobs).await?;
        let report = aside(move || {
            let passphrase = wish.sealing.for_writing()?;
            let options = WriteOptions { passphrase: passphrase.as_ref(), replaces: wish.replace };
            let keepsakes = self.keepsakes()?;
            let stores: Result<Vec<_>, FileError> = self.ids().map(|id| self.store_at(id)).collect();
            let now_ms = SystemClock.now_ms();
            let written = backup(&wish.file, &keepsakes, &stores?, blobs, &self.key, now_ms, &options)?;
            Ok(BackupReport::of(&wish.file, written, passphrase.is_some()))
        });
        let report = report.await;
        if let Some(store) = store {
            store.close().await;
        }
        report
    }

    fn store_at(&self, community: CommunityId) -> Result<StoreAt, FileError> {
        Ok(StoreAt { community, store: self.folder.community(&community)?.store() })
    }

    fn keepsakes(&self) -> Result<Keepsakes, FileError> {
        let certificate = self.folder.certificate(&self.key, &OsEntropy)?;
        Ok(Keepsakes {
            person: certificate.claims.person,
            name: self.profile.name.clone(),
            communities: self.communities()?.into_iter().collect(),
            settings: std::collections::BTreeMap::new(),
        })
    }

    /// Takes in what a file holds: merges with what is here, or makes it
    /// readable here.
    pub(crate) async fn import(self, wish: ImportWish) -> Result<Vec<ImportReport>, FileError> {
        aside(move || self.import_waiting(&wish)).await
    }

    fn import_waiting(mut self, wish: &ImportWish) -> Result<Vec<ImportReport>, FileError> {
        // Whose device this is must stand before anything is read for it.
        self.folder.certificate(&self.key, &OsEntropy)?;
        let phrase = recovery(wish.phrase_file.as_deref(), self.folder.phrase()?)?;
        let mut archive = open(&wish.file, &wish.sealing())?;
        let ids: Vec<_> = archive.communities().collect();
        let mut reports = Vec::new();
        for (index, id) in ids.into_iter().enumerate() {
            let is_known = self.profile.community(&id).is_some();
            let opened = self.open_replica(id)?;
            let report = take_in(&mut archive, index, &opened.replica, phrase.as_ref());
            opened.close();
            let report = report?;
            if is_known || is_readable(&report) {
                if !is_known {
                    self.profile.enter(&id, None);
                    self.folder.save_profile(&self.profile)?;
                }
                reports.push(report);
            } else {
                self.folder.discard(&id)?;
            }
        }
        if reports.is_empty() {
            return Err(FileError::NotForThisPerson);
        }
        let saved = archive.save_blobs(&self.folder.restored_blobs())?.len();
        if let Some(report) = reports.first_mut() {
            report.blobs = saved;
        }
        Ok(reports)
    }
}
