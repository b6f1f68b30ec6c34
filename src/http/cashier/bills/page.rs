//! `GET /bills/{token}`: one list of bills.

use actix_web::http::StatusCode;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::{Entered, List, enter};
use crate::http::cashier::page::{Frame, ItemLine, item_lines, trouble};
use crate::http::cashier::said::{self, Said};
use crate::http::cashier::times::Zone;
use crate::http::cashier::visitor::{PAGE_POLICY, Visitor, html, zone};
use crate::http::problem::Problem;
use crate::http::words::{Words, fill};
use crate::http::{Deps, refusal};
use crate::order::{BillId, Fen, OrderId, Wallet};
use crate::store::MaskedPayer;
use crate::store::bills::{BillFilter, StoredBill};
use crate::view::View;

/// Bills on one page.
const PAGE: usize = 100;

#[derive(Template)]
#[template(path = "cashier/bills.html")]
struct Page {
    frame: Frame,
    w: &'static Words,
    base: String,
    csrf: String,
    tabs: Vec<Tab>,
    facts: Vec<(&'static str, String)>,
    answer: Option<String>,
    /// 待缴费.
    unpaid: Option<Unpaid>,
    /// 缴费中, by the order that holds them.
    held: Vec<Held>,
    /// 已完成.
    paid: Vec<BillLine>,
    is_empty: bool,
    older_href: Option<String>,
    return_href: Option<String>,
    help_paying: Option<String>,
    help_fee: Option<String>,
    until: String,
}

struct Tab {
    label: &'static str,
    href: String,
    here: bool,
}

struct Unpaid {
    bills: Vec<BillLine>,
    /// 合计 of all that are shown.
    sum: String,
}

struct Held {
    order: String,
    pay_href: String,
    sum: String,
    bills: Vec<BillLine>,
}

struct BillLine {
    id: String,
    number: String,
    subject: String,
    amount: String,
    fen: i64,
    deadline: Option<String>,
    items: Vec<ItemLine>,
    paid: Vec<(&'static str, String)>,
    receipt_href: Option<String>,
    ticked: bool,
}

/// The handler.
pub(super) async fn get(
    request: HttpRequest,
    path: web::Path<String>,
    deps: web::Data<Deps>,
) -> Result<HttpResponse, Problem> {
    let visitor = Visitor::of(&request, &deps);
    let token = path.into_inner();
    let query = request.query_string();
    let said = said::from(&request);
    let shown = async {
        let entered = enter(&deps, &token).await?;
        let list = Listed {
            list: List::of(query),
            before: before(query),
        };
        show(
            &deps,
            &visitor,
            &token,
            &entered,
            list,
            said,
            StatusCode::OK,
        )
        .await
    };
    match shown.await {
        Ok(mut response) => {
            if said.is_some() {
                said::forget(&deps, &mut response, &format!("/bills/{token}"));
            }
            Ok(response)
        }
        Err(problem) => trouble(&deps, &visitor, problem),
    }
}

/// Which page of which list.
#[derive(Clone, Copy, Default)]
pub(super) struct Listed {
    pub list: List,
    pub before: Option<BillId>,
}

fn before(query: &str) -> Option<BillId> {
    url::form_urlencoded::parse(query.as_bytes())
        .find(|(name, _)| name == "before")
        .and_then(|(_, id)| id.parse().ok())
}

pub(super) async fn show(
    deps: &Deps,
    visitor: &Visitor,
    token: &str,
    Entered { link, merchant }: &Entered,
    Listed { list, before }: Listed,
    said: Option<Said>,
    status: StatusCode,
) -> Result<HttpResponse, Problem> {
    let w = visitor.words();
    let zone = zone(deps);
    let mut bills = deps
        .store
        .bills(&BillFilter {
            merchant: merchant.id,
            payer_index: Some(link.payer_index),
            status: Some(list.status()),
            merchant_bill_no: None,
            before,
            limit: PAGE + 1,
            now: deps.clock.now(),
        })
        .await
        .map_err(|error| refusal::store_failed(&error))?;
    let has_more = bills.len() > PAGE;
    bills.truncate(PAGE);
    let older = bills.last().filter(|_| has_more).map(|last| last.bill.id);
    let view = deps.view();
    let lines = Lines {
        w,
        zone,
        view: &view,
        only_one: bills.len() == 1 && !has_more && before.is_none(),
    };
    let mut page = Page {
        frame: Frame {
            other_href: list
                .href(token, &format!("?lang={}", visitor.language.other().tag()))
                .replace(&format!("/bills/{token}"), ""),
            ..Frame::of(visitor, w.bills_heading, &merchant.display_name, "bills.js")
        },
        w,
        base: format!("/bills/{token}"),
        csrf: visitor.csrf(deps, token),
        tabs: List::ALL
            .into_iter()
            .map(|tab| Tab {
                label: label(tab, w),
                href: tab.href(token, visitor.query),
                here: tab == list,
            })
            .collect(),
        facts: facts(w, &merchant.display_name, &link.payer_masked, bills.first()),
        answer: said.map(|said| said.write(w, zone)),
        unpaid: None,
        held: Vec::new(),
        paid: Vec::new(),
        is_empty: bills.is_empty(),
        older_href: older.map(|id| format!("{}&before={id}", list.href(token, visitor.query))),
        return_href: link.return_url.clone(),
        help_paying: merchant.help_lines[0].clone(),
        help_fee: merchant.help_lines[1].clone(),
        until: fill(
            w.bills_until,
            &[("time", &zone.date_and_minute(link.expires_at))],
        ),
    };
    match list {
        List::Unpaid if !bills.is_empty() => {
            page.unpaid = Some(Unpaid {
                sum: sum(&bills),
                bills: bills.iter().map(|bill| lines.line(bill)).collect(),
            });
        }
        List::Unpaid => {}
        List::Paying => page.held = lines.held(&bills),
        List::Paid => page.paid = bills.iter().map(|bill| lines.line(bill)).collect(),
    }
    html(visitor, deps, status, PAGE_POLICY, &page)
}

const fn label(list: List, w: &'static Words) -> &'static str {
    match list {
        List::Unpaid => w.bills_unpaid,
        List::Paying => w.bills_paying,
        List::Paid => w.bills_paid,
    }
}

/// Who pays: as the link says, or else as the bills do.
fn facts(
    w: &'static Words,
    payee: &str,
    link: &MaskedPayer,
    bill: Option<&StoredBill>,
) -> Vec<(&'static str, String)> {
    let bill = bill.map(|stored| &stored.bill.payer_masked);
    let mut facts = vec![(w.payee, payee.to_owned())];
    let both = |member: fn(&MaskedPayer) -> &Option<String>| {
        let of_link = member(link).as_ref();
        of_link.or_else(|| member(bill?).as_ref()).cloned()
    };
    for (label, shown) in [
        (w.bills_payer, both(|payer| &payer.name)),
        (w.id_number, both(|payer| &payer.id_number)),
        (w.phone, both(|payer| &payer.phone)),
    ] {
        facts.extend(shown.map(|shown| (label, shown)));
    }
    facts
}

fn sum(bills: &[StoredBill]) -> String {
    Fen::sum(bills.iter().map(|stored| stored.bill.amount))
        .map(|sum| sum.to_string())
        .unwrap_or_default()
}

struct Lines<'a> {
    w: &'static Words,
    zone: Zone,
    view: &'a View,
    only_one: bool,
}

impl Lines<'_> {
    fn line(&self, stored: &StoredBill) -> BillLine {
        let (w, bill) = (self.w, &stored.bill);
        let paying = stored.order.as_ref().and_then(|order| {
            let payment = order.payment.as_ref()?;
            Some((order.id, payment))
        });
        let paid = paying.map_or_else(Vec::new, |(_, payment)| {
            let wallet = match payment.wallet {
                Wallet::Wechat => w.wechat,
                Wallet::Alipay => w.alipay,
            };
            vec![
                (w.paid_at, self.zone.date_and_clock(payment.paid_at)),
                (w.paid_with, wallet.to_owned()),
                (w.transaction, payment.transaction_id.clone()),
            ]
        });
        BillLine {
            id: bill.id.to_string(),
            number: bill.merchant_bill_no.clone(),
            subject: bill.content.subject.clone(),
            amount: bill.amount.to_string(),
            fen: bill.amount.get(),
            deadline: bill
                .pay_before
                .filter(|_| paid.is_empty())
                .map(|deadline| self.zone.date_and_minute(deadline)),
            items: item_lines(&bill.content.items),
            receipt_href: paying
                .map(|(order, _)| format!("/receipts/{}", self.view.receipt_token(order))),
            paid,
            ticked: self.only_one,
        }
    }

    fn held(&self, bills: &[StoredBill]) -> Vec<Held> {
        let mut orders: Vec<(OrderId, Vec<StoredBill>)> = Vec::new();
        for stored in bills {
            let Some(order) = stored.holder() else {
                continue;
            };
            match orders.iter_mut().find(|(id, _)| *id == order.id) {
                Some((_, held)) => held.push(stored.clone()),
                None => orders.push((order.id, vec![stored.clone()])),
            }
        }
        orders
            .into_iter()
            .map(|(id, bills)| Held {
                order: id.to_string(),
                pay_href: format!("/pay/{}", self.view.pay_token(id)),
                sum: sum(&bills),
                bills: bills.iter().map(|bill| self.line(bill)).collect(),
            })
            .collect()
    }
}

/// 303 to a list, with what is to be said there.
pub(super) fn back(
    deps: &Deps,
    visitor: &Visitor,
    token: &str,
    list: List,
    said: Option<Said>,
) -> HttpResponse {
    let mut response = see_other(deps, visitor, list.href(token, visitor.query));
    if let Some(said) = said {
        said::remember(deps, &mut response, &format!("/bills/{token}"), said);
    }
    response
}

pub(super) fn see_other(deps: &Deps, visitor: &Visitor, place: String) -> HttpResponse {
    let mut response = HttpResponse::SeeOther();
    visitor.dress(deps, &mut response, PAGE_POLICY);
    response.insert_header((header::LOCATION, place)).finish()
}
