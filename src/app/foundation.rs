//! The clock, the dice and the store of this process.

use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;

use secrecy::ExposeSecret as _;

use super::AppError;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, StoreKind};
use crate::random::{Random, SystemRandom};
use crate::store::Store;
use crate::store::personal::PersonalStore;
use crate::store::postgres::{self, PostgresStore};
use crate::store::sqlite::{self, SqliteStore};

/// What everything else stands on.
pub(super) struct Foundation {
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub store: Arc<dyn Store>,
    /// The same store, for the jobs on personal data.
    pub personal: Arc<dyn PersonalStore>,
}

impl Foundation {
    pub async fn open(config: &Config) -> Result<Self, AppError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let folder = config.data_folder();
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| AppError::Start(format!("{}: {error}", folder.display())))?;
        let (store, personal): (Arc<dyn Store>, Arc<dyn PersonalStore>) = match config.store_kind()
        {
            StoreKind::Sqlite(path) => {
                let options = sqlite::Options {
                    migrate: config.store.migrate,
                    ..sqlite::Options::new(Arc::clone(&clock))
                };
                let store = Arc::new(SqliteStore::open(path, options)?);
                (store.clone(), store)
            }
            StoreKind::Postgres(url) => {
                let options = postgres_options(config);
                let store = Arc::new(PostgresStore::open(url.expose_secret(), options).await?);
                (store.clone(), store)
            }
        };
        Ok(Self {
            clock,
            random: Arc::new(SystemRandom),
            store,
            personal,
        })
    }
}

fn postgres_options(config: &Config) -> postgres::Options {
    postgres::Options {
        migrate: config.store.migrate,
        service_role: config.store.service_role.clone(),
        ca_file: config.store.ca_file.clone(),
        general: config.store.connections,
        callbacks: config.store.callback_connections,
    }
}

/// Brings the schema of the configured store up to date and lets go of it. Returns its version now.
pub fn migrate(config: &Config) -> Result<i64, AppError> {
    match config.store_kind() {
        StoreKind::Sqlite(path) => Ok(SqliteStore::migrate(path)?),
        StoreKind::Postgres(url) => actix_web::rt::System::new().block_on(async {
            let options = postgres_options(config);
            Ok(PostgresStore::migrate(url.expose_secret(), options).await?)
        }),
    }
}
