//! The gate: the one way a change gets into a feed, one's own included.
//!
//! It parses no foreign Automerge bytes. From the feed's id, the known end and
//! each `(time, payload)` it builds the only chunk that can be meant, chains
//! the hashes, and checks the author's signature over the last. A run enters
//! whole or not at all. What an event *means* is not judged here: an authentic
//! change without meaning is kept and counts for nothing.

use super::{
    Change, FeedId, FeedPosition, Run, SEGMENT_CHANGES_MAX, SEGMENTS_MAX, TIME_MS_MAX, chunk, segment_end,
};
use crate::envelope::ENVELOPE_BYTES_MAX;
use crate::id::ChangeHash;
use crate::port::Signer;
use crate::signature::{self, Signature};

/// Most changes one run may carry: a whole segment.
pub const RUN_CHANGES_MAX: usize = 8_192;

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
    /// A segment number over [`SEGMENTS_MAX`].
    #[error("there is no segment {0}")]
    Segment(u32),
    /// The first change of a later segment does not carry the signed end of
    /// the one before. (An end in any other change is kept, and makes that
    /// change meaningless.)
    #[error("change {seq} does not continue the device's line of segments")]
    SegmentLine {
        /// The change.
        seq: u64,
    },
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
    hashes: Vec<ChangeHash>,
    signature: Signature,
    start: FeedPosition,
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

    /// The hashes of the changes, in order; as many as changes.
    pub fn hashes(&self) -> &[ChangeHash] {
        &self.hashes
    }

    /// The change before the first: the feed's end before this run.
    pub const fn start(&self) -> FeedPosition {
        self.start
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
        let Some(skip) = known.seq.checked_sub(self.start.seq) else {
            return Err(Rejection::OutOfPlace { first_seq: self.start.seq + 1, known_seq: known.seq });
        };
        let skip = usize::try_from(skip).map_err(|_| Rejection::Count(self.changes.len()))?;
        let before = if skip == 0 { self.start.hash } else { self.hashes[skip - 1] };
        if before != known.hash {
            return Err(Rejection::Fork { seq: known.seq });
        }
        self.hashes.drain(..skip);
        self.changes.drain(..skip);
        self.start = *known;
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
    let start = *known;
    let mut end = start;
    let mut hashes = Vec::with_capacity(changes.len());
    for change in &changes {
        let hash = chunk::change_hash(&feed.device, &end, change);
        end = FeedPosition { seq: end.seq + 1, hash };
        hashes.push(hash);
    }
    signature::verify(&feed.device, &feed.signed_message(&end), &signature)
        .map_err(|_| Rejection::Signature)?;
    // Payloads are looked into only once the author is known to have signed.
    check_segment_line(&feed, start.seq + 1, &changes)?;
    Ok(AcceptedRun { feed, changes, hashes, signature, start, end })
}

/// The next change of one's own feed: within the same bounds, and signed here
/// instead of verified.
///
/// The caller stores it durably before showing it to anyone, so that a power
/// cut never makes the author sign one sequence number twice.
///
/// # Errors
/// See [`Rejection`]; also where `feed` is not the signer's.
pub fn author(
    signer: &dyn Signer,
    feed: FeedId,
    known: &FeedPosition,
    change: Change,
) -> Result<AcceptedRun, Rejection> {
    if signer.device() != feed.device {
        return Err(Rejection::Signature);
    }
    let run = super::author(signer, feed, known, change);
    check_bounds(&run, known)?;
    check_segment_line(&feed, run.first_seq, &run.changes)?;
    let Run { changes, signature, .. } = run;
    let hashes: Vec<_> =
        changes.iter().map(|change| chunk::change_hash(&feed.device, known, change)).collect();
    let end = hashes.first().map_or(*known, |hash| FeedPosition { seq: known.seq + 1, hash: *hash });
    Ok(AcceptedRun { feed, changes, hashes, signature, start: *known, end })
}

/// The first change of a later segment carries the signed end of the one
/// before; that signature is checked here, once.
fn check_segment_line(feed: &FeedId, first_seq: u64, changes: &[Change]) -> Result<(), Rejection> {
    if first_seq != 1 || feed.segment == 0 {
        return Ok(());
    }
    let previous = segment_end(changes);
    let before = feed.with_segment(feed.segment - 1);
    let signed = previous.is_some_and(|previous| {
        previous.end.seq > 0
            && signature::verify(&feed.device, &before.signed_message(&previous.end), &previous.signature)
                .is_ok()
    });
    if signed { Ok(()) } else { Err(Rejection::SegmentLine { seq: 1 }) }
}

fn check_bounds(run: &Run, known: &FeedPosition) -> Result<(), Rejection> {
    if run.feed.segment >= SEGMENTS_MAX {
        return Err(Rejection::Segment(run.feed.segment));
    }
    let count = run.changes.len();
    if count == 0 || count > RUN_CHANGES_MAX {
        return Err(Rejection::Count(count));
    }
    if run.first_seq != known.seq.saturating_add(1) {
        return Err(Rejection::OutOfPlace { first_seq: run.first_seq, known_seq: known.seq });
    }
    if known.seq.saturating_add(count as u64) > SEGMENT_CHANGES_MAX {
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
