-- Rates: as many as allowed in a second, each caller for himself, and again in the next.

local rate = require("edge.rate")
local dict = ngx.shared.edge_rates

return {
    { "a limit holds for a second and for one caller", function(check)
        for i = 1, 5 do
            check.same(rate.within(dict, "ann", 5, 100.9), true, "call " .. i)
        end
        check.same(rate.within(dict, "ann", 5, 100.95), false, "the sixth")
        check.same(rate.within(dict, "ben", 5, 100.95), true, "another's first")
        check.same(rate.within(dict, "ann", 5, 101.0), true, "the next second")
    end },
    { "an address stands for its subscriber", function(check)
        check.same(rate.client("\1\2\3\4"), "\1\2\3\4")
        check.same(rate.client("12345678abcdefgh"), "12345678")
    end },
}
