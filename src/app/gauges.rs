//! What is looked at now and then: memory, descriptors, orders by status, and old rows to forget.

use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::http::limits::Limiters;
use crate::store::Store;

const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A nonce is refused for ten minutes by its row, afterwards by its timestamp.
const NONCES_KEPT_MS: i64 = 600_000;
/// Idempotency keys hold for at least 30 days (contract §4).
const KEYS_KEPT_MS: i64 = 31 * 86_400_000;

/// Looks until it is stopped.
pub(super) async fn watch(
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    metrics: PrometheusHandle,
    limiters: Limiters,
    stop: CancellationToken,
) {
    gauge!("enrollpay_start_time_seconds").set(seconds(clock.now().as_seconds()));
    let mut looks: u64 = 0;
    loop {
        metrics.run_upkeep();
        process();
        limiters.upkeep();
        match store.count_by_status().await {
            Ok(counts) => {
                for (status, count) in counts {
                    gauge!("enrollpay_orders_in_state", "state" => status.as_str())
                        .set(seconds(i64::try_from(count).unwrap_or(i64::MAX)));
                }
            }
            Err(error) => tracing::warn!(%error, "orders could not be counted"),
        }
        if looks.is_multiple_of(120) {
            let now = clock.now();
            let forgotten = store
                .forget(now.minus_ms(NONCES_KEPT_MS), now.minus_ms(KEYS_KEPT_MS))
                .await;
            match forgotten {
                Ok(rows) => tracing::debug!(rows, "old nonces and keys forgotten"),
                Err(error) => tracing::warn!(%error, "old rows could not be forgotten"),
            }
        }
        looks += 1;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Resident memory and open descriptors, where the system tells.
fn process() {
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        let kibibytes = status.lines().find_map(|line| {
            line.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix("kB")?
                .trim()
                .parse::<i64>()
                .ok()
        });
        if let Some(kibibytes) = kibibytes {
            gauge!("enrollpay_resident_memory_bytes").set(seconds(kibibytes * 1024));
        }
    }
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        let count = i64::try_from(entries.count()).unwrap_or(i64::MAX);
        gauge!("enrollpay_open_descriptors").set(seconds(count));
    }
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
const fn seconds(value: i64) -> f64 {
    value as f64
}
