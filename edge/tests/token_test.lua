-- Tokens: good ones say who calls, forged, old, foreign and misshapen ones do not.

local base64 = require("ngx.base64")
local cjson = require("cjson")
local hmac = require("edge.hmac")
local token = require("edge.token")

local RULES = {
    kind = "hs256", secret = ("s"):rep(32), issuer = "shop", audience = "shop", roles = { "shopper", "admin" },
    hash_key = ("h"):rep(32),
}

local function sign(claims, head, secret)
    local text = base64.encode_base64url(cjson.encode(head or { alg = "HS256" })) .. "."
        .. base64.encode_base64url(cjson.encode(claims))
    return text .. "." .. base64.encode_base64url(hmac.sha256(secret or RULES.secret, text))
end

local function claims(change)
    local good = { iss = "shop", aud = "shop", sub = "ann", roles = { "shopper" }, exp = 2000 }
    for name, value in pairs(change or {}) do
        good[name] = value
    end
    return good
end

local function memory()
    local kept = {}
    return { get = function(_, key) return kept[key] end, set = function(_, key, value) kept[key] = value end, kept = kept }
end

return {
    { "HMAC-SHA256 is the standard's (RFC 4231, case 2)", function(check)
        check.same(hmac.short("Jefe", "what do ya want for nothing?"), "5bdcc146bf60754e")
        check.same(hmac.same("abc", "abc"), true)
        check.same(hmac.same("abc", "abd"), false)
        check.same(hmac.same("abc", "ab"), false)
    end },
    { "a good token says who calls until it ends", function(check)
        local memory = memory()
        local header = "Bearer " .. sign(claims())
        local read = token.of_header(header, RULES, memory, 1000)
        check.same({ read.subject, read.expires, #read.hash }, { "ann", 2000, 16 })
        check.same(token.of_header(header, RULES, memory, 1999), read, "remembered")
        local _, why = token.of_header(header, RULES, memory, 2000)
        check.same(why, "token", "ended, though remembered")
        check.same(token.of_header("bearer  " .. sign(claims { roles = { "admin" } }), RULES, memory, 1).subject, "ann")
        check.same(token.of_header("Bearer " .. sign(claims { aud = { "x", "shop" } }), RULES, memory, 1).subject, "ann")
    end },
    { "everything else is refused and not remembered", function(check)
        local memory = memory()
        local good = sign(claims())
        local cases = {
            sign(claims { exp = 999 }), sign(claims { iss = "other" }), sign(claims { aud = "other" }),
            sign(claims { sub = "" }), sign(claims { exp = "2000" }), sign(claims(), nil, ("x"):rep(32)),
            sign(claims(), { alg = "none" }), sign(claims(), { alg = "HS512" }), sign(claims(), { typ = "JWT" }),
            good:sub(1, -3), good .. "x", good:gsub("%.[^.]+$", "."), "a.b.c", "..", "", ("x"):rep(5000),
            -- {"alg":"none"} with admin claims and no signature.
            "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4iLCJyb2xlcyI6WyJhZG1pbiJdLCJleHAiOjk5OTk5OTk5OTl9.",
        }
        for i, case in ipairs(cases) do
            local read, why = token.of_header("Bearer " .. case, RULES, memory, 1000)
            check.same({ read == nil, why }, { true, "token" }, "case " .. i)
        end
        for _, header in ipairs { "Basic " .. good, good, "Bearer" } do
            check.same(token.of_header(header, RULES, memory, 1000), nil, header)
        end
        check.same(token.of_header(nil, RULES, memory, 1000), nil, "no header")
        local _, why = token.of_header("Bearer " .. sign(claims { roles = { "viewer" } }), RULES, memory, 1000)
        check.same(why, "role")
        check.same(next(memory.kept), nil, "the memory")
    end },
    { "where the signature cannot be verified, shape, time and issuer are", function(check)
        local rules = { kind = "shape", algorithms = { "RS256" }, issuer = "shop", hash_key = ("h"):rep(32) }
        local memory = memory()
        local rs = { alg = "RS256", kid = "1" }
        check.same(token.of_header("Bearer " .. sign(claims(), rs), rules, memory, 1000).subject, "ann")
        for i, case in ipairs { sign(claims()), sign(claims { exp = 1 }, rs), sign(claims { iss = "x" }, rs) } do
            check.same(token.of_header("Bearer " .. case, rules, memory, 1000), nil, "case " .. i)
        end
    end },
}
