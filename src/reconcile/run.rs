//! One run: fetch, compare, repair, store. It may end at any point and be run again: what it told the
//! orders stays told, and its result counts only once the last commit says so.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::{Span, ToSpan as _};
use tokio::time::Instant;

use super::matching::{self, Day, compare, not_among};
use super::metric;
use super::repair::Repairing;
use super::result::{Comparison, Heard, Tallies};
use crate::actors::{Orders, OrdersError};
use crate::clock::Clock;
use crate::faults::crash_point;
use crate::locks::{Acquired, Locks};
use crate::order::{AccountId, MerchantId, OrderId, Timestamp, Wallet};
use crate::provider::bill::{FlowLine, TradeLine};
use crate::provider::{Bill, BillError, BillKind, Provider, Providers, beijing};
use crate::random::Random;
use crate::store::reconciliation::{
    CaptureRow, ReconciliationWrite, Row, RowFilter, RowKind, Run, RunBy, RunState, Window,
};
use crate::store::{RefundRow, Store, StoreError, Transaction, Write};

use super::flows::{self, Difference};

/// How long a node keeps the account after it has died; a living one renews.
pub const LEASE: Duration = Duration::from_mins(1);
/// Rows read, or looked up, at a time.
const PAGE: usize = 2_000;
/// Rows written in one transaction: some 10 ms of the writer, for payments commit beside them.
const CHUNK: usize = 500;

/// What a reconciler works with.
#[derive(Clone, Debug)]
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub providers: Providers,
    pub orders: Orders,
    pub locks: Arc<dyn Locks>,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    /// Usually [`LEASE`].
    pub lease: Duration,
}

/// Compares bills with our books. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reconciler {
    pub(super) parts: Arc<Parts>,
}

/// Why there was no run, or no knowledge of how it ended.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error("no account {account}; configured are {known}")]
    UnknownAccount { account: AccountId, known: String },
    #[error("--date: found {date}, expected {expected}")]
    WrongDate { date: Date, expected: String },
    #[error("another run for this account is under way: try again when it has ended")]
    Busy,
    #[error("the locks do not answer, so whether a run is under way cannot be told: try again")]
    LocksUnknown,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store refused the run: {0}")]
    Refused(String),
}

impl ReconcileError {
    /// Is it worth trying again without changing anything?
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Busy | Self::LocksUnknown | Self::Store(_))
    }
}

/// Why a run stopped before its result; recorded with it.
#[derive(Debug)]
pub(super) struct Stopped {
    state: RunState,
    why: String,
}

impl Stopped {
    fn failed(why: impl std::fmt::Display) -> Self {
        Self {
            state: RunState::Failed,
            why: why.to_string(),
        }
    }
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        Self::failed(error)
    }
}

impl From<OrdersError> for Stopped {
    fn from(error: OrdersError) -> Self {
        Self::failed(format_args!(
            "what was missing could not be recorded: {error}"
        ))
    }
}

impl From<BillError> for Stopped {
    fn from(error: BillError) -> Self {
        match error {
            BillError::NotReady { .. } => Self {
                state: RunState::Waiting,
                why: error.to_string(),
            },
            _ => Self::failed(error),
        }
    }
}

impl Reconciler {
    pub fn new(parts: Parts) -> Self {
        Self {
            parts: Arc::new(parts),
        }
    }

    /// Compares one account's day, records what was missing here, and keeps the result in place of an
    /// earlier one. A run that waits for the bill or fails is recorded as such, and is no error.
    pub async fn run(
        &self,
        account: &AccountId,
        date: Date,
        by: RunBy,
    ) -> Result<Run, ReconcileError> {
        let parts = &*self.parts;
        let Some(provider) = parts.providers.get(account) else {
            let known: Vec<_> = parts
                .providers
                .iter()
                .map(|provider| provider.account().id.as_str())
                .collect();
            return Err(ReconcileError::UnknownAccount {
                account: account.clone(),
                known: known.join(", "),
            });
        };
        let wallet = provider.account().wallet;
        check_date(wallet, date, beijing::date_and_time(parts.clock.now()).0)?;
        let name = format!("job:reconcile:{account}");
        let holder = u128::from_be_bytes(parts.random.bytes());
        match parts.locks.acquire(&name, holder, parts.lease).await {
            Acquired::Mine => {}
            Acquired::Anothers => return Err(ReconcileError::Busy),
            Acquired::Unknown => return Err(ReconcileError::LocksUnknown),
        }
        let began = Instant::now();
        let outcome = tokio::select! {
            outcome = self.held(provider.as_ref(), date, by) => outcome,
            () = lost(parts, &name, holder) => Err(ReconcileError::Busy),
        };
        parts.locks.release(&name, holder).await;
        match &outcome {
            Ok(run) => {
                metric::ended(wallet, run, began.elapsed());
                tell(run);
            }
            Err(error) => tracing::error!(%account, %date, %error, "a reconciliation broke off"),
        }
        outcome
    }

    /// The account is ours for the time.
    async fn held(
        &self,
        provider: &dyn Provider,
        date: Date,
        by: RunBy,
    ) -> Result<Run, ReconcileError> {
        let parts = &*self.parts;
        let account = &provider.account().id;
        let runs = parts
            .store
            .reconciliation_runs(Some(account), date, date)
            .await?;
        let number = match runs.first() {
            Some(last) if last.state == RunState::Waiting => last.run,
            Some(last) => last.run.saturating_add(1),
            None => 1,
        };
        let mut run = Run {
            account: account.clone(),
            date,
            run: number,
            state: RunState::Running,
            by,
            started_at: parts.clock.now(),
            finished_at: None,
            tallies: Vec::new(),
            flows: None,
            why: None,
        };
        self.write(ReconciliationWrite::Started {
            account: account.clone(),
            date,
            run: number,
            by,
            at: run.started_at,
        })
        .await?;
        match self.compare(provider, &mut run).await {
            Ok(()) => run.state = RunState::Finished,
            Err(stopped) => {
                run.state = stopped.state;
                run.why = Some(stopped.why);
            }
        }
        run.finished_at = Some(parts.clock.now());
        self.write(ReconciliationWrite::Ended(Box::new(run.clone())))
            .await?;
        if run.state == RunState::Finished {
            self.clear(&run, &runs).await?;
        }
        Ok(run)
    }

    async fn compare(&self, provider: &dyn Provider, run: &mut Run) -> Result<(), Stopped> {
        let parts = &*self.parts;
        let Bill::Trades(lines) = provider.bill(BillKind::Trades, run.date).await? else {
            return Err(Stopped::failed("the provider answered with another bill"));
        };
        let comparison = self.matched(provider, run.date, lines).await?;
        let heard = Repairing {
            parts,
            account: provider.account(),
            date: run.date,
            comparison: &comparison,
        }
        .all()
        .await?;
        crash_point("c17");
        let heard: HashMap<usize, Heard> = heard.into_iter().collect();
        let (flows, differences) = match provider.bill(BillKind::Flows, run.date).await {
            Ok(Bill::Flows(flows)) => {
                let (sums, differences) = flows::compare(&comparison.lines, &flows);
                run.flows = Some(sums);
                (flows, differences)
            }
            Err(BillError::NotOffered) => Default::default(),
            Err(error @ BillError::NotReady { .. }) => return Err(error.into()),
            // The payments were compared all the same, and an account may not be allowed more.
            Ok(Bill::Trades(_)) => {
                run.why = Some("fund flows: the provider answered with another bill".to_owned());
                Default::default()
            }
            Err(error) => {
                run.why = Some(format!("fund flows: {error}"));
                Default::default()
            }
        };
        self.keep(run, &comparison, &heard, &flows, &differences)
            .await
    }

    /// Both sides of the day, compared.
    async fn matched(
        &self,
        provider: &dyn Provider,
        date: Date,
        lines: Vec<TradeLine>,
    ) -> Result<Comparison, Stopped> {
        let parts = &*self.parts;
        let account = &provider.account().id;
        let window = Window {
            from: beijing::midnight(date),
            until: beijing::midnight(date.saturating_add(1.day())),
        };
        // A payment at midnight may stand on either day's bill.
        let captures = window.widened(matching::PAYMENT_TOLERANCE_MS);
        let mut captures = captures_of(parts, account, captures).await?;
        let refunds = window.widened(matching::REFUND_TOLERANCE_MS);
        let mut refunds = refunds_of(parts, account, refunds).await?;
        let (transactions, numbers) = not_among(&lines, &captures, &refunds);
        for some in transactions.chunks(PAGE) {
            captures.extend(parts.store.captures_known(account, some.to_vec()).await?);
        }
        for some in numbers.chunks(PAGE) {
            refunds.extend(parts.store.refunds_known(account, some.to_vec()).await?);
        }
        let application = provider.account().application.clone();
        // A large bill takes a while, and others use this thread.
        let work = tokio::task::spawn_blocking(move || {
            let day = Day {
                window,
                application: &application,
            };
            let compared = compare(&day, &lines, &captures, &refunds);
            let comparison = Comparison {
                lines,
                captures,
                refunds,
                findings: compared.findings,
            };
            (comparison, compared.perhaps_earlier)
        });
        let (mut comparison, perhaps_earlier) = work.await.map_err(Stopped::failed)?;
        let key = |kind, index: usize| -> Box<str> {
            match kind {
                RowKind::Payment => comparison.captures[index].transaction_id.clone(),
                _ => comparison.refunds[index].number.as_str().into(),
            }
        };
        let mut of_this_day = Vec::new();
        for some in perhaps_earlier.chunks(PAGE) {
            let keys: Vec<_> = some
                .iter()
                .map(|(kind, index)| key(*kind, *index))
                .collect();
            let found = parts
                .store
                .reconciled_elsewhere(account, date, keys)
                .await?;
            let found: HashSet<Box<str>> = found.into_iter().collect();
            of_this_day.extend(
                some.iter()
                    .filter(|(kind, index)| !found.contains(&key(*kind, *index)))
                    .map(|(kind, index)| matching::only_here(*kind, *index)),
            );
        }
        comparison.findings.extend(of_this_day);
        Ok(comparison)
    }

    /// Writes the rows, some at a time, and counts them.
    async fn keep(
        &self,
        run: &mut Run,
        comparison: &Comparison,
        heard: &HashMap<usize, Heard>,
        flows: &[FlowLine],
        differences: &[Difference],
    ) -> Result<(), Stopped> {
        let mut tallies = Tallies::default();
        let mut number = 0_u32;
        let mut chunk: Vec<Row> = Vec::with_capacity(CHUNK);
        let wanted: HashSet<usize> = differences
            .iter()
            .filter_map(|difference| difference.line.map(|(line, _)| line))
            .collect();
        let mut whose: BTreeMap<usize, (OrderId, MerchantId)> = BTreeMap::new();
        for (index, finding) in comparison.findings.iter().enumerate() {
            number = number.saturating_add(1);
            let row = comparison.row(number, finding, heard.get(&index));
            if let (Some(line), Some(order), Some(merchant)) =
                (finding.line, row.order, row.merchant)
                && wanted.contains(&line)
            {
                whose.insert(line, (order, merchant));
            }
            tallies.count(&row);
            chunk.push(row);
            if chunk.len() == CHUNK {
                self.write_rows(run, std::mem::take(&mut chunk)).await?;
            }
        }
        for difference in differences {
            number = number.saturating_add(1);
            let row = comparison.flow_row(number, difference, flows, &whose);
            tallies.count(&row);
            chunk.push(row);
            if chunk.len() == CHUNK {
                self.write_rows(run, std::mem::take(&mut chunk)).await?;
            }
        }
        if !chunk.is_empty() {
            self.write_rows(run, chunk).await?;
        }
        run.tallies = tallies.into_lines();
        Ok(())
    }

    async fn write_rows(&self, run: &Run, rows: Vec<Row>) -> Result<(), Stopped> {
        let write = ReconciliationWrite::Rows {
            account: run.account.clone(),
            date: run.date,
            run: run.run,
            rows,
        };
        self.write(write).await.map_err(Stopped::failed)
    }

    /// Deletes the rows of earlier runs, in bites.
    async fn clear(&self, result: &Run, earlier: &[Run]) -> Result<(), ReconcileError> {
        for run in earlier.iter().filter(|run| run.run != result.run) {
            loop {
                let filter = RowFilter {
                    account: run.account.clone(),
                    date: run.date,
                    run: run.run,
                    merchant: None,
                    verdict: None,
                    after: 0,
                    limit: 1,
                };
                if self
                    .parts
                    .store
                    .reconciliation_rows(&filter)
                    .await?
                    .is_empty()
                {
                    break;
                }
                self.write(ReconciliationWrite::Cleared {
                    account: run.account.clone(),
                    date: run.date,
                    run: run.run,
                    most: CHUNK,
                })
                .await?;
            }
        }
        Ok(())
    }

    async fn write(&self, write: ReconciliationWrite) -> Result<(), ReconcileError> {
        let transaction = Transaction {
            order: None,
            writes: vec![Write::Reconciliation(write)],
        };
        for outcome in self.parts.store.commit(vec![transaction]).await? {
            outcome.map_err(|rejection| ReconcileError::Refused(rejection.to_string()))?;
        }
        Ok(())
    }
}

async fn captures_of(
    parts: &Parts,
    account: &AccountId,
    window: Window,
) -> Result<Vec<CaptureRow>, StoreError> {
    let mut all: Vec<CaptureRow> = Vec::new();
    loop {
        let after = all
            .last()
            .map(|row| (row.succeeded_at, row.transaction_id.clone()));
        let page = parts
            .store
            .captures_between(account, window, after, PAGE)
            .await?;
        let is_last = page.len() < PAGE;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}

async fn refunds_of(
    parts: &Parts,
    account: &AccountId,
    window: Window,
) -> Result<Vec<RefundRow>, StoreError> {
    let mut all: Vec<RefundRow> = Vec::new();
    loop {
        let after = all.last().and_then(|row| {
            let number: Box<str> = row.number.as_str().into();
            row.ended_at.map(|ended_at| (ended_at, number))
        });
        let page = parts
            .store
            .refunds_between(account, window, after, PAGE)
            .await?;
        let is_last = page.len() < PAGE;
        all.extend(page);
        if is_last {
            return Ok(all);
        }
    }
}

/// Renews the lease; returns when another has it. A lock that does not answer takes nothing away: the
/// store decides what counts.
async fn lost(parts: &Parts, name: &str, holder: u128) {
    loop {
        tokio::time::sleep(parts.lease / 3).await;
        if parts.locks.acquire(name, holder, parts.lease).await == Acquired::Anothers {
            return;
        }
    }
}

/// Is there, or will there be, a bill of this day?
fn check_date(wallet: Wallet, date: Date, today: Date) -> Result<(), ReconcileError> {
    let (ready, kept, kept_words): (&str, Span, &str) = match wallet {
        Wallet::Wechat => ("10:00", 3.months(), "three months"),
        Wallet::Alipay => ("09:00", 6.years(), "six years"),
    };
    let expected = if date >= today {
        format!(
            "a day that is over: its bill is made by {ready} Beijing time of the day after, and today is {today} there"
        )
    } else if date < today.saturating_sub(kept) {
        format!(
            "a day of the last {kept_words}: older bills are to be had on the provider's own pages only"
        )
    } else {
        return Ok(());
    };
    Err(ReconcileError::WrongDate { date, expected })
}

fn tell(run: &Run) {
    let (account, date, number) = (&run.account, run.date, run.run);
    let total = run.total();
    match run.state {
        RunState::Finished if total.differences() > 0 => tracing::warn!(
            %account, %date, run = number, matched = total.matched, only_here = total.only_here,
            only_there = total.only_there, different = total.different, repaired = total.repaired,
            "a bill and our books differ: a person must look"
        ),
        RunState::Finished => tracing::info!(
            %account, %date, run = number, matched = total.matched, repaired = total.repaired,
            "a bill and our books agree"
        ),
        RunState::Waiting => tracing::info!(%account, %date, "the bill is not made yet"),
        RunState::Failed | RunState::Running => tracing::error!(
            %account, %date, why = run.why.as_deref().unwrap_or_default(),
            "a reconciliation failed"
        ),
    }
}

/// Seconds since the epoch of a run's end.
pub(super) fn ended_at(run: &Run) -> Timestamp {
    run.finished_at.unwrap_or(run.started_at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_without_a_bill_are_refused_with_what_to_do() {
        let today = Date::constant(2026, 11, 20);
        let check = |wallet, date: &str| check_date(wallet, date.parse().unwrap(), today);
        for (wallet, date) in [
            (Wallet::Wechat, "2026-11-19"),
            (Wallet::Wechat, "2026-08-20"),
            (Wallet::Alipay, "2020-11-20"),
        ] {
            assert!(check(wallet, date).is_ok(), "{date}");
        }
        for (wallet, date, words) in [
            (Wallet::Wechat, "2026-11-20", "10:00"),
            (Wallet::Alipay, "2026-11-21", "09:00"),
            (Wallet::Wechat, "2026-08-19", "three months"),
            (Wallet::Alipay, "2020-11-19", "six years"),
        ] {
            let refused = check(wallet, date).unwrap_err().to_string();
            assert!(
                refused.contains(date) && refused.contains(words),
                "{refused}"
            );
        }
    }
}
