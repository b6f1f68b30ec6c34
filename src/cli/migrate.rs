//! `enrollpay migrate`

use super::Failure;
use crate::config::Config;
use crate::store::sqlite::SqliteStore;

pub(super) fn run(config: &Config) -> Result<(), Failure> {
    SqliteStore::migrate(config.store_path()).map_err(Failure::new)?;
    eprintln!("the store's schema is up to date");
    Ok(())
}
