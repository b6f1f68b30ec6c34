//! An order's timeline in Chinese. The facts of each line are the API's, from `crate::view`.

use serde_json::{Map, Value};

use super::Console;
use super::words;
use crate::order::{Fen, Order};
use crate::store::TimelineEntry;
use crate::view::Happened;

/// One line.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub at: String,
    pub actor: &'static str,
    pub text: String,
    pub facts: String,
}

pub(super) fn line(console: &Console, order: &Order, entry: &TimelineEntry) -> Line {
    let Happened {
        kind,
        summary,
        details,
    } = console.view.happened(order, entry);
    Line {
        at: console.zone().date_and_clock(entry.at),
        actor: words::actor(entry.actor),
        text: sentence(kind, &details).unwrap_or(summary),
        facts: facts(&details),
    }
}

fn sentence(kind: &str, details: &Map<String, Value>) -> Option<String> {
    let code = details
        .get("attempt")
        .map(|number| format!("第 {number} 个二维码"))
        .unwrap_or_default();
    let surplus = details.contains_key("refund");
    Some(match kind {
        "order_created" => "订单已创建".to_owned(),
        "attempt_started" => format!("{code}开始显示"),
        "attempt_claimed" => format!("{code}被扫码"),
        "trade_intended" => "准备向支付平台下单".to_owned(),
        "trade_made" => "支付平台已下单".to_owned(),
        "trade_refused" => "支付平台拒绝下单".to_owned(),
        "trade_died" => "这笔交易已不能再付款".to_owned(),
        "provider_asked" => "向支付平台查询是否已付".to_owned(),
        "attempt_closing" => format!("{code}到期或作废，等待支付平台的最终结果"),
        "closing_moved" => "继续确认支付结果".to_owned(),
        "attempt_succeeded" => format!("{code}已付款"),
        "attempt_expired" => format!("{code}过期，没有付款"),
        "attempt_cancelled" => format!("{code}作废"),
        "attempt_failed" => format!("{code}失败"),
        "cancel_requested" => "报名系统要求取消".to_owned(),
        "money_captured" if surplus => "支付平台收到款项：订单不欠这笔，将原路退回".to_owned(),
        "money_captured" => "支付平台收到款项：缴费成功".to_owned(),
        "money_mismatched" => "支付平台报来与订单不符的款项：需人工处理".to_owned(),
        "order_paid" => "订单已完成".to_owned(),
        "order_closed" => "订单已关闭".to_owned(),
        "refund_requested" => "已受理退款".to_owned(),
        "refund_asked" => "向支付平台申请或查询退款".to_owned(),
        "refund_accepted" => "支付平台已受理退款，款项在途".to_owned(),
        "refund_abnormal" => "退款异常：缴费人账户收不了".to_owned(),
        "refund_repair_asked" => "值班人员指定了另一个退款去向".to_owned(),
        "refund_underfunded" => "退款暂停：学校在支付平台的余额不足".to_owned(),
        "refund_round_revived" => "先前的退款单号其实已成功".to_owned(),
        "refund_renewed" => "用新单号重新退款".to_owned(),
        "refund_succeeded" => "退款成功".to_owned(),
        "refund_failed" => "支付平台最终拒绝退款".to_owned(),
        "foreign_refund_heard" => "有人在支付平台后台直接退了款".to_owned(),
        "settlement_proposed" => "一位同事提出了异常款的处理方式，等另一位确认".to_owned(),
        "mismatch_settled" => "两位同事同意了异常款的处理方式".to_owned(),
        "mismatch_refunded" => "异常款已退回".to_owned(),
        "mismatch_refund_failed" => "异常款退回失败".to_owned(),
        "surplus_refunded" => "多付款项已退回".to_owned(),
        "surplus_refund_failed" => "多付款项退回失败".to_owned(),
        "receipt_issued" => "学校已开具财政电子票据".to_owned(),
        "attention_raised" => "需人工处理".to_owned(),
        _ => return None,
    })
}

/// What is worth reading out.
fn facts(details: &Map<String, Value>) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let mut facts = Vec::new();
    for (name, value) in details {
        if value.is_null() {
            continue;
        }
        let fact = match name.as_str() {
            "amount" => value.as_i64().map(|fen| Fen::new(fen).to_string()),
            "wallet" => Some(match value.as_str() {
                Some("wechat") => "微信支付".to_owned(),
                Some("alipay") => "支付宝".to_owned(),
                _ => continue,
            }),
            "transaction_id" => Some(format!("交易号 {}", text(value))),
            "merchant_refund_no" => Some(format!("退款单号 {}", text(value))),
            "code" => Some(format!("代码 {}", text(value))),
            "field" => value.as_str().map(|field| words::odd(field).to_owned()),
            "by" => Some(match value.as_str() {
                Some("refund") => "原路退回".to_owned(),
                Some("outside") => "账外处理".to_owned(),
                _ => continue,
            }),
            "because" => value.as_str().map(|why| because(why).to_owned()),
            _ => None,
        };
        facts.extend(fact);
    }
    facts.join("，")
}

fn because(why: &str) -> &str {
    match why {
        "time_up" => "时间到",
        "cancelled" => "已取消",
        "superseded" => "被新码代替",
        "released" => "扫码人放弃",
        "deadline" => "截止时间已过",
        "money does not fit its trade" => "款项与交易不符",
        "money in time for an order that had closed" => "订单关闭后才得知按时付款",
        "a surplus could not be given back" => "多付款项退不回",
        "the payer's account cannot take a refund" => "缴费人账户收不了退款",
        "the school's balance is too small for a refund" => "学校余额不足以退款",
        "a refund does not come to an end" => "退款迟迟没有结果",
        "odd money could not be given back" => "异常款退不回",
        "money went back by the provider's console" => "支付平台后台直接退款",
        "a code could not be ended in time" => "二维码迟迟不能作废",
        other => other,
    }
}
