//! The gateway as a school's programmer sees it: the signed requests of the merchant API
//! (contract §4), written from its description alone.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Client, Method};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::StartError;
use crate::clock::Clock;
use crate::random::Random;

/// What the school keeps of an order: enough for its own page.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
pub struct Order {
    pub id: String,
    pub merchant_order_no: String,
    pub status: String,
    pub version: u64,
    pub amount: i64,
    #[serde(default)]
    pub amount_paid: i64,
    pub cashier_url: Option<String>,
    pub paid_at: Option<String>,
    pub payment: Option<Payment>,
    pub receipt_url: Option<String>,
    #[serde(default)]
    pub surplus: Vec<Surplus>,
    /// The bills that a student ticked for it.
    #[serde(default)]
    pub bills: Vec<Bill>,
}

/// A bill as an order names it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
pub struct Bill {
    pub merchant_bill_no: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
pub struct Payment {
    pub wallet: String,
    pub transaction_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
pub struct Surplus {
    pub amount: i64,
    pub status: String,
}

/// Why the gateway gave no order; said to the person at the page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    #[error("无法连接缴费平台，请稍后再试 (the payment gateway cannot be reached)")]
    Unreachable,
    /// The gateway's own words: they are made to be shown.
    #[error("{title} ({code}, HTTP {status}): {detail}")]
    Refused {
        status: u16,
        code: String,
        title: String,
        detail: String,
    },
    #[error("缴费平台的答复无法识别 (HTTP {status}, the answer is not the one described)")]
    Unreadable { status: u16 },
}

#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    detail: String,
}

/// The merchant API, signed with this school's key.
pub struct Gateway {
    base: Url,
    key_id: String,
    secret: SecretString,
    client: Client,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Gateway {
    pub fn new(
        base: &str,
        key_id: String,
        secret: SecretString,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, StartError> {
        let base = Url::parse(base).map_err(|_| StartError::GatewayUrl)?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(StartError::GatewayUrl);
        }
        let client = Client::builder()
            .timeout(Duration::from_secs(10))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self {
            base,
            key_id,
            secret,
            client,
            clock,
            random,
        })
    }

    /// Safe to repeat: the same number with the same content answers with the order as it is.
    pub async fn create(&self, order: &Value) -> Result<Order, Trouble> {
        let answer = self
            .call(Method::POST, "/v1/orders", order.to_string())
            .await?;
        order_in(answer)
    }

    /// Has the gateway ask the wallets now.
    pub async fn query(&self, id: &str) -> Result<Order, Trouble> {
        let path = format!("/v1/orders/{id}/query");
        let answer = self.call(Method::POST, &path, String::new()).await?;
        match order_in(answer) {
            Ok(order) => Ok(order),
            Err(_) => self.read(id).await,
        }
    }

    /// Ends what is unpaid. What the answer says of the order's status is the truth.
    pub async fn cancel(&self, id: &str) -> Result<Order, Trouble> {
        let path = format!("/v1/orders/{id}/cancel");
        order_in(self.call(Method::POST, &path, String::new()).await?)
    }

    /// Uploads what is owed. Safe to repeat, as an order is.
    pub async fn upload(&self, bills: &Value) -> Result<(), Trouble> {
        self.call(Method::POST, "/v1/bills", bills.to_string())
            .await
            .map(drop)
    }

    /// The address of one student's own list of bills.
    pub async fn payer_link(&self, payer: &Value) -> Result<String, Trouble> {
        let (status, answer) = self
            .call(Method::POST, "/v1/payer_links", payer.to_string())
            .await?;
        answer["url"]
            .as_str()
            .map(str::to_owned)
            .ok_or(Trouble::Unreadable { status })
    }

    pub async fn read(&self, id: &str) -> Result<Order, Trouble> {
        let path = format!("/v1/orders/{id}");
        order_in(self.call(Method::GET, &path, String::new()).await?)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<(u16, Value), Trouble> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        let authorization = self.authorization(&method, &url, &body);
        let mut request = self
            .client
            .request(method, url)
            .header("authorization", authorization);
        if !body.is_empty() {
            request = request
                .header("content-type", "application/json")
                .body(body);
        }
        let answer = request.send().await.map_err(|_| Trouble::Unreachable)?;
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.map_err(|_| Trouble::Unreachable)?;
        if (200..300).contains(&status) {
            return serde_json::from_slice(&bytes)
                .map(|value| (status, value))
                .map_err(|_| Trouble::Unreadable { status });
        }
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => Err(Trouble::Refused {
                status,
                code: problem.code,
                title: problem.title,
                detail: problem.detail,
            }),
            Err(_) => Err(Trouble::Unreadable { status }),
        }
    }

    /// `METHOD \n PATH?QUERY \n TIMESTAMP \n NONCE \n BODY \n` under HMAC-SHA256.
    fn authorization(&self, method: &Method, url: &Url, body: &str) -> String {
        let timestamp = self.clock.now().as_seconds();
        let nonce = self.random.hex::<16>();
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let text = format!("{method}\n{target}\n{timestamp}\n{nonce}\n{body}\n");
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.secret.expose_secret().as_bytes());
        let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
        format!(
            "ENROLLPAY-HMAC-SHA256 key_id=\"{}\",timestamp=\"{timestamp}\",nonce=\"{nonce}\",signature=\"{signature}\"",
            self.key_id
        )
    }
}

/// The order itself, or an answer that holds one.
fn order_in((status, mut value): (u16, Value)) -> Result<Order, Trouble> {
    if let Some(inner) = value.get_mut("order") {
        value = inner.take();
    }
    serde_json::from_value(value).map_err(|_| Trouble::Unreadable { status })
}
