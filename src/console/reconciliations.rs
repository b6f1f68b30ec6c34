//! What comparing the providers' bills with our books has found, day by day.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use jiff::ToSpan as _;
use jiff::civil::Date;
use jiff::tz::{Offset, TimeZone};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::Console;
use super::page::{self, Frame};
use super::visitor::{self, Failure};
use super::words::{self, Tone};
use crate::operations::Operation;
use crate::order::{AccountId, Fen, OrderId, Timestamp};
use crate::store::StoreError;
use crate::store::reconciliation::{Row, RowFilter, Run, RunState, Side, Verdict};

/// Days that the list goes back.
const DAYS: i64 = 62;
/// Differences of one verdict that are shown.
const MOST: usize = 200;
/// A small bill is compared within this; a large one goes on while the page is answered.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Template)]
#[template(path = "console/reconciliations.html")]
struct List {
    frame: Frame,
    accounts: Vec<String>,
    yesterday: String,
    runs: Vec<Line>,
}

struct Line {
    href: String,
    date: String,
    account: String,
    state: &'static str,
    tone: Tone,
    matched: u64,
    differ: u64,
    why: String,
}

#[derive(Template)]
#[template(path = "console/reconciliation.html")]
struct Day {
    frame: Frame,
    account: String,
    date: String,
    state: &'static str,
    tone: Tone,
    why: String,
    facts: Vec<(&'static str, String)>,
    parts: Vec<Part>,
}

struct Part {
    title: &'static str,
    rows: Vec<Difference>,
    cut: bool,
}

struct Difference {
    kind: &'static str,
    field: &'static str,
    order: Option<OrderId>,
    ours: String,
    theirs: String,
}

/// The provider's day: Beijing's.
pub(super) fn today(now: Timestamp) -> Date {
    let instant = jiff::Timestamp::from_millisecond(now.as_millis()).unwrap_or_default();
    let beijing = TimeZone::fixed(Offset::constant(8));
    instant.to_zoned(beijing).date()
}

pub(super) fn href(run: &Run) -> String {
    let account = utf8_percent_encode(run.account.as_str(), NON_ALPHANUMERIC);
    format!("/reconciliations/{account}/{}", run.date)
}

/// The last run of each account and day, the latest day first.
pub(super) async fn latest(
    console: &Console,
    today: Date,
    days: i64,
) -> Result<Vec<Run>, StoreError> {
    let from = today.checked_sub(days.days()).unwrap_or(today);
    let store = &console.operations.store;
    let mut runs = store.reconciliation_runs(None, from, today).await?;
    runs.sort_by(|one, other| {
        let place = |run: &Run| (run.date, run.account.as_str().to_owned(), run.run);
        place(other).cmp(&place(one))
    });
    runs.dedup_by(|later, kept| later.date == kept.date && later.account == kept.account);
    Ok(runs)
}

/// `GET /reconciliations`
pub(super) async fn list(
    console: web::Data<Console>,
    request: HttpRequest,
) -> Result<HttpResponse, Failure> {
    let login = visitor::signed(&console, &request).await?;
    let today = today(console.operations.clock.now());
    let runs = latest(&console, today, DAYS)
        .await
        .map_err(|error| Failure::from(error).before(&console, &login))?;
    let runs = runs
        .iter()
        .map(|run| {
            let (state, tone) = words::run_state(run.state);
            let total = run.total();
            Line {
                href: href(run),
                date: run.date.to_string(),
                account: run.account.to_string(),
                state,
                tone,
                matched: total.matched,
                differ: total.only_here + total.only_there + total.different,
                why: run.why.clone().unwrap_or_default(),
            }
        })
        .collect();
    let accounts = &console.operations.accounts;
    Ok(page::ok(&List {
        frame: Frame::of(&console, &login, "对账", "reconciliations").noting(&request),
        accounts: accounts
            .iter()
            .map(|(account, _)| account.to_string())
            .collect(),
        yesterday: today.yesterday().unwrap_or(today).to_string(),
        runs,
    }))
}

/// `POST /reconciliations`: compares a day, again if need be.
pub(super) async fn run(
    console: web::Data<Console>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Failure> {
    let (login, form) = visitor::signed_form(&console, &request, payload).await?;
    let operation = Operation::Reconcile {
        account: form.get("account").to_owned(),
        date: form.get("date").to_owned(),
    };
    let (operations, by) = (console.operations.clone(), login.operator.clone());
    // It goes on, and is written down, whether or not anybody waits for it.
    let run = tokio::spawn(async move { operations.run(&by, operation).await });
    match tokio::time::timeout(PATIENCE, run).await {
        Err(_) => Ok(visitor::done("/reconciliations", "reconciling")),
        Ok(Ok(Ok(_))) => Ok(visitor::done("/reconciliations", "reconciled")),
        Ok(Ok(Err(error))) => Err(Failure::from(error).before(&console, &login)),
        Ok(Err(_)) => Err(Failure::wrong_form().before(&console, &login)),
    }
}

/// `GET /reconciliations/{account}/{date}`
pub(super) async fn day(
    console: web::Data<Console>,
    request: HttpRequest,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Failure> {
    let login = visitor::signed(&console, &request).await?;
    let before = |failure: Failure| failure.before(&console, &login);
    let (account, date) = path.into_inner();
    let date: Date = date.parse().map_err(|_| before(Failure::not_found()))?;
    let account = AccountId::new(account);
    let found = async {
        let store = &console.operations.store;
        let runs = store
            .reconciliation_runs(Some(&account), date, date)
            .await?;
        let last = runs.iter().max_by_key(|run| run.run).cloned();
        // What a later run that failed has not replaced.
        let finished = runs
            .into_iter()
            .filter(|run| run.state == RunState::Finished);
        let result = finished.max_by_key(|run| run.run);
        let parts = match &result {
            Some(result) => parts(&console, result).await?,
            None => Vec::new(),
        };
        Ok::<_, StoreError>(last.map(|last| (last, result, parts)))
    };
    let (last, result, parts) = found
        .await
        .map_err(|error| before(error.into()))?
        .ok_or_else(|| before(Failure::not_found()))?;
    let (state, tone) = words::run_state(last.state);
    let facts = result
        .as_ref()
        .map_or_else(Vec::new, |run| facts(&console, run));
    Ok(page::html(
        StatusCode::OK,
        &Day {
            frame: Frame::of(
                &console,
                &login,
                format!("对账 {date} {account}"),
                "reconciliations",
            ),
            account: account.to_string(),
            date: date.to_string(),
            state,
            tone,
            why: last.why.unwrap_or_default(),
            facts,
            parts,
        },
    ))
}

fn facts(console: &Console, run: &Run) -> Vec<(&'static str, String)> {
    let total = run.total();
    let sum = |fen: i64| Fen::new(fen).to_string();
    vec![
        ("一致", total.matched.to_string()),
        ("其中补记", total.repaired.to_string()),
        ("仅我方有", total.only_here.to_string()),
        ("仅平台有", total.only_there.to_string()),
        ("不一致", total.different.to_string()),
        ("我方收款", sum(total.payments_here)),
        ("平台收款", sum(total.payments_there)),
        ("我方退款", sum(total.refunds_here)),
        ("平台退款", sum(total.refunds_there)),
        ("平台手续费", sum(total.fees_there)),
        (
            "完成时间",
            run.finished_at
                .map(|at| console.zone().date_and_clock(at))
                .unwrap_or_default(),
        ),
    ]
}

async fn parts(console: &Console, run: &Run) -> Result<Vec<Part>, StoreError> {
    let mut parts = Vec::new();
    for verdict in [Verdict::Different, Verdict::OnlyThere, Verdict::OnlyHere] {
        let filter = RowFilter {
            account: run.account.clone(),
            date: run.date,
            run: run.run,
            merchant: None,
            verdict: Some(verdict),
            after: 0,
            limit: MOST + 1,
        };
        let rows = console
            .operations
            .store
            .reconciliation_rows(&filter)
            .await?;
        let cut = rows.len() > MOST;
        let rows = rows.iter().take(MOST);
        parts.push(Part {
            title: words::verdict(verdict),
            rows: rows.map(|row| difference(console, row)).collect(),
            cut,
        });
    }
    Ok(parts)
}

fn difference(console: &Console, row: &Row) -> Difference {
    let side = |side: &Option<Side>| {
        side.as_ref().map_or_else(
            || "没有".to_owned(),
            |side| {
                let number = side.refund_no.as_deref().unwrap_or(&side.transaction_id);
                format!(
                    "{}，{number}，{}",
                    side.amount,
                    console.zone().date_and_clock(side.at)
                )
            },
        )
    };
    Difference {
        kind: words::row_kind(row.kind),
        field: row.field.map_or("", words::field),
        order: row.order,
        ours: side(&row.ours),
        theirs: side(&row.theirs),
    }
}
