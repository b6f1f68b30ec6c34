//! Facts of orders that are not ours, one at a time for each order: of a thousand copies of a notice the
//! first meets the row, and the others what it left (F23).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::order::OrderId;
use crate::store::StoredOrder;

/// Whose turn it is, and what the one before knew of the order in the end.
pub(super) type Turn = tokio::sync::Mutex<Option<Arc<StoredOrder>>>;

#[derive(Debug, Default)]
pub(super) struct Recordings(Mutex<HashMap<OrderId, Arc<Turn>>>);

impl Recordings {
    pub(super) fn turn(&self, id: OrderId) -> Arc<Turn> {
        Arc::clone(self.lock().entry(id).or_default())
    }

    /// Forgets the order with the last who wanted a turn.
    pub(super) fn leave(&self, id: OrderId, turn: Arc<Turn>) {
        let mut turns = self.lock();
        drop(turn);
        if turns
            .get(&id)
            .is_some_and(|turn| Arc::strong_count(turn) == 1)
        {
            turns.remove(&id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OrderId, Arc<Turn>>> {
        // Nothing panics under the lock; were it otherwise, a map of hints is still a map.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
