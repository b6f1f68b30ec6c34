//! `/v1/bills`: what payers owe, to be ticked and paid together.

pub mod cancel;
pub mod create;
pub mod list;
pub mod new_bill;
pub mod read;

use actix_web::HttpRequest;
use serde_json::Value;

use crate::http::auth::Signed;
use crate::http::problem::Problem;
use crate::http::{Deps, refusal};
use crate::order::BillId;
use crate::store::bills::{BillPeople, StoredBill};
use crate::view;

/// The bill that the path names, if it is this merchant's.
async fn own_bill(
    deps: &Deps,
    signed: &Signed,
    request: &HttpRequest,
) -> Result<StoredBill, Problem> {
    let id: BillId = request
        .match_info()
        .get("id")
        .and_then(|id| id.parse().ok())
        .ok_or_else(Problem::not_found)?;
    let found = deps
        .store
        .bills_by_id(signed.caller.merchant.id, &[id])
        .await
        .map_err(|error| refusal::store_failed(&error))?;
    found.into_iter().next().ok_or_else(Problem::not_found)
}

/// Who pays a bill; `None` once erased.
pub fn people(deps: &Deps, stored: &StoredBill) -> Option<BillPeople> {
    let bill = &stored.bill;
    if bill.sealed.is_erased() {
        return None;
    }
    let opened = view::open_bill(&deps.sealer, bill.id, &bill.sealed);
    if opened.is_none() {
        tracing::error!(bill = %bill.id, "a bill's payer cannot be opened: is a field key missing?");
    }
    opened
}

/// The bill as JSON, as it stands now.
pub fn bill_json(deps: &Deps, stored: &StoredBill) -> Value {
    let people = people(deps, stored);
    deps.view().bill(stored, people.as_ref(), deps.clock.now())
}
