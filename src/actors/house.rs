//! What everybody in this room shares.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use actix::{Addr, ArbiterHandle};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::Admission;
use super::committer::{Committer, Lane, Verdict};
use super::line::{Line, Parked, Room};
use super::messages::Tell;
use super::options::{Options, Parts};
use super::ownership::is_fact;
use super::peers::News;
use super::shard::Shard;
use super::turns::{Reading, Recording, Turns};
use super::watch::{Board, Heard};
use crate::order::{AccountId, Command, OrderId};
use crate::store::{StoreError, StoredOrder, Transaction, shard_of};

/// One arbiter thread, seen from elsewhere.
#[derive(Debug)]
pub(super) struct Thread {
    pub admission: Arc<Admission>,
    pub committer: Committer,
}

pub(super) struct House {
    pub options: Options,
    pub parts: Parts,
    pub board: Board,
    pub threads: Vec<Thread>,
    /// By number; set once, before anybody holds an `Orders`.
    pub shards: OnceLock<Vec<Addr<Shard>>>,
    /// Where provider calls run.
    pub caller: ArbiterHandle,
    pub lines: HashMap<AccountId, Arc<Line>>,
    /// Due orders that wait for room in one of the lines.
    pub parked: Parked,
    /// Events written to the outbox since the start: wakes the relay.
    pub outbox_written: watch::Sender<u64>,
    pub tracker: TaskTracker,
    /// New wishes are refused.
    pub stopping: AtomicBool,
    /// Facts are, too.
    pub closed: AtomicBool,
    /// Ends sweep and provider calls.
    pub stop_calls: CancellationToken,
    pub live: Vec<AtomicUsize>,
    pub live_total: AtomicUsize,
    pub restarts: AtomicU64,
    /// Provider calls that wait or are under way.
    pub calls: AtomicUsize,
    pub recordings: Turns<Recording>,
    pub readings: Turns<Reading>,
    /// Those before a fact wait behind no others.
    pub readings_for_facts: Turns<Reading>,
    /// An order left memory.
    pub left: Notify,
    /// There may be something due that nobody looks for yet.
    pub look: Notify,
}

impl std::fmt::Debug for House {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("House")
            .field("shards", &self.options.shards)
            .field("live", &self.live_total)
            .finish_non_exhaustive()
    }
}

impl House {
    pub(super) fn shard_of(&self, id: OrderId) -> u16 {
        shard_of(id, self.options.shards)
    }

    pub(super) fn thread_of(&self, shard: u16) -> &Thread {
        &self.threads[usize::from(shard) % self.threads.len()]
    }

    pub(super) async fn commit(&self, shard: u16, transaction: Transaction, lane: Lane) -> Verdict {
        let committer = &self.thread_of(shard).committer;
        committer.commit(transaction, lane).await
    }

    /// The order's row, asked for as what is to be done with it may wait.
    pub(super) async fn load(
        &self,
        id: OrderId,
        command: &Command,
    ) -> Result<Option<StoredOrder>, StoreError> {
        let store = &self.parts.store;
        if is_fact(command) {
            store.order_for_fact(id).await
        } else {
            store.order(id).await
        }
    }

    /// Has an order decided that was due, and has room now.
    pub(super) fn wake(&self, id: OrderId, room: Room) {
        let shard = usize::from(self.shard_of(id));
        if let Some(shard) = self.shards.get().and_then(|shards| shards.get(shard)) {
            // Past the shard's mailbox bound: rooms are few.
            shard.do_send(Tell::tick(id, Some(room)));
        }
    }

    pub(super) fn owns(&self, shard: u16) -> bool {
        self.options.ownership.owns(shard)
    }

    /// Would the store let us write for this shard? Where not, we know from here on that it is another's.
    pub(super) async fn is_still_ours(&self, shard: u16) -> Result<bool, StoreError> {
        let ownership = &self.options.ownership;
        let fence = ownership.fence(shard);
        let stands = self.parts.store.fence_stands(fence).await?;
        if !stands {
            ownership.lose_pair(fence);
        }
        Ok(stands)
    }

    /// A new version of an order was committed here: whoever watches it hears of it, on every node.
    pub(super) fn announce(&self, shard: u16, id: OrderId, version: u64) {
        self.board.announce(shard, id, version);
        if let Some(peers) = &self.options.peers {
            peers.tell_news(shard, id, News::Version(version));
        }
    }

    /// A provider has answered.
    pub(super) fn hear(&self, shard: u16, id: OrderId, change: impl FnOnce(&mut Heard)) {
        let heard = self.board.hear(shard, id, change);
        if let Some(peers) = &self.options.peers {
            peers.tell_news(shard, id, News::Heard(heard));
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// An order came into memory (`true`) or left it.
    pub(super) fn count_live(&self, shard: u16, came: bool) {
        let of_shard = &self.live[usize::from(shard)];
        if came {
            of_shard.fetch_add(1, Ordering::Relaxed);
            self.live_total.fetch_add(1, Ordering::Relaxed);
            metrics::gauge!("enrollpay_actors_live").increment(1);
        } else {
            of_shard.fetch_sub(1, Ordering::Relaxed);
            self.live_total.fetch_sub(1, Ordering::Relaxed);
            metrics::gauge!("enrollpay_actors_live").decrement(1);
            self.left.notify_waiters();
        }
    }
}
