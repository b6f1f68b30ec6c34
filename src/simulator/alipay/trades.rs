//! Precreate, create, query, close and cancel (alipay §2.1–2.6, §3).

use serde_json::{Map, Value, json};

use super::{Done, Refused, members};
use crate::order::Timestamp;
use crate::simulator::books::{Product, State, Ticket, Trade};
use crate::simulator::faults::{Fault, Rule};
use crate::simulator::people::{Person, RealName, Wallet};
use crate::simulator::times;
use crate::simulator::world::World;

const MINUTE: i64 = 60_000;
const CODE_LIFE: i64 = 2 * 60 * MINUTE;
const DEFAULT_LIFE: i64 = 3 * 60 * MINUTE;
const LONGEST: i64 = 15 * 24 * 60 * MINUTE;

/// The business parameters of one call.
pub(super) struct Biz<'a> {
    pub(super) object: &'a Map<String, Value>,
    /// Common parameters beside it.
    pub(super) notify_url: Option<&'a str>,
    pub(super) return_url: Option<&'a str>,
}

impl<'a> Biz<'a> {
    pub(super) fn text(&self, name: &str, most: usize) -> Result<Option<&'a str>, Refused> {
        match self.object.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) if text.chars().count() <= most => Ok(Some(text)),
            Some(_) => Err(invalid(name)),
        }
    }

    pub(super) fn needed(&self, name: &str, most: usize) -> Result<&'a str, Refused> {
        self.text(name, most)?.ok_or_else(|| invalid(name))
    }

    /// The trade's number at us, by either of the two numbers.
    pub(super) fn which(&self, world: &World) -> Result<String, Refused> {
        if let Some(trade_no) = self.text("trade_no", 64)? {
            return world
                .books()
                .trade_by_trade_no(Wallet::Alipay, trade_no)
                .map(|trade| trade.out_trade_no.clone())
                .ok_or_else(not_exist);
        }
        self.needed("out_trade_no", 64).map(str::to_owned)
    }
}

pub(super) fn invalid(name: &str) -> Refused {
    Refused::business("INVALID_PARAMETER", &format!("参数无效：{name}"))
}

pub(super) fn not_exist() -> Refused {
    Refused::business("TRADE_NOT_EXIST", "交易不存在")
}

/// What order, create and WAP have in common.
pub(super) fn read_order(world: &World, product: Product, biz: &Biz<'_>) -> Result<Trade, Refused> {
    let now = world.now();
    let out_trade_no = biz.needed("out_trade_no", 64)?;
    if !out_trade_no
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
    {
        return Err(invalid("out_trade_no"));
    }
    let total = biz
        .needed("total_amount", 11)
        .ok()
        .and_then(times::fen)
        .ok_or_else(|| invalid("total_amount"))?;
    if !(1..=10_000_000_000).contains(&total) {
        return Err(Refused::business(
            "TOTAL_FEE_EXCEED",
            "订单金额不在允许范围内",
        ));
    }
    let subject = biz.needed("subject", 256)?;
    if subject.contains(['/', '=', '&']) {
        return Err(invalid("subject"));
    }
    biz.text("body", 128)?;
    let code = biz.text("product_code", 64)?;
    let fits = match product {
        Product::Precreate => {
            matches!(
                code,
                None | Some("QR_CODE_OFFLINE" | "FACE_TO_FACE_PAYMENT")
            )
        }
        Product::Create => matches!(code, None | Some("JSAPI_PAY" | "FACE_TO_FACE_PAYMENT")),
        Product::Wap => matches!(code, Some("QUICK_WAP_WAY" | "QUICK_WAP_PAY")),
        _ => matches!(code, Some("FAST_INSTANT_TRADE_PAY")),
    };
    if !fits {
        return Err(invalid("product_code"));
    }
    if biz
        .text("seller_id", 28)?
        .is_some_and(|seller| seller != world.options.alipay.seller_id)
    {
        return Err(Refused::business("INVALID_RECEIVE_ACCOUNT", "收款账户无效"));
    }
    if biz
        .notify_url
        .is_some_and(|url| !crate::simulator::world::may_be_called(url))
    {
        return Err(invalid("notify_url"));
    }
    let time_expire = time_expire(world, biz, now)?;
    let identity = named_buyer(biz)?;
    let mut parameters: Vec<String> = biz
        .object
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    parameters.sort();
    Ok(Trade {
        wallet: Wallet::Alipay,
        out_trade_no: out_trade_no.to_owned(),
        product,
        state: State::Waiting,
        exists: false,
        total,
        description: subject.to_owned(),
        attach: biz.text("passback_params", 512)?.map(str::to_owned),
        notify_url: biz.notify_url.map(str::to_owned),
        return_url: biz.return_url.map(str::to_owned),
        time_expire,
        created_at: now,
        closed_at: None,
        fingerprint: format!("{product:?} {}", parameters.join("&")),
        buyer: None,
        identity,
        begun_at: None,
        trade_no: None,
        code: None,
        captures: Vec::new(),
        refunds: Vec::new(),
        notices: Vec::new(),
    })
}

/// `ext_user_info`: the person who alone may pay, where it is to be checked.
fn named_buyer(biz: &Biz<'_>) -> Result<Option<RealName>, Refused> {
    let object = match biz.object.get("ext_user_info") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(object)) => object,
        Some(_) => return Err(invalid("ext_user_info")),
    };
    let info = Biz {
        object,
        notify_url: None,
        return_url: None,
    };
    let mut checks = false;
    for name in ["need_check_info", "fix_buyer"] {
        match info.text(name, 8)? {
            None | Some("F") => {}
            Some("T") => checks = true,
            Some(_) => return Err(invalid(name)),
        }
    }
    if !checks {
        return Ok(None);
    }
    if info.needed("cert_type", 32)? != "IDENTITY_CARD" {
        // The simulated people have no other papers.
        return Err(invalid("cert_type"));
    }
    Ok(Some(RealName {
        name: info.needed("name", 64)?.to_owned(),
        id_number: info.needed("cert_no", 64)?.to_owned(),
    }))
}

/// `time_expire` wins over `timeout_express`; three hours by default, fifteen days at most.
fn time_expire(world: &World, biz: &Biz<'_>, now: Timestamp) -> Result<Timestamp, Refused> {
    let mut end = if let Some(text) = biz.text("time_expire", 32)? {
        times::parse_plain(text).ok_or_else(|| invalid("time_expire"))?
    } else if let Some(text) = biz.text("timeout_express", 6)? {
        times::parse_express(text, now).ok_or_else(|| invalid("timeout_express"))?
    } else {
        now.plus_ms(DEFAULT_LIFE)
    };
    if end <= now {
        return Err(Refused::business(
            "NOW_TIME_AFTER_EXPIRE_TIME_ERROR",
            "当前时间已超过允许支付的时间",
        ));
    }
    if world.options.alipay.round_expiry_up {
        let past = end.as_millis().rem_euclid(MINUTE);
        if past > 0 {
            end = end.plus_ms(MINUTE - past);
        }
    }
    Ok(end.min(now.plus_ms(LONGEST)))
}

/// Refuses a number that is done or was asked for differently.
pub(super) fn check_again(old: &mut Trade, new: &Trade, now: Timestamp) -> Result<(), Refused> {
    old.settle(now);
    match old.state {
        State::Paid => Err(Refused::business("TRADE_HAS_SUCCESS", "交易已被支付")),
        State::Closed => Err(Refused::business("TRADE_HAS_CLOSE", "交易已经关闭")),
        State::Waiting if old.fingerprint != new.fingerprint => Err(Refused::business(
            "CONTEXT_INCONSISTENT",
            "交易信息被篡改，与第一次的请求不一致",
        )),
        State::Waiting => Ok(()),
    }
}

pub(super) fn precreate(world: &World, biz: &Biz<'_>) -> Done {
    let now = world.now();
    let trade = read_order(world, Product::Precreate, biz)?;
    let code_end = match biz.text("qr_code_timeout_express", 6)? {
        Some(text) => {
            times::parse_express(text, now).ok_or_else(|| invalid("qr_code_timeout_express"))?
        }
        None => now.plus_ms(CODE_LIFE),
    }
    .min(now.plus_ms(CODE_LIFE));
    let out_trade_no = trade.out_trade_no.clone();
    let mut books = world.books();
    if let Some(old) = books.trade_mut(Wallet::Alipay, &out_trade_no) {
        check_again(old, &trade, now)?;
        return Err(Refused::business(
            "APPLY_PC_MERCHANT_CODE_ERROR",
            "不能重复申请付款二维码",
        ));
    }
    let token = format!("bax{}", world.random.hex::<10>());
    books.insert(trade);
    books.issue(
        token.clone(),
        Ticket {
            wallet: Wallet::Alipay,
            out_trade_no: out_trade_no.clone(),
            dies_at: code_end,
            replaced: false,
        },
        false,
    );
    Ok(members([
        ("out_trade_no", json!(out_trade_no)),
        ("qr_code", json!(format!("https://qr.alipay.com/{token}"))),
    ]))
}

pub(super) fn create(world: &World, biz: &Biz<'_>) -> Done {
    let now = world.now();
    let mut trade = read_order(world, Product::Create, biz)?;
    if biz.text("product_code", 64)? == Some("JSAPI_PAY")
        && biz.text("op_app_id", 32)? != Some(&world.options.alipay.app_id)
    {
        return Err(invalid("op_app_id"));
    }
    let payer = match biz.text("buyer_open_id", 128)? {
        Some(payer) => payer,
        None => biz.needed("buyer_id", 28)?,
    };
    let mut books = world.books();
    let person = books
        .payer(payer)
        .filter(|person| person.wallet == Wallet::Alipay)
        .ok_or_else(|| Refused::business("BUYER_NOT_EXIST", "买家不存在"))?;
    let number = books.next_number();
    let out_trade_no = trade.out_trade_no.clone();
    if let Some(old) = books.trade_mut(Wallet::Alipay, &out_trade_no) {
        old.settle(now);
        if old.state == State::Waiting
            && old.buyer.as_ref().is_some_and(|buyer| *buyer != person.id)
        {
            return Err(Refused::business("TRADE_BUYER_NOT_MATCH", "交易买家不匹配"));
        }
        check_again(old, &trade, now)?;
    } else {
        trade.exists = true;
        trade.buyer = Some(person.id);
        trade.trade_no = Some(world.trade_no(Wallet::Alipay, number));
        books.insert(trade);
    }
    let trade_no = books
        .trade(Wallet::Alipay, &out_trade_no)
        .and_then(|trade| trade.trade_no.clone());
    Ok(members([
        ("out_trade_no", json!(out_trade_no)),
        ("trade_no", json!(trade_no)),
    ]))
}

/// `trade_status` as the outside sees it; `None` where no trade exists.
pub(super) fn status(trade: &Trade) -> Option<&'static str> {
    trade.exists.then_some(match trade.state {
        State::Waiting => "WAIT_BUYER_PAY",
        State::Closed => "TRADE_CLOSED",
        State::Paid if trade.refunded() >= trade.total => "TRADE_CLOSED",
        State::Paid => "TRADE_SUCCESS",
    })
}

pub(super) fn query(world: &World, biz: &Biz<'_>, rule: Option<&Rule>) -> Done {
    let out_trade_no = biz.which(world)?;
    let now = world.now();
    let mut books = world.books();
    let trade = books
        .trade_mut(Wallet::Alipay, &out_trade_no)
        .ok_or_else(not_exist)?;
    trade.settle(now);
    let mut status = status(trade).ok_or_else(not_exist)?;
    let stale = rule.is_some_and(|rule| {
        rule.fault == Fault::StaleQuery
            && trade
                .captures
                .first()
                .is_some_and(|capture| rule.covers(now.since(capture.at), 3_000))
    });
    if stale {
        status = "WAIT_BUYER_PAY";
    }
    let mut body = members([
        ("trade_no", json!(trade.trade_no)),
        ("out_trade_no", json!(trade.out_trade_no)),
    ]);
    let paid = trade.captures.first().filter(|_| !stale);
    if let Some(person) = trade
        .buyer
        .as_deref()
        .and_then(|id| Person::new(Wallet::Alipay, id))
    {
        body.extend(payer_members(world, &person));
        body.insert("buyer_logon_id".to_owned(), json!(person.logon_id()));
    }
    let amount = |taken: bool| json!(times::yuan(if taken { trade.total } else { 0 }));
    body.extend(members([
        ("trade_status", json!(status)),
        ("total_amount", amount(true)),
        ("receipt_amount", amount(paid.is_some())),
        ("buyer_pay_amount", amount(paid.is_some())),
        ("invoice_amount", amount(paid.is_some())),
        ("point_amount", amount(false)),
    ]));
    if let Some(capture) = paid {
        body.insert("send_pay_date".to_owned(), json!(times::plain(capture.at)));
        body.insert(
            "fund_bill_list".to_owned(),
            json!([{ "fund_channel": "ALIPAYACCOUNT", "amount": times::yuan(trade.total) }]),
        );
    }
    Ok(body)
}

/// `buyer_user_id` or `buyer_open_id`, as the application is set up.
fn payer_members(world: &World, person: &Person) -> Map<String, Value> {
    let options = &world.options.alipay;
    if options.open_ids {
        members([(
            "buyer_open_id",
            json!(person.alipay_open_id(&options.app_id)),
        )])
    } else {
        members([("buyer_user_id", json!(person.buyer_id()))])
    }
}

/// The notice of the close, if one is due.
pub(super) type ToTell = Option<(String, String)>;

pub(super) fn close(
    world: &World,
    biz: &Biz<'_>,
    rule: Option<&Rule>,
) -> Result<(Map<String, Value>, ToTell), Refused> {
    let out_trade_no = biz.which(world)?;
    let now = world.now();
    let mut books = world.books();
    let trade = books
        .trade_mut(Wallet::Alipay, &out_trade_no)
        .filter(|trade| trade.exists)
        .ok_or_else(not_exist)?;
    trade.settle(now);
    let body = members([
        ("out_trade_no", json!(trade.out_trade_no)),
        ("trade_no", json!(trade.trade_no)),
    ]);
    let young = rule.is_some_and(|rule| rule.covers(now.since(trade.created_at), 5 * MINUTE));
    match rule.map(|rule| rule.fault) {
        Some(Fault::CloseLies) => return Ok((body, None)),
        Some(Fault::CloseTooEarly) if young && trade.state == State::Waiting => {
            return Err(Refused::business(
                "REASON_TRADE_STATUS_INVALID",
                "交易状态不合法，请稍后再试",
            ));
        }
        _ => {}
    }
    match trade.state {
        State::Paid => Err(Refused::business("TRADE_STATUS_ERROR", "交易状态不合法")),
        State::Closed => Err(Refused::business(
            "REASON_TRADE_STATUS_INVALID",
            "交易状态不合法",
        )),
        State::Waiting => {
            trade.state = State::Closed;
            trade.closed_at = Some(now);
            let to_tell = biz.notify_url.map(|url| {
                let notice = super::notice::closed(world, trade, url);
                let id = notice.id.clone();
                trade.notices.push(notice);
                (trade.out_trade_no.clone(), id)
            });
            Ok((body, to_tell))
        }
    }
}

/// Unpaid: closes. Paid: **refunds in full**. Unknown: succeeds and does nothing.
pub(super) fn cancel(world: &World, biz: &Biz<'_>) -> Done {
    let out_trade_no = match biz.which(world) {
        Ok(number) => number,
        Err(refused) if biz.object.contains_key("trade_no") => return Err(refused),
        Err(_) => return Err(invalid("out_trade_no")),
    };
    let now = world.now();
    let mut books = world.books();
    let mut body = members([
        ("out_trade_no", json!(out_trade_no)),
        ("retry_flag", json!("N")),
    ]);
    let number = books.next_number();
    let Some(trade) = books
        .trade_mut(Wallet::Alipay, &out_trade_no)
        .filter(|trade| trade.exists)
    else {
        return Ok(body);
    };
    trade.settle(now);
    body.insert("trade_no".to_owned(), json!(trade.trade_no));
    match trade.state {
        State::Waiting => {
            trade.state = State::Closed;
            trade.closed_at = Some(now);
            body.insert("action".to_owned(), json!("close"));
        }
        State::Paid if trade.refunds.is_empty() => {
            let refund = super::refunds::whole(trade, now, number);
            trade.refunds.push(refund);
            body.insert("action".to_owned(), json!("refund"));
            body.insert("gmt_refund_pay".to_owned(), json!(times::plain(now)));
        }
        State::Paid => {
            return Err(Refused::business(
                "REASON_TRADE_REFUND_FEE_ERR",
                "交易已发生退款",
            ));
        }
        State::Closed => {}
    }
    Ok(body)
}
