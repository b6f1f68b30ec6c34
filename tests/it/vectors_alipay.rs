//! Alipay's published and derived vectors (`tests/vectors/alipay-*.json`), each with its source noted
//! inside. Test-only keys.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what cannot be unwrapped fails the test"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use enrollpay::clock::ManualClock;
use enrollpay::order::{AccountId, CodeMode, Fen, Product, RefundAnswer, TradeAnswer};
use enrollpay::provider::alipay::sign::{self, Envelope};
use enrollpay::provider::alipay::{Connector, Settings, certificates};
use enrollpay::provider::rsa::{PrivateKey, PublicKey};
use enrollpay::provider::{
    Notice, NoticeError, PayParameters, Provider, ProviderError, RefundNews,
};
use enrollpay::random::SeededRandom;
use serde_json::Value;

use crate::vectors_wechatpay::{CLOCK, trade};

fn load(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

pub fn derived() -> Value {
    load(include_str!("../vectors/alipay-derived.json"))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name]
        .as_str()
        .unwrap_or_else(|| panic!("{name} in {value}"))
}

fn cases<'a>(document: &'a Value, name: &str) -> &'a [Value] {
    let cases = document[name].as_array().unwrap();
    assert!(!cases.is_empty());
    cases
}

pub fn key(name: &str) -> String {
    text(&derived()["keys"], name).to_owned()
}

pub fn private(name: &str) -> PrivateKey {
    PrivateKey::parse(&key(name).into()).unwrap()
}

pub fn settings() -> Settings {
    Settings {
        id: AccountId::new("school-alipay"),
        app_id: key("app_id"),
        seller_id: Some(key("seller_id")),
        private_key: key("app_private_key_pem").into(),
        alipay_public_key: Some(key("alipay_public_key_pem")),
        app_cert: None,
        alipay_cert: None,
        alipay_root_cert: None,
        base_url: Settings::BASE_URL.to_owned(),
        oauth_base_url: Settings::OAUTH_BASE_URL.to_owned(),
        mode: CodeMode::Unified,
        wap: false,
        payer_identity: true,
        precreate_product_code: Settings::PRECREATE_PRODUCT_CODE.to_owned(),
        timeout: Settings::TIMEOUT,
    }
}

pub fn certificate_mode() -> Settings {
    Settings {
        alipay_public_key: None,
        app_cert: Some(key("app_certificate_pem")),
        alipay_cert: Some(key("alipay_certificate_pem")),
        alipay_root_cert: Some(key("root_certificate_pem")),
        ..settings()
    }
}

pub fn connector(settings: Settings) -> Result<Connector, ProviderError> {
    Connector::new(
        settings,
        Arc::new(ManualClock::at(CLOCK)),
        Arc::new(SeededRandom::new(7)),
    )
}

fn parameters(case: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(case["parameters"].clone()).unwrap()
}

fn form(case: &Value) -> String {
    let parameters = parameters(case);
    sign::encode(
        parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str())),
    )
}

#[test]
fn requests_are_signed_to_the_byte() {
    let own = private("app_private_key_pem");
    for case in cases(&derived(), "requests") {
        let message = sign::request_message(parameters(case));
        assert_eq!(message, text(case, "message"), "{}", case["id"]);
        assert_eq!(
            own.sign(message.as_bytes()),
            text(case, "sign"),
            "{}",
            case["id"]
        );
        // Blanks travel as %20 here and as + in the vectors' forms: the same once decoded.
        let sent = parameters(case);
        let body = sign::encode([("biz_content", sent["biz_content"].as_str())]);
        assert_eq!(
            sign::decode_form(body.as_bytes()),
            sign::decode_form(text(case, "form_body").as_bytes()),
            "{}",
            case["id"]
        );
        let query = text(case, "url").split_once('?').unwrap().1;
        for pair in query.split('&') {
            let (name, _) = pair.split_once('=').unwrap();
            assert_eq!(sign::encode([(name, sent[name].as_str())]), pair);
        }
    }
}

#[test]
fn answers_verify_over_their_raw_text() {
    let document = load(include_str!("../vectors/alipay-sync-response.json"));
    for case in cases(&document, "extraction_cases") {
        let raw = text(case, "raw_response");
        let envelope = Envelope::cut(raw.as_bytes(), text(case, "response_key")).unwrap();
        let signed = std::str::from_utf8(envelope.response).unwrap();
        assert_eq!(signed, text(case, "signed_substring"), "{}", case["id"]);
        assert!(envelope.sign.is_some());
    }
    for case in cases(&document, "cases") {
        let key = PublicKey::parse(text(case, "public_key_pem")).unwrap();
        let signed = text(case, "signed_substring");
        let raw = case["raw_response"].as_str().map_or_else(
            || {
                format!(
                    "{{\"x_response\":{signed},\"sign\":\"{}\"}}",
                    text(case, "sign")
                )
            },
            str::to_owned,
        );
        let response_key = case["response_key"].as_str().unwrap_or("x_response");
        let envelope = Envelope::cut(raw.as_bytes(), response_key).unwrap();
        assert_eq!(envelope.response, signed.as_bytes());
        let valid = text(case, "expect") == "valid";
        assert_eq!(envelope.is_signed_by(&key), valid, "{}", case["id"]);
    }
    let alipay = PublicKey::parse(&key("alipay_public_key_pem")).unwrap();
    for case in cases(&derived(), "responses") {
        let raw = text(case, "raw_response");
        let envelope = Envelope::cut(raw.as_bytes(), text(case, "response_key")).unwrap();
        let valid = text(case, "expect") == "valid";
        assert_eq!(envelope.is_signed_by(&alipay), valid, "{}", case["id"]);
    }
}

#[test]
fn an_answer_signed_before_its_slashes_were_escaped_verifies() {
    let own = private("alipay_private_key_pem");
    let sign = own.sign(br#"{"qr_code":"https://qr.alipay.com/x"}"#);
    let raw =
        format!(r#"{{"x_response":{{"qr_code":"https:\/\/qr.alipay.com\/x"}},"sign":"{sign}"}}"#);
    let alipay = PublicKey::parse(&key("alipay_public_key_pem")).unwrap();
    assert!(
        Envelope::cut(raw.as_bytes(), "x_response")
            .unwrap()
            .is_signed_by(&alipay)
    );
}

#[test]
fn certificate_numbers_are_alipays() {
    let document = load(include_str!("../vectors/alipay-cert-sn.json"));
    for case in cases(&document, "cases") {
        let pem = text(case, "pem");
        if let Some(expected) = case["cert_sn"].as_str() {
            assert_eq!(certificates::certificate(pem).unwrap().0, expected);
        } else {
            let expected = text(case, "root_cert_sn");
            assert_eq!(certificates::root_serial_numbers(pem).unwrap(), expected);
        }
    }
    for (pem, number) in [
        ("app_certificate_pem", "app_cert_sn"),
        ("alipay_certificate_pem", "alipay_cert_sn"),
    ] {
        assert_eq!(certificates::certificate(&key(pem)).unwrap().0, key(number));
    }
    assert_eq!(
        certificates::root_serial_numbers(&key("root_certificate_pem")).unwrap(),
        key("alipay_root_cert_sn")
    );
}

#[test]
fn published_notices_verify_by_the_rule_for_trades() {
    let document = load(include_str!("../vectors/alipay-notify.json"));
    let mut read = 0;
    for case in cases(&document, "cases") {
        let own = parameters(case);
        let settings = Settings {
            app_id: own["app_id"].clone(),
            seller_id: None,
            alipay_public_key: Some(text(case, "public_key_pem").to_owned()),
            ..settings()
        };
        let connector = connector(settings).unwrap();
        let verdict = connector.read_notice(&BTreeMap::new(), form(case).as_bytes(), CLOCK);
        match text(case, "id") {
            // The message without sign_type is the one that trades are verified by.
            "trade-status-sync" | "trade-status-sync-keeping-sign-type" => {
                let Ok(Notice::Paid { success, .. }) = verdict else {
                    panic!("{verdict:?}");
                };
                assert_eq!(success.out_trade_no, own["out_trade_no"]);
                assert_eq!(Fen::from_yuan(&own["total_amount"]), Ok(success.amount));
                read += 1;
            }
            _ => assert_eq!(verdict, Err(NoticeError::BadSignature), "{}", case["id"]),
        }
    }
    assert_eq!(read, 2);
}

#[test]
fn every_notice_gets_its_verdict() {
    let connector = connector(settings()).unwrap();
    let document = derived();
    let mut seen = 0;
    for case in cases(&document, "notifications") {
        let id = text(case, "id");
        let body = text(case, "form_body").as_bytes();
        let read = connector.read_notice(&BTreeMap::new(), body, CLOCK);
        match (id, &read) {
            ("trade-success" | "trade-finished", Ok(Notice::Paid { success, notice_id }))
            | (
                "partial-refund" | "full-refund",
                Ok(Notice::Refund {
                    success: Some(success),
                    notice_id,
                    ..
                }),
            ) => {
                assert_eq!(success.amount, Fen::new(12_850));
                assert_eq!(&*success.currency, "CNY");
                assert_eq!(&*success.application, key("app_id"));
                assert_eq!(success.out_trade_no, "EP20260101080000000001");
                assert_eq!(&*success.transaction_id, "2026010122001400000000000001");
                assert_eq!(success.succeeded_at, CLOCK.plus_ms(90_000));
                assert!(notice_id.starts_with("20260101002220801300000000000000"));
            }
            ("trade-closed-after-close-call", Ok(Notice::Other { out_trade_no, .. })) => {
                assert_eq!(out_trade_no.as_deref(), Some("EP20260101080000000001"));
            }
            // The heart compares the amount with the order's.
            ("wrong-amount", Ok(Notice::Paid { success, .. })) => {
                assert_eq!(success.amount, Fen::new(1));
            }
            ("wrong-app-id" | "wrong-seller", Err(NoticeError::Foreign))
            | ("forged-with-app-key" | "tampered-after-signing", Err(NoticeError::BadSignature)) => {
            }
            (id, read) => panic!("{id}: {read:?}"),
        }
        if let Ok(Notice::Refund { news, .. }) = &read {
            let number = if id == "full-refund" { 2 } else { 1 };
            assert_eq!(
                news,
                &RefundNews {
                    out_trade_no: "EP20260101080000000001".to_owned(),
                    refund_no: format!("RF2026010108000000000{number}"),
                    amount: None,
                    answer: RefundAnswer::Succeeded,
                }
            );
        }
        seen += 1;
    }
    assert_eq!(seen, 10);
}

/// A refund's own number and time make news of it; the capture stays one, whatever else is told.
#[test]
fn a_refund_is_news_by_its_number_and_never_hides_the_capture() {
    let connector = connector(settings()).unwrap();
    let refunded = [
        ("refund_fee", "28.50"),
        ("gmt_refund", "2026-01-01 09:00:00.123"),
        ("out_biz_no", "rfd_1"),
    ];
    let read = |without: &str, status: &str| {
        let mut parameters = success_parameters();
        parameters.insert("trade_status", status.as_bytes().to_vec());
        for (name, value) in refunded.into_iter().filter(|(name, _)| *name != without) {
            parameters.insert(name, value.as_bytes().to_vec());
        }
        let body = notice(&parameters);
        connector
            .read_notice(&BTreeMap::new(), &body, CLOCK)
            .unwrap()
    };
    let Notice::Paid { success, .. } = read("refund_fee", "TRADE_SUCCESS") else {
        panic!("no payment");
    };
    for status in ["TRADE_SUCCESS", "TRADE_FINISHED", "TRADE_CLOSED"] {
        let Notice::Refund {
            news,
            success: captured,
            ..
        } = read("", status)
        else {
            panic!("no news: {status}");
        };
        assert_eq!((news.refund_no.as_str(), news.amount), ("rfd_1", None));
        assert_eq!(captured.as_ref(), Some(&success), "{status}");
        for (missing, _) in refunded {
            let read = read(missing, status);
            assert!(matches!(read, Notice::Paid { .. }), "{status}, {missing}");
        }
    }
}

/// A notice of these parameters, signed as Alipay would; values are the bytes of their charset.
pub fn notice(parameters: &BTreeMap<&str, Vec<u8>>) -> Vec<u8> {
    let form = parameters
        .iter()
        .map(|(name, value)| (name.as_bytes().to_vec(), value.clone()))
        .collect();
    let sign = private("alipay_private_key_pem").sign(&sign::notice_message(&form));
    let mut body = sign::encode([("sign", sign.as_str()), ("sign_type", "RSA2")]).into_bytes();
    for (name, value) in parameters {
        body.extend_from_slice(format!("&{name}=").as_bytes());
        for byte in value {
            body.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    body
}

pub fn success_parameters() -> BTreeMap<&'static str, Vec<u8>> {
    [
        ("notify_id", "N1"),
        ("notify_type", "trade_status_sync"),
        ("app_id", "2021000000000001"),
        ("seller_id", "2088000000000001"),
        ("charset", "utf-8"),
        ("trade_no", "2026010122001400000000000001"),
        ("out_trade_no", "EP20260101080000000001"),
        ("trade_status", "TRADE_SUCCESS"),
        ("total_amount", "128.50"),
        ("subject", "报名费 & 学费=1"),
        ("gmt_payment", "2026-01-01 08:01:30"),
        ("passback_params", "a%3D1+b"),
        ("empty", ""),
    ]
    .into_iter()
    .map(|(name, value)| (name, value.as_bytes().to_vec()))
    .collect()
}

#[test]
fn charsets_and_gaps_are_told_apart() {
    let connector = connector(settings()).unwrap();
    let read = |parameters: &BTreeMap<&str, Vec<u8>>| {
        connector.read_notice(&BTreeMap::new(), &notice(parameters), CLOCK)
    };
    let original = success_parameters();
    let paid = read(&original).unwrap();
    assert!(matches!(paid, Notice::Paid { .. }));

    let mut gbk = original.clone();
    gbk.insert("charset", b"GBK".to_vec());
    gbk.insert("subject", encoding_rs::GBK.encode("报名费").0.into_owned());
    assert_eq!(read(&gbk).unwrap(), paid);
    // Named UTF-8, written in GBK: signed, and unreadable.
    gbk.insert("charset", b"utf-8".to_vec());
    assert!(matches!(read(&gbk), Err(NoticeError::Unreadable { .. })));
    gbk.insert("charset", b"utf-16".to_vec());
    assert!(matches!(read(&gbk), Err(NoticeError::Unreadable { .. })));

    let without = |name: &str| {
        let mut part = original.clone();
        part.remove(name);
        read(&part)
    };
    let missing = NoticeError::Missing { what: "charset" };
    assert_eq!(without("charset"), Err(missing));
    for name in ["app_id", "seller_id"] {
        assert_eq!(without(name), Err(NoticeError::Foreign));
    }
    for name in [
        "notify_id",
        "trade_status",
        "total_amount",
        "out_trade_no",
        "trade_no",
        "gmt_payment",
    ] {
        let read = without(name);
        assert!(
            matches!(read, Err(NoticeError::Unreadable { .. })),
            "{name}"
        );
    }
    let unsigned = connector.read_notice(&BTreeMap::new(), b"charset=utf-8", CLOCK);
    assert_eq!(unsigned, Err(NoticeError::Missing { what: "sign" }));
    for amount in ["12850", "1e2", "-1.00", "128.500"] {
        let mut odd = original.clone();
        odd.insert("total_amount", amount.as_bytes().to_vec());
        // Whatever it says: never the amount of the original.
        assert_ne!(read(&odd), Ok(paid.clone()), "{amount}");
    }
    for (status, refund_fee, is_paid) in [
        ("TRADE_CLOSED", "128.50", true),
        ("TRADE_FINISHED", "", true),
        ("WAIT_BUYER_PAY", "", false),
        ("SOMETHING_NEW", "", false),
    ] {
        let mut other = original.clone();
        other.insert("trade_status", status.as_bytes().to_vec());
        other.insert("refund_fee", refund_fee.as_bytes().to_vec());
        let read = read(&other).unwrap();
        assert_eq!(matches!(read, Notice::Paid { .. }), is_paid, "{status}");
    }
}

#[test]
fn no_changed_byte_is_ever_accepted_as_something_else() {
    let connector = connector(settings()).unwrap();
    let body = notice(&success_parameters());
    let original = connector.read_notice(&BTreeMap::new(), &body, CLOCK);
    assert!(original.is_ok());
    let mut refused = 0;
    for position in 0..body.len() {
        for bit in [1, 4, 0x20, 0x80] {
            let mut changed = body.clone();
            changed[position] ^= bit;
            // `sign_type` and the spelling of hex digits are not signed: they change nothing.
            let read = connector.read_notice(&BTreeMap::new(), &changed, CLOCK);
            assert!(
                read.is_err() || read == original,
                "byte {position}: {read:?}"
            );
            refused += usize::from(read.is_err());
        }
    }
    assert!(refused > body.len() * 3);
}

thread_local! {
    static CONNECTOR: Connector = connector(settings()).unwrap();
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(body: Vec<u8>, value: Vec<u8>, charset: Vec<u8>) {
        let connector = CONNECTOR.with(Clone::clone);
        proptest::prop_assert!(connector.read_notice(&BTreeMap::new(), &body, CLOCK).is_err());
        let mut odd = success_parameters();
        odd.insert("charset", charset);
        odd.insert("subject", value);
        let _ = connector.read_notice(&BTreeMap::new(), &notice(&odd), CLOCK);
    }
}

#[test]
fn a_wrong_key_is_named_and_never_quoted() {
    type Change = fn(&mut Settings);
    let changes: [(&str, Change); 8] = [
        ("app_id", |settings| settings.app_id = "x".to_owned()),
        ("seller_id", |settings| {
            settings.seller_id = Some("1".to_owned());
        }),
        ("private_key", |settings| {
            settings.private_key = "hunter2".to_owned().into();
        }),
        ("alipay_public_key", |settings| {
            settings.alipay_public_key = Some("hunter2".to_owned());
        }),
        ("alipay_public_key", |settings| {
            settings.alipay_public_key = None;
        }),
        ("precreate_product_code", |settings| {
            settings.precreate_product_code.clear();
        }),
        ("base_url", |settings| {
            settings.base_url = "http://openapi.alipay.com/gateway.do".to_owned();
        }),
        ("app_cert", |settings| {
            let app_cert = Some(key("alipay_certificate_pem"));
            *settings = Settings {
                app_cert,
                ..certificate_mode()
            };
        }),
    ];
    for (name, change) in changes {
        let mut settings = settings();
        change(&mut settings);
        let error = connector(settings).unwrap_err().to_string();
        let expected = format!("account school-alipay: {name}: expected ");
        assert!(error.starts_with(&expected), "{error}");
        assert!(!error.contains("hunter2"));
    }
    connector(certificate_mode()).unwrap();
}

#[actix_web::test]
async fn a_wap_link_is_signed_and_makes_no_call() {
    let connector = connector(certificate_mode()).unwrap();
    let request = trade(Product::AlipayWap);
    let made = connector.make_trade(&request).await;
    assert_eq!(made, TradeAnswer::Made { handle: "".into() });
    let PayParameters::Link { url } = connector.pay_parameters(&request, "").unwrap() else {
        panic!("not a link");
    };
    let (gateway, query) = url.split_once('?').unwrap();
    assert_eq!(gateway, Settings::BASE_URL);
    assert!(!query.contains('+'), "blanks as %20");
    let sent: BTreeMap<String, String> = url::form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect();
    assert_eq!(sent["app_cert_sn"], key("app_cert_sn"));
    assert_eq!(sent["alipay_root_cert_sn"], key("alipay_root_cert_sn"));
    assert_eq!(sent["timestamp"], "2026-01-01 08:00:00");
    let content: Value = serde_json::from_str(&sent["biz_content"]).unwrap();
    assert_eq!(content["product_code"], "QUICK_WAP_WAY");
    assert_eq!(content["time_expire"], "2026-01-01 08:03:00");
    assert_eq!(content["total_amount"], "128.50");
    assert_eq!(content["quit_url"], request.return_url.as_deref().unwrap());
    let own = PublicKey::parse(&key("app_public_key_pem")).unwrap();
    assert!(own.verifies(sign::request_message(&sent).as_bytes(), &sent["sign"]));
    assert_eq!(
        connector.authorize_url("https://pay.example.edu.cn/s/abc", "0123"),
        "https://openauth.alipay.com/oauth2/publicAppAuthorize.htm?app_id=2021000000000001\
         &scope=auth_base&redirect_uri=https%3A%2F%2Fpay.example.edu.cn%2Fs%2Fabc&state=0123"
    );
}
