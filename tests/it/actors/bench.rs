//! A house to test in: real shards over a real store in a folder of its own, a clock that stands
//! still, a provider that does what the test says, and a store that can be held up or cut off.

#![expect(clippy::unwrap_used, reason = "a test ends where its house is broken")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use enrollpay::actors::{
    self, EventBody, NewOrder, Options, Orders, Parts, Reply, Request, Shards, Told,
};
use enrollpay::clock::{Clock, ManualClock};
use enrollpay::order::{
    AccountId, AttemptId, AttemptNumber, BillId, CaptureReport, CloseAnswer, CodeMode, Command,
    Event, EventId, Fen, KeyId, LatePayment, MerchantId, Offer, OrderId, OutTradeNo, PayerHash,
    Product, RefundAnswer, RefundId, Status, Terms, Timestamp, TradeAnswer, Wallet, WebhookType,
};
use enrollpay::provider::{
    AccountSettings, Bill, BillError, BillKind, Notice, NoticeError, OauthError, PayParameters,
    PayerId, Provider, ProviderError, Providers, RefundDestination, RefundNews, RefundRequest,
    Success, TradeRequest, TradeState,
};
use enrollpay::random::{Random, SeededRandom};
use enrollpay::sealing::{Place, Sealed, Sealer, TokenHash, TokenKind};
use enrollpay::store::bills::{BillFilter, Bills, PayerLink, StoredBill};
use enrollpay::store::desk::{OperatorRow, SessionRow};
use enrollpay::store::reconciliation::{CaptureRow, Row, RowFilter, Run, Window};
use enrollpay::store::{
    Actor, AuditEntry, Desk, EvidenceRow, Fence, IdempotencyRow, InstanceRow, Item, LedgerLine,
    MaskedPayer, Merchant, MerchantKey, OauthState, OrderFilter, OrderSnapshot, OutboxEntry,
    OutboxGauge, Owned, PayerIdentity, PersonalData, Reconciliations, RefundRow, Rejection,
    ShardRow, Store, StoreError, StoredOrder, TimelineEntry, TokenTarget, Transaction, Write,
};
use jiff::civil::Date;
use secrecy::SecretString;
use tokio::sync::{Semaphore, oneshot};
use ulid::Ulid;

use crate::support::Pair;
use crate::support::ground::{Ground, embedded};

pub const START: Timestamp = Timestamp::from_seconds(1_795_168_800);
pub const AMOUNT: Fen = Fen::new(14_000);
pub const FIRST: AttemptNumber = AttemptNumber::FIRST;
pub const STUDENT: PayerHash = PayerHash(1);
pub const QR_MS: i64 = 180_000;
pub const PUBLIC_URL: &str = "https://pay.example.edu.cn";

pub fn account() -> AccountId {
    AccountId::new("school-wechat")
}

/// A provider that answers as the test has set it, and remembers what it was asked.
#[derive(Debug)]
pub struct FakeProvider {
    settings: AccountSettings,
    pub asked: Mutex<Vec<String>>,
    pub made: Mutex<TradeAnswer>,
    pub state: Mutex<TradeState>,
    pub closed: Mutex<CloseAnswer>,
    pub refunded: Mutex<RefundAnswer>,
    /// Order calls never come back while this is set.
    pub silent: AtomicBool,
    pub requests: Mutex<Vec<TradeRequest>>,
    /// While set, queries wait here for what the test answers them, in the order of their asking.
    pub held: Mutex<Option<Vec<oneshot::Sender<TradeState>>>>,
}

impl FakeProvider {
    fn new() -> Self {
        Self {
            settings: AccountSettings {
                id: account(),
                wallet: Wallet::Wechat,
                application: "wx8888888888888888".into(),
                mode: CodeMode::Unified,
                h5: true,
                payer_identity: false,
                alipay_wap: false,
                checkout_origins: Vec::new(),
            },
            asked: Mutex::default(),
            made: Mutex::new(TradeAnswer::Made {
                handle: "prepay-1".into(),
            }),
            state: Mutex::new(TradeState::Unpaid),
            closed: Mutex::new(CloseAnswer::Closed),
            refunded: Mutex::new(RefundAnswer::Succeeded),
            silent: AtomicBool::new(false),
            requests: Mutex::default(),
            held: Mutex::default(),
        }
    }

    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }

    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl Provider for FakeProvider {
    fn account(&self) -> &AccountSettings {
        &self.settings
    }

    async fn make_trade(&self, request: &TradeRequest) -> TradeAnswer {
        self.note(format!("make {}", request.out_trade_no));
        self.requests.lock().unwrap().push(request.clone());
        if self.silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.made.lock().unwrap().clone()
    }

    async fn query_trade(&self, number: OutTradeNo) -> TradeState {
        self.note(format!("query {number}"));
        let held = self.held.lock().unwrap().as_mut().map(|held| {
            let (answer, answered) = oneshot::channel();
            held.push(answer);
            answered
        });
        if let Some(answered) = held {
            return answered.await.unwrap_or(TradeState::Unknown);
        }
        self.state.lock().unwrap().clone()
    }

    async fn close_trade(&self, number: OutTradeNo) -> CloseAnswer {
        self.note(format!("close {number}"));
        let answer = *self.closed.lock().unwrap();
        if answer == CloseAnswer::Closed {
            *self.state.lock().unwrap() = TradeState::Closed;
        }
        answer
    }

    async fn refund(&self, request: &RefundRequest) -> RefundAnswer {
        self.note(format!(
            "refund {} {}",
            request.refund_no,
            request.amount.get()
        ));
        *self.refunded.lock().unwrap()
    }

    async fn query_refund(&self, request: &RefundRequest) -> RefundAnswer {
        self.note(format!("query refund {}", request.refund_no));
        RefundAnswer::Unknown
    }

    async fn repair_refund(&self, _: &RefundRequest, _: &RefundDestination) -> RefundAnswer {
        RefundAnswer::Unknown
    }

    async fn bill(&self, _: BillKind, _: jiff::civil::Date) -> Result<Bill, BillError> {
        Err(BillError::NotOffered)
    }

    fn pay_parameters(
        &self,
        _: &TradeRequest,
        handle: &str,
    ) -> Result<PayParameters, ProviderError> {
        Ok(PayParameters::Code {
            content: handle.to_owned(),
        })
    }

    fn authorize_url(&self, redirect_uri: &str, _: &str) -> String {
        redirect_uri.to_owned()
    }

    async fn exchange_code(&self, _: &SecretString) -> Result<PayerId, OauthError> {
        Err(OauthError::Unavailable)
    }

    /// A "signature" is the header `x-signed: yes`; the body is one word and its members.
    fn read_notice(
        &self,
        headers: &BTreeMap<String, String>,
        body: &[u8],
        _: Timestamp,
    ) -> Result<Notice, NoticeError> {
        match headers.get("x-signed").map(String::as_str) {
            Some("yes") => {}
            Some(_) => return Err(NoticeError::BadSignature),
            None => return Err(NoticeError::Missing { what: "x-signed" }),
        }
        let unreadable = NoticeError::Unreadable { why: "no words" };
        let text = std::str::from_utf8(body).map_err(|_| unreadable.clone())?;
        let words: Vec<_> = text.split(' ').collect();
        let success = |number: &str, transaction: &str, fen: &str, succeeded_at: &str| {
            Ok(Success {
                out_trade_no: number.to_owned(),
                application: self.settings.application.clone(),
                transaction_id: transaction.into(),
                amount: Fen::new(fen.parse().map_err(|_| unreadable.clone())?),
                currency: "CNY".into(),
                succeeded_at: Timestamp::from_millis(
                    succeeded_at.parse().map_err(|_| unreadable.clone())?,
                ),
            })
        };
        match words[..] {
            ["paid", number, transaction, fen, succeeded_at] => Ok(Notice::Paid {
                notice_id: format!("notice-{transaction}"),
                success: success(number, transaction, fen, succeeded_at)?,
            }),
            // A refund's news that tells of the capture as well.
            [
                "refunded",
                refund_no,
                number,
                transaction,
                fen,
                succeeded_at,
            ] => Ok(Notice::Refund {
                notice_id: format!("notice-{refund_no}"),
                news: RefundNews {
                    out_trade_no: number.to_owned(),
                    refund_no: refund_no.to_owned(),
                    amount: None,
                    answer: RefundAnswer::Succeeded,
                },
                success: Some(success(number, transaction, fen, succeeded_at)?),
            }),
            ["<xml>"] => Err(NoticeError::OlderInterface),
            ["closed", number] => Ok(Notice::Other {
                notice_id: "closed".to_owned(),
                out_trade_no: Some(number.to_owned()),
                what: "closed",
            }),
            _ => Err(unreadable),
        }
    }

    fn acknowledgement(&self) -> (u16, &'static str, &'static str) {
        (200, "application/json", r#"{"code":"SUCCESS"}"#)
    }

    fn refusal(&self) -> (&'static str, &'static str) {
        ("application/json", r#"{"code":"FAIL"}"#)
    }

    async fn refresh(&self) -> Result<(), ProviderError> {
        Ok(())
    }
}

/// What becomes of the commits that reach the [`Gate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Commits {
    Pass,
    /// Nothing is written, and that is known.
    Refused,
    /// Written, and the answer is lost.
    AnswerLost,
    /// Not written, and that is not known.
    RequestLost,
}

/// The store, with a gate before its commits.
#[derive(Debug)]
pub struct Gate {
    store: Arc<dyn Store>,
    /// Virtual time waits for the store, as real time would hardly be noticed to pass.
    holds_time: bool,
    /// How many commits may pass: very many, unless a test closes it.
    open: Semaphore,
    commits: AtomicU8,
    pub groups: Mutex<Vec<usize>>,
    waiting: AtomicUsize,
}

const WIDE: usize = Semaphore::MAX_PERMITS / 2;

impl Gate {
    /// `holds_time`: for runtimes whose clock is paused.
    pub fn over(store: Arc<dyn Store>, holds_time: bool) -> Arc<Self> {
        Arc::new(Self {
            store,
            holds_time,
            open: Semaphore::new(WIDE),
            commits: AtomicU8::new(Commits::Pass as u8),
            groups: Mutex::default(),
            waiting: AtomicUsize::new(0),
        })
    }

    /// Asks the store; where time is virtual, on a thread for which it stands still.
    async fn asked<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
        &self,
        ask: impl FnOnce(Arc<dyn Store>) -> F,
    ) -> T {
        let asked = ask(Arc::clone(&self.store));
        if self.holds_time {
            let runtime = tokio::runtime::Handle::current();
            tokio::task::spawn_blocking(move || runtime.block_on(asked))
                .await
                .unwrap()
        } else {
            asked.await
        }
    }

    /// No commit passes until `open`.
    pub fn shut(&self) {
        let forgotten = self.open.forget_permits(WIDE);
        assert_eq!(forgotten, WIDE, "shut while a commit is under way");
    }

    pub fn open(&self) {
        self.open.add_permits(WIDE);
    }

    pub fn set(&self, commits: Commits) {
        self.commits.store(commits as u8, Ordering::SeqCst);
    }

    /// Commits that stand before the gate.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }
}

fn lost() -> StoreError {
    StoreError::OutcomeUnknown {
        why: "the test lost it".to_owned(),
    }
}

#[async_trait]
impl Store for Gate {
    async fn commit(
        &self,
        transactions: Vec<Transaction>,
    ) -> Result<Vec<Result<(), Rejection>>, StoreError> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let permit = self.open.acquire().await.unwrap();
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        drop(permit);
        self.groups.lock().unwrap().push(transactions.len());
        let mode = self.commits.load(Ordering::SeqCst);
        if mode == Commits::Refused as u8 {
            return Err(StoreError::Unavailable {
                why: "the test refuses".to_owned(),
            });
        }
        if mode == Commits::RequestLost as u8 {
            return Err(lost());
        }
        let verdicts = self
            .asked(|store| async move { store.commit(transactions).await })
            .await?;
        if mode == Commits::AnswerLost as u8 {
            return Err(lost());
        }
        Ok(verdicts)
    }

    async fn order(&self, id: OrderId) -> Result<Option<StoredOrder>, StoreError> {
        self.asked(move |store| async move { store.order(id).await })
            .await
    }
    async fn order_by_number(
        &self,
        merchant: MerchantId,
        number: &str,
    ) -> Result<Option<StoredOrder>, StoreError> {
        self.store.order_by_number(merchant, number).await
    }
    async fn orders(&self, filter: &OrderFilter) -> Result<Vec<StoredOrder>, StoreError> {
        self.store.orders(filter).await
    }
    async fn paid_order_for(
        &self,
        merchant: MerchantId,
        payer_index: u128,
        purpose: &str,
    ) -> Result<Option<OrderId>, StoreError> {
        self.store
            .paid_order_for(merchant, payer_index, purpose)
            .await
    }
    async fn due(
        &self,
        until: Timestamp,
        owned: &Owned,
        limit: usize,
    ) -> Result<Vec<OrderId>, StoreError> {
        let owned = owned.clone();
        self.asked(move |store| async move { store.due(until, &owned, limit).await })
            .await
    }
    async fn versions(&self, orders: &[OrderId]) -> Result<Vec<(OrderId, u64)>, StoreError> {
        self.store.versions(orders).await
    }
    async fn shards(&self) -> Result<Vec<ShardRow>, StoreError> {
        self.store.shards().await
    }
    async fn fence_stands(&self, fence: Fence) -> Result<bool, StoreError> {
        self.store.fence_stands(fence).await
    }
    async fn instances(&self) -> Result<Vec<InstanceRow>, StoreError> {
        self.store.instances().await
    }
    async fn timeline(&self, order: OrderId) -> Result<Vec<TimelineEntry>, StoreError> {
        self.store.timeline(order).await
    }
    async fn personal(&self, order: OrderId, slot: &str) -> Result<Option<Sealed>, StoreError> {
        let slot = slot.to_owned();
        self.asked(move |store| async move { store.personal(order, &slot).await })
            .await
    }
    async fn token(
        &self,
        kind: TokenKind,
        hash: TokenHash,
    ) -> Result<Option<TokenTarget>, StoreError> {
        self.store.token(kind, hash).await
    }
    async fn merchant(&self, id: MerchantId) -> Result<Option<Merchant>, StoreError> {
        self.store.merchant(id).await
    }
    async fn merchants(&self) -> Result<Vec<Merchant>, StoreError> {
        self.store.merchants().await
    }
    async fn key(&self, id: KeyId) -> Result<Option<MerchantKey>, StoreError> {
        self.store.key(id).await
    }
    async fn keys_of(&self, merchant: MerchantId) -> Result<Vec<MerchantKey>, StoreError> {
        self.store.keys_of(merchant).await
    }
    async fn idempotency(
        &self,
        merchant: MerchantId,
        key: &str,
    ) -> Result<Option<IdempotencyRow>, StoreError> {
        self.store.idempotency(merchant, key).await
    }
    async fn oauth_state(&self, hash: TokenHash) -> Result<Option<OauthState>, StoreError> {
        self.store.oauth_state(hash).await
    }
    async fn outbox_due(
        &self,
        now: Timestamp,
        owned: &Owned,
        limit: usize,
        per_merchant: usize,
    ) -> Result<Vec<OutboxEntry>, StoreError> {
        self.store.outbox_due(now, owned, limit, per_merchant).await
    }
    async fn outbox_event(&self, id: EventId) -> Result<Option<OutboxEntry>, StoreError> {
        self.store.outbox_event(id).await
    }
    async fn outbox_undelivered(
        &self,
        all: bool,
        limit: usize,
    ) -> Result<Vec<OutboxEntry>, StoreError> {
        self.store.outbox_undelivered(all, limit).await
    }
    async fn outbox_gauge(&self) -> Result<OutboxGauge, StoreError> {
        self.store.outbox_gauge().await
    }
    async fn evidence(
        &self,
        account: &AccountId,
        reference: &str,
    ) -> Result<Option<EvidenceRow>, StoreError> {
        self.store.evidence(account, reference).await
    }
    async fn events_after(
        &self,
        merchant: MerchantId,
        after: u64,
        kinds: &[WebhookType],
        limit: usize,
    ) -> Result<Vec<(u64, OutboxEntry)>, StoreError> {
        self.store.events_after(merchant, after, kinds, limit).await
    }
    async fn refunds_open(&self, limit: usize) -> Result<Vec<RefundRow>, StoreError> {
        self.store.refunds_open(limit).await
    }
    async fn refund_row(
        &self,
        merchant: MerchantId,
        number: &str,
    ) -> Result<Option<RefundRow>, StoreError> {
        self.store.refund_row(merchant, number).await
    }
    async fn odd_captures(&self, limit: usize) -> Result<Vec<OrderId>, StoreError> {
        self.store.odd_captures(limit).await
    }
    async fn ledger(&self, order: OrderId) -> Result<Vec<LedgerLine>, StoreError> {
        self.store.ledger(order).await
    }
    async fn ledger_totals(&self) -> Result<Vec<(String, Fen)>, StoreError> {
        self.store.ledger_totals().await
    }
    async fn evidence_open(&self, limit: usize) -> Result<Vec<EvidenceRow>, StoreError> {
        self.store.evidence_open(limit).await
    }
    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        self.store.audit(after, limit).await
    }
    async fn setting(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.store.setting(name).await
    }
    async fn count_by_status(&self) -> Result<Vec<(Status, u64)>, StoreError> {
        self.store.count_by_status().await
    }
    async fn ping(&self) -> Result<Timestamp, StoreError> {
        self.store.ping().await
    }
    async fn forget(&self, nonces: Timestamp, keys: Timestamp) -> Result<u64, StoreError> {
        self.store.forget(nonces, keys).await
    }
    async fn close(&self) {
        self.store.close().await;
    }
}

#[async_trait]
impl Desk for Gate {
    async fn operator(&self, name: &str) -> Result<Option<OperatorRow>, StoreError> {
        self.store.operator(name).await
    }
    async fn operators(&self) -> Result<Vec<OperatorRow>, StoreError> {
        self.store.operators().await
    }
    async fn session(&self, token: TokenHash) -> Result<Option<SessionRow>, StoreError> {
        self.store.session(token).await
    }
    async fn orders_of_transaction(
        &self,
        transaction_id: &str,
        limit: usize,
    ) -> Result<Vec<OrderId>, StoreError> {
        let orders = self.store.orders_of_transaction(transaction_id, limit);
        orders.await
    }
    async fn outbox_of(&self, order: OrderId) -> Result<Vec<OutboxEntry>, StoreError> {
        self.store.outbox_of(order).await
    }
    async fn audit_before(&self, before: u64, limit: usize) -> Result<Vec<AuditEntry>, StoreError> {
        self.store.audit_before(before, limit).await
    }
}

#[async_trait]
impl Bills for Gate {
    async fn bills_by_id(
        &self,
        merchant: MerchantId,
        bills: &[BillId],
    ) -> Result<Vec<StoredBill>, StoreError> {
        self.store.bills_by_id(merchant, bills).await
    }
    async fn bills_by_number(
        &self,
        merchant: MerchantId,
        numbers: &[String],
    ) -> Result<Vec<StoredBill>, StoreError> {
        self.store.bills_by_number(merchant, numbers).await
    }
    async fn bills(&self, filter: &BillFilter) -> Result<Vec<StoredBill>, StoreError> {
        self.store.bills(filter).await
    }
    async fn payer_link(&self, hash: TokenHash) -> Result<Option<PayerLink>, StoreError> {
        self.store.payer_link(hash).await
    }
    async fn bills_with_people(
        &self,
        after: Option<BillId>,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<BillId>, StoreError> {
        self.store.bills_with_people(after, before, limit).await
    }
}

#[async_trait]
impl Reconciliations for Gate {
    async fn captures_between(
        &self,
        account: &AccountId,
        window: Window,
        after: Option<(Timestamp, Box<str>)>,
        limit: usize,
    ) -> Result<Vec<CaptureRow>, StoreError> {
        let captures = self.store.captures_between(account, window, after, limit);
        captures.await
    }
    async fn captures_known(
        &self,
        account: &AccountId,
        transactions: Vec<Box<str>>,
    ) -> Result<Vec<CaptureRow>, StoreError> {
        self.store.captures_known(account, transactions).await
    }
    async fn refunds_between(
        &self,
        account: &AccountId,
        window: Window,
        after: Option<(Timestamp, Box<str>)>,
        limit: usize,
    ) -> Result<Vec<RefundRow>, StoreError> {
        let refunds = self.store.refunds_between(account, window, after, limit);
        refunds.await
    }
    async fn refunds_known(
        &self,
        account: &AccountId,
        numbers: Vec<Box<str>>,
    ) -> Result<Vec<RefundRow>, StoreError> {
        self.store.refunds_known(account, numbers).await
    }
    async fn reconciliation_runs(
        &self,
        account: Option<&AccountId>,
        from: Date,
        to: Date,
    ) -> Result<Vec<Run>, StoreError> {
        self.store.reconciliation_runs(account, from, to).await
    }
    async fn reconciliation_rows(&self, filter: &RowFilter) -> Result<Vec<Row>, StoreError> {
        self.store.reconciliation_rows(filter).await
    }
    async fn reconciled_elsewhere(
        &self,
        account: &AccountId,
        date: Date,
        keys: Vec<Box<str>>,
    ) -> Result<Vec<Box<str>>, StoreError> {
        self.store.reconciled_elsewhere(account, date, keys).await
    }
}

/// Writes a short body; panics inside the actor while a test says so.
#[derive(Debug, Default)]
pub struct Body {
    pub poisoned: AtomicBool,
}

impl EventBody for Body {
    fn body(&self, stored: &StoredOrder, personal: Option<&PersonalData>, told: Told) -> Vec<u8> {
        assert!(!self.poisoned.load(Ordering::SeqCst), "the test's poison");
        let name = personal.and_then(|personal| personal.name.as_deref());
        let order = &stored.order;
        format!(
            "{} {} {} v{} {} {name:?} {}",
            told.id,
            told.kind.as_str(),
            order.id,
            order.version,
            order.status().as_str(),
            told.at.as_millis()
        )
        .into_bytes()
    }
}

pub struct Bench {
    pub gate: Arc<Gate>,
    pub provider: Arc<FakeProvider>,
    pub body: Arc<Body>,
    pub clock: ManualClock,
    /// By how much the store's clock is ahead of ours, in milliseconds.
    pub ahead_ms: Arc<AtomicI64>,
    pub random: Arc<dyn Random>,
    pub sealer: Sealer,
    pub shards: Shards,
    pub orders: Orders,
    ground: Ground,
    options: Options,
}

/// Timers off (an hour), one thread, a small house.
pub fn options() -> Options {
    Options {
        shards: 4,
        threads: 2,
        mailbox: 16,
        queue: 4_096,
        sweep_ms: 3_600_000,
        idle_ms: 3_600_000,
        public_url: PUBLIC_URL.to_owned(),
        ..Options::default()
    }
}

impl Bench {
    pub fn new() -> Self {
        Self::with(options())
    }

    /// A house of its own on the embedded store, where nothing is fenced.
    pub fn with(options: Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Ahead::of(ManualClock::at(START));
        let store = embedded(folder.path(), Arc::new(clock.clone()));
        Self::over(Ground::in_folder(folder), store, clock, options)
    }

    /// The only node on this pair.
    pub async fn on(on: Pair, options: Options) -> Self {
        let ground = Ground::of(on);
        let clock = Ahead::of(ManualClock::at(START));
        let store = ground.open(Arc::new(clock.clone())).await;
        let time = Arc::new(clock.0.clone());
        let options = ground.joined(options, &store, time).await;
        Self::over(ground, store, clock, options)
    }

    fn over(ground: Ground, store: Arc<dyn Store>, clock: Ahead, options: Options) -> Self {
        let random: Arc<dyn Random> = Arc::new(enrollpay::random::SystemRandom);
        let sealing: Arc<dyn Random> = Arc::new(SeededRandom::new(7));
        let sealer = Sealer::new(&[(1, [3; 32])], &[1; 32], &[2; 32], sealing);
        let Ahead(clock, ahead_ms) = clock;
        let gate = Gate::over(store, false);
        let provider = Arc::new(FakeProvider::new());
        let body = Arc::new(Body::default());
        let parts = Parts {
            store: Arc::clone(&gate) as Arc<dyn Store>,
            providers: Providers::new([Arc::clone(&provider) as Arc<dyn Provider>]),
            sealer: sealer.clone(),
            clock: Arc::new(clock.clone()),
            random: Arc::clone(&random),
            webhook_body: Arc::clone(&body) as Arc<dyn EventBody>,
        };
        let shards = actors::start(options.clone(), parts);
        Self {
            orders: shards.orders(),
            shards,
            gate,
            provider,
            body,
            clock,
            ahead_ms,
            random,
            sealer,
            ground,
            options,
        }
    }

    /// A second house over the same store, as another node would be.
    pub fn second(&self) -> Shards {
        let parts = Parts {
            store: Arc::clone(&self.gate) as Arc<dyn Store>,
            providers: self.providers(),
            sealer: self.sealer.clone(),
            clock: Arc::new(self.clock.clone()),
            random: Arc::clone(&self.random),
            webhook_body: Arc::clone(&self.body) as Arc<dyn EventBody>,
        };
        actors::start(self.options.clone(), parts)
    }

    pub fn providers(&self) -> Providers {
        Providers::new([Arc::clone(&self.provider) as Arc<dyn Provider>])
    }

    /// Ends everything without finishing anything, and starts anew on the same store.
    pub async fn crash(self, options: Options) -> Self {
        self.gate.set(Commits::Refused);
        self.shards.stop(Duration::ZERO).await;
        self.gate.close().await;
        drop(self.gate);
        let clock = Ahead::of(self.clock);
        let store = self.ground.open(Arc::new(clock.clone())).await;
        Self::over(self.ground, store, clock, options)
    }

    /// A new order, due in a day.
    pub async fn order(&self) -> OrderId {
        let id = self.new_id();
        self.orders
            .create(new_order(id, &self.sealer))
            .await
            .unwrap();
        id
    }

    pub fn new_id(&self) -> OrderId {
        OrderId::from_ulid(self.random.ulid(START))
    }

    pub fn attempt_id(&self) -> AttemptId {
        AttemptId::from_ulid(self.random.ulid(START))
    }

    pub async fn tell(&self, id: OrderId, command: Command) -> Result<Reply, actors::OrdersError> {
        self.orders.tell(id, request(command)).await
    }

    #[track_caller]
    pub fn start(&self) -> Command {
        Command::StartAttempt {
            id: self.attempt_id(),
            wallet: None,
        }
    }

    /// An order with its first code shown, at [`START`].
    pub async fn shown(&self) -> OrderId {
        let id = self.order().await;
        let reply = self.tell(id, self.start()).await.unwrap();
        assert_eq!(reply.verdict, actors::Verdict::Applied);
        id
    }

    /// An order whose trade was made for [`STUDENT`].
    pub async fn made(&self) -> OrderId {
        let id = self.shown().await;
        self.tell(id, claim(STUDENT)).await.unwrap();
        self.tell(id, pay()).await.unwrap();
        eventually(|| async {
            let stored = self.orders.read(id).await.unwrap().unwrap();
            stored.order.version >= 5
        })
        .await;
        id
    }

    pub fn report(&self, transaction: &str, succeeded_at: Timestamp) -> CaptureReport {
        CaptureReport {
            attempt: FIRST,
            account: account(),
            application: "wx8888888888888888".into(),
            transaction_id: transaction.into(),
            amount: AMOUNT,
            currency: "CNY".into(),
            succeeded_at,
            surplus_refund: RefundId::from_ulid(self.random.ulid(START)),
        }
    }

    pub async fn stored(&self, id: OrderId) -> StoredOrder {
        self.gate.order(id).await.unwrap().unwrap()
    }

    pub async fn events(&self, id: OrderId) -> Vec<Event> {
        let timeline = self.gate.timeline(id).await.unwrap();
        timeline.into_iter().map(|entry| entry.event).collect()
    }

    /// The opened bodies of the events that wait for delivery.
    pub async fn outbox(&self) -> Vec<String> {
        let due = self
            .gate
            .outbox_due(self.clock_now(), &Owned::All, 1_000, 1_000)
            .await
            .unwrap();
        due.into_iter()
            .map(|entry| {
                let row = entry.id.to_string();
                let place = Place {
                    table: "outbox",
                    column: "body",
                    row: &row,
                };
                String::from_utf8(self.sealer.open(place, &entry.body).unwrap()).unwrap()
            })
            .collect()
    }

    pub fn clock_now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// The store's clock.
#[derive(Clone, Debug)]
struct Ahead(ManualClock, Arc<AtomicI64>);

impl Ahead {
    fn of(clock: ManualClock) -> Self {
        Self(clock, Arc::default())
    }
}

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        self.0.now().plus_ms(self.1.load(Ordering::SeqCst))
    }
}

pub fn request(command: Command) -> Request {
    let actor = match command {
        Command::Capture(_) => Actor::Provider,
        Command::Tick => Actor::Gateway,
        _ => Actor::Payer,
    };
    Request {
        command,
        actor,
        request_id: None,
        writes: Vec::new(),
    }
}

pub const fn claim(payer: PayerHash) -> Command {
    Command::Claim {
        attempt: FIRST,
        payer,
        product: Product::WechatJsapi,
    }
}

pub const fn pay() -> Command {
    Command::Pay {
        attempt: FIRST,
        payer: STUDENT,
    }
}

/// The slot of a claimant.
pub fn payer_slot(sealer: &Sealer, order: OrderId, payer: &str) -> Write {
    let row = format!("{order}/1");
    let place = Place {
        table: "personal",
        column: "payer",
        row: &row,
    };
    let text = format!(r#"{{"payer":"{payer}","address":"203.0.113.7"}}"#);
    Write::Personal {
        order,
        slot: "payer:1".to_owned(),
        sealed: sealer.seal(place, text.as_bytes()),
    }
}

pub fn new_order(id: OrderId, sealer: &Sealer) -> NewOrder {
    let row = id.to_string();
    let place = Place {
        table: "personal",
        column: "order",
        row: &row,
    };
    let personal = PersonalData {
        payer_ref: "650102".to_owned(),
        name: Some("测试考生".to_owned()),
        id_number: None,
        phone: None,
        receipt_email: None,
        display_fields: Vec::new(),
        metadata: serde_json::Map::new(),
        registrant: None,
    };
    let plain = serde_json::to_vec(&personal).unwrap();
    NewOrder {
        id,
        terms: Terms {
            merchant: MerchantId::from_ulid(Ulid(1)),
            amount: AMOUNT,
            pay_before: Some(START.plus_ms(86_400_000)),
            late_payment: LatePayment::Refund,
            mode: CodeMode::Unified,
            offers: vec![Offer {
                wallet: Wallet::Wechat,
                account: account(),
                application: "wx8888888888888888".into(),
            }],
            qr_ms: QR_MS,
        },
        snapshot: OrderSnapshot {
            merchant_order_no: format!("ZK-{}", id.ulid()),
            subject: "2021年4月自学考试报考费".to_owned(),
            items: vec![Item {
                code: None,
                name: "普通逻辑".to_owned(),
                note: None,
                amount: AMOUNT,
            }],
            purpose: None,
            payer_identity: PayerIdentity::None,
            payer_masked: MaskedPayer::default(),
            payer_index: 7,
            wallets: vec![Wallet::Wechat],
            late_grace_seconds: 0,
            return_url: None,
            hash: String::new(),
            field_hashes: Vec::new(),
            possible_duplicate: None,
            has_display_fields: false,
            bills: Vec::new(),
        },
        actor: Actor::Merchant,
        request_id: None,
        writes: vec![Write::Personal {
            order: id,
            slot: "order".to_owned(),
            sealed: sealer.seal(place, &plain),
        }],
    }
}

/// Waits for a condition, and fails where it does not come.
#[track_caller]
pub fn eventually<F, C>(condition: C) -> impl Future<Output = ()>
where
    C: Fn() -> F,
    F: Future<Output = bool>,
{
    let caller = std::panic::Location::caller();
    async move {
        let waited = tokio::time::timeout(Duration::from_secs(20), async {
            while !condition().await {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
        assert!(waited.is_ok(), "{caller}: it never came true");
    }
}
