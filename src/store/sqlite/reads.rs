//! What is asked of the store, as SQL and back. Every query that a sweep repeats is answered from an
//! index; the test below asks SQLite's planner.

use std::fmt::Write as _;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Params, params, params_from_iter};

use super::rows::unavailable;
use crate::order::{AccountId, EventId, KeyId, MerchantId, OrderId, Status, Timestamp};
use crate::sealing::{Sealed, TokenHash, TokenKind};
use crate::store::records::books::{EVIDENCE, evidence_row};
use crate::store::records::{
    IS_OLDEST, KEY, ORDER, OUTBOX, Read, idempotency_row, instance_row, key_row, merchant_row,
    oauth_state_row, outbox_row, personal_value, setting_value, shard_row, stored_order,
    timeline_entry, token_target,
};
use crate::store::rows::{Columns, Parsing, STATUSES, integer, limit};
use crate::store::{
    EvidenceRow, Fence, IdempotencyRow, InstanceRow, Merchant, MerchantKey, OauthState,
    OrderFilter, OutboxEntry, OutboxGauge, Owned, ShardRow, StoredOrder, TimelineEntry,
    TokenTarget,
};

/// At most one row.
pub(super) fn one<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    parse: impl Fn(&dyn Columns) -> Read<T>,
) -> Read<Option<T>> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_row(params, |row| Ok(parse(row))).optional())
        .map_err(|error| unavailable(&error))?
        .transpose()
}

pub(super) fn many<T>(
    connection: &Connection,
    sql: &str,
    params: impl Params,
    parse: impl Fn(&dyn Columns) -> Read<T>,
) -> Read<Vec<T>> {
    let found = || -> Result<Read<Vec<T>>, rusqlite::Error> {
        let mut statement = connection.prepare_cached(sql)?;
        statement
            .query_map(params, |row| Ok(parse(row)))?
            .collect::<Result<Read<Vec<T>>, _>>()
    };
    found().map_err(|error| unavailable(&error))?
}

pub(super) fn order(connection: &Connection, id: OrderId) -> Read<Option<StoredOrder>> {
    let sql = format!("{ORDER} WHERE id = ?1");
    one(connection, &sql, [id.to_string()], stored_order)
}

pub(super) fn order_by_number(
    connection: &Connection,
    merchant: MerchantId,
    number: &str,
) -> Read<Option<StoredOrder>> {
    let sql = format!("{ORDER} WHERE merchant = ?1 AND merchant_order_no = ?2");
    one(
        connection,
        &sql,
        params![merchant.to_string(), number],
        stored_order,
    )
}

pub(super) fn orders(connection: &Connection, filter: &OrderFilter) -> Read<Vec<StoredOrder>> {
    let (sql, values) = orders_query(filter);
    many(connection, &sql, params_from_iter(values), stored_order)
}

fn orders_query(filter: &OrderFilter) -> (String, Vec<Value>) {
    let mut sql = format!("{ORDER} WHERE merchant = ?1");
    let mut values = vec![Value::from(filter.merchant.to_string())];
    let mut also = |condition: &str, value: Option<Value>| {
        if let Some(value) = value {
            values.push(value);
            let _ = write!(sql, " AND {condition} ?{}", values.len());
        }
    };
    also(
        "merchant_order_no =",
        filter.merchant_order_no.clone().map(Value::from),
    );
    also(
        "payer_index =",
        filter
            .payer_index
            .map(|index| Value::from(index.to_be_bytes().to_vec())),
    );
    also(
        "status =",
        filter
            .status
            .map(|status| Value::from(status.as_str().to_owned())),
    );
    also(
        "created_at >",
        filter
            .created_after
            .map(|after| Value::from(after.as_millis())),
    );
    also("id <", filter.before.map(|id| Value::from(id.to_string())));
    values.push(Value::from(limit(filter.limit)));
    // Ids begin with the time at which they were made.
    let _ = write!(sql, " ORDER BY id DESC LIMIT ?{}", values.len());
    (sql, values)
}

const PAID_ORDER_FOR: &str = "SELECT id FROM orders
    WHERE merchant = ?1 AND payer_index = ?2 AND purpose = ?3 AND status = 'paid'
    ORDER BY id DESC LIMIT 1";

pub(super) fn paid_order_for(
    connection: &Connection,
    merchant: MerchantId,
    payer_index: u128,
    purpose: &str,
) -> Read<Option<OrderId>> {
    one(
        connection,
        PAID_ORDER_FOR,
        params![merchant.to_string(), payer_index.to_be_bytes(), purpose],
        |row| Parsing::new("orders", row, "id").parse("id"),
    )
}

const DUE: &str = "SELECT id FROM orders WHERE next_due_at <= ?1 ORDER BY next_due_at LIMIT ?2";

pub(super) fn due(
    connection: &Connection,
    until: Timestamp,
    owned: &Owned,
    rows: usize,
) -> Read<Vec<OrderId>> {
    let mut due = many(
        connection,
        DUE,
        params![until.as_millis(), limit(rows)],
        |row| Parsing::new("orders", row, "id").parse("id"),
    )?;
    // One process has this file, and all shards or none: nothing hides behind what is left out.
    due.retain(|id| owned.contains(*id));
    Ok(due)
}

pub(super) fn versions(connection: &Connection, orders: &[OrderId]) -> Read<Vec<(OrderId, u64)>> {
    let mut versions = Vec::with_capacity(orders.len());
    for id in orders {
        let version = one(
            connection,
            "SELECT id, version FROM orders WHERE id = ?1",
            [id.to_string()],
            |row| Parsing::new("orders", row, "id").number("version"),
        )?;
        versions.extend(version.map(|version| (*id, version)));
    }
    Ok(versions)
}

pub(super) fn shards(connection: &Connection) -> Read<Vec<ShardRow>> {
    many(
        connection,
        "SELECT shard, epoch, instance FROM shards ORDER BY shard",
        [],
        shard_row,
    )
}

pub(super) fn fence_stands(connection: &Connection, fence: Fence) -> Result<bool, rusqlite::Error> {
    let Fence::Owner {
        shard,
        epoch,
        instance,
    } = fence
    else {
        return Ok(true);
    };
    connection
        .prepare_cached("SELECT 1 FROM shards WHERE shard = ?1 AND epoch = ?2 AND instance = ?3")?
        .exists(params![shard, integer(epoch), instance.to_be_bytes()])
}

pub(super) fn instances(connection: &Connection, now: Timestamp) -> Read<Vec<InstanceRow>> {
    many(
        connection,
        "SELECT instance, node, internal_url, alive_until - ?1 AS left_ms FROM instances
         ORDER BY instance",
        [now.as_millis()],
        instance_row,
    )
}

pub(super) fn timeline(connection: &Connection, order: OrderId) -> Read<Vec<TimelineEntry>> {
    many(
        connection,
        "SELECT order_id, version, position, at, actor, request_id, event FROM order_events
         WHERE order_id = ?1 ORDER BY version, position",
        [order.to_string()],
        timeline_entry,
    )
}

pub(super) fn personal(
    connection: &Connection,
    order: OrderId,
    slot: &str,
) -> Read<Option<Sealed>> {
    one(
        connection,
        "SELECT order_id, sealed FROM personal WHERE order_id = ?1 AND slot = ?2",
        params![order.to_string(), slot],
        personal_value,
    )
}

pub(super) fn token(
    connection: &Connection,
    kind: TokenKind,
    hash: TokenHash,
) -> Read<Option<TokenTarget>> {
    one(
        connection,
        "SELECT order_id, attempt FROM tokens WHERE kind = ?1 AND hash = ?2",
        params![kind.as_str(), hash.0],
        token_target,
    )
}

pub(super) fn merchant(connection: &Connection, id: MerchantId) -> Read<Option<Merchant>> {
    one(
        connection,
        "SELECT id, record FROM merchants WHERE id = ?1",
        [id.to_string()],
        merchant_row,
    )
}

pub(super) fn merchants(connection: &Connection) -> Read<Vec<Merchant>> {
    many(
        connection,
        "SELECT id, record FROM merchants ORDER BY id",
        [],
        merchant_row,
    )
}

pub(super) fn key(connection: &Connection, id: KeyId) -> Read<Option<MerchantKey>> {
    let sql = format!("{KEY} WHERE id = ?1");
    one(connection, &sql, [id.to_string()], key_row)
}

pub(super) fn keys_of(connection: &Connection, merchant: MerchantId) -> Read<Vec<MerchantKey>> {
    let sql = format!("{KEY} WHERE merchant = ?1 ORDER BY id");
    many(connection, &sql, [merchant.to_string()], key_row)
}

pub(super) fn idempotency(
    connection: &Connection,
    merchant: MerchantId,
    key: &str,
) -> Read<Option<IdempotencyRow>> {
    one(
        connection,
        "SELECT merchant, request_hash, instance, started_at, status, answer FROM idempotency
         WHERE merchant = ?1 AND key = ?2",
        params![merchant.to_string(), key],
        |row| idempotency_row(row, key),
    )
}

pub(super) fn oauth_state(
    connection: &Connection,
    state_hash: TokenHash,
) -> Read<Option<OauthState>> {
    one(
        connection,
        "SELECT order_id, attempt, account, created_at, code_hash, payer FROM oauth_states
         WHERE state_hash = ?1",
        [state_hash.0],
        |row| oauth_state_row(row, state_hash),
    )
}

/// Whose events are on their way: a hop over the index per merchant, not a look at every event.
const MERCHANTS_WITH_PENDING: &str = "WITH RECURSIVE waiting (merchant) AS (
        SELECT min(merchant) FROM outbox WHERE state = 'pending'
        UNION ALL
        SELECT (SELECT min(merchant) FROM outbox
                WHERE state = 'pending' AND merchant > waiting.merchant)
        FROM waiting WHERE waiting.merchant IS NOT NULL)
    SELECT merchant FROM waiting WHERE merchant IS NOT NULL";

fn outbox_due_of_one() -> String {
    format!(
        "{OUTBOX} WHERE state = 'pending' AND merchant = ?1 AND next_at <= ?2 AND {IS_OLDEST}
         ORDER BY next_at, id LIMIT ?3"
    )
}

fn merchants_with_pending(connection: &Connection) -> Read<Vec<String>> {
    many(connection, MERCHANTS_WITH_PENDING, [], |row| {
        Parsing::named("outbox", row, "").get("merchant")
    })
}

pub(super) fn outbox_due(
    connection: &Connection,
    now: Timestamp,
    owned: &Owned,
    rows: usize,
    per_merchant: usize,
) -> Read<Vec<OutboxEntry>> {
    let sql = outbox_due_of_one();
    let mut ranked = Vec::new();
    for merchant in merchants_with_pending(connection)? {
        let due = many(
            connection,
            &sql,
            params![merchant, now.as_millis(), limit(per_merchant.min(rows))],
            outbox_row,
        )?;
        let due = due.into_iter().filter(|entry| owned.contains(entry.order));
        ranked.extend(due.enumerate());
    }
    // Everybody's first before anybody's second.
    ranked.sort_by_key(|(rank, entry)| (*rank, entry.next_at, entry.id));
    ranked.truncate(rows);
    Ok(ranked.into_iter().map(|(_, entry)| entry).collect())
}

pub(super) fn outbox_event(connection: &Connection, id: EventId) -> Read<Option<OutboxEntry>> {
    one(
        connection,
        &format!("{OUTBOX} WHERE id = ?1"),
        [id.to_string()],
        outbox_row,
    )
}

fn outbox_in(state: &str) -> String {
    format!("{OUTBOX} WHERE state = '{state}' ORDER BY created_at, id LIMIT ?1")
}

pub(super) fn outbox_undelivered(
    connection: &Connection,
    all: bool,
    rows: usize,
) -> Read<Vec<OutboxEntry>> {
    // One question per partial index: a state that is a parameter could use neither.
    let mut entries = many(connection, &outbox_in("parked"), [limit(rows)], outbox_row)?;
    if all {
        entries.extend(many(
            connection,
            &outbox_in("pending"),
            [limit(rows)],
            outbox_row,
        )?);
        entries.sort_by_key(|entry| (entry.created_at, entry.id));
        entries.truncate(rows);
    }
    Ok(entries)
}

const OUTBOX_PENDING: &str =
    "SELECT count(*) AS events, min(created_at) AS oldest FROM outbox WHERE state = 'pending'";
const OUTBOX_PARKED: &str = "SELECT count(*) AS events FROM outbox WHERE state = 'parked'";

fn next_due_of_one() -> String {
    format!(
        "SELECT next_at FROM outbox AS entry
         WHERE state = 'pending' AND merchant = ?1 AND {IS_OLDEST} ORDER BY next_at LIMIT 1"
    )
}

pub(super) fn outbox_gauge(connection: &Connection) -> Read<OutboxGauge> {
    let count = |sql| {
        one(connection, sql, [], |row| {
            Parsing::named("outbox", row, "").number::<u64>("events")
        })
        .map(Option::unwrap_or_default)
    };
    let oldest_pending = one(connection, OUTBOX_PENDING, [], |row| {
        Parsing::named("outbox", row, "").time_if_any("oldest")
    })?
    .flatten();
    let sql = next_due_of_one();
    let mut next_due: Option<Timestamp> = None;
    for merchant in merchants_with_pending(connection)? {
        let next = one(connection, &sql, [merchant], |row| {
            Parsing::named("outbox", row, "").time("next_at")
        })?;
        // An event that waits for an earlier one is due when that one is out of the way.
        next_due = next_due.into_iter().chain(next).min();
    }
    Ok(OutboxGauge {
        pending: count(OUTBOX_PENDING)?,
        parked: count(OUTBOX_PARKED)?,
        oldest_pending,
        next_due,
    })
}

pub(super) fn evidence(
    connection: &Connection,
    account: &AccountId,
    reference: &str,
) -> Read<Option<EvidenceRow>> {
    one(
        connection,
        &format!("{EVIDENCE} WHERE account = ?1 AND reference = ?2"),
        params![account.as_str(), reference],
        evidence_row,
    )
}

pub(super) fn setting(connection: &Connection, name: &str) -> Read<Option<String>> {
    one(
        connection,
        "SELECT name, value FROM settings WHERE name = ?1",
        [name],
        setting_value,
    )
}

/// Every status, with how many orders stand there.
pub(super) fn count_by_status(connection: &Connection) -> Read<Vec<(Status, u64)>> {
    STATUSES
        .into_iter()
        .map(|status| {
            let orders = one(
                connection,
                "SELECT status, orders FROM order_counts WHERE status = ?1",
                [status.as_str()],
                |row| Parsing::new("order_counts", row, "status").number("orders"),
            )?;
            Ok((status, orders.unwrap_or_default()))
        })
        .collect()
}

pub(super) fn usable(connection: &Connection) -> Read<()> {
    one(connection, "SELECT count(*) FROM settings", [], |_| Ok(())).map(drop)
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::apply::{
        FORGET_KEYS, FORGET_NONCES, FORGET_OAUTH_STATES, FORGET_PAYER_LINKS,
    };
    use super::super::books::{
        AUDIT, LEDGER, ODD_CAPTURES, events_query, evidence_open_query, refunds_open_query,
    };
    use super::super::opening::in_memory;
    use super::super::personal::{LOOSE_EVIDENCE, ORDERS_WITH_PEOPLE, PEOPLE_OF};
    use super::*;

    /// The steps of the plan that look at every row of a table.
    pub(in crate::store::sqlite) fn full_scans(connection: &Connection, sql: &str) -> Vec<String> {
        let mut statement = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
            .unwrap();
        let parameters = statement.parameter_count();
        let nulls = vec![Value::Null; parameters];
        let steps: Vec<String> = statement
            .query_map(params_from_iter(nulls), |row| row.get("detail"))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert!(!steps.is_empty());
        steps
            .into_iter()
            .filter(|step| {
                // An index over what is pending, parked or open holds just that.
                let partial = step.contains("INDEX outbox_p") || step.ends_with("_open");
                let sorts = step.contains("TEMP B-TREE");
                let walks = step.starts_with("SCAN ")
                    && !step.starts_with("SCAN waiting")
                    && !step.starts_with("SCAN CONSTANT ROW");
                sorts || (walks && !partial)
            })
            .collect()
    }

    #[test]
    fn the_planner_is_asked_in_earnest() {
        let connection = in_memory();
        let by_amount = "SELECT id FROM orders WHERE amount = 1";
        assert_eq!(full_scans(&connection, by_amount), ["SCAN orders"]);
        let by_note = "SELECT id FROM outbox WHERE note = ''";
        assert_eq!(full_scans(&connection, by_note), ["SCAN outbox"]);
    }

    #[test]
    fn what_a_sweep_repeats_is_answered_from_an_index() {
        let connection = in_memory();
        let sweeps = [
            DUE.to_owned(),
            PAID_ORDER_FOR.to_owned(),
            MERCHANTS_WITH_PENDING.to_owned(),
            outbox_due_of_one(),
            next_due_of_one(),
            OUTBOX_PENDING.to_owned(),
            OUTBOX_PARKED.to_owned(),
            outbox_in("parked"),
            format!("{OUTBOX} WHERE id = ?1"),
            format!("{ORDER} WHERE id = ?1"),
            format!("{ORDER} WHERE merchant = ?1 AND merchant_order_no = ?2"),
            events_query(0),
            events_query(2),
            refunds_open_query(),
            ODD_CAPTURES.to_owned(),
            LEDGER.to_owned(),
            evidence_open_query(),
            AUDIT.to_owned(),
            FORGET_NONCES.to_owned(),
            FORGET_OAUTH_STATES.to_owned(),
            FORGET_KEYS.to_owned(),
            FORGET_PAYER_LINKS.to_owned(),
            ORDERS_WITH_PEOPLE.to_owned(),
            PEOPLE_OF.to_owned(),
            LOOSE_EVIDENCE.to_owned(),
        ];
        for sql in sweeps {
            assert_eq!(full_scans(&connection, &sql), Vec::<String>::new(), "{sql}");
        }
    }

    #[test]
    fn a_list_of_orders_is_read_from_an_index_whatever_is_asked_for() {
        let connection = in_memory();
        let id = OrderId::from_ulid(ulid::Ulid(1));
        let everything = OrderFilter {
            merchant: MerchantId::from_ulid(ulid::Ulid(1)),
            merchant_order_no: Some("1".to_owned()),
            payer_index: Some(1),
            status: Some(Status::Paid),
            created_after: Some(Timestamp::default()),
            before: Some(id),
            limit: 1,
        };
        for asked in 0..32u32 {
            let mut filter = everything.clone();
            let keeps = |bit: u32| asked & (1 << bit) != 0;
            filter.merchant_order_no = filter.merchant_order_no.filter(|_| keeps(0));
            filter.payer_index = filter.payer_index.filter(|_| keeps(1));
            filter.status = filter.status.filter(|_| keeps(2));
            filter.created_after = filter.created_after.filter(|_| keeps(3));
            filter.before = filter.before.filter(|_| keeps(4));
            let (sql, values) = orders_query(&filter);
            assert_eq!(
                connection.prepare(&sql).unwrap().parameter_count(),
                values.len()
            );
            assert_eq!(full_scans(&connection, &sql), Vec::<String>::new(), "{sql}");
        }
    }
}
