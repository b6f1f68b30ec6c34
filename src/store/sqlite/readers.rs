//! Read-only connections, each on its own thread: a read never waits behind a write, and sees all
//! that was committed before it began.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::opening::{self, OpenError};
use crate::store::StoreError;

/// Reads that may wait at one connection before the next caller has to.
const QUEUE: usize = 256;

/// `None`: no more after what is queued.
type Job = Option<Box<dyn FnOnce(&Connection) + Send>>;

#[derive(Clone, Debug)]
pub(super) struct Readers {
    lanes: Arc<[mpsc::Sender<Job>]>,
    next: Arc<AtomicUsize>,
    /// Ends when every thread has let go of the file.
    finished: Arc<tokio::sync::Mutex<Vec<oneshot::Receiver<()>>>>,
}

impl Readers {
    pub fn start(path: &Path, count: usize) -> Result<Self, OpenError> {
        let mut lanes = Vec::new();
        let mut finished = Vec::new();
        for number in 0..count.max(1) {
            let connection = opening::readable(path)?;
            let (lane, jobs) = mpsc::channel::<Job>(QUEUE);
            let (done, wait) = oneshot::channel();
            opening::thread(path, format!("store-read-{number}"), move || {
                work(connection, jobs);
                let _ = done.send(());
            })?;
            lanes.push(lane);
            finished.push(wait);
        }
        Ok(Self {
            lanes: lanes.into(),
            next: Arc::default(),
            finished: Arc::new(tokio::sync::Mutex::new(finished)),
        })
    }

    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let gone = || StoreError::Unavailable {
            why: "its reader has ended".to_owned(),
        };
        let (answer, wait) = oneshot::channel();
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.lanes.len();
        let lane = self.lanes.get(turn).ok_or_else(gone)?;
        let job: Job = Some(Box::new(move |connection| {
            // Nobody waits for it any more where the caller gave up.
            if !answer.is_closed() {
                let _ = answer.send(read(connection));
            }
        }));
        lane.send(job).await.map_err(|_| gone())?;
        wait.await.map_err(|_| gone())?
    }

    /// Answers what is queued and waits until the threads have let go of the file.
    pub async fn close(self) {
        for lane in self.lanes.iter() {
            let _ = lane.send(None).await;
        }
        for end in self.finished.lock().await.drain(..) {
            let _ = end.await;
        }
    }
}

fn work(connection: Connection, mut jobs: mpsc::Receiver<Job>) {
    while let Some(job) = jobs.blocking_recv() {
        match job {
            Some(job) => job(&connection),
            None => jobs.close(),
        }
    }
    drop(connection);
}
