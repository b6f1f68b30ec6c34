//! `GET /v1/orders`: a merchant's orders, newest first, a page at a time.

use actix_web::{HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use ulid::Ulid;

use super::order_json;
use crate::http::auth::Signed;
use crate::http::json::Text;
use crate::http::problem::Problem;
use crate::http::{Deps, openapi, refusal};
use crate::order::{OrderId, Status, Timestamp};
use crate::store::OrderFilter;

pub(super) const DEFAULT_LIMIT: usize = 20;
pub(super) const MOST: usize = 100;
/// The first byte of a cursor: another kind of cursor gets another number.
const CURSOR_VERSION: u8 = 1;

#[utoipa::path(
    get,
    path = "/v1/orders",
    operation_id = "listOrders",
    tag = "Orders",
    summary = "List orders",
    description = "Newest first. Pass next_cursor as cursor to read on; filters must stay the same.",
    params(openapi::ListQuery),
    responses(
        (status = 200, description = "A page of orders", body = openapi::OrderListBody),
    ),
)]
pub async fn list_orders(deps: web::Data<Deps>, signed: Signed) -> Result<HttpResponse, Problem> {
    let mut filter = filter(&deps, &signed)?;
    let limit = filter.limit;
    filter.limit = limit + 1;
    let mut orders = deps
        .store
        .orders(&filter)
        .await
        .map_err(|error| refusal::store_failed(&error))?;
    let has_more = orders.len() > limit;
    orders.truncate(limit);
    let next_cursor = orders
        .last()
        .filter(|_| has_more)
        .map(|last| write_cursor(last.order.id));
    let view = deps.view();
    let mut data = Vec::with_capacity(orders.len());
    for stored in &orders {
        data.push(order_json(&deps, &view, stored).await?);
    }
    Ok(HttpResponse::Ok().json(json!({
        "object": "list",
        "data": data,
        "has_more": has_more,
        "next_cursor": next_cursor,
    })))
}

fn filter(deps: &Deps, signed: &Signed) -> Result<OrderFilter, Problem> {
    let mut filter = OrderFilter {
        merchant: signed.caller.merchant.id,
        merchant_order_no: None,
        payer_index: None,
        status: None,
        created_after: None,
        before: None,
        limit: DEFAULT_LIMIT,
    };
    super::read_query(&signed.query, |name, value| match name {
        "merchant_order_no" => {
            let good = Text::number(64).check(value).is_ok();
            filter.merchant_order_no = Some(value.to_owned());
            (!good).then_some("expected a merchant_order_no")
        }
        "payer_ref" => {
            let good = Text::id(128).check(value).is_ok();
            filter.payer_index = Some(deps.sealer.index("payer_ref", value));
            (!good).then_some("expected a payer's ref")
        }
        "status" => {
            filter.status = read_status(value);
            filter
                .status
                .is_none()
                .then_some("expected unpaid, paying, paid or closed")
        }
        "created_after" => {
            let instant = value.parse::<jiff::Timestamp>().ok();
            filter.created_after = instant.map(|at| Timestamp::from_millis(at.as_millisecond()));
            instant
                .is_none()
                .then_some("expected an RFC 3339 time with an offset (write + as %2B)")
        }
        "cursor" => {
            filter.before = read_cursor(value);
            filter
                .before
                .is_none()
                .then_some("expected the next_cursor of an earlier answer")
        }
        "limit" => match value.parse() {
            Ok(limit) if (1..=MOST).contains(&limit) => {
                filter.limit = limit;
                None
            }
            _ => Some("expected a whole number from 1 to 100"),
        },
        _ => Some(
            "unknown parameter; expected merchant_order_no, payer_ref, status, created_after, cursor or limit",
        ),
    })?;
    Ok(filter)
}

fn read_status(text: &str) -> Option<Status> {
    [Status::Unpaid, Status::Paying, Status::Paid, Status::Closed]
        .into_iter()
        .find(|status| status.as_str() == text)
}

fn write_cursor(last: OrderId) -> String {
    ulid_cursor(CURSOR_VERSION, last.ulid())
}

fn read_cursor(text: &str) -> Option<OrderId> {
    cursor_ulid(CURSOR_VERSION, text).map(OrderId::from_ulid)
}

/// A cursor of one kind: the last id that was handed out.
pub(super) fn ulid_cursor(version: u8, last: Ulid) -> String {
    let mut bytes = vec![version];
    bytes.extend_from_slice(&u128::from(last).to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn cursor_ulid(expected: u8, text: &str) -> Option<Ulid> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (version, id) = bytes.split_first()?;
    let id: [u8; 16] = id.try_into().ok()?;
    (*version == expected).then(|| Ulid::from(u128::from_be_bytes(id)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cursors_are_read_back(id: u128) {
            let id = OrderId::from_ulid(Ulid::from(id));
            prop_assert_eq!(read_cursor(&write_cursor(id)), Some(id));
        }

        #[test]
        fn any_cursor_is_read_or_refused(text: String) {
            if let Some(id) = read_cursor(&text) {
                prop_assert_eq!(write_cursor(id), text);
            }
        }
    }
}
