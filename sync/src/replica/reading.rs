//! Reading the store back: when a replica opens, and when a key arrives that
//! opens more than before.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use exo_model::community::Inserted;
use exo_model::feed::gate::{self, AcceptedRun};
use exo_model::feed::{FeedId, FeedPosition, LineId, Stream, VerifiedEvent};
use exo_model::port::{ChangeStore as _, StoredLine};

use super::ReplicaError;
use super::intake::waiting;
use super::worker::Worker;
use crate::session::RUN_BYTES_MAX;
use crate::store::StoreError;

/// What reading the store back has brought so far.
#[derive(Default)]
struct ReadBack {
    events: Vec<VerifiedEvent>,
    reopen: BTreeSet<FeedId>,
}

impl ReadBack {
    fn take(&mut self, inserted: Inserted) {
        self.events.extend(inserted.events);
        self.reopen.extend(inserted.reopen);
    }
}

/// A stored line that is read back run by run.
struct Reading {
    line: StoredLine,
    /// What it shares with the line it parts from, until its own comes.
    shared: Vec<AcceptedRun>,
    begun: bool,
    rest: VecDeque<AcceptedRun>,
}

impl Reading {
    fn new(line: StoredLine, start: FeedPosition, runs: Vec<AcceptedRun>) -> Self {
        let mut rest = VecDeque::from(runs);
        let mut shared = Vec::new();
        while let Some(run) = rest.pop_front_if(|run| run.end().seq <= line.base_seq) {
            shared.push(run);
        }
        Self { line, shared, begun: start.seq > 0, rest }
    }
}

impl Worker {
    /// Reads every stored change through the gate again (a damaged file is
    /// noticed here, not later). Feeds come in the order of their streams:
    /// keys first, then the charter, then what these open.
    ///
    /// Words that the replica remembers to have read, and that the views have
    /// up to `view_cursors`, are not read again.
    pub(super) fn read_back(
        &mut self,
        view_cursors: &BTreeMap<LineId, u64>,
    ) -> Result<Vec<VerifiedEvent>, ReplicaError> {
        let remembered = self.recall(view_cursors)?;
        let mut back = ReadBack::default();
        let mut charter = Vec::new();
        for line in self.store.lines(self.community.id())? {
            let start = remembered.get(&line.id.feed).copied().unwrap_or(FeedPosition::START);
            let runs = self.read_from(line.id, start)?;
            let hashes: Vec<_> = runs.iter().flat_map(|run| run.hashes()).copied().collect();
            self.store.check(line.id, start.seq, &hashes)?;
            let mut reading = Reading::new(line, start, runs);
            if line.id.feed.stream == Stream::Charter {
                charter.push(reading);
                continue;
            }
            if line.id.feed.stream > Stream::Charter {
                self.read_charter_back(std::mem::take(&mut charter), &mut back);
            }
            while self.read_next(&mut reading, &mut back) {}
        }
        self.read_charter_back(charter, &mut back);
        let again = self.reopen(back.reopen)?;
        Ok(replacing(back.events, again))
    }

    /// Lines of the charter cite each other: each goes as far as the room for
    /// what waits lets it, in turn.
    fn read_charter_back(&mut self, mut lines: Vec<Reading>, back: &mut ReadBack) {
        let has_room = |worker: &Self, reading: &Reading| {
            reading.rest.front().is_some_and(|run| {
                waiting(&worker.community, run) <= worker.community.waiting_room(&run.feed().device)
            })
        };
        loop {
            let mut moved = false;
            for reading in &mut lines {
                while has_room(self, reading) {
                    moved |= self.read_next(reading, back);
                }
            }
            if !moved {
                break;
            }
        }
        for reading in &mut lines {
            while self.read_next(reading, back) {}
        }
    }

    /// Reads the next run of a line; returns whether there was one.
    fn read_next(&mut self, reading: &mut Reading, back: &mut ReadBack) -> bool {
        let Some(run) = reading.rest.pop_front() else { return false };
        let StoredLine { id, base_seq, .. } = reading.line;
        let inserted = if reading.begun {
            self.community.insert_on(id, &run)
        } else {
            reading.begun = true;
            let mut runs = std::mem::take(&mut reading.shared);
            runs.push(run);
            self.community.reopen_line(id, base_seq, &runs)
        };
        back.take(inserted);
        true
    }

    /// All runs of a stored line from its feed's first change on, through the
    /// gate.
    pub(super) fn read_whole(&self, line: LineId) -> Result<Vec<AcceptedRun>, ReplicaError> {
        self.read_from(line, FeedPosition::START)
    }

    fn read_from(&self, line: LineId, start: FeedPosition) -> Result<Vec<AcceptedRun>, ReplicaError> {
        let end = self.store.position(line)?;
        let mut at = start;
        let mut runs = Vec::new();
        while at.seq < end.seq {
            let run = self
                .store
                .read_run(line, at.seq, RUN_BYTES_MAX)?
                .ok_or(StoreError::Damaged("changes are missing"))?;
            let run = gate::admit(run, &at)?;
            at = run.end();
            runs.push(run);
        }
        Ok(runs)
    }

    /// Reads feeds again that a new key opens, and those that these open in
    /// turn; returns their events.
    pub(super) fn reopen(
        &mut self,
        feeds: BTreeSet<FeedId>,
    ) -> Result<BTreeMap<FeedId, Vec<VerifiedEvent>>, ReplicaError> {
        let mut open = feeds;
        let mut again = BTreeMap::new();
        while let Some(feed) = open.pop_first() {
            let mut events = Vec::new();
            for line in self.store.lines_of(&feed)? {
                let runs = self.read_whole(line.id)?;
                let inserted = self.community.reopen_line(line.id, line.base_seq, &runs);
                open.extend(inserted.reopen);
                events.extend(inserted.events);
            }
            again.insert(feed, events);
        }
        Ok(again)
    }
}

/// Events, those of feeds that were read again in place of what they were.
pub(super) fn replacing(
    mut events: Vec<VerifiedEvent>,
    again: BTreeMap<FeedId, Vec<VerifiedEvent>>,
) -> Vec<VerifiedEvent> {
    events.retain(|event| !again.contains_key(&event.feed));
    events.extend(again.into_values().flatten());
    events
}
