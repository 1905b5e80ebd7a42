-- The embedded event log, version 1 (PRAGMA user_version). One writer; offsets never go back, even when
-- every record of a partition is gone.

CREATE TABLE topics (
    topic        TEXT PRIMARY KEY,
    -- Milliseconds a record is kept; NULL: compacted.
    retention_ms INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE partitions (
    id           INTEGER PRIMARY KEY,
    topic        TEXT NOT NULL REFERENCES topics (topic),
    partition    INTEGER NOT NULL,
    -- The offset that the next record gets.
    next         INTEGER NOT NULL DEFAULT 0,
    -- Compaction has seen everything before this offset.
    compacted_to INTEGER NOT NULL DEFAULT 0,
    UNIQUE (topic, partition)
) STRICT;

-- id = partition id * 2^44 + offset: a partition's records lie side by side in the order of their offsets.
-- The large columns come last, so that cleaning does not read them.
CREATE TABLE records (
    id       INTEGER PRIMARY KEY,
    appended INTEGER NOT NULL,
    at       INTEGER NOT NULL,
    key      BLOB,
    headers  BLOB,
    value    BLOB
) STRICT;

CREATE TABLE progress (
    partition_id INTEGER NOT NULL REFERENCES partitions (id),
    group_name   TEXT NOT NULL,
    next         INTEGER NOT NULL,
    PRIMARY KEY (partition_id, group_name)
) STRICT, WITHOUT ROWID;

-- The newest record of each key, as far as compaction has seen; not kept up by appends.
CREATE TABLE newest (
    partition_id INTEGER NOT NULL REFERENCES partitions (id),
    key          BLOB NOT NULL,
    offset       INTEGER NOT NULL,
    -- When it was appended, if it is a tombstone.
    buried       INTEGER,
    PRIMARY KEY (partition_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX newest_buried ON newest (partition_id, buried) WHERE buried IS NOT NULL;
