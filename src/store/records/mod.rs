//! Rows of any store as the values of its trait, and the columns that they need. Stores differ in how
//! they ask and in what they promise each other's transactions, not in what a row means.

pub(super) mod bills;
pub(super) mod books;
pub(super) mod desk;
pub(super) mod personal;
pub(super) mod reconciliation;

use super::rows::{Columns, Parsing};
use super::{
    IdempotencyRow, InstanceRow, Merchant, MerchantKey, OauthState, OutboxEntry, ShardRow,
    StoreError, StoredOrder, TimelineEntry, TokenTarget,
};
use crate::order::{AccountId, Order};
use crate::sealing::{BodyDigest, Sealed, TokenHash};

pub(super) type Read<T> = Result<T, StoreError>;

pub(super) const ORDER: &str = "SELECT id, merchant, version, status, state, snapshot FROM orders";

pub(super) fn stored_order(row: &dyn Columns) -> Read<StoredOrder> {
    let row = Parsing::new("orders", row, "id");
    let order: Order = row.json("state")?;
    let columns_agree = order.id == row.parse("id")?
        && order.terms.merchant == row.parse("merchant")?
        && order.version == row.number::<u64>("version")?
        && order.status() == row.word("status")?;
    if !columns_agree {
        return Err(row.wrong("id, merchant, version or status differ from the state beside them"));
    }
    Ok(StoredOrder {
        order,
        snapshot: row.json("snapshot")?,
    })
}

pub(super) fn timeline_entry(row: &dyn Columns) -> Read<TimelineEntry> {
    let row = Parsing::new("order_events", row, "order_id");
    Ok(TimelineEntry {
        order: row.parse("order_id")?,
        version: row.number("version")?,
        position: row.number("position")?,
        at: row.time("at")?,
        actor: row.word("actor")?,
        request_id: row.get("request_id")?,
        event: row.json("event")?,
    })
}

pub(super) fn personal_value(row: &dyn Columns) -> Read<Sealed> {
    let row = Parsing::new("personal", row, "order_id");
    row.get("sealed").map(Sealed)
}

pub(super) fn token_target(row: &dyn Columns) -> Read<TokenTarget> {
    let row = Parsing::new("tokens", row, "order_id");
    Ok(TokenTarget {
        order: row.parse("order_id")?,
        attempt: match row.get::<Option<i64>>("attempt")? {
            Some(_) => Some(row.attempt("attempt")?),
            None => None,
        },
    })
}

pub(super) fn merchant_row(row: &dyn Columns) -> Read<Merchant> {
    let row = Parsing::new("merchants", row, "id");
    let merchant: Merchant = row.json("record")?;
    if merchant.id != row.parse("id")? {
        return Err(row.wrong("id differs from the record beside it"));
    }
    Ok(merchant)
}

pub(super) const KEY: &str =
    "SELECT id, merchant, sealed_secret, created_at, valid_until, last_used_at
    FROM merchant_keys";

pub(super) fn key_row(row: &dyn Columns) -> Read<MerchantKey> {
    let row = Parsing::new("merchant_keys", row, "id");
    Ok(MerchantKey {
        id: row.parse("id")?,
        merchant: row.parse("merchant")?,
        sealed_secret: Sealed(row.get("sealed_secret")?),
        created_at: row.time("created_at")?,
        valid_until: row.time_if_any("valid_until")?,
        last_used_at: row.time_if_any("last_used_at")?,
    })
}

/// `key`: what was asked for. It may say too much for a complaint.
pub(super) fn idempotency_row(row: &dyn Columns, key: &str) -> Read<IdempotencyRow> {
    let row = Parsing::new("idempotency", row, "merchant");
    let status = row.number_if_any("status")?;
    let answer: Option<Vec<u8>> = row.get("answer")?;
    Ok(IdempotencyRow {
        merchant: row.parse("merchant")?,
        key: key.to_owned(),
        request_hash: row.bytes("request_hash")?,
        instance: u128::from_be_bytes(row.bytes("instance")?),
        started_at: row.time("started_at")?,
        answer: status.zip(answer.map(Sealed)),
    })
}

pub(super) fn oauth_state_row(row: &dyn Columns, state_hash: TokenHash) -> Read<OauthState> {
    let row = Parsing::new("oauth_states", row, "order_id");
    let code = row.bytes_if_any("code_hash")?.map(TokenHash);
    let payer = row.bytes_if_any("payer")?.map(u128::from_be_bytes);
    Ok(OauthState {
        state_hash,
        order: row.parse("order_id")?,
        attempt: row.attempt("attempt")?,
        account: AccountId::new(row.get::<String>("account")?),
        created_at: row.time("created_at")?,
        used: code.map(|code| (code, payer)),
    })
}

pub(super) const OUTBOX: &str = "SELECT position, id, merchant, order_id, version, kind, body,
    body_digest, created_at, state, tries, next_at, note FROM outbox AS entry";

/// The condition of E3: no earlier event of the same order is still on its way.
pub(super) const IS_OLDEST: &str = "NOT EXISTS (SELECT 1 FROM outbox AS earlier
    WHERE earlier.order_id = entry.order_id AND earlier.state = 'pending'
      AND (earlier.version, earlier.id) < (entry.version, entry.id))";

pub(super) fn outbox_row(row: &dyn Columns) -> Read<OutboxEntry> {
    let row = Parsing::new("outbox", row, "id");
    Ok(OutboxEntry {
        id: row.parse("id")?,
        merchant: row.parse("merchant")?,
        order: row.parse("order_id")?,
        version: row.number("version")?,
        kind: row.word("kind")?,
        body: Sealed(row.get("body")?),
        created_at: row.time("created_at")?,
        state: row.word("state")?,
        tries: row.number("tries")?,
        next_at: row.time_if_any("next_at")?,
        note: row.get("note")?,
        body_digest: if row.get::<Vec<u8>>("body_digest")?.is_empty() {
            None
        } else {
            Some(BodyDigest(row.bytes("body_digest")?))
        },
    })
}

pub(super) fn setting_value(row: &dyn Columns) -> Read<String> {
    Parsing::new("settings", row, "name").get("value")
}

/// With its place among all events.
pub(super) fn placed_event(row: &dyn Columns) -> Read<(u64, OutboxEntry)> {
    let position = Parsing::new("outbox", row, "id").number("position")?;
    Ok((position, outbox_row(row)?))
}

pub(super) fn shard_row(row: &dyn Columns) -> Read<ShardRow> {
    let row = Parsing::named("shards", row, "");
    Ok(ShardRow {
        shard: row.number("shard")?,
        epoch: row.number("epoch")?,
        instance: row.bytes_if_any("instance")?.map(u128::from_be_bytes),
    })
}

pub(super) fn instance_row(row: &dyn Columns) -> Read<InstanceRow> {
    let row = Parsing::new("instances", row, "node");
    Ok(InstanceRow {
        instance: u128::from_be_bytes(row.bytes("instance")?),
        node: row.get("node")?,
        internal_url: row.get("internal_url")?,
        left_ms: row.get("left_ms")?,
    })
}
