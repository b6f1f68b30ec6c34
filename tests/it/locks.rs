//! What every implementation of `Locks` promises, as a list that each of them runs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod budgets;
mod deployments;
mod proxy;
pub mod redis;

use std::sync::Arc;
use std::time::Duration;

use enrollpay::locks::memory::MemoryLocks;
use enrollpay::locks::{Acquired, Held, Locks};

const LEASE: Duration = Duration::from_secs(10);
const ALMOST: Duration = Duration::from_millis(9_999);
const MINE: u128 = 1;
const OTHERS: u128 = 2;

/// One holder at a time; the same one renews.
pub async fn a_lease_is_one_holders(locks: Arc<dyn Locks>) {
    assert_eq!(locks.holder("a").await, Held::Nobody);
    assert_eq!(locks.acquire("a", MINE, LEASE).await, Acquired::Mine);
    assert_eq!(locks.acquire("a", MINE, LEASE).await, Acquired::Mine);
    assert_eq!(locks.acquire("a", OTHERS, LEASE).await, Acquired::Anothers);
    assert_eq!(locks.holder("a").await, Held::By(MINE));
    // Another name is another lease.
    assert_eq!(locks.acquire("b", OTHERS, LEASE).await, Acquired::Mine);
}

/// Only the holder gives a lease back.
pub async fn only_its_holder_releases_it(locks: Arc<dyn Locks>) {
    locks.acquire("a", MINE, LEASE).await;
    locks.release("a", OTHERS).await;
    assert_eq!(locks.holder("a").await, Held::By(MINE));
    locks.release("a", MINE).await;
    locks.release("a", MINE).await;
    assert_eq!(locks.holder("a").await, Held::Nobody);
    assert_eq!(locks.acquire("a", OTHERS, LEASE).await, Acquired::Mine);
    locks.release("a", MINE).await;
    assert_eq!(locks.holder("a").await, Held::By(OTHERS));
}

/// Of many who reach for it at once, one has it.
pub async fn one_of_many_gets_it(locks: Arc<dyn Locks>) {
    let tries = (1..=50u128).map(|holder| {
        let locks = Arc::clone(&locks);
        tokio::spawn(async move { (holder, locks.acquire("a", holder, LEASE).await) })
    });
    let mut winners = Vec::new();
    for tried in tries.collect::<Vec<_>>() {
        let (holder, acquired) = tried.await.unwrap();
        match acquired {
            Acquired::Mine => winners.push(holder),
            Acquired::Anothers => {}
            Acquired::Unknown => panic!("nothing was in the way"),
        }
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(locks.holder("a").await, Held::By(winners[0]));
}

/// Many names in one call are as many calls.
pub async fn many_at_once_are_each_its_own(locks: Arc<dyn Locks>) {
    let names: Vec<String> = (0..64).map(|number| format!("shard:{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    locks.acquire(names[7], OTHERS, LEASE).await;
    let mut expected = vec![Acquired::Mine; 64];
    expected[7] = Acquired::Anothers;
    assert_eq!(locks.acquire_many(&names, MINE, LEASE).await, expected);
    assert_eq!(locks.acquire_many(&names, MINE, LEASE).await, expected);
    assert_eq!(locks.holder(names[63]).await, Held::By(MINE));
    locks.release_many(&names, MINE).await;
    assert_eq!(locks.holder(names[63]).await, Held::Nobody);
    assert_eq!(locks.holder(names[7]).await, Held::By(OTHERS));
    assert!(locks.acquire_many(&[], MINE, LEASE).await.is_empty());
}

#[tokio::test]
async fn memory_many_at_once_are_each_its_own() {
    many_at_once_are_each_its_own(Arc::new(MemoryLocks::new())).await;
}

#[tokio::test]
async fn memory_a_lease_is_one_holders() {
    a_lease_is_one_holders(Arc::new(MemoryLocks::new())).await;
}

#[tokio::test]
async fn memory_only_its_holder_releases_it() {
    only_its_holder_releases_it(Arc::new(MemoryLocks::new())).await;
}

#[tokio::test]
async fn memory_one_of_many_gets_it() {
    one_of_many_gets_it(Arc::new(MemoryLocks::new())).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_with_its_time_and_a_renewal_prolongs_it() {
    let locks = MemoryLocks::new();
    assert_eq!(locks.acquire("a", MINE, LEASE).await, Acquired::Mine);
    tokio::time::advance(ALMOST).await;
    assert_eq!(locks.acquire("a", OTHERS, LEASE).await, Acquired::Anothers);
    assert_eq!(locks.acquire("a", MINE, LEASE).await, Acquired::Mine);
    tokio::time::advance(ALMOST).await;
    assert_eq!(locks.holder("a").await, Held::By(MINE));
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(locks.holder("a").await, Held::Nobody);
    assert_eq!(locks.acquire("a", OTHERS, LEASE).await, Acquired::Mine);
    // Who lost it gives nothing back.
    locks.release("a", MINE).await;
    assert_eq!(locks.holder("a").await, Held::By(OTHERS));
}

#[tokio::test]
async fn a_lease_may_be_longer_than_the_clock_counts() {
    let locks = MemoryLocks::new();
    assert_eq!(
        locks.acquire("a", MINE, Duration::MAX).await,
        Acquired::Mine
    );
    assert_eq!(locks.acquire("a", OTHERS, LEASE).await, Acquired::Anothers);
}
