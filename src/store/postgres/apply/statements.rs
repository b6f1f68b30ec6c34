//! The statements of a batch. One that may be refused in the course of things answers with the numbers
//! of the steps that it refused; `given` has a row for each value, with its step's number first.

use crate::store::records::bills::is_free;

/// Only the shard's owner, and only in time (as `let_in` has it for one step).
macro_rules! let_in {
    () => {
        "(given.shard IS NULL OR EXISTS (SELECT 1 FROM shards
             WHERE shards.shard = given.shard AND shards.epoch = given.epoch
               AND shards.instance = given.instance))
         AND (given.not_after IS NULL OR now_ms() < given.not_after)"
    };
}

pub(super) const NONCES: &str = "WITH given AS MATERIALIZED
        (SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[])
             AS given (step, key_id, nonce, seen_at)),
    done AS (INSERT INTO nonces (key_id, nonce, seen_at)
        SELECT key_id, nonce, seen_at FROM given
        ON CONFLICT (key_id, nonce) DO NOTHING RETURNING key_id, nonce)
    SELECT step FROM given LEFT JOIN done USING (key_id, nonce) WHERE done.nonce IS NULL";

pub(super) const KEYS_STARTED: &str = "WITH given AS MATERIALIZED
        (SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bytea[], $5::bytea[],
             $6::bigint[])
             AS given (step, merchant, key, request_hash, instance, started_at)),
    done AS (INSERT INTO idempotency (merchant, key, request_hash, instance, started_at)
        SELECT merchant, key, request_hash, instance, started_at FROM given
        ON CONFLICT (merchant, key) DO NOTHING RETURNING merchant, key)
    SELECT step FROM given LEFT JOIN done USING (merchant, key) WHERE done.key IS NULL";

pub(super) const KEYS_FINISHED: &str = "WITH given AS MATERIALIZED
        (SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bytea[],
             $6::text[])
             AS given (step, merchant, key, status, answer, order_id)),
    done AS (UPDATE idempotency SET status = given.status, answer = given.answer,
            order_id = given.order_id
        FROM given WHERE idempotency.merchant = given.merchant AND idempotency.key = given.key
          AND idempotency.status IS NULL RETURNING step)
    SELECT step FROM given LEFT JOIN done USING (step) WHERE done.step IS NULL";

pub(super) const KEYS_DROPPED: &str = "DELETE FROM idempotency
    USING unnest($1::text[], $2::text[]) AS given (merchant, key)
    WHERE idempotency.merchant = given.merchant AND idempotency.key = given.key AND status IS NULL";

pub(super) const ORDERS_CREATED: &str = concat!(
    "WITH given AS MATERIALIZED
        (SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bigint[],
             $6::text[], $7::text[], $8::text[], $9::text[], $10::bigint[], $11::bigint[],
             $12::bigint[], $13::bytea[], $14::text[], $15::text[], $16::text[], $17::bigint[])
             AS given (step, shard, epoch, instance, not_after, id, merchant, merchant_order_no,
                 status, amount, created_at, next_due_at, payer_index, purpose, state, snapshot,
                 shard_hash)),
    done AS (INSERT INTO orders (id, merchant, merchant_order_no, version, status, amount,
            created_at, next_due_at, payer_index, purpose, state, snapshot, shard_hash)
        SELECT id, merchant, merchant_order_no, 1, status, amount, created_at, next_due_at,
            payer_index, purpose, state, snapshot, shard_hash
        FROM given WHERE ",
    let_in!(),
    "   ON CONFLICT DO NOTHING RETURNING id)
    SELECT step FROM given LEFT JOIN done USING (id) WHERE done.id IS NULL"
);

pub(super) const ORDERS_MOVED: &str = concat!(
    "WITH given AS MATERIALIZED
        (SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[], $5::bigint[],
             $6::text[], $7::bigint[], $8::text[], $9::bigint[], $10::text[])
             AS given (step, shard, epoch, instance, not_after, id, version, status, next_due_at,
                 state)),
    done AS (UPDATE orders SET version = given.version, status = given.status,
            next_due_at = given.next_due_at, state = given.state
        FROM given WHERE orders.id = given.id AND orders.version = given.version - 1 AND ",
    let_in!(),
    "   RETURNING step)
    SELECT step FROM given LEFT JOIN done USING (step) WHERE done.step IS NULL"
);

pub(super) const EVENTS: &str = "INSERT INTO order_events
        (order_id, version, position, at, actor, request_id, event)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[],
        $6::text[], $7::text[])";

pub(super) const ATTEMPTS_TOUCHED: &str = "WITH given AS MATERIALIZED
        (SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[])
             AS given (step, order_id, number, status)),
    done AS (UPDATE attempts SET status = given.status
        FROM given WHERE attempts.order_id = given.order_id AND attempts.number = given.number
        RETURNING attempts.order_id, attempts.number)
    SELECT step FROM given LEFT JOIN done USING (order_id, number) WHERE done.number IS NULL";

pub(super) const ATTEMPTS_STARTED: &str = "INSERT INTO attempts
        (order_id, number, id, status, started_at, expires_at)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bigint[],
        $6::bigint[])";

pub(super) const CLAIMS: &str = "WITH given AS MATERIALIZED
        (SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bytea[], $5::bigint[])
             AS given (step, order_id, attempt, payer, claimed_at)),
    done AS (INSERT INTO claims (order_id, attempt, payer, claimed_at)
        SELECT order_id, attempt, payer, claimed_at FROM given
        ON CONFLICT (order_id, attempt) DO NOTHING RETURNING order_id, attempt)
    SELECT step FROM given LEFT JOIN done USING (order_id, attempt) WHERE done.attempt IS NULL";

pub(super) const CAPTURES: &str = "WITH given AS MATERIALIZED
        (SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[],
             $6::text[], $7::bigint[], $8::bigint[], $9::bigint[])
             AS given (step, account, transaction_id, order_id, attempt, wallet, amount,
                 succeeded_at, heard_at)),
    done AS (INSERT INTO captures (account, transaction_id, order_id, attempt, wallet, amount,
            succeeded_at, heard_at)
        SELECT account, transaction_id, order_id, attempt, wallet, amount, succeeded_at, heard_at
        FROM given
        ON CONFLICT (account, transaction_id) DO NOTHING RETURNING account, transaction_id, order_id)
    SELECT step FROM given LEFT JOIN done USING (account, transaction_id, order_id)
    WHERE done.order_id IS NULL";

pub(super) const LEDGER: &str = "INSERT INTO ledger
        (order_id, version, position, line, book, amount, at)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[],
        $6::bigint[], $7::bigint[])";

pub(super) const OUTBOX: &str = "INSERT INTO outbox (position, id, merchant, order_id, version,
        kind, body, body_digest, created_at, state, tries, next_at, note, changed_at, shard_hash)
    SELECT place.place + turn, id, merchant, order_id, version, kind, body, body_digest, created_at,
        state, tries, next_at, note, created_at, shard_hash
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::text[],
        $7::bytea[], $8::bytea[], $9::bigint[], $10::text[], $11::bigint[], $12::bigint[],
        $13::text[], $14::bigint[])
        AS given (turn, id, merchant, order_id, version, kind, body, body_digest, created_at, state,
            tries, next_at, note, shard_hash),
    outbox_place() AS place (place)";

pub(super) const TOKENS: &str = "WITH given AS MATERIALIZED
        (SELECT * FROM unnest($1::bigint[], $2::text[], $3::bytea[], $4::text[], $5::bigint[])
             AS given (step, kind, hash, order_id, attempt)),
    done AS (INSERT INTO tokens (kind, hash, order_id, attempt)
        SELECT kind, hash, order_id, attempt FROM given
        ON CONFLICT (kind, hash) DO UPDATE SET attempt = excluded.attempt
        WHERE tokens.order_id = excluded.order_id
          AND tokens.attempt IS NOT DISTINCT FROM excluded.attempt
        RETURNING kind, hash)
    SELECT step FROM given LEFT JOIN done USING (kind, hash) WHERE done.kind IS NULL";

pub(super) const PERSONAL: &str = "INSERT INTO personal (order_id, slot, sealed)
    SELECT * FROM unnest($1::text[], $2::text[], $3::bytea[])
    ON CONFLICT (order_id, slot) DO UPDATE SET sealed = excluded.sealed";

pub(super) const OAUTH_STATES: &str = "INSERT INTO oauth_states
        (state_hash, order_id, attempt, account, created_at)
    SELECT * FROM unnest($1::bytea[], $2::text[], $3::bigint[], $4::text[], $5::bigint[])";

pub(super) const KEYS_USED: &str = "UPDATE merchant_keys SET last_used_at = given.at
    FROM unnest($1::text[], $2::bigint[]) AS given (id, at)
    WHERE merchant_keys.id = given.id AND (last_used_at IS NULL OR last_used_at < given.at)";

pub(super) const DELIVERIES: &str = "WITH given AS MATERIALIZED
        (SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::text[],
             $6::bigint[], $7::bigint[], $8::text[], $9::bigint[])
             AS given (step, id, was_state, was_tries, state, tries, next_at, note, at)),
    done AS (UPDATE outbox SET state = given.state, tries = given.tries, next_at = given.next_at,
            note = given.note, changed_at = given.at
        FROM given WHERE outbox.id = given.id AND outbox.state = given.was_state
          AND outbox.tries = given.was_tries RETURNING outbox.id)
    SELECT step FROM given LEFT JOIN done USING (id) WHERE done.id IS NULL";

/// Rows are locked in the order of their ids, as everybody locks them.
pub(super) const BILLS_CLAIMED: &str = concat!(
    "WITH given AS MATERIALIZED
        (SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[])
             AS given (step, merchant, order_id, id)),
    held AS MATERIALIZED (SELECT bills.id, given.order_id
        FROM bills JOIN given USING (id, merchant) ORDER BY bills.id FOR UPDATE OF bills),
    done AS (UPDATE bills SET order_id = held.order_id FROM held
        WHERE bills.id = held.id AND cancelled_at IS NULL AND erased_at IS NULL AND ",
    is_free!(),
    "   RETURNING bills.id)
    SELECT step FROM given LEFT JOIN done USING (id) WHERE done.id IS NULL"
);
