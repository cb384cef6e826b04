//! What the set of all events means: `reduce`.
//!
//! [`Community`] takes the runs that the gate accepted, opens their events
//! with the keys of this device, and keeps what shapes the shared state: the
//! charter, epochs, the ledger, machines and models. Words are opened and
//! handed on; they shape views and [conversations](crate::conversation), not
//! the state. The state is a function of the *set* of events: whatever order
//! they arrive in, every device that can read them comes to the same one.
//!
//! Never here: files, clocks, judgement of the network.

mod compose;
mod insight;
mod keys;
mod places;
mod roll;
pub mod snapshot;
mod state;
mod words;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::charter::Charter;
use crate::cluster::{Machines, Models};
use crate::envelope::LAMPORT_MAX;
use crate::epochs::Epochs;
use crate::event::keys::Audience;
use crate::event::{Event, LibraryEvent, TalkEvent};
use crate::feed::opening::{FeedContext, Keyring};
use crate::feed::{AcceptedRun, FeedId, LineId, Meaningless, Stream, VerifiedEvent};
use crate::id::{CommunityId, DeviceId, KeyId};
use crate::ledger::{Ledger, Posted};
use crate::moderation::ReportQueue;
use crate::roll::Roll;
use crate::sealing::SealingKey;

pub use compose::{ComposeError, Composed, FeedEnd, found};
pub use insight::Checkpoint;
pub use state::CommunityState;
use words::Entitled;
pub use words::WordStanding;

/// Furthest an event may be ahead of the clock and still move it.
pub const LAMPORT_JUMP_MAX: u64 = 1 << 32;
/// Most reports that wait for charter events; further ones come up when their
/// feed is read again.
const REPORTS_WAITING_MAX: usize = 256;
/// Most faulty seals remembered until they are complained about.
const FAULTS_MAX: usize = 64;

/// What a run brought.
#[derive(Clone, Debug, Default)]
pub struct Inserted {
    /// The run's events, opened where this device has the key.
    pub events: Vec<VerifiedEvent>,
    /// Whether the state may have changed.
    pub changed: bool,
    /// Feeds that can be read further than before: read all their lines again
    /// from the first change with [`Community::reopen_line`].
    pub reopen: BTreeSet<FeedId>,
}

/// The device that holds this replica.
struct Local {
    device: DeviceId,
    sealing: SealingKey,
}

/// A community's events and what they mean.
pub struct Community {
    id: CommunityId,
    local: Local,
    charter: Charter,
    epochs: Epochs,
    /// Lists for keepers.
    roll: Roll,
    /// Whether there was nothing to list when that was looked at last, and
    /// nothing changed since.
    lists_are_right: Cell<bool>,
    ledger: Arc<Ledger>,
    machines: Machines,
    models: Models,
    keyring: Keyring,
    contexts: BTreeMap<LineId, FeedContext>,
    /// Feeds with events that are sealed with a key that is not here.
    sealed: BTreeMap<KeyId, BTreeSet<FeedId>>,
    /// Seals for this device that do not open to what they should.
    faults: BTreeSet<(Audience, KeyId)>,
    /// Greatest Lamport time of a member's readable event.
    lamport: u64,
    /// Keys to write with, as they were found last.
    writing: RefCell<BTreeMap<Audience, Option<KeyId>>>,
    /// Whose right to write was looked up last: consecutive words of one feed
    /// share their heads.
    entitled: RefCell<Option<Entitled>>,
    reports: ReportQueue,
    waiting_reports: Vec<VerifiedEvent>,
    state: CommunityState,
}

impl Community {
    /// A community of which nothing is known yet but its id, on `device` with
    /// its sealing key.
    pub fn new(id: CommunityId, device: DeviceId, sealing: SealingKey) -> Self {
        let charter = Charter::new(id);
        Self {
            id,
            local: Local { device, sealing },
            ledger: Arc::new(Ledger::new(id)),
            charter,
            epochs: Epochs::default(),
            roll: Roll::default(),
            lists_are_right: Cell::default(),
            machines: Machines::default(),
            models: Models::default(),
            keyring: Keyring::default(),
            contexts: BTreeMap::new(),
            sealed: BTreeMap::new(),
            faults: BTreeSet::new(),
            lamport: 0,
            writing: RefCell::default(),
            entitled: RefCell::default(),
            reports: ReportQueue::default(),
            waiting_reports: Vec::new(),
            state: CommunityState::empty(id),
        }
    }

    /// The community.
    pub const fn id(&self) -> CommunityId {
        self.id
    }

    /// The device that holds this replica.
    pub const fn device(&self) -> DeviceId {
        self.local.device
    }

    /// The state that all inserted events reduce to.
    pub const fn state(&self) -> &CommunityState {
        &self.state
    }

    /// Governance in full.
    pub const fn charter(&self) -> &Charter {
        &self.charter
    }

    /// Epochs in full.
    pub const fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// Keys that this device holds.
    pub const fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// Takes a run that continues its feed's first line, in any order among
    /// feeds.
    pub fn insert(&mut self, run: &AcceptedRun) -> Inserted {
        self.insert_on((*run.feed()).into(), run)
    }

    /// Takes a run that continues a line of its feed. A line that parts from
    /// another is read with [`Self::reopen_line`] first.
    pub fn insert_on(&mut self, line: LineId, run: &AcceptedRun) -> Inserted {
        let mut inserted = Inserted::default();
        let context = self.contexts.entry(line).or_default();
        if context.at != run.start() {
            // A feed that is read again starts over, in `reopen`.
            return inserted;
        }
        for (change, hash) in run.changes().iter().zip(run.hashes()) {
            inserted.events.push(context.open(&line, change, *hash, &self.keyring));
        }
        self.take(&mut inserted);
        inserted
    }

    /// Reads the first line of a feed again from its first change, because a
    /// key arrived that opens more of it. `runs` are all of the line's, in
    /// order.
    pub fn reopen(&mut self, feed: &FeedId, runs: &[AcceptedRun]) -> Inserted {
        self.reopen_line((*feed).into(), FeedContext::default(), runs)
    }

    /// Reads a line of a feed, for the first time or again: all its runs from
    /// the feed's first change on, or from where it parts from another line,
    /// with what it inherits from there.
    pub fn reopen_line(&mut self, line: LineId, from: FeedContext, runs: &[AcceptedRun]) -> Inserted {
        let mut inserted = Inserted::default();
        let mut context = from;
        for (change, hash) in runs.iter().flat_map(|run| run.changes().iter().zip(run.hashes())) {
            inserted.events.push(context.open(&line, change, *hash, &self.keyring));
        }
        self.contexts.insert(line, context);
        self.take(&mut inserted);
        inserted
    }

    /// Takes opened events, charter first: everything else is judged by it.
    fn take(&mut self, inserted: &mut Inserted) {
        let mut charter = Vec::new();
        let mut postings = Vec::new();
        let mut things = false;
        let mut keys = false;
        let mut listed = false;
        for event in &inserted.events {
            listed |= self.roll.take(event);
            match &event.event {
                Err(Meaningless::NoKey(key)) => {
                    self.sealed.entry(*key).or_default().insert(event.feed);
                }
                Ok(Event::Charter(_)) => charter.push(event),
                Err(_) if event.feed.stream == Stream::Charter => charter.push(event),
                _ if event.feed.stream == Stream::Ledger => postings.extend(Posted::of(event)),
                Ok(Event::Cluster(body)) => things |= self.machines.insert(event, body),
                Ok(Event::Library(LibraryEvent::ModelAdded { manifest })) => {
                    things |= self.models.insert(event, manifest);
                }
                Ok(Event::Keys(body)) => {
                    self.epochs.insert(event, body);
                    keys = true;
                }
                Ok(Event::Talk(TalkEvent::DirectOpened { people })) => self.learn_direct(event, people),
                _ => {}
            }
        }
        let judged = self.charter.generation();
        let charter_changed = self.charter.insert(charter);
        if listed || charter_changed {
            self.lists_are_right.set(false);
        }
        if keys || charter_changed {
            self.forget_answers();
        }
        if keys {
            let unlocked = self.open_seals(&inserted.events);
            inserted.reopen.extend(unlocked);
        }
        let ledger_changed = !postings.is_empty();
        if ledger_changed || charter_changed {
            let ledger = Arc::make_mut(&mut self.ledger);
            if self.charter.generation() != judged {
                ledger.recompute(&self.charter);
            } else if charter_changed {
                ledger.resume(&self.charter);
            }
            ledger.insert(postings, &self.charter);
        }
        if charter_changed || ledger_changed || things {
            self.state = CommunityState::of(self, charter_changed, things || charter_changed);
            inserted.changed = true;
        }
        if charter_changed || inserted.events.iter().any(|event| event.feed.stream == Stream::Moderation) {
            self.take_reports(&inserted.events);
        }
        for event in &inserted.events {
            self.advance(&event.feed.device, event.lamport);
        }
    }

    /// What was found out may be otherwise now.
    fn forget_answers(&mut self) {
        self.writing.get_mut().clear();
        *self.entitled.get_mut() = None;
    }

    /// Moves the clock on. Strangers do not, and nobody moves it so far that
    /// it could run out: whoever writes such a time only puts their own words
    /// at the end.
    fn advance(&mut self, device: &DeviceId, lamport: u64) {
        let known =
            self.state.charter.is_member(device) || self.state.charter.former_devices.contains_key(device);
        if known && lamport <= self.lamport.saturating_add(LAMPORT_JUMP_MAX) {
            self.lamport = self.lamport.max(lamport);
        }
    }

    /// The Lamport time of this device's next event.
    pub fn next_lamport(&self) -> u64 {
        (self.lamport + 1).min(LAMPORT_MAX)
    }
}

impl std::fmt::Debug for Community {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Community")
            .field("id", &self.id)
            .field("feeds", &self.contexts.len())
            .field("keys", &self.keyring)
            .finish_non_exhaustive()
    }
}
