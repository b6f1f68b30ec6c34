//! Money that goes back: what merchants ask for, what nobody owes, what two people decided. One shape
//! for all three, so that one path asks the provider, waits and ends.

use serde::{Deserialize, Serialize};

use super::ids::{AccountId, AttemptNumber, OutTradeNo, RefundId};
use super::money::Fen;
use super::state::{CaptureStanding, MismatchStanding, Order};
use super::time::Timestamp;

/// A merchant's refund of the capture that pays the order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Refund {
    pub id: RefundId,
    /// The merchant's number of it: asked for again, it is the same refund.
    pub merchant_refund_no: Box<str>,
    pub amount: Fen,
    pub requested_at: Timestamp,
    pub standing: RefundStanding,
}

/// Money of one of our trades that went back past these books, by the provider's own console. Evidence:
/// it changes nothing here, and a person must know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ForeignRefund {
    pub attempt: AttemptNumber,
    /// As the provider has it: none of our numbers, or one of ours with another amount.
    pub number: Box<str>,
    /// Missing where the provider tells only sums.
    pub amount: Option<Fen>,
}

/// How far a refund is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundStanding {
    /// The intent is on disk; the same number is asked for until the provider answers.
    Pending {
        next_at: Timestamp,
        tries: u16,
        /// The provider said once that the school's balance is too small; a person was called.
        #[serde(default)]
        underfunded: bool,
    },
    /// The provider has accepted it: the money is on its way, to a bank card for days.
    Processing {
        since: Timestamp,
        next_at: Timestamp,
        tries: u16,
    },
    /// The provider has accepted it, and the payer's account cannot take it.
    Abnormal {
        since: Timestamp,
        next_at: Timestamp,
        tries: u16,
        /// An operator has named another destination: the provider is told until it takes it.
        repairing: bool,
    },
    Succeeded {
        at: Timestamp,
    },
    /// The provider's final no.
    Failed {
        at: Timestamp,
    },
}

impl RefundStanding {
    /// The contract's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending { .. } | Self::Processing { .. } => "pending",
            Self::Abnormal { .. } => "abnormal",
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
        }
    }

    /// When the provider is asked next; `None` once it is over.
    pub const fn next_at(self) -> Option<Timestamp> {
        match self {
            Self::Pending { next_at, .. }
            | Self::Processing { next_at, .. }
            | Self::Abnormal { next_at, .. } => Some(next_at),
            Self::Succeeded { .. } | Self::Failed { .. } => None,
        }
    }

    /// The same, asked again.
    pub(super) const fn asked_again(self, next_at: Timestamp, tries: u16) -> Self {
        match self {
            Self::Pending { underfunded, .. } => Self::Pending {
                next_at,
                tries,
                underfunded,
            },
            Self::Processing { since, .. } => Self::Processing {
                since,
                next_at,
                tries,
            },
            Self::Abnormal {
                since, repairing, ..
            } => Self::Abnormal {
                since,
                next_at,
                tries,
                repairing,
            },
            Self::Succeeded { .. } | Self::Failed { .. } => self,
        }
    }

    pub const fn is_over(self) -> bool {
        self.next_at().is_none()
    }

    /// How often the provider was asked, where that still matters.
    pub const fn tries(self) -> u16 {
        match self {
            Self::Pending { tries, .. }
            | Self::Processing { tries, .. }
            | Self::Abnormal { tries, .. } => tries,
            Self::Succeeded { .. } | Self::Failed { .. } => 0,
        }
    }
}

/// Why money goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundCause {
    /// The merchant asked.
    Merchant,
    /// The order does not owe the capture.
    Surplus,
    /// Two people decided so about money that did not fit.
    Mismatch,
}

impl RefundCause {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Merchant => "merchant",
            Self::Surplus => "surplus",
            Self::Mismatch => "mismatch",
        }
    }
}

/// One refund, whatever it gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefundOf<'a> {
    pub id: RefundId,
    pub cause: RefundCause,
    pub attempt: AttemptNumber,
    /// The provider's number of the capture that it draws on.
    pub transaction_id: &'a str,
    /// Whose account gives it back; `None` where an old row does not say.
    pub account: Option<&'a AccountId>,
    pub amount: Fen,
    /// What the capture took in all.
    pub total: Fen,
    pub standing: RefundStanding,
    round: u8,
    /// Which of its attempt's surplus captures, or of the order's mismatches.
    place: usize,
}

impl RefundOf<'_> {
    /// Our number of it at the provider (`out_refund_no`, `out_request_no`): derived, so that every try
    /// of one round is the same request (M5), and a new round is another.
    pub fn number(&self, order: &Order) -> String {
        let trade = OutTradeNo {
            order: order.id,
            attempt: self.attempt,
        };
        let mut number = match (self.cause, self.place) {
            (RefundCause::Merchant, _) => self.id.to_string(),
            (RefundCause::Surplus, 0) => format!("{trade}S"),
            (RefundCause::Surplus, place) => format!("{trade}S{place}"),
            (RefundCause::Mismatch, place) => format!("{trade}M{place}"),
        };
        if self.round > 0 {
            number.push('R');
            number.push_str(&self.round.to_string());
        }
        number
    }

    /// How often it had begun anew when it got this number.
    pub const fn round(&self) -> u8 {
        self.round
    }
}

impl Order {
    /// Every refund of this order: surplus first, then merchants', then those of odd captures.
    pub fn every_refund(&self) -> impl Iterator<Item = RefundOf<'_>> {
        let account =
            |attempt: AttemptNumber| Some(&self.attempt(attempt)?.trade.as_ref()?.account);
        let surplus = self
            .captures
            .iter()
            .enumerate()
            .filter_map(move |(index, capture)| {
                let CaptureStanding::Surplus {
                    refund,
                    standing,
                    round,
                } = capture.standing
                else {
                    return None;
                };
                let earlier = self.captures[..index].iter();
                Some(RefundOf {
                    id: refund,
                    cause: RefundCause::Surplus,
                    attempt: capture.attempt,
                    transaction_id: &capture.transaction_id,
                    account: account(capture.attempt),
                    amount: capture.amount,
                    total: capture.amount,
                    standing,
                    round,
                    place: earlier
                        .filter(|other| {
                            other.attempt == capture.attempt
                                && other.standing != CaptureStanding::Kept
                        })
                        .count(),
                })
            });
        let merchants = self.payment().into_iter().flat_map(move |payment| {
            self.refunds.iter().map(move |refund| RefundOf {
                id: refund.id,
                cause: RefundCause::Merchant,
                attempt: payment.attempt,
                transaction_id: &payment.transaction_id,
                account: account(payment.attempt),
                amount: refund.amount,
                total: payment.amount,
                standing: refund.standing,
                round: 0,
                place: 0,
            })
        });
        let odd = self
            .mismatches
            .iter()
            .enumerate()
            .filter_map(|(place, mismatch)| {
                let MismatchStanding::GoingBack {
                    refund,
                    standing,
                    round,
                } = mismatch.standing
                else {
                    return None;
                };
                Some(RefundOf {
                    id: refund,
                    cause: RefundCause::Mismatch,
                    attempt: mismatch.attempt,
                    transaction_id: &mismatch.transaction_id,
                    account: mismatch.account.as_ref(),
                    amount: mismatch.amount,
                    total: mismatch.amount,
                    standing,
                    round,
                    place,
                })
            });
        surplus.chain(merchants).chain(odd)
    }

    pub fn refund(&self, id: RefundId) -> Option<RefundOf<'_>> {
        self.every_refund().find(|refund| refund.id == id)
    }

    /// The refund that the provider knows under `number`, in the round that the number is of.
    pub fn refund_numbered(&self, number: &str) -> Option<RefundOf<'_>> {
        self.every_refund().find_map(|refund| {
            (0..=refund.round)
                .map(|round| RefundOf { round, ..refund })
                .find(|refund| refund.number(self) == number)
        })
    }

    /// What merchants' refunds have taken of the payment: those that left and those that may (M4).
    pub fn refunds_held(&self) -> Fen {
        self.sum_of_refunds(|standing| !matches!(standing, RefundStanding::Failed { .. }))
    }

    /// What merchants' refunds have given back.
    pub fn amount_refunded(&self) -> Fen {
        self.sum_of_refunds(|standing| matches!(standing, RefundStanding::Succeeded { .. }))
    }

    fn sum_of_refunds(&self, counts: impl Fn(RefundStanding) -> bool) -> Fen {
        let amounts = self
            .refunds
            .iter()
            .filter(|refund| counts(refund.standing))
            .map(|refund| refund.amount);
        Fen::sum(amounts).unwrap_or(Fen::new(i64::MAX))
    }

    /// `none`, `partial` or `full`: of the capture that pays the order (contract §1).
    pub fn refund_status(&self) -> &'static str {
        match (self.amount_refunded(), self.payment()) {
            (Fen::ZERO, _) => "none",
            (refunded, Some(payment)) if refunded >= payment.amount => "full",
            _ => "partial",
        }
    }

    pub(super) fn set_refund(&mut self, id: RefundId, to: RefundStanding) {
        let standings = self
            .captures
            .iter_mut()
            .filter_map(|capture| match &mut capture.standing {
                CaptureStanding::Surplus {
                    refund, standing, ..
                } => Some((*refund, standing)),
                CaptureStanding::Kept => None,
            })
            .chain(
                self.refunds
                    .iter_mut()
                    .map(|refund| (refund.id, &mut refund.standing)),
            )
            .chain(self.mismatches.iter_mut().filter_map(
                |mismatch| match &mut mismatch.standing {
                    MismatchStanding::GoingBack {
                        refund, standing, ..
                    } => Some((*refund, standing)),
                    _ => None,
                },
            ));
        for (refund, standing) in standings {
            if refund == id {
                *standing = to;
            }
        }
    }

    pub(super) fn set_refund_round(&mut self, id: RefundId, to: u8) {
        for capture in &mut self.captures {
            if let CaptureStanding::Surplus { refund, round, .. } = &mut capture.standing
                && *refund == id
            {
                *round = to;
            }
        }
        for mismatch in &mut self.mismatches {
            if let MismatchStanding::GoingBack { refund, round, .. } = &mut mismatch.standing
                && *refund == id
            {
                *round = to;
            }
        }
    }
}
