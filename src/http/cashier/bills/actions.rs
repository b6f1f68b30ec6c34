//! The buttons of a payer's list: pay the bills that are ticked, cancel the order that holds some.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::Map;

use super::page::{Listed, back, see_other, show};
use super::{Entered, List, enter};
use crate::actors::OrdersError;
use crate::http::cashier::actions::end_order;
use crate::http::cashier::page::trouble;
use crate::http::cashier::said::Said;
use crate::http::cashier::visitor::{Form, Visitor};
use crate::http::json::Text;
use crate::http::making::{Draft, offers};
use crate::http::merchant::bills::people;
use crate::http::merchant::new_order::{Asked, late_payment, looks_like_email};
use crate::http::problem::{Code, Problem};
use crate::http::{Deps, metric, refusal};
use crate::order::{BillId, Fen, LatePayment, OrderId, Settlement};
use crate::store::bills::{BillPeople, BillStatus, StoredBill};
use crate::store::{Actor, BillRef, PayerIdentity, Rejection, Write};

/// Items of one order at most, and so bills.
const MOST_ITEMS: usize = 200;
/// Two hundred ids and an e-mail address.
const FORM_BYTES: usize = 16 * 1024;
/// Characters of a first subject that leave room for how many there are.
const SUBJECT: usize = 115;

/// How a press ends where nothing is wrong with it.
enum End {
    /// At the cashier, with this order.
    Pay(OrderId),
    /// At a list, with a word.
    List(List, Said),
}

/// `POST /bills/{token}/orders`
pub(super) async fn make(
    request: HttpRequest,
    payload: web::Payload,
    path: web::Path<String>,
    deps: web::Data<Deps>,
) -> Result<HttpResponse, Problem> {
    answer(&request, payload, &path, &deps, async |entered, form| {
        order_of_ticked(&deps, entered, form).await
    })
    .await
}

/// `POST /bills/{token}/cancel`
pub(super) async fn cancel(
    request: HttpRequest,
    payload: web::Payload,
    path: web::Path<String>,
    deps: web::Data<Deps>,
) -> Result<HttpResponse, Problem> {
    answer(&request, payload, &path, &deps, async |entered, form| {
        cancel_order(&deps, entered, form).await
    })
    .await
}

/// Reads the press, does the work, writes the answer.
async fn answer(
    request: &HttpRequest,
    payload: web::Payload,
    token: &str,
    deps: &Deps,
    work: impl AsyncFnOnce(&Entered, &Form) -> Result<End, Problem>,
) -> Result<HttpResponse, Problem> {
    let visitor = Visitor::of(request, deps);
    let pressed = async {
        let form = Form::read_within(request, payload, FORM_BYTES).await?;
        let entered = enter(deps, token).await?;
        if !visitor.check_csrf(deps, token, form.get("csrf")) {
            if visitor.json {
                return Err(Problem::new(
                    Code::PageStale,
                    "Expected the csrf member and the cookie of a page that this browser loaded.",
                ));
            }
            let (said, status) = (Some(Said::Stale), StatusCode::FORBIDDEN);
            let list = Listed::default();
            return show(deps, &visitor, token, &entered, list, said, status).await;
        }
        Ok(match work(&entered, &form).await? {
            End::Pay(order) => {
                let place = format!("/pay/{}{}", deps.view().pay_token(order), visitor.query);
                see_other(deps, &visitor, place)
            }
            End::List(list, said) => back(deps, &visitor, token, list, Some(said)),
        })
    };
    match pressed.await {
        Ok(response) => Ok(response),
        Err(problem) => trouble(deps, &visitor, problem),
    }
}

async fn order_of_ticked(deps: &Deps, entered: &Entered, form: &Form) -> Result<End, Problem> {
    let mut ids = Vec::new();
    for text in form.all("bill") {
        let id: BillId = text.parse().map_err(|_| Problem::not_found())?;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    if ids.is_empty() {
        return Ok(End::List(List::Unpaid, Said::NothingTicked));
    }
    if ids.len() > MOST_ITEMS {
        return Ok(End::List(List::Unpaid, Said::TooManyTicked));
    }
    let email = match form.get("email").map(str::trim) {
        None | Some("") => None,
        Some(email) if Text::id(254).check(email).is_ok() && looks_like_email(email) => {
            Some(email.to_owned())
        }
        Some(_) => return Ok(End::List(List::Unpaid, Said::NotAnEmail)),
    };
    let bills = own_bills(deps, entered, &ids).await?;
    let now = deps.clock.now();
    if bills
        .iter()
        .any(|stored| stored.status(now) != BillStatus::Unpaid)
    {
        return Ok(in_another_order(&bills));
    }
    let id = deps.orders.new_id(now);
    let Some(asked) = asked_for(deps, entered, id, &bills, email)? else {
        return Ok(End::List(List::Unpaid, Said::TooManyTicked));
    };
    let draft = Draft {
        id,
        merchant: &entered.merchant,
        asked: &asked,
        offers: offers(deps, &entered.merchant.accounts, None, false)?,
        possible_duplicate: None,
        bills: bills
            .iter()
            .map(|stored| BillRef {
                id: stored.bill.id,
                merchant_bill_no: stored.bill.merchant_bill_no.clone(),
            })
            .collect(),
    };
    let view = deps.view();
    let claim = Write::BillsClaimed {
        merchant: entered.merchant.id,
        order: id,
        bills: ids.clone(),
    };
    let (new, _) = draft.finish(deps, &view, Actor::Payer, vec![claim]);
    let made = deps.orders.create(new).await;
    let outcome = |outcome| metrics::counter!(metric::BILL_ORDERS, "outcome" => outcome);
    match made {
        Ok(_) => {
            outcome("made").increment(1);
            Ok(End::Pay(id))
        }
        Err(OrdersError::Rejected(Rejection::BillTaken { .. })) => {
            outcome("taken").increment(1);
            Ok(in_another_order(&own_bills(deps, entered, &ids).await?))
        }
        Err(error) => Err(refusal::unanswered(&error, &view)),
    }
}

/// The bills of these ids in their order; nothing of anybody else's.
async fn own_bills(
    deps: &Deps,
    entered: &Entered,
    ids: &[BillId],
) -> Result<Vec<StoredBill>, Problem> {
    let found = deps
        .store
        .bills_by_id(entered.merchant.id, ids)
        .await
        .map_err(|error| refusal::store_failed(&error))?;
    ids.iter()
        .map(|id| {
            found
                .iter()
                .find(|stored| stored.bill.id == *id)
                .filter(|stored| stored.bill.payer_index == entered.link.payer_index)
                .cloned()
                .ok_or_else(Problem::not_found)
        })
        .collect()
}

/// Pressed twice, the second press comes to the first one's order.
fn in_another_order(bills: &[StoredBill]) -> End {
    let holders: Vec<Option<OrderId>> = bills
        .iter()
        .map(|stored| stored.holder().map(|order| order.id))
        .collect();
    match holders.split_first() {
        Some((Some(order), others)) if others.iter().all(|other| *other == Some(*order)) => {
            End::Pay(*order)
        }
        _ => End::List(List::Unpaid, Said::BillsTaken),
    }
}

/// One order for them all; `None` where they are too many or too much for one.
fn asked_for(
    deps: &Deps,
    entered: &Entered,
    id: OrderId,
    bills: &[StoredBill],
    receipt_email: Option<String>,
) -> Result<Option<Asked>, Problem> {
    let first = bills.first().ok_or_else(Problem::not_found)?;
    let items: Vec<_> = bills
        .iter()
        .flat_map(|stored| stored.bill.content.items.iter().cloned())
        .collect();
    let sum = Fen::sum(bills.iter().map(|stored| stored.bill.amount));
    let Some(amount) = sum.filter(|sum| sum.is_payable() && items.len() <= MOST_ITEMS) else {
        return Ok(None);
    };
    let BillPeople {
        payer_ref,
        name,
        id_number,
        phone,
        ..
    } = people(deps, first).ok_or_else(|| {
        Problem::new(
            Code::InternalError,
            "The payer of a bill could not be read.",
        )
    })?;
    let contents = || bills.iter().map(|stored| &stored.bill.content);
    let accepts = contents().all(|bill| matches!(bill.late_payment, LatePayment::Accept { .. }));
    let grace = contents().map(|bill| bill.late_grace_seconds).min();
    let late_grace_seconds = grace.filter(|_| accepts).unwrap_or(0);
    let subject = &first.bill.content.subject;
    Ok(Some(Asked {
        merchant_order_no: format!("BILLS-{}", id.ulid()),
        subject: match bills.len() {
            1 => subject.clone(),
            count => {
                let subject: String = subject.chars().take(SUBJECT).collect();
                format!("{subject} 等{count}项")
            }
        },
        items,
        amount,
        payer_ref,
        name,
        id_number,
        phone,
        registrant: None,
        wallets: None,
        purpose: None,
        late_payment: late_payment(accepts, late_grace_seconds),
        late_grace_seconds,
        receipt_email,
        payer_identity: PayerIdentity::None,
        display_fields: Vec::new(),
        pay_before: bills
            .iter()
            .filter_map(|stored| stored.bill.pay_before)
            .min(),
        return_url: entered.link.return_url.clone(),
        metadata: Map::new(),
    }))
}

/// Only once the provider has said that nobody can pay it any more are its bills free.
async fn cancel_order(deps: &Deps, entered: &Entered, form: &Form) -> Result<End, Problem> {
    let id: OrderId = form
        .get("order")
        .and_then(|id| id.parse().ok())
        .ok_or_else(Problem::not_found)?;
    let stored = deps
        .orders
        .read(id)
        .await
        .map_err(|error| refusal::unanswered(&error, &deps.view()))?
        .filter(|stored| {
            stored.order.terms.merchant == entered.merchant.id
                && stored.snapshot.payer_index == entered.link.payer_index
                && !stored.snapshot.bills.is_empty()
        })
        .ok_or_else(Problem::not_found)?;
    let (stored, _) = end_order(deps, stored.order.id).await?;
    Ok(match stored.order.settlement {
        Settlement::Paid { .. } => End::List(List::Paid, Said::Paid(deps.clock.now())),
        Settlement::Closed { .. } => End::List(List::Unpaid, Said::Cancelled),
        Settlement::Open => End::List(List::Paying, Said::Cancelling),
    })
}
