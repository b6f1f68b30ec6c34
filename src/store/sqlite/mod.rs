//! The embedded store: one SQLite file, one process, one writer thread that commits in groups, a few
//! readers beside it. Start reading at [`SqliteStore::open`] (`opening` has the file and its
//! settings), then `writer` (the group commit), `apply` (one transaction, the rules that refuse it),
//! `reads` and `books` (money). The schema with its triggers is in `migrations`; `personal` re-seals
//! and erases.

mod apply;
mod bills;
mod books;
mod desk;
mod opening;
mod personal;
mod readers;
mod reads;
mod reconciliation;
mod rows;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use jiff::civil::Date;
use rusqlite::Connection;

use super::{
    AuditEntry, EvidenceRow, Fence, IdempotencyRow, InstanceRow, LedgerLine, Merchant, MerchantKey,
    OauthState, OrderFilter, OutboxEntry, OutboxGauge, Owned, RefundRow, Rejection, ShardRow,
    Store, StoreError, StoredOrder, TimelineEntry, TokenTarget, Transaction,
};
use crate::clock::Clock;
use crate::order::{
    AccountId, EventId, Fen, KeyId, MerchantId, OrderId, Status, Timestamp, WebhookType,
};
use crate::sealing::{Sealed, TokenHash, TokenKind};
use crate::store::Reconciliations;
use crate::store::reconciliation::{CaptureRow, Row, RowFilter, Run, Window};
use crate::store::sqlite::readers::Readers;
use crate::store::sqlite::writer::Writer;
use crate::store::step::Step;

pub use opening::{OpenError, Options};

/// One SQLite file, held by this process alone.
#[derive(Debug)]
pub struct SqliteStore {
    clock: Arc<dyn Clock>,
    /// `None` once closed.
    open: Mutex<Option<Threads>>,
}

/// The ways to the threads; when the last clone goes, they finish what is queued and end.
#[derive(Clone, Debug)]
struct Threads {
    readers: Readers,
    writer: Writer,
}

impl SqliteStore {
    /// Opens the file, making it and its folder where they are missing, takes it for this process
    /// and brings its schema up to date (or checks it, see [`Options::migrate`]). Blocks.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let held = opening::hold(path)?;
        let connection = opening::connect(path, &options)?;
        let readers = Readers::start(path, options.readers)?;
        let writer = Writer::start(path, connection, held, Arc::clone(&options.clock))?;
        Ok(Self {
            clock: options.clock,
            open: Mutex::new(Some(Threads { readers, writer })),
        })
    }

    /// Brings the schema of the file up to date and lets go of it. Returns the version it has now.
    /// Blocks.
    pub fn migrate(path: impl AsRef<Path>) -> Result<i64, OpenError> {
        let path = path.as_ref();
        let _held = opening::hold(path)?;
        opening::migrate(path)
    }

    fn threads(&self) -> Result<Threads, StoreError> {
        self.open
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
            .ok_or_else(closed)
    }

    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.threads()?.readers.read(read).await
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable {
        why: "it was closed".to_owned(),
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn commit(
        &self,
        transactions: Vec<Transaction>,
    ) -> Result<Vec<Result<(), Rejection>>, StoreError> {
        let threads = self.threads()?;
        if transactions.is_empty() {
            return Ok(Vec::new());
        }
        // JSON is written here, by many, rather than by the one writer.
        let steps = transactions.into_iter().map(Step::new).collect();
        threads.writer.commit(steps).await
    }

    async fn order(&self, id: OrderId) -> Result<Option<StoredOrder>, StoreError> {
        self.read(move |connection| reads::order(connection, id))
            .await
    }

    async fn order_by_number(
        &self,
        merchant: MerchantId,
        merchant_order_no: &str,
    ) -> Result<Option<StoredOrder>, StoreError> {
        let number = merchant_order_no.to_owned();
        self.read(move |connection| reads::order_by_number(connection, merchant, &number))
            .await
    }

    async fn orders(&self, filter: &OrderFilter) -> Result<Vec<StoredOrder>, StoreError> {
        let filter = filter.clone();
        self.read(move |connection| reads::orders(connection, &filter))
            .await
    }

    async fn paid_order_for(
        &self,
        merchant: MerchantId,
        payer_index: u128,
        purpose: &str,
    ) -> Result<Option<OrderId>, StoreError> {
        let purpose = purpose.to_owned();
        self.read(move |connection| {
            reads::paid_order_for(connection, merchant, payer_index, &purpose)
        })
        .await
    }

    async fn due(
        &self,
        until: Timestamp,
        owned: &Owned,
        limit: usize,
    ) -> Result<Vec<OrderId>, StoreError> {
        let owned = owned.clone();
        self.read(move |connection| reads::due(connection, until, &owned, limit))
            .await
    }

    async fn versions(&self, orders: &[OrderId]) -> Result<Vec<(OrderId, u64)>, StoreError> {
        let orders = orders.to_vec();
        self.read(move |connection| reads::versions(connection, &orders))
            .await
    }

    async fn shards(&self) -> Result<Vec<ShardRow>, StoreError> {
        self.read(reads::shards).await
    }

    async fn fence_stands(&self, fence: Fence) -> Result<bool, StoreError> {
        self.read(move |connection| {
            reads::fence_stands(connection, fence).map_err(|error| rows::unavailable(&error))
        })
        .await
    }

    async fn instances(&self) -> Result<Vec<InstanceRow>, StoreError> {
        let now = self.clock.now();
        self.read(move |connection| reads::instances(connection, now))
            .await
    }

    async fn timeline(&self, order: OrderId) -> Result<Vec<TimelineEntry>, StoreError> {
        self.read(move |connection| reads::timeline(connection, order))
            .await
    }

    async fn personal(&self, order: OrderId, slot: &str) -> Result<Option<Sealed>, StoreError> {
        let slot = slot.to_owned();
        self.read(move |connection| reads::personal(connection, order, &slot))
            .await
    }

    async fn token(
        &self,
        kind: TokenKind,
        hash: TokenHash,
    ) -> Result<Option<TokenTarget>, StoreError> {
        self.read(move |connection| reads::token(connection, kind, hash))
            .await
    }

    async fn merchant(&self, id: MerchantId) -> Result<Option<Merchant>, StoreError> {
        self.read(move |connection| reads::merchant(connection, id))
            .await
    }

    async fn merchants(&self) -> Result<Vec<Merchant>, StoreError> {
        self.read(reads::merchants).await
    }

    async fn key(&self, id: KeyId) -> Result<Option<MerchantKey>, StoreError> {
        self.read(move |connection| reads::key(connection, id))
            .await
    }

    async fn keys_of(&self, merchant: MerchantId) -> Result<Vec<MerchantKey>, StoreError> {
        self.read(move |connection| reads::keys_of(connection, merchant))
            .await
    }

    async fn idempotency(
        &self,
        merchant: MerchantId,
        key: &str,
    ) -> Result<Option<IdempotencyRow>, StoreError> {
        let key = key.to_owned();
        self.read(move |connection| reads::idempotency(connection, merchant, &key))
            .await
    }

    async fn oauth_state(&self, state_hash: TokenHash) -> Result<Option<OauthState>, StoreError> {
        self.read(move |connection| reads::oauth_state(connection, state_hash))
            .await
    }

    async fn outbox_due(
        &self,
        now: Timestamp,
        owned: &Owned,
        limit: usize,
        per_merchant: usize,
    ) -> Result<Vec<OutboxEntry>, StoreError> {
        let owned = owned.clone();
        self.read(move |connection| reads::outbox_due(connection, now, &owned, limit, per_merchant))
            .await
    }

    async fn outbox_event(&self, id: EventId) -> Result<Option<OutboxEntry>, StoreError> {
        self.read(move |connection| reads::outbox_event(connection, id))
            .await
    }

    async fn outbox_undelivered(
        &self,
        all: bool,
        limit: usize,
    ) -> Result<Vec<OutboxEntry>, StoreError> {
        self.read(move |connection| reads::outbox_undelivered(connection, all, limit))
            .await
    }

    async fn outbox_gauge(&self) -> Result<OutboxGauge, StoreError> {
        self.read(reads::outbox_gauge).await
    }

    async fn evidence(
        &self,
        account: &AccountId,
        reference: &str,
    ) -> Result<Option<EvidenceRow>, StoreError> {
        let (account, reference) = (account.clone(), reference.to_owned());
        self.read(move |connection| reads::evidence(connection, &account, &reference))
            .await
    }

    async fn events_after(
        &self,
        merchant: MerchantId,
        after: u64,
        kinds: &[WebhookType],
        limit: usize,
    ) -> Result<Vec<(u64, OutboxEntry)>, StoreError> {
        let kinds = kinds.to_vec();
        self.read(move |connection| books::events_after(connection, merchant, after, &kinds, limit))
            .await
    }

    async fn refunds_open(&self, limit: usize) -> Result<Vec<RefundRow>, StoreError> {
        self.read(move |connection| books::refunds_open(connection, limit))
            .await
    }

    async fn refund_row(
        &self,
        merchant: MerchantId,
        merchant_refund_no: &str,
    ) -> Result<Option<RefundRow>, StoreError> {
        let number = merchant_refund_no.to_owned();
        self.read(move |connection| books::refund_row(connection, merchant, &number))
            .await
    }

    async fn odd_captures(&self, limit: usize) -> Result<Vec<OrderId>, StoreError> {
        self.read(move |connection| books::odd_captures(connection, limit))
            .await
    }

    async fn ledger(&self, order: OrderId) -> Result<Vec<LedgerLine>, StoreError> {
        self.read(move |connection| books::ledger(connection, order))
            .await
    }

    async fn ledger_totals(&self) -> Result<Vec<(String, Fen)>, StoreError> {
        self.read(books::ledger_totals).await
    }

    async fn evidence_open(&self, limit: usize) -> Result<Vec<EvidenceRow>, StoreError> {
        self.read(move |connection| books::evidence_open(connection, limit))
            .await
    }

    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        self.read(move |connection| books::audit(connection, after, limit))
            .await
    }

    async fn setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        let name = name.to_owned();
        self.read(move |connection| reads::setting(connection, &name))
            .await
    }

    async fn count_by_status(&self) -> Result<Vec<(Status, u64)>, StoreError> {
        self.read(reads::count_by_status).await
    }

    async fn ping(&self) -> Result<Timestamp, StoreError> {
        self.threads()?.writer.alive()?;
        self.read(reads::usable).await?;
        Ok(self.clock.now())
    }

    async fn forget(
        &self,
        nonces_before: Timestamp,
        keys_before: Timestamp,
    ) -> Result<u64, StoreError> {
        let writer = self.threads()?.writer;
        let mut forgotten = 0;
        // In small bites, so that a clean-up never holds up a payment for long.
        loop {
            let bite = writer.forget(nonces_before, keys_before).await?;
            forgotten += bite;
            if bite == 0 {
                return Ok(forgotten);
            }
        }
    }

    async fn close(&self) {
        let threads = self
            .open
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        if let Some(Threads { readers, writer }) = threads {
            readers.close().await;
            writer.close().await;
        }
    }
}

#[async_trait]
impl Reconciliations for SqliteStore {
    async fn captures_between(
        &self,
        account: &AccountId,
        window: Window,
        after: Option<(Timestamp, Box<str>)>,
        limit: usize,
    ) -> Result<Vec<CaptureRow>, StoreError> {
        let account = account.clone();
        self.read(move |connection| {
            reconciliation::captures_between(connection, &account, window, after, limit)
        })
        .await
    }

    async fn captures_known(
        &self,
        account: &AccountId,
        transactions: Vec<Box<str>>,
    ) -> Result<Vec<CaptureRow>, StoreError> {
        let (account, transactions) = (account.clone(), reconciliation::texts(&transactions));
        self.read(move |connection| {
            reconciliation::captures_known(connection, &account, &transactions)
        })
        .await
    }

    async fn refunds_between(
        &self,
        account: &AccountId,
        window: Window,
        after: Option<(Timestamp, Box<str>)>,
        limit: usize,
    ) -> Result<Vec<RefundRow>, StoreError> {
        let account = account.clone();
        self.read(move |connection| {
            reconciliation::refunds_between(connection, &account, window, after, limit)
        })
        .await
    }

    async fn refunds_known(
        &self,
        account: &AccountId,
        numbers: Vec<Box<str>>,
    ) -> Result<Vec<RefundRow>, StoreError> {
        let (account, numbers) = (account.clone(), reconciliation::texts(&numbers));
        self.read(move |connection| reconciliation::refunds_known(connection, &account, &numbers))
            .await
    }

    async fn reconciliation_runs(
        &self,
        account: Option<&AccountId>,
        from: Date,
        to: Date,
    ) -> Result<Vec<Run>, StoreError> {
        let account = account.cloned();
        self.read(move |connection| reconciliation::runs(connection, account.as_ref(), from, to))
            .await
    }

    async fn reconciliation_rows(&self, filter: &RowFilter) -> Result<Vec<Row>, StoreError> {
        let filter = filter.clone();
        self.read(move |connection| reconciliation::rows(connection, &filter))
            .await
    }

    async fn reconciled_elsewhere(
        &self,
        account: &AccountId,
        date: Date,
        keys: Vec<Box<str>>,
    ) -> Result<Vec<Box<str>>, StoreError> {
        let (account, keys) = (account.clone(), reconciliation::texts(&keys));
        self.read(move |connection| reconciliation::elsewhere(connection, &account, date, &keys))
            .await
    }
}
