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

/// The way to one thread's committer.
#[derive(Clone, Debug)]
pub(super) struct Committer(mpsc::Sender<Work>);

impl Committer {
    pub(super) fn channel(room: usize) -> (Self, mpsc::Receiver<Work>) {
        let (sender, receiver) = mpsc::channel(room);
        (Self(sender), receiver)
    }

    pub(super) async fn commit(&self, transaction: Transaction) -> Verdict {
        let (verdict, answer) = oneshot::channel();
        let work = Work {
            transaction,
            verdict,
        };
        if self.0.send(work).await.is_err() {
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
        self.0.max_capacity() - self.0.capacity()
    }
}

/// Runs until `stop`, and then until everything that was handed in is answered.
pub(super) async fn run(
    store: Arc<dyn Store>,
    mut queue: mpsc::Receiver<Work>,
    group: usize,
    flushes: usize,
    stop: CancellationToken,
) {
    let flushes = u32::try_from(flushes.max(1)).unwrap_or(1);
    let slots = Arc::new(Semaphore::new(flushes as usize));
    loop {
        // The slot first: until it is free, the queue is where the next group gathers.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let mut works = Vec::new();
        let mut gathered = tokio::select! {
            biased;
            gathered = queue.recv_many(&mut works, group.max(1)) => gathered,
            () = stop.cancelled(), if !queue.is_closed() => {
                queue.close();
                0
            }
        };
        if gathered == 0 {
            gathered = queue.recv_many(&mut works, group.max(1)).await;
        }
        if gathered == 0 {
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
