//! Refunds and their query (alipay §2.7, §2.8): at once, idempotent by `out_request_no`.

use serde_json::{Map, Value, json};

use super::trades::{Biz, invalid, not_exist};
use super::{Done, Refused, members};
use crate::order::Timestamp;
use crate::simulator::books::{Refund, State, Trade};
use crate::simulator::people::{Person, Wallet};
use crate::simulator::times;
use crate::simulator::world::World;

/// Least time between two refunds of one trade.
const SPACING_MS: i64 = 3_000;
/// Twelve months after the payment nothing is refunded any more.
const WINDOW_MS: i64 = 365 * 24 * 60 * 60_000;
const KNOWN: [&str; 12] = [
    "out_trade_no",
    "trade_no",
    "refund_amount",
    "out_request_no",
    "refund_reason",
    "refund_goods_detail",
    "refund_royalty_parameters",
    "query_options",
    "operator_id",
    "store_id",
    "terminal_id",
    "refund_currency",
];

/// The whole amount, as `alipay.trade.cancel` gives it back.
pub(super) fn whole(trade: &Trade, now: Timestamp, number: u64) -> Refund {
    Refund {
        reason: Some("cancel".to_owned()),
        ..Refund::accepted(
            &format!("cancel-{number}"),
            refund_id(number, now),
            trade.total,
            now,
        )
    }
}

pub(in crate::simulator) fn refund_id(number: u64, now: Timestamp) -> String {
    format!("{}{number:012}", times::compact_date(now))
}

/// A refund that did not happen names sums all the same.
fn refused(sub_code: &str, sub_msg: &str) -> Refused {
    Refused::business(sub_code, sub_msg).with_zeros(&["refund_fee", "send_back_fee"])
}

/// The notice of a refund, where the contract has one.
pub(super) type ToTell = Option<(String, String)>;

pub(super) fn refund(
    world: &World,
    biz: &Biz<'_>,
) -> Result<(Map<String, Value>, ToTell), Refused> {
    if let Some(name) = biz
        .object
        .keys()
        .find(|name| !KNOWN.contains(&name.as_str()))
    {
        return Err(invalid(name));
    }
    let out_trade_no = biz.which(world)?;
    let amount = biz
        .needed("refund_amount", 16)
        .ok()
        .and_then(times::fen)
        .filter(|amount| *amount > 0)
        .ok_or_else(|| invalid("refund_amount"))?;
    let reason = biz.text("refund_reason", 256)?;
    let request_no = biz.text("out_request_no", 64)?;
    let now = world.now();
    let mut books = world.books();
    let sequence = books.next_number();
    let trade = books
        .trade_mut(Wallet::Alipay, &out_trade_no)
        .filter(|trade| trade.exists)
        .ok_or_else(not_exist)?;
    trade.settle(now);
    if trade.state != State::Paid {
        return Err(refused("TRADE_STATUS_ERROR", "交易状态不合法"));
    }
    let finished = trade
        .captures
        .first()
        .is_some_and(|capture| now.since(capture.at) > WINDOW_MS);
    if finished {
        return Err(refused("TRADE_HAS_FINISHED", "交易已完结，超过可退款期限"));
    }
    let number = match request_no {
        Some(number) => number.to_owned(),
        None if amount == trade.total => trade.out_trade_no.clone(),
        None => {
            return Err(refused(
                "REFUND_AMT_NOT_EQUAL_TOTAL",
                "退款金额与交易金额不一致，部分退款须传out_request_no",
            ));
        }
    };
    if let Some(earlier) = trade.refunds.iter().find(|refund| refund.number == number) {
        if earlier.amount != amount {
            return Err(refused(
                "DISCORDANT_REPEAT_REQUEST",
                "同一退款请求号的金额不一致",
            ));
        }
        return Ok((answer(trade, earlier, "N"), None));
    }
    if trade.refunded() + amount > trade.total {
        return Err(refused(
            "REASON_TRADE_REFUND_FEE_ERR",
            "退款金额超过可退金额",
        ));
    }
    let soon = trade
        .refunds
        .iter()
        .any(|refund| now.since(refund.accepted_at) < SPACING_MS);
    if soon {
        return Err(refused(
            "TRADE_NOT_ALLOW_REFUND",
            "同一笔交易两次退款须间隔3秒以上",
        ));
    }
    let refund = Refund {
        reason: reason.map(str::to_owned),
        ..Refund::accepted(&number, refund_id(sequence, now), amount, now)
    };
    trade.refunds.push(refund.clone());
    let url = trade
        .notify_url
        .clone()
        .filter(|_| world.options.alipay.refund_notices);
    let to_tell = url.map(|url| {
        let notice = super::notice::refunded(world, trade, &refund, &url);
        let id = notice.id.clone();
        trade.notices.push(notice);
        (trade.out_trade_no.clone(), id)
    });
    Ok((answer(trade, &refund, "Y"), to_tell))
}

/// `refund_fee` is the sum of all refunds, `send_back_fee` this one.
fn answer(trade: &Trade, refund: &Refund, changed: &str) -> Map<String, Value> {
    let logon = trade
        .buyer
        .as_deref()
        .and_then(|id| Person::new(Wallet::Alipay, id))
        .map(|person| person.logon_id());
    members([
        ("trade_no", json!(trade.trade_no)),
        ("out_trade_no", json!(trade.out_trade_no)),
        ("buyer_logon_id", json!(logon)),
        ("fund_change", json!(changed)),
        ("refund_fee", json!(times::yuan(trade.refunded()))),
        ("send_back_fee", json!(times::yuan(refund.amount))),
        ("gmt_refund_pay", json!(times::plain(refund.done_at))),
    ])
}

/// A wrong request number answers 10000 with nothing in it.
pub(super) fn query(world: &World, biz: &Biz<'_>) -> Done {
    let out_trade_no = biz.which(world)?;
    let books = world.books();
    let trade = books
        .trade(Wallet::Alipay, &out_trade_no)
        .filter(|trade| trade.exists)
        .ok_or_else(not_exist)?;
    let number = biz.needed("out_request_no", 64)?;
    let Some(refund) = trade.refunds.iter().find(|refund| refund.number == number) else {
        return Ok(Map::new());
    };
    let mut body = members([
        ("trade_no", json!(trade.trade_no)),
        ("out_trade_no", json!(trade.out_trade_no)),
        ("out_request_no", json!(refund.number)),
        ("total_amount", json!(times::yuan(trade.total))),
        ("refund_amount", json!(times::yuan(refund.amount))),
        ("refund_status", json!("REFUND_SUCCESS")),
        ("gmt_refund_pay", json!(times::plain(refund.done_at))),
    ]);
    if let Some(reason) = &refund.reason {
        body.insert("refund_reason".to_owned(), json!(reason));
    }
    Ok(body)
}
