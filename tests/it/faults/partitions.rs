//! Lines that are cut, and one node left with the half of its world (F31 to F33): no node serves from
//! memory alone, and of two that believe, the store hears one.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use super::{LEASE, cluster, links, two_nodes};
use crate::support::World;
use crate::support::proxy::{Proxy, Toxic, Way};
use crate::support::story::{meanwhile, seed};

/// How much of a line is gone.
#[derive(Clone, Copy, Debug)]
enum Cut {
    Whole,
    OneWay(Way),
}

const CUTS: [Cut; 3] = [Cut::Whole, Cut::OneWay(Way::Up), Cut::OneWay(Way::Down)];

fn cut(line: &Proxy, how: Cut) {
    match how {
        Cut::Whole => line.partition(),
        Cut::OneWay(way) => line.set(
            way,
            Toxic {
                blackhole: true,
                ..Toxic::default()
            },
        ),
    }
}

/// Every line of the first node; the last leads to it from the other.
fn lines(world: &World, node: usize) -> [(&'static str, &Proxy); 3] {
    let link = &links(world)[node];
    [
        ("to the store", &link.store),
        ("to the locks", &link.locks),
        ("from the others", &link.others),
    ]
}

/// F32: each line between a node and its world, cut whole or one way for longer than its leases last,
/// under load.
async fn every_cut(node: usize) {
    let world = two_nodes().await;
    for (name, line) in lines(&world, node) {
        for how in CUTS {
            let fault = async {
                let before = line.held();
                cut(line, how);
                tokio::time::sleep(2 * LEASE).await;
                line.heal();
                (line.held() - before, cluster(&world).heal())
            };
            let ((held, ()), told) = meanwhile(&world, 3, seed(), fault).await;
            assert!(held > 0, "{name} {how:?} held nothing");
            println!("{name} {how:?}: {held} held, {told} orders told");
            world.settled().await;
        }
    }
    world.finish().await;
}

#[tokio::test]
async fn every_line_of_one_node_is_cut() {
    every_cut(0).await;
}

#[tokio::test]
async fn every_line_of_another_node_is_cut() {
    every_cut(1).await;
}

/// F33: the lines are cut one by one, and healed in another order.
#[tokio::test]
async fn lines_are_cut_and_healed_in_any_order() {
    const ROUNDS: u32 = 3;
    let world = two_nodes().await;
    let seed = seed();
    let mut dice = StdRng::seed_from_u64(seed);
    let all: Vec<_> = (0..2).flat_map(|node| lines(&world, node)).collect();
    let fault = async {
        for _ in 0..ROUNDS {
            let mut order: Vec<usize> = (0..all.len()).collect();
            order.shuffle(&mut dice);
            for line in &order {
                let how = CUTS[dice.random_range(0..CUTS.len())];
                cut(all[*line].1, how);
                tokio::time::sleep(Duration::from_millis(dice.random_range(100..1_500))).await;
            }
            order.shuffle(&mut dice);
            for line in &order {
                all[*line].1.heal();
                tokio::time::sleep(Duration::from_millis(dice.random_range(100..1_500))).await;
            }
        }
    };
    meanwhile(&world, 4, seed, fault).await;
    let bitten = all.iter().filter(|(_, line)| line.held() > 0).count();
    assert!(bitten >= 4, "only {bitten} lines held anything");
    world.settled().await;
    world.finish().await;
}
