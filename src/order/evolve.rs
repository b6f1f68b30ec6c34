//! Event to next state: no decisions, so replay is safe.
//!
//! An event that names an attempt or a refund which does not exist changes nothing: `decide` makes
//! none, and `invariants` finds what a damaged row would lack.

use super::attempt::{Attempt, Closing, ClosingStep, Phase, Queries, Trade, TradeStanding};
use super::event::{Attention, Event};
use super::ids::{AttemptNumber, OrderId, RefundId};
use super::refunds::{Refund, RefundStanding};
use super::state::{Mismatch, MismatchStanding, Order, Settlement};
use super::terms::Terms;
use super::time::Timestamp;

impl Order {
    /// A new order: the one state that no event precedes.
    pub fn created(id: OrderId, terms: Terms, at: Timestamp) -> Self {
        Self {
            id,
            version: 1,
            created_at: at,
            terms,
            settlement: Settlement::Open,
            cancel_requested_at: None,
            attempts: Vec::new(),
            captures: Vec::new(),
            mismatches: Vec::new(),
            refunds: Vec::new(),
            foreign_refunds: Vec::new(),
            fiscal_receipt: None,
        }
    }
}

/// The state after the events of one commit, made at `at`: one version step.
#[must_use]
pub fn evolve(mut order: Order, events: &[Event], at: Timestamp) -> Order {
    for event in events {
        apply(&mut order, event, at);
    }
    order.version = order.version.saturating_add(1);
    order
}

/// The state after a whole timeline, one entry per commit (E5). `None` unless the first commit
/// begins with `OrderCreated`.
pub fn replay<'a>(
    id: OrderId,
    commits: impl IntoIterator<Item = (Timestamp, &'a [Event])>,
) -> Option<Order> {
    let mut commits = commits.into_iter();
    let (at, first) = commits.next()?;
    let (Event::OrderCreated { terms }, rest) = first.split_first()? else {
        return None;
    };
    let mut order = Order::created(id, terms.clone(), at);
    for event in rest {
        apply(&mut order, event, at);
    }
    Some(commits.fold(order, |order, (at, events)| evolve(order, events, at)))
}

/// One event.
pub(super) fn apply(order: &mut Order, event: &Event, at: Timestamp) {
    match event {
        // Attention is for people; the order itself notes one kind, so as not to call twice.
        Event::AttentionRaised {
            why: Attention::ClosingStuck,
        } => {
            for attempt in &mut order.attempts {
                if let Phase::Closing(closing) = &mut attempt.phase {
                    closing.stuck_raised = true;
                }
            }
        }
        // `Order::created` is the order's beginning.
        Event::AttentionRaised { .. } | Event::OrderCreated { .. } => {}
        Event::CancelRequested => order.cancel_requested_at = Some(at),
        Event::OrderPaid => order.settlement = Settlement::Paid { at },
        Event::OrderClosed { reason } => {
            order.settlement = Settlement::Closed {
                at,
                reason: *reason,
            };
        }
        Event::MoneyCaptured { capture } => order.captures.push(capture.clone()),
        Event::MoneyMismatched { mismatch } => order.mismatches.push(mismatch.clone()),
        Event::RefundRequested { .. }
        | Event::RefundAsked { .. }
        | Event::RefundAccepted { .. }
        | Event::RefundAbnormal { .. }
        | Event::RefundRepairAsked { .. }
        | Event::RefundUnderfunded { .. }
        | Event::RefundRenewed { .. }
        | Event::RefundRoundRevived { .. }
        | Event::RefundSucceeded { .. }
        | Event::RefundFailed { .. }
        | Event::SurplusRefunded { .. }
        | Event::SurplusRefundFailed { .. }
        | Event::MismatchRefunded { .. }
        | Event::MismatchRefundFailed { .. } => apply_to_refund(order, event, at),
        Event::ForeignRefundHeard { foreign } => order.foreign_refunds.push(foreign.clone()),
        Event::ReceiptIssued { receipt } => order.fiscal_receipt = Some(receipt.clone()),
        Event::SettlementProposed {
            mismatch,
            by,
            operator,
        } => set_mismatch(
            order,
            *mismatch,
            MismatchStanding::Proposed {
                by: *by,
                operator: *operator,
                at,
            },
        ),
        Event::MismatchSettled {
            mismatch,
            refund,
            next_at,
            ..
        } => {
            let standing = match refund {
                None => MismatchStanding::SettledOutside { at },
                Some(refund) => MismatchStanding::GoingBack {
                    refund: *refund,
                    standing: first_try(*next_at),
                    round: 0,
                },
            };
            set_mismatch(order, *mismatch, standing);
        }
        Event::AttemptStarted {
            attempt,
            id,
            native,
            expires_at,
        } => order.attempts.push(Attempt {
            number: *attempt,
            id: *id,
            native: *native,
            started_at: at,
            expires_at: *expires_at,
            phase: Phase::Shown,
            claim: None,
            trade: None,
            queries: Queries::default(),
        }),
        Event::AttemptClaimed { attempt, .. }
        | Event::TradeIntended { attempt, .. }
        | Event::TradeMade { attempt, .. }
        | Event::TradeRefused { attempt, .. }
        | Event::TradeDied { attempt }
        | Event::ProviderAsked { attempt, .. }
        | Event::AttemptClosing { attempt, .. }
        | Event::ClosingMoved { attempt, .. }
        | Event::AttemptSucceeded { attempt }
        | Event::AttemptExpired { attempt }
        | Event::AttemptCancelled { attempt, .. }
        | Event::AttemptFailed { attempt, .. } => apply_to_attempt(order, *attempt, event, at),
    }
}

fn apply_to_attempt(order: &mut Order, number: AttemptNumber, event: &Event, at: Timestamp) {
    let Some(attempt) = order.attempt_mut(number) else {
        return;
    };
    match event {
        Event::AttemptClaimed { claim, .. } => {
            attempt.claim = Some(*claim);
            attempt.phase = Phase::Scanned;
        }
        Event::TradeIntended {
            product,
            account,
            application,
            time_expire,
            ..
        } => {
            attempt.trade = Some(Trade {
                product: *product,
                account: account.clone(),
                application: application.clone(),
                time_expire: *time_expire,
                intended_at: at,
                standing: TradeStanding::Intended,
            });
        }
        Event::TradeMade { handle, .. } => {
            let handle = handle.clone();
            set_trade(attempt, TradeStanding::Made { handle, at });
        }
        Event::TradeRefused { code, .. } => {
            let code = code.clone();
            set_trade(attempt, TradeStanding::Refused { code, at });
        }
        Event::TradeDied { .. } => set_trade(attempt, TradeStanding::Dead { at }),
        Event::ProviderAsked { scheduled, .. } => {
            attempt.queries = Queries {
                scheduled: *scheduled,
                last_at: Some(at),
            };
        }
        Event::AttemptClosing { cause, .. } => {
            attempt.phase = Phase::Closing(Closing {
                since: at,
                cause: *cause,
                step: ClosingStep::Query,
                next_at: at,
                tries: 0,
                stuck_raised: false,
            });
        }
        Event::ClosingMoved {
            step,
            next_at,
            tries,
            ..
        } => {
            if let Phase::Closing(closing) = &mut attempt.phase {
                closing.step = *step;
                closing.next_at = *next_at;
                closing.tries = *tries;
            }
        }
        Event::AttemptSucceeded { .. } => {
            attempt.phase = Phase::Succeeded { at };
            // What is paid cannot be paid again.
            if attempt.may_be_payable() {
                set_trade(attempt, TradeStanding::Dead { at });
            }
        }
        Event::AttemptExpired { .. } => attempt.phase = Phase::Expired { at },
        Event::AttemptCancelled { reason, .. } => {
            attempt.phase = Phase::Cancelled {
                at,
                reason: *reason,
            };
        }
        Event::AttemptFailed { code, .. } => {
            attempt.phase = Phase::Failed {
                at,
                code: code.clone(),
            };
        }
        _ => {}
    }
}

fn set_trade(attempt: &mut Attempt, standing: TradeStanding) {
    if let Some(trade) = &mut attempt.trade {
        trade.standing = standing;
    }
}

fn set_mismatch(order: &mut Order, number: u16, to: MismatchStanding) {
    if let Some(Mismatch { standing, .. }) = order.mismatches.get_mut(usize::from(number)) {
        *standing = to;
    }
}

/// Asked for with the commit that intends it.
const fn first_try(next_at: Timestamp) -> RefundStanding {
    RefundStanding::Pending {
        next_at,
        tries: 1,
        underfunded: false,
    }
}

fn apply_to_refund(order: &mut Order, event: &Event, at: Timestamp) {
    let (id, to): (RefundId, RefundStanding) = match event {
        Event::RefundRequested {
            refund,
            merchant_refund_no,
            amount,
            next_at,
            tries,
        } => {
            order.refunds.push(Refund {
                id: *refund,
                merchant_refund_no: merchant_refund_no.clone(),
                amount: *amount,
                requested_at: at,
                standing: RefundStanding::Pending {
                    next_at: *next_at,
                    tries: *tries,
                    underfunded: false,
                },
            });
            return;
        }
        Event::RefundAsked {
            refund,
            next_at,
            tries,
        } => {
            let Some(known) = order.refund(*refund) else {
                return;
            };
            (*refund, known.standing.asked_again(*next_at, *tries))
        }
        Event::RefundAccepted { refund, next_at } => (
            *refund,
            RefundStanding::Processing {
                since: at,
                next_at: *next_at,
                tries: 1,
            },
        ),
        Event::RefundAbnormal { refund, next_at } => (
            *refund,
            RefundStanding::Abnormal {
                since: at,
                next_at: *next_at,
                tries: 1,
                repairing: false,
            },
        ),
        Event::RefundRepairAsked { refund, next_at } => (
            *refund,
            RefundStanding::Abnormal {
                since: at,
                next_at: *next_at,
                tries: 1,
                repairing: true,
            },
        ),
        Event::RefundUnderfunded { refund } => {
            let Some(RefundStanding::Pending { next_at, tries, .. }) =
                order.refund(*refund).map(|known| known.standing)
            else {
                return;
            };
            let standing = RefundStanding::Pending {
                next_at,
                tries,
                underfunded: true,
            };
            (*refund, standing)
        }
        Event::RefundRoundRevived { refund, round } => {
            order.set_refund_round(*refund, *round);
            return;
        }
        Event::RefundRenewed {
            refund,
            round,
            next_at,
        } => {
            order.set_refund_round(*refund, *round);
            (*refund, first_try(*next_at))
        }
        Event::RefundSucceeded { refund }
        | Event::SurplusRefunded { refund }
        | Event::MismatchRefunded { refund } => (*refund, RefundStanding::Succeeded { at }),
        Event::RefundFailed { refund }
        | Event::SurplusRefundFailed { refund }
        | Event::MismatchRefundFailed { refund } => (*refund, RefundStanding::Failed { at }),
        _ => return,
    };
    order.set_refund(id, to);
}
