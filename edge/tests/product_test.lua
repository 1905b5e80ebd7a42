-- What the cores said of a product, and what a purchase call is told.

local product = require("edge.product")

local function open(change)
    local text = string.format("%s|rush|%s|%s|%s", change.door or "open", change.opens or "10.000",
        change.closes or "20.000", change.left or "some")
    return assert(product.parse(text))
end

return {
    { "open, and nothing else, lets a call go on", function(check)
        check.same(product.refusal(open {}, "rush", 10), nil)
        check.same(product.refusal(open {}, "rush", 19.999), nil)
    end },
    { "each other state has its reason", function(check)
        local function told(one, sale, now)
            return { product.refusal(one, sale, now) }
        end
        check.same(told(nil, "rush", 15), { "unknown" })
        check.same(told(open {}, "other", 15), { "unknown" })
        check.same(told(open { door = "paused" }, "rush", 5), { "paused" })
        check.same(told(open { door = "ended" }, "rush", 15), { "ended" })
        check.same(told(open {}, "rush", 20), { "ended" })
        check.same(told(open {}, "rush", 7.2), { "not_open", 3 }, "not open")
        check.same(told(open { opens = "99999.000", closes = "999999.000" }, "rush", 7), { "not_open", 3600 })
        check.same(told(open { left = "sold_out" }, "rush", 15), { "sold_out" })
        check.same(told(open { left = "all_reserved" }, "rush", 15), { "all_reserved" })
    end },
    { "nonsense is no product", function(check)
        for _, text in ipairs { "", "open", "open|rush|x|y|some", "open|rush|1|2" } do
            check.same(product.parse(text), nil, text)
        end
    end },
}
