//! The order: the state that `decide` reads and `evolve` writes.

use serde::{Deserialize, Serialize};

use super::attempt::Attempt;
use super::ids::{AccountId, AttemptNumber, OrderId, RefundId};
use super::money::{CURRENCY, Fen};
pub use super::refunds::{ForeignRefund, Refund, RefundStanding};
use super::terms::{Terms, Wallet};
use super::time::Timestamp;

/// Everything the state machine knows of one order. Texts and personal data stand elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Order {
    pub id: OrderId,
    /// One step per commit; the arbiter of every write (O1).
    pub version: u64,
    pub created_at: Timestamp,
    pub terms: Terms,
    pub settlement: Settlement,
    /// An accepted cancel is a durable intent: no new attempt starts.
    pub cancel_requested_at: Option<Timestamp>,
    /// In the order of their numbers; the last one may be live.
    pub attempts: Vec<Attempt>,
    /// Every capture that fits its trade, in the order we heard of them.
    pub captures: Vec<Capture>,
    /// Money that does not fit: kept as evidence, waits for two people (M3).
    pub mismatches: Vec<Mismatch>,
    /// The merchant's refunds of the payment, in the order they were asked for.
    #[serde(default)]
    pub refunds: Vec<Refund>,
    /// Refunds that nobody asked us for, by number.
    #[serde(default)]
    pub foreign_refunds: Vec<ForeignRefund>,
    /// The fiscal e-receipt, once the school has it: payment never waits for it.
    #[serde(default)]
    pub fiscal_receipt: Option<FiscalReceipt>,
}

/// A fiscal e-receipt (财政电子票据) as the school's own system issued it. Nothing personal is in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FiscalReceipt {
    pub number: Box<str>,
    /// Where the payer can see it.
    pub url: Box<str>,
    pub issued_at: Timestamp,
}

/// The order's end, or that it has none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settlement {
    Open,
    /// Final: `paid` never becomes anything else (M7).
    Paid {
        at: Timestamp,
    },
    /// Final: `closed` never becomes `paid`; later money is surplus (M7).
    Closed {
        at: Timestamp,
        reason: CloseReason,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CloseReason {
    Cancelled,
    Deadline,
}

impl CloseReason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::Deadline => "deadline",
        }
    }
}

/// Money that a provider says it has taken for a trade: a fact, whenever we hear of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Capture {
    pub attempt: AttemptNumber,
    pub wallet: Wallet,
    /// The provider's number of it; unique per account.
    pub transaction_id: Box<str>,
    pub amount: Fen,
    /// The provider's success time: what deadlines are judged by.
    pub succeeded_at: Timestamp,
    pub heard_at: Timestamp,
    pub standing: CaptureStanding,
}

/// What the order makes of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureStanding {
    /// It pays the order. At most one does (M2).
    Kept,
    /// The order does not owe it: it goes back whole, once, by one refund.
    Surplus {
        refund: RefundId,
        standing: RefundStanding,
        /// How often it began anew, each time under a new number (see `refunds`).
        #[serde(default)]
        round: u8,
    },
}

/// A verified notice of ours that does not fit its trade.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Mismatch {
    pub attempt: AttemptNumber,
    pub transaction_id: Box<str>,
    pub amount: Fen,
    pub field: MismatchedField,
    pub heard_at: Timestamp,
    /// Whose account has the money; missing in rows of the first schema.
    #[serde(default)]
    pub account: Option<AccountId>,
    #[serde(default)]
    pub currency: Option<Box<str>>,
    #[serde(default)]
    pub standing: MismatchStanding,
}

impl Mismatch {
    /// Is it an amount that these books can count?
    pub fn counts(&self) -> bool {
        self.currency.as_deref() == Some(CURRENCY) && self.amount > Fen::ZERO
    }

    /// Does it wait for nobody any more?
    pub const fn is_settled(&self) -> bool {
        matches!(
            self.standing,
            MismatchStanding::SettledOutside { .. }
                | MismatchStanding::GoingBack {
                    standing: RefundStanding::Succeeded { .. },
                    ..
                }
        )
    }
}

/// How far two people are with an odd capture.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum MismatchStanding {
    #[default]
    Waiting,
    /// One person has said how; another must agree.
    Proposed {
        by: SettleBy,
        operator: OperatorHash,
        at: Timestamp,
    },
    /// What the school did about it is not in these books.
    SettledOutside { at: Timestamp },
    /// It goes back whole, by one refund.
    GoingBack {
        refund: RefundId,
        standing: RefundStanding,
        round: u8,
    },
}

/// How an odd capture is settled. Never as a payment (contract §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettleBy {
    Refund,
    Outside,
}

impl SettleBy {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refund => "refund",
            Self::Outside => "outside",
        }
    }
}

/// A keyed hash that stands for one operator: equality is all the heart needs.
pub type OperatorHash = super::attempt::PayerHash;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MismatchedField {
    Amount,
    Currency,
    Account,
    Application,
    /// No trade was ever intended under this number.
    Trade,
}

/// The contract's order status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Unpaid,
    Paying,
    Paid,
    Closed,
}

impl Status {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unpaid => "unpaid",
            Self::Paying => "paying",
            Self::Paid => "paid",
            Self::Closed => "closed",
        }
    }
}

impl Order {
    pub fn status(&self) -> Status {
        match self.settlement {
            Settlement::Paid { .. } => Status::Paid,
            Settlement::Closed { .. } => Status::Closed,
            Settlement::Open if self.live_attempt().is_some() => Status::Paying,
            Settlement::Open => Status::Unpaid,
        }
    }

    /// The one attempt that is shown, scanned or closing (Q1: there is at most one).
    pub fn live_attempt(&self) -> Option<&Attempt> {
        self.attempts.iter().rev().find(|attempt| attempt.is_live())
    }

    pub fn attempt(&self, number: AttemptNumber) -> Option<&Attempt> {
        self.attempts.get(usize::from(number.get()).checked_sub(1)?)
    }

    pub fn attempt_mut(&mut self, number: AttemptNumber) -> Option<&mut Attempt> {
        self.attempts
            .get_mut(usize::from(number.get()).checked_sub(1)?)
    }

    /// The capture that pays the order.
    pub fn payment(&self) -> Option<&Capture> {
        self.captures
            .iter()
            .find(|capture| capture.standing == CaptureStanding::Kept)
    }

    /// Is this odd capture money of its own? One transaction is one sum of money, however often and in
    /// whatever form it is told of.
    pub fn mismatch_counts(&self, place: usize) -> bool {
        let Some((mismatch, earlier)) =
            self.mismatches.get(place).zip(self.mismatches.get(..place))
        else {
            return false;
        };
        let same = |transaction_id: &str| *transaction_id == *mismatch.transaction_id;
        mismatch.counts()
            && !earlier.iter().any(|other| same(&other.transaction_id))
            && !self
                .captures
                .iter()
                .any(|capture| same(&capture.transaction_id))
    }

    pub const fn is_open(&self) -> bool {
        matches!(self.settlement, Settlement::Open)
    }
}
