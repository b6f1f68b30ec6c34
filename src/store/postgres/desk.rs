//! What operators ask.

use async_trait::async_trait;
use tokio_postgres::types::ToSql;

use super::PostgresStore;
use crate::order::OrderId;
use crate::sealing::TokenHash;
use crate::store::desk::{Desk, OperatorRow, SessionRow};
use crate::store::records::books::audit_entry;
use crate::store::records::desk::{OPERATOR, SESSION, operator_row, session_row};
use crate::store::records::{OUTBOX, outbox_row};
use crate::store::rows::{Parsing, limit};
use crate::store::{AuditEntry, OutboxEntry, StoreError};

const OF_TRANSACTION: &str = "SELECT order_id FROM captures WHERE transaction_id = $1 UNION
    SELECT order_id FROM mismatches WHERE transaction_id = $1 LIMIT $2";

const AUDIT_BEFORE: &str =
    "SELECT id, at, operator, action, target, outcome, previous, hash FROM audit
    WHERE id < $1 ORDER BY id DESC LIMIT $2";

#[async_trait]
impl Desk for PostgresStore {
    async fn operator(&self, name: &str) -> Result<Option<OperatorRow>, StoreError> {
        let sql = format!("{OPERATOR} WHERE key = $1");
        self.one(&sql, &[&OperatorRow::key(name)], operator_row)
            .await
    }

    async fn operators(&self) -> Result<Vec<OperatorRow>, StoreError> {
        let sql = format!("{OPERATOR} ORDER BY key");
        self.many(&sql, &[], operator_row).await
    }

    async fn session(&self, token: TokenHash) -> Result<Option<SessionRow>, StoreError> {
        let sql = format!("{SESSION} WHERE token = $1");
        self.one(&sql, &[&token.0.as_slice()], session_row).await
    }

    async fn orders_of_transaction(
        &self,
        transaction_id: &str,
        rows: usize,
    ) -> Result<Vec<OrderId>, StoreError> {
        let values: [&(dyn ToSql + Sync); 2] = [&transaction_id, &limit(rows)];
        self.many(OF_TRANSACTION, &values, |row| {
            Parsing::new("captures", row, "order_id").parse("order_id")
        })
        .await
    }

    async fn outbox_of(&self, order: OrderId) -> Result<Vec<OutboxEntry>, StoreError> {
        let sql = format!("{OUTBOX} WHERE order_id = $1 ORDER BY version, created_at, id");
        self.many(&sql, &[&order.to_string()], outbox_row).await
    }

    async fn audit_before(&self, before: u64, rows: usize) -> Result<Vec<AuditEntry>, StoreError> {
        // No entry has a number beyond what PostgreSQL can count.
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        self.many(AUDIT_BEFORE, &[&before, &limit(rows)], audit_entry)
            .await
    }
}
