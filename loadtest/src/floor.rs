//! What this machine can do at best, measured in the same run: a figure of ours means something only
//! beside it.

use std::path::Path;
use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::RSA_PKCS1_SHA256;

/// Rows a group of the floor holds.
const GROUP: usize = 1024;

/// The floors.
#[derive(Debug)]
pub struct Floor {
    /// Median time of one flush of 8 KiB.
    pub flush: Duration,
    /// Orders inserted a second: tuned SQLite, one writer, 1,024 a commit, and nothing else.
    pub inserts_per_second: f64,
    /// The two durable steps of a life (insert; paid, notice, webhook row) a second, likewise.
    pub lifecycles_per_second: f64,
    /// RSA-2048 signatures a second on one core.
    pub signatures_per_second: f64,
}

#[expect(clippy::disallowed_methods, reason = "measures real time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "a report, not money")]
fn per_second(count: usize, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64()
}

/// Measures them all in `folder`, on the disk that the gateway will use. About five seconds.
pub fn measure(folder: &Path) -> Result<Floor, Box<dyn std::error::Error>> {
    Ok(Floor {
        flush: flush(folder)?,
        inserts_per_second: inserts(&folder.join("floor-inserts.db"))?,
        lifecycles_per_second: lifecycles(&folder.join("floor-lifecycles.db"))?,
        signatures_per_second: signatures()?,
    })
}

fn flush(folder: &Path) -> std::io::Result<Duration> {
    use std::io::{Seek as _, Write as _};
    let mut file = std::fs::File::create(folder.join("floor-flush"))?;
    let block = [7_u8; 8192];
    let mut times = Vec::new();
    for _ in 0..200 {
        let start = now();
        file.rewind()?;
        file.write_all(&block)?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}

fn open(path: &Path) -> rusqlite::Result<rusqlite::Connection> {
    let connection = rusqlite::Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -131072;
         PRAGMA wal_autocheckpoint = 32768; PRAGMA temp_store = MEMORY;
         CREATE TABLE orders (id TEXT PRIMARY KEY, merchant TEXT, number TEXT, status INTEGER,
           version INTEGER, due INTEGER, state TEXT, UNIQUE (merchant, number)) STRICT;
         CREATE TABLE notices (id TEXT PRIMARY KEY, order_id TEXT) STRICT;
         CREATE TABLE outbox (id INTEGER PRIMARY KEY, order_id TEXT, body BLOB) STRICT;",
    )?;
    Ok(connection)
}

fn insert_group(connection: &mut rusqlite::Connection, first: usize) -> rusqlite::Result<()> {
    let state = "x".repeat(600);
    let transaction = connection.transaction()?;
    {
        let mut insert = transaction
            .prepare_cached("INSERT INTO orders VALUES (?1, 'mch_1', ?2, 0, 1, NULL, ?3)")?;
        for index in first..first + GROUP {
            insert.execute((format!("{index:026}"), format!("ZK{index:012}"), &state))?;
        }
    }
    transaction.commit()
}

fn pay_group(connection: &mut rusqlite::Connection, first: usize) -> rusqlite::Result<()> {
    let (state, body) = ("y".repeat(700), vec![0_u8; 900]);
    let transaction = connection.transaction()?;
    {
        let mut update = transaction.prepare_cached(
            "UPDATE orders SET status = 2, version = 2, state = ?2 WHERE id = ?1 AND version = 1",
        )?;
        let mut notice = transaction.prepare_cached("INSERT INTO notices VALUES (?1, ?2)")?;
        let mut outbox =
            transaction.prepare_cached("INSERT INTO outbox (order_id, body) VALUES (?1, ?2)")?;
        for index in first..first + GROUP {
            let id = format!("{index:026}");
            update.execute((&id, &state))?;
            notice.execute((format!("42{index:026}"), &id))?;
            outbox.execute((&id, &body))?;
        }
    }
    transaction.commit()
}

fn inserts(path: &Path) -> rusqlite::Result<f64> {
    let mut connection = open(path)?;
    let start = now();
    let mut count = 0;
    while start.elapsed() < Duration::from_millis(1500) {
        insert_group(&mut connection, count)?;
        count += GROUP;
    }
    Ok(per_second(count, start))
}

fn lifecycles(path: &Path) -> rusqlite::Result<f64> {
    let mut connection = open(path)?;
    let start = now();
    let mut count = 0;
    while start.elapsed() < Duration::from_millis(1500) {
        insert_group(&mut connection, count)?;
        pay_group(&mut connection, count)?;
        count += GROUP;
    }
    Ok(per_second(count, start))
}

fn signatures() -> Result<f64, aws_lc_rs::error::Unspecified> {
    let key = KeyPair::generate(KeySize::Rsa2048)?;
    let random = SystemRandom::new();
    let mut signature = vec![0; key.public_modulus_len()];
    let start = now();
    let mut count = 0;
    while start.elapsed() < Duration::from_millis(700) {
        key.sign(&RSA_PKCS1_SHA256, &random, b"a prepay request", &mut signature)?;
        count += 1;
    }
    Ok(per_second(count, start))
}
