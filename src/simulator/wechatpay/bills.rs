//! Bills (wechatpay-v3 §2.5): a signed answer with a checksum and a link, then a file nobody signs.

mod flows;
mod trades;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::Write as _;

use actix_web::web::Bytes;
use jiff::ToSpan as _;
use jiff::civil::Date;
use serde_json::json;

use super::{Done, Refused};
use crate::simulator::bills::planted::{Asked, tell};
use crate::simulator::bills::{BillFile, Difference, after};
use crate::simulator::crypto::sha1;
use crate::simulator::people::Wallet;
use crate::simulator::times;
use crate::simulator::world::World;

const MARK: &str = "`";
const END: &str = "\r\n";
/// Bills may be fetched from ten in the morning of the next day.
const READY_AT: i8 = 10;
const LINK_LIVES_MS: i64 = 5 * 60_000;

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
    let asked = asked(world, date, BillFile::Trade);
    let told = tell(&mut world.books(), &asked, |line| match kind {
        Kind::All => true,
        Kind::Success => line.refund.is_none(),
        Kind::Refund => line.refund.is_some(),
    });
    let told = told.ok_or_else(nothing)?;
    let text = trades::write(world, &told, kind);
    Ok(offer(world, text, zipped, &told.faults))
}

fn asked(world: &World, date: Date, file: BillFile) -> Asked {
    Asked {
        wallet: Wallet::Wechat,
        date,
        file,
        rate: world.options.wechat.fee_rate,
    }
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
    let asked = asked(world, date, BillFile::FundFlow);
    let told = tell(&mut world.books(), &asked, |_| true).ok_or_else(nothing)?;
    let text = flows::write(world, &told);
    Ok(offer(world, text, zipped, &told.faults))
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

/// A merchant's text in one cell: commas are written as a backslash and a blank.
fn safe(text: &str) -> Cow<'_, str> {
    if text.contains([',', '\r', '\n']) {
        text.replace(',', "\\ ").replace(['\r', '\n'], " ").into()
    } else {
        text.into()
    }
}
