//! Several nodes on one store: who owns what, what is passed to whom, and what becomes of it when one
//! of them goes.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::disallowed_methods, reason = "leases last in real time")]

mod membership;
mod messages;
mod node;
mod secret;

use std::collections::HashMap;
use std::time::Duration;

use actix::test;
use enrollpay::actors::{OrdersError, Verdict};
use enrollpay::order::{AttemptId, Command, Event, OrderId, Refusal, Status};
use enrollpay::store::Store as _;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::actors::bench::{STUDENT, claim, eventually, new_order, payer_slot, request};
use node::{Cluster, LEASE, Node, SHARDS};

#[test]
async fn shards_are_spread_and_their_owners_decide() {
    let cluster = Cluster::default();
    let nodes = cluster.nodes(3).await;
    let shares: Vec<_> = nodes.iter().map(Node::owned).collect();
    assert_eq!(shares.iter().sum::<usize>(), usize::from(SHARDS));
    assert!(shares.iter().all(|share| *share > 0), "{shares:?}");

    let [owner, other, third] = &nodes[..] else {
        panic!("three nodes");
    };
    let id = cluster.order(owner).await;
    let started = other.tell(id, cluster.start()).await.unwrap();
    assert_eq!(started.verdict, Verdict::Applied);
    assert_eq!(started.stored.order.version, 2);
    assert_eq!(started.stored.order, cluster.stored(id).await.order);
    let mut scan = request(claim(STUDENT));
    scan.writes
        .push(payer_slot(&cluster.sealer, id, "openid-1"));
    let scanned = third.orders.tell(id, scan).await.unwrap();
    assert_eq!(scanned.verdict, Verdict::Applied);
    let again = other.tell(id, claim(enrollpay::order::PayerHash(2))).await;
    let refused = Verdict::Refused(Refusal::AlreadyScanned);
    assert_eq!(again.unwrap().verdict, refused);
    let kept = cluster.store.personal(id, "payer:1").await.unwrap();
    assert!(kept.is_some(), "what goes with the command is committed");
    assert_eq!(owner.shards.observe().live, 1);
    assert_eq!(
        other.shards.observe().live,
        0,
        "it has no actor of another's order"
    );
    assert_eq!(third.shards.observe().live, 0);

    let nobody = OrderId::from_ulid(ulid::Ulid(1));
    for node in &nodes {
        let answer = node.tell(nobody, claim(STUDENT)).await;
        assert!(matches!(answer, Err(OrdersError::NotFound)), "{answer:?}");
    }
    cluster.stop(nodes).await;
}

#[test]
async fn a_new_order_is_its_makers_own() {
    let cluster = Cluster::default();
    let nodes = cluster.nodes(2).await;
    for node in &nodes {
        for _ in 0..20 {
            let id = cluster.order(node).await;
            assert!(node.owns(id));
        }
        let id = loop {
            let id = OrderId::from_ulid(cluster.random.ulid(cluster.clock.now()));
            if !node.owns(id) {
                break id;
            }
        };
        // One that owns nothing yet has it made.
        let made = node.orders.create(new_order(id, &cluster.sealer)).await;
        assert_eq!(made.unwrap().order, cluster.stored(id).await.order);
        assert!(nodes.iter().any(|other| other.owns(id)));
    }
    cluster.stop(nodes).await;
}

/// A payment heard of anywhere is on disk there, and known everywhere.
#[test]
async fn a_capture_recorded_by_any_node_is_heard_of_by_all() {
    let cluster = Cluster::default();
    let nodes = cluster.nodes(3).await;
    let [owner, other, third] = &nodes[..] else {
        panic!("three nodes");
    };
    let id = cluster.made(owner).await;
    let before = cluster.stored(id).await.order.version;
    let mut watchers: Vec<_> = nodes.iter().map(|node| node.orders.watch(id)).collect();
    // The third hears of it through its subscription alone: nobody reads the store again in this test.
    eventually(async || *watchers[2].borrow() >= before && *watchers[1].borrow() >= before).await;

    let report = cluster.report(id);
    let recorded = other
        .tell(id, Command::Capture(report.clone()))
        .await
        .unwrap();
    assert_eq!(recorded.verdict, Verdict::Applied);
    let stored = cluster.stored(id).await;
    assert_eq!(stored.order.status(), Status::Paid);
    assert_eq!(other.shards.observe().live, 0, "a fact needs no actor");
    for watcher in &mut watchers {
        let heard = watcher.wait_for(|version| *version >= stored.order.version);
        let heard = tokio::time::timeout(Duration::from_secs(5), heard).await;
        heard.expect("it is heard of").unwrap();
    }
    let late = owner.tell(id, Command::Cancel).await.unwrap();
    assert_eq!(late.verdict, Verdict::Refused(Refusal::AlreadyPaid));
    let again = third.tell(id, Command::Capture(report)).await.unwrap();
    assert!(matches!(again.verdict, Verdict::Already(_)));
    cluster.stop(nodes).await;
}

#[test]
async fn whoever_asks_hears_the_answer_on_his_own_node() {
    let cluster = Cluster::default();
    let nodes = cluster.nodes(2).await;
    let [owner, other] = &nodes[..] else {
        panic!("two nodes");
    };
    let id = cluster.made(owner).await;
    let mut heard = other.orders.heard(id);
    let asked = other
        .orders
        .query(id, request(Command::Query))
        .await
        .unwrap();
    assert_eq!(asked.verdict, Verdict::Applied);
    let asked_at = asked.stored.order.attempts[0].queries.last_at.unwrap();
    let answer = heard.wait_for(|heard| heard.query.is_some_and(|(at, _)| at >= asked_at));
    let answer = tokio::time::timeout(Duration::from_secs(5), answer).await;
    let answer = answer.expect("it is heard of").unwrap().query.unwrap();
    assert!(answer.1, "the provider has said something");
    cluster.stop(nodes).await;
}

/// A page that was opened at the owner follows its order to the next one.
#[test]
async fn pages_follow_their_order_through_a_hand_over() {
    let cluster = Cluster::default();
    let mut nodes = cluster.nodes(3).await;
    let id = cluster.order(&nodes[0]).await;
    let mut watchers: Vec<_> = nodes.iter().map(|node| node.orders.watch(id)).collect();
    let first = nodes.remove(0);
    first.membership.leave(Some(&first.orders)).await;
    eventually(async || nodes.iter().any(|node| node.owns(id))).await;
    // Its pages are still open there for a moment: it hears, too.
    let asker = nodes.iter().find(|node| !node.owns(id)).unwrap();
    let started = asker.tell(id, cluster.start()).await.unwrap();
    assert_eq!(started.verdict, Verdict::Applied);
    for watcher in &mut watchers[1..] {
        let heard = watcher.wait_for(|version| *version >= 2);
        let heard = tokio::time::timeout(Duration::from_secs(5), heard).await;
        heard.expect("it is heard of").unwrap();
    }
    nodes.push(first);
    cluster.stop(nodes).await;
}

/// Reliability §4.5: the others take over in less than a second, and nobody's command is lost.
#[test]
async fn a_node_that_leaves_hands_over_and_no_command_is_lost() {
    const ORDERS: usize = 40;
    let cluster = Cluster::default();
    let nodes = cluster.nodes(2).await;
    let [leaving, staying] = &nodes[..] else {
        panic!("two nodes");
    };
    let mut ids = Vec::new();
    for _ in 0..ORDERS {
        ids.push(cluster.order(leaving).await);
    }
    let began = Instant::now();
    let leave = async {
        leaving.membership.leave(Some(&leaving.orders)).await;
        eventually(async || staying.owned() == usize::from(SHARDS)).await;
        began.elapsed()
    };
    let starts = join_all(ids.iter().enumerate().map(|(place, id)| {
        let (node, command) = (&nodes[place % 2], cluster.start());
        async move {
            // All the while that it happens.
            let pause = u64::try_from(place).unwrap_or_default() * 8;
            tokio::time::sleep(Duration::from_millis(pause)).await;
            node.tell(*id, command).await
        }
    }));
    let (took, replies) = tokio::join!(leave, starts);
    assert!(took < Duration::from_secs(1), "{took:?}");
    for reply in replies {
        assert_eq!(reply.unwrap().verdict, Verdict::Applied);
    }
    // It has nothing left, and passes on what still reaches it.
    assert_eq!(leaving.owned(), 0);
    let passed = leaving.tell(ids[0], Command::Cancel).await.unwrap();
    assert_eq!(passed.verdict, Verdict::Applied);
    assert!(leaving.membership.not_ready().is_some());
    cluster.stop(nodes).await;
}

/// Kill -9, or a pause for ever: the others wait for its lease, and no longer than two.
#[test]
async fn a_node_that_falls_silent_is_followed_within_two_leases() {
    let cluster = Cluster::default();
    let nodes = cluster.nodes(2).await;
    let [silent, living] = &nodes[..] else {
        panic!("two nodes");
    };
    let id = cluster.order(silent).await;
    silent.tell(id, cluster.start()).await.unwrap();
    silent.fall_silent().await;
    let began = Instant::now();
    eventually(async || living.owned() == usize::from(SHARDS)).await;
    let took = began.elapsed();
    assert!(took < 2 * LEASE, "{took:?}");

    let cancelled = living.tell(id, Command::Cancel).await.unwrap();
    assert_eq!(cancelled.verdict, Verdict::Applied);
    // What it still believes is its own the store refuses.
    let version = cluster.stored(id).await.order.version;
    assert!(silent.owns(id), "nobody has told it");
    let late = silent.tell(id, cluster.start()).await;
    let is_refused = match &late {
        Ok(reply) => matches!(reply.verdict, Verdict::Refused(_)),
        Err(error) => matches!(error, OrdersError::NoOwner),
    };
    assert!(is_refused, "{late:?}");
    assert_eq!(cluster.stored(id).await.order.version, version);
    cluster.stop(nodes).await;
}

/// Two hundred commands while a node goes and another comes: each is decided once, or not at all and said
/// so.
#[test]
async fn commands_during_a_rebalance_take_effect_once_or_not_at_all() {
    const ORDERS: usize = 20;
    const EACH: usize = 10;
    let cluster = Cluster::default();
    let mut nodes = cluster.nodes(2).await;
    let mut ids = Vec::new();
    for place in 0..ORDERS {
        ids.push(cluster.order(&nodes[place % 2]).await);
    }
    let telling = (0..ORDERS * EACH).map(|number| {
        let (orders, id) = (nodes[number % 2].orders.clone(), ids[number % ORDERS]);
        let attempt = AttemptId::from_ulid(cluster.random.ulid(cluster.clock.now()));
        async move {
            let pause = u64::try_from(number).unwrap_or_default() * 4;
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let command = Command::StartAttempt {
                id: attempt,
                wallet: None,
            };
            (id, attempt, orders.tell(id, request(command)).await)
        }
    });
    let rebalance = async {
        let third = cluster.node(3).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        nodes[0].membership.leave(Some(&nodes[0].orders)).await;
        third
    };
    let (answers, third) = tokio::join!(join_all(telling), rebalance);

    let mut started: HashMap<AttemptId, usize> = HashMap::new();
    for id in &ids {
        for entry in cluster.store.timeline(*id).await.unwrap() {
            if let Event::AttemptStarted { id, .. } = entry.event {
                *started.entry(id).or_default() += 1;
            }
        }
    }
    let mut applied = 0;
    for (order, attempt, answer) in answers {
        let effects = started.get(&attempt).copied().unwrap_or_default();
        match answer {
            Ok(reply) if reply.verdict == Verdict::Applied => {
                applied += 1;
                assert_eq!(effects, 1, "{order} {attempt}");
            }
            Ok(reply) => assert_eq!(effects, 0, "{order}: {:?}", reply.verdict),
            // Nothing was done: the caller comes again.
            Err(OrdersError::NoOwner | OrdersError::Overloaded { .. }) => {
                assert_eq!(effects, 0, "{order} {attempt}");
            }
            Err(OrdersError::ActorLost) => assert!(effects <= 1, "{order} {attempt}"),
            Err(error) => panic!("{order}: {error}"),
        }
    }
    assert!(applied > ORDERS * EACH * 9 / 10, "{applied} were applied");
    nodes.push(third);
    cluster.stop(nodes).await;
}
