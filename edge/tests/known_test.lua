-- Attempts that may have been decided: their repeats pass, five times, and nobody else's.

local known = require("edge.known")
local dict = ngx.shared.edge_known

return {
    { "a repeat passes, a stranger does not", function(check)
        check.same(known.again(dict, "lamp", "b1", "k"), false)
        known.begin(dict, "lamp", "b1", "k")
        for i = 1, 5 do
            check.same(known.again(dict, "lamp", "b1", "k"), true, "repeat " .. i)
        end
        check.same(known.again(dict, "lamp", "b1", "k"), false, "the sixth")
        check.same(known.again(dict, "lamp", "b2", "k"), false, "another buyer")
        check.same(known.again(dict, "vase", "b1", "k"), false, "another product")
    end },
    { "what was answered may be asked for once more", function(check)
        known.begin(dict, "lamp", "b1", "k")
        known.answered(dict, known.name("lamp", "b1", "k"))
        check.same({ known.again(dict, "lamp", "b1", "k"), known.again(dict, "lamp", "b1", "k") }, { true, false })
    end },
    { "what was refused is forgotten", function(check)
        known.begin(dict, "lamp", "b1", "k")
        known.forget(dict, known.name("lamp", "b1", "k"))
        check.same(known.again(dict, "lamp", "b1", "k"), false)
    end },
}
