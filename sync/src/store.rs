//! `store.db`: the signed changes, in SQLite. The truth on disk.
//!
//! One row a change, one a line's end, one a signature: the author's own feed
//! keeps a signature for every change, a replicated one for the end of every
//! run received, and runs are only ever cut where a signature is. WAL with
//! `synchronous=FULL` for what one writes oneself: what `append` returned from
//! survives a power cut.

mod lines;
mod snapshot;

use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension as _, params};

use exo_model::codec;
use exo_model::community::FeedEnd;
use exo_model::feed::gate::RUN_CHANGES_MAX;
use exo_model::feed::{AcceptedRun, Change, FeedId, FeedPosition, LineId, Run, Stream};
use exo_model::id::{ChangeHash, CommunityId, DeviceId};
use exo_model::port::{ChangeStore, StoredLine};

use lines::{Span, line_row, position, to_sql};

/// Schema this build writes; kept in SQLite's `user_version`.
const SCHEMA_VERSION: i64 = 3;
/// Longest encoded stream name.
const STREAM_BYTES_MAX: usize = 64;
const ELSEWHERE: &str = "a run was accepted against another position";

const FEEDS: &str = "
CREATE TABLE feeds (
    id INTEGER PRIMARY KEY,
    community BLOB NOT NULL,
    device BLOB NOT NULL,
    stream BLOB NOT NULL,
    segment INTEGER NOT NULL,
    line INTEGER NOT NULL,
    parent INTEGER,
    base INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    UNIQUE (community, device, stream, segment, line)
) STRICT;
";

const CHANGES: &str = "
CREATE TABLE changes (
    feed INTEGER NOT NULL REFERENCES feeds (id),
    seq INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    hash BLOB NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (feed, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE signatures (
    feed INTEGER NOT NULL REFERENCES feeds (id),
    seq INTEGER NOT NULL,
    signature BLOB NOT NULL,
    PRIMARY KEY (feed, seq)
) STRICT, WITHOUT ROWID;
";

// Until version 2 a feed had one line.
const LINES_SINCE_3: (&str, &str) = (
    "ALTER TABLE feeds RENAME TO single;",
    "INSERT INTO feeds (id, community, device, stream, segment, line, parent, base, seq, hash)
     SELECT id, community, device, stream, segment, 0, NULL, 0, seq, hash FROM single;
     DROP TABLE single;",
);

/// A store that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite failed.
    #[error("event store: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// Written by a newer program.
    #[error(
        "{path} was written by a newer Exo-Studio (schema {found}, this one knows {SCHEMA_VERSION}); please update"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
    },
    /// Written before events were sealed.
    #[error(
        "{path} was written by a version of Exo-Studio that did not seal events yet; this one does not read \
         it: choose another data folder and join again"
    )]
    Unsealed {
        /// The file.
        path: PathBuf,
    },
    /// A row is not what this program writes.
    #[error("event store is damaged: {0}")]
    Damaged(&'static str),
}

/// The event store of one data folder.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    /// Whether a commit waits for the disk.
    waits: bool,
}

impl Store {
    /// Opens or creates the store.
    ///
    /// # Errors
    /// When the file cannot be opened, or a newer program wrote it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let db = Connection::open(path)?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.pragma_update(None, "cache_size", -512)?; // KiB: small when idle
        db.busy_timeout(std::time::Duration::from_secs(5))?;
        // Plans do not depend on what is bound: SQLite would compile a statement
        // anew for each value, which was a quarter of what small runs cost.
        db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        match found {
            0 => {
                db.execute_batch(&format!(
                    "BEGIN; {FEEDS} {CHANGES} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
                ))?;
            }
            2 => {
                let (before, after) = LINES_SINCE_3;
                // Tables that refer to the renamed one go on meaning `feeds`.
                db.pragma_update(None, "foreign_keys", false)?;
                db.pragma_update(None, "legacy_alter_table", true)?;
                db.execute_batch(&format!(
                    "BEGIN; {before} {FEEDS} {after} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
                ))?;
                db.pragma_update(None, "legacy_alter_table", false)?;
                db.pragma_update(None, "foreign_keys", true)?;
            }
            SCHEMA_VERSION => {}
            1 => return Err(StoreError::Unsealed { path: path.to_owned() }),
            found => return Err(StoreError::Newer { path: path.to_owned(), found }),
        }
        Ok(Self { db, waits: true })
    }

    /// Where a device's stream ends: the first line of its last segment; `None`
    /// where there is none yet.
    ///
    /// # Errors
    /// When the store fails.
    pub fn end_of(
        &self,
        community: CommunityId,
        device: DeviceId,
        stream: Stream,
    ) -> Result<Option<FeedEnd>, StoreError> {
        let row = self
            .db
            .prepare_cached(
                "SELECT f.segment, f.seq, f.hash, c.time_ms
                 FROM feeds f JOIN changes c ON c.feed = f.id AND c.seq = 1
                 WHERE f.community = ?1 AND f.device = ?2 AND f.stream = ?3 AND f.line = 0
                 ORDER BY f.segment DESC LIMIT 1",
            )?
            .query_row(params![community.as_bytes(), device.as_bytes(), codec::encode(&stream)], |row| {
                Ok((row.get::<_, u32>(0)?, row.get(1)?, row.get(2)?, row.get::<_, i64>(3)?))
            })
            .optional()?;
        row.map(|(segment, seq, hash, first_time_ms)| {
            Ok(FeedEnd { segment, at: position(seq, hash)?, first_time_ms })
        })
        .transpose()
    }

    /// Changes of a line after `after` up to `upto`, without their signatures.
    ///
    /// # Errors
    /// When the store fails.
    pub fn changes(
        &self,
        line: impl Into<LineId>,
        after: u64,
        upto: u64,
        max_bytes: usize,
    ) -> Result<Vec<Change>, StoreError> {
        self.changes_in(&self.spans_of(&line.into())?, after, upto, max_bytes)
    }

    /// Compares the hashes noted beside the changes of a line after `after_seq`,
    /// and where it is said to end, with what the changes themselves say.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where they differ.
    pub fn check(
        &self,
        line: impl Into<LineId>,
        after_seq: u64,
        hashes: &[ChangeHash],
    ) -> Result<(), StoreError> {
        let line = line.into();
        let end = self.position(line)?;
        let stored = self.hashes_in(&self.spans_of(&line)?, after_seq)?;
        let ends =
            end.seq == after_seq + stored.len() as u64 && hashes.last().is_none_or(|last| *last == end.hash);
        if ends && stored == hashes {
            Ok(())
        } else {
            Err(StoreError::Damaged("a feed is not what was signed"))
        }
    }

    /// Appends what a peer sent, without waiting for the disk: a power cut may
    /// take the last of it along, and then it is fetched again. What one writes
    /// oneself goes through `append`, which waits, for it and all before it.
    ///
    /// A run that starts where no line ends parts from the one it starts on,
    /// and becomes a line of its own. Returns the line.
    ///
    /// # Errors
    /// When the store fails; nothing is stored then.
    pub fn append_received(&mut self, run: &AcceptedRun) -> Result<StoredLine, StoreError> {
        let line = self.line_ending_at(run)?;
        // What is told of a line goes by its number, which must not be another's
        // after a power cut.
        self.wait_for_disk(line.is_none())?;
        let line = match line {
            Some(line) => line,
            None => self.parting_line(run)?,
        };
        self.write(&line, run)
    }

    /// The line that a run continues; of a feed that is not here yet, its first.
    fn line_ending_at(&self, run: &AcceptedRun) -> Result<Option<StoredLine>, StoreError> {
        let (feed, start) = (*run.feed(), run.start());
        if start == FeedPosition::START {
            let is_new = self.row_of(&feed.into())?.is_none();
            let line = StoredLine { id: feed.into(), parent: None, base_seq: 0, end: start };
            return Ok(is_new.then_some(line));
        }
        Ok(self.line_ending_with(&feed, &start)?.map(|row| row.stored(feed)))
    }

    /// Whether a run starts where no line of its feed ends, and so parts from
    /// what is stored.
    ///
    /// # Errors
    /// When the store fails.
    pub fn parts(&self, run: &AcceptedRun) -> Result<bool, StoreError> {
        Ok(self.line_ending_at(run)?.is_none())
    }

    /// A new line for a run that starts within others.
    fn parting_line(&self, run: &AcceptedRun) -> Result<StoredLine, StoreError> {
        let (feed, start) = (*run.feed(), run.start());
        let first = run.hashes().first().map(|hash| FeedPosition { seq: run.first_seq(), hash: *hash });
        if first.is_some_and(|first| !matches!(ChangeStore::line_through(self, &feed, &first), Ok(None))) {
            return Err(StoreError::Damaged(ELSEWHERE));
        }
        let number = self.rows_of(&feed)?.last().map_or(0, |row| row.number + 1);
        let parent = match start.seq {
            0 => None,
            _ => Some(self.line_through(&feed, &start)?.ok_or(StoreError::Damaged(ELSEWHERE))?.number),
        };
        Ok(StoredLine { id: LineId { feed, number }, parent, base_seq: start.seq, end: start })
    }

    fn wait_for_disk(&mut self, wait: bool) -> Result<(), StoreError> {
        if self.waits != wait {
            self.db.pragma_update(None, "synchronous", if wait { "FULL" } else { "NORMAL" })?;
            self.waits = wait;
        }
        Ok(())
    }

    fn write(&mut self, line: &StoredLine, run: &AcceptedRun) -> Result<StoredLine, StoreError> {
        let feed = run.feed();
        let transaction = self.db.transaction()?;
        let row: i64 = transaction
            .prepare_cached(
                "INSERT INTO feeds (community, device, stream, segment, line, parent, base, seq, hash)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
                 ON CONFLICT DO UPDATE SET seq = excluded.seq, hash = excluded.hash
                 RETURNING id",
            )?
            .query_row(
                params![
                    feed.community.as_bytes(),
                    feed.device.as_bytes(),
                    codec::encode(&feed.stream),
                    feed.segment,
                    line.id.number,
                    line.parent,
                    to_sql(line.base_seq)?,
                    to_sql(run.end().seq)?,
                    run.end().hash.as_bytes()
                ],
                |row| row.get(0),
            )?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO changes (feed, seq, time_ms, hash, payload) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?;
            for ((seq, change), hash) in (run.first_seq()..).zip(run.changes()).zip(run.hashes()) {
                insert.execute(params![
                    row,
                    to_sql(seq)?,
                    change.time_ms,
                    hash.as_bytes(),
                    change.payload
                ])?;
            }
        }
        transaction
            .prepare_cached("INSERT INTO signatures (feed, seq, signature) VALUES (?1, ?2, ?3)")?
            .execute(params![row, to_sql(run.end().seq)?, run.signature().as_bytes()])?;
        transaction.commit()?;
        Ok(StoredLine { end: run.end(), ..*line })
    }
}

impl ChangeStore for Store {
    type Error = StoreError;

    fn lines(&self, community: CommunityId) -> Result<Vec<StoredLine>, StoreError> {
        let mut statement = self.db.prepare_cached(
            "SELECT device, stream, segment, id, line, parent, base, seq, hash FROM feeds
             WHERE community = ?1 ORDER BY stream, device, segment, line",
        )?;
        let mut rows = statement.query([community.as_bytes()])?;
        let mut lines = Vec::new();
        while let Some(row) = rows.next()? {
            let stream: Vec<u8> = row.get(1)?;
            let stream: Stream = codec::decode(&stream, STREAM_BYTES_MAX)
                .map_err(|_| StoreError::Damaged("unreadable stream name"))?;
            let device = DeviceId::from_bytes(row.get(0)?);
            let feed = FeedId { community, device, stream, segment: row.get(2)? };
            lines.push(line_row(row, 3)?.stored(feed));
        }
        Ok(lines)
    }

    fn position(&self, line: impl Into<LineId>) -> Result<FeedPosition, StoreError> {
        Ok(self.row_of(&line.into())?.map_or(FeedPosition::START, |row| row.end))
    }

    fn line_through(&self, feed: &FeedId, at: &FeedPosition) -> Result<Option<LineId>, StoreError> {
        Ok(self.line_holding(feed, at)?.map(|number| LineId { feed: *feed, number }))
    }

    fn hash_at(&self, line: impl Into<LineId>, seq: u64) -> Result<Option<ChangeHash>, StoreError> {
        self.hash_in(&self.spans_of(&line.into())?, seq)
    }

    fn append(&mut self, run: &AcceptedRun) -> Result<(), StoreError> {
        self.wait_for_disk(true)?;
        let line = self.line_ending_at(run)?.ok_or(StoreError::Damaged(ELSEWHERE))?;
        self.write(&line, run).map(drop)
    }

    fn read_run(
        &self,
        line: impl Into<LineId>,
        after_seq: u64,
        max_bytes: usize,
    ) -> Result<Option<Run>, StoreError> {
        let line = line.into();
        let spans = self.spans_of(&line)?;
        let end_seq = spans.last().map_or(0, Span::upto);
        if after_seq >= end_seq {
            return Ok(None);
        }
        let upto = end_seq.min(after_seq.saturating_add(RUN_CHANGES_MAX as u64));
        let mut changes = self.changes_in(&spans, after_seq, upto, max_bytes)?;
        let fits_upto = after_seq + changes.len() as u64;
        let (seq, signature) = match self.last_signed(&spans, after_seq, fits_upto)? {
            Some(place) => place,
            // The nearest signature lies beyond `max_bytes`: whoever sent us
            // that run sent it as one frame, so it fits one again.
            None => {
                let next = self
                    .next_signed(&spans, after_seq)?
                    .ok_or(StoreError::Damaged("a feed ends without a signature"))?;
                changes = self.changes_in(&spans, after_seq, next.0, usize::MAX)?;
                next
            }
        };
        let keep = usize::try_from(seq - after_seq).map_err(|_| StoreError::Damaged("sequence numbers"))?;
        changes.truncate(keep);
        if changes.len() != keep {
            return Err(StoreError::Damaged("changes are missing"));
        }
        Ok(Some(Run { feed: line.feed, first_seq: after_seq + 1, changes, signature }))
    }
}
