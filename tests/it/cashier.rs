//! The student's side over a socket: what the contract's §6 promises, with and without scripts.
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its own set-up fails"
)]

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use enrollpay::clock::Clock as _;
use enrollpay::order::{OrderId, Product, Status, TradeAnswer, Wallet};
use enrollpay::provider::TradeState;
use reqwest::redirect::Policy;
use serde_json::Value;

use super::api::gateway::{Gateway, Wishes, new_order};
use super::support::{Pair, on_either_pair};

on_either_pair! {
    looking_starts_nothing_and_shows_only_masks,
    a_wrong_link_is_a_page_and_its_static_files_are_kept,
    a_code_without_scripts_by_forms_alone,
    a_form_of_another_visit_changes_nothing,
    the_state_as_json_knows_what_has_not_changed,
    the_code_is_a_picture_only_while_it_lives,
    a_student_scans_confirms_and_pays_in_wechat,
    only_the_first_payer_has_the_code,
    states_and_codes_serve_once,
    apps_that_cannot_pay_are_sent_to_the_page,
    a_code_that_ended_says_how,
    a_claimant_gives_the_code_up,
    an_alipay_payer_gets_a_trade_number_and_a_busy_wallet_keeps_the_claim,
    two_hundred_presses_at_once_are_one_question,
    a_page_says_when_the_provider_does_not_answer,
    a_press_does_not_wait_for_a_provider_that_did_not_say,
    no_link_carries_the_person_who_must_pay,
    a_phone_pays_by_its_buttons,
    the_payer_ticks_before_the_first_code_where_the_school_asks,
    native_mode_shows_one_wallets_code_at_a_time,
    an_open_page_is_told_at_once_and_streams_end,
}

pub const WECHAT: &str = "Mozilla/5.0 (iPhone; CPU iPhone OS 17) Mobile MicroMessenger/8.0.50";
const ALIPAY: &str = "Mozilla/5.0 (Linux; Android 14) Mobile AlipayClient/10.5.90";
pub const PHONE: &str = "Mozilla/5.0 (Linux; Android 14) Mobile Safari/537.36";
pub const COMPUTER: &str = "Mozilla/5.0 (X11; Linux x86_64) Chrome/140";

/// One browser: an agent, its cookies, no redirects followed.
pub struct Browser {
    client: reqwest::Client,
    base: String,
    agent: &'static str,
    cookies: BTreeMap<String, String>,
    pub language: &'static str,
}

#[derive(Debug)]
pub struct Page {
    pub status: u16,
    headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Page {
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("{}", self.text))
    }

    /// The value of a hidden member of the page's form to `action`.
    #[track_caller]
    pub fn member(&self, action: &str, name: &str) -> String {
        let from = self
            .text
            .find(&format!("{action}\""))
            .unwrap_or_else(|| panic!("no form to {action} in {}", self.text));
        let form = &self.text[from..];
        let form = &form[..form.find("</form>").unwrap()];
        let marker = format!("name=\"{name}\" value=\"");
        let from = form
            .find(&marker)
            .unwrap_or_else(|| panic!("no {name} in {form}"));
        let rest = &form[from + marker.len()..];
        rest[..rest.find('"').unwrap()].to_owned()
    }

    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        assert!(
            self.text.contains(text),
            "expected {text:?} in {}",
            self.text
        );
        self
    }

    #[track_caller]
    pub fn is_silent_about(&self, texts: &[&str]) -> &Self {
        for text in texts {
            assert!(!self.text.contains(text), "{text:?} in {}", self.text);
        }
        self
    }
}

impl Browser {
    pub fn new(gateway: &Gateway, agent: &'static str) -> Self {
        Self {
            client: reqwest::Client::builder()
                .no_proxy()
                .redirect(Policy::none())
                .build()
                .unwrap(),
            base: gateway.base.clone(),
            agent,
            cookies: BTreeMap::new(),
            language: "zh-CN",
        }
    }

    async fn send(&mut self, request: reqwest::RequestBuilder) -> Page {
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let answer = request
            .header("user-agent", self.agent)
            .header("accept-language", self.language)
            .header("cookie", cookies.join("; "))
            .send()
            .await
            .unwrap();
        for cookie in answer.headers().get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            assert!(
                cookie.contains("HttpOnly")
                    && cookie.contains("SameSite=Lax")
                    && cookie.contains("Secure"),
                "{cookie}"
            );
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        Page {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            text: answer.text().await.unwrap(),
        }
    }

    pub async fn get(&mut self, path: &str) -> Page {
        let request = self.client.get(format!("{}{path}", self.base));
        self.send(request).await
    }

    pub async fn state(&mut self, path: &str) -> Page {
        let request = self.client.get(format!("{}{path}", self.base));
        self.send(request.header("accept", "application/json"))
            .await
    }

    pub async fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Page {
        let request = self.client.post(format!("{}{path}", self.base)).form(form);
        self.send(request).await
    }

    /// As the page's script posts.
    async fn fetch(&mut self, path: &str, form: &[(&str, &str)]) -> Page {
        let request = self.client.post(format!("{}{path}", self.base)).form(form);
        self.send(request.header("accept", "application/json"))
            .await
    }
}

/// The token of a form that this browser's page at `path` would carry.
pub fn csrf(gateway: &Gateway, browser: &Browser, path: &str) -> String {
    use base64::Engine as _;
    let token = path.rsplit('/').next().unwrap();
    let bound = format!("{token}\n{}", browser.cookies["ep_visit"]);
    let index = gateway.deps.sealer.index("csrf", &bound);
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(index.to_be_bytes())
}

struct Student {
    gateway: Gateway,
    order: OrderId,
    pay: String,
}

impl Student {
    async fn start(on: Pair) -> Self {
        let wishes = Wishes {
            on,
            ..Wishes::default()
        };
        Self::with(wishes, &new_order("A-1")).await
    }

    async fn with(wishes: Wishes, order: &Value) -> Self {
        let gateway = Gateway::start_with(wishes).await;
        let answer = gateway.post("/v1/orders", order).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        let url = answer.body["cashier_url"].as_str().unwrap();
        Self {
            pay: url["https://pay.example.edu.cn".len()..].to_owned(),
            order: answer.body["id"].as_str().unwrap().parse().unwrap(),
            gateway,
        }
    }

    fn browser(&self, agent: &'static str) -> Browser {
        Browser::new(&self.gateway, agent)
    }

    /// A computer on whose screen a code is, and the path of what the code holds.
    async fn code(&self) -> (Browser, String) {
        let mut computer = self.browser(COMPUTER);
        let page = computer.get(&self.pay).await;
        let csrf = page.member("/attempts", "csrf");
        let started = computer
            .post(&format!("{}/attempts", self.pay), &[("csrf", &csrf)])
            .await;
        assert_eq!(
            (started.status, started.header("location")),
            (303, &*self.pay)
        );
        (computer, self.scan_path().await)
    }

    async fn scan_path(&self) -> String {
        let stored = self.gateway.deps.orders.read(self.order).await.unwrap();
        let stored = stored.unwrap();
        let live = stored.order.live_attempt().unwrap();
        format!("/s/{}", self.gateway.deps.view().scan_token(live.id))
    }

    async fn status(&self) -> Status {
        let stored = self.gateway.deps.orders.read(self.order).await.unwrap();
        stored.unwrap().order.status()
    }

    /// Goes through OAuth and claims; the answer to the claim.
    async fn claim(&self, phone: &mut Browser, scan: &str, code: &str) -> Page {
        let (form, csrf, state) = self.come_back(phone, scan, code).await;
        let form = [
            ("csrf", csrf.as_str()),
            ("code", form.as_str()),
            ("state", state.as_str()),
        ];
        phone.post(&format!("{scan}/claim"), &form).await
    }

    /// To the wallet's page and back: code, CSRF token and state of the page that posts them.
    async fn come_back(
        &self,
        phone: &mut Browser,
        scan: &str,
        code: &str,
    ) -> (String, String, String) {
        let sent = phone.get(scan).await;
        assert_eq!(sent.status, 302, "{}", sent.text);
        let to = url::Url::parse(sent.header("location")).unwrap();
        let state = to
            .query_pairs()
            .find(|(name, _)| name == "state")
            .unwrap()
            .1
            .into_owned();
        assert!(state.len() == 32 && state.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let back = phone
            .get(&format!("{scan}?code={code}&state={state}"))
            .await;
        assert_eq!(back.status, 200);
        back.says("data-by-itself")
            .is_silent_about(&["测*", "普通逻辑", "140.00"]);
        let csrf = back.member("/claim", "csrf");
        assert_eq!(back.member("/claim", "state"), state);
        (back.member("/claim", "code"), csrf, state)
    }
}

async fn looking_starts_nothing_and_shows_only_masks(on: Pair) {
    let student = Student::start(on).await;
    let mut browser = student.browser(COMPUTER);
    for _ in 0..3 {
        let page = browser.get(&student.pay).await;
        assert_eq!(page.status, 200);
        page.says("测*")
            .says("6501**********0011")
            .says("普通逻辑")
            .says("¥140.00")
            .says("学校1")
            .says("A-1")
            .is_silent_about(&["测试考生", "650102200001010011", "13800000000"]);
        let policy = page.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("form-action 'self'"));
        assert!(policy.contains("require-trusted-types-for 'script'"));
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"));
        assert_eq!(page.header("cache-control"), "no-store");
        assert_eq!(
            page.header("referrer-policy"),
            "strict-origin-when-cross-origin"
        );
        assert_eq!(page.header("cross-origin-opener-policy"), "same-origin");
        assert!(page.header("x-robots-tag").contains("noindex"));
    }
    assert_eq!(student.status().await, Status::Unpaid);

    browser.language = "en-GB,en;q=0.9";
    browser
        .get(&student.pay)
        .await
        .says("Amount due")
        .says("lang=\"en\"");
    let chosen = browser.get(&format!("{}?lang=zh-CN", student.pay)).await;
    chosen.says("应缴金额").says("/attempts?lang=zh-CN");
    student.gateway.stop().await;
}

async fn a_wrong_link_is_a_page_and_its_static_files_are_kept(on: Pair) {
    let student = Student::start(on).await;
    let mut browser = student.browser(COMPUTER);
    for path in ["/pay/AAAAAAAAAAAAAAAAAAAAAA", "/s/AAAAAAAAAAAAAAAAAAAAAA"] {
        let page = browser.get(path).await;
        assert_eq!(page.status, 404, "{path}");
        page.says("链接无效或已失效");
        let problem = browser.state(path).await;
        assert_eq!(
            (problem.status, &problem.json()["code"]),
            (404, &"not_found".into())
        );
    }
    let page = browser.get(&student.pay).await;
    let files: Vec<&str> = page
        .text
        .split('"')
        .filter(|part| part.starts_with("/static/"))
        .collect();
    assert_eq!(files.len(), 3);
    for file in files {
        let answer = browser.get(file).await;
        assert_eq!(answer.status, 200, "{file}");
        assert!(answer.header("cache-control").contains("immutable"));
    }
    assert_eq!(browser.get("/static/cashier.js").await.status, 404);
    student.gateway.stop().await;
}

async fn a_code_without_scripts_by_forms_alone(on: Pair) {
    let student = Student::start(on).await;
    let (mut computer, _) = student.code().await;
    let page = computer.get(&student.pay).await;
    page.says("请扫码支付")
        .says("id=\"qr-path\" d=\"M")
        .says("请于 18:03:00 前付款");
    assert_eq!(student.status().await, Status::Paying);

    let csrf = page.member("/query", "csrf");
    let asked = computer
        .post(&format!("{}/query", student.pay), &[("csrf", &csrf)])
        .await;
    assert_eq!(asked.status, 303);
    computer
        .get(&student.pay)
        .await
        .says("暂未查到付款记录（18:00:00 查询）");
    // The answer is said once.
    computer
        .get(&student.pay)
        .await
        .is_silent_about(&["暂未查到付款记录"]);

    let cancelled = computer
        .post(&format!("{}/cancel", student.pay), &[("csrf", &csrf)])
        .await;
    assert_eq!(cancelled.status, 303);
    computer.get(&student.pay).await.says("订单已取消");
    assert_eq!(student.status().await, Status::Closed);
    student.gateway.stop().await;
}

async fn a_form_of_another_visit_changes_nothing(on: Pair) {
    let student = Student::start(on).await;
    let mut mine = student.browser(COMPUTER);
    let page = mine.get(&student.pay).await;
    let csrf = page.member("/attempts", "csrf");
    let path = format!("{}/attempts", student.pay);
    let mut theirs = student.browser(COMPUTER);
    for form in [&[("csrf", csrf.as_str())][..], &[]] {
        // Without a cookie, and then with one of its own.
        for _ in 0..2 {
            let refused = theirs.post(&path, form).await;
            assert_eq!(refused.status, 403);
            refused.says("页面停留过久，请再按一次");
        }
        let refused = theirs.fetch(&path, form).await;
        assert_eq!(
            (refused.status, &refused.json()["code"]),
            (403, &"page_stale".into())
        );
    }
    assert_eq!(student.status().await, Status::Unpaid);
    student.gateway.stop().await;
}

async fn the_state_as_json_knows_what_has_not_changed(on: Pair) {
    let student = Student::start(on).await;
    let (mut computer, _) = student.code().await;
    let state = computer.state(&student.pay).await;
    let panel = state.json();
    assert_eq!(panel["state"], "awaiting");
    assert_eq!(panel["remaining_ms"], 180_000);
    assert!(panel["code"]["path"].as_str().unwrap().starts_with('M'));
    let tag = state.header("etag").to_owned();
    student.gateway.clock.advance_ms(5_000);
    let request = computer
        .client
        .get(format!("{}{}", computer.base, student.pay))
        .header("accept", "application/json")
        .header("if-none-match", &tag);
    assert_eq!(computer.send(request).await.status, 304);

    // A page that starts by itself ends nothing that lives.
    let csrf = computer.get(&student.pay).await.member("/attempts", "csrf");
    let path = format!("{}/attempts", student.pay);
    let form = [("csrf", csrf.as_str()), ("auto", "1")];
    let same = computer.fetch(&path, &form).await.json();
    assert_eq!(
        (&same["attempt"], &same["remaining_ms"]),
        (&1.into(), &175_000.into())
    );
    let newer = computer.fetch(&path, &form[..1]).await.json();
    assert_eq!(
        (&newer["attempt"], &newer["remaining_ms"]),
        (&2.into(), &180_000.into())
    );
    student.gateway.stop().await;
}

async fn the_code_is_a_picture_only_while_it_lives(on: Pair) {
    let student = Student::start(on).await;
    let mut computer = student.browser(COMPUTER);
    let png = format!("{}/qr.png", student.pay);
    assert_eq!(computer.get(&png).await.status, 410);
    let (mut computer, scan) = student.code().await;
    let request = computer
        .client
        .get(format!("{}{png}?card=1", computer.base));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "image/png");
    let disposition = answer.headers()["content-disposition"].to_str().unwrap();
    assert!(disposition.contains("A-1.png"), "{disposition}");
    let bytes = answer.bytes().await.unwrap();
    assert_eq!(decode(&bytes), format!("https://pay.example.edu.cn{scan}"));
    let svg = computer.get(&format!("{}/qr.svg", student.pay)).await;
    assert!(svg.text.starts_with("<svg") && svg.header("content-type") == "image/svg+xml");

    student.gateway.clock.advance_ms(180_000);
    assert_eq!(computer.get(&png).await.status, 410);
    student.gateway.stop().await;
}

fn decode(picture: &[u8]) -> String {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(picture));
    decoder.set_transformations(png::Transformations::EXPAND);
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    let (width, height) = (info.width as usize, info.height as usize);
    let mut image = rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| {
        pixels[y * info.line_size + x]
    });
    image.detect_grids()[0].decode().unwrap().1
}

async fn a_student_scans_confirms_and_pays_in_wechat(on: Pair) {
    let student = Student::start(on).await;
    let (mut computer, scan) = student.code().await;
    let mut phone = student.browser(WECHAT);
    let claimed = student.claim(&mut phone, &scan, "of-ZHANG-1").await;
    assert_eq!(claimed.status, 200, "{}", claimed.text);
    claimed
        .says("请确认缴费信息")
        .says("测*")
        .says("普通逻辑")
        .says("¥140.00")
        .is_silent_about(&["测试考生", "ZHANG"]);
    assert_eq!(
        claimed.header("content-security-policy-report-only"),
        "require-trusted-types-for 'script'"
    );
    computer
        .get(&student.pay)
        .await
        .says("已扫码，请在手机上确认付款");

    let form = [
        ("csrf", claimed.member("/pay", "csrf")),
        ("k", claimed.member("/pay", "k")),
    ];
    let form: Vec<(&str, &str)> = form.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let paying = phone.post(&format!("{scan}/pay"), &form).await;
    assert_eq!(paying.status, 200, "{}", paying.text);
    paying
        .says("data-kind=\"jsapi\"")
        .says("prepay_id=weixin://wxpay")
        .says("继续支付")
        .says("放弃并释放二维码");
    // Pressed again, from the address alone: the same handle.
    let again = phone.fetch(&format!("{scan}/pay"), &form).await.json();
    assert_eq!(
        again["parameters"]["package"],
        "prepay_id=weixin://wxpay/bizpayurl?pr=AbCdEf"
    );
    assert_eq!(phone.state(&scan).await.json()["state"], "open");

    let number = student
        .gateway
        .deps
        .orders
        .read(student.order)
        .await
        .unwrap()
        .unwrap();
    let attempt = number.order.attempts[0].number;
    student
        .gateway
        .capture(student.order, attempt, "4200001")
        .await;
    let result = phone.state(&scan).await.json();
    assert_eq!(
        (&result["state"], &result["done"]),
        (&"paid".into(), &true.into())
    );
    phone.get(&scan).await.says("已缴费，无需重复付款");
    computer
        .get(&student.pay)
        .await
        .says("缴费成功")
        .says("已完成，请勿重复支付")
        .says("4200001")
        .says("查看缴费凭证")
        .is_silent_about(&["id=\"qr-path\" d=\"M"]);
    // What was paid hands out nothing more.
    let late = phone.fetch(&format!("{scan}/pay"), &form).await;
    assert_eq!(
        (late.status, &late.json()["code"]),
        (409, &"already_paid".into())
    );
    student.gateway.stop().await;
}

async fn only_the_first_payer_has_the_code(on: Pair) {
    let student = Student::start(on).await;
    let (_, scan) = student.code().await;
    let mut first = student.browser(WECHAT);
    let (code, csrf, state) = student.come_back(&mut first, &scan, "of-ZHANG-1").await;
    let form = [("csrf", &*csrf), ("code", &*code), ("state", &*state)];
    let path = format!("{scan}/claim");
    let claimed = first.post(&path, &form).await;
    claimed.says("请确认缴费信息");
    // The same post again: the same answer, though the code is spent.
    first.post(&path, &form).await.says("请确认缴费信息");
    // The same payer from another browser without any cookie.
    let mut elsewhere = student.browser(WECHAT);
    let again = student.claim(&mut elsewhere, &scan, "of-ZHANG-2").await;
    again.says("请确认缴费信息");

    let mut second = student.browser(ALIPAY);
    let refused = student.claim(&mut second, &scan, "of-LI-1").await;
    assert_eq!(refused.status, 410);
    refused
        .says("二维码已被扫描")
        .is_silent_about(&["测*", "/pay/", "普通逻辑"]);
    // A look never says so.
    assert_eq!(student.browser(WECHAT).get(&scan).await.status, 302);
    // Whoever was refused has not taken the claimant's place: the first can pay.
    let form = [
        ("csrf", claimed.member("/pay", "csrf")),
        ("k", claimed.member("/pay", "k")),
    ];
    let form: Vec<(&str, &str)> = form.iter().map(|(k, v)| (*k, v.as_str())).collect();
    first
        .post(&format!("{scan}/pay"), &form)
        .await
        .says("data-kind=\"jsapi\"");
    let forged = second
        .post(&format!("{scan}/pay"), &[("k", "kAAAAAAAAAAAAAAAAAAAAAA")])
        .await;
    assert_eq!(forged.status, 403);
    let csrf = refused_csrf(&mut second, &student).await;
    let forged = second
        .fetch(
            &format!("{scan}/pay"),
            &[("k", "kAAAAAAAAAAAAAAAAAAAAAA"), ("csrf", &csrf)],
        )
        .await;
    assert!(
        forged.status == 403 || forged.status == 409,
        "{}",
        forged.text
    );
    student.gateway.stop().await;
}

/// A CSRF token of this browser, though of another address.
async fn refused_csrf(browser: &mut Browser, student: &Student) -> String {
    let page = browser.get(&student.pay).await;
    page.member("/cancel", "csrf")
}

async fn states_and_codes_serve_once(on: Pair) {
    let student = Student::start(on).await;
    let (_, scan) = student.code().await;
    let path = format!("{scan}/claim");
    let mut phone = student.browser(WECHAT);
    // A state that nobody made, or none of ours: OAuth once more, by itself, then a button.
    let (code, csrf, _) = student.come_back(&mut phone, &scan, "of-ZHANG-1").await;
    let invented = "0123456789abcdef0123456789abcdef";
    let mut form = vec![("csrf", &*csrf), ("code", &*code), ("state", invented)];
    let restarted = phone.post(&path, &form).await;
    assert_eq!(restarted.status, 200);
    restarted.says("data-follow=").says("again=1");
    form.push(("again", "1"));
    let stopped = phone.post(&path, &form).await;
    stopped
        .says("未能确认您的钱包身份")
        .says("重试")
        .is_silent_about(&["data-follow"]);
    assert_eq!(student.status().await, Status::Paying);

    // A code that was spent elsewhere.
    let first = student.claim(&mut phone, &scan, "of-ZHANG-1").await;
    first.says("请确认缴费信息");
    let mut thief = student.browser(WECHAT);
    let stolen = student.claim(&mut thief, &scan, "of-ZHANG-1").await;
    stolen.says("data-follow=").is_silent_about(&["测*"]);
    student.gateway.stop().await;
}

async fn apps_that_cannot_pay_are_sent_to_the_page(on: Pair) {
    let student = Student::start(on).await;
    let (_, scan) = student.code().await;
    for agent in [
        COMPUTER,
        PHONE,
        "Mozilla/5.0 Mobile MicroMessenger/7.0 wxwork/4.1",
        "Mozilla/5.0 Mobile MicroMessenger/8.0 miniProgram/wx1",
    ] {
        let page = student.browser(agent).get(&scan).await;
        assert_eq!(page.status, 200);
        page.says("请使用微信或支付宝扫一扫打开")
            .says(&student.pay)
            .is_silent_about(&["测*", "普通逻辑"]);
    }
    let mut preview = student.browser(WECHAT);
    let request = preview.client.head(format!("{}{scan}", preview.base));
    assert_eq!(preview.send(request).await.status, 200);
    let stored = student
        .gateway
        .deps
        .orders
        .read(student.order)
        .await
        .unwrap();
    assert!(stored.unwrap().order.attempts[0].claim.is_none());
    student.gateway.stop().await;
}

async fn a_code_that_ended_says_how(on: Pair) {
    let student = Student::start(on).await;
    let (mut computer, scan) = student.code().await;
    let csrf = computer.get(&student.pay).await.member("/query", "csrf");
    computer
        .post(&format!("{}/attempts", student.pay), &[("csrf", &csrf)])
        .await;
    let mut phone = student.browser(WECHAT);
    let old = phone.get(&scan).await;
    assert_eq!(old.status, 410);
    old.says("已生成新的二维码").is_silent_about(&["测*"]);

    let scan = student.scan_path().await;
    student.gateway.clock.advance_ms(170_000);
    let late = student.claim(&mut phone, &scan, "of-ZHANG-1").await;
    assert_eq!(late.status, 410);
    late.says("剩余时间不足");
    student.gateway.clock.advance_ms(10_000);
    phone
        .get(&scan)
        .await
        .says("二维码已过期")
        .says("未产生扣款");
    student.gateway.stop().await;
}

async fn a_claimant_gives_the_code_up(on: Pair) {
    let student = Student::start(on).await;
    let (mut computer, scan) = student.code().await;
    let mut phone = student.browser(ALIPAY);
    let claimed = student.claim(&mut phone, &scan, "of-2088-1").await;
    let form = [
        ("csrf", claimed.member("/release", "csrf")),
        ("k", claimed.member("/release", "k")),
    ];
    let form: Vec<(&str, &str)> = form.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let released = phone.post(&format!("{scan}/release"), &form).await;
    assert_eq!(released.status, 200, "{}", released.text);
    released.says("已放弃付款");
    computer.get(&student.pay).await.says("手机端已放弃付款");
    assert_eq!(phone.get(&scan).await.status, 410);
    student.gateway.stop().await;
}

async fn an_alipay_payer_gets_a_trade_number_and_a_busy_wallet_keeps_the_claim(on: Pair) {
    let student = Student::start(on).await;
    let (_, scan) = student.code().await;
    let mut phone = student.browser(ALIPAY);
    let claimed = student.claim(&mut phone, &scan, "of-2088-1").await;
    let form = [
        ("csrf", claimed.member("/pay", "csrf")),
        ("k", claimed.member("/pay", "k")),
    ];
    let form: Vec<(&str, &str)> = form.iter().map(|(k, v)| (*k, v.as_str())).collect();
    *student.gateway.alipay.trade.lock().unwrap() = TradeAnswer::Refused {
        code: "ACQ.SYSTEM".into(),
    };
    let refused = phone.post(&format!("{scan}/pay"), &form).await;
    assert_eq!(refused.status, 410);
    refused.says("支付未完成").says("未产生扣款");
    let (_, scan) = student.code().await;
    *student.gateway.alipay.trade.lock().unwrap() = TradeAnswer::Made {
        handle: "2026112022001".into(),
    };
    let claimed = student.claim(&mut phone, &scan, "of-2088-2").await;
    let form = [
        ("csrf", claimed.member("/pay", "csrf")),
        ("k", claimed.member("/pay", "k")),
    ];
    let form: Vec<(&str, &str)> = form.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let paying = phone.post(&format!("{scan}/pay"), &form).await;
    paying.says("data-kind=\"trade_pay\"").says("2026112022001");
    student.gateway.stop().await;
}

/// 查询缴费结果 on many screens, 更新缴费结果 at the school, and the schedule beside them: one question.
async fn two_hundred_presses_at_once_are_one_question(on: Pair) {
    let student = Student::start(on).await;
    let (computer, _) = student.code().await;
    student.gateway.scan(student.order).await;
    student.gateway.clock.advance_ms(5_000);
    let wechat = &student.gateway.wechat;
    *wechat.query_takes.lock().unwrap() = Duration::from_millis(700);
    let number = enrollpay::order::OutTradeNo {
        order: student.order,
        attempt: enrollpay::order::AttemptNumber::FIRST,
    };
    *wechat.query.lock().unwrap() = TradeState::Paid(enrollpay::provider::Success {
        out_trade_no: number.to_string(),
        application: "app-school-wechat".into(),
        transaction_id: "4200001".into(),
        amount: enrollpay::order::Fen::new(14_000),
        currency: "CNY".into(),
        succeeded_at: student.gateway.clock.now(),
    });
    let mut first = student.browser(COMPUTER);
    first.cookies.clone_from(&computer.cookies);
    let page = first.get(&student.pay).await;
    let csrf = page.member("/query", "csrf");

    let began = tokio::time::Instant::now();
    let by_payer = (0..100).map(|_| {
        let mut browser = Browser {
            client: first.client.clone(),
            base: first.base.clone(),
            agent: first.agent,
            cookies: first.cookies.clone(),
            language: first.language,
        };
        let (path, csrf) = (format!("{}/query", student.pay), csrf.clone());
        async move { browser.fetch(&path, &[("csrf", &csrf)]).await }
    });
    let path = format!("/v1/orders/{}/query", student.order);
    let by_school = (0..100).map(|_| student.gateway.post(&path, &Value::Null));
    let (pages, answers) = futures_util::future::join(
        futures_util::future::join_all(by_payer),
        futures_util::future::join_all(by_school),
    )
    .await;
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(wechat.queries.load(Ordering::SeqCst), 1);
    for page in &pages {
        assert_eq!(page.status, 200, "{}", page.text);
        assert_eq!(page.json()["answer"], pages[0].json()["answer"]);
        assert_eq!(page.json()["state"], "paid", "{}", page.text);
    }
    for answer in &answers {
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(answer.body["outcome"], "paid");
        assert_eq!(answer.body["as_of"], answers[0].body["as_of"]);
    }
    student.gateway.stop().await;
}

async fn a_page_says_when_the_provider_does_not_answer(on: Pair) {
    let student = Student::start(on).await;
    let (mut computer, _) = student.code().await;
    student.gateway.scan(student.order).await;
    let page = computer.get(&student.pay).await;
    let csrf = page.member("/query", "csrf");
    let press = format!("{}/query", student.pay);
    for (state, said) in [
        (TradeState::Unknown, "支付机构暂未答复"),
        (TradeState::Unpaid, "暂未查到付款记录"),
    ] {
        student.gateway.clock.advance_ms(3_000);
        *student.gateway.wechat.query.lock().unwrap() = state;
        computer.fetch(&press, &[("csrf", &csrf)]).await.says(said);
        // Without scripts the same, after the redirect.
        let back = computer.post(&press, &[("csrf", &csrf)]).await;
        assert_eq!(back.status, 303);
        computer.get(&student.pay).await.says(said);
    }
    student.gateway.stop().await;
}

/// The press is over as soon as it is known that there will be no trade for now.
async fn a_press_does_not_wait_for_a_provider_that_did_not_say(on: Pair) {
    let student = Student::start(on).await;
    let (_, scan) = student.code().await;
    let mut phone = student.browser(WECHAT);
    let claimed = student.claim(&mut phone, &scan, "of-openid-1").await;
    let form = [
        ("csrf", claimed.member("/pay", "csrf")),
        ("k", claimed.member("/pay", "k")),
    ];
    let form: Vec<(&str, &str)> = form.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let trade = &student.gateway.wechat.trade;
    let made = trade.lock().unwrap().clone();
    *trade.lock().unwrap() = TradeAnswer::Unknown;
    let began = tokio::time::Instant::now();
    let busy = phone.fetch(&format!("{scan}/pay"), &form).await;
    assert_eq!(busy.status, 502, "{}", busy.text);
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    *trade.lock().unwrap() = made;
    let paying = phone.fetch(&format!("{scan}/pay"), &form).await;
    assert_eq!(paying.status, 200, "the claim stands: {}", paying.text);
    student.gateway.stop().await;
}

async fn no_link_carries_the_person_who_must_pay(on: Pair) {
    let wishes = Wishes {
        on,
        h5: true,
        checks_payers: vec![Wallet::Wechat, Wallet::Alipay],
        ..Wishes::default()
    };
    let mut order = new_order("A-1");
    order["payer_identity"] = "provider".into();
    let student = Student::with(wishes, &order).await;
    let mut phone = student.browser(PHONE);
    let page = phone.get(&student.pay).await;
    page.says("须为缴费人本人实名账户").says("打开微信付款");
    assert!(!page.text.contains("打开支付宝付款"), "{}", page.text);
    let csrf = page.member("/go", "csrf");
    let go = format!("{}/go", student.pay);
    let gone = phone.post(&go, &[("csrf", &csrf), ("via", "wap")]).await;
    assert!(!gone.text.contains("?k=k"), "{}", gone.text);
    let orders = &student.gateway.deps.orders;
    let stored = orders.read(student.order).await.unwrap().unwrap();
    assert!(
        stored.order.attempts.is_empty(),
        "the press started nothing"
    );
    let gone = phone.post(&go, &[("csrf", &csrf), ("via", "h5")]).await;
    assert_eq!(gone.status, 303, "{}", gone.text);
    student.gateway.stop().await;
}

async fn a_phone_pays_by_its_buttons(on: Pair) {
    let wishes = Wishes {
        on,
        h5: true,
        ..Wishes::default()
    };
    let student = Student::with(wishes, &new_order("A-1")).await;
    let go = format!("{}/go", student.pay);
    let mut phone = student.browser(PHONE);
    let page = phone.get(&student.pay).await;
    page.says("打开支付宝付款").says("打开微信付款");
    let csrf = page.member("/go", "csrf");
    let gone = phone.post(&go, &[("csrf", &csrf), ("via", "h5")]).await;
    assert_eq!(gone.status, 303, "{}", gone.text);
    let to = gone.header("location").to_owned();
    assert!(to.starts_with("/s/") && to.contains("?k=k"), "{to}");
    // The address is enough: no cookie is needed.
    let confirm = student.browser(PHONE).get(&to).await;
    confirm.says("请确认缴费信息").says("测*");
    let scan = to.split('?').next().unwrap();
    let form = [("k", confirm.member("/pay", "k"))];
    let form: Vec<(&str, &str)> = form.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let paying = student
        .browser(PHONE)
        .post(&format!("{scan}/pay"), &form)
        .await;
    paying
        .says("data-kind=\"link\"")
        .says("https://wallet.example/");
    let stored = student
        .gateway
        .deps
        .orders
        .read(student.order)
        .await
        .unwrap()
        .unwrap();
    let claim = stored.order.attempts[0].claim.unwrap();
    assert_eq!(claim.product, Product::WechatH5);
    // Pressed again by the same browser: the same code goes on, nothing is started.
    let again = phone.post(&go, &[("csrf", &csrf), ("via", "h5")]).await;
    assert!(again.header("location").starts_with(scan));

    // Inside WeChat the answer is a page of ours that leads to the code's own address.
    let other = student.gateway.post("/v1/orders", &new_order("A-2")).await;
    let pay = other.body["cashier_url"].as_str().unwrap()["https://pay.example.edu.cn".len()..]
        .to_owned();
    let mut wallet = student.browser(WECHAT);
    let page = wallet.get(&pay).await;
    page.says("微信支付").says("在浏览器中打开");
    let csrf = page.member("/go", "csrf");
    let left = wallet
        .post(&format!("{pay}/go"), &[("csrf", &csrf), ("via", "jsapi")])
        .await;
    assert_eq!(left.status, 200);
    left.says("data-follow=\"/s/");
    let unknown = wallet
        .fetch(&format!("{pay}/go"), &[("csrf", &csrf), ("via", "cash")])
        .await;
    assert_eq!(
        (unknown.status, &unknown.json()["code"]),
        (400, &"validation_failed".into())
    );
    student.gateway.stop().await;
}

async fn the_payer_ticks_before_the_first_code_where_the_school_asks(on: Pair) {
    let mut order = new_order("A-1");
    order["payer_identity"] = "confirm".into();
    let wishes = Wishes {
        on,
        ..Wishes::default()
    };
    let student = Student::with(wishes, &order).await;
    let mut computer = student.browser(COMPUTER);
    let page = computer.get(&student.pay).await;
    page.says("请核对缴费信息").says("我已核对考生、项目和金额");
    let csrf = page.member("/attempts", "csrf");
    let path = format!("{}/attempts", student.pay);
    let form = [("csrf", csrf.as_str()), ("checked", "1")];
    let unticked = computer.fetch(&path, &form[..1]).await;
    assert_eq!(unticked.status, 400);
    assert_eq!(unticked.json()["panel"]["answer"], "请先勾选“我已核对”");
    assert_eq!(student.status().await, Status::Unpaid);
    assert_eq!(
        computer.fetch(&path, &form).await.json()["state"],
        "awaiting"
    );
    student.gateway.stop().await;
}

async fn native_mode_shows_one_wallets_code_at_a_time(on: Pair) {
    let wishes = Wishes {
        on,
        native: true,
        ..Wishes::default()
    };
    let student = Student::with(wishes, &new_order("A-1")).await;
    let mut computer = student.browser(COMPUTER);
    let page = computer.get(&student.pay).await;
    page.says("请选择付款方式")
        .says("用微信支付")
        .says("用支付宝支付");
    let csrf = page.member("/attempts", "csrf");
    let path = format!("{}/attempts", student.pay);
    let form = [("csrf", csrf.as_str()), ("wallet", "wechat")];
    let panel = computer.fetch(&path, &form).await.json();
    assert_eq!(panel["state"], "awaiting");
    assert_eq!(panel["code"]["caption"], "请用微信“扫一扫”");
    assert_eq!(panel["wallets"], serde_json::json!(["alipay"]));
    assert_eq!(panel["go"], false);
    student.gateway.stop().await;
}

/// One event of a stream: its name, id and data.
async fn next_event(
    stream: &mut reqwest::Response,
    rest: &mut String,
) -> Option<(String, String, Value)> {
    loop {
        if let Some((event, after)) = rest
            .split_once("\n\n")
            .map(|(e, r)| (e.to_owned(), r.to_owned()))
        {
            *rest = after;
            let line = |name: &str| {
                event
                    .lines()
                    .find_map(|line| line.strip_prefix(&format!("{name}: ")))
                    .unwrap_or_default()
                    .to_owned()
            };
            if line("data").is_empty() {
                continue;
            }
            let data = serde_json::from_str(&line("data")).unwrap();
            return Some((line("event"), line("id"), data));
        }
        let chunk = stream.chunk().await.ok()??;
        rest.push_str(std::str::from_utf8(&chunk).unwrap());
    }
}

async fn an_open_page_is_told_at_once_and_streams_end(on: Pair) {
    let student = Student::start(on).await;
    let url = format!("{}{}/events", student.gateway.base, student.pay);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut stream = client.get(&url).send().await.unwrap();
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    assert_eq!(stream.headers()["cache-control"], "no-store");
    assert_eq!(stream.headers()["x-accel-buffering"], "no");
    let mut rest = String::new();
    let (name, id, data) = next_event(&mut stream, &mut rest).await.unwrap();
    assert_eq!(
        (name.as_str(), id.as_str(), &data["state"]),
        ("state", "1", &"ready".into())
    );

    let (_, scan) = student.code().await;
    let (_, id, data) = next_event(&mut stream, &mut rest).await.unwrap();
    assert_eq!((id.as_str(), &data["state"]), ("2", &"awaiting".into()));
    assert_eq!(data["remaining_ms"], 180_000);
    let mut phone = student.browser(WECHAT);
    student.claim(&mut phone, &scan, "of-ZHANG-1").await;
    let (_, _, data) = next_event(&mut stream, &mut rest).await.unwrap();
    assert_eq!(data["state"], "scanned");

    // Three more pages: the oldest is told to ask now and then, and its stream ends.
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(client.get(&url).send().await.unwrap());
    }
    let (name, ..) = next_event(&mut stream, &mut rest).await.unwrap();
    assert_eq!(name, "poll");
    assert!(next_event(&mut stream, &mut rest).await.is_none());

    student.gateway.deps.streams.close();
    for mut other in others {
        let mut rest = String::new();
        while next_event(&mut other, &mut rest).await.is_some() {}
    }
    assert_eq!(client.get(&url).send().await.unwrap().status(), 204);
    student.gateway.stop().await;
}
