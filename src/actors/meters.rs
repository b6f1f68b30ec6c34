//! What a commit is counted and logged as. Nothing personal is in a label or a line.

use std::time::Duration;

use super::{OrdersError, Reply, Verdict};
use crate::order::attempt::EndReason;
use crate::order::event::Attention;
use crate::order::state::CaptureStanding;
use crate::order::{Command, Effect, Event, Fen, Order, Settlement};

pub(super) const fn command_name(command: &Command) -> &'static str {
    match command {
        Command::StartAttempt { .. } => "start_attempt",
        Command::Claim { .. } => "claim",
        Command::Pay { .. } => "pay",
        Command::Release { .. } => "release",
        Command::Query => "query",
        Command::Cancel => "cancel",
        Command::TradeAnswer { .. } => "trade_answer",
        Command::QueryAnswer { .. } => "query_answer",
        Command::CloseAnswer { .. } => "close_answer",
        Command::Capture(_) => "capture",
        Command::Refund { .. } => "refund",
        Command::RefundAnswer { .. } => "refund_answer",
        Command::RetryRefund { .. } => "retry_refund",
        Command::RepairRefund { .. } => "repair_refund",
        Command::SettleMismatch { .. } => "settle_mismatch",
        Command::IssueReceipt { .. } => "issue_receipt",
        Command::ForeignRefund(_) => "foreign_refund",
        Command::Tick => "tick",
    }
}

pub(super) const fn effect_name(effect: &Effect) -> &'static str {
    match effect {
        Effect::MakeTrade { .. } => "make_trade",
        Effect::QueryTrade { .. } => "query_trade",
        Effect::CloseTrade { .. } => "close_trade",
        Effect::Refund { .. } => "refund",
        Effect::RepairRefund { .. } => "repair_refund",
    }
}

const fn event_name(event: &Event) -> &'static str {
    match event {
        Event::OrderCreated { .. } => "order_created",
        Event::AttemptStarted { .. } => "attempt_started",
        Event::AttemptClaimed { .. } => "attempt_claimed",
        Event::TradeIntended { .. } => "trade_intended",
        Event::TradeMade { .. } => "trade_made",
        Event::TradeRefused { .. } => "trade_refused",
        Event::TradeDied { .. } => "trade_died",
        Event::ProviderAsked { .. } => "provider_asked",
        Event::AttemptClosing { .. } => "attempt_closing",
        Event::ClosingMoved { .. } => "closing_moved",
        Event::AttemptSucceeded { .. } => "attempt_succeeded",
        Event::AttemptExpired { .. } => "attempt_expired",
        Event::AttemptCancelled { .. } => "attempt_cancelled",
        Event::AttemptFailed { .. } => "attempt_failed",
        Event::CancelRequested => "cancel_requested",
        Event::MoneyCaptured { .. } => "money_captured",
        Event::MoneyMismatched { .. } => "money_mismatched",
        Event::OrderPaid => "order_paid",
        Event::OrderClosed { .. } => "order_closed",
        Event::RefundRequested { .. } => "refund_requested",
        Event::RefundAsked { .. } => "refund_asked",
        Event::RefundAccepted { .. } => "refund_accepted",
        Event::RefundAbnormal { .. } => "refund_abnormal",
        Event::RefundRepairAsked { .. } => "refund_repair_asked",
        Event::RefundUnderfunded { .. } => "refund_underfunded",
        Event::RefundRenewed { .. } => "refund_renewed",
        Event::RefundRoundRevived { .. } => "refund_round_revived",
        Event::RefundSucceeded { .. } => "refund_succeeded",
        Event::RefundFailed { .. } => "refund_failed",
        Event::SurplusRefunded { .. } => "surplus_refunded",
        Event::SurplusRefundFailed { .. } => "surplus_refund_failed",
        Event::ForeignRefundHeard { .. } => "foreign_refund_heard",
        Event::SettlementProposed { .. } => "settlement_proposed",
        Event::MismatchSettled { .. } => "mismatch_settled",
        Event::MismatchRefunded { .. } => "mismatch_refunded",
        Event::MismatchRefundFailed { .. } => "mismatch_refund_failed",
        Event::ReceiptIssued { .. } => "receipt_issued",
        Event::AttentionRaised { .. } => "attention_raised",
    }
}

pub(super) fn answered(command: &'static str, answer: &Result<Reply, OrdersError>, took: Duration) {
    let verdict = match answer {
        Ok(Reply { verdict, .. }) => match verdict {
            Verdict::Applied => "applied",
            Verdict::Already(_) => "already",
            Verdict::Refused(_) => "refused",
        },
        Err(error) => error_name(error),
    };
    metrics::histogram!(
        "enrollpay_command_duration_seconds",
        "command" => command,
        "verdict" => verdict
    )
    .record(took);
}

pub(super) const fn error_name(error: &OrdersError) -> &'static str {
    match error {
        OrdersError::NotFound => "not_found",
        OrdersError::Overloaded { .. } => "overloaded",
        OrdersError::Rejected(_) => "rejected",
        OrdersError::Store(_) => "store",
        OrdersError::ActorLost => "actor_lost",
        OrdersError::NoOwner => "no_owner",
        OrdersError::Stopping => "stopping",
    }
}

pub(super) fn violated(invariant: &'static str) {
    metrics::counter!("enrollpay_invariant_violations_total", "invariant" => invariant)
        .increment(1);
}

pub(super) fn created(order: &Order) {
    metrics::counter!("enrollpay_orders_created_total").increment(1);
    tracing::info!(order = %order.id, version = order.version, to = order.status().as_str(), "order_created");
}

/// After the commit: one line, and every count that follows from its events.
pub(super) fn committed(before: &Order, after: &Order, events: &[Event]) {
    let (from, to) = (before.status().as_str(), after.status().as_str());
    if from != to {
        metrics::counter!("enrollpay_order_transitions_total", "from" => from, "to" => to)
            .increment(1);
    }
    for event in events {
        count(before, after, event);
    }
    let names: Vec<_> = events.iter().map(event_name).collect();
    tracing::info!(
        order = %after.id,
        version = after.version,
        from,
        to,
        "{}",
        names.join(" ")
    );
}

fn count(before: &Order, after: &Order, event: &Event) {
    let end = match event {
        Event::AttemptSucceeded { .. } => "succeeded",
        Event::AttemptExpired { .. } => "expired",
        Event::AttemptFailed { .. } => "failed",
        Event::AttemptCancelled { reason, .. } => match reason {
            EndReason::Cancelled => "cancelled",
            EndReason::Superseded => "superseded",
            EndReason::Released => "released",
        },
        Event::OrderPaid => {
            if let Some(payment) = after.payment() {
                let millis = payment.succeeded_at.since(after.created_at);
                metrics::histogram!(
                    "enrollpay_order_time_to_pay_seconds",
                    "wallet" => payment.wallet.as_str()
                )
                .record(Duration::from_millis(
                    u64::try_from(millis).unwrap_or_default(),
                ));
            }
            return;
        }
        Event::MoneyCaptured { capture } => {
            let standing = match capture.standing {
                CaptureStanding::Kept => "kept",
                CaptureStanding::Surplus { .. } => "surplus",
            };
            captured(standing, capture.amount);
            let ended = before
                .attempt(capture.attempt)
                .is_some_and(|attempt| !attempt.is_live());
            if ended {
                metrics::counter!("enrollpay_payments_late_total").increment(1);
            }
            if matches!(before.settlement, Settlement::Paid { .. }) {
                metrics::counter!("enrollpay_payments_duplicate_total").increment(1);
            }
            return;
        }
        Event::MoneyMismatched { mismatch } => {
            captured("mismatched", mismatch.amount);
            return;
        }
        Event::AttentionRaised { why } => {
            let why = attention_name(*why);
            metrics::counter!("enrollpay_attention_total", "why" => why).increment(1);
            tracing::warn!(order = %after.id, why, "a person must look at this order");
            return;
        }
        _ => return,
    };
    metrics::counter!("enrollpay_attempts_total", "end" => end).increment(1);
}

fn captured(standing: &'static str, amount: Fen) {
    metrics::counter!("enrollpay_captures_total", "standing" => standing).increment(1);
    metrics::counter!("enrollpay_captured_fen_total", "standing" => standing)
        .increment(u64::try_from(amount.get()).unwrap_or_default());
}

const fn attention_name(why: Attention) -> &'static str {
    match why {
        Attention::MismatchedCapture => "mismatched_capture",
        Attention::InTimeAfterClosing => "in_time_after_closing",
        Attention::SurplusRefundFailed => "surplus_refund_failed",
        Attention::RefundAbnormal => "refund_abnormal",
        Attention::RefundUnderfunded => "refund_underfunded",
        Attention::RefundStuck => "refund_stuck",
        Attention::MismatchRefundFailed => "mismatch_refund_failed",
        Attention::ForeignRefund => "foreign_refund",
        Attention::ClosingStuck => "closing_stuck",
    }
}
