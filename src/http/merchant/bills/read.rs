//! `GET /v1/bills/{id}`: a bill as it is now.

use actix_web::{HttpRequest, HttpResponse, web};

use super::{bill_json, own_bill};
use crate::http::auth::Signed;
use crate::http::problem::Problem;
use crate::http::{Deps, openapi};

#[utoipa::path(
    get,
    path = "/v1/bills/{id}",
    operation_id = "readBill",
    tag = "Bills",
    summary = "Read a bill",
    params(openapi::BillIdPath),
    responses(
        (status = 200, description = "The bill", body = openapi::BillBody),
        (status = 404, description = "not_found", body = openapi::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn read_bill(
    deps: web::Data<Deps>,
    signed: Signed,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let stored = own_bill(&deps, &signed, &request).await?;
    Ok(HttpResponse::Ok().json(bill_json(&deps, &stored)))
}
