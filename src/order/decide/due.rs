//! What time brings about, and asking the provider: `Tick`, `Query`, and when the next `Tick` is due.

use super::{
    CLOSING_STUCK_MS, Draft, QUERY_EVERY_MS, QUERY_SCHEDULE_MS, QUERY_SPACING_MS,
    SHORTEST_TRADE_MS, already,
};
use crate::order::attempt::{Attempt, Closing, ClosingCause, Phase, TradeStanding};
use crate::order::effect::{Answer, Effect, Outcome};
use crate::order::event::{Attention, Event};
use crate::order::state::Order;
use crate::order::time::Timestamp;

/// Whatever is due at `now`, in one commit. Recovery after a crash is this and nothing else: every
/// effect whose answer may be missing is due again at a time that is on disk.
pub(super) fn tick(order: &Order, now: Timestamp) -> Outcome {
    if order.next_due_at().is_none_or(|due| now < due) {
        return already(Answer::NothingDue);
    }
    let mut draft = Draft::of(order, now);
    if let Some(live) = order.live_attempt() {
        match live.phase {
            Phase::Closing(closing) => {
                if stuck_at(closing).is_some_and(|stuck| stuck <= now) {
                    draft.push(Event::AttentionRaised {
                        why: Attention::ClosingStuck,
                    });
                }
                if closing.next_at <= now {
                    draft.ask_closing(live.number, closing.step);
                }
            }
            _ if live.expires_at <= now => time_is_up(&mut draft, live),
            _ if scheduled_query_at(live).is_some_and(|due| due <= now) => {
                ask_as_scheduled(&mut draft, live);
            }
            _ => {}
        }
    }
    draft.ask_refunds();
    draft.finish_or(Answer::NothingDue)
}

fn time_is_up(draft: &mut Draft, live: &Attempt) {
    if live.may_be_payable() {
        draft.begin_closing(live.number, ClosingCause::TimeUp);
    } else {
        draft.end(live.number, ClosingCause::TimeUp);
    }
}

fn ask_as_scheduled(draft: &mut Draft, live: &Attempt) {
    let anchor = query_anchor(live);
    let passed = (0..u8::MAX)
        .take_while(|&index| anchor.plus_ms(schedule_ms(index)) <= draft.now)
        .count();
    let passed = u8::try_from(passed).unwrap_or(u8::MAX);
    draft.push(Event::ProviderAsked {
        attempt: live.number,
        scheduled: passed.max(live.queries.scheduled),
    });
    draft.effect(Effect::QueryTrade {
        attempt: live.number,
    });
    // A native code has no claimant who would press again: an order call whose answer is missing is
    // repeated, with the same number and bytes, once the first must be over.
    if live.native.is_some()
        && passed > 1
        && live.trade.as_ref().is_some_and(|trade| {
            trade.standing == TradeStanding::Intended
                && trade.time_expire.since(draft.now) >= SHORTEST_TRADE_MS
        })
    {
        draft.effect(Effect::MakeTrade {
            attempt: live.number,
        });
    }
}

/// Asks now, unless it was asked just now or there is nothing to ask about.
pub(super) fn query(order: &Order, now: Timestamp) -> Outcome {
    let Some(live) = order.live_attempt().filter(|live| live.may_be_payable()) else {
        return already(Answer::Same);
    };
    // A time ahead of ours is another node's clock, not a query that we should wait for.
    if live
        .queries
        .last_at
        .is_some_and(|last| (0..QUERY_SPACING_MS).contains(&now.since(last)))
    {
        return already(Answer::AskedJustNow);
    }
    let mut draft = Draft::of(order, now);
    draft.push(Event::ProviderAsked {
        attempt: live.number,
        scheduled: live.queries.scheduled,
    });
    draft.effect(Effect::QueryTrade {
        attempt: live.number,
    });
    draft.finish()
}

fn query_anchor(attempt: &Attempt) -> Timestamp {
    attempt
        .claim
        .as_ref()
        .map_or(attempt.started_at, |claim| claim.at)
}

fn schedule_ms(index: u8) -> i64 {
    let index = usize::from(index);
    let last = QUERY_SCHEDULE_MS.len() - 1;
    QUERY_SCHEDULE_MS.get(index).copied().unwrap_or_else(|| {
        let beyond = i64::try_from(index - last).unwrap_or(i64::MAX);
        QUERY_SCHEDULE_MS[last].saturating_add(beyond.saturating_mul(QUERY_EVERY_MS))
    })
}

/// When an open attempt's next scheduled query is due: the first point of the schedule that is
/// neither spent nor before the trade was intended.
fn scheduled_query_at(attempt: &Attempt) -> Option<Timestamp> {
    let trade = attempt
        .trade
        .as_ref()
        .filter(|_| attempt.may_be_payable())?;
    let anchor = query_anchor(attempt);
    let point = (attempt.queries.scheduled..u8::MAX)
        .map(|index| anchor.plus_ms(schedule_ms(index)))
        .find(|point| *point > trade.intended_at)?;
    let spaced = attempt
        .queries
        .last_at
        .map(|last| last.plus_ms(QUERY_SPACING_MS));
    Some(spaced.map_or(point, |spaced| point.max(spaced)))
}

/// When a closing that is still quiet calls for a person.
fn stuck_at(closing: Closing) -> Option<Timestamp> {
    (!closing.stuck_raised).then(|| closing.since.plus_ms(CLOSING_STUCK_MS))
}

impl Order {
    /// When this order next needs a `Tick`; `None` where it waits for nothing but people. A column
    /// of its row, so that a sweep guarantees what timers only hint at.
    pub fn next_due_at(&self) -> Option<Timestamp> {
        let live = match self.live_attempt() {
            Some(live) => match live.phase {
                Phase::Closing(closing) => {
                    Some(stuck_at(closing).map_or(closing.next_at, |at| at.min(closing.next_at)))
                }
                _ => scheduled_query_at(live)
                    .map_or(live.expires_at, |at| at.min(live.expires_at))
                    .into(),
            },
            None if self.is_open() => self.terms.closes_at(),
            None => None,
        };
        self.every_refund()
            .filter_map(|refund| refund.standing.next_at())
            .chain(live)
            .min()
    }
}
