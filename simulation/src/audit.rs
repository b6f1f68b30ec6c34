//! The world's own judgement, by books that the shell cannot touch: what was promised is on record,
//! what left was intended, what has ended is dead, at rest the books agree.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::marks::Mark;
use crate::node::Answered;
use crate::order::event::Attention;
use crate::order::invariants::check_step;
use crate::order::ledger::Book;
use crate::order::state::CaptureStanding;
use crate::order::{
    AccountId, AttemptNumber, CloseReason, Event, EventId, Fen, LatePayment, Order, RefundId,
    RefundStanding, SettleBy, Settlement, TradeStanding,
};
use crate::provider::Number;
use crate::store::{Delivery, OutboxRow, Pair, Step, Transaction};
use crate::swarm::{LINK_EXTRA_MS, account_name};
use crate::world::World;

#[derive(Debug, Default)]
pub(crate) struct Audit {
    /// Who had which epoch of which shard.
    pairs: BTreeMap<(usize, u64), u64>,
    /// What providers were thanked for.
    pub acknowledged: BTreeSet<Number>,
    /// Who was told that an attempt is theirs.
    told: BTreeMap<(usize, AttemptNumber), u8>,
    /// By which number each refund reached its provider.
    refund_numbers: BTreeMap<(RefundId, u8), (Number, Box<str>)>,
    /// The bytes of each event that left.
    bodies: BTreeMap<EventId, Rc<str>>,
    /// Events that are marked delivered.
    delivered: BTreeSet<usize>,
    /// Numbers that the provider will not make a trade for.
    pub refused: BTreeSet<Number>,
}

impl World {
    /// A transaction has landed.
    pub fn landed(&mut self, transaction: &Transaction, before: Option<Rc<Order>>) {
        match (transaction, before) {
            (Transaction::Step(step), Some(before)) => self.step_landed(step, &before),
            (Transaction::Claim { shard, pair }, _) => self.claim_landed(*shard, *pair),
            (Transaction::Delivery { row, state, .. }, _) => {
                let was_delivered = self.audit.delivered.contains(row);
                if was_delivered && *state != Delivery::Delivered {
                    self.fail("E2: an event that was delivered is on its way again");
                }
                match state {
                    Delivery::Delivered => {
                        self.hit(Mark::Delivered);
                        self.audit.delivered.insert(*row);
                        if !self.received.contains_key(row) {
                            self.fail("E2: an event is marked delivered that nobody received");
                        }
                    }
                    Delivery::Parked => self.hit(Mark::Parked),
                    Delivery::Pending => {}
                }
                self.nudge_relays();
            }
            _ => {}
        }
    }

    fn claim_landed(&mut self, shard: usize, pair: Pair) {
        let Pair { epoch, instance } = pair;
        let earlier = self.audit.pairs.insert((shard, epoch), instance);
        if earlier.is_some_and(|earlier| earlier != instance) {
            self.fail(format!(
                "O3: epoch {epoch} of shard {shard} was given to two instances"
            ));
        }
    }

    fn step_landed(&mut self, step: &Step, before: &Rc<Order>) {
        let after = Rc::clone(&self.store.rows[step.index].order);
        if let Err(violation) = check_step(before, &after) {
            return self.fail(format!(
                "{violation} (order {}, {:?})",
                step.index, step.events
            ));
        }
        if step.fence.is_some() && self.store.shards[step.shard] != step.fence {
            return self.fail("O2: an owner that was replaced has written");
        }
        let told = step.outbox.iter().map(|row| row.kind);
        if !told.eq(step.events.iter().filter_map(Event::webhook)) {
            return self.fail("E1: a transition and its outbox rows differ");
        }
        let sum: i64 = step.lines.iter().map(|line| line.amount.get()).sum();
        if sum != 0 {
            return self.fail("M9: the lines of a commit do not sum to zero");
        }
        for event in step.events.iter() {
            self.event_landed(before, &after, event);
        }
        let index = step.index;
        self.audit_codes(index);
        if let Some(due) = after.next_due_at() {
            for node in 0..self.nodes.len() {
                self.plan_sweep(node, due);
            }
        }
        if !step.outbox.is_empty() {
            self.nudge_relays();
        }
    }

    fn event_landed(&mut self, before: &Order, after: &Order, event: &Event) {
        match event {
            Event::AttemptClaimed { attempt, .. } => {
                let end = after.attempt(*attempt).map(|attempt| attempt.expires_at);
                if end.is_some_and(|end| self.now >= end) {
                    self.fail("Q3: a claim was committed after its attempt's end");
                }
            }
            Event::MoneyCaptured { capture } => {
                let old = before.attempt(capture.attempt);
                if old.is_some_and(|old| {
                    old.trade
                        .as_ref()
                        .is_some_and(|trade| trade.standing == TradeStanding::Intended)
                }) {
                    self.hit(Mark::NoticeBeforeAnswer);
                }
                let kept = capture.standing == CaptureStanding::Kept;
                let ended = old.is_some_and(|old| !old.is_live());
                if kept && ended {
                    self.hit(Mark::ExpiredThenPaid);
                }
                if kept && old.is_some_and(|old| old.native.is_some()) {
                    self.hit(Mark::NativePaid);
                }
                if !kept && matches!(before.settlement, Settlement::Paid { .. }) {
                    self.hit(Mark::SecondCodePaid);
                }
                if let Settlement::Closed { reason, .. } = before.settlement {
                    self.hit(match reason {
                        CloseReason::Deadline => Mark::ClosedThenPaid,
                        CloseReason::Cancelled => Mark::CancelledThenPaid,
                    });
                }
                let late = after
                    .terms
                    .pay_before
                    .is_some_and(|deadline| capture.succeeded_at > deadline);
                let accepts = matches!(after.terms.late_payment, LatePayment::Accept { .. });
                if late && kept && accepts {
                    self.hit(Mark::LateAccepted);
                }
                if late && !kept && before.is_open() {
                    self.hit(Mark::LateRefunded);
                }
                if kept && before.cancel_requested_at.is_some() {
                    self.hit(Mark::CancelWhilePaying);
                }
            }
            Event::OrderPaid => self.hit(Mark::Paid),
            Event::OrderClosed { reason } => self.hit(match reason {
                CloseReason::Deadline => Mark::ClosedAtDeadline,
                CloseReason::Cancelled => Mark::Cancelled,
            }),
            Event::AttemptCancelled { reason, .. } => match reason {
                crate::order::attempt::EndReason::Released => self.hit(Mark::Released),
                crate::order::attempt::EndReason::Superseded => self.hit(Mark::Superseded),
                crate::order::attempt::EndReason::Cancelled => {}
            },
            Event::MoneyMismatched { .. } => self.hit(Mark::Mismatched),
            Event::SurplusRefunded { .. } => self.hit(Mark::SurplusRefunded),
            Event::AttentionRaised {
                why: Attention::ClosingStuck,
            } => self.hit(Mark::StuckClosing),
            Event::RefundSucceeded { .. } => self.hit(match after.refund_status() {
                "full" => Mark::RefundFull,
                _ => Mark::RefundPartial,
            }),
            Event::RefundFailed { .. } => self.hit(Mark::RefundMerchantFailed),
            Event::ReceiptIssued { .. } => self.hit(Mark::ReceiptIssued),
            Event::RefundRequested { tries: 0, .. } => self.hit(Mark::RefundWaitsTurn),
            Event::RefundRenewed { .. } => self.hit(Mark::RefundRenewed),
            Event::MismatchSettled { by, .. } => self.hit(match by {
                SettleBy::Outside => Mark::SettledOutside,
                SettleBy::Refund => Mark::SettledRefund,
            }),
            _ => {}
        }
    }

    /// M9: what the lines come to is what the order says, book by book.
    pub fn audit_ledger(&mut self, index: usize) {
        let order = &self.store.rows[index].order;
        let mut provider = 0;
        let mut others = 0;
        for ((_, book), amount) in self
            .store
            .ledger
            .range((index, Book::Merchant)..)
            .chain(self.store.ledger.range(..(index, Book::Merchant)))
            .filter(|((other, _), _)| *other == index)
        {
            match book {
                Book::Provider(_) => provider += amount,
                _ => others += amount,
            }
        }
        let taken = order.captures.iter().map(|it| it.amount.get()).sum::<i64>()
            + order
                .mismatches
                .iter()
                .filter(|it| it.counts() && it.account.is_some())
                .map(|it| it.amount.get())
                .sum::<i64>();
        let gone = order
            .every_refund()
            .filter(|refund| matches!(refund.standing, RefundStanding::Succeeded { .. }))
            .map(|refund| refund.amount.get())
            .sum::<i64>();
        let merchant =
            order.payment().map_or(0, |it| it.amount.get()) - order.amount_refunded().get();
        let owed = -self
            .store
            .ledger
            .get(&(index, Book::Merchant))
            .unwrap_or(&0);
        if provider != taken - gone || provider + others != 0 || owed != merchant {
            self.fail(format!(
                "M9: the ledger of order {index} and its captures and refunds differ"
            ));
        }
    }

    /// Q4, Q5, by the providers' own books: what has ended is dead, and one code at most can be paid.
    pub fn audit_codes(&mut self, index: usize) {
        if !self.honest {
            return;
        }
        let (now, extra) = (self.now, self.swarm.link_extra_ms.min(LINK_EXTRA_MS));
        let mut payable = 0;
        let mut undead = None;
        for account in &self.accounts {
            for (number, trade) in account.trades.range((index, 0)..=(index, u16::MAX)) {
                if !trade.is_payable(now, extra) {
                    continue;
                }
                payable += 1;
                let row = &self.store.rows[index].order;
                let attempt = AttemptNumber::new(number.1).and_then(|number| row.attempt(number));
                if attempt.is_none_or(|attempt| !attempt.is_live()) {
                    undead = Some(*number);
                }
            }
        }
        if let Some(number) = undead {
            self.fail(format!("Q4: {number:?} has ended and can still be paid"));
        } else if payable > 1 {
            self.fail(format!(
                "Q5: order {index} has {payable} codes that can be paid"
            ));
        }
    }

    /// A5: what a person is told to be done is on record.
    pub fn promised(&mut self, index: usize, answered: &Answered) {
        if let Ok((crate::node::Verdict::Applied, order)) = answered
            && self.store.rows[index].order.version < order.version
        {
            self.fail("A5: a person was told of a state that is not on record");
        }
    }

    /// Q2: one payer per attempt.
    pub fn audit_told(&mut self, index: usize, attempt: AttemptNumber, payer: u8) {
        let first = *self.audit.told.entry((index, attempt)).or_insert(payer);
        if first != payer {
            self.fail("Q2: two payers were told that the code is theirs");
        }
    }

    /// A1: a provider is thanked for what is on disk.
    pub fn audit_acknowledged(&mut self, number: Number) {
        if !self.is_recorded(number) {
            self.fail(format!(
                "A1: the payment of {number:?} was acknowledged and is not on record"
            ));
        }
        self.audit.acknowledged.insert(number);
    }

    /// Is the payment of this number a capture, or evidence?
    pub fn is_recorded(&self, number: Number) -> bool {
        let row = &self.store.rows[number.0].order;
        self.payments(number.0)
            .filter(|(_, other, _)| *other == number)
            .all(|(wallet, _, payment)| {
                let account = AccountId::new(account_name(wallet));
                self.store.knows(&account, &payment.transaction_id)
                    || row
                        .mismatches
                        .iter()
                        .any(|mismatch| mismatch.transaction_id == payment.transaction_id)
            })
    }

    /// M5: one refund, one number, in each of its rounds.
    pub fn audit_refund_number(&mut self, number: Number, refund: (RefundId, u8), refund_no: &str) {
        let first = self
            .audit
            .refund_numbers
            .entry(refund)
            .or_insert_with(|| (number, refund_no.into()));
        if first.0 != number || *first.1 != *refund_no {
            self.fail(format!(
                "M5: a refund of {number:?} reached its provider under two numbers"
            ));
        }
    }

    /// M4: never more back than was taken.
    pub fn audit_refunds(&mut self, number: Number) {
        let Some(trade) = self.trade(number) else {
            return;
        };
        let taken = trade.payment.as_ref().map_or(Fen::ZERO, |it| it.amount);
        if trade.claimed_back() > taken {
            self.fail(format!("M4: more went back for {number:?} than was taken"));
        }
    }

    /// E3: in turn, as the outbox stands when an event is sent.
    pub fn audit_turn(&mut self, place: usize) {
        let row = &self.store.outbox[place];
        let earlier = |other: &&OutboxRow| other.order == row.order;
        let earlier: Vec<_> = self.store.outbox[..place].iter().filter(earlier).collect();
        if earlier.iter().any(|other| other.state == Delivery::Pending) {
            self.fail("E3: an event left before an earlier one of its order");
        } else if earlier.iter().any(|other| other.tries > 1) {
            self.hit(Mark::WaitedItsTurn);
        }
    }

    /// E4: always the same bytes.
    pub fn audit_delivery(&mut self, place: usize, body: &Rc<str>) {
        let row = &self.store.outbox[place];
        let first = self
            .audit
            .bodies
            .entry(row.id)
            .or_insert_with(|| Rc::clone(body));
        if **first != **body || **body != *row.body {
            self.fail("E4: an event left with other bytes than before");
        }
    }

    /// Q7: after healing, every attempt ends in bounded time.
    pub fn attempts_must_rest(&mut self) {
        for row in 0..self.store.rows.len() {
            let order = Rc::clone(&self.store.rows[row].order);
            let Some(live) = order.live_attempt() else {
                continue;
            };
            self.fail(format!(
                "Q7: attempt {} of order {row} is still {} ten minutes after its time in a healthy world",
                live.number.get(),
                live.status()
            ));
        }
    }
}
