//! Where leases are held, and where the nodes count their callers together, as `locks.url` says.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use secrecy::SecretString;

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
        let Some(settings) = redis_settings(config)? else {
            return Ok(Self {
                locks: Arc::new(MemoryLocks::new()),
                limits: None,
                redis: None,
            });
        };
        let locks = redis::connect(&settings, Arc::clone(random))
            .map_err(|error| unusable(config, &error))?;
        let secret = config.cluster.secret.as_ref();
        let limits = secret.map(|secret| shared_limits(&locks, secret));
        let locks = Arc::new(locks);
        Ok(Self {
            locks: locks.clone(),
            limits,
            redis: Some(locks),
        })
    }
}

/// Limits that all nodes with this secret count together in this Redis.
pub fn shared_limits(redis: &RedisLocks, secret: &SecretString) -> Arc<dyn SharedLimits> {
    Arc::new(Budgets(redis.budgets(secret)))
}

/// How the configuration says that Redis is reached. `None`: it has none.
pub fn redis_settings(config: &Config) -> Result<Option<RedisSettings>, AppError> {
    let LocksKind::Redis(address) = config.locks_kind() else {
        return Ok(None);
    };
    let RedisAddress {
        topology,
        hosts,
        tls,
        username,
        password,
        database,
    } = address.as_ref().clone();
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|error| {
            ConfigError::one(
                "locks.ca_file",
                path.display().to_string(),
                format!("a readable file ({error})"),
            )
        })
    };
    Ok(Some(RedisSettings {
        topology: match topology {
            RedisTopology::Single => Topology::Single,
            RedisTopology::Sentinel {
                service,
                username,
                password,
            } => Topology::Sentinel {
                service,
                username,
                password,
            },
            RedisTopology::Cluster => Topology::Cluster,
        },
        hosts,
        tls,
        ca_certificates: config.locks.ca_file.as_ref().map(read).transpose()?,
        username,
        password,
        database,
        prefix: config.locks.prefix.clone(),
        node_id: config.node_id(),
    }))
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
