//! The questions and commands of the trait, each handed to the module that knows it.

use async_trait::async_trait;
use jiff::civil::Date;

use super::{Need, PostgresStore, books, reads, reconciliation};
use crate::order::{
    AccountId, EventId, Fen, KeyId, MerchantId, OrderId, Status, Timestamp, WebhookType,
};
use crate::sealing::{Sealed, TokenHash, TokenKind};
use crate::store::reconciliation::{CaptureRow, Row, RowFilter, Run, Window};
use crate::store::{
    AuditEntry, EvidenceRow, Fence, IdempotencyRow, InstanceRow, LedgerLine, Merchant, MerchantKey,
    OauthState, OrderFilter, OutboxEntry, OutboxGauge, Owned, Reconciliations, RefundRow,
    Rejection, ShardRow, Store, StoreError, StoredOrder, TimelineEntry, TokenTarget, Transaction,
};

#[async_trait]
impl Store for PostgresStore {
    async fn commit(
        &self,
        transactions: Vec<Transaction>,
    ) -> Result<Vec<Result<(), Rejection>>, StoreError> {
        self.commit_all(transactions).await
    }

    async fn order(&self, id: OrderId) -> Result<Option<StoredOrder>, StoreError> {
        reads::order(self, Need::Any, id).await
    }

    async fn order_for_fact(&self, id: OrderId) -> Result<Option<StoredOrder>, StoreError> {
        reads::order(self, Need::Fact, id).await
    }

    async fn order_by_number(
        &self,
        merchant: MerchantId,
        merchant_order_no: &str,
    ) -> Result<Option<StoredOrder>, StoreError> {
        reads::order_by_number(self, merchant, merchant_order_no).await
    }

    async fn orders(&self, filter: &OrderFilter) -> Result<Vec<StoredOrder>, StoreError> {
        reads::orders(self, filter).await
    }

    async fn paid_order_for(
        &self,
        merchant: MerchantId,
        payer_index: u128,
        purpose: &str,
    ) -> Result<Option<OrderId>, StoreError> {
        reads::paid_order_for(self, merchant, payer_index, purpose).await
    }

    async fn due(
        &self,
        until: Timestamp,
        owned: &Owned,
        limit: usize,
    ) -> Result<Vec<OrderId>, StoreError> {
        reads::due(self, until, owned, limit).await
    }

    async fn versions(&self, orders: &[OrderId]) -> Result<Vec<(OrderId, u64)>, StoreError> {
        reads::versions(self, orders).await
    }

    async fn shards(&self) -> Result<Vec<ShardRow>, StoreError> {
        reads::shards(self).await
    }

    async fn fence_stands(&self, fence: Fence) -> Result<bool, StoreError> {
        reads::fence_stands(self, fence).await
    }

    async fn instances(&self) -> Result<Vec<InstanceRow>, StoreError> {
        reads::instances(self).await
    }

    async fn timeline(&self, order: OrderId) -> Result<Vec<TimelineEntry>, StoreError> {
        reads::timeline(self, order).await
    }

    async fn personal(&self, order: OrderId, slot: &str) -> Result<Option<Sealed>, StoreError> {
        reads::personal(self, Need::Any, order, slot).await
    }

    async fn personal_for_fact(
        &self,
        order: OrderId,
        slot: &str,
    ) -> Result<Option<Sealed>, StoreError> {
        reads::personal(self, Need::Fact, order, slot).await
    }

    async fn token(
        &self,
        kind: TokenKind,
        hash: TokenHash,
    ) -> Result<Option<TokenTarget>, StoreError> {
        reads::token(self, kind, hash).await
    }

    async fn merchant(&self, id: MerchantId) -> Result<Option<Merchant>, StoreError> {
        reads::merchant(self, id).await
    }

    async fn merchants(&self) -> Result<Vec<Merchant>, StoreError> {
        reads::merchants(self).await
    }

    async fn key(&self, id: KeyId) -> Result<Option<MerchantKey>, StoreError> {
        reads::key(self, id).await
    }

    async fn keys_of(&self, merchant: MerchantId) -> Result<Vec<MerchantKey>, StoreError> {
        reads::keys_of(self, merchant).await
    }

    async fn idempotency(
        &self,
        merchant: MerchantId,
        key: &str,
    ) -> Result<Option<IdempotencyRow>, StoreError> {
        reads::idempotency(self, merchant, key).await
    }

    async fn oauth_state(&self, state_hash: TokenHash) -> Result<Option<OauthState>, StoreError> {
        reads::oauth_state(self, state_hash).await
    }

    async fn outbox_due(
        &self,
        now: Timestamp,
        owned: &Owned,
        limit: usize,
        per_merchant: usize,
    ) -> Result<Vec<OutboxEntry>, StoreError> {
        reads::outbox_due(self, now, owned, limit, per_merchant).await
    }

    async fn outbox_event(&self, id: EventId) -> Result<Option<OutboxEntry>, StoreError> {
        reads::outbox_event(self, id).await
    }

    async fn outbox_undelivered(
        &self,
        all: bool,
        limit: usize,
    ) -> Result<Vec<OutboxEntry>, StoreError> {
        reads::outbox_undelivered(self, all, limit).await
    }

    async fn outbox_gauge(&self) -> Result<OutboxGauge, StoreError> {
        reads::outbox_gauge(self).await
    }

    async fn evidence(
        &self,
        account: &AccountId,
        reference: &str,
    ) -> Result<Option<EvidenceRow>, StoreError> {
        reads::evidence(self, account, reference).await
    }

    async fn events_after(
        &self,
        merchant: MerchantId,
        after: u64,
        kinds: &[WebhookType],
        limit: usize,
    ) -> Result<Vec<(u64, OutboxEntry)>, StoreError> {
        books::events_after(self, merchant, after, kinds, limit).await
    }

    async fn refunds_open(&self, limit: usize) -> Result<Vec<RefundRow>, StoreError> {
        books::refunds_open(self, limit).await
    }

    async fn refund_row(
        &self,
        merchant: MerchantId,
        merchant_refund_no: &str,
    ) -> Result<Option<RefundRow>, StoreError> {
        books::refund_row(self, merchant, merchant_refund_no).await
    }

    async fn odd_captures(&self, limit: usize) -> Result<Vec<OrderId>, StoreError> {
        books::odd_captures(self, limit).await
    }

    async fn ledger(&self, order: OrderId) -> Result<Vec<LedgerLine>, StoreError> {
        books::ledger(self, order).await
    }

    async fn ledger_totals(&self) -> Result<Vec<(String, Fen)>, StoreError> {
        books::ledger_totals(self).await
    }

    async fn evidence_open(&self, limit: usize) -> Result<Vec<EvidenceRow>, StoreError> {
        books::evidence_open(self, limit).await
    }

    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        books::audit(self, after, limit).await
    }

    async fn setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        reads::setting(self, name).await
    }

    async fn count_by_status(&self) -> Result<Vec<(Status, u64)>, StoreError> {
        reads::count_by_status(self).await
    }

    async fn ping(&self) -> Result<Timestamp, StoreError> {
        reads::ping(self).await
    }

    async fn forget(
        &self,
        nonces_before: Timestamp,
        keys_before: Timestamp,
    ) -> Result<u64, StoreError> {
        reads::forget(self, nonces_before, keys_before).await
    }

    async fn close(&self) {
        self.close_all().await;
    }
}

#[async_trait]
impl Reconciliations for PostgresStore {
    async fn captures_between(
        &self,
        account: &AccountId,
        window: Window,
        after: Option<(Timestamp, Box<str>)>,
        limit: usize,
    ) -> Result<Vec<CaptureRow>, StoreError> {
        reconciliation::captures_between(self, account, window, after, limit).await
    }

    async fn captures_known(
        &self,
        account: &AccountId,
        transactions: Vec<Box<str>>,
    ) -> Result<Vec<CaptureRow>, StoreError> {
        reconciliation::captures_known(self, account, &transactions).await
    }

    async fn refunds_between(
        &self,
        account: &AccountId,
        window: Window,
        after: Option<(Timestamp, Box<str>)>,
        limit: usize,
    ) -> Result<Vec<RefundRow>, StoreError> {
        reconciliation::refunds_between(self, account, window, after, limit).await
    }

    async fn refunds_known(
        &self,
        account: &AccountId,
        numbers: Vec<Box<str>>,
    ) -> Result<Vec<RefundRow>, StoreError> {
        reconciliation::refunds_known(self, account, &numbers).await
    }

    async fn reconciliation_runs(
        &self,
        account: Option<&AccountId>,
        from: Date,
        to: Date,
    ) -> Result<Vec<Run>, StoreError> {
        reconciliation::runs(self, account, from, to).await
    }

    async fn reconciliation_rows(&self, filter: &RowFilter) -> Result<Vec<Row>, StoreError> {
        reconciliation::rows(self, filter).await
    }

    async fn reconciled_elsewhere(
        &self,
        account: &AccountId,
        date: Date,
        keys: Vec<Box<str>>,
    ) -> Result<Vec<Box<str>>, StoreError> {
        reconciliation::elsewhere(self, account, date, &keys).await
    }
}
