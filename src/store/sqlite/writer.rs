//! The one thread that writes. While a commit is on its way to disk, the next transactions gather;
//! then all of them share one flush, each in a savepoint of its own so that it stands or falls alone.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use rusqlite::{Connection, ErrorCode, ffi};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::apply::{self, Failure};
use super::closed;
use super::opening::{self, OpenError};
use super::rows::unavailable;
use crate::clock::Clock;
use crate::order::Timestamp;
use crate::store::step::{Step, count_rejections};
use crate::store::{Rejection, StoreError};

/// Calls that may wait before the next caller has to.
const QUEUE: usize = 1024;
/// Transactions that share one flush: more would only make each wait longer.
const GROUP: usize = 512;
/// Transactions after which the log is worth copying back (about 4,000 pages).
const CHECKPOINT_EVERY: usize = 1024;

type Verdicts = Vec<Result<(), Rejection>>;

enum Job {
    Commit(Call),
    Forget {
        nonces_before: Timestamp,
        keys_before: Timestamp,
        answer: oneshot::Sender<Result<u64, StoreError>>,
    },
    /// No more after what is queued.
    Close,
}

/// One caller's transactions; those that could not even be written down are rejected already.
struct Call {
    steps: Vec<Result<Step, Rejection>>,
    answer: oneshot::Sender<Result<Verdicts, StoreError>>,
}

#[derive(Clone, Debug)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
    finished: Arc<tokio::sync::Mutex<Option<oneshot::Receiver<()>>>>,
}

impl Writer {
    /// `held`: the lock on the file, let go after the last write.
    pub fn start(
        path: &Path,
        connection: Connection,
        held: File,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let (checkpoints, checkpointer) = start_checkpointer(path)?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (done, finished) = oneshot::channel();
        opening::thread(path, "store-write".to_owned(), move || {
            let work = Work {
                connection,
                clock,
                checkpoints,
                since_checkpoint: AtomicUsize::new(0),
            };
            work.run(queue);
            // The last connection to go copies the log back and removes it.
            let Work {
                connection,
                checkpoints,
                ..
            } = work;
            drop(checkpoints);
            let _ = checkpointer.join();
            drop(connection);
            drop(held);
            let _ = done.send(());
        })?;
        Ok(Self {
            jobs,
            finished: Arc::new(tokio::sync::Mutex::new(Some(finished))),
        })
    }

    pub async fn commit(
        &self,
        steps: Vec<Result<Step, Rejection>>,
    ) -> Result<Verdicts, StoreError> {
        let (answer, wait) = oneshot::channel();
        self.send(Job::Commit(Call { steps, answer })).await?;
        wait.await.map_err(|_| lost())?
    }

    /// Deletes at most one bite of what is old enough; 0 when nothing is left.
    pub async fn forget(
        &self,
        nonces_before: Timestamp,
        keys_before: Timestamp,
    ) -> Result<u64, StoreError> {
        let (answer, wait) = oneshot::channel();
        self.send(Job::Forget {
            nonces_before,
            keys_before,
            answer,
        })
        .await?;
        wait.await.map_err(|_| lost())?
    }

    pub fn alive(&self) -> Result<(), StoreError> {
        if self.jobs.is_closed() {
            return Err(closed());
        }
        Ok(())
    }

    /// Writes what is queued and waits until the thread has let go of the file.
    pub async fn close(self) {
        let _ = self.jobs.send(Job::Close).await;
        if let Some(finished) = self.finished.lock().await.take() {
            let _ = finished.await;
        }
    }

    async fn send(&self, job: Job) -> Result<(), StoreError> {
        self.jobs.send(job).await.map_err(|_| closed())
    }
}

/// The thread ended between taking a job and answering it.
fn lost() -> StoreError {
    StoreError::OutcomeUnknown {
        why: "the writer ended before it answered".to_owned(),
    }
}

struct Work {
    connection: Connection,
    clock: Arc<dyn Clock>,
    checkpoints: mpsc::Sender<()>,
    since_checkpoint: AtomicUsize,
}

impl Work {
    fn run(&self, mut queue: mpsc::Receiver<Job>) {
        while let Some(first) = queue.blocking_recv() {
            let mut calls = Vec::new();
            let mut size = 0;
            let mut other = None;
            let mut next = Some(first);
            while let Some(job) = next {
                match job {
                    Job::Commit(call) => {
                        size += call.steps.len();
                        calls.push(call);
                    }
                    job => {
                        other = Some(job);
                        break;
                    }
                }
                next = (size < GROUP).then(|| queue.try_recv().ok()).flatten();
            }
            self.commit(calls, size);
            match other {
                Some(Job::Forget {
                    nonces_before,
                    keys_before,
                    answer,
                }) => {
                    let _ = answer.send(self.forget(nonces_before, keys_before));
                }
                Some(Job::Close) => queue.close(),
                Some(Job::Commit(_)) | None => {}
            }
        }
    }

    fn commit(&self, calls: Vec<Call>, size: usize) {
        if calls.is_empty() {
            return;
        }
        let began = Instant::now();
        let (calls, answers): (Vec<_>, Vec<_>) = calls
            .into_iter()
            .map(|call| (call.steps, call.answer))
            .unzip();
        match self.group(calls) {
            Ok(verdicts) => {
                metrics::histogram!("enrollpay_store_commit_duration_seconds")
                    .record(began.elapsed());
                metrics::histogram!("enrollpay_store_group_size")
                    .record(f64::from(u32::try_from(size).unwrap_or(u32::MAX)));
                for (answer, verdicts) in answers.into_iter().zip(verdicts) {
                    count_rejections(&verdicts);
                    let _ = answer.send(Ok(verdicts));
                }
            }
            Err(error) => {
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
        self.nudge_checkpointer(size);
    }

    /// One flush for all of them, or nothing of any.
    fn group(&self, calls: Vec<Vec<Result<Step, Rejection>>>) -> Result<Vec<Verdicts>, StoreError> {
        self.in_transaction(|| {
            let one = |step: Result<Step, Rejection>| match step {
                Ok(step) => self.step(&step),
                Err(rejection) => Ok(Err(rejection)),
            };
            calls
                .into_iter()
                .map(|steps| steps.into_iter().map(one).collect())
                .collect()
        })
    }

    /// One transaction in its own savepoint.
    fn step(&self, step: &Step) -> Result<Result<(), Rejection>, rusqlite::Error> {
        self.run_sql("SAVEPOINT step")?;
        match apply::apply(&self.connection, step, self.clock.now()) {
            Ok(()) => {
                self.run_sql("RELEASE step")?;
                Ok(Ok(()))
            }
            Err(Failure::Rejected(rejection)) => {
                self.run_sql("ROLLBACK TO step")?;
                self.run_sql("RELEASE step")?;
                Ok(Err(rejection))
            }
            Err(Failure::Database(error)) => Err(error),
        }
    }

    fn forget(&self, nonces_before: Timestamp, keys_before: Timestamp) -> Result<u64, StoreError> {
        self.in_transaction(|| apply::forget(&self.connection, nonces_before, keys_before))
    }

    fn in_transaction<T>(
        &self,
        work: impl FnOnce() -> Result<T, rusqlite::Error>,
    ) -> Result<T, StoreError> {
        let outcome = self
            .run_sql("BEGIN IMMEDIATE")
            .and_then(|()| work())
            .map_err(|error| unavailable(&error))
            .and_then(|value| match self.run_sql("COMMIT") {
                Ok(()) => Ok(value),
                Err(error) => Err(failed_commit(&error)),
            });
        // Some errors have rolled back already; what is left of the others goes here.
        if outcome.is_err() && !self.connection.is_autocommit() {
            let _ = self.run_sql("ROLLBACK");
        }
        outcome
    }

    fn run_sql(&self, sql: &str) -> Result<(), rusqlite::Error> {
        self.connection.prepare_cached(sql)?.execute([]).map(drop)
    }

    fn nudge_checkpointer(&self, written: usize) {
        let since = self.since_checkpoint.fetch_add(written, Ordering::Relaxed) + written;
        if since >= CHECKPOINT_EVERY {
            self.since_checkpoint.store(0, Ordering::Relaxed);
            // Where it is still busy with the last one, that is soon enough.
            let _ = self.checkpoints.try_send(());
        }
    }
}

/// A commit that could not be written never happened. One that was written and could not be flushed
/// is gone too, unless the machine stops before the next commit takes its place in the log.
fn failed_commit(error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error() {
        Some(inner)
            if inner.code == ErrorCode::SystemIoFailure
                && inner.extended_code != ffi::SQLITE_IOERR_WRITE =>
        {
            StoreError::OutcomeUnknown {
                why: error.to_string(),
            }
        }
        _ => unavailable(error),
    }
}

/// Copies the log back into the file beside the writer, so that no commit has to do it.
fn start_checkpointer(path: &Path) -> Result<(mpsc::Sender<()>, JoinHandle<()>), OpenError> {
    let connection = opening::writable(path)?;
    let (nudge, mut nudges) = mpsc::channel(1);
    let thread = opening::thread(path, "store-checkpt".to_owned(), move || {
        while nudges.blocking_recv().is_some() {
            let copied = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
            if let Err(error) = copied {
                // The writer does it itself once the log is long enough.
                tracing::warn!(%error, "the store's log could not be copied back");
            }
        }
    })?;
    Ok((nudge, thread))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_flush_that_failed_leaves_the_outcome_open() {
        let certain = |code| {
            let error = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
            failed_commit(&error).certainly_not_written()
        };
        for code in [
            ffi::SQLITE_FULL,
            ffi::SQLITE_IOERR_WRITE,
            ffi::SQLITE_BUSY,
            ffi::SQLITE_NOMEM,
        ] {
            assert!(certain(code), "{code}");
        }
        for code in [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR] {
            assert!(!certain(code), "{code}");
        }
    }
}
