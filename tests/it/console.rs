//! The operators' console over a socket: who gets in, what two people may do that one may not, and that
//! the page of an order answers whoever asks on the phone.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer};
use enrollpay::console::{Console, routes};
use enrollpay::http::Limits;
use enrollpay::http::limits::Limiters;
use enrollpay::operations::{Hidden, OddCapture, Operation, Operations, Operator};
use enrollpay::order::{AccountId, OrderId, SettleBy, TradeAnswer};
use enrollpay::sealing::Place;
use enrollpay::store::{DeliveryState, EvidenceRow, EvidenceStanding, Transaction, Write};
use serde_json::{Value, json};

use crate::api::gateway::{Gateway, new_order};
use crate::support::student::Wechat;
use crate::support::{Pair, World, client, eventually, on_either_pair};

const PASSWORD: &str = "twelve letters and more";
const MINUTE: i64 = 60_000;

/// The console of a gateway whose clock stands still.
struct Desk {
    gateway: Gateway,
    operations: Operations,
    origin: String,
    server: ServerHandle,
}

impl Desk {
    async fn open() -> Self {
        Self::behind(Vec::new()).await
    }

    async fn behind(trusted_proxies: Vec<ipnet::IpNet>) -> Self {
        let gateway = Gateway::start().await;
        let operations = gateway.operations();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let console = Console {
            operations: operations.clone(),
            view: Arc::new(gateway.deps.view()),
            limiters: Limiters::new(&Limits::default()),
            hosts: vec![address.clone(), "console.example.edu.cn".to_owned()],
            trusted_proxies,
        };
        let configure = routes(console);
        let server = HttpServer::new(move || App::new().configure(configure.clone()))
            .workers(1)
            .disable_signals()
            .listen(listener)
            .unwrap()
            .run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        let desk = Self {
            gateway,
            operations,
            origin: format!("http://{address}"),
            server: handle,
        };
        for name in ["li.wei", "wang.fang"] {
            let create = Operation::OperatorCreate {
                name: name.to_owned(),
                password: Some(Hidden(PASSWORD.to_owned())),
            };
            desk.run(create).await.unwrap();
        }
        desk
    }

    async fn run(
        &self,
        operation: Operation,
    ) -> Result<Value, enrollpay::operations::OperationError> {
        let root = Operator::of(0, Some("root")).unwrap();
        self.operations.run(&root, operation).await
    }

    fn browser(&self) -> Browser {
        Browser::at(&self.origin)
    }

    async fn logged_in(&self, name: &str) -> Browser {
        let mut browser = self.browser();
        let page = browser.log_in(name, PASSWORD).await;
        assert_eq!((page.status, page.header("location")), (303, "/"));
        browser
    }

    /// An order whose provider told of a fen too little.
    async fn odd(&self) -> OrderId {
        let order = self.gateway.order("A-1").await;
        let path = format!("/v1/orders/{order}/attempts");
        assert_eq!(self.gateway.post(&path, &Value::Null).await.status, 201);
        let attempt = self.gateway.scan(order).await;
        self.gateway
            .capture_of(order, attempt, "4200001", 13_999)
            .await;
        order
    }

    /// Operator, action and outcome of what was written down, without the set-up.
    async fn log(&self) -> Vec<[String; 3]> {
        let entries = self.gateway.store.audit(2, 100).await.unwrap();
        entries
            .into_iter()
            .map(|entry| [entry.operator, entry.action, entry.outcome])
            .collect()
    }

    async fn close(self) {
        self.server.stop(false).await;
        self.gateway.stop().await;
    }
}

/// Somebody at the console: cookies, no redirects followed.
struct Browser {
    client: reqwest::Client,
    origin: String,
    cookies: BTreeMap<String, String>,
    /// What the last `Set-Cookie`s said, whole.
    set: Vec<String>,
}

struct Page {
    status: u16,
    headers: reqwest::header::HeaderMap,
    text: String,
}

impl Page {
    fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    #[track_caller]
    fn says(&self, text: &str) -> &Self {
        assert!(
            self.text.contains(text),
            "expected {text:?} in {}",
            self.text
        );
        self
    }

    /// The token that the page's forms carry.
    #[track_caller]
    fn csrf(&self) -> String {
        let marker = "name=\"csrf\" value=\"";
        let from = self
            .text
            .find(marker)
            .unwrap_or_else(|| panic!("no form in {}", self.text));
        let rest = &self.text[from + marker.len()..];
        rest[..rest.find('"').unwrap()].to_owned()
    }
}

impl Browser {
    fn at(origin: &str) -> Self {
        Self {
            client: client(),
            origin: origin.to_owned(),
            cookies: BTreeMap::new(),
            set: Vec::new(),
        }
    }

    /// The same person's browser at another node.
    fn moved_to(&self, origin: &str) -> Self {
        Self {
            cookies: self.cookies.clone(),
            ..Self::at(origin)
        }
    }

    async fn send(&mut self, request: reqwest::RequestBuilder) -> Page {
        let cookies = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let cookies: Vec<String> = cookies.collect();
        let answer = request
            .header("cookie", cookies.join("; "))
            .send()
            .await
            .unwrap();
        let set = answer.headers().get_all("set-cookie");
        self.set = set
            .iter()
            .map(|it| it.to_str().unwrap().to_owned())
            .collect();
        for cookie in &self.set {
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        Page {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            text: answer.text().await.unwrap(),
        }
    }

    async fn get(&mut self, path: &str) -> Page {
        let request = self.client.get(format!("{}{path}", self.origin));
        self.send(request).await
    }

    /// A form exactly as given.
    async fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Page {
        let request = self
            .client
            .post(format!("{}{path}", self.origin))
            .form(form);
        self.send(request).await
    }

    /// A form as the page at `from` would send it.
    async fn press(&mut self, from: &str, path: &str, form: &[(&str, &str)]) -> Page {
        let csrf = self.get(from).await.csrf();
        let mut form = form.to_vec();
        form.push(("csrf", &csrf));
        self.post(path, &form).await
    }

    async fn log_in(&mut self, name: &str, password: &str) -> Page {
        let form = [("name", name), ("password", password)];
        self.press("/login", "/login", &form).await
    }

    async fn search(&mut self, text: &str) -> Page {
        self.press("/search", "/search", &[("q", text)]).await
    }
}

#[actix_web::test]
async fn nobody_sees_anything_without_a_login() {
    let desk = Desk::open().await;
    let order = desk.gateway.order("A-1").await;
    let mut stranger = desk.browser();
    for path in [
        "/",
        "/search",
        &format!("/orders/{order}"),
        "/reconciliations",
        "/audit",
        "/nowhere",
    ] {
        let page = stranger.get(path).await;
        assert_eq!(
            (page.status, page.header("location")),
            (303, "/login"),
            "{path}"
        );
        assert!(page.text.is_empty(), "{path}");
    }
    let page = stranger.post("/search", &[("q", "A-1")]).await;
    assert_eq!((page.status, page.header("location")), (303, "/login"));
    stranger
        .cookies
        .insert("console_session".to_owned(), "0".repeat(32));
    assert_eq!(stranger.get("/").await.status, 303);
    let login = stranger.get("/login").await;
    login.says("用户名");
    assert_eq!(login.header("cache-control"), "no-store");
    assert_eq!(login.header("x-frame-options"), "DENY");
    let policy = login.header("content-security-policy");
    for rule in [
        "default-src 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(!policy.contains("script-src") && !login.text.contains("<script"));
    desk.close().await;
}

#[actix_web::test]
async fn a_login_is_written_down_and_leaves_no_secret_behind() {
    let desk = Desk::open().await;
    let mut li = desk.browser();
    let wrong = li.log_in("li.wei", "twelve letters and less").await;
    assert_eq!(wrong.status, 403);
    wrong.says("用户名或密码不正确");
    // In no other words than for a name that nobody has.
    let nobody = desk.browser().log_in("nobody", PASSWORD).await;
    assert_eq!(nobody.status, 403);
    nobody.says("用户名或密码不正确");

    let page = li.log_in("Li.Wei", PASSWORD).await;
    assert_eq!((page.status, page.header("location")), (303, "/"));
    let session = li
        .set
        .iter()
        .find(|cookie| cookie.starts_with("console_session="))
        .unwrap();
    for flag in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(session.contains(flag), "{session}");
    }
    assert!(!session.contains("Secure"), "{session}");
    let token = li.cookies["console_session"].clone();
    assert_eq!(token.len(), 32);
    li.get("/").await.says("li.wei").says("待办");
    assert!(!li.get("/").await.text.contains(&token));

    let out = li.press("/", "/logout", &[]).await;
    assert_eq!((out.status, out.header("location")), (303, "/login"));
    assert!(!li.cookies.contains_key("console_session"));
    // The session itself has ended, not the cookie alone.
    li.cookies
        .insert("console_session".to_owned(), token.clone());
    assert_eq!(li.get("/").await.status, 303);

    let by = "console:li.wei".to_owned();
    let said = |action: &str, outcome: &str| [by.clone(), action.to_owned(), outcome.to_owned()];
    assert_eq!(
        desk.log().await,
        [
            said("console login", "refused: wrong password"),
            ["console", "console login", "refused: nobody's name"].map(str::to_owned),
            said("console login", "done"),
            said("console logout", "done"),
        ]
    );
    let bytes = desk.gateway.stored_bytes();
    for secret in [token.as_str(), PASSWORD] {
        let found = bytes
            .windows(secret.len())
            .any(|window| window == secret.as_bytes());
        assert!(!found, "{secret} is in the store");
    }
    desk.close().await;
}

#[actix_web::test]
async fn behind_a_proxy_with_tls_the_cookie_is_secure() {
    let desk = Desk::behind(vec!["127.0.0.0/8".parse().unwrap()]).await;
    let mut li = desk.browser();
    let https = |request: reqwest::RequestBuilder| {
        request
            .header("host", "console.example.edu.cn")
            .header("x-forwarded-proto", "https")
            .header("x-forwarded-for", "203.0.113.9")
    };
    let request = https(li.client.get(format!("{}/login", desk.origin)));
    let csrf = li.send(request).await.csrf();
    let form = [
        ("name", "li.wei"),
        ("password", PASSWORD),
        ("csrf", csrf.as_str()),
    ];
    let request = https(li.client.post(format!("{}/login", desk.origin)).form(&form));
    assert_eq!(li.send(request).await.status, 303);
    assert!(!li.set.is_empty() && li.set.iter().all(|cookie| cookie.contains("Secure")));
    desk.close().await;
}

#[actix_web::test]
async fn guesses_are_limited_by_name_and_by_address() {
    let desk = Desk::open().await;
    let mut browser = desk.browser();
    for _ in 0..5 {
        assert_eq!(
            browser.log_in("li.wei", "a wrong password").await.status,
            403
        );
    }
    // Now not even the right one, in whatever letters the name is written.
    for name in ["li.wei", "LI.WEI"] {
        let page = browser.log_in(name, PASSWORD).await;
        assert_eq!(page.status, 429);
        page.says("尝试次数过多");
        assert!(page.header("retry-after").parse::<u32>().unwrap() >= 1);
    }
    assert_eq!(
        desk.browser().log_in("wang.fang", PASSWORD).await.status,
        303
    );
    // Another name each time does not help for long.
    let mut limited = 0;
    for number in 0..20 {
        let page = browser
            .log_in(&format!("guess{number}"), "a wrong password")
            .await;
        limited += u32::from(page.status == 429);
    }
    assert!((7..=9).contains(&limited), "{limited} of 20 were limited");
    assert_eq!(
        desk.browser().log_in("wang.fang", PASSWORD).await.status,
        429
    );
    desk.close().await;
}

#[actix_web::test]
async fn a_name_that_nobody_has_takes_as_long_as_a_wrong_password() {
    let desk = Desk::open().await;
    // In turn, and the quickest of each: whatever else the machine does slows both.
    let [mut known, mut unknown] = [Duration::MAX; 2];
    for _ in 0..8 {
        for (name, quickest) in [("li.wei", &mut known), ("nobody", &mut unknown)] {
            let before = Instant::now();
            let password = Hidden("a wrong password".to_owned());
            assert_eq!(desk.operations.log_in(name, password).await.unwrap(), None);
            *quickest = before.elapsed().min(*quickest);
        }
    }
    assert!(
        unknown > known / 3 && known > unknown / 3,
        "{known:?} for a wrong password, {unknown:?} for an unknown name"
    );
    desk.close().await;
}

#[actix_web::test]
async fn another_host_is_none_of_ours() {
    let desk = Desk::open().await;
    let mut li = desk.logged_in("li.wei").await;
    for host in ["evil.example", "localhost", "127.0.0.1", "127.0.0.1:1"] {
        let request = li
            .client
            .get(format!("{}/", desk.origin))
            .header("host", host);
        let page = li.send(request).await;
        assert_eq!(page.status, 421, "{host}");
        assert!(!page.text.contains("li.wei"), "{host}");
        assert_eq!(page.header("cache-control"), "no-store");
    }
    let named = |host| {
        li.client
            .get(format!("{}/", desk.origin))
            .header("host", host)
    };
    let request = named("Console.example.edu.cn");
    assert_eq!(li.send(request).await.status, 200);
    desk.close().await;
}

#[actix_web::test]
async fn a_form_of_somebody_elses_does_nothing() {
    let desk = Desk::open().await;
    let order = desk.gateway.paid("A-1").await;
    let event = desk.gateway.store.outbox_of(order).await.unwrap()[0].id;
    let mut li = desk.logged_in("li.wei").await;
    let mut wang = desk.logged_in("wang.fang").await;
    let path = format!("/orders/{order}/events/{event}");
    let others = wang.get("/search").await.csrf();
    for csrf in ["", "0", others.as_str()] {
        let page = li.post(&path, &[("do", "park"), ("csrf", csrf)]).await;
        assert_eq!(page.status, 403, "{csrf:?}");
        page.says("操作没有执行");
    }
    let own = li.get("/search").await.csrf();
    let request = li
        .client
        .post(format!("{}{path}", desk.origin))
        .header("origin", "https://evil.example")
        .form(&[("do", "park"), ("csrf", own.as_str())]);
    assert_eq!(li.send(request).await.status, 421);
    // And no login without the page that asks for it.
    let form = [("name", "li.wei"), ("password", PASSWORD)];
    assert_eq!(desk.browser().post("/login", &form).await.status, 403);

    let event = desk
        .gateway
        .store
        .outbox_event(event)
        .await
        .unwrap()
        .unwrap();
    assert_ne!(event.state, DeliveryState::Parked);
    assert!(
        desk.log()
            .await
            .iter()
            .all(|[_, action, _]| action == "console login")
    );
    desk.close().await;
}

#[actix_web::test]
async fn an_event_is_parked_released_and_sent_again_and_each_is_written_down() {
    let desk = Desk::open().await;
    let order = desk.gateway.paid("A-1").await;
    let event = desk.gateway.store.outbox_of(order).await.unwrap()[0].id;
    let mut li = desk.logged_in("li.wei").await;
    let (page, path) = (
        format!("/orders/{order}"),
        format!("/orders/{order}/events/{event}"),
    );
    let state = async || {
        let event = desk
            .gateway
            .store
            .outbox_event(event)
            .await
            .unwrap()
            .unwrap();
        event.state
    };
    li.get(&page).await.says("缴费成功").says("停止推送");
    for (word, done, after) in [
        ("park", "已停止推送", DeliveryState::Parked),
        ("release", "已恢复推送", DeliveryState::Pending),
        ("resend", "重新推送", DeliveryState::Pending),
    ] {
        let answer = li.press(&page, &path, &[("do", word)]).await;
        assert_eq!(answer.status, 303, "{word}: {}", answer.text);
        let back = answer.header("location").to_owned();
        assert!(back.starts_with(&page), "{back}");
        li.get(&back).await.says(done);
        assert_eq!(state().await, after, "{word}");
    }
    let refused = li.press(&page, &path, &[("do", "release")]).await;
    assert_eq!(refused.status, 409);
    refused.says("没有停止");
    let done: Vec<_> = desk.log().await.into_iter().skip(1).collect();
    let expected = ["event park", "event release", "event resend"]
        .map(|action| ["console:li.wei", action, "done"].map(str::to_owned));
    assert_eq!(done, expected);
    li.get("/audit")
        .await
        .says("event park")
        .says("console:li.wei");
    desk.close().await;
}

#[actix_web::test]
async fn two_people_settle_odd_money_and_one_cannot() {
    let desk = Desk::open().await;
    let order = desk.odd().await;
    let (mut li, mut wang) = (
        desk.logged_in("li.wei").await,
        desk.logged_in("wang.fang").await,
    );
    let path = format!("/orders/{order}/odd/0");
    li.get("/").await.says("金额不符").says(&path);
    li.get(&path)
        .await
        .says("139.99")
        .says("140.00")
        .says("这需要两个人");

    let proposed = li.press(&path, &path, &[("by", "refund")]).await;
    assert_eq!(proposed.status, 303, "{}", proposed.text);
    li.get(proposed.header("location"))
        .await
        .says("还需要另一位同事确认");
    // The page offers the first one nothing more, and takes nothing more.
    li.get(&path).await.says("你已于");
    let csrf = li.get("/search").await.csrf();
    let alone = li.post(&path, &[("by", "refund"), ("csrf", &csrf)]).await;
    assert_eq!(alone.status, 409);
    alone.says("同一个人");
    // Nor on the command line under the same name.
    let settle = Operation::CaptureSettle {
        odd: OddCapture::Order {
            order: order.to_string(),
            mismatch: 0,
        },
        by: SettleBy::Refund,
    };
    let at_machine = Operator::of(0, Some("Li.Wei")).unwrap();
    let refused = desk.operations.run(&at_machine, settle).await;
    assert!(refused.unwrap_err().to_string().contains("the same person"));
    assert!(desk.gateway.wechat.refunds.lock().unwrap().is_empty());

    wang.get(&path).await.says("同意原路退回");
    let csrf = wang.get("/search").await.csrf();
    let otherwise = wang
        .post(&path, &[("by", "outside"), ("csrf", &csrf)])
        .await;
    assert_eq!(otherwise.status, 409);
    otherwise.says("处理方式不同");
    let agreed = wang.press(&path, &path, &[("by", "refund")]).await;
    assert_eq!(agreed.status, 303, "{}", agreed.text);
    desk.gateway
        .until(order, |order| order.mismatches[0].is_settled())
        .await;
    assert_eq!(desk.gateway.wechat.refunds.lock().unwrap().len(), 1);
    wang.get(&path).await.says("不需要再处理");
    wang.get("/").await.says("现在没有需要人处理的事");

    let settled: Vec<_> = desk.log().await.into_iter().skip(2).collect();
    let said: Vec<_> = settled
        .iter()
        .map(|[by, action, _]| (by.as_str(), action.as_str()))
        .collect();
    assert_eq!(
        said,
        [
            ("console:li.wei", "capture settle --by refund"),
            ("console:li.wei", "capture settle --by refund"),
            ("0:Li.Wei", "capture settle --by refund"),
            ("console:wang.fang", "capture settle --by outside"),
            ("console:wang.fang", "capture settle --by refund"),
        ]
    );
    assert!(settled[0][2].starts_with("done") && settled[4][2].starts_with("done"));
    assert!(
        settled[1..4]
            .iter()
            .all(|[_, _, outcome]| !outcome.starts_with("done"))
    );
    desk.close().await;
}

#[actix_web::test]
async fn two_people_settle_a_notice_that_fits_no_order() {
    let desk = Desk::open().await;
    // As strange as a number of a stranger may be.
    let (account, reference) = (AccountId::new("school-wechat"), "a/b c?#%2F<");
    let row = format!("{account}/{reference}");
    let place = Place {
        table: "evidence",
        column: "body",
        row: &row,
    };
    let evidence = Write::Evidence(EvidenceRow {
        account: account.clone(),
        reference: reference.to_owned(),
        reason: "unknown_number".to_owned(),
        body: desk.gateway.deps.sealer.seal(place, b"{}"),
        order: None,
        first_seen: desk.gateway.deps.clock.now(),
        standing: EvidenceStanding::Open,
    });
    let transaction = Transaction {
        order: None,
        writes: vec![evidence],
    };
    let store = &desk.gateway.store;
    store.commit(vec![transaction]).await.unwrap()[0]
        .clone()
        .unwrap();
    let (mut li, mut wang) = (
        desk.logged_in("li.wei").await,
        desk.logged_in("wang.fang").await,
    );
    let home = li.get("/").await;
    let from = home.text.find("/evidence/").unwrap();
    let path = home.text[from..].split('"').next().unwrap().to_owned();
    li.get(&path).await.says("unknown_number").says("账外处理");
    assert!(
        !li.get(&path).await.text.contains("原路退回"),
        "there is nothing to give back"
    );
    let csrf = li.get("/search").await.csrf();
    let refund = li.post(&path, &[("by", "refund"), ("csrf", &csrf)]).await;
    assert_eq!(refund.status, 409);
    for (person, says) in [(&mut li, "还需要另一位"), (&mut wang, "两人意见一致")] {
        let answer = person.press(&path, &path, &[("by", "outside")]).await;
        assert_eq!(answer.status, 303, "{}", answer.text);
        let back = answer.header("location").to_owned();
        person.get(&back).await.says(says);
    }
    let settled = store.evidence(&account, reference).await.unwrap().unwrap();
    assert!(matches!(settled.standing, EvidenceStanding::Settled { .. }));
    desk.close().await;
}

#[actix_web::test]
async fn a_session_ends_when_nobody_uses_it_and_at_the_end_of_the_day() {
    let desk = Desk::open().await;
    let mut li = desk.logged_in("li.wei").await;
    desk.gateway.clock.advance_ms(29 * MINUTE);
    assert_eq!(li.get("/").await.status, 200);
    desk.gateway.clock.advance_ms(29 * MINUTE);
    assert_eq!(li.get("/").await.status, 200, "it was used in between");
    desk.gateway.clock.advance_ms(30 * MINUTE);
    assert_eq!(li.get("/").await.status, 303);
    desk.gateway.clock.advance_ms(-30 * MINUTE);
    assert_eq!(li.get("/").await.status, 303, "over is over");

    let mut li = desk.logged_in("li.wei").await;
    let mut pages = 0;
    while li.get("/").await.status == 200 {
        pages += 1;
        desk.gateway.clock.advance_ms(20 * MINUTE);
    }
    assert_eq!(pages, 24, "eight hours, however busy");
    desk.close().await;
}

#[actix_web::test]
async fn whoever_is_disabled_is_out_at_once() {
    let desk = Desk::open().await;
    let mut li = desk.logged_in("li.wei").await;
    assert_eq!(li.get("/").await.status, 200);
    let name = || "li.wei".to_owned();
    desk.run(Operation::OperatorDisable { name: name() })
        .await
        .unwrap();
    assert_eq!(li.get("/").await.status, 303);
    assert_eq!(desk.browser().log_in("li.wei", PASSWORD).await.status, 403);
    let set = Operation::OperatorSetPassword {
        name: name(),
        password: None,
    };
    let made = desk.run(set).await.unwrap();
    let made = made["password"].as_str().unwrap();
    assert_eq!(desk.browser().log_in("li.wei", PASSWORD).await.status, 403);
    assert_eq!(desk.browser().log_in("li.wei", made).await.status, 303);
    let again = Operation::OperatorCreate {
        name: "LI.wei".to_owned(),
        password: None,
    };
    let taken = desk.run(again).await.unwrap_err();
    assert!(taken.to_string().contains("of this name"), "{taken}");
    let short = Operation::OperatorCreate {
        name: "chen".to_owned(),
        password: Some(Hidden("short".to_owned())),
    };
    let short = desk.run(short).await.unwrap_err().to_string();
    assert!(
        short.contains("12 to 256") && !short.contains("short"),
        "{short}"
    );
    desk.close().await;
}

#[actix_web::test]
async fn an_order_is_found_by_whatever_is_read_over_the_phone() {
    let desk = Desk::open().await;
    let order = desk.gateway.paid("ZK-7").await;
    let stored = desk.gateway.store.order(order).await.unwrap().unwrap();
    let transaction = stored.order.payment().unwrap().transaction_id.to_string();
    let event = desk.gateway.store.outbox_of(order).await.unwrap()[0]
        .id
        .to_string();
    let ulid = order.ulid().to_string();
    let mut li = desk.logged_in("li.wei").await;
    for text in [
        order.to_string(),
        ulid.clone(),
        ulid.to_lowercase(),
        format!("{} {}", &ulid[..13], &ulid[13..]),
        format!("{ulid}01"),
        "ZK-7".to_owned(),
        format!("  {transaction} "),
        event,
    ] {
        let page = li.search(&text).await;
        let found = format!("/orders/{order}");
        assert_eq!(
            (page.status, page.header("location")),
            (303, found.as_str()),
            "{text}"
        );
    }
    // The payer's whole reference, and no less of it.
    let payer = new_order("ZK-7")["payer"]["ref"]
        .as_str()
        .unwrap()
        .to_owned();
    let other = desk.gateway.order("ZK-8").await;
    let page = li.search(&payer).await;
    assert_eq!(page.status, 200);
    page.says(&order.to_string()).says(&other.to_string());
    li.search(&payer[..payer.len() - 1]).await.says("没有找到");
    li.search("<script>")
        .await
        .says("&#60;script&#62;")
        .says("没有找到");
    assert_eq!(li.get("/orders/ord_1").await.status, 404);
    desk.close().await;
}

#[actix_web::test]
async fn the_page_of_an_order_says_why_it_is_unpaid() {
    let desk = Desk::open().await;
    let mut li = desk.logged_in("li.wei").await;
    let order = desk.gateway.order("A-1").await;
    let path = format!("/orders/{order}");
    li.get(&path).await.says("还没有人打开缴费二维码");
    let attempts = format!("/v1/orders/{order}/attempts");
    assert_eq!(desk.gateway.post(&attempts, &Value::Null).await.status, 201);
    li.get(&path).await.says("还没有人扫码");
    let attempt = desk.gateway.scan(order).await;
    li.get(&path).await.says("扫码，还没有付款");
    desk.gateway.capture(order, attempt, "4200009").await;
    let paid = li.get(&path).await;
    paid.says("已缴费")
        .says("4200009")
        .says("不要重复支付")
        .says("学校应得");
    // Nobody's name in full, nor what they are known by.
    let payer = &new_order("A-1")["payer"];
    for member in ["ref", "name", "id_number", "phone"] {
        if let Some(clear) = payer[member].as_str() {
            assert!(!paid.text.contains(clear), "{member}");
        }
    }

    let refused = desk.gateway.order("A-2").await;
    *desk.gateway.wechat.trade.lock().unwrap() = TradeAnswer::Refused {
        code: "NO_AUTH".into(),
    };
    let attempts = format!("/v1/orders/{refused}/attempts");
    assert_eq!(desk.gateway.post(&attempts, &Value::Null).await.status, 201);
    desk.gateway.scan(refused).await;
    li.get(&format!("/orders/{refused}"))
        .await
        .says("拒绝下单")
        .says("NO_AUTH");

    let cancelled = desk.gateway.order("A-3").await;
    let path = format!("/v1/orders/{cancelled}/cancel");
    assert_eq!(desk.gateway.post(&path, &Value::Null).await.status, 200);
    let page = li.get(&format!("/orders/{cancelled}")).await;
    page.says("已于").says("被报名系统取消");
    desk.close().await;
}

on_either_pair! {
    every_node_has_the_same_desk,
}

async fn every_node_has_the_same_desk(on: Pair) {
    let world = World::on(on, &[]).await;
    let nodes: Vec<_> = world.nodes().collect();
    let (first, last) = (nodes[0], *nodes.last().unwrap());
    let mut people = Vec::new();
    for (node, name) in [(first, "chen.jie"), (last, "zhao.min")] {
        let made = node.operate(&["operator", "create", name]);
        let password = made["password"].as_str().unwrap();
        let mut browser = Browser::at(&node.console);
        assert_eq!(browser.log_in(name, password).await.status, 303);
        people.push(browser);
        assert!(!node.log().contains(password));
    }
    let [li, wang] = &mut people[..] else {
        panic!("two people");
    };
    let listed = first.operate_rows(&["operator", "list"]);
    let names: Vec<_> = listed
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert!(
        names.contains(&"chen.jie") && names.contains(&"zhao.min"),
        "{names:?}"
    );

    // A payment, found at another node by what the payer's wallet shows, and told once more.
    let asked = world.ask(Wechat).await;
    world.simulators.pay(&asked.trade).await;
    let paid = world.merchant.until_status(&asked.order, "paid").await;
    let transaction = paid["payment"]["transaction_id"].as_str().unwrap();
    world.receiver.wait(&asked.order, "order.paid").await;
    let mut li = li.moved_to(&last.console);
    let found = li.search(transaction).await;
    let page = format!("/orders/{}", asked.order);
    assert_eq!(
        (found.status, found.header("location")),
        (303, page.as_str())
    );
    let shown = eventually("the event told", Duration::from_secs(30), async || {
        let shown = li.get(&page).await;
        shown.text.contains("已送达").then_some(shown)
    })
    .await;
    let marker = format!("{page}/events/");
    let from = shown.text.find(&marker).unwrap();
    let action = shown.text[from..].split('"').next().unwrap().to_owned();
    let resent = li.press(&page, &action, &[("do", "resend")]).await;
    assert_eq!(resent.status, 303, "{}", resent.text);
    eventually("the event once more", Duration::from_secs(30), async || {
        let told = world.receiver.deliveries(&asked.order);
        let paid = told.iter().filter(|it| it.kind == "order.paid");
        (paid.count() >= 2).then_some(())
    })
    .await;

    // Odd money: one speaks at one node, the other at another.
    let odd = world.ask(Wechat).await;
    let (status, believed) = world.simulators.forge(&odd.trade, "wrong_amount").await;
    assert!(believed, "answered {status}");
    world.receiver.wait(&odd.order, "order.attention").await;
    let path = format!("/orders/{}/odd/0", odd.order);
    for (person, says) in [(&mut li, "还需要另一位"), (wang, "两人意见一致")] {
        let answer = person.press(&path, &path, &[("by", "outside")]).await;
        assert_eq!(answer.status, 303, "{}", answer.text);
        let back = answer.header("location").to_owned();
        person.get(&back).await.says(says);
    }
    assert_eq!(first.operate_rows(&["capture", "list"]), [] as [Value; 0]);
    let log = li.get("/audit").await;
    log.says("event resend")
        .says("console:zhao.min")
        .says("capture settle --by outside");
    for node in world.nodes() {
        for secret in li.cookies.values() {
            assert!(!node.log().contains(secret));
        }
    }
    let path = format!("/v1/orders/{}/cancel", odd.order);
    world.merchant.insist(&path, &json!({}), "end").await;
    world.finish().await;
}
