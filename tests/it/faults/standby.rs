//! A standby is never read for a decision (F18): what it shows is old, or never comes to be.

use std::time::Duration;

use enrollpay::store::postgres::{OpenError, Options, PostgresStore};

use super::{PATIENCE, cluster, links, shared_out, two_nodes_on};
use crate::support::cluster::Cluster;
use crate::support::standby::Replicated;
use crate::support::story::{meanwhile, seed};
use crate::support::student::{Alipay, Wechat};
use crate::support::{World, eventually};

/// Named first, and far behind: it is asked whether it takes writes, and nothing else. Not even one that
/// stands still keeps a node from its primary.
#[tokio::test]
async fn a_standby_that_lags_is_asked_nothing() {
    let servers = Replicated::asynchronous();
    let world = two_nodes_on(&servers, &servers.standby).await;
    servers.standby.sql("SELECT pg_wal_replay_pause()");
    let orders = "SELECT count(*) FROM orders";
    let lagging = cluster(&world).database.on(&servers.standby);
    let seen = lagging.sql(orders);
    let fault = async {
        for node in world.nodes() {
            tokio::time::sleep(Duration::from_secs(2)).await;
            node.terminate().await;
            node.restart().await;
        }
        world.paid(Wechat).await;
        world.paid(Alipay).await;
    };
    let ((), told) = meanwhile(&world, 4, seed(), fault).await;
    assert!(told >= 4, "too little happened: {told}");
    // It bit: the standby was there, was tried, and knew nothing.
    assert_eq!(lagging.sql(orders), seen);
    assert_ne!(cluster(&world).database.sql(orders), seen);
    let log = servers.standby.control().log();
    let asked: Vec<_> = log
        .lines()
        .filter_map(|line| line.strip_prefix("enrollpay: ")?.split_once("statement: "))
        .map(|(_, statement)| statement)
        .collect();
    assert!(!asked.is_empty(), "it was never tried: {log}");
    let others: Vec<_> = asked
        .iter()
        .filter(|statement| **statement != "SHOW transaction_read_only")
        .collect();
    assert!(others.is_empty(), "{others:?}");
    assert!(!log.contains("enrollpay: LOG:  execute"), "{log}");

    // Now it does not even answer.
    servers.standby.control().pause();
    for node in world.nodes() {
        node.terminate().await;
        node.restart().await;
    }
    world.settled().await;
    world.paid(Wechat).await;
    servers.standby.control().resume();
    world.finish().await;
}

/// Where an address leads to a standby, it is no store: at the start, and for nodes that run.
#[tokio::test]
async fn a_node_that_meets_only_a_standby_serves_nothing() {
    let servers = Replicated::asynchronous();
    let world = World::cluster(Cluster::breakable(2, &servers.primary), &[]).await;
    shared_out(&world).await;
    servers.caught_up().await;
    let database = &cluster(&world).database;
    let url = database.on(&servers.standby).url();
    let opened = PostgresStore::open(&url, Options::default()).await;
    let refused = opened.expect_err("a standby");
    assert!(matches!(refused, OpenError::ReadOnly { .. }), "{refused}");
    assert!(refused.to_string().contains("takes no writes"), "{refused}");

    let asked = world.ask(Wechat).await;
    for link in links(&world) {
        link.store.lead_to(&[servers.standby.address()]);
        link.store.reset();
    }
    for node in world.nodes() {
        let why = eventually("a complaint", PATIENCE, async || {
            node.complaint().await.filter(|why| !why.is_empty())
        })
        .await;
        assert!(why.contains("store"), "{why}");
        let merchant = world.merchant.clone().at(&node.origin);
        let path = format!("/v1/orders/{}", asked.order);
        assert_eq!(merchant.get(&path).await.status, 503);
    }
    world.simulators.pay(&asked.trade).await;
    eventually("a notice that comes again", PATIENCE, async || {
        let trade = world.simulators.trade(&asked.trade).await?;
        let notices = trade["notices"].as_array()?;
        assert!(notices.iter().all(|notice| notice["acked"] == false));
        let sent = notices.iter().map(|notice| notice["sent"].as_u64());
        (sent.flatten().sum::<u64>() > 1).then_some(())
    })
    .await;
    for link in links(&world) {
        link.store.lead_to(&[servers.primary.address()]);
    }
    for node in world.nodes() {
        node.ready().await;
    }
    world.merchant.until_status(&asked.order, "paid").await;
    world.finish().await;
}
