//! The rows as one file for spreadsheets, written a page at a time: a day may have very many.

use std::borrow::Cow;
use std::sync::Arc;

use actix_web::HttpResponse;
use actix_web::http::header;
use actix_web::web::Bytes;
use csv::Writer;
use futures_util::stream;

use crate::http::Deps;
use crate::order::Fen;
use crate::store::Store;
use crate::store::reconciliation::{Row, RowFilter, Side, Tally};
use crate::view::View;

/// Spreadsheets take a file for UTF-8 that begins so.
const BYTE_ORDER_MARK: &str = "\u{feff}";
const HEAD: [&str; 23] = [
    "number",
    "verdict",
    "kind",
    "field",
    "repaired",
    "order_id",
    "our_out_trade_no",
    "our_transaction_id",
    "our_refund_no",
    "our_amount",
    "our_currency",
    "our_at",
    "our_status",
    "their_line",
    "their_out_trade_no",
    "their_transaction_id",
    "their_refund_no",
    "their_amount",
    "their_currency",
    "their_at",
    "their_status",
    "their_fee",
    "difference",
];
/// As many digits a spreadsheet keeps of a number.
const DIGITS_KEPT: usize = 11;

struct Reading {
    store: Arc<dyn Store>,
    view: View,
    filter: RowFilter,
    /// Rows still to come.
    left: u64,
    begun: bool,
}

pub(super) fn answer(deps: &Deps, filter: RowFilter, summary: &Tally) -> HttpResponse {
    let name = format!("reconciliation-{}.csv", filter.date);
    let reading = Reading {
        store: Arc::clone(&deps.store),
        view: deps.view(),
        left: filter
            .verdict
            .map_or(summary.rows(), |verdict| summary.with_verdict(verdict)),
        filter,
        begun: false,
    };
    HttpResponse::Ok()
        .content_type("text/csv; charset=utf-8")
        .insert_header((
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ))
        .streaming(stream::try_unfold(reading, next))
}

/// The next page; an error breaks the connection off, so that no part passes for the whole.
async fn next(mut reading: Reading) -> Result<Option<(Bytes, Reading)>, std::io::Error> {
    let mut text = Vec::new();
    if !reading.begun {
        reading.begun = true;
        text.extend_from_slice(BYTE_ORDER_MARK.as_bytes());
        text = write(text, [HEAD.map(Cow::Borrowed)])?;
        return Ok(Some((text.into(), reading)));
    }
    if reading.left == 0 {
        return Ok(None);
    }
    let rows = reading
        .store
        .reconciliation_rows(&reading.filter)
        .await
        .map_err(std::io::Error::other)?;
    let Some(last) = rows.last() else {
        return Err(std::io::Error::other("a later result has taken its place"));
    };
    reading.filter.after = last.number;
    reading.left = reading.left.saturating_sub(rows.len() as u64);
    let cells = rows.iter().map(|row| cells(&reading.view, row));
    let text = write(text, cells)?;
    Ok(Some((text.into(), reading)))
}

fn write<'a>(
    text: Vec<u8>,
    rows: impl IntoIterator<Item = [Cow<'a, str>; HEAD.len()]>,
) -> Result<Vec<u8>, std::io::Error> {
    let mut writer = Writer::from_writer(text);
    for row in rows {
        writer.write_record(row.iter().map(|cell| cell.as_bytes()))?;
    }
    writer
        .into_inner()
        .map_err(|error| std::io::Error::other(error.to_string()))
}

fn cells<'a>(view: &View, row: &'a Row) -> [Cow<'a, str>; HEAD.len()] {
    let whole =
        |number: Option<i64>| number.map_or_else(|| "".into(), |number| number.to_string().into());
    let amount = |side: Option<&Side>| side.map(|side| side.amount.get());
    let (ours, theirs) = (row.ours.as_ref(), row.theirs.as_ref());
    let part = |side: Option<&'a Side>, of: fn(&'a Side) -> &'a str| -> Cow<'a, str> {
        side.map_or_else(|| "".into(), |side| cell(of(side)))
    };
    let time = |side: Option<&Side>| -> Cow<'a, str> {
        side.map_or_else(|| "".into(), |side| view.time(side.at).into())
    };
    let currency = |side: &'a Side| side.currency.as_deref().unwrap_or("CNY");
    let refund_no = |side: &'a Side| side.refund_no.as_deref().unwrap_or_default();
    [
        row.number.to_string().into(),
        row.verdict.as_str().into(),
        row.kind.as_str().into(),
        row.field.map_or("", |field| field.as_str()).into(),
        if row.repaired { "true" } else { "false" }.into(),
        row.order
            .map_or_else(|| "".into(), |order| order.to_string().into()),
        part(ours, |side| &side.out_trade_no),
        part(ours, |side| &side.transaction_id),
        part(ours, refund_no),
        whole(amount(ours)),
        part(ours, currency),
        time(ours),
        part(ours, |side| &side.status),
        whole(theirs.and_then(|side| side.line).map(i64::from)),
        part(theirs, |side| &side.out_trade_no),
        part(theirs, |side| &side.transaction_id),
        part(theirs, refund_no),
        whole(amount(theirs)),
        part(theirs, currency),
        time(theirs),
        part(theirs, |side| &side.status),
        whole(theirs.and_then(|side| side.fee).map(Fen::get)),
        whole(difference(amount(ours), amount(theirs))),
    ]
}

/// What the bill has more than we.
fn difference(ours: Option<i64>, theirs: Option<i64>) -> Option<i64> {
    theirs
        .unwrap_or_default()
        .checked_sub(ours.unwrap_or_default())
}

/// A text that a spreadsheet takes for a text: no formula, and no number that it would round.
fn cell(text: &str) -> Cow<'_, str> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number && text.len() > DIGITS_KEPT {
        return format!("{text}\t").into();
    }
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']) {
        return format!("'{text}").into();
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn formulas_are_texts_and_long_numbers_keep_their_digits() {
        for (text, expected) in [
            ("=HYPERLINK(\"http://x\")", "'=HYPERLINK(\"http://x\")"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("-1+2", "'-1+2"),
            ("＝1", "'＝1"),
            (
                "4200001234202611201234567890",
                "4200001234202611201234567890\t",
            ),
            ("12345", "12345"),
            (
                "01KAH8Z6D0W2F4M6P8R0T2V4X601",
                "01KAH8Z6D0W2F4M6P8R0T2V4X601",
            ),
            ("", ""),
        ] {
            assert_eq!(cell(text), expected);
        }
    }

    proptest! {
        #[test]
        fn no_cell_begins_as_a_formula(text: String) {
            let cell = cell(&text);
            prop_assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']));
            prop_assert_eq!(cell.trim_start_matches('\'').trim_end(), text.trim_start_matches('\'').trim_end());
        }
    }
}
