//! Bills: uploaded by a school, ticked and paid together by whoever owes them (contract §4, §6).
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its own set-up fails"
)]

use enrollpay::order::OrderId;
use serde_json::{Value, json};

use crate::api::gateway::{Gateway, Wishes};
use crate::cashier::{Browser, COMPUTER, PHONE, WECHAT};
use crate::support::books::trade_number;
use crate::support::student::{Student, Wechat, hidden_inputs};
use crate::support::{Pair, World, on_either_pair};

const PAYER: &str = "650102-000123";

on_either_pair! {
    in_wechat_from_the_payers_link_to_the_paid_order,
}

/// A bill over ¥70.00.
fn bill(number: &str, payer: &str) -> Value {
    json!({
        "merchant_bill_no": number,
        "subject": format!("学费 {number}"),
        "items": [{ "code": "01", "name": "普通逻辑", "amount": 3000 }, { "name": "教材", "amount": 4000 }],
        "amount": 7000,
        "payer": { "ref": payer, "name": "测试考生", "id_number": "650102200001010011" },
        "pay_before": "2026-12-20T18:00:00+08:00",
        "metadata": { "term": "2026" },
    })
}

fn with(number: &str, member: &str, value: Value) -> Value {
    let mut bill = bill(number, PAYER);
    bill[member] = value;
    bill
}

async fn upload(gateway: &Gateway, numbers: &[&str]) -> Vec<String> {
    let bills: Vec<Value> = numbers.iter().map(|number| bill(number, PAYER)).collect();
    let answer = gateway.post("/v1/bills", &json!({ "bills": bills })).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let data = answer.body["data"].as_array().unwrap();
    data.iter()
        .map(|bill| bill["id"].as_str().unwrap().to_owned())
        .collect()
}

/// The path of a fresh link of this payer.
async fn link(gateway: &Gateway, payer: &str) -> String {
    let body = json!({ "payer": { "ref": payer, "name": "测试考生", "phone": "13800000000" } });
    let answer = gateway.post("/v1/payer_links", &body).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let url = answer.body["url"].as_str().unwrap();
    url["https://pay.example.edu.cn".len()..].to_owned()
}

async fn standing(gateway: &Gateway, bill: &str) -> String {
    let answer = gateway.get(&format!("/v1/bills/{bill}")).await;
    answer.body["status"].as_str().unwrap().to_owned()
}

/// The order that a press on 立即支付 led to.
async fn holder(gateway: &Gateway, bill: &str) -> OrderId {
    let answer = gateway.get(&format!("/v1/bills/{bill}")).await;
    answer.body["order"].as_str().unwrap().parse().unwrap()
}

#[actix_web::test]
async fn a_bill_is_uploaded_read_and_repeated() {
    let gateway = Gateway::start().await;
    let made = gateway.post("/v1/bills", &bill("B-1", PAYER)).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let id = made.body["id"].as_str().unwrap();
    assert_eq!(made.header("location"), Some(&*format!("/v1/bills/{id}")));
    assert_eq!(
        (&made.body["object"], &made.body["status"]),
        (&json!("bill"), &json!("unpaid"))
    );
    assert_eq!(
        made.body["payer"],
        json!({ "ref": PAYER, "name": "测*", "id_number": "6501**********0011", "phone": null })
    );
    assert_eq!(made.body["metadata"], json!({ "term": "2026" }));
    assert_eq!(made.body["order"], Value::Null);
    let read = gateway.get(&format!("/v1/bills/{id}")).await;
    assert_eq!((read.status, &read.body), (200, &made.body));

    let again = gateway.post("/v1/bills", &bill("B-1", PAYER)).await;
    assert_eq!((again.status, &again.body), (200, &made.body));
    // Its deadline passes: the repeat is still the same, and a new one is too late.
    gateway.clock.advance_ms(40 * 86_400_000);
    let again = gateway.post("/v1/bills", &bill("B-1", PAYER)).await;
    assert_eq!(
        (again.status, &again.body["status"]),
        (200, &json!("closed"))
    );
    assert_eq!(again.body["close_reason"], "deadline");
    assert_eq!(again.body["closed_at"], again.body["pay_before"]);
    let late = gateway.post("/v1/bills", &bill("B-2", PAYER)).await;
    late.is_problem(400, "pay_before_invalid");

    // Another merchant's numbers and bills are its own.
    let path = format!("/v1/bills/{id}");
    let theirs = gateway
        .call_as(&gateway.other, "GET", &path, &Value::Null, &[])
        .await;
    theirs.is_problem(404, "not_found");
    assert!(
        !gateway
            .stored_bytes()
            .windows(12)
            .any(|bytes| bytes == "测试考生".as_bytes()),
        "a name stands in clear"
    );
    gateway.stop().await;
}

#[actix_web::test]
async fn a_thousand_bills_are_kept_whole_or_not_at_all() {
    let gateway = Gateway::start().await;
    let thousand: Vec<Value> = (0..1000)
        .map(|n| bill(&format!("B-{n}"), &format!("P-{}", n % 50)))
        .collect();
    let body = json!({ "bills": thousand });
    assert!(body.to_string().len() > 64 * 1024);
    let made = gateway.post_once("k-1", "/v1/bills", &body).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let data = made.body["data"].as_array().unwrap();
    assert_eq!(data.len(), 1000);
    assert_eq!(data[17]["merchant_bill_no"], "B-17");
    // Listed as they were uploaded, whatever chance made their ids of.
    let listed = gateway.get("/v1/bills?limit=100").await;
    let numbers = listed.body["data"].as_array().unwrap().iter();
    let numbers: Vec<_> = numbers.map(|bill| &bill["merchant_bill_no"]).collect();
    let uploaded: Vec<_> = (0..100).map(|n| json!(format!("B-{n}"))).collect();
    assert_eq!(numbers, uploaded.iter().collect::<Vec<_>>());
    let again = gateway.post_once("k-1", "/v1/bills", &body).await;
    assert_eq!((again.status, &again.bytes), (201, &made.bytes));
    let again = gateway.post("/v1/bills", &body).await;
    assert_eq!(again.status, 200);

    // One of many differs: nothing of the upload is kept.
    let mut other = bill("B-3", "P-3");
    other["subject"] = json!("别的");
    other["payer"]["name"] = json!("另一人");
    let upload = json!({ "bills": [bill("new", PAYER), other] });
    let conflict = gateway.post("/v1/bills", &upload).await;
    conflict.is_problem(409, "merchant_bill_no_conflict");
    assert_eq!(
        conflict.body["conflicts"],
        json!([{ "merchant_bill_no": "B-3", "members": ["subject", "payer.name"],
            "existing_id": data[3]["id"] }])
    );
    let none = gateway.get("/v1/bills?merchant_bill_no=new").await;
    assert_eq!(none.body["data"], json!([]));

    let twice = json!({ "bills": [bill("x", PAYER), bill("y", PAYER), bill("x", PAYER)] });
    let twice = gateway.post("/v1/bills", &twice).await;
    twice.is_problem(400, "validation_failed");
    assert_eq!(twice.pointers(), ["/bills/2/merchant_bill_no"]);

    // By pages, filtered.
    let mut seen = 0;
    let mut cursor = String::new();
    loop {
        let page = gateway
            .get(&format!(
                "/v1/bills?payer_ref=P-7&status=unpaid&limit=8{cursor}"
            ))
            .await;
        seen += page.body["data"].as_array().unwrap().len();
        match page.body["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, 20);
    let wrong = gateway.get("/v1/bills?status=open&what=1&limit=0").await;
    wrong.is_problem(400, "validation_failed");
    assert_eq!(wrong.pointers(), ["status", "what", "limit"]);
    gateway.stop().await;
}

#[actix_web::test]
async fn what_is_wrong_with_a_bill_is_pointed_at() {
    let gateway = Gateway::start().await;
    for (body, code, pointers) in [
        (json!({ "bills": [] }), "validation_failed", vec!["/bills"]),
        (json!({ "bills": {} }), "validation_failed", vec!["/bills"]),
        (
            json!({ "bills": [bill("1", PAYER)], "what": 1 }),
            "validation_failed",
            vec!["/what"],
        ),
        (
            json!({ "bills": [bill("1", PAYER), with("2", "amount", json!(7001))] }),
            "amount_invalid",
            vec!["/bills/1/amount"],
        ),
        (
            with("1", "pay_before", json!("2026-11-20T17:59:59+08:00")),
            "pay_before_invalid",
            vec!["/pay_before"],
        ),
        (
            with("1", "payer", json!({ "name": "测试" })),
            "validation_failed",
            vec!["/payer/ref"],
        ),
        (
            with("1", "late_grace_seconds", json!(60)),
            "validation_failed",
            vec!["/late_grace_seconds"],
        ),
        (
            with("1", "metadata", json!({ "a/b": [] })),
            "validation_failed",
            vec!["/metadata/a~1b"],
        ),
        (
            json!({ "bills": [3] }),
            "validation_failed",
            vec!["/bills/0"],
        ),
    ] {
        let answer = gateway.post("/v1/bills", &body).await;
        answer.is_problem(400, code);
        assert_eq!(answer.pointers(), pointers, "{body}");
    }
    for (body, pointer) in [
        (json!({}), "/payer"),
        (
            json!({ "payer": { "ref": "1" }, "expires_in_seconds": 59 }),
            "/expires_in_seconds",
        ),
        (
            json!({ "payer": { "ref": "1" }, "return_url": "ftp://x" }),
            "/return_url",
        ),
    ] {
        let answer = gateway.post("/v1/payer_links", &body).await;
        answer.is_problem(400, "validation_failed");
        assert_eq!(answer.pointers(), [pointer]);
    }
    let huge = json!({ "bills": [with("1", "metadata", json!({ "x": "y".repeat(1024 * 1024) }))] });
    let huge = gateway.post("/v1/bills", &huge).await;
    huge.is_problem(413, "body_too_large");
    gateway.stop().await;
}

#[actix_web::test]
async fn ticked_bills_are_paid_by_one_order() {
    let gateway = Gateway::start().await;
    let ids = upload(&gateway, &["B-1", "B-2", "B-3"]).await;
    let page = link(&gateway, PAYER).await;
    let mut browser = Browser::new(&gateway, COMPUTER);
    let shown = browser.get(&page).await;
    assert_eq!(shown.status, 200);
    shown
        .says("待缴费")
        .says("学费 B-1")
        .says("¥70.00")
        .says("以上账单合计</span> <b>¥210.00")
        .says("测*")
        .says("6501**********0011")
        .says("138****0000")
        .says("学校1")
        .is_silent_about(&["测试考生", "13800000000", "style="]);
    let policy = shown.header("content-security-policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("form-action 'self'"));
    assert_eq!(shown.header("cache-control"), "no-store");
    let csrf = shown.member("/orders", "csrf");
    let orders = format!("{page}/orders");

    // Nothing ticked, a wrong address, no csrf: said on the page, and nothing is made.
    let none = browser.post(&orders, &[("csrf", &csrf)]).await;
    assert_eq!(
        (none.status, none.header("location")),
        (303, &*format!("{page}?list=unpaid"))
    );
    browser.get(&page).await.says("请先勾选要缴费的账单");
    let form = [("csrf", &*csrf), ("bill", &*ids[0]), ("email", "a@b")];
    browser.post(&orders, &form).await;
    browser.get(&page).await.says("邮箱地址有误");
    let stale = browser.post(&orders, &[("bill", &*ids[0])]).await;
    assert_eq!(stale.status, 403);
    stale.says("页面停留过久");
    assert_eq!(standing(&gateway, &ids[0]).await, "unpaid");

    let form = [
        ("csrf", &*csrf),
        ("bill", &*ids[1]),
        ("bill", &*ids[0]),
        ("email", "a@example.edu.cn"),
    ];
    let made = browser.post(&orders, &form).await;
    assert_eq!(made.status, 303, "{}", made.text);
    let pay = made.header("location").to_owned();
    assert!(pay.starts_with("/pay/"), "{pay}");
    let order = holder(&gateway, &ids[0]).await;
    let json = gateway.get(&format!("/v1/orders/{order}")).await.body;
    assert_eq!(json["merchant_order_no"], format!("BILLS-{}", order.ulid()));
    assert_eq!(json["subject"], "学费 B-2 等2项");
    assert_eq!(
        (&json["amount"], &json["late_payment"]),
        (&json!(14000), &json!("refund"))
    );
    assert_eq!(json["items"].as_array().unwrap().len(), 4);
    assert_eq!(
        json["bills"],
        json!([{ "id": ids[1], "merchant_bill_no": "B-2" },
               { "id": ids[0], "merchant_bill_no": "B-1" }])
    );
    assert_eq!(json["pay_before"], "2026-12-20T18:00:00+08:00");
    assert_eq!(json["payer"]["ref"], PAYER);

    // Whoever reads a bill's number or id over the phone is helped too.
    for said in ["B-1", &ids[1]] {
        let found = gateway.operations().find(said).await.unwrap();
        assert_eq!(found, [order], "{said}");
    }

    // Pressed twice, the second press comes to the same order; with another bill it does not.
    let again = browser.post(&orders, &form).await;
    assert_eq!(again.header("location"), pay);
    let mixed = [("csrf", &*csrf), ("bill", &*ids[1]), ("bill", &*ids[2])];
    browser.post(&orders, &mixed).await;
    browser.get(&page).await.says("有账单已在其他订单中");
    let cancel = format!("/v1/bills/{}/cancel", ids[0]);
    let refused = gateway.post(&cancel, &Value::Null).await;
    refused.is_problem(409, "bill_paying");
    assert_eq!(refused.body["order_id"], json!(order));
    let paying = browser.get(&format!("{page}?list=paying")).await;
    paying
        .says("继续支付")
        .says(&pay)
        .says("取消订单")
        .says("B-1");

    gateway.pay(order).await;
    for id in &ids[..2] {
        let paid = gateway.get(&format!("/v1/bills/{id}")).await.body;
        assert_eq!(
            (&paid["status"], &paid["order"]),
            (&json!("paid"), &json!(order))
        );
        assert!(paid["paid_at"].is_string() && paid["receipt_url"].is_string());
    }
    assert_eq!(standing(&gateway, &ids[2]).await, "unpaid");
    let told = gateway.get("/v1/events?types=order.paid").await;
    assert_eq!(
        told.body["data"][0]["data"]["order"]["bills"],
        json["bills"]
    );
    let refused = gateway.post(&cancel, &Value::Null).await;
    refused.is_problem(409, "already_paid");

    // The page of before still offers to cancel: the answer is that it is paid.
    let csrf = paying.member("/cancel", "csrf");
    let form = [("csrf", &*csrf), ("order", &*order.to_string())];
    let late = browser.post(&format!("{page}/cancel"), &form).await;
    assert_eq!(late.header("location"), format!("{page}?list=paid"));
    let paid = browser.get(&format!("{page}?list=paid")).await;
    paid.says("已查到付款")
        .says(&format!("42000000{order}"))
        .says("查看凭证")
        .says("微信支付");
    browser.language = "en";
    browser.get(&page).await.says("To pay").says("Pay now");
    gateway.stop().await;
}

#[actix_web::test]
async fn a_cancelled_order_gives_its_bills_back() {
    let gateway = Gateway::start().await;
    let ids = upload(&gateway, &["B-1", "B-2"]).await;
    let page = link(&gateway, PAYER).await;
    let mut browser = Browser::new(&gateway, COMPUTER);
    let csrf = browser.get(&page).await.member("/orders", "csrf");
    let orders = format!("{page}/orders");
    let form = [("csrf", &*csrf), ("bill", &*ids[0]), ("bill", &*ids[1])];
    browser.post(&orders, &form).await;
    let first = holder(&gateway, &ids[0]).await;
    let started = format!("/v1/orders/{first}/attempts");
    gateway.post(&started, &Value::Null).await;
    gateway.scan(first).await;

    // Somebody else's link cannot cancel it, nor tick the bills.
    let theirs = link(&gateway, "another").await;
    let mut stranger = Browser::new(&gateway, COMPUTER);
    stranger.get(&theirs).await.says("这里没有账单");
    let visit = stranger.get(&theirs).await;
    assert!(!visit.text.contains("B-1"));
    let csrf_of = crate::cashier::csrf(&gateway, &stranger, &theirs);
    let form = [("csrf", &*csrf_of), ("bill", &*ids[0])];
    let refused = stranger.post(&format!("{theirs}/orders"), &form).await;
    assert_eq!(refused.status, 404);
    let form = [("csrf", &*csrf_of), ("order", &*first.to_string())];
    let refused = stranger.post(&format!("{theirs}/cancel"), &form).await;
    assert_eq!(refused.status, 404);
    assert_eq!(standing(&gateway, &ids[0]).await, "paying");

    let form = [("csrf", &*csrf), ("order", &*first.to_string())];
    let cancelled = browser.post(&format!("{page}/cancel"), &form).await;
    assert_eq!(
        (cancelled.status, cancelled.header("location")),
        (303, &*format!("{page}?list=unpaid"))
    );
    browser
        .get(&page)
        .await
        .says("订单已取消，未产生扣款")
        .says("学费 B-1");
    let closed = gateway.get(&format!("/v1/orders/{first}")).await.body;
    assert_eq!(closed["status"], "closed");

    let form = [("csrf", &*csrf), ("bill", &*ids[0]), ("bill", &*ids[1])];
    browser.post(&orders, &form).await;
    let second = holder(&gateway, &ids[0]).await;
    assert_ne!(second, first);
    gateway.pay(second).await;
    assert_eq!(standing(&gateway, &ids[1]).await, "paid");
    gateway.stop().await;
}

#[actix_web::test]
async fn a_cancelled_bill_is_ticked_by_nobody_and_a_link_has_its_end() {
    let gateway = Gateway::start().await;
    let ids = upload(&gateway, &["B-1", "B-2"]).await;
    let page = link(&gateway, PAYER).await;
    let mut browser = Browser::new(&gateway, PHONE);
    let csrf = browser.get(&page).await.member("/orders", "csrf");
    for _ in 0..2 {
        let cancel = format!("/v1/bills/{}/cancel", ids[0]);
        let cancelled = gateway.post(&cancel, &Value::Null).await;
        assert_eq!(
            (cancelled.status, &cancelled.body["close_reason"]),
            (200, &json!("cancelled"))
        );
    }
    let form = [("csrf", &*csrf), ("bill", &*ids[0])];
    browser.post(&format!("{page}/orders"), &form).await;
    let shown = browser.get(&page).await;
    shown.says("已关闭，请重新勾选").says("B-2");
    assert!(!shown.text.contains("学费 B-1"));

    gateway.clock.advance_ms(7_200_000);
    let over = browser.get(&page).await;
    assert_eq!(over.status, 410);
    over.says("链接已过期").says("请从学校系统重新进入");
    let over = browser.state(&page).await;
    assert_eq!(
        (over.status, &over.json()["code"]),
        (410, &json!("link_expired"))
    );
    let form = [("csrf", &*csrf), ("bill", &*ids[1])];
    let over = browser.post(&format!("{page}/orders"), &form).await;
    assert_eq!(over.status, 410);
    let unknown = browser.get("/bills/AAAAAAAAAAAAAAAAAAAAAA").await;
    assert_eq!(unknown.status, 404);
    assert_eq!(standing(&gateway, &ids[1]).await, "unpaid");
    gateway.stop().await;
}

#[actix_web::test]
async fn phones_pay_their_bills_by_every_button() {
    let wishes = Wishes {
        h5: true,
        ..Wishes::default()
    };
    let gateway = Gateway::start_with(wishes).await;
    let ids = upload(&gateway, &["B-1", "B-2", "B-3"]).await;
    let page = link(&gateway, PAYER).await;
    for (agent, via, id, sign) in [
        (PHONE, "h5", &ids[0], "https://wallet.example/"),
        (PHONE, "wap", &ids[1], "https://wallet.example/"),
        (WECHAT, "jsapi", &ids[2], "/s/"),
    ] {
        let mut phone = Browser::new(&gateway, agent);
        let csrf = phone.get(&page).await.member("/orders", "csrf");
        let form = [("csrf", &*csrf), ("bill", &**id)];
        let made = phone.post(&format!("{page}/orders"), &form).await;
        let pay = made.header("location").to_owned();
        let csrf = phone.get(&pay).await.member("/go", "csrf");
        let go = [("csrf", &*csrf), ("via", via)];
        let gone = phone.post(&format!("{pay}/go"), &go).await;
        if via == "jsapi" {
            gone.says("data-follow=\"/s/");
            continue;
        }
        let confirm = gone.header("location").to_owned();
        let scan = confirm.split('?').next().unwrap().to_owned();
        // The address is enough: no cookie is needed.
        let key = phone.get(&confirm).await.member("/pay", "k");
        let mut phone = Browser::new(&gateway, agent);
        let paying = phone.post(&format!("{scan}/pay"), &[("k", &key)]).await;
        paying.says(sign);
        assert_eq!(standing(&gateway, id).await, "paying");
    }
    gateway.stop().await;
}

/// Against the simulated providers: the menu's link, the ticks, WeChat's own payment, the webhook.
async fn in_wechat_from_the_payers_link_to_the_paid_order(on: Pair) {
    let world = World::on(on, &[]).await;
    let mut paid_now = bill("B-1", PAYER);
    paid_now.as_object_mut().unwrap().remove("pay_before");
    let mut also = paid_now.clone();
    also["merchant_bill_no"] = json!("B-2");
    let upload = json!({ "bills": [paid_now, also] });
    let uploaded = world.merchant.post("/v1/bills", &upload).await.expect(201);
    let ids: Vec<&str> = uploaded["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bill| bill["id"].as_str().unwrap())
        .collect();
    let asked = json!({ "payer": { "ref": PAYER } });
    let link = world.merchant.post("/v1/payer_links", &asked).await;
    let link = link.expect(201)["url"].as_str().unwrap().to_owned();
    let origin = link.split("/bills/").next().unwrap().to_owned();

    let mut phone = Student::stranger(Wechat);
    // Once given up, and paid the second time.
    for last in [false, true] {
        let page = phone.visit(&link).await;
        let csrf = hidden_inputs(&String::from_utf8_lossy(&page.body))["csrf"].clone();
        let form = [("csrf", &*csrf), ("bill", ids[0]), ("bill", ids[1])];
        let made = phone.submit(&format!("{link}/orders"), &form).await;
        assert_eq!(made.status, 303);
        let pay = format!("{origin}{}", made.headers["location"].to_str().unwrap());
        let page = phone.visit(&pay).await;
        let csrf_of_pay = hidden_inputs(&String::from_utf8_lossy(&page.body))["csrf"].clone();
        let form = [("csrf", &*csrf_of_pay), ("via", "jsapi")];
        let left = phone.submit(&format!("{pay}/go"), &form).await;
        let text = String::from_utf8_lossy(&left.body).into_owned();
        let (_, follow) = text
            .split_once("data-follow=\"")
            .expect("a way to the code");
        let code = format!("{origin}{}", follow.split('"').next().unwrap());
        let claimed = phone.try_scan(&code).await.unwrap().expect(200);
        assert_eq!(
            (&claimed["state"], &claimed["amount"]),
            (&json!("claimed"), &json!(14000))
        );
        assert_eq!(phone.press_pay().await.expect(200)["type"], "jsapi");

        let held = world.merchant.get(&format!("/v1/bills/{}", ids[0])).await;
        let held = held.expect(200);
        assert_eq!(held["status"], "paying");
        let order = held["order"].as_str().unwrap().to_owned();
        if !last {
            let form = [("csrf", &*csrf), ("order", &*order)];
            let cancelled = phone.submit(&format!("{link}/cancel"), &form).await;
            assert_eq!(cancelled.status, 303);
            world.merchant.until_status(&order, "closed").await;
            continue;
        }
        world.simulators.pay(&trade_number(&order, 1)).await;
        world.merchant.until_status(&order, "paid").await;
        let event = world.receiver.wait(&order, "order.paid").await;
        let named: Vec<&Value> = event.order["bills"].as_array().unwrap().iter().collect();
        assert_eq!(named.len(), 2);
        for id in &ids {
            let paid = world.merchant.get(&format!("/v1/bills/{id}")).await;
            assert_eq!(paid.expect(200)["status"], "paid");
            assert!(named.iter().any(|bill| bill["id"] == **id));
        }
        let list = phone.visit(&format!("{link}?list=paid")).await;
        let list = String::from_utf8_lossy(&list.body).into_owned();
        assert!(list.contains("查看凭证"), "{list}");
    }
    world.finish().await;
}
