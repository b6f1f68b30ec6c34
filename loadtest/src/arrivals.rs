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
    /// Good ends a second, from the first to the last of them: a backlog shows, a constant delay
    /// does not.
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

    /// How much of what was offered was done, in hundredths.
    #[expect(
        clippy::float_arithmetic,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a report, not money"
    )]
    pub fn kept_up_percent(&self) -> u64 {
        (self.achieved_per_second * 100.0 / f64::from(self.offered_per_second.max(1))) as u64
    }

    /// Latency at a quantile, in milliseconds.
    #[expect(
        clippy::float_arithmetic,
        clippy::cast_precision_loss,
        reason = "a report, not money"
    )]
    pub fn quantile_ms(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1000.0
    }
}

#[derive(Debug)]
struct Tally {
    latency: Histogram<u64>,
    errors: BTreeMap<String, u64>,
    ends: Option<(Instant, Instant)>,
}

/// Offers `per_second` arrivals for `seconds` and waits (at most `patience`) for the last to end.
#[expect(
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    reason = "a report, not money"
)]
pub async fn offer<F, Work>(per_second: u32, seconds: u32, patience: Duration, work: F) -> Observed
where
    F: Fn(u64) -> Work,
    Work: Future<Output = Result<(), String>> + Send + 'static,
{
    let tally = Arc::new(Mutex::new(Tally {
        latency: Histogram::new_with_bounds(1, 120_000_000, 3).expect("valid bounds"),
        errors: BTreeMap::new(),
        ends: None,
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
                    tally.ends = Some((tally.ends.map_or(end, |(first, _)| first), end));
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
    let good = tally.latency.len() as f64;
    let over_the_whole = good / f64::from(seconds.max(1));
    let while_they_ended = tally.ends.map_or(0.0, |(first, last)| {
        good / last.duration_since(first).as_secs_f64().max(0.001)
    });
    Observed {
        offered_per_second: per_second,
        achieved_per_second: over_the_whole.min(while_they_ended),
        latency: tally.latency,
        errors: tally.errors,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_constant_delay_is_no_backlog() {
        let seen = offer(100, 5, Duration::from_secs(60), async |_| {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok(())
        })
        .await;
        assert_eq!((seen.good(), seen.failed()), (500, 0));
        assert!(seen.kept_up_percent() >= 99, "{seen:?}");
        assert!((2_000.0..2_010.0).contains(&seen.quantile_ms(0.5)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_is_felt_by_everybody_behind_it() {
        let desk = Arc::new(Mutex::new(()));
        let seen = offer(100, 5, Duration::from_secs(60), |_| {
            let desk = Arc::clone(&desk);
            async move {
                let _turn = desk.lock().await;
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(())
            }
        })
        .await;
        assert!((48..=51).contains(&seen.kept_up_percent()), "{seen:?}");
        // The last of 500 came at 5 s and was served at 10 s.
        assert!(seen.quantile_ms(1.0) > 4_900.0);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_counted_by_their_words() {
        let seen = offer(10, 1, Duration::from_secs(1), async |index| match index {
            0 => Err("refused".to_owned()),
            1 => std::future::pending().await,
            _ => Ok(()),
        })
        .await;
        assert_eq!((seen.good(), seen.failed()), (8, 2));
        assert_eq!(seen.errors["refused"], 1);
        assert!(seen.kept_up_percent() <= 80);
    }
}
