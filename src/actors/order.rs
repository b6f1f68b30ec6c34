//! The actor of one live order: one command at a time from decision to commit, one timer.
//!
//! While a command is decided and committed, the mailbox waits (`ctx.wait`); provider calls run
//! beside the actor and come back as commands. The timer only wakes: the clock decides what is due,
//! and the sweep wakes whoever has no timer.

use std::sync::{Arc, Weak};
use std::time::Duration;

use actix::fut::WrapFuture as _;
use actix::{
    Actor, ActorContext, ActorFutureExt as _, Addr, AsyncContext, Context, Handler, SpawnHandle,
};
use tokio::time::Instant;

use super::admission::Class;
use super::command_path::{Done, carry_out};
use super::house::House;
use super::messages::{Call, Generation, Idle, Leave, Tell};
use super::shard::Shard;
use super::urgency::Urgency;
use super::{OrdersError, Reply, Verdict, effects};
use crate::faults::crash_point;
use crate::order::{Answer, Command, Effect, OrderId, QueryAnswer, TradeAnswer};
use crate::store::StoredOrder;

/// The least pause between two wake-ups.
const SHORTEST_SLEEP: Duration = Duration::from_millis(10);
/// After a tick that could not be carried out.
const SLEEP_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// While a line wakes it as soon as there is room: only in case that was lost.
const SLEEP_WITHOUT_ROOM: Duration = Duration::from_mins(1);
/// After a tick for which too much was under way: this, and up to as much again.
const SLEEP_IN_CROWD: Duration = Duration::from_millis(200);
/// An order that is due within this stays in memory.
const DUE_SOON_MS: i64 = 60_000;

#[derive(Debug)]
pub(super) struct OrderActor {
    id: OrderId,
    shard_number: u16,
    generation: Generation,
    house: Arc<House>,
    shard: Addr<Shard>,
    /// As last committed; `None` until it is loaded, and where what we know may be wrong.
    stored: Option<Arc<StoredOrder>>,
    last_used: Instant,
    alarm: Option<(Instant, SpawnHandle)>,
    /// Calls whose answers are not in yet, the last of each kind.
    under_way: Vec<(Effect, Weak<Call>)>,
}

impl OrderActor {
    pub(super) fn new(
        id: OrderId,
        shard_number: u16,
        generation: Generation,
        house: Arc<House>,
        shard: Addr<Shard>,
    ) -> Self {
        Self {
            id,
            shard_number,
            generation,
            house,
            shard,
            stored: None,
            last_used: Instant::now(),
            alarm: None,
            under_way: Vec::new(),
        }
    }

    fn begin(&mut self, mut tell: Tell, context: &mut Context<Self>) {
        let house = Arc::clone(&self.house);
        let known = self.stored.clone();
        let (id, shard) = (self.id, self.shard_number);
        let room = tell.room.take();
        let work = async move {
            let done = carry_out(&house, shard, id, known, &tell.request, room).await;
            (done, tell)
        };
        // Nothing else reaches this order until the commit is answered.
        context.wait(
            work.into_actor(self)
                .map(|(done, tell), actor, context| actor.finish(done, tell, context)),
        );
    }

    /// An answer to a question that was asked again since, or by an actor before this one. Money is
    /// news whenever it comes; anything else of it proves nothing now.
    fn is_outdated(&self, tell: &Tell) -> bool {
        let Command::QueryAnswer { attempt, answer } = &tell.request.command else {
            return false;
        };
        let Some(call) = &tell.call else { return false };
        let asked = Effect::QueryTrade { attempt: *attempt };
        !matches!(answer, QueryAnswer::Paid(_))
            && !self.under_way.iter().any(|(effect, latest)| {
                *effect == asked && std::ptr::eq(latest.as_ptr(), Arc::as_ptr(call))
            })
    }

    fn finish(&mut self, done: Done, mut tell: Tell, context: &mut Context<Self>) {
        let failed = done.answered.is_err();
        self.stored = done.stored;
        match &self.stored {
            Some(stored) => self.house.board.put(self.shard_number, stored),
            None => self.house.board.forget(self.shard_number, self.id),
        }
        if done.committed {
            if let Some(stored) = &self.stored {
                self.house
                    .announce(self.shard_number, self.id, stored.order.version);
            }
            if matches!(tell.request.command, Command::Claim { .. }) {
                crash_point("c5");
            }
        }
        self.hear(&tell.request.command);
        tell.send(done.answered);
        if done.committed && matches!(tell.request.command, Command::Capture(_)) {
            crash_point("c8");
        }
        let earlier = tell.call.as_ref().map(|call| call.urgency);
        // Whoever owns the order now does them by its row.
        let is_ours = self.house.owns(self.shard_number);
        for effect in done.effects.into_iter().filter(|_| is_ours) {
            self.dispatch(effect, &tell.request.command, earlier, done.decided_at);
        }
        drop(done.rooms);
        if tell.class == Class::Tick {
            let pause = if failed {
                SLEEP_AFTER_FAILURE
            } else if done.waits_for_room {
                SLEEP_WITHOUT_ROOM
            } else {
                SHORTEST_SLEEP
            };
            self.arm(pause, context);
        } else {
            self.last_used = Instant::now();
            self.arm(Duration::ZERO, context);
        }
        drop(tell);
        if self.stored.is_none() {
            // Nothing is known here: whoever asks next asks a new actor, or this one.
            self.announce_idle();
        }
    }

    /// Lets those who asked know of an answer, also where it changes nothing.
    fn hear(&self, command: &Command) {
        let house = &self.house;
        match command {
            Command::QueryAnswer { attempt, answer } => {
                let asked_at = self
                    .stored
                    .as_ref()
                    .and_then(|stored| stored.order.attempt(*attempt)?.queries.last_at);
                let is_known = !matches!(answer, QueryAnswer::Unknown);
                house.hear(self.shard_number, self.id, |heard| {
                    heard.query = asked_at.map(|at| (at, is_known)).or(heard.query);
                });
            }
            Command::TradeAnswer {
                answer: TradeAnswer::Unknown,
                ..
            } => house.hear(self.shard_number, self.id, |heard| {
                heard.trades_unanswered += 1;
            }),
            _ => {}
        }
    }

    /// Calls beside the actor. What is under way already is not asked again, but for a question: the
    /// heart judges an answer by when it asked last, so only the last question's answer may count.
    fn dispatch(
        &mut self,
        effect: Effect,
        command: &Command,
        earlier: Option<Urgency>,
        decided_at: Instant,
    ) {
        self.under_way.retain(|(_, call)| call.strong_count() > 0);
        if matches!(effect, Effect::QueryTrade { .. }) {
            self.under_way.retain(|(other, call)| {
                let is_same = *other == effect;
                if is_same && let Some(call) = call.upgrade() {
                    call.supersede();
                }
                !is_same
            });
        } else if self.under_way.iter().any(|(other, _)| *other == effect) {
            return;
        }
        let Some(stored) = &self.stored else { return };
        match effect {
            Effect::MakeTrade { .. } => crash_point("c3"),
            Effect::CloseTrade { .. } => crash_point("c9"),
            Effect::Refund { .. } | Effect::RepairRefund { .. } => crash_point("c11"),
            Effect::QueryTrade { .. } => {}
        }
        let urgency = Urgency::of(&effect, command, earlier, &stored.order);
        if let Some(call) = effects::start(&self.house, stored, &effect, urgency, decided_at) {
            self.under_way.push((effect, call));
        }
    }

    /// Sees to it that the order wakes when it is due, or idle, but not before `pause` is over. An
    /// alarm that comes too early is kept: it is harmless.
    fn arm(&mut self, pause: Duration, context: &mut Context<Self>) {
        let now = Instant::now();
        let idle_at = self.last_used + Duration::from_millis(self.house.options.idle_ms.max(1));
        let due_at = self.due_in().map(|due| now + due);
        let idle_at = if idle_at <= now {
            now + Duration::from_millis(self.house.options.idle_ms.max(1))
        } else {
            idle_at
        };
        let at = due_at
            .map_or(idle_at, |due| due.min(idle_at))
            .max(now + pause);
        if let Some((armed, handle)) = self.alarm {
            if armed <= at && armed > now {
                return;
            }
            context.cancel_future(handle);
        }
        let handle = context.run_later(at.saturating_duration_since(now), Self::wake);
        self.alarm = Some((at, handle));
    }

    fn due_in(&self) -> Option<Duration> {
        let due = self.stored.as_ref()?.order.next_due_at()?;
        let millis = due.since(self.house.parts.clock.now()).max(0);
        Some(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
    }

    fn wake(&mut self, context: &mut Context<Self>) {
        self.alarm = None;
        if self.due_in().is_some_and(|due| due.is_zero()) && !self.house.is_stopping() {
            let admission = &self.house.thread_of(self.shard_number).admission;
            let Some(permit) = admission.admit(Class::Tick) else {
                // Very many are due at once: each comes back at a moment of its own.
                let millis = u64::try_from(SLEEP_IN_CROWD.as_millis()).unwrap_or_default();
                let spread = Duration::from_millis(self.house.parts.random.below(millis));
                return self.arm(SLEEP_IN_CROWD + spread, context);
            };
            let mut tick = Tell::tick(self.id, None);
            tick.permit = Some(permit);
            return self.begin(tick, context);
        }
        if self.is_idle() {
            self.announce_idle();
        }
        self.arm(SHORTEST_SLEEP, context);
    }

    /// No live attempt, no refund under way, nothing due soon, nobody came for a while.
    fn is_idle(&mut self) -> bool {
        self.under_way.retain(|(_, call)| call.strong_count() > 0);
        let idle_for = Duration::from_millis(self.house.options.idle_ms);
        let Some(stored) = &self.stored else {
            return true;
        };
        self.last_used.elapsed() >= idle_for
            && self.under_way.is_empty()
            && stored.order.live_attempt().is_none()
            && stored
                .order
                .next_due_at()
                .is_none_or(|due| due.since(self.house.parts.clock.now()) > DUE_SOON_MS)
    }

    fn announce_idle(&self) {
        self.shard.do_send(Idle {
            id: self.id,
            generation: self.generation,
        });
    }
}

impl Actor for OrderActor {
    type Context = Context<Self>;
}

impl Drop for OrderActor {
    fn drop(&mut self) {
        self.house.board.forget(self.shard_number, self.id);
    }
}

impl Handler<Tell> for OrderActor {
    type Result = ();

    fn handle(&mut self, tell: Tell, context: &mut Self::Context) {
        if self.is_outdated(&tell) {
            let answered = self.stored.as_ref().map(|stored| Reply {
                stored: Arc::clone(stored),
                verdict: Verdict::Already(Answer::Stale),
            });
            tell.answer(answered.ok_or(OrdersError::ActorLost));
            if self.stored.is_none() {
                self.announce_idle();
            }
            return;
        }
        self.begin(tell, context);
    }
}

impl Handler<Leave> for OrderActor {
    type Result = ();

    fn handle(&mut self, _: Leave, context: &mut Self::Context) {
        context.stop();
    }
}
