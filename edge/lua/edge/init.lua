-- What happens when Nginx starts: the master reads settings and secrets, each worker starts its timers. It serves nothing.

local _M = {}

function _M.master(path)
    _M.settings = require("edge.settings").load(path)
    -- Loaded once and shared by all workers' memory.
    require("edge.purchase")
    require("edge.finish")
    require("edge.door")
    require("edge.metrics")
end

function _M.worker()
    require("edge.metrics").start()
    if ngx.worker.id() == 0 then
        require("edge.poll").start(_M.settings)
    end
end

return _M
