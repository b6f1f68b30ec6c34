//! `POST /v1/orders/{id}/attempts`: a new code. The live one, if any, is ended first.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::Value;

use super::own_order;
use crate::http::attempts::{self, Started};
use crate::http::auth::Signed;
use crate::http::idempotency::{Answer, Intent, Stop, once};
use crate::http::json::{Findings, Object};
use crate::http::limits::Limiters;
use crate::http::{Deps, openapi};
use crate::order::Wallet;

#[utoipa::path(
    post,
    path = "/v1/orders/{id}/attempts",
    operation_id = "startAttempt",
    tag = "Orders",
    summary = "Start a QR code",
    description = "Starts an attempt: one code, one scan. A live attempt is superseded: ended at the \
        provider first. While that cannot be done yet the answer is 409 attempt_closing with \
        retry_at; repeat it with a new Idempotency-Key. At most 20 attempts of one order within an hour.",
    params(openapi::OrderIdPath, openapi::IdempotencyKey),
    request_body(content = openapi::StartAttemptBody, description = "The wallet, for orders with single_scan: false; may be empty otherwise"),
    responses(
        (status = 201, description = "The attempt", body = openapi::StartedBody),
        (status = 202, description = "The attempt stands, and the provider has not given its code yet: read the order again",
            body = openapi::StartedBody, headers(("Retry-After" = u32, description = "Seconds"))),
        (status = 404, description = "not_found", body = openapi::ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "already_paid, order_closed, cancel_pending, deadline_passed, attempt_closing, too_many_attempts or request_in_progress",
            body = openapi::ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "idempotency_key_reused", body = openapi::ProblemBody, content_type = "application/problem+json"),
        (status = 502, description = "provider_unavailable: the provider refused to make its code", body = openapi::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn start_attempt(
    deps: web::Data<Deps>,
    limiters: web::Data<Limiters>,
    signed: Signed,
    request: HttpRequest,
) -> HttpResponse {
    once(&deps, &signed, async |intent| {
        start(intent, &limiters, &request).await
    })
    .await
}

async fn start(
    intent: &Intent<'_>,
    limiters: &Limiters,
    request: &HttpRequest,
) -> Result<Answer, Stop> {
    let deps = intent.deps;
    let stored = own_order(deps, intent.signed, request).await?;
    let wallet = wallet(&intent.signed.json()?)?;
    let order = stored.order.id;
    // The first request under this key may have started one before its process died.
    let earlier = intent.resumed().and_then(|since| {
        let live = stored.order.live_attempt()?;
        (live.is_open() && live.started_at >= since).then_some(live.id)
    });
    let started = if let Some(id) = earlier {
        Started { stored, id }
    } else {
        limiters.attempt(order).await?;
        attempts::start(
            deps,
            &intent.view,
            stored,
            wallet,
            async |command, extra| intent.tell(order, command, extra).await,
        )
        .await?
    };
    let started = attempts::with_code(deps, started).await?;
    let body = attempts::answer(&intent.view, &started, deps.clock.now())?;
    let waits = started
        .attempt()
        .is_some_and(|attempt| attempt.is_open() && intent.view.qr_content(attempt).is_none());
    let body = Value::Object(body);
    Ok(if waits {
        Answer::accepted(2, body)
    } else {
        Answer {
            status: 201,
            headers: Vec::new(),
            body,
        }
    })
}

fn wallet(body: &Value) -> Result<Option<Wallet>, Stop> {
    let findings = Findings::default();
    let wallet = Object::read(body, "", &["wallet"], &findings).and_then(|body| {
        body.word(
            "wallet",
            &[("wechat", Wallet::Wechat), ("alipay", Wallet::Alipay)],
        )
    });
    match findings.into_problem() {
        None => Ok(wallet),
        Some(problem) => Err(problem.into()),
    }
}
