//! Forgetting people: of orders that have been over for as long as the configuration says, every day,
//! and of single orders when somebody asks. The ledger, the timeline and the order itself stay.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use serde::Serialize;

use super::{alone, only};
use crate::clock::Clock;
use crate::locks::{Acquired, Locks};
use crate::order::invariants::at_rest;
use crate::order::{BillId, OrderId, Timestamp};
use crate::random::Random;
use crate::store::personal::PersonalStore;
use crate::store::{Rejection, StoreError, Write};

/// The lock under which one node of a cluster does the daily work.
pub const LOCK: &str = "job:erase";
/// Longer than a bite ever takes.
const LEASE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);
const DAY_MS: i64 = 86_400_000;
/// Orders looked at, or notices erased, before the lock is renewed.
const BITE: usize = 100;

/// The job.
#[derive(Clone, Debug)]
pub struct Erase {
    store: Arc<dyn PersonalStore>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

/// What became of one order's people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Erased,
    /// They were erased before.
    NothingLeft,
    NoSuchOrder,
    /// It can still be paid.
    NotOver,
    /// Something of it is under way: a late attempt, a refund, odd money that waits for people.
    NotAtRest,
    /// An event of it is on its way to the merchant.
    EventPending,
    /// Too soon after the last thing that happened to it.
    TooRecent,
    /// It moved on meanwhile.
    Moved,
}

/// What a whole run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub orders: u64,
    /// Bills that nobody ever paid.
    pub bills: u64,
    pub evidence: u64,
    /// Old orders and bills that must keep their people for now.
    pub kept: u64,
}

impl Erase {
    pub fn new(
        store: Arc<dyn PersonalStore>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self {
            store,
            clock,
            random,
        }
    }

    /// Erases the people of one order, if nothing happened to it since `unchanged_since` and nothing
    /// is going on. One transaction.
    pub async fn order(
        &self,
        id: OrderId,
        unchanged_since: Timestamp,
    ) -> Result<Outcome, StoreError> {
        let stored = self.store.order(id).await?;
        let people = self.store.people_of(id).await?;
        let Some((stored, people)) = stored.zip(people) else {
            return Ok(Outcome::NoSuchOrder);
        };
        let order = &stored.order;
        if !people.any {
            return Ok(Outcome::NothingLeft);
        }
        if order.is_open() {
            return Ok(Outcome::NotOver);
        }
        if !at_rest(order) || people.evidence_waits {
            return Ok(Outcome::NotAtRest);
        }
        if people.event_pending {
            return Ok(Outcome::EventPending);
        }
        if people.changed_at > unchanged_since {
            return Ok(Outcome::TooRecent);
        }
        let erasure = Write::PeopleErased {
            order: id,
            version: order.version,
            payer_index: u128::from_be_bytes(self.random.bytes()),
            at: self.clock.now(),
        };
        match only(self.store.commit(vec![alone(vec![erasure])]).await?)? {
            Ok(()) => {
                counter!("enrollpay_orders_erased_total").increment(1);
                tracing::info!(order = %id, "the people of an order were erased");
                Ok(Outcome::Erased)
            }
            Err(Rejection::VersionMoved) => Ok(Outcome::Moved),
            Err(rejection) => Err(StoreError::Unavailable {
                why: rejection.to_string(),
            }),
        }
    }

    /// Erases the payer of a bill that was never paid; nobody can pay it from then on. The bills of a
    /// paid order lose theirs with it.
    pub async fn bill(&self, id: BillId) -> Result<Outcome, StoreError> {
        let erasure = Write::BillErased {
            bill: id,
            payer_index: u128::from_be_bytes(self.random.bytes()),
            at: self.clock.now(),
        };
        match only(self.store.commit(vec![alone(vec![erasure])]).await?)? {
            Ok(()) => {
                counter!("enrollpay_bills_erased_total").increment(1);
                tracing::info!(bill = %id, "the payer of a bill was erased");
                Ok(Outcome::Erased)
            }
            Err(Rejection::BillTaken { .. }) => Ok(Outcome::Moved),
            Err(rejection) => Err(StoreError::Unavailable {
                why: rejection.to_string(),
            }),
        }
    }

    /// Everything that has been over since `before`. `go_on` is asked between bites.
    pub async fn older_than(
        &self,
        before: Timestamp,
        go_on: impl AsyncFn() -> bool,
    ) -> Result<Sum, StoreError> {
        let mut sum = Sum::default();
        let mut after = None;
        while go_on().await {
            let orders = self.store.orders_with_people(after, before, BITE).await?;
            let Some(last) = orders.last() else {
                break;
            };
            after = Some(*last);
            for order in orders {
                match self.order(order, before).await? {
                    Outcome::Erased => sum.orders += 1,
                    _ => sum.kept += 1,
                }
            }
        }
        let mut after = None;
        while go_on().await {
            let bills = self.store.bills_with_people(after, before, BITE).await?;
            let Some(last) = bills.last() else {
                break;
            };
            after = Some(*last);
            for bill in bills {
                match self.bill(bill).await? {
                    Outcome::Erased => sum.bills += 1,
                    _ => sum.kept += 1,
                }
            }
        }
        while go_on().await {
            let notices = self.store.loose_evidence(before, BITE).await?;
            if notices.is_empty() {
                break;
            }
            sum.evidence += notices.len() as u64;
            let erasures = notices
                .into_iter()
                .map(|(account, reference)| {
                    alone(vec![Write::EvidenceErased { account, reference }])
                })
                .collect();
            for verdict in self.store.commit(erasures).await? {
                verdict.map_err(|rejection| StoreError::Unavailable {
                    why: rejection.to_string(),
                })?;
            }
        }
        Ok(sum)
    }

    /// Once a day, on one node: what has been over for `days`. Runs until it is dropped.
    pub async fn daily(self, days: u32, locks: Arc<dyn Locks>) {
        let holder = u128::from_be_bytes(self.random.bytes());
        loop {
            let before = self.clock.now().minus_ms(i64::from(days) * DAY_MS);
            let mine = async || locks.acquire(LOCK, holder, LEASE).await == Acquired::Mine;
            match self.older_than(before, mine).await {
                Ok(Sum {
                    orders,
                    bills,
                    evidence,
                    kept,
                }) => tracing::info!(
                    orders,
                    bills,
                    evidence,
                    kept,
                    days,
                    "old personal data was erased"
                ),
                Err(error) => tracing::warn!(%error, "old personal data could not be erased"),
            }
            locks.release(LOCK, holder).await;
            tokio::time::sleep(DAY).await;
        }
    }
}
