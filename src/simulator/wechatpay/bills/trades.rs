//! The trade bill: a row for each payment and each refund, in yuan.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::{END, Kind, MARK, safe};
use crate::simulator::bills::planted::Told;
use crate::simulator::bills::sheet::Sheet;
use crate::simulator::bills::{Difference, Line, percent};
use crate::simulator::people::{Person, Wallet};
use crate::simulator::times;
use crate::simulator::world::World;

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

pub(super) fn write(world: &World, told: &Told, kind: Kind) -> String {
    let Told { day, faults, .. } = told;
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
