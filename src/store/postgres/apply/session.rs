//! One connection within one transaction: how statements are sent, and what their errors mean.

use std::sync::atomic::{AtomicI64, Ordering};

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Row;
use tokio_postgres::error::{Error, SqlState};
use tokio_postgres::types::ToSql;

use crate::store::Rejection;
use crate::store::step::broken;

pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// What the rules of the schema raise.
const RULE: &str = "EP001";

/// Why a transaction was not applied.
#[derive(Debug)]
pub(in crate::store::postgres) enum Failure {
    /// It alone falls.
    Rejected(Rejection),
    /// The database is in trouble: the whole group falls.
    Database(Error),
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match rule_of(&error) {
            Some(rule) => Self::Rejected(broken(rule)),
            None => Self::Database(error),
        }
    }
}

/// The rule that refused, named without any value of a row: PostgreSQL's details quote them.
fn rule_of(error: &Error) -> Option<String> {
    let Some(inner) = error.as_db_error() else {
        // A value that the client itself could not write down never reached the server.
        let told = error.to_string();
        return told
            .starts_with("error serializing parameter")
            .then_some(told);
    };
    let code = inner.code().code();
    if code == RULE {
        return Some(inner.message().to_owned());
    }
    let of_a_row = matches!(&code[..2], "22" | "23")
        || *inner.code() == SqlState::PROGRAM_LIMIT_EXCEEDED
        || *inner.code() == SqlState::CARDINALITY_VIOLATION;
    let names = [inner.table(), inner.constraint(), inner.column()];
    of_a_row.then(|| {
        let names: Vec<&str> = names.into_iter().flatten().collect();
        format!("SQLSTATE {code} {}", names.join(" "))
            .trim_end()
            .to_owned()
    })
}

pub(in crate::store::postgres) struct Session<'a> {
    pub client: &'a ClientWrapper,
    /// Events written so far: their turns within the transaction.
    turns: AtomicI64,
}

impl<'a> Session<'a> {
    pub fn new(client: &'a ClientWrapper) -> Self {
        Self {
            client,
            turns: AtomicI64::new(0),
        }
    }

    /// The next event's turn. One that was undone is not given out again: turns rise, no more.
    pub fn turn(&self) -> i64 {
        self.turns.fetch_add(1, Ordering::Relaxed)
    }

    pub async fn execute(&self, sql: &str, params: Params<'_>) -> Result<u64, Failure> {
        let statement = self.client.prepare_cached(sql).await?;
        Ok(self.client.execute(&statement, params).await?)
    }

    pub async fn one(&self, sql: &str, params: Params<'_>) -> Result<Option<Row>, Failure> {
        Ok(self.try_one(sql, params).await?)
    }

    /// For what is no step, and cannot fall alone.
    pub async fn try_one(&self, sql: &str, params: Params<'_>) -> Result<Option<Row>, Error> {
        let statement = self.client.prepare_cached(sql).await?;
        self.client.query_opt(&statement, params).await
    }

    pub async fn exists(&self, sql: &str, params: Params<'_>) -> Result<bool, Failure> {
        Ok(self.one(sql, params).await?.is_some())
    }

    /// A statement of the transaction itself.
    pub async fn run(&self, sql: &str) -> Result<(), Error> {
        self.client.batch_execute(sql).await
    }
}

/// A rule of ours that no constraint expresses: something had to change.
pub(super) fn changed(rows: u64, rule: &str) -> Result<(), Failure> {
    if rows == 0 {
        return Err(broken(rule).into());
    }
    Ok(())
}
