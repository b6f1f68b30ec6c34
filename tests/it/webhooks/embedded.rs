//! The relay over the real embedded store: what is on disk is what counts.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use enrollpay::clock::SystemClock;
use enrollpay::order::event::Attention;
use enrollpay::order::{Event, EventId, Order};
use enrollpay::random::SeededRandom;
use enrollpay::sealing::{Place, Sealer};
use enrollpay::store::sqlite::{Options as StoreOptions, SqliteStore};
use enrollpay::store::{
    DeliveryState, DuplicatePolicy, Masks, Merchant, OrderWrite, OutboxEntry, Store, WebhookSecret,
    Write,
};
use enrollpay::webhook::{Options, Parts, Relay, start};

use super::receiver::{Answer, Receiver};
use super::{SECRET, now, options};
use crate::store::sample;

fn open(folder: &Path) -> Arc<dyn Store> {
    let options = StoreOptions::new(Arc::new(SystemClock));
    Arc::new(SqliteStore::open(folder.join("enrollpay.db"), options).unwrap())
}

fn sealer() -> Sealer {
    let random = Arc::new(SeededRandom::new(3));
    Sealer::new(&[(1, [7; 32])], &[8; 32], &[9; 32], random)
}

fn relay(options: Options, store: &Arc<dyn Store>) -> Relay {
    let parts = Parts {
        store: store.clone(),
        sealer: sealer(),
        clock: Arc::new(SystemClock),
        random: Arc::new(SeededRandom::new(11)),
        owned: Arc::new(|| enrollpay::store::Owned::All),
    };
    start(options, parts).unwrap()
}

fn merchant(url: String) -> Merchant {
    let id = sample::merchant_id(1);
    let row = id.to_string();
    let place = Place {
        table: "merchants",
        column: "webhook_secret",
        row: &row,
    };
    Merchant {
        id,
        name: "school".into(),
        display_name: "学校".into(),
        help_lines: [None, None],
        webhook_url: Some(url),
        webhook_secrets: vec![WebhookSecret {
            sealed: sealer().seal(place, SECRET.as_bytes()),
            until: None,
        }],
        return_hosts: Vec::new(),
        duplicate: DuplicatePolicy::Warn,
        masks: Masks::default(),
        payer_must_be_registrant: false,
        accounts: Vec::new(),
        created_at: sample::START,
    }
}

/// An event of the order's present version, sealed as the committer seals it.
fn told(order: &Order, n: u32) -> OutboxEntry {
    let mut entry = sample::outbox(order, n);
    let row = entry.id.to_string();
    let place = Place {
        table: "outbox",
        column: "body",
        row: &row,
    };
    let body = format!(r#"{{"id":"{row}","version":{}}}"#, order.version);
    entry.body_digest = Some(sealer().body_digest(body.as_bytes()));
    entry.body = sealer().seal(place, body.as_bytes());
    entry.created_at = now();
    entry.next_at = Some(now());
    entry
}

async fn commit(store: &Arc<dyn Store>, write: OrderWrite) {
    let results = store.commit(vec![sample::alone(write)]).await.unwrap();
    assert_eq!(results, [Ok(())]);
}

/// A merchant, and an order that was closed and then needed attention: two events, in that order.
async fn two_events(store: &Arc<dyn Store>, url: String) -> [EventId; 2] {
    let merchant = sample::writes(vec![Write::Merchant(merchant(url))]);
    assert_eq!(store.commit(vec![merchant]).await.unwrap(), [Ok(())]);
    let created = sample::creation(1);
    let order = created.order.clone();
    commit(store, created).await;
    let mut closed = sample::close(&order);
    closed.outbox.push(told(&closed.order, 1));
    let order = closed.order.clone();
    commit(store, closed).await;
    let why = Attention::InTimeAfterClosing;
    let mut raised = sample::step(&order, vec![Event::AttentionRaised { why }], |_| {});
    raised.outbox.push(told(&raised.order, 2));
    commit(store, raised).await;
    [sample::event_id(1), sample::event_id(2)]
}

async fn wait_delivered(store: &Arc<dyn Store>, event: EventId) -> OutboxEntry {
    let poll = async {
        loop {
            let entry = store.outbox_event(event).await.unwrap().unwrap();
            if entry.state == DeliveryState::Delivered {
                return entry;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, poll).await.expect("delivered")
}

#[tokio::test]
async fn what_was_sent_but_not_recorded_is_sent_again_after_a_restart_with_the_same_id_and_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_, before| match before {
        // The answer comes too late for the first process.
        0 => Answer::Late(Duration::from_secs(30), 200),
        _ => Answer::Status(200),
    })
    .await;
    let options = Options {
        drain: Duration::ZERO,
        timeout: Duration::from_mins(1),
        ..options()
    };
    let store = open(folder.path());
    let events = two_events(&store, receiver.url()).await;
    let first = relay(options.clone(), &store);
    receiver.wait(1).await;
    first.stop().await;
    store.close().await;
    drop(store);

    let store = open(folder.path());
    let second = relay(options, &store);
    wait_delivered(&store, events[0]).await;
    wait_delivered(&store, events[1]).await;
    let seen = receiver.seen();
    let ids: Vec<&str> = seen.iter().map(super::receiver::Received::id).collect();
    let [closed, raised] = events.map(|event| event.to_string());
    assert_eq!(ids, [&closed, &closed, &raised], "in version order (E3)");
    assert_eq!(seen[0].body, seen[1].body);
    let gauge = store.outbox_gauge().await.unwrap();
    assert_eq!((gauge.pending, gauge.parked), (0, 0));
    second.stop().await;
}

#[tokio::test]
async fn a_parked_event_lets_the_next_pass_and_is_delivered_when_resent() {
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(|_, before| match before {
        0 => Answer::Status(410),
        _ => Answer::Status(200),
    })
    .await;
    let store = open(folder.path());
    let events = two_events(&store, receiver.url()).await;
    let relay = relay(options(), &store);
    wait_delivered(&store, events[1]).await;
    let parked = store.outbox_event(events[0]).await.unwrap().unwrap();
    assert_eq!(parked.state, DeliveryState::Parked);
    assert!(parked.note.contains("410"));

    let resend = Write::Delivery {
        event: events[0],
        was: (parked.state, parked.tries),
        state: DeliveryState::Pending,
        tries: 0,
        next_at: Some(now()),
        note: "resent".into(),
        at: now(),
    };
    let results = store.commit(vec![sample::writes(vec![resend])]).await;
    assert_eq!(results.unwrap(), [Ok(())]);
    relay.nudge().nudge();
    wait_delivered(&store, events[0]).await;
    let seen = receiver.seen();
    assert_eq!(seen.len(), 3);
    assert_eq!(seen[0].id(), seen[2].id());
    assert_eq!(seen[0].body, seen[2].body);
    relay.stop().await;
}
