-- One GET to a core's private listener over a cosocket: keep-alive, bounded in time and size. It follows nothing, sends
-- no body, and is no HTTP client for anything else.

local _M = {}

-- Ten thousand products have some 2 MiB; more is no answer of a core.
local LARGEST = 64 * 1024 * 1024
local MOST_HEADERS = 64

local function read_chunks(socket)
    local parts, size = {}, 0
    while true do
        local line, why = socket:receive("*l")
        local length = line and tonumber(line:match("^%x+"), 16)
        if not length then
            return nil, why or "a chunk without a length"
        end
        if length == 0 then
            socket:receive("*l")
            return table.concat(parts)
        end
        size = size + length
        if size > LARGEST then
            return nil, "too large"
        end
        local data, failed = socket:receive(length)
        if not data then
            return nil, failed
        end
        parts[#parts + 1] = data
        socket:receive("*l")
    end
end

local function exchange(socket, at, path, token)
    local sent, why = socket:send({
        "GET ", path, " HTTP/1.1\r\nHost: ", at.host, ":", at.port, "\r\nAuthorization: Bearer ", token,
        "\r\nAccept: application/json\r\n\r\n",
    })
    if not sent then
        return nil, why
    end
    local line, failed = socket:receive("*l")
    local status = line and tonumber(line:match("^HTTP/1%.1 (%d%d%d)"))
    if not status then
        return nil, failed or "no HTTP"
    end
    local length, chunked, close = nil, false, false
    for i = 1, MOST_HEADERS + 1 do
        local header, broken = socket:receive("*l")
        if not header then
            return nil, broken
        end
        if header == "" then
            break
        end
        if i > MOST_HEADERS then
            return nil, "too many headers"
        end
        local name, value = header:match("^([%w-]+):%s*(.-)%s*$")
        name = name and name:lower()
        if name == "content-length" then
            length = tonumber(value)
        elseif name == "transfer-encoding" then
            chunked = value:lower() == "chunked"
        elseif name == "connection" then
            close = value:lower() == "close"
        end
    end
    local body, cut
    if chunked then
        body, cut = read_chunks(socket)
    elseif length and length <= LARGEST then
        body, cut = "", nil
        if length > 0 then
            body, cut = socket:receive(length)
        end
    else
        return nil, "no length"
    end
    if not body then
        return nil, cut
    end
    return { status = status, body = body, close = close }
end

-- Asks `at` (host, port) for `path`. Answers `{ status, body }`, or nil and why not.
function _M.get(at, path, token, milliseconds)
    local socket = ngx.socket.tcp()
    socket:settimeouts(milliseconds, milliseconds, milliseconds)
    local connected, why = socket:connect(at.host, at.port)
    if not connected then
        return nil, why
    end
    local answer, failed = exchange(socket, at, path, token)
    if not answer then
        socket:close()
        return nil, failed
    end
    if answer.close then
        socket:close()
    else
        -- Longer than the pause between two questions.
        socket:setkeepalive(10000, 4)
    end
    return answer
end

return _M
