-- What payers owe. A bill is frozen; it names the last order that took it, and how it stands is read
-- from there. Its payer can be taken out of it, once.

CREATE TABLE bills (
    id               TEXT NOT NULL PRIMARY KEY,
    merchant         TEXT NOT NULL,
    merchant_bill_no TEXT NOT NULL,
    amount           INTEGER NOT NULL CHECK (amount BETWEEN 1 AND 1000000000),
    pay_before       INTEGER,
    created_at       INTEGER NOT NULL,
    content          TEXT NOT NULL CHECK (json_valid(content)),
    payer_masked     TEXT NOT NULL CHECK (json_valid(payer_masked)),
    payer_index      BLOB NOT NULL CHECK (length(payer_index) = 16),
    personal_hashes  TEXT NOT NULL CHECK (json_valid(personal_hashes)),
    sealed           BLOB NOT NULL,
    cancelled_at     INTEGER,
    order_id         TEXT REFERENCES orders (id),
    erased_at        INTEGER,
    UNIQUE (merchant, merchant_bill_no)
) STRICT;
CREATE INDEX bills_by_merchant ON bills (merchant, id);
CREATE INDEX bills_by_payer ON bills (merchant, payer_index, id);
CREATE INDEX bills_by_order ON bills (order_id) WHERE order_id IS NOT NULL;
CREATE INDEX bills_with_people ON bills (id) WHERE erased_at IS NULL;

CREATE TRIGGER bills_frozen BEFORE UPDATE OF
    id, merchant, merchant_bill_no, amount, pay_before, created_at, content ON bills
BEGIN SELECT RAISE(ABORT, 'a bill is a frozen snapshot'); END;
CREATE TRIGGER bills_one_order BEFORE UPDATE OF order_id ON bills
WHEN NEW.order_id IS NULL OR OLD.cancelled_at IS NOT NULL OR OLD.erased_at IS NOT NULL
    OR EXISTS (SELECT 1 FROM orders WHERE id = OLD.order_id AND status <> 'closed')
BEGIN SELECT RAISE(ABORT, 'a bill is in at most one open order'); END;
CREATE TRIGGER bills_cancelled_once BEFORE UPDATE OF cancelled_at ON bills
WHEN NEW.cancelled_at IS NOT OLD.cancelled_at AND (OLD.cancelled_at IS NOT NULL
    OR EXISTS (SELECT 1 FROM orders WHERE id = OLD.order_id AND status <> 'closed'))
BEGIN SELECT RAISE(ABORT, 'a bill that an order has is not cancelled'); END;
CREATE TRIGGER bills_people_frozen BEFORE UPDATE OF
    payer_masked, payer_index, personal_hashes, erased_at ON bills
WHEN OLD.erased_at IS NOT NULL OR NEW.erased_at IS NULL OR length(NEW.sealed) > 0
BEGIN SELECT RAISE(ABORT, 'a bill is a frozen snapshot'); END;
CREATE TRIGGER bills_erased_rest BEFORE UPDATE OF sealed ON bills
WHEN OLD.erased_at IS NOT NULL AND length(NEW.sealed) > 0
BEGIN SELECT RAISE(ABORT, 'an erased payer stays erased'); END;
CREATE TRIGGER bills_stay BEFORE DELETE ON bills
BEGIN SELECT RAISE(ABORT, 'bills are never deleted'); END;

CREATE TRIGGER bills_sealed_in AFTER INSERT ON bills
WHEN length(NEW.sealed) > 0
BEGIN
    INSERT INTO sealed_counts (place, key, held) VALUES ('bills', substr(NEW.sealed, 1, 1), 1)
    ON CONFLICT (place, key) DO UPDATE SET held = held + 1;
END;
CREATE TRIGGER bills_sealed_off AFTER UPDATE OF sealed ON bills
WHEN length(OLD.sealed) > 0 AND substr(NEW.sealed, 1, 1) IS NOT substr(OLD.sealed, 1, 1)
BEGIN
    UPDATE sealed_counts SET held = held - 1
    WHERE place = 'bills' AND key = substr(OLD.sealed, 1, 1);
END;
CREATE TRIGGER bills_sealed_on AFTER UPDATE OF sealed ON bills
WHEN length(NEW.sealed) > 0 AND substr(NEW.sealed, 1, 1) IS NOT substr(OLD.sealed, 1, 1)
BEGIN
    INSERT INTO sealed_counts (place, key, held) VALUES ('bills', substr(NEW.sealed, 1, 1), 1)
    ON CONFLICT (place, key) DO UPDATE SET held = held + 1;
END;

-- The way to one payer's bills for a while: no name in clear, and only the hash of its token.
CREATE TABLE payer_links (
    hash         BLOB NOT NULL PRIMARY KEY CHECK (length(hash) = 16),
    merchant     TEXT NOT NULL,
    payer_index  BLOB NOT NULL CHECK (length(payer_index) = 16),
    payer_masked TEXT NOT NULL CHECK (json_valid(payer_masked)),
    return_url   TEXT,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX payer_links_by_end ON payer_links (expires_at);
