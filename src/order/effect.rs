//! What the shell must do after the commit, and what a command that changed nothing is told.

use serde::{Deserialize, Serialize};

use super::ids::{AttemptNumber, RefundId};
use super::money::Fen;
use super::terms::Wallet;
use super::time::Timestamp;

/// An act in the world. It leaves only after the commit that intends it (O4); its result returns as
/// a command; `Tick` intends it again where the result never came.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// Ask the provider for the trade of this attempt.
    MakeTrade {
        attempt: AttemptNumber,
    },
    QueryTrade {
        attempt: AttemptNumber,
    },
    CloseTrade {
        attempt: AttemptNumber,
    },
    /// Ask the provider for a refund under its own number, or what became of it.
    Refund {
        refund: RefundId,
    },
    /// Tell the provider where the money of an abnormal refund may go instead.
    RepairRefund {
        refund: RefundId,
    },
}

/// What `command` means for an order at an instant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    /// Committed first; the effects leave afterwards.
    Applied {
        events: Vec<super::event::Event>,
        effects: Vec<Effect>,
    },
    /// Said before: answer the same, change nothing. Effects may repeat a call whose answer is
    /// still missing; they need no commit, for their intent is on disk.
    Already(Answer, Vec<Effect>),
    /// A name, what was expected, what was found. Nothing changes.
    Refused(Refusal),
}

/// Why nothing had to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The state already is what was asked for.
    Same,
    /// The provider was asked less than two seconds ago: its answer is shared.
    AskedJustNow,
    /// Nothing is due.
    NothingDue,
    /// News about something that is over.
    Stale,
}

/// Why a command is refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    AlreadyPaid,
    OrderClosed,
    /// The order is being cancelled: no new attempt starts.
    CancelPending,
    /// No attempt starts in the last 120 s before the deadline.
    DeadlinePassed {
        pay_before: Timestamp,
    },
    /// The live attempt cannot be ended yet.
    AttemptClosing {
        retry_at: Timestamp,
    },
    /// No claim in the last 75 s before the deadline or the last 15 s of its attempt.
    TooLate {
        until: Timestamp,
    },
    AlreadyScanned,
    AttemptExpired,
    AttemptSuperseded,
    AttemptCancelled,
    /// The provider refused to make the trade.
    AttemptFailed,
    /// Pay or release by somebody who has not claimed.
    NotClaimed,
    UnknownAttempt,
    /// Native mode needs a wallet.
    WalletRequired,
    /// The order's merchant has no account for it, or the product does not fit the mode.
    WalletNotOffered {
        wallet: Wallet,
    },
    /// 1023 attempts are enough.
    TooManyAttempts,
    /// Only a paid order has a receipt.
    NotPaid,
    /// Nothing to give back: the order is not paid.
    NotRefundable,
    /// More than the payment less its pending and succeeded refunds.
    RefundExceedsCaptured {
        remaining: Fen,
    },
    /// The merchant's refund number stands for another amount.
    RefundNoConflict {
        existing: RefundId,
    },
    /// 50 refunds of one payment are the provider's most.
    TooManyRefunds,
    UnknownRefund,
    /// It is not in a state that this could help.
    RefundStands,
    UnknownMismatch,
    /// It is settled, or about to be.
    MismatchSettled,
    /// The second person must want the same as the first.
    OtherProposal,
    /// Money in another currency or of an unknown account, or that was told of in a form that counts
    /// already, cannot go back by itself.
    CannotGoBack,
}
