//! Bills (alipay §2.9): a link that lives thirty seconds, behind it one zip with two files in GBK, their
//! names too. Only the trade bill is made: the columns of the account flow are not published.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Cursor, Write as _};

use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use actix_web::{HttpRequest, HttpResponse, web};
use jiff::ToSpan as _;
use jiff::civil::Date;
use serde_json::json;
use zip::write::SimpleFileOptions;

use super::trades::Biz;
use super::{Done, Refused, members};
use crate::simulator::answers;
use crate::simulator::bills::planted::{Asked, Told, tell};
use crate::simulator::bills::sheet::Sheet;
use crate::simulator::bills::{BillFile, Day, Difference, Line, after};
use crate::simulator::faults::Fault;
use crate::simulator::people::{Person, Wallet};
use crate::simulator::times;
use crate::simulator::world::World;

/// Where the links point.
pub(in crate::simulator) const BILL_FILE_PATH: &str = "/downloadBillFile.resource";
const END: &str = "\n";
const LINK_LIVES_MS: i64 = 30_000;
/// Bills are there from nine in the morning of the next day.
const READY_AT: i8 = 9;

const CELLS: [&str; 25] = [
    "支付宝交易号",
    "商户订单号",
    "业务类型",
    "商品名称",
    "创建时间",
    "完成时间",
    "门店编号",
    "门店名称",
    "操作员",
    "终端号",
    "对方账户",
    "订单金额（元）",
    "商家实收（元）",
    "支付宝红包（元）",
    "集分宝（元）",
    "支付宝优惠（元）",
    "商家优惠（元）",
    "券核销金额（元）",
    "券名称",
    "商家红包消费金额（元）",
    "卡消费金额（元）",
    "退款批次号/请求号",
    "服务费（元）",
    "分润（元）",
    "备注",
];
/// What files did not have before there were coupons.
const COUPONS: [&str; 4] = [
    "券核销金额（元）",
    "券名称",
    "商家红包消费金额（元）",
    "卡消费金额（元）",
];
const SUMMARY: [&str; 12] = [
    "门店编号",
    "门店名称",
    "交易订单总笔数",
    "退款订单总笔数",
    "订单金额（元）",
    "商家实收（元）",
    "支付宝优惠（元）",
    "商家优惠（元）",
    "卡消费金额（元）",
    "服务费（元）",
    "分润（元）",
    "实收净额（元）",
];

/// `alipay.data.dataservice.bill.downloadurl.query`
pub(super) fn query(world: &World, biz: &Biz<'_>) -> Done {
    let invalid = || Refused::bill("INVAILID_ARGUMENTS", "入参不合法");
    match biz.text("bill_type", 20)? {
        Some("trade") => {}
        Some(_) => {
            return Err(Refused::bill("TYPE_NOT_SUPPORTED", "账单类型不支持"));
        }
        None => return Err(invalid()),
    }
    let date = biz
        .text("bill_date", 15)?
        .and_then(times::parse_date)
        .ok_or_else(invalid)?;
    let now = world.now();
    let today = times::date(now);
    let oldest = today.checked_sub(6.years()).unwrap_or(today);
    if date >= today || date < oldest {
        return Err(invalid());
    }
    if after(date) == today && now < times::hour_of(today, READY_AT) {
        return Err(Refused::bill("BILL_NOT_EXIST", "账单不存在"));
    }
    let asked = Asked {
        wallet: Wallet::Alipay,
        date,
        file: BillFile::Trade,
        rate: world.options.alipay.fee_rate,
    };
    let told = tell(&mut world.books(), &asked, |_| true);
    let Told {
        day,
        faults,
        account,
    } = told.ok_or_else(|| Refused::bill("NO_BILL_DATA", "无账单数据"))?;
    let account = account.unwrap_or_else(|| format!("{}0156", world.options.alipay.seller_id));
    let mut file = pack(&account, &day, &faults);
    if faults.contains(&Difference::Truncated) {
        file.truncate(file.len() / 2);
    }
    let dies_at = if faults.contains(&Difference::ExpiredLink) {
        now
    } else {
        now.plus_ms(LINK_LIVES_MS)
    };
    let token = world.random.hex::<16>();
    world
        .links()
        .add(token.clone(), Bytes::from(file), now, dies_at);
    let compact = times::compact_date(times::hour_of(date, 0));
    let address = format!(
        "{}{BILL_FILE_PATH}?bizType=trade&userId={account}&fileType=csv.zip&bizDates={compact}&downloadFileName={account}_{compact}.csv.zip&fileId=%2Ftrade%2F{account}%2F{compact}.csv.zip&timestamp={}&token={token}",
        world.origin,
        now.as_millis(),
    );
    Ok(members([("bill_download_url", json!(address))]))
}

/// `GET` of a link: no signature, neither asked for nor given.
pub(in crate::simulator) async fn bill_file(
    world: web::Data<World>,
    request: HttpRequest,
) -> HttpResponse {
    world.latency().await;
    let rule = world.take_fault("alipay.bill_file", None, Fault::for_calls);
    if let Some(answer) = answers::strike_before(rule.as_ref()).await {
        return answer;
    }
    let token = url::form_urlencoded::parse(request.query_string().as_bytes())
        .find(|(name, _)| name == "token")
        .map(|(_, token)| token.into_owned())
        .unwrap_or_default();
    let file = world.links().file(&token, world.now());
    if let Some(answer) = answers::strike_after(rule.as_ref()).await {
        return answer;
    }
    // How the original refuses is not published: anything but a zip will do.
    let Some(file) = file else {
        return answers::html(StatusCode::FORBIDDEN);
    };
    let mut builder = HttpResponse::Ok();
    builder.content_type("application/zip");
    answers::finish(builder, file, rule.as_ref())
}

fn gbk(text: &str) -> Cow<'_, [u8]> {
    encoding_rs::GBK.encode(text).0
}

fn pack(account: &str, day: &Day, faults: &BTreeSet<Difference>) -> Vec<u8> {
    let name = format!(
        "{account}_{}_业务明细",
        times::compact_date(times::hour_of(day.date, 0))
    );
    let files = [
        (format!("{name}.csv"), details(account, day, faults)),
        (format!("{name}(汇总).csv"), summary(account, day)),
    ];
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let written = files.iter().try_for_each(|(name, text)| {
        // Bytes, not text: a name that is text would be written as UTF-8.
        let name = gbk(name);
        archive.start_file_with_options(SimpleFileOptions::default().name(&name))?;
        archive.write_all(&gbk(text))?;
        Ok::<_, zip::result::ZipError>(())
    });
    written
        .and_then(|()| archive.finish())
        .expect("two small names and texts in memory make an archive")
        .into_inner()
}

fn head(what: &str, account: &str, date: Date, marker: &str) -> String {
    format!(
        "#支付宝{what}查询\n#账号：[{account}]\n#起始日期：[{}]   终止日期：[{}]\n#-----------------------------------------{marker}列表----------------------------------------\n",
        times::chinese(times::hour_of(date, 0)),
        times::chinese(times::hour_of(after(date), 0)),
    )
}

/// Sums of a day: count, amount, and the fees of payments and refunds together.
struct Sums {
    payments: usize,
    paid: i64,
    refunds: usize,
    refunded: i64,
    fees: i64,
}

fn sums(day: &Day) -> Sums {
    let mut sums = Sums {
        payments: 0,
        paid: 0,
        refunds: 0,
        refunded: 0,
        fees: 0,
    };
    for line in &day.lines {
        if line.refund.is_some() {
            sums.refunds += 1;
            sums.refunded += line.amount;
            sums.fees += line.fee;
        } else {
            sums.payments += 1;
            sums.paid += line.amount;
            sums.fees -= line.fee;
        }
    }
    sums
}

fn made_at(date: Date) -> String {
    times::chinese(times::hour_of(after(date), READY_AT))
}

fn details(account: &str, day: &Day, faults: &BTreeSet<Difference>) -> String {
    let early = faults.contains(&Difference::EarlyFormat);
    let names: Vec<Option<&str>> = CELLS
        .iter()
        .map(|name| (!early || !COUPONS.contains(name)).then_some(*name))
        .collect();
    let turned = faults.contains(&Difference::ColumnsReordered);
    let mut text = head("业务明细", account, day.date, "业务明细");
    let sheet = Sheet::begin(&mut text, &names, turned, "", END);
    for line in &day.lines {
        sheet.row(&mut text, &row(line));
    }
    if faults.contains(&Difference::GarbageRow) {
        text.push_str("不是账单\t,,\"\n");
    }
    let mut sums = sums(day);
    if faults.contains(&Difference::WrongTotals) {
        sums.paid += 1;
        sums.refunded += 1;
    }
    text.push_str("#-----------------------------------------业务明细列表结束------------------------------------\n");
    let _ = write!(
        text,
        "#交易合计：{}笔，商家实收共{}元，商家优惠共0.00元\n#退款合计：{}笔，商家实收退款共{}元，商家优惠退款共0.00元\n#导出时间：[{}]\n",
        sums.payments,
        times::yuan(sums.paid),
        sums.refunds,
        times::yuan(-sums.refunded),
        made_at(day.date),
    );
    text
}

/// Identifiers end with a tab, so that spreadsheets leave their digits alone.
fn row(line: &Line) -> [Cow<'_, str>; 25] {
    let tabbed = |text: &str| Cow::from(format!("{text}\t"));
    let zero = || Cow::from("0.00");
    let (kind, sign, number) = match &line.refund {
        None => ("交易\t", 1, ""),
        Some(refund) => ("退款\t", -1, refund.number.as_str()),
    };
    let amount = times::yuan(sign * line.amount);
    [
        tabbed(&line.transaction_id),
        tabbed(&line.out_trade_no),
        kind.into(),
        // How commas are written is not published: a blank keeps the columns.
        line.description.replace([',', '\r', '\n'], " ").into(),
        times::plain(line.created_at).into(),
        times::plain(line.at).into(),
        tabbed(""),
        tabbed(""),
        tabbed(""),
        tabbed(""),
        tabbed(&counterparty(&line.payer)),
        amount.clone().into(),
        amount.into(),
        zero(),
        zero(),
        zero(),
        zero(),
        zero(),
        "".into(),
        "0.00\t".into(),
        zero(),
        tabbed(number),
        times::yuan(-sign * line.fee).into(),
        zero(),
        "".into(),
    ]
}

/// `**明(159******20)`
fn counterparty(payer: &str) -> String {
    let Some(person) = Person::new(Wallet::Alipay, payer) else {
        return String::new();
    };
    let end: String = person.name().chars().last().into_iter().collect();
    format!("**{end}({})", person.logon_id())
}

fn summary(account: &str, day: &Day) -> String {
    let sums = sums(day);
    let names: Vec<Option<&str>> = SUMMARY.iter().copied().map(Some).collect();
    let mut text = head("业务汇总", account, day.date, "业务汇总");
    let sheet = Sheet::begin(&mut text, &names, false, "", END);
    let net = sums.paid - sums.refunded;
    let cells: [Cow<'_, str>; 12] = [
        "合计".into(),
        "".into(),
        sums.payments.to_string().into(),
        sums.refunds.to_string().into(),
        times::yuan(net).into(),
        times::yuan(net).into(),
        "0.00".into(),
        "0.00".into(),
        "0.00".into(),
        times::yuan(sums.fees).into(),
        "0.00".into(),
        times::yuan(net + sums.fees).into(),
    ];
    sheet.row(&mut text, &cells);
    let _ = write!(
        text,
        "#-----------------------------------------业务汇总列表结束------------------------------------\n#导出时间：[{}]\n",
        made_at(day.date)
    );
    text
}
