//! Orders from their creation to their end, told by people who are patient: the load of every test that
//! breaks something meanwhile.

use std::time::Duration;

use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::books::trade_number;
use super::merchant::{Merchant, new_order};
use super::process::Simulators;
use super::student::{Alipay, Student, Wallet, Wechat};
use super::{World, eventually};

const PATIENCE: Duration = Duration::from_secs(90);

/// The seed of this run, told so that it can be run again.
pub fn seed() -> u64 {
    let seed: u64 = std::env::var("ENROLLPAY_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random);
    println!("ENROLLPAY_TEST_SEED={seed}");
    seed
}

/// So many students at once, each with one order after another, some of which are cancelled, while
/// `fault` lasts. What it says, and how many orders came to their end.
pub async fn meanwhile<T>(
    world: &World,
    students: u64,
    seed: u64,
    fault: impl Future<Output = T>,
) -> (T, u32) {
    let over = watch::Sender::new(false);
    let fault = async {
        let said = fault.await;
        over.send_replace(true);
        said
    };
    let students = (1..=students).map(|number| {
        let mut dice = StdRng::seed_from_u64(seed ^ number);
        let over = over.subscribe();
        async move {
            let mut told = 0;
            while !*over.borrow() {
                let wallet = if dice.random() { Wechat } else { Alipay };
                let story = if dice.random_range(0..4) == 0 {
                    Story::Cancel
                } else {
                    Story::Pay
                };
                tell(&world.merchant, &world.simulators, wallet, story).await;
                told += 1;
            }
            told
        }
    });
    let (said, told) = tokio::join!(fault, join_all(students));
    (said, told.into_iter().sum())
}

/// How an order's story ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    Pay,
    Expire,
    Cancel,
}

/// Drives one order to its end, as patient people do: whatever got no answer is asked again, with the
/// same keys and the same wallet code.
pub async fn tell(
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
