//! kill -9, at every point where it could hurt and at any moment: what is on disk is enough to go on
//! from, and no promise is broken (reliability F1, F2).
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its own set-up fails"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "real processes live in real time"
)]
#![cfg_attr(
    not(feature = "fault-injection"),
    expect(dead_code, reason = "the crash points exist in that feature only")
)]

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::support::books::trade_number;
use crate::support::merchant::{Merchant, new_order};
use crate::support::process::Simulators;
use crate::support::student::{Alipay, Student, Wallet, Wechat};
use crate::support::{World, eventually};

const PATIENCE: Duration = Duration::from_secs(90);

/// How an order's story ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Story {
    Pay,
    Expire,
    Cancel,
}

/// Drives one order to its end, as patient people do: whatever got no answer is asked again, with the
/// same keys and the same wallet code.
async fn tell(
    merchant: &Merchant,
    simulators: &Simulators,
    wallet: Wallet,
    story: Story,
) -> String {
    let body = new_order(&json!({}));
    let number = body["merchant_order_no"].as_str().unwrap();
    let created = merchant
        .insist("/v1/orders", &body, &format!("order-{number}"))
        .await;
    assert!([200, 201].contains(&created.status), "{}", created.json());
    let order = created.json()["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/orders/{order}/attempts");
    let attempt = merchant
        .insist(&path, &json!({}), &format!("start-{number}"))
        .await
        .expect(201);
    let trade = trade_number(&order, attempt["number"].as_u64().unwrap());

    let mut student = Student::stranger(wallet);
    let reached = go_to_the_wallet(&mut student, &attempt).await;
    match story {
        Story::Pay if reached => {
            pay(simulators, &trade).await;
            merchant.until_status(&order, "paid").await;
        }
        Story::Cancel => {
            let path = format!("/v1/orders/{order}/cancel");
            let key = format!("cancel-{number}");
            eventually("the outcome of a cancel", PATIENCE, async || {
                (merchant.insist(&path, &json!({}), &key).await.status == 200).then_some(())
            })
            .await;
            merchant.until_status(&order, "closed").await;
        }
        // The code ran out on the way: a student would ask for a new one.
        Story::Pay | Story::Expire => {
            merchant
                .until(&order, "the code ended", |order| {
                    order["attempt"]["status"] == "expired"
                })
                .await;
        }
    }
    order
}

/// The scan, the claim and 确认付款, each until it is answered. False once the code has ended.
async fn go_to_the_wallet(student: &mut Student, attempt: &Value) -> bool {
    let code = attempt["qr_content"].as_str().unwrap();
    let claimed = eventually("a claim", PATIENCE, async || {
        // The same wallet code again first: its answer may only have been lost.
        let answer = match student.try_claim_again().await {
            Some(answer) => answer,
            None => student.try_scan(code).await,
        };
        let answer = answer.ok()?;
        match answer.status {
            200 if answer.body.starts_with(b"{") => {
                (answer.json()["state"] == "claimed").then_some(true)
            }
            410 => Some(false),
            _ => None,
        }
    })
    .await;
    if !claimed {
        return false;
    }
    eventually("the pay parameters", PATIENCE, async || {
        let answer = student.try_pay().await.ok()?;
        match answer.status {
            200 => Some(true),
            410 => Some(false),
            _ => None,
        }
    })
    .await
}

/// Pays, unless the provider has already ended the trade.
async fn pay(simulators: &Simulators, trade: &str) {
    match simulators.try_pay(trade).await {
        Ok(_) => {}
        Err(code) => assert!(
            ["closed", "expired", "already_paid"].contains(&code.as_str()),
            "{code}"
        ),
    }
}

/// Starts the gateway so that it dies at this point, drives a story through the death and the next
/// start, and checks what is left.
#[cfg(feature = "fault-injection")]
async fn through(point: &str, wallet: Wallet, story: Story) {
    let qr = if story == Story::Expire { "10" } else { "180" };
    let mut world = World::start(&[("ORDER__QR_SECONDS", qr)]).await;
    world.gateway.terminate().await;
    world.gateway.launch(&[("ENROLLPAY_CRASH", point)]);
    world.gateway.ready().await;
    let gateway = &mut world.gateway;
    let death = async {
        gateway.crashed(PATIENCE).await;
        gateway.restart().await;
    };
    let ((), order) = tokio::join!(
        death,
        tell(&world.merchant, &world.simulators, wallet, story)
    );
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

#[cfg(feature = "fault-injection")]
macro_rules! crashes {
    ($($name:ident: $point:literal, $(($wallet:ident, $story:ident)),+;)*) => {$(
        #[tokio::test]
        async fn $name() {
            let stories = [$(($wallet, Story::$story)),+];
            let all = stories.map(|(wallet, story)| through($point, wallet, story));
            futures_util::future::join_all(all).await;
        }
    )*};
}

// Alipay ends a trade by itself at its time: only WeChat's closing passes c9 and c10 at an expiry.
#[cfg(feature = "fault-injection")]
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
#[cfg(feature = "fault-injection")]
#[tokio::test]
async fn c11_and_c12_a_surplus_goes_back_once() {
    let one = async |point: &str| {
        let mut world = World::start(&[]).await;
        world.gateway.terminate().await;
        world.gateway.launch(&[("ENROLLPAY_CRASH", point)]);
        world.gateway.ready().await;
        let late = world.late_payment().await;
        world.gateway.crashed(PATIENCE).await;
        world.gateway.restart().await;
        world
            .receiver
            .wait(&late.order, "order.surplus_refunded")
            .await;
        let there = world.simulators.trade(&late.trade).await.unwrap();
        assert_eq!(there["refunds"].as_array().unwrap().len(), 1, "{point}");
        world.finish().await;
    };
    futures_util::future::join(one("c11"), one("c12")).await;
}

/// Money on its way back when the gateway dies.
#[cfg(feature = "fault-injection")]
#[derive(Clone, Copy, Debug)]
enum Back {
    Whole(Wallet),
    Part(Wallet),
    Surplus,
}

/// Dies at this point of a refund, and starts again: one refund at the provider, under the one number
/// that we have for it, and one event.
#[cfg(feature = "fault-injection")]
async fn back_through(point: &str, back: Back) {
    let mut world = World::start(&[]).await;
    let paid = match back {
        Back::Whole(wallet) | Back::Part(wallet) => Some(world.paid(wallet).await),
        Back::Surplus => None,
    };
    world.rest().await;
    world.gateway.terminate().await;
    world.gateway.launch(&[("ENROLLPAY_CRASH", point)]);
    world.gateway.ready().await;
    let amount = if matches!(back, Back::Part(_)) {
        4_300
    } else {
        14_000
    };
    let asked = if let Some(paid) = paid {
        let gateway = &mut world.gateway;
        let death = async {
            gateway.crashed(PATIENCE).await;
            gateway.restart().await;
        };
        let ask = world.merchant.refund(&paid.order, "TK-1", amount);
        tokio::join!(death, ask);
        paid
    } else {
        let late = world.late_payment().await;
        world.gateway.crashed(PATIENCE).await;
        world.gateway.restart().await;
        late
    };
    let kind = match back {
        Back::Surplus => "order.surplus_refunded",
        _ => "refund.succeeded",
    };
    let told = world.receiver.wait(&asked.order, kind).await;
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
#[cfg(feature = "fault-injection")]
macro_rules! backs {
    ($($name:ident: $point:literal;)*) => {$(
        #[tokio::test]
        async fn $name() {
            let all = [Back::Whole(Wechat), Back::Part(Alipay), Back::Surplus];
            futures_util::future::join_all(all.map(|back| back_through($point, back))).await;
        }
    )*};
}

#[cfg(feature = "fault-injection")]
backs! {
    c11_a_refund_is_kept_and_not_asked_for: "c11";
    c12_a_refund_is_accepted_unrecorded: "c12";
    c13_a_webhook_is_delivered_unmarked: "c13";
}

/// c14: the lease is held, the epoch not raised; c15: it is raised, and nothing is loaded. Neither death
/// keeps the next start from what happened meanwhile.
#[cfg(feature = "fault-injection")]
#[tokio::test]
async fn c14_and_c15_a_start_that_died_is_followed_by_another() {
    let mut world = World::start(&[]).await;
    let paid = world.paid(Wechat).await;
    let asked = world.ask(Alipay).await;
    // The money is on its way, and nobody of ours hears of it.
    world
        .simulators
        .fault(json!({ "operation": "wechat.refund", "fault": "reset_before", "count": null }))
        .await;
    world.merchant.refund(&paid.order, "TK-1", 100).await;
    world.gateway.kill9().await;
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
    world.gateway.restart().await;
    world.merchant.until_status(&asked.order, "paid").await;
    world.receiver.wait(&paid.order, "refund.succeeded").await;
    assert_eq!(world.simulators.refunds(&paid.trade).await.len(), 1);
    world.finish().await;
}

/// c16: killed with its migrations run and not committed, a store of the first schema is as it was, and the
/// next start brings it up to date.
#[cfg(feature = "fault-injection")]
#[tokio::test]
async fn c16_a_migration_is_whole_or_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let simulators = Simulators::start(folder.path()).await;
    let mut gateway = crate::support::process::Gateway::new(folder.path(), &simulators, &[]);
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

/// F2: any moment will do.
#[tokio::test]
async fn ten_kills_under_load() {
    const KILLS: u32 = 10;
    const STUDENTS: u64 = 4;
    let seed: u64 = std::env::var("ENROLLPAY_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random);
    println!("ENROLLPAY_TEST_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let mut world = World::start(&[]).await;
    let (over, watch) = tokio::sync::watch::channel(false);
    let gateway = &mut world.gateway;
    let kills = async {
        for _ in 0..KILLS {
            let life = Duration::from_millis(dice.random_range(50..1_500));
            tokio::time::sleep(life).await;
            gateway.kill9().await;
            gateway.restart().await;
        }
        over.send_replace(true);
    };
    let (merchant, simulators) = (&world.merchant, &world.simulators);
    let students = (0..STUDENTS).map(|number| {
        let mut dice = StdRng::seed_from_u64(seed ^ (number + 1));
        let watch = watch.clone();
        async move {
            let mut told = 0;
            while !*watch.borrow() {
                let wallet = if dice.random() { Wechat } else { Alipay };
                let story = if dice.random_range(0..4) == 0 {
                    Story::Cancel
                } else {
                    Story::Pay
                };
                tell(merchant, simulators, wallet, story).await;
                told += 1;
            }
            told
        }
    });
    let ((), told) = tokio::join!(kills, futures_util::future::join_all(students));
    assert!(
        told.iter().sum::<i32>() >= 8,
        "too little happened: {told:?}"
    );
    world.finish().await;
}

/// Q3: no restart gives a code more time.
#[tokio::test]
async fn the_countdown_goes_on_through_a_kill() {
    let mut world = World::start(&[]).await;
    let order = world.merchant.create().await;
    let id = order["id"].as_str().unwrap();
    let page = order["cashier_url"].as_str().unwrap().to_owned();
    let attempt = world.merchant.start(id).await;
    let ends: jiff::Timestamp = attempt["expires_at"].as_str().unwrap().parse().unwrap();
    let mut least = attempt["remaining_ms"].as_i64().unwrap();
    for _ in 0..3 {
        world.gateway.kill9().await;
        world.gateway.restart().await;
        let asked_at = jiff::Timestamp::now();
        let shown: Value = crate::support::client()
            .get(&page)
            .header("accept", "application/json")
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        let left = shown["remaining_ms"]
            .as_i64()
            .unwrap_or_else(|| panic!("no countdown in {shown}"));
        assert!(left < least, "{left} ms after {least} ms");
        least = left;
        let by_the_row = ends.duration_since(asked_at).as_millis();
        assert!(
            i128::from(left) <= by_the_row && by_the_row - i128::from(left) < 5_000,
            "{left} ms shown, {by_the_row} ms by expires_at"
        );
        let read = world.merchant.order(id).await;
        assert_eq!(read["attempt"]["expires_at"], attempt["expires_at"]);
    }
    let path = format!("/v1/orders/{id}/cancel");
    world.merchant.insist(&path, &json!({}), "end").await;
    world.finish().await;
}
