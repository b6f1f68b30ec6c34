//! All shards of this node: started on their threads, looked at, stopped.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::Duration;

use actix::{Actor as _, Arbiter, ArbiterHandle};
use serde::Serialize;
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admission::Admission;
use super::committer::{self, Committer, Queue};
use super::house::{House, Thread};
use super::line::{Line, Parked};
use super::messages::Close;
use super::options::{Options, Parts};
use super::shard::Shard;
use super::turns::Turns;
use super::watch::Board;
use super::{Orders, reread, sweep};

/// The running shards. Kept by whoever started them; everybody else has [`Orders`].
#[derive(Debug)]
pub struct Shards {
    house: Arc<House>,
    arbiters: Vec<Arbiter>,
    stop_committers: CancellationToken,
    committers_ended: Vec<oneshot::Receiver<()>>,
}

/// What can be seen of the shards from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Observed {
    /// Orders in memory.
    pub live: usize,
    pub live_by_shard: Vec<usize>,
    /// Actors that panicked since the start.
    pub restarts: u64,
    pub threads: Vec<ObservedThread>,
    /// Provider calls that wait or are under way.
    pub calls: usize,
    /// Due orders that wait until their account can ask.
    pub waiting: usize,
    /// Orders that somebody watches.
    pub watched: usize,
    pub stopping: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ObservedThread {
    /// Commands let in and not yet answered.
    pub commands: usize,
    /// Transactions that wait for their flush.
    pub queue: usize,
}

/// Starts the shards, their committers and the sweep.
///
/// # Panics
/// Outside an actix system, or where the machine gives no threads.
pub fn start(options: Options, parts: Parts) -> Shards {
    let arbiters: Vec<_> = (0..options.threads).map(|_| Arbiter::new()).collect();
    let caller = (options.threads > 0).then(Arbiter::new);
    let hosts: Vec<ArbiterHandle> = if arbiters.is_empty() {
        vec![Arbiter::current()]
    } else {
        arbiters.iter().map(Arbiter::handle).collect()
    };
    let tracker = TaskTracker::new();
    let room = Admission::most(options.queue);
    let (threads, queues): (Vec<_>, Vec<[Queue; 2]>) = hosts
        .iter()
        .map(|_| {
            let (committer, queues) = Committer::channel(room);
            let admission = Admission::new(options.queue, tracker.clone());
            (
                Thread {
                    admission,
                    committer,
                },
                queues,
            )
        })
        .unzip();
    let parked = Parked::default();
    let lines = parts
        .providers
        .iter()
        .map(|provider| {
            let id = provider.account().id.clone();
            let budget = options.budgets.get(&id).copied().unwrap_or_default();
            let (provider, random) = (Arc::clone(provider), Arc::clone(&parts.random));
            let line = Line::new(provider, &budget, random, Arc::clone(&parked));
            (id, line)
        })
        .collect();
    let numbers = 0..options.shards.max(1);
    let house = Arc::new(House {
        board: Board::new(options.shards),
        threads,
        shards: OnceLock::new(),
        caller: caller
            .as_ref()
            .map_or_else(Arbiter::current, Arbiter::handle),
        lines,
        parked,
        outbox_written: watch::channel(0).0,
        tracker,
        stopping: AtomicBool::new(false),
        closed: AtomicBool::new(false),
        stop_calls: CancellationToken::new(),
        live: numbers.clone().map(|_| AtomicUsize::new(0)).collect(),
        live_total: AtomicUsize::new(0),
        restarts: AtomicU64::new(0),
        calls: AtomicUsize::new(0),
        recordings: Turns::default(),
        readings: Turns::default(),
        readings_for_facts: Turns::default(),
        left: Notify::new(),
        look: Notify::new(),
        options,
        parts,
    });
    let stop_committers = CancellationToken::new();
    let mut committers_ended = Vec::new();
    let queues = hosts
        .iter()
        .zip(queues)
        .flat_map(|(host, queues)| queues.map(|queue| (host, queue)));
    for (host, queue) in queues {
        let (ended, has_ended) = oneshot::channel();
        committers_ended.push(has_ended);
        let store = Arc::clone(&house.parts.store);
        let (group, flushes) = (house.options.group, house.options.flushes);
        let stop = stop_committers.clone();
        host.spawn(async move {
            committer::run(store, queue, group, flushes, stop).await;
            let _ = ended.send(());
        });
    }
    let shards = numbers
        .map(|number| {
            let house = Arc::clone(&house);
            let host = &hosts[usize::from(number) % hosts.len()];
            Shard::start_in_arbiter(host, move |_| Shard::new(number, house))
        })
        .collect();
    // Set here and nowhere else.
    let _ = house.shards.set(shards);
    for line in house.lines.values() {
        let (line, house) = (Arc::clone(line), Arc::clone(&house));
        let caller = house.caller.clone();
        caller.spawn(async move {
            let stop = house.stop_calls.clone();
            tokio::select! {
                () = stop.cancelled() => {}
                () = line.serve(|id, room| house.wake(id, room)) => {}
            }
        });
    }
    house.caller.spawn(sweep::run(Arc::clone(&house)));
    if house.options.ownership.is_shared() {
        house.caller.spawn(reread::run(Arc::clone(&house)));
    }
    Shards {
        house,
        arbiters: arbiters.into_iter().chain(caller).collect(),
        stop_committers,
        committers_ended,
    }
}

fn parked(house: &House) -> usize {
    let parked = house.parked.lock();
    parked.unwrap_or_else(PoisonError::into_inner).len()
}

impl Shards {
    pub fn orders(&self) -> Orders {
        Orders::of(Arc::clone(&self.house))
    }

    pub fn observe(&self) -> Observed {
        let house = &self.house;
        Observed {
            live: house.live_total.load(Ordering::Relaxed),
            live_by_shard: house
                .live
                .iter()
                .map(|live| live.load(Ordering::Relaxed))
                .collect(),
            restarts: house.restarts.load(Ordering::Relaxed),
            threads: house
                .threads
                .iter()
                .map(|thread| ObservedThread {
                    commands: thread.admission.under_way(),
                    queue: thread.committer.depth(),
                })
                .collect(),
            calls: house.calls.load(Ordering::Relaxed),
            waiting: parked(house),
            watched: house.board.watched(),
            stopping: house.is_stopping(),
        }
    }

    /// Takes in no new wish, finishes what is under way, leaves provider calls to their rows, and
    /// ends the actors. At the deadline it goes on without what is not finished: each step of it is
    /// safe to be cut short (reliability §4.5). Returns whether everything was finished.
    pub async fn stop(self, deadline: Duration) -> bool {
        let house = &self.house;
        let until = tokio::time::Instant::now() + deadline;
        house.stopping.store(true, Ordering::Release);
        house.stop_calls.cancel();
        house.tracker.close();
        let drained = tokio::time::timeout_at(until, house.tracker.wait())
            .await
            .is_ok();
        house.closed.store(true, Ordering::Release);
        for shard in house.shards.get().into_iter().flatten() {
            shard.do_send(Close);
        }
        self.stop_committers.cancel();
        let mut flushed = true;
        for ended in self.committers_ended {
            flushed &= tokio::time::timeout_at(until, ended).await.is_ok();
        }
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
        let arbiters = self.arbiters;
        let joined = tokio::task::spawn_blocking(move || {
            for arbiter in arbiters {
                // A thread that panicked has ended, too.
                let _ = arbiter.join();
            }
        });
        let ended = tokio::time::timeout_at(
            until.max(tokio::time::Instant::now() + Duration::from_millis(100)),
            joined,
        )
        .await
        .is_ok();
        drained && flushed && ended
    }
}
