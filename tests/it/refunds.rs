//! Money on its way back, and the events that tell of it: what merchants ask, what operators do.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod events;
mod operators;

use enrollpay::order::{Fen, OrderId, OutTradeNo, RefundAnswer, RefundId, RefundStanding};
use enrollpay::provider::{Notice, RefundNews};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::api::gateway::{Answered, Gateway};

fn asked(number: &str, amount: i64) -> Value {
    json!({ "merchant_refund_no": number, "amount": amount })
}

fn refund_id(answer: &Answered) -> RefundId {
    answer.body["id"].as_str().unwrap().parse().unwrap()
}

impl Gateway {
    async fn refund(&self, order: OrderId, body: &Value) -> Answered {
        self.post(&format!("/v1/orders/{order}/refunds"), body)
            .await
    }

    /// Waits until the refund stands so.
    async fn until_refund(&self, order: OrderId, id: RefundId, status: &str) {
        self.until(order, |order| {
            order
                .refund(id)
                .is_some_and(|refund| refund.standing.as_str() == status)
        })
        .await;
    }

    async fn read(&self, order: OrderId) -> Value {
        let answer = self.get(&format!("/v1/orders/{order}")).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body
    }

    /// The school's events of one type, oldest first.
    async fn events_of(&self, kind: &str) -> Vec<Value> {
        let page = self
            .get(&format!("/v1/events?types={kind}&limit=100"))
            .await;
        assert_eq!(page.status, 200, "{}", page.body);
        page.body["data"].as_array().unwrap().clone()
    }
}

#[actix_web::test]
async fn a_payment_is_given_back_whole() {
    let gateway = Gateway::start().await;
    let order = gateway.paid("A-1").await;
    let body = json!({ "merchant_refund_no": "R-1", "amount": 14_000, "reason": "停考退费" });
    let made = gateway.refund(order, &body).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let id = refund_id(&made);
    assert_eq!(
        made.header("location"),
        Some(format!("/v1/orders/{order}/refunds/{id}").as_str())
    );
    assert_eq!(
        (&made.body["status"], &made.body["reason"]),
        (&json!("pending"), &json!("停考退费"))
    );

    gateway.until_refund(order, id, "succeeded").await;
    let sent = gateway.wechat.refunds.lock().unwrap().clone();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].refund_no, id.to_string());
    assert_eq!(
        (sent[0].amount, sent[0].total),
        (Fen::new(14_000), Fen::new(14_000))
    );
    assert_eq!(sent[0].reason, "停考退费");
    assert_eq!(
        sent[0].notify_url,
        "https://pay.example.edu.cn/callbacks/wechatpay/school-wechat"
    );

    let read = gateway
        .get(&format!("/v1/orders/{order}/refunds/{id}"))
        .await;
    let expected = json!({
        "id": id,
        "object": "refund",
        "order_id": order,
        "cause": "merchant",
        "merchant_refund_no": "R-1",
        "number": id,
        "wallet": "wechat",
        "transaction_id": format!("42000000{order}"),
        "amount": 14_000,
        "currency": "CNY",
        "status": "succeeded",
        "attention": null,
        "created_at": "2026-11-20T18:00:00+08:00",
        "ended_at": "2026-11-20T18:00:00+08:00",
        "reason": "停考退费",
    });
    assert_eq!(read.body, expected);
    let after = gateway.read(order).await;
    assert_eq!(
        (&after["status"], &after["refund_status"]),
        (&json!("paid"), &json!("full"))
    );
    assert_eq!(
        (&after["amount_paid"], &after["amount_refunded"]),
        (&json!(14_000), &json!(14_000))
    );
    assert_eq!(after["refunds"][0]["id"], json!(id));

    let told = gateway.events_of("refund.succeeded").await;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["data"]["order"], after);
    assert_eq!(told[0]["data"]["refund"], after["refunds"][0]);

    let timeline = gateway.get(&format!("/v1/orders/{order}/timeline")).await;
    let lines = timeline.body["data"].as_array().unwrap();
    let line = |kind: &str| lines.iter().find(|line| line["type"] == kind).unwrap();
    let requested = line("refund_requested");
    assert_eq!(requested["actor"], "merchant");
    assert!(
        requested["request_id"]
            .as_str()
            .unwrap()
            .starts_with("req_")
    );
    assert_eq!(requested["details"]["amount"], 14_000);
    let succeeded = line("refund_succeeded");
    assert_eq!(
        (&succeeded["actor"], &succeeded["details"]["cause"]),
        (&json!("provider"), &json!("merchant"))
    );
    gateway.stop().await;
}

#[actix_web::test]
async fn parts_are_given_back_and_never_more_than_was_paid() {
    let gateway = Gateway::start().await;
    let order = gateway.paid("A-1").await;
    let first = gateway.refund(order, &asked("R-1", 6_000)).await;
    assert_eq!(first.status, 201);
    gateway
        .until_refund(order, refund_id(&first), "succeeded")
        .await;
    assert_eq!(gateway.read(order).await["refund_status"], "partial");

    let too_much = gateway.refund(order, &asked("R-2", 8_001)).await;
    too_much.is_problem(409, "refund_exceeds_captured");
    assert_eq!(too_much.body["remaining"], 8_000);
    assert_eq!(too_much.body["order_id"], json!(order));

    // The provider wants a minute between two refunds of one payment: the rest waits for its turn.
    let rest = gateway.refund(order, &asked("R-2", 8_000)).await;
    assert_eq!(rest.status, 201);
    let rest = refund_id(&rest);
    assert_eq!(gateway.wechat.refunds.lock().unwrap().len(), 1);
    let nothing_left = gateway.refund(order, &asked("R-3", 1)).await;
    nothing_left.is_problem(409, "refund_exceeds_captured");
    assert_eq!(nothing_left.body["remaining"], 0);
    gateway.clock.advance_ms(60_000);
    gateway.until_refund(order, rest, "succeeded").await;

    let after = gateway.read(order).await;
    assert_eq!(
        (&after["refund_status"], &after["amount_refunded"]),
        (&json!("full"), &json!(14_000))
    );
    let list = gateway.get(&format!("/v1/orders/{order}/refunds")).await;
    let amounts: Vec<_> = list.body["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|refund| refund["amount"].as_i64())
        .collect();
    assert_eq!(amounts, [Some(6_000), Some(8_000)]);
    gateway.stop().await;
}

#[actix_web::test]
async fn what_the_provider_refuses_is_told_and_no_longer_counts() {
    let gateway = Gateway::start().await;
    let order = gateway.paid("A-1").await;
    *gateway.wechat.refund.lock().unwrap() = RefundAnswer::Failed;
    let made = gateway.refund(order, &asked("R-1", 14_000)).await;
    assert_eq!(made.status, 201);
    let id = refund_id(&made);
    gateway.until_refund(order, id, "failed").await;
    let told = gateway.events_of("refund.failed").await;
    assert_eq!(told.len(), 1);
    let refund = &told[0]["data"]["refund"];
    assert_eq!(
        (&refund["id"], &refund["status"], &refund["attention"]),
        (&json!(id), &json!("failed"), &json!("refused"))
    );
    assert_eq!(told[0]["data"]["order"]["refund_status"], "none");

    // The number is spent for ever, the money is not.
    let again = gateway.refund(order, &asked("R-1", 14_000)).await;
    assert_eq!(
        (again.status, &again.body["status"]),
        (200, &json!("failed"))
    );
    *gateway.wechat.refund.lock().unwrap() = RefundAnswer::Succeeded;
    let second = gateway.refund(order, &asked("R-2", 14_000)).await;
    assert_eq!(second.status, 201, "{}", second.body);
    gateway.clock.advance_ms(60_000);
    gateway
        .until_refund(order, refund_id(&second), "succeeded")
        .await;
    gateway.stop().await;
}

#[actix_web::test]
async fn ten_at_once_never_take_more_than_was_paid() {
    let gateway = Gateway::start().await;
    let order = gateway.paid("A-1").await;
    let bodies: Vec<_> = (0..10)
        .map(|number| asked(&format!("R-{number}"), 8_400))
        .collect();
    let answers = join_all(bodies.iter().map(|body| gateway.refund(order, body))).await;
    let mut accepted = 0;
    for answer in &answers {
        if answer.status == 201 {
            accepted += 1;
        } else {
            answer.is_problem(409, "refund_exceeds_captured");
            assert_eq!(answer.body["remaining"], 5_600);
        }
    }
    assert_eq!(accepted, 1);
    gateway
        .until(order, |order| order.amount_refunded() == Fen::new(8_400))
        .await;
    assert_eq!(gateway.wechat.refunds.lock().unwrap().len(), 1);
    gateway.stop().await;
}

#[actix_web::test]
async fn a_number_is_one_refund_for_ever() {
    let gateway = Gateway::start().await;
    let order = gateway.paid("A-1").await;
    let body = asked("R-1", 6_000);
    let all = (0..8).map(|_| gateway.refund(order, &body));
    let answers = join_all(all).await;
    let made: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(made.iter().filter(|status| **status == 201).count(), 1);
    assert!(made.iter().all(|status| matches!(status, 200 | 201)));
    let id = refund_id(&answers[0]);
    assert!(answers.iter().all(|answer| refund_id(answer) == id));
    gateway.until_refund(order, id, "succeeded").await;
    assert_eq!(gateway.wechat.refunds.lock().unwrap().len(), 1);
    let later = gateway.refund(order, &body).await;
    assert_eq!(
        (later.status, &later.body["status"]),
        (200, &json!("succeeded"))
    );

    let other_amount = gateway.refund(order, &asked("R-1", 6_001)).await;
    other_amount.is_problem(409, "merchant_refund_no_conflict");
    assert_eq!(other_amount.body["existing_id"], json!(id));
    let other_order = gateway.paid("A-2").await;
    let elsewhere = gateway.refund(other_order, &body).await;
    elsewhere.is_problem(409, "merchant_refund_no_conflict");
    assert_eq!(
        (
            &elsewhere.body["existing_id"],
            &elsewhere.body["existing_order_id"]
        ),
        (&json!(id), &json!(order))
    );
    assert_eq!(gateway.read(other_order).await["refunds"], json!([]));
    gateway.stop().await;
}

#[actix_web::test]
async fn a_key_gives_the_first_answer() {
    let gateway = Gateway::start().await;
    let order = gateway.paid("A-1").await;
    let path = format!("/v1/orders/{order}/refunds");
    let body = asked("R-1", 6_000);
    let first = gateway.post_once("k-1", &path, &body).await;
    assert_eq!(first.status, 201);
    gateway
        .until_refund(order, refund_id(&first), "succeeded")
        .await;
    let again = gateway.post_once("k-1", &path, &body).await;
    assert_eq!((again.status, &again.bytes), (201, &first.bytes));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.header("location"), first.header("location"));
    gateway
        .post_once("k-1", &path, &asked("R-2", 6_000))
        .await
        .is_problem(422, "idempotency_key_reused");

    // A refusal by state is kept; the money that has come free since is asked for under a new key.
    let refused = gateway.post_once("k-2", &path, &asked("R-2", 9_000)).await;
    refused.is_problem(409, "refund_exceeds_captured");
    let kept = gateway.post_once("k-2", &path, &asked("R-2", 9_000)).await;
    assert_eq!(kept.bytes, refused.bytes);
    gateway.stop().await;
}

#[actix_web::test]
async fn only_paid_orders_and_only_ones_own() {
    let gateway = Gateway::start().await;
    let unpaid = gateway.order("A-1").await;
    let refused = gateway.refund(unpaid, &asked("R-1", 1)).await;
    refused.is_problem(409, "not_refundable");
    assert_eq!(refused.body["order_status"], "unpaid");

    let order = gateway.paid("A-2").await;
    let other = gateway.paid("A-3").await;
    let id = refund_id(&gateway.refund(order, &asked("R-1", 1_000)).await);
    let thief = gateway.other.clone();
    for (method, path, body) in [
        (
            "POST",
            format!("/v1/orders/{order}/refunds"),
            asked("R-2", 1),
        ),
        ("GET", format!("/v1/orders/{order}/refunds"), Value::Null),
        (
            "GET",
            format!("/v1/orders/{order}/refunds/{id}"),
            Value::Null,
        ),
    ] {
        let theirs = gateway.call_as(&thief, method, &path, &body, &[]).await;
        theirs.is_problem(404, "not_found");
    }
    for path in [
        format!("/v1/orders/{other}/refunds/{id}"),
        format!("/v1/orders/{order}/refunds/rfd_00000000000000000000000001"),
        format!("/v1/orders/{order}/refunds/{order}"),
    ] {
        gateway.get(&path).await.is_problem(404, "not_found");
    }
    assert_eq!(
        gateway.read(order).await["refunds"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    gateway.stop().await;
}

#[actix_web::test]
async fn the_reason_stands_sealed_and_the_first_one_stays() {
    const REASON: &str = "因疫情停考，全额退还报考费";
    let gateway = Gateway::start().await;
    let order = gateway.paid("A-1").await;
    let mut body = asked("R-1", 6_000);
    body["reason"] = json!(REASON);
    let path = format!("/v1/orders/{order}/refunds");
    let id = refund_id(&gateway.post_once("k-1", &path, &body).await);
    gateway.until_refund(order, id, "succeeded").await;
    body["reason"] = json!("另一个理由");
    let again = gateway.refund(order, &body).await;
    assert_eq!((again.status, &again.body["reason"]), (200, &json!(REASON)));
    assert_eq!(gateway.wechat.refunds.lock().unwrap()[0].reason, REASON);

    let none = asked("R-2", 1_000);
    let without = gateway.refund(order, &none).await;
    assert_eq!(without.body["reason"], Value::Null);
    // Neither the slot nor the kept answer nor the webhook has it in clear.
    let stored = gateway.stored_bytes();
    let contains = |text: &str| {
        stored
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    assert!(contains("R-1"), "what is looked up by stands in clear");
    assert!(!contains(REASON) && !contains("停考"));
    gateway.stop().await;
}

#[actix_web::test]
async fn a_silent_provider_is_asked_again_under_the_same_number_until_its_notice_comes() {
    let gateway = Gateway::start().await;
    let order = gateway.paid("A-1").await;
    *gateway.wechat.refund.lock().unwrap() = RefundAnswer::Unknown;
    *gateway.wechat.refund_query.lock().unwrap() = RefundAnswer::Unknown;
    let id = refund_id(&gateway.refund(order, &asked("R-1", 14_000)).await);
    let tries = |wanted: u16| {
        move |order: &enrollpay::order::Order| {
            order
                .refund(id)
                .is_some_and(|refund| refund.standing.tries() >= wanted)
        }
    };
    gateway.clock.advance_ms(10_000);
    gateway.until(order, tries(2)).await;
    gateway.clock.advance_ms(20_000);
    gateway.until(order, tries(3)).await;
    assert_eq!(gateway.read(order).await["refunds"][0]["status"], "pending");

    let attempt = enrollpay::order::AttemptNumber::FIRST;
    let news = RefundNews {
        out_trade_no: OutTradeNo { order, attempt }.to_string(),
        refund_no: id.to_string(),
        amount: Some(Fen::new(14_000)),
        answer: RefundAnswer::Succeeded,
    };
    for _ in 0..2 {
        *gateway.wechat.notice.lock().unwrap() = Some(Notice::Refund {
            notice_id: "n-1".to_owned(),
            news: news.clone(),
            success: None,
        });
        let told = gateway
            .send(
                "POST",
                "/callbacks/wechatpay/school-wechat",
                b"{}".to_vec(),
                &[],
            )
            .await;
        assert_eq!(told.status, 204);
    }
    let after = gateway.read(order).await;
    assert_eq!(after["refunds"][0]["status"], "succeeded");
    assert_eq!(gateway.events_of("refund.succeeded").await.len(), 1);
    let numbers: Vec<_> = gateway
        .wechat
        .refunds
        .lock()
        .unwrap()
        .iter()
        .map(|request| request.refund_no.clone())
        .collect();
    assert!(numbers.iter().all(|number| *number == id.to_string()));
    gateway.stop().await;
}

#[actix_web::test]
async fn too_small_a_balance_is_told_and_mended_by_itself() {
    let gateway = Gateway::start().await;
    let order = gateway.paid("A-1").await;
    *gateway.wechat.refund.lock().unwrap() = RefundAnswer::Underfunded;
    *gateway.wechat.refund_query.lock().unwrap() = RefundAnswer::Unknown;
    let id = refund_id(&gateway.refund(order, &asked("R-1", 14_000)).await);
    gateway
        .until(order, |order| {
            let standing = order.refund(id).unwrap().standing;
            matches!(
                standing,
                RefundStanding::Pending {
                    underfunded: true,
                    ..
                }
            )
        })
        .await;
    let path = format!("/v1/orders/{order}/refunds/{id}");
    let waits = gateway.get(&path).await;
    assert_eq!(
        (&waits.body["status"], &waits.body["attention"]),
        (&json!("pending"), &json!("underfunded"))
    );
    assert_eq!(gateway.events_of("order.attention").await.len(), 1);
    *gateway.wechat.refund.lock().unwrap() = RefundAnswer::Succeeded;
    gateway.clock.advance_ms(10_000);
    gateway.until_refund(order, id, "succeeded").await;
    let ended = gateway.get(&path).await;
    assert_eq!(ended.body["attention"], Value::Null);
    gateway.stop().await;
}

#[actix_web::test]
async fn surplus_is_told_with_the_refund_that_gives_it_back() {
    let gateway = Gateway::start().await;
    let order = gateway.order("A-1").await;
    let path = format!("/v1/orders/{order}");
    gateway
        .post(&format!("{path}/attempts"), &Value::Null)
        .await;
    let attempt = gateway.scan(order).await;
    gateway.capture(order, attempt, "4200001").await;
    gateway.capture(order, attempt, "4200002").await;
    gateway
        .until(order, |order| {
            order.every_refund().all(|refund| refund.standing.is_over())
        })
        .await;
    let told = gateway.events_of("order.surplus_refunded").await;
    assert_eq!(told.len(), 1);
    let refund = &told[0]["data"]["refund"];
    assert_eq!(
        (
            &refund["cause"],
            &refund["transaction_id"],
            &refund["merchant_refund_no"]
        ),
        (&json!("surplus"), &json!("4200002"), &Value::Null)
    );
    let after = gateway.read(order).await;
    assert_eq!(after["surplus"][0]["refund"], refund["id"]);
    // It is no refund of the merchant's, and leaves the payment alone.
    assert_eq!(
        (&after["refunds"], &after["refund_status"]),
        (&json!([]), &json!("none"))
    );
    let id = refund["id"].as_str().unwrap();
    let read = gateway.get(&format!("{path}/refunds/{id}")).await;
    assert_eq!(
        (read.status, &read.body["status"]),
        (200, &json!("succeeded"))
    );
    let list = gateway.get(&format!("{path}/refunds")).await;
    assert_eq!(list.body["data"].as_array().unwrap().len(), 1);
    let whole = gateway.refund(order, &asked("R-1", 14_000)).await;
    assert_eq!(whole.status, 201, "{}", whole.body);
    gateway.stop().await;
}

#[actix_web::test]
async fn the_payers_page_says_what_comes_back() {
    let gateway = Gateway::start().await;
    let order = gateway.paid("A-1").await;
    let address = gateway.read(order).await["cashier_url"].clone();
    let path = address.as_str().unwrap()["https://pay.example.edu.cn".len()..].to_owned();
    let says = async |language: &str, sentence: Option<&str>| {
        let headers = [("accept-language", language), ("user-agent", "Mozilla/5.0")];
        let page = gateway.send("GET", &path, Vec::new(), &headers).await;
        assert_eq!(page.status, 200);
        let text = String::from_utf8_lossy(&page.bytes).into_owned();
        let paid = ["已完成，请勿重复支付", "Done, do not pay again"];
        assert!(paid.iter().any(|paid| text.contains(paid)), "{text}");
        let (_, rest) = text.split_once("id=\"refund\"").unwrap();
        let (line, _) = rest.split_once("</p>").unwrap();
        match sentence {
            Some(sentence) => assert_eq!(line.split_once('>').unwrap().1, sentence),
            None => assert_eq!(line, " hidden>"),
        }
    };
    says("zh-CN", None).await;
    *gateway.wechat.refund.lock().unwrap() = RefundAnswer::Processing;
    *gateway.wechat.refund_query.lock().unwrap() = RefundAnswer::Processing;
    let first = refund_id(&gateway.refund(order, &asked("R-1", 6_000)).await);
    says("zh-CN", Some("退款中：¥60.00")).await;
    says("en", Some("Refund of ¥60.00 in progress")).await;
    *gateway.wechat.refund_query.lock().unwrap() = RefundAnswer::Succeeded;
    gateway.clock.advance_ms(60_000);
    gateway.until_refund(order, first, "succeeded").await;
    says("zh-CN", Some("部分退款：已退款 ¥60.00（2026-11-20 18:01）")).await;
    says("en", Some("Partly refunded: ¥60.00 (2026-11-20 18:01)")).await;

    *gateway.wechat.refund.lock().unwrap() = RefundAnswer::Abnormal;
    let rest = refund_id(&gateway.refund(order, &asked("R-2", 8_000)).await);
    gateway.until_refund(order, rest, "abnormal").await;
    says(
        "zh-CN",
        Some("部分退款：已退款 ¥60.00（2026-11-20 18:01）；退款正在人工处理"),
    )
    .await;
    gateway.clock.advance_ms(3_600_000);
    gateway.until_refund(order, rest, "succeeded").await;
    says("zh-CN", Some("已退款 ¥140.00（2026-11-20 19:01）")).await;
    says("en", Some("Refunded ¥140.00 (2026-11-20 19:01)")).await;
    gateway.stop().await;
}

#[actix_web::test]
async fn the_books_of_a_refunded_order_balance() {
    let gateway = Gateway::start().await;
    let order = gateway.paid("A-1").await;
    let id = refund_id(&gateway.refund(order, &asked("R-1", 6_000)).await);
    gateway.until_refund(order, id, "succeeded").await;
    let lines = gateway.store.ledger(order).await.unwrap();
    let of = |book: &str| {
        let amounts = lines.iter().filter(|line| line.book == book);
        amounts.map(|line| line.amount.get()).sum::<i64>()
    };
    assert_eq!(of("provider:school-wechat"), 8_000);
    assert_eq!(of("merchant"), -8_000);
    gateway.stop().await;
}
