//! Redis does anything but answer (F4, F5, F7, F31): it saves work, and guards nothing.

use std::time::Duration;

use super::{LEASE, PATIENCE, cluster, nobody_sees_it, two_nodes, until_metric};
use crate::support::eventually;
use crate::support::story::{meanwhile, seed};

const UNANSWERED: &str = "enrollpay_locks_unanswered";
const OWNED: &str = "enrollpay_shards_owned";
const LOST: &str = "enrollpay_shards_lost_total";

/// F4, in flight: owners go on under their epoch. At a start: not ready, and it says why.
#[tokio::test]
async fn without_redis_owners_go_on_and_nobody_begins() {
    let world = two_nodes().await;
    let (first, second) = (&world.gateway, &world.peers[0]);
    let redis = cluster(&world).redis.control();
    let fault = async {
        redis.kill9();
        for node in world.nodes() {
            until_metric(node, UNANSWERED, |unanswered| unanswered == 1).await;
        }
        nobody_sees_it(&world).await;
        // Longer than it would take to go by the store's clock alone.
        tokio::time::sleep(4 * LEASE).await;
        nobody_sees_it(&world).await;
        for node in world.nodes() {
            assert_eq!(node.metric(LOST, &[]).await, 0);
        }

        second.terminate().await;
        second.launch(&[]);
        let why = eventually("a complaint", PATIENCE, async || {
            let complaint = second.complaint().await?;
            assert!(!complaint.is_empty(), "ready without locks");
            complaint.contains("locks.url").then_some(complaint)
        })
        .await;
        assert!(why.contains("do not answer"), "{why}");
        redis.restart();
        second.ready().await;
        until_metric(first, UNANSWERED, |unanswered| unanswered == 0).await;
    };
    Box::pin(meanwhile(&world, 2, seed(), fault)).await;
    world.settled().await;
    world.finish().await;
}

/// F5, F31: emptied every second, under load. Owners set their keys again; nobody loses money or a shard.
#[tokio::test]
async fn an_emptied_redis_is_filled_again() {
    const TIMES: u32 = 10;
    let world = two_nodes().await;
    let redis = &cluster(&world).redis;
    let fault = async {
        let mut found_full = 0;
        for _ in 0..TIMES {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let keys = redis.say("KEYS *shard:*");
            found_full += u32::from(keys.starts_with('*') && !keys.starts_with("*0"));
            assert!(redis.say("FLUSHALL").starts_with("+OK"));
        }
        found_full
    };
    let (found_full, told) = meanwhile(&world, 4, seed(), fault).await;
    assert!(
        found_full >= TIMES / 2,
        "leases came back {found_full} times"
    );
    assert!(told >= 8, "too little happened: {told}");
    world.finish().await;
}

/// F7: an answer that does not come is no lost lease.
#[tokio::test]
async fn a_redis_paused_past_the_lease_takes_no_shard() {
    let world = two_nodes().await;
    let redis = cluster(&world).redis.control();
    let fault = async {
        redis.pause();
        for node in world.nodes() {
            until_metric(node, UNANSWERED, |unanswered| unanswered == 1).await;
        }
        tokio::time::sleep(3 * LEASE).await;
        nobody_sees_it(&world).await;
        redis.resume();
        for node in world.nodes() {
            until_metric(node, UNANSWERED, |unanswered| unanswered == 0).await;
            assert_eq!(node.metric(LOST, &[]).await, 0);
        }
    };
    Box::pin(meanwhile(&world, 2, seed(), fault)).await;
    world.settled().await;
    world.finish().await;
}

/// The store's clock alone is enough: Redis is down, and an owner dies (reliability §4.4).
#[tokio::test]
async fn without_redis_a_dead_owners_shards_are_taken_by_the_stores_clock() {
    let world = two_nodes().await;
    let (first, second) = (&world.gateway, &world.peers[0]);
    let redis = cluster(&world).redis.control();
    let fault = async {
        redis.kill9();
        until_metric(first, UNANSWERED, |unanswered| unanswered == 1).await;
        let died = std::time::Instant::now();
        second.kill9().await;
        until_metric(first, OWNED, |owned| owned == 8).await;
        let took = died.elapsed();
        assert!(took >= LEASE, "taken from the living: {took:?}");
        // One lease to fall silent, three more until others go by the clock, and a round.
        assert!(took <= 5 * LEASE, "{took:?}");
        cluster(&world).lead_to(&[first]);
        world.paid(crate::support::student::Wechat).await;
        redis.restart();
        second.restart().await;
        cluster(&world).heal();
    };
    meanwhile(&world, 4, seed(), fault).await;
    world.settled().await;
    world.finish().await;
}
