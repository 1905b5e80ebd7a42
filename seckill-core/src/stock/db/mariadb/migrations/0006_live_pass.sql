-- Passes to the live updates, each good once and for seconds: whoever deletes the row has used it.
CREATE TABLE IF NOT EXISTS live_pass (
  digest VARCHAR(64) NOT NULL PRIMARY KEY,
  buyer VARCHAR(128) NOT NULL,
  until BIGINT NOT NULL,
  KEY live_pass_until (until)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
