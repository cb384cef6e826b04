//! Makes one table equal to a sorted sequence of rows, with few writes.
//!
//! Both sides are in key order, so one pass over them side by side finds what
//! is new, changed or gone, and holds nothing but the differences in memory.

use std::cmp::Ordering;

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, Row, params_from_iter};

/// A table that mirrors a part of the state.
pub(crate) struct Table {
    /// Its name.
    pub(crate) name: &'static str,
    /// All its columns; first those of the primary key, in its order.
    pub(crate) columns: &'static [&'static str],
    /// How many columns the key has. They hold blobs or integers.
    pub(crate) keys: usize,
}

impl Table {
    fn select(&self) -> String {
        let Self { name, columns, keys } = self;
        format!("SELECT {} FROM {name} ORDER BY {}", columns.join(", "), columns[..*keys].join(", "))
    }

    fn upsert(&self) -> String {
        let Self { name, columns, .. } = self;
        let values = vec!["?"; columns.len()].join(", ");
        format!("INSERT OR REPLACE INTO {name} ({}) VALUES ({values})", columns.join(", "))
    }

    fn delete(&self) -> String {
        let Self { name, columns, keys } = self;
        format!("DELETE FROM {name} WHERE {} = ?", columns[..*keys].join(" = ? AND "))
    }
}

/// One row, in the order of the table's columns.
pub(crate) type Cells<'a, const N: usize> = [ValueRef<'a>; N];

struct Differences<'a, const N: usize> {
    written: Vec<Cells<'a, N>>,
    gone: Vec<Vec<Value>>,
}

/// Makes the table's rows those of `wanted`, which must be in ascending order
/// of the key. Returns how many rows were written or deleted.
pub(crate) fn replace<'a, const N: usize>(
    db: &Connection,
    table: &Table,
    wanted: impl IntoIterator<Item = Cells<'a, N>>,
) -> rusqlite::Result<usize> {
    // Found first, written after: SQLite does not say what a cursor sees of
    // rows that change under it.
    let Differences { written, gone } = differences(db, table, wanted)?;
    if !gone.is_empty() {
        let mut delete = db.prepare_cached(&table.delete())?;
        for key in &gone {
            delete.execute(params_from_iter(key))?;
        }
    }
    if !written.is_empty() {
        let mut upsert = db.prepare_cached(&table.upsert())?;
        for row in &written {
            upsert.execute(params_from_iter(row.iter().map(|cell| ToSqlOutput::Borrowed(*cell))))?;
        }
    }
    Ok(written.len() + gone.len())
}

fn differences<'a, const N: usize>(
    db: &Connection,
    table: &Table,
    wanted: impl IntoIterator<Item = Cells<'a, N>>,
) -> rusqlite::Result<Differences<'a, N>> {
    debug_assert_eq!(table.columns.len(), N);
    let mut found = Differences { written: Vec::new(), gone: Vec::new() };
    let mut before: Option<Cells<'a, N>> = None;
    let mut wanted = wanted
        .into_iter()
        .inspect(|row| {
            let ascends =
                before.is_none_or(|before| order(&before[..table.keys], &row[..table.keys]).is_lt());
            debug_assert!(ascends, "{}: rows out of order", table.name);
            before = Some(*row);
        })
        .peekable();
    let mut select = db.prepare_cached(&table.select())?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let stored: Cells<'_, N> = cells(row)?;
        let key = &stored[..table.keys];
        while let Some(new) = wanted.next_if(|row| order(&row[..table.keys], key).is_lt()) {
            found.written.push(new);
        }
        match wanted.next_if(|row| order(&row[..table.keys], key).is_eq()) {
            Some(same) if same == stored => {}
            Some(changed) => found.written.push(changed),
            None => found.gone.push((0..table.keys).map(|index| row.get(index)).collect::<Result<_, _>>()?),
        }
    }
    found.written.extend(wanted);
    Ok(found)
}

fn cells<'row, const N: usize>(row: &'row Row<'_>) -> rusqlite::Result<Cells<'row, N>> {
    let mut cells = [ValueRef::Null; N];
    for (index, cell) in cells.iter_mut().enumerate() {
        *cell = row.get_ref(index)?;
    }
    Ok(cells)
}

/// SQLite's own order of key columns that hold blobs or integers.
fn order(left: &[ValueRef<'_>], right: &[ValueRef<'_>]) -> Ordering {
    for pair in left.iter().zip(right) {
        let ordering = match pair {
            (ValueRef::Integer(left), ValueRef::Integer(right)) => left.cmp(right),
            (ValueRef::Blob(left), ValueRef::Blob(right)) => left.cmp(right),
            // STRICT tables let no other types into a key.
            _ => Ordering::Equal,
        };
        if ordering.is_ne() {
            return ordering;
        }
    }
    Ordering::Equal
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Table = Table { name: "t", columns: &["a", "b", "c"], keys: 2 };

    fn row(a: &[u8], b: i64, c: i64) -> Cells<'_, 3> {
        [ValueRef::Blob(a), ValueRef::Integer(b), ValueRef::Integer(c)]
    }

    #[test]
    fn only_differences_are_written() {
        let db = Connection::open_in_memory().expect("in memory");
        db.execute_batch(
            "CREATE TABLE t (a BLOB NOT NULL, b INTEGER NOT NULL, c INTEGER NOT NULL, \
             PRIMARY KEY (a, b)) STRICT, WITHOUT ROWID",
        )
        .expect("schema");
        let first = [row(b"a", 1, 7), row(b"a", 2, 7), row(b"b", -1, 7), row(b"c", 0, 7)];
        assert_eq!(replace(&db, &TABLE, first).expect("written"), 4);
        assert_eq!(replace(&db, &TABLE, first).expect("same"), 0);
        // One gone in the middle, one changed, one new before, one new after.
        let second = [row(b"", 5, 7), row(b"a", 1, 8), row(b"b", -1, 7), row(b"c", 0, 7), row(b"c", 9, 7)];
        assert_eq!(replace(&db, &TABLE, second).expect("changed"), 4);
        assert_eq!(replace(&db, &TABLE, second).expect("same"), 0);
        assert_eq!(replace::<3>(&db, &TABLE, []).expect("emptied"), 5);
    }
}
