-- Loads a lease in place of an older one. Answers 1, or 0 if the epoch here is the same or newer.
--
-- KEYS[1]  the product's lease
-- ARGV     owner, server process, lease, epoch (20 digits, so that it compares as text), units lent,
--          limit per buyer, window's begin and end in ms, ms until the key expires

local here = redis.call('HGET', KEYS[1], 'epoch')
if here and here >= ARGV[4] then return 0 end

-- Only if there is one: without a write before it, the HSET is refused whole when Redis is out of memory.
if here then redis.call('UNLINK', KEYS[1]) end
redis.call('HSET', KEYS[1],
    'owner', ARGV[1], 'run', ARGV[2], 'lease', ARGV[3], 'epoch', ARGV[4],
    'granted', ARGV[5], 'left', ARGV[5], 'next', '0', 'limit', ARGV[6], 'opens', ARGV[7], 'closes', ARGV[8])
redis.call('PEXPIRE', KEYS[1], ARGV[9])
return 1
