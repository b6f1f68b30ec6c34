//! `enrollpay migrate`

use super::Failure;
use crate::app;
use crate::config::Config;

pub(super) fn run(config: &Config) -> Result<(), Failure> {
    let version = app::migrate(config).map_err(Failure::new)?;
    eprintln!("the store's schema is up to date: version {version}");
    Ok(())
}
