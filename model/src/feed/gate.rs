//! The gate: the one way a change gets into a feed, one's own included.
//!
//! It parses no foreign Automerge bytes. From the feed's id, the known end and
//! each `(time, payload)` it builds the only chunk that can be meant, chains
//! the hashes, and checks the author's signature over the last. A run enters
//! whole or not at all. What an event *means* is not judged here: an authentic
//! change without meaning is kept and counts for nothing.

use super::{Change, FEED_CHANGES_MAX, FeedId, FeedPosition, Run, TIME_MS_MAX, VerifiedEvent, chunk};
use crate::envelope::ENVELOPE_BYTES_MAX;
use crate::id::ChangeHash;
use crate::signature::{self, Signature};

/// Most changes one run may carry.
pub const RUN_CHANGES_MAX: usize = 4_096;

/// Why a run is refused. Nothing of it is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Not directly after the known end: fetch again from there. Also what a
    /// run already held looks like.
    #[error("run starts at {first_seq}, the feed ends at {known_seq}")]
    OutOfPlace {
        /// Where the run starts.
        first_seq: u64,
        /// Where the feed ends here.
        known_seq: u64,
    },
    /// No change at all, or more than [`RUN_CHANGES_MAX`] or the feed's limit.
    #[error("run of {0} changes")]
    Count(usize),
    /// A segment other than the first: feeds do not roll yet.
    #[error("segment {0} of a feed that has only one")]
    Segment(u32),
    /// A payload is empty or over [`ENVELOPE_BYTES_MAX`].
    #[error("change {seq} has a payload of {len} bytes")]
    PayloadLength {
        /// The change.
        seq: u64,
        /// Its payload's length in bytes.
        len: usize,
    },
    /// A wall time outside the years 1970 to 9999.
    #[error("change {seq} has an impossible time")]
    Time {
        /// The change.
        seq: u64,
    },
    /// The feed's device did not sign this.
    #[error("the signature is not the feed's author's")]
    Signature,
    /// The author signed two different changes at one place.
    #[error("the author signed two different changes numbered {seq}")]
    Fork {
        /// The last place known here at which they differ.
        seq: u64,
    },
}

/// A run that passed: what the store appends and `reduce` reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedRun {
    feed: FeedId,
    changes: Vec<Change>,
    events: Vec<VerifiedEvent>,
    signature: Signature,
    end: FeedPosition,
}

impl AcceptedRun {
    /// The feed.
    pub const fn feed(&self) -> &FeedId {
        &self.feed
    }

    /// The changes, in order.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Sequence number of the first change.
    pub fn first_seq(&self) -> u64 {
        self.end.seq + 1 - self.changes.len() as u64
    }

    /// The events of the changes, in order; as many as changes.
    pub fn events(&self) -> &[VerifiedEvent] {
        &self.events
    }

    /// Hands over the events.
    pub fn into_events(self) -> Vec<VerifiedEvent> {
        self.events
    }

    /// The author's signature over the last change.
    pub const fn signature(&self) -> Signature {
        self.signature
    }

    /// The feed's end after this run.
    pub const fn end(&self) -> FeedPosition {
        self.end
    }

    /// What is left beyond the end `known` of the stored feed: `None` when
    /// nothing is. For runs that overlap what arrived meanwhile from another
    /// peer.
    ///
    /// # Errors
    /// [`Rejection::Fork`] where the run is not the stored feed's
    /// continuation, [`Rejection::OutOfPlace`] where it starts beyond it.
    pub fn beyond(
        mut self,
        known: &FeedPosition,
        stored_at_end: Option<ChangeHash>,
    ) -> Result<Option<Self>, Rejection> {
        if self.end.seq <= known.seq {
            return match stored_at_end {
                Some(hash) if hash != self.end.hash => Err(Rejection::Fork { seq: self.end.seq }),
                _ => Ok(None),
            };
        }
        let Some(keep_from) = self.events.iter().position(|event| event.seq > known.seq) else {
            return Ok(None);
        };
        match self.events[..keep_from].last() {
            Some(last) if last.hash != known.hash => return Err(Rejection::Fork { seq: known.seq }),
            None if self.events[0].seq != known.seq + 1 => {
                return Err(Rejection::OutOfPlace { first_seq: self.events[0].seq, known_seq: known.seq });
            }
            _ => {}
        }
        self.events.drain(..keep_from);
        self.changes.drain(..keep_from);
        Ok(Some(self))
    }
}

/// Judges a run of any origin against the feed's known end.
///
/// # Errors
/// See [`Rejection`]; bounds are checked before anything is hashed.
pub fn admit(run: Run, known: &FeedPosition) -> Result<AcceptedRun, Rejection> {
    check_bounds(&run, known)?;
    let Run { feed, changes, signature, .. } = run;
    let mut end = *known;
    let mut events = Vec::with_capacity(changes.len());
    for change in &changes {
        let hash = chunk::change_hash(&feed.device, &end, change);
        end = FeedPosition { seq: end.seq + 1, hash };
        events.push((end, change));
    }
    signature::verify(&feed.device, &feed.signed_message(&end.hash), &signature)
        .map_err(|_| Rejection::Signature)?;
    // Payloads are looked into only once the author is known to have signed.
    let events = events
        .into_iter()
        .map(|(at, change)| VerifiedEvent::interpret(feed, at.seq, at.hash, change))
        .collect();
    Ok(AcceptedRun { feed, changes, events, signature, end })
}

fn check_bounds(run: &Run, known: &FeedPosition) -> Result<(), Rejection> {
    if run.feed.segment != 0 {
        return Err(Rejection::Segment(run.feed.segment));
    }
    let count = run.changes.len();
    if count == 0 || count > RUN_CHANGES_MAX {
        return Err(Rejection::Count(count));
    }
    if run.first_seq != known.seq + 1 {
        return Err(Rejection::OutOfPlace { first_seq: run.first_seq, known_seq: known.seq });
    }
    if known.seq + count as u64 > FEED_CHANGES_MAX {
        return Err(Rejection::Count(count));
    }
    for (seq, change) in (run.first_seq..).zip(&run.changes) {
        let len = change.payload.len();
        if len == 0 || len > ENVELOPE_BYTES_MAX {
            return Err(Rejection::PayloadLength { seq, len });
        }
        if !(0..=TIME_MS_MAX).contains(&change.time_ms) {
            return Err(Rejection::Time { seq });
        }
    }
    Ok(())
}
