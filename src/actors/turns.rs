//! What many want of one order at once, where the store is asked for it: a thousand copies of a notice, a
//! page that everybody looks at.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::order::OrderId;
use crate::store::{StoreError, StoredOrder};

/// Facts of an order that is not ours are recorded one at a time: the first meets the row, and the others
/// what it left (F23). Holds what the one before knew in the end.
pub(super) type Recording = tokio::sync::Mutex<Option<Arc<StoredOrder>>>;

/// Reads of one order, one at a time: whoever waits shares the first that begins after he came, so that
/// nobody is told what was true before.
#[derive(Debug, Default)]
pub(super) struct Reading {
    begun: AtomicU64,
    last: tokio::sync::Mutex<(u64, Option<Read>)>,
}

type Read = Result<Option<Arc<StoredOrder>>, StoreError>;

impl Reading {
    pub(super) async fn share(
        &self,
        read: impl Future<Output = Result<Option<StoredOrder>, StoreError>>,
    ) -> Read {
        let came = self.begun.load(Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if let (begun, Some(known)) = &*last
            && *begun > came
        {
            return known.clone();
        }
        let begun = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let found = read.await.map(|found| found.map(Arc::new));
        *last = (begun, Some(found.clone()));
        found
    }
}

/// One `T` for each order that somebody wants it of, and how many do.
#[derive(Debug)]
pub(super) struct Turns<T>(Mutex<HashMap<OrderId, (Arc<T>, usize)>>);

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Default> Turns<T> {
    pub(super) fn of(&self, id: OrderId) -> Wanted<'_, T> {
        let mut turns = self.lock();
        let (turn, wanted) = turns.entry(id).or_default();
        *wanted += 1;
        Wanted {
            turn: Arc::clone(turn),
            turns: self,
            id,
        }
    }
}

impl<T> Turns<T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<OrderId, (Arc<T>, usize)>> {
        // Nothing panics under the lock; were it otherwise, a map of hints is still a map.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody wants something of an order, which is forgotten with the last who does.
#[derive(Debug)]
pub(super) struct Wanted<'a, T> {
    pub turn: Arc<T>,
    turns: &'a Turns<T>,
    id: OrderId,
}

impl<T> Drop for Wanted<'_, T> {
    fn drop(&mut self) {
        let mut turns = self.turns.lock();
        if let Some((_, wanted)) = turns.get_mut(&self.id) {
            *wanted -= 1;
            if *wanted == 0 {
                turns.remove(&self.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;

    use futures_util::future::join_all;
    use ulid::Ulid;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn many_readers_share_a_read_that_began_after_they_came() {
        let turns: Turns<Reading> = Turns::default();
        let id = OrderId::from_ulid(Ulid(7));
        let reads = AtomicU32::new(0);
        let read = async |after: u64| {
            tokio::time::sleep(Duration::from_millis(after)).await;
            let came = tokio::time::Instant::now();
            let wanted = turns.of(id);
            let mut began = None;
            let shared = wanted.turn.share(async {
                reads.fetch_add(1, Ordering::SeqCst);
                began = Some(tokio::time::Instant::now());
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok(None)
            });
            assert!(shared.await.is_ok());
            drop(wanted);
            assert!(began.is_none_or(|began| began >= came));
            came.elapsed()
        };
        // One at once, and a hundred while it is under way.
        let all = (0..=100).map(|reader| read(u64::from(reader > 0) * 10));
        let waits = join_all(all).await;
        assert_eq!(reads.load(Ordering::SeqCst), 2);
        assert!(waits.iter().all(|wait| *wait <= Duration::from_millis(90)));
        assert!(turns.lock().is_empty());
    }
}
