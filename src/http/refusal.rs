//! What the heart's and the actors' refusals are called outside.

use super::problem::{Code, Problem};
use crate::actors::OrdersError;
use crate::order::{Refusal, Timestamp};
use crate::store::{Rejection, StoreError, StoredOrder};
use crate::view::View;

/// A refused command, said to whoever asked for it.
pub fn refused(refusal: &Refusal, stored: &StoredOrder, view: &View, now: Timestamp) -> Problem {
    let problem = match refusal {
        Refusal::AlreadyPaid => Problem::new(Code::AlreadyPaid, "The order is paid.")
            .with("receipt_url", view.receipt_url(stored.order.id)),
        Refusal::OrderClosed => Problem::new(Code::OrderClosed, "The order is closed."),
        Refusal::CancelPending => Problem::new(
            Code::CancelPending,
            "The order is being cancelled: no new attempt starts.",
        )
        .retry_after(2),
        Refusal::DeadlinePassed { pay_before } => Problem::new(
            Code::DeadlinePassed,
            "No attempt starts in the last 120 s before pay_before, nor after it.",
        )
        .with("pay_before", view.time(*pay_before))
        .with("server_time", view.time(now)),
        Refusal::AttemptClosing { retry_at } => attempt_closing(*retry_at, view, now),
        Refusal::TooLate { until } => Problem::new(
            Code::TooLate,
            "Too little time is left for a payment to finish.",
        )
        .with("until", view.time(*until)),
        Refusal::AlreadyScanned => Problem::new(
            Code::AlreadyScanned,
            "Somebody else scanned this code first.",
        ),
        Refusal::AttemptExpired => Problem::new(Code::AttemptExpired, "The code's time is up."),
        Refusal::AttemptSuperseded => {
            Problem::new(Code::AttemptSuperseded, "A newer code took its place.")
        }
        Refusal::AttemptCancelled => {
            Problem::new(Code::AttemptCancelled, "The code was withdrawn.")
        }
        Refusal::AttemptFailed => Problem::new(
            Code::AttemptFailed,
            "The provider refused to make the trade.",
        ),
        Refusal::NotClaimed => {
            Problem::new(Code::NotClaimed, "Only who scanned this code may do this.")
        }
        // But for the first, operators' commands, which no merchant can send.
        Refusal::UnknownAttempt
        | Refusal::UnknownRefund
        | Refusal::UnknownMismatch
        | Refusal::MismatchSettled
        | Refusal::OtherProposal
        | Refusal::CannotGoBack => Problem::not_found(),
        Refusal::WalletRequired => Problem::new(
            Code::ValidationFailed,
            "This order shows the provider's own codes: name the wallet.",
        )
        .at("/wallet", "missing; expected \"wechat\" or \"alipay\""),
        Refusal::WalletNotOffered { wallet } => Problem::new(
            Code::ValidationFailed,
            format!("This order cannot be paid by {}.", wallet.as_str()),
        )
        .at("/wallet", "expected one of the order's wallets"),
        Refusal::TooManyAttempts => Problem::new(
            Code::TooManyAttempts,
            "The order has had as many attempts as an order can have.",
        ),
        Refusal::NotPaid => Problem::new(
            Code::NotPaid,
            "Expected an order that is paid; this one is not, so there is no receipt of it.",
        ),
        Refusal::NotRefundable => Problem::new(
            Code::NotRefundable,
            "Expected an order that is paid; this one is not, so there is nothing to give back.",
        ),
        Refusal::RefundExceedsCaptured { remaining } => Problem::new(
            Code::RefundExceedsCaptured,
            format!("Expected at most {} fen.", remaining.get()),
        )
        .with("remaining", remaining.get()),
        Refusal::RefundNoConflict { existing } => Problem::new(
            Code::MerchantRefundNoConflict,
            "A refund with this merchant_refund_no exists with another amount.",
        )
        .with("existing_id", existing.to_string()),
        Refusal::TooManyRefunds => Problem::new(
            Code::TooManyRefunds,
            "The payment has had as many refunds as the provider allows.",
        ),
        Refusal::RefundStands => Problem::new(
            Code::NotRefundable,
            "The refund is over, or not in a state that this could help.",
        ),
    };
    problem
        .with("order_status", stored.order.status().as_str())
        .with("order_id", stored.order.id.to_string())
}

/// The earlier attempt cannot be ended yet.
pub fn attempt_closing(retry_at: Timestamp, view: &View, now: Timestamp) -> Problem {
    Problem::new(
        Code::AttemptClosing,
        "The earlier code's trade cannot be ended at the provider yet: try again at retry_at.",
    )
    .with("retry_at", view.time(retry_at))
    .with("server_time", view.time(now))
    .retry_after(2)
}

/// A request that got no reply from its order.
pub fn unanswered(error: &OrdersError, view: &View) -> Problem {
    match error {
        OrdersError::NotFound => Problem::not_found(),
        OrdersError::Overloaded {
            retry_after_seconds,
        } => Problem::new(Code::Overloaded, "Too much is under way. Nothing was done.")
            .retry_after((*retry_after_seconds).max(1)),
        OrdersError::Rejected(rejection) => rejected(rejection, view),
        OrdersError::Store(error) => store_failed(error),
        OrdersError::ActorLost => store_problem(),
        OrdersError::NoOwner => Problem::new(
            Code::Overloaded,
            "The order is changing hands between two nodes. Nothing was done.",
        )
        .retry_after(1),
        OrdersError::Stopping => Problem::new(
            Code::Overloaded,
            "The gateway is stopping. Nothing was done.",
        )
        .retry_after(2),
    }
}

/// A transaction that the store refused.
pub fn rejected(rejection: &Rejection, view: &View) -> Problem {
    match rejection {
        Rejection::NonceReplayed { first_seen } => Problem::new(
            Code::NonceReplayed,
            "This nonce was used before: expected a new one for every request.",
        )
        .with("first_seen", view.time(*first_seen)),
        Rejection::IdempotencyKeyTaken(_) => in_progress(),
        Rejection::RuleBroken { rule } => {
            tracing::error!(rule, "the store refused a write of ours");
            Problem::new(Code::InternalError, "The gateway failed unexpectedly.")
        }
        Rejection::MerchantOrderNoTaken { existing } => Problem::new(
            Code::MerchantOrderNoConflict,
            "An order with this merchant_order_no exists.",
        )
        .with("existing_id", existing.to_string()),
        Rejection::MerchantRefundNoTaken {
            existing_order,
            existing,
        } => Problem::new(
            Code::MerchantRefundNoConflict,
            "A refund with this merchant_refund_no exists, of another order.",
        )
        .with("existing_id", existing.to_string())
        .with("existing_order_id", existing_order.to_string()),
        Rejection::BillTaken { bill } => Problem::new(
            Code::BillPaying,
            "An order has the bill, or nobody may pay it any more.",
        )
        .with("bill_id", bill.to_string()),
        Rejection::VersionMoved
        | Rejection::FenceMoved
        | Rejection::TooLate
        | Rejection::AlreadyClaimed
        | Rejection::CaptureKnown
        | Rejection::EpochMoved { .. }
        | Rejection::ShardHeld
        | Rejection::OperatorTaken
        | Rejection::MerchantBillNoTaken { .. }
        | Rejection::DeliveryMoved => Problem::new(
            Code::Overloaded,
            "The order changed at the same moment. Nothing was done.",
        )
        .retry_after(1),
    }
}

/// The first request under the same key has not ended yet.
pub fn in_progress() -> Problem {
    Problem::new(
        Code::RequestInProgress,
        "The first request under this Idempotency-Key is still running.",
    )
    .retry_after(2)
}

/// The store gave no answer.
pub fn store_failed(error: &StoreError) -> Problem {
    tracing::error!(%error, "the store gave no answer");
    store_problem()
}

fn store_problem() -> Problem {
    Problem::new(
        Code::StoreUnavailable,
        "The store could not be used, or its answer was lost. Repeating the request with the same \
         Idempotency-Key is safe and shows what happened.",
    )
    .retry_after(2)
}
