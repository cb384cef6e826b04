//! Room: what the disk has, what the quota allows, who uses how much, and
//! what to say when there is none.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use exo_model::id::{BlobHash, CommunityId};

use super::holdings::Hold;
use super::{Blobs, BlobsError};

/// Most blobs that an error proposes to remove.
const PROPOSALS_MAX: usize = 5;

/// A disk with less than this beside the reserve counts as full when a write
/// has failed: more than was under way then.
const FULL_BELOW_BYTES: u64 = 1 << 20;

/// What a community's blobs take on this device. A blob that is held for two
/// communities counts in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes in the store.
    pub stored_bytes: u64,
    /// Of these, bytes of fetches that have not ended.
    pub partial_bytes: u64,
    /// Bytes of files that lie elsewhere and are served from there.
    pub in_place_bytes: u64,
}

/// There is no room for a blob.
#[derive(Debug, thiserror::Error)]
pub enum NoRoom {
    /// The disk is full, or would be.
    #[error(
        "the disk of {folder} is too full: {needed_bytes} bytes more are needed beside a reserve of \
         {reserve_bytes}, {free_bytes} are free; free some, or let go of models and attachments, and try again: \
         what is here already stays"
    )]
    Disk {
        /// The store's folder.
        folder: PathBuf,
        /// Bytes that were to be written.
        needed_bytes: u64,
        /// Bytes that must stay free.
        reserve_bytes: u64,
        /// Bytes that are free.
        free_bytes: u64,
    },
    /// The quota is used up, or would be.
    #[error(
        "{needed_bytes} bytes more would be over the quota: {used_bytes} of {quota_bytes} are used; raise it, or let go of {}",
        proposal(.largest)
    )]
    Quota {
        /// Bytes that were to be fetched.
        needed_bytes: u64,
        /// Bytes in the store, and promised to running fetches.
        used_bytes: u64,
        /// The limit.
        quota_bytes: u64,
        /// The largest blobs that may go, with their bytes.
        largest: Vec<(BlobHash, u64)>,
    },
}

fn proposal(largest: &[(BlobHash, u64)]) -> String {
    if largest.is_empty() {
        return "a fetch that is running".into();
    }
    let named: Vec<String> = largest.iter().map(|(blob, bytes)| format!("{blob} ({bytes} bytes)")).collect();
    named.join(", ")
}

/// Bytes that a running fetch may still write.
pub(super) struct Reservation(AtomicU64);

impl Reservation {
    /// Some of it was written.
    pub(super) fn used(&self, bytes: u64) {
        let less = |left: u64| Some(left.saturating_sub(bytes));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

impl Blobs {
    /// What each community's blobs take.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn usage(&self) -> Result<BTreeMap<CommunityId, Usage>, BlobsError> {
        let mut usage = BTreeMap::<CommunityId, Usage>::new();
        for (blob, holds) in self.inner.holdings.all() {
            let bytes = self.stored_bytes(blob).await?;
            let is_file = holds.values().any(|hold| *hold == Hold::InPlace);
            for (community, hold) in holds {
                let of = usage.entry(community).or_default();
                if is_file {
                    of.in_place_bytes += bytes;
                    continue;
                }
                of.stored_bytes += bytes;
                if matches!(hold, Hold::Fetching(_)) {
                    of.partial_bytes += bytes;
                }
            }
        }
        Ok(usage)
    }

    /// Sets `bytes` aside for a fetch or an attachment, where disk and quota
    /// allow them.
    pub(super) async fn reserve(&self, bytes: u64) -> Result<Arc<Reservation>, RoomError> {
        self.check_disk(bytes)?;
        // Read before the lock: it waits for the store.
        let (stored, mut largest) = match self.inner.options.quota_bytes {
            Some(_) => self.stored().await?,
            None => (0, Vec::new()),
        };
        let mut reservations = self.inner.reservations.lock().unwrap_or_else(PoisonError::into_inner);
        reservations.retain(|reservation| reservation.strong_count() > 0);
        let running = reservations.iter().filter_map(std::sync::Weak::upgrade);
        let promised = running.fold(0, |sum: u64, one| sum.saturating_add(one.0.load(Ordering::Relaxed)));
        let used_bytes = stored.saturating_add(promised);
        if let Some(quota_bytes) = self.inner.options.quota_bytes
            && used_bytes.saturating_add(bytes) > quota_bytes
        {
            largest.truncate(PROPOSALS_MAX);
            return Err(NoRoom::Quota { needed_bytes: bytes, used_bytes, quota_bytes, largest }.into());
        }
        let reservation = Arc::new(Reservation(AtomicU64::new(bytes)));
        reservations.push(Arc::downgrade(&reservation));
        Ok(reservation)
    }

    /// Whether the disk has room for `bytes` beside the reserve. Where free
    /// space cannot be asked for, only writing tells.
    pub(super) fn check_disk(&self, bytes: u64) -> Result<(), NoRoom> {
        let reserve_bytes = self.inner.options.reserve_bytes;
        match free_bytes(&self.inner.folder) {
            Some(free) if free < bytes.saturating_add(reserve_bytes) => Err(self.disk_full(bytes)),
            _ => Ok(()),
        }
    }

    /// Whether the disk is what a write failed for. Only the first write that
    /// fails says so itself; the store refuses those behind it in other words.
    pub(super) fn is_disk_full(&self) -> bool {
        let least = self.inner.options.reserve_bytes.saturating_add(FULL_BELOW_BYTES);
        free_bytes(&self.inner.folder).is_some_and(|free| free < least)
    }

    /// The error for a disk that took no more.
    pub(super) fn disk_full(&self, needed_bytes: u64) -> NoRoom {
        NoRoom::Disk {
            folder: self.inner.folder.clone(),
            needed_bytes,
            reserve_bytes: self.inner.options.reserve_bytes,
            free_bytes: free_bytes(&self.inner.folder).unwrap_or(0),
        }
    }

    /// Bytes of all blobs that are not files in place, and which they are, the
    /// largest first.
    async fn stored(&self) -> Result<(u64, Vec<(BlobHash, u64)>), BlobsError> {
        let mut all = Vec::new();
        for (blob, holds) in self.inner.holdings.all() {
            if !holds.values().any(|hold| *hold == Hold::InPlace) {
                all.push((blob, self.stored_bytes(blob).await?));
            }
        }
        all.retain(|(_, bytes)| *bytes > 0);
        all.sort_by_key(|(blob, bytes)| (std::cmp::Reverse(*bytes), *blob));
        Ok((all.iter().fold(0, |sum: u64, (_, bytes)| sum.saturating_add(*bytes)), all))
    }
}

/// Room that cannot be set aside.
#[derive(Debug, thiserror::Error)]
pub(super) enum RoomError {
    /// There is none.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The store cannot say.
    #[error(transparent)]
    Blobs(#[from] BlobsError),
}

/// Whether a write failed because there is no more room.
pub(super) fn is_full(error: &io::Error) -> bool {
    // A file system may also limit the length of a file.
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Bytes that this user may still write in a folder's file system.
#[cfg(unix)]
fn free_bytes(folder: &Path) -> Option<u64> {
    let status = rustix::fs::statvfs(folder).ok()?;
    Some(status.f_bavail.saturating_mul(status.f_frsize))
}

/// Not known here: only writing tells.
#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

/// Removes the files of a folder that `goes` names; folders and what cannot be
/// read are left alone.
pub(super) fn remove_files(folder: &Path, goes: impl Fn(&str) -> bool) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type()?.is_file() && name.to_str().is_some_and(&goes) {
            tracing::debug!(file = %entry.path().display(), "removing what a killed process left");
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
