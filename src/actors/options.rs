//! What the shards are started with.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::ownership::Ownership;
use super::peers::Peers;
use crate::clock::Clock;
use crate::order::{AccountId, EventId, RefundId, Timestamp, WebhookType};
use crate::provider::Providers;
use crate::random::Random;
use crate::sealing::Sealer;
use crate::store::{PersonalData, Store, StoredOrder};

/// Sizes and times. The defaults suit one node.
#[derive(Clone, Debug)]
pub struct Options {
    /// Virtual shards; fixed when the store is made.
    pub shards: u16,
    /// Arbiter threads that host them, and one more for provider calls. 0: all of it runs on the
    /// caller's arbiter.
    pub threads: usize,
    /// Messages that wait for one order; more are refused, but for facts.
    pub mailbox: usize,
    /// Commands under way per thread before those of payers are refused; merchants' are earlier,
    /// new orders first, and facts have as much again for themselves.
    pub queue: usize,
    /// Orders in memory. A fact is taken in beyond it.
    pub live_orders: usize,
    /// Transactions in one flush, at most.
    pub group: usize,
    /// Flushes of one thread under way at a time.
    pub flushes: usize,
    /// How much each account is asked; one without a line here has [`Budget::default`].
    pub budgets: HashMap<AccountId, Budget>,
    /// Calls that wait or are under way, of all accounts; more are dropped, and are due again, unless
    /// somebody waits for them.
    pub calls_waiting: usize,
    /// After this, waiting for its turn included, a provider call is given up: its answer is unknown.
    /// At most 25 s: the heart takes an order call for over after 30.
    pub call_timeout_ms: u64,
    /// An order with nothing going on leaves memory after this.
    pub idle_ms: u64,
    /// How often the store is asked for what is due.
    pub sweep_ms: u64,
    /// Due orders per question.
    pub sweep_page: usize,
    /// Due orders that are woken at a time.
    pub sweep_wakes: usize,
    /// Where providers and payers reach us, without a slash at its end.
    pub public_url: String,
    /// The pairs that this instance writes under.
    pub ownership: Ownership,
    /// The other nodes, where there may be any.
    pub peers: Option<Arc<dyn Peers>>,
    /// How often the versions of watched orders are read where others may write them.
    pub reread_ms: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            shards: 64,
            threads: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            mailbox: 16,
            queue: 2_048,
            live_orders: 1_000_000,
            group: 512,
            flushes: 1,
            budgets: HashMap::new(),
            calls_waiting: 8_192,
            call_timeout_ms: 25_000,
            idle_ms: 30_000,
            sweep_ms: 1_000,
            sweep_page: 2_048,
            sweep_wakes: 256,
            public_url: String::new(),
            ownership: Ownership::default(),
            peers: None,
            reread_ms: 1_000,
        }
    }
}

/// Calls of one account: how many a second by kind, and how many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    pub orders: u32,
    pub queries: u32,
    pub closes: u32,
    pub refunds: u32,
    /// Refunds a second while they fail.
    pub failing_refunds: u32,
    pub refund_queries: u32,
    /// A quarter of them is kept for what somebody waits for.
    pub at_once: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            orders: 450,
            queries: 400,
            closes: 200,
            refunds: 120,
            failing_refunds: 5,
            refund_queries: 240,
            at_once: 64,
        }
    }
}

/// What the shards work with.
#[derive(Clone)]
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub providers: Providers,
    pub sealer: Sealer,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    pub webhook_body: Arc<dyn EventBody>,
}

impl fmt::Debug for Parts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Parts")
            .field("store", &self.store)
            .field("providers", &self.providers)
            .finish_non_exhaustive()
    }
}

/// Writes the body of a webhook: the order as of the commit that the event is part of. The same
/// bytes are delivered every time (E4).
pub trait EventBody: Send + Sync {
    /// `personal` is missing where it cannot be opened, or was erased: nothing of the payer is told.
    fn body(&self, stored: &StoredOrder, personal: Option<&PersonalData>, told: Told) -> Vec<u8>;
}

/// What one webhook tells of an order.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    pub id: EventId,
    pub kind: WebhookType,
    pub at: Timestamp,
    /// The refund that it speaks of, where it speaks of one.
    pub refund: Option<RefundId>,
}
