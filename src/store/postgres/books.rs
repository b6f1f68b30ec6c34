//! Reading the books: refunds, the ledger, what waits for people, what people did.

use tokio_postgres::types::ToSql;

use super::PostgresStore;
use crate::order::{Fen, MerchantId, OrderId, WebhookType};
use crate::store::records::books::{
    EVIDENCE, REFUND, audit_entry, evidence_row, ledger_line, ledger_total, refund_row_of,
};
use crate::store::records::{OUTBOX, Read, placed_event};
use crate::store::rows::{Parsing, integer, limit};
use crate::store::{AuditEntry, EvidenceRow, LedgerLine, OutboxEntry, RefundRow};

// The schema says why nothing at or above the horizon is given out. It is asked for once, of the same
// snapshot that the rows are read from.
fn events_query(of_kinds: bool) -> String {
    let chosen = if of_kinds { "AND kind = ANY ($4)" } else { "" };
    format!(
        "{OUTBOX} WHERE merchant = $1 AND position > $2
             AND position < (SELECT outbox_horizon()) {chosen} ORDER BY position LIMIT $3"
    )
}

pub(super) async fn events_after(
    store: &PostgresStore,
    merchant: MerchantId,
    after: u64,
    kinds: &[WebhookType],
    rows: usize,
) -> Read<Vec<(u64, OutboxEntry)>> {
    // No row has a position beyond what PostgreSQL can count.
    let Some(after) = integer(after) else {
        return Ok(Vec::new());
    };
    let (merchant, rows) = (merchant.to_string(), limit(rows));
    let kinds: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
    let values: [&(dyn ToSql + Sync); 4] = [&merchant, &after, &rows, &kinds];
    let used = if kinds.is_empty() { 3 } else { 4 };
    store
        .many(
            &events_query(!kinds.is_empty()),
            &values[..used],
            placed_event,
        )
        .await
}

fn refunds_open_query() -> String {
    format!(
        "{REFUND} WHERE status <> 'succeeded' AND (status <> 'failed' OR cause <> 'merchant')
         AND NOT EXISTS (SELECT 1 FROM refunds AS later
             WHERE later.refund = refunds.refund AND later.round > refunds.round)
         ORDER BY requested_at, number LIMIT $1"
    )
}

pub(super) async fn refunds_open(store: &PostgresStore, rows: usize) -> Read<Vec<RefundRow>> {
    store
        .many(&refunds_open_query(), &[&limit(rows)], refund_row_of)
        .await
}

pub(super) async fn refund_row(
    store: &PostgresStore,
    merchant: MerchantId,
    number: &str,
) -> Read<Option<RefundRow>> {
    let sql = format!("{REFUND} WHERE merchant = $1 AND merchant_refund_no = $2");
    let values: [&(dyn ToSql + Sync); 2] = [&merchant.to_string(), &number];
    store.one(&sql, &values, refund_row_of).await
}

// Ids begin with the time at which they were made.
const ODD_CAPTURES: &str =
    "SELECT DISTINCT order_id FROM mismatches WHERE NOT settled ORDER BY order_id LIMIT $1";

pub(super) async fn odd_captures(store: &PostgresStore, rows: usize) -> Read<Vec<OrderId>> {
    store
        .many(ODD_CAPTURES, &[&limit(rows)], |row| {
            Parsing::new("mismatches", row, "order_id").parse("order_id")
        })
        .await
}

const LEDGER: &str = "SELECT order_id, version, position, line, book, amount, at FROM ledger
    WHERE order_id = $1 ORDER BY version, position, line";

pub(super) async fn ledger(store: &PostgresStore, order: OrderId) -> Read<Vec<LedgerLine>> {
    store.many(LEDGER, &[&order.to_string()], ledger_line).await
}

pub(super) async fn ledger_totals(store: &PostgresStore) -> Read<Vec<(String, Fen)>> {
    let sql = "SELECT book, amount FROM ledger_totals ORDER BY book";
    store.many(sql, &[], ledger_total).await
}

fn evidence_open_query() -> String {
    format!(
        "{EVIDENCE} WHERE settled_at IS NULL AND reason NOT LIKE '{}%'
         ORDER BY first_seen, account, reference LIMIT $1",
        EvidenceRow::NOTED
    )
}

pub(super) async fn evidence_open(store: &PostgresStore, rows: usize) -> Read<Vec<EvidenceRow>> {
    store
        .many(&evidence_open_query(), &[&limit(rows)], evidence_row)
        .await
}

const AUDIT: &str = "SELECT id, at, operator, action, target, outcome, previous, hash FROM audit
    WHERE id > $1 ORDER BY id LIMIT $2";

pub(super) async fn audit(store: &PostgresStore, after: u64, rows: usize) -> Read<Vec<AuditEntry>> {
    let Some(after) = integer(after) else {
        return Ok(Vec::new());
    };
    store
        .many(AUDIT, &[&after, &limit(rows)], audit_entry)
        .await
}
