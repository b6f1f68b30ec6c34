//! Provider callbacks over real HTTP: what is believed, what is recorded, and what its sender is told.

#![expect(clippy::unwrap_used, reason = "a test ends where its house is broken")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer};
use enrollpay::actors::Options;
use enrollpay::http::{self, Deps, Limits, Settings};
use enrollpay::order::event::Attention;
use enrollpay::order::{Command, Event, OrderId, OutTradeNo, Status, Timestamp};
use enrollpay::sealing::Place;
use enrollpay::store::Store;
use futures_util::StreamExt as _;
use reqwest::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use ulid::Ulid;

use crate::actors::bench::{
    AMOUNT, Bench, Commits, FIRST, PUBLIC_URL, START, account, eventually, options,
};
use crate::support::{Pair, on_either_pair};

on_either_pair! {
    a_thousand_equal_notices_at_once_are_one,
    no_acknowledgement_before_the_disk,
    a_slow_disk_is_no_acknowledgement_and_no_loss,
    a_lost_actor_is_no_acknowledgement,
    forged_and_foreign_notices_change_nothing,
    another_amount_is_kept_and_pays_nothing,
    an_unknown_number_is_kept_after_ten_minutes,
    a_number_that_comes_back_is_paid,
    signed_and_unreadable_is_kept_and_not_acknowledged,
    news_of_a_refund_brings_the_capture_first,
    the_xml_of_the_older_interface_is_refused_calmly,
    news_without_consequence_is_acknowledged,
    money_after_the_end_goes_back,
    one_transaction_pays_one_trade,
    too_much_is_not_read,
    whoever_sends_too_slowly_is_not_waited_for,
    a_verified_word_without_consequence_is_stored_before_it_is_acknowledged,
}

const ACKNOWLEDGED: (StatusCode, &str) = (StatusCode::OK, r#"{"code":"SUCCESS"}"#);
const REFUSED: &str = r#"{"code":"FAIL"}"#;

struct Site {
    bench: Bench,
    address: SocketAddr,
    server: ServerHandle,
    client: reqwest::Client,
}

impl Site {
    fn over(bench: Bench) -> Self {
        let deps = Deps {
            orders: bench.orders.clone(),
            store: Arc::clone(&bench.gate) as Arc<dyn Store>,
            providers: bench.providers(),
            sealer: bench.sealer.clone(),
            clock: Arc::new(bench.clock.clone()),
            random: Arc::clone(&bench.random),
            streams: http::cashier::streams::Streams::default(),
            settings: Arc::new(Settings {
                public_url: PUBLIC_URL.to_owned(),
                demo: false,
                zone_minutes: 480,
                trusted_proxies: Vec::new(),
                well_known_files: None,
                demo_wallet_url: None,
                qr_ms: 180_000,
                limits: Limits::default(),
            }),
        };
        let public = http::routes::public(deps);
        let server = HttpServer::new(move || App::new().configure(public.clone()))
            .workers(2)
            .backlog(2_048)
            .disable_signals()
            .bind(("127.0.0.1", 0))
            .unwrap();
        let address = server.addrs()[0];
        let running = server.run();
        let server = running.handle();
        actix::spawn(running);
        Self {
            bench,
            address,
            server,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    async fn new(on: Pair) -> Self {
        Self::over(Bench::on(on, options()).await)
    }

    async fn post(&self, path: &str, body: String, signed: Option<&str>) -> (StatusCode, String) {
        let mut request = self
            .client
            .post(format!("http://{}{path}", self.address))
            .body(body);
        if let Some(signed) = signed {
            request = request.header("X-Signed", signed);
        }
        let response = request.send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }

    async fn notify(&self, body: impl Into<String>) -> (StatusCode, String) {
        let path = format!("/callbacks/wechatpay/{}", account());
        self.post(&path, body.into(), Some("yes")).await
    }

    async fn end(self) {
        self.server.stop(false).await;
        assert!(self.bench.shards.stop(Duration::from_secs(5)).await);
    }
}

fn acknowledged() -> (StatusCode, String) {
    (ACKNOWLEDGED.0, ACKNOWLEDGED.1.to_owned())
}

fn refused(status: StatusCode) -> (StatusCode, String) {
    (status, REFUSED.to_owned())
}

fn number(order: OrderId) -> OutTradeNo {
    OutTradeNo {
        order,
        attempt: FIRST,
    }
}

fn paid(order: OrderId, transaction: &str, at: Timestamp) -> String {
    let (number, fen) = (number(order), AMOUNT.get());
    format!("paid {number} {transaction} {fen} {}", at.as_millis())
}

async fn a_thousand_equal_notices_at_once_are_one(on: Pair) {
    let options = Options {
        idle_ms: 40,
        ..options()
    };
    let site = Site::over(Bench::on(on, options).await);
    let id = site.bench.made().await;
    let before = site.bench.stored(id).await.order.version;
    let notice = paid(id, "tx-1", START);
    // All of them are on their way before the first is on disk.
    site.bench.gate.shut();
    let notices = futures_util::stream::iter(0..1_000)
        .map(|_| site.notify(notice.clone()))
        .buffer_unordered(1_000)
        .collect::<Vec<_>>();
    let release = async {
        eventually(|| async {
            let observed = site.bench.shards.observe();
            observed
                .threads
                .iter()
                .map(|thread| thread.commands)
                .sum::<usize>()
                >= 200
        })
        .await;
        site.bench.gate.open();
    };
    let (answers, ()) = futures_util::future::join(notices, release).await;
    assert_eq!(answers.len(), 1_000);
    for answer in answers {
        assert_eq!(answer, acknowledged());
    }
    let stored = site.bench.stored(id).await;
    assert_eq!(stored.order.version, before + 1);
    assert_eq!(stored.order.captures.len(), 1);
    assert_eq!(stored.order.status(), Status::Paid);
    assert_eq!(site.bench.outbox().await.len(), 1);

    // The order is paid: more of the same need neither a commit nor an actor.
    eventually(|| async { site.bench.shards.observe().live == 0 }).await;
    site.bench.gate.groups.lock().unwrap().clear();
    assert_eq!(site.notify(notice).await, acknowledged());
    assert!(site.bench.gate.groups.lock().unwrap().is_empty());
    assert_eq!(site.bench.shards.observe().live, 0);
    site.end().await;
}

async fn no_acknowledgement_before_the_disk(on: Pair) {
    let site = Site::new(on).await;
    let id = site.bench.made().await;
    site.bench.gate.set(Commits::Refused);
    let notice = paid(id, "tx-1", START);
    assert_eq!(
        site.notify(notice.clone()).await,
        refused(StatusCode::SERVICE_UNAVAILABLE)
    );
    assert_eq!(site.bench.stored(id).await.order.status(), Status::Paying);
    site.bench.gate.set(Commits::Pass);
    assert_eq!(site.notify(notice).await, acknowledged());
    assert_eq!(site.bench.stored(id).await.order.status(), Status::Paid);
    site.end().await;
}

async fn a_slow_disk_is_no_acknowledgement_and_no_loss(on: Pair) {
    let site = Site::new(on).await;
    let id = site.bench.made().await;
    site.bench.gate.shut();
    let notice = paid(id, "tx-1", START);
    // A4: the disk does not answer at all; the provider is answered. The wait is for slow machines.
    let answer = tokio::time::timeout(Duration::from_secs(20), site.notify(notice.clone())).await;
    assert_eq!(
        answer.expect("an answer without the disk"),
        refused(StatusCode::SERVICE_UNAVAILABLE)
    );
    site.bench.gate.open();
    assert_eq!(site.notify(notice).await, acknowledged());
    assert_eq!(site.bench.stored(id).await.order.captures.len(), 1);
    site.end().await;
}

async fn a_lost_actor_is_no_acknowledgement(on: Pair) {
    let site = Site::new(on).await;
    let id = site.bench.made().await;
    site.bench.body.poisoned.store(true, Ordering::SeqCst);
    let notice = paid(id, "tx-1", START);
    assert_eq!(
        site.notify(notice.clone()).await,
        refused(StatusCode::SERVICE_UNAVAILABLE)
    );
    site.bench.body.poisoned.store(false, Ordering::SeqCst);
    assert_eq!(site.notify(notice).await, acknowledged());
    site.end().await;
}

async fn forged_and_foreign_notices_change_nothing(on: Pair) {
    let site = Site::new(on).await;
    let id = site.bench.made().await;
    let before = site.bench.stored(id).await;
    let notice = paid(id, "tx-1", START);
    let path = format!("/callbacks/wechatpay/{}", account());
    for signed in [None, Some("no")] {
        assert_eq!(
            site.post(&path, notice.clone(), signed).await,
            refused(StatusCode::UNAUTHORIZED)
        );
    }
    // An account of the other provider, and one that is not.
    for path in [
        format!("/callbacks/alipay/{}", account()),
        "/callbacks/wechatpay/nobody".to_owned(),
    ] {
        let (status, body) = site.post(&path, notice.clone(), Some("yes")).await;
        assert_eq!((status, body.as_str()), (StatusCode::NOT_FOUND, ""));
    }
    let after = site.bench.stored(id).await;
    assert_eq!(after.order, before.order);
    let evidence = site.bench.gate.evidence(&account(), "tx-1").await.unwrap();
    assert_eq!(evidence, None, "what was not believed is not kept");
    site.end().await;
}

async fn another_amount_is_kept_and_pays_nothing(on: Pair) {
    let site = Site::new(on).await;
    let id = site.bench.made().await;
    let notice = format!("paid {} tx-1 1 {}", number(id), START.as_millis());
    assert_eq!(site.notify(notice.clone()).await, acknowledged());
    let stored = site.bench.stored(id).await;
    assert_eq!(stored.order.status(), Status::Paying);
    assert_eq!(stored.order.mismatches.len(), 1);
    let [event] = &site.bench.outbox().await[..] else {
        panic!("one event");
    };
    assert!(event.contains("order.attention"), "{event}");
    assert_eq!(site.notify(notice).await, acknowledged());
    assert_eq!(
        site.bench.stored(id).await.order.version,
        stored.order.version
    );
    site.end().await;
}

async fn an_unknown_number_is_kept_after_ten_minutes(on: Pair) {
    let site = Site::new(on).await;
    let stranger = OrderId::from_ulid(Ulid(77));
    for (transaction, notice) in [
        ("tx-7", paid(stranger, "tx-7", START)),
        (
            "tx-8",
            format!("paid 4200000001 tx-8 1 {}", START.as_millis()),
        ),
    ] {
        let first_seen = site.bench.clock_now();
        for _ in 0..2 {
            assert_eq!(
                site.notify(notice.clone()).await,
                refused(StatusCode::SERVICE_UNAVAILABLE)
            );
            site.bench.clock.advance_ms(299_000);
        }
        site.bench.clock.advance_ms(2_000);
        assert_eq!(site.notify(notice.clone()).await, acknowledged());
        let evidence = site.bench.gate.evidence(&account(), transaction).await;
        let evidence = evidence.unwrap().unwrap();
        assert_eq!(evidence.first_seen, first_seen);
        let row = format!("{}/{transaction}", account());
        let place = Place {
            table: "evidence",
            column: "body",
            row: &row,
        };
        let opened = site.bench.sealer.open(place, &evidence.body).unwrap();
        assert_eq!(opened, notice.as_bytes());
    }
    site.end().await;
}

async fn a_number_that_comes_back_is_paid(on: Pair) {
    let site = Site::new(on).await;
    let id = site.bench.made().await;
    let stranger = paid(OrderId::from_ulid(Ulid(77)), "tx-1", START);
    assert_eq!(
        site.notify(stranger).await,
        refused(StatusCode::SERVICE_UNAVAILABLE)
    );
    assert_eq!(site.notify(paid(id, "tx-1", START)).await, acknowledged());
    assert_eq!(site.bench.stored(id).await.order.status(), Status::Paid);
    site.end().await;
}

async fn signed_and_unreadable_is_kept_and_not_acknowledged(on: Pair) {
    let site = Site::new(on).await;
    assert_eq!(
        site.notify("mumble").await,
        refused(StatusCode::BAD_REQUEST)
    );
    // SHA-256 of "mumble".
    let reference = "2792e2efcb433e305f1917b533622cec84a871761009b1515fe77f141fb04256";
    let evidence = site
        .bench
        .gate
        .evidence(&account(), reference)
        .await
        .unwrap();
    assert_eq!(evidence.unwrap().reason, "unreadable");
    site.end().await;
}

/// The first that is heard of a trade may be that it was refunded, in the provider's own console.
async fn news_of_a_refund_brings_the_capture_first(on: Pair) {
    let site = Site::new(on).await;
    let id = site.bench.made().await;
    let notice = format!(
        "refunded {}",
        paid(id, "tx-1", START).replacen("paid", "R1", 1)
    );
    for _ in 0..2 {
        assert_eq!(site.notify(notice.clone()).await, acknowledged());
        let stored = site.bench.stored(id).await.order;
        assert_eq!(stored.status(), Status::Paid);
        assert_eq!(stored.captures.len(), 1);
    }
    let kept = site.bench.gate.evidence(&account(), "R1").await.unwrap();
    assert_eq!(kept.unwrap().reason, "foreign_refund");
    let calls = site.bench.events(id).await;
    let foreign = Event::AttentionRaised {
        why: Attention::ForeignRefund,
    };
    assert_eq!(calls.iter().filter(|event| **event == foreign).count(), 1);

    // No acknowledgement where the capture is of no order of ours, and nothing of the refund either.
    let stranger = paid(OrderId::from_ulid(Ulid(77)), "tx-7", START).replacen("paid", "R7", 1);
    assert_eq!(
        site.notify(format!("refunded {stranger}")).await,
        refused(StatusCode::SERVICE_UNAVAILABLE)
    );
    assert_eq!(
        site.bench.gate.evidence(&account(), "R7").await.unwrap(),
        None
    );
    site.end().await;
}

async fn the_xml_of_the_older_interface_is_refused_calmly(on: Pair) {
    let site = Site::new(on).await;
    assert_eq!(site.notify("<xml>").await, refused(StatusCode::BAD_REQUEST));
    site.end().await;
}

async fn news_without_consequence_is_acknowledged(on: Pair) {
    let site = Site::new(on).await;
    let id = site.bench.made().await;
    let before = site.bench.stored(id).await;
    assert_eq!(
        site.notify(format!("closed {}", number(id))).await,
        acknowledged()
    );
    assert_eq!(site.bench.stored(id).await.order, before.order);
    site.end().await;
}

async fn money_after_the_end_goes_back(on: Pair) {
    let site = Site::new(on).await;
    let id = site.bench.made().await;
    site.bench.clock.advance_ms(1_000);
    site.bench.tell(id, Command::Cancel).await.unwrap();
    eventually(|| async { site.bench.stored(id).await.order.status() == Status::Closed }).await;
    assert_eq!(site.notify(paid(id, "tx-1", START)).await, acknowledged());
    eventually(|| async {
        site.bench
            .provider
            .asked()
            .iter()
            .any(|line| line.starts_with("refund "))
    })
    .await;
    assert_eq!(site.bench.stored(id).await.order.status(), Status::Closed);
    site.end().await;
}

async fn one_transaction_pays_one_trade(on: Pair) {
    let site = Site::new(on).await;
    let first = site.bench.made().await;
    let second = site.bench.made().await;
    assert_eq!(
        site.notify(paid(first, "tx-1", START)).await,
        acknowledged()
    );
    assert_eq!(
        site.notify(paid(second, "tx-1", START)).await,
        acknowledged()
    );
    assert_eq!(site.bench.stored(first).await.order.status(), Status::Paid);
    assert_eq!(
        site.bench.stored(second).await.order.status(),
        Status::Paying
    );
    let evidence = site.bench.gate.evidence(&account(), "tx-1").await.unwrap();
    assert_eq!(evidence.unwrap().reason, "recorded_elsewhere");
    site.end().await;
}

async fn too_much_is_not_read(on: Pair) {
    let site = Site::new(on).await;
    let (status, body) = site.notify("x".repeat(64 * 1024 + 1)).await;
    assert_eq!(
        (status, body.as_str()),
        (StatusCode::PAYLOAD_TOO_LARGE, REFUSED)
    );
    site.end().await;
}

async fn whoever_sends_too_slowly_is_not_waited_for(on: Pair) {
    let site = Site::new(on).await;
    let mut stream = tokio::net::TcpStream::connect(site.address).await.unwrap();
    let head = format!(
        "POST /callbacks/wechatpay/{} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nslow",
        account()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    let read = stream.read_exact(&mut answer);
    tokio::time::timeout(Duration::from_secs(10), read)
        .await
        .expect("an answer though the body never ends")
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
    site.end().await;
}

/// Closed, finished, a refund's news: true and without consequence, and on disk before the answer.
async fn a_verified_word_without_consequence_is_stored_before_it_is_acknowledged(on: Pair) {
    let site = Site::new(on).await;
    let id = site.bench.made().await;
    let before = site.bench.stored(id).await.order;
    let notice = format!("closed {}", number(id));

    site.bench.gate.set(Commits::Refused);
    let (status, _) = site.notify(notice.clone()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    site.bench.gate.set(Commits::Pass);
    for _ in 0..2 {
        assert_eq!(site.notify(notice.clone()).await, acknowledged());
    }
    let kept = site.bench.gate.evidence(&account(), "closed").await;
    assert_eq!(kept.unwrap().unwrap().reason, "noted: closed");
    assert_eq!(site.bench.stored(id).await.order, before);
    site.end().await;
}
