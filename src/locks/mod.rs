//! Leases that save work and guard no money: the store's version does that (reliability §4).

pub mod memory;
pub mod redis;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

/// Named leases. Three answers, because "don't know" is neither yes nor no.
#[async_trait]
pub trait Locks: Send + Sync + fmt::Debug {
    /// Takes `name` for `holder` for `lease`, or renews it where `holder` already has it.
    async fn acquire(&self, name: &str, holder: u128, lease: Duration) -> Acquired;
    /// Gives `name` back where `holder` has it; anything else is left alone.
    async fn release(&self, name: &str, holder: u128);
    /// As [`Locks::acquire`], for each of `names` in turn or at once.
    async fn acquire_many(&self, names: &[&str], holder: u128, lease: Duration) -> Vec<Acquired> {
        let mut acquired = Vec::with_capacity(names.len());
        for name in names {
            acquired.push(self.acquire(name, holder, lease).await);
        }
        acquired
    }
    /// As [`Locks::release`], for each of `names` in turn or at once.
    async fn release_many(&self, names: &[&str], holder: u128) {
        for name in names {
            self.release(name, holder).await;
        }
    }
    /// Who holds it, as far as can be told.
    async fn holder(&self, name: &str) -> Held;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquired {
    Mine,
    Anothers,
    /// Timeout or error: never "free", never "mine".
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    By(u128),
    Nobody,
    Unknown,
}
