//! What the store refuses, whoever asks.

use enrollpay::store::{Rejection, Store as _, Write};
use rusqlite::Connection;

use super::bench::*;
use crate::store::sample::*;

fn refusal(connection: &Connection, sql: &str) -> String {
    connection.execute_batch(sql).expect_err(sql).to_string()
}

#[tokio::test]
async fn an_event_keeps_its_bytes_and_an_erased_one_rests() {
    let bench = Bench::new();
    let keys = sealer(&[OLD]);
    bench.paid(1, &keys).await;
    let raw = Connection::open(bench.file()).unwrap();
    for frozen in ["kind = 'order.closed'", "version = 9", "created_at = 1"] {
        let sql = format!("UPDATE outbox SET {frozen}");
        assert!(refusal(&raw, &sql).contains("E4"), "{frozen}");
    }
    let other = "UPDATE outbox SET body_digest = zeroblob(32)";
    assert!(refusal(&raw, other).contains("E4"));
    assert!(refusal(&raw, "UPDATE outbox SET body_digest = X''").contains("E4"));
    assert!(
        refusal(&raw, "UPDATE outbox SET body = X''").contains("E2"),
        "on its way"
    );
    bench.delivered(1).await;
    // Sealed anew: the ciphertext is another one.
    raw.execute_batch("UPDATE outbox SET body = X'0203'")
        .unwrap();
    raw.execute_batch("UPDATE outbox SET body = X''").unwrap();
    let resent = "UPDATE outbox SET state = 'pending', next_at = 1";
    assert!(refusal(&raw, resent).contains("E4"));
    assert!(refusal(&raw, "UPDATE outbox SET body = X'0203'").contains("E4"));
    raw.execute_batch("UPDATE outbox SET note = 'a note may change'")
        .unwrap();

    let order = bench.step(creation(2)).await;
    let mut closed = close(&order);
    let mut entry = an_event(&keys, &closed.order, 2);
    entry.body_digest = None;
    closed.outbox.push(entry);
    let verdict = bench.commit(alone(closed)).await;
    assert!(matches!(verdict, Err(Rejection::RuleBroken { rule }) if rule.contains("E4")));
}

#[tokio::test]
async fn a_snapshot_loses_its_payer_once_and_nothing_else() {
    let bench = Bench::new();
    bench.furnish(&sealer(&[OLD])).await;
    bench.step(creation(2)).await;
    let raw = Connection::open(bench.file()).unwrap();
    let unmask = "snapshot = json_set(snapshot, '$.payer_masked',
        json('{\"name\":null,\"id_number\":null,\"phone\":null}'))";
    let erase = |more: &str, order: u32| {
        format!(
            "UPDATE orders SET erased_at = 1, {unmask}{more} WHERE id = '{}'",
            order_id(order)
        )
    };
    for (sql, why) in [
        (format!("UPDATE orders SET {unmask}"), "without saying when"),
        (erase("", 2), "of an open order"),
        (
            "UPDATE orders SET erased_at = 1".to_owned(),
            "with the payer left in it",
        ),
        (
            format!(
                "UPDATE orders SET erased_at = 1,
                     snapshot = json_set(snapshot, '$.subject', 'another') WHERE id = '{}'",
                order_id(1)
            ),
            "changing what was paid for",
        ),
        (
            "UPDATE orders SET purpose = NULL".to_owned(),
            "of its purpose",
        ),
    ] {
        assert!(refusal(&raw, &sql).contains("frozen snapshot"), "{why}");
    }
    raw.execute_batch(&erase("", 1)).unwrap();
    assert!(
        refusal(&raw, &erase("", 1)).contains("frozen snapshot"),
        "twice"
    );
}

#[tokio::test]
async fn evidence_names_an_order_only_where_there_is_one() {
    let bench = Bench::new();
    let keys = sealer(&[OLD]);
    bench.furnish(&keys).await;
    bench
        .write(evidence(
            &keys,
            "WAIT_BUYER_PAY",
            "4201",
            Some(order_id(77)),
            1,
        ))
        .await;
    let order_of = async |reference| {
        let found = bench.store.evidence(&account(), reference).await.unwrap();
        found.unwrap().order
    };
    assert_eq!(order_of("4200").await, Some(order_id(1)));
    assert_eq!(order_of("4201").await, None);
    let unknown = Write::EvidenceErased {
        account: account(),
        reference: "4299".to_owned(),
    };
    assert!(bench.commit(writes([unknown])).await.is_err());
}

/// The first schema's rows are counted when the store is brought up to date.
#[test]
fn a_store_of_the_first_schema_is_counted_when_it_is_migrated() {
    let raw = Connection::open_in_memory().unwrap();
    let migration = |sql: &str| raw.execute_batch(sql).unwrap();
    migration(include_str!(
        "../../../src/store/sqlite/migrations/V1__orders.sql"
    ));
    migration(
        "INSERT INTO orders VALUES ('ord_1', 'mch_1', '1', 1, 'unpaid', 1, 1, NULL,
             zeroblob(16), NULL, '{}', '{}');
         INSERT INTO personal VALUES ('ord_1', 'order', X'01AA'), ('ord_1', 'payer:1', X'02AA');
         INSERT INTO outbox VALUES ('evt_1', 'mch_1', 'ord_1', 1, 'order.closed', X'01AA', 1,
             'delivered', 0, NULL, '', 1);
         INSERT INTO idempotency VALUES ('mch_1', 'k', zeroblob(32), 1, NULL, NULL);",
    );
    for sql in [
        include_str!("../../../src/store/sqlite/migrations/V2__refunds.sql"),
        include_str!("../../../src/store/sqlite/migrations/V3__reconciliation.sql"),
        include_str!("../../../src/store/sqlite/migrations/V4__erasure.sql"),
    ] {
        migration(sql);
    }
    let mut counted = raw
        .prepare("SELECT place, key, held FROM sealed_counts ORDER BY place, key")
        .unwrap();
    let counted: Vec<(String, Vec<u8>, i64)> = counted
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(
        counted,
        [
            ("outbox".to_owned(), vec![1], 1),
            ("personal".to_owned(), vec![1], 1),
            ("personal".to_owned(), vec![2], 1),
        ]
    );
}
