//! `POST /v1/orders/{id}/query`: ask the provider now (更新缴费结果).

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use super::{no_members, order_json, own_order};
use crate::http::auth::Signed;
use crate::http::idempotency::{Answer, Intent, Stop, once};
use crate::http::{Deps, openapi, queries};

#[utoipa::path(
    post,
    path = "/v1/orders/{id}/query",
    operation_id = "queryOrder",
    tag = "Orders",
    summary = "Ask the provider now",
    description = "Asks the provider about the live attempt and answers with the order afterwards. At \
        most one provider query per order in 2 s: more share its answer, and as_of says when the \
        provider was asked. null: there is nothing to ask about. outcome provider_unreachable: the \
        provider gave no usable answer, and nothing is known that was not known before.",
    params(openapi::OrderIdPath, openapi::IdempotencyKey),
    responses(
        (status = 200, description = "The order, and when the provider was asked", body = openapi::QueriedBody),
        (status = 404, description = "not_found", body = openapi::ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "request_in_progress", body = openapi::ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "idempotency_key_reused", body = openapi::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn query_order(
    deps: web::Data<Deps>,
    signed: Signed,
    request: HttpRequest,
) -> HttpResponse {
    once(&deps, &signed, async |intent| query(intent, &request).await).await
}

async fn query(intent: &Intent<'_>, request: &HttpRequest) -> Result<Answer, Stop> {
    let (deps, view) = (intent.deps, &intent.view);
    no_members(intent.signed)?;
    let stored = own_order(deps, intent.signed, request).await?;
    let order = stored.order.id;
    let asked = queries::ask(deps, view, &stored, async || intent.query(order).await).await?;
    Ok(Answer::ok(json!({
        "object": "order_query",
        "outcome": asked.outcome(),
        "as_of": asked.as_of.map(|at| view.time(at)),
        "server_time": view.time(deps.clock.now()),
        "order": order_json(deps, view, &asked.stored).await?,
    })))
}
