//! Calls to Alipay against a server on loopback: what is sent, and what each answer proves.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what cannot be unwrapped fails the test"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use enrollpay::clock::ManualClock;
use enrollpay::order::{CloseAnswer, Fen, Product, RefundAnswer, TradeAnswer};
use enrollpay::provider::alipay::{Connector, Settings, sign};
use enrollpay::provider::rsa::PublicKey;
use enrollpay::provider::{
    Identity, OTHER_PERSON, OauthError, PayParameters, PayerId, Provider, RefundDestination,
    RefundRequest, TradeRequest, TradeState,
};
use enrollpay::random::SystemRandom;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::loopback::{Act, Seen, Server, hangs_up, nobody, serve};
use crate::vectors_alipay::{certificate_mode, key, private, settings};
use crate::vectors_wechatpay::{CLOCK, number, trade};

/// The parameters of a call, from query and form.
pub fn sent(seen: &Seen) -> BTreeMap<String, String> {
    [&seen.query, &seen.body]
        .into_iter()
        .flat_map(|part| url::form_urlencoded::parse(part.as_bytes()).into_owned())
        .collect()
}

pub fn business(seen: &Seen) -> Value {
    serde_json::from_str(&sent(seen)["biz_content"]).unwrap()
}

fn response_key(seen: &Seen) -> String {
    format!("{}_response", sent(seen)["method"].replace('.', "_"))
}

/// The answer to a call, signed by Alipay; in certificate mode with the certificate's number.
pub fn signed(seen: &Seen, response: &Value) -> Act {
    let text = response.to_string().replace('/', "\\/");
    let sign = private("alipay_private_key_pem").sign(text.as_bytes());
    let number = if sent(seen).contains_key("app_cert_sn") {
        format!(r#""alipay_cert_sn":"{}","#, key("alipay_cert_sn"))
    } else {
        String::new()
    };
    let name = response_key(seen);
    Act::plain(
        200,
        format!(r#"{{"{name}":{text},{number}"sign":"{sign}"}}"#),
    )
}

pub fn unsigned(seen: &Seen, response: &Value) -> Act {
    Act::plain(200, json!({ response_key(seen): response }).to_string())
}

pub fn failure(code: &str, sub_code: &str) -> Value {
    json!({ "code": code, "msg": "x", "sub_code": sub_code, "sub_msg": "y" })
}

pub fn at(url: &str) -> Settings {
    Settings {
        base_url: format!("{url}/gateway.do"),
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

/// A connector whose every call gets this signed response.
fn answering(response: Value) -> (Server, Connector) {
    connected(move |seen| signed(seen, &response))
}

fn query_response(status: &str) -> Value {
    json!({
        "code": "10000", "msg": "Success", "out_trade_no": number().to_string(),
        "trade_no": "2026010122001400000000000001", "trade_status": status,
        "total_amount": "128.50", "send_pay_date": "2026-01-01 08:01:30",
        "buyer_logon_id": "159****5620", "sign": "an inner member",
    })
}

fn refund_request() -> RefundRequest {
    RefundRequest {
        out_trade_no: number(),
        refund_no: "rfd_1".to_owned(),
        amount: Fen::new(2_850),
        total: Fen::new(12_850),
        reason: "退学退费".to_owned(),
        notify_url: "https://pay.example.edu.cn/callbacks/x".to_owned(),
    }
}

#[actix_web::test]
async fn every_call_is_made_by_the_book() {
    for with_certificates in [false, true] {
        let server = serve(|seen| signed(seen, &failure("20000", "isp.unknow-error")));
        let base_url = format!("{}/gateway.do", server.url);
        let connector = connect(if with_certificates {
            Settings {
                base_url,
                ..certificate_mode()
            }
        } else {
            Settings {
                base_url,
                ..settings()
            }
        });
        let mut create = trade(Product::AlipayCreate);
        create.subject = "学费/2026 = a & b".to_owned();
        connector.make_trade(&create).await;
        create.payer = Some(PayerId("2088101117955611".to_owned().into()));
        connector.make_trade(&create).await;
        connector.make_trade(&trade(Product::AlipayPrecreate)).await;
        connector.query_trade(number()).await;
        connector.close_trade(number()).await;
        connector.refund(&refund_request()).await;
        connector.query_refund(&refund_request()).await;
        let _ = connector.exchange_code(&"a code".to_owned().into()).await;

        let seen = server.seen();
        let own = PublicKey::parse(&key("app_public_key_pem")).unwrap();
        for one in &seen {
            let sent = sent(one);
            assert!(own.verifies(sign::request_message(&sent).as_bytes(), &sent["sign"]));
            assert_eq!(
                (one.method.as_str(), one.path.as_str()),
                ("POST", "/gateway.do")
            );
            assert!(one.query.contains("charset=utf-8") && one.query.contains("sign="));
            assert!(!one.query.contains("biz_content") && !one.query.contains("code="));
            assert_eq!(sent["timestamp"], "2026-01-01 08:00:00");
            assert_eq!(sent["sign_type"], "RSA2");
            assert_eq!(sent.contains_key("app_cert_sn"), with_certificates);
            assert_eq!(sent.contains_key("alipay_root_cert_sn"), with_certificates);
        }
        let methods: Vec<_> = seen.iter().map(|one| sent(one)["method"].clone()).collect();
        assert_eq!(
            methods,
            [
                "alipay.trade.create",
                "alipay.trade.create",
                "alipay.trade.precreate",
                "alipay.trade.query",
                "alipay.trade.close",
                "alipay.trade.refund",
                "alipay.trade.fastpay.refund.query",
                "alipay.system.oauth.token",
            ]
        );
        let number = number().to_string();
        assert_eq!(
            business(&seen[0]),
            json!({
                "out_trade_no": number, "total_amount": "128.50",
                "subject": "学费／2026 ＝ a ＆ b", "product_code": "JSAPI_PAY",
                "time_expire": "2026-01-01 08:03:00", "op_app_id": key("app_id"),
                "buyer_open_id": "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o",
            })
        );
        assert_eq!(business(&seen[1])["buyer_id"], "2088101117955611");
        assert!(business(&seen[1]).get("buyer_open_id").is_none());
        assert_eq!(business(&seen[2])["product_code"], "QR_CODE_OFFLINE");
        assert_eq!(business(&seen[3]), json!({ "out_trade_no": number }));
        assert_eq!(
            business(&seen[5]),
            json!({
                "out_trade_no": number, "refund_amount": "28.50",
                "out_request_no": "rfd_1", "refund_reason": "退学退费",
            })
        );
        assert_eq!(
            sent(&seen[0])["notify_url"],
            "https://pay.example.edu.cn/callbacks/x"
        );
        assert!(!sent(&seen[3]).contains_key("notify_url"));
        assert_eq!(sent(&seen[7])["code"], "a code");
    }
}

fn identified(product: Product) -> TradeRequest {
    TradeRequest {
        identity: Some(Identity {
            name: "王五".to_owned().into(),
            id_number: "65010220000312001X".to_owned().into(),
        }),
        ..trade(product)
    }
}

#[actix_web::test]
async fn an_identity_goes_with_every_product() {
    let (server, connector) = connected(|seen| signed(seen, &failure("20000", "isp.unknow-error")));
    for product in [Product::AlipayCreate, Product::AlipayPrecreate] {
        connector.make_trade(&identified(product)).await;
        connector.make_trade(&trade(product)).await;
    }
    let named = json!({
        "name": "王五", "cert_type": "IDENTITY_CARD", "cert_no": "65010220000312001X",
        "need_check_info": "T", "fix_buyer": "T",
    });
    for (index, seen) in server.seen().iter().enumerate() {
        let expected = (index % 2 == 0).then_some(&named);
        assert_eq!(business(seen).get("ext_user_info"), expected, "{index}");
    }
    let link = connector.pay_parameters(&identified(Product::AlipayWap), "");
    let PayParameters::Link { url } = link.unwrap() else {
        panic!("a link");
    };
    let url = url::Url::parse(&url).unwrap();
    let (_, biz) = url
        .query_pairs()
        .find(|(name, _)| name == "biz_content")
        .unwrap();
    let biz: Value = serde_json::from_str(&biz).unwrap();
    assert_eq!(biz["ext_user_info"], named);
}

#[actix_web::test]
async fn another_persons_wallet_is_refused_by_name() {
    for code in ["ACQ.PAYER_UNMATCHED", "ACQ.CUSTOMER_VALIDATE_ERROR"] {
        let (_server, connector) = answering(failure("40004", code));
        let refused = TradeAnswer::Refused {
            code: OTHER_PERSON.into(),
        };
        let request = identified(Product::AlipayCreate);
        assert_eq!(connector.make_trade(&request).await, refused, "{code}");
        // Where nobody was named, it proves nothing.
        let answer = connector.make_trade(&trade(Product::AlipayCreate)).await;
        assert_eq!(answer, TradeAnswer::Unknown, "{code}");
    }
}

#[actix_web::test]
async fn a_trade_is_made_refused_or_unknown() {
    let number = number().to_string();
    for (product, member, handle) in [
        (Product::AlipayCreate, "trade_no", "2026010122"),
        (
            Product::AlipayPrecreate,
            "qr_code",
            "https://qr.alipay.com/bax1",
        ),
    ] {
        let good = json!({ "code": "10000", "out_trade_no": number, member: handle });
        let (_server, connector) = answering(good.clone());
        let made = TradeAnswer::Made {
            handle: handle.into(),
        };
        assert_eq!(connector.make_trade(&trade(product)).await, made);
        let server = serve(move |seen| signed(seen, &good));
        let with_certificates = connect(Settings {
            base_url: server.url.clone(),
            ..certificate_mode()
        });
        assert_eq!(with_certificates.make_trade(&trade(product)).await, made);
        for bad in [
            json!({ "code": "10000", "out_trade_no": "another", member: handle }),
            json!({ "code": "10000", "out_trade_no": number }),
            json!({ "code": "10000", "out_trade_no": number, member: "" }),
        ] {
            let (_server, connector) = answering(bad.clone());
            let answer = connector.make_trade(&trade(product)).await;
            assert_eq!(answer, TradeAnswer::Unknown, "{bad}");
        }
    }
    for (code, sub_code, proof) in [
        ("40004", "ACQ.INVALID_PARAMETER", true),
        ("40004", "ACQ.ACCESS_FORBIDDEN", true),
        ("40004", "EXIST_FORBIDDEN_WORD", true),
        ("40004", "ACQ.BUYER_SELLER_EQUAL", true),
        ("40002", "isv.invalid-parameter", true),
        ("40006", "isv.insufficient-isv-permissions", true),
        ("40004", "ACQ.TRADE_HAS_SUCCESS", false),
        ("40004", "ACQ.TRADE_HAS_CLOSE", false),
        ("40004", "ACQ.CONTEXT_INCONSISTENT", false),
        ("40004", "ACQ.TRADE_BUYER_NOT_MATCH", false),
        ("40004", "ACQ.APPLY_PC_MERCHANT_CODE_ERROR", false),
        ("40004", "ACQ.SYSTEM_ERROR", false),
        ("40004", "AQC.SYSTEM_ERROR", false),
        ("40004", "ACQ.SOMETHING_NEW", false),
        ("40002", "isv.invalid-signature", false),
        ("40005", "isv.app-call-limited", false),
        ("20000", "isp.unknow-error", false),
        ("20000", "ACQ.INVALID_PARAMETER", false),
    ] {
        let response = failure(code, sub_code);
        let (_server, connector) = answering(response.clone());
        let answer = connector.make_trade(&trade(Product::AlipayCreate)).await;
        let expected = if proof {
            let code = sub_code.into();
            TradeAnswer::Refused { code }
        } else {
            TradeAnswer::Unknown
        };
        assert_eq!(answer, expected, "{sub_code}");
        // The same error without a signature proves nothing.
        let (_server, connector) = connected(move |seen| unsigned(seen, &response));
        let answer = connector.make_trade(&trade(Product::AlipayCreate)).await;
        assert_eq!(answer, TradeAnswer::Unknown, "{sub_code}");
    }
    let (server, connector) = connected(|_| Act::Hang);
    let mut nobody = trade(Product::AlipayCreate);
    nobody.payer = None;
    for request in [nobody, trade(Product::WechatJsapi)] {
        let answer = connector.make_trade(&request).await;
        assert!(matches!(answer, TradeAnswer::Refused { .. }));
    }
    assert!(server.seen().is_empty());
}

#[actix_web::test]
async fn nothing_unproved_is_believed() {
    type Script = Box<dyn Fn(&Seen) -> Act + Send + Sync>;
    let paid = || query_response("TRADE_SUCCESS");
    let tampered = move |seen: &Seen, from: &str, to: &str| {
        let Act::Answer { body, .. } = signed(seen, &paid()) else {
            unreachable!("an answer");
        };
        let text = String::from_utf8(body).unwrap();
        assert!(text.contains(from));
        Act::plain(200, text.replace(from, to))
    };
    let scripts: Vec<(&str, Script)> = vec![
        ("unsigned", Box::new(move |seen| unsigned(seen, &paid()))),
        (
            "tampered",
            Box::new(move |seen| tampered(seen, "128.50", "128.51")),
        ),
        (
            "reserialised",
            Box::new(move |seen| tampered(seen, "\",\"", "\", \"")),
        ),
        (
            "under another key",
            Box::new(move |seen| tampered(seen, "query", "close")),
        ),
        ("cut short", Box::new(move |seen| tampered(seen, "}", ""))),
        (
            "ten megabytes",
            Box::new(move |seen| {
                let Act::Answer { mut body, .. } = signed(seen, &paid()) else {
                    unreachable!("an answer");
                };
                body.resize(10 * 1024 * 1024, b' ');
                Act::plain(200, body)
            }),
        ),
        (
            "a redirect",
            Box::new(|_| Act::Answer {
                status: 302,
                headers: BTreeMap::from([("location".to_owned(), "/gateway.do".to_owned())]),
                body: vec![],
            }),
        ),
        ("a page", Box::new(|_| Act::plain(200, "<html>"))),
        (
            "a 500 with a true body",
            Box::new(move |seen| {
                let Act::Answer { body, .. } = signed(seen, &paid()) else {
                    unreachable!("an answer");
                };
                Act::plain(500, body)
            }),
        ),
        ("limited", Box::new(|_| Act::plain(429, "{}"))),
        ("silence", Box::new(|_| Act::Hang)),
    ];
    for (name, script) in scripts {
        let (server, connector) = connected(script);
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
        assert_eq!(connector.close_trade(number()).await, CloseAnswer::Unknown);
        assert_eq!(
            connector.refund(&refund_request()).await,
            RefundAnswer::Unknown
        );
    }
    // In certificate mode an answer must name the certificate that we have.
    let server = serve(move |seen| tampered(seen, &key("alipay_cert_sn"), "0"));
    let connector = connect(Settings {
        base_url: server.url.clone(),
        ..certificate_mode()
    });
    assert_eq!(connector.query_trade(number()).await, TradeState::Unknown);
}

#[actix_web::test]
async fn a_query_tells_the_state_of_our_trade_only() {
    let with = |status: &str, changes: Value| {
        let mut response = query_response(status);
        for (name, value) in changes.as_object().unwrap() {
            response[name] = value.clone();
        }
        response
    };
    let unpaid = json!({ "send_pay_date": "", "buyer_pay_amount": "0.00" });
    for (response, expected) in [
        (with("WAIT_BUYER_PAY", json!({})), TradeState::Unpaid),
        (with("TRADE_CLOSED", unpaid), TradeState::Closed),
        (
            with(
                "TRADE_CLOSED",
                json!({ "send_pay_date": "", "receipt_amount": "1.00" }),
            ),
            TradeState::Unknown,
        ),
        (with("SOMETHING_NEW", json!({})), TradeState::Unknown),
        (
            with("TRADE_SUCCESS", json!({ "out_trade_no": "x" })),
            TradeState::Unknown,
        ),
        (
            with("TRADE_SUCCESS", json!({ "send_pay_date": "" })),
            TradeState::Unknown,
        ),
        (
            with("TRADE_SUCCESS", json!({ "total_amount": "1e2" })),
            TradeState::Unknown,
        ),
        (
            with("TRADE_SUCCESS", json!({ "trade_no": "" })),
            TradeState::Unknown,
        ),
        (
            failure("40004", "ACQ.TRADE_NOT_EXIST"),
            TradeState::NotFound,
        ),
        (failure("40004", "TRADE_NOT_EXIST"), TradeState::NotFound),
        (failure("40004", "ACQ.SYSTEM_ERROR"), TradeState::Unknown),
        (failure("40002", "isv.invalid-app-id"), TradeState::Unknown),
    ] {
        let (_server, connector) = answering(response.clone());
        assert_eq!(
            connector.query_trade(number()).await,
            expected,
            "{response}"
        );
    }
    for status in ["TRADE_SUCCESS", "TRADE_FINISHED", "TRADE_CLOSED"] {
        let (_server, connector) = answering(query_response(status));
        let TradeState::Paid(success) = connector.query_trade(number()).await else {
            panic!("not paid: {status}");
        };
        assert_eq!(success.amount, Fen::new(12_850));
        assert_eq!(&*success.application, key("app_id"));
        assert_eq!(success.succeeded_at, CLOCK.plus_ms(90_000));
    }
    let missing = failure("40004", "ACQ.TRADE_NOT_EXIST");
    let (_server, connector) = connected(move |seen| unsigned(seen, &missing));
    assert_eq!(connector.query_trade(number()).await, TradeState::Unknown);
}

#[actix_web::test]
async fn a_close_is_done_or_asks_what_became_of_the_trade() {
    let done = json!({ "code": "10000", "out_trade_no": number().to_string() });
    for (response, expected) in [
        (done, CloseAnswer::Closed),
        (
            json!({ "code": "10000", "out_trade_no": "x" }),
            CloseAnswer::Unknown,
        ),
        (
            failure("40004", "ACQ.TRADE_NOT_EXIST"),
            CloseAnswer::NotFound,
        ),
        (failure("40004", "ACQ.SYSTEM_ERROR"), CloseAnswer::Unknown),
        (
            failure("40004", "ACQ.INVALID_PARAMETER"),
            CloseAnswer::Unknown,
        ),
        (failure("20000", "aop.unknow-error"), CloseAnswer::Unknown),
    ] {
        let (server, connector) = answering(response.clone());
        assert_eq!(
            connector.close_trade(number()).await,
            expected,
            "{response}"
        );
        assert_eq!(server.seen().len(), 1);
    }
    for code in [
        "ACQ.TRADE_STATUS_ERROR",
        "ACQ.REASON_TRADE_STATUS_INVALID",
        "ACQ.REASON_ILLEGAL_STATUS",
    ] {
        for (status, expected) in [
            ("TRADE_SUCCESS", CloseAnswer::AlreadyPaid),
            ("WAIT_BUYER_PAY", CloseAnswer::NotYet),
            ("?", CloseAnswer::Unknown),
        ] {
            let (server, connector) = connected(move |seen| {
                let response = if sent(seen)["method"].ends_with("close") {
                    failure("40004", code)
                } else {
                    query_response(status)
                };
                signed(seen, &response)
            });
            assert_eq!(
                connector.close_trade(number()).await,
                expected,
                "{code} {status}"
            );
            assert_eq!(server.seen().len(), 2);
        }
    }
}

#[actix_web::test]
async fn a_refund_succeeds_only_where_money_moved() {
    let number = number().to_string();
    let refunded = |change: &str, sum: &str| json!({ "code": "10000", "out_trade_no": number, "fund_change": change, "refund_fee": sum });
    let refund = |change: &str| refunded(change, "28.50");
    for (response, expected) in [
        (refund("Y"), RefundAnswer::Succeeded),
        (refund("N"), RefundAnswer::Processing),
        // The sum of all refunds so far: this one must be within it, and it within the payment.
        (refunded("Y", "100.00"), RefundAnswer::Succeeded),
        (refunded("Y", "128.50"), RefundAnswer::Succeeded),
        (refunded("Y", "28.49"), RefundAnswer::Unknown),
        (refunded("Y", "128.51"), RefundAnswer::Unknown),
        (refunded("Y", ""), RefundAnswer::Unknown),
        (refund("?"), RefundAnswer::Unknown),
        (
            json!({ "code": "10000", "out_trade_no": number, "refund_fee": "28.50" }),
            RefundAnswer::Unknown,
        ),
        (
            json!({ "code": "10000", "fund_change": "Y", "refund_fee": "28.50" }),
            RefundAnswer::Unknown,
        ),
        (
            failure("40004", "ACQ.TRADE_HAS_FINISHED"),
            RefundAnswer::Failed,
        ),
        (
            failure("40004", "ACQ.REASON_TRADE_REFUND_FEE_ERR"),
            RefundAnswer::Failed,
        ),
        (
            failure("40004", "ACQ.SELLER_BALANCE_NOT_ENOUGH"),
            RefundAnswer::Underfunded,
        ),
        (
            failure("40004", "ACQ.DISCORDANT_REPEAT_REQUEST"),
            RefundAnswer::Unknown,
        ),
        (failure("40004", "ACQ.SYSTEM_ERROR"), RefundAnswer::Unknown),
    ] {
        let (_server, connector) = answering(response.clone());
        assert_eq!(
            connector.refund(&refund_request()).await,
            expected,
            "{response}"
        );
    }
    let state = |status: &str, amount: &str, refund_no: &str| {
        json!({
            "code": "10000", "out_trade_no": number, "out_request_no": refund_no,
            "refund_status": status, "refund_amount": amount,
        })
    };
    for (response, expected) in [
        (
            state("REFUND_SUCCESS", "28.50", "rfd_1"),
            RefundAnswer::Succeeded,
        ),
        (
            state("REFUND_SUCCESS", "28.5", "rfd_1"),
            RefundAnswer::Succeeded,
        ),
        (
            state("REFUND_SUCCESS", "28.51", "rfd_1"),
            RefundAnswer::Unknown,
        ),
        (
            state("REFUND_SUCCESS", "28.50", "rfd_2"),
            RefundAnswer::Unknown,
        ),
        (json!({ "code": "10000" }), RefundAnswer::Unknown),
        (failure("40004", "TRADE_NOT_EXIST"), RefundAnswer::Unknown),
    ] {
        let (_server, connector) = answering(response.clone());
        let asked = connector.query_refund(&refund_request()).await;
        assert_eq!(asked, expected, "{response}");
        // There is no other destination here: the answer is how it stands.
        let destination = RefundDestination::MerchantCard;
        let repaired = connector
            .repair_refund(&refund_request(), &destination)
            .await;
        assert_eq!(repaired, expected, "{response}");
    }
}

#[actix_web::test]
async fn a_code_is_exchanged_for_the_payer() {
    let code = "a code".to_owned().into();
    for (response, id) in [
        (
            json!({ "user_id": "2088101117955611", "access_token": "t" }),
            "2088101117955611",
        ),
        (
            json!({ "open_id": "074a1CcTG1LelxKe4xQC0zgNdId0nxi95b5lsNpazWYoCo5" }),
            "074a1CcTG1LelxKe4xQC0zgNdId0nxi95b5lsNpazWYoCo5",
        ),
    ] {
        let (_server, connector) = answering(response.clone());
        let payer = connector.exchange_code(&code).await.unwrap();
        assert_eq!(payer.0.expose_secret(), id);
        let (_server, connector) = connected(move |seen| unsigned(seen, &response));
        let forged = connector.exchange_code(&code).await;
        assert_eq!(forged.unwrap_err(), OauthError::Unavailable);
    }
    let used = failure("40002", "isv.code-invalid");
    let as_error = |response: &Value| {
        let sign = private("alipay_private_key_pem").sign(response.to_string().as_bytes());
        let body = json!({ "error_response": response, "sign": sign }).to_string();
        move |_: &Seen| Act::plain(200, body.clone())
    };
    let (_server, connector) = connected(as_error(&used));
    let error = connector.exchange_code(&code).await.unwrap_err();
    assert_eq!(error, OauthError::CodeUsed);
    let (_server, connector) = connected(move |seen| unsigned(seen, &used));
    let error = connector.exchange_code(&code).await.unwrap_err();
    assert_eq!(error, OauthError::CodeUsed);
    let (_server, connector) = connected(as_error(&failure(
        "40006",
        "isv.insufficient-isv-permissions",
    )));
    let error = connector.exchange_code(&code).await.unwrap_err();
    assert!(matches!(error, OauthError::Refused { .. }));
    let (_server, connector) = connected(|_| Act::Hang);
    let error = connector.exchange_code(&code).await.unwrap_err();
    assert_eq!(error, OauthError::Unavailable);
}

#[test]
fn an_account_says_what_it_can() {
    let connector = connect(settings());
    let (status, _, body) = connector.acknowledgement();
    assert_eq!((status, body), (200, "success"));
    assert_eq!(connector.refusal().1, "fail");
    let origins = &connector.account().checkout_origins;
    assert_eq!(origins[0], "https://openapi.alipay.com");
    assert!(!format!("{connector:?}").contains("MII"));
}
