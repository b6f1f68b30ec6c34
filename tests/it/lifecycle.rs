//! The life of an order through the real binary and the real wire: every way it is paid, ends, or is
//! troubled on its way, held at the end against the providers' books.
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its own set-up fails"
)]

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::support::books::trade_number;
use crate::support::front::Front;
use crate::support::merchant::{Merchant, new_order};
use crate::support::student::{Alipay, Student, Wallet, Wechat};
use crate::support::{Pair, World, eventually, on_either_pair};

on_either_pair! {
    from_order_to_verified_webhook_by_either_wallet,
    a_payment_without_any_notice_is_found,
    one_code_one_payer,
    a_new_code_ends_the_old_trade_first,
    a_code_ends_with_its_time,
    cancelling_tells_the_providers_word,
    notices_come_late_twice_and_out_of_order,
    spoiled_notices_pay_nothing,
    an_order_call_without_an_answer_makes_one_trade,
    a_close_without_an_answer_ends_all_the_same,
    a_thousand_copies_of_a_notice_are_one_payment,
    late_money_goes_back_once,
    a_second_payment_goes_back_once,
    what_was_answered_is_answered_again_after_a_restart,
}

const BOTH: [Wallet; 2] = [Wechat, Alipay];

/// The provider's operations of a wallet, as its faults name them.
const fn operation(wallet: Wallet, what: &str) -> &'static str {
    match (wallet, what.as_bytes()[0]) {
        (Wechat, b'm') => "wechat.prepay",
        (Alipay, b'm') => "alipay.create",
        (Wechat, b'c') => "wechat.close",
        (Alipay, b'c') => "alipay.close",
        (Wechat, b'q') => "wechat.query",
        (Alipay, b'q') => "alipay.query",
        (Wechat, _) => "wechat.notice",
        (Alipay, _) => "alipay.notice",
    }
}

fn id(order: &Value) -> String {
    order["id"].as_str().unwrap().to_owned()
}

async fn from_order_to_verified_webhook_by_either_wallet(on: Pair) {
    let world = World::on(on, &[]).await;
    for wallet in BOTH {
        let order = world.merchant.create().await;
        let order = id(&order);
        assert_eq!(world.merchant.order(&order).await["status"], "unpaid");

        let attempt = world.merchant.start(&order).await;
        assert_eq!(attempt["status"], "shown");
        let left = attempt["remaining_ms"].as_i64().unwrap();
        assert!((1..=180_000).contains(&left), "{left}");

        let mut student = Student::stranger(wallet);
        let claimed = student.scan(&attempt).await.expect(200);
        assert_eq!(claimed["amount"], 14000);
        let scanned = world.merchant.order(&order).await;
        assert_eq!(scanned["status"], "paying");
        assert_eq!(scanned["attempt"]["status"], "scanned");
        assert_eq!(scanned["attempt"]["wallet"], wallet.word());
        let trade = trade_number(&order, 1);
        assert!(
            world.simulators.trade(&trade).await.is_none(),
            "no trade is made before somebody confirms"
        );

        let parameters = student.press_pay().await.expect(200);
        let kind = if wallet == Wechat {
            "jsapi"
        } else {
            "trade_pay"
        };
        assert_eq!(parameters["type"], kind);
        let made = world.simulators.trade(&trade).await.unwrap();
        assert_eq!(
            (&made["total"], &made["payable"]),
            (&json!(14000), &json!(true))
        );

        let paid_there = world.simulators.pay(&trade).await;
        let paid = world.merchant.until_status(&order, "paid").await;
        assert_eq!(paid["amount_paid"], 14000);
        assert_eq!(paid["payment"]["wallet"], wallet.word());
        assert_eq!(paid["payment"]["transaction_id"], paid_there["trade_no"]);
        assert_eq!(paid["attempt"]["status"], "succeeded");

        let event = world.receiver.wait(&order, "order.paid").await;
        assert_eq!(event.order["status"], "paid");
        assert_eq!(event.order["version"], paid["version"]);
        assert_eq!(event.order["merchant_order_no"], paid["merchant_order_no"]);

        let again = world
            .merchant
            .post(&format!("/v1/orders/{order}/attempts"), &json!({}))
            .await;
        assert_eq!(again.expect(409)["code"], "already_paid");
    }
    world.finish().await;
}

async fn a_payment_without_any_notice_is_found(on: Pair) {
    let world = World::on(on, &[]).await;
    for wallet in BOTH {
        let rule =
            json!({ "operation": operation(wallet, "notice"), "fault": "lost", "count": null });
        world.simulators.fault(rule).await;
    }
    // 查询缴费结果: at once.
    for wallet in BOTH {
        let asked = world.ask(wallet).await;
        world.simulators.pay(&asked.trade).await;
        let path = format!("/v1/orders/{}/query", asked.order);
        eventually("the query's answer", Duration::from_secs(20), async || {
            let answer = world.merchant.post(&path, &json!({})).await.expect(200);
            (answer["order"]["status"] == "paid").then_some(())
        })
        .await;
        world.receiver.wait(&asked.order, "order.paid").await;
    }
    // Nobody asks: within 40 s all the same (F26).
    let asked = join_all(BOTH.map(|wallet| world.ask(wallet))).await;
    for one in &asked {
        world.simulators.pay(&one.trade).await;
    }
    let paid = asked
        .iter()
        .map(|one| world.merchant.until_status(&one.order, "paid"));
    tokio::time::timeout(Duration::from_secs(40), join_all(paid))
        .await
        .expect("paid within 40 s of the capture");
    assert!(world.simulators.hits("lost").await >= 4);
    world.simulators.heal().await;
    world.finish().await;
}

async fn one_code_one_payer(on: Pair) {
    let world = World::on(on, &[]).await;
    for wallet in BOTH {
        let order = id(&world.merchant.create().await);
        let attempt = world.merchant.start(&order).await;
        let code = attempt["qr_content"].as_str().unwrap();

        // Looking claims nothing, not even with the wallet's code in the address.
        let mut curious = Student::stranger(wallet);
        assert_eq!(curious.try_open(code).await.unwrap().status, 200);
        assert_eq!(curious.try_open(code).await.unwrap().status, 200);
        let looked_at = world.merchant.order(&order).await;
        assert_eq!(looked_at["attempt"]["status"], "shown");

        let mut first = Student::stranger(wallet);
        assert_eq!(first.scan(&attempt).await.expect(200)["state"], "claimed");
        // The same post once more, as a phone on a bad line sends it: the same answer.
        let again = first.try_claim().await.unwrap().expect(200);
        assert_eq!(again["state"], "claimed");

        // The curious one comes too late, by the code already fetched and by a new one.
        let refused = curious.try_claim().await.unwrap().expect(410);
        assert_eq!(refused["code"], "already_scanned");
        for other in BOTH {
            let refused = Student::stranger(other).scan(&attempt).await;
            assert_eq!(refused.expect(410)["code"], "already_scanned");
        }
        assert_eq!(curious.press_pay().await.status / 100, 4);

        // The same payer on another phone, without cookies, pays.
        first.press_pay().await.expect(200);
        let trade = trade_number(&order, 1);
        world.simulators.pay(&trade).await;
        world.merchant.until_status(&order, "paid").await;
    }
    // A code that was given up is never claimable again.
    let order = id(&world.merchant.create().await);
    let (attempt, mut student) = world.scan(&order, Wechat).await;
    assert_eq!(student.release().await.status, 200);
    let ended = world.merchant.until_attempt(&order, "cancelled").await;
    assert_eq!(ended["attempt"]["end_reason"], "released");
    assert_eq!(ended["status"], "unpaid");
    let refused = Student::stranger(Wechat).scan(&attempt).await;
    assert_eq!(refused.status, 410);
    world.finish().await;
}

async fn a_new_code_ends_the_old_trade_first(on: Pair) {
    let world = World::on(on, &[]).await;
    for wallet in BOTH {
        // The old trade is closed there before the new code is handed out.
        let old = world.ask(wallet).await;
        let path = format!("/v1/orders/{}/attempts", old.order);
        let new = world
            .merchant
            .insist(&path, &json!({}), wallet.word())
            .await
            .expect(201);
        assert_eq!(new["number"], 2);
        let closed = world.simulators.trade(&old.trade).await.unwrap();
        assert_eq!(closed["state"], "closed");
        assert_eq!(
            world.simulators.try_pay(&old.trade).await.unwrap_err(),
            "closed"
        );
        let refused = Student::stranger(wallet).scan(&old.attempt).await;
        assert_eq!(refused.status, 410);
        let mut student = Student::stranger(wallet);
        student.scan(&new).await.expect(200);
        student.press_pay().await.expect(200);
        world.simulators.pay(&trade_number(&old.order, 2)).await;
        let paid = world.merchant.until_status(&old.order, "paid").await;
        assert_eq!(paid["surplus"], json!([]));
    }
    // While the payer sits at the password page the old code cannot be ended: no new one, and who
    // claimed the old one may still finish.
    let old = world.ask(Wechat).await;
    let rule = json!({ "operation": "wechat.close", "fault": "user_paying", "count": null });
    world.simulators.fault(rule).await;
    world.simulators.open(&old.trade).await;
    let path = format!("/v1/orders/{}/attempts", old.order);
    let refused = world.merchant.post(&path, &json!({})).await.expect(409);
    assert_eq!(refused["code"], "attempt_closing");
    assert!(refused["retry_at"].is_string());
    assert!(world.simulators.hits("user_paying").await >= 1);
    world.simulators.pay(&old.trade).await;
    let paid = world.merchant.until_status(&old.order, "paid").await;
    assert_eq!(paid["attempt"]["number"], 1);
    assert_eq!(paid["attempt"]["status"], "succeeded");
    let refused = world.merchant.post(&path, &json!({})).await.expect(409);
    assert_eq!(refused["code"], "already_paid");
    world.simulators.heal().await;
    world.finish().await;
}

async fn a_code_ends_with_its_time(on: Pair) {
    let world = World::on(on, &[("ORDER__QR_SECONDS", "10")]).await;
    let unscanned = id(&world.merchant.create().await);
    let shown = world.merchant.start(&unscanned).await;
    let only_scanned = id(&world.merchant.create().await);
    let (_, mut late) = world.scan(&only_scanned, Alipay).await;
    let claimed = join_all(BOTH.map(|wallet| world.ask(wallet))).await;

    let mut told = Vec::new();
    for order in [&unscanned, &only_scanned] {
        told.push(world.merchant.until_attempt(order, "expired").await);
    }
    for one in &claimed {
        told.push(world.merchant.until_attempt(&one.order, "expired").await);
        let trade = world.simulators.trade(&one.trade).await.unwrap();
        assert_eq!(trade["state"], "closed", "the provider has said so");
        assert_eq!(
            world.simulators.try_pay(&one.trade).await.unwrap_err(),
            "closed"
        );
    }
    for order in &told {
        assert_eq!(order["status"], "unpaid");
    }
    for order in [&unscanned, &only_scanned] {
        let trade = trade_number(order, 1);
        assert!(
            world.simulators.trade(&trade).await.is_none(),
            "no call was made"
        );
    }
    let refused = Student::stranger(Wechat).scan(&shown).await;
    assert_eq!(refused.status, 410);
    assert_eq!(
        late.press_pay().await.expect(410)["code"],
        "attempt_expired"
    );

    // A new code of the same order pays it.
    let (_, mut student) = world.scan(&unscanned, Wechat).await;
    student.press_pay().await.expect(200);
    world.simulators.pay(&trade_number(&unscanned, 2)).await;
    world.merchant.until_status(&unscanned, "paid").await;
    world.finish().await;
}

async fn cancelling_tells_the_providers_word(on: Pair) {
    let world = World::on(on, &[]).await;
    let cancel = |order: &str| format!("/v1/orders/{order}/cancel");

    // Nobody scanned; somebody had the trade made: closed, at once.
    let unscanned = id(&world.merchant.create().await);
    world.merchant.start(&unscanned).await;
    let made = join_all(BOTH.map(|wallet| world.ask(wallet))).await;
    for order in [&unscanned, &made[0].order, &made[1].order] {
        let answer = world
            .merchant
            .insist(&cancel(order), &json!({}), order)
            .await;
        let answer = answer.expect(200);
        assert_eq!(answer["status"], "closed");
        assert_eq!(answer["close_reason"], "cancelled");
        world.receiver.wait(order, "order.closed").await;
        let again = world.merchant.post(&cancel(order), &json!({})).await;
        again.expect(200);
        let path = format!("/v1/orders/{order}/attempts");
        let refused = world.merchant.post(&path, &json!({})).await.expect(409);
        assert_eq!(refused["code"], "order_closed");
    }
    for one in &made {
        let trade = world.simulators.trade(&one.trade).await.unwrap();
        assert_eq!(trade["state"], "closed");
    }

    // Paid before: refused, and the money stays.
    let paid = world.ask(Alipay).await;
    let rule = json!({ "operation": "alipay.notice", "fault": "lost", "count": null });
    world.simulators.fault(rule).await;
    world.simulators.pay(&paid.trade).await;
    let refused = world.merchant.post(&cancel(&paid.order), &json!({})).await;
    assert_eq!(refused.expect(409)["code"], "already_paid");
    world.merchant.until_status(&paid.order, "paid").await;
    world.simulators.heal().await;

    // The provider will not say: 202, nothing new is payable, and the end comes as an event.
    let held = world.ask(Wechat).await;
    let rule = json!({ "operation": "wechat.close", "fault": "user_paying", "count": null });
    world.simulators.fault(rule).await;
    let answer = world
        .merchant
        .try_call(
            reqwest::Method::POST,
            &cancel(&held.order),
            Some(&json!({})),
            Some("held"),
        )
        .await
        .unwrap();
    let pending = answer.expect(202);
    assert!(answer.headers.contains_key("retry-after"));
    assert_eq!(pending["attempt"]["status"], "closing");
    assert_eq!(pending["status"], "paying");
    world.simulators.heal().await;
    world.receiver.wait(&held.order, "order.closed").await;
    // A 202 is not kept under its key: the same request tells the outcome.
    let outcome = world
        .merchant
        .insist(&cancel(&held.order), &json!({}), "held")
        .await;
    assert_eq!(outcome.expect(200)["status"], "closed");
    world.finish().await;
}

async fn notices_come_late_twice_and_out_of_order(on: Pair) {
    let world = World::on(on, &[]).await;
    let rules = [
        json!({ "fault": "lost", "count": 2 }),
        json!({ "fault": "delayed", "delay_ms": 1500 }),
        json!({ "fault": "doubled", "times": 3 }),
        json!({ "fault": "doubled_at_once", "times": 20 }),
        json!({ "fault": "reordered", "delay_ms": 2000 }),
        json!({ "fault": "forged", "count": 2 }),
        json!({ "fault": "unsigned" }),
        json!({ "fault": "truncated_body" }),
    ];
    let mut orders = Vec::new();
    for wallet in BOTH {
        for rule in &rules {
            let asked = world.ask(wallet).await;
            let mut rule = rule.clone();
            rule["operation"] = json!(operation(wallet, "notice"));
            rule["out_trade_no"] = json!(asked.trade);
            world.simulators.fault(rule).await;
            orders.push(asked);
        }
    }
    for asked in &orders {
        world.simulators.pay(&asked.trade).await;
    }
    for asked in &orders {
        let paid = world.merchant.until_status(&asked.order, "paid").await;
        let event = world.receiver.wait(&asked.order, "order.paid").await;
        assert_eq!(event.order["version"], paid["version"]);
        // Told again later: nothing more comes of it.
        world.simulators.redeliver(&asked.trade).await;
    }
    for rule in &rules {
        let fault = rule["fault"].as_str().unwrap();
        assert!(
            world.simulators.hits(fault).await >= 2,
            "{fault} did not bite"
        );
    }
    world.rest().await;
    for asked in &orders {
        let events: BTreeSet<String> = world
            .receiver
            .deliveries(&asked.order)
            .into_iter()
            .map(|delivery| delivery.id)
            .collect();
        assert_eq!(events.len(), 1, "one event for {}", asked.trade);
    }
    world.finish().await;
}

async fn spoiled_notices_pay_nothing(on: Pair) {
    let world = World::on(on, &[]).await;
    let refused = [
        (Wechat, "forged"),
        (Wechat, "unsigned"),
        (Wechat, "wrong_signature"),
        (Wechat, "signature_probe"),
        (Wechat, "unknown_serial"),
        (Wechat, "tampered_body"),
        (Wechat, "wrong_mchid"),
        (Wechat, "old_timestamp"),
        (Alipay, "forged"),
        (Alipay, "unsigned"),
        (Alipay, "wrong_signature"),
        (Alipay, "tampered_body"),
        (Alipay, "wrong_mchid"),
    ];
    let evidence = [
        (Wechat, "wrong_amount"),
        (Wechat, "wrong_currency"),
        (Alipay, "wrong_amount"),
    ];
    for wallet in BOTH {
        let asked = world.ask(wallet).await;
        let before = world.merchant.order(&asked.order).await;
        for (_, fault) in refused.iter().filter(|(of, _)| *of == wallet) {
            let (status, believed) = world.simulators.forge(&asked.trade, fault).await;
            assert!(!believed && status >= 400, "{fault} was answered {status}");
        }
        let after = world.merchant.order(&asked.order).await;
        assert_eq!(after["version"], before["version"], "nothing changed");
        let counted = world
            .metric("enrollpay_callbacks_rejected_total", &[])
            .await;
        assert!(counted >= 5, "refusals are counted: {counted}");

        // True money for the same order is taken in all the same.
        world.simulators.pay(&asked.trade).await;
        world.merchant.until_status(&asked.order, "paid").await;
    }
    for (wallet, fault) in evidence {
        let asked = world.ask(wallet).await;
        let (status, believed) = world.simulators.forge(&asked.trade, fault).await;
        assert!(
            believed,
            "{fault} is kept and acknowledged, not answered {status}"
        );
        let told = world.receiver.wait(&asked.order, "order.attention").await;
        assert_eq!(told.order["amount_paid"], 0, "{fault} pays nothing");
        assert_ne!(told.order["status"], "paid");
        let path = format!("/v1/orders/{}/cancel", asked.order);
        world
            .merchant
            .insist(&path, &json!({}), &asked.order)
            .await
            .expect(200);
    }
    // A number that is none of ours may belong to an order that a restore brings back.
    let asked = world.ask(Wechat).await;
    let (status, believed) = world.simulators.forge(&asked.trade, "wrong_number").await;
    assert!(
        !believed && status >= 500,
        "an unknown number was answered {status}"
    );
    world.simulators.pay(&asked.trade).await;
    world.finish().await;
}

const BEFORE_AND_AFTER: [&str; 9] = [
    "timeout_before",
    "reset_before",
    "system_error_before",
    "html502",
    "too_many_requests",
    "timeout_after",
    "reset_after",
    "system_error_after",
    "html502_after",
];

async fn an_order_call_without_an_answer_makes_one_trade(on: Pair) {
    let world = World::on(on, &[]).await;
    let one = async |wallet: Wallet, fault: &str| {
        let order = id(&world.merchant.create().await);
        let (_, mut student) = world.scan(&order, wallet).await;
        let trade = trade_number(&order, 1);
        world
            .simulators
            .fault(json!({
                "operation": operation(wallet, "make"), "fault": fault,
                "out_trade_no": trade, "delay_ms": 300,
            }))
            .await;
        // 尚未付款，可重试: the same payer presses until the wallet opens.
        eventually("the pay parameters", Duration::from_mins(1), async || {
            (student.press_pay().await.status == 200).then_some(())
        })
        .await;
        world.simulators.pay(&trade).await;
        world.merchant.until_status(&order, "paid").await;
        assert_eq!(world.merchant.order(&order).await["attempt"]["number"], 1);
    };
    let all = BOTH
        .into_iter()
        .flat_map(|wallet| BEFORE_AND_AFTER.map(|fault| (wallet, fault)));
    join_all(all.map(|(wallet, fault)| one(wallet, fault))).await;
    for fault in BEFORE_AND_AFTER {
        assert!(
            world.simulators.hits(fault).await >= 2,
            "{fault} did not bite"
        );
    }
    world.finish().await;
}

async fn a_close_without_an_answer_ends_all_the_same(on: Pair) {
    let world = World::on(on, &[]).await;
    let more = ["close_lies", "unsigned", "wrong_signature"];
    let one = async |wallet: Wallet, what: &str, fault: &str| {
        let asked = world.ask(wallet).await;
        world
            .simulators
            .fault(json!({
                "operation": operation(wallet, what), "fault": fault,
                "out_trade_no": asked.trade, "delay_ms": 300,
            }))
            .await;
        let path = format!("/v1/orders/{}/cancel", asked.order);
        let first = world.merchant.post(&path, &json!({})).await;
        assert!(
            [200, 202].contains(&first.status),
            "{fault}: {}",
            first.status
        );
        world.merchant.until_status(&asked.order, "closed").await;
        let trade = world.simulators.trade(&asked.trade).await.unwrap();
        assert_eq!(trade["state"], "closed", "{what} with {fault}");
    };
    let closes = BOTH.into_iter().flat_map(|wallet| {
        BEFORE_AND_AFTER
            .into_iter()
            .chain(more)
            // Alipay's close has no such answers.
            .filter(move |fault| wallet == Wechat || *fault != "close_lies")
            .map(move |fault| (wallet, "close", fault))
    });
    let queries = BOTH
        .into_iter()
        .flat_map(|wallet| BEFORE_AND_AFTER.map(|fault| (wallet, "query", fault)));
    let all = closes.chain(queries);
    join_all(all.map(|(wallet, what, fault)| one(wallet, what, fault))).await;
    for fault in BEFORE_AND_AFTER.into_iter().chain(more) {
        assert!(
            world.simulators.hits(fault).await >= 1,
            "{fault} did not bite"
        );
    }
    world.finish().await;
}

/// F23: a thousand copies of one signed notice at once are one payment.
async fn a_thousand_copies_of_a_notice_are_one_payment(on: Pair) {
    const COPIES: usize = 1_000;
    let front = Front::start();
    let origin = front.origin();
    let world = World::on(on, &[("SERVER__PUBLIC_URL", origin.as_str())]).await;
    front.lead_to(&world.merchant.origin);
    let asked = world.ask(Wechat).await;
    let before = world.merchant.order(&asked.order).await;
    front.hold(true);
    world.simulators.pay(&asked.trade).await;
    let notice = front.notice().await;

    let mut answers = BTreeSet::new();
    for copy in join_all((0..COPIES).map(|_| front.deliver(&notice))).await {
        let copy = copy.expect("an answer to every copy");
        answers.insert((copy.status, copy.body));
    }
    assert_eq!(
        answers.len(),
        1,
        "every copy gets the same answer: {answers:?}"
    );
    let (status, _) = answers.pop_first().unwrap();
    assert!(
        [200, 204].contains(&status),
        "an acknowledgement, not {status}"
    );

    let paid = world.merchant.order(&asked.order).await;
    assert_eq!(paid["status"], "paid", "on disk before it is acknowledged");
    let steps = paid["version"].as_u64().unwrap() - before["version"].as_u64().unwrap();
    assert_eq!(steps, 1, "one version step");
    world.receiver.wait(&asked.order, "order.paid").await;
    front.hold(false);
    world.rest().await;
    assert_eq!(world.receiver.deliveries(&asked.order).len(), 1);
    world.finish().await;
}

async fn late_money_goes_back_once(on: Pair) {
    let world = World::on(on, &[]).await;
    let late = world.late_payment().await;
    let told = world
        .receiver
        .wait(&late.order, "order.surplus_refunded")
        .await;
    assert_eq!(told.order["amount_paid"], 0);
    assert_eq!(told.order["surplus"][0]["amount"], 14000);
    assert_eq!(told.order["surplus"][0]["status"], "succeeded");
    let there = world.simulators.trade(&late.trade).await.unwrap();
    assert_eq!(
        (&there["captured"], &there["refunded"]),
        (&json!(14000), &json!(14000))
    );
    assert_eq!(there["refunds"].as_array().unwrap().len(), 1);
    // Told again: it went back once.
    world.simulators.redeliver(&late.trade).await;
    world.finish().await;
}

/// A provider whose word was false lets two codes be paid: the second payment goes back, once, though
/// the first calls for it get no answer.
async fn a_second_payment_goes_back_once(on: Pair) {
    let world = World::on(on, &[]).await;
    let order = id(&world.merchant.create().await);
    let (_, mut student) = world.scan(&order, Wechat).await;
    let first = trade_number(&order, 1);
    // The order call is answered to nobody, and from then on the provider denies the trade.
    for rule in [
        json!({ "operation": "wechat.prepay", "fault": "timeout_after", "delay_ms": 100, "count": null }),
        json!({ "operation": "wechat.query", "fault": "refused", "code": "ORDER_NOT_EXIST", "status": 404, "count": null }),
        json!({ "operation": "wechat.close", "fault": "close_lies", "count": null }),
    ] {
        let mut rule = rule;
        rule["out_trade_no"] = json!(first);
        world.simulators.fault(rule).await;
    }
    let press = student.press_pay();
    let made = eventually("the trade", Duration::from_secs(20), async || {
        world.simulators.trade(&first).await
    });
    let (_, made) = tokio::join!(press, made);
    assert_eq!(made["payable"], true);
    let path = format!("/v1/orders/{order}/attempts");
    let refused = world.merchant.post(&path, &json!({})).await;
    assert_eq!(refused.expect(409)["code"], "attempt_closing");
    world.merchant.until_attempt(&order, "cancelled").await;

    let (_, mut second) = world.scan(&order, Wechat).await;
    second.press_pay().await.expect(200);
    let rule = json!({ "operation": "wechat.refund", "fault": "timeout_after", "delay_ms": 100 });
    world.simulators.fault(rule).await;
    world.simulators.pay(&trade_number(&order, 2)).await;
    world.merchant.until_status(&order, "paid").await;
    world.simulators.pay(&first).await;
    let told = world.receiver.wait(&order, "order.surplus_refunded").await;
    assert_eq!(told.order["status"], "paid");
    assert_eq!(told.order["amount_paid"], 14000);
    let there = world.simulators.trade(&first).await.unwrap();
    assert_eq!(
        (&there["captured"], &there["refunded"]),
        (&json!(14000), &json!(14000))
    );
    assert_eq!(there["refunds"].as_array().unwrap().len(), 1);
    let kept = world
        .simulators
        .trade(&trade_number(&order, 2))
        .await
        .unwrap();
    assert_eq!(kept["refunded"], 0);
    assert!(world.simulators.hits("timeout_after").await >= 2);
    world.simulators.heal().await;
    world.finish().await;
}

async fn what_was_answered_is_answered_again_after_a_restart(on: Pair) {
    let world = World::on(on, &[]).await;
    let body = new_order(&json!({}));
    let first = world.merchant.insist("/v1/orders", &body, "order-1").await;
    let order = id(&first.expect(201));
    let path = format!("/v1/orders/{order}/attempts");
    let started = world.merchant.insist(&path, &json!({}), "start-1").await;
    started.expect(201);
    let cancel = format!("/v1/orders/{order}/cancel");
    let cancelled = world.merchant.insist(&cancel, &json!({}), "cancel-1").await;
    cancelled.expect(200);
    let refused = world.merchant.insist(&path, &json!({}), "start-2").await;
    refused.expect(409);

    // One signed request, taken once: the nonce is kept with the work.
    let text = new_order(&json!({})).to_string();
    let nonce = Merchant::nonce();
    let signed = world
        .merchant
        .sign(&reqwest::Method::POST, "/v1/orders", &nonce, &text);
    let client = crate::support::client();
    let send = async || {
        let answer = client
            .post(format!("{}/v1/orders", world.merchant.origin))
            .header("authorization", &signed)
            .header("content-type", "application/json")
            .body(text.clone())
            .send()
            .await
            .unwrap();
        (
            answer.status().as_u16(),
            answer.json::<Value>().await.unwrap(),
        )
    };
    assert_eq!(send().await.0, 201);
    assert_eq!(send().await.1["code"], "nonce_replayed");

    world.gateway.kill9().await;
    world.gateway.restart().await;
    for (target, body, key, before) in [
        ("/v1/orders", &body, "order-1", &first),
        (path.as_str(), &json!({}), "start-1", &started),
        (cancel.as_str(), &json!({}), "cancel-1", &cancelled),
        (path.as_str(), &json!({}), "start-2", &refused),
    ] {
        let again = world.merchant.insist(target, body, key).await;
        assert_eq!(again.status, before.status, "{key}");
        assert_eq!(again.body, before.body, "{key}: the same bytes");
    }
    let (status, replayed) = send().await;
    assert_eq!((status, &replayed["code"]), (401, &json!("nonce_replayed")));
    let other = world
        .merchant
        .insist("/v1/orders", &new_order(&json!({})), "order-1")
        .await;
    assert_eq!(other.expect(422)["code"], "idempotency_key_reused");
    world.finish().await;
}
