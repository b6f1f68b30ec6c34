//! `GET /v1/bills`: a merchant's bills, newest first, a page at a time.

use actix_web::{HttpResponse, web};

use super::bill_json;
use crate::http::auth::Signed;
use crate::http::json::Text;
use crate::http::merchant::paging::{
    DEFAULT_LIMIT, cursor_ulid, cut, list_body, read_limit, ulid_cursor,
};
use crate::http::merchant::read_query;
use crate::http::problem::Problem;
use crate::http::{Deps, openapi, refusal};
use crate::order::BillId;
use crate::store::bills::{BillFilter, BillStatus};

/// Another kind of cursor than that of orders.
const CURSOR_VERSION: u8 = 3;

#[utoipa::path(
    get,
    path = "/v1/bills",
    operation_id = "listBills",
    tag = "Bills",
    summary = "List bills",
    description = "Newest first. Pass next_cursor as cursor to read on; filters must stay the same. \
        status is as of the moment of the answer.",
    params(openapi::BillsQuery),
    responses(
        (status = 200, description = "A page of bills", body = openapi::BillListBody),
    ),
)]
pub async fn list_bills(deps: web::Data<Deps>, signed: Signed) -> Result<HttpResponse, Problem> {
    let mut filter = filter(&deps, &signed)?;
    let limit = filter.limit;
    filter.limit = limit + 1;
    let mut bills = deps
        .store
        .bills(&filter)
        .await
        .map_err(|error| refusal::store_failed(&error))?;
    let has_more = cut(&mut bills, limit);
    let next_cursor = bills
        .last()
        .filter(|_| has_more)
        .map(|last| ulid_cursor(CURSOR_VERSION, last.bill.id.ulid()));
    let data: Vec<_> = bills
        .iter()
        .map(|stored| bill_json(&deps, stored))
        .collect();
    Ok(HttpResponse::Ok().json(list_body(&data, next_cursor.as_deref())))
}

fn filter(deps: &Deps, signed: &Signed) -> Result<BillFilter, Problem> {
    let mut filter = BillFilter {
        merchant: signed.caller.merchant.id,
        payer_index: None,
        status: None,
        merchant_bill_no: None,
        before: None,
        limit: DEFAULT_LIMIT,
        now: deps.clock.now(),
    };
    read_query(&signed.query, |name, value| match name {
        "payer_ref" => {
            let good = Text::id(128).check(value).is_ok();
            filter.payer_index = Some(deps.sealer.index("payer_ref", value));
            (!good).then_some("expected a payer's ref")
        }
        "status" => {
            filter.status = BillStatus::ALL
                .into_iter()
                .find(|status| status.as_str() == value);
            filter
                .status
                .is_none()
                .then_some("expected unpaid, paying, paid or closed")
        }
        "merchant_bill_no" => {
            let good = Text::number(64).check(value).is_ok();
            filter.merchant_bill_no = Some(value.to_owned());
            (!good).then_some("expected a merchant_bill_no")
        }
        "cursor" => {
            filter.before = cursor_ulid(CURSOR_VERSION, value).map(BillId::from_ulid);
            filter
                .before
                .is_none()
                .then_some("expected the next_cursor of an earlier answer")
        }
        "limit" => read_limit(value, &mut filter.limit),
        _ => {
            Some("unknown parameter; expected payer_ref, status, merchant_bill_no, cursor or limit")
        }
    })?;
    Ok(filter)
}
