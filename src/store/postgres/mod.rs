//! The store of any number of nodes: PostgreSQL. Start reading at [`PostgresStore::open`] (`opening`
//! has the connection's terms, the checks, the migrations and the roles), then `writer` (the group
//! commit and what becomes of a lost answer), `apply` (one transaction, the rules that refuse it),
//! `reads` and `books` (money). The schema with its triggers is in `migrations`; `personal` re-seals
//! and erases.

mod address;
mod opening;
mod roles;
mod schema;

use deadpool_postgres::{Object, Pool};

use super::StoreError;

/// Pools of connections to one PostgreSQL database.
#[derive(Clone, Debug)]
pub struct PostgresStore {
    /// Everything but what money that moved needs.
    general: Pool,
    /// Facts of providers alone: no load of others keeps money out of the books (F15).
    callbacks: Pool,
}

pub use address::AddressError;
pub use opening::{OpenError, Options};

impl PostgresStore {
    /// Connects, checks the server and brings its schema up to date (or checks it, see
    /// [`Options::migrate`]). Connections live in the runtime that this is called from.
    pub async fn open(url: &str, options: Options) -> Result<Self, OpenError> {
        let (general, callbacks) = opening::open(url, &options).await?;
        Ok(Self { general, callbacks })
    }

    /// Brings the schema up to date and gives the service's role its rights. Returns the version that
    /// the schema has now.
    pub async fn migrate(url: &str, options: Options) -> Result<i64, OpenError> {
        opening::migrate(url, &options).await
    }

    /// A connection for reading, for as long as it is held. Waits a bounded time for one.
    async fn reader(&self) -> Result<Object, StoreError> {
        self.general
            .get()
            .await
            .map_err(|error| unavailable(&error))
    }
}

/// What stands between us and the database, for an operator.
fn unavailable(error: &dyn std::error::Error) -> StoreError {
    StoreError::Unavailable {
        why: error.to_string(),
    }
}
