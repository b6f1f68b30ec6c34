//! What stands in WeChat's bill files (protocol §2.5): a header, rows whose every value bears a back-tick,
//! a header of totals, and the totals. Columns are found by name: their order may change.

use std::collections::BTreeMap;
use std::io::{self, Read};

use aws_lc_rs::digest;
use csv::ByteRecord;
use flate2::bufread::MultiGzDecoder;
use jiff::civil::Date;

use crate::order::{Fen, Timestamp};
use crate::provider::bill::{FlowKind, FlowLine, LineKind, LineStanding, TradeLine};
use crate::provider::sheet::{self, Bounded, Columns, Flaw, Sheet, UNPACKED_LIMIT};
use crate::provider::{Bill, BillError, BillKind, beijing};

const TICK: &[u8] = b"`";

/// Columns that an amount may stand in, and what the sum of each is called. Older files have the later
/// names of each list; the first counts coupons in, as our amounts do.
const PAID: [(&str, &str); 3] = [
    ("订单金额", "订单总金额"),
    ("应结订单金额", "应结订单总金额"),
    ("总金额", "总交易额"),
];
const REFUNDED: [(&str, &str); 3] = [
    ("申请退款金额", "申请退款总金额"),
    ("退款金额", "退款总金额"),
    ("退款金额", "总退款金额"),
];

/// Unpacks and reads a file. `hash` is the SHA-1 that was announced, of the unpacked bytes; where it does
/// not fit, that is all there is to say.
pub fn read(
    kind: BillKind,
    date: Date,
    mchid: &str,
    hash: &str,
    packed: &[u8],
) -> Result<Bill, BillError> {
    let unpacked = Bounded::new(MultiGzDecoder::new(packed), UNPACKED_LIMIT);
    let mut sheet = Sheet::over(Hashed {
        file: unpacked,
        // WeChat's choice: it finds damage, and TLS keeps out whoever means ill.
        context: digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY),
    });
    let read = match kind {
        BillKind::Trades => trades(&mut sheet, mchid).map(Bill::Trades),
        BillKind::Flows => flows(&mut sheet).map(Bill::Flows),
    };
    let found = sheet
        .into_inner()
        .finish()
        .map_err(|error| Flaw::File(error.to_string()).of(date))?;
    if !found.eq_ignore_ascii_case(hash) {
        return Err(Flaw::file("its hash is not the one that was announced").of(date));
    }
    read.map_err(|flaw| flaw.of(date))
}

/// Hashes what passes.
struct Hashed<R> {
    file: R,
    context: digest::Context,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.context.update(&buffer[..read]);
        Ok(read)
    }
}

impl<R: Read> Hashed<R> {
    /// The hash of the whole file as hex, whatever was read of it before.
    fn finish(mut self) -> io::Result<String> {
        use std::fmt::Write as _;
        io::copy(&mut self, &mut io::sink())?;
        let digest = self.context.finish();
        Ok(digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        }))
    }
}

fn trades<R: Read>(sheet: &mut Sheet<R>, mchid: &str) -> Result<Vec<TradeLine>, Flaw> {
    let columns = header(sheet)?;
    let at = columns.need(&["交易时间"])?;
    let transaction_id = columns.need(&["微信订单号"])?;
    let out_trade_no = columns.need(&["商户订单号"])?;
    let status = columns.need(&["交易状态"])?;
    let currency = columns.need(&["货币种类"])?;
    let refund_no = columns.need(&["商户退款单号"])?;
    let refund_status = columns.need(&["退款状态"])?;
    let fee = columns.need(&["手续费"])?;
    let paid = columns.need(&PAID.map(|(name, _)| name))?;
    let refunded = columns.need(&REFUNDED.map(|(name, _)| name))?;
    let application = columns.find("公众账号ID");
    let merchant = columns.find("商户号");
    let mut lines = Vec::new();
    let mut sums = (Fen::ZERO, Fen::ZERO);
    let totals = rows(sheet, columns.count(), |row| {
        if let Some(merchant) = merchant
            && row.text(merchant)? != mchid
        {
            let line = row.line;
            return Err(Flaw::File(format!(
                "its line {line} is another merchant number's"
            )));
        }
        let amounts = (row.amount(paid)?, row.amount(refunded)?);
        add(&mut sums.0, amounts.0)?;
        add(&mut sums.1, amounts.1)?;
        let (kind, amount, standing) = match row.text(status)? {
            "SUCCESS" => (LineKind::Payment, amounts.0, LineStanding::Succeeded),
            // REVOKED belongs to a product that is not used here: given back all the same.
            "REFUND" | "REVOKED" => {
                let standing = match row.text(refund_status)? {
                    "SUCCESS" => LineStanding::Succeeded,
                    "PROCESSING" => LineStanding::Processing,
                    "FAIL" => LineStanding::Failed,
                    "CHANGE" => LineStanding::Abnormal,
                    _ => return Err(row.flaw("a refund status that is not for us")),
                };
                (LineKind::Refund, amounts.1, standing)
            }
            _ => return Err(row.flaw("a trade status that is not for us")),
        };
        lines.push(TradeLine {
            line: row.line,
            kind,
            out_trade_no: row.text(out_trade_no)?.into(),
            transaction_id: row.text(transaction_id)?.into(),
            application: application
                .map(|column| row.text(column))
                .transpose()?
                .map(Into::into),
            amount,
            currency: row.text(currency)?.into(),
            at: row.time(at)?,
            standing,
            refund_no: match (kind, row.text(refund_no)?) {
                (LineKind::Payment, _) | (_, "" | "0") => None,
                (LineKind::Refund, number) => Some(number.into()),
            },
            fee: sheet::fee(row.text(fee)?).map_err(|why| row.flaw(why))?,
        });
        Ok(())
    })?;
    totals.count("总交易单数", lines.len())?;
    for (sum, names) in [(sums.0, PAID), (sums.1, REFUNDED)] {
        // The fees' total is left alone: no page says how it takes what refunds give back.
        for (name, total) in names {
            if [paid, refunded].map(Some).contains(&columns.find(name)) {
                totals.sum(total, sum)?;
            }
        }
    }
    Ok(lines)
}

fn flows<R: Read>(sheet: &mut Sheet<R>) -> Result<Vec<FlowLine>, Flaw> {
    let columns = header(sheet)?;
    let at = columns.need(&["记账时间"])?;
    let business_no = columns.need(&["微信支付业务单号"])?;
    let kind = columns.need(&["业务类型", "业务名称"])?;
    let name = columns.need(&["业务名称", "业务类型"])?;
    let direction = columns.need(&["收支类型"])?;
    let amount = columns.need(&["收支金额(元)"])?;
    let balance = columns.find("账户结余(元)");
    let mut lines = Vec::new();
    let (mut incomes, mut earned) = (0, Fen::ZERO);
    let (mut expenses, mut spent) = (0, Fen::ZERO);
    let totals = rows(sheet, columns.count(), |row| {
        let moved = row.amount(amount)?;
        let amount = match row.text(direction)? {
            "收入" => {
                incomes += 1;
                add(&mut earned, moved)?;
                moved
            }
            "支出" => {
                expenses += 1;
                add(&mut spent, moved)?;
                Fen::new(-moved.get())
            }
            _ => return Err(row.flaw("neither income nor expense")),
        };
        let balance = balance
            .map(|column| row.text(column))
            .transpose()?
            .filter(|text| !text.is_empty())
            .map(|text| sheet::yuan(text).map_err(|why| row.flaw(why)))
            .transpose()?;
        lines.push(FlowLine {
            line: row.line,
            at: row.time(at)?,
            business_no: row.text(business_no)?.into(),
            kind: flow_kind(row.text(name)?, row.text(kind)?),
            amount,
            balance,
        });
        Ok(())
    })?;
    totals.count("资金流水总笔数", lines.len())?;
    totals.count("收入笔数", incomes)?;
    totals.count("支出笔数", expenses)?;
    totals.sum("收入金额", earned)?;
    totals.sum("支出金额", spent)?;
    Ok(lines)
}

fn flow_kind(name: &str, kind: &str) -> FlowKind {
    if name.contains("手续费") || kind.contains("手续费") {
        return FlowKind::Fee;
    }
    match kind {
        "交易" => FlowKind::Payment,
        "退款" => FlowKind::Refund,
        other => FlowKind::Other(other.into()),
    }
}

fn header<R: Read>(sheet: &mut Sheet<R>) -> Result<Columns, Flaw> {
    let (_, record) = sheet.next()?.ok_or(Flaw::file("it is empty"))?;
    names(record).ok_or(Flaw::file("it has no header"))
}

fn names(record: &ByteRecord) -> Option<Columns> {
    let names = record
        .iter()
        .map(|name| std::str::from_utf8(name).ok())
        .collect::<Option<Vec<_>>>()?;
    Some(Columns::new(
        names
            .into_iter()
            .map(|name| name.trim_start_matches('\u{feff}')),
    ))
}

/// Hands out each row, then gives the totals that end the file.
fn rows<R: Read>(
    sheet: &mut Sheet<R>,
    width: usize,
    mut take: impl FnMut(&Row<'_>) -> Result<(), Flaw>,
) -> Result<Totals, Flaw> {
    while let Some((line, record)) = sheet.next()? {
        if !record.get(0).is_some_and(|first| first.starts_with(TICK)) {
            let columns = names(record).ok_or(Flaw::line(line, "text that is not UTF-8"))?;
            return totals(sheet, &columns);
        }
        mend(record);
        let row = Row { line, record };
        if row.record.len() != width {
            return Err(row.flaw("another number of columns than the header's"));
        }
        take(&row)?;
    }
    Err(Flaw::file("it ends before its totals"))
}

/// Every value bears a back-tick in front: a piece without one belongs to the value before it, whose text
/// held a comma.
fn mend(record: &mut ByteRecord) {
    if record.iter().all(|piece| piece.starts_with(TICK)) {
        return;
    }
    let mut values: Vec<Vec<u8>> = Vec::new();
    for piece in &*record {
        match values.last_mut() {
            Some(value) if !piece.starts_with(TICK) => {
                value.push(b',');
                value.extend_from_slice(piece);
            }
            _ => values.push(piece.to_vec()),
        }
    }
    *record = ByteRecord::from(values);
}

fn totals<R: Read>(sheet: &mut Sheet<R>, columns: &Columns) -> Result<Totals, Flaw> {
    let (line, record) = sheet
        .next()?
        .ok_or(Flaw::file("it ends before its totals"))?;
    let row = Row { line, record };
    if row.record.len() != columns.count() {
        return Err(row.flaw("another number of totals than announced"));
    }
    let values = columns
        .names()
        .zip(0..)
        .map(|(name, column)| Ok((name.to_owned(), row.total(column)?)))
        .collect::<Result<_, Flaw>>()?;
    match sheet.next()? {
        None => Ok(Totals(values)),
        Some((line, _)) => Err(Flaw::line(line, "a row after the totals")),
    }
}

/// Sums and counts (`45.0`) alike.
struct Totals(BTreeMap<String, Fen>);

impl Totals {
    /// A count that every file has.
    fn count(&self, name: &str, rows: usize) -> Result<(), Flaw> {
        let written = self.0.get(name).map(|count| count.get());
        let rows = i64::try_from(rows)
            .ok()
            .and_then(|rows| rows.checked_mul(100));
        if written.is_some() && written == rows {
            Ok(())
        } else {
            Err(Flaw::File(format!("{name} is not the number of its rows")))
        }
    }

    /// A sum, where the file has one of this name.
    fn sum(&self, name: &str, sum: Fen) -> Result<(), Flaw> {
        if self.0.get(name).is_none_or(|written| *written == sum) {
            Ok(())
        } else {
            Err(Flaw::File(format!("{name} is not the sum of its rows")))
        }
    }
}

struct Row<'a> {
    line: u32,
    record: &'a ByteRecord,
}

impl<'a> Row<'a> {
    fn flaw(&self, why: &'static str) -> Flaw {
        Flaw::line(self.line, why)
    }

    /// A value without its back-tick.
    fn text(&self, column: usize) -> Result<&'a str, Flaw> {
        let value = self.record.get(column).unwrap_or_default();
        let value = value.strip_prefix(TICK).unwrap_or(value);
        let text = std::str::from_utf8(value).map_err(|_| self.flaw("text that is not UTF-8"))?;
        Ok(text.trim())
    }

    /// Never negative: kind and direction have columns of their own.
    fn amount(&self, column: usize) -> Result<Fen, Flaw> {
        sheet::yuan(self.text(column)?)
            .ok()
            .filter(|amount| *amount >= Fen::ZERO)
            .ok_or(self.flaw("an amount that is none"))
    }

    /// A total: that of the fees may well be negative.
    fn total(&self, column: usize) -> Result<Fen, Flaw> {
        sheet::fee(self.text(column)?).map_err(|why| self.flaw(why))
    }

    fn time(&self, column: usize) -> Result<Timestamp, Flaw> {
        beijing::read_plain(self.text(column)?).ok_or(self.flaw("a time that is none"))
    }
}

fn add(sum: &mut Fen, amount: Fen) -> Result<(), Flaw> {
    *sum = sum
        .checked_add(amount)
        .ok_or(Flaw::file("a sum beyond all measure"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;

    use super::*;

    const DATE: Date = jiff::civil::date(2026, 1, 1);

    fn read_text(kind: BillKind, text: &[u8]) -> Result<Bill, BillError> {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        packer.write_all(text).unwrap();
        let file = packer.finish().unwrap();
        let hashed = Hashed {
            file: text,
            context: digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY),
        };
        let hash = hashed.finish().unwrap();
        read(kind, DATE, "1900000001", &hash.to_uppercase(), &file)
    }

    /// A day of `count` payments of one yuan each.
    fn busy_day(count: u32) -> String {
        use std::fmt::Write as _;
        let mut text = "\u{feff}交易时间,公众账号ID,商户号,特约商户号,设备号,微信订单号,商户订单号,\
            用户标识,交易类型,交易状态,付款银行,货币种类,应结订单金额,代金券金额,微信退款单号,商户退款单号,\
            退款金额,充值券退款金额,退款类型,退款状态,商品名称,商户数据包,手续费,费率,订单金额,申请退款金额,\
            费率备注\r\n"
            .to_owned();
        for number in 0..count {
            let _ = write!(
                text,
                "`2026-01-01 08:01:30,`wxd678efh567hg6787,`1900000001,`0,`,`42000026012026010100{number:08},\
                 `01JGFZ0000000000000{number:08}1,`oUpF8uMuAJO_M2pxb1Q9zNjWeS6o,`JSAPI,`SUCCESS,`OTHERS,`CNY,\
                 `1.00,`0.00,`0,`0,`0.00,`0.00,`,`,`报名费-2026春季,`,`0.01000,`0.60%,`1.00,`0.00,`\r\n"
            );
        }
        let _ = write!(
            text,
            "总交易单数,应结订单总金额,退款总金额,充值券退款总金额,手续费总金额,订单总金额,申请退款总金额\r\n\
             `{count}.0,`{count}.0,`0.0,`0.0,`1.0,`{count}.00,`0.0\r\n"
        );
        text
    }

    #[test]
    fn a_hundred_thousand_lines_are_read() {
        let text = busy_day(100_000);
        let Ok(Bill::Trades(lines)) = read_text(BillKind::Trades, text.as_bytes()) else {
            panic!("no bill");
        };
        assert_eq!(lines.len(), 100_000);
        assert_eq!(lines.last().map(|line| line.line), Some(100_001));
        let sum = Fen::sum(lines.iter().map(|line| line.amount));
        assert_eq!(sum, Some(Fen::new(10_000_000)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>, hash: String) {
            for kind in [BillKind::Trades, BillKind::Flows] {
                prop_assert!(read(kind, DATE, "1900000001", &hash, &bytes).is_err());
                prop_assert!(read_text(kind, &bytes).is_err());
            }
        }

        /// Whatever happens to a file: an error, or as many lines as its totals say.
        #[test]
        fn changed_files_never_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
            let mut text = busy_day(3).into_bytes();
            for (at, byte) in changes {
                let at = at.index(text.len());
                text[at] = byte;
            }
            if let Ok(Bill::Trades(lines)) = read_text(BillKind::Trades, &text) {
                prop_assert_eq!(lines.len(), 3);
            }
        }

        #[test]
        fn cut_files_never_pass(at: prop::sample::Index) {
            let text = busy_day(3);
            // Without its last ".0" the last total is the same number: nothing is lost.
            let end = at.index(text.trim_end().trim_end_matches(".0").len());
            prop_assert!(read_text(BillKind::Trades, &text.as_bytes()[..end]).is_err());
        }
    }
}
