//! `POST /v1/payer_links`: the way to one payer's bills, for a while.

use actix_web::{HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::new_order::{Around, masked, payer, return_url};
use crate::http::auth::Signed;
use crate::http::idempotency::{Answer, Intent, Stop, once};
use crate::http::json::{Findings, Object};
use crate::http::problem::{Code, Problem};
use crate::http::{Deps, metric, openapi};
use crate::sealing::{TokenKind, token_hash};
use crate::store::{PayerLink, Write};

/// How long a link lives unless it is told.
const DEFAULT_SECONDS: i64 = 7_200;

#[utoipa::path(
    post,
    path = "/v1/payer_links",
    operation_id = "createPayerLink",
    tag = "Bills",
    summary = "Make a payer's link",
    description = "Makes the address at which one payer sees and pays their bills. Sign the payer in \
        yourself, ask for a link, and redirect to url at once: whoever has it acts as the payer until \
        expires_at. Only a hash of its token is kept.",
    params(openapi::IdempotencyKey),
    request_body(content = openapi::NewPayerLinkBody, description = "Whose bills"),
    responses(
        (status = 201, description = "Created", body = openapi::PayerLinkBody,
            headers(("Location" = String, description = "The link"))),
        (status = 409, description = "request_in_progress", body = openapi::ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "idempotency_key_reused", body = openapi::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn create_payer_link(deps: web::Data<Deps>, signed: Signed) -> HttpResponse {
    once(&deps, &signed, async |intent| create(intent).await).await
}

async fn create(intent: &Intent<'_>) -> Result<Answer, Stop> {
    let (deps, merchant) = (intent.deps, &intent.signed.caller.merchant);
    let now = deps.clock.now();
    let around = Around {
        now,
        zone_minutes: deps.settings.zone_minutes,
        demo: deps.settings.demo,
        return_hosts: &merchant.return_hosts,
    };
    let body = intent.signed.json()?;
    let findings = Findings::default();
    let members = ["payer", "return_url", "expires_in_seconds"];
    let asked = Object::read(&body, "", &members, &findings).and_then(|link| {
        let payer = payer(&link);
        let return_url = return_url(&link, around);
        let seconds = link.integer("expires_in_seconds", 60..=86_400);
        Some((payer?, return_url, seconds.unwrap_or(DEFAULT_SECONDS)))
    });
    let (payer, return_url, seconds) = match (findings.into_problem(), asked) {
        (None, Some(asked)) => asked,
        (Some(problem), _) => return Err(problem.into()),
        (None, None) => {
            let problem = Problem::new(Code::ValidationFailed, "The body asks for no link.");
            return Err(problem.into());
        }
    };
    let token = URL_SAFE_NO_PAD.encode(deps.random.bytes::<16>());
    let link = PayerLink {
        hash: token_hash(TokenKind::Bills, &token),
        merchant: merchant.id,
        payer_index: deps.sealer.index("payer_ref", &payer.reference),
        payer_masked: masked(
            merchant.masks,
            payer.name.as_deref(),
            payer.id_number.as_deref(),
            payer.phone.as_deref(),
        ),
        return_url,
        created_at: now,
        expires_at: now.plus_ms(seconds.saturating_mul(1_000)),
    };
    let url = format!("{}/bills/{token}", deps.settings.public_url);
    let expires_at = intent.view.time(link.expires_at);
    intent.commit(vec![Write::PayerLink(link)]).await?;
    metrics::counter!(metric::PAYER_LINKS).increment(1);
    Ok(Answer::created(
        url.clone(),
        json!({ "object": "payer_link", "url": url, "expires_at": expires_at }),
    ))
}
