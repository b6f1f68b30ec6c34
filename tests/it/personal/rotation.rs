//! Rotation of the field keys on a gateway that goes on taking payments.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::merchant::new_order;
use crate::support::student::{Alipay, Wechat};
use crate::support::{World, eventually};

const KEYS: &str = "ENROLLPAY__SECRETS__FIELD_KEYS";

fn key(number: u8) -> String {
    format!("{number}:{}", STANDARD.encode([number; 32]))
}

/// Values under key 1 that are still to be brought over.
fn left(status: &Value) -> u64 {
    status["left"].as_u64().unwrap()
}

#[tokio::test]
async fn keys_are_rotated_under_load_through_a_kill_and_the_older_one_can_go() {
    const ORDERS: u32 = 400;
    let old = key(1);
    let both = format!("{},{}", key(1), key(2));
    let mut world = World::start(&[("SECRETS__FIELD_KEYS", &old)]).await;
    let one = new_order(&json!({ "metadata": { "note": "kept" } }));
    let first = world.merchant.insist("/v1/orders", &one, "first").await;
    let first = first.expect(201);
    let paid = world.ask(Wechat).await;
    world.simulators.pay(&paid.trade).await;
    let told = world.receiver.wait(&paid.order, "order.paid").await;
    for _ in 0..ORDERS / 20 {
        let merchant = &world.merchant;
        futures_util::future::join_all((0..20).map(|_| merchant.create())).await;
    }
    world.gateway.terminate().await;

    // Without its key a store is not opened.
    let mut lacking = world.gateway.second(&[(KEYS, &key(2))]);
    let status = lacking.end(Duration::from_secs(20)).await;
    assert_eq!(status.code(), Some(78));
    let said = std::fs::read_to_string(world.gateway.store().with_file_name("second.log")).unwrap();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(
        said.contains("secrets.field_keys: found keys 2, expected key 1 as well"),
        "{said}"
    );

    // With both, payments go on while the job works, and a kill in its middle loses nothing.
    let crash = ("ENROLLPAY_CRASH", "reseal:3");
    world.gateway.launch(&[(KEYS, &both), crash]);
    world.gateway.ready().await;
    let before = left(&world.gateway.operate(&["personal", "status"]));
    assert!(before > u64::from(ORDERS), "{before}");
    let over = AtomicBool::new(false);
    let made = AtomicU32::new(0);
    let (gateway, merchant) = (&world.gateway, &world.merchant);
    let kill = async {
        eventually("an order", Duration::from_secs(30), async || {
            (made.load(Ordering::SeqCst) > 0).then_some(())
        })
        .await;
        let mut job = gateway.begin(&["personal", "reencrypt"], &[(KEYS, &both)]);
        gateway.crashed(Duration::from_secs(30)).await;
        over.store(true, Ordering::SeqCst);
        gateway.launch(&[(KEYS, &both)]);
        gateway.ready().await;
        job.end(Duration::from_secs(20)).await;
    };
    let load = async {
        while !over.load(Ordering::SeqCst) {
            let body = new_order(&json!({}));
            let key = body["merchant_order_no"].as_str().unwrap().to_owned();
            let answer = merchant.insist("/v1/orders", &body, &key).await;
            assert!([200, 201].contains(&answer.status), "{}", answer.json());
            made.fetch_add(1, Ordering::SeqCst);
        }
    };
    tokio::join!(kill, load);
    let status = world.gateway.operate(&["personal", "status"]);
    let remaining = left(&status);
    assert!(0 < remaining && remaining < before, "{status}");

    let done = world
        .gateway
        .run_with(&["personal", "reencrypt"], &[(KEYS, &both)]);
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    let status = world.gateway.operate(&["personal", "status"]);
    assert_eq!(left(&status), 0, "{status}");
    for count in status["values"].as_array().unwrap() {
        assert_eq!(count["key"], 2, "{status}");
    }

    // The older key goes, and everything opens: keys, people, answers, events, secrets.
    world.gateway.terminate().await;
    world.gateway.launch(&[(KEYS, &key(2))]);
    world.gateway.ready().await;
    let id = first["id"].as_str().unwrap();
    let read = world.merchant.order(id).await;
    assert_eq!(read["payer"]["ref"], one["payer"]["ref"]);
    assert_eq!(read["metadata"]["note"], "kept");
    let replayed = world.merchant.insist("/v1/orders", &one, "first").await;
    assert_eq!(replayed.expect(201), first);
    let resend = world
        .gateway
        .run_with(&["event", "resend", &told.id], &[(KEYS, &key(2))]);
    assert!(resend.status.success());
    let deliveries = eventually("the event once more", Duration::from_secs(20), async || {
        let all = world.receiver.deliveries(&paid.order);
        (all.len() > 1).then_some(all)
    })
    .await;
    for delivery in &deliveries {
        assert_eq!((&delivery.id, &delivery.body), (&told.id, &told.body), "E4");
    }
    // And money still comes in.
    let another = world.ask(Alipay).await;
    world.simulators.pay(&another.trade).await;
    world.merchant.until_status(&another.order, "paid").await;
    world.gateway.set("SECRETS__FIELD_KEYS", &key(2));
    world.finish().await;
}
