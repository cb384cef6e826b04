//! Lines of feeds as rows, and what is read along one.
//!
//! A row of `feeds` is one line. The first holds its feed from the first
//! change on; a further one holds what lies beyond the change after which it
//! parts from its parent, and is read through that. Positions and hashes are
//! shared along the common part, so nothing is stored twice.

use rusqlite::{OptionalExtension as _, Row, ToSql, params};

use exo_model::codec;
use exo_model::feed::{Change, FeedId, FeedPosition, LineId};
use exo_model::id::{ChangeHash, CommunityId, DeviceId};
use exo_model::port::{ChangeStore, StoredLine};
use exo_model::signature::Signature;

use super::{Store, StoreError};
use crate::session::LineIndex;

/// The part of a line that one row holds: changes up to `upto`, and beyond
/// the part before.
pub(super) struct Span {
    row: i64,
    upto: u64,
}

impl Span {
    pub(super) const fn upto(&self) -> u64 {
        self.upto
    }
}

/// A row of `feeds`.
pub(super) struct LineRow {
    pub(super) row: i64,
    pub(super) number: u32,
    parent: Option<u32>,
    base_seq: u64,
    pub(super) end: FeedPosition,
}

impl LineRow {
    pub(super) fn stored(&self, feed: FeedId) -> StoredLine {
        StoredLine {
            id: LineId { feed, number: self.number },
            parent: self.parent,
            base_seq: self.base_seq,
            end: self.end,
        }
    }
}

impl LineIndex for Store {
    type Error = StoreError;

    fn line_through(&self, feed: &FeedId, at: &FeedPosition) -> Result<Option<u32>, StoreError> {
        Ok(ChangeStore::line_through(self, feed, at)?.map(|line| line.number))
    }

    fn hash_at(&self, line: &LineId, seq: u64) -> Result<Option<ChangeHash>, StoreError> {
        ChangeStore::hash_at(self, *line, seq)
    }
}

impl Store {
    /// The lines of one feed, by number.
    ///
    /// # Errors
    /// When the store fails.
    pub fn lines_of(&self, feed: &FeedId) -> Result<Vec<StoredLine>, StoreError> {
        Ok(self.rows_of(feed)?.iter().map(|row| row.stored(*feed)).collect())
    }

    /// How many bytes of payload are stored of each device.
    ///
    /// # Errors
    /// When the store fails.
    pub fn payload_bytes(&self, community: CommunityId) -> Result<Vec<(DeviceId, u64)>, StoreError> {
        let mut statement = self.db.prepare_cached(
            "SELECT f.device, SUM(LENGTH(c.payload)) FROM feeds f JOIN changes c ON c.feed = f.id
             WHERE f.community = ?1 GROUP BY f.device",
        )?;
        let mut rows = statement.query([community.as_bytes()])?;
        let mut sums = Vec::new();
        while let Some(row) = rows.next()? {
            let bytes: i64 = row.get(1)?;
            sums.push((DeviceId::from_bytes(row.get(0)?), bytes.unsigned_abs()));
        }
        Ok(sums)
    }

    /// All lines of a feed, by number.
    pub(super) fn rows_of(&self, feed: &FeedId) -> Result<Vec<LineRow>, StoreError> {
        let mut statement = self.db.prepare_cached(
            "SELECT id, line, parent, base, seq, hash FROM feeds
             WHERE community = ?1 AND device = ?2 AND stream = ?3 AND segment = ?4
             ORDER BY line",
        )?;
        let key = params![
            feed.community.as_bytes(),
            feed.device.as_bytes(),
            codec::encode(&feed.stream),
            feed.segment
        ];
        let mut rows = statement.query(key)?;
        let mut lines = Vec::new();
        while let Some(row) = rows.next()? {
            lines.push(line_row(row, 0)?);
        }
        Ok(lines)
    }

    /// The row of one line.
    pub(super) fn row_of(&self, line: &LineId) -> Result<Option<LineRow>, StoreError> {
        self.line_where(&line.feed, "line = ?5", line.number)
    }

    /// The line that ends with a change, if one does.
    pub(super) fn line_ending_with(
        &self,
        feed: &FeedId,
        end: &FeedPosition,
    ) -> Result<Option<LineRow>, StoreError> {
        let line = self.line_where(feed, "hash = ?5", end.hash.as_bytes())?;
        Ok(line.filter(|line| line.end == *end))
    }

    /// The line whose own part holds a change: the first that goes through it.
    pub(super) fn line_holding(&self, feed: &FeedId, at: &FeedPosition) -> Result<Option<u32>, StoreError> {
        // A number that a peer made up is no number of ours.
        let Ok(seq) = i64::try_from(at.seq) else { return Ok(None) };
        let number = self
            .db
            .prepare_cached(
                "SELECT f.line FROM feeds f JOIN changes c ON c.feed = f.id AND c.seq = ?5
                 WHERE f.community = ?1 AND f.device = ?2 AND f.stream = ?3 AND f.segment = ?4
                     AND c.hash = ?6",
            )?
            .query_row(
                params![
                    feed.community.as_bytes(),
                    feed.device.as_bytes(),
                    codec::encode(&feed.stream),
                    feed.segment,
                    seq,
                    at.hash.as_bytes()
                ],
                |row| row.get(0),
            )
            .optional()?;
        Ok(number)
    }

    fn line_where(
        &self,
        feed: &FeedId,
        condition: &str,
        value: impl ToSql,
    ) -> Result<Option<LineRow>, StoreError> {
        let sql = format!(
            "SELECT id, line, parent, base, seq, hash FROM feeds
             WHERE community = ?1 AND device = ?2 AND stream = ?3 AND segment = ?4 AND {condition}"
        );
        let mut statement = self.db.prepare_cached(&sql)?;
        let key = params![
            feed.community.as_bytes(),
            feed.device.as_bytes(),
            codec::encode(&feed.stream),
            feed.segment,
            value
        ];
        let mut rows = statement.query(key)?;
        rows.next()?.map(|row| line_row(row, 0)).transpose()
    }

    /// The rows that a line is read through, from the feed's first change on;
    /// empty where there is no such line.
    pub(super) fn spans_of(&self, line: &LineId) -> Result<Vec<Span>, StoreError> {
        let mut spans = Vec::new();
        let Some(mut at) = self.row_of(line)? else { return Ok(spans) };
        spans.push(Span { row: at.row, upto: at.end.seq });
        // Each parent came before.
        while let Some(parent) = at.parent {
            let below = self.row_of(&LineId { feed: line.feed, number: parent })?;
            let below = below.filter(|below| below.number < at.number);
            let below = below.ok_or(StoreError::Damaged("a line parts from none"))?;
            spans.push(Span { row: below.row, upto: at.base_seq });
            at = below;
        }
        spans.reverse();
        Ok(spans)
    }

    pub(super) fn hash_in(&self, spans: &[Span], seq: u64) -> Result<Option<ChangeHash>, StoreError> {
        // A number that a peer made up is no number of ours.
        let Ok(number) = i64::try_from(seq) else { return Ok(None) };
        let Some(span) = spans.iter().find(|span| seq <= span.upto) else { return Ok(None) };
        let hash = self
            .db
            .prepare_cached("SELECT hash FROM changes WHERE feed = ?1 AND seq = ?2")?
            .query_row(params![span.row, number], |row| row.get::<_, [u8; 32]>(0))
            .optional()?;
        Ok(hash.map(ChangeHash::from_bytes))
    }

    /// The hashes along a line after `after`, and what its own row holds beyond
    /// its end: that there is none of that is for the caller to see.
    pub(super) fn hashes_in(&self, spans: &[Span], after: u64) -> Result<Vec<ChangeHash>, StoreError> {
        let mut statement = self.db.prepare_cached(
            "SELECT hash FROM changes WHERE feed = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq",
        )?;
        let mut hashes = Vec::new();
        for (index, span) in spans.iter().enumerate() {
            let upto = if index + 1 == spans.len() { i64::MAX } else { to_sql(span.upto)? };
            let stored = statement.query_map(params![span.row, to_sql(after)?, upto], |row| row.get(0))?;
            for hash in stored {
                hashes.push(ChangeHash::from_bytes(hash?));
            }
        }
        Ok(hashes)
    }

    /// Changes after `after` up to `upto`, until they are over `max_bytes`;
    /// one at least.
    pub(super) fn changes_in(
        &self,
        spans: &[Span],
        after: u64,
        upto: u64,
        max_bytes: usize,
    ) -> Result<Vec<Change>, StoreError> {
        let mut statement = self.db.prepare_cached(
            "SELECT time_ms, payload FROM changes WHERE feed = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq",
        )?;
        let (mut changes, mut bytes) = (Vec::new(), 0_usize);
        for span in spans {
            let mut rows =
                statement.query(params![span.row, to_sql(after)?, to_sql(upto.min(span.upto))?])?;
            while let Some(row) = rows.next()? {
                let change = Change { time_ms: row.get(0)?, payload: row.get(1)? };
                bytes += change.payload.len();
                if !changes.is_empty() && bytes > max_bytes {
                    return Ok(changes);
                }
                changes.push(change);
            }
        }
        Ok(changes)
    }

    /// The last signed place in `after+1 ..= upto`.
    pub(super) fn last_signed(
        &self,
        spans: &[Span],
        after: u64,
        upto: u64,
    ) -> Result<Option<(u64, Signature)>, StoreError> {
        let sql = "SELECT seq, signature FROM signatures
             WHERE feed = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq DESC LIMIT 1";
        self.signed(sql, spans.iter().rev(), after, upto)
    }

    /// The first signed place after `after`.
    pub(super) fn next_signed(
        &self,
        spans: &[Span],
        after: u64,
    ) -> Result<Option<(u64, Signature)>, StoreError> {
        let sql = "SELECT seq, signature FROM signatures
             WHERE feed = ?1 AND seq > ?2 AND seq <= ?3 ORDER BY seq LIMIT 1";
        self.signed(sql, spans.iter(), after, i64::MAX.unsigned_abs())
    }

    fn signed<'a>(
        &self,
        sql: &str,
        spans: impl Iterator<Item = &'a Span>,
        after: u64,
        upto: u64,
    ) -> Result<Option<(u64, Signature)>, StoreError> {
        let mut statement = self.db.prepare_cached(sql)?;
        for span in spans {
            let found = statement
                .query_row(params![span.row, to_sql(after)?, to_sql(upto.min(span.upto))?], |row| {
                    Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 64]>(1)?))
                })
                .optional()?;
            if let Some((seq, signature)) = found {
                return Ok(Some((from_sql(seq)?, Signature::from_bytes(signature))));
            }
        }
        Ok(None)
    }
}

/// Columns `id, line, parent, base, seq, hash` from `first` on.
pub(super) fn line_row(row: &Row<'_>, first: usize) -> Result<LineRow, StoreError> {
    Ok(LineRow {
        row: row.get(first)?,
        number: row.get(first + 1)?,
        parent: row.get(first + 2)?,
        base_seq: from_sql(row.get(first + 3)?)?,
        end: position(row.get(first + 4)?, row.get(first + 5)?)?,
    })
}

pub(super) fn position(seq: i64, hash: [u8; 32]) -> Result<FeedPosition, StoreError> {
    Ok(FeedPosition { seq: from_sql(seq)?, hash: ChangeHash::from_bytes(hash) })
}

pub(super) fn to_sql(seq: u64) -> Result<i64, StoreError> {
    i64::try_from(seq).map_err(|_| StoreError::Damaged("sequence numbers"))
}

fn from_sql(seq: i64) -> Result<u64, StoreError> {
    u64::try_from(seq).map_err(|_| StoreError::Damaged("sequence numbers"))
}
