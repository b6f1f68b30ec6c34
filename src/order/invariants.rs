//! What must always hold of one order: each invariant is a named predicate, with the id it has in
//! the project's table of invariants. Tests, the model and production call the same ones; in
//! production a violation refuses the write, never the process.
//!
//! [`check`] judges a state, [`check_step`] a commit, [`check_at_rest`] the money once nothing is
//! under way, by our books and by the provider's.

use super::attempt::{Attempt, EndReason, Phase, Trade, TradeStanding};
use super::decide::{NO_START_MS, SHORTEST_TRADE_MS};
use super::ids::RefundId;
use super::money::Fen;
use super::refunds::{RefundCause, RefundStanding};
use super::state::{Capture, CaptureStanding, Mismatch, MismatchStanding, Order, Settlement};
use super::terms::{Product, Wallet};

/// An order that must not be. Nothing personal is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invariant {invariant} is broken: {found}; the write is refused, the stored row stands")]
pub struct Violation {
    /// `"M2"`, `"Q1"` and so on.
    pub invariant: &'static str,
    pub found: &'static str,
}

/// `Err` says what was found.
pub type Verdict = Result<(), &'static str>;

/// An invariant of a state, with its id.
pub type OfAState = (&'static str, fn(&Order) -> Verdict);
/// An invariant of a commit, with its id: before, after.
pub type OfAStep = (&'static str, fn(&Order, &Order) -> Verdict);

/// The invariants of a state.
pub const OF_A_STATE: &[OfAState] = &[
    ("M2", one_capture_is_kept),
    ("M3", captures_fit_their_trades),
    ("M4", refunds_stay_within_the_payment),
    ("M5", refund_ids_are_unique),
    ("M7", the_settlement_has_its_evidence),
    ("M8", amounts_are_payable),
    ("Q1", one_attempt_is_live),
    ("Q2", claims_and_trades_agree),
    ("Q3", claims_are_before_the_end),
    ("Q4", what_has_ended_is_dead),
    ("Q5", one_trade_is_payable),
    ("Q6", attempts_keep_the_deadline),
    ("Q7", what_lives_is_due),
];

/// The invariants of a commit: before, after.
pub const OF_A_STEP: &[OfAStep] = &[
    ("O1", one_version_step),
    ("M6", money_is_append_only),
    ("M7", settlements_are_final),
    ("Q2", claims_never_change),
    ("Q4", attempts_end_by_way_of_closing),
    ("Q6", trades_never_change),
];

/// Every invariant of a state.
pub fn check(order: &Order) -> Result<(), Violation> {
    OF_A_STATE.iter().try_for_each(|(invariant, holds)| {
        holds(order).map_err(|found| Violation { invariant, found })
    })
}

/// Every invariant of a commit, and of the state it leaves. What must be true before an order may
/// be written.
pub fn check_step(before: &Order, after: &Order) -> Result<(), Violation> {
    OF_A_STEP.iter().try_for_each(|(invariant, holds)| {
        holds(before, after).map_err(|found| Violation { invariant, found })
    })?;
    check(after)
}

const fn require(holds: bool, found: &'static str) -> Verdict {
    if holds { Ok(()) } else { Err(found) }
}

/// M2: at most one capture is kept, and nothing is heard of twice.
fn one_capture_is_kept(order: &Order) -> Verdict {
    let kept = order.captures.iter().filter(|capture| is_kept(capture));
    require(kept.count() <= 1, "two captures are kept")?;
    require(
        all_different(
            order
                .captures
                .iter()
                .map(|capture| (capture.wallet, &capture.transaction_id)),
        ),
        "one transaction stands there twice",
    )
}

/// M3: a capture names a trade that was intended, with its wallet and its amount.
fn captures_fit_their_trades(order: &Order) -> Verdict {
    order.captures.iter().try_for_each(|capture| {
        let trade = order
            .attempt(capture.attempt)
            .and_then(|attempt| attempt.trade.as_ref())
            .ok_or("a capture of a trade that was never intended")?;
        require(
            capture.wallet == trade.product.wallet(),
            "a capture by another wallet than its trade's",
        )?;
        require(
            capture.amount == order.terms.amount,
            "a capture of another amount than the order's",
        )
    })?;
    trades(order).try_for_each(|(_, trade)| {
        let offered = order
            .terms
            .offer(trade.product.wallet())
            .is_some_and(|offer| {
                offer.account == trade.account && offer.application == trade.application
            });
        require(offered, "a trade at an account that was not offered")
    })
}

/// M4: what merchants give back is never more than the payment took, each more than nothing.
fn refunds_stay_within_the_payment(order: &Order) -> Verdict {
    let payment = order.payment().map_or(Fen::ZERO, |payment| payment.amount);
    require(
        order.refunds.iter().all(|refund| refund.amount > Fen::ZERO),
        "a refund of nothing, or less",
    )?;
    require(
        order.refunds_held() <= payment,
        "refunds of more than the payment took",
    )
}

/// M5: a refund id stands for one refund, and so does its number at the provider.
fn refund_ids_are_unique(order: &Order) -> Verdict {
    let ids = order.every_refund().map(|refund| refund.id);
    require(
        all_different(ids.collect::<Vec<_>>().iter()),
        "one refund id for two refunds",
    )?;
    let numbers = order.every_refund().map(|refund| refund.number(order));
    require(
        all_different(numbers.collect::<Vec<_>>().iter()),
        "one refund number for two refunds",
    )?;
    require(
        all_different(
            order
                .refunds
                .iter()
                .map(|refund| &refund.merchant_refund_no),
        ),
        "one merchant's refund number for two refunds",
    )
}

/// M7: paid means that a capture is kept; not paid, that none is, nor a receipt of one.
fn the_settlement_has_its_evidence(order: &Order) -> Verdict {
    let paid = matches!(order.settlement, Settlement::Paid { .. });
    require(
        paid == order.payment().is_some(),
        "paid without a kept capture, or a kept capture without paid",
    )?;
    require(
        order
            .payment()
            .is_none_or(|capture| order.terms.in_time(capture.succeeded_at)),
        "a capture is kept that came after the deadline",
    )?;
    require(
        paid || order.fiscal_receipt.is_none(),
        "a fiscal receipt of an order that is not paid",
    )
}

/// M8: whole fen, more than none.
fn amounts_are_payable(order: &Order) -> Verdict {
    require(
        order.terms.amount.is_payable(),
        "an order over no money, or too much",
    )
}

/// Q1: one live attempt, the last; none once the order is closed.
fn one_attempt_is_live(order: &Order) -> Verdict {
    let numbered = order.attempts.iter().zip(1u16..);
    for (attempt, number) in numbered {
        require(attempt.number.get() == number, "attempts out of order")?;
    }
    let earlier = order
        .attempts
        .split_last()
        .map_or(&[][..], |(_, rest)| rest);
    require(
        !earlier.iter().any(Attempt::is_live),
        "an attempt lives beside its successor",
    )?;
    require(
        !matches!(order.settlement, Settlement::Closed { .. }) || order.live_attempt().is_none(),
        "the order is closed, an attempt of it lives",
    )?;
    require(
        all_different(order.attempts.iter().map(|attempt| attempt.id)),
        "one id for two attempts",
    )
}

/// Q2: a trade belongs to a claim, or to a native code; one product, one wallet.
fn claims_and_trades_agree(order: &Order) -> Verdict {
    for attempt in &order.attempts {
        require(
            attempt.native.is_none() || attempt.claim.is_none(),
            "a native code was claimed",
        )?;
        require(
            attempt.phase != Phase::Scanned || attempt.claim.is_some(),
            "scanned by nobody",
        )?;
        require(
            attempt.phase != Phase::Shown || attempt.claim.is_none(),
            "claimed, and still shown",
        )?;
        if let Some(trade) = &attempt.trade {
            let product_fits = match (&attempt.native, &attempt.claim) {
                (Some(wallet), _) => trade.product.is_native() && trade.product.wallet() == *wallet,
                (None, Some(claim)) => trade.product == claim.product,
                (None, None) => false,
            };
            require(product_fits, "a trade of another product than the claim's")?;
        }
    }
    Ok(())
}

/// Q3, as far as the heart can know it: the store compares with its own clock.
fn claims_are_before_the_end(order: &Order) -> Verdict {
    let in_time = order.attempts.iter().all(|attempt| {
        attempt
            .claim
            .as_ref()
            .is_none_or(|claim| claim.at < attempt.expires_at)
    });
    require(in_time, "a claim after the attempt's end")
}

/// Q4: what has ended cannot be paid, as far as the provider's word goes.
fn what_has_ended_is_dead(order: &Order) -> Verdict {
    require(
        order
            .attempts
            .iter()
            .all(|attempt| attempt.is_live() || !attempt.may_be_payable()),
        "an attempt has ended, its trade may still be paid",
    )?;
    require(
        order
            .attempts
            .iter()
            .all(|attempt| !matches!(attempt.phase, Phase::Closing(_)) || attempt.may_be_payable()),
        "an attempt is closing, and nobody can pay it",
    )
}

/// Q5: no second code is payable while the first may be.
fn one_trade_is_payable(order: &Order) -> Verdict {
    let payable = order
        .attempts
        .iter()
        .filter(|attempt| attempt.may_be_payable());
    require(payable.count() <= 1, "two trades may be paid")
}

/// Q6: no attempt in the last 120 s, none beyond the deadline, and the provider's own end of
/// payment is the attempt's, or the least that `WeChat` accepts.
fn attempts_keep_the_deadline(order: &Order) -> Verdict {
    for attempt in &order.attempts {
        if let Some(deadline) = order.terms.pay_before {
            require(
                deadline.since(attempt.started_at) >= NO_START_MS,
                "an attempt was started too close to the deadline",
            )?;
            require(
                attempt.expires_at <= deadline,
                "an attempt ends after the deadline",
            )?;
        }
        require(
            attempt.expires_at <= attempt.started_at.plus_ms(order.terms.qr_ms),
            "an attempt lives too long",
        )?;
        if let Some(trade) = &attempt.trade {
            let least = trade.intended_at.plus_ms(SHORTEST_TRADE_MS);
            let end = match trade.product.wallet() {
                Wallet::Wechat => attempt.expires_at.max(least),
                Wallet::Alipay => attempt.expires_at,
            };
            require(
                trade.time_expire == end,
                "a trade with another end than its attempt's",
            )?;
            require(
                trade.intended_at < attempt.expires_at,
                "a trade was intended after its attempt's end",
            )?;
        }
    }
    Ok(())
}

/// Q7: whatever is not at rest has a time at which it goes on.
fn what_lives_is_due(order: &Order) -> Verdict {
    let waits = order.live_attempt().is_some()
        || order
            .every_refund()
            .any(|refund| !refund.standing.is_over())
        || (order.is_open() && order.terms.pay_before.is_some());
    require(
        !waits || order.next_due_at().is_some(),
        "something is under way, and nothing will wake it",
    )?;
    require(
        !(order.is_open() && order.cancel_requested_at.is_some()) || order.live_attempt().is_some(),
        "a cancelled order stays open without a reason",
    )
}

/// O1: one commit, one version.
fn one_version_step(before: &Order, after: &Order) -> Verdict {
    require(
        before.version.checked_add(1) == Some(after.version),
        "a commit that is not one version step",
    )?;
    require(
        before.id == after.id
            && before.terms == after.terms
            && before.created_at == after.created_at,
        "the frozen snapshot changed",
    )
}

/// M6: a known success is never forgotten; only its refund goes on.
fn money_is_append_only(before: &Order, after: &Order) -> Verdict {
    require(
        after.captures.len() >= before.captures.len()
            && after.mismatches.len() >= before.mismatches.len()
            && after.refunds.len() >= before.refunds.len()
            && after.foreign_refunds.starts_with(&before.foreign_refunds),
        "a capture, its evidence or a refund was forgotten",
    )?;
    let odd = before
        .mismatches
        .iter()
        .zip(&after.mismatches)
        .all(|(old, new)| {
            let kept = Mismatch {
                standing: old.standing,
                ..new.clone()
            };
            kept == *old && settling_goes_on(old.standing, new.standing)
        });
    require(odd, "the evidence of an odd capture was changed")?;
    let refunds = before.refunds.iter().zip(&after.refunds).all(|(old, new)| {
        old.id == new.id
            && old.amount == new.amount
            && old.merchant_refund_no == new.merchant_refund_no
            && refund_may_become((old.standing, 0), (new.standing, 0))
    });
    require(refunds, "a refund was changed")?;
    let same = before
        .captures
        .iter()
        .zip(&after.captures)
        .all(|(old, new)| {
            let refund_goes_on = match (refund_of(old), refund_of(new)) {
                (None, None) => true,
                (Some((old, from, old_round)), Some((new, to, new_round))) => {
                    old == new && refund_may_become((from, old_round), (to, new_round))
                }
                _ => false,
            };
            refund_goes_on
                && Capture {
                    standing: old.standing,
                    ..new.clone()
                } == *old
        });
    require(same, "a capture was changed")
}

/// A success is final; a failure may turn out to be a success, or begin anew in the next round.
fn refund_may_become(
    (from, old_round): (RefundStanding, u8),
    (to, new_round): (RefundStanding, u8),
) -> bool {
    let same_round = old_round == new_round;
    match from {
        // A number that had been given up has gone through after all.
        _ if new_round < old_round => {
            !matches!(from, RefundStanding::Succeeded { .. })
                && matches!(to, RefundStanding::Succeeded { .. })
        }
        RefundStanding::Succeeded { .. } => same_round && from == to,
        RefundStanding::Failed { .. } if same_round => {
            from == to || matches!(to, RefundStanding::Succeeded { .. })
        }
        RefundStanding::Failed { .. } => {
            old_round.checked_add(1) == Some(new_round)
                && matches!(to, RefundStanding::Pending { .. })
        }
        _ => same_round,
    }
}

/// What two people have decided is decided.
fn settling_goes_on(from: MismatchStanding, to: MismatchStanding) -> bool {
    match (from, to) {
        (
            MismatchStanding::Waiting,
            MismatchStanding::Waiting | MismatchStanding::Proposed { .. },
        )
        | (
            MismatchStanding::Proposed { .. },
            MismatchStanding::SettledOutside { .. } | MismatchStanding::GoingBack { .. },
        ) => true,
        (
            MismatchStanding::Proposed {
                operator: first, ..
            },
            MismatchStanding::Proposed { operator, .. },
        ) => first == operator,
        (MismatchStanding::SettledOutside { .. }, _) => from == to,
        (
            MismatchStanding::GoingBack {
                refund: old,
                standing: from,
                round: old_round,
            },
            MismatchStanding::GoingBack {
                refund: new,
                standing: to,
                round: new_round,
            },
        ) => old == new && refund_may_become((from, old_round), (to, new_round)),
        _ => false,
    }
}

/// M7: paid and closed are final, and an accepted cancel is not taken back.
fn settlements_are_final(before: &Order, after: &Order) -> Verdict {
    require(
        before.is_open() || before.settlement == after.settlement,
        "an order that was paid or closed became something else",
    )?;
    require(
        before.cancel_requested_at.is_none()
            || before.cancel_requested_at == after.cancel_requested_at,
        "an accepted cancel was taken back",
    )?;
    require(
        before.fiscal_receipt.is_none() || after.fiscal_receipt.is_some(),
        "a fiscal receipt was taken back",
    )
}

/// Q2: the first claim binds; an attempt stays what it was made as.
fn claims_never_change(before: &Order, after: &Order) -> Verdict {
    require(
        after.attempts.len() >= before.attempts.len(),
        "an attempt was forgotten",
    )?;
    let same = before
        .attempts
        .iter()
        .zip(&after.attempts)
        .all(|(old, new)| {
            old.id == new.id
                && old.native == new.native
                && old.started_at == new.started_at
                && old.expires_at == new.expires_at
                && (old.claim.is_none() || old.claim == new.claim)
        });
    require(same, "a claim or its attempt changed hands")
}

/// Q4: with a trade that may be paid, `closing` is the only way to an end that is not a payment or
/// the provider's refusal; and a capture is the only way out of an end.
fn attempts_end_by_way_of_closing(before: &Order, after: &Order) -> Verdict {
    for (old, new) in before.attempts.iter().zip(&after.attempts) {
        let allowed = match (&old.phase, &new.phase) {
            (_, Phase::Succeeded { .. }) => after
                .captures
                .iter()
                .any(|capture| capture.attempt == new.number),
            (old, new) if old == new => true,
            (Phase::Shown | Phase::Scanned | Phase::Closing(_), Phase::Failed { .. }) => matches!(
                new.trade.as_ref().map(|trade| &trade.standing),
                Some(TradeStanding::Refused { .. })
            ),
            (Phase::Closing(old), Phase::Closing(new)) => {
                old.since == new.since && old.cause == new.cause
            }
            (Phase::Shown | Phase::Scanned, Phase::Cancelled { reason, .. }) => {
                old.trade.is_none() && (*reason != EndReason::Released || old.claim.is_some())
            }
            // Open to expired: without a trade at once; with one only on the provider's own word.
            (Phase::Shown, Phase::Scanned)
            | (Phase::Shown | Phase::Scanned, Phase::Closing(_) | Phase::Expired { .. })
            | (Phase::Closing(_), Phase::Expired { .. } | Phase::Cancelled { .. }) => true,
            _ => false,
        };
        require(allowed, "an attempt went a way that there is not")?;
    }
    Ok(())
}

/// Q6: a trade keeps the request it was made with; what is dead stays dead.
fn trades_never_change(before: &Order, after: &Order) -> Verdict {
    for (old, new) in before.attempts.iter().zip(&after.attempts) {
        let Some(old) = &old.trade else { continue };
        let Some(new) = &new.trade else {
            return Err("a trade was forgotten");
        };
        let frozen = |trade: &Trade| -> (Product, _, _, _, _) {
            (
                trade.product,
                trade.account.clone(),
                trade.application.clone(),
                trade.time_expire,
                trade.intended_at,
            )
        };
        require(frozen(old) == frozen(new), "a trade's request changed")?;
        let goes_on = match &old.standing {
            TradeStanding::Intended => true,
            TradeStanding::Made { .. } => {
                new.standing == old.standing || matches!(new.standing, TradeStanding::Dead { .. })
            }
            TradeStanding::Refused { .. } | TradeStanding::Dead { .. } => {
                new.standing == old.standing
            }
        };
        require(goes_on, "a trade that had ended, or its handle, changed")?;
    }
    Ok(())
}

/// Money of one order by somebody's books.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Books {
    pub captured: Fen,
    /// Surplus, and odd captures that went back.
    pub surplus_refunded: Fen,
    /// What merchants gave back of the payment.
    pub refunded: Fen,
}

impl Books {
    /// What our own rows say.
    pub fn of(order: &Order) -> Self {
        let sum = |amounts: &mut dyn Iterator<Item = Fen>| {
            Fen::sum(amounts).unwrap_or(Fen::new(i64::MAX))
        };
        let gone = |cause: RefundCause| {
            sum(&mut order
                .every_refund()
                .filter(|refund| {
                    refund.cause == cause
                        && matches!(refund.standing, RefundStanding::Succeeded { .. })
                })
                .map(|refund| refund.amount))
        };
        Self {
            captured: sum(&mut order.captures.iter().map(|capture| capture.amount)),
            surplus_refunded: gone(RefundCause::Surplus),
            refunded: gone(RefundCause::Merchant),
        }
    }

    pub fn net(self) -> Option<Fen> {
        self.captured.checked_sub(self.surplus_refunded)
    }
}

/// At rest: no live attempt, no refund in flight, no surplus refused, no mismatch that waits for people.
pub fn at_rest(order: &Order) -> bool {
    order.live_attempt().is_none()
        && order.mismatches.iter().all(Mismatch::is_settled)
        && order.every_refund().all(|refund| match refund.standing {
            RefundStanding::Succeeded { .. } => true,
            // The merchant was told, and keeps the money.
            RefundStanding::Failed { .. } => refund.cause == RefundCause::Merchant,
            _ => false,
        })
}

/// M1: at rest, what was taken and not given back is the order's amount if it is paid, else
/// nothing, by our books and by the provider's. An order that is not at rest passes.
pub fn check_at_rest(order: &Order, provider: Books) -> Result<(), Violation> {
    if !at_rest(order) {
        return Ok(());
    }
    let owed = if matches!(order.settlement, Settlement::Paid { .. }) {
        order.terms.amount
    } else {
        Fen::ZERO
    };
    // Odd money that went back leaves nothing there; what people settled elsewhere leaves anything.
    // What the provider's console gave back is in its books alone.
    let foreign = !order.foreign_refunds.is_empty();
    let odd = foreign || !order.mismatches.is_empty();
    let outside = foreign
        || order
            .mismatches
            .iter()
            .any(|mismatch| matches!(mismatch.standing, MismatchStanding::SettledOutside { .. }));
    let verdict = require(
        Books::of(order).net() == Some(owed),
        "at rest, our books do not hold what the order owes",
    )
    .and_then(|()| {
        require(
            outside || provider.net() == Some(owed),
            "at rest, the provider's books do not hold what the order owes",
        )
    })
    .and_then(|()| {
        require(
            odd || provider == Books::of(order),
            "at rest, our books differ from the provider's",
        )
    });
    verdict.map_err(|found| Violation {
        invariant: "M1",
        found,
    })
}

fn trades(order: &Order) -> impl Iterator<Item = (&Attempt, &Trade)> {
    order
        .attempts
        .iter()
        .filter_map(|attempt| Some((attempt, attempt.trade.as_ref()?)))
}

fn is_kept(capture: &Capture) -> bool {
    capture.standing == CaptureStanding::Kept
}

const fn refund_of(capture: &Capture) -> Option<(RefundId, RefundStanding, u8)> {
    match capture.standing {
        CaptureStanding::Kept => None,
        CaptureStanding::Surplus {
            refund,
            standing,
            round,
        } => Some((refund, standing, round)),
    }
}

/// An order has few attempts and fewer captures: comparing pairs is cheapest.
fn all_different<T: PartialEq>(items: impl Iterator<Item = T> + Clone) -> bool {
    let mut rest = items;
    while let Some(item) = rest.next() {
        if rest.clone().any(|other| other == item) {
            return false;
        }
    }
    true
}
