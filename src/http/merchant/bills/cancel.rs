//! `POST /v1/bills/{id}/cancel`: nobody is to pay the bill any more.

use actix_web::{HttpRequest, HttpResponse, web};

use super::{bill_json, own_bill};
use crate::http::auth::Signed;
use crate::http::idempotency::{Answer, Intent, Stop, once};
use crate::http::merchant::no_members;
use crate::http::problem::{Code, Problem};
use crate::http::{Deps, openapi};
use crate::store::Write;
use crate::store::bills::{BillStatus, StoredBill};

#[utoipa::path(
    post,
    path = "/v1/bills/{id}/cancel",
    operation_id = "cancelBill",
    tag = "Bills",
    summary = "Cancel a bill",
    description = "Closes the bill. 409 bill_paying while an open order holds it (cancel that order \
        first), 409 already_paid once it is paid. A bill that is closed stays as it is.",
    params(openapi::BillIdPath, openapi::IdempotencyKey),
    responses(
        (status = 200, description = "Closed", body = openapi::BillBody),
        (status = 404, description = "not_found", body = openapi::ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "bill_paying, already_paid or request_in_progress", body = openapi::ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "idempotency_key_reused", body = openapi::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn cancel_bill(
    deps: web::Data<Deps>,
    signed: Signed,
    request: HttpRequest,
) -> HttpResponse {
    once(&deps, &signed, async |intent| {
        cancel(intent, &request).await
    })
    .await
}

async fn cancel(intent: &Intent<'_>, request: &HttpRequest) -> Result<Answer, Stop> {
    let deps = intent.deps;
    no_members(intent.signed)?;
    let stored = own_bill(deps, intent.signed, request).await?;
    if let Some(refused) = refused(deps, &stored) {
        return Err(refused.into());
    }
    if stored.closed(deps.clock.now()).is_some() {
        return Ok(Answer::ok(bill_json(deps, &stored)));
    }
    let cancelled = Write::BillCancelled {
        merchant: intent.merchant(),
        bill: stored.bill.id,
        at: deps.clock.now(),
    };
    // Where an order took it in between, the store says that it is being paid.
    intent.commit(vec![cancelled]).await?;
    let stored = own_bill(deps, intent.signed, request).await?;
    Ok(Answer::ok(bill_json(deps, &stored)))
}

fn refused(deps: &Deps, stored: &StoredBill) -> Option<Problem> {
    let problem = match stored.status(deps.clock.now()) {
        BillStatus::Paying => Problem::new(Code::BillPaying, "An open order holds the bill."),
        BillStatus::Paid => Problem::new(Code::AlreadyPaid, "The bill is paid."),
        BillStatus::Unpaid | BillStatus::Closed => return None,
    };
    let order = stored.holder().map(|order| order.id.to_string());
    Some(
        problem
            .with("bill_id", stored.bill.id.to_string())
            .with("order_id", order),
    )
}
