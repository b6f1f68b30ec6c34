//! Sealed values by their keys, and people who are to be forgotten (decision 4).

use async_trait::async_trait;
use rusqlite::{Connection, params};

use super::SqliteStore;
use super::apply::{Failure, changed};
use super::bills;
use super::reads::{self, many, one};
use crate::order::{AccountId, OrderId, Timestamp};
use crate::store::personal::{
    Cell, OlderValues, People, PersonalStore, Resealed, SealedCount, SealedTable,
};
use crate::store::records::Read;
use crate::store::records::personal::{
    KEY_SECRETS, PAGE, SEALED_COUNTS, Walk, count_secrets, evidence_key, few, key_secret,
    older_secrets, page, people_row, sealed_count, waits_for_people,
};
use crate::store::rows::{Parsing, limit};
use crate::store::step::json;
use crate::store::{PERSONAL_FIELDS, Rejection, StoreError};

#[async_trait]
impl PersonalStore for SqliteStore {
    async fn sealed_counts(&self) -> Result<Vec<SealedCount>, StoreError> {
        self.read(sealed_counts).await
    }

    async fn undigested(&self) -> Result<u64, StoreError> {
        self.read(|connection| {
            let found = one(connection, UNDIGESTED, [], |row| {
                Parsing::named("outbox", row, "").number("events")
            });
            found.map(Option::unwrap_or_default)
        })
        .await
    }

    async fn older_values(
        &self,
        table: SealedTable,
        newest: u8,
        after: i64,
    ) -> Result<OlderValues, StoreError> {
        self.read(move |connection| older_values(connection, table, newest, after))
            .await
    }

    async fn orders_with_people(
        &self,
        after: Option<OrderId>,
        created_before: Timestamp,
        rows: usize,
    ) -> Result<Vec<OrderId>, StoreError> {
        self.read(move |connection| orders_with_people(connection, after, created_before, rows))
            .await
    }

    async fn people_of(&self, order: OrderId) -> Result<Option<People>, StoreError> {
        self.read(move |connection| one(connection, PEOPLE_OF, [order.to_string()], people_row))
            .await
    }

    async fn loose_evidence(
        &self,
        before: Timestamp,
        rows: usize,
    ) -> Result<Vec<(AccountId, String)>, StoreError> {
        self.read(move |connection| {
            many(
                connection,
                LOOSE_EVIDENCE,
                params![before.as_millis(), limit(rows)],
                evidence_key,
            )
        })
        .await
    }
}

const UNDIGESTED: &str = "SELECT count(*) AS events FROM outbox
    WHERE length(body_digest) = 0 AND length(body) > 0";

pub(super) const ORDERS_WITH_PEOPLE: &str = "SELECT DISTINCT order_id FROM personal
    WHERE order_id > ?1 AND order_id < ?2 ORDER BY order_id LIMIT ?3";

const EVIDENCE_WAITS: &str = concat!(
    "SELECT 1 FROM evidence WHERE order_id = ?1 AND ",
    waits_for_people!()
);

pub(super) const PEOPLE_OF: &str = concat!(
    "SELECT id,
        (SELECT at FROM order_events WHERE order_id = orders.id
         ORDER BY version DESC, position DESC LIMIT 1) AS changed_at,
        EXISTS (SELECT 1 FROM outbox WHERE order_id = orders.id AND state = 'pending')
            AS event_pending,
        EXISTS (SELECT 1 FROM evidence WHERE order_id = orders.id AND ",
    waits_for_people!(),
    ") AS evidence_waits,
        erased_at IS NULL OR EXISTS (SELECT 1 FROM personal WHERE order_id = orders.id) AS people
    FROM orders WHERE id = ?1"
);

pub(super) const LOOSE_EVIDENCE: &str = concat!(
    "SELECT account, reference FROM evidence
    WHERE first_seen < ?1 AND length(body) > 0 AND (order_id IS NULL OR EXISTS
        (SELECT 1 FROM orders WHERE id = evidence.order_id AND erased_at IS NOT NULL))
      AND NOT (",
    waits_for_people!(),
    ") ORDER BY first_seen LIMIT ?2"
);

fn sealed_counts(connection: &Connection) -> Read<Vec<SealedCount>> {
    let mut counts = many(connection, SEALED_COUNTS, [], sealed_count)?;
    count_secrets(&mut counts, reads::merchants(connection)?);
    Ok(counts)
}

fn older_values(
    connection: &Connection,
    table: SealedTable,
    newest: u8,
    after: i64,
) -> Read<OlderValues> {
    if let Some(walk) = Walk::of(table) {
        let values = params![after, [newest], PAGE];
        let sql = walk.query("rowid", '?');
        return many(connection, &sql, values, |row| walk.row(row)).map(page);
    }
    if table == SealedTable::Merchants {
        return Ok(older_secrets(reads::merchants(connection)?, newest));
    }
    Ok(few(many(connection, KEY_SECRETS, [], key_secret)?, newest))
}

fn orders_with_people(
    connection: &Connection,
    after: Option<OrderId>,
    created_before: Timestamp,
    rows: usize,
) -> Read<Vec<OrderId>> {
    // Ids begin with the time at which they were made.
    let millis = u64::try_from(created_before.as_millis()).unwrap_or_default();
    let end = OrderId::from_ulid(ulid::Ulid::from_parts(millis, 0));
    many(
        connection,
        ORDERS_WITH_PEOPLE,
        params![
            after.map_or_else(String::new, |id| id.to_string()),
            end.to_string(),
            limit(rows)
        ],
        |row| Parsing::new("personal", row, "order_id").parse("order_id"),
    )
}

/// Compare and set: what was written meanwhile is under the newest key already.
pub(super) fn reseal(connection: &Connection, change: &Resealed) -> Result<(), Failure> {
    let Resealed {
        cell,
        was,
        now,
        digest,
    } = change;
    match cell {
        Cell::Personal { order, slot } => connection
            .prepare_cached(
                "UPDATE personal SET sealed = ?4
                 WHERE order_id = ?1 AND slot = ?2 AND sealed = ?3",
            )?
            .execute(params![order.to_string(), slot, was.0, now.0])?,
        Cell::Body { event, .. } => connection
            .prepare_cached(
                "UPDATE outbox SET body = ?3, body_digest = coalesce(?4, body_digest)
                 WHERE id = ?1 AND body = ?2",
            )?
            .execute(params![
                event.to_string(),
                was.0,
                now.0,
                digest.map(|digest| digest.0)
            ])?,
        Cell::Answer { merchant, key } => connection
            .prepare_cached(
                "UPDATE idempotency SET answer = ?4
                 WHERE merchant = ?1 AND key = ?2 AND answer = ?3",
            )?
            .execute(params![merchant.to_string(), key, was.0, now.0])?,
        Cell::Evidence { account, reference } => connection
            .prepare_cached(
                "UPDATE evidence SET body = ?4
                 WHERE account = ?1 AND reference = ?2 AND body = ?3",
            )?
            .execute(params![account.as_str(), reference, was.0, now.0])?,
        Cell::Bill { bill } => connection
            .prepare_cached("UPDATE bills SET sealed = ?3 WHERE id = ?1 AND sealed = ?2")?
            .execute(params![bill.to_string(), was.0, now.0])?,
        Cell::KeySecret { key } => connection
            .prepare_cached(
                "UPDATE merchant_keys SET sealed_secret = ?3
                 WHERE id = ?1 AND sealed_secret = ?2",
            )?
            .execute(params![key.to_string(), was.0, now.0])?,
        Cell::WebhookSecret { merchant } => {
            let found =
                reads::merchant(connection, *merchant).map_err(|error| Rejection::RuleBroken {
                    rule: error.to_string(),
                })?;
            let Some(mut record) = found else {
                return Ok(());
            };
            for secret in &mut record.webhook_secrets {
                if secret.sealed == *was {
                    secret.sealed = now.clone();
                }
            }
            connection
                .prepare_cached("UPDATE merchants SET record = ?2 WHERE id = ?1")?
                .execute(params![merchant.to_string(), json(&record)?])?
        }
    };
    Ok(())
}

/// Takes the people out of an order that is over, in one transaction.
pub(super) fn erase_people(
    connection: &Connection,
    order: OrderId,
    version: u64,
    payer_index: u128,
    at: Timestamp,
) -> Result<(), Failure> {
    let id = order.to_string();
    let stands = connection
        .prepare_cached(
            "SELECT 1 FROM orders WHERE id = ?1 AND version = ?2 AND status IN ('paid', 'closed')
               AND NOT EXISTS (SELECT 1 FROM outbox WHERE order_id = ?1 AND state = 'pending')",
        )?
        .exists(params![id, crate::store::rows::integer(version)])?;
    let waits = connection.prepare_cached(EVIDENCE_WAITS)?.exists([&id])?;
    if !stands || waits {
        return Err(Rejection::VersionMoved.into());
    }
    thoroughly(connection, || erase_rows(connection, &id, payer_index, at))
}

/// What is overwritten and deleted must not stay readable in the file's free space.
pub(super) fn thoroughly(
    connection: &Connection,
    erase: impl FnOnce() -> Result<(), Failure>,
) -> Result<(), Failure> {
    let set = |on: bool| connection.pragma_update(None, "secure_delete", on);
    set(true)?;
    let erased = erase();
    set(false)?;
    erased
}

fn erase_rows(
    connection: &Connection,
    id: &str,
    payer_index: u128,
    at: Timestamp,
) -> Result<(), Failure> {
    connection
        .prepare_cached("DELETE FROM personal WHERE order_id = ?1")?
        .execute([id])?;
    let personal_fields = json(&PERSONAL_FIELDS)?;
    connection
        .prepare_cached(
            "UPDATE orders SET erased_at = ?2, payer_index = ?3, snapshot = json_set(snapshot,
                 '$.payer_masked', json('{\"name\":null,\"id_number\":null,\"phone\":null}'),
                 '$.payer_index', json(?4),
                 '$.has_display_fields', json('false'),
                 '$.field_hashes', json((SELECT json_group_array(json(hash.value))
                     FROM json_each(snapshot, '$.field_hashes') AS hash
                     WHERE json_extract(hash.value, '$[0]') NOT IN
                         (SELECT value FROM json_each(?5)))))
             WHERE id = ?1 AND erased_at IS NULL",
        )?
        .execute(params![
            id,
            at.as_millis(),
            payer_index.to_be_bytes(),
            payer_index.to_string(),
            personal_fields,
        ])?;
    for sql in [
        "UPDATE outbox SET body = X'' WHERE order_id = ?1 AND length(body) > 0",
        "UPDATE idempotency SET answer = X'' WHERE order_id = ?1 AND length(answer) > 0",
        "UPDATE evidence SET body = X'' WHERE order_id = ?1 AND length(body) > 0",
    ] {
        connection.prepare_cached(sql)?.execute([id])?;
    }
    bills::erase_of(connection, id, payer_index, at)
}

pub(super) fn erase_evidence(
    connection: &Connection,
    account: &AccountId,
    reference: &str,
) -> Result<(), Failure> {
    changed(
        connection
            .prepare_cached("UPDATE evidence SET body = X'' WHERE account = ?1 AND reference = ?2")?
            .execute(params![account.as_str(), reference])?,
        "evidence is kept before it is erased",
    )
}
