//! One transaction as statements. The schema refuses what must not be; here its refusals get their
//! names. Nothing is looked up first where a constraint can decide.

mod desk;
mod money;
mod operators;

use rusqlite::{Connection, ErrorCode, OptionalExtension as _, ffi, params};

use super::bills;
use super::personal;
use super::reads;
use super::reconciliation;
use crate::order::{AttemptNumber, Claim, MerchantId, Timestamp};
use crate::store::rows::integer;
use crate::store::step::{
    OrderStep, Rows, Step, Turn, actor_word, broken, delivery_word, json, turn_of,
};
use crate::store::{Fence, OutboxEntry, Rejection, TimelineEntry, Write};

/// Why a transaction was not applied.
pub(super) enum Failure {
    /// It alone falls.
    Rejected(Rejection),
    /// The database is in trouble: the whole group falls.
    Database(rusqlite::Error),
}

impl From<Rejection> for Failure {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        match &error {
            rusqlite::Error::SqliteFailure(inner, _)
                if !matches!(
                    inner.code,
                    ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch | ErrorCode::TooBig
                ) =>
            {
                Self::Database(error)
            }
            // SQLite's message names tables and columns, never values.
            _ => Self::Rejected(broken(error.to_string())),
        }
    }
}

/// The columns of the unique rule that refused, as SQLite names them: `"claims.order_id, claims.attempt"`.
pub(super) fn unique_rule(error: &rusqlite::Error) -> Option<&str> {
    match error {
        rusqlite::Error::SqliteFailure(inner, Some(message))
            if matches!(
                inner.extended_code,
                ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY
            ) =>
        {
            message.strip_prefix("UNIQUE constraint failed: ")
        }
        _ => None,
    }
}

/// Applies one transaction at the store's time `now`. The caller undoes it where this fails.
pub(super) fn apply(connection: &Connection, step: &Step, now: Timestamp) -> Result<(), Failure> {
    if let Some(order) = &step.order {
        check_fence(connection, order.write.fence)?;
        if order.write.not_after.is_some_and(|end| now >= end) {
            return Err(Rejection::TooLate.into());
        }
    }
    let in_turn = |turn| {
        step.writes
            .iter()
            .filter(move |write| turn_of(write) == turn)
            .try_for_each(|write| apply_write(connection, write, now))
    };
    in_turn(Turn::Nonces)?;
    in_turn(Turn::Keys)?;
    if let Some(order) = &step.order {
        apply_order(connection, order)?;
    }
    in_turn(Turn::Rest)?;
    Ok(())
}

fn check_fence(connection: &Connection, fence: Fence) -> Result<(), Failure> {
    if reads::fence_stands(connection, fence)? {
        Ok(())
    } else {
        Err(Rejection::FenceMoved.into())
    }
}

fn apply_order(connection: &Connection, step: &OrderStep) -> Result<(), Failure> {
    let order = &step.write.order;
    let version = integer(order.version).ok_or_else(|| broken("a version fits 63 bits"))?;
    if version == 1 {
        insert_order(connection, step)?;
    } else {
        let replaced = connection
            .prepare_cached(
                "UPDATE orders SET version = ?2, status = ?3, next_due_at = ?4, state = ?5
                 WHERE id = ?1 AND version = ?2 - 1",
            )?
            .execute(params![
                step.id,
                version,
                order.status().as_str(),
                step.write.next_due_at.map(Timestamp::as_millis),
                step.state,
            ])?;
        if replaced == 0 {
            return Err(Rejection::VersionMoved.into());
        }
    }
    insert_events(connection, step)?;
    let rows = step.rows.as_ref().map_err(Clone::clone)?;
    guard_attempts(connection, &step.id, rows)?;
    for (attempt, claim) in &rows.claims {
        insert_claim(connection, &step.id, *attempt, claim)?;
    }
    money::keep(connection, step, &rows.money)?;
    for entry in &step.write.outbox {
        insert_outbox(connection, &step.id, &step.merchant, entry)?;
    }
    Ok(())
}

fn insert_order(connection: &Connection, step: &OrderStep) -> Result<(), Failure> {
    let order = &step.write.order;
    let snapshot = step
        .write
        .snapshot
        .as_ref()
        .ok_or_else(|| broken("a new order has a snapshot"))?;
    let inserted = connection
        .prepare_cached(
            "INSERT INTO orders (id, merchant, merchant_order_no, version, status, amount,
                 created_at, next_due_at, payer_index, purpose, state, snapshot)
             VALUES (?1, ?2, ?3, 1, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .execute(params![
            step.id,
            step.merchant,
            snapshot.merchant_order_no,
            order.status().as_str(),
            order.terms.amount.get(),
            order.created_at.as_millis(),
            step.write.next_due_at.map(Timestamp::as_millis),
            snapshot.payer_index.to_be_bytes(),
            snapshot.purpose,
            step.state,
            step.snapshot,
        ]);
    match inserted {
        Ok(_) => Ok(()),
        Err(error) if unique_rule(&error).is_some() => {
            let existing = connection
                .prepare_cached(
                    "SELECT id FROM orders WHERE merchant = ?1 AND merchant_order_no = ?2",
                )?
                .query_row(params![step.merchant, snapshot.merchant_order_no], |row| {
                    row.get::<_, String>(0)
                })
                .optional()?;
            Err(match existing {
                Some(id) => Rejection::MerchantOrderNoTaken {
                    existing: id
                        .parse()
                        .map_err(|_| broken("orders.id holds order ids"))?,
                },
                // The id is there under another number.
                None => Rejection::VersionMoved,
            }
            .into())
        }
        Err(error) => Err(error.into()),
    }
}

fn insert_events(connection: &Connection, step: &OrderStep) -> Result<(), Failure> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO order_events (order_id, version, position, at, actor, request_id, event)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    for (entry, event) in step.write.events.iter().zip(&step.events) {
        let TimelineEntry {
            order: _,
            version,
            position,
            at,
            actor,
            request_id,
            event: _,
        } = entry;
        insert.execute(params![
            step.id,
            integer(*version),
            position,
            at.as_millis(),
            actor_word(*actor),
            request_id,
            event,
        ])?;
    }
    Ok(())
}

/// What ended goes first: a code and its successor may change places in one step.
fn guard_attempts(connection: &Connection, id: &str, rows: &Rows) -> Result<(), Failure> {
    for attempt in &rows.touched {
        let updated = connection
            .prepare_cached("UPDATE attempts SET status = ?3 WHERE order_id = ?1 AND number = ?2")?
            .execute(params![id, attempt.number.get(), attempt.status])?;
        changed(updated, "an attempt starts before anything happens to it")?;
    }
    for attempt in &rows.started {
        connection
            .prepare_cached(
                "INSERT INTO attempts (order_id, number, id, status, started_at, expires_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                id,
                attempt.number.get(),
                attempt.id,
                attempt.status,
                attempt.started_at.as_millis(),
                attempt.expires_at.as_millis(),
            ])?;
    }
    Ok(())
}

fn insert_claim(
    connection: &Connection,
    order: &str,
    attempt: AttemptNumber,
    claim: &Claim,
) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "INSERT INTO claims (order_id, attempt, payer, claimed_at) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute(params![
            order,
            attempt.get(),
            claim.payer.0.to_be_bytes(),
            claim.at.as_millis(),
        ])
        .map_err(|error| match unique_rule(&error) {
            Some(_) => Rejection::AlreadyClaimed.into(),
            None => Failure::from(error),
        })?;
    Ok(())
}

fn insert_outbox(
    connection: &Connection,
    order: &str,
    merchant: &str,
    entry: &OutboxEntry,
) -> Result<(), Failure> {
    connection
        .prepare_cached(
            "INSERT INTO outbox (id, merchant, order_id, version, kind, body, created_at, state,
                 tries, next_at, note, changed_at, body_digest)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?7, coalesce(?12, X''))",
        )?
        .execute(params![
            entry.id.to_string(),
            merchant,
            order,
            integer(entry.version),
            entry.kind.as_str(),
            entry.body.0,
            entry.created_at.as_millis(),
            delivery_word(entry.state),
            entry.tries,
            entry.next_at.map(Timestamp::as_millis),
            entry.note,
            entry.body_digest.map(|digest| digest.0),
        ])?;
    Ok(())
}

fn apply_write(connection: &Connection, write: &Write, now: Timestamp) -> Result<(), Failure> {
    match write {
        Write::Nonce { key, nonce, at } => take_nonce(connection, &key.to_string(), nonce, *at)?,
        Write::IdempotencyStarted {
            merchant,
            key,
            request_hash,
            instance,
            at,
        } => {
            let started = connection
                .prepare_cached(
                    "INSERT INTO idempotency (merchant, key, request_hash, started_at, instance)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![
                    merchant.to_string(),
                    key,
                    request_hash,
                    at.as_millis(),
                    instance.to_be_bytes(),
                ]);
            match started {
                Ok(_) => {}
                Err(error) if unique_rule(&error).is_some() => {
                    return Err(key_taken(connection, *merchant, key)?.into());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Write::IdempotencyResumed {
            merchant,
            key,
            was: (by, since),
            instance,
            at,
        } => {
            let resumed = connection
                .prepare_cached(
                    "UPDATE idempotency SET instance = ?5, started_at = ?6
                     WHERE merchant = ?1 AND key = ?2 AND status IS NULL
                       AND instance = ?3 AND started_at = ?4",
                )?
                .execute(params![
                    merchant.to_string(),
                    key,
                    by.to_be_bytes(),
                    since.as_millis(),
                    instance.to_be_bytes(),
                    at.as_millis(),
                ])?;
            if resumed == 0 {
                return Err(key_taken(connection, *merchant, key)?.into());
            }
        }
        Write::IdempotencyFinished {
            merchant,
            key,
            status,
            answer,
            order,
        } => changed(
            connection
                .prepare_cached(
                    "UPDATE idempotency SET status = ?3, answer = ?4, order_id = ?5
                     WHERE merchant = ?1 AND key = ?2 AND status IS NULL",
                )?
                .execute(params![
                    merchant.to_string(),
                    key,
                    status,
                    answer.0,
                    order.map(|order| order.to_string()),
                ])?,
            "an Idempotency-Key is finished once, after it was started",
        )?,
        Write::IdempotencyDropped { merchant, key } => {
            // A finished one is kept: its answer was given (A5).
            connection
                .prepare_cached(
                    "DELETE FROM idempotency
                     WHERE merchant = ?1 AND key = ?2 AND status IS NULL",
                )?
                .execute(params![merchant.to_string(), key])?;
        }
        Write::Token { kind, hash, target } => changed(
            connection
                .prepare_cached(
                    "INSERT INTO tokens (kind, hash, order_id, attempt) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (kind, hash) DO UPDATE SET attempt = excluded.attempt
                     WHERE order_id = excluded.order_id AND attempt IS excluded.attempt",
                )?
                .execute(params![
                    kind.as_str(),
                    hash.0,
                    target.order.to_string(),
                    target.attempt.map(AttemptNumber::get),
                ])?,
            "a token leads to one place",
        )?,
        Write::Personal {
            order,
            slot,
            sealed,
        } => {
            connection
                .prepare_cached(
                    "INSERT INTO personal (order_id, slot, sealed) VALUES (?1, ?2, ?3)
                     ON CONFLICT (order_id, slot) DO UPDATE SET sealed = excluded.sealed",
                )?
                .execute(params![order.to_string(), slot, sealed.0])?;
        }
        Write::OauthState(state) => {
            connection
                .prepare_cached(
                    "INSERT INTO oauth_states (state_hash, order_id, attempt, account, created_at,
                         code_hash, payer)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                )?
                .execute(params![
                    state.state_hash.0,
                    state.order.to_string(),
                    state.attempt.get(),
                    state.account.as_str(),
                    state.created_at.as_millis(),
                    state.used.map(|(code, _)| code.0),
                    state
                        .used
                        .and_then(|(_, payer)| payer)
                        .map(u128::to_be_bytes),
                ])?;
        }
        Write::BillsCreated(new) => bills::create(connection, new)?,
        Write::BillsClaimed {
            merchant,
            order,
            bills,
        } => bills::claim(connection, *merchant, *order, bills)?,
        Write::BillCancelled { merchant, bill, at } => {
            bills::cancel(connection, *merchant, *bill, *at)?;
        }
        Write::PayerLink(link) => bills::link(connection, link)?,
        Write::BillErased {
            bill,
            payer_index,
            at,
        } => bills::erase(connection, *bill, *payer_index, *at)?,
        Write::OauthStateUsed {
            state_hash,
            code_hash,
            payer,
        } => changed(
            connection
                .prepare_cached(
                    "UPDATE oauth_states SET code_hash = ?2, payer = coalesce(payer, ?3)
                     WHERE state_hash = ?1 AND (code_hash IS NULL OR code_hash = ?2)
                       AND (payer IS NULL OR ?3 IS NULL OR payer = ?3)",
                )?
                .execute(params![
                    state_hash.0,
                    code_hash.0,
                    payer.map(u128::to_be_bytes)
                ])?,
            "an OAuth state is used with one code, for one payer",
        )?,
        Write::Evidence(row) => {
            // The first copy stays: a notice may come sixteen times.
            connection
                .prepare_cached(
                    "INSERT INTO evidence (account, reference, reason, body, first_seen, order_id)
                     VALUES (?1, ?2, ?3, ?4, ?5, (SELECT id FROM orders WHERE id = ?6))
                     ON CONFLICT (account, reference) DO NOTHING",
                )?
                .execute(params![
                    row.account.as_str(),
                    row.reference,
                    row.reason,
                    row.body.0,
                    row.first_seen.as_millis(),
                    row.order.map(|order| order.to_string()),
                ])?;
        }
        Write::EvidenceSettled {
            account,
            reference,
            operator,
            at,
        } => operators::settle_evidence(connection, account, reference, *operator, *at)?,
        Write::Audit(entry) => operators::append_audit(connection, entry)?,
        Write::Desk(write) => desk::apply(connection, write)?,
        Write::Merchant(merchant) => {
            connection
                .prepare_cached(
                    "INSERT INTO merchants (id, record) VALUES (?1, ?2)
                     ON CONFLICT (id) DO UPDATE SET record = excluded.record",
                )?
                .execute(params![merchant.id.to_string(), json(merchant)?])?;
        }
        Write::MerchantKey(key) => changed(
            connection
                .prepare_cached(
                    "INSERT INTO merchant_keys (id, merchant, sealed_secret, created_at,
                         valid_until, last_used_at)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                     ON CONFLICT (id) DO UPDATE SET sealed_secret = excluded.sealed_secret,
                         valid_until = excluded.valid_until,
                         last_used_at = coalesce(excluded.last_used_at, last_used_at)
                     WHERE merchant = excluded.merchant",
                )?
                .execute(params![
                    key.id.to_string(),
                    key.merchant.to_string(),
                    key.sealed_secret.0,
                    key.created_at.as_millis(),
                    key.valid_until.map(Timestamp::as_millis),
                    key.last_used_at.map(Timestamp::as_millis),
                ])?,
            "a key never changes hands",
        )?,
        Write::KeyUsed { key, at } => {
            connection
                .prepare_cached(
                    "UPDATE merchant_keys SET last_used_at = ?2
                     WHERE id = ?1 AND coalesce(last_used_at, ?2 - 1) < ?2",
                )?
                .execute(params![key.to_string(), at.as_millis()])?;
        }
        Write::Delivery {
            event,
            was: (was_state, was_tries),
            state,
            tries,
            next_at,
            note,
            at,
        } => {
            let moved = connection
                .prepare_cached(
                    "UPDATE outbox SET state = ?2, tries = ?3, next_at = ?4, note = ?5,
                         changed_at = ?6
                     WHERE id = ?1 AND state = ?7 AND tries = ?8",
                )?
                .execute(params![
                    event.to_string(),
                    delivery_word(*state),
                    tries,
                    next_at.map(Timestamp::as_millis),
                    note,
                    at.as_millis(),
                    delivery_word(*was_state),
                    was_tries,
                ])?;
            if moved == 0 {
                return Err(Rejection::DeliveryMoved.into());
            }
        }
        Write::Setting { name, value } => {
            connection
                .prepare_cached(
                    "INSERT INTO settings (name, value) VALUES (?1, ?2)
                     ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                )?
                .execute(params![name, value])?;
        }
        Write::Reconciliation(write) => reconciliation::apply(connection, write)?,
        Write::Resealed(change) => personal::reseal(connection, change)?,
        Write::PeopleErased {
            order,
            version,
            payer_index,
            at,
        } => personal::erase_people(connection, *order, *version, *payer_index, *at)?,
        Write::EvidenceErased { account, reference } => {
            personal::erase_evidence(connection, account, reference)?;
        }
        Write::ShardClaimed {
            shard,
            epoch,
            instance,
            silent_ms,
            at,
        } => claim_shard(
            connection,
            (*shard, *epoch),
            *instance,
            *silent_ms,
            *at,
            now,
        )?,
        Write::ShardReleased {
            shard,
            epoch,
            instance,
        } => {
            connection
                .prepare_cached(
                    "UPDATE shards SET instance = NULL
                     WHERE shard = ?1 AND epoch = ?2 AND instance = ?3",
                )?
                .execute(params![shard, integer(*epoch), instance.to_be_bytes()])?;
        }
        Write::InstanceSeen {
            instance,
            node,
            internal_url,
            lease_ms,
        } => {
            connection
                .prepare_cached(
                    "INSERT INTO instances (instance, node, internal_url, alive_until)
                     VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (instance) DO UPDATE SET node = excluded.node,
                         internal_url = excluded.internal_url, alive_until = excluded.alive_until",
                )?
                .execute(params![
                    instance.to_be_bytes(),
                    node,
                    internal_url,
                    now.as_millis().saturating_add(*lease_ms),
                ])?;
        }
        Write::InstanceGone { instance } => {
            connection
                .prepare_cached("DELETE FROM instances WHERE instance = ?1")?
                .execute([instance.to_be_bytes()])?;
        }
    }
    Ok(())
}

pub(super) fn changed(rows: usize, rule: &str) -> Result<(), Failure> {
    if rows == 0 {
        return Err(broken(rule).into());
    }
    Ok(())
}

fn take_nonce(
    connection: &Connection,
    key: &str,
    nonce: &str,
    at: Timestamp,
) -> Result<(), Failure> {
    let taken = connection
        .prepare_cached("INSERT INTO nonces (key_id, nonce, seen_at) VALUES (?1, ?2, ?3)")?
        .execute(params![key, nonce, at.as_millis()]);
    match taken {
        Ok(_) => Ok(()),
        Err(error) if unique_rule(&error).is_some() => {
            let first_seen = connection
                .prepare_cached("SELECT seen_at FROM nonces WHERE key_id = ?1 AND nonce = ?2")?
                .query_row(params![key, nonce], |row| row.get(0))
                .map(Timestamp::from_millis)?;
            Err(Rejection::NonceReplayed { first_seen }.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// The row that has the key. One that went meanwhile leaves nothing to say: the caller comes again.
fn key_taken(
    connection: &Connection,
    merchant: MerchantId,
    key: &str,
) -> Result<Rejection, Rejection> {
    let row = reads::idempotency(connection, merchant, key)
        .map_err(|error| broken(error.to_string()))?
        .ok_or_else(|| broken("a taken key has a row"))?;
    Ok(Rejection::IdempotencyKeyTaken(Box::new(row)))
}

fn claim_shard(
    connection: &Connection,
    (shard, epoch): (u16, u64),
    instance: u128,
    silent_ms: Option<i64>,
    at: Timestamp,
    now: Timestamp,
) -> Result<(), Failure> {
    if let Some(silent_ms) = silent_ms {
        let held = connection
            .prepare_cached(
                "SELECT 1 FROM shards JOIN instances ON instances.instance = shards.instance
                 WHERE shards.shard = ?1 AND shards.instance <> ?2 AND alive_until + ?3 > ?4",
            )?
            .exists(params![
                shard,
                instance.to_be_bytes(),
                silent_ms,
                now.as_millis()
            ])?;
        if held {
            return Err(Rejection::ShardHeld.into());
        }
    }
    let raised = connection
        .prepare_cached(
            "INSERT INTO shards (shard, epoch, instance, claimed_at)
             SELECT ?1, ?2, ?3, ?4
             WHERE ?2 = 1 OR EXISTS (SELECT 1 FROM shards WHERE shard = ?1)
             ON CONFLICT (shard) DO UPDATE SET epoch = excluded.epoch,
                 instance = excluded.instance, claimed_at = excluded.claimed_at
             WHERE shards.epoch = excluded.epoch - 1",
        )?
        .execute(params![
            shard,
            integer(epoch),
            instance.to_be_bytes(),
            at.as_millis()
        ])?;
    if raised > 0 {
        return Ok(());
    }
    let found: Option<i64> = connection
        .prepare_cached("SELECT epoch FROM shards WHERE shard = ?1")?
        .query_row([shard], |row| row.get(0))
        .optional()?;
    Err(Rejection::EpochMoved {
        epoch: found
            .and_then(|epoch| u64::try_from(epoch).ok())
            .unwrap_or_default(),
    }
    .into())
}

/// Deletes at most one bite of what is old enough; 0 when nothing is left.
pub(super) fn forget(
    connection: &Connection,
    nonces_before: Timestamp,
    keys_before: Timestamp,
) -> Result<u64, rusqlite::Error> {
    let mut forgotten = 0;
    for (sql, before) in [
        (FORGET_NONCES, nonces_before),
        (FORGET_OAUTH_STATES, nonces_before),
        (FORGET_KEYS, keys_before),
        (FORGET_PAYER_LINKS, keys_before),
    ] {
        forgotten += connection
            .prepare_cached(sql)?
            .execute([before.as_millis()])?;
    }
    Ok(forgotten as u64)
}

pub(super) const FORGET_NONCES: &str = "DELETE FROM nonces WHERE (key_id, nonce) IN
    (SELECT key_id, nonce FROM nonces WHERE seen_at < ?1 LIMIT 500)";
pub(super) const FORGET_OAUTH_STATES: &str = "DELETE FROM oauth_states WHERE state_hash IN
    (SELECT state_hash FROM oauth_states WHERE created_at < ?1 LIMIT 500)";
pub(super) const FORGET_KEYS: &str = "DELETE FROM idempotency WHERE rowid IN
    (SELECT rowid FROM idempotency WHERE started_at < ?1 LIMIT 500)";
pub(super) const FORGET_PAYER_LINKS: &str = "DELETE FROM payer_links WHERE hash IN
    (SELECT hash FROM payer_links WHERE expires_at < ?1 LIMIT 500)";
