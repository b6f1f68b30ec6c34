//! A row of SQLite's by the names of its columns, and what SQLite says when something fails.

use rusqlite::Row;
use rusqlite::types::FromSql;

use crate::store::StoreError;
use crate::store::rows::Columns;

impl Columns for Row<'_> {
    fn text(&self, column: &str) -> Result<Option<String>, String> {
        cell(self, column)
    }

    fn integer(&self, column: &str) -> Result<Option<i64>, String> {
        cell(self, column)
    }

    fn bytes(&self, column: &str) -> Result<Option<Vec<u8>>, String> {
        cell(self, column)
    }

    fn flag(&self, column: &str) -> Result<bool, String> {
        cell(self, column)
    }
}

fn cell<T: FromSql>(row: &Row<'_>, column: &str) -> Result<T, String> {
    row.get(column).map_err(|error| error.to_string())
}

/// What SQLite says when a read or a commit fails, for an operator.
pub(super) fn unavailable(error: &rusqlite::Error) -> StoreError {
    StoreError::Unavailable {
        why: error.to_string(),
    }
}
