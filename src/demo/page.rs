//! What the pages of every school share: how they are sent, and how they write amounts and times.

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, ContentType, LOCATION};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use serde::Serialize;

use super::gateway::Order;

pub fn page(status: u16, template: &impl Template) -> HttpResponse {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
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

pub fn go_to(address: &str) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((LOCATION, address))
        .finish()
}

/// Another site must not press our buttons. Whoever tells the webhook is no browser and says no site.
pub async fn own_buttons(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    let from_elsewhere = request
        .headers()
        .get("sec-fetch-site")
        .is_some_and(|site| site != "same-origin" && site != "none");
    if from_elsewhere && *request.method() == Method::POST {
        let refused = request.into_response(HttpResponse::Forbidden());
        return Ok(refused.map_into_right_body());
    }
    Ok(next.call(request).await?.map_into_left_body())
}

/// The cashier, where there is something to pay; else the school's own page.
pub fn to_cashier(order: &Order, own_page: &str) -> HttpResponse {
    let cashier = order.cashier_url.as_deref();
    match cashier.filter(|url| order.status != "paid" && is_web(url)) {
        Some(url) => go_to(url),
        None => go_to(own_page),
    }
}

/// What a page's script asks now and then.
pub fn status_answer(order: Option<&Order>) -> HttpResponse {
    #[derive(Serialize)]
    struct Answer {
        status: &'static str,
        version: u64,
    }
    HttpResponse::Ok().json(Answer {
        status: StatusWords::of(order).class,
        version: order.map_or(0, |order| order.version),
    })
}

/// A line at the top of a page.
#[derive(Clone, Debug)]
pub struct Notice {
    pub class: &'static str,
    pub text: String,
}

impl Notice {
    pub fn bad(text: impl Into<String>) -> Self {
        Self {
            class: "bad",
            text: text.into(),
        }
    }
}

/// The schools' words for the state of a payment.
#[derive(Clone, Copy, Debug)]
pub struct StatusWords {
    pub class: &'static str,
    pub chinese: &'static str,
    pub english: &'static str,
    pub payable: bool,
}

impl StatusWords {
    pub fn of(order: Option<&Order>) -> Self {
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

/// Fen as a school writes yuan: `140`, `35.50`.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "templates hand out references"
)]
pub fn yuan(fen: &i64) -> String {
    match fen % 100 {
        0 => format!("{}", fen / 100),
        rest => format!("{}.{rest:02}", fen / 100),
    }
}

/// `2026-11-20T10:31:05+08:00` as people read it.
pub fn readable(time: &str) -> String {
    time.get(..19).unwrap_or(time).replace('T', " ")
}

pub fn wallet(wallet: &str) -> &str {
    match wallet {
        "wechat" => "微信支付 WeChat Pay",
        "alipay" => "支付宝 Alipay",
        other => other,
    }
}

/// The address of a page of ours as this browser sees it, where the gateway accepts it: plain http to
/// loopback only.
pub fn own_address(request: &HttpRequest, path: &str) -> Option<String> {
    let host = request.headers().get(header::HOST)?.to_str().ok()?;
    let url = url::Url::parse(&format!("http://{host}{path}")).ok()?;
    let loopback = match url.host()? {
        url::Host::Domain(name) => name == "localhost",
        url::Host::Ipv4(address) => address.is_loopback(),
        url::Host::Ipv6(address) => address.is_loopback(),
    };
    loopback.then(|| url.into())
}

pub fn is_web(address: &str) -> bool {
    url::Url::parse(address).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
}

/// Does the page stand in WeChat's own browser?
pub fn in_wechat(request: &HttpRequest) -> bool {
    request
        .headers()
        .get(header::USER_AGENT)
        .and_then(|agent| agent.to_str().ok())
        .is_some_and(|agent| agent.contains("MicroMessenger"))
}

pub async fn css() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/css; charset=utf-8")
        .body(include_str!("../../templates/demo/demo.css"))
}

pub async fn js() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/javascript; charset=utf-8")
        .body(include_str!("../../templates/demo/demo.js"))
}

pub fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/assets/demo.css", web::get().to(css))
        .route("/assets/demo.js", web::get().to(js));
}
