//! How many orders a second are made, beside the embedded store. Every run shows that groups of all sizes
//! go through; as a measurement it takes longer: `ENROLLPAY_BENCH_MS=4000`, with `--no-capture`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use enrollpay::clock::ManualClock;
use enrollpay::store::postgres::Options;
use enrollpay::store::sqlite::{self, SqliteStore};
use enrollpay::store::{Store, Transaction, Write};

use super::super::sample::*;
use super::opened;
use crate::support::postgres::Postgres;

/// Of one figure.
fn lasts() -> Duration {
    let wanted = std::env::var("ENROLLPAY_BENCH_MS").ok();
    Duration::from_millis(wanted.and_then(|ms| ms.parse().ok()).unwrap_or(150))
}

fn created(n: u32) -> Transaction {
    let mut write = creation(n);
    write.outbox = vec![outbox(&write.order, n)];
    let order = write.order.id;
    let mut transaction = alone(write);
    transaction.writes = vec![
        Write::Nonce {
            key: key_id(1),
            nonce: n.to_string(),
            at: START,
        },
        Write::Personal {
            order,
            slot: "order".to_owned(),
            sealed: sealed("\u{1}sealed"),
        },
    ];
    transaction
}

/// So many callers, each with so many orders in a call.
async fn creates_per_second(store: &Arc<dyn Store>, callers: u32, size: u32) -> u128 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let (began, lasts) = (Instant::now(), lasts());
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let mut made = 0;
                while began.elapsed() < lasts {
                    let first = NEXT.fetch_add(size, Ordering::Relaxed);
                    let group = (first..first + size).map(created).collect();
                    let verdicts = store.commit(group).await.unwrap();
                    assert!(verdicts.iter().all(Result::is_ok));
                    made += size;
                }
                made
            })
        })
        .collect();
    let mut made = 0;
    for task in tasks {
        made += task.await.unwrap();
    }
    u128::from(made) * 1000 / began.elapsed().as_millis()
}

#[tokio::test]
async fn grouped_creates_beside_the_embedded_store() {
    let folder = tempfile::tempdir().unwrap();
    let options = sqlite::Options::new(Arc::new(ManualClock::at(START)));
    let embedded = SqliteStore::open(folder.path().join("store.db"), options).unwrap();
    let embedded: Arc<dyn Store> = Arc::new(embedded);
    let server = Postgres::private();
    let store = opened(&server.database(), Options::default()).await;
    for (callers, size) in [(1, 1), (64, 1), (512, 1), (8, 256)] {
        let small = creates_per_second(&embedded, callers, size).await;
        let large = creates_per_second(&store, callers, size).await;
        println!("{callers} callers of {size}: SQLite {small}/s, PostgreSQL {large}/s");
    }
}
