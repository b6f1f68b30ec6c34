//! One virtual shard: knows its orders' actors, starts them on demand, learns how each one ended.
//!
//! actix does not catch a panic, and its own supervisor would go on with the same memory. So each
//! actor is a task whose handle is awaited: after a panic whatever it worked on gets `ActorLost`, and
//! the next command builds a new actor from the store. An actor that is idle asks to leave; the shard
//! forgets it first and only then lets it go, so no message is ever sent to one that is leaving.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::prelude::SendError;
use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler};
use tokio::time::Instant;

use super::OrdersError;
use super::admission::{Class, refused};
use super::house::House;
use super::messages::{Close, Ended, Generation, Idle, Leave, LetGo, Pending, Tell};
use super::order::OrderActor;
use super::orders::RETRY_AFTER_SECONDS;
use crate::order::OrderId;

/// The pause after an order's first panic before a timer wakes it again; doubled with each more.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// Orders whose panics are remembered; beyond it all are forgotten, which costs a few more panics.
const REMEMBERED: usize = 10_000;

#[derive(Debug)]
pub(super) struct Shard {
    number: u16,
    house: Arc<House>,
    children: HashMap<OrderId, Child>,
    generations: u64,
    crashes: HashMap<OrderId, Crashes>,
}

#[derive(Debug)]
struct Child {
    addr: Addr<OrderActor>,
    generation: Generation,
    pending: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Crashes {
    count: u32,
    pause_until: Instant,
}

impl Shard {
    pub(super) fn new(number: u16, house: Arc<House>) -> Self {
        Self {
            number,
            house,
            children: HashMap::new(),
            generations: 0,
            crashes: HashMap::new(),
        }
    }

    fn child(&mut self, id: OrderId, class: Class, shard: &Addr<Self>) -> Option<&Child> {
        let lives = self
            .children
            .get(&id)
            .is_some_and(|child| child.addr.connected());
        if !lives {
            let full =
                self.house.live_total.load(Ordering::Relaxed) >= self.house.options.live_orders;
            if full && class != Class::Fact {
                return None;
            }
            let child = self.start(id, shard);
            self.children.insert(id, child);
        }
        self.children.get(&id)
    }

    fn start(&mut self, id: OrderId, shard: &Addr<Self>) -> Child {
        self.generations += 1;
        let generation = Generation(self.generations);
        let actor = OrderActor::new(
            id,
            self.number,
            generation,
            Arc::clone(&self.house),
            shard.clone(),
        );
        let mut context = Context::new();
        context.set_mailbox_capacity(self.house.options.mailbox.max(1));
        let addr = context.address();
        let task = actix::spawn(context.into_future(actor));
        self.house.count_live(self.number, true);
        let shard = shard.clone();
        actix::spawn(async move {
            let panicked = task.await.is_err_and(|error| error.is_panic());
            shard.do_send(Ended {
                id,
                generation,
                panicked,
            });
        });
        Child {
            addr,
            generation,
            pending: Arc::default(),
        }
    }

    fn is_pausing(&self, id: OrderId) -> bool {
        self.crashes
            .get(&id)
            .is_some_and(|crashes| Instant::now() < crashes.pause_until)
    }

    fn remember_crash(&mut self, id: OrderId) -> u32 {
        if self.crashes.len() >= REMEMBERED {
            self.crashes.clear();
        }
        let crashes = self.crashes.entry(id).or_insert(Crashes {
            count: 0,
            pause_until: Instant::now(),
        });
        let pause = FIRST_PAUSE
            .saturating_mul(1 << crashes.count.min(16))
            .min(LONGEST_PAUSE);
        crashes.count = crashes.count.saturating_add(1);
        crashes.pause_until = Instant::now() + pause;
        crashes.count
    }
}

impl Actor for Shard {
    type Context = Context<Self>;
}

impl Handler<Tell> for Shard {
    type Result = ();

    fn handle(&mut self, mut tell: Tell, context: &mut Self::Context) {
        if tell.class == Class::Tick && self.is_pausing(tell.id) {
            return tell.answer(Err(OrdersError::ActorLost));
        }
        if !self.house.owns(self.number) {
            return tell.answer(Err(OrdersError::NoOwner));
        }
        let class = tell.class;
        let Some(child) = self.child(tell.id, class, &context.address()) else {
            refused(class);
            return tell.answer(overloaded());
        };
        tell.pending = Some(Pending::new(&child.pending));
        if class == Class::Fact {
            // Past the mailbox's bound: facts are bounded by their own reserve.
            child.addr.do_send(tell);
            return;
        }
        match child.addr.try_send(tell) {
            Ok(()) => {}
            Err(SendError::Full(tell)) => {
                refused(class);
                tell.answer(overloaded());
            }
            Err(SendError::Closed(tell)) => tell.answer(Err(OrdersError::ActorLost)),
        }
    }
}

const fn overloaded() -> super::messages::Answered {
    Err(OrdersError::Overloaded {
        retry_after_seconds: RETRY_AFTER_SECONDS,
    })
}

impl Handler<Idle> for Shard {
    type Result = ();

    fn handle(&mut self, idle: Idle, _: &mut Self::Context) {
        let may_leave = self.children.get(&idle.id).is_some_and(|child| {
            child.generation == idle.generation && child.pending.load(Ordering::Relaxed) == 0
        });
        if may_leave && let Some(child) = self.children.remove(&idle.id) {
            child.addr.do_send(Leave);
            self.crashes.remove(&idle.id);
        }
    }
}

impl Handler<Ended> for Shard {
    type Result = ();

    fn handle(&mut self, ended: Ended, _: &mut Self::Context) {
        self.house.count_live(self.number, false);
        if self
            .children
            .get(&ended.id)
            .is_some_and(|child| child.generation == ended.generation)
        {
            self.children.remove(&ended.id);
        }
        if ended.panicked {
            let crashes = self.remember_crash(ended.id);
            self.house.restarts.fetch_add(1, Ordering::Relaxed);
            metrics::counter!("enrollpay_actor_restarts_total", "cause" => "panic").increment(1);
            tracing::error!(
                order = %ended.id,
                crashes,
                "an order's actor panicked: the next command builds it again from its row"
            );
        }
    }
}

impl Handler<LetGo> for Shard {
    type Result = ();

    fn handle(&mut self, _: LetGo, _: &mut Self::Context) {
        for (_, child) in self.children.drain() {
            child.addr.do_send(Leave);
        }
        self.crashes.clear();
    }
}

impl Handler<Close> for Shard {
    type Result = ();

    fn handle(&mut self, _: Close, context: &mut Self::Context) {
        for (_, child) in self.children.drain() {
            child.addr.do_send(Leave);
        }
        context.stop();
    }
}
