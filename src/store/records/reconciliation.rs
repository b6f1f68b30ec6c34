//! Rows of what reconciliation reads and leaves.

use super::Read;
use crate::order::{AccountId, Fen};
use crate::store::reconciliation::{CaptureRow, Row, Run, Side};
use crate::store::rows::{Columns, Parsing};

pub(in crate::store) const CAPTURE: &str =
    "SELECT transaction_id, order_id, attempt, orders.merchant AS merchant,
    captures.amount AS amount, succeeded_at
    FROM captures JOIN orders ON orders.id = captures.order_id";

pub(in crate::store) fn capture_row(row: &dyn Columns) -> Read<CaptureRow> {
    let row = Parsing::new("captures", row, "transaction_id");
    Ok(CaptureRow {
        transaction_id: row.get::<String>("transaction_id")?.into(),
        order: row.parse("order_id")?,
        attempt: row.attempt("attempt")?,
        merchant: row.parse("merchant")?,
        amount: row.get("amount").map(Fen::new)?,
        succeeded_at: row.time("succeeded_at")?,
    })
}

pub(in crate::store) const RUN: &str =
    "SELECT account, date, run, state, started_by, started_at, finished_at, tallies,
    flows, why FROM reconciliations";

pub(in crate::store) fn run_row(row: &dyn Columns) -> Read<Run> {
    let row = Parsing::new("reconciliations", row, "date");
    Ok(Run {
        account: AccountId::new(row.get::<String>("account")?),
        date: row.parse("date")?,
        run: row.number("run")?,
        state: row.word("state")?,
        by: row.word("started_by")?,
        started_at: row.time("started_at")?,
        finished_at: row.time_if_any("finished_at")?,
        tallies: row.json("tallies")?,
        flows: match row.get::<Option<String>>("flows")? {
            Some(_) => Some(row.json("flows")?),
            None => None,
        },
        why: row.get("why")?,
    })
}

pub(in crate::store) const ROW: &str =
    "SELECT number, verdict, kind, field, repaired, order_id, merchant,
    our_out_trade_no, our_transaction_id, our_refund_no, our_amount, our_at, our_status,
    their_line, their_out_trade_no, their_transaction_id, their_refund_no, their_amount, their_at,
    their_status, their_fee, their_currency FROM reconciliation_rows";

pub(in crate::store) fn row_of(row: &dyn Columns) -> Read<Row> {
    let number: i64 = Parsing::named("reconciliation_rows", row, "").get("number")?;
    let row = Parsing::named("reconciliation_rows", row, number.to_string());
    Ok(Row {
        number: row.number("number")?,
        verdict: row.word("verdict")?,
        kind: row.word("kind")?,
        field: row.word_if_any("field")?,
        repaired: row.get("repaired")?,
        order: row.parse_if_any("order_id")?,
        merchant: row.parse_if_any("merchant")?,
        ours: side(&row, "our")?,
        theirs: side(&row, "their")?,
    })
}

fn side(row: &Parsing<'_>, whose: &str) -> Read<Option<Side>> {
    let column = |name: &str| format!("{whose}_{name}");
    let Some(amount) = row.get::<Option<i64>>(&column("amount"))? else {
        return Ok(None);
    };
    let boxed = |name: &str| -> Read<Box<str>> { Ok(row.get::<String>(&column(name))?.into()) };
    let theirs = whose == "their";
    Ok(Some(Side {
        line: if theirs {
            row.number_if_any("their_line")?
        } else {
            None
        },
        out_trade_no: boxed("out_trade_no")?,
        transaction_id: boxed("transaction_id")?,
        refund_no: row
            .get::<Option<String>>(&column("refund_no"))?
            .map(Into::into),
        amount: Fen::new(amount),
        at: row.time(&column("at"))?,
        status: boxed("status")?,
        fee: if theirs {
            row.get::<Option<i64>>("their_fee")?.map(Fen::new)
        } else {
            None
        },
        currency: if theirs {
            row.get::<Option<String>>("their_currency")?.map(Into::into)
        } else {
            None
        },
    }))
}

pub(in crate::store) fn result_key(row: &dyn Columns) -> Read<Box<str>> {
    let row = Parsing::named("reconciliation_rows", row, "key");
    Ok(row.get::<String>("key")?.into())
}
