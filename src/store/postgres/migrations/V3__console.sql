-- Who may log in to the operators' console, and their sessions. `key` is the name in lower case: what
-- reads alike is one person, for the rule of two.
CREATE TABLE operators (
    key         text COLLATE "C" NOT NULL PRIMARY KEY CHECK (length(key) >= 1),
    name        text COLLATE "C" NOT NULL,
    password    text COLLATE "C" NOT NULL CHECK (password LIKE '$argon2id$%'),
    created_at  bigint NOT NULL,
    disabled_at bigint
);

-- The audit log names them for good: an operator who leaves is disabled.
CREATE TRIGGER operators_stay BEFORE DELETE ON operators
    FOR EACH ROW EXECUTE FUNCTION refuse('an operator is disabled, never deleted');
CREATE TRIGGER operators_not_emptied BEFORE TRUNCATE ON operators
    FOR EACH STATEMENT EXECUTE FUNCTION refuse('an operator is disabled, never deleted');
CREATE TRIGGER operators_keep_their_names BEFORE UPDATE OF key, name, created_at ON operators
    FOR EACH ROW EXECUTE FUNCTION refuse('an operator keeps the name');

-- Of a session's token only a keyed hash.
CREATE TABLE sessions (
    token      bytea NOT NULL PRIMARY KEY CHECK (length(token) = 16),
    operator   text COLLATE "C" NOT NULL REFERENCES operators (key),
    created_at bigint NOT NULL,
    seen_at    bigint NOT NULL CHECK (seen_at >= created_at)
);
CREATE INDEX sessions_by_operator ON sessions (operator);
CREATE INDEX sessions_by_age ON sessions (created_at);

-- A provider's number read from a payer's phone: nobody knows of which account it is.
CREATE INDEX captures_by_transaction ON captures (transaction_id);
CREATE INDEX mismatches_by_number ON mismatches (transaction_id);
