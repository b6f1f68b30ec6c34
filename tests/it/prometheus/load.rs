//! A small load of every kind: a school's requests, true and false ones, phones that scan and pay,
//! notices true, repeated and forged, webhooks that arrive and that cannot. It keeps everything that
//! must stay private.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{AUTHORIZATION, COOKIE, SET_COOKIE, USER_AGENT};
use reqwest::{Method, Response};
use serde_json::{Value, json};
use url::Url;

use super::processes::{Gateway, client, eventually, free_port};

/// Whom nobody else in these tests is called.
const NAME: &str = "欧阳金丝雀";
const ID_NUMBER: &str = "650102199902309983";
const PHONE: &str = "13900998877";
const REF: &str = "canary-650102-8899";
const EMAIL: &str = "canary.8899@example.cn";
const FIELD: &str = "金丝雀第九考区";
const NOTE: &str = "金丝雀不要外传";
const HINT: &str = "金丝雀备注";
/// A card number that everybody tests with: whoever writes one into a subject meant something else.
const CARD: &str = "4111111111111111";

struct Merchant {
    key_id: String,
    secret: String,
}

impl Merchant {
    fn of(made: &Value) -> Self {
        let member = |name: &str| made[name].as_str().unwrap().to_owned();
        Self {
            key_id: member("key_id"),
            secret: member("secret"),
        }
    }
}

pub struct Load<'a> {
    gateway: &'a Gateway,
    client: reqwest::Client,
    /// The demo school: its server acknowledges webhooks.
    school: Merchant,
    /// Nothing listens at its webhook address.
    unreachable: Merchant,
    /// Has no webhook address.
    addressless: Merchant,
    /// What may stand in no metric and no log: what it is, and the text.
    pub private: Vec<(String, String)>,
    /// Live pages, open as long as this.
    pages: Vec<Response>,
}

/// A person's browser within a wallet.
struct Phone {
    agent: &'static str,
    user: String,
    cookies: BTreeMap<String, String>,
    /// What the last page gave to send back.
    hidden: BTreeMap<String, String>,
    code: Url,
}

impl<'a> Load<'a> {
    pub fn new(gateway: &'a Gateway) -> Self {
        let accounts = ["wechat=demo-wechat", "alipay=demo-alipay"];
        let create = |more: &[&str]| {
            let mut arguments = vec!["merchant", "create", "--name", "测试考区"];
            arguments.extend(accounts.iter().flat_map(|account| ["--account", account]));
            arguments.extend(more);
            gateway.operate(&arguments)
        };
        let nowhere = format!("http://127.0.0.1:{}/webhooks", free_port());
        let (unreachable, addressless) = (create(&["--webhook-url", &nowhere]), create(&[]));
        let school = gateway.made("demo-merchant.json");
        let mut private: Vec<(String, String)> = [
            ("a name", NAME),
            ("an id number", ID_NUMBER),
            ("a phone", PHONE),
            ("a payer's reference", REF),
            ("an e-mail address", EMAIL),
            ("a display field", FIELD),
            ("metadata", NOTE),
            ("an item", HINT),
            ("a card's number", CARD),
        ]
        .map(|(what, text)| (what.to_owned(), text.to_owned()))
        .into();
        for made in [&school, &unreachable, &addressless] {
            for secret in ["secret", "webhook_secret"] {
                let text = made[secret].as_str().unwrap().to_owned();
                private.push((format!("a merchant's {secret}"), text));
            }
        }
        collect_secrets("", &gateway.made("demo-keys.json"), &mut private);
        Self {
            gateway,
            client: client(),
            school: Merchant::of(&school),
            unreachable: Merchant::of(&unreachable),
            addressless: Merchant::of(&addressless),
            private,
            pages: Vec::new(),
        }
    }

    fn keep(&mut self, what: &str, text: &str) {
        assert!(text.len() >= 8, "{what} is too short to look for: {text}");
        self.private.push((what.to_owned(), text.to_owned()));
    }

    /// Everything once. Gives the trade number of a payment.
    pub async fn round(&mut self) -> String {
        // Both wallets pay.
        let mut paid = String::new();
        for wallet in ["alipay", "wechat"] {
            let order = self.create(&self.school).await;
            let (trade, mut phone) = self.scan(&order, wallet).await;
            self.cashier(&order).await;
            self.press(&mut phone, "pay").await;
            self.pay(&trade).await;
            self.until_paid(&order).await;
            // Asked for once more, and told once more.
            let id = order["id"].as_str().unwrap();
            self.merchant_ok(Method::POST, &format!("/v1/orders/{id}/query"), "{}")
                .await;
            self.lever("redeliver", &json!({ "out_trade_no": trade }))
                .await;
            self.lever(
                "forge",
                &json!({ "out_trade_no": trade, "fault": "forged" }),
            )
            .await;
            paid = trade;
        }
        // Somebody else holds their phone before a code that was claimed; then a new code, too often.
        let order = self.create(&self.school).await;
        let (_, phone) = self.scan(&order, "wechat").await;
        let second = self.open(phone.code.clone(), "wechat").await;
        let (status, answer) = self.claim(second).await;
        assert_eq!(
            (status, &answer.1["code"]),
            (410, &json!("already_scanned"))
        );
        let order = self.create(&self.school).await;
        let target = format!("/v1/orders/{}/attempts", order["id"].as_str().unwrap());
        let mut limited = false;
        for _ in 0..6 {
            let answer = self.merchant(Method::POST, &target, "{}").await;
            limited |= answer.status() == 429;
        }
        assert!(limited, "no limit on attempts");
        self.strangers(paid.as_str()).await;
        // A notice, truly signed, of another amount: a person must look.
        let order = self.create(&self.school).await;
        let (other, mut phone) = self.scan(&order, "alipay").await;
        self.press(&mut phone, "pay").await;
        let told = json!({ "out_trade_no": other, "fault": "wrong_amount" });
        assert_eq!(self.lever("forge", &told).await["acked"], true);
        // Events that reach nobody.
        for merchant in [&self.unreachable, &self.addressless] {
            let order = self.create(merchant).await;
            let target = format!("/v1/orders/{}/cancel", order["id"].as_str().unwrap());
            let answer = self.signed(merchant, Method::POST, &target, "{}").await;
            assert!(answer.status().is_success(), "{}", answer.status());
        }
        // A day whose bill is surely made, and on which nothing happened.
        let day = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(72);
        let day = day.strftime("%Y-%m-%d").to_string();
        for account in ["demo-wechat", "demo-alipay"] {
            let run = self
                .gateway
                .operate(&["reconcile", "--account", account, "--date", &day]);
            assert_eq!(run["state"], "finished", "{run}");
        }
        paid
    }

    /// What is refused: a signature, a nonce used twice, a number used twice, an address that is none,
    /// notices to an account that is none.
    async fn strangers(&self, trade: &str) {
        let forger = Merchant {
            key_id: self.school.key_id.clone(),
            secret: "not the secret".to_owned(),
        };
        let answer = self.signed(&forger, Method::GET, "/v1/orders", "").await;
        assert_eq!(answer.status(), 401);
        let body = new_order();
        let nonce = nonce();
        for expected in [201, 401] {
            let answer = self
                .send(&self.school, Method::POST, "/v1/orders", &body, &nonce)
                .await;
            assert_eq!(answer.status(), expected, "one nonce for two requests");
        }
        let other_terms = body
            .replace("14000", "3500")
            .replace(",{\"code\":\"04729\"", "");
        let answer = self
            .merchant(Method::POST, "/v1/orders", &other_terms)
            .await;
        assert!(answer.status().is_client_error(), "{}", answer.status());
        // What is refused is not quoted.
        let bad = [
            body.replace(PHONE, NAME),
            body.replace("\"CNY\"", &format!("\"{ID_NUMBER}\"")),
            body.replace("receipt_email", REF),
            body.replace(EMAIL, NOTE),
            format!("{body}{NAME}"),
        ];
        for bad in bad {
            let answer = self.merchant(Method::POST, "/v1/orders", &bad).await;
            assert_eq!(answer.status(), 400);
            let said = answer.text().await.unwrap();
            for text in [NAME, ID_NUMBER, PHONE, EMAIL, FIELD, NOTE] {
                assert!(!said.contains(text), "a refusal quotes {text}: {said}");
            }
        }
        for path in [
            "nowhere".to_owned(),
            format!("s/{trade}"),
            format!("pay/{trade}"),
        ] {
            let url = format!("{}/{path}", self.gateway.origin);
            assert_eq!(self.client.get(url).send().await.unwrap().status(), 404);
        }
        let url = format!("{}/callbacks/alipay/nobody", self.gateway.origin);
        let answer = self.client.post(url).body("a=b").send().await.unwrap();
        assert_eq!(answer.status(), 404);
    }

    /// Notices signed with another key, more of them in a minute than may pass in silence.
    pub async fn forge(&self, trade: &str) {
        for _ in 0..40 {
            let forged = self
                .lever(
                    "forge",
                    &json!({ "out_trade_no": trade, "fault": "forged" }),
                )
                .await;
            assert_eq!(forged, json!({ "status": 401, "acked": false }));
        }
    }

    // -- the school

    async fn send(
        &self,
        merchant: &Merchant,
        method: Method,
        target: &str,
        body: &str,
        nonce: &str,
    ) -> Response {
        let timestamp = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let text = format!("{method}\n{target}\n{timestamp}\n{nonce}\n{body}\n");
        let key = hmac::Key::new(hmac::HMAC_SHA256, merchant.secret.as_bytes());
        let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
        let authorization = format!(
            "ENROLLPAY-HMAC-SHA256 key_id=\"{}\",timestamp=\"{timestamp}\",nonce=\"{nonce}\",signature=\"{signature}\"",
            merchant.key_id
        );
        let mut request = self
            .client
            .request(method, format!("{}{target}", self.gateway.origin))
            .header(AUTHORIZATION, authorization);
        if !body.is_empty() {
            request = request
                .header("content-type", "application/json")
                .body(body.to_owned());
        }
        request.send().await.unwrap()
    }

    async fn signed(
        &self,
        merchant: &Merchant,
        method: Method,
        target: &str,
        body: &str,
    ) -> Response {
        self.send(merchant, method, target, body, &nonce()).await
    }

    async fn merchant(&self, method: Method, target: &str, body: &str) -> Response {
        self.signed(&self.school, method, target, body).await
    }

    async fn merchant_ok(&self, method: Method, target: &str, body: &str) -> Value {
        let answer = self.merchant(method, target, body).await;
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "{target}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn create(&self, merchant: &Merchant) -> Value {
        let answer = self
            .signed(merchant, Method::POST, "/v1/orders", &new_order())
            .await;
        let status = answer.status();
        let order: Value = answer.json().await.unwrap();
        assert_eq!(status, 201, "{order}");
        order
    }

    async fn until_paid(&self, order: &Value) {
        let target = format!("/v1/orders/{}", order["id"].as_str().unwrap());
        eventually("a paid order", Duration::from_secs(20), async || {
            let order = self.merchant_ok(Method::GET, &target, "").await;
            match order["status"].as_str() {
                Some("paid") => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    // -- the student

    /// The page on the computer, its live stream, and a press of 查询缴费结果.
    async fn cashier(&mut self, order: &Value) {
        let page: Url = order["cashier_url"].as_str().unwrap().parse().unwrap();
        let token = page.path_segments().unwrap().next_back().unwrap();
        self.keep("a page's token", token);
        let answer = self.client.get(page.clone()).send().await.unwrap();
        let cookies = cookies_of(&answer);
        let html = answer.text().await.unwrap();
        let csrf = hidden_inputs(&html)["csrf"].clone();
        let stream = self.client.get(format!("{page}/events")).send().await;
        let stream = stream.unwrap();
        assert_eq!(stream.status(), 200);
        self.pages.push(stream);
        let pressed = self
            .client
            .post(format!("{page}/query"))
            .header(COOKIE, written(&cookies))
            .header("accept", "application/json")
            .form(&[("csrf", &csrf)])
            .send()
            .await
            .unwrap();
        let status = pressed.status();
        assert_eq!(status, 200, "{}", pressed.text().await.unwrap());
        self.keep("a form's token", &csrf);
        for cookie in cookies.values() {
            self.keep("a cookie", cookie);
        }
    }

    /// A new code of an order, claimed by somebody: the number of its trade, and their phone.
    async fn scan(&mut self, order: &Value, wallet: &'static str) -> (String, Phone) {
        let id = order["id"].as_str().unwrap();
        let target = format!("/v1/orders/{id}/attempts");
        let attempt = self.merchant_ok(Method::POST, &target, "{}").await;
        let code: Url = attempt["qr_content"].as_str().unwrap().parse().unwrap();
        let token = code.path_segments().unwrap().next_back().unwrap();
        self.keep("a code's token", token);
        let phone = self.open(code.clone(), wallet).await;
        let (status, (phone, answer)) = self.claim(phone).await;
        assert_eq!(
            (status, &answer["state"]),
            (200, &json!("claimed")),
            "{answer}"
        );
        let bridgeless = format!("{code}?bridge=timeout");
        let told = self
            .client
            .get(bridgeless)
            .header(USER_AGENT, phone.agent)
            .header("accept", "application/json")
            .send()
            .await
            .unwrap();
        assert_eq!(told.status(), 200);
        // The order's ULID and the attempt's number in two digits of base 32.
        let number = attempt["number"].as_u64().unwrap();
        assert!(number < 10);
        (
            format!("{}0{number}", id.strip_prefix("ord_").unwrap()),
            phone,
        )
    }

    /// Opens a code in a wallet, by way of its OAuth page.
    async fn open(&mut self, code: Url, wallet: &'static str) -> Phone {
        let mut phone = Phone {
            agent: match wallet {
                "wechat" => "Mozilla/5.0 (Linux; Android 14) Mobile MicroMessenger/8.0.56",
                _ => "Mozilla/5.0 (Linux; Android 14) Mobile AlipayClient/10.6.58",
            },
            user: format!("s{:016x}", rand::random::<u64>()),
            cookies: BTreeMap::new(),
            hidden: BTreeMap::new(),
            code: code.clone(),
        };
        let met = json!({ "wallet": wallet, "user": phone.user });
        let met = self.lever("users", &met).await;
        self.keep("a payer's id", met["payer"].as_str().unwrap());
        let mut url = code;
        loop {
            let answer = self.visit(&mut phone, self.client.get(url.clone())).await;
            let Some(location) = answer.headers().get("location") else {
                phone.hidden = hidden_inputs(&answer.text().await.unwrap());
                break;
            };
            url = url.join(location.to_str().unwrap()).unwrap();
        }
        for name in ["code", "state", "csrf"] {
            let value = phone.hidden[name].clone();
            self.keep(name, &value);
        }
        phone
    }

    async fn visit(&self, phone: &mut Phone, request: reqwest::RequestBuilder) -> Response {
        let answer = request
            .header(USER_AGENT, phone.agent)
            .header("x-simulator-user", &phone.user)
            .header(COOKIE, written(&phone.cookies))
            .send()
            .await
            .unwrap();
        phone.cookies.append(&mut cookies_of(&answer));
        answer
    }

    async fn post(&self, phone: &mut Phone, what: &str) -> (u16, Value) {
        let mut url = phone.code.clone();
        url.set_path(&format!("{}/{what}", url.path()));
        let request = self
            .client
            .post(url)
            .header("accept", "application/json")
            .form(&phone.hidden);
        let answer = self.visit(phone, request).await;
        (answer.status().as_u16(), answer.json().await.unwrap())
    }

    async fn claim(&mut self, mut phone: Phone) -> (u16, (Phone, Value)) {
        let (status, answer) = self.post(&mut phone, "claim").await;
        for (member, field) in [("proof", "k"), ("csrf", "csrf")] {
            if let Some(value) = answer[member].as_str() {
                self.keep(member, value);
                phone.hidden.insert(field.to_owned(), value.to_owned());
            }
        }
        (status, (phone, answer))
    }

    async fn press(&self, phone: &mut Phone, what: &str) {
        let (status, answer) = self.post(phone, what).await;
        assert_eq!(status, 200, "{what}: {answer}");
    }

    // -- the providers

    async fn lever(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}/control/{path}", self.gateway.simulators);
        let answer = self.client.post(url).json(body).send().await.unwrap();
        let status = answer.status();
        let answer = answer.json().await.unwrap();
        assert!(status.is_success(), "{path} {body}: {status} {answer}");
        answer
    }

    async fn pay(&self, trade: &str) {
        self.lever("pay", &json!({ "out_trade_no": trade })).await;
    }
}

fn nonce() -> String {
    format!("{:032x}", rand::random::<u128>())
}

fn new_order() -> String {
    json!({
        "merchant_order_no": format!("ZK-{:016x}", rand::random::<u64>()),
        "subject": format!("2021年4月自学考试报考费 {CARD}"),
        "items": [
            { "code": "00024", "name": HINT, "amount": 3500 },
            { "code": "04729", "name": "大学语文", "amount": 10500 },
        ],
        "amount": 14000,
        "currency": "CNY",
        "payer": { "ref": REF, "name": NAME, "id_number": ID_NUMBER, "phone": PHONE },
        "receipt_email": EMAIL,
        "display_fields": [{ "label": "考区", "value": FIELD }],
        "metadata": { "note": NOTE },
    })
    .to_string()
}

/// The keys that the demo made: those of PEM by the first full line of their content.
fn collect_secrets(name: &str, value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                collect_secrets(name, value, found);
            }
        }
        Value::String(text) if name.contains("private_key") => {
            let line = text.lines().find(|line| !line.starts_with("-----"));
            found.push((name.to_owned(), line.unwrap().to_owned()));
        }
        Value::String(text) if name.ends_with("_key") || name.ends_with("secret") => {
            found.push((name.to_owned(), text.clone()));
        }
        _ => {}
    }
}

fn cookies_of(answer: &Response) -> BTreeMap<String, String> {
    let cookies = answer.headers().get_all(SET_COOKIE).iter();
    cookies
        .map(|cookie| {
            let pair = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            (name.to_owned(), value.to_owned())
        })
        .collect()
}

fn written(cookies: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = cookies
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    pairs.join("; ")
}

/// `<input type="hidden" name="…" value="…">`
fn hidden_inputs(page: &str) -> BTreeMap<String, String> {
    let attribute = |tag: &str, name: &str| {
        let (_, rest) = tag.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0.replace("&amp;", "&"))
    };
    page.split("<input ")
        .skip(1)
        .filter_map(|rest| rest.split_once('>').map(|(tag, _)| tag))
        .filter(|tag| tag.contains("type=\"hidden\""))
        .filter_map(|tag| Some((attribute(tag, "name")?, attribute(tag, "value")?)))
        .collect()
}
