//! What a phone is told of an attempt, and of a refusal.

use actix_web::http::StatusCode;

use crate::http::words::Words;
use crate::order::attempt::{Attempt, ClosingCause, EndReason, Phase};
use crate::order::{Order, Refusal, Settlement, Timestamp};
use crate::provider::OTHER_PERSON;

/// How a code stands, for whoever holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It can be claimed, or is claimed and can be paid.
    Open,
    Paid,
    Closed,
    Expired,
    Superseded,
    Cancelled,
    Released,
    Failed,
    /// Failed, because the wallet is not the named payer's.
    OtherPerson,
    TooLate,
    /// The provider has not yet said how it ended.
    Confirming,
    /// Somebody else was first.
    ScannedByOther,
    NotYours,
}

impl Standing {
    pub fn of(order: &Order, attempt: &Attempt, now: Timestamp) -> Self {
        match order.settlement {
            Settlement::Paid { .. } => return Self::Paid,
            Settlement::Closed { .. } => return Self::Closed,
            Settlement::Open => {}
        }
        match &attempt.phase {
            Phase::Shown | Phase::Scanned if now < attempt.expires_at => Self::Open,
            Phase::Shown | Phase::Scanned if !attempt.may_be_payable() => Self::Expired,
            Phase::Shown | Phase::Scanned | Phase::Succeeded { .. } => Self::Confirming,
            Phase::Closing(closing) => match closing.cause {
                ClosingCause::Ended(EndReason::Superseded) => Self::Superseded,
                _ => Self::Confirming,
            },
            Phase::Expired { .. } => Self::Expired,
            Phase::Cancelled { reason, .. } => match reason {
                EndReason::Cancelled => Self::Cancelled,
                EndReason::Superseded => Self::Superseded,
                EndReason::Released => Self::Released,
            },
            Phase::Failed { code, .. } if **code == *OTHER_PERSON => Self::OtherPerson,
            Phase::Failed { .. } => Self::Failed,
        }
    }

    /// The same, with what the attempt itself knows of its failure.
    #[must_use]
    pub fn seen_in(self, attempt: &Attempt) -> Self {
        match (self, &attempt.phase) {
            (Self::Failed, Phase::Failed { code, .. }) if **code == *OTHER_PERSON => {
                Self::OtherPerson
            }
            (standing, _) => standing,
        }
    }

    pub const fn of_refusal(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::AlreadyPaid => Self::Paid,
            Refusal::OrderClosed => Self::Closed,
            Refusal::AlreadyScanned => Self::ScannedByOther,
            Refusal::AttemptSuperseded => Self::Superseded,
            Refusal::AttemptCancelled | Refusal::CancelPending => Self::Cancelled,
            Refusal::AttemptFailed => Self::Failed,
            Refusal::TooLate { .. } | Refusal::DeadlinePassed { .. } => Self::TooLate,
            Refusal::NotClaimed | Refusal::WalletNotOffered { .. } => Self::NotYours,
            Refusal::AttemptExpired
            | Refusal::UnknownAttempt
            | Refusal::AttemptClosing { .. }
            | Refusal::WalletRequired
            | Refusal::TooManyAttempts
            // What merchants and operators are told, never a phone.
            | Refusal::NotPaid
            | Refusal::NotRefundable
            | Refusal::RefundExceedsCaptured { .. }
            | Refusal::RefundNoConflict { .. }
            | Refusal::TooManyRefunds
            | Refusal::UnknownRefund
            | Refusal::RefundStands
            | Refusal::UnknownMismatch
            | Refusal::MismatchSettled
            | Refusal::OtherProposal
            | Refusal::CannotGoBack => Self::Expired,
        }
    }

    /// For scripts and programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Paid => "paid",
            Self::Closed => "closed",
            Self::Expired => "attempt_expired",
            Self::Superseded => "attempt_superseded",
            Self::Cancelled => "attempt_cancelled",
            Self::Released => "released",
            Self::Failed => "attempt_failed",
            Self::OtherPerson => "other_person",
            Self::TooLate => "too_late",
            Self::Confirming => "confirming",
            Self::ScannedByOther => "already_scanned",
            Self::NotYours => "not_claimed",
        }
    }

    /// The status of a page that says this (contract §6: 410 for whoever comes second or late).
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Open | Self::Paid | Self::Confirming => StatusCode::OK,
            Self::NotYours => StatusCode::CONFLICT,
            _ => StatusCode::GONE,
        }
    }

    pub const fn tone(self) -> &'static str {
        match self {
            Self::Open => "calm",
            Self::Paid => "good",
            Self::Confirming | Self::TooLate | Self::NotYours | Self::Released => "wait",
            _ => "bad",
        }
    }

    /// Will a page that asks again hear anything new?
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Open | Self::Confirming | Self::Superseded)
    }

    pub const fn words(self, w: &'static Words) -> (&'static str, &'static str) {
        match self {
            Self::Open => (w.unpaid_heading, w.unpaid_text),
            Self::Paid => (w.phone_paid_heading, w.phone_paid_text),
            Self::Closed => (w.phone_closed_heading, w.phone_closed_text),
            Self::Expired => (w.phone_expired_heading, w.phone_expired_text),
            Self::Superseded => (w.phone_superseded_heading, w.phone_superseded_text),
            Self::Cancelled => (w.phone_cancelled_heading, w.phone_cancelled_text),
            Self::Released => (w.phone_released_heading, w.phone_released_text),
            Self::Failed => (w.phone_failed_heading, w.phone_failed_text),
            Self::OtherPerson => (w.phone_failed_heading, w.other_person_text),
            Self::TooLate => (w.phone_too_late_heading, w.phone_too_late_text),
            Self::Confirming => (w.phone_confirming_heading, w.phone_confirming_text),
            Self::ScannedByOther => (w.scanned_by_other_heading, w.scanned_by_other_text),
            Self::NotYours => (w.not_yours_heading, w.not_yours_text),
        }
    }
}
