//! A node that sleeps, leaves, or has the wrong time (F28 to F30, F44).

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::{LEASE, PATIENCE, cluster, two_nodes, two_nodes_with, until_metric};
use crate::support::story::{meanwhile, seed};
use crate::support::student::{Alipay, Student, Wechat};
use crate::support::{World, client, eventually};

const OWNED: &str = "enrollpay_shards_owned";
const REFUSED: &str = "enrollpay_store_rejections_total";

/// F30: a node sleeps three leases and more, and wakes in the belief that it owns its shards. Its first
/// write is refused, and its word to a provider is worth what the provider makes of it. All the while Redis
/// is emptied every second, so that no lease tells anybody anything (F5). `ENROLLPAY_FLUSHES`: how often at
/// least.
#[tokio::test]
async fn a_sleepers_writes_are_refused() {
    let least: u32 = std::env::var("ENROLLPAY_FLUSHES").map_or(1, |times| times.parse().unwrap());
    let naps = 6.max(least / 6);
    let emptied = AtomicU32::new(0);
    // Codes that nobody scans end within the patience of this test.
    let world = two_nodes_with(&[], &[("ORDER__QR_SECONDS", "60")]).await;
    let (awake, sleeper) = (&world.gateway, &world.peers[0]);
    let stale = async || sleeper.metric(REFUSED, &["fence_moved"]).await;
    let naps = async {
        for _ in 0..naps {
            // Codes that people are about to scan, of shards of either node.
            let orders = join_all((0..16).map(|_| world.merchant.create())).await;
            let codes = join_all(orders.iter().map(async |order| {
                let order = order["id"].as_str().unwrap();
                world.merchant.start(order).await
            }))
            .await;
            cluster(&world).lead_to(&[awake]);
            sleeper.pause();
            // What waits at its door is the first that it sees when it wakes.
            let visits = codes.iter().map(async |code| {
                let code = code["qr_content"].as_str().unwrap();
                let code = code.replace(&cluster(&world).origin(), &sleeper.origin);
                let _ = Student::stranger(Wechat).try_scan(&code).await;
            });
            let wake = async {
                tokio::time::sleep(3 * LEASE).await;
                until_metric(awake, OWNED, |owned| owned == 8).await;
                sleeper.resume();
            };
            tokio::join!(join_all(visits), wake);
            cluster(&world).heal();
            world.settled().await;
            if stale().await > 0 && emptied.load(Ordering::SeqCst) >= least {
                break;
            }
        }
    };
    let flushes = async {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(cluster(&world).redis.say("FLUSHALL").starts_with("+OK"));
            emptied.fetch_add(1, Ordering::SeqCst);
        }
    };
    let fault = async {
        tokio::select! {
            () = naps => {}
            () = flushes => {}
        }
    };
    let ((), told) = meanwhile(&world, 4, seed(), fault).await;
    assert!(told >= 4, "too little happened: {told}");
    let (stale, emptied) = (stale().await, emptied.load(Ordering::SeqCst));
    assert!(stale > 0, "no stale write was refused");
    assert!(emptied >= least, "emptied {emptied} times only");
    println!("{emptied} flushes, {told} orders told, {stale} stale writes refused");
    world.finish().await;
}

/// F44: SIGTERM under load. It ends in order and in time; its shards are others' within a second, and
/// nobody's order suffers.
#[tokio::test]
async fn sigterm_hands_over_at_once() {
    let world = two_nodes().await;
    let (stays, leaves) = (&world.gateway, &world.peers[0]);
    let fault = async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let began = Instant::now();
            let handed_over = async {
                until_metric(stays, OWNED, |owned| owned == 8).await;
                began.elapsed()
            };
            let (status, handed_over) = tokio::join!(leaves.terminate(), handed_over);
            assert_eq!(status.code(), Some(0), "{status}");
            assert!(began.elapsed() < Duration::from_secs(11));
            assert!(handed_over < Duration::from_secs(3), "{handed_over:?}");
            leaves.restart().await;
            world.settled().await;
        }
    };
    let ((), told) = meanwhile(&world, 6, seed(), fault).await;
    assert!(told >= 6, "too little happened: {told}");
    world.finish().await;
}

/// Debian's `faketime` moves the wall clock of a running process, and leaves the monotonic one.
struct WallClock {
    file: PathBuf,
}

impl WallClock {
    const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

    fn new(folder: &Path) -> Self {
        assert!(
            Path::new(Self::LIBRARY).exists(),
            "no faketime here: apt-get install faketime"
        );
        let clock = Self {
            file: folder.join("clock"),
        };
        clock.set("+0");
        clock
    }

    /// Seconds away from the true time.
    fn set(&self, away: &str) {
        // At once: the process may look at any moment.
        let new = self.file.with_extension("new");
        std::fs::write(&new, away).unwrap();
        std::fs::rename(new, &self.file).unwrap();
    }

    fn environment(&self) -> [(&str, &str); 4] {
        [
            ("LD_PRELOAD", Self::LIBRARY),
            ("FAKETIME_TIMESTAMP_FILE", self.file.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
    }
}

async fn with_a_clock(world: &World, folder: &Path) -> WallClock {
    let clock = WallClock::new(folder);
    let node = &world.peers[0];
    node.terminate().await;
    node.launch(&clock.environment());
    node.ready().await;
    world.settled().await;
    clock
}

/// F29: ten seconds between two nodes change nothing.
#[tokio::test]
async fn ten_seconds_of_skew_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let world = two_nodes().await;
    let clock = with_a_clock(&world, folder.path()).await;
    for away in ["+10", "-10"] {
        clock.set(away);
        let fault = tokio::time::sleep(Duration::from_secs(4));
        let ((), told) = meanwhile(&world, 4, seed(), fault).await;
        assert!(told >= 4, "too little happened: {told}");
        let complaint = world.peers[0].complaint().await;
        assert_eq!(complaint.as_deref(), Some(""), "{away}");
        super::nobody_sees_it(&world).await;
    }
    clock.set("+0");
    world.finish().await;
}

/// What the cashier's countdown shows, in milliseconds.
async fn left(world: &World, order: &str) -> i64 {
    let order = world.merchant.order(order).await;
    let page = client()
        .get(order["cashier_url"].as_str().unwrap())
        .header("accept", "application/json");
    let shown: serde_json::Value = page.send().await.unwrap().json().await.unwrap();
    let left = shown["remaining_ms"].as_i64();
    left.unwrap_or_else(|| panic!("no countdown in {shown}"))
}

/// F28: an hour. The node says so and believes no signature; others serve, and countdowns go on.
#[tokio::test]
async fn an_hour_of_skew_takes_a_node_out() {
    let folder = tempfile::tempdir().unwrap();
    let world = two_nodes().await;
    let clock = with_a_clock(&world, folder.path()).await;
    let (right, wrong) = (&world.gateway, &world.peers[0]);
    for away in ["+3600", "-3600"] {
        let running = world.ask(Alipay).await;
        let before_ms = left(&world, &running.order).await;
        clock.set(away);
        cluster(&world).lead_to(&[right]);
        let why = eventually("a complaint", PATIENCE, async || {
            wrong.complaint().await.filter(|why| !why.is_empty())
        })
        .await;
        assert!(why.contains("clock"), "{why}");
        let refused = world.merchant.clone().at(&wrong.origin);
        let refused = refused.get(&format!("/v1/orders/{}", running.order)).await;
        assert_eq!(refused.expect(401)["code"], "timestamp_stale");

        let after_ms = left(&world, &running.order).await;
        assert!(
            (before_ms - 20_000..=before_ms).contains(&after_ms),
            "{away}: {before_ms} ms before, {after_ms} ms after"
        );
        world.simulators.pay(&running.trade).await;
        world.merchant.until_status(&running.order, "paid").await;
        clock.set("+0");
        wrong.ready().await;
        cluster(&world).heal();
    }
    // What it sent meanwhile had a time that nobody believes; it was sent again.
    world.receiver.forget_refusals();
    world.finish().await;
}
