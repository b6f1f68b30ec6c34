//! A gateway with bills that a test writes, and a reconciler beside it.

use std::sync::Arc;
use std::time::Duration;

use enrollpay::locks::Locks;
use enrollpay::locks::memory::MemoryLocks;
use enrollpay::order::{AccountId, Fen, OrderId, OutTradeNo, Timestamp};
use enrollpay::provider::bill::{FlowLine, LineKind, LineStanding, TradeLine};
use enrollpay::provider::{Bill, BillError, BillKind};
use enrollpay::reconcile::{Parts, Reconciler};
use enrollpay::store::reconciliation::{Field, Row, RowFilter, Run, RunBy, Side, Verdict};
use jiff::civil::Date;

use crate::api::gateway::{Gateway, ScriptedProvider};

/// The day on which the gateway starts, in Beijing.
pub const TODAY: Date = Date::constant(2026, 11, 20);
pub const AMOUNT: Fen = Fen::new(14_000);
const DAY_MS: i64 = 86_400_000;

pub fn wechat() -> AccountId {
    AccountId::new("school-wechat")
}

pub fn alipay() -> AccountId {
    AccountId::new("school-alipay")
}

pub struct Bench {
    pub gateway: Gateway,
    pub locks: Arc<MemoryLocks>,
    pub reconciler: Reconciler,
}

impl Bench {
    pub async fn start() -> Self {
        Self::with_lease(Duration::from_mins(1)).await
    }

    pub async fn with_lease(lease: Duration) -> Self {
        let gateway = Gateway::start().await;
        let locks = Arc::new(MemoryLocks::new());
        let reconciler = Reconciler::new(Parts {
            store: gateway.store.clone(),
            providers: gateway.deps.providers.clone(),
            orders: gateway.deps.orders.clone(),
            locks: Arc::clone(&locks) as Arc<dyn Locks>,
            clock: Arc::clone(&gateway.deps.clock),
            random: Arc::clone(&gateway.deps.random),
            lease,
        });
        Self {
            gateway,
            locks,
            reconciler,
        }
    }

    /// The day after, at this Beijing hour.
    pub fn tomorrow_at(&self, hour: i64) {
        let midnight = enrollpay::provider::beijing::midnight(TODAY);
        let at = midnight.plus_ms(DAY_MS + hour * 3_600_000);
        self.gateway.clock.set(at);
    }

    /// An order whose trade is made: its number.
    pub async fn asked(&self, number: &str) -> OutTradeNo {
        let order = self.gateway.order(number).await;
        let path = format!("/v1/orders/{order}/attempts");
        let started = self.gateway.post(&path, &serde_json::Value::Null).await;
        assert_eq!(started.status, 201, "{}", started.body);
        let attempt = self.gateway.scan(order).await;
        OutTradeNo { order, attempt }
    }

    /// An order that is paid: its number and its transaction.
    pub async fn paid(&self, number: &str) -> (OutTradeNo, String) {
        let asked = self.asked(number).await;
        let transaction = format!("42{}", asked.order.ulid());
        self.gateway
            .capture(asked.order, asked.attempt, &transaction)
            .await;
        (asked, transaction)
    }

    pub fn bill(&self, lines: Vec<TradeLine>) {
        give(
            &self.gateway.wechat,
            BillKind::Trades,
            Ok(Bill::Trades(lines)),
        );
    }

    pub fn flows(&self, flows: Vec<FlowLine>) {
        give(
            &self.gateway.wechat,
            BillKind::Flows,
            Ok(Bill::Flows(flows)),
        );
    }

    pub fn no_bill(&self, error: BillError) {
        give(&self.gateway.wechat, BillKind::Trades, Err(error));
    }

    pub async fn run(&self) -> Run {
        let run = self.reconciler.run(&wechat(), TODAY, RunBy::Operator).await;
        run.unwrap()
    }

    pub async fn rows(&self, run: &Run) -> Vec<Row> {
        let filter = RowFilter {
            account: run.account.clone(),
            date: run.date,
            run: run.run,
            merchant: None,
            verdict: None,
            after: 0,
            limit: 1_000,
        };
        self.gateway
            .store
            .reconciliation_rows(&filter)
            .await
            .unwrap()
    }

    /// The timeline of an order: type and request id of each event.
    pub async fn told(&self, order: OrderId) -> Vec<String> {
        let timeline = self.gateway.store.timeline(order).await.unwrap();
        timeline
            .into_iter()
            .map(|entry| {
                let event = serde_json::to_value(&entry.event).unwrap();
                let kind = event["type"].as_str().unwrap_or_default().to_owned();
                format!("{kind} {}", entry.request_id.unwrap_or_default())
            })
            .collect()
    }

    /// Kinds of the webhook events that wait for delivery.
    pub async fn webhooks(&self, order: OrderId) -> Vec<&'static str> {
        let entries = self.gateway.store.outbox_undelivered(true, 1_000).await;
        let entries = entries.unwrap().into_iter();
        entries
            .filter(|entry| entry.order == order)
            .map(|entry| entry.kind.as_str())
            .collect()
    }
}

pub fn give(provider: &ScriptedProvider, kind: BillKind, bill: Result<Bill, BillError>) {
    provider.bills.lock().unwrap().insert(kind, bill);
}

/// A payment on the bill.
pub fn payment(line: u32, number: &str, transaction: &str, at: Timestamp) -> TradeLine {
    TradeLine {
        line,
        kind: LineKind::Payment,
        out_trade_no: number.into(),
        transaction_id: transaction.into(),
        application: Some("app-school-wechat".into()),
        amount: AMOUNT,
        currency: "CNY".into(),
        at,
        standing: LineStanding::Succeeded,
        refund_no: None,
        fee: Fen::new(84),
    }
}

pub fn refund(
    line: u32,
    number: &str,
    transaction: &str,
    refund_no: &str,
    amount: i64,
    at: Timestamp,
) -> TradeLine {
    TradeLine {
        kind: LineKind::Refund,
        refund_no: Some(refund_no.into()),
        amount: Fen::new(amount),
        fee: Fen::ZERO,
        ..payment(line, number, transaction, at)
    }
}

/// Verdict, field, whether it was repaired, and both amounts.
pub fn seen(
    row: &Row,
) -> (
    Verdict,
    Option<&'static str>,
    bool,
    Option<i64>,
    Option<i64>,
) {
    let amount = |side: &Option<Side>| side.as_ref().map(|side| side.amount.get());
    (
        row.verdict,
        row.field.map(Field::as_str),
        row.repaired,
        amount(&row.ours),
        amount(&row.theirs),
    )
}
