//! Group commit: while one flush is on its way to disk, the next one's transactions gather. No
//! timer, no least size: an idle thread commits at once, a busy one in larger groups (architecture
//! §1).

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::store::{Rejection, Store, StoreError, Transaction};

pub(super) type Verdict = Result<Result<(), Rejection>, StoreError>;

/// One transaction, and where its verdict goes.
#[derive(Debug)]
pub(super) struct Work {
    transaction: Transaction,
    verdict: oneshot::Sender<Verdict>,
}

/// Who waits for a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Money that has moved: its flushes are its own, whatever holds up the others.
    Facts,
    /// Somebody waits.
    Asked,
    /// Nobody does, and very many may come at once: whatever somebody waits for goes before them.
    Ticks,
}

/// The way to one thread's committers.
#[derive(Clone, Debug)]
pub(super) struct Committer {
    facts: mpsc::Sender<Work>,
    asked: mpsc::Sender<Work>,
    ticks: mpsc::Sender<Work>,
}

/// What a committer works on.
#[derive(Debug)]
pub(super) struct Queue {
    first: mpsc::Receiver<Work>,
    ticks: mpsc::Receiver<Work>,
}

impl Committer {
    /// The queues are those of facts and of everything else.
    pub(super) fn channel(room: usize) -> (Self, [Queue; 2]) {
        let (facts, facts_queue) = mpsc::channel(room);
        let (asked, asked_queue) = mpsc::channel(room);
        let (ticks, ticks_queue) = mpsc::channel(room);
        let queues = [
            Queue {
                first: facts_queue,
                ticks: mpsc::channel(1).1,
            },
            Queue {
                first: asked_queue,
                ticks: ticks_queue,
            },
        ];
        let committer = Self {
            facts,
            asked,
            ticks,
        };
        (committer, queues)
    }

    fn lane(&self, lane: Lane) -> &mpsc::Sender<Work> {
        match lane {
            Lane::Facts => &self.facts,
            Lane::Asked => &self.asked,
            Lane::Ticks => &self.ticks,
        }
    }

    pub(super) async fn commit(&self, transaction: Transaction, lane: Lane) -> Verdict {
        let (verdict, answer) = oneshot::channel();
        let work = Work {
            transaction,
            verdict,
        };
        let lane = self.lane(lane);
        if lane.send(work).await.is_err() {
            return Err(StoreError::Unavailable {
                why: "the gateway is stopping".to_owned(),
            });
        }
        answer.await.unwrap_or_else(|_| {
            Err(StoreError::OutcomeUnknown {
                why: "the committer ended before it answered".to_owned(),
            })
        })
    }

    /// Transactions that wait.
    pub(super) fn depth(&self) -> usize {
        [&self.facts, &self.asked, &self.ticks]
            .map(|lane| lane.max_capacity() - lane.capacity())
            .iter()
            .sum()
    }
}

impl Queue {
    /// Waits for work, and takes what is there: up to `group`, ticks last. Empty once both lanes are
    /// closed and done. Nothing is lost where this is cancelled.
    async fn next(&mut self, group: usize) -> Vec<Work> {
        let mut works = Vec::new();
        let first_goes_on = tokio::select! {
            biased;
            taken = self.first.recv_many(&mut works, group) => taken > 0,
            Some(work) = self.ticks.recv() => {
                works.push(work);
                true
            }
        };
        if !first_goes_on {
            self.ticks.recv_many(&mut works, group).await;
            return works;
        }
        while works.len() < group
            && let Ok(work) = self.ticks.try_recv()
        {
            works.push(work);
        }
        works
    }

    fn is_closed(&self) -> bool {
        self.first.is_closed()
    }

    fn close(&mut self) {
        self.first.close();
        self.ticks.close();
    }
}

/// Runs until `stop`, and then until everything that was handed in is answered.
pub(super) async fn run(
    store: Arc<dyn Store>,
    mut queue: Queue,
    group: usize,
    flushes: usize,
    stop: CancellationToken,
) {
    let flushes = u32::try_from(flushes.max(1)).unwrap_or(1);
    let slots = Arc::new(Semaphore::new(flushes as usize));
    let group = group.max(1);
    loop {
        // The slot first: until it is free, the queue is where the next group gathers.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let works = tokio::select! {
            biased;
            works = queue.next(group) => works,
            () = stop.cancelled(), if !queue.is_closed() => {
                queue.close();
                continue;
            }
        };
        if works.is_empty() {
            break;
        }
        let store = Arc::clone(&store);
        actix::spawn(async move {
            flush(&*store, works).await;
            drop(slot);
        });
    }
    let _all_answered = slots.acquire_many(flushes).await;
}

async fn flush(store: &dyn Store, works: Vec<Work>) {
    let (transactions, waiting): (Vec<_>, Vec<_>) = works
        .into_iter()
        .map(|work| (work.transaction, work.verdict))
        .unzip();
    // Whoever gave up waiting reads the order again; a verdict nobody wants is no error.
    match store.commit(transactions).await {
        Ok(verdicts) => {
            for (sender, verdict) in waiting.into_iter().zip(verdicts) {
                let _ = sender.send(Ok(verdict));
            }
        }
        Err(error) => {
            tracing::error!(%error, transactions = waiting.len(), "a commit failed as a whole");
            for sender in waiting {
                let _ = sender.send(Err(error.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_is_waited_for_goes_before_any_number_of_ticks() {
        let (committer, [mut facts, mut queue]) = Committer::channel(8);
        let hand_in = |lane| {
            let (verdict, answer) = oneshot::channel();
            let transaction = Transaction {
                order: None,
                writes: Vec::new(),
            };
            let work = Work {
                transaction,
                verdict,
            };
            committer.lane(lane).try_send(work).unwrap();
            answer
        };
        let ticks: Vec<_> = (0..6).map(|_| hand_in(Lane::Ticks)).collect();
        let mut asked = hand_in(Lane::Asked);
        let fact = hand_in(Lane::Facts);
        assert_eq!(committer.depth(), 8);
        assert_eq!(facts.next(3).await.len(), 1, "facts wait for nobody");
        let group = queue.next(3).await;
        assert_eq!(group.len(), 3);
        // A work that is dropped ends the waiting for it.
        drop(group);
        let gone = oneshot::error::TryRecvError::Closed;
        assert!(asked.try_recv().is_err_and(|error| error == gone));
        assert_eq!(queue.next(8).await.len(), 4, "the ticks were not forgotten");
        queue.close();
        assert!(queue.next(8).await.is_empty());
        drop((ticks, fact));
    }
}
