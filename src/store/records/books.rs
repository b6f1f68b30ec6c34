//! Rows of money, of what waits for people, and of what people did.

use super::Read;
use crate::order::{AccountId, Fen, OperatorHash, PayerHash};
use crate::sealing::Sealed;
use crate::store::rows::{Columns, Parsing};
use crate::store::{AuditEntry, EvidenceRow, EvidenceStanding, LedgerLine, RefundRow};

pub(in crate::store) const REFUND: &str =
    "SELECT account, number, refund, round, order_id, attempt, transaction_id,
    cause, merchant, merchant_refund_no, amount, status, requested_at, ended_at FROM refunds";

pub(in crate::store) fn refund_row_of(row: &dyn Columns) -> Read<RefundRow> {
    let row = Parsing::new("refunds", row, "number");
    Ok(RefundRow {
        account: AccountId::new(row.get::<String>("account")?),
        number: row.get("number")?,
        id: row.parse("refund")?,
        round: row.number("round")?,
        order: row.parse("order_id")?,
        attempt: row.attempt("attempt")?,
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

pub(in crate::store) fn ledger_line(row: &dyn Columns) -> Read<LedgerLine> {
    let row = Parsing::new("ledger", row, "order_id");
    Ok(LedgerLine {
        order: row.parse("order_id")?,
        version: row.number("version")?,
        position: row.number("position")?,
        line: row.number("line")?,
        book: row.get("book")?,
        amount: row.get("amount").map(Fen::new)?,
        at: row.time("at")?,
    })
}

pub(in crate::store) fn ledger_total(row: &dyn Columns) -> Read<(String, Fen)> {
    let row = Parsing::new("ledger_totals", row, "book");
    Ok((row.get("book")?, row.get("amount").map(Fen::new)?))
}

pub(in crate::store) const EVIDENCE: &str =
    "SELECT account, reference, reason, body, order_id, first_seen, proposed_by,
    proposed_at, settled_by, settled_at FROM evidence";

pub(in crate::store) fn evidence_row(row: &dyn Columns) -> Read<EvidenceRow> {
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

pub(in crate::store) fn audit_entry(row: &dyn Columns) -> Read<AuditEntry> {
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
}
