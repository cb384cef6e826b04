//! What a replica remembers between two openings, so that opening it does not
//! mean reading every word again.
//!
//! A file beside the store, this device's own and made again at will: where it
//! is missing, damaged or does not fit the store, everything is read. It holds
//! no key and no word.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use exo_model::community::snapshot::SNAPSHOT_BYTES_MAX;
use exo_model::feed::{FeedId, FeedPosition, LineId};
use exo_model::port::ChangeStore as _;

use super::ReplicaError;
use super::worker::Worker;

/// Changes after which what is remembered is written anew.
const REMEMBER_EVERY: u64 = 4_096;

/// The file, and how much happened since it was written.
pub(super) struct Memory {
    path: PathBuf,
    unremembered: u64,
}

impl Memory {
    /// The file beside a store.
    pub(super) fn beside(store: &Path) -> Self {
        Self { path: store.with_extension("snapshot"), unremembered: 0 }
    }

    /// The file's bytes; nothing where they could not be a snapshot.
    fn read(&self) -> Option<Vec<u8>> {
        let len = fs::metadata(&self.path).ok()?.len();
        let fits = usize::try_from(len).is_ok_and(|len| len <= SNAPSHOT_BYTES_MAX);
        fits.then(|| fs::read(&self.path).ok())?
    }

    /// Puts the new file in the old one's place, whole.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let fresh = self.path.with_extension("snapshot.new");
        fs::write(&fresh, bytes)?;
        fs::rename(&fresh, &self.path)?;
        self.unremembered = 0;
        Ok(())
    }
}

impl Worker {
    /// Takes over what is remembered of feeds that are stored so far and that
    /// the views know so far; returns where each goes on.
    pub(super) fn recall(
        &mut self,
        view_cursors: &BTreeMap<LineId, u64>,
    ) -> Result<BTreeMap<FeedId, FeedPosition>, ReplicaError> {
        let Some(bytes) = self.memory.read() else { return Ok(BTreeMap::new()) };
        let store = &self.store;
        let is_stored = |feed: &FeedId, at: &FeedPosition| {
            let is_told = view_cursors.get(&feed.into()).is_some_and(|seq| *seq >= at.seq);
            // A line that parts is read through the one it parts from.
            let is_line = || store.lines_of(feed).is_ok_and(|lines| lines.len() == 1);
            is_told && is_line() && store.hash_at(feed, at.seq).is_ok_and(|hash| hash == Some(at.hash))
        };
        let restored = match self.community.restore(&bytes, is_stored) {
            Ok(restored) => restored,
            Err(error) => {
                tracing::info!(%error, "reading everything");
                return Ok(BTreeMap::new());
            }
        };
        let mut known = BTreeMap::new();
        for (feed, seq) in restored {
            if let Some(hash) = self.store.hash_at(feed, seq)? {
                known.insert(feed, FeedPosition { seq, hash });
            }
        }
        Ok(known)
    }

    /// Counts changes that are not remembered yet, and writes them down now and
    /// then.
    pub(super) fn note_changes(&mut self, count: usize) {
        self.memory.unremembered += count as u64;
        if self.memory.unremembered >= REMEMBER_EVERY {
            self.remember();
        }
    }

    /// Writes down what makes the next opening quick, if there is anything new.
    pub(super) fn remember(&mut self) {
        if self.memory.unremembered == 0 {
            return;
        }
        if let Err(error) = self.memory.write(&self.community.snapshot()) {
            tracing::warn!(%error, "the next start reads everything");
        }
    }
}
