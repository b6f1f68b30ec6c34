//! Field keys and retention at the start of a node: a store whose values nobody could open is refused,
//! and the daily erasure is begun.

use std::sync::Arc;

use super::{AppError, Foundation};
use crate::config::{Config, ConfigError};
use crate::locks::Locks;
use crate::retention::erase::Erase;
use crate::sealing::Sealer;
use crate::store::personal::PersonalStore;

/// Refuses a configuration that lacks a key under which something stands.
pub(super) async fn check_keys(store: &dyn PersonalStore, sealer: &Sealer) -> Result<(), AppError> {
    let counts = store.sealed_counts().await?;
    let known: Vec<u8> = sealer.key_numbers().collect();
    if let Some(lacking) = counts.iter().find(|count| !known.contains(&count.key)) {
        let (key, values, table) = (lacking.key, lacking.values, lacking.table.as_str());
        let numbers: Vec<String> = known.iter().map(u8::to_string).collect();
        return Err(ConfigError::one(
            "secrets.field_keys",
            format!("keys {}", numbers.join(", ")),
            format!(
                "key {key} as well: {values} values of {table} stand under it, until enrollpay personal reencrypt has brought them under the newest"
            ),
        )
        .into());
    }
    let newest = sealer.newest_key();
    let older = counts.iter().filter(|count| count.key != newest);
    let older: u64 = older.map(|count| count.values).sum();
    if older > 0 {
        tracing::info!(
            values = older,
            newest,
            "values stand under older field keys: enrollpay personal reencrypt brings them under the newest"
        );
    }
    Ok(())
}

/// The daily erasure, where the configuration asks for one.
pub(super) fn daily_erasure(
    config: &Config,
    foundation: &Foundation,
    locks: &Arc<dyn Locks>,
) -> Option<impl Future<Output = ()> + 'static> {
    let days = config.retention.personal_days;
    let job = Erase::new(
        Arc::clone(&foundation.personal),
        Arc::clone(&foundation.clock),
        Arc::clone(&foundation.random),
    );
    (days > 0).then(|| job.daily(days, Arc::clone(locks)))
}
