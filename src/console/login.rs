//! In and out.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::page::{self, Frame};
use super::visitor::{self, Failure, SESSION, VISIT};
use super::{Console, LOGINS};
use crate::operations::{Hidden, Login};
use crate::store::desk::OperatorRow;

#[derive(Template)]
#[template(path = "console/login.html")]
struct Page {
    frame: Frame,
    name: String,
    problem: Option<&'static str>,
}

/// `GET /login`
pub(super) async fn get(
    console: web::Data<Console>,
    request: HttpRequest,
) -> Result<HttpResponse, Failure> {
    if visitor::signed(&console, &request).await.is_ok() {
        return Ok(page::to("/"));
    }
    Ok(show(&console, &request, StatusCode::OK, "", None))
}

fn show(
    console: &Console,
    request: &HttpRequest,
    status: StatusCode,
    name: &str,
    problem: Option<&'static str>,
) -> HttpResponse {
    let visit = request
        .cookie(VISIT)
        .map(|cookie| cookie.value().to_owned());
    let visit = visit.filter(|visit| visit.len() == 32);
    let visit = visit.unwrap_or_else(|| console.operations.random.hex::<16>());
    let frame = Frame {
        csrf: visitor::csrf(console, &visit),
        ..Frame::outside("登录")
    };
    let mut answer = page::html(
        status,
        &Page {
            frame,
            name: name.to_owned(),
            problem,
        },
    );
    let cookie = visitor::cookie(console, request, VISIT, Some(&visit));
    // A cookie of ours holds nothing that a header could not.
    let _ = answer.add_cookie(&cookie);
    answer
}

/// `POST /login`
pub(super) async fn post(
    console: web::Data<Console>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let visit = request.cookie(VISIT).ok_or_else(Failure::wrong_form)?;
    let form = visitor::form(&console, &request, payload, visit.value()).await?;
    let name = form.get("name").trim();
    let counted = console
        .operations
        .sealer
        .index("console login", &OperatorRow::key(name));
    let granted = console
        .limiters
        .login(counted, visitor::client(&console, &request))
        .await;
    if let Err(problem) = granted {
        count("limited");
        let said = "尝试次数过多，请稍后再试。";
        let status = StatusCode::TOO_MANY_REQUESTS;
        let mut answer = show(&console, &request, status, name, Some(said));
        for (header, value) in problem.headers() {
            if header == header::RETRY_AFTER {
                answer.headers_mut().insert(header.clone(), value.clone());
            }
        }
        return Ok(answer);
    }
    let password = Hidden(form.get("password").to_owned());
    let Some(Login { token, .. }) = console.operations.log_in(name, password).await? else {
        count("refused");
        // The same for a name that nobody has, a wrong password and a disabled operator.
        let said = "用户名或密码不正确。";
        let status = StatusCode::FORBIDDEN;
        return Ok(show(&console, &request, status, name, Some(said)));
    };
    count("done");
    let mut answer = page::to("/");
    for (cookie, value) in [(SESSION, Some(token.as_str())), (VISIT, None)] {
        let _ = answer.add_cookie(&visitor::cookie(&console, &request, cookie, value));
    }
    Ok(answer)
}

fn count(outcome: &'static str) {
    metrics::counter!(LOGINS, "outcome" => outcome).increment(1);
}

/// `POST /logout`
pub(super) async fn leave(
    console: web::Data<Console>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let (login, _) = visitor::signed_form(&console, &request, payload).await?;
    console.operations.log_out(&login).await?;
    let mut answer = page::to("/login");
    let _ = answer.add_cookie(&visitor::cookie(&console, &request, SESSION, None));
    Ok(answer)
}
