//! What can be planted in a bill: differences on demand, so that a test can ask for exactly these to be
//! found.

use serde::{Deserialize, Serialize};

use crate::simulator::people::Wallet;

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

    pub(super) fn key(&self) -> Option<Key> {
        Some((self.out_trade_no.clone()?, self.out_refund_no.clone()))
    }
}

/// A line of a day: the order's number, and the refund's if it is one.
pub(super) type Key = (String, Option<String>);

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

impl Planted {
    /// Whether its times are not used up.
    pub(super) fn due(&self) -> bool {
        self.plant.times.is_none_or(|times| self.served < times)
    }
}
