//! What every store promises, one function each.

use std::sync::Arc;

use enrollpay::order::{AccountId, AttemptNumber, CloseReason, Event, EventId, Status, Timestamp};
use enrollpay::sealing::TokenKind;
use enrollpay::store::{
    DeliveryState, DuplicatePolicy, EvidenceRow, EvidenceStanding, Fence, IdempotencyRow, Masks,
    Merchant, MerchantKey, OauthState, OrderFilter, OrderWrite, OutboxEntry, OutboxGauge, Owned,
    Rejection, Store, StoreError, TokenTarget, Transaction, WebhookSecret, Write,
};

use super::Place;
pub use super::bills::*;
pub use super::desk::*;
pub use super::money::*;
pub use super::nodes::*;
pub use super::reconciliation::*;
pub use super::records::*;
use super::sample::*;

pub type Verdict = Result<(), Rejection>;

pub async fn commit(store: &Arc<dyn Store>, transaction: Transaction) -> Verdict {
    let mut verdicts = store.commit(vec![transaction]).await.unwrap();
    assert_eq!(verdicts.len(), 1);
    verdicts.remove(0)
}

pub async fn commit_step(store: &Arc<dyn Store>, write: OrderWrite) -> Verdict {
    commit(store, alone(write)).await
}

pub async fn commit_write(store: &Arc<dyn Store>, write: Write) -> Verdict {
    commit(store, writes([write])).await
}

pub(super) fn is_broken(verdict: &Verdict) -> bool {
    matches!(verdict, Err(Rejection::RuleBroken { .. }))
}

pub async fn an_order_comes_back_as_it_was(place: &dyn Place) {
    let store = place.open().await;
    assert!(store.order(order_id(1)).await.unwrap().is_none());
    assert_eq!(commit_step(&store, creation(1)).await, Ok(()));

    let found = store.order(order_id(1)).await.unwrap().unwrap();
    assert_eq!(found.order, order(1));
    assert_eq!(found.snapshot, snapshot(1));
    let number = snapshot(1).merchant_order_no;
    let found = store.order_by_number(merchant_id(1), &number).await;
    assert_eq!(found.unwrap().unwrap().order.id, order_id(1));
    let of_another = store.order_by_number(merchant_id(2), &number).await;
    assert!(of_another.unwrap().is_none());

    // Every part of the state comes back, step by step.
    let mut state = order(1);
    for next in [
        start,
        |o: &_| claim(o, u128::MAX),
        |o: &_| pay(o, "4200"),
        |o: &_| surplus(o, "4201", refund_id(1)),
        receipt,
    ] {
        let next = next(&state);
        state = next.order.clone();
        assert_eq!(commit_step(&store, next).await, Ok(()));
        let found = store.order(order_id(1)).await.unwrap().unwrap();
        assert_eq!(found.order, state);
        assert_eq!(found.snapshot, snapshot(1));
    }
    assert_eq!(state.status(), Status::Paid);
}

pub async fn a_number_is_taken_once_per_merchant(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(commit_step(&store, creation(1)).await, Ok(()));
    let taken = Err(Rejection::MerchantOrderNoTaken {
        existing: order_id(1),
    });
    assert_eq!(
        commit_step(&store, creation_of(order(2), snapshot(1))).await,
        taken
    );
    // The same order again, as after a lost answer.
    assert_eq!(commit_step(&store, creation(1)).await, taken);
    // The same id under another number is no new order either.
    assert_eq!(
        commit_step(&store, creation_of(order(1), snapshot(9))).await,
        Err(Rejection::VersionMoved)
    );
    let anothers = creation_of(order_of(2, 3), snapshot(1));
    assert_eq!(commit_step(&store, anothers).await, Ok(()));
    assert!(store.order(order_id(2)).await.unwrap().is_none());
}

pub async fn a_hundred_creates_of_one_number_make_one_order(place: &dyn Place) {
    let store = place.open().await;
    let creates: Vec<_> = (1..=100)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let verdict = commit_step(&store, creation_of(order(n), snapshot(1))).await;
                (order_id(n), verdict)
            })
        })
        .collect();
    let mut made = Vec::new();
    let mut refused = Vec::new();
    for create in creates {
        match create.await.unwrap() {
            (id, Ok(())) => made.push(id),
            (_, Err(rejection)) => refused.push(rejection),
        }
    }
    assert_eq!(made.len(), 1);
    let existing = made[0];
    assert_eq!(refused.len(), 99);
    assert!(
        refused
            .iter()
            .all(|rejection| *rejection == Rejection::MerchantOrderNoTaken { existing })
    );
    let filter = filter(1);
    assert_eq!(store.orders(&filter).await.unwrap().len(), 1);
}

pub async fn a_stale_version_changes_nothing(place: &dyn Place) {
    let store = place.open().await;
    commit_step(&store, creation(1)).await.unwrap();
    let shown = start(&order(1));
    assert_eq!(commit_step(&store, shown.clone()).await, Ok(()));
    // The same step again, another step from the same version, a step that skips one.
    let moved = Err(Rejection::VersionMoved);
    assert_eq!(commit_step(&store, shown.clone()).await, moved);
    assert_eq!(commit_step(&store, close(&order(1))).await, moved);
    let mut ahead = claim(&shown.order, 1);
    ahead.order.version += 1;
    ahead.events[0].version += 1;
    assert_eq!(commit_step(&store, ahead).await, moved);
    // An order that nobody made.
    assert_eq!(commit_step(&store, close(&order(2))).await, moved);

    let found = store.order(order_id(1)).await.unwrap().unwrap();
    assert_eq!(found.order, shown.order);
    assert_eq!(store.timeline(order_id(1)).await.unwrap().len(), 2);
}

fn shard_claimed(epoch: u64, instance: u128) -> Write {
    Write::ShardClaimed {
        shard: 17,
        epoch,
        instance,
        silent_ms: None,
        at: START,
    }
}

pub async fn only_the_owner_of_the_shard_writes(place: &dyn Place) {
    let store = place.open().await;
    let fenced = |epoch, instance| {
        let mut write = creation(1);
        write.fence = Fence::Owner {
            shard: 17,
            epoch,
            instance,
        };
        write
    };
    let moved = Err(Rejection::FenceMoved);
    assert_eq!(commit_step(&store, fenced(1, 7)).await, moved);
    commit_write(&store, shard_claimed(1, 7)).await.unwrap();
    assert_eq!(commit_step(&store, fenced(1, 8)).await, moved);
    assert_eq!(commit_step(&store, fenced(2, 7)).await, moved);
    commit_write(&store, shard_claimed(2, 8)).await.unwrap();
    assert_eq!(commit_step(&store, fenced(1, 7)).await, moved);
    assert!(store.order(order_id(1)).await.unwrap().is_none());
    assert_eq!(commit_step(&store, fenced(2, 8)).await, Ok(()));
}

pub async fn an_epoch_rises_by_one(place: &dyn Place) {
    let store = place.open().await;
    let moved = |epoch| Err(Rejection::EpochMoved { epoch });
    assert_eq!(commit_write(&store, shard_claimed(2, 7)).await, moved(0));
    assert_eq!(commit_write(&store, shard_claimed(0, 7)).await, moved(0));
    assert_eq!(commit_write(&store, shard_claimed(1, 7)).await, Ok(()));
    assert_eq!(commit_write(&store, shard_claimed(1, 7)).await, moved(1));
    assert_eq!(commit_write(&store, shard_claimed(3, 7)).await, moved(1));
    // Of two who reach for the next one, one has it.
    let both = vec![writes([shard_claimed(2, 8)]), writes([shard_claimed(2, 9)])];
    assert_eq!(store.commit(both).await.unwrap(), vec![Ok(()), moved(2)]);
}

pub async fn nothing_commits_at_or_after_its_time(place: &dyn Place) {
    let store = place.open().await;
    let now = store.ping().await.unwrap();
    let until = |end| {
        let mut write = creation(1);
        write.not_after = Some(end);
        write
    };
    let late = Err(Rejection::TooLate);
    assert_eq!(commit_step(&store, until(now)).await, late);
    assert_eq!(commit_step(&store, until(now.minus_ms(1))).await, late);
    assert!(store.order(order_id(1)).await.unwrap().is_none());
    assert_eq!(
        commit_step(&store, until(now.plus_ms(3_600_000))).await,
        Ok(())
    );
}

fn nonce(key: u32, text: &str, at: Timestamp) -> Write {
    Write::Nonce {
        key: key_id(key),
        nonce: text.to_owned(),
        at,
    }
}

pub async fn a_nonce_is_taken_once(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(commit_write(&store, nonce(1, "a", at(1))).await, Ok(()));
    assert_eq!(
        commit_write(&store, nonce(1, "a", at(9))).await,
        Err(Rejection::NonceReplayed { first_seen: at(1) })
    );
    assert_eq!(commit_write(&store, nonce(1, "b", at(9))).await, Ok(()));
    assert_eq!(commit_write(&store, nonce(2, "a", at(9))).await, Ok(()));
}

fn key_started(key: &str, seconds: i64) -> Write {
    Write::IdempotencyStarted {
        merchant: merchant_id(1),
        key: key.to_owned(),
        request_hash: [7; 32],
        instance: 5,
        at: at(seconds),
    }
}

fn key_finished(key: &str, text: &str) -> Write {
    Write::IdempotencyFinished {
        merchant: merchant_id(1),
        key: key.to_owned(),
        status: 201,
        answer: sealed(text),
        order: None,
    }
}

fn key_dropped(key: &str) -> Write {
    Write::IdempotencyDropped {
        merchant: merchant_id(1),
        key: key.to_owned(),
    }
}

fn running(key: &str) -> IdempotencyRow {
    IdempotencyRow {
        merchant: merchant_id(1),
        key: key.to_owned(),
        request_hash: [7; 32],
        instance: 5,
        started_at: at(1),
        answer: None,
    }
}

pub async fn an_idempotency_key_is_started_finished_and_kept(place: &dyn Place) {
    let store = place.open().await;
    let taken = |row| Err(Rejection::IdempotencyKeyTaken(Box::new(row)));
    let merchant = merchant_id(1);
    assert!(is_broken(
        &commit_write(&store, key_finished("k", "x")).await
    ));
    assert_eq!(commit_write(&store, key_started("k", 1)).await, Ok(()));
    assert_eq!(
        store.idempotency(merchant, "k").await.unwrap(),
        Some(running("k"))
    );
    assert_eq!(
        commit_write(&store, key_started("k", 2)).await,
        taken(running("k"))
    );
    assert_eq!(
        commit_write(&store, key_finished("k", "first")).await,
        Ok(())
    );
    // The first answer is the answer, and is not dropped.
    assert!(is_broken(
        &commit_write(&store, key_finished("k", "second")).await
    ));
    assert_eq!(commit_write(&store, key_dropped("k")).await, Ok(()));
    let finished = IdempotencyRow {
        answer: Some((201, sealed("first"))),
        ..running("k")
    };
    assert_eq!(
        commit_write(&store, key_started("k", 3)).await,
        taken(finished.clone())
    );
    assert_eq!(
        store.idempotency(merchant, "k").await.unwrap(),
        Some(finished)
    );
    let anothers = store.idempotency(merchant_id(2), "k").await.unwrap();
    assert_eq!(anothers, None);
    // Started and finished in one go.
    let both = writes([key_started("both", 1), key_finished("both", "x")]);
    assert_eq!(commit(&store, both).await, Ok(()));
}

pub async fn a_dropped_idempotency_key_is_free_again(place: &dyn Place) {
    let store = place.open().await;
    commit_write(&store, key_started("k", 1)).await.unwrap();
    assert_eq!(commit_write(&store, key_dropped("k")).await, Ok(()));
    assert_eq!(commit_write(&store, key_dropped("k")).await, Ok(()));
    assert_eq!(store.idempotency(merchant_id(1), "k").await.unwrap(), None);
    assert_eq!(commit_write(&store, key_started("k", 2)).await, Ok(()));
}

/// Commits a new order with a code shown, and gives its state.
pub(super) async fn shown(store: &Arc<dyn Store>, n: u32) -> enrollpay::order::Order {
    commit_step(store, creation(n)).await.unwrap();
    let shown = start(&order(n));
    commit_step(store, shown.clone()).await.unwrap();
    shown.order
}

pub async fn an_attempt_is_claimed_once(place: &dyn Place) {
    let store = place.open().await;
    let shown = shown(&store, 1).await;
    let mine = claim(&shown, 1);
    assert_eq!(commit_step(&store, mine.clone()).await, Ok(()));
    // By one who decided from a state that had no claim in it, but has the right version.
    let mut others = claim(&shown, 2);
    others.order.version += 1;
    others.events[0].version += 1;
    assert_eq!(
        commit_step(&store, others).await,
        Err(Rejection::AlreadyClaimed)
    );
    let found = store.order(order_id(1)).await.unwrap().unwrap();
    assert_eq!(found.order, mine.order);
}

pub async fn one_attempt_lives_at_a_time(place: &dyn Place) {
    let store = place.open().await;
    let shown = shown(&store, 1).await;
    assert!(is_broken(&commit_step(&store, start(&shown)).await));
    let next = supersede(&shown);
    assert_eq!(commit_step(&store, next.clone()).await, Ok(()));
    assert!(is_broken(&commit_step(&store, start(&next.order)).await));
    let next = supersede(&next.order);
    assert_eq!(commit_step(&store, next).await, Ok(()));
}

pub async fn a_capture_is_recorded_once(place: &dyn Place) {
    let store = place.open().await;
    let first = shown(&store, 1).await;
    let paid = pay(&first, "4200");
    assert_eq!(commit_step(&store, paid.clone()).await, Ok(()));
    let known = Err(Rejection::CaptureKnown);
    // Again for this order, and for another one of the same account.
    assert_eq!(
        commit_step(&store, surplus(&paid.order, "4200", refund_id(1))).await,
        known
    );
    let second = shown(&store, 2).await;
    assert_eq!(commit_step(&store, pay(&second, "4200")).await, known);
    assert_eq!(commit_step(&store, pay(&second, "4201")).await, Ok(()));
    let found = store.order(order_id(1)).await.unwrap().unwrap();
    assert_eq!(found.order, paid.order);
}

pub async fn one_capture_is_kept_and_a_surplus_has_its_refund(place: &dyn Place) {
    let store = place.open().await;
    let first = shown(&store, 1).await;
    let paid = pay(&first, "4200");
    commit_step(&store, paid.clone()).await.unwrap();
    assert!(is_broken(
        &commit_step(&store, pay(&paid.order, "4201")).await
    ));
    let more = surplus(&paid.order, "4201", refund_id(1));
    assert_eq!(commit_step(&store, more.clone()).await, Ok(()));
    // One refund is for one capture.
    assert!(is_broken(
        &commit_step(&store, surplus(&more.order, "4202", refund_id(1))).await
    ));
    let more = surplus(&more.order, "4202", refund_id(2));
    assert_eq!(commit_step(&store, more).await, Ok(()));
}

pub async fn paid_and_closed_are_final(place: &dyn Place) {
    let store = place.open().await;
    let paid = pay(&shown(&store, 1).await, "4200");
    commit_step(&store, paid.clone()).await.unwrap();
    assert!(is_broken(&commit_step(&store, close(&paid.order)).await));
    let reopened = step(&paid.order, Vec::new(), |order| {
        order.settlement = enrollpay::order::Settlement::Open;
    });
    assert!(is_broken(&commit_step(&store, reopened).await));

    let mut ended = supersede(&shown(&store, 2).await);
    ended.order.attempts.truncate(1);
    ended.events.remove(0);
    commit_step(&store, ended.clone()).await.unwrap();
    let closed = close(&ended.order);
    assert_eq!(commit_step(&store, closed.clone()).await, Ok(()));
    assert!(is_broken(
        &commit_step(&store, pay(&closed.order, "4201")).await
    ));
    // Late money is a fact all the same.
    let late = surplus(&closed.order, "4201", refund_id(1));
    assert_eq!(commit_step(&store, late).await, Ok(()));
    let found = store.order(order_id(2)).await.unwrap().unwrap();
    assert_eq!(found.order.status(), Status::Closed);
}

pub async fn a_step_that_does_not_fit_is_refused(place: &dyn Place) {
    let store = place.open().await;
    let mut without_snapshot = creation(1);
    without_snapshot.snapshot = None;
    assert!(is_broken(&commit_step(&store, without_snapshot).await));
    let mut of_another = creation(1);
    of_another.events[0].order = order_id(2);
    assert!(is_broken(&commit_step(&store, of_another).await));
    let mut for_another = creation(1);
    for_another.outbox = vec![OutboxEntry {
        merchant: merchant_id(2),
        ..outbox(&for_another.order, 1)
    }];
    assert!(is_broken(&commit_step(&store, for_another).await));
    let mut never_due = creation(1);
    never_due.outbox = vec![OutboxEntry {
        next_at: None,
        ..outbox(&never_due.order, 1)
    }];
    assert!(is_broken(&commit_step(&store, never_due).await));
    let nobodys = Write::Personal {
        order: order_id(1),
        slot: "order".to_owned(),
        sealed: sealed("x"),
    };
    assert!(is_broken(&commit_write(&store, nobodys).await));
    assert!(store.order(order_id(1)).await.unwrap().is_none());
    assert_eq!(commit_step(&store, creation(1)).await, Ok(()));
}

pub async fn a_rejected_neighbour_disturbs_nobody(place: &dyn Place) {
    let store = place.open().await;
    let verdicts = store
        .commit(vec![
            alone(creation(1)),
            alone(creation_of(order(2), snapshot(1))),
            alone(creation(3)),
            alone(close(&order(9))),
            alone(start(&order(1))),
        ])
        .await
        .unwrap();
    let existing = order_id(1);
    assert_eq!(
        verdicts,
        vec![
            Ok(()),
            Err(Rejection::MerchantOrderNoTaken { existing }),
            Ok(()),
            Err(Rejection::VersionMoved),
            Ok(()),
        ]
    );
    let status = async |n| {
        let found = store.order(order_id(n)).await.unwrap();
        found.map(|found| found.order.status())
    };
    assert_eq!(status(1).await, Some(Status::Paying));
    assert_eq!(status(2).await, None);
    assert_eq!(status(3).await, Some(Status::Unpaid));
    assert_eq!(store.commit(Vec::new()).await.unwrap(), Vec::new());
}

pub async fn a_rejected_transaction_leaves_no_trace(place: &dyn Place) {
    let store = place.open().await;
    commit_step(&store, creation(1)).await.unwrap();
    let mut stale = creation_of(order(2), snapshot(1));
    stale.outbox = vec![outbox(&stale.order, 1)];
    let transaction = Transaction {
        order: Some(stale),
        writes: vec![
            nonce(1, "a", at(1)),
            key_started("k", 1),
            setting("name", "value"),
        ],
    };
    assert!(commit(&store, transaction).await.is_err());
    assert_eq!(store.outbox_event(event_id(1)).await.unwrap(), None);
    assert_eq!(store.idempotency(merchant_id(1), "k").await.unwrap(), None);
    assert_eq!(store.setting("name").await.unwrap(), None);
    assert!(store.timeline(order_id(2)).await.unwrap().is_empty());
    assert_eq!(commit_write(&store, nonce(1, "a", at(2))).await, Ok(()));
}

pub async fn reasons_to_refuse_come_in_their_order(place: &dyn Place) {
    let store = place.open().await;
    let now = store.ping().await.unwrap();
    let create = |fence, not_after, nonce_text: &str| Transaction {
        order: Some(OrderWrite {
            fence,
            not_after,
            ..creation(1)
        }),
        writes: vec![
            setting("name", "value"),
            key_started("k", 1),
            nonce(1, nonce_text, at(1)),
        ],
    };
    let stranger = Fence::Owner {
        shard: 17,
        epoch: 9,
        instance: 9,
    };
    assert_eq!(commit(&store, create(Fence::None, None, "a")).await, Ok(()));
    assert_eq!(
        commit(&store, create(stranger, Some(now), "a")).await,
        Err(Rejection::FenceMoved)
    );
    assert_eq!(
        commit(&store, create(Fence::None, Some(now), "a")).await,
        Err(Rejection::TooLate)
    );
    assert_eq!(
        commit(&store, create(Fence::None, None, "a")).await,
        Err(Rejection::NonceReplayed { first_seen: at(1) })
    );
    assert_eq!(
        commit(&store, create(Fence::None, None, "b")).await,
        Err(Rejection::IdempotencyKeyTaken(Box::new(running("k"))))
    );
}

fn filter(merchant: u32) -> OrderFilter {
    OrderFilter {
        merchant: merchant_id(merchant),
        merchant_order_no: None,
        payer_index: None,
        status: None,
        created_after: None,
        before: None,
        limit: 100,
    }
}

pub async fn orders_are_listed_newest_first(place: &dyn Place) {
    let store = place.open().await;
    for n in 1..=5 {
        commit_step(&store, creation(n)).await.unwrap();
    }
    let anothers = creation_of(order_of(2, 6), snapshot(6));
    commit_step(&store, anothers).await.unwrap();
    commit_step(&store, start(&order(2))).await.unwrap();
    let list = async |filter: OrderFilter| -> Vec<_> {
        let orders = store.orders(&filter).await.unwrap();
        orders.into_iter().map(|found| found.order.id).collect()
    };
    let ids = |numbers: &[u32]| numbers.iter().map(|n| order_id(*n)).collect::<Vec<_>>();

    assert_eq!(list(filter(1)).await, ids(&[5, 4, 3, 2, 1]));
    assert_eq!(list(filter(2)).await, ids(&[6]));
    assert_eq!(list(filter(3)).await, ids(&[]));
    let page = |before| OrderFilter {
        before,
        limit: 2,
        ..filter(1)
    };
    assert_eq!(list(page(None)).await, ids(&[5, 4]));
    assert_eq!(list(page(Some(order_id(4)))).await, ids(&[3, 2]));
    assert_eq!(list(page(Some(order_id(2)))).await, ids(&[1]));
    let status = |status| OrderFilter {
        status: Some(status),
        ..filter(1)
    };
    assert_eq!(list(status(Status::Paying)).await, ids(&[2]));
    assert_eq!(list(status(Status::Paid)).await, ids(&[]));
    let of_payer = OrderFilter {
        payer_index: Some(snapshot(3).payer_index),
        ..filter(1)
    };
    assert_eq!(list(of_payer).await, ids(&[3]));
    let numbered = OrderFilter {
        merchant_order_no: Some(snapshot(4).merchant_order_no),
        ..filter(1)
    };
    assert_eq!(list(numbered).await, ids(&[4]));
    let recent = OrderFilter {
        created_after: Some(order(3).created_at),
        ..filter(1)
    };
    assert_eq!(list(recent).await, ids(&[5, 4]));
    let all = OrderFilter {
        merchant_order_no: Some(snapshot(2).merchant_order_no),
        payer_index: Some(snapshot(2).payer_index),
        status: Some(Status::Paying),
        created_after: Some(START),
        before: Some(order_id(3)),
        ..filter(1)
    };
    assert_eq!(list(all).await, ids(&[2]));
}

pub async fn a_paid_order_for_the_same_purpose_is_found(place: &dyn Place) {
    let store = place.open().await;
    let find = async |merchant, payer: u32, purpose: &'static str| {
        let index = snapshot(payer).payer_index;
        store
            .paid_order_for(merchant_id(merchant), index, purpose)
            .await
            .unwrap()
    };
    let shown = shown(&store, 1).await;
    assert_eq!(find(1, 1, "ZK202104").await, None);
    commit_step(&store, pay(&shown, "4200")).await.unwrap();
    assert_eq!(find(1, 1, "ZK202104").await, Some(order_id(1)));
    assert_eq!(find(1, 1, "ZK202110").await, None);
    assert_eq!(find(1, 2, "ZK202104").await, None);
    assert_eq!(find(2, 1, "ZK202104").await, None);
}

pub async fn the_longest_overdue_is_due_first(place: &dyn Place) {
    let store = place.open().await;
    for (n, due) in [(1, Some(30)), (2, Some(10)), (3, None), (4, Some(20))] {
        let mut write = creation(n);
        write.next_due_at = due.map(at);
        commit_step(&store, write).await.unwrap();
    }
    let due = async |until, limit| store.due(until, &Owned::All, limit).await.unwrap();
    assert_eq!(due(at(9), 10).await, vec![]);
    assert_eq!(due(at(10), 10).await, vec![order_id(2)]);
    let all = vec![order_id(2), order_id(4), order_id(1)];
    assert_eq!(due(at(99), 10).await, all);
    assert_eq!(due(at(99), 2).await, all[..2]);
    // A step moves it.
    let mut write = start(&order(2));
    write.next_due_at = Some(at(50));
    commit_step(&store, write).await.unwrap();
    assert_eq!(due(at(40), 10).await, all[1..]);
}

pub async fn the_timeline_tells_everything_in_order(place: &dyn Place) {
    let store = place.open().await;
    let created = creation(1);
    let shown = start(&created.order);
    let claimed = claim(&shown.order, u128::MAX - 1);
    let paid = pay(&claimed.order, "4200");
    let issued = receipt(&paid.order);
    let mut told = Vec::new();
    for write in [created, shown, claimed, paid, issued] {
        told.extend(write.events.clone());
        commit_step(&store, write).await.unwrap();
    }
    assert_eq!(store.timeline(order_id(1)).await.unwrap(), told);
    assert!(matches!(
        told.last().unwrap().event,
        Event::ReceiptIssued { .. }
    ));
    assert!(store.timeline(order_id(2)).await.unwrap().is_empty());
}

fn token(kind: TokenKind, n: u8, order: u32, attempt: Option<u16>) -> Write {
    Write::Token {
        kind,
        hash: hash(n),
        target: TokenTarget {
            order: order_id(order),
            attempt: attempt.map(|number| AttemptNumber::new(number).unwrap()),
        },
    }
}

pub async fn tokens_lead_to_one_place(place: &dyn Place) {
    let store = place.open().await;
    let transaction = Transaction {
        order: Some(creation(1)),
        writes: vec![token(TokenKind::Pay, 1, 1, None)],
    };
    commit(&store, transaction).await.unwrap();
    commit_step(&store, creation(2)).await.unwrap();
    let scan = token(TokenKind::Scan, 1, 1, Some(3));
    assert_eq!(commit_write(&store, scan.clone()).await, Ok(()));
    assert_eq!(commit_write(&store, scan).await, Ok(()));
    for elsewhere in [
        token(TokenKind::Scan, 1, 2, Some(3)),
        token(TokenKind::Scan, 1, 1, Some(4)),
        token(TokenKind::Pay, 1, 1, Some(1)),
    ] {
        assert!(is_broken(&commit_write(&store, elsewhere).await));
    }
    let target = |attempt: Option<u16>| TokenTarget {
        order: order_id(1),
        attempt: attempt.and_then(AttemptNumber::new),
    };
    let find = async |kind, n| store.token(kind, hash(n)).await.unwrap();
    assert_eq!(find(TokenKind::Pay, 1).await, Some(target(None)));
    assert_eq!(find(TokenKind::Scan, 1).await, Some(target(Some(3))));
    assert_eq!(find(TokenKind::Receipt, 1).await, None);
    assert_eq!(find(TokenKind::Pay, 2).await, None);
}

pub async fn personal_data_is_replaced(place: &dyn Place) {
    let store = place.open().await;
    let personal = |slot: &str, text| Write::Personal {
        order: order_id(1),
        slot: slot.to_owned(),
        sealed: sealed(text),
    };
    let transaction = Transaction {
        order: Some(creation(1)),
        writes: vec![personal("order", "first"), personal("payer:1", "openid")],
    };
    commit(&store, transaction).await.unwrap();
    let find = async |slot| store.personal(order_id(1), slot).await.unwrap();
    assert_eq!(find("order").await, Some(sealed("first")));
    commit_write(&store, personal("order", "erased"))
        .await
        .unwrap();
    assert_eq!(find("order").await, Some(sealed("erased")));
    assert_eq!(find("payer:1").await, Some(sealed("openid")));
    assert_eq!(find("payer:2").await, None);
}

pub async fn an_oauth_state_keeps_its_code(place: &dyn Place) {
    let store = place.open().await;
    commit_step(&store, creation(1)).await.unwrap();
    let state = OauthState {
        state_hash: hash(1),
        order: order_id(1),
        attempt: AttemptNumber::FIRST,
        account: AccountId::new("school-wechat"),
        created_at: at(1),
        used: None,
    };
    let used = |code, payer| Write::OauthStateUsed {
        state_hash: hash(1),
        code_hash: hash(code),
        payer,
    };
    assert!(is_broken(&commit_write(&store, used(2, None)).await));
    commit_write(&store, Write::OauthState(state.clone()))
        .await
        .unwrap();
    let find = async || store.oauth_state(hash(1)).await.unwrap().unwrap();
    assert_eq!(find().await, state);
    assert_eq!(commit_write(&store, used(2, None)).await, Ok(()));
    assert_eq!(find().await.used, Some((hash(2), None)));
    assert_eq!(commit_write(&store, used(2, Some(5))).await, Ok(()));
    assert_eq!(commit_write(&store, used(2, None)).await, Ok(()));
    assert!(is_broken(&commit_write(&store, used(3, Some(5))).await));
    assert!(is_broken(&commit_write(&store, used(2, Some(6))).await));
    assert_eq!(find().await.used, Some((hash(2), Some(5))));
    assert_eq!(store.oauth_state(hash(9)).await.unwrap(), None);
}

fn merchant(n: u32) -> Merchant {
    Merchant {
        id: merchant_id(n),
        name: format!("school-{n}"),
        display_name: "考试院".to_owned(),
        help_lines: [Some("0991-1234567".to_owned()), None],
        webhook_url: Some("https://school.example/hook".to_owned()),
        webhook_secrets: vec![WebhookSecret {
            sealed: sealed("whsec"),
            until: Some(at(9)),
        }],
        return_hosts: vec!["school.example".to_owned()],
        duplicate: DuplicatePolicy::Warn,
        masks: Masks::Strict,
        payer_must_be_registrant: true,
        accounts: vec![AccountId::new("school-wechat")],
        created_at: at(1),
    }
}

pub async fn merchants_and_keys_are_kept(place: &dyn Place) {
    let store = place.open().await;
    let key = MerchantKey {
        id: key_id(1),
        merchant: merchant_id(1),
        sealed_secret: sealed("sk"),
        created_at: at(1),
        valid_until: None,
        last_used_at: None,
    };
    let save = |key: &MerchantKey| Write::MerchantKey(key.clone());
    assert!(is_broken(&commit_write(&store, save(&key)).await));
    let both = [Write::Merchant(merchant(1)), save(&key)];
    assert_eq!(commit(&store, writes(both)).await, Ok(()));
    commit_write(&store, Write::Merchant(merchant(2)))
        .await
        .unwrap();
    assert_eq!(
        store.merchants().await.unwrap(),
        vec![merchant(1), merchant(2)]
    );
    assert_eq!(store.merchant(merchant_id(3)).await.unwrap(), None);
    let renamed = Merchant {
        name: "renamed".to_owned(),
        ..merchant(1)
    };
    commit_write(&store, Write::Merchant(renamed.clone()))
        .await
        .unwrap();
    assert_eq!(store.merchant(merchant_id(1)).await.unwrap(), Some(renamed));

    let find = async || store.key(key_id(1)).await.unwrap().unwrap();
    assert_eq!(find().await, key);
    let used = |seconds| Write::KeyUsed {
        key: key_id(1),
        at: at(seconds),
    };
    for seconds in [5, 3] {
        commit_write(&store, used(seconds)).await.unwrap();
    }
    assert_eq!(find().await.last_used_at, Some(at(5)));
    let ending = MerchantKey {
        valid_until: Some(at(99)),
        ..key.clone()
    };
    commit_write(&store, save(&ending)).await.unwrap();
    let found = find().await;
    assert_eq!(found.valid_until, Some(at(99)));
    assert_eq!(found.last_used_at, Some(at(5)));
    let stolen = MerchantKey {
        merchant: merchant_id(2),
        ..key
    };
    assert!(is_broken(&commit_write(&store, save(&stolen)).await));
    assert_eq!(store.key(key_id(2)).await.unwrap(), None);

    let second = MerchantKey {
        id: key_id(2),
        ..found.clone()
    };
    commit_write(&store, save(&second)).await.unwrap();
    let of = async |merchant| store.keys_of(merchant_id(merchant)).await.unwrap();
    assert_eq!(of(1).await, vec![found, second]);
    assert_eq!(of(2).await, vec![]);
}

fn setting(name: &str, value: &str) -> Write {
    Write::Setting {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}

pub async fn settings_and_evidence_are_kept(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(store.setting("mode").await.unwrap(), None);
    for value in ["demo", "production"] {
        commit_write(&store, setting("mode", value)).await.unwrap();
        assert_eq!(store.setting("mode").await.unwrap().unwrap(), value);
    }

    let account = AccountId::new("school-wechat");
    let row = |reason: &str, seconds| EvidenceRow {
        account: account.clone(),
        reference: "4200".to_owned(),
        reason: reason.to_owned(),
        body: sealed("notice"),
        order: None,
        first_seen: at(seconds),
        standing: EvidenceStanding::Open,
    };
    for (reason, seconds) in [("unknown number", 1), ("again", 2)] {
        let evidence = Write::Evidence(row(reason, seconds));
        assert_eq!(commit_write(&store, evidence).await, Ok(()));
    }
    let find = async |reference| store.evidence(&account, reference).await.unwrap();
    assert_eq!(find("4200").await, Some(row("unknown number", 1)));
    assert_eq!(find("4201").await, None);
}

/// Of the event as it stands.
async fn deliver(
    store: &Arc<dyn Store>,
    n: u32,
    state: DeliveryState,
    next_at: Option<Timestamp>,
) -> Result<(), Rejection> {
    let stands = store.outbox_event(event_id(n)).await.unwrap();
    let was = stands.map_or((DeliveryState::Pending, 0), |row| (row.state, row.tries));
    commit_write(store, delivery(n, was, state, next_at)).await
}

fn delivery(
    n: u32,
    was: (DeliveryState, u16),
    state: DeliveryState,
    next_at: Option<Timestamp>,
) -> Write {
    Write::Delivery {
        event: event_id(n),
        was,
        state,
        tries: 1,
        next_at,
        note: "answered 503".to_owned(),
        at: at(60),
    }
}

fn ids(entries: &[OutboxEntry]) -> Vec<EventId> {
    entries.iter().map(|entry| entry.id).collect()
}

/// An order with a version for each event, of merchant `merchant`.
async fn with_events(store: &Arc<dyn Store>, merchant: u32, n: u32, events: &[u32]) {
    let mut write = creation_of(order_of(merchant, n), snapshot(n));
    for event in events {
        if write.order.version > 1 || !write.outbox.is_empty() {
            write = step(&write.order, Vec::new(), |_| {});
        }
        write.outbox = vec![outbox(&write.order, *event)];
        commit_step(store, write.clone()).await.unwrap();
    }
}

pub async fn an_orders_events_leave_in_order(place: &dyn Place) {
    use DeliveryState::{Delivered, Parked, Pending};
    let store = place.open().await;
    // The later version has the smaller id and time: its version decides.
    with_events(&store, 1, 1, &[20, 10, 30]).await;
    with_events(&store, 1, 2, &[15]).await;
    let due = async |seconds| {
        ids(&store
            .outbox_due(at(seconds), &Owned::All, 10, 10)
            .await
            .unwrap())
    };
    let events = |numbers: &[u32]| numbers.iter().map(|n| event_id(*n)).collect::<Vec<_>>();
    assert_eq!(due(14).await, vec![]);
    assert_eq!(due(19).await, events(&[15]));
    assert_eq!(due(50).await, events(&[15, 20]));
    // Tried in vain: the order waits, the other does not.
    deliver(&store, 20, Pending, Some(at(100))).await.unwrap();
    assert_eq!(due(50).await, events(&[15]));
    let waiting = store.outbox_event(event_id(20)).await.unwrap().unwrap();
    assert_eq!((waiting.tries, waiting.next_at), (1, Some(at(100))));
    assert_eq!(waiting.note, "answered 503");
    assert_eq!(waiting.body, sealed("the order"));
    assert_eq!(due(100).await, events(&[15, 20]));
    // Delivered: the next one's turn. Parked: it holds nobody up.
    deliver(&store, 20, Delivered, None).await.unwrap();
    assert_eq!(due(50).await, events(&[10, 15]));
    deliver(&store, 10, Parked, None).await.unwrap();
    assert_eq!(due(50).await, events(&[15, 30]));
    // Resent: again on its way, and first.
    deliver(&store, 10, Pending, Some(at(50))).await.unwrap();
    assert_eq!(due(50).await, events(&[15, 10]));
    let moved = Err(Rejection::DeliveryMoved);
    assert_eq!(deliver(&store, 99, Delivered, None).await, moved);
    // Decided before it was resent.
    let late = delivery(10, (Parked, 1), Delivered, None);
    assert_eq!(commit_write(&store, late).await, moved);
    assert!(is_broken(&deliver(&store, 10, Pending, None).await));
}

pub async fn no_merchant_waits_for_another(place: &dyn Place) {
    let store = place.open().await;
    for n in 1..=6 {
        with_events(&store, 1, n, &[n]).await;
    }
    with_events(&store, 2, 11, &[11]).await;
    with_events(&store, 2, 12, &[12]).await;
    with_events(&store, 3, 21, &[21]).await;
    let due = async |limit, per_merchant| {
        ids(&store
            .outbox_due(at(99), &Owned::All, limit, per_merchant)
            .await
            .unwrap())
    };
    let events = |numbers: &[u32]| numbers.iter().map(|n| event_id(*n)).collect::<Vec<_>>();
    assert_eq!(due(3, 10).await, events(&[1, 11, 21]));
    assert_eq!(due(9, 2).await, events(&[1, 11, 21, 2, 12]));
    assert_eq!(due(99, 99).await.len(), 9);
    assert_eq!(due(0, 9).await, vec![]);
}

pub async fn what_is_undelivered_is_listed_oldest_first(place: &dyn Place) {
    use DeliveryState::{Delivered, Parked};
    let store = place.open().await;
    with_events(&store, 1, 1, &[10, 20]).await;
    with_events(&store, 2, 2, &[15, 30]).await;
    for (event, state) in [(10, Delivered), (15, Parked), (30, Parked)] {
        let verdict = deliver(&store, event, state, None).await;
        assert_eq!(verdict, Ok(()));
    }
    let list = async |all, limit| ids(&store.outbox_undelivered(all, limit).await.unwrap());
    let events = |numbers: &[u32]| numbers.iter().map(|n| event_id(*n)).collect::<Vec<_>>();
    assert_eq!(list(false, 10).await, events(&[15, 30]));
    assert_eq!(list(false, 1).await, events(&[15]));
    assert_eq!(list(true, 10).await, events(&[15, 20, 30]));
    assert_eq!(list(true, 2).await, events(&[15, 20]));
}

pub async fn the_outbox_is_gauged(place: &dyn Place) {
    use DeliveryState::{Delivered, Parked, Pending};
    let store = place.open().await;
    let gauge = async || store.outbox_gauge().await.unwrap();
    assert_eq!(gauge().await, OutboxGauge::default());
    with_events(&store, 1, 1, &[10, 20]).await;
    with_events(&store, 2, 2, &[30]).await;
    assert_eq!(
        gauge().await,
        OutboxGauge {
            pending: 3,
            parked: 0,
            oldest_pending: Some(at(10)),
            next_due: Some(at(10)),
        }
    );
    // The second event of the first order waits for the first, whatever its own time is.
    deliver(&store, 10, Pending, Some(at(100))).await.unwrap();
    assert_eq!(gauge().await.next_due, Some(at(30)));
    deliver(&store, 10, Parked, None).await.unwrap();
    deliver(&store, 30, Delivered, None).await.unwrap();
    assert_eq!(
        gauge().await,
        OutboxGauge {
            pending: 1,
            parked: 1,
            oldest_pending: Some(at(20)),
            next_due: Some(at(20)),
        }
    );
}

pub async fn orders_are_counted_by_status(place: &dyn Place) {
    let store = place.open().await;
    let count = async |status| {
        let counts = store.count_by_status().await.unwrap();
        let found = counts.iter().find(|(counted, _)| *counted == status);
        found.map_or(0, |(_, orders)| *orders)
    };
    assert_eq!(count(Status::Unpaid).await, 0);
    for n in 1..=3 {
        commit_step(&store, creation(n)).await.unwrap();
    }
    let shown = start(&order(1));
    commit_step(&store, shown.clone()).await.unwrap();
    commit_step(&store, close(&order(2))).await.unwrap();
    assert_eq!(count(Status::Unpaid).await, 1);
    assert_eq!(count(Status::Paying).await, 1);
    assert_eq!(count(Status::Closed).await, 1);
    commit_step(&store, pay(&shown.order, "4200"))
        .await
        .unwrap();
    // A rejected step counts for nothing.
    assert!(commit_step(&store, close(&shown.order)).await.is_err());
    assert_eq!(count(Status::Paying).await, 0);
    assert_eq!(count(Status::Paid).await, 1);
}

pub async fn what_is_old_is_forgotten(place: &dyn Place) {
    let store = place.open().await;
    commit_step(&store, creation(1)).await.unwrap();
    // More than a clean-up deletes in one go.
    let many = (0..1200)
        .map(|n| nonce(1, &n.to_string(), at(1)))
        .collect::<Vec<_>>();
    commit(&store, writes(many)).await.unwrap();
    let state = |n, seconds| {
        Write::OauthState(OauthState {
            state_hash: hash(n),
            order: order_id(1),
            attempt: AttemptNumber::FIRST,
            account: AccountId::new("school-wechat"),
            created_at: at(seconds),
            used: None,
        })
    };
    let rows = [
        nonce(1, "young", at(10)),
        key_started("old", 10),
        key_finished("old", "x"),
        key_started("young", 20),
        state(1, 9),
        state(2, 10),
    ];
    commit(&store, writes(rows)).await.unwrap();

    assert_eq!(store.forget(at(10), at(20)).await.unwrap(), 1202);
    assert_eq!(store.forget(at(10), at(20)).await.unwrap(), 0);
    assert_eq!(commit_write(&store, nonce(1, "7", at(30))).await, Ok(()));
    assert!(
        commit_write(&store, nonce(1, "young", at(30)))
            .await
            .is_err()
    );
    let key = async |key| store.idempotency(merchant_id(1), key).await.unwrap();
    assert_eq!(key("old").await, None);
    assert!(key("young").await.is_some());
    assert_eq!(store.oauth_state(hash(1)).await.unwrap(), None);
    assert!(store.oauth_state(hash(2)).await.unwrap().is_some());
    assert!(store.order(order_id(1)).await.unwrap().is_some());
}

pub async fn it_is_all_there_after_reopening(place: &dyn Place) {
    let store = place.open().await;
    let shown = shown(&store, 1).await;
    let paid = pay(&shown, "4200");
    commit_step(&store, paid.clone()).await.unwrap();
    let told = store.timeline(order_id(1)).await.unwrap();
    store.close().await;
    drop(store);

    let store = place.open().await;
    let found = store.order(order_id(1)).await.unwrap().unwrap();
    assert_eq!(found.order, paid.order);
    assert_eq!(found.snapshot, snapshot(1));
    assert_eq!(store.timeline(order_id(1)).await.unwrap(), told);
    // What guarded it still does.
    assert_eq!(
        commit_step(&store, surplus(&paid.order, "4200", refund_id(1))).await,
        Err(Rejection::CaptureKnown)
    );
}

pub async fn a_closed_store_says_so(place: &dyn Place) {
    let store = place.open().await;
    // What was handed over before the closing is written.
    let under_way: Vec<_> = (1..=20)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.commit(vec![alone(creation(n))]).await })
        })
        .collect();
    tokio::task::yield_now().await;
    store.close().await;
    store.close().await;
    let mut accepted = Vec::new();
    for (n, commit) in (1..).zip(under_way) {
        match commit.await.unwrap() {
            Ok(verdicts) => {
                assert_eq!(verdicts, vec![Ok(())]);
                accepted.push(n);
            }
            Err(StoreError::Unavailable { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let refused = |error: Result<(), StoreError>| {
        assert!(matches!(error, Err(StoreError::Unavailable { .. })));
    };
    refused(store.commit(vec![alone(creation(1))]).await.map(drop));
    refused(store.order(order_id(1)).await.map(drop));
    refused(store.ping().await.map(drop));
    refused(store.forget(at(1), at(1)).await.map(drop));
    drop(store);

    let store = place.open().await;
    for n in accepted {
        assert!(store.order(order_id(n)).await.unwrap().is_some());
    }
    let reason = CloseReason::Deadline;
    let closing = step(&order(30), vec![Event::OrderClosed { reason }], |_| {});
    assert!(commit_step(&store, closing).await.is_err());
}
