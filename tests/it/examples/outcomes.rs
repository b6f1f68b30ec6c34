//! What the page says of faults that no other story shows.

use serde_json::json;

use crate::support::World;
use crate::support::student::{Alipay, Wechat};

#[tokio::test]
async fn a_refused_trade_fails_its_code_and_the_next_one_is_payable() {
    let world = World::start(&[]).await;
    for (wallet, rule) in [
        (
            Wechat,
            json!({ "operation": "wechat.prepay", "fault": "refused", "code": "NO_AUTH" }),
        ),
        (
            Alipay,
            json!({ "operation": "alipay.create", "fault": "refused" }),
        ),
    ] {
        world.simulators.fault(rule).await;
        let order = world.merchant.create().await;
        let id = order["id"].as_str().unwrap();
        let (_, mut student) = world.scan(id, wallet).await;
        let refused = student.press_pay().await;
        assert!(refused.status >= 400, "{}", refused.json());
        let order = world.merchant.until_attempt(id, "failed").await;
        assert_eq!(order["status"], "unpaid");
        let (_, mut student) = world.scan(id, wallet).await;
        student.press_pay().await.expect(200);
        world
            .merchant
            .post(&format!("/v1/orders/{id}/cancel"), &json!({}))
            .await;
        world.merchant.until_status(id, "closed").await;
    }
    world.finish().await;
}

#[tokio::test]
async fn a_cancel_that_may_not_close_yet_says_so() {
    let world = World::start(&[]).await;
    for (wallet, operation) in [(Wechat, "wechat.close"), (Alipay, "alipay.close")] {
        let rule = json!({ "operation": operation, "fault": "close_too_early", "count": null });
        world.simulators.fault(rule).await;
        let asked = world.ask(wallet).await;
        let path = format!("/v1/orders/{}/cancel", asked.order);
        let waiting = world.merchant.post(&path, &json!({})).await.expect(202);
        assert_eq!(waiting["status"], "paying");
        assert_eq!(waiting["attempt"]["status"], "closing");
        world.simulators.heal().await;
        world.merchant.until_status(&asked.order, "closed").await;
    }
    world.finish().await;
}
