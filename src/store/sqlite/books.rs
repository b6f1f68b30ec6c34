//! Reading the books: refunds, the ledger, what waits for people, what people did.

use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};

use super::reads::{many, one};
use crate::order::{Fen, MerchantId, OrderId, WebhookType};
use crate::store::records::books::{
    EVIDENCE, REFUND, audit_entry, evidence_row, ledger_line, ledger_total, refund_row_of,
};
use crate::store::records::{OUTBOX, Read, placed_event};
use crate::store::rows::{Parsing, integer, limit};
use crate::store::{AuditEntry, EvidenceRow, LedgerLine, OutboxEntry, RefundRow};

pub(super) fn events_query(kinds: usize) -> String {
    let marks: Vec<String> = (4..kinds + 4).map(|kind| format!("?{kind}")).collect();
    let chosen = match kinds {
        0 => String::new(),
        _ => format!("AND kind IN ({})", marks.join(", ")),
    };
    format!("{OUTBOX} WHERE merchant = ?1 AND position > ?2 {chosen} ORDER BY position LIMIT ?3")
}

pub(super) fn events_after(
    connection: &Connection,
    merchant: MerchantId,
    after: u64,
    kinds: &[WebhookType],
    rows: usize,
) -> Read<Vec<(u64, OutboxEntry)>> {
    // No row has a position beyond what SQLite can count.
    let Some(after) = integer(after) else {
        return Ok(Vec::new());
    };
    let values = [
        Value::from(merchant.to_string()),
        Value::from(after),
        Value::from(limit(rows)),
    ];
    let kinds_wanted = kinds
        .iter()
        .map(|kind| Value::from(kind.as_str().to_owned()));
    many(
        connection,
        &events_query(kinds.len()),
        params_from_iter(values.into_iter().chain(kinds_wanted)),
        placed_event,
    )
}

pub(super) fn refunds_open_query() -> String {
    format!(
        "{REFUND} WHERE status <> 'succeeded' AND (status <> 'failed' OR cause <> 'merchant')
         AND NOT EXISTS (SELECT 1 FROM refunds AS later
             WHERE later.refund = refunds.refund AND later.round > refunds.round)
         ORDER BY requested_at, number LIMIT ?1"
    )
}

pub(super) fn refunds_open(connection: &Connection, rows: usize) -> Read<Vec<RefundRow>> {
    many(
        connection,
        &refunds_open_query(),
        [limit(rows)],
        refund_row_of,
    )
}

pub(super) fn refund_row(
    connection: &Connection,
    merchant: MerchantId,
    number: &str,
) -> Read<Option<RefundRow>> {
    let sql = format!("{REFUND} WHERE merchant = ?1 AND merchant_refund_no = ?2");
    one(
        connection,
        &sql,
        params![merchant.to_string(), number],
        refund_row_of,
    )
}

// Ids begin with the time at which they were made.
pub(super) const ODD_CAPTURES: &str =
    "SELECT DISTINCT order_id FROM mismatches WHERE settled = 0 ORDER BY order_id LIMIT ?1";

pub(super) fn odd_captures(connection: &Connection, rows: usize) -> Read<Vec<OrderId>> {
    many(connection, ODD_CAPTURES, [limit(rows)], |row| {
        Parsing::new("mismatches", row, "order_id").parse("order_id")
    })
}

pub(super) const LEDGER: &str =
    "SELECT order_id, version, position, line, book, amount, at FROM ledger
    WHERE order_id = ?1 ORDER BY version, position, line";

pub(super) fn ledger(connection: &Connection, order: OrderId) -> Read<Vec<LedgerLine>> {
    many(connection, LEDGER, [order.to_string()], ledger_line)
}

pub(super) fn ledger_totals(connection: &Connection) -> Read<Vec<(String, Fen)>> {
    many(
        connection,
        "SELECT book, amount FROM ledger_totals ORDER BY book",
        [],
        ledger_total,
    )
}

pub(super) fn evidence_open_query() -> String {
    format!(
        "{EVIDENCE} WHERE settled_at IS NULL AND reason NOT LIKE '{}%'
         ORDER BY first_seen, account, reference LIMIT ?1",
        EvidenceRow::NOTED
    )
}

pub(super) fn evidence_open(connection: &Connection, rows: usize) -> Read<Vec<EvidenceRow>> {
    many(
        connection,
        &evidence_open_query(),
        [limit(rows)],
        evidence_row,
    )
}

pub(super) const AUDIT: &str =
    "SELECT id, at, operator, action, target, outcome, previous, hash FROM audit
    WHERE id > ?1 ORDER BY id LIMIT ?2";

pub(super) fn audit(connection: &Connection, after: u64, rows: usize) -> Read<Vec<AuditEntry>> {
    let Some(after) = integer(after) else {
        return Ok(Vec::new());
    };
    many(connection, AUDIT, params![after, limit(rows)], audit_entry)
}
