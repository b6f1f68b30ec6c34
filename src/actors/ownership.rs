//! Which shards are ours, and the pair that says so in every write (architecture §2, reliability §4).
//!
//! A lease of `Locks` comes first: it saves work. Then the shard's epoch is raised in the store under
//! this instance's number: only that entitles to write, and the store refuses every other pair (O2).
//! One node holds all shards; the path is the one that several nodes share.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::faults::crash_point;
use crate::locks::{Acquired, Locks};
use crate::order::Command;
use crate::order::command::QueryAnswer;
use crate::random::Random;
use crate::store::{Fence, Rejection, Store, StoreError, Transaction, Write};

/// How many times the epoch may turn out to be another one than we believed.
const TRIES: usize = 3;

/// The epochs under which this instance writes. Empty: nothing is fenced (tests of single rooms).
#[derive(Clone, Debug, Default)]
pub struct Ownership {
    instance: u128,
    epochs: Arc<[u64]>,
}

/// Why the shards could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error(
        "shard {shard} is held by another instance: is a second gateway running on this store?"
    )]
    Held { shard: u16 },
    #[error("whether shard {shard} is free could not be told: the locks do not answer")]
    Unknown { shard: u16 },
    #[error("the epoch of shard {shard} moved while it was claimed")]
    Moved { shard: u16 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Ownership {
    /// Takes all `shards` for a new instance, in one commit.
    pub async fn claim(
        shards: u16,
        lease: Duration,
        locks: &dyn Locks,
        store: &dyn Store,
        clock: &dyn Clock,
        random: &dyn Random,
    ) -> Result<Self, ClaimError> {
        let instance = u128::from_be_bytes(random.bytes());
        for shard in 0..shards {
            match locks.acquire(&lock_name(shard), instance, lease).await {
                Acquired::Mine => {}
                Acquired::Anothers => return Err(ClaimError::Held { shard }),
                Acquired::Unknown => return Err(ClaimError::Unknown { shard }),
            }
        }
        crash_point("c14");
        let mut epochs = vec![1; usize::from(shards)];
        let mut left: Vec<u16> = (0..shards).collect();
        for _ in 0..TRIES {
            let at = clock.now();
            let claims = left
                .iter()
                .map(|shard| Transaction {
                    order: None,
                    writes: vec![Write::ShardClaimed {
                        shard: *shard,
                        epoch: epochs[usize::from(*shard)],
                        instance,
                        at,
                    }],
                })
                .collect();
            let verdicts = store.commit(claims).await?;
            let mut moved = Vec::new();
            for (shard, verdict) in left.into_iter().zip(verdicts) {
                match verdict {
                    Ok(()) => {}
                    Err(Rejection::EpochMoved { epoch }) => {
                        epochs[usize::from(shard)] = epoch + 1;
                        moved.push(shard);
                    }
                    Err(_) => return Err(ClaimError::Moved { shard }),
                }
            }
            if moved.is_empty() {
                crash_point("c15");
                return Ok(Self {
                    instance,
                    epochs: epochs.into(),
                });
            }
            left = moved;
        }
        Err(ClaimError::Moved {
            shard: left.first().copied().unwrap_or_default(),
        })
    }

    /// Keeps the leases. A lease that is lost takes nothing away: the store's pair decides.
    pub async fn renew(&self, lease: Duration, locks: &dyn Locks) {
        for shard in (0_u16..).take(self.epochs.len()) {
            let held = locks.acquire(&lock_name(shard), self.instance, lease).await;
            if held != Acquired::Mine {
                tracing::warn!(shard, ?held, "a lease was not renewed");
            }
        }
    }

    /// Gives the leases back, so that the next instance need not wait for their end.
    pub async fn release(&self, locks: &dyn Locks) {
        for shard in (0_u16..).take(self.epochs.len()) {
            locks.release(&lock_name(shard), self.instance).await;
        }
    }

    /// The pair for a write of an order of this shard.
    pub(super) fn fence(&self, shard: u16) -> Fence {
        match self.epochs.get(usize::from(shard)) {
            Some(epoch) => Fence::Owner {
                shard,
                epoch: *epoch,
                instance: self.instance,
            },
            None => Fence::None,
        }
    }

    /// The pair for a command's write. A capture is a fact, not a transition: it needs none.
    pub(super) fn fence_of(&self, shard: u16, command: &Command) -> Fence {
        match command {
            Command::Capture(_)
            | Command::QueryAnswer {
                answer: QueryAnswer::Paid(_),
                ..
            }
            | Command::RefundAnswer { .. }
            | Command::ForeignRefund(_) => Fence::None,
            _ => self.fence(shard),
        }
    }
}

fn lock_name(shard: u16) -> String {
    format!("enrollpay:shard:{shard}")
}
