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
use enrollpay::demo::{self, Credentials, Demo, Options, School};
use enrollpay::order::Timestamp;
use enrollpay::random::SystemRandom;
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp::from_seconds(1_795_168_800);
const SECRET: &str = "sk_do-not-log";
const WEBHOOK_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const CASHIER: &str = "http://127.0.0.1:1/pay/token";
const BILLS: &str = "http://127.0.0.1:1/bills/token";

/// A gateway that checks every signature and says what it is told to.
#[derive(Default)]
struct Book {
    requests: Vec<(String, Vec<u8>, String)>,
    status: Option<&'static str>,
    version: u64,
    refuses: Option<&'static str>,
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
    book.requests.push((line.clone(), body.to_vec(), nonce));
    match line.as_str() {
        "POST /v1/bills" => {
            let asked: Value = serde_json::from_slice(&body).unwrap();
            return HttpResponse::Created()
                .json(json!({ "object": "list", "data": asked["bills"] }));
        }
        "POST /v1/payer_links" => {
            return HttpResponse::Created()
                .json(json!({ "object": "payer_link", "url": BILLS, "expires_at": "2026-11-20T20:00:00+08:00" }));
        }
        _ => {}
    }
    if let Some(code) = book.refuses {
        return HttpResponse::UnprocessableEntity()
            .content_type("application/problem+json")
            .json(json!({ "code": code, "title": "Refused", "detail": "as told" }));
    }
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

fn credentials(secret: &str) -> Credentials {
    Credentials {
        key_id: "key_1".into(),
        secret: secret.into(),
        webhook_secret: WEBHOOK_SECRET.into(),
    }
}

async fn start(secret: &str, gateway: FakeGateway, folder: Option<PathBuf>) -> World {
    let clock = ManualClock::at(NOW);
    let options = Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        gateway_url: format!("http://{}", gateway.address),
        schools: School::ALL
            .into_iter()
            .map(|school| (school, credentials(secret)))
            .collect(),
        folder,
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
    let first = world.get("/selfstudy").await;
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
            to: School::SelfStudy.webhook(),
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
            .post(self.url(notice.to))
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
    to: &'static str,
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
    let kept = folder.path().to_owned();
    let world = start(SECRET, FakeGateway::start(), Some(kept.clone())).await;
    world.press("pay").await;
    world.deliver(world.notice("evt_1", "paid", 5)).await;
    let number = world.number.clone();
    world.demo.stop().await;

    let world = start(SECRET, FakeGateway::start(), Some(kept.clone())).await;
    assert_eq!(world.number, number);
    assert_eq!(
        world.status().await,
        json!({ "status": "paid", "version": 5 })
    );
    world.deliver(world.notice("evt_1", "paid", 5)).await;
    let events = world.get("/events").await.text().await.unwrap();
    assert!(events.contains("收到 2 次"), "the id is remembered");
    world.demo.stop().await;

    std::fs::write(kept.join("demo-school.json"), "{").unwrap();
    let options = Options {
        listen: "127.0.0.1:0".parse().unwrap(),
        gateway_url: "http://127.0.0.1:1".into(),
        schools: vec![(School::SelfStudy, credentials(SECRET))],
        folder: Some(kept),
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
        location(&world.get("/selfstudy").await),
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

#[tokio::test]
async fn the_first_page_has_a_door_to_each_open_school() {
    let world = start(SECRET, FakeGateway::start(), None).await;
    let page = world.get("/").await.text().await.unwrap();
    for door in ["/selfstudy", "/tuition", "/language"] {
        assert!(page.contains(&format!("href=\"{door}\"")), "{door}");
    }
    world.demo.stop().await;
}

#[tokio::test]
async fn an_unpaid_registration_is_changed_by_ending_its_order_first() {
    let world = start(SECRET, FakeGateway::start(), None).await;
    world.press("pay").await;
    // Money came in between: nothing is replaced, and the page says what is so.
    world.gateway.becomes("paid", 4);
    let answer = world.press("modify").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(world.status().await["status"], "paid");
    world.demo.stop().await;

    let world = start(SECRET, FakeGateway::start(), None).await;
    world.press("pay").await;
    world.gateway.becomes("closed", 4);
    let answer = world.press("modify").await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    assert_ne!(number_in(&location(&answer)), world.number);
    assert_eq!(world.status().await["status"], "closed");
    let lines = world.gateway.requests();
    assert_eq!(lines.last().unwrap().0, "POST /v1/orders/ord_1/cancel");
    world.demo.stop().await;
}

impl World {
    /// A form as a browser with this cookie sends it.
    async fn send(&self, path: &str, cookie: &str, form: &[(&str, &str)]) -> Response {
        let request = self.browser.post(self.url(path)).header("cookie", cookie);
        request.form(form).send().await.unwrap()
    }

    async fn log_in(&self) -> String {
        let form = [("account", "2024013307"), ("password", "03071234")];
        let answer = self.send("/tuition/finance/login", "", &form).await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        let cookie = answer.headers().get("set-cookie").unwrap();
        cookie
            .to_str()
            .unwrap()
            .split(';')
            .next()
            .unwrap()
            .to_owned()
    }
}

#[tokio::test]
async fn the_university_uploads_what_is_owed_and_leads_its_student_to_the_list() {
    let world = start(SECRET, FakeGateway::start(), None).await;
    // The manual's way: face, code, account, first password.
    let entry = world
        .send("/tuition/entry", "", &[])
        .await
        .text()
        .await
        .unwrap();
    for text in ["识别成功", "<svg", "2024013307", "03071234"] {
        assert!(entry.contains(text), "{text}");
    }
    let wrong = [("account", "2024013307"), ("password", "1")];
    let answer = world.send("/tuition/finance/login", "", &wrong).await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let stranger = world.send("/tuition/finance/bills", "", &[]).await;
    assert_eq!(location(&stranger), "/tuition/finance");
    assert!(world.gateway.requests().is_empty(), "nobody has logged in");

    let cookie = world.log_in().await;
    let answer = world.send("/tuition/finance/bills", &cookie, &[]).await;
    assert_eq!(location(&answer), BILLS);
    let again = world.send("/tuition/finance/bills", &cookie, &[]).await;
    assert_eq!(location(&again), BILLS);
    let requests = world.gateway.requests();
    let lines: Vec<&str> = requests.iter().map(|one| one.0.as_str()).collect();
    let link = "POST /v1/payer_links";
    assert_eq!(lines, ["POST /v1/bills", link, link], "uploaded once");
    let bills: Value = serde_json::from_slice(&requests[0].1).unwrap();
    for bill in bills["bills"].as_array().unwrap() {
        let lines = bill["items"].as_array().unwrap();
        let sum: i64 = lines
            .iter()
            .map(|line| line["amount"].as_i64().unwrap())
            .sum();
        assert_eq!(bill["amount"], sum);
        assert_eq!(bill["payer"]["ref"], "2024013307");
    }

    // A notice names the bills that its order holds.
    let bill = bills["bills"][1]["merchant_bill_no"].clone();
    let mut order = order("BILLS-1", "paid", 5);
    order["bills"] = json!([{ "id": "bil_1", "merchant_bill_no": bill }]);
    order["receipt_url"] = json!("http://127.0.0.1:1/receipts/r");
    let notice = Notice {
        to: School::Tuition.webhook(),
        signed: json!({ "id": "evt_1", "type": "order.paid", "data": { "order": order } })
            .to_string(),
        ..world.notice("evt_1", "paid", 5)
    };
    assert_eq!(world.deliver(notice).await, StatusCode::NO_CONTENT);
    let office = world.get("/tuition/office").await.text().await.unwrap();
    assert_eq!(office.matches("已缴费").count(), 1);
    assert_eq!(office.matches("未缴费").count(), 2);
    let mine = world
        .browser
        .get(world.url("/tuition/finance/mine"))
        .header("cookie", &cookie)
        .send()
        .await
        .unwrap();
    assert!(mine.text().await.unwrap().contains("/receipts/r"));
    world.demo.stop().await;
}

#[tokio::test]
async fn the_candidate_pays_for_nobody_else_and_uploads_no_picture() {
    let world = start(SECRET, FakeGateway::start(), None).await;
    let agent = "Mozilla/5.0 MicroMessenger/8.0";
    let inside = world
        .browser
        .get(world.url("/language"))
        .header("user-agent", agent);
    let inside = inside.send().await.unwrap().text().await.unwrap();
    assert!(inside.contains("暂不支持在微信中打开") && !inside.contains("开始报名"));

    let made = world.send("/language/applications", "", &[]).await;
    let application = location(&made);
    let pay = format!("{application}/pay");
    world.gateway.book.lock().unwrap().refuses = Some("payer_mismatch");
    let other = [("payer_name", "张三"), ("payer_phone", "13600000000")];
    let answer = world.send(&pay, "", &other).await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        answer
            .text()
            .await
            .unwrap()
            .contains("缴费人与报名人信息不一致")
    );

    world.gateway.book.lock().unwrap().refuses = None;
    let own = [("payer_name", "李晓红"), ("payer_phone", "13700000000")];
    let answer = world.send(&pay, "", &own).await;
    assert_eq!(location(&answer), CASHIER);
    let (_, body, _) = world.gateway.requests().pop().unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    for member in ["name", "id_number", "phone"] {
        assert_eq!(body["payer"][member], body["registrant"][member]);
    }
    // Who pays was fixed with the order: what is typed later asks for the same order.
    world.send(&pay, "", &other).await;
    let (_, again, _) = world.gateway.requests().pop().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&again).unwrap(), body);

    let number = body["merchant_order_no"].as_str().unwrap();
    let notice = Notice {
        to: School::Language.webhook(),
        signed: json!({ "id": "evt_1", "type": "order.paid", "data": { "order": order(number, "paid", 5) } }).to_string(),
        ..world.notice("evt_1", "paid", 5)
    };
    assert_eq!(world.deliver(notice).await, StatusCode::NO_CONTENT);
    let page = world.get(&application).await.text().await.unwrap();
    assert!(page.contains("已缴费") && page.contains("无需上传订单截图"));
    // What is registered may change; the fee stays paid.
    let edit = [("subject", "日语"), ("graduated", "1")];
    let saved = world.send(&format!("{application}/save"), "", &edit).await;
    let saved = saved.text().await.unwrap();
    assert!(saved.contains("切勿重新支付") && saved.contains("已缴费"));
    let ticket = world.get(&format!("{application}/ticket")).await;
    assert!(ticket.text().await.unwrap().contains("日语"));

    // Past the deadline nothing is changed, and nothing is asked of the gateway.
    world.clock.advance_ms(8 * 86_400_000);
    let asked = world.gateway.requests().len();
    for (act, form) in [("save", &edit[..]), ("pay", &own[..])] {
        let late = world.send(&format!("{application}/{act}"), "", form).await;
        assert_eq!(late.status(), StatusCode::UNPROCESSABLE_ENTITY, "{act}");
        assert!(late.text().await.unwrap().contains("报名已截止"), "{act}");
    }
    assert_eq!(world.gateway.requests().len(), asked);
    world.demo.stop().await;
}
