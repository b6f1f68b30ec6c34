//! The heart: what an order is and what may happen to it. It imports nothing of ours, does no I/O,
//! reads no clock and throws no dice: `(state, command, now)` → events and effects.
//!
//! ```text
//!                 start                claim                 pay
//!   unpaid ─────────────► shown ─────────────► scanned ─────────────► trade made
//!     ▲                     │ time is up         │ time is up, superseded,  │
//!     │                     │ (no trade)         │ cancelled, released      │
//!     │   expired,          ▼                    ▼                          ▼
//!     └── cancelled ◄── at once             closing ◄──────────────────────┘
//!         failed                    query, close, query: the provider's last word
//!
//!   a capture, whenever it is heard: the order still owes it → succeeded, paid
//!                                    it does not             → surplus, refunded whole, once
//! ```
//!
//! Read [`state::Order`], then [`decide::decide`]; `evolve` replays events; `invariants` says what
//! must always hold, and is called by the property tests, the model and production alike.

pub mod attempt;
pub mod command;
pub mod decide;
pub mod effect;
pub mod event;
pub mod evolve;
pub mod ids;
pub mod invariants;
pub mod ledger;
pub mod money;
pub mod refunds;
pub mod state;
pub mod terms;
pub mod time;

pub use attempt::{Attempt, Claim, PayerHash, Phase, Trade, TradeStanding};
pub use command::{CaptureReport, CloseAnswer, Command, QueryAnswer, RefundAnswer, TradeAnswer};
pub use decide::decide;
pub use effect::{Answer, Effect, Outcome, Refusal};
pub use event::{Event, WebhookType};
pub use evolve::evolve;
pub use ids::{
    AccountId, AttemptId, AttemptNumber, BillId, EventId, KeyId, MerchantId, OrderId, OutTradeNo,
    RefundId,
};
pub use money::Fen;
pub use refunds::{ForeignRefund, Refund, RefundCause, RefundOf, RefundStanding};
pub use state::{
    Capture, CloseReason, FiscalReceipt, Mismatch, OperatorHash, Order, SettleBy, Settlement,
    Status,
};
pub use terms::{CodeMode, LatePayment, Offer, Product, Terms, Wallet};
pub use time::Timestamp;
