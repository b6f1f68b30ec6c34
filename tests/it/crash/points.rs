//! kill -9 at each of the points c1 to c16 (reliability §2.1): what the node that dies there leaves is
//! enough for its next start, and for its neighbours.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::cluster::Cluster;
use crate::support::process::{Gateway, Simulators};
use crate::support::story::{Story, tell};
use crate::support::student::{Alipay, Wallet, Wechat};
use crate::support::{Pair, World, on_either_pair};

const PATIENCE: Duration = Duration::from_secs(90);

on_either_pair! {
    c1_order_before_commit,
    c2_order_committed_unanswered,
    c3_trade_intended_not_asked_for,
    c4_trade_made_unrecorded,
    c5_claim_committed_unanswered,
    c6_notice_verified_uncommitted,
    c7_notice_committed_unacknowledged,
    c8_notice_recorded_actor_not_told,
    c9_closing_before_close,
    c10_closed_unrecorded,
    c11_and_c12_a_surplus_goes_back_once,
    c11_a_refund_is_kept_and_not_asked_for,
    c12_a_refund_is_accepted_unrecorded,
    c13_a_webhook_is_delivered_unmarked,
    c14_and_c15_a_start_that_died_is_followed_by_another,
}

/// Starts every node anew, to die at this point.
async fn arm(world: &World, point: &str) {
    for node in world.nodes() {
        node.terminate().await;
    }
    for node in world.nodes() {
        node.launch(&[("ENROLLPAY_CRASH", point)]);
    }
    for node in world.nodes() {
        node.ready().await;
    }
    world.settled().await;
}

/// Tells the story on nodes that were armed. Whichever dies is started again, until the story is over
/// and at least one has died; in the end all have had a start without the point.
async fn nursed<T>(world: &World, story: impl Future<Output = T>) -> T {
    let over = std::cell::Cell::new(None);
    let told = async {
        let told = story.await;
        over.set(Some(Instant::now()));
        told
    };
    let nurse = async {
        let mut armed: Vec<&Gateway> = world.nodes().collect();
        let all = armed.len();
        while over.get().is_none() || armed.len() == all {
            if let Some(at) = armed.iter().position(|node| !node.is_running()) {
                let node = armed.remove(at);
                node.crashed(PATIENCE).await;
                node.restart().await;
            }
            let is_late = over.get().is_some_and(|over| over.elapsed() > PATIENCE);
            assert!(!is_late, "no node died at its point");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for node in armed {
            // In order, or at its point after all.
            node.terminate().await;
            node.restart().await;
        }
    };
    let (told, ()) = tokio::join!(told, nurse);
    told
}

/// Starts the nodes so that they die at this point, drives a story through the death and the next start,
/// and checks what is left.
async fn through(on: Pair, point: &str, wallet: Wallet, story: Story) {
    let qr = if story == Story::Expire { "10" } else { "180" };
    let world = World::on(on, &[("ORDER__QR_SECONDS", qr)]).await;
    arm(&world, point).await;
    let (merchant, simulators) = (&world.merchant, &world.simulators);
    let order = nursed(&world, tell(merchant, simulators, wallet, story)).await;
    let end = world.merchant.order(&order).await;
    match story {
        Story::Pay => assert_eq!(end["status"], "paid"),
        Story::Cancel => assert_eq!(end["close_reason"], "cancelled"),
        Story::Expire => assert_eq!(end["status"], "unpaid"),
    }
    let number = end["merchant_order_no"].as_str().unwrap();
    let found = world
        .merchant
        .get(&format!("/v1/orders?merchant_order_no={number}"))
        .await
        .expect(200);
    assert_eq!(found["data"].as_array().unwrap().len(), 1, "one order");
    world.finish().await;
}

macro_rules! crashes {
    ($($name:ident: $point:literal, $(($wallet:ident, $story:ident)),+;)*) => {
        $(async fn $name(on: Pair) {
            let stories = [$(($wallet, Story::$story)),+];
            let all = stories.map(|(wallet, story)| through(on, $point, wallet, story));
            futures_util::future::join_all(all).await;
        })*
    };
}

// Alipay ends a trade by itself at its time: only WeChat's closing passes c9 and c10 at an expiry.
crashes! {
    c1_order_before_commit: "c1", (Wechat, Pay);
    c2_order_committed_unanswered: "c2", (Wechat, Pay);
    c3_trade_intended_not_asked_for: "c3",
        (Wechat, Pay), (Alipay, Pay), (Wechat, Expire), (Alipay, Cancel);
    c4_trade_made_unrecorded: "c4",
        (Wechat, Pay), (Alipay, Pay), (Alipay, Expire), (Wechat, Cancel);
    c5_claim_committed_unanswered: "c5", (Wechat, Pay), (Alipay, Pay);
    c6_notice_verified_uncommitted: "c6", (Wechat, Pay), (Alipay, Pay);
    c7_notice_committed_unacknowledged: "c7", (Wechat, Pay), (Alipay, Pay);
    c8_notice_recorded_actor_not_told: "c8", (Wechat, Pay), (Alipay, Pay);
    c9_closing_before_close: "c9", (Wechat, Expire), (Wechat, Cancel), (Alipay, Cancel);
    c10_closed_unrecorded: "c10", (Wechat, Expire), (Wechat, Cancel), (Alipay, Cancel);
}

/// c11, c12: a surplus refund that was intended, or accepted and not recorded, is made once.
async fn c11_and_c12_a_surplus_goes_back_once(on: Pair) {
    let one = async |point: &str| {
        let world = World::on(on, &[]).await;
        arm(&world, point).await;
        let late = nursed(&world, async {
            let late = world.late_payment().await;
            world
                .receiver
                .wait(&late.order, "order.surplus_refunded")
                .await;
            late
        })
        .await;
        let there = world.simulators.trade(&late.trade).await.unwrap();
        assert_eq!(there["refunds"].as_array().unwrap().len(), 1, "{point}");
        world.finish().await;
    };
    Box::pin(futures_util::future::join(one("c11"), one("c12"))).await;
}

/// Money on its way back when the gateway dies.
#[derive(Clone, Copy, Debug)]
enum Back {
    Whole(Wallet),
    Part(Wallet),
    Surplus,
}

/// Dies at this point of a refund, and starts again: one refund at the provider, under the one number
/// that we have for it, and one event.
async fn back_through(on: Pair, point: &str, back: Back) {
    let world = World::on(on, &[]).await;
    let paid = match back {
        Back::Whole(wallet) | Back::Part(wallet) => Some(world.paid(wallet).await),
        Back::Surplus => None,
    };
    world.rest().await;
    arm(&world, point).await;
    let amount = if matches!(back, Back::Part(_)) {
        4_300
    } else {
        14_000
    };
    let kind = match back {
        Back::Surplus => "order.surplus_refunded",
        _ => "refund.succeeded",
    };
    let (asked, told) = nursed(&world, async {
        let asked = match paid {
            Some(paid) => {
                world.merchant.refund(&paid.order, "TK-1", amount).await;
                paid
            }
            None => world.late_payment().await,
        };
        let told = world.receiver.wait(&asked.order, kind).await;
        (asked, told)
    })
    .await;
    world.rest().await;
    assert_eq!(world.receiver.events(&asked.order, kind).len(), 1, "{kind}");
    let times = world.receiver.deliveries(&asked.order);
    let times = times.iter().filter(|delivery| delivery.id == told.id);
    let times = times.count();
    assert_eq!(
        times > 1,
        point == "c13",
        "{kind} told {times} times at {point}"
    );
    let there = world.simulators.refunds(&asked.trade).await;
    let listed = world
        .merchant
        .get(&format!("/v1/orders/{}/refunds", asked.order))
        .await
        .expect(200);
    let ours: Vec<_> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|refund| {
            assert_eq!(refund["status"], "succeeded", "{refund}");
            let number = refund["number"].as_str().unwrap().to_owned();
            (number, refund["amount"].as_i64().unwrap())
        })
        .collect();
    assert_eq!(there, ours, "{point} {back:?}");
    assert_eq!(there.len(), 1, "{point} {back:?}");
    assert_eq!(there[0].1, amount);
    world.finish().await;
}

/// c11: the refund's row is there, the call is not made; c12: it is accepted there and not recorded; c13:
/// its webhook is delivered and not marked.
macro_rules! backs {
    ($($name:ident: $point:literal;)*) => {
        $(async fn $name(on: Pair) {
            let all = [Back::Whole(Wechat), Back::Part(Alipay), Back::Surplus];
            let all = all.map(|back| back_through(on, $point, back));
            futures_util::future::join_all(all).await;
        })*
    };
}

backs! {
    c11_a_refund_is_kept_and_not_asked_for: "c11";
    c12_a_refund_is_accepted_unrecorded: "c12";
    c13_a_webhook_is_delivered_unmarked: "c13";
}

/// c14: the lease is held, the epoch not raised; c15: it is raised, and nothing is loaded. Neither death
/// keeps the next start from what happened meanwhile.
async fn c14_and_c15_a_start_that_died_is_followed_by_another(on: Pair) {
    let world = World::on(on, &[]).await;
    let paid = world.paid(Wechat).await;
    let asked = world.ask(Alipay).await;
    // The money is on its way, and nobody of ours hears of it.
    world
        .simulators
        .fault(json!({ "operation": "wechat.refund", "fault": "reset_before", "count": null }))
        .await;
    world.merchant.refund(&paid.order, "TK-1", 100).await;
    for node in world.nodes() {
        node.kill9().await;
    }
    world
        .simulators
        .fault(json!({ "operation": "alipay.notice", "fault": "lost", "count": null }))
        .await;
    world.simulators.pay(&asked.trade).await;
    for point in ["c14", "c15", "c15", "c14"] {
        world.gateway.launch(&[("ENROLLPAY_CRASH", point)]);
        world.gateway.crashed(PATIENCE).await;
    }
    world.simulators.heal().await;
    for node in world.nodes() {
        node.restart().await;
    }
    world.merchant.until_status(&asked.order, "paid").await;
    world.receiver.wait(&paid.order, "refund.succeeded").await;
    assert_eq!(world.simulators.refunds(&paid.trade).await.len(), 1);
    world.finish().await;
}

/// c16: killed with its migrations run and not committed, a store of the first schema is as it was, and the
/// next start brings it up to date.
#[tokio::test]
async fn c16_a_migration_is_whole_or_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let simulators = Simulators::start(folder.path()).await;
    let gateway = Gateway::new(folder.path(), &simulators, &[]);
    let file = gateway.store();
    let order = crate::store::sqlite::upgrade::a_paid_order_of_the_first_schema(&file).to_string();
    let number = |sql: &str| {
        let connection = rusqlite::Connection::open(&file).unwrap();
        connection
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    let version = "SELECT max(version) FROM refinery_schema_history";
    let tables = "SELECT count(*) FROM sqlite_schema";
    let before = number(tables);
    for _ in 0..2 {
        gateway.launch(&[("ENROLLPAY_CRASH", "c16")]);
        gateway.crashed(PATIENCE).await;
        assert_eq!((number(version), number(tables)), (1, before));
        assert_eq!(
            number("SELECT count(*) FROM orders WHERE status = 'paid'"),
            1
        );
    }
    gateway.launch(&[]);
    gateway.ready().await;
    let lines = gateway.operate_rows(&["ledger", "--order", &order]);
    let kept: i64 = lines
        .iter()
        .filter_map(|line| line["amount"].as_i64())
        .filter(|amount| *amount > 0)
        .sum();
    assert_eq!(kept, 14_000, "{lines:?}");
    assert_eq!(gateway.terminate().await.code(), Some(0));
    assert!(number(version) > 1);
}

/// The same of an empty database.
#[tokio::test]
async fn c16_a_postgres_schema_is_whole_or_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let simulators = Simulators::start(folder.path()).await;
    let cluster = Cluster::new(1);
    let gateways = cluster.gateways(folder.path(), &simulators, &[]);
    let gateway = &gateways[0];
    let has = |table: &str| {
        let asked = format!("SELECT to_regclass('{table}') IS NOT NULL");
        cluster.database.sql(&asked) == "t"
    };
    for _ in 0..2 {
        gateway.launch(&[("ENROLLPAY_CRASH", "c16")]);
        gateway.crashed(PATIENCE).await;
        assert!(!has("orders") && !has("settings"));
    }
    gateway.restart().await;
    assert!(has("orders") && has("settings"));
    assert_eq!(gateway.terminate().await.code(), Some(0));
}
