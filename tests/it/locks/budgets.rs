//! Limits that nodes share in a real Redis, and what is left of them without it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use enrollpay::app::shared_limits;
use enrollpay::http::Limits;
use enrollpay::http::limits::Limiters;
use enrollpay::locks::redis::{Budget, RedisBudgets, RedisLocks, Taken};
use enrollpay::order::OrderId;
use secrecy::SecretString;

use super::redis::{ask, locks_at};
use crate::support::eventually;
use crate::support::redis::RedisServer;

const PATIENCE: Duration = Duration::from_secs(20);
/// The 50 ms of one question, and a busy machine.
const BOUND: Duration = Duration::from_millis(500);

const LIMITS: Limits = Limits {
    merchant_body_bytes: 0,
    callback_body_bytes: 0,
    student_body_bytes: 0,
    merchant_per_second: 1,
    merchant_burst: 5,
    address_per_second: 1,
    address_burst: 5,
    attempts_per_hour: 4,
    streams_per_order: 0,
    streams_per_address: 0,
};

fn secret() -> SecretString {
    "0123456789abcdef0123456789abcdef".to_owned().into()
}

fn node(url: &str) -> Limiters {
    Limiters::shared(&LIMITS, shared_limits(&locks_at(url), &secret()))
}

fn budgets(url: &str) -> (Arc<RedisLocks>, RedisBudgets) {
    let locks = locks_at(url);
    let budgets = locks.budgets(&secret());
    (locks, budgets)
}

fn order(number: u128) -> OrderId {
    OrderId::from_ulid(number.into())
}

#[tokio::test]
async fn two_nodes_share_one_budget() {
    let redis = RedisServer::shared().database();
    let nodes = [node(&redis.url()), node(&redis.url())];
    for node in nodes.iter().cycle().take(4) {
        node.attempt(order(1)).await.unwrap();
    }
    for node in &nodes {
        let refused = node.attempt(order(1)).await.unwrap_err();
        let headers = refused.headers().iter();
        let (_, seconds) = headers
            .rev()
            .find(|(name, _)| name == "retry-after")
            .unwrap();
        let seconds: u32 = seconds.to_str().unwrap().parse().unwrap();
        assert!(
            (800..=900).contains(&seconds),
            "a quarter of an hour: {seconds}"
        );
    }
    // Another order, another budget; and another limit.
    nodes[1].attempt(order(2)).await.unwrap();
    let address: IpAddr = "203.0.113.7".parse().unwrap();
    for node in nodes.iter().cycle().take(5) {
        node.address(address).await.unwrap();
    }
    assert!(nodes[0].address(address).await.is_err() || nodes[1].address(address).await.is_err());
}

#[tokio::test]
async fn a_key_tells_nobody_whose_it_is_and_ends_by_itself() {
    let redis = RedisServer::shared().database();
    let node = node(&redis.url());
    node.address("203.0.113.7".parse().unwrap()).await.unwrap();
    node.attempt(order(77)).await.unwrap();
    let keys: Vec<String> = ask(&redis.url(), "KEYS *");
    assert_eq!(keys.len(), 2, "{keys:?}");
    for key in keys {
        assert!(key.starts_with("enrollpay:limit:"), "{key}");
        let secret = key.rsplit(':').next().unwrap();
        assert!(secret.len() == 32 && secret.bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert!(!key.contains("203.0.113.7") && !key.contains(&order(77).to_string()));
        let left: i64 = ask(&redis.url(), &format!("PTTL {key}"));
        assert!((1..=900_000).contains(&left), "{key} ends in {left} ms");
    }
}

/// The burst, then one at a time, then the burst again; by the clock of the server.
#[tokio::test]
async fn a_budget_fills_again_with_time() {
    let redis = RedisServer::shared().database();
    let (_locks, budgets) = budgets(&redis.url());
    let budget = Budget {
        every: Duration::from_millis(400),
        burst: 2,
    };
    let take = async || budgets.take("merchant", "a", budget).await;
    assert_eq!(take().await, Taken::Granted);
    assert_eq!(take().await, Taken::Granted);
    let Taken::Refused { wait } = take().await else {
        panic!("two at once");
    };
    assert!(wait > Duration::ZERO && wait <= budget.every, "{wait:?}");
    let refused = Instant::now();
    eventually("the next", PATIENCE, async || {
        (take().await == Taken::Granted).then_some(())
    })
    .await;
    assert!(refused.elapsed() + Duration::from_millis(20) >= wait);
    assert_eq!(budgets.take("merchant", "b", budget).await, Taken::Granted);
    assert_eq!(budgets.take("address", "a", budget).await, Taken::Granted);
    // When it is full it is gone, and a burst is free again.
    eventually("a full budget", PATIENCE, async || {
        let keys: Vec<String> = ask(&redis.url(), "KEYS *");
        keys.is_empty().then_some(())
    })
    .await;
    assert_eq!(take().await, Taken::Granted);
    assert_eq!(take().await, Taken::Granted);
}

/// A server that took over may have a clock that lies behind: nobody waits longer for it.
#[tokio::test]
async fn a_budget_spent_in_the_future_costs_one_turn() {
    let redis = RedisServer::shared().database();
    let (_locks, budgets) = budgets(&redis.url());
    let budget = Budget {
        every: Duration::from_secs(1),
        burst: 2,
    };
    assert_eq!(budgets.take("merchant", "a", budget).await, Taken::Granted);
    let keys: Vec<String> = ask(&redis.url(), "KEYS *");
    let _: () = ask(&redis.url(), &format!("SET {} 9000000000000000", keys[0]));
    let Taken::Refused { wait } = budgets.take("merchant", "a", budget).await else {
        panic!("nothing is left");
    };
    assert!(wait <= budget.every, "{wait:?}");
}

/// Waits until what one node takes is missing at the other.
async fn share_again(one: &Limiters, other: &Limiters, orders: &mut impl Iterator<Item = u128>) {
    eventually("limits to be shared", PATIENCE, async || {
        let order = order(orders.next().unwrap());
        for _ in 0..3 {
            one.attempt(order).await.unwrap();
        }
        other.attempt(order).await.unwrap();
        other.attempt(order).await.is_err().then_some(())
    })
    .await;
}

/// F4: without Redis each node limits alone, and no request waits for it.
#[tokio::test]
async fn without_redis_a_node_still_limits() {
    let server = RedisServer::private();
    let (one, other) = (node(&server.url()), node(&server.url()));
    let mut orders = 1..;
    for silence in ["paused", "killed"] {
        share_again(&one, &other, &mut orders).await;
        let begun = order(orders.next().unwrap());
        one.attempt(begun).await.unwrap();
        if silence == "paused" {
            server.control().pause();
        } else {
            server.control().kill9();
        }
        let asked = Instant::now();
        // It goes on from what it has counted itself.
        for _ in 0..3 {
            one.attempt(begun).await.unwrap();
        }
        assert!(one.attempt(begun).await.is_err());
        other.attempt(begun).await.expect("a budget of its own");
        for _ in 0..1000 {
            let fresh = order(orders.next().unwrap());
            one.attempt(fresh).await.unwrap();
        }
        assert!(asked.elapsed() < BOUND, "{silence}: {:?}", asked.elapsed());
        if silence == "paused" {
            server.control().resume();
        } else {
            server.control().restart();
        }
    }
    share_again(&one, &other, &mut orders).await;
}
