//! What a run of a reconciliation writes.

use jiff::civil::Date;

use super::session::{Failure, Session, changed};
use crate::order::{AccountId, Fen, Timestamp};
use crate::store::reconciliation::{Field, ReconciliationWrite, Row, Run, RunState};
use crate::store::step::{broken, json};

pub(super) async fn apply(
    session: &Session<'_>,
    write: &ReconciliationWrite,
) -> Result<(), Failure> {
    match write {
        ReconciliationWrite::Started {
            account,
            date,
            run,
            by,
            at,
        } => {
            let (account, date) = (account.as_str(), date.to_string());
            let (run, at) = (i64::from(*run), at.as_millis());
            session
                .execute(
                    "UPDATE reconciliations SET state = 'failed', finished_at = $4,
                         why = 'it ended before it was done'
                     WHERE account = $1 AND date = $2 AND run <> $3 AND state = 'running'",
                    &[&account, &date, &run, &at],
                )
                .await?;
            changed(
                session
                    .execute(
                        "INSERT INTO reconciliations
                             (account, date, run, state, started_by, started_at, tallies)
                         VALUES ($1, $2, $3, 'running', $4, $5, '[]')
                         ON CONFLICT (account, date, run) DO UPDATE SET state = 'running',
                             started_by = excluded.started_by, started_at = excluded.started_at,
                             finished_at = NULL, why = NULL
                         WHERE reconciliations.state = 'waiting'",
                        &[&account, &date, &run, &by.as_str(), &at],
                    )
                    .await?,
                "a run is new, or has waited",
            )
        }
        ReconciliationWrite::Rows {
            account,
            date,
            run,
            rows,
        } => insert_rows(session, account, *date, *run, rows).await,
        ReconciliationWrite::Ended(run) => end(session, run).await,
        ReconciliationWrite::Cleared {
            account,
            date,
            run,
            most,
        } => {
            session
                .execute(
                    "DELETE FROM reconciliation_rows
                     WHERE account = $1 AND date = $2 AND run = $3 AND number IN
                         (SELECT number FROM reconciliation_rows
                          WHERE account = $1 AND date = $2 AND run = $3 ORDER BY number LIMIT $4)
                       AND run <> coalesce((SELECT max(run) FROM reconciliations
                          WHERE account = $1 AND date = $2 AND state = 'finished'), 0)",
                    &[
                        &account.as_str(),
                        &date.to_string(),
                        &i64::from(*run),
                        &i64::try_from(*most).unwrap_or(i64::MAX),
                    ],
                )
                .await?;
            Ok(())
        }
    }
}

async fn end(session: &Session<'_>, run: &Run) -> Result<(), Failure> {
    if run.state == RunState::Running {
        return Err(broken("a run that ends is not running").into());
    }
    let flows = run.flows.as_ref().map(json).transpose()?;
    changed(
        session
            .execute(
                "UPDATE reconciliations SET state = $4, finished_at = $5, tallies = $6, flows = $7,
                     why = $8
                 WHERE account = $1 AND date = $2 AND run = $3 AND state = 'running'",
                &[
                    &run.account.as_str(),
                    &run.date.to_string(),
                    &i64::from(run.run),
                    &run.state.as_str(),
                    &run.finished_at.map(Timestamp::as_millis),
                    &json(&run.tallies)?,
                    &flows,
                    &run.why,
                ],
            )
            .await?,
        "a run ends once, after it was started",
    )
}

/// All rows by one statement: a day may have a hundred thousand. Inserts or replaces.
async fn insert_rows(
    session: &Session<'_>,
    account: &AccountId,
    date: Date,
    run: u32,
    rows: &[Row],
) -> Result<(), Failure> {
    // Of two under one number the later one stands, as if they had come one after the other.
    let mut last: Vec<&Row> = Vec::with_capacity(rows.len());
    let mut sorted: Vec<&Row> = rows.iter().collect();
    sorted.sort_by_key(|row| row.number);
    for row in sorted {
        match last.last_mut() {
            Some(before) if before.number == row.number => *before = row,
            _ => last.push(row),
        }
    }
    let rows = last;
    macro_rules! column {
        ($value:expr) => {
            rows.iter().map($value).collect::<Vec<_>>()
        };
    }
    macro_rules! of_side {
        ($side:ident, $value:expr) => {
            rows.iter()
                .map(|row| row.$side.as_ref().map($value))
                .collect::<Vec<_>>()
        };
    }
    macro_rules! if_any_of_side {
        ($side:ident, $value:expr) => {
            rows.iter()
                .map(|row| row.$side.as_ref().and_then($value))
                .collect::<Vec<_>>()
        };
    }
    session
        .execute(
            "INSERT INTO reconciliation_rows (account, date, run, number, verdict, kind, field,
                 repaired, order_id, merchant, key, our_out_trade_no, our_transaction_id,
                 our_refund_no, our_amount, our_at, our_status, their_line, their_out_trade_no,
                 their_transaction_id, their_refund_no, their_amount, their_at, their_status,
                 their_fee, their_currency)
             SELECT $1, $2, $3, given.* FROM unnest($4::bigint[], $5::text[], $6::text[],
                 $7::text[], $8::bool[], $9::text[], $10::text[], $11::text[], $12::text[],
                 $13::text[], $14::text[], $15::bigint[], $16::bigint[], $17::text[],
                 $18::bigint[], $19::text[], $20::text[], $21::text[], $22::bigint[],
                 $23::bigint[], $24::text[], $25::bigint[], $26::text[]) AS given
             ON CONFLICT (account, date, run, number) DO UPDATE SET
                 (verdict, kind, field, repaired, order_id, merchant, key, our_out_trade_no,
                  our_transaction_id, our_refund_no, our_amount, our_at, our_status, their_line,
                  their_out_trade_no, their_transaction_id, their_refund_no, their_amount, their_at,
                  their_status, their_fee, their_currency)
               = (excluded.verdict, excluded.kind, excluded.field, excluded.repaired,
                  excluded.order_id, excluded.merchant, excluded.key, excluded.our_out_trade_no,
                  excluded.our_transaction_id, excluded.our_refund_no, excluded.our_amount,
                  excluded.our_at, excluded.our_status, excluded.their_line,
                  excluded.their_out_trade_no, excluded.their_transaction_id,
                  excluded.their_refund_no, excluded.their_amount, excluded.their_at,
                  excluded.their_status, excluded.their_fee, excluded.their_currency)",
            &[
                &account.as_str(),
                &date.to_string(),
                &i64::from(run),
                &column!(|row| i64::from(row.number)),
                &column!(|row| row.verdict.as_str()),
                &column!(|row| row.kind.as_str()),
                &column!(|row| row.field.map(Field::as_str)),
                &column!(|row| row.repaired),
                &column!(|row| row.order.map(|order| order.to_string())),
                &column!(|row| row.merchant.map(|merchant| merchant.to_string())),
                &column!(|row| row.key()),
                &of_side!(ours, |side| side.out_trade_no.as_ref()),
                &of_side!(ours, |side| side.transaction_id.as_ref()),
                &if_any_of_side!(ours, |side| side.refund_no.as_deref()),
                &of_side!(ours, |side| side.amount.get()),
                &of_side!(ours, |side| side.at.as_millis()),
                &of_side!(ours, |side| side.status.as_ref()),
                &if_any_of_side!(theirs, |side| side.line.map(i64::from)),
                &of_side!(theirs, |side| side.out_trade_no.as_ref()),
                &of_side!(theirs, |side| side.transaction_id.as_ref()),
                &if_any_of_side!(theirs, |side| side.refund_no.as_deref()),
                &of_side!(theirs, |side| side.amount.get()),
                &of_side!(theirs, |side| side.at.as_millis()),
                &of_side!(theirs, |side| side.status.as_ref()),
                &if_any_of_side!(theirs, |side| side.fee.map(Fen::get)),
                &if_any_of_side!(theirs, |side| side.currency.as_deref()),
            ],
        )
        .await?;
    Ok(())
}
