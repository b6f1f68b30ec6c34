-- The embedded store, first version. Ids are the texts of the contract (prefix and ULID), times are
-- milliseconds since the epoch, amounts are fen. JSON columns hold what the order heart reads; every
-- other column is there to be looked up by, or to refuse a write that must never happen.

CREATE TABLE settings (
    name  TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE merchants (
    id     TEXT NOT NULL PRIMARY KEY,
    record TEXT NOT NULL CHECK (json_valid(record))
) STRICT, WITHOUT ROWID;

CREATE TABLE merchant_keys (
    id            TEXT NOT NULL PRIMARY KEY,
    merchant      TEXT NOT NULL REFERENCES merchants (id),
    sealed_secret BLOB NOT NULL,
    created_at    INTEGER NOT NULL,
    valid_until   INTEGER,
    last_used_at  INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX merchant_keys_by_merchant ON merchant_keys (merchant);

-- Who owns a shard. The epoch only grows (O3); the instance tells two owners of one number apart.
CREATE TABLE shards (
    shard      INTEGER NOT NULL PRIMARY KEY CHECK (shard BETWEEN 0 AND 65535),
    epoch      INTEGER NOT NULL CHECK (epoch >= 1),
    instance   BLOB NOT NULL CHECK (length(instance) = 16),
    claimed_at INTEGER NOT NULL
) STRICT;

CREATE TRIGGER shards_epoch_grows BEFORE UPDATE ON shards
WHEN NEW.epoch <= OLD.epoch OR NEW.shard <> OLD.shard
BEGIN SELECT RAISE(ABORT, 'O3: the epoch of a shard only grows'); END;

CREATE TABLE orders (
    id                TEXT NOT NULL PRIMARY KEY,
    merchant          TEXT NOT NULL,
    merchant_order_no TEXT NOT NULL,
    version           INTEGER NOT NULL CHECK (version >= 1),
    status            TEXT NOT NULL CHECK (status IN ('unpaid', 'paying', 'paid', 'closed')),
    amount            INTEGER NOT NULL CHECK (amount BETWEEN 1 AND 1000000000),
    created_at        INTEGER NOT NULL,
    next_due_at       INTEGER,
    payer_index       BLOB NOT NULL CHECK (length(payer_index) = 16),
    purpose           TEXT,
    state             TEXT NOT NULL,
    snapshot          TEXT NOT NULL,
    UNIQUE (merchant, merchant_order_no)
) STRICT;
CREATE INDEX orders_due ON orders (next_due_at) WHERE next_due_at IS NOT NULL;
CREATE INDEX orders_by_merchant ON orders (merchant, id);
CREATE INDEX orders_by_status ON orders (merchant, status, id);
CREATE INDEX orders_by_payer ON orders (merchant, payer_index, id);
CREATE INDEX orders_paid_for ON orders (merchant, payer_index, purpose, id)
    WHERE status = 'paid' AND purpose IS NOT NULL;

CREATE TRIGGER orders_final BEFORE UPDATE OF status ON orders
WHEN OLD.status IN ('paid', 'closed') AND NEW.status <> OLD.status
BEGIN SELECT RAISE(ABORT, 'M7: paid and closed are final'); END;

CREATE TRIGGER orders_frozen BEFORE UPDATE OF
    id, merchant, merchant_order_no, amount, created_at, payer_index, purpose, snapshot ON orders
BEGIN SELECT RAISE(ABORT, 'an order is a frozen snapshot'); END;

CREATE TRIGGER orders_stay BEFORE DELETE ON orders
BEGIN SELECT RAISE(ABORT, 'orders are never deleted'); END;

-- How many orders stand where, so that a gauge need not read them all.
CREATE TABLE order_counts (
    status TEXT NOT NULL PRIMARY KEY,
    orders INTEGER NOT NULL CHECK (orders >= 0)
) STRICT, WITHOUT ROWID;
INSERT INTO order_counts (status, orders)
VALUES ('unpaid', 0), ('paying', 0), ('paid', 0), ('closed', 0);

CREATE TRIGGER orders_counted_in AFTER INSERT ON orders
BEGIN UPDATE order_counts SET orders = orders + 1 WHERE status = NEW.status; END;

CREATE TRIGGER orders_counted_on AFTER UPDATE OF status ON orders
WHEN NEW.status <> OLD.status
BEGIN
    UPDATE order_counts SET orders = orders - 1 WHERE status = OLD.status;
    UPDATE order_counts SET orders = orders + 1 WHERE status = NEW.status;
END;

CREATE TABLE order_events (
    order_id   TEXT NOT NULL REFERENCES orders (id),
    version    INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    actor      TEXT NOT NULL CHECK (actor IN ('merchant', 'payer', 'provider', 'operator', 'gateway')),
    request_id TEXT,
    event      TEXT NOT NULL,
    PRIMARY KEY (order_id, version, position)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER order_events_kept BEFORE UPDATE ON order_events
BEGIN SELECT RAISE(ABORT, 'E5: the timeline is append-only'); END;
CREATE TRIGGER order_events_stay BEFORE DELETE ON order_events
BEGIN SELECT RAISE(ABORT, 'E5: the timeline is append-only'); END;

CREATE TABLE attempts (
    order_id   TEXT NOT NULL REFERENCES orders (id),
    number     INTEGER NOT NULL CHECK (number BETWEEN 1 AND 1023),
    id         TEXT NOT NULL UNIQUE,
    status     TEXT NOT NULL CHECK (status IN
        ('shown', 'scanned', 'closing', 'succeeded', 'expired', 'cancelled', 'failed')),
    started_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (order_id, number)
) STRICT, WITHOUT ROWID;
-- Q1: at most one live attempt per order.
CREATE UNIQUE INDEX attempts_one_live ON attempts (order_id)
    WHERE status IN ('shown', 'scanned', 'closing');

-- Q2: the first claim binds the attempt to one payer.
CREATE TABLE claims (
    order_id   TEXT NOT NULL,
    attempt    INTEGER NOT NULL,
    payer      BLOB NOT NULL CHECK (length(payer) = 16),
    claimed_at INTEGER NOT NULL,
    PRIMARY KEY (order_id, attempt),
    FOREIGN KEY (order_id, attempt) REFERENCES attempts (order_id, number)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER claims_kept BEFORE UPDATE ON claims
BEGIN SELECT RAISE(ABORT, 'Q2: a claim never changes hands'); END;
CREATE TRIGGER claims_stay BEFORE DELETE ON claims
BEGIN SELECT RAISE(ABORT, 'Q2: a claim never changes hands'); END;

-- Money that a provider took: one row per transaction (A2), never changed (M6). At most one is kept
-- per order; every other has its own refund (M2, M5).
CREATE TABLE captures (
    account        TEXT NOT NULL,
    transaction_id TEXT NOT NULL,
    order_id       TEXT NOT NULL,
    attempt        INTEGER NOT NULL,
    wallet         TEXT NOT NULL CHECK (wallet IN ('wechat', 'alipay')),
    amount         INTEGER NOT NULL CHECK (amount >= 1),
    succeeded_at   INTEGER NOT NULL,
    heard_at       INTEGER NOT NULL,
    refund         TEXT UNIQUE,
    PRIMARY KEY (account, transaction_id),
    FOREIGN KEY (order_id, attempt) REFERENCES attempts (order_id, number)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX captures_one_kept ON captures (order_id) WHERE refund IS NULL;

CREATE TRIGGER captures_kept BEFORE UPDATE ON captures
BEGIN SELECT RAISE(ABORT, 'M6: captures are append-only'); END;
CREATE TRIGGER captures_stay BEFORE DELETE ON captures
BEGIN SELECT RAISE(ABORT, 'M6: captures are append-only'); END;

CREATE TABLE outbox (
    id         TEXT NOT NULL PRIMARY KEY,
    merchant   TEXT NOT NULL,
    order_id   TEXT NOT NULL REFERENCES orders (id),
    version    INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    body       BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('pending', 'delivered', 'parked')),
    tries      INTEGER NOT NULL CHECK (tries >= 0),
    next_at    INTEGER,
    note       TEXT NOT NULL,
    changed_at INTEGER NOT NULL,
    -- E2: what is pending has a time at which it is sent.
    CHECK (state <> 'pending' OR next_at IS NOT NULL)
) STRICT;
CREATE INDEX outbox_pending_by_merchant ON outbox (merchant, next_at, id) WHERE state = 'pending';
CREATE INDEX outbox_pending_by_order ON outbox (order_id, version, id, created_at)
    WHERE state = 'pending';
CREATE INDEX outbox_parked ON outbox (created_at, id) WHERE state = 'parked';

CREATE TRIGGER outbox_frozen BEFORE UPDATE OF
    id, merchant, order_id, version, kind, body, created_at ON outbox
BEGIN SELECT RAISE(ABORT, 'E4: an event keeps its id and its bytes'); END;
CREATE TRIGGER outbox_stay BEFORE DELETE ON outbox
BEGIN SELECT RAISE(ABORT, 'E2: events are never dropped'); END;

CREATE TABLE nonces (
    key_id  TEXT NOT NULL,
    nonce   TEXT NOT NULL,
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (key_id, nonce)
) STRICT, WITHOUT ROWID;
CREATE INDEX nonces_by_age ON nonces (seen_at);

CREATE TABLE idempotency (
    merchant     TEXT NOT NULL,
    key          TEXT NOT NULL,
    request_hash BLOB NOT NULL CHECK (length(request_hash) = 32),
    started_at   INTEGER NOT NULL,
    status       INTEGER CHECK (status BETWEEN 100 AND 599),
    answer       BLOB,
    PRIMARY KEY (merchant, key),
    CHECK ((status IS NULL) = (answer IS NULL))
) STRICT;
CREATE INDEX idempotency_by_age ON idempotency (started_at);

CREATE TABLE tokens (
    kind     TEXT NOT NULL CHECK (kind IN ('pay', 'scan', 'receipt')),
    hash     BLOB NOT NULL CHECK (length(hash) = 16),
    order_id TEXT NOT NULL REFERENCES orders (id),
    attempt  INTEGER,
    PRIMARY KEY (kind, hash)
) STRICT, WITHOUT ROWID;

-- The one place for people: mutable, so that they can be forgotten.
CREATE TABLE personal (
    order_id TEXT NOT NULL REFERENCES orders (id),
    slot     TEXT NOT NULL,
    sealed   BLOB NOT NULL,
    PRIMARY KEY (order_id, slot)
) STRICT;

CREATE TABLE oauth_states (
    state_hash BLOB NOT NULL PRIMARY KEY CHECK (length(state_hash) = 16),
    order_id   TEXT NOT NULL REFERENCES orders (id),
    attempt    INTEGER NOT NULL,
    account    TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    code_hash  BLOB CHECK (length(code_hash) = 16),
    payer      BLOB CHECK (length(payer) = 16),
    CHECK (payer IS NULL OR code_hash IS NOT NULL)
) STRICT, WITHOUT ROWID;
CREATE INDEX oauth_states_by_age ON oauth_states (created_at);

CREATE TABLE evidence (
    account    TEXT NOT NULL,
    reference  TEXT NOT NULL,
    reason     TEXT NOT NULL,
    body       BLOB NOT NULL,
    first_seen INTEGER NOT NULL,
    PRIMARY KEY (account, reference)
) STRICT;
