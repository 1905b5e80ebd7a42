-- Every change of a product's total, in order: the total at every instant. `after_event` is the last id of the
-- outbox at that moment, so that changes and order events of a product have one order.
-- `cause`: a sale's file, an adjustment, or (once per product) what an older version had brought without a history.
CREATE TABLE IF NOT EXISTS stock_change (
  seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  product_id VARCHAR(64) NOT NULL,
  cause VARCHAR(16) NOT NULL CHECK (cause IN ('sale', 'adjustment', 'older')),
  delta BIGINT NOT NULL,
  total BIGINT NOT NULL CHECK (total >= 0),
  after_event BIGINT NOT NULL CHECK (after_event >= 0),
  at BIGINT NOT NULL,
  adjustment_id VARCHAR(128),
  reason VARCHAR(500),
  made_by VARCHAR(128),
  CHECK ((cause = 'adjustment') = (adjustment_id IS NOT NULL)),
  CHECK ((adjustment_id IS NULL) = (reason IS NULL) AND (adjustment_id IS NULL) = (made_by IS NULL)),
  CHECK (adjustment_id IS NULL OR delta <> 0),
  UNIQUE KEY stock_change_adjustment (adjustment_id),
  KEY stock_change_product (product_id, seq)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
INSERT INTO stock_change (product_id, cause, delta, total, after_event, at)
  SELECT k.product_id, 'older', k.total, k.total, (SELECT last FROM outbox_head WHERE one = 1),
    CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)
  FROM stock k WHERE NOT EXISTS (SELECT 1 FROM stock_change c WHERE c.product_id = k.product_id);
