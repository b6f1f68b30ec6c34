//! The composition root: the only place that names concrete stores, locks and connectors, and the
//! order in which everything starts and stops.

mod accounts;
mod cluster;
pub mod commands;
mod console;
mod demo_keys;
mod demo_mode;
mod foundation;
mod gauges;
mod keys;
mod locks;
mod memory;
mod node;
mod personal;
mod school;
mod simulation;

use std::path::PathBuf;
use std::sync::Arc;

pub use foundation::migrate;
pub use locks::{redis_settings, shared_limits};
pub use node::serve;
pub use school::{School, school};
pub use simulation::{Simulation, simulate};

use crate::config::{Config, Mode};
use crate::operations::{OperationError, Operations};
use crate::retention::erase::Erase;
use crate::retention::reseal::Reseal;
use crate::store::{StoreError, postgres, sqlite};
use crate::webhook::guard::{Guard, Policy, SystemLookup};
use foundation::Foundation;

/// Why the gateway, or a command, did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    #[error(transparent)]
    Configuration(#[from] crate::config::ConfigError),
    #[error("{key}: cannot listen on {address}: {why}")]
    Listen {
        key: &'static str,
        address: String,
        why: String,
    },
    #[error(transparent)]
    OpenSqlite(#[from] sqlite::OpenError),
    #[error(transparent)]
    OpenPostgres(#[from] postgres::OpenError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Provider(#[from] crate::provider::ProviderError),
    #[error("{0}")]
    Demo(String),
    #[error("{0}")]
    Start(String),
    #[error("no node listens on the socket")]
    NoNode,
    #[error("the node's socket: {0}")]
    Socket(String),
    #[error("{0}")]
    Node(String),
    /// The node said so: the same may work later.
    #[error("{0}")]
    Later(String),
    #[error(transparent)]
    Operation(#[from] OperationError),
}

impl AppError {
    /// Is it the configuration that has to change (exit 78)?
    pub const fn is_configuration(&self) -> bool {
        matches!(self, Self::Configuration(_) | Self::Provider(_))
    }
}

/// Where demo mode keeps a school's key, in the form that `merchant create` prints.
pub fn demo_merchant_file(config: &Config, school: crate::demo::School) -> PathBuf {
    use crate::demo::School;
    config.data_folder().join(match school {
        School::SelfStudy => "demo-merchant.json",
        School::Tuition => "demo-merchant-tuition.json",
        School::Language => "demo-merchant-language.json",
    })
}

/// Where demo mode keeps its operators' passwords, by their names.
pub fn demo_operators_file(config: &Config) -> PathBuf {
    config.data_folder().join("demo-operators.json")
}

/// What a command that opens the store itself works with.
async fn open_operations(config: &Config) -> Result<Operations, AppError> {
    let foundation = Foundation::open(config).await?;
    let keys = keys::Keys::of(config, &foundation)?;
    personal::check_keys(foundation.personal.as_ref(), &keys.sealer).await?;
    Ok(operations(config, &foundation, &keys))
}

fn operations(config: &Config, foundation: &Foundation, keys: &keys::Keys) -> Operations {
    let guard = Guard::new(webhook_policy(config), Arc::new(SystemLookup));
    Operations {
        store: Arc::clone(&foundation.store),
        reseal: Arc::new(Reseal::new(
            Arc::clone(&foundation.personal),
            keys.sealer.clone(),
        )),
        erase: Erase::new(
            Arc::clone(&foundation.personal),
            Arc::clone(&foundation.clock),
            Arc::clone(&foundation.random),
        ),
        orders: None,
        sealer: keys.sealer.clone(),
        clock: Arc::clone(&foundation.clock),
        random: Arc::clone(&foundation.random),
        accounts: accounts::names(config, keys),
        reconciler: None,
        check_webhook_url: Arc::new(move |url| {
            let guard = guard.clone();
            Box::pin(async move {
                let checked = guard.check_url(&url).await;
                checked.map(drop).map_err(|refused| refused.to_string())
            })
        }),
        zone_minutes: config.zone,
    }
}

/// What webhooks may dial: demo mode adds loopback, for the demo enrolment system lives there.
fn webhook_policy(config: &Config) -> Policy {
    let mut allowed_networks = config.webhooks.allowed_networks.clone();
    if config.mode == Mode::Demo {
        for loopback in ["127.0.0.0/8", "::1/128"] {
            allowed_networks.push(loopback.parse().expect("a network"));
        }
    }
    Policy {
        production: config.mode == Mode::Production,
        allowed_networks,
        admin: Some(config.admin.listen),
    }
}
