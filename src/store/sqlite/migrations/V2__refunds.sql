-- Refunds, the ledger, odd captures, and what operators do. As in the first version, the columns are
-- there to be looked up by, or to refuse a write that must never happen.

-- One row per number at the provider: a refund that begins anew after a final no is another round,
-- with a number of its own (M5). What a row is never changes; how it stands goes on.
CREATE TABLE refunds (
    account            TEXT NOT NULL,
    number             TEXT NOT NULL,
    refund             TEXT NOT NULL,
    round              INTEGER NOT NULL CHECK (round BETWEEN 0 AND 255),
    order_id           TEXT NOT NULL,
    attempt            INTEGER NOT NULL,
    transaction_id     TEXT NOT NULL,
    cause              TEXT NOT NULL CHECK (cause IN ('merchant', 'surplus', 'mismatch')),
    merchant           TEXT NOT NULL,
    merchant_refund_no TEXT,
    amount             INTEGER NOT NULL CHECK (amount >= 1),
    status             TEXT NOT NULL CHECK (status IN ('pending', 'abnormal', 'succeeded', 'failed')),
    requested_at       INTEGER NOT NULL,
    ended_at           INTEGER,
    PRIMARY KEY (account, number),
    UNIQUE (merchant, merchant_refund_no),
    UNIQUE (refund, round),
    FOREIGN KEY (order_id) REFERENCES orders (id),
    CHECK ((cause = 'merchant') = (merchant_refund_no IS NOT NULL)),
    CHECK ((status IN ('succeeded', 'failed')) = (ended_at IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX refunds_by_order ON refunds (order_id);
CREATE INDEX refunds_by_request ON refunds (account, requested_at);
CREATE INDEX refunds_by_end ON refunds (account, ended_at) WHERE ended_at IS NOT NULL;
-- What a person may have to look at. The merchant was told of its own that failed.
CREATE INDEX refunds_open ON refunds (requested_at, number)
    WHERE status <> 'succeeded' AND (status <> 'failed' OR cause <> 'merchant');
-- One round of a refund at a time, and none after the money has gone.
CREATE UNIQUE INDEX refunds_one_round ON refunds (refund) WHERE status <> 'failed';

-- The rows of one order are read and written in the same transaction: nobody comes between.
CREATE TRIGGER refunds_within_the_payment BEFORE INSERT ON refunds
WHEN NEW.cause = 'merchant' AND NEW.amount
    + (SELECT coalesce(sum(amount), 0) FROM refunds
       WHERE order_id = NEW.order_id AND cause = 'merchant' AND status <> 'failed')
    > coalesce((SELECT amount FROM captures
       WHERE order_id = NEW.order_id AND refund IS NULL
         AND account = NEW.account AND transaction_id = NEW.transaction_id), 0)
BEGIN SELECT RAISE(ABORT, 'M4: refunds stay within the payment'); END;

CREATE TRIGGER refunds_revived_within_the_payment BEFORE UPDATE OF status ON refunds
WHEN OLD.status = 'failed' AND NEW.status <> 'failed' AND OLD.cause = 'merchant' AND OLD.amount
    + (SELECT coalesce(sum(amount), 0) FROM refunds
       WHERE order_id = OLD.order_id AND cause = 'merchant' AND status <> 'failed')
    > coalesce((SELECT amount FROM captures WHERE order_id = OLD.order_id AND refund IS NULL), 0)
BEGIN SELECT RAISE(ABORT, 'M4: refunds stay within the payment'); END;

CREATE TRIGGER refunds_of_surplus_are_whole BEFORE INSERT ON refunds
WHEN NEW.cause = 'surplus' AND NOT EXISTS (SELECT 1 FROM captures
    WHERE account = NEW.account AND transaction_id = NEW.transaction_id
      AND order_id = NEW.order_id AND refund = NEW.refund AND amount = NEW.amount)
BEGIN SELECT RAISE(ABORT, 'M2: a surplus goes back whole, by its own refund'); END;

CREATE TRIGGER refunds_of_mismatches_are_whole BEFORE INSERT ON refunds
WHEN NEW.cause = 'mismatch' AND NOT EXISTS (SELECT 1 FROM mismatches
    WHERE order_id = NEW.order_id AND account = NEW.account
      AND transaction_id = NEW.transaction_id AND amount = NEW.amount)
BEGIN SELECT RAISE(ABORT, 'M3: an odd capture goes back whole'); END;

CREATE TRIGGER refunds_frozen BEFORE UPDATE OF account, number, refund, round, order_id, attempt,
    transaction_id, cause, merchant, merchant_refund_no, amount, requested_at ON refunds
BEGIN SELECT RAISE(ABORT, 'M5: a refund keeps its number and its amount'); END;

CREATE TRIGGER refunds_final BEFORE UPDATE OF status, ended_at ON refunds
WHEN OLD.status = 'succeeded' AND (NEW.status <> OLD.status OR NEW.ended_at IS NOT OLD.ended_at)
BEGIN SELECT RAISE(ABORT, 'M6: money that went back has gone'); END;

CREATE TRIGGER refunds_stay BEFORE DELETE ON refunds
BEGIN SELECT RAISE(ABORT, 'M6: refunds are never deleted'); END;

-- Money that does not fit its trade, in the order it was heard of: evidence that waits for two people
-- (M3). Rows of the first version do not say whose account has it.
CREATE TABLE mismatches (
    order_id       TEXT NOT NULL REFERENCES orders (id),
    number         INTEGER NOT NULL CHECK (number BETWEEN 0 AND 65535),
    account        TEXT,
    transaction_id TEXT NOT NULL,
    amount         INTEGER NOT NULL,
    heard_at       INTEGER NOT NULL,
    settled        INTEGER NOT NULL CHECK (settled IN (0, 1)),
    PRIMARY KEY (order_id, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX mismatches_open ON mismatches (order_id) WHERE settled = 0;
CREATE INDEX mismatches_by_transaction ON mismatches (account, transaction_id);

CREATE TRIGGER mismatches_frozen BEFORE UPDATE OF
    order_id, number, account, transaction_id, amount, heard_at ON mismatches
BEGIN SELECT RAISE(ABORT, 'M3: the evidence of an odd capture stays'); END;
CREATE TRIGGER mismatches_settled BEFORE UPDATE OF settled ON mismatches
WHEN OLD.settled = 1 AND NEW.settled = 0
BEGIN SELECT RAISE(ABORT, 'M3: what two people settled is settled'); END;
CREATE TRIGGER mismatches_stay BEFORE DELETE ON mismatches
BEGIN SELECT RAISE(ABORT, 'M3: the evidence of an odd capture stays'); END;

-- Every movement of money as lines that sum to zero (M9), each of one event.
CREATE TABLE ledger (
    order_id TEXT NOT NULL,
    version  INTEGER NOT NULL,
    position INTEGER NOT NULL,
    line     INTEGER NOT NULL CHECK (line BETWEEN 0 AND 255),
    book     TEXT NOT NULL,
    amount   INTEGER NOT NULL CHECK (amount <> 0),
    at       INTEGER NOT NULL,
    PRIMARY KEY (order_id, version, position, line),
    FOREIGN KEY (order_id, version, position)
        REFERENCES order_events (order_id, version, position)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER ledger_kept BEFORE UPDATE ON ledger
BEGIN SELECT RAISE(ABORT, 'M6/M9: the ledger is append-only'); END;
CREATE TRIGGER ledger_stays BEFORE DELETE ON ledger
BEGIN SELECT RAISE(ABORT, 'M6/M9: the ledger is append-only'); END;

-- What each book holds, so that nobody need read the whole ledger.
CREATE TABLE ledger_totals (
    book   TEXT NOT NULL PRIMARY KEY,
    amount INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER ledger_totalled AFTER INSERT ON ledger
BEGIN
    INSERT INTO ledger_totals (book, amount) VALUES (NEW.book, NEW.amount)
    ON CONFLICT (book) DO UPDATE SET amount = amount + excluded.amount;
END;

CREATE INDEX captures_by_time ON captures (account, succeeded_at);

-- Evidence that belongs to no order: one person says that it is settled past these books, another
-- agrees. Nobody's word changes what was heard.
ALTER TABLE evidence ADD COLUMN proposed_by BLOB CHECK (length(proposed_by) = 16);
ALTER TABLE evidence ADD COLUMN proposed_at INTEGER;
ALTER TABLE evidence ADD COLUMN settled_by BLOB CHECK (length(settled_by) = 16);
ALTER TABLE evidence ADD COLUMN settled_at INTEGER;
CREATE INDEX evidence_open ON evidence (first_seen, account, reference) WHERE settled_at IS NULL;

CREATE TRIGGER evidence_frozen BEFORE UPDATE OF account, reference, reason, first_seen ON evidence
BEGIN SELECT RAISE(ABORT, 'M3: evidence stays as it was heard'); END;
-- Sealed with another key it is as long as before.
CREATE TRIGGER evidence_body_stays BEFORE UPDATE OF body ON evidence
WHEN length(NEW.body) <> length(OLD.body)
BEGIN SELECT RAISE(ABORT, 'M3: evidence stays as it was heard'); END;
CREATE TRIGGER evidence_stays BEFORE DELETE ON evidence
BEGIN SELECT RAISE(ABORT, 'M3: evidence is never deleted'); END;
CREATE TRIGGER evidence_settled BEFORE UPDATE OF
    proposed_by, proposed_at, settled_by, settled_at ON evidence
WHEN OLD.settled_at IS NOT NULL
    OR (NEW.proposed_by IS NULL) <> (NEW.proposed_at IS NULL)
    OR (NEW.settled_by IS NULL) <> (NEW.settled_at IS NULL)
    OR (NEW.settled_by IS NOT NULL AND (OLD.proposed_by IS NULL
        OR NEW.proposed_by IS NOT OLD.proposed_by OR NEW.settled_by = OLD.proposed_by))
BEGIN SELECT RAISE(ABORT, 'M3: evidence is settled by two people, once'); END;

-- What operators did. Each row carries the hash of the one before, so that an edited or missing row
-- shows.
CREATE TABLE audit (
    id       INTEGER NOT NULL PRIMARY KEY CHECK (id >= 1),
    at       INTEGER NOT NULL,
    operator TEXT NOT NULL,
    action   TEXT NOT NULL,
    target   TEXT NOT NULL,
    outcome  TEXT NOT NULL,
    previous BLOB NOT NULL CHECK (length(previous) = 32),
    hash     BLOB NOT NULL CHECK (length(hash) = 32)
) STRICT;

CREATE TRIGGER audit_chained BEFORE INSERT ON audit
WHEN NEW.id <> coalesce((SELECT max(id) FROM audit), 0) + 1
    OR NEW.previous <> coalesce((SELECT hash FROM audit ORDER BY id DESC LIMIT 1), zeroblob(32))
BEGIN SELECT RAISE(ABORT, 'the audit log is one chain'); END;
CREATE TRIGGER audit_kept BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER audit_stays BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;

-- The outbox again, with its place in commit order as a column: cursors of those who poll are made of
-- it, and SQLite promises to keep a row's number only where it has a name.
CREATE TABLE outbox_with_position (
    position   INTEGER NOT NULL PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
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
INSERT INTO outbox_with_position
SELECT rowid, id, merchant, order_id, version, kind, body, created_at, state, tries, next_at, note,
    changed_at
FROM outbox ORDER BY rowid;
DROP TABLE outbox;
ALTER TABLE outbox_with_position RENAME TO outbox;

CREATE INDEX outbox_pending_by_merchant ON outbox (merchant, next_at, id) WHERE state = 'pending';
CREATE INDEX outbox_pending_by_order ON outbox (order_id, version, id, created_at)
    WHERE state = 'pending';
CREATE INDEX outbox_parked ON outbox (created_at, id) WHERE state = 'parked';
-- The kind is in it so that a poller of few kinds reads no bodies of the others.
CREATE INDEX outbox_by_merchant ON outbox (merchant, position, kind);

CREATE TRIGGER outbox_frozen BEFORE UPDATE OF
    position, id, merchant, order_id, version, kind, body, created_at ON outbox
BEGIN SELECT RAISE(ABORT, 'E4: an event keeps its id and its bytes'); END;
CREATE TRIGGER outbox_stay BEFORE DELETE ON outbox
BEGIN SELECT RAISE(ABORT, 'E2: events are never dropped'); END;

-- What the first version knew, told again. A surplus has its place among those of its attempt, as the
-- number of its refund is made of it.
CREATE TEMP TABLE told AS
SELECT event.order_id, event.version, event.position, event.at,
    captures.account, captures.transaction_id, captures.attempt, captures.amount, captures.refund,
    row_number() OVER (PARTITION BY event.order_id, captures.attempt, captures.refund IS NULL
        ORDER BY event.version, event.position) - 1 AS place
FROM order_events AS event
JOIN captures ON captures.order_id = event.order_id
    AND captures.attempt = event.event ->> '$.capture.attempt'
    AND captures.transaction_id = event.event ->> '$.capture.transaction_id'
WHERE event.event ->> '$.type' = 'money_captured';

CREATE TEMP TABLE ended AS
SELECT event.order_id, event.version, event.position, event.at,
    event.event ->> '$.refund' AS refund, event.event ->> '$.type' = 'surplus_refunded' AS went_back
FROM order_events AS event
WHERE event.event ->> '$.type' IN ('surplus_refunded', 'surplus_refund_failed');

INSERT INTO refunds
SELECT told.account,
    substr(told.order_id, 5)
        || substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', told.attempt / 32 + 1, 1)
        || substr('0123456789ABCDEFGHJKMNPQRSTVWXYZ', told.attempt % 32 + 1, 1)
        || 'S' || CASE told.place WHEN 0 THEN '' ELSE told.place END,
    told.refund, 0, told.order_id, told.attempt, told.transaction_id, 'surplus',
    orders.merchant, NULL, told.amount,
    CASE ending.went_back WHEN 1 THEN 'succeeded' WHEN 0 THEN 'failed' ELSE 'pending' END,
    told.at, ending.at
FROM told
JOIN orders ON orders.id = told.order_id
-- A success after a failure is the last word.
LEFT JOIN (SELECT refund, max(went_back) AS went_back, at FROM ended GROUP BY refund) AS ending
    ON ending.refund = told.refund
WHERE told.refund IS NOT NULL;

INSERT INTO ledger
SELECT order_id, version, position, 0, 'provider:' || account, amount, at FROM told
UNION ALL
SELECT order_id, version, position, 1,
    CASE WHEN refund IS NULL THEN 'merchant' ELSE 'surplus' END, -amount, at
FROM told
UNION ALL
SELECT ended.order_id, ended.version, ended.position, 0, 'surplus', told.amount, ended.at
FROM ended JOIN told ON told.refund = ended.refund WHERE went_back
UNION ALL
SELECT ended.order_id, ended.version, ended.position, 1, 'provider:' || account, -told.amount, ended.at
FROM ended JOIN told ON told.refund = ended.refund WHERE went_back;

INSERT INTO mismatches
SELECT order_id,
    row_number() OVER (PARTITION BY order_id ORDER BY version, position) - 1,
    event ->> '$.mismatch.account', event ->> '$.mismatch.transaction_id',
    event ->> '$.mismatch.amount', event ->> '$.mismatch.heard_at', 0
FROM order_events WHERE event ->> '$.type' = 'money_mismatched';

DROP TABLE told;
DROP TABLE ended;
