-- Subscriptions of the shop's own systems to order events. Every event up to `cursor_at` was delivered, is parked or
-- dead; `holder` is the core that delivers, until `held_until`; `generation` rises when something else is to be sent.
CREATE TABLE IF NOT EXISTS webhook (
  name VARCHAR(32) NOT NULL PRIMARY KEY,
  url VARCHAR(2048) NOT NULL,
  kinds VARCHAR(255) NOT NULL,
  secret VARCHAR(64) NOT NULL,
  generation BIGINT NOT NULL,
  cursor_at BIGINT NOT NULL CHECK (cursor_at >= 0),
  holder VARCHAR(128),
  held_until BIGINT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Events that wait for another try, and those of the same orders behind them.
CREATE TABLE IF NOT EXISTS webhook_parked (
  name VARCHAR(32) NOT NULL,
  sequence BIGINT NOT NULL,
  order_id VARCHAR(32) NOT NULL,
  attempts BIGINT NOT NULL,
  since BIGINT NOT NULL,
  due BIGINT NOT NULL,
  reason VARCHAR(255) NOT NULL,
  PRIMARY KEY (name, sequence)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Events that were given up, until somebody replays them.
CREATE TABLE IF NOT EXISTS webhook_dead (
  name VARCHAR(32) NOT NULL,
  sequence BIGINT NOT NULL,
  order_id VARCHAR(32) NOT NULL,
  attempts BIGINT NOT NULL,
  at BIGINT NOT NULL,
  reason VARCHAR(255) NOT NULL,
  PRIMARY KEY (name, sequence)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
