//! The heart's shell: one actix actor per live order, under shards that a few arbiter threads host.
//!
//! Everyone outside holds an [`Orders`], a cheap clone; nobody else knows an actor's address. For
//! every command the way is the same: find or load the order, `decide`, commit, `evolve`, answer, and
//! only then let the effects leave; their results come back as commands (architecture §1).

use std::sync::Arc;

use crate::order::{Answer, Command, Refusal};
use crate::store::{Actor, Rejection, StoreError, StoredOrder, Write};

/// A command for one order, and what is to be committed with it.
#[derive(Clone, Debug)]
pub struct Request {
    pub command: Command,
    pub actor: Actor,
    pub request_id: Option<String>,
    /// Committed in the command's transaction; where the command changes nothing, alone, before the
    /// answer (a nonce is taken once even by a request that is refused).
    pub writes: Vec<Write>,
}

/// What became of it. The order is as committed.
#[derive(Clone, Debug)]
pub struct Reply {
    pub stored: Arc<StoredOrder>,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Applied,
    Already(Answer),
    Refused(Refusal),
}

/// Why a request got no reply.
#[derive(Clone, Debug, thiserror::Error)]
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
    #[error("the gateway is stopping")]
    Stopping,
}

/// An order about to be made, with everything that is committed with it.
#[derive(Clone, Debug)]
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
pub struct Orders;

impl Orders {
    /// Commits a new order. `Rejected(MerchantOrderNoTaken)` where the number is taken.
    #[expect(
        clippy::unused_async,
        reason = "the interface, before its shards exist"
    )]
    pub async fn create(&self, new: NewOrder) -> Result<Arc<StoredOrder>, OrdersError> {
        let _ = new;
        Err(OrdersError::Stopping)
    }

    /// Has the order's actor decide a command, commits and answers.
    #[expect(
        clippy::unused_async,
        reason = "the interface, before its shards exist"
    )]
    pub async fn tell(
        &self,
        id: crate::order::OrderId,
        request: Request,
    ) -> Result<Reply, OrdersError> {
        let _ = (id, request);
        Err(OrdersError::Stopping)
    }

    /// The order as last committed, from its actor's memory or the store; starts no actor.
    #[expect(
        clippy::unused_async,
        reason = "the interface, before its shards exist"
    )]
    pub async fn read(
        &self,
        id: crate::order::OrderId,
    ) -> Result<Option<Arc<StoredOrder>>, OrdersError> {
        let _ = id;
        Err(OrdersError::Stopping)
    }

    /// Announces each new version of the order from now on (the value is the last version known, 0
    /// where none is). Bounded memory: the entry goes when its last receiver does.
    pub fn watch(&self, id: crate::order::OrderId) -> tokio::sync::watch::Receiver<u64> {
        let _ = id;
        tokio::sync::watch::channel(0).1
    }
}
