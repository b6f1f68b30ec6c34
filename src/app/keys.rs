//! The keys of this gateway: from the configuration, or, in demo mode, made at the first start.

use super::demo_keys::DemoKeys;
use super::{AppError, Foundation, accounts};
use crate::config::{Config, ConfigError, Mode, Secrets};
use crate::sealing::Sealer;

/// Sealer and, in demo mode, the key material of the simulated providers.
pub(super) struct Keys {
    pub(super) sealer: Sealer,
    pub(super) demo: Option<DemoKeys>,
}

impl Keys {
    pub(super) fn of(config: &Config, foundation: &Foundation) -> Result<Self, AppError> {
        let demo = match config.mode {
            Mode::Demo if lacks_something(config) => Some(DemoKeys::at(
                &config.data_folder().join("demo-keys.json"),
                foundation.clock.as_ref(),
                foundation.random.as_ref(),
            )?),
            Mode::Demo | Mode::Production => None,
        };
        let made = demo.as_ref().map(DemoKeys::symmetric).transpose()?;
        let mut field: Vec<(u8, [u8; 32])> = config
            .secrets
            .field_keys
            .iter()
            .filter_map(Secrets::field_key)
            .collect();
        if field.is_empty() {
            field.extend(made.map(|[field, ..]| (0, field)));
        }
        let one = |given: &Option<secrecy::SecretString>, index: usize, name: &str| {
            given
                .as_ref()
                .and_then(Secrets::key)
                .or_else(|| made.map(|made| made[index]))
                .ok_or_else(|| ConfigError::one(name, "nothing", "a key"))
        };
        let index_key = one(&config.secrets.index_key, 1, "secrets.index_key")?;
        let token_key = one(&config.secrets.token_key, 2, "secrets.token_key")?;
        if field.is_empty() {
            return Err(ConfigError::one("secrets.field_keys", "nothing", "a key").into());
        }
        Ok(Self {
            sealer: Sealer::new(
                &field,
                &index_key,
                &token_key,
                std::sync::Arc::clone(&foundation.random),
            ),
            demo,
        })
    }
}

/// Does the configuration leave anything for demo mode to make? Several nodes could not share that.
const fn lacks_something(config: &Config) -> bool {
    let Secrets {
        field_keys,
        index_key,
        token_key,
    } = &config.secrets;
    accounts::needs_simulators(config)
        || field_keys.is_empty()
        || index_key.is_none()
        || token_key.is_none()
}
