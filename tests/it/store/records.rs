//! What every store promises of its records: cursors that miss nothing, evidence that two people
//! settle, a log that shows what was done to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use enrollpay::order::{AccountId, PayerHash, WebhookType};
use enrollpay::store::{
    AuditBroken, AuditEntry, CHAIN_START, EvidenceRow, EvidenceStanding, OutboxEntry, Rejection,
    Store, Write, verify_audit, verify_chain,
};

use super::Place;
use super::sample::*;
use super::suite::{commit, commit_step, commit_write, is_broken};
use crate::support::eventually;

/// Commits a new order of a merchant with an event of each of these kinds.
async fn with_events(
    store: &Arc<dyn Store>,
    merchant: u32,
    n: u32,
    kinds: &[WebhookType],
) -> Result<(), Rejection> {
    let mut write = creation_of(order_of(merchant, n), snapshot(n));
    write.outbox = kinds
        .iter()
        .zip(0..)
        .map(|(kind, place)| OutboxEntry {
            kind: *kind,
            ..outbox(&write.order, n * 10 + place)
        })
        .collect();
    commit_step(store, write).await
}

/// All of merchant 1's events, once there are so many. What is committed is told soon, not at once: a
/// store that takes several writers waits until nothing older can come.
async fn told(store: &Arc<dyn Store>, events: usize) -> Vec<(u64, OutboxEntry)> {
    eventually("every event", Duration::from_secs(20), async || {
        let found = store.events_after(merchant_id(1), 0, &[], 1_000).await;
        Some(found.unwrap()).filter(|found| found.len() >= events)
    })
    .await
}

pub async fn events_are_read_in_the_order_they_were_committed(place: &dyn Place) {
    use WebhookType::{OrderClosed, OrderPaid, RefundSucceeded};
    let store = place.open().await;
    // Ids and times fall while commits rise: neither decides.
    for n in (1..=4).rev() {
        let kinds = [OrderPaid, OrderClosed, RefundSucceeded];
        with_events(&store, 1, n, &kinds).await.unwrap();
        with_events(&store, 2, n + 10, &[OrderPaid]).await.unwrap();
    }
    let read = async |after, kinds: &[WebhookType], limit| {
        let found = store.events_after(merchant_id(1), after, kinds, limit);
        found.await.unwrap()
    };
    let numbers = |found: &[(u64, OutboxEntry)]| {
        let ids = found.iter().map(|(_, entry)| entry.id);
        ids.collect::<Vec<_>>()
    };
    let events = |of: &[u32]| of.iter().map(|n| event_id(*n)).collect::<Vec<_>>();
    let all = told(&store, 12).await;
    let expected = events(&[40, 41, 42, 30, 31, 32, 20, 21, 22, 10, 11, 12]);
    assert_eq!(numbers(&all), expected);
    assert!(all.is_sorted_by_key(|(position, _)| *position));
    assert!(
        all.iter()
            .all(|(_, entry)| entry.merchant == merchant_id(1))
    );
    assert_eq!(read(0, &[], 2).await, all[..2]);
    assert_eq!(read(all[1].0, &[], 4).await, all[2..6]);
    assert_eq!(read(all[11].0, &[], 4).await, vec![]);
    assert_eq!(read(u64::MAX, &[], 4).await, vec![]);
    let some = read(all[0].0, &[OrderPaid, RefundSucceeded], 3).await;
    assert_eq!(numbers(&some), events(&[42, 30, 32]));
    // Delivered or not: it is the same event at the same place.
    let delivered = Write::Delivery {
        event: event_id(40),
        was: (enrollpay::store::DeliveryState::Pending, 0),
        state: enrollpay::store::DeliveryState::Delivered,
        tries: 1,
        next_at: None,
        note: String::new(),
        at: at(9),
    };
    commit_write(&store, delivered).await.unwrap();
    assert_eq!(read(0, &[], 1).await[0].0, all[0].0);
}

/// Whoever polls while others commit gets everything once, in the order that a later reader sees.
pub async fn no_event_appears_before_a_cursor_handed_out(place: &dyn Place) {
    let store = place.open().await;
    let committing = Arc::new(AtomicBool::new(true));
    let read = async |after, limit| {
        let found = store.events_after(merchant_id(1), after, &[], limit);
        found.await.unwrap()
    };
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for n in 0..40 {
                    let n = writer * 100 + n + 1;
                    let kinds = [WebhookType::OrderPaid, WebhookType::OrderClosed];
                    let (merchant, kinds) = match n % 4 {
                        0 => (2, &kinds[..]),
                        1 => (1, &kinds[..]),
                        _ => (1, &kinds[..1]),
                    };
                    with_events(&store, merchant, n, kinds).await.unwrap();
                    // A neighbour that is undone leaves no gap to be filled later.
                    let twin = with_events(&store, merchant, n, kinds).await;
                    assert!(twin.is_err());
                }
            })
        })
        .collect();
    let ended = {
        let committing = Arc::clone(&committing);
        tokio::spawn(async move {
            for writer in writers {
                writer.await.unwrap();
            }
            committing.store(false, Ordering::SeqCst);
        })
    };
    let mut polled = Vec::new();
    let mut early = 0;
    let expected = 8 * (10 * 2 + 20);
    let deadline = Instant::now() + Duration::from_mins(1);
    while polled.len() < expected || committing.load(Ordering::SeqCst) {
        assert!(Instant::now() < deadline, "{} of {expected}", polled.len());
        let last_time = !committing.load(Ordering::SeqCst);
        let after = polled.last().map_or(0, |(position, _)| *position);
        let found = read(after, 7).await;
        assert!(found.iter().all(|(position, _)| *position > after));
        let is_empty = found.is_empty();
        polled.extend(found);
        early += usize::from(!last_time && !is_empty);
        tokio::task::yield_now().await;
    }
    ended.await.unwrap();
    assert!(early > 3, "read beside the writers: {early}");
    assert_eq!(polled.len(), expected);
    assert!(polled == read(0, 1_000).await, "something came later");
}

pub fn evidence(n: i64) -> EvidenceRow {
    EvidenceRow {
        account: AccountId::new("school-wechat"),
        reference: format!("42{n:04}"),
        reason: "unknown_number".to_owned(),
        body: sealed("notice"),
        order: None,
        first_seen: at(n),
        standing: EvidenceStanding::Open,
    }
}

/// An operator's word on the `n`th evidence.
pub fn settling(n: i64, operator: u128) -> Write {
    settling_at(n, operator, 10)
}

fn settling_at(n: i64, operator: u128, seconds: i64) -> Write {
    Write::EvidenceSettled {
        account: AccountId::new("school-wechat"),
        reference: evidence(n).reference,
        operator: PayerHash(operator),
        at: at(seconds),
    }
}

pub async fn two_people_settle_evidence(place: &dyn Place) {
    let store = place.open().await;
    for n in [3, 1, 2] {
        let row = Write::Evidence(evidence(n));
        commit_write(&store, row).await.unwrap();
    }
    let open = async |limit| store.evidence_open(limit).await.unwrap();
    assert_eq!(open(9).await, [evidence(1), evidence(2), evidence(3)]);
    assert_eq!(open(1).await, [evidence(1)]);
    // The same person's word, however often, is one.
    for seconds in [10, 11] {
        commit_write(&store, settling_at(1, 7, seconds))
            .await
            .unwrap();
        let row = &open(1).await[0];
        let (by, at) = (PayerHash(7), at(10));
        assert_eq!(row.standing, EvidenceStanding::Proposed { by, at });
    }
    for (operator, seconds) in [(8, 12), (9, 13), (7, 14)] {
        commit_write(&store, settling_at(1, operator, seconds))
            .await
            .unwrap();
    }
    assert_eq!(open(9).await, [evidence(2), evidence(3)]);
    let settled = EvidenceRow {
        standing: EvidenceStanding::Settled {
            proposed_by: PayerHash(7),
            by: PayerHash(8),
            at: at(12),
        },
        ..evidence(1)
    };
    let find = async || {
        let row = evidence(1);
        let found = store.evidence(&row.account, &row.reference).await;
        found.unwrap()
    };
    assert_eq!(find().await, Some(settled.clone()));
    // Heard of again, it stays settled.
    let again = Write::Evidence(evidence(1));
    commit_write(&store, again).await.unwrap();
    assert_eq!(find().await, Some(settled));
    let of_nothing = settling(9, 7);
    assert!(is_broken(&commit_write(&store, of_nothing).await));
}

pub fn audited(n: i64) -> AuditEntry {
    let target = format!("evt_{n}");
    AuditEntry::new(at(n), "1000 fee-office", "event release", target, "done")
}

pub async fn what_operators_did_is_one_chain(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(verify_audit(&*store).await.unwrap(), (0, CHAIN_START));
    for n in 1..=3 {
        commit_write(&store, Write::Audit(audited(n)))
            .await
            .unwrap();
    }
    // With what it tells of, or not at all.
    let mut undone = alone(creation(1));
    undone.writes = vec![Write::Audit(audited(9))];
    undone.order.as_mut().unwrap().order.version = 7;
    assert!(commit(&store, undone).await.is_err());
    let mut done = alone(creation(1));
    done.writes = vec![Write::Audit(audited(4)), Write::Audit(audited(5))];
    commit(&store, done).await.unwrap();

    let all = store.audit(0, 10).await.unwrap();
    let told: Vec<_> = all.iter().map(|entry| (entry.id, entry.at)).collect();
    assert_eq!(told, [1, 2, 3, 4, 5].map(|n: u32| (n.into(), at(n.into()))));
    let first = audited(1).chained(1, CHAIN_START);
    assert_eq!(all[0], first);
    assert_eq!(all[1].previous, all[0].hash);
    assert_eq!(store.audit(3, 1).await.unwrap(), all[3..4]);
    assert_eq!(verify_audit(&*store).await.unwrap(), (5, all[4].hash));
    assert_eq!(
        verify_chain(2, all[1].hash, &all[2..]).unwrap(),
        all[4].hash
    );

    let broken = |change: &dyn Fn(&mut Vec<AuditEntry>)| {
        let mut entries = all.clone();
        change(&mut entries);
        match verify_chain(0, CHAIN_START, &entries) {
            Err(AuditBroken::Entry { id }) => id,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(broken(&|all| all[1].operator.push('x')), 2);
    // A letter that moves from one field to the next is a change.
    let moved = |all: &mut Vec<AuditEntry>| {
        let letter = all[2].operator.pop().unwrap();
        all[2].action.insert(0, letter);
    };
    assert_eq!(broken(&moved), 3);
    assert_eq!(broken(&|all| all[3].at = at(99)), 4);
    assert_eq!(broken(&|all| drop(all.remove(1))), 3);
    assert_eq!(broken(&|all| all.swap(3, 4)), 5);
    // Hashed anew, it no longer leads to the next.
    let rewritten = |all: &mut Vec<AuditEntry>| {
        all[1].outcome.push_str(", twice");
        all[1] = all[1].clone().chained(2, all[0].hash);
    };
    assert_eq!(broken(&rewritten), 3);
}
