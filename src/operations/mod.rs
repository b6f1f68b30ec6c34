//! What operators do: the same functions, whether the command reaches a running node over its socket
//! or opens the store itself. Every change is written down with its operator, in the same transaction.

mod captures;
mod events;
mod find;
mod ledger;
mod logins;
mod merchants;
mod operator;
mod personal;
mod reconcile;
mod refunds;

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::actors::{Orders, OrdersError, Reply, Request, Verdict};
use crate::clock::Clock;
use crate::order::{AccountId, Command, EventId, OrderId, Refusal, SettleBy, Timestamp};
use crate::random::Random;
use crate::reconcile::{ReconcileError, Reconciler};
use crate::retention::erase::Erase;
use crate::retention::reseal::Reseal;
use crate::sealing::Sealer;
use crate::store::{Actor, AuditEntry, Store, StoreError, Transaction, Write};
use crate::view::write_time;

pub use logins::{Login, prepare as prepare_logins};
pub use operator::Operator;
pub use refunds::{Destination, Hidden};

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
    /// Gives up for now what is still being tried.
    EventPark {
        event: String,
    },
    /// Makes parked events pending again.
    EventRelease {
        released: Released,
    },
    CaptureList,
    /// One of two people's word on money that fits nothing.
    CaptureSettle {
        odd: OddCapture,
        by: SettleBy,
    },
    RefundList,
    RefundRetry {
        order: String,
        refund: String,
    },
    RefundRepair {
        order: String,
        refund: String,
        to: Destination,
    },
    /// What each book holds, or one order's lines.
    Ledger {
        order: Option<String>,
    },
    /// Compares the provider's bill of one day with our books.
    Reconcile {
        account: String,
        date: String,
    },
    /// Someone who may log in to the console; without a password one is made and answered, once.
    OperatorCreate {
        name: String,
        password: Option<Hidden>,
    },
    OperatorList,
    /// Ends every session of theirs, as `OperatorSetPassword` does.
    OperatorDisable {
        name: String,
    },
    /// Lets a disabled one in again, with this password.
    OperatorSetPassword {
        name: String,
        password: Option<Hidden>,
    },
    PersonalStatus,
    PersonalReencrypt,
    /// Of one order, or of all orders of a merchant's payer.
    PersonalErase {
        order: Option<String>,
        payer_ref: Option<String>,
        merchant: Option<String>,
    },
}

/// Which parked events.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Released {
    Event(String),
    /// All of a merchant's.
    Merchant(String),
}

/// Which odd capture.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OddCapture {
    /// Money of an order that does not fit its trade; `mismatch` as `capture list` numbers it.
    Order { order: String, mismatch: u16 },
    /// A notice that fits no order.
    Evidence { account: String, reference: String },
}

impl Operation {
    /// As it is typed.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::MerchantCreate { .. } => "merchant create",
            Self::MerchantSet { .. } => "merchant set",
            Self::MerchantList => "merchant list",
            Self::MerchantRotateKey { .. } => "merchant rotate-key",
            Self::EventList { .. } => "event list",
            Self::EventResend { .. } => "event resend",
            Self::EventPark { .. } => "event park",
            Self::EventRelease { .. } => "event release",
            Self::CaptureList => "capture list",
            Self::CaptureSettle { .. } => "capture settle",
            Self::RefundList => "refund list",
            Self::RefundRetry { .. } => "refund retry",
            Self::RefundRepair { .. } => "refund repair",
            Self::Ledger { .. } => "ledger",
            Self::Reconcile { .. } => "reconcile",
            Self::OperatorCreate { .. } => "operator create",
            Self::OperatorList => "operator list",
            Self::OperatorDisable { .. } => "operator disable",
            Self::OperatorSetPassword { .. } => "operator set-password",
            Self::PersonalStatus => "personal status",
            Self::PersonalReencrypt => "personal reencrypt",
            Self::PersonalErase { .. } => "personal erase",
        }
    }
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
    pub masks: Option<String>,
    #[serde(default)]
    pub payer_must_be_registrant: Option<bool>,
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
    #[error("{event} was erased together with the payer's data: it is sent no more")]
    Erased { event: EventId },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store refused: {0}")]
    Refused(String),
    #[error(transparent)]
    Reconcile(#[from] ReconcileError),
    /// By the order's state.
    #[error("{0}")]
    State(&'static str),
    #[error("only a running node can do this: start `enrollpay serve` first")]
    NoNode,
    #[error("the order gave no answer: {0}")]
    Unanswered(String),
}

/// Checks an address that webhooks would go to; says what is expected where it does not fit.
pub type WebhookUrlCheck =
    Arc<dyn Fn(String) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Everything an operation needs.
#[derive(Clone)]
pub struct Operations {
    pub store: Arc<dyn Store>,
    /// Of the running node; `None` where the command has opened the store itself.
    pub orders: Option<Orders>,
    /// The same: it takes providers and orders.
    pub reconciler: Option<Reconciler>,
    pub reseal: Arc<Reseal>,
    pub erase: Erase,
    pub sealer: Sealer,
    pub clock: Arc<dyn Clock>,
    pub random: Arc<dyn Random>,
    /// The configured accounts and the wallet of each.
    pub accounts: Vec<(AccountId, crate::order::Wallet)>,
    pub check_webhook_url: WebhookUrlCheck,
    /// In which zone times are written: minutes east of UTC.
    pub zone_minutes: i32,
}

impl fmt::Debug for Operations {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Operations").finish_non_exhaustive()
    }
}

impl Operations {
    pub async fn run(&self, by: &Operator, operation: Operation) -> Result<Value, OperationError> {
        match operation {
            Operation::MerchantCreate {
                name,
                webhook_url,
                accounts,
            } => self.merchant_create(by, name, webhook_url, &accounts).await,
            Operation::MerchantSet { merchant, changes } => {
                self.merchant_set(by, &merchant, changes).await
            }
            Operation::MerchantList => self.merchant_list().await,
            Operation::MerchantRotateKey {
                merchant,
                overlap_seconds,
            } => self.rotate_key(by, &merchant, overlap_seconds).await,
            Operation::EventList { all } => self.event_list(all).await,
            Operation::EventResend { event } => self.event_resend(by, &event).await,
            Operation::EventPark { event } => self.event_park(by, &event).await,
            Operation::EventRelease { released } => match released {
                Released::Event(event) => self.event_release(by, &event).await,
                Released::Merchant(merchant) => self.events_release(by, &merchant).await,
            },
            Operation::CaptureList => self.capture_list().await,
            Operation::CaptureSettle { odd, by: way } => match odd {
                OddCapture::Order { order, mismatch } => {
                    self.mismatch_settle(by, &order, mismatch, way).await
                }
                OddCapture::Evidence { account, reference } => {
                    self.evidence_settle(by, &account, &reference, way).await
                }
            },
            Operation::RefundList => self.refund_list().await,
            Operation::RefundRetry { order, refund } => {
                self.refund_retry(by, &order, &refund).await
            }
            Operation::RefundRepair { order, refund, to } => {
                self.refund_repair(by, &order, &refund, to).await
            }
            Operation::Ledger { order } => self.ledger(order.as_deref()).await,
            Operation::Reconcile { account, date } => self.reconcile(by, &account, &date).await,
            Operation::OperatorCreate { name, password } => {
                self.operator_create(by, &name, password).await
            }
            Operation::OperatorList => self.operator_list().await,
            Operation::OperatorDisable { name } => self.operator_disable(by, &name).await,
            Operation::OperatorSetPassword { name, password } => {
                self.operator_set_password(by, &name, password).await
            }
            Operation::PersonalStatus => self.personal_status().await,
            Operation::PersonalReencrypt => self.personal_reencrypt(by).await,
            Operation::PersonalErase {
                order,
                payer_ref,
                merchant,
            } => self.personal_erase(by, order, payer_ref, merchant).await,
        }
    }

    /// Has an order decide an operator's command. What changes is written down with it; what was
    /// refused, afterwards.
    async fn tell(
        &self,
        by: &Operator,
        act: Act<'_>,
        command: Command,
        mut writes: Vec<Write>,
    ) -> Result<Reply, OperationError> {
        let orders = self.orders.as_ref().ok_or(OperationError::NoNode)?;
        // The same number in the order's timeline and in the log.
        let number = format!("op_{}", self.random.ulid(self.clock.now()));
        writes.push(self.audit(by, act.action, act.target, &format!("done, {number}")));
        let request = Request {
            command,
            actor: Actor::Operator,
            request_id: Some(number),
            writes,
        };
        let reply = orders
            .tell(act.order, request)
            .await
            .map_err(|error| match error {
                OrdersError::NotFound => not_found("order", &act.order.to_string()),
                OrdersError::Store(error) => OperationError::Store(error),
                other => OperationError::Unanswered(other.to_string()),
            })?;
        let outcome = match &reply.verdict {
            Verdict::Applied => return Ok(reply),
            Verdict::Already(_) => "nothing had to change",
            Verdict::Refused(refusal) => refused(refusal),
        };
        self.write(vec![self.audit(by, act.action, act.target, outcome)])
            .await?;
        match reply.verdict {
            Verdict::Refused(_) => Err(OperationError::State(outcome)),
            _ => Ok(reply),
        }
    }

    fn audit(&self, by: &Operator, action: &str, target: &str, outcome: &str) -> Write {
        let now = self.clock.now();
        Write::Audit(AuditEntry::new(now, by.identity(), action, target, outcome))
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

    fn time(&self, at: Timestamp) -> String {
        write_time(at, self.zone_minutes)
    }
}

/// What is done, to which order.
#[derive(Clone, Copy)]
struct Act<'a> {
    action: &'a str,
    target: &'a str,
    order: OrderId,
}

/// What operators' commands are refused for.
const fn refused(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::UnknownRefund => "the order has no such refund",
        Refusal::RefundStands => "the refund is over, or in no state that this could help",
        Refusal::TooManyRefunds => "the refund has begun anew as often as it can",
        Refusal::UnknownMismatch => "the order has no such odd capture: see `capture list`",
        Refusal::MismatchSettled => "the odd capture is settled, or about to be",
        Refusal::OtherProposal => {
            "another person has proposed otherwise: the second must want the same as the first"
        }
        Refusal::CannotGoBack => {
            "money in another currency or of an unknown account cannot go back by itself: settle it outside"
        }
        _ => "the order's state does not allow it",
    }
}

fn wrong(what: &'static str, found: &str, expected: &str) -> OperationError {
    OperationError::Wrong {
        what,
        found: found.to_owned(),
        expected: expected.to_owned(),
    }
}

fn not_found(what: &'static str, id: &str) -> OperationError {
    OperationError::NotFound {
        what,
        id: id.to_owned(),
    }
}

/// Reads an id that somebody typed; one that cannot be is one that does not exist.
fn id<T: std::str::FromStr>(what: &'static str, text: &str) -> Result<T, OperationError> {
    text.parse().map_err(|_| not_found(what, text))
}
