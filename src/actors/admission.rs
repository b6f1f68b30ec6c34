//! Who is let in when much is under way: new orders are refused first, then merchants' commands,
//! then payers'; facts have a reserve of their own, for money that has moved is always taken in.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Request;
use crate::order::Command;
use crate::store::Actor;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Create,
    /// A time that came: the sweep repeats it.
    Tick,
    Merchant,
    Payer,
    /// What a provider says happened.
    Fact,
}

impl Class {
    pub(super) const fn of(request: &Request) -> Self {
        match (&request.command, request.actor) {
            (
                Command::Capture(_)
                | Command::TradeAnswer { .. }
                | Command::QueryAnswer { .. }
                | Command::CloseAnswer { .. }
                | Command::RefundAnswer { .. },
                _,
            )
            | (_, Actor::Provider) => Self::Fact,
            (Command::Tick, _) => Self::Tick,
            (_, Actor::Merchant) => Self::Merchant,
            _ => Self::Payer,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Tick => "tick",
            Self::Merchant => "merchant",
            Self::Payer => "payer",
            Self::Fact => "fact",
        }
    }

    /// Eighths of the limit.
    const fn share(self) -> usize {
        match self {
            // Whatever is late may be later; the rest is for those who wait.
            Self::Tick => 4,
            Self::Create => 6,
            Self::Merchant => 7,
            Self::Payer => 8,
            Self::Fact => 16,
        }
    }
}

/// The commands under way on one thread.
#[derive(Debug)]
pub(super) struct Admission {
    limit: usize,
    under_way: AtomicUsize,
    tracker: TaskTracker,
}

impl Admission {
    pub(super) fn new(limit: usize, tracker: TaskTracker) -> Arc<Self> {
        Arc::new(Self {
            limit,
            under_way: AtomicUsize::new(0),
            tracker,
        })
    }

    /// `None`, and counted, where too much is under way for this class.
    pub(super) fn admit(self: &Arc<Self>, class: Class) -> Option<Permit> {
        let before = self.under_way.fetch_add(1, Ordering::Relaxed);
        let permit = Permit {
            admission: Arc::clone(self),
            _tracked: self.tracker.token(),
        };
        if before >= (self.limit * class.share() / 8).max(1) {
            refused(class);
            return None;
        }
        Some(permit)
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::Relaxed)
    }

    /// All that can be under way: what the committer's queue has room for.
    pub(super) const fn most(limit: usize) -> usize {
        limit * 2 + 1
    }
}

pub(super) fn refused(class: Class) {
    metrics::counter!("enrollpay_mailbox_rejected_total", "kind" => class.as_str()).increment(1);
}

/// One command under way; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    admission: Arc<Admission>,
    _tracked: TaskTrackerToken,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.admission.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn creates_are_refused_first_and_facts_last() {
        let admission = Admission::new(8, TaskTracker::new());
        let admit_all = |class| std::iter::from_fn(|| admission.admit(class)).collect::<Vec<_>>();
        let creates = admit_all(Class::Create);
        assert_eq!(creates.len(), 6);
        let merchants = admit_all(Class::Merchant);
        assert_eq!(merchants.len(), 1);
        let payers = admit_all(Class::Payer);
        assert_eq!(payers.len(), 1);
        assert!(admission.admit(Class::Create).is_none());
        let facts = admit_all(Class::Fact);
        assert_eq!(facts.len(), 8);
        drop((creates, merchants, payers, facts));
        assert_eq!(admission.under_way(), 0);
        assert!(admission.admit(Class::Create).is_some());
    }
}
