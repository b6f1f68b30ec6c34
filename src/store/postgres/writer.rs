//! What commits. While flushes are on their way to disk, the next transactions gather; then all of them
//! share one, each standing or falling alone (`apply`). Several may be under way at once. Facts of
//! providers go their own way with connections of their own, so that nothing else holds them up.
//!
//! COMMIT is sent only once every answer before it is in: a connection that breaks earlier has written
//! nothing. Where the answer to COMMIT itself is lost, `outcome` finds out what became of it.

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::error::{DbError, Error, Severity, SqlState};

use super::apply::{self, Session};
use super::opening::told;
use super::outcome::{self, Mark};
use super::{closed, unavailable};
use crate::store::step::{Step, count_rejections};
use crate::store::{Rejection, StoreError};

/// Calls that may wait before the next caller has to.
const QUEUE: usize = 1024;
/// Transactions that share one flush: more would only make each wait longer.
const GROUP: usize = 512;
/// Tries after a deadlock, or on a connection that turned out dead.
const TRIES: u32 = 4;
/// Until COMMIT. A statement has its own bound at the server; a server that stands still has none.
const WRITING: Duration = Duration::from_secs(10);
/// For COMMIT itself: after that its outcome is looked up.
const COMMITTING: Duration = Duration::from_secs(5);

type Verdicts = Vec<Result<(), Rejection>>;

/// One caller's transactions; those that could not even be written down are rejected already.
struct Call {
    steps: Vec<Result<Step, Rejection>>,
    answer: oneshot::Sender<Result<Verdicts, StoreError>>,
}

#[derive(Clone, Debug)]
pub(super) struct Writer {
    general: Way,
    facts: Way,
}

impl Writer {
    /// `flights`: flushes under way at once, of everything and of facts.
    pub fn start(general: &Pool, callbacks: &Pool, flights: (usize, usize)) -> Self {
        let way = |pool: &Pool, flights| {
            Way::start(Flusher {
                pool: pool.clone(),
                // Whoever finds out about a lost answer must not wait behind those who caused it.
                others: callbacks.clone(),
                flights,
            })
        };
        Self {
            general: way(general, flights.0),
            facts: way(callbacks, flights.1),
        }
    }

    pub async fn commit(
        &self,
        steps: Vec<Result<Step, Rejection>>,
    ) -> Result<Verdicts, StoreError> {
        let is_fact = |step: &Result<Step, _>| step.as_ref().is_ok_and(Step::is_fact);
        let way = if steps.iter().any(is_fact) {
            &self.facts
        } else {
            &self.general
        };
        let (answer, wait) = oneshot::channel();
        way.calls
            .send(Call { steps, answer })
            .await
            .map_err(|_| closed())?;
        // The flusher was ended together with its runtime.
        wait.await.map_err(|_| StoreError::OutcomeUnknown {
            why: "the writer ended before it answered".to_owned(),
        })?
    }

    /// Writes what is queued.
    pub async fn close(self) {
        for Way { calls, gathering } in [self.general, self.facts] {
            drop(calls);
            if let Some(gathering) = gathering.lock().await.take() {
                let _ = gathering.await;
            }
        }
    }
}

/// A queue and the task that empties it; the task ends when the last sender is gone.
#[derive(Clone, Debug)]
struct Way {
    calls: mpsc::Sender<Call>,
    gathering: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Way {
    fn start(flusher: Flusher) -> Self {
        let (calls, queue) = mpsc::channel(QUEUE);
        let gathering = tokio::spawn(flusher.gather(queue));
        Self {
            calls,
            gathering: Arc::new(Mutex::new(Some(gathering))),
        }
    }
}

#[derive(Clone, Debug)]
struct Flusher {
    pool: Pool,
    others: Pool,
    flights: usize,
}

/// Why a try to commit came to nothing.
#[derive(Debug)]
enum Trouble {
    /// Certainly not written, and the next try may well succeed.
    Again(String),
    /// Certainly not written.
    Not(String),
    /// COMMIT was sent.
    Lost(Mark, String),
}

impl Flusher {
    async fn gather(self, mut queue: mpsc::Receiver<Call>) {
        let flights = Arc::new(Semaphore::new(self.flights.max(1)));
        loop {
            // First a place, then the calls: what comes while all are taken shares the next flush.
            let Ok(place) = Arc::clone(&flights).acquire_owned().await else {
                break;
            };
            let Some(first) = queue.recv().await else {
                break;
            };
            let mut size = first.steps.len();
            let mut calls = vec![first];
            while size < GROUP
                && let Ok(call) = queue.try_recv()
            {
                size += call.steps.len();
                calls.push(call);
            }
            let flusher = self.clone();
            tokio::spawn(async move {
                flusher.flush(calls, size).await;
                drop(place);
            });
        }
        let all = u32::try_from(self.flights.max(1)).unwrap_or(u32::MAX);
        let _ = flights.acquire_many(all).await;
    }

    async fn flush(&self, calls: Vec<Call>, size: usize) {
        let began = Instant::now();
        let steps: Vec<&Result<Step, Rejection>> =
            calls.iter().flat_map(|call| &call.steps).collect();
        let outcome = self.commit(&steps).await;
        drop(steps);
        let mut verdicts = match outcome {
            Ok(verdicts) => {
                metrics::histogram!("enrollpay_store_commit_duration_seconds")
                    .record(began.elapsed());
                metrics::histogram!("enrollpay_store_group_size")
                    .record(f64::from(u32::try_from(size).unwrap_or(u32::MAX)));
                verdicts.into_iter()
            }
            Err(error) => {
                for call in calls {
                    let _ = call.answer.send(Err(error.clone()));
                }
                return;
            }
        };
        for Call { steps, answer } in calls {
            let verdicts: Verdicts = verdicts.by_ref().take(steps.len()).collect();
            count_rejections(&verdicts);
            let _ = answer.send(Ok(verdicts));
        }
    }

    /// One flush for all of them, or nothing of any.
    async fn commit(&self, steps: &[&Result<Step, Rejection>]) -> Result<Verdicts, StoreError> {
        let mut tries = 1;
        loop {
            let why = match self.try_commit(steps).await? {
                Ok(verdicts) => return Ok(verdicts),
                Err(Trouble::Again(why)) => why,
                Err(Trouble::Not(why)) => return Err(StoreError::Unavailable { why }),
                Err(Trouble::Lost(mark, why)) => {
                    return match outcome::of(&self.others, &mark).await {
                        Some(true) => Ok(mark.verdicts),
                        Some(false) => Err(StoreError::Unavailable { why }),
                        None => Err(StoreError::OutcomeUnknown { why }),
                    };
                }
            };
            if tries == TRIES {
                return Err(StoreError::Unavailable { why });
            }
            metrics::counter!("enrollpay_store_retries_total").increment(1);
            tracing::warn!(
                why,
                tries,
                "a commit is tried again; nothing of it was written"
            );
            sleep(jitter(tries)).await;
            tries += 1;
        }
    }

    async fn try_commit(
        &self,
        steps: &[&Result<Step, Rejection>],
    ) -> Result<Result<Verdicts, Trouble>, StoreError> {
        let connection = self.pool.get().await.map_err(|error| unavailable(&error))?;
        let session = Session::new(&connection);
        let written = match timeout(WRITING, apply::group(&session, steps)).await {
            Ok(written) => written.map_err(|error| {
                if error.as_db_error().is_none() {
                    // What broke this one has likely broken those that rest in the pool as well.
                    self.pool.retain(|_, _| false);
                }
                trouble(&error)
            }),
            Err(_) => Err(Trouble::Not("the store did not answer in time".to_owned())),
        };
        let mark = match written {
            Ok(mark) => mark,
            Err(trouble) => {
                end(connection).await;
                return Ok(Err(trouble));
            }
        };
        let committed = timeout(COMMITTING, session.run("COMMIT")).await;
        Ok(match committed {
            Ok(Ok(())) => Ok(mark.verdicts),
            // The server says itself that it did not.
            Ok(Err(error)) if is_final_no(&error) => {
                end(connection).await;
                Err(trouble(&error))
            }
            Ok(Err(error)) => {
                drop(Object::take(connection));
                Err(Trouble::Lost(mark, told(&error)))
            }
            Err(_) => {
                drop(Object::take(connection));
                Err(Trouble::Lost(
                    mark,
                    "the store did not answer in time".to_owned(),
                ))
            }
        })
    }
}

/// Undoes what is under way; a connection that cannot even do that is given up.
async fn end(connection: Object) {
    let rolled_back = timeout(Duration::from_secs(1), connection.batch_execute("ROLLBACK")).await;
    if !matches!(rolled_back, Ok(Ok(()))) {
        drop(Object::take(connection));
    }
}

/// An error that ended the transaction and left the connection alone.
fn is_final_no(error: &Error) -> bool {
    let severity = error.as_db_error().and_then(DbError::parsed_severity);
    severity == Some(Severity::Error)
}

/// Before COMMIT: whatever happens, nothing is written.
fn trouble(error: &Error) -> Trouble {
    let passes = match error.code() {
        Some(code) => [
            SqlState::T_R_DEADLOCK_DETECTED,
            SqlState::T_R_SERIALIZATION_FAILURE,
            // Deadlocks are looked for after as long as a lock is waited for: either may come first.
            SqlState::LOCK_NOT_AVAILABLE,
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
        ]
        .contains(code),
        // The connection is gone. A pool does not see that before it is used.
        None => error.is_closed() || std::error::Error::source(error).is_some(),
    };
    let why = told(error);
    if passes {
        Trouble::Again(why)
    } else {
        Trouble::Not(why)
    }
}

fn jitter(tries: u32) -> Duration {
    let random = std::hash::RandomState::new().build_hasher().finish();
    Duration::from_millis(random % (25 << tries))
}
