-- Bearer tokens: their shape, their time, and for HS256 their signature. It lets nobody in: the core verifies every
-- token again. Where the algorithm cannot be verified here, only what is surely no good token is refused.

local base64 = require("ngx.base64")
local cjson = require("cjson.safe")
local hmac = require("edge.hmac")

local decode = base64.decode_base64url
local match, find = string.match, string.find

local _M = {}

-- As the core: an honest token has some 300 bytes (a few KiB with many claims).
local LONGEST = 4096

-- The text behind `Bearer `.
local function bearer(header)
    if not header or #header > LONGEST + 7 then
        return nil
    end
    return match(header, "^[Bb][Ee][Aa][Rr][Ee][Rr] +([%w_.~+/=-]+) *$")
end

local function names(list, wanted)
    if type(list) == "string" then
        return list == wanted
    end
    if type(list) == "table" then
        for _, one in ipairs(list) do
            if one == wanted then
                return true
            end
        end
    end
    return false
end

-- Reads a token. Answers `{ subject, expires }`, or nil and why: "token" or "role".
-- `rules`: kind ("hs256" or "shape"), secret, issuer, audience, algorithms, roles, hash_key.
function _M.read(token, rules, now)
    local signed, signature = match(token, "^([%w_-]+%.[%w_-]+)%.([%w_-]+)$")
    if not signed then
        return nil, "token"
    end
    local dot = find(signed, ".", 1, true)
    local head = cjson.decode(decode(signed:sub(1, dot - 1)) or "")
    if type(head) ~= "table" or type(head.alg) ~= "string" then
        return nil, "token"
    end
    if rules.kind == "hs256" then
        -- Pinned: what a token says of itself never chooses how it is verified.
        if head.alg ~= "HS256" then
            return nil, "token"
        end
        local given = decode(signature)
        if not given or not hmac.same(given, hmac.sha256(rules.secret, signed)) then
            return nil, "token"
        end
    elseif not names(rules.algorithms, head.alg) then
        return nil, "token"
    end
    local claims = cjson.decode(decode(signed:sub(dot + 1)) or "")
    if type(claims) ~= "table" or type(claims.sub) ~= "string" or claims.sub == "" or type(claims.exp) ~= "number" then
        return nil, "token"
    end
    if claims.exp <= now
        or (rules.issuer and claims.iss ~= rules.issuer)
        or (rules.audience and not names(claims.aud, rules.audience))
    then
        return nil, "token"
    end
    if rules.roles then
        local may = false
        for _, role in ipairs(rules.roles) do
            may = may or names(claims.roles, role)
        end
        if not may then
            return nil, "role"
        end
    end
    return { subject = claims.sub, expires = claims.exp }
end

-- The same from a header, with a memory of tokens that were read before (`cache`: get, set). Refusals are not
-- remembered: nobody can fill the memory without good tokens.
function _M.of_header(header, rules, cache, now)
    local token = bearer(header)
    if not token then
        return nil, "token"
    end
    local known = cache:get(token)
    if known then
        if known.expires <= now then
            return nil, "token"
        end
        return known
    end
    local read, why = _M.read(token, rules, now)
    if not read then
        return nil, why
    end
    read.hash = hmac.short(rules.hash_key, read.subject)
    cache:set(token, read)
    return read
end

return _M
