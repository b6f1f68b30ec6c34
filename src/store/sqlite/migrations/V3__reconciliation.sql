-- What comparing a provider's bill of one day with our rows has found. Dates are the provider's, that
-- is Beijing's, as YYYY-MM-DD.

CREATE TABLE reconciliations (
    account     TEXT NOT NULL,
    date        TEXT NOT NULL,
    run         INTEGER NOT NULL CHECK (run >= 1),
    state       TEXT NOT NULL CHECK (state IN ('running', 'waiting', 'finished', 'failed')),
    started_by  TEXT NOT NULL CHECK (started_by IN ('schedule', 'operator')),
    started_at  INTEGER NOT NULL,
    finished_at INTEGER,
    tallies     TEXT NOT NULL CHECK (json_valid(tallies)),
    flows       TEXT CHECK (json_valid(flows)),
    why         TEXT,
    PRIMARY KEY (account, date, run),
    CHECK ((state = 'running') = (finished_at IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX reconciliations_by_date ON reconciliations (date, account, run);

CREATE TRIGGER reconciliations_final BEFORE UPDATE ON reconciliations
WHEN OLD.state IN ('finished', 'failed')
BEGIN SELECT RAISE(ABORT, 'a run that has ended is history'); END;
CREATE TRIGGER reconciliations_stay BEFORE DELETE ON reconciliations
BEGIN SELECT RAISE(ABORT, 'the history of runs stays'); END;

-- Every line of the bill and every row of ours, once. Rows of earlier runs are deleted once a later one
-- has finished.
CREATE TABLE reconciliation_rows (
    account              TEXT NOT NULL,
    date                 TEXT NOT NULL,
    run                  INTEGER NOT NULL,
    number               INTEGER NOT NULL CHECK (number >= 1),
    verdict              TEXT NOT NULL CHECK (verdict IN
        ('matched', 'only_here', 'only_there', 'different')),
    kind                 TEXT NOT NULL,
    field                TEXT,
    repaired             INTEGER NOT NULL CHECK (repaired IN (0, 1)),
    order_id             TEXT,
    merchant             TEXT,
    -- What names our side for good.
    key                  TEXT,
    our_out_trade_no     TEXT,
    our_transaction_id   TEXT,
    our_refund_no        TEXT,
    our_amount           INTEGER,
    our_at               INTEGER,
    our_status           TEXT,
    their_line           INTEGER,
    their_out_trade_no   TEXT,
    their_transaction_id TEXT,
    their_refund_no      TEXT,
    their_amount         INTEGER,
    their_at             INTEGER,
    their_status         TEXT,
    their_fee            INTEGER,
    their_currency       TEXT,
    PRIMARY KEY (account, date, run, number),
    FOREIGN KEY (account, date, run) REFERENCES reconciliations (account, date, run),
    CHECK ((order_id IS NULL) = (merchant IS NULL)),
    CHECK (our_amount IS NOT NULL OR their_amount IS NOT NULL),
    CHECK (verdict <> 'only_here' OR their_amount IS NULL),
    CHECK (verdict <> 'matched' OR (our_amount IS NOT NULL AND their_amount IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX reconciliation_rows_by_key ON reconciliation_rows (account, key, date)
    WHERE key IS NOT NULL;
-- Few among very many.
CREATE INDEX reconciliation_differences ON reconciliation_rows (account, date, run, verdict, number)
    WHERE verdict <> 'matched';
