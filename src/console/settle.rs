//! Odd money: one person says how it is settled, another one agrees. This page is what both read before
//! they press.

use actix_web::{HttpRequest, HttpResponse, web};
use askama::Template;

use super::page::{self, Frame};
use super::visitor::{self, Failure};
use super::{Console, order, words};
use crate::operations::{Login, OddCapture, Operation};
use crate::order::state::{Mismatch, MismatchStanding};
use crate::order::{AccountId, OperatorHash, SettleBy};
use crate::store::EvidenceStanding;

#[derive(Template)]
#[template(path = "console/settle.html")]
struct Page {
    frame: Frame,
    back: Option<String>,
    facts: Vec<(&'static str, String)>,
    turn: Turn,
}

/// What whoever looks may do.
enum Turn {
    /// Say how.
    Propose(Vec<Way>),
    /// Agree with what another person has said.
    Agree(Way, String),
    /// They have said it themselves.
    WaitForAnother(&'static str, String),
    Over(&'static str),
}

#[derive(Clone, Copy)]
struct Way {
    word: &'static str,
    name: &'static str,
    text: &'static str,
}

const REFUND: Way = Way {
    word: "refund",
    name: "原路退回",
    text: "把这笔款项全额退给付款人。退出后不能撤回。",
};
const OUTSIDE: Way = Way {
    word: "outside",
    name: "账外处理",
    text: "学校已在支付平台或线下处理完毕，这里只记录。不会退款，也不会算作缴费。",
};

const fn way(by: SettleBy) -> Way {
    match by {
        SettleBy::Refund => REFUND,
        SettleBy::Outside => OUTSIDE,
    }
}

impl Turn {
    fn after_proposal(
        login: &Login,
        console: &Console,
        by: OperatorHash,
        way: Way,
        at: String,
    ) -> Self {
        if login.operator.hash(&console.operations.sealer) == by {
            Self::WaitForAnother(way.name, at)
        } else {
            Self::Agree(way, at)
        }
    }
}

/// How it stands, and whether people are waited for.
pub(super) const fn standing(standing: MismatchStanding) -> (&'static str, bool) {
    match standing {
        MismatchStanding::Waiting => ("等待处理", true),
        MismatchStanding::Proposed { .. } => ("等待第二人确认", true),
        MismatchStanding::SettledOutside { .. } => ("已账外处理", false),
        MismatchStanding::GoingBack { standing, .. } if standing.is_over() => ("已结束退回", false),
        MismatchStanding::GoingBack { .. } => ("正在退回", false),
    }
}

pub(super) fn reason(odd: &Mismatch) -> String {
    let field = serde_json::to_value(odd.field).unwrap_or_default();
    words::odd(field.as_str().unwrap_or_default()).to_owned()
}

/// With its currency where that is another.
pub(super) fn amount(odd: &Mismatch) -> String {
    match odd.currency.as_deref() {
        Some("CNY") | None => odd.amount.to_string(),
        Some(currency) => format!("{currency} {}", odd.amount.to_yuan()),
    }
}

/// `GET /orders/{id}/odd/{number}`
pub(super) async fn get(
    console: web::Data<Console>,
    request: HttpRequest,
    path: web::Path<(String, u16)>,
) -> Result<HttpResponse, Failure> {
    let login = visitor::signed(&console, &request).await?;
    let before = |failure: Failure| failure.before(&console, &login);
    let (id, number) = path.into_inner();
    let id = order::id(&id).map_err(before)?;
    let stored = console.operations.store.order(id).await;
    let stored = stored
        .map_err(|error| before(error.into()))?
        .ok_or_else(|| before(Failure::not_found()))?;
    let odd = stored.order.mismatches.get(usize::from(number));
    let odd = odd.ok_or_else(|| before(Failure::not_found()))?;
    let zone = console.zone();
    let facts = vec![
        ("报名系统单号", stored.snapshot.merchant_order_no.clone()),
        ("项目", stored.snapshot.subject.clone()),
        ("订单应缴", stored.order.terms.amount.to_string()),
        ("实际收到", amount(odd)),
        ("不符之处", reason(odd)),
        ("平台交易号", odd.transaction_id.to_string()),
        (
            "收款账户",
            odd.account
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
        ),
        ("得知时间", zone.date_and_clock(odd.heard_at)),
    ];
    let turn = match odd.standing {
        MismatchStanding::Waiting if odd.counts() => Turn::Propose(vec![REFUND, OUTSIDE]),
        // In another currency: nothing can be given back by itself.
        MismatchStanding::Waiting => Turn::Propose(vec![OUTSIDE]),
        MismatchStanding::Proposed { by, operator, at } => {
            let at = zone.date_and_clock(at);
            Turn::after_proposal(&login, &console, operator, way(by), at)
        }
        other => Turn::Over(standing(other).0),
    };
    Ok(page::ok(&Page {
        frame: Frame::of(&console, &login, "处理异常款项", "home"),
        back: Some(format!("/orders/{id}")),
        facts,
        turn,
    }))
}

/// `POST /orders/{id}/odd/{number}`
pub(super) async fn post(
    console: web::Data<Console>,
    request: HttpRequest,
    payload: web::Payload,
    path: web::Path<(String, u16)>,
) -> Result<HttpResponse, Failure> {
    let (login, form) = visitor::signed_form(&console, &request, payload).await?;
    let (order, mismatch) = path.into_inner();
    let id = order::id(&order).map_err(|failure| failure.before(&console, &login))?;
    let odd = OddCapture::Order { order, mismatch };
    let note = said(&console, &login, odd, form.get("by")).await?;
    Ok(visitor::done(&format!("/orders/{id}"), note))
}

/// One person's word.
async fn said(
    console: &Console,
    login: &Login,
    odd: OddCapture,
    by: &str,
) -> Result<&'static str, Failure> {
    let by = match by {
        "refund" => SettleBy::Refund,
        "outside" => SettleBy::Outside,
        _ => return Err(Failure::wrong_form().before(console, login)),
    };
    let answer = console
        .operations
        .run(&login.operator, Operation::CaptureSettle { odd, by })
        .await
        .map_err(|error| Failure::from(error).before(console, login))?;
    Ok(match answer["standing"].as_str() {
        Some("proposed") => "proposed",
        _ => "settled",
    })
}

/// `GET /evidence/{account}/{reference}`
pub(super) async fn evidence(
    console: web::Data<Console>,
    request: HttpRequest,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Failure> {
    let login = visitor::signed(&console, &request).await?;
    let before = |failure: Failure| failure.before(&console, &login);
    let (account, reference) = path.into_inner();
    let row = console
        .operations
        .store
        .evidence(&AccountId::new(account), &reference)
        .await
        .map_err(|error| before(error.into()))?
        .ok_or_else(|| before(Failure::not_found()))?;
    let zone = console.zone();
    let mut facts = vec![
        ("收款账户", row.account.to_string()),
        ("平台编号", row.reference.clone()),
        ("原因", row.reason.clone()),
        ("首次收到", zone.date_and_clock(row.first_seen)),
    ];
    facts.extend(row.order.map(|order| ("相关订单", order.to_string())));
    let turn = match row.standing {
        EvidenceStanding::Open => Turn::Propose(vec![OUTSIDE]),
        EvidenceStanding::Proposed { by, at } => {
            let at = zone.date_and_clock(at);
            Turn::after_proposal(&login, &console, by, OUTSIDE, at)
        }
        EvidenceStanding::Settled { .. } => Turn::Over("已账外处理"),
    };
    Ok(page::ok(&Page {
        frame: Frame::of(&console, &login, "处理无法对应的通知", "home").noting(&request),
        back: None,
        facts,
        turn,
    }))
}

/// `POST /evidence/{account}/{reference}`
pub(super) async fn settle_evidence(
    console: web::Data<Console>,
    request: HttpRequest,
    payload: web::Payload,
    path: web::Path<(String, String)>,
) -> Result<HttpResponse, Failure> {
    let (login, form) = visitor::signed_form(&console, &request, payload).await?;
    let (account, reference) = path.into_inner();
    let odd = OddCapture::Evidence { account, reference };
    let note = said(&console, &login, odd, form.get("by")).await?;
    Ok(visitor::done("/", note))
}
