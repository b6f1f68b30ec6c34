//! The description and the pages made of it: they say what the router does, and nothing else.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};

use enrollpay::http::{auth, routes};
use serde_json::{Value, json};

use crate::api::gateway::{Gateway, new_order};

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

async fn document(gateway: &Gateway) -> Value {
    let answer = gateway.send("GET", "/openapi.json", Vec::new(), &[]).await;
    assert_eq!(answer.status, 200);
    answer.body
}

fn operations(document: &Value) -> BTreeMap<(String, String), Value> {
    let paths = document["paths"].as_object().unwrap();
    let of = |(path, item): (&String, &Value)| {
        let path = path.clone();
        let methods = item.as_object().unwrap().clone();
        methods
            .into_iter()
            .map(move |(method, operation)| ((path.clone(), method.to_uppercase()), operation))
    };
    paths.iter().flat_map(of).collect()
}

#[actix_web::test]
async fn the_description_and_the_router_agree() {
    let gateway = Gateway::start().await;
    let document = document(&gateway).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let described: BTreeSet<_> = operations(&document).into_keys().collect();
    let routed: BTreeSet<_> = routes::merchant_api()
        .into_iter()
        .flat_map(|address| {
            let methods = address.allow.split(", ");
            methods.map(move |method| (address.path.to_owned(), method.to_owned()))
        })
        .collect();
    assert_eq!(described, routed);
    // The router itself, not its list: what is described wants a signature, the rest is refused.
    for path in described
        .iter()
        .map(|(path, _)| path)
        .collect::<BTreeSet<_>>()
    {
        let address = path
            .replace("{id}", "ord_00000000000000000000000001")
            .replace("{refund_id}", "rfd_00000000000000000000000001");
        for method in METHODS {
            let answer = gateway.send(method, &address, Vec::new(), &[]).await;
            if described.contains(&(path.clone(), method.to_owned())) {
                answer.is_problem(401, "credentials_missing");
            } else {
                answer.is_problem(405, "method_not_allowed");
            }
        }
    }
    gateway.stop().await;
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(reference) if name == "$ref" => found.push(reference.clone()),
                    member => references(member, found),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[actix_web::test]
async fn every_reference_leads_somewhere_and_every_answer_is_listed() {
    let gateway = Gateway::start().await;
    let document = document(&gateway).await;
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 50);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    let mut ids = BTreeSet::new();
    for ((path, method), operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id.to_owned()), "{id} twice");
        let responses = operation["responses"].as_object().unwrap();
        for status in ["400", "401", "405", "413", "415", "429", "500", "503"] {
            assert!(responses.contains_key(status), "{method} {path} {status}");
        }
        for response in responses.values() {
            assert!(response["headers"]["X-Request-Id"].is_object());
            assert!(
                response["description"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty())
            );
        }
        let parameters = operation["parameters"].as_array();
        let named = |name: &str| {
            let mut all = parameters.into_iter().flatten();
            all.find(|parameter| parameter["name"] == name)
        };
        if let Some(key) = named("Idempotency-Key") {
            assert_eq!(
                (&key["in"], &key["required"]),
                (&json!("header"), &json!(false))
            );
            assert_eq!(key["schema"]["type"], "string");
        }
        assert_eq!(
            method == "POST",
            named("Idempotency-Key").is_some(),
            "{path}"
        );
        for id in ["id", "refund_id"] {
            let stands = path.contains(&format!("{{{id}}}"));
            assert_eq!(stands, named(id).is_some(), "{path}");
        }
    }
    gateway.stop().await;
}

/// Does `value` have the shape? Members, their absence and their types; `at` is where we are.
pub fn fits(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document
            .pointer(reference.strip_prefix('#').unwrap())
            .unwrap();
        return fits(document, target, value, at);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let is_null = |schema: &&Value| schema["type"] == "null";
        if value.is_null() {
            assert!(choices.iter().any(|choice| is_null(&choice)), "{at}: null");
        } else {
            let choice = choices.iter().find(|choice| !is_null(choice)).unwrap();
            fits(document, choice, value, at);
        }
        return;
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let kinds = match &schema["type"] {
        Value::Array(kinds) => kinds.clone(),
        Value::Null => vec![json!("object")],
        kind => vec![kind.clone()],
    };
    assert!(
        kinds.contains(&json!(kind)),
        "{at}: {kind}, described as {kinds:?}"
    );
    if let (Some(words), Value::String(text)) = (schema["enum"].as_array(), value) {
        assert!(words.contains(&json!(text)), "{at}: {text}");
    }
    for (index, value) in value.as_array().into_iter().flatten().enumerate() {
        fits(document, &schema["items"], value, &format!("{at}/{index}"));
    }
    let mut properties = serde_json::Map::new();
    let parts = schema["allOf"].as_array().into_iter().flatten();
    for part in parts.chain([schema]) {
        properties.extend(part["properties"].as_object().cloned().unwrap_or_default());
    }
    if let (Value::Object(members), false) = (value, properties.is_empty()) {
        for (name, member) in members {
            let described = properties.get(name);
            let described = described.unwrap_or_else(|| panic!("{at}/{name} is not described"));
            fits(document, described, member, &format!("{at}/{name}"));
        }
        let missing: Vec<_> = properties
            .keys()
            .filter(|name| !members.contains_key(*name))
            .collect();
        let optional = ["errors", "refund", "bills"];
        assert!(
            missing.iter().all(|name| optional.contains(&name.as_str())),
            "{at}: {missing:?}"
        );
    }
}

#[actix_web::test]
async fn what_is_answered_is_what_is_described() {
    let gateway = Gateway::start().await;
    let document = document(&gateway).await;
    let shape = |name: &str| document["components"]["schemas"][name].clone();
    fits(
        &document,
        &shape("Problem"),
        &gateway.post("/v1/orders", &json!({})).await.body,
        "Problem",
    );
    let order = gateway.order("A-1").await;
    let path = format!("/v1/orders/{order}");
    let attempts = format!("{path}/attempts");
    let started = gateway.post(&attempts, &Value::Null).await;
    assert_eq!(started.status, 201);
    fits(
        &document,
        &shape("StartedAttempt"),
        &started.body,
        "StartedAttempt",
    );
    fits(
        &document,
        &shape("Order"),
        &gateway.get(&path).await.body,
        "Order",
    );
    let attempt = gateway.scan(order).await;
    gateway.capture(order, attempt, "4200001").await;
    // A second success: the order does not owe it.
    gateway.capture(order, attempt, "4200002").await;
    let paid = gateway.get(&path).await;
    assert_eq!(paid.body["surplus"].as_array().map(Vec::len), Some(1));
    fits(&document, &shape("Order"), &paid.body, "Order");
    let timeline = gateway.get(&format!("{path}/timeline")).await;
    fits(&document, &shape("Timeline"), &timeline.body, "Timeline");
    fits(
        &document,
        &shape("OrderList"),
        &gateway.get("/v1/orders").await.body,
        "OrderList",
    );
    let query = gateway.post(&format!("{path}/query"), &Value::Null).await;
    assert_eq!(query.status, 200);
    fits(&document, &shape("OrderQuery"), &query.body, "OrderQuery");
    gateway.stop().await;
}

#[actix_web::test]
async fn bills_are_answered_as_described() {
    let gateway = Gateway::start().await;
    let document = document(&gateway).await;
    let fits_in = |name: &str, value: &Value| {
        let shape = document["components"]["schemas"][name].clone();
        fits(&document, &shape, value, name);
    };
    let example = &document["components"]["schemas"]["NewBill"]["example"];
    let made = gateway.post("/v1/bills", example).await;
    assert_eq!(made.status, 201, "{}", made.body);
    fits_in("Bill", &made.body);
    let list = gateway
        .post("/v1/bills", &json!({ "bills": [example] }))
        .await;
    assert_eq!(list.status, 200, "{}", list.body);
    fits_in("UploadedBills", &list.body);
    fits_in("BillList", &gateway.get("/v1/bills").await.body);
    let path = format!("/v1/bills/{}/cancel", made.body["id"].as_str().unwrap());
    let closed = gateway.post(&path, &Value::Null).await;
    assert_eq!(closed.body["status"], "closed");
    fits_in("Bill", &closed.body);
    let asked = json!({ "payer": { "ref": "20210001" } });
    let link = gateway.post("/v1/payer_links", &asked).await;
    assert_eq!(link.status, 201, "{}", link.body);
    fits_in("PayerLink", &link.body);
    gateway.stop().await;
}

#[actix_web::test]
async fn refunds_and_events_are_answered_as_described() {
    let gateway = Gateway::start().await;
    let document = document(&gateway).await;
    let fits_in = |name: &str, value: &Value| {
        let shape = document["components"]["schemas"][name].clone();
        fits(&document, &shape, value, name);
    };
    let example = &document["components"]["schemas"]["NewRefund"]["example"];
    let order = gateway.paid("A-1").await;
    let path = format!("/v1/orders/{order}/refunds");
    let made = gateway.post(&path, example).await;
    assert_eq!(made.status, 201, "{}", made.body);
    fits_in("Refund", &made.body);
    gateway
        .until(order, |order| order.refund_status() == "partial")
        .await;
    fits_in("RefundList", &gateway.get(&path).await.body);
    let id = made.body["id"].as_str().unwrap();
    let read = gateway.get(&format!("{path}/{id}")).await;
    fits_in("Refund", &read.body);
    fits_in(
        "Order",
        &gateway.get(&format!("/v1/orders/{order}")).await.body,
    );

    let events = gateway.get("/v1/events").await;
    assert_eq!(events.body["data"].as_array().map(Vec::len), Some(2));
    fits_in("EventList", &events.body);
    let event = &events.body["data"][1];
    assert_eq!(event["data"]["refund"]["id"], id);
    // Every type that there is can be asked for, and stands in the description.
    let described = document["components"]["schemas"]["WebhookEvent"].to_string();
    for kind in [
        "order.paid",
        "order.closed",
        "order.surplus_refunded",
        "order.attention",
        "refund.succeeded",
        "refund.failed",
        "receipt.issued",
    ] {
        assert!(described.contains(kind), "{kind}");
        let page = gateway.get(&format!("/v1/events?types={kind}")).await;
        assert_eq!(page.status, 200, "{kind}");
    }
    let fiscal = json!({ "number": "6501-1", "url": "https://czpj.example.gov.cn/6501-1" });
    let issue = format!("/v1/orders/{order}/fiscal_receipt");
    let issued = gateway.post(&issue, &fiscal).await;
    assert_eq!(issued.status, 200, "{}", issued.body);
    fits_in("Order", &issued.body);
    fits_in("FiscalReceipt", &issued.body["fiscal_receipt"]);
    let id = event["id"].as_str().unwrap();
    let resent = gateway
        .post(&format!("/v1/events/{id}/resend"), &Value::Null)
        .await;
    assert_eq!(resent.status, 200);
    fits_in("EventDelivery", &resent.body);
    let unknown = gateway.post(&path, &json!({ "colour": 1 })).await;
    let detail = unknown.body["errors"][0]["detail"].as_str().unwrap();
    let known = document["components"]["schemas"]["NewRefund"]["properties"].clone();
    for name in known.as_object().unwrap().keys() {
        assert!(detail.contains(name.as_str()), "{name}");
    }
    gateway.stop().await;
}

#[actix_web::test]
async fn the_example_of_an_order_can_be_ordered() {
    let gateway = Gateway::start().await;
    let document = document(&gateway).await;
    let example = &document["components"]["schemas"]["NewOrder"]["example"];
    assert_eq!(example, &enrollpay::http::openapi::example_order());
    let answer = gateway.post("/v1/orders", example).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    // And what merchants may send is what is described: each member is known.
    let known = document["components"]["schemas"]["NewOrder"]["properties"]
        .as_object()
        .unwrap();
    let unknown = gateway.post("/v1/orders", &json!({ "colour": 1 })).await;
    let detail = unknown.body["errors"][0]["detail"].as_str().unwrap();
    for name in known.keys() {
        assert!(detail.contains(name.as_str()), "{name}");
    }
    assert!(
        new_order("A")
            .as_object()
            .unwrap()
            .keys()
            .all(|name| known.contains_key(name))
    );
    gateway.stop().await;
}

#[actix_web::test]
async fn pages_load_nothing_from_elsewhere() {
    let gateway = Gateway::start().await;
    for path in ["/docs", "/docs/errors", "/docs/errors/not_found"] {
        let page = gateway.send("GET", path, Vec::new(), &[]).await;
        assert_eq!(page.status, 200, "{path}");
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"));
        let text = String::from_utf8_lossy(&page.bytes).into_owned();
        assert!(!text.contains("<script") && !text.contains("style=\""));
        for attribute in ["src=\"", "href=\""] {
            for target in text.split(attribute).skip(1) {
                let target = target.split('"').next().unwrap();
                assert!(
                    target.starts_with('/') || target.starts_with('#'),
                    "{path}: {target}"
                );
                if let Some(id) = target.strip_prefix('#') {
                    assert!(text.contains(&format!("id=\"{id}\"")), "{target}");
                } else {
                    let address = target.split('#').next().unwrap();
                    let linked = gateway.send("GET", address, Vec::new(), &[]).await;
                    assert_eq!(linked.status, 200, "{path}: {target}");
                }
            }
        }
    }
    let style = gateway.send("GET", "/docs/docs.css", Vec::new(), &[]).await;
    assert!(!String::from_utf8_lossy(&style.bytes).contains("http"));
    gateway.stop().await;
}

#[actix_web::test]
async fn the_worked_examples_are_true() {
    let gateway = Gateway::start().await;
    let page = gateway.send("GET", "/docs", Vec::new(), &[]).await;
    let text = String::from_utf8_lossy(&page.bytes);
    let text = text.replace("&#34;", "\"").replace("&#39;", "'");
    let of = |id: &str| {
        let (_, rest) = text.split_once(&format!("id=\"{id}\">")).unwrap();
        rest.split_once("</code>").unwrap().0.to_owned()
    };
    let to_sign = of("string-to-sign");
    let lines: Vec<_> = to_sign.split('\n').collect();
    let [method, path, timestamp, nonce, body, ""] = lines[..] else {
        panic!("{lines:?}");
    };
    let secret = of("secret");
    let timestamp = timestamp.parse().unwrap();
    let signature = auth::sign(method, path, timestamp, nonce, body.as_bytes(), &secret);
    assert_eq!(of("signature"), signature);
    assert!(of("authorization").ends_with(&format!("signature=\"{signature}\"")));

    // The webhook, by another's implementation.
    let (_, rest) = text.split_once("webhook-id: ").unwrap();
    let (head, rest) = rest.split_once("\n\n").unwrap();
    let (body, _) = rest.split_once("</code>").unwrap();
    let mut lines = head.lines();
    let id = lines.next().unwrap();
    let timestamp = lines
        .next()
        .unwrap()
        .strip_prefix("webhook-timestamp: ")
        .unwrap();
    let signature = lines
        .next()
        .unwrap()
        .strip_prefix("webhook-signature: ")
        .unwrap();
    let webhook = standardwebhooks::Webhook::new(&of("webhook-secret")).unwrap();
    let expected = webhook
        .sign(id, timestamp.parse().unwrap(), body.as_bytes())
        .unwrap();
    assert_eq!(signature, expected);
    gateway.stop().await;
}
