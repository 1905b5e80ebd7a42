-- All stock, orders and decisions: the tables of ../../schema.sql as InnoDB keeps them.
-- Times are milliseconds since the Unix epoch; ids are lower-case hexadecimal; money is minor units.
-- Every statement may be run again: a server killed within a migration continues it on the next start.
-- Text is utf8mb4 with a binary collation, so that ids differ by case and accent, and sort the same everywhere
-- (the order of locks rests on it). No id ends in a blank, so padding does not matter.
CREATE TABLE IF NOT EXISTS sale (
  name VARCHAR(64) NOT NULL PRIMARY KEY,
  zone VARCHAR(64) NOT NULL,
  opens BIGINT NOT NULL,
  closes BIGINT NOT NULL,
  state VARCHAR(8) NOT NULL CHECK (state IN ('active', 'paused', 'closed')),
  updated_at BIGINT NOT NULL,
  CHECK (closes > opens)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS product (
  product_id VARCHAR(64) NOT NULL PRIMARY KEY,
  sale VARCHAR(64) NOT NULL,
  name TEXT NOT NULL,
  price BIGINT NOT NULL CHECK (price > 0),
  currency VARCHAR(8) NOT NULL,
  buyer_limit BIGINT NOT NULL CHECK (buyer_limit > 0),
  initial_tier VARCHAR(8) CHECK (initial_tier IN ('db', 'redis', 'queue')),
  pages MEDIUMTEXT NOT NULL,
  stock BIGINT NOT NULL DEFAULT 0 CHECK (stock >= 0),
  CONSTRAINT product_sale FOREIGN KEY (sale) REFERENCES sale (name)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- The row of a product here is the lock of all that belongs to the product: see docs/adr/0007.
CREATE TABLE IF NOT EXISTS stock (
  product_id VARCHAR(64) NOT NULL PRIMARY KEY,
  total BIGINT NOT NULL CHECK (total >= 0),
  free BIGINT NOT NULL CHECK (free >= 0),
  leased BIGINT NOT NULL CHECK (leased >= 0),
  reserved BIGINT NOT NULL CHECK (reserved >= 0),
  sold BIGINT NOT NULL CHECK (sold >= 0),
  tier VARCHAR(8) NOT NULL CHECK (tier IN ('db', 'redis', 'queue')),
  phase VARCHAR(8) NOT NULL CHECK (phase IN ('active', 'draining')),
  epoch BIGINT NOT NULL CHECK (epoch >= 0),
  target VARCHAR(8) CHECK (target IN ('db', 'redis', 'queue')),
  CHECK (free + leased + reserved + sold = total),
  CHECK ((phase = 'draining') = (target IS NOT NULL)),
  CONSTRAINT stock_product FOREIGN KEY (product_id) REFERENCES product (product_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- `alive` is the product while the lease is not CLOSED: at most one lease of a product lives.
CREATE TABLE IF NOT EXISTS lease (
  lease_id VARCHAR(32) NOT NULL PRIMARY KEY,
  product_id VARCHAR(64) NOT NULL,
  epoch BIGINT NOT NULL,
  granted BIGINT NOT NULL CHECK (granted >= 0),
  consumed BIGINT NOT NULL CHECK (consumed >= 0),
  state VARCHAR(8) NOT NULL CHECK (state IN ('OPEN', 'FENCED', 'CLOSED')),
  loaded TINYINT NOT NULL CHECK (loaded IN (0, 1)),
  opened_at BIGINT NOT NULL,
  alive VARCHAR(64) AS (IF(state <> 'CLOSED', product_id, NULL)) VIRTUAL,
  CHECK (consumed <= granted),
  UNIQUE KEY lease_alive (alive),
  KEY lease_product (product_id),
  CONSTRAINT lease_stock FOREIGN KEY (product_id) REFERENCES stock (product_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS decision (
  buyer VARCHAR(128) NOT NULL,
  `key` VARCHAR(128) NOT NULL,
  body_hash VARCHAR(64) NOT NULL,
  product_id VARCHAR(64) NOT NULL,
  outcome VARCHAR(16) NOT NULL
    CHECK (outcome IN ('accepted', 'sold_out', 'all_reserved', 'limit', 'deadline', 'closed')),
  order_id VARCHAR(32),
  decided_at BIGINT NOT NULL,
  PRIMARY KEY (buyer, `key`),
  CHECK ((outcome = 'accepted') = (order_id IS NOT NULL))
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Rows lie in order of arrival: an order's id is random, and a clustered index on it would write a page per order.
CREATE TABLE IF NOT EXISTS orders (
  arrival BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  order_id VARCHAR(32) NOT NULL,
  buyer VARCHAR(128) NOT NULL,
  `key` VARCHAR(128) NOT NULL,
  sale VARCHAR(64) NOT NULL,
  product_id VARCHAR(64) NOT NULL,
  quantity BIGINT NOT NULL CHECK (quantity > 0),
  amount BIGINT NOT NULL CHECK (amount > 0),
  currency VARCHAR(8) NOT NULL,
  tier VARCHAR(8) NOT NULL,
  state VARCHAR(16) NOT NULL
    CHECK (state IN ('accepted', 'paid', 'expired', 'cancelled', 'refund_due', 'refunded')),
  lease_id VARCHAR(32),
  seq BIGINT,
  request_id VARCHAR(64),
  accepted_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL,
  CHECK ((lease_id IS NULL) = (seq IS NULL)),
  UNIQUE KEY orders_id (order_id),
  UNIQUE KEY orders_grant (lease_id, seq),
  KEY orders_due (state, expires_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS buyer_limit (
  buyer VARCHAR(128) NOT NULL,
  sale VARCHAR(64) NOT NULL,
  product_id VARCHAR(64) NOT NULL,
  held BIGINT NOT NULL CHECK (held >= 0),
  PRIMARY KEY (buyer, product_id, sale)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Ids come from `outbox_head`, not from AUTO_INCREMENT: see docs/adr/0007.
CREATE TABLE IF NOT EXISTS outbox (
  id BIGINT NOT NULL PRIMARY KEY,
  order_id VARCHAR(32) NOT NULL,
  kind VARCHAR(16) NOT NULL,
  at BIGINT NOT NULL,
  request_id VARCHAR(64)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- The last id of the outbox: whoever has this row locked writes the next events, until its commit.
CREATE TABLE IF NOT EXISTS outbox_head (
  one TINYINT NOT NULL PRIMARY KEY CHECK (one = 1),
  last BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
INSERT IGNORE INTO outbox_head (one, last) VALUES (1, 0);

CREATE TABLE IF NOT EXISTS payment (
  payment_id VARCHAR(32) NOT NULL PRIMARY KEY,
  order_id VARCHAR(32) NOT NULL,
  amount BIGINT NOT NULL,
  currency VARCHAR(8) NOT NULL,
  state VARCHAR(16) NOT NULL CHECK (state IN ('paid', 'refund_due', 'refunded')),
  moved_order TINYINT NOT NULL CHECK (moved_order IN (0, 1)),
  at BIGINT NOT NULL,
  KEY payment_order (order_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS used_token (
  token_id VARCHAR(512) NOT NULL PRIMARY KEY,
  buyer VARCHAR(128) NOT NULL,
  `key` VARCHAR(128) NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS move (
  product_id VARCHAR(64) NOT NULL,
  epoch BIGINT NOT NULL,
  step VARCHAR(8) NOT NULL CHECK (step IN ('fence', 'settle', 'open')),
  from_tier VARCHAR(8) NOT NULL,
  to_tier VARCHAR(8) NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (product_id, epoch, step)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Small facts of this installation. `sales` is no fact but a lock: one sale's file is applied at a time.
CREATE TABLE IF NOT EXISTS meta (
  `key` VARCHAR(64) NOT NULL PRIMARY KEY,
  value VARCHAR(255) NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
INSERT IGNORE INTO meta (`key`, value) VALUES ('outbox_relayed', '0'), ('sales', '');

-- The last transaction that each writer committed: what a writer reads when a commit's answer was lost.
CREATE TABLE IF NOT EXISTS writer_mark (
  writer VARCHAR(16) NOT NULL PRIMARY KEY,
  last BIGINT NOT NULL,
  at BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
