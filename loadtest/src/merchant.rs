//! The enrolment system's side: signed requests to the merchant API, spoken like a stranger would.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// One merchant's key, and where the gateway is.
#[derive(Clone, Debug)]
pub struct Merchant {
    client: reqwest::Client,
    url: Arc<str>,
    key_id: Arc<str>,
    key: Arc<hmac::Key>,
    nonce: Arc<AtomicU64>,
    run: Arc<str>,
}

impl Merchant {
    pub fn new(client: reqwest::Client, url: &str, key_id: &str, secret: &str, run: &str) -> Self {
        Self {
            client,
            url: url.trim_end_matches('/').into(),
            key_id: key_id.into(),
            key: Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())),
            nonce: Arc::new(AtomicU64::new(0)),
            run: run.into(),
        }
    }

    /// Creates order number `index` of this run.
    pub async fn create(&self, index: u64) -> Result<Value, String> {
        let order = json!({
            "merchant_order_no": format!("{}-{index}", self.run),
            "subject": "2021年4月自学考试报考费",
            "items": [
                { "code": "00024", "name": "普通逻辑", "note": "2021年04月01日 上午", "amount": 3500 },
                { "code": "00018", "name": "计算机应用基础", "note": "2021年04月10日 下午", "amount": 3500 },
                { "code": "00031", "name": "心理学", "note": "2021年04月11日 上午", "amount": 3500 },
                { "code": "00144", "name": "企业管理概论", "note": "2021年04月11日 下午", "amount": 3500 },
            ],
            "amount": 14000, "currency": "CNY",
            "payer": { "ref": format!("s{index}"), "name": "测试考生" },
        });
        self.post("/v1/orders", &order).await
    }

    pub async fn start_attempt(&self, order: &str) -> Result<Value, String> {
        self.post(&format!("/v1/orders/{order}/attempts"), &json!({}))
            .await
    }

    pub async fn read(&self, order: &str) -> Result<Value, String> {
        self.send(
            reqwest::Method::GET,
            &format!("/v1/orders/{order}"),
            Vec::new(),
        )
        .await
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        self.send(reqwest::Method::POST, path, body.to_string().into_bytes())
            .await
    }

    async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Value, String> {
        let timestamp = crate::unix_seconds();
        let nonce = format!(
            "{}-{:016}",
            self.run,
            self.nonce.fetch_add(1, Ordering::Relaxed)
        );
        let mut context = hmac::Context::with_key(&self.key);
        context.update(format!("{method}\n{path}\n{timestamp}\n{nonce}\n").as_bytes());
        context.update(&body);
        context.update(b"\n");
        let signature = STANDARD.encode(context.sign());
        let answer = self
            .client
            .request(method, format!("{}{path}", self.url))
            .header(
                "authorization",
                format!(
                    "ENROLLPAY-HMAC-SHA256 key_id=\"{}\",timestamp=\"{timestamp}\",nonce=\"{nonce}\",signature=\"{signature}\"",
                    self.key_id
                ),
            )
            .header("content-type", "application/json")
            .body(body)
            .send()
            .await
            .map_err(|error| crate::kind_of(&error))?;
        let status = answer.status();
        let body: Value = answer
            .json()
            .await
            .map_err(|error| crate::kind_of(&error))?;
        if status.is_success() {
            Ok(body)
        } else {
            Err(format!(
                "{status} {}",
                body["code"].as_str().unwrap_or_default()
            ))
        }
    }
}
