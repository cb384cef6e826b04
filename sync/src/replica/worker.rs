//! The thread behind a replica.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use tokio::sync::watch;

use exo_model::certificate::PhraseRevocation;
use exo_model::community::{Community, ComposeError, Inserted};
use exo_model::decide::{self, Intent, Refusal};
use exo_model::envelope::HEADS_MAX;
use exo_model::event::Event;
use exo_model::feed::gate::AcceptedRun;
use exo_model::feed::{Change, FeedId, FeedPosition, LineId, Stream, VerifiedEvent, document, gate};
use exo_model::id::{ChangeHash, DeviceId};
use exo_model::ledger::LedgerFault;
use exo_model::phrase::RecoveryPhrase;
use exo_model::port::{ChangeStore as _, Clock, Entropy, Signer, StoredLine};
use exo_model::quota::Quotas;

use super::intake::Origin;
use super::keeping::{Keeping, KeepingError};
use super::kept::KeptKeys;
use super::reading::replacing;
use super::remembering::Memory;
use super::{Command, ReplicaConfig, ReplicaError, Reply, Snapshot, Update};
use crate::session::{self, Comparison, Ends, Known, LineRun, RUN_BYTES_MAX};
use crate::store::{Store, StoreError};

/// Events handed to the observer at once while a store is read back.
const CATCH_UP_BATCH: usize = 256;
/// Feeds by which one comparison begins after another.
const COMPARE_STEP: usize = 61;
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
    pub(super) memory: Memory,
    /// Where all lines end.
    ends: Arc<Ends>,
    /// `store.db`.
    pub(super) path: PathBuf,
    /// What this replica goes by, if it is a keeper's.
    pub(super) keeping: Option<Keeping>,
    pub(super) kept: KeptKeys,
    /// Where the next comparison begins.
    compared: usize,
    observer: Box<dyn FnMut(Update) + Send>,
    snapshot: watch::Sender<Snapshot>,
}

impl Worker {
    pub(super) fn open(
        config: ReplicaConfig,
        observer: Box<dyn FnMut(Update) + Send>,
    ) -> Result<(Self, watch::Receiver<Snapshot>), ReplicaError> {
        let store = Store::open(&config.path)?;
        let memory = Memory::beside(&config.path);
        let kept = KeptKeys::beside(&config.path);
        let community = Community::new(config.community, config.signer.device(), config.sealing);
        let keeping = Keeping::read(&config.path)?;
        if keeping.as_ref().is_some_and(|keeping| keeping.community() != config.community) {
            return Err(KeepingError::OtherCommunity.into());
        }
        let ends = Arc::new(Ends::of(config.community, &store.lines(config.community)?));
        let state = Arc::new(community.state().clone());
        let empty = Snapshot { state, ends: ends.clone(), topics: Arc::default(), kept: None };
        let (snapshot, receiver) = watch::channel(empty);
        let mut worker = Self {
            store,
            community,
            quotas: Quotas::default(),
            clock: config.clock,
            signer: config.signer,
            entropy: config.entropy,
            memory,
            ends,
            path: config.path,
            keeping,
            kept,
            compared: 0,
            observer,
            snapshot,
        };
        if worker.keeping.is_some() {
            worker.read_kept()?;
            worker.publish(false);
            return Ok((worker, receiver));
        }
        worker.recall_keys();
        let cursors: BTreeMap<LineId, u64> = config.view_cursors.into_iter().collect();
        let events = worker.read_back(&cursors)?;
        worker.note_changes(events.len());
        worker.publish(true);
        let is_seen = |event: &VerifiedEvent| cursors.get(&event.line()).is_some_and(|seq| event.seq <= *seq);
        worker.tell(events.into_iter().filter(|event| !is_seen(event)).collect());
        Ok((worker, receiver))
    }

    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        while let Ok(command) = commands.recv() {
            match command {
                Command::Record(intent, reply) => answer(reply, self.record(*intent)),
                Command::RevokeDevice(device, phrase, reply) => {
                    answer(reply, self.revoke_device(device, phrase.as_deref()));
                }
                Command::Ingest(run, after, reply) => {
                    answer(reply, self.ingest(*run, after, Origin::Peer));
                }
                Command::Compare(known, reply) => answer(reply, self.compare(&known)),
                Command::ReadRun(feed, after_seq, reply) => {
                    answer(reply, self.store.read_run(feed, after_seq, RUN_BYTES_MAX).map_err(Into::into));
                }
                Command::ReadLine(feed, tip, after_seq, reply) => {
                    answer(reply, self.read_line(&feed, &tip, after_seq));
                }
                Command::SealGovernance(recipient, reply) => {
                    answer(reply, Ok(self.seal_governance(&recipient)))
                }
                Command::LearnGovernance(keys, reply) => answer(reply, self.learn_governance(&keys)),
                Command::KeeperAnchor(reply) => answer(reply, Ok(self.community.keeper_anchor())),
                Command::Keep(anchor, room_bytes, reply) => {
                    answer(reply, self.become_keeper(*anchor, room_bytes));
                }
                Command::KeepUpTo(room_bytes, reply) => answer(reply, self.keep_up_to(room_bytes)),
                Command::Import(run, reply) => {
                    let LineRun { after, run } = *run;
                    answer(reply, self.ingest(run, Some(after), Origin::Archive));
                }
                Command::LearnSeals(events, recovery, reply) => {
                    answer(reply, self.learn_seals(&events, recovery.as_deref()));
                }
                Command::LearnWithPhrase(recovery, reply) => {
                    answer(reply, self.learn_with_phrase(&recovery));
                }
                Command::Tend(reply) => answer(reply, self.tend()),
                Command::Audit(reply) => answer(reply, self.audit()),
                Command::Close(reply) => {
                    self.remember();
                    let _ = reply.send(());
                    return;
                }
            }
        }
    }

    pub(super) fn record(&mut self, intent: Intent) -> Result<ChangeHash, ReplicaError> {
        if self.keeping.is_some() {
            // A keeper has nothing to say, and no key to say it with.
            return Err(Refusal::NotAMember.into());
        }
        let (stream, event) = self.decide(intent)?;
        let hash = self.write(stream, &event)?;
        if stream == Stream::Charter {
            // Whoever let someone in or put someone out sees to the keys. The
            // intent is recorded whatever comes of that; it is tried again.
            if let Err(error) = self.tend_keys() {
                tracing::warn!(%error, "tending keys");
            }
        }
        Ok(hash)
    }

    /// What the phrase signs is how far the device's feeds still count, and that
    /// is known here.
    fn revoke_device(
        &mut self,
        device: DeviceId,
        phrase: Option<&RecoveryPhrase>,
    ) -> Result<ChangeHash, ReplicaError> {
        let fence = self.community.fence_of(&BTreeSet::from([device])).hash();
        let community = self.community.id();
        let phrase = phrase.map(|phrase| PhraseRevocation::sign(phrase, &community, device, &fence));
        self.record(Intent::RevokeDevice { device, phrase })
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
        if stream != Stream::Charter {
            self.join_heads(HEADS_MAX)?;
        }
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
        self.note_ends(&run.feed)?;
        self.told(run.inserted)?;
        Ok(run.hash)
    }

    /// Writes governance acts that change nothing until the charter has no more
    /// heads than this: each joins as many as it can cite.
    pub(super) fn join_heads(&mut self, upto: usize) -> Result<(), ReplicaError> {
        let mut open = self.community.heads().len();
        while open > upto {
            let charter = &self.community.state().charter;
            let me = charter.person_of(&self.community.device());
            let me = me.and_then(|person| charter.members.get(&person)).ok_or(ComposeError::Heads)?;
            let profile = Intent::SetProfile { name: me.name.clone(), about: me.about.clone() };
            let (stream, event) = decide::decide(&self.community, self.clock.now_ms(), profile)?;
            self.write(stream, &event)?;
            let left = self.community.heads().len();
            if left >= open {
                return Err(ComposeError::Heads.into());
            }
            open = left;
        }
        Ok(())
    }

    /// Stores what a peer sent, then reduces, then tells. A power cut may take
    /// the last of it along; then it is fetched again.
    pub(super) fn keep(&mut self, run: &AcceptedRun) -> Result<(), ReplicaError> {
        let line = self.store.append_received(run)?;
        self.note_ends(run.feed())?;
        let parts = line.id.number > 0 && run.start().seq == line.base_seq;
        let inserted = if parts { self.open_line(&line)? } else { self.community.insert_on(line.id, run) };
        self.told(inserted)
    }

    /// Publishes and tells what was inserted, and what it opens.
    pub(super) fn told(&mut self, inserted: Inserted) -> Result<(), ReplicaError> {
        self.note_changes(inserted.events.len());
        // With keys, topics change.
        let keys = inserted.events.iter().any(|event| event.feed.stream == Stream::Keys);
        let changed = inserted.changed || keys || !inserted.reopen.is_empty();
        let again = self.reopen(inserted.reopen)?;
        self.publish(changed);
        self.tell(replacing(inserted.events, again));
        Ok(())
    }

    fn tell(&mut self, events: Vec<VerifiedEvent>) {
        let state = self.snapshot.borrow().state.clone();
        if events.len() <= CATCH_UP_BATCH {
            (self.observer)(Update { events, state });
            return;
        }
        for batch in events.chunks(CATCH_UP_BATCH) {
            (self.observer)(Update { events: batch.to_vec(), state: state.clone() });
        }
    }

    pub(super) fn publish(&mut self, state_changed: bool) {
        let before = self.snapshot.borrow().clone();
        let ends = self.ends.clone();
        let kept = self.keeping.as_ref().map(Keeping::kept);
        let after = if state_changed {
            let topics = self.topics();
            let topics = if topics == *before.topics { before.topics } else { Arc::new(topics) };
            Snapshot { state: Arc::new(self.community.state().clone()), ends, topics, kept }
        } else {
            Snapshot { ends, kept, ..before }
        };
        self.snapshot.send_replace(after);
    }

    /// Notes where the lines of a feed end after something was appended.
    pub(super) fn note_ends(&mut self, feed: &FeedId) -> Result<(), ReplicaError> {
        let lines = self.store.lines_of(feed)?;
        Arc::make_mut(&mut self.ends).set(feed, &lines);
        Ok(())
    }

    /// The snapshot now.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.snapshot.borrow().clone()
    }

    pub(super) fn compare(&mut self, known: &Known) -> Result<Comparison, ReplicaError> {
        let lines = match known.ranges() {
            Some(ranges) => {
                let community = self.community.id();
                let places = ranges.iter().flat_map(|range| self.ends.places_in(range));
                self.stored_lines(places.map(|place| place.feed(community)).collect())?
            }
            None => match known {
                Known::All(_) => self.store.lines(self.community.id())?,
                Known::Some(_) => self.stored_lines(known.feeds())?,
            },
        };
        self.compared = self.compared.wrapping_add(COMPARE_STEP);
        Ok(session::compare(&self.store, &lines, known, self.compared)?)
    }

    fn stored_lines(&self, feeds: BTreeSet<FeedId>) -> Result<Vec<StoredLine>, ReplicaError> {
        let mut lines = Vec::new();
        for feed in feeds {
            lines.extend(self.store.lines_of(&feed)?);
        }
        Ok(lines)
    }

    pub(super) fn read_line(
        &self,
        feed: &FeedId,
        tip: &FeedPosition,
        after_seq: u64,
    ) -> Result<Option<LineRun>, ReplicaError> {
        let Some(line) = self.store.line_through(feed, tip)? else { return Ok(None) };
        let Some(run) = self.store.read_run(line, after_seq, RUN_BYTES_MAX)? else { return Ok(None) };
        let after = match after_seq {
            0 => FeedPosition::START.hash,
            seq => self.store.hash_at(line, seq)?.ok_or(StoreError::Damaged("changes are missing"))?,
        };
        Ok(Some(LineRun { after, run }))
    }

    fn audit(&self) -> Result<usize, ReplicaError> {
        let lines = self.store.lines(self.community.id())?;
        for line in &lines {
            let feed = line.id.feed;
            let mut changes: Vec<Change> = Vec::new();
            while (changes.len() as u64) < line.end.seq {
                let run = self
                    .store
                    .read_run(line.id, changes.len() as u64, RUN_BYTES_MAX)?
                    .ok_or(StoreError::Damaged("changes are missing"))?;
                changes.extend(run.changes);
            }
            let head = document::audit(&feed, &changes)
                .map_err(|source| ReplicaError::Document { feed, source: Box::new(source) })?;
            if head != line.end.hash {
                return Err(StoreError::Damaged("a feed's end is another change").into());
            }
        }
        Ok(lines.len())
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
    feed: FeedId,
    hash: ChangeHash,
    inserted: Inserted,
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
    Ok(Written { feed: composed.feed, hash: run.end().hash, inserted: community.insert(&run) })
}

pub(super) fn answer<T>(reply: Reply<T>, result: Result<T, ReplicaError>) {
    // Whoever asked may have gone; what was done stays done.
    let _ = reply.send(result);
}
