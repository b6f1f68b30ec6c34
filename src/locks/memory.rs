//! Leases within one process, for the gateway that needs nothing else beside it. The same rules as
//! any other implementation, so that there is one path.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{Acquired, Held, Locks};

/// Leases that end by the monotonic clock, whatever the wall clock does.
#[derive(Debug, Default)]
pub struct MemoryLocks {
    leases: Mutex<HashMap<String, Lease>>,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    holder: u128,
    /// `None`: so long that no clock reaches it.
    until: Option<Instant>,
}

impl Lease {
    fn stands(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

impl MemoryLocks {
    pub fn new() -> Self {
        Self::default()
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<String, Lease>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Locks for MemoryLocks {
    async fn acquire(&self, name: &str, holder: u128, lease: Duration) -> Acquired {
        let now = Instant::now();
        let mut leases = self.leases();
        if leases
            .get(name)
            .is_some_and(|held| held.stands(now) && held.holder != holder)
        {
            return Acquired::Anothers;
        }
        let until = now.checked_add(lease);
        leases.insert(name.to_owned(), Lease { holder, until });
        Acquired::Mine
    }

    async fn release(&self, name: &str, holder: u128) {
        let mut leases = self.leases();
        if leases.get(name).is_some_and(|held| held.holder == holder) {
            leases.remove(name);
        }
    }

    async fn holder(&self, name: &str) -> Held {
        let now = Instant::now();
        self.leases()
            .get(name)
            .filter(|held| held.stands(now))
            .map_or(Held::Nobody, |held| Held::By(held.holder))
    }
}
