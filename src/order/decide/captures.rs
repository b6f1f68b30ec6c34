//! Money: what a capture is to the order. What it does not owe goes back (`refunds`).

use super::{Draft, REFUND_BACK_OFF_MS, already, doubled};
use crate::order::attempt::{ClosingCause, EndReason, Phase};
use crate::order::command::CaptureReport;
use crate::order::effect::{Answer, Effect, Outcome};
use crate::order::event::{Attention, Event};
use crate::order::ids::AttemptNumber;
use crate::order::money::CURRENCY;
use crate::order::state::{
    Capture, CaptureStanding, Mismatch, MismatchStanding, MismatchedField, Order, RefundStanding,
    Settlement,
};
use crate::order::terms::Wallet;
use crate::order::time::Timestamp;

/// A verified success. The one place where a `Capture` is made (M3).
pub(super) fn capture(order: &Order, report: &CaptureReport, now: Timestamp) -> Outcome {
    take_in(order, report, None, now)
}

/// The same as the answer to our own question. Where the money does not fit, the trade is spent all the
/// same: it can be neither paid nor closed any more, and its attempt ends. A notice would prove less.
pub(super) fn answered(
    order: &Order,
    asked: AttemptNumber,
    report: &CaptureReport,
    now: Timestamp,
) -> Outcome {
    take_in(order, report, Some(asked), now)
}

fn take_in(
    order: &Order,
    report: &CaptureReport,
    asked: Option<AttemptNumber>,
    now: Timestamp,
) -> Outcome {
    let wallet = match fits(order, report) {
        Ok(wallet) => wallet,
        Err(field) => return mismatched(order, report, field, asked, now),
    };
    let known = order.captures.iter().find(|capture| {
        capture.wallet == wallet && capture.transaction_id == report.transaction_id
    });
    match known {
        Some(capture) if capture.attempt == report.attempt => return already(Answer::Same),
        // One transaction cannot have paid two trades.
        Some(_) => return mismatched(order, report, MismatchedField::Trade, asked, now),
        None => {}
    }

    let in_time = order.terms.in_time(report.succeeded_at);
    let owed = order.is_open() && in_time;
    let standing = if owed {
        CaptureStanding::Kept
    } else {
        CaptureStanding::Surplus {
            refund: report.surplus_refund,
            standing: RefundStanding::Pending {
                next_at: now.plus_ms(doubled(REFUND_BACK_OFF_MS, 1)),
                tries: 1,
                underfunded: false,
            },
            round: 0,
        }
    };
    let mut draft = Draft::of(order, now);
    draft.push(Event::MoneyCaptured {
        capture: Capture {
            attempt: report.attempt,
            wallet,
            transaction_id: report.transaction_id.clone(),
            amount: report.amount,
            succeeded_at: report.succeeded_at,
            heard_at: now,
            standing,
        },
    });
    let succeeded = order
        .attempt(report.attempt)
        .is_some_and(|attempt| matches!(attempt.phase, Phase::Succeeded { .. }));
    if !succeeded {
        draft.push(Event::AttemptSucceeded {
            attempt: report.attempt,
        });
    }
    if owed {
        if let Some(other) = order.live_attempt()
            && other.number != report.attempt
            && other.is_open()
        {
            draft.end_open(other, EndReason::Superseded);
        }
        draft.push(Event::OrderPaid);
    } else {
        draft.effect(Effect::Refund {
            refund: report.surplus_refund,
        });
        if in_time && matches!(order.settlement, Settlement::Closed { .. }) {
            draft.push(Event::AttentionRaised {
                why: Attention::InTimeAfterClosing,
            });
        }
    }
    draft.finish()
}

/// Every field against the attempt's frozen request (M3). The wallet is the trade's.
fn fits(order: &Order, report: &CaptureReport) -> Result<Wallet, MismatchedField> {
    let trade = order
        .attempt(report.attempt)
        .and_then(|attempt| attempt.trade.as_ref())
        .ok_or(MismatchedField::Trade)?;
    if report.account != trade.account {
        return Err(MismatchedField::Account);
    }
    if report.application != trade.application {
        return Err(MismatchedField::Application);
    }
    if report.amount != order.terms.amount {
        return Err(MismatchedField::Amount);
    }
    if &*report.currency != CURRENCY {
        return Err(MismatchedField::Currency);
    }
    Ok(trade.product.wallet())
}

fn mismatched(
    order: &Order,
    report: &CaptureReport,
    field: MismatchedField,
    asked: Option<AttemptNumber>,
    now: Timestamp,
) -> Outcome {
    let known = order.mismatches.iter().any(|mismatch| {
        mismatch.transaction_id == report.transaction_id
            && mismatch.attempt == report.attempt
            && mismatch.field == field
            && mismatch.amount == report.amount
    });
    let mut draft = Draft::of(order, now);
    if !known {
        draft.note_mismatch(report, field);
    }
    let spent = asked
        .and_then(|asked| order.attempt(asked))
        .filter(|attempt| attempt.is_live() && attempt.may_be_payable());
    if let Some(attempt) = spent {
        let cause = match &attempt.phase {
            Phase::Closing(closing) => closing.cause,
            _ => ClosingCause::TimeUp,
        };
        draft.end(attempt.number, cause);
    }
    draft.finish()
}

impl Draft {
    fn note_mismatch(&mut self, report: &CaptureReport, field: MismatchedField) {
        let now = self.now;
        self.push(Event::MoneyMismatched {
            mismatch: Mismatch {
                attempt: report.attempt,
                transaction_id: report.transaction_id.clone(),
                amount: report.amount,
                field,
                heard_at: now,
                account: Some(report.account.clone()),
                currency: Some(report.currency.clone()),
                standing: MismatchStanding::Waiting,
            },
        });
        self.push(Event::AttentionRaised {
            why: Attention::MismatchedCapture,
        });
    }
}
