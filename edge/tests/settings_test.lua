-- Settings: what is wrong is named, secrets come from files, defaults are filled in.

local settings = require("edge.settings")

local function given(change)
    local good = {
        edge = "edge-1", cores = { "127.0.0.1:8081" }, token_file = "edge", hash_key_file = "visitor",
        tokens = { kind = "hs256", secret_file = "issuer" },
    }
    for name, value in pairs(change or {}) do
        good[name] = value ~= "none" and value or nil
    end
    return good
end

local function read(name)
    if name == "short" then
        return "abc\n"
    end
    return name ~= "missing" and (name .. "-0123456789abcdef\n") or nil
end

return {
    { "good ones are taken and filled up", function(check)
        local one = settings.check(given(), read)
        check.same({ one.edge, one.token, one.buyer_calls, one.client_calls, one.refuse_bots },
            { "edge-1", "edge-0123456789abcdef", 5, 500, true })
        check.same(one.cores, { { host = "127.0.0.1", port = 8081 } })
        check.same(one.tokens.secret, "issuer-0123456789abcdef")
    end },
    { "wrong ones are named", function(check)
        local cases = {
            { { colour = "red" }, "colour" }, { { edge = "a b" }, "edge" }, { { edge = "none" }, "edge" },
            { { cores = {} }, "cores" }, { { cores = { "host" } }, "cores[1]" }, { { token_file = "missing" }, "token_file" },
            { { token_file = "short" }, "at least 16" }, { { tokens = { kind = "none" } }, "tokens.kind" },
            { { tokens = { kind = "shape" } }, "tokens.algorithms" }, { { buyer_calls = 0 }, "buyer_calls" },
            { { client_calls = "many" }, "client_calls" }, { { hash_key_file = "none" }, "hash_key_file" },
        }
        for _, case in ipairs(cases) do
            check.fails(function() settings.check(given(case[1]), read) end, case[2])
        end
        check.fails(function() settings.check(nil, read) end, "must return a table")
    end },
}
