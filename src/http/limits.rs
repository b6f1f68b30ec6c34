//! How much one caller may ask: GCRA limits by merchant key, by client address and by order. Each
//! refusal is a 429 that says which limit and how long to wait.
//!
//! Every node counts what it sees, and refuses by that alone; what it would grant is asked for where all
//! nodes count together, if there is such a place. So a flood costs nobody else anything, and a node on
//! its own goes on from what it has counted.

mod shared;

use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::{HeaderName, HeaderValue};
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

pub use shared::{Budget, SharedLimits, Taken};

use shared::Shared;

use super::address::limited_by;
use super::problem::{Code, Problem};
use super::{Limits, metric};
use crate::order::{KeyId, OrderId};

/// Guesses of a password: five under one name, twenty from one address, then one a minute.
const LOGIN_EVERY: Duration = Duration::from_mins(1);
const LOGIN_NAME_BURST: u32 = 5;
const LOGIN_ADDRESS_BURST: u32 = 20;

type Keyed<K> = RateLimiter<K, DashMapStateStore<K>, DefaultClock, StateInformationMiddleware>;

/// One limit on many callers.
struct Limit<K: Hash + Eq + Clone> {
    name: &'static str,
    keyed: Keyed<K>,
    budget: Budget,
}

impl<K: Hash + Eq + Clone + fmt::Display> Limit<K> {
    fn new(name: &'static str, every: Duration, burst: u32) -> Self {
        let burst = NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::with_period(every.max(Duration::from_nanos(1)))
            .expect("a period above zero")
            .allow_burst(burst);
        Self {
            name,
            keyed: RateLimiter::dashmap(quota).with_middleware(),
            budget: Budget {
                every,
                burst: burst.get(),
            },
        }
    }

    async fn take(&self, key: &K, shared: Option<&Shared>) -> Result<(), Problem> {
        if let Err(refused) = self.keyed.check_key(key) {
            return Err(self.refusal(refused.wait_time_from(DefaultClock::default().now())));
        }
        if let Some(shared) = shared {
            let taken = shared.take(self.name, &key.to_string(), self.budget).await;
            taken.map_err(|wait| self.refusal(wait))?;
        }
        Ok(())
    }

    fn refusal(&self, wait: Duration) -> Problem {
        metrics::counter!(metric::RATE_LIMITED, "limit" => self.name).increment(1);
        let seconds = u32::try_from(wait.as_millis().div_ceil(1000))
            .unwrap_or(u32::MAX)
            .max(1);
        let (name, Budget { every, burst }) = (self.name, self.budget);
        // The burst, and the seconds in which it refills.
        let window = every.saturating_mul(burst).as_secs().max(1);
        let policy = format!("\"{name}\";q={burst};w={window}");
        let left = format!("\"{name}\";r=0;t={seconds}");
        let text = |text: String| {
            HeaderValue::from_str(&text).expect("quotes, digits and letters of ours")
        };
        Problem::new(
            Code::RateLimited,
            format!("The limit \"{name}\" is reached: wait {seconds} s."),
        )
        .with("limit", name)
        .retry_after(seconds)
        .header(HeaderName::from_static("ratelimit-policy"), text(policy))
        .header(HeaderName::from_static("ratelimit"), text(left))
    }

    fn upkeep(&self) {
        self.keyed.retain_recent();
        self.keyed.shrink_to_fit();
    }
}

/// All limits of the public listener, and those of logins to the console. Cheap to clone; make one for all workers.
#[derive(Clone)]
pub struct Limiters(Arc<Inner>);

struct Inner {
    merchant: Limit<KeyId>,
    address: Limit<IpAddr>,
    attempts: Limit<OrderId>,
    login_name: Limit<String>,
    login_address: Limit<IpAddr>,
    shared: Option<Shared>,
}

impl fmt::Debug for Limiters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Limiters")
    }
}

impl Limiters {
    /// This node's own.
    pub fn new(limits: &Limits) -> Self {
        Self::with(limits, None)
    }

    /// Shared with the other nodes.
    pub fn shared(limits: &Limits, shared: Arc<dyn SharedLimits>) -> Self {
        Self::with(limits, Some(Shared::new(shared)))
    }

    fn with(limits: &Limits, shared: Option<Shared>) -> Self {
        let per_second = |rate: u32| Duration::from_secs(1) / rate.max(1);
        let hourly = limits.attempts_per_hour.max(1);
        Self(Arc::new(Inner {
            merchant: Limit::new(
                "merchant",
                per_second(limits.merchant_per_second),
                limits.merchant_burst,
            ),
            address: Limit::new(
                "address",
                per_second(limits.address_per_second),
                limits.address_burst,
            ),
            login_name: Limit::new("login_name", LOGIN_EVERY, LOGIN_NAME_BURST),
            login_address: Limit::new("login_address", LOGIN_EVERY, LOGIN_ADDRESS_BURST),
            attempts: Limit::new("attempts", Duration::from_hours(1) / hourly, hourly),
            shared,
        }))
    }

    /// One request of one merchant's key.
    pub async fn merchant(&self, key: KeyId) -> Result<(), Problem> {
        let shared = self.0.shared.as_ref();
        self.0.merchant.take(&key, shared).await
    }

    /// One request from one address (IPv6: from one /64).
    pub async fn address(&self, address: IpAddr) -> Result<(), Problem> {
        let shared = self.0.shared.as_ref();
        self.0.address.take(&limited_by(address), shared).await
    }

    /// One try to log in to the console: so many under one name, and so many from one address, whatever
    /// comes of them. `name`: a hash of what was typed.
    pub async fn login(&self, name: u128, address: IpAddr) -> Result<(), Problem> {
        let shared = self.0.shared.as_ref();
        let address = limited_by(address);
        self.0.login_address.take(&address, shared).await?;
        self.0
            .login_name
            .take(&format!("{name:032x}"), shared)
            .await
    }

    /// One new attempt of one order.
    pub async fn attempt(&self, order: OrderId) -> Result<(), Problem> {
        let shared = self.0.shared.as_ref();
        self.0.attempts.take(&order, shared).await
    }

    /// Forgets callers that have been quiet. Call it every half minute or so: keyed limits never
    /// shrink by themselves.
    pub fn upkeep(&self) {
        self.0.merchant.upkeep();
        self.0.address.upkeep();
        self.0.attempts.upkeep();
        self.0.login_name.upkeep();
        self.0.login_address.upkeep();
    }
}
