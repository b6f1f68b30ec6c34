//! The list of every store, on PostgreSQL, and what only its reads can show: which indexes they use,
//! what becomes of a connection that dies, of a server that falls silent, of rows that make no sense.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use enrollpay::order::{AccountId, Status, WebhookType};
use enrollpay::sealing::TokenHash;
use enrollpay::store::bills::{BillFilter, BillStatus, Bills as _};
use enrollpay::store::personal::{PersonalStore as _, SealedTable};
use enrollpay::store::postgres::{Options, PostgresStore};
use enrollpay::store::reconciliation::{RowFilter, Verdict, Window};
use enrollpay::store::{
    Desk as _, OrderFilter, Owned, Reconciliations as _, Store, StoreError, TokenTarget, Write,
};

use super::Place;
use super::bills::bill_id;
use super::sample::*;
use super::suite::{commit, commit_step};
use crate::support::eventually;
use crate::support::postgres::{Database, Postgres};

#[async_trait]
impl Place for Database {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(opened(self).await)
    }
}

pub async fn opened(database: &Database) -> PostgresStore {
    let options = Options {
        general: 4,
        callbacks: 2,
        ..Options::default()
    };
    PostgresStore::open(&database.url(), options).await.unwrap()
}

super::store_suite!(Postgres::shared().database());

/// A server that writes down the plan of every statement, and takes a whole table or sorts only where
/// it has no other way.
fn telling_server() -> Arc<Postgres> {
    Postgres::private_with(&[
        ("session_preload_libraries", "auto_explain"),
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_nested_statements", "on"),
        ("enable_seqscan", "off"),
        ("enable_sort", "off"),
        ("enable_bitmapscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
    ])
}

/// The plans of what `ask` asks that look at every row of a table, or sort.
async fn poor_plans(
    server: &Postgres,
    ask: impl AsyncFnOnce(),
    few: impl Fn(&str) -> bool,
) -> Vec<String> {
    let before = server.control().log().len();
    ask().await;
    let log = server.control().log();
    let plans: Vec<&str> = log[before..].split("LOG:  duration: ").skip(1).collect();
    assert!(!plans.is_empty(), "the server tells no plans");
    let poor = |line: &&str| {
        let line = line.trim_start().trim_start_matches("->").trim_start();
        (line.starts_with("Seq Scan on ") || line.starts_with("Sort Key: ")) && !few(line)
    };
    plans
        .into_iter()
        .filter(|plan| plan.lines().any(|line| poor(&line)))
        .map(str::to_owned)
        .collect()
}

fn nothing(_: &str) -> bool {
    false
}

#[tokio::test]
async fn the_planner_is_asked_in_earnest() {
    let server = telling_server();
    let database = server.database();
    let store = opened(&database).await;
    let by_amount = async || {
        database.sql("SELECT id FROM orders WHERE amount = 1");
    };
    assert_eq!(poor_plans(&server, by_amount, nothing).await.len(), 1);
    store.close().await;
}

#[tokio::test]
async fn what_a_sweep_repeats_is_answered_from_an_index() {
    let server = telling_server();
    let database = server.database();
    let store = opened(&database).await;
    let owned = Owned::Some {
        shards: 16,
        mine: Arc::new([1, 2, 3]),
    };
    let (merchant, order) = (merchant_id(1), order_id(1));
    let sweeps = async || {
        for owned in [&owned, &Owned::All] {
            store.due(at(1), owned, 9).await.unwrap();
            store.outbox_due(at(1), owned, 9, 3).await.unwrap();
        }
        store.versions(&[order, order_id(2)]).await.unwrap();
        store.order(order).await.unwrap();
        store.order_by_number(merchant, "1").await.unwrap();
        store.paid_order_for(merchant, 1, "p").await.unwrap();
        store.timeline(order).await.unwrap();
        store.ledger(order).await.unwrap();
        store.personal(order, "order").await.unwrap();
        store.outbox_gauge().await.unwrap();
        store.outbox_event(event_id(1)).await.unwrap();
        store.outbox_undelivered(false, 9).await.unwrap();
        for kinds in [&[][..], &[WebhookType::OrderPaid]] {
            store.events_after(merchant, 1, kinds, 9).await.unwrap();
        }
        store.refunds_open(9).await.unwrap();
        store.refund_row(merchant, "1").await.unwrap();
        store.odd_captures(9).await.unwrap();
        store.evidence_open(9).await.unwrap();
        store.audit(1, 9).await.unwrap();
        store.forget(at(1), at(1)).await.unwrap();
        store.orders_with_people(None, at(1), 9).await.unwrap();
        store.people_of(order).await.unwrap();
        store.loose_evidence(at(1), 9).await.unwrap();
        store.bills_with_people(None, at(1), 9).await.unwrap();
        store.bills_by_id(merchant, &[bill_id(1)]).await.unwrap();
        let numbers = ["1".to_owned()];
        store.bills_by_number(merchant, &numbers).await.unwrap();
        store.payer_link(hash(1)).await.unwrap();
        for table in [
            SealedTable::Personal,
            SealedTable::Outbox,
            SealedTable::Idempotency,
            SealedTable::Evidence,
            SealedTable::Bills,
        ] {
            store.older_values(table, 1, 0).await.unwrap();
        }
    };
    // One row; and the few that each merchant's index gave, in turn.
    let few = |line: &str| line.contains(" outbox_base ") || line.contains("(row_number() OVER ");
    assert_eq!(poor_plans(&server, sweeps, few).await, Vec::<String>::new());

    let account = AccountId::new("school-wechat");
    let window = Window {
        from: at(1),
        until: at(9),
    };
    let day = jiff::civil::date(2026, 11, 24);
    let reconciliation = async || {
        for after in [None, Some((at(2), "42".into()))] {
            let captures = store.captures_between(&account, window, after.clone(), 9);
            captures.await.unwrap();
            let refunds = store.refunds_between(&account, window, after, 9);
            refunds.await.unwrap();
        }
        let names = || vec!["1".into(), "2".into()];
        store.captures_known(&account, names()).await.unwrap();
        store.refunds_known(&account, names()).await.unwrap();
        store
            .reconciled_elsewhere(&account, day, names())
            .await
            .unwrap();
        for account in [None, Some(&account)] {
            let runs = store.reconciliation_runs(account, day, day);
            runs.await.unwrap();
        }
        for verdict in [None, Some(Verdict::Matched), Some(Verdict::OnlyHere)] {
            for merchant in [None, Some(merchant)] {
                let filter = RowFilter {
                    account: account.clone(),
                    date: day,
                    run: 1,
                    merchant,
                    verdict,
                    after: 0,
                    limit: 9,
                };
                store.reconciliation_rows(&filter).await.unwrap();
            }
        }
    };
    let poor = poor_plans(&server, reconciliation, nothing).await;
    assert_eq!(poor, Vec::<String>::new());
    store.close().await;
}

#[tokio::test]
async fn what_the_console_asks_is_answered_from_an_index() {
    let server = telling_server();
    let database = server.database();
    let store = opened(&database).await;
    let pages = async || {
        store.operator("li.wei").await.unwrap();
        store.operators().await.unwrap();
        store.session(TokenHash([1; 16])).await.unwrap();
        store.orders_of_transaction("4200", 9).await.unwrap();
        store.outbox_of(order_id(1)).await.unwrap();
        store.audit_before(9, 9).await.unwrap();
    };
    // The few rows that an index gave, in turn or each once.
    let few = |line: &str| line.starts_with("Sort Key: ");
    assert_eq!(poor_plans(&server, pages, few).await, Vec::<String>::new());
    store.close().await;
}

#[tokio::test]
async fn a_list_of_orders_is_read_from_an_index_whatever_is_asked_for() {
    let server = telling_server();
    let database = server.database();
    let store = opened(&database).await;
    let everything = async || {
        for asked in 0..32_u32 {
            let keeps = |bit: u32| asked & (1 << bit) != 0;
            let filter = OrderFilter {
                merchant: merchant_id(1),
                merchant_order_no: keeps(0).then(|| "1".to_owned()),
                payer_index: keeps(1).then_some(1),
                status: keeps(2).then_some(Status::Paid),
                created_after: keeps(3).then(|| at(1)),
                before: keeps(4).then(|| order_id(1)),
                limit: 1,
            };
            assert_eq!(store.orders(&filter).await.unwrap().len(), 0);
        }
        for asked in 0..8_u32 {
            let keeps = |bit: u32| asked & (1 << bit) != 0;
            for status in BillStatus::ALL.map(Some).into_iter().chain([None]) {
                let filter = BillFilter {
                    merchant: merchant_id(1),
                    payer_index: keeps(0).then_some(1),
                    status,
                    merchant_bill_no: keeps(1).then(|| "1".to_owned()),
                    before: keeps(2).then(|| bill_id(1)),
                    limit: 1,
                    now: at(1),
                };
                assert_eq!(store.bills(&filter).await.unwrap().len(), 0);
            }
        }
    };
    // What has one number is one row.
    let few =
        |line: &str| line.starts_with("Sort Key: id ") || line.starts_with("Sort Key: bills.id ");
    let poor = poor_plans(&server, everything, few).await;
    assert_eq!(poor, Vec::<String>::new());
    store.close().await;
}

#[tokio::test]
async fn a_read_survives_the_death_of_its_connection() {
    let database = Postgres::shared().database();
    let store = opened(&database).await;
    commit_step(&(Arc::new(opened(&database).await) as _), creation(1))
        .await
        .unwrap();
    let found = async || store.order(order_id(1)).await.unwrap().is_some();
    assert!(found().await);
    // Everybody's connections but psql's own, without a word to our side beforehand.
    for _ in 0..3 {
        database.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        );
        assert!(found().await);
    }
}

#[tokio::test]
async fn a_silent_server_is_not_waited_for() {
    let server = Postgres::private();
    let database = server.database();
    let store = opened(&database).await;
    assert!(store.order(order_id(1)).await.unwrap().is_none());
    server.control().pause();
    let asked = Instant::now();
    let answer = store.order(order_id(1)).await;
    assert!(matches!(answer, Err(StoreError::Unavailable { .. })));
    assert!(asked.elapsed() < Duration::from_secs(12));
    server.control().resume();
    assert!(store.order(order_id(1)).await.unwrap().is_none());

    server.control().kill9();
    let answer = store.order(order_id(1)).await;
    assert!(matches!(answer, Err(StoreError::Unavailable { .. })));
    server.control().restart();
    assert!(store.order(order_id(1)).await.unwrap().is_none());
    store.ping().await.unwrap();
    store.close().await;
}

/// Rows are parsed, not trusted: rules that were switched off and edits by hand show as what they are.
#[tokio::test]
async fn a_row_that_makes_no_sense_is_named() {
    let database = Postgres::shared().database();
    let store: Arc<dyn Store> = Arc::new(opened(&database).await);
    let mut write = creation(1);
    write.outbox = vec![outbox(&write.order, 1)];
    let target = TokenTarget {
        order: order_id(1),
        attempt: None,
    };
    let token = Write::Token {
        kind: enrollpay::sealing::TokenKind::Pay,
        hash: hash(1),
        target,
    };
    let mut transaction = alone(write);
    transaction.writes.push(token);
    commit(&store, transaction).await.unwrap();
    let inconsistent = |table: &str, answer: Result<(), StoreError>| match answer {
        Err(StoreError::Inconsistent { table: found, .. }) => assert_eq!(found, table),
        other => panic!("{table}: {other:?}"),
    };
    database.sql(
        "SET session_replication_role = replica;
         UPDATE orders SET version = 7;
         UPDATE outbox SET kind = 'order.lost';
         UPDATE tokens SET attempt = 5000",
    );
    inconsistent("orders", store.order(order_id(1)).await.map(drop));
    let event = store.outbox_event(event_id(1)).await;
    inconsistent("outbox", event.map(drop));
    let due = store.outbox_due(at(999), &Owned::All, 9, 9).await;
    inconsistent("outbox", due.map(drop));
    let token = store
        .token(enrollpay::sealing::TokenKind::Pay, hash(1))
        .await;
    inconsistent("tokens", token.map(drop));
}

#[tokio::test]
async fn the_stores_clock_is_the_servers() {
    let database = Postgres::shared().database();
    let store = opened(&database).await;
    let told = || {
        let seconds = database.sql("SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)");
        seconds.parse::<i64>().unwrap()
    };
    let before = told();
    let now = store.ping().await.unwrap().as_millis();
    assert!((before..=told()).contains(&now));
}

/// Two writers at once: the slower one's event, written first and committed last, does not come before
/// a cursor that was given out meanwhile.
#[tokio::test]
async fn an_event_waits_for_those_that_may_come_before_it() {
    let database = Postgres::shared().database();
    let store: Arc<dyn Store> = Arc::new(opened(&database).await);
    let url = database.url();
    let (slow, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    slow.batch_execute("BEGIN; SELECT pg_current_xact_id()")
        .await
        .unwrap();

    let mut write = creation(1);
    write.outbox = vec![outbox(&write.order, 2)];
    commit_step(&store, write).await.unwrap();
    let told = async || {
        let found = store.events_after(merchant_id(1), 0, &[], 9).await.unwrap();
        found
            .into_iter()
            .map(|(_, event)| event.id)
            .collect::<Vec<_>>()
    };
    assert_eq!(told().await, vec![]);
    let twin = format!(
        "INSERT INTO outbox SELECT outbox_place(), '{}', merchant, order_id, version, kind, body,
             body_digest, created_at, state, tries, next_at, note, changed_at, shard_hash
         FROM outbox",
        event_id(1)
    );
    slow.batch_execute(&twin).await.unwrap();
    assert_eq!(told().await, vec![]);
    slow.batch_execute("COMMIT").await.unwrap();
    let both = eventually("both events", Duration::from_secs(20), async || {
        Some(told().await).filter(|told| told.len() == 2)
    });
    assert_eq!(both.await, [event_id(1), event_id(2)]);
}
