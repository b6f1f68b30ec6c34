//! `GET /v1/orders/{id}`.

use actix_web::{HttpRequest, HttpResponse, web};

use super::{order_json, own_order};
use crate::http::auth::Signed;
use crate::http::problem::Problem;
use crate::http::{Deps, openapi};

#[utoipa::path(
    get,
    path = "/v1/orders/{id}",
    operation_id = "readOrder",
    tag = "Orders",
    summary = "Read an order",
    description = "The order as last committed.",
    params(openapi::OrderIdPath),
    responses(
        (status = 200, description = "The order", body = openapi::OrderBody),
        (status = 404, description = "not_found: unknown, or another merchant's", body = openapi::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn read_order(
    deps: web::Data<Deps>,
    signed: Signed,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let stored = own_order(&deps, &signed, &request).await?;
    let body = order_json(&deps, &deps.view(), &stored).await?;
    Ok(HttpResponse::Ok().json(body))
}
