//! The store, in memory: the rules of the real ones (compare-and-set, fence, time, uniqueness), each
//! of which a mutation can switch off. [`crate::audit`] judges what it let through.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::mutation::Mutation;
use crate::order::ledger::{Book, Line};
use crate::order::state::CaptureStanding;
use crate::order::{
    AccountId, AttemptId, AttemptNumber, Event, EventId, Order, RefundId, Timestamp, WebhookType,
    evolve,
};

/// One order with its history.
#[derive(Debug)]
pub(crate) struct Row {
    pub order: Rc<Order>,
    /// A commit each: its time and its events.
    pub timeline: Vec<(Timestamp, Rc<[Event]>)>,
}

/// Who may write for a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub epoch: u64,
    pub instance: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Pending,
    Delivered,
    Parked,
}

#[derive(Clone, Debug)]
pub(crate) struct OutboxRow {
    pub id: EventId,
    pub order: usize,
    pub kind: WebhookType,
    pub body: Rc<str>,
    pub state: Delivery,
    pub tries: u16,
    pub next_at: Timestamp,
}

/// One step of one order.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub index: usize,
    pub after: Rc<Order>,
    pub events: Rc<[Event]>,
    pub at: Timestamp,
    pub outbox: Vec<OutboxRow>,
    pub lines: Vec<Line>,
    pub not_after: Option<Timestamp>,
    pub shard: usize,
    /// `None` for a fact.
    pub fence: Option<Pair>,
}

#[derive(Clone, Debug)]
pub(crate) enum Transaction {
    Step(Step),
    /// How a delivery went, by the row's place in the outbox.
    Delivery {
        row: usize,
        /// As it stood when this was decided.
        was: (Delivery, u16),
        state: Delivery,
        tries: u16,
        next_at: Timestamp,
    },
    Claim {
        shard: usize,
        pair: Pair,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    VersionMoved,
    FenceMoved,
    TooLate,
    AlreadyClaimed,
    CaptureKnown,
    EpochMoved { epoch: u64 },
    DeliveryMoved,
    RuleBroken(&'static str),
}

#[derive(Debug, Default)]
pub(crate) struct Store {
    pub rows: Vec<Row>,
    pub shards: Vec<Option<Pair>>,
    pub outbox: Vec<OutboxRow>,
    /// By order and book: what its lines come to.
    pub ledger: BTreeMap<(usize, Book), i64>,
    captures: BTreeMap<(AccountId, Box<str>), usize>,
    kept: BTreeSet<usize>,
    refunds: BTreeSet<RefundId>,
    attempts: BTreeSet<AttemptId>,
    claims: BTreeSet<(usize, AttemptNumber)>,
}

impl Store {
    pub fn new(shards: usize) -> Self {
        Self {
            shards: vec![None; shards],
            ..Self::default()
        }
    }

    /// All or nothing.
    pub fn apply(
        &mut self,
        transaction: &Transaction,
        now: Timestamp,
        mutation: Option<Mutation>,
    ) -> Result<(), Rejection> {
        match transaction {
            Transaction::Step(step) => self.apply_step(step, now, mutation),
            Transaction::Delivery {
                row,
                was,
                state,
                tries,
                next_at,
            } => {
                let row = &mut self.outbox[*row];
                let stands = (row.state, row.tries) == *was;
                if !stands && mutation != Some(Mutation::DeliverUnconditionally) {
                    return Err(Rejection::DeliveryMoved);
                }
                row.state = *state;
                row.tries = *tries;
                row.next_at = *next_at;
                Ok(())
            }
            Transaction::Claim { shard, pair } => {
                let epoch = self.shards[*shard].map_or(0, |pair| pair.epoch);
                if pair.epoch != epoch + 1 && mutation != Some(Mutation::ReuseEpoch) {
                    return Err(Rejection::EpochMoved { epoch });
                }
                self.shards[*shard] = Some(*pair);
                Ok(())
            }
        }
    }

    fn apply_step(
        &mut self,
        step: &Step,
        now: Timestamp,
        mutation: Option<Mutation>,
    ) -> Result<(), Rejection> {
        if let Some(fence) = step.fence
            && self.shards[step.shard] != Some(fence)
            && mutation != Some(Mutation::SkipFenceCheck)
        {
            return Err(Rejection::FenceMoved);
        }
        if step.not_after.is_some_and(|end| now >= end)
            && mutation != Some(Mutation::ClaimByNodeClock)
        {
            return Err(Rejection::TooLate);
        }
        let moved = self.rows[step.index].order.version + 1 != step.after.version;
        let captures = |event: &Event| matches!(event, Event::MoneyCaptured { .. });
        let blind_fact =
            mutation == Some(Mutation::CheckThenInsert) && step.events.iter().any(captures);
        if moved && !blind_fact && mutation != Some(Mutation::SkipVersionCheck) {
            return Err(Rejection::VersionMoved);
        }
        if !blind_fact && mutation != Some(Mutation::SkipVersionCheck) {
            self.unique(step)?;
        }
        for event in step.events.iter() {
            match event {
                Event::AttemptStarted { id, .. } => {
                    self.attempts.insert(*id);
                }
                Event::AttemptClaimed { attempt, .. } => {
                    self.claims.insert((step.index, *attempt));
                }
                Event::MoneyCaptured { capture } => {
                    let account = account_of(&step.after, capture.attempt);
                    self.captures
                        .insert((account, capture.transaction_id.clone()), step.index);
                    match capture.standing {
                        CaptureStanding::Kept => {
                            self.kept.insert(step.index);
                        }
                        CaptureStanding::Surplus { refund, .. } => {
                            self.refunds.insert(refund);
                        }
                    }
                }
                Event::RefundRequested { refund, .. }
                | Event::MismatchSettled {
                    refund: Some(refund),
                    ..
                } => {
                    self.refunds.insert(*refund);
                }
                _ => {}
            }
        }
        let row = &mut self.rows[step.index];
        row.order = if moved && blind_fact {
            Rc::new(evolve((*row.order).clone(), &step.events, step.at))
        } else {
            step.after.clone()
        };
        row.timeline.push((step.at, step.events.clone()));
        self.outbox.extend(step.outbox.iter().cloned());
        for line in &step.lines {
            let book = (step.index, line.book.clone());
            *self.ledger.entry(book).or_default() += line.amount.get();
        }
        Ok(())
    }

    /// The unique rules of the schema.
    fn unique(&self, step: &Step) -> Result<(), Rejection> {
        let mut refunds = BTreeSet::new();
        for event in step.events.iter() {
            match event {
                Event::AttemptStarted { id, .. } if self.attempts.contains(id) => {
                    return Err(Rejection::RuleBroken("one row per attempt id"));
                }
                Event::AttemptClaimed { attempt, .. }
                    if self.claims.contains(&(step.index, *attempt)) =>
                {
                    return Err(Rejection::AlreadyClaimed);
                }
                Event::MoneyCaptured { capture } => {
                    let account = account_of(&step.after, capture.attempt);
                    if self.knows(&account, &capture.transaction_id) {
                        return Err(Rejection::CaptureKnown);
                    }
                    match capture.standing {
                        CaptureStanding::Kept if self.kept.contains(&step.index) => {
                            return Err(Rejection::RuleBroken("M2: one capture is kept per order"));
                        }
                        CaptureStanding::Surplus { refund, .. }
                            if self.refunds.contains(&refund) || !refunds.insert(refund) =>
                        {
                            return Err(Rejection::RuleBroken("one refund per id"));
                        }
                        _ => {}
                    }
                }
                Event::RefundRequested { refund, .. }
                | Event::MismatchSettled {
                    refund: Some(refund),
                    ..
                } if self.refunds.contains(refund) => {
                    return Err(Rejection::RuleBroken("one refund per id"));
                }
                _ => {}
            }
        }
        let live = step.after.attempts.iter().filter(|it| it.is_live()).count();
        if live > 1 {
            return Err(Rejection::RuleBroken("Q1: one live attempt per order"));
        }
        Ok(())
    }

    /// Is this transaction of this account on record?
    pub fn knows(&self, account: &AccountId, transaction: &str) -> bool {
        self.captures
            .contains_key(&(account.clone(), transaction.into()))
    }

    /// Orders that need a tick at `now`.
    pub fn due(&self, now: Timestamp) -> Vec<usize> {
        let due = |row: &Row| row.order.next_due_at().is_some_and(|due| due <= now);
        (0..self.rows.len())
            .filter(|index| due(&self.rows[*index]))
            .collect()
    }

    pub fn next_due_at(&self) -> Option<Timestamp> {
        self.rows
            .iter()
            .filter_map(|row| row.order.next_due_at())
            .min()
    }

    /// The oldest pending event of each order (E3), by its place.
    pub fn oldest_pending(&self) -> Vec<usize> {
        let mut orders = BTreeSet::new();
        (0..self.outbox.len())
            .filter(|place| {
                let row = &self.outbox[*place];
                row.state == Delivery::Pending && orders.insert(row.order)
            })
            .collect()
    }
}

fn account_of(order: &Order, attempt: AttemptNumber) -> AccountId {
    order
        .attempt(attempt)
        .and_then(|attempt| attempt.trade.as_ref())
        .map_or_else(|| AccountId::new("unknown"), |trade| trade.account.clone())
}
