//! The shape of `views.db`, and how a file comes to have it.
//!
//! Migrations are numbered by their place in [`MIGRATIONS`]; the number
//! reached is in `PRAGMA user_version`. A shipped migration is never edited.
//! One that derives more from events already applied (a new table, or a kind
//! of event that this build does not know) must also empty `cursors` and the
//! content tables, so that the caller feeds all events again.
//!
//! All tables are STRICT (a value of the wrong type is damage, not data) and
//! WITHOUT ROWID: rows lie in the order of their natural key, so that a page
//! of messages is one range, and two files with the same rows read alike.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use crate::error::OpenError;

/// The schema version this build writes and reads.
pub const SCHEMA_VERSION: u32 = 3;

/// Marks a SQLite file as ours (`ExoV`).
const APPLICATION_ID: i32 = 0x4578_6f56;
/// How long one connection waits for another's lock.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Page cache of the writer, KiB.
const WRITER_CACHE_KIB: i32 = 512;
/// Page cache of one reader, KiB.
const READER_CACHE_KIB: i32 = 256;
/// Prepared statements kept per connection: above the number of distinct ones
/// an ordinary batch uses, or each would push out the next.
const STATEMENTS_MAX: usize = 32;
/// Size the write-ahead log is cut back to after a checkpoint, bytes.
const WAL_BYTES_MAX: i64 = 4 << 20;

const MIGRATIONS: [&str; SCHEMA_VERSION as usize] = [V1, V2, V3];

// The community is named once per file; every other row is of it.
const V1: &str = "
CREATE TABLE cursors (
    device BLOB NOT NULL, stream INTEGER NOT NULL, channel BLOB NOT NULL, segment INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (device, stream, channel, segment)
) STRICT, WITHOUT ROWID;

CREATE TABLE messages (
    channel BLOB NOT NULL, lamport INTEGER NOT NULL, time_ms INTEGER NOT NULL, hash BLOB NOT NULL,
    device BLOB NOT NULL, segment INTEGER NOT NULL, seq INTEGER NOT NULL,
    text TEXT NOT NULL,
    PRIMARY KEY (channel, lamport, time_ms, hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE lock_events (
    lamport INTEGER NOT NULL, time_ms INTEGER NOT NULL, hash BLOB NOT NULL,
    PRIMARY KEY (lamport, time_ms, hash)
) STRICT, WITHOUT ROWID;

CREATE TABLE community (
    id BLOB PRIMARY KEY, name TEXT NOT NULL, floor INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE members (
    device BLOB PRIMARY KEY, name TEXT NOT NULL, role TEXT NOT NULL,
    admitted_by BLOB NOT NULL, admitted_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE channels (
    channel BLOB PRIMARY KEY, name TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE machines (
    device BLOB PRIMARY KEY, memory_bytes INTEGER NOT NULL, micros_per_mib INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE machine_addresses (
    device BLOB NOT NULL, position INTEGER NOT NULL, address TEXT NOT NULL,
    PRIMARY KEY (device, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE shards (
    device BLOB NOT NULL, model BLOB NOT NULL,
    layer_start INTEGER NOT NULL, layer_end INTEGER NOT NULL,
    PRIMARY KEY (device, model)
) STRICT, WITHOUT ROWID;

CREATE TABLE models (
    model BLOB PRIMARY KEY, name TEXT NOT NULL, architecture TEXT NOT NULL, licence TEXT NOT NULL,
    size_bytes INTEGER NOT NULL, layer_count INTEGER NOT NULL,
    context_length INTEGER NOT NULL, hidden_size INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE model_holders (
    model BLOB NOT NULL, position INTEGER NOT NULL, device BLOB NOT NULL,
    PRIMARY KEY (model, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE balances (
    device BLOB PRIMARY KEY, balance INTEGER NOT NULL, held INTEGER NOT NULL, available INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE locks (
    lock BLOB PRIMARY KEY, payer BLOB NOT NULL, payee BLOB NOT NULL, job BLOB NOT NULL,
    max INTEGER NOT NULL, settled INTEGER NOT NULL, closed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

// People have devices, feeds of those who left end at a fence, the community
// has an account, and not everything can be read from the start.
const V2: &str = "
DROP TABLE cursors;
CREATE TABLE cursors (
    device BLOB NOT NULL, stream INTEGER NOT NULL, channel BLOB NOT NULL, segment INTEGER NOT NULL,
    seq INTEGER NOT NULL, sealed INTEGER,
    PRIMARY KEY (device, stream, channel, segment)
) STRICT, WITHOUT ROWID;

ALTER TABLE community ADD COLUMN balance INTEGER NOT NULL DEFAULT 0;

DROP TABLE members;
CREATE TABLE members (
    person BLOB PRIMARY KEY, name TEXT NOT NULL, about TEXT NOT NULL, role TEXT NOT NULL, trust TEXT NOT NULL,
    admitted_by BLOB NOT NULL, admitted_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE people (
    person BLOB PRIMARY KEY, name TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE devices (
    device BLOB PRIMARY KEY, person BLOB NOT NULL, name TEXT NOT NULL, active INTEGER NOT NULL,
    fenced INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE fences (
    device BLOB NOT NULL, channel BLOB NOT NULL, segment INTEGER NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (device, channel)
) STRICT, WITHOUT ROWID;

DROP TABLE locks;
CREATE TABLE locks (
    lock BLOB PRIMARY KEY, payer BLOB NOT NULL, payee BLOB NOT NULL, job BLOB,
    max INTEGER NOT NULL, settled INTEGER NOT NULL, closed INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

DELETE FROM messages;
DELETE FROM lock_events;
";

// A feed may part into lines.
const V3: &str = "
CREATE TABLE line_cursors (
    device BLOB NOT NULL, stream INTEGER NOT NULL, channel BLOB NOT NULL, segment INTEGER NOT NULL,
    line INTEGER NOT NULL, seq INTEGER NOT NULL, sealed INTEGER,
    PRIMARY KEY (device, stream, channel, segment, line)
) STRICT, WITHOUT ROWID;
INSERT INTO line_cursors SELECT device, stream, channel, segment, 0, seq, sealed FROM cursors;
DROP TABLE cursors;
ALTER TABLE line_cursors RENAME TO cursors;
";

/// Every table, in the order of its migration.
pub(crate) const TABLES: [&str; 16] = [
    "cursors",
    "messages",
    "lock_events",
    "community",
    "members",
    "channels",
    "machines",
    "machine_addresses",
    "shards",
    "models",
    "model_holders",
    "balances",
    "locks",
    "people",
    "devices",
    "fences",
];

/// Opens or creates the file for the one writer and brings its schema up to
/// date.
pub(crate) fn open_writer(path: &Path) -> Result<Connection, OpenError> {
    let failed = |source| OpenError::sqlite(path, source);
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags).map_err(failed)?;
    configure(&db, WRITER_CACHE_KIB).map_err(failed)?;
    // Before anything is changed: the file may not be ours to change.
    let found = version(&db, path)?;
    if found > SCHEMA_VERSION {
        return Err(newer(path, found));
    }
    use_wal(&db).map_err(failed)?;
    migrate(&mut db, found).map_err(failed)?;
    check_tables(&db, path)?;
    Ok(db)
}

/// Opens an existing, up-to-date file for reading.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let failed = |source| OpenError::sqlite(path, source);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags).map_err(failed)?;
    configure(&db, READER_CACHE_KIB).map_err(failed)?;
    let found = version(&db, path)?;
    if found > SCHEMA_VERSION {
        return Err(newer(path, found));
    }
    if found < SCHEMA_VERSION {
        let path = path.to_owned();
        return Err(OpenError::Older { path, found, supported: SCHEMA_VERSION });
    }
    check_tables(&db, path)?;
    Ok(db)
}

fn newer(path: &Path, found: u32) -> OpenError {
    OpenError::Newer { path: path.to_owned(), found, supported: SCHEMA_VERSION }
}

fn configure(db: &Connection, cache_kib: i32) -> rusqlite::Result<()> {
    db.busy_timeout(BUSY_TIMEOUT)?;
    db.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    // Negative: in KiB rather than in pages.
    db.pragma_update(None, "cache_size", -cache_kib)?;
    // Notice a damaged page where it is read, and run no SQL from the file.
    db.pragma_update(None, "cell_size_check", true)?;
    db.pragma_update(None, "trusted_schema", false)
}

fn use_wal(db: &Connection) -> rusqlite::Result<()> {
    let mode: String = db.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    if mode != "wal" {
        // Some network file systems cannot: readers then wait for the writer.
        tracing::warn!(mode, "views are kept without a write-ahead log");
    }
    // A power cut may take the last batches along, cursors included; they come
    // back from the event store. Killing the process takes nothing.
    db.pragma_update(None, "synchronous", "normal")?;
    db.pragma_update_and_check(None, "journal_size_limit", WAL_BYTES_MAX, |_| Ok(()))
}

/// The file's schema version; 0 for an empty file.
fn version(db: &Connection, path: &Path) -> Result<u32, OpenError> {
    let failed = |source| OpenError::sqlite(path, source);
    let application: i32 = db.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(failed)?;
    if application == APPLICATION_ID {
        return db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed);
    }
    // Another program's version may be any number; it must not look like
    // damage to a file of ours, which could be deleted.
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
    let entries: i64 =
        db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(failed)?;
    if application == 0 && version == 0 && entries == 0 {
        Ok(0)
    } else {
        Err(OpenError::NotViews { path: path.to_owned() })
    }
}

fn migrate(db: &mut Connection, found: u32) -> rusqlite::Result<()> {
    for (number, sql) in (1_u32..).zip(MIGRATIONS).skip_while(|(number, _)| *number <= found) {
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(sql)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
    }
    Ok(())
}

fn check_tables(db: &Connection, path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::sqlite(path, source);
    let mut exists =
        db.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1").map_err(failed)?;
    for table in TABLES {
        if !exists.exists([table]).map_err(failed)? {
            return Err(OpenError::Incomplete { path: path.to_owned(), table });
        }
    }
    Ok(())
}
