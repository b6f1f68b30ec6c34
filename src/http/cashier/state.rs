//! Which state a page is in: a function of the order as committed and the instant, nothing else.

use crate::order::attempt::{Attempt, EndReason, Phase, TradeStanding};
use crate::order::decide::NO_START_MS;
use crate::order::state::CaptureStanding;
use crate::order::{CloseReason, CodeMode, Order, Settlement, Timestamp};
use crate::store::{OrderSnapshot, PayerIdentity};

/// From here on the page counts the seconds in words.
pub const WARNING_MS: i64 = 60_000;
/// A closing that lasts longer is called unverified.
pub const UNVERIFIED_AFTER_MS: i64 = 10_000;

/// The states of the cashier, one heading and one sentence each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The payer ticks that the details are right before the first code.
    Review,
    /// Something was paid for the same purpose: look before a first code.
    Notice,
    /// No code yet.
    Ready,
    /// Native mode: the payer picks a wallet first.
    Choose,
    /// No code can start so close to the deadline.
    TooClose,
    /// Native mode: the provider's code is being fetched.
    Loading,
    Awaiting,
    Warning,
    Scanned,
    /// The old code is off because somebody asked for a new one, and the new one has not started.
    Superseded,
    Released,
    Confirming,
    Unverified,
    Cancelling,
    /// Money came that does not fit: a person looks.
    Mismatch,
    Paid,
    PaidLate,
    Duplicate,
    LateAfterClosing,
    Expired,
    Failed,
    Cancelled,
    Deadline,
}

impl State {
    pub const ALL: [Self; 23] = [
        Self::Review,
        Self::Notice,
        Self::Ready,
        Self::Choose,
        Self::TooClose,
        Self::Loading,
        Self::Awaiting,
        Self::Warning,
        Self::Scanned,
        Self::Superseded,
        Self::Released,
        Self::Confirming,
        Self::Unverified,
        Self::Cancelling,
        Self::Mismatch,
        Self::Paid,
        Self::PaidLate,
        Self::Duplicate,
        Self::LateAfterClosing,
        Self::Expired,
        Self::Failed,
        Self::Cancelled,
        Self::Deadline,
    ];

    /// For the page's script and the JSON state.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Review => "review",
            Self::Notice => "notice",
            Self::Ready => "ready",
            Self::Choose => "choose",
            Self::TooClose => "too_close",
            Self::Loading => "loading",
            Self::Awaiting => "awaiting",
            Self::Warning => "warning",
            Self::Scanned => "scanned",
            Self::Superseded => "superseded",
            Self::Released => "released",
            Self::Confirming => "confirming",
            Self::Unverified => "unverified",
            Self::Cancelling => "cancelling",
            Self::Mismatch => "mismatch",
            Self::Paid => "paid",
            Self::PaidLate => "paid_late",
            Self::Duplicate => "duplicate",
            Self::LateAfterClosing => "late_after_closing",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Deadline => "deadline",
        }
    }

    /// The state of an order at an instant.
    pub fn of(order: &Order, snapshot: &OrderSnapshot, now: Timestamp) -> Self {
        match order.settlement {
            Settlement::Paid { .. } => Self::of_paid(order),
            Settlement::Closed { .. } if has_surplus(order) => Self::LateAfterClosing,
            Settlement::Closed { reason, .. } => match reason {
                CloseReason::Cancelled => Self::Cancelled,
                CloseReason::Deadline => Self::Deadline,
            },
            Settlement::Open if order.cancel_requested_at.is_some() => Self::Cancelling,
            Settlement::Open => match order.live_attempt() {
                Some(live) => Self::of_live(live, now),
                None => Self::of_idle(order, snapshot, now),
            },
        }
    }

    fn of_paid(order: &Order) -> Self {
        if has_surplus(order) {
            return Self::Duplicate;
        }
        let late = order.payment().is_some_and(|payment| {
            order
                .attempt(payment.attempt)
                .is_some_and(|attempt| payment.heard_at > attempt.expires_at)
        });
        if late { Self::PaidLate } else { Self::Paid }
    }

    fn of_live(live: &Attempt, now: Timestamp) -> Self {
        let remaining = live.expires_at.since(now);
        match &live.phase {
            Phase::Closing(closing) if now.since(closing.since) >= UNVERIFIED_AFTER_MS => {
                Self::Unverified
            }
            Phase::Closing(_) => Self::Confirming,
            _ if remaining <= 0 => Self::Confirming,
            Phase::Scanned => Self::Scanned,
            _ if live.native.is_some() && !is_made(live) => Self::Loading,
            _ if remaining <= WARNING_MS => Self::Warning,
            _ => Self::Awaiting,
        }
    }

    fn of_idle(order: &Order, snapshot: &OrderSnapshot, now: Timestamp) -> Self {
        if !order.mismatches.is_empty() {
            return Self::Mismatch;
        }
        if order
            .terms
            .pay_before
            .is_some_and(|deadline| deadline.since(now) < NO_START_MS)
        {
            return Self::TooClose;
        }
        match order.attempts.last().map(|last| &last.phase) {
            None if snapshot.possible_duplicate.is_some() => Self::Notice,
            None if snapshot.payer_identity == PayerIdentity::Confirm => Self::Review,
            None if order.terms.mode == CodeMode::Native => Self::Choose,
            None => Self::Ready,
            Some(Phase::Failed { .. }) => Self::Failed,
            Some(Phase::Cancelled { reason, .. }) => match reason {
                EndReason::Released => Self::Released,
                EndReason::Superseded | EndReason::Cancelled => Self::Superseded,
            },
            Some(_) => Self::Expired,
        }
    }

    /// When time alone may change the state next: a page that waits looks again then.
    pub fn changes_at(order: &Order, now: Timestamp) -> Option<Timestamp> {
        let live = order.live_attempt();
        let instants = [
            live.map(|live| live.expires_at),
            live.map(|live| live.expires_at.minus_ms(WARNING_MS)),
            live.and_then(|live| match &live.phase {
                Phase::Closing(closing) => Some(closing.since.plus_ms(UNVERIFIED_AFTER_MS)),
                _ => None,
            }),
            order
                .terms
                .pay_before
                .filter(|_| order.is_open())
                .map(|deadline| deadline.minus_ms(NO_START_MS).plus_ms(1)),
        ];
        instants
            .into_iter()
            .flatten()
            .filter(|instant| *instant > now)
            .min()
    }

    /// Nothing about the order will change by itself any more.
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Self::Paid | Self::PaidLate | Self::Cancelled | Self::Deadline
        )
    }
}

fn is_made(attempt: &Attempt) -> bool {
    attempt
        .trade
        .as_ref()
        .is_some_and(|trade| matches!(trade.standing, TradeStanding::Made { .. }))
}

fn has_surplus(order: &Order) -> bool {
    order
        .captures
        .iter()
        .any(|capture| matches!(capture.standing, CaptureStanding::Surplus { .. }))
}
