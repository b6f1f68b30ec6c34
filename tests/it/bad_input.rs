//! What bad input gets (reliability §6): a problem document that helps, and nothing written.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use enrollpay::http::Limits;
use enrollpay::http::problem::CATALOGUE;
use enrollpay::store::OrderFilter;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::api::gateway::{Answered, Gateway, START, Wishes, new_order, order_with};

const NONCE: &str = "nonce-of-sixteen-or-more";

impl Gateway {
    /// A signed POST of these very bytes.
    async fn post_bytes(&self, path: &str, body: &[u8]) -> Answered {
        let signed = self.authorization(&self.school, "POST", path, body);
        let headers = [
            ("authorization", signed.as_str()),
            ("content-type", "application/json"),
        ];
        self.send("POST", path, body.to_vec(), &headers).await
    }

    /// Nothing of all this became an order.
    pub async fn is_empty(&self) {
        let filter = OrderFilter {
            merchant: self.school.merchant,
            merchant_order_no: None,
            payer_index: None,
            status: None,
            created_after: None,
            before: None,
            limit: 10,
        };
        assert!(self.store.orders(&filter).await.unwrap().is_empty());
    }

    /// Writes raw bytes to the port and reads the answer.
    async fn raw(&self, request: &[u8]) -> String {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        socket.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        let read = async {
            let mut chunk = [0; 4096];
            while !is_whole(&answer) {
                // A reset after the answer is a closed connection, too.
                match socket.read(&mut chunk).await {
                    Ok(0) | Err(_) => break,
                    Ok(length) => answer.extend_from_slice(&chunk[..length]),
                }
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(20), read).await;
        in_time.expect("an answer");
        String::from_utf8_lossy(&answer).into_owned()
    }
}

/// Head, and as many bytes as it announces.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    length.is_some_and(|length| body.len() >= length.parse::<usize>().unwrap())
}

#[actix_web::test]
async fn what_is_not_http_gets_a_bare_status() {
    let gateway = Gateway::start().await;
    for (request, status) in [
        ("hello\r\n\r\n".to_owned(), "400"),
        ("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), "400"),
        ("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n".to_owned(), "400"),
        (format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(200_000)), "431"),
    ] {
        let answer = gateway.raw(request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    gateway.stop().await;
}

#[actix_web::test]
async fn unknown_addresses_and_methods() {
    let gateway = Gateway::start().await;
    for path in [
        "/",
        "/v2/orders",
        "/v1",
        "/v1/orders/x/y",
        "/openapi",
        "/%2e%2e/etc/passwd",
    ] {
        let answer = gateway.send("GET", path, Vec::new(), &[]).await;
        answer.is_problem(404, "not_found");
    }
    let id = gateway.order("A-1").await;
    for (method, path, allow) in [
        ("DELETE", "/v1/orders".to_owned(), "GET, POST"),
        ("PUT", format!("/v1/orders/{id}"), "GET"),
        ("GET", format!("/v1/orders/{id}/cancel"), "POST"),
        ("DELETE", format!("/v1/orders/{id}/refunds"), "GET, POST"),
        ("POST", format!("/v1/orders/{id}/refunds/{id}"), "GET"),
        ("POST", "/v1/events".to_owned(), "GET"),
        ("GET", format!("/v1/events/{id}/resend"), "POST"),
        ("POST", "/openapi.json".to_owned(), "GET"),
    ] {
        let answer = gateway.send(method, &path, Vec::new(), &[]).await;
        answer.is_problem(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), Some(allow), "{path}");
    }
    for wrong in [
        "ord_1",
        "ORD_01",
        "att_00000000000000000000000001",
        "%00",
        "ord_%F0%9F%92%A9",
    ] {
        let answer = gateway.get(&format!("/v1/orders/{wrong}")).await;
        answer.is_problem(404, "not_found");
    }
    gateway.stop().await;
}

#[actix_web::test]
async fn credentials_that_are_missing_or_cannot_be_read() {
    let gateway = Gateway::start().await;
    let good = gateway.authorization(&gateway.school, "GET", "/v1/orders", b"");
    let second = good.replace("key_id", "id");
    let short = good.replace("nonce-", "").replace(&"0".repeat(20), "");
    for headers in [
        vec![],
        vec![("authorization", "")],
        vec![("authorization", "Bearer abc")],
        vec![("authorization", second.as_str())],
        vec![("authorization", short.as_str())],
        vec![
            ("authorization", good.as_str()),
            ("authorization", good.as_str()),
        ],
    ] {
        let answer = gateway
            .send("GET", "/v1/orders", Vec::new(), &headers)
            .await;
        answer.is_problem(401, "credentials_missing");
        assert_eq!(
            answer.header("www-authenticate"),
            Some("ENROLLPAY-HMAC-SHA256")
        );
    }
    gateway.stop().await;
}

#[actix_web::test]
async fn signatures_that_are_not_the_keys() {
    let gateway = Gateway::start().await;
    let body = new_order("A-1").to_string();
    let path = "/v1/orders?x=1";
    let good = gateway.authorization_with(&gateway.school, "POST", path, body.as_bytes(), NONCE);
    let unknown = good.replace(
        &gateway.school.key.to_string(),
        "key_0000000000000000000000000Z",
    );
    let theirs = good.replace(
        &gateway.school.key.to_string(),
        &gateway.other.key.to_string(),
    );
    let no_key = good.replace(&gateway.school.key.to_string(), "somebody");
    let (start, _) = good.rsplit_once("signature=").unwrap();
    let garbled = format!("{start}signature=\"AAAA\"");
    let not_base64 = format!("{start}signature=\"?\"");
    let mut first = None;
    for (sent, method, path, body) in [
        (&unknown, "POST", path, body.as_str()),
        (&theirs, "POST", path, &body),
        (&no_key, "POST", path, &body),
        (&garbled, "POST", path, &body),
        (&not_base64, "POST", path, &body),
        (&good, "POST", "/v1/orders?x=2", &body),
        (&good, "POST", path, &body.replace("14000", "14001")),
    ] {
        let headers = [
            ("authorization", sent.as_str()),
            ("content-type", "application/json"),
        ];
        let answer = gateway
            .send(method, path, body.as_bytes().to_vec(), &headers)
            .await;
        answer.is_problem(401, "signature_invalid");
        let expected = answer.body["expected_string_to_sign"].as_str().unwrap();
        let now = START.as_seconds();
        let head = format!(
            "POST\n{path}\n{now}\n{NONCE}\n<the body, {} bytes>\n",
            body.len()
        );
        assert_eq!(expected, head);
        let text = String::from_utf8_lossy(&answer.bytes);
        assert!(!text.contains("sk_") && !text.contains("测试考生"));
        // Unknown key and wrong signature look the same.
        let detail = answer.body["detail"].clone();
        assert_eq!(*first.get_or_insert(detail.clone()), detail);
    }
    gateway.is_empty().await;
    gateway.stop().await;
}

#[actix_web::test]
async fn clocks_may_differ_by_five_minutes() {
    let gateway = Gateway::start().await;
    for (away, good) in [(-301, false), (-300, true), (300, true), (301, false)] {
        let signed = gateway.authorization(&gateway.school, "GET", "/v1/orders", b"");
        gateway.clock.advance_ms(-away * 1_000);
        let headers = [("authorization", signed.as_str())];
        let answer = gateway
            .send("GET", "/v1/orders", Vec::new(), &headers)
            .await;
        if good {
            assert_eq!(answer.status, 200, "{away}");
        } else {
            answer.is_problem(401, "timestamp_stale");
            assert_eq!(answer.body["difference_seconds"], away);
            assert!(answer.body["server_time"].is_i64());
        }
        gateway.clock.set(START);
    }
    gateway.stop().await;
}

#[actix_web::test]
async fn a_nonce_is_taken_once_by_what_may_change_something() {
    let gateway = Gateway::start().await;
    let path = "/v1/orders";
    let send = async |method: &str, body: &Value, nonce: &str| {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let school = &gateway.school;
        let signed = gateway.authorization_with(school, method, path, body.as_bytes(), nonce);
        let headers = [
            ("authorization", signed.as_str()),
            ("content-type", "application/json"),
        ];
        gateway
            .send(method, path, body.into_bytes(), &headers)
            .await
    };
    let first = send("POST", &new_order("A-1"), NONCE).await;
    assert_eq!(first.status, 201);
    let replayed = send("POST", &new_order("A-1"), NONCE).await;
    replayed.is_problem(401, "nonce_replayed");
    assert_eq!(replayed.body["first_seen"], "2026-11-20T18:00:00+08:00");
    // Taken by refused requests, too.
    let other = "another-nonce-of-this-key";
    send("POST", &json!({}), other)
        .await
        .is_problem(400, "validation_failed");
    send("POST", &new_order("A-2"), other)
        .await
        .is_problem(401, "nonce_replayed");
    let list = send("GET", &Value::Null, other).await;
    assert_eq!(list.body["data"].as_array().unwrap().len(), 1);
    // Reading again is no replay.
    assert_eq!(send("GET", &Value::Null, other).await.status, 200);
    gateway.stop().await;
}

#[actix_web::test]
async fn bodies_that_are_too_large_or_too_slow() {
    let wishes = Wishes {
        limits: Limits {
            merchant_body_bytes: 1_000,
            ..Limits::default()
        },
        ..Wishes::default()
    };
    let gateway = Gateway::start_with(wishes).await;
    let announced = gateway.post_bytes("/v1/orders", &[b' '; 1_001]).await;
    announced.is_problem(413, "body_too_large");
    assert_eq!(announced.body["limit_bytes"], 1_000);

    let signed = gateway.authorization(&gateway.school, "POST", "/v1/orders", b"");
    let head = |rest: &str| {
        format!("POST /v1/orders HTTP/1.1\r\nhost: x\r\nauthorization: {signed}\r\n{rest}\r\n\r\n")
    };
    let chunk = format!("400\r\n{}\r\n", "x".repeat(0x400));
    let endless = head("transfer-encoding: chunked") + &chunk;
    let answer = gateway.raw(endless.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("connection: close") && answer.contains("body_too_large"));
    // Nine of ten bytes, and then nothing.
    let slow = head("content-length: 10") + "123456789";
    let answer = gateway.raw(slow.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("connection: close") && answer.contains("body_too_slow"));
    gateway.is_empty().await;
    gateway.stop().await;
}

#[actix_web::test]
async fn other_media_types_and_encodings() {
    let gateway = Gateway::start().await;
    let body = new_order("A-1").to_string();
    for headers in [
        vec![],
        vec![("content-type", "text/plain")],
        vec![("content-type", "application/json; charset=gbk")],
        vec![("content-type", "application/x-www-form-urlencoded")],
        vec![
            ("content-type", "application/json"),
            ("content-encoding", "gzip"),
        ],
    ] {
        let bytes = body.as_bytes();
        let signed = gateway.authorization(&gateway.school, "POST", "/v1/orders", bytes);
        let mut all = vec![("authorization", signed.as_str())];
        all.extend(headers);
        let answer = gateway
            .send("POST", "/v1/orders", bytes.to_vec(), &all)
            .await;
        answer.is_problem(415, "unsupported_media_type");
    }
    gateway.is_empty().await;
    gateway.stop().await;
}

#[actix_web::test]
async fn what_is_not_json() {
    let gateway = Gateway::start().await;
    let sound = new_order("A-1").to_string();
    let twice = sound.replacen("\"amount\":14000", "\"amount\":14000,\"amount\":14000", 1);
    let deep = format!("{{\"metadata\":{}{}}}", "[".repeat(200), "]".repeat(200));
    let mut not_utf8 = sound.clone().into_bytes();
    let place = sound.find("ZK").or(sound.find("A-1")).unwrap();
    not_utf8[place] = 0xff;
    for body in [
        &b"{"[..],
        b"[1,2",
        b"{}{}",
        b"{'a':1}",
        b"NaN",
        b"{\"a\":1e999}",
        br#"{"a":"\ud800"}"#,
        b"\xef\xbb\xbf{}",
        twice.as_bytes(),
        deep.as_bytes(),
        &not_utf8,
    ] {
        let answer = gateway.post_bytes("/v1/orders", body).await;
        answer.is_problem(400, "malformed_json");
        assert!(answer.body["line"].is_u64() && answer.body["column"].is_u64());
        assert!(!String::from_utf8_lossy(&answer.bytes).contains("650102"));
    }
    gateway.is_empty().await;
    gateway.stop().await;
}

#[actix_web::test]
async fn every_finding_is_listed_at_once() {
    let gateway = Gateway::start().await;
    let body = json!({
        "merchant_order_no": "A 1",
        "subject": "",
        "items": [{ "name": "a", "amount": 0 }, { "amount": "3", "colour": "red" }, 7],
        "amount": 1.5,
        "currency": "USD",
        "payer": { "ref": "１２３", "phone": "call me", "id_number": 65 },
        "wallets": ["wechat", "paypal", "wechat"],
        "pay_before": "tomorrow",
        "late_grace_seconds": 60,
        "payer_identity": "maybe",
        "receipt_email": "nobody",
        "return_url": "ftp://x",
        "display_fields": [{ "label": "a\u{202e}b", "value": "\u{7}" }],
        "metadata": { "a": [1], "b": 1.5 },
        "a/b~c": 1,
    });
    let answer = gateway.post("/v1/orders", &body).await;
    answer.is_problem(400, "validation_failed");
    let mut found = answer.pointers();
    found.sort_unstable();
    let mut expected = [
        "/a~1b~0c",
        "/amount",
        "/currency",
        "/display_fields/0/label",
        "/display_fields/0/value",
        "/items/0/amount",
        "/items/1/amount",
        "/items/1/colour",
        "/items/1/name",
        "/items/2",
        "/late_grace_seconds",
        "/merchant_order_no",
        "/metadata/a",
        "/metadata/b",
        "/pay_before",
        "/payer/id_number",
        "/payer/phone",
        "/payer/ref",
        "/payer_identity",
        "/receipt_email",
        "/return_url",
        "/subject",
        "/wallets/1",
        "/wallets/2",
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);
    let detail = |pointer: &str| {
        let errors = answer.body["errors"].as_array().unwrap();
        let found = errors.iter().find(|error| error["pointer"] == pointer);
        found.unwrap()["detail"].as_str().unwrap().to_owned()
    };
    assert!(detail("/payer/ref").contains("full-width"));
    assert!(detail("/merchant_order_no").contains("blank"));

    let empty = gateway.post("/v1/orders", &json!({})).await;
    empty.is_problem(400, "validation_failed");
    let required = [
        "/merchant_order_no",
        "/subject",
        "/items",
        "/amount",
        "/currency",
        "/payer",
    ];
    assert_eq!(empty.pointers(), required);
    for not_an_object in ["[]", "1", "null", "\"a\""] {
        let answer = gateway
            .post_bytes("/v1/orders", not_an_object.as_bytes())
            .await;
        answer.is_problem(400, "validation_failed");
    }
    gateway.is_empty().await;
    gateway.stop().await;
}

#[actix_web::test]
async fn limits_of_texts_and_lists_are_exact() {
    let gateway = Gateway::start().await;
    let long = |length: usize| "学".repeat(length);
    let many = |count: usize| {
        let item = json!({ "name": "a", "amount": 1 });
        Value::Array(vec![item; count])
    };
    let keys = |count: usize| {
        (0..count)
            .map(|n| (format!("k{n}"), json!(n)))
            .collect::<Value>()
    };
    for (pointer, good, bad) in [
        ("/subject", json!(long(127)), json!(long(128))),
        ("/items/0/name", json!(long(128)), json!(long(129))),
        ("/items/0/note", json!(long(256)), json!(long(257))),
        (
            "/merchant_order_no",
            json!("n".repeat(64)),
            json!("n".repeat(65)),
        ),
        ("/payer/name", json!(long(64)), json!(long(65))),
        ("/metadata", keys(20), keys(21)),
    ] {
        let mut order = order_with(pointer, good);
        if pointer != "/merchant_order_no" {
            order["merchant_order_no"] = json!(pointer.replace('/', "_"));
        }
        let answer = gateway.post("/v1/orders", &order).await;
        assert_eq!(answer.status, 201, "{pointer}: {}", answer.body);
        let answer = gateway.post("/v1/orders", &order_with(pointer, bad)).await;
        answer.is_problem(400, "validation_failed");
        assert_eq!(answer.pointers(), [pointer]);
    }
    for (count, status) in [(1, 201), (200, 201), (201, 400), (0, 400)] {
        let mut order = order_with("/items", many(count));
        order["amount"] = json!(count);
        order["merchant_order_no"] = json!(format!("I-{count}"));
        assert_eq!(
            gateway.post("/v1/orders", &order).await.status,
            status,
            "{count}"
        );
    }
    gateway.stop().await;
}

#[actix_web::test]
async fn amounts_that_cannot_be() {
    let gateway = Gateway::start().await;
    for (pointer, value, at) in [
        ("/amount", json!(13_999), "/amount"),
        ("/amount", json!(0), "/amount"),
        ("/amount", json!(-14_000), "/amount"),
        ("/amount", json!(14_000.0), "/amount"),
        ("/amount", json!(1_000_000_001), "/amount"),
        ("/amount", json!(u64::MAX), "/amount"),
        ("/items/0/amount", json!(0), "/items/0/amount"),
        ("/items/0/amount", json!(-1), "/items/0/amount"),
        ("/items/0/amount", json!(0.5), "/items/0/amount"),
        ("/items/0/amount", json!(3_501), "/amount"),
        ("/items/0/amount", json!(i64::MAX), "/items/0/amount"),
    ] {
        let answer = gateway
            .post("/v1/orders", &order_with(pointer, value.clone()))
            .await;
        answer.is_problem(400, "amount_invalid");
        assert_eq!(answer.pointers(), [at], "{value}");
    }
    let answer = gateway
        .post("/v1/orders", &order_with("/amount", json!(13_999)))
        .await;
    let detail = answer.body["errors"][0]["detail"].as_str().unwrap();
    assert!(
        detail.contains("14000") && detail.contains("13999"),
        "{detail}"
    );
    gateway.is_empty().await;
    gateway.stop().await;
}

#[actix_web::test]
async fn deadlines_that_cannot_be() {
    let gateway = Gateway::start().await;
    for wrong in [
        "2026-11-20T17:59:59+08:00",
        "2026-11-20T18:00:00+08:00",
        "2030-01-01T00:00:00+08:00",
        "2026-11-21T18:00:00",
        "2026-11-21",
        "21.11.2026",
        "",
    ] {
        let answer = gateway
            .post("/v1/orders", &order_with("/pay_before", json!(wrong)))
            .await;
        answer.is_problem(400, "pay_before_invalid");
        assert_eq!(answer.body["server_time"], "2026-11-20T18:00:00+08:00");
        assert!(answer.body["latest"].is_string());
    }
    gateway.is_empty().await;
    for good in ["2026-11-20T18:00:01+08:00", "2026-11-21T00:00:00Z"] {
        let mut order = order_with("/pay_before", json!(good));
        order["merchant_order_no"] = json!(format!("D-{}", good.len()));
        assert_eq!(
            gateway.post("/v1/orders", &order).await.status,
            201,
            "{good}"
        );
    }
    let mut close = order_with("/pay_before", json!("2026-11-20T18:01:59+08:00"));
    close["merchant_order_no"] = json!("D-close");
    let order = gateway.post("/v1/orders", &close).await;
    let path = format!("/v1/orders/{}/attempts", order.body["id"].as_str().unwrap());
    gateway
        .post(&path, &Value::Null)
        .await
        .is_problem(409, "deadline_passed");
    gateway.stop().await;
}

#[actix_web::test]
async fn queries_and_headers_that_cannot_be() {
    let gateway = Gateway::start().await;
    for (query, at) in [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=ten", "limit"),
        ("status=open", "status"),
        ("cursor=abc", "cursor"),
        ("created_after=yesterday", "created_after"),
        ("colour=red", "colour"),
        ("limit=1&limit=2", "limit"),
        ("merchant_order_no=a%20b", "merchant_order_no"),
    ] {
        let answer = gateway.get(&format!("/v1/orders?{query}")).await;
        answer.is_problem(400, "validation_failed");
        assert_eq!(answer.pointers(), [at], "{query}");
    }
    for key in ["", "a b", &"k".repeat(256)] {
        let answer = gateway
            .post_once(key, "/v1/orders", &new_order("A-1"))
            .await;
        answer.is_problem(400, "validation_failed");
        assert_eq!(answer.pointers(), ["Idempotency-Key"]);
    }
    gateway.is_empty().await;
    let id = gateway.order("A-1").await;
    for action in ["cancel", "query", "attempts"] {
        let path = format!("/v1/orders/{id}/{action}");
        let answer = gateway.post(&path, &json!({ "force": true })).await;
        answer.is_problem(400, "validation_failed");
        assert_eq!(answer.pointers(), ["/force"]);
    }
    gateway.stop().await;
}

#[actix_web::test]
async fn refunds_that_cannot_be() {
    let gateway = Gateway::start().await;
    let order = gateway.paid("A-1").await;
    let path = format!("/v1/orders/{order}/refunds");
    let sound = json!({ "merchant_refund_no": "R-1", "amount": 100, "reason": "停考" });
    let whole = "expected a whole number of fen from 1 to 1000000000";
    for (member, value, code, detail) in [
        (
            "amount",
            json!(0),
            "amount_invalid",
            format!("{whole}, found 0"),
        ),
        (
            "amount",
            json!(-100),
            "amount_invalid",
            format!("{whole}, found -100"),
        ),
        (
            "amount",
            json!(1.5),
            "amount_invalid",
            format!("{whole}, found 1.5"),
        ),
        (
            "amount",
            json!(1_000_000_001),
            "amount_invalid",
            format!("{whole}, found 1000000001"),
        ),
        (
            "amount",
            json!(u64::MAX),
            "amount_invalid",
            format!("{whole}, found {}", u64::MAX),
        ),
        (
            "amount",
            json!("100"),
            "validation_failed",
            "expected a whole number of fen, found a text".to_owned(),
        ),
        (
            "amount",
            Value::Null,
            "validation_failed",
            "missing".to_owned(),
        ),
        (
            "merchant_refund_no",
            Value::Null,
            "validation_failed",
            "missing".to_owned(),
        ),
        (
            "merchant_refund_no",
            json!(7),
            "validation_failed",
            "expected a text, found a number".to_owned(),
        ),
        (
            "merchant_refund_no",
            json!(""),
            "validation_failed",
            "expected a text, found an empty one".to_owned(),
        ),
        (
            "merchant_refund_no",
            json!("R 1"),
            "validation_failed",
            "a blank, which is not allowed here, at character 2".to_owned(),
        ),
        (
            "merchant_refund_no",
            json!("R-１"),
            "validation_failed",
            "a full-width character, where its ASCII form is expected, at character 3".to_owned(),
        ),
        (
            "merchant_refund_no",
            json!("r".repeat(65)),
            "validation_failed",
            "expected at most 64 characters, found 65".to_owned(),
        ),
        (
            "reason",
            json!("学".repeat(81)),
            "validation_failed",
            "expected at most 80 characters, found 81".to_owned(),
        ),
        (
            "reason",
            json!(""),
            "validation_failed",
            "expected a text, found an empty one".to_owned(),
        ),
        (
            "reason",
            json!("a\nb"),
            "validation_failed",
            "a control character at character 2".to_owned(),
        ),
        (
            "reason",
            json!("a\u{202e}b"),
            "validation_failed",
            "an invisible character that changes the direction of text at character 2".to_owned(),
        ),
        (
            "reason",
            json!(["停考"]),
            "validation_failed",
            "expected a text, found a list".to_owned(),
        ),
        (
            "colour",
            json!("red"),
            "validation_failed",
            "unknown member; expected one of: merchant_refund_no, amount, reason".to_owned(),
        ),
    ] {
        let mut body = sound.clone();
        body[member] = value;
        let answer = gateway.post(&path, &body).await;
        answer.is_problem(400, code);
        assert_eq!(
            answer.body["errors"],
            json!([{ "pointer": format!("/{member}"), "detail": detail }])
        );
    }
    let empty = gateway.post(&path, &json!({})).await;
    empty.is_problem(400, "validation_failed");
    assert_eq!(empty.pointers(), ["/merchant_refund_no", "/amount"]);
    for not_an_object in ["[]", "1", "null", "\"a\""] {
        let answer = gateway.post_bytes(&path, not_an_object.as_bytes()).await;
        answer.is_problem(400, "validation_failed");
    }
    gateway
        .post_bytes(&path, br#"{"amount":1,"amount":1}"#)
        .await
        .is_problem(400, "malformed_json");
    for wrong in ["ord_1", "rfd_00000000000000000000000001", "%00"] {
        let answer = gateway
            .post(&format!("/v1/orders/{wrong}/refunds"), &sound)
            .await;
        answer.is_problem(404, "not_found");
    }
    for wrong in ["rfd_1", "ord_00000000000000000000000001", "%00"] {
        let answer = gateway.get(&format!("{path}/{wrong}")).await;
        answer.is_problem(404, "not_found");
    }
    // Nothing of all this became a refund.
    let read = gateway.get(&format!("/v1/orders/{order}")).await;
    assert_eq!(read.body["refunds"], json!([]));
    assert!(gateway.wechat.refunds.lock().unwrap().is_empty());

    // A number like a bank card's is no reason to refuse; masked it is on its way to the provider.
    let mut card = sound.clone();
    card["reason"] = json!("退回 4111111111111111");
    let taken = gateway.post(&path, &card).await;
    assert_eq!(
        (taken.status, &taken.body["reason"]),
        (201, &card["reason"])
    );
    let mut longest = sound;
    longest["merchant_refund_no"] = json!("r".repeat(64));
    longest["reason"] = json!("学".repeat(80));
    assert_eq!(gateway.post(&path, &longest).await.status, 201);
    gateway.stop().await;
}

#[actix_web::test]
async fn events_that_cannot_be_asked_for() {
    let gateway = Gateway::start().await;
    let next = gateway.get("/v1/events").await.body["next"].clone();
    let next = next.as_str().unwrap();
    let cursor = "expected the next of an earlier answer";
    let types =
        "expected types of events, commas between them, such as order.paid,refund.succeeded";
    let limit = "expected a whole number from 1 to 100";
    for (query, at, detail) in [
        ("after=".to_owned(), "after", cursor),
        ("after=abc".to_owned(), "after", cursor),
        ("after=0".to_owned(), "after", cursor),
        (format!("after={}", &next[1..]), "after", cursor),
        (format!("after={next}A"), "after", cursor),
        ("types=".to_owned(), "types", types),
        ("types=order".to_owned(), "types", types),
        ("types=order.paid,".to_owned(), "types", types),
        ("types=ORDER.PAID".to_owned(), "types", types),
        ("limit=0".to_owned(), "limit", limit),
        ("limit=101".to_owned(), "limit", limit),
        ("limit=-1".to_owned(), "limit", limit),
        ("limit=1&limit=2".to_owned(), "limit", "named twice"),
        (
            "before=1".to_owned(),
            "before",
            "unknown parameter; expected after, types or limit",
        ),
    ] {
        let answer = gateway.get(&format!("/v1/events?{query}")).await;
        answer.is_problem(400, "validation_failed");
        assert_eq!(
            answer.body["errors"],
            json!([{ "pointer": at, "detail": detail }]),
            "{query}"
        );
    }
    for wrong in [
        "evt_1",
        "ord_00000000000000000000000001",
        "evt_00000000000000000000000001",
        "%00",
    ] {
        let answer = gateway
            .post(&format!("/v1/events/{wrong}/resend"), &Value::Null)
            .await;
        answer.is_problem(404, "not_found");
    }
    let answer = gateway
        .post(
            "/v1/events/evt_00000000000000000000000001/resend",
            &json!({ "force": true }),
        )
        .await;
    answer.is_problem(400, "validation_failed");
    assert_eq!(answer.pointers(), ["/force"]);
    gateway.stop().await;
}

#[actix_web::test]
async fn too_many_requests_say_how_long_to_wait() {
    let wishes = Wishes {
        limits: Limits {
            merchant_per_second: 1,
            merchant_burst: 3,
            address_per_second: 1,
            address_burst: 3,
            ..Limits::default()
        },
        ..Wishes::default()
    };
    let gateway = Gateway::start_with(wishes).await;
    let limited = |answer: &Answered, limit: &str| {
        answer.is_problem(429, "rate_limited");
        assert_eq!(answer.body["limit"], limit);
        assert_eq!(answer.header("retry-after"), Some("1"));
        let policy = answer.header("ratelimit-policy").unwrap();
        assert_eq!(policy, format!("\"{limit}\";q=3;w=3"));
        assert_eq!(
            answer.header("ratelimit"),
            Some(format!("\"{limit}\";r=0;t=1").as_str())
        );
    };
    for _ in 0..3 {
        assert_eq!(gateway.get("/v1/orders").await.status, 200);
    }
    limited(&gateway.get("/v1/orders").await, "merchant");
    // Another merchant has its own measure.
    let other = gateway.other.clone();
    let theirs = gateway
        .call_as(&other, "GET", "/v1/orders", &Value::Null, &[])
        .await;
    assert_eq!(theirs.status, 200);
    // Whoever cannot sign is counted by address.
    for _ in 0..3 {
        let answer = gateway.send("GET", "/v1/orders", Vec::new(), &[]).await;
        answer.is_problem(401, "credentials_missing");
    }
    let answer = gateway.send("GET", "/v1/orders", Vec::new(), &[]).await;
    limited(&answer, "address");
    gateway.stop().await;
}

#[actix_web::test]
async fn an_order_has_twenty_codes_an_hour() {
    let gateway = Gateway::start().await;
    let id = gateway.order("A-1").await;
    let path = format!("/v1/orders/{id}/attempts");
    for number in 1..=20 {
        let answer = gateway.post(&path, &Value::Null).await;
        assert_eq!(
            (answer.status, &answer.body["number"]),
            (201, &json!(number))
        );
    }
    let answer = gateway.post(&path, &Value::Null).await;
    answer.is_problem(429, "rate_limited");
    assert_eq!(answer.body["limit"], "attempts");
    gateway.stop().await;
}

#[actix_web::test]
async fn shedding_and_a_lost_store() {
    let wishes = Wishes {
        queue: Some(0),
        ..Wishes::default()
    };
    let gateway = Gateway::start_with(wishes).await;
    let bodies: Vec<_> = (0..40)
        .map(|n| (format!("k-{n}"), new_order(&format!("A-{n}"))))
        .collect();
    let all = bodies
        .iter()
        .map(|(key, body)| gateway.post_once(key, "/v1/orders", body));
    let answers = futures_util::future::join_all(all).await;
    let mut shed = 0;
    for (answer, (key, body)) in answers.iter().zip(&bodies) {
        if answer.status == 201 {
            continue;
        }
        shed += 1;
        answer.is_problem(503, "overloaded");
        assert!(answer.header("retry-after").is_some());
        // Nothing was done, and the key is free.
        let again = gateway.post_once(key, "/v1/orders", body).await;
        assert_eq!(again.status, 201, "{}", again.body);
    }
    assert!(shed > 0);
    gateway.store.close().await;
    let answer = gateway.get("/v1/orders").await;
    answer.is_problem(503, "store_unavailable");
    assert!(answer.header("retry-after").is_some());
    gateway.stop().await;
}

#[actix_web::test]
async fn the_same_fault_gives_the_same_bytes() {
    let gateway = Gateway::start().await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        let mut answer = gateway
            .post("/v1/orders", &order_with("/amount", json!(1)))
            .await;
        answer.body["request_id"] = Value::Null;
        seen.push(answer.body.to_string());
    }
    assert_eq!(seen[0], seen[1]);
    gateway.stop().await;
}

#[actix_web::test]
async fn every_code_leads_to_its_page() {
    let gateway = Gateway::start().await;
    for entry in CATALOGUE {
        let path = format!("/docs/errors/{}", entry.name);
        let page = gateway.send("GET", &path, Vec::new(), &[]).await;
        assert_eq!(page.status, 200, "{path}");
        let text = String::from_utf8_lossy(&page.bytes);
        assert!(
            text.contains(entry.name) && text.contains(entry.title),
            "{path}"
        );
    }
    let unknown = gateway
        .send("GET", "/docs/errors/nothing", Vec::new(), &[])
        .await;
    unknown.is_problem(404, "not_found");
    gateway.stop().await;
}
