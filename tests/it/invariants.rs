//! The shared checker: a store held against the providers' books, invariant by invariant
//! (reliability §1). It trusts neither: rows are compared with one another, the timeline is replayed,
//! and every sum is taken on both sides. A store that somebody doctored must not pass: the tests at
//! the end see to that.
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its own set-up fails"
)]

use std::collections::{BTreeMap, BTreeSet};

use enrollpay::order::invariants::at_rest;
use serde::Deserialize as _;
use serde_json::Value;

use crate::support::receiver::Delivery;
use rows::Rows;
use theirs::TheirBooks;

mod doctored;
mod kept;
mod money;
mod orders;
mod rows;
mod theirs;

pub use kept::Kept;

/// One invariant that does not hold.
#[derive(Debug)]
pub struct Broken {
    pub invariant: &'static str,
    #[expect(dead_code, reason = "read by whoever reads the failure")]
    pub what: String,
}

/// What is still under way, here or between us and the providers; `None` at rest. Reads the store
/// beside the running gateway.
pub async fn unrest(store: &Kept, books: &Value) -> Option<String> {
    let rows = store.rows().await;
    let books = TheirBooks::deserialize(books).unwrap();
    for row in &rows.orders {
        if row.order.live_attempt().is_some() {
            return Some(format!("{} has a live attempt", row.id));
        }
        if !at_rest(&row.order) && row.order.mismatches.is_empty() {
            return Some(format!("{} has a refund under way", row.id));
        }
    }
    let known: BTreeSet<&str> = rows
        .captures
        .iter()
        .map(|row| row.transaction.as_str())
        .chain(rows.orders.iter().flat_map(|row| {
            let odd = row.order.mismatches.iter();
            odd.map(|mismatch| &*mismatch.transaction_id)
        }))
        .collect();
    for trade in &books.trades {
        if let Some(unknown) = trade
            .captures
            .iter()
            .find(|capture| !known.contains(capture.transaction_id.as_str()))
        {
            return Some(format!(
                "{} was paid by {}, and we do not know",
                trade.out_trade_no, unknown.transaction_id
            ));
        }
    }
    (rows.pending_webhooks > 0).then(|| format!("{} events wait", rows.pending_webhooks))
}

/// Holds the store against the providers' books. Nobody may be writing into it.
pub async fn check_invariants(store: &Kept, books: &Value) -> Vec<Broken> {
    check(&store.rows_at_rest().await, books)
}

/// E1, E2, E4 as the merchant saw them: every event of the outbox was delivered, as the order of its
/// version, with the same bytes each time, and nothing else was.
pub async fn told_as_kept(store: &Kept, told: &[Delivery]) -> Vec<Broken> {
    let rows = store.rows_at_rest().await;
    let mut broken = Vec::new();
    let mut report = |invariant, what| broken.push(Broken { invariant, what });
    let mut bodies: BTreeMap<&str, &[u8]> = BTreeMap::new();
    for delivery in told {
        let fits = rows.outbox.iter().any(|row| {
            row.id == delivery.id
                && row.kind == delivery.kind
                && delivery.order["id"] == row.order.as_str()
                && delivery.order["version"] == row.version
        });
        if !fits {
            report("E1", format!("{} tells what no row holds", delivery.id));
        }
        let first = bodies.entry(&delivery.id).or_insert(&delivery.body);
        if *first != delivery.body {
            report("E4", format!("{} changed its bytes", delivery.id));
        }
    }
    for row in &rows.outbox {
        if !bodies.contains_key(row.id.as_str()) {
            report("E2", format!("{} was never told", row.id));
        }
    }
    broken
}

type Look = fn(&Rows, &TheirBooks, &mut dyn FnMut(String));

const ALL: [(&str, Look); 19] = [
    ("M1", money::paid_once_or_not_at_all),
    ("M2", money::one_capture_is_kept),
    ("M3", money::captures_fit),
    ("M3", money::odd_captures_stand_apart),
    ("M4", money::refunds_stay_within_the_payment),
    ("M5", money::one_refund_each),
    ("M7", orders::settlements_are_final),
    ("M9", money::the_books_balance),
    ("Q1", orders::one_live_attempt),
    ("Q2", orders::one_claim_each),
    ("Q3", orders::claims_in_time),
    ("Q4", orders::what_ended_is_dead),
    ("Q5", orders::one_payable_trade),
    ("A1", orders::what_was_acknowledged_is_here),
    ("A2", orders::heard_once),
    ("E1", orders::one_event_each),
    ("E5", orders::the_timeline_gives_the_row),
    ("B1", orders::a_bill_has_one_order),
    ("state", orders::states_are_sound),
];

fn check(rows: &Rows, books: &Value) -> Vec<Broken> {
    let books = TheirBooks::deserialize(books).unwrap();
    let mut broken = Vec::new();
    for (invariant, look) in ALL {
        look(rows, &books, &mut |what| {
            broken.push(Broken { invariant, what });
        });
    }
    broken
}
