//! WeChat Pay's published and derived vectors (`tests/vectors/wechat-v3-*.json`), each with its source
//! noted inside. Test-only keys.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what cannot be unwrapped fails the test"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
use base64::Engine as _;
use enrollpay::clock::ManualClock;
use enrollpay::order::{
    AccountId, AttemptNumber, CodeMode, Fen, OrderId, OutTradeNo, Product, RefundAnswer, Timestamp,
};
use enrollpay::provider::rsa::{PrivateKey, PublicKey};
use enrollpay::provider::wechatpay::keys::KeyTable;
use enrollpay::provider::wechatpay::sign::{self, Resource, Signed};
use enrollpay::provider::wechatpay::{Connector, Settings};
use enrollpay::provider::{
    Notice, NoticeError, PayParameters, PayerId, Provider, ProviderError, RefundNews, TradeRequest,
};
use enrollpay::random::SeededRandom;
use serde_json::Value;

/// 2026-01-01T08:00:00+08:00, the clock of the derived vectors.
pub const CLOCK: Timestamp = Timestamp::from_seconds(1_767_225_600);

fn load(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn signing() -> Value {
    load(include_str!("../vectors/wechat-v3-request-signing.json"))
}

pub fn derived() -> Value {
    load(include_str!("../vectors/wechat-v3-derived.json"))
}

pub fn simulator() -> Value {
    load(include_str!("../vectors/wechat-v3-simulator-keys.json"))
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

fn private(pem: &str) -> PrivateKey {
    PrivateKey::parse(&pem.to_owned().into()).unwrap()
}

fn serial(keys: &Value) -> &str {
    text(&keys["wechat_pay"], "platform_certificate_serial_no")
}

pub fn settings() -> Settings {
    let keys = simulator();
    let (merchant, wechat) = (&keys["merchant"], &keys["wechat_pay"]);
    Settings {
        id: AccountId::new("school-wechat"),
        mchid: text(merchant, "mchid").to_owned(),
        appid: text(merchant, "appid").to_owned(),
        app_secret: Some("a secret of the service account".to_owned().into()),
        api_v3_key: text(merchant, "api_v3_key").to_owned().into(),
        private_key: text(merchant, "private_key_pem").to_owned().into(),
        certificate_serial: text(merchant, "certificate_serial_no").to_owned(),
        platform_public_key_id: Some(text(wechat, "public_key_id").to_owned()),
        platform_public_key: Some(text(wechat, "public_key_pem").to_owned()),
        base_url: Settings::BASE_URL.to_owned(),
        oauth_base_url: Settings::OAUTH_BASE_URL.to_owned(),
        openid_base_url: Settings::OPENID_BASE_URL.to_owned(),
        mode: CodeMode::Unified,
        h5: true,
        payer_identity: true,
        timeout: Settings::TIMEOUT,
    }
}

pub fn connector(settings: Settings) -> Result<Connector, ProviderError> {
    Connector::new(
        settings,
        Arc::new(ManualClock::at(CLOCK)),
        Arc::new(SeededRandom::new(7)),
    )
}

/// Both regimes at once: the public key, and the same key under the certificate's serial.
fn both_regimes() -> KeyTable {
    let keys = simulator();
    let wechat = &keys["wechat_pay"];
    let by_id = KeyTable::with_public_key(
        text(wechat, "public_key_id").into(),
        PublicKey::parse(text(wechat, "public_key_pem")).unwrap(),
    );
    let by_serial = KeyTable::with_public_key(
        serial(&keys).into(),
        PublicKey::parse(text(wechat, "platform_certificate_pem")).unwrap(),
    );
    by_id.merged(by_serial, CLOCK)
}

pub fn headers(case: &Value) -> BTreeMap<String, String> {
    case["headers"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| {
            let value = value.as_str().unwrap().to_owned();
            (name.to_ascii_lowercase(), value)
        })
        .collect()
}

#[test]
fn requests_are_signed_to_the_byte() {
    let document = signing();
    let key = |name: &str| private(text(&document["keys"][name], "private_key_pkcs8_pem"));
    let message = |case: &Value| {
        sign::request_message(
            text(case, "method"),
            text(case, "url_path_and_query"),
            text(case, "timestamp").parse().unwrap(),
            text(case, "nonce_str"),
            text(case, "body"),
        )
    };
    for case in cases(&document, "layout_cases") {
        assert_eq!(message(case), text(case, "message"), "{}", case["id"]);
    }
    for case in cases(&document, "cases") {
        assert_eq!(message(case), text(case, "message"), "{}", case["id"]);
        let signature = key(text(case, "key")).sign(message(case).as_bytes());
        assert_eq!(signature, text(case, "signature"), "{}", case["id"]);
    }
    for case in cases(&document, "raw_sign_cases") {
        let public = text(&document["keys"][text(case, "key")], "public_key_pem");
        let verifies = PublicKey::parse(public)
            .unwrap()
            .verifies(text(case, "message").as_bytes(), text(case, "signature"));
        assert_ne!(verifies, case["must_fail"] == true, "{}", case["id"]);
    }

    let keys = simulator();
    let merchant = &keys["merchant"];
    let own = private(text(merchant, "private_key_pem"));
    for case in cases(&derived(), "requests") {
        let signature = own.sign(message(case).as_bytes());
        assert_eq!(signature, text(case, "signature"), "{}", case["id"]);
        let authorization = sign::authorization(
            text(merchant, "mchid"),
            text(merchant, "certificate_serial_no"),
            text(case, "timestamp").parse().unwrap(),
            text(case, "nonce_str"),
            &signature,
        );
        assert_eq!(authorization, text(case, "authorization"), "{}", case["id"]);
    }
}

#[test]
fn pay_signs_are_signed_to_the_byte() {
    let document = signing();
    let docs_key = text(
        &document["keys"]["docs_test_merchant"],
        "private_key_pkcs8_pem",
    );
    let keys = simulator();
    let merchant_key = text(&keys["merchant"], "private_key_pem");
    let derived = derived();
    let mut seen = 0;
    for case in cases(&derived, "pay_sign") {
        let Some(package) = case["package"].as_str() else {
            continue;
        };
        let key = match text(case, "key") {
            "merchant" => merchant_key,
            _ => docs_key,
        };
        let message = sign::pay_message(
            text(case, "appId"),
            text(case, "timeStamp").parse().unwrap(),
            text(case, "nonceStr"),
            package,
        );
        assert_eq!(message, text(case, "message"));
        assert_eq!(private(key).sign(message.as_bytes()), text(case, "paySign"));
        seen += 1;
    }
    assert_eq!(seen, 2);
}

#[test]
fn published_answers_verify_and_their_mutations_do_not() {
    let document = load(include_str!(
        "../vectors/wechat-v3-response-verification.json"
    ));
    for case in cases(&document, "cases") {
        let pem = case["public_key_pem"]
            .as_str()
            .unwrap_or_else(|| text(case, "certificate_pem"));
        let key = PublicKey::parse(pem).unwrap();
        let signature = case["signature"]
            .as_str()
            .unwrap_or_else(|| text(&case["headers"], "Wechatpay-Signature"));
        let message = text(case, "message");
        let valid = text(case, "expect") == "valid";
        assert_eq!(
            key.verifies(message.as_bytes(), signature),
            valid,
            "{}",
            case["id"]
        );
        let Some(body) = case["body"].as_str() else {
            continue;
        };
        let mut headers = headers(case);
        let serial = headers
            .entry("wechatpay-serial".to_owned())
            .or_insert_with(|| "PUB_KEY_ID_1".to_owned())
            .clone();
        let table = KeyTable::with_public_key(serial.into(), key);
        let signed = Signed::of_map(&headers).unwrap();
        assert_eq!(
            String::from_utf8(sign::answer_message(
                signed.timestamp,
                signed.nonce,
                body.as_bytes()
            ))
            .unwrap(),
            message
        );
        let now = Timestamp::from_seconds(signed.timestamp.parse().unwrap());
        assert_eq!(
            signed.verify(&table, body.as_bytes(), now),
            Ok(()),
            "{}",
            case["id"]
        );
    }
}

#[test]
fn answers_of_both_regimes_verify_by_their_serial() {
    let table = both_regimes();
    for case in cases(&derived(), "responses") {
        let headers = headers(case);
        let body = text(case, "body").as_bytes();
        let signed = Signed::of_map(&headers).unwrap();
        assert_eq!(signed.verify(&table, body, CLOCK), Ok(()), "{}", case["id"]);
        for (offset, fresh) in [(299_999, true), (300_000, false), (-300_000, false)] {
            let verdict = signed.verify(&table, body, CLOCK.plus_ms(offset));
            assert_eq!(verdict.is_ok(), fresh, "{offset}");
            assert!(fresh || matches!(verdict, Err(NoticeError::Stale { .. })));
        }
    }
}

fn aead_key(text: &str) -> Option<LessSafeKey> {
    let key = UnboundKey::new(&AES_256_GCM, text.as_bytes()).ok()?;
    Some(LessSafeKey::new(key))
}

#[test]
fn resources_open_with_the_right_key_only() {
    let document = load(include_str!("../vectors/wechat-v3-aead.json"));
    let mut opened = 0;
    for case in cases(&document, "cases") {
        let resource = Resource {
            algorithm: "AEAD_AES_256_GCM".to_owned(),
            ciphertext: text(case, "ciphertext_base64").to_owned(),
            nonce: text(case, "nonce_utf8").to_owned(),
            associated_data: Some(text(case, "associated_data_utf8").to_owned()),
        };
        let plain = aead_key(text(case, "key_utf8")).and_then(|key| resource.open(&key));
        // WeChat's nonces have 12 bytes and its keys 32; vectors of other shapes must not open.
        let of_wechat = resource.nonce.len() == 12 && case["key_bytes"] == 32;
        match case["plaintext_utf8"].as_str().filter(|_| of_wechat) {
            Some(expected) => {
                assert_eq!(
                    plain.as_deref(),
                    Some(expected.as_bytes()),
                    "{}",
                    case["id"]
                );
                opened += 1;
            }
            None => assert_eq!(plain, None, "{}", case["id"]),
        }
    }
    assert!(opened > 0);
}

#[test]
fn platform_certificates_are_opened_and_checked() {
    let document = load(include_str!(
        "../vectors/wechat-v3-platform-certificates.json"
    ));
    let case = &cases(&document, "cases")[0];
    let serial = text(&case["certificate"], "serial_no");
    let answer = |serial: &str| {
        serde_json::json!({ "data": [{
            "serial_no": serial,
            "effective_time ": "2023-09-19T23:15:58+08:00",
            "encrypt_certificate": case["encrypt_certificate"],
        }]})
        .to_string()
    };
    let key = aead_key(text(case, "api_v3_key")).unwrap();
    let table = KeyTable::of_answer(answer(serial).as_bytes(), &key).unwrap();
    assert!(table.get(serial, CLOCK).is_some());
    let after_its_end = Timestamp::from_seconds(1_900_000_000);
    assert!(table.get(serial, after_its_end).is_none());
    assert!(KeyTable::default().merged(table, after_its_end).is_empty());

    let renamed = answer(&format!("A{}", &serial[1..]));
    assert!(
        KeyTable::of_answer(renamed.as_bytes(), &key)
            .unwrap()
            .is_empty()
    );
    let other_key = aead_key("0123456789abcdef0123456789abcdef").unwrap();
    assert!(
        KeyTable::of_answer(answer(serial).as_bytes(), &other_key)
            .unwrap()
            .is_empty()
    );
}

fn sealed_notice(plain: &Value, event: &str) -> String {
    let keys = simulator();
    let key = aead_key(text(&keys["merchant"], "api_v3_key")).unwrap();
    let mut sealed = plain.to_string().into_bytes();
    let nonce = aws_lc_rs::aead::Nonce::assume_unique_for_key(*b"0123456789ab");
    key.seal_in_place_append_tag(nonce, aws_lc_rs::aead::Aad::empty(), &mut sealed)
        .unwrap();
    serde_json::json!({
        "id": "EV-1", "event_type": event, "a new member": [],
        "resource": {
            "algorithm": "AEAD_AES_256_GCM",
            "nonce": "0123456789ab",
            "ciphertext": base64::engine::general_purpose::STANDARD.encode(&sealed),
        },
    })
    .to_string()
}

/// Headers that sign `body` as WeChat would at `at`.
pub fn signed_headers(body: &[u8], at: Timestamp) -> BTreeMap<String, String> {
    let keys = simulator();
    let wechat = &keys["wechat_pay"];
    let timestamp = at.as_seconds().to_string();
    let message = sign::answer_message(&timestamp, "nonce", body);
    let signature = private(text(wechat, "private_key_pem")).sign(&message);
    BTreeMap::from([
        ("wechatpay-timestamp".to_owned(), timestamp),
        ("wechatpay-nonce".to_owned(), "nonce".to_owned()),
        ("wechatpay-signature".to_owned(), signature),
        (
            "wechatpay-serial".to_owned(),
            text(wechat, "public_key_id").to_owned(),
        ),
    ])
}

#[test]
fn every_notice_gets_its_verdict() {
    let connector = connector(settings()).unwrap();
    let mut verdicts = BTreeMap::<&str, u32>::new();
    let document = derived();
    for case in cases(&document, "notifications") {
        let id = text(case, "id");
        let mut headers = headers(case);
        if id == "pay-success-certificate" {
            // Key mode knows the certificate's serial only after a fetch.
            let refused = connector.read_notice(&headers, text(case, "body").as_bytes(), CLOCK);
            assert_eq!(refused, Err(NoticeError::UnknownKey));
            let id = settings().platform_public_key_id.unwrap();
            headers.insert("wechatpay-serial".to_owned(), id);
        }
        let read = connector.read_notice(&headers, text(case, "body").as_bytes(), CLOCK);
        let expected = text(case, "expect");
        *verdicts.entry(expected).or_default() += 1;
        match (id, &read) {
            (
                "pay-success-public-key" | "pay-success-certificate",
                Ok(Notice::Paid { success, .. }),
            ) => {
                assert_eq!(success.amount, Fen::new(12_850));
                assert_eq!(&*success.currency, "CNY");
                assert_eq!(success.out_trade_no, "EP20260101080000000001");
                assert_eq!(&*success.transaction_id, "4200002601202601010000000001");
                assert_eq!(success.succeeded_at, CLOCK.plus_ms(90_000));
            }
            // The heart compares amount and appid with the order's.
            ("pay-wrong-amount", Ok(Notice::Paid { success, .. })) => {
                assert_eq!(success.amount, Fen::new(1));
            }
            ("pay-wrong-appid", Ok(Notice::Paid { success, .. })) => {
                assert_eq!(&*success.application, "wx0000000000000000");
            }
            ("pay-wrong-mchid", Err(NoticeError::Foreign))
            | ("pay-signtest-probe", Err(NoticeError::Probe))
            | ("pay-unknown-serial", Err(NoticeError::UnknownKey)) => {}
            (_, Err(NoticeError::Stale { seconds: 301 })) => {
                assert_eq!(expected, "reject-timestamp");
            }
            (_, Err(NoticeError::BadSignature)) => assert_eq!(expected, "reject-signature"),
            ("refund-success", Ok(Notice::Refund { news, success, .. })) => {
                assert_eq!(news, &refund_news(RefundAnswer::Succeeded));
                assert_eq!(success, &None);
            }
            ("refund-abnormal", Ok(Notice::Refund { news, .. })) => {
                assert_eq!(news, &refund_news(RefundAnswer::Abnormal));
            }
            ("refund-closed", Ok(Notice::Refund { news, .. })) => {
                assert_eq!(news, &refund_news(RefundAnswer::Failed));
            }
            (id, read) => panic!("{id}: {read:?}"),
        }
    }
    assert_eq!(verdicts.values().sum::<u32>(), 13);
}

fn refund_news(answer: RefundAnswer) -> RefundNews {
    RefundNews {
        out_trade_no: "EP20260101080000000001".to_owned(),
        refund_no: "RF20260101080000000001".to_owned(),
        amount: Some(Fen::new(2_850)),
        answer,
    }
}

#[test]
fn news_of_a_refund_is_whole_and_ours_or_not_believed() {
    let connector = connector(settings()).unwrap();
    let read = |plain: &Value, event: &str| {
        let body = sealed_notice(plain, event);
        let headers = signed_headers(body.as_bytes(), CLOCK);
        connector.read_notice(&headers, body.as_bytes(), CLOCK)
    };
    let document = derived();
    let refund = cases(&document, "notifications")
        .iter()
        .find(|case| case["id"] == "refund-success")
        .unwrap();
    let refund: Value = serde_json::from_str(text(refund, "plaintext")).unwrap();
    let changed = |member: &str, value: Value| {
        let mut plain = refund.clone();
        plain[member] = value;
        read(&plain, "REFUND.SUCCESS")
    };
    // What it says inside counts, whatever is written on it.
    for event in ["REFUND.SUCCESS", "REFUND.PROCESSING"] {
        let Ok(Notice::Refund {
            news, notice_id, ..
        }) = read(&refund, event)
        else {
            panic!("{event}");
        };
        assert_eq!(news, refund_news(RefundAnswer::Succeeded));
        assert_eq!(notice_id, "EV-1");
    }
    let foreign = changed("mchid", "1900000002".into());
    assert_eq!(foreign, Err(NoticeError::Foreign));
    for (member, value) in [
        ("mchid", Value::Null),
        ("out_refund_no", Value::Null),
        ("out_trade_no", Value::Null),
        ("amount", serde_json::json!({ "total": 12850 })),
        ("refund_status", Value::Null),
        ("refund_status", "SOMETHING_NEW".into()),
    ] {
        let read = changed(member, value);
        assert!(
            matches!(read, Err(NoticeError::Unreadable { .. })),
            "{member}: {read:?}"
        );
    }
}

#[test]
fn an_unknown_event_is_no_trouble_and_an_unreadable_one_is_kept() {
    let connector = connector(settings()).unwrap();
    let read = |body: &str| {
        let headers = signed_headers(body.as_bytes(), CLOCK);
        connector.read_notice(&headers, body.as_bytes(), CLOCK)
    };
    let success: Value =
        serde_json::from_str(text(&cases(&derived(), "notifications")[0], "plaintext")).unwrap();
    // Without associated_data, with a member that we do not know.
    assert!(matches!(
        read(&sealed_notice(&success, "TRANSACTION.SUCCESS")),
        Ok(Notice::Paid { .. })
    ));
    assert!(matches!(
        read(&sealed_notice(&success, "PAYSCORE.USER_PAID")),
        Ok(Notice::Other { .. })
    ));
    for member in [
        "amount",
        "transaction_id",
        "success_time",
        "mchid",
        "trade_state",
    ] {
        let mut part = success.clone();
        part.as_object_mut().unwrap().remove(member);
        let read = read(&sealed_notice(&part, "TRANSACTION.SUCCESS"));
        assert!(
            matches!(read, Err(NoticeError::Unreadable { .. })),
            "{member}"
        );
    }
    for nonsense in [
        "",
        "{",
        "<xml><return_code>SUCCESS</return_code></xml>",
        "null",
    ] {
        assert!(matches!(
            read(nonsense),
            Err(NoticeError::Unreadable { .. })
        ));
    }
    // V2 sends XML without any of the headers.
    let unsigned = connector.read_notice(&BTreeMap::new(), b"\n<xml></xml>", CLOCK);
    assert_eq!(unsigned, Err(NoticeError::OlderInterface));
    let unsigned = connector.read_notice(&BTreeMap::new(), b"{}", CLOCK);
    assert!(matches!(unsigned, Err(NoticeError::Missing { .. })));
}

#[test]
fn no_changed_byte_is_ever_accepted() {
    let connector = connector(settings()).unwrap();
    for case in cases(&derived(), "notifications") {
        if text(case, "id") != "pay-success-public-key" && text(case, "id") != "refund-success" {
            continue;
        }
        let (original, body) = (headers(case), text(case, "body").as_bytes());
        assert!(connector.read_notice(&original, body, CLOCK).is_ok());
        for position in 0..body.len() {
            for bit in [1, 0x20, 0x80] {
                let mut changed = body.to_vec();
                changed[position] ^= bit;
                let read = connector.read_notice(&original, &changed, CLOCK);
                assert_eq!(read, Err(NoticeError::BadSignature), "byte {position}");
            }
        }
        for name in ["timestamp", "nonce", "signature", "serial"] {
            let name = &format!("wechatpay-{name}");
            for position in 0..original[name].len() {
                let mut changed = original.clone();
                let mut bytes = changed[name].clone().into_bytes();
                bytes[position] ^= 1;
                changed.insert(name.clone(), String::from_utf8(bytes).unwrap());
                let read = connector.read_notice(&changed, body, CLOCK);
                assert!(read.is_err(), "{name}, byte {position}");
            }
            let mut cut = original.clone();
            cut.remove(name);
            assert!(matches!(
                connector.read_notice(&cut, body, CLOCK),
                Err(NoticeError::Missing { .. })
            ));
        }
        assert!(connector.read_notice(&original, &body[1..], CLOCK).is_err());
    }
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(body: Vec<u8>, timestamp: String, signature: String, serial: String) {
        let connector = CONNECTOR.with(Clone::clone);
        let headers = BTreeMap::from([
            ("wechatpay-timestamp".to_owned(), timestamp),
            ("wechatpay-nonce".to_owned(), String::new()),
            ("wechatpay-signature".to_owned(), signature),
            ("wechatpay-serial".to_owned(), serial),
        ]);
        proptest::prop_assert!(connector.read_notice(&headers, &body, CLOCK).is_err());
        let signed = signed_headers(&body, CLOCK);
        proptest::prop_assert!(connector.read_notice(&signed, &body, CLOCK).is_err());
    }
}

thread_local! {
    static CONNECTOR: Connector = connector(settings()).unwrap();
}

#[test]
fn a_wrong_key_is_named_and_never_quoted() {
    type Change = fn(&mut Settings);
    let changes: [(&str, Change); 9] = [
        ("mchid", |settings| settings.mchid = "19x".to_owned()),
        ("appid", |settings| settings.appid.clear()),
        ("certificate_serial", |settings| {
            settings.certificate_serial = "no".to_owned();
        }),
        ("app_secret", |settings| settings.app_secret = None),
        ("api_v3_key", |settings| {
            settings.api_v3_key = "hunter2".to_owned().into();
        }),
        ("private_key", |settings| {
            settings.private_key = "hunter2".to_owned().into();
        }),
        ("platform_public_key_id", |settings| {
            settings.platform_public_key = None;
        }),
        ("platform_public_key", |settings| {
            settings.platform_public_key = Some("x".to_owned());
        }),
        ("base_url", |settings| {
            settings.base_url = "http://api.mch.weixin.qq.com".to_owned();
        }),
    ];
    for (name, change) in changes {
        let mut settings = settings();
        change(&mut settings);
        let error = connector(settings).unwrap_err().to_string();
        let expected = format!("account school-wechat: {name}: expected ");
        assert!(error.starts_with(&expected), "{error}");
        assert!(!error.contains("hunter2"));
    }
}

pub fn number() -> OutTradeNo {
    OutTradeNo {
        order: OrderId::from_ulid(ulid::Ulid(1 << 100)),
        attempt: AttemptNumber::FIRST,
    }
}

pub fn trade(product: Product) -> TradeRequest {
    TradeRequest {
        out_trade_no: number(),
        product,
        amount: Fen::new(12_850),
        subject: "报名费🎓-2026春季".to_owned(),
        time_expire: CLOCK.plus_ms(180_000),
        notify_url: "https://pay.example.edu.cn/callbacks/x".to_owned(),
        return_url: Some("https://pay.example.edu.cn/pay/t?a=1&b=2".to_owned()),
        payer: Some(PayerId("oUpF8uMuAJO_M2pxb1Q9zNjWeS6o".to_owned().into())),
        payer_address: Some("203.0.113.7".parse().unwrap()),
        identity: None,
    }
}

#[test]
fn the_page_gets_what_the_wallet_needs() {
    let connector = connector(settings()).unwrap();
    let PayParameters::Jsapi(members) = connector
        .pay_parameters(&trade(Product::WechatJsapi), "wx2014")
        .unwrap()
    else {
        panic!("not JSAPI");
    };
    let message = sign::pay_message(
        &members["appId"],
        members["timeStamp"].parse().unwrap(),
        &members["nonceStr"],
        &members["package"],
    );
    assert_eq!(members["timeStamp"], CLOCK.as_seconds().to_string());
    assert_eq!(members["package"], "prepay_id=wx2014");
    assert_eq!(members["signType"], "RSA");
    let keys = simulator();
    let merchant = PublicKey::parse(text(&keys["merchant"], "certificate_pem")).unwrap();
    assert!(merchant.verifies(message.as_bytes(), &members["paySign"]));

    let link = connector
        .pay_parameters(
            &trade(Product::WechatH5),
            "https://wx.tenpay.com/cgi-bin/x?prepay_id=wx2014&package=1",
        )
        .unwrap();
    let url = "https://wx.tenpay.com/cgi-bin/x?prepay_id=wx2014&package=1\
               &redirect_url=https%3A%2F%2Fpay.example.edu.cn%2Fpay%2Ft%3Fa%3D1%26b%3D2"
        .to_owned();
    assert_eq!(link, PayParameters::Link { url });
    let content = "weixin://wxpay/bizpayurl?pr=x".to_owned();
    let code = connector
        .pay_parameters(&trade(Product::WechatNative), &content)
        .unwrap();
    assert_eq!(code, PayParameters::Code { content });
    assert!(
        connector
            .pay_parameters(&trade(Product::AlipayWap), "")
            .is_err()
    );
    assert_eq!(
        connector.authorize_url("https://pay.example.edu.cn/s/abc?x=1", "0123"),
        "https://open.weixin.qq.com/connect/oauth2/authorize?appid=wxd678efh567hg6787\
         &redirect_uri=https%3A%2F%2Fpay.example.edu.cn%2Fs%2Fabc%3Fx%3D1\
         &response_type=code&scope=snsapi_base&state=0123#wechat_redirect"
    );
}
