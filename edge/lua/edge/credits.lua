-- Admission credits of one edge, in a dictionary that all workers share. Every change is an atomic increment, so that
-- c = i - a + b holds whatever runs at once. It never lets a call through without
-- a credit, and it knows nothing of stock.
--
-- Keys, for each product P:  c:P balance · i:P issued less revoked · a:P admitted · b:P given back · s:P spent (answered 201 or 202) ·
-- f:N:P under way since the Nth ten seconds. Beside them: u, until when all of it counts.

local floor = math.floor

local _M = {}

-- Seconds that credits live without the core. The core gives an edge no share after the same time.
_M.LIFE = 1
-- Calls under way are counted by the ten seconds in which they began, for longer than any call takes: what a worker
-- that died had under way is not missing for ever.
local SPAN = 10
local SPANS = 4

local function under_way(product, span)
    return "f:" .. span .. ":" .. product
end

-- Takes one credit. Answers the span in which the call is counted, or nil: none is left.
function _M.take(dict, product, now)
    local balance = "c:" .. product
    -- Most who come find nothing, and write nothing.
    local left = dict:get(balance)
    if not left or left <= 0 then
        return nil
    end
    local span = floor(now / SPAN)
    -- Counted as under way before it is taken: whoever levels between the two gives too little, never too much.
    dict:incr(under_way(product, span), 1, 0, SPAN * SPANS)
    local after = dict:incr(balance, -1)
    if not after or after < 0 then
        -- Others were faster: as if nothing had been.
        if after then
            dict:incr(balance, 1)
        end
        dict:incr(under_way(product, span), -1)
        return nil
    end
    dict:incr("a:" .. product, 1, 0)
    return span
end

-- The call has ended: spent (the core has sold or queued), or its credit goes back.
function _M.finish(dict, product, span, spent)
    if spent then
        dict:incr("s:" .. product, 1, 0)
    else
        dict:incr("b:" .. product, 1, 0)
        dict:incr("c:" .. product, 1, 0)
    end
    dict:incr(under_way(product, span), -1)
end

-- Calls under way.
function _M.under_way(dict, product, now)
    local sum, span = 0, floor(now / SPAN)
    for i = 0, SPANS - 1 do
        sum = sum + (dict:get(under_way(product, span - i)) or 0)
    end
    return sum > 0 and sum or 0
end

-- Calls spent so far: read before the core is asked, so that what it may not have counted yet is known.
function _M.spent(dict, product)
    return dict:get("s:" .. product) or 0
end

-- What the balance should be: `granted` calls, less those under way, less those spent since the core was asked.
function _M.target(granted, going, spent_since)
    local target = granted - going - spent_since
    return target > 0 and target or 0
end

-- Brings the balance to what the core has granted. `spent_before` was read before the core was asked. Answers by how
-- much it changed and how many calls are under way.
function _M.level(dict, product, granted, spent_before, now)
    local going = _M.under_way(dict, product, now)
    local target = _M.target(granted, going, _M.spent(dict, product) - spent_before)
    local balance = dict:get("c:" .. product) or 0
    local change = target - balance
    if change ~= 0 then
        -- By a difference, not set: what is taken or given back meanwhile stays counted.
        dict:incr("c:" .. product, change, 0)
        dict:incr("i:" .. product, change, 0)
    end
    return change, going
end

-- One product's books.
function _M.books(dict, product, now)
    local function of(key)
        return dict:get(key .. product) or 0
    end
    return {
        balance = of("c:"), issued = of("i:"), admitted = of("a:"), returned = of("b:"), spent = of("s:"),
        under_way = _M.under_way(dict, product, now),
    }
end

-- Until when everything here counts; 0 when nothing does.
function _M.lives_until(dict)
    return dict:get("u") or 0
end

function _M.live_until(dict, at)
    dict:set("u", at)
end

return _M
