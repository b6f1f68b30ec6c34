//! Alipay's refunds beyond the rules of the call: notices, windows, faults, the console.

use enrollpay::simulator::{Booking, ConsoleRefund, Fault};

use super::*;

async fn paid(world: &World, number: &str, notify: &str) {
    let (_, buyer) = world
        .simulator
        .handle()
        .meet(Wallet::Alipay, "wangwu")
        .unwrap();
    let order = json!({
        "out_trade_no": number, "total_amount": "128.50", "subject": "报名费",
        "product_code": "JSAPI_PAY", "op_app_id": world.alipay["app_id"], "buyer_id": buyer,
    });
    let notify = format!("{notify}/callbacks/alipay/school");
    let made = world
        .alipay("alipay.trade.create", &order, &[("notify_url", &notify)])
        .await;
    assert_eq!(made["code"], "10000", "{made}");
    world
        .control("/control/pay", &json!({ "out_trade_no": number }))
        .await;
}

async fn refund(world: &World, number: &str, amount: &str, request: &str) -> Value {
    let biz = json!({
        "out_trade_no": number, "refund_amount": amount, "out_request_no": request,
    });
    world.alipay("alipay.trade.refund", &biz, &[]).await
}

#[tokio::test]
async fn refunds_are_told_where_the_contract_says_so() {
    let mut options = options();
    options.alipay.refund_notices = true;
    let world = World::with(options);
    let merchant = Merchant::open(&[ACK_ALIPAY]).await;
    paid(&world, "EP2026T1", &merchant.address).await;
    merchant.wait_for(1).await;
    let part = refund(&world, "EP2026T1", "28.50", "A").await;
    assert_eq!(part["send_back_fee"], "28.50");
    merchant.wait_for(2).await;
    world.clock.advance_ms(2_999);
    let soon = refund(&world, "EP2026T1", "100.00", "B").await;
    assert_eq!(soon["sub_code"], "ACQ.TRADE_NOT_ALLOW_REFUND");
    assert_eq!(
        (&soon["refund_fee"], &soon["send_back_fee"]),
        (&json!("0.00"), &json!("0.00"))
    );
    world.clock.advance_ms(1);
    let rest = refund(&world, "EP2026T1", "100.00", "B").await;
    assert_eq!(
        (&rest["refund_fee"], &rest["send_back_fee"]),
        (&json!("128.50"), &json!("100.00"))
    );
    let arrived = merchant.wait_for(3).await;
    for (arrived, status, number, sum, this) in [
        (&arrived[1], "TRADE_SUCCESS", "A", "28.50", "28.50"),
        (&arrived[2], "TRADE_CLOSED", "B", "128.50", "100.00"),
    ] {
        let told = world.open_alipay_notice(arrived).expect("signed");
        assert_eq!(told["trade_status"], status);
        assert_eq!(told["out_biz_no"], number);
        assert_eq!(told["refund_fee"], sum);
        assert_eq!(told["send_back_fee"], this);
        assert!(told["gmt_refund"].ends_with(".000"));
        assert!(told.contains_key("gmt_payment"), "it was paid once");
    }
}

#[tokio::test]
async fn refunds_fail_on_demand_and_end_after_a_year() {
    let world = World::open();
    paid(&world, "EP2026F1", "http://127.0.0.1:9").await;
    let handle = world.simulator.handle();
    for (fault, code, happened) in [
        (Fault::NotEnough, "ACQ.SELLER_BALANCE_NOT_ENOUGH", false),
        (
            Fault::UserAccountAbnormal,
            "ACQ.BUYER_ENABLE_STATUS_FORBID",
            false,
        ),
        (Fault::TooManyRequestsAfter, "isv.app-call-limited", true),
    ] {
        handle.add_fault(Rule::new("alipay.refund", fault));
        let answer = refund(&world, "EP2026F1", "1.00", code).await;
        assert_eq!(answer["sub_code"], code);
        let again = refund(&world, "EP2026F1", "1.00", code).await;
        let changed = if happened { "N" } else { "Y" };
        assert_eq!(again["fund_change"], changed, "{fault:?}");
        world.clock.advance_ms(3_000);
    }
    world.clock.advance_ms(366 * 86_400_000);
    let late = refund(&world, "EP2026F1", "1.00", "LATE").await;
    assert_eq!(late["sub_code"], "ACQ.TRADE_HAS_FINISHED");
}

#[tokio::test]
async fn a_refund_from_the_console_is_a_refund() {
    let world = World::open();
    let merchant = Merchant::open(&[ACK_ALIPAY]).await;
    paid(&world, "EP2026H1", &merchant.address).await;
    merchant.wait_for(1).await;
    let mut by_hand = ConsoleRefund::new(Wallet::Alipay, "EP2026H1");
    by_hand.notify = true;
    let made = world.simulator.handle().refund_by_hand(&by_hand).await;
    let number = made.unwrap().number;
    let arrived = merchant.wait_for(2).await;
    let told = world.open_alipay_notice(&arrived[1]).unwrap();
    assert_eq!(
        (told["trade_status"].as_str(), told["out_biz_no"].as_str()),
        ("TRADE_CLOSED", number.as_str())
    );
    let biz = json!({ "out_trade_no": "EP2026H1", "out_request_no": number });
    let asked = world
        .alipay("alipay.trade.fastpay.refund.query", &biz, &[])
        .await;
    assert_eq!(asked["refund_status"], "REFUND_SUCCESS");
}

#[tokio::test]
async fn a_close_can_be_refused_for_a_while_or_deny_the_trade() {
    let world = World::open();
    let order = json!({
        "out_trade_no": "EP2026X1", "total_amount": "128.50", "subject": "报名费",
        "product_code": "QR_CODE_OFFLINE",
    });
    world.alipay("alipay.trade.precreate", &order, &[]).await;
    world
        .control("/control/scan", &json!({ "out_trade_no": "EP2026X1" }))
        .await;
    let close = || async {
        let biz = json!({ "out_trade_no": "EP2026X1" });
        world.alipay("alipay.trade.close", &biz, &[]).await
    };
    let handle = world.simulator.handle();
    handle.add_fault(Rule::new("alipay.close", Fault::NotExist));
    assert_eq!(close().await["sub_code"], "ACQ.TRADE_NOT_EXIST");
    handle.add_fault(
        Rule::new("alipay.close", Fault::CloseTooEarly)
            .always()
            .delayed(200_000),
    );
    world.clock.advance_ms(199_999);
    assert_eq!(close().await["sub_code"], "ACQ.REASON_TRADE_STATUS_INVALID");
    world.clock.advance_ms(1);
    assert_eq!(close().await["code"], "10000");
}

#[tokio::test]
async fn plants_and_bookings_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = options();
    first.state_file = Some(folder.path().join("simulator.json"));
    let second = first.clone();
    let world = World::with(first);
    let booking = Booking::new(Wallet::Alipay, "EP2026S1", 100, super::bills::at(9, 0));
    world
        .book([booking.refunded("A", 1, super::bills::at(10, 0))])
        .await;
    let plant = json!({ "wallet": "alipay", "day": "2026-01-01", "what": "missing", "out_trade_no": "EP2026S1" });
    assert_eq!(world.control("/control/bills/plant", &plant).await.0, 200);
    let planted = world.simulator.handle().planted();
    world.simulator.stop().await;
    let world = World::with(second);
    assert_eq!(world.simulator.handle().planted(), planted);
    world.next_morning();
    assert_eq!(world.alipay_bill().await.rows.len(), 1, "only the refund");
}
