//! Bills (wechatpay-v3 §2.5): a signed answer with a checksum and a link, then a file nobody signs.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::Write as _;

use actix_web::web::Bytes;
use jiff::ToSpan as _;
use jiff::civil::Date;
use serde_json::json;

use super::{Done, Refused};
use crate::simulator::bills::planted::told;
use crate::simulator::bills::sheet::Sheet;
use crate::simulator::bills::{BillFile, Day, Difference, Line, after, percent};
use crate::simulator::crypto::sha1;
use crate::simulator::people::{Person, Wallet};
use crate::simulator::times;
use crate::simulator::world::World;

const MARK: &str = "`";
const END: &str = "\r\n";
/// Bills may be fetched from ten in the morning of the next day.
const READY_AT: i8 = 10;
const LINK_LIVES_MS: i64 = 5 * 60_000;

/// Every cell a row of a trade bill can have, by the name it has in `ALL` or `REFUND` bills.
const CELLS: [&str; 29] = [
    "交易时间",
    "公众账号ID",
    "商户号",
    "特约商户号",
    "设备号",
    "微信订单号",
    "商户订单号",
    "用户标识",
    "交易类型",
    "交易状态",
    "付款银行",
    "货币种类",
    "应结订单金额",
    "代金券金额",
    "退款申请时间",
    "退款成功时间",
    "微信退款单号",
    "商户退款单号",
    "退款金额",
    "充值券退款金额",
    "退款类型",
    "退款状态",
    "商品名称",
    "商户数据包",
    "手续费",
    "费率",
    "订单金额",
    "申请退款金额",
    "费率备注",
];
const REFUND_TIMES: [&str; 2] = ["退款申请时间", "退款成功时间"];
const REFUND_CELLS: [&str; 7] = [
    "微信退款单号",
    "商户退款单号",
    "退款金额",
    "充值券退款金额",
    "退款类型",
    "退款状态",
    "申请退款金额",
];
const TOTALS: [&str; 7] = [
    "总交易单数",
    "应结订单总金额",
    "退款总金额",
    "充值券退款总金额",
    "手续费总金额",
    "订单总金额",
    "申请退款总金额",
];
const REFUND_TOTALS: [&str; 3] = ["退款总金额", "充值券退款总金额", "申请退款总金额"];
/// Names of the time before coupons (merchants who never enabled them still get these), and what did
/// not exist then.
const EARLY: [(&str, Option<&str>); 14] = [
    ("特约商户号", Some("子商户号")),
    ("应结订单金额", Some("总金额")),
    ("代金券金额", Some("企业红包金额")),
    ("充值券退款金额", Some("企业红包退款金额")),
    ("订单金额", None),
    ("申请退款金额", None),
    ("费率备注", None),
    ("应结订单总金额", Some("总交易额")),
    ("退款总金额", Some("总退款金额")),
    ("充值券退款总金额", Some("总企业红包退款金额")),
    ("手续费总金额", Some("手续费总金额")),
    ("订单总金额", None),
    ("申请退款总金额", None),
    ("总交易单数", Some("总交易单数")),
];

const FLOW_CELLS: [&str; 11] = [
    "记账时间",
    "微信支付业务单号",
    "资金流水单号",
    "业务名称",
    "业务类型",
    "收支类型",
    "收支金额(元)",
    "账户结余(元)",
    "资金变更提交申请人",
    "备注",
    "业务凭证号",
];
const FLOW_TOTALS: [&str; 5] = [
    "资金流水总笔数",
    "收入笔数",
    "收入金额",
    "支出笔数",
    "支出金额",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    All,
    Success,
    Refund,
}

type Query<'a> = &'a [(String, String)];

fn value<'a>(query: Query<'a>, name: &str) -> Option<&'a str> {
    let (_, value) = query.iter().find(|(found, _)| found == name)?;
    Some(value)
}

fn wrong(name: &str, value: &str, issue: &str) -> Refused {
    Refused::param(&format!("/{name}"), &json!(value), issue, "query")
}

/// The day a bill is asked for, if there can be one by now.
fn day_of(world: &World, query: Query<'_>) -> Result<Date, Refused> {
    let text = value(query, "bill_date").unwrap_or_default();
    let date =
        times::parse_date(text).ok_or_else(|| wrong("bill_date", text, "格式应为yyyy-MM-dd"))?;
    let now = world.now();
    let today = times::date(now);
    let oldest = today.checked_sub(3.months()).unwrap_or(today);
    if date >= today || date < oldest {
        return Err(Refused::invalid("账单日期不合法，仅支持三个月内的账单"));
    }
    if after(date) == today && now < times::hour_of(today, READY_AT) {
        return Err(Refused::new(
            400,
            "STATEMENT_CREATING",
            "账单生成中，请于10点后再试",
        ));
    }
    Ok(date)
}

fn zipped(query: Query<'_>) -> Result<bool, Refused> {
    match value(query, "tar_type") {
        None => Ok(false),
        Some("GZIP") => Ok(true),
        Some(other) => Err(wrong("tar_type", other, "只支持GZIP")),
    }
}

fn nothing() -> Refused {
    Refused::new(400, "NO_STATEMENT_EXIST", "账单文件不存在")
}

/// `GET /v3/bill/tradebill`
pub(super) fn trade_bill(world: &World, query: Query<'_>) -> Result<Done, Refused> {
    let kind = match value(query, "bill_type") {
        None | Some("ALL") => Kind::All,
        Some("SUCCESS") => Kind::Success,
        Some("REFUND") => Kind::Refund,
        Some(other) => return Err(wrong("bill_type", other, "不是账单类型")),
    };
    let zipped = zipped(query)?;
    let date = day_of(world, query)?;
    let rate = world.options.wechat.fee_rate;
    let (mut day, faults, _) = told(
        &mut world.books(),
        Wallet::Wechat,
        date,
        BillFile::Trade,
        rate,
    );
    day.lines.retain(|line| match kind {
        Kind::All => true,
        Kind::Success => line.refund.is_none(),
        Kind::Refund => line.refund.is_some(),
    });
    if day.lines.is_empty() {
        return Err(nothing());
    }
    let text = write_trades(world, &day, kind, &faults);
    Ok(offer(world, text, zipped, &faults))
}

/// `GET /v3/bill/fundflowbill`. All money moves on the basic account; the other two are empty.
pub(super) fn fund_flow(world: &World, query: Query<'_>) -> Result<Done, Refused> {
    let basic = match value(query, "account_type") {
        None | Some("BASIC") => true,
        Some("OPERATION" | "FEES") => false,
        Some(other) => return Err(wrong("account_type", other, "不是资金账户类型")),
    };
    let zipped = zipped(query)?;
    let date = day_of(world, query)?;
    if !basic {
        return Err(nothing());
    }
    let rate = world.options.wechat.fee_rate;
    let (day, faults, _) = told(
        &mut world.books(),
        Wallet::Wechat,
        date,
        BillFile::FundFlow,
        rate,
    );
    if day.lines.is_empty() {
        return Err(nothing());
    }
    let text = write_flows(world, &day, &faults);
    Ok(offer(world, text, zipped, &faults))
}

/// `GET /v3/billdownload/file`, with the token of the link.
pub(super) fn file(world: &World, query: Query<'_>) -> Result<Done, Refused> {
    let token = value(query, "token").unwrap_or_default();
    world
        .links()
        .file(token, world.now())
        .map(Done::File)
        .ok_or_else(|| Refused::invalid("下载地址无效或已过期，请重新申请账单"))
}

/// The checksum is over the file as it is when unpacked.
fn offer(world: &World, text: String, zipped: bool, faults: &BTreeSet<Difference>) -> Done {
    let mut hash = sha1(text.as_bytes());
    if faults.contains(&Difference::HashMismatch) {
        hash = sha1(hash.as_bytes());
    }
    let mut file = if zipped {
        gzip(text.as_bytes())
    } else {
        text.into_bytes()
    };
    if faults.contains(&Difference::Truncated) {
        file.truncate(file.len() / 2);
    }
    let now = world.now();
    let dies_at = if faults.contains(&Difference::ExpiredLink) {
        now
    } else {
        now.plus_ms(LINK_LIVES_MS)
    };
    let token = world.random.hex::<24>();
    world
        .links()
        .add(token.clone(), Bytes::from(file), now, dies_at);
    Done::Json(json!({
        "hash_type": "SHA1",
        "hash_value": hash,
        "download_url": format!("{}/v3/billdownload/file?token={token}", world.origin),
    }))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer
        .write_all(bytes)
        .and_then(|()| packer.finish())
        .expect("writing into memory does not fail")
}

/// The names of a kind of file, cell by cell.
fn names(
    cells: &[&'static str],
    left_out: &[&str],
    faults: &BTreeSet<Difference>,
) -> Vec<Option<&'static str>> {
    let early = faults.contains(&Difference::EarlyFormat);
    cells
        .iter()
        .map(|name| {
            if left_out.contains(name) {
                return None;
            }
            match EARLY.iter().find(|(now, _)| now == name) {
                Some((_, then)) if early => *then,
                _ => Some(*name),
            }
        })
        .collect()
}

fn write_trades(world: &World, day: &Day, kind: Kind, faults: &BTreeSet<Difference>) -> String {
    let turned = faults.contains(&Difference::ColumnsReordered);
    let mut left_out = Vec::new();
    if kind != Kind::Refund {
        left_out.extend(REFUND_TIMES);
    }
    if kind == Kind::Success {
        left_out.extend(REFUND_CELLS);
    }
    let mut text = String::from("\u{feff}");
    let columns = names(&CELLS, &left_out, faults);
    let sheet = Sheet::begin(&mut text, &columns, turned, MARK, END);
    let rate = percent(world.options.wechat.fee_rate);
    let (mut paid, mut refunded, mut fees) = (0, 0, 0);
    for line in &day.lines {
        if line.refund.is_some() {
            refunded += line.amount;
            fees -= line.fee;
        } else {
            paid += line.amount;
            fees += line.fee;
        }
        sheet.row(&mut text, &trade_row(world, line, &rate));
    }
    if faults.contains(&Difference::GarbageRow) {
        text.push_str("`2026-99-99,`不是账单`\r\n");
    }
    if faults.contains(&Difference::WrongTotals) {
        paid += 1;
        refunded += 1;
        fees += 1;
    }
    let left_out: &[&str] = if kind == Kind::Success {
        &REFUND_TOTALS
    } else {
        &[]
    };
    let columns = names(&TOTALS, left_out, faults);
    let sheet = Sheet::begin(&mut text, &columns, turned, MARK, END);
    let money = |fen| Cow::from(times::short_yuan(fen));
    let totals = [
        Cow::from(format!("{}.0", day.lines.len())),
        money(paid),
        money(refunded),
        money(0),
        money(fees),
        money(paid),
        money(refunded),
    ];
    sheet.row(&mut text, &totals);
    text
}

fn trade_row<'a>(world: &'a World, line: &'a Line, rate: &'a str) -> [Cow<'a, str>; 29] {
    let options = &world.options.wechat;
    let money = |fen| Cow::from(times::yuan(fen));
    let openid = Person::new(Wallet::Wechat, &line.payer)
        .map(|person| person.openid(&options.appid))
        .unwrap_or_default();
    let refund = line.refund.as_ref();
    let (order, back, sign) = match refund {
        None => (line.amount, 0, 1),
        Some(_) => (0, line.amount, -1),
    };
    let refund_status = refund.map_or("", |refund| {
        line.status
            .as_deref()
            .unwrap_or_else(|| word(&refund.status))
    });
    let trade_status = match refund {
        None => line.status.as_deref().unwrap_or("SUCCESS"),
        Some(_) => "REFUND",
    };
    let arrived = refund
        .filter(|refund| refund.status == "SUCCESS")
        .map(|refund| times::plain(refund.arrives_at))
        .unwrap_or_default();
    [
        times::plain(line.at).into(),
        line.appid.as_deref().unwrap_or(&options.appid).into(),
        line.mchid.as_deref().unwrap_or(&options.mchid).into(),
        "0".into(),
        "".into(),
        line.transaction_id.as_str().into(),
        line.out_trade_no.as_str().into(),
        openid.into(),
        line.product.trade_type().into(),
        trade_status.into(),
        "OTHERS".into(),
        "CNY".into(),
        money(order),
        money(0),
        times::plain(line.at).into(),
        arrived.into(),
        refund.map_or("0", |refund| &refund.id).into(),
        refund.map_or("0", |refund| &refund.number).into(),
        money(back),
        money(0),
        refund.map_or("", |_| "ORIGINAL").into(),
        refund_status.into(),
        safe(&line.description),
        safe(&line.attach),
        // Whole fen, written with five decimals.
        format!("{}000", times::yuan(sign * line.fee)).into(),
        rate.into(),
        money(order),
        money(back),
        "".into(),
    ]
}

/// The bill's word for a refund's state.
fn word(status: &str) -> &str {
    match status {
        "ABNORMAL" => "CHANGE",
        "CLOSED" => "FAIL",
        other => other,
    }
}

/// A merchant's text in one cell: commas are written as a backslash and a blank.
fn safe(text: &str) -> Cow<'_, str> {
    if text.contains([',', '\r', '\n']) {
        text.replace(',', "\\ ").replace(['\r', '\n'], " ").into()
    } else {
        text.into()
    }
}

/// One movement of money.
struct Flow<'a> {
    line: &'a Line,
    name: &'static str,
    income: bool,
    amount: i64,
}

fn write_flows(world: &World, day: &Day, faults: &BTreeSet<Difference>) -> String {
    let turned = faults.contains(&Difference::ColumnsReordered);
    let mut flows = Vec::new();
    for line in &day.lines {
        let flow = |name, income, amount| Flow {
            line,
            name,
            income,
            amount,
        };
        match &line.refund {
            None => flows.extend([
                flow("交易", true, line.amount),
                flow("扣除交易手续费", false, line.fee),
            ]),
            Some(refund) if refund.counts => flows.extend([
                flow("退回交易手续费", true, line.fee),
                flow("退款", false, line.amount),
            ]),
            // Nothing moved.
            Some(_) => {}
        }
    }
    flows.retain(|flow| flow.amount > 0);
    flows.sort_by_key(|flow| flow.line.at);
    let mut text = String::from("\u{feff}");
    let columns: Vec<_> = FLOW_CELLS.iter().copied().map(Some).collect();
    let sheet = Sheet::begin(&mut text, &columns, turned, MARK, END);
    let mut balance = day.opening;
    let (mut incomes, mut earned, mut expenses, mut spent) = (0, 0, 0, 0);
    let compact = times::compact_date(times::hour_of(day.date, 0));
    for (number, flow) in flows.iter().enumerate() {
        let kind = if flow.income {
            balance += flow.amount;
            incomes += 1;
            earned += flow.amount;
            "收入"
        } else {
            balance -= flow.amount;
            expenses += 1;
            spent += flow.amount;
            "支出"
        };
        let (business, voucher, note) = match &flow.line.refund {
            None => (&flow.line.transaction_id, &flow.line.out_trade_no, ""),
            Some(refund) => (&refund.id, &refund.number, refund.reason.as_str()),
        };
        let row: [Cow<'_, str>; 11] = [
            times::plain(flow.line.at).into(),
            business.as_str().into(),
            format!("{}{compact}{number:010}", world.options.wechat.mchid).into(),
            flow.name.into(),
            flow.name.into(),
            kind.into(),
            times::yuan(flow.amount).into(),
            times::yuan(balance).into(),
            "system".into(),
            safe(note),
            voucher.as_str().into(),
        ];
        sheet.row(&mut text, &row);
    }
    if faults.contains(&Difference::GarbageRow) {
        text.push_str("`2026-99-99,`不是账单`\r\n");
    }
    if faults.contains(&Difference::WrongTotals) {
        earned += 1;
    }
    let columns: Vec<_> = FLOW_TOTALS.iter().copied().map(Some).collect();
    let sheet = Sheet::begin(&mut text, &columns, turned, MARK, END);
    let count = |count: i32| Cow::from(format!("{count}.0"));
    let totals = [
        count(incomes + expenses),
        count(incomes),
        times::short_yuan(earned).into(),
        count(expenses),
        times::short_yuan(spent).into(),
    ];
    sheet.row(&mut text, &totals);
    text
}
