//! `GET /receipts/{token}`: the receipt of a paid order, to show and to print on one page. An address of
//! its own, so that it can be handed on and kept apart from the cashier's.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::capitals::capitals;
use super::told::{Told, grouped, masks, merchant};
use crate::http::cashier::page::{Frame, ItemLine, find_by, item_lines, payer_label, trouble};
use crate::http::cashier::panel::wallet_name;
use crate::http::cashier::visitor::{PAGE_POLICY, Visitor, html, zone};
use crate::http::problem::Problem;
use crate::http::words::Words;
use crate::http::{Deps, assets};
use crate::order::FiscalReceipt;
use crate::qr::Qr;
use crate::sealing::TokenKind;
use crate::store::StoredOrder;

/// More items than these are printed smaller, so that they stay on one page as long as they can.
const MANY_ITEMS: usize = 8;

/// The fiscal e-receipt, told.
struct Fiscal {
    number: String,
    url: String,
    issued_at: String,
}

#[derive(Template)]
#[template(path = "receipts/receipt.html")]
struct Receipt {
    frame: Frame,
    w: &'static Words,
    css: String,
    told: Told,
    code: String,
    people: Vec<(&'static str, String)>,
    items: Vec<ItemLine>,
    has_codes: bool,
    has_notes: bool,
    columns: usize,
    many: bool,
    amount_in_capitals: String,
    wallet: &'static str,
    transaction: String,
    order_number: String,
    checksum: String,
    fiscal: Option<Fiscal>,
    verify_url: String,
    picture: Option<(u32, String)>,
    help: Option<String>,
}

pub async fn get(
    request: HttpRequest,
    path: web::Path<String>,
    deps: web::Data<Deps>,
) -> Result<HttpResponse, Problem> {
    let visitor = Visitor::of(&request, &deps);
    let found = match find_by(&deps, TokenKind::Receipt, &path).await {
        Ok(stored) => show(&deps, &visitor, &stored).await,
        Err(problem) => Err(problem),
    };
    found.or_else(|problem| trouble(&deps, &visitor, problem))
}

async fn show(
    deps: &Deps,
    visitor: &Visitor,
    stored: &StoredOrder,
) -> Result<HttpResponse, Problem> {
    let w = visitor.words();
    let order = &stored.order;
    let payment = order.payment().ok_or_else(Problem::not_found)?;
    let merchant = merchant(deps, stored).await?;
    let masked = masks(deps, stored).await?;
    let zone = zone(deps);
    let view = deps.view();
    let told = Told::of(stored, payment, merchant.as_ref(), w, zone);
    let verify_url = view.verify_url(order.id);
    let items = item_lines(&stored.snapshot.items);
    let has_codes = items.iter().any(|item| !item.code.is_empty());
    let has_notes = items.iter().any(|item| !item.note.is_empty());
    let page = Receipt {
        frame: Frame::of(visitor, w.receipt, &told.payee, "receipt.js"),
        w,
        css: assets::href("receipt.css"),
        code: grouped(&view.check_code(order.id)),
        people: [
            (payer_label(w, &stored.snapshot), masked.name),
            (w.id_number, masked.id_number),
        ]
        .into_iter()
        .filter_map(|(label, value)| Some((label, value?)))
        .collect(),
        columns: 1 + usize::from(has_codes) + usize::from(has_notes),
        many: items.len() > MANY_ITEMS,
        items,
        has_codes,
        has_notes,
        amount_in_capitals: capitals(payment.amount),
        wallet: wallet_name(payment.wallet, w),
        transaction: payment.transaction_id.to_string(),
        order_number: stored.snapshot.merchant_order_no.clone(),
        checksum: stored.snapshot.hash.clone(),
        fiscal: order
            .fiscal_receipt
            .as_ref()
            .map(|known: &FiscalReceipt| Fiscal {
                number: known.number.to_string(),
                url: known.url.to_string(),
                issued_at: zone.date_and_minute(known.issued_at),
            }),
        picture: Qr::of(&verify_url)
            .ok()
            .map(|code| (code.side(), code.path())),
        verify_url,
        help: merchant.and_then(|merchant| merchant.help_lines[1].clone()),
        told,
    };
    html(visitor, deps, StatusCode::OK, PAGE_POLICY, &page)
}
