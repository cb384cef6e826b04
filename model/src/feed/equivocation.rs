//! Equivocation: two signed changes at one place, which prove themselves.
//!
//! Each branch names a place and a hash, and the changes from there to the
//! next one that the author signed. Two branches of one feed with one place
//! and two hashes could only be made by the feed's author. Who posts a proof,
//! where and how often changes nothing: it means that one fork.

use minicbor::{Decode, Encode};

use super::{Change, FeedId, FeedPosition, SEGMENT_CHANGES_MAX, chunk, segment_end};
use crate::signature::{self, Signature};

/// Most changes one branch may take to reach a signature. Honest authors sign
/// every change they write, so that none are needed.
pub const BRANCH_CHANGES_MAX: usize = 64;
/// Most payload bytes of one branch, so that a proof fits one event.
pub const BRANCH_BYTES_MAX: usize = 12 * 1024;

/// One of two lines that part.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Branch {
    /// The change at which the lines part.
    #[n(0)]
    pub at: FeedPosition,
    /// What follows it, up to a signed change; empty where `at` is signed.
    #[n(1)]
    pub then: Vec<Change>,
    /// The author's signature over the last of these.
    #[n(2)]
    pub signature: Signature,
}

impl Branch {
    fn is_bounded(&self) -> bool {
        (1..=SEGMENT_CHANGES_MAX).contains(&self.at.seq) && self.is_short()
    }

    fn is_short(&self) -> bool {
        self.then.len() <= BRANCH_CHANGES_MAX
            && self.then.iter().map(|change| change.payload.len()).sum::<usize>() <= BRANCH_BYTES_MAX
    }

    /// Whether the feed's author signed a line through `at`.
    fn is_signed(&self, feed: &FeedId) -> bool {
        let mut end = self.at;
        for change in &self.then {
            let hash = chunk::change_hash(&feed.device, &end, change);
            end = FeedPosition { seq: end.seq + 1, hash };
        }
        signature::verify(&feed.device, &feed.signed_message(&end), &self.signature).is_ok()
    }
}

/// A proof that a device signed two different lines.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum EquivocationProof {
    /// Two changes at one place.
    #[n(0)]
    Fork {
        /// The feed that parts.
        #[n(0)]
        feed: FeedId,
        /// The line with the smaller hash.
        #[n(1)]
        left: Branch,
        /// The line with the greater hash.
        #[n(2)]
        right: Branch,
    },
    /// A segment that goes on after the next one began.
    #[n(1)]
    Overrun {
        /// The segment that goes on.
        #[n(0)]
        feed: FeedId,
        /// A change beyond the end that the next segment names.
        #[n(1)]
        beyond: Branch,
        /// The next segment from its first change to a signed one.
        #[n(2)]
        opening: Vec<Change>,
        /// The author's signature over the last of these.
        #[n(3)]
        signature: Signature,
    },
}

/// Something that is no proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoProof {
    /// The lines do not part, or are not in order.
    #[error("the lines do not part at one place")]
    NotApart,
    /// A line is longer than allowed.
    #[error("a line is too long")]
    TooLong,
    /// A line is not signed by the feed's author.
    #[error("a line is not signed by the feed's author")]
    Unsigned,
}

impl EquivocationProof {
    /// The proof that two branches of `feed` make, in canonical order.
    ///
    /// # Errors
    /// See [`NoProof`].
    pub fn of_fork(feed: FeedId, one: Branch, other: Branch) -> Result<Self, NoProof> {
        let (left, right) = if one.at.hash <= other.at.hash { (one, other) } else { (other, one) };
        let proof = Self::Fork { feed, left, right };
        proof.verify()?;
        Ok(proof)
    }

    /// Checks a proof of any origin.
    ///
    /// # Errors
    /// See [`NoProof`].
    pub fn verify(&self) -> Result<(), NoProof> {
        match self {
            Self::Fork { feed, left, right } => {
                if left.at.seq != right.at.seq || left.at.hash >= right.at.hash {
                    return Err(NoProof::NotApart);
                }
                signed(left.is_bounded() && right.is_bounded(), || {
                    left.is_signed(feed) && right.is_signed(feed)
                })
            }
            Self::Overrun { feed, beyond, opening, signature } => {
                let end = segment_end(opening);
                if end.is_none_or(|previous| previous.end.seq >= beyond.at.seq) {
                    return Err(NoProof::NotApart);
                }
                let next = feed.segment.checked_add(1).ok_or(NoProof::NotApart)?;
                let next = feed.with_segment(next);
                let line = Branch { at: FeedPosition::START, then: opening.clone(), signature: *signature };
                signed(beyond.is_bounded() && line.is_short(), || {
                    beyond.is_signed(feed) && line.is_signed(&next)
                })
            }
        }
    }

    /// Where a segment that goes on too far had ended.
    pub fn overrun_end(&self) -> Option<u64> {
        match self {
            Self::Fork { .. } => None,
            Self::Overrun { opening, .. } => Some(segment_end(opening)?.end.seq),
        }
    }

    /// The feed whose author signed both.
    pub const fn feed(&self) -> &FeedId {
        match self {
            Self::Fork { feed, .. } | Self::Overrun { feed, .. } => feed,
        }
    }
}

fn signed(bounded: bool, is_signed: impl FnOnce() -> bool) -> Result<(), NoProof> {
    if !bounded {
        return Err(NoProof::TooLong);
    }
    if is_signed() { Ok(()) } else { Err(NoProof::Unsigned) }
}
