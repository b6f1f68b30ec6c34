//! The merchant API, asked over a socket: what the contract's §4 promises.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

pub mod gateway;

use std::sync::atomic::Ordering;
use std::time::Duration;

use aws_lc_rs::digest;
use enrollpay::order::{CloseAnswer, Status, TradeAnswer, Wallet};
use enrollpay::provider::TradeState;
use enrollpay::store::{Transaction, Write};
use gateway::{Gateway, START, Wishes, new_order, order_with};
use serde_json::{Value, json};

#[actix_web::test]
async fn an_order_is_created_and_read_back() {
    let gateway = Gateway::start().await;
    let created = gateway.post("/v1/orders", &new_order("A-1")).await;
    assert_eq!(created.status, 201);
    let order = &created.body;
    let id = order["id"].as_str().unwrap();
    assert_eq!(
        created.header("location"),
        Some(format!("/v1/orders/{id}").as_str())
    );
    assert_eq!(order["status"], "unpaid");
    assert_eq!(order["amount"], 14_000);
    assert_eq!(
        order["payer"],
        json!({ "ref": "650102-000123", "name": "测*", "id_number": "6501**********0011", "phone": "138****0000" })
    );
    assert_eq!(order["wallets"], json!(["wechat", "alipay"]));
    assert_eq!(order["metadata"], json!({ "exam": "202104" }));
    assert_eq!(order["created_at"], "2026-11-20T18:00:00+08:00");
    assert_eq!(
        (&order["version"], &order["single_scan"]),
        (&json!(1), &json!(true))
    );
    let url = order["cashier_url"].as_str().unwrap();
    assert!(url.starts_with("https://pay.example.edu.cn/pay/"), "{url}");

    let read = gateway.get(&format!("/v1/orders/{id}")).await;
    assert_eq!((read.status, &read.body), (200, order));
    gateway.stop().await;
}

#[actix_web::test]
async fn the_same_number_again_is_the_same_order_or_a_conflict() {
    let gateway = Gateway::start().await;
    let id = gateway.order("A-1").await;
    let again = gateway.post("/v1/orders", &new_order("A-1")).await;
    assert_eq!((again.status, &again.body["id"]), (200, &json!(id)));

    let mut other = new_order("A-1");
    other["subject"] = json!("别的");
    other["payer"]["phone"] = json!("13900000000");
    let conflict = gateway.post("/v1/orders", &other).await;
    conflict.is_problem(409, "merchant_order_no_conflict");
    assert_eq!(
        conflict.body["conflicts"],
        json!(["subject", "payer.phone"])
    );
    assert_eq!(conflict.body["existing_id"], json!(id));
    assert!(!String::from_utf8_lossy(&conflict.bytes).contains("13900000000"));

    // Another merchant's numbers are its own.
    let theirs = gateway
        .call_as(&gateway.other, "POST", "/v1/orders", &other, &[])
        .await;
    assert_eq!(theirs.status, 201);
    gateway.stop().await;
}

#[actix_web::test]
async fn a_repeat_is_answered_after_its_deadline_too() {
    let gateway = Gateway::start().await;
    let mut body = new_order("A-1");
    body["pay_before"] = json!("2026-11-20T19:00:00+08:00");
    let created = gateway.post("/v1/orders", &body).await;
    assert_eq!(created.status, 201);
    gateway.clock.advance_ms(7_200_000);
    let again = gateway.post("/v1/orders", &body).await;
    assert_eq!(
        (again.status, &again.body["id"]),
        (200, &created.body["id"])
    );
    body["merchant_order_no"] = json!("A-2");
    let late = gateway.post("/v1/orders", &body).await;
    late.is_problem(400, "pay_before_invalid");
    gateway.stop().await;
}

#[actix_web::test]
async fn an_idempotency_key_gives_the_first_answer() {
    let gateway = Gateway::start().await;
    let first = gateway
        .post_once("k-1", "/v1/orders", &new_order("A-1"))
        .await;
    assert_eq!(first.status, 201);
    let id = first.body["id"].as_str().unwrap().to_owned();
    gateway.pay(id.parse().unwrap()).await;
    let again = gateway
        .post_once("k-1", "/v1/orders", &new_order("A-1"))
        .await;
    assert_eq!((again.status, &again.bytes), (201, &first.bytes));
    assert_eq!(again.header("location"), first.header("location"));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));

    let reused = gateway
        .post_once("k-1", "/v1/orders", &new_order("A-2"))
        .await;
    reused.is_problem(422, "idempotency_key_reused");
    let elsewhere = gateway
        .post_once("k-1", &format!("/v1/orders/{id}/cancel"), &Value::Null)
        .await;
    elsewhere.is_problem(422, "idempotency_key_reused");
    // The first answer still stands, and another merchant's key is its own.
    let third = gateway
        .post_once("k-1", "/v1/orders", &new_order("A-1"))
        .await;
    assert_eq!(third.bytes, first.bytes);
    let headers = [("idempotency-key", "k-1")];
    let theirs = gateway
        .call_as(
            &gateway.other,
            "POST",
            "/v1/orders",
            &new_order("A-9"),
            &headers,
        )
        .await;
    assert_eq!(theirs.status, 201);
    gateway.stop().await;
}

#[actix_web::test]
async fn refusals_by_state_are_kept_and_bad_input_is_not() {
    let gateway = Gateway::start().await;
    let mut wrong = new_order("A-1");
    wrong["amount"] = json!(1);
    let refused = gateway.post_once("k-1", "/v1/orders", &wrong).await;
    refused.is_problem(400, "amount_invalid");
    // A 400 is not kept: the key is free for the mended request.
    let mended = gateway
        .post_once("k-1", "/v1/orders", &new_order("A-1"))
        .await;
    assert_eq!(mended.status, 201);

    let mut other = new_order("A-1");
    other["subject"] = json!("别的");
    let first = gateway.post_once("k-2", "/v1/orders", &other).await;
    first.is_problem(409, "merchant_order_no_conflict");
    let again = gateway.post_once("k-2", "/v1/orders", &other).await;
    assert_eq!((again.status, &again.bytes), (409, &first.bytes));
    gateway.stop().await;
}

#[actix_web::test]
async fn a_running_key_refuses_and_an_abandoned_one_is_taken_over() {
    let gateway = Gateway::start().await;
    let body = new_order("A-1");
    let first = gateway.post("/v1/orders", &body).await;
    assert_eq!(first.status, 201);
    // As after a crash between the order's commit and the key's end.
    let sha256 = |bytes: &[u8]| digest::digest(&digest::SHA256, bytes);
    let mut request = b"POST\n/v1/orders\n".to_vec();
    request.extend_from_slice(sha256(body.to_string().as_bytes()).as_ref());
    let writes = vec![Write::IdempotencyStarted {
        merchant: gateway.school.merchant,
        key: "k-1".to_owned(),
        request_hash: sha256(&request).as_ref().try_into().unwrap(),
        instance: gateway.deps.orders.ownership().instance(),
        at: START,
    }];
    let transaction = Transaction {
        order: None,
        writes,
    };
    gateway.store.commit(vec![transaction]).await.unwrap()[0]
        .clone()
        .unwrap();

    let running = gateway.post_once("k-1", "/v1/orders", &body).await;
    running.is_problem(409, "request_in_progress");
    assert!(running.header("retry-after").is_some());
    gateway.clock.advance_ms(31_000);
    let resumed = gateway.post_once("k-1", "/v1/orders", &body).await;
    assert_eq!(
        (resumed.status, &resumed.body["id"]),
        (200, &first.body["id"])
    );
    let kept = gateway.post_once("k-1", "/v1/orders", &body).await;
    assert_eq!(kept.bytes, resumed.bytes);
    gateway.stop().await;
}

#[actix_web::test]
async fn many_at_once_under_one_key_make_one_order() {
    let gateway = Gateway::start().await;
    let body = new_order("A-1");
    let all = (0..12).map(|_| gateway.post_once("k-1", "/v1/orders", &body));
    let answers = futures_util::future::join_all(all).await;
    let made: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 201)
        .collect();
    assert!(!made.is_empty());
    for answer in &answers {
        match answer.status {
            201 => assert_eq!(answer.bytes, made[0].bytes),
            _ => {
                answer.is_problem(409, "request_in_progress");
            }
        }
    }
    let list = gateway.get("/v1/orders").await;
    assert_eq!(list.body["data"].as_array().unwrap().len(), 1);
    gateway.stop().await;
}

#[actix_web::test]
async fn a_code_is_started_and_superseded() {
    let gateway = Gateway::start().await;
    let id = gateway.order("A-1").await;
    let path = format!("/v1/orders/{id}/attempts");
    let first = gateway.post(&path, &json!({})).await;
    assert_eq!(first.status, 201, "{}", first.body);
    let content = first.body["qr_content"].as_str().unwrap();
    assert!(
        content.starts_with("https://pay.example.edu.cn/s/"),
        "{content}"
    );
    assert_eq!(first.body["remaining_ms"], 180_000);
    assert_eq!(first.body["expires_at"], "2026-11-20T18:03:00+08:00");
    assert_eq!(first.body["server_time"], "2026-11-20T18:00:00+08:00");
    let svg = first.body["qr_svg_url"].as_str().unwrap();
    let attempt = first.body["id"].as_str().unwrap();
    assert!(
        svg.ends_with(&format!("/qr.svg?attempt={attempt}")),
        "{svg}"
    );

    let read = gateway.get(&format!("/v1/orders/{id}")).await;
    assert_eq!(read.body["status"], "paying");
    assert_eq!(read.body["attempt"]["id"], first.body["id"]);

    let second = gateway.post(&path, &Value::Null).await;
    assert_eq!((second.status, &second.body["number"]), (201, &json!(2)));
    // Both codes are found by what they hold.
    for (answer, number) in [(&first, 1), (&second, 2)] {
        let content = answer.body["qr_content"].as_str().unwrap();
        let token = content.rsplit('/').next().unwrap();
        let kind = enrollpay::sealing::TokenKind::Scan;
        let hash = enrollpay::sealing::token_hash(kind, token);
        let target = gateway.store.token(kind, hash).await.unwrap().unwrap();
        assert_eq!((target.order, target.attempt.unwrap().get()), (id, number));
    }
    gateway.stop().await;
}

#[actix_web::test]
async fn a_scanned_code_is_ended_at_the_provider_before_the_next() {
    let gateway = Gateway::start().await;
    let id = gateway.order("A-1").await;
    let path = format!("/v1/orders/{id}/attempts");
    assert_eq!(gateway.post(&path, &Value::Null).await.status, 201);
    gateway.scan(id).await;
    let next = gateway.post(&path, &Value::Null).await;
    assert_eq!(
        (next.status, &next.body["number"]),
        (201, &json!(2)),
        "{}",
        next.body
    );
    gateway.stop().await;
}

#[actix_web::test]
async fn while_the_provider_is_silent_no_second_code_appears() {
    let gateway = Gateway::start().await;
    let id = gateway.order("A-1").await;
    let path = format!("/v1/orders/{id}/attempts");
    assert_eq!(gateway.post(&path, &Value::Null).await.status, 201);
    gateway.scan(id).await;
    *gateway.wechat.query.lock().unwrap() = TradeState::Unknown;
    *gateway.wechat.close.lock().unwrap() = CloseAnswer::Unknown;
    let refused = gateway.post(&path, &Value::Null).await;
    refused.is_problem(409, "attempt_closing");
    assert_eq!(refused.header("retry-after"), Some("2"));
    assert!(refused.body["retry_at"].is_string());

    let cancelled = gateway
        .post(&format!("/v1/orders/{id}/cancel"), &Value::Null)
        .await;
    assert_eq!(cancelled.status, 202);
    assert_eq!(cancelled.header("retry-after"), Some("2"));
    assert_eq!(cancelled.body["attempt"]["status"], "closing");
    let pending = gateway.post(&path, &Value::Null).await;
    pending.is_problem(409, "cancel_pending");
    gateway.stop().await;
}

#[actix_web::test]
async fn a_cancel_closes_for_good() {
    let gateway = Gateway::start().await;
    let id = gateway.order("A-1").await;
    gateway
        .post(&format!("/v1/orders/{id}/attempts"), &Value::Null)
        .await;
    gateway.scan(id).await;
    let path = format!("/v1/orders/{id}/cancel");
    let cancelled = gateway.post_once("c-1", &path, &Value::Null).await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.body);
    assert_eq!(cancelled.body["status"], "closed");
    assert_eq!(cancelled.body["close_reason"], "cancelled");
    assert_eq!(cancelled.body["attempt"]["end_reason"], "cancelled");
    assert_eq!(gateway.post(&path, &Value::Null).await.status, 200);
    let attempt = gateway
        .post(&format!("/v1/orders/{id}/attempts"), &Value::Null)
        .await;
    attempt.is_problem(409, "order_closed");
    gateway.stop().await;
}

#[actix_web::test]
async fn an_accepted_cancel_is_not_kept_under_its_key() {
    let gateway = Gateway::start().await;
    let id = gateway.order("A-1").await;
    gateway
        .post(&format!("/v1/orders/{id}/attempts"), &Value::Null)
        .await;
    let attempt = gateway.scan(id).await;
    *gateway.wechat.query.lock().unwrap() = TradeState::Unknown;
    *gateway.wechat.close.lock().unwrap() = CloseAnswer::Unknown;
    let path = format!("/v1/orders/{id}/cancel");
    let accepted = gateway.post_once("c-1", &path, &Value::Null).await;
    assert_eq!(accepted.status, 202, "{}", accepted.body);
    gateway.capture(id, attempt, "4200001").await;
    let again = gateway.post_once("c-1", &path, &Value::Null).await;
    again.is_problem(409, "already_paid");
    gateway.stop().await;
}

#[actix_web::test]
async fn a_paid_order_says_by_whom_and_takes_no_more() {
    let gateway = Gateway::start().await;
    let id = gateway.order("A-1").await;
    gateway.pay(id).await;
    let read = gateway.get(&format!("/v1/orders/{id}")).await;
    assert_eq!(read.body["status"], "paid");
    assert_eq!(read.body["amount_paid"], 14_000);
    assert_eq!(read.body["payment"]["wallet"], "wechat");
    assert_eq!(read.body["paid_at"], read.body["payment"]["paid_at"]);
    let receipt = read.body["receipt_url"].as_str().unwrap();
    let (_, receipt) = receipt.split_once("/receipts/").unwrap();
    let receipt = gateway
        .client
        .get(format!("{}/receipts/{receipt}", gateway.base))
        .send()
        .await
        .unwrap();
    assert_eq!(receipt.status(), 200);
    assert!(
        receipt.url().path().starts_with("/receipts/"),
        "its own page"
    );
    let nothing = gateway
        .client
        .get(format!("{}/receipts/AAAAAAAAAAAAAAAAAAAAAA", gateway.base))
        .send()
        .await
        .unwrap();
    assert_eq!(nothing.status(), 404);
    for action in ["attempts", "cancel"] {
        let refused = gateway
            .post(&format!("/v1/orders/{id}/{action}"), &Value::Null)
            .await;
        refused.is_problem(409, "already_paid");
        assert_eq!(refused.body["receipt_url"], read.body["receipt_url"]);
    }
    gateway.stop().await;
}

#[actix_web::test]
async fn a_query_finds_the_payment_that_no_notice_told() {
    let gateway = Gateway::start().await;
    let id = gateway.order("A-1").await;
    let path = format!("/v1/orders/{id}/query");
    let nothing = gateway.post(&path, &Value::Null).await;
    assert_eq!(
        (nothing.status, &nothing.body["as_of"]),
        (200, &Value::Null)
    );
    assert_eq!(nothing.body["outcome"], "nothing_to_ask");

    gateway
        .post(&format!("/v1/orders/{id}/attempts"), &Value::Null)
        .await;
    let attempt = gateway.scan(id).await;
    gateway.clock.advance_ms(3_000);
    let number = enrollpay::order::OutTradeNo { order: id, attempt };
    *gateway.wechat.query.lock().unwrap() = TradeState::Paid(enrollpay::provider::Success {
        out_trade_no: number.to_string(),
        application: "app-school-wechat".into(),
        transaction_id: "4200001".into(),
        amount: enrollpay::order::Fen::new(14_000),
        currency: "CNY".into(),
        succeeded_at: START.plus_ms(2_000),
    });
    let found = gateway.post(&path, &Value::Null).await;
    assert_eq!(found.status, 200);
    assert_eq!(found.body["order"]["status"], "paid");
    assert_eq!(found.body["outcome"], "paid");
    assert_eq!(found.body["as_of"], "2026-11-20T18:00:03+08:00");
    gateway.stop().await;
}

#[actix_web::test]
async fn an_unpaid_answer_is_waited_for_no_longer_than_it_takes() {
    let gateway = Gateway::start().await;
    let id = gateway.order("A-1").await;
    let path = format!("/v1/orders/{id}");
    gateway
        .post(&format!("{path}/attempts"), &Value::Null)
        .await;
    gateway.scan(id).await;
    gateway.clock.advance_ms(3_000);
    let query = format!("{path}/query");
    let asked = tokio::time::timeout(Duration::from_secs(3), gateway.post(&query, &Value::Null));
    let answer = asked.await.expect("the provider answers at once");
    assert_eq!(answer.body["order"]["status"], "paying");
    assert_eq!(answer.body["outcome"], "unpaid");
    gateway.stop().await;
}

#[actix_web::test]
async fn a_provider_that_does_not_say_is_no_unpaid() {
    let gateway = Gateway::start().await;
    let id = gateway.order("A-1").await;
    let path = format!("/v1/orders/{id}");
    gateway
        .post(&format!("{path}/attempts"), &Value::Null)
        .await;
    gateway.scan(id).await;
    let query = format!("{path}/query");
    for (state, outcome) in [
        (TradeState::Unknown, "provider_unreachable"),
        (TradeState::Unpaid, "unpaid"),
    ] {
        gateway.clock.advance_ms(3_000);
        *gateway.wechat.query.lock().unwrap() = state;
        // The second shares what the first was told.
        for _ in 0..2 {
            let asked = gateway.post(&query, &Value::Null);
            let answer = tokio::time::timeout(Duration::from_secs(3), asked).await;
            let answer = answer.expect("known to be unknown at once");
            assert_eq!(answer.status, 200);
            assert_eq!(answer.body["outcome"], outcome);
            assert_eq!(answer.body["order"]["status"], "paying");
        }
    }
    assert_eq!(gateway.wechat.queries.load(Ordering::SeqCst), 2);
    gateway.stop().await;
}

#[actix_web::test]
async fn queries_within_two_seconds_share_one_answer() {
    let gateway = Gateway::start().await;
    let id = gateway.order("A-1").await;
    gateway
        .post(&format!("/v1/orders/{id}/attempts"), &Value::Null)
        .await;
    gateway.scan(id).await;
    gateway.clock.advance_ms(3_000);
    let before = gateway.wechat.queries.load(Ordering::SeqCst);
    let path = format!("/v1/orders/{id}/query");
    let all = (0..5).map(|_| gateway.post(&path, &Value::Null));
    let answers = futures_util::future::join_all(all).await;
    for answer in &answers {
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.body["as_of"], "2026-11-20T18:00:03+08:00");
    }
    assert_eq!(gateway.wechat.queries.load(Ordering::SeqCst) - before, 1);
    gateway.stop().await;
}

#[actix_web::test]
async fn native_mode_shows_the_providers_code() {
    let wishes = Wishes {
        native: true,
        ..Wishes::default()
    };
    let gateway = Gateway::start_with(wishes).await;
    let id = gateway.order("A-1").await;
    let path = format!("/v1/orders/{id}/attempts");
    let unnamed = gateway.post(&path, &Value::Null).await;
    unnamed.is_problem(400, "validation_failed");
    assert_eq!(unnamed.pointers(), ["/wallet"]);
    let started = gateway.post(&path, &json!({ "wallet": "wechat" })).await;
    assert_eq!(started.status, 201, "{}", started.body);
    assert_eq!(
        started.body["qr_content"],
        "weixin://wxpay/bizpayurl?pr=AbCdEf"
    );
    assert_eq!(started.body["wallet"], "wechat");
    let read = gateway.get(&format!("/v1/orders/{id}")).await;
    assert_eq!(read.body["single_scan"], false);

    let id = gateway.order("A-2").await;
    *gateway.wechat.trade.lock().unwrap() = TradeAnswer::Refused {
        code: "NOAUTH".into(),
    };
    let path = format!("/v1/orders/{id}/attempts");
    let refused = gateway.post(&path, &json!({ "wallet": "wechat" })).await;
    refused.is_problem(502, "provider_unavailable");
    gateway.stop().await;
}

#[actix_web::test]
async fn a_checked_payer_is_named_in_full_and_offered_what_checks() {
    let gateway = Gateway::start_with(Wishes {
        checks_payers: vec![Wallet::Alipay],
        ..Wishes::default()
    })
    .await;
    let checked = |payer: Value| {
        let mut order = new_order("A-1");
        order["payer_identity"] = json!("provider");
        order["payer"] = payer;
        order
    };
    let post = async |order: &Value| gateway.post("/v1/orders", order).await;
    let answer = post(&checked(json!({ "ref": "1" }))).await;
    answer.is_problem(400, "validation_failed");
    assert_eq!(answer.pointers(), ["/payer/name", "/payer/id_number"]);
    for number in ["E12345678", "6501022000010100110", "65010220000101001Y"] {
        let payer = json!({ "ref": "1", "name": "测试考生", "id_number": number });
        let answer = post(&checked(payer)).await;
        answer.is_problem(400, "validation_failed");
        assert_eq!(answer.pointers(), ["/payer/id_number"], "{number}");
        assert!(!String::from_utf8_lossy(&answer.bytes).contains(number));
    }
    let long = json!({ "ref": "1", "name": "长".repeat(64), "id_number": "65010220000101001x" });
    assert_eq!(post(&checked(long)).await.pointers(), ["/payer/name"]);
    // Other orders may name whom they like.
    let mut passport = new_order("A-0");
    passport["payer"]["id_number"] = json!("E12345678");
    assert_eq!(post(&passport).await.status, 201);

    let full = json!({ "ref": "1", "name": "测试考生", "id_number": "65010220000101001x" });
    let mut only_wechat = checked(full.clone());
    only_wechat["wallets"] = json!(["wechat"]);
    let answer = post(&only_wechat).await;
    answer.is_problem(422, "payer_identity_unavailable");
    assert_eq!(answer.pointers(), ["/payer_identity"]);
    let created = post(&checked(full)).await;
    assert_eq!(created.status, 201);
    assert_eq!(created.body["wallets"], json!(["alipay"]));
    gateway.stop().await;

    let gateway = Gateway::start().await;
    let answer = gateway
        .post(
            "/v1/orders",
            &order_with("/payer_identity", json!("provider")),
        )
        .await;
    answer.is_problem(422, "payer_identity_unavailable");
    gateway.is_empty().await;
    gateway.stop().await;
}

#[actix_web::test]
async fn a_registrant_is_frozen_and_shown_masked() {
    let gateway = Gateway::start().await;
    let with = |registrant: Value| {
        let mut order = new_order("A-1");
        order["registrant"] = registrant;
        order
    };
    for (registrant, pointers) in [
        (json!({}), vec!["/registrant"]),
        (json!("测试考生"), vec!["/registrant"]),
        (
            json!({ "name": "", "phone": "call me", "ref": "1" }),
            vec!["/registrant/name", "/registrant/phone", "/registrant/ref"],
        ),
    ] {
        let answer = gateway.post("/v1/orders", &with(registrant)).await;
        answer.is_problem(400, "validation_failed");
        let mut found = answer.pointers();
        found.sort_unstable();
        assert_eq!(found, pointers);
    }
    let child =
        json!({ "name": "测小生", "id_number": "650102201001010019", "phone": "13800000001" });
    let created = gateway.post("/v1/orders", &with(child.clone())).await;
    assert_eq!(created.status, 201, "{}", created.body);
    assert_eq!(
        created.body["registrant"],
        json!({ "name": "测*", "id_number": "6501**********0019", "phone": "138****0001" })
    );
    let page = async |order: &Value| {
        let url = order["cashier_url"].as_str().unwrap();
        let path = url.split_once(".cn").unwrap().1;
        let page = gateway.send("GET", path, Vec::new(), &[]).await;
        String::from_utf8(page.bytes).unwrap()
    };
    let text = page(&created.body).await;
    assert!(text.contains("报名人") && text.contains("6501**********0019"));
    let again = gateway.post("/v1/orders", &with(child)).await;
    assert_eq!(
        (again.status, &again.body["id"]),
        (200, &created.body["id"])
    );
    let mut other = with(json!({ "name": "别人" }));
    for (order, conflicts) in [
        (
            other.clone(),
            json!([
                "registrant.name",
                "registrant.id_number",
                "registrant.phone"
            ]),
        ),
        (
            {
                other["registrant"] = json!({
                    "name": "测小生", "id_number": "650102201001010019", "phone": "13800000002",
                });
                other
            },
            json!(["registrant.phone"]),
        ),
    ] {
        let conflict = gateway.post("/v1/orders", &order).await;
        conflict.is_problem(409, "merchant_order_no_conflict");
        assert_eq!(conflict.body["conflicts"], conflicts);
    }
    // The payer in person is shown once.
    let mut own = new_order("A-2");
    own["registrant"] = json!({ "name": "测试考生", "phone": "13800000000" });
    let created = gateway.post("/v1/orders", &own).await;
    assert_eq!(created.body["registrant"]["name"], "测*");
    assert!(!page(&created.body).await.contains("报名人"));
    gateway.stop().await;
}

#[actix_web::test]
async fn payers_must_be_who_is_registered_where_the_merchant_says_so() {
    let gateway = Gateway::start_with(Wishes {
        payer_must_be_registrant: true,
        ..Wishes::default()
    })
    .await;
    for registrant in [Value::Null, json!({ "phone": "13800000000" })] {
        let answer = gateway
            .post("/v1/orders", &order_with("/registrant", registrant))
            .await;
        answer.is_problem(400, "validation_failed");
        assert_eq!(answer.pointers(), ["/registrant"]);
    }
    let other =
        json!({ "name": "测试考生", "id_number": "650102201001010019", "phone": "13900000009" });
    let answer = gateway
        .post("/v1/orders", &order_with("/registrant", other))
        .await;
    answer.is_problem(422, "payer_mismatch");
    assert_eq!(answer.body["differing"], json!(["id_number", "phone"]));
    assert_eq!(
        answer.pointers(),
        ["/registrant/id_number", "/registrant/phone"]
    );
    let said = String::from_utf8_lossy(&answer.bytes);
    for value in ["650102", "13900000009", "13800000000", "测试考生"] {
        assert!(!said.contains(value), "{said}");
    }
    gateway.is_empty().await;
    let same = json!({ "name": "测试考生", "id_number": "650102200001010011" });
    let taken = gateway
        .post("/v1/orders", &order_with("/registrant", same))
        .await;
    assert_eq!(taken.status, 201, "{}", taken.body);
    gateway.stop().await;
}

#[actix_web::test]
async fn a_second_order_for_the_same_purpose_is_marked_or_refused() {
    for refuse_duplicates in [false, true] {
        let wishes = Wishes {
            refuse_duplicates,
            ..Wishes::default()
        };
        let gateway = Gateway::start_with(wishes).await;
        let body = |number: &str| {
            let mut body = new_order(number);
            body["purpose"] = json!("ZK202104");
            body
        };
        let first = gateway.post("/v1/orders", &body("A-1")).await;
        let id = first.body["id"].as_str().unwrap().parse().unwrap();
        gateway.pay(id).await;
        let second = gateway.post("/v1/orders", &body("A-2")).await;
        if refuse_duplicates {
            second.is_problem(409, "possible_duplicate");
            assert_eq!(second.body["existing_id"], json!(id));
            let again = gateway.post("/v1/orders", &body("A-1")).await;
            assert_eq!((again.status, &again.body["status"]), (200, &json!("paid")));
        } else {
            assert_eq!(second.status, 201);
            assert_eq!(second.body["possible_duplicate"], json!(id));
        }
        gateway.stop().await;
    }
}

#[actix_web::test]
async fn lists_are_paged_and_filtered() {
    let gateway = Gateway::start().await;
    let mut ids = Vec::new();
    for number in 0..5 {
        gateway.clock.advance_ms(1_000);
        ids.push(gateway.order(&format!("A-{number}")).await.to_string());
    }
    let theirs = new_order("B-1");
    gateway
        .call_as(&gateway.other, "POST", "/v1/orders", &theirs, &[])
        .await;
    ids.reverse();
    let mut seen = Vec::new();
    let mut path = "/v1/orders?limit=2".to_owned();
    loop {
        let page = gateway.get(&path).await;
        assert_eq!(page.status, 200, "{}", page.body);
        for order in page.body["data"].as_array().unwrap() {
            seen.push(order["id"].as_str().unwrap().to_owned());
        }
        match page.body["next_cursor"].as_str() {
            Some(cursor) => path = format!("/v1/orders?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(seen, ids);

    gateway.pay(ids[0].parse().unwrap()).await;
    for (filter, expected) in [
        ("status=paid", 1),
        ("status=unpaid", 4),
        ("merchant_order_no=A-3", 1),
        ("payer_ref=650102-000123", 5),
        ("payer_ref=nobody", 0),
        ("created_after=2026-11-20T18%3A00%3A03%2B08%3A00", 2),
        ("merchant_order_no=B-1", 0),
    ] {
        let list = gateway.get(&format!("/v1/orders?{filter}")).await;
        assert_eq!(
            list.body["data"].as_array().map(Vec::len),
            Some(expected),
            "{filter}"
        );
    }
    gateway.stop().await;
}

#[actix_web::test]
async fn the_timeline_tells_everything_in_order() {
    let gateway = Gateway::start().await;
    let id = gateway.order("A-1").await;
    gateway.pay(id).await;
    let timeline = gateway.get(&format!("/v1/orders/{id}/timeline")).await;
    let lines = timeline.body["data"].as_array().unwrap();
    let types: Vec<_> = lines
        .iter()
        .map(|line| line["type"].as_str().unwrap())
        .collect();
    for (kind, actor) in [
        ("order_created", "merchant"),
        ("attempt_started", "merchant"),
        ("attempt_claimed", "payer"),
        ("trade_made", "provider"),
        ("money_captured", "payer"),
        ("order_paid", "payer"),
    ] {
        let place = types.iter().position(|found| *found == kind).expect(kind);
        assert_eq!(lines[place]["actor"], actor, "{kind}");
        assert!(lines[place]["at"].is_string() && lines[place]["summary"].is_string());
    }
    assert!(lines[0]["request_id"].as_str().unwrap().starts_with("req_"));
    let versions: Vec<_> = lines.iter().map(|line| line["version"].as_u64()).collect();
    assert!(versions.is_sorted());
    gateway.stop().await;
}

#[actix_web::test]
async fn a_rotated_key_ends_within_two_seconds() {
    let gateway = Gateway::start().await;
    assert_eq!(gateway.get("/v1/orders").await.status, 200);
    let mut key = gateway
        .store
        .key(gateway.school.key)
        .await
        .unwrap()
        .unwrap();
    key.valid_until = Some(START);
    let transaction = Transaction {
        order: None,
        writes: vec![Write::MerchantKey(key)],
    };
    gateway.store.commit(vec![transaction]).await.unwrap()[0]
        .clone()
        .unwrap();
    let refused = tokio::time::timeout(Duration::from_secs(2), async {
        loop {
            let answer = gateway.get("/v1/orders").await;
            if answer.status != 200 {
                return answer;
            }
        }
    });
    let refused = refused.await.expect("within two seconds");
    refused.is_problem(401, "signature_invalid");
    gateway.stop().await;
}

#[actix_web::test]
async fn another_merchants_order_does_not_exist() {
    let gateway = Gateway::start().await;
    let id = gateway.order("A-1").await;
    let thief = gateway.other.clone();
    for (method, tail) in [
        ("GET", ""),
        ("GET", "/timeline"),
        ("POST", "/attempts"),
        ("POST", "/query"),
        ("POST", "/cancel"),
        ("GET", "/refunds"),
        ("GET", "/refunds/rfd_00000000000000000000000001"),
        ("POST", "/refunds"),
    ] {
        let path = format!("/v1/orders/{id}{tail}");
        let theirs = gateway
            .call_as(&thief, method, &path, &Value::Null, &[])
            .await;
        theirs.is_problem(404, "not_found");
        let absent = path.replace(&id.to_string(), "ord_00000000000000000000000001");
        let absent = gateway
            .call_as(&thief, method, &absent, &Value::Null, &[])
            .await;
        assert_eq!(theirs.body["detail"], absent.body["detail"]);
    }
    let stored = gateway.deps.orders.read(id).await.unwrap().unwrap();
    assert_eq!(stored.order.status(), Status::Unpaid);
    gateway.stop().await;
}

#[actix_web::test]
async fn return_addresses_are_held_to_their_hosts() {
    let wishes = Wishes {
        return_hosts: vec!["school.example".to_owned()],
        ..Wishes::default()
    };
    let gateway = Gateway::start_with(wishes).await;
    for (url, good) in [
        ("https://school.example/back?order=1", true),
        ("https://evil.example/", false),
        ("https://school.example.evil.example/", false),
        ("http://school.example/", false),
        ("https://user@school.example/", false),
        ("javascript:alert(1)", false),
    ] {
        let mut body = order_with("/return_url", json!(url));
        body["merchant_order_no"] = json!(format!("N-{}", url.len()));
        let answer = gateway.post("/v1/orders", &body).await;
        if good {
            assert_eq!(
                (answer.status, &answer.body["return_url"]),
                (201, &json!(url))
            );
        } else {
            answer.is_problem(400, "validation_failed");
            assert_eq!(answer.pointers(), ["/return_url"], "{url}");
        }
    }
    gateway.stop().await;
}

#[actix_web::test]
async fn requests_are_counted_by_template_and_never_by_path() {
    let handle = enrollpay::metrics::install().unwrap();
    let gateway = Gateway::start().await;
    let id = gateway.order("A-1").await;
    gateway.get(&format!("/v1/orders/{id}")).await;
    gateway.send("GET", "/v1/orders", Vec::new(), &[]).await;
    gateway.send("BREW", "/tea/4711", Vec::new(), &[]).await;
    let text = handle.render();
    let line =
        |labels: &str| text.contains(&format!("enrollpay_http_requests_total{{{labels}}} 1"));
    for labels in [
        r#"route="/v1/orders",method="POST",status="201""#,
        r#"route="/v1/orders/{id}",method="GET",status="200""#,
        r#"route="/v1/orders",method="GET",status="401""#,
        r#"route="unmatched",method="OTHER",status="404""#,
    ] {
        assert!(line(labels), "{labels}\n{text}");
    }
    assert!(text.contains(r#"enrollpay_auth_rejected_total{reason="credentials_missing"} 1"#));
    assert!(
        text.contains(r#"enrollpay_http_request_duration_seconds_count{route="/v1/orders"} 2"#)
    );
    assert!(!text.contains(&id.to_string()) && !text.contains("4711"));
    gateway.stop().await;
}

#[actix_web::test]
async fn the_configured_folder_is_served_at_the_root_and_nothing_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("inside");
    std::fs::create_dir(&inside).unwrap();
    std::fs::write(inside.join("MP_verify_a1b2.txt"), "a1b2").unwrap();
    std::fs::write(inside.join(".hidden"), "no").unwrap();
    std::fs::write(folder.path().join("secret.txt"), "no").unwrap();
    let gateway = Gateway::start_with(Wishes {
        well_known_files: Some(inside),
        ..Wishes::default()
    })
    .await;
    let get = |path: &str| gateway.client.get(format!("{}{path}", gateway.base)).send();
    let found = get("/MP_verify_a1b2.txt").await.unwrap();
    assert_eq!(found.status(), 200);
    assert_eq!(found.text().await.unwrap(), "a1b2");
    for absent in [
        "/absent.txt",
        "/.hidden",
        "/..%2Fsecret.txt",
        "/%2e%2e/secret.txt",
    ] {
        assert_eq!(get(absent).await.unwrap().status(), 404, "{absent}");
    }
    assert_eq!(
        get("/docs").await.unwrap().status(),
        200,
        "pages go before files"
    );
    gateway.stop().await;
}
