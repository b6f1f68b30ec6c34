//! Who takes part and who owns what, without a word between the nodes: the store and the locks decide.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use enrollpay::actors::ownership::Ownership;
use enrollpay::clock::SystemClock;
use enrollpay::cluster::{self, Directory, Membership};
use enrollpay::locks::memory::MemoryLocks;
use enrollpay::locks::{Acquired, Held, Locks};
use enrollpay::random::SystemRandom;
use enrollpay::store::Store;
use enrollpay::store::sqlite::{Options, SqliteStore};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::eventually;

const SHARDS: u16 = 16;
const LEASE: Duration = Duration::from_millis(600);
const PATIENCE: Duration = Duration::from_secs(30);

/// Locks that may be emptied, or stop answering.
#[derive(Debug, Default)]
struct Moody {
    leases: std::sync::RwLock<Arc<MemoryLocks>>,
    silent: AtomicBool,
}

impl Moody {
    fn leases(&self) -> Option<Arc<MemoryLocks>> {
        let silent = self.silent.load(Ordering::SeqCst);
        (!silent).then(|| self.leases.read().unwrap().clone())
    }

    fn empty(&self) {
        *self.leases.write().unwrap() = Arc::default();
    }
}

#[async_trait]
impl Locks for Moody {
    async fn acquire(&self, name: &str, holder: u128, lease: Duration) -> Acquired {
        match self.leases() {
            Some(leases) => leases.acquire(name, holder, lease).await,
            None => Acquired::Unknown,
        }
    }

    async fn release(&self, name: &str, holder: u128) {
        if let Some(leases) = self.leases() {
            leases.release(name, holder).await;
        }
    }

    async fn holder(&self, name: &str) -> Held {
        match self.leases() {
            Some(leases) => leases.holder(name).await,
            None => Held::Unknown,
        }
    }
}

struct Place {
    store: Arc<dyn Store>,
    locks: Arc<Moody>,
    _folder: TempDir,
}

/// A node without orders.
struct Node {
    membership: Arc<Membership>,
    ownership: Ownership,
    rounds: JoinHandle<()>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::new(Arc::new(SystemClock));
        let store = SqliteStore::open(folder.path().join("store.db"), options).unwrap();
        Self {
            store: Arc::new(store),
            locks: Arc::default(),
            _folder: folder,
        }
    }

    async fn node(&self, number: u128) -> Node {
        let ownership = Ownership::new(number, SHARDS, true);
        let membership = Arc::new(Membership::new(
            cluster::Options {
                node: format!("node-{number}"),
                internal_url: Some(format!("http://10.0.0.{number}:8083")),
                shards: SHARDS,
                lease: LEASE,
            },
            cluster::Parts {
                store: Arc::clone(&self.store),
                locks: Arc::clone(&self.locks) as Arc<dyn Locks>,
                clock: Arc::new(SystemClock),
                random: Arc::new(SystemRandom),
                ownership: ownership.clone(),
                directory: Directory::default(),
            },
            None,
        ));
        membership.join().await.unwrap();
        let rounds = {
            let membership = Arc::clone(&membership);
            tokio::spawn(async move { membership.run(None, CancellationToken::new()).await })
        };
        Node {
            membership,
            ownership,
            rounds,
        }
    }

    /// By the rows, which have the last word: who owns how many.
    async fn owners(&self) -> Vec<u128> {
        let rows = self.store.shards().await.unwrap();
        rows.into_iter().filter_map(|row| row.instance).collect()
    }
}

impl Node {
    fn owned(&self) -> BTreeSet<u16> {
        (0..SHARDS)
            .filter(|shard| self.ownership.owns(*shard))
            .collect()
    }

    /// As by kill -9: no more rounds, no leave.
    fn kill(self) {
        self.rounds.abort();
    }
}

/// Every shard has one owner among `nodes`, and each of them has some.
async fn shared_out(nodes: &[&Node]) {
    eventually("every shard to have one owner", PATIENCE, async || {
        let shares: Vec<_> = nodes.iter().map(|node| node.owned()).collect();
        let together: BTreeSet<_> = shares.iter().flatten().copied().collect();
        let count: usize = shares.iter().map(BTreeSet::len).sum();
        let all = usize::from(SHARDS);
        let fair = shares.iter().all(|share| !share.is_empty());
        (together.len() == all && count == all && fair).then_some(())
    })
    .await;
}

#[tokio::test]
async fn shards_follow_the_nodes_that_come_and_go() {
    let place = Place::new();
    let one = place.node(1).await;
    assert_eq!(
        one.owned().len(),
        usize::from(SHARDS),
        "alone it has everything"
    );
    let two = place.node(2).await;
    shared_out(&[&one, &two]).await;
    let three = place.node(3).await;
    shared_out(&[&one, &two, &three]).await;

    let share = two.owned();
    let began = Instant::now();
    two.membership.leave(None).await;
    assert!(began.elapsed() < Duration::from_secs(1));
    assert!(two.owned().is_empty());
    shared_out(&[&one, &three]).await;
    assert!(!share.is_empty());

    three.kill();
    shared_out(&[&one]).await;
    let epochs: Vec<_> = place.store.shards().await.unwrap();
    assert!(epochs.iter().all(|row| row.instance == Some(1)));
}

#[tokio::test]
async fn locks_that_forget_everything_take_nothing_from_an_owner() {
    let place = Place::new();
    let one = place.node(1).await;
    let two = place.node(2).await;
    shared_out(&[&one, &two]).await;
    let before = (one.owned(), two.owned());
    let rows = place.store.shards().await.unwrap();
    for _ in 0..10 {
        place.locks.empty();
        one.membership.nudge();
        two.membership.nudge();
        tokio::time::sleep(LEASE / 6).await;
    }
    assert_eq!((one.owned(), two.owned()), before);
    assert_eq!(
        place.store.shards().await.unwrap(),
        rows,
        "no epoch has moved"
    );
}

#[tokio::test]
async fn while_the_locks_are_silent_owners_go_on_and_nobody_begins() {
    let place = Place::new();
    let one = place.node(1).await;
    let two = place.node(2).await;
    shared_out(&[&one, &two]).await;
    let before = (one.owned(), two.owned());
    place.locks.silent.store(true, Ordering::SeqCst);
    let newcomer = place.node(3).await;
    assert!(newcomer.membership.not_ready().is_some());
    let sure = *before.0.first().unwrap();
    eventually("the lease to be past", PATIENCE, async || {
        (!one.ownership.is_sure(sure)).then_some(())
    })
    .await;
    assert_eq!((one.owned(), two.owned()), before);
    assert!(newcomer.owned().is_empty());

    // Its owner dies as well: others go by the store's clock, after three leases.
    let died = Instant::now();
    two.kill();
    eventually("the dead node's shards to be taken", PATIENCE, async || {
        let owners = place.owners().await;
        (!owners.contains(&2)).then_some(())
    })
    .await;
    assert!(died.elapsed() >= 2 * LEASE, "{:?}", died.elapsed());
    assert_eq!(place.owners().await.len(), usize::from(SHARDS));

    place.locks.silent.store(false, Ordering::SeqCst);
    shared_out(&[&one, &newcomer]).await;
    assert!(newcomer.membership.not_ready().is_none());
}

#[tokio::test]
async fn an_owner_that_slept_finds_out_by_the_row() {
    let place = Place::new();
    let one = place.node(1).await;
    one.rounds.abort();
    assert_eq!(one.owned().len(), usize::from(SHARDS));
    // Silent for longer than its lease: another takes over.
    let two = place.node(2).await;
    shared_out(&[&two]).await;
    assert_eq!(one.owned().len(), usize::from(SHARDS), "it sleeps");
    assert!(!one.ownership.is_sure(0), "and must ask before it acts");
    assert!(
        !place
            .store
            .fence_stands(one.ownership.fence(0))
            .await
            .unwrap()
    );
    let awake = {
        let membership = Arc::clone(&one.membership);
        tokio::spawn(async move { membership.run(None, CancellationToken::new()).await })
    };
    eventually("both to have their share", PATIENCE, async || {
        let (one, two) = (one.owned(), two.owned());
        (one.is_disjoint(&two) && one.len() + two.len() == usize::from(SHARDS)).then_some(())
    })
    .await;
    awake.abort();
}
