//! What must stay private stays out of everything that is written beside its sealed place: panics,
//! refusals of the store, core files; and shows only as much as the merchant's masks allow.

use std::time::Duration;

use enrollpay::order::AccountId;
use enrollpay::store::{Rejection, Write};
use serde_json::json;

use super::bench::*;
use crate::store::sample::*;
use crate::support::process::Process;
use crate::support::{World, eventually};

const CANARY: &str = "金丝雀-650102199902309983";

#[cfg(feature = "fault-injection")]
#[tokio::test]
async fn a_panic_says_where_and_never_what() {
    let world = World::start(&[]).await;
    world.gateway.terminate().await;
    world
        .gateway
        .launch(&[("ENROLLPAY_PANIC", "c1"), ("ENROLLPAY_PANIC_WORDS", CANARY)]);
    world.gateway.ready().await;
    let body = crate::support::merchant::new_order(&json!({}));
    let order = world.merchant.insist("/v1/orders", &body, "once").await;
    order.expect(201);
    let log = world.gateway.log();
    assert!(log.contains("panicked"), "{log}");
    assert!(log.contains("src/faults.rs"), "{log}");
    assert!(!log.contains(CANARY), "{log}");
    world.finish().await;
}

#[tokio::test]
async fn a_refusal_of_the_store_quotes_no_value() {
    let bench = Bench::new();
    let keys = sealer(&[OLD]);
    bench.furnish(&keys).await;
    let canary = || enrollpay::sealing::Sealed(CANARY.as_bytes().to_vec());
    let nowhere = Write::Personal {
        order: order_id(99),
        slot: CANARY.to_owned(),
        sealed: canary(),
    };
    let twice = Write::IdempotencyFinished {
        merchant: merchant_id(1),
        key: CANARY.to_owned(),
        status: 200,
        answer: canary(),
        order: None,
    };
    let unknown = Write::EvidenceErased {
        account: AccountId::new(CANARY),
        reference: CANARY.to_owned(),
    };
    for write in [nowhere, twice, unknown] {
        let verdict = bench.commit(writes([write])).await;
        let Err(Rejection::RuleBroken { rule }) = verdict else {
            panic!("{verdict:?}");
        };
        assert!(!rule.contains(CANARY), "{rule}");
    }
}

#[tokio::test]
async fn production_leaves_no_image_of_its_memory() {
    let key = |number: u8| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode([number; 32])
    };
    let field_key = format!("1:{}", key(1));
    let (index_key, token_key) = (key(2), key(3));
    let world = World::start(&[]).await;
    let store = world.gateway.store().with_file_name("production.db");
    let store = format!("sqlite:{}", store.display());
    let socket = world.gateway.store().with_file_name("production.sock");
    let environment = [
        ("ENROLLPAY__MODE", "production"),
        ("ENROLLPAY__SERVER__LISTEN", "127.0.0.1:0"),
        ("ENROLLPAY__ADMIN__LISTEN", "127.0.0.1:0"),
        ("ENROLLPAY__CONSOLE__LISTEN", "127.0.0.1:0"),
        ("ENROLLPAY__ADMIN__SOCKET", socket.to_str().unwrap()),
        (
            "ENROLLPAY__SERVER__PUBLIC_URL",
            "https://pay.example.edu.cn",
        ),
        ("ENROLLPAY__STORE__URL", &store),
        ("ENROLLPAY__SECRETS__FIELD_KEYS", &field_key),
        ("ENROLLPAY__SECRETS__INDEX_KEY", &index_key),
        ("ENROLLPAY__SECRETS__TOKEN_KEY", &token_key),
    ];
    // Real providers are spoken to over TLS alone; none is, before somebody pays.
    let accounts = std::fs::read_to_string(world.simulators.accounts()).unwrap();
    let config = world.gateway.store().with_file_name("production.toml");
    std::fs::write(&config, accounts.replace("http://", "https://")).unwrap();
    let log = world.gateway.store().with_file_name("production.log");
    let mut command = crate::support::process::command();
    command
        .arg("serve")
        .arg("--config")
        .arg(&config)
        .envs(environment);
    let mut node = Process::start(command, log.clone());
    eventually("a production node", Duration::from_secs(20), async || {
        assert_eq!(
            node.ended(),
            None,
            "{}",
            std::fs::read_to_string(&log).unwrap()
        );
        let said = std::fs::read_to_string(&log).unwrap();
        said.contains("serving").then_some(())
    })
    .await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", node.id())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"));
    let words: Vec<_> = core.unwrap().split_whitespace().collect();
    assert_eq!(words[4..6], ["0", "0"], "{limits}");
    node.signal(rustix::process::Signal::TERM);
    node.end(Duration::from_secs(30)).await;
    world.finish().await;
}

#[tokio::test]
async fn a_merchant_may_have_stricter_masks_for_its_orders_from_now_on() {
    let world = World::start(&[]).await;
    let listed = world.gateway.operate_rows(&["merchant", "list"]);
    let own = listed.iter().find(|one| one["name"] == "测试考区").unwrap();
    let id = own["merchant_id"].as_str().unwrap();
    assert_eq!(own["masks"], "standard");
    let person = json!({ "payer": { "ref": "1", "name": "测试考生",
        "id_number": "650102200001010011", "phone": "13800000000" } });
    let shown = async || {
        let order = world.merchant.create_with(person.clone()).await;
        let page = order["cashier_url"].as_str().unwrap().to_owned();
        let page = crate::support::client().get(page).send().await.unwrap();
        (order, page.text().await.unwrap())
    };
    let (first, page) = shown().await;
    assert_eq!(first["payer"]["id_number"], "6501**********0011");
    assert_eq!(first["payer"]["phone"], "138****0000");
    assert!(page.contains("6501**********0011"));

    let set = world
        .gateway
        .operate(&["merchant", "set", id, "--masks", "strict"]);
    assert_eq!(set["masks"], "strict");
    // Keys and merchants are remembered for a moment.
    let (second, page) = eventually("strict masks", Duration::from_secs(20), async || {
        let (order, page) = shown().await;
        (order["payer"]["id_number"] != "6501**********0011").then_some((order, page))
    })
    .await;
    assert_eq!(second["payer"]["name"], "测*");
    assert_eq!(second["payer"]["id_number"], "6****************1");
    assert_eq!(second["payer"]["phone"], "138******00");
    assert!(page.contains("6****************1") && !page.contains("6501"));
    // An order is a frozen snapshot.
    let before = world.merchant.order(first["id"].as_str().unwrap()).await;
    assert_eq!(before["payer"]["id_number"], "6501**********0011");
    let wrong = world
        .gateway
        .run(&["merchant", "set", id, "--masks", "none"]);
    assert_eq!(wrong.status.code(), Some(2));
    world.finish().await;
}
