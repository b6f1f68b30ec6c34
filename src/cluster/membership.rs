//! Taking part: the heartbeat, and the round in which shards are kept, given away and taken.
//!
//! A lease comes first and saves work. Then the shard's epoch is raised in the store under this
//! instance's number: only that entitles to write. "Don't know" from the locks is neither yes nor no:
//! what we own we keep for as long as the store accepts our pair, and what is free we take only once its
//! owner has been silent for three leases by the store's clock (reliability §4.4).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::directory::{Directory, preferred};
use crate::actors::Orders;
use crate::actors::ownership::Ownership;
use crate::clock::Clock;
use crate::faults::crash_point;
use crate::locks::{Acquired, Held, Locks};
use crate::random::Random;
use crate::store::{
    Fence, InstanceRow, Rejection, ShardRow, Store, StoreError, Transaction, Write,
};

/// How long an owner's silence lasts before others go by the store's clock alone.
const SILENT_LEASES: u32 = 3;
/// While something is free that should be ours.
const HURRY: Duration = Duration::from_millis(250);
/// How long orders of a shard that is given away may take to finish what they are at.
const LET_GO: Duration = Duration::from_millis(500);
/// An instance that was killed is remembered for so long.
const FORGOTTEN_AFTER_MS: i64 = 24 * 3_600_000;
/// The embedded store's only instance stays until it leaves.
const FOR_EVER_MS: i64 = i64::MAX / 4;

/// Who we are.
#[derive(Clone, Debug)]
pub struct Options {
    pub node: String,
    /// Where the other nodes reach us; `None`: there are none.
    pub internal_url: Option<String>,
    pub shards: u16,
    pub lease: Duration,
}

#[derive(Clone, Debug)]
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub locks: Arc<dyn Locks>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub ownership: Ownership,
    pub directory: Directory,
}

/// Those who are told that a look at the store is worth while.
#[async_trait]
pub trait Neighbours: Send + Sync + std::fmt::Debug {
    async fn changed(&self);
}

/// Why a node cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(
        "shard {shard} is held by another instance: is a second gateway running on this store?"
    )]
    Held { shard: u16 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// One node's part.
#[derive(Debug)]
pub struct Membership {
    options: Options,
    parts: Parts,
    neighbours: Option<Arc<dyn Neighbours>>,
    /// One round at a time.
    state: Mutex<State>,
    nudge: Notify,
    locks_answered: AtomicBool,
    leaving: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Since when a shard is seen without an owner that lives.
    free_since: HashMap<u16, Instant>,
    /// When we last took a shard: it is given away once a lease, at most.
    taken_at: HashMap<u16, Instant>,
    seen_at: Option<Instant>,
    in_a_hurry: bool,
    /// How many shared the providers' budgets at the last round.
    nodes: Option<u32>,
}

impl Membership {
    pub fn new(options: Options, parts: Parts, neighbours: Option<Arc<dyn Neighbours>>) -> Self {
        Self {
            options,
            parts,
            neighbours,
            state: Mutex::default(),
            nudge: Notify::new(),
            locks_answered: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
        }
    }

    /// The first round. Alone on its store, an instance takes everything, or cannot begin: whoever was
    /// before it is dead, for only one process may have the file.
    pub async fn join(&self) -> Result<(), JoinError> {
        if !self.is_shared() {
            let earlier = self.parts.store.instances().await?;
            let gone = earlier
                .into_iter()
                .map(|row| Write::InstanceGone {
                    instance: row.instance,
                })
                .collect();
            self.commit(vec![gone]).await?;
        }
        self.round(None).await?;
        if !self.is_shared() {
            let all = 0..self.options.shards;
            if let Some(shard) = all.into_iter().find(|shard| !self.owns(*shard)) {
                return Err(JoinError::Held { shard });
            }
        }
        Ok(())
    }

    /// Goes round until `stop`: three times in a lease, and whenever something may have changed.
    pub async fn run(&self, orders: Option<Orders>, stop: CancellationToken) {
        loop {
            let pause = if self.state.lock().await.in_a_hurry {
                HURRY.min(self.options.lease / 3)
            } else {
                self.jittered(self.options.lease / 3)
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.nudge.notified() => {}
                () = self.parts.ownership.lost() => {}
                () = tokio::time::sleep(pause) => {}
            }
            if let Err(error) = self.round(orders.as_ref()).await {
                tracing::warn!(%error, "who owns which shard could not be read or written");
            }
        }
    }

    /// Something may have changed: look soon.
    pub fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Why this node should not be given work yet, if so.
    pub fn not_ready(&self) -> Option<&'static str> {
        if self.leaving.load(Ordering::Acquire) {
            return Some("this node is leaving the cluster");
        }
        let of_use = self.locks_answered.load(Ordering::Acquire)
            || (0..self.options.shards).any(|shard| self.owns(shard));
        (!of_use).then_some("locks.url: the locks do not answer, so no shard can be claimed")
    }

    /// Is there another node that could take over at once?
    pub fn has_others(&self) -> bool {
        let addresses = self.parts.directory.addresses();
        addresses.iter().any(|(other, _)| *other != self.instance())
    }

    /// Gives everything back, so that others need not wait for its end (reliability §4.5).
    pub async fn leave(&self, orders: Option<&Orders>) {
        self.leaving.store(true, Ordering::Release);
        let _one_at_a_time = self.state.lock().await;
        let mine: Vec<_> = (0..self.options.shards)
            .filter(|shard| self.owns(*shard))
            .collect();
        self.give_away(&mine, orders).await;
        let gone = Write::InstanceGone {
            instance: self.instance(),
        };
        if let Err(error) = self.commit(vec![vec![gone]]).await {
            tracing::warn!(%error, "this instance's leave was not recorded: others wait for its lease");
        }
        if let Some(neighbours) = &self.neighbours {
            neighbours.changed().await;
        }
    }

    fn is_shared(&self) -> bool {
        self.parts.ownership.is_shared()
    }

    fn instance(&self) -> u128 {
        self.parts.ownership.instance()
    }

    fn owns(&self, shard: u16) -> bool {
        self.parts.ownership.owns(shard)
    }

    fn jittered(&self, pause: Duration) -> Duration {
        let tenth = u64::try_from(pause.as_millis() / 10).unwrap_or_default();
        pause * 19 / 20 + Duration::from_millis(self.parts.random.below(tenth.max(1)))
    }

    async fn round(&self, orders: Option<&Orders>) -> Result<(), StoreError> {
        let mut state = self.state.lock().await;
        let leaving = self.leaving.load(Ordering::Acquire);
        if !leaving {
            self.take_part(&mut state).await?;
        }
        let store = &self.parts.store;
        let (rows, instances) =
            futures_util::future::try_join(store.shards(), store.instances()).await?;
        self.parts.directory.learn(&rows, &instances);
        if leaving {
            // What still reaches this node is passed on to those who have its shards now.
            return Ok(());
        }
        let rows: HashMap<u16, ShardRow> = rows.into_iter().map(|row| (row.shard, row)).collect();
        let alive: Vec<_> = instances
            .iter()
            .filter(|row| row.is_alive() || row.instance == self.instance())
            .cloned()
            .collect();
        self.forget_the_dead(&instances).await?;

        if !self.locks_answered.load(Ordering::Acquire) {
            // Where everything is another's, nothing else would ask them.
            let answered = self.parts.locks.holder(&lock_name(0)).await != Held::Unknown;
            self.locks_answered.store(answered, Ordering::Release);
        }
        self.drop_what_was_taken(&rows, orders).await;
        // While the locks are silent nobody could take what is given away.
        if self.renew().await {
            self.give_away_what_others_should_have(&mut state, &alive, orders)
                .await;
        }
        let claimed = self.claim_what_is_free(&mut state, &rows, &alive).await?;
        let nodes = u32::try_from(alive.len()).unwrap_or(u32::MAX);
        if let Some(orders) = orders {
            if claimed {
                orders.look_for_due();
            }
            if state.nodes.replace(nodes) != Some(nodes) {
                orders.share_budgets(nodes);
            }
        }
        self.tell_gauges(nodes);
        Ok(())
    }

    /// The heartbeat.
    async fn take_part(&self, state: &mut State) -> Result<(), StoreError> {
        let due = match state.seen_at {
            None => true,
            Some(at) => self.is_shared() && at.elapsed() >= self.options.lease / 4,
        };
        if !due {
            return Ok(());
        }
        let began = Instant::now();
        let lease_ms = if self.is_shared() {
            i64::try_from(self.options.lease.as_millis()).unwrap_or(FOR_EVER_MS)
        } else {
            FOR_EVER_MS
        };
        let seen = Write::InstanceSeen {
            instance: self.instance(),
            node: self.options.node.clone(),
            internal_url: self.options.internal_url.clone(),
            lease_ms,
        };
        self.commit(vec![vec![seen]]).await?;
        state.seen_at = Some(began);
        Ok(())
    }

    async fn forget_the_dead(&self, instances: &[InstanceRow]) -> Result<(), StoreError> {
        let gone: Vec<_> = instances
            .iter()
            .filter(|row| row.left_ms < -FORGOTTEN_AFTER_MS)
            .map(|row| Write::InstanceGone {
                instance: row.instance,
            })
            .collect();
        if gone.is_empty() {
            return Ok(());
        }
        self.commit(vec![gone]).await.map(drop)
    }

    /// Shards whose row says that they are another's.
    async fn drop_what_was_taken(&self, rows: &HashMap<u16, ShardRow>, orders: Option<&Orders>) {
        let ownership = &self.parts.ownership;
        let mut lost = Vec::new();
        for shard in 0..self.options.shards {
            let Some(epoch) = ownership.epoch(shard) else {
                // The store may have told an order's actor before us.
                lost.push(shard);
                continue;
            };
            let stands = rows
                .get(&shard)
                .is_some_and(|row| row.epoch == epoch && row.instance == Some(self.instance()));
            if !stands && ownership.lose(shard, epoch) {
                tracing::warn!(shard, epoch, "the shard belongs to another instance now");
                metrics::counter!("enrollpay_shards_lost_total").increment(1);
                lost.push(shard);
            }
        }
        if let Some(orders) = orders {
            orders.let_go(&lost, LET_GO).await;
        }
    }

    /// A lease that is lost takes nothing away: the store's pair decides. Where it is free again, this
    /// sets it again. Returns whether the locks answered.
    async fn renew(&self) -> bool {
        let mine: Vec<_> = (0..self.options.shards)
            .filter(|shard| self.owns(*shard))
            .collect();
        let before = Instant::now();
        let mut answered = true;
        for (shard, held) in mine.iter().zip(self.acquire(&mine).await) {
            answered &= held != Acquired::Unknown;
            match held {
                Acquired::Mine => self.parts.ownership.keep(*shard, self.sure_until(before)),
                Acquired::Anothers | Acquired::Unknown => {
                    tracing::warn!(shard, ?held, "a lease was not renewed");
                }
            }
        }
        answered
    }

    /// Less than the lease, by a margin and by the time that the answer took (reliability §4.2).
    fn sure_until(&self, before: Instant) -> Option<Instant> {
        let lease = self.options.lease;
        before.checked_add(
            lease
                .saturating_sub(lease / 5)
                .saturating_sub(before.elapsed()),
        )
    }

    async fn acquire(&self, shards: &[u16]) -> Vec<Acquired> {
        if shards.is_empty() {
            return Vec::new();
        }
        let names: Vec<_> = shards.iter().map(|shard| lock_name(*shard)).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let instance = self.instance();
        let answers = self
            .parts
            .locks
            .acquire_many(&names, instance, self.options.lease)
            .await;
        if answers.iter().any(|answer| *answer != Acquired::Unknown) {
            self.locks_answered.store(true, Ordering::Release);
        }
        let unknown = answers.contains(&Acquired::Unknown);
        metrics::gauge!("enrollpay_locks_unanswered").set(if unknown { 1.0 } else { 0.0 });
        answers
    }

    async fn release(&self, shards: &[u16]) {
        let names: Vec<_> = shards.iter().map(|shard| lock_name(*shard)).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        self.parts.locks.release_many(&names, self.instance()).await;
    }

    async fn give_away_what_others_should_have(
        &self,
        state: &mut State,
        alive: &[InstanceRow],
        orders: Option<&Orders>,
    ) {
        let lease = self.options.lease;
        let others: Vec<_> = (0..self.options.shards)
            .filter(|shard| self.owns(*shard))
            .filter(|shard| preferred(*shard, alive) != Some(self.instance()))
            .filter(|shard| {
                state
                    .taken_at
                    .get(shard)
                    .is_none_or(|at| at.elapsed() >= lease)
            })
            .collect();
        if others.is_empty() {
            return;
        }
        self.give_away(&others, orders).await;
        if let Some(neighbours) = &self.neighbours {
            neighbours.changed().await;
        }
    }

    async fn give_away(&self, shards: &[u16], orders: Option<&Orders>) {
        let began = Instant::now();
        let ownership = &self.parts.ownership;
        let mut releases = Vec::new();
        for shard in shards {
            let Fence::Owner {
                shard,
                epoch,
                instance,
            } = ownership.fence(*shard)
            else {
                continue;
            };
            if ownership.lose(shard, epoch) {
                releases.push(Write::ShardReleased {
                    shard,
                    epoch,
                    instance,
                });
            }
        }
        if let Some(orders) = orders {
            orders.let_go(shards, LET_GO).await;
        }
        if let Err(error) = self.commit(vec![releases]).await {
            tracing::warn!(%error, "shards were not given back: others wait for our lease");
            return;
        }
        self.release(shards).await;
        metrics::histogram!("enrollpay_shard_handover_seconds").record(began.elapsed());
        tracing::info!(
            shards = shards.len(),
            took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "shards given back"
        );
    }

    /// Returns whether anything is ours that was not.
    async fn claim_what_is_free(
        &self,
        state: &mut State,
        rows: &HashMap<u16, ShardRow>,
        alive: &[InstanceRow],
    ) -> Result<bool, StoreError> {
        let lease = self.options.lease;
        let lives =
            |owner: u128| owner != self.instance() && alive.iter().any(|row| row.instance == owner);
        let mut wanted = Vec::new();
        for shard in 0..self.options.shards {
            let owner = rows.get(&shard).and_then(|row| row.instance);
            if self.owns(shard) || owner.is_some_and(lives) {
                state.free_since.remove(&shard);
                continue;
            }
            let since = *state.free_since.entry(shard).or_insert_with(Instant::now);
            // Whoever should have it may be kept from it: then anybody else is better than nobody.
            if preferred(shard, alive) == Some(self.instance()) || since.elapsed() >= 2 * lease {
                wanted.push(shard);
            }
        }
        state.in_a_hurry = !wanted.is_empty();
        if wanted.is_empty() {
            return Ok(false);
        }
        let before = Instant::now();
        let mut claims = Vec::new();
        for (shard, held) in wanted.iter().zip(self.acquire(&wanted).await) {
            let silent_ms = match held {
                Acquired::Mine => None,
                Acquired::Anothers => continue,
                Acquired::Unknown => {
                    let since = state.free_since.get(shard);
                    if since.is_none_or(|since| since.elapsed() < SILENT_LEASES * lease) {
                        continue;
                    }
                    // Beyond the one lease that its heartbeat gave it.
                    let silence = (SILENT_LEASES - 1) * lease;
                    Some(i64::try_from(silence.as_millis()).unwrap_or(FOR_EVER_MS))
                }
            };
            let epoch = rows.get(shard).map_or(0, |row| row.epoch) + 1;
            claims.push((*shard, epoch, silent_ms));
        }
        if claims.is_empty() {
            return Ok(false);
        }
        crash_point("c14");
        self.claim(state, &claims, before).await
    }

    async fn claim(
        &self,
        state: &mut State,
        claims: &[(u16, u64, Option<i64>)],
        before: Instant,
    ) -> Result<bool, StoreError> {
        let at = self.parts.clock.now();
        let instance = self.instance();
        let writes = claims
            .iter()
            .map(|(shard, epoch, silent_ms)| {
                vec![Write::ShardClaimed {
                    shard: *shard,
                    epoch: *epoch,
                    instance,
                    silent_ms: *silent_ms,
                    at,
                }]
            })
            .collect();
        let verdicts = self.commit(writes).await?;
        crash_point("c15");
        let mut taken = 0_u32;
        let mut in_vain = Vec::new();
        for ((shard, epoch, silent_ms), verdict) in claims.iter().zip(verdicts) {
            match verdict {
                Ok(()) => {
                    let by_lease = silent_ms.is_none();
                    let sure = by_lease.then(|| self.sure_until(before)).flatten();
                    self.parts.ownership.take(*shard, *epoch, sure);
                    state.free_since.remove(shard);
                    state.taken_at.insert(*shard, Instant::now());
                    taken += 1;
                }
                Err(rejection) => {
                    tracing::info!(shard, %rejection, "a shard was not claimed");
                    in_vain.push(*shard);
                }
            }
        }
        self.release(&in_vain).await;
        metrics::counter!("enrollpay_shards_claimed_total").increment(u64::from(taken));
        if taken > 0 {
            tracing::info!(shards = taken, "shards claimed");
            state.in_a_hurry = false;
        }
        Ok(taken > 0)
    }

    async fn commit(
        &self,
        transactions: Vec<Vec<Write>>,
    ) -> Result<Vec<Result<(), Rejection>>, StoreError> {
        let transactions: Vec<_> = transactions
            .into_iter()
            .map(|writes| Transaction {
                order: None,
                writes,
            })
            .collect();
        self.parts.store.commit(transactions).await
    }

    fn tell_gauges(&self, nodes: u32) {
        let owned = (0..self.options.shards).filter(|shard| self.owns(*shard));
        let owned = u32::try_from(owned.count()).unwrap_or(u32::MAX);
        metrics::gauge!("enrollpay_shards").set(self.options.shards);
        metrics::gauge!("enrollpay_shards_owned").set(owned);
        metrics::gauge!("enrollpay_nodes_alive").set(nodes);
    }
}

/// The lease of a shard.
fn lock_name(shard: u16) -> String {
    format!("shard:{shard}")
}
