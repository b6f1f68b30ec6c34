-- Who may log in to the operators' console, and their sessions. `key` is the name in lower case: what
-- reads alike is one person, for the rule of two.
CREATE TABLE operators (
    key         TEXT NOT NULL PRIMARY KEY CHECK (length(key) >= 1),
    name        TEXT NOT NULL,
    password    TEXT NOT NULL CHECK (password LIKE '$argon2id$%'),
    created_at  INTEGER NOT NULL,
    disabled_at INTEGER
) STRICT, WITHOUT ROWID;

-- The audit log names them for good: an operator who leaves is disabled.
CREATE TRIGGER operators_stay BEFORE DELETE ON operators
BEGIN SELECT RAISE(ABORT, 'an operator is disabled, never deleted'); END;
CREATE TRIGGER operators_keep_their_names BEFORE UPDATE OF key, name, created_at ON operators
BEGIN SELECT RAISE(ABORT, 'an operator keeps the name'); END;

-- Of a session's token only a keyed hash.
CREATE TABLE sessions (
    token      BLOB NOT NULL PRIMARY KEY CHECK (length(token) = 16),
    operator   TEXT NOT NULL REFERENCES operators (key),
    created_at INTEGER NOT NULL,
    seen_at    INTEGER NOT NULL CHECK (seen_at >= created_at)
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_by_operator ON sessions (operator);
CREATE INDEX sessions_by_age ON sessions (created_at);

-- A provider's number read from a payer's phone: nobody knows of which account it is.
CREATE INDEX captures_by_transaction ON captures (transaction_id);
CREATE INDEX mismatches_by_number ON mismatches (transaction_id);
