//! Two nodes believe that they own a shard: its lease is gone, and whoever held it sleeps (F8, F31). The
//! store accepts the writes of one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use futures_util::future::{join, join_all};
use reqwest::Method;
use serde_json::json;

use super::{PATIENCE, cluster, links, two_nodes, until_metric};
use crate::support::cluster::SHARDS;
use crate::support::proxy::Proxy;
use crate::support::redis::RedisServer;
use crate::support::story::{meanwhile, seed};
use crate::support::{World, eventually};

const OWNED: &str = "enrollpay_shards_owned";
/// How the values of their leases begin.
const AWAKE: &str = "node-1:";
const SLEEPER: &str = "node-2:";
const REFUSED: &str = "enrollpay_store_rejections_total";

/// The leases that this node has there.
fn leases(redis: &RedisServer, node: &str) -> Vec<String> {
    let keys = (0..SHARDS).map(|shard| format!("enrollpay:shard:{shard}"));
    keys.filter(|key| redis.say(&format!("GET {key}")).contains(node))
        .collect()
}

fn kept_of(redis: &RedisServer, leases: &[String]) -> usize {
    let count = redis.say(&format!("EXISTS {}", leases.join(" ")));
    count.trim().trim_start_matches(':').parse().unwrap()
}

/// Under load one node falls asleep and its leases are lost, until a write of its own is refused.
/// `begin` is done before it sleeps, and `lose`, with what it gave, while it does.
async fn two_believe<T>(world: &World, begin: impl AsyncFn() -> T, lose: impl AsyncFn(T)) {
    /// A nap ends in a race: it may hear that it owns nothing before it has written anything.
    const NAPS: usize = 5;
    const ORDERS: usize = 32;
    let (awake, sleeper) = (&world.gateway, &world.peers[0]);
    let stale = async || sleeper.metric(REFUSED, &["fence_moved"]).await;
    let its_merchant = world.merchant.clone().at(&sleeper.origin);
    let fault = async {
        for _ in 0..NAPS {
            // Each is of a shard of the node that makes it.
            let orders = join_all((0..ORDERS).map(|_| its_merchant.create())).await;
            let cancels: Vec<_> = orders
                .iter()
                .map(|order| format!("/v1/orders/{}/cancel", order["id"].as_str().unwrap()))
                .collect();
            let nothing = json!({});
            let awaited = begin().await;
            cluster(world).lead_to(&[awake]);
            sleeper.pause();
            // What waits at its door is the first that it does when it wakes.
            let at_its_door = join_all(cancels.iter().map(async |path| {
                let asked = its_merchant.try_call(Method::POST, path, Some(&nothing), None);
                asked.await.is_ok_and(|answer| answer.status == 200)
            }));
            let wake = async {
                lose(awaited).await;
                until_metric(awake, OWNED, |owned| owned == SHARDS).await;
                sleeper.resume();
            };
            let (done, ()) = join(at_its_door, wake).await;
            cluster(world).heal();
            // What was told to be done is done, and the rest can be.
            for ((order, path), done) in orders.iter().zip(&cancels).zip(done) {
                let id = order["id"].as_str().unwrap();
                if done {
                    assert_eq!(world.merchant.order(id).await["status"], "closed");
                }
                let again = world.merchant.insist(path, &nothing, id).await;
                assert_eq!(again.expect(200)["status"], "closed");
            }
            world.settled().await;
            if stale().await > 0 {
                return;
            }
        }
    };
    let ((), told) = Box::pin(meanwhile(world, 4, seed(), fault)).await;
    assert!(told >= 4, "too little happened: {told}");
    assert!(stale().await > 0, "no stale write was refused");
}

/// F8: the primary dies while its replica has not heard of the latest leases. Taken on the one, they are
/// free on the other.
#[tokio::test]
async fn a_failover_that_loses_leases_leaves_one_writer() {
    let world = two_nodes().await;
    let servers = [Arc::clone(&cluster(&world).redis), RedisServer::private()];
    let failovers = AtomicUsize::new(0);
    let begin = async || {
        let turn = failovers.fetch_add(1, SeqCst);
        let (primary, replica) = (&*servers[turn % 2], &*servers[(turn + 1) % 2]);
        if turn > 0 {
            // The primary of the time before. It keeps nothing.
            replica.control().restart();
        }
        Failover::begin(primary, replica).await
    };
    let end = async |failover: Failover<'_>| failover.end(&world).await;
    two_believe(&world, begin, end).await;
    world.finish().await;
}

/// A replica whose line to its primary is cut.
struct Failover<'a> {
    primary: &'a RedisServer,
    replica: &'a RedisServer,
    lost: Vec<String>,
    _line: Proxy,
}

impl<'a> Failover<'a> {
    async fn begin(primary: &'a RedisServer, replica: &'a RedisServer) -> Self {
        let line = Proxy::before(&[address(primary)]);
        replica.say(&format!("REPLICAOF 127.0.0.1 {}", line.address().port()));
        let lost = eventually("a replica", PATIENCE, async || {
            let info = replica.say("INFO replication");
            let lost = leases(replica, SLEEPER);
            (info.contains("master_link_status:up") && !lost.is_empty()).then_some(lost)
        })
        .await;
        line.partition();
        eventually("the end of the replica's leases", PATIENCE, async || {
            (kept_of(replica, &lost) == 0).then_some(())
        })
        .await;
        // They were taken again since, there alone.
        assert_eq!(kept_of(primary, &lost), lost.len());
        Self {
            primary,
            replica,
            lost,
            _line: line,
        }
    }

    async fn end(self, world: &World) {
        self.primary.control().kill9();
        assert!(self.replica.say("REPLICAOF NO ONE").starts_with("+OK"));
        assert_eq!(kept_of(self.replica, &self.lost), 0, "no lease was lost");
        for link in links(world) {
            link.locks.lead_to(&[address(self.replica)]);
        }
        eventually("a second taker", PATIENCE, async || {
            let taken = leases(self.replica, AWAKE);
            self.lost
                .iter()
                .all(|lease| taken.contains(lease))
                .then_some(())
        })
        .await;
    }
}

fn address(server: &RedisServer) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], server.control().port()))
}

/// F31: the keys of a node's leases are deleted, under load.
#[tokio::test]
async fn deleted_leases_leave_one_writer() {
    let world = two_nodes().await;
    let redis = &cluster(&world).redis;
    let begin = async || leases(redis, SLEEPER);
    let lose = async |lost: Vec<String>| {
        redis.say(&format!("DEL {}", lost.join(" ")));
        assert_eq!(kept_of(redis, &lost), 0);
        eventually("a second taker", PATIENCE, async || {
            let taken = leases(redis, AWAKE);
            lost.iter().all(|lease| taken.contains(lease)).then_some(())
        })
        .await;
    };
    two_believe(&world, begin, lose).await;
    world.finish().await;
}
