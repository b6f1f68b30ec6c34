//! F11: the answer to COMMIT is lost on the way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use enrollpay::store::postgres::{Options, PostgresStore};
use enrollpay::store::{Store, StoreError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::super::sample::*;
use super::super::suite::commit_step;
use crate::support::postgres::{Database, Postgres};

const HONEST: u8 = 0;
/// The next COMMIT arrives; its answer does not.
const SWALLOWS_THE_ANSWER: u8 = 1;
/// The next COMMIT does not arrive.
const SWALLOWS_THE_COMMIT: u8 = 2;
/// As the first, and nobody gets through after it.
const SWALLOWS_THE_ANSWER_AND_CLOSES: u8 = 3;
const CLOSED: u8 = 4;

/// A way to the server on which one message gets lost.
struct Way {
    mode: Arc<AtomicU8>,
    url: String,
}

impl Way {
    async fn to(database: &Database) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = database.url();
        let (before, rest) = url.split_once('@').unwrap();
        let (server, name) = rest.split_once('/').unwrap();
        let mode = Arc::new(AtomicU8::new(HONEST));
        let (server, shared) = (server.to_owned(), Arc::clone(&mode));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if shared.load(Ordering::SeqCst) == CLOSED {
                    continue;
                }
                let server = TcpStream::connect(&server).await.unwrap();
                tokio::spawn(carry(client, server, Arc::clone(&shared)));
            }
        });
        Self {
            mode,
            url: format!("{before}@127.0.0.1:{port}/{name}"),
        }
    }

    async fn store(&self) -> Arc<dyn Store> {
        let store = PostgresStore::open(&self.url, Options::default()).await;
        Arc::new(store.unwrap())
    }
}

async fn carry(mut client: TcpStream, mut server: TcpStream, mode: Arc<AtomicU8>) {
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(read @ 1..) = read else { return };
                let bytes = &asked[..read];
                let is_commit = bytes.windows(7).any(|word| word == b"COMMIT\0");
                let now = mode.load(Ordering::SeqCst);
                if !is_commit || now == HONEST {
                    server.write_all(bytes).await.unwrap();
                    continue;
                }
                if now != SWALLOWS_THE_COMMIT {
                    server.write_all(bytes).await.unwrap();
                    // Once the server has answered, it has committed.
                    assert!(server.read(&mut answered).await.unwrap() > 0);
                }
                let after = match now {
                    SWALLOWS_THE_ANSWER_AND_CLOSES => CLOSED,
                    _ => HONEST,
                };
                mode.store(after, Ordering::SeqCst);
                return;
            }
            read = server.read(&mut answered) => {
                let Ok(read @ 1..) = read else { return };
                if mode.load(Ordering::SeqCst) == CLOSED {
                    return;
                }
                client.write_all(&answered[..read]).await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_after_the_commit_is_found_out() {
    let database = Postgres::shared().database();
    let way = Way::to(&database).await;
    let store = way.store().await;
    way.mode.store(SWALLOWS_THE_ANSWER, Ordering::SeqCst);
    // What was refused is told as it would have been.
    let stale = start(&order(7));
    let answer = store.commit(vec![alone(creation(1)), alone(stale)]).await;
    let moved = Err(enrollpay::store::Rejection::VersionMoved);
    assert_eq!(answer.unwrap(), [Ok(()), moved]);
    assert_eq!(way.mode.load(Ordering::SeqCst), HONEST, "it was lost");
    assert!(store.order(order_id(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_commit_that_is_lost_was_certainly_not_written() {
    let database = Postgres::shared().database();
    let way = Way::to(&database).await;
    let store = way.store().await;
    way.mode.store(SWALLOWS_THE_COMMIT, Ordering::SeqCst);
    let error = store.commit(vec![alone(creation(1))]).await.unwrap_err();
    assert!(error.certainly_not_written(), "{error}");
    assert_eq!(way.mode.load(Ordering::SeqCst), HONEST, "it was lost");
    assert!(store.order(order_id(1)).await.unwrap().is_none());
    commit_step(&store, creation(1)).await.unwrap();
}

#[tokio::test]
async fn a_commit_that_nobody_can_ask_about_is_unknown() {
    let database = Postgres::shared().database();
    let way = Way::to(&database).await;
    let store = way.store().await;
    way.mode
        .store(SWALLOWS_THE_ANSWER_AND_CLOSES, Ordering::SeqCst);
    let error = store.commit(vec![alone(creation(1))]).await.unwrap_err();
    assert!(
        matches!(error, StoreError::OutcomeUnknown { .. }),
        "{error}"
    );
    way.mode.store(HONEST, Ordering::SeqCst);
    assert!(store.order(order_id(1)).await.unwrap().is_some());
}
