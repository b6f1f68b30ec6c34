//! What is asked of the store, as SQL and back. Each question is one statement: it sees the store at
//! one moment. Every one that a sweep repeats is answered from an index (`tests/it/store/postgres.rs`
//! asks the planner). All of them go to the server that writes: a replica may be behind, and an answer
//! from here may decide (F18).

use std::fmt::Write as _;

use tokio_postgres::types::ToSql;

use super::rows::Values;
use super::{Need, PostgresStore};
use crate::order::{AccountId, EventId, KeyId, MerchantId, OrderId, Status, Timestamp};
use crate::sealing::{Sealed, TokenHash, TokenKind};
use crate::store::records::books::{EVIDENCE, evidence_row};
use crate::store::records::{
    IS_OLDEST, KEY, ORDER, OUTBOX, Read, idempotency_row, instance_row, key_row, merchant_row,
    oauth_state_row, outbox_row, personal_value, setting_value, shard_row, stored_order,
    timeline_entry, token_target,
};
use crate::store::rows::{Parsing, STATUSES, integer, limit};
use crate::store::{
    EvidenceRow, Fence, IdempotencyRow, InstanceRow, Merchant, MerchantKey, OauthState,
    OrderFilter, OutboxEntry, OutboxGauge, Owned, ShardRow, StoreError, StoredOrder, TimelineEntry,
    TokenTarget,
};

pub(super) async fn order(
    store: &PostgresStore,
    need: Need,
    id: OrderId,
) -> Read<Option<StoredOrder>> {
    let sql = format!("{ORDER} WHERE id = $1");
    store
        .one_for(need, &sql, &[&id.to_string()], stored_order)
        .await
}

pub(super) async fn order_by_number(
    store: &PostgresStore,
    merchant: MerchantId,
    number: &str,
) -> Read<Option<StoredOrder>> {
    let sql = format!("{ORDER} WHERE merchant = $1 AND merchant_order_no = $2");
    let values: [&(dyn ToSql + Sync); 2] = [&merchant.to_string(), &number];
    store.one(&sql, &values, stored_order).await
}

pub(super) async fn orders(store: &PostgresStore, filter: &OrderFilter) -> Read<Vec<StoredOrder>> {
    let (sql, values) = orders_query(filter);
    let values: Vec<&(dyn ToSql + Sync)> = values
        .iter()
        .map(|value| -> &(dyn ToSql + Sync) { value.as_ref() })
        .collect();
    store.many(&sql, &values, stored_order).await
}

type Value = Box<dyn ToSql + Sync + Send>;

fn orders_query(filter: &OrderFilter) -> (String, Vec<Value>) {
    fn value(value: impl ToSql + Sync + Send + 'static) -> Value {
        Box::new(value)
    }
    let mut sql = format!("{ORDER} WHERE merchant = $1");
    let mut values = vec![value(filter.merchant.to_string())];
    let mut also = |condition: &str, value: Option<Value>| {
        if let Some(value) = value {
            values.push(value);
            let _ = write!(sql, " AND {condition} ${}", values.len());
        }
    };
    also(
        "merchant_order_no =",
        filter.merchant_order_no.clone().map(value),
    );
    also(
        "payer_index =",
        filter
            .payer_index
            .map(|index| value(index.to_be_bytes().to_vec())),
    );
    also(
        "status =",
        filter.status.map(|status| value(status.as_str())),
    );
    also(
        "created_at >",
        filter.created_after.map(|after| value(after.as_millis())),
    );
    also("id <", filter.before.map(|id| value(id.to_string())));
    values.push(value(limit(filter.limit)));
    // Ids begin with the time at which they were made.
    let _ = write!(sql, " ORDER BY id DESC LIMIT ${}", values.len());
    (sql, values)
}

const PAID_ORDER_FOR: &str = "SELECT id FROM orders
    WHERE merchant = $1 AND payer_index = $2 AND purpose = $3 AND status = 'paid'
    ORDER BY id DESC LIMIT 1";

pub(super) async fn paid_order_for(
    store: &PostgresStore,
    merchant: MerchantId,
    payer_index: u128,
    purpose: &str,
) -> Read<Option<OrderId>> {
    let payer = payer_index.to_be_bytes();
    let values: [&(dyn ToSql + Sync); 3] = [&merchant.to_string(), &payer.as_slice(), &purpose];
    store
        .one(PAID_ORDER_FOR, &values, |row| {
            Parsing::new("orders", row, "id").parse("id")
        })
        .await
}

/// The condition that an order or an event is of one of the shards asked for, and its two values: how
/// many shards there are, and which.
struct OfShards {
    condition: String,
    values: Option<(i64, Vec<i64>)>,
}

impl OfShards {
    /// `next`: the number of the first of its parameters.
    fn new(owned: &Owned, next: usize) -> Self {
        let (condition, values) = match owned {
            Owned::All => (String::new(), None),
            Owned::Some { shards, mine } => (
                format!("AND shard_hash % ${next} = ANY (${})", next + 1),
                Some((
                    i64::from(*shards).max(1),
                    mine.iter().copied().map(i64::from).collect(),
                )),
            ),
        };
        Self { condition, values }
    }

    /// These values and then its own.
    fn after<'a>(&'a self, values: Values<'a>) -> Vec<&'a (dyn ToSql + Sync)> {
        let mut all = values.to_vec();
        if let Some((shards, mine)) = &self.values {
            all.extend([shards as &(dyn ToSql + Sync), mine]);
        }
        all
    }
}

fn due_query(of: &OfShards) -> String {
    format!(
        "SELECT id FROM orders WHERE next_due_at <= $1 {} ORDER BY next_due_at LIMIT $2",
        of.condition
    )
}

pub(super) async fn due(
    store: &PostgresStore,
    until: Timestamp,
    owned: &Owned,
    rows: usize,
) -> Read<Vec<OrderId>> {
    let of = OfShards::new(owned, 3);
    let (until, rows) = (until.as_millis(), limit(rows));
    store
        .many(&due_query(&of), &of.after(&[&until, &rows]), |row| {
            Parsing::new("orders", row, "id").parse("id")
        })
        .await
}

pub(super) async fn versions(
    store: &PostgresStore,
    orders: &[OrderId],
) -> Read<Vec<(OrderId, u64)>> {
    let ids: Vec<String> = orders.iter().map(OrderId::to_string).collect();
    let sql = "SELECT id, version FROM orders WHERE id = ANY ($1)";
    store
        .many(sql, &[&ids], |row| {
            let row = Parsing::new("orders", row, "id");
            Ok((row.parse("id")?, row.number("version")?))
        })
        .await
}

pub(super) async fn shards(store: &PostgresStore) -> Read<Vec<ShardRow>> {
    let sql = "SELECT shard, epoch, instance FROM shards ORDER BY shard";
    store.many(sql, &[], shard_row).await
}

pub(super) async fn fence_stands(store: &PostgresStore, fence: Fence) -> Read<bool> {
    let Fence::Owner {
        shard,
        epoch,
        instance,
    } = fence
    else {
        return Ok(true);
    };
    // No row has an epoch beyond what PostgreSQL can count.
    let Some(epoch) = integer(epoch) else {
        return Ok(false);
    };
    let (shard, instance) = (i64::from(shard), instance.to_be_bytes());
    let values: Values<'_> = &[&shard, &epoch, &instance.as_slice()];
    let sql = "SELECT shard, epoch, instance FROM shards
        WHERE shard = $1 AND epoch = $2 AND instance = $3";
    Ok(store.one(sql, values, shard_row).await?.is_some())
}

pub(super) async fn instances(store: &PostgresStore) -> Read<Vec<InstanceRow>> {
    let sql = "SELECT instance, node, internal_url, alive_until - now_ms() AS left_ms
        FROM instances ORDER BY instance";
    store.many(sql, &[], instance_row).await
}

pub(super) async fn timeline(store: &PostgresStore, order: OrderId) -> Read<Vec<TimelineEntry>> {
    store
        .many(
            "SELECT order_id, version, position, at, actor, request_id, event FROM order_events
             WHERE order_id = $1 ORDER BY version, position",
            &[&order.to_string()],
            timeline_entry,
        )
        .await
}

pub(super) async fn personal(
    store: &PostgresStore,
    need: Need,
    order: OrderId,
    slot: &str,
) -> Read<Option<Sealed>> {
    let values: [&(dyn ToSql + Sync); 2] = [&order.to_string(), &slot];
    store
        .one_for(
            need,
            "SELECT order_id, sealed FROM personal WHERE order_id = $1 AND slot = $2",
            &values,
            personal_value,
        )
        .await
}

pub(super) async fn token(
    store: &PostgresStore,
    kind: TokenKind,
    hash: TokenHash,
) -> Read<Option<TokenTarget>> {
    let values: [&(dyn ToSql + Sync); 2] = [&kind.as_str(), &hash.0.as_slice()];
    store
        .one(
            "SELECT order_id, attempt FROM tokens WHERE kind = $1 AND hash = $2",
            &values,
            token_target,
        )
        .await
}

pub(super) async fn merchant(store: &PostgresStore, id: MerchantId) -> Read<Option<Merchant>> {
    let sql = "SELECT id, record FROM merchants WHERE id = $1";
    store.one(sql, &[&id.to_string()], merchant_row).await
}

pub(super) async fn merchants(store: &PostgresStore) -> Read<Vec<Merchant>> {
    let sql = "SELECT id, record FROM merchants ORDER BY id";
    store.many(sql, &[], merchant_row).await
}

pub(super) async fn key(store: &PostgresStore, id: KeyId) -> Read<Option<MerchantKey>> {
    let sql = format!("{KEY} WHERE id = $1");
    store.one(&sql, &[&id.to_string()], key_row).await
}

pub(super) async fn keys_of(store: &PostgresStore, of: MerchantId) -> Read<Vec<MerchantKey>> {
    let sql = format!("{KEY} WHERE merchant = $1 ORDER BY id");
    store.many(&sql, &[&of.to_string()], key_row).await
}

pub(super) async fn idempotency(
    store: &PostgresStore,
    merchant: MerchantId,
    key: &str,
) -> Read<Option<IdempotencyRow>> {
    let values: [&(dyn ToSql + Sync); 2] = [&merchant.to_string(), &key];
    store
        .one(
            "SELECT merchant, request_hash, instance, started_at, status, answer FROM idempotency
             WHERE merchant = $1 AND key = $2",
            &values,
            |row| idempotency_row(row, key),
        )
        .await
}

pub(super) async fn oauth_state(
    store: &PostgresStore,
    state_hash: TokenHash,
) -> Read<Option<OauthState>> {
    store
        .one(
            "SELECT order_id, attempt, account, created_at, code_hash, payer FROM oauth_states
             WHERE state_hash = $1",
            &[&state_hash.0.as_slice()],
            |row| oauth_state_row(row, state_hash),
        )
        .await
}

/// Whose events are on their way: a hop over the index per merchant, not a look at every event.
const MERCHANTS_WITH_PENDING: &str = "WITH RECURSIVE waiting (merchant) AS (
        (SELECT merchant FROM outbox WHERE state = 'pending' ORDER BY merchant LIMIT 1)
        UNION ALL
        SELECT (SELECT next.merchant FROM outbox AS next
                WHERE next.state = 'pending' AND next.merchant > waiting.merchant
                ORDER BY next.merchant LIMIT 1)
        FROM waiting WHERE waiting.merchant IS NOT NULL)";

fn outbox_due_query(of: &OfShards) -> String {
    // Everybody's first before anybody's second.
    format!(
        "{MERCHANTS_WITH_PENDING}
         SELECT due.* FROM waiting CROSS JOIN LATERAL (
             SELECT first.*, row_number() OVER (ORDER BY first.next_at, first.id) AS rank
             FROM ({OUTBOX} WHERE state = 'pending' AND merchant = waiting.merchant
                   AND next_at <= $1 AND {IS_OLDEST} {}
                   ORDER BY next_at, id LIMIT $2) AS first) AS due
         WHERE waiting.merchant IS NOT NULL ORDER BY rank, next_at, id LIMIT $3",
        of.condition
    )
}

pub(super) async fn outbox_due(
    store: &PostgresStore,
    now: Timestamp,
    owned: &Owned,
    rows: usize,
    per_merchant: usize,
) -> Read<Vec<OutboxEntry>> {
    let of = OfShards::new(owned, 4);
    let (now, of_each, rows) = (now.as_millis(), limit(per_merchant.min(rows)), limit(rows));
    store
        .many(
            &outbox_due_query(&of),
            &of.after(&[&now, &of_each, &rows]),
            outbox_row,
        )
        .await
}

pub(super) async fn outbox_event(store: &PostgresStore, id: EventId) -> Read<Option<OutboxEntry>> {
    let sql = format!("{OUTBOX} WHERE id = $1");
    store.one(&sql, &[&id.to_string()], outbox_row).await
}

/// One part per partial index: a state that is a parameter could use neither.
fn outbox_in(state: &str) -> String {
    format!("({OUTBOX} WHERE state = '{state}' ORDER BY created_at, id LIMIT $1)")
}

fn undelivered_query(all: bool) -> String {
    let parked = outbox_in("parked");
    if !all {
        return parked;
    }
    let pending = outbox_in("pending");
    format!("{parked} UNION ALL {pending} ORDER BY created_at, id LIMIT $1")
}

pub(super) async fn outbox_undelivered(
    store: &PostgresStore,
    all: bool,
    rows: usize,
) -> Read<Vec<OutboxEntry>> {
    let sql = undelivered_query(all);
    store.many(&sql, &[&limit(rows)], outbox_row).await
}

fn outbox_gauge_query() -> String {
    // An event that waits for an earlier one is due when that one is out of the way.
    format!(
        "{MERCHANTS_WITH_PENDING}
         SELECT (SELECT count(*) FROM outbox WHERE state = 'pending') AS pending,
             (SELECT count(*) FROM outbox WHERE state = 'parked') AS parked,
             (SELECT min(created_at) FROM outbox WHERE state = 'pending') AS oldest,
             (SELECT min(due.next_at) FROM waiting CROSS JOIN LATERAL (
                  SELECT next_at FROM outbox AS entry
                  WHERE state = 'pending' AND merchant = waiting.merchant AND {IS_OLDEST}
                  ORDER BY next_at LIMIT 1) AS due
              WHERE waiting.merchant IS NOT NULL) AS next_due"
    )
}

pub(super) async fn outbox_gauge(store: &PostgresStore) -> Read<OutboxGauge> {
    let gauge = store
        .one(&outbox_gauge_query(), &[], |row| {
            let row = Parsing::named("outbox", row, "");
            Ok(OutboxGauge {
                pending: row.number("pending")?,
                parked: row.number("parked")?,
                oldest_pending: row.time_if_any("oldest")?,
                next_due: row.time_if_any("next_due")?,
            })
        })
        .await?;
    Ok(gauge.unwrap_or_default())
}

pub(super) async fn evidence(
    store: &PostgresStore,
    account: &AccountId,
    reference: &str,
) -> Read<Option<EvidenceRow>> {
    let sql = format!("{EVIDENCE} WHERE account = $1 AND reference = $2");
    let values: [&(dyn ToSql + Sync); 2] = [&account.as_str(), &reference];
    store.one_for(Need::Fact, &sql, &values, evidence_row).await
}

pub(super) async fn setting(store: &PostgresStore, name: &str) -> Read<Option<String>> {
    let sql = "SELECT name, value FROM settings WHERE name = $1";
    store.one(sql, &[&name], setting_value).await
}

/// Every status, with how many orders stand there.
pub(super) async fn count_by_status(store: &PostgresStore) -> Read<Vec<(Status, u64)>> {
    let counts: Vec<(Status, u64)> = store
        .many("SELECT status, orders FROM order_counts", &[], |row| {
            let row = Parsing::new("order_counts", row, "status");
            Ok((row.word("status")?, row.number("orders")?))
        })
        .await?;
    let held = |status| counts.iter().find(|(of, _)| *of == status);
    Ok(STATUSES
        .into_iter()
        .map(|status| (status, held(status).map_or(0, |(_, orders)| *orders)))
        .collect())
}

/// The store's clock, from the server that writes.
pub(super) async fn ping(store: &PostgresStore) -> Read<Timestamp> {
    let sql = "SELECT now_ms() AS now, pg_is_in_recovery() AS follows,
        (SELECT count(*) FROM settings) AS settings";
    let answer = store
        .one(sql, &[], |row| {
            let row = Parsing::named("settings", row, "");
            Ok((row.time("now")?, row.get::<bool>("follows")?))
        })
        .await?;
    match answer {
        Some((now, false)) => Ok(now),
        _ => Err(StoreError::Unavailable {
            why: "the server is a replica: it takes no writes".to_owned(),
        }),
    }
}

/// Rows that go at once.
const BITE: i64 = 500;

// Each looks for its rows once: an array is made once.
macro_rules! forget {
    ($table:literal, $age:literal) => {
        concat!(
            "WITH gone AS (DELETE FROM ",
            $table,
            " WHERE ctid = ANY (ARRAY(SELECT ctid FROM ",
            $table,
            " WHERE ",
            $age,
            " < $1 LIMIT $2)) RETURNING 1) SELECT count(*) AS gone FROM gone"
        )
    };
}
const FORGET_NONCES: &str = forget!("nonces", "seen_at");
const FORGET_OAUTH_STATES: &str = forget!("oauth_states", "created_at");
const FORGET_KEYS: &str = forget!("idempotency", "started_at");
const FORGET_PAYER_LINKS: &str = forget!("payer_links", "expires_at");

/// In small bites, each a transaction of its own, so that a clean-up never holds up a payment for long.
pub(super) async fn forget(
    store: &PostgresStore,
    nonces_before: Timestamp,
    keys_before: Timestamp,
) -> Read<u64> {
    let mut forgotten = 0;
    for (sql, before) in [
        (FORGET_NONCES, nonces_before),
        (FORGET_OAUTH_STATES, nonces_before),
        (FORGET_KEYS, keys_before),
        (FORGET_PAYER_LINKS, keys_before),
    ] {
        loop {
            let gone = store
                .one(sql, &[&before.as_millis(), &BITE], |row| {
                    Parsing::named("", row, "").number("gone")
                })
                .await?;
            let gone: u64 = gone.unwrap_or_default();
            forgotten += gone;
            if gone == 0 {
                break;
            }
        }
    }
    Ok(forgotten)
}
