//! Sequences that nobody thought of, asked of SQLite, of PostgreSQL and of a reference made of maps: the
//! same verdicts, and the same answers to every question afterwards.
//!
//! All cases share one file and one database, each with ids of its own. `ENROLLPAY_MACHINE=500` runs so
//! many; otherwise as many as fit the time.

mod reference;
mod script;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use enrollpay::clock::ManualClock;
use enrollpay::order::{AccountId, OrderId};
use enrollpay::store::sqlite::{Options, SqliteStore};
use enrollpay::store::{OrderFilter, Owned, Rejection, Store, StoreError};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tempfile::TempDir;

use super::postgres_suite::opened;
use super::sample::*;
use crate::support::eventually;
use crate::support::postgres::Postgres;
use reference::Reference;
use script::{Call, KEYS, MERCHANTS, ORDERS, SHARDS, calls};

/// Well within the patience of the runner.
const TIME: Duration = Duration::from_secs(40);
/// Ids that one case may use up.
const IDS: u32 = 1_000;

/// The two stores under test.
struct Stores {
    sqlite: Arc<dyn Store>,
    postgres: Arc<dyn Store>,
}

type Checked<T = ()> = Result<T, TestCaseError>;

fn agree<T: PartialEq + std::fmt::Debug>(what: &str, one: &T, other: &T) -> Checked {
    if one == other {
        return Ok(());
    }
    Err(TestCaseError::fail(format!(
        "{what}: {one:?}\n  and {other:?}"
    )))
}

/// Rules are named in a store's own words.
fn normal(verdict: &Result<(), Rejection>) -> Result<(), Rejection> {
    match verdict {
        Err(Rejection::RuleBroken { .. }) => Err(Rejection::RuleBroken {
            rule: String::new(),
        }),
        other => other.clone(),
    }
}

impl Stores {
    /// The verdicts, by their names.
    async fn run(&self, base: u32, calls: &[Call]) -> Checked<Vec<&'static str>> {
        let mut reference = Reference::new(base);
        let mut names = Vec::new();
        for call in calls {
            let transactions = reference.transactions(call);
            if transactions.is_empty() {
                continue;
            }
            let expected: Vec<_> = transactions
                .iter()
                .map(|transaction| reference.commit(transaction))
                .collect();
            let name = |verdict: &Result<(), Rejection>| match verdict {
                Ok(()) => "accepted",
                Err(rejection) => rejection.reason(),
            };
            names.extend(expected.iter().map(name));
            for (name, store) in [("SQLite", &self.sqlite), ("PostgreSQL", &self.postgres)] {
                let verdicts = answered(store.commit(transactions.clone()).await)?;
                let verdicts: Vec<_> = verdicts.iter().map(normal).collect();
                agree(&format!("{name}, expected, {call:?}"), &verdicts, &expected)?;
            }
        }
        self.story(&reference).await?;
        self.sums().await?;
        Ok(names)
    }

    /// What both tell of this case's orders, and what the reference knows of them.
    async fn story(&self, reference: &Reference) -> Checked {
        let (sqlite, postgres) = (&self.sqlite, &self.postgres);
        /// Asks both, and gives the one answer.
        macro_rules! both {
            ($($call:tt)+) => {{
                let one = answered(sqlite.$($call)+.await)?;
                let other = answered(postgres.$($call)+.await)?;
                agree(stringify!($($call)+), &one, &other)?;
                one
            }};
        }
        let base = reference.base;
        let ids: Vec<OrderId> = (1..=ORDERS).map(|n| order_id(base + n)).collect();
        for (n, id) in (1..=ORDERS).zip(&ids) {
            let found = (
                answered(sqlite.order(*id).await)?,
                answered(postgres.order(*id).await)?,
            );
            let found = [found.0, found.1].map(|found| found.map(|it| (it.order, it.snapshot)));
            agree("order", &found[0], &found[1])?;
            let order = found[0].as_ref().map(|(order, _)| order);
            agree("the order's state", &order, &reference.order(n))?;
            let timeline = both!(timeline(*id));
            let last = timeline.last().map(|entry| entry.version);
            agree("the last version", &last, &order.map(|order| order.version))?;
            both!(ledger(*id));
        }
        let mut versions = [
            answered(sqlite.versions(&ids).await)?,
            answered(postgres.versions(&ids).await)?,
        ];
        for found in &mut versions {
            found.sort_unstable();
        }
        agree("versions", &versions[0], &versions[1])?;
        for m in 1..=MERCHANTS {
            let merchant = merchant_id(base + m);
            let filter = OrderFilter {
                merchant,
                merchant_order_no: None,
                payer_index: None,
                status: None,
                created_after: None,
                before: None,
                limit: 10,
            };
            let listed = async |store: &Arc<dyn Store>| -> Checked<Vec<OrderId>> {
                let found = answered(store.orders(&filter).await)?;
                Ok(found.into_iter().map(|found| found.order.id).collect())
            };
            let (one, other) = (listed(sqlite).await?, listed(postgres).await?);
            agree("orders", &one, &other)?;
            agree("orders, expected", &one, &reference.orders_of(m))?;
            for n in 1..=ORDERS {
                let index = snapshot(base + n).payer_index;
                both!(paid_order_for(merchant, index, "ZK202104"));
                both!(refund_row(merchant, &format!("R-{n}")));
            }
            for key in 0..KEYS {
                let found = both!(idempotency(merchant, &format!("k{key}")));
                agree("key", &found.as_ref(), &reference.key(m, key))?;
            }
            // Positions are each store's own; the order of events is not.
            let expected = reference.events_of(m);
            for store in [sqlite, postgres] {
                let told = eventually("every event", Duration::from_secs(20), async || {
                    let found = store.events_after(merchant, 0, &[], 1_000).await.unwrap();
                    (found.len() >= expected.len()).then_some(found)
                })
                .await;
                let told: Vec<_> = told.into_iter().map(|(_, entry)| entry).collect();
                agree("events", &told, &expected)?;
            }
        }
        let shards = both!(shards());
        for s in 0..SHARDS {
            let shard = reference.shard(s);
            let found = shards.iter().find(|row| row.shard == shard.0);
            agree(
                "shard",
                &found.map(|row| (row.epoch, row.instance)),
                &shard.1,
            )?;
        }
        Ok(())
    }

    /// What both tell of everything so far.
    async fn sums(&self) -> Checked {
        macro_rules! both {
            ($($call:tt)+) => {{
                let one = answered(self.sqlite.$($call)+.await)?;
                let other = answered(self.postgres.$($call)+.await)?;
                agree(stringify!($($call)+), &one, &other)?;
            }};
        }
        let far = at(1_000_000_000);
        let some = Owned::Some {
            shards: 16,
            mine: (0..5).collect(),
        };
        for owned in [&Owned::All, &some] {
            both!(outbox_due(far, owned, 40, 3));
        }
        both!(due(far, &Owned::All, 40));
        both!(outbox_undelivered(true, 40));
        both!(outbox_undelivered(false, 40));
        both!(outbox_gauge());
        both!(refunds_open(40));
        both!(odd_captures(40));
        both!(ledger_totals());
        both!(count_by_status());
        both!(evidence(&AccountId::new("school-wechat"), "4200"));
        Ok(())
    }
}

fn answered<T>(answer: Result<T, StoreError>) -> Checked<T> {
    answer.map_err(|error| TestCaseError::fail(error.to_string()))
}

#[test]
fn every_store_does_the_same() {
    let cases: Option<u32> = std::env::var("ENROLLPAY_MACHINE")
        .ok()
        .map(|cases| cases.parse().expect("ENROLLPAY_MACHINE: a number of cases"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let folder = TempDir::new().unwrap();
    let database = Postgres::shared().database();
    let stores = runtime.block_on(async {
        let options = Options::new(Arc::new(ManualClock::at(START)));
        let file = folder.path().join("enrollpay.db");
        Stores {
            sqlite: Arc::new(SqliteStore::open(file, options).unwrap()),
            postgres: Arc::new(opened(&database).await),
        }
    });
    let begun = Instant::now();
    let case = Cell::new(0_u32);
    let verdicts = RefCell::new(BTreeMap::new());
    while cases.map_or(begun.elapsed() < TIME, |cases| case.get() < cases) {
        let config = Config {
            cases: 10,
            failure_persistence: None,
            ..Config::default()
        };
        let outcome = TestRunner::new(config).run(&calls(), |calls| {
            // Under other ids, also where the same is tried again to make a failure smaller.
            case.set(case.get() + 1);
            for verdict in runtime.block_on(stores.run(case.get() * IDS, &calls))? {
                *verdicts.borrow_mut().entry(verdict).or_insert(0_u32) += 1;
            }
            Ok(())
        });
        if let Err(error) = outcome {
            panic!("{error}");
        }
    }
    runtime.block_on(async {
        stores.sqlite.close().await;
        stores.postgres.close().await;
    });
    let verdicts = verdicts.into_inner();
    println!("{} cases: {verdicts:?}", case.get());
    // Sequences of nothing but refusals would tell little, and so would those that meet no rule. A busy
    // machine may not come to the rare ones.
    if case.get() < 60 {
        return;
    }
    for verdict in [
        "accepted",
        "version_moved",
        "fence_moved",
        "too_late",
        "merchant_order_no_taken",
        "nonce_replayed",
        "idempotency_key_taken",
        "already_claimed",
        "capture_known",
        "merchant_refund_no_taken",
        "epoch_moved",
        "delivery_moved",
        "rule_broken",
    ] {
        assert!(verdicts.contains_key(verdict), "never {verdict}");
    }
    assert!(verdicts["accepted"] > verdicts["version_moved"]);
}
