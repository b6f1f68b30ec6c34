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
use crate::support::{Pair, World, eventually, on_either_pair};

#[cfg(feature = "fault-injection")]
mod points;

on_either_pair!(ten_kills_under_load, the_countdown_goes_on_through_a_kill);

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

/// F2: any moment will do.
async fn ten_kills_under_load(pair: Pair) {
    const KILLS: u32 = 10;
    const STUDENTS: u64 = 4;
    let seed: u64 = std::env::var("ENROLLPAY_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random);
    println!("ENROLLPAY_TEST_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    let world = World::on(pair, &[]).await;
    let (over, watch) = tokio::sync::watch::channel(false);
    let nodes: Vec<_> = world.nodes().collect();
    let kills = async {
        for _ in 0..KILLS {
            let life = Duration::from_millis(dice.random_range(50..1_500));
            tokio::time::sleep(life).await;
            let node = nodes[dice.random_range(0..nodes.len())];
            node.kill9().await;
            node.restart().await;
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
async fn the_countdown_goes_on_through_a_kill(pair: Pair) {
    let world = World::on(pair, &[]).await;
    let order = world.merchant.create().await;
    let id = order["id"].as_str().unwrap();
    let page = order["cashier_url"].as_str().unwrap().to_owned();
    let attempt = world.merchant.start(id).await;
    let ends: jiff::Timestamp = attempt["expires_at"].as_str().unwrap().parse().unwrap();
    let mut least = attempt["remaining_ms"].as_i64().unwrap();
    for _ in 0..3 {
        for node in world.nodes() {
            node.kill9().await;
        }
        for node in world.nodes() {
            node.restart().await;
        }
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
