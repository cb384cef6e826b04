//! How far each feed was taken into the views.
//!
//! Cursors change in the transaction of the rows they speak of. After a crash
//! between event store and views they tell what to hand in again.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use exo_model::{ChannelId, CommunityId, DeviceId, FeedId, Stream, VerifiedEvent};
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::error::ViewsError;
use crate::query::unsigned;

const READING: &str = "reading cursors";
const WRITING: &str = "writing cursors";

/// The cursors a batch touches, read on first use, written at its end.
#[derive(Default)]
pub(crate) struct Cursors {
    touched: BTreeMap<FeedId, Cursor>,
}

struct Cursor {
    stored: u64,
    reached: u64,
}

impl Cursors {
    /// Moves the cursor of the event's feed over it. `false` where it was
    /// applied before.
    pub(crate) fn advance(&mut self, db: &Connection, event: &VerifiedEvent) -> Result<bool, ViewsError> {
        let cursor = match self.touched.entry(event.feed) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let stored = read(db, &event.feed)?;
                entry.insert(Cursor { stored, reached: stored })
            }
        };
        if event.seq <= cursor.reached {
            return Ok(false);
        }
        let from_seq = cursor.reached + 1;
        if event.seq != from_seq {
            return Err(ViewsError::Gap { feed: event.feed, from_seq, met_seq: event.seq });
        }
        cursor.reached = event.seq;
        Ok(true)
    }

    /// Writes those that moved.
    pub(crate) fn write(&self, db: &Connection) -> Result<(), ViewsError> {
        let failed = ViewsError::while_doing;
        let mut upsert = db
            .prepare_cached(
                "INSERT OR REPLACE INTO cursors (device, stream, channel, segment, seq) \
                 VALUES (?1, ?2, ?3, ?4, ?5)",
            )
            .map_err(failed(WRITING))?;
        for (feed, cursor) in self.touched.iter().filter(|(_, cursor)| cursor.reached > cursor.stored) {
            let (kind, channel) = columns(&feed.stream);
            let seq = i64::try_from(cursor.reached)
                .map_err(|_| ViewsError::OutOfRange { feed: *feed, seq: cursor.reached })?;
            upsert
                .execute(params![feed.device.as_bytes(), kind, channel, feed.segment, seq])
                .map_err(failed(WRITING))?;
        }
        Ok(())
    }
}

fn read(db: &Connection, feed: &FeedId) -> Result<u64, ViewsError> {
    let (kind, channel) = columns(&feed.stream);
    let sql = "SELECT seq FROM cursors WHERE device = ?1 AND stream = ?2 AND channel = ?3 AND segment = ?4";
    db.prepare_cached(sql)
        .and_then(|mut select| {
            select
                .query_row(params![feed.device.as_bytes(), kind, channel, feed.segment], |row| {
                    unsigned(row, 0)
                })
                .optional()
        })
        .map(Option::unwrap_or_default)
        .map_err(ViewsError::while_doing(READING))
}

/// All cursors of a file that holds `community`.
pub(crate) fn read_all(db: &Connection, community: CommunityId) -> Result<BTreeMap<FeedId, u64>, ViewsError> {
    let rows = || -> rusqlite::Result<_> {
        let mut select = db.prepare_cached("SELECT device, stream, channel, segment, seq FROM cursors")?;
        let rows = select.query_map([], |row| {
            let channel: Vec<u8> = row.get(2)?;
            let feed = FeedId {
                community,
                device: DeviceId::from_bytes(row.get(0)?),
                stream: stream(row.get(1)?, &channel)?,
                segment: row.get(3)?,
            };
            Ok((feed, unsigned(row, 4)?))
        })?;
        rows.collect()
    };
    rows().map_err(ViewsError::while_doing(READING))
}

/// A stream as two columns: its kind, and the channel or nothing.
fn columns(stream: &Stream) -> (i64, &[u8]) {
    match stream {
        Stream::Charter => (0, &[]),
        Stream::Ledger => (1, &[]),
        Stream::Cluster => (2, &[]),
        Stream::Library => (3, &[]),
        Stream::Channel(channel) => (4, channel.as_bytes()),
    }
}

fn stream(kind: i64, channel: &[u8]) -> rusqlite::Result<Stream> {
    match (kind, channel) {
        (0, []) => Ok(Stream::Charter),
        (1, []) => Ok(Stream::Ledger),
        (2, []) => Ok(Stream::Cluster),
        (3, []) => Ok(Stream::Library),
        (4, channel) => <[u8; ChannelId::LEN]>::try_from(channel)
            .map(|bytes| Stream::Channel(ChannelId::from_bytes(bytes)))
            .map_err(|error| rusqlite::Error::FromSqlConversionFailure(2, Type::Blob, Box::new(error))),
        (other, _) => {
            let error = FromSqlError::OutOfRange(other);
            Err(rusqlite::Error::FromSqlConversionFailure(1, Type::Integer, Box::new(error)))
        }
    }
}
