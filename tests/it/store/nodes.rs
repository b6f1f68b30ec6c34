//! What several nodes need of a store: who lives, who owns which shard, whose orders are due.

use std::sync::Arc;

use enrollpay::store::{Fence, InstanceRow, Owned, Rejection, ShardRow, Store, Write, shard_of};

use super::Place;
use super::sample::*;
use super::suite::{commit_step, commit_write};

const SHARDS: u16 = 16;

fn seen(instance: u128, lease_ms: i64) -> Write {
    Write::InstanceSeen {
        instance,
        node: format!("node-{instance}"),
        internal_url: Some(format!("http://10.0.0.{instance}:8083")),
        lease_ms,
    }
}

fn claimed(shard: u16, epoch: u64, instance: u128, silent_ms: Option<i64>) -> Write {
    Write::ShardClaimed {
        shard,
        epoch,
        instance,
        silent_ms,
        at: START,
    }
}

async fn instances(store: &Arc<dyn Store>) -> Vec<InstanceRow> {
    store.instances().await.unwrap()
}

pub async fn an_instance_lives_until_its_lease_is_over(place: &dyn Place) {
    let store = place.open().await;
    assert_eq!(instances(&store).await, vec![]);
    commit_write(&store, seen(1, 60_000)).await.unwrap();
    commit_write(&store, seen(2, -5_000)).await.unwrap();
    let known = instances(&store).await;
    let alive: Vec<_> = known.iter().map(InstanceRow::is_alive).collect();
    assert_eq!(alive, [true, false]);
    assert_eq!(known[0].node, "node-1");
    assert_eq!(
        known[0].internal_url.as_deref(),
        Some("http://10.0.0.1:8083")
    );
    assert!((1..=60_000).contains(&known[0].left_ms));
    assert!(known[1].left_ms <= -5_000);
    commit_write(&store, seen(2, 60_000)).await.unwrap();
    assert!(instances(&store).await[1].is_alive(), "it came back");
    let gone = Write::InstanceGone { instance: 1 };
    commit_write(&store, gone.clone()).await.unwrap();
    commit_write(&store, gone).await.unwrap();
    assert_eq!(instances(&store).await.len(), 1);
}

pub async fn a_shard_changes_hands(place: &dyn Place) {
    let store = place.open().await;
    let row = |epoch, instance| {
        vec![ShardRow {
            shard: 3,
            epoch,
            instance,
        }]
    };
    let pair = |epoch, instance| Fence::Owner {
        shard: 3,
        epoch,
        instance,
    };
    assert_eq!(store.shards().await.unwrap(), vec![]);
    assert!(store.fence_stands(Fence::None).await.unwrap());
    assert!(!store.fence_stands(pair(1, 7)).await.unwrap());
    commit_write(&store, claimed(3, 1, 7, None)).await.unwrap();
    assert_eq!(store.shards().await.unwrap(), row(1, Some(7)));
    assert!(store.fence_stands(pair(1, 7)).await.unwrap());
    let stale = claimed(3, 1, 8, None);
    let moved = Err(Rejection::EpochMoved { epoch: 1 });
    assert_eq!(commit_write(&store, stale).await, moved);

    // Given back by its owner, and by nobody else.
    for (epoch, instance) in [(1, 8), (2, 7)] {
        let release = Write::ShardReleased {
            shard: 3,
            epoch,
            instance,
        };
        commit_write(&store, release).await.unwrap();
        assert_eq!(store.shards().await.unwrap(), row(1, Some(7)));
    }
    let release = Write::ShardReleased {
        shard: 3,
        epoch: 1,
        instance: 7,
    };
    commit_write(&store, release).await.unwrap();
    assert_eq!(store.shards().await.unwrap(), row(1, None));
    assert!(!store.fence_stands(pair(1, 7)).await.unwrap());
    let mut write = creation(1);
    write.fence = pair(1, 7);
    assert_eq!(commit_step(&store, write).await, Err(Rejection::FenceMoved));
    commit_write(&store, claimed(3, 2, 8, None)).await.unwrap();
    assert_eq!(store.shards().await.unwrap(), row(2, Some(8)));
}

/// Where no lock says that an owner is gone, its silence must.
pub async fn a_silent_owner_is_followed_by_the_stores_clock(place: &dyn Place) {
    let store = place.open().await;
    commit_write(&store, claimed(3, 1, 7, None)).await.unwrap();
    let take = claimed(3, 2, 8, Some(20_000));
    for lease_ms in [60_000, -5_000] {
        commit_write(&store, seen(7, lease_ms)).await.unwrap();
        let held = Err(Rejection::ShardHeld);
        assert_eq!(commit_write(&store, take.clone()).await, held);
    }
    commit_write(&store, seen(7, -25_000)).await.unwrap();
    commit_write(&store, take).await.unwrap();
    // One that took its leave is not waited for.
    commit_write(&store, claimed(3, 3, 9, Some(20_000)))
        .await
        .unwrap();
}

pub async fn due_orders_and_events_are_those_of_the_owner(place: &dyn Place) {
    let store = place.open().await;
    for n in 1..=40 {
        let mut write = creation(n);
        write.next_due_at = Some(at(1));
        write.outbox = vec![outbox(&write.order, n)];
        commit_step(&store, write).await.unwrap();
    }
    let mine: Arc<[u16]> = (0..SHARDS / 2).collect();
    let owned = Owned::Some {
        shards: SHARDS,
        mine: mine.clone(),
    };
    let due = store.due(at(9), &owned, 100).await.unwrap();
    let events = store.outbox_due(at(99), &owned, 100, 100).await.unwrap();
    let expected = (1..=40)
        .map(order_id)
        .filter(|id| mine.contains(&shard_of(*id, SHARDS)))
        .collect::<std::collections::BTreeSet<_>>();
    assert!((1..40).contains(&expected.len()), "both kinds are there");
    assert_eq!(
        due.iter()
            .copied()
            .collect::<std::collections::BTreeSet<_>>(),
        expected
    );
    let orders = events.iter().map(|event| event.order);
    assert_eq!(orders.collect::<std::collections::BTreeSet<_>>(), expected);
    let nothing = Owned::Some {
        shards: SHARDS,
        mine: Arc::new([]),
    };
    assert_eq!(store.due(at(9), &nothing, 100).await.unwrap(), vec![]);
    assert_eq!(store.due(at(9), &Owned::All, 100).await.unwrap().len(), 40);
}

pub async fn versions_are_told_of_the_orders_that_exist(place: &dyn Place) {
    let store = place.open().await;
    let created = creation(1);
    commit_step(&store, created.clone()).await.unwrap();
    commit_step(&store, creation(2)).await.unwrap();
    commit_step(&store, start(&created.order)).await.unwrap();
    let asked = [order_id(2), order_id(9), order_id(1)];
    let mut versions = store.versions(&asked).await.unwrap();
    versions.sort_unstable();
    assert_eq!(versions, vec![(order_id(1), 2), (order_id(2), 1)]);
    assert_eq!(store.versions(&[]).await.unwrap(), vec![]);
}

/// Of two who go on with what a dead request began, one does.
pub async fn an_abandoned_key_is_resumed_once(place: &dyn Place) {
    let store = place.open().await;
    let started = Write::IdempotencyStarted {
        merchant: merchant_id(1),
        key: "k".to_owned(),
        request_hash: [7; 32],
        instance: 5,
        at: at(1),
    };
    commit_write(&store, started).await.unwrap();
    let resumed = |instance, seconds| Write::IdempotencyResumed {
        merchant: merchant_id(1),
        key: "k".to_owned(),
        was: (5, at(1)),
        instance,
        at: at(seconds),
    };
    commit_write(&store, resumed(6, 40)).await.unwrap();
    let second = commit_write(&store, resumed(7, 41)).await;
    let Err(Rejection::IdempotencyKeyTaken(row)) = second else {
        panic!("resumed twice: {second:?}");
    };
    assert_eq!((row.instance, row.started_at), (6, at(40)));
    assert_eq!(row.answer, None);
}
