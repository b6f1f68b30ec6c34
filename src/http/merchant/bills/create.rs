//! `POST /v1/bills`: new bills, all or none, or those that these numbers already have.

use std::collections::HashMap;

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use super::bill_json;
use super::new_bill::{NewBill, Upload};
use crate::http::auth::Signed;
use crate::http::idempotency::{Answer, Intent, Stop, once};
use crate::http::merchant::new_order::Around;
use crate::http::problem::{Code, Problem};
use crate::http::{Deps, metric, openapi, refusal};
use crate::order::BillId;
use crate::store::Write;
use crate::store::bills::StoredBill;

#[utoipa::path(
    post,
    path = "/v1/bills",
    operation_id = "createBills",
    tag = "Bills",
    summary = "Upload bills",
    description = "One bill, or {\"bills\": [ … ]} with up to 1,000: all of them are kept or none. A \
        repeat with the same merchant_bill_no and content is the bill as it is now (200 where nothing \
        was new); with other content 409 merchant_bill_no_conflict. A bill waits until its payer ticks \
        it on the page of a payer's link (POST /v1/payer_links). It has no order of its own before.",
    params(openapi::IdempotencyKey),
    request_body(content = openapi::UploadBody, description = "One bill, or a list of them; at most 1 MiB"),
    responses(
        (status = 201, description = "Created: the bill, or the list of all that were named", body = openapi::UploadedBody,
            headers(("Location" = String, description = "Where to read them"))),
        (status = 200, description = "All of them are known: as they are now", body = openapi::UploadedBody),
        (status = 409, description = "merchant_bill_no_conflict or request_in_progress",
            body = openapi::ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "idempotency_key_reused", body = openapi::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn create_bills(deps: web::Data<Deps>, signed: Signed) -> HttpResponse {
    once(&deps, &signed, async |intent| create(intent).await).await
}

async fn create(intent: &Intent<'_>) -> Result<Answer, Stop> {
    let (deps, merchant) = (intent.deps, &intent.signed.caller.merchant);
    let now = deps.clock.now();
    let body = intent.signed.json()?;
    let upload = Upload::of(&body)?;
    let mut known: HashMap<String, StoredBill> = deps
        .store
        .bills_by_number(merchant.id, &upload.numbers())
        .await
        .map_err(|error| refusal::store_failed(&error))?
        .into_iter()
        .map(|stored| (stored.bill.merchant_bill_no.clone(), stored))
        .collect();
    let around = Around {
        now,
        zone_minutes: deps.settings.zone_minutes,
        demo: deps.settings.demo,
        return_hosts: &merchant.return_hosts,
    };
    let asked = upload.read(around, |number| {
        known.get(number).map(|stored| stored.bill.created_at)
    })?;
    refuse_conflicts(deps, &asked, &known)?;

    let numbers: Vec<String> = asked
        .iter()
        .map(|bill| bill.merchant_bill_no.clone())
        .collect();
    let missing: Vec<_> = asked
        .into_iter()
        .filter(|bill| !known.contains_key(&bill.merchant_bill_no))
        .collect();
    // Lists show the highest id first: the bills of one upload stay in the order they came in.
    let mut ids: Vec<_> = missing.iter().map(|_| deps.random.ulid(now)).collect();
    ids.sort_unstable_by(|one, other| other.cmp(one));
    let new: Vec<_> = missing
        .into_iter()
        .zip(ids)
        .map(|(bill, id)| {
            let id = BillId::from_ulid(id);
            bill.into_bill(id, merchant.id, merchant.masks, now, &deps.sealer)
        })
        .collect();
    let made = new.len();
    if made > 0 {
        intent
            .commit(vec![Write::BillsCreated(new.clone())])
            .await?;
        metrics::counter!(metric::BILLS_CREATED).increment(made as u64);
    }
    known.extend(new.into_iter().map(|bill| {
        let stored = StoredBill {
            bill,
            cancelled_at: None,
            order: None,
        };
        (stored.bill.merchant_bill_no.clone(), stored)
    }));
    let data: Vec<Value> = numbers
        .iter()
        .filter_map(|number| known.get(number))
        .map(|stored| bill_json(deps, stored))
        .collect();
    let (place, body) = if upload.is_list {
        let list = json!({ "object": "list", "data": data });
        ("/v1/bills".to_owned(), list)
    } else {
        let bill = data.into_iter().next().unwrap_or_default();
        let id = bill["id"].as_str().unwrap_or_default();
        (format!("/v1/bills/{id}"), bill)
    };
    Ok(if made > 0 {
        Answer::created(place, body)
    } else {
        Answer::ok(body)
    })
}

/// The same numbers with other content.
fn refuse_conflicts(
    deps: &Deps,
    asked: &[NewBill],
    known: &HashMap<String, StoredBill>,
) -> Result<(), Problem> {
    let conflicts: Vec<Value> = asked
        .iter()
        .filter_map(|bill| {
            let stored = known.get(&bill.merchant_bill_no)?;
            let members = bill.differs_from(&stored.bill, &deps.sealer);
            (!members.is_empty()).then(|| {
                json!({
                    "merchant_bill_no": bill.merchant_bill_no,
                    "members": members,
                    "existing_id": stored.bill.id,
                })
            })
        })
        .collect();
    if conflicts.is_empty() {
        return Ok(());
    }
    Err(Problem::new(
        Code::MerchantBillNoConflict,
        format!(
            "{} of these numbers have other content already; conflicts names them.",
            conflicts.len()
        ),
    )
    .with("conflicts", conflicts))
}
