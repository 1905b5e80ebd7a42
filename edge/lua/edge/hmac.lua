-- HMAC-SHA256 by the libcrypto that Nginx itself is linked with. It keeps no key.

local ffi = require("ffi")

ffi.cdef [[
typedef struct evp_md_st EVP_MD;
const EVP_MD *EVP_sha256(void);
unsigned char *HMAC(const EVP_MD *evp_md, const void *key, int key_len, const unsigned char *d, size_t n,
                    unsigned char *md, unsigned int *md_len);
]]

-- Nginx with TLS brings the symbols; one without takes the library.
local loaded, symbol = pcall(function() return ffi.C.HMAC end)
local crypto = loaded and symbol and ffi.C or ffi.load("crypto")

local digest = ffi.new("unsigned char[64]")
local length = ffi.new("unsigned int[1]")

local _M = {}

-- The 32 bytes of the MAC.
function _M.sha256(key, text)
    if crypto.HMAC(crypto.EVP_sha256(), key, #key, text, #text, digest, length) == nil then
        error("HMAC-SHA256 failed")
    end
    return ffi.string(digest, length[0])
end

-- Whether two texts are the same, in a time that does not tell where they differ.
function _M.same(a, b)
    if #a ~= #b then
        return false
    end
    local differ = 0
    for i = 1, #a do
        differ = bit.bor(differ, bit.bxor(a:byte(i), b:byte(i)))
    end
    return differ == 0
end

local HEX = {}
for i = 0, 255 do
    HEX[string.char(i)] = string.format("%02x", i)
end

-- A keyed hash for the log: 64 bits in hexadecimal.
function _M.short(key, text)
    return (_M.sha256(key, text):sub(1, 8):gsub(".", HEX))
end

return _M
