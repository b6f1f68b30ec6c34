//! Faults on demand, each seen from the outside.

use super::*;

const NOWHERE: &str = "http://127.0.0.1:9";

#[tokio::test]
async fn a_call_can_take_effect_without_an_answer() {
    let world = World::open();
    let path = "/v3/pay/transactions/native";
    let order = world.native_order("EP2026RESET1", NOWHERE).to_string();
    for (fault, made) in [("reset_before", false), ("reset_after", true)] {
        world
            .fault(&json!({ "operation": "wechat.prepay", "fault": fault }))
            .await;
        assert!(
            world
                .wechat_request("POST", path, &order)
                .send()
                .await
                .is_err(),
            "{fault}: no answer at all"
        );
        let handle = world.simulator.handle();
        assert_eq!(handle.trade(Wallet::Wechat, "EP2026RESET1").is_some(), made);
        assert_eq!(handle.faults()[0].hits, 1);
        handle.clear_faults();
    }
}

#[tokio::test]
async fn answers_can_be_bad_in_every_way() {
    let world = World::open();
    world.make_native("EP2026BAD001", NOWHERE).await;
    let path = "/v3/pay/transactions/out-trade-no/EP2026BAD001?mchid=1900000001";
    for (fault, status, signed) in [
        ("unsigned", 200, false),
        ("wrong_signature", 200, false),
        ("signature_probe", 200, false),
        ("unknown_serial", 200, false),
        ("tampered_body", 200, false),
        ("truncated_body", 200, false),
        ("html502", 502, false),
        ("too_many_requests", 429, false),
        ("system_error_before", 500, false),
        ("slow_before", 200, true),
    ] {
        world
            .fault(&json!({ "operation": "wechat.query", "fault": fault, "delay_ms": 1 }))
            .await;
        let answer = world.wechat_request("GET", path, "").send().await.unwrap();
        assert_eq!(answer.status(), status, "{fault}");
        let headers = answer.headers().clone();
        let probe = headers
            .get("wechatpay-signature")
            .is_some_and(|value| value.to_str().unwrap().starts_with("WECHATPAY/SIGNTEST/"));
        assert_eq!(probe, fault == "signature_probe");
        let body = answer.text().await.unwrap();
        assert_eq!(world.wechat_signed(&headers, &body), signed, "{fault}");
        // Spent: the next answer is good again.
        assert_eq!(
            world.wechat("GET", path, &Value::Null).await.0,
            200,
            "{fault}"
        );
    }
    world
        .fault(&json!({ "operation": "wechat.query", "fault": "huge_body" }))
        .await;
    let huge = world.wechat_request("GET", path, "").send().await.unwrap();
    assert!(huge.bytes().await.unwrap().len() > 10 << 20);
}

#[tokio::test]
async fn a_rule_bites_only_its_own_order() {
    let world = World::open();
    let handle = world.simulator.handle();
    for number in ["EP2026OWN001", "EP2026OWN002"] {
        world.make_native(number, NOWHERE).await;
    }
    handle.add_fault(Rule::new("wechat.close", Fault::CloseLies).for_order("EP2026OWN002"));
    assert_eq!(world.close_wechat("EP2026OWN001").await.0, 204);
    assert_eq!(world.close_wechat("EP2026OWN002").await.0, 204);
    assert_eq!(
        world.wechat_state("EP2026OWN001").await["trade_state"],
        "CLOSED"
    );
    assert_eq!(
        world.wechat_state("EP2026OWN002").await["trade_state"],
        "NOTPAY"
    );
    let paid = world
        .control("/control/pay", &json!({ "out_trade_no": "EP2026OWN002" }))
        .await;
    assert_eq!(paid.0, 200, "the lie let the money through");
}

#[tokio::test]
async fn an_early_close_is_refused_for_five_minutes() {
    let world = World::open();
    world.make_native("EP2026EARLY1", NOWHERE).await;
    world
        .fault(&json!({ "operation": "wechat.close", "fault": "close_too_early", "count": null }))
        .await;
    assert_eq!(world.close_wechat("EP2026EARLY1").await.0, 400);
    world.clock.advance_ms(300_000);
    assert_eq!(world.close_wechat("EP2026EARLY1").await.0, 204);
    world.make_native("EP2026EARLY2", NOWHERE).await;
    world.simulator.handle().clear_faults();
    world
        .fault(&json!({ "operation": "wechat.close", "fault": "user_paying" }))
        .await;
    let paying = world.close_wechat("EP2026EARLY2").await;
    assert_eq!((paying.0, &paying.1["code"]), (202, &json!("USERPAYING")));
}

#[tokio::test]
async fn a_query_can_lag_behind_the_payment() {
    let world = World::open();
    world.make_native("EP2026STALE1", NOWHERE).await;
    world
        .fault(&json!({ "operation": "wechat.query", "fault": "stale_query", "count": null, "delay_ms": 2000 }))
        .await;
    world
        .control("/control/pay", &json!({ "out_trade_no": "EP2026STALE1" }))
        .await;
    let state = world.wechat_state("EP2026STALE1").await;
    assert_eq!(state["trade_state"], "NOTPAY");
    assert!(state.get("transaction_id").is_none());
    world.clock.advance_ms(2_000);
    assert_eq!(
        world.wechat_state("EP2026STALE1").await["trade_state"],
        "SUCCESS"
    );
}

#[tokio::test]
async fn spoiled_notices_come_before_the_true_one() {
    for fault in [
        "forged",
        "signature_probe",
        "unknown_serial",
        "unsigned",
        "old_timestamp",
        "wrong_amount",
        "wrong_mchid",
    ] {
        let world = World::open();
        let merchant = Merchant::open(&[ACK_204]).await;
        world.make_native("EP2026SPOIL1", &merchant.address).await;
        world
            .fault(&json!({ "operation": "wechat.notice", "fault": fault }))
            .await;
        world
            .control("/control/pay", &json!({ "out_trade_no": "EP2026SPOIL1" }))
            .await;
        // Even an acknowledged forgery does not stop the true notice.
        let arrived = merchant.wait_for(2).await;
        let truth = world
            .open_wechat_notice(&arrived[1])
            .expect("the second is true");
        assert_eq!(truth["amount"]["total"], 12850);
        match (fault, world.open_wechat_notice(&arrived[0])) {
            ("wrong_amount", Some(lie)) => assert_eq!(lie["amount"]["total"], 12851),
            ("wrong_mchid", Some(lie)) => assert_ne!(lie["mchid"], truth["mchid"]),
            ("old_timestamp", Some(_)) => assert_eq!(
                arrived[0].head["wechatpay-timestamp"],
                (HOUR - 301).to_string()
            ),
            (_, None) => {}
            (_, Some(_)) => panic!("{fault} verifies"),
        }
        until(|| (world.notices(Wallet::Wechat, "EP2026SPOIL1") == [(true, 2)]).then_some(()))
            .await;
    }
}

#[tokio::test]
async fn notices_can_be_lost_or_come_ten_times_at_once() {
    let world = World::open();
    let merchant = Merchant::open(&[ACK_204]).await;
    world.make_native("EP2026LOST01", &merchant.address).await;
    world.make_native("EP2026TEN001", &merchant.address).await;
    let handle = world.simulator.handle();
    handle.add_fault(
        Rule::new("wechat.notice", Fault::Lost)
            .for_order("EP2026LOST01")
            .always(),
    );
    handle.add_fault(Rule::new("wechat.notice", Fault::DoubledAtOnce).for_order("EP2026TEN001"));
    for number in ["EP2026LOST01", "EP2026TEN001"] {
        world
            .control("/control/pay", &json!({ "out_trade_no": number }))
            .await;
    }
    let arrived = merchant.wait_for(10).await;
    until(|| (world.notices(Wallet::Wechat, "EP2026LOST01")[0].1 >= 3).then_some(())).await;
    assert_eq!(arrived.len(), 10);
    assert!(
        arrived.iter().all(|one| {
            world.open_wechat_notice(one).unwrap()["out_trade_no"] == "EP2026TEN001"
        })
    );
}

#[tokio::test]
async fn a_notice_can_be_forged_for_an_order_nobody_paid() {
    let world = World::open();
    let merchant = Merchant::open(&[FAIL_500]).await;
    world.make_native("EP2026FORGE1", &merchant.address).await;
    let forge = json!({ "out_trade_no": "EP2026FORGE1", "fault": "forged" });
    let (status, body) = world.control("/control/forge", &forge).await;
    assert_eq!(
        (status, &body),
        (200, &json!({ "status": 500, "acked": false }))
    );
    assert!(world.open_wechat_notice(&merchant.arrived()[0]).is_none());
    assert_eq!(
        world.wechat_state("EP2026FORGE1").await["trade_state"],
        "NOTPAY"
    );
}

#[tokio::test]
async fn alipay_misbehaves_too() {
    let world = World::open();
    let number = json!({ "out_trade_no": "EP2026" });
    for (fault, expected) in [
        ("system_error_before", "20000"),
        ("too_many_requests", "40005"),
        ("wrong_signature", "40004"),
        ("unsigned", "40004"),
    ] {
        world
            .fault(&json!({ "operation": "alipay.query", "fault": fault }))
            .await;
        let raw = world.alipay_raw("alipay.trade.query", &number, &[]).await;
        let (body, good) = world.open_alipay(&raw);
        assert_eq!(body["code"], expected, "{fault}");
        assert_eq!(
            good,
            !matches!(fault, "wrong_signature" | "unsigned"),
            "{fault}"
        );
    }
}

#[tokio::test]
async fn rules_that_make_no_sense_are_refused() {
    let world = World::open();
    for rule in [
        json!({ "operation": "wechat.coffee", "fault": "lost" }),
        json!({ "operation": "wechat.query", "fault": "lost" }),
        json!({ "operation": "wechat.notice", "fault": "close_lies" }),
        json!({ "operation": "wechat.query", "fault": "no_such_fault" }),
    ] {
        assert_eq!(
            world.control("/control/faults", &rule).await.0,
            400,
            "{rule}"
        );
    }
}
