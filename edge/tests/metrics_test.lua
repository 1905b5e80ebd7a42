-- Counters: added up over flushes, written as Prometheus reads them.

local metrics = require("edge.metrics")
local dict = ngx.shared.edge_metrics

return {
    { "counts add up and stand on the page once", function(check)
        metrics.flush(dict)
        dict:flush_all()
        metrics.count("refused", "credits")
        metrics.count("refused", "credits", 2)
        metrics.flush(dict)
        metrics.count("refused", "credits")
        metrics.flush(dict)
        metrics.flush(dict)
        local page = metrics.text(dict, { { "seckill_edge_some_gauge", "A gauge", 1.5 } })
        check.same(page:find('seckill_edge_refusals_total{reason="credits"} 4', 1, true) ~= nil, true, "the counter")
        check.same(page:find("seckill_edge_some_gauge 1.500", 1, true) ~= nil, true, "the gauge")
        local _, types = page:gsub("# TYPE", "")
        check.same(types, 6, "every family is described")
    end },
}
