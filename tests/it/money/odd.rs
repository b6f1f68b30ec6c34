//! Captures with another amount than was asked for: acknowledged, pay nothing, and leave by the word of two
//! people.

use std::time::Duration;

use serde_json::{Value, json};

use super::text;
use crate::support::books::trade_number;
use crate::support::student::{Alipay, Wechat};
use crate::support::{Pair, World, eventually, on_either_pair};

on_either_pair! {
    money_of_another_amount_goes_back_once_when_two_people_say_so,
    a_notice_of_another_amount_pays_nothing,
}

const PATIENCE: Duration = Duration::from_mins(1);

/// The provider's books themselves have another amount under our number: found by asking.
async fn money_of_another_amount_goes_back_once_when_two_people_say_so(on: Pair) {
    let world = World::on(on, &[]).await;
    let order = text(&world.merchant.create().await["id"]);
    let (_, mut student) = world.scan(&order, Wechat).await;
    let trade = trade_number(&order, 1);
    let dead = json!({
        "operation": "wechat.prepay", "fault": "reset_before", "count": null,
        "out_trade_no": trade,
    });
    world.simulators.fault(dead).await;
    assert_ne!(student.press_pay().await.status, 200);
    let now = jiff::Timestamp::now().as_millisecond();
    let booking = json!({
        "wallet": "wechat", "out_trade_no": trade, "amount": 13_900, "at": now,
    });
    world.simulators.pull("bookings", &booking).await;

    let told = world.receiver.wait(&order, "order.attention").await;
    assert_eq!(told.order["amount_paid"], 0);
    let rows = world.gateway.operate_rows(&["capture", "list"]);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["order_id"], order.as_str());
    assert_eq!(
        (&rows[0]["reason"], &rows[0]["amount"], &rows[0]["standing"]),
        (&json!("amount"), &json!(13_900), &json!("waiting"))
    );
    let settle = |operator: &str| {
        world.gateway.run(&[
            "capture",
            "settle",
            "--order",
            &order,
            "--mismatch",
            "0",
            "--by",
            "refund",
            "--operator",
            operator,
        ])
    };
    assert!(settle("li.wei").status.success());
    assert!(!settle("li.wei").status.success(), "one person is not two");
    assert_eq!(world.simulators.refunds(&trade).await, []);
    let lost = json!({ "operation": "wechat.refund", "fault": "timeout_after", "delay_ms": 200 });
    world.simulators.fault(lost).await;
    assert!(settle("wang.fang").status.success());
    assert!(!settle("chen.jie").status.success(), "it is settled");
    eventually("the money back", PATIENCE, async || {
        let rows = world.gateway.operate_rows(&["capture", "list"]);
        rows.is_empty().then_some(())
    })
    .await;
    let back = world.simulators.refunds(&trade).await;
    assert_eq!(back.len(), 1);
    assert_eq!(back[0].1, 13_900);
    let order = world.merchant.order(&order).await;
    assert_eq!(
        (&order["amount_paid"], &order["payment"]),
        (&json!(0), &Value::Null)
    );
    world.simulators.heal().await;
    let path = format!("/v1/orders/{}/cancel", text(&order["id"]));
    world.merchant.insist(&path, &json!({}), "end").await;
    world.finish().await;
}

/// A notice with another amount than the books of its own sender: acknowledged, believed by nobody.
async fn a_notice_of_another_amount_pays_nothing(on: Pair) {
    let world = World::on(on, &[]).await;
    for wallet in [Wechat, Alipay] {
        let asked = world.ask(wallet).await;
        let (status, believed) = world.simulators.forge(&asked.trade, "wrong_amount").await;
        assert!(believed, "answered {status}");
        let told = world.receiver.wait(&asked.order, "order.attention").await;
        assert_eq!(told.order["amount_paid"], 0);
        assert_ne!(world.merchant.order(&asked.order).await["status"], "paid");
        let rows = world.gateway.operate_rows(&["capture", "list"]);
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!(rows[0]["reason"], "amount");
        for operator in ["li.wei", "wang.fang"] {
            world.gateway.operate(&[
                "capture",
                "settle",
                "--order",
                &asked.order,
                "--mismatch",
                "0",
                "--by",
                "outside",
                "--operator",
                operator,
            ]);
        }
        // The payer pays all the same, once.
        world.simulators.pay(&asked.trade).await;
        let paid = world.merchant.until_status(&asked.order, "paid").await;
        assert_eq!(paid["amount_paid"], 14_000);
    }
    world.finish().await;
}
