//! Every table as ordered text: what two views of the same events share byte
//! for byte, whatever the order and the batches they came in.
//!
//! One line per row, `table|cell|cell|…`, tables by name, rows by primary key,
//! columns in the order of the schema. Cells: `null`; integers in decimal;
//! blobs as `x'…'` in lower-case hexadecimal; texts in double quotes, with
//! backslash, quote and control characters escaped. Numbers of rows, page
//! layout and the file's history leave no trace. For tests, for comparing two
//! peers, for a bug report; the caller hashes it if it wants a digest.

use std::fmt::Write as _;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};

use crate::error::QueryError;
use crate::query::Reader;
use crate::schema::SCHEMA_VERSION;
use crate::views::Views;

impl Reader {
    /// The whole dump. See [`Reader::dump_lines`] for views that are large.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn dump(&self) -> Result<String, QueryError> {
        whole(self.connection())
    }

    /// Hands over the dump line by line, each with its line break, all of one
    /// moment.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn dump_lines(&self, mut each: impl FnMut(&str)) -> Result<(), QueryError> {
        lines(self.connection(), &mut each).map_err(QueryError::reading("everything"))
    }
}

impl Views {
    /// The whole dump, as [`Reader::dump`] has it.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn dump(&self) -> Result<String, QueryError> {
        whole(self.connection())
    }
}

fn whole(db: &Connection) -> Result<String, QueryError> {
    let mut text = String::new();
    lines(db, &mut |line| text.push_str(line)).map_err(QueryError::reading("everything"))?;
    Ok(text)
}

fn lines(db: &Connection, each: &mut dyn FnMut(&str)) -> rusqlite::Result<()> {
    // One read transaction: all tables of one moment. It ends when dropped.
    let _moment = db.unchecked_transaction()?;
    each(&format!("schema|{SCHEMA_VERSION}\n"));
    // The tables the file has, not the ones this module knows: none can be
    // forgotten.
    let mut select = db.prepare(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' \
         ORDER BY name",
    )?;
    let tables: Vec<String> = select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for table in tables {
        let mut rows = db.prepare(&format!("SELECT * FROM \"{table}\" ORDER BY {}", key(db, &table)?))?;
        let columns = rows.column_count();
        let mut rows = rows.query([])?;
        let mut line = String::new();
        while let Some(row) = rows.next()? {
            line.clear();
            line.push_str(&table);
            push_cells(&mut line, row, columns)?;
            line.push('\n');
            each(&line);
        }
    }
    Ok(())
}

/// The columns of a table's primary key, in its order.
fn key(db: &Connection, table: &str) -> rusqlite::Result<String> {
    let mut select = db.prepare("SELECT name FROM pragma_table_info(?1) WHERE pk > 0 ORDER BY pk")?;
    let names: Vec<String> = select.query_map([table], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", "))
}

fn push_cells(line: &mut String, row: &Row<'_>, columns: usize) -> rusqlite::Result<()> {
    for index in 0..columns {
        line.push('|');
        // Writing into a String does not fail.
        let _ = match row.get_ref(index)? {
            ValueRef::Null => write!(line, "null"),
            ValueRef::Integer(value) => write!(line, "{value}"),
            ValueRef::Real(value) => write!(line, "{value:?}"),
            ValueRef::Text(text) => {
                push_text(line, &String::from_utf8_lossy(text));
                Ok(())
            }
            ValueRef::Blob(bytes) => {
                line.push_str("x'");
                let written = bytes.iter().try_for_each(|byte| write!(line, "{byte:02x}"));
                line.push('\'');
                written
            }
        };
    }
    Ok(())
}

/// Escapes by a rule of its own: the standard library's follows Unicode tables
/// that change between compilers.
fn push_text(line: &mut String, text: &str) {
    line.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                line.push('\\');
                line.push(c);
            }
            '\0'..='\u{1f}' | '\u{7f}' => {
                let _ = write!(line, "\\x{:02x}", u32::from(c));
            }
            other => line.push(other),
        }
    }
    line.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_one_form() {
        let db = Connection::open_in_memory().expect("in memory");
        db.execute_batch(
            "CREATE TABLE b (k INTEGER, t TEXT, d BLOB, n INTEGER, PRIMARY KEY (k)) STRICT, WITHOUT ROWID; \
             CREATE TABLE a (x INTEGER, y INTEGER, PRIMARY KEY (y, x)) STRICT, WITHOUT ROWID; \
             INSERT INTO b VALUES (2, 'q\"\\' || char(10) || '|é' || char(0) || 'z', x'00ff', NULL), (-1, '', x'', 3); \
             INSERT INTO a VALUES (1, 2), (2, 1);",
        )
        .expect("schema");
        assert_eq!(
            whole(&db).expect("readable"),
            "schema|3\na|2|1\na|1|2\nb|-1|\"\"|x''|3\nb|2|\"q\\\"\\\\\\x0a|é\\x00z\"|x'00ff'|null\n"
        );
    }
}
