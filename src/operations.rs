//! What operators do: the same functions, whether the command reaches a running node over its socket
//! or opens the store itself.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::Clock;
use crate::order::{AccountId, EventId, KeyId, MerchantId, Timestamp};
use crate::random::Random;
use crate::reconcile::{ReconcileError, Reconciler};
use crate::sealing::{Place, Sealed, Sealer};
use crate::store::reconciliation::{Run, RunBy};
use crate::store::{
    DeliveryState, DuplicatePolicy, Merchant, MerchantKey, OutboxEntry, Store, StoreError,
    Transaction, WebhookSecret, Write,
};

/// One order of an operator. Over the socket it travels as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "snake_case", deny_unknown_fields)]
pub enum Operation {
    MerchantCreate {
        name: String,
        webhook_url: Option<String>,
        /// `wechat=ID`, `alipay=ID`.
        accounts: Vec<String>,
    },
    MerchantSet {
        merchant: String,
        #[serde(default)]
        changes: MerchantChanges,
    },
    MerchantList,
    MerchantRotateKey {
        merchant: String,
        overlap_seconds: i64,
    },
    EventList {
        /// Parked ones only, or pending ones too.
        all: bool,
    },
    EventResend {
        event: String,
    },
    /// Compares the provider's bill of one day with our books.
    Reconcile {
        account: String,
        date: String,
    },
}

/// What `merchant set` may change; what is absent stays.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MerchantChanges {
    pub display_name: Option<String>,
    pub help_payment: Option<String>,
    pub help_fee: Option<String>,
    pub webhook_url: Option<String>,
    pub return_hosts: Option<Vec<String>>,
    pub duplicate: Option<String>,
}

/// Why an operation was not done; nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    #[error("{what}: found {found}, expected {expected}")]
    Wrong {
        what: &'static str,
        found: String,
        expected: String,
    },
    #[error("no {what} {id}")]
    NotFound { what: &'static str, id: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store refused: {0}")]
    Refused(String),
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    /// It takes what only a running node has.
    #[error("this needs the running node: start it with `enrollpay serve`")]
    NeedsNode,
}

/// Checks an address that webhooks would go to; says what is expected where it does not fit.
pub type WebhookUrlCheck =
    Arc<dyn Fn(String) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Everything an operation needs.
#[derive(Clone)]
pub struct Operations {
    pub store: Arc<dyn Store>,
    pub sealer: Sealer,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    /// The configured accounts and the wallet of each.
    pub accounts: Vec<(AccountId, crate::order::Wallet)>,
    pub check_webhook_url: WebhookUrlCheck,
    /// Within a running node only: it takes providers and orders.
    pub reconciler: Option<Reconciler>,
}

impl fmt::Debug for Operations {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Operations").finish_non_exhaustive()
    }
}

impl Operations {
    pub async fn run(&self, operation: Operation) -> Result<Value, OperationError> {
        match operation {
            Operation::MerchantCreate {
                name,
                webhook_url,
                accounts,
            } => self.merchant_create(name, webhook_url, &accounts).await,
            Operation::MerchantSet { merchant, changes } => {
                self.merchant_set(&merchant, changes).await
            }
            Operation::MerchantList => self.merchant_list().await,
            Operation::MerchantRotateKey {
                merchant,
                overlap_seconds,
            } => self.rotate_key(&merchant, overlap_seconds).await,
            Operation::EventList { all } => self.event_list(all).await,
            Operation::EventResend { event } => self.event_resend(&event).await,
            Operation::Reconcile { account, date } => self.reconcile(&account, &date).await,
        }
    }

    async fn merchant_create(
        &self,
        name: String,
        webhook_url: Option<String>,
        accounts: &[String],
    ) -> Result<Value, OperationError> {
        let name = name.trim().to_owned();
        if name.is_empty() || name.chars().count() > 100 {
            return Err(wrong("--name", &name, "1 to 100 characters"));
        }
        if let Some(url) = &webhook_url {
            self.check_url(url).await?;
        }
        let mut chosen: Vec<(AccountId, crate::order::Wallet)> = Vec::new();
        for text in accounts {
            let known = self.account(text)?;
            if chosen.iter().any(|(_, wallet)| *wallet == known.1) {
                return Err(wrong("--account", text, "at most one account per wallet"));
            }
            chosen.push(known);
        }
        if chosen.is_empty() {
            return Err(wrong(
                "--account",
                "none",
                "at least one of wechat=ID and alipay=ID",
            ));
        }
        let now = self.clock.now();
        let id = MerchantId::from_ulid(self.random.ulid(now));
        let (key, secret) = self.new_key(id, now);
        let webhook_secret = format!("whsec_{}", STANDARD.encode(self.random.bytes::<32>()));
        let sealed = self.sealer.seal(
            webhook_secret_place(&id.to_string()),
            webhook_secret.as_bytes(),
        );
        let merchant = Merchant {
            id,
            display_name: name.clone(),
            name,
            help_lines: [None, None],
            webhook_url,
            webhook_secrets: vec![WebhookSecret {
                sealed,
                until: None,
            }],
            return_hosts: Vec::new(),
            duplicate: DuplicatePolicy::Warn,
            accounts: chosen.into_iter().map(|(account, _)| account).collect(),
            created_at: now,
        };
        let key_id = key.id;
        self.write(vec![Write::Merchant(merchant), Write::MerchantKey(key)])
            .await?;
        Ok(json!({
            "merchant_id": id,
            "key_id": key_id,
            "secret": secret,
            "webhook_secret": webhook_secret,
        }))
    }

    async fn merchant_set(
        &self,
        merchant: &str,
        changes: MerchantChanges,
    ) -> Result<Value, OperationError> {
        let mut merchant = self.merchant(merchant).await?;
        let text = |value: Option<String>| value.filter(|text| !text.trim().is_empty());
        if let Some(display_name) = changes.display_name {
            merchant.display_name = display_name;
        }
        if changes.help_payment.is_some() {
            merchant.help_lines[0] = text(changes.help_payment);
        }
        if changes.help_fee.is_some() {
            merchant.help_lines[1] = text(changes.help_fee);
        }
        if changes.webhook_url.is_some() {
            merchant.webhook_url = text(changes.webhook_url);
            if let Some(url) = &merchant.webhook_url {
                self.check_url(url).await?;
            }
        }
        if let Some(hosts) = changes.return_hosts {
            merchant.return_hosts = hosts;
        }
        if let Some(policy) = changes.duplicate {
            merchant.duplicate = match policy.as_str() {
                "warn" => DuplicatePolicy::Warn,
                "refuse" => DuplicatePolicy::Refuse,
                other => return Err(wrong("duplicate", other, "warn or refuse")),
            };
        }
        let view = merchant_json(&merchant);
        self.write(vec![Write::Merchant(merchant)]).await?;
        Ok(view)
    }

    async fn merchant_list(&self) -> Result<Value, OperationError> {
        let merchants = self.store.merchants().await?;
        Ok(Value::Array(merchants.iter().map(merchant_json).collect()))
    }

    async fn rotate_key(
        &self,
        merchant: &str,
        overlap_seconds: i64,
    ) -> Result<Value, OperationError> {
        if !(0..=90 * 86_400).contains(&overlap_seconds) {
            return Err(wrong(
                "--overlap-seconds",
                &overlap_seconds.to_string(),
                "0 to 7776000 (90 days)",
            ));
        }
        let merchant = self.merchant(merchant).await?;
        let now = self.clock.now();
        let until = now.plus_ms(overlap_seconds * 1000);
        let mut writes = Vec::new();
        for mut old in self.store.keys_of(merchant.id).await? {
            if old.valid_until.is_none_or(|end| end > until) {
                old.valid_until = Some(until);
                writes.push(Write::MerchantKey(old));
            }
        }
        let (key, secret) = self.new_key(merchant.id, now);
        let key_id = key.id;
        writes.push(Write::MerchantKey(key));
        self.write(writes).await?;
        Ok(json!({ "merchant_id": merchant.id, "key_id": key_id, "secret": secret }))
    }

    async fn event_list(&self, all: bool) -> Result<Value, OperationError> {
        let events = self.store.outbox_undelivered(all, 1000).await?;
        Ok(Value::Array(events.iter().map(event_json).collect()))
    }

    /// Sends a delivered or parked event again: the same id and bytes.
    async fn event_resend(&self, event: &str) -> Result<Value, OperationError> {
        let not_found = || OperationError::NotFound {
            what: "event",
            id: event.to_owned(),
        };
        let id: EventId = event.parse().map_err(|_| not_found())?;
        let entry = self.store.outbox_event(id).await?.ok_or_else(not_found)?;
        let now = self.clock.now();
        self.write(vec![Write::Delivery {
            event: id,
            state: DeliveryState::Pending,
            tries: 0,
            next_at: Some(now),
            note: "resend asked for by an operator".to_owned(),
            at: now,
        }])
        .await?;
        Ok(event_json(&OutboxEntry {
            state: DeliveryState::Pending,
            ..entry
        }))
    }

    async fn reconcile(&self, account: &str, date: &str) -> Result<Value, OperationError> {
        let reconciler = self.reconciler.clone().ok_or(OperationError::NeedsNode)?;
        let account = AccountId::new(account);
        let date = date
            .parse()
            .map_err(|_| wrong("--date", date, "a day such as 2026-11-19"))?;
        // It goes on where whoever asked has gone.
        let run =
            tokio::spawn(async move { reconciler.run(&account, date, RunBy::Operator).await })
                .await
                .map_err(|_| OperationError::Refused("the run broke off".to_owned()))??;
        Ok(run_json(&run))
    }

    fn new_key(&self, merchant: MerchantId, now: Timestamp) -> (MerchantKey, String) {
        let id = KeyId::from_ulid(self.random.ulid(now));
        let secret = format!("sk_{}", URL_SAFE_NO_PAD.encode(self.random.bytes::<32>()));
        let key = MerchantKey {
            id,
            merchant,
            sealed_secret: self.seal_key(id, &secret),
            created_at: now,
            valid_until: None,
            last_used_at: None,
        };
        (key, secret)
    }

    fn seal_key(&self, id: KeyId, secret: &str) -> Sealed {
        let place = Place {
            table: "merchant_keys",
            column: "secret",
            row: &id.to_string(),
        };
        self.sealer.seal(place, secret.as_bytes())
    }

    async fn check_url(&self, url: &str) -> Result<(), OperationError> {
        (self.check_webhook_url)(url.to_owned())
            .await
            .map_err(|why| wrong("webhook_url", url, &why))
    }

    fn account(&self, text: &str) -> Result<(AccountId, crate::order::Wallet), OperationError> {
        let known = text.split_once('=').and_then(|(wallet, id)| {
            self.accounts
                .iter()
                .find(|(account, own)| own.as_str() == wallet && account.as_str() == id)
        });
        known.cloned().ok_or_else(|| {
            let configured: Vec<String> = self
                .accounts
                .iter()
                .map(|(account, wallet)| format!("{}={account}", wallet.as_str()))
                .collect();
            wrong(
                "--account",
                text,
                &format!("one of {}", configured.join(", ")),
            )
        })
    }

    async fn merchant(&self, id: &str) -> Result<Merchant, OperationError> {
        let not_found = || OperationError::NotFound {
            what: "merchant",
            id: id.to_owned(),
        };
        let parsed: MerchantId = id.parse().map_err(|_| not_found())?;
        self.store.merchant(parsed).await?.ok_or_else(not_found)
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), OperationError> {
        let transaction = Transaction {
            order: None,
            writes,
        };
        for outcome in self.store.commit(vec![transaction]).await? {
            outcome.map_err(|rejection| OperationError::Refused(rejection.to_string()))?;
        }
        Ok(())
    }
}

fn webhook_secret_place(merchant: &str) -> Place<'_> {
    Place {
        table: "merchants",
        column: "webhook_secret",
        row: merchant,
    }
}

fn wrong(what: &'static str, found: &str, expected: &str) -> OperationError {
    OperationError::Wrong {
        what,
        found: found.to_owned(),
        expected: expected.to_owned(),
    }
}

fn merchant_json(merchant: &Merchant) -> Value {
    json!({
        "merchant_id": merchant.id,
        "name": merchant.name,
        "display_name": merchant.display_name,
        "help_payment": merchant.help_lines[0],
        "help_fee": merchant.help_lines[1],
        "webhook_url": merchant.webhook_url,
        "return_hosts": merchant.return_hosts,
        "duplicate": merchant.duplicate,
        "accounts": merchant.accounts,
    })
}

fn event_json(event: &OutboxEntry) -> Value {
    json!({
        "event_id": event.id,
        "type": event.kind,
        "merchant_id": event.merchant,
        "order_id": event.order,
        "version": event.version,
        "state": event.state,
        "tries": event.tries,
        "note": event.note,
    })
}

/// What a run came to; the rows are to be had through the API.
fn run_json(run: &Run) -> Value {
    let total = run.total();
    json!({
        "account": run.account,
        "date": run.date.to_string(),
        "run": run.run,
        "state": run.state,
        "why": run.why,
        "matched": total.matched,
        "repaired": total.repaired,
        "only_here": total.only_here,
        "only_there": total.only_there,
        "different": total.different,
        "payments_here": total.payments_here,
        "payments_there": total.payments_there,
        "refunds_here": total.refunds_here,
        "refunds_there": total.refunds_there,
        "fees_there": total.fees_there,
        "flows": run.flows,
    })
}
