//! The store of any number of nodes: PostgreSQL. Start reading at [`PostgresStore::open`] (`opening`
//! has the migrations and the roles, `connecting` and `durability` which server is talked to), then `writer` (the group
//! commit and what becomes of a lost answer), `apply` (one transaction, the rules that refuse it),
//! `reads` and `books` (money). The schema with its triggers is in `migrations`; `personal` re-seals
//! and erases.

mod address;
mod apply;
mod bills;
mod books;
mod connecting;
mod desk;
mod durability;
mod opening;
mod outcome;
mod personal;
mod reads;
mod reconciliation;
mod roles;
mod rows;
mod schema;
mod store;
mod writer;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::{Object, Pool, PoolError, TimeoutType, Timeouts};

use super::step::Step;
use super::{Rejection, StoreError, Transaction};
use connecting::Connections;
use opening::Opened;
use writer::Writer;

pub use address::AddressError;
pub use durability::Risk;
pub use opening::{OpenError, Options};

/// Pools of connections to one PostgreSQL database.
#[derive(Debug)]
pub struct PostgresStore {
    /// Everything but what money that moved needs.
    general: Pool,
    /// Facts of providers alone, and the questions before them: no load of others keeps money out of
    /// the books (F15).
    callbacks: Pool,
    connections: Connections,
    /// `None` once closed.
    writer: Mutex<Option<Writer>>,
}

/// What a question is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Any,
    /// A fact is to be recorded: it never waits for a connection behind anything else (F15).
    Fact,
}

impl PostgresStore {
    /// Connects, checks the server and brings its schema up to date (or checks it, see
    /// [`Options::migrate`]). Connections live in the runtime that this is called from.
    pub async fn open(url: &str, options: Options) -> Result<Self, OpenError> {
        let Opened {
            general,
            callbacks,
            connections,
        } = opening::open(url, &options).await?;
        let flights = ((options.general / 4).max(1), (options.callbacks / 2).max(1));
        let writer = Writer::start(&general, &callbacks, flights);
        Ok(Self {
            general,
            callbacks,
            connections,
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Brings the schema up to date and gives the service's role its rights. Returns the version that
    /// the schema has now.
    pub async fn migrate(url: &str, options: Options) -> Result<i64, OpenError> {
        opening::migrate(url, &options).await
    }

    /// Whether a failover may lose what was acknowledged, as the server is configured now. Changes
    /// nothing; an error where it cannot be a store at all.
    pub async fn risk(url: &str, options: Options) -> Result<Option<Risk>, OpenError> {
        opening::look_for_risk(url, &options).await
    }

    /// A connection for reading, for as long as it is held. Waits a bounded time for one.
    async fn reader(&self, need: Need) -> Result<Object, StoreError> {
        if need == Need::Fact {
            let at_once = Timeouts {
                wait: Some(Duration::ZERO),
                ..self.general.timeouts()
            };
            match self.general.timeout_get(&at_once).await {
                Err(PoolError::Timeout(TimeoutType::Wait)) => {}
                got => return got.map_err(|error| unavailable(&error)),
            }
        }
        let pool = match need {
            Need::Any => &self.general,
            Need::Fact => &self.callbacks,
        };
        pool.get().await.map_err(|error| unavailable(&error))
    }

    /// `Store::commit`.
    async fn commit_all(
        &self,
        transactions: Vec<Transaction>,
    ) -> Result<Vec<Result<(), Rejection>>, StoreError> {
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
            .ok_or_else(closed)?;
        if transactions.is_empty() {
            return Ok(Vec::new());
        }
        // JSON is written here, by many, rather than by the few who flush.
        let steps = transactions.into_iter().map(Step::new).collect();
        writer.commit(steps).await
    }

    /// `Store::close`.
    async fn close_all(&self) {
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = writer {
            writer.close().await;
            self.connections.ending();
            self.general.close();
            self.callbacks.close();
            self.connections.ended().await;
        }
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable {
        why: "it was closed".to_owned(),
    }
}

/// What stands between us and the database, for an operator.
fn unavailable(error: &(dyn std::error::Error + 'static)) -> StoreError {
    if let Some(PoolError::Closed) = error.downcast_ref() {
        return closed();
    }
    if connecting::takes_no_writes(error) {
        return StoreError::Unavailable {
            why: "the server is a standby or read-only: it takes no writes".to_owned(),
        };
    }
    StoreError::Unavailable {
        why: opening::told(error),
    }
}
