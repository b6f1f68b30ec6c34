//! One gateway process: what it has in memory, all of which a crash forgets.

use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

use crate::order::{Answer, Command, Effect, Order, Refusal, Timestamp};
use crate::store::{Pair, Rejection, Transaction};

#[derive(Debug)]
pub(crate) struct Node {
    pub up: bool,
    /// Counts its starts: what was planned for an earlier life does not happen.
    pub life: u32,
    pub instance: u64,
    pub paused_until: Timestamp,
    pub skew_ms: i64,
    /// The locks cannot be reached before this.
    pub cut_until: Timestamp,
    /// By shard: what it believes it owns.
    pub owned: Vec<Option<Pair>>,
    pub claiming: Vec<bool>,
    pub actors: Vec<Actor>,
    /// Commits that gather while one is on its way.
    pub gathering: Vec<Pending>,
    /// The flush on its way.
    pub flush: Option<usize>,
    pub sweep_at: Timestamp,
    pub relay: Relay,
}

/// What the webhook relay has under way.
#[derive(Debug, Default)]
pub(crate) struct Relay {
    /// Orders with a try under way, or a result that is not recorded yet.
    pub busy: BTreeSet<usize>,
    pub look_at: Timestamp,
}

#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub transaction: Transaction,
    pub waiter: Waiter,
}

/// Who is told what became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiter {
    Order(usize),
    Shard(usize),
    Delivery { order: usize },
}

/// One order in memory: one command at a time from decision to commit.
#[derive(Debug, Default)]
pub(crate) struct Actor {
    /// As last committed, as far as this node knows.
    pub known: Option<Rc<Order>>,
    pub mailbox: VecDeque<Tell>,
    pub work: Option<Work>,
    /// Calls whose answers are not in yet, the last of each kind.
    pub under_way: Vec<(Effect, usize)>,
    pub alarm: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub(crate) struct Tell {
    pub command: Command,
    pub from: From,
}

/// Who asks, and hears the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Person,
    Notice(usize),
    Call(usize),
    Timer,
    Sweep,
    Bill,
}

/// A command whose commit is on its way.
#[derive(Debug)]
pub(crate) struct Work {
    pub tell: Tell,
    pub decisions: u8,
    pub after: Rc<Order>,
    pub effects: Vec<Effect>,
    /// The node's monotonic time of the decision.
    pub decided_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Applied,
    Already(Answer),
    Refused(Refusal),
}

/// Why a command got no verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    Store,
    NotOwner,
    NodeDown,
    Rejected(Rejection),
}

pub(crate) type Answered = Result<(Verdict, Rc<Order>), Trouble>;

impl Node {
    pub fn new(shards: usize, orders: usize) -> Self {
        Self {
            up: false,
            life: 0,
            instance: 0,
            paused_until: Timestamp::from_millis(0),
            skew_ms: 0,
            cut_until: Timestamp::from_millis(0),
            owned: vec![None; shards],
            claiming: vec![false; shards],
            actors: (0..orders).map(|_| Actor::default()).collect(),
            gathering: Vec::new(),
            flush: None,
            sweep_at: Timestamp::from_millis(0),
            relay: Relay::default(),
        }
    }

    /// The process ends: its memory is gone.
    pub fn forget(&mut self) {
        let (shards, orders) = (self.owned.len(), self.actors.len());
        *self = Self {
            life: self.life + 1,
            skew_ms: self.skew_ms,
            cut_until: self.cut_until,
            ..Self::new(shards, orders)
        };
    }
}
