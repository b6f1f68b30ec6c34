//! Telling merchants, against endpoints that misbehave (reliability E1-E4, F34-F36).
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its own set-up fails"
)]

mod embedded;
mod outbox;
mod receiver;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use enrollpay::clock::{Clock, ManualClock, SystemClock};
use enrollpay::order::Timestamp;
use enrollpay::random::SeededRandom;
use enrollpay::sealing::{Place, Sealed};
use enrollpay::store::{DeliveryState, Owned};
use enrollpay::webhook::guard::{Lookup, Policy};
use enrollpay::webhook::{Options, Parts, Relay, Schedule, start};

use outbox::Outbox;
use receiver::{Answer, Receiver};

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const OLDER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NOW: Timestamp = Timestamp::from_seconds(1_795_168_800);

/// Quick waits, and loopback may be dialled.
fn options() -> Options {
    Options {
        policy: Policy {
            production: false,
            allowed_networks: vec!["127.0.0.1/32".parse().unwrap()],
            admin: None,
        },
        schedule: Schedule::new(vec![Duration::from_millis(5); 3]),
        timeout: Duration::from_millis(500),
        poll_every: Duration::from_millis(20),
        ..Options::default()
    }
}

fn relay(options: Options, outbox: &Arc<Outbox>, clock: Arc<dyn Clock>) -> Relay {
    let parts = Parts {
        store: outbox.clone(),
        sealer: outbox.sealer.clone(),
        clock,
        random: Arc::new(SeededRandom::new(11)),
        owned: Arc::new(|| Owned::All),
    };
    start(options, parts).unwrap()
}

fn now() -> Timestamp {
    SystemClock.now()
}

#[tokio::test]
async fn every_try_carries_the_same_id_and_bytes_and_a_valid_signature() {
    let outbox = Outbox::new();
    let receiver =
        Receiver::start(|_, before| Answer::Status(if before < 2 { 500 } else { 204 })).await;
    let merchant = outbox.merchant(Some(receiver.url()), &[(SECRET, None)]);
    let event = outbox.event(merchant, 1, 4, now());
    let relay = relay(options(), &outbox, Arc::new(SystemClock));

    let row = outbox.wait_state(event, DeliveryState::Delivered).await;
    assert_eq!((row.tries, row.next_at), (3, None));
    let seen = receiver.wait(3).await;
    assert_eq!(seen.len(), 3);
    let written = outbox.body(event);
    let judge = standardwebhooks::Webhook::new(SECRET).unwrap();
    for try_ in &seen {
        assert_eq!(try_.id(), event.to_string());
        assert_eq!(try_.body, written, "byte-identical (E4)");
        assert_eq!(try_.path, "/hook?token=do-not-log");
        assert_eq!(try_.header("content-type"), "application/json");
        let mut headers = reqwest::header::HeaderMap::new();
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            headers.insert(name, try_.header(name).parse().unwrap());
        }
        judge.verify(&try_.body, &headers).unwrap();
    }
    relay.stop().await;
}

#[tokio::test]
async fn bytes_that_are_not_those_once_written_are_never_sent() {
    let outbox = Outbox::new();
    let receiver = Receiver::start(|_, _| Answer::Status(204)).await;
    let merchant = outbox.merchant(Some(receiver.url()), &[(SECRET, None)]);
    let clock = ManualClock::at(NOW);
    let [altered, erased, old] = [1, 2, 3].map(|order| outbox.event(merchant, order, 1, NOW));
    outbox.tamper(altered, |row| {
        let id = row.id.to_string();
        let place = Place {
            table: "outbox",
            column: "body",
            row: &id,
        };
        // Sealed as it should be: only the digest can tell.
        row.body = outbox.sealer.seal(place, br#"{"data":"another"}"#);
    });
    outbox.tamper(erased, |row| row.body = Sealed(Vec::new()));
    // Written before there were digests.
    outbox.tamper(old, |row| row.body_digest = None);
    let relay = relay(options(), &outbox, Arc::new(clock.clone()));

    let row = outbox.wait_state(erased, DeliveryState::Parked).await;
    assert_eq!(row.note, "erased with the payer's data");
    outbox.wait_state(old, DeliveryState::Delivered).await;
    let row = outbox.wait(altered, |row| row.tries > 0).await;
    assert_eq!(row.note, "the stored body is not the one that was written");
    assert_eq!(row.state, DeliveryState::Pending);
    let told: Vec<_> = receiver
        .seen()
        .iter()
        .map(|one| one.id().to_owned())
        .collect();
    assert_eq!(told, [old.to_string()]);
    relay.stop().await;
}

#[tokio::test]
async fn during_a_rotation_both_signatures_are_sent_and_an_ended_secret_signs_no_more() {
    let outbox = Outbox::new();
    let receiver = Receiver::start(|_, _| Answer::Status(200)).await;
    let clock = ManualClock::at(NOW);
    let secrets = [(SECRET, None), (OLDER, Some(NOW.plus_ms(60_000)))];
    let merchant = outbox.merchant(Some(receiver.url()), &secrets);
    let relay = relay(options(), &outbox, Arc::new(clock.clone()));

    let during = outbox.event(merchant, 1, 1, NOW);
    outbox.wait_state(during, DeliveryState::Delivered).await;
    clock.advance_ms(60_000);
    let after = outbox.event(merchant, 2, 1, NOW);
    outbox.wait_state(after, DeliveryState::Delivered).await;

    let seen = receiver.seen();
    let sign = |secret, at: usize| {
        let one = &seen[at];
        let seconds = one.header("webhook-timestamp").parse().unwrap();
        let judge = standardwebhooks::Webhook::new(secret).unwrap();
        judge.sign(one.id(), seconds, &one.body).unwrap()
    };
    let both = format!("{} {}", sign(SECRET, 0), sign(OLDER, 0));
    assert_eq!(seen[0].header("webhook-signature"), both);
    assert_eq!(seen[1].header("webhook-signature"), sign(SECRET, 1));
    relay.stop().await;
}

#[tokio::test]
async fn a_dead_endpoint_is_tried_for_75_hours_then_parked_with_a_note() {
    let outbox = Outbox::new();
    let receiver = Receiver::start(|_, _| Answer::Status(502)).await;
    let merchant = outbox.merchant(Some(receiver.url()), &[(SECRET, None)]);
    let clock = ManualClock::at(NOW);
    let event = outbox.event(merchant, 1, 1, NOW);
    let schedule = Schedule::default();
    let relay = relay(
        Options {
            schedule,
            ..options()
        },
        &outbox,
        Arc::new(clock.clone()),
    );
    for tries in 1.. {
        let row = outbox.wait(event, |row| row.tries == tries).await;
        let Some(next) = row.next_at else {
            assert_eq!(row.state, DeliveryState::Parked);
            assert_eq!(row.note, "given up after 13 tries, the last: status 502");
            break;
        };
        assert_eq!(row.state, DeliveryState::Pending);
        assert!(next > clock.now());
        clock.set(next);
        relay.nudge().nudge();
    }
    assert!(clock.now().since(NOW) >= 75 * 3_600_000);
    assert_eq!(receiver.seen().len(), 13);
    relay.stop().await;
}

#[tokio::test]
async fn redirects_are_failures_and_never_followed() {
    let outbox = Outbox::new();
    let elsewhere = Receiver::start(|_, _| Answer::Status(200)).await;
    let target = format!("location: {}", elsewhere.url());
    let receiver = Receiver::start(move |_, before| {
        let status = [301, 302, 307, 308][before % 4];
        Answer::With(status, target.clone())
    })
    .await;
    let merchant = outbox.merchant(Some(receiver.url()), &[(SECRET, None)]);
    let event = outbox.event(merchant, 1, 1, now());
    let relay = relay(options(), &outbox, Arc::new(SystemClock));
    let row = outbox.wait_state(event, DeliveryState::Parked).await;
    assert_eq!(row.tries, 4);
    assert!(
        row.note.contains("status 308: redirects are not followed"),
        "{}",
        row.note
    );
    assert!(elsewhere.seen().is_empty());
    relay.stop().await;
}

#[tokio::test]
async fn gone_parks_at_once_and_so_does_a_merchant_without_an_address() {
    let outbox = Outbox::new();
    let receiver = Receiver::start(|_, _| Answer::Status(410)).await;
    let gone = outbox.merchant(Some(receiver.url()), &[(SECRET, None)]);
    let gone = outbox.event(gone, 1, 1, now());
    let without = outbox.merchant(None, &[(SECRET, None)]);
    let without = outbox.event(without, 2, 1, now());
    let relay = relay(options(), &outbox, Arc::new(SystemClock));
    let row = outbox.wait_state(gone, DeliveryState::Parked).await;
    assert_eq!(row.tries, 1);
    assert!(row.note.contains("410"));
    let row = outbox.wait_state(without, DeliveryState::Parked).await;
    assert_eq!(row.note, "no webhook_url");
    relay.stop().await;
}

#[tokio::test]
async fn retry_after_is_obeyed_by_the_whole_endpoint() {
    let outbox = Outbox::new();
    let receiver = Receiver::start(|_, before| match before {
        0 => Answer::With(429, "retry-after: 600".into()),
        _ => Answer::Status(200),
    })
    .await;
    let clock = ManualClock::at(NOW);
    let merchant = outbox.merchant(Some(receiver.url()), &[(SECRET, None)]);
    let first = outbox.event(merchant, 1, 1, NOW);
    let relay = relay(options(), &outbox, Arc::new(clock.clone()));
    let row = outbox.wait(first, |row| row.tries == 1).await;
    assert_eq!(row.next_at, Some(NOW.plus_ms(600_000)));

    let second = outbox.event(merchant, 2, 1, NOW);
    relay.nudge().nudge();
    // Another merchant's event passes: the relay has looked, and left the paused endpoint alone.
    let other = Receiver::start(|_, _| Answer::Status(200)).await;
    let neighbour = outbox.merchant(Some(other.url()), &[(SECRET, None)]);
    let passes = outbox.event(neighbour, 3, 1, NOW);
    outbox.wait_state(passes, DeliveryState::Delivered).await;
    assert_eq!(outbox.row(second).tries, 0);

    clock.advance_ms(600_000);
    outbox.wait_state(first, DeliveryState::Delivered).await;
    outbox.wait_state(second, DeliveryState::Delivered).await;
    assert_eq!(receiver.seen().len(), 3);
    relay.stop().await;
}

#[tokio::test]
async fn any_2xx_acknowledges_whatever_follows_it() {
    for answer in [
        Answer::Endless(200),
        Answer::Reset(202),
        Answer::Status(299),
    ] {
        let outbox = Outbox::new();
        let script = answer.clone();
        let receiver = Receiver::start(move |_, _| script.clone()).await;
        let merchant = outbox.merchant(Some(receiver.url()), &[(SECRET, None)]);
        let event = outbox.event(merchant, 1, 1, now());
        let relay = relay(options(), &outbox, Arc::new(SystemClock));
        let row = outbox.wait_state(event, DeliveryState::Delivered).await;
        assert_eq!(row.tries, 1, "{answer:?}");
        relay.stop().await;
    }
}

#[tokio::test]
async fn silence_resets_and_endless_refusals_are_failures_within_the_time_limit() {
    let table = [
        (Answer::Hang, "no answer in time"),
        (
            Answer::Late(Duration::from_secs(30), 200),
            "no answer in time",
        ),
        (Answer::Drop, "the connection broke before an answer"),
        (Answer::Endless(500), "status 500"),
        (Answer::With(503, "retry-after: 0".into()), "status 503"),
    ];
    for (answer, note) in table {
        let outbox = Outbox::new();
        let script = answer.clone();
        let receiver = Receiver::start(move |_, _| script.clone()).await;
        let merchant = outbox.merchant(Some(receiver.url()), &[(SECRET, None)]);
        let event = outbox.event(merchant, 1, 1, now());
        let slow = Schedule::new(vec![Duration::from_hours(1)]);
        let relay = relay(
            Options {
                schedule: slow,
                ..options()
            },
            &outbox,
            Arc::new(SystemClock),
        );
        let row = outbox.wait(event, |row| row.tries == 1).await;
        assert_eq!(row.state, DeliveryState::Pending, "{answer:?}");
        assert_eq!(row.note, note, "{answer:?}: our words, no address");
        relay.stop().await;
    }
}

#[tokio::test]
async fn an_orders_events_arrive_in_version_order() {
    let outbox = Outbox::new();
    // The first event fails twice: its successors wait all the same (E3).
    let receiver =
        Receiver::start(|_, before| Answer::Status(if before < 2 { 500 } else { 200 })).await;
    let merchant = outbox.merchant(Some(receiver.url()), &[(SECRET, None)]);
    let events: Vec<_> = (1..=4)
        .map(|version| outbox.event(merchant, 1, version, now()))
        .collect();
    let relay = relay(options(), &outbox, Arc::new(SystemClock));
    outbox.wait_state(events[3], DeliveryState::Delivered).await;
    let seen: Vec<String> = receiver
        .seen()
        .iter()
        .map(|one| one.id().to_owned())
        .collect();
    let order = [0, 0, 0, 1, 2, 3].map(|index| events[index].to_string());
    assert_eq!(seen, order);
    relay.stop().await;
}

#[tokio::test]
async fn dead_endpoints_delay_nobody_else() {
    let outbox = Outbox::new();
    let hanging = Receiver::start(|_, _| Answer::Hang).await;
    let alive = Receiver::start(|_, _| Answer::Status(200)).await;
    let options = Options {
        timeout: Duration::from_mins(10),
        drain: Duration::ZERO,
        in_flight: 8,
        in_flight_per_merchant: 4,
        ..options()
    };
    let dead = outbox.merchant(Some(hanging.url()), &[(SECRET, None)]);
    for order in 0..50 {
        outbox.event(dead, order, 1, now());
    }
    let good = outbox.merchant(Some(alive.url()), &[(SECRET, None)]);
    let relay = relay(options, &outbox, Arc::new(SystemClock));
    // The dead one holds all the places that it can get.
    hanging.wait(4).await;
    let events: Vec<_> = (100..160)
        .map(|order| outbox.event(good, order, 1, now()))
        .collect();
    relay.nudge().nudge();
    for event in events {
        outbox.wait_state(event, DeliveryState::Delivered).await;
    }
    assert_eq!(hanging.seen().len(), 4);
    relay.stop().await;
}

#[tokio::test]
async fn an_endpoint_that_fails_gets_one_try_at_a_time_until_it_recovers() {
    let outbox = Outbox::new();
    let down = Arc::new(AtomicBool::new(true));
    let script = {
        let down = down.clone();
        move |_: &receiver::Received, _| {
            if down.load(Ordering::SeqCst) {
                // Long enough that tries at the same time would meet.
                Answer::Late(Duration::from_millis(20), 500)
            } else {
                Answer::Status(200)
            }
        }
    };
    let receiver = Receiver::start(script).await;
    let merchant = outbox.merchant(Some(receiver.url()), &[(SECRET, None)]);
    let events: Vec<_> = (0..12)
        .map(|order| outbox.event(merchant, order, 1, now()))
        .collect();
    let options = Options {
        in_flight_per_merchant: 4,
        schedule: Schedule::new(vec![Duration::from_millis(5); 200]),
        ..options()
    };
    let relay = relay(options, &outbox, Arc::new(SystemClock));
    // The first four start together, before anything is known of the endpoint.
    let seen = receiver.wait(12).await;
    let open: Vec<usize> = seen.iter().map(|one| one.open).collect();
    assert!(open[..4].contains(&4), "{open:?}");
    assert!(open[8..].iter().all(|open| *open == 1), "{open:?}");
    down.store(false, Ordering::SeqCst);
    for event in events {
        outbox.wait_state(event, DeliveryState::Delivered).await;
    }
    relay.stop().await;
}

#[tokio::test]
async fn a_crash_between_delivery_and_record_delivers_again_under_the_same_id() {
    let outbox = Outbox::new();
    let receiver = Receiver::start(|_, _| Answer::Status(200)).await;
    let merchant = outbox.merchant(Some(receiver.url()), &[(SECRET, None)]);
    let event = outbox.event(merchant, 1, 1, now());
    outbox.broken.store(true, Ordering::SeqCst);
    let options = Options {
        drain: Duration::ZERO,
        ..options()
    };
    let first = relay(options.clone(), &outbox, Arc::new(SystemClock));
    receiver.wait(1).await;
    first.stop().await;
    assert_eq!(outbox.row(event).state, DeliveryState::Pending);

    outbox.broken.store(false, Ordering::SeqCst);
    let second = relay(options, &outbox, Arc::new(SystemClock));
    outbox.wait_state(event, DeliveryState::Delivered).await;
    let seen = receiver.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0].id(), seen[1].id());
    assert_eq!(seen[0].body, seen[1].body);
    second.stop().await;
}

#[tokio::test]
async fn while_the_store_takes_no_record_an_event_is_not_sent_again() {
    let outbox = Outbox::new();
    let receiver = Receiver::start(|_, _| Answer::Status(200)).await;
    let merchant = outbox.merchant(Some(receiver.url()), &[(SECRET, None)]);
    let event = outbox.event(merchant, 1, 1, now());
    outbox.broken.store(true, Ordering::SeqCst);
    let relay = relay(options(), &outbox, Arc::new(SystemClock));
    receiver.wait(1).await;
    // A neighbour's later event comes through several looks at the outbox.
    for order in 2..5 {
        let other = outbox.event(merchant, order, 1, now());
        relay.nudge().nudge();
        receiver.wait(usize::try_from(order).unwrap()).await;
        assert_eq!(outbox.row(other).state, DeliveryState::Pending);
    }
    outbox.broken.store(false, Ordering::SeqCst);
    outbox.wait_state(event, DeliveryState::Delivered).await;
    let ids: Vec<_> = receiver
        .seen()
        .iter()
        .map(|one| one.id().to_owned())
        .collect();
    let unique: std::collections::HashSet<_> = ids.iter().collect();
    assert_eq!(ids.len(), unique.len(), "none twice");
    relay.stop().await;
}

#[tokio::test]
async fn a_changed_address_is_used_for_the_next_try() {
    let outbox = Outbox::new();
    let wrong = Receiver::start(|_, _| Answer::Status(404)).await;
    let right = Receiver::start(|_, _| Answer::Status(200)).await;
    let merchant = outbox.merchant(Some(wrong.url()), &[(SECRET, None)]);
    let event = outbox.event(merchant, 1, 1, now());
    let options = Options {
        schedule: Schedule::new(vec![Duration::from_millis(5); 1000]),
        ..options()
    };
    let relay = relay(options, &outbox, Arc::new(SystemClock));
    wrong.wait(2).await;
    outbox.set_url(merchant, right.url());
    outbox.wait_state(event, DeliveryState::Delivered).await;
    assert_eq!(right.seen().len(), 1);
    relay.stop().await;
}

/// Names an allowed address first and a forbidden one afterwards.
#[derive(Debug, Default)]
struct Rebinding(AtomicUsize);

#[async_trait]
impl Lookup for Rebinding {
    async fn lookup(&self, host: &str) -> std::io::Result<Vec<IpAddr>> {
        assert_eq!(host, "school.test");
        let before = self.0.fetch_add(1, Ordering::SeqCst);
        let address = if before == 0 {
            "127.0.0.1"
        } else {
            "127.0.0.2"
        };
        Ok(vec![address.parse().unwrap()])
    }
}

#[tokio::test]
async fn a_name_that_moves_inwards_is_refused_at_the_next_delivery() {
    let outbox = Outbox::new();
    let public = Receiver::start(|_, _| Answer::Status(200)).await;
    let port = public.address.port();
    let inner = Receiver::start_at(&format!("127.0.0.2:{port}"), |_, _| Answer::Status(200)).await;
    let url = format!("http://school.test:{port}/hook");
    let merchant = outbox.merchant(Some(url), &[(SECRET, None)]);
    let options = Options {
        lookup: Arc::new(Rebinding::default()),
        ..options()
    };
    let relay = relay(options, &outbox, Arc::new(SystemClock));
    let first = outbox.event(merchant, 1, 1, now());
    outbox.wait_state(first, DeliveryState::Delivered).await;
    let second = outbox.event(merchant, 2, 1, now());
    let row = outbox.wait_state(second, DeliveryState::Parked).await;
    assert!(row.note.contains("loopback address"), "{}", row.note);
    assert!(inner.seen().is_empty());
    assert_eq!(public.seen().len(), 1);
    relay.stop().await;
}

#[tokio::test]
async fn the_admin_listener_is_never_dialled() {
    let outbox = Outbox::new();
    let admin = Receiver::start(|_, _| Answer::Status(200)).await;
    let mut options = options();
    options.policy.admin = Some(admin.address);
    let merchant = outbox.merchant(Some(admin.url()), &[(SECRET, None)]);
    let named = format!("http://localhost:{}/", admin.address.port());
    let by_name = outbox.merchant(Some(named), &[(SECRET, None)]);
    let events = [
        outbox.event(merchant, 1, 1, now()),
        outbox.event(by_name, 2, 1, now()),
    ];
    let relay = relay(options, &outbox, Arc::new(SystemClock));
    for event in events {
        let row = outbox.wait_state(event, DeliveryState::Parked).await;
        assert!(row.note.contains("admin listener"), "{}", row.note);
    }
    assert!(admin.seen().is_empty());
    relay.stop().await;
}
