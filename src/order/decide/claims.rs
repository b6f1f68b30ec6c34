//! The claimant's side: the scan, 确认付款, and giving the code up.

use super::{
    Draft, NO_CLAIM_BEFORE_DEADLINE_MS, NO_CLAIM_BEFORE_END_MS, SHORTEST_TRADE_MS, already, ended,
    settled,
};
use crate::order::attempt::{Attempt, Claim, EndReason, PayerHash, Phase, TradeStanding};
use crate::order::effect::{Answer, Effect, Outcome, Refusal};
use crate::order::event::Event;
use crate::order::ids::AttemptNumber;
use crate::order::state::Order;
use crate::order::terms::{Product, Terms, Wallet};
use crate::order::time::Timestamp;

pub(super) fn claim(
    order: &Order,
    number: AttemptNumber,
    payer: PayerHash,
    product: Product,
    now: Timestamp,
) -> Outcome {
    let attempt = match open(order, number, now) {
        Ok(attempt) => attempt,
        Err(refusal) => return Outcome::Refused(refusal),
    };
    if let Some(claim) = &attempt.claim {
        return if claim.payer == payer {
            already(Answer::Same)
        } else {
            Outcome::Refused(Refusal::AlreadyScanned)
        };
    }
    let wallet = product.wallet();
    if attempt.native.is_some() || product.is_native() || order.terms.offer(wallet).is_none() {
        return Outcome::Refused(Refusal::WalletNotOffered { wallet });
    }
    if claim_is_too_late(&order.terms, attempt, now) {
        return Outcome::Refused(Refusal::TooLate {
            until: attempt.expires_at,
        });
    }
    let mut draft = Draft::of(order, now);
    draft.push(Event::AttemptClaimed {
        attempt: number,
        claim: Claim {
            payer,
            product,
            at: now,
        },
    });
    draft.finish()
}

fn claim_is_too_late(terms: &Terms, attempt: &Attempt, now: Timestamp) -> bool {
    let before_end = NO_CLAIM_BEFORE_END_MS.min(terms.qr_ms / 3);
    attempt.expires_at.since(now) < before_end
        || terms
            .pay_before
            .is_some_and(|deadline| deadline.since(now) < NO_CLAIM_BEFORE_DEADLINE_MS)
}

pub(super) fn pay(
    order: &Order,
    number: AttemptNumber,
    payer: PayerHash,
    now: Timestamp,
) -> Outcome {
    let claimed = open(order, number, now).and_then(|attempt| {
        let claim = claimed_by(attempt, payer)?;
        Ok((attempt, claim.product))
    });
    let (attempt, product) = match claimed {
        Ok(claimed) => claimed,
        Err(refusal) => return Outcome::Refused(refusal),
    };
    match &attempt.trade {
        None => {
            let mut draft = Draft::of(order, now);
            draft.intend_trade(number, product);
            draft.finish()
        }
        Some(trade) => {
            // The first handle is kept and handed out again; a missing one is asked for again.
            let repeat = trade.standing == TradeStanding::Intended
                && trade.time_expire.since(now) >= SHORTEST_TRADE_MS;
            let effects = if repeat {
                vec![Effect::MakeTrade { attempt: number }]
            } else {
                Vec::new()
            };
            Outcome::Already(Answer::Same, effects)
        }
    }
}

pub(super) fn release(
    order: &Order,
    number: AttemptNumber,
    payer: PayerHash,
    now: Timestamp,
) -> Outcome {
    let Some(attempt) = order.attempt(number) else {
        return Outcome::Refused(Refusal::UnknownAttempt);
    };
    if let Err(refusal) = claimed_by(attempt, payer) {
        return Outcome::Refused(refusal);
    }
    if let Some(refusal) = settled(order) {
        return Outcome::Refused(refusal);
    }
    if !attempt.is_open() {
        // It has ended, or is on its way there: nothing is left to give up.
        return already(Answer::Same);
    }
    let mut draft = Draft::of(order, now);
    draft.end_open(attempt, EndReason::Released);
    draft.finish()
}

/// The attempt, if it can still be claimed and paid.
fn open(order: &Order, number: AttemptNumber, now: Timestamp) -> Result<&Attempt, Refusal> {
    let attempt = order.attempt(number).ok_or(Refusal::UnknownAttempt)?;
    match settled(order).or_else(|| ended(attempt, now)) {
        Some(refusal) => Err(refusal),
        None => Ok(attempt),
    }
}

fn claimed_by(attempt: &Attempt, payer: PayerHash) -> Result<&Claim, Refusal> {
    attempt
        .claim
        .as_ref()
        .filter(|claim| claim.payer == payer)
        .ok_or(Refusal::NotClaimed)
}

impl Draft {
    /// Intends the one trade of an open attempt. The caller has seen that the wallet is offered.
    pub(super) fn intend_trade(&mut self, number: AttemptNumber, product: Product) {
        let Some(attempt) = self.order.attempt(number) else {
            return;
        };
        debug_assert!(matches!(attempt.phase, Phase::Shown | Phase::Scanned));
        let Some(offer) = self.order.terms.offer(product.wallet()) else {
            return;
        };
        let time_expire = match product.wallet() {
            Wallet::Wechat => attempt.expires_at.max(self.now.plus_ms(SHORTEST_TRADE_MS)),
            Wallet::Alipay => attempt.expires_at,
        };
        let intended = Event::TradeIntended {
            attempt: number,
            product,
            account: offer.account.clone(),
            application: offer.application.clone(),
            time_expire,
        };
        self.push(intended);
        self.effect(Effect::MakeTrade { attempt: number });
    }
}
