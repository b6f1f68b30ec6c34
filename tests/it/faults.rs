//! The fault table (reliability §2.2) against real processes: two nodes on a PostgreSQL and a Redis of
//! their own, with a proxy in every line. Each test ends healed, at rest and with its books checked,
//! and shows that its fault has bitten.
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its own set-up fails"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "real processes live in real time"
)]

mod believers;
mod failover;
mod kills;
mod locks;
mod nodes;
mod partitions;
mod proxy;
mod replays;
mod standby;
mod store;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use crate::support::cluster::{Cluster, Links};
use crate::support::postgres::Postgres;
use crate::support::process::Gateway;
use crate::support::standby::Replicated;
use crate::support::student::{Alipay, Wechat};
use crate::support::{World, eventually};

/// As the nodes of [`Cluster`] have it.
const LEASE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(30);

async fn two_nodes() -> World {
    two_nodes_with(&[], &[]).await
}

/// The same with settings of PostgreSQL's, and of both nodes.
async fn two_nodes_with(postgres: &[(&str, &str)], environment: &[(&str, &str)]) -> World {
    let cluster = Cluster::breakable(2, &Postgres::private_with(postgres));
    let world = World::cluster(cluster, environment).await;
    shared_out(&world).await;
    world
}

/// The same on a primary and its standby, both named in `store.url`, this one first.
async fn two_nodes_on(servers: &Replicated, first: &Arc<Postgres>) -> World {
    let database = servers.database(first).await;
    let world = World::cluster(Cluster::on(2, database), &[]).await;
    shared_out(&world).await;
    world
}

/// Waits until every shard has an owner and each node has some.
async fn shared_out(world: &World) {
    eventually("shards on both nodes", PATIENCE, async || {
        let mut owned = Vec::new();
        for node in world.nodes() {
            owned.push(node.metric("enrollpay_shards_owned", &[]).await);
        }
        (owned.iter().all(|shards| *shards > 0) && owned.iter().sum::<u64>() == 8).then_some(())
    })
    .await;
}

fn cluster(world: &World) -> &Cluster {
    world.cluster.as_ref().unwrap()
}

fn links(world: &World) -> &[Links] {
    &cluster(world).links
}

/// Waits until a metric of this node is so.
async fn until_metric(node: &Gateway, name: &str, holds: impl Fn(u64) -> bool) {
    eventually(name, PATIENCE, async || {
        holds(node.metric(name, &[]).await).then_some(())
    })
    .await;
}

/// Somebody pays by either wallet, where whoever comes is sent to each node in turn: nobody sees that
/// anything is wrong.
async fn nobody_sees_it(world: &World) {
    for node in world.nodes() {
        cluster(world).lead_to(&[node]);
        futures_util::future::join(world.paid(Wechat), world.paid(Alipay)).await;
    }
    let all: Vec<_> = world.nodes().collect();
    cluster(world).lead_to(&all);
}
