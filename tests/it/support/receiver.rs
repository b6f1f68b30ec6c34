//! The merchant's own server: takes webhooks, believes only signed ones, keeps what they said.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::Value;

use super::eventually;

/// One delivery whose signature was verified.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub id: String,
    pub kind: String,
    pub order: Value,
    pub body: Vec<u8>,
}

impl Delivery {
    /// The refund that it speaks of.
    pub fn refund(&self) -> Value {
        let event: Value = serde_json::from_slice(&self.body).unwrap();
        event["data"]["refund"].clone()
    }
}

#[derive(Default)]
struct Kept {
    secret: Option<String>,
    deliveries: Vec<Delivery>,
    /// Deliveries whose signature was not true: there must be none.
    refused: usize,
}

pub struct Receiver {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
}

impl Receiver {
    pub fn start() -> Self {
        let kept = Arc::new(Mutex::new(Kept::default()));
        let data = web::Data::from(Arc::clone(&kept));
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .route("/webhooks", web::post().to(take))
        })
        .workers(1)
        .disable_signals()
        .bind("127.0.0.1:0")
        .unwrap();
        let address = server.addrs()[0];
        tokio::spawn(server.run());
        Self { address, kept }
    }

    pub fn url(&self) -> String {
        format!("http://{}/webhooks", self.address)
    }

    /// From here on signatures by this secret are believed.
    pub fn believe(&self, secret: &str) {
        self.kept.lock().unwrap().secret = Some(secret.to_owned());
    }

    pub fn refused(&self) -> usize {
        self.kept.lock().unwrap().refused
    }

    /// Those that a test brought about.
    pub fn forget_refusals(&self) {
        self.kept.lock().unwrap().refused = 0;
    }

    /// What a store told that has forgotten it since.
    pub fn forget(&self, order: &str) {
        let mut kept = self.kept.lock().unwrap();
        kept.deliveries.retain(|told| told.order["id"] != order);
    }

    /// Every delivery about this order, repetitions too.
    pub fn deliveries(&self, order: &str) -> Vec<Delivery> {
        let kept = self.kept.lock().unwrap();
        kept.deliveries
            .iter()
            .filter(|delivery| delivery.order["id"] == order)
            .cloned()
            .collect()
    }

    pub fn all(&self) -> Vec<Delivery> {
        self.kept.lock().unwrap().deliveries.clone()
    }

    /// The events of this kind about this order, each once.
    pub fn events(&self, order: &str, kind: &str) -> Vec<Delivery> {
        let mut seen = std::collections::BTreeSet::new();
        let mut all = self.deliveries(order);
        all.retain(|delivery| delivery.kind == kind && seen.insert(delivery.id.clone()));
        all
    }

    /// Waits for the first event of this kind about this order.
    pub async fn wait(&self, order: &str, kind: &str) -> Delivery {
        let what = format!("{kind} of {order}");
        eventually(&what, Duration::from_secs(30), async || {
            self.deliveries(order)
                .into_iter()
                .find(|delivery| delivery.kind == kind)
        })
        .await
    }
}

async fn take(
    request: HttpRequest,
    body: web::Bytes,
    kept: web::Data<Mutex<Kept>>,
) -> HttpResponse {
    let mut headers = reqwest::header::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        if let Some(value) = request.headers().get(name) {
            headers.insert(name, value.to_str().unwrap().parse().unwrap());
        }
    }
    let mut kept = kept.lock().unwrap();
    let believed = kept.secret.as_deref().is_some_and(|secret| {
        let judge = standardwebhooks::Webhook::new(secret).unwrap();
        judge.verify(&body, &headers).is_ok()
    });
    if !believed {
        kept.refused += 1;
        return HttpResponse::Unauthorized().finish();
    }
    let event: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(event["id"], headers["webhook-id"].to_str().unwrap());
    kept.deliveries.push(Delivery {
        id: event["id"].as_str().unwrap().to_owned(),
        kind: event["type"].as_str().unwrap().to_owned(),
        order: event["data"]["order"].clone(),
        body: body.to_vec(),
    });
    HttpResponse::NoContent().finish()
}
