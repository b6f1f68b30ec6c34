//! Every morning's run, and those that were missed: by a node that was down, or a bill that came late.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::ToSpan as _;
use jiff::civil::{Date, Time};
use tokio_util::sync::CancellationToken;

use super::metric;
use super::run::{Reconciler, ended_at};
use crate::order::{AccountId, Timestamp};
use crate::provider::beijing;
use crate::store::StoreError;
use crate::store::reconciliation::{Run, RunBy, RunState};

/// How many days back a missing result is looked for.
const DAYS: i64 = 7;
/// Every day's result should be there by then.
const OVERDUE_AT: Time = Time::constant(14, 0, 0, 0);
/// A day that waits or failed is tried again after this.
const AGAIN_MS: i64 = 30 * 60_000;
/// Accounts begin up to so long after the hour: not all of a provider's customers at once.
const SPREAD_MS: u64 = 10 * 60_000;
/// How often it is looked what is due; the first time, after a node has settled in.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// When it runs.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Beijing's time of day, from which yesterday's bill is asked for.
    pub at: Time,
}

/// The job.
#[derive(Debug)]
pub struct Nightly {
    reconciler: Reconciler,
    schedule: Schedule,
    /// By how much each account begins later.
    delays: BTreeMap<AccountId, i64>,
}

impl Nightly {
    pub fn new(reconciler: Reconciler, schedule: Schedule) -> Self {
        let parts = &reconciler.parts;
        let delays = parts
            .providers
            .iter()
            .map(|provider| {
                let delay = i64::try_from(parts.random.below(SPREAD_MS)).unwrap_or_default();
                (provider.account().id.clone(), delay)
            })
            .collect();
        Self {
            reconciler,
            schedule,
            delays,
        }
    }

    /// Looks until it is stopped.
    pub async fn watch(self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                looked = self.look() => if let Err(error) = looked {
                    tracing::warn!(%error, "what is to be reconciled could not be told");
                },
            }
        }
    }

    /// Runs everything that is due, one after the other, the oldest day first.
    pub async fn look(&self) -> Result<(), StoreError> {
        for (account, date) in self.due().await? {
            // Run by another node, by an operator: both are fine, and the next look knows.
            let _ = self.reconciler.run(&account, date, RunBy::Schedule).await;
        }
        self.gauge().await
    }

    /// What has no result and may have one.
    pub async fn due(&self) -> Result<Vec<(AccountId, Date)>, StoreError> {
        let now = self.reconciler.parts.clock.now();
        let (today, _) = beijing::date_and_time(now);
        let yesterday = today.saturating_sub(1.day());
        let begins = today
            .to_datetime(self.schedule.at)
            .duration_since(today.to_datetime(Time::midnight()));
        let begins =
            beijing::midnight(today).plus_ms(i64::try_from(begins.as_millis()).unwrap_or_default());
        let runs = self.runs(today).await?;
        let mut due = Vec::new();
        for date in days_before(today) {
            for (account, delay) in &self.delays {
                let of_day = runs.get(&(account.clone(), date));
                let is_early = date == yesterday && now < begins.plus_ms(*delay);
                if !is_early && of_day.is_none_or(|runs| may_run(runs, now)) {
                    due.push((account.clone(), date));
                }
            }
        }
        Ok(due)
    }

    async fn gauge(&self) -> Result<(), StoreError> {
        let now = self.reconciler.parts.clock.now();
        let (today, time) = beijing::date_and_time(now);
        let yesterday = today.saturating_sub(1.day());
        let runs = self.runs(today).await?;
        let (mut differences, mut overdue) = (0, 0);
        let mut last_success = None;
        for date in days_before(today) {
            for account in self.delays.keys() {
                let result = runs
                    .get(&(account.clone(), date))
                    .and_then(|runs| runs.iter().find(|run| run.state == RunState::Finished));
                match result {
                    Some(run) => {
                        differences += run.total().differences();
                        last_success = last_success.max(Some(ended_at(run)));
                    }
                    None => overdue += u64::from(date < yesterday || time >= OVERDUE_AT),
                }
            }
        }
        metric::differences(differences);
        metric::overdue(overdue);
        if let Some(at) = last_success {
            metric::last_success(at.as_seconds());
        }
        Ok(())
    }

    /// Runs of the last days, the latest first.
    async fn runs(&self, today: Date) -> Result<BTreeMap<(AccountId, Date), Vec<Run>>, StoreError> {
        let store = &self.reconciler.parts.store;
        let from = today.saturating_sub(DAYS.days());
        let mut by_day: BTreeMap<_, Vec<Run>> = BTreeMap::new();
        for run in store.reconciliation_runs(None, from, today).await? {
            let day = by_day.entry((run.account.clone(), run.date));
            day.or_default().push(run);
        }
        Ok(by_day)
    }
}

/// The oldest first: a payment at midnight may stand on the bill of the day before.
fn days_before(today: Date) -> impl Iterator<Item = Date> {
    (1..=DAYS)
        .rev()
        .map(move |days| today.saturating_sub(days.days()))
}

fn may_run(runs: &[Run], now: Timestamp) -> bool {
    let has_result = runs.iter().any(|run| run.state == RunState::Finished);
    let last = runs.first().map(|run| run.started_at);
    !has_result && last.is_none_or(|last| now.since(last) >= AGAIN_MS)
}
