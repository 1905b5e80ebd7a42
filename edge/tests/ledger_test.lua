-- The cores' answers joined: shares are summed, the strictest word counts, and without answers everything ends.

local credits = require("edge.credits")
local ledger = require("edge.ledger")
local product = require("edge.product")
local dict = ngx.shared.edge_credits

local function answer(change)
    local all = {
        version = "1-1", whole = true, now_ms = 1000000, age_ms = 0, gone = {},
        products = { { product = "lamp", sale = "rush", door = "open", opens_ms = 990000, closes_ms = 2000000,
            left = "some", credits = 10 } },
    }
    for name, value in pairs(change or {}) do
        if all[name] ~= nil then
            all[name] = value
        else
            all.products[1][name] = value
        end
    end
    return all
end

local function said(now)
    local text = dict:get("p:lamp")
    return { dict:get("c:lamp") or 0, text and product.refusal(product.parse(text), "rush", now) or "nothing",
        credits.lives_until(dict) > now }
end

return {
    { "an answer gives credits for a second from its question", function(check)
        local book = ledger.new(dict, 1)
        check.same(book:take(1, answer { age_ms = 300 }, book:before(50)), true)
        book:write(50.2)
        check.same(said(50.2), { 10, "nothing", true })
        check.same(credits.lives_until(dict), 50.7, "until when")
        book:write(50.8)
        check.same(said(50.8), { 0, "nothing", false }, "without another answer")
        -- The same grant again is a new grant.
        book:take(1, answer(), book:before(51))
        book:write(51)
        check.same(said(51), { 10, "nothing", true }, "the core is back")
    end },
    { "the core's clock opens the sale, not ours", function(check)
        local book = ledger.new(dict, 1)
        -- The core is 950 s ahead, and opens in 5 s by its own clock.
        book:take(1, answer { now_ms = 1000000, opens_ms = 1005000 }, book:before(50))
        book:write(50)
        check.same(said(50)[2], "not_open")
        check.same(said(55)[2], "nothing")
    end },
    { "changes are taken in, and what is gone goes", function(check)
        local book = ledger.new(dict, 1)
        book:take(1, answer(), book:before(50))
        book:write(50)
        local other = { product = "vase", sale = "rush", door = "open", opens_ms = 0, closes_ms = 2000000, left = "some",
            credits = 3 }
        check.same(book:take(1, answer { whole = false, version = "1-2", products = { other } }, book:before(50.2)), true)
        book:write(50.2)
        check.same({ dict:get("c:lamp"), dict:get("c:vase") }, { 10, 3 })
        book:take(1, answer { whole = false, version = "1-3", products = {}, gone = { "lamp" } }, book:before(50.4))
        book:write(50.4)
        check.same({ dict:get("c:lamp"), dict:get("p:lamp") == nil, dict:get("c:vase") }, { 0, true, 3 })
    end },
    { "several cores: shares add up, one's pause is everybody's, a dead one's share ends", function(check)
        local book = ledger.new(dict, 2)
        book:take(1, answer(), book:before(50))
        book:take(2, answer { credits = 7 }, book:before(50.1))
        book:write(50.1)
        check.same(said(50.1), { 17, "nothing", true })
        check.same(book:reached(1, 50.1), 2)
        book:take(2, answer { door = "paused", credits = 0 }, book:before(50.5))
        book:write(50.5)
        check.same(said(50.5), { 10, "paused", true })
        book:write(51.2)
        check.same(said(51.2), { 0, "paused", true }, "only the second lives")
        check.same({ book:reached(1, 51.2), book:reached(2, 51.2) }, { 2, 1 })
    end },
    { "a wrong answer counts for nothing, and all is asked for again", function(check)
        local book = ledger.new(dict, 1)
        check.same(book:take(1, answer { whole = false }, book:before(50)), false, "changes of nothing")
        for _, wrong in ipairs { "text", {}, { products = {} } } do
            check.same(book:take(1, wrong, book:before(50)), false)
        end
        check.same(book:take(1, nil, book:before(50)), false)
        book:write(50)
        check.same(said(50), { 0, "nothing", false })
        book:take(1, answer(), book:before(50))
        book:missed(1)
        check.same(book.cores[1].version, nil)
    end },
    { "what was sold while the question was on its way is not given again", function(check)
        local book = ledger.new(dict, 1)
        book:take(1, answer(), book:before(50))
        book:write(50)
        local before = book:before(50.2)
        for _ = 1, 4 do
            credits.finish(dict, "lamp", credits.take(dict, "lamp", 50.2), true)
        end
        book:take(1, answer(), before)
        book:write(50.25)
        check.same(dict:get("c:lamp"), 6)
        book:take(1, answer { credits = 2 }, book:before(50.5))
        book:write(50.5)
        check.same(dict:get("c:lamp"), 2)
        dict:set("h:lamp", "sold_out")
        credits.take(dict, "lamp", 50.6)
        book:take(1, answer { credits = 8 }, book:before(50.7))
        book:write(50.7)
        check.same(dict:get("h:lamp"), nil, "a hint, when something is left")
    end },
}
