//! The bill of a day against the books, with the connectors, the providers' own files and the operators'
//! command: what only the bill knew is recorded as if it had been told in time, and every difference that
//! was planted is a row, and no other is.

use std::collections::BTreeSet;
use std::process::Output;

use enrollpay::order::Timestamp;
use enrollpay::provider::beijing;
use futures_util::future::join_all;
use jiff::civil::Date;
use reqwest::Method;
use serde_json::{Value, json};

use super::{account, operation, text};
use crate::support::student::{Alipay, Wallet, Wechat};
use crate::support::{Asked, Pair, World, on_either_pair};

on_either_pair!(a_day_at_wechat_pay, a_day_at_alipay);

const DAY_MS: i64 = 86_400_000;

/// A day whose bills are made at any hour of today, and its noon.
pub fn day() -> (Date, i64) {
    let now = Timestamp::from_millis(jiff::Timestamp::now().as_millisecond());
    let (today, _) = beijing::date_and_time(now);
    let date = today.yesterday().unwrap().yesterday().unwrap();
    let noon = beijing::midnight(date).plus_ms(DAY_MS / 2);
    (date, noon.as_millis())
}

/// Captured at that day's noon, and nobody is told.
async fn captured(world: &World, wallet: Wallet, noon: i64) -> Asked {
    let asked = world.ask(wallet).await;
    book(world, wallet, &asked, noon).await;
    asked
}

/// Its money moves at that noon, and nobody is told.
pub async fn book(world: &World, wallet: Wallet, asked: &Asked, noon: i64) {
    let booking = json!({
        "wallet": wallet.word(), "out_trade_no": asked.trade, "amount": 14_000, "at": noon,
    });
    world.simulators.pull("bookings", &booking).await;
}

/// Found by asking, with its time.
async fn known(world: &World, wallet: Wallet, noon: i64) -> Asked {
    let asked = captured(world, wallet, noon).await;
    world.merchant.until_status(&asked.order, "paid").await;
    asked
}

/// Whoever asks about this trade gets no answer.
pub async fn cut(world: &World, wallet: Wallet, asked: &Asked, operations: &[&str]) {
    for what in operations {
        let rule = json!({
            "operation": operation(wallet, what), "fault": "html502", "count": null,
            "out_trade_no": asked.trade,
        });
        world.simulators.fault(rule).await;
    }
}

/// Money of that day that only the bill tells us of.
async fn untold(world: &World, wallet: Wallet, noon: i64) -> Asked {
    let asked = world.ask(wallet).await;
    cut(world, wallet, &asked, &["query", "close"]).await;
    book(world, wallet, &asked, noon).await;
    asked
}

/// A refund of ours of which the provider does not speak, but by its bill; its id and its number.
async fn refund_untold(world: &World, wallet: Wallet, noon: i64) -> (Asked, String, String) {
    let asked = known(world, wallet, noon).await;
    cut(world, wallet, &asked, &["refund", "refund_query"]).await;
    let refund = world.merchant.refund(&asked.order, "TK-1", 4_300).await;
    let (id, number) = (text(&refund["id"]), text(&refund["number"]));
    (asked, id, number)
}

async fn made_on_the_day(
    world: &World,
    wallet: Wallet,
    noon: i64,
    refund: &(Asked, String, String),
) {
    let (asked, _, number) = refund;
    let back = noon + 3_600_000 - jiff::Timestamp::now().as_millisecond();
    world.simulators.advance(back).await;
    let made = json!({
        "wallet": wallet.word(), "out_trade_no": asked.trade, "amount": 4_300,
        "out_refund_no": number,
    });
    world.simulators.pull("console_refund", &made).await;
    world.simulators.advance(-back).await;
}

pub fn reconcile(world: &World, wallet: Wallet, date: Date) -> (Option<i32>, Value, Output) {
    let output = world.gateway.run(&[
        "reconcile",
        "--account",
        &account(wallet),
        "--date",
        &date.to_string(),
    ]);
    let answer = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), answer, output)
}

/// Kind, verdict, field, whether it was repaired, and the provider's number of the order.
type Seen = BTreeSet<(String, String, String, bool, String)>;

fn seen(kind: &str, verdict: &str, field: &str, repaired: bool, number: &str) -> Seen {
    let row = (
        kind.to_owned(),
        verdict.to_owned(),
        field.to_owned(),
        repaired,
        number.to_owned(),
    );
    [row].into()
}

async fn rows(world: &World, wallet: Wallet, date: Date) -> (Value, Seen) {
    let path = format!("/v1/reconciliations/{}/{date}?limit=1000", account(wallet));
    let answer = world.merchant.get(&path).await.expect(200);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rows: Vec<_> = answer["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let side = if row["theirs"].is_null() {
                &row["ours"]
            } else {
                &row["theirs"]
            };
            (
                text(&row["kind"]),
                text(&row["verdict"]),
                text(&row["field"]),
                row["repaired"].as_bool().unwrap(),
                text(&side["out_trade_no"]),
            )
        })
        .collect();
    let all: Seen = rows.iter().cloned().collect();
    assert_eq!(all.len(), rows.len(), "a row twice: {rows:#?}");
    (answer, all)
}

async fn one_day(on: Pair, wallet: Wallet) {
    let world = World::on(on, &[]).await;
    let (date, noon) = day();
    let only_the_bill = untold(&world, wallet, noon).await;
    let refund = refund_untold(&world, wallet, noon).await;
    made_on_the_day(&world, wallet, noon, &refund).await;
    let four = join_all((0..4).map(|n| known(&world, wallet, noon + n * 60_000))).await;
    let [whole, missing, amount, taken] = <[Asked; 4]>::try_from(four).unwrap_or_else(|_| panic!());

    let plant = async |mut plant: Value| {
        plant["wallet"] = json!(wallet.word());
        plant["day"] = json!(date.to_string());
        world.simulators.pull("bills/plant", &plant).await;
    };
    // A damaged file is not believed in any part.
    let damage: &[&str] = if wallet == Wechat {
        &["hash_mismatch", "truncated"]
    } else {
        &["truncated"]
    };
    for what in damage {
        plant(json!({ "what": what })).await;
        let (code, answer, output) = reconcile(&world, wallet, date);
        assert_eq!(code, Some(1), "{what}: {output:?}");
        assert_ne!(answer["state"], "finished", "{what}");
        let order = world.merchant.order(&only_the_bill.order).await;
        assert_ne!(order["status"], "paid", "{what}");
        let path = format!("/v1/reconciliations/{}/{date}", account(wallet));
        let kept = world.merchant.get(&path).await.expect(200);
        assert_eq!(
            (&kept["state"], &kept["data"]),
            (&json!("failed"), &json!([]))
        );
        let url = format!("{}/control/bills/planted", world.simulators.origin);
        let cleared = world.simulators.client.delete(url).send().await.unwrap();
        assert!(cleared.status().is_success());
    }

    plant(json!({ "what": "missing", "out_trade_no": missing.trade })).await;
    plant(json!({ "what": "amount", "out_trade_no": amount.trade, "amount": 13_999 })).await;
    plant(json!({ "what": "extra", "out_trade_no": "OTHER-1", "amount": 700 })).await;
    plant(json!({ "what": "extra", "out_trade_no": taken.trade, "amount": 14_000 })).await;
    let mut expected: Seen = [
        seen("payment", "only_here", "", false, &missing.trade),
        seen("payment", "different", "amount", false, &amount.trade),
        seen("payment", "only_there", "", false, "OTHER-1"),
        seen("payment", "different", "transaction", false, &taken.trade),
        seen("payment", "matched", "", false, &taken.trade),
        seen("payment", "matched", "", false, &whole.trade),
        seen("payment", "matched", "", false, &refund.0.trade),
        // Two days older than our wish for it: that line is not believed.
        seen("refund", "different", "time", false, &refund.0.trade),
    ]
    .into_iter()
    .flatten()
    .collect();
    if wallet == Wechat {
        plant(json!({ "what": "appid", "out_trade_no": whole.trade })).await;
        let matched = seen("payment", "matched", "", false, &whole.trade);
        expected = &expected - &matched;
        expected.extend(seen(
            "payment",
            "different",
            "application",
            false,
            &whole.trade,
        ));
    }
    let repaired = |yes: bool| -> Seen {
        let payment = seen("payment", "matched", "", yes, &only_the_bill.trade);
        payment.into_iter().chain(expected.clone()).collect()
    };

    let (code, answer, output) = reconcile(&world, wallet, date);
    assert_eq!(code, Some(3), "differences: {output:?}");
    let (first, found) = rows(&world, wallet, date).await;
    assert_eq!(found, repaired(true));
    assert_eq!(
        (&answer["state"], &answer["repaired"]),
        (&json!("finished"), &json!(1))
    );
    assert_eq!(first["summary"]["repaired"], 1);

    let paid = world
        .receiver
        .wait(&only_the_bill.order, "order.paid")
        .await;
    assert_eq!(paid.order["amount_paid"], 14_000);
    let pending = format!("/v1/orders/{}/refunds/{}", refund.0.order, refund.1);
    let pending = world.merchant.get(&pending).await.expect(200);
    assert_eq!(pending["status"], "pending");

    let path = format!("/v1/reconciliations/{}/{date}?format=csv", account(wallet));
    let csv = world
        .merchant
        .try_call(Method::GET, &path, None, None)
        .await
        .unwrap();
    assert_eq!(csv.status, 200);
    let csv = String::from_utf8(csv.body).unwrap();
    assert_eq!(csv.lines().count(), found.len() + 1, "{csv}");
    for (.., number) in &found {
        assert!(csv.contains(number.as_str()), "{number} is not in\n{csv}");
    }

    // Once more: nothing is left to repair, and nobody is told again.
    let (code, answer, output) = reconcile(&world, wallet, date);
    assert_eq!(code, Some(3), "{output:?}");
    assert_eq!(answer["repaired"], 0);
    assert_eq!(rows(&world, wallet, date).await.1, repaired(false));
    world.simulators.heal().await;
    world
        .merchant
        .until_refund(&refund.0.order, &refund.1, "succeeded")
        .await;
    world.rest().await;
    assert_eq!(
        world
            .receiver
            .events(&only_the_bill.order, "order.paid")
            .len(),
        1
    );
    assert_eq!(
        world
            .receiver
            .events(&refund.0.order, "refund.succeeded")
            .len(),
        1
    );
    assert_eq!(
        world.simulators.refunds(&refund.0.trade).await,
        [(refund.2.clone(), 4_300)]
    );
    world.finish().await;
}

async fn a_day_at_wechat_pay(on: Pair) {
    one_day(on, Wechat).await;
}

async fn a_day_at_alipay(on: Pair) {
    one_day(on, Alipay).await;
}
