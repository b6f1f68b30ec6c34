//! What the actors of this room say to one another. Everything that somebody waits for carries the
//! way to answer: where an actor ends, the way is dropped, and whoever waits knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::admission::{Class, Permit};
use super::line::Room;
use super::urgency::Urgency;
use super::{OrdersError, Reply, Request};
use crate::order::{Command, OrderId};
use crate::store::Actor as Cause;

pub(super) type Answered = Result<Reply, OrdersError>;

/// A command for one order: from the handle to its shard, from there to its actor.
#[derive(Debug)]
pub(super) struct Tell {
    pub id: OrderId,
    pub request: Request,
    pub class: Class,
    /// `None` for what an order tells itself.
    pub answer: Option<oneshot::Sender<Answered>>,
    /// Held until the command is dealt with.
    pub permit: Option<Permit>,
    /// Room at its account, given to a due order.
    pub room: Option<Room>,
    pub pending: Option<Pending>,
    /// Which call this answers, where it answers one.
    pub call: Option<Arc<Call>>,
}

impl actix::Message for Tell {
    type Result = ();
}

impl Tell {
    /// What nobody waits for: a time that came.
    pub(super) fn tick(id: OrderId, room: Option<Room>) -> Self {
        Self {
            id,
            request: Request {
                command: Command::Tick,
                actor: Cause::Gateway,
                request_id: None,
                writes: Vec::new(),
            },
            class: Class::Tick,
            answer: None,
            permit: None,
            room,
            pending: None,
            call: None,
        }
    }

    pub(super) fn answer(mut self, answered: Answered) {
        self.send(answered);
    }

    /// Answers, and keeps what the command holds until it is dropped.
    pub(super) fn send(&mut self, answered: Answered) {
        if let Some(answer) = self.answer.take() {
            // Who stopped waiting reads the order again.
            let _ = answer.send(answered);
        }
    }
}

/// One provider call, from when its order asks until the answer was told. The address is its name.
#[derive(Debug)]
pub(super) struct Call {
    pub asked_at: Instant,
    pub urgency: Urgency,
    superseded: AtomicBool,
}

impl Call {
    /// `asked_at`: when the order decided to ask. What passes until the call leaves counts as well.
    pub(super) const fn new(urgency: Urgency, asked_at: Instant) -> Self {
        Self {
            asked_at,
            urgency,
            superseded: AtomicBool::new(false),
        }
    }

    /// The same was asked anew: where this one still waits for its turn, it need not leave.
    pub(super) fn supersede(&self) {
        self.superseded.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Relaxed)
    }
}

/// Counts a message for one actor from when its shard sends it until it is dealt with.
#[derive(Debug)]
pub(super) struct Pending(Arc<AtomicUsize>);

impl Pending {
    pub(super) fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Which actor of an order: each one that is started gets a new number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Generation(pub u64);

/// An order to its shard: nothing is going on here. Harmless where something came meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idle {
    pub id: OrderId,
    pub generation: Generation,
}

impl actix::Message for Idle {
    type Result = ();
}

/// A shard to an order that it no longer knows: no message can come after this one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leave;

impl actix::Message for Leave {
    type Result = ();
}

/// The runtime to the shard: an order's actor has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub id: OrderId,
    pub generation: Generation,
    pub panicked: bool,
}

impl actix::Message for Ended {
    type Result = ();
}

/// The shard is not ours any more: its orders finish what they are at, and leave.
#[derive(Clone, Copy, Debug)]
pub(super) struct LetGo;

impl actix::Message for LetGo {
    type Result = ();
}

/// The end of a shard and its orders.
#[derive(Clone, Copy, Debug)]
pub(super) struct Close;

impl actix::Message for Close {
    type Result = ();
}
