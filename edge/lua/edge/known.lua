-- Attempts that were let through and may have been decided: whoever repeats one with its key gets the core's answer,
-- whatever the edge would say to others. Bounded in number, in time and in repeats.

local _M = {}

-- Seconds that an attempt is remembered: clients that lost their answer come back within seconds.
local KEPT = 60
-- Repeats of one attempt that pass without a credit while nobody knows what became of it, and after it was answered: that
-- answer may have been lost on its way. With two credits for a unit, one makes three calls at most.
local REPEATS = 5
local AFTER_ANSWER = 1

function _M.name(product, buyer, key)
    return product .. " " .. buyer .. " " .. key
end

-- An attempt goes to the core.
function _M.begin(dict, product, buyer, key)
    dict:set(_M.name(product, buyer, key), REPEATS, KEPT)
end

-- It was sold or queued, and the client has been told.
function _M.answered(dict, name)
    dict:set(name, AFTER_ANSWER, KEPT)
end

-- It was refused for good reason and nothing was bound: the next one needs a credit again.
function _M.forget(dict, name)
    dict:delete(name)
end

-- Whether this is a repeat that may pass.
function _M.again(dict, product, buyer, key)
    local name = _M.name(product, buyer, key)
    if not dict:get(name) then
        return false
    end
    local left = dict:incr(name, -1)
    return left ~= nil and left >= 0
end

return _M
