//! The integration kit of docs/integrate.md: each example takes a payment through a running gateway,
//! and the page shows nothing but what runs here.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::disallowed_methods,
    reason = "real processes live in real time"
)]

mod busy;
mod outcomes;
mod page;
mod school;
mod walkthrough;

use std::time::{SystemTime, UNIX_EPOCH};

use enrollpay::http::auth;
use serde_json::json;

use crate::support::World;
use crate::support::books::trade_number;
use crate::support::student::{Alipay, Student, Wallet, Wechat};

use school::{Language, School};

/// What every example's self-check prints.
const PUBLISHED: &str = include_str!("../../docs/examples/self-check.txt");
const SUBJECT: &str = "2021年4月自学考试报考费";

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

/// The whole way of one order, of one that is cancelled, and of deliveries that lie.
async fn takes_payments(language: Language, wallet: Wallet) {
    let world = World::start(&[]).await;
    let school = School::open(language, &world.gateway);
    assert_eq!(school.succeed(&["self-check"]), PUBLISHED);
    school.repeats_safely().await;
    let receiver = school.receive().await;

    let made = school.order(&["create", "ZK202104-000123"]);
    assert_eq!(made["subject"], SUBJECT);
    assert_eq!(
        (&*made["status"], &*made["amount"]),
        ("unpaid", "14000"),
        "{made:?}"
    );
    assert!(made["cashier_url"].starts_with(&format!("{}/pay/", world.gateway.origin)));
    let again = school.order(&["create", "ZK202104-000123"]);
    assert_eq!(again, made, "the same number is the same order");
    let id = &*made["id"];

    let attempt = school.merchant.start(id).await;
    let mut student = Student::stranger(wallet);
    student.scan(&attempt).await.expect(200);
    student.press_pay().await.expect(200);
    let trade = trade_number(id, attempt["number"].as_u64().unwrap());
    world.simulators.pay(&trade).await;

    let told = receiver.line(&["new ", " order.paid ", id, " paid"]).await;
    let event = told.split(' ').nth(1).unwrap().to_owned();
    let enrolled = format!("ZK202104-000123 {SUBJECT} 14000\n");
    assert_eq!(school.enrolled(id).as_deref(), Some(&*enrolled));
    let kept = school.kept(id).unwrap();
    assert_eq!(kept["items"][1]["name"], "大学语文");
    assert_eq!(school.order(&["query", id])["status"], "paid");

    // Once more, under the same id: nothing happens twice.
    let path = format!("/v1/events/{event}/resend");
    let accepted = school.merchant.post(&path, &json!({})).await;
    assert!((200..300).contains(&accepted.status), "{}", accepted.json());
    receiver.line(&["repeated ", &event]).await;
    assert_eq!(school.enrolled(id).as_deref(), Some(&*enrolled));
    assert_eq!(school.kept(id), Some(kept.clone()));

    receiver.believes_only_what_is_true(&school, id).await;
    assert_eq!(
        school.kept(id),
        Some(kept),
        "the highest version stays, whatever comes later"
    );

    let refund = school.order(&["refund", id, "TK-1", "3500", "停考"]);
    assert_eq!(refund["amount"], "3500");
    receiver.line(&["new ", " refund.succeeded ", id]).await;
    let path = format!("/v1/orders/{id}/refunds/{}", refund["id"]);
    let refund = school.merchant.get(&path).await.expect(200);
    assert_eq!(refund["reason"], "停考");
    assert_eq!(school.order(&["read", id])["refund_status"], "partial");
    let refused = school.fail(&["refund", id, "TK-2", "10501", "停考"]);
    assert!(refused.contains("409 refund_exceeds_captured"), "{refused}");
    assert!(refused.contains("(req_"), "{refused}");
    let refused = school.fail(&["cancel", id]);
    assert!(refused.contains("409 already_paid"), "{refused}");

    let other = school.order(&["create", "ZK202104-000124"]);
    let closed = school.order(&["cancel", &other["id"]]);
    assert_eq!(
        (&closed["id"], &*closed["status"]),
        (&other["id"], "closed")
    );
    receiver
        .line(&["new ", " order.closed ", &other["id"], " closed"])
        .await;
    assert_eq!(school.enrolled(&other["id"]), None);

    world.rest().await;
    assert_eq!(world.gateway.terminate().await.code(), Some(0));
    world.check().await;
}

#[tokio::test]
async fn curl() {
    takes_payments(Language::Curl, Wechat).await;
}

#[tokio::test]
async fn java() {
    takes_payments(Language::Java, Alipay).await;
}

#[tokio::test]
async fn php() {
    takes_payments(Language::Php, Wechat).await;
}

#[tokio::test]
async fn python() {
    takes_payments(Language::Python, Alipay).await;
}

#[test]
fn the_published_example_is_what_the_gateway_makes_of_it() {
    let lines: Vec<_> = PUBLISHED.lines().collect();
    let [
        method,
        path,
        timestamp,
        nonce,
        body,
        header,
        webhook,
        verdicts,
        "self-check: ok",
    ] = lines[..]
    else {
        panic!("{lines:?}");
    };
    let (key_id, secret) = (
        "key_01KAH8Z6D0W2F4M6P8R0T2V4X6",
        "sk_example_do_not_use_4f6a0c1d2e3b",
    );
    let text = auth::string_to_sign(method, path, timestamp, nonce, body.as_bytes());
    assert!(PUBLISHED.starts_with(std::str::from_utf8(&text).unwrap()));
    let seconds: i64 = timestamp.parse().unwrap();
    let signature = auth::sign(method, path, seconds, nonce, body.as_bytes(), secret);
    let whole = auth::authorization(key_id, seconds, nonce, &signature);
    assert_eq!(header, format!("Authorization: {whole}"));

    // The webhook by another's implementation.
    let judge =
        standardwebhooks::Webhook::new("whsec_YW4gZXhhbXBsZSBrZXksIG5vdCBmb3IgdXNlIQ==").unwrap();
    let id = "evt_01KAH8Z6D0W2F4M6P8R0T2V4X6";
    let body = format!(
        r#"{{"id":"{id}","type":"order.paid","data":{{"order":{{"subject":"{SUBJECT}"}}}}}}"#
    );
    let signature = judge.sign(id, seconds, body.as_bytes()).unwrap();
    assert_eq!(webhook, format!("webhook-signature: {signature}"));
    assert_eq!(verdicts, "genuine genuine signature signature timestamp");
}
