//! What providers answer to the order call and to queries.

use super::{Draft, already, captures, closing};
use crate::order::attempt::{Attempt, ClosingCause, Phase, TradeStanding};
use crate::order::command::{QueryAnswer, TradeAnswer};
use crate::order::effect::{Answer, Outcome};
use crate::order::event::Event;
use crate::order::ids::AttemptNumber;
use crate::order::state::Order;
use crate::order::time::Timestamp;

/// The answer to the order call. A handle that comes while the attempt is already `closing` is
/// recorded, and handed out to nobody.
pub(super) fn made(
    order: &Order,
    number: AttemptNumber,
    answer: &TradeAnswer,
    now: Timestamp,
) -> Outcome {
    let standing = order
        .attempt(number)
        .and_then(|attempt| attempt.trade.as_ref())
        .map(|trade| &trade.standing);
    match (standing, answer) {
        (Some(TradeStanding::Intended), TradeAnswer::Made { handle }) => {
            let mut draft = Draft::of(order, now);
            draft.push(Event::TradeMade {
                attempt: number,
                handle: handle.clone(),
            });
            draft.finish()
        }
        (Some(TradeStanding::Intended), TradeAnswer::Refused { code }) => {
            let mut draft = Draft::of(order, now);
            draft.push(Event::TradeRefused {
                attempt: number,
                code: code.clone(),
            });
            draft.push(Event::AttemptFailed {
                attempt: number,
                code: code.clone(),
            });
            draft.finish()
        }
        // The intent stays; pressing again, the schedule or the closing finds out.
        (Some(TradeStanding::Intended), TradeAnswer::Unknown) => already(Answer::Same),
        _ => already(Answer::Stale),
    }
}

pub(super) fn queried(
    order: &Order,
    number: AttemptNumber,
    answer: &QueryAnswer,
    now: Timestamp,
) -> Outcome {
    if let QueryAnswer::Paid(report) = answer {
        return captures::answered(order, number, report, now);
    }
    let Some(attempt) = order.attempt(number).filter(|attempt| attempt.is_live()) else {
        return already(Answer::Stale);
    };
    if !Attempt::may_be_payable(attempt) {
        return already(Answer::Stale);
    }
    match (&attempt.phase, answer) {
        // The last word, whenever it is spoken: closed is final at both providers.
        (Phase::Closing(closing), QueryAnswer::Closed) => {
            let mut draft = Draft::of(order, now);
            draft.end(number, closing.cause);
            draft.finish()
        }
        (_, QueryAnswer::Closed) => {
            let mut draft = Draft::of(order, now);
            draft.end(number, ClosingCause::TimeUp);
            draft.finish()
        }
        (Phase::Closing(state), _) => closing::query_answered(order, attempt, *state, answer, now),
        _ => already(Answer::Same),
    }
}
