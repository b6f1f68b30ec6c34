//! `POST /v1/orders/{id}/fiscal_receipt`: where the fiscal e-receipt (财政电子票据) of a paid order is. The
//! school's own system issues it, minutes or weeks after the payment: nothing here waits for it.

use actix_web::{HttpRequest, HttpResponse, web};
use jiff::Timestamp as Instant;
use serde_json::Value;

use super::{new_order, order_json, own_order};
use crate::actors::Verdict;
use crate::http::auth::Signed;
use crate::http::idempotency::{Answer, Intent, Stop, once};
use crate::http::json::{Findings, Object, Text, kind};
use crate::http::problem::{Code, Problem};
use crate::http::{Deps, openapi, refusal};
use crate::order::{Command, Timestamp};

/// How far the school's clock may be ahead of ours.
const AHEAD_MS: i64 = 300_000;

#[utoipa::path(
    post,
    path = "/v1/orders/{id}/fiscal_receipt",
    operation_id = "issueFiscalReceipt",
    tag = "Orders",
    summary = "Attach the fiscal e-receipt of a paid order",
    description = "Tells the payer where the fiscal e-receipt (财政电子票据) is: on the receipt's page, on \
        the cashier's, and in the order as fiscal_receipt. The same again changes nothing; another \
        takes the place of the first. Each new one is told by receipt.issued. The number and the \
        address must not name the payer: they are kept with the order when its people are erased.",
    params(openapi::OrderIdPath, openapi::IdempotencyKey),
    request_body(content = openapi::NewFiscalReceiptBody, description = "The fiscal e-receipt"),
    responses(
        (status = 200, description = "The order with its fiscal_receipt", body = openapi::OrderBody),
        (status = 404, description = "not_found: unknown, or another merchant's", body = openapi::ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "not_paid or request_in_progress", body = openapi::ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "idempotency_key_reused", body = openapi::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn issue_fiscal_receipt(
    deps: web::Data<Deps>,
    signed: Signed,
    request: HttpRequest,
) -> HttpResponse {
    once(&deps, &signed, async |intent| issue(intent, &request).await).await
}

async fn issue(intent: &Intent<'_>, request: &HttpRequest) -> Result<Answer, Stop> {
    let (deps, view) = (intent.deps, &intent.view);
    let order = own_order(deps, intent.signed, request).await?.order.id;
    let command = read(&intent.signed.json()?, deps.clock.now(), deps.settings.demo)?;
    let reply = intent.tell(order, command, Vec::new()).await?;
    if let Verdict::Refused(refused) = &reply.verdict {
        return Err(refusal::refused(refused, &reply.stored, view, deps.clock.now()).into());
    }
    Ok(Answer::ok(order_json(deps, view, &reply.stored).await?))
}

/// The body, every member checked.
fn read(body: &Value, now: Timestamp, demo: bool) -> Result<Command, Problem> {
    let findings = Findings::default();
    let asked =
        Object::read(body, "", &["number", "url", "issued_at"], &findings).and_then(|body| {
            let number = body.required_text("number", Text::number(64));
            let url = body.required_text("url", Text::id(2_048));
            if let Some(url) = &url {
                new_order::web_url(&body, "url", url, demo);
            }
            let issued_at = issued_at(&body, now);
            Some(Command::IssueReceipt {
                number: number?.into(),
                url: url?.into(),
                issued_at,
            })
        });
    match (findings.into_problem(), asked) {
        (None, Some(command)) => Ok(command),
        (Some(problem), _) => Err(problem),
        (None, None) => Err(Problem::new(
            Code::ValidationFailed,
            "The body is not a fiscal receipt.",
        )),
    }
}

fn issued_at(body: &Object<'_>, now: Timestamp) -> Option<Timestamp> {
    let value = body.get("issued_at")?;
    let at = value
        .as_str()
        .and_then(|text| text.parse::<Instant>().ok())
        .map(|instant| Timestamp::from_millis(instant.as_millisecond()));
    match at {
        Some(at) if at <= now.plus_ms(AHEAD_MS) => return Some(at),
        Some(_) => body.finding("issued_at", "expected a time that has come"),
        None => body.finding(
            "issued_at",
            format!(
                "expected an RFC 3339 time with an offset, such as 2026-11-20T18:00:00+08:00, found {}",
                match value {
                    Value::String(_) => "another text",
                    other => kind(other),
                }
            ),
        ),
    }
    None
}
