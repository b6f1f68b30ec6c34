//! Rate limits that all nodes count together, by the clock of the Redis that keeps them.

use std::fmt::Write as _;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::hmac;
use redis::{RedisResult, Script};
use secrecy::{ExposeSecret as _, SecretString};

use super::link::{Link, Question};

static BUDGET: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("budget.lua")));

/// How much one caller may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Time between two grants; at least a microsecond.
    pub every: Duration,
    /// Grants at once after a pause; at least 1.
    pub burst: u32,
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Granted,
    Refused {
        wait: Duration,
    },
    /// Redis did not say.
    Unknown,
}

/// Budgets of callers, one key each, gone when they are full again.
#[derive(Debug)]
pub struct RedisBudgets {
    link: Arc<Link>,
    prefix: String,
    hashing: hmac::Key,
}

impl RedisBudgets {
    pub(super) fn new(link: Arc<Link>, prefix: String, secret: &SecretString) -> Self {
        Self {
            link,
            prefix,
            hashing: hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes()),
        }
    }

    /// Takes one of `caller`'s budget under `limit`. One try: who waits is a request.
    pub async fn take(&self, limit: &str, caller: &str, budget: Budget) -> Taken {
        let every = u64::try_from(budget.every.as_micros()).unwrap_or(u64::MAX);
        let mut script = BUDGET.key(self.key(limit, caller));
        script.arg(every.max(1)).arg(budget.burst.max(1));
        let asked: RedisResult<u64> = self.link.ask(&Question::Script(script)).await;
        match asked {
            Ok(0) => Taken::Granted,
            Ok(micros) => Taken::Refused {
                wait: Duration::from_micros(micros),
            },
            Err(error) => {
                tracing::debug!(%error, "a shared limit could not be asked");
                Taken::Unknown
            }
        }
    }

    /// An address is personal: Redis sees only its hash, under a key that it does not have.
    fn key(&self, limit: &str, caller: &str) -> String {
        let tag = hmac::sign(&self.hashing, format!("limit {limit} {caller}").as_bytes());
        let mut key = format!("{}limit:{limit}:", self.prefix);
        for byte in &tag.as_ref()[..16] {
            let _ = write!(key, "{byte:02x}");
        }
        key
    }
}
