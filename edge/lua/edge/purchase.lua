-- A purchase call at the edge: shape, bots, token, rates, what the cores say, and one credit. It may refuse; only the
-- core accepts. A refusal costs a few look-ups and writes nothing but the rates.

local bots = require("edge.bots")
local credits = require("edge.credits")
local known = require("edge.known")
local metrics = require("edge.metrics")
local problem = require("edge.problem")
local products = require("edge.product")
local rate = require("edge.rate")
local request = require("edge.request")
local token = require("edge.token")
local visitor = require("edge.visitor")

local _M = {}

-- Tokens read lately, in each worker: at 300 bytes some 10 MB.
local tokens = require("resty.lrucache").new(20000)
local call = {}

local function refuse(var, reason, retry_after)
    metrics.count("refused", reason)
    var.edge_refused = reason
    return problem.refuse(reason, retry_after)
end

-- What is wrong with the call or its caller: the reason, or nil and who he is.
function _M.filter(var, settings, now)
    call.method = ngx.req.get_method()
    call.path, call.uri = var.request_uri, var.uri
    call.sale, call.product = var.edge_sale, var.edge_sku
    call.key = var.http_idempotency_key
    call.content_type = var.content_type
    call.content_length, call.encoding = var.content_length, var.http_transfer_encoding
    local wrong = request.wrong(call)
    if wrong then
        return wrong
    end
    var.edge_product = call.product
    visitor.note(var, settings.hash_key)
    if settings.refuse_bots and bots.is_bot(var.http_user_agent) then
        return "bot"
    end
    local rates = ngx.shared.edge_rates
    if not rate.within(rates, "c" .. rate.client(var.binary_remote_addr), settings.client_calls, now) then
        return "client_rate"
    end
    local caller, why = token.of_header(var.http_authorization, settings.tokens, tokens, now)
    if not caller then
        return why
    end
    var.edge_buyer = caller.hash
    if not rate.within(rates, "b" .. caller.hash, settings.buyer_calls, now) then
        return "buyer_rate"
    end
    return nil, caller
end

-- Why the product cannot be bought now, or nil: by what the cores said within the last second.
function _M.closed(dict, sale, product, now)
    if credits.lives_until(dict) <= now then
        return "stale"
    end
    local described = dict:get("p:" .. product)
    local why, retry_after = products.refusal(described and products.parse(described), sale, now)
    if why then
        return why, retry_after
    end
    -- What a core told a shopper a moment ago: that nothing is left, or that it cannot answer.
    return dict:get("h:" .. product)
end

function _M.access()
    local settings = require("edge.init").settings
    local var, now = ngx.var, ngx.now()
    local wrong, caller = _M.filter(var, settings, now)
    if wrong then
        return refuse(var, wrong)
    end
    local dict, product, key = ngx.shared.edge_credits, call.product, call.key
    local why, retry_after = _M.closed(dict, call.sale, product, now)
    if not why then
        local span = credits.take(dict, product, now)
        if span then
            known.begin(ngx.shared.edge_known, product, caller.hash, key)
            var.edge_took = span .. "|" .. product .. "|" .. known.name(product, caller.hash, key)
            metrics.count("credits", "admitted")
            return
        end
        why = "credits"
    end
    -- He may be asking again for what has been decided: only the core knows.
    if known.again(ngx.shared.edge_known, product, caller.hash, key) then
        metrics.count("credits", "passed")
        return
    end
    return refuse(var, why, retry_after)
end

return _M
