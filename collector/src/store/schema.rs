//! The tables of the collector's store and how older ones become them. It must never drop what an older
//! version wrote.

use rusqlite::Connection;
use types::Timestamp;

use super::StoreError;

/// Version of the tables; a newer one is refused.
pub(super) const VERSION: u32 = 2;

/// Each step makes the tables of the version that is its place, from 1.
const STEPS: [&str; VERSION as usize] = [FIRST, SECOND];

const FIRST: &str = "
CREATE TABLE paths (
    path TEXT PRIMARY KEY,
    first_seen INTEGER NOT NULL
) STRICT;
CREATE TABLE sources (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    path TEXT NOT NULL,
    name TEXT UNIQUE,                   -- NULL until the first byte was read
    device INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    prefix_length INTEGER NOT NULL,
    prefix_hash BLOB NOT NULL,
    position INTEGER NOT NULL,          -- first byte of the first line that has not had its effect
    modified INTEGER NOT NULL,          -- the file's own modification time, ms
    finished INTEGER NOT NULL
) STRICT;
CREATE INDEX sources_by_path ON sources (path, finished);
CREATE TABLE accounting (
    class TEXT NOT NULL,
    reason TEXT NOT NULL,
    lines INTEGER NOT NULL,
    PRIMARY KEY (class, reason)
) STRICT, WITHOUT ROWID;
CREATE TABLE dead_letters (
    source TEXT NOT NULL,
    offset INTEGER NOT NULL,
    reason TEXT NOT NULL,
    bytes BLOB NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (source, offset)
) STRICT;
";

const SECOND: &str = "
ALTER TABLE sources ADD COLUMN newest INTEGER;            -- the log's newest believed time, ms
ALTER TABLE sources ADD COLUMN doubted INTEGER;           -- the time of its last line, if that was doubted, ms
ALTER TABLE dead_letters ADD COLUMN file TEXT;            -- where it stood, if not in the source itself
ALTER TABLE dead_letters ADD COLUMN file_offset INTEGER;
ALTER TABLE dead_letters ADD COLUMN wrapped INTEGER NOT NULL DEFAULT 0;  -- 1: a shipper's whole record
ALTER TABLE dead_letters ADD COLUMN replay INTEGER;       -- the replay that is turning it into something else
CREATE TABLE partitions (
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    source TEXT NOT NULL,               -- name under which its lines are published
    next INTEGER NOT NULL,              -- first record that has not had its effect
    last_mark INTEGER,                  -- hash of the record before that; NULL if none was taken yet
    PRIMARY KEY (topic, partition)
) STRICT, WITHOUT ROWID;
CREATE TABLE replays (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    started INTEGER NOT NULL,
    finished INTEGER                    -- NULL while it may have published and not said so
) STRICT;
CREATE TABLE identity (
    name TEXT NOT NULL                  -- tells this store from every other collector's
) STRICT;
";

/// Brings the tables to this version.
pub(super) fn prepare(connection: &mut Connection, now: Timestamp) -> Result<(), StoreError> {
    let version: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version > VERSION {
        return Err(StoreError::Newer(version));
    }
    let change = connection.transaction()?;
    for step in &STEPS[version as usize..] {
        change.execute_batch(step)?;
    }
    change.pragma_update(None, "user_version", VERSION)?;
    // One process at one moment makes one store; two machines differ in at least one of these.
    let name = format!("{:x}-{:x}", now.millis(), std::process::id());
    change.execute("INSERT INTO identity (name) SELECT ?1 WHERE NOT EXISTS (SELECT 1 FROM identity)", [name])?;
    change.commit()?;
    Ok(())
}
