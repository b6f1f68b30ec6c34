//! Another PostgreSQL takes over (F12, F13): from a synchronous standby nothing is missing that anybody
//! was told; what an asynchronous one never had is found again in the providers' books.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use enrollpay::store::postgres::{Options, PostgresStore};
use enrollpay::store::{Fence, Rejection, Store, StoreError, Write};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{PATIENCE, cluster, two_nodes_on, until_metric};
use crate::money::bills::{book, cut, day, reconcile};
use crate::store::sample::{START, creation, start, writes};
use crate::store::suite::{commit_step, commit_write};
use crate::support::merchant::new_order;
use crate::support::postgres::Database;
use crate::support::standby::Replicated;
use crate::support::story::{meanwhile, seed};
use crate::support::student::{Alipay, Wechat};
use crate::support::{World, eventually};

const OWNED: &str = "enrollpay_shards_owned";
const RISK: &str = "may lose acknowledged commits";

/// A school's server: creates orders until it is told to stop, and keeps those that were confirmed.
async fn clerk(world: &World, confirmed: &Mutex<Vec<String>>, stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        let body = new_order(&json!({}));
        let answer = world
            .merchant
            .try_call(Method::POST, "/v1/orders", Some(&body), None)
            .await;
        if let Ok(answer) = answer
            && answer.status == 201
        {
            let order = answer.json()["id"].as_str().unwrap().to_owned();
            confirmed.lock().unwrap().push(order);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The first column of each row.
fn all(database: &Database, query: &str) -> BTreeSet<String> {
    database.sql(query).lines().map(str::to_owned).collect()
}

/// Transactions of which the provider was told that we have them.
fn acknowledged(books: &Value) -> BTreeSet<String> {
    let trades = books["trades"].as_array().unwrap().iter();
    let told = trades.filter(|trade| {
        let mut notices = trade["notices"].as_array().unwrap().iter();
        notices.any(|notice| notice["acked"] == true)
    });
    told.flat_map(|trade| trade["captures"].as_array().unwrap())
        .map(|capture| capture["transaction_id"].as_str().unwrap().to_owned())
        .collect()
}

/// F12: for longer than anybody's patience nothing reaches the standby; then the primary dies and the
/// standby takes over, under load. Whatever was confirmed to a merchant, acknowledged to a provider or
/// told by webhook is there. A node that slept through all of it owns nothing when it wakes.
#[tokio::test]
async fn a_synchronous_standby_has_all_that_was_acknowledged() {
    let servers = Replicated::synchronous();
    let world = two_nodes_on(&servers, &servers.primary).await;
    let standby = cluster(&world).database.on(&servers.standby);
    for node in world.nodes() {
        assert!(!node.log().contains(RISK), "{}", node.log());
    }
    let (awake, sleeper) = (&world.gateway, &world.peers[0]);
    let confirmed = Mutex::new(Vec::new());
    let fault = async {
        let asked = join_all([Wechat, Alipay, Wechat, Alipay].map(|wallet| world.ask(wallet)));
        let asked = asked.await;
        let (stop, stopped) = watch::channel(false);
        let outage = async {
            eventually("confirmed orders", PATIENCE, async || {
                (confirmed.lock().unwrap().len() > 10).then_some(())
            })
            .await;
            servers.line.partition();
            eventually("commits that wait", PATIENCE, async || {
                (servers.commits_that_wait() > 0).then_some(())
            })
            .await;
            for one in &asked {
                world.simulators.pay(&one.trade).await;
            }
            // Every commit and every look for its outcome is given up meanwhile, and notices come again.
            tokio::time::sleep(Duration::from_secs(16)).await;
            assert!(servers.commits_that_wait() > 0, "nothing waits any more");
            sleeper.pause();
            servers.primary_dies().await;
            stop.send_replace(true);
        };
        tokio::join!(outage, clerk(&world, &confirmed, stopped));

        let heard = acknowledged(&world.simulators.books().await);
        let here = all(&standby, "SELECT transaction_id FROM captures");
        let lost: Vec<_> = heard.difference(&here).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        let orders = all(&standby, "SELECT id FROM orders");
        let confirmed = confirmed.lock().unwrap().clone();
        let lost: Vec<_> = confirmed
            .iter()
            .filter(|id| !orders.contains(*id))
            .collect();
        assert!(lost.is_empty(), "confirmed and lost: {lost:?}");
        let events = all(&standby, "SELECT id FROM outbox");
        for told in world.receiver.all() {
            assert!(events.contains(&told.id), "told and lost: {}", told.id);
        }
        // It bit: money moved that could not be recorded.
        let paid = all(&standby, "SELECT order_id FROM captures");
        assert!(asked.iter().any(|one| !paid.contains(&one.order)));

        servers.promote();
        cluster(&world).lead_to(&[awake]);
        until_metric(awake, OWNED, |owned| owned == 8).await;
        let owners = "SELECT DISTINCT instance FROM shards";
        assert_eq!(all(&cluster(&world).database, owners).len(), 1);
        sleeper.resume();
        cluster(&world).heal();
        for node in world.nodes() {
            node.ready().await;
        }
        world.settled().await;
        asked
    };
    let (asked, told) = meanwhile(&world, 4, seed(), fault).await;
    assert!(told >= 4, "too little happened: {told}");
    for one in &asked {
        world.merchant.until_status(&one.order, "paid").await;
    }
    world.finish().await;
}

/// F13: the standby never had what was acknowledged last, of which every node warns. The captures among
/// it are found again: by asking the provider, or by its bill where that does not answer.
#[tokio::test]
async fn what_an_asynchronous_standby_never_had_is_found_again() {
    let (date, noon) = day();
    let servers = Replicated::asynchronous();
    let world = two_nodes_on(&servers, &servers.primary).await;
    let database = &cluster(&world).database;
    let standby = database.on(&servers.standby);
    for node in world.nodes() {
        let log = node.log();
        let warnings: Vec<_> = log.lines().filter(|line| line.contains(RISK)).collect();
        assert_eq!(warnings.len(), 1, "{log}");
        assert!(warnings[0].contains("synchronous_standby_names is ''"));
        assert!(warnings[0].contains("ANY 1"), "{}", warnings[0]);
    }
    let looked = PostgresStore::risk(&database.url(), Options::default()).await;
    assert_eq!(
        looked.unwrap().map(|risk| risk.setting),
        Some("synchronous_standby_names")
    );
    let pause = tokio::time::sleep(Duration::from_secs(3));
    let ((), told) = meanwhile(&world, 4, seed(), pause).await;
    assert!(told >= 4, "too little happened: {told}");

    let asked = join_all([Wechat, Alipay, Wechat, Alipay].map(|wallet| world.ask(wallet))).await;
    let (by_bill, by_asking) = asked.split_at(2);
    let by_bill: Vec<_> = [Wechat, Alipay].into_iter().zip(by_bill).collect();
    servers.caught_up().await;
    servers.line.partition();
    let body = new_order(&json!({}));
    let forgotten = world.merchant.post("/v1/orders", &body).await.expect(201);
    for (wallet, one) in &by_bill {
        book(&world, *wallet, one, noon).await;
    }
    for one in by_asking {
        world.simulators.pay(&one.trade).await;
    }
    for one in &asked {
        world.merchant.until_status(&one.order, "paid").await;
        world.receiver.wait(&one.order, "order.paid").await;
    }
    for (wallet, one) in &by_bill {
        cut(&world, *wallet, one, &["query", "close"]).await;
    }

    servers.primary_dies().await;
    // It bit: all of that is gone.
    let orders = all(&standby, "SELECT id FROM orders WHERE status = 'paid'");
    assert!(asked.iter().all(|one| !orders.contains(&one.order)));
    servers.promote();
    for node in world.nodes() {
        node.ready().await;
    }
    for one in &asked {
        world.receiver.forget(&one.order);
    }
    // An order that nobody has heard of is made when its merchant asks again.
    let again = world.merchant.insist("/v1/orders", &body, "again").await;
    assert_ne!(again.expect(201)["id"], forgotten["id"]);

    for (wallet, one) in &by_bill {
        assert_ne!(world.merchant.order(&one.order).await["status"], "paid");
        let (_, answer, output) = reconcile(&world, *wallet, date);
        let result = (&answer["state"], &answer["repaired"]);
        assert_eq!(result, (&json!("finished"), &json!(1)), "{output:?}");
    }
    for one in &asked {
        world.merchant.until_status(&one.order, "paid").await;
        world.receiver.wait(&one.order, "order.paid").await;
    }
    world.finish().await;
}

/// F13: the claim of a shard is among what was lost, and the next one has its number.
#[tokio::test]
async fn an_epoch_that_comes_again_is_told_apart_by_its_instance() {
    const SHARD: u16 = 3;
    const FIRST: u128 = 7;
    const LOST: u128 = 8;
    const NEXT: u128 = 9;
    let claim = |epoch, instance| Write::ShardClaimed {
        shard: SHARD,
        epoch,
        instance,
        silent_ms: None,
        at: START,
    };
    let pair = |epoch, instance| Fence::Owner {
        shard: SHARD,
        epoch,
        instance,
    };
    let servers = Replicated::asynchronous();
    let database = servers.database(&servers.primary).await;
    let store = PostgresStore::open(&database.url(), Options::default()).await;
    let store: Arc<dyn Store> = Arc::new(store.unwrap());
    let created = creation(1);
    commit_step(&store, created.clone()).await.unwrap();
    commit_write(&store, claim(1, FIRST)).await.unwrap();
    servers.caught_up().await;
    servers.line.partition();
    commit_write(&store, claim(2, LOST)).await.unwrap();
    assert!(store.fence_stands(pair(2, LOST)).await.unwrap());

    servers.primary_dies().await;
    servers.promote();
    let claimed = eventually("a store that takes writes", PATIENCE, async || {
        let claim = writes([claim(2, NEXT)]);
        match store.commit(vec![claim]).await {
            Ok(verdicts) => Some(verdicts),
            Err(StoreError::Unavailable { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    })
    .await;
    assert_eq!(claimed, [Ok(())], "the number was free again");
    assert!(!store.fence_stands(pair(2, LOST)).await.unwrap());
    let mut write = start(&created.order);
    write.fence = pair(2, LOST);
    let refused = commit_step(&store, write.clone()).await;
    assert_eq!(refused, Err(Rejection::FenceMoved));
    write.fence = pair(2, NEXT);
    assert_eq!(commit_step(&store, write).await, Ok(()));
    store.close().await;
}
