//! The rows that the checks look at, as either store has them.

use std::collections::BTreeMap;

use enrollpay::order::event::Attention;
use enrollpay::order::evolve::replay;
use enrollpay::order::{Event, Order, Timestamp};
use enrollpay::store::BillRef;

pub struct OrderRow {
    pub id: String,
    pub version: i64,
    pub status: String,
    pub amount: i64,
    pub order: Order,
    pub bills: Vec<BillRef>,
}

pub struct BillRow {
    pub id: String,
    pub amount: i64,
    pub order: Option<String>,
}

pub struct EventRow {
    pub version: i64,
    pub position: i64,
    pub at: i64,
    pub event: Event,
}

pub struct AttemptRow {
    pub order: String,
    pub number: u16,
    pub status: String,
    pub expires_at: i64,
}

pub struct ClaimRow {
    pub order: String,
    pub attempt: u16,
    pub payer: Vec<u8>,
    pub claimed_at: i64,
}

pub struct CaptureRow {
    pub account: String,
    pub transaction: String,
    pub order: String,
    pub attempt: u16,
    pub wallet: String,
    pub amount: i64,
    pub refund: Option<String>,
}

pub struct RefundRow {
    pub account: String,
    pub number: String,
    pub refund: String,
    pub round: u8,
    pub order: String,
    pub attempt: u16,
    pub cause: String,
    pub amount: i64,
    pub status: String,
}

pub struct MismatchRow {
    pub order: String,
    pub number: u16,
    pub settled: bool,
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LineRow {
    pub order: String,
    pub version: i64,
    pub position: i64,
    pub line: i64,
    pub book: String,
    pub amount: i64,
}

pub struct OutboxRow {
    pub id: String,
    pub order: String,
    pub version: i64,
    pub kind: String,
}

/// The store, read in one transaction.
pub struct Rows {
    pub orders: Vec<OrderRow>,
    pub events: BTreeMap<String, Vec<EventRow>>,
    pub attempts: Vec<AttemptRow>,
    pub claims: Vec<ClaimRow>,
    pub captures: Vec<CaptureRow>,
    pub refunds: Vec<RefundRow>,
    pub mismatches: Vec<MismatchRow>,
    pub ledger: Vec<LineRow>,
    pub totals: BTreeMap<String, i64>,
    pub outbox: Vec<OutboxRow>,
    pub pending_webhooks: i64,
    pub bills: Vec<BillRow>,
}

impl Rows {
    pub fn refund_numbered(&self, number: &str) -> Option<&RefundRow> {
        self.refunds.iter().find(|row| row.number == number)
    }

    /// Was a person told that money of this order went back past these books?
    pub fn was_foreign(&self, order: &str) -> bool {
        let events = self.events.get(order).into_iter().flatten();
        let mut told = events.map(|row| &row.event);
        told.any(|event| {
            matches!(event, Event::AttentionRaised { why } if *why == Attention::ForeignRefund)
        })
    }
}

pub type Commit = (Timestamp, Vec<Event>);

/// An order's events by version.
pub fn commits(rows: &Rows, order: &str) -> BTreeMap<i64, Commit> {
    let mut commits: BTreeMap<i64, Commit> = BTreeMap::new();
    for event in rows.events.get(order).into_iter().flatten() {
        let at = Timestamp::from_millis(event.at);
        let commit = commits.entry(event.version);
        let (_, events) = commit.or_insert_with(|| (at, Vec::new()));
        events.push(event.event.clone());
    }
    commits
}

pub fn replayed<'a>(order: &str, commits: impl Iterator<Item = &'a Commit>) -> Option<Order> {
    let id = order.parse().ok()?;
    replay(id, commits.map(|(at, events)| (*at, events.as_slice())))
}
