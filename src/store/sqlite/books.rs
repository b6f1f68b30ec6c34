//! Reading the books: refunds, the ledger, what waits for people, what people did.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params, params_from_iter};

use super::reads::{OUTBOX, Read, many, one, outbox_row};
use super::rows::{Parsing, integer, limit};
use crate::order::{
    AccountId, AttemptNumber, Fen, MerchantId, OperatorHash, OrderId, PayerHash, WebhookType,
};
use crate::sealing::Sealed;
use crate::store::{AuditEntry, EvidenceRow, EvidenceStanding, LedgerLine, OutboxEntry, RefundRow};

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
        |row| {
            let position = Parsing::new("outbox", row, "id").number("position")?;
            Ok((position, outbox_row(row)?))
        },
    )
}

pub(super) const REFUND: &str =
    "SELECT account, number, refund, round, order_id, attempt, transaction_id,
    cause, merchant, merchant_refund_no, amount, status, requested_at, ended_at FROM refunds";

pub(super) fn refund_row_of(row: &Row<'_>) -> Read<RefundRow> {
    let row = Parsing::new("refunds", row, "number");
    Ok(RefundRow {
        account: AccountId::new(row.get::<String>("account")?),
        number: row.get("number")?,
        id: row.parse("refund")?,
        round: row.number("round")?,
        order: row.parse("order_id")?,
        attempt: AttemptNumber::new(row.number("attempt")?)
            .ok_or_else(|| row.wrong("column attempt: 1 to 1023 expected"))?,
        transaction_id: row.get("transaction_id")?,
        cause: row.word("cause")?,
        merchant: row.parse("merchant")?,
        merchant_refund_no: row.get("merchant_refund_no")?,
        amount: row.get("amount").map(Fen::new)?,
        status: row.word("status")?,
        requested_at: row.time("requested_at")?,
        ended_at: row.time_if_any("ended_at")?,
    })
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
    many(connection, LEDGER, [order.to_string()], |row| {
        let row = Parsing::new("ledger", row, "order_id");
        Ok(LedgerLine {
            order,
            version: row.number("version")?,
            position: row.number("position")?,
            line: row.number("line")?,
            book: row.get("book")?,
            amount: row.get("amount").map(Fen::new)?,
            at: row.time("at")?,
        })
    })
}

pub(super) fn ledger_totals(connection: &Connection) -> Read<Vec<(String, Fen)>> {
    many(
        connection,
        "SELECT book, amount FROM ledger_totals ORDER BY book",
        [],
        |row| {
            let row = Parsing::new("ledger_totals", row, "book");
            Ok((row.get("book")?, row.get("amount").map(Fen::new)?))
        },
    )
}

pub(super) const EVIDENCE: &str =
    "SELECT account, reference, reason, body, order_id, first_seen, proposed_by,
    proposed_at, settled_by, settled_at FROM evidence";

pub(super) fn evidence_row(row: &Row<'_>) -> Read<EvidenceRow> {
    let row = Parsing::new("evidence", row, "reference");
    let operator = |column| -> Read<Option<OperatorHash>> {
        let bytes = row.bytes_if_any(column)?;
        Ok(bytes.map(u128::from_be_bytes).map(PayerHash))
    };
    let standing = match (operator("proposed_by")?, operator("settled_by")?) {
        (None, None) => EvidenceStanding::Open,
        (Some(by), None) => EvidenceStanding::Proposed {
            by,
            at: row.time("proposed_at")?,
        },
        (Some(proposed_by), Some(by)) => EvidenceStanding::Settled {
            proposed_by,
            by,
            at: row.time("settled_at")?,
        },
        (None, Some(_)) => return Err(row.wrong("settled without a proposal")),
    };
    Ok(EvidenceRow {
        account: AccountId::new(row.get::<String>("account")?),
        reference: row.get("reference")?,
        reason: row.get("reason")?,
        body: Sealed(row.get("body")?),
        order: row.parse_if_any("order_id")?,
        first_seen: row.time("first_seen")?,
        standing,
    })
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
    many(connection, AUDIT, params![after, limit(rows)], |row| {
        let id: i64 = Parsing::named("audit", row, "").get("id")?;
        let row = Parsing::named("audit", row, id.to_string());
        Ok(AuditEntry {
            id: row.number("id")?,
            at: row.time("at")?,
            operator: row.get("operator")?,
            action: row.get("action")?,
            target: row.get("target")?,
            outcome: row.get("outcome")?,
            previous: row.bytes("previous")?,
            hash: row.bytes("hash")?,
        })
    })
}
