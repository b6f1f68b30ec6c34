//! What another node writes of this store's words and a derived reader could not read.

use serde::{Deserialize, Deserializer};

/// A reference that no reader is expected to borrow.
pub(super) type TableName = &'static str;

/// The tables whose rows can be inconsistent.
const TABLES: &[&str] = &[
    "audit",
    "bills",
    "captures",
    "evidence",
    "idempotency",
    "instances",
    "ledger",
    "ledger_totals",
    "merchant_keys",
    "merchants",
    "mismatches",
    "oauth_states",
    "operators",
    "order_counts",
    "order_events",
    "orders",
    "outbox",
    "payer_links",
    "personal",
    "reconciliation_rows",
    "reconciliations",
    "refunds",
    "sealed_counts",
    "sessions",
    "settings",
    "shards",
    "tokens",
];

/// A table's name: for people only, so that one which is new to us is no reason to fail.
pub(super) fn table<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TableName, D::Error> {
    let name = String::deserialize(deserializer)?;
    let known = TABLES.iter().find(|known| **known == name);
    Ok(known.copied().unwrap_or("another table"))
}
