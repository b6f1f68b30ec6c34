//! The fund-flow bill: what moved on the account, with the balance after each movement.

use std::borrow::Cow;

use super::{END, MARK, safe};
use crate::simulator::bills::planted::Told;
use crate::simulator::bills::sheet::Sheet;
use crate::simulator::bills::{Difference, Line};
use crate::simulator::times;
use crate::simulator::world::World;

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

/// One movement of money.
struct Flow<'a> {
    line: &'a Line,
    name: &'static str,
    income: bool,
    amount: i64,
}

pub(super) fn write(world: &World, told: &Told) -> String {
    let Told { day, faults, .. } = told;
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
