//! A transaction on its way to the rows of any store: its JSON, and the rows that follow from what the
//! step's events say. Made by the many who call, not by the few who write.

use super::{Actor, DeliveryState, OrderWrite, Rejection, TimelineEntry, Transaction, Write};
use crate::order::event::Event;
use crate::order::refunds::RefundOf;
use crate::order::state::{CaptureStanding, MismatchStanding};
use crate::order::{
    AccountId, Attempt, AttemptNumber, Capture, Claim, Mismatch, Order, OrderId, RefundCause,
    RefundId, RefundStanding, Timestamp, ledger,
};

/// A transaction with its JSON already written.
#[derive(Debug)]
pub(super) struct Step {
    pub order: Option<OrderStep>,
    pub writes: Vec<Write>,
}

#[derive(Debug)]
pub(super) struct OrderStep {
    pub write: OrderWrite,
    pub id: String,
    pub merchant: String,
    pub state: String,
    pub snapshot: Option<String>,
    /// One for each of `write.events`.
    pub events: Vec<String>,
    /// Where they contradict the order, the store says so in the turn of the order's step.
    pub rows: Result<Rows, Rejection>,
}

/// What the events of one step come to, in the order in which it has to be written.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// As the state has them now. What ended goes before what starts: a code and its successor may
    /// change places in one step.
    pub touched: Vec<AttemptRow>,
    pub started: Vec<AttemptRow>,
    pub claims: Vec<(AttemptNumber, Claim)>,
    /// A commit in which no money moves has none of them.
    pub money: Vec<MoneyRow>,
}

#[derive(Debug)]
pub(super) struct AttemptRow {
    pub number: AttemptNumber,
    pub id: String,
    pub status: &'static str,
    pub started_at: Timestamp,
    pub expires_at: Timestamp,
}

#[derive(Debug)]
pub(super) enum MoneyRow {
    Capture {
        account: AccountId,
        capture: Capture,
        /// Of a surplus.
        refund: Option<String>,
    },
    /// A round that begins.
    Refund(NewRefund),
    RefundMoved {
        refund: String,
        round: u8,
        status: &'static str,
        ended_at: Option<Timestamp>,
    },
    /// An earlier number has gone through: what was asked for since gets nothing.
    LaterRoundsGivenUp {
        refund: String,
        round: u8,
        at: Timestamp,
    },
    Mismatch {
        number: usize,
        mismatch: Mismatch,
    },
    MismatchSettled {
        number: usize,
        settled: bool,
    },
    Line {
        version: u64,
        position: u16,
        line: u8,
        book: String,
        amount: i64,
        at: Timestamp,
    },
}

#[derive(Debug)]
pub(super) struct NewRefund {
    pub account: AccountId,
    pub number: String,
    pub refund: String,
    pub round: u8,
    pub attempt: AttemptNumber,
    pub transaction_id: String,
    pub cause: &'static str,
    pub merchant_refund_no: Option<String>,
    pub amount: i64,
    pub status: &'static str,
    pub requested_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

pub(super) fn broken(rule: impl Into<String>) -> Rejection {
    Rejection::RuleBroken { rule: rule.into() }
}

pub(super) fn json(value: &impl serde::Serialize) -> Result<String, Rejection> {
    serde_json::to_string(value).map_err(|_| broken("a value has no JSON"))
}

impl Step {
    pub fn new(transaction: Transaction) -> Result<Self, Rejection> {
        let Transaction { order, writes } = transaction;
        Ok(Self {
            order: order.map(OrderStep::new).transpose()?,
            writes,
        })
    }

    /// Does it tell of money that moved, or of what a provider said? Nothing may hold that up.
    pub fn is_fact(&self) -> bool {
        let events = self.order.iter().flat_map(|step| &step.write.events);
        events.map(|entry| &entry.event).any(is_of_a_provider)
            || self
                .writes
                .iter()
                .any(|write| matches!(write, Write::Evidence(_)))
    }
}

const fn is_of_a_provider(event: &Event) -> bool {
    matches!(
        event,
        Event::MoneyCaptured { .. }
            | Event::MoneyMismatched { .. }
            | Event::RefundAccepted { .. }
            | Event::RefundAbnormal { .. }
            | Event::RefundSucceeded { .. }
            | Event::RefundFailed { .. }
            | Event::RefundRoundRevived { .. }
            | Event::SurplusRefunded { .. }
            | Event::SurplusRefundFailed { .. }
            | Event::MismatchRefunded { .. }
            | Event::MismatchRefundFailed { .. }
            | Event::ForeignRefundHeard { .. }
    )
}

/// Counts them, and says aloud what must never have been sent.
pub(super) fn count_rejections(verdicts: &[Result<(), Rejection>]) {
    for rejection in verdicts.iter().filter_map(|verdict| verdict.as_ref().err()) {
        metrics::counter!(
            "enrollpay_store_rejections_total",
            "reason" => rejection.reason()
        )
        .increment(1);
        if let Rejection::RuleBroken { rule } = rejection {
            tracing::error!(rule, "the store refused a write that must never be sent");
        }
    }
}

impl OrderStep {
    fn new(write: OrderWrite) -> Result<Self, Rejection> {
        let order = &write.order;
        if write.snapshot.is_some() != (order.version == 1) {
            return Err(broken("a snapshot comes with version 1, and only then"));
        }
        let fits = |id: OrderId, version| id == order.id && version == order.version;
        if !write.events.iter().all(|e| fits(e.order, e.version))
            || !write.outbox.iter().all(|e| fits(e.order, e.version))
        {
            return Err(broken("what is written with a step is of that step"));
        }
        let merchant = order.terms.merchant;
        Ok(Self {
            id: order.id.to_string(),
            merchant: merchant.to_string(),
            state: json(order)?,
            snapshot: write.snapshot.as_ref().map(json).transpose()?,
            events: write
                .events
                .iter()
                .map(|entry| json(&entry.event))
                .collect::<Result<_, _>>()?,
            rows: if write.outbox.iter().all(|entry| entry.merchant == merchant) {
                Rows::of(&write)
            } else {
                Err(broken("an order's events go to its merchant"))
            },
            write,
        })
    }
}

/// When a write is applied: what may tell a repeated request comes before the order it is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Nonces,
    Keys,
    Rest,
}

pub(super) const fn turn_of(write: &Write) -> Turn {
    match write {
        Write::Nonce { .. } => Turn::Nonces,
        Write::IdempotencyStarted { .. } | Write::IdempotencyResumed { .. } => Turn::Keys,
        _ => Turn::Rest,
    }
}

pub(super) const fn actor_word(actor: Actor) -> &'static str {
    match actor {
        Actor::Merchant => "merchant",
        Actor::Payer => "payer",
        Actor::Provider => "provider",
        Actor::Operator => "operator",
        Actor::Gateway => "gateway",
    }
}

pub(super) const fn delivery_word(state: DeliveryState) -> &'static str {
    match state {
        DeliveryState::Pending => "pending",
        DeliveryState::Delivered => "delivered",
        DeliveryState::Parked => "parked",
    }
}

impl Rows {
    fn of(write: &OrderWrite) -> Result<Self, Rejection> {
        let mut rows = Self::default();
        rows.attempts(write)?;
        for entry in &write.events {
            if let Event::AttemptClaimed { attempt, claim } = &entry.event {
                rows.claims.push((*attempt, *claim));
            }
        }
        rows.money(write)?;
        Ok(rows)
    }

    /// The row of every attempt that the events name.
    fn attempts(&mut self, write: &OrderWrite) -> Result<(), Rejection> {
        let mut started = Vec::new();
        let mut touched = Vec::new();
        for entry in &write.events {
            if let Event::AttemptStarted { attempt, .. } = &entry.event {
                started.push(*attempt);
            } else if let Some(attempt) = attempt_of(&entry.event) {
                touched.push(attempt);
            }
        }
        touched.retain(|attempt| !started.contains(attempt));
        touched.sort_unstable();
        touched.dedup();
        let row = |number: AttemptNumber| {
            let attempt: &Attempt = write
                .order
                .attempt(number)
                .ok_or_else(|| broken("an event names an attempt of its order"))?;
            Ok(AttemptRow {
                number,
                id: attempt.id.to_string(),
                status: attempt.status(),
                started_at: attempt.started_at,
                expires_at: attempt.expires_at,
            })
        };
        self.touched = touched
            .into_iter()
            .map(row)
            .collect::<Result<_, Rejection>>()?;
        self.started = started
            .into_iter()
            .map(row)
            .collect::<Result<_, Rejection>>()?;
        Ok(())
    }

    fn money(&mut self, write: &OrderWrite) -> Result<(), Rejection> {
        let order = &write.order;
        let told = |entry: &&TimelineEntry| matches!(entry.event, Event::MoneyMismatched { .. });
        let mut odd_before = None;
        for entry in &write.events {
            let at = entry.at;
            match &entry.event {
                Event::MoneyCaptured { capture } => {
                    let refund = match capture.standing {
                        CaptureStanding::Kept => None,
                        CaptureStanding::Surplus { refund, .. } => Some(refund),
                    };
                    self.money.push(MoneyRow::Capture {
                        account: account_of(order, capture)
                            .ok_or_else(|| broken("a capture is of an account of its order"))?
                            .clone(),
                        capture: capture.clone(),
                        refund: refund.map(|refund| refund.to_string()),
                    });
                    if let Some(refund) = refund {
                        self.refund(order, refund, at)?;
                    }
                }
                Event::MoneyMismatched { mismatch } => {
                    // They stand in the order as they were told of, these last.
                    let number = *odd_before.get_or_insert_with(|| {
                        let new = write.events.iter().filter(told).count();
                        order.mismatches.len().saturating_sub(new)
                    });
                    odd_before = Some(number + 1);
                    self.money.push(MoneyRow::Mismatch {
                        number,
                        mismatch: mismatch.clone(),
                    });
                }
                Event::RefundRequested { refund, .. } | Event::RefundRenewed { refund, .. } => {
                    self.refund(order, *refund, at)?;
                }
                Event::MismatchSettled {
                    mismatch, refund, ..
                } => {
                    if let Some(refund) = refund {
                        self.refund(order, *refund, at)?;
                    }
                    self.settle(order, usize::from(*mismatch));
                }
                Event::RefundRoundRevived { refund, round } => {
                    self.money.push(MoneyRow::LaterRoundsGivenUp {
                        refund: refund.to_string(),
                        round: *round,
                        at,
                    });
                }
                Event::RefundAccepted { refund, .. }
                | Event::RefundAbnormal { refund, .. }
                | Event::RefundRepairAsked { refund, .. }
                | Event::RefundSucceeded { refund }
                | Event::RefundFailed { refund }
                | Event::SurplusRefunded { refund }
                | Event::SurplusRefundFailed { refund }
                | Event::MismatchRefundFailed { refund } => self.moved(order, *refund)?,
                Event::MismatchRefunded { refund } => {
                    self.moved(order, *refund)?;
                    let odd = order.mismatches.iter().position(|mismatch| {
                        matches!(mismatch.standing,
                            MismatchStanding::GoingBack { refund: its, .. } if its == *refund)
                    });
                    self.settle(order, odd.ok_or_else(unknown_refund)?);
                }
                _ => continue,
            }
            self.lines(order, entry);
        }
        Ok(())
    }

    /// The round that begins at `at`.
    fn refund(&mut self, order: &Order, id: RefundId, at: Timestamp) -> Result<(), Rejection> {
        let refund = refund_of(order, id)?;
        let drawn_on = |capture: &&Capture| {
            capture.attempt == refund.attempt && *capture.transaction_id == *refund.transaction_id
        };
        let account = refund
            .account
            .or_else(|| account_of(order, order.captures.iter().find(drawn_on)?))
            .ok_or_else(|| broken("a refund is of an account of its order"))?;
        let merchants = order.refunds.iter().find(|known| known.id == id);
        let merchant_refund_no = merchants.map(|known| known.merchant_refund_no.to_string());
        if merchant_refund_no.is_some() != (refund.cause == RefundCause::Merchant) {
            return Err(broken("M5: a refund id stands for one refund"));
        }
        self.money.push(MoneyRow::Refund(NewRefund {
            account: account.clone(),
            number: refund.number(order),
            refund: id.to_string(),
            round: refund.round(),
            attempt: refund.attempt,
            transaction_id: refund.transaction_id.to_owned(),
            cause: refund.cause.as_str(),
            merchant_refund_no,
            amount: refund.amount.get(),
            status: refund.standing.as_str(),
            requested_at: at,
            ended_at: ended_at(refund.standing),
        }));
        Ok(())
    }

    fn moved(&mut self, order: &Order, id: RefundId) -> Result<(), Rejection> {
        let refund = refund_of(order, id)?;
        self.money.push(MoneyRow::RefundMoved {
            refund: id.to_string(),
            round: refund.round(),
            status: refund.standing.as_str(),
            ended_at: ended_at(refund.standing),
        });
        Ok(())
    }

    fn settle(&mut self, order: &Order, number: usize) {
        let odd = order.mismatches.get(number);
        self.money.push(MoneyRow::MismatchSettled {
            number,
            settled: odd.is_some_and(Mismatch::is_settled),
        });
    }

    fn lines(&mut self, order: &Order, entry: &TimelineEntry) {
        for (line, number) in ledger::lines(order, &entry.event).iter().zip(0u8..) {
            self.money.push(MoneyRow::Line {
                version: entry.version,
                position: entry.position,
                line: number,
                book: line.book.to_string(),
                amount: line.amount.get(),
                at: entry.at,
            });
        }
    }
}

fn unknown_refund() -> Rejection {
    broken("an event names a refund of its order")
}

fn refund_of(order: &Order, id: RefundId) -> Result<RefundOf<'_>, Rejection> {
    order.refund(id).ok_or_else(unknown_refund)
}

/// The account that was asked for the trade; where the trade is not known, the one offered.
fn account_of<'a>(order: &'a Order, capture: &Capture) -> Option<&'a AccountId> {
    let trade = order.attempt(capture.attempt)?.trade.as_ref();
    let offered = || order.terms.offer(capture.wallet);
    trade
        .map(|trade| &trade.account)
        .or_else(|| offered().map(|offer| &offer.account))
}

/// When it succeeded or failed.
const fn ended_at(standing: RefundStanding) -> Option<Timestamp> {
    match standing {
        RefundStanding::Succeeded { at } | RefundStanding::Failed { at } => Some(at),
        _ => None,
    }
}

fn attempt_of(event: &Event) -> Option<AttemptNumber> {
    match event {
        Event::AttemptStarted { attempt, .. }
        | Event::AttemptClaimed { attempt, .. }
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
        | Event::AttemptFailed { attempt, .. } => Some(*attempt),
        Event::MoneyCaptured { capture } => Some(capture.attempt),
        Event::OrderCreated { .. }
        | Event::CancelRequested
        | Event::MoneyMismatched { .. }
        | Event::OrderPaid
        | Event::OrderClosed { .. }
        | Event::RefundRequested { .. }
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
        | Event::ForeignRefundHeard { .. }
        | Event::SettlementProposed { .. }
        | Event::MismatchSettled { .. }
        | Event::MismatchRefunded { .. }
        | Event::MismatchRefundFailed { .. }
        | Event::ReceiptIssued { .. }
        | Event::AttentionRaised { .. } => None,
    }
}
