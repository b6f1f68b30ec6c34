//! The simulators, addressed as a stranger would: raw HTTP, signed and verified by this file's own
//! code with the published test keys. Nothing of the connectors or of the simulator's code is used
//! to check it.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: a panic is the test's failure"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use enrollpay::clock::{Clock, ManualClock};
use enrollpay::order::Timestamp;
use enrollpay::random::SystemRandom;
use enrollpay::simulator::{
    self, AlipayOptions, Fault, Options, Rule, Simulator, Wallet, WechatOptions,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

mod alipay;
mod bills;
mod bills_alipay;
mod bills_wechat;
mod control;
mod faults;
mod pages;
mod planted;
mod refunds;
mod refunds_alipay;
mod wechat;

fn vectors(name: &str) -> Value {
    let path = format!("{}/tests/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn der(pem: &str) -> Vec<u8> {
    let bare: String = pem
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    STANDARD.decode(bare).unwrap()
}

fn sign(private_pem: &str, message: &str) -> String {
    let key = RsaKeyPair::from_pkcs8(&der(private_pem)).unwrap();
    let mut signature = vec![0; key.public_modulus_len()];
    let random = aws_lc_rs::rand::SystemRandom::new();
    key.sign(
        &RSA_PKCS1_SHA256,
        &random,
        message.as_bytes(),
        &mut signature,
    )
    .unwrap();
    STANDARD.encode(signature)
}

fn verifies(public_pem: &str, message: &str, signature: &str) -> bool {
    let Ok(signature) = STANDARD.decode(signature) else {
        return false;
    };
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, der(public_pem))
        .verify(message.as_bytes(), &signature)
        .is_ok()
}

/// A request as it arrived at the merchant.
#[derive(Clone, Debug)]
struct Arrived {
    head: BTreeMap<String, String>,
    body: String,
}

/// The merchant's end: takes notices and answers them as told.
struct Merchant {
    address: String,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    answers: Arc<Mutex<Vec<&'static str>>>,
}

const ACK_204: &str = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
const ACK_ALIPAY: &str = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nsuccess";
const FAIL_500: &str =
    "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

impl Merchant {
    /// `answers` are used up in order; the last one is kept.
    async fn open(answers: &[&'static str]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let merchant = Self {
            address: format!("http://{}", listener.local_addr().unwrap()),
            arrived: Arc::default(),
            answers: Arc::new(Mutex::new(answers.to_vec())),
        };
        let (arrived, answers) = (merchant.arrived.clone(), merchant.answers.clone());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (arrived, answers) = (arrived.clone(), answers.clone());
                tokio::spawn(async move {
                    let mut bytes = Vec::new();
                    let request = loop {
                        let mut part = [0; 4096];
                        let read = stream.read(&mut part).await.unwrap();
                        bytes.extend_from_slice(&part[..read]);
                        if let Some(request) = whole(&bytes) {
                            break request;
                        }
                        assert!(read > 0, "a notice was cut off");
                    };
                    let answer = {
                        let mut answers = answers.lock().unwrap();
                        if answers.len() > 1 {
                            answers.remove(0)
                        } else {
                            answers[0]
                        }
                    };
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    arrived.lock().unwrap().push(request);
                });
            }
        });
        merchant
    }

    fn arrived(&self) -> Vec<Arrived> {
        self.arrived.lock().unwrap().clone()
    }

    async fn wait_for(&self, count: usize) -> Vec<Arrived> {
        until(|| {
            let arrived = self.arrived();
            (arrived.len() >= count).then_some(arrived)
        })
        .await
    }
}

fn whole(bytes: &[u8]) -> Option<Arrived> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let head: BTreeMap<String, String> = String::from_utf8_lossy(&bytes[..end])
        .lines()
        .skip(1)
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length: usize = head.get("content-length")?.parse().ok()?;
    let body = &bytes[end + 4..];
    (body.len() >= length).then(|| Arrived {
        head,
        body: String::from_utf8_lossy(body).into_owned(),
    })
}

/// Waits until something is there, ten seconds at most.
async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..1000 {
        if let Some(found) = look() {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited ten seconds in vain");
}

/// The simulators with the vector keys, a clock that stands at the vectors' hour, and a client.
struct World {
    simulator: Simulator,
    clock: ManualClock,
    client: reqwest::Client,
    wechat: Value,
    alipay: Value,
}

/// 2026-01-01T08:00:00+08:00, the hour of the vectors.
const HOUR: i64 = 1_767_225_600;

fn options() -> Options {
    let wechat = vectors("wechat-v3-simulator-keys");
    let alipay = vectors("alipay-derived")["keys"].clone();
    let (merchant, platform) = (&wechat["merchant"], &wechat["wechat_pay"]);
    let mut options = Options::new(
        "127.0.0.1:0".parse().unwrap(),
        WechatOptions::new(
            text(&merchant["mchid"]),
            text(&merchant["appid"]),
            "0123456789abcdef0123456789abcdef".to_owned(),
            text(&merchant["api_v3_key"]).to_owned(),
            text(&merchant["certificate_pem"]),
            text(&merchant["certificate_serial_no"]),
            text(&platform["private_key_pem"]).to_owned(),
            text(&platform["public_key_id"]),
            Some(text(&platform["platform_certificate_pem"]).to_owned()),
        ),
        AlipayOptions::new(
            text(&alipay["app_id"]),
            text(&alipay["seller_id"]),
            text(&alipay["app_public_key_pem"]),
            text(&alipay["alipay_private_key_pem"]).to_owned(),
        ),
    );
    options.notify_delay_ms = 0;
    options.refund_delay_ms = 0;
    options.retry_divisor = 1000;
    options.wallet_browsers = false;
    options
}

impl World {
    fn open() -> Self {
        Self::with(options())
    }

    fn with(options: Options) -> Self {
        let clock = ManualClock::at(Timestamp::from_seconds(HOUR));
        let simulator =
            simulator::start(options, Arc::new(clock.clone()), Arc::new(SystemRandom)).unwrap();
        Self {
            simulator,
            clock,
            client: reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .build()
                .unwrap(),
            wechat: vectors("wechat-v3-simulator-keys"),
            alipay: vectors("alipay-derived")["keys"].clone(),
        }
    }

    fn at(&self, path: &str) -> String {
        format!("{}{path}", self.simulator.origin())
    }

    /// `WECHATPAY2-SHA256-RSA2048 …`
    fn authorization(&self, method: &str, path: &str, body: &str, seconds: i64) -> String {
        let merchant = &self.wechat["merchant"];
        let nonce = "0123456789ABCDEF0123456789ABCDEF";
        let message = format!("{method}\n{path}\n{seconds}\n{nonce}\n{body}\n");
        format!(
            "WECHATPAY2-SHA256-RSA2048 mchid=\"{}\",nonce_str=\"{nonce}\",timestamp=\"{seconds}\",serial_no=\"{}\",signature=\"{}\"",
            text(&merchant["mchid"]),
            text(&merchant["certificate_serial_no"]),
            sign(text(&merchant["private_key_pem"]), &message),
        )
    }

    fn wechat_request(&self, method: &str, path: &str, body: &str) -> reqwest::RequestBuilder {
        let seconds = self.clock.now().as_seconds();
        self.client
            .request(method.parse().unwrap(), self.at(path))
            .header("accept", "application/json")
            .header("content-type", "application/json")
            .header("user-agent", "test")
            .header(
                "wechatpay-serial",
                text(&self.wechat["wechat_pay"]["public_key_id"]),
            )
            .header(
                "authorization",
                self.authorization(method, path, body, seconds),
            )
            .body(body.to_owned())
    }

    /// A signed call; the answer's status and body, its signature verified where there must be one.
    async fn wechat(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = self
            .wechat_request(method, path, &body)
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        let headers = answer.headers().clone();
        let body = answer.text().await.unwrap();
        if (200..300).contains(&status) {
            assert!(
                self.wechat_signed(&headers, &body),
                "an unsigned 2xx: {body}"
            );
        } else {
            assert!(
                headers.get("wechatpay-signature").is_none(),
                "a signed error"
            );
        }
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    fn wechat_signed(&self, headers: &reqwest::header::HeaderMap, body: &str) -> bool {
        let get = |name: &str| {
            headers
                .get(name)
                .map_or("", |value| value.to_str().unwrap())
        };
        let platform = &self.wechat["wechat_pay"];
        let message = format!(
            "{}\n{}\n{body}\n",
            get("wechatpay-timestamp"),
            get("wechatpay-nonce")
        );
        // One key pair stands behind both serials of the vectors.
        let known = [
            &platform["public_key_id"],
            &platform["platform_certificate_serial_no"],
        ];
        known
            .iter()
            .any(|serial| text(serial) == get("wechatpay-serial"))
            && verifies(
                text(&platform["public_key_pem"]),
                &message,
                get("wechatpay-signature"),
            )
    }

    fn native_order(&self, number: &str, notify: &str) -> Value {
        json!({
            "appid": self.wechat["merchant"]["appid"],
            "mchid": self.wechat["merchant"]["mchid"],
            "description": "报名费-2026春季",
            "out_trade_no": number,
            "time_expire": "2026-01-01T08:03:00+08:00",
            "notify_url": format!("{notify}/callbacks/wechatpay/school"),
            "amount": { "total": 12850, "currency": "CNY" },
        })
    }

    async fn make_native(&self, number: &str, notify: &str) -> String {
        let order = self.native_order(number, notify);
        let (status, body) = self
            .wechat("POST", "/v3/pay/transactions/native", &order)
            .await;
        assert_eq!(status, 200, "{body}");
        text(&body["code_url"]).to_owned()
    }

    async fn wechat_state(&self, number: &str) -> Value {
        let mchid = text(&self.wechat["merchant"]["mchid"]);
        let path = format!("/v3/pay/transactions/out-trade-no/{number}?mchid={mchid}");
        self.wechat("GET", &path, &Value::Null).await.1
    }

    async fn close_wechat(&self, number: &str) -> (u16, Value) {
        let path = format!("/v3/pay/transactions/out-trade-no/{number}/close");
        let body = json!({ "mchid": self.wechat["merchant"]["mchid"] });
        self.wechat("POST", &path, &body).await
    }

    /// The plaintext of a notice whose signature verifies; `None` where it does not.
    fn open_wechat_notice(&self, arrived: &Arrived) -> Option<Value> {
        let get = |name: &str| arrived.head.get(name).map_or("", String::as_str);
        let platform = &self.wechat["wechat_pay"];
        let message = format!(
            "{}\n{}\n{}\n",
            get("wechatpay-timestamp"),
            get("wechatpay-nonce"),
            arrived.body
        );
        let signed = get("wechatpay-serial") == text(&platform["public_key_id"])
            && verifies(
                text(&platform["public_key_pem"]),
                &message,
                get("wechatpay-signature"),
            );
        if !signed {
            return None;
        }
        let notice: Value = serde_json::from_str(&arrived.body).unwrap();
        let resource = &notice["resource"];
        assert_eq!(resource["algorithm"], "AEAD_AES_256_GCM");
        let key = text(&self.wechat["merchant"]["api_v3_key"]).as_bytes();
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap());
        let mut sealed = STANDARD.decode(text(&resource["ciphertext"])).unwrap();
        let opened = key
            .open_in_place(
                Nonce::try_assume_unique_for_key(text(&resource["nonce"]).as_bytes()).unwrap(),
                Aad::from(text(&resource["associated_data"]).as_bytes()),
                &mut sealed,
            )
            .unwrap();
        Some(serde_json::from_slice(opened).unwrap())
    }

    /// A signed call to Alipay's gateway: the raw answer.
    async fn alipay_raw(&self, method: &str, biz: &Value, more: &[(&str, &str)]) -> String {
        let parameters = self.alipay_parameters(method, biz, more);
        let answer = self
            .client
            .post(self.at("/gateway.do?charset=utf-8"))
            .form(&parameters)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let kind = answer.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(kind.starts_with("text/html"), "{kind}");
        answer.text().await.unwrap()
    }

    fn alipay_parameters(
        &self,
        method: &str,
        biz: &Value,
        more: &[(&str, &str)],
    ) -> BTreeMap<String, String> {
        let mut parameters: BTreeMap<String, String> = [
            ("app_id", text(&self.alipay["app_id"])),
            ("method", method),
            ("format", "JSON"),
            ("charset", "utf-8"),
            ("sign_type", "RSA2"),
            ("timestamp", "2026-01-01 08:00:00"),
            ("version", "1.0"),
        ]
        .iter()
        .chain(more)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
        if !biz.is_null() {
            parameters.insert("biz_content".to_owned(), biz.to_string());
        }
        let message = joined(&parameters);
        let signature = sign(text(&self.alipay["app_private_key_pem"]), &message);
        parameters.insert("sign".to_owned(), signature);
        parameters
    }

    /// A signed call whose answer verifies: the object inside.
    async fn alipay(&self, method: &str, biz: &Value, more: &[(&str, &str)]) -> Value {
        let raw = self.alipay_raw(method, biz, more).await;
        let (object, good) = self.open_alipay(&raw);
        assert!(good, "not signed: {raw}");
        object
    }

    /// The object and whether its raw text is signed.
    fn open_alipay(&self, raw: &str) -> (Value, bool) {
        let whole: Value = serde_json::from_str(raw).unwrap();
        let (_, object) = whole.as_object().unwrap().iter().next().unwrap();
        let start = raw.find("\":").unwrap() + 2;
        let good = raw.rfind(",\"sign\":").is_some_and(|end| {
            verifies(
                text(&self.alipay["alipay_public_key_pem"]),
                &raw[start..end],
                whole["sign"].as_str().unwrap_or_default(),
            )
        });
        (object.clone(), good)
    }

    /// The parameters of a notice whose signature verifies.
    fn open_alipay_notice(&self, arrived: &Arrived) -> Option<BTreeMap<String, String>> {
        let mut parameters: BTreeMap<String, String> =
            url::form_urlencoded::parse(arrived.body.as_bytes())
                .into_owned()
                .collect();
        let signature = parameters.remove("sign")?;
        let message = {
            let mut without = parameters.clone();
            without.remove("sign_type");
            joined(&without)
        };
        verifies(
            text(&self.alipay["alipay_public_key_pem"]),
            &message,
            &signature,
        )
        .then_some(parameters)
    }

    async fn control(&self, path: &str, body: &Value) -> (u16, Value) {
        let answer = self
            .client
            .post(self.at(path))
            .json(body)
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    async fn fault(&self, rule: &Value) {
        let (status, body) = self.control("/control/faults", rule).await;
        assert_eq!(status, 200, "{body}");
    }

    fn notices(&self, wallet: Wallet, number: &str) -> Vec<(bool, usize)> {
        self.simulator
            .handle()
            .trade(wallet, number)
            .unwrap()
            .notices
            .iter()
            .map(|notice| (notice.acked, notice.tries.len()))
            .collect()
    }
}

fn joined(parameters: &BTreeMap<String, String>) -> String {
    parameters
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{name}={value}"))
        .collect::<Vec<_>>()
        .join("&")
}
