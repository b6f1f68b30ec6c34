//! The merchant API, one endpoint a file. Every handler takes [`super::auth::Signed`]: no
//! signature, no handler. An order of another merchant is one that does not exist.

pub mod bills;
pub mod cancel;
pub mod create_order;
pub mod create_refund;
pub mod event_cursor;
pub mod fiscal_receipt;
pub mod list_events;
pub mod list_orders;
pub mod list_refunds;
pub mod new_order;
mod paging;
pub mod payer_links;
pub mod query;
pub mod read_order;
pub mod read_refund;
pub mod reconciliations;
pub mod resend_event;
pub mod start_attempt;
pub mod timeline;

use std::sync::Arc;

use actix_web::HttpRequest;
use serde_json::Value;

use super::auth::Signed;
use super::json::{Findings, Object, kind};
use super::problem::Problem;
use super::{Deps, refusal};
use crate::actors::refund_slot;
use crate::order::{OrderId, RefundOf};
use crate::store::{PersonalData, StoredOrder};
use crate::view::{self, View};

/// The order that the path names, if it is this merchant's.
async fn own_order(
    deps: &Deps,
    signed: &Signed,
    request: &HttpRequest,
) -> Result<Arc<StoredOrder>, Problem> {
    let id: OrderId = request
        .match_info()
        .get("id")
        .and_then(|id| id.parse().ok())
        .ok_or_else(Problem::not_found)?;
    let stored = read(deps, id).await?;
    if stored.order.terms.merchant == signed.caller.merchant.id {
        Ok(stored)
    } else {
        Err(Problem::not_found())
    }
}

pub(super) async fn read(deps: &Deps, id: OrderId) -> Result<Arc<StoredOrder>, Problem> {
    deps.orders
        .read(id)
        .await
        .map_err(|error| refusal::unanswered(&error, &deps.view()))?
        .ok_or_else(Problem::not_found)
}

/// The order as JSON, with what its personal slot still holds.
pub async fn order_json(deps: &Deps, view: &View, stored: &StoredOrder) -> Result<Value, Problem> {
    let personal = personal(deps, stored.order.id).await?;
    Ok(view.order(stored, personal.as_ref()))
}

/// A refund as JSON, with the merchant's reason where its slot still holds it.
async fn refund_json(
    deps: &Deps,
    view: &View,
    stored: &StoredOrder,
    refund: &RefundOf<'_>,
) -> Result<Value, Problem> {
    let sealed = deps
        .store
        .personal(stored.order.id, &refund_slot(refund.id))
        .await
        .map_err(|error| refusal::store_failed(&error))?;
    let reason = sealed.and_then(|sealed| {
        let opened = view::open_reason(&deps.sealer, refund.id, &sealed);
        if opened.is_none() {
            tracing::error!(order = %stored.order.id, "a refund's reason cannot be opened: is a field key missing?");
        }
        opened
    });
    let mut body = view.refund(&stored.order, refund);
    body.insert("reason".to_owned(), reason.into());
    Ok(Value::Object(body))
}

async fn personal(deps: &Deps, order: OrderId) -> Result<Option<PersonalData>, Problem> {
    let sealed = deps
        .store
        .personal(order, view::PERSONAL_SLOT)
        .await
        .map_err(|error| refusal::store_failed(&error))?;
    let Some(sealed) = sealed else {
        return Ok(None);
    };
    let opened = view::open_personal(&deps.sealer, order, &sealed);
    if opened.is_none() {
        tracing::error!(%order, "personal data cannot be opened: is a field key missing?");
    }
    Ok(opened)
}

/// The body of a request that has no members of its own: `{}` or nothing.
fn no_members(signed: &Signed) -> Result<(), Problem> {
    let value = signed.json()?;
    let findings = Findings::default();
    match &value {
        Value::Object(_) => {
            Object::read(&value, "", &[], &findings);
        }
        other => findings.add("", format!("expected an object, found {}", kind(other))),
    }
    findings.into_problem().map_or(Ok(()), Err)
}

/// The parameters of a query, each at most once. `read` takes one and says what it expected instead,
/// where it cannot use it.
fn read_query(
    query: &str,
    mut read: impl FnMut(&str, &str) -> Option<&'static str>,
) -> Result<(), Problem> {
    let findings = Findings::default();
    let mut seen = Vec::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        if seen.contains(&name) {
            findings.add(name.as_ref(), "named twice");
            continue;
        }
        if let Some(expected) = read(&name, &value) {
            let name: String = name.chars().take(64).collect();
            findings.add(name, expected);
        }
        seen.push(name);
    }
    findings.into_problem().map_or(Ok(()), Err)
}
