-- Grants units of a lease to one attempt, atomically, once per (lease, buyer, key).
--
-- KEYS[1]  the product's lease: one hash, which holds all of it
-- ARGV[1]  owner: "server process:lease:epoch" as the caller believes them
-- ARGV[2]  field of the grant: "g" and 16 bytes of a hash over buyer and key
-- ARGV[3]  field of the buyer: "h" and 16 bytes of a hash over the buyer
-- ARGV[4]  first 16 bytes of the body's hash
-- ARGV[5]  units asked for
-- ARGV[6]  the caller's clock, ms
--
-- Answers {status, seq, quantity, left}; the status is separate from the count, as "0 left" is not "sold out".
-- Statuses: 0 granted, 1 other body, 2 short, 3 limit, 4 closed, 5 not owner, 6 outside the window.
--
-- All reads are one HMGET and all writes are one HSET: out of memory, Redis refuses the HSET whole, and nothing
-- was granted. Numbers stay below 2^53, which is as far as Lua counts exactly; '%.0f' writes them in full.

local GRANTED, OTHER_BODY, SHORT, LIMIT, CLOSED, NOT_OWNER, OUTSIDE = 0, 1, 2, 3, 4, 5, 6

local lease = redis.call('HMGET', KEYS[1],
    'owner', 'closed', 'left', 'next', 'limit', 'opens', 'closes', ARGV[2], ARGV[3])

-- Missing, of another lease or epoch, or loaded into another process than this one, whose data this is a copy of.
if lease[1] ~= ARGV[1] then return { NOT_OWNER } end
if lease[2] then return { CLOSED } end

local left = tonumber(lease[3])

-- A repeat is answered before window, limit and units: its grant was made when all three allowed it.
local grant = lease[8]
if grant then
    if string.sub(grant, 1, 16) ~= ARGV[4] then return { OTHER_BODY } end
    local seq, quantity = string.match(string.sub(grant, 17), '^(%d+) (%d+)$')
    return { GRANTED, tonumber(seq), tonumber(quantity), left }
end

local now = tonumber(ARGV[6])
if now < tonumber(lease[6]) or now >= tonumber(lease[7]) then return { OUTSIDE } end

local quantity = tonumber(ARGV[5])
local held = tonumber(lease[9] or '0')
if held + quantity > tonumber(lease[5]) then return { LIMIT } end

-- A grant of nothing would make the hash unbounded.
if quantity == 0 or quantity > left then return { SHORT, 0, 0, left } end

local seq = tonumber(lease[4])
left = left - quantity
redis.call('HSET', KEYS[1],
    'left', string.format('%.0f', left),
    'next', string.format('%.0f', seq + 1),
    ARGV[3], string.format('%.0f', held + quantity),
    ARGV[2], ARGV[4] .. string.format('%.0f %.0f', seq, quantity))
return { GRANTED, seq, quantity, left }
