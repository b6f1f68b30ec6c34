//! What reaches the books without the wire: thousands of payments at a stroke, and refunds that
//! somebody makes by hand in the merchant's console.

use serde::Deserialize;

use super::books::{Capture, Product, Refund, Refusal, State, Trade};
use super::people::{FACES, Wallet};
use super::world::World;
use super::{alipay, wechatpay};
use crate::order::Timestamp;

/// A payment that happened, with its refunds. Nobody is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Booking {
    pub wallet: Wallet,
    /// A trade that waits is paid; an unknown number becomes a trade.
    pub out_trade_no: String,
    /// Fen.
    pub amount: i64,
    /// Unix milliseconds.
    pub at: Timestamp,
    /// Person id; absent: the first face of the wallet.
    #[serde(default)]
    pub payer: Option<String>,
    /// Absent: the provider chooses.
    #[serde(default)]
    pub transaction_id: Option<String>,
    #[serde(default)]
    pub refunds: Vec<BookedRefund>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BookedRefund {
    /// `out_refund_no` / `out_request_no`.
    pub number: String,
    pub amount: i64,
    /// Accepted and done.
    pub at: Timestamp,
}

impl Booking {
    pub fn new(wallet: Wallet, out_trade_no: &str, amount: i64, at: Timestamp) -> Self {
        Self {
            wallet,
            out_trade_no: out_trade_no.to_owned(),
            amount,
            at,
            payer: None,
            transaction_id: None,
            refunds: Vec::new(),
        }
    }

    #[must_use]
    pub fn transaction(mut self, id: &str) -> Self {
        self.transaction_id = Some(id.to_owned());
        self
    }

    #[must_use]
    pub fn refunded(mut self, number: &str, amount: i64, at: Timestamp) -> Self {
        self.refunds.push(BookedRefund {
            number: number.to_owned(),
            amount,
            at,
        });
        self
    }
}

/// Books them one after the other, up to the first that cannot be.
pub(super) fn book(
    world: &World,
    bookings: impl IntoIterator<Item = Booking>,
) -> Result<Vec<Capture>, Refusal> {
    let mut books = world.books();
    let mut captures = Vec::new();
    for booking in bookings {
        let (wallet, at) = (booking.wallet, booking.at);
        let sequence = books.next_number();
        let new = Trade {
            exists: true,
            trade_no: booking.transaction_id.clone(),
            ..blank(&booking)
        };
        let known = books.trade(wallet, &booking.out_trade_no).is_some();
        if !known {
            books.insert(new);
        }
        let trade = books
            .trade_mut(wallet, &booking.out_trade_no)
            .ok_or(Refusal::Unknown)?;
        if trade.state != State::Waiting {
            return Err(match trade.state {
                State::Closed => Refusal::Closed,
                _ => Refusal::Paid,
            });
        }
        if trade.total != booking.amount {
            return Err(Refusal::OtherAmount);
        }
        let back: i64 = booking.refunds.iter().map(|refund| refund.amount).sum();
        if back > trade.total || booking.refunds.iter().any(|refund| refund.amount < 1) {
            return Err(Refusal::TooMuch);
        }
        let capture = Capture {
            transaction_id: booking
                .transaction_id
                .or_else(|| trade.trade_no.clone())
                .unwrap_or_else(|| world.trade_no_of(wallet, sequence, at)),
            amount: trade.total,
            at,
            by: booking
                .payer
                .or_else(|| trade.buyer.clone())
                .unwrap_or_else(|| first_face(wallet)),
        };
        trade.exists = true;
        trade.state = State::Paid;
        trade.buyer = Some(capture.by.clone());
        trade.trade_no = Some(capture.transaction_id.clone());
        trade.captures.push(capture.clone());
        for (index, refund) in booking.refunds.into_iter().enumerate() {
            // Several refunds of one booking share its sequence number.
            let number = sequence * 100 + index as u64;
            trade.refunds.push(Refund::accepted(
                &refund.number,
                refund_id(wallet, number, refund.at),
                refund.amount,
                refund.at,
            ));
        }
        captures.push(capture);
    }
    Ok(captures)
}

fn first_face(wallet: Wallet) -> String {
    FACES
        .iter()
        .find(|(_, face, _)| *face == wallet)
        .map_or_else(String::new, |(id, ..)| (*id).to_owned())
}

fn refund_id(wallet: Wallet, number: u64, at: Timestamp) -> String {
    match wallet {
        Wallet::Wechat => wechatpay::refunds::refund_id(number, at),
        Wallet::Alipay => alipay::refunds::refund_id(number, at),
    }
}

fn blank(booking: &Booking) -> Trade {
    Trade {
        wallet: booking.wallet,
        out_trade_no: booking.out_trade_no.clone(),
        product: match booking.wallet {
            Wallet::Wechat => Product::Jsapi,
            Wallet::Alipay => Product::Create,
        },
        state: State::Waiting,
        exists: false,
        total: booking.amount,
        description: "报名费".to_owned(),
        attach: None,
        notify_url: None,
        return_url: None,
        time_expire: booking.at,
        created_at: booking.at.minus_ms(30_000),
        closed_at: None,
        fingerprint: String::new(),
        buyer: None,
        identity: None,
        begun_at: None,
        trade_no: None,
        code: None,
        captures: Vec::new(),
        refunds: Vec::new(),
        notices: Vec::new(),
    }
}

/// A refund that somebody makes by hand: no number of ours, in the books and bills like any other.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleRefund {
    pub wallet: Wallet,
    pub out_trade_no: String,
    /// Fen; absent: all that is left.
    #[serde(default)]
    pub amount: Option<i64>,
    /// Absent: a number of the console's own kind.
    #[serde(default)]
    pub out_refund_no: Option<String>,
    /// Whether it is told: by `WeChat` in the XML of APIv2, by Alipay as any refund.
    #[serde(default)]
    pub notify: bool,
    /// Where; absent: the order's address.
    #[serde(default)]
    pub notify_url: Option<String>,
}

impl ConsoleRefund {
    pub fn new(wallet: Wallet, out_trade_no: &str) -> Self {
        Self {
            wallet,
            out_trade_no: out_trade_no.to_owned(),
            amount: None,
            out_refund_no: None,
            notify: false,
            notify_url: None,
        }
    }
}

/// The refund, and the notice to send if there is one.
pub(super) fn refund_by_hand(
    world: &World,
    asked: &ConsoleRefund,
) -> Result<(Refund, Option<String>), Refusal> {
    let wallet = asked.wallet;
    let now = world.now();
    let mut books = world.books();
    let sequence = books.next_number();
    if let Some(number) = &asked.out_refund_no
        && books
            .refunding(wallet, |refund| refund.number == *number)
            .is_some()
    {
        return Err(Refusal::NumberUsed);
    }
    let trade = books
        .trade_mut(wallet, &asked.out_trade_no)
        .ok_or(Refusal::Unknown)?;
    if trade.state != State::Paid {
        return Err(Refusal::NotPaid);
    }
    let rest = trade.total - trade.refunded();
    let amount = asked.amount.unwrap_or(rest);
    if !(1..=rest).contains(&amount) {
        return Err(Refusal::TooMuch);
    }
    let number = asked
        .out_refund_no
        .clone()
        .unwrap_or_else(|| format!("1012{}{sequence:010}", super::times::compact_date(now)));
    let mut refund = Refund {
        by_console: true,
        ..Refund::accepted(&number, refund_id(wallet, sequence, now), amount, now)
    };
    if wallet == Wallet::Wechat {
        refund.done_at = now.plus_ms(wechatpay::refunds::wait(world));
    }
    trade.refunds.push(refund.clone());
    let url = asked
        .notify_url
        .clone()
        .or_else(|| trade.notify_url.clone())
        .filter(|_| asked.notify);
    let notice = url.map(|url| match wallet {
        Wallet::Wechat => wechatpay::notice::refunded_v2(world, &url),
        Wallet::Alipay => alipay::notice::refunded(world, trade, &refund, &url),
    });
    let id = notice.map(|notice| {
        let id = notice.id.clone();
        trade.notices.push(notice);
        id
    });
    Ok((refund, id))
}
