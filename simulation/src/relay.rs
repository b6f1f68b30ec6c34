//! From the outbox to the merchant's endpoint, on the production schedule.

use std::rc::Rc;

use crate::command_path::body;
use crate::happening::{Happening, Told};
use crate::marks::Mark;
use crate::mutation::Mutation;
use crate::node::{Pending, Waiter};
use crate::schedule::{JITTER_PERMILLE_MAX, Next, Schedule};
use crate::store::{Delivery, Transaction};
use crate::world::World;

const LOOK_EVERY_MS: i64 = 1_000;
const NUDGED_MS: i64 = 20;

impl World {
    /// There may be something to deliver.
    pub fn nudge_relays(&mut self) {
        for node in 0..self.nodes.len() {
            self.plan_look(node, NUDGED_MS);
        }
    }

    fn plan_look(&mut self, node: usize, in_ms: i64) {
        let at = self.now.plus_ms(in_ms);
        let process = &mut self.nodes[node];
        let planned = process.relay.look_at;
        if process.up && (planned <= self.now || at < planned) {
            process.relay.look_at = at;
            let life = process.life;
            self.queue.plan(at, Happening::RelayLooks { node, life });
        }
    }

    pub fn relay_looks(&mut self, node: usize) {
        if self.now < self.nodes[node].relay.look_at {
            return;
        }
        let now = self.clock(node);
        let mut next = None;
        let places = if self.mutated(Mutation::DeliverOutOfTurn) {
            (0..self.store.outbox.len())
                .filter(|place| self.store.outbox[*place].state == Delivery::Pending)
                .collect()
        } else {
            self.store.oldest_pending()
        };
        for place in places {
            let row = &self.store.outbox[place];
            let (index, due) = (row.order, row.next_at);
            let was = (row.state, row.tries);
            let owned = self.nodes[node].owned[self.shard_of(index)].is_some();
            let busy = self.nodes[node].relay.busy.contains(&index);
            if !owned || (busy && !self.mutated(Mutation::DeliverOutOfTurn)) {
                continue;
            }
            if due > now {
                let wait = due.since(now);
                next = Some(next.map_or(wait, |next: i64| next.min(wait)));
                continue;
            }
            self.nodes[node].relay.busy.insert(index);
            let body = if self.mutated(Mutation::ReserialiseBody) {
                body(row.id, &self.store.rows[index].order)
            } else {
                Rc::clone(&row.body)
            };
            self.audit_turn(place);
            let life = self.nodes[node].life;
            let in_ms = self.dice.ms(5, 500);
            self.plan(
                in_ms,
                Happening::Delivery {
                    node,
                    life,
                    place,
                    was,
                    body,
                },
            );
        }
        if let Some(wait) = next {
            self.plan_look(node, wait.max(LOOK_EVERY_MS));
        }
    }

    /// At the endpoint.
    pub fn delivery(
        &mut self,
        node: usize,
        life: u32,
        place: usize,
        was: (Delivery, u16),
        body: Rc<str>,
    ) {
        self.audit_delivery(place, &body);
        let outcome =
            if self.endpoint_down_until > self.now || self.dice.chance(self.swarm.endpoint_fails) {
                self.hit(Mark::DeliveryFailed);
                Told::Failed
            } else if self.dice.chance(self.swarm.endpoint_gone) {
                Told::Gone
            } else {
                let received = self.received.entry(place).or_insert((0, body));
                received.0 += 1;
                if received.0 > 1 {
                    self.hit(Mark::DeliveredTwice);
                }
                if self.dice.chance(self.swarm.endpoint_unheard) {
                    self.hit(Mark::DeliveryUnheard);
                    Told::Failed
                } else {
                    Told::Taken
                }
            };
        let in_ms = self.dice.ms(5, 500);
        self.plan(
            in_ms,
            Happening::DeliveryAnswered {
                node,
                life,
                place,
                was,
                outcome,
            },
        );
    }

    pub fn delivery_answered(
        &mut self,
        node: usize,
        place: usize,
        was: (Delivery, u16),
        outcome: Told,
    ) {
        let now = self.clock(node);
        let order = self.store.outbox[place].order;
        let tries = was.1.saturating_add(1);
        let (state, next_at) = match outcome {
            Told::Taken => (Delivery::Delivered, now),
            Told::Gone => (Delivery::Parked, now),
            Told::Failed => {
                let jitter = self.dice.below(JITTER_PERMILLE_MAX + 1);
                match Schedule::default().after_failure(tries, None, jitter, now) {
                    Next::RetryAt(at) => (Delivery::Pending, at),
                    Next::Park => (Delivery::Parked, now),
                }
            }
        };
        self.submit(
            node,
            Pending {
                transaction: Transaction::Delivery {
                    row: place,
                    was,
                    state,
                    tries,
                    next_at,
                },
                waiter: Waiter::Delivery { order },
            },
        );
    }

    /// Somebody has mended the endpoint, and asks for what was parked.
    pub fn operator_resends(&mut self) {
        let now = self.now;
        let mut resent = 0;
        for row in &mut self.store.outbox {
            if row.state == Delivery::Parked {
                row.state = Delivery::Pending;
                row.tries = 0;
                row.next_at = now;
                resent += 1;
            }
        }
        for _ in 0..resent {
            self.hit(Mark::Resent);
        }
        self.nudge_relays();
    }
}
