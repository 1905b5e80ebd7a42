-- Who a visitor is, for the log: a keyed hash of the first-party cookie `visitor`, if there is one; else nothing, and the
-- collector goes by address and user agent. Also counts claims about addresses that are not believed.

local hmac = require("edge.hmac")
local metrics = require("edge.metrics")

local _M = {}

-- Hashes of cookies seen lately: a visitor makes many requests.
local cache = require("resty.lrucache").new(10000)

function _M.note(var, key)
    local cookie = var.cookie_visitor
    if cookie and #cookie <= 128 then
        local hash = cache:get(cookie)
        if not hash then
            hash = hmac.short(key, cookie)
            cache:set(cookie, hash)
        end
        var.edge_visitor = hash
    end
    -- From a trusted proxy the address was taken from it (`real_ip`); from anybody else it is only a claim.
    if var.http_x_forwarded_for and var.remote_addr == var.realip_remote_addr then
        metrics.count("claims", "x-forwarded-for")
    end
end

return _M
