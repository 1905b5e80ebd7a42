-- Refusals as RFC 9457 problems, with the names that the core uses. It decides nothing: who is refused, and why, is said
-- elsewhere.

local _M = {}

local function kind(name, title, status, detail, retry_after)
    return {
        name = name,
        status = status,
        retry_after = retry_after,
        body = string.format('{"type":"/problems/%s","title":"%s","status":%d,"detail":"%s"}', name, title, status, detail),
    }
end

-- Each reason is a label of a metric too, so this is a closed set.
_M.KINDS = {
    method = kind("method-not-allowed", "Method not allowed", 405, "purchases are made by POST"),
    path = kind("malformed", "Malformed request", 400, "write the path plainly, without percent-encoding or dots"),
    key = kind("malformed", "Malformed request", 400,
        "send one Idempotency-Key of 1 to 128 printable ASCII characters: your own name for this call"),
    media_type = kind("unsupported-media-type", "Unsupported media type", 415, "send application/json"),
    length = kind("malformed", "Malformed request", 400, "send a body with its Content-Length"),
    bot = kind("forbidden", "Not allowed for your role", 403, "programs that name themselves as such do not buy here"),
    token = kind("unauthenticated", "Authentication required", 401,
        "send one header Authorization: Bearer with a shopper's token that is still good"),
    role = kind("forbidden", "Not allowed for your role", 403, "this call needs a shopper's token"),
    client_rate = kind("too-many-requests", "Too many requests", 429, "too many calls from your address; slow down", 1),
    buyer_rate = kind("too-many-requests", "Too many requests", 429, "too many purchase calls of yours; slow down", 1),
    unknown = kind("not-found", "Not found", 404, "no such product in this sale"),
    paused = kind("paused", "The sale is paused", 503, "purchases are not taken for now; try again", 5),
    ended = kind("sale-ended", "The sale is over", 410, "the sale has closed"),
    not_open = kind("not-open", "The sale has not opened", 425, "purchases are not taken yet"),
    sold_out = kind("sold-out", "Sold out", 410, "every unit is sold"),
    all_reserved = kind("all-reserved", "All units are reserved", 409,
        "too few units are free; unpaid orders may give some back", 5),
    credits = kind("backlog", "Too many attempts", 429, "more shoppers ask than there are units left; try again", 1),
    breather = kind("unavailable", "Temporarily unavailable", 503, "try again with the same Idempotency-Key", 1),
    stale = kind("unavailable", "Temporarily unavailable", 503, "the shop's core is away; try again in a moment", 1),
    away = kind("unavailable", "Temporarily unavailable", 503,
        "no answer came in time; ask again with the same Idempotency-Key, it will not be bought twice", 1),
}

-- Answers with a refusal and ends the request's phase.
function _M.refuse(reason, retry_after)
    local problem = _M.KINDS[reason]
    local header = ngx.header
    ngx.status = problem.status
    header["Content-Type"] = "application/problem+json"
    header["Cache-Control"] = "no-store"
    retry_after = retry_after or problem.retry_after
    if retry_after then
        header["Retry-After"] = retry_after
    end
    if problem.status == 405 then
        header["Allow"] = "POST"
    elseif problem.status == 401 then
        header["WWW-Authenticate"] = "Bearer"
    end
    header["Content-Length"] = #problem.body
    ngx.print(problem.body)
    return ngx.exit(problem.status)
end

-- No core answered: the credit goes back when the request ends (`finish`).
function _M.away()
    ngx.var.edge_refused = "away"
    require("edge.metrics").count("refused", "away")
    return _M.refuse("away")
end

return _M
