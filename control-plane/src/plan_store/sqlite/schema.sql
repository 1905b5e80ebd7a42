-- What must survive the process: the leader, generations with their deltas, the plan with its reasons, overrides,
-- pauses, policy versions and the audit log. Times are milliseconds since the Unix epoch; JSON columns hold this
-- crate's own types.
CREATE TABLE IF NOT EXISTS head (
    only       INTEGER PRIMARY KEY CHECK (only = 1),
    generation INTEGER NOT NULL CHECK (generation >= 0)
);
INSERT OR IGNORE INTO head (only, generation) VALUES (1, 0);
-- Generations never go back, whoever writes.
CREATE TRIGGER IF NOT EXISTS head_rises BEFORE UPDATE ON head WHEN new.generation < old.generation
BEGIN SELECT RAISE(ABORT, 'a generation never goes back'); END;

-- The fenced lease: who leads, and the revision of everything below.
CREATE TABLE IF NOT EXISTS leader (
    only       INTEGER PRIMARY KEY CHECK (only = 1),
    term       INTEGER NOT NULL,
    holder     TEXT,
    url        TEXT NOT NULL,
    beat       INTEGER NOT NULL,
    renewed_at INTEGER NOT NULL,
    revision   INTEGER NOT NULL
);
INSERT OR IGNORE INTO leader (only, term, holder, url, beat, renewed_at, revision) VALUES (1, 0, NULL, '', 0, 0, 0);
CREATE TRIGGER IF NOT EXISTS term_rises BEFORE UPDATE ON leader WHEN new.term < old.term
BEGIN SELECT RAISE(ABORT, 'a term never goes back'); END;

CREATE TABLE IF NOT EXISTS plan (
    product  TEXT PRIMARY KEY,
    decision TEXT NOT NULL
) WITHOUT ROWID;

-- Each generation with what it changed, for an hour (compacted after).
CREATE TABLE IF NOT EXISTS generation (
    generation INTEGER PRIMARY KEY,
    at         INTEGER NOT NULL,
    term       INTEGER NOT NULL,
    products   INTEGER NOT NULL,
    tiers      TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS generation_at ON generation (at);
CREATE TABLE IF NOT EXISTS delta (
    product    TEXT NOT NULL,
    generation INTEGER NOT NULL,
    at         INTEGER NOT NULL,
    decision   TEXT NOT NULL,
    PRIMARY KEY (product, generation)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS delta_at ON delta (at);

CREATE TABLE IF NOT EXISTS tier_override (
    product  TEXT PRIMARY KEY,
    decision TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS pause (
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    told TEXT NOT NULL,
    PRIMARY KEY (kind, name)
) WITHOUT ROWID;

-- Single values: `frozen`, `configured` (the policy that the configuration asked for last).
CREATE TABLE IF NOT EXISTS setting (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS policy (
    version INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    policy  TEXT NOT NULL
);
-- Who wrote a version and why; a version of an older program has no row here.
CREATE TABLE IF NOT EXISTS policy_note (
    version INTEGER PRIMARY KEY,
    by_whom TEXT NOT NULL,
    why     TEXT NOT NULL
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
