//! How the gateway stops and refuses to start: in order, in time, and with one clear line.
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its own set-up fails"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "real processes live in real time"
)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::Method;

use crate::support::merchant::new_order;
use crate::support::process::{Gateway, command, free_port};
use crate::support::student::Wechat;
use crate::support::{Pair, World, eventually, on_either_pair};

on_either_pair!(sigterm_under_load_loses_nothing);

/// F44: under load, `SIGTERM` ends in order and in time, and nothing that was answered is lost.
async fn sigterm_under_load_loses_nothing(on: Pair) {
    const CLIENTS: usize = 8;
    let world = World::on(on, &[]).await;
    let answered = Arc::new(Mutex::new(Vec::new()));
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (merchant, answered, stop) = (
                world.merchant.clone(),
                Arc::clone(&answered),
                Arc::clone(&stop),
            );
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    let body = new_order(&serde_json::json!({}));
                    let answer = merchant
                        .try_call(Method::POST, "/v1/orders", Some(&body), None)
                        .await;
                    match answer {
                        Ok(answer) if answer.status == 201 => {
                            let id = answer.json()["id"].as_str().unwrap().to_owned();
                            answered.lock().unwrap().push(id);
                        }
                        // It is stopping, or gone: the client comes again later.
                        Ok(answer) => assert_eq!(answer.status, 503),
                        Err(_) => return,
                    }
                }
            })
        })
        .collect();
    // Payments under way as well: their notices arrive while it stops.
    let mut paying = Vec::new();
    for _ in 0..6 {
        paying.push(world.ask(Wechat).await);
    }
    eventually("some load", Duration::from_secs(20), async || {
        (answered.lock().unwrap().len() > 50).then_some(())
    })
    .await;
    for asked in &paying {
        world.simulators.pay(&asked.trade).await;
    }
    let began = Instant::now();
    // All nodes at once: nobody is left to take over.
    for status in join_all(world.nodes().map(Gateway::terminate)).await {
        assert_eq!(status.code(), Some(0), "{status}");
    }
    assert!(
        began.elapsed() < Duration::from_secs(11),
        "{:?}",
        began.elapsed()
    );
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
    world.check().await;
    for node in world.nodes() {
        let log = node.log();
        assert!(!log.contains("a connection to the store was lost"), "{log}");
    }

    for node in world.nodes() {
        node.restart().await;
    }
    let answered = std::mem::take(&mut *answered.lock().unwrap());
    for id in &answered {
        assert_eq!(world.merchant.order(id).await["status"], "unpaid");
    }
    for asked in &paying {
        world.merchant.until_status(&asked.order, "paid").await;
    }
    world.finish().await;
}

/// F49: one file, one process. On PostgreSQL a second process is a second node.
#[tokio::test]
async fn a_second_process_on_the_same_store_is_refused() {
    let world = World::start(&[]).await;
    let listen = |key: &str| {
        (
            format!("ENROLLPAY__{key}__LISTEN"),
            format!("127.0.0.1:{}", free_port()),
        )
    };
    let other: Vec<_> = ["SERVER", "ADMIN"].map(listen).into();
    let other: Vec<(&str, &str)> = other
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    let mut second = world.gateway.second(&other);
    let status = second.end(Duration::from_secs(20)).await;
    assert!(status.code().is_some_and(|code| code != 0), "{status}");
    let said = second.output();
    assert!(said.contains("is in use by another process"), "{said}");

    // The first one never noticed.
    world.merchant.create().await;
    world.finish().await;
}

/// F47: exit 78 and one line that names the key, what was found and what is expected.
#[test]
fn a_wrong_configuration_is_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("store.db").display());
    let wrong = [
        ("SERVER__LISTEN", "nowhere", "server.listen"),
        ("SERVER__LISTN", "127.0.0.1:1", "listn"),
        ("SERVER__PUBLIC_URL", "ftp://a.example", "server.public_url"),
        ("SERVER__DRAIN_SECONDS", "0", "server.drain_seconds"),
        ("ORDER__QR_SECONDS", "9", "order.qr_seconds"),
        ("ORDER__QR_SECONDS", "soon", "order.qr_seconds"),
        ("STORE__URL", "postgres://a:secret@b/c", "store.url"),
        ("LOCKS__URL", "redis://a", "locks.url"),
        ("LOCKS__URL", "redis://:secret@a:port", "locks.url"),
        ("LOCKS__PREFIX", "{a}", "locks.prefix"),
        ("CLUSTER__SHARDS", "0", "cluster.shards"),
        ("CLUSTER__NODE_ID", "a b", "cluster.node_id"),
        ("CLUSTER__INTERNAL_URL", "here", "cluster.internal_url"),
        ("STORE__CONNECTIONS", "0", "store.connections"),
        ("WEBHOOKS__RETRY_SECONDS", "", "webhooks.retry_seconds"),
        (
            "WEBHOOKS__TIMEOUT_SECONDS",
            "600",
            "webhooks.timeout_seconds",
        ),
        (
            "WEBHOOKS__ALLOWED_NETWORKS",
            "10.0.0.0/99",
            "webhooks.allowed_networks",
        ),
        ("SECRETS__INDEX_KEY", "c2hvcnQ=", "secrets.index_key"),
        ("ZONE", "Mars", "zone"),
        ("MODE", "play", "mode"),
        ("MODE", "production", "server.public_url"),
        ("LOG__FORMAT", "xml", "log.format"),
    ];
    for (key, value, named) in wrong {
        let output = command()
            .arg("serve")
            .env("ENROLLPAY__STORE__URL", &store)
            .env("ENROLLPAY__SERVER__LISTEN", "127.0.0.1:0")
            .env("ENROLLPAY__ADMIN__LISTEN", "127.0.0.1:0")
            .env("ENROLLPAY__CONSOLE__LISTEN", "127.0.0.1:0")
            .env(format!("ENROLLPAY__{key}"), value)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{key}={value}: {said}");
        assert!(said.contains(named), "{key}={value}: {said}");
        if value != "production" {
            assert_eq!(said.trim_end().lines().count(), 1, "{key}={value}: {said}");
        }
        assert!(!said.contains("secret@"), "{said}");
    }
    let file = folder.path().join("missing.toml");
    let output = command().arg("--config").arg(&file).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(!folder.path().join("store.db").exists(), "nothing was made");
}
