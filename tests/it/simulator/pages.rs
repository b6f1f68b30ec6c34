//! The phone: its pages, and its built-in browser with the bridge.

use super::*;

fn with_browsers() -> World {
    let mut options = options();
    options.wallet_browsers = true;
    World::with(options)
}

#[tokio::test]
async fn the_phone_offers_only_the_wallet_that_can_read_the_code() {
    let world = World::open();
    let page = world
        .client
        .get(world.at("/wallet?scan=weixin%3A%2F%2Fwxpay%2Fbizpayurl%3Fpr%3Dabc"))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let disabled = |user: &str| {
        let start = page.find(&format!("value=\"{user}\"")).unwrap();
        page[start..start + 40].contains("disabled")
    };
    assert!(!disabled("zhangsan") && disabled("wangwu"));
    assert!(page.contains("weixin://wxpay/bizpayurl?pr=abc"));
}

#[tokio::test]
async fn the_browser_goes_to_this_machine_only() {
    let world = with_browsers();
    for (address, status) in [
        ("https://evil.example/", 422),
        ("http://192.168.1.1/", 422),
        ("file:///etc/passwd", 422),
        ("nonsense", 422),
        ("http://127.0.0.1:8080/s/abc", 303),
    ] {
        let form = [("user", "zhangsan"), ("content", address)];
        let answer = world
            .client
            .post(world.at("/wallet/scan"))
            .form(&form)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), status, "{address}");
    }
    let own = world.simulator.handle().browser_origin("zhangsan").unwrap();
    assert_ne!(own, world.simulator.origin());
}

/// A gateway's pages in small: what the built-in browser has to cope with.
async fn gateway(request: actix_web::HttpRequest) -> actix_web::HttpResponse {
    use actix_web::HttpResponse;
    let head = |name: &str| {
        request
            .headers()
            .get(name)
            .map_or(String::new(), |value| value.to_str().unwrap().to_owned())
    };
    let own = format!("http://{}", request.app_config().local_addr());
    assert_eq!(head("host"), own.trim_start_matches("http://"));
    match request.path() {
        "/s/abc" if request.query_string().is_empty() => HttpResponse::Found()
            .insert_header(("Set-Cookie", "scan=1; Path=/s/abc; HttpOnly; Secure"))
            .append_header(("Set-Cookie", "csrf=2; Path=/; HttpOnly"))
            .insert_header((
                "Location",
                format!("{}&redirect_uri={own}/s/abc", request.app_data::<String>().unwrap()),
            ))
            .finish(),
        "/s/abc" => HttpResponse::Ok()
            .content_type("text/html; charset=utf-8")
            .insert_header((
                "Content-Security-Policy",
                "default-src 'none'; script-src 'self'; form-action 'self'",
            ))
            .body(format!(
                "<!doctype html><html><head></head><body>{}<i>{}</i><a href=\"{own}/pay/x\">pay</a>\
                 <a href=\"http://127.0.0.1:9/fees?a=1&amp;b=2\">school</a><a href=\"http://school.example/\">out</a></body></html>",
                head("cookie"),
                head("user-agent"),
            )),
        "/away" => HttpResponse::SeeOther()
            .insert_header(("Location", "http://127.0.0.1:9/bills/x?list=paid"))
            .finish(),
        _ => HttpResponse::Ok().body(format!("{} {}", head("origin"), head("cookie"))),
    }
}

#[tokio::test]
async fn the_built_in_browser_is_the_wallet_to_the_gateway() {
    let world = with_browsers();
    let authorize = format!(
        "{}/connect/oauth2/authorize?appid={}&response_type=code&scope=snsapi_base&state=77",
        world.simulator.origin(),
        text(&world.wechat["merchant"]["appid"])
    );
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let site = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(
            actix_web::HttpServer::new(move || {
                actix_web::App::new()
                    .app_data(authorize.clone())
                    .default_service(actix_web::web::to(gateway))
            })
            .workers(1)
            .disable_signals()
            .listen(listener)
            .unwrap()
            .run(),
        )
    });
    let get = |address: String| world.client.get(address).send();
    let place =
        |answer: &reqwest::Response| answer.headers()["location"].to_str().unwrap().to_owned();
    let entered = get(world.at(&format!("/wallet/wechat/lisi/open?url={site}/s/abc")))
        .await
        .unwrap();
    let own = world.simulator.handle().browser_origin("lisi").unwrap();
    assert_eq!(place(&entered), format!("{own}/s/abc"));
    let scanned = get(place(&entered)).await.unwrap();
    assert!(
        scanned.headers().get("set-cookie").is_none(),
        "kept in the wallet's own jar"
    );
    assert!(place(&scanned).starts_with(&format!("{own}/__wallet/sim/connect/")));
    let authorized = get(place(&scanned)).await.unwrap();
    assert!(place(&authorized).starts_with(&format!("{own}/s/abc?code=")));
    let page = get(place(&authorized)).await.unwrap();
    let policy = page.headers()["content-security-policy"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(policy.contains("connect-src 'self'") && policy.contains("form-action 'self'"));
    let page = page.text().await.unwrap();
    assert!(page.contains("MicroMessenger"));
    assert!(page.contains("scan=1; csrf=2"));
    assert!(page.contains("/__wallet/bridge.js"));
    assert!(page.contains(&format!("href=\"{own}/pay/x\"")), "{page}");
    // Whose code it was: the person whose browser this is.
    let code = place(&authorized);
    let code = code
        .split("code=")
        .nth(1)
        .unwrap()
        .split('&')
        .next()
        .unwrap();
    let known = get(world.at(&format!(
        "/sns/oauth2/access_token?appid={}&secret=0123456789abcdef0123456789abcdef&code={code}&grant_type=authorization_code",
        text(&world.wechat["merchant"]["appid"])
    )))
    .await
    .unwrap();
    let known: Value = serde_json::from_str(&known.text().await.unwrap()).unwrap();
    let (_, openid) = world
        .simulator
        .handle()
        .meet(Wallet::Wechat, "lisi")
        .unwrap();
    assert_eq!(known["openid"], json!(openid));
    // Another path sees only its own cookies, and the site's own origin.
    let posted = world
        .client
        .post(format!("{own}/pay/x"))
        .header("origin", &own)
        .header("cookie", "of=another-site")
        .send()
        .await
        .unwrap();
    assert_eq!(posted.text().await.unwrap(), format!("{site} csrf=2"));
    // A link or a redirect to another site of this machine stays in the wallet; others are left alone.
    let door = format!("{own}/__wallet/go?url=http%3A%2F%2F127.0.0.1%3A9%2Ffees%3Fa%3D1%26b%3D2");
    assert!(page.contains(door.trim_start_matches(&own)), "{page}");
    assert!(page.contains("href=\"http://school.example/\""));
    let away = get(format!("{own}/away")).await.unwrap();
    assert_eq!(place(&away), format!("{own}/bills/x?list=paid"));
    assert_eq!(
        get(place(&away)).await.unwrap().status(),
        502,
        "the other site"
    );
    let gone = get(door).await.unwrap();
    assert_eq!(place(&gone), format!("{own}/fees?a=1&b=2"));
    for outside in ["http://school.example/", "https://127.0.0.1:9/", "x"] {
        let refused = get(format!("{own}/__wallet/go?url={outside}"))
            .await
            .unwrap();
        assert_eq!(refused.status(), 403, "{outside}");
    }
    // Another person's browser has another jar, and has opened nothing yet.
    let other = world.simulator.handle().browser_origin("zhangsan").unwrap();
    assert_eq!(get(format!("{other}/pay/x")).await.unwrap().status(), 404);
}

#[tokio::test]
async fn the_sheet_judges_the_pages_signature_and_pays() {
    let world = with_browsers();
    let handle = world.simulator.handle();
    let (_, openid) = handle.meet(Wallet::Wechat, "zhangsan").unwrap();
    let mut order = world.native_order("EP2026SHEET1", "http://127.0.0.1:9");
    order["payer"] = json!({ "openid": openid });
    let (_, made) = world
        .wechat("POST", "/v3/pay/transactions/jsapi", &order)
        .await;
    let appid = text(&world.wechat["merchant"]["appid"]);
    let package = format!("prepay_id={}", text(&made["prepay_id"]));
    let signature = sign(
        text(&world.wechat["merchant"]["private_key_pem"]),
        &format!("{appid}\n{HOUR}\nNONCE\n{package}\n"),
    );
    let good = json!({
        "appId": appid, "timeStamp": HOUR.to_string(), "nonceStr": "NONCE",
        "package": package, "signType": "RSA", "paySign": signature,
    });
    let call = |user: &str, path: &str, body: &Value| {
        let address = format!("{}{path}", handle.browser_origin(user).unwrap());
        let request = world.client.post(address).json(body);
        async move {
            let text = request.send().await.unwrap().text().await.unwrap();
            serde_json::from_str::<Value>(&text).unwrap()
        }
    };
    let mut bad = good.clone();
    bad["nonceStr"] = json!("OTHER");
    let refused = call("zhangsan", "/__wallet/sheet", &bad).await;
    assert_eq!(refused["refused"], "支付验证签名失败");
    let other = call("lisi", "/__wallet/sheet", &good).await;
    assert!(text(&other["refused"]).contains("另一个账号"));
    let sheet = call("zhangsan", "/__wallet/sheet", &good).await;
    assert_eq!(sheet["amount"], "128.50");
    let act = |action: &str| json!({ "out_trade_no": "EP2026SHEET1", "action": action });
    assert!(call("zhangsan", "/__wallet/finish", &act("poor")).await["refused"].is_string());
    assert_eq!(
        world.wechat_state("EP2026SHEET1").await["trade_state"],
        "NOTPAY"
    );
    assert_eq!(
        call("zhangsan", "/__wallet/finish", &act("pay")).await["paid"],
        true
    );
    let state = world.wechat_state("EP2026SHEET1").await;
    assert_eq!(
        (&state["trade_state"], &state["trade_type"]),
        (&json!("SUCCESS"), &json!("JSAPI"))
    );
    assert_eq!(state["payer"]["openid"], json!(openid));
}
