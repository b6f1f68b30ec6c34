//! Limits that all nodes count together, while the place where they do so answers. Without it each
//! node counts alone, and a dead one costs no request anything: it is asked again once a second.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout};

use super::metric;

/// No request waits longer than this.
const PATIENCE: Duration = Duration::from_millis(50);
/// After no answer, until the next question.
const ALONE: Duration = Duration::from_secs(1);

/// How much one caller may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Time between two requests.
    pub every: Duration,
    /// Requests at once after a pause.
    pub burst: u32,
}

/// What came of asking. Three answers: silence is neither yes nor no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    Granted,
    Refused { wait: Duration },
    Unknown,
}

/// Where all nodes count together.
#[async_trait]
pub trait SharedLimits: Send + Sync + fmt::Debug {
    /// Takes one request of `caller`'s budget under the limit of this name.
    async fn take(&self, limit: &'static str, caller: &str, budget: Budget) -> Taken;
}

/// Shared limits behind their circuit.
pub(super) struct Shared {
    limits: Arc<dyn SharedLimits>,
    /// While they are silent: when to ask again.
    silent_until: Mutex<Option<Instant>>,
}

impl Shared {
    pub(super) fn new(limits: Arc<dyn SharedLimits>) -> Self {
        Self {
            limits,
            silent_until: Mutex::new(None),
        }
    }

    /// How long to wait, where all nodes together say so.
    pub(super) async fn take(
        &self,
        limit: &'static str,
        caller: &str,
        budget: Budget,
    ) -> Result<(), Duration> {
        let taken = if self.is_to_be_asked() {
            let asked = timeout(PATIENCE, self.limits.take(limit, caller, budget)).await;
            let taken = asked.unwrap_or(Taken::Unknown);
            self.note(taken);
            taken
        } else {
            Taken::Unknown
        };
        match taken {
            Taken::Granted => Ok(()),
            Taken::Refused { wait } => Err(wait),
            Taken::Unknown => {
                metrics::counter!(metric::RATE_FALLBACKS).increment(1);
                Ok(())
            }
        }
    }

    /// Always, while they answer; by one request a second, while they do not.
    fn is_to_be_asked(&self) -> bool {
        let mut silent_until = self.silent_until();
        let now = Instant::now();
        match *silent_until {
            Some(until) if now < until => false,
            Some(_) => {
                *silent_until = Some(now + ALONE);
                true
            }
            None => true,
        }
    }

    fn note(&self, taken: Taken) {
        let mut silent_until = self.silent_until();
        if taken == Taken::Unknown {
            if silent_until.is_none() {
                tracing::warn!("rate limits are this node's own until Redis answers");
            }
            *silent_until = Some(Instant::now() + ALONE);
        } else if silent_until.take().is_some() {
            tracing::info!("rate limits are shared again");
        }
    }

    fn silent_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.silent_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    const BUDGET: Budget = Budget {
        every: Duration::from_secs(1),
        burst: 1,
    };

    /// Refuses everything, or says nothing at all.
    #[derive(Debug, Default)]
    struct Place {
        dead: AtomicBool,
        asked: AtomicUsize,
    }

    #[async_trait]
    impl SharedLimits for Place {
        async fn take(&self, _: &'static str, _: &str, _: Budget) -> Taken {
            self.asked.fetch_add(1, Ordering::SeqCst);
            if self.dead.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            Taken::Refused {
                wait: Duration::from_secs(3),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_waited_for_once_a_second_and_never_long() {
        let place = Arc::new(Place::default());
        let shared = Shared::new(place.clone());
        let take = || shared.take("address", "a", BUDGET);
        assert_eq!(take().await, Err(Duration::from_secs(3)));

        place.dead.store(true, Ordering::SeqCst);
        let before = Instant::now();
        assert_eq!(take().await, Ok(()));
        assert_eq!(before.elapsed().as_millis(), PATIENCE.as_millis());
        let (before, asked) = (Instant::now(), place.asked.load(Ordering::SeqCst));
        for _ in 0..1000 {
            assert_eq!(take().await, Ok(()));
        }
        assert_eq!(before.elapsed(), Duration::ZERO, "nobody waits any more");
        assert_eq!(place.asked.load(Ordering::SeqCst), asked);

        tokio::time::advance(ALONE).await;
        for _ in 0..10 {
            assert_eq!(take().await, Ok(()));
        }
        assert_eq!(place.asked.load(Ordering::SeqCst), asked + 1, "one tries");

        place.dead.store(false, Ordering::SeqCst);
        assert_eq!(take().await, Ok(()), "not yet asked again");
        tokio::time::advance(ALONE).await;
        assert_eq!(take().await, Err(Duration::from_secs(3)));
        assert_eq!(take().await, Err(Duration::from_secs(3)), "every time");
    }
}
