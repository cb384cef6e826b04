//! A second look at a store that a replica has open: a reader of its own, on
//! what was stored at one moment.

use std::path::Path;

use rusqlite::{Connection, OpenFlags};

use super::{SCHEMA_VERSION, Store, StoreError};

/// Pages that a long reading keeps in memory, KiB.
const CACHE_KIB: i64 = 2_048;

impl Store {
    /// Opens a store for reading alone. What is written meanwhile does not
    /// show, and whoever writes does not wait.
    ///
    /// # Errors
    /// When the file cannot be opened, or this program did not write it. One of
    /// an earlier version is brought up to date by [`Store::open`] first.
    pub fn open_snapshot(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(std::time::Duration::from_secs(5))?;
        db.pragma_update(None, "cache_size", -CACHE_KIB)?;
        // The moment is that of the first reading in the transaction.
        db.execute_batch("BEGIN")?;
        let found: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        match found {
            SCHEMA_VERSION => {}
            found if found > SCHEMA_VERSION => {
                return Err(StoreError::Newer { path: path.to_owned(), found });
            }
            0 => return Err(StoreError::Damaged("it is empty")),
            _ => return Err(StoreError::Damaged("it is of an earlier version: start the program once")),
        }
        db.query_row("SELECT count(*) FROM (SELECT 1 FROM feeds LIMIT 1)", [], |_| Ok(()))?;
        Ok(Self { db, waits: true })
    }
}
