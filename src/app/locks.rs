//! Where leases are held, and where the nodes count their callers together, as `locks.url` says.

use std::sync::Arc;

use async_trait::async_trait;

use super::AppError;
use crate::config::{Config, ConfigError, LocksKind, RedisAddress, RedisTopology};
use crate::http::limits::{Budget, SharedLimits, Taken};
use crate::locks::Locks;
use crate::locks::memory::MemoryLocks;
use crate::locks::redis::{self, RedisBudgets, RedisLocks, RedisSettings, SettingsError, Topology};
use crate::random::Random;

/// What the nodes share beside the store.
pub(super) struct Shared {
    pub(super) locks: Arc<dyn Locks>,
    /// `None`: this node limits its callers alone.
    pub(super) limits: Option<Arc<dyn SharedLimits>>,
    /// To ask whether it answers. `None`: there is none.
    pub(super) redis: Option<Arc<RedisLocks>>,
}

impl Shared {
    /// Does not wait for Redis: whether it answers, its first user learns.
    pub(super) fn open(config: &Config, random: &Arc<dyn Random>) -> Result<Self, AppError> {
        let address = match config.locks_kind() {
            LocksKind::Memory => {
                return Ok(Self {
                    locks: Arc::new(MemoryLocks::new()),
                    limits: None,
                    redis: None,
                });
            }
            LocksKind::Redis(address) => address,
        };
        let locks = redis::connect(&settings(config, address)?, Arc::clone(random))
            .map_err(|error| unusable(config, &error))?;
        let limits = config.cluster.secret.as_ref().map(|secret| {
            let shared: Arc<dyn SharedLimits> = Arc::new(Budgets(locks.budgets(secret)));
            shared
        });
        let locks = Arc::new(locks);
        Ok(Self {
            locks: locks.clone(),
            limits,
            redis: Some(locks),
        })
    }
}

fn settings(config: &Config, address: &RedisAddress) -> Result<RedisSettings, AppError> {
    let read = |path: &std::path::PathBuf| {
        std::fs::read(path).map_err(|error| {
            ConfigError::one(
                "locks.ca_file",
                path.display().to_string(),
                format!("a readable file ({error})"),
            )
        })
    };
    Ok(RedisSettings {
        topology: match &address.topology {
            RedisTopology::Single => Topology::Single,
            RedisTopology::Sentinel {
                service,
                username,
                password,
            } => Topology::Sentinel {
                service: service.clone(),
                username: username.clone(),
                password: password.clone(),
            },
            RedisTopology::Cluster => Topology::Cluster,
        },
        hosts: address.hosts.clone(),
        tls: address.tls,
        ca_certificates: config.locks.ca_file.as_ref().map(read).transpose()?,
        username: address.username.clone(),
        password: address.password.clone(),
        database: address.database,
        prefix: config.locks.prefix.clone(),
        node_id: config.node_id(),
    })
}

fn unusable(config: &Config, error: &SettingsError) -> AppError {
    let file = config.locks.ca_file.as_ref();
    let error = match (error, file) {
        (SettingsError::NoHost, _) | (_, None) => {
            ConfigError::one("locks.url", error.to_string(), "an address of Redis")
        }
        (_, Some(path)) => ConfigError::one(
            "locks.ca_file",
            format!("{} ({error})", path.display()),
            "certificates in PEM form",
        ),
    };
    error.into()
}

/// Redis' budgets, as the limits of HTTP ask for them.
#[derive(Debug)]
struct Budgets(RedisBudgets);

#[async_trait]
impl SharedLimits for Budgets {
    async fn take(&self, limit: &'static str, caller: &str, budget: Budget) -> Taken {
        let budget = redis::Budget {
            every: budget.every,
            burst: budget.burst,
        };
        match self.0.take(limit, caller, budget).await {
            redis::Taken::Granted => Taken::Granted,
            redis::Taken::Refused { wait } => Taken::Refused { wait },
            redis::Taken::Unknown => Taken::Unknown,
        }
    }
}
