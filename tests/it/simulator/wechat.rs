//! `WeChat` Pay: order, payment, notice, re-entry, close, refund, certificates, OAuth.

use super::*;

#[tokio::test]
async fn an_order_is_paid_and_the_notice_says_so() {
    let world = World::open();
    let merchant = Merchant::open(&[ACK_204]).await;
    let code = world
        .make_native("EP20260101080000000001", &merchant.address)
        .await;
    assert!(code.starts_with("weixin://wxpay/bizpayurl?pr="));
    assert_eq!(
        world.wechat_state("EP20260101080000000001").await["trade_state"],
        "NOTPAY"
    );
    let (status, _) = world
        .control(
            "/control/scan",
            &json!({ "content": code, "user": "zhangsan" }),
        )
        .await;
    assert_eq!(status, 200);
    // A scan shows nowhere at WeChat.
    assert_eq!(
        world.wechat_state("EP20260101080000000001").await["trade_state"],
        "NOTPAY"
    );
    let (status, trade) = world
        .control(
            "/control/pay",
            &json!({ "out_trade_no": "EP20260101080000000001", "user": "zhangsan" }),
        )
        .await;
    assert_eq!((status, &trade["captured"]), (200, &json!(12850)));
    let arrived = merchant.wait_for(1).await;
    let told = world.open_wechat_notice(&arrived[0]).expect("signed");
    let asked = world.wechat_state("EP20260101080000000001").await;
    assert_eq!(told, asked, "the notice and the query tell one story");
    assert_eq!(told["trade_state"], "SUCCESS");
    assert_eq!(told["trade_type"], "NATIVE");
    assert_eq!(told["amount"]["total"], 12850);
    assert_eq!(told["success_time"], "2026-01-01T08:00:00+08:00");
    until(|| {
        (world.notices(Wallet::Wechat, "EP20260101080000000001") == [(true, 1)]).then_some(())
    })
    .await;
    assert_eq!(
        world.close_wechat("EP20260101080000000001").await.1["code"],
        "ORDERPAID"
    );
}

#[tokio::test]
async fn the_published_signed_request_is_accepted() {
    let world = World::open();
    let derived = vectors("wechat-v3-derived");
    let request = derived["requests"]
        .as_array()
        .unwrap()
        .iter()
        .find(|request| request["id"] == "native-prepay")
        .unwrap();
    let merchant = &world.wechat["merchant"];
    let header = format!(
        "WECHATPAY2-SHA256-RSA2048 signature=\"{}\",mchid=\"{}\",nonce_str=\"{}\",timestamp=\"{}\",serial_no=\"{}\"",
        sign(
            text(&merchant["private_key_pem"]),
            text(&request["message"])
        ),
        text(&merchant["mchid"]),
        text(&request["nonce_str"]),
        text(&request["timestamp"]),
        text(&merchant["certificate_serial_no"]),
    );
    let answer = world
        .client
        .post(world.at(text(&request["url_path_and_query"])))
        .header("accept", "application/json")
        .header("content-type", "application/json")
        .header("authorization", header)
        .body(text(&request["body"]).to_owned())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    // Without Wechatpay-Serial the certificate signs.
    assert_eq!(
        answer.headers()["wechatpay-serial"],
        text(&world.wechat["wechat_pay"]["platform_certificate_serial_no"])
    );
}

#[tokio::test]
async fn signatures_are_checked_in_the_providers_order() {
    let world = World::open();
    let path = "/v3/pay/transactions/out-trade-no/EP2026?mchid=1900000001";
    let stale = world.authorization("GET", path, "", HOUR - 301);
    let good = world.authorization("GET", path, "", HOUR);
    let other_path =
        world.authorization("GET", "/v3/pay/transactions/out-trade-no/EP2026", "", HOUR);
    let twice = format!("{good},mchid=\"1900000001\"");
    for (header, expected) in [
        (None, "签名信息错误，验签失败"),
        (Some("Bearer x".to_owned()), "Http头Authorization值格式错误"),
        (Some(twice), "Http头Authorization值格式错误"),
        (Some(stale), "timestamp与发起请求的时间不得超过5分钟"),
        (Some(other_path), "签名错误"),
    ] {
        let mut request = world.client.get(world.at(path)).header("accept", "*/*");
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 401);
        assert!(answer.headers().get("wechatpay-signature").is_none());
        assert!(answer.headers().get("request-id").is_none());
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["code"], "SIGN_ERROR");
        assert!(text(&body["message"]).contains(expected), "{body}");
    }
    let unknown = world.wechat("GET", path, &Value::Null).await;
    assert_eq!(
        (unknown.0, &unknown.1["code"]),
        (404, &json!("ORDER_NOT_EXIST"))
    );
}

#[tokio::test]
async fn wrong_paths_and_methods_answer_with_nothing() {
    let world = World::open();
    for (method, path, status) in [
        ("GET", "/v3/pay/transactions/native", 405),
        ("POST", "/v3/nothing", 404),
    ] {
        let answer = world.wechat_request(method, path, "").send().await.unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.bytes().await.unwrap().len(), 0);
    }
    let answer = world
        .client
        .get(world.at("/v3/certificates"))
        .header("accept", "*/*")
        .header("user-agent", "")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 400);
}

#[tokio::test]
async fn fields_are_held_to_their_rules() {
    let world = World::open();
    let cases = [
        ("/out_trade_no", json!("short"), "PARAM_ERROR"),
        ("/out_trade_no", json!("has blank 123"), "PARAM_ERROR"),
        ("/description", json!("报名费😀"), "PARAM_ERROR"),
        ("/description", json!("长".repeat(128)), "PARAM_ERROR"),
        ("/description", Value::Null, "PARAM_ERROR"),
        ("/amount/total", json!(0), "PARAM_ERROR"),
        ("/amount/total", json!(1.5), "PARAM_ERROR"),
        ("/amount/currency", json!("USD"), "PARAM_ERROR"),
        (
            "/notify_url",
            json!("http://school.example/notify"),
            "PARAM_ERROR",
        ),
        (
            "/notify_url",
            json!("https://school.example/notify?x=1"),
            "PARAM_ERROR",
        ),
        ("/time_expire", json!("2026-01-01 08:03:00"), "PARAM_ERROR"),
        ("/mchid", json!("1900000009"), "PARAM_ERROR"),
        (
            "/appid",
            json!("wx0000000000000000"),
            "APPID_MCHID_NOT_MATCH",
        ),
    ];
    for (pointer, value, code) in cases {
        let mut order = world.native_order("EP2026FIELDS", "http://127.0.0.1:9");
        *order.pointer_mut(pointer).unwrap() = value;
        let (status, body) = world
            .wechat("POST", "/v3/pay/transactions/native", &order)
            .await;
        assert_eq!(
            (status, &body["code"]),
            (400, &json!(code)),
            "{pointer} {body}"
        );
    }
    let mut order = world.native_order("EP2026FIELDS", "http://127.0.0.1:9");
    order["extra"] = json!(1);
    let (status, body) = world
        .wechat("POST", "/v3/pay/transactions/native", &order)
        .await;
    assert_eq!((status, &body["detail"]["field"]), (400, &json!("/extra")));
    assert!(
        world
            .simulator
            .handle()
            .trade(Wallet::Wechat, "EP2026FIELDS")
            .is_none()
    );
}

#[tokio::test]
async fn a_number_is_repeated_identically_or_not_at_all() {
    let world = World::open();
    let nowhere = "http://127.0.0.1:9";
    let first = world.make_native("EP2026AGAIN", nowhere).await;
    let second = world.make_native("EP2026AGAIN", nowhere).await;
    assert_ne!(first, second);
    let (status, body) = world
        .control("/control/scan", &json!({ "content": first }))
        .await;
    assert_eq!((status, &body["error"]), (409, &json!("code_dead")));
    let mut other = world.native_order("EP2026AGAIN", nowhere);
    other["amount"]["total"] = json!(12851);
    let changed = world
        .wechat("POST", "/v3/pay/transactions/native", &other)
        .await;
    assert_eq!(
        (changed.0, &changed.1["code"]),
        (403, &json!("OUT_TRADE_NO_USED"))
    );
    let mut jsapi = world.native_order("EP2026AGAIN", nowhere);
    let handle = world.simulator.handle();
    let (_, openid) = handle.meet(Wallet::Wechat, "zhangsan").unwrap();
    jsapi["payer"] = json!({ "openid": openid });
    let moved = world
        .wechat("POST", "/v3/pay/transactions/jsapi", &jsapi)
        .await;
    assert_eq!(moved.1["code"], "OUT_TRADE_NO_USED");
    assert_eq!(world.close_wechat("EP2026AGAIN").await.0, 204);
    assert_eq!(
        world.close_wechat("EP2026AGAIN").await.0,
        204,
        "close is re-entrant"
    );
    let order = world.native_order("EP2026AGAIN", nowhere);
    let closed = world
        .wechat("POST", "/v3/pay/transactions/native", &order)
        .await;
    assert_eq!((closed.0, &closed.1["code"]), (400, &json!("ORDER_CLOSED")));
    let (status, body) = world
        .control("/control/pay", &json!({ "out_trade_no": "EP2026AGAIN" }))
        .await;
    assert_eq!((status, &body["error"]), (409, &json!("closed")));
}

#[tokio::test]
async fn only_the_first_account_pays_and_only_in_time() {
    let world = World::open();
    let code = world
        .make_native("EP2026TIME01", "http://127.0.0.1:9")
        .await;
    let scan = |user: &str| json!({ "content": code, "user": user });
    assert_eq!(
        world.control("/control/scan", &scan("zhangsan")).await.0,
        200
    );
    assert_eq!(
        world.control("/control/scan", &scan("lisi")).await.1["error"],
        "other_payer"
    );
    assert_eq!(
        world.control("/control/scan", &scan("wangwu")).await.1["error"],
        "other_wallet"
    );
    // Begun in time, finished late: the money moves.
    world.clock.advance_ms(200_000);
    let late = json!({ "out_trade_no": "EP2026TIME01", "user": "zhangsan" });
    assert_eq!(world.control("/control/pay_late", &late).await.0, 200);
    // Never begun, and the time is over: refused, and still not closed.
    world.clock.set(Timestamp::from_seconds(HOUR));
    world
        .make_native("EP2026TIME02", "http://127.0.0.1:9")
        .await;
    world.clock.advance_ms(180_001);
    let late = json!({ "out_trade_no": "EP2026TIME02" });
    assert_eq!(
        world.control("/control/pay", &late).await.1["error"],
        "expired"
    );
    assert_eq!(
        world.wechat_state("EP2026TIME02").await["trade_state"],
        "NOTPAY"
    );
}

#[tokio::test]
async fn notices_are_repeated_with_a_fresh_signature_until_acknowledged() {
    let world = World::open();
    let merchant = Merchant::open(&[FAIL_500, FAIL_500, ACK_204]).await;
    world.make_native("EP2026RETRY1", &merchant.address).await;
    world
        .control("/control/pay", &json!({ "out_trade_no": "EP2026RETRY1" }))
        .await;
    let arrived = merchant.wait_for(3).await;
    let ids: Vec<Value> = arrived
        .iter()
        .map(|one| serde_json::from_str::<Value>(&one.body).unwrap()["id"].clone())
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0]));
    let nonces: std::collections::BTreeSet<_> = arrived
        .iter()
        .map(|one| &one.head["wechatpay-nonce"])
        .collect();
    assert_eq!(nonces.len(), 3);
    assert!(
        arrived
            .iter()
            .all(|one| world.open_wechat_notice(one).is_some())
    );
    until(|| (world.notices(Wallet::Wechat, "EP2026RETRY1") == [(true, 3)]).then_some(())).await;
}

#[tokio::test]
async fn refunds_are_idempotent_by_number() {
    let world = World::open();
    let merchant = Merchant::open(&[ACK_204]).await;
    world.make_native("EP2026REFUND", &merchant.address).await;
    let refund = |number: &str, fen: i64| {
        json!({
            "out_trade_no": "EP2026REFUND", "out_refund_no": number, "reason": "surplus",
            "notify_url": format!("{}/callbacks/wechatpay/school", merchant.address),
            "amount": { "refund": fen, "total": 12850, "currency": "CNY" },
        })
    };
    let path = "/v3/refund/domestic/refunds";
    let unpaid = world.wechat("POST", path, &refund("RF-1", 12850)).await;
    assert_eq!(
        (unpaid.0, &unpaid.1["code"]),
        (404, &json!("RESOURCE_NOT_EXISTS"))
    );
    world
        .control("/control/pay", &json!({ "out_trade_no": "EP2026REFUND" }))
        .await;
    let first = world.wechat("POST", path, &refund("RF-1", 12850)).await;
    let again = world.wechat("POST", path, &refund("RF-1", 12850)).await;
    assert_eq!((first.0, &first.1), (200, &again.1));
    assert_eq!(
        world.wechat("POST", path, &refund("RF-1", 12849)).await.0,
        400
    );
    assert_eq!(world.wechat("POST", path, &refund("RF-2", 1)).await.0, 400);
    let asked = world
        .wechat("GET", "/v3/refund/domestic/refunds/RF-1", &Value::Null)
        .await;
    assert_eq!(asked.1["status"], "SUCCESS");
    assert_eq!(
        world.wechat_state("EP2026REFUND").await["trade_state"],
        "REFUND"
    );
    let arrived = merchant.wait_for(2).await;
    let told = world.open_wechat_notice(&arrived[1]).unwrap();
    assert_eq!(told["refund_status"], "SUCCESS");
    let trade = world
        .simulator
        .handle()
        .trade(Wallet::Wechat, "EP2026REFUND")
        .unwrap();
    assert_eq!((trade.refunds.len(), trade.refunded()), (1, 12850));
}

#[tokio::test]
async fn platform_certificates_are_listed_and_rotated() {
    let world = World::open();
    let (status, body) = world.wechat("GET", "/v3/certificates", &Value::Null).await;
    assert_eq!(status, 200);
    assert_eq!(
        body["data"][0]["serial_no"],
        world.wechat["wechat_pay"]["platform_certificate_serial_no"]
    );
    let sealed = &body["data"][0]["encrypt_certificate"];
    let key = text(&world.wechat["merchant"]["api_v3_key"]).as_bytes();
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap());
    let mut bytes = STANDARD.decode(text(&sealed["ciphertext"])).unwrap();
    let pem = key
        .open_in_place(
            Nonce::try_assume_unique_for_key(text(&sealed["nonce"]).as_bytes()).unwrap(),
            Aad::from(b"certificate"),
            &mut bytes,
        )
        .unwrap();
    assert_eq!(
        std::str::from_utf8(pem).unwrap(),
        text(&world.wechat["wechat_pay"]["platform_certificate_pem"])
    );
    let (_, rotated) = world.control("/control/rotate", &json!({})).await;
    let (_, body) = world.wechat("GET", "/v3/certificates", &Value::Null).await;
    assert_eq!(body["data"].as_array().unwrap().len(), 2);
    assert_eq!(body["data"][1]["serial_no"], rotated["serial_no"]);
}

#[tokio::test]
async fn oauth_codes_work_once_and_for_five_minutes() {
    let world = World::open();
    let appid = text(&world.wechat["merchant"]["appid"]);
    let authorize = |appid: &str, back: &str| {
        format!(
            "{}?appid={appid}&redirect_uri={back}&response_type=code&scope=snsapi_base&state=5ca1ab1e",
            world.at("/connect/oauth2/authorize")
        )
    };
    let back = "http%3A%2F%2F127.0.0.1%3A8080%2Fs%2Fabc";
    let get = |address: String| {
        world
            .client
            .get(address)
            .header("x-simulator-user", "lisi")
            .send()
    };
    let code = |answer: &reqwest::Response| {
        let place = answer.headers()["location"].to_str().unwrap();
        let url = url::Url::parse(place).unwrap();
        assert_eq!(url.path(), "/s/abc");
        let pairs: BTreeMap<_, _> = url.query_pairs().into_owned().collect();
        assert_eq!(pairs["state"], "5ca1ab1e");
        pairs["code"].clone()
    };
    let exchange = |code: &str, secret: &str| {
        world.client.get(format!(
            "{}?appid={appid}&secret={secret}&code={code}&grant_type=authorization_code",
            world.at("/sns/oauth2/access_token")
        ))
    };
    let read = |request: reqwest::RequestBuilder| async {
        let text = request.send().await.unwrap().text().await.unwrap();
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let secret = "0123456789abcdef0123456789abcdef";
    let answer = get(authorize(appid, back)).await.unwrap();
    assert_eq!(answer.status(), 302);
    let first = code(&answer);
    assert_eq!(read(exchange(&first, "wrong")).await["errcode"], 40125);
    let known = read(exchange(&first, secret)).await;
    let (_, openid) = world
        .simulator
        .handle()
        .meet(Wallet::Wechat, "lisi")
        .unwrap();
    assert_eq!(known["openid"], json!(openid));
    assert_eq!(read(exchange(&first, secret)).await["errcode"], 40163);
    assert_eq!(read(exchange("nonsense", secret)).await["errcode"], 40029);
    let second = code(&get(authorize(appid, back)).await.unwrap());
    world.clock.advance_ms(300_001);
    assert_eq!(read(exchange(&second, secret)).await["errcode"], 40029);
    for address in [
        authorize("wx0", back),
        authorize(appid, "https%3A%2F%2Fevil.example%2F"),
    ] {
        assert_eq!(get(address).await.unwrap().status(), 200);
    }
    // No wallet, no code.
    let plain = world
        .client
        .get(authorize(appid, back))
        .send()
        .await
        .unwrap();
    assert_eq!(plain.status(), 200);
}

/// The members of `payer.identity`, sealed anew each time.
fn identity(world: &World, name: &str, number: &str) -> Value {
    json!({ "type": "IDCARD", "number": world.sealed(number), "name": world.sealed(name) })
}

#[tokio::test]
async fn only_the_named_person_pays_with_jsapi() {
    let world = World::open();
    let handle = world.simulator.handle();
    let order = |number: &str, user: &str| {
        let mut order = world.native_order(number, "http://127.0.0.1:9");
        let (_, openid) = handle.meet(Wallet::Wechat, user).unwrap();
        order["payer"] = json!({
            "openid": openid, "identity": identity(&world, "张三", "650102199901050014"),
        });
        order
    };
    let make = async |order: &Value| {
        let (status, body) = world
            .wechat("POST", "/v3/pay/transactions/jsapi", order)
            .await;
        (status, body["code"].as_str().map(str::to_owned))
    };
    let refused = make(&order("EP2026NAMED1", "lisi")).await;
    assert_eq!(refused, (403, Some("NAME_MISMATCH".to_owned())));
    assert!(handle.trade(Wallet::Wechat, "EP2026NAMED1").is_none());
    // The same order again, under another ciphertext, is the same order; about another person it is not.
    for _ in 0..2 {
        assert_eq!(make(&order("EP2026NAMED1", "zhangsan")).await, (200, None));
    }
    let mut unnamed = order("EP2026NAMED1", "zhangsan");
    unnamed["payer"].as_object_mut().unwrap().remove("identity");
    let changed = make(&unnamed).await;
    assert_eq!(changed, (403, Some("OUT_TRADE_NO_USED".to_owned())));
    let mut unreadable = order("EP2026NAMED2", "zhangsan");
    unreadable["payer"]["identity"]["name"] = json!("张三");
    let refused = make(&unreadable).await;
    assert_eq!(refused, (400, Some("PARAM_ERROR".to_owned())));
    let pay = json!({ "out_trade_no": "EP2026NAMED1", "user": "zhangsan" });
    assert_eq!(world.control("/control/pay", &pay).await.0, 200);
}

#[tokio::test]
async fn only_the_named_person_pays_a_native_code() {
    let world = World::open();
    let (status, met) = world
        .control(
            "/control/users",
            &json!({ "wallet": "wechat", "user": "somebody" }),
        )
        .await;
    assert_eq!(status, 200);
    let real = &met["real_name"];
    let mut order = world.native_order("EP2026NAMED3", "http://127.0.0.1:9");
    order["payer"] = json!({
        "identity": identity(&world, text(&real["name"]), text(&real["id_number"])),
    });
    let (status, body) = world
        .wechat("POST", "/v3/pay/transactions/native", &order)
        .await;
    assert_eq!(status, 200, "{body}");
    let code = text(&body["code_url"]);
    for user in ["zhangsan", "lisi"] {
        let scan = json!({ "content": code, "user": user });
        let (status, refused) = world.control("/control/scan", &scan).await;
        assert_eq!((status, &refused["error"]), (409, &json!("other_person")));
    }
    let token = code.rsplit('=').next().unwrap();
    let page = world
        .client
        .get(world.at(&format!("/wallet/pay?token={token}&user=lisi")))
        .send()
        .await
        .unwrap();
    assert_eq!(page.status(), 409);
    assert!(page.text().await.unwrap().contains("实名"));
    // Nobody was bound by their tries.
    let pay = json!({ "out_trade_no": "EP2026NAMED3", "user": "somebody" });
    let (status, trade) = world.control("/control/pay", &pay).await;
    assert_eq!((status, &trade["captured"]), (200, &json!(12850)));
    // The books tell what they always told.
    assert!(!trade.to_string().contains(text(&real["id_number"])));
}
