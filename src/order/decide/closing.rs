//! Query, close, query: how an attempt with a trade ends (the table of contract §1).
//!
//! ```text
//!   Query ──unpaid──► Close ──closed──► Confirm ──closed──► the attempt's end
//!     │ ▲               │ ▲ │              │ │
//!     │ └──already paid─┘ └─┼──unpaid──────┘ └──not found──► again after the call's own timeout
//!     │                     └──too early: again in 5 s, a query now and then
//!     └──not found (Alipay)──► Wait until time_expire + 30 s ──still not found──► the end
//! ```
//!
//! A paid answer at any point is a capture. Each step asked for is on disk with the time at which
//! it is due again, so neither a crash nor a lost answer ends the work. An answer that proves
//! nothing only ever brings that time nearer: repeated ones change nothing, none can starve it.

use super::{
    ASK_BETWEEN_CLOSES_MS, BACK_OFF_MS, CALL_TIMEOUT_MS, CLOSE_AGAIN_MS, Draft, LINK_GRACE_MS,
    NO_ANSWER_MS, WAIT_EVERY_MS, already, doubled,
};
use crate::order::attempt::{
    Attempt, Closing, ClosingCause, ClosingStep, Phase, Trade, TradeStanding,
};
use crate::order::command::{CloseAnswer, QueryAnswer};
use crate::order::effect::{Answer, Effect, Outcome};
use crate::order::event::Event;
use crate::order::ids::AttemptNumber;
use crate::order::state::Order;
use crate::order::terms::{Product, Wallet};
use crate::order::time::Timestamp;

/// Tries that a smooth closing needs: the back-off of a step taken back begins after them.
const SMOOTH_TRIES: u16 = 3;

impl Draft {
    pub(super) fn begin_closing(&mut self, attempt: AttemptNumber, cause: ClosingCause) {
        self.push(Event::AttemptClosing { attempt, cause });
        self.ask_closing(attempt, ClosingStep::Query);
    }

    /// Intends a step, now.
    pub(super) fn ask_closing(&mut self, number: AttemptNumber, step: ClosingStep) {
        let Some(attempt) = self.order.attempt(number) else {
            return;
        };
        let Phase::Closing(closing) = attempt.phase else {
            return;
        };
        let scheduled = attempt.queries.scheduled;
        let tries = closing.tries.saturating_add(1);
        let unanswered = NO_ANSWER_MS.max(doubled(BACK_OFF_MS, tries));
        let next_at = match (step, attempt.trade.as_ref().map(link_end)) {
            (ClosingStep::Wait, Some(end)) if self.now < end => {
                end.min(self.now.plus_ms(WAIT_EVERY_MS))
            }
            _ => self.now.plus_ms(unanswered),
        };
        self.push(Event::ClosingMoved {
            attempt: number,
            step,
            next_at,
            tries,
        });
        if step == ClosingStep::Close {
            self.effect(Effect::CloseTrade { attempt: number });
        } else {
            self.push(Event::ProviderAsked {
                attempt: number,
                scheduled,
            });
            self.effect(Effect::QueryTrade { attempt: number });
        }
    }

    /// Goes back a step: at once the first time, then ever more slowly, for a provider whose
    /// answers contradict each other must not be asked in a tight circle.
    fn ask_closing_again(&mut self, attempt: AttemptNumber, closing: Closing, step: ClosingStep) {
        let tries = closing.tries;
        if tries < SMOOTH_TRIES {
            self.ask_closing(attempt, step);
        } else {
            let pause = doubled(BACK_OFF_MS, tries - SMOOTH_TRIES + 1);
            self.push(Event::ClosingMoved {
                attempt,
                step,
                next_at: self.now.plus_ms(pause),
                tries,
            });
        }
    }

    /// Nothing to close yet: ask now and then until a link or code has lost its power.
    fn wait(&mut self, attempt: AttemptNumber, trade: &Trade) {
        let end = link_end(trade);
        let soon = self.now.plus_ms(BACK_OFF_MS.0);
        self.push(Event::ClosingMoved {
            attempt,
            step: ClosingStep::Wait,
            next_at: end.min(self.now.plus_ms(WAIT_EVERY_MS)).max(soon),
            tries: 0,
        });
    }
}

/// From here on, "trade does not exist" is the last word even for a link or code.
const fn link_end(trade: &Trade) -> Timestamp {
    trade.time_expire.plus_ms(LINK_GRACE_MS)
}

/// A query's answer, other than paid or closed, for an attempt that is `closing`.
pub(super) fn query_answered(
    order: &Order,
    attempt: &Attempt,
    closing: Closing,
    answer: &QueryAnswer,
    now: Timestamp,
) -> Outcome {
    let number = attempt.number;
    let mut draft = Draft::of(order, now);
    match (answer, closing.step) {
        (QueryAnswer::Unpaid, ClosingStep::Query | ClosingStep::Wait) => {
            draft.ask_closing(number, ClosingStep::Close);
        }
        (QueryAnswer::Unpaid, ClosingStep::Confirm) => {
            draft.ask_closing_again(number, closing, ClosingStep::Close);
        }
        (QueryAnswer::NotFound, _) => not_found(&mut draft, attempt, closing),
        (QueryAnswer::Unknown, step) if step != ClosingStep::Close => {
            unknown(&mut draft, number, closing);
        }
        _ => {}
    }
    draft.finish_or(Answer::Stale)
}

/// The provider knows no such trade. What that proves depends on the product.
fn not_found(draft: &mut Draft, attempt: &Attempt, closing: Closing) {
    let number = attempt.number;
    let Some(trade) = &attempt.trade else {
        return;
    };
    if absence_is_final(attempt, trade, closing) {
        return draft.end(number, closing.cause);
    }
    match (trade.product.wallet(), closing.step) {
        // Closing an unknown number is harmless, and kills it where the call was only late.
        (Wallet::Wechat, ClosingStep::Query | ClosingStep::Wait) => {
            draft.ask_closing(number, ClosingStep::Close);
        }
        (Wallet::Wechat, ClosingStep::Confirm) => {
            if trade.standing != TradeStanding::Intended {
                // It was made, so this is no proof. Its next question is due already.
                return;
            }
            // Past that time the next question is due already, and will be proof.
            let call_over = closing.since.plus_ms(CALL_TIMEOUT_MS);
            if draft.now < call_over && closing.next_at != call_over {
                draft.push(Event::ClosingMoved {
                    attempt: number,
                    step: ClosingStep::Confirm,
                    next_at: call_over,
                    tries: closing.tries,
                });
            }
        }
        (Wallet::Alipay, ClosingStep::Query | ClosingStep::Confirm) => draft.wait(number, trade),
        // A close under way answers for itself; and in `Wait` the next question is due already, at
        // the latest when the link has lost its power.
        (_, ClosingStep::Close) | (Wallet::Alipay, ClosingStep::Wait) => {}
    }
}

/// Does "no such trade" mean that nobody can pay it any more? Judged by when we asked, not by when
/// we heard: an answer may have been long under way.
fn absence_is_final(attempt: &Attempt, trade: &Trade, closing: Closing) -> bool {
    let asked_since = |instant| {
        attempt
            .queries
            .last_at
            .is_some_and(|asked| asked >= instant)
    };
    let unanswered = trade.standing == TradeStanding::Intended;
    match trade.product {
        Product::AlipayWap | Product::AlipayPrecreate => asked_since(link_end(trade)),
        Product::AlipayCreate => unanswered && asked_since(link_end(trade)),
        Product::WechatJsapi | Product::WechatNative | Product::WechatH5 => {
            unanswered
                && closing.step == ClosingStep::Confirm
                && asked_since(closing.since.plus_ms(CALL_TIMEOUT_MS))
        }
    }
}

fn unknown(draft: &mut Draft, attempt: AttemptNumber, closing: Closing) {
    let next_at = draft.now.plus_ms(doubled(BACK_OFF_MS, closing.tries));
    if next_at < closing.next_at {
        draft.push(Event::ClosingMoved {
            attempt,
            step: closing.step,
            next_at,
            tries: closing.tries,
        });
    }
}

pub(super) fn close_answered(
    order: &Order,
    number: AttemptNumber,
    answer: CloseAnswer,
    now: Timestamp,
) -> Outcome {
    let closing = order.attempt(number).and_then(|attempt| {
        let Phase::Closing(closing) = attempt.phase else {
            return None;
        };
        (closing.step == ClosingStep::Close)
            .then_some(closing)
            .zip(attempt.trade.as_ref())
    });
    let Some((closing, trade)) = closing else {
        return already(Answer::Stale);
    };
    let mut draft = Draft::of(order, now);
    match answer {
        CloseAnswer::Closed => draft.ask_closing(number, ClosingStep::Confirm),
        CloseAnswer::AlreadyPaid => {
            draft.ask_closing_again(number, closing, ClosingStep::Query);
        }
        CloseAnswer::NotYet => {
            let next_at = now.plus_ms(CLOSE_AGAIN_MS);
            // Closing says nothing of a payment by itself: questions stay at most 30 s apart.
            let is_quiet = order.attempt(number).is_some_and(|attempt| {
                let asked = attempt.queries.last_at;
                asked.is_none_or(|asked| next_at.since(asked) >= ASK_BETWEEN_CLOSES_MS)
            });
            if next_at < closing.next_at {
                draft.push(Event::ClosingMoved {
                    attempt: number,
                    step: if is_quiet {
                        ClosingStep::Query
                    } else {
                        ClosingStep::Close
                    },
                    next_at,
                    tries: 1,
                });
            }
        }
        CloseAnswer::NotFound => match trade.product.wallet() {
            Wallet::Wechat => draft.ask_closing(number, ClosingStep::Confirm),
            Wallet::Alipay => draft.wait(number, trade),
        },
        CloseAnswer::Unknown => unknown(&mut draft, number, closing),
    }
    draft.finish_or(Answer::Stale)
}
