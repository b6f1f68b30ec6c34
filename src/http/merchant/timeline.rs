//! `GET /v1/orders/{id}/timeline`: everything that happened, in order, with cause and time.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use super::own_order;
use crate::http::auth::Signed;
use crate::http::problem::Problem;
use crate::http::{Deps, openapi, refusal};
use crate::order::Order;
use crate::store::{Actor, TimelineEntry};
use crate::view::{Happened, View};

#[utoipa::path(
    get,
    path = "/v1/orders/{id}/timeline",
    operation_id = "readTimeline",
    tag = "Orders",
    summary = "Read an order's history",
    description = "Everything that happened, oldest first, with cause and time: the answer to \"why is this unpaid?\".",
    params(openapi::OrderIdPath),
    responses(
        (status = 200, description = "The history", body = openapi::TimelineBody),
        (status = 404, description = "not_found", body = openapi::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn read_timeline(
    deps: web::Data<Deps>,
    signed: Signed,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let stored = own_order(&deps, &signed, &request).await?;
    let entries = deps
        .store
        .timeline(stored.order.id)
        .await
        .map_err(|error| refusal::store_failed(&error))?;
    let view = deps.view();
    let data: Vec<Value> = entries
        .iter()
        .map(|entry| line(&view, &stored.order, entry))
        .collect();
    Ok(HttpResponse::Ok().json(json!({
        "object": "timeline",
        "order_id": stored.order.id,
        "data": data,
    })))
}

fn line(view: &View, order: &Order, entry: &TimelineEntry) -> Value {
    let Happened {
        kind,
        summary,
        details,
    } = view.happened(order, entry);
    json!({
        "version": entry.version,
        "position": entry.position,
        "at": view.time(entry.at),
        "actor": entry.actor,
        "cause": cause(entry.actor),
        "request_id": entry.request_id,
        "type": kind,
        "summary": summary,
        "details": details,
    })
}

const fn cause(actor: Actor) -> &'static str {
    match actor {
        Actor::Merchant => "a request of the merchant",
        Actor::Payer => "the payer",
        Actor::Provider => "the provider's word",
        Actor::Operator => "an operator",
        Actor::Gateway => "the gateway: a time that came",
    }
}
