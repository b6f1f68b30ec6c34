//! Prepay, query and close (wechatpay-v3 §2.1–2.3, §3).

use serde_json::{Value, json};

use super::fields::Fields;
use super::{Done, Refused};
use crate::order::Timestamp;
use crate::simulator::books::{Product, State, Ticket, Trade};
use crate::simulator::faults::{Fault, Rule};
use crate::simulator::people::{Person, RealName, Wallet};
use crate::simulator::times;
use crate::simulator::world::World;

const MINUTE: i64 = 60_000;
const CODE_LIFE: i64 = 2 * 60 * MINUTE;
const H5_LIFE: i64 = 5 * MINUTE;
const LONGEST: i64 = 7 * 24 * 60 * MINUTE;

const ORDER_MEMBERS: [&str; 15] = [
    "appid",
    "mchid",
    "description",
    "out_trade_no",
    "time_expire",
    "attach",
    "notify_url",
    "goods_tag",
    "support_fapiao",
    "amount",
    "detail",
    "scene_info",
    "settle_info",
    "limit_pay",
    "payer",
];

fn check_mchid(world: &World, fields: &Fields<'_>) -> Result<(), Refused> {
    let mchid = fields.needed_text("mchid", 32)?;
    if mchid == world.options.wechat.mchid {
        Ok(())
    } else {
        Err(Refused::param(
            "/mchid",
            &json!(mchid),
            "与Http头中签名商户号不一致",
            "body",
        ))
    }
}

/// `POST /v3/pay/transactions/{native,jsapi,h5}`
pub(super) fn prepay(
    world: &World,
    product: Product,
    body: &Value,
    serial: Option<&str>,
) -> Result<Done, Refused> {
    let fields = Fields::body(body, &ORDER_MEMBERS)?;
    check_mchid(world, &fields)?;
    let appid = fields.needed_text("appid", 32)?;
    if appid != world.options.wechat.appid {
        return Err(Refused::new(
            400,
            "APPID_MCHID_NOT_MATCH",
            "商户号和appid没有绑定关系",
        ));
    }
    let description = fields.needed_text("description", 127)?;
    let out_trade_no = fields.number("out_trade_no", 6..=32, "_-|*")?;
    let attach = fields.text("attach", 128)?;
    let notify_url = fields
        .notify_url(255)?
        .ok_or_else(|| Refused::param("/notify_url", &Value::Null, "不能为空", "body"))?;
    let amount = fields.required("amount", &["total", "currency"])?;
    let total = amount.fen("total")?;
    amount.currency(false)?;
    let now = world.now();
    let time_expire = time_expire(&fields, now)?;
    let (buyer, payer) = match product {
        Product::Jsapi => {
            let payer = fields.required("payer", &["openid", "identity"])?;
            let openid = payer.needed_text("openid", 128)?;
            (Some(known_openid(world, openid)?), Some(payer))
        }
        _ => (None, fields.inner("payer", &["identity"])?),
    };
    let identity = match &payer {
        Some(payer) => named_person(world, payer, serial)?,
        None => None,
    };
    if let (Some(buyer), Some(named)) = (&buyer, &identity)
        && buyer.real_name() != *named
    {
        return Err(Refused::new(
            403,
            "NAME_MISMATCH",
            "支付者实名信息与商户指定的付款人不一致",
        ));
    }
    if product == Product::H5 {
        let scene = fields.required(
            "scene_info",
            &["payer_client_ip", "device_id", "store_info", "h5_info"],
        )?;
        let address = scene.needed_text("payer_client_ip", 45)?;
        if address.parse::<std::net::IpAddr>().is_err() {
            return Err(Refused::param(
                "/scene_info/payer_client_ip",
                &json!(address),
                "不是IP地址",
                "body",
            ));
        }
        scene
            .required(
                "h5_info",
                &["type", "app_name", "app_url", "bundle_id", "package_name"],
            )?
            .needed_text("type", 32)?;
    }
    let mut plain = body.clone();
    if let Some(named) = &identity {
        // Its ciphertext is another one each time.
        plain["payer"]["identity"] = json!(named);
    }
    let fingerprint = format!("{product:?} {}", canonical(&plain));
    let trade = Trade {
        wallet: Wallet::Wechat,
        out_trade_no: out_trade_no.to_owned(),
        product,
        state: State::Waiting,
        exists: true,
        total,
        description: description.to_owned(),
        attach: attach.map(str::to_owned),
        notify_url: Some(notify_url.to_owned()),
        return_url: None,
        time_expire,
        created_at: now,
        closed_at: None,
        fingerprint,
        buyer: buyer.map(|person| person.id),
        identity,
        begun_at: None,
        trade_no: None,
        code: None,
        captures: Vec::new(),
        refunds: Vec::new(),
        notices: Vec::new(),
    };
    admit(world, trade, now)
}

/// Not earlier than a minute, not later than seven days from now; default seven days.
fn time_expire(fields: &Fields<'_>, now: Timestamp) -> Result<Timestamp, Refused> {
    let latest = now.plus_ms(LONGEST);
    let Some(text) = fields.text("time_expire", 64)? else {
        return Ok(latest);
    };
    let asked = times::parse_rfc3339(text).ok_or_else(|| {
        Refused::param("/time_expire", &json!(text), "不符合RFC 3339格式", "body")
    })?;
    Ok(asked.clamp(now.plus_ms(MINUTE), latest))
}

fn known_openid(world: &World, openid: &str) -> Result<Person, Refused> {
    world
        .books()
        .payer(openid)
        .filter(|person| {
            person.wallet == Wallet::Wechat && person.openid(&world.options.wechat.appid) == openid
        })
        .ok_or_else(|| Refused::param("/payer/openid", &json!("***"), "无效的openid", "body"))
}

/// `payer.identity`: the person who alone may pay, sealed for the key that `Wechatpay-Serial` names.
fn named_person(
    world: &World,
    payer: &Fields<'_>,
    serial: Option<&str>,
) -> Result<Option<RealName>, Refused> {
    let Some(identity) = payer.inner("identity", &["type", "number", "name"])? else {
        return Ok(None);
    };
    let kind = identity.needed_text("type", 32)?;
    if kind != "IDCARD" {
        // The simulated people have no other papers.
        return Err(Refused::param(
            "/payer/identity/type",
            &json!(kind),
            "不支持的证件类型",
            "body",
        ));
    }
    let open = |name: &str| {
        let sealed = identity.needed_text(name, 1024)?;
        let key_id = &world.options.wechat.platform_public_key_id;
        world
            .wechat
            .open(key_id, serial.unwrap_or_default(), sealed)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| {
                let field = format!("/payer/identity/{name}");
                Refused::param(&field, &json!("***"), "解密失败", "body")
            })
    };
    Ok(Some(RealName {
        name: open("name")?,
        id_number: open("number")?,
    }))
}

/// The re-entry rules, then a fresh code.
fn admit(world: &World, trade: Trade, now: Timestamp) -> Result<Done, Refused> {
    let mut books = world.books();
    let product = trade.product;
    let out_trade_no = trade.out_trade_no.clone();
    match books.trade_mut(Wallet::Wechat, &out_trade_no) {
        None => books.insert(trade),
        Some(old) => {
            old.settle(now);
            match old.state {
                State::Paid => {
                    return Err(Refused::new(400, "ORDERPAID", "该订单已支付"));
                }
                State::Closed => {
                    return Err(Refused::new(400, "ORDER_CLOSED", "该订单已关闭"));
                }
                State::Waiting if old.fingerprint != trade.fingerprint => {
                    return Err(Refused::new(403, "OUT_TRADE_NO_USED", "商户订单号重复"));
                }
                State::Waiting => {}
            }
        }
    }
    let chance = world.random.hex::<8>();
    let (token, life, answer) = match product {
        Product::Native => {
            let code = chance[..12].to_owned();
            let url = format!("weixin://wxpay/bizpayurl?pr={code}");
            (code, CODE_LIFE, json!({ "code_url": url }))
        }
        Product::H5 => {
            let id = prepay_id(now, &chance);
            let url = format!(
                "{}/cgi-bin/mmpayweb-bin/checkmweb?prepay_id={id}&package={}",
                world.origin,
                world.random.below(u64::from(u32::MAX))
            );
            (id, H5_LIFE, json!({ "h5_url": url }))
        }
        _ => {
            let id = prepay_id(now, &chance);
            (id.clone(), CODE_LIFE, json!({ "prepay_id": id }))
        }
    };
    let ticket = Ticket {
        wallet: Wallet::Wechat,
        out_trade_no,
        dies_at: now.plus_ms(life),
        replaced: false,
    };
    // A new native code kills the old one; prepay ids live side by side.
    books.issue(token, ticket, product == Product::Native);
    Ok(Done::Json(answer))
}

fn prepay_id(now: Timestamp, chance: &str) -> String {
    let digits: String = times::plain(now)
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    format!("wx{digits}{chance}0000")
}

/// The body with sorted members: what "identical parameters" means.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let mut members: Vec<_> = object.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            let inner: Vec<String> = members
                .into_iter()
                .map(|(name, value)| format!("{name:?}:{}", canonical(value)))
                .collect();
            format!("{{{}}}", inner.join(","))
        }
        Value::Array(list) => {
            let inner: Vec<String> = list.iter().map(canonical).collect();
            format!("[{}]", inner.join(","))
        }
        other => other.to_string(),
    }
}

/// Which order a query or close is about.
pub(super) enum Which<'a> {
    OutTradeNo(&'a str),
    TransactionId(&'a str),
}

/// `GET /v3/pay/transactions/{out-trade-no,id}/…?mchid=`
pub(super) fn query(
    world: &World,
    which: &Which<'_>,
    mchid: Option<&str>,
    rule: Option<&Rule>,
) -> Result<Done, Refused> {
    if mchid != Some(&world.options.wechat.mchid) {
        return Err(Refused::param(
            "/mchid",
            &json!(mchid),
            "与Http头中签名商户号不一致",
            "query",
        ));
    }
    let now = world.now();
    let mut books = world.books();
    books.settle_one(which, now);
    let trade = match which {
        Which::OutTradeNo(number) => books.trade(Wallet::Wechat, number),
        Which::TransactionId(id) => books.trade_by_trade_no(Wallet::Wechat, id),
    }
    .ok_or_else(|| Refused::new(404, "ORDER_NOT_EXIST", "订单不存在"))?;
    let stale = rule.is_some_and(|rule| {
        rule.fault == Fault::StaleQuery
            && trade
                .captures
                .first()
                .is_some_and(|capture| rule.covers(now.since(capture.at), 3_000))
    });
    Ok(Done::Json(transaction(world, trade, stale)))
}

impl crate::simulator::books::Books {
    fn settle_one(&mut self, which: &Which<'_>, now: Timestamp) {
        if let Which::OutTradeNo(number) = which
            && let Some(trade) = self.trade_mut(Wallet::Wechat, number)
        {
            trade.settle(now);
        }
    }
}

/// The query body, which is also the notice's plaintext.
pub(super) fn transaction(world: &World, trade: &Trade, as_unpaid: bool) -> Value {
    let options = &world.options.wechat;
    let (state, text) = match trade.state {
        _ if as_unpaid => ("NOTPAY", "订单未支付"),
        State::Waiting => ("NOTPAY", "订单未支付"),
        State::Closed => ("CLOSED", "订单已关闭"),
        State::Paid if trade.refunds.is_empty() => ("SUCCESS", "支付成功"),
        State::Paid => ("REFUND", "订单发生过退款，退款详情请查询退款单"),
    };
    let mut body = json!({
        "appid": options.appid,
        "mchid": options.mchid,
        "out_trade_no": trade.out_trade_no,
        "promotion_detail": [],
        "trade_state": state,
        "trade_state_desc": text,
    });
    let Some(capture) = trade.captures.first().filter(|_| !as_unpaid) else {
        body["amount"] = json!({ "total": trade.total, "currency": "CNY" });
        return body;
    };
    let openid = Person::new(Wallet::Wechat, &capture.by)
        .map(|person| person.openid(&options.appid))
        .unwrap_or_default();
    body["transaction_id"] = json!(capture.transaction_id);
    body["trade_type"] = json!(trade.product.trade_type());
    body["bank_type"] = json!("OTHERS");
    body["attach"] = json!(trade.attach.as_deref().unwrap_or_default());
    body["success_time"] = json!(times::rfc3339(capture.at));
    body["payer"] = json!({ "openid": openid });
    body["amount"] = json!({
        "total": trade.total, "payer_total": trade.total,
        "currency": "CNY", "payer_currency": "CNY",
    });
    body
}

/// `POST /v3/pay/transactions/out-trade-no/{out_trade_no}/close`
pub(super) fn close(
    world: &World,
    out_trade_no: &str,
    body: &Value,
    rule: Option<&Rule>,
) -> Result<Done, Refused> {
    let fields = Fields::body(body, &["mchid"])?;
    check_mchid(world, &fields)?;
    let now = world.now();
    let mut books = world.books();
    let Some(trade) = books.trade_mut(Wallet::Wechat, out_trade_no) else {
        return if world.options.wechat.close_unknown_is_fine {
            Ok(Done::NoContent)
        } else {
            Err(Refused::new(404, "ORDER_NOT_EXIST", "订单不存在"))
        };
    };
    trade.settle(now);
    let young = rule.is_some_and(|rule| rule.covers(now.since(trade.created_at), 5 * MINUTE));
    match rule.map(|rule| rule.fault) {
        Some(Fault::CloseTooEarly) if young && trade.state == State::Waiting => {
            return Err(Refused::invalid(
                "订单生成后不能马上调用关单接口，最短调用时间间隔为5分钟",
            ));
        }
        Some(Fault::UserPaying) => {
            return Ok(Done::Accepted(json!({
                "code": "USERPAYING", "message": "用户支付中，需要输入密码",
            })));
        }
        Some(Fault::CloseLies) => return Ok(Done::NoContent),
        _ => {}
    }
    match trade.state {
        State::Paid => Err(Refused::new(400, "ORDERPAID", "该订单已支付")),
        State::Closed => Ok(Done::NoContent),
        State::Waiting => {
            trade.state = State::Closed;
            trade.closed_at = Some(now);
            Ok(Done::NoContent)
        }
    }
}
