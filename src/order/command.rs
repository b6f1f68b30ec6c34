//! What may be asked of an order, and what providers answer.

use serde::{Deserialize, Serialize};

use super::attempt::PayerHash;
use super::ids::{AccountId, AttemptId, AttemptNumber, RefundId};
use super::money::Fen;
use super::refunds::ForeignRefund;
use super::state::{OperatorHash, SettleBy};
use super::terms::{Product, Wallet};
use super::time::Timestamp;

/// A question, a wish or a piece of news for one order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Show a new code. Native mode names the wallet. A live attempt is superseded: ended at the
    /// provider first, so the new one may have to wait (`Refusal::AttemptClosing`).
    StartAttempt {
        id: AttemptId,
        wallet: Option<Wallet>,
    },
    /// The scan: take the attempt for one payer.
    Claim {
        attempt: AttemptNumber,
        payer: PayerHash,
        product: Product,
    },
    /// 确认付款 by the claimant: intend the trade, or hand out the one that was made.
    Pay {
        attempt: AttemptNumber,
        payer: PayerHash,
    },
    /// The claimant gives the code up. It is never claimable again.
    Release {
        attempt: AttemptNumber,
        payer: PayerHash,
    },
    /// Ask the provider about the live attempt now (查询缴费结果). Asked less than two seconds ago:
    /// `Already(Answer::AskedJustNow)`.
    Query,
    /// Close the order.
    Cancel,
    /// The provider's answer to the order call.
    TradeAnswer {
        attempt: AttemptNumber,
        answer: TradeAnswer,
    },
    /// The provider's answer to a query.
    QueryAnswer {
        attempt: AttemptNumber,
        answer: QueryAnswer,
    },
    /// The provider's answer to a close.
    CloseAnswer {
        attempt: AttemptNumber,
        answer: CloseAnswer,
    },
    /// A verified success, from a notice or a bill (a query's comes in `QueryAnswer`).
    Capture(CaptureReport),
    /// A merchant gives back the payment, in full or in part. The number is the merchant's: asked for
    /// again with the same amount, it is the same refund.
    Refund {
        refund: RefundId,
        merchant_refund_no: Box<str>,
        amount: Fen,
    },
    /// The provider's answer about a refund, asked for or told by a notice or a bill. It is of the
    /// number of one round; of one that was given up, only a success counts.
    RefundAnswer {
        refund: RefundId,
        round: u8,
        answer: RefundAnswer,
    },
    /// An operator has a refund tried again: one that the provider refused for good, under a new
    /// number; one that is pending, now.
    RetryRefund { refund: RefundId },
    /// An operator has named where the money of an abnormal refund may go instead.
    RepairRefund { refund: RefundId },
    /// One of the two people who settle an odd capture. The first proposes, another confirms.
    SettleMismatch {
        /// Its place in `Order::mismatches`.
        mismatch: u16,
        by: SettleBy,
        operator: OperatorHash,
        /// The id for its refund, should that be the way. Used at most once.
        refund: RefundId,
    },
    /// The merchant tells where the fiscal e-receipt (财政电子票据) of a paid order is; another one takes
    /// the place of the first. Without a time of issue, it is the instant of the commit.
    IssueReceipt {
        number: Box<str>,
        url: Box<str>,
        issued_at: Option<Timestamp>,
    },
    /// The provider tells of a refund that nobody asked us for, made in its own console.
    ForeignRefund(ForeignRefund),
    /// Time has passed: do whatever is due. Early or spurious ones are harmless.
    Tick,
}

/// What came of asking for a trade.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TradeAnswer {
    Made {
        handle: Box<str>,
    },
    /// Proof that no trade exists under this number.
    Refused {
        code: Box<str>,
    },
    /// Timeout, 5xx, unverifiable answer: it may exist.
    Unknown,
}

/// What the provider says of a trade.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueryAnswer {
    Paid(CaptureReport),
    /// It exists and can still be paid.
    Unpaid,
    /// The provider knows no such number.
    NotFound,
    /// Closed without a payment: the last word.
    Closed,
    /// No answer that proves anything.
    Unknown,
}

/// What the provider says to a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseAnswer {
    Closed,
    AlreadyPaid,
    /// Too early, or the payer is at the password page.
    NotYet,
    /// The provider knows no such trade.
    NotFound,
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundAnswer {
    Succeeded,
    /// Accepted, not yet done.
    Processing,
    /// Accepted, and the payer's account cannot take it: somebody must name another destination.
    Abnormal,
    /// Not accepted: the school's own balance is too small. The same number works once it is not.
    Underfunded,
    /// The provider's final no under this number: no money left, and none will.
    Failed,
    Unknown,
}

/// A success as a provider reported and signed it. It becomes a `Capture` only where every field
/// equals the attempt's frozen request (M3): `decide::capture` is the one constructor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CaptureReport {
    pub attempt: AttemptNumber,
    pub account: AccountId,
    pub application: Box<str>,
    pub transaction_id: Box<str>,
    pub amount: Fen,
    pub currency: Box<str>,
    pub succeeded_at: Timestamp,
    /// The id for the refund of this capture, should the order not owe it. Used at most once.
    pub surplus_refund: RefundId,
}
