//! Refunds (wechatpay-v3 §2.4): idempotent by `out_refund_no`, accepted first, done later; and the
//! second way for the money of an abnormal one.

use serde_json::{Value, json};

use super::fields::Fields;
use super::{Done, Refused};
use crate::order::Timestamp;
use crate::simulator::books::{Refund, SecondWay, State, Trade};
use crate::simulator::faults::{Fault, Rule};
use crate::simulator::people::Wallet;
use crate::simulator::times;
use crate::simulator::world::World;

const MOST: usize = 50;
/// A year after the payment nothing is refunded any more.
const WINDOW_MS: i64 = 365 * 24 * 60 * 60_000;

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
    let overdue = trade
        .captures
        .first()
        .is_some_and(|capture| now.since(capture.at) > WINDOW_MS);
    if overdue {
        return Err(Refused::new(
            400,
            "TRADE_OVERDUE",
            "订单已超过可退款的最大期限",
        ));
    }
    let soon = trade
        .refunds
        .iter()
        .any(|earlier| now.since(earlier.accepted_at) < world.options.wechat.refund_spacing_ms);
    if soon {
        return Err(Refused::invalid("同一笔订单两次部分退款须间隔1分钟以上"));
    }
    let accepted = Refund {
        reason: reason.map(str::to_owned),
        fingerprint,
        done_at: now.plus_ms(wait(world)),
        ends: match rule.map(|rule| rule.fault) {
            Some(Fault::RefundAbnormal) => "ABNORMAL",
            Some(Fault::RefundClosed) => "CLOSED",
            _ => "SUCCESS",
        }
        .to_owned(),
        notify_url: notify_url.map(str::to_owned),
        ..Refund::accepted(number, refund_id(sequence, now), refund, now)
    };
    let answer = refund_json(trade, &accepted, now);
    let to_tell = tell(world, trade, &accepted);
    trade.refunds.push(accepted);
    Ok((Done::Json(answer), to_tell))
}

/// From acceptance to the end, milliseconds.
pub(in crate::simulator) fn wait(world: &World) -> i64 {
    i64::try_from(world.options.refund_delay_ms).unwrap_or(i64::MAX)
}

pub(in crate::simulator) fn refund_id(sequence: u64, now: Timestamp) -> String {
    format!("5030{:06}{}{sequence:011}", 0, times::compact_date(now))
}

/// The notice of a refund's end, where somebody wants to hear it.
fn tell(world: &World, trade: &mut Trade, refund: &Refund) -> Option<ToTell> {
    let url = refund.notify_url.as_deref()?;
    let notice = super::notice::refunded(world, trade, refund, url);
    let to_tell = ToTell {
        out_trade_no: trade.out_trade_no.clone(),
        notice_id: notice.id.clone(),
    };
    trade.notices.push(notice);
    Some(to_tell)
}

/// `POST /v3/refund/domestic/refunds/{refund_id}/apply-abnormal-refund`: to another bank account of
/// the payer, or back to the merchant's own.
pub(super) fn second_way(
    world: &World,
    id: &str,
    body: &Value,
    serial: Option<&str>,
) -> Result<(Done, Option<ToTell>), Refused> {
    let fields = Fields::body(
        body,
        &[
            "out_refund_no",
            "type",
            "bank_type",
            "bank_account",
            "real_name",
        ],
    )?;
    let number = fields.needed_text("out_refund_no", 64)?;
    let account = match fields.needed_text("type", 32)? {
        "MERCHANT_BANK_CARD" => "商户结算银行账户".to_owned(),
        "USER_BANK_CARD" => {
            let bank = fields.needed_text("bank_type", 16)?;
            let open = |name: &str| {
                let sealed = fields.needed_text(name, 1024)?;
                let key_id = &world.options.wechat.platform_public_key_id;
                world
                    .wechat
                    .open(key_id, serial.unwrap_or_default(), sealed)
                    .filter(|text| !text.is_empty())
                    .ok_or_else(|| {
                        Refused::param(&format!("/{name}"), &json!("***"), "解密失败", "body")
                    })
            };
            open("real_name")?;
            let card = open("bank_account")?;
            let end: String = card
                .chars()
                .skip(card.chars().count().saturating_sub(4))
                .collect();
            format!("{bank}{end}")
        }
        other => {
            return Err(Refused::param(
                "/type",
                &json!(other),
                "不是退款方式",
                "body",
            ));
        }
    };
    let now = world.now();
    let mut books = world.books();
    let (trade, index) = books
        .refunding(Wallet::Wechat, |refund| refund.id == id)
        .ok_or_else(|| Refused::new(404, "RESOURCE_NOT_EXISTS", "退款单不存在"))?;
    let mut refund = trade.refunds[index].clone();
    if refund.number != number {
        return Err(Refused::invalid("商户退款单号与微信支付退款单号不一致"));
    }
    if let Some(way) = &refund.second_way {
        // Repeated as it was: the same answer. Changed: refused.
        return if way.account == account {
            Ok((Done::Json(refund_json(trade, &refund, now)), None))
        } else {
            Err(Refused::invalid("请求参数与第一次的请求不一致"))
        };
    }
    if refund.status(now) != "ABNORMAL" {
        return Err(Refused::invalid("退款单状态不是退款异常，不能发起异常退款"));
    }
    refund.second_way = Some(SecondWay {
        at: now,
        done_at: now.plus_ms(wait(world)),
        account,
    });
    let answer = refund_json(trade, &refund, now);
    let to_tell = tell(world, trade, &refund);
    trade.refunds[index] = refund;
    Ok((Done::Json(answer), to_tell))
}

/// `channel` and `user_received_account`.
pub(super) fn received(refund: &Refund) -> (&'static str, &str) {
    match &refund.second_way {
        Some(way) => ("OTHER_BANKCARD", &way.account),
        None => ("ORIGINAL", "支付用户零钱"),
    }
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
    let (channel, account) = received(refund);
    let mut body = json!({
        "refund_id": refund.id,
        "out_refund_no": refund.number,
        "transaction_id": trade.trade_no,
        "out_trade_no": trade.out_trade_no,
        "channel": channel,
        "user_received_account": account,
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
        body["success_time"] = json!(times::rfc3339(refund.arrives_at()));
    }
    body
}
