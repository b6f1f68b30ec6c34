//! What is known of orders outside their actors: the last committed state of those in memory, and
//! who waits for the next version. Both are hints beside the store, spread over as many locks as
//! there are shards.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::order::{OrderId, Timestamp};
use crate::store::StoredOrder;

#[derive(Debug, Default)]
struct Cell {
    live: HashMap<OrderId, Arc<StoredOrder>>,
    watched: HashMap<OrderId, watch::Sender<u64>>,
    /// What providers answered of late, for those who asked.
    heard: HashMap<OrderId, (watch::Sender<Heard>, Instant)>,
    /// Orders that somebody is asking a question of right now.
    asking: HashMap<OrderId, watch::Receiver<()>>,
}

/// The part of one who wants to ask what others may want to ask as well.
#[derive(Debug)]
pub(super) enum Flight<'a> {
    /// Asks, and ends the others' waiting by dropping this.
    Lead(Lead<'a>),
    /// Waits for the end of this.
    Follow(watch::Receiver<()>),
}

/// Who asks for all.
#[derive(Debug)]
pub(super) struct Lead<'a> {
    board: &'a Board,
    shard: u16,
    id: OrderId,
    _end: watch::Sender<()>,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.board.cell(self.shard).asking.remove(&self.id);
    }
}

/// How long an answer is kept for those who will ask the same.
const HEARD_KEPT: Duration = Duration::from_secs(5);

/// The provider's latest answers about one order, as far as they are remembered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Heard {
    /// When the question was asked whose answer came last, and whether the answer said anything.
    pub query: Option<(Timestamp, bool)>,
    /// Order calls that ended without a usable answer.
    pub trades_unanswered: u64,
}

impl Heard {
    /// Takes in what another node has heard. It may be older than what is known.
    pub(super) fn learn(&mut self, other: Self) {
        self.query = self.query.max(other.query);
        self.trades_unanswered = self.trades_unanswered.max(other.trades_unanswered);
    }
}

#[derive(Debug)]
pub(super) struct Board(Vec<Mutex<Cell>>);

impl Board {
    pub(super) fn new(shards: u16) -> Self {
        Self((0..shards.max(1)).map(|_| Mutex::default()).collect())
    }

    fn cell(&self, shard: u16) -> MutexGuard<'_, Cell> {
        // Nothing panics under the lock; were it otherwise, a map of hints is still a map.
        self.0[usize::from(shard) % self.0.len()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The order as its actor last committed or loaded it.
    pub(super) fn live(&self, shard: u16, id: OrderId) -> Option<Arc<StoredOrder>> {
        self.cell(shard).live.get(&id).map(Arc::clone)
    }

    /// An older version never replaces a newer one.
    pub(super) fn put(&self, shard: u16, stored: &Arc<StoredOrder>) {
        match self.cell(shard).live.entry(stored.order.id) {
            Entry::Occupied(mut known) => {
                if known.get().order.version <= stored.order.version {
                    known.insert(Arc::clone(stored));
                }
            }
            Entry::Vacant(place) => {
                place.insert(Arc::clone(stored));
            }
        }
    }

    pub(super) fn forget(&self, shard: u16, id: OrderId) {
        self.cell(shard).live.remove(&id);
    }

    pub(super) fn watch(&self, shard: u16, id: OrderId) -> watch::Receiver<u64> {
        let mut cell = self.cell(shard);
        let version = cell.live.get(&id).map_or(0, |known| known.order.version);
        cell.watched
            .entry(id)
            .or_insert_with(|| watch::channel(version).0)
            .subscribe()
    }

    /// Whoever comes first asks; the others wait until that is done.
    pub(super) fn join(&self, shard: u16, id: OrderId) -> Flight<'_> {
        match self.cell(shard).asking.entry(id) {
            Entry::Occupied(asking) => Flight::Follow(asking.get().clone()),
            Entry::Vacant(place) => {
                let (end, waits) = watch::channel(());
                place.insert(waits);
                Flight::Lead(Lead {
                    board: self,
                    shard,
                    id,
                    _end: end,
                })
            }
        }
    }

    /// Changes with every answer of the provider, though it brings no new version.
    pub(super) fn heard(&self, shard: u16, id: OrderId) -> watch::Receiver<Heard> {
        let mut cell = self.cell(shard);
        let (heard, _) = cell
            .heard
            .entry(id)
            .or_insert_with(|| (watch::channel(Heard::default()).0, Instant::now()));
        heard.subscribe()
    }

    /// Returns what is known after the change.
    pub(super) fn hear(&self, shard: u16, id: OrderId, change: impl FnOnce(&mut Heard)) -> Heard {
        let mut cell = self.cell(shard);
        let now = Instant::now();
        let (heard, at) = cell
            .heard
            .entry(id)
            .or_insert_with(|| (watch::channel(Heard::default()).0, now));
        *at = now;
        heard.send_modify(change);
        *heard.borrow()
    }

    /// Tells whoever watches; the entry goes with its last watcher.
    pub(super) fn announce(&self, shard: u16, id: OrderId, version: u64) {
        let mut cell = self.cell(shard);
        let Entry::Occupied(watched) = cell.watched.entry(id) else {
            return;
        };
        if watched.get().receiver_count() == 0 {
            watched.remove();
        } else {
            watched.get().send_if_modified(|known| {
                let newer = version > *known;
                *known = version.max(*known);
                newer
            });
        }
    }

    /// Lets go of what nobody watches any more.
    pub(super) fn prune(&self) {
        for shard in 0..self.0.len() {
            let mut cell = self.cell(u16::try_from(shard).unwrap_or_default());
            cell.watched.retain(|_, sender| sender.receiver_count() > 0);
            cell.heard
                .retain(|_, (heard, at)| heard.receiver_count() > 0 || at.elapsed() < HEARD_KEPT);
        }
    }

    pub(super) fn known(&self, shard: u16, id: OrderId) -> (u64, Heard) {
        let cell = self.cell(shard);
        let live = cell.live.get(&id).map_or(0, |live| live.order.version);
        let watched = cell.watched.get(&id).map_or(0, |known| *known.borrow());
        let heard = cell.heard.get(&id).map(|(heard, _)| *heard.borrow());
        (live.max(watched), heard.unwrap_or_default())
    }

    /// Does anybody here wait for news of this order?
    pub(super) fn watches(&self, shard: u16, id: OrderId) -> bool {
        let cell = self.cell(shard);
        let versions = cell.watched.get(&id).map(watch::Sender::receiver_count);
        let heard = cell.heard.get(&id).map(|(heard, _)| heard.receiver_count());
        versions.unwrap_or(0) + heard.unwrap_or(0) > 0
    }

    /// Orders whose next version somebody waits for.
    pub(super) fn watched_orders(&self) -> Vec<OrderId> {
        let mut orders = Vec::new();
        for cell in &self.0 {
            let cell = cell.lock().unwrap_or_else(PoisonError::into_inner);
            let waited_for = cell.watched.iter();
            let waited_for = waited_for.filter(|(_, sender)| sender.receiver_count() > 0);
            orders.extend(waited_for.map(|(id, _)| *id));
        }
        orders
    }

    pub(super) fn watched(&self) -> usize {
        self.0
            .iter()
            .map(|cell| {
                cell.lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .watched
                    .len()
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ulid::Ulid;

    #[test]
    fn announces_newer_versions_only_and_forgets_the_unwatched() {
        let board = Board::new(4);
        let id = OrderId::from_ulid(Ulid(7));
        let mut watcher = board.watch(2, id);
        board.announce(2, id, 3);
        assert!(watcher.has_changed().unwrap());
        assert_eq!(*watcher.borrow_and_update(), 3);
        board.announce(2, id, 2);
        assert!(!watcher.has_changed().unwrap());
        assert_eq!(board.watched(), 1);
        drop(watcher);
        board.prune();
        assert_eq!(board.watched(), 0);
    }
}
