//! Differences on demand: each one is planted, remembered, and counted when a bill carried it, so that
//! a test can ask for exactly these to be found.

use std::collections::{BTreeMap, BTreeSet};

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::{Day, Line, RefundPart, fee};
use crate::simulator::books::{Books, Product};
use crate::simulator::people::{FACES, Wallet};
use crate::simulator::times;

/// What is to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    // One line, in all files of the day.
    /// The line is not there.
    Missing,
    /// A payment (or, with `out_refund_no`, a refund) that never was. Its number may be one of ours.
    Extra,
    /// The line says `amount`.
    Amount,
    /// The line says `value`: `PROCESSING` for a refund, `REVOKED` for a payment, if none is given.
    /// `WeChat` only: Alipay's lines have no state.
    Status,
    /// The line says appid `value`. `WeChat` only.
    Appid,
    /// The line says mchid `value`; at Alipay, where lines have no account, the head of the file does.
    Account,
    // One whole file.
    /// `hash_value` is that of other bytes. `WeChat` only.
    HashMismatch,
    /// Half the bytes.
    Truncated,
    /// The last column first, and so on.
    ColumnsReordered,
    /// As before coupons existed: other column names, and the newest columns are missing.
    EarlyFormat,
    /// The link is dead when it arrives.
    ExpiredLink,
    /// A row that is none.
    GarbageRow,
    /// The totals below the rows are not their sums.
    WrongTotals,
}

impl Difference {
    /// Whether it is about one line.
    pub const fn of_a_line(self, wallet: Wallet) -> bool {
        match self {
            Self::Missing | Self::Extra | Self::Amount | Self::Status | Self::Appid => true,
            Self::Account => matches!(wallet, Wallet::Wechat),
            _ => false,
        }
    }
}

/// Which file of the day; lines are the same in all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BillFile {
    #[default]
    Trade,
    /// `WeChat` only.
    FundFlow,
}

/// One difference, as `POST /control/bills/plant` takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plant {
    pub wallet: Wallet,
    /// `2026-01-01`, in Beijing.
    pub day: String,
    pub what: Difference,
    /// The line, or the number of an extra one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_trade_no: Option<String>,
    /// The refund's line instead of the payment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_refund_no: Option<String>,
    /// Of an extra line: chosen if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction_id: Option<String>,
    /// Of an extra refund: chosen if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refund_id: Option<String>,
    /// Fen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    #[serde(default)]
    pub file: BillFile,
    /// In how many answers a file is wrong; absent: in all. Lines are wrong for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
}

impl Plant {
    pub fn new(wallet: Wallet, day: &str, what: Difference) -> Self {
        Self {
            wallet,
            day: day.to_owned(),
            what,
            out_trade_no: None,
            out_refund_no: None,
            transaction_id: None,
            refund_id: None,
            amount: None,
            value: None,
            file: BillFile::Trade,
            times: None,
        }
    }

    #[must_use]
    pub fn payment(mut self, out_trade_no: &str) -> Self {
        self.out_trade_no = Some(out_trade_no.to_owned());
        self
    }

    #[must_use]
    pub fn refund(mut self, out_trade_no: &str, out_refund_no: &str) -> Self {
        self.out_refund_no = Some(out_refund_no.to_owned());
        self.payment(out_trade_no)
    }

    #[must_use]
    pub fn amount(mut self, fen: i64) -> Self {
        self.amount = Some(fen);
        self
    }

    #[must_use]
    pub fn value(mut self, value: &str) -> Self {
        self.value = Some(value.to_owned());
        self
    }

    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    #[must_use]
    pub fn fund_flow(mut self) -> Self {
        self.file = BillFile::FundFlow;
        self
    }

    fn key(&self) -> Option<Key> {
        Some((self.out_trade_no.clone()?, self.out_refund_no.clone()))
    }
}

/// A line of a day: the order's number, and the refund's if it is one.
type Key = (String, Option<String>);

/// A difference in force: the plant with everything that was left open filled in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planted {
    pub id: u64,
    pub plant: Plant,
    /// What the books say instead: fen for `amount`, a word for `status`, an account's own number.
    pub truth: Option<String>,
    /// In how many files handed out it has been.
    pub served: u32,
}

/// Why nothing was planted: the list must stay exact.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlantError {
    #[error("day: expected yyyy-MM-dd")]
    Day,
    #[error("{0}: required here")]
    Required(&'static str),
    #[error("the books have no such line on that day")]
    NoSuchLine,
    #[error("that line is already wrong, or that file in this way")]
    Again,
    #[error("the line says this anyhow")]
    NoDifference,
    #[error("this provider's bills have nothing of the kind")]
    NotHere,
}

/// What a plant is checked against.
pub(in crate::simulator) struct Ground<'a> {
    pub(in crate::simulator) rate: i64,
    pub(in crate::simulator) appid: &'a str,
    pub(in crate::simulator) mchid: &'a str,
    /// For extra lines that bring no number of their own.
    pub(in crate::simulator) new_number: &'a dyn Fn() -> String,
}

pub(in crate::simulator) fn plant(
    books: &mut Books,
    mut plant: Plant,
    ground: &Ground<'_>,
) -> Result<Planted, PlantError> {
    use Difference as D;

    let date = times::parse_date(&plant.day).ok_or(PlantError::Day)?;
    let alipay = plant.wallet == Wallet::Alipay;
    if alipay
        && (matches!(plant.what, D::Status | D::Appid | D::HashMismatch)
            || plant.file == BillFile::FundFlow)
    {
        return Err(PlantError::NotHere);
    }
    if plant.file == BillFile::FundFlow && plant.what == D::EarlyFormat {
        return Err(PlantError::NotHere);
    }
    let same_day =
        |other: &&Planted| other.plant.wallet == plant.wallet && other.plant.day == plant.day;
    let mut truth = None;
    if plant.what.of_a_line(plant.wallet) {
        let key = plant.key().ok_or(PlantError::Required("out_trade_no"))?;
        if plant.what == D::Extra {
            extra(books, &mut plant, date, ground)?;
        } else {
            if books
                .plants
                .iter()
                .filter(same_day)
                .any(|other| other.plant.what != D::Extra && other.plant.key() == Some(key.clone()))
            {
                return Err(PlantError::Again);
            }
            let day = Day::of(books.trade(plant.wallet, &key.0), date, ground.rate);
            let line = day
                .lines
                .iter()
                .find(|line| key_of(line) == key)
                .ok_or(PlantError::NoSuchLine)?;
            truth = change(&mut plant, line, ground)?;
        }
    } else {
        if plant.what == D::Account {
            plant
                .value
                .get_or_insert_with(|| "20889999999999990156".to_owned());
            truth = Some(format!("{}0156", ground.mchid));
        }
        let again = books.plants.iter().filter(same_day).any(|other| {
            other.plant.what == plant.what && other.plant.file == plant.file && other.due()
        });
        if again {
            return Err(PlantError::Again);
        }
    }
    let planted = Planted {
        id: books.next_number(),
        plant,
        truth,
        served: 0,
    };
    books.plants.push(planted.clone());
    Ok(planted)
}

/// Fills in what an extra line says, and sees that it is really one more.
fn extra(
    books: &Books,
    plant: &mut Plant,
    date: Date,
    ground: &Ground<'_>,
) -> Result<(), PlantError> {
    let Some(number) = plant.out_trade_no.clone() else {
        return Err(PlantError::Required("out_trade_no"));
    };
    if plant.amount.unwrap_or(1) < 1 {
        return Err(PlantError::Required("amount"));
    }
    plant.amount.get_or_insert(1);
    // A refund of ours names our payment; every other extra line has a transaction of its own.
    let ours = books
        .trade(plant.wallet, &number)
        .and_then(|trade| trade.captures.first())
        .map(|capture| capture.transaction_id.clone())
        .filter(|_| plant.out_refund_no.is_some());
    plant
        .transaction_id
        .get_or_insert_with(|| ours.unwrap_or_else(ground.new_number));
    if plant.out_refund_no.is_some() {
        plant.refund_id.get_or_insert_with(ground.new_number);
    }
    let told = books
        .trades_of(plant.wallet)
        .any(|trade| match &plant.out_refund_no {
            Some(number) => trade
                .refunds
                .iter()
                .any(|refund| refund.number == *number && times::date(refund.accepted_at) == date),
            None => trade.captures.iter().any(|capture| {
                Some(&capture.transaction_id) == plant.transaction_id.as_ref()
                    && times::date(capture.at) == date
            }),
        });
    let planted = books
        .plants
        .iter()
        .map(|planted| &planted.plant)
        .any(|other| {
            other.what == Difference::Extra
                && (other.wallet, &other.day) == (plant.wallet, &plant.day)
                && other.out_refund_no == plant.out_refund_no
                && (plant.out_refund_no.is_some() || other.transaction_id == plant.transaction_id)
        });
    if told || planted {
        return Err(PlantError::Again);
    }
    Ok(())
}

/// Completes a change of one line. What the line says in truth.
fn change(
    plant: &mut Plant,
    line: &Line,
    ground: &Ground<'_>,
) -> Result<Option<String>, PlantError> {
    use Difference as D;

    let (default, truth) = match plant.what {
        D::Amount => {
            let amount = plant
                .amount
                .filter(|amount| *amount > 0)
                .ok_or(PlantError::Required("amount"))?;
            if amount == line.amount {
                return Err(PlantError::NoDifference);
            }
            return Ok(Some(line.amount.to_string()));
        }
        D::Status => match &line.refund {
            Some(refund) => ("PROCESSING", refund.status.as_str()),
            None => ("REVOKED", "SUCCESS"),
        },
        D::Appid => ("wx0000000000000000", ground.appid),
        D::Account => ("1999999999", ground.mchid),
        _ => return Ok(None),
    };
    let value = plant.value.get_or_insert_with(|| default.to_owned());
    if value == truth {
        return Err(PlantError::NoDifference);
    }
    Ok(Some(truth.to_owned()))
}

impl Planted {
    /// Whether its times are not used up.
    fn due(&self) -> bool {
        self.plant.times.is_none_or(|times| self.served < times)
    }
}

fn key_of(line: &Line) -> Key {
    let refund = line.refund.as_ref().map(|refund| refund.number.clone());
    (line.out_trade_no.clone(), refund)
}

/// Makes the lines of a day as wrong as they were planted.
fn corrupt(day: &mut Day, wallet: Wallet, plants: &[Planted], rate: i64) {
    let text = day.date.to_string();
    let of_today: Vec<&Plant> = plants
        .iter()
        .map(|planted| &planted.plant)
        .filter(|plant| plant.wallet == wallet && plant.day == text && plant.what.of_a_line(wallet))
        .collect();
    if of_today.is_empty() {
        return;
    }
    let changes: BTreeMap<Key, &Plant> = of_today
        .iter()
        .filter(|plant| plant.what != Difference::Extra)
        .filter_map(|plant| Some((plant.key()?, *plant)))
        .collect();
    day.lines.retain_mut(|line| {
        let Some(plant) = changes.get(&key_of(line)) else {
            return true;
        };
        match plant.what {
            Difference::Missing => return false,
            Difference::Amount => {
                line.amount = plant.amount.unwrap_or_default();
                line.fee = fee(line.amount, rate);
            }
            Difference::Status => line.status.clone_from(&plant.value),
            Difference::Appid => line.appid.clone_from(&plant.value),
            Difference::Account => line.mchid.clone_from(&plant.value),
            _ => {}
        }
        true
    });
    let extra = of_today
        .iter()
        .filter(|plant| plant.what == Difference::Extra);
    day.lines
        .extend(extra.map(|plant| invented(plant, day.date, rate)));
}

fn invented(plant: &Plant, date: Date, rate: i64) -> Line {
    let noon = times::hour_of(date, 12);
    let amount = plant.amount.unwrap_or_default();
    let payer = FACES
        .iter()
        .find(|(_, wallet, _)| *wallet == plant.wallet)
        .map_or("", |(id, ..)| *id);
    Line {
        at: noon,
        created_at: noon.minus_ms(30_000),
        out_trade_no: plant.out_trade_no.clone().unwrap_or_default(),
        transaction_id: plant.transaction_id.clone().unwrap_or_default(),
        payer: payer.to_owned(),
        product: match plant.wallet {
            Wallet::Wechat => Product::Jsapi,
            Wallet::Alipay => Product::Create,
        },
        description: "报名费".to_owned(),
        attach: String::new(),
        amount,
        fee: fee(amount, rate),
        refund: plant.out_refund_no.as_ref().map(|number| RefundPart {
            number: number.clone(),
            id: plant.refund_id.clone().unwrap_or_default(),
            status: "SUCCESS".to_owned(),
            arrives_at: noon,
            reason: String::new(),
            counts: true,
        }),
        appid: None,
        mchid: None,
        status: None,
    }
}

/// A day as it will be told, and what else is wrong with the file. Counts what it hands out.
pub(in crate::simulator) fn told(
    books: &mut Books,
    wallet: Wallet,
    date: Date,
    file: BillFile,
    rate: i64,
) -> (Day, BTreeSet<Difference>, Option<String>) {
    let mut day = Day::read(books, wallet, date, rate);
    corrupt(&mut day, wallet, &books.plants, rate);
    let text = date.to_string();
    let mut wrong = BTreeSet::new();
    let mut account = None;
    for planted in &mut books.plants {
        let plant = &planted.plant;
        if plant.wallet != wallet || plant.day != text {
            continue;
        }
        let line = plant.what.of_a_line(wallet);
        if line || (plant.file == file && planted.due()) {
            planted.served += 1;
            if !line {
                wrong.insert(plant.what);
                if plant.what == Difference::Account {
                    account.clone_from(&plant.value);
                }
            }
        }
    }
    (day, wrong, account)
}
