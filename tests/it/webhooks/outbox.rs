//! A store that knows merchants and an outbox and nothing else, and whose disk can be broken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use enrollpay::order::{
    AccountId, BillId, EventId, Fen, KeyId, MerchantId, OrderId, Status, Timestamp, WebhookType,
};
use enrollpay::random::SeededRandom;
use enrollpay::sealing::{Place, Sealed, Sealer, TokenHash, TokenKind};
use enrollpay::store::bills::{BillFilter, Bills, PayerLink, StoredBill};
use enrollpay::store::desk::{Desk, OperatorRow, SessionRow};
use enrollpay::store::reconciliation::{CaptureRow, Row, RowFilter, Run, Window};
use enrollpay::store::{
    AuditEntry, DeliveryState, DuplicatePolicy, EvidenceRow, Fence, IdempotencyRow, InstanceRow,
    LedgerLine, Masks, Merchant, MerchantKey, OauthState, OrderFilter, OutboxEntry, OutboxGauge,
    Owned, Reconciliations, RefundRow, Rejection, ShardRow, Store, StoreError, StoredOrder,
    TimelineEntry, TokenTarget, Transaction, WebhookSecret, Write,
};
use jiff::civil::Date;
use tokio::sync::watch;
use ulid::Ulid;

#[derive(Debug)]
pub struct Outbox {
    pub sealer: Sealer,
    rows: watch::Sender<Vec<OutboxEntry>>,
    merchants: std::sync::Mutex<Vec<Merchant>>,
    pub broken: AtomicBool,
}

fn unused<T>() -> Result<T, StoreError> {
    Err(StoreError::Unavailable {
        why: "the relay has no business here".into(),
    })
}

impl Outbox {
    pub fn new() -> Arc<Self> {
        let random = Arc::new(SeededRandom::new(3));
        Arc::new(Self {
            sealer: Sealer::new(&[(1, [7; 32])], &[8; 32], &[9; 32], random),
            rows: watch::channel(Vec::new()).0,
            merchants: std::sync::Mutex::default(),
            broken: AtomicBool::new(false),
        })
    }

    /// Registers a merchant; `secrets` with their ends, newest first.
    pub fn merchant(
        &self,
        url: Option<String>,
        secrets: &[(&str, Option<Timestamp>)],
    ) -> MerchantId {
        let mut merchants = self.merchants.lock().unwrap();
        let id = MerchantId::from_ulid(Ulid::from_parts(1, merchants.len() as u128));
        let row = id.to_string();
        let place = Place {
            table: "merchants",
            column: "webhook_secret",
            row: &row,
        };
        let webhook_secrets = secrets
            .iter()
            .map(|(text, until)| WebhookSecret {
                sealed: self.sealer.seal(place, text.as_bytes()),
                until: *until,
            })
            .collect();
        merchants.push(Merchant {
            id,
            name: "school".into(),
            display_name: "学校".into(),
            help_lines: [None, None],
            webhook_url: url,
            webhook_secrets,
            return_hosts: Vec::new(),
            duplicate: DuplicatePolicy::Warn,
            masks: Masks::default(),
            payer_must_be_registrant: false,
            accounts: Vec::new(),
            created_at: Timestamp::default(),
        });
        id
    }

    pub fn set_url(&self, id: MerchantId, url: String) {
        let mut merchants = self.merchants.lock().unwrap();
        let merchant = merchants.iter_mut().find(|merchant| merchant.id == id);
        merchant.unwrap().webhook_url = Some(url);
    }

    /// Writes a pending event that is due at once.
    pub fn event(
        &self,
        merchant: MerchantId,
        order: u128,
        version: u64,
        now: Timestamp,
    ) -> EventId {
        let mut made = None;
        self.rows.send_modify(|rows| {
            let id = EventId::from_ulid(Ulid::from_parts(2, rows.len() as u128));
            let text = id.to_string();
            let place = Place {
                table: "outbox",
                column: "body",
                row: &text,
            };
            // With a blank that no serialiser of today would write: the bytes are kept, not the value.
            let body = format!(r#"{{"id": "{id}","data":{{"name":"测*","version":{version}}}}}"#);
            rows.push(OutboxEntry {
                id,
                merchant,
                order: OrderId::from_ulid(Ulid(order)),
                version,
                kind: WebhookType::OrderPaid,
                body_digest: Some(self.sealer.body_digest(body.as_bytes())),
                body: self.sealer.seal(place, body.as_bytes()),
                created_at: now,
                state: DeliveryState::Pending,
                tries: 0,
                next_at: Some(now),
                note: String::new(),
            });
            made = Some(id);
        });
        made.unwrap()
    }

    /// Somebody writes to an event's row past everything.
    pub fn tamper(&self, id: EventId, change: impl Fn(&mut OutboxEntry)) {
        self.rows.send_modify(|rows| {
            change(rows.iter_mut().find(|row| row.id == id).unwrap());
        });
    }

    /// The bytes that were written for this event.
    pub fn body(&self, id: EventId) -> Vec<u8> {
        let row = id.to_string();
        let place = Place {
            table: "outbox",
            column: "body",
            row: &row,
        };
        self.sealer.open(place, &self.row(id).body).unwrap()
    }

    pub fn row(&self, id: EventId) -> OutboxEntry {
        let rows = self.rows.borrow();
        rows.iter().find(|row| row.id == id).unwrap().clone()
    }

    /// Waits until the event's row satisfies `ready`.
    pub async fn wait(&self, id: EventId, ready: impl Fn(&OutboxEntry) -> bool) -> OutboxEntry {
        let mut rows = self.rows.subscribe();
        let seen = rows.wait_for(|rows| rows.iter().any(|row| row.id == id && ready(row)));
        let limit = std::time::Duration::from_secs(20);
        let outcome = tokio::time::timeout(limit, seen).await.is_ok();
        let row = self.row(id);
        assert!(outcome, "the row never came to it: {row:?}");
        row
    }

    pub async fn wait_state(&self, id: EventId, state: DeliveryState) -> OutboxEntry {
        self.wait(id, |row| row.state == state).await
    }
}

#[async_trait]
impl Store for Outbox {
    async fn commit(
        &self,
        transactions: Vec<Transaction>,
    ) -> Result<Vec<Result<(), Rejection>>, StoreError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable {
                why: "the disk is full".into(),
            });
        }
        let count = transactions.len();
        self.rows.send_modify(|rows| {
            for write in transactions.into_iter().flat_map(|one| one.writes) {
                let Write::Delivery {
                    event,
                    state,
                    tries,
                    next_at,
                    note,
                    ..
                } = write
                else {
                    panic!("the relay writes deliveries only: {write:?}");
                };
                let row = rows.iter_mut().find(|row| row.id == event).unwrap();
                row.state = state;
                row.tries = tries;
                row.next_at = next_at;
                row.note = note;
            }
        });
        Ok(vec![Ok(()); count])
    }

    async fn outbox_due(
        &self,
        now: Timestamp,
        _: &Owned,
        limit: usize,
        per_merchant: usize,
    ) -> Result<Vec<OutboxEntry>, StoreError> {
        let rows = self.rows.borrow();
        let mut chosen: Vec<OutboxEntry> = Vec::new();
        for row in rows.iter().filter(|row| {
            row.state == DeliveryState::Pending && row.next_at.is_some_and(|at| at <= now)
        }) {
            let earlier = |other: &&OutboxEntry| {
                other.order == row.order
                    && other.version < row.version
                    && other.state == DeliveryState::Pending
            };
            let same = chosen.iter().filter(|other| other.merchant == row.merchant);
            if rows.iter().find(earlier).is_none() && same.count() < per_merchant {
                chosen.push(row.clone());
            }
        }
        chosen.truncate(limit);
        Ok(chosen)
    }

    async fn outbox_event(&self, id: EventId) -> Result<Option<OutboxEntry>, StoreError> {
        Ok(Some(self.row(id)))
    }

    async fn outbox_gauge(&self) -> Result<OutboxGauge, StoreError> {
        Ok(OutboxGauge::default())
    }

    async fn merchant(&self, id: MerchantId) -> Result<Option<Merchant>, StoreError> {
        let merchants = self.merchants.lock().unwrap();
        Ok(merchants.iter().find(|merchant| merchant.id == id).cloned())
    }

    async fn order(&self, _: OrderId) -> Result<Option<StoredOrder>, StoreError> {
        unused()
    }
    async fn order_by_number(
        &self,
        _: MerchantId,
        _: &str,
    ) -> Result<Option<StoredOrder>, StoreError> {
        unused()
    }
    async fn orders(&self, _: &OrderFilter) -> Result<Vec<StoredOrder>, StoreError> {
        unused()
    }
    async fn paid_order_for(
        &self,
        _: MerchantId,
        _: u128,
        _: &str,
    ) -> Result<Option<OrderId>, StoreError> {
        unused()
    }
    async fn due(&self, _: Timestamp, _: &Owned, _: usize) -> Result<Vec<OrderId>, StoreError> {
        unused()
    }
    async fn versions(&self, _: &[OrderId]) -> Result<Vec<(OrderId, u64)>, StoreError> {
        unused()
    }
    async fn shards(&self) -> Result<Vec<ShardRow>, StoreError> {
        unused()
    }
    async fn fence_stands(&self, _: Fence) -> Result<bool, StoreError> {
        unused()
    }
    async fn instances(&self) -> Result<Vec<InstanceRow>, StoreError> {
        unused()
    }
    async fn timeline(&self, _: OrderId) -> Result<Vec<TimelineEntry>, StoreError> {
        unused()
    }
    async fn personal(&self, _: OrderId, _: &str) -> Result<Option<Sealed>, StoreError> {
        unused()
    }
    async fn token(&self, _: TokenKind, _: TokenHash) -> Result<Option<TokenTarget>, StoreError> {
        unused()
    }
    async fn merchants(&self) -> Result<Vec<Merchant>, StoreError> {
        unused()
    }
    async fn key(&self, _: KeyId) -> Result<Option<MerchantKey>, StoreError> {
        unused()
    }
    async fn keys_of(&self, _: MerchantId) -> Result<Vec<MerchantKey>, StoreError> {
        unused()
    }
    async fn outbox_undelivered(&self, _: bool, _: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        unused()
    }
    async fn idempotency(
        &self,
        _: MerchantId,
        _: &str,
    ) -> Result<Option<IdempotencyRow>, StoreError> {
        unused()
    }
    async fn oauth_state(&self, _: TokenHash) -> Result<Option<OauthState>, StoreError> {
        unused()
    }
    async fn evidence(&self, _: &AccountId, _: &str) -> Result<Option<EvidenceRow>, StoreError> {
        unused()
    }
    async fn events_after(
        &self,
        _: MerchantId,
        _: u64,
        _: &[WebhookType],
        _: usize,
    ) -> Result<Vec<(u64, OutboxEntry)>, StoreError> {
        unused()
    }
    async fn refunds_open(&self, _: usize) -> Result<Vec<RefundRow>, StoreError> {
        unused()
    }
    async fn refund_row(&self, _: MerchantId, _: &str) -> Result<Option<RefundRow>, StoreError> {
        unused()
    }
    async fn odd_captures(&self, _: usize) -> Result<Vec<OrderId>, StoreError> {
        unused()
    }
    async fn ledger(&self, _: OrderId) -> Result<Vec<LedgerLine>, StoreError> {
        unused()
    }
    async fn ledger_totals(&self) -> Result<Vec<(String, Fen)>, StoreError> {
        unused()
    }
    async fn evidence_open(&self, _: usize) -> Result<Vec<EvidenceRow>, StoreError> {
        unused()
    }
    async fn audit(&self, _: u64, _: usize) -> Result<Vec<AuditEntry>, StoreError> {
        unused()
    }
    async fn setting(&self, _: &str) -> Result<Option<String>, StoreError> {
        unused()
    }
    async fn count_by_status(&self) -> Result<Vec<(Status, u64)>, StoreError> {
        unused()
    }
    async fn ping(&self) -> Result<Timestamp, StoreError> {
        unused()
    }
    async fn forget(&self, _: Timestamp, _: Timestamp) -> Result<u64, StoreError> {
        unused()
    }
    async fn close(&self) {}
}

#[async_trait]
impl Desk for Outbox {
    async fn operator(&self, _: &str) -> Result<Option<OperatorRow>, StoreError> {
        unused()
    }
    async fn operators(&self) -> Result<Vec<OperatorRow>, StoreError> {
        unused()
    }
    async fn session(&self, _: TokenHash) -> Result<Option<SessionRow>, StoreError> {
        unused()
    }
    async fn orders_of_transaction(&self, _: &str, _: usize) -> Result<Vec<OrderId>, StoreError> {
        unused()
    }
    async fn outbox_of(&self, _: OrderId) -> Result<Vec<OutboxEntry>, StoreError> {
        unused()
    }
    async fn audit_before(&self, _: u64, _: usize) -> Result<Vec<AuditEntry>, StoreError> {
        unused()
    }
}

#[async_trait]
impl Bills for Outbox {
    async fn bills_by_id(
        &self,
        _: MerchantId,
        _: &[BillId],
    ) -> Result<Vec<StoredBill>, StoreError> {
        unused()
    }
    async fn bills_by_number(
        &self,
        _: MerchantId,
        _: &[String],
    ) -> Result<Vec<StoredBill>, StoreError> {
        unused()
    }
    async fn bills(&self, _: &BillFilter) -> Result<Vec<StoredBill>, StoreError> {
        unused()
    }
    async fn payer_link(&self, _: TokenHash) -> Result<Option<PayerLink>, StoreError> {
        unused()
    }
    async fn bills_with_people(
        &self,
        _: Option<BillId>,
        _: Timestamp,
        _: usize,
    ) -> Result<Vec<BillId>, StoreError> {
        unused()
    }
}

#[async_trait]
impl Reconciliations for Outbox {
    async fn captures_between(
        &self,
        _: &AccountId,
        _: Window,
        _: Option<(Timestamp, Box<str>)>,
        _: usize,
    ) -> Result<Vec<CaptureRow>, StoreError> {
        unused()
    }
    async fn captures_known(
        &self,
        _: &AccountId,
        _: Vec<Box<str>>,
    ) -> Result<Vec<CaptureRow>, StoreError> {
        unused()
    }
    async fn refunds_between(
        &self,
        _: &AccountId,
        _: Window,
        _: Option<(Timestamp, Box<str>)>,
        _: usize,
    ) -> Result<Vec<RefundRow>, StoreError> {
        unused()
    }
    async fn refunds_known(
        &self,
        _: &AccountId,
        _: Vec<Box<str>>,
    ) -> Result<Vec<RefundRow>, StoreError> {
        unused()
    }
    async fn reconciliation_runs(
        &self,
        _: Option<&AccountId>,
        _: Date,
        _: Date,
    ) -> Result<Vec<Run>, StoreError> {
        unused()
    }
    async fn reconciliation_rows(&self, _: &RowFilter) -> Result<Vec<Row>, StoreError> {
        unused()
    }
    async fn reconciled_elsewhere(
        &self,
        _: &AccountId,
        _: Date,
        _: Vec<Box<str>>,
    ) -> Result<Vec<Box<str>>, StoreError> {
        unused()
    }
}
