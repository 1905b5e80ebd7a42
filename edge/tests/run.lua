-- Runs every test of edge/tests inside Nginx's own LuaJIT, on its real shared dictionaries, and prints what was tried.
-- The Rust test `crates/servers/tests/edge_lua.rs` starts it; it must never say that all is well when nothing ran.

local FILES = { "request", "bots", "rate", "token", "product", "credits", "ledger", "known", "settings", "metrics" }

local function show(value)
    return type(value) == "string" and string.format("%q", value) or require("cjson.safe").encode(value) or tostring(value)
end

-- What tests say with.
local check = {}

function check.same(got, wanted, what)
    if type(got) == "table" and type(wanted) == "table" then
        for key, value in pairs(wanted) do
            check.same(got[key], value, (what or "it") .. "." .. tostring(key))
        end
        for key in pairs(got) do
            if wanted[key] == nil then
                error((what or "it") .. " has " .. tostring(key) .. " = " .. show(got[key]) .. " too", 2)
            end
        end
    elseif got ~= wanted then
        error((what or "it") .. " is " .. show(got) .. " and should be " .. show(wanted), 2)
    end
end

function check.fails(part, why)
    local ran, failed = pcall(part)
    if ran then
        error("it should have failed with " .. why, 2)
    end
    if not tostring(failed):find(why, 1, true) then
        error("it failed with " .. tostring(failed) .. " and not with " .. why, 2)
    end
end

local seed = tonumber(ngx.var.arg_seed) or 1
ngx.say("seed ", seed)
local passed, failed = 0, 0
for _, file in ipairs(FILES) do
    local tests = dofile(ngx.config.prefix() .. "tests/" .. file .. "_test.lua")
    for _, test in ipairs(tests) do
        local name, body = test[1], test[2]
        ngx.shared.edge_credits:flush_all()
        ngx.shared.edge_known:flush_all()
        ngx.shared.edge_rates:flush_all()
        ngx.shared.edge_metrics:flush_all()
        math.randomseed(seed)
        local ok, why = xpcall(body, debug.traceback, check)
        if ok then
            passed = passed + 1
            ngx.say("ok   ", file, ": ", name)
        else
            failed = failed + 1
            ngx.say("FAIL ", file, ": ", name, "\n     ", why)
        end
    end
end
ngx.say(passed, " passed, ", failed, " failed")
