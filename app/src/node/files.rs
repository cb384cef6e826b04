//! Files of a node that runs: what [`crate::files`] does elsewhere, with what is
//! open here.

use std::collections::BTreeMap;
use std::sync::Arc;

use exo_model::id::CommunityId;
use exo_model::phrase::RecoveryPhrase;
use exo_model::port::Clock as _;
use exo_model::signature::SecretKey;

use super::{Membership, Node};
use crate::archive::backup::{Keepsakes, StoreAt, backup};
use crate::archive::read::Archive;
use crate::archive::write::{WriteOptions, export_community};
use crate::files::{
    BackupWish, ExportWish, FileError, ImportWish, aside, choose, is_readable, open, recovery, take_in,
    whole_blobs,
};
use crate::host::SystemClock;
use crate::report::{BackupReport, ExportReport, ImportReport};

impl Node {
    /// Writes one community into a file; it goes on meanwhile.
    pub(crate) async fn export(&self, wish: ExportWish) -> Result<ExportReport, FileError> {
        let membership = match &wish.community {
            Some(wanted) => self.chosen(wanted)?,
            None => self.membership()?,
        };
        let id = membership.id();
        let name = membership.replica().state().charter.name().to_owned();
        let blobs = if wish.blobs { whole_blobs(self.mesh.blobs(), [id]).await? } else { Vec::new() };
        let (store, key) = (self.folder.community(&id)?.store(), SecretKey::from_bytes(&self.key.to_bytes()));
        aside(move || {
            let passphrase = wish.sealing.for_writing()?;
            let options = WriteOptions { passphrase: passphrase.as_ref(), replaces: wish.replace };
            let now_ms = SystemClock.now_ms();
            let written = export_community(&wish.file, &store, id, blobs, &key, now_ms, &options)?;
            Ok(ExportReport::of(&wish.file, id, name, written, passphrase.is_some()))
        })
        .await
    }

    /// Writes everything of this person into a file.
    pub(crate) async fn backup(&self, wish: BackupWish) -> Result<BackupReport, FileError> {
        let (keepsakes, stores) = (self.keepsakes(), self.stores()?);
        let ids: Vec<_> = stores.iter().map(|at| at.community).collect();
        let blobs = if wish.blobs { whole_blobs(self.mesh.blobs(), ids).await? } else { Vec::new() };
        let key = SecretKey::from_bytes(&self.key.to_bytes());
        aside(move || {
            let passphrase = wish.sealing.for_writing()?;
            let options = WriteOptions { passphrase: passphrase.as_ref(), replaces: wish.replace };
            let now_ms = SystemClock.now_ms();
            let written = backup(&wish.file, &keepsakes, &stores, blobs, &key, now_ms, &options)?;
            Ok(BackupReport::of(&wish.file, written, passphrase.is_some()))
        })
        .await
    }

    fn chosen(&self, wanted: &str) -> Result<Arc<Membership>, FileError> {
        let all = self.memberships();
        let named = all.iter().map(|one| (one.id(), one.replica().state().charter.name().to_owned()));
        let id = choose(wanted, named)?;
        let found = all.into_iter().find(|one| one.id() == id);
        found.ok_or_else(|| FileError::NoSuchCommunity(wanted.to_owned()))
    }

    fn keepsakes(&self) -> Keepsakes {
        let all = self.memberships();
        let named = |one: &Arc<Membership>| (one.id(), one.replica().state().charter.name().to_owned());
        Keepsakes {
            person: self.certificate.claims.person,
            name: self.profile().name,
            communities: all.iter().map(named).collect(),
            settings: BTreeMap::new(),
        }
    }

    fn stores(&self) -> Result<Vec<StoreAt>, FileError> {
        let ids = self.memberships().into_iter().map(|one| one.id());
        ids.map(|community| Ok(StoreAt { community, store: self.folder.community(&community)?.store() }))
            .collect()
    }

    /// Takes in what a file holds: merges with what is here, or opens a
    /// community that this node was not in, for reading.
    pub(crate) async fn import(self: &Arc<Self>, wish: ImportWish) -> Result<Vec<ImportReport>, FileError> {
        let on_device = self.folder.phrase()?;
        let (mut archive, phrase) = aside(move || {
            let phrase = recovery(wish.phrase_file.as_deref(), on_device)?;
            Ok((open(&wish.file, &wish.sealing())?, phrase.map(Arc::new)))
        })
        .await?;
        let ids: Vec<_> = archive.communities().collect();
        let mut reports = Vec::new();
        for (index, id) in ids.into_iter().enumerate() {
            let report;
            (archive, report) = self.import_one(archive, index, id, phrase.clone()).await?;
            reports.extend(report);
        }
        if reports.is_empty() {
            return Err(FileError::NotForThisPerson);
        }
        let folder = self.folder.restored_blobs();
        let saved = aside(move || Ok(archive.save_blobs(&folder)?.len())).await?;
        if let Some(report) = reports.first_mut() {
            report.blobs = saved;
        }
        for membership in self.memberships() {
            self.adopt_blobs(&membership).await;
        }
        Ok(reports)
    }

    /// Takes one community in; `None` where it cannot be read here.
    async fn import_one(
        &self,
        mut archive: Archive,
        index: usize,
        id: CommunityId,
        phrase: Option<Arc<RecoveryPhrase>>,
    ) -> Result<(Archive, Option<ImportReport>), FileError> {
        let _one_at_a_time = self.changing.lock().await;
        let known = self.lock_all().get(&id).cloned();
        let is_new = known.is_none();
        let membership = match known {
            Some(membership) => membership,
            None => {
                self.refuse_too_many()?;
                Box::pin(self.open_aside(id)).await?
            }
        };
        let replica = membership.replica().clone();
        let imported = aside(move || {
            let report = take_in(&mut archive, index, &replica, phrase.as_deref())?;
            Ok((archive, report))
        })
        .await;
        if is_new && !imported.as_ref().is_ok_and(|(_, report)| is_readable(report)) {
            membership.close().await;
            self.folder.discard(&id)?;
            return imported.map(|(archive, _)| (archive, None));
        }
        if is_new {
            self.remember(|profile| profile.enter(&id, None))?;
            self.lock_all().insert(id, membership.clone());
            self.current.send_replace(Some(membership));
        }
        imported.map(|(archive, report)| (archive, Some(report)))
    }

    /// Gives a community the blobs that came in a file and that it has models of.
    pub(crate) async fn adopt_blobs(&self, membership: &Membership) {
        let folder = self.folder.restored_blobs();
        if !membership.reads() || !folder.exists() {
            return;
        }
        let (id, blobs) = (membership.id(), self.mesh.blobs());
        let here = blobs.whole(id).await.unwrap_or_default();
        for model in membership.replica().state().models.keys() {
            let path = folder.join(model.to_hex());
            if here.iter().any(|(blob, _)| blob == model) || !path.exists() {
                continue;
            }
            if let Err(error) = blobs.add_file(id, &path).await {
                tracing::warn!(%error, "a blob from a file cannot be used");
            }
        }
    }
}
