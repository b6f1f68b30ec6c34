//! `GET /v1/orders`: a merchant's orders, newest first, a page at a time.

use actix_web::{HttpResponse, web};

use super::order_json;
use super::paging::{DEFAULT_LIMIT, cursor_ulid, cut, list_body, read_limit, ulid_cursor};
use crate::http::auth::Signed;
use crate::http::json::Text;
use crate::http::problem::Problem;
use crate::http::{Deps, openapi, refusal};
use crate::order::{OrderId, Status, Timestamp};
use crate::store::OrderFilter;

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
    let has_more = cut(&mut orders, limit);
    let next_cursor = orders
        .last()
        .filter(|_| has_more)
        .map(|last| ulid_cursor(CURSOR_VERSION, last.order.id.ulid()));
    let view = deps.view();
    let mut data = Vec::with_capacity(orders.len());
    for stored in &orders {
        data.push(order_json(&deps, &view, stored).await?);
    }
    Ok(HttpResponse::Ok().json(list_body(&data, next_cursor.as_deref())))
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
            filter.before = cursor_ulid(CURSOR_VERSION, value).map(OrderId::from_ulid);
            filter
                .before
                .is_none()
                .then_some("expected the next_cursor of an earlier answer")
        }
        "limit" => read_limit(value, &mut filter.limit),
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
