//! Refunds (wechatpay-v3 §2.4): idempotent by `out_refund_no`, accepted first, done later.

use serde_json::{Value, json};

use super::fields::Fields;
use super::{Done, Refused};
use crate::order::Timestamp;
use crate::simulator::books::{Refund, State, Trade};
use crate::simulator::faults::{Fault, Rule};
use crate::simulator::people::Wallet;
use crate::simulator::times;
use crate::simulator::world::World;

const MOST: usize = 50;

/// A refund whose end has to be told: order, notice id, wait.
pub(super) struct ToTell {
    pub(super) out_trade_no: String,
    pub(super) notice_id: String,
}

/// `POST /v3/refund/domestic/refunds`
pub(super) fn refund(
    world: &World,
    body: &Value,
    rule: Option<&Rule>,
) -> Result<(Done, Option<ToTell>), Refused> {
    let fields = Fields::body(
        body,
        &[
            "transaction_id",
            "out_trade_no",
            "out_refund_no",
            "reason",
            "notify_url",
            "funds_account",
            "amount",
            "goods_detail",
        ],
    )?;
    let number = fields.number("out_refund_no", 1..=64, "_-|*@")?;
    let reason = fields.text("reason", 80)?;
    let notify_url = fields.notify_url(256)?;
    let amount = fields.required("amount", &["refund", "total", "currency", "from"])?;
    let (refund, total) = (amount.fen("refund")?, amount.fen("total")?);
    amount.currency(true)?;
    let now = world.now();
    let mut books = world.books();
    let out_trade_no = match (
        fields.text("transaction_id", 32)?,
        fields.text("out_trade_no", 32)?,
    ) {
        (Some(id), _) => books
            .trade_by_trade_no(Wallet::Wechat, id)
            .map(|trade| trade.out_trade_no.clone()),
        (None, Some(number)) => Some(number.to_owned()),
        (None, None) => {
            return Err(Refused::invalid("transaction_id和out_trade_no不能同时为空"));
        }
    };
    let taken = books
        .trades_of(Wallet::Wechat)
        .find(|trade| trade.refunds.iter().any(|refund| refund.number == number))
        .map(|trade| trade.out_trade_no.clone());
    let sequence = books.next_number();
    let trade = out_trade_no
        .and_then(|number| books.trade_mut(Wallet::Wechat, &number))
        .filter(|trade| trade.state == State::Paid)
        .ok_or_else(|| Refused::new(404, "RESOURCE_NOT_EXISTS", "订单不存在或未支付"))?;
    if taken.is_some_and(|owner| owner != trade.out_trade_no) {
        return Err(Refused::invalid("商户退款单号已被另一笔订单使用"));
    }
    let fingerprint = format!("{refund}/{total}/{}", reason.unwrap_or_default());
    if let Some(earlier) = trade.refunds.iter().find(|refund| refund.number == number) {
        if earlier.fingerprint != fingerprint {
            return Err(Refused::invalid("请求参数与该退款单号第一次的请求不一致"));
        }
        return Ok((Done::Json(refund_json(trade, earlier, now)), None));
    }
    if total != trade.total {
        return Err(Refused::invalid("订单金额与原订单不一致"));
    }
    if trade.refunds.len() >= MOST {
        return Err(Refused::invalid("该订单的退款次数已达上限"));
    }
    if trade.refunded() + refund > trade.total {
        return Err(Refused::invalid("退款金额大于可退金额"));
    }
    let wait = i64::try_from(world.options.refund_delay_ms).unwrap_or(i64::MAX);
    let accepted = Refund {
        number: number.to_owned(),
        id: format!("5030{:06}{}{sequence:011}", 0, times::compact_date(now)),
        amount: refund,
        reason: reason.map(str::to_owned),
        fingerprint,
        accepted_at: now,
        done_at: now.plus_ms(wait),
        ends: match rule.map(|rule| rule.fault) {
            Some(Fault::RefundAbnormal) => "ABNORMAL",
            Some(Fault::RefundClosed) => "CLOSED",
            _ => "SUCCESS",
        }
        .to_owned(),
    };
    let answer = refund_json(trade, &accepted, now);
    let to_tell = notify_url.map(|url| {
        let notice = super::notice::refunded(world, trade, &accepted, url);
        let to_tell = ToTell {
            out_trade_no: trade.out_trade_no.clone(),
            notice_id: notice.id.clone(),
        };
        trade.notices.push(notice);
        to_tell
    });
    trade.refunds.push(accepted);
    Ok((Done::Json(answer), to_tell))
}

/// `GET /v3/refund/domestic/refunds/{out_refund_no}`
pub(super) fn query(world: &World, number: &str) -> Result<Done, Refused> {
    let books = world.books();
    let now = world.now();
    books
        .trades_of(Wallet::Wechat)
        .find_map(|trade| {
            let refund = trade
                .refunds
                .iter()
                .find(|refund| refund.number == number)?;
            Some(Done::Json(refund_json(trade, refund, now)))
        })
        .ok_or_else(|| Refused::new(404, "RESOURCE_NOT_EXISTS", "退款单不存在"))
}

fn refund_json(trade: &Trade, refund: &Refund, now: Timestamp) -> Value {
    let status = refund.status(now);
    let mut body = json!({
        "refund_id": refund.id,
        "out_refund_no": refund.number,
        "transaction_id": trade.trade_no,
        "out_trade_no": trade.out_trade_no,
        "channel": "ORIGINAL",
        "user_received_account": "支付用户零钱",
        "create_time": times::rfc3339(refund.accepted_at),
        "status": status,
        "funds_account": "AVAILABLE",
        "amount": {
            "total": trade.total, "refund": refund.amount, "from": [],
            "payer_total": trade.total, "payer_refund": refund.amount,
            "settlement_total": trade.total, "settlement_refund": refund.amount,
            "discount_refund": 0, "currency": "CNY", "refund_fee": 0,
        },
        "promotion_detail": [],
    });
    if status == "SUCCESS" {
        body["success_time"] = json!(times::rfc3339(refund.done_at));
    }
    body
}
