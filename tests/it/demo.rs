//! The demo enrolment system against a gateway made here from the contract's text (§4): it must
//! sign as a stranger would, and believe only genuine notices.
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its own set-up fails"
)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use enrollpay::clock::{Clock, ManualClock};
use enrollpay::demo::{self, Demo, Options};
use enrollpay::order::Timestamp;
use enrollpay::random::SystemRandom;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp::from_seconds(1_795_168_800);
const SECRET: &str = "sk_do-not-log";
const WEBHOOK_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const CASHIER: &str = "http://127.0.0.1:1/pay/token";

/// A gateway that checks every signature and says what it is told to.
#[derive(Default)]
struct Book {
    requests: Vec<(String, Vec<u8>, String)>,
    status: Option<&'static str>,
    version: u64,
}

struct FakeGateway {
    address: SocketAddr,
    book: Arc<Mutex<Book>>,
}

impl FakeGateway {
    fn start() -> Self {
        let book = Arc::new(Mutex::new(Book {
            version: 1,
            ..Book::default()
        }));
        let data = web::Data::from(book.clone());
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .default_service(web::to(gateway))
        })
        .workers(1)
        .disable_signals()
        .bind("127.0.0.1:0")
        .unwrap();
        let address = server.addrs()[0];
        tokio::spawn(server.run());
        Self { address, book }
    }

    fn requests(&self) -> Vec<(String, Vec<u8>, String)> {
        self.book.lock().unwrap().requests.clone()
    }

    fn becomes(&self, status: &'static str, version: u64) {
        let mut book = self.book.lock().unwrap();
        book.status = Some(status);
        book.version = version;
    }
}

async fn gateway(
    request: HttpRequest,
    body: web::Bytes,
    book: web::Data<Mutex<Book>>,
) -> HttpResponse {
    let header = request.headers().get("authorization").unwrap();
    let header = header.to_str().unwrap().to_owned();
    let line = format!("{} {}", request.method(), request.uri());
    let Some(nonce) = checked(
        &header,
        request.method().as_str(),
        &request.uri().to_string(),
        &body,
    ) else {
        return HttpResponse::Unauthorized()
            .content_type("application/problem+json")
            .json(
                json!({ "code": "signature_invalid", "title": "Bad signature",
                          "detail": "check the key" }),
            );
    };
    let mut book = book.lock().unwrap();
    book.requests.push((line, body.to_vec(), nonce));
    let created: Value = book
        .requests
        .iter()
        .find_map(|(_, body, _)| serde_json::from_slice(body).ok())
        .unwrap();
    let number = created["merchant_order_no"].as_str().unwrap();
    HttpResponse::Ok().json(order(number, book.status.unwrap_or("unpaid"), book.version))
}

/// Contract §4, Signing: gives the nonce of a genuine request.
fn checked(header: &str, method: &str, target: &str, body: &[u8]) -> Option<String> {
    let fields = header.strip_prefix("ENROLLPAY-HMAC-SHA256 ")?;
    let field = |name: &str| {
        fields.split(',').find_map(|field| {
            let value = field.strip_prefix(name)?.strip_prefix("=\"")?;
            value.strip_suffix('"')
        })
    };
    let (timestamp, nonce) = (field("timestamp")?, field("nonce")?);
    if field("key_id")? != "key_1" || timestamp != "1795168800" {
        return None;
    }
    let mut text = format!("{method}\n{target}\n{timestamp}\n{nonce}\n").into_bytes();
    text.extend_from_slice(body);
    text.push(b'\n');
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag = STANDARD.decode(field("signature")?).ok()?;
    hmac::verify(&key, &text, &tag).ok()?;
    Some(nonce.to_owned())
}

fn order(number: &str, status: &str, version: u64) -> Value {
    let paid = status == "paid";
    json!({
        "id": "ord_1", "object": "order", "merchant_order_no": number, "status": status,
        "amount": 14000, "amount_paid": if paid { 14000 } else { 0 }, "currency": "CNY",
        "cashier_url": CASHIER, "version": version, "surplus": [], "receipt_url": null,
        "paid_at": paid.then_some("2026-11-20T18:00:05+08:00"),
        "payment": paid.then(|| json!({ "wallet": "alipay", "transaction_id": "T-4711" })),
        "a_field_of_the_future": {},
    })
}

struct World {
    gateway: FakeGateway,
    demo: Demo,
    browser: Client,
    clock: ManualClock,
    number: String,
}

async fn start(secret: &str, gateway: FakeGateway, state_file: Option<PathBuf>) -> World {
    let clock = ManualClock::at(NOW);
    let options = Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        gateway_url: format!("http://{}", gateway.address),
        key_id: "key_1".into(),
        secret: secret.into(),
        webhook_secret: WEBHOOK_SECRET.into(),
        state_file,
    };
    let demo = demo::start(options, Arc::new(clock.clone()), Arc::new(SystemRandom))
        .await
        .unwrap();
    let browser = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .unwrap();
    let mut world = World {
        gateway,
        demo,
        browser,
        clock,
        number: String::new(),
    };
    let first = world.get("/").await;
    world.number = number_in(&location(&first));
    world
}

fn location(answer: &Response) -> String {
    let location = answer.headers().get("location").unwrap();
    location.to_str().unwrap().to_owned()
}

fn number_in(path: &str) -> String {
    path.strip_prefix("/registrations/").unwrap().to_owned()
}

impl World {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.demo.address())
    }

    async fn get(&self, path: &str) -> Response {
        self.browser.get(self.url(path)).send().await.unwrap()
    }

    async fn press(&self, button: &str) -> Response {
        let path = format!("/registrations/{}/{button}", self.number);
        self.browser.post(self.url(&path)).send().await.unwrap()
    }

    async fn page(&self) -> String {
        let path = format!("/registrations/{}", self.number);
        self.get(&path).await.text().await.unwrap()
    }

    async fn status(&self) -> Value {
        let path = format!("/registrations/{}/status", self.number);
        self.get(&path).await.json().await.unwrap()
    }

    fn notice(&self, id: &str, status: &str, version: u64) -> Notice {
        let order = order(&self.number, status, version);
        let body = json!({ "id": id, "type": "order.paid", "created_at": "2026-11-20T18:00:05+08:00",
                           "data": { "order": order } });
        Notice {
            id: Some(id.to_owned()),
            seconds: self.clock.now().as_seconds(),
            secret: WEBHOOK_SECRET,
            signed: body.to_string(),
            sent: None,
        }
    }

    async fn deliver(&self, notice: Notice) -> StatusCode {
        let signer = standardwebhooks::Webhook::new(notice.secret).unwrap();
        let id = notice.id.clone().unwrap_or_default();
        let signature = signer
            .sign(&id, notice.seconds, notice.signed.as_bytes())
            .unwrap();
        let mut request = self
            .browser
            .post(self.url("/webhook"))
            .header("webhook-timestamp", notice.seconds)
            .header("webhook-signature", format!("v1,AAAA v1a,xx {signature}"))
            .body(notice.sent.unwrap_or(notice.signed));
        if let Some(id) = notice.id {
            request = request.header("webhook-id", id);
        }
        request.send().await.unwrap().status()
    }
}

struct Notice {
    id: Option<String>,
    seconds: i64,
    secret: &'static str,
    signed: String,
    /// What is sent instead of what was signed.
    sent: Option<String>,
}

#[tokio::test]
async fn pressing_pay_asks_for_a_signed_order_and_leads_to_the_cashier() {
    let world = start(SECRET, FakeGateway::start(), None).await;
    let page = world.page().await;
    for text in [
        "网上缴费",
        "个人信息",
        "测试考生",
        "6*****",
        "1*****",
        "工商企业管理",
        "乌鲁木齐",
        "个人缴费",
        "00024",
        "普通逻辑",
        "2021年04月01日 上午",
        "00018",
        "计算机应用基础",
        "00031",
        "心理学",
        "00144",
        "企业管理概论",
        "费用信息",
        ">140</b> 元",
        "未缴费",
        "点击缴费",
        "新的报考",
    ] {
        assert!(page.contains(text), "{text}");
    }
    assert!(!page.contains("更新缴费结果</button>"));

    let answer = world.press("pay").await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    assert_eq!(location(&answer), CASHIER);
    let again = world.press("pay").await;
    assert_eq!(location(&again), CASHIER);

    let requests = world.gateway.requests();
    let (line, body, nonce) = &requests[0];
    assert_eq!(line, "POST /v1/orders");
    assert_eq!(&requests[1].1, body, "a repeat asks for the same");
    assert_ne!(&requests[1].2, nonce, "under a fresh nonce");
    let body: Value = serde_json::from_slice(body).unwrap();
    assert_eq!(body["merchant_order_no"], world.number);
    assert_eq!(body["amount"], 14000);
    let items = body["items"].as_array().unwrap();
    let sum: i64 = items
        .iter()
        .map(|item| item["amount"].as_i64().unwrap())
        .sum();
    assert_eq!((items.len(), sum), (4, 14000));
    assert_eq!(body["pay_before"], "2026-11-27T18:00:00+08:00");
    let back = format!(
        "http://{}/registrations/{}",
        world.demo.address(),
        world.number
    );
    assert_eq!(body["return_url"], back);
    assert!(world.page().await.contains("更新缴费结果"));
    world.demo.stop().await;
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_the_page_says_so() {
    let world = start("sk_other", FakeGateway::start(), None).await;
    let answer = world.press("pay").await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    let page = answer.text().await.unwrap();
    assert!(page.contains("Bad signature (signature_invalid, HTTP 401): check the key"));
    assert!(world.gateway.requests().is_empty());
    world.demo.stop().await;
}

#[tokio::test]
async fn a_gateway_that_is_down_leaves_the_page_standing() {
    // A port that was free a moment ago.
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let gateway = FakeGateway {
        address,
        book: Arc::default(),
    };
    let world = start(SECRET, gateway, None).await;
    let answer = world.press("pay").await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert!(answer.text().await.unwrap().contains("无法连接缴费平台"));
    assert!(world.page().await.contains("点击缴费"));
    world.demo.stop().await;
}

#[tokio::test]
async fn a_genuine_notice_turns_the_page_to_paid_once_and_for_good() {
    let world = start(SECRET, FakeGateway::start(), None).await;
    world.press("pay").await;
    assert_eq!(
        world.status().await,
        json!({ "status": "unpaid", "version": 1 })
    );

    let paid = || world.notice("evt_1", "paid", 5);
    assert_eq!(world.deliver(paid()).await, StatusCode::NO_CONTENT);
    assert_eq!(
        world.status().await,
        json!({ "status": "paid", "version": 5 })
    );
    let page = world.page().await;
    for text in ["已缴费", "T-4711", "支付宝", "2026-11-20 18:00:05"] {
        assert!(page.contains(text), "{text}");
    }
    assert!(!page.contains("点击缴费"));

    // Again, then something older that was held up on its way.
    assert_eq!(world.deliver(paid()).await, StatusCode::NO_CONTENT);
    let older = world.notice("evt_0", "closed", 4);
    assert_eq!(world.deliver(older).await, StatusCode::NO_CONTENT);
    assert_eq!(
        world.status().await,
        json!({ "status": "paid", "version": 5 })
    );

    let events = world.get("/events").await.text().await.unwrap();
    assert_eq!(events.matches("<small>evt_1</small>").count(), 1);
    assert!(events.contains("收到 2 次"));
    assert!(events.contains("已知，忽略"));
    assert!(!events.contains("签名不符"));
    world.demo.stop().await;
}

#[tokio::test]
async fn what_is_not_genuine_or_not_fresh_changes_nothing() {
    let world = start(SECRET, FakeGateway::start(), None).await;
    world.press("pay").await;
    let genuine = || world.notice("evt_1", "paid", 5);
    let body = genuine().signed;
    let table = [
        (
            "another secret",
            Notice {
                secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
                ..genuine()
            },
            StatusCode::UNAUTHORIZED,
        ),
        (
            "another body",
            Notice {
                sent: Some(body.replace("14000", "14001")),
                ..genuine()
            },
            StatusCode::UNAUTHORIZED,
        ),
        (
            "no id",
            Notice {
                id: None,
                ..genuine()
            },
            StatusCode::UNAUTHORIZED,
        ),
        (
            "too old",
            Notice {
                seconds: NOW.as_seconds() - 301,
                ..genuine()
            },
            StatusCode::UNAUTHORIZED,
        ),
        (
            "from the future",
            Notice {
                seconds: NOW.as_seconds() + 301,
                ..genuine()
            },
            StatusCode::UNAUTHORIZED,
        ),
        (
            "an id that the body does not have",
            Notice {
                id: Some("evt_2".into()),
                ..genuine()
            },
            StatusCode::BAD_REQUEST,
        ),
        (
            "signed nonsense",
            Notice {
                signed: "{}".into(),
                ..genuine()
            },
            StatusCode::BAD_REQUEST,
        ),
    ];
    for (what, notice, expected) in table {
        assert_eq!(world.deliver(notice).await, expected, "{what}");
        assert_eq!(world.status().await["status"], "unpaid", "{what}");
    }
    let events = world.get("/events").await.text().await.unwrap();
    for text in [
        "签名不符",
        "缺少签名头",
        "时间超出五分钟",
        "内容无法识别",
        "暂无通知",
    ] {
        assert!(events.contains(text), "{text}");
    }
    // At the edge of the window it is still believed.
    let edge = Notice {
        seconds: NOW.as_seconds() - 300,
        ..genuine()
    };
    assert_eq!(world.deliver(edge).await, StatusCode::NO_CONTENT);
    assert_eq!(world.status().await["status"], "paid");
    world.demo.stop().await;
}

#[tokio::test]
async fn checking_again_asks_the_gateway_and_shows_what_it_says() {
    let world = start(SECRET, FakeGateway::start(), None).await;
    world.press("pay").await;
    let answer = world.press("refresh").await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let page = world.get(&location(&answer)).await.text().await.unwrap();
    assert!(page.contains("暂未查到付款记录（18:00:00 查询）"));

    world.gateway.becomes("paid", 6);
    let answer = world.press("refresh").await;
    let page = world.get(&location(&answer)).await.text().await.unwrap();
    assert!(page.contains("已查到缴费记录"));
    assert!(page.contains("已缴费"));
    let lines: Vec<String> = world
        .gateway
        .requests()
        .into_iter()
        .map(|one| one.0)
        .collect();
    assert_eq!(
        lines[1..],
        ["POST /v1/orders/ord_1/query", "POST /v1/orders/ord_1/query"]
    );
    world.demo.stop().await;
}

#[tokio::test]
async fn a_restart_forgets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("demo.json");
    let world = start(SECRET, FakeGateway::start(), Some(file.clone())).await;
    world.press("pay").await;
    world.deliver(world.notice("evt_1", "paid", 5)).await;
    let number = world.number.clone();
    world.demo.stop().await;

    let world = start(SECRET, FakeGateway::start(), Some(file.clone())).await;
    assert_eq!(world.number, number);
    assert_eq!(
        world.status().await,
        json!({ "status": "paid", "version": 5 })
    );
    world.deliver(world.notice("evt_1", "paid", 5)).await;
    let events = world.get("/events").await.text().await.unwrap();
    assert!(events.contains("收到 2 次"), "the id is remembered");
    world.demo.stop().await;

    std::fs::write(&file, "{").unwrap();
    let options = Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        gateway_url: "http://127.0.0.1:1".into(),
        key_id: "key_1".into(),
        secret: SECRET.into(),
        webhook_secret: WEBHOOK_SECRET.into(),
        state_file: Some(file),
    };
    let clock = Arc::new(ManualClock::at(NOW));
    let refused = demo::start(options, clock, Arc::new(SystemRandom)).await;
    assert!(matches!(refused, Err(demo::StartError::StateFile { .. })));
}

#[tokio::test]
async fn a_new_registration_has_its_own_number_and_other_sites_press_no_buttons() {
    let world = start(SECRET, FakeGateway::start(), None).await;
    let register = || world.browser.post(world.url("/registrations"));
    let answer = register().send().await.unwrap();
    let second = number_in(&location(&answer));
    assert_ne!(second, world.number);
    let page = world.get(&location(&answer)).await.text().await.unwrap();
    assert!(
        page.contains(&world.number),
        "the earlier one stays in reach"
    );
    assert_eq!(
        location(&world.get("/").await),
        format!("/registrations/{second}")
    );

    let answer = register()
        .header("sec-fetch-site", "cross-site")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let answer = world.get("/registrations/nobody").await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    let policy = answer.headers().get("content-security-policy").unwrap();
    assert!(policy.to_str().unwrap().starts_with("default-src 'none'"));
    world.demo.stop().await;
}
