//! `WeChat`'s refunds: how they end and are told, what refuses them, the second way, the console.

use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPublicEncryptingKey, PublicEncryptingKey};
use enrollpay::simulator::{Booking, ConsoleRefund, Fault};

use super::bills::{DAY, at};
use super::*;

const REFUNDS: &str = "/v3/refund/domestic/refunds";

impl World {
    /// A paid order whose notices go to `notify`.
    async fn paid(&self, number: &str, notify: &str) {
        self.make_native(number, notify).await;
        let (status, _) = self
            .control("/control/pay", &json!({ "out_trade_no": number }))
            .await;
        assert_eq!(status, 200);
    }

    async fn refund(&self, number: &str, refund: &str, fen: i64, notify: &str) -> (u16, Value) {
        let body = json!({
            "out_trade_no": number, "out_refund_no": refund,
            "notify_url": format!("{notify}/callbacks/wechatpay/school"),
            "amount": { "refund": fen, "total": 12850, "currency": "CNY" },
        });
        self.wechat("POST", REFUNDS, &body).await
    }

    async fn refund_state(&self, refund: &str) -> (u16, Value) {
        let path = format!("{REFUNDS}/{refund}");
        self.wechat("GET", &path, &Value::Null).await
    }

    /// Sealed as the documentation has it, for the platform's key.
    pub(super) fn sealed(&self, plain: &str) -> String {
        let pem = text(&self.wechat["wechat_pay"]["public_key_pem"]);
        let key = PublicEncryptingKey::from_der(&der(pem)).unwrap();
        let key = OaepPublicEncryptingKey::new(key).unwrap();
        let mut sealed = vec![0; key.ciphertext_size()];
        key.encrypt(&OAEP_SHA1_MGF1SHA1, plain.as_bytes(), &mut sealed, None)
            .unwrap();
        STANDARD.encode(sealed)
    }
}

/// `event_type` and plaintext.
fn told(world: &World, arrived: &Arrived) -> (String, Value) {
    let notice: Value = serde_json::from_str(&arrived.body).unwrap();
    let content = world.open_wechat_notice(arrived).expect("signed");
    (text(&notice["event_type"]).to_owned(), content)
}

const NOWHERE: &str = "http://127.0.0.1:9";

#[tokio::test]
async fn each_end_of_a_refund_is_told() {
    for (fault, end) in [
        (None, "SUCCESS"),
        (Some(Fault::RefundAbnormal), "ABNORMAL"),
        (Some(Fault::RefundClosed), "CLOSED"),
    ] {
        let world = World::open();
        let merchant = Merchant::open(&[ACK_204]).await;
        world.paid("EP2026END01", &merchant.address).await;
        merchant.wait_for(1).await;
        if let Some(fault) = fault {
            world
                .simulator
                .handle()
                .add_fault(Rule::new("wechat.refund", fault));
        }
        let (status, accepted) = world
            .refund("EP2026END01", "RF-1", 12_850, &merchant.address)
            .await;
        assert_eq!(status, 200);
        assert_eq!(world.refund_state("RF-1").await.1["status"], end);
        let arrived = merchant.wait_for(2).await;
        let (event, content) = told(&world, &arrived[1]);
        assert_eq!(event, format!("REFUND.{end}"));
        let mut expected = json!({
            "mchid": world.wechat["merchant"]["mchid"],
            "transaction_id": accepted["transaction_id"],
            "out_trade_no": "EP2026END01",
            "refund_id": accepted["refund_id"],
            "out_refund_no": "RF-1",
            "refund_status": end,
            "user_received_account": "支付用户零钱",
            "amount": {
                "total": 12850, "refund": 12850, "payer_total": 12850, "payer_refund": 12850,
            },
        });
        if end == "SUCCESS" {
            expected["success_time"] = json!("2026-01-01T08:00:00+08:00");
        }
        assert_eq!(content, expected);
        let again = world
            .refund("EP2026END01", "RF-2", 12_850, &merchant.address)
            .await;
        let free = end == "CLOSED";
        assert_eq!(again.0 == 200, free, "only a closed refund frees its money");
    }
}

#[tokio::test]
async fn refund_notices_misbehave_by_a_rule_of_their_own() {
    let world = World::open();
    let merchant = Merchant::open(&[ACK_204]).await;
    let handle = world.simulator.handle();
    for (number, fault) in [
        ("EP2026LATE1", Fault::Delayed),
        ("EP2026TWICE", Fault::Doubled),
        ("EP2026NEVER", Fault::Lost),
    ] {
        let rule = Rule::new("wechat.refund_notice", fault)
            .for_order(number)
            .delayed(50);
        handle.add_fault(if fault == Fault::Lost {
            rule.always()
        } else {
            rule
        });
        world.paid(number, &merchant.address).await;
    }
    // The news of the payments is not touched.
    merchant.wait_for(3).await;
    for number in ["EP2026NEVER", "EP2026TWICE", "EP2026LATE1"] {
        world
            .refund(number, number, 12_850, &merchant.address)
            .await;
    }
    let arrived = merchant.wait_for(6).await;
    let mut numbers: Vec<String> = arrived[3..]
        .iter()
        .map(|one| text(&told(&world, one).1["out_refund_no"]).to_owned())
        .collect();
    assert_eq!(numbers.last().unwrap(), "EP2026LATE1");
    numbers.sort();
    assert_eq!(numbers, ["EP2026LATE1", "EP2026TWICE", "EP2026TWICE"]);
    until(|| (world.notices(Wallet::Wechat, "EP2026NEVER")[1].1 > 1).then_some(())).await;
    let state = world.refund_state("EP2026NEVER").await;
    assert_eq!(state.1["status"], "SUCCESS", "who asks is answered");
}

#[tokio::test]
async fn a_refund_can_be_told_before_its_payment() {
    let world = World::open();
    let merchant = Merchant::open(&[ACK_204]).await;
    world
        .fault(&json!({ "operation": "wechat.notice", "fault": "reordered" }))
        .await;
    world.paid("EP2026FIRST", &merchant.address).await;
    // The rule is taken by the payment's notice, which now waits for another one.
    until(|| (world.simulator.handle().faults()[0].hits == 1).then_some(())).await;
    world
        .refund("EP2026FIRST", "RF-1", 12_850, &merchant.address)
        .await;
    let arrived = merchant.wait_for(2).await;
    let events: Vec<String> = arrived.iter().map(|one| told(&world, one).0).collect();
    assert_eq!(events, ["REFUND.SUCCESS", "TRANSACTION.SUCCESS"]);
}

#[tokio::test]
async fn an_abnormal_refund_takes_the_second_way() {
    let world = World::open();
    let merchant = Merchant::open(&[ACK_204]).await;
    let handle = world.simulator.handle();
    handle.add_fault(Rule::new("wechat.refund", Fault::RefundAbnormal).times_over(2));
    for (number, refund) in [("EP2026WAY01", "RF-1"), ("EP2026WAY02", "RF-2")] {
        world.paid(number, &merchant.address).await;
        world
            .refund(number, refund, 12_850, &merchant.address)
            .await;
    }
    merchant.wait_for(4).await;
    let id = |refund: &'static str| {
        let world = &world;
        async move { text(&world.refund_state(refund).await.1["refund_id"]).to_owned() }
    };
    let path = format!("{REFUNDS}/{}/apply-abnormal-refund", id("RF-1").await);
    let card = json!({
        "out_refund_no": "RF-1", "type": "USER_BANK_CARD", "bank_type": "ICBC_DEBIT",
        "bank_account": world.sealed("6222020200112233445"), "real_name": world.sealed("张三"),
    });
    for (member, value) in [
        ("bank_account", json!("6222020200112233445")),
        ("real_name", json!("")),
        ("type", json!("CASH")),
        ("bank_type", json!("")),
        ("out_refund_no", json!("RF-2")),
    ] {
        let mut wrong = card.clone();
        wrong[member] = value;
        assert_eq!(world.wechat("POST", &path, &wrong).await.0, 400, "{member}");
    }
    // Sealed for a key that the header does not name.
    let unnamed = world
        .wechat_request("POST", &path, &card.to_string())
        .header("wechatpay-serial", "0")
        .build()
        .unwrap();
    let mut unnamed = unnamed;
    unnamed.headers_mut().remove("wechatpay-serial");
    assert_eq!(world.client.execute(unnamed).await.unwrap().status(), 400);
    let (status, answer) = world.wechat("POST", &path, &card).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["user_received_account"], "ICBC_DEBIT3445");
    let own = format!("{REFUNDS}/{}/apply-abnormal-refund", id("RF-2").await);
    let back = json!({ "out_refund_no": "RF-2", "type": "MERCHANT_BANK_CARD" });
    assert_eq!(world.wechat("POST", &own, &back).await.0, 200);
    for refund in ["RF-1", "RF-2"] {
        assert_eq!(world.refund_state(refund).await.1["status"], "SUCCESS");
    }
    let arrived = merchant.wait_for(6).await;
    assert!(
        arrived[4..]
            .iter()
            .all(|one| told(&world, one).0 == "REFUND.SUCCESS")
    );
    // No second second way, and none for what was never abnormal.
    let changed = json!({ "out_refund_no": "RF-1", "type": "MERCHANT_BANK_CARD" });
    assert_eq!(world.wechat("POST", &path, &changed).await.0, 400);
    world.paid("EP2026WAY03", NOWHERE).await;
    world.refund("EP2026WAY03", "RF-3", 12_850, NOWHERE).await;
    let path = format!("{REFUNDS}/{}/apply-abnormal-refund", id("RF-3").await);
    let fine = json!({ "out_refund_no": "RF-3", "type": "MERCHANT_BANK_CARD" });
    assert_eq!(world.wechat("POST", &path, &fine).await.0, 400);
    let path = format!("{REFUNDS}/50300000000000/apply-abnormal-refund");
    assert_eq!(world.wechat("POST", &path, &fine).await.0, 404);
    // The bill of the day was made after the second way had succeeded.
    world.next_morning();
    let bill = world.wechat_bill("tradebill", "").await;
    assert_eq!(bill.row("商户退款单号", "RF-1")["退款状态"], "SUCCESS");
}

#[tokio::test]
async fn an_abnormal_refund_is_a_change_in_the_bill() {
    let world = World::open();
    world
        .simulator
        .handle()
        .add_fault(Rule::new("wechat.refund", Fault::RefundAbnormal));
    world.paid("EP2026CHANGE", NOWHERE).await;
    world.refund("EP2026CHANGE", "RF-1", 12_850, NOWHERE).await;
    world.next_morning();
    let id = world.refund_state("RF-1").await.1["refund_id"].clone();
    let path = format!("{REFUNDS}/{}/apply-abnormal-refund", text(&id));
    let back = json!({ "out_refund_no": "RF-1", "type": "MERCHANT_BANK_CARD" });
    assert_eq!(
        world.wechat("POST", &path, &back).await.1["status"],
        "SUCCESS"
    );
    let bill = world.wechat_bill("tradebill", "").await;
    assert_eq!(
        bill.row("商户退款单号", "RF-1")["退款状态"],
        "CHANGE",
        "a bill is never changed after it was made"
    );
}

#[tokio::test]
async fn refunds_are_refused_on_demand_before_or_after_they_took_effect() {
    let world = World::open();
    world.paid("EP2026NO001", NOWHERE).await;
    for (fault, status, code, happened) in [
        (Fault::NotEnough, 403, "NOT_ENOUGH", false),
        (
            Fault::UserAccountAbnormal,
            403,
            "USER_ACCOUNT_ABNORMAL",
            false,
        ),
        (Fault::NotExist, 404, "RESOURCE_NOT_EXISTS", false),
        (Fault::TooManyRequests, 429, "FREQUENCY_LIMITED", false),
        (Fault::TooManyRequestsAfter, 429, "FREQUENCY_LIMITED", true),
        (Fault::SystemErrorAfter, 500, "SYSTEM_ERROR", true),
    ] {
        let number = format!("RF-{code}-{happened}");
        world
            .simulator
            .handle()
            .add_fault(Rule::new("wechat.refund", fault));
        let answer = world.refund("EP2026NO001", &number, 100, NOWHERE).await;
        assert_eq!((answer.0, &answer.1["code"]), (status, &json!(code)));
        let known = world.refund_state(&number).await.0;
        assert_eq!(known, if happened { 200 } else { 404 }, "{fault:?}");
        // The same number again: once in all.
        let again = world.refund("EP2026NO001", &number, 100, NOWHERE).await;
        assert_eq!(again.0, 200);
    }
    let trade = world
        .simulator
        .handle()
        .trade(Wallet::Wechat, "EP2026NO001");
    assert_eq!(trade.unwrap().refunded(), 600);
}

#[tokio::test]
async fn refunds_keep_to_number_distance_and_time() {
    let mut options = options();
    options.wechat.refund_spacing_ms = 60_000;
    let world = World::with(options);
    world.paid("EP2026RULES", NOWHERE).await;
    assert_eq!(world.refund("EP2026RULES", "RF-0", 1, NOWHERE).await.0, 200);
    world.clock.advance_ms(59_999);
    let soon = world.refund("EP2026RULES", "RF-1", 1, NOWHERE).await;
    assert_eq!((soon.0, &soon.1["code"]), (400, &json!("INVALID_REQUEST")));
    for index in 1..50 {
        world.clock.advance_ms(60_000);
        let number = format!("RF-{index}");
        let answer = world.refund("EP2026RULES", &number, 1, NOWHERE).await;
        assert_eq!(answer.0, 200, "{number}");
    }
    world.clock.advance_ms(60_000);
    assert_eq!(
        world.refund("EP2026RULES", "RF-50", 1, NOWHERE).await.0,
        400
    );
    world.paid("EP2026OLD01", NOWHERE).await;
    world.clock.advance_ms(365 * 86_400_000 + 1);
    let late = world.refund("EP2026OLD01", "RF-OLD", 1, NOWHERE).await;
    assert_eq!((late.0, &late.1["code"]), (400, &json!("TRADE_OVERDUE")));
}

#[tokio::test]
async fn by_default_nothing_is_said_about_a_minute_between_refunds() {
    let world = World::open();
    world.paid("EP2026QUICK", NOWHERE).await;
    for number in ["RF-1", "RF-2"] {
        assert_eq!(world.refund("EP2026QUICK", number, 1, NOWHERE).await.0, 200);
    }
}

#[tokio::test]
async fn a_refund_from_the_console_has_a_number_nobody_gave() {
    let world = World::open();
    let merchant = Merchant::open(&[FAIL_500]).await;
    world.paid("EP2026HAND1", &merchant.address).await;
    let by_hand = json!({
        "wallet": "wechat", "out_trade_no": "EP2026HAND1", "amount": 850, "notify": true,
        "notify_url": format!("{}/console", merchant.address),
    });
    let (status, refund) = world.control("/control/console_refund", &by_hand).await;
    assert_eq!(status, 200, "{refund}");
    assert_eq!(refund["by_console"], true);
    let number = text(&refund["number"]);
    assert_eq!(world.refund_state(number).await.1["amount"]["refund"], 850);
    assert_eq!(
        world.wechat_state("EP2026HAND1").await["trade_state"],
        "REFUND"
    );
    let xml = until(|| {
        let arrived = merchant.arrived();
        arrived
            .into_iter()
            .find(|one| one.body.starts_with("<xml>"))
    })
    .await;
    assert!(xml.body.contains("<req_info>"), "{}", xml.body);
    assert_eq!(xml.head["content-type"], "text/xml");
    assert!(!xml.head.contains_key("wechatpay-signature"));
    let too_much = json!({ "wallet": "wechat", "out_trade_no": "EP2026HAND1", "amount": 12_001 });
    let (status, body) = world.control("/control/console_refund", &too_much).await;
    assert_eq!((status, &body["error"]), (409, &json!("too_much")));
    let rest = ConsoleRefund::new(Wallet::Wechat, "EP2026HAND1");
    let rest = world.simulator.handle().refund_by_hand(&rest).await;
    assert_eq!(rest.unwrap().amount, 12_000);
    world.next_morning();
    let bill = world.wechat_bill("tradebill", "").await;
    assert_eq!(bill.row("商户退款单号", number)["申请退款金额"], "8.50");
}

#[tokio::test]
async fn silence_is_for_callbacks_only_and_ends_when_told() {
    let world = World::open();
    let merchant = Merchant::open(&[ACK_204]).await;
    let silent = |silent: bool| json!({ "silent": silent });
    // A rule that was there before does not speak through it.
    world
        .fault(&json!({ "operation": "wechat.notice", "fault": "doubled", "count": null }))
        .await;
    let (status, _) = world.control("/control/silence", &silent(true)).await;
    assert_eq!(status, 200);
    for number in ["EP2026MUTE1", "EP2026MUTE2"] {
        world.paid(number, &merchant.address).await;
        until(|| (world.notices(Wallet::Wechat, number)[0].1 >= 2).then_some(())).await;
        assert_eq!(world.wechat_state(number).await["trade_state"], "SUCCESS");
    }
    let order = json!({
        "out_trade_no": "EP2026MUTE3", "total_amount": "128.50", "subject": "报名费",
        "product_code": "QR_CODE_OFFLINE",
    });
    let notify = format!("{}/callbacks/alipay/school", merchant.address);
    world
        .alipay("alipay.trade.precreate", &order, &[("notify_url", &notify)])
        .await;
    world
        .control("/control/pay", &json!({ "out_trade_no": "EP2026MUTE3" }))
        .await;
    until(|| (world.notices(Wallet::Alipay, "EP2026MUTE3")[0].1 >= 2).then_some(())).await;
    let asked = json!({ "out_trade_no": "EP2026MUTE3" });
    let state = world.alipay("alipay.trade.query", &asked, &[]).await;
    assert_eq!(state["trade_status"], "TRADE_SUCCESS");
    assert!(merchant.arrived().is_empty(), "not one word");
    world.control("/control/silence", &silent(false)).await;
    merchant.wait_for(2).await;
    world.simulator.handle().clear_faults();
    // One order alone.
    let handle = world.simulator.handle();
    handle.silence(Some(Wallet::Wechat), Some("EP2026MUTE4"), true);
    for number in ["EP2026MUTE4", "EP2026LOUD1"] {
        world.paid(number, &merchant.address).await;
    }
    until(|| {
        world.notices(Wallet::Wechat, "EP2026LOUD1")[0]
            .0
            .then_some(())
    })
    .await;
    until(|| (world.notices(Wallet::Wechat, "EP2026MUTE4")[0].1 >= 2).then_some(())).await;
    assert!(!world.notices(Wallet::Wechat, "EP2026MUTE4")[0].0);
}

#[tokio::test]
async fn a_close_is_refused_for_as_long_as_the_rule_says() {
    let world = World::open();
    world.make_native("EP2026CLOSE", NOWHERE).await;
    world
        .fault(&json!({
            "operation": "wechat.close", "fault": "close_too_early", "count": null,
            "delay_ms": 200_000,
        }))
        .await;
    world.clock.advance_ms(199_999);
    assert_eq!(world.close_wechat("EP2026CLOSE").await.0, 400);
    world.clock.advance_ms(1);
    assert_eq!(world.close_wechat("EP2026CLOSE").await.0, 204);
}

#[tokio::test]
async fn a_number_can_be_denied_although_its_code_is_still_payable() {
    let world = World::open();
    world.make_native("EP2026DENY1", NOWHERE).await;
    for operation in ["wechat.close", "wechat.query"] {
        world
            .fault(&json!({ "operation": operation, "fault": "not_exist" }))
            .await;
    }
    let closed = world.close_wechat("EP2026DENY1").await;
    assert_eq!(
        (closed.0, &closed.1["code"]),
        (404, &json!("ORDER_NOT_EXIST"))
    );
    assert_eq!(
        world.wechat_state("EP2026DENY1").await["code"],
        "ORDER_NOT_EXIST"
    );
    world
        .control("/control/pay", &json!({ "out_trade_no": "EP2026DENY1" }))
        .await;
    assert_eq!(
        world.wechat_state("EP2026DENY1").await["trade_state"],
        "SUCCESS"
    );
}

#[tokio::test]
async fn bookings_pay_what_waits_and_refuse_what_does_not_fit() {
    let world = World::open();
    world.make_native("EP2026BOOK1", NOWHERE).await;
    let booking = json!({
        "wallet": "wechat", "out_trade_no": "EP2026BOOK1", "amount": 12850,
        "at": at(9, 0), "transaction_id": "4200000000202601010000000001",
        "refunds": [{ "number": "RF-1", "amount": 50, "at": at(10, 0) }],
    });
    let (status, captures) = world.control("/control/bookings", &booking).await;
    assert_eq!(status, 200, "{captures}");
    let state = world.wechat_state("EP2026BOOK1").await;
    assert_eq!(state["transaction_id"], "4200000000202601010000000001");
    assert_eq!(state["success_time"], "2026-01-01T09:00:00+08:00");
    assert_eq!(world.refund_state("RF-1").await.0, 200);
    let (status, body) = world.control("/control/bookings", &booking).await;
    assert_eq!((status, &body["error"]), (409, &json!("already_paid")));
    world.make_native("EP2026BOOK2", NOWHERE).await;
    let wrong = Booking::new(Wallet::Wechat, "EP2026BOOK2", 1, at(9, 0));
    let refused = world.simulator.handle().book([wrong]).await.unwrap_err();
    assert_eq!(refused.code(), "other_amount");
    assert_eq!(
        world.wechat_state("EP2026BOOK2").await["trade_state"],
        "NOTPAY"
    );
    world.next_morning();
    let bill = world.wechat_bill("tradebill", "").await;
    assert_eq!(bill.rows.len(), 2, "{DAY}");
}
