//! The embedded store: the list of every store, and what only a file can show.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use enrollpay::clock::ManualClock;
use enrollpay::random::{Random, SeededRandom};
use enrollpay::sealing::Sealed;
use enrollpay::store::sqlite::{OpenError, Options, SqliteStore};
use enrollpay::store::{
    AuditBroken, Rejection, Store, StoreError, Transaction, Write, verify_audit,
};
use rusqlite::Connection;
use tempfile::TempDir;

use super::Place;
use super::money::{odd_capture, requested, succeeded};
use super::records::{audited, evidence, settling};
use super::sample::*;

pub mod upgrade;

/// A folder that goes with the test.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("data/enrollpay.db")
    }

    fn store(&self) -> SqliteStore {
        SqliteStore::open(self.file(), options()).unwrap()
    }
}

fn options() -> Options {
    Options::new(Arc::new(ManualClock::at(START)))
}

#[async_trait]
impl Place for Folder {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.store())
    }
}

store_suite!(Folder::new());

fn raw(folder: &Folder) -> Connection {
    Connection::open(folder.file()).unwrap()
}

#[test]
fn a_second_opener_is_refused_at_once() {
    let folder = Folder::new();
    let store = folder.store();
    for refused in [
        SqliteStore::open(folder.file(), options()).map(drop),
        SqliteStore::migrate(folder.file()).map(drop),
    ] {
        let error = refused.unwrap_err();
        assert!(matches!(error, OpenError::InUse { .. }));
        assert!(error.to_string().contains("enrollpay.db"));
    }
    drop(store);
}

#[cfg(unix)]
#[test]
fn the_file_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new();
    let _store = folder.store();
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder.file().parent().unwrap()), 0o700);
    let beside = |end: &str| folder.file().with_file_name(format!("enrollpay.db{end}"));
    for end in ["", "-wal", "-shm", ".lock"] {
        assert_eq!(mode(&beside(end)), 0o600, "{end}");
    }
}

#[test]
fn only_a_store_is_opened_as_one() {
    let folder = Folder::new();
    std::fs::create_dir(folder.file().parent().unwrap()).unwrap();
    raw(&folder)
        .execute_batch("CREATE TABLE somebody_elses (x)")
        .unwrap();
    let opened = SqliteStore::open(folder.file(), options()).map(drop);
    assert!(matches!(opened, Err(OpenError::NotOurs { found: 0, .. })));
    let tables: u32 = raw(&folder)
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .unwrap();
    assert_eq!(tables, 1);

    std::fs::write(folder.file(), "not a database at all, but a letter").unwrap();
    let opened = SqliteStore::open(folder.file(), options()).map(drop);
    assert!(matches!(opened, Err(OpenError::Database { .. })));
    let folder_itself = folder.file().parent().unwrap().to_owned();
    assert!(SqliteStore::open(folder_itself, options()).is_err());
}

#[test]
fn a_schema_that_is_not_ours_to_use_is_refused() {
    let folder = Folder::new();
    let unmigrated = Options {
        migrate: false,
        ..options()
    };
    let open = || SqliteStore::open(folder.file(), unmigrated.clone()).map(drop);
    let behind = open().unwrap_err();
    assert!(matches!(behind, OpenError::SchemaBehind { found: 0, .. }));
    assert!(behind.to_string().contains("run enrollpay migrate"));
    let version = SqliteStore::migrate(folder.file()).unwrap();
    assert_eq!(SqliteStore::migrate(folder.file()).unwrap(), version);
    open().unwrap();
    // A newer program was here.
    wait_until_free(&folder);
    raw(&folder)
        .execute(
            "UPDATE refinery_schema_history SET version = 999 WHERE version = ?1",
            [version],
        )
        .unwrap();
    for opened in [
        open(),
        SqliteStore::migrate(folder.file()).map(drop),
        SqliteStore::open(folder.file(), options()).map(drop),
    ] {
        let ahead = opened.unwrap_err();
        assert!(matches!(ahead, OpenError::SchemaAhead { found: 999, .. }));
    }
}

/// A store that is dropped without being closed lets go a moment later.
fn wait_until_free(folder: &Folder) {
    for _ in 0..1000 {
        match SqliteStore::migrate(folder.file()) {
            Ok(_) => return,
            Err(OpenError::InUse { .. }) => std::thread::sleep(Duration::from_millis(5)),
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the file is still held after five seconds");
}

/// Statements of somebody with a database tool; each must be refused.
#[tokio::test]
async fn the_schema_itself_refuses_what_must_never_be() {
    let folder = Folder::new();
    let store = folder.store();
    let created = creation(1);
    let shown = start(&created.order);
    let claimed = claim(&shown.order, 1);
    let mut paid = pay(&claimed.order, "4200");
    paid.outbox = vec![outbox(&paid.order, 1)];
    for write in [created, shown, claimed, paid.clone(), creation(2)] {
        assert_eq!(
            store.commit(vec![alone(write)]).await.unwrap(),
            vec![Ok(())]
        );
    }
    let closed = close(&order(2));
    let asked = told(&paid.order, vec![requested(1, "R-1", 10)]);
    let gone = told(&asked.order, vec![succeeded(1)]);
    let open = told(&gone.order, vec![requested(2, "R-2", 10), odd_capture()]);
    for write in [closed, asked, gone, open] {
        assert_eq!(
            store.commit(vec![alone(write)]).await.unwrap(),
            vec![Ok(())]
        );
    }
    let words = [
        Write::Audit(audited(1)),
        Write::Evidence(evidence(1)),
        Write::Evidence(evidence(2)),
        settling(1, 7),
        settling(1, 8),
    ];
    let verdicts = store.commit(vec![writes(words)]).await.unwrap();
    assert_eq!(verdicts, vec![Ok(())]);
    let claimed = Write::ShardClaimed {
        shard: 1,
        epoch: 1,
        instance: 1,
        silent_ms: None,
        at: START,
    };
    store.commit(vec![writes([claimed])]).await.unwrap();
    store.close().await;

    let connection = raw(&folder);
    for (sql, rule) in [
        ("UPDATE captures SET amount = 1", "M6"),
        ("DELETE FROM captures", "M6"),
        ("UPDATE refunds SET amount = 1", "M5"),
        ("UPDATE refunds SET number = number || 'x'", "M5"),
        ("UPDATE refunds SET merchant_refund_no = NULL", "M5"),
        (
            "UPDATE refunds SET status = 'failed' WHERE status = 'succeeded'",
            "M6",
        ),
        (
            "UPDATE refunds SET ended_at = 0 WHERE status = 'succeeded'",
            "M6",
        ),
        ("DELETE FROM refunds", "M6"),
        (
            "INSERT INTO refunds SELECT account, 'more', 'rfd_more', 0, order_id, attempt,
                 transaction_id, cause, merchant, 'more', 13981, 'pending', 0, NULL
             FROM refunds LIMIT 1",
            "M4",
        ),
        (
            "INSERT INTO refunds SELECT account, 'more', 'rfd_more', 0, order_id, attempt,
                 transaction_id, 'surplus', merchant, NULL, 14000, 'pending', 0, NULL
             FROM refunds LIMIT 1",
            "M2",
        ),
        (
            "INSERT INTO refunds SELECT account, 'more', 'rfd_more', 0, order_id, attempt,
                 transaction_id, 'mismatch', merchant, NULL, 10, 'pending', 0, NULL
             FROM refunds LIMIT 1",
            "M3",
        ),
        ("UPDATE mismatches SET amount = 1", "M3"),
        ("DELETE FROM mismatches", "M3"),
        ("UPDATE ledger SET amount = amount + 1", "M9"),
        ("DELETE FROM ledger", "M9"),
        ("UPDATE evidence SET reason = 'none'", "M3"),
        ("UPDATE evidence SET body = x''", "M3"),
        ("UPDATE evidence SET settled_at = NULL", "M3"),
        (
            "UPDATE evidence SET settled_by = randomblob(16), settled_at = 1
             WHERE proposed_by IS NULL",
            "M3",
        ),
        ("DELETE FROM evidence", "M3"),
        ("UPDATE audit SET outcome = 'refused'", "append-only"),
        ("DELETE FROM audit", "append-only"),
        (
            "INSERT INTO audit SELECT id + 1, at, operator, action, target, outcome, previous, hash
             FROM audit",
            "one chain",
        ),
        ("UPDATE outbox SET position = position + 1", "E4"),
        ("UPDATE order_events SET at = 0", "E5"),
        ("DELETE FROM order_events", "E5"),
        ("UPDATE claims SET payer = randomblob(16)", "Q2"),
        ("DELETE FROM claims", "Q2"),
        (
            "UPDATE orders SET status = 'unpaid' WHERE status = 'paid'",
            "M7",
        ),
        (
            "UPDATE orders SET status = 'closed' WHERE status = 'paid'",
            "M7",
        ),
        (
            "UPDATE orders SET status = 'paid' WHERE status = 'closed'",
            "M7",
        ),
        ("UPDATE orders SET snapshot = ''", "frozen"),
        ("UPDATE orders SET amount = amount + 1", "frozen"),
        ("DELETE FROM orders", "never deleted"),
        ("UPDATE outbox SET kind = 'order.closed'", "E4"),
        ("UPDATE outbox SET body_digest = randomblob(32)", "E4"),
        ("UPDATE outbox SET body = x''", "E2"),
        ("DELETE FROM outbox", "E2"),
        (
            "UPDATE shards SET epoch = 1, instance = randomblob(16)",
            "O3",
        ),
        (
            "UPDATE orders SET status = 'lost' WHERE status = 'unpaid' OR 1",
            "M7",
        ),
    ] {
        let refused = connection.execute(sql, []).unwrap_err().to_string();
        assert!(refused.contains(rule), "{sql}: {refused}");
    }
    // What may change still can.
    let changed = connection.execute("UPDATE outbox SET state = 'parked'", []);
    assert_eq!(changed.unwrap(), 1);
}

/// Somebody with a database tool, and without the rules that would refuse.
#[tokio::test]
async fn a_doctored_audit_log_shows() {
    for (sql, broken_at) in [
        ("UPDATE audit SET operator = '0 root' WHERE id = 2", 2),
        ("UPDATE audit SET at = at - 1 WHERE id = 3", 3),
        ("DELETE FROM audit WHERE id = 1", 2),
        ("DELETE FROM audit WHERE id = 2", 3),
        ("UPDATE audit SET hash = zeroblob(32) WHERE id = 1", 1),
    ] {
        let folder = Folder::new();
        let store = folder.store();
        let entries = (1..=3).map(|n| writes([Write::Audit(audited(n))]));
        store.commit(entries.collect()).await.unwrap();
        let connection = raw(&folder);
        connection
            .execute_batch("DROP TRIGGER audit_kept; DROP TRIGGER audit_stays;")
            .unwrap();
        assert_eq!(connection.execute(sql, []).unwrap(), 1);
        match verify_audit(&store).await {
            Err(AuditBroken::Entry { id }) => assert_eq!(id, broken_at, "{sql}"),
            other => panic!("{sql}: {other:?}"),
        }
        store.close().await;
    }
}

#[tokio::test]
async fn a_row_that_makes_no_sense_is_named() {
    let folder = Folder::new();
    let store = folder.store();
    for write in [creation(1), creation(2), creation(3)] {
        store.commit(vec![alone(write)]).await.unwrap();
    }
    let connection = raw(&folder);
    let spoil = |sql: &str| assert_eq!(connection.execute(sql, []).unwrap(), 1, "{sql}");
    let name = |n| order_id(n).to_string();
    spoil(&format!(
        "UPDATE orders SET state = '{{' WHERE id = '{}'",
        name(1)
    ));
    spoil(&format!(
        "UPDATE orders SET version = 7 WHERE id = '{}'",
        name(2)
    ));
    spoil(&format!(
        "UPDATE orders SET status = 'paying' WHERE id = '{}'",
        name(3)
    ));
    for n in 1..=3 {
        let error = store.order(order_id(n)).await.unwrap_err();
        let StoreError::Inconsistent { table, row, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!((*table, row), ("orders", &name(n)));
        assert!(error.certainly_not_written());
    }
    store.close().await;
}

#[tokio::test]
async fn reads_do_not_wait_behind_a_write() {
    let folder = Folder::new();
    let store = Arc::new(folder.store());
    store.commit(vec![alone(creation(1))]).await.unwrap();
    let connection = raw(&folder);
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let stuck: Vec<_> = (2..=9)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.commit(vec![alone(creation(n))]).await })
        })
        .collect();
    for _ in 0..20 {
        assert!(store.order(order_id(1)).await.unwrap().is_some());
        assert!(store.order(order_id(2)).await.unwrap().is_none());
    }
    assert!(stuck.iter().all(|commit| !commit.is_finished()));
    connection.execute_batch("ROLLBACK").unwrap();
    for commit in stuck {
        assert_eq!(commit.await.unwrap().unwrap(), vec![Ok(())]);
    }
    assert!(store.order(order_id(9)).await.unwrap().is_some());
    store.close().await;
}

/// How many commits the log holds: each ends with a page that tells the size of the whole file.
fn commits_in_log(folder: &Folder) -> usize {
    const HEADER: usize = 32;
    const PAGE: usize = 24 + 4096;
    let log = std::fs::read(folder.file().with_file_name("enrollpay.db-wal")).unwrap();
    log[HEADER..]
        .chunks_exact(PAGE)
        .filter(|page| page[4..8] != [0; 4])
        .count()
}

#[tokio::test]
async fn commits_that_wait_share_a_flush() {
    let folder = Folder::new();
    let store = Arc::new(folder.store());
    store.commit(vec![alone(creation(1))]).await.unwrap();
    let before = commits_in_log(&folder);
    let connection = raw(&folder);
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let waiting: Vec<_> = (1..=60)
        .map(|n| {
            let store = Arc::clone(&store);
            // Every third one takes a number that is gone.
            let snapshot = snapshot(if n % 3 == 0 { 1 } else { n + 1 });
            let write = alone(creation_of(order(n + 1), snapshot));
            tokio::spawn(async move { store.commit(vec![write]).await.unwrap().remove(0) })
        })
        .collect();
    // The tasks run up to their wait, all on this thread.
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    connection.execute_batch("ROLLBACK").unwrap();
    for (n, verdict) in (1..).zip(waiting) {
        let existing = order_id(1);
        let expected = match n % 3 {
            0 => Err(Rejection::MerchantOrderNoTaken { existing }),
            _ => Ok(()),
        };
        assert_eq!(verdict.await.unwrap(), expected);
    }
    // The first to be taken may have been alone.
    let shared = commits_in_log(&folder) - before;
    assert!(
        (1..=2).contains(&shared),
        "{shared} flushes for sixty commits"
    );
    store.close().await;
}

/// The log is copied back while the store runs, long before the writer would have to.
#[tokio::test]
async fn the_log_is_copied_back_beside_the_writer() {
    let folder = Folder::new();
    let store = folder.store();
    let size = || folder.file().metadata().unwrap().len();
    let before = size();
    for batch in 0..10u32 {
        let orders = (1..=200).map(|n| alone(creation(batch * 1000 + n)));
        let verdicts = store.commit(orders.collect()).await.unwrap();
        assert!(verdicts.iter().all(Result::is_ok));
    }
    tokio::time::timeout(Duration::from_secs(20), async {
        while size() < before + 500_000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("two thousand orders reach the file itself");
    store.close().await;
}

/// Where the child of a test finds its file.
const CHILD_FILE: &str = "ENROLLPAY_TEST_STORE_FILE";
const CHILD_FROM: &str = "ENROLLPAY_TEST_STORE_FROM";

fn child_file() -> Option<PathBuf> {
    std::env::var_os(CHILD_FILE).map(PathBuf::from)
}

/// What runs one test of this program again, as a child.
fn again(test: &str) -> Vec<String> {
    let program = std::env::current_exe().unwrap();
    let name = format!("store::sqlite::{test}");
    vec![
        program.to_str().unwrap().to_owned(),
        "--exact".to_owned(),
        name,
        "--nocapture".to_owned(),
    ]
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    const TEST: &str = "what_was_acknowledged_survives_kill_9";
    if let Some(file) = child_file() {
        let from = std::env::var(CHILD_FROM).unwrap().parse().unwrap();
        block_on(commit_and_tell_for_ever(file, from));
        unreachable!("it is killed");
    }
    let folder = Folder::new();
    let random: Arc<dyn Random> = Arc::new(SeededRandom::new(49));
    let mut told: HashMap<u32, u64> = HashMap::new();
    for round in 0..16u32 {
        let command = again(TEST);
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .env(CHILD_FILE, folder.file())
            .env(CHILD_FROM, (round * 100_000 + 1).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let until = 1 + random.below(80);
        let mut heard = 0;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let Some(ack) = line.unwrap().strip_prefix("ack ").map(str::to_owned) else {
                continue;
            };
            let (n, version) = ack.split_once(' ').unwrap();
            let (n, version): (u32, u64) = (n.parse().unwrap(), version.parse().unwrap());
            told.entry(n)
                .and_modify(|known| *known = version.max(*known))
                .or_insert(version);
            heard += 1;
            if heard == 1 {
                // While it lives, the file is its own.
                let second = SqliteStore::open(folder.file(), options());
                assert!(matches!(second, Err(OpenError::InUse { .. })));
            }
            if heard == until {
                child.kill().unwrap();
            }
        }
        assert!(heard >= until, "the child ended by itself");
        child.wait().unwrap();
        block_on(check_what_was_told(&folder, &told));
    }
}

/// Creates orders and starts a code for each, sixteen at a time, and says so after each commit.
async fn commit_and_tell_for_ever(file: PathBuf, from: u32) {
    let store = Arc::new(SqliteStore::open(file, options()).unwrap());
    let tell = |text: String| {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).unwrap();
        out.flush().unwrap();
    };
    // The test harness has begun a line.
    tell("\n".to_owned());
    let tasks: Vec<_> = (0..16u32)
        .map(|task| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for n in (from + task..).step_by(16) {
                    for write in [creation(n), start(&order(n))] {
                        let version = write.order.version;
                        let verdicts = store.commit(vec![alone(write)]).await.unwrap();
                        assert_eq!(verdicts, vec![Ok(())]);
                        tell(format!("ack {n} {version}\n"));
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

async fn check_what_was_told(folder: &Folder, told: &HashMap<u32, u64>) {
    let store = folder.store();
    for (n, version) in told {
        let found = store.order(order_id(*n)).await.unwrap();
        let order = found.unwrap_or_else(|| panic!("order {n} is lost")).order;
        assert!(order.version >= *version, "order {n} went back");
        // A commit is there as a whole.
        let timeline = store.timeline(order.id).await.unwrap();
        assert_eq!(timeline.last().unwrap().version, order.version);
        assert_eq!(timeline.len() as u64, order.version);
    }
    store.close().await;
}

/// The limit of a file's size stands in for a full disk: SQLite meets it in the same write.
#[cfg(unix)]
#[test]
fn a_full_disk_refuses_and_forgets_nothing() {
    const TEST: &str = "a_full_disk_refuses_and_forgets_nothing";
    if let Some(file) = child_file() {
        block_on(fill_the_disk(file));
        return;
    }
    let folder = Folder::new();
    let child = Command::new("sh")
        .arg("-c")
        .arg(r#"trap "" XFSZ; ulimit -S -f 4096; exec "$0" "$@""#)
        .args(again(TEST))
        .env(CHILD_FILE, folder.file())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&child.stderr)
    );
    assert!(said.contains("the disk was full"), "{said}");
    block_on(async {
        let store = folder.store();
        assert!(store.order(order_id(1)).await.unwrap().is_some());
        assert!(store.order(order_id(999_999)).await.unwrap().is_some());
        store.close().await;
    });
}

#[cfg(unix)]
async fn fill_the_disk(file: PathBuf) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let store = SqliteStore::open(file, options()).unwrap();
    let ballast = |n| Write::Personal {
        order: order_id(n),
        slot: "order".to_owned(),
        sealed: Sealed(vec![7; 20_000]),
    };
    let create = |n| Transaction {
        order: Some(creation(n)),
        writes: vec![ballast(n)],
    };
    let mut n = 1;
    let error = loop {
        match store.commit(vec![create(n), create(n + 1)]).await {
            Ok(verdicts) => assert_eq!(verdicts, vec![Ok(()), Ok(())]),
            Err(error) => break error,
        }
        n += 2;
        assert!(n < 10_000, "the disk never filled");
    };
    assert!(error.certainly_not_written(), "{error}");
    // Nothing of the failed call, all of the others; and it stays so while there is no space.
    for _ in 0..3 {
        for there in 1..n {
            assert!(store.order(order_id(there)).await.unwrap().is_some());
        }
        for absent in [n, n + 1] {
            assert!(store.order(order_id(absent)).await.unwrap().is_none());
        }
        let again = store.commit(vec![create(n), create(n + 1)]).await;
        assert!(again.is_err_and(|error| error.certainly_not_written()));
    }
    println!("the disk was full after {n} orders");
    let Rlimit { maximum, .. } = getrlimit(Resource::Fsize);
    let freed = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Fsize, freed).unwrap();
    for n in [n, 999_999] {
        let verdicts = store.commit(vec![create(n)]).await.unwrap();
        assert_eq!(verdicts, vec![Ok(())]);
    }
    store.close().await;
}
