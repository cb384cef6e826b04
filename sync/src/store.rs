//! `store.db`: the signed changes, in SQLite. The truth on disk.
//!
//! One row a change, one a feed's end, one a signature: the author's own feed
//! keeps a signature for every change, a replicated one for the end of every
//! run received, and runs are only ever cut where a signature is. WAL with
//! `synchronous=FULL` for what one writes oneself: what `append` returned from
//! survives a power cut.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OptionalExtension as _, params};

use exo_model::codec;
use exo_model::community::FeedEnd;
use exo_model::feed::gate::RUN_CHANGES_MAX;
use exo_model::feed::{AcceptedRun, Change, FeedId, FeedPosition, Run, Stream};
use exo_model::id::{ChangeHash, CommunityId, DeviceId};
use exo_model::port::ChangeStore;
use exo_model::signature::Signature;

/// Schema this build writes; kept in SQLite's `user_version`.
const SCHEMA_VERSION: i64 = 2;
/// Longest encoded stream name.
const STREAM_BYTES_MAX: usize = 64;

const SCHEMA: &str = "
CREATE TABLE feeds (
    id INTEGER PRIMARY KEY,
    community BLOB NOT NULL,
    device BLOB NOT NULL,
    stream BLOB NOT NULL,
    segment INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    UNIQUE (community, device, stream, segment)
) STRICT;
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
        let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        match found {
            0 => {
                db.execute_batch(&format!(
                    "BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
                ))?;
            }
            SCHEMA_VERSION => {}
            1 => return Err(StoreError::Unsealed { path: path.to_owned() }),
            found => return Err(StoreError::Newer { path: path.to_owned(), found }),
        }
        Ok(Self { db, waits: true })
    }

    /// Where a device's stream ends: its last segment; `None` where there is
    /// none yet.
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
                 WHERE f.community = ?1 AND f.device = ?2 AND f.stream = ?3
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

    /// Compares the hashes noted beside the changes of a feed, and where it is
    /// said to end, with what the changes themselves say.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] where they differ.
    pub fn check(&self, feed: &FeedId, hashes: &[ChangeHash]) -> Result<(), StoreError> {
        let Some((row, end)) = self.feed_row(feed)? else {
            return Err(StoreError::Damaged("a feed is missing"));
        };
        let mut statement =
            self.db.prepare_cached("SELECT hash FROM changes WHERE feed = ?1 ORDER BY seq")?;
        let stored = statement.query_map([row], |row| row.get::<_, [u8; 32]>(0))?;
        let stored: Vec<ChangeHash> =
            stored.map(|hash| hash.map(ChangeHash::from_bytes)).collect::<Result<_, _>>()?;
        let ends = end.seq == stored.len() as u64 && hashes.last().is_none_or(|last| *last == end.hash);
        if ends && stored == hashes {
            Ok(())
        } else {
            Err(StoreError::Damaged("a feed is not what was signed"))
        }
    }

    fn feed_row(&self, feed: &FeedId) -> Result<Option<(i64, FeedPosition)>, StoreError> {
        let row = self
            .db
            .prepare_cached(
                "SELECT id, seq, hash FROM feeds
                 WHERE community = ?1 AND device = ?2 AND stream = ?3 AND segment = ?4",
            )?
            .query_row(
                params![
                    feed.community.as_bytes(),
                    feed.device.as_bytes(),
                    codec::encode(&feed.stream),
                    feed.segment
                ],
                |row| Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get::<_, [u8; 32]>(2)?)),
            )
            .optional()?;
        row.map(|(id, seq, hash)| Ok((id, position(seq, hash)?))).transpose()
    }

    fn changes_between(
        &self,
        feed_row: i64,
        after: u64,
        upto: u64,
        max_bytes: usize,
    ) -> Result<Vec<Change>, StoreError> {
        let mut statement = self.db.prepare_cached(
            "SELECT time_ms, payload FROM changes WHERE feed = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq",
        )?;
        let mut rows = statement.query(params![feed_row, to_sql(after)?, to_sql(upto)?])?;
        let (mut changes, mut bytes) = (Vec::new(), 0_usize);
        while let Some(row) = rows.next()? {
            let change = Change { time_ms: row.get(0)?, payload: row.get(1)? };
            bytes += change.payload.len();
            if !changes.is_empty() && bytes > max_bytes {
                break;
            }
            changes.push(change);
        }
        Ok(changes)
    }

    /// The last signed place in `after+1 ..= upto`.
    fn signed_place(
        &self,
        feed_row: i64,
        after: u64,
        upto: u64,
    ) -> Result<Option<(u64, Signature)>, StoreError> {
        let row = self
            .db
            .prepare_cached(
                "SELECT seq, signature FROM signatures
                 WHERE feed = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq DESC LIMIT 1",
            )?
            .query_row(params![feed_row, to_sql(after)?, to_sql(upto)?], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 64]>(1)?))
            })
            .optional()?;
        row.map(|(seq, signature)| Ok((from_sql(seq)?, Signature::from_bytes(signature)))).transpose()
    }

    /// Appends what a peer sent, without waiting for the disk: a power cut may
    /// take the last of it along, and then it is fetched again. What one writes
    /// oneself goes through `append`, which waits, for it and all before it.
    ///
    /// # Errors
    /// When the store fails; nothing is stored then.
    pub fn append_received(&mut self, run: &AcceptedRun) -> Result<(), StoreError> {
        self.wait_for_disk(false)?;
        self.write(run)
    }

    fn wait_for_disk(&mut self, wait: bool) -> Result<(), StoreError> {
        if self.waits != wait {
            self.db.pragma_update(None, "synchronous", if wait { "FULL" } else { "NORMAL" })?;
            self.waits = wait;
        }
        Ok(())
    }

    fn write(&mut self, run: &AcceptedRun) -> Result<(), StoreError> {
        let feed = run.feed();
        let known = self.position(feed)?;
        if run.first_seq() != known.seq + 1 {
            return Err(StoreError::Damaged("a run was accepted against another position"));
        }
        let transaction = self.db.transaction()?;
        let row: i64 = transaction
            .prepare_cached(
                "INSERT INTO feeds (community, device, stream, segment, seq, hash)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT DO UPDATE SET seq = excluded.seq, hash = excluded.hash
                 RETURNING id",
            )?
            .query_row(
                params![
                    feed.community.as_bytes(),
                    feed.device.as_bytes(),
                    codec::encode(&feed.stream),
                    feed.segment,
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
        Ok(())
    }

    /// The first signed place after `after`.
    fn next_signed_place(&self, feed_row: i64, after: u64) -> Result<Option<u64>, StoreError> {
        let seq: Option<i64> = self
            .db
            .prepare_cached("SELECT min(seq) FROM signatures WHERE feed = ?1 AND seq > ?2")?
            .query_row(params![feed_row, to_sql(after)?], |row| row.get(0))?;
        seq.map(from_sql).transpose()
    }
}

impl ChangeStore for Store {
    type Error = StoreError;

    fn feeds(&self, community: CommunityId) -> Result<Vec<(FeedId, FeedPosition)>, StoreError> {
        let mut statement = self.db.prepare_cached(
            "SELECT device, stream, segment, seq, hash FROM feeds WHERE community = ?1
             ORDER BY stream, device, segment",
        )?;
        let mut rows = statement.query([community.as_bytes()])?;
        let mut feeds = Vec::new();
        while let Some(row) = rows.next()? {
            let stream: Vec<u8> = row.get(1)?;
            let stream: Stream = codec::decode(&stream, STREAM_BYTES_MAX)
                .map_err(|_| StoreError::Damaged("unreadable stream name"))?;
            let device = DeviceId::from_bytes(row.get(0)?);
            let feed = FeedId { community, device, stream, segment: row.get(2)? };
            feeds.push((feed, position(row.get(3)?, row.get(4)?)?));
        }
        Ok(feeds)
    }

    fn position(&self, feed: &FeedId) -> Result<FeedPosition, StoreError> {
        Ok(self.feed_row(feed)?.map_or(FeedPosition::START, |(_, position)| position))
    }

    fn hash_at(&self, feed: &FeedId, seq: u64) -> Result<Option<ChangeHash>, StoreError> {
        let Some((row, _)) = self.feed_row(feed)? else { return Ok(None) };
        // A number that a peer made up is no number of ours.
        let Ok(seq) = i64::try_from(seq) else { return Ok(None) };
        let hash = self
            .db
            .prepare_cached("SELECT hash FROM changes WHERE feed = ?1 AND seq = ?2")?
            .query_row(params![row, seq], |row| row.get::<_, [u8; 32]>(0))
            .optional()?;
        Ok(hash.map(ChangeHash::from_bytes))
    }

    fn append(&mut self, run: &AcceptedRun) -> Result<(), StoreError> {
        self.wait_for_disk(true)?;
        self.write(run)
    }

    fn read_run(&self, feed: &FeedId, after_seq: u64, max_bytes: usize) -> Result<Option<Run>, StoreError> {
        let Some((row, end)) = self.feed_row(feed)? else { return Ok(None) };
        if after_seq >= end.seq {
            return Ok(None);
        }
        let upto = end.seq.min(after_seq.saturating_add(RUN_CHANGES_MAX as u64));
        let mut changes = self.changes_between(row, after_seq, upto, max_bytes)?;
        let fits_upto = after_seq + changes.len() as u64;
        let (seq, signature) = match self.signed_place(row, after_seq, fits_upto)? {
            Some(place) => place,
            // The nearest signature lies beyond `max_bytes`: whoever sent us
            // that run sent it as one frame, so it fits one again.
            None => {
                let next = self
                    .next_signed_place(row, after_seq)?
                    .ok_or(StoreError::Damaged("a feed ends without a signature"))?;
                changes = self.changes_between(row, after_seq, next, usize::MAX)?;
                self.signed_place(row, after_seq, next)?
                    .ok_or(StoreError::Damaged("a feed ends without a signature"))?
            }
        };
        let keep = usize::try_from(seq - after_seq).map_err(|_| StoreError::Damaged("sequence numbers"))?;
        changes.truncate(keep);
        if changes.len() != keep {
            return Err(StoreError::Damaged("changes are missing"));
        }
        Ok(Some(Run { feed: *feed, first_seq: after_seq + 1, changes, signature }))
    }
}

fn position(seq: i64, hash: [u8; 32]) -> Result<FeedPosition, StoreError> {
    Ok(FeedPosition { seq: from_sql(seq)?, hash: ChangeHash::from_bytes(hash) })
}

fn to_sql(seq: u64) -> Result<i64, StoreError> {
    i64::try_from(seq).map_err(|_| StoreError::Damaged("sequence numbers"))
}

fn from_sql(seq: i64) -> Result<u64, StoreError> {
    u64::try_from(seq).map_err(|_| StoreError::Damaged("sequence numbers"))
}
