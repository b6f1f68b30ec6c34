//! What the jobs on personal data ask of a store: which values stand under which key, which orders
//! still know their people. What they write goes the way of every write, as a [`super::Write`].

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError};
use crate::order::{AccountId, BillId, EventId, KeyId, MerchantId, OrderId, Timestamp};
use crate::sealing::{BodyDigest, Place, Sealed};

/// A store that can say where sealed values stand.
#[async_trait]
pub trait PersonalStore: Store {
    /// How many values stand under each key; kept up to date with every write, so that a start can
    /// afford to ask.
    async fn sealed_counts(&self) -> Result<Vec<SealedCount>, StoreError>;
    /// Events of the first schema whose bytes have no digest yet.
    async fn undigested(&self) -> Result<u64, StoreError>;
    /// The next page of a walk through one table: the values that are not under key `newest`, or
    /// whose digest is missing. A page is bounded by the rows looked at; it may be empty before the
    /// end.
    async fn older_values(
        &self,
        table: SealedTable,
        newest: u8,
        after: i64,
    ) -> Result<OlderValues, StoreError>;
    /// Orders made before `created_before` that still have somebody's data, by id, after `after`.
    async fn orders_with_people(
        &self,
        after: Option<OrderId>,
        created_before: Timestamp,
        limit: usize,
    ) -> Result<Vec<OrderId>, StoreError>;
    /// What an erasure has to know of an order beside its state.
    async fn people_of(&self, order: OrderId) -> Result<Option<People>, StoreError>;
    /// Notices first seen before `before` that no erasure of an order reaches: those without an
    /// order, and those that came after it. Not those that wait for people to settle them.
    async fn loose_evidence(
        &self,
        before: Timestamp,
        limit: usize,
    ) -> Result<Vec<(AccountId, String)>, StoreError>;
}

/// Where sealed values stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SealedTable {
    Personal,
    Outbox,
    Idempotency,
    Evidence,
    Bills,
    Merchants,
    MerchantKeys,
}

impl SealedTable {
    pub const ALL: [Self; 7] = [
        Self::Personal,
        Self::Outbox,
        Self::Idempotency,
        Self::Evidence,
        Self::Bills,
        Self::Merchants,
        Self::MerchantKeys,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Personal => "personal",
            Self::Outbox => "outbox",
            Self::Idempotency => "idempotency",
            Self::Evidence => "evidence",
            Self::Bills => "bills",
            Self::Merchants => "merchants",
            Self::MerchantKeys => "merchant_keys",
        }
    }
}

/// So many values of one table stand under one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedCount {
    pub table: SealedTable,
    pub key: u8,
    pub values: u64,
}

/// One page of a walk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OlderValues {
    pub values: Vec<(Cell, Sealed)>,
    /// Where the next page begins; `None` at the end of the table.
    pub next: Option<i64>,
}

/// One sealed value's place in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// A slot is called `order`, or `{kind}:{rest}`.
    Personal {
        order: OrderId,
        slot: String,
    },
    Body {
        event: EventId,
        digested: bool,
    },
    Answer {
        merchant: MerchantId,
        key: String,
    },
    Evidence {
        account: AccountId,
        reference: String,
    },
    Bill {
        bill: BillId,
    },
    WebhookSecret {
        merchant: MerchantId,
    },
    KeySecret {
        key: KeyId,
    },
}

impl Cell {
    /// Calls with the place that a value in this cell is bound to.
    pub fn with_place<T>(&self, call: impl FnOnce(Place<'_>) -> T) -> T {
        let (table, column, row) = match self {
            Self::Personal { order, slot } => {
                let (column, row) = match slot.split_once(':') {
                    None => ("order", order.to_string()),
                    Some(("payer", number)) => ("payer", format!("{order}/{number}")),
                    Some(("refund", id)) => ("refund", id.to_owned()),
                    // The only kind left.
                    Some((_, id)) => ("repair", id.to_owned()),
                };
                ("personal", column, row)
            }
            Self::Body { event, .. } => ("outbox", "body", event.to_string()),
            Self::Answer { merchant, key } => {
                ("idempotency", "answer", format!("{merchant}/{key}"))
            }
            Self::Evidence { account, reference } => {
                ("evidence", "body", format!("{account}/{reference}"))
            }
            Self::Bill { bill } => ("bills", "sealed", bill.to_string()),
            Self::WebhookSecret { merchant } => {
                ("merchants", "webhook_secret", merchant.to_string())
            }
            Self::KeySecret { key } => ("merchant_keys", "secret", key.to_string()),
        };
        call(Place {
            table,
            column,
            row: &row,
        })
    }
}

/// A value under another key. Where the cell no longer holds `was`, somebody has written to it since,
/// under the newest key: it is left alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Resealed {
    pub cell: Cell,
    pub was: Sealed,
    pub now: Sealed,
    /// For an event's body that has none yet.
    pub digest: Option<BodyDigest>,
}

/// What an erasure has to know of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct People {
    /// When anything last happened to the order.
    pub changed_at: Timestamp,
    /// An event of it is on its way to the merchant.
    pub event_pending: bool,
    /// A notice of it waits for two people to settle it.
    pub evidence_waits: bool,
    /// There is something left to erase.
    pub any: bool,
}
