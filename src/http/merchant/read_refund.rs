//! `GET /v1/orders/{id}/refunds/{refund_id}`.

use actix_web::{HttpRequest, HttpResponse, web};

use super::{own_order, refund_json};
use crate::http::auth::Signed;
use crate::http::problem::Problem;
use crate::http::{Deps, openapi};
use crate::order::RefundId;

#[utoipa::path(
    get,
    path = "/v1/orders/{id}/refunds/{refund_id}",
    operation_id = "readRefund",
    tag = "Refunds",
    summary = "Read a refund",
    description = "The refund as last committed: one that you asked for, or one by which surplus goes back.",
    params(openapi::OrderIdPath, openapi::RefundIdPath),
    responses(
        (status = 200, description = "The refund", body = openapi::RefundBody),
        (status = 404, description = "not_found: unknown, of another order, or another merchant's", body = openapi::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn read_refund(
    deps: web::Data<Deps>,
    signed: Signed,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let stored = own_order(&deps, &signed, &request).await?;
    let refund = request
        .match_info()
        .get("refund_id")
        .and_then(|id| id.parse::<RefundId>().ok())
        .and_then(|id| stored.order.refund(id))
        .ok_or_else(Problem::not_found)?;
    let body = refund_json(&deps, &deps.view(), &stored, &refund).await?;
    Ok(HttpResponse::Ok().json(body))
}
