//! Bills: what the provider says, on the day after, that happened. The lines come from the books, as
//! they stood when the bill was made; `planted` makes them wrong on demand; the formats and the calls
//! are each provider's own (`wechatpay/bills.rs`, `alipay/bills.rs`).

mod plant;
pub(super) mod planted;
pub(super) mod sheet;

use std::collections::BTreeMap;

use actix_web::web::Bytes;
use jiff::civil::Date;

pub use plant::{BillFile, Difference, Plant, PlantError, Planted};

use super::books::{Books, Product, Refund, Trade};
use super::people::Wallet;
use super::times;
use crate::order::Timestamp;

/// Bills are made at nine the next morning and never changed after.
const MADE_AT: i8 = 9;

/// One movement of a day: a payment, or a refund that was accepted.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) at: Timestamp,
    pub(super) created_at: Timestamp,
    pub(super) out_trade_no: String,
    pub(super) transaction_id: String,
    /// Person id.
    pub(super) payer: String,
    pub(super) product: Product,
    pub(super) description: String,
    pub(super) attach: String,
    /// Of the payment or of the refund, in fen.
    pub(super) amount: i64,
    /// Taken for a payment, given back for a refund, in fen.
    pub(super) fee: i64,
    pub(super) refund: Option<RefundPart>,
    /// Planted: not the account's own.
    pub(super) appid: Option<String>,
    pub(super) mchid: Option<String>,
    /// Planted: not what the books say.
    pub(super) status: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct RefundPart {
    pub(super) number: String,
    pub(super) id: String,
    /// `PROCESSING`, `SUCCESS`, `ABNORMAL` or `CLOSED` when the bill was made.
    pub(super) status: String,
    pub(super) arrives_at: Timestamp,
    pub(super) reason: String,
    /// Whether money left the account.
    pub(super) counts: bool,
}

/// All there is to say about one day of one account.
#[derive(Clone, Debug)]
pub(super) struct Day {
    pub(super) date: Date,
    pub(super) lines: Vec<Line>,
    /// What the account held at midnight, in fen.
    pub(super) opening: i64,
}

/// What `amount` costs at a rate of hundredths of a percent, half a fen rounded up.
pub(super) const fn fee(amount: i64, rate: i64) -> i64 {
    (amount * rate + 5_000) / 10_000
}

/// `0.60%`
pub(super) fn percent(rate: i64) -> String {
    format!("{}%", times::yuan(rate))
}

impl Day {
    /// One pass over the books. Days are cut by payment success and by refund acceptance.
    pub(super) fn read(books: &Books, wallet: Wallet, date: Date, rate: i64) -> Self {
        Self::of(books.trades_of(wallet), date, rate)
    }

    fn of<'a>(trades: impl IntoIterator<Item = &'a Trade>, date: Date, rate: i64) -> Self {
        let (start, end) = (times::hour_of(date, 0), times::hour_of(after(date), 0));
        let made_at = times::hour_of(after(date), MADE_AT);
        let mut day = Self {
            date,
            lines: Vec::new(),
            opening: 0,
        };
        for trade in trades {
            for capture in &trade.captures {
                let cost = fee(capture.amount, rate);
                if capture.at < start {
                    day.opening += capture.amount - cost;
                } else if capture.at < end {
                    day.lines.push(Line {
                        at: capture.at,
                        amount: capture.amount,
                        fee: cost,
                        ..line(trade, None)
                    });
                }
            }
            // Fees come back pro rata; the last refund of a whole brings back the rest.
            let whole = fee(trade.total, rate);
            let (mut refunded, mut returned) = (0, 0);
            for refund in &trade.refunds {
                let mut back = 0;
                if refund.counts() {
                    refunded += refund.amount;
                    back = whole * refunded / trade.total.max(1) - returned;
                    returned += back;
                }
                if refund.accepted_at < start && refund.counts() {
                    day.opening -= refund.amount - back;
                } else if refund.accepted_at >= start && refund.accepted_at < end {
                    day.lines.push(Line {
                        at: refund.accepted_at,
                        amount: refund.amount,
                        fee: back,
                        ..line(trade, Some(part(refund, made_at)))
                    });
                }
            }
        }
        day
    }
}

fn line(trade: &Trade, refund: Option<RefundPart>) -> Line {
    let capture = trade.captures.first();
    Line {
        at: trade.created_at,
        created_at: trade.created_at,
        out_trade_no: trade.out_trade_no.clone(),
        transaction_id: capture.map_or_else(String::new, |capture| capture.transaction_id.clone()),
        payer: capture.map_or_else(String::new, |capture| capture.by.clone()),
        product: trade.product,
        description: trade.description.clone(),
        attach: trade.attach.clone().unwrap_or_default(),
        amount: 0,
        fee: 0,
        refund,
        appid: None,
        mchid: None,
        status: None,
    }
}

fn part(refund: &Refund, made_at: Timestamp) -> RefundPart {
    RefundPart {
        number: refund.number.clone(),
        id: refund.id.clone(),
        status: refund.status(made_at).to_owned(),
        arrives_at: refund.arrives_at(),
        reason: refund.reason.clone().unwrap_or_default(),
        counts: refund.counts(),
    }
}

/// The day after; at the end of all days the day itself.
pub(super) fn after(date: Date) -> Date {
    date.tomorrow().unwrap_or(date)
}

/// Files behind links that live for a while.
#[derive(Debug, Default)]
pub(super) struct Links {
    files: BTreeMap<String, (Bytes, Timestamp)>,
}

impl Links {
    /// Dead links make room.
    pub(super) fn add(&mut self, token: String, file: Bytes, now: Timestamp, dies_at: Timestamp) {
        self.files.retain(|_, (_, dies_at)| now < *dies_at);
        self.files.insert(token, (file, dies_at));
    }

    pub(super) fn file(&self, token: &str, now: Timestamp) -> Option<Bytes> {
        let (file, dies_at) = self.files.get(token)?;
        (now < *dies_at).then(|| file.clone())
    }
}
