//! Who goes first at a provider: what a payer waits for, then what somebody has asked for, then what time
//! brings about.

use crate::order::{Command, Effect, Order, Phase};

/// Who waits for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Urgency {
    /// A claimant who has pressed, or a page that waits for its code.
    Payer,
    /// Somebody has asked for the result, or has ended something.
    Asked,
    /// An attempt whose time is up.
    Closing,
    /// The schedule.
    Scheduled,
    /// Refunds.
    Background,
}

impl Urgency {
    pub(super) const ALL: [Self; 5] = [
        Self::Payer,
        Self::Asked,
        Self::Closing,
        Self::Scheduled,
        Self::Background,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Payer => "payer",
            Self::Asked => "asked",
            Self::Closing => "closing",
            Self::Scheduled => "scheduled",
            Self::Background => "background",
        }
    }

    /// How urgent an effect of `command` is. What follows from an answer is as urgent as the `earlier`
    /// question was to whoever asked it.
    pub(super) fn of(
        effect: &Effect,
        command: &Command,
        earlier: Option<Self>,
        order: &Order,
    ) -> Self {
        let attempt = match effect {
            Effect::MakeTrade { .. } => return Self::Payer,
            Effect::Refund { .. } | Effect::RepairRefund { .. } => return Self::Background,
            Effect::QueryTrade { attempt } | Effect::CloseTrade { attempt } => *attempt,
        };
        let closes = || {
            order
                .attempt(attempt)
                .is_some_and(|attempt| matches!(attempt.phase, Phase::Closing(_)))
        };
        match command {
            Command::Query
            | Command::Cancel
            | Command::StartAttempt { .. }
            | Command::Claim { .. }
            | Command::Pay { .. }
            | Command::Release { .. } => Self::Asked,
            _ if earlier == Some(Self::Asked) => Self::Asked,
            _ if closes() => Self::Closing,
            _ => Self::Scheduled,
        }
    }

    /// Does somebody wait for the answer, who should hear at once that there will be none?
    pub(super) const fn is_awaited(self) -> bool {
        matches!(self, Self::Payer | Self::Asked)
    }

    /// Of the calls under way, how many may be of this urgency and less.
    pub(super) fn share(self, at_once: usize) -> usize {
        if self.is_awaited() {
            at_once.max(1)
        } else {
            (at_once * 3 / 4).max(1)
        }
    }
}
