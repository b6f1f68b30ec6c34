//! The other nodes, as far as orders care. Who they are and how they are reached is the cluster's
//! business.

use std::fmt;

use async_trait::async_trait;

use super::watch::Heard;
use super::{NewOrder, OrdersError, Reply, Request};
use crate::order::OrderId;
use crate::store::StoredOrder;

/// Ways to the owners of orders that are not ours.
#[async_trait]
pub trait Peers: Send + Sync + fmt::Debug {
    /// Has the owner decide a command, one hop at most. `NoOwner` where there is none just now, or
    /// it is not who we think it is; `ActorLost` where it may have heard and did not answer.
    async fn tell(
        &self,
        shard: u16,
        id: OrderId,
        request: Request,
        asking: Asking,
    ) -> Result<Reply, OrdersError>;

    /// Has the owner make an order, as [`Peers::tell`].
    async fn create(&self, shard: u16, new: NewOrder) -> Result<StoredOrder, OrdersError>;

    /// Somebody here watches an order that is not ours: its owner should send us what is new of it,
    /// for as long as [`Orders::watches`](super::Orders::watches) says so. Does not wait.
    fn watch(&self, shard: u16, id: OrderId);

    /// Something is new of an order: those nodes that watch it are told, and its owner where we are
    /// not it. Does not wait, and may be lost: whoever needs it reads the store as well.
    fn tell_news(&self, shard: u16, id: OrderId, news: News);
}

/// How the owner is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Asking {
    /// [`Orders::tell`](super::Orders::tell)
    Tell,
    /// [`Orders::query`](super::Orders::query): many who ask at once share one question.
    Query,
}

/// What is new of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// It stands at this version, or a later one.
    Version(u64),
    /// Its provider has answered.
    Heard(Heard),
}
