//! What goes to the peer, in which order.
//!
//! Keys before the charter, that before all it explains; then what the peer
//! wants most; of words, the newest segments first. Whoever writes very many
//! feeds is heard out after the others. Lines of one feed keep their order:
//! later ones part from earlier ones.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use exo_model::feed::{FeedId, Stream};
use exo_model::id::{ChangeHash, DeviceId};

use super::{FeedHead, RUNS_MAX, Sending};

/// Lines of one device that are sent before those of all others.
const LINES_PER_DEVICE: usize = 256;

/// One thing to send.
#[derive(Clone, Copy, Debug)]
pub(super) enum Next {
    /// A line, run by run.
    Line(Sending),
    /// That all of a line was sent.
    Answered(FeedHead),
}

/// Sent in ascending order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Priority {
    /// Whether it is one of very many of its device.
    heard_out: bool,
    class: u8,
    segment: u32,
}

/// What is still to be sent.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<(Priority, Next)>,
    /// Whether the first one is being read.
    reads: bool,
    preferred: Option<Stream>,
    /// Ends of lines that were sent or will be: none goes out twice.
    queued: BTreeSet<(FeedId, ChangeHash)>,
    of_device: BTreeMap<DeviceId, usize>,
    runs_sent: u32,
}

impl Queue {
    /// What the peer wants before the rest.
    pub(super) const fn prefer(&mut self, stream: Option<Stream>) {
        self.preferred = stream;
    }

    /// Sends lines, each once.
    pub(super) fn extend(&mut self, lines: Vec<Sending>) {
        for line in lines {
            let Some(priority) = self.admit(&line) else { continue };
            let before = |(other, _): &(Priority, Next)| *other <= priority;
            // As a rule they come in order.
            let at = self.waiting.iter().rposition(before).map_or(0, |last| last + 1);
            self.waiting.insert(at.max(usize::from(self.reads)), (priority, Next::Line(line)));
        }
    }

    /// Sends what belongs to a line that was asked for, and that it is all:
    /// before the rest, after what is being sent. The other side waits for it,
    /// and sends nothing meanwhile.
    pub(super) fn answer(&mut self, asked: FeedHead, lines: Vec<Sending>) {
        let mut at = usize::from(self.reads);
        let first = Priority { heard_out: false, class: 0, segment: 0 };
        for line in lines {
            if self.admit(&line).is_some() {
                self.waiting.insert(at, (first, Next::Line(line)));
                at += 1;
            }
        }
        // Its line may be on its way already, for another reason.
        let is_last =
            |(_, next): &(Priority, Next)| matches!(next, Next::Line(line) if line.tip == asked.end);
        let at = self.waiting.iter().position(is_last).map_or(at, |line| at.max(line + 1));
        self.waiting.insert(at, (first, Next::Answered(asked)));
    }

    /// What to do next: one line is read at a time.
    pub(super) fn next(&mut self) -> Option<Next> {
        while !self.reads {
            match self.waiting.front() {
                Some((_, Next::Line(_))) if self.runs_sent == RUNS_MAX => drop(self.waiting.pop_front()),
                Some((_, next @ Next::Line(_))) => {
                    self.reads = true;
                    return Some(*next);
                }
                Some((_, Next::Answered(_))) => return self.waiting.pop_front().map(|(_, next)| next),
                None => return None,
            }
        }
        None
    }

    /// A run of the first line was read and goes out, up to `last_seq`; or
    /// there is nothing more of it.
    pub(super) fn was_read(&mut self, last_seq: Option<u64>) {
        self.reads = false;
        let Some((_, Next::Line(line))) = self.waiting.front_mut() else { return };
        if let Some(last_seq) = last_seq {
            self.runs_sent += 1;
            line.after_seq = last_seq;
        }
        if last_seq.is_none_or(|last_seq| last_seq >= line.tip.seq) {
            self.waiting.pop_front();
        }
    }

    /// Whether any changes went out.
    pub(super) const fn has_sent(&self) -> bool {
        self.runs_sent > 0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The place of a line that is not queued yet.
    fn admit(&mut self, line: &Sending) -> Option<Priority> {
        if !self.queued.insert((line.feed, line.tip.hash)) {
            return None;
        }
        let of_device = self.of_device.entry(line.feed.device).or_default();
        *of_device += 1;
        let heard_out = *of_device > LINES_PER_DEVICE;
        let newest_first = u32::MAX - line.feed.segment;
        let (class, segment) = match line.feed.stream {
            Stream::Keys => (0, line.feed.segment),
            Stream::Charter => (1, line.feed.segment),
            stream if self.preferred == Some(stream) => (2, newest_first),
            Stream::Ledger => (3, line.feed.segment),
            Stream::Cluster | Stream::Library => (4, newest_first),
            _ => (5, newest_first),
        };
        Some(Priority { heard_out, class, segment })
    }
}
