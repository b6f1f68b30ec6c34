//! Refunds: a merchant's wish, the provider's word, and what operators may do where it is no.
//!
//! Whatever gives money back (`RefundCause`) goes the same way: the intent is on disk, the provider is
//! asked under one number until it answers, and asked again until the money has arrived or never will.

use super::{
    ABNORMAL_BACK_OFF_MS, Draft, MOST_REFUNDS, PROCESSING_BACK_OFF_MS, PROCESSING_STUCK_TRIES,
    QUERY_SPACING_MS, REFUND_BACK_OFF_MS, REFUND_STUCK_TRIES, already, doubled,
};
use crate::order::command::RefundAnswer;
use crate::order::effect::{Answer, Effect, Outcome, Refusal};
use crate::order::event::{Attention, Event};
use crate::order::ids::RefundId;
use crate::order::money::Fen;
use crate::order::refunds::{ForeignRefund, RefundCause, RefundStanding};
use crate::order::state::{MismatchStanding, OperatorHash, Order, SettleBy};
use crate::order::terms::Wallet;
use crate::order::time::Timestamp;

/// How far apart two refunds of one trade must be: WeChat Pay protocol §3.7, Alipay protocol §2.7. The
/// provider counts from when it accepted the first, we from when we asked. Alipay's "too soon" is the same
/// word as its last "no", so there ten seconds are left for the first call to arrive.
const fn spacing_ms(wallet: Wallet) -> i64 {
    match wallet {
        Wallet::Wechat => 60_000,
        Wallet::Alipay => 13_000,
    }
}

/// A merchant gives back the payment or a part of it (M4).
pub(super) fn request(
    order: &Order,
    refund: RefundId,
    merchant_refund_no: &str,
    amount: Fen,
    now: Timestamp,
) -> Outcome {
    let known = order
        .refunds
        .iter()
        .find(|known| &*known.merchant_refund_no == merchant_refund_no);
    if let Some(known) = known {
        return if known.amount == amount {
            already(Answer::Same)
        } else {
            Outcome::Refused(Refusal::RefundNoConflict { existing: known.id })
        };
    }
    let Some(payment) = order.payment() else {
        return Outcome::Refused(Refusal::NotRefundable);
    };
    let remaining = payment
        .amount
        .checked_sub(order.refunds_held())
        .unwrap_or(Fen::ZERO);
    if amount <= Fen::ZERO || amount > remaining {
        return Outcome::Refused(Refusal::RefundExceedsCaptured { remaining });
    }
    if order.refunds.len() >= MOST_REFUNDS {
        return Outcome::Refused(Refusal::TooManyRefunds);
    }
    let spacing = spacing_ms(payment.wallet);
    let turn = order
        .refunds
        .iter()
        .map(|earlier| match earlier.standing {
            // It waits for its own turn.
            RefundStanding::Pending {
                next_at, tries: 0, ..
            } => next_at.max(earlier.requested_at),
            _ => earlier.requested_at,
        })
        .map(|asked| asked.plus_ms(spacing))
        .max()
        .unwrap_or(now);
    let mut draft = Draft::of(order, now);
    let asked_now = turn <= now;
    draft.push(Event::RefundRequested {
        refund,
        merchant_refund_no: merchant_refund_no.into(),
        amount,
        next_at: if asked_now {
            now.plus_ms(doubled(REFUND_BACK_OFF_MS, 1))
        } else {
            turn
        },
        tries: u16::from(asked_now),
    });
    if asked_now {
        draft.effect(Effect::Refund { refund });
    }
    draft.finish()
}

/// The provider's word on a refund. One that proves nothing changes nothing: the next question,
/// under the same number, is on disk already.
pub(super) fn answered(
    order: &Order,
    refund: RefundId,
    round: u8,
    answer: RefundAnswer,
    now: Timestamp,
) -> Outcome {
    let Some(known) = order.refund(refund).filter(|known| round <= known.round()) else {
        return already(Answer::Stale);
    };
    let mut draft = Draft::of(order, now);
    if round < known.round() {
        // The provider's "no" to this number was none. There is no more money for the present one.
        if answer != RefundAnswer::Succeeded
            || matches!(known.standing, RefundStanding::Succeeded { .. })
        {
            return already(Answer::Stale);
        }
        draft.push(Event::RefundRoundRevived { refund, round });
    }
    match (known.standing, answer) {
        (RefundStanding::Succeeded { .. }, _) => return already(Answer::Stale),
        // A success is a fact, even after the provider's "no": it may have been mended there. What it
        // refused of a merchant's wish may have been asked for again since, under another number.
        (RefundStanding::Failed { .. }, RefundAnswer::Succeeded)
            if known.cause == RefundCause::Merchant
                && order
                    .refunds_held()
                    .checked_add(known.amount)
                    .is_none_or(|held| held > known.total) =>
        {
            draft.raise(Attention::ForeignRefund);
        }
        (_, RefundAnswer::Succeeded) => draft.push(match known.cause {
            RefundCause::Merchant => Event::RefundSucceeded { refund },
            RefundCause::Surplus => Event::SurplusRefunded { refund },
            RefundCause::Mismatch => Event::MismatchRefunded { refund },
        }),
        (RefundStanding::Failed { .. }, _) => return already(Answer::Stale),
        (_, RefundAnswer::Failed) => match known.cause {
            RefundCause::Merchant => draft.push(Event::RefundFailed { refund }),
            RefundCause::Surplus => {
                draft.push(Event::SurplusRefundFailed { refund });
                draft.raise(Attention::SurplusRefundFailed);
            }
            RefundCause::Mismatch => {
                draft.push(Event::MismatchRefundFailed { refund });
                draft.raise(Attention::MismatchRefundFailed);
            }
        },
        (
            RefundStanding::Pending { .. }
            | RefundStanding::Abnormal {
                repairing: true, ..
            },
            RefundAnswer::Processing,
        ) => draft.push(Event::RefundAccepted {
            refund,
            next_at: now.plus_ms(doubled(PROCESSING_BACK_OFF_MS, 1)),
        }),
        (
            RefundStanding::Pending { .. } | RefundStanding::Processing { .. },
            RefundAnswer::Abnormal,
        ) => {
            draft.push(Event::RefundAbnormal {
                refund,
                next_at: now.plus_ms(doubled(ABNORMAL_BACK_OFF_MS, 1)),
            });
            draft.raise(Attention::RefundAbnormal);
        }
        (
            RefundStanding::Pending {
                underfunded: false, ..
            },
            RefundAnswer::Underfunded,
        ) => {
            draft.push(Event::RefundUnderfunded { refund });
            draft.raise(Attention::RefundUnderfunded);
        }
        _ => return already(Answer::Same),
    }
    draft.finish()
}

/// An operator has it tried again. Asked just now: its answer is on the way.
pub(super) fn retry(order: &Order, refund: RefundId, now: Timestamp) -> Outcome {
    let Some(known) = order.refund(refund) else {
        return Outcome::Refused(Refusal::UnknownRefund);
    };
    let mut draft = Draft::of(order, now);
    match (known.standing, known.cause) {
        (RefundStanding::Succeeded { .. }, _)
        // A merchant asks again with a number of its own.
        | (RefundStanding::Failed { .. }, RefundCause::Merchant) => {
            return Outcome::Refused(Refusal::RefundStands);
        }
        (RefundStanding::Failed { .. }, _) => {
            let Some(round) = known.round().checked_add(1) else {
                return Outcome::Refused(Refusal::TooManyRefunds);
            };
            draft.push(Event::RefundRenewed {
                refund,
                round,
                next_at: now.plus_ms(doubled(REFUND_BACK_OFF_MS, 1)),
            });
            draft.effect(Effect::Refund { refund });
        }
        (standing, _) if asked_just_now(standing, now) => return already(Answer::AskedJustNow),
        (standing, _) => draft.ask_refund(refund, standing),
    }
    draft.finish()
}

fn asked_just_now(standing: RefundStanding, now: Timestamp) -> bool {
    standing.next_at().is_some_and(|next_at| {
        let asked_at = next_at.minus_ms(doubled(pauses(standing), standing.tries()));
        standing.tries() > 0 && (0..QUERY_SPACING_MS).contains(&now.since(asked_at))
    })
}

/// How far apart the questions about a refund are.
const fn pauses(standing: RefundStanding) -> (i64, i64) {
    match standing {
        RefundStanding::Processing { .. } => PROCESSING_BACK_OFF_MS,
        RefundStanding::Abnormal {
            repairing: false, ..
        } => ABNORMAL_BACK_OFF_MS,
        _ => REFUND_BACK_OFF_MS,
    }
}

/// An operator has named where the money of an abnormal refund may go instead.
pub(super) fn repair(order: &Order, refund: RefundId, now: Timestamp) -> Outcome {
    match order.refund(refund).map(|known| known.standing) {
        None => Outcome::Refused(Refusal::UnknownRefund),
        Some(
            standing @ RefundStanding::Abnormal {
                repairing: true, ..
            },
        ) if asked_just_now(standing, now) => already(Answer::AskedJustNow),
        Some(RefundStanding::Abnormal { .. }) => {
            let mut draft = Draft::of(order, now);
            draft.push(Event::RefundRepairAsked {
                refund,
                next_at: now.plus_ms(doubled(REFUND_BACK_OFF_MS, 1)),
            });
            draft.effect(Effect::RepairRefund { refund });
            draft.finish()
        }
        Some(_) => Outcome::Refused(Refusal::RefundStands),
    }
}

/// One of the two people who settle an odd capture: never as a payment.
pub(super) fn settle(
    order: &Order,
    number: u16,
    by: SettleBy,
    operator: OperatorHash,
    refund: RefundId,
    now: Timestamp,
) -> Outcome {
    let Some(mismatch) = order.mismatches.get(usize::from(number)) else {
        return Outcome::Refused(Refusal::UnknownMismatch);
    };
    let goes_back = mismatch.account.is_some() && order.mismatch_counts(usize::from(number));
    if by == SettleBy::Refund && !goes_back {
        return Outcome::Refused(Refusal::CannotGoBack);
    }
    let mut draft = Draft::of(order, now);
    match mismatch.standing {
        MismatchStanding::SettledOutside { .. } | MismatchStanding::GoingBack { .. } => {
            return Outcome::Refused(Refusal::MismatchSettled);
        }
        MismatchStanding::Proposed {
            by: wanted,
            operator: first,
            ..
        } if first == operator && wanted == by => return already(Answer::Same),
        MismatchStanding::Proposed {
            by: wanted,
            operator: first,
            ..
        } if first != operator => {
            if wanted != by {
                return Outcome::Refused(Refusal::OtherProposal);
            }
            let goes_back = by == SettleBy::Refund;
            draft.push(Event::MismatchSettled {
                mismatch: number,
                by,
                operator,
                refund: goes_back.then_some(refund),
                next_at: now.plus_ms(doubled(REFUND_BACK_OFF_MS, 1)),
            });
            if goes_back {
                draft.effect(Effect::Refund { refund });
            }
        }
        // The first word, or the same person's second thoughts.
        MismatchStanding::Waiting | MismatchStanding::Proposed { .. } => {
            draft.push(Event::SettlementProposed {
                mismatch: number,
                by,
                operator,
            });
        }
    }
    draft.finish()
}

/// Money went back past these books: nothing of ours changes, and a person must know.
pub(super) fn foreign(order: &Order, foreign: &ForeignRefund, now: Timestamp) -> Outcome {
    if order.attempt(foreign.attempt).is_none() {
        return Outcome::Refused(Refusal::UnknownAttempt);
    }
    if order.foreign_refunds.contains(foreign) {
        return already(Answer::Same);
    }
    let mut draft = Draft::of(order, now);
    draft.push(Event::ForeignRefundHeard {
        foreign: foreign.clone(),
    });
    draft.raise(Attention::ForeignRefund);
    draft.finish()
}

impl Draft {
    fn raise(&mut self, why: Attention) {
        self.push(Event::AttentionRaised { why });
    }

    /// Asks again for every refund that is due.
    pub(super) fn ask_refunds(&mut self) {
        let due: Vec<_> = self
            .order
            .every_refund()
            .filter(|refund| refund.standing.next_at().is_some_and(|at| at <= self.now))
            .map(|refund| (refund.id, refund.standing))
            .collect();
        for (refund, standing) in due {
            self.ask_refund(refund, standing);
        }
    }

    fn ask_refund(&mut self, refund: RefundId, standing: RefundStanding) {
        let tries = standing.tries().saturating_add(1);
        let (stuck_at, effect) = match standing {
            RefundStanding::Processing { .. } => {
                (Some(PROCESSING_STUCK_TRIES), Effect::Refund { refund })
            }
            RefundStanding::Abnormal {
                repairing: true, ..
            } => (Some(REFUND_STUCK_TRIES), Effect::RepairRefund { refund }),
            // A person knows already; somebody may mend it at the provider.
            RefundStanding::Abnormal { .. } => (None, Effect::Refund { refund }),
            _ => (Some(REFUND_STUCK_TRIES), Effect::Refund { refund }),
        };
        self.push(Event::RefundAsked {
            refund,
            next_at: self.now.plus_ms(doubled(pauses(standing), tries)),
            tries,
        });
        self.effect(effect);
        if stuck_at == Some(tries) {
            self.raise(Attention::RefundStuck);
        }
    }
}
