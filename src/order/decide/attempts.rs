//! Starting an attempt, and cancelling the order: what ends the attempt before.

use super::{Draft, LINK_GRACE_MS, NO_START_MS, QUERY_SPACING_MS, already, settled};
use crate::order::attempt::{Attempt, Closing, ClosingStep, EndReason, Phase};
use crate::order::effect::{Answer, Outcome, Refusal};
use crate::order::event::Event;
use crate::order::ids::{AttemptId, AttemptNumber};
use crate::order::state::{Order, Settlement};
use crate::order::terms::{CodeMode, Product, Wallet};
use crate::order::time::Timestamp;

pub(super) fn start(
    order: &Order,
    id: AttemptId,
    wallet: Option<Wallet>,
    now: Timestamp,
) -> Outcome {
    if order.attempts.iter().any(|attempt| attempt.id == id) {
        return already(Answer::Same);
    }
    let (number, native) = match may_start(order, wallet, now) {
        Ok(start) => start,
        Err(refusal) => return Outcome::Refused(refusal),
    };
    let mut draft = Draft::of(order, now);
    if let Some(live) = order.live_attempt() {
        if let Phase::Closing(closing) = &live.phase {
            return Outcome::Refused(Refusal::AttemptClosing {
                retry_at: retry_at(live, closing, now),
            });
        }
        draft.end_open(live, EndReason::Superseded);
        if live.may_be_payable() {
            // The provider has the next word; the wish is repeated when it is spoken.
            return draft.finish();
        }
    }
    let end = now.plus_ms(order.terms.qr_ms);
    draft.push(Event::AttemptStarted {
        attempt: number,
        id,
        native,
        expires_at: order
            .terms
            .pay_before
            .map_or(end, |deadline| end.min(deadline)),
    });
    if let Some(wallet) = native {
        let product = match wallet {
            Wallet::Wechat => Product::WechatNative,
            Wallet::Alipay => Product::AlipayPrecreate,
        };
        draft.intend_trade(number, product);
    }
    draft.finish()
}

/// The new attempt's number, and in native mode its wallet.
fn may_start(
    order: &Order,
    wallet: Option<Wallet>,
    now: Timestamp,
) -> Result<(AttemptNumber, Option<Wallet>), Refusal> {
    if let Some(refusal) = settled(order) {
        return Err(refusal);
    }
    if order.cancel_requested_at.is_some() {
        return Err(Refusal::CancelPending);
    }
    if let Some(pay_before) = order.terms.pay_before
        && pay_before.since(now) < NO_START_MS
    {
        return Err(Refusal::DeadlinePassed { pay_before });
    }
    if let Some(wallet) = wallet
        && order.terms.offer(wallet).is_none()
    {
        return Err(Refusal::WalletNotOffered { wallet });
    }
    let native = match order.terms.mode {
        CodeMode::Unified => None,
        CodeMode::Native => Some(wallet.ok_or(Refusal::WalletRequired)?),
    };
    let number = match order.attempts.last() {
        None => AttemptNumber::FIRST,
        Some(last) => last.number.next().ok_or(Refusal::TooManyAttempts)?,
    };
    Ok((number, native))
}

/// When it is worth asking again for a new code: the next step of the closing, but for a link or
/// code that nobody opened not before it has lost its power.
fn retry_at(live: &Attempt, closing: &Closing, now: Timestamp) -> Timestamp {
    let next = closing.next_at.max(now.plus_ms(QUERY_SPACING_MS));
    match (&live.trade, closing.step) {
        (Some(trade), ClosingStep::Wait) => next.max(trade.time_expire.plus_ms(LINK_GRACE_MS)),
        _ => next,
    }
}

pub(super) fn cancel(order: &Order, now: Timestamp) -> Outcome {
    match order.settlement {
        Settlement::Paid { .. } => return Outcome::Refused(Refusal::AlreadyPaid),
        Settlement::Closed { .. } => return already(Answer::Same),
        Settlement::Open if order.cancel_requested_at.is_some() => return already(Answer::Same),
        Settlement::Open => {}
    }
    let mut draft = Draft::of(order, now);
    draft.push(Event::CancelRequested);
    if let Some(live) = order.live_attempt()
        && live.is_open()
    {
        draft.end_open(live, EndReason::Cancelled);
    }
    draft.finish()
}
