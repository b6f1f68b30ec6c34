//! A store of maps: what each rule comes to, said once more and differently.

use std::collections::{BTreeMap, BTreeSet};

use enrollpay::order::state::Settlement;
use enrollpay::order::{Event, Order, OrderId, Phase, RefundId, Status, Timestamp};
use enrollpay::store::{
    DeliveryState, Fence, IdempotencyRow, OrderWrite, OutboxEntry, Rejection, Transaction, Write,
};

use super::super::money::requested;
use super::super::sample::*;
use super::script::{Asked, Call, Claimed, Delivery, KeyStep, Kind, MERCHANTS, Step};

type Verdict = Result<(), Rejection>;

#[derive(Clone, Debug)]
struct Refund {
    order: OrderId,
    amount: i64,
    failed: bool,
}

#[derive(Clone, Debug)]
pub struct Reference {
    pub base: u32,
    /// Every state of each order, by its number.
    orders: BTreeMap<u32, Vec<Order>>,
    numbers: BTreeMap<(String, String), OrderId>,
    nonces: BTreeMap<String, Timestamp>,
    keys: BTreeMap<String, IdempotencyRow>,
    transactions: BTreeSet<String>,
    claims: BTreeSet<(OrderId, u16)>,
    refunds: BTreeMap<RefundId, Refund>,
    refund_numbers: BTreeMap<(String, String), RefundId>,
    events: Vec<OutboxEntry>,
    shards: BTreeMap<u16, (u64, Option<u128>)>,
    /// Of the ids that were used, whatever became of them.
    used: u32,
}

fn broken() -> Rejection {
    Rejection::RuleBroken {
        rule: String::new(),
    }
}

impl Reference {
    pub fn new(base: u32) -> Self {
        Self {
            base,
            orders: BTreeMap::new(),
            numbers: BTreeMap::new(),
            nonces: BTreeMap::new(),
            keys: BTreeMap::new(),
            transactions: BTreeSet::new(),
            claims: BTreeSet::new(),
            refunds: BTreeMap::new(),
            refund_numbers: BTreeMap::new(),
            events: Vec::new(),
            shards: BTreeMap::new(),
            used: 100,
        }
    }

    pub fn order(&self, n: u32) -> Option<&Order> {
        self.orders.get(&n)?.last()
    }

    pub fn orders_of(&self, m: u32) -> Vec<OrderId> {
        let orders = self
            .orders
            .values()
            .rev()
            .filter_map(|states| states.last());
        let mine = orders.filter(|order| order.terms.merchant == merchant_id(self.base + m));
        mine.map(|order| order.id).collect()
    }

    pub fn key(&self, m: u32, key: u32) -> Option<&IdempotencyRow> {
        self.keys
            .get(&format!("{}/k{key}", merchant_id(self.base + m)))
    }

    pub fn events_of(&self, m: u32) -> Vec<OutboxEntry> {
        let mine = |entry: &&OutboxEntry| entry.merchant == merchant_id(self.base + m);
        self.events.iter().filter(mine).cloned().collect()
    }

    /// Its number in the stores, and how it stands.
    pub fn shard(&self, s: u16) -> (u16, Option<(u64, Option<u128>)>) {
        let shard = self.shard_number(s);
        (shard, self.shards.get(&shard).copied())
    }

    fn shard_number(&self, s: u16) -> u16 {
        u16::try_from((self.base / 1_000 * 8 + u32::from(s)) % 65_536).unwrap()
    }

    fn next(&mut self) -> u32 {
        self.used += 1;
        self.base + self.used
    }
}

/// From numbers to transactions, by how things stand now.
impl Reference {
    /// Those that can be asked for at all. All are decided on the state before the call.
    pub fn transactions(&mut self, call: &Call) -> Vec<Transaction> {
        call.iter()
            .filter_map(|asked| self.transaction(asked))
            .collect()
    }

    fn transaction(&mut self, asked: &Asked) -> Option<Transaction> {
        let order = asked.step.and_then(|step| self.write(step));
        let mut writes = Vec::new();
        if let Some(delivery) = asked.delivery {
            writes.extend(self.delivery(delivery));
        }
        if let Some(Claimed {
            shard,
            ahead,
            instance,
        }) = asked.claim
        {
            let (shard, stands) = self.shard(shard);
            writes.push(Write::ShardClaimed {
                shard,
                epoch: stands.map_or(0, |(epoch, _)| epoch) + ahead,
                instance,
                silent_ms: None,
                at: at(1),
            });
        }
        if let Some((key, step)) = asked.key {
            writes.extend(self.key_write(key, step));
        }
        if let Some(nonce) = asked.nonce {
            writes.push(Write::Nonce {
                key: key_id(self.base),
                nonce: nonce.to_string(),
                at: at(self.next().into()),
            });
        }
        // An epoch is at least 1.
        let fits = |write: &Write| !matches!(write, Write::ShardClaimed { epoch: 0, .. });
        writes.retain(fits);
        (order.is_some() || !writes.is_empty()).then_some(Transaction { order, writes })
    }

    fn write(&mut self, step: Step) -> Option<OrderWrite> {
        let kind = match step.kind {
            Kind::Next { pick } => self.next_of(step.order, pick),
            kind => kind,
        };
        let mut write = if let Kind::Create { merchant, number } = kind {
            let order = order_of(self.base + merchant, self.base + step.order);
            creation_of(order, snapshot(self.base + number))
        } else {
            let states = self.orders.get(&step.order)?;
            let place = states.len().checked_sub(1 + step.age)?;
            let before = states[place].clone();
            self.step(kind, &before)?
        };
        if step.event {
            let mut event = outbox(&write.order, self.next());
            event.body = sealed(&format!("event {}", event.id));
            write.outbox = vec![event];
        }
        if step.due {
            write.next_due_at = Some(at(self.next().into()));
        }
        if step.late {
            write.not_after = Some(Timestamp::from_seconds(1));
        }
        if let Some((shard, ahead, instance)) = step.fence {
            let (shard, stands) = self.shard(shard);
            write.fence = Fence::Owner {
                shard,
                epoch: stands.map_or(1, |(epoch, _)| epoch) + ahead,
                instance,
            };
        }
        Some(write)
    }

    fn next_of(&self, n: u32, pick: u32) -> Kind {
        let Some(order) = self.order(n) else {
            return Kind::Create {
                merchant: 1 + pick % MERCHANTS,
                number: n,
            };
        };
        if matches!(order.settlement, Settlement::Paid { .. }) {
            return Kind::Refund {
                number: 1 + pick % 3,
                amount: 5_000,
            };
        }
        match order.attempts.last().map(|attempt| &attempt.phase) {
            Some(Phase::Shown) => Kind::Claim { payer: 1 },
            Some(Phase::Scanned) => Kind::Pay {
                transaction: pick % 5,
            },
            _ => Kind::Start,
        }
    }

    /// Steps that a gateway could come to think of; whether they are let in is another matter.
    fn step(&mut self, kind: Kind, before: &Order) -> Option<OrderWrite> {
        let last = before.attempts.last();
        let phase = last.map(|attempt| &attempt.phase);
        let transaction = |number: u32| format!("{}-{number}", self.base);
        Some(match kind {
            Kind::Create { .. } | Kind::Next { .. } => return None,
            Kind::Start => start(before),
            Kind::Supersede => {
                before.live_attempt()?;
                supersede(before)
            }
            // Of one that is shown, or that another was quicker to take.
            Kind::Claim { payer } => {
                matches!(phase?, Phase::Shown | Phase::Scanned).then(|| claim(before, payer))?
            }
            Kind::Pay {
                transaction: number,
            } => {
                last?;
                if matches!(before.settlement, Settlement::Paid { .. }) {
                    return None;
                }
                pay(before, &transaction(number))
            }
            Kind::Surplus {
                transaction: number,
            } => {
                last?;
                let transaction = transaction(number);
                surplus(before, &transaction, refund_id(self.next()))
            }
            Kind::Close => close(before),
            Kind::Refund { number, amount } => {
                if !matches!(before.settlement, Settlement::Paid { .. }) {
                    return None;
                }
                told(
                    before,
                    vec![requested(self.next(), &format!("R-{number}"), amount)],
                )
            }
            Kind::RefundEnds { which, succeeds } => {
                let open: Vec<RefundId> = before
                    .refunds
                    .iter()
                    .filter(|refund| !refund.standing.is_over())
                    .map(|refund| refund.id)
                    .collect();
                let refund = *open.get(which % open.len().max(1))?;
                let event = if succeeds {
                    Event::RefundSucceeded { refund }
                } else {
                    Event::RefundFailed { refund }
                };
                told(before, vec![event])
            }
        })
    }

    fn delivery(&mut self, delivery: Delivery) -> Option<Write> {
        let count = self.events.len();
        let event = self.events.get(delivery.which % count.max(1))?.clone();
        let stale = u16::from(delivery.stale);
        Some(Write::Delivery {
            event: event.id,
            was: (event.state, event.tries + stale),
            state: delivery.state,
            tries: event.tries + 1,
            next_at: (delivery.state == DeliveryState::Pending).then(|| at(self.next().into())),
            note: format!("try {}", event.tries + 1),
            at: at(9),
        })
    }

    fn key_write(&mut self, key: u32, step: KeyStep) -> Option<Write> {
        let merchant = merchant_id(self.base + 1 + key % MERCHANTS);
        let name = format!("k{key}");
        let row = self.keys.get(&format!("{merchant}/{name}"));
        Some(match step {
            KeyStep::Started => Write::IdempotencyStarted {
                merchant,
                key: name,
                request_hash: [7; 32],
                instance: 5,
                at: at(self.next().into()),
            },
            KeyStep::Finished => Write::IdempotencyFinished {
                merchant,
                key: name,
                status: 201,
                answer: sealed("answer"),
                order: None,
            },
            KeyStep::Dropped => Write::IdempotencyDropped {
                merchant,
                key: name,
            },
            KeyStep::Resumed { stale } => {
                let row = row?;
                let was = (row.instance + u128::from(stale), row.started_at);
                Write::IdempotencyResumed {
                    merchant,
                    key: name,
                    was,
                    instance: 6,
                    at: at(self.next().into()),
                }
            }
        })
    }
}

/// What becomes of them.
impl Reference {
    pub fn commit(&mut self, transaction: &Transaction) -> Verdict {
        let mut after = self.clone();
        after.try_commit(transaction)?;
        *self = after;
        Ok(())
    }

    fn try_commit(&mut self, transaction: &Transaction) -> Verdict {
        if let Some(write) = &transaction.order {
            if let Fence::Owner {
                shard,
                epoch,
                instance,
            } = write.fence
                && self.shards.get(&shard) != Some(&(epoch, Some(instance)))
            {
                return Err(Rejection::FenceMoved);
            }
            if write.not_after.is_some() {
                return Err(Rejection::TooLate);
            }
        }
        let turn = |write: &Write| match write {
            Write::Nonce { .. } => 0,
            Write::IdempotencyStarted { .. } | Write::IdempotencyResumed { .. } => 1,
            _ => 2,
        };
        for now in 0..3 {
            if now == 2
                && let Some(write) = &transaction.order
            {
                self.order_write(write)?;
            }
            for write in transaction.writes.iter().filter(|write| turn(write) == now) {
                self.other_write(write)?;
            }
        }
        Ok(())
    }

    fn order_write(&mut self, write: &OrderWrite) -> Verdict {
        let (id, merchant) = (write.order.id, write.order.terms.merchant.to_string());
        let n = (1..=9).find(|n| order_id(self.base + n) == id);
        let n = n.expect("an order of this case");
        if let Some(snapshot) = &write.snapshot {
            let number = (merchant, snapshot.merchant_order_no.clone());
            if let Some(existing) = self.numbers.get(&number) {
                let existing = *existing;
                return Err(Rejection::MerchantOrderNoTaken { existing });
            }
            if self.orders.contains_key(&n) {
                return Err(Rejection::VersionMoved);
            }
            self.numbers.insert(number, id);
            self.orders.insert(n, vec![write.order.clone()]);
        } else {
            let states = self.orders.get_mut(&n);
            let states = states.ok_or(Rejection::VersionMoved)?;
            let stands = states.last().expect("a state").clone();
            if stands.version + 1 != write.order.version {
                return Err(Rejection::VersionMoved);
            }
            let is_final = matches!(stands.status(), Status::Paid | Status::Closed);
            if is_final && stands.status() != write.order.status() {
                return Err(broken());
            }
            let live = write.order.attempts.iter().filter(|it| it.is_live());
            if live.count() > 1 {
                return Err(broken());
            }
            states.push(write.order.clone());
            for entry in &write.events {
                self.event(&write.order, &merchant, &entry.event)?;
            }
        }
        self.events.extend(write.outbox.iter().cloned());
        Ok(())
    }

    fn event(&mut self, order: &Order, merchant: &str, event: &Event) -> Verdict {
        match event {
            Event::AttemptClaimed { attempt, .. } => {
                let is_first = self.claims.insert((order.id, attempt.get()));
                return is_first.then_some(()).ok_or(Rejection::AlreadyClaimed);
            }
            Event::MoneyCaptured { capture } => {
                let is_first = self.transactions.insert(capture.transaction_id.to_string());
                return is_first.then_some(()).ok_or(Rejection::CaptureKnown);
            }
            Event::RefundRequested {
                refund,
                merchant_refund_no,
                amount,
                ..
            } => {
                let mine = self.refunds.values().filter(|it| it.order == order.id);
                let before: i64 = mine.filter(|it| !it.failed).map(|it| it.amount).sum();
                if before + amount.get() > 14_000 {
                    return Err(broken());
                }
                let number = (merchant.to_owned(), merchant_refund_no.to_string());
                if let Some(existing) = self.refund_numbers.get(&number) {
                    return Err(Rejection::MerchantRefundNoTaken {
                        existing_order: self.refunds[existing].order,
                        existing: *existing,
                    });
                }
                self.refund_numbers.insert(number, *refund);
                let row = Refund {
                    order: order.id,
                    amount: amount.get(),
                    failed: false,
                };
                self.refunds.insert(*refund, row);
            }
            Event::RefundFailed { refund } => {
                let row = self.refunds.get_mut(refund);
                row.expect("a refund that was asked for").failed = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn other_write(&mut self, write: &Write) -> Verdict {
        match write {
            Write::Nonce { nonce, at, .. } => {
                if let Some(first_seen) = self.nonces.get(nonce) {
                    let first_seen = *first_seen;
                    return Err(Rejection::NonceReplayed { first_seen });
                }
                self.nonces.insert(nonce.clone(), *at);
            }
            Write::IdempotencyStarted {
                merchant,
                key,
                request_hash,
                instance,
                at,
            } => {
                let name = format!("{merchant}/{key}");
                if let Some(row) = self.keys.get(&name) {
                    return Err(Rejection::IdempotencyKeyTaken(Box::new(row.clone())));
                }
                let row = IdempotencyRow {
                    merchant: *merchant,
                    key: key.clone(),
                    request_hash: *request_hash,
                    instance: *instance,
                    started_at: *at,
                    answer: None,
                };
                self.keys.insert(name, row);
            }
            Write::IdempotencyResumed {
                merchant,
                key,
                was,
                instance,
                at,
            } => {
                let row = self.keys.get_mut(&format!("{merchant}/{key}"));
                // The key was dropped meanwhile: nothing to go on with.
                let row = row.ok_or_else(broken)?;
                if row.answer.is_some() || (row.instance, row.started_at) != *was {
                    return Err(Rejection::IdempotencyKeyTaken(Box::new(row.clone())));
                }
                (row.instance, row.started_at) = (*instance, *at);
            }
            Write::IdempotencyFinished {
                merchant,
                key,
                status,
                answer,
                ..
            } => {
                let row = self.keys.get_mut(&format!("{merchant}/{key}"));
                let row = row.filter(|row| row.answer.is_none()).ok_or_else(broken)?;
                row.answer = Some((*status, answer.clone()));
            }
            Write::IdempotencyDropped { merchant, key } => {
                let name = format!("{merchant}/{key}");
                if self.keys.get(&name).is_some_and(|row| row.answer.is_none()) {
                    self.keys.remove(&name);
                }
            }
            Write::Delivery {
                event,
                was,
                state,
                tries,
                next_at,
                note,
                ..
            } => {
                let entry = self.events.iter_mut().find(|entry| entry.id == *event);
                let entry = entry.expect("an event of this case");
                if (entry.state, entry.tries) != *was {
                    return Err(Rejection::DeliveryMoved);
                }
                (entry.state, entry.tries) = (*state, *tries);
                entry.next_at = *next_at;
                entry.note.clone_from(note);
            }
            Write::ShardClaimed {
                shard,
                epoch,
                instance,
                ..
            } => {
                let stands = self.shards.get(shard).map_or(0, |(epoch, _)| *epoch);
                if stands + 1 != *epoch {
                    return Err(Rejection::EpochMoved { epoch: stands });
                }
                self.shards.insert(*shard, (*epoch, Some(*instance)));
            }
            other => unreachable!("not asked for: {other:?}"),
        }
        Ok(())
    }
}
