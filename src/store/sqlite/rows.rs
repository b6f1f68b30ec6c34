//! Columns to values and back. Rows are parsed, not trusted: what does not fit is a named
//! inconsistency, never a default.

use std::fmt::Display;
use std::str::FromStr;

use rusqlite::Row;
use rusqlite::types::FromSql;
use serde::de::DeserializeOwned;

use crate::order::{Status, Timestamp};
use crate::store::StoreError;

/// One row on its way to a value: knows the table and the row's name for complaints.
pub(super) struct Parsing<'a> {
    table: &'static str,
    row: &'a Row<'a>,
    name: String,
}

impl<'a> Parsing<'a> {
    /// `key`: the column that names the row (not a secret, not personal).
    pub fn new(table: &'static str, row: &'a Row<'a>, key: &str) -> Self {
        let name = row.get::<_, String>(key).unwrap_or_default();
        Self { table, row, name }
    }

    /// For rows whose key is bytes or says too much.
    pub fn named(table: &'static str, row: &'a Row<'a>, name: impl Into<String>) -> Self {
        Self {
            table,
            row,
            name: name.into(),
        }
    }

    pub fn wrong(&self, why: impl Into<String>) -> StoreError {
        StoreError::Inconsistent {
            table: self.table,
            row: self.name.clone(),
            why: why.into(),
        }
    }

    pub fn get<T: FromSql>(&self, column: &str) -> Result<T, StoreError> {
        self.row
            .get(column)
            .map_err(|error| self.wrong(format!("column {column}: {error}")))
    }

    /// An id in the contract's spelling, or another text with one reading.
    pub fn parse<T: FromStr<Err: Display>>(&self, column: &str) -> Result<T, StoreError> {
        self.get::<String>(column)?
            .parse()
            .map_err(|error| self.wrong(format!("column {column}: {error}")))
    }

    pub fn parse_if_any<T: FromStr<Err: Display>>(
        &self,
        column: &str,
    ) -> Result<Option<T>, StoreError> {
        self.get::<Option<String>>(column)?
            .map(|text| {
                text.parse()
                    .map_err(|error| self.wrong(format!("column {column}: {error}")))
            })
            .transpose()
    }

    pub fn time(&self, column: &str) -> Result<Timestamp, StoreError> {
        self.get(column).map(Timestamp::from_millis)
    }

    pub fn time_if_any(&self, column: &str) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.get::<Option<i64>>(column)?.map(Timestamp::from_millis))
    }

    pub fn number<T: TryFrom<i64>>(&self, column: &str) -> Result<T, StoreError> {
        let number: i64 = self.get(column)?;
        T::try_from(number)
            .map_err(|_| self.wrong(format!("column {column}: {number} is out of range")))
    }

    pub fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        serde_json::from_str(&self.get::<String>(column)?).map_err(|error| {
            // Where, not what: the message of serde may quote the value.
            let (kind, place) = (error.classify(), error.column());
            self.wrong(format!(
                "column {column}: not the JSON expected ({kind:?} error at byte {place})"
            ))
        })
    }

    /// A unit variant by its name, as its JSON has it.
    pub fn word<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        let word: String = self.get(column)?;
        serde_json::from_value(serde_json::Value::String(word))
            .map_err(|_| self.wrong(format!("column {column}: not a word expected there")))
    }

    pub fn bytes<const N: usize>(&self, column: &str) -> Result<[u8; N], StoreError> {
        self.bytes_if_any(column)?
            .ok_or_else(|| self.wrong(format!("column {column}: {N} bytes expected, found none")))
    }

    pub fn bytes_if_any<const N: usize>(
        &self,
        column: &str,
    ) -> Result<Option<[u8; N]>, StoreError> {
        self.get::<Option<Vec<u8>>>(column)?
            .map(|bytes| {
                let found = bytes.len();
                bytes.try_into().map_err(|_| {
                    self.wrong(format!(
                        "column {column}: {N} bytes expected, found {found}"
                    ))
                })
            })
            .transpose()
    }
}

/// A number of ours as SQLite holds it. `None` above 2^63, which nothing of ours reaches.
pub(super) fn integer(number: u64) -> Option<i64> {
    i64::try_from(number).ok()
}

pub(super) fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

pub(super) const STATUSES: [Status; 4] =
    [Status::Unpaid, Status::Paying, Status::Paid, Status::Closed];

/// What SQLite says when a read or a commit fails, for an operator.
pub(super) fn unavailable(error: &rusqlite::Error) -> StoreError {
    StoreError::Unavailable {
        why: error.to_string(),
    }
}
