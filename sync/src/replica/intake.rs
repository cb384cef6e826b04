//! Taking in what peers send: who may bring what, and when.
//!
//! The gate says whether a run is authentic; here it is said whether it has a
//! place yet. What has none is deferred, never refused: it is fetched again.

use exo_model::charter::{Role, Standing};
use exo_model::community::Community;
use exo_model::envelope::Envelope;
use exo_model::feed::gate::{self, AcceptedRun};
use exo_model::feed::{Change, FeedId, FeedPosition, Rejection, Run, Stream, segment_end};
use exo_model::id::ChangeHash;
use exo_model::port::ChangeStore as _;
use exo_model::quota::Allowance;

use super::worker::Worker;
use super::{Ingested, ReplicaError};
use crate::session::RUN_BYTES_MAX;

/// Most feeds that may claim to begin with the founding event, while it cannot
/// be read: who copies it cannot open it as their own.
const FOUNDINGS_MAX: usize = 16;
/// Most feeds one device may have here, over all streams, segments and lines.
const FEEDS_PER_DEVICE_MAX: usize = 16_384;
/// Most lines that one feed may part into; in the charter all of one device's.
/// Those that other people wrote under are taken beyond.
pub(super) const LINES_MAX: usize = 1_024;
/// Lines of the charter taken for being long.
const LONG_LINES_MAX: usize = 64;
/// Payload beyond which a run may be the beginning of a longer line, bytes.
const LONG_RUN_BYTES: usize = RUN_BYTES_MAX / 2;

/// Where a run comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A peer sent it, of its own accord.
    Peer,
    /// The owner of this machine imports it: what is authentic and has its
    /// place in the community is wanted, however much it is, and also before
    /// this device is a member (a restored one is not yet).
    Archive,
}

/// What is stored of the segment before one that begins.
pub(super) enum Before {
    /// It ends where the new one says, or there is none.
    Ends,
    /// It goes on beyond.
    GoesOn,
    /// It is not here so far.
    NotHere,
}

impl Worker {
    /// Takes a run that follows the change `after`, or the first line of its
    /// feed where that is not said.
    pub(super) fn ingest(
        &mut self,
        run: Run,
        after: Option<ChangeHash>,
        origin: Origin,
    ) -> Result<Ingested, ReplicaError> {
        if run.feed.community != self.community.id() {
            return Err(ReplicaError::OtherCommunity);
        }
        if self.keeping.is_some() {
            return self.carry(run, after);
        }
        if !self.has_place(&run, origin)? {
            return Ok(Ingested::Deferred);
        }
        let start = self.start_of(&run, after)?;
        let accepted = gate::admit(run, &start)?;
        let known = self.furthest_stored(&accepted)?;
        let Some(new) = accepted.beyond(&known, None)? else { return Ok(Ingested::Known) };
        let parts = self.store.parts(&new)?;
        let (parts, is_next) = match self.segment_before(&new)? {
            Before::Ends => (parts || self.overruns(&new)?, true),
            Before::GoesOn => (true, true),
            Before::NotHere => (parts, false),
        };
        if parts && !self.may_part(&new)? {
            return Err(Rejection::Fork { seq: new.first_seq() }.into());
        }
        let is_within_quota = |worker: &mut Self| origin == Origin::Archive || worker.is_within_quota(&new);
        if !is_next || !self.may_wait(&new) || !is_within_quota(self) {
            return Ok(Ingested::Deferred);
        }
        let count = new.changes().len();
        self.keep(&new)?;
        self.prove_contradictions(&new, parts)?;
        Ok(Ingested::Stored(count))
    }

    /// Where the charter's segment before the run's ends: what a first change
    /// says of it. Runs of other streams and places follow nothing else.
    pub(super) fn segment_before(&self, run: &AcceptedRun) -> Result<Before, ReplicaError> {
        let feed = run.feed();
        if feed.stream != Stream::Charter || run.first_seq() != 1 || feed.segment == 0 {
            return Ok(Before::Ends);
        }
        let Some(end) = segment_end(run.changes()) else { return Ok(Before::NotHere) };
        let before = feed.with_segment(feed.segment - 1);
        let Some(line) = self.store.line_through(&before, &end.end)? else { return Ok(Before::NotHere) };
        let goes_on = self.store.position(line)? != end.end;
        Ok(if goes_on { Before::GoesOn } else { Before::Ends })
    }

    /// Whether a run of the charter goes on after the next segment began where
    /// it starts or before: then it parts from that.
    fn overruns(&self, run: &AcceptedRun) -> Result<bool, ReplicaError> {
        let feed = run.feed();
        let Some(next) = feed.segment.checked_add(1).map(|next| feed.with_segment(next)) else {
            return Ok(false);
        };
        if feed.stream != Stream::Charter || run.first_seq() == 1 {
            return Ok(false);
        }
        let opened = self.store.lines_of(&next)?;
        let Some(line) = self.store.line_through(feed, &run.start())?.filter(|_| !opened.is_empty()) else {
            return Ok(false);
        };
        for opened in opened {
            let opening = self.store.read_run(opened.id, 0, 1)?;
            let Some(stated) = opening.as_ref().and_then(|run| segment_end(&run.changes)) else { continue };
            let is_named = stated.end.seq <= run.start().seq
                && self.store.hash_at(line, stated.end.seq)? == Some(stated.end.hash);
            if is_named {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a run that parts from what is stored becomes a line of its own.
    ///
    /// Two lines are enough for a proof; what else the author signs is nobody's
    /// loss, unless someone wrote under it before they knew of the proof. So a
    /// further line of the charter is taken where another person's act waits
    /// for it, at once; and as long as there is room where one waits for
    /// something that is not here, because the first run of a line does not
    /// show all of it, or where it is long: that costs its author their quota.
    fn may_part(&self, run: &AcceptedRun) -> Result<bool, ReplicaError> {
        let feed = run.feed();
        if self.community.feeds_of(&feed.device) >= FEEDS_PER_DEVICE_MAX {
            return Ok(false);
        }
        if feed.stream != Stream::Charter {
            return Ok(self.store.lines_of(feed)?.len() < LINES_MAX);
        }
        let charter = self.community.charter();
        let stored = self.store.lines(feed.community)?;
        let further = stored.iter().filter(|line| {
            let of = &line.id.feed;
            of.device == feed.device && of.stream == Stream::Charter && line.id.number > 0
        });
        let parted = further.count().max(charter.lines_of(&feed.device).saturating_sub(1));
        let acts = run.hashes().iter().copied().collect();
        let (others_wait, for_this) = charter.are_awaited(&acts, &feed.device);
        let bytes: usize = run.changes().iter().map(|change| change.payload.len()).sum();
        let is_long = bytes > LONG_RUN_BYTES && parted < LONG_LINES_MAX;
        Ok(parted == 0 || for_this || is_long || (others_wait && parted < LINES_MAX))
    }

    /// Whether the run's author and stream are known, and what it needs is.
    fn has_place(&self, run: &Run, origin: Origin) -> Result<bool, ReplicaError> {
        let feed = &run.feed;
        if self.community.charter().is_empty() && self.store.lines(feed.community)?.is_empty() {
            return Ok(is_founding(run));
        }
        let charter = &self.community.state().charter;
        let is_known = charter.is_member(&feed.device)
            || charter.former_devices.contains_key(&feed.device)
            || (charter.members.is_empty() && self.may_be_founders(run)?);
        if !is_known {
            return Ok(false);
        }
        // A keeper has no key to write anything else with.
        let carries_only = charter.role_of(&feed.device) == Some(Role::Keeper);
        let takes_words = origin == Origin::Archive || self.is_member();
        Ok(match feed.stream {
            Stream::Charter | Stream::Keys => true,
            _ if carries_only => false,
            // Feeds are bounded by members and channels.
            Stream::Channel(channel) => charter.channels.contains_key(&channel) && takes_words,
            // What a newcomer could not read yet comes when it can be.
            _ => takes_words,
        } && self.has_feed_room(feed))
    }

    /// Before the founding event can be read, nobody is known: its feed comes in,
    /// and a few that copy it.
    fn may_be_founders(&self, run: &Run) -> Result<bool, ReplicaError> {
        if self.store.position(run.feed)?.seq > 0 {
            return Ok(true);
        }
        Ok(is_founding(run) && self.store.lines(run.feed.community)?.len() < FOUNDINGS_MAX)
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
    pub(super) fn start_of(
        &self,
        run: &Run,
        after: Option<ChangeHash>,
    ) -> Result<FeedPosition, ReplicaError> {
        let seq = match run.first_seq.checked_sub(1) {
            Some(0) => return Ok(FeedPosition::START),
            seq => seq.unwrap_or(u64::MAX),
        };
        let hash = match after {
            Some(hash) => self.store.line_through(&run.feed, &FeedPosition { seq, hash })?.map(|_| hash),
            None => self.store.hash_at(run.feed, seq)?,
        };
        match hash {
            Some(hash) => Ok(FeedPosition { seq, hash }),
            None => {
                let known_seq = self.store.position(run.feed)?.seq;
                Err(Rejection::OutOfPlace { first_seq: run.first_seq, known_seq }.into())
            }
        }
    }

    /// The last change of an authentic run that is stored; the one it follows
    /// where none is.
    pub(super) fn furthest_stored(&self, run: &AcceptedRun) -> Result<FeedPosition, ReplicaError> {
        // Where the last is stored, so is all before it.
        if self.store.line_through(run.feed(), &run.end())?.is_some() {
            return Ok(run.end());
        }
        let mut furthest = run.start();
        for (seq, hash) in (run.first_seq()..).zip(run.hashes()) {
            let at = FeedPosition { seq, hash: *hash };
            if self.store.line_through(run.feed(), &at)?.is_none() {
                break;
            }
            furthest = at;
        }
        Ok(furthest)
    }
}

/// How many changes of a charter run wait for others: the first that cites
/// what is not here, and all after it. Heads are not sealed.
pub(super) fn waiting(community: &Community, run: &AcceptedRun) -> usize {
    let charter = community.charter();
    let is_placed = |id: &ChangeHash| matches!(charter.standing(id), Some(Standing::Judged(_)));
    let before = match run.start() {
        FeedPosition::START => segment_end(run.changes()).map(|segment| segment.end.hash),
        start => Some(start.hash),
    };
    let mut placed = 0;
    if before.is_none_or(|before| is_placed(&before)) {
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
