//! One command's way in the shell: decide, check, commit in a group, act, answer. What production
//! does in `actors::command_path`, `committer` and `order`, on virtual time.

use std::rc::Rc;

use crate::happening::{Fate, Happening};
use crate::marks::Mark;
use crate::mutation::{Mutation, rewrite};
use crate::node::{Answered, From, Pending, Tell, Trouble, Verdict, Waiter, Work};
use crate::order::invariants::check_step;
use crate::order::ledger::lines;
use crate::order::{
    Command, Effect, Event, EventId, Order, Outcome, QueryAnswer, Refusal, Timestamp,
    TradeStanding, decide, evolve,
};
use crate::store::{Delivery, OutboxRow, Rejection, Step, Transaction};
use crate::world::World;

/// How often one command is decided before its last rejection is its answer.
const DECISIONS: u8 = 4;
/// After a tick that could not be carried out.
const SLEEP_AFTER_FAILURE_MS: i64 = 1_000;

/// A fact needs no ownership.
const fn is_fact(command: &Command) -> bool {
    matches!(
        command,
        Command::Capture(_)
            | Command::QueryAnswer {
                answer: QueryAnswer::Paid(_),
                ..
            }
            | Command::RefundAnswer { .. }
            | Command::ForeignRefund(_)
    )
}

/// A claim must be on disk before its attempt ends, by the store's own clock (Q3).
fn not_after(order: &Order, command: &Command) -> Option<Timestamp> {
    let Command::Claim { attempt, .. } = command else {
        return None;
    };
    Some(order.attempt(*attempt)?.expires_at)
}

impl World {
    pub fn request_arrives(&mut self, node: usize, index: usize, tell: Tell) {
        if let Command::Pay { attempt, payer } = &tell.command
            && self.nodes[node].actors[index]
                .known
                .as_ref()
                .and_then(|known| known.attempt(*attempt)?.trade.as_ref())
                .is_some_and(|trade| trade.standing == TradeStanding::Intended)
            && self.dice.chance(self.swarm.pause_at_press)
        {
            // Before a call is repeated from memory; and the person does not wait for ever.
            let life = self.nodes[node].life;
            self.pause(Some((node, life)));
            let in_ms = self.dice.ms(14_000, 30_000);
            let command = Command::Release {
                attempt: *attempt,
                payer: *payer,
            };
            self.plan(in_ms, Happening::Wish { index, command });
            self.plan(1, Happening::Request { node, index, tell });
            return;
        }
        let shard = self.shard_of(index);
        let process = &self.nodes[node];
        let trouble = if !process.up {
            Some(Trouble::NodeDown)
        } else if !is_fact(&tell.command) && process.owned[shard].is_none() {
            self.hit(Mark::NotOwner);
            Some(Trouble::NotOwner)
        } else {
            None
        };
        match trouble {
            None => self.tell(node, index, tell),
            Some(trouble) => self.answer(node, index, &tell, Err(trouble)),
        }
    }

    /// Puts a command into its order's mailbox.
    pub fn tell(&mut self, node: usize, index: usize, tell: Tell) {
        self.nodes[node].actors[index].mailbox.push_back(tell);
        self.work(node, index);
    }

    fn work(&mut self, node: usize, index: usize) {
        while self.failure.is_none() && self.nodes[node].actors[index].work.is_none() {
            let Some(tell) = self.nodes[node].actors[index].mailbox.pop_front() else {
                return;
            };
            if self.is_outdated(node, index, &tell) {
                self.hit(Mark::OutdatedAnswer);
                self.answer(node, index, &tell, Err(Trouble::NotOwner));
            } else {
                self.begin(node, index, tell, 0);
            }
        }
    }

    /// An answer to a question that was asked again since. Money is news whenever it comes.
    fn is_outdated(&self, node: usize, index: usize, tell: &Tell) -> bool {
        let (Command::QueryAnswer { attempt, answer }, From::Call(call)) =
            (&tell.command, tell.from)
        else {
            return false;
        };
        let asked = (Effect::QueryTrade { attempt: *attempt }, call);
        !matches!(answer, QueryAnswer::Paid(_))
            && !self.mutated(Mutation::OutdatedAnswersCount)
            && !self.nodes[node].actors[index].under_way.contains(&asked)
    }

    /// The order as the store has it; `None` where the store cannot be read.
    fn load(&mut self, index: usize) -> Option<Rc<Order>> {
        if self.dice.chance(self.swarm.read_fails) {
            self.hit(Mark::StoreReadFailed);
            return None;
        }
        Some(Rc::clone(&self.store.rows[index].order))
    }

    fn begin(&mut self, node: usize, index: usize, tell: Tell, mut decisions: u8) {
        let shard = self.shard_of(index);
        let fence = if is_fact(&tell.command) {
            None
        } else if let Some(pair) = self.nodes[node].owned[shard] {
            Some(pair)
        } else {
            return self.answer(node, index, &tell, Err(Trouble::NotOwner));
        };
        while decisions < DECISIONS {
            decisions += 1;
            let known = match self.nodes[node].actors[index].known.clone() {
                Some(known) => known,
                None => match self.load(index) {
                    Some(loaded) => loaded,
                    None => return self.answer(node, index, &tell, Err(Trouble::Store)),
                },
            };
            self.nodes[node].actors[index].known = Some(Rc::clone(&known));
            let now = self.clock(node);
            let outcome = rewrite(
                self.mutation,
                &known,
                &tell.command,
                now,
                decide(&known, &tell.command, now),
            );
            let (verdict, effects) = match outcome {
                Outcome::Applied { events, effects } => {
                    return self.commit(node, index, tell, decisions, &known, events, effects);
                }
                Outcome::Already(answer, effects) => (Verdict::Already(answer), effects),
                Outcome::Refused(refusal) => (Verdict::Refused(refusal), Vec::new()),
            };
            // What changes nothing is answered, and leaves, only for an order that is still so: another
            // node may have recorded a fact, or may own it by now.
            let leaves = !effects.is_empty() || matches!(tell.command, Command::Pay { .. });
            let trusts = if leaves {
                self.mutated(Mutation::RepeatUnchecked)
            } else {
                self.mutated(Mutation::TrustMemory)
            };
            if !trusts {
                let Some(row) = self.load(index) else {
                    return self.answer(node, index, &tell, Err(Trouble::Store));
                };
                if fence.is_some() && self.store.shards[shard] != fence {
                    self.hit(Mark::FenceRefused);
                    self.drop_shard(node, shard);
                    return self.answer(node, index, &tell, Err(Trouble::NotOwner));
                }
                if row.version != known.version {
                    self.hit(Mark::StaleMemory);
                    self.nodes[node].actors[index].known = Some(row);
                    continue;
                }
            }
            self.dispatch(node, index, &known, effects, self.now);
            return self.answer(node, index, &tell, Ok((verdict, known)));
        }
        let trouble = Trouble::Rejected(Rejection::VersionMoved);
        self.answer(node, index, &tell, Err(trouble));
    }

    #[expect(clippy::too_many_arguments, reason = "one decision, in full")]
    fn commit(
        &mut self,
        node: usize,
        index: usize,
        tell: Tell,
        decisions: u8,
        before: &Rc<Order>,
        events: Vec<Event>,
        effects: Vec<Effect>,
    ) {
        let now = self.clock(node);
        let after = Rc::new(evolve((**before).clone(), &events, now));
        if let Err(violation) = check_step(before, &after) {
            return self.fail(format!(
                "{violation} (order {index}, {:?}, {events:?})",
                tell.command
            ));
        }
        let outbox = self.outbox(index, &after, &events, now);
        let mut lines: Vec<_> = events
            .iter()
            .flat_map(|event| lines(&after, event))
            .collect();
        if self.mutated(Mutation::DropLedgerLine) {
            lines.truncate(1);
        }
        let shard = self.shard_of(index);
        let step = Step {
            index,
            after: Rc::clone(&after),
            events: Rc::from(events),
            at: now,
            outbox,
            lines,
            not_after: not_after(before, &tell.command),
            shard,
            fence: if is_fact(&tell.command) {
                None
            } else {
                self.nodes[node].owned[shard]
            },
        };
        if self.mutated(Mutation::EffectsBeforeCommit) {
            self.dispatch(node, index, &after, effects.clone(), self.now);
        }
        if self.mutated(Mutation::AnswerBeforeCommit) && tell.from == From::Person {
            self.answer(
                node,
                index,
                &tell,
                Ok((Verdict::Applied, Rc::clone(&after))),
            );
        }
        if self.mutated(Mutation::AckBeforeCommit)
            && let From::Notice(notice) = tell.from
        {
            self.plan(1, Happening::NoticeAcked(notice));
        }
        self.nodes[node].actors[index].work = Some(Work {
            tell,
            decisions,
            after,
            effects,
            decided_at: self.now,
        });
        self.submit(
            node,
            Pending {
                transaction: Transaction::Step(step),
                waiter: Waiter::Order(index),
            },
        );
    }

    /// One outbox row for each event that a webhook tells of (E1).
    fn outbox(
        &mut self,
        index: usize,
        after: &Order,
        events: &[Event],
        now: Timestamp,
    ) -> Vec<OutboxRow> {
        if self.mutated(Mutation::DropOutboxRow) {
            return Vec::new();
        }
        let kinds = events.iter().filter_map(Event::webhook);
        kinds
            .map(|kind| {
                let id = EventId::from_ulid(self.dice.ulid());
                OutboxRow {
                    id,
                    order: index,
                    kind,
                    body: body(id, after),
                    state: Delivery::Pending,
                    tries: 0,
                    next_at: now,
                }
            })
            .collect()
    }

    pub fn order_verdict(
        &mut self,
        node: usize,
        index: usize,
        verdict: Result<Result<(), Rejection>, Fate>,
    ) {
        let Some(work) = self.nodes[node].actors[index].work.take() else {
            return;
        };
        match verdict {
            Ok(Ok(())) => self.committed(node, index, work),
            Ok(Err(Rejection::FenceMoved)) => {
                self.hit(Mark::FenceRefused);
                let shard = self.shard_of(index);
                self.drop_shard(node, shard);
                self.answer(node, index, &work.tell, Err(Trouble::NotOwner));
            }
            Ok(Err(rejection @ (Rejection::RuleBroken(_) | Rejection::EpochMoved { .. }))) => {
                self.fail(format!("the store refused a write: {rejection:?}"));
            }
            Ok(Err(rejection)) => {
                self.hit(match rejection {
                    Rejection::TooLate => Mark::ClaimTooLate,
                    _ => Mark::StaleRefused,
                });
                let known = self.nodes[node].actors[index].known.take();
                if rejection == Rejection::TooLate
                    && work.decisions >= DECISIONS
                    && let Some(known) = known
                    && let Some(until) = not_after(&known, &work.tell.command)
                {
                    let verdict = Verdict::Refused(Refusal::TooLate { until });
                    self.answer(node, index, &work.tell, Ok((verdict, known)));
                } else {
                    self.begin(node, index, work.tell, work.decisions);
                }
            }
            Err(Fate::Unknown) => match self.load(index) {
                // The row tells: it stands, or something else does.
                Some(found) if *found == *work.after => {
                    self.hit(Mark::UnknownStood);
                    self.committed(node, index, work);
                }
                found => {
                    self.hit(Mark::UnknownGone);
                    self.nodes[node].actors[index].known = found;
                    self.answer(node, index, &work.tell, Err(Trouble::Store));
                }
            },
            Err(_) => {
                self.hit(Mark::StoreRefused);
                self.answer(node, index, &work.tell, Err(Trouble::Store));
            }
        }
        self.work(node, index);
    }

    fn committed(&mut self, node: usize, index: usize, work: Work) {
        let Work {
            tell,
            after,
            effects,
            decided_at,
            ..
        } = work;
        self.nodes[node].actors[index].known = Some(Rc::clone(&after));
        if !self.mutated(Mutation::EffectsBeforeCommit) {
            self.dispatch(node, index, &after, effects, decided_at);
        }
        match (tell.from, &tell.command) {
            (From::Sweep, _) => self.hit(Mark::SweepWoke),
            (From::Bill, _) => self.hit(Mark::PaidByBill),
            (
                From::Call(_),
                Command::QueryAnswer {
                    answer: QueryAnswer::Paid(_),
                    ..
                },
            ) => self.hit(Mark::PaidByQuery),
            _ => {}
        }
        if self.mutated(Mutation::AnswerBeforeCommit) && tell.from == From::Person {
            return self.arm(node, index, 0);
        }
        self.answer(node, index, &tell, Ok((Verdict::Applied, after)));
    }

    /// Tells whoever asked, and sees to it that the order wakes when it is due.
    pub fn answer(&mut self, node: usize, index: usize, tell: &Tell, answered: Answered) {
        let failed = answered.is_err();
        self.note(|| {
            let what = match &answered {
                Ok((verdict, order)) => format!("{verdict:?} at version {}", order.version),
                Err(trouble) => format!("{trouble:?}"),
            };
            format!("node {node}, order {index}: {:?} -> {what}", tell.command)
        });
        match tell.from {
            From::Person => {
                self.promised(index, &answered);
                if self.dice.chance(self.swarm.person_unheard) {
                    self.hit(Mark::RequestUnanswered);
                } else {
                    let in_ms = self.dice.ms(1, 200);
                    self.plan(
                        in_ms,
                        Happening::Heard {
                            index,
                            command: tell.command.clone(),
                            answered,
                        },
                    );
                }
            }
            From::Notice(notice) if !failed => {
                if self.dice.chance(self.swarm.ack_lost) {
                    self.hit(Mark::AckLost);
                } else {
                    let in_ms = self.dice.ms(1, 100);
                    self.plan(in_ms, Happening::NoticeAcked(notice));
                }
            }
            From::Call(call) => {
                let actor = &mut self.nodes[node].actors[index];
                actor.under_way.retain(|(_, other)| *other != call);
            }
            From::Notice(_) | From::Timer | From::Sweep | From::Bill => {}
        }
        let is_tick = matches!(tell.from, From::Timer | From::Sweep);
        let pause = if failed && is_tick {
            SLEEP_AFTER_FAILURE_MS
        } else {
            10
        };
        self.arm(node, index, pause);
    }
}

/// What a webhook says: made once, when the event is.
pub(crate) fn body(id: EventId, order: &Order) -> Rc<str> {
    let (version, status) = (order.version, order.status().as_str());
    format!("{id} {version} {status} {}", order.captures.len()).into()
}
