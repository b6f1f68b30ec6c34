//! Who is there: the session's cookie, the forms that only our own pages can send, and what is said to
//! who may not, or asks for what is not there.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use actix_web::cookie::{Cookie, SameSite};
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, ResponseError, web};
use subtle::ConstantTimeEq as _;

use super::Console;
use super::page::{self, Frame};
use super::words;
use crate::http::{address, body};
use crate::operations::{Login, OperationError};
use crate::store::StoreError;

pub(super) const SESSION: &str = "console_session";
/// Before the login: what the login's form is bound to.
pub(super) const VISIT: &str = "console_visit";
const LARGEST_FORM: usize = 8 * 1024;
const FORM_DEADLINE: Duration = Duration::from_secs(3);

/// Why a page was not shown, or an action not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nobody is logged in.
    LogIn,
    Said {
        status: StatusCode,
        title: &'static str,
        text: String,
        frame: Box<Frame>,
    },
}

impl Failure {
    fn new(status: StatusCode, title: &'static str, text: impl Into<String>) -> Self {
        Self::Said {
            status,
            title,
            text: text.into(),
            frame: Box::new(Frame::outside(title)),
        }
    }

    /// The same within the page of somebody who is logged in.
    pub(super) fn before(self, console: &Console, login: &Login) -> Self {
        match self {
            Self::LogIn => Self::LogIn,
            Self::Said {
                status,
                title,
                text,
                ..
            } => Self::Said {
                status,
                title,
                text,
                frame: Box::new(Frame::of(console, login, title, "")),
            },
        }
    }

    pub(super) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "没有找到",
            "没有这个页面、订单或记录。",
        )
    }

    pub(super) fn wrong_form() -> Self {
        let text = "页面已失效，操作没有执行。请返回、刷新后重试。";
        Self::new(StatusCode::FORBIDDEN, "操作没有执行", text)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store gave the console no answer");
        let text = "数据库暂时没有回答，请稍后再试。";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "暂时无法回答", text)
    }
}

impl From<OperationError> for Failure {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::Store(error) => error.into(),
            OperationError::NotFound { .. } => Self::not_found(),
            OperationError::Unanswered(why) => {
                tracing::warn!(why, "an order gave the console no answer");
                let text = "订单没有回答，不知道操作是否完成。请稍后打开订单查看。";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "暂时无法回答", text)
            }
            error => Self::new(StatusCode::CONFLICT, "操作没有执行", words::refused(&error)),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LogIn => formatter.write_str("nobody is logged in"),
            Self::Said { title, .. } => formatter.write_str(title),
        }
    }
}

impl ResponseError for Failure {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::LogIn => StatusCode::SEE_OTHER,
            Self::Said { status, .. } => *status,
        }
    }

    fn error_response(&self) -> HttpResponse {
        match self {
            Self::LogIn => page::to("/login"),
            Self::Said {
                status,
                text,
                frame,
                ..
            } => page::message(*status, (**frame).clone(), text),
        }
    }
}

/// Whoever is logged in.
pub(super) async fn signed(console: &Console, request: &HttpRequest) -> Result<Login, Failure> {
    let cookie = request.cookie(SESSION).ok_or(Failure::LogIn)?;
    let login = console.operations.logged_in(cookie.value()).await?;
    login.ok_or(Failure::LogIn)
}

/// The members of a form.
#[derive(Debug)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    pub(super) fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(member, _)| member == name);
        found.map_or("", |(_, value)| value)
    }
}

/// A form from a page that was made for whoever holds `bound`.
pub(super) async fn form(
    console: &Console,
    request: &HttpRequest,
    payload: web::Payload,
    bound: &str,
) -> Result<Form, Failure> {
    let bytes = body::read(request, payload, LARGEST_FORM, FORM_DEADLINE)
        .await
        .map_err(|_| Failure::wrong_form())?;
    let form = Form(url::form_urlencoded::parse(&bytes).into_owned().collect());
    let expected = csrf(console, bound);
    if bool::from(expected.as_bytes().ct_eq(form.get("csrf").as_bytes())) {
        Ok(form)
    } else {
        Err(Failure::wrong_form())
    }
}

/// A form of somebody who is logged in.
pub(super) async fn signed_form(
    console: &Console,
    request: &HttpRequest,
    payload: web::Payload,
) -> Result<(Login, Form), Failure> {
    let login = signed(console, request).await?;
    let form = form(console, request, payload, &login.token)
        .await
        .map_err(|failure| failure.before(console, &login))?;
    Ok((login, form))
}

/// What the forms of a session, or of a visit before it, carry.
pub(super) fn csrf(console: &Console, bound: &str) -> String {
    format!(
        "{:032x}",
        console.operations.sealer.index("console form", bound)
    )
}

/// A cookie of ours; with no value it goes.
pub(super) fn cookie(
    console: &Console,
    request: &HttpRequest,
    name: &'static str,
    value: Option<&str>,
) -> Cookie<'static> {
    let mut cookie = Cookie::build(name, value.unwrap_or_default().to_owned())
        .path("/")
        .http_only(true)
        .same_site(SameSite::Strict)
        .secure(is_https(console, request))
        .finish();
    if value.is_none() {
        cookie.make_removal();
    }
    cookie
}

/// As a proxy of ours says: we speak plain HTTP ourselves.
fn is_https(console: &Console, request: &HttpRequest) -> bool {
    let peer = request.peer_addr().map(|peer| peer.ip().to_canonical());
    let trusted = |peer: IpAddr| {
        console
            .trusted_proxies
            .iter()
            .any(|net| net.contains(&peer))
    };
    let said = request.headers().get("x-forwarded-proto");
    peer.is_some_and(trusted)
        && said.is_some_and(|said| said.as_bytes().eq_ignore_ascii_case(b"https"))
}

/// From where a login is tried.
pub(super) fn client(console: &Console, request: &HttpRequest) -> IpAddr {
    address::client_address(request, &console.trusted_proxies)
        .unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

/// `GET` of anything else.
pub(super) async fn nowhere(
    console: web::Data<Console>,
    request: HttpRequest,
) -> Result<HttpResponse, Failure> {
    let login = signed(&console, &request).await?;
    Err(Failure::not_found().before(&console, &login))
}

/// Where a form that was done leads back to.
pub(super) fn done(path: &str, note: &str) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, format!("{path}?done={note}")))
        .finish()
}
