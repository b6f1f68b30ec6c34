//! Rotation on the store itself: every kind of value, and what happens beside it.

use std::time::Duration;

use enrollpay::store::personal::{PersonalStore as _, SealedCount, SealedTable};
use enrollpay::store::{Store as _, Write};
use rusqlite::Connection;

use super::bench::*;
use crate::store::sample::*;

const AN_HOUR: Duration = Duration::from_hours(1);

#[tokio::test]
async fn every_value_comes_under_the_newest_key_and_opens_without_the_older() {
    let bench = Bench::new();
    let order = bench.furnish(&sealer(&[OLD])).await;
    // An event of the first schema: nobody had thought of a digest.
    let raw = Connection::open(bench.file()).unwrap();
    raw.execute_batch("DROP TRIGGER outbox_digest_kept; UPDATE outbox SET body_digest = X'';")
        .unwrap();
    let count = |table, key, values| SealedCount { table, key, values };
    let everything = |key| {
        vec![
            count(SealedTable::Evidence, key, 1),
            count(SealedTable::Idempotency, key, 1),
            count(SealedTable::MerchantKeys, key, 1),
            count(SealedTable::Outbox, key, 1),
            count(SealedTable::Personal, key, 4),
            count(SealedTable::Merchants, key, 2),
        ]
    };
    assert_eq!(bench.store.sealed_counts().await.unwrap(), everything(1));

    let both = sealer(&[OLD, NEW]);
    let job = bench.reseal(&both);
    assert_eq!(job.left().await.unwrap(), 10);
    let done = job.run(AN_HOUR).await.unwrap();
    assert_eq!((done.resealed, done.unreadable), (10, 0));
    assert_eq!((done.left, done.finished), (0, true));
    assert_eq!(bench.store.sealed_counts().await.unwrap(), everything(2));
    let again = job.run(AN_HOUR).await.unwrap();
    assert_eq!((again.resealed, again.left), (0, 0));

    let newest = sealer(&[NEW]);
    for (name, column, row) in slots() {
        let kept = slot(&bench, &name).await.unwrap();
        let opened = newest.open(place("personal", column, &row), &kept).unwrap();
        assert_eq!(opened, name.as_bytes());
    }
    let event = bench
        .store
        .outbox_event(event_id(1))
        .await
        .unwrap()
        .unwrap();
    let id = event_id(1).to_string();
    let body = newest
        .open(place("outbox", "body", &id), &event.body)
        .unwrap();
    assert_eq!(event.body_digest, Some(newest.body_digest(&body)));
    assert_eq!(event, {
        let mut before = an_event(&newest, &order, 1);
        before.body = event.body.clone();
        before.state = event.state;
        before.tries = event.tries;
        before.next_at = event.next_at;
        before.note = event.note.clone();
        before
    });
    let key = bench
        .store
        .idempotency(merchant_id(1), "key-1")
        .await
        .unwrap();
    let (_, answer) = key.unwrap().answer.unwrap();
    let row = format!("{}/key-1", merchant_id(1));
    assert!(
        newest
            .open(place("idempotency", "answer", &row), &answer)
            .is_ok()
    );
    let notice = bench
        .store
        .evidence(&account(), "4200")
        .await
        .unwrap()
        .unwrap();
    let row = format!("{}/4200", account());
    assert!(
        newest
            .open(place("evidence", "body", &row), &notice.body)
            .is_ok()
    );
    let merchant = bench.store.merchant(merchant_id(1)).await.unwrap().unwrap();
    let row = merchant.id.to_string();
    let secrets: Vec<_> = merchant
        .webhook_secrets
        .iter()
        .map(|secret| newest.open(place("merchants", "webhook_secret", &row), &secret.sealed))
        .collect();
    assert_eq!(secrets, [Ok(b"whsec_2".to_vec()), Ok(b"whsec_1".to_vec())]);
    let key = bench.store.key(key_id(1)).await.unwrap().unwrap();
    let row = key_id(1).to_string();
    assert!(
        newest
            .open(place("merchant_keys", "secret", &row), &key.sealed_secret)
            .is_ok()
    );
}

#[tokio::test]
async fn what_was_written_meanwhile_is_not_overwritten() {
    let bench = Bench::new();
    bench.furnish(&sealer(&[OLD])).await;
    let both = sealer(&[OLD, NEW]);
    let seen = bench
        .store
        .older_values(SealedTable::Personal, 2, 0)
        .await
        .unwrap();
    assert_eq!((seen.values.len(), seen.next), (4, None));
    let (cell, was) = seen.values[0].clone();
    // A page was read; before its bite is written, somebody replaces the value.
    let fresh = both.seal(
        place("personal", "order", &order_id(1).to_string()),
        b"fresh",
    );
    bench
        .write(Write::Personal {
            order: order_id(1),
            slot: "order".to_owned(),
            sealed: fresh.clone(),
        })
        .await;
    let now = cell.with_place(|place| both.reseal(place, &was)).unwrap();
    bench
        .write(Write::Resealed(enrollpay::store::personal::Resealed {
            cell,
            was,
            now: now.unwrap(),
            digest: None,
        }))
        .await;
    assert_eq!(slot(&bench, "order").await, Some(fresh));
}

#[tokio::test]
async fn what_opens_under_no_key_is_left_and_told() {
    let bench = Bench::new();
    bench.furnish(&sealer(&[OLD])).await;
    let damaged = Write::Personal {
        order: order_id(1),
        slot: "order".to_owned(),
        sealed: enrollpay::sealing::Sealed(vec![1; 40]),
    };
    bench.write(damaged).await;
    let job = bench.reseal(&sealer(&[OLD, NEW]));
    let done = job.run(AN_HOUR).await.unwrap();
    assert_eq!((done.resealed, done.unreadable, done.left), (9, 1, 1));
    assert_eq!(slot(&bench, "order").await.unwrap().0, vec![1; 40]);
}

#[tokio::test]
async fn a_run_goes_on_where_the_last_one_stopped() {
    let bench = Bench::new();
    let old = sealer(&[OLD]);
    for n in 1..=1_200 {
        let mut transaction = alone(creation(n));
        transaction.writes.push(Write::Personal {
            order: order_id(n),
            slot: "order".to_owned(),
            sealed: old.seal(place("personal", "order", &order_id(n).to_string()), b"x"),
        });
        assert_eq!(bench.commit(transaction).await, Ok(()));
    }
    let both = sealer(&[OLD, NEW]);
    let job = bench.reseal(&both);
    let first = job.run(Duration::ZERO).await.unwrap();
    assert_eq!((first.resealed, first.left), (500, 700));
    assert!(!first.finished);
    // A killed process has forgotten how far it was.
    let after_a_kill = bench.reseal(&both);
    let second = after_a_kill.run(Duration::ZERO).await.unwrap();
    assert_eq!((second.resealed, second.left), (0, 700));
    let mut done = 0;
    loop {
        let progress = job.run(Duration::ZERO).await.unwrap();
        done += progress.resealed;
        if progress.finished {
            assert_eq!(progress.left, 0);
            break;
        }
    }
    assert_eq!(done, 700);
}

#[tokio::test]
async fn the_counts_follow_every_write() {
    let bench = Bench::new();
    let old = sealer(&[OLD]);
    let new = sealer(&[OLD, NEW]);
    bench.furnish(&old).await;
    let count = async |table, key| {
        let counts = bench.store.sealed_counts().await.unwrap();
        let found = counts
            .iter()
            .find(|count| (count.table, count.key) == (table, key));
        found.map_or(0, |count| count.values)
    };
    // Replaced under another key.
    let sealed = new.seal(place("personal", "order", &order_id(1).to_string()), b"x");
    bench
        .write(Write::Personal {
            order: order_id(1),
            slot: "order".to_owned(),
            sealed,
        })
        .await;
    assert_eq!(count(SealedTable::Personal, 1).await, 3);
    assert_eq!(count(SealedTable::Personal, 2).await, 1);
    // Forgotten by age.
    bench.store.forget(at(0), at(2)).await.unwrap();
    assert_eq!(count(SealedTable::Idempotency, 1).await, 0);
    // Erased.
    let order = bench.store.order(order_id(1)).await.unwrap().unwrap().order;
    bench
        .write(Write::PeopleErased {
            order: order.id,
            version: order.version,
            payer_index: 9,
            at: at(9),
        })
        .await;
    for table in [
        SealedTable::Personal,
        SealedTable::Outbox,
        SealedTable::Evidence,
    ] {
        assert_eq!(
            count(table, 1).await + count(table, 2).await,
            0,
            "{table:?}"
        );
    }
    assert_eq!(count(SealedTable::MerchantKeys, 1).await, 1);
}
