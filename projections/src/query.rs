//! The read side of `views.db`.
//!
//! A [`Reader`] is one read-only connection: cheap, for one thread at a time,
//! never held up by the writer. It shows what was committed last, and only
//! what counts: messages of people who are or were members, up to the fence
//! of those who left, in channels that exist.

use std::path::Path;

use exo_model::amount::Amount;
use exo_model::charter::Role;
use exo_model::weights::LayerRange;
use exo_model::{BlobHash, ChangeHash, ChannelId, CommunityId, DeviceId, JobId, PersonId};
use rusqlite::types::{FromSqlError, Type};
use rusqlite::{Connection, Params, Row, params};

use crate::error::{OpenError, QueryError};
use crate::rows::{
    BalanceRow, ChannelRow, CommunityRow, JobRow, MachineRow, MemberRow, MessageRow, ModelRow, ShardRow,
    TransactionRow,
};
use crate::schema;

/// Most rows one page holds, whatever was asked for.
pub const PAGE_ROWS_MAX: usize = 500;

// CROSS JOIN keeps the order of the tables: a page is a range of `messages`,
// read backwards until it is full.
const MESSAGES: &str = "SELECT m.device, p.person, p.name, m.segment, m.seq, m.hash, m.lamport, m.time_ms, m.text \
     FROM messages m CROSS JOIN devices d ON d.device = m.device \
     CROSS JOIN people p ON p.person = d.person \
     WHERE m.channel = ?1 AND (m.lamport, m.time_ms, m.hash) < (?2, ?3, ?4) \
     AND EXISTS (SELECT 1 FROM channels c WHERE c.channel = ?1) \
     AND (d.fenced = 0 OR EXISTS (SELECT 1 FROM fences f WHERE f.device = m.device \
     AND f.channel = m.channel AND (m.segment, m.seq) <= (f.segment, f.seq))) \
     ORDER BY m.lamport DESC, m.time_ms DESC, m.hash DESC LIMIT ?5";
const MESSAGE_COUNT: &str = "SELECT count(*) FROM messages m CROSS JOIN devices d ON d.device = m.device \
     CROSS JOIN people p ON p.person = d.person \
     WHERE m.channel = ?1 AND EXISTS (SELECT 1 FROM channels c WHERE c.channel = ?1) \
     AND (d.fenced = 0 OR EXISTS (SELECT 1 FROM fences f WHERE f.device = m.device \
     AND f.channel = m.channel AND (m.segment, m.seq) <= (f.segment, f.seq)))";
const TRANSACTIONS: &str = "SELECT e.hash, e.lamport, e.time_ms, l.payer, l.payee, l.job, l.max, l.settled, l.closed \
     FROM lock_events e CROSS JOIN locks l ON l.lock = e.hash \
     WHERE (e.lamport, e.time_ms, e.hash) < (?1, ?2, ?3) \
     ORDER BY e.lamport DESC, e.time_ms DESC, e.hash DESC LIMIT ?4";

/// A place in the order of messages or of transactions: a page ends just
/// before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageCursor {
    /// Lamport time.
    pub lamport: u64,
    /// Wall time as its author wrote it: decides between what was written
    /// apart, as people would order it.
    pub time_ms: i64,
    /// Hash of the change, which decides between equal times.
    pub hash: ChangeHash,
}

/// Reads the views of one community.
#[derive(Debug)]
pub struct Reader {
    db: Connection,
}

impl Reader {
    /// Opens a file that [`Views`](crate::Views) made.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        Ok(Self { db: schema::open_reader(path.as_ref())? })
    }

    /// The community; `None` before the first batch.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn community(&self) -> Result<Option<CommunityRow>, QueryError> {
        let rows =
            self.rows("the community", "SELECT id, name, floor, balance FROM community", [], |row| {
                Ok(CommunityRow {
                    id: CommunityId::from_bytes(row.get(0)?),
                    name: row.get(1)?,
                    floor: amount(row, 2)?,
                    balance: amount(row, 3)?,
                })
            })?;
        Ok(rows.into_iter().next())
    }

    /// All members, by name.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn members(&self) -> Result<Vec<MemberRow>, QueryError> {
        let sql = "SELECT m.person, m.name, m.about, m.role, m.trust, m.admitted_by, m.admitted_ms, d.device \
             FROM members m LEFT JOIN devices d ON d.person = m.person AND d.active = 1 \
             ORDER BY m.name, m.person, d.device";
        let rows = self.rows("members", sql, [], |row| {
            let member = MemberRow {
                person: person(row, 0)?,
                name: row.get(1)?,
                about: row.get(2)?,
                role: role(row, 3)?,
                trust: row.get(4)?,
                admitted_by: person(row, 5)?,
                admitted_ms: row.get(6)?,
                devices: Vec::new(),
            };
            Ok((member, row.get::<_, Option<[u8; 32]>>(7)?.map(DeviceId::from_bytes)))
        })?;
        Ok(grouped(rows, |left, right| left.person == right.person, |member| &mut member.devices))
    }

    /// All channels, by name.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn channels(&self) -> Result<Vec<ChannelRow>, QueryError> {
        let sql = "SELECT channel, name FROM channels ORDER BY name, channel";
        self.rows("channels", sql, [], |row| {
            Ok(ChannelRow { channel: ChannelId::from_bytes(row.get(0)?), name: row.get(1)? })
        })
    }

    /// The newest messages of a channel that come before `before` (of all,
    /// where that is `None`), the oldest of them first. At most `limit`, and
    /// at most [`PAGE_ROWS_MAX`].
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn messages(
        &self,
        channel: &ChannelId,
        limit: usize,
        before: Option<PageCursor>,
    ) -> Result<Vec<MessageRow>, QueryError> {
        let (lamport, time_ms, hash) = bounds(before);
        let parameters = params![channel.as_bytes(), lamport, time_ms, hash, rows_max(limit)];
        let mut page = self.rows("messages", MESSAGES, parameters, |row| {
            Ok(MessageRow {
                channel: *channel,
                author: device(row, 0)?,
                person: person(row, 1)?,
                author_name: row.get(2)?,
                segment: row.get(3)?,
                seq: unsigned(row, 4)?,
                hash: ChangeHash::from_bytes(row.get(5)?),
                lamport: unsigned(row, 6)?,
                time_ms: row.get(7)?,
                text: row.get(8)?,
            })
        })?;
        page.reverse();
        Ok(page)
    }

    /// How many messages a channel shows. Reads all of them.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn message_count(&self, channel: &ChannelId) -> Result<u64, QueryError> {
        let counts =
            self.rows("the number of messages", MESSAGE_COUNT, [channel.as_bytes()], |row| unsigned(row, 0))?;
        Ok(counts.into_iter().sum())
    }

    /// All machines, by device.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn machines(&self) -> Result<Vec<MachineRow>, QueryError> {
        // One statement, so that both tables are of one moment.
        let sql = "SELECT m.device, coalesce(p.name, ''), m.memory_bytes, m.micros_per_mib, a.address \
             FROM machines m LEFT JOIN devices d ON d.device = m.device \
             LEFT JOIN people p ON p.person = d.person \
             LEFT JOIN machine_addresses a ON a.device = m.device ORDER BY m.device, a.position";
        let rows = self.rows("machines", sql, [], |row| {
            let machine = MachineRow {
                device: device(row, 0)?,
                name: row.get(1)?,
                memory_bytes: unsigned(row, 2)?,
                micros_per_mib: row.get(3)?,
                addresses: Vec::new(),
            };
            Ok((machine, row.get::<_, Option<String>>(4)?))
        })?;
        Ok(grouped(rows, |left, right| left.device == right.device, |machine| &mut machine.addresses))
    }

    /// All layers that machines hold ready, by model, then by first layer.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn shards(&self) -> Result<Vec<ShardRow>, QueryError> {
        let sql = "SELECT device, model, layer_start, layer_end FROM shards \
             ORDER BY model, layer_start, layer_end, device";
        self.rows("shards", sql, [], |row| {
            let layers = LayerRange::new(row.get(2)?, row.get(3)?)
                .ok_or(rusqlite::Error::IntegralValueOutOfRange(2, row.get(2)?))?;
            Ok(ShardRow { device: device(row, 0)?, model: BlobHash::from_bytes(row.get(1)?), layers })
        })
    }

    /// All models, by name.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn models(&self) -> Result<Vec<ModelRow>, QueryError> {
        let sql = "SELECT m.model, m.name, m.architecture, m.licence, m.size_bytes, m.layer_count, \
             m.context_length, m.hidden_size, h.device \
             FROM models m LEFT JOIN model_holders h ON h.model = m.model \
             ORDER BY m.name, m.model, h.position";
        let rows = self.rows("models", sql, [], |row| {
            let model = ModelRow {
                model: BlobHash::from_bytes(row.get(0)?),
                name: row.get(1)?,
                architecture: row.get(2)?,
                licence: row.get(3)?,
                size_bytes: unsigned(row, 4)?,
                layer_count: row.get(5)?,
                context_length: row.get(6)?,
                hidden_size: row.get(7)?,
                holders: Vec::new(),
            };
            Ok((model, row.get::<_, Option<[u8; 32]>>(8)?.map(DeviceId::from_bytes)))
        })?;
        Ok(grouped(rows, |left, right| left.model == right.model, |model| &mut model.holders))
    }

    /// The credit of every device, former ones included, by their people's
    /// names. Together with the [community's own](CommunityRow::balance) they
    /// sum to zero.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn balances(&self) -> Result<Vec<BalanceRow>, QueryError> {
        let sql = "SELECT b.device, p.person, p.name, b.balance, b.held, b.available \
             FROM balances b JOIN devices d ON d.device = b.device JOIN people p ON p.person = d.person \
             ORDER BY p.name, p.person, b.device";
        self.rows("balances", sql, [], |row| {
            Ok(BalanceRow {
                device: device(row, 0)?,
                person: person(row, 1)?,
                name: row.get(2)?,
                balance: amount(row, 3)?,
                held: amount(row, 4)?,
                available: row.get::<_, Option<i64>>(5)?.map(Amount::from_token_mib),
            })
        })
    }

    /// The newest locks that count and come before `before` (of all, where
    /// that is `None`), the oldest of them first. At most `limit`, and at most
    /// [`PAGE_ROWS_MAX`].
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn transactions(
        &self,
        limit: usize,
        before: Option<PageCursor>,
    ) -> Result<Vec<TransactionRow>, QueryError> {
        let (lamport, time_ms, hash) = bounds(before);
        let mut page = self.rows(
            "transactions",
            TRANSACTIONS,
            params![lamport, time_ms, hash, rows_max(limit)],
            |row| {
                Ok(TransactionRow {
                    lock: ChangeHash::from_bytes(row.get(0)?),
                    lamport: unsigned(row, 1)?,
                    time_ms: row.get(2)?,
                    payer: device(row, 3)?,
                    payee: device(row, 4)?,
                    job: row.get::<_, Option<[u8; JobId::LEN]>>(5)?.map(JobId::from_bytes),
                    max: amount(row, 6)?,
                    settled: amount(row, 7)?,
                    closed: row.get(8)?,
                })
            },
        )?;
        page.reverse();
        Ok(page)
    }

    /// The jobs with the newest locks, the newest first. At most `limit`, and
    /// at most [`PAGE_ROWS_MAX`]. Reads all locks.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn jobs(&self, limit: usize) -> Result<Vec<JobRow>, QueryError> {
        // SQLite's sum() fails where it overflows, and closed locks of one job
        // can be made to do that. Halves of 24 bits cannot, and are put
        // together again below.
        let sql = "SELECT l.job, l.payer, min(e.time_ms), count(*), sum(l.closed = 0), \
             sum(l.max >> 24), sum(l.max & 16777215), sum(l.settled >> 24), sum(l.settled & 16777215) \
             FROM lock_events e CROSS JOIN locks l ON l.lock = e.hash WHERE l.job IS NOT NULL GROUP BY l.payer, l.job \
             ORDER BY max(e.lamport) DESC, l.payer, l.job LIMIT ?1";
        self.rows("jobs", sql, [rows_max(limit)], |row| {
            Ok(JobRow {
                job: JobId::from_bytes(row.get(0)?),
                payer: device(row, 1)?,
                started_ms: row.get(2)?,
                locks: unsigned(row, 3)?,
                open: unsigned(row, 4)?,
                max: joined(row.get(5)?, row.get(6)?),
                settled: joined(row.get(7)?, row.get(8)?),
            })
        })
    }

    pub(crate) const fn connection(&self) -> &Connection {
        &self.db
    }

    fn rows<T>(
        &self,
        what: &'static str,
        sql: &str,
        parameters: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, QueryError> {
        self.db
            .prepare_cached(sql)
            .and_then(|mut select| select.query_map(parameters, read)?.collect())
            .map_err(QueryError::reading(what))
    }
}

/// The end of a page as values to compare with.
fn bounds(before: Option<PageCursor>) -> (i64, i64, [u8; ChangeHash::LEN]) {
    before.map_or((i64::MAX, 0, [0; ChangeHash::LEN]), |cursor| {
        (i64::try_from(cursor.lamport).unwrap_or(i64::MAX), cursor.time_ms, *cursor.hash.as_bytes())
    })
}

fn rows_max(limit: usize) -> i64 {
    i64::try_from(limit.min(PAGE_ROWS_MAX)).unwrap_or(i64::MAX)
}

fn joined(high: i64, low: i64) -> Amount {
    let sum = (i128::from(high) << 24) + i128::from(low);
    Amount::from_token_mib(i64::try_from(sum).unwrap_or(i64::MAX))
}

/// Folds the rows of a join into one value per group of neighbours.
fn grouped<T, U>(
    rows: Vec<(T, Option<U>)>,
    same: impl Fn(&T, &T) -> bool,
    parts: impl Fn(&mut T) -> &mut Vec<U>,
) -> Vec<T> {
    let mut groups: Vec<T> = Vec::new();
    for (mut row, part) in rows {
        match groups.last_mut() {
            Some(last) if same(last, &row) => parts(last).extend(part),
            _ => {
                parts(&mut row).extend(part);
                groups.push(row);
            }
        }
    }
    groups
}

fn device(row: &Row<'_>, index: usize) -> rusqlite::Result<DeviceId> {
    row.get(index).map(DeviceId::from_bytes)
}

fn person(row: &Row<'_>, index: usize) -> rusqlite::Result<PersonId> {
    row.get(index).map(PersonId::from_bytes)
}

fn amount(row: &Row<'_>, index: usize) -> rusqlite::Result<Amount> {
    row.get(index).map(Amount::from_token_mib)
}

fn role(row: &Row<'_>, index: usize) -> rusqlite::Result<Role> {
    let word: String = row.get(index)?;
    word.parse().map_err(|_| {
        rusqlite::Error::FromSqlConversionFailure(index, Type::Text, Box::new(FromSqlError::InvalidType))
    })
}

/// A column that holds no negative numbers.
pub(crate) fn unsigned(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(index)?;
    u64::try_from(value).map_err(|_| rusqlite::Error::IntegralValueOutOfRange(index, value))
}

#[cfg(test)]
mod tests;
