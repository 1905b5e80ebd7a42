-- Imports of stock that took effect: the same id is done once. Each row of it is an adjustment in `stock_change`.
CREATE TABLE IF NOT EXISTS stock_import (
  import_id VARCHAR(64) NOT NULL PRIMARY KEY,
  sale VARCHAR(64) NOT NULL,
  file_hash VARCHAR(64) NOT NULL,
  file_rows BIGINT NOT NULL CHECK (file_rows > 0),
  added BIGINT NOT NULL CHECK (added >= 0),
  removed BIGINT NOT NULL CHECK (removed >= 0),
  at BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
