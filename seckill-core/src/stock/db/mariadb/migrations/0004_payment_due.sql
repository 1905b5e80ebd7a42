-- Money that is owed back, the longest owed first: what the worker of refunds reads. (MySQL has no IF NOT EXISTS for a
-- key, and the statements may be run again.)
SET @seckill_key = (SELECT IF(COUNT(*) = 0, 'ALTER TABLE payment ADD KEY payment_due (state, at, payment_id)', 'DO 0')
  FROM information_schema.statistics
  WHERE table_schema = DATABASE() AND table_name = 'payment' AND index_name = 'payment_due');
PREPARE seckill_add_key FROM @seckill_key;
EXECUTE seckill_add_key;
DEALLOCATE PREPARE seckill_add_key;
