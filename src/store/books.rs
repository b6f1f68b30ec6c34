//! Rows of money that the store derives from events: what a reader of the books gets.

use serde::{Deserialize, Serialize};

use crate::order::{
    AccountId, AttemptNumber, Fen, MerchantId, OrderId, RefundCause, RefundId, Timestamp,
};

/// One refund in one round: one number at the provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefundRow {
    /// Whose account gives the money back.
    pub account: AccountId,
    /// Our number of it there.
    pub number: String,
    pub id: RefundId,
    /// 0, and one more each time it began anew after the provider's final no.
    pub round: u8,
    pub order: OrderId,
    pub attempt: AttemptNumber,
    /// The provider's number of the capture that it draws on.
    pub transaction_id: String,
    pub cause: RefundCause,
    pub merchant: MerchantId,
    /// Of a merchant's own refund only.
    pub merchant_refund_no: Option<String>,
    pub amount: Fen,
    pub status: RefundStatus,
    pub requested_at: Timestamp,
    /// When it succeeded or failed.
    pub ended_at: Option<Timestamp>,
}

/// The contract's word for how a refund stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RefundStatus {
    Pending,
    Abnormal,
    Succeeded,
    Failed,
}

impl RefundStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Abnormal => "abnormal",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

/// One line of the ledger. The lines of one event, that is of one version and position, sum to zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerLine {
    pub order: OrderId,
    pub version: u64,
    /// Of the event within its commit.
    pub position: u16,
    pub line: u8,
    /// As `order::ledger::Book` spells it.
    pub book: String,
    /// Positive where the book gains.
    pub amount: Fen,
    pub at: Timestamp,
}
