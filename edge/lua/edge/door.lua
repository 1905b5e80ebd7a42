-- Every other call to the core: counted against its client's rate and noted for the log. It knows no product.

local metrics = require("edge.metrics")
local problem = require("edge.problem")
local rate = require("edge.rate")
local visitor = require("edge.visitor")

local _M = {}

function _M.access()
    local settings = require("edge.init").settings
    local var = ngx.var
    visitor.note(var, settings.hash_key)
    local client = "d" .. rate.client(var.binary_remote_addr)
    if not rate.within(ngx.shared.edge_rates, client, settings.client_calls, ngx.now()) then
        metrics.count("refused", "client_rate")
        var.edge_refused = "client_rate"
        return problem.refuse("client_rate")
    end
end

-- A page of the shop itself: only noted.
function _M.note()
    visitor.note(ngx.var, require("edge.init").settings.hash_key)
end

return _M
