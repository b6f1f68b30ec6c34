//! Group commit: while one flush is on its way to the store, the next one's transactions gather. What
//! the store does with a flush, and when that is heard, is where a run goes wrong.

use std::rc::Rc;

use crate::happening::{Fate, Flush, Happening};
use crate::marks::Mark;
use crate::node::{Pending, Waiter};
use crate::order::Event;
use crate::store::{Rejection, Transaction};
use crate::world::World;

impl World {
    pub fn submit(&mut self, node: usize, pending: Pending) {
        let process = &mut self.nodes[node];
        process.gathering.push(pending);
        if process.flush.is_none() {
            self.start_flush(node);
        }
    }

    fn start_flush(&mut self, node: usize) {
        let group = std::mem::take(&mut self.nodes[node].gathering);
        let fate = if self.dice.chance(self.swarm.store_down) {
            Fate::Unavailable
        } else if self.dice.chance(self.swarm.unknown) {
            Fate::Unknown
        } else {
            Fate::Answered
        };
        let intends_trade = group.iter().any(|pending| {
            let Transaction::Step(step) = &pending.transaction else {
                return false;
            };
            let intends = |event: &Event| matches!(event, Event::TradeIntended { .. });
            step.events.iter().any(intends)
        });
        let flush = self.flushes.len();
        self.flushes.push(Flush {
            group,
            fate,
            verdicts: Vec::new(),
            landed: false,
            dropped: false,
            answered: false,
        });
        let life = self.nodes[node].life;
        self.nodes[node].flush = Some(flush);
        if self.dice.chance(self.swarm.crash_in_flush) {
            let in_ms = self.dice.ms(0, 12);
            self.plan(in_ms, Happening::Crash(Some((node, life))));
        } else if self.dice.chance(self.swarm.pause_in_flush) {
            let in_ms = self.dice.ms(0, 12);
            self.plan(in_ms, Happening::Pause(Some((node, life))));
        }
        let lands_in = if self.dice.chance(self.swarm.slow_commit) {
            self.hit(Mark::CommitSlow);
            self.dice.ms(500, 25_000)
        } else {
            self.dice.ms(1, 10)
        };
        let answered = Happening::FlushAnswered { node, life, flush };
        match fate {
            Fate::Answered => {
                let answered_in = lands_in + self.dice.ms(1, 6);
                self.plan(lands_in, Happening::FlushLands { flush });
                if intends_trade && self.dice.chance(self.swarm.pause_at_press) {
                    // Between a commit and what it intends (F30).
                    self.plan(lands_in, Happening::Pause(Some((node, life))));
                }
                self.plan(answered_in, answered);
            }
            Fate::Unavailable => self.plan(lands_in, answered),
            Fate::Unknown => {
                let given_up_in = self.dice.ms(10, 2_000);
                self.plan(given_up_in, answered);
                // Before the look, never, or after it.
                match self.dice.below(3) {
                    0 => self.plan(lands_in.min(given_up_in), Happening::FlushLands { flush }),
                    1 => {}
                    _ => {
                        let later = given_up_in + self.dice.ms(1, 3_000);
                        self.plan(later, Happening::FlushLands { flush });
                    }
                }
            }
        }
    }

    pub fn flush_lands(&mut self, flush: usize) {
        if self.flushes[flush].dropped {
            return;
        }
        self.flushes[flush].landed = true;
        if self.flushes[flush].answered {
            self.hit(Mark::UnknownLanded);
        }
        let group = std::mem::take(&mut self.flushes[flush].group);
        let mut verdicts = Vec::with_capacity(group.len());
        for pending in &group {
            let before = match &pending.transaction {
                Transaction::Step(step) => Some(Rc::clone(&self.store.rows[step.index].order)),
                _ => None,
            };
            let verdict = self
                .store
                .apply(&pending.transaction, self.now, self.mutation);
            self.note(|| format!("store: {:?} -> {verdict:?}", Short(&pending.transaction)));
            if verdict == Err(Rejection::DeliveryMoved) {
                self.hit(Mark::DeliveryMoved);
            }
            if verdict.is_ok() {
                self.landed(&pending.transaction, before);
            }
            verdicts.push(verdict);
        }
        let flush = &mut self.flushes[flush];
        flush.group = group;
        flush.verdicts = verdicts;
    }

    pub fn flush_answered(&mut self, node: usize, flush: usize) {
        self.nodes[node].flush = None;
        self.flushes[flush].answered = true;
        let fate = self.flushes[flush].fate;
        let landed = self.flushes[flush].landed;
        let waiters: Vec<_> = self.flushes[flush]
            .group
            .iter()
            .map(|pending| pending.waiter)
            .collect();
        let verdicts = std::mem::take(&mut self.flushes[flush].verdicts);
        if landed {
            self.flushes[flush].group = Vec::new();
        }
        for (place, waiter) in waiters.into_iter().enumerate() {
            let verdict = match fate {
                Fate::Answered => Ok(verdicts[place]),
                fate => Err(fate),
            };
            match waiter {
                Waiter::Order(index) => self.order_verdict(node, index, verdict),
                Waiter::Shard(shard) => self.claim_verdict(node, shard, verdict),
                Waiter::Delivery { order } => {
                    self.nodes[node].relay.busy.remove(&order);
                    self.nudge_relays();
                }
            }
        }
        if self.nodes[node].flush.is_none() && !self.nodes[node].gathering.is_empty() {
            self.start_flush(node);
        }
    }
}

/// A transaction in one line.
struct Short<'a>(&'a Transaction);

impl std::fmt::Debug for Short<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Transaction::Step(step) => write!(
                formatter,
                "order {} version {} {:?}",
                step.index, step.after.version, step.events
            ),
            other => write!(formatter, "{other:?}"),
        }
    }
}
