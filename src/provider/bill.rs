//! A provider's bill of one day, as the connectors read it: the lines that reconciliation compares with
//! our rows. Each connector turns its provider's file into these; amounts are positive fen.

use jiff::civil::Date;

use crate::order::{Fen, Timestamp};

/// Which of a day's bills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BillKind {
    /// Every payment and refund.
    Trades,
    /// Every movement of the account's balance, fees included. Not every provider offers it.
    Flows,
}

/// One day's bill, whole or not at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bill {
    Trades(Vec<TradeLine>),
    Flows(Vec<FlowLine>),
}

impl Bill {
    /// The bill of a day on which nothing happened.
    pub const fn empty(kind: BillKind) -> Self {
        match kind {
            BillKind::Trades => Self::Trades(Vec::new()),
            BillKind::Flows => Self::Flows(Vec::new()),
        }
    }
}

/// One payment or refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TradeLine {
    /// Its line in the file, from 1.
    pub line: u32,
    pub kind: LineKind,
    /// As written: it may be no number of ours.
    pub out_trade_no: Box<str>,
    /// `transaction_id` or `trade_no`.
    pub transaction_id: Box<str>,
    /// `appid`; Alipay's bill names none.
    pub application: Option<Box<str>>,
    pub amount: Fen,
    pub currency: Box<str>,
    /// Of a payment, its success; of a refund, when it was accepted or done.
    pub at: Timestamp,
    pub standing: LineStanding,
    /// `out_refund_no` / `out_request_no`, with refunds.
    pub refund_no: Option<Box<str>>,
    /// What the provider keeps (positive) or gives back with a refund (negative).
    pub fee: Fen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LineKind {
    Payment,
    Refund,
}

/// How far a line's money is, in the bill's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LineStanding {
    Succeeded,
    Processing,
    Failed,
    /// A refund that could not reach the payer (`CHANGE`).
    Abnormal,
}

/// One movement of the account's balance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowLine {
    pub line: u32,
    pub at: Timestamp,
    /// The provider's number of the trade or refund that moved it.
    pub business_no: Box<str>,
    pub kind: FlowKind,
    /// Positive where the balance grows.
    pub amount: Fen,
    /// After this movement, where the bill says.
    pub balance: Option<Fen>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlowKind {
    Payment,
    Refund,
    Fee,
    /// Withdrawals and whatever else, in the provider's word.
    Other(Box<str>),
}

/// Why there is no bill.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BillError {
    #[error("the provider has not made the bill of {date} yet: ask again later")]
    NotReady { date: Date },
    #[error("the provider refused: {code}")]
    Refused { code: String },
    #[error("the provider could not be asked: {why}")]
    Unavailable { why: String },
    /// The file is not what was announced: nothing of it is believed.
    #[error("the bill of {date} is damaged: {why}")]
    Damaged { date: Date, why: String },
    #[error("line {line} of the bill of {date} cannot be read: {why}")]
    Unreadable { date: Date, line: u32, why: String },
    /// The provider has no such bill for this account.
    #[error("this provider offers no such bill")]
    NotOffered,
}
