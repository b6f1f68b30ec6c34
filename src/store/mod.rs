//! Where orders live. One [`Store`] trait, one suite of tests (`tests/it/store.rs`) that every
//! implementation passes. The store has the last word: versions, uniqueness and its own clock decide.

mod audit;
pub mod bills;
mod books;
pub mod desk;
mod ownership;
pub mod personal;
pub mod postgres;
pub mod reconciliation;
mod records;
mod rows;
pub mod sqlite;
mod step;
mod wire;

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::order::{
    AccountId, AttemptNumber, BillId, Event, EventId, Fen, KeyId, MerchantId, OperatorHash, Order,
    OrderId, RefundId, Status, Timestamp, WebhookType,
};
use crate::sealing::{BodyDigest, Sealed, TokenHash, TokenKind};

pub use audit::{AuditBroken, AuditEntry, CHAIN_START, verify_audit, verify_chain};
pub use bills::{Bill, BillRef, Bills, PayerLink};
pub use books::{LedgerLine, RefundRow, RefundStatus};
pub use desk::Desk;
pub use ownership::{InstanceRow, Owned, ShardRow, shard_hash, shard_of};
pub use reconciliation::Reconciliations;

/// Durable state. All calls are safe to repeat: what a commit already did, it refuses to do again.
#[async_trait]
pub trait Store: Reconciliations + Bills + Desk + Send + Sync + fmt::Debug {
    /// Commits the transactions in one flush. Each stands or falls alone: a rejected one leaves no
    /// trace and does not disturb its neighbours. When this returns `Ok`, what was accepted survives
    /// kill -9 and power loss (A1).
    async fn commit(
        &self,
        transactions: Vec<Transaction>,
    ) -> Result<Vec<Result<(), Rejection>>, StoreError>;

    async fn order(&self, id: OrderId) -> Result<Option<StoredOrder>, StoreError>;
    /// The same for whoever has a fact to record: no load of others may keep it waiting (F15).
    async fn order_for_fact(&self, id: OrderId) -> Result<Option<StoredOrder>, StoreError> {
        self.order(id).await
    }
    async fn order_by_number(
        &self,
        merchant: MerchantId,
        merchant_order_no: &str,
    ) -> Result<Option<StoredOrder>, StoreError>;
    /// Newest first, at most `limit`; one merchant's only.
    async fn orders(&self, filter: &OrderFilter) -> Result<Vec<StoredOrder>, StoreError>;
    /// Another order of this merchant, paid, for the same payer and purpose (`possible_duplicate`).
    async fn paid_order_for(
        &self,
        merchant: MerchantId,
        payer_index: u128,
        purpose: &str,
    ) -> Result<Option<OrderId>, StoreError>;
    /// Orders of these shards whose `next_due_at` is at or before `until`, the longest overdue first.
    async fn due(
        &self,
        until: Timestamp,
        owned: &Owned,
        limit: usize,
    ) -> Result<Vec<OrderId>, StoreError>;
    /// The versions at which these orders stand; one that does not exist is left out. In no order.
    async fn versions(&self, orders: &[OrderId]) -> Result<Vec<(OrderId, u64)>, StoreError>;
    /// Everything that happened to an order, oldest first.
    async fn timeline(&self, order: OrderId) -> Result<Vec<TimelineEntry>, StoreError>;
    async fn personal(&self, order: OrderId, slot: &str) -> Result<Option<Sealed>, StoreError>;
    /// The same for the events that a fact brings about.
    async fn personal_for_fact(
        &self,
        order: OrderId,
        slot: &str,
    ) -> Result<Option<Sealed>, StoreError> {
        self.personal(order, slot).await
    }
    async fn token(
        &self,
        kind: TokenKind,
        hash: TokenHash,
    ) -> Result<Option<TokenTarget>, StoreError>;

    async fn merchant(&self, id: MerchantId) -> Result<Option<Merchant>, StoreError>;
    async fn merchants(&self) -> Result<Vec<Merchant>, StoreError>;
    async fn key(&self, id: KeyId) -> Result<Option<MerchantKey>, StoreError>;
    /// Every key of a merchant, ended ones too.
    async fn keys_of(&self, merchant: MerchantId) -> Result<Vec<MerchantKey>, StoreError>;
    async fn idempotency(
        &self,
        merchant: MerchantId,
        key: &str,
    ) -> Result<Option<IdempotencyRow>, StoreError>;
    async fn oauth_state(&self, state_hash: TokenHash) -> Result<Option<OauthState>, StoreError>;

    /// For each order of these shards with undelivered events, its oldest one, where that is pending
    /// and due (E3: a later version waits for the earlier). At most `per_merchant` for one merchant.
    async fn outbox_due(
        &self,
        now: Timestamp,
        owned: &Owned,
        limit: usize,
        per_merchant: usize,
    ) -> Result<Vec<OutboxEntry>, StoreError>;
    async fn outbox_event(&self, id: EventId) -> Result<Option<OutboxEntry>, StoreError>;
    /// Parked events, and with `all` the pending ones too; the oldest first.
    async fn outbox_undelivered(
        &self,
        all: bool,
        limit: usize,
    ) -> Result<Vec<OutboxEntry>, StoreError>;
    /// When the next pending event is due, and when the oldest undelivered one was written.
    async fn outbox_gauge(&self) -> Result<OutboxGauge, StoreError>;
    /// One merchant's events in the order they were committed, each with its position, strictly after
    /// position `after` (0: from the first). Without `kinds`, of every kind. What is committed later
    /// never comes before a position that was given out.
    async fn events_after(
        &self,
        merchant: MerchantId,
        after: u64,
        kinds: &[WebhookType],
        limit: usize,
    ) -> Result<Vec<(u64, OutboxEntry)>, StoreError>;

    /// Refunds that are not over, and those of surplus and odd captures that failed for good; the
    /// oldest first. A round that was followed by another is not among them.
    async fn refunds_open(&self, limit: usize) -> Result<Vec<RefundRow>, StoreError>;
    /// The merchant's refund of this number, of whichever order.
    async fn refund_row(
        &self,
        merchant: MerchantId,
        merchant_refund_no: &str,
    ) -> Result<Option<RefundRow>, StoreError>;
    /// Orders with an odd capture that waits for people or for its refund, the oldest first.
    async fn odd_captures(&self, limit: usize) -> Result<Vec<OrderId>, StoreError>;
    /// What the ledger holds of one order, oldest first.
    async fn ledger(&self, order: OrderId) -> Result<Vec<LedgerLine>, StoreError>;
    /// What each book holds, by its name. Kept with every line, so that nothing need be added up.
    async fn ledger_totals(&self) -> Result<Vec<(String, Fen)>, StoreError>;

    /// Evidence of one kind for a provider number, if any was kept. Asked for a fact, as
    /// [`Self::order_for_fact`] is.
    async fn evidence(
        &self,
        account: &AccountId,
        reference: &str,
    ) -> Result<Option<EvidenceRow>, StoreError>;
    /// Evidence that somebody has to settle (see [`EvidenceRow::NOTED`]), the oldest first.
    async fn evidence_open(&self, limit: usize) -> Result<Vec<EvidenceRow>, StoreError>;

    /// What operators did, in order, after entry `after` (0: from the first).
    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<AuditEntry>, StoreError>;

    /// Every shard that was ever claimed.
    async fn shards(&self) -> Result<Vec<ShardRow>, StoreError>;
    /// Would a write under this pair be let in?
    async fn fence_stands(&self, fence: Fence) -> Result<bool, StoreError>;
    /// Every instance that has not taken its leave, dead ones too.
    async fn instances(&self) -> Result<Vec<InstanceRow>, StoreError>;

    /// A value of the store's own settings (mode, shard count, key fingerprints).
    async fn setting(&self, name: &str) -> Result<Option<String>, StoreError>;

    /// Counts by status, for gauges.
    async fn count_by_status(&self) -> Result<Vec<(Status, u64)>, StoreError>;
    /// Is it usable? The store's own clock, for the skew check of `/readyz`.
    async fn ping(&self) -> Result<Timestamp, StoreError>;
    /// Deletes nonces and OAuth states seen before `nonces_before`, idempotency rows made before
    /// `keys_before` and payers' links that ended before it. Returns how many rows went.
    async fn forget(
        &self,
        nonces_before: Timestamp,
        keys_before: Timestamp,
    ) -> Result<u64, StoreError>;
    /// Writes out what is under way and closes; later calls fail with `Unavailable`.
    async fn close(&self);
}

/// One all-or-nothing change. Every store looks for reasons to refuse it in the same order: the
/// fence, `not_after`, nonces, idempotency keys, the order's step, then the other writes as listed.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    pub order: Option<OrderWrite>,
    pub writes: Vec<Write>,
}

/// One step of one order. The store derives the rows that guard it from `events`: a row per attempt
/// (at most one live per order), per claim (one per attempt), per capture (one per account and
/// transaction, one kept per order), per refund and round (never more than was taken), per odd
/// capture; and the lines of the ledger.
#[derive(Clone, Debug)]
pub struct OrderWrite {
    /// The state after the step. Version 1 inserts; any other replaces the row at `version - 1`.
    pub order: Order,
    /// With version 1 only.
    pub snapshot: Option<OrderSnapshot>,
    pub events: Vec<TimelineEntry>,
    pub outbox: Vec<OutboxEntry>,
    pub next_due_at: Option<Timestamp>,
    /// Refused where the store's clock is at or past this (Q3: a claim decided in time may commit
    /// too late).
    pub not_after: Option<Timestamp>,
    /// Who writes: checked against the shard's row (O2).
    pub fence: Fence,
}

/// The pair that a shard's owner writes under; a fact (a capture) needs none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    None,
    Owner {
        shard: u16,
        epoch: u64,
        instance: u128,
    },
}

/// What is committed together with an order's step, or alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Write {
    /// A merchant's nonce: taken once.
    Nonce {
        key: KeyId,
        nonce: String,
        at: Timestamp,
    },
    IdempotencyStarted {
        merchant: MerchantId,
        key: String,
        request_hash: [u8; 32],
        /// Whose request it is: when that instance is dead, so is the request.
        instance: u128,
        at: Timestamp,
    },
    /// Goes on with what a dead request began. `IdempotencyKeyTaken` where the row is not as it was
    /// read: somebody else goes on with it.
    IdempotencyResumed {
        merchant: MerchantId,
        key: String,
        was: (u128, Timestamp),
        instance: u128,
        at: Timestamp,
    },
    IdempotencyFinished {
        merchant: MerchantId,
        key: String,
        status: u16,
        answer: Sealed,
        /// The order that the answer shows: it is erased together with the order's people.
        order: Option<OrderId>,
    },
    /// The work did not happen, or its answer must not be kept: the key is free again.
    IdempotencyDropped {
        merchant: MerchantId,
        key: String,
    },
    Token {
        kind: TokenKind,
        hash: TokenHash,
        target: TokenTarget,
    },
    /// Inserts or replaces.
    Personal {
        order: OrderId,
        slot: String,
        sealed: Sealed,
    },
    OauthState(OauthState),
    /// Bills of one merchant, all or none. `MerchantBillNoTaken` where a number is taken.
    BillsCreated(Vec<Bill>),
    /// Puts these bills of one merchant into the order that is made in the same transaction. `BillTaken`
    /// unless each is free: not cancelled, and in no order but closed ones.
    BillsClaimed {
        merchant: MerchantId,
        order: OrderId,
        bills: Vec<BillId>,
    },
    /// Nobody is to pay it any more. `BillTaken` where an open order holds it, or one that paid it;
    /// nothing where it was cancelled before.
    BillCancelled {
        merchant: MerchantId,
        bill: BillId,
        at: Timestamp,
    },
    PayerLink(PayerLink),
    /// Forgets the payer of a bill that was never paid (`BillTaken` where an order holds it); nobody can
    /// pay it from then on. The bills that an order paid lose theirs with the order's people.
    BillErased {
        bill: BillId,
        /// Random, as an order's.
        payer_index: u128,
        at: Timestamp,
    },
    /// Binds a state to the code it was used with and to what the exchange said.
    OauthStateUsed {
        state_hash: TokenHash,
        code_hash: TokenHash,
        payer: Option<u128>,
    },
    /// A notice that is kept because it may matter and fits no order. Its standing is `Open`.
    Evidence(EvidenceRow),
    /// One person's word that evidence is settled past these books: the first one's proposes, another
    /// one's settles. The same person's again, or anybody's once it is settled, changes nothing.
    EvidenceSettled {
        account: AccountId,
        reference: String,
        operator: OperatorHash,
        at: Timestamp,
    },
    /// What an operator did; the store gives its number and its place in the chain.
    Audit(AuditEntry),
    Merchant(Merchant),
    MerchantKey(MerchantKey),
    KeyUsed {
        key: KeyId,
        at: Timestamp,
    },
    /// How a try ended, or that there is to be another. `DeliveryMoved` where the event does not stand
    /// as it did when that was decided: somebody else has tried, or an operator has spoken.
    Delivery {
        event: EventId,
        was: (DeliveryState, u16),
        state: DeliveryState,
        tries: u16,
        next_at: Option<Timestamp>,
        /// What the receiver's side did, in a few words of ours.
        note: String,
        at: Timestamp,
    },
    Setting {
        name: String,
        value: String,
    },
    /// A run of a reconciliation, or rows of its result.
    Reconciliation(reconciliation::ReconciliationWrite),
    /// Operators and their sessions.
    Desk(desk::DeskWrite),
    /// The same value under another key.
    Resealed(personal::Resealed),
    /// Forgets the people of an order that is over, if it still stands at `version`, none of its
    /// events is on its way and no evidence of it waits for people (`VersionMoved` otherwise). Order, timeline and money stay.
    PeopleErased {
        order: OrderId,
        version: u64,
        /// Random: it finds nobody, and tells nothing of whom it found before.
        payer_index: u128,
        at: Timestamp,
    },
    /// Forgets what a notice said; that it came stays.
    EvidenceErased {
        account: AccountId,
        reference: String,
    },
    /// Raises a shard's epoch for a new owner; rejected where `epoch` is not one more than the row's.
    ShardClaimed {
        shard: u16,
        epoch: u64,
        instance: u128,
        /// Nobody vouches that the present owner is gone: `ShardHeld` unless its instance has been
        /// silent for so many milliseconds by the store's clock, or took its leave.
        silent_ms: Option<i64>,
        at: Timestamp,
    },
    /// Gives a shard back; nothing where the pair is not the row's any more.
    ShardReleased {
        shard: u16,
        epoch: u64,
        instance: u128,
    },
    /// An instance takes part, for so long from now by the store's clock.
    InstanceSeen {
        instance: u128,
        node: String,
        internal_url: Option<String>,
        lease_ms: i64,
    },
    /// It takes its leave, or is forgotten.
    InstanceGone {
        instance: u128,
    },
}

/// Why one transaction was not committed. The store is as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Rejection {
    #[error("the order moved on to another version: reload it and decide again")]
    VersionMoved,
    #[error("another instance owns this shard now: stop writing for it")]
    FenceMoved,
    #[error("the store's clock is past the time by which this had to be committed")]
    TooLate,
    #[error("the merchant already has an order under this number")]
    MerchantOrderNoTaken { existing: OrderId },
    #[error("this nonce was taken before")]
    NonceReplayed { first_seen: Timestamp },
    #[error("this Idempotency-Key is taken")]
    IdempotencyKeyTaken(Box<IdempotencyRow>),
    #[error("this attempt was claimed before")]
    AlreadyClaimed,
    #[error("this transaction of the provider is already recorded")]
    CaptureKnown,
    #[error("the merchant already has a refund under this number, of another order")]
    MerchantRefundNoTaken {
        existing_order: OrderId,
        existing: RefundId,
    },
    #[error("the shard's epoch is not what it was")]
    EpochMoved { epoch: u64 },
    #[error("the shard's owner was alive a moment ago")]
    ShardHeld,
    #[error("the event does not stand as it did when this was decided")]
    DeliveryMoved,
    #[error("there is an operator of this name")]
    OperatorTaken,
    #[error("the merchant already has a bill under this number")]
    MerchantBillNoTaken { existing: BillId },
    #[error("an order has this bill, or nobody may pay it any more")]
    BillTaken { bill: BillId },
    /// A rule of the store that our own code should never meet: a bug, counted and logged.
    #[error("the store's rule {rule} refused the write")]
    RuleBroken { rule: String },
}

impl Rejection {
    /// Its name as a metric label.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::VersionMoved => "version_moved",
            Self::FenceMoved => "fence_moved",
            Self::TooLate => "too_late",
            Self::MerchantOrderNoTaken { .. } => "merchant_order_no_taken",
            Self::NonceReplayed { .. } => "nonce_replayed",
            Self::IdempotencyKeyTaken(_) => "idempotency_key_taken",
            Self::AlreadyClaimed => "already_claimed",
            Self::CaptureKnown => "capture_known",
            Self::MerchantRefundNoTaken { .. } => "merchant_refund_no_taken",
            Self::EpochMoved { .. } => "epoch_moved",
            Self::ShardHeld => "shard_held",
            Self::DeliveryMoved => "delivery_moved",
            Self::OperatorTaken => "operator_taken",
            Self::MerchantBillNoTaken { .. } => "merchant_bill_no_taken",
            Self::BillTaken { .. } => "bill_taken",
            Self::RuleBroken { .. } => "rule_broken",
        }
    }
}

/// Why a call as a whole gave no answer.
#[derive(Clone, Debug, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum StoreError {
    #[error("the store cannot be used: {why}")]
    Unavailable { why: String },
    /// A commit was sent and its answer lost: it may stand. Re-read before anything else.
    #[error("the outcome of the commit is not known: {why}")]
    OutcomeUnknown { why: String },
    #[error("row {row} of {table} is inconsistent: {why}")]
    Inconsistent {
        #[serde(deserialize_with = "wire::table")]
        table: wire::TableName,
        row: String,
        why: String,
    },
}

impl StoreError {
    /// Do we *know* that nothing was written?
    pub const fn certainly_not_written(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Inconsistent { .. })
    }
}

/// An order as the store has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StoredOrder {
    pub order: Order,
    pub snapshot: OrderSnapshot,
}

/// What the merchant asked for, beside the terms: frozen, without personal data in clear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderSnapshot {
    pub merchant_order_no: String,
    pub subject: String,
    pub items: Vec<Item>,
    pub purpose: Option<String>,
    pub payer_identity: PayerIdentity,
    /// As shown: masked.
    pub payer_masked: MaskedPayer,
    /// For `payer_ref=` look-ups: `Sealer::index("payer_ref", …)`.
    pub payer_index: u128,
    pub wallets: Vec<crate::order::Wallet>,
    pub late_grace_seconds: i64,
    pub return_url: Option<String>,
    /// An HMAC over all that was asked for, payer fields left out; shown on the page's footer.
    pub hash: String,
    /// An HMAC per field of the request, so that a conflict can name what differs without keeping it.
    /// Those of [`PERSONAL_FIELDS`] go when the payer is erased.
    pub field_hashes: Vec<(String, String)>,
    pub possible_duplicate: Option<OrderId>,
    pub has_display_fields: bool,
    /// The bills that it pays; none where it was asked for by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bills: Vec<BillRef>,
}

/// The fields of a request that say who pays, and for whom.
pub const PERSONAL_FIELDS: [&str; 10] = [
    "payer.ref",
    "payer.name",
    "payer.id_number",
    "payer.phone",
    "registrant.name",
    "registrant.id_number",
    "registrant.phone",
    "receipt_email",
    "display_fields",
    "metadata",
];

/// One line of what is paid for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    pub code: Option<String>,
    pub name: String,
    pub note: Option<String>,
    pub amount: Fen,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaskedPayer {
    pub name: Option<String>,
    pub id_number: Option<String>,
    pub phone: Option<String>,
    /// Who is registered, where the request named them. Kept here, for it goes when the payer goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registrant: Option<MaskedRegistrant>,
}

/// The person that a fee is paid for, masked as a payer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaskedRegistrant {
    pub name: Option<String>,
    pub id_number: Option<String>,
    pub phone: Option<String>,
    /// Somebody else than the payer, judged by what is behind the masks.
    pub differs: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PayerIdentity {
    None,
    Confirm,
    Provider,
}

/// The personal slot of an order: `Sealer::seal` of this as JSON, `Place { table: "personal",
/// column: "order", row: order id }`, stored under slot `"order"`. A claimant's openid or user id is
/// stored under slot `"payer:{attempt number}"`, column `"payer"`.
#[derive(Clone, Serialize, Deserialize)]
pub struct PersonalData {
    pub payer_ref: String,
    pub name: Option<String>,
    pub id_number: Option<String>,
    pub phone: Option<String>,
    pub receipt_email: Option<String>,
    pub display_fields: Vec<DisplayField>,
    pub metadata: serde_json::Map<String, serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registrant: Option<Registrant>,
}

/// The person that a fee is paid for, as the merchant named them. At least one member is there.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registrant {
    pub name: Option<String>,
    pub id_number: Option<String>,
    pub phone: Option<String>,
}

impl fmt::Debug for Registrant {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Registrant(***)")
    }
}

impl fmt::Debug for PersonalData {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PersonalData(***)")
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub struct DisplayField {
    pub label: String,
    pub value: String,
}

impl fmt::Debug for DisplayField {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("DisplayField(***)")
    }
}

/// One line of an order's history: what, when, by whom, why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineEntry {
    pub order: OrderId,
    /// The version that the commit made.
    pub version: u64,
    /// Its place within the commit.
    pub position: u16,
    pub at: Timestamp,
    pub actor: Actor,
    pub request_id: Option<String>,
    pub event: Event,
}

/// Who caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Actor {
    Merchant,
    Payer,
    Provider,
    Operator,
    /// The gateway itself: a time that came.
    Gateway,
}

/// One webhook event and how its delivery stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboxEntry {
    pub id: EventId,
    pub merchant: MerchantId,
    pub order: OrderId,
    /// The order's version that this event tells of; deliveries of one order go in this order.
    pub version: u64,
    pub kind: WebhookType,
    /// The exact bytes to deliver, every time the same (E4): `Place { table: "outbox", column:
    /// "body", row: event id }`. Erased together with the order's people.
    pub body: Sealed,
    /// What the bytes must match, whatever they are sealed under; missing in rows of the first schema
    /// until they were sealed anew.
    pub body_digest: Option<BodyDigest>,
    pub created_at: Timestamp,
    pub state: DeliveryState,
    pub tries: u16,
    pub next_at: Option<Timestamp>,
    pub note: String,
}

impl OutboxEntry {
    /// Has it delivered again, with the same id and bytes, by the whole schedule from its start.
    pub fn again(&self, now: Timestamp, note: &str) -> Write {
        Write::Delivery {
            event: self.id,
            was: (self.state, self.tries),
            state: DeliveryState::Pending,
            tries: 0,
            next_at: Some(now),
            note: note.to_owned(),
            at: now,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryState {
    Pending,
    Delivered,
    /// Given up for now; visible and resendable, never dropped (E2).
    Parked,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxGauge {
    pub pending: u64,
    pub parked: u64,
    pub oldest_pending: Option<Timestamp>,
    pub next_due: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenTarget {
    pub order: OrderId,
    pub attempt: Option<AttemptNumber>,
}

#[derive(Clone, Debug)]
pub struct OrderFilter {
    pub merchant: MerchantId,
    pub merchant_order_no: Option<String>,
    pub payer_index: Option<u128>,
    pub status: Option<Status>,
    pub created_after: Option<Timestamp>,
    /// Only orders older than this one (the cursor).
    pub before: Option<OrderId>,
    pub limit: usize,
}

/// An enrolment system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merchant {
    pub id: MerchantId,
    pub name: String,
    pub display_name: String,
    /// Whom to call: about paying, and about the fee.
    pub help_lines: [Option<String>; 2],
    pub webhook_url: Option<String>,
    /// The secrets that sign webhooks, newest first; sealed with `Place { table: "merchants", column:
    /// "webhook_secret", row: merchant id }`. Older ones stay valid until their end.
    pub webhook_secrets: Vec<WebhookSecret>,
    pub return_hosts: Vec<String>,
    pub duplicate: DuplicatePolicy,
    /// How much of a payer the orders made from now on show.
    #[serde(default)]
    pub masks: Masks,
    /// Whoever pays must be who is registered: orders in which they differ are refused.
    #[serde(default)]
    pub payer_must_be_registrant: bool,
    pub accounts: Vec<AccountId>,
    pub created_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebhookSecret {
    pub sealed: Sealed,
    pub until: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DuplicatePolicy {
    Warn,
    Refuse,
}

/// How much of a payer's number and phone is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Masks {
    /// Number 4 and 4, phone 3 and 4 characters.
    #[default]
    Standard,
    /// Number 1 and 1, phone 3 and 2.
    Strict,
}

/// A merchant's API key. `sealed_secret`: `Place { table: "merchant_keys", column: "secret", row:
/// key id }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MerchantKey {
    pub id: KeyId,
    pub merchant: MerchantId,
    pub sealed_secret: Sealed,
    pub created_at: Timestamp,
    pub valid_until: Option<Timestamp>,
    pub last_used_at: Option<Timestamp>,
}

/// `answer`: `Place { table: "idempotency", column: "answer", row: "{merchant}/{key}" }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyRow {
    pub merchant: MerchantId,
    pub key: String,
    pub request_hash: [u8; 32],
    /// Whose request began it; zero in rows of the first schemas.
    pub instance: u128,
    pub started_at: Timestamp,
    /// `None` while the first request is still running.
    pub answer: Option<(u16, Sealed)>,
}

/// One round trip to a wallet's authorisation page, for one attempt and one account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OauthState {
    pub state_hash: TokenHash,
    pub order: OrderId,
    pub attempt: AttemptNumber,
    pub account: AccountId,
    pub created_at: Timestamp,
    /// Set once it was used: the code it was used with, and the payer whom the exchange named.
    pub used: Option<(TokenHash, Option<u128>)>,
}

/// A notice that was verified and fits nothing, kept encrypted for a person. `body`: `Place { table:
/// "evidence", column: "body", row: "{account}/{reference}" }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceRow {
    pub account: AccountId,
    /// The provider's number, or a hash of the bytes where it could not be read.
    pub reference: String,
    pub reason: String,
    /// Erased together with the people of its order, or at its own age where it has none.
    pub body: Sealed,
    /// The order that the notice names. The store keeps it only where there is such an order.
    pub order: Option<OrderId>,
    pub first_seen: Timestamp,
    pub standing: EvidenceStanding,
}

impl EvidenceRow {
    /// How the reason of a notice begins that asks nothing of anybody. It is kept because every verified
    /// word is (contract §5); nobody has to settle it.
    pub const NOTED: &str = "noted: ";
}

/// How far two people are with evidence that fits no order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceStanding {
    #[default]
    Open,
    /// One person has said that it is settled; another must agree.
    Proposed { by: OperatorHash, at: Timestamp },
    /// What the school did about it is not in these books.
    Settled {
        proposed_by: OperatorHash,
        by: OperatorHash,
        at: Timestamp,
    },
}
