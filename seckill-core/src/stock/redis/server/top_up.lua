-- Raises the units that a lease was ever lent to what SQL says, by max: a repeat, or an older word that comes late,
-- changes nothing. Answers 1, or 0 if the lease is not here: missing, closed, another one, or loaded into another
-- process than this one. It never makes a key.
--
-- KEYS[1]  the product's lease
-- ARGV[1]  server process, as the caller believes it
-- ARGV[2]  lease
-- ARGV[3]  units lent in all

local here = redis.call('HMGET', KEYS[1], 'run', 'lease', 'closed', 'granted', 'left')
if here[1] ~= ARGV[1] or here[2] ~= ARGV[2] or here[3] or not here[4] then return 0 end

local more = tonumber(ARGV[3]) - tonumber(here[4])
if more > 0 then
    -- One write: out of memory, Redis refuses it whole.
    redis.call('HSET', KEYS[1], 'granted', ARGV[3], 'left', string.format('%.0f', tonumber(here[5]) + more))
end
return 1
