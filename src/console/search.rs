//! From what is read over the phone to the order. What was typed may be somebody's number: it travels in
//! a form, never in an address.

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::page::{self, Frame};
use super::visitor::{self, Failure};
use super::{Console, order, words};
use crate::operations::Login;

#[derive(Template)]
#[template(path = "console/search.html")]
struct Page {
    frame: Frame,
    typed: Option<String>,
    found: Vec<Found>,
}

/// One order in a list.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub id: String,
    pub number: String,
    pub subject: String,
    pub payer: String,
    pub amount: String,
    pub status: &'static str,
    pub tone: words::Tone,
    pub created_at: String,
}

/// `GET /search`
pub(super) async fn get(
    console: web::Data<Console>,
    request: HttpRequest,
) -> Result<HttpResponse, Failure> {
    let login = visitor::signed(&console, &request).await?;
    Ok(show(&console, &login, None, Vec::new()))
}

fn show(
    console: &Console,
    login: &Login,
    typed: Option<String>,
    found: Vec<Found>,
) -> HttpResponse {
    page::ok(&Page {
        frame: Frame::of(console, login, "查订单", "search"),
        typed,
        found,
    })
}

/// `POST /search`
pub(super) async fn post(
    console: web::Data<Console>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let (login, form) = visitor::signed_form(&console, &request, payload).await?;
    let typed = form.get("q").trim();
    let before = |failure: Failure| failure.before(&console, &login);
    let orders = console
        .operations
        .find(typed)
        .await
        .map_err(|error| before(error.into()))?;
    if let [only] = orders[..] {
        return Ok(page::to(&format!("/orders/{only}")));
    }
    let mut found = Vec::new();
    for id in orders {
        let stored = console.operations.store.order(id).await;
        if let Some(stored) = stored.map_err(|error| before(error.into()))? {
            found.push(order::found(&console, &stored));
        }
    }
    Ok(show(&console, &login, Some(typed.to_owned()), found))
}
