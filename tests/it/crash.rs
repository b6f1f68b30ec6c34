//! kill -9, at every point where it could hurt and at any moment: what is on disk is enough to go on
//! from, and no promise is broken (reliability F1, F2).
#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its own set-up fails"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "real processes live in real time"
)]

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

use crate::support::story::{meanwhile, seed};
use crate::support::{Pair, World, on_either_pair};

#[cfg(feature = "fault-injection")]
mod points;

on_either_pair!(ten_kills_under_load, the_countdown_goes_on_through_a_kill);

/// F2: any moment will do.
async fn ten_kills_under_load(on: Pair) {
    const KILLS: u32 = 10;
    const STUDENTS: u64 = 4;
    let seed = seed();
    let mut dice = StdRng::seed_from_u64(seed);
    let world = World::on(on, &[]).await;
    let nodes: Vec<_> = world.nodes().collect();
    let kills = async {
        for _ in 0..KILLS {
            let life = Duration::from_millis(dice.random_range(50..1_500));
            tokio::time::sleep(life).await;
            let node = nodes[dice.random_range(0..nodes.len())];
            node.kill9().await;
            node.restart().await;
        }
    };
    let ((), told) = meanwhile(&world, STUDENTS, seed, kills).await;
    assert!(told >= 8, "too little happened: {told}");
    world.finish().await;
}

/// Q3: no restart gives a code more time.
async fn the_countdown_goes_on_through_a_kill(on: Pair) {
    let world = World::on(on, &[]).await;
    let order = world.merchant.create().await;
    let id = order["id"].as_str().unwrap();
    let page = order["cashier_url"].as_str().unwrap().to_owned();
    let attempt = world.merchant.start(id).await;
    let ends: jiff::Timestamp = attempt["expires_at"].as_str().unwrap().parse().unwrap();
    let mut least = attempt["remaining_ms"].as_i64().unwrap();
    for _ in 0..3 {
        for node in world.nodes() {
            node.kill9().await;
        }
        for node in world.nodes() {
            node.restart().await;
        }
        let asked_at = jiff::Timestamp::now();
        let shown: Value = crate::support::client()
            .get(&page)
            .header("accept", "application/json")
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        let left = shown["remaining_ms"]
            .as_i64()
            .unwrap_or_else(|| panic!("no countdown in {shown}"));
        assert!(left < least, "{left} ms after {least} ms");
        least = left;
        let by_the_row = ends.duration_since(asked_at).as_millis();
        assert!(
            i128::from(left) <= by_the_row && by_the_row - i128::from(left) < 5_000,
            "{left} ms shown, {by_the_row} ms by expires_at"
        );
        let read = world.merchant.order(id).await;
        assert_eq!(read["attempt"]["expires_at"], attempt["expires_at"]);
    }
    let path = format!("/v1/orders/{id}/cancel");
    world.merchant.insist(&path, &json!({}), "end").await;
    world.finish().await;
}
