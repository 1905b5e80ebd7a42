-- The shape of a purchase call, before anything costs anything. Pure: it looks at what it is given and nowhere else.

local find, byte = string.find, string.byte

local _M = {}

-- As long as the core takes them; longer ones would only fill memory.
local LONGEST_KEY = 128
local LONGEST_NAME = 64

-- Whether a text is one of the shop's names: letters, digits and . _ ~ -
function _M.is_name(text)
    return text ~= nil and #text <= LONGEST_NAME and find(text, "^[%w._~-]+$") ~= nil
end

-- What is wrong with a purchase call: the reason's name, or nil.
-- `call`: method, path (as the client wrote it), uri (as it is routed), key, content_type, content_length, encoding.
function _M.wrong(call)
    if call.method ~= "POST" then
        return "method"
    end
    -- Routed by one path and sent on by another, a credit of one product would let through a call for another.
    local path, uri = call.path, call.uri
    if path ~= uri and not (byte(path, #uri + 1) == 63 and path:sub(1, #uri) == uri) then
        return "path"
    end
    if not _M.is_name(call.sale) or not _M.is_name(call.product) then
        return "unknown"
    end
    local key = call.key
    if not key or #key == 0 or #key > LONGEST_KEY or find(key, "[^!-~]") then
        return "key"
    end
    local content_type = call.content_type
    if not content_type or not find(content_type, "^[aA]pplication/[jJ]son") then
        return "media_type"
    end
    if not call.content_length and not call.encoding then
        return "length"
    end
end

return _M
