//! What happened to an order: the timeline. Replaying its events gives the state (E5).

use serde::{Deserialize, Serialize};

use super::attempt::{Claim, ClosingCause, ClosingStep, EndReason};
use super::ids::{AccountId, AttemptId, AttemptNumber, RefundId};
use super::money::Fen;
use super::refunds::ForeignRefund;
use super::state::{Capture, CloseReason, FiscalReceipt, Mismatch, OperatorHash, SettleBy};
use super::terms::{Product, Terms, Wallet};
use super::time::Timestamp;

/// One fact about one order, in the past tense. It carries all that `evolve` needs beside the
/// instant of the commit that recorded it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    OrderCreated {
        terms: Terms,
    },
    AttemptStarted {
        attempt: AttemptNumber,
        id: AttemptId,
        native: Option<Wallet>,
        expires_at: Timestamp,
    },
    AttemptClaimed {
        attempt: AttemptNumber,
        claim: Claim,
    },
    TradeIntended {
        attempt: AttemptNumber,
        product: Product,
        account: AccountId,
        application: Box<str>,
        time_expire: Timestamp,
    },
    TradeMade {
        attempt: AttemptNumber,
        handle: Box<str>,
    },
    TradeRefused {
        attempt: AttemptNumber,
        code: Box<str>,
    },
    /// Nobody can pay this trade any more.
    TradeDied {
        attempt: AttemptNumber,
    },
    /// The provider was asked. `scheduled` is the new count of scheduled queries.
    ProviderAsked {
        attempt: AttemptNumber,
        scheduled: u8,
    },
    /// The attempt waits for the provider's last word.
    AttemptClosing {
        attempt: AttemptNumber,
        cause: ClosingCause,
    },
    /// The next step of the closing, and when it is due.
    ClosingMoved {
        attempt: AttemptNumber,
        step: ClosingStep,
        next_at: Timestamp,
        tries: u16,
    },
    AttemptSucceeded {
        attempt: AttemptNumber,
    },
    AttemptExpired {
        attempt: AttemptNumber,
    },
    AttemptCancelled {
        attempt: AttemptNumber,
        reason: EndReason,
    },
    AttemptFailed {
        attempt: AttemptNumber,
        code: Box<str>,
    },
    CancelRequested,
    /// Money arrived that fits its trade; `capture.standing` says whether the order owed it.
    MoneyCaptured {
        capture: Capture,
    },
    MoneyMismatched {
        mismatch: Mismatch,
    },
    OrderPaid,
    OrderClosed {
        reason: CloseReason,
    },
    /// A merchant's wish to give money back. The provider is asked at `next_at`, or was with this
    /// commit where `tries` is 1.
    RefundRequested {
        refund: RefundId,
        merchant_refund_no: Box<str>,
        amount: Fen,
        next_at: Timestamp,
        tries: u16,
    },
    /// The provider is asked for a refund, or what became of it; asked again at `next_at`.
    #[serde(alias = "surplus_refund_asked")]
    RefundAsked {
        refund: RefundId,
        next_at: Timestamp,
        tries: u16,
    },
    /// The provider has accepted it: the money is on its way.
    RefundAccepted {
        refund: RefundId,
        next_at: Timestamp,
    },
    /// The provider has accepted it, and the payer's account cannot take it.
    RefundAbnormal {
        refund: RefundId,
        next_at: Timestamp,
    },
    /// An operator has named where the money may go instead.
    RefundRepairAsked {
        refund: RefundId,
        next_at: Timestamp,
    },
    /// The school's balance at the provider is too small for it.
    RefundUnderfunded {
        refund: RefundId,
    },
    /// It begins anew under a new number, after the provider's final no to the last one.
    RefundRenewed {
        refund: RefundId,
        round: u8,
        next_at: Timestamp,
    },
    /// A number that had been given up has gone through after all.
    RefundRoundRevived {
        refund: RefundId,
        round: u8,
    },
    RefundSucceeded {
        refund: RefundId,
    },
    RefundFailed {
        refund: RefundId,
    },
    SurplusRefunded {
        refund: RefundId,
    },
    SurplusRefundFailed {
        refund: RefundId,
    },
    /// Money went back by the provider's own console.
    ForeignRefundHeard {
        foreign: ForeignRefund,
    },
    /// The first of two people says how an odd capture is to be settled.
    SettlementProposed {
        mismatch: u16,
        by: SettleBy,
        operator: OperatorHash,
    },
    /// The second agrees. `refund` where the money goes back.
    MismatchSettled {
        mismatch: u16,
        by: SettleBy,
        operator: OperatorHash,
        refund: Option<RefundId>,
        next_at: Timestamp,
    },
    MismatchRefunded {
        refund: RefundId,
    },
    MismatchRefundFailed {
        refund: RefundId,
    },
    /// The fiscal e-receipt has been issued, or another in its place.
    ReceiptIssued {
        receipt: FiscalReceipt,
    },
    /// A person must look at this order.
    AttentionRaised {
        why: Attention,
    },
}

/// Why a person must look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Attention {
    /// A capture with another amount, currency, account or application.
    MismatchedCapture,
    /// Money that was in time for an order that had closed.
    InTimeAfterClosing,
    SurplusRefundFailed,
    /// The payer's account cannot take a refund.
    RefundAbnormal,
    /// The school's balance at the provider is too small for a refund.
    RefundUnderfunded,
    /// A refund has been pending, or on its way, for too long.
    RefundStuck,
    /// The refund of an odd capture was refused for good.
    MismatchRefundFailed,
    /// Money of this order went back by the provider's console, past these books.
    ForeignRefund,
    /// An attempt that could not be ended within ten minutes of its time.
    ClosingStuck,
}

/// The webhook types of the contract, §4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum WebhookType {
    #[serde(rename = "order.paid")]
    OrderPaid,
    #[serde(rename = "order.closed")]
    OrderClosed,
    #[serde(rename = "order.surplus_refunded")]
    OrderSurplusRefunded,
    #[serde(rename = "order.attention")]
    OrderAttention,
    #[serde(rename = "refund.succeeded")]
    RefundSucceeded,
    #[serde(rename = "refund.failed")]
    RefundFailed,
    #[serde(rename = "receipt.issued")]
    ReceiptIssued,
}

impl WebhookType {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OrderPaid => "order.paid",
            Self::OrderClosed => "order.closed",
            Self::OrderSurplusRefunded => "order.surplus_refunded",
            Self::OrderAttention => "order.attention",
            Self::RefundSucceeded => "refund.succeeded",
            Self::RefundFailed => "refund.failed",
            Self::ReceiptIssued => "receipt.issued",
        }
    }
}

impl Event {
    /// The webhook that this event is told by: exactly one outbox row each (E1).
    pub const fn webhook(&self) -> Option<WebhookType> {
        match self {
            Self::OrderPaid => Some(WebhookType::OrderPaid),
            Self::OrderClosed { .. } => Some(WebhookType::OrderClosed),
            Self::SurplusRefunded { .. } => Some(WebhookType::OrderSurplusRefunded),
            Self::RefundSucceeded { .. } => Some(WebhookType::RefundSucceeded),
            Self::RefundFailed { .. } => Some(WebhookType::RefundFailed),
            Self::ReceiptIssued { .. } => Some(WebhookType::ReceiptIssued),
            Self::AttentionRaised { .. } => Some(WebhookType::OrderAttention),
            _ => None,
        }
    }
}
