-- All stock, orders and decisions. The same tables on SQLite and on MySQL/MariaDB.
-- Times are milliseconds since the Unix epoch; ids are lower-case hexadecimal; money is minor units.
CREATE TABLE IF NOT EXISTS sale (
  name TEXT PRIMARY KEY,
  zone TEXT NOT NULL,
  opens INTEGER NOT NULL,
  closes INTEGER NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('active', 'paused', 'closed')),
  updated_at INTEGER NOT NULL,
  CHECK (closes > opens)
) WITHOUT ROWID;

-- What purchases of a sale need beside a buyer; a sale that is not here asks for nothing.
CREATE TABLE IF NOT EXISTS sale_policy (
  sale TEXT PRIMARY KEY REFERENCES sale (name),
  token_required INTEGER NOT NULL CHECK (token_required IN (0, 1)),
  proof_of_work INTEGER NOT NULL CHECK (proof_of_work BETWEEN 0 AND 24)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS product (
  product_id TEXT PRIMARY KEY,
  sale TEXT NOT NULL REFERENCES sale (name),
  name TEXT NOT NULL,
  price INTEGER NOT NULL CHECK (price > 0),
  currency TEXT NOT NULL,
  buyer_limit INTEGER NOT NULL CHECK (buyer_limit > 0),
  initial_tier TEXT CHECK (initial_tier IN ('db', 'redis', 'queue')),
  pages TEXT NOT NULL,                -- JSON array of page ids
  stock INTEGER NOT NULL DEFAULT 0 CHECK (stock >= 0)   -- units it brought into its sale; what there is now is in `stock`
);

CREATE TABLE IF NOT EXISTS stock (
  product_id TEXT PRIMARY KEY REFERENCES product (product_id),
  total INTEGER NOT NULL CHECK (total >= 0),
  free INTEGER NOT NULL CHECK (free >= 0),
  leased INTEGER NOT NULL CHECK (leased >= 0),
  reserved INTEGER NOT NULL CHECK (reserved >= 0),
  sold INTEGER NOT NULL CHECK (sold >= 0),
  tier TEXT NOT NULL CHECK (tier IN ('db', 'redis', 'queue')),
  phase TEXT NOT NULL CHECK (phase IN ('active', 'draining')),
  epoch INTEGER NOT NULL CHECK (epoch >= 0),
  target TEXT CHECK (target IN ('db', 'redis', 'queue')),   -- set exactly while draining
  CHECK (free + leased + reserved + sold = total),
  CHECK ((phase = 'draining') = (target IS NOT NULL))
);

-- Every change of a product's total, in order: the total at every instant. `after_event` is the last id of the
-- outbox at that moment, so that changes and order events of a product have one order.
CREATE TABLE IF NOT EXISTS stock_change (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  product_id TEXT NOT NULL,
  -- A sale's file, an adjustment, or (once per product) what an older version had brought without a history.
  cause TEXT NOT NULL CHECK (cause IN ('sale', 'adjustment', 'older')),
  delta INTEGER NOT NULL,
  total INTEGER NOT NULL CHECK (total >= 0),   -- right after it
  after_event INTEGER NOT NULL CHECK (after_event >= 0),
  at INTEGER NOT NULL,
  adjustment_id TEXT UNIQUE,
  reason TEXT,
  made_by TEXT,
  CHECK ((cause = 'adjustment') = (adjustment_id IS NOT NULL)),
  CHECK ((adjustment_id IS NULL) = (reason IS NULL) AND (adjustment_id IS NULL) = (made_by IS NULL)),
  CHECK (adjustment_id IS NULL OR delta <> 0)
);
CREATE INDEX IF NOT EXISTS stock_change_product ON stock_change (product_id, seq);

CREATE TABLE IF NOT EXISTS lease (
  lease_id TEXT PRIMARY KEY,
  product_id TEXT NOT NULL REFERENCES stock (product_id),
  epoch INTEGER NOT NULL,
  granted INTEGER NOT NULL CHECK (granted >= 0),
  consumed INTEGER NOT NULL CHECK (consumed >= 0),
  state TEXT NOT NULL CHECK (state IN ('OPEN', 'FENCED', 'CLOSED')),
  loaded INTEGER NOT NULL CHECK (loaded IN (0, 1)),
  opened_at INTEGER NOT NULL,
  CHECK (consumed <= granted)
);
-- At most one lease of a product is not CLOSED. (MySQL: a generated column in place of the partial index.)
CREATE UNIQUE INDEX IF NOT EXISTS lease_alive ON lease (product_id) WHERE state <> 'CLOSED';

CREATE TABLE IF NOT EXISTS decision (
  buyer TEXT NOT NULL,
  key TEXT NOT NULL,
  body_hash TEXT NOT NULL,
  product_id TEXT NOT NULL,
  outcome TEXT NOT NULL CHECK (outcome IN ('accepted', 'sold_out', 'all_reserved', 'limit', 'deadline', 'closed')),
  order_id TEXT,
  decided_at INTEGER NOT NULL,
  PRIMARY KEY (buyer, key),
  CHECK ((outcome = 'accepted') = (order_id IS NOT NULL))
) WITHOUT ROWID;

-- Rows lie in order of arrival: under group commit a page written per order and per tree is what costs, so
-- each order touches few trees at random places. A buyer's orders are found through `decision`, whose key
-- also keeps `(buyer, key)` unique.
CREATE TABLE IF NOT EXISTS orders (
  order_id TEXT PRIMARY KEY,
  buyer TEXT NOT NULL,
  key TEXT NOT NULL,
  sale TEXT NOT NULL,
  product_id TEXT NOT NULL,
  quantity INTEGER NOT NULL CHECK (quantity > 0),
  amount INTEGER NOT NULL CHECK (amount > 0),
  currency TEXT NOT NULL,
  tier TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('accepted', 'paid', 'expired', 'cancelled', 'refund_due', 'refunded')),
  lease_id TEXT,
  seq INTEGER,
  request_id TEXT,
  accepted_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL,
  CHECK ((lease_id IS NULL) = (seq IS NULL))
);
-- A grant is worth one order. (MySQL: a plain unique key; it takes many NULLs.)
CREATE UNIQUE INDEX IF NOT EXISTS orders_grant ON orders (lease_id, seq) WHERE lease_id IS NOT NULL;
CREATE INDEX IF NOT EXISTS orders_due ON orders (expires_at) WHERE state = 'accepted';

CREATE TABLE IF NOT EXISTS buyer_limit (
  buyer TEXT NOT NULL,
  sale TEXT NOT NULL,
  product_id TEXT NOT NULL,
  held INTEGER NOT NULL CHECK (held >= 0),
  PRIMARY KEY (buyer, sale, product_id)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS outbox (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  order_id TEXT NOT NULL,
  kind TEXT NOT NULL,
  at INTEGER NOT NULL,
  request_id TEXT
);

CREATE TABLE IF NOT EXISTS payment (
  payment_id TEXT PRIMARY KEY,
  order_id TEXT NOT NULL,
  amount INTEGER NOT NULL,
  currency TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('paid', 'refund_due', 'refunded')),
  -- Whether this payment is the one that moved its order to paid or refund_due; a second or wrong one is not.
  moved_order INTEGER NOT NULL CHECK (moved_order IN (0, 1)),
  at INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS used_token (
  token_id TEXT PRIMARY KEY,
  buyer TEXT NOT NULL,
  key TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS move (
  product_id TEXT NOT NULL,
  epoch INTEGER NOT NULL,
  step TEXT NOT NULL CHECK (step IN ('fence', 'settle', 'open')),
  from_tier TEXT NOT NULL,
  to_tier TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (product_id, epoch, step)
) WITHOUT ROWID;

-- Small facts of this installation: schema version, outbox relay position, refunded money of legacy orders.
CREATE TABLE IF NOT EXISTS meta (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;

-- What administration did, to what, by whom: a line per act, written with it. Never changed, never deleted.
CREATE TABLE IF NOT EXISTS admin_audit (
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  at INTEGER NOT NULL,
  subject TEXT NOT NULL,
  roles TEXT NOT NULL,                -- parted by commas
  action TEXT NOT NULL,
  sale TEXT,
  product_id TEXT,
  request_id TEXT,
  outcome TEXT NOT NULL CHECK (outcome IN ('done', 'unchanged', 'refused')),
  detail TEXT NOT NULL                -- JSON: before, after, why
);
CREATE TRIGGER IF NOT EXISTS admin_audit_stays BEFORE UPDATE ON admin_audit
BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END;
CREATE TRIGGER IF NOT EXISTS admin_audit_is_kept BEFORE DELETE ON admin_audit
BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END;

-- Money that is owed back, the longest owed first: what the worker of refunds reads.
CREATE INDEX IF NOT EXISTS payment_due ON payment (at, payment_id) WHERE state = 'refund_due';

-- Subscriptions of the shop's own systems to order events. Every event up to `cursor_at` was delivered, is parked or
-- dead; `holder` is the core that delivers, until `held_until`; `generation` rises when something else is to be sent.
CREATE TABLE IF NOT EXISTS webhook (
  name TEXT PRIMARY KEY,
  url TEXT NOT NULL,
  kinds TEXT NOT NULL,                -- names with commas between
  secret TEXT NOT NULL,               -- its name in the configuration, never the secret
  generation INTEGER NOT NULL,
  cursor_at INTEGER NOT NULL CHECK (cursor_at >= 0),
  holder TEXT,
  held_until INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) WITHOUT ROWID;

-- Events that wait for another try, and those of the same orders behind them.
CREATE TABLE IF NOT EXISTS webhook_parked (
  name TEXT NOT NULL,
  sequence INTEGER NOT NULL,
  order_id TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  since INTEGER NOT NULL,
  due INTEGER NOT NULL,
  reason TEXT NOT NULL,
  PRIMARY KEY (name, sequence)
) WITHOUT ROWID;

-- Events that were given up, until somebody replays them.
CREATE TABLE IF NOT EXISTS webhook_dead (
  name TEXT NOT NULL,
  sequence INTEGER NOT NULL,
  order_id TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  at INTEGER NOT NULL,
  reason TEXT NOT NULL,
  PRIMARY KEY (name, sequence)
) WITHOUT ROWID;

-- Passes to the live updates, each good once and for seconds: whoever deletes the row has used it.
CREATE TABLE IF NOT EXISTS live_pass (
  digest TEXT PRIMARY KEY,
  buyer TEXT NOT NULL,
  until INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS live_pass_until ON live_pass (until);

-- Imports of stock that took effect: the same id is done once. Each row of it is an adjustment in `stock_change`.
CREATE TABLE IF NOT EXISTS stock_import (
  import_id TEXT PRIMARY KEY,
  sale TEXT NOT NULL,
  file_hash TEXT NOT NULL,
  file_rows INTEGER NOT NULL CHECK (file_rows > 0),
  added INTEGER NOT NULL CHECK (added >= 0),
  removed INTEGER NOT NULL CHECK (removed >= 0),
  at INTEGER NOT NULL
) WITHOUT ROWID;
