//! What every page has around it.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse};
use askama::Template;

use super::{Console, visitor, words};
use crate::operations::Login;

/// Head and foot of a page.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub title: String,
    /// Who is logged in; nobody on the way in.
    pub operator: Option<String>,
    pub csrf: String,
    /// Which part of the console is open.
    pub part: &'static str,
    /// What was just done.
    pub note: Option<&'static str>,
}

impl Frame {
    pub(super) fn of(
        console: &Console,
        login: &Login,
        title: impl Into<String>,
        part: &'static str,
    ) -> Self {
        Self {
            title: title.into(),
            operator: Some(login.operator.name().to_owned()),
            csrf: visitor::csrf(console, &login.token),
            part,
            note: None,
        }
    }

    /// For who is not logged in.
    pub(super) fn outside(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            operator: None,
            csrf: String::new(),
            part: "",
            note: None,
        }
    }

    /// With the sentence for `?done=…`, of those that we have: an address cannot put words on a page.
    pub(super) fn noting(mut self, request: &HttpRequest) -> Self {
        let note = url::form_urlencoded::parse(request.query_string().as_bytes())
            .find(|(name, _)| name == "done");
        self.note = note.and_then(|(_, value)| words::note(&value));
        self
    }
}

#[derive(Template)]
#[template(path = "console/message.html")]
struct Message<'a> {
    frame: Frame,
    text: &'a str,
}

pub(super) fn message(status: StatusCode, frame: Frame, text: &str) -> HttpResponse {
    html(status, &Message { frame, text })
}

pub(super) fn html(status: StatusCode, page: &impl Template) -> HttpResponse {
    match page.render() {
        Ok(text) => HttpResponse::build(status)
            .content_type("text/html; charset=utf-8")
            .body(text),
        Err(error) => {
            tracing::error!(%error, "a page of the console was not written");
            HttpResponse::InternalServerError().finish()
        }
    }
}

pub(super) fn ok(page: &impl Template) -> HttpResponse {
    html(StatusCode::OK, page)
}

pub(super) fn to(path: &str) -> HttpResponse {
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, path))
        .finish()
}
