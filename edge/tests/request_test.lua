-- The shape of purchase calls: what an honest client sends passes, everything else has one reason.

local request = require("edge.request")

local PATH = "/v1/sales/rush/products/lamp/purchases"

local function call(change)
    local honest = {
        method = "POST", path = PATH, uri = PATH, sale = "rush", product = "lamp", key = "k-1",
        content_type = "application/json", content_length = "14",
    }
    for name, value in pairs(change or {}) do
        honest[name] = value ~= "none" and value or nil
    end
    return honest
end

return {
    { "an honest call is not wrong", function(check)
        check.same(request.wrong(call()), nil)
        check.same(request.wrong(call { content_type = "application/json; charset=utf-8" }), nil)
        check.same(request.wrong(call { path = PATH .. "?from=page" }), nil)
        check.same(request.wrong(call { content_length = "none", encoding = "chunked" }), nil)
        check.same(request.wrong(call { key = ("~"):rep(128) }), nil)
    end },
    { "each wrong one has its reason", function(check)
        local cases = {
            { { method = "GET" }, "method" }, { { method = "BREW" }, "method" },
            { { path = "/v1/sales/rush/products/other/../lamp/purchases" }, "path" },
            { { path = "/v1/sales/rush/products/l%61mp/purchases" }, "path" },
            { { path = "//v1/sales/rush/products/lamp/purchases" }, "path" },
            { { path = "http://elsewhere" .. PATH }, "path" },
            { { product = "a b" }, "unknown" }, { { product = ("a"):rep(65) }, "unknown" }, { { sale = "\0" }, "unknown" },
            { { key = "none" }, "key" }, { { key = "" }, "key" }, { { key = ("k"):rep(129) }, "key" },
            { { key = "two words" }, "key" }, { { key = "new\nline" }, "key" }, { { key = "ü" }, "key" },
            { { content_type = "none" }, "media_type" }, { { content_type = "text/plain" }, "media_type" },
            { { content_length = "none" }, "length" },
        }
        for i, case in ipairs(cases) do
            check.same(request.wrong(call(case[1])), case[2], "case " .. i)
        end
    end },
}
