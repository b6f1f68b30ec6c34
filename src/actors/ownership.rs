//! Which shards are ours, and the pair that says so in every write (architecture §2, reliability §4).
//!
//! Who takes and gives back shards is the cluster's business; here it is only known. Nothing that is
//! known here guards money: the store refuses every pair but the present one (O2), and every version
//! but the row's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::order::Command;
use crate::order::command::QueryAnswer;
use crate::store::{Fence, Owned};

/// The epochs under which this instance writes. The default fences nothing and owns everything (tests
/// of single rooms). Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Ownership(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    instance: u128,
    /// May others write to the store while we do?
    is_shared: bool,
    /// By shard; 0: not ours.
    epochs: Vec<AtomicU64>,
    /// Until when nobody else can have taken a shard by its lease.
    sure_until: Mutex<Vec<Option<Instant>>>,
    lost: Notify,
}

impl Ownership {
    /// Of an instance that owns nothing yet.
    pub fn new(instance: u128, shards: u16, is_shared: bool) -> Self {
        Self(Some(Arc::new(Inner {
            instance,
            is_shared,
            epochs: (0..shards.max(1)).map(|_| AtomicU64::new(0)).collect(),
            sure_until: Mutex::new(vec![None; usize::from(shards.max(1))]),
            lost: Notify::new(),
        })))
    }

    /// Zero where nothing is fenced.
    pub fn instance(&self) -> u128 {
        self.0.as_ref().map_or(0, |inner| inner.instance)
    }

    /// May others write to the store while we do? Then what is in memory may be behind.
    pub fn is_shared(&self) -> bool {
        self.0.as_ref().is_some_and(|inner| inner.is_shared)
    }

    pub fn owns(&self, shard: u16) -> bool {
        self.0.is_none() || self.epoch(shard).is_some()
    }

    /// The epoch under which we write for this shard.
    pub fn epoch(&self, shard: u16) -> Option<u64> {
        let epoch = self.0.as_ref()?.epochs.get(usize::from(shard))?;
        Some(epoch.load(Ordering::Acquire)).filter(|epoch| *epoch > 0)
    }

    /// What we answer for.
    pub fn owned(&self) -> Owned {
        let Some(inner) = &self.0 else {
            return Owned::All;
        };
        let shards = u16::try_from(inner.epochs.len()).unwrap_or(u16::MAX);
        let mine: Arc<[u16]> = (0..shards).filter(|shard| self.owns(*shard)).collect();
        if mine.len() == inner.epochs.len() {
            Owned::All
        } else {
            Owned::Some { shards, mine }
        }
    }

    /// Ours from now on; `epoch` is committed.
    pub fn take(&self, shard: u16, epoch: u64, sure_until: Option<Instant>) {
        if let Some(inner) = &self.0
            && let Some(known) = inner.epochs.get(usize::from(shard))
        {
            inner.sure(shard, sure_until);
            known.store(epoch, Ordering::Release);
        }
    }

    /// The lease was renewed: until then nobody else takes the shard by it.
    pub fn keep(&self, shard: u16, sure_until: Option<Instant>) {
        if let Some(inner) = &self.0 {
            inner.sure(shard, sure_until);
        }
    }

    /// Not ours any more, if it was under this epoch. Returns whether it was.
    pub fn lose(&self, shard: u16, epoch: u64) -> bool {
        let Some(inner) = &self.0 else { return false };
        let Some(known) = inner.epochs.get(usize::from(shard)) else {
            return false;
        };
        let lost = known
            .compare_exchange(epoch, 0, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if lost {
            inner.sure(shard, None);
            inner.lost.notify_one();
        }
        lost
    }

    /// The store refuses this pair: its shard is another's.
    pub(super) fn lose_pair(&self, fence: Fence) {
        if let Fence::Owner { shard, epoch, .. } = fence
            && self.lose(shard, epoch)
        {
            tracing::warn!(shard, epoch, "the shard belongs to another instance now");
        }
    }

    /// Waits until something was lost.
    pub async fn lost(&self) {
        match &self.0 {
            Some(inner) => inner.lost.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Can nobody else have taken it? Where not, the store is asked before a provider is.
    pub fn is_sure(&self, shard: u16) -> bool {
        let Some(inner) = &self.0 else { return true };
        let sure_until = inner.sure_until();
        let until = sure_until.get(usize::from(shard)).copied().flatten();
        !inner.is_shared || until.is_some_and(|until| Instant::now() < until)
    }

    /// The pair for a write of an order of this shard. Where it is not ours, one that is never let in.
    pub fn fence(&self, shard: u16) -> Fence {
        match &self.0 {
            Some(inner) => Fence::Owner {
                shard,
                epoch: self.epoch(shard).unwrap_or(0),
                instance: inner.instance,
            },
            None => Fence::None,
        }
    }

    /// The pair for a command's write. A fact needs none.
    pub(super) fn fence_of(&self, shard: u16, command: &Command) -> Fence {
        if is_fact(command) {
            Fence::None
        } else {
            self.fence(shard)
        }
    }
}

impl Inner {
    fn sure_until(&self) -> MutexGuard<'_, Vec<Option<Instant>>> {
        self.sure_until
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn sure(&self, shard: u16, until: Option<Instant>) {
        if let Some(known) = self.sure_until().get_mut(usize::from(shard)) {
            *known = until;
        }
    }
}

/// What has happened in the world, whoever hears of it: recorded by any node (reliability, decision 2).
pub(super) const fn is_fact(command: &Command) -> bool {
    matches!(
        command,
        Command::Capture(_)
            | Command::QueryAnswer {
                answer: QueryAnswer::Paid(_),
                ..
            }
            | Command::RefundAnswer { .. }
            | Command::ForeignRefund(_)
    )
}
