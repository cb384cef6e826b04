//! Which source gets which piece of what is missing: without I/O, clock or
//! randomness, so that it can be tested move by move.
//!
//! Ranges that nobody fetches are *free*; a lane (one stream to one source)
//! takes a piece from their front. When none is free, an idle lane takes over
//! a part of a piece that another source is slow with, or all of it when that
//! source fell silent. Two sources may so bring the same bytes twice, at most
//! what was under way: both are verified, and the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use exo_model::weights::{ByteRange, merge_ranges};

use super::super::ALIGNMENT_BYTES;

/// Smallest and largest piece. A piece should take about [`PIECE_TIME`].
pub(super) const PIECE_BYTES: (u64, u64) = (1 << 20, 16 << 20);
/// How long a piece should take: short enough to be handed on, long enough
/// that asking costs nothing.
const PIECE_TIME: Duration = Duration::from_millis(500);
/// A lane that brought nothing for so long loses its piece to an idle one.
const STALLED: Duration = Duration::from_secs(2);
/// A piece is split where the rest of it takes longer than this.
const WORTH_SPLITTING: Duration = Duration::from_millis(300);
/// A speed is measured over at least this time.
const SAMPLE: Duration = Duration::from_millis(100);

/// One stream to one source: the source's number, and the stream's.
pub(super) type Lane = (usize, usize);

/// What a lane does next.
#[derive(Debug)]
pub(super) enum Next {
    /// Fetch this, up to where `end` says by then.
    Piece(Piece),
    /// Others fetch all that is missing; ask again.
    Wait,
    /// This source has nothing of what is missing, or nothing is.
    Nothing,
}

/// A range to be fetched. Its end may come nearer meanwhile.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) range: ByteRange,
    pub(super) end: Arc<AtomicU64>,
}

struct Taken {
    /// The next byte to come.
    at: u64,
    end: Arc<AtomicU64>,
    /// When the last byte came.
    last: Duration,
}

impl Taken {
    fn rest(&self) -> ByteRange {
        ByteRange { start: self.at, end: self.end.load(Ordering::Relaxed) }
    }
}

#[derive(Default)]
struct Source {
    lacks: Vec<ByteRange>,
    bytes: u64,
    speed: Option<f64>,
    sample: Option<(Duration, u64)>,
    running: usize,
}

/// The state of one fetch.
pub(super) struct Pieces {
    /// In order, apart from each other.
    free: Vec<ByteRange>,
    taken: BTreeMap<Lane, Taken>,
    sources: Vec<Source>,
}

impl Pieces {
    /// `missing` are whole blocks.
    pub(super) fn new(missing: Vec<ByteRange>, sources: usize) -> Self {
        let sources = std::iter::repeat_with(Source::default).take(sources).collect();
        Self { free: merge_ranges(missing), taken: BTreeMap::new(), sources }
    }

    /// The source does not have these ranges.
    pub(super) fn lacks(&mut self, source: usize, ranges: &[ByteRange]) {
        let lacks = &mut self.sources[source].lacks;
        lacks.extend_from_slice(ranges);
        *lacks = merge_ranges(std::mem::take(lacks));
    }

    /// The source is asked anew what it has.
    pub(super) fn forget_lacks(&mut self, source: usize) {
        self.sources[source].lacks.clear();
    }

    /// Whether nothing is left to fetch.
    pub(super) fn is_done(&self) -> bool {
        self.free.is_empty() && self.taken.values().all(|taken| taken.rest().is_empty())
    }

    /// Whether a lane fetches something.
    pub(super) fn is_busy(&self) -> bool {
        self.taken.values().any(|taken| !taken.rest().is_empty())
    }

    /// Gives an idle lane something to do.
    pub(super) fn next(&mut self, lane: Lane, now: Duration) -> Next {
        if let Some(range) = self.take_free(lane.0) {
            return self.start(lane, range, now);
        }
        if let Some(range) = self.take_over(lane.0, now) {
            return self.start(lane, range, now);
        }
        let lacks = &self.sources[lane.0].lacks;
        let useful = |taken: &Taken| first_outside(taken.rest(), lacks).is_some();
        if self.taken.iter().any(|(other, taken)| other.0 != lane.0 && useful(taken)) {
            Next::Wait
        } else {
            Next::Nothing
        }
    }

    /// A lane has everything of its piece before `at`, of which `new_bytes`
    /// came just now.
    pub(super) fn came(&mut self, lane: Lane, at: u64, new_bytes: u64, now: Duration) {
        if let Some(taken) = self.taken.get_mut(&lane) {
            taken.at = at;
            taken.last = now;
        }
        let source = &mut self.sources[lane.0];
        source.bytes += new_bytes;
        let (since, before) = *source.sample.get_or_insert((now, source.bytes));
        let elapsed = now.saturating_sub(since);
        if elapsed >= SAMPLE {
            let measured = as_float(source.bytes - before) / elapsed.as_secs_f64();
            source.speed = Some(source.speed.map_or(measured, |speed| 0.7 * speed + 0.3 * measured));
            source.sample = Some((now, source.bytes));
        }
    }

    /// A lane is done with its piece; what it did not get is free again.
    pub(super) fn end(&mut self, lane: Lane) {
        let Some(taken) = self.taken.remove(&lane) else { return };
        let source = &mut self.sources[lane.0];
        source.running -= 1;
        if source.running == 0 {
            source.sample = None;
        }
        self.free.push(taken.rest());
        self.free = merge_ranges(std::mem::take(&mut self.free));
    }

    /// What a source brought so far, and how fast it is, in bytes a second.
    pub(super) fn figures(&self, source: usize) -> (u64, u64) {
        let source = &self.sources[source];
        let speed = if source.running == 0 { None } else { source.speed };
        (source.bytes, speed.map_or(0, as_bytes))
    }

    fn start(&mut self, lane: Lane, range: ByteRange, now: Duration) -> Next {
        let end = Arc::new(AtomicU64::new(range.end));
        self.taken.insert(lane, Taken { at: range.start, end: end.clone(), last: now });
        self.sources[lane.0].running += 1;
        Next::Piece(Piece { range, end })
    }

    fn take_free(&mut self, source: usize) -> Option<ByteRange> {
        let len = self.piece_len(source);
        let lacks = &self.sources[source].lacks;
        let (index, mut range) = self
            .free
            .iter()
            .enumerate()
            .find_map(|(index, range)| Some((index, first_outside(*range, lacks)?)))?;
        range.end = range.end.min(range.start.saturating_add(len));
        let whole = self.free.remove(index);
        let before = ByteRange { start: whole.start, end: range.start };
        let after = ByteRange { start: range.end, end: whole.end };
        self.free.extend([before, after]);
        self.free = merge_ranges(std::mem::take(&mut self.free));
        Some(range)
    }

    fn piece_len(&self, source: usize) -> u64 {
        let source = &self.sources[source];
        let (least, most) = PIECE_BYTES;
        let lanes = as_float(source.running.max(1) as u64);
        let fitting = source.speed.map_or(least, |speed| as_bytes(speed / lanes * PIECE_TIME.as_secs_f64()));
        (fitting / ALIGNMENT_BYTES * ALIGNMENT_BYTES).clamp(least, most)
    }

    /// The part of another source's piece that `source` takes over: of the one
    /// that would last longest.
    fn take_over(&mut self, source: usize, now: Duration) -> Option<ByteRange> {
        let lacks = &self.sources[source].lacks;
        let mut longest: Option<(Duration, ByteRange, Lane)> = None;
        for (lane, taken) in self.taken.iter().filter(|(lane, _)| lane.0 != source) {
            let rest = taken.rest();
            if rest.is_empty() {
                continue;
            }
            let part = if now.saturating_sub(taken.last) >= STALLED {
                Some((Duration::MAX, rest))
            } else {
                self.slow_part(*lane, rest)
            };
            let Some((lasts, part)) = part else { continue };
            let is_here = first_outside(part, lacks) == Some(part);
            if is_here && longest.as_ref().is_none_or(|(other, ..)| lasts > *other) {
                longest = Some((lasts, part, *lane));
            }
        }
        let (_, part, lane) = longest?;
        self.taken.get(&lane)?.end.store(part.start, Ordering::Relaxed);
        Some(part)
    }

    /// The second half of a rest, if it lasts long enough to be split.
    fn slow_part(&self, lane: Lane, rest: ByteRange) -> Option<(Duration, ByteRange)> {
        let other = &self.sources[lane.0];
        let speed = other.speed? / as_float(other.running.max(1) as u64);
        let lasts = Duration::try_from_secs_f64(as_float(rest.len()) / speed.max(1.0)).ok()?;
        let half = rest.start + (rest.len() / 2).div_ceil(ALIGNMENT_BYTES) * ALIGNMENT_BYTES;
        let part = ByteRange { start: half / ALIGNMENT_BYTES * ALIGNMENT_BYTES, end: rest.end };
        (lasts >= WORTH_SPLITTING && !part.is_empty()).then_some((lasts, part))
    }
}

/// The first part of `range` outside of `lacks`, which are in order.
fn first_outside(range: ByteRange, lacks: &[ByteRange]) -> Option<ByteRange> {
    let mut rest = range;
    for lack in lacks {
        if lack.end <= rest.start {
            continue;
        }
        if lack.start > rest.start {
            rest.end = rest.end.min(lack.start);
            break;
        }
        rest.start = lack.end;
    }
    (!rest.is_empty()).then_some(rest)
}

/// The parts of `range` outside of `others`, which are in order.
pub(super) fn outside(range: ByteRange, others: &[ByteRange]) -> Vec<ByteRange> {
    let mut parts = Vec::new();
    let mut rest = range;
    while let Some(part) = first_outside(rest, others) {
        parts.push(part);
        rest.start = part.end;
    }
    parts
}

#[allow(clippy::cast_precision_loss, reason = "for speeds")]
fn as_float(bytes: u64) -> f64 {
    bytes as f64
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, which is what is wanted"
)]
fn as_bytes(float: f64) -> u64 {
    float as u64
}

#[cfg(test)]
mod tests;
