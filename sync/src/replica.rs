//! The replica: one community's truth on this device, on a thread of its own.
//!
//! The only writer of `store.db`. Every change enters here, one's own from an
//! [`Intent`] and a peer's from the network, and passes the same gate; then it
//! is stored durably; then the state is reduced and everyone who watches is
//! told. Keys are tended here too: started, sealed to who may have them, asked
//! for. A keeper's replica carries and does nothing else. Callers are async
//! tasks; SQLite never runs on their runtime.

mod archive;
mod core;
mod founding;
mod intake;
mod keeping;
mod kept;
mod keys;
mod proofs;
mod reading;
mod remembering;
mod worker;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::{oneshot, watch};

use exo_model::charter::Role;
use exo_model::community::{CommunityState, ComposeError};
use exo_model::decide::{Intent, Refusal};
use exo_model::feed::document::DocumentError;
use exo_model::feed::{FeedId, FeedPosition, LineId, Rejection, Run, VerifiedEvent};
use exo_model::id::{ChangeHash, CommunityId, DeviceId, KeyId, SealingPublicKey};
use exo_model::phrase::RecoveryPhrase;
use exo_model::port::{Clock, Entropy, Signer};
use exo_model::roll::KeeperAnchor;
use exo_model::sealing::{SealedKey, SealingKey};
use exo_model::text::TextError;

use crate::session::{Comparison, Ends, Known, LineRun};
use crate::store::StoreError;
use worker::Worker;

pub use self::core::ReplicaCore;
pub use founding::{Founding, found};
pub use keeping::{KeepingError, Kept, ROOM_BYTES};

/// Commands that may wait; senders wait beyond it.
const INBOX: usize = 64;

/// New events and the state they lead to, for views.
#[derive(Clone, Debug)]
pub struct Update {
    /// In their order within each line. Where a key arrived that opens what
    /// was told as unreadable, its feed is told again from the start.
    pub events: Vec<VerifiedEvent>,
    /// After all of them.
    pub state: Arc<CommunityState>,
}

/// What everyone may watch.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The reduced state.
    pub state: Arc<CommunityState>,
    /// Where all lines end.
    pub ends: Arc<Ends>,
    /// Where the community gossips.
    pub topics: Arc<Topics>,
    /// On a keeper, what it goes by instead of the charter.
    pub kept: Option<Arc<Kept>>,
}

/// Gossip topics of a community, derived from keys of its charter: whoever was
/// removed does not know the next one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topics {
    /// Where this device speaks; nothing while there is no epoch to write under.
    pub spoken: Option<[u8; 32]>,
    /// Where it listens, at most [`TOPICS_MAX`]: the latest epochs.
    pub heard: Vec<[u8; 32]>,
}

/// Epochs whose topics a device listens on.
pub const TOPICS_MAX: usize = 3;

impl Snapshot {
    /// Hash over the ends of all feeds: equal replicas have equal digests.
    pub fn digest(&self) -> [u8; 32] {
        self.ends.root()
    }

    /// Changes stored, over all feeds.
    pub fn change_count(&self) -> u64 {
        self.ends.changes()
    }

    /// Whether a device takes part in the community, and so may connect.
    pub fn knows_device(&self, device: &DeviceId) -> bool {
        match &self.kept {
            Some(kept) => kept.listing.knows(device),
            None => self.state.charter.is_member(device),
        }
    }

    /// Whether a device may fetch models from here. Keepers may not: models are
    /// not sealed.
    pub fn may_fetch(&self, device: &DeviceId) -> bool {
        self.state.charter.role_of(device).is_some_and(|role| role > Role::Keeper)
    }

    /// Devices that are worth dialling, this one among them.
    pub fn devices(&self) -> BTreeSet<DeviceId> {
        match &self.kept {
            Some(kept) => kept.listing.devices().chain(&*kept.told_of).copied().collect(),
            None => self.state.charter.devices.keys().copied().collect(),
        }
    }
}

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ingested {
    /// New changes were stored.
    Stored(usize),
    /// All of it was here already.
    Known,
    /// Its author or its channel is not known yet, or its author's quota is
    /// used up; it will be fetched again.
    Deferred,
}

/// A replica that cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// The intent is not possible; nothing was recorded.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The gate refused; nothing was stored.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The event cannot be sealed now.
    #[error(transparent)]
    Compose(#[from] ComposeError),
    /// The run is another community's.
    #[error("changes of another community")]
    OtherCommunity,
    /// This device cannot be a keeper.
    #[error(transparent)]
    Keeping(#[from] KeepingError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A feed does not open as an Automerge document.
    #[error("feed {feed}: {source}")]
    Document {
        /// Which feed.
        feed: FeedId,
        /// What Automerge says.
        source: Box<DocumentError>,
    },
    /// A name is not usable.
    #[error(transparent)]
    Name(#[from] TextError),
    /// Keys that came another way than by a feed cannot be kept.
    #[error("keeping keys beside the event store: {0}")]
    Keys(std::io::Error),
    /// The thread is gone.
    #[error("the event store is closed")]
    Closed,
    /// The thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

type Reply<T> = oneshot::Sender<Result<T, ReplicaError>>;

/// Governance keys, each sealed to one newcomer.
pub type SealedGovernance = Vec<(KeyId, SealedKey)>;

enum Command {
    Record(Box<Intent>, Reply<ChangeHash>),
    RevokeDevice(DeviceId, Option<Arc<RecoveryPhrase>>, Reply<ChangeHash>),
    Ingest(Box<Run>, Option<ChangeHash>, Reply<Ingested>),
    Compare(Known, Reply<Comparison>),
    ReadRun(FeedId, u64, Reply<Option<Run>>),
    ReadLine(FeedId, FeedPosition, u64, Reply<Option<LineRun>>),
    SealGovernance(SealingPublicKey, Reply<SealedGovernance>),
    LearnGovernance(SealedGovernance, Reply<()>),
    KeeperAnchor(Reply<KeeperAnchor>),
    Keep(Box<KeeperAnchor>, u64, Reply<()>),
    KeepUpTo(u64, Reply<()>),
    Import(Box<LineRun>, Reply<Ingested>),
    LearnSeals(Vec<VerifiedEvent>, Option<Arc<SealingKey>>, Reply<usize>),
    LearnWithPhrase(Arc<SealingKey>, Reply<usize>),
    Tend(Reply<()>),
    Audit(Reply<usize>),
    Close(oneshot::Sender<()>),
}

/// What a replica is opened with.
pub struct ReplicaConfig {
    /// `store.db`.
    pub path: PathBuf,
    /// Which community.
    pub community: CommunityId,
    /// This device's key.
    pub signer: Arc<dyn Signer>,
    /// This device's sealing key.
    pub sealing: SealingKey,
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for keys and nonces.
    pub entropy: Arc<dyn Entropy>,
    /// Up to where the views are, and could read: events beyond are handed to
    /// the observer when the replica opens.
    pub view_cursors: Vec<(LineId, u64)>,
}

/// A handle to the replica's thread; cheap to clone.
#[derive(Clone)]
pub struct Replica {
    device: DeviceId,
    path: Arc<Path>,
    inbox: SyncSender<Command>,
    snapshot: watch::Receiver<Snapshot>,
}

impl Replica {
    /// Reads the store back and starts the thread. `observer` is called on
    /// that thread with every update, first with what the views lack.
    ///
    /// # Errors
    /// When the store cannot be opened or read.
    pub fn open(
        config: ReplicaConfig,
        observer: impl FnMut(Update) + Send + 'static,
    ) -> Result<(Self, JoinHandle<()>), ReplicaError> {
        let (device, path) = (config.signer.device(), config.path.as_path().into());
        let (worker, snapshot) = Worker::open(config, Box::new(observer))?;
        let (inbox, commands) = sync_channel(INBOX);
        let thread = std::thread::Builder::new()
            .name("replica".into())
            .spawn(move || worker.run(&commands))
            .map_err(ReplicaError::Thread)?;
        Ok((Self { device, path, inbox, snapshot }, thread))
    }

    /// `store.db`. What belongs to it lies beside it, with other endings.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The device that writes here.
    pub const fn device(&self) -> DeviceId {
        self.device
    }

    /// Records what `intent` means, durably, and returns its change.
    ///
    /// # Errors
    /// A refusal, or a failing store.
    pub async fn record(&self, intent: Intent) -> Result<ChangeHash, ReplicaError> {
        self.call(|reply| Command::Record(Box::new(intent), reply)).await
    }

    /// Revokes a device of this device's person; with the phrase, whichever it is.
    ///
    /// # Errors
    /// A refusal, or a failing store.
    pub async fn revoke_device(
        &self,
        device: DeviceId,
        phrase: Option<Arc<RecoveryPhrase>>,
    ) -> Result<ChangeHash, ReplicaError> {
        self.call(|reply| Command::RevokeDevice(device, phrase, reply)).await
    }

    /// Offers a run from anywhere to the gate and stores what is new.
    ///
    /// # Errors
    /// A rejection, or a failing store.
    pub async fn ingest(&self, run: Run) -> Result<Ingested, ReplicaError> {
        self.call(|reply| Command::Ingest(Box::new(run), None, reply)).await
    }

    /// The same for a run that says what it follows, on whatever line.
    ///
    /// # Errors
    /// A rejection, or a failing store.
    pub async fn ingest_line(&self, run: LineRun) -> Result<Ingested, ReplicaError> {
        self.call(|reply| Command::Ingest(Box::new(run.run), Some(run.after), reply)).await
    }

    /// Compares what a peer has with what is stored.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn compare(&self, known: Known) -> Result<Comparison, ReplicaError> {
        self.call(|reply| Command::Compare(known, reply)).await
    }

    /// Every stored feed with its end; several where it parts.
    pub fn positions(&self) -> Vec<(FeedId, FeedPosition)> {
        self.snapshot.borrow().ends.iter().collect()
    }

    /// Stored changes of the first line of `feed` after `after_seq`, one
    /// frame's worth.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn read_run(&self, feed: FeedId, after_seq: u64) -> Result<Option<Run>, ReplicaError> {
        self.call(|reply| Command::ReadRun(feed, after_seq, reply)).await
    }

    /// The same of the line through `tip`.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn read_line(
        &self,
        feed: FeedId,
        tip: FeedPosition,
        after_seq: u64,
    ) -> Result<Option<LineRun>, ReplicaError> {
        self.call(|reply| Command::ReadLine(feed, tip, after_seq, reply)).await
    }

    /// The keys of the charter, sealed to a newcomer who was just admitted.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn seal_governance(
        &self,
        recipient: SealingPublicKey,
    ) -> Result<SealedGovernance, ReplicaError> {
        self.call(|reply| Command::SealGovernance(recipient, reply)).await
    }

    /// Takes the keys of the charter from whoever admitted this device. Keys
    /// that are not sealed to it change nothing.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn learn_governance(&self, keys: SealedGovernance) -> Result<(), ReplicaError> {
        self.call(|reply| Command::LearnGovernance(keys, reply)).await
    }

    /// What to tell a keeper that was just admitted: who takes part.
    ///
    /// # Errors
    /// When the thread is gone.
    pub async fn keeper_anchor(&self) -> Result<KeeperAnchor, ReplicaError> {
        self.call(Command::KeeperAnchor).await
    }

    /// Makes this a keeper's replica, from here on and after every opening: it
    /// carries up to `room_bytes` of payload (see [`ROOM_BYTES`]) for the
    /// devices that the lists name which follow from `anchor`. On a keeper's
    /// replica, starts over from another anchor; what is carried stays.
    ///
    /// # Errors
    /// Where this device reads the community already, or a file fails.
    pub async fn become_keeper(&self, anchor: KeeperAnchor, room_bytes: u64) -> Result<(), ReplicaError> {
        self.call(|reply| Command::Keep(Box::new(anchor), room_bytes, reply)).await
    }

    /// Changes how much payload this keeper carries at most, bytes; what is
    /// carried beyond that stays. On a member's replica, changes nothing.
    ///
    /// # Errors
    /// When the file beside the store fails.
    pub async fn keep_up_to(&self, room_bytes: u64) -> Result<(), ReplicaError> {
        self.call(|reply| Command::KeepUpTo(room_bytes, reply)).await
    }

    /// Whether a device takes part in the community, and so may connect.
    pub fn knows_device(&self, device: &DeviceId) -> bool {
        self.snapshot.borrow().knows_device(device)
    }

    /// Does what holders of keys owe others: seals, rotates, asks for what is
    /// missing. Called now and then, so that whoever is online helps.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn tend(&self) -> Result<(), ReplicaError> {
        self.call(Command::Tend).await
    }

    /// Opens every stored feed as an Automerge document and compares; returns
    /// how many there are.
    ///
    /// # Errors
    /// The first feed that differs, or a failing store.
    pub async fn audit(&self) -> Result<usize, ReplicaError> {
        self.call(Command::Audit).await
    }

    /// The state now.
    pub fn state(&self) -> Arc<CommunityState> {
        self.snapshot.borrow().state.clone()
    }

    /// The snapshot now.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.borrow().clone()
    }

    /// Follows the snapshot.
    pub fn watch(&self) -> watch::Receiver<Snapshot> {
        self.snapshot.clone()
    }

    /// Ends the thread; whatever was recorded before is stored.
    pub async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.send(Command::Close(reply)).await.is_ok() {
            let _ = closed.await;
        }
    }

    async fn call<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, ReplicaError> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply)).await?;
        answer.await.map_err(|_| ReplicaError::Closed)?
    }

    async fn send(&self, mut command: Command) -> Result<(), ReplicaError> {
        loop {
            match self.inbox.try_send(command) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(_)) => return Err(ReplicaError::Closed),
                // A full inbox drains within milliseconds; blocking here would
                // stop the runtime.
                Err(TrySendError::Full(back)) => command = back,
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }
}
