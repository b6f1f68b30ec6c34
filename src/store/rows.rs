//! Columns to values and back, for every store that keeps tables. Rows are parsed, not trusted: what
//! does not fit is a named inconsistency, never a default.

use std::fmt::Display;
use std::str::FromStr;

use serde::de::DeserializeOwned;

use super::StoreError;
use crate::order::{AttemptNumber, Status, Timestamp};

/// One row as a database gave it: its columns by their names, or why one has no such value.
pub(super) trait Columns {
    fn text(&self, column: &str) -> Result<Option<String>, String>;
    fn integer(&self, column: &str) -> Result<Option<i64>, String>;
    fn bytes(&self, column: &str) -> Result<Option<Vec<u8>>, String>;
    fn flag(&self, column: &str) -> Result<bool, String>;
}

/// What one column may hold.
pub(super) trait Cell: Sized {
    fn read(columns: &dyn Columns, column: &str) -> Result<Self, String>;
}

impl Cell for Option<String> {
    fn read(columns: &dyn Columns, column: &str) -> Result<Self, String> {
        columns.text(column)
    }
}

impl Cell for Option<i64> {
    fn read(columns: &dyn Columns, column: &str) -> Result<Self, String> {
        columns.integer(column)
    }
}

impl Cell for Option<Vec<u8>> {
    fn read(columns: &dyn Columns, column: &str) -> Result<Self, String> {
        columns.bytes(column)
    }
}

impl Cell for bool {
    fn read(columns: &dyn Columns, column: &str) -> Result<Self, String> {
        columns.flag(column)
    }
}

macro_rules! never_null {
    ($($cell:ty),+) => {
        $(impl Cell for $cell {
            fn read(columns: &dyn Columns, column: &str) -> Result<Self, String> {
                Option::<Self>::read(columns, column)?.ok_or_else(|| "it is null".to_owned())
            }
        })+
    };
}
never_null!(String, i64, Vec<u8>);

/// One row on its way to a value: knows the table and the row's name for complaints.
pub(super) struct Parsing<'a> {
    table: &'static str,
    row: &'a dyn Columns,
    name: String,
}

impl<'a> Parsing<'a> {
    /// `key`: the column that names the row (not a secret, not personal).
    pub fn new(table: &'static str, row: &'a dyn Columns, key: &str) -> Self {
        let name = row.text(key).ok().flatten().unwrap_or_default();
        Self { table, row, name }
    }

    /// For rows whose key is no text, or says too much.
    pub fn named(table: &'static str, row: &'a dyn Columns, name: impl Into<String>) -> Self {
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

    pub fn get<T: Cell>(&self, column: &str) -> Result<T, StoreError> {
        T::read(self.row, column).map_err(|why| self.wrong(format!("column {column}: {why}")))
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

    pub fn number_if_any<T: TryFrom<i64>>(&self, column: &str) -> Result<Option<T>, StoreError> {
        match self.get::<Option<i64>>(column)? {
            Some(_) => self.number(column).map(Some),
            None => Ok(None),
        }
    }

    pub fn attempt(&self, column: &str) -> Result<AttemptNumber, StoreError> {
        AttemptNumber::new(self.number(column)?)
            .ok_or_else(|| self.wrong(format!("column {column}: 1 to 1023 expected")))
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

    pub fn word_if_any<T: DeserializeOwned>(&self, column: &str) -> Result<Option<T>, StoreError> {
        match self.get::<Option<String>>(column)? {
            Some(_) => self.word(column).map(Some),
            None => Ok(None),
        }
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

/// A number of ours as databases hold it. `None` above 2^63, which nothing of ours reaches.
pub(super) fn integer(number: u64) -> Option<i64> {
    i64::try_from(number).ok()
}

pub(super) fn limit(rows: usize) -> i64 {
    i64::try_from(rows).unwrap_or(i64::MAX)
}

pub(super) const STATUSES: [Status; 4] =
    [Status::Unpaid, Status::Paying, Status::Paid, Status::Closed];
