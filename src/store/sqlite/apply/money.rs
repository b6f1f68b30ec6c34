//! Rows of money: captures, refunds, odd captures and the ledger.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Failure, unique_rule};
use crate::order::{AccountId, Capture, Timestamp};
use crate::store::Rejection;
use crate::store::rows::integer;
use crate::store::step::{MoneyRow, NewRefund, OrderStep, broken};

/// Keeps the rows of every event of the step, in order.
pub(super) fn keep(
    connection: &Connection,
    step: &OrderStep,
    rows: &[MoneyRow],
) -> Result<(), Failure> {
    for row in rows {
        match row {
            MoneyRow::Capture {
                account,
                capture,
                refund,
            } => insert_capture(connection, step, account, capture, refund.as_deref())?,
            MoneyRow::Refund(refund) => insert_refund(connection, step, refund)?,
            MoneyRow::RefundMoved {
                refund,
                round,
                status,
                ended_at,
            } => {
                let updated = connection
                    .prepare_cached(
                        "UPDATE refunds SET status = ?3, ended_at = ?4
                         WHERE refund = ?1 AND round = ?2",
                    )?
                    .execute(params![
                        refund,
                        round,
                        status,
                        ended_at.map(Timestamp::as_millis)
                    ])?;
                super::changed(
                    updated,
                    "a refund is intended before anything becomes of it",
                )?;
            }
            MoneyRow::LaterRoundsGivenUp { refund, round, at } => {
                connection
                    .prepare_cached(
                        "UPDATE refunds SET status = 'failed', ended_at = ?3
                         WHERE refund = ?1 AND round > ?2 AND status <> 'failed'",
                    )?
                    .execute(params![refund, round, at.as_millis()])?;
            }
            MoneyRow::Mismatch { number, mismatch } => {
                connection
                    .prepare_cached(
                        "INSERT INTO mismatches (order_id, number, account, transaction_id, amount,
                             heard_at, settled)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0)",
                    )?
                    .execute(params![
                        step.id,
                        integer(*number as u64),
                        mismatch.account.as_ref().map(AccountId::as_str),
                        mismatch.transaction_id,
                        mismatch.amount.get(),
                        mismatch.heard_at.as_millis(),
                    ])?;
            }
            MoneyRow::MismatchSettled { number, settled } => {
                let updated = connection
                    .prepare_cached(
                        "UPDATE mismatches SET settled = ?3 WHERE order_id = ?1 AND number = ?2",
                    )?
                    .execute(params![step.id, integer(*number as u64), settled])?;
                super::changed(updated, "an odd capture is heard of before it is settled")?;
            }
            MoneyRow::Line {
                version,
                position,
                line,
                book,
                amount,
                at,
            } => {
                connection
                    .prepare_cached(
                        "INSERT INTO ledger (order_id, version, position, line, book, amount, at)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    )?
                    .execute(params![
                        step.id,
                        integer(*version),
                        position,
                        line,
                        book,
                        amount,
                        at.as_millis(),
                    ])?;
            }
        }
    }
    Ok(())
}

fn insert_capture(
    connection: &Connection,
    step: &OrderStep,
    account: &AccountId,
    capture: &Capture,
    refund: Option<&str>,
) -> Result<(), Failure> {
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

fn insert_refund(
    connection: &Connection,
    step: &OrderStep,
    refund: &NewRefund,
) -> Result<(), Failure> {
    let inserted = connection
        .prepare_cached(
            "INSERT INTO refunds (account, number, refund, round, order_id, attempt,
                 transaction_id, cause, merchant, merchant_refund_no, amount, status, requested_at,
                 ended_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params![
            refund.account.as_str(),
            refund.number,
            refund.refund,
            refund.round,
            step.id,
            refund.attempt.get(),
            refund.transaction_id,
            refund.cause,
            step.merchant,
            refund.merchant_refund_no,
            refund.amount,
            refund.status,
            refund.requested_at.as_millis(),
            refund.ended_at.map(Timestamp::as_millis),
        ]);
    match inserted {
        Ok(_) => Ok(()),
        Err(error)
            if unique_rule(&error) == Some("refunds.merchant, refunds.merchant_refund_no") =>
        {
            let number = refund.merchant_refund_no.as_deref();
            Err(number_taken(connection, &step.merchant, number)?.into())
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
