//! The heart's shell: one actix actor per live order, under shards that a few arbiter threads host.
//!
//! Everyone outside holds an [`Orders`], a cheap clone; nobody else knows an actor's address. For
//! every command the way is the same: find or load the order, `decide`, commit, `evolve`, answer, and
//! only then let the effects leave; their results come back as commands (architecture §1).
//!
//! ```text
//!   Orders ──admission──► Shard ──► OrderActor ──► command_path ──► Committer ──► Store
//!     ▲                  (starts,     (one command    (decide, check,   (one flush for
//!     │                   learns       at a time,      commit, decide    many orders)
//!     │                   the end)     one timer)      again)
//!     └──────── effects (provider calls, in their account's line), sweep (what is due) ◄─┘
//! ```
//!
//! Start reading at `orders`, then `order` and `command_path`. `start` brings it all up.

mod admission;
mod circuit;
mod command_path;
mod committer;
mod effects;
mod house;
mod line;
mod messages;
mod meters;
mod options;
mod order;
mod orders;
pub mod ownership;
mod pace;
mod peers;
mod requests;
mod reread;
mod shard;
mod shards;
mod sweep;
mod turns;
mod urgency;
mod watch;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use options::{Budget, EventBody, Options, Parts, Told};
pub use peers::{Asking, News, Peers};
pub use requests::{CannotAsk, REFUND_COLUMN, REPAIR_COLUMN, refund_slot, repair_slot};
pub use shards::{Observed, ObservedThread, Shards, start};
pub use watch::Heard;

use crate::order::{Answer, Command, Refusal};
use crate::store::{Actor, Rejection, StoreError, StoredOrder, Write};

/// A command for one order, and what is to be committed with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    pub command: Command,
    pub actor: Actor,
    pub request_id: Option<String>,
    /// Committed in the command's transaction; where the command changes nothing, alone, before the
    /// answer (a nonce is taken once even by a request that is refused). Tokens, personal data and the
    /// log of what operators did belong to what the command makes true: without it they are not
    /// written.
    pub writes: Vec<Write>,
}

/// What became of it. The order is as committed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reply {
    pub stored: Arc<StoredOrder>,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Applied,
    Already(Answer),
    Refused(Refusal),
}

/// Why a request got no reply.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum OrdersError {
    #[error("no such order")]
    NotFound,
    /// A mailbox or the committer's queue is full, or too many orders are live. Nothing was done.
    #[error("too much is under way: try again in {retry_after_seconds} s")]
    Overloaded { retry_after_seconds: u32 },
    /// The store refused what was to be committed with the command (nonce, key, merchant number).
    #[error(transparent)]
    Rejected(Rejection),
    #[error(transparent)]
    Store(StoreError),
    /// The order's actor ended while it worked on this: the outcome may be committed.
    #[error("the order's actor ended before it answered: read the order again")]
    ActorLost,
    /// The order's shard is changing hands, or its owner is not reached. Nothing was done.
    #[error("no node answers for this order just now: try again in a moment")]
    NoOwner,
    #[error("the gateway is stopping")]
    Stopping,
}

/// An order about to be made, with everything that is committed with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewOrder {
    pub id: crate::order::OrderId,
    pub terms: crate::order::Terms,
    pub snapshot: crate::store::OrderSnapshot,
    pub actor: Actor,
    pub request_id: Option<String>,
    /// Tokens, personal data, nonce, idempotency.
    pub writes: Vec<Write>,
}

/// The handle to all orders. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Orders {
    house: Arc<house::House>,
}
