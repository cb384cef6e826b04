//! Taking in what peers send: who may bring what, and when.
//!
//! The gate says whether a run is authentic; here it is said whether it has a
//! place yet. What has none is deferred, never refused: it is fetched again.

use exo_model::charter::Standing;
use exo_model::community::Community;
use exo_model::decide::Intent;
use exo_model::envelope::Envelope;
use exo_model::event::CharterEvent;
use exo_model::feed::equivocation::{Branch, EquivocationProof};
use exo_model::feed::gate::{self, AcceptedRun};
use exo_model::feed::{Change, FeedId, FeedPosition, Rejection, Run, Stream};
use exo_model::id::ChangeHash;
use exo_model::port::ChangeStore as _;
use exo_model::quota::Allowance;

use super::worker::Worker;
use super::{Ingested, ReplicaError};

/// Most feeds that may claim to begin with the founding event, while it cannot
/// be read: who copies it cannot open it as their own.
const FOUNDINGS_MAX: usize = 16;
/// Most feeds one device may have here, over all streams and segments.
const FEEDS_PER_DEVICE_MAX: usize = 16_384;

impl Worker {
    pub(super) fn ingest(&mut self, run: Run) -> Result<Ingested, ReplicaError> {
        if run.feed.community != self.community.id() {
            return Err(ReplicaError::OtherCommunity);
        }
        if !self.has_place(&run)? {
            return Ok(Ingested::Deferred);
        }
        let feed = run.feed;
        let known = self.store.position(&feed)?;
        let start = self.start_of(&run, &known)?;
        let accepted = gate::admit(run, &start)?;
        if let Some(seq) = self.first_difference(&accepted)? {
            self.prove_fork(&accepted, seq)?;
            return Err(Rejection::Fork { seq }.into());
        }
        let stored_at_end = self.store.hash_at(&feed, accepted.end().seq)?;
        let Some(new) = accepted.beyond(&known, stored_at_end)? else { return Ok(Ingested::Known) };
        if !self.may_wait(&new) || !self.is_within_quota(&new) {
            return Ok(Ingested::Deferred);
        }
        let count = new.changes().len();
        self.keep(&new)?;
        Ok(Ingested::Stored(count))
    }

    /// Whether the run's author and stream are known, and what it needs is.
    fn has_place(&self, run: &Run) -> Result<bool, ReplicaError> {
        let feed = &run.feed;
        if self.community.charter().is_empty() && self.store.feeds(feed.community)?.is_empty() {
            return Ok(is_founding(run));
        }
        let charter = &self.community.state().charter;
        let is_known = charter.is_member(&feed.device)
            || charter.former_devices.contains_key(&feed.device)
            || (charter.members.is_empty() && self.may_be_founders(run)?);
        if !is_known {
            return Ok(false);
        }
        Ok(match feed.stream {
            // Feeds are bounded by members and channels.
            Stream::Channel(channel) => charter.channels.contains_key(&channel) && self.is_member(),
            Stream::Charter | Stream::Keys => true,
            // What a newcomer could not read yet comes when it can be.
            _ => self.is_member(),
        } && self.has_feed_room(feed))
    }

    /// Before the founding event can be read, nobody is known: its feed comes in,
    /// and a few that copy it.
    fn may_be_founders(&self, run: &Run) -> Result<bool, ReplicaError> {
        if self.store.position(&run.feed)?.seq > 0 {
            return Ok(true);
        }
        Ok(is_founding(run) && self.store.feeds(run.feed.community)?.len() < FOUNDINGS_MAX)
    }

    /// Whether there is room for what of a charter run waits for its past. What
    /// waits for nothing always comes in: others may wait for it.
    fn may_wait(&self, run: &AcceptedRun) -> bool {
        run.feed().stream != Stream::Charter
            || waiting(&self.community, run) <= self.community.waiting_room(&run.feed().device)
    }

    fn is_member(&self) -> bool {
        self.community.state().charter.is_member(&self.community.device())
    }

    fn has_feed_room(&self, feed: &FeedId) -> bool {
        self.community.knows_feed(feed) || self.community.feeds_of(&feed.device) < FEEDS_PER_DEVICE_MAX
    }

    fn is_within_quota(&mut self, run: &AcceptedRun) -> bool {
        let device = run.feed().device;
        if device == self.community.device() {
            return true;
        }
        let now = self.community.charter().now();
        let trust = now.member_of(&device).map(|person| now.trust(&person));
        let allowance = Allowance::at(trust.unwrap_or(exo_model::trust::TrustLevel::Known));
        let changes = run.changes().len() as u64;
        let bytes = run.changes().iter().map(|change| change.payload.len() as u64).sum();
        self.quotas.take(device, allowance, changes, bytes, self.clock.now_ms())
    }

    /// The stored change that the run follows.
    fn start_of(&self, run: &Run, known: &FeedPosition) -> Result<FeedPosition, ReplicaError> {
        let out_of_place = || Rejection::OutOfPlace { first_seq: run.first_seq, known_seq: known.seq };
        match run.first_seq.checked_sub(1) {
            None => Err(out_of_place().into()),
            Some(0) => Ok(FeedPosition::START),
            Some(seq) => {
                let hash = self.store.hash_at(&run.feed, seq)?.ok_or_else(out_of_place)?;
                Ok(FeedPosition { seq, hash })
            }
        }
    }

    /// The first place at which an authentic run differs from what is stored.
    fn first_difference(&self, run: &AcceptedRun) -> Result<Option<u64>, ReplicaError> {
        for (seq, hash) in (run.first_seq()..).zip(run.hashes()) {
            match self.store.hash_at(run.feed(), seq)? {
                Some(stored) if stored != *hash => return Ok(Some(seq)),
                Some(_) => {}
                None => break,
            }
        }
        Ok(None)
    }

    /// Whether the charter says already that this feed parts there or before.
    /// Peers that have the other line send it at every exchange.
    fn is_proven(&self, feed: &FeedId, seq: u64) -> bool {
        self.community.charter().equivocations().any(|(_, event)| {
            let CharterEvent::EquivocationProven { proof, .. } = event else { return false };
            matches!(proof, EquivocationProof::Fork { feed: parted, left, .. }
                if parted == feed && left.at.seq <= seq)
        })
    }

    /// Shows everyone that a device signed two things at one place. Where the
    /// proof does not fit one event, the run is refused all the same.
    fn prove_fork(&mut self, run: &AcceptedRun, seq: u64) -> Result<(), ReplicaError> {
        let feed = *run.feed();
        if self.is_proven(&feed, seq) {
            return Ok(());
        }
        let Some(stored) = self.store.hash_at(&feed, seq)? else { return Ok(()) };
        let Some(rest) = self.store.read_run(&feed, seq - 1, 1)? else { return Ok(()) };
        let ours = Branch {
            at: FeedPosition { seq, hash: stored },
            then: rest.changes.get(1..).unwrap_or_default().to_vec(),
            signature: rest.signature,
        };
        let Ok(index) = usize::try_from(seq - run.first_seq()) else { return Ok(()) };
        let (Some(hash), Some(then)) = (run.hashes().get(index), run.changes().get(index + 1..)) else {
            return Ok(());
        };
        let theirs =
            Branch { at: FeedPosition { seq, hash: *hash }, then: then.to_vec(), signature: run.signature() };
        match EquivocationProof::of_fork(feed, ours, theirs) {
            Ok(proof) => match self.record(Intent::ProveEquivocation(Box::new(proof))) {
                Ok(_) | Err(ReplicaError::Refused(_) | ReplicaError::Compose(_)) => Ok(()),
                Err(error) => Err(error),
            },
            Err(reason) => {
                tracing::warn!(%feed, seq, %reason, "a fork that cannot be proven in one event");
                Ok(())
            }
        }
    }
}

/// How many changes of a charter run wait for others: the first that cites
/// what is not here, and all after it. Heads are not sealed.
pub(super) fn waiting(community: &Community, run: &AcceptedRun) -> usize {
    let charter = community.charter();
    let is_placed = |id: &ChangeHash| matches!(charter.standing(id), Some(Standing::Judged(_)));
    let start = run.start();
    let mut placed = 0;
    if start.seq == 0 || is_placed(&start.hash) {
        let ready = |(index, change): &(usize, &Change)| {
            let heads = Envelope::decode(&change.payload).ok().and_then(|envelope| envelope.heads);
            let earlier = run.hashes().get(..*index).unwrap_or_default();
            heads.unwrap_or_default().iter().all(|head| is_placed(head) || earlier.contains(head))
        };
        placed = run.changes().iter().enumerate().take_while(ready).count();
    }
    run.changes().len() - placed
}

/// Whether this is the charter change that the community is named by.
fn is_founding(run: &Run) -> bool {
    run.feed.stream == Stream::Charter
        && run.feed.segment == 0
        && run.first_seq == 1
        && run.changes.first().is_some_and(|change| {
            exo_model::hash::blake3(&change.payload).as_bytes() == run.feed.community.as_bytes()
        })
}
