//! The books, their survival, and keys made at first start.

use super::*;

#[tokio::test]
async fn the_books_survive_a_restart_and_the_notice_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("simulator.json");
    let merchant = Merchant::open(&[FAIL_500, ACK_204]).await;
    let mut first = options();
    first.state_file = Some(file.clone());
    first.retry_divisor = 1;
    let world = World::with(first);
    world.make_native("EP2026BOOKS1", &merchant.address).await;
    let (status, _) = world
        .control("/control/pay", &json!({ "out_trade_no": "EP2026BOOKS1" }))
        .await;
    assert_eq!(status, 200);
    merchant.wait_for(1).await;
    until(|| (world.notices(Wallet::Wechat, "EP2026BOOKS1") == [(false, 1)]).then_some(())).await;
    world.simulator.stop().await;
    let mut second = options();
    second.state_file = Some(file);
    let world = World::with(second);
    assert_eq!(
        world.wechat_state("EP2026BOOKS1").await["trade_state"],
        "SUCCESS"
    );
    merchant.wait_for(2).await;
    until(|| (world.notices(Wallet::Wechat, "EP2026BOOKS1") == [(true, 2)]).then_some(())).await;
    let books: Value = world
        .client
        .get(world.at("/control/books?out_trade_no=EP2026BOOKS1"))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let trade = &books["trades"][0];
    assert_eq!(trade["captured"], 12850);
    assert_eq!(trade["captures"].as_array().unwrap().len(), 1);
    assert_eq!(trade["notices"][0]["sent"], 2);
}

#[tokio::test]
async fn books_that_cannot_be_read_stop_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("simulator.json");
    std::fs::write(&file, "{ not json").unwrap();
    let mut options = options();
    options.state_file = Some(file);
    let clock = Arc::new(ManualClock::at(Timestamp::from_seconds(HOUR)));
    let error = simulator::start(options, clock, Arc::new(SystemRandom)).unwrap_err();
    assert!(error.to_string().contains("move the file away"), "{error}");
}

#[tokio::test]
async fn demo_keys_fit_together_and_survive_json() {
    let clock = ManualClock::at(Timestamp::from_seconds(HOUR));
    let keys = simulator::keys::generate(&clock, &SystemRandom).unwrap();
    let text = serde_json::to_string(&keys).unwrap();
    let keys: simulator::keys::DemoKeys = serde_json::from_str(&text).unwrap();
    assert_eq!(keys.wechat.api_v3_key.len(), 32);
    assert_eq!(keys.wechat.merchant_certificate_serial.len(), 40);
    assert!(verifies(
        &keys.alipay.app_public_key_pem,
        "message",
        &sign(&keys.alipay.app_private_key_pem, "message")
    ));
    assert!(!format!("{keys:?}").contains("BEGIN"));
    let options = Options::new(
        "127.0.0.1:0".parse().unwrap(),
        keys.wechat_options(),
        keys.alipay_options(),
    );
    assert!(!format!("{options:?}").contains(&keys.wechat.api_v3_key));
    let simulator =
        simulator::start(options, Arc::new(clock.clone()), Arc::new(SystemRandom)).unwrap();
    // The merchant's half signs what the provider's half verifies.
    let path = "/v3/certificates";
    let message = format!("GET\n{path}\n{HOUR}\nN\n\n");
    let header = format!(
        "WECHATPAY2-SHA256-RSA2048 mchid=\"{}\",nonce_str=\"N\",timestamp=\"{HOUR}\",serial_no=\"{}\",signature=\"{}\"",
        keys.wechat.mchid,
        keys.wechat.merchant_certificate_serial,
        sign(&keys.wechat.merchant_private_key_pem, &message)
    );
    let answer = reqwest::Client::new()
        .get(format!("{}{path}", simulator.origin()))
        .header("accept", "*/*")
        .header("user-agent", "test")
        .header("authorization", header)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    simulator.stop().await;
}
