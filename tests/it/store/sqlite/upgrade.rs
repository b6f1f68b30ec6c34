//! Files of the first schema, brought up to date: what they knew of money stands in the new tables.

use enrollpay::order::state::{CaptureStanding, Mismatch, MismatchStanding, MismatchedField};
use enrollpay::order::{
    AttemptNumber, Event, Fen, OrderId, OutTradeNo, RefundStanding, WebhookType,
};
use enrollpay::store::{OrderWrite, OutboxEntry, RefundStatus, Rejection, Store as _};
use std::path::Path;

use refinery::Target;
use rusqlite::{Connection, params};
use serde_json::{Value, json};

use super::super::sample::*;
use super::Folder;

mod embedded {
    refinery::embed_migrations!("src/store/sqlite/migrations");
}

/// A file as the first version left it.
fn of_the_first_schema(file: &Path) -> Connection {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let mut connection = Connection::open(file).unwrap();
    connection
        .execute_batch("PRAGMA application_id = 0x656e7270; PRAGMA foreign_keys = ON;")
        .unwrap();
    embedded::migrations::runner()
        .set_target(Target::Version(1))
        .run(&mut connection)
        .unwrap();
    connection
}

/// A file of the first version with one order that is paid.
pub fn a_paid_order_of_the_first_schema(file: &Path) -> OrderId {
    let connection = of_the_first_schema(file);
    let commit = |step: OrderWrite| {
        write(&connection, &step);
        step.order
    };
    let shown = commit(start(&commit(creation(1))));
    let claimed = commit(claim(&shown, 1));
    commit(pay(&claimed, "4200")).id
}

/// Takes away what the first version had no word for.
fn in_old_words(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for new in ["refunds", "underfunded", "round"] {
                fields.remove(new);
            }
            if fields.contains_key("field") {
                for new in ["account", "currency", "standing"] {
                    fields.remove(new);
                }
            }
            if fields.get("type") == Some(&json!("refund_asked")) {
                fields.insert("type".to_owned(), json!("surplus_refund_asked"));
            }
            fields.values_mut().for_each(in_old_words);
        }
        Value::Array(values) => values.iter_mut().for_each(in_old_words),
        _ => {}
    }
}

fn old_json(value: &impl serde::Serialize) -> String {
    let mut value = serde_json::to_value(value).unwrap();
    in_old_words(&mut value);
    value.to_string()
}

/// What the first version wrote for this step.
fn write(connection: &Connection, step: &OrderWrite) {
    let order = &step.order;
    let id = order.id.to_string();
    let merchant = order.terms.merchant.to_string();
    if let Some(snapshot) = &step.snapshot {
        connection
            .execute(
                "INSERT INTO orders VALUES (?1, ?2, ?3, 1, 'unpaid', ?4, 0, NULL, zeroblob(16), NULL,
                     '', ?5)",
                params![
                    id,
                    merchant,
                    snapshot.merchant_order_no,
                    order.terms.amount.get(),
                    serde_json::to_string(snapshot).unwrap()
                ],
            )
            .unwrap();
    }
    connection
        .execute(
            "UPDATE orders SET version = ?2, status = ?3, state = ?4 WHERE id = ?1",
            params![
                id,
                order.version.cast_signed(),
                order.status().as_str(),
                old_json(order)
            ],
        )
        .unwrap();
    for entry in &step.events {
        connection
            .execute(
                "INSERT INTO order_events VALUES (?1, ?2, ?3, ?4, 'gateway', NULL, ?5)",
                params![
                    id,
                    entry.version.cast_signed(),
                    entry.position,
                    entry.at.as_millis(),
                    old_json(&entry.event)
                ],
            )
            .unwrap();
        match &entry.event {
            Event::AttemptStarted {
                attempt, id: its, ..
            } => {
                connection
                    .execute(
                        "INSERT INTO attempts VALUES (?1, ?2, ?3, 'succeeded', 0, 0)",
                        params![id, attempt.get(), its.to_string()],
                    )
                    .unwrap();
            }
            Event::MoneyCaptured { capture } => {
                let refund = match capture.standing {
                    CaptureStanding::Kept => None,
                    CaptureStanding::Surplus { refund, .. } => Some(refund.to_string()),
                };
                connection
                    .execute(
                        "INSERT INTO captures VALUES ('school-wechat', ?1, ?2, ?3, 'wechat', ?4, 0,
                             0, ?5)",
                        params![
                            capture.transaction_id,
                            id,
                            capture.attempt.get(),
                            capture.amount.get(),
                            refund
                        ],
                    )
                    .unwrap();
            }
            _ => {}
        }
    }
    for entry in &step.outbox {
        connection
            .execute(
                "INSERT INTO outbox VALUES (?1, ?2, ?3, ?4, ?5, x'01', 0, 'parked', 3, NULL, 'it', 7)",
                params![
                    entry.id.to_string(),
                    merchant,
                    id,
                    entry.version.cast_signed(),
                    entry.kind.as_str()
                ],
            )
            .unwrap();
    }
}

#[tokio::test]
async fn a_file_of_the_first_schema_keeps_its_money() {
    let folder = Folder::new();
    let connection = of_the_first_schema(&folder.file());
    let commit = |step: OrderWrite| {
        write(&connection, &step);
        step.order
    };
    let claimed = |n| {
        let created = commit(creation(n));
        let shown = commit(start(&created));
        commit(claim(&shown, 1))
    };
    // Paid, and three times more: one went back after a "no", one was refused, one is under way.
    let mut paid = pay(&claimed(1), "4200");
    paid.outbox = vec![outbox(&paid.order, 9)];
    let mut one = commit(paid);
    for n in 1..=3 {
        one = commit(surplus(&one, &format!("420{n}"), refund_id(n)));
    }
    for (seconds, event) in [
        (
            10,
            Event::SurplusRefundFailed {
                refund: refund_id(1),
            },
        ),
        (
            11,
            Event::SurplusRefundFailed {
                refund: refund_id(2),
            },
        ),
        (
            12,
            Event::SurplusRefunded {
                refund: refund_id(1),
            },
        ),
    ] {
        one = commit(told_at(&one, vec![event], at(seconds)));
    }
    let asked = Event::RefundAsked {
        refund: refund_id(3),
        next_at: at(99),
        tries: 2,
    };
    let one = commit(told(&one, vec![asked]));
    // A surplus of the 33rd attempt, whose trade's number ends in "11", and an odd capture.
    let mut two = claimed(2);
    for number in 2..=33 {
        two = commit(supersede(&two));
        assert_eq!(two.attempts.len(), number);
    }
    let two = commit(claim(&two, 1));
    let two = commit(surplus(&two, "4300", refund_id(4)));
    let mismatch = Mismatch {
        attempt: AttemptNumber::FIRST,
        transaction_id: "4301".into(),
        amount: Fen::new(13_999),
        field: MismatchedField::Amount,
        heard_at: at(20),
        account: None,
        currency: None,
        standing: MismatchStanding::Waiting,
    };
    let mut odd = told(&two, vec![Event::MoneyMismatched { mismatch }]);
    odd.outbox = vec![OutboxEntry {
        kind: WebhookType::OrderAttention,
        ..outbox(&odd.order, 8)
    }];
    let two = commit(odd);
    connection
        .execute_batch("INSERT INTO evidence VALUES ('school-wechat', '1', 'unreadable', x'01', 5)")
        .unwrap();
    drop(connection);

    let store = folder.store();
    for order in [&one, &two] {
        let found = store.order(order.id).await.unwrap().unwrap();
        assert_eq!(&found.order, order, "the state is read in its new words");
    }
    let rows: Vec<(String, RefundStatus)> = store
        .refunds_open(9)
        .await
        .unwrap()
        .into_iter()
        .map(|row| {
            assert_eq!((row.amount, row.round), (Fen::new(14_000), 0));
            assert_eq!((row.merchant, row.requested_at), (merchant_id(1), at(1)));
            (row.number, row.status)
        })
        .collect();
    let number = |order, attempt, end: &str| {
        let attempt = AttemptNumber::new(attempt).unwrap();
        format!("{}{end}", OutTradeNo { order, attempt })
    };
    let expected = [
        (number(one.id, 1, "S1"), RefundStatus::Failed),
        (number(one.id, 1, "S2"), RefundStatus::Pending),
        (number(two.id, 33, "S"), RefundStatus::Pending),
    ];
    assert_eq!(rows, expected);
    assert!(rows[2].0.ends_with("11S"));
    // Every row is the one that the heart asks for.
    for (order, row) in [(&one, &rows[0]), (&one, &rows[1]), (&two, &rows[2])] {
        assert!(order.refund_numbered(&row.0).is_some(), "{row:?}");
    }
    assert_eq!(store.odd_captures(9).await.unwrap(), [two.id]);
    assert_eq!(store.evidence_open(9).await.unwrap().len(), 1);
    let expected = [
        ("merchant", -14_000),
        ("provider:school-wechat", 14_000 * 5 - 14_000),
        ("surplus", -14_000 * 3),
    ];
    let expected = expected.map(|(book, amount)| (book.to_owned(), Fen::new(amount)));
    assert_eq!(store.ledger_totals().await.unwrap(), expected);
    // The same lines as a commit of today writes.
    let told = store.timeline(one.id).await.unwrap();
    let expected: Vec<_> = told
        .iter()
        .flat_map(|entry| {
            let lines = enrollpay::order::ledger::lines(&one, &entry.event);
            let named = |line: enrollpay::order::ledger::Line| (line.book.to_string(), line.amount);
            let place = (entry.version, entry.position, entry.at);
            lines.into_iter().map(move |line| (place, named(line)))
        })
        .collect();
    let found = store.ledger(one.id).await.unwrap().into_iter();
    let found: Vec<_> = found
        .map(|line| {
            (
                (line.version, line.position, line.at),
                (line.book, line.amount),
            )
        })
        .collect();
    assert_eq!(found, expected);
    let events = store.events_after(merchant_id(1), 0, &[], 9).await.unwrap();
    let events: Vec<_> = events
        .iter()
        .map(|(position, event)| (*position, event.id, event.kind, event.tries))
        .collect();
    let expected = [
        (1, event_id(9), WebhookType::OrderPaid, 3),
        (2, event_id(8), WebhookType::OrderAttention, 3),
    ];
    assert_eq!(events, expected);

    // It goes on from there: what is under way ends, what was refused begins anew.
    let refund = refund_id(3);
    let ended = told_at(&one, vec![Event::SurplusRefunded { refund }], at(30));
    let renewed = Event::RefundRenewed {
        refund: refund_id(2),
        round: 1,
        next_at: at(60),
    };
    let renewed = told_at(&ended.order, vec![renewed], at(31));
    let standing = renewed.order.refund(refund_id(2)).unwrap().standing;
    assert!(matches!(standing, RefundStanding::Pending { .. }));
    for step in [ended, renewed] {
        let verdicts = store.commit(vec![alone(step)]).await.unwrap();
        assert_eq!(verdicts, [Ok::<(), Rejection>(())]);
    }
    let open = store.refunds_open(9).await.unwrap();
    let open: Vec<_> = open.into_iter().map(|row| row.number).collect();
    let expected = [number(two.id, 33, "S"), number(one.id, 1, "S1R1")];
    assert_eq!(open, expected);
    let totals = store.ledger_totals().await.unwrap();
    assert_eq!(totals[2], ("surplus".to_owned(), Fen::new(-14_000 * 2)));
    store.close().await;
}
