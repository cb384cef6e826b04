//! Proving that someone signed two lines, with what is stored.
//!
//! Proofs are made when the second line arrives, and looked for again when
//! keys are tended: a crash between storing a line and proving it loses
//! nothing. Where a proof does not fit one event, the lines stand unproven.

use std::collections::BTreeMap;

use exo_model::decide::Intent;
use exo_model::envelope::SegmentEnd;
use exo_model::event::CharterEvent;
use exo_model::feed::equivocation::{Branch, EquivocationProof};
use exo_model::feed::gate::AcceptedRun;
use exo_model::feed::{FeedId, FeedPosition, LineId, Run, Stream, segment_end};
use exo_model::id::{ChangeHash, DeviceId};
use exo_model::port::{ChangeStore as _, StoredLine};

use super::ReplicaError;
use super::worker::Worker;

/// Lines looked at in one go; the rest waits for the next.
const PROOFS_AT_ONCE: usize = 32;
/// Proofs against one device beyond which no further ones are posted: whoever
/// lied that often is suspended, and each proof is a part of an honest quota.
const PROOFS_PER_DEVICE_MAX: usize = 8;

impl Worker {
    /// Shows everyone what a run that was just stored contradicts, where nothing
    /// of its author in this stream is proven yet. Further proofs wait until
    /// keys are tended, so that whoever signs many lines does not make everyone
    /// write as many proofs.
    pub(super) fn prove_contradictions(
        &mut self,
        run: &AcceptedRun,
        parts: bool,
    ) -> Result<(), ReplicaError> {
        let feed = *run.feed();
        if self.proven_place(&feed).is_some() {
            return Ok(());
        }
        if let Some(line) = self.store.lines_of(&feed)?.last().filter(|_| parts)
            && !self.prove_parting(line)?
            && feed.stream == Stream::Charter
        {
            // Others take a further line of the charter once it is cited.
            tolerated(self.join_heads(1))?;
        }
        self.prove_overrun(&feed)?;
        match feed.segment.checked_sub(1) {
            Some(before) if run.first_seq() == 1 => self.prove_overrun(&feed.with_segment(before)),
            _ => Ok(()),
        }
    }

    /// Proves what is stored and not proven yet: of each device's stream the
    /// lowest place, and so many of them.
    pub(super) fn prove_partings(&mut self) -> Result<(), ReplicaError> {
        let lines = self.store.lines(self.community.id())?;
        let mut lowest: BTreeMap<FeedId, StoredLine> = BTreeMap::new();
        for line in lines.iter().filter(|line| line.id.number > 0) {
            let place = |line: &StoredLine| (line.id.feed.segment, line.base_seq);
            let of_stream = lowest.entry(line.id.feed.with_segment(0)).or_insert(*line);
            if place(line) < place(of_stream) {
                *of_stream = *line;
            }
        }
        let unproven = lowest.values().filter(|line| !self.is_proven(&line.id.feed, line.base_seq + 1));
        let unproven: Vec<_> = unproven.copied().take(PROOFS_AT_ONCE).collect();
        for line in unproven {
            if self.proofs_against(&line.id.feed.device) < PROOFS_PER_DEVICE_MAX {
                self.prove_parting(&line)?;
            }
        }
        Ok(())
    }

    /// Two changes at the place where a line parts from another. Returns whether
    /// a proof of it fits an event.
    fn prove_parting(&mut self, line: &StoredLine) -> Result<bool, ReplicaError> {
        let (feed, seq) = (line.id.feed, line.base_seq + 1);
        if line.id.number == 0 || self.is_proven(&feed, seq) {
            return Ok(true);
        }
        let other = LineId { feed, number: line.parent.unwrap_or(0) };
        let (Some(one), Some(other)) = (self.branch(line.id, seq)?, self.branch(other, seq)?) else {
            return Ok(false);
        };
        let proof = EquivocationProof::of_fork(feed, one, other);
        self.prove(&feed, proof.map_err(|reason| reason.to_string()))
    }

    /// A segment that goes on after the end that the next one names, or that
    /// names an end on another line. Tries one proof: whoever signs many lines
    /// that fit no event does not make everyone try them all.
    fn prove_overrun(&mut self, feed: &FeedId) -> Result<(), ReplicaError> {
        let Some(next) = feed.segment.checked_add(1).map(|next| feed.with_segment(next)) else {
            return Ok(());
        };
        let lines = self.store.lines_of(feed)?;
        for opened in self.store.lines_of(&next)?.iter().take(PROOFS_AT_ONCE) {
            let Some(opening) = self.store.read_run(opened.id, 0, 1)? else { continue };
            let Some(stated) = segment_end(&opening.changes) else { continue };
            for line in lines.iter().take(PROOFS_AT_ONCE) {
                if let Some(proof) = self.overrun(line, &opening, &stated)? {
                    return self.prove(feed, proof).map(drop);
                }
            }
        }
        Ok(())
    }

    /// What a line and the opening of the next segment prove, if they contradict
    /// each other and that is not proven yet.
    fn overrun(
        &self,
        line: &StoredLine,
        opening: &Run,
        stated: &SegmentEnd,
    ) -> Result<Option<Result<EquivocationProof, String>>, ReplicaError> {
        let (feed, end) = (line.id.feed, stated.end);
        let at_end = self.store.hash_at(line.id, end.seq)?;
        let proof = if at_end == Some(end.hash) && line.end.seq > end.seq {
            if self.is_proven(&feed, end.seq + 1) {
                return Ok(None);
            }
            let Some(beyond) = self.branch(line.id, end.seq + 1)? else { return Ok(None) };
            let (opening, signature) = (opening.changes.clone(), opening.signature);
            let proof = EquivocationProof::Overrun { feed, beyond, opening, signature };
            proof.verify().map(|()| proof)
        } else if at_end.is_some_and(|hash| hash != end.hash) && !self.is_proven(&feed, end.seq) {
            let Some(one) = self.branch(line.id, end.seq)? else { return Ok(None) };
            let other = Branch { at: end, then: Vec::new(), signature: stated.signature };
            EquivocationProof::of_fork(feed, one, other)
        } else {
            return Ok(None);
        };
        Ok(Some(proof.map_err(|reason| reason.to_string())))
    }

    /// A stored line from a place to the next signed one.
    fn branch(&self, line: LineId, seq: u64) -> Result<Option<Branch>, ReplicaError> {
        let hash: Option<ChangeHash> = self.store.hash_at(line, seq)?;
        let (Some(hash), Some(run)) = (hash, self.store.read_run(line, seq - 1, 1)?) else { return Ok(None) };
        let then = run.changes.into_iter().skip(1).collect();
        Ok(Some(Branch { at: FeedPosition { seq, hash }, then, signature: run.signature }))
    }

    /// Whether the charter says already that this device's stream parts there or
    /// before.
    fn is_proven(&self, feed: &FeedId, seq: u64) -> bool {
        self.proven_place(feed).is_some_and(|place| place <= (feed.segment, seq))
    }

    /// The lowest place at which a device's stream is proven to part: segment
    /// and sequence number. In streams of words any will do.
    fn proven_place(&self, feed: &FeedId) -> Option<(u32, u64)> {
        let proofs = self.proofs().filter(|proof| proof.feed().with_segment(0) == feed.with_segment(0));
        let places = proofs.map(|proof| {
            let seq = match proof {
                EquivocationProof::Fork { left, .. } => left.at.seq,
                EquivocationProof::Overrun { beyond, .. } => {
                    proof.overrun_end().map_or(beyond.at.seq, |end| end.saturating_add(1))
                }
            };
            match feed.stream {
                Stream::Charter | Stream::Ledger => (proof.feed().segment, seq),
                _ => (0, 0),
            }
        });
        places.min()
    }

    fn proofs_against(&self, device: &DeviceId) -> usize {
        self.proofs().filter(|proof| proof.feed().device == *device).count()
    }

    fn proofs(&self) -> impl Iterator<Item = &EquivocationProof> {
        self.community.charter().equivocations().filter_map(|(_, event)| match event {
            CharterEvent::EquivocationProven { proof, .. } => Some(proof),
            _ => None,
        })
    }

    /// Posts a proof; whoever may not leaves it to others. Returns whether there
    /// is one.
    fn prove(
        &mut self,
        feed: &FeedId,
        proof: Result<EquivocationProof, String>,
    ) -> Result<bool, ReplicaError> {
        match proof {
            Ok(proof) => tolerated(self.record(Intent::ProveEquivocation(Box::new(proof)))).map(|()| true),
            Err(reason) => {
                tracing::debug!(%feed, %reason, "two lines that cannot be proven in one event");
                Ok(false)
            }
        }
    }
}

/// Whoever may not write leaves it to others.
fn tolerated<T>(result: Result<T, ReplicaError>) -> Result<(), ReplicaError> {
    match result {
        Ok(_) | Err(ReplicaError::Refused(_) | ReplicaError::Compose(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
