//! PostgreSQL is dead, slow, full, busy, or its answers are lost (F9 to F11, F14 to F17): nothing is
//! acknowledged that it has not, and all goes on by itself.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio_postgres::{NoTls, SimpleQueryMessage};

use super::{PATIENCE, cluster, links, two_nodes, two_nodes_with};
use crate::support::cluster::Cluster;
use crate::support::disk::SmallDisk;
use crate::support::merchant::{Merchant, new_order};
use crate::support::postgres::Postgres;
use crate::support::proxy::{Outcome, Request, Swallow, Toxic};
use crate::support::story::{meanwhile, seed};
use crate::support::student::{Alipay, Wechat};
use crate::support::{World, eventually};

/// A merchant's order, once: its status, and how long that took.
async fn try_create(merchant: &Merchant, key: Option<&str>) -> (u16, Duration) {
    let began = Instant::now();
    let body = new_order(&json!({}));
    let answer = merchant
        .try_call(Method::POST, "/v1/orders", Some(&body), key)
        .await;
    let answer = answer.expect("an answer");
    if answer.status == 503 {
        assert!(answer.headers.contains_key("retry-after"));
    }
    (answer.status, began.elapsed())
}

/// F9: 503 with `Retry-After`, notices are not acknowledged, `/readyz` names the store; and it recovers.
#[tokio::test]
async fn without_postgres_nothing_is_acknowledged() {
    let world = two_nodes().await;
    let postgres = cluster(&world).database.server.control();
    let asked = world.ask(Wechat).await;
    let fault = async {
        postgres.kill9();
        for node in world.nodes() {
            let why = eventually("a complaint", PATIENCE, async || {
                node.complaint().await.filter(|why| !why.is_empty())
            })
            .await;
            assert!(why.contains("store"), "{why}");
            let merchant = world.merchant.clone().at(&node.origin);
            let (status, took) = try_create(&merchant, None).await;
            assert_eq!(status, 503);
            assert!(took < Duration::from_secs(6), "{took:?}");
        }
        world.simulators.pay(&asked.trade).await;
        eventually("a notice", PATIENCE, async || {
            let trade = world.simulators.trade(&asked.trade).await?;
            let notices = trade["notices"].as_array()?;
            assert!(notices.iter().all(|notice| notice["acked"] == false));
            notices
                .iter()
                .any(|notice| notice["sent"].as_u64() > Some(0))
                .then_some(())
        })
        .await;
        postgres.restart();
        for node in world.nodes() {
            node.ready().await;
        }
    };
    let ((), told) = meanwhile(&world, 4, seed(), fault).await;
    assert!(told >= 4, "too little happened: {told}");
    world.merchant.until_status(&asked.order, "paid").await;
    world.finish().await;
}

/// F10: half a second for every word. Payments go through, and callbacks within their deadline.
#[tokio::test]
async fn a_slow_postgres_is_slow_and_no_more() {
    // A heartbeat takes some of those words: leases are as long as in production.
    let world = two_nodes_with(&[], &[("CLUSTER__LEASE_SECONDS", "10")]).await;
    let slow = Toxic {
        delay: Duration::from_millis(250),
        ..Toxic::default()
    };
    for link in links(&world) {
        link.store.set_both(slow);
    }
    let fault = async {
        let (status, took) = try_create(&world.merchant, None).await;
        assert_eq!(status, 201);
        assert!(took >= Duration::from_millis(500), "{took:?}");
        world.paid(Wechat).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        cluster(&world).heal();
    };
    let ((), told) = meanwhile(&world, 4, seed(), fault).await;
    assert!(told >= 4, "too little happened: {told}");
    world.finish().await;
}

/// F11: committed and not told, or told and not committed: nobody can know, and the rows are asked.
#[tokio::test]
async fn a_lost_answer_to_commit_is_looked_up() {
    const TIMES: usize = 15;
    let world = two_nodes().await;
    let fault = async {
        for outcome in [Outcome::AnswerLost, Outcome::NeverSent] {
            for link in links(&world) {
                link.store.swallow(Swallow {
                    request: Request::Commit,
                    outcome,
                    times: TIMES,
                });
            }
            eventually("lost answers", PATIENCE, async || {
                let lost = |so_far: usize| {
                    let twice = if outcome == Outcome::AnswerLost { 1 } else { 2 };
                    so_far >= twice * TIMES
                };
                links(&world)
                    .iter()
                    .all(|link| lost(link.store.swallowed()))
                    .then_some(())
            })
            .await;
        }
    };
    let ((), told) = meanwhile(&world, 6, seed(), fault).await;
    assert!(told >= 6, "too little happened: {told}");
    world.finish().await;
}

/// F15: every connection but the callbacks' waits for somebody who sleeps. Merchants are told to come
/// again, within the bound; providers are heard at their first word.
#[tokio::test]
async fn a_busy_pool_sheds_merchants_and_hears_providers() {
    /// `store.connections` of the two nodes.
    const GENERAL: u64 = 2 * 16;
    /// Of each node: many more than it has connections.
    const CROWD: usize = 48;
    // A heartbeat needs a connection, too: leases are as long as in production.
    let world = two_nodes_with(&[], &[("CLUSTER__LEASE_SECONDS", "10")]).await;
    let wallets = [Alipay, Wechat].into_iter().cycle().take(6);
    let asked = join_all(wallets.map(|wallet| world.ask(wallet))).await;
    let database = &cluster(&world).database;
    let url = database.url();
    // What every merchant asks for first, and no provider.
    let held = std::thread::spawn(move || {
        let output = std::process::Command::new("psql")
            .args(["-X", "-q", "-d", &url, "-c"])
            .arg("BEGIN; LOCK TABLE idempotency IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(8); COMMIT")
            .output()
            .unwrap();
        assert!(output.status.success());
    });
    let none_left = async || {
        let count = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let waiting: u64 = database.sql(count).parse().unwrap();
        (waiting >= GENERAL).then_some(())
    };
    let over = AtomicBool::new(false);
    let shed = AtomicU32::new(0);
    let crowd = world.nodes().flat_map(|node| {
        let merchant = world.merchant.clone().at(&node.origin);
        std::iter::repeat_n(merchant, CROWD)
    });
    let crowd = join_all(crowd.map(async |merchant| {
        while !over.load(Relaxed) {
            let key = Merchant::nonce();
            let (status, took) = try_create(&merchant, Some(&key)).await;
            // The very first may have come before the lock.
            assert!(status == 503 || status == 201, "{status}");
            assert!(took < Duration::from_secs(6), "{took:?}");
            shed.fetch_add(u32::from(status == 503), Relaxed);
        }
    }));
    let providers = async {
        eventually("every connection held", PATIENCE, none_left).await;
        for one in &asked {
            world.simulators.pay(&one.trade).await;
        }
        let first_words = async || {
            for one in &asked {
                let trade = world.simulators.trade(&one.trade).await?;
                let notices = trade["notices"].as_array()?;
                let is_heard = |notice: &Value| notice["acked"] == true;
                if notices.is_empty() || !notices.iter().all(is_heard) {
                    return None;
                }
                for notice in notices {
                    assert_eq!(notice["sent"], 1, "{trade}");
                }
            }
            Some(())
        };
        eventually("six acknowledgements", Duration::from_secs(3), first_words).await;
        for one in &asked {
            let paid = format!("SELECT status FROM orders WHERE id = '{}'", one.order);
            assert_eq!(database.sql(&paid), "paid");
        }
        eventually("every connection held", PATIENCE, none_left).await;
        assert!(!held.is_finished(), "the lock was gone too soon");
        over.store(true, Relaxed);
    };
    tokio::join!(crowd, providers);
    assert!(u64::from(shed.load(Relaxed)) >= GENERAL, "{shed:?}");
    let ended = async || held.is_finished().then_some(());
    eventually("the end of the lock", PATIENCE, ended).await;
    held.join().unwrap();
    world.settled().await;
    world.merchant.create().await;
    world.finish().await;
}

/// F16: connections that died unseen in a partition are found out in seconds.
#[tokio::test]
async fn dead_connections_are_found_out() {
    let world = two_nodes().await;
    let fault = async {
        let line = &links(&world)[0].store;
        line.partition();
        // Beyond what any statement may take.
        tokio::time::sleep(Duration::from_secs(8)).await;
        assert!(line.held() > 0);
        line.heal();
        let merchant = world.merchant.clone().at(&world.gateway.origin);
        let began = Instant::now();
        eventually("an answer", Duration::from_secs(5), async || {
            (try_create(&merchant, None).await.0 == 201).then_some(())
        })
        .await;
        println!("the first order {:?} after the partition", began.elapsed());
    };
    meanwhile(&world, 2, seed(), fault).await;
    world.finish().await;
}

/// F14: a full disk. The server may die of it; the gateway waits for what a person does about it.
#[tokio::test]
async fn a_full_disk_stops_all_and_loses_nothing() {
    const MEBIBYTES: u32 = 160;
    let Some(disk) = SmallDisk::mount(MEBIBYTES) else {
        println!("not root: a disk of a fixed size cannot be made");
        return;
    };
    let postgres = Postgres::private_in(disk.folder(), &[("max_wal_size", "48MB")]);
    let world = World::cluster(Cluster::breakable(2, &postgres), &[]).await;
    let server = cluster(&world).database.server.control();
    let asked = world.ask(Wechat).await;
    let fault = async {
        // So that files must grow, and not what stands in them.
        disk.fill();
        eventually("a refusal", PATIENCE, async || {
            (try_create(&world.merchant, None).await.0 == 503).then_some(())
        })
        .await;
        world.simulators.pay(&asked.trade).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        disk.free();
        server.kill9();
        server.restart();
        for node in world.nodes() {
            node.ready().await;
        }
    };
    meanwhile(&world, 4, seed(), fault).await;
    let log = server.log();
    assert!(log.contains("No space left on device"), "{log}");
    world.merchant.until_status(&asked.order, "paid").await;
    world.finish().await;
}

/// F17: crossed locks. PostgreSQL ends one of the two; the gateway, where it is that one, tries again.
#[tokio::test]
async fn a_deadlock_is_tried_again() {
    const TIMES: usize = 30;
    // Sooner than its patience with a lock is over, later than it takes to cross it.
    let world = two_nodes_with(&[("deadlock_timeout", "700ms")], &[]).await;
    let database = &cluster(&world).database;
    let (client, connection) = tokio_postgres::connect(&database.url(), NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let is_crossed = || {
        database
            .server
            .control()
            .log()
            .contains("deadlock detected")
    };
    for _ in 0..TIMES {
        if is_crossed() {
            break;
        }
        let asked = join_all((0..6).map(|_| world.ask(Alipay))).await;
        let ids: Vec<&str> = asked.iter().map(|one| one.order.as_str()).collect();
        // Ours: the last of them, and whichever of the others the gateway has by then.
        let (last, others) = ids.split_last().unwrap();
        let hold = format!(
            "BEGIN; SET LOCAL deadlock_timeout = '60s';
             SELECT 1 FROM orders WHERE id = '{last}' FOR UPDATE; SAVEPOINT ours"
        );
        client.batch_execute(&hold).await.unwrap();
        join_all(asked.iter().map(|one| world.simulators.pay(&one.trade))).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let joined = others.join("', '");
        let look = format!("SELECT id FROM orders WHERE id IN ('{joined}') FOR UPDATE SKIP LOCKED");
        let free = client.simple_query(&look).await.unwrap();
        let free: Vec<String> = free
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => Some(row.get(0)?.to_owned()),
                _ => None,
            })
            .collect();
        client.batch_execute("ROLLBACK TO ours").await.unwrap();
        if let Some(held) = others.iter().find(|id| !free.contains(&(**id).to_owned())) {
            let cross = format!("SELECT 1 FROM orders WHERE id = '{held}' FOR UPDATE");
            client.batch_execute(&cross).await.unwrap();
        }
        client.batch_execute("COMMIT").await.unwrap();
        for one in &asked {
            world.merchant.until_status(&one.order, "paid").await;
        }
    }
    assert!(is_crossed(), "no two locks were crossed in {TIMES} times");
    world.finish().await;
}
