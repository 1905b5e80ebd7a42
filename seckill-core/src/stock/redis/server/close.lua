-- Closes a lease and frees its grants. Answers 1, or 0 if it is not here. The shell stays for a while, so that an
-- older epoch is still refused; closing again is closing.
--
-- KEYS[1]  the product's lease
-- ARGV[1]  lease
-- ARGV[2]  ms until the shell expires

local here = redis.call('HMGET', KEYS[1], 'lease', 'epoch', 'owner', 'run')
if here[1] ~= ARGV[1] then return 0 end

-- Also when Redis is out of memory: after the first write a script may go on writing.
redis.call('UNLINK', KEYS[1])
redis.call('HSET', KEYS[1], 'lease', here[1], 'epoch', here[2], 'owner', here[3], 'run', here[4], 'closed', '1')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
