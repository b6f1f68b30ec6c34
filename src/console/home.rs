//! The first page: the way to an order, and what waits for people.

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;
use jiff::civil::Date;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::page::{self, Frame};
use super::visitor::{self, Failure};
use super::{Console, reconciliations, settle, words};
use crate::order::Timestamp;
use crate::store::reconciliation::RunState;
use crate::store::{
    EvidenceRow, EvidenceStanding, OutboxEntry, RefundRow, RefundStatus, StoreError,
};

/// Rows of one kind that are shown.
const MOST: usize = 50;
/// A refund is nobody's business before.
const STUCK_AFTER_MS: i64 = 3_600_000;
/// Days whose reconciliation is looked at.
const DAYS: i64 = 31;

#[derive(Template)]
#[template(path = "console/home.html")]
struct Page {
    frame: Frame,
    waiting: usize,
    lists: Vec<List>,
}

/// What waits, of one kind.
struct List {
    title: &'static str,
    empty: &'static str,
    rows: Vec<Waiting>,
    /// There are more than are shown.
    cut: bool,
}

struct Waiting {
    href: String,
    title: String,
    text: String,
    amount: String,
    since: String,
}

impl List {
    fn of(title: &'static str, empty: &'static str, mut rows: Vec<Waiting>) -> Self {
        let cut = rows.len() > MOST;
        rows.truncate(MOST);
        Self {
            title,
            empty,
            rows,
            cut,
        }
    }
}

/// `GET /`
pub(super) async fn get(
    console: web::Data<Console>,
    request: HttpRequest,
) -> Result<HttpResponse, Failure> {
    let login = visitor::signed(&console, &request).await?;
    let lists = lists(&console)
        .await
        .map_err(|error| Failure::from(error).before(&console, &login))?;
    Ok(page::ok(&Page {
        frame: Frame::of(&console, &login, "待办", "home").noting(&request),
        waiting: lists.iter().map(|list| list.rows.len()).sum(),
        lists,
    }))
}

async fn lists(console: &Console) -> Result<Vec<List>, StoreError> {
    let store = &console.operations.store;
    let (evidence, refunds, parked) = futures_util::try_join!(
        store.evidence_open(MOST + 1),
        store.refunds_open(1000),
        store.outbox_undelivered(false, MOST + 1),
    )?;
    let now = console.operations.clock.now();
    let stuck = refunds.iter().filter(|row| {
        row.status != RefundStatus::Pending || now.since(row.requested_at) >= STUCK_AFTER_MS
    });
    Ok(vec![
        List::of("异常款项", "没有与订单不符的款项。", odd(console).await?),
        List::of(
            "无法对应的通知",
            "没有对不上订单的支付通知。",
            evidence
                .iter()
                .map(|row| of_evidence(console, row))
                .collect(),
        ),
        List::of(
            "卡住的退款",
            "没有超过一小时未完成的退款。",
            stuck.map(|row| of_refund(console, row)).collect(),
        ),
        List::of(
            "已停止的推送",
            "没有停止推送的通知。",
            parked
                .iter()
                .map(|entry| of_event(console, entry))
                .collect(),
        ),
        List::of(
            "对账差异",
            "近一个月的对账没有差异。",
            differences(console, now).await?,
        ),
    ])
}

async fn odd(console: &Console) -> Result<Vec<Waiting>, StoreError> {
    let store = &console.operations.store;
    let mut rows = Vec::new();
    for id in store.odd_captures(MOST + 1).await? {
        let Some(stored) = store.order(id).await? else {
            continue;
        };
        let open = stored.order.mismatches.iter().enumerate();
        rows.extend(
            open.filter(|(_, odd)| !odd.is_settled())
                .map(|(number, odd)| Waiting {
                    href: format!("/orders/{id}/odd/{number}"),
                    title: format!(
                        "{} {}",
                        settle::reason(odd),
                        stored.snapshot.merchant_order_no
                    ),
                    text: settle::standing(odd.standing).0.to_owned(),
                    amount: settle::amount(odd),
                    since: console.zone().date_and_minute(odd.heard_at),
                }),
        );
    }
    Ok(rows)
}

fn of_evidence(console: &Console, row: &EvidenceRow) -> Waiting {
    let standing = match row.standing {
        EvidenceStanding::Open => "等待处理",
        EvidenceStanding::Proposed { .. } => "等待第二人确认",
        EvidenceStanding::Settled { .. } => "已处理",
    };
    let reference = utf8_percent_encode(&row.reference, NON_ALPHANUMERIC);
    let account = utf8_percent_encode(row.account.as_str(), NON_ALPHANUMERIC);
    Waiting {
        href: format!("/evidence/{account}/{reference}"),
        title: format!("{} {}", row.account, row.reference),
        text: format!("{standing}：{}", row.reason),
        amount: String::new(),
        since: console.zone().date_and_minute(row.first_seen),
    }
}

fn of_refund(console: &Console, row: &RefundRow) -> Waiting {
    Waiting {
        href: format!("/orders/{}#refunds", row.order),
        title: words::refund_cause(row.cause).to_owned(),
        text: words::refund(row.status.as_str()).0.to_owned(),
        amount: row.amount.to_string(),
        since: console.zone().date_and_minute(row.requested_at),
    }
}

fn of_event(console: &Console, entry: &OutboxEntry) -> Waiting {
    Waiting {
        href: format!("/orders/{}#events", entry.order),
        title: words::event_kind(entry.kind.as_str()).to_owned(),
        text: format!("尝试 {} 次：{}", entry.tries, entry.note),
        amount: String::new(),
        since: console.zone().date_and_minute(entry.created_at),
    }
}

/// Results with differences, and runs that failed.
async fn differences(console: &Console, now: Timestamp) -> Result<Vec<Waiting>, StoreError> {
    let today: Date = reconciliations::today(now);
    let runs = reconciliations::latest(console, today, DAYS).await?;
    let rows = runs.into_iter().filter_map(|run| {
        let total = run.total();
        let differ = total.only_here + total.only_there + total.different;
        let text = match run.state {
            RunState::Failed => format!("对账失败：{}", run.why.as_deref().unwrap_or_default()),
            RunState::Finished if differ > 0 => format!(
                "仅我方 {}，仅平台 {}，不一致 {}",
                total.only_here, total.only_there, total.different
            ),
            _ => return None,
        };
        Some(Waiting {
            href: reconciliations::href(&run),
            title: format!("{} {}", run.date, run.account),
            text,
            amount: String::new(),
            since: console
                .zone()
                .date_and_minute(run.finished_at.unwrap_or(run.started_at)),
        })
    });
    Ok(rows.collect())
}
