//! What the service may do: read everything, add to everything, change what the rules let change, and
//! delete what is forgotten. It owns nothing, so that no statement of it can alter a table or switch a
//! rule off.

use std::fmt::Write as _;

use tokio_postgres::{Client, Error};

/// `None`: any column.
const UPDATES: [(&str, Option<&str>); 20] = [
    ("settings", None),
    ("merchants", None),
    ("merchant_keys", None),
    ("instances", None),
    ("shards", None),
    (
        "orders",
        Some("version, status, next_due_at, state, payer_index, snapshot, erased_at"),
    ),
    ("attempts", Some("status")),
    (
        "outbox",
        Some("body, body_digest, state, tries, next_at, note, changed_at"),
    ),
    ("idempotency", None),
    ("tokens", Some("attempt")),
    ("personal", None),
    ("oauth_states", None),
    (
        "evidence",
        Some("body, proposed_by, proposed_at, settled_by, settled_at"),
    ),
    (
        "bills",
        Some(
            "sealed, cancelled_at, order_id, payer_masked, payer_index, personal_hashes, erased_at",
        ),
    ),
    ("refunds", Some("status, ended_at")),
    ("mismatches", Some("settled")),
    ("reconciliations", None),
    ("reconciliation_rows", None),
    ("operators", Some("password, disabled_at")),
    ("sessions", Some("seen_at")),
];

const INSERTS: [&str; 27] = [
    "settings",
    "merchants",
    "merchant_keys",
    "instances",
    "shards",
    "orders",
    "order_events",
    "attempts",
    "claims",
    "captures",
    "mismatches",
    "refunds",
    "ledger",
    "outbox",
    "nonces",
    "idempotency",
    "tokens",
    "personal",
    "oauth_states",
    "evidence",
    "bills",
    "payer_links",
    "audit",
    "reconciliations",
    "reconciliation_rows",
    "operators",
    "sessions",
];

const DELETES: [&str; 8] = [
    "instances",
    "nonces",
    "idempotency",
    "personal",
    "oauth_states",
    "payer_links",
    "reconciliation_rows",
    "sessions",
];

/// Gives `role` what the service needs and takes from it what it had beyond that.
pub(super) async fn grant(client: &Client, role: &str) -> Result<(), Error> {
    // The server quotes the names.
    let row = client
        .query_one(
            "SELECT format('%I', $1::text), format('%I', current_schema())",
            &[&role],
        )
        .await?;
    let (role, schema): (String, String) = (row.try_get(0)?, row.try_get(1)?);
    let mut sql = format!(
        "BEGIN;
         REVOKE ALL ON ALL TABLES IN SCHEMA {schema} FROM {role};
         REVOKE CREATE ON SCHEMA {schema} FROM {role};
         GRANT USAGE ON SCHEMA {schema} TO {role};
         GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role};"
    );
    let mut give = |what: &str, table: &str| {
        let _ = write!(sql, "GRANT {what} ON {schema}.{table} TO {role};");
    };
    for table in INSERTS {
        give("INSERT", table);
    }
    for (table, columns) in UPDATES {
        match columns {
            Some(columns) => give(&format!("UPDATE ({columns})"), table),
            None => give("UPDATE", table),
        }
    }
    for table in DELETES {
        give("DELETE", table);
    }
    sql += "COMMIT";
    client.batch_execute(&sql).await
}
