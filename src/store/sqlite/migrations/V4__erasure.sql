-- Field keys can be changed, and people forgotten, while the money stays (decision 4). An erased value
-- is an empty one.

-- A sealed body may be sealed anew; the bytes within it may not change. The digest tells.
ALTER TABLE outbox ADD COLUMN body_digest BLOB NOT NULL DEFAULT X''
    CHECK (length(body_digest) IN (0, 32));
CREATE INDEX outbox_undigested ON outbox (id) WHERE length(body_digest) = 0;
CREATE INDEX outbox_by_order ON outbox (order_id);

DROP TRIGGER outbox_frozen;
CREATE TRIGGER outbox_frozen BEFORE UPDATE OF
    position, id, merchant, order_id, version, kind, created_at ON outbox
BEGIN SELECT RAISE(ABORT, 'E4: an event keeps its id and its bytes'); END;
CREATE TRIGGER outbox_has_digest BEFORE INSERT ON outbox
WHEN length(NEW.body_digest) = 0
BEGIN SELECT RAISE(ABORT, 'E4: an event comes with the digest of its bytes'); END;
CREATE TRIGGER outbox_digest_kept BEFORE UPDATE OF body_digest ON outbox
WHEN length(OLD.body_digest) > 0 AND NEW.body_digest <> OLD.body_digest
BEGIN SELECT RAISE(ABORT, 'E4: an event keeps its id and its bytes'); END;
CREATE TRIGGER outbox_pending_kept BEFORE UPDATE OF body ON outbox
WHEN length(NEW.body) = 0 AND OLD.state = 'pending'
BEGIN SELECT RAISE(ABORT, 'E2: an event on its way is not erased'); END;
CREATE TRIGGER outbox_erased_rests BEFORE UPDATE ON outbox
WHEN length(OLD.body) = 0 AND (length(NEW.body) > 0 OR NEW.state = 'pending')
BEGIN SELECT RAISE(ABORT, 'E4: an erased event is not delivered again'); END;

-- Whose people a kept answer or notice shows.
ALTER TABLE idempotency ADD COLUMN order_id TEXT;
CREATE INDEX idempotency_by_order ON idempotency (order_id) WHERE order_id IS NOT NULL;
ALTER TABLE evidence ADD COLUMN order_id TEXT;
CREATE INDEX evidence_by_order ON evidence (order_id) WHERE order_id IS NOT NULL;
CREATE INDEX evidence_by_age ON evidence (first_seen) WHERE length(body) > 0;

DROP TRIGGER evidence_body_stays;
-- Sealed with another key it is as long as before; erased it is empty, but not while two people have
-- still to settle it.
CREATE TRIGGER evidence_body_stays BEFORE UPDATE OF body ON evidence
WHEN length(NEW.body) NOT IN (0, length(OLD.body))
    OR (length(NEW.body) = 0 AND OLD.settled_at IS NULL AND OLD.reason IN
        ('unknown_number', 'unreadable', 'recorded_elsewhere', 'foreign_refund'))
BEGIN SELECT RAISE(ABORT, 'M3: evidence stays as it was heard'); END;

-- An order is a frozen snapshot, but that its payer may be taken out of it, once, when it is over.
ALTER TABLE orders ADD COLUMN erased_at INTEGER;

DROP TRIGGER orders_frozen;
CREATE TRIGGER orders_frozen BEFORE UPDATE OF
    id, merchant, merchant_order_no, amount, created_at, purpose ON orders
BEGIN SELECT RAISE(ABORT, 'an order is a frozen snapshot'); END;
CREATE TRIGGER orders_people_frozen BEFORE UPDATE OF payer_index, snapshot, erased_at ON orders
WHEN OLD.erased_at IS NOT NULL OR NEW.erased_at IS NULL OR OLD.status NOT IN ('paid', 'closed')
    OR json_remove(OLD.snapshot, '$.payer_masked', '$.payer_index', '$.field_hashes',
           '$.has_display_fields')
       <> json_remove(NEW.snapshot, '$.payer_masked', '$.payer_index', '$.field_hashes',
           '$.has_display_fields')
    OR json_extract(NEW.snapshot, '$.payer_masked')
       <> '{"name":null,"id_number":null,"phone":null}'
BEGIN SELECT RAISE(ABORT, 'an order is a frozen snapshot'); END;

-- How many values stand under which key (its number is the first byte), so that a start need not look
-- at all of them. Merchants' webhook secrets are few and stand in JSON: they are counted when asked for.
CREATE TABLE sealed_counts (
    place TEXT NOT NULL,
    key   BLOB NOT NULL CHECK (length(key) = 1),
    held  INTEGER NOT NULL CHECK (held >= 0),
    PRIMARY KEY (place, key)
) STRICT, WITHOUT ROWID;

INSERT INTO sealed_counts
    SELECT 'personal', substr(sealed, 1, 1), count(*) FROM personal
    WHERE length(sealed) > 0 GROUP BY 2;
INSERT INTO sealed_counts
    SELECT 'outbox', substr(body, 1, 1), count(*) FROM outbox
    WHERE length(body) > 0 GROUP BY 2;
INSERT INTO sealed_counts
    SELECT 'idempotency', substr(answer, 1, 1), count(*) FROM idempotency
    WHERE length(answer) > 0 GROUP BY 2;
INSERT INTO sealed_counts
    SELECT 'evidence', substr(body, 1, 1), count(*) FROM evidence
    WHERE length(body) > 0 GROUP BY 2;
INSERT INTO sealed_counts
    SELECT 'merchant_keys', substr(sealed_secret, 1, 1), count(*) FROM merchant_keys
    WHERE length(sealed_secret) > 0 GROUP BY 2;

CREATE TRIGGER personal_sealed_in AFTER INSERT ON personal
WHEN length(NEW.sealed) > 0
BEGIN
    INSERT INTO sealed_counts (place, key, held) VALUES ('personal', substr(NEW.sealed, 1, 1), 1)
    ON CONFLICT (place, key) DO UPDATE SET held = held + 1;
END;
CREATE TRIGGER personal_sealed_off AFTER UPDATE OF sealed ON personal
WHEN length(OLD.sealed) > 0 AND substr(NEW.sealed, 1, 1) IS NOT substr(OLD.sealed, 1, 1)
BEGIN
    UPDATE sealed_counts SET held = held - 1
    WHERE place = 'personal' AND key = substr(OLD.sealed, 1, 1);
END;
CREATE TRIGGER personal_sealed_on AFTER UPDATE OF sealed ON personal
WHEN length(NEW.sealed) > 0 AND substr(NEW.sealed, 1, 1) IS NOT substr(OLD.sealed, 1, 1)
BEGIN
    INSERT INTO sealed_counts (place, key, held) VALUES ('personal', substr(NEW.sealed, 1, 1), 1)
    ON CONFLICT (place, key) DO UPDATE SET held = held + 1;
END;
CREATE TRIGGER personal_sealed_out AFTER DELETE ON personal
WHEN length(OLD.sealed) > 0
BEGIN
    UPDATE sealed_counts SET held = held - 1
    WHERE place = 'personal' AND key = substr(OLD.sealed, 1, 1);
END;

CREATE TRIGGER outbox_sealed_in AFTER INSERT ON outbox
WHEN length(NEW.body) > 0
BEGIN
    INSERT INTO sealed_counts (place, key, held) VALUES ('outbox', substr(NEW.body, 1, 1), 1)
    ON CONFLICT (place, key) DO UPDATE SET held = held + 1;
END;
CREATE TRIGGER outbox_sealed_off AFTER UPDATE OF body ON outbox
WHEN length(OLD.body) > 0 AND substr(NEW.body, 1, 1) IS NOT substr(OLD.body, 1, 1)
BEGIN
    UPDATE sealed_counts SET held = held - 1
    WHERE place = 'outbox' AND key = substr(OLD.body, 1, 1);
END;
CREATE TRIGGER outbox_sealed_on AFTER UPDATE OF body ON outbox
WHEN length(NEW.body) > 0 AND substr(NEW.body, 1, 1) IS NOT substr(OLD.body, 1, 1)
BEGIN
    INSERT INTO sealed_counts (place, key, held) VALUES ('outbox', substr(NEW.body, 1, 1), 1)
    ON CONFLICT (place, key) DO UPDATE SET held = held + 1;
END;

CREATE TRIGGER idempotency_sealed_in AFTER INSERT ON idempotency
WHEN length(NEW.answer) > 0
BEGIN
    INSERT INTO sealed_counts (place, key, held) VALUES ('idempotency', substr(NEW.answer, 1, 1), 1)
    ON CONFLICT (place, key) DO UPDATE SET held = held + 1;
END;
CREATE TRIGGER idempotency_sealed_off AFTER UPDATE OF answer ON idempotency
WHEN length(OLD.answer) > 0 AND substr(NEW.answer, 1, 1) IS NOT substr(OLD.answer, 1, 1)
BEGIN
    UPDATE sealed_counts SET held = held - 1
    WHERE place = 'idempotency' AND key = substr(OLD.answer, 1, 1);
END;
CREATE TRIGGER idempotency_sealed_on AFTER UPDATE OF answer ON idempotency
WHEN length(NEW.answer) > 0 AND substr(NEW.answer, 1, 1) IS NOT substr(OLD.answer, 1, 1)
BEGIN
    INSERT INTO sealed_counts (place, key, held) VALUES ('idempotency', substr(NEW.answer, 1, 1), 1)
    ON CONFLICT (place, key) DO UPDATE SET held = held + 1;
END;
CREATE TRIGGER idempotency_sealed_out AFTER DELETE ON idempotency
WHEN length(OLD.answer) > 0
BEGIN
    UPDATE sealed_counts SET held = held - 1
    WHERE place = 'idempotency' AND key = substr(OLD.answer, 1, 1);
END;

CREATE TRIGGER evidence_sealed_in AFTER INSERT ON evidence
WHEN length(NEW.body) > 0
BEGIN
    INSERT INTO sealed_counts (place, key, held) VALUES ('evidence', substr(NEW.body, 1, 1), 1)
    ON CONFLICT (place, key) DO UPDATE SET held = held + 1;
END;
CREATE TRIGGER evidence_sealed_off AFTER UPDATE OF body ON evidence
WHEN length(OLD.body) > 0 AND substr(NEW.body, 1, 1) IS NOT substr(OLD.body, 1, 1)
BEGIN
    UPDATE sealed_counts SET held = held - 1
    WHERE place = 'evidence' AND key = substr(OLD.body, 1, 1);
END;
CREATE TRIGGER evidence_sealed_on AFTER UPDATE OF body ON evidence
WHEN length(NEW.body) > 0 AND substr(NEW.body, 1, 1) IS NOT substr(OLD.body, 1, 1)
BEGIN
    INSERT INTO sealed_counts (place, key, held) VALUES ('evidence', substr(NEW.body, 1, 1), 1)
    ON CONFLICT (place, key) DO UPDATE SET held = held + 1;
END;

CREATE TRIGGER merchant_keys_sealed_in AFTER INSERT ON merchant_keys
WHEN length(NEW.sealed_secret) > 0
BEGIN
    INSERT INTO sealed_counts (place, key, held) VALUES ('merchant_keys', substr(NEW.sealed_secret, 1, 1), 1)
    ON CONFLICT (place, key) DO UPDATE SET held = held + 1;
END;
CREATE TRIGGER merchant_keys_sealed_off AFTER UPDATE OF sealed_secret ON merchant_keys
WHEN length(OLD.sealed_secret) > 0 AND substr(NEW.sealed_secret, 1, 1) IS NOT substr(OLD.sealed_secret, 1, 1)
BEGIN
    UPDATE sealed_counts SET held = held - 1
    WHERE place = 'merchant_keys' AND key = substr(OLD.sealed_secret, 1, 1);
END;
CREATE TRIGGER merchant_keys_sealed_on AFTER UPDATE OF sealed_secret ON merchant_keys
WHEN length(NEW.sealed_secret) > 0 AND substr(NEW.sealed_secret, 1, 1) IS NOT substr(OLD.sealed_secret, 1, 1)
BEGIN
    INSERT INTO sealed_counts (place, key, held) VALUES ('merchant_keys', substr(NEW.sealed_secret, 1, 1), 1)
    ON CONFLICT (place, key) DO UPDATE SET held = held + 1;
END;
