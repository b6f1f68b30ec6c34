//! `POST /v1/orders/{id}/refunds`: give the payment or a part of it back.

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::Value;

use super::{new_order, own_order, refund_json};
use crate::actors::Verdict;
use crate::http::auth::Signed;
use crate::http::idempotency::{Answer, Intent, Stop, once};
use crate::http::json::{Findings, Object, Text};
use crate::http::problem::{Code, Problem};
use crate::http::{Deps, openapi, refusal};
use crate::order::{Command, Fen, RefundId};
use crate::view;

/// What providers show the payer of a reason (`WeChat` Pay's limit, in characters of ours).
const LONGEST_REASON: usize = 80;

#[utoipa::path(
    post,
    path = "/v1/orders/{id}/refunds",
    operation_id = "createRefund",
    tag = "Refunds",
    summary = "Refund a paid order",
    description = "Gives the payment back, in full or in part: never more than the payment less its \
        pending and succeeded refunds. The answer waits for nothing but the disk; the provider is \
        asked until it answers, and the end comes as refund.succeeded or refund.failed. The same \
        merchant_refund_no with the same amount answers 200 and the refund as it is now, for ever; \
        with another amount, or for another order, 409 merchant_refund_no_conflict.",
    params(openapi::OrderIdPath, openapi::IdempotencyKey),
    request_body(content = openapi::NewRefundBody, description = "The refund asked for"),
    responses(
        (status = 201, description = "Accepted: it is on disk and cannot be lost", body = openapi::RefundBody,
            headers(("Location" = String, description = "Where to read the refund"))),
        (status = 200, description = "This number and amount are known: the refund as it is now", body = openapi::RefundBody),
        (status = 404, description = "not_found: unknown, or another merchant's", body = openapi::ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "not_refundable, refund_exceeds_captured (with remaining), merchant_refund_no_conflict, too_many_refunds or request_in_progress",
            body = openapi::ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "idempotency_key_reused", body = openapi::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn create_refund(
    deps: web::Data<Deps>,
    signed: Signed,
    request: HttpRequest,
) -> HttpResponse {
    once(&deps, &signed, async |intent| {
        create(intent, &request).await
    })
    .await
}

async fn create(intent: &Intent<'_>, request: &HttpRequest) -> Result<Answer, Stop> {
    let (deps, view) = (intent.deps, &intent.view);
    let order = own_order(deps, intent.signed, request).await?.order.id;
    let asked = Asked::read(&intent.signed.json()?)?;
    let id = RefundId::from_ulid(deps.random.ulid(deps.clock.now()));
    let reason = asked
        .reason
        .map(|reason| view::reason_write(&deps.sealer, order, id, &reason));
    let command = Command::Refund {
        refund: id,
        merchant_refund_no: asked.merchant_refund_no.clone().into(),
        amount: asked.amount,
    };
    let reply = intent
        .tell(order, command, reason.into_iter().collect())
        .await?;
    if let Verdict::Refused(refused) = &reply.verdict {
        return Err(refusal::refused(refused, &reply.stored, view, deps.clock.now()).into());
    }
    let known = &reply.stored.order;
    let refund = known
        .refunds
        .iter()
        .find(|refund| *refund.merchant_refund_no == asked.merchant_refund_no)
        .and_then(|refund| known.refund(refund.id))
        .ok_or_else(lost)?;
    let body = refund_json(deps, view, &reply.stored, &refund).await?;
    Ok(if reply.verdict == Verdict::Applied {
        Answer::created(format!("/v1/orders/{order}/refunds/{id}"), body)
    } else {
        Answer::ok(body)
    })
}

fn lost() -> Problem {
    Problem::new(
        Code::InternalError,
        "The refund was not found after its commit.",
    )
}

/// The body, every member checked.
struct Asked {
    merchant_refund_no: String,
    amount: Fen,
    reason: Option<String>,
}

impl Asked {
    fn read(body: &Value) -> Result<Self, Problem> {
        let findings = Findings::default();
        let asked = Object::read(
            body,
            "",
            &["merchant_refund_no", "amount", "reason"],
            &findings,
        )
        .and_then(|body| {
            let merchant_refund_no = body.required_text("merchant_refund_no", Text::number(64));
            let amount = new_order::fen(&body, "amount");
            let reason = body.text("reason", Text::displayed(LONGEST_REASON));
            Some(Self {
                merchant_refund_no: merchant_refund_no?,
                amount: amount?,
                reason,
            })
        });
        match (findings.into_problem(), asked) {
            (None, Some(asked)) => Ok(asked),
            (Some(problem), _) => Err(problem),
            (None, None) => Err(Problem::new(
                Code::ValidationFailed,
                "The body is not a refund.",
            )),
        }
    }
}
