//! How fast one account is asked, by kind of call: a number a second, and fewer after the provider has
//! said that they were too many, until it has not said so for a while.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use super::options::Budget;
use crate::provider::Outcome;

/// What a provider is asked for; each kind has a budget of its own there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Order,
    Query,
    Close,
    Refund,
    RefundQuery,
}

impl Kind {
    pub(super) const ALL: [Self; 5] = [
        Self::Order,
        Self::Query,
        Self::Close,
        Self::Refund,
        Self::RefundQuery,
    ];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::Query => "query",
            Self::Close => "close",
            Self::Refund => "refund",
            Self::RefundQuery => "refund_query",
        }
    }

    /// Calls of this kind a second.
    pub(super) const fn of(self, budget: &Budget) -> u32 {
        match self {
            Self::Order => budget.orders,
            Self::Query => budget.queries,
            Self::Close => budget.closes,
            Self::Refund => budget.refunds,
            Self::RefundQuery => budget.refund_queries,
        }
    }
}

/// The first and the longest pause after a 429.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// So long after a 429 the pace is doubled again, and again, up to the budget.
const TRY_MORE_AFTER: Duration = Duration::from_secs(20);
/// This share of a second's calls may go at once, so that a timer's grain costs no call.
const BURST_PART: u32 = 20;

/// Time for the limiters: tokio's, which tests can pause.
#[derive(Clone, Debug)]
struct Ticks(Instant);

impl Clock for Ticks {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Never more than a number of calls in any one second.
#[derive(Debug)]
struct Rate {
    clock: Ticks,
    limiter: RateLimiter<NotKeyed, InMemoryState, Ticks, NoOpMiddleware<Duration>>,
}

impl Rate {
    fn of(per_second: u32) -> Self {
        let per_second = per_second.max(1);
        let burst = (per_second / BURST_PART).max(1);
        // In one second a full burst goes out and is earned again but for one call.
        let steady = u64::from(per_second - burst + 1);
        let every = Duration::from_nanos(1_000_000_000_u64.div_ceil(steady));
        let quota = Quota::with_period(every)
            .unwrap_or_else(|| Quota::per_second(NonZeroU32::MIN))
            .allow_burst(NonZeroU32::new(burst).unwrap_or(NonZeroU32::MIN));
        let clock = Ticks(Instant::now());
        Self {
            limiter: RateLimiter::direct_with_clock(quota, clock.clone()),
            clock,
        }
    }

    /// Takes one call out of the budget, or says when there will be one.
    fn take(&self) -> Result<(), Instant> {
        self.limiter
            .check()
            .map_err(|early| Instant::now() + early.wait_time_from(self.clock.now()))
    }
}

/// The pace of one kind of call.
#[derive(Debug)]
pub(super) struct Pace {
    /// Calls a second of the account, those of them that are this node's, and those that the provider
    /// lets us make of late.
    whole: u32,
    budget: u32,
    granted: u32,
    rate: Rate,
    more_at: Instant,
    /// What is granted while the calls fail, where that is less.
    failing: Option<Rate>,
    fails: bool,
    paused_until: Option<Instant>,
    pause: Duration,
}

impl Pace {
    pub(super) fn new(kind: Kind, budget: &Budget) -> Self {
        let per_second = kind.of(budget);
        let failing = (kind == Kind::Refund).then_some(budget.failing_refunds);
        Self {
            whole: per_second,
            budget: per_second,
            granted: per_second,
            rate: Rate::of(per_second),
            more_at: Instant::now(),
            failing: failing.map(Rate::of),
            fails: false,
            paused_until: None,
            pause: FIRST_PAUSE,
        }
    }

    /// Takes one call out of the budget, or says when there may be one.
    pub(super) fn take(&mut self) -> Result<(), Instant> {
        if let Some(until) = self.paused_until {
            if Instant::now() < until {
                return Err(until);
            }
            self.paused_until = None;
        }
        if self.granted < self.budget && Instant::now() >= self.more_at {
            self.grant(self.granted.saturating_mul(2).min(self.budget));
        }
        if let Some(failing) = self.failing.as_ref().filter(|_| self.fails) {
            failing.take()?;
        }
        self.rate.take()
    }

    /// So many nodes ask the same account: each has its part.
    pub(super) fn share(&mut self, nodes: u32) {
        let part = (self.whole / nodes.max(1)).max(1);
        // At the full pace before, at the full pace after; slowed by the provider, it stays so.
        if self.granted == self.budget || self.granted > part {
            self.grant(part);
        }
        self.budget = part;
    }

    fn grant(&mut self, per_second: u32) {
        self.granted = per_second.max(1);
        self.rate = Rate::of(self.granted);
        self.more_at = Instant::now() + TRY_MORE_AFTER;
    }

    /// Learns from what became of a call. `spread`: up to a quarter of a pause, so that nodes do not
    /// come back together.
    pub(super) fn came_to(&mut self, outcome: Outcome, spread: impl FnOnce(Duration) -> Duration) {
        self.fails = outcome != Outcome::Ok;
        match outcome {
            // Calls that were under way beside it say the same, and pause no longer.
            Outcome::Limited if self.paused_until.is_none() => {
                let pause = self.pause + spread(self.pause / 4);
                self.paused_until = Some(Instant::now() + pause);
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                self.grant(self.granted / 2);
            }
            Outcome::Ok | Outcome::Refused => self.pause = FIRST_PAUSE,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The instants at which calls leave that are made as fast as the pace lets them.
    async fn run(pace: &mut Pace, calls: usize) -> Vec<Duration> {
        let start = Instant::now();
        let mut left = Vec::new();
        while left.len() < calls {
            match pace.take() {
                Ok(()) => left.push(start.elapsed()),
                Err(until) => tokio::time::sleep_until(until).await,
            }
        }
        left
    }

    fn most_in_a_second(left: &[Duration]) -> usize {
        (0..left.len())
            .map(|first| {
                let end = left[first] + Duration::from_secs(1);
                left[first..].iter().take_while(|at| **at < end).count()
            })
            .max()
            .unwrap_or(0)
    }

    #[tokio::test(start_paused = true)]
    async fn no_second_has_more_calls_than_the_budget_and_few_have_less() {
        for per_second in [1, 3, 19, 20, 40, 150, 450] {
            let budget = Budget {
                queries: per_second,
                ..Budget::default()
            };
            let calls = 10 * per_second as usize;
            let left = run(&mut Pace::new(Kind::Query, &budget), calls).await;
            assert!(
                most_in_a_second(&left) <= per_second as usize,
                "{per_second}"
            );
            let took = left.last().unwrap().as_millis();
            assert!(took < 11_000, "{per_second}: {took} ms for 10 s' worth");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_halves_the_pace_and_quiet_brings_it_back() {
        let budget = Budget {
            queries: 100,
            ..Budget::default()
        };
        let mut pace = Pace::new(Kind::Query, &budget);
        pace.came_to(Outcome::Limited, |_| Duration::ZERO);
        tokio::time::sleep(FIRST_PAUSE).await;
        assert!(most_in_a_second(&run(&mut pace, 200).await) <= 50);
        tokio::time::sleep(TRY_MORE_AFTER).await;
        assert!(most_in_a_second(&run(&mut pace, 400).await) > 90);
    }

    #[tokio::test(start_paused = true)]
    async fn nodes_together_stay_within_the_accounts_budget() {
        let budget = Budget {
            queries: 100,
            ..Budget::default()
        };
        let mut pace = Pace::new(Kind::Query, &budget);
        pace.share(4);
        assert!(most_in_a_second(&run(&mut pace, 100).await) <= 25);
        pace.share(1);
        let alone = most_in_a_second(&run(&mut pace, 400).await);
        assert!((90..=100).contains(&alone), "{alone}");
        pace.came_to(Outcome::Limited, |_| Duration::ZERO);
        pace.share(2);
        tokio::time::sleep(FIRST_PAUSE).await;
        assert!(most_in_a_second(&run(&mut pace, 100).await) <= 50);
    }

    #[tokio::test(start_paused = true)]
    async fn refunds_that_fail_are_slower_until_one_succeeds() {
        let budget = Budget {
            refunds: 150,
            failing_refunds: 5,
            ..Budget::default()
        };
        let mut pace = Pace::new(Kind::Refund, &budget);
        let quarter = |_| Duration::ZERO;
        pace.came_to(Outcome::Refused, quarter);
        assert!(most_in_a_second(&run(&mut pace, 20).await) <= 5);
        pace.came_to(Outcome::Ok, quarter);
        assert!(most_in_a_second(&run(&mut pace, 300).await) > 100);
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_is_answered_with_a_pause_that_grows_and_ends() {
        let mut pace = Pace::new(Kind::Close, &Budget::default());
        for seconds in [1, 2, 4, 8, 8] {
            pace.came_to(Outcome::Limited, |_| Duration::ZERO);
            pace.came_to(Outcome::Limited, |_| Duration::ZERO);
            let wait = pace.take().unwrap_err() - Instant::now();
            assert_eq!(wait, Duration::from_secs(seconds));
            tokio::time::sleep(wait).await;
            pace.take().unwrap();
        }
        pace.came_to(Outcome::Ok, |_| Duration::ZERO);
        pace.came_to(Outcome::Limited, |_| Duration::ZERO);
        let wait = pace.take().unwrap_err() - Instant::now();
        assert_eq!(wait, FIRST_PAUSE);
    }
}
