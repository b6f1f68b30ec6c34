//! Who is let in at `cluster.listen`: only nodes that know the secret, each request once, in its time, by
//! the process it is meant for. The wire is written here by hand.

#![expect(
    clippy::unwrap_used,
    reason = "a test may stop where its own set-up fails"
)]

use std::sync::Arc;

use actix::test;
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use enrollpay::actors::{Asking, OrdersError, Peers as _, Verdict};
use enrollpay::cluster::Directory;
use enrollpay::order::{Command, OrderId};
use reqwest::{Client, Method};
use serde_json::json;

use super::node::{Cluster, Node, SECRET};
use crate::actors::bench::request;

/// A request to the listener of a node.
#[derive(Clone)]
struct Knock {
    secret: &'static str,
    path: String,
    body: Vec<u8>,
    to: u128,
    at_ms: i64,
    nonce: u128,
}

struct Answer {
    status: u16,
    body: Vec<u8>,
    /// By one who knows the secret, to this request?
    is_proven: bool,
}

const FROM: u128 = 77;

fn prove(secret: &str, text: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    STANDARD.encode(hmac::sign(&key, text.as_bytes()))
}

fn hash(body: &[u8]) -> String {
    STANDARD.encode(digest::digest(&digest::SHA256, body))
}

impl Knock {
    fn proof(&self) -> String {
        let text = format!(
            "request\nPOST\n{}\n{FROM:032x}\n{:032x}\n{}\n{:032x}\n10000\n{}\n",
            self.path,
            self.to,
            self.at_ms,
            self.nonce,
            hash(&self.body)
        );
        prove(self.secret, &text)
    }

    async fn at(&self, node: &Node) -> Answer {
        self.with(node, &self.proof(), self.body.clone()).await
    }

    async fn with(&self, node: &Node, proof: &str, body: Vec<u8>) -> Answer {
        let response = Client::builder()
            .no_proxy()
            .build()
            .unwrap()
            .request(Method::POST, format!("{}{}", node.url, self.path))
            .header("x-enrollpay-from", format!("{FROM:032x}"))
            .header("x-enrollpay-to", format!("{:032x}", self.to))
            .header("x-enrollpay-at", self.at_ms.to_string())
            .header("x-enrollpay-nonce", format!("{:032x}", self.nonce))
            .header("x-enrollpay-remaining", "10000")
            .header("x-enrollpay-proof", proof)
            .body(body)
            .send()
            .await
            .unwrap();
        let status = response.status().as_u16();
        let proof = response.headers().get("x-enrollpay-proof").cloned();
        let body = response.bytes().await.unwrap().to_vec();
        let text = format!(
            "answer\n{FROM:032x}\n{:032x}\n{:032x}\n{status}\n{}\n",
            self.to,
            self.nonce,
            hash(&body)
        );
        Answer {
            status,
            is_proven: proof.is_some_and(|proof| proof == prove(self.secret, &text)),
            body,
        }
    }
}

#[test]
async fn only_a_node_is_let_in_once_in_its_time_and_at_its_address() {
    let cluster = Cluster::default();
    let nodes = cluster.nodes(2).await;
    let id = cluster.order(&nodes[0]).await;
    let told = json!({ "asking": "tell", "request": request(cluster.start()) });
    let good = Knock {
        secret: SECRET,
        path: format!("/orders/{id}/commands"),
        body: serde_json::to_vec(&told).unwrap(),
        to: nodes[0].instance,
        at_ms: cluster.clock.now().as_millis(),
        nonce: 1,
    };
    let refuses = async |what: &str, answer: Answer| {
        assert_eq!(answer.status, 401, "{what}");
        assert!(answer.body.is_empty(), "{what}");
        assert!(!answer.is_proven, "{what}");
        assert_eq!(cluster.stored(id).await.order.version, 1, "{what}");
    };

    let unsigned = good.with(&nodes[0], "", good.body.clone()).await;
    refuses("without a proof", unsigned).await;
    let other = Knock {
        secret: "another",
        ..good.clone()
    };
    refuses("another secret", other.at(&nodes[0]).await).await;
    let mut body = good.body.clone();
    *body.last_mut().unwrap() = b' ';
    let changed = good.with(&nodes[0], &good.proof(), body).await;
    refuses("a changed body", changed).await;
    let large = Knock {
        body: vec![b' '; 1024 * 1024 + 1],
        ..good.clone()
    };
    refuses("too large", large.at(&nodes[0]).await).await;
    for ahead_ms in [-31_000, 31_000] {
        let stale = Knock {
            at_ms: good.at_ms + ahead_ms,
            ..good.clone()
        };
        refuses("stale", stale.at(&nodes[0]).await).await;
    }
    // An address that another process has now.
    let misdirected = good.at(&nodes[1]).await;
    assert_eq!((misdirected.status, misdirected.is_proven), (421, true));
    assert_eq!(cluster.stored(id).await.order.version, 1);

    let answer = good.at(&nodes[0]).await;
    assert_eq!((answer.status, answer.is_proven), (200, true));
    let reply: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(reply["Ok"]["verdict"], "applied", "{reply}");
    assert_eq!(cluster.stored(id).await.order.version, 2);
    let replayed = good.at(&nodes[0]).await;
    assert_eq!((replayed.status, replayed.body.len()), (401, 0));
    assert_eq!(cluster.stored(id).await.order.version, 2);

    // One hop, to the owner: a node that is not it says so and asks nobody.
    let elsewhere = Knock {
        to: nodes[1].instance,
        nonce: 2,
        ..good.clone()
    };
    let answer = elsewhere.at(&nodes[1]).await;
    assert_eq!((answer.status, answer.is_proven), (200, true));
    assert_eq!(answer.body, br#"{"Err":"no_owner"}"#);
    let unreadable = Knock {
        body: b"{}".to_vec(),
        nonce: 3,
        ..good.clone()
    };
    let answer = unreadable.at(&nodes[0]).await;
    assert_eq!((answer.status, answer.is_proven), (400, true));
    for path in ["/", "/metrics", "/v1/orders", "/orders/"] {
        let answer = Knock {
            path: path.to_owned(),
            nonce: 4,
            ..good.clone()
        };
        let answer = answer.at(&nodes[0]).await;
        assert_eq!((answer.status, answer.body.len()), (404, 0), "{path}");
    }
    cluster.stop(nodes).await;
}

/// Seen from the caller: what is not proven is no answer, so it does not know; a node that is not there,
/// or is another, has certainly not heard.
#[test]
async fn an_unproven_answer_is_none() {
    let cluster = Cluster::default();
    let nodes = cluster.nodes(2).await;
    let id = cluster.order(&nodes[0]).await;
    let shard = nodes[0].orders.shard_of(id);
    let told = |command: Command| request(command);
    for (secret, ahead_ms) in [("another", 0), (SECRET, 31_000)] {
        let stranger = cluster.peers(77, secret, ahead_ms, &nodes[1].directory);
        stranger.attach(nodes[1].orders.clone(), &nodes[1].membership);
        let answer = stranger
            .tell(shard, id, told(Command::Cancel), Asking::Tell)
            .await;
        assert!(matches!(answer, Err(OrdersError::ActorLost)), "{answer:?}");
        stranger.detach();
    }
    assert_eq!(cluster.stored(id).await.order.version, 1);
    let known = cluster.peers(78, SECRET, 5_000, &nodes[1].directory);
    known.attach(nodes[1].orders.clone(), &nodes[1].membership);
    let answer = known.tell(shard, id, told(Command::Cancel), Asking::Tell);
    assert_eq!(answer.await.unwrap().verdict, Verdict::Applied);
    known.detach();

    let nobody = Arc::new(cluster.peers(79, SECRET, 0, &Directory::default()));
    nobody.attach(nodes[1].orders.clone(), &nodes[1].membership);
    let id: OrderId = cluster.order(&nodes[0]).await;
    let shard = nodes[0].orders.shard_of(id);
    let answer = nobody.tell(shard, id, told(Command::Cancel), Asking::Tell);
    assert!(matches!(answer.await, Err(OrdersError::NoOwner)));
    nobody.detach();
    cluster.stop(nodes).await;
}
