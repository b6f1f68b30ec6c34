//! What every store promises to operators: who they are, what their sessions are, and the ways to an order.

use enrollpay::order::Timestamp;
use enrollpay::sealing::TokenHash;
use enrollpay::store::desk::{DeskWrite, OperatorRow, SessionRow};
use enrollpay::store::{AuditEntry, Rejection, Write};

use super::Place;
use super::sample::*;
use super::suite::{commit_step, commit_write, is_broken, shown};

fn operator(name: &str, disabled_at: Option<Timestamp>) -> OperatorRow {
    OperatorRow {
        name: name.to_owned(),
        password: "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA".to_owned(),
        created_at: at(1),
        disabled_at,
    }
}

fn session(token: u8, operator: &str, created_at: Timestamp) -> SessionRow {
    SessionRow {
        token: TokenHash([token; 16]),
        operator: operator.to_owned(),
        created_at,
        seen_at: created_at,
    }
}

fn begun(session: &SessionRow, forget_before: Timestamp) -> Write {
    Write::Desk(DeskWrite::SessionBegun {
        session: session.clone(),
        forget_before,
    })
}

pub async fn an_operators_name_is_one_persons(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(store.operator("Li.Wei").await.unwrap(), None);
    let li = operator("Li.Wei", None);
    let added = |row: &OperatorRow| Write::Desk(DeskWrite::OperatorAdded(row.clone()));
    commit_write(&store, added(&li)).await.unwrap();
    commit_write(&store, added(&operator("chen", None)))
        .await
        .unwrap();
    for same in ["Li.Wei", "li.wei", "LI.WEI"] {
        assert_eq!(
            store.operator(same).await.unwrap(),
            Some(li.clone()),
            "{same}"
        );
        let again = commit_write(&store, added(&operator(same, None))).await;
        assert_eq!(again, Err(Rejection::OperatorTaken), "{same}");
    }
    let changed = OperatorRow {
        password: "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$b3RoZXI".to_owned(),
        disabled_at: Some(at(5)),
        ..li.clone()
    };
    let change = |row: &OperatorRow| Write::Desk(DeskWrite::OperatorChanged(row.clone()));
    commit_write(&store, change(&changed)).await.unwrap();
    let all = store.operators().await.unwrap();
    assert_eq!(all, [operator("chen", None), changed]);
    // Nothing else fits where a hash belongs, and nobody is changed who is not there.
    let plain = OperatorRow {
        password: "a password".to_owned(),
        ..li
    };
    assert!(is_broken(&commit_write(&store, change(&plain)).await));
    assert!(is_broken(
        &commit_write(&store, change(&operator("nobody", None))).await
    ));
}

pub async fn a_session_is_one_operators_until_its_end(place: &dyn Place) {
    let store = place.open().await;
    for name in ["li", "wang"] {
        let added = DeskWrite::OperatorAdded(operator(name, None));
        commit_write(&store, Write::Desk(added)).await.unwrap();
    }
    let nobodys = begun(&session(9, "nobody", at(1)), at(0));
    assert!(is_broken(&commit_write(&store, nobodys).await));
    let (old, first, second, other) = (
        session(1, "li", at(1)),
        session(2, "li", at(10)),
        session(3, "li", at(11)),
        session(4, "wang", at(11)),
    );
    commit_write(&store, begun(&old, at(0))).await.unwrap();
    // What is older than a login may be goes with the next one.
    for session in [&first, &second, &other] {
        commit_write(&store, begun(session, at(5))).await.unwrap();
    }
    assert_eq!(store.session(old.token).await.unwrap(), None);
    assert_eq!(
        store.session(first.token).await.unwrap(),
        Some(first.clone())
    );

    let seen = |at| {
        Write::Desk(DeskWrite::SessionSeen {
            token: first.token,
            at,
        })
    };
    for when in [at(20), at(15)] {
        commit_write(&store, seen(when)).await.unwrap();
        let now = store.session(first.token).await.unwrap().unwrap();
        assert_eq!(
            (now.seen_at, now.created_at),
            (at(20), at(10)),
            "the latest counts"
        );
    }
    let ended = DeskWrite::SessionEnded { token: first.token };
    commit_write(&store, Write::Desk(ended)).await.unwrap();
    assert_eq!(store.session(first.token).await.unwrap(), None);
    // Seen once more by a slow request: it does not come back.
    commit_write(&store, seen(at(21))).await.unwrap();
    assert_eq!(store.session(first.token).await.unwrap(), None);

    let out = DeskWrite::OperatorChanged(operator("li", Some(at(30))));
    commit_write(&store, Write::Desk(out)).await.unwrap();
    assert_eq!(store.session(second.token).await.unwrap(), None);
    assert_eq!(store.session(other.token).await.unwrap(), Some(other));
}

pub async fn an_order_is_found_by_a_number_of_the_providers(place: &dyn Place) {
    let store = place.open().await;
    let paid = pay(&shown(&store, 1).await, "4200");
    commit_step(&store, paid.clone()).await.unwrap();
    let more = surplus(&paid.order, "4201", refund_id(1));
    commit_step(&store, more).await.unwrap();
    for number in ["4200", "4201"] {
        let found = store.orders_of_transaction(number, 10).await.unwrap();
        assert_eq!(found, [order_id(1)], "{number}");
    }
    let none = store.orders_of_transaction("420", 10).await.unwrap();
    assert_eq!(none, []);
}

pub async fn the_latest_that_operators_did_comes_first(place: &dyn Place) {
    let store = place.open().await;
    for n in 1..=5 {
        let entry = AuditEntry::new(at(n), "1:li", "event resend", format!("evt_{n}"), "done");
        commit_write(&store, Write::Audit(entry)).await.unwrap();
    }
    let numbers = async |before, limit| -> Vec<u64> {
        let entries = store.audit_before(before, limit).await.unwrap();
        entries.iter().map(|entry| entry.id).collect()
    };
    assert_eq!(numbers(u64::MAX, 2).await, [5, 4]);
    assert_eq!(numbers(4, 10).await, [3, 2, 1]);
    assert_eq!(numbers(1, 10).await, [] as [u64; 0]);
}
