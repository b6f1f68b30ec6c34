//! When an event is tried again, and when it is parked: a pure function, so that three days of a dead
//! endpoint take a test no time (F34).

use std::time::Duration;

use crate::order::Timestamp;

/// How long an endpoint may put us off by `Retry-After`.
pub const RETRY_AFTER_MAX: Duration = Duration::from_hours(6);

/// Jitter is added, never taken away, so that the promised span stands: up to this part of a delay.
pub const JITTER_PERMILLE_MAX: u64 = 200;

/// The waits between the tries of one event: `n` waits are `n + 1` tries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(Vec<Duration>);

impl Schedule {
    /// The first try is made at once; each wait follows one failed try.
    pub const fn new(waits: Vec<Duration>) -> Self {
        Self(waits)
    }

    /// From the first try to the last, without jitter.
    pub fn span(&self) -> Duration {
        self.0.iter().sum()
    }

    /// What follows the failed try number `tries` (1 for the first). `put_off` is the endpoint's own
    /// `Retry-After`: it lengthens a wait up to [`RETRY_AFTER_MAX`] and never shortens one, else an
    /// endpoint that says "1 s" for an hour would use up three days of tries.
    pub fn after_failure(
        &self,
        tries: u16,
        put_off: Option<Duration>,
        jitter_permille: u64,
        now: Timestamp,
    ) -> Next {
        let Some(wait) = usize::from(tries)
            .checked_sub(1)
            .and_then(|index| self.0.get(index))
        else {
            return Next::Park;
        };
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let jitter_ms = (wait_ms / 1000).saturating_mul(jitter_permille.min(JITTER_PERMILLE_MAX));
        let put_off_ms = put_off.map_or(0, |put_off| {
            u64::try_from(put_off.min(RETRY_AFTER_MAX).as_millis()).unwrap_or(u64::MAX)
        });
        let wait_ms = wait_ms.saturating_add(jitter_ms).max(put_off_ms);
        Next::RetryAt(now.plus_ms(i64::try_from(wait_ms).unwrap_or(i64::MAX)))
    }
}

impl Default for Schedule {
    /// 13 tries within 75 hours and 42 minutes: dense while a deployment restarts, sparse for a
    /// weekend's outage.
    fn default() -> Self {
        Self(vec![
            Duration::from_secs(5),
            Duration::from_secs(30),
            Duration::from_mins(2),
            Duration::from_mins(10),
            Duration::from_mins(30),
            Duration::from_hours(1),
            Duration::from_hours(2),
            Duration::from_hours(4),
            Duration::from_hours(8),
            Duration::from_hours(12),
            Duration::from_hours(24),
            Duration::from_hours(24),
        ])
    }
}

/// What happens to an event after a failed try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    RetryAt(Timestamp),
    /// The list is used up: visible and resendable, never dropped (E2).
    Park,
}

/// Reads `Retry-After` (RFC 9110 §10.2.3): seconds, or a date. A date that is past puts off by
/// nothing; a value that is neither is none.
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::parse(value).ok()?;
    let ms = Timestamp::from_millis(date.timestamp().as_millisecond()).since(now);
    Some(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_795_168_800);

    /// Fails every try at once until the event is parked; gives the times of the tries.
    fn dead_endpoint(schedule: &Schedule, jitter: impl Fn(u16) -> u64) -> Vec<Timestamp> {
        let mut tries = vec![NOW];
        loop {
            let count = u16::try_from(tries.len()).unwrap();
            let last = *tries.last().unwrap();
            match schedule.after_failure(count, None, jitter(count), last) {
                Next::RetryAt(at) => tries.push(at),
                Next::Park => return tries,
            }
        }
    }

    #[test]
    fn a_dead_endpoint_is_tried_for_at_least_75_hours_and_then_parked() {
        let tries = dead_endpoint(&Schedule::default(), |_| 0);
        assert_eq!(tries.len(), 13);
        let span_ms = tries.last().unwrap().since(NOW);
        assert!(span_ms >= 75 * 3_600_000, "{span_ms}");
        assert_eq!(
            u128::try_from(span_ms).unwrap(),
            Schedule::default().span().as_millis()
        );
        assert_eq!(
            tries[1],
            NOW.plus_ms(5_000),
            "the first retry is soon: most outages are restarts"
        );
    }

    #[test]
    fn retry_after_lengthens_within_bounds_and_never_shortens() {
        let schedule = Schedule::new(vec![Duration::from_mins(1)]);
        let at = |seconds| {
            let put_off = Some(Duration::from_secs(seconds));
            schedule.after_failure(1, put_off, 0, NOW)
        };
        assert_eq!(at(1), Next::RetryAt(NOW.plus_ms(60_000)));
        assert_eq!(at(120), Next::RetryAt(NOW.plus_ms(120_000)));
        assert_eq!(at(u64::MAX), Next::RetryAt(NOW.plus_ms(6 * 3_600_000)));
        assert_eq!(schedule.after_failure(2, None, 0, NOW), Next::Park);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Timestamp::from_seconds(784_111_777);
        assert_eq!(retry_after("90", now), Some(Duration::from_secs(90)));
        assert_eq!(
            retry_after("Sun, 06 Nov 1994 08:50:37 GMT", now),
            Some(Duration::from_mins(1))
        );
        assert_eq!(
            retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now),
            Some(Duration::ZERO)
        );
        assert_eq!(retry_after("-5", now), None);
        assert_eq!(retry_after("soon", now), None);
    }

    proptest! {
        #[test]
        fn jitter_only_ever_adds_and_at_most_a_fifth(jitter: u64, tries in 1u16..=12) {
            let schedule = Schedule::default();
            let Next::RetryAt(plain) = schedule.after_failure(tries, None, 0, NOW) else {
                return Err(TestCaseError::fail("within the list"));
            };
            let Next::RetryAt(moved) = schedule.after_failure(tries, None, jitter, NOW) else {
                return Err(TestCaseError::fail("within the list"));
            };
            prop_assert!(moved >= plain);
            prop_assert!(moved.since(NOW) * 5 <= plain.since(NOW) * 6);
        }

        #[test]
        fn no_header_breaks_it(value: String) {
            let _ = retry_after(&value, NOW);
        }
    }
}
