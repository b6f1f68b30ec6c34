-- The same rows that several nodes share on PostgreSQL. Here there is one instance at a time.

CREATE TABLE instances (
    instance     BLOB NOT NULL PRIMARY KEY CHECK (length(instance) = 16),
    node         TEXT NOT NULL,
    internal_url TEXT,
    alive_until  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A shard that was given back has no owner.
CREATE TABLE shards_with_owners (
    shard      INTEGER NOT NULL PRIMARY KEY CHECK (shard BETWEEN 0 AND 65535),
    epoch      INTEGER NOT NULL CHECK (epoch >= 1),
    instance   BLOB CHECK (length(instance) = 16),
    claimed_at INTEGER NOT NULL
) STRICT;
INSERT INTO shards_with_owners SELECT shard, epoch, instance, claimed_at FROM shards;
DROP TABLE shards;
ALTER TABLE shards_with_owners RENAME TO shards;

CREATE TRIGGER shards_epoch_grows BEFORE UPDATE ON shards
WHEN NEW.shard <> OLD.shard OR NEW.epoch < OLD.epoch
    OR (NEW.epoch = OLD.epoch AND NEW.instance IS NOT NULL AND NEW.instance IS NOT OLD.instance)
BEGIN SELECT RAISE(ABORT, 'O3: the epoch of a shard only grows'); END;
CREATE TRIGGER shards_stay BEFORE DELETE ON shards
BEGIN SELECT RAISE(ABORT, 'O3: the epoch of a shard only grows'); END;

-- Whose request runs under a key: what a dead instance began has ended.
ALTER TABLE idempotency ADD COLUMN instance BLOB NOT NULL
    DEFAULT X'00000000000000000000000000000000' CHECK (length(instance) = 16);
