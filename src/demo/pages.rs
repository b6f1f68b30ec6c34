//! The school's pages and what their buttons do. The browser never speaks to the merchant API: the
//! school's server does, with its key.

use actix_web::http::header::{self, ContentType, HeaderMap, LOCATION};
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use serde::{Deserialize, Serialize};

use super::School;
use super::gateway::{Order, Trouble};
use super::receive::{self, Headers};
use super::state::{COURSES, Course, Disbelieved, Heard, RFC3339, Registration, beijing, total};

pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/", web::get().to(newest))
        .route("/registrations", web::post().to(register))
        .route("/registrations/{number}", web::get().to(show))
        .route("/registrations/{number}/pay", web::post().to(pay))
        .route("/registrations/{number}/refresh", web::post().to(refresh))
        .route("/registrations/{number}/status", web::get().to(status))
        .route("/events", web::get().to(events))
        .route("/webhook", web::post().to(webhook))
        .route("/assets/demo.css", web::get().to(css))
        .route("/assets/demo.js", web::get().to(js))
        .default_service(web::to(missing));
}

async fn css() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/css; charset=utf-8")
        .body(include_str!("../../templates/demo/demo.css"))
}

async fn js() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/javascript; charset=utf-8")
        .body(include_str!("../../templates/demo/demo.js"))
}

#[derive(Template)]
#[template(path = "demo/payment.html")]
struct PaymentPage<'a> {
    active: &'static str,
    registration: &'a Registration,
    order: Option<&'a Order>,
    status: StatusWords,
    courses: &'static [Course],
    total: i64,
    earlier: Vec<&'a Registration>,
    notice: Option<Notice>,
}

#[derive(Template)]
#[template(path = "demo/events.html")]
struct EventsPage<'a> {
    active: &'static str,
    heard: Vec<&'a Heard>,
    refused: Vec<&'a Disbelieved>,
}

#[derive(Template)]
#[template(path = "demo/missing.html")]
struct MissingPage {
    active: &'static str,
}

/// The school's words for the state of a payment.
struct StatusWords {
    class: &'static str,
    chinese: &'static str,
    english: &'static str,
    payable: bool,
}

impl StatusWords {
    fn of(order: Option<&Order>) -> Self {
        let (class, chinese, english, payable) = match order.map(|order| order.status.as_str()) {
            None | Some("unpaid") => ("unpaid", "未缴费", "unpaid", true),
            Some("paying") => ("paying", "缴费中", "payment under way", true),
            Some("paid") => ("paid", "已缴费", "paid", false),
            Some("closed") => ("closed", "已关闭", "closed", false),
            Some(_) => ("closed", "未知", "unknown", false),
        };
        Self {
            class,
            chinese,
            english,
            payable,
        }
    }
}

/// A line at the top of the page.
struct Notice {
    class: &'static str,
    text: String,
}

/// Fen as a school writes yuan: `140`, `35.50`.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "templates hand out references"
)]
fn yuan(fen: &i64) -> String {
    match fen % 100 {
        0 => format!("{}", fen / 100),
        rest => format!("{}.{rest:02}", fen / 100),
    }
}

/// `2026-11-20T10:31:05+08:00` as people read it.
fn readable(time: &str) -> String {
    time.get(..19).unwrap_or(time).replace('T', " ")
}

fn wallet(wallet: &str) -> &str {
    match wallet {
        "wechat" => "微信支付 WeChat Pay",
        "alipay" => "支付宝 Alipay",
        other => other,
    }
}

fn page(status: u16, template: &impl Template) -> HttpResponse {
    let status = actix_web::http::StatusCode::from_u16(status)
        .unwrap_or(actix_web::http::StatusCode::INTERNAL_SERVER_ERROR);
    match template.render() {
        Ok(html) => HttpResponse::build(status)
            .content_type(ContentType::html())
            .body(html),
        Err(error) => {
            tracing::error!(%error, "a page of the demo cannot be rendered");
            HttpResponse::InternalServerError().finish()
        }
    }
}

fn go_to(address: &str) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((LOCATION, address))
        .finish()
}

async fn missing() -> HttpResponse {
    page(404, &MissingPage { active: "" })
}

async fn newest(school: web::Data<School>) -> HttpResponse {
    let state = school.state.lock().await;
    match state.newest() {
        Some(registration) => go_to(&format!("/registrations/{}", registration.number)),
        None => page(404, &MissingPage { active: "" }),
    }
}

/// Another site must not press our buttons.
fn from_elsewhere(headers: &HeaderMap) -> bool {
    headers
        .get("sec-fetch-site")
        .is_some_and(|site| site != "same-origin" && site != "none")
}

async fn register(request: HttpRequest, school: web::Data<School>) -> HttpResponse {
    if from_elsewhere(request.headers()) {
        return HttpResponse::Forbidden().finish();
    }
    let mut state = school.state.lock().await;
    let now = school.clock.now().as_millis();
    let number = state.register(now, &*school.random);
    if school.save(&state).is_err() {
        return HttpResponse::InternalServerError().finish();
    }
    go_to(&format!("/registrations/{number}"))
}

/// `checked` says that 更新缴费结果 was just pressed.
#[derive(Deserialize)]
struct Shown {
    checked: Option<String>,
}

async fn show(
    school: web::Data<School>,
    number: web::Path<String>,
    query: web::Query<Shown>,
) -> HttpResponse {
    let checked = query.checked.is_some();
    school
        .show(200, &number, |registration| {
            let at = registration.checked_at.as_deref().filter(|_| checked)?;
            let clock = at.get(11..19).unwrap_or(at);
            let paid = registration.order.as_ref()?.status == "paid";
            Some(if paid {
                Notice {
                    class: "good",
                    text: format!("已查到缴费记录（{clock} 查询） Payment found."),
                }
            } else {
                Notice {
                    class: "info",
                    text: format!(
                        "暂未查到付款记录（{clock} 查询）。如刚付款，请 10 秒后再查 \
                     No payment found yet; if you just paid, check again in 10 s."
                    ),
                }
            })
        })
        .await
}

async fn pay(
    request: HttpRequest,
    school: web::Data<School>,
    number: web::Path<String>,
) -> HttpResponse {
    if from_elsewhere(request.headers()) {
        return HttpResponse::Forbidden().finish();
    }
    // The way back is part of what is asked for, so it is fixed before the first call.
    let body = {
        let mut state = school.state.lock().await;
        let Some(registration) = state.registration_mut(&number) else {
            return page(404, &MissingPage { active: "" });
        };
        if !registration.asked {
            registration.asked = true;
            registration.return_url = return_url(&request, &number);
        }
        let body = registration.order_request();
        if school.save(&state).is_err() {
            return HttpResponse::InternalServerError().finish();
        }
        body
    };
    match school.gateway.create(&body).await {
        Ok(order) => {
            let paid = order.status == "paid";
            let cashier = order.cashier_url.clone();
            school.learn(order, None).await;
            match cashier.filter(|url| !paid && is_web(url)) {
                Some(url) => go_to(&url),
                None => go_to(&format!("/registrations/{number}")),
            }
        }
        Err(trouble) => school.show_trouble(&number, trouble).await,
    }
}

/// The page that this browser sees, where the gateway accepts it: plain http to loopback only.
fn return_url(request: &HttpRequest, number: &str) -> Option<String> {
    let host = request.headers().get(header::HOST)?.to_str().ok()?;
    let url = url::Url::parse(&format!("http://{host}/registrations/{number}")).ok()?;
    let loopback = match url.host()? {
        url::Host::Domain(name) => name == "localhost",
        url::Host::Ipv4(address) => address.is_loopback(),
        url::Host::Ipv6(address) => address.is_loopback(),
    };
    loopback.then(|| url.into())
}

fn is_web(address: &str) -> bool {
    url::Url::parse(address).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}

async fn refresh(
    request: HttpRequest,
    school: web::Data<School>,
    number: web::Path<String>,
) -> HttpResponse {
    if from_elsewhere(request.headers()) {
        return HttpResponse::Forbidden().finish();
    }
    let id = {
        let state = school.state.lock().await;
        let order = state
            .registration(&number)
            .and_then(|registration| registration.order.as_ref());
        match order {
            Some(order) => order.id.clone(),
            None => return go_to(&format!("/registrations/{number}")),
        }
    };
    match school.gateway.query(&id).await {
        Ok(order) => {
            let now = beijing(school.clock.now().as_millis(), RFC3339);
            school.learn(order, Some(now)).await;
            go_to(&format!("/registrations/{number}?checked=1"))
        }
        Err(trouble) => school.show_trouble(&number, trouble).await,
    }
}

#[derive(Serialize)]
struct StatusAnswer<'a> {
    status: &'a str,
    version: u64,
}

/// What the page's script asks now and then.
async fn status(school: web::Data<School>, number: web::Path<String>) -> HttpResponse {
    let state = school.state.lock().await;
    let Some(registration) = state.registration(&number) else {
        return HttpResponse::NotFound().finish();
    };
    let order = registration.order.as_ref();
    HttpResponse::Ok().json(StatusAnswer {
        status: StatusWords::of(order).class,
        version: order.map_or(0, |order| order.version),
    })
}

async fn events(school: web::Data<School>) -> HttpResponse {
    let state = school.state.lock().await;
    page(
        200,
        &EventsPage {
            active: "events",
            heard: state.heard().take(100).collect(),
            refused: state.refused().collect(),
        },
    )
}

/// Acknowledged once it is on disk, and only then.
async fn webhook(
    request: HttpRequest,
    school: web::Data<School>,
    body: web::Bytes,
) -> HttpResponse {
    let text = |name| request.headers().get(name)?.to_str().ok();
    let headers = Headers {
        id: text("webhook-id"),
        timestamp: text("webhook-timestamp"),
        signature: text("webhook-signature"),
    };
    let now = school.clock.now();
    let verified = receive::verify(&school.webhook_key, headers, &body, now.as_seconds());
    let mut state = school.state.lock().await;
    match verified {
        Ok(notice) => {
            state.hear(notice, now.as_millis());
            match school.save(&state) {
                Ok(()) => HttpResponse::NoContent().finish(),
                Err(_) => HttpResponse::InternalServerError().finish(),
            }
        }
        Err(why) => {
            state.disbelieve(why, now.as_millis());
            tracing::warn!(%why, "the demo does not believe a webhook");
            match why {
                receive::Refused::Unreadable => HttpResponse::BadRequest().finish(),
                _ => HttpResponse::Unauthorized().finish(),
            }
        }
    }
}

impl School {
    /// Writes the state to its file, where there is one. It is small, so the wait is short.
    fn save(&self, state: &super::State) -> std::io::Result<()> {
        match &self.state_file {
            None => Ok(()),
            Some(path) => state.save(path).inspect_err(
                |error| tracing::error!(%error, "the demo's state file cannot be written"),
            ),
        }
    }

    /// Takes in an answer of the gateway. What is not on disk is asked for again another time.
    async fn learn(&self, order: Order, checked_at: Option<String>) {
        let mut state = self.state.lock().await;
        if let (Some(at), Some(registration)) =
            (checked_at, state.registration_mut(&order.merchant_order_no))
        {
            registration.checked_at = Some(at);
        }
        state.learn(order);
        let _ = self.save(&state);
    }

    async fn show_trouble(&self, number: &str, trouble: Trouble) -> HttpResponse {
        tracing::warn!(%trouble, "the gateway refused the demo");
        let notice = |_: &Registration| {
            Some(Notice {
                class: "bad",
                text: trouble.to_string(),
            })
        };
        self.show(502, number, notice).await
    }

    async fn show(
        &self,
        status: u16,
        number: &str,
        notice: impl FnOnce(&Registration) -> Option<Notice>,
    ) -> HttpResponse {
        let state = self.state.lock().await;
        let Some(registration) = state.registration(number) else {
            return page(404, &MissingPage { active: "" });
        };
        let order = registration.order.as_ref();
        let others = state.registrations().filter(|one| one.number != number);
        page(
            status,
            &PaymentPage {
                active: "payment",
                registration,
                order,
                status: StatusWords::of(order),
                courses: &COURSES,
                total: total(),
                earlier: others.take(20).collect(),
                notice: notice(registration),
            },
        )
    }
}
