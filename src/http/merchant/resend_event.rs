//! `POST /v1/events/{id}/resend`: a webhook once more, the same id and the same bytes.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::json;

use super::no_members;
use crate::http::auth::Signed;
use crate::http::idempotency::{Answer, Intent, Stop, once};
use crate::http::problem::{Code, Problem};
use crate::http::{Deps, openapi, refusal};
use crate::order::EventId;
use crate::store::DeliveryState;

#[utoipa::path(
    post,
    path = "/v1/events/{id}/resend",
    operation_id = "resendEvent",
    tag = "Events",
    summary = "Send a webhook again",
    description = "Makes a delivered or parked event pending again: the same id and the same bytes, \
        under a new timestamp and signature, by the whole schedule. One that is pending is sent as soon \
        as its turn comes anyway. It may arrive after later ones: keep the highest version.",
    params(openapi::EventIdPath, openapi::IdempotencyKey),
    responses(
        (status = 200, description = "It is pending", body = openapi::ResentBody),
        (status = 404, description = "not_found: unknown, or another merchant's", body = openapi::ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "request_in_progress", body = openapi::ProblemBody, content_type = "application/problem+json"),
        (status = 410, description = "erased: the payer's data is gone, and the event with it", body = openapi::ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "idempotency_key_reused", body = openapi::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn resend_event(
    deps: web::Data<Deps>,
    signed: Signed,
    request: HttpRequest,
) -> HttpResponse {
    once(&deps, &signed, async |intent| {
        resend(intent, &request).await
    })
    .await
}

async fn resend(intent: &Intent<'_>, request: &HttpRequest) -> Result<Answer, Stop> {
    let deps = intent.deps;
    no_members(intent.signed)?;
    let id: EventId = request
        .match_info()
        .get("id")
        .and_then(|id| id.parse().ok())
        .ok_or_else(Problem::not_found)?;
    let event = deps
        .store
        .outbox_event(id)
        .await
        .map_err(|error| refusal::store_failed(&error))?
        .filter(|event| event.merchant == intent.merchant())
        .ok_or_else(Problem::not_found)?;
    intent.about(event.order);
    if event.body.is_erased() {
        let problem = Problem::new(
            Code::Erased,
            "The event was erased together with the payer's data: it is sent no more.",
        );
        return Err(problem.with("order_id", event.order.to_string()).into());
    }
    if event.state != DeliveryState::Pending {
        let again = event.again(deps.clock.now(), "asked for by the merchant");
        intent.commit(vec![again]).await?;
    }
    Ok(Answer::ok(json!({
        "id": event.id,
        "object": "event_delivery",
        "type": event.kind,
        "order_id": event.order,
        "version": event.version,
        "created_at": intent.view.time(event.created_at),
        "state": DeliveryState::Pending,
    })))
}
