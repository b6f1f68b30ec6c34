//! What a commit's events say of money, as rows: captures, refunds, odd captures and the ledger. A
//! commit in which no money moves writes none of them.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Failure, OrderStep, broken, unique_rule};
use crate::order::event::Event;
use crate::order::refunds::RefundOf;
use crate::order::state::{CaptureStanding, MismatchStanding};
use crate::order::{
    AccountId, Capture, Mismatch, Order, RefundCause, RefundId, RefundStanding, Timestamp, ledger,
};
use crate::store::rows::integer;
use crate::store::{Rejection, TimelineEntry};

/// Keeps the rows of every event of the step; `step.write.order` is the order after it.
pub(super) fn keep(connection: &Connection, step: &OrderStep) -> Result<(), Failure> {
    let order = &step.write.order;
    let told = |entry: &&TimelineEntry| matches!(entry.event, Event::MoneyMismatched { .. });
    let mut odd_before = None;
    for entry in &step.write.events {
        match &entry.event {
            Event::MoneyCaptured { capture } => {
                insert_capture(connection, step, capture)?;
                if let CaptureStanding::Surplus { refund, .. } = capture.standing {
                    insert_refund(connection, step, refund, entry.at)?;
                }
            }
            Event::MoneyMismatched { mismatch } => {
                // They stand in the order as they were told of, these last.
                let number = *odd_before.get_or_insert_with(|| {
                    let new = step.write.events.iter().filter(told).count();
                    order.mismatches.len().saturating_sub(new)
                });
                odd_before = Some(number + 1);
                insert_mismatch(connection, step, number, mismatch)?;
            }
            Event::RefundRequested { refund, .. } | Event::RefundRenewed { refund, .. } => {
                insert_refund(connection, step, *refund, entry.at)?;
            }
            Event::MismatchSettled {
                mismatch, refund, ..
            } => {
                if let Some(refund) = refund {
                    insert_refund(connection, step, *refund, entry.at)?;
                }
                settle_mismatch(connection, step, usize::from(*mismatch))?;
            }
            Event::RefundRoundRevived { refund, round } => {
                give_up_later_rounds(connection, *refund, *round, entry.at)?;
            }
            Event::RefundAccepted { refund, .. }
            | Event::RefundAbnormal { refund, .. }
            | Event::RefundRepairAsked { refund, .. }
            | Event::RefundSucceeded { refund }
            | Event::RefundFailed { refund }
            | Event::SurplusRefunded { refund }
            | Event::SurplusRefundFailed { refund }
            | Event::MismatchRefundFailed { refund } => {
                update_refund(connection, step, *refund)?;
            }
            Event::MismatchRefunded { refund } => {
                update_refund(connection, step, *refund)?;
                let odd = order.mismatches.iter().position(|mismatch| {
                    matches!(mismatch.standing, MismatchStanding::GoingBack { refund: its, .. }
                        if its == *refund)
                });
                settle_mismatch(connection, step, odd.ok_or_else(unknown_refund)?)?;
            }
            _ => continue,
        }
        insert_lines(connection, step, entry)?;
    }
    Ok(())
}

fn unknown_refund() -> Rejection {
    broken("an event names a refund of its order")
}

/// The account that was asked for the trade; where the trade is not known, the one offered.
fn account_of<'a>(order: &'a Order, capture: &Capture) -> Option<&'a AccountId> {
    let trade = order.attempt(capture.attempt)?.trade.as_ref();
    let offered = || order.terms.offer(capture.wallet);
    trade
        .map(|trade| &trade.account)
        .or_else(|| offered().map(|offer| &offer.account))
}

fn insert_capture(
    connection: &Connection,
    step: &OrderStep,
    capture: &Capture,
) -> Result<(), Failure> {
    let account = account_of(&step.write.order, capture)
        .ok_or_else(|| broken("a capture is of an account of its order"))?;
    let refund = match capture.standing {
        CaptureStanding::Kept => None,
        CaptureStanding::Surplus { refund, .. } => Some(refund.to_string()),
    };
    connection
        .prepare_cached(
            "INSERT INTO captures (account, transaction_id, order_id, attempt, wallet, amount,
                 succeeded_at, heard_at, refund)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            account.as_str(),
            capture.transaction_id,
            step.id,
            capture.attempt.get(),
            capture.wallet.as_str(),
            capture.amount.get(),
            capture.succeeded_at.as_millis(),
            capture.heard_at.as_millis(),
            refund,
        ])
        .map_err(|error| match unique_rule(&error) {
            Some("captures.account, captures.transaction_id") => Rejection::CaptureKnown.into(),
            Some("captures.order_id") => broken("M2: one capture is kept per order").into(),
            _ => Failure::from(error),
        })?;
    Ok(())
}

fn refund_of(step: &OrderStep, id: RefundId) -> Result<RefundOf<'_>, Rejection> {
    step.write.order.refund(id).ok_or_else(unknown_refund)
}

/// When it succeeded or failed.
const fn ended_at(standing: RefundStanding) -> Option<Timestamp> {
    match standing {
        RefundStanding::Succeeded { at } | RefundStanding::Failed { at } => Some(at),
        _ => None,
    }
}

/// The round that begins at `at`.
fn insert_refund(
    connection: &Connection,
    step: &OrderStep,
    id: RefundId,
    at: Timestamp,
) -> Result<(), Failure> {
    let order = &step.write.order;
    let refund = refund_of(step, id)?;
    let drawn_on = |capture: &&Capture| {
        capture.attempt == refund.attempt && *capture.transaction_id == *refund.transaction_id
    };
    let account = refund
        .account
        .or_else(|| account_of(order, order.captures.iter().find(drawn_on)?))
        .ok_or_else(|| broken("a refund is of an account of its order"))?;
    let merchants = order.refunds.iter().find(|known| known.id == id);
    let merchant_refund_no = merchants.map(|known| &known.merchant_refund_no);
    if merchant_refund_no.is_some() != (refund.cause == RefundCause::Merchant) {
        return Err(broken("M5: a refund id stands for one refund").into());
    }
    let inserted = connection
        .prepare_cached(
            "INSERT INTO refunds (account, number, refund, round, order_id, attempt,
                 transaction_id, cause, merchant, merchant_refund_no, amount, status, requested_at,
                 ended_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            account.as_str(),
            refund.number(order),
            id.to_string(),
            refund.round(),
            step.id,
            refund.attempt.get(),
            refund.transaction_id,
            refund.cause.as_str(),
            step.merchant,
            merchant_refund_no,
            refund.amount.get(),
            refund.standing.as_str(),
            at.as_millis(),
            ended_at(refund.standing).map(Timestamp::as_millis),
        ]);
    match inserted {
        Ok(_) => Ok(()),
        Err(error)
            if unique_rule(&error) == Some("refunds.merchant, refunds.merchant_refund_no") =>
        {
            Err(number_taken(
                connection,
                &step.merchant,
                merchant_refund_no.map(AsRef::as_ref),
            )?
            .into())
        }
        Err(error) => Err(error.into()),
    }
}

fn number_taken(
    connection: &Connection,
    merchant: &str,
    number: Option<&str>,
) -> Result<Rejection, Failure> {
    let (order, refund) = connection
        .prepare_cached(
            "SELECT order_id, refund FROM refunds WHERE merchant = ?1 AND merchant_refund_no = ?2",
        )?
        .query_row(params![merchant, number], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
        })
        .optional()?
        .ok_or_else(|| broken("a taken number has a row"))?;
    let existing_order = order
        .parse()
        .map_err(|_| broken("refunds.order_id holds order ids"))?;
    let existing = refund
        .parse()
        .map_err(|_| broken("refunds.refund holds refund ids"))?;
    Ok(Rejection::MerchantRefundNoTaken {
        existing_order,
        existing,
    })
}

fn update_refund(connection: &Connection, step: &OrderStep, id: RefundId) -> Result<(), Failure> {
    let refund = refund_of(step, id)?;
    let updated = connection
        .prepare_cached(
            "UPDATE refunds SET status = ?3, ended_at = ?4 WHERE refund = ?1 AND round = ?2",
        )?
        .execute(params![
            id.to_string(),
            refund.round(),
            refund.standing.as_str(),
            ended_at(refund.standing).map(Timestamp::as_millis),
        ])?;
    super::changed(
        updated,
        "a refund is intended before anything becomes of it",
    )
}

/// An earlier number has gone through: what was asked for since gets nothing.
fn give_up_later_rounds(
    connection: &Connection,
    id: RefundId,
    round: u8,
    at: Timestamp,
) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "UPDATE refunds SET status = 'failed', ended_at = ?3
             WHERE refund = ?1 AND round > ?2 AND status <> 'failed'",
        )?
        .execute(params![id.to_string(), round, at.as_millis()])?;
    Ok(())
}

fn insert_mismatch(
    connection: &Connection,
    step: &OrderStep,
    number: usize,
    mismatch: &Mismatch,
) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "INSERT INTO mismatches (order_id, number, account, transaction_id, amount, heard_at,
                 settled)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)",
        )?
        .execute(params![
            step.id,
            integer(number as u64),
            mismatch.account.as_ref().map(AccountId::as_str),
            mismatch.transaction_id,
            mismatch.amount.get(),
            mismatch.heard_at.as_millis(),
        ])?;
    Ok(())
}

fn settle_mismatch(
    connection: &Connection,
    step: &OrderStep,
    number: usize,
) -> Result<(), Failure> {
    let settled = step
        .write
        .order
        .mismatches
        .get(number)
        .is_some_and(Mismatch::is_settled);
    let updated = connection
        .prepare_cached("UPDATE mismatches SET settled = ?3 WHERE order_id = ?1 AND number = ?2")?
        .execute(params![step.id, integer(number as u64), settled])?;
    super::changed(updated, "an odd capture is heard of before it is settled")
}

fn insert_lines(
    connection: &Connection,
    step: &OrderStep,
    entry: &TimelineEntry,
) -> Result<(), Failure> {
    for (line, number) in ledger::lines(&step.write.order, &entry.event)
        .iter()
        .zip(0u8..)
    {
        connection
            .prepare_cached(
                "INSERT INTO ledger (order_id, version, position, line, book, amount, at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                step.id,
                integer(entry.version),
                entry.position,
                number,
                line.book.to_string(),
                line.amount.get(),
                entry.at.as_millis(),
            ])?;
    }
    Ok(())
}
