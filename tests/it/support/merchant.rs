//! An enrolment system as a stranger would write it from the contract's text (§4): it signs its
//! requests itself, and repeats one that got no answer under the same key.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};

use super::eventually;
use super::process::Gateway;
use super::receiver::Receiver;

#[derive(Clone, Debug)]
pub struct Merchant {
    pub key_id: String,
    pub secret: String,
    pub origin: String,
    client: reqwest::Client,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub body: Vec<u8>,
}

impl Answer {
    pub async fn of(response: reqwest::Response) -> Result<Self, reqwest::Error> {
        Ok(Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            body: response.bytes().await?.to_vec(),
        })
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Asserts the status and gives the body.
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(
            self.status,
            status,
            "{}",
            String::from_utf8_lossy(&self.body)
        );
        self.json()
    }
}

impl Merchant {
    /// Registers one beside the running node, with a webhook address.
    pub fn register(gateway: &Gateway, receiver: &Receiver) -> Self {
        let made = gateway.operate(&[
            "merchant",
            "create",
            "--name",
            "测试考区",
            "--webhook-url",
            &receiver.url(),
            "--account",
            "wechat=demo-wechat",
            "--account",
            "alipay=demo-alipay",
        ]);
        receiver.believe(made["webhook_secret"].as_str().unwrap());
        Self::of(&made, &gateway.origin)
    }

    /// One that is registered: by what `merchant create` printed.
    pub fn of(made: &Value, origin: &str) -> Self {
        let member = |name: &str| made[name].as_str().unwrap().to_owned();
        Self {
            key_id: member("key_id"),
            secret: member("secret"),
            origin: origin.to_owned(),
            client: super::client(),
        }
    }

    /// The same, calling elsewhere.
    pub fn at(self, origin: &str) -> Self {
        let origin = origin.to_owned();
        Self { origin, ..self }
    }

    pub fn nonce() -> String {
        format!("{:032x}", rand::random::<u128>())
    }

    /// The `Authorization` header of one request.
    pub fn sign(&self, method: &Method, target: &str, nonce: &str, body: &str) -> String {
        let timestamp = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let text = format!("{method}\n{target}\n{timestamp}\n{nonce}\n{body}\n");
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_bytes());
        let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
        format!(
            "ENROLLPAY-HMAC-SHA256 key_id=\"{}\",timestamp=\"{timestamp}\",nonce=\"{nonce}\",signature=\"{signature}\"",
            self.key_id
        )
    }

    /// One request, once. `Err`: no answer.
    pub async fn try_call(
        &self,
        method: Method,
        target: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Result<Answer, reqwest::Error> {
        let text = body.map(Value::to_string).unwrap_or_default();
        let signed = self.sign(&method, target, &Self::nonce(), &text);
        let mut request = self
            .client
            .request(method, format!("{}{target}", self.origin))
            .header("authorization", signed);
        if body.is_some() {
            request = request
                .header("content-type", "application/json")
                .body(text);
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        Answer::of(request.send().await?).await
    }

    pub async fn get(&self, target: &str) -> Answer {
        self.try_call(Method::GET, target, None, None)
            .await
            .unwrap()
    }

    pub async fn post(&self, target: &str, body: &Value) -> Answer {
        self.try_call(Method::POST, target, Some(body), None)
            .await
            .unwrap()
    }

    /// As a careful client does: the same request under the same key, until there is an answer that
    /// is one.
    pub async fn insist(&self, target: &str, body: &Value, key: &str) -> Answer {
        let what = format!("an answer to POST {target}");
        eventually(&what, Duration::from_mins(1), async || {
            let answer = self
                .try_call(Method::POST, target, Some(body), Some(key))
                .await
                .ok()?;
            let busy = answer.status >= 500
                || answer.status == 429
                || (answer.status == 409 && answer.json()["code"] == "request_in_progress");
            (!busy).then_some(answer)
        })
        .await
    }

    /// A new order over ¥140.00 with a number of its own.
    pub async fn create(&self) -> Value {
        self.create_with(json!({})).await
    }

    pub async fn create_with(&self, more: Value) -> Value {
        self.post("/v1/orders", &new_order(&more)).await.expect(201)
    }

    /// Asks for a refund, until there is an answer. `number`: its own among those of its order.
    pub async fn refund(&self, id: &str, number: &str, amount: i64) -> Value {
        let path = format!("/v1/orders/{id}/refunds");
        let number = format!("{number}-{id}");
        let body = json!({ "merchant_refund_no": number, "amount": amount });
        let answer = self.insist(&path, &body, &format!("refund-{number}")).await;
        assert!([200, 201].contains(&answer.status), "{}", answer.json());
        answer.json()
    }

    /// Waits until the refund says so.
    pub async fn until_refund(&self, id: &str, refund: &str, status: &str) -> Value {
        let path = format!("/v1/orders/{id}/refunds/{refund}");
        let what = format!("{refund}: {status}");
        eventually(&what, Duration::from_mins(1), async || {
            let answer = self.try_call(Method::GET, &path, None, None).await.ok()?;
            (answer.status == 200)
                .then(|| answer.json())
                .filter(|refund| refund["status"] == status)
        })
        .await
    }

    pub async fn order(&self, id: &str) -> Value {
        self.get(&format!("/v1/orders/{id}")).await.expect(200)
    }

    /// Starts a code.
    pub async fn start(&self, id: &str) -> Value {
        self.post(&format!("/v1/orders/{id}/attempts"), &json!({}))
            .await
            .expect(201)
    }

    /// Waits until the order says so.
    pub async fn until(&self, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let what = format!("{id}: {what}");
        eventually(&what, Duration::from_mins(1), async || {
            let answer = self
                .try_call(Method::GET, &format!("/v1/orders/{id}"), None, None)
                .await
                .ok()?;
            (answer.status == 200)
                .then(|| answer.json())
                .filter(|order| holds(order))
        })
        .await
    }

    pub async fn until_status(&self, id: &str, status: &str) -> Value {
        self.until(id, status, |order| order["status"] == status)
            .await
    }

    pub async fn until_attempt(&self, id: &str, status: &str) -> Value {
        let what = format!("the last attempt {status}");
        self.until(id, &what, |order| order["attempt"]["status"] == status)
            .await
    }
}

/// The body of `POST /v1/orders`.
pub fn new_order(more: &Value) -> Value {
    let mut order = json!({
        "merchant_order_no": format!("ZK-{:016x}", rand::random::<u64>()),
        "subject": "2021年4月自学考试报考费",
        "items": [
            { "code": "00024", "name": "普通逻辑", "amount": 3500 },
            { "code": "04729", "name": "大学语文", "amount": 10500 },
        ],
        "amount": 14000,
        "currency": "CNY",
        "payer": { "ref": format!("{:012}", rand::random::<u32>()), "name": "测试考生" },
    });
    for (name, value) in more.as_object().unwrap() {
        order[name] = value.clone();
    }
    order
}
