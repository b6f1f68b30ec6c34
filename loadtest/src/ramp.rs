//! The knee: the highest rate that is kept up with. Doubling until it is not, then halving the
//! distance.

use crate::arrivals::Observed;

/// Fewer good ends than this share of the arrivals, in hundredths: not kept up with.
const LEAST_ACHIEVED_PERCENT: u64 = 97;
/// A 99th percentile above this: not kept up with.
const LONGEST_P99_MICROS: u64 = 1_000_000;
/// The search ends where the bounds are this close, in hundredths of the lower one.
const CLOSE_PERCENT: u32 = 7;

/// Did the gateway keep up?
pub fn held(step: &Observed) -> bool {
    step.kept_up_percent() >= LEAST_ACHIEVED_PERCENT
        && step.latency.value_at_quantile(0.99) <= LONGEST_P99_MICROS
}

/// Offers rates by `offer`, from `first` on. The step at the highest rate that was held, or the first
/// one where none was. A rate that was not held gets a second try: a machine has other work, too.
pub async fn knee(first: u32, mut offer: impl AsyncFnMut(u32) -> Observed) -> Observed {
    let mut twice = async |rate| {
        let step = offer(rate).await;
        if held(&step) { step } else { offer(rate).await }
    };
    let mut best = twice(first).await;
    if !held(&best) {
        return best;
    }
    let mut high = loop {
        let Some(rate) = best.offered_per_second.checked_mul(2) else {
            return best;
        };
        let step = twice(rate).await;
        if !held(&step) {
            break rate;
        }
        best = step;
    };
    while high - best.offered_per_second > best.offered_per_second * CLOSE_PERCENT / 100 {
        let rate = u32::midpoint(best.offered_per_second, high);
        if rate == best.offered_per_second {
            break;
        }
        let step = twice(rate).await;
        if held(&step) {
            best = step;
        } else {
            high = rate;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::Histogram;
    use std::collections::BTreeMap;

    /// A machine that takes `limit` arrivals a second and no more.
    fn step(rate: u32, limit: u32) -> Observed {
        let mut latency = Histogram::new_with_bounds(1, 120_000_000, 3).unwrap();
        latency.record_n(900, u64::from(rate)).unwrap();
        Observed {
            offered_per_second: rate,
            achieved_per_second: f64::from(rate.min(limit)),
            latency,
            errors: BTreeMap::new(),
        }
    }

    #[tokio::test]
    async fn finds_the_rate_that_is_kept_up_with() {
        for limit in [120, 999, 5_000, 12_345] {
            let found = knee(100, async |rate| step(rate, limit)).await;
            let rate = found.offered_per_second;
            assert!(held(&found));
            assert!(
                rate * 100 >= limit * 90 && rate * 97 <= limit * 100,
                "{rate} of {limit}"
            );
        }
    }

    #[tokio::test]
    async fn one_stall_is_not_believed() {
        let mut stalls = vec![400, 800];
        let found = knee(100, async |rate| {
            let stalled = stalls.iter().position(|at| *at == rate);
            match stalled.map(|at| stalls.remove(at)) {
                Some(_) => step(rate, 1),
                None => step(rate, 1_000),
            }
        })
        .await;
        assert!(
            (900..=1_031).contains(&found.offered_per_second),
            "{found:?}"
        );
    }

    #[tokio::test]
    async fn a_first_rate_that_is_too_much_is_what_is_reported() {
        let found = knee(100, async |rate| step(rate, 10)).await;
        assert_eq!(found.offered_per_second, 100);
        assert!(!held(&found));
    }

    #[test]
    fn slow_is_not_kept_up() {
        let mut slow = step(100, 100);
        slow.latency.record_n(2_000_000, 5).unwrap();
        assert!(!held(&slow));
    }
}
