//! A new device from a backup.

use std::path::Path;

use exo_model::id::CommunityId;
use exo_model::phrase::RecoveryPhrase;

use super::{FileError, Sealing, aside, open};
use crate::archive::ArchiveError;
use crate::archive::backup::{Keepsakes, Layout, restore};
use crate::folder::{self, Profile};
use crate::report::{ImportReport, RestoreReport};

/// Makes the data folder `root` from a backup.
pub(crate) async fn restore_into(
    root: std::path::PathBuf,
    file: std::path::PathBuf,
    sealing: Sealing,
    phrase: RecoveryPhrase,
) -> Result<RestoreReport, FileError> {
    aside(move || {
        let mut archive = open(&file, &sealing)?;
        let header = *archive.header();
        let layout =
            Layout { store_of: &folder::store_in, blobs: folder::RESTORED_BLOBS, finish: &write_profile };
        let restored = restore(&mut archive, &root, &phrase, &layout)?;
        let names = &restored.keepsakes.communities;
        let communities = restored.communities.into_iter().map(|(id, imported)| {
            let name = names.get(&id).map_or("", String::as_str);
            ImportReport::of(id, name, false, imported).made(&header)
        });
        Ok(RestoreReport {
            folder: root.display().to_string(),
            name: restored.keepsakes.name.clone(),
            device: restored.certificate.claims.device.to_hex(),
            communities: communities.collect(),
            blobs: restored.blobs.len(),
        })
    })
    .await
}

fn write_profile(root: &Path, keepsakes: &Keepsakes, ids: &[CommunityId]) -> Result<(), ArchiveError> {
    let mut profile = Profile { name: keepsakes.name.clone(), ..Profile::default() };
    for id in ids {
        profile.enter(id, None);
    }
    folder::save_profile_in(root, &profile).map_err(|error| ArchiveError::Io {
        path: root.to_owned(),
        source: std::io::Error::other(error.to_string()),
    })
}
