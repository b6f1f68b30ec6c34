//! Each invariant must be seen to break.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use enrollpay::clock::{Clock as _, SystemClock};
use enrollpay::order::state::SettleBy;
use enrollpay::order::{
    AttemptNumber, CaptureReport, Command, Event, EventId, Fen, OrderId, Outcome, PayerHash,
    RefundAnswer, RefundId, decide, evolve,
};
use enrollpay::sealing::{BodyDigest, Sealed};
use enrollpay::store::sqlite::{Options, SqliteStore};
use enrollpay::store::{
    Actor, DeliveryState, Fence, OrderWrite, OutboxEntry, Store as _, TimelineEntry, Transaction,
};
use rusqlite::Connection;
use serde_json::{Value, json};
use ulid::Ulid;

use super::check;
use super::kept::copy_of;
use super::rows::Rows;
use super::{Kept, check_invariants};
use crate::support::student::{Alipay, Wechat};
use crate::support::{Pair, World};

struct Sample {
    folder: tempfile::TempDir,
    store: std::path::PathBuf,
    books: Value,
}

/// What a merchant gave back of the payment, and what was paid where another amount was asked for.
const PART: i64 = 5_000;
const ODD: i64 = 13_999;

/// A store with a paid order, a part of which the merchant gave back; one whose late payment went
/// back; and one whose code ended and got an odd payment, which two people sent back.
async fn sample() -> Sample {
    let world = World::start(&[]).await;
    let paid = world.ask(Wechat).await;
    world.simulators.pay(&paid.trade).await;
    world.merchant.until_status(&paid.order, "paid").await;
    let cancelled = world.ask(Alipay).await;
    let path = format!("/v1/orders/{}/cancel", cancelled.order);
    world.merchant.insist(&path, &json!({}), "c1").await;
    world
        .merchant
        .until_status(&cancelled.order, "closed")
        .await;
    world.late_payment().await;
    world.rest().await;
    let mut books = world.simulators.books().await;
    world.gateway.kill9().await;
    let folder = tempfile::tempdir().unwrap();
    let store = copy_of(&world.gateway.store(), folder.path());
    let shop = Counter::open(&store);
    shop.give_back_a_part(paid.order.parse().unwrap()).await;
    let part = json!([{ "number": part().to_string(), "amount": PART, "status": "SUCCESS" }]);
    let trade_of = |trade: &str| {
        let trade = trade.to_owned();
        move |other: &Value| other["out_trade_no"] == trade
    };
    let theirs = trade(&mut books, trade_of(&paid.trade));
    (theirs["refunds"], theirs["refunded"]) = (part, json!(PART));
    shop.send_back_an_odd_one(cancelled.order.parse().unwrap())
        .await;
    let whole = format!("{}M0", cancelled.trade);
    let theirs = trade(&mut books, trade_of(&cancelled.trade));
    theirs["captures"] = json!([{ "transaction_id": "odd", "amount": ODD }]);
    theirs["refunds"] = json!([{ "number": whole, "amount": ODD, "status": "SUCCESS" }]);
    (theirs["captured"], theirs["refunded"]) = (json!(ODD), json!(ODD));
    shop.store.close().await;
    Sample {
        folder,
        store,
        books,
    }
}

fn part() -> RefundId {
    RefundId::from_ulid(Ulid(1))
}

/// Where money goes back as the heart decides it, without a gateway.
struct Counter {
    store: SqliteStore,
}

impl Counter {
    fn open(file: &Path) -> Self {
        let options = Options::new(Arc::new(SystemClock));
        Self {
            store: SqliteStore::open(file, options).unwrap(),
        }
    }

    async fn give_back_a_part(&self, order: OrderId) {
        let refund = part();
        let asked = Command::Refund {
            refund,
            merchant_refund_no: "R-1".into(),
            amount: Fen::new(PART),
        };
        self.does(order, asked).await;
        let answer = RefundAnswer::Succeeded;
        self.does(
            order,
            Command::RefundAnswer {
                refund,
                round: 0,
                answer,
            },
        )
        .await;
    }

    async fn send_back_an_odd_one(&self, order: OrderId) {
        let stands = self.store.order(order).await.unwrap().unwrap().order;
        let trade = stands.attempts[0].trade.as_ref().unwrap();
        let refund = RefundId::from_ulid(Ulid(2));
        let heard = Command::Capture(CaptureReport {
            attempt: AttemptNumber::FIRST,
            account: trade.account.clone(),
            application: trade.application.clone(),
            transaction_id: "odd".into(),
            amount: Fen::new(ODD),
            currency: "CNY".into(),
            succeeded_at: SystemClock.now(),
            surplus_refund: refund,
        });
        self.does(order, heard).await;
        for operator in [1, 2] {
            let word = Command::SettleMismatch {
                mismatch: 0,
                by: SettleBy::Refund,
                operator: PayerHash(operator),
                refund,
            };
            self.does(order, word).await;
        }
        let answer = RefundAnswer::Succeeded;
        self.does(
            order,
            Command::RefundAnswer {
                refund,
                round: 0,
                answer,
            },
        )
        .await;
    }

    async fn does(&self, order: OrderId, command: Command) {
        let now = SystemClock.now();
        let stands = self.store.order(order).await.unwrap().unwrap().order;
        let Outcome::Applied { events, .. } = decide(&stands, &command, now) else {
            panic!("{command:?} is refused");
        };
        let order = evolve(stands, &events, now);
        let (id, version) = (order.id, order.version);
        let told = events.iter().filter_map(Event::webhook);
        let outbox = told.zip(1u128..).map(|(kind, number)| OutboxEntry {
            id: EventId::from_ulid(Ulid(
                u128::from(id.ulid()) ^ (u128::from(version) << 64) ^ number,
            )),
            merchant: order.terms.merchant,
            order: id,
            version,
            kind,
            body: Sealed(vec![0]),
            body_digest: Some(BodyDigest([0; 32])),
            created_at: now,
            state: DeliveryState::Delivered,
            tries: 1,
            next_at: None,
            note: String::new(),
        });
        let write = OrderWrite {
            outbox: outbox.collect(),
            snapshot: None,
            next_due_at: order.next_due_at(),
            not_after: None,
            fence: Fence::None,
            events: (0..)
                .zip(events)
                .map(|(position, event)| TimelineEntry {
                    order: id,
                    version,
                    position,
                    at: now,
                    actor: Actor::Operator,
                    request_id: None,
                    event,
                })
                .collect(),
            order,
        };
        let transaction = Transaction {
            order: Some(write),
            writes: Vec::new(),
        };
        let verdicts = self.store.commit(vec![transaction]).await.unwrap();
        assert_eq!(verdicts, vec![Ok(())]);
    }
}

impl Sample {
    /// What is found after this was done to a copy.
    fn found(&self, name: &str, sql: &str, books: &Value) -> BTreeSet<&'static str> {
        let folder = self.folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let copy = copy_of(&self.store, &folder);
        let connection = Connection::open(copy).unwrap();
        // The same rows without any rule that would refuse the lie.
        connection
            .execute_batch("PRAGMA foreign_keys = OFF")
            .unwrap();
        for table in [
            "bills",
            "outbox",
            "ledger",
            "ledger_totals",
            "refunds",
            "mismatches",
            "captures",
            "claims",
            "attempts",
            "order_events",
            "orders",
        ] {
            connection
                .execute_batch(&format!(
                    "CREATE TABLE bare AS SELECT * FROM {table};
                     DROP TABLE {table};
                     ALTER TABLE bare RENAME TO {table};"
                ))
                .unwrap();
        }
        connection.execute_batch(sql).unwrap();
        check(&Rows::of_file(&connection), books)
            .into_iter()
            .map(|broken| broken.invariant)
            .collect()
    }
}

type Lie = fn(&mut Value);

/// The one trade of which this holds.
fn trade(books: &mut Value, holds: impl Fn(&Value) -> bool) -> &mut Value {
    let trades = books["trades"].as_array_mut().unwrap();
    trades.iter_mut().find(|trade| holds(trade)).unwrap()
}

#[tokio::test]
async fn each_doctored_store_is_found_out() {
    let sample = sample().await;
    let sound = sample.found("sound", "", &sample.books);
    assert_eq!(sound, BTreeSet::new(), "an untouched store is sound");

    let rows_that_lie = [
        (
            "M1",
            "UPDATE captures SET refund = 'rfd_x' WHERE refund IS NULL",
        ),
        (
            "M1",
            "UPDATE orders SET status = 'unpaid' WHERE status = 'paid'",
        ),
        (
            "M2",
            "UPDATE captures SET refund = NULL, order_id = (SELECT order_id FROM captures WHERE refund IS NULL)",
        ),
        (
            "M2",
            "UPDATE captures SET refund = 'rfd_x'; INSERT INTO captures SELECT account, 'twin', order_id, attempt, wallet, amount, succeeded_at, heard_at, refund FROM captures LIMIT 1",
        ),
        ("M3", "UPDATE captures SET amount = amount + 1"),
        ("M3", "UPDATE captures SET account = 'another'"),
        ("M3", "UPDATE mismatches SET settled = 0"),
        ("M3", "DELETE FROM mismatches"),
        // Two of sixty, of a hundred.
        (
            "M4",
            "INSERT INTO refunds SELECT account, 'rfd_x', 'rfd_x', round, order_id, attempt, transaction_id, cause, merchant, 'x', 9001, 'pending', requested_at, NULL FROM refunds WHERE cause = 'merchant'",
        ),
        ("M4", "UPDATE refunds SET amount = 0"),
        ("M5", "UPDATE refunds SET number = number || 'x'"),
        ("M5", "UPDATE refunds SET amount = amount - 1"),
        ("M5", "UPDATE refunds SET attempt = attempt + 1"),
        ("M5", "DELETE FROM refunds WHERE cause = 'merchant'"),
        (
            "M5",
            "UPDATE refunds SET status = 'failed' WHERE cause = 'surplus'",
        ),
        (
            "M5",
            "INSERT INTO refunds SELECT account, number || 'R1', refund, 1, order_id, attempt, transaction_id, cause, merchant, merchant_refund_no, amount, 'pending', requested_at, NULL FROM refunds WHERE cause = 'surplus'",
        ),
        (
            "M9",
            "UPDATE ledger SET amount = amount + 1 WHERE book = 'merchant'",
        ),
        (
            "M9",
            "UPDATE ledger_totals SET amount = amount + 1 WHERE book = 'surplus'",
        ),
        ("M9", "DELETE FROM ledger_totals WHERE book = 'suspense'"),
        // They balance, and are not what happened.
        ("M9", "DELETE FROM ledger; DELETE FROM ledger_totals"),
        (
            "M9",
            "UPDATE ledger SET amount = amount * 2; UPDATE ledger_totals SET amount = amount * 2",
        ),
        (
            "M9",
            "UPDATE ledger SET book = 'outside' WHERE book = 'suspense'; UPDATE ledger_totals SET book = 'outside' WHERE book = 'suspense'",
        ),
        ("M9", "UPDATE ledger SET position = position + 1"),
        (
            "M3",
            "UPDATE captures SET transaction_id = 'another' || transaction_id",
        ),
        (
            "B1",
            "INSERT INTO bills (id, amount, order_id) SELECT 'bil_x', 1, id FROM orders LIMIT 1",
        ),
        (
            "B1",
            "UPDATE orders SET snapshot = json_set(snapshot, '$.bills', json('[{\"id\":\"bil_00000000000000000000000001\",\"merchant_bill_no\":\"1\"}]')) WHERE status = 'paid'",
        ),
        (
            "M7",
            "UPDATE orders SET status = 'paid' WHERE status = 'closed'",
        ),
        (
            "M7",
            "INSERT INTO order_events SELECT order_id, version, position + 50, at, actor, request_id, event FROM order_events WHERE event LIKE '%order_paid%'",
        ),
        (
            "Q1",
            "UPDATE attempts SET status = 'shown'; INSERT INTO attempts SELECT order_id, number + 1, id || 'x', 'closing', started_at, expires_at FROM attempts",
        ),
        ("Q2", "DELETE FROM claims"),
        ("Q2", "UPDATE claims SET payer = zeroblob(16)"),
        ("Q3", "UPDATE claims SET claimed_at = claimed_at + 86400000"),
        ("A1", "DELETE FROM captures WHERE refund IS NULL"),
        (
            "A2",
            "INSERT INTO order_events SELECT order_id, version, position + 50, at, actor, request_id, event FROM order_events WHERE event LIKE '%money_captured%'",
        ),
        ("E1", "DELETE FROM outbox WHERE kind = 'order.paid'"),
        (
            "E1",
            "INSERT INTO outbox SELECT position + 1000, id || 'x', merchant, order_id, version, kind, body, created_at, state, tries, next_at, note, changed_at, body_digest FROM outbox WHERE kind = 'order.paid'",
        ),
        ("E1", "UPDATE outbox SET version = version + 1"),
        (
            "E5",
            "DELETE FROM order_events WHERE event LIKE '%provider_asked%' OR event LIKE '%trade_made%'",
        ),
        (
            "E5",
            "UPDATE orders SET state = json_set(state, '$.attempts[0].queries.scheduled', 9)",
        ),
        (
            "state",
            "UPDATE orders SET state = json_set(state, '$.settlement', 'open') WHERE status = 'paid'",
        ),
    ];
    for (at, (invariant, sql)) in rows_that_lie.into_iter().enumerate() {
        let found = sample.found(&format!("rows{at}"), sql, &sample.books);
        assert!(found.contains(invariant), "{invariant}: {sql}: {found:?}");
    }

    let books_that_differ: [(&str, Lie); 13] = [
        // The surplus never went back.
        ("M1", |books| {
            trade(books, |trade| trade["refunded"] == 14000)["refunds"] = json!([]);
        }),
        // The payment went back.
        ("M2", |books| {
            let trade = trade(books, kept_trade);
            let number = format!("{}S", trade["out_trade_no"].as_str().unwrap());
            trade["refunds"] = json!([{ "number": number, "amount": 14000, "status": "SUCCESS" }]);
        }),
        // Taken twice, known once.
        ("M1", |books| {
            let trade = trade(books, kept_trade);
            let twin = trade["captures"][0].clone();
            trade["captures"].as_array_mut().unwrap().push(twin);
        }),
        // A second refund, under a number of its own.
        ("M5", |books| {
            let trade = trade(books, |trade| trade["refunded"] == 14000);
            let mut twin = trade["refunds"][0].clone();
            twin["number"] = json!("another");
            trade["refunds"].as_array_mut().unwrap().push(twin);
        }),
        // The merchant's refund never arrived, under no number of ours.
        ("M1", |books| {
            trade(books, kept_trade)["refunds"] = json!([]);
        }),
        ("M5", |books| {
            trade(books, kept_trade)["refunds"][0]["status"] = json!("PROCESSING");
        }),
        // A new number for each try.
        ("M5", |books| {
            trade(books, kept_trade)["refunds"][0]["number"] = json!("rfd_another");
        }),
        ("M5", |books| {
            let trade = trade(books, kept_trade);
            let twin = trade["refunds"][0].clone();
            trade["refunds"].as_array_mut().unwrap().push(twin);
        }),
        // Another amount than was asked for.
        ("M5", |books| {
            trade(books, kept_trade)["refunds"][0]["amount"] = json!(PART - 1);
        }),
        // More left than had come.
        ("M4", |books| {
            let trade = trade(books, kept_trade);
            let more = json!({ "number": "rfd_x", "amount": 14000, "status": "PROCESSING" });
            trade["refunds"].as_array_mut().unwrap().push(more);
        }),
        // Ended here, payable there.
        ("Q4", |books| {
            trade(books, |trade| trade["captured"] == ODD)["payable"] = json!(true);
        }),
        // Two codes of one order.
        ("Q5", |books| {
            let trades = books["trades"].as_array_mut().unwrap();
            trades[0]["payable"] = json!(true);
            let mut twin = trades[0].clone();
            let number = trades[0]["out_trade_no"].as_str().unwrap()[..26].to_owned();
            twin["out_trade_no"] = json!(format!("{number}0Z"));
            twin["captures"] = json!([]);
            twin["refunds"] = json!([]);
            trades.push(twin);
        }),
        // Acknowledged, and lost.
        ("A1", |books| {
            let trade = trade(books, kept_trade);
            trade["captures"][0]["transaction_id"] = json!("another");
        }),
    ];
    for (at, (invariant, lie)) in books_that_differ.into_iter().enumerate() {
        let mut books = sample.books.clone();
        lie(&mut books);
        let found = sample.found(&format!("books{at}"), "", &books);
        assert!(found.contains(invariant), "{invariant} ({at}): {found:?}");
    }
}

/// The same checks on rows that PostgreSQL keeps: they are read, and read as they stand.
#[tokio::test]
async fn a_doctored_database_is_found_out() {
    let world = World::on(Pair::Postgres(1), &[]).await;
    let paid = world.paid(Wechat).await;
    let refund = world.merchant.refund(&paid.order, "TK-1", PART).await;
    let refund = refund["id"].as_str().unwrap();
    world
        .merchant
        .until_refund(&paid.order, refund, "succeeded")
        .await;
    world.late_payment().await;
    world.rest().await;
    world.gateway.kill9().await;
    let books = world.simulators.books().await;
    let database = &world.cluster.as_ref().unwrap().database;
    let found = async |sql: &str| {
        let copy = database.copy();
        // Without any rule that would refuse the lie.
        copy.sql(&format!("SET session_replication_role = replica; {sql}"));
        let broken = check_invariants(&Kept::Database(copy.url()), &books).await;
        broken
            .into_iter()
            .map(|broken| broken.invariant)
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(found("").await, BTreeSet::new());
    for (invariant, sql) in [
        (
            "M1",
            "UPDATE orders SET status = 'unpaid' WHERE status = 'paid'",
        ),
        ("M3", "UPDATE captures SET amount = amount + 1"),
        ("M4", "UPDATE refunds SET amount = 14001"),
        ("M5", "UPDATE refunds SET number = number || 'x'"),
        ("M7", "UPDATE orders SET status = 'closed'"),
        (
            "M9",
            "UPDATE ledger SET amount = amount + 1 WHERE book = 'merchant'",
        ),
        ("M9", "DELETE FROM ledger_total_slots"),
        ("Q2", "DELETE FROM claims"),
        (
            "Q2",
            "UPDATE claims SET payer = decode(repeat('00', 16), 'hex')",
        ),
        ("Q3", "UPDATE claims SET claimed_at = claimed_at + 86400000"),
        ("A1", "DELETE FROM captures WHERE refund IS NULL"),
        ("E1", "UPDATE outbox SET version = version + 1"),
        (
            "E5",
            "DELETE FROM order_events WHERE event LIKE '%trade_made%'",
        ),
        (
            "state",
            "UPDATE orders SET state = jsonb_set(state::jsonb, '{settlement}', '\"open\"')::text WHERE status = 'paid'",
        ),
    ] {
        let found = found(sql).await;
        assert!(found.contains(invariant), "{invariant}: {sql}: {found:?}");
    }
    world.gateway.restart().await;
    world.finish().await;
}

fn kept_trade(trade: &Value) -> bool {
    trade["captured"] == 14000 && trade["refunded"] == PART
}
