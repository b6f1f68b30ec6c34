//! What became of a COMMIT whose answer was lost: the server is asked by the transaction's number.

use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres::Error;

use super::apply::Session;
use crate::store::Rejection;

/// A transaction that is left alone in the middle ends after 5 seconds (`opening` has the bound).
const PATIENCE: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_millis(50);
/// One question.
const ASKING: Duration = Duration::from_secs(2);

/// What is known of a transaction before COMMIT is sent.
#[derive(Debug)]
pub(super) struct Mark {
    /// Its number, unique in one history of the database.
    number: String,
    /// A server that took over may have lost the last transactions and given their numbers out again:
    /// it writes another timeline.
    timeline: String,
    backend: i32,
    /// What was said of each of its steps, should it stand.
    pub verdicts: Vec<Result<(), Rejection>>,
}

/// Takes the number of the transaction that the session is in.
pub(super) async fn mark(session: &Session<'_>) -> Result<Mark, Error> {
    let row = session
        .try_one(
            "SELECT pg_current_xact_id()::text, left(pg_walfile_name(pg_current_wal_insert_lsn()), 8),
                 pg_backend_pid()",
            &[],
        )
        .await?;
    let mut mark = Mark {
        number: String::new(),
        timeline: String::new(),
        backend: 0,
        verdicts: Vec::new(),
    };
    if let Some(row) = row {
        mark.number = row.try_get(0)?;
        mark.timeline = row.try_get(1)?;
        mark.backend = row.try_get(2)?;
    }
    Ok(mark)
}

/// Does it stand? `None` where nobody can tell in time.
pub(super) async fn of(pool: &Pool, mark: &Mark) -> Option<bool> {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Ok(connection) = pool.get().await {
            match timeout(ASKING, ask(&connection, mark)).await {
                Ok(Ok(Answer::Over(stands))) => return stands,
                Ok(Ok(Answer::Running)) => {}
                // Whatever this connection is good for, it is not this.
                _ => drop(Object::take(connection)),
            }
        }
        if Instant::now() >= until {
            return None;
        }
        sleep(PAUSE).await;
    }
}

enum Answer {
    Over(Option<bool>),
    Running,
}

async fn ask(connection: &Object, mark: &Mark) -> Result<Answer, Error> {
    let row = connection
        .query_one(
            "SELECT pg_xact_status($1::text::xid8),
                 left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)",
            &[&mark.number],
        )
        .await?;
    let (status, timeline): (Option<String>, String) = (row.try_get(0)?, row.try_get(1)?);
    if timeline != mark.timeline {
        return Ok(Answer::Over(None));
    }
    match status.as_deref() {
        Some("committed") => {
            // It is on this server's disk. Where standbys have to have it too, they have it when they
            // have something that was written after it.
            connection
                .query_one("SELECT pg_logical_emit_message(true, 'enrollpay', '')", &[])
                .await?;
            Ok(Answer::Over(Some(true)))
        }
        Some("aborted") => Ok(Answer::Over(Some(false))),
        Some("in progress") => {
            // It waits for a COMMIT that will never come, or for its disk. Ending it settles the first
            // and does not hurt the second; where we may not, its own bound ends it. One that waits
            // for a standby must be left alone: ended, it would show what the standby never had, and
            // whoever read that would acknowledge it.
            let _ = connection
                .query_opt(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                     WHERE pid = $1 AND state IS NOT NULL AND wait_event IS DISTINCT FROM 'SyncRep'",
                    &[&mark.backend],
                )
                .await;
            Ok(Answer::Running)
        }
        _ => Ok(Answer::Over(None)),
    }
}
