-- Calls of one client or buyer in one second, counted in a dictionary that all workers share. One atomic increment a
-- call; it never blocks anybody for longer than the second that he filled.

local floor = math.floor

local _M = {}

-- A count is kept until its second is surely over.
local KEPT = 2

-- Whether one more call of `who` is within `limit` a second. A full dictionary forgets the oldest; if even that fails the
-- call passes, since what is behind has bounds of its own.
function _M.within(dict, who, limit, now)
    local calls = dict:incr(who .. floor(now), 1, 0, KEPT)
    return not calls or calls <= limit
end

-- Whom an address stands for: with IPv6 one subscriber has a whole /64.
function _M.client(binary)
    return #binary == 16 and binary:sub(1, 8) or binary
end

return _M
