//! Nodes that are killed at any moment (F2), and how long their shards are nobody's.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::{LEASE, two_nodes, until_metric};
use crate::support::story::{meanwhile, seed};

const OWNED: &str = "enrollpay_shards_owned";

/// How often, unless a long run says otherwise.
fn times(variable: &str, usual: u32) -> u32 {
    std::env::var(variable).map_or(usual, |times| times.parse().unwrap())
}

/// F2: two nodes, killed by the dice, one or both at once, and started again at once or after a while.
#[tokio::test]
async fn kills_under_load() {
    let kills = times("ENROLLPAY_KILLS", 20);
    let seed = seed();
    let mut dice = StdRng::seed_from_u64(seed);
    let world = two_nodes().await;
    let nodes: Vec<_> = world.nodes().collect();
    let fault = async {
        for _ in 0..kills {
            let life = dice.random_range(50..1_500);
            tokio::time::sleep(Duration::from_millis(life)).await;
            let first = dice.random_range(0..nodes.len());
            let both = dice.random_range(0..6) == 0;
            let dead = if both {
                nodes.clone()
            } else {
                vec![nodes[first]]
            };
            for node in &dead {
                node.kill9().await;
            }
            if dice.random() {
                // Past the lease, or not.
                let while_dead = dice.random_range(100..3_000);
                tokio::time::sleep(Duration::from_millis(while_dead)).await;
            }
            for node in &dead {
                node.restart().await;
            }
        }
    };
    let ((), told) = meanwhile(&world, 4, seed, fault).await;
    println!("{kills} kills, {told} orders told");
    assert!(told >= kills / 4, "too little happened: {told}");
    world.settled().await;
    world.finish().await;
}

/// A node that is killed is followed within two leases; one that leaves, within a second or so.
#[tokio::test]
async fn shards_are_nobodys_for_a_short_while() {
    let times = times("ENROLLPAY_TAKEOVERS", 2);
    let world = two_nodes().await;
    let (stays, goes) = (&world.gateway, &world.peers[0]);
    let taken = async || {
        let began = Instant::now();
        until_metric(stays, OWNED, |owned| owned == 8).await;
        began.elapsed()
    };
    for _ in 0..times {
        goes.kill9().await;
        let after_a_kill = taken().await;
        goes.restart().await;
        world.settled().await;
        let (status, after_a_word) = tokio::join!(goes.terminate(), taken());
        assert_eq!(status.code(), Some(0));
        goes.restart().await;
        world.settled().await;
        println!(
            "lease {LEASE:?}: taken over {after_a_kill:?} after a kill, {after_a_word:?} after SIGTERM"
        );
        assert!(after_a_kill <= 3 * LEASE, "{after_a_kill:?}");
        assert!(after_a_word <= LEASE, "{after_a_word:?}");
    }
    world.finish().await;
}
