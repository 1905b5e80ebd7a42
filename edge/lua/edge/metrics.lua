-- Counters of the edge for Prometheus. A worker counts in its own memory and adds to the shared dictionary four times a
-- second, so that counting costs a request nothing. Labels come from closed sets; no product and no buyer is ever one.

local _M = {}

-- Seconds between two additions.
local EVERY = 0.25

local HELP = {
    requests = { "seckill_edge_requests_total", "status", "Requests answered, by status" },
    refused = { "seckill_edge_refusals_total", "reason", "Purchase calls that the edge itself refused, by reason" },
    credits = { "seckill_edge_credits_total", "event",
        "Admission credits: issued, revoked, admitted, returned, spent; passed are repeats that need none" },
    polls = { "seckill_edge_polls_total", "answer", "Questions to cores for credits, by whether they were answered" },
    claims = { "seckill_edge_ignored_claims_total", "header",
        "Requests whose claim about their address was not believed, by header" },
}
local ORDER = { "requests", "refused", "credits", "polls", "claims" }

local counts = {}

-- One more (or n more).
function _M.count(name, label, n)
    local of = counts[name]
    if not of then
        of = {}
        counts[name] = of
    end
    of[label] = (of[label] or 0) + (n or 1)
end

-- Adds what this worker has counted to what all have.
function _M.flush(dict)
    for name, of in pairs(counts) do
        for label, n in pairs(of) do
            if n ~= 0 then
                dict:incr(name .. "|" .. label, n, 0)
                of[label] = 0
            end
        end
    end
end

function _M.start()
    local dict = ngx.shared.edge_metrics
    -- At a worker's end it is called once more (`premature`): nothing is lost by a reload.
    assert(ngx.timer.every(EVERY, function() _M.flush(dict) end))
end

-- The page, from a dictionary and further lines.
function _M.text(dict, gauges)
    local found = {}
    for _, key in ipairs(dict:get_keys(0)) do
        local name, label = key:match("^([^|]+)|(.+)$")
        if name then
            found[name] = found[name] or {}
            table.insert(found[name], label)
        end
    end
    local lines = {}
    for _, name in ipairs(ORDER) do
        local metric, label_name, help = unpack(HELP[name])
        lines[#lines + 1] = "# HELP " .. metric .. " " .. help
        lines[#lines + 1] = "# TYPE " .. metric .. " counter"
        local labels = found[name] or {}
        table.sort(labels)
        for _, label in ipairs(labels) do
            lines[#lines + 1] = string.format('%s{%s="%s"} %d', metric, label_name, label,
                dict:get(name .. "|" .. label) or 0)
        end
    end
    for _, gauge in ipairs(gauges) do
        local name, help, value = unpack(gauge)
        lines[#lines + 1] = "# HELP " .. name .. " " .. help
        lines[#lines + 1] = "# TYPE " .. name .. " gauge"
        lines[#lines + 1] = string.format("%s %.3f", name, value)
    end
    return table.concat(lines, "\n") .. "\n"
end

function _M.page()
    local dict = ngx.shared.edge_metrics
    _M.flush(dict)
    local var, gauges = ngx.var, {}
    local life = require("edge.credits").lives_until(ngx.shared.edge_credits) - ngx.now()
    gauges[1] = { "seckill_edge_credits_life_seconds", "How long the credits live if no core answers any more",
        life > 0 and life or 0 }
    for _, state in ipairs { "active", "reading", "writing", "waiting" } do
        gauges[#gauges + 1] = { "seckill_edge_connections_" .. state, "Connections that are " .. state,
            tonumber(var["connections_" .. state]) or 0 }
    end
    for _, name in ipairs { "edge_credits", "edge_rates", "edge_known", "edge_metrics" } do
        gauges[#gauges + 1] = { "seckill_" .. name .. "_free_bytes", "Free pages of the shared dictionary " .. name,
            ngx.shared[name]:free_space() }
    end
    ngx.header["Content-Type"] = "text/plain; version=0.0.4"
    ngx.print(_M.text(dict, gauges))
end

return _M
