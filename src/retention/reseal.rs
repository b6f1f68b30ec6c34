//! Rotation of the field keys: everything that stands under an older key is sealed anew under the
//! newest, after which the older key may leave the configuration.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{alone, only};
use crate::faults::crash_point;
use crate::sealing::{CannotOpen, Sealed, Sealer};
use crate::store::personal::{Cell, PersonalStore, Resealed, SealedCount, SealedTable};
use crate::store::{StoreError, Write};

/// Values in one transaction: a fraction of a millisecond of the writer's time beside the flush.
const BITE: usize = 32;
/// After each bite the job rests for so many times as long as the bite took: the busier the store, the
/// longer it stays away.
const REST: u32 = 3;

/// The job. One per process: it remembers how far it has come.
#[derive(Debug)]
pub struct Reseal {
    store: Arc<dyn PersonalStore>,
    sealer: Sealer,
    walk: Mutex<Walk>,
}

/// Where the next page begins. Lost with the process: then it begins anew, and passes quickly over what
/// is done.
#[derive(Debug, Default)]
struct Walk {
    table: usize,
    after: i64,
    unreadable: u64,
}

/// What one run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    pub resealed: u64,
    /// Values of this pass that open under no key in their place: left as they are, each with a line
    /// in the log.
    pub unreadable: u64,
    /// Values still under older keys, the unreadable ones too.
    pub left: u64,
    /// The pass through all tables has ended.
    pub finished: bool,
}

impl Reseal {
    pub fn new(store: Arc<dyn PersonalStore>, sealer: Sealer) -> Self {
        Self {
            store,
            sealer,
            walk: Mutex::default(),
        }
    }

    /// Goes on with the pass for about `budget`, or to its end.
    pub async fn run(&self, budget: Duration) -> Result<Progress, StoreError> {
        let mut walk = self.walk.lock().await;
        let until = Instant::now() + budget;
        let mut progress = Progress::default();
        while let Some(table) = SealedTable::ALL.get(walk.table) {
            let newest = self.sealer.newest_key();
            let page = self.store.older_values(*table, newest, walk.after).await?;
            for values in page.values.chunks(BITE) {
                progress.resealed += self.bite(values, &mut walk).await?;
            }
            if let Some(next) = page.next {
                walk.after = next;
            } else {
                walk.table += 1;
                walk.after = 0;
            }
            if Instant::now() >= until {
                break;
            }
        }
        progress.unreadable = walk.unreadable;
        progress.finished = walk.table >= SealedTable::ALL.len();
        if progress.finished {
            *walk = Walk::default();
        }
        progress.left = self.left().await?;
        Ok(progress)
    }

    async fn bite(&self, values: &[(Cell, Sealed)], walk: &mut Walk) -> Result<u64, StoreError> {
        let mut writes = Vec::new();
        for (cell, sealed) in values {
            match self.change(cell, sealed) {
                Ok(change) => writes.extend(change.map(Write::Resealed)),
                Err(error) => {
                    walk.unreadable += 1;
                    let table = cell.with_place(|place| place.table);
                    tracing::error!(table, %error, "a sealed value cannot be sealed anew");
                }
            }
        }
        if writes.is_empty() {
            return Ok(0);
        }
        let count = writes.len() as u64;
        let began = Instant::now();
        let verdict = only(self.store.commit(vec![alone(writes)]).await?)?;
        if let Err(rejection) = verdict {
            return Err(StoreError::Unavailable {
                why: rejection.to_string(),
            });
        }
        counter!("enrollpay_values_resealed_total").increment(count);
        crash_point("reseal");
        tokio::time::sleep(began.elapsed() * REST).await;
        Ok(count)
    }

    fn change(&self, cell: &Cell, sealed: &Sealed) -> Result<Option<Resealed>, CannotOpen> {
        let resealed = cell.with_place(|place| self.sealer.reseal(place, sealed))?;
        let digest = match cell {
            Cell::Body {
                digested: false, ..
            } => {
                let body = cell.with_place(|place| self.sealer.open(place, sealed))?;
                Some(self.sealer.body_digest(&body))
            }
            _ => None,
        };
        if resealed.is_none() && digest.is_none() {
            return Ok(None);
        }
        Ok(Some(Resealed {
            cell: cell.clone(),
            was: sealed.clone(),
            now: resealed.unwrap_or_else(|| sealed.clone()),
            digest,
        }))
    }

    /// Values by table and key.
    pub async fn counts(&self) -> Result<Vec<SealedCount>, StoreError> {
        self.store.sealed_counts().await
    }

    /// What a whole pass would find to do.
    pub async fn left(&self) -> Result<u64, StoreError> {
        let newest = self.sealer.newest_key();
        let counts = self.counts().await?;
        let older = counts.iter().filter(|count| count.key != newest);
        let older: u64 = older.map(|count| count.values).sum();
        Ok(older.max(self.store.undigested().await?))
    }
}
