-- The store of many nodes, first version: the same tables and rules as the embedded store's. Ids are
-- the texts of the contract (prefix and ULID), times are milliseconds since the epoch, amounts are fen,
-- every integer is a bigint. JSON columns hold what the order heart reads, as text, since only it reads
-- them; every other column is there to be looked up by, or to refuse a write that must never happen.
-- Texts that are compared stand in the collation "C": by their bytes, whatever the database speaks.

-- What a rule says when it refuses. The class EP is nobody else's.
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = 'EP001', MESSAGE = TG_ARGV[0];
END $$;

-- The store's clock: it judges what came too late, and who is still alive.
CREATE FUNCTION now_ms() RETURNS bigint LANGUAGE sql VOLATILE AS
    'SELECT floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint';

CREATE TABLE settings (
    name  text COLLATE "C" NOT NULL PRIMARY KEY,
    value text NOT NULL
);

CREATE TABLE merchants (
    id     text COLLATE "C" NOT NULL PRIMARY KEY,
    record text NOT NULL CHECK (record::jsonb IS NOT NULL)
);

CREATE TABLE merchant_keys (
    id            text COLLATE "C" NOT NULL PRIMARY KEY,
    merchant      text COLLATE "C" NOT NULL REFERENCES merchants (id),
    sealed_secret bytea NOT NULL,
    created_at    bigint NOT NULL,
    valid_until   bigint,
    last_used_at  bigint
);
CREATE INDEX merchant_keys_by_merchant ON merchant_keys (merchant);

-- Processes that said, by the store's clock, until when they live.
CREATE TABLE instances (
    instance     bytea NOT NULL PRIMARY KEY CHECK (length(instance) = 16),
    node         text NOT NULL,
    internal_url text,
    alive_until  bigint NOT NULL
);

-- Who owns a shard. The epoch only grows (O3); the instance tells two owners of one number apart, and
-- is null where the owner let go of it.
CREATE TABLE shards (
    shard      bigint NOT NULL PRIMARY KEY CHECK (shard BETWEEN 0 AND 65535),
    epoch      bigint NOT NULL CHECK (epoch >= 1),
    instance   bytea CHECK (length(instance) = 16),
    claimed_at bigint NOT NULL
);

CREATE TRIGGER shards_epoch_grows BEFORE UPDATE ON shards FOR EACH ROW
    WHEN (NEW.shard <> OLD.shard OR NEW.epoch < OLD.epoch
        OR (NEW.epoch = OLD.epoch AND NEW.instance IS NOT NULL
            AND NEW.instance IS DISTINCT FROM OLD.instance))
    EXECUTE FUNCTION refuse('O3: the epoch of a shard only grows');
CREATE TRIGGER shards_stay BEFORE DELETE ON shards
    FOR EACH ROW EXECUTE FUNCTION refuse('O3: the epoch of a shard only grows');

CREATE TABLE orders (
    id                text COLLATE "C" NOT NULL PRIMARY KEY,
    merchant          text COLLATE "C" NOT NULL,
    merchant_order_no text COLLATE "C" NOT NULL,
    version           bigint NOT NULL CHECK (version >= 1),
    status            text COLLATE "C" NOT NULL CHECK (status IN ('unpaid', 'paying', 'paid', 'closed')),
    amount            bigint NOT NULL CHECK (amount BETWEEN 1 AND 1000000000),
    created_at        bigint NOT NULL,
    next_due_at       bigint,
    payer_index       bytea NOT NULL CHECK (length(payer_index) = 16),
    purpose           text COLLATE "C",
    state             text NOT NULL,
    snapshot          text NOT NULL,
    erased_at         bigint,
    -- Decides the shard, whatever their number.
    shard_hash        bigint NOT NULL CHECK (shard_hash BETWEEN 0 AND 4294967295),
    UNIQUE (merchant, merchant_order_no)
) WITH (fillfactor = 85);
CREATE INDEX orders_due ON orders (next_due_at) INCLUDE (shard_hash) WHERE next_due_at IS NOT NULL;
CREATE INDEX orders_by_merchant ON orders (merchant, id);
CREATE INDEX orders_by_status ON orders (merchant, status, id);
CREATE INDEX orders_by_payer ON orders (merchant, payer_index, id);
CREATE INDEX orders_paid_for ON orders (merchant, payer_index, purpose, id)
    WHERE status = 'paid' AND purpose IS NOT NULL;

CREATE TRIGGER orders_final BEFORE UPDATE OF status ON orders FOR EACH ROW
    WHEN (OLD.status IN ('paid', 'closed') AND NEW.status <> OLD.status)
    EXECUTE FUNCTION refuse('M7: paid and closed are final');
-- An order is a frozen snapshot, but that its payer may be taken out of it, once, when it is over.
CREATE TRIGGER orders_frozen BEFORE UPDATE OF
    id, merchant, merchant_order_no, amount, created_at, purpose, shard_hash ON orders
    FOR EACH ROW EXECUTE FUNCTION refuse('an order is a frozen snapshot');
CREATE TRIGGER orders_people_frozen BEFORE UPDATE OF payer_index, snapshot, erased_at ON orders
    FOR EACH ROW
    WHEN (OLD.erased_at IS NOT NULL OR NEW.erased_at IS NULL OR OLD.status NOT IN ('paid', 'closed')
        OR OLD.snapshot::jsonb - '{payer_masked,payer_index,field_hashes,has_display_fields}'::text[]
           <> NEW.snapshot::jsonb - '{payer_masked,payer_index,field_hashes,has_display_fields}'::text[]
        OR NEW.snapshot::jsonb -> 'payer_masked'
           IS DISTINCT FROM '{"name":null,"id_number":null,"phone":null}'::jsonb)
    EXECUTE FUNCTION refuse('an order is a frozen snapshot');
CREATE TRIGGER orders_stay BEFORE DELETE ON orders
    FOR EACH ROW EXECUTE FUNCTION refuse('orders are never deleted');
CREATE TRIGGER orders_not_emptied BEFORE TRUNCATE ON orders
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('orders are never deleted');

-- How many orders stand where, so that a gauge need not read them all. Commits of many connections
-- would queue for one row of each status: each connection counts in its own, and one row may be
-- negative, but never their sum.
CREATE TABLE order_count_slots (
    slot   bigint NOT NULL,
    status text COLLATE "C" NOT NULL,
    orders bigint NOT NULL,
    PRIMARY KEY (slot, status)
) WITH (fillfactor = 50);
CREATE VIEW order_counts AS
    SELECT status, coalesce(sum(orders), 0)::bigint AS orders
    FROM (VALUES ('unpaid'), ('paying'), ('paid'), ('closed')) AS every (status)
    LEFT JOIN order_count_slots USING (status)
    GROUP BY status;

-- The writer need have no right to the counts: these run as the owner of the tables.
CREATE FUNCTION count_orders() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO order_count_slots (slot, status, orders)
        SELECT pg_backend_pid() % 256, status, count(*) FROM new_rows GROUP BY status ORDER BY status
        ON CONFLICT (slot, status)
        DO UPDATE SET orders = order_count_slots.orders + excluded.orders;
    ELSE
        INSERT INTO order_count_slots (slot, status, orders)
        SELECT pg_backend_pid() % 256, status, sum(change)
        FROM (SELECT old_rows.status, -1 AS change
              FROM old_rows JOIN new_rows USING (id) WHERE old_rows.status <> new_rows.status
              UNION ALL
              SELECT new_rows.status, 1
              FROM old_rows JOIN new_rows USING (id) WHERE old_rows.status <> new_rows.status
             ) AS changes
        GROUP BY status ORDER BY status
        ON CONFLICT (slot, status)
        DO UPDATE SET orders = order_count_slots.orders + excluded.orders;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER orders_counted_in AFTER INSERT ON orders
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_orders();
CREATE TRIGGER orders_counted_on AFTER UPDATE ON orders
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_orders();

CREATE TABLE order_events (
    order_id   text COLLATE "C" NOT NULL REFERENCES orders (id),
    version    bigint NOT NULL,
    position   bigint NOT NULL,
    at         bigint NOT NULL,
    actor      text COLLATE "C" NOT NULL
        CHECK (actor IN ('merchant', 'payer', 'provider', 'operator', 'gateway')),
    request_id text,
    event      text NOT NULL,
    PRIMARY KEY (order_id, version, position)
);

CREATE TRIGGER order_events_kept BEFORE UPDATE OR DELETE ON order_events
    FOR EACH ROW EXECUTE FUNCTION refuse('E5: the timeline is append-only');
CREATE TRIGGER order_events_not_emptied BEFORE TRUNCATE ON order_events
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('E5: the timeline is append-only');

CREATE TABLE attempts (
    order_id   text COLLATE "C" NOT NULL REFERENCES orders (id),
    number     bigint NOT NULL CHECK (number BETWEEN 1 AND 1023),
    id         text COLLATE "C" NOT NULL UNIQUE,
    status     text COLLATE "C" NOT NULL CHECK (status IN
        ('shown', 'scanned', 'closing', 'succeeded', 'expired', 'cancelled', 'failed')),
    started_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    PRIMARY KEY (order_id, number)
);
-- Q1: at most one live attempt per order.
CREATE UNIQUE INDEX attempts_one_live ON attempts (order_id)
    WHERE status IN ('shown', 'scanned', 'closing');

-- Q2: the first claim binds the attempt to one payer.
CREATE TABLE claims (
    order_id   text COLLATE "C" NOT NULL,
    attempt    bigint NOT NULL,
    payer      bytea NOT NULL CHECK (length(payer) = 16),
    claimed_at bigint NOT NULL,
    PRIMARY KEY (order_id, attempt),
    FOREIGN KEY (order_id, attempt) REFERENCES attempts (order_id, number)
);

CREATE TRIGGER claims_kept BEFORE UPDATE OR DELETE ON claims
    FOR EACH ROW EXECUTE FUNCTION refuse('Q2: a claim never changes hands');
CREATE TRIGGER claims_not_emptied BEFORE TRUNCATE ON claims
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('Q2: a claim never changes hands');

-- Money that a provider took: one row per transaction (A2), never changed (M6). At most one is kept
-- per order; every other has its own refund (M2, M5).
CREATE TABLE captures (
    account        text COLLATE "C" NOT NULL,
    transaction_id text COLLATE "C" NOT NULL,
    order_id       text COLLATE "C" NOT NULL,
    attempt        bigint NOT NULL,
    wallet         text COLLATE "C" NOT NULL CHECK (wallet IN ('wechat', 'alipay')),
    amount         bigint NOT NULL CHECK (amount >= 1),
    succeeded_at   bigint NOT NULL,
    heard_at       bigint NOT NULL,
    refund         text COLLATE "C" UNIQUE,
    PRIMARY KEY (account, transaction_id),
    FOREIGN KEY (order_id, attempt) REFERENCES attempts (order_id, number)
);
CREATE UNIQUE INDEX captures_one_kept ON captures (order_id) WHERE refund IS NULL;
CREATE INDEX captures_by_time ON captures (account, succeeded_at, transaction_id);

CREATE TRIGGER captures_kept BEFORE UPDATE OR DELETE ON captures
    FOR EACH ROW EXECUTE FUNCTION refuse('M6: captures are append-only');
CREATE TRIGGER captures_not_emptied BEFORE TRUNCATE ON captures
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('M6: captures are append-only');

-- Money that does not fit its trade, in the order it was heard of: evidence that waits for two people
-- (M3).
CREATE TABLE mismatches (
    order_id       text COLLATE "C" NOT NULL REFERENCES orders (id),
    number         bigint NOT NULL CHECK (number BETWEEN 0 AND 65535),
    account        text COLLATE "C",
    transaction_id text COLLATE "C" NOT NULL,
    amount         bigint NOT NULL,
    heard_at       bigint NOT NULL,
    settled        boolean NOT NULL,
    PRIMARY KEY (order_id, number)
);
CREATE INDEX mismatches_open ON mismatches (order_id) WHERE NOT settled;
CREATE INDEX mismatches_by_transaction ON mismatches (account, transaction_id);

CREATE TRIGGER mismatches_frozen BEFORE UPDATE OF
    order_id, number, account, transaction_id, amount, heard_at ON mismatches
    FOR EACH ROW EXECUTE FUNCTION refuse('M3: the evidence of an odd capture stays');
CREATE TRIGGER mismatches_settled BEFORE UPDATE OF settled ON mismatches
    FOR EACH ROW WHEN (OLD.settled AND NOT NEW.settled)
    EXECUTE FUNCTION refuse('M3: what two people settled is settled');
CREATE TRIGGER mismatches_stay BEFORE DELETE ON mismatches
    FOR EACH ROW EXECUTE FUNCTION refuse('M3: the evidence of an odd capture stays');
CREATE TRIGGER mismatches_not_emptied BEFORE TRUNCATE ON mismatches
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('M3: the evidence of an odd capture stays');

-- One row per number at the provider: a refund that begins anew after a final no is another round,
-- with a number of its own (M5). What a row is never changes; how it stands goes on.
CREATE TABLE refunds (
    account            text COLLATE "C" NOT NULL,
    number             text COLLATE "C" NOT NULL,
    refund             text COLLATE "C" NOT NULL,
    round              bigint NOT NULL CHECK (round BETWEEN 0 AND 255),
    order_id           text COLLATE "C" NOT NULL REFERENCES orders (id),
    attempt            bigint NOT NULL,
    transaction_id     text COLLATE "C" NOT NULL,
    cause              text COLLATE "C" NOT NULL CHECK (cause IN ('merchant', 'surplus', 'mismatch')),
    merchant           text COLLATE "C" NOT NULL,
    merchant_refund_no text COLLATE "C",
    amount             bigint NOT NULL CHECK (amount >= 1),
    status             text COLLATE "C" NOT NULL
        CHECK (status IN ('pending', 'abnormal', 'succeeded', 'failed')),
    requested_at       bigint NOT NULL,
    ended_at           bigint,
    PRIMARY KEY (account, number),
    UNIQUE (merchant, merchant_refund_no),
    UNIQUE (refund, round),
    CHECK ((cause = 'merchant') = (merchant_refund_no IS NOT NULL)),
    CHECK ((status IN ('succeeded', 'failed')) = (ended_at IS NOT NULL))
);
CREATE INDEX refunds_by_order ON refunds (order_id);
CREATE INDEX refunds_by_request ON refunds (account, requested_at);
CREATE INDEX refunds_by_end ON refunds (account, ended_at, number) WHERE ended_at IS NOT NULL;
-- What a person may have to look at. The merchant was told of its own that failed.
CREATE INDEX refunds_open ON refunds (requested_at, number)
    WHERE status <> 'succeeded' AND (status <> 'failed' OR cause <> 'merchant');
-- One round of a refund at a time, and none after the money has gone.
CREATE UNIQUE INDEX refunds_one_round ON refunds (refund) WHERE status <> 'failed';

-- Whoever adds to the refunds of an order holds its row, so that nobody comes between the sum and the
-- new row.
CREATE FUNCTION refunds_stay_within() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM orders WHERE id = NEW.order_id FOR UPDATE;
    IF NEW.amount
        + (SELECT coalesce(sum(amount), 0) FROM refunds
           WHERE order_id = NEW.order_id AND cause = 'merchant' AND status <> 'failed')
        > coalesce((SELECT amount FROM captures
           WHERE order_id = NEW.order_id AND refund IS NULL
             AND account = NEW.account AND transaction_id = NEW.transaction_id), 0)
    THEN
        RAISE EXCEPTION USING ERRCODE = 'EP001',
            MESSAGE = 'M4: refunds stay within the payment';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refunds_within_the_payment BEFORE INSERT ON refunds
    FOR EACH ROW WHEN (NEW.cause = 'merchant') EXECUTE FUNCTION refunds_stay_within();
CREATE TRIGGER refunds_revived_within_the_payment BEFORE UPDATE OF status ON refunds
    FOR EACH ROW
    WHEN (OLD.status = 'failed' AND NEW.status <> 'failed' AND OLD.cause = 'merchant')
    EXECUTE FUNCTION refunds_stay_within();

CREATE FUNCTION refunds_are_whole() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.cause = 'surplus' AND NOT EXISTS (SELECT 1 FROM captures
        WHERE account = NEW.account AND transaction_id = NEW.transaction_id
          AND order_id = NEW.order_id AND refund = NEW.refund AND amount = NEW.amount)
    THEN
        RAISE EXCEPTION USING ERRCODE = 'EP001',
            MESSAGE = 'M2: a surplus goes back whole, by its own refund';
    END IF;
    IF NEW.cause = 'mismatch' AND NOT EXISTS (SELECT 1 FROM mismatches
        WHERE order_id = NEW.order_id AND account = NEW.account
          AND transaction_id = NEW.transaction_id AND amount = NEW.amount)
    THEN
        RAISE EXCEPTION USING ERRCODE = 'EP001', MESSAGE = 'M3: an odd capture goes back whole';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refunds_of_others_are_whole BEFORE INSERT ON refunds
    FOR EACH ROW WHEN (NEW.cause <> 'merchant') EXECUTE FUNCTION refunds_are_whole();

CREATE TRIGGER refunds_frozen BEFORE UPDATE OF account, number, refund, round, order_id, attempt,
    transaction_id, cause, merchant, merchant_refund_no, amount, requested_at ON refunds
    FOR EACH ROW EXECUTE FUNCTION refuse('M5: a refund keeps its number and its amount');
CREATE TRIGGER refunds_final BEFORE UPDATE OF status, ended_at ON refunds
    FOR EACH ROW
    WHEN (OLD.status = 'succeeded'
        AND (NEW.status <> OLD.status OR NEW.ended_at IS DISTINCT FROM OLD.ended_at))
    EXECUTE FUNCTION refuse('M6: money that went back has gone');
CREATE TRIGGER refunds_stay BEFORE DELETE ON refunds
    FOR EACH ROW EXECUTE FUNCTION refuse('M6: refunds are never deleted');
CREATE TRIGGER refunds_not_emptied BEFORE TRUNCATE ON refunds
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('M6: refunds are never deleted');

-- Every movement of money as lines that sum to zero (M9), each of one event.
CREATE TABLE ledger (
    order_id text COLLATE "C" NOT NULL,
    version  bigint NOT NULL,
    position bigint NOT NULL,
    line     bigint NOT NULL CHECK (line BETWEEN 0 AND 255),
    book     text COLLATE "C" NOT NULL,
    amount   bigint NOT NULL CHECK (amount <> 0),
    at       bigint NOT NULL,
    PRIMARY KEY (order_id, version, position, line),
    FOREIGN KEY (order_id, version, position)
        REFERENCES order_events (order_id, version, position)
);

CREATE TRIGGER ledger_kept BEFORE UPDATE OR DELETE ON ledger
    FOR EACH ROW EXECUTE FUNCTION refuse('M6/M9: the ledger is append-only');
CREATE TRIGGER ledger_not_emptied BEFORE TRUNCATE ON ledger
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('M6/M9: the ledger is append-only');

-- What each book holds, so that nobody need read the whole ledger; in slots, as orders are counted.
CREATE TABLE ledger_total_slots (
    slot   bigint NOT NULL,
    book   text COLLATE "C" NOT NULL,
    amount bigint NOT NULL,
    PRIMARY KEY (slot, book)
) WITH (fillfactor = 50);
CREATE VIEW ledger_totals AS
    SELECT book, sum(amount)::bigint AS amount FROM ledger_total_slots GROUP BY book;

CREATE FUNCTION total_ledger() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO ledger_total_slots (slot, book, amount)
    SELECT pg_backend_pid() % 256, book, sum(amount) FROM new_rows GROUP BY book ORDER BY book
    ON CONFLICT (slot, book) DO UPDATE SET amount = ledger_total_slots.amount + excluded.amount;
    RETURN NULL;
END $$;
CREATE TRIGGER ledger_totalled AFTER INSERT ON ledger
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION total_ledger();

-- Events for merchants. Their `position` is the order in which pollers read them: the number of the
-- writing transaction, and within it the event's turn in 16 bits. A sequence would not do: of two
-- transactions the one with the smaller number may commit later, and its event would appear before a
-- cursor that was given out. So a reader takes only what is below the oldest transaction that still
-- runs: `position < outbox_horizon()`.
--
-- Transactions are numbered by the server's installation. A dump that is restored into another one
-- brings positions from the future of its numbers: then `base` moves all later positions beyond them
-- (a start of the gateway sees to it).
CREATE TABLE outbox_base (
    base bigint NOT NULL CHECK (base >= 0),
    single boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (single)
);
INSERT INTO outbox_base (base) VALUES (0);

-- Where the events of this transaction begin.
CREATE FUNCTION outbox_place() RETURNS bigint LANGUAGE sql VOLATILE AS
    'SELECT (base + pg_current_xact_id()::text::bigint) << 16 FROM outbox_base';
-- No event below it can be missing yet from what this statement sees.
CREATE FUNCTION outbox_horizon() RETURNS bigint LANGUAGE sql STABLE AS
    'SELECT (base + pg_snapshot_xmin(pg_current_snapshot())::text::bigint) << 16 FROM outbox_base';

CREATE TABLE outbox (
    position    bigint NOT NULL PRIMARY KEY,
    id          text COLLATE "C" NOT NULL UNIQUE,
    merchant    text COLLATE "C" NOT NULL,
    order_id    text COLLATE "C" NOT NULL REFERENCES orders (id),
    version     bigint NOT NULL,
    kind        text COLLATE "C" NOT NULL,
    body        bytea NOT NULL,
    -- A sealed body may be sealed anew; the bytes within it may not change. The digest tells.
    body_digest bytea NOT NULL CHECK (length(body_digest) = 32),
    created_at  bigint NOT NULL,
    state       text COLLATE "C" NOT NULL CHECK (state IN ('pending', 'delivered', 'parked')),
    tries       bigint NOT NULL CHECK (tries >= 0),
    next_at     bigint,
    note        text NOT NULL,
    changed_at  bigint NOT NULL,
    shard_hash  bigint NOT NULL CHECK (shard_hash BETWEEN 0 AND 4294967295),
    -- E2: what is pending has a time at which it is sent.
    CHECK (state <> 'pending' OR next_at IS NOT NULL)
) WITH (fillfactor = 85);
CREATE INDEX outbox_pending_by_merchant ON outbox (merchant, next_at, id) WHERE state = 'pending';
CREATE INDEX outbox_pending_by_order ON outbox (order_id, version, id) INCLUDE (created_at)
    WHERE state = 'pending';
CREATE INDEX outbox_parked ON outbox (created_at, id) WHERE state = 'parked';
-- The kind is in it so that a poller of few kinds reads no bodies of the others.
CREATE INDEX outbox_by_merchant ON outbox (merchant, position, kind);
CREATE INDEX outbox_by_order ON outbox (order_id);

CREATE TRIGGER outbox_frozen BEFORE UPDATE OF
    position, id, merchant, order_id, version, kind, created_at, shard_hash ON outbox
    FOR EACH ROW EXECUTE FUNCTION refuse('E4: an event keeps its id and its bytes');
CREATE TRIGGER outbox_digest_kept BEFORE UPDATE OF body_digest ON outbox
    FOR EACH ROW WHEN (NEW.body_digest <> OLD.body_digest)
    EXECUTE FUNCTION refuse('E4: an event keeps its id and its bytes');
CREATE TRIGGER outbox_pending_kept BEFORE UPDATE OF body ON outbox
    FOR EACH ROW WHEN (length(NEW.body) = 0 AND OLD.state = 'pending')
    EXECUTE FUNCTION refuse('E2: an event on its way is not erased');
CREATE TRIGGER outbox_erased_rests BEFORE UPDATE ON outbox
    FOR EACH ROW
    WHEN (length(OLD.body) = 0 AND (length(NEW.body) > 0 OR NEW.state = 'pending'))
    EXECUTE FUNCTION refuse('E4: an erased event is not delivered again');
CREATE TRIGGER outbox_stay BEFORE DELETE ON outbox
    FOR EACH ROW EXECUTE FUNCTION refuse('E2: events are never dropped');
CREATE TRIGGER outbox_not_emptied BEFORE TRUNCATE ON outbox
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('E2: events are never dropped');

CREATE TABLE nonces (
    key_id  text COLLATE "C" NOT NULL,
    nonce   text COLLATE "C" NOT NULL,
    seen_at bigint NOT NULL,
    PRIMARY KEY (key_id, nonce)
);
CREATE INDEX nonces_by_age ON nonces (seen_at);

-- `place`, here and below: the order in which a walk through the table goes.
CREATE TABLE idempotency (
    place        bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    merchant     text COLLATE "C" NOT NULL,
    key          text COLLATE "C" NOT NULL,
    request_hash bytea NOT NULL CHECK (length(request_hash) = 32),
    started_at   bigint NOT NULL,
    -- Whose request runs under the key: what a dead instance began has ended.
    instance     bytea NOT NULL CHECK (length(instance) = 16),
    status       bigint CHECK (status BETWEEN 100 AND 599),
    answer       bytea,
    -- Whose people the answer shows.
    order_id     text COLLATE "C",
    PRIMARY KEY (merchant, key),
    CHECK ((status IS NULL) = (answer IS NULL))
) WITH (fillfactor = 85);
CREATE INDEX idempotency_by_age ON idempotency (started_at);
CREATE INDEX idempotency_by_order ON idempotency (order_id) WHERE order_id IS NOT NULL;

CREATE TABLE tokens (
    kind     text COLLATE "C" NOT NULL CHECK (kind IN ('pay', 'scan', 'receipt')),
    hash     bytea NOT NULL CHECK (length(hash) = 16),
    order_id text COLLATE "C" NOT NULL REFERENCES orders (id),
    attempt  bigint,
    PRIMARY KEY (kind, hash)
);

-- The one place for people: mutable, so that they can be forgotten.
CREATE TABLE personal (
    place    bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    order_id text COLLATE "C" NOT NULL REFERENCES orders (id),
    slot     text COLLATE "C" NOT NULL,
    sealed   bytea NOT NULL,
    PRIMARY KEY (order_id, slot)
);

CREATE TABLE oauth_states (
    state_hash bytea NOT NULL PRIMARY KEY CHECK (length(state_hash) = 16),
    order_id   text COLLATE "C" NOT NULL REFERENCES orders (id),
    attempt    bigint NOT NULL,
    account    text COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    code_hash  bytea CHECK (length(code_hash) = 16),
    payer      bytea CHECK (length(payer) = 16),
    CHECK (payer IS NULL OR code_hash IS NOT NULL)
);
CREATE INDEX oauth_states_by_age ON oauth_states (created_at);

-- Notices that fit no order: one person says that it is settled past these books, another agrees.
-- Nobody's word changes what was heard.
CREATE TABLE evidence (
    place       bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    account     text COLLATE "C" NOT NULL,
    reference   text COLLATE "C" NOT NULL,
    reason      text COLLATE "C" NOT NULL,
    body        bytea NOT NULL,
    order_id    text COLLATE "C",
    first_seen  bigint NOT NULL,
    proposed_by bytea CHECK (length(proposed_by) = 16),
    proposed_at bigint,
    settled_by  bytea CHECK (length(settled_by) = 16),
    settled_at  bigint,
    PRIMARY KEY (account, reference)
);
CREATE INDEX evidence_open ON evidence (first_seen, account, reference) WHERE settled_at IS NULL;
CREATE INDEX evidence_by_order ON evidence (order_id) WHERE order_id IS NOT NULL;
CREATE INDEX evidence_by_age ON evidence (first_seen) WHERE length(body) > 0;

CREATE TRIGGER evidence_frozen BEFORE UPDATE OF account, reference, reason, first_seen ON evidence
    FOR EACH ROW EXECUTE FUNCTION refuse('M3: evidence stays as it was heard');
-- Sealed with another key it is as long as before; erased it is empty, but not while two people have
-- still to settle it.
CREATE TRIGGER evidence_body_stays BEFORE UPDATE OF body ON evidence FOR EACH ROW
    WHEN (length(NEW.body) NOT IN (0, length(OLD.body))
        OR (length(NEW.body) = 0 AND OLD.settled_at IS NULL AND OLD.reason IN
            ('unknown_number', 'unreadable', 'recorded_elsewhere', 'foreign_refund')))
    EXECUTE FUNCTION refuse('M3: evidence stays as it was heard');
CREATE TRIGGER evidence_stays BEFORE DELETE ON evidence
    FOR EACH ROW EXECUTE FUNCTION refuse('M3: evidence is never deleted');
CREATE TRIGGER evidence_not_emptied BEFORE TRUNCATE ON evidence
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('M3: evidence is never deleted');
CREATE TRIGGER evidence_settled BEFORE UPDATE OF
    proposed_by, proposed_at, settled_by, settled_at ON evidence FOR EACH ROW
    WHEN (OLD.settled_at IS NOT NULL
        OR (NEW.proposed_by IS NULL) <> (NEW.proposed_at IS NULL)
        OR (NEW.settled_by IS NULL) <> (NEW.settled_at IS NULL)
        OR (NEW.settled_by IS NOT NULL AND (OLD.proposed_by IS NULL
            OR NEW.proposed_by IS DISTINCT FROM OLD.proposed_by
            OR NEW.settled_by = OLD.proposed_by)))
    EXECUTE FUNCTION refuse('M3: evidence is settled by two people, once');

-- What operators did. Each row carries the hash of the one before, so that an edited or missing row
-- shows. Whoever appends holds an advisory lock to the end of its transaction.
CREATE TABLE audit (
    id       bigint NOT NULL PRIMARY KEY CHECK (id >= 1),
    at       bigint NOT NULL,
    operator text NOT NULL,
    action   text NOT NULL,
    target   text NOT NULL,
    outcome  text NOT NULL,
    previous bytea NOT NULL CHECK (length(previous) = 32),
    hash     bytea NOT NULL CHECK (length(hash) = 32)
);

CREATE FUNCTION audit_chain() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    last record;
BEGIN
    SELECT id, hash INTO last FROM audit ORDER BY id DESC LIMIT 1;
    IF NEW.id <> coalesce(last.id, 0) + 1
        OR NEW.previous <> coalesce(last.hash, decode(repeat('00', 32), 'hex'))
    THEN
        RAISE EXCEPTION USING ERRCODE = 'EP001', MESSAGE = 'the audit log is one chain';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER audit_chained BEFORE INSERT ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_chain();
CREATE TRIGGER audit_kept BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION refuse('the audit log is append-only');
CREATE TRIGGER audit_not_emptied BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('the audit log is append-only');

-- What comparing a provider's bill of one day with our rows has found. Dates are the provider's, that
-- is Beijing's, as YYYY-MM-DD.
CREATE TABLE reconciliations (
    account     text COLLATE "C" NOT NULL,
    date        text COLLATE "C" NOT NULL,
    run         bigint NOT NULL CHECK (run >= 1),
    state       text COLLATE "C" NOT NULL
        CHECK (state IN ('running', 'waiting', 'finished', 'failed')),
    started_by  text COLLATE "C" NOT NULL CHECK (started_by IN ('schedule', 'operator')),
    started_at  bigint NOT NULL,
    finished_at bigint,
    tallies     text NOT NULL CHECK (tallies::jsonb IS NOT NULL),
    flows       text CHECK (flows IS NULL OR flows::jsonb IS NOT NULL),
    why         text,
    PRIMARY KEY (account, date, run),
    CHECK ((state = 'running') = (finished_at IS NULL))
);
CREATE INDEX reconciliations_by_date ON reconciliations (date, account, run);

CREATE TRIGGER reconciliations_final BEFORE UPDATE ON reconciliations
    FOR EACH ROW WHEN (OLD.state IN ('finished', 'failed'))
    EXECUTE FUNCTION refuse('a run that has ended is history');
CREATE TRIGGER reconciliations_stay BEFORE DELETE ON reconciliations
    FOR EACH ROW EXECUTE FUNCTION refuse('the history of runs stays');
CREATE TRIGGER reconciliations_not_emptied BEFORE TRUNCATE ON reconciliations
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('the history of runs stays');

-- Every line of the bill and every row of ours, once. Rows of earlier runs are deleted once a later one
-- has finished.
CREATE TABLE reconciliation_rows (
    account              text COLLATE "C" NOT NULL,
    date                 text COLLATE "C" NOT NULL,
    run                  bigint NOT NULL,
    number               bigint NOT NULL CHECK (number >= 1),
    verdict              text COLLATE "C" NOT NULL CHECK (verdict IN
        ('matched', 'only_here', 'only_there', 'different')),
    kind                 text COLLATE "C" NOT NULL,
    field                text COLLATE "C",
    repaired             boolean NOT NULL,
    order_id             text COLLATE "C",
    merchant             text COLLATE "C",
    -- What names our side for good.
    key                  text COLLATE "C",
    our_out_trade_no     text,
    our_transaction_id   text,
    our_refund_no        text,
    our_amount           bigint,
    our_at               bigint,
    our_status           text,
    their_line           bigint,
    their_out_trade_no   text,
    their_transaction_id text,
    their_refund_no      text,
    their_amount         bigint,
    their_at             bigint,
    their_status         text,
    their_fee            bigint,
    their_currency       text,
    PRIMARY KEY (account, date, run, number),
    FOREIGN KEY (account, date, run) REFERENCES reconciliations (account, date, run),
    CHECK ((order_id IS NULL) = (merchant IS NULL)),
    CHECK (our_amount IS NOT NULL OR their_amount IS NOT NULL),
    CHECK (verdict <> 'only_here' OR their_amount IS NULL),
    CHECK (verdict <> 'matched' OR (our_amount IS NOT NULL AND their_amount IS NOT NULL))
);
CREATE INDEX reconciliation_rows_by_key ON reconciliation_rows (account, key, date)
    WHERE key IS NOT NULL;
-- Few among very many.
CREATE INDEX reconciliation_differences ON reconciliation_rows (account, date, run, verdict, number)
    WHERE verdict <> 'matched';

-- How many values stand under which key (its number is the first byte), so that a start need not look
-- at all of them; in slots, as orders are counted. Merchants' webhook secrets are few and stand in
-- JSON: they are counted when asked for.
CREATE TABLE sealed_count_slots (
    slot  bigint NOT NULL,
    place text COLLATE "C" NOT NULL,
    key   bytea NOT NULL CHECK (length(key) = 1),
    held  bigint NOT NULL,
    PRIMARY KEY (slot, place, key)
) WITH (fillfactor = 50);
CREATE VIEW sealed_counts AS
    SELECT place, key, sum(held)::bigint AS held FROM sealed_count_slots GROUP BY place, key;

-- What was inserted or replaced at once. The first argument of the trigger is the table's column.
CREATE FUNCTION count_sealed_in() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    EXECUTE format(
        'INSERT INTO sealed_count_slots (slot, place, key, held)
         SELECT pg_backend_pid() %% 256, %L, substr(%I, 1, 1), count(*) FROM new_rows
         WHERE length(%I) > 0 GROUP BY 3 ORDER BY 3
         ON CONFLICT (slot, place, key)
         DO UPDATE SET held = sealed_count_slots.held + excluded.held',
        TG_TABLE_NAME, TG_ARGV[0], TG_ARGV[0]);
    RETURN NULL;
END $$;

-- What one row had before (-1) and has now (+1).
CREATE FUNCTION count_sealed_change() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    was bytea;
    now bytea;
BEGIN
    EXECUTE format('SELECT ($1).%I', TG_ARGV[0]) INTO was USING OLD;
    IF TG_OP = 'UPDATE' THEN
        EXECUTE format('SELECT ($1).%I', TG_ARGV[0]) INTO now USING NEW;
    END IF;
    INSERT INTO sealed_count_slots (slot, place, key, held)
    SELECT pg_backend_pid() % 256, TG_TABLE_NAME, substr(sealed, 1, 1), change
    FROM (VALUES (was, -1), (now, 1)) AS changes (sealed, change)
    WHERE length(sealed) > 0
      AND substr(was, 1, 1) IS DISTINCT FROM substr(now, 1, 1)
    ORDER BY 3
    ON CONFLICT (slot, place, key)
    DO UPDATE SET held = sealed_count_slots.held + excluded.held;
    RETURN NULL;
END $$;

CREATE TRIGGER personal_sealed_in AFTER INSERT ON personal
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_sealed_in('sealed');
CREATE TRIGGER personal_sealed_on AFTER UPDATE OF sealed ON personal
    FOR EACH ROW EXECUTE FUNCTION count_sealed_change('sealed');
CREATE TRIGGER personal_sealed_out AFTER DELETE ON personal
    FOR EACH ROW EXECUTE FUNCTION count_sealed_change('sealed');

CREATE TRIGGER outbox_sealed_in AFTER INSERT ON outbox
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_sealed_in('body');
CREATE TRIGGER outbox_sealed_on AFTER UPDATE OF body ON outbox
    FOR EACH ROW EXECUTE FUNCTION count_sealed_change('body');

-- A row begins without an answer, and gets it once.
CREATE TRIGGER idempotency_sealed_in AFTER INSERT ON idempotency
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_sealed_in('answer');
CREATE FUNCTION count_answers() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO sealed_count_slots (slot, place, key, held)
    SELECT pg_backend_pid() % 256, 'idempotency', key, sum(change)
    FROM (SELECT substr(answer, 1, 1) AS key, -1 AS change FROM old_rows WHERE length(answer) > 0
          UNION ALL
          SELECT substr(answer, 1, 1), 1 FROM new_rows WHERE length(answer) > 0) AS changes
    GROUP BY key HAVING sum(change) <> 0 ORDER BY key
    ON CONFLICT (slot, place, key)
    DO UPDATE SET held = sealed_count_slots.held + excluded.held;
    RETURN NULL;
END $$;
CREATE TRIGGER idempotency_sealed_on AFTER UPDATE ON idempotency
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_answers();
CREATE TRIGGER idempotency_sealed_out AFTER DELETE ON idempotency
    FOR EACH ROW EXECUTE FUNCTION count_sealed_change('answer');

CREATE TRIGGER evidence_sealed_in AFTER INSERT ON evidence
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_sealed_in('body');
CREATE TRIGGER evidence_sealed_on AFTER UPDATE OF body ON evidence
    FOR EACH ROW EXECUTE FUNCTION count_sealed_change('body');

CREATE TRIGGER merchant_keys_sealed_in AFTER INSERT ON merchant_keys
    REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION count_sealed_in('sealed_secret');
CREATE TRIGGER merchant_keys_sealed_on AFTER UPDATE OF sealed_secret ON merchant_keys
    FOR EACH ROW EXECUTE FUNCTION count_sealed_change('sealed_secret');
