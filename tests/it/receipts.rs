//! The receipt of a payment, the check that anybody can make of it, and the fiscal e-receipt.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use enrollpay::order::OrderId;
use enrollpay::store::{Transaction, Write};
use enrollpay::view::PERSONAL_SLOT;
use serde_json::{Value, json};

use crate::api::gateway::{Answered, Gateway};

const PUBLIC: &str = "https://pay.example.edu.cn";

/// A page as a browser gets it.
struct Page {
    status: u16,
    policy: String,
    text: String,
}

impl Page {
    #[track_caller]
    fn says(&self, texts: &[&str]) -> &Self {
        for text in texts {
            assert!(
                self.text.contains(text),
                "expected {text:?} in {}",
                self.text
            );
        }
        self
    }

    #[track_caller]
    fn is_silent_about(&self, texts: &[&str]) -> &Self {
        for text in texts {
            assert!(!self.text.contains(text), "{text:?} in {}", self.text);
        }
        self
    }

    /// The text of the element with this id.
    #[track_caller]
    fn element(&self, id: &str) -> &str {
        let (_, from) = self.text.split_once(&format!("id=\"{id}\"")).expect(id);
        let (_, from) = from.split_once('>').unwrap();
        from.split('<').next().unwrap()
    }
}

impl Gateway {
    async fn page(&self, path: &str) -> Page {
        let path = path.strip_prefix(PUBLIC).unwrap_or(path);
        let request = self.client.get(format!("{}{path}", self.base));
        let answer = request
            .header("accept-language", "zh-CN")
            .send()
            .await
            .unwrap();
        let policy = answer.headers().get("content-security-policy");
        Page {
            status: answer.status().as_u16(),
            policy: policy.map_or("", |it| it.to_str().unwrap()).to_owned(),
            text: answer.text().await.unwrap(),
        }
    }

    async fn receipt_url(&self, order: OrderId) -> String {
        let order = self.get(&format!("/v1/orders/{order}")).await.body;
        order["receipt_url"].as_str().unwrap().to_owned()
    }

    async fn receipt(&self, order: OrderId) -> Page {
        let url = self.receipt_url(order).await;
        let page = self.page(&url).await;
        assert_eq!(page.status, 200, "{}", page.text);
        page
    }

    async fn issue(&self, order: OrderId, body: &Value) -> Answered {
        self.post(&format!("/v1/orders/{order}/fiscal_receipt"), body)
            .await
    }

    async fn given_back(&self, order: OrderId, number: &str, amount: i64) {
        let body = json!({ "merchant_refund_no": number, "amount": amount });
        let made = self
            .post(&format!("/v1/orders/{order}/refunds"), &body)
            .await;
        assert_eq!(made.status, 201, "{}", made.body);
        let id = made.body["id"].as_str().unwrap().parse().unwrap();
        self.until(order, |order| {
            order
                .refund(id)
                .is_some_and(|refund| refund.standing.as_str() == "succeeded")
        })
        .await;
    }
}

fn fiscal(n: u8) -> Value {
    json!({ "number": format!("65010126-{n}"), "url": format!("https://czpj.example.gov.cn/{n}?a=1&b=2") })
}

#[actix_web::test]
async fn a_receipt_says_what_was_paid_to_whom_and_how_to_check_it() {
    let gateway = Gateway::start().await;
    let unpaid = gateway.order("A-0").await;
    let token = gateway.deps.view().receipt_token(unpaid);
    assert_eq!(
        gateway.page(&format!("/receipts/{token}")).await.status,
        404,
        "not paid"
    );
    let order = gateway.paid("A-1").await;
    let read = gateway.get(&format!("/v1/orders/{order}")).await.body;
    let page = gateway.receipt(order).await;
    page.says(&[
        "缴费凭证",
        "学校1",
        "测*",
        "6501**********0011",
        "2021年4月自学考试报考费",
        "普通逻辑",
        "00024",
        "2021年04月01日 上午",
        "古代汉语",
        "105.00",
        "¥140.00",
        "壹佰肆拾元整",
        "微信支付",
        &format!("42000000{order}"),
        "2026-11-20 18:00:00",
        "A-1",
        "已缴费",
        "非公章",
    ])
    .is_silent_about(&[
        "测试考生",
        "650102200001010011",
        "13800000000",
        "138****0000",
        "退款",
    ]);
    assert_eq!(page.element("hash"), read["snapshot_hash"]);
    assert!(page.policy.contains("default-src 'none'") && !page.policy.contains("unsafe"));
    assert!(
        !page.text.contains("style="),
        "the policy forbids inline styles"
    );

    // Its number is the order's, and the address under the code leads to the check.
    let verify = page.element("verify");
    assert!(
        verify.starts_with(&format!("{PUBLIC}/verify/{}/", order.ulid())),
        "{verify}"
    );
    let code = page.element("code").replace('-', "");
    assert!(verify.ends_with(&code));

    let english = gateway
        .page(&format!("{}?lang=en", gateway.receipt_url(order).await))
        .await;
    english.says(&[
        "Payment receipt",
        "WeChat Pay",
        "lang=\"zh-CN\">壹佰肆拾元整",
    ]);
    // And the cashier's page leads here.
    let cashier = gateway.page(read["cashier_url"].as_str().unwrap()).await;
    let path = read["receipt_url"]
        .as_str()
        .unwrap()
        .strip_prefix(PUBLIC)
        .unwrap();
    cashier.says(&[&format!("id=\"receipt\" href=\"{path}\">查看缴费凭证")]);
    gateway.stop().await;
}

#[actix_web::test]
async fn anybody_can_check_a_receipt_and_only_a_real_one_agrees() {
    let gateway = Gateway::start().await;
    let order = gateway.paid("A-1").await;
    let other = gateway.paid("A-2").await;
    let unpaid = gateway.order("A-3").await;
    let url = gateway.receipt(order).await.element("verify").to_owned();
    let page = gateway.page(&url).await;
    assert_eq!(page.status, 200);
    page.says(&[
        "与凭证一致",
        "学校1",
        "2021年4月自学考试报考费",
        "¥140.00",
        "2026-11-20 18:00:00",
        "测*",
        "已缴费",
    ])
    .is_silent_about(&["6501*", "测试考生", "42000000", "普通逻辑", "查无此凭证"]);

    let view = gateway.deps.view();
    let (number, code) = (order.ulid(), view.check_code(order));
    let altered = |at: usize| {
        let mut signs: Vec<char> = code.chars().collect();
        signs[at] = if signs[at] == '7' { '8' } else { '7' };
        signs.into_iter().collect::<String>()
    };
    let mut wrong: Vec<String> = (0..code.len())
        .map(|at| format!("{number}/{}", altered(at)))
        .collect();
    wrong.extend([
        format!("{}/{code}", other.ulid()),
        format!("{number}/{}", view.check_code(other)),
        format!("{}/{}", unpaid.ulid(), view.check_code(unpaid)),
        format!("{number}/{}", &code[..11]),
        format!("{order}/{code}"),
        format!("{number}/{}", view.receipt_token(order)),
        "x/%3Cscript%3E".to_owned(),
    ]);
    for wrong in wrong {
        let page = gateway.page(&format!("/verify/{wrong}")).await;
        assert_eq!(page.status, 404, "{wrong}");
        page.says(&["查无此凭证"])
            .is_silent_about(&["¥140.00", "测*", "学校1", "<script>"]);
    }

    // By the form: the number and the code as people type them.
    gateway
        .page("/verify")
        .await
        .says(&["凭证核验", "name=\"number\"", "name=\"code\""]);
    let typed = format!("{}+{}", &code[..6].to_lowercase(), &code[6..]);
    let found = gateway
        .page(&format!(
            "/verify?number=+{}&code={typed}",
            number.to_string().to_lowercase()
        ))
        .await;
    assert_eq!(found.status, 200);
    found.says(&["与凭证一致"]);
    let nothing = gateway.page("/verify?number=1&code=%22%3E%3Cb%3E").await;
    assert_eq!(nothing.status, 404);
    nothing
        .says(&["查无此凭证", "value=\"1\""])
        .is_silent_about(&["<b>\"", "\"><b>"]);
    gateway.stop().await;
}

#[actix_web::test]
async fn what_went_back_stands_on_the_receipt_and_on_its_check() {
    let gateway = Gateway::start().await;
    let order = gateway.paid("A-1").await;
    gateway.given_back(order, "R-1", 3_500).await;
    for part in [
        gateway.receipt(order).await,
        gateway.page(&gateway.deps.view().verify_url(order)).await,
    ] {
        part.says(&[
            "部分退款",
            "35.00",
            "2026-11-20 18:00",
            "退款后实缴",
            "¥105.00",
            "¥140.00",
        ]);
    }
    gateway.clock.advance_ms(60_000);
    gateway.given_back(order, "R-2", 10_500).await;
    for back in [
        gateway.receipt(order).await,
        gateway.page(&gateway.deps.view().verify_url(order)).await,
    ] {
        back.says(&["data-mark=\"back\"", "2026-11-20 18:01", "¥0.00"]);
    }
    gateway.stop().await;
}

#[actix_web::test]
async fn a_receipt_outlives_the_erasure_of_its_people() {
    let gateway = Gateway::start().await;
    let order = gateway.paid("A-1").await;
    gateway
        .receipt(order)
        .await
        .says(&["测*", "6501**********0011"]);
    // The slot goes first; what an actor remembers of the masks may go on for a while.
    let erased = Transaction {
        order: None,
        writes: vec![Write::Personal {
            order,
            slot: PERSONAL_SLOT.to_owned(),
            sealed: enrollpay::sealing::Sealed(Vec::new()),
        }],
    };
    gateway.deps.store.commit(vec![erased]).await.unwrap()[0]
        .clone()
        .unwrap();
    let left = gateway.receipt(order).await;
    left.says(&["缴费凭证", "¥140.00", "壹佰肆拾元整"])
        .is_silent_about(&["测*", "6501**", "考生</dt>"]);
    let checked = gateway.page(&gateway.deps.view().verify_url(order)).await;
    checked
        .says(&["与凭证一致", "¥140.00"])
        .is_silent_about(&["测*"]);
    gateway.stop().await;
}

#[actix_web::test]
async fn a_fiscal_receipt_is_attached_told_and_shown() {
    let gateway = Gateway::start().await;
    let order = gateway.paid("A-1").await;
    let before = gateway.get(&format!("/v1/orders/{order}")).await.body;
    assert_eq!(before["fiscal_receipt"], Value::Null);
    gateway.receipt(order).await.says(&["开具后在本页显示"]);
    gateway.clock.advance_ms(120_000);

    let issued = gateway.issue(order, &fiscal(1)).await;
    assert_eq!(issued.status, 200, "{}", issued.body);
    let expected = json!({
        "number": "65010126-1",
        "url": "https://czpj.example.gov.cn/1?a=1&b=2",
        "issued_at": "2026-11-20T18:02:00+08:00",
    });
    assert_eq!(issued.body["fiscal_receipt"], expected);
    assert_eq!(issued.body["status"], "paid");
    // The same again, later: nothing new.
    gateway.clock.advance_ms(60_000);
    let again = gateway.issue(order, &fiscal(1)).await;
    assert_eq!((again.status, &again.body), (200, &issued.body));

    // Another, with a time of its own.
    let mut second = fiscal(2);
    second["issued_at"] = "2026-11-20T10:01:00Z".into();
    let replaced = gateway.issue(order, &second).await;
    assert_eq!(
        replaced.body["fiscal_receipt"]["issued_at"],
        "2026-11-20T18:01:00+08:00"
    );
    assert_eq!(
        replaced.body["version"],
        json!(issued.body["version"].as_u64().unwrap() + 1)
    );

    let told = gateway.get("/v1/events?types=receipt.issued").await.body;
    let told = told["data"].as_array().unwrap();
    assert_eq!(told.len(), 2);
    assert_eq!(told[0]["data"]["order"], issued.body);
    assert_eq!(
        told[1]["data"]["order"]["fiscal_receipt"],
        replaced.body["fiscal_receipt"]
    );
    let timeline = gateway
        .get(&format!("/v1/orders/{order}/timeline"))
        .await
        .body;
    let last = timeline["data"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["type"], &last["actor"]),
        (&json!("receipt_issued"), &json!("merchant"))
    );
    assert_eq!(last["details"]["number"], "65010126-2");

    let link = "href=\"https://czpj.example.gov.cn/2?a=1&#38;b=2\" rel=\"noopener noreferrer\"";
    gateway
        .receipt(order)
        .await
        .says(&["65010126-2", link, "2026-11-20 18:01"]);
    let cashier = gateway.page(before["cashier_url"].as_str().unwrap()).await;
    cashier.says(&["65010126-2", link]);
    gateway.stop().await;
}

#[actix_web::test]
async fn a_fiscal_receipt_wants_a_paid_order_of_ones_own_and_an_https_address() {
    let gateway = Gateway::start().await;
    let unpaid = gateway.order("A-1").await;
    gateway
        .issue(unpaid, &fiscal(1))
        .await
        .is_problem(409, "not_paid");
    let order = gateway.paid("A-2").await;
    let path = format!("/v1/orders/{order}/fiscal_receipt");
    let stranger = gateway
        .call_as(&gateway.other, "POST", &path, &fiscal(1), &[])
        .await;
    stranger.is_problem(404, "not_found");
    for (name, value) in [
        ("number", json!(null)),
        ("number", json!("票据1号")),
        ("number", json!("1".repeat(65))),
        ("url", json!(null)),
        ("url", json!("javascript:alert(1)")),
        ("url", json!("http://czpj.example.gov.cn/1")),
        ("url", json!("https://user:secret@czpj.example.gov.cn/1")),
        (
            "url",
            json!(format!("https://czpj.example.gov.cn/{}", "1".repeat(2_048))),
        ),
        ("issued_at", json!("2026-11-20 18:00")),
        ("issued_at", json!(1_795_168_800)),
        ("issued_at", json!("2026-11-20T18:10:00+08:00")),
        ("colour", json!("red")),
    ] {
        let mut body = fiscal(1);
        body[name] = value;
        let refused = gateway.issue(order, &body).await;
        refused.is_problem(400, "validation_failed");
        assert_eq!(refused.pointers(), [format!("/{name}")], "{}", refused.body);
    }
    gateway
        .issue(order, &json!([]))
        .await
        .is_problem(400, "validation_failed");
    let read = gateway.get(&format!("/v1/orders/{order}")).await.body;
    assert_eq!(read["fiscal_receipt"], Value::Null);

    // One key, one receipt: a repeat has the first answer.
    let first = gateway.post_once("f-1", &path, &fiscal(1)).await;
    assert_eq!(first.status, 200, "{}", first.body);
    gateway.issue(order, &fiscal(2)).await;
    assert_eq!(
        gateway.post_once("f-1", &path, &fiscal(1)).await.body,
        first.body
    );
    gateway
        .post_once("f-1", &path, &fiscal(3))
        .await
        .is_problem(422, "idempotency_key_reused");
    gateway.stop().await;
}
