//! What operators ask.

use async_trait::async_trait;
use rusqlite::params;

use super::SqliteStore;
use super::reads::{many, one};
use crate::order::OrderId;
use crate::sealing::TokenHash;
use crate::store::desk::{Desk, OperatorRow, SessionRow};
use crate::store::records::books::audit_entry;
use crate::store::records::desk::{OPERATOR, SESSION, operator_row, session_row};
use crate::store::records::{OUTBOX, outbox_row};
use crate::store::rows::{Parsing, limit};
use crate::store::{AuditEntry, OutboxEntry, StoreError};

pub(super) const OF_TRANSACTION: &str =
    "SELECT order_id FROM captures WHERE transaction_id = ?1 UNION
    SELECT order_id FROM mismatches WHERE transaction_id = ?1 LIMIT ?2";

pub(super) const AUDIT_BEFORE: &str =
    "SELECT id, at, operator, action, target, outcome, previous, hash FROM audit
    WHERE id < ?1 ORDER BY id DESC LIMIT ?2";

fn outbox_of() -> String {
    format!("{OUTBOX} WHERE order_id = ?1 ORDER BY version, created_at, id")
}

#[async_trait]
impl Desk for SqliteStore {
    async fn operator(&self, name: &str) -> Result<Option<OperatorRow>, StoreError> {
        let key = OperatorRow::key(name);
        self.read(move |connection| {
            let sql = format!("{OPERATOR} WHERE key = ?1");
            one(connection, &sql, [key], operator_row)
        })
        .await
    }

    async fn operators(&self) -> Result<Vec<OperatorRow>, StoreError> {
        self.read(|connection| {
            let sql = format!("{OPERATOR} ORDER BY key");
            many(connection, &sql, [], operator_row)
        })
        .await
    }

    async fn session(&self, token: TokenHash) -> Result<Option<SessionRow>, StoreError> {
        self.read(move |connection| {
            let sql = format!("{SESSION} WHERE token = ?1");
            one(connection, &sql, [token.0], session_row)
        })
        .await
    }

    async fn orders_of_transaction(
        &self,
        transaction_id: &str,
        rows: usize,
    ) -> Result<Vec<OrderId>, StoreError> {
        let number = transaction_id.to_owned();
        self.read(move |connection| {
            let values = params![number, limit(rows)];
            many(connection, OF_TRANSACTION, values, |row| {
                Parsing::new("captures", row, "order_id").parse("order_id")
            })
        })
        .await
    }

    async fn outbox_of(&self, order: OrderId) -> Result<Vec<OutboxEntry>, StoreError> {
        self.read(move |connection| many(connection, &outbox_of(), [order.to_string()], outbox_row))
            .await
    }

    async fn audit_before(&self, before: u64, rows: usize) -> Result<Vec<AuditEntry>, StoreError> {
        // No entry has a number beyond what SQLite can count.
        let before = i64::try_from(before).unwrap_or(i64::MAX);
        self.read(move |connection| {
            many(
                connection,
                AUDIT_BEFORE,
                params![before, limit(rows)],
                audit_entry,
            )
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::super::opening::in_memory;
    use super::super::reads::tests::full_scans;
    use super::*;

    #[test]
    fn what_a_page_asks_is_answered_from_an_index() {
        let connection = in_memory();
        let session = format!("{SESSION} WHERE token = ?1");
        let operator = format!("{OPERATOR} WHERE key = ?1");
        for sql in [&session, &operator, AUDIT_BEFORE] {
            assert_eq!(full_scans(&connection, sql), Vec::<String>::new(), "{sql}");
        }
        // Their few rows are sorted, or made one list; none of the others is looked at.
        for sql in [&outbox_of(), OF_TRANSACTION] {
            for step in full_scans(&connection, sql) {
                assert!(step.contains("TEMP B-TREE"), "{sql}: {step}");
            }
        }
    }
}
