//! The thread behind a replica.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use tokio::sync::watch;

use exo_model::codec;
use exo_model::community::{Community, ComposeError, Inserted};
use exo_model::decide::{self, Intent, Refusal};
use exo_model::event::Event;
use exo_model::feed::gate::AcceptedRun;
use exo_model::feed::{Change, FeedId, FeedPosition, Stream, VerifiedEvent, document, gate};
use exo_model::id::ChangeHash;
use exo_model::ledger::LedgerFault;
use exo_model::port::{ChangeStore as _, Clock, Entropy, Signer};
use exo_model::quota::Quotas;

use super::intake::waiting;
use super::{Command, ReplicaConfig, ReplicaError, Reply, Snapshot, Update};
use crate::session::RUN_BYTES_MAX;
use crate::store::{Store, StoreError};

/// Events handed to the observer at once while a store is read back.
const CATCH_UP_BATCH: usize = 256;
/// Most events that count written before an intent is decided again; each
/// names up to [`COUNTED_MAX`](exo_model::event::ledger::COUNTED_MAX) others.
const COUNTS_AT_ONCE: usize = 64;

pub(super) struct Worker {
    pub(super) store: Store,
    pub(super) community: Community,
    pub(super) quotas: Quotas,
    pub(super) clock: Arc<dyn Clock>,
    signer: Arc<dyn Signer>,
    pub(super) entropy: Arc<dyn Entropy>,
    observer: Box<dyn FnMut(Update) + Send>,
    snapshot: watch::Sender<Snapshot>,
}

impl Worker {
    pub(super) fn open(
        config: ReplicaConfig,
        observer: Box<dyn FnMut(Update) + Send>,
    ) -> Result<(Self, watch::Receiver<Snapshot>), ReplicaError> {
        let store = Store::open(&config.path)?;
        let community = Community::new(config.community, config.signer.device(), config.sealing);
        let empty = Snapshot { state: Arc::new(community.state().clone()), digest: [0; 32], change_count: 0 };
        let (snapshot, receiver) = watch::channel(empty);
        let mut worker = Self {
            store,
            community,
            quotas: Quotas::default(),
            clock: config.clock,
            signer: config.signer,
            entropy: config.entropy,
            observer,
            snapshot,
        };
        let events = worker.read_back()?;
        worker.publish(true)?;
        let cursors: BTreeMap<FeedId, u64> = config.view_cursors.into_iter().collect();
        let is_seen = |event: &VerifiedEvent| cursors.get(&event.feed).is_some_and(|seq| event.seq <= *seq);
        // Keys that the views have not seen may open what they were told as
        // unreadable, before a crash.
        let outdated = !cursors.is_empty()
            && events.iter().any(|event| event.feed.stream == Stream::Keys && !is_seen(event));
        let unseen = events.into_iter().filter(|event| outdated || !is_seen(event)).collect();
        worker.tell(unseen, outdated);
        Ok((worker, receiver))
    }

    /// Reads every stored change through the gate again (a damaged file is
    /// noticed here, not later). Feeds come in the order of their streams:
    /// keys first, then the charter, then what these open.
    fn read_back(&mut self) -> Result<Vec<VerifiedEvent>, ReplicaError> {
        let mut back = ReadBack::default();
        let mut charter = Vec::new();
        for (feed, _) in self.store.feeds(self.community.id())? {
            let runs = self.read_feed(&feed)?;
            let hashes: Vec<_> = runs.iter().flat_map(|run| run.hashes()).copied().collect();
            self.store.check(&feed, &hashes)?;
            if feed.stream == Stream::Charter {
                charter.push(VecDeque::from(runs));
                continue;
            }
            if feed.stream > Stream::Charter {
                self.read_charter_back(std::mem::take(&mut charter), &mut back);
            }
            runs.iter().for_each(|run| back.take(self.community.insert(run)));
        }
        self.read_charter_back(charter, &mut back);
        if !back.reopen.is_empty() {
            self.reopen(back.reopen)?;
            return self.read_all();
        }
        Ok(back.events)
    }

    /// Charter feeds cite each other: each goes as far as the room for what
    /// waits lets it, in turn.
    fn read_charter_back(&mut self, mut feeds: Vec<VecDeque<AcceptedRun>>, back: &mut ReadBack) {
        loop {
            let before: usize = feeds.iter().map(VecDeque::len).sum();
            for feed in &mut feeds {
                while let Some(run) = feed.front()
                    && waiting(&self.community, run) <= self.community.waiting_room(&run.feed().device)
                {
                    back.take(self.community.insert(run));
                    feed.pop_front();
                }
            }
            if feeds.iter().map(VecDeque::len).sum::<usize>() == before {
                break;
            }
        }
        for run in feeds.iter().flatten() {
            back.take(self.community.insert(run));
        }
    }

    /// All runs of a stored feed, through the gate.
    fn read_feed(&self, feed: &FeedId) -> Result<Vec<AcceptedRun>, ReplicaError> {
        let end = self.store.position(feed)?;
        let mut at = FeedPosition::START;
        let mut runs = Vec::new();
        while at.seq < end.seq {
            let run = self
                .store
                .read_run(feed, at.seq, RUN_BYTES_MAX)?
                .ok_or(StoreError::Damaged("changes are missing"))?;
            let run = gate::admit(run, &at)?;
            at = run.end();
            runs.push(run);
        }
        Ok(runs)
    }

    /// Every stored event, as far as it can be opened now.
    fn read_all(&mut self) -> Result<Vec<VerifiedEvent>, ReplicaError> {
        let mut events = Vec::new();
        for (feed, _) in self.store.feeds(self.community.id())? {
            let runs = self.read_feed(&feed)?;
            events.extend(self.community.reopen(&feed, &runs).events);
        }
        Ok(events)
    }

    /// Reads feeds again that a new key opens, and those that these open in
    /// turn.
    pub(super) fn reopen(&mut self, feeds: BTreeSet<FeedId>) -> Result<(), ReplicaError> {
        let mut open = feeds;
        while let Some(feed) = open.pop_first() {
            let runs = self.read_feed(&feed)?;
            open.extend(self.community.reopen(&feed, &runs).reopen);
        }
        Ok(())
    }

    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        while let Ok(command) = commands.recv() {
            match command {
                Command::Record(intent, reply) => answer(reply, self.record(*intent)),
                Command::Ingest(run, reply) => answer(reply, self.ingest(*run)),
                Command::Positions(reply) => {
                    answer(reply, self.store.feeds(self.community.id()).map_err(Into::into));
                }
                Command::ReadRun(feed, after_seq, reply) => {
                    answer(reply, self.store.read_run(&feed, after_seq, RUN_BYTES_MAX).map_err(Into::into));
                }
                Command::SealGovernance(recipient, reply) => {
                    answer(reply, Ok(self.seal_governance(&recipient)))
                }
                Command::LearnGovernance(keys, reply) => answer(reply, self.learn_governance(&keys)),
                Command::Tend(reply) => answer(reply, self.tend()),
                Command::Audit(reply) => answer(reply, self.audit()),
                Command::Close(reply) => {
                    let _ = reply.send(());
                    return;
                }
            }
        }
    }

    pub(super) fn record(&mut self, intent: Intent) -> Result<ChangeHash, ReplicaError> {
        let (stream, event) = self.decide(intent)?;
        let hash = self.write(stream, &event)?;
        if stream == Stream::Charter {
            // Whoever let someone in or put someone out sees to the keys. The
            // intent is recorded whatever comes of that; it is tried again.
            if let Err(error) = self.tend() {
                tracing::warn!(%error, "tending keys");
            }
        }
        Ok(hash)
    }

    /// Decides an intent. One that commits more credit than is free counts
    /// first what came in and what closed locks gave back.
    fn decide(&mut self, intent: Intent) -> Result<(Stream, Event), ReplicaError> {
        let now_ms = self.clock.now_ms();
        let retried = commits_credit(&intent).then(|| intent.clone());
        match (decide::decide(&self.community, now_ms, intent), retried) {
            (Err(Refusal::Ledger(LedgerFault::Headroom { .. })), Some(intent)) => {
                self.count()?;
                Ok(decide::decide(&self.community, now_ms, intent)?)
            }
            (decided, _) => Ok(decided?),
        }
    }

    /// Counts as long as there is something to count; what is counted does not
    /// come again, so this ends.
    fn count(&mut self) -> Result<(), ReplicaError> {
        for _ in 0..COUNTS_AT_ONCE {
            match decide::decide(&self.community, self.clock.now_ms(), Intent::Count) {
                Ok((stream, event)) => drop(self.write(stream, &event)?),
                Err(Refusal::NothingToCount) => return Ok(()),
                Err(refusal) => {
                    tracing::debug!(%refusal, "counting");
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Writes an event of one's own; starts an epoch first where there is none
    /// to write under.
    pub(super) fn write(&mut self, stream: Stream, event: &Event) -> Result<ChangeHash, ReplicaError> {
        if let Some(audience) = stream.audience()
            && self.community.writing_key(&audience).is_none()
        {
            if self.community.has_fit_epoch(&audience) {
                return Err(ComposeError::NoEpoch(audience).into());
            }
            self.rotate(audience)?;
        }
        let run = write_into(
            &mut self.store,
            &mut self.community,
            self.signer.as_ref(),
            self.clock.as_ref(),
            self.entropy.as_ref(),
            stream,
            event,
        )?;
        let hash = run.hash;
        self.told(run.inserted)?;
        Ok(hash)
    }

    /// Stores what a peer sent, then reduces, then tells. A power cut may take
    /// the last of it along; then it is fetched again.
    pub(super) fn keep(&mut self, run: &AcceptedRun) -> Result<(), ReplicaError> {
        self.store.append_received(run)?;
        let inserted = self.community.insert(run);
        self.told(inserted)
    }

    fn told(&mut self, inserted: Inserted) -> Result<(), ReplicaError> {
        if inserted.reopen.is_empty() {
            self.publish(inserted.changed)?;
            self.tell(inserted.events, false);
            return Ok(());
        }
        self.reopen(inserted.reopen)?;
        self.tell_again()
    }

    /// Tells the observer everything from the start.
    pub(super) fn tell_again(&mut self) -> Result<(), ReplicaError> {
        let events = self.read_all()?;
        self.publish(true)?;
        self.tell(events, true);
        Ok(())
    }

    fn tell(&mut self, events: Vec<VerifiedEvent>, from_start: bool) {
        let state = self.snapshot.borrow().state.clone();
        if events.len() <= CATCH_UP_BATCH {
            (self.observer)(Update { events, state, from_start });
            return;
        }
        for (index, batch) in events.chunks(CATCH_UP_BATCH).enumerate() {
            let from_start = from_start && index == 0;
            (self.observer)(Update { events: batch.to_vec(), state: state.clone(), from_start });
        }
    }

    fn publish(&mut self, state_changed: bool) -> Result<(), ReplicaError> {
        let feeds = self.store.feeds(self.community.id())?;
        let digest = *exo_model::hash::blake3(&codec::encode(&feeds)).as_bytes();
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
        let feeds = self.store.feeds(self.community.id())?;
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

/// What reading the store back has brought so far.
#[derive(Default)]
struct ReadBack {
    events: Vec<VerifiedEvent>,
    reopen: BTreeSet<FeedId>,
}

impl ReadBack {
    fn take(&mut self, inserted: Inserted) {
        self.events.extend(inserted.events);
        self.reopen.extend(inserted.reopen);
    }
}

/// Whether the intent is refused where the headroom does not reach.
const fn commits_credit(intent: &Intent) -> bool {
    matches!(
        intent,
        Intent::Lock { .. } | Intent::Order { .. } | Intent::Transfer { .. } | Intent::PostBounty { .. }
    )
}

/// What writing an event of one's own brought.
pub(super) struct Written {
    pub(super) hash: ChangeHash,
    pub(super) inserted: Inserted,
}

/// Composes, signs, passes the gate, stores durably, reduces: in this order.
pub(super) fn write_into(
    store: &mut Store,
    community: &mut Community,
    signer: &dyn Signer,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
    stream: Stream,
    event: &Event,
) -> Result<Written, ReplicaError> {
    let end = store.end_of(community.id(), signer.device(), stream)?;
    let composed = community.compose(signer, stream, end, event, clock.now_ms(), entropy)?;
    let run = gate::author(signer, composed.feed, &composed.position, composed.change)?;
    store.append(&run)?;
    Ok(Written { hash: run.end().hash, inserted: community.insert(&run) })
}

pub(super) fn answer<T>(reply: Reply<T>, result: Result<T, ReplicaError>) {
    // Whoever asked may have gone; what was done stays done.
    let _ = reply.send(result);
}
