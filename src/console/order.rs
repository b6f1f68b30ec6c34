//! One order on one page: the answer to whoever is on the phone, and under it everything that it rests on.

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::Console;
use super::history::{self, Line};
use super::page::{self, Frame};
use super::search::Found;
use super::visitor::{self, Failure};
use super::why::Why;
use super::words::{self, Tone};
use crate::operations::Login;
use crate::order::state::CaptureStanding;
use crate::order::{Fen, Order, OrderId, OutTradeNo};
use crate::store::{
    BillRef, DeliveryState, LedgerLine, OrderFilter, OutboxEntry, StoreError, StoredOrder,
    TimelineEntry,
};
use crate::view::PERSONAL_SLOT;

/// Other orders of the payer that are shown.
const OTHERS: usize = 6;

#[derive(Template)]
#[template(path = "console/order.html")]
struct Page {
    frame: Frame,
    id: OrderId,
    status: &'static str,
    tone: Tone,
    refund_status: Option<&'static str>,
    why: Why,
    amount: String,
    facts: Vec<(&'static str, String)>,
    items: Vec<Item>,
    bills: Vec<BillRef>,
    attempts: Vec<Attempt>,
    captures: Vec<Capture>,
    odd: Vec<Odd>,
    refunds: Vec<Refund>,
    events: Vec<Event>,
    history: Vec<Line>,
    ledger: Vec<Movement>,
    others: Vec<Found>,
}

struct Item {
    name: String,
    code: String,
    note: String,
    amount: String,
}

struct Attempt {
    number: u16,
    status: &'static str,
    wallet: &'static str,
    started_at: String,
    scanned_at: String,
    expires_at: String,
    trade: String,
}

struct Capture {
    wallet: &'static str,
    transaction: String,
    amount: String,
    at: String,
    standing: &'static str,
    tone: Tone,
}

struct Odd {
    number: usize,
    reason: String,
    transaction: String,
    amount: String,
    at: String,
    standing: &'static str,
    is_open: bool,
}

struct Refund {
    id: String,
    cause: &'static str,
    amount: String,
    status: &'static str,
    tone: Tone,
    number: String,
    may_retry: bool,
}

struct Event {
    id: String,
    kind: &'static str,
    state: &'static str,
    tone: Tone,
    at: String,
    tries: u16,
    note: String,
    /// What its button does, and is called.
    button: Option<(&'static str, &'static str)>,
}

struct Movement {
    at: String,
    book: String,
    amount: String,
}

/// An order's id in an address.
pub(super) fn id(text: &str) -> Result<OrderId, Failure> {
    text.parse().map_err(|_| Failure::not_found())
}

/// What the page is written from.
struct Read {
    stored: StoredOrder,
    school: String,
    has_people: bool,
    timeline: Vec<TimelineEntry>,
    events: Vec<OutboxEntry>,
    ledger: Vec<LedgerLine>,
    others: Vec<StoredOrder>,
}

/// `GET /orders/{id}`
pub(super) async fn get(
    console: web::Data<Console>,
    request: HttpRequest,
    path: web::Path<String>,
) -> Result<HttpResponse, Failure> {
    let login = visitor::signed(&console, &request).await?;
    let before = |failure: Failure| failure.before(&console, &login);
    let id = id(&path).map_err(before)?;
    let read = read(&console, id)
        .await
        .map_err(|error| before(error.into()))?
        .ok_or_else(|| before(Failure::not_found()))?;
    Ok(page::ok(&written(&console, &request, &login, &read)))
}

async fn read(console: &Console, id: OrderId) -> Result<Option<Read>, StoreError> {
    let store = &console.operations.store;
    let Some(stored) = store.order(id).await? else {
        return Ok(None);
    };
    let merchant = stored.order.terms.merchant;
    let of_payer = OrderFilter {
        merchant,
        merchant_order_no: None,
        payer_index: Some(stored.snapshot.payer_index),
        status: None,
        created_after: None,
        before: None,
        limit: OTHERS,
    };
    let (school, people, timeline, events, ledger, others) = futures_util::try_join!(
        store.merchant(merchant),
        store.personal(id, PERSONAL_SLOT),
        store.timeline(id),
        store.outbox_of(id),
        store.ledger(id),
        store.orders(&of_payer),
    )?;
    Ok(Some(Read {
        school: school.map_or_else(String::new, |school| school.display_name),
        has_people: people.is_some(),
        timeline,
        events,
        ledger,
        others: others
            .into_iter()
            .filter(|other| other.order.id != id)
            .collect(),
        stored,
    }))
}

fn written(console: &Console, request: &HttpRequest, login: &Login, read: &Read) -> Page {
    let StoredOrder { order, snapshot } = &read.stored;
    let zone = console.zone();
    let (status, tone) = words::order_status(order);
    let mut facts = vec![
        ("学校", read.school.clone()),
        ("项目", snapshot.subject.clone()),
        ("报名系统单号", snapshot.merchant_order_no.clone()),
        ("订单号", order.id.to_string()),
    ];
    facts.extend(payer(read));
    facts.push(("创建时间", zone.date_and_clock(order.created_at)));
    if let Some(deadline) = order.terms.pay_before {
        facts.push(("截止时间", zone.date_and_clock(deadline)));
    }
    Page {
        frame: Frame::of(
            console,
            login,
            format!("订单 {}", snapshot.merchant_order_no),
            "search",
        )
        .noting(request),
        id: order.id,
        status,
        tone,
        refund_status: words::refund_status(order.refund_status()),
        why: Why::of(order, zone, console.operations.clock.now()),
        amount: order.terms.amount.to_string(),
        facts,
        items: snapshot
            .items
            .iter()
            .map(|item| Item {
                name: item.name.clone(),
                code: item.code.clone().unwrap_or_default(),
                note: item.note.clone().unwrap_or_default(),
                amount: item.amount.to_string(),
            })
            .collect(),
        bills: snapshot.bills.clone(),
        attempts: attempts(console, order),
        captures: captures(console, order),
        odd: odd(console, order),
        refunds: refunds(order),
        events: read
            .events
            .iter()
            .map(|entry| event(console, entry))
            .collect(),
        history: read
            .timeline
            .iter()
            .map(|entry| history::line(console, order, entry))
            .collect(),
        ledger: read
            .ledger
            .iter()
            .map(|line| Movement {
                at: zone.date_and_clock(line.at),
                book: words::book(&line.book),
                amount: signed(line.amount),
            })
            .collect(),
        others: read
            .others
            .iter()
            .map(|other| found(console, other))
            .collect(),
    }
}

/// The payer as the order shows them: masked, or that they were erased.
fn payer(read: &Read) -> Vec<(&'static str, String)> {
    if !read.has_people {
        return vec![("缴费人", "信息已按规定删除".to_owned())];
    }
    let person = &read.stored.snapshot.payer_masked;
    [
        ("缴费人", &person.name),
        ("证件号", &person.id_number),
        ("手机", &person.phone),
    ]
    .into_iter()
    .filter_map(|(label, value)| Some((label, value.clone()?)))
    .collect()
}

fn attempts(console: &Console, order: &Order) -> Vec<Attempt> {
    let zone = console.zone();
    order
        .attempts
        .iter()
        .map(|attempt| {
            let wallet = attempt
                .native
                .or_else(|| attempt.claim.map(|claim| claim.product.wallet()));
            let trade = OutTradeNo {
                order: order.id,
                attempt: attempt.number,
            };
            Attempt {
                number: attempt.number.get(),
                status: words::attempt_status(attempt),
                wallet: wallet.map_or("", words::wallet),
                started_at: zone.date_and_clock(attempt.started_at),
                scanned_at: attempt
                    .claim
                    .map(|claim| zone.clock(claim.at))
                    .unwrap_or_default(),
                expires_at: zone.clock(attempt.expires_at),
                trade: attempt
                    .trade
                    .as_ref()
                    .map(|_| trade.to_string())
                    .unwrap_or_default(),
            }
        })
        .collect()
}

fn captures(console: &Console, order: &Order) -> Vec<Capture> {
    order
        .captures
        .iter()
        .map(|capture| {
            let (standing, tone) = match capture.standing {
                CaptureStanding::Kept => ("缴费成功", "good"),
                CaptureStanding::Surplus { standing, .. } if standing.is_over() => {
                    ("多付，退款已结束", "quiet")
                }
                CaptureStanding::Surplus { .. } => ("多付，正在退回", "wait"),
            };
            Capture {
                wallet: words::wallet(capture.wallet),
                transaction: capture.transaction_id.to_string(),
                amount: capture.amount.to_string(),
                at: console.zone().date_and_clock(capture.succeeded_at),
                standing,
                tone,
            }
        })
        .collect()
}

fn odd(console: &Console, order: &Order) -> Vec<Odd> {
    order
        .mismatches
        .iter()
        .enumerate()
        .map(|(number, odd)| {
            let (standing, is_open) = super::settle::standing(odd.standing);
            Odd {
                number,
                reason: super::settle::reason(odd),
                transaction: odd.transaction_id.to_string(),
                amount: super::settle::amount(odd),
                at: console.zone().date_and_clock(odd.heard_at),
                standing,
                is_open,
            }
        })
        .collect()
}

fn refunds(order: &Order) -> Vec<Refund> {
    order
        .every_refund()
        .map(|refund| {
            let word = refund.standing.as_str();
            let (status, tone) = words::refund(word);
            Refund {
                id: refund.id.to_string(),
                cause: words::refund_cause(refund.cause),
                amount: refund.amount.to_string(),
                status,
                tone,
                number: refund.number(order),
                // One that is on its way is asked for again by itself.
                may_retry: word == "failed",
            }
        })
        .collect()
}

fn event(console: &Console, entry: &OutboxEntry) -> Event {
    let (state, tone) = words::delivery(entry.state);
    let button = match entry.state {
        DeliveryState::Pending => ("park", "停止推送"),
        DeliveryState::Delivered => ("resend", "重新推送"),
        DeliveryState::Parked => ("release", "恢复推送"),
    };
    Event {
        id: entry.id.to_string(),
        kind: words::event_kind(entry.kind.as_str()),
        state,
        tone,
        at: console.zone().date_and_clock(entry.created_at),
        tries: entry.tries,
        note: entry.note.clone(),
        button: (!entry.body.is_erased()).then_some(button),
    }
}

/// With its sign before the currency's.
fn signed(amount: Fen) -> String {
    let positive = Fen::new(amount.get().saturating_abs());
    if amount < Fen::ZERO {
        format!("-{positive}")
    } else {
        positive.to_string()
    }
}

/// An order as a list shows it.
pub(super) fn found(console: &Console, stored: &StoredOrder) -> Found {
    let (status, tone) = words::order_status(&stored.order);
    Found {
        id: stored.order.id.to_string(),
        number: stored.snapshot.merchant_order_no.clone(),
        subject: stored.snapshot.subject.clone(),
        payer: stored
            .snapshot
            .payer_masked
            .name
            .clone()
            .unwrap_or_default(),
        amount: stored.order.terms.amount.to_string(),
        status,
        tone,
        created_at: console.zone().date_and_minute(stored.order.created_at),
    }
}
