//! What a commit is counted and logged as. Nothing personal is in a label or a line.

use std::time::Duration;

use super::{OrdersError, Reply, Verdict};
use crate::order::attempt::EndReason;
use crate::order::state::CaptureStanding;
use crate::order::{Command, Effect, Event, Order, Settlement, Timestamp};
use crate::store::Rejection;

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
        Command::RefundAnswer { .. } => "refund_answer",
        Command::Tick => "tick",
    }
}

pub(super) const fn effect_name(effect: &Effect) -> &'static str {
    match effect {
        Effect::MakeTrade { .. } => "make_trade",
        Effect::QueryTrade { .. } => "query_trade",
        Effect::CloseTrade { .. } => "close_trade",
        Effect::RefundSurplus { .. } => "refund_surplus",
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
        Event::SurplusRefundAsked { .. } => "surplus_refund_asked",
        Event::SurplusRefunded { .. } => "surplus_refunded",
        Event::SurplusRefundFailed { .. } => "surplus_refund_failed",
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
        OrdersError::Stopping => "stopping",
    }
}

pub(super) fn decided_again(rejection: &Rejection) {
    let cause = match rejection {
        Rejection::VersionMoved => "version_moved",
        Rejection::TooLate => "too_late",
        Rejection::AlreadyClaimed => "already_claimed",
        Rejection::CaptureKnown => "capture_known",
        _ => "other",
    };
    metrics::counter!("enrollpay_stale_writes_refused_total", "cause" => cause).increment(1);
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
pub(super) fn committed(before: &Order, after: &Order, events: &[Event], now: Timestamp) {
    let (from, to) = (before.status().as_str(), after.status().as_str());
    if from != to {
        metrics::counter!("enrollpay_order_transitions_total", "from" => from, "to" => to)
            .increment(1);
    }
    for event in events {
        count(before, after, event, now);
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

fn count(before: &Order, after: &Order, event: &Event, now: Timestamp) {
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
            let millis = u64::try_from(now.since(after.created_at)).unwrap_or_default();
            metrics::histogram!("enrollpay_order_time_to_pay_seconds")
                .record(Duration::from_millis(millis));
            return;
        }
        Event::MoneyCaptured { capture } => {
            let standing = match capture.standing {
                CaptureStanding::Kept => "kept",
                CaptureStanding::Surplus { .. } => "surplus",
            };
            metrics::counter!("enrollpay_captures_total", "standing" => standing).increment(1);
            if after
                .terms
                .pay_before
                .is_some_and(|deadline| capture.succeeded_at > deadline)
            {
                metrics::counter!("enrollpay_payments_late_total").increment(1);
            }
            if matches!(before.settlement, Settlement::Paid { .. }) {
                metrics::counter!("enrollpay_payments_duplicate_total").increment(1);
            }
            return;
        }
        Event::MoneyMismatched { .. } => {
            metrics::counter!("enrollpay_captures_total", "standing" => "mismatched").increment(1);
            return;
        }
        Event::AttentionRaised { .. } => {
            tracing::warn!(order = %after.id, "a person must look at this order");
            return;
        }
        _ => return,
    };
    metrics::counter!("enrollpay_attempts_total", "end" => end).increment(1);
}
