//! Requests that somebody has kept and sends again, byte for byte (F6). Their nonces are rows; and where
//! those are gone, natural keys and `Idempotency-Key` decide.

use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::cluster;
use crate::invariants::Kept;
use crate::support::books::trade_number;
use crate::support::cluster::Cluster;
use crate::support::merchant::{Answer, Merchant, new_order};
use crate::support::postgres::Postgres;
use crate::support::student::{Student, Wechat};
use crate::support::{Pair, World, client, eventually, on_either_pair};

const PATIENCE: Duration = Duration::from_secs(30);

/// A request as it went over the wire.
struct Letter {
    target: String,
    body: String,
    authorization: String,
    key: Option<String>,
    first: Answer,
}

impl Letter {
    async fn send(merchant: &Merchant, target: &str, body: &Value, has_key: bool) -> Self {
        let body = body.to_string();
        let nonce = Merchant::nonce();
        let mut letter = Self {
            target: target.to_owned(),
            authorization: merchant.sign(&Method::POST, target, &nonce, &body),
            body,
            key: has_key.then(Merchant::nonce),
            first: Answer {
                status: 0,
                headers: reqwest::header::HeaderMap::new(),
                body: Vec::new(),
            },
        };
        letter.first = letter.again(&merchant.origin).await;
        let status = letter.first.status;
        assert!([200, 201].contains(&status), "{target}: {status}");
        letter
    }

    async fn again(&self, origin: &str) -> Answer {
        let mut request = client()
            .post(format!("{origin}{}", self.target))
            .header("authorization", &self.authorization)
            .header("content-type", "application/json")
            .body(self.body.clone());
        if let Some(key) = &self.key {
            request = request.header("idempotency-key", key);
        }
        Answer::of(request.send().await.unwrap()).await.unwrap()
    }
}

fn id_of(answer: &Answer) -> String {
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// One of each request that changes something, and the order that was paid and the one that was closed.
async fn everything(world: &World) -> (Vec<Letter>, [String; 2]) {
    let merchant = &world.merchant;
    let mut letters = Vec::new();
    // A merchant's number is key enough.
    let made = Letter::send(merchant, "/v1/orders", &new_order(&json!({})), false).await;
    let paid = id_of(&made.first);
    letters.push(made);
    let nothing = json!({});
    let of_it = |what: &str| format!("/v1/orders/{paid}/{what}");
    let started = Letter::send(merchant, &of_it("attempts"), &nothing, true).await;
    let mut student = Student::stranger(Wechat);
    student.scan(&started.first.json()).await.expect(200);
    student.press_pay().await.expect(200);
    letters.push(started);
    letters.push(Letter::send(merchant, &of_it("query"), &nothing, true).await);
    world.simulators.pay(&trade_number(&paid, 1)).await;
    merchant.until_status(&paid, "paid").await;

    let part = json!({ "merchant_refund_no": format!("R-{paid}"), "amount": 4000 });
    let refund = Letter::send(merchant, &of_it("refunds"), &part, false).await;
    let refund_id = id_of(&refund.first);
    letters.push(refund);
    merchant.until_refund(&paid, &refund_id, "succeeded").await;
    let event = world.receiver.wait(&paid, "order.paid").await.id;
    let told = || world.receiver.deliveries(&paid);
    let times = || told().iter().filter(|told| told.id == event).count();
    eventually("every event once", PATIENCE, async || {
        (told().len() >= 2).then_some(())
    })
    .await;
    let resend = format!("/v1/events/{event}/resend");
    letters.push(Letter::send(merchant, &resend, &nothing, true).await);
    eventually("the event again", PATIENCE, async || {
        (times() == 2).then_some(())
    })
    .await;

    let made = Letter::send(merchant, "/v1/orders", &new_order(&json!({})), true).await;
    let closed = id_of(&made.first);
    letters.push(made);
    let cancel = format!("/v1/orders/{closed}/cancel");
    letters.push(Letter::send(merchant, &cancel, &nothing, false).await);
    world.receiver.wait(&closed, "order.closed").await;
    (letters, [paid, closed])
}

/// What a second effect would show in.
async fn effects(world: &World, orders: &[String; 2]) -> Vec<Value> {
    let mut shown = vec![world.merchant.get("/v1/orders").await.json()["data"].clone()];
    for order in orders {
        let path = format!("/v1/orders/{order}/timeline");
        shown.push(world.merchant.get(&path).await.expect(200));
        shown.push(json!(world.receiver.deliveries(order).len()));
    }
    let trade = trade_number(&orders[0], 1);
    shown.push(json!(world.simulators.refunds(&trade).await));
    shown
}

async fn forget_nonces(world: &World) {
    match world.gateway.kept() {
        Kept::File(file) => {
            world.gateway.terminate().await;
            let store = rusqlite::Connection::open(file).unwrap();
            assert!(store.execute("DELETE FROM nonces", ()).unwrap() > 0);
            drop(store);
            world.gateway.restart().await;
        }
        Kept::Database(_) => {
            let gone =
                "WITH gone AS (DELETE FROM nonces RETURNING 1) SELECT count(*) > 0 FROM gone";
            assert_eq!(cluster(world).database.sql(gone), "t");
        }
    }
}

/// Twice: with their nonces, and without.
async fn a_replay_has_no_second_effect(pair: Pair) {
    let world = match pair {
        Pair::Sqlite => World::on(pair, &[]).await,
        // A Redis that may be emptied.
        Pair::Postgres(nodes) => {
            World::cluster(Cluster::breakable(nodes, &Postgres::shared()), &[]).await
        }
    };
    let (letters, orders) = everything(&world).await;
    let before = effects(&world, &orders).await;
    assert_eq!(before[0].as_array().map(Vec::len), Some(2), "{before:?}");
    let origin = &world.merchant.origin;
    if let Some(cluster) = &world.cluster {
        assert!(cluster.redis.say("FLUSHALL").starts_with("+OK"));
    }
    for letter in &letters {
        let refused = letter.again(origin).await.expect(401);
        assert_eq!(refused["code"], "nonce_replayed", "{}", letter.target);
    }
    assert_eq!(effects(&world, &orders).await, before);

    forget_nonces(&world).await;
    let answers = join_all(
        letters
            .iter()
            .map(async |letter| letter.again(origin).await),
    )
    .await;
    for (letter, answer) in letters.iter().zip(answers) {
        let (first, again) = (&letter.first, &answer);
        if letter.key.is_some() {
            assert_eq!((again.status, &again.body), (first.status, &first.body));
        } else {
            assert_eq!(again.expect(200)["id"], first.json()["id"]);
        }
    }
    assert_eq!(effects(&world, &orders).await, before);
    world.finish().await;
}

on_either_pair!(a_replay_has_no_second_effect);
