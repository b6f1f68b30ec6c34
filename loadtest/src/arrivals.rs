//! Open-loop arrivals: people come when they come, not when the server is ready for them. Every
//! arrival has an intended instant; its latency counts from there, so a stall is seen by everyone who
//! would have met it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// What one step of the load saw.
#[derive(Debug)]
pub struct Observed {
    pub offered_per_second: u32,
    /// Arrivals that ended well, by the second in which the last of them ended.
    pub achieved_per_second: f64,
    /// Microseconds from the intended start to the good end.
    pub latency: Histogram<u64>,
    pub errors: BTreeMap<String, u64>,
}

impl Observed {
    pub fn good(&self) -> u64 {
        self.latency.len()
    }

    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Latency at a quantile, in milliseconds.
    #[expect(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "a report, not money")]
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1000.0
    }
}

#[derive(Debug)]
struct Tally {
    latency: Histogram<u64>,
    errors: BTreeMap<String, u64>,
    last_end: Option<Instant>,
}

/// Offers `per_second` arrivals for `seconds` and waits (at most `patience`) for the last to end.
#[expect(clippy::float_arithmetic, clippy::cast_precision_loss, reason = "a report, not money")]
pub async fn offer<F, Work>(per_second: u32, seconds: u32, patience: Duration, work: F) -> Observed
where
    F: Fn(u64) -> Work,
    Work: Future<Output = Result<(), String>> + Send + 'static,
{
    let tally = Arc::new(Mutex::new(Tally {
        latency: Histogram::new_with_bounds(1, 120_000_000, 3).expect("valid bounds"),
        errors: BTreeMap::new(),
        last_end: None,
    }));
    let start = Instant::now() + Duration::from_millis(50);
    let arrivals = u64::from(per_second) * u64::from(seconds);
    let gap = Duration::from_secs(1) / per_second.max(1);
    let mut under_way = tokio::task::JoinSet::new();
    for index in 0..arrivals {
        let intended = start + gap * u32::try_from(index).unwrap_or(u32::MAX);
        tokio::time::sleep_until(intended).await;
        let tally = Arc::clone(&tally);
        let work = work(index);
        under_way.spawn(async move {
            let outcome = tokio::time::timeout(patience, work)
                .await
                .unwrap_or_else(|_| Err("no end within our patience".to_owned()));
            let end = Instant::now();
            let mut tally = tally.lock().await;
            match outcome {
                Ok(()) => {
                    let micros = u64::try_from(end.duration_since(intended).as_micros());
                    tally.latency.saturating_record(micros.unwrap_or(u64::MAX));
                    tally.last_end = Some(end);
                }
                Err(error) => *tally.errors.entry(error).or_default() += 1,
            }
        });
        while under_way.try_join_next().is_some() {}
    }
    while under_way.join_next().await.is_some() {}
    let tally = Arc::into_inner(tally)
        .expect("all arrivals have ended")
        .into_inner();
    let lasted = tally
        .last_end
        .map_or(f64::from(seconds), |end| end.duration_since(start).as_secs_f64());
    Observed {
        offered_per_second: per_second,
        achieved_per_second: tally.latency.len() as f64 / lasted.max(f64::from(seconds)),
        latency: tally.latency,
        errors: tally.errors,
    }
}
