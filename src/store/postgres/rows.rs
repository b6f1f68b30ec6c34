//! Asking PostgreSQL, and its rows by the names of their columns.

use std::error::Error as _;
use std::time::Duration;

use deadpool_postgres::Object;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, ToSql};
use tokio_postgres::{Error, Row};

use super::{Need, PostgresStore};
use crate::store::StoreError;
use crate::store::records::Read;
use crate::store::rows::Columns;

/// Values for `$1`, `$2` …
pub(super) type Values<'a> = &'a [&'a (dyn ToSql + Sync)];

impl PostgresStore {
    /// At most one row.
    pub(super) async fn one<T>(
        &self,
        sql: &str,
        values: Values<'_>,
        parse: impl Fn(&dyn Columns) -> Read<T> + Send,
    ) -> Read<Option<T>> {
        self.one_for(Need::Any, sql, values, parse).await
    }

    /// The same for whoever needs it so.
    pub(super) async fn one_for<T>(
        &self,
        need: Need,
        sql: &str,
        values: Values<'_>,
        parse: impl Fn(&dyn Columns) -> Read<T> + Send,
    ) -> Read<Option<T>> {
        let rows = self.rows(need, sql, values).await?;
        rows.first().map(|row| parse(row)).transpose()
    }

    pub(super) async fn many<T>(
        &self,
        sql: &str,
        values: Values<'_>,
        parse: impl Fn(&dyn Columns) -> Read<T> + Send,
    ) -> Read<Vec<T>> {
        let rows = self.rows(Need::Any, sql, values).await?;
        rows.iter().map(|row| parse(row)).collect()
    }

    /// A statement that may be repeated: where its connection turns out to be dead, it is asked once
    /// more on a new one (F16).
    async fn rows(&self, need: Need, sql: &str, values: Values<'_>) -> Read<Vec<Row>> {
        match self.ask(need, sql, values).await? {
            Answer::Given(rows) => Ok(rows),
            Answer::Refused(error) => Err(error),
            // What broke this one has likely broken those that rest in the pool as well.
            Answer::Dead(_) => {
                for pool in [&self.general, &self.callbacks] {
                    pool.retain(|_, _| false);
                }
                match self.ask(need, sql, values).await? {
                    Answer::Given(rows) => Ok(rows),
                    Answer::Refused(error) | Answer::Dead(error) => Err(error),
                }
            }
        }
    }

    async fn ask(&self, need: Need, sql: &str, values: Values<'_>) -> Read<Answer> {
        let connection = self.reader(need).await?;
        let asked = async {
            let statement = connection.prepare_cached(sql).await?;
            connection.query(&statement, values).await
        };
        let (is_dead, error) = match tokio::time::timeout(ANSWER, asked).await {
            Ok(Ok(rows)) => return Ok(Answer::Given(rows)),
            Ok(Err(error)) => (is_dead(&connection, &error), refused(&error)),
            Err(_) => (true, silent()),
        };
        if !is_dead {
            return Ok(Answer::Refused(error));
        }
        // Nobody gets it again.
        drop(Object::take(connection));
        Ok(Answer::Dead(error))
    }
}

/// What became of one try.
enum Answer {
    Given(Vec<Row>),
    Refused(StoreError),
    /// The connection failed, not the statement.
    Dead(StoreError),
}

/// How long an answer may take. The server ends a statement sooner (`statement_timeout`): whoever has
/// not answered by then has stopped, though its machine may still hold the connection.
const ANSWER: Duration = Duration::from_secs(4);

fn silent() -> StoreError {
    StoreError::Unavailable {
        why: format!("no answer within {} s", ANSWER.as_secs()),
    }
}

fn is_dead(connection: &Object, error: &Error) -> bool {
    let said = error.code();
    connection.is_closed()
        || error.is_closed()
        || error
            .source()
            .is_some_and(<dyn std::error::Error>::is::<std::io::Error>)
        || said.is_some_and(|code| {
            [
                SqlState::ADMIN_SHUTDOWN,
                SqlState::CRASH_SHUTDOWN,
                SqlState::CANNOT_CONNECT_NOW,
            ]
            .contains(code)
        })
}

/// What PostgreSQL says when a read fails, for an operator: without its details, which may quote the
/// values of a row.
pub(super) fn refused(error: &Error) -> StoreError {
    let why = error.as_db_error().map_or_else(
        || error.to_string(),
        |said| format!("{} ({})", said.message(), said.code().code()),
    );
    StoreError::Unavailable { why }
}

impl Columns for Row {
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

fn cell<'a, T: FromSql<'a>>(row: &'a Row, column: &str) -> Result<T, String> {
    row.try_get(column).map_err(|error| error.to_string())
}
