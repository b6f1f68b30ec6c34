//! M7, Q, A and E: what an order was through, and who was told.

use std::collections::BTreeSet;

use enrollpay::order::Event;
use enrollpay::order::invariants::check;

use super::rows::{Rows, commits, replayed};
use super::theirs::{TheirBooks, trade_number};

/// M7: an order is settled once, and its row says how.
pub fn settlements_are_final(rows: &Rows, _: &TheirBooks, report: &mut dyn FnMut(String)) {
    for row in &rows.orders {
        if row.order.status().as_str() != row.status {
            report(format!("{}: the row says {}", row.id, row.status));
        }
        let ends: Vec<&str> = rows.events[&row.id]
            .iter()
            .filter_map(|event| match event.event {
                Event::OrderPaid => Some("paid"),
                Event::OrderClosed { .. } => Some("closed"),
                _ => None,
            })
            .collect();
        let stands =
            matches!(row.status.as_str(), "paid" | "closed").then_some(row.status.as_str());
        if ends.len() > 1 || ends.first().copied() != stands {
            report(format!(
                "{}: settled {ends:?}, the row says {}",
                row.id, row.status
            ));
        }
    }
}

pub fn one_live_attempt(rows: &Rows, _: &TheirBooks, report: &mut dyn FnMut(String)) {
    let mut live = BTreeSet::new();
    for attempt in &rows.attempts {
        let lives = matches!(attempt.status.as_str(), "shown" | "scanned" | "closing");
        if lives && !live.insert(&attempt.order) {
            report(format!("{}: two live attempts", attempt.order));
        }
    }
}

/// Q2: the claim of the row, of the state and of the timeline are one.
pub fn one_claim_each(rows: &Rows, _: &TheirBooks, report: &mut dyn FnMut(String)) {
    for row in &rows.orders {
        for attempt in &row.order.attempts {
            let number = attempt.number.get();
            let events = rows.events[&row.id]
                .iter()
                .filter(|event| {
                    matches!(&event.event, Event::AttemptClaimed { attempt, .. }
                        if attempt.get() == number)
                })
                .count();
            let claims: Vec<&[u8]> = rows
                .claims
                .iter()
                .filter(|claim| claim.order == row.id && claim.attempt == number)
                .map(|claim| claim.payer.as_slice())
                .collect();
            let payer = attempt.claim.map(|claim| claim.payer.0.to_be_bytes());
            let agree = match (&payer, claims.as_slice()) {
                (None, []) => events == 0,
                (Some(payer), [claim]) => payer == claim && events == 1,
                _ => false,
            };
            if !agree {
                report(format!(
                    "{} attempt {number}: {} claims, {events} told",
                    row.id,
                    claims.len()
                ));
            }
        }
    }
}

pub fn claims_in_time(rows: &Rows, _: &TheirBooks, report: &mut dyn FnMut(String)) {
    for claim in &rows.claims {
        let in_time = rows.attempts.iter().any(|attempt| {
            attempt.order == claim.order
                && attempt.number == claim.attempt
                && claim.claimed_at < attempt.expires_at
        });
        if !in_time {
            report(format!(
                "{} attempt {}: claimed after its end",
                claim.order, claim.attempt
            ));
        }
    }
}

/// Q4: what ended unpaid cannot be paid at the provider.
pub fn what_ended_is_dead(rows: &Rows, books: &TheirBooks, report: &mut dyn FnMut(String)) {
    for attempt in &rows.attempts {
        if !matches!(attempt.status.as_str(), "expired" | "cancelled" | "failed") {
            continue;
        }
        let number = trade_number(&attempt.order, attempt.number);
        let payable = books
            .trades
            .iter()
            .any(|trade| trade.out_trade_no == number && trade.payable);
        if payable {
            report(format!(
                "{number} is {} here and payable there",
                attempt.status
            ));
        }
    }
}

pub fn one_payable_trade(_: &Rows, books: &TheirBooks, report: &mut dyn FnMut(String)) {
    let mut payable = BTreeSet::new();
    for trade in books.trades.iter().filter(|trade| trade.payable) {
        if !payable.insert(trade.order()) {
            report(format!("{}: two payable trades", trade.order()));
        }
    }
}

/// A1: whatever we acknowledged survived.
pub fn what_was_acknowledged_is_here(
    rows: &Rows,
    books: &TheirBooks,
    report: &mut dyn FnMut(String),
) {
    for trade in &books.trades {
        if !trade.notices.iter().any(|notice| notice.acked) {
            continue;
        }
        for theirs in &trade.captures {
            let here = rows.captures.iter().any(|capture| {
                capture.transaction == theirs.transaction_id && capture.order == trade.order()
            });
            let orders = rows.orders.iter().filter(|row| row.id == trade.order());
            let mut odd = orders.flat_map(|row| &row.order.mismatches);
            let here = here || odd.any(|odd| *odd.transaction_id == *theirs.transaction_id);
            if !here {
                report(format!(
                    "{}: {} was acknowledged and is not here",
                    trade.out_trade_no, theirs.transaction_id
                ));
            }
        }
    }
}

/// A2: a payment is told once, and the timeline and the table know the same ones.
pub fn heard_once(rows: &Rows, _: &TheirBooks, report: &mut dyn FnMut(String)) {
    for row in &rows.orders {
        let mut told = BTreeSet::new();
        for event in &rows.events[&row.id] {
            if let Event::MoneyCaptured { capture } = &event.event
                && !told.insert(capture.transaction_id.to_string())
            {
                report(format!("{}: {} twice", row.id, capture.transaction_id));
            }
        }
        let kept: BTreeSet<String> = rows
            .captures
            .iter()
            .filter(|capture| capture.order == row.id)
            .map(|capture| capture.transaction.clone())
            .collect();
        if told != kept {
            report(format!("{}: told {told:?}, kept {kept:?}", row.id));
        }
    }
}

/// E1: each event with a webhook has one row of its version. The bodies stand sealed: see
/// [`told_as_kept`].
pub fn one_event_each(rows: &Rows, _: &TheirBooks, report: &mut dyn FnMut(String)) {
    for row in &rows.orders {
        let mut owed: Vec<(i64, &str)> = rows.events[&row.id]
            .iter()
            .filter_map(|event| Some((event.version, event.event.webhook()?.as_str())))
            .collect();
        let mut kept: Vec<(i64, &str)> = rows
            .outbox
            .iter()
            .filter(|event| event.order == row.id)
            .map(|event| (event.version, event.kind.as_str()))
            .collect();
        owed.sort_unstable();
        kept.sort_unstable();
        if owed != kept {
            report(format!("{}: owed {owed:?}, kept {kept:?}", row.id));
        }
    }
}

/// E5: the timeline, replayed, is the row.
pub fn the_timeline_gives_the_row(rows: &Rows, _: &TheirBooks, report: &mut dyn FnMut(String)) {
    for row in &rows.orders {
        let commits = commits(rows, &row.id);
        let gapless = commits.keys().copied().eq(1..=row.version);
        let replayed = replayed(&row.id, commits.values());
        if !gapless || replayed.as_ref() != Some(&row.order) {
            report(format!(
                "{}: versions {:?}, row {}",
                row.id,
                commits.keys().collect::<Vec<_>>(),
                row.version
            ));
        }
    }
}

/// The heart's own judgement of each state.
pub fn states_are_sound(rows: &Rows, _: &TheirBooks, report: &mut dyn FnMut(String)) {
    for row in &rows.orders {
        if let Err(violation) = check(&row.order) {
            report(format!("{}: {violation}", row.id));
        }
    }
}

/// B1: whoever is open or paid has each of its bills to itself, and they come to what it asks for.
pub fn a_bill_has_one_order(rows: &Rows, _: &TheirBooks, report: &mut dyn FnMut(String)) {
    let mut taken = BTreeSet::new();
    let holders = rows.orders.iter().filter(|row| row.status != "closed");
    for row in holders.filter(|row| !row.bills.is_empty()) {
        let mut sum = 0;
        for bill in &row.bills {
            let id = bill.id.to_string();
            let kept = rows.bills.iter().find(|kept| kept.id == id);
            if kept.and_then(|kept| kept.order.as_ref()) != Some(&row.id) {
                report(format!("{}: {id} does not name it", row.id));
            }
            sum += kept.map_or(0, |kept| kept.amount);
            if !taken.insert(id) {
                report(format!("{}: {} is in another order", row.id, bill.id));
            }
        }
        if sum != row.amount {
            report(format!("{}: its bills come to {sum}", row.id));
        }
    }
    for bill in &rows.bills {
        let named = bill.order.as_ref().is_none_or(|order| {
            let mut orders = rows.orders.iter().filter(|row| row.id == *order);
            orders.any(|row| {
                row.bills
                    .iter()
                    .any(|known| known.id.to_string() == bill.id)
            })
        });
        if !named {
            report(format!("{}: its order does not know it", bill.id));
        }
    }
}
