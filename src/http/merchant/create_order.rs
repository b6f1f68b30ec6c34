//! `POST /v1/orders`: a new order, or the one that this number already has.

use std::sync::Arc;

use actix_web::{HttpResponse, web};

use super::new_order::{Around, Asked};
use crate::actors::OrdersError;
use crate::http::auth::Signed;
use crate::http::idempotency::{Answer, Intent, Stop, once};
use crate::http::making::{Draft, Offers, offers};
use crate::http::problem::{Code, Problem};
use crate::http::{Deps, openapi, refusal};
use crate::store::{
    Actor, DuplicatePolicy, Merchant, PERSONAL_FIELDS, PayerIdentity, Rejection, StoredOrder,
};

#[utoipa::path(
    post,
    path = "/v1/orders",
    operation_id = "createOrder",
    tag = "Orders",
    summary = "Create an order",
    description = "Creates a payment order: a frozen snapshot. A repeat with the same \
        merchant_order_no and content answers 200 and the order as it is now, for ever; with other \
        content 409 merchant_order_no_conflict. Send the payer to cashier_url.",
    params(openapi::IdempotencyKey),
    request_body(content = openapi::NewOrderBody, description = "The order asked for"),
    responses(
        (status = 201, description = "Created", body = openapi::OrderBody,
            headers(("Location" = String, description = "Where to read the order")),
            links(("read" = (operation_id = "readOrder", parameters(("id" = "$response.body#/id")))),
                ("startAttempt" = (operation_id = "startAttempt", parameters(("id" = "$response.body#/id")))))),
        (status = 200, description = "This number and content are known: the order as it is now", body = openapi::OrderBody),
        (status = 409, description = "merchant_order_no_conflict, possible_duplicate or request_in_progress",
            body = openapi::ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "payer_mismatch, payer_identity_unavailable or idempotency_key_reused", body = openapi::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn create_order(deps: web::Data<Deps>, signed: Signed) -> HttpResponse {
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
    let asked = match Asked::read(&intent.signed.json()?, around) {
        Ok(asked) => asked,
        // A deadline that has passed since the first request does not make the repeat another one.
        Err(problem) if problem.code() == Code::PayBeforeInvalid => {
            return match repeat_after_deadline(intent, around).await? {
                Some(answer) => Ok(answer),
                None => Err(problem.into()),
            };
        }
        Err(problem) => return Err(problem.into()),
    };
    let offers = match admit(deps, merchant, &asked) {
        Ok(offers) => offers,
        Err(problem) => return repeat_or(intent, &asked, problem).await,
    };
    let payer_index = deps.sealer.index("payer_ref", &asked.payer_ref);
    let possible_duplicate = match &asked.purpose {
        Some(purpose) => deps
            .store
            .paid_order_for(merchant.id, payer_index, purpose)
            .await
            .map_err(|error| refusal::store_failed(&error))?,
        None => None,
    };
    if let (DuplicatePolicy::Refuse, Some(existing)) = (merchant.duplicate, possible_duplicate) {
        // A repeat of the paid order itself is a repeat, not a duplicate.
        let problem = Problem::new(
            Code::PossibleDuplicate,
            "This payer has already paid an order with the same purpose.",
        )
        .with("existing_id", existing.to_string());
        return repeat_or(intent, &asked, problem).await;
    }

    let id = deps.orders.new_id(now);
    intent.about(id);
    let draft = Draft {
        id,
        merchant,
        asked: &asked,
        offers,
        possible_duplicate,
        bills: Vec::new(),
    };
    let (new, personal) = draft.finish(deps, &intent.view, Actor::Merchant, intent.writes());
    let created = deps.orders.create(new).await;
    if let Err(OrdersError::Rejected(Rejection::MerchantOrderNoTaken { existing })) = &created {
        let stored = super::read(deps, *existing).await?;
        return same_or_conflict(intent, &asked, &stored).await;
    }
    let stored = intent.heard(created)?;
    Ok(Answer::created(
        format!("/v1/orders/{id}"),
        intent.view.order(&stored, Some(&personal)),
    ))
}

/// The merchant's own rule about payers, then the accounts that may take the money.
fn admit(deps: &Deps, merchant: &Merchant, asked: &Asked) -> Result<Offers, Problem> {
    if merchant.payer_must_be_registrant {
        asked.check_registrant()?;
    }
    let checked = asked.payer_identity == PayerIdentity::Provider;
    offers(deps, &merchant.accounts, asked.wallets.as_deref(), checked)
}

/// The same number again: the same order, or another one under a taken number.
async fn same_or_conflict(
    intent: &Intent<'_>,
    asked: &Asked,
    stored: &Arc<StoredOrder>,
) -> Result<Answer, Stop> {
    intent.about(stored.order.id);
    let asked = asked.field_hashes(&intent.deps.sealer);
    let known = &stored.snapshot.field_hashes;
    let differing: Vec<&str> = asked
        .iter()
        .filter(|field| !known.contains(field))
        .map(|(name, _)| name.as_str())
        // Who an erased payer was cannot be compared any more.
        .filter(|name| {
            !PERSONAL_FIELDS.contains(name) || known.iter().any(|(known, _)| known == name)
        })
        .collect();
    if differing.is_empty() {
        let body = super::order_json(intent.deps, &intent.view, stored).await?;
        return Ok(Answer::ok(body));
    }
    Err(Problem::new(
        Code::MerchantOrderNoConflict,
        format!(
            "An order with this merchant_order_no exists; these members differ: {}.",
            differing.join(", ")
        ),
    )
    .with("conflicts", differing)
    .with("existing_id", stored.order.id.to_string())
    .into())
}

/// A repeat of an order that stands is answered as ever, whatever a new one would be refused for.
async fn repeat_or(intent: &Intent<'_>, asked: &Asked, problem: Problem) -> Result<Answer, Stop> {
    let known = intent
        .deps
        .store
        .order_by_number(intent.merchant(), &asked.merchant_order_no)
        .await
        .map_err(|error| refusal::store_failed(&error))?;
    match known {
        Some(stored) => same_or_conflict(intent, asked, &Arc::new(stored)).await,
        None => Err(problem.into()),
    }
}

/// Repeats are answered for ever, though their deadline has passed by now.
async fn repeat_after_deadline(
    intent: &Intent<'_>,
    around: Around<'_>,
) -> Result<Option<Answer>, Stop> {
    let body = intent.signed.json()?;
    let Some(number) = body["merchant_order_no"].as_str() else {
        return Ok(None);
    };
    let merchant = intent.merchant();
    let known = intent
        .deps
        .store
        .order_by_number(merchant, number)
        .await
        .map_err(|error| refusal::store_failed(&error))?;
    let Some(stored) = known else {
        return Ok(None);
    };
    // Judged by the time at which the order was made.
    let then = Around {
        now: stored.order.created_at,
        ..around
    };
    let Ok(asked) = Asked::read(&body, then) else {
        return Ok(None);
    };
    same_or_conflict(intent, &asked, &Arc::new(stored))
        .await
        .map(Some)
}
