//! A keeper's replica: it carries what members write and opens none of it.
//!
//! It cannot read the charter, so it goes by the lists that members sign (see
//! [`exo_model::roll`]) and by what whoever admitted it said, which lies in a
//! file beside the store. In memory it holds lists and sums, nothing of what
//! is carried; it writes no event and holds no key.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use minicbor::{Decode, Encode};

use exo_model::codec;
use exo_model::feed::gate::{self, AcceptedRun};
use exo_model::feed::{FeedId, LineId, Rejection, Run, Stream};
use exo_model::id::{ChangeHash, DeviceId};
use exo_model::port::{ChangeStore as _, StoredLine};
use exo_model::quota::Allowance;
use exo_model::roll::{ANCHOR_BYTES_MAX, AnchorError, KeeperAnchor, Listing, Roll};
use exo_model::trust::TrustLevel;

use super::intake::{Before, LINES_MAX};
use super::worker::Worker;
use super::{Ingested, ReplicaError};
use crate::store::StoreError;

/// Payload that a keeper carries if nobody says otherwise, bytes.
pub const ROOM_BYTES: u64 = 16 << 30;
/// Most feeds of one device that a keeper carries, segments and lines counted:
/// each costs it a row that is looked at in every exchange.
const FEEDS_PER_DEVICE_MAX: usize = 4_096;
/// Part of the room that `keys` feeds may use beyond it: a full keeper still
/// learns who was removed.
const ROOM_FOR_KEYS: u64 = 8;
/// Version of the file.
const VERSION: u8 = 1;

/// What the file beside the store holds.
#[derive(Debug, Encode, Decode)]
struct Stored {
    #[n(0)]
    version: u8,
    #[n(1)]
    room_bytes: u64,
    #[n(2)]
    anchor: KeeperAnchor,
}

/// Why a device cannot keep.
#[derive(Debug, thiserror::Error)]
pub enum KeepingError {
    /// What whoever admitted it said is of no use.
    #[error(transparent)]
    Anchor(#[from] AnchorError),
    /// It is about another community.
    #[error("the keeper's admission is for another community: ask for a ticket of this one")]
    OtherCommunity,
    /// This device reads the community.
    #[error("this device reads the community already: join as keeper from another data folder")]
    Reads,
    /// The file beside the store cannot be used.
    #[error(
        "{path} says what this keeper goes by and cannot be used: {reason}; join again from an empty data folder"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Who takes part, as far as a keeper knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// What it believes.
    pub listing: Arc<Listing>,
    /// Devices that it was told of when it was admitted, and that could tell
    /// it more: worth dialling even where what it believes leaves them out.
    pub told_of: Arc<BTreeSet<DeviceId>>,
    /// Payload that it carries, bytes.
    pub carried_bytes: u64,
    /// Payload that it carries at most, bytes.
    pub room_bytes: u64,
}

/// How much of one device is carried.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    bytes: u64,
    feeds: usize,
}

/// What a keeper goes by.
pub(super) struct Keeping {
    anchor: KeeperAnchor,
    roll: Roll,
    /// Devices whose `keys` feeds are taken whatever is believed.
    heard: BTreeSet<DeviceId>,
    loads: BTreeMap<DeviceId, Load>,
    kept: Arc<Kept>,
}

/// The file beside a store.
fn beside(store: &Path) -> PathBuf {
    store.with_extension("keeper")
}

impl Keeping {
    /// A keeper that carries nothing yet.
    pub(super) fn new(anchor: KeeperAnchor, room_bytes: u64) -> Result<Self, KeepingError> {
        let listing = anchor.listing()?;
        let told_of = Arc::new(listing.lister_devices().copied().collect());
        let kept = Kept { listing: Arc::new(listing), told_of, carried_bytes: 0, room_bytes };
        let mut keeping = Self {
            anchor,
            roll: Roll::default(),
            heard: BTreeSet::new(),
            loads: BTreeMap::new(),
            kept: Arc::new(kept),
        };
        keeping.judge();
        Ok(keeping)
    }

    /// What lies beside a store; none where it is no keeper's.
    pub(super) fn read(store: &Path) -> Result<Option<Self>, KeepingError> {
        let path = beside(store);
        let failed = |reason: String| KeepingError::File { path: path.clone(), reason };
        let longest = ANCHOR_BYTES_MAX + 64;
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.to_string())),
            Ok(file) if file.len() > longest as u64 => return Err(failed("it is too long".into())),
            Ok(_) => {}
        }
        let bytes = fs::read(&path).map_err(|error| failed(error.to_string()))?;
        let stored: Stored = codec::decode(&bytes, longest).map_err(|error| failed(error.to_string()))?;
        if stored.version != VERSION {
            return Err(failed("a newer Exo-Studio wrote it; please update".into()));
        }
        Self::new(stored.anchor, stored.room_bytes).map(Some)
    }

    /// Writes the file, whole and durably.
    pub(super) fn write(&self, store: &Path) -> Result<(), KeepingError> {
        let path = beside(store);
        let stored =
            Stored { version: VERSION, room_bytes: self.kept.room_bytes, anchor: self.anchor.clone() };
        let fresh = path.with_extension("keeper.new");
        let written = File::create(&fresh)
            .and_then(|mut file| file.write_all(&codec::encode(&stored)).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&fresh, &path));
        written.map_err(|error| KeepingError::File { path, reason: error.to_string() })
    }

    /// Who takes part, for whoever asks.
    pub(super) fn kept(&self) -> Arc<Kept> {
        self.kept.clone()
    }

    pub(super) const fn community(&self) -> exo_model::id::CommunityId {
        self.anchor.community()
    }

    /// Works out what to believe.
    fn judge(&mut self) {
        // The anchor was read before it got here.
        let Ok(tree) = self.anchor.tree(&self.roll) else { return };
        self.heard = tree.heard();
        Arc::make_mut(&mut self.kept).listing = Arc::new(tree.listing());
    }

    /// Takes lists from a run that is stored.
    fn hear(&mut self, line: LineId, run: &AcceptedRun) -> bool {
        line.feed.stream == Stream::Keys && self.roll.take_run(line, run)
    }

    /// Whether changes of this feed after `after_seq` are carried.
    fn carries(&self, feed: &FeedId, after_seq: u64) -> bool {
        let is_heard = feed.stream == Stream::Keys && self.heard.contains(&feed.device);
        is_heard || self.kept.listing.carries(feed, after_seq)
    }

    /// The half of the room is for whoever comes; beyond it everyone has an
    /// even share, so that one device alone fills no keeper.
    fn has_room(&self, run: &AcceptedRun, is_new: bool) -> bool {
        let Kept { listing, carried_bytes, room_bytes, .. } = &*self.kept;
        let (feed, bytes) = (run.feed(), payload_bytes(run));
        let load = self.loads.get(&feed.device).copied().unwrap_or_default();
        let for_keys = if feed.stream == Stream::Keys { room_bytes / ROOM_FOR_KEYS } else { 0 };
        let sum = carried_bytes.saturating_add(bytes);
        let sharers = (listing.devices().count() + listing.former.len()).max(1) as u64;
        (!is_new || load.feeds < FEEDS_PER_DEVICE_MAX)
            && sum <= room_bytes.saturating_add(for_keys)
            && (sum <= room_bytes / 2 || load.bytes.saturating_add(bytes) <= room_bytes / sharers + for_keys)
    }

    fn note(&mut self, device: DeviceId, bytes: u64, feeds: usize) {
        let load = self.loads.entry(device).or_default();
        load.bytes = load.bytes.saturating_add(bytes);
        load.feeds += feeds;
        let kept = Arc::make_mut(&mut self.kept);
        kept.carried_bytes = kept.carried_bytes.saturating_add(bytes);
    }
}

impl Worker {
    /// Becomes a keeper's, or goes by another word of who takes part.
    pub(super) fn become_keeper(
        &mut self,
        anchor: KeeperAnchor,
        room_bytes: u64,
    ) -> Result<(), ReplicaError> {
        if anchor.community() != self.community.id() {
            return Err(KeepingError::OtherCommunity.into());
        }
        let reads = !self.community.charter().is_empty() || self.community.keyring().ids().next().is_some();
        if self.keeping.is_none() && reads {
            return Err(KeepingError::Reads.into());
        }
        let keeping = Keeping::new(anchor, room_bytes)?;
        keeping.write(&self.path)?;
        self.keeping = Some(keeping);
        self.read_kept()?;
        self.publish(false);
        Ok(())
    }

    /// Has other room from here on, and after every opening.
    pub(super) fn keep_up_to(&mut self, room_bytes: u64) -> Result<(), ReplicaError> {
        let Some(keeping) = &mut self.keeping else { return Ok(()) };
        if keeping.kept.room_bytes == room_bytes {
            return Ok(());
        }
        Arc::make_mut(&mut keeping.kept).room_bytes = room_bytes;
        keeping.write(&self.path)?;
        self.publish(false);
        Ok(())
    }

    /// Reads back what a keeper goes by: lists, through the gate, and how much
    /// is carried of whom. What is carried is checked by whoever gets it.
    pub(super) fn read_kept(&mut self) -> Result<(), ReplicaError> {
        let Some(keeping) = &mut self.keeping else { return Ok(()) };
        let id = keeping.community();
        for (device, bytes) in self.store.payload_bytes(id)? {
            keeping.note(device, bytes, 0);
        }
        let lines = self.store.lines(id)?;
        for line in &lines {
            keeping.note(line.id.feed.device, 0, 1);
        }
        let keys = lines.into_iter().filter(|line| line.id.feed.stream == Stream::Keys);
        for StoredLine { id: line, base_seq, .. } in keys {
            let hash = match base_seq {
                0 => ChangeHash::from_bytes([0; 32]),
                seq => self.store.hash_at(line, seq)?.ok_or(StoreError::Damaged("changes are missing"))?,
            };
            let runs = self.read_from(line, exo_model::feed::FeedPosition { seq: base_seq, hash })?;
            if let Some(keeping) = &mut self.keeping {
                for run in &runs {
                    keeping.hear(line, run);
                }
            }
        }
        if let Some(keeping) = &mut self.keeping {
            keeping.judge();
        }
        Ok(())
    }

    /// Takes a run of a device on the list, as [`Worker::ingest`] does for
    /// those who read the charter.
    pub(super) fn carry(&mut self, run: Run, after: Option<ChangeHash>) -> Result<Ingested, ReplicaError> {
        if !self.is_carried(&run.feed, 0) {
            return Ok(Ingested::Deferred);
        }
        let start = self.start_of(&run, after)?;
        let accepted = gate::admit(run, &start)?;
        let known = self.furthest_stored(&accepted)?;
        let Some(new) = accepted.beyond(&known, None)? else { return Ok(Ingested::Known) };
        let feed = *new.feed();
        let parts = self.store.parts(&new)?;
        let is_next = !matches!(self.segment_before(&new)?, Before::NotHere);
        if parts && self.store.lines_of(&feed)?.len() >= LINES_MAX {
            return Err(Rejection::Fork { seq: new.first_seq() }.into());
        }
        // The run may go further than what counts: it was signed as one.
        if !is_next
            || !self.is_carried(&feed, new.start().seq)
            || !self.may_carry(&new, parts || new.first_seq() == 1)
        {
            return Ok(Ingested::Deferred);
        }
        let line = self.store.append_received(&new)?;
        self.note_ends(&feed)?;
        let is_line = line.base_seq == new.start().seq;
        if let Some(keeping) = &mut self.keeping {
            keeping.note(feed.device, payload_bytes(&new), usize::from(is_line));
            if keeping.hear(line.id, &new) {
                keeping.judge();
            }
        }
        self.publish(false);
        Ok(Ingested::Stored(new.changes().len()))
    }

    fn is_carried(&self, feed: &FeedId, after_seq: u64) -> bool {
        self.keeping.as_ref().is_some_and(|keeping| keeping.carries(feed, after_seq))
    }

    /// Whether there is room for a run, and for a line if it begins one, and its
    /// author's quota reaches.
    fn may_carry(&mut self, run: &AcceptedRun, is_new: bool) -> bool {
        let Some(keeping) = &self.keeping else { return false };
        let device = run.feed().device;
        if !keeping.has_room(run, is_new) {
            return false;
        }
        let level =
            if keeping.kept.listing.is_writer(&device) { TrustLevel::Friends } else { TrustLevel::Known };
        let (changes, bytes) = (run.changes().len() as u64, payload_bytes(run));
        self.quotas.take(device, Allowance::at(level), changes, bytes, self.clock.now_ms())
    }
}

fn payload_bytes(run: &AcceptedRun) -> u64 {
    run.changes().iter().map(|change| change.payload.len() as u64).sum()
}
