//! What operators did, the latest first.

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::Console;
use super::page::{self, Frame};
use super::visitor::{self, Failure};

const ROWS: usize = 100;

#[derive(Template)]
#[template(path = "console/audit.html")]
struct Page {
    frame: Frame,
    rows: Vec<Row>,
    /// Where earlier ones begin.
    earlier: Option<u64>,
}

struct Row {
    id: u64,
    at: String,
    operator: String,
    action: String,
    target: String,
    outcome: String,
}

/// `GET /audit?before=…`
pub(super) async fn get(
    console: web::Data<Console>,
    request: HttpRequest,
) -> Result<HttpResponse, Failure> {
    let login = visitor::signed(&console, &request).await?;
    let before = url::form_urlencoded::parse(request.query_string().as_bytes())
        .find(|(name, _)| name == "before")
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(u64::MAX);
    let entries = console.operations.store.audit_before(before, ROWS).await;
    let entries = entries.map_err(|error| Failure::from(error).before(&console, &login))?;
    let earlier = entries
        .last()
        .map(|entry| entry.id)
        .filter(|id| *id > 1 && entries.len() == ROWS);
    let zone = console.zone();
    let rows = entries
        .into_iter()
        .map(|entry| Row {
            id: entry.id,
            at: zone.date_and_clock(entry.at),
            operator: entry.operator,
            action: entry.action,
            target: entry.target,
            outcome: entry.outcome,
        })
        .collect();
    Ok(page::ok(&Page {
        frame: Frame::of(&console, &login, "操作记录", "audit"),
        rows,
        earlier,
    }))
}
