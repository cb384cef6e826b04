//! Narrowing down where two replicas differ.
//!
//! The sides speak in turn. Each says of ranges of feeds what it has there: a
//! fingerprint, or, of small ranges, all ends. What is the same on both sides
//! is not mentioned again; what differs is cut into smaller ranges until ends
//! are named. Equal replicas have exchanged one root before, and never come
//! here; replicas that differ in few feeds exchange a few fingerprints for
//! each power of [`FAN_OUT`]. Over when each has said nothing once after the
//! other.
//!
//! The method is range-based set reconciliation (A. Meyer, "Range-Based Set
//! Reconciliation", 2022); the ranges here are of feeds and what is named are
//! ends, because a feed grows at its end only.

use std::collections::VecDeque;
use std::sync::Arc;

use minicbor::{Decode, Encode};

use exo_model::feed::FeedPosition;
use exo_model::id::CommunityId;

use super::ends::{Ends, Fingerprint, Place, PlaceRange};
use super::{FeedHead, Scope, Told, Violation};

/// Parts that a range is cut into.
const FAN_OUT: usize = 16;
/// Feeds of a range whose ends are named instead of cutting it further.
const NAMED_FEEDS: usize = 16;
/// Ends that are named in one claim, if they are not of one feed.
const NAMED_ENDS: usize = 1_024;
/// Ranges that the first turn is cut into at most; there is one for each
/// stream where that are fewer.
const FIRST_RANGES: usize = 64;
/// Claims in one frame.
pub const CLAIMS_PER_FRAME: usize = 1_024;
/// Ends named in one frame: together well under
/// [`FRAME_BYTES_MAX`](super::FRAME_BYTES_MAX).
pub const ENDS_PER_FRAME: usize = 4_096;
/// Ends that one side names in an exchange; the next one names others.
pub(super) const ENDS_MAX: usize = 1 << 17;
/// Turns of one side in an exchange.
pub(super) const TURNS_MAX: usize = 512;
/// Claims that wait for a turn. What is beyond is left for the next exchange.
const WAITING_MAX: usize = 1 << 15;

/// What one side says of a range.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Claim {
    /// Of which feeds.
    #[n(0)]
    pub range: PlaceRange,
    /// What it says.
    #[n(1)]
    pub says: Says,
}

/// See [`Claim`].
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Says {
    /// What it has there has this fingerprint.
    #[n(0)]
    Fingerprint(#[n(0)] Fingerprint),
    /// All it has there; the other side answers.
    #[n(1)]
    Ends(#[n(0)] Vec<FeedHead>),
    /// What it has of the feeds that the other side named.
    #[n(2)]
    Answer(#[n(0)] Vec<FeedHead>),
}

impl Says {
    fn ends(&self) -> &[FeedHead] {
        match self {
            Self::Fingerprint(_) => &[],
            Self::Ends(ends) | Self::Answer(ends) => ends,
        }
    }
}

/// One side's part of it.
#[derive(Debug)]
pub(super) struct Narrowing {
    own: Arc<Ends>,
    waiting: VecDeque<Claim>,
    turns: usize,
    ends_sent: usize,
    ends_received: usize,
    /// Whether the last turn of this side, and of the other, said nothing.
    silent: [bool; 2],
}

impl Narrowing {
    pub(super) const fn new(own: Arc<Ends>) -> Self {
        let waiting = VecDeque::new();
        Self { own, waiting, turns: 0, ends_sent: 0, ends_received: 0, silent: [false; 2] }
    }

    pub(super) const fn is_over(&self) -> bool {
        self.silent[0] && self.silent[1]
    }

    /// The first turn.
    pub(super) fn begin(&mut self) -> Vec<Claim> {
        let streams = self.own.by_stream();
        let each = streams.len().div_ceil(FIRST_RANGES).max(1);
        for some in streams.chunks(each) {
            let (Some(first), Some(last)) = (some.first(), some.last()) else { continue };
            self.claim_fingerprint(PlaceRange { from: first.from, upto: last.upto });
        }
        self.turn()
    }

    /// Takes the other side's turn; returns what it told, and this side's turn
    /// unless that was the last one.
    pub(super) fn take(&mut self, claims: Vec<Claim>) -> Result<(Vec<Told>, Option<Vec<Claim>>), Violation> {
        self.turns += 1;
        if self.is_over() || self.turns > TURNS_MAX {
            return Err(Violation::TooMany("turns"));
        }
        if claims.len() > CLAIMS_PER_FRAME {
            return Err(Violation::TooMany("claims"));
        }
        self.silent[1] = claims.is_empty();
        let mut told = Vec::new();
        for claim in claims {
            self.check(&claim)?;
            told.extend(self.answer(claim));
        }
        // The last silence was answered by this one.
        let turn = if self.is_over() { None } else { Some(self.turn()) };
        Ok((told, turn))
    }

    fn check(&mut self, claim: &Claim) -> Result<(), Violation> {
        let ends = claim.says.ends();
        self.ends_received += ends.len();
        if self.ends_received > ENDS_MAX {
            return Err(Violation::TooMany("feeds"));
        }
        let is_within = |head: &FeedHead| claim.range.contains(&head.place());
        if claim.range.is_well_formed() && ends.iter().all(is_within) {
            Ok(())
        } else {
            Err(Violation::Range)
        }
    }

    fn answer(&mut self, Claim { range, says }: Claim) -> Option<Told> {
        let community = self.own.community();
        let tells =
            |ends: &[FeedHead]| Told { scope: Scope::Places(range), ends: positions(ends, community) };
        match says {
            Says::Fingerprint(Fingerprint::NOTHING) => Some(tells(&[])),
            Says::Fingerprint(theirs) => {
                if self.own.fingerprint(&range) != theirs {
                    self.cut(range);
                }
                None
            }
            Says::Ends(ends) => {
                self.answer_ends(range, &ends);
                Some(tells(&ends))
            }
            Says::Answer(ends) => Some(tells(&ends)),
        }
    }

    fn cut(&mut self, range: PlaceRange) {
        let feeds = self.own.places_in(&range).take(NAMED_FEEDS + 1).count();
        let ends: Vec<_> = self.own.lines_in(&range).take(NAMED_ENDS + 1).collect();
        if feeds == 0 {
            self.wait(Claim { range, says: Says::Fingerprint(Fingerprint::NOTHING) });
        } else if feeds == 1 || (feeds <= NAMED_FEEDS && ends.len() <= NAMED_ENDS) {
            let ends = self.own.lines_in(&range).map(|(feed, end)| FeedHead::new(&feed, end)).collect();
            self.wait(Claim { range, says: Says::Ends(ends) });
        } else {
            for part in self.own.cut(&range, FAN_OUT) {
                self.claim_fingerprint(part);
            }
        }
    }

    /// Says what is here of feeds that the other side named.
    fn answer_ends(&mut self, range: PlaceRange, named: &[FeedHead]) {
        let mut places: Vec<_> = named.iter().map(FeedHead::place).collect();
        places.sort_unstable();
        places.dedup();
        let own: Vec<_> = places.iter().map(|place| self.heads_of(place)).collect();
        if own.iter().map(Vec::len).sum::<usize>() <= NAMED_ENDS {
            let ends = own.into_iter().flatten().collect();
            return self.wait(Claim { range, says: Says::Answer(ends) });
        }
        // Authors of very many lines: one feed at a time.
        let starts: Vec<_> = places.iter().skip(1).copied().collect();
        for (range, ends) in range.cut_at(&starts).into_iter().zip(own) {
            self.wait(Claim { range, says: Says::Answer(ends) });
        }
    }

    fn claim_fingerprint(&mut self, range: PlaceRange) {
        let fingerprint = self.own.fingerprint(&range);
        self.wait(Claim { range, says: Says::Fingerprint(fingerprint) });
    }

    fn heads_of(&self, place: &Place) -> Vec<FeedHead> {
        let feed = place.feed(self.own.community());
        self.own.of_feed(&feed).iter().map(|end| FeedHead::new(&feed, *end)).collect()
    }

    fn wait(&mut self, claim: Claim) {
        if self.waiting.len() < WAITING_MAX {
            self.waiting.push_back(claim);
        }
    }

    /// What waits, as much as fits one frame.
    fn turn(&mut self) -> Vec<Claim> {
        let mut claims = Vec::new();
        let mut named = 0;
        while let Some(claim) = self.waiting.front() {
            let ends = claim.says.ends().len();
            if self.ends_sent + ends > ENDS_MAX || self.turns + 1 >= TURNS_MAX {
                self.waiting.clear();
                break;
            }
            let is_full = claims.len() == CLAIMS_PER_FRAME || (named > 0 && named + ends > ENDS_PER_FRAME);
            if is_full {
                break;
            }
            named += ends;
            self.ends_sent += ends;
            claims.extend(self.waiting.pop_front());
        }
        self.silent[0] = claims.is_empty();
        claims
    }
}

fn positions(heads: &[FeedHead], community: CommunityId) -> Vec<(exo_model::feed::FeedId, FeedPosition)> {
    heads.iter().map(|head| (head.feed(community), head.end)).collect()
}
