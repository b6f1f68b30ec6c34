//! What operators ask of the store: who they are, their sessions, and the ways to an order that neither
//! merchants nor payers go. What they change goes through `Store::commit` like everything else
//! ([`super::Write::Desk`]).

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::{AuditEntry, OutboxEntry, StoreError};
use crate::order::{OrderId, Timestamp};
use crate::sealing::TokenHash;

/// Reads for the operators' console.
#[async_trait]
pub trait Desk {
    /// By the name in lower case: what reads alike is one person.
    async fn operator(&self, name: &str) -> Result<Option<OperatorRow>, StoreError>;
    /// All of them, by name.
    async fn operators(&self) -> Result<Vec<OperatorRow>, StoreError>;
    /// Whatever its age: whoever asks judges that.
    async fn session(&self, token: TokenHash) -> Result<Option<SessionRow>, StoreError>;
    /// Orders with a capture, fitting or odd, under this number of a provider's; of any account.
    async fn orders_of_transaction(
        &self,
        transaction_id: &str,
        limit: usize,
    ) -> Result<Vec<OrderId>, StoreError>;
    /// Every event of an order, the oldest first.
    async fn outbox_of(&self, order: OrderId) -> Result<Vec<OutboxEntry>, StoreError>;
    /// What operators did, the latest first, before entry `before`.
    async fn audit_before(&self, before: u64, limit: usize) -> Result<Vec<AuditEntry>, StoreError>;
}

/// Someone who may log in to the console.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorRow {
    /// As it was given; [`OperatorRow::key`] finds it.
    pub name: String,
    /// In the PHC format: `$argon2id$…`. Never the password.
    pub password: String,
    pub created_at: Timestamp,
    /// Since when they may not log in any more.
    pub disabled_at: Option<Timestamp>,
}

impl OperatorRow {
    /// One person's name in one spelling.
    pub fn key(name: &str) -> String {
        name.to_lowercase()
    }
}

impl fmt::Debug for OperatorRow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "OperatorRow({})", self.name)
    }
}

/// One login, from the right password to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRow {
    pub token: TokenHash,
    /// The operator's key.
    pub operator: String,
    pub created_at: Timestamp,
    pub seen_at: Timestamp,
}

/// What is written about operators and their sessions.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeskWrite {
    /// A new one; `OperatorTaken` where there is one of this name.
    OperatorAdded(OperatorRow),
    /// Another password, and the end of every session; `None` in `disabled_at`: may log in.
    OperatorChanged(OperatorRow),
    /// A login. Those that began before `forget_before` go.
    SessionBegun {
        session: SessionRow,
        forget_before: Timestamp,
    },
    /// It was used.
    SessionSeen {
        token: TokenHash,
        at: Timestamp,
    },
    SessionEnded {
        token: TokenHash,
    },
}
