//! `GET /v1/events` and `POST /v1/events/{id}/resend`.

use std::collections::BTreeSet;

use enrollpay::operations::Operation;
use enrollpay::order::{EventId, OrderId};
use enrollpay::sealing::Place;
use enrollpay::store::{DeliveryState, OutboxEntry, Transaction, Write};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::api::gateway::{Caller, Gateway};

impl Gateway {
    /// An order that is closed at once; its event's body as it is stored.
    pub async fn closed(&self, number: &str) -> (OrderId, Vec<u8>) {
        let order = self.order(number).await;
        let closed = self
            .post(&format!("/v1/orders/{order}/cancel"), &Value::Null)
            .await;
        assert_eq!(closed.status, 200, "{}", closed.body);
        (order, self.stored_event(order).await)
    }

    async fn stored_event(&self, order: OrderId) -> Vec<u8> {
        let event = self.event(order).await;
        let row = event.id.to_string();
        let place = Place {
            table: "outbox",
            column: "body",
            row: &row,
        };
        self.deps.sealer.open(place, &event.body).unwrap()
    }

    /// The one event of an order.
    pub async fn event(&self, order: OrderId) -> OutboxEntry {
        let events = self
            .store
            .events_after(self.school.merchant, 0, &[], 1_000)
            .await
            .unwrap();
        let mut own = events
            .into_iter()
            .filter_map(|(_, event)| (event.order == order).then_some(event));
        let event = own.next().unwrap();
        assert!(own.next().is_none());
        event
    }

    /// As the relay would write it.
    pub async fn deliver(&self, event: EventId, state: DeliveryState) {
        let stands = self.store.outbox_event(event).await.unwrap().unwrap();
        let writes = vec![Write::Delivery {
            event,
            was: (stands.state, stands.tries),
            state,
            tries: 12,
            next_at: (state == DeliveryState::Pending)
                .then(|| self.deps.clock.now().plus_ms(60_000)),
            note: "as the receiver answered".to_owned(),
            at: self.deps.clock.now(),
        }];
        let transaction = Transaction {
            order: None,
            writes,
        };
        self.store.commit(vec![transaction]).await.unwrap()[0]
            .clone()
            .unwrap();
    }
}

fn ids(page: &Value) -> Vec<String> {
    let events = page["data"].as_array().unwrap();
    events
        .iter()
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect()
}

#[actix_web::test]
async fn events_are_the_stored_bytes_page_by_page() {
    let gateway = Gateway::start().await;
    let mut bodies = Vec::new();
    for number in 0..5 {
        bodies.push(gateway.closed(&format!("A-{number}")).await.1);
    }
    let (mut after, mut seen, mut pages) = (String::new(), 0, 0);
    loop {
        let page = gateway.get(&format!("/v1/events?limit=2{after}")).await;
        assert_eq!(page.status, 200, "{}", page.body);
        pages += 1;
        let count = page.body["data"].as_array().unwrap().len();
        for body in &bodies[seen..seen + count] {
            let found = page.bytes.windows(body.len()).any(|window| window == body);
            assert!(found, "the exact bytes");
        }
        seen += count;
        after = format!("&after={}", page.body["next"].as_str().unwrap());
        if page.body["has_more"] == json!(false) {
            break;
        }
    }
    assert_eq!((seen, pages), (5, 3));
    // The last cursor stays good: what comes later comes after it.
    let none = gateway.get(&format!("/v1/events?limit=2{after}")).await;
    assert_eq!(
        (ids(&none.body).len(), &none.body["has_more"]),
        (0, &json!(false))
    );
    let same = format!("&after={}", none.body["next"].as_str().unwrap());
    assert_eq!(same, after);
    let (order, _) = gateway.closed("A-9").await;
    let later = gateway.get(&format!("/v1/events?limit=2{after}")).await;
    assert_eq!(later.body["data"][0]["data"]["order"]["id"], json!(order));
    gateway.stop().await;
}

#[actix_web::test]
async fn an_empty_list_has_a_cursor_too_and_types_are_chosen() {
    let gateway = Gateway::start().await;
    let none = gateway.get("/v1/events").await;
    assert_eq!(none.body["data"], json!([]));
    let next = none.body["next"].as_str().unwrap();
    let (closed, _) = gateway.closed("A-1").await;
    let paid = gateway.paid("A-2").await;
    for (types, orders) in [
        ("order.closed", vec![closed]),
        ("order.paid", vec![paid]),
        ("order.paid,order.closed", vec![closed, paid]),
        ("refund.failed", vec![]),
    ] {
        let page = gateway
            .get(&format!("/v1/events?after={next}&types={types}"))
            .await;
        let found: Vec<_> = page.body["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| event["data"]["order"]["id"].clone())
            .collect();
        let orders: Vec<_> = orders.iter().map(|order| json!(order)).collect();
        assert_eq!(found, orders, "{types}");
    }
    gateway.stop().await;
}

#[actix_web::test]
async fn whoever_polls_while_much_happens_misses_nothing() {
    const ORDERS: usize = 40;
    let gateway = Gateway::start().await;
    let mut orders = Vec::new();
    for number in 0..ORDERS {
        orders.push(gateway.order(&format!("A-{number}")).await);
    }
    let closing = join_all(orders.iter().map(async |order| {
        let path = format!("/v1/orders/{order}/cancel");
        assert_eq!(gateway.post(&path, &Value::Null).await.status, 200);
    }));
    let polling = async {
        let mut seen = Vec::new();
        let mut after = String::new();
        while seen.len() < ORDERS {
            let page = gateway.get(&format!("/v1/events?limit=3{after}")).await;
            assert_eq!(page.status, 200, "{}", page.body);
            seen.extend(ids(&page.body));
            after = format!("&after={}", page.body["next"].as_str().unwrap());
        }
        seen
    };
    let limit = std::time::Duration::from_secs(20);
    let together = futures_util::future::join(closing, polling);
    let (_, seen) = tokio::time::timeout(limit, together)
        .await
        .expect("every event comes");
    let once: BTreeSet<_> = seen.iter().collect();
    assert_eq!(once.len(), ORDERS, "each once");
    let all = gateway.get("/v1/events?limit=100").await;
    assert_eq!(ids(&all.body), seen, "in the order of the commits");
    gateway.stop().await;
}

#[actix_web::test]
async fn another_merchants_events_and_cursors_are_none_of_ones_own() {
    let gateway = Gateway::start().await;
    let (order, _) = gateway.closed("A-1").await;
    let event = gateway.event(order).await.id;
    let next = gateway.get("/v1/events").await.body["next"].clone();
    let thief: &Caller = &gateway.other;
    let ask = async |method: &str, path: &str| {
        gateway
            .call_as(thief, method, path, &Value::Null, &[])
            .await
    };
    let theirs = ask("GET", "/v1/events").await;
    assert_eq!(theirs.body["data"], json!([]));
    let taken = ask(
        "GET",
        &format!("/v1/events?after={}", next.as_str().unwrap()),
    )
    .await;
    taken.is_problem(400, "validation_failed");
    let resent = ask("POST", &format!("/v1/events/{event}/resend")).await;
    let absent = ask("POST", "/v1/events/evt_00000000000000000000000001/resend").await;
    resent.is_problem(404, "not_found");
    assert_eq!(resent.body["detail"], absent.body["detail"]);
    gateway.stop().await;
}

#[actix_web::test]
async fn a_delivered_or_parked_event_is_sent_again() {
    let gateway = Gateway::start().await;
    let (order, body) = gateway.closed("A-1").await;
    let event = gateway.event(order).await.id;
    let path = format!("/v1/events/{event}/resend");
    for state in [DeliveryState::Delivered, DeliveryState::Parked] {
        gateway.deliver(event, state).await;
        let key = format!("k-{state:?}");
        let answer = gateway.post_once(&key, &path, &Value::Null).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_eq!(
            answer.body,
            json!({
                "id": event,
                "object": "event_delivery",
                "type": "order.closed",
                "order_id": order,
                "version": 2,
                "created_at": "2026-11-20T18:00:00+08:00",
                "state": "pending",
            })
        );
        let stored = gateway.event(order).await;
        assert_eq!((stored.state, stored.tries), (DeliveryState::Pending, 0));
        assert_eq!(stored.next_at, Some(gateway.deps.clock.now()));
        assert_eq!(gateway.stored_event(order).await, body, "the same bytes");
        // Under its key the press counts once, whatever has happened since.
        gateway.deliver(event, DeliveryState::Delivered).await;
        let again = gateway.post_once(&key, &path, &Value::Null).await;
        assert_eq!((again.status, &again.bytes), (200, &answer.bytes));
        assert_eq!(gateway.event(order).await.state, DeliveryState::Delivered);
    }
    gateway.stop().await;
}

#[actix_web::test]
async fn an_event_that_is_pending_keeps_its_tries() {
    let gateway = Gateway::start().await;
    let (order, _) = gateway.closed("A-1").await;
    let event = gateway.event(order).await.id;
    gateway.deliver(event, DeliveryState::Pending).await;
    let path = format!("/v1/events/{event}/resend");
    let answer = gateway.post(&path, &Value::Null).await;
    assert_eq!(
        (answer.status, &answer.body["state"]),
        (200, &json!("pending"))
    );
    let stored = gateway.event(order).await;
    assert_eq!(stored.tries, 12);
    assert!(stored.next_at > Some(gateway.deps.clock.now()));
    gateway.stop().await;
}

#[actix_web::test]
async fn what_told_of_a_forgotten_payer_is_told_no_more() {
    let gateway = Gateway::start().await;
    let order = gateway.paid("A-1").await;
    let event = gateway.event(order).await.id;
    gateway.deliver(event, DeliveryState::Delivered).await;
    let before = gateway.get("/v1/events").await.body;
    let erase = Operation::PersonalErase {
        order: Some(order.to_string()),
        payer_ref: None,
        merchant: None,
    };
    gateway.operate("li", erase).await.unwrap();
    assert!(gateway.event(order).await.body.is_erased());

    let page = gateway.get("/v1/events").await;
    assert_eq!(page.status, 200, "{}", page.body);
    assert_eq!(page.body["next"], before["next"]);
    assert_eq!(before["data"].as_array().unwrap().len(), 1);
    assert_eq!(page.body["data"], json!([]));
    let path = format!("/v1/events/{event}/resend");
    let refused = gateway.post(&path, &Value::Null).await;
    refused.is_problem(410, "erased");
    assert_eq!(refused.body["order_id"], json!(order));

    // The money can go back all the same.
    let refund = json!({ "merchant_refund_no": "R-1", "amount": 14_000, "reason": "停考" });
    let path = format!("/v1/orders/{order}/refunds");
    let made = gateway.post(&path, &refund).await;
    assert_eq!((made.status, &made.body["reason"]), (201, &json!("停考")));
    gateway
        .until(order, |order| order.refund_status() == "full")
        .await;
    gateway.stop().await;
}
