//! `enrollpay migrate`

use super::Failure;
use crate::app::{AppError, NO_POSTGRES};
use crate::config::{Config, StoreKind};
use crate::store::sqlite::SqliteStore;

pub(super) fn run(config: &Config) -> Result<(), Failure> {
    let StoreKind::Sqlite(path) = config.store_kind() else {
        return Err(Failure::new(AppError::Start(NO_POSTGRES.to_owned())));
    };
    SqliteStore::migrate(path).map_err(Failure::new)?;
    eprintln!("the store's schema is up to date");
    Ok(())
}
