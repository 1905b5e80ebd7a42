-- What must survive the process: generations, the plan with its reasons, overrides, policy versions and the
-- audit log. Times are milliseconds since the Unix epoch; JSON columns hold this crate's own types.
CREATE TABLE IF NOT EXISTS head (
    only       INTEGER PRIMARY KEY CHECK (only = 1),
    generation INTEGER NOT NULL CHECK (generation >= 0)
);
INSERT OR IGNORE INTO head (only, generation) VALUES (1, 0);
-- Generations never go back, whoever writes.
CREATE TRIGGER IF NOT EXISTS head_rises BEFORE UPDATE ON head WHEN new.generation < old.generation
BEGIN SELECT RAISE(ABORT, 'a generation never goes back'); END;

CREATE TABLE IF NOT EXISTS plan (
    product  TEXT PRIMARY KEY,
    decision TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS tier_override (
    product  TEXT PRIMARY KEY,
    decision TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS policy (
    version INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    policy  TEXT NOT NULL
);

CREATE TABLE IF NOT EXISTS audit (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    at           INTEGER NOT NULL,
    actor        TEXT NOT NULL,
    action       TEXT NOT NULL,
    product      TEXT,
    before_value TEXT,
    after_value  TEXT,
    why          TEXT NOT NULL,
    generation   INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS audit_at ON audit (at);
-- Append-only: not even this program can change what was written.
CREATE TRIGGER IF NOT EXISTS audit_no_update BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS audit_no_delete BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END;
