//! `POST /v1/orders/{id}/cancel`: close the order. The provider has the last word, so the answer may
//! be "not known yet".

use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use tokio::time::Instant;

use super::{no_members, order_json, own_order, read};
use crate::actors::Verdict;
use crate::http::attempts::settled;
use crate::http::auth::Signed;
use crate::http::idempotency::{Answer, Intent, Stop, once};
use crate::http::{Deps, openapi, refusal};
use crate::order::{Command, Refusal, Settlement};

/// How long the provider's last word is waited for.
const WAIT_FOR_END: Duration = Duration::from_secs(3);

#[utoipa::path(
    post,
    path = "/v1/orders/{id}/cancel",
    operation_id = "cancelOrder",
    tag = "Orders",
    summary = "Cancel an order",
    description = "Closes the order. 200: closed, nobody can pay it any more. 409 already_paid. 202: \
        accepted and not known yet; nothing new is payable meanwhile, repeating the call tells the \
        outcome, and the end comes as order.closed or order.paid. A 202 is not kept under an Idempotency-Key.",
    params(openapi::OrderIdPath, openapi::IdempotencyKey),
    responses(
        (status = 200, description = "Closed", body = openapi::OrderBody),
        (status = 202, description = "Accepted; the attempt is closing", body = openapi::OrderBody,
            headers(("Retry-After" = u32, description = "Seconds"))),
        (status = 404, description = "not_found", body = openapi::ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "already_paid or request_in_progress", body = openapi::ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "idempotency_key_reused", body = openapi::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn cancel_order(
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
    let (deps, view) = (intent.deps, &intent.view);
    no_members(intent.signed)?;
    let order = own_order(deps, intent.signed, request).await?.order.id;
    let mut watch = deps.orders.watch(order);
    let deadline = Instant::now() + WAIT_FOR_END;
    let reply = intent.tell(order, Command::Cancel, Vec::new()).await?;
    let refuse = |refusal: &Refusal, stored| {
        refusal::refused(refusal, stored, view, deps.clock.now()).into()
    };
    if let Verdict::Refused(refusal) = &reply.verdict {
        return Err(refuse(refusal, &reply.stored));
    }
    let mut stored = Arc::clone(&reply.stored);
    loop {
        match stored.order.settlement {
            Settlement::Closed { .. } => {
                return Ok(Answer::ok(order_json(deps, view, &stored).await?));
            }
            Settlement::Paid { .. } => return Err(refuse(&Refusal::AlreadyPaid, &stored)),
            Settlement::Open if Instant::now() >= deadline => {
                let body = order_json(deps, view, &stored).await?;
                return Ok(Answer::accepted(2, body));
            }
            Settlement::Open => {}
        }
        watch.borrow_and_update();
        let newer = read(deps, order).await?;
        if newer.order.version == stored.order.version {
            settled(&mut watch, deadline).await;
        }
        stored = newer;
    }
}
