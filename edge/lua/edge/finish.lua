-- The end of every request, however it ended: answered, timed out, left by its client. It gives credits back and counts;
-- it can change no answer any more.

local credits = require("edge.credits")
local known = require("edge.known")
local metrics = require("edge.metrics")

local _M = {}

-- Seconds for which a core's word to one shopper is told to others: less than the second that is promised, since the
-- core read its stock a moment before.
local HINT = 0.9
-- After a core failed at once: credits that come back at once would make a storm of it.
local BREATH = 0.1

local SPENT = { [201] = true, [202] = true }
-- Nobody knows what became of the attempt.
local IN_DOUBT = { [408] = true, [499] = true, [500] = true, [502] = true, [503] = true, [504] = true }

function _M.request()
    local var, status = ngx.var, ngx.status
    metrics.count("requests", status)
    local took = var.edge_took
    if not took or took == "" then
        return
    end
    local dict = ngx.shared.edge_credits
    local span, product, name = took:match("^(%d+)|([^|]+)|(.*)$")
    local spent = SPENT[status] or false
    local nothing_left = var.upstream_http_x_nothing_left
    if nothing_left == "sold_out" or nothing_left == "all_reserved" then
        dict:set("h:" .. product, nothing_left, HINT)
    elseif status == 502 or status == 503 or status == 504 then
        local time = tonumber(var.upstream_response_time)
        if not time or time < BREATH then
            dict:set("h:" .. product, "breather", BREATH)
        end
    end
    -- Hints first: the credit that goes back must not send the next one into the same refusal.
    credits.finish(dict, product, tonumber(span), spent)
    metrics.count("credits", spent and "spent" or "returned")
    if spent then
        known.answered(ngx.shared.edge_known, name)
    elseif not IN_DOUBT[status] then
        known.forget(ngx.shared.edge_known, name)
    end
end

return _M
