//! `GET /v1/orders/{id}/refunds`.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use super::{own_order, refund_json};
use crate::http::auth::Signed;
use crate::http::problem::Problem;
use crate::http::{Deps, openapi};

#[utoipa::path(
    get,
    path = "/v1/orders/{id}/refunds",
    operation_id = "listRefunds",
    tag = "Refunds",
    summary = "List an order's refunds",
    description = "Every refund of the order, whatever its cause: yours in the order you asked for \
        them, and those by which surplus or odd money goes back. All of them at once.",
    params(openapi::OrderIdPath),
    responses(
        (status = 200, description = "The refunds", body = openapi::RefundListBody),
        (status = 404, description = "not_found", body = openapi::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list_refunds(
    deps: web::Data<Deps>,
    signed: Signed,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let stored = own_order(&deps, &signed, &request).await?;
    let view = deps.view();
    let mut data = Vec::new();
    for refund in stored.order.every_refund() {
        data.push(refund_json(&deps, &view, &stored, &refund).await?);
    }
    Ok(HttpResponse::Ok().json(json!({ "object": "list", "data": data })))
}
