//! Leases in Redis, for any number of nodes (reliability §4.2). A key holds
//! `node:instance:random`; taking, renewing and releasing compare the whole of it in one script.
//!
//! A command without an answer is sent again, and the same script reads the key before it writes: it
//! finds what became of the command before. Where nothing answers in time, the answer is
//! [`Acquired::Unknown`], never "free" and never "mine".

mod budget;
mod link;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use redis::{FromRedisValue, RedisResult, RetryMethod, Script};
use secrecy::SecretString;
use tokio::time::Instant;

pub use budget::{Budget, RedisBudgets, Taken};
use link::{Link, Question};

use super::{Acquired, Held, Locks};
use crate::random::Random;

/// How often a command is sent.
const TRIES: usize = 3;
/// All tries and the pauses between them.
const IN_ALL: Duration = Duration::from_millis(3_500);
/// The pause before the next try: this much, and up to as much again.
const PAUSE_MS: u64 = 50;
/// Redis refuses a time so long that its clock overflows. Ten years are for ever.
const LONGEST_LEASE_MS: u64 = 315_360_000_000;

static ACQUIRE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("acquire.lua")));
static RELEASE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("release.lua")));

/// The names of what this room measures.
pub mod metric {
    /// From a lock command to its answer, its repetitions included, by `operation`.
    pub const LOCK_DURATION: &str = "enrollpay_lock_command_duration_seconds";
    /// Lock commands, by `operation` and `outcome`.
    pub const LOCK_COMMANDS: &str = "enrollpay_lock_commands_total";
}

/// How Redis is run.
#[derive(Clone, Debug)]
pub enum Topology {
    Single,
    /// The hosts are Sentinels; they know the servers of `service`. The login is theirs.
    Sentinel {
        service: String,
        username: Option<String>,
        password: Option<SecretString>,
    },
    /// The hosts are some nodes of a Cluster.
    Cluster,
}

/// Where Redis is, and who we are there.
#[derive(Clone, Debug)]
pub struct RedisSettings {
    pub topology: Topology,
    pub hosts: Vec<(String, u16)>,
    pub tls: bool,
    /// PEM. `None`: the system's.
    pub ca_certificates: Option<Vec<u8>>,
    pub username: Option<String>,
    pub password: Option<SecretString>,
    pub database: i64,
    /// Before every key, so that several gateways can share a Redis.
    pub prefix: String,
    /// Written into each key, for people who look.
    pub node_id: String,
}

/// Settings that no server could make work.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("no host is named")]
    NoHost,
    #[error("no certificate in PEM form is in the file")]
    NoCertificate,
    #[error("{0}")]
    Redis(#[from] redis::RedisError),
}

/// Redis does not answer, or not as it should. The text names no secret.
#[derive(Clone, Debug, thiserror::Error)]
#[error("Redis: {0}")]
pub struct Unreachable(String);

/// Leases in Redis.
#[derive(Debug)]
pub struct RedisLocks {
    link: Arc<Link>,
    random: Arc<dyn Random>,
    prefix: String,
    node_id: String,
    /// This process's own, so that no other value is ever ours.
    nonce: String,
}

/// Checks the settings and returns at once, on the runtime whose life the connection shares. Redis is
/// reached with the first command, and again whenever the connection fails.
pub fn connect(
    settings: &RedisSettings,
    random: Arc<dyn Random>,
) -> Result<RedisLocks, SettingsError> {
    let begin = b"-----BEGIN CERTIFICATE-----";
    if let Some(pem) = &settings.ca_certificates
        && !pem.windows(begin.len()).any(|window| window == begin)
    {
        return Err(SettingsError::NoCertificate);
    }
    Ok(RedisLocks {
        link: Arc::new(Link::new(settings)?),
        nonce: random.hex::<16>(),
        random,
        prefix: settings.prefix.clone(),
        node_id: settings.node_id.clone(),
    })
}

impl RedisLocks {
    /// Does Redis answer, and let us in?
    pub async fn check(&self) -> Result<(), Unreachable> {
        self.read("check")
            .await
            .map(drop)
            .map_err(|error| Unreachable(error.to_string()))
    }

    /// Rate limits on the same connection. Callers are hashed under `secret`, which the nodes share.
    pub fn budgets(&self, secret: &SecretString) -> RedisBudgets {
        RedisBudgets::new(Arc::clone(&self.link), self.prefix.clone(), secret)
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn value(&self, holder: u128) -> String {
        format!("{}:{holder:032x}:{}", self.node_id, self.nonce)
    }

    async fn read(&self, name: &str) -> RedisResult<Option<String>> {
        let mut get = redis::cmd("GET");
        get.arg(self.key(name));
        self.persist(Question::Command(get)).await
    }

    /// Asks up to [`TRIES`] times within [`IN_ALL`].
    async fn persist<T: FromRedisValue>(&self, question: Question) -> RedisResult<T> {
        let deadline = Instant::now() + IN_ALL;
        let mut tried = 1;
        loop {
            let error = match self.link.ask(&question).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let pause = Duration::from_millis(PAUSE_MS + self.random.below(PAUSE_MS));
            let hopeless = matches!(error.retry_method(), RetryMethod::NoRetry);
            if hopeless || tried == TRIES || Instant::now() + pause + link::COMMAND > deadline {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
            tried += 1;
        }
    }

    async fn take(&self, name: &str, holder: u128, lease: Duration) -> Acquired {
        let value = self.value(holder);
        let lease = u64::try_from(lease.as_millis())
            .unwrap_or(u64::MAX)
            .clamp(1, LONGEST_LEASE_MS);
        let mut script = ACQUIRE.key(self.key(name));
        script.arg(&value).arg(lease);
        let held: RedisResult<Option<String>> = self.persist(Question::Script(script)).await;
        match held {
            Ok(Some(held)) if held == value => Acquired::Mine,
            Ok(Some(_)) => Acquired::Anothers,
            // A script sees one moment, so the key cannot have ended within it. If it has, who knows.
            Ok(None) => Acquired::Unknown,
            Err(error) => {
                tracing::warn!(name, %error, "a lock could not be asked for");
                Acquired::Unknown
            }
        }
    }

    async fn give_back(&self, name: &str, holder: u128) -> &'static str {
        let mut script = RELEASE.key(self.key(name));
        script.arg(self.value(holder));
        let released: RedisResult<bool> = self.persist(Question::Script(script)).await;
        match released {
            Ok(true) => "released",
            Ok(false) => "not_held",
            Err(error) => {
                tracing::warn!(name, %error, "a lock was not given back: its lease will end it");
                "unknown"
            }
        }
    }
}

#[async_trait]
impl Locks for RedisLocks {
    async fn acquire(&self, name: &str, holder: u128, lease: Duration) -> Acquired {
        let asked = Instant::now();
        let acquired = self.take(name, holder, lease).await;
        let outcome = match acquired {
            Acquired::Mine => "mine",
            Acquired::Anothers => "anothers",
            Acquired::Unknown => "unknown",
        };
        measure("acquire", outcome, asked);
        acquired
    }

    /// All at once: the connection sends them together.
    async fn acquire_many(&self, names: &[&str], holder: u128, lease: Duration) -> Vec<Acquired> {
        join_all(names.iter().map(|name| self.acquire(name, holder, lease))).await
    }

    async fn release(&self, name: &str, holder: u128) {
        let asked = Instant::now();
        let outcome = self.give_back(name, holder).await;
        measure("release", outcome, asked);
    }

    async fn release_many(&self, names: &[&str], holder: u128) {
        join_all(names.iter().map(|name| self.release(name, holder))).await;
    }

    async fn holder(&self, name: &str) -> Held {
        let asked = Instant::now();
        let held = match self.read(name).await {
            Ok(None) => Held::Nobody,
            Ok(Some(value)) => holder_in(&value).map_or(Held::Unknown, Held::By),
            Err(error) => {
                tracing::warn!(name, %error, "a lock could not be read");
                Held::Unknown
            }
        };
        let outcome = match held {
            Held::By(_) => "held",
            Held::Nobody => "free",
            Held::Unknown => "unknown",
        };
        measure("holder", outcome, asked);
        held
    }
}

fn measure(operation: &'static str, outcome: &'static str, asked: Instant) {
    metrics::histogram!(metric::LOCK_DURATION, "operation" => operation)
        .record(asked.elapsed().as_secs_f64());
    metrics::counter!(metric::LOCK_COMMANDS, "operation" => operation, "outcome" => outcome)
        .increment(1);
}

/// The instance in `node:instance:random`.
fn holder_in(value: &str) -> Option<u128> {
    let (rest, _) = value.rsplit_once(':')?;
    let (_, instance) = rest.rsplit_once(':')?;
    (instance.len() == 32)
        .then(|| u128::from_str_radix(instance, 16).ok())
        .flatten()
}
