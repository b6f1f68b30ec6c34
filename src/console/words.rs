//! The words of the pages: Chinese, for those who use them.

use crate::operations::OperationError;
use crate::order::attempt::Attempt;
use crate::order::{CloseReason, Order, RefundCause, Settlement, Status, Wallet};
use crate::store::reconciliation::{Field, RowKind, RunState, Verdict};
use crate::store::{Actor, DeliveryState};

/// How a page shows a state: a colour, and never by the colour alone.
pub(super) type Tone = &'static str;

pub(super) const fn status(order: &Order) -> (&'static str, Tone) {
    match order.settlement {
        Settlement::Paid { .. } => ("已完成", "good"),
        Settlement::Closed {
            reason: CloseReason::Cancelled,
            ..
        } => ("已关闭（已取消）", "quiet"),
        Settlement::Closed {
            reason: CloseReason::Deadline,
            ..
        } => ("已关闭（逾期）", "quiet"),
        Settlement::Open => ("待缴费", "wait"),
    }
}

pub(super) fn order_status(order: &Order) -> (&'static str, Tone) {
    match order.status() {
        Status::Paying => ("缴费中", "wait"),
        _ => status(order),
    }
}

pub(super) fn refund_status(word: &str) -> Option<&'static str> {
    match word {
        "partial" => Some("部分退款"),
        "full" => Some("已全额退款"),
        _ => None,
    }
}

pub(super) fn attempt_status(attempt: &Attempt) -> &'static str {
    match attempt.status() {
        "shown" => "等待扫码",
        "scanned" => "已扫码",
        "closing" => "正在确认结果",
        "succeeded" => "已支付",
        "expired" => "已过期",
        "cancelled" => "已作废",
        _ => "下单失败",
    }
}

pub(super) const fn wallet(wallet: Wallet) -> &'static str {
    match wallet {
        Wallet::Wechat => "微信支付",
        Wallet::Alipay => "支付宝",
    }
}

pub(super) const fn delivery(state: DeliveryState) -> (&'static str, Tone) {
    match state {
        DeliveryState::Pending => ("推送中", "wait"),
        DeliveryState::Delivered => ("已送达", "good"),
        DeliveryState::Parked => ("已停止", "bad"),
    }
}

pub(super) const fn actor(actor: Actor) -> &'static str {
    match actor {
        Actor::Merchant => "报名系统",
        Actor::Payer => "缴费人",
        Actor::Provider => "支付平台",
        Actor::Operator => "值班人员",
        Actor::Gateway => "系统",
    }
}

pub(super) fn event_kind(kind: &str) -> &str {
    match kind {
        "order.paid" => "缴费成功",
        "order.closed" => "订单关闭",
        "order.surplus_refunded" => "多付款项已退",
        "order.attention" => "需人工处理",
        "refund.succeeded" => "退款成功",
        "refund.failed" => "退款失败",
        "receipt.issued" => "已开财政票据",
        other => other,
    }
}

pub(super) const fn refund_cause(cause: RefundCause) -> &'static str {
    match cause {
        RefundCause::Merchant => "报名系统申请",
        RefundCause::Surplus => "多付退回",
        RefundCause::Mismatch => "异常款退回",
    }
}

pub(super) fn refund(word: &str) -> (&'static str, Tone) {
    match word {
        "succeeded" => ("已退回", "good"),
        "failed" => ("退款失败", "bad"),
        "abnormal" => ("对方账户收不了", "bad"),
        _ => ("退款中", "wait"),
    }
}

/// In what odd money differs from its trade.
pub(super) fn odd(field: &str) -> &str {
    match field {
        "amount" => "金额不符",
        "currency" => "币种不符",
        "account" => "收款账户不符",
        "application" => "应用编号不符",
        "trade" => "我方没有这笔交易",
        other => other,
    }
}

pub(super) fn book(book: &str) -> String {
    match book {
        "merchant" => "学校应得".to_owned(),
        "surplus" => "多付待退".to_owned(),
        "suspense" => "异常待处理".to_owned(),
        "outside" => "账外处理".to_owned(),
        other => other
            .strip_prefix("provider:")
            .map_or_else(|| other.to_owned(), |account| format!("支付账户 {account}")),
    }
}

pub(super) const fn run_state(state: RunState) -> (&'static str, Tone) {
    match state {
        RunState::Running => ("正在对账", "wait"),
        RunState::Waiting => ("账单未出", "wait"),
        RunState::Finished => ("已完成", "good"),
        RunState::Failed => ("失败", "bad"),
    }
}

pub(super) const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Matched => "一致",
        Verdict::OnlyHere => "仅我方有",
        Verdict::OnlyThere => "仅平台有",
        Verdict::Different => "不一致",
    }
}

pub(super) const fn row_kind(kind: RowKind) -> &'static str {
    match kind {
        RowKind::Payment => "收款",
        RowKind::Refund => "退款",
        RowKind::PaymentFlow => "收款入账",
        RowKind::RefundFlow => "退款出账",
        RowKind::FeeFlow => "手续费",
        RowKind::Balance => "余额",
    }
}

pub(super) const fn field(field: Field) -> &'static str {
    match field {
        Field::Number => "我方单号不同",
        Field::Transaction => "平台交易号不同",
        Field::Amount => "金额不同",
        Field::Currency => "币种不同",
        Field::Account => "账户不同",
        Field::Application => "应用不同",
        Field::Status => "状态不同",
        Field::Time => "时间不同",
        Field::Duplicate => "账单里重复出现",
    }
}

/// What was just done.
pub(super) fn note(word: &str) -> Option<&'static str> {
    Some(match word {
        "resent" => "已安排重新推送。",
        "parked" => "已停止推送这个通知。",
        "released" => "已恢复推送。",
        "proposed" => "已记录你的处理意见，还需要另一位同事确认。",
        "settled" => "两人意见一致，已处理。",
        "retried" => "已安排重新退款。",
        "reconciling" => "已开始对账，稍后刷新查看。",
        "reconciled" => "对账已完成。",
        _ => return None,
    })
}

/// Why an operation was refused. What has no words here is said as the command line says it.
pub(super) fn refused(error: &OperationError) -> String {
    let said = error.to_string();
    let words = match error {
        OperationError::State(_) => STATES.iter().find(|(plain, _)| said.contains(plain)),
        _ => None,
    };
    match (words, error) {
        (Some((_, words)), _) => (*words).to_owned(),
        (None, OperationError::Erased { .. }) => {
            "这个通知的内容已随缴费人信息一起删除，不能再推送。".to_owned()
        }
        (None, OperationError::Reconcile(_)) => format!("对账没有进行：{said}"),
        (None, _) => said,
    }
}

const STATES: &[(&str, &str)] = &[
    (
        "the same person",
        "同一个人不能既提出又确认：请另一位同事登录后确认。",
    ),
    (
        "proposed otherwise",
        "另一位同事提出的处理方式不同：两人必须选择同一种方式。",
    ),
    (
        "the odd capture is settled",
        "这笔款项已经处理，或正在处理。",
    ),
    ("no such odd capture", "订单里没有这笔异常款项。"),
    (
        "cannot go back by itself",
        "这笔款项不能自动退回，请在支付平台处理后选“账外处理”。",
    ),
    ("the evidence is settled", "这条凭据已经处理。"),
    ("the event is not parked", "这个通知没有停止，不需要恢复。"),
    ("the event is not on its way", "这个通知不在推送中。"),
    ("the refund is over", "退款已经结束，或现在不需要重试。"),
    ("begun anew as often", "退款已重试到上限。"),
    ("no such refund", "订单里没有这笔退款。"),
];
