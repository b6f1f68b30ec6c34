//! Rows of money: captures, refunds, odd captures and the ledger.

use super::session::{Failure, Session, changed};
use crate::order::{AccountId, Capture, Timestamp};
use crate::store::Rejection;
use crate::store::rows::integer;
use crate::store::step::{MoneyRow, NewRefund, OrderStep, broken};

/// Keeps the rows of every event of the step, in order. The step holds the order's row by now, so that
/// nobody else adds to its captures or refunds meanwhile (M4).
pub(super) async fn keep(
    session: &Session<'_>,
    step: &OrderStep,
    rows: &[MoneyRow],
) -> Result<(), Failure> {
    for row in rows {
        match row {
            MoneyRow::Capture {
                account,
                capture,
                refund,
            } => insert_capture(session, step, account, capture, refund.as_deref()).await?,
            MoneyRow::Refund(refund) => insert_refund(session, step, refund).await?,
            MoneyRow::RefundMoved {
                refund,
                round,
                status,
                ended_at,
            } => changed(
                session
                    .execute(
                        "UPDATE refunds SET status = $3, ended_at = $4
                         WHERE refund = $1 AND round = $2",
                        &[
                            refund,
                            &i64::from(*round),
                            status,
                            &ended_at.map(Timestamp::as_millis),
                        ],
                    )
                    .await?,
                "a refund is intended before anything becomes of it",
            )?,
            MoneyRow::LaterRoundsGivenUp { refund, round, at } => {
                session
                    .execute(
                        "UPDATE refunds SET status = 'failed', ended_at = $3
                         WHERE refund = $1 AND round > $2 AND status <> 'failed'",
                        &[refund, &i64::from(*round), &at.as_millis()],
                    )
                    .await?;
            }
            MoneyRow::Mismatch { number, mismatch } => {
                session
                    .execute(
                        "INSERT INTO mismatches
                             (order_id, number, account, transaction_id, amount, heard_at, settled)
                         VALUES ($1, $2, $3, $4, $5, $6, false)",
                        &[
                            &step.id,
                            &integer(*number as u64),
                            &mismatch.account.as_ref().map(AccountId::as_str),
                            &mismatch.transaction_id.as_ref(),
                            &mismatch.amount.get(),
                            &mismatch.heard_at.as_millis(),
                        ],
                    )
                    .await?;
            }
            MoneyRow::MismatchSettled { number, settled } => changed(
                session
                    .execute(
                        "UPDATE mismatches SET settled = $3 WHERE order_id = $1 AND number = $2",
                        &[&step.id, &integer(*number as u64), settled],
                    )
                    .await?,
                "an odd capture is heard of before it is settled",
            )?,
            MoneyRow::Line {
                version,
                position,
                line,
                book,
                amount,
                at,
            } => {
                session
                    .execute(
                        "INSERT INTO ledger (order_id, version, position, line, book, amount, at)
                         VALUES ($1, $2, $3, $4, $5, $6, $7)",
                        &[
                            &step.id,
                            &integer(*version),
                            &i64::from(*position),
                            &i64::from(*line),
                            book,
                            amount,
                            &at.as_millis(),
                        ],
                    )
                    .await?;
            }
        }
    }
    Ok(())
}

async fn insert_capture(
    session: &Session<'_>,
    step: &OrderStep,
    account: &AccountId,
    capture: &Capture,
    refund: Option<&str>,
) -> Result<(), Failure> {
    // Two of an order that are kept break a rule, and no concurrency makes them: that one is an error.
    let inserted = session
        .execute(
            "INSERT INTO captures (account, transaction_id, order_id, attempt, wallet, amount,
                 succeeded_at, heard_at, refund)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             ON CONFLICT (account, transaction_id) DO NOTHING",
            &[
                &account.as_str(),
                &capture.transaction_id.as_ref(),
                &step.id,
                &i64::from(capture.attempt.get()),
                &capture.wallet.as_str(),
                &capture.amount.get(),
                &capture.succeeded_at.as_millis(),
                &capture.heard_at.as_millis(),
                &refund,
            ],
        )
        .await;
    match inserted {
        Ok(0) => Err(Rejection::CaptureKnown.into()),
        Ok(_) => Ok(()),
        Err(Failure::Rejected(Rejection::RuleBroken { rule }))
            if rule.ends_with("captures_one_kept") =>
        {
            Err(broken("M2: one capture is kept per order").into())
        }
        Err(failure) => Err(failure),
    }
}

async fn insert_refund(
    session: &Session<'_>,
    step: &OrderStep,
    refund: &NewRefund,
) -> Result<(), Failure> {
    let inserted = session
        .execute(
            "INSERT INTO refunds (account, number, refund, round, order_id, attempt,
                 transaction_id, cause, merchant, merchant_refund_no, amount, status, requested_at,
                 ended_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
             ON CONFLICT (merchant, merchant_refund_no) DO NOTHING",
            &[
                &refund.account.as_str(),
                &refund.number,
                &refund.refund,
                &i64::from(refund.round),
                &step.id,
                &i64::from(refund.attempt.get()),
                &refund.transaction_id,
                &refund.cause,
                &step.merchant,
                &refund.merchant_refund_no,
                &refund.amount,
                &refund.status,
                &refund.requested_at.as_millis(),
                &refund.ended_at.map(Timestamp::as_millis),
            ],
        )
        .await?;
    if inserted > 0 {
        return Ok(());
    }
    let row = session
        .one(
            "SELECT order_id, refund FROM refunds WHERE merchant = $1 AND merchant_refund_no = $2",
            &[&step.merchant, &refund.merchant_refund_no],
        )
        .await?
        .ok_or_else(|| broken("a taken number has a row"))?;
    let (order, existing): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    if existing == refund.refund {
        return Err(broken("M5: a refund is asked for under one number").into());
    }
    Err(Rejection::MerchantRefundNoTaken {
        existing_order: order
            .parse()
            .map_err(|_| broken("refunds.order_id holds order ids"))?,
        existing: existing
            .parse()
            .map_err(|_| broken("refunds.refund holds refund ids"))?,
    }
    .into())
}
