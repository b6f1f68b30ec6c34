//! The listener for monitoring: `/metrics`, `/healthz`, `/readyz` and nothing else (contract §3, §7).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::{HttpResponse, web};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tokio::time::timeout;

use crate::clock::Clock;
use crate::store::Store;

/// Beyond this the node cannot judge signatures and deadlines.
const LARGEST_SKEW_MS: i64 = 30_000;
/// A stalled disk must not hold up the scrape that would tell of it.
const STORE_ANSWERS_WITHIN: Duration = Duration::from_secs(2);

/// What the listener looks at.
#[derive(Clone)]
pub struct Health {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub metrics: PrometheusHandle,
    pub draining: Arc<AtomicBool>,
    /// Set once everything has started.
    pub started: Arc<AtomicBool>,
    /// What the cluster lacks for this node to be of use, if anything.
    pub not_ready: Arc<dyn Fn() -> Option<&'static str> + Send + Sync>,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Health").finish_non_exhaustive()
    }
}

/// The three paths; everything else is an empty 404.
pub fn configure(health: Health) -> impl Fn(&mut web::ServiceConfig) + Clone {
    move |config| {
        config
            .app_data(web::Data::new(health.clone()))
            .service(web::resource("/metrics").route(web::get().to(metrics)))
            .service(web::resource("/healthz").route(web::get().to(healthz)))
            .service(web::resource("/readyz").route(web::get().to(readyz)));
    }
}

/// Readiness is judged at each scrape too: nobody else may be asking for it.
async fn metrics(health: web::Data<Health>) -> HttpResponse {
    faults(&health).await;
    HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(health.metrics.render())
}

/// The process lives: nothing is asked.
async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(json!({ "status": "alive" }))
}

/// 200 while the node can take callbacks.
async fn readyz(health: web::Data<Health>) -> HttpResponse {
    let faults = faults(&health).await;
    if faults.is_empty() {
        HttpResponse::Ok().json(json!({ "status": "ready" }))
    } else {
        HttpResponse::ServiceUnavailable().json(json!({ "status": "not ready", "because": faults }))
    }
}

/// Why the node cannot take callbacks; what it finds is the gauge's value.
async fn faults(health: &Health) -> Vec<String> {
    let mut faults = Vec::new();
    if !health.started.load(Ordering::SeqCst) {
        faults.push("starting".to_owned());
    }
    if health.draining.load(Ordering::SeqCst) {
        faults.push("draining".to_owned());
    }
    faults.extend((health.not_ready)().map(ToOwned::to_owned));
    match timeout(STORE_ANSWERS_WITHIN, health.store.ping()).await {
        Err(_) => faults.push(format!(
            "the store did not answer within {STORE_ANSWERS_WITHIN:?}"
        )),
        Ok(Ok(stores_clock)) => {
            let skew_ms = stores_clock.since(health.clock.now());
            if skew_ms.abs() > LARGEST_SKEW_MS {
                faults.push(format!("the store's clock is {skew_ms} ms away from ours"));
            }
        }
        Ok(Err(error)) => faults.push(format!("store: {error}")),
    }
    metrics::gauge!("enrollpay_ready").set(if faults.is_empty() { 1.0 } else { 0.0 });
    faults
}
