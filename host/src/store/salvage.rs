//! What can still be read of a store some of whose pages are damaged.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use super::schema::migrate;
use super::{ReadError, Reader};

/// As many rows are sought where a damaged page does not tell how many there are, or tells so many
/// that a file of its size has no room for them.
const SOUGHT: i64 = 1 << 20;

/// Bytes of the file for each row that may be sought beyond these: less than a record takes, and not
/// so few that a damaged number would keep us for hours.
const ROOM: i64 = 64;

impl Reader {
    /// A copy in memory of every row that a search for it finds. What checksums make of the copy is
    /// told by who reads it.
    ///
    /// # Errors
    /// [`ReadError`] when there is no memory for it.
    pub(super) fn salvaged(&self) -> Result<Self, ReadError> {
        let connection = salvage(&self.connection).map_err(|source| self.read_error(&source))?;
        Ok(Self { path: self.path.clone(), connection })
    }
}

fn salvage(from: &Connection) -> rusqlite::Result<Connection> {
    let mut to = Connection::open_in_memory()?;
    migrate(&mut to, 0)?;
    let copying = to.transaction()?;
    let mut cells = Vec::new();
    let mut texts = Vec::new();
    for table in ["stored_runs", "stored_texts", "stored_names", "stored_cells"] {
        let sql = format!("SELECT * FROM {table} WHERE id = ?1");
        for id in 1..=last(from, table) {
            if copy(from, &copying, table, &sql, id)? > 0 {
                match table {
                    "stored_cells" => cells.push(id),
                    "stored_texts" => texts.push(id),
                    _ => {}
                }
            }
        }
    }
    for table in ["stored_metrics", "stored_recalls"] {
        let sql = format!("SELECT * FROM {table} WHERE cell = ?1");
        for cell in &cells {
            copy(from, &copying, table, &sql, *cell)?;
        }
    }
    let sql = "SELECT * FROM stored_spectra WHERE dataset_digest = ?1";
    for text in texts {
        copy(from, &copying, "stored_spectra", sql, text)?;
    }
    // One that cannot be read counts nothing, so that rows are known to be missing.
    copying.execute("DELETE FROM stored_tally", [])?;
    let sql = "SELECT * FROM stored_tally WHERE ?1";
    if copy(from, &copying, "stored_tally", sql, 1)? != 1 {
        copying
            .execute_batch("DELETE FROM stored_tally; INSERT INTO stored_tally VALUES (0, 0, 0)")?;
    }
    copying.commit()?;
    Ok(to)
}

/// The last row of a table, as far as that can be read.
fn last(from: &Connection, table: &str) -> i64 {
    let number = |sql: &str| from.query_row(sql, [], |row| row.get::<_, i64>(0));
    let bytes = number("PRAGMA page_count").unwrap_or(0) * number("PRAGMA page_size").unwrap_or(0);
    let told = number(&format!("SELECT coalesce(max(id), 0) FROM {table}"));
    told.unwrap_or(SOUGHT).min((bytes / ROOM).max(SOUGHT))
}

/// Copies the rows that `sql` finds for `id`, up to the first that cannot be read; how many.
fn copy(
    from: &Connection,
    to: &Connection,
    table: &str,
    sql: &str,
    id: i64,
) -> rusqlite::Result<usize> {
    let values = |row: &Row<'_>, n: usize| -> rusqlite::Result<Vec<Value>> {
        (0..n).map(|column| row.get(column)).collect()
    };
    let mut found = Vec::new();
    if let Ok(mut statement) = from.prepare_cached(sql) {
        let n = statement.column_count();
        if let Ok(mut rows) = statement.query([id]) {
            while let Ok(Some(row)) = rows.next() {
                // Text that is none, for one.
                let Ok(values) = values(row, n) else { continue };
                found.push(values);
            }
        }
    }
    let mut copied = 0;
    for values in found {
        let places = vec!["?"; values.len()].join(", ");
        let sql = format!("INSERT OR IGNORE INTO {table} VALUES ({places})");
        // A value of a wrong type is refused by the table, and is no loss.
        copied += to.prepare_cached(&sql)?.execute(params_from_iter(values)).unwrap_or(0);
    }
    Ok(copied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_is_too_far_behind_in_a_large_store_and_none_is_sought_where_no_room_is_for_it() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, 0).unwrap();
        let put = |sql: &str| connection.execute_batch(sql).unwrap();
        put("INSERT INTO stored_texts VALUES (9223372036854775806, 'a damaged number')");
        assert_eq!(last(&connection, "stored_texts"), SOUGHT);
        put("DELETE FROM stored_texts; INSERT INTO stored_texts VALUES (1200000, 'the last')");
        put("INSERT INTO stored_names VALUES (1, hex(zeroblob(40000000)))");
        assert_eq!(last(&connection, "stored_texts"), 1_200_000);
    }
}
