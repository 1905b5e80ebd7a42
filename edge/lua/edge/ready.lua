-- Pages of the private listener that say how things stand: readiness, and one product's credits. They change nothing.

local cjson = require("cjson.safe")
local credits = require("edge.credits")

local _M = {}

local function say(status, value)
    ngx.status = status
    ngx.header["Content-Type"] = "application/json"
    ngx.print(cjson.encode(value))
end

function _M.page()
    local ready = credits.lives_until(ngx.shared.edge_credits) > ngx.now()
    say(ready and 200 or 503, { status = ready and "ready" or "no core gives credits" })
end

function _M.credits()
    local dict, product = ngx.shared.edge_credits, ngx.var.arg_product
    local described = product and dict:get("p:" .. product)
    if not described then
        return say(404, { status = "no such product" })
    end
    local books = credits.books(dict, product, ngx.now())
    books.product, books.described, books.hint = product, described, dict:get("h:" .. product)
    say(200, books)
end

return _M
