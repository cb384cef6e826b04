//! Reading the store back: when a replica opens, and when a key arrives that
//! opens more than before.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use exo_model::community::Inserted;
use exo_model::feed::gate::{self, AcceptedRun};
use exo_model::feed::opening::FeedContext;
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
    line: LineId,
    /// What it inherits from the line it parts from, until its first run comes.
    from: Option<FeedContext>,
    rest: VecDeque<AcceptedRun>,
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
            let known = remembered.get(&line.id.feed);
            let from = if known.is_some() { None } else { Some(self.context_before(&line)?) };
            let start = known.copied().or(from.as_ref().map(|from| from.at)).unwrap_or(FeedPosition::START);
            let runs = self.read_from(line.id, start)?;
            let hashes: Vec<_> = runs.iter().flat_map(|run| run.hashes()).copied().collect();
            self.store.check(line.id, start.seq, &hashes)?;
            let mut reading = Reading { line: line.id, from, rest: runs.into() };
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
        let inserted = match reading.from.take() {
            Some(from) => self.community.reopen_line(reading.line, from, &[run]),
            None => self.community.insert_on(reading.line, &run),
        };
        back.take(inserted);
        true
    }

    /// Reads a stored line, for the first time or again.
    pub(super) fn open_line(&mut self, line: &StoredLine) -> Result<Inserted, ReplicaError> {
        let from = self.context_before(line)?;
        let runs = self.read_from(line.id, from.at)?;
        Ok(self.community.reopen_line(line.id, from, &runs))
    }

    /// What a line inherits from the one it parts from.
    fn context_before(&self, line: &StoredLine) -> Result<FeedContext, ReplicaError> {
        let mut context = FeedContext::default();
        if line.base_seq == 0 {
            return Ok(context);
        }
        let missing = StoreError::Damaged("changes are missing");
        let hash = self.store.hash_at(line.id, line.base_seq)?.ok_or(missing)?;
        while context.at.seq < line.base_seq {
            let changes = self.store.changes(line.id, context.at.seq, line.base_seq, RUN_BYTES_MAX)?;
            if changes.is_empty() {
                return Err(StoreError::Damaged("changes are missing").into());
            }
            for change in &changes {
                context.pass_over(&line.id.feed, change, hash);
            }
        }
        Ok(context)
    }

    /// The runs of a stored line after a change of it, through the gate.
    pub(super) fn read_from(
        &self,
        line: LineId,
        start: FeedPosition,
    ) -> Result<Vec<AcceptedRun>, ReplicaError> {
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
                let inserted = self.open_line(&line)?;
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
