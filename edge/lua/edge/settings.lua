-- Reads and checks site/settings.lua: what is wrong there stops the start and says where. Secrets come from files.

local _M = {}

local function fail(field, why)
    error("site/settings.lua: " .. field .. ": " .. why, 0)
end

local function number(field, value, default, least, most)
    value = value == nil and default or value
    if type(value) ~= "number" or value < least or value > most then
        fail(field, "a number from " .. least .. " to " .. most .. " is wanted")
    end
    return value
end

-- A secret's file, without the line end; relative to the prefix.
local function secret(field, name, read)
    if type(name) ~= "string" then
        fail(field, "the name of a file is wanted")
    end
    local text = read(name)
    if not text then
        fail(field, "cannot read " .. name)
    end
    text = text:match("^%s*(.-)%s*$")
    if #text < 16 then
        fail(field, name .. " holds " .. #text .. " bytes; at least 16 are needed")
    end
    return text
end

local function tokens(given, read)
    if type(given) ~= "table" then
        fail("tokens", "a table is wanted")
    end
    local rules = { kind = given.kind, issuer = given.issuer, audience = given.audience, roles = given.roles }
    if given.kind == "hs256" then
        rules.secret = secret("tokens.secret_file", given.secret_file, read)
    elseif given.kind == "shape" then
        if type(given.algorithms) ~= "table" or #given.algorithms == 0 then
            fail("tokens.algorithms", "the algorithms that the core takes are wanted")
        end
        rules.algorithms = given.algorithms
    else
        fail("tokens.kind", 'one of "hs256" (verified here) and "shape" (verified by the core only) is wanted')
    end
    return rules
end

local KNOWN = {
    edge = true, cores = true, token_file = true, hash_key_file = true, tokens = true, client_calls = true,
    buyer_calls = true, refuse_bots = true,
}

-- Checks a settings table; `read` answers a file's text.
function _M.check(given, read)
    if type(given) ~= "table" then
        fail("the file", "it must return a table")
    end
    for name in pairs(given) do
        if not KNOWN[name] then
            fail(tostring(name), "there is no such setting")
        end
    end
    if type(given.edge) ~= "string" or #given.edge > 64 or not given.edge:find("^[%w._~-]+$") then
        fail("edge", "a name of this edge is wanted: letters, digits and . _ ~ -")
    end
    if type(given.cores) ~= "table" or #given.cores == 0 or #given.cores > 100 then
        fail("cores", "1 to 100 private listeners of cores are wanted")
    end
    local cores = {}
    for i, at in ipairs(given.cores) do
        local host, port = tostring(at):match("^(.+):(%d+)$")
        if not host then
            fail("cores[" .. i .. "]", "host:port is wanted")
        end
        cores[i] = { host = host, port = tonumber(port) }
    end
    local rules = tokens(given.tokens, read)
    rules.hash_key = secret("hash_key_file", given.hash_key_file, read)
    return {
        edge = given.edge,
        cores = cores,
        token = secret("token_file", given.token_file, read),
        tokens = rules,
        hash_key = rules.hash_key,
        -- A carrier's gateway hides thousands of people: this bounds machines, not crowds.
        client_calls = number("client_calls", given.client_calls, 500, 1, 1e6),
        -- Nobody clicks five times a second.
        buyer_calls = number("buyer_calls", given.buyer_calls, 5, 1, 1e6),
        refuse_bots = given.refuse_bots ~= false,
    }
end

function _M.load(path)
    local chunk, why = loadfile(path)
    if not chunk then
        error("cannot read " .. path .. ": " .. tostring(why), 0)
    end
    local function read(name)
        local file = io.open(name:sub(1, 1) == "/" and name or ngx.config.prefix() .. name, "r")
        if not file then
            return nil
        end
        local text = file:read("*a")
        file:close()
        return text
    end
    return _M.check(chunk(), read)
end

return _M
