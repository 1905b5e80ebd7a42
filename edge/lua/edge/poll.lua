-- Asks every core for credits, every 250 ms, in one worker, and writes what they say into the shared dictionary. Without
-- answers it writes nothing, and everything ends within a second.

local cjson = require("cjson.safe")
local http = require("edge.http")
local ledger = require("edge.ledger")
local metrics = require("edge.metrics")

local _M = {}

-- Seconds between two questions to one core.
local EVERY = 0.25
-- Longest wait for a core, in milliseconds for each step: an answer that takes longer has half its life behind it.
local PATIENCE = 500

local function escape(text)
    return ngx.escape_uri(text)
end

local function ask(book, settings, core, now)
    local before = book:before(now)
    local path = "/internal/edge/credits?edge=" .. escape(settings.edge) .. "&cores=" .. book:reached(core, now)
    local have = book.cores[core].version
    if have then
        path = path .. "&have=" .. escape(have)
    end
    local answer, why = http.get(settings.cores[core], path, settings.token, PATIENCE)
    if not answer then
        return nil, why
    end
    if answer.status ~= 200 then
        return nil, "status " .. answer.status
    end
    if not book:take(core, cjson.decode(answer.body), before) then
        return nil, "no credits in the answer"
    end
    return true
end

-- Starts the questions; to be called in the one worker that owns them.
function _M.start(settings)
    local book = ledger.new(ngx.shared.edge_credits, #settings.cores)
    local silent = {}
    for core = 1, #settings.cores do
        local busy = false
        local function tick(premature)
            if premature or busy or ngx.worker.exiting() then
                return
            end
            busy = true
            ngx.update_time()
            local ran, answered, why = pcall(ask, book, settings, core, ngx.now())
            busy = false
            if not ran then
                answered, why = nil, answered
            end
            if not answered then
                book:missed(core)
            end
            metrics.count("polls", answered and "answered" or "missed")
            if silent[core] ~= not answered then
                -- Said when it changes, not four times a second.
                silent[core] = not answered
                local at = settings.cores[core].host .. ":" .. settings.cores[core].port
                if answered then
                    ngx.log(ngx.NOTICE, "core ", at, " gives credits")
                else
                    ngx.log(ngx.ERR, "core ", at, " gives no credits: ", why)
                end
            end
            if ngx.worker.exiting() then
                -- The next worker of this number has begun; two who level would issue twice.
                return
            end
            ngx.update_time()
            book:write(ngx.now())
            metrics.count("credits", "issued", book.issued)
            metrics.count("credits", "revoked", book.revoked)
            book.issued, book.revoked = 0, 0
        end
        assert(ngx.timer.at(0, tick))
        assert(ngx.timer.every(EVERY, tick))
    end
end

return _M
