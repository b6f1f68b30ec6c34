//! Plants differences, remembers them, and counts the bills that carried them.

use std::collections::{BTreeMap, BTreeSet};

use super::plant::Key;
use super::{BillFile, Day, Difference, Line, Plant, PlantError, Planted, RefundPart, fee};
use crate::simulator::books::{Books, Product};
use crate::simulator::people::{FACES, Wallet};
use crate::simulator::times;
use jiff::civil::Date;

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

/// A day as it is told, wrong where it was planted so.
pub(in crate::simulator) struct Told {
    pub(in crate::simulator) day: Day,
    /// What else is wrong with the file.
    pub(in crate::simulator) faults: BTreeSet<Difference>,
    /// Another account than its own, for the head of the file.
    pub(in crate::simulator) account: Option<String>,
}

/// Which file is asked for.
pub(in crate::simulator) struct Asked {
    pub(in crate::simulator) wallet: Wallet,
    pub(in crate::simulator) date: Date,
    pub(in crate::simulator) file: BillFile,
    pub(in crate::simulator) rate: i64,
}

/// `None` where nothing happened that the file is about. What is handed out is counted.
pub(in crate::simulator) fn tell(
    books: &mut Books,
    asked: &Asked,
    about: impl Fn(&Line) -> bool,
) -> Option<Told> {
    let mut day = Day::read(books, asked.wallet, asked.date, asked.rate);
    corrupt(&mut day, asked.wallet, &books.plants, asked.rate);
    day.lines.retain(about);
    if day.lines.is_empty() {
        return None;
    }
    let text = asked.date.to_string();
    let mut faults = BTreeSet::new();
    let mut account = None;
    for planted in &mut books.plants {
        let plant = &planted.plant;
        if plant.wallet != asked.wallet || plant.day != text {
            continue;
        }
        if plant.what.of_a_line(asked.wallet) {
            planted.served += 1;
        } else if plant.file == asked.file && planted.due() {
            faults.insert(plant.what);
            if plant.what == Difference::Account {
                account.clone_from(&plant.value);
            }
            planted.served += 1;
        }
    }
    Some(Told {
        day,
        faults,
        account,
    })
}
