-- Credits: never more calls than were issued, none lost, none below zero, whatever the order of things.

local credits = require("edge.credits")
local dict = ngx.shared.edge_credits

local function books(check, now)
    local b = credits.books(dict, "lamp", now)
    check.same(b.balance, b.issued - b.admitted + b.returned, "balance")
    check.same(b.admitted, b.returned + b.spent + b.under_way, "what was admitted")
    return b
end

return {
    { "without the core's word there is nothing to take", function(check)
        check.same(credits.take(dict, "lamp", 1), nil)
        check.same(credits.lives_until(dict), 0)
        books(check, 1)
    end },
    { "as many as were granted, and one again for each that comes back", function(check)
        credits.level(dict, "lamp", 2, 0, 1)
        local one, two = credits.take(dict, "lamp", 1), credits.take(dict, "lamp", 1)
        check.same({ one ~= nil, two ~= nil, credits.take(dict, "lamp", 1) == nil }, { true, true, true })
        credits.finish(dict, "lamp", one, true)
        check.same(credits.take(dict, "lamp", 1), nil, "a spent one")
        credits.finish(dict, "lamp", two, false)
        check.same(credits.take(dict, "lamp", 1) ~= nil, true, "one that came back")
        check.same(books(check, 1).balance, 0, "the rest")
    end },
    { "a new grant counts what is under way and what was spent since it was asked for", function(check)
        credits.level(dict, "lamp", 10, 0, 1)
        local before = credits.spent(dict, "lamp")
        local spans = {}
        for i = 1, 6 do
            spans[i] = credits.take(dict, "lamp", 1)
        end
        credits.finish(dict, "lamp", spans[1], true)
        credits.finish(dict, "lamp", spans[2], true)
        -- The core may not have counted the two that were sold meanwhile; four are under way.
        check.same({ credits.level(dict, "lamp", 10, before, 1) }, { 0, 4 })
        check.same(books(check, 1).balance, 4)
        credits.level(dict, "lamp", 3, credits.spent(dict, "lamp"), 1)
        check.same(books(check, 1).balance, 0, "never below zero")
    end },
    { "what a dead worker had under way is forgotten in time", function(check)
        credits.level(dict, "lamp", 5, 0, 1)
        credits.take(dict, "lamp", 1)
        check.same(credits.under_way(dict, "lamp", 20), 1)
        check.same(credits.under_way(dict, "lamp", 45), 0)
    end },
    { "books balance and grants hold in every order of events", function(check)
        local open, now, granted, since = {}, 1, 0, 0
        local taken_since_level, going_at_level = 0, 0
        for _ = 1, 20000 do
            local dice = math.random(100)
            now = now + math.random() / 100
            if dice <= 55 then
                local span = credits.take(dict, "lamp", now)
                if span then
                    open[#open + 1] = span
                    taken_since_level = taken_since_level + 1
                end
            elseif dice <= 97 then
                if #open > 0 then
                    local span = table.remove(open, math.random(#open))
                    local spent = math.random(2) == 1
                    credits.finish(dict, "lamp", span, spent)
                    if not spent then
                        taken_since_level = taken_since_level - 1
                    end
                end
            else
                granted = math.random(0, 50)
                credits.level(dict, "lamp", granted, credits.spent(dict, "lamp"), now)
                taken_since_level, going_at_level = 0, #open
            end
            local b = books(check, now)
            if b.balance < 0 then
                check.same(b.balance, "at least 0")
            end
            if taken_since_level > math.max(0, granted - going_at_level) + going_at_level then
                check.same(taken_since_level, "at most what was granted")
            end
        end
    end },
}
