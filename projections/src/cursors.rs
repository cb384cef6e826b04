//! How far each line of each feed was taken into the views.
//!
//! Cursors change in the transaction of the rows they speak of. After a crash
//! between event store and views they tell what to hand in again. What was
//! sealed with a key that this device lacked is handed in again too, as the
//! key may be here by then.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use exo_model::feed::{LineId, Meaningless};
use exo_model::id::{BoardId, DirectId};
use exo_model::{ChannelId, CommunityId, DeviceId, FeedId, Stream, VerifiedEvent};
use rusqlite::types::{FromSqlError, Type, ValueRef};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::error::ViewsError;
use crate::query::unsigned;

const READING: &str = "reading cursors";
const WRITING: &str = "writing cursors";

/// The cursors a batch touches, read on first use, written at its end.
#[derive(Default)]
pub(crate) struct Cursors {
    touched: BTreeMap<LineId, Cursor>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    /// The last event taken.
    seq: u64,
    /// The first event taken that may have been sealed, if there is one.
    sealed: Option<u64>,
}

struct Cursor {
    stored: Place,
    now: Place,
}

/// What an event is to these views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// It was taken before.
    Old,
    /// It was taken before, but may say more now.
    Again,
    /// It continues its feed.
    New,
}

impl Place {
    /// Moves over an event, which must not lie beyond the next one.
    fn take(&mut self, seq: u64, is_sealed: bool) -> News {
        let news = match self.sealed {
            _ if seq > self.seq => News::New,
            Some(sealed) if seq >= sealed => News::Again,
            _ => return News::Old,
        };
        self.seq = self.seq.max(seq);
        if is_sealed {
            self.sealed = self.sealed.or(Some(seq));
        } else if self.sealed == Some(seq) {
            // Those after it are told again one by one.
            self.sealed = (seq < self.seq).then_some(seq + 1);
        }
        news
    }

    /// The last event before which there is nothing to hand in again.
    fn settled(&self) -> u64 {
        self.sealed.map_or(self.seq, |sealed| sealed.saturating_sub(1).min(self.seq))
    }
}

impl Cursors {
    /// Moves the cursor of the event's line over it.
    pub(crate) fn advance(&mut self, db: &Connection, event: &VerifiedEvent) -> Result<News, ViewsError> {
        let line = event.line();
        let cursor = match self.touched.entry(line) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let stored = read(db, &line)?;
                entry.insert(Cursor { stored, now: stored })
            }
        };
        // A line that parts from another begins anywhere.
        if line.number > 0 && cursor.now == Place::default() {
            cursor.now.seq = event.seq.saturating_sub(1);
        }
        let from_seq = cursor.now.seq + 1;
        if event.seq > from_seq {
            return Err(ViewsError::Gap { feed: event.feed, from_seq, met_seq: event.seq });
        }
        Ok(cursor.now.take(event.seq, matches!(event.event, Err(Meaningless::NoKey(_)))))
    }

    /// Writes those that moved.
    pub(crate) fn write(&self, db: &Connection) -> Result<(), ViewsError> {
        let failed = ViewsError::while_doing;
        let mut upsert = db
            .prepare_cached(
                "INSERT OR REPLACE INTO cursors (device, stream, channel, segment, line, seq, sealed) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )
            .map_err(failed(WRITING))?;
        for (LineId { feed, number: line }, cursor) in
            self.touched.iter().filter(|(_, cursor)| cursor.now != cursor.stored)
        {
            let (kind, channel) = columns(&feed.stream);
            let number =
                |seq: u64| i64::try_from(seq).map_err(|_| ViewsError::OutOfRange { feed: *feed, seq });
            let (seq, sealed) = (number(cursor.now.seq)?, cursor.now.sealed.map(number).transpose()?);
            upsert
                .execute(params![feed.device.as_bytes(), kind, channel, feed.segment, line, seq, sealed])
                .map_err(failed(WRITING))?;
        }
        Ok(())
    }
}

fn read(db: &Connection, LineId { feed, number }: &LineId) -> Result<Place, ViewsError> {
    let (kind, channel) = columns(&feed.stream);
    let sql = "SELECT seq, sealed FROM cursors \
         WHERE device = ?1 AND stream = ?2 AND channel = ?3 AND segment = ?4 AND line = ?5";
    db.prepare_cached(sql)
        .and_then(|mut select| {
            select
                .query_row(params![feed.device.as_bytes(), kind, channel, feed.segment, number], |row| {
                    place(row, 0)
                })
                .optional()
        })
        .map(Option::unwrap_or_default)
        .map_err(ViewsError::while_doing(READING))
}

fn place(row: &Row<'_>, index: usize) -> rusqlite::Result<Place> {
    let sealed = match row.get_ref(index + 1)? {
        ValueRef::Null => None,
        _ => Some(unsigned(row, index + 1)?),
    };
    Ok(Place { seq: unsigned(row, index)?, sealed })
}

/// Up to where each line need not be handed in again, in a file that holds
/// `community`.
pub(crate) fn read_all(db: &Connection, community: CommunityId) -> Result<BTreeMap<LineId, u64>, ViewsError> {
    let rows = || -> rusqlite::Result<_> {
        let mut select =
            db.prepare_cached("SELECT device, stream, channel, segment, line, seq, sealed FROM cursors")?;
        let rows = select.query_map([], |row| {
            let channel: Vec<u8> = row.get(2)?;
            let feed = FeedId {
                community,
                device: DeviceId::from_bytes(row.get(0)?),
                stream: stream(row.get(1)?, &channel)?,
                segment: row.get(3)?,
            };
            Ok((LineId { feed, number: row.get(4)? }, place(row, 5)?.settled()))
        })?;
        rows.collect()
    };
    rows().map_err(ViewsError::while_doing(READING))
}

/// A stream as two columns: its kind, and what it is about, or nothing.
fn columns(stream: &Stream) -> (i64, &[u8]) {
    match stream {
        Stream::Charter => (0, &[]),
        Stream::Ledger => (1, &[]),
        Stream::Cluster => (2, &[]),
        Stream::Library => (3, &[]),
        Stream::Channel(channel) => (4, channel.as_bytes()),
        Stream::Keys => (5, &[]),
        Stream::Moderation => (6, &[]),
        Stream::Board(board) => (7, board.as_bytes()),
        Stream::Direct(direct) => (8, direct.as_bytes()),
        Stream::Private => (9, &[]),
    }
}

fn stream(kind: i64, channel: &[u8]) -> rusqlite::Result<Stream> {
    match (kind, channel) {
        (0, []) => Ok(Stream::Charter),
        (1, []) => Ok(Stream::Ledger),
        (2, []) => Ok(Stream::Cluster),
        (3, []) => Ok(Stream::Library),
        (5, []) => Ok(Stream::Keys),
        (6, []) => Ok(Stream::Moderation),
        (9, []) => Ok(Stream::Private),
        (4, id) => about(id).map(|id| Stream::Channel(ChannelId::from_bytes(id))),
        (7, id) => about(id).map(|id| Stream::Board(BoardId::from_bytes(id))),
        (8, id) => about(id).map(|id| Stream::Direct(DirectId::from_bytes(id))),
        (other, _) => {
            let error = FromSqlError::OutOfRange(other);
            Err(rusqlite::Error::FromSqlConversionFailure(1, Type::Integer, Box::new(error)))
        }
    }
}

/// Ids of channels, boards and conversations have one length.
fn about(id: &[u8]) -> rusqlite::Result<[u8; ChannelId::LEN]> {
    id.try_into().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(
            2,
            Type::Blob,
            Box::<std::array::TryFromSliceError>::new(error),
        )
    })
}
