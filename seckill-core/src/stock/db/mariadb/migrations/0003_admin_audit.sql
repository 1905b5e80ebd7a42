-- What administration did, to what, by whom: a line per act, written with it. Never changed, never deleted.
-- `seq` comes from `meta.admin_audit`, locked until the commit: lines become visible in the order of their numbers.
CREATE TABLE IF NOT EXISTS admin_audit (
  seq BIGINT NOT NULL PRIMARY KEY,
  at BIGINT NOT NULL,
  subject VARCHAR(128) NOT NULL,
  roles VARCHAR(128) NOT NULL,
  action VARCHAR(32) NOT NULL,
  sale VARCHAR(64),
  product_id VARCHAR(64),
  request_id VARCHAR(64),
  outcome VARCHAR(16) NOT NULL CHECK (outcome IN ('done', 'unchanged', 'refused')),
  detail MEDIUMTEXT NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
INSERT IGNORE INTO meta (`key`, value) VALUES ('admin_audit', '0');
