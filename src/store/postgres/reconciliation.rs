//! Reconciliation's reads as SQL: rows are read by pages.

use std::fmt::Write as _;

use jiff::civil::Date;
use tokio_postgres::types::ToSql;

use super::PostgresStore;
use super::rows::Values;
use crate::order::{AccountId, Timestamp};
use crate::store::RefundRow;
use crate::store::reconciliation::{CaptureRow, Row, RowFilter, Run, Verdict, Window};
use crate::store::records::Read;
use crate::store::records::books::{REFUND, refund_row_of};
use crate::store::records::reconciliation::{
    CAPTURE, ROW, RUN, capture_row, result_key, row_of, run_row,
};
use crate::store::rows::{Columns, limit};

/// One page of what an account has in a window of time, after what the page before ended with.
async fn page_of<T>(
    store: &PostgresStore,
    sql: &str,
    account: &AccountId,
    window: Window,
    after: Option<(Timestamp, Box<str>)>,
    rows: usize,
    read: impl Fn(&dyn Columns) -> Read<T> + Send,
) -> Read<Vec<T>> {
    let (from, past) = after.unwrap_or((window.from, "".into()));
    let (from, until) = (from.as_millis(), window.until.as_millis());
    let (past, rows) = (past.as_ref(), limit(rows));
    let values: [&(dyn ToSql + Sync); 5] = [&account.as_str(), &from, &until, &past, &rows];
    store.many(sql, &values, read).await
}

// A page begins right behind what the page before ended with: a comparison of pairs is one index
// search. The first one begins with the window: no transaction and no number is empty.
fn captures_between_query() -> String {
    format!(
        "{CAPTURE} WHERE account = $1 AND (succeeded_at, transaction_id) > ($2, $4)
             AND succeeded_at < $3 ORDER BY succeeded_at, transaction_id LIMIT $5"
    )
}

pub(super) async fn captures_between(
    store: &PostgresStore,
    account: &AccountId,
    window: Window,
    after: Option<(Timestamp, Box<str>)>,
    rows: usize,
) -> Read<Vec<CaptureRow>> {
    let sql = captures_between_query();
    page_of(store, &sql, account, window, after, rows, capture_row).await
}

fn captures_known_query() -> String {
    format!("{CAPTURE} WHERE account = $1 AND transaction_id = ANY ($2)")
}

pub(super) async fn captures_known(
    store: &PostgresStore,
    account: &AccountId,
    transactions: &[Box<str>],
) -> Read<Vec<CaptureRow>> {
    let values: Values<'_> = &[&account.as_str(), &texts(transactions)];
    store
        .many(&captures_known_query(), values, capture_row)
        .await
}

fn refunds_between_query() -> String {
    format!(
        "{REFUND} WHERE account = $1 AND (ended_at, number) > ($2, $4) AND ended_at < $3
         ORDER BY ended_at, number LIMIT $5"
    )
}

pub(super) async fn refunds_between(
    store: &PostgresStore,
    account: &AccountId,
    window: Window,
    after: Option<(Timestamp, Box<str>)>,
    rows: usize,
) -> Read<Vec<RefundRow>> {
    let sql = refunds_between_query();
    page_of(store, &sql, account, window, after, rows, refund_row_of).await
}

fn refunds_known_query() -> String {
    format!("{REFUND} WHERE account = $1 AND number = ANY ($2)")
}

pub(super) async fn refunds_known(
    store: &PostgresStore,
    account: &AccountId,
    numbers: &[Box<str>],
) -> Read<Vec<RefundRow>> {
    let values: Values<'_> = &[&account.as_str(), &texts(numbers)];
    store
        .many(&refunds_known_query(), values, refund_row_of)
        .await
}

fn runs_query(of_one: bool) -> String {
    let of_whom = if of_one { "account = $3 AND " } else { "" };
    format!(
        "{RUN} WHERE {of_whom}date >= $1 AND date <= $2 ORDER BY date DESC, account DESC, run DESC"
    )
}

pub(super) async fn runs(
    store: &PostgresStore,
    account: Option<&AccountId>,
    from: Date,
    to: Date,
) -> Read<Vec<Run>> {
    let sql = runs_query(account.is_some());
    let (from, to) = (from.to_string(), to.to_string());
    let account = account.map(AccountId::as_str);
    let values: [&(dyn ToSql + Sync); 3] = [&from, &to, &account];
    let used = if account.is_some() { 3 } else { 2 };
    store.many(&sql, &values[..used], run_row).await
}

fn rows_query(filter: &RowFilter) -> String {
    let mut sql = format!("{ROW} WHERE account = $1 AND date = $2 AND run = $3 AND number > $4");
    match filter.verdict {
        Some(Verdict::Matched) => sql.push_str(" AND verdict = 'matched'"),
        // As the partial index has it.
        Some(verdict) => {
            let _ = write!(sql, " AND verdict <> 'matched' AND verdict = '{verdict}'");
        }
        None => {}
    }
    if filter.merchant.is_some() {
        sql.push_str(" AND (merchant = $6 OR order_id IS NULL)");
    }
    sql.push_str(" ORDER BY number LIMIT $5");
    sql
}

pub(super) async fn rows(store: &PostgresStore, filter: &RowFilter) -> Read<Vec<Row>> {
    let (date, run) = (filter.date.to_string(), i64::from(filter.run));
    let (after, rows) = (i64::from(filter.after), limit(filter.limit));
    let merchant = filter.merchant.map(|merchant| merchant.to_string());
    let account = filter.account.as_str();
    let values: [&(dyn ToSql + Sync); 6] = [&account, &date, &run, &after, &rows, &merchant];
    let used = if merchant.is_some() { 6 } else { 5 };
    store
        .many(&rows_query(filter), &values[..used], row_of)
        .await
}

const ELSEWHERE: &str = "SELECT one.key AS key FROM reconciliation_rows AS one
    WHERE one.account = $1 AND one.key = ANY ($3) AND one.date <> $2
      AND one.verdict IN ('matched', 'different')
      AND one.run = (SELECT max(run) FROM reconciliations AS result
          WHERE result.account = one.account AND result.date = one.date
            AND result.state = 'finished')";

pub(super) async fn elsewhere(
    store: &PostgresStore,
    account: &AccountId,
    date: Date,
    keys: &[Box<str>],
) -> Read<Vec<Box<str>>> {
    let values: Values<'_> = &[&account.as_str(), &date.to_string(), &texts(keys)];
    store.many(ELSEWHERE, values, result_key).await
}

fn texts(texts: &[Box<str>]) -> Vec<&str> {
    texts.iter().map(AsRef::as_ref).collect()
}
