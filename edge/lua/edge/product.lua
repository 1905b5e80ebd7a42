-- What the cores said of a product, and what follows for a purchase call now. Pure; it refuses or says nothing, and
-- never lets a call through.

local match = string.match

local _M = {}

-- Descriptions are texts that change seldom: each is taken apart once.
local MANY = 16384
local known, count = {}, 0

-- `door|sale|opens|closes|left` as a table.
function _M.parse(text)
    local product = known[text]
    if not product then
        local door, sale, opens, closes, left = match(text, "^(%a+)|([^|]+)|(-?[%d.]+)|(-?[%d.]+)|([%a_]+)$")
        if not door then
            return nil
        end
        product = { door = door, sale = sale, opens = tonumber(opens), closes = tonumber(closes), left = left }
        if count >= MANY then
            known, count = {}, 0
        end
        known[text], count = product, count + 1
    end
    return product
end

-- Why a purchase cannot be now, or nil; and after how many seconds it may be.
function _M.refusal(product, sale, now)
    if not product or product.sale ~= sale then
        return "unknown"
    end
    if product.door == "paused" then
        return "paused"
    end
    if product.door == "ended" or now >= product.closes then
        return "ended"
    end
    if now < product.opens then
        return "not_open", math.min(math.ceil(product.opens - now), 3600)
    end
    if product.left ~= "some" then
        return product.left
    end
end

return _M
