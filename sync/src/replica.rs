//! The replica: one community's truth on this device, on a thread of its own.
//!
//! The only writer of `store.db`. Every change enters here, one's own from an
//! [`Intent`] and a peer's from the network, and passes the same gate; then it
//! is stored durably; then the state is reduced and everyone who watches is
//! told. Callers are async tasks; SQLite never runs on their runtime.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use tokio::sync::{oneshot, watch};

use exo_model::amount::Amount;
use exo_model::codec;
use exo_model::community::{self, Community, CommunityState};
use exo_model::decide::{self, Intent, Refusal};
use exo_model::event::Event;
use exo_model::feed::document::{self, DocumentError};
use exo_model::feed::{self, Change, FeedId, FeedPosition, Rejection, Run, Stream, VerifiedEvent, gate};
use exo_model::id::{ChangeHash, ChannelId, CommunityId};
use exo_model::port::{ChangeStore as _, Clock, Signer};
use exo_model::text::{TextError, clean_name};

use crate::session::RUN_BYTES_MAX;
use crate::store::{Store, StoreError};

/// Commands that may wait; senders wait beyond it.
const INBOX: usize = 64;
/// Events handed to the observer at once while a store is read back.
const CATCH_UP_BATCH: usize = 256;

/// New events and the state they lead to, for views.
#[derive(Clone, Debug)]
pub struct Update {
    /// In feed order within each feed.
    pub events: Vec<VerifiedEvent>,
    /// After all of them.
    pub state: Arc<CommunityState>,
}

/// What everyone may watch.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The reduced state.
    pub state: Arc<CommunityState>,
    /// Hash over the ends of all feeds: equal replicas have equal digests.
    pub digest: [u8; 32],
    /// Changes stored, over all feeds.
    pub change_count: u64,
}

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ingested {
    /// New changes were stored.
    Stored(usize),
    /// All of it was here already.
    Known,
    /// Its author or its channel is not known yet; it will be fetched again.
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
    /// The run is another community's.
    #[error("changes of another community")]
    OtherCommunity,
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
    /// The thread is gone.
    #[error("the event store is closed")]
    Closed,
    /// The thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

type Reply<T> = oneshot::Sender<Result<T, ReplicaError>>;

enum Command {
    Record(Intent, Reply<ChangeHash>),
    Ingest(Box<Run>, Reply<Ingested>),
    Positions(Reply<Vec<(FeedId, FeedPosition)>>),
    ReadRun(FeedId, u64, Reply<Option<Run>>),
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
    /// Wall time.
    pub clock: Arc<dyn Clock>,
    /// Up to where the views are: events beyond are handed to the observer
    /// when the replica opens.
    pub view_cursors: Vec<(FeedId, u64)>,
}

/// A handle to the replica's thread; cheap to clone.
#[derive(Clone)]
pub struct Replica {
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
        let (worker, snapshot) = Worker::open(config, Box::new(observer))?;
        let (inbox, commands) = sync_channel(INBOX);
        let thread = std::thread::Builder::new()
            .name("replica".into())
            .spawn(move || worker.run(&commands))
            .map_err(ReplicaError::Thread)?;
        Ok((Self { inbox, snapshot }, thread))
    }

    /// Records what `intent` means, durably, and returns its change.
    ///
    /// # Errors
    /// A refusal, or a failing store.
    pub async fn record(&self, intent: Intent) -> Result<ChangeHash, ReplicaError> {
        self.call(|reply| Command::Record(intent, reply)).await
    }

    /// Offers a run from anywhere to the gate and stores what is new.
    ///
    /// # Errors
    /// A rejection, or a failing store.
    pub async fn ingest(&self, run: Run) -> Result<Ingested, ReplicaError> {
        self.call(|reply| Command::Ingest(Box::new(run), reply)).await
    }

    /// Every stored feed with its end.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn positions(&self) -> Result<Vec<(FeedId, FeedPosition)>, ReplicaError> {
        self.call(Command::Positions).await
    }

    /// Stored changes of `feed` after `after_seq`, one frame's worth.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn read_run(&self, feed: FeedId, after_seq: u64) -> Result<Option<Run>, ReplicaError> {
        self.call(|reply| Command::ReadRun(feed, after_seq, reply)).await
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

/// Founds a community: writes its first two charter events (founding, and the
/// channel "general") into the store at `path` and returns its id.
///
/// # Errors
/// When a name is not usable or the store fails.
pub fn found(
    path: &std::path::Path,
    signer: &dyn Signer,
    clock: &dyn Clock,
    founder_name: &str,
    name: &str,
    floor: Amount,
    random: [u8; 32],
) -> Result<CommunityId, ReplicaError> {
    let founder_name = clean_name("your name", founder_name)?;
    let name = clean_name("the community's name", name)?;
    let (nonce, channel) = random.split_at(16);
    let (nonce, channel) = (half(nonce), ChannelId::from_bytes(half(channel)));
    let (feed, start, change) =
        community::found(signer.device(), founder_name, name, floor, nonce, clock.now_ms());
    let mut store = Store::open(path)?;
    let mut community = Community::new(feed.community);
    let founded = gate::admit(feed::author(signer, feed, &start, change), &start)?;
    store.append(&founded)?;
    community.insert(founded.events());
    let general = Event::ChannelCreated { channel, name: "general".into() };
    let change = community.next_change(&general, clock.now_ms());
    let end = founded.end();
    store.append(&gate::admit(feed::author(signer, feed, &end, change), &end)?)?;
    Ok(feed.community)
}

fn half(bytes: &[u8]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(bytes);
    half
}

struct Worker {
    store: Store,
    community: Community,
    signer: Arc<dyn Signer>,
    clock: Arc<dyn Clock>,
    observer: Box<dyn FnMut(Update) + Send>,
    snapshot: watch::Sender<Snapshot>,
}

impl Worker {
    fn open(
        config: ReplicaConfig,
        observer: Box<dyn FnMut(Update) + Send>,
    ) -> Result<(Self, watch::Receiver<Snapshot>), ReplicaError> {
        let store = Store::open(&config.path)?;
        let community = Community::new(config.community);
        let empty = Snapshot { state: Arc::new(community.state().clone()), digest: [0; 32], change_count: 0 };
        let (snapshot, receiver) = watch::channel(empty);
        let mut worker =
            Self { store, community, signer: config.signer, clock: config.clock, observer, snapshot };
        let unseen = worker.read_back(&config.view_cursors)?;
        worker.publish(true)?;
        let state = worker.snapshot.borrow().state.clone();
        for batch in unseen.chunks(CATCH_UP_BATCH) {
            (worker.observer)(Update { events: batch.to_vec(), state: state.clone() });
        }
        if unseen.is_empty() {
            (worker.observer)(Update { events: Vec::new(), state });
        }
        Ok((worker, receiver))
    }

    /// Reads every stored change through the gate again (a damaged file is
    /// noticed here, not later) and returns what lies beyond the cursors.
    fn read_back(&mut self, cursors: &[(FeedId, u64)]) -> Result<Vec<VerifiedEvent>, ReplicaError> {
        let mut unseen = Vec::new();
        for (feed, end) in self.store.feeds(self.community.state().id)? {
            let seen = cursors.iter().find(|(id, _)| *id == feed).map_or(0, |(_, seq)| *seq);
            let mut at = FeedPosition::START;
            let mut hashes = Vec::new();
            while at.seq < end.seq {
                let run = self
                    .store
                    .read_run(&feed, at.seq, RUN_BYTES_MAX)?
                    .ok_or(StoreError::Damaged("changes are missing"))?;
                let accepted = gate::admit(run, &at)?;
                at = accepted.end();
                self.community.insert(accepted.events());
                hashes.extend(accepted.events().iter().map(|event| event.hash));
                unseen.extend(accepted.into_events().into_iter().filter(|event| event.seq > seen));
            }
            self.store.check(&feed, &hashes)?;
        }
        Ok(unseen)
    }

    fn run(mut self, commands: &Receiver<Command>) {
        while let Ok(command) = commands.recv() {
            match command {
                Command::Record(intent, reply) => answer(reply, self.record(intent)),
                Command::Ingest(run, reply) => answer(reply, self.ingest(*run)),
                Command::Positions(reply) => {
                    answer(reply, self.store.feeds(self.community.state().id).map_err(Into::into));
                }
                Command::ReadRun(feed, after_seq, reply) => {
                    answer(reply, self.store.read_run(&feed, after_seq, RUN_BYTES_MAX).map_err(Into::into));
                }
                Command::Audit(reply) => answer(reply, self.audit()),
                Command::Close(reply) => {
                    let _ = reply.send(());
                    return;
                }
            }
        }
    }

    fn record(&mut self, intent: Intent) -> Result<ChangeHash, ReplicaError> {
        let now_ms = self.clock.now_ms();
        let state = self.community.state();
        let (stream, event) = decide::decide(state, self.signer.device(), now_ms, intent)?;
        let feed = FeedId::new(state.id, self.signer.device(), stream);
        let change = self.community.next_change(&event, now_ms);
        let position = self.store.position(&feed)?;
        let accepted = gate::admit(feed::author(self.signer.as_ref(), feed, &position, change), &position)?;
        let hash = accepted.end().hash;
        self.keep(accepted)?;
        Ok(hash)
    }

    fn ingest(&mut self, run: Run) -> Result<Ingested, ReplicaError> {
        let feed = run.feed;
        if feed.community != self.community.state().id {
            return Err(ReplicaError::OtherCommunity);
        }
        // Founding comes first, from a device no state knows yet.
        let founding = feed.stream == Stream::Charter && self.community.state().members.is_empty();
        if !founding && !self.community.state().is_member(&feed.device) {
            return Ok(Ingested::Deferred);
        }
        // Feeds are bounded by members and channels.
        if matches!(feed.stream, Stream::Channel(channel) if !self.community.state().channels.contains_key(&channel))
        {
            return Ok(Ingested::Deferred);
        }
        let known = self.store.position(&feed)?;
        let Some(before) = run.first_seq.checked_sub(1) else {
            return Err(Rejection::OutOfPlace { first_seq: 0, known_seq: known.seq }.into());
        };
        let start = match before {
            0 => FeedPosition::START,
            seq => match self.store.hash_at(&feed, seq)? {
                Some(hash) => FeedPosition { seq, hash },
                None => {
                    return Err(
                        Rejection::OutOfPlace { first_seq: run.first_seq, known_seq: known.seq }.into()
                    );
                }
            },
        };
        let accepted = gate::admit(run, &start)?;
        if founding && !self.founds(accepted.events()) {
            return Ok(Ingested::Deferred);
        }
        let stored_at_end = self.store.hash_at(&feed, accepted.end().seq)?;
        let Some(new) = accepted.beyond(&known, stored_at_end)? else { return Ok(Ingested::Known) };
        let count = new.events().len();
        self.keep(new)?;
        Ok(Ingested::Stored(count))
    }

    /// Whether these are the charter events this community's id commits to, in
    /// the feed of the founder they name.
    fn founds(&self, events: &[VerifiedEvent]) -> bool {
        events.first().is_some_and(|first| {
            let named =
                matches!(&first.event, Ok(Event::Founded { founder, .. }) if *founder == first.feed.device);
            named && first.seq == 1 && first.payload_hash == *self.community.state().id.as_bytes()
        })
    }

    /// Stores durably, then reduces, then tells.
    fn keep(&mut self, run: gate::AcceptedRun) -> Result<(), ReplicaError> {
        self.store.append(&run)?;
        let changed = self.community.insert(run.events());
        self.publish(changed)?;
        let state = self.snapshot.borrow().state.clone();
        (self.observer)(Update { events: run.into_events(), state });
        Ok(())
    }

    fn publish(&mut self, state_changed: bool) -> Result<(), ReplicaError> {
        let feeds = self.store.feeds(self.community.state().id)?;
        let digest = *blake3_of(&feeds).as_bytes();
        let change_count = feeds.iter().map(|(_, end)| end.seq).sum();
        let state = if state_changed {
            Arc::new(self.community.state().clone())
        } else {
            self.snapshot.borrow().state.clone()
        };
        self.snapshot.send_replace(Snapshot { state, digest, change_count });
        Ok(())
    }

    fn audit(&self) -> Result<usize, ReplicaError> {
        let feeds = self.store.feeds(self.community.state().id)?;
        for (feed, end) in &feeds {
            let mut changes: Vec<Change> = Vec::new();
            while (changes.len() as u64) < end.seq {
                let run = self
                    .store
                    .read_run(feed, changes.len() as u64, RUN_BYTES_MAX)?
                    .ok_or(StoreError::Damaged("changes are missing"))?;
                changes.extend(run.changes);
            }
            let head = document::audit(feed, &changes)
                .map_err(|source| ReplicaError::Document { feed: *feed, source: Box::new(source) })?;
            if head != end.hash {
                return Err(StoreError::Damaged("a feed's end is another change").into());
            }
        }
        Ok(feeds.len())
    }
}

fn blake3_of(feeds: &[(FeedId, FeedPosition)]) -> exo_model::id::BlobHash {
    exo_model::hash::blake3(&codec::encode(&feeds.to_vec()))
}

fn answer<T>(reply: Reply<T>, result: Result<T, ReplicaError>) {
    // Whoever asked may have gone; what was done stays done.
    let _ = reply.send(result);
}
