//! Merchants' refunds, whatever becomes of the call, its answer and the notice of its end: one at the
//! provider for each that was asked for, and one event.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{BOTH, listed, operation, text};
use crate::support::student::{Alipay, Wallet, Wechat};
use crate::support::{Asked, Pair, World, eventually, on_either_pair};

on_either_pair! {
    the_whole_and_parts_go_back_by_either_wallet,
    a_refund_call_without_an_answer_makes_one_refund,
    the_end_of_a_refund_is_found_whenever_it_is_told,
    money_that_the_payers_account_cannot_take_goes_another_way,
    an_empty_balance_calls_a_person_once_and_the_refund_waits,
    a_refund_past_these_books_calls_a_person_and_changes_nothing,
}

const PATIENCE: Duration = Duration::from_secs(150);

/// Waits for so many events of this kind.
async fn told(world: &World, order: &str, kind: &str, count: usize) {
    let what = format!("{count} times {kind} of {order}");
    eventually(&what, PATIENCE, async || {
        (world.receiver.events(order, kind).len() == count).then_some(())
    })
    .await;
}

/// What the provider has is what the merchant is shown, and each has its one event.
async fn agree(world: &World, asked: &Asked, amounts: &[i64]) {
    let here = listed(world, &asked.order).await;
    let there = world.simulators.refunds(&asked.trade).await;
    assert_eq!(here, there, "{}", asked.order);
    let found: Vec<i64> = there.iter().map(|(_, amount)| *amount).collect();
    assert_eq!(found, amounts);
    let events = world.receiver.events(&asked.order, "refund.succeeded");
    assert_eq!(events.len(), amounts.len(), "{}", asked.order);
}

async fn the_whole_and_parts_go_back_by_either_wallet(on: Pair) {
    let world = World::on(on, &[]).await;
    let one = async |wallet: Wallet, amounts: &[i64]| {
        let paid = world.paid(wallet).await;
        let mut made = Vec::new();
        for (index, amount) in amounts.iter().enumerate() {
            let number = format!("TK-{index}");
            let refund = world.merchant.refund(&paid.order, &number, *amount).await;
            assert_eq!(
                (&refund["amount"], &refund["merchant_refund_no"]),
                (&json!(amount), &json!(format!("{number}-{}", paid.order)))
            );
            made.push(text(&refund["id"]));
        }
        told(&world, &paid.order, "refund.succeeded", amounts.len()).await;
        for delivery in world.receiver.events(&paid.order, "refund.succeeded") {
            let refund = delivery.refund();
            assert_eq!(refund["status"], "succeeded");
            assert_eq!(refund["order_id"], paid.order.as_str());
            assert!(made.contains(&text(&refund["id"])), "{refund}");
            assert_eq!(refund["wallet"], wallet.word());
            assert_eq!(delivery.order["status"], "paid");
            let read = format!("/v1/orders/{}/refunds/{}", paid.order, text(&refund["id"]));
            let read = world.merchant.get(&read).await.expect(200);
            assert_eq!(read["number"], refund["number"]);
        }
        let all: i64 = amounts.iter().sum();
        let order = world.merchant.order(&paid.order).await;
        assert_eq!(order["amount_refunded"], all);
        agree(&world, &paid, amounts).await;
        // Not a fen more.
        let path = format!("/v1/orders/{}/refunds", paid.order);
        let body = json!({ "merchant_refund_no": "TK-9", "amount": 14_001 - all });
        let refused = world.merchant.post(&path, &body).await.expect(409);
        assert_eq!(refused["code"], "refund_exceeds_captured");
        assert_eq!(refused["remaining"], 14_000 - all);
        // The same wish once more is the same refund.
        let again = world.merchant.refund(&paid.order, "TK-0", amounts[0]).await;
        assert_eq!(text(&again["id"]), made[0]);
    };
    let all = BOTH
        .into_iter()
        .flat_map(|wallet| [&[14_000][..], &[4_300, 9_700], &[1]].map(|amounts| (wallet, amounts)));
    join_all(all.map(|(wallet, amounts)| one(wallet, amounts))).await;
    world.finish().await;
}

/// F19: it took effect, and the answer is lost. F20: it did not, or the answer proves nothing.
async fn a_refund_call_without_an_answer_makes_one_refund(on: Pair) {
    const FAULTS: [&str; 10] = [
        "timeout_after",
        "reset_after",
        "system_error_after",
        "html502_after",
        "timeout_before",
        "html503",
        "too_many_requests",
        "unsigned",
        "wrong_signature",
        "truncated_body",
    ];
    let world = World::on(on, &[]).await;
    let one = async |wallet: Wallet, fault: &str| {
        let paid = world.paid(wallet).await;
        let rule = json!({
            "operation": operation(wallet, "refund"), "fault": fault,
            "out_trade_no": paid.trade, "delay_ms": 300,
        });
        world.simulators.fault(rule).await;
        world.merchant.refund(&paid.order, "TK-1", 4_300).await;
        told(&world, &paid.order, "refund.succeeded", 1).await;
        agree(&world, &paid, &[4_300]).await;
    };
    let all = BOTH
        .into_iter()
        .flat_map(|wallet| FAULTS.map(|fault| (wallet, fault)));
    join_all(all.map(|(wallet, fault)| one(wallet, fault))).await;
    for fault in FAULTS {
        let hits = world.simulators.hits(fault).await;
        assert!(hits >= 2, "{fault} bit {hits} times");
    }
    world.finish().await;
}

/// WeChat Pay accepts a refund first and tells its end later, if it does.
async fn the_end_of_a_refund_is_found_whenever_it_is_told(on: Pair) {
    let world = World::on(on, &[]).await;
    let never = async {
        let paid = world.paid(Wechat).await;
        let lost = json!({
            "operation": "wechat.refund_notice", "fault": "lost", "count": null,
            "out_trade_no": paid.trade,
        });
        world.simulators.fault(lost).await;
        world.merchant.refund(&paid.order, "TK-1", 14_000).await;
        paid
    };
    let before_the_answer = async {
        let paid = world.paid(Wechat).await;
        let slow = json!({
            "operation": "wechat.refund", "fault": "slow_after", "delay_ms": 4_000,
            "out_trade_no": paid.trade,
        });
        world.simulators.fault(slow).await;
        world.merchant.refund(&paid.order, "TK-1", 14_000).await;
        told(&world, &paid.order, "refund.succeeded", 1).await;
        paid
    };
    let twenty_times = async {
        let paid = world.paid(Wechat).await;
        let doubled = json!({
            "operation": "wechat.refund_notice", "fault": "doubled_at_once", "times": 20,
            "out_trade_no": paid.trade,
        });
        world.simulators.fault(doubled).await;
        world.merchant.refund(&paid.order, "TK-1", 14_000).await;
        paid
    };
    let (never, early, often) = futures_util::join!(never, before_the_answer, twenty_times);
    for paid in [&never, &early, &often] {
        told(&world, &paid.order, "refund.succeeded", 1).await;
        agree(&world, paid, &[14_000]).await;
    }
    for fault in ["lost", "slow_after", "doubled_at_once"] {
        assert!(world.simulators.hits(fault).await >= 1, "{fault}");
    }
    world.finish().await;
}

/// The rows of `enrollpay refund list` of this order.
fn open(world: &World, order: &str) -> Vec<Value> {
    let mut rows = world.gateway.operate_rows(&["refund", "list"]);
    rows.retain(|row| row["order_id"] == order);
    rows
}

async fn money_that_the_payers_account_cannot_take_goes_another_way(on: Pair) {
    let world = World::on(on, &[]).await;
    let cards = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = cards.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (card, name) = (
        file("card", "6222020200012345678\n"),
        file("name", "测试\n"),
    );
    let to_payer = [
        "--to",
        "payer-card",
        "--bank-type",
        "ICBC_DEBIT",
        "--bank-account-file",
        &card,
        "--real-name-file",
        &name,
    ];
    let one = async |way: &[&str]| {
        let paid = world.paid(Wechat).await;
        let rule = json!({
            "operation": "wechat.refund", "fault": "refund_abnormal", "out_trade_no": paid.trade,
        });
        world.simulators.fault(rule).await;
        let refund = world.merchant.refund(&paid.order, "TK-1", 14_000).await;
        let refund = text(&refund["id"]);
        world.receiver.wait(&paid.order, "order.attention").await;
        let shown = world
            .merchant
            .until_refund(&paid.order, &refund, "abnormal")
            .await;
        assert_eq!(shown["attention"], "payer_account");
        let rows = open(&world, &paid.order);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0]["status"], "abnormal");
        let command = [&["refund", "repair", &paid.order, &refund][..], way].concat();
        world.gateway.operate(&command);
        told(&world, &paid.order, "refund.succeeded", 1).await;
        assert_eq!(open(&world, &paid.order), [] as [Value; 0]);
        told(&world, &paid.order, "order.attention", 1).await;
        agree(&world, &paid, &[14_000]).await;
        let there = world.simulators.trade(&paid.trade).await.unwrap();
        text(&there["refunds"][0]["second_way"])
    };
    let ways = [&["--to", "merchant-card"][..], &to_payer];
    let arrived = join_all(ways.map(one)).await;
    assert_eq!(arrived, ["商户结算银行账户", "ICBC_DEBIT5678"]);
    world.finish().await;
}

async fn an_empty_balance_calls_a_person_once_and_the_refund_waits(on: Pair) {
    let world = World::on(on, &[]).await;
    let one = async |wallet: Wallet| {
        let paid = world.paid(wallet).await;
        let rule = json!({
            "operation": operation(wallet, "refund"), "fault": "not_enough", "count": null,
            "out_trade_no": paid.trade,
        });
        world.simulators.fault(rule).await;
        let refund = world.merchant.refund(&paid.order, "TK-1", 4_300).await;
        let refund = text(&refund["id"]);
        world.receiver.wait(&paid.order, "order.attention").await;
        let shown = world
            .merchant
            .until_refund(&paid.order, &refund, "pending")
            .await;
        assert_eq!(shown["attention"], "underfunded");
        assert_eq!(open(&world, &paid.order)[0]["status"], "pending");
        (paid, refund)
    };
    let both = join_all(BOTH.map(one)).await;
    // It is tried again by itself, and nobody is called again.
    eventually("further tries", PATIENCE, async || {
        (world.simulators.hits("not_enough").await >= 4).then_some(())
    })
    .await;
    for (paid, _) in &both {
        assert_eq!(world.simulators.refunds(&paid.trade).await, []);
    }
    world.simulators.heal().await;
    for (paid, refund) in &both {
        // Sooner than by itself, unless it has gone by itself just now.
        let retried = world.gateway.run(&["refund", "retry", &paid.order, refund]);
        let said = String::from_utf8_lossy(&retried.stderr).into_owned();
        assert!(
            retried.status.success() || said.contains("the refund is over"),
            "{said}"
        );
        told(&world, &paid.order, "refund.succeeded", 1).await;
        assert_eq!(
            world.receiver.events(&paid.order, "order.attention").len(),
            1
        );
        agree(&world, paid, &[4_300]).await;
    }
    world.finish().await;
}

/// Somebody gives money back in the provider's own console.
async fn a_refund_past_these_books_calls_a_person_and_changes_nothing(on: Pair) {
    let world = World::on(on, &[]).await;
    let paid = world.paid(Alipay).await;
    let asked = json!({
        "wallet": "alipay", "out_trade_no": paid.trade, "amount": 500, "notify": true,
    });
    world.simulators.pull("console_refund", &asked).await;
    world.receiver.wait(&paid.order, "order.attention").await;
    let evidence = eventually("the evidence", PATIENCE, async || {
        let rows = world.gateway.operate_rows(&["capture", "list"]);
        (!rows.is_empty()).then_some(rows)
    })
    .await;
    assert_eq!(evidence.len(), 1);
    assert_eq!(evidence[0]["reason"], "foreign_refund");
    assert_eq!(evidence[0]["account"], "demo-alipay");
    let order = world.merchant.order(&paid.order).await;
    assert_eq!(
        (
            &order["status"],
            &order["amount_paid"],
            &order["amount_refunded"]
        ),
        (&json!("paid"), &json!(14_000), &json!(0))
    );
    assert_eq!(listed(&world, &paid.order).await, []);
    // Told again: nobody is called again.
    world.simulators.redeliver(&paid.trade).await;
    let reference = text(&evidence[0]["reference"]);
    let named = format!("demo-alipay/{reference}");
    let settle = |operator: &str| {
        let command = [
            "capture",
            "settle",
            "--evidence",
            &named,
            "--by",
            "outside",
            "--operator",
            operator,
        ];
        world.gateway.run(&command)
    };
    assert!(settle("li.wei").status.success());
    assert!(!settle("li.wei").status.success(), "one person is not two");
    assert!(settle("wang.fang").status.success());
    assert_eq!(
        world.gateway.operate_rows(&["capture", "list"]),
        [] as [Value; 0]
    );
    world.rest().await;
    assert_eq!(
        world.receiver.events(&paid.order, "order.attention").len(),
        1
    );
    world.finish().await;
}
