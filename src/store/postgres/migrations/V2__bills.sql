-- What payers owe: the same tables and rules as the embedded store's.

CREATE TABLE bills (
    place            bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    id               text COLLATE "C" NOT NULL PRIMARY KEY,
    merchant         text COLLATE "C" NOT NULL,
    merchant_bill_no text COLLATE "C" NOT NULL,
    amount           bigint NOT NULL CHECK (amount BETWEEN 1 AND 1000000000),
    pay_before       bigint,
    created_at       bigint NOT NULL,
    content          text NOT NULL,
    payer_masked     text NOT NULL,
    payer_index      bytea NOT NULL CHECK (length(payer_index) = 16),
    personal_hashes  text NOT NULL,
    sealed           bytea NOT NULL,
    cancelled_at     bigint,
    order_id         text COLLATE "C" REFERENCES orders (id),
    erased_at        bigint,
    UNIQUE (merchant, merchant_bill_no)
) WITH (fillfactor = 85);
CREATE INDEX bills_by_merchant ON bills (merchant, id);
CREATE INDEX bills_by_payer ON bills (merchant, payer_index, id);
CREATE INDEX bills_by_order ON bills (order_id) WHERE order_id IS NOT NULL;
CREATE INDEX bills_with_people ON bills (id) WHERE erased_at IS NULL;

CREATE TRIGGER bills_frozen BEFORE UPDATE OF
    id, merchant, merchant_bill_no, amount, pay_before, created_at, content ON bills
    FOR EACH ROW EXECUTE FUNCTION refuse('a bill is a frozen snapshot');

-- Refuses, with the argument's words, where an order that is open or paid has the bill.
CREATE FUNCTION bill_is_free() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT 1 FROM orders WHERE id = OLD.order_id AND status <> 'closed') THEN
        RAISE EXCEPTION USING ERRCODE = 'EP001', MESSAGE = TG_ARGV[0];
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER bills_one_order BEFORE UPDATE OF order_id ON bills FOR EACH ROW
    EXECUTE FUNCTION bill_is_free('a bill is in at most one open order');
CREATE TRIGGER bills_over BEFORE UPDATE OF order_id ON bills FOR EACH ROW
    WHEN (NEW.order_id IS NULL OR OLD.cancelled_at IS NOT NULL OR OLD.erased_at IS NOT NULL)
    EXECUTE FUNCTION refuse('a bill that was cancelled is paid by no order');
CREATE TRIGGER bills_cancelled_free BEFORE UPDATE OF cancelled_at ON bills FOR EACH ROW
    WHEN (NEW.cancelled_at IS DISTINCT FROM OLD.cancelled_at)
    EXECUTE FUNCTION bill_is_free('a bill that an order has is not cancelled');
CREATE TRIGGER bills_cancelled_once BEFORE UPDATE OF cancelled_at ON bills FOR EACH ROW
    WHEN (OLD.cancelled_at IS NOT NULL AND NEW.cancelled_at IS DISTINCT FROM OLD.cancelled_at)
    EXECUTE FUNCTION refuse('a bill is cancelled once');
CREATE TRIGGER bills_people_frozen BEFORE UPDATE OF
    payer_masked, payer_index, personal_hashes, erased_at ON bills FOR EACH ROW
    WHEN (OLD.erased_at IS NOT NULL OR NEW.erased_at IS NULL OR length(NEW.sealed) > 0)
    EXECUTE FUNCTION refuse('a bill is a frozen snapshot');
CREATE TRIGGER bills_erased_rest BEFORE UPDATE OF sealed ON bills FOR EACH ROW
    WHEN (OLD.erased_at IS NOT NULL AND length(NEW.sealed) > 0)
    EXECUTE FUNCTION refuse('an erased payer stays erased');
CREATE TRIGGER bills_stay BEFORE DELETE ON bills
    FOR EACH ROW EXECUTE FUNCTION refuse('bills are never deleted');
CREATE TRIGGER bills_not_emptied BEFORE TRUNCATE ON bills
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('bills are never deleted');

CREATE TRIGGER bills_sealed_in AFTER INSERT ON bills
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_sealed_in('sealed');
CREATE TRIGGER bills_sealed_on AFTER UPDATE OF sealed ON bills
    FOR EACH ROW EXECUTE FUNCTION count_sealed_change('sealed');

-- The way to one payer's bills for a while: no name in clear, and only the hash of its token.
CREATE TABLE payer_links (
    hash         bytea NOT NULL PRIMARY KEY CHECK (length(hash) = 16),
    merchant     text COLLATE "C" NOT NULL,
    payer_index  bytea NOT NULL CHECK (length(payer_index) = 16),
    payer_masked text NOT NULL,
    return_url   text,
    created_at   bigint NOT NULL,
    expires_at   bigint NOT NULL
);
CREATE INDEX payer_links_by_end ON payer_links (expires_at);
