//! Calls to WeChat Pay against a server on loopback: what is sent, and what each answer proves.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what cannot be unwrapped fails the test"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::rsa::{OAEP_SHA1_MGF1SHA1, OaepPrivateDecryptingKey, PrivateDecryptingKey};
use base64::Engine as _;
use enrollpay::clock::ManualClock;
use enrollpay::order::{CloseAnswer, CodeMode, Fen, Product, RefundAnswer, Timestamp, TradeAnswer};
use enrollpay::provider::rsa::PublicKey;
use enrollpay::provider::wechatpay::{Connector, Settings, sign};
use enrollpay::provider::{
    Identity, NoticeError, OTHER_PERSON, OauthError, Provider, ProviderError, RefundDestination,
    RefundRequest, TradeRequest, TradeState,
};
use enrollpay::random::SystemRandom;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::loopback::{Act, Seen, Server, hangs_up, nobody, serve};
use crate::vectors_wechatpay::{CLOCK, number, settings, signed_headers, simulator, trade};

pub fn signed(status: u16, body: impl Into<Vec<u8>>) -> Act {
    let body = body.into();
    Act::Answer {
        status,
        headers: signed_headers(&body, CLOCK),
        body,
    }
}

pub fn refused(status: u16, code: &str) -> Act {
    Act::plain(status, json!({ "code": code, "message": "x" }).to_string())
}

pub fn at(url: &str) -> Settings {
    Settings {
        base_url: url.to_owned(),
        openid_base_url: url.to_owned(),
        timeout: Duration::from_millis(1500),
        ..settings()
    }
}

pub fn connect(settings: Settings) -> Connector {
    let clock = Arc::new(ManualClock::at(CLOCK));
    Connector::new(settings, clock, Arc::new(SystemRandom)).unwrap()
}

fn connected(script: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> (Server, Connector) {
    let server = serve(script);
    let connector = connect(at(&server.url));
    (server, connector)
}

fn transaction(state: &str) -> Value {
    json!({
        "appid": "wxd678efh567hg6787", "mchid": "1900000001",
        "out_trade_no": number().to_string(), "transaction_id": "42000026", "trade_state": state,
        "success_time": "2026-01-01T08:01:30+08:00",
        "amount": { "total": 12850, "currency": "CNY" }, "a new member": {},
    })
}

pub fn refund_request() -> RefundRequest {
    RefundRequest {
        out_trade_no: number(),
        refund_no: "rfd_1".to_owned(),
        amount: Fen::new(2_850),
        total: Fen::new(12_850),
        reason: "退学退费".repeat(10),
        notify_url: "https://pay.example.edu.cn/callbacks/x".to_owned(),
    }
}

fn refund_state(status: &str) -> Value {
    json!({
        "out_refund_no": "rfd_1", "out_trade_no": number().to_string(), "status": status,
        "amount": { "refund": 2850, "total": 12850 },
    })
}

/// Everything that WeChat checks of a request before it looks at the business.
fn assert_well_made(seen: &Seen) {
    assert_signed_by(seen, "1900000001");
    assert_eq!(
        Some(&seen.headers["wechatpay-serial"]),
        settings().platform_public_key_id.as_ref()
    );
    let has_body = !seen.body.is_empty();
    assert_eq!(seen.headers.contains_key("content-type"), has_body);
    assert!(!seen.body.contains("null"));
}

/// The `Authorization` of this merchant number, over what was sent.
pub fn assert_signed_by(seen: &Seen, mchid: &str) {
    let authorization = &seen.headers["authorization"];
    let (scheme, items) = authorization.split_once(' ').unwrap();
    assert_eq!(scheme, "WECHATPAY2-SHA256-RSA2048");
    let items: BTreeMap<&str, &str> = items
        .split(',')
        .map(|item| {
            let (name, value) = item.split_once('=').unwrap();
            (name, value.trim_matches('"'))
        })
        .collect();
    assert_eq!(items.len(), 5);
    assert_eq!(items["mchid"], mchid);
    assert_eq!(items["serial_no"], settings().certificate_serial);
    let timestamp: i64 = items["timestamp"].parse().unwrap();
    assert_eq!(timestamp, CLOCK.as_seconds());
    let message = sign::request_message(
        &seen.method,
        &seen.target(),
        timestamp,
        items["nonce_str"],
        &seen.body,
    );
    let keys = simulator();
    let merchant = PublicKey::parse(keys["merchant"]["certificate_pem"].as_str().unwrap());
    assert!(
        merchant
            .unwrap()
            .verifies(message.as_bytes(), items["signature"])
    );
    assert!(seen.headers["user-agent"].starts_with("enrollpay/"));
    assert_eq!(seen.headers["accept"], "application/json");
}

#[actix_web::test]
async fn every_call_is_made_by_the_book() {
    let (server, connector) = connected(|_| refused(400, "PARAM_ERROR"));
    for product in [
        Product::WechatJsapi,
        Product::WechatNative,
        Product::WechatH5,
    ] {
        connector.make_trade(&trade(product)).await;
        connector.make_trade(&trade(product)).await;
    }
    connector.query_trade(number()).await;
    connector.close_trade(number()).await;
    connector.refund(&refund_request()).await;
    connector.query_refund(&refund_request()).await;
    let seen = server.seen();
    seen.iter().for_each(assert_well_made);
    // Repetitions are equal to the byte.
    for pair in seen[..6].chunks(2) {
        assert_eq!(pair[0].body, pair[1].body);
    }
    let number = number().to_string();
    let jsapi: Value = serde_json::from_str(&seen[0].body).unwrap();
    assert_eq!(
        jsapi,
        json!({
            "appid": "wxd678efh567hg6787", "mchid": "1900000001",
            "description": "报名费-2026春季", "out_trade_no": number,
            "time_expire": "2026-01-01T08:03:00+08:00",
            "notify_url": "https://pay.example.edu.cn/callbacks/x",
            "amount": { "total": 12850, "currency": "CNY" },
            "payer": { "openid": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o" },
        })
    );
    let h5: Value = serde_json::from_str(&seen[4].body).unwrap();
    assert_eq!(
        h5["scene_info"],
        json!({ "payer_client_ip": "203.0.113.7", "h5_info": { "type": "Wap" } })
    );
    assert!(h5.get("payer").is_none());
    let refund: Value = serde_json::from_str(&seen[8].body).unwrap();
    assert_eq!(refund["reason"].as_str().unwrap().len(), 78);
    assert_eq!(
        refund["amount"],
        json!({ "refund": 2850, "total": 12850, "currency": "CNY" })
    );
    let targets: Vec<_> = seen
        .iter()
        .map(|one| format!("{} {}", one.method, one.target()))
        .collect();
    let trades = "/v3/pay/transactions";
    assert_eq!(
        targets,
        [
            format!("POST {trades}/jsapi"),
            format!("POST {trades}/jsapi"),
            format!("POST {trades}/native"),
            format!("POST {trades}/native"),
            format!("POST {trades}/h5"),
            format!("POST {trades}/h5"),
            format!("GET {trades}/out-trade-no/{number}?mchid=1900000001"),
            format!("POST {trades}/out-trade-no/{number}/close"),
            "POST /v3/refund/domestic/refunds".to_owned(),
            "GET /v3/refund/domestic/refunds/rfd_1".to_owned(),
        ]
    );
    assert_eq!(seen[7].body, r#"{"mchid":"1900000001"}"#);
}

#[actix_web::test]
async fn a_trade_is_made_refused_or_unknown() {
    let made = |handle: &str| TradeAnswer::Made {
        handle: handle.into(),
    };
    for (product, body, handle) in [
        (Product::WechatJsapi, json!({ "prepay_id": "wx1" }), "wx1"),
        (
            Product::WechatNative,
            json!({ "code_url": "weixin://1" }),
            "weixin://1",
        ),
        (
            Product::WechatH5,
            json!({ "h5_url": "https://wx/1" }),
            "https://wx/1",
        ),
    ] {
        let (_server, connector) = connected(move |_| signed(200, body.to_string()));
        assert_eq!(connector.make_trade(&trade(product)).await, made(handle));
    }
    for (status, code, proof) in [
        (400, "PARAM_ERROR", true),
        (400, "APPID_MCHID_NOT_MATCH", true),
        (400, "MCH_NOT_EXISTS", true),
        (403, "NO_AUTH", true),
        (403, "RULE_LIMIT", true),
        (403, "RULELIMIT", true),
        // A trade may stand under the number: the query decides.
        (400, "INVALID_REQUEST", false),
        (403, "OUT_TRADE_NO_USED", false),
        (400, "ORDERPAID", false),
        (400, "ORDER_CLOSED", false),
        (401, "SIGN_ERROR", false),
        (400, "SOMETHING_NEW", false),
        (429, "FREQUENCY_LIMITED", false),
        (500, "SYSTEM_ERROR", false),
        (500, "PARAM_ERROR", false),
        (503, "SERVICE_UNAVAILABLE", false),
    ] {
        let (_server, connector) = connected(move |_| refused(status, code));
        let expected = if proof {
            TradeAnswer::Refused { code: code.into() }
        } else {
            TradeAnswer::Unknown
        };
        let answer = connector.make_trade(&trade(Product::WechatJsapi)).await;
        assert_eq!(answer, expected, "{status} {code}");
    }
    // Nothing is sent where the request cannot be made.
    let (server, connector) = connected(|_| signed(200, r#"{"prepay_id":"wx1"}"#));
    let mut request = trade(Product::WechatJsapi);
    request.payer = None;
    let mut h5 = trade(Product::WechatH5);
    h5.payer_address = Some("127.0.0.1".parse().unwrap());
    for request in [request, h5, trade(Product::AlipayCreate)] {
        let answer = connector.make_trade(&request).await;
        assert!(matches!(answer, TradeAnswer::Refused { .. }), "{answer:?}");
    }
    assert!(server.seen().is_empty());
}

#[actix_web::test]
async fn nothing_unproved_is_believed() {
    let body = transaction("SUCCESS").to_string();
    let other = |change: fn(&mut BTreeMap<String, String>)| {
        let mut headers = signed_headers(body.as_bytes(), CLOCK);
        change(&mut headers);
        Act::Answer {
            status: 200,
            headers,
            body: body.clone().into_bytes(),
        }
    };
    let stale = Act::Answer {
        status: 200,
        headers: signed_headers(body.as_bytes(), CLOCK.minus_ms(300_000)),
        body: body.clone().into_bytes(),
    };
    let location = |status: u16| Act::Answer {
        status,
        headers: BTreeMap::from([("location".to_owned(), "/elsewhere".to_owned())]),
        body: vec![],
    };
    let mut ten_megabytes = body.clone().into_bytes();
    ten_megabytes.resize(10 * 1024 * 1024, b' ');
    let acts = vec![
        ("unsigned", Act::plain(200, body.clone())),
        (
            "signed for other bytes",
            other(|headers| {
                headers.insert("wechatpay-nonce".to_owned(), "another".to_owned());
            }),
        ),
        (
            "a probe",
            other(|headers| {
                let signature = "WECHATPAY/SIGNTEST/AAAA".to_owned();
                headers.insert("wechatpay-signature".to_owned(), signature);
            }),
        ),
        (
            "an unknown key",
            other(|headers| {
                headers.insert("wechatpay-serial".to_owned(), "PUB_KEY_ID_9".to_owned());
            }),
        ),
        ("stale", stale),
        ("ten megabytes", signed(200, ten_megabytes)),
        ("accepted, not done", signed(202, body.clone())),
        ("signed nonsense", signed(200, "<html>")),
        ("a redirect", location(302)),
        ("a permanent redirect", location(308)),
        ("a 404 without a body", Act::plain(404, "")),
        ("a 404 of a proxy", Act::plain(404, "<html>")),
        ("a 502 of a proxy", Act::plain(502, "<html>")),
        ("silence", Act::Hang),
    ];
    for (name, act) in acts {
        let act = std::sync::Mutex::new(Some(act));
        let genuine = body.clone();
        let (server, connector) = connected(move |_| {
            // Whatever is asked a second time finds a genuine success.
            let act = act.lock().unwrap().take();
            act.unwrap_or_else(|| signed(200, genuine.clone()))
        });
        assert_eq!(
            connector.query_trade(number()).await,
            TradeState::Unknown,
            "{name}"
        );
        assert_eq!(server.seen().len(), 1, "{name}");
    }
    for url in [nobody(), hangs_up()] {
        let connector = connect(at(&url));
        assert_eq!(connector.query_trade(number()).await, TradeState::Unknown);
        let answer = connector.make_trade(&trade(Product::WechatJsapi)).await;
        assert_eq!(answer, TradeAnswer::Unknown);
        assert_eq!(connector.close_trade(number()).await, CloseAnswer::Unknown);
        assert_eq!(
            connector.refund(&refund_request()).await,
            RefundAnswer::Unknown
        );
    }
}

#[actix_web::test]
async fn a_query_tells_the_state_of_our_trade_only() {
    let changed = |member: &str, value: Value| {
        let mut body = transaction("SUCCESS");
        body[member] = value;
        body
    };
    for (body, expected) in [
        (transaction("NOTPAY"), TradeState::Unpaid),
        (transaction("USERPAYING"), TradeState::Unpaid),
        (transaction("CLOSED"), TradeState::Closed),
        (transaction("REVOKED"), TradeState::Unknown),
        (transaction("PAYERROR"), TradeState::Unknown),
        (changed("appid", json!("wx0")), TradeState::Unknown),
        (changed("mchid", json!("1900000002")), TradeState::Unknown),
        (changed("out_trade_no", json!("1")), TradeState::Unknown),
        (changed("success_time", json!("")), TradeState::Unknown),
        (
            changed("amount", json!({ "total": 1 })),
            TradeState::Unknown,
        ),
    ] {
        let text = body.to_string();
        let (_server, connector) = connected(move |_| signed(200, text.clone()));
        assert_eq!(connector.query_trade(number()).await, expected, "{body}");
    }
    for state in ["SUCCESS", "REFUND"] {
        let (_server, connector) = connected(move |_| signed(200, transaction(state).to_string()));
        let TradeState::Paid(success) = connector.query_trade(number()).await else {
            panic!("not paid: {state}");
        };
        assert_eq!(success.amount, Fen::new(12_850));
        assert_eq!(success.succeeded_at, CLOCK.plus_ms(90_000));
        assert_eq!(&*success.transaction_id, "42000026");
    }
    for (code, expected) in [
        ("ORDER_NOT_EXIST", TradeState::NotFound),
        ("ORDERNOTEXIST", TradeState::NotFound),
        ("RESOURCE_NOT_EXISTS", TradeState::Unknown),
        ("PARAM_ERROR", TradeState::Unknown),
    ] {
        let (_server, connector) = connected(move |_| refused(404, code));
        assert_eq!(connector.query_trade(number()).await, expected, "{code}");
    }
}

#[actix_web::test]
async fn a_close_is_done_or_asks_what_became_of_the_trade() {
    let (server, connector) = connected(|_| signed(204, ""));
    assert_eq!(connector.close_trade(number()).await, CloseAnswer::Closed);
    assert_eq!(server.seen().len(), 1);
    let (_server, connector) = connected(|_| Act::plain(204, ""));
    assert_eq!(connector.close_trade(number()).await, CloseAnswer::Unknown);

    for (status, code, expected) in [
        (400, "ORDERPAID", CloseAnswer::AlreadyPaid),
        (400, "ORDER_PAID", CloseAnswer::AlreadyPaid),
        (403, "USER_PAYING", CloseAnswer::NotYet),
        (404, "ORDER_NOT_EXIST", CloseAnswer::NotFound),
        (400, "PARAM_ERROR", CloseAnswer::Unknown),
        (401, "SIGN_ERROR", CloseAnswer::Unknown),
        (400, "MCH_NOT_EXISTS", CloseAnswer::Unknown),
        (429, "RATELIMIT_EXCEEDED", CloseAnswer::Unknown),
        (500, "SYSTEM_ERROR", CloseAnswer::Unknown),
    ] {
        let (server, connector) = connected(move |_| refused(status, code));
        assert_eq!(connector.close_trade(number()).await, expected, "{code}");
        assert_eq!(server.seen().len(), 1, "{code}");
    }
    let (_server, connector) = connected(|_| signed(202, r#"{"code":"USERPAYING"}"#));
    assert_eq!(connector.close_trade(number()).await, CloseAnswer::NotYet);

    for (state, expected) in [
        ("SUCCESS", CloseAnswer::AlreadyPaid),
        ("NOTPAY", CloseAnswer::NotYet),
        ("CLOSED", CloseAnswer::Closed),
        ("?", CloseAnswer::Unknown),
    ] {
        for code in [
            "INVALID_REQUEST",
            "RULE_LIMIT",
            "TRADE_ERROR",
            "ORDER_CLOSED",
        ] {
            let (server, connector) = connected(move |seen| {
                if seen.path.ends_with("/close") {
                    refused(400, code)
                } else {
                    signed(200, transaction(state).to_string())
                }
            });
            assert_eq!(
                connector.close_trade(number()).await,
                expected,
                "{code} {state}"
            );
            assert_eq!(server.seen().len(), 2);
        }
    }
}

#[actix_web::test]
async fn a_refund_is_what_its_status_says() {
    let changed = |member: &str, value: Value| {
        let mut body = refund_state("SUCCESS");
        body[member] = value;
        body
    };
    for (body, expected) in [
        (refund_state("SUCCESS"), RefundAnswer::Succeeded),
        (refund_state("PROCESSING"), RefundAnswer::Processing),
        (refund_state("CLOSED"), RefundAnswer::Failed),
        (refund_state("ABNORMAL"), RefundAnswer::Abnormal),
        (refund_state("?"), RefundAnswer::Unknown),
        (
            changed("out_refund_no", json!("rfd_2")),
            RefundAnswer::Unknown,
        ),
        (changed("out_trade_no", json!("x")), RefundAnswer::Unknown),
        (
            changed("amount", json!({ "refund": 1 })),
            RefundAnswer::Unknown,
        ),
    ] {
        let text = body.to_string();
        let (_server, connector) = connected(move |_| signed(200, text.clone()));
        assert_eq!(
            connector.refund(&refund_request()).await,
            expected,
            "{body}"
        );
        assert_eq!(
            connector.query_refund(&refund_request()).await,
            expected,
            "{body}"
        );
    }
    for (status, code, expected) in [
        (403, "USER_ACCOUNT_ABNORMAL", RefundAnswer::Failed),
        (400, "PARAM_ERROR", RefundAnswer::Failed),
        (403, "NOT_ENOUGH", RefundAnswer::Underfunded),
        (403, "NOTENOUGH", RefundAnswer::Underfunded),
        (400, "REFUND_FEE_MISMATCH", RefundAnswer::Unknown),
        (404, "RESOURCE_NOT_EXISTS", RefundAnswer::Unknown),
        (429, "FREQUENCY_LIMITED", RefundAnswer::Unknown),
        (500, "SYSTEM_ERROR", RefundAnswer::Unknown),
    ] {
        let (_server, connector) = connected(move |_| refused(status, code));
        assert_eq!(
            connector.refund(&refund_request()).await,
            expected,
            "{code}"
        );
        let asked = connector.query_refund(&refund_request()).await;
        assert_eq!(asked, RefundAnswer::Unknown, "{code}");
    }
}

/// A part of at most one yuan goes back without a reason, for none would be shown; the whole of it has one.
#[actix_web::test]
async fn a_small_part_goes_back_without_a_reason() {
    let (server, connector) = connected(|_| refused(400, "PARAM_ERROR"));
    for (amount, total) in [(100, 101), (101, 102), (100, 100)] {
        let request = RefundRequest {
            amount: Fen::new(amount),
            total: Fen::new(total),
            ..refund_request()
        };
        connector.refund(&request).await;
    }
    let reasons: Vec<_> = server
        .seen()
        .iter()
        .map(|seen| serde_json::from_str::<Value>(&seen.body).unwrap()["reason"].is_string())
        .collect();
    assert_eq!(reasons, [false, true, true]);
}

fn payer_card() -> RefundDestination {
    RefundDestination::PayerCard {
        bank_type: "ICBC_DEBIT".to_owned(),
        bank_account: "6222020200112233445".to_owned().into(),
        real_name: "张三".to_owned().into(),
    }
}

/// What WeChat reads in a field that was encrypted for it.
fn opened(sealed: &Value) -> String {
    let keys = simulator();
    let pem = keys["wechat_pay"]["private_key_pem"].as_str().unwrap();
    let der = rcgen::KeyPair::from_pem(pem).unwrap().serialize_der();
    let key = PrivateDecryptingKey::from_pkcs8(&der).unwrap();
    let key = OaepPrivateDecryptingKey::new(key).unwrap();
    let sealed = base64::engine::general_purpose::STANDARD
        .decode(sealed.as_str().unwrap())
        .unwrap();
    let mut plain = vec![0; key.min_output_size()];
    let plain = key
        .decrypt(&OAEP_SHA1_MGF1SHA1, &sealed, &mut plain, None)
        .unwrap();
    String::from_utf8(plain.to_vec()).unwrap()
}

fn identified(product: Product) -> TradeRequest {
    TradeRequest {
        identity: Some(Identity {
            name: "张三".to_owned().into(),
            id_number: "65010219990105001X".to_owned().into(),
        }),
        ..trade(product)
    }
}

#[actix_web::test]
async fn an_identity_is_sealed_for_every_product() {
    let (server, connector) = connected(|_| {
        signed(
            200,
            r#"{"prepay_id":"wx1","code_url":"weixin://1","h5_url":"https://wx/1"}"#,
        )
    });
    let products = [
        Product::WechatJsapi,
        Product::WechatNative,
        Product::WechatH5,
    ];
    for product in products {
        let answer = connector.make_trade(&identified(product)).await;
        assert!(matches!(answer, TradeAnswer::Made { .. }), "{product:?}");
        connector.make_trade(&trade(product)).await;
    }
    let seen = server.seen();
    seen.iter().for_each(assert_well_made);
    let body = |index: usize| serde_json::from_str::<Value>(&seen[index].body).unwrap();
    for (index, product) in products.into_iter().enumerate() {
        let mut named = body(2 * index);
        let identity = named["payer"]["identity"].take();
        assert_eq!(identity["type"], "IDCARD", "{product:?}");
        assert_eq!(opened(&identity["number"]), "65010219990105001X");
        assert_eq!(opened(&identity["name"]), "张三");
        assert_eq!(identity.as_object().unwrap().len(), 3);
        let openid = named["payer"]["openid"].as_str();
        assert_eq!(openid.is_some(), product == Product::WechatJsapi);
        // Everything else is as without.
        let mut plain = body(2 * index + 1);
        assert_eq!(plain["payer"].get("identity"), None);
        named["payer"].take();
        plain["payer"].take();
        assert_eq!(named, plain);
    }
    let shown = format!("{:?}", identified(Product::WechatJsapi));
    assert!(
        !shown.contains("张三") && !shown.contains("6501"),
        "{shown}"
    );
    let shown = format!("{:?}", identified(Product::WechatJsapi).identity);
    assert!(
        !shown.contains("张三") && !shown.contains("6501"),
        "{shown}"
    );
}

#[actix_web::test]
async fn another_persons_wallet_is_refused_by_name() {
    for (code, identified_answer, plain_answer) in [
        ("NAME_MISMATCH", Some(OTHER_PERSON), None),
        ("NO_AUTH", Some("NO_AUTH"), Some("NO_AUTH")),
        ("OUT_TRADE_NO_USED", None, None),
    ] {
        let (_server, connector) = connected(move |_| refused(403, code));
        let expected = |code: Option<&str>| {
            code.map_or(TradeAnswer::Unknown, |code| TradeAnswer::Refused {
                code: code.into(),
            })
        };
        let named = connector
            .make_trade(&identified(Product::WechatJsapi))
            .await;
        assert_eq!(named, expected(identified_answer), "{code}");
        let plain = connector.make_trade(&trade(Product::WechatJsapi)).await;
        assert_eq!(plain, expected(plain_answer), "{code}");
    }
    // A name that cannot be sealed is sent to nobody, and the same on every repetition.
    let (server, connector) = connected(|_| signed(200, r#"{"prepay_id":"wx1"}"#));
    let mut request = identified(Product::WechatJsapi);
    request.identity = Some(Identity {
        name: "长".repeat(100).into(),
        id_number: "65010219990105001X".to_owned().into(),
    });
    let answer = connector.make_trade(&request).await;
    assert!(matches!(answer, TradeAnswer::Refused { .. }), "{answer:?}");
    assert!(server.seen().is_empty());
}

#[actix_web::test]
async fn an_identity_waits_for_a_key_to_be_sealed_for() {
    let server = serve(|seen| match seen.path.as_str() {
        "/v3/certificates" => certificates(),
        _ => by_certificate(200, r#"{"prepay_id":"wx1"}"#),
    });
    let connector = connect(certificate_mode(&server.url));
    let answer = connector
        .make_trade(&identified(Product::WechatJsapi))
        .await;
    assert!(matches!(answer, TradeAnswer::Made { .. }), "{answer:?}");
    let seen = server.seen();
    let sent = seen.iter().find(|one| one.method == "POST").unwrap();
    assert_eq!(sent.headers["wechatpay-serial"], simulator_serial());

    let server = serve(|_| refused(500, "SYSTEM_ERROR"));
    let connector = connect(certificate_mode(&server.url));
    let answer = connector
        .make_trade(&identified(Product::WechatJsapi))
        .await;
    assert_eq!(answer, TradeAnswer::Unknown);
    assert!(server.seen().iter().all(|one| one.method == "GET"));
}

fn abnormal() -> Value {
    let mut state = refund_state("ABNORMAL");
    state["refund_id"] = json!("50300002602026010100000000001");
    state
}

#[actix_web::test]
async fn an_abnormal_refund_is_sent_elsewhere() {
    let (server, connector) = connected(|seen| {
        let state = if seen.method == "GET" {
            abnormal()
        } else {
            refund_state("PROCESSING")
        };
        signed(200, state.to_string())
    });
    for destination in [RefundDestination::MerchantCard, payer_card()] {
        let answer = connector
            .repair_refund(&refund_request(), &destination)
            .await;
        assert_eq!(answer, RefundAnswer::Processing);
    }
    let seen = server.seen();
    seen.iter().for_each(assert_well_made);
    let refunds = "/v3/refund/domestic/refunds";
    assert_eq!(seen[2].path, format!("{refunds}/rfd_1"));
    assert_eq!(
        seen[3].path,
        format!("{refunds}/50300002602026010100000000001/apply-abnormal-refund")
    );
    let own: Value = serde_json::from_str(&seen[1].body).unwrap();
    assert_eq!(
        own,
        json!({ "out_refund_no": "rfd_1", "type": "MERCHANT_BANK_CARD" })
    );
    let payers: Value = serde_json::from_str(&seen[3].body).unwrap();
    assert_eq!(payers["out_refund_no"], "rfd_1");
    assert_eq!(payers["type"], "USER_BANK_CARD");
    assert_eq!(payers["bank_type"], "ICBC_DEBIT");
    assert_eq!(opened(&payers["bank_account"]), "6222020200112233445");
    assert_eq!(opened(&payers["real_name"]), "张三");
    assert!(!format!("{:?}", payer_card()).contains("6222"));
}

#[actix_web::test]
async fn only_an_abnormal_refund_is_sent_elsewhere() {
    let too_long = RefundDestination::PayerCard {
        bank_type: "ICBC_DEBIT".to_owned(),
        bank_account: "6".repeat(215).into(),
        real_name: "张三".to_owned().into(),
    };
    let mut another = abnormal();
    another["out_refund_no"] = json!("rfd_2");
    for (state, destination, expected) in [
        (
            refund_state("SUCCESS"),
            payer_card(),
            RefundAnswer::Succeeded,
        ),
        (
            refund_state("PROCESSING"),
            payer_card(),
            RefundAnswer::Processing,
        ),
        (refund_state("CLOSED"), payer_card(), RefundAnswer::Failed),
        (another, payer_card(), RefundAnswer::Unknown),
        // Abnormal, and nothing can be sent: it stands as it stood.
        (
            refund_state("ABNORMAL"),
            payer_card(),
            RefundAnswer::Abnormal,
        ),
        (abnormal(), too_long, RefundAnswer::Abnormal),
    ] {
        let text = state.to_string();
        let (server, connector) = connected(move |_| signed(200, text.clone()));
        let answer = connector
            .repair_refund(&refund_request(), &destination)
            .await;
        assert_eq!(answer, expected, "{state}");
        assert_eq!(server.seen().len(), 1, "{state}");
    }
    let (_server, connector) = connected(|_| refused(404, "RESOURCE_NOT_EXISTS"));
    let answer = connector
        .repair_refund(&refund_request(), &payer_card())
        .await;
    assert_eq!(answer, RefundAnswer::Unknown);
    for (status, code, expected) in [
        (400, "INVALID_REQUEST", RefundAnswer::Abnormal),
        (400, "PARAM_ERROR", RefundAnswer::Abnormal),
        (429, "FREQUENCY_LIMITED", RefundAnswer::Unknown),
        (500, "SYSTEM_ERROR", RefundAnswer::Unknown),
    ] {
        let (_server, connector) = connected(move |seen| {
            if seen.method == "GET" {
                signed(200, abnormal().to_string())
            } else {
                refused(status, code)
            }
        });
        let answer = connector
            .repair_refund(&refund_request(), &payer_card())
            .await;
        assert_eq!(answer, expected, "{code}");
    }
}

#[actix_web::test]
async fn fields_are_sealed_for_the_certificate_that_became_valid_last() {
    let later = "1".repeat(40);
    let serial = later.clone();
    let server = serve(move |seen| match seen.path.as_str() {
        "/v3/certificates" => {
            let ends = [(2020, 2031), (2025, 2030), (2027, 2032)];
            let serials = [simulator_serial(), serial.clone(), "2".repeat(40)];
            certificates_of(&serials.iter().zip(ends).collect::<Vec<_>>())
        }
        _ if seen.method == "GET" => by_certificate(200, abnormal().to_string()),
        _ => by_certificate(200, refund_state("PROCESSING").to_string()),
    });
    let connector = connect(certificate_mode(&server.url));
    let answer = connector
        .repair_refund(&refund_request(), &payer_card())
        .await;
    assert_eq!(answer, RefundAnswer::Processing);
    let seen = server.seen();
    let sent = seen.iter().find(|one| one.method == "POST").unwrap();
    assert_eq!(sent.headers["wechatpay-serial"], later);
    let body: Value = serde_json::from_str(&sent.body).unwrap();
    assert_eq!(opened(&body["real_name"]), "张三");
}

/// WeChat's key in a certificate for these years. (The published one ended in 2025.)
fn platform_certificate(serial: &str, (first, year): (i32, i32)) -> String {
    let keys = simulator();
    let pem = keys["wechat_pay"]["private_key_pem"].as_str().unwrap();
    let key = rcgen::KeyPair::from_pem(pem).unwrap();
    let mut parameters = rcgen::CertificateParams::default();
    let (head, tail) = serial.split_at(32);
    let head = u128::from_str_radix(head, 16).unwrap().to_be_bytes();
    let tail = u32::from_str_radix(tail, 16).unwrap().to_be_bytes();
    let serial = [&head[..], &tail].concat();
    parameters.serial_number = Some(rcgen::SerialNumber::from_slice(&serial));
    parameters.not_before = rcgen::date_time_ymd(first, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
    parameters.self_signed(&key).unwrap().pem()
}

fn simulator_serial() -> String {
    let keys = simulator();
    let serial = &keys["wechat_pay"]["platform_certificate_serial_no"];
    serial.as_str().unwrap().to_owned()
}

/// GET /v3/certificates with one certificate, encrypted with the merchant's APIv3 key, signed by it.
fn certificates_until(year: i32) -> Act {
    certificates_of(&[(&simulator_serial(), (2020, year))])
}

fn certificates_of(certificates: &[(&String, (i32, i32))]) -> Act {
    let keys = simulator();
    let api_v3_key = keys["merchant"]["api_v3_key"].as_str().unwrap();
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, api_v3_key.as_bytes()).unwrap());
    let announced = certificates.iter().map(|(serial, years)| {
        let mut sealed = platform_certificate(serial, *years).into_bytes();
        let nonce = Nonce::assume_unique_for_key(*b"0123456789ab");
        key.seal_in_place_append_tag(nonce, Aad::from(b"certificate"), &mut sealed)
            .unwrap();
        json!({
            "serial_no": serial,
            "encrypt_certificate": {
                "algorithm": "AEAD_AES_256_GCM", "nonce": "0123456789ab",
                "associated_data": "certificate",
                "ciphertext": base64::engine::general_purpose::STANDARD.encode(&sealed),
            },
        })
    });
    let body = json!({ "data": announced.collect::<Value>() });
    by_certificate(200, body.to_string())
}

fn certificates() -> Act {
    certificates_until(2030)
}

pub fn by_certificate(status: u16, body: impl Into<Vec<u8>>) -> Act {
    let Act::Answer {
        status,
        mut headers,
        body,
    } = signed(status, body)
    else {
        unreachable!("signed answers");
    };
    headers.insert("wechatpay-serial".to_owned(), simulator_serial());
    Act::Answer {
        status,
        headers,
        body,
    }
}

fn certificate_mode(url: &str) -> Settings {
    Settings {
        platform_public_key: None,
        platform_public_key_id: None,
        ..at(url)
    }
}

#[actix_web::test]
async fn an_unknown_serial_fetches_certificates_once_a_minute() {
    let server = serve(|seen| match seen.path.as_str() {
        "/v3/certificates" => certificates(),
        _ => by_certificate(200, transaction("NOTPAY").to_string()),
    });
    // Both regimes meet the certificate's serial: key mode during its change-over.
    for settings in [certificate_mode(&server.url), at(&server.url)] {
        let before = server.count("/certificates");
        let connector = connect(settings);
        for _ in 0..3 {
            assert_eq!(connector.query_trade(number()).await, TradeState::Unpaid);
        }
        assert_eq!(server.count("/certificates"), before + 1);
    }
    let connector = connect(certificate_mode(&server.url));
    connector.refresh().await.unwrap();
    let fetched = server.count("/certificates");
    assert_eq!(connector.query_trade(number()).await, TradeState::Unpaid);
    assert_eq!(server.count("/certificates"), fetched);
    // Key mode has nothing to fetch now and then.
    connect(at(&server.url)).refresh().await.unwrap();
    assert_eq!(server.count("/certificates"), fetched);
}

#[actix_web::test]
async fn unknown_serials_cannot_make_us_fetch_in_a_circle() {
    let server = serve(|seen| match seen.path.as_str() {
        "/v3/certificates" => refused(404, "RESOURCE_NOT_EXISTS"),
        _ => by_certificate(200, transaction("NOTPAY").to_string()),
    });
    let connector = connect(certificate_mode(&server.url));
    for _ in 0..5 {
        assert_eq!(connector.query_trade(number()).await, TradeState::Unknown);
    }
    assert_eq!(server.count("/certificates"), 1);
    let Err(ProviderError::Unavailable { why }) = connector.refresh().await else {
        panic!("no certificates, no success");
    };
    assert!(why.contains("platform_public_key_id"), "{why}");
}

#[actix_web::test]
async fn certificates_that_nobody_vouches_for_are_not_taken_in() {
    for forged in ["unsigned", "other key", "expired", "none"] {
        let server = serve(move |seen| {
            let year = if forged == "expired" { 2025 } else { 2030 };
            let Act::Answer {
                body, mut headers, ..
            } = certificates_until(year)
            else {
                unreachable!("an answer");
            };
            match (seen.path.as_str(), forged) {
                ("/v3/certificates", "unsigned") => Act::plain(200, body),
                ("/v3/certificates", "expired" | "none") => Act::Answer {
                    status: 200,
                    headers,
                    body,
                },
                ("/v3/certificates", _) => {
                    headers.insert("wechatpay-nonce".to_owned(), "changed".to_owned());
                    Act::Answer {
                        status: 200,
                        headers,
                        body,
                    }
                }
                _ => by_certificate(200, transaction("NOTPAY").to_string()),
            }
        });
        let connector = connect(certificate_mode(&server.url));
        let believed = forged == "none";
        assert_eq!(connector.refresh().await.is_ok(), believed, "{forged}");
        let state = connector.query_trade(number()).await;
        assert_eq!(state == TradeState::Unpaid, believed, "{forged}");
    }
}

#[actix_web::test]
async fn a_notice_with_a_new_serial_is_read_once_its_certificate_is_fetched() {
    let server = serve(|_| certificates());
    let connector = connect(certificate_mode(&server.url));
    let derived = crate::vectors_wechatpay::derived();
    let case = derived["notifications"]
        .as_array()
        .unwrap()
        .iter()
        .find(|case| case["id"] == "pay-success-certificate")
        .unwrap();
    let headers = crate::vectors_wechatpay::headers(case);
    let body = case["body"].as_str().unwrap().as_bytes();
    let first = connector.read_notice(&headers, body, CLOCK);
    assert_eq!(first, Err(NoticeError::UnknownKey));
    let read_at_last = async {
        while connector.read_notice(&headers, body, CLOCK).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), read_at_last)
        .await
        .unwrap();
    assert_eq!(server.count("/certificates"), 1);
}

#[actix_web::test]
async fn a_code_is_exchanged_for_an_openid() {
    let (server, connector) = connected(|_| Act::plain(200, r#"{"openid":"o1","scope":"x"}"#));
    let code = "a code".to_owned().into();
    let payer = connector.exchange_code(&code).await.unwrap();
    assert_eq!(payer.0.expose_secret(), "o1");
    assert_eq!(
        server.seen()[0].target(),
        "/sns/oauth2/access_token?appid=wxd678efh567hg6787\
         &secret=a+secret+of+the+service+account&code=a+code&grant_type=authorization_code"
    );
    for (body, expected) in [
        (
            r#"{"errcode":40029,"errmsg":"invalid code"}"#,
            OauthError::CodeUsed,
        ),
        (r#"{"errcode":40163}"#, OauthError::CodeUsed),
        (r#"{"errcode":-1}"#, OauthError::Unavailable),
        (
            r#"{"errcode":40125}"#,
            OauthError::Refused {
                code: "40125".to_owned(),
            },
        ),
        (
            r#"{"openid":"o1","is_snapshotuser":1}"#,
            OauthError::Refused {
                code: "snapshot_user".to_owned(),
            },
        ),
        (r#"{"openid":""}"#, OauthError::Unavailable),
        ("<html>", OauthError::Unavailable),
    ] {
        let (_server, connector) = connected(move |_| Act::plain(200, body));
        let error = connector.exchange_code(&code).await.unwrap_err();
        assert_eq!(error, expected, "{body}");
    }
    let (_server, connector) = connected(|_| Act::Hang);
    let error = connector.exchange_code(&code).await.unwrap_err();
    assert_eq!(error, OauthError::Unavailable);
}

#[test]
fn an_account_says_what_it_can() {
    let native = connect(Settings {
        mode: CodeMode::Native,
        app_secret: None,
        h5: false,
        ..settings()
    });
    assert!(native.account().checkout_origins.is_empty());
    assert_eq!(native.acknowledgement(), (204, "application/json", ""));
    assert!(native.refusal().1.contains(r#""code":"FAIL""#));
    let unified = connect(settings());
    assert_eq!(
        unified.account().checkout_origins,
        ["https://wx.tenpay.com"]
    );
    assert!(!format!("{unified:?}").contains("MII"));
    let later = Timestamp::from_seconds(0);
    assert!(unified.read_notice(&BTreeMap::new(), b"", later).is_err());
}
