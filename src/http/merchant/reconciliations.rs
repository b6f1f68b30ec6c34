//! `GET /v1/reconciliations/{account}/{date}`: what comparing the provider's bill with our books found.

mod csv;
pub mod shapes;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::civil::Date;
use serde_json::{Value, json};

use super::paging::cut;
use crate::http::auth::Signed;
use crate::http::json::Findings;
use crate::http::problem::{Code, Problem};
use crate::http::{Deps, openapi, refusal};
use crate::order::{AccountId, MerchantId};
use crate::store::reconciliation::{Row, RowFilter, Run, RunState, Side, Tally, Verdict};
use crate::view::View;

const DEFAULT_LIMIT: usize = 100;
const MOST: usize = 1_000;
/// The first byte of a cursor: another kind of cursor gets another number.
const CURSOR_VERSION: u8 = 2;

#[utoipa::path(
    get,
    path = "/v1/reconciliations/{account}/{date}",
    operation_id = "readReconciliation",
    tag = "Reconciliations",
    summary = "Read a day's reconciliation",
    description = "Each morning the provider's bill of the day before is compared with what is recorded here: \
        every line of it, and every payment and refund of ours that it should have, gets one verdict. A \
        payment that only the bill told us of is recorded like any other (the order becomes paid, order.paid \
        is sent) and its row is matched with repaired: true. An account may serve several merchants: you see \
        the rows of your own orders and those that belong to no order, never another merchant's; the summary \
        counts the same rows. Pass next_cursor as cursor to read on. With Accept: text/csv, or format=csv, the \
        same rows come as one file for spreadsheets: UTF-8 with a byte order mark; amounts in fen; long numbers \
        end with a tab, as in Alipay's own bills, so that no digit is rounded away; what a spreadsheet would \
        take for a formula begins with an apostrophe. 404 where no comparison was begun for that day.",
    params(shapes::ReconciliationPath, shapes::ReconciliationQuery),
    responses(
        (status = 200, description = "A page of rows, or all of them as CSV", content(
            (shapes::ReconciliationBody = "application/json"),
            (String = "text/csv"),
        )),
        (status = 404, description = "not_found", body = openapi::ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn read_reconciliation(
    deps: web::Data<Deps>,
    signed: Signed,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let part = |name: &str| request.match_info().get(name).unwrap_or_default();
    let merchant = &signed.caller.merchant;
    let account = AccountId::new(part("account"));
    let date: Date = part("date").parse().map_err(|_| Problem::not_found())?;
    if !merchant.accounts.contains(&account) {
        return Err(Problem::not_found());
    }
    let asked = Asked::read(&signed)?;
    let runs = deps
        .store
        .reconciliation_runs(Some(&account), date, date)
        .await
        .map_err(|error| refusal::store_failed(&error))?;
    let latest = runs.first().ok_or_else(Problem::not_found)?;
    let result = runs.iter().find(|run| run.state == RunState::Finished);
    let filter = RowFilter {
        account,
        date,
        run: result.map_or(0, |run| run.run),
        merchant: Some(merchant.id),
        verdict: asked.verdict,
        after: 0,
        limit: MOST,
    };
    let summary = visible(result, merchant.id);
    if asked.csv || prefers_csv(&request) {
        return Ok(csv::answer(&deps, filter, &summary));
    }
    let after = match asked.cursor {
        None => 0,
        Some((run, number)) if run == filter.run => number,
        Some(_) => {
            let detail =
                "A later comparison has replaced the result: begin again without a cursor.";
            let problem = Problem::new(Code::ValidationFailed, detail);
            return Err(problem.at("cursor", "expected a cursor of the present result"));
        }
    };
    let filter = RowFilter {
        after,
        limit: asked.limit + 1,
        ..filter
    };
    let mut rows = deps
        .store
        .reconciliation_rows(&filter)
        .await
        .map_err(|error| refusal::store_failed(&error))?;
    let has_more = cut(&mut rows, asked.limit);
    let next_cursor = rows
        .last()
        .filter(|_| has_more)
        .map(|last| write_cursor(filter.run, last.number));
    let view = deps.view();
    let lines: Vec<Value> = rows.iter().map(|row| row_json(&view, row)).collect();
    Ok(HttpResponse::Ok().json(json!({
        "object": "reconciliation",
        "account": filter.account,
        "date": date.to_string(),
        "state": result.unwrap_or(latest).state,
        "run": result.map(|run| run.run),
        "finished_at": result.and_then(|run| run.finished_at).map(|at| view.time(at)),
        "summary": summary_json(&summary),
        "latest_run": {
            "run": latest.run,
            "state": latest.state,
            "started_at": view.time(latest.started_at),
            "finished_at": latest.finished_at.map(|at| view.time(at)),
            "why": why(latest),
        },
        "data": lines,
        "has_more": has_more,
        "next_cursor": next_cursor,
    })))
}

/// What a merchant is told of a run without a whole result: the operators' log has the rest.
fn why(run: &Run) -> Option<&str> {
    match run.state {
        RunState::Running => None,
        RunState::Waiting => run.why.as_deref(),
        RunState::Failed => Some("the comparison failed; it is tried again"),
        RunState::Finished => run
            .why
            .as_ref()
            .map(|_| "the movements of the balance could not be compared"),
    }
}

/// The rows that this merchant may see, in numbers.
fn visible(result: Option<&Run>, merchant: MerchantId) -> Tally {
    let mut visible = Tally::of(Some(merchant));
    for tally in result.iter().flat_map(|run| &run.tallies) {
        if tally.merchant.is_none_or(|whose| whose == merchant) {
            visible.add(tally);
        }
    }
    visible
}

fn prefers_csv(request: &HttpRequest) -> bool {
    let accept = request.headers().get(header::ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok());
    let first = accept.and_then(|accept| accept.split([',', ';']).next());
    first.is_some_and(|first| first.trim().eq_ignore_ascii_case("text/csv"))
}

/// What the query asks for.
struct Asked {
    verdict: Option<Verdict>,
    cursor: Option<(u32, u32)>,
    limit: usize,
    csv: bool,
}

impl Asked {
    fn read(signed: &Signed) -> Result<Self, Problem> {
        let findings = Findings::default();
        let mut asked = Self {
            verdict: None,
            cursor: None,
            limit: DEFAULT_LIMIT,
            csv: false,
        };
        let mut seen = Vec::new();
        for (name, value) in url::form_urlencoded::parse(signed.query.as_bytes()) {
            if seen.contains(&name) {
                findings.add(name.as_ref(), "named twice");
                continue;
            }
            seen.push(name.clone());
            let expected = match name.as_ref() {
                "verdict" => {
                    let mut verdicts = Verdict::ALL.iter();
                    asked.verdict = verdicts.find(|verdict| verdict.as_str() == value).copied();
                    asked
                        .verdict
                        .is_none()
                        .then_some("expected matched, only_here, only_there or different")
                }
                "cursor" => {
                    asked.cursor = read_cursor(&value);
                    asked
                        .cursor
                        .is_none()
                        .then_some("expected the next_cursor of an earlier answer")
                }
                "limit" => match value.parse() {
                    Ok(limit) if (1..=MOST).contains(&limit) => {
                        asked.limit = limit;
                        None
                    }
                    _ => Some("expected a whole number from 1 to 1000"),
                },
                "format" => {
                    asked.csv = value == "csv";
                    (!matches!(value.as_ref(), "csv" | "json")).then_some("expected json or csv")
                }
                _ => Some("unknown parameter; expected verdict, cursor, limit or format"),
            };
            if let Some(expected) = expected {
                let name: String = name.chars().take(64).collect();
                findings.add(name, expected);
            }
        }
        findings.into_problem().map_or(Ok(asked), Err)
    }
}

fn summary_json(summary: &Tally) -> Value {
    json!({
        "matched": summary.matched,
        "only_here": summary.only_here,
        "only_there": summary.only_there,
        "different": summary.different,
        "repaired": summary.repaired,
        "payments_here": summary.payments_here,
        "payments_there": summary.payments_there,
        "refunds_here": summary.refunds_here,
        "refunds_there": summary.refunds_there,
        "fees_there": summary.fees_there,
    })
}

fn row_json(view: &View, row: &Row) -> Value {
    let side = |side: &Option<Side>| {
        side.as_ref().map(|side| {
            json!({
                "line": side.line,
                "out_trade_no": side.out_trade_no,
                "transaction_id": side.transaction_id,
                "refund_no": side.refund_no,
                "amount": side.amount,
                "currency": side.currency.as_deref().unwrap_or("CNY"),
                "at": view.time(side.at),
                "status": side.status,
                "fee": side.fee,
            })
        })
    };
    json!({
        "number": row.number,
        "verdict": row.verdict,
        "kind": row.kind,
        "field": row.field,
        "repaired": row.repaired,
        "order_id": row.order,
        "ours": side(&row.ours),
        "theirs": side(&row.theirs),
    })
}

/// A cursor is of one result: a later one has other rows.
fn write_cursor(run: u32, number: u32) -> String {
    let mut bytes = vec![CURSOR_VERSION];
    bytes.extend_from_slice(&run.to_be_bytes());
    bytes.extend_from_slice(&number.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn read_cursor(text: &str) -> Option<(u32, u32)> {
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (version, rest) = bytes.split_first()?;
    let (run, number) = rest.split_first_chunk()?;
    let number = number.try_into().ok()?;
    (*version == CURSOR_VERSION).then(|| (u32::from_be_bytes(*run), u32::from_be_bytes(number)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn cursors_are_read_back(run: u32, number: u32) {
            prop_assert_eq!(read_cursor(&write_cursor(run, number)), Some((run, number)));
        }

        #[test]
        fn any_cursor_is_read_or_refused(text: String) {
            if let Some((run, number)) = read_cursor(&text) {
                prop_assert_eq!(write_cursor(run, number), text);
            }
        }
    }
}
