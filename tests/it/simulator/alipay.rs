//! Alipay: precreate, create, payment, notice, close, refund, WAP, OAuth.

use super::*;

fn order(number: &str) -> Value {
    json!({
        "out_trade_no": number, "total_amount": "128.50", "subject": "报名费 2026春季",
        "product_code": "QR_CODE_OFFLINE", "time_expire": "2026-01-01 08:03:00",
    })
}

fn created(world: &World, number: &str, user: &str) -> Value {
    let (_, buyer) = world.simulator.handle().meet(Wallet::Alipay, user).unwrap();
    let mut order = order(number);
    order["product_code"] = json!("JSAPI_PAY");
    order["op_app_id"] = world.alipay["app_id"].clone();
    order["buyer_id"] = json!(buyer);
    order
}

#[tokio::test]
async fn a_code_is_scanned_paid_and_told() {
    let world = World::open();
    let merchant = Merchant::open(&[ACK_ALIPAY]).await;
    let notify = format!("{}/callbacks/alipay/school", merchant.address);
    let notify = [("notify_url", notify.as_str())];
    let number = json!({ "out_trade_no": "EP20260101080000000001" });
    let body = world
        .alipay(
            "alipay.trade.precreate",
            &order("EP20260101080000000001"),
            &notify,
        )
        .await;
    assert_eq!(body["code"], "10000");
    let code = text(&body["qr_code"]);
    assert!(code.starts_with("https://qr.alipay.com/"));
    for method in ["alipay.trade.query", "alipay.trade.close"] {
        let body = world.alipay(method, &number, &[]).await;
        assert_eq!(body["sub_code"], "ACQ.TRADE_NOT_EXIST", "{method}");
    }
    let cancelled = world.alipay("alipay.trade.cancel", &number, &[]).await;
    assert_eq!(
        (&cancelled["code"], cancelled.get("action")),
        (&json!("10000"), None)
    );
    let again = world
        .alipay(
            "alipay.trade.precreate",
            &order("EP20260101080000000001"),
            &notify,
        )
        .await;
    assert_eq!(again["sub_code"], "ACQ.APPLY_PC_MERCHANT_CODE_ERROR");
    let scan = |user: &str| json!({ "content": code, "user": user });
    assert_eq!(world.control("/control/scan", &scan("wangwu")).await.0, 200);
    let seen = world.alipay("alipay.trade.query", &number, &[]).await;
    assert_eq!(seen["trade_status"], "WAIT_BUYER_PAY");
    assert!(text(&seen["buyer_logon_id"]).contains("******"));
    assert_eq!(
        world.control("/control/scan", &scan("zhaoliu")).await.0,
        409
    );
    world
        .control(
            "/control/pay",
            &json!({ "out_trade_no": "EP20260101080000000001" }),
        )
        .await;
    let arrived = merchant.wait_for(1).await;
    let told = world.open_alipay_notice(&arrived[0]).expect("signed");
    assert_eq!(told["trade_status"], "TRADE_SUCCESS");
    assert_eq!(told["total_amount"], "128.50");
    assert_eq!(told["seller_id"], text(&world.alipay["seller_id"]));
    let seen = world.alipay("alipay.trade.query", &number, &[]).await;
    assert_eq!(seen["trade_no"], json!(told["trade_no"]));
    assert_eq!(seen["send_pay_date"], "2026-01-01 08:00:00");
    let closed = world.alipay("alipay.trade.close", &number, &[]).await;
    assert_eq!(closed["sub_code"], "ACQ.TRADE_STATUS_ERROR");
}

#[tokio::test]
async fn the_published_signed_requests_are_accepted() {
    let world = World::open();
    let derived = vectors("alipay-derived");
    let send = |id: &str| {
        let request = derived["requests"]
            .as_array()
            .unwrap()
            .iter()
            .find(|request| request["id"] == id)
            .unwrap();
        let url =
            text(&request["url"]).replace("https://openapi.alipay.com", world.simulator.origin());
        world
            .client
            .post(url)
            .header(
                "content-type",
                "application/x-www-form-urlencoded;charset=utf-8",
            )
            .body(text(&request["form_body"]).to_owned())
            .send()
    };
    let precreate = send("precreate").await.unwrap().text().await.unwrap();
    let (body, good) = world.open_alipay(&precreate);
    assert!(good && body["code"] == "10000", "{precreate}");
    assert!(
        precreate.contains("https:\\/\\/qr.alipay.com\\/"),
        "slashes are escaped"
    );
    let query = send("query").await.unwrap().text().await.unwrap();
    assert_eq!(
        world.open_alipay(&query).0["sub_code"],
        "ACQ.TRADE_NOT_EXIST"
    );
}

#[tokio::test]
async fn the_application_is_looked_up_before_the_signature() {
    let world = World::open();
    let raw = world
        .alipay_raw(
            "alipay.trade.query",
            &order("X"),
            &[("app_id", "2021000000000009")],
        )
        .await;
    let (body, good) = world.open_alipay(&raw);
    assert_eq!(
        (&body["sub_code"], good),
        (&json!("isv.invalid-app-id"), false)
    );
    let mut parameters = world.alipay_parameters("alipay.trade.query", &order("X"), &[]);
    parameters.insert("timestamp".to_owned(), "2026-01-01 08:00:01".to_owned());
    let raw = world
        .client
        .post(world.at("/gateway.do?charset=utf-8"))
        .form(&parameters)
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let (body, good) = world.open_alipay(&raw);
    assert_eq!(
        (&body["sub_code"], good),
        (&json!("isv.invalid-signature"), true)
    );
    assert!(text(&body["sub_msg"]).contains("&amp;timestamp=2026-01-01 08:00:01"));
}

#[tokio::test]
async fn a_created_trade_exists_belongs_to_its_buyer_and_dies_in_time() {
    let world = World::open();
    let merchant = Merchant::open(&[ACK_ALIPAY]).await;
    let notify = format!("{}/callbacks/alipay/school", merchant.address);
    let first = world
        .alipay(
            "alipay.trade.create",
            &created(&world, "EP2026C1", "wangwu"),
            &[],
        )
        .await;
    assert_eq!(first["code"], "10000");
    let again = world
        .alipay(
            "alipay.trade.create",
            &created(&world, "EP2026C1", "wangwu"),
            &[],
        )
        .await;
    assert_eq!(first["trade_no"], again["trade_no"]);
    let other = world
        .alipay(
            "alipay.trade.create",
            &created(&world, "EP2026C1", "zhaoliu"),
            &[],
        )
        .await;
    assert_eq!(other["sub_code"], "ACQ.TRADE_BUYER_NOT_MATCH");
    let mut changed = created(&world, "EP2026C1", "wangwu");
    changed["total_amount"] = json!("128.51");
    let changed = world.alipay("alipay.trade.create", &changed, &[]).await;
    assert_eq!(changed["sub_code"], "ACQ.CONTEXT_INCONSISTENT");
    let number = json!({ "out_trade_no": "EP2026C1" });
    world.clock.advance_ms(180_001);
    let seen = world.alipay("alipay.trade.query", &number, &[]).await;
    assert_eq!(seen["trade_status"], "TRADE_CLOSED");
    assert!(seen.get("send_pay_date").is_none());
    world.clock.set(Timestamp::from_seconds(HOUR));
    world
        .alipay(
            "alipay.trade.create",
            &created(&world, "EP2026C2", "wangwu"),
            &[],
        )
        .await;
    let closed = world
        .alipay(
            "alipay.trade.close",
            &json!({ "out_trade_no": "EP2026C2" }),
            &[("notify_url", &notify)],
        )
        .await;
    assert_eq!(closed["code"], "10000");
    let arrived = merchant.wait_for(1).await;
    let told = world.open_alipay_notice(&arrived[0]).unwrap();
    assert_eq!(told["trade_status"], "TRADE_CLOSED");
    let pay = json!({ "out_trade_no": "EP2026C2", "user": "wangwu" });
    assert_eq!(
        world.control("/control/pay", &pay).await.1["error"],
        "closed"
    );
}

#[tokio::test]
async fn refunds_follow_the_rules() {
    let world = World::open();
    world
        .alipay(
            "alipay.trade.create",
            &created(&world, "EP2026R1", "wangwu"),
            &[],
        )
        .await;
    let refund = |amount: &str, number: Option<&str>| {
        let mut body = json!({ "out_trade_no": "EP2026R1", "refund_amount": amount });
        if let Some(number) = number {
            body["out_request_no"] = json!(number);
        }
        body
    };
    let call = |body: Value| {
        let world = &world;
        async move { world.alipay("alipay.trade.refund", &body, &[]).await }
    };
    assert_eq!(
        call(refund("128.50", None)).await["sub_code"],
        "ACQ.TRADE_STATUS_ERROR"
    );
    world
        .control("/control/pay", &json!({ "out_trade_no": "EP2026R1" }))
        .await;
    assert_eq!(
        call(refund("1.00", None)).await["sub_code"],
        "ACQ.REFUND_AMT_NOT_EQUAL_TOTAL"
    );
    let part = call(refund("28.50", Some("A"))).await;
    assert_eq!(
        (&part["fund_change"], &part["refund_fee"]),
        (&json!("Y"), &json!("28.50"))
    );
    let again = call(refund("28.50", Some("A"))).await;
    assert_eq!(
        (&again["fund_change"], &again["refund_fee"]),
        (&json!("N"), &json!("28.50"))
    );
    assert_eq!(
        call(refund("28.51", Some("A"))).await["sub_code"],
        "ACQ.DISCORDANT_REPEAT_REQUEST"
    );
    world.clock.advance_ms(3_000);
    assert_eq!(
        call(refund("100.01", Some("B"))).await["sub_code"],
        "ACQ.REASON_TRADE_REFUND_FEE_ERR"
    );
    let rest = call(refund("100.00", Some("B"))).await;
    assert_eq!(rest["refund_fee"], "128.50", "the sum is cumulative");
    let number = json!({ "out_trade_no": "EP2026R1" });
    let seen = world.alipay("alipay.trade.query", &number, &[]).await;
    assert_eq!(seen["trade_status"], "TRADE_CLOSED");
    assert!(
        seen.get("send_pay_date").is_some(),
        "closed, and yet it was paid"
    );
    let asked = |number: &str| json!({ "out_trade_no": "EP2026R1", "out_request_no": number });
    let method = "alipay.trade.fastpay.refund.query";
    assert_eq!(
        world.alipay(method, &asked("B"), &[]).await["refund_status"],
        "REFUND_SUCCESS"
    );
    assert_eq!(
        world.alipay(method, &asked("C"), &[]).await,
        json!({ "code": "10000", "msg": "Success" })
    );
}

#[tokio::test]
async fn wap_makes_the_trade_at_the_login() {
    let world = World::open();
    let mut wap = order("EP2026WAP1");
    wap["product_code"] = json!("QUICK_WAP_WAY");
    let more = [("return_url", "http://127.0.0.1:8080/pay/abc")];
    let parameters = world.alipay_parameters("alipay.trade.wap.pay", &wap, &more);
    let link = url::Url::parse_with_params(&world.at("/gateway.do"), &parameters).unwrap();
    let page = world.client.get(link).send().await.unwrap();
    assert_eq!(page.status(), 200);
    let page = page.text().await.unwrap();
    let token = page
        .split("name=\"token\" value=\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .unwrap()
        .to_owned();
    let number = json!({ "out_trade_no": "EP2026WAP1" });
    let before = world.alipay("alipay.trade.query", &number, &[]).await;
    assert_eq!(before["sub_code"], "ACQ.TRADE_NOT_EXIST");
    let form = |action: &str| {
        [
            ("token", token.clone()),
            ("user", "wangwu".to_owned()),
            ("action", action.to_owned()),
        ]
    };
    let login = world
        .client
        .post(world.at("/wallet/login"))
        .form(&form(""))
        .send()
        .await
        .unwrap();
    assert_eq!(login.status(), 200);
    let waiting = world.alipay("alipay.trade.query", &number, &[]).await;
    assert_eq!(waiting["trade_status"], "WAIT_BUYER_PAY");
    let paid = world
        .client
        .post(world.at("/wallet/pay"))
        .form(&form("pay"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(paid.contains("http://127.0.0.1:8080/pay/abc?"), "{paid}");
    let seen = world.alipay("alipay.trade.query", &number, &[]).await;
    assert_eq!(seen["trade_status"], "TRADE_SUCCESS");
    let mut broken = parameters.clone();
    broken.insert("sign".to_owned(), "AAAA".to_owned());
    let link = url::Url::parse_with_params(&world.at("/gateway.do"), &broken).unwrap();
    let error = world.client.get(link).send().await.unwrap();
    assert!(
        error.headers()["content-type"]
            .to_str()
            .unwrap()
            .contains("GBK")
    );
    let bytes = error.bytes().await.unwrap();
    let (decoded, _, wrong) = encoding_rs::GBK.decode(&bytes);
    assert!(!wrong && decoded.contains("支付出现问题"));
}

#[tokio::test]
async fn oauth_gives_the_payers_number_once() {
    let world = World::open();
    let address = format!(
        "{}?app_id={}&scope=auth_base&redirect_uri=http%3A%2F%2F127.0.0.1%3A8080%2Fs%2Fabc&state=77",
        world.at("/oauth2/publicAppAuthorize.htm"),
        text(&world.alipay["app_id"])
    );
    let answer = world
        .client
        .get(address)
        .header("x-simulator-user", "zhaoliu")
        .send()
        .await
        .unwrap();
    let place = url::Url::parse(answer.headers()["location"].to_str().unwrap()).unwrap();
    let pairs: BTreeMap<_, _> = place.query_pairs().into_owned().collect();
    assert_eq!(pairs["state"], "77");
    let more = [
        ("grant_type", "authorization_code"),
        ("code", pairs["auth_code"].as_str()),
    ];
    let method = "alipay.system.oauth.token";
    let known = world.alipay(method, &Value::Null, &more).await;
    let (_, number) = world
        .simulator
        .handle()
        .meet(Wallet::Alipay, "zhaoliu")
        .unwrap();
    assert_eq!(known["user_id"], json!(number));
    let again = world.alipay(method, &Value::Null, &more).await;
    assert_eq!(again["sub_code"], "isv.code-invalid");
}

#[tokio::test]
async fn certificate_mode_wants_both_numbers() {
    let mut options = options();
    let keys = vectors("alipay-derived")["keys"].clone();
    options.alipay.certificates = Some(enrollpay::simulator::AlipayCertificates {
        app_certificate_pem: text(&keys["app_certificate_pem"]).to_owned(),
        alipay_certificate_pem: text(&keys["alipay_certificate_pem"]).to_owned(),
        root_certificates_pem: text(&keys["root_certificate_pem"]).to_owned(),
    });
    let world = World::with(options);
    let without = world
        .alipay_raw("alipay.trade.query", &order("X"), &[])
        .await;
    assert!(without.contains("isv.missing-app-cert-sn"));
    let more = [
        ("app_cert_sn", text(&keys["app_cert_sn"])),
        ("alipay_root_cert_sn", text(&keys["alipay_root_cert_sn"])),
    ];
    let with = world
        .alipay_raw("alipay.trade.query", &order("X"), &more)
        .await;
    assert!(with.contains("ACQ.TRADE_NOT_EXIST"), "{with}");
    let number = format!("\"alipay_cert_sn\":\"{}\"", text(&keys["alipay_cert_sn"]));
    assert!(with.contains(&number), "{with}");
}

#[tokio::test]
async fn only_the_named_person_pays() {
    let world = World::open();
    let named = json!({
        "name": "王五", "cert_type": "IDENTITY_CARD", "cert_no": "650102200003120012",
        "need_check_info": "T", "fix_buyer": "T",
    });
    let mut by_code = order("EP2026NAMED4");
    by_code["ext_user_info"] = named.clone();
    let body = world.alipay("alipay.trade.precreate", &by_code, &[]).await;
    let scan = |user: &str| json!({ "content": text(&body["qr_code"]), "user": user });
    let (status, refused) = world.control("/control/scan", &scan("zhaoliu")).await;
    assert_eq!((status, &refused["error"]), (409, &json!("other_person")));
    assert_eq!(world.control("/control/scan", &scan("wangwu")).await.0, 200);

    // A buyer may be another one until the password.
    let mut created = created(&world, "EP2026NAMED5", "zhaoliu");
    created["ext_user_info"] = named.clone();
    let body = world.alipay("alipay.trade.create", &created, &[]).await;
    assert_eq!(body["code"], "10000", "{body}");
    let pay = json!({ "out_trade_no": "EP2026NAMED5", "user": "zhaoliu" });
    let (status, refused) = world.control("/control/pay", &pay).await;
    assert_eq!((status, &refused["error"]), (409, &json!("other_person")));

    // What is not to be checked is not; what is to be checked must be there.
    for (member, value, sub_code) in [
        ("cert_no", json!(""), "ACQ.INVALID_PARAMETER"),
        ("cert_type", json!("PASSPORT"), "ACQ.INVALID_PARAMETER"),
        ("fix_buyer", json!("yes"), "ACQ.INVALID_PARAMETER"),
    ] {
        let mut wrong = order("EP2026NAMED6");
        wrong["ext_user_info"] = named.clone();
        wrong["ext_user_info"][member] = value;
        let body = world.alipay("alipay.trade.precreate", &wrong, &[]).await;
        assert_eq!(body["sub_code"], sub_code, "{member}");
    }
    let mut unchecked = order("EP2026NAMED7");
    unchecked["ext_user_info"] = json!({ "name": "王五" });
    let body = world
        .alipay("alipay.trade.precreate", &unchecked, &[])
        .await;
    let scan = json!({ "content": text(&body["qr_code"]), "user": "zhaoliu" });
    assert_eq!(world.control("/control/scan", &scan).await.0, 200);
}
