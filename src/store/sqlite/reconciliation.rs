//! Reconciliation's reads and writes as SQL. Rows are written many at a time and read by pages.

use std::fmt::Write as _;

use jiff::civil::Date;
use rusqlite::{Connection, params};

use super::apply::{Failure, changed};
use super::reads::many;
use crate::order::{AccountId, Fen, Timestamp};
use crate::store::RefundRow;
use crate::store::reconciliation::{
    CaptureRow, Field, ReconciliationWrite, Row, RowFilter, Run, RunState, Verdict, Window,
};
use crate::store::records::Read;
use crate::store::records::books::{REFUND, refund_row_of};
use crate::store::records::reconciliation::{
    CAPTURE, ROW, RUN, capture_row, result_key, row_of, run_row,
};
use crate::store::rows::{Columns, limit};
use crate::store::step::{broken, json};

/// One page of what an account has in a window of time, after what the page before ended with.
fn page_of<T>(
    connection: &Connection,
    sql: &str,
    account: &AccountId,
    window: Window,
    after: Option<(Timestamp, Box<str>)>,
    rows: usize,
    read: impl Fn(&dyn Columns) -> Read<T>,
) -> Read<Vec<T>> {
    let (from, past) = after.unwrap_or((window.from, "".into()));
    many(
        connection,
        sql,
        params![
            account.as_str(),
            from.as_millis(),
            window.until.as_millis(),
            past,
            limit(rows)
        ],
        read,
    )
}

// Each page begins at its first instant and skips what the page before had of it: an index search,
// which a comparison of pairs would not be with a time first.
fn captures_between_query() -> String {
    format!(
        "{CAPTURE} WHERE account = ?1 AND succeeded_at >= ?2 AND succeeded_at < ?3
             AND (succeeded_at > ?2 OR transaction_id > ?4)
         ORDER BY succeeded_at, transaction_id LIMIT ?5"
    )
}

pub(super) fn captures_between(
    connection: &Connection,
    account: &AccountId,
    window: Window,
    after: Option<(Timestamp, Box<str>)>,
    rows: usize,
) -> Read<Vec<CaptureRow>> {
    page_of(
        connection,
        &captures_between_query(),
        account,
        window,
        after,
        rows,
        capture_row,
    )
}

fn captures_known_query() -> String {
    format!("{CAPTURE} WHERE account = ?1 AND transaction_id IN (SELECT value FROM json_each(?2))")
}

pub(super) fn captures_known(
    connection: &Connection,
    account: &AccountId,
    transactions: &str,
) -> Read<Vec<CaptureRow>> {
    many(
        connection,
        &captures_known_query(),
        params![account.as_str(), transactions],
        capture_row,
    )
}

fn refunds_between_query() -> String {
    format!(
        "{REFUND} WHERE account = ?1 AND ended_at >= ?2 AND ended_at < ?3
             AND (ended_at > ?2 OR number > ?4)
         ORDER BY ended_at, number LIMIT ?5"
    )
}

pub(super) fn refunds_between(
    connection: &Connection,
    account: &AccountId,
    window: Window,
    after: Option<(Timestamp, Box<str>)>,
    rows: usize,
) -> Read<Vec<RefundRow>> {
    page_of(
        connection,
        &refunds_between_query(),
        account,
        window,
        after,
        rows,
        refund_row_of,
    )
}

fn refunds_known_query() -> String {
    format!("{REFUND} WHERE account = ?1 AND number IN (SELECT value FROM json_each(?2))")
}

pub(super) fn refunds_known(
    connection: &Connection,
    account: &AccountId,
    numbers: &str,
) -> Read<Vec<RefundRow>> {
    many(
        connection,
        &refunds_known_query(),
        params![account.as_str(), numbers],
        refund_row_of,
    )
}

fn runs_query(of_one: bool) -> String {
    let of_whom = if of_one { "account = ?3 AND " } else { "" };
    format!(
        "{RUN} WHERE {of_whom}date >= ?1 AND date <= ?2 ORDER BY date DESC, account DESC, run DESC"
    )
}

pub(super) fn runs(
    connection: &Connection,
    account: Option<&AccountId>,
    from: Date,
    to: Date,
) -> Read<Vec<Run>> {
    let sql = runs_query(account.is_some());
    let (from, to) = (from.to_string(), to.to_string());
    match account {
        Some(account) => many(
            connection,
            &sql,
            params![from, to, account.as_str()],
            run_row,
        ),
        None => many(connection, &sql, params![from, to], run_row),
    }
}

fn rows_query(filter: &RowFilter) -> String {
    // SQLite does not know how few they are, and would read all of the run.
    let few = filter
        .verdict
        .filter(|verdict| *verdict != Verdict::Matched);
    let by = few.map_or("", |_| "INDEXED BY reconciliation_differences");
    let mut sql = format!(
        "{ROW} {by}
         WHERE account = ?1 AND date = ?2 AND run = ?3 AND number > ?4"
    );
    match filter.verdict {
        Some(Verdict::Matched) => sql.push_str(" AND verdict = 'matched'"),
        // As the partial index has it.
        Some(verdict) => {
            let _ = write!(sql, " AND verdict <> 'matched' AND verdict = '{verdict}'");
        }
        None => {}
    }
    if filter.merchant.is_some() {
        sql.push_str(" AND (merchant = ?6 OR order_id IS NULL)");
    }
    sql.push_str(" ORDER BY number LIMIT ?5");
    sql
}

pub(super) fn rows(connection: &Connection, filter: &RowFilter) -> Read<Vec<Row>> {
    let sql = rows_query(filter);
    let (account, date) = (filter.account.as_str(), filter.date.to_string());
    let rows = limit(filter.limit);
    match filter.merchant {
        Some(merchant) => many(
            connection,
            &sql,
            params![
                account,
                date,
                filter.run,
                filter.after,
                rows,
                merchant.to_string()
            ],
            row_of,
        ),
        None => many(
            connection,
            &sql,
            params![account, date, filter.run, filter.after, rows],
            row_of,
        ),
    }
}

const ELSEWHERE: &str = "SELECT one.key AS key FROM reconciliation_rows AS one
    WHERE one.account = ?1 AND one.key IN (SELECT value FROM json_each(?3)) AND one.date <> ?2
      AND one.verdict IN ('matched', 'different')
      AND one.run = (SELECT max(run) FROM reconciliations AS result
          WHERE result.account = one.account AND result.date = one.date
            AND result.state = 'finished')";

pub(super) fn elsewhere(
    connection: &Connection,
    account: &AccountId,
    date: Date,
    keys: &str,
) -> Read<Vec<Box<str>>> {
    many(
        connection,
        ELSEWHERE,
        params![account.as_str(), date.to_string(), keys],
        result_key,
    )
}

/// Texts as the parameter that `json_each` reads.
pub(super) fn texts(texts: &[Box<str>]) -> String {
    serde_json::json!(texts).to_string()
}

pub(super) fn apply(connection: &Connection, write: &ReconciliationWrite) -> Result<(), Failure> {
    match write {
        ReconciliationWrite::Started {
            account,
            date,
            run,
            by,
            at,
        } => {
            let (account, date, at) = (account.as_str(), date.to_string(), at.as_millis());
            connection
                .prepare_cached(
                    "UPDATE reconciliations SET state = 'failed', finished_at = ?4,
                         why = 'it ended before it was done'
                     WHERE account = ?1 AND date = ?2 AND run <> ?3 AND state = 'running'",
                )?
                .execute(params![account, date, run, at])?;
            changed(
                connection
                    .prepare_cached(
                        "INSERT INTO reconciliations
                             (account, date, run, state, started_by, started_at, tallies)
                         VALUES (?1, ?2, ?3, 'running', ?4, ?5, '[]')
                         ON CONFLICT (account, date, run) DO UPDATE SET state = 'running',
                             started_by = excluded.started_by, started_at = excluded.started_at,
                             finished_at = NULL, why = NULL
                         WHERE state = 'waiting'",
                    )?
                    .execute(params![account, date, run, by.as_str(), at])?,
                "a run is new, or has waited",
            )
        }
        ReconciliationWrite::Rows {
            account,
            date,
            run,
            rows,
        } => insert_rows(connection, account, *date, *run, rows),
        ReconciliationWrite::Ended(run) => end(connection, run),
        ReconciliationWrite::Cleared {
            account,
            date,
            run,
            most,
        } => {
            connection
                .prepare_cached(
                    "DELETE FROM reconciliation_rows
                     WHERE account = ?1 AND date = ?2 AND run = ?3 AND number IN
                         (SELECT number FROM reconciliation_rows
                          WHERE account = ?1 AND date = ?2 AND run = ?3 ORDER BY number LIMIT ?4)
                       AND run <> coalesce((SELECT max(run) FROM reconciliations
                          WHERE account = ?1 AND date = ?2 AND state = 'finished'), 0)",
                )?
                .execute(params![
                    account.as_str(),
                    date.to_string(),
                    run,
                    limit(*most)
                ])?;
            Ok(())
        }
    }
}

fn end(connection: &Connection, run: &Run) -> Result<(), Failure> {
    if run.state == RunState::Running {
        return Err(broken("a run that ends is not running").into());
    }
    let flows = run.flows.as_ref().map(json).transpose()?;
    changed(
        connection
            .prepare_cached(
                "UPDATE reconciliations SET state = ?4, finished_at = ?5, tallies = ?6, flows = ?7,
                     why = ?8
                 WHERE account = ?1 AND date = ?2 AND run = ?3 AND state = 'running'",
            )?
            .execute(params![
                run.account.as_str(),
                run.date.to_string(),
                run.run,
                run.state.as_str(),
                run.finished_at.map(Timestamp::as_millis),
                json(&run.tallies)?,
                flows,
                run.why,
            ])?,
        "a run ends once, after it was started",
    )
}

fn insert_rows(
    connection: &Connection,
    account: &AccountId,
    date: Date,
    run: u32,
    rows: &[Row],
) -> Result<(), Failure> {
    let date = date.to_string();
    let mut insert = connection.prepare_cached(
        "INSERT OR REPLACE INTO reconciliation_rows VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10,
             ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26)",
    )?;
    for row in rows {
        let (ours, theirs) = (row.ours.as_ref(), row.theirs.as_ref());
        insert.execute(params![
            account.as_str(),
            date,
            run,
            row.number,
            row.verdict.as_str(),
            row.kind.as_str(),
            row.field.map(Field::as_str),
            row.repaired,
            row.order.map(|order| order.to_string()),
            row.merchant.map(|merchant| merchant.to_string()),
            row.key(),
            ours.map(|side| &side.out_trade_no),
            ours.map(|side| &side.transaction_id),
            ours.and_then(|side| side.refund_no.as_deref()),
            ours.map(|side| side.amount.get()),
            ours.map(|side| side.at.as_millis()),
            ours.map(|side| &side.status),
            theirs.and_then(|side| side.line),
            theirs.map(|side| &side.out_trade_no),
            theirs.map(|side| &side.transaction_id),
            theirs.and_then(|side| side.refund_no.as_deref()),
            theirs.map(|side| side.amount.get()),
            theirs.map(|side| side.at.as_millis()),
            theirs.map(|side| &side.status),
            theirs.and_then(|side| side.fee).map(Fen::get),
            theirs.and_then(|side| side.currency.as_deref()),
        ])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::opening::in_memory;
    use super::super::reads::tests::full_scans;
    use rusqlite::params_from_iter;

    use super::*;
    use crate::order::MerchantId;

    #[test]
    fn a_day_is_read_from_indexes() {
        let connection = in_memory();
        let filter = |merchant, verdict| RowFilter {
            account: AccountId::new("school"),
            date: Date::constant(2026, 11, 19),
            run: 1,
            merchant,
            verdict,
            after: 0,
            limit: 10,
        };
        let merchant = Some(MerchantId::from_ulid(ulid::Ulid(1)));
        let mut queries = vec![
            captures_between_query(),
            captures_known_query(),
            refunds_between_query(),
            refunds_known_query(),
            runs_query(true),
            runs_query(false),
            ELSEWHERE.to_owned(),
        ];
        for verdict in [None, Some(Verdict::Matched), Some(Verdict::Different)] {
            for merchant in [None, merchant] {
                queries.push(rows_query(&filter(merchant, verdict)));
            }
        }
        for sql in queries {
            let scans = full_scans(&connection, &sql);
            // The list of what is asked for is read whole.
            let scans: Vec<_> = scans
                .into_iter()
                .filter(|scan| !scan.contains("json_each"))
                .collect();
            assert_eq!(scans, Vec::<String>::new(), "{sql}");
        }
        let plan = |sql: &str| -> String {
            let mut plan = connection
                .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
                .unwrap();
            let nulls = vec![rusqlite::types::Null; plan.parameter_count()];
            let lines = plan
                .query_map(params_from_iter(nulls), |row| {
                    row.get::<_, String>("detail")
                })
                .unwrap();
            lines.map(Result::unwrap).collect::<Vec<_>>().join("; ")
        };
        let differences = plan(&rows_query(&filter(merchant, Some(Verdict::OnlyHere))));
        assert!(
            differences.contains("reconciliation_differences"),
            "{differences}"
        );
        let day = plan(&captures_between_query());
        assert!(
            day.contains("captures_by_time") && !day.contains("TEMP B-TREE"),
            "{day}"
        );
    }
}
