//! What stands in Alipay's bill of trades (protocol §2.9): a zip with two sheets in GBK, of which the one
//! without 汇总 has the lines. Columns are found by name.
//!
//! Cells are cut as bytes and decoded one by one: in GBK no second byte is a comma or a line's end.

use std::borrow::Cow;
use std::io::{self, Cursor, Read};

use csv::ByteRecord;
use encoding_rs::GBK;
use jiff::civil::Date;
use zip::ZipArchive;

use crate::order::{Fen, Timestamp};
use crate::provider::beijing;
use crate::provider::bill::{BillError, LineKind, LineStanding, TradeLine};
use crate::provider::sheet::{self, Bounded, Columns, Flaw, Sheet, UNPACKED_LIMIT};

/// There are two files in it.
const MOST_FILES: usize = 16;
const NOT_GBK: &str = "text that is not GBK";

/// Unpacks and reads a file. With a `seller_id`, it must be that seller's.
pub fn read(
    date: Date,
    seller_id: Option<&str>,
    packed: &[u8],
) -> Result<Vec<TradeLine>, BillError> {
    unpack(seller_id, packed).map_err(|flaw| flaw.of(date))
}

fn unpack(seller_id: Option<&str>, packed: &[u8]) -> Result<Vec<TradeLine>, Flaw> {
    let damaged = |error: zip::result::ZipError| Flaw::File(error.to_string());
    let mut archive = ZipArchive::new(Cursor::new(packed)).map_err(damaged)?;
    if archive.len() > MOST_FILES {
        return Err(Flaw::file("it holds too many files"));
    }
    let mut details = None;
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(damaged)?;
        if is_details(entry.name_raw()) && details.replace(index).is_some() {
            return Err(Flaw::file("it holds more than one sheet of lines"));
        }
    }
    let details = details.ok_or(Flaw::file("it holds no sheet of lines"))?;
    let entry = archive.by_index(details).map_err(damaged)?;
    let mut sheet = Sheet::over(Bounded::new(entry, UNPACKED_LIMIT));
    let lines = lines(&mut sheet, seller_id);
    // To its end, where its checksum is: a damaged file is no unreadable line.
    io::copy(&mut sheet.into_inner(), &mut io::sink())
        .map_err(|error| Flaw::File(error.to_string()))?;
    lines
}

fn is_details(name: &[u8]) -> bool {
    let name = match std::str::from_utf8(name) {
        Ok(name) => Cow::Borrowed(name),
        Err(_) => GBK.decode_without_bom_handling(name).0,
    };
    let is_sheet = name
        .get(name.len().saturating_sub(4)..)
        .is_some_and(|end| end.eq_ignore_ascii_case(".csv"));
    is_sheet && !name.contains("汇总")
}

/// What the lines come to, one way: how many, and what the school received or gave.
#[derive(Default)]
struct Sum {
    lines: u64,
    received: Fen,
}

fn lines<R: Read>(sheet: &mut Sheet<R>, seller_id: Option<&str>) -> Result<Vec<TradeLine>, Flaw> {
    let mut layout: Option<Layout> = None;
    let (mut payments, mut refunds) = (Sum::default(), Sum::default());
    let mut has_ended = false;
    let mut lines = Vec::new();
    while let Some((number, record)) = sheet.next()? {
        if record.get(0).is_some_and(|first| first.starts_with(b"#")) {
            let note = note(record).ok_or(Flaw::line(number, NOT_GBK))?;
            if layout.is_none() {
                check_account(&note, seller_id)?;
            } else {
                has_ended = true;
                check_sums(&note, &payments, &refunds)?;
            }
            continue;
        }
        let Some(layout) = &layout else {
            layout = Some(Layout::read(record, number)?);
            continue;
        };
        if has_ended {
            return Err(Flaw::line(number, "a row after the end"));
        }
        let row = Row::new(number, record, layout)?;
        let line = row.trade_line(layout)?;
        let sum = match line.kind {
            LineKind::Payment => &mut payments,
            LineKind::Refund => &mut refunds,
        };
        sum.lines += 1;
        if let Some(column) = layout.received {
            let received = magnitude(row.amount(column)?);
            sum.received = sum
                .received
                .checked_add(received)
                .ok_or(Flaw::file("a sum beyond all measure"))?;
        }
        lines.push(line);
    }
    match (layout, has_ended) {
        (None, _) => Err(Flaw::file("it has no header")),
        (Some(_), false) => Err(Flaw::file("it ends before its end")),
        (Some(_), true) => Ok(lines),
    }
}

/// Where the columns are that are asked for.
struct Layout {
    count: usize,
    transaction_id: usize,
    out_trade_no: usize,
    kind: usize,
    subject: usize,
    finished_at: usize,
    amount: usize,
    received: Option<usize>,
    refund_no: usize,
    fee: usize,
}

impl Layout {
    fn read(record: &ByteRecord, number: u32) -> Result<Self, Flaw> {
        let names = record
            .iter()
            .map(decode)
            .collect::<Option<Vec<_>>>()
            .ok_or(Flaw::line(number, NOT_GBK))?;
        let columns = Columns::new(names.iter().map(AsRef::as_ref));
        Ok(Self {
            count: columns.count(),
            transaction_id: columns.need(&["支付宝交易号"])?,
            out_trade_no: columns.need(&["商户订单号"])?,
            kind: columns.need(&["业务类型"])?,
            subject: columns.need(&["商品名称"])?,
            finished_at: columns.need(&["完成时间"])?,
            amount: columns.need(&["订单金额(元)"])?,
            received: columns.find("商家实收(元)"),
            refund_no: columns.need(&["退款批次号/请求号"])?,
            fee: columns.need(&["服务费(元)"])?,
        })
    }
}

struct Row<'a> {
    number: u32,
    record: &'a ByteRecord,
    /// Commas in a text make more cells than columns: so many, after the column with the text.
    surplus: usize,
    text: usize,
}

impl<'a> Row<'a> {
    fn new(number: u32, record: &'a ByteRecord, layout: &Layout) -> Result<Self, Flaw> {
        let surplus = record.len().checked_sub(layout.count);
        let surplus = surplus.ok_or(Flaw::line(number, "fewer cells than columns"))?;
        let in_subject = Self {
            number,
            record,
            surplus,
            text: layout.subject,
        };
        // Which text had the commas shows in where the time stands: the remark comes last.
        if in_subject.time(layout.finished_at).is_ok() {
            return Ok(in_subject);
        }
        Ok(Self {
            text: usize::MAX,
            ..in_subject
        })
    }

    fn flaw(&self, why: &'static str) -> Flaw {
        Flaw::line(self.number, why)
    }

    fn cell(&self, column: usize) -> Result<Cow<'a, str>, Flaw> {
        let moved = if column > self.text { self.surplus } else { 0 };
        let bytes = self.record.get(column + moved).unwrap_or_default();
        decode(bytes.trim_ascii()).ok_or_else(|| self.flaw(NOT_GBK))
    }

    fn time(&self, column: usize) -> Result<Timestamp, Flaw> {
        beijing::read_plain(&self.cell(column)?).ok_or_else(|| self.flaw("a time that is none"))
    }

    fn amount(&self, column: usize) -> Result<Fen, Flaw> {
        sheet::yuan(&self.cell(column)?).map_err(|why| self.flaw(why))
    }

    fn trade_line(&self, layout: &Layout) -> Result<TradeLine, Flaw> {
        let amount = self.amount(layout.amount)?;
        let (kind, amount) = match &*self.cell(layout.kind)? {
            "交易" if amount >= Fen::ZERO => (LineKind::Payment, amount),
            "退款" => (LineKind::Refund, magnitude(amount)),
            "交易" => return Err(self.flaw("a payment of less than nothing")),
            _ => return Err(self.flaw("a kind of business that is not for us")),
        };
        // Written as the school's balance has it: what is kept is negative.
        let fee = sheet::fee(&self.cell(layout.fee)?).map_err(|why| self.flaw(why))?;
        let refund_no = self.cell(layout.refund_no)?;
        Ok(TradeLine {
            line: self.number,
            kind,
            out_trade_no: self.cell(layout.out_trade_no)?.into(),
            transaction_id: self.cell(layout.transaction_id)?.into(),
            application: None,
            amount,
            currency: "CNY".into(),
            at: self.time(layout.finished_at)?,
            standing: LineStanding::Succeeded,
            refund_no: match kind {
                LineKind::Refund if !refund_no.is_empty() => Some(refund_no.into()),
                _ => None,
            },
            fee: Fen::ZERO
                .checked_sub(fee)
                .ok_or_else(|| self.flaw("a fee that is none"))?,
        })
    }
}

fn magnitude(amount: Fen) -> Fen {
    Fen::new(amount.get().saturating_abs())
}

fn decode(bytes: &[u8]) -> Option<Cow<'_, str>> {
    GBK.decode_without_bom_handling_and_without_replacement(bytes)
}

/// A line that begins with `#`, as it stands in the file.
fn note(record: &ByteRecord) -> Option<String> {
    let cells = record.iter().map(decode).collect::<Option<Vec<_>>>()?;
    Some(cells.join(","))
}

/// `#账号：[20880000000000010156]`: the seller's number and four digits more.
fn check_account(note: &str, seller_id: Option<&str>) -> Result<(), Flaw> {
    match (between(note, "账号：[", "]"), seller_id) {
        (Some(account), Some(seller_id)) if !account.starts_with(seller_id) => {
            Err(Flaw::file("it is another seller's"))
        }
        _ => Ok(()),
    }
}

/// `#交易合计：1笔，商家实收共128.50元，…` and `#退款合计：1笔，商家实收退款共-28.50元，…`, where they stand.
fn check_sums(note: &str, payments: &Sum, refunds: &Sum) -> Result<(), Flaw> {
    for (begin, received, sum) in [
        ("#交易合计：", "商家实收共", payments),
        ("#退款合计：", "商家实收退款共", refunds),
    ] {
        if !note.starts_with(begin) {
            continue;
        }
        let count = between(note, begin, "笔").and_then(|count| count.trim().parse().ok());
        if count.is_some_and(|count: u64| count != sum.lines) {
            return Err(Flaw::file("its count is not the number of its rows"));
        }
        let written = between(note, received, "元").and_then(|sum| Fen::from_yuan(sum.trim()).ok());
        if written.is_some_and(|written| magnitude(written) != sum.received) {
            return Err(Flaw::file("its total is not the sum of its rows"));
        }
    }
    Ok(())
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(begin)?;
    let (found, _) = rest.split_once(end)?;
    Some(found)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;
    use zip::write::SimpleFileOptions;

    use super::*;

    const DATE: Date = jiff::civil::date(2025, 12, 31);

    fn zipped(sheet: &[u8]) -> Vec<u8> {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        archive
            .start_file(
                "20880000000000010156_20251231_details.csv",
                SimpleFileOptions::default(),
            )
            .unwrap();
        archive.write_all(sheet).unwrap();
        archive.finish().unwrap().into_inner()
    }

    /// A day of `count` payments of one yuan each, in GBK.
    fn busy_day(count: u32) -> Vec<u8> {
        use std::fmt::Write as _;
        let mut text = "#支付宝业务明细查询\n#账号：[20880000000000010156]\n支付宝交易号,商户订单号,业务类型,\
            商品名称,创建时间,完成时间,门店编号,门店名称,操作员,终端号,对方账户,订单金额（元）,商家实收（元）,\
            支付宝红包（元）,集分宝（元）,支付宝优惠（元）,商家优惠（元）,券核销金额（元）,券名称,\
            商家红包消费金额（元）,卡消费金额（元）,退款批次号/请求号,服务费（元）,分润（元）,备注\n"
            .to_owned();
        for number in 0..count {
            let _ = writeln!(
                text,
                "20251231220014000000{number:08}\t,01JGFZ0000000000000{number:08}1\t,交易\t,报名费,\
                 2025-12-31 08:01:20,2025-12-31 08:01:30,\t,\t,\t,\t,**明(159******20)\t,1.00,1.00,0.00,0.00,\
                 0.00,0.00,0.00,,0.00\t,0.00,\t,-0.01,0.00,"
            );
        }
        let _ = writeln!(
            text,
            "#---业务明细列表结束---\n#交易合计：{count}笔，商家实收共{count}.00元，商家优惠共0.00元"
        );
        GBK.encode(&text).0.into_owned()
    }

    #[test]
    fn a_hundred_thousand_lines_are_read() {
        let lines = read(DATE, Some("2088000000000001"), &zipped(&busy_day(100_000))).unwrap();
        assert_eq!(lines.len(), 100_000);
        let sum = Fen::sum(lines.iter().map(|line| line.fee));
        assert_eq!(sum, Some(Fen::new(100_000)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            prop_assert!(read(DATE, None, &bytes).is_err());
            prop_assert!(read(DATE, None, &zipped(&bytes)).is_err());
        }

        /// Whatever happens to a sheet: an error, or as many lines as it says at its end.
        #[test]
        fn changed_sheets_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
            let mut sheet = busy_day(3);
            for (at, byte) in changes {
                let at = at.index(sheet.len());
                sheet[at] = byte;
            }
            let _ = read(DATE, None, &zipped(&sheet));
        }

        #[test]
        fn a_changed_archive_is_an_error_or_the_same(at: prop::sample::Index, byte: u8) {
            let mut packed = zipped(&busy_day(3));
            let original = read(DATE, None, &packed).unwrap();
            let at = at.index(packed.len());
            packed[at] = byte;
            if let Ok(lines) = read(DATE, None, &packed) {
                prop_assert_eq!(lines, original);
            }
        }
    }
}
