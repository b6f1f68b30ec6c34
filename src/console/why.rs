//! "Why is it unpaid?" in one sentence, and what to tell whoever asks on the phone.

use crate::http::cashier::times::Zone;
use crate::order::attempt::{Attempt, EndReason, Phase};
use crate::order::{CloseReason, Order, Settlement, Timestamp};

use super::words::{self, Tone};

/// The last two minutes before the deadline: no code starts any more (contract §1).
const NO_START_MS: i64 = 120_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Why {
    pub tone: Tone,
    pub sentence: String,
    pub advice: &'static str,
}

impl Why {
    pub(super) fn of(order: &Order, zone: Zone, now: Timestamp) -> Self {
        let waits_for_people = order.mismatches.iter().any(|odd| !odd.is_settled());
        match order.settlement {
            Settlement::Paid { .. } => paid(order, zone),
            _ if waits_for_people => Self {
                tone: "bad",
                sentence: "没有算作已缴：支付平台报来的款项与订单不符，正等待两位同事处理。"
                    .to_owned(),
                advice: "请告诉缴费人：款项已收到但有异常，不要重复支付，处理结果会另行通知。",
            },
            Settlement::Closed { at, reason } => closed(order, zone, at, reason),
            Settlement::Open if order.cancel_requested_at.is_some() => Self {
                tone: "wait",
                sentence: "没有缴费：报名系统已要求取消，正在等支付平台确认二维码失效。".to_owned(),
                advice: "请告诉缴费人：这个订单正在取消，请回报名系统重新下单，不要再扫旧码。",
            },
            Settlement::Open => match order.live_attempt() {
                Some(live) => of_live(live, zone, now),
                None => of_idle(order, zone, now),
            },
        }
    }
}

fn paid(order: &Order, zone: Zone) -> Why {
    let sentence = order.payment().map_or_else(
        || "已缴费。".to_owned(),
        |payment| {
            format!(
                "已缴费：{}于 {} 收到 {}，交易号 {}。",
                words::wallet(payment.wallet),
                zone.date_and_clock(payment.succeeded_at),
                payment.amount,
                payment.transaction_id,
            )
        },
    );
    let surplus = order.captures.len() > 1;
    Why {
        tone: "good",
        sentence,
        advice: if surplus {
            "还有多付的款项，会原路退回（见“款项”）。请告诉缴费人不要再支付。"
        } else {
            "请告诉缴费人：缴费成功，不要重复支付；页面没有更新时刷新即可。"
        },
    }
}

fn closed(order: &Order, zone: Zone, at: Timestamp, reason: CloseReason) -> Why {
    let at = zone.date_and_clock(at);
    let late = !order.captures.is_empty();
    let sentence = match reason {
        CloseReason::Cancelled => format!("没有缴费：订单已于 {at} 被报名系统取消。"),
        CloseReason::Deadline => format!("没有缴费：截止时间前没有付款，订单已于 {at} 关闭。"),
    };
    Why {
        tone: if late { "wait" } else { "quiet" },
        sentence,
        advice: match reason {
            _ if late => "关闭之后收到的款项会原路退回（见“款项”），订单不会再变为已缴。",
            CloseReason::Cancelled => "需要缴费时请回报名系统重新下单。",
            CloseReason::Deadline => "能否补缴由报名系统决定；需要时由报名系统重新下单。",
        },
    }
}

fn of_live(live: &Attempt, zone: Zone, now: Timestamp) -> Why {
    let number = live.number.get();
    let until = zone.clock(live.expires_at);
    let (sentence, advice) = match &live.phase {
        Phase::Shown if now < live.expires_at => (
            format!("尚未缴费：第 {number} 个二维码正在显示（到 {until}），还没有人扫码。"),
            "请缴费人用微信或支付宝扫页面上的二维码，并在手机上确认付款。",
        ),
        Phase::Scanned if now < live.expires_at => {
            let scanned = live.claim.map_or_else(
                || "已显示给缴费人".to_owned(),
                |claim| {
                    format!(
                        "已于 {} 用{}扫码",
                        zone.clock(claim.at),
                        words::wallet(claim.product.wallet())
                    )
                },
            );
            (
                format!("尚未缴费：第 {number} 个二维码{scanned}，还没有付款（到 {until}）。"),
                "请缴费人在扫码的那部手机上完成付款；换手机或换钱包要等这个码过期后重新生成。",
            )
        }
        _ => (
            format!("结果待确认：第 {number} 个二维码已到期，正在向支付平台核实是否付款。"),
            "请告诉缴费人：正在确认支付结果，请勿重复支付，通常几分钟内有结果。",
        ),
    };
    Why {
        tone: "wait",
        sentence,
        advice,
    }
}

fn of_idle(order: &Order, zone: Zone, now: Timestamp) -> Why {
    let too_close = |deadline: &Timestamp| deadline.since(now) < NO_START_MS;
    let sentence = match order.attempts.last() {
        None => "尚未缴费：还没有人打开缴费二维码。".to_owned(),
        Some(last) => match &last.phase {
            Phase::Failed { code, .. } => format!(
                "尚未缴费：支付平台拒绝下单（第 {} 个二维码，{code}）。",
                last.number.get()
            ),
            Phase::Cancelled {
                reason: EndReason::Released,
                ..
            } => "尚未缴费：扫码的人放弃了付款。".to_owned(),
            Phase::Cancelled { .. } => "尚未缴费：上一个二维码已作废，没有付款。".to_owned(),
            _ if last.claim.is_some() => format!(
                "尚未缴费：第 {} 个二维码扫过但没有付款，已于 {} 过期。",
                last.number.get(),
                zone.clock(last.expires_at)
            ),
            _ => format!(
                "尚未缴费：第 {} 个二维码没有人扫，已于 {} 过期。",
                last.number.get(),
                zone.clock(last.expires_at)
            ),
        },
    };
    Why {
        tone: "wait",
        sentence,
        advice: if order.terms.pay_before.as_ref().is_some_and(too_close) {
            "离截止时间太近，不能再生成新的二维码。能否补缴由报名系统决定。"
        } else {
            "请缴费人打开缴费页面，重新生成二维码后再扫码付款。"
        },
    }
}
