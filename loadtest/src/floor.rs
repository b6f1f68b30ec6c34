//! What this machine can do at best, measured in the same run: a figure of ours means something only
//! beside it.

use std::path::Path;
use std::time::{Duration, Instant};

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{
    KeyPair as _, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
};

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
    /// RSA-2048 signatures a second, all cores together.
    pub signatures_per_second: f64,
    /// Checks of such signatures a second, likewise.
    pub verifications_per_second: f64,
}

#[expect(clippy::disallowed_methods, reason = "measures real time")]
fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    reason = "a report, not money"
)]
fn per_second(count: usize, since: Instant) -> f64 {
    count as f64 / since.elapsed().as_secs_f64()
}

/// Measures them all in `folder`, on the disk that the gateway will use. About six seconds.
pub fn measure(folder: &Path) -> Result<Floor, Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir_in(folder)?;
    let folder = folder.path();
    Ok(Floor {
        flush: flush(folder)?,
        inserts_per_second: inserts(&folder.join("inserts.db"))?,
        lifecycles_per_second: lifecycles(&folder.join("lifecycles.db"))?,
        signatures_per_second: on_all_cores(signatures)?,
        verifications_per_second: on_all_cores(verifications)?,
    })
}

fn flush(folder: &Path) -> std::io::Result<Duration> {
    use std::io::{Seek as _, Write as _};
    let mut file = std::fs::File::create(folder.join("flush"))?;
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

/// The sum of what each core does while all of them do it.
#[expect(clippy::float_arithmetic, reason = "a report, not money")]
fn on_all_cores(
    work: fn(KeyPair) -> Result<f64, Unspecified>,
) -> Result<f64, Box<dyn std::error::Error>> {
    let cores = std::thread::available_parallelism()?.get();
    let keys: Vec<KeyPair> = (0..cores)
        .map(|_| KeyPair::generate(KeySize::Rsa2048))
        .collect::<Result<_, _>>()?;
    let threads: Vec<_> = keys
        .into_iter()
        .map(|key| std::thread::spawn(move || work(key)))
        .collect();
    let mut sum = 0.0;
    for thread in threads {
        sum += thread.join().map_err(|_| "a floor thread panicked")??;
    }
    Ok(sum)
}

const MESSAGE: &[u8] = b"a prepay request";

#[expect(clippy::needless_pass_by_value, reason = "moved into its thread")]
fn signatures(key: KeyPair) -> Result<f64, Unspecified> {
    let random = SystemRandom::new();
    let mut signature = vec![0; key.public_modulus_len()];
    let start = now();
    let mut count = 0;
    while start.elapsed() < Duration::from_millis(1000) {
        key.sign(&RSA_PKCS1_SHA256, &random, MESSAGE, &mut signature)?;
        count += 1;
    }
    Ok(per_second(count, start))
}

#[expect(clippy::needless_pass_by_value, reason = "moved into its thread")]
fn verifications(key: KeyPair) -> Result<f64, Unspecified> {
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        MESSAGE,
        &mut signature,
    )?;
    let public = ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key())
        .map_err(|_| Unspecified)?;
    let start = now();
    let mut count = 0;
    while start.elapsed() < Duration::from_millis(500) {
        for _ in 0..64 {
            public.verify_sig(MESSAGE, &signature)?;
        }
        count += 64;
    }
    Ok(per_second(count, start))
}
