//! What only a server's writing can show: rights and rules, starts at the same time, answers that are
//! lost, pools that are exhausted.

mod bench;
mod differential;
mod outcome;

use std::sync::Arc;
use std::time::{Duration, Instant};

use enrollpay::order::WebhookType;
use enrollpay::store::postgres::{OpenError, Options, PostgresStore};
use enrollpay::store::{Rejection, Store, StoreError, Transaction, Write};
use tokio_postgres::{Client, NoTls};

use super::sample::*;
use super::suite::{commit_step, commit_write};
use crate::support::postgres::{Database, Postgres};

async fn opened(database: &Database, options: Options) -> Arc<dyn Store> {
    Arc::new(PostgresStore::open(&database.url(), options).await.unwrap())
}

async fn refused(database: &Database, options: Options) -> OpenError {
    let opened = PostgresStore::open(&database.url(), options).await;
    opened.expect_err("a database that is no store")
}

fn checking() -> Options {
    Options {
        migrate: false,
        ..Options::default()
    }
}

/// A session from outside.
async fn session(database: &Database) -> Client {
    let (client, connection) = tokio_postgres::connect(&database.url(), NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

/// The SQLSTATE that a statement ends with.
async fn state_of(client: &Client, sql: &str) -> Option<String> {
    let error = client.batch_execute(sql).await.err()?;
    error.code().map(|state| state.code().to_owned())
}

/// An order that is paid, and an operator's entry: a row in each of the tables that only grow.
async fn with_history(store: &Arc<dyn Store>) {
    let created = creation(1);
    commit_step(store, created.clone()).await.unwrap();
    let shown = start(&created.order);
    commit_step(store, shown.clone()).await.unwrap();
    let taken = claim(&shown.order, 7);
    commit_step(store, taken.clone()).await.unwrap();
    let mut paid = pay(&taken.order, "420001");
    paid.outbox = vec![outbox(&paid.order, 1)];
    commit_step(store, paid).await.unwrap();
    let entry = enrollpay::store::AuditEntry::new(at(1), "1000 root", "resend", "evt_1", "done");
    commit_write(store, Write::Audit(entry)).await.unwrap();
}

const GROWING: [(&str, &str); 5] = [
    ("order_events", "at = 0"),
    ("claims", "claimed_at = 0"),
    ("captures", "amount = 1"),
    ("ledger", "amount = 1"),
    ("audit", "outcome = ''"),
];

#[tokio::test]
async fn the_services_role_can_change_no_history() {
    let database = Postgres::shared().database();
    let role = format!("service_of_{}", database.url().rsplit('_').next().unwrap());
    let options = Options {
        service_role: Some(role.clone()),
        ..Options::default()
    };
    let error = refused(&database, options.clone()).await;
    assert!(matches!(error, OpenError::Role { .. }), "{error}");
    database.sql(&format!("CREATE ROLE {role}"));
    let store = opened(&database, options.clone()).await;
    with_history(&store).await;
    // Only looking is enough once the rights are given.
    let looking = Options {
        migrate: false,
        ..options
    };
    opened(&database, looking).await.close().await;

    let client = session(&database).await;
    client
        .batch_execute(&format!("SET ROLE {role}"))
        .await
        .unwrap();
    let denied = Some("42501".to_owned());
    for (table, change) in GROWING {
        for sql in [
            format!("UPDATE {table} SET {change}"),
            format!("DELETE FROM {table}"),
            format!("TRUNCATE {table} CASCADE"),
            format!("ALTER TABLE {table} DISABLE TRIGGER ALL"),
        ] {
            assert_eq!(state_of(&client, &sql).await, denied, "{sql}");
        }
    }
    for sql in [
        "UPDATE orders SET amount = 1",
        "DELETE FROM orders",
        "DELETE FROM refunds",
        "UPDATE outbox SET kind = ''",
        "DELETE FROM outbox",
        "UPDATE order_count_slots SET orders = 0",
        "UPDATE ledger_total_slots SET amount = 0",
        "UPDATE outbox_base SET base = 0",
        "CREATE TABLE mine (id int)",
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE sql AS ''",
    ] {
        assert_eq!(state_of(&client, sql).await, denied, "{sql}");
    }
    store.close().await;
    drop(client);
    database.sql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[tokio::test]
async fn the_rules_hold_for_the_owner_too() {
    let database = Postgres::shared().database();
    let store = opened(&database, Options::default()).await;
    with_history(&store).await;
    let client = session(&database).await;
    let rule = Some("EP001".to_owned());
    for (table, change) in GROWING {
        for sql in [
            format!("UPDATE {table} SET {change}"),
            format!("DELETE FROM {table}"),
            format!("TRUNCATE {table} CASCADE"),
        ] {
            assert_eq!(state_of(&client, &sql).await, rule, "{sql}");
        }
    }
    for sql in [
        "UPDATE orders SET status = 'unpaid'",
        "UPDATE orders SET amount = 1",
        "DELETE FROM orders",
        "UPDATE outbox SET kind = ''",
        "DELETE FROM outbox",
    ] {
        assert_eq!(state_of(&client, sql).await, rule, "{sql}");
    }
}

#[tokio::test]
async fn nodes_that_start_together_migrate_one_after_another() {
    let database = Postgres::shared().database();
    let url = database.url();
    let starts = (0..4).map(|_| PostgresStore::open(&url, Options::default()));
    for opened in futures_util::future::join_all(starts).await {
        opened.unwrap().close().await;
    }
    let version = PostgresStore::migrate(&url, Options::default()).await;
    let rows = database.sql("SELECT count(*), max(version) FROM refinery_schema_history");
    assert_eq!(rows, format!("{0}|{0}", version.unwrap()));
}

#[tokio::test]
async fn what_is_no_store_of_ours_is_refused() {
    let database = Postgres::shared().database();
    let error = refused(&database, checking()).await;
    let OpenError::SchemaBehind { found: 0, .. } = error else {
        panic!("{error}");
    };
    database.sql("CREATE TABLE theirs (id int)");
    let error = refused(&database, Options::default()).await;
    assert!(matches!(error, OpenError::NotOurs { .. }), "{error}");
    database.sql("DROP TABLE theirs");

    opened(&database, Options::default()).await.close().await;
    opened(&database, checking()).await.close().await;
    database.sql(
        "UPDATE refinery_schema_history SET version = 999
         WHERE version = (SELECT max(version) FROM refinery_schema_history)",
    );
    for options in [Options::default(), checking()] {
        let error = refused(&database, options).await;
        let OpenError::SchemaAhead { found: 999, .. } = error else {
            panic!("{error}");
        };
    }
}

#[tokio::test]
async fn a_server_that_loses_commits_is_refused() {
    let database = Postgres::shared().database();
    let name = database.url().rsplit('/').next().unwrap().to_owned();
    for (level, durable) in [
        ("off", false),
        ("local", false),
        ("remote_write", true),
        ("remote_apply", true),
    ] {
        database.sql(&format!(
            "ALTER DATABASE {name} SET synchronous_commit = {level}"
        ));
        let opened = PostgresStore::open(&database.url(), Options::default()).await;
        match opened {
            Ok(store) => {
                assert!(durable, "{level}");
                store.close().await;
            }
            Err(OpenError::NotDurable { setting, found, .. }) => {
                assert!(!durable, "{level}");
                assert_eq!((setting, found.as_str()), ("synchronous_commit", level));
            }
            Err(error) => panic!("{error}"),
        }
    }
    for setting in ["fsync", "full_page_writes"] {
        let server = Postgres::private_with(&[(setting, "off")]);
        let error = refused(&server.database(), Options::default()).await;
        assert!(error.to_string().contains(setting), "{error}");
    }
}

/// Events of a dump come before those that are written where it was restored, whatever the number of
/// transactions there.
#[tokio::test]
async fn events_go_on_after_those_of_a_restored_dump() {
    let database = Postgres::shared().database();
    let store = opened(&database, Options::default()).await;
    database.sql("UPDATE outbox_base SET base = 1000000000");
    let with_event = |n| {
        let mut write = creation(n);
        write.outbox = vec![outbox(&write.order, n)];
        write
    };
    commit_step(&store, with_event(1)).await.unwrap();
    store.close().await;
    database.sql("UPDATE outbox_base SET base = 0");

    let error = refused(&database, checking()).await;
    assert!(matches!(error, OpenError::Restored { .. }), "{error}");
    let store = opened(&database, Options::default()).await;
    commit_step(&store, with_event(2)).await.unwrap();
    let read = async || {
        let found = store.events_after(merchant_id(1), 0, &[WebhookType::OrderPaid], 9);
        let found = found.await.unwrap();
        found.iter().map(|(_, entry)| entry.id).collect::<Vec<_>>()
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    // Somebody else on the server may have a transaction open.
    while read().await != [event_id(1), event_id(2)] {
        assert!(Instant::now() < deadline, "{:?}", read().await);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn nonce(n: u32) -> Write {
    Write::Nonce {
        key: key_id(1),
        nonce: n.to_string(),
        at: START,
    }
}

/// F15: everything that is not a fact hangs, and money still comes into the books.
#[tokio::test]
async fn an_exhausted_pool_holds_up_no_capture() {
    let database = Postgres::shared().database();
    let options = Options {
        general: 2,
        callbacks: 2,
        ..Options::default()
    };
    let store = opened(&database, options).await;
    let shown = {
        let created = creation(1);
        commit_step(&store, created.clone()).await.unwrap();
        start(&created.order)
    };
    commit_step(&store, shown.clone()).await.unwrap();

    let blocker = session(&database).await;
    blocker
        .batch_execute("BEGIN; LOCK TABLE nonces IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let hanging: Vec<_> = (0..8)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let transaction = Transaction {
                    order: None,
                    writes: vec![nonce(n)],
                };
                store.commit(vec![transaction]).await
            })
        })
        .collect();
    while database.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") == "0" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let paid = pay(&shown.order, "420001");
    let began = Instant::now();
    commit_step(&store, paid).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(900));
    assert!(hanging.iter().all(|task| !task.is_finished()));
    // Whoever waits is told so in bounded time.
    for task in hanging {
        let answer = task.await.unwrap();
        let Err(StoreError::Unavailable { .. }) = answer else {
            panic!("{answer:?}");
        };
    }
    drop(blocker);
    commit_write(&store, nonce(99)).await.unwrap();
}

/// F17: a lock that cannot be had is tried for again, and what is written then is written once.
#[tokio::test]
async fn a_deadlock_is_tried_again() {
    let database = Postgres::shared().database();
    let store = opened(&database, Options::default()).await;
    let (one, two) = (creation(1), creation(2));
    commit_step(&store, one.clone()).await.unwrap();
    commit_step(&store, two.clone()).await.unwrap();
    let other = session(&database).await;
    let lock = |n: u32| {
        format!(
            "SELECT 1 FROM orders WHERE id = '{}' FOR UPDATE",
            order_id(n)
        )
    };
    other
        .batch_execute(&format!("BEGIN; {}", lock(2)))
        .await
        .unwrap();
    let committing = {
        let store = Arc::clone(&store);
        let both = vec![alone(start(&one.order)), alone(start(&two.order))];
        tokio::spawn(async move { store.commit(both).await })
    };
    while database.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") == "0" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Now each waits for the other.
    let _ = other.batch_execute(&lock(1)).await;
    let _ = other.batch_execute("ROLLBACK").await;
    assert_eq!(committing.await.unwrap().unwrap(), [Ok(()), Ok(())]);
    for n in [1, 2] {
        let stored = store.order(order_id(n)).await.unwrap().unwrap();
        assert_eq!(stored.order.version, 2);
    }
}

/// F9: nothing is taken for written while the server is away, and nobody need be restarted after.
#[tokio::test]
async fn a_server_that_dies_is_followed_when_it_is_back() {
    let server = Postgres::private();
    let database = server.database();
    let store = opened(&database, Options::default()).await;
    commit_step(&store, creation(1)).await.unwrap();
    server.control().kill9();
    let began = Instant::now();
    let answer = store.commit(vec![alone(creation(2))]).await;
    let Err(StoreError::Unavailable { .. }) = answer else {
        panic!("{answer:?}");
    };
    assert!(began.elapsed() < Duration::from_secs(5));
    server.control().restart();
    assert_eq!(commit_step(&store, creation(2)).await, Ok(()));
    assert_eq!(
        commit_step(&store, creation(1)).await,
        Err(Rejection::MerchantOrderNoTaken {
            existing: order_id(1)
        })
    );
}
