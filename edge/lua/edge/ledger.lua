-- What the cores have said: keeps each core's last answer, joins those that live, and brings the shared dictionary to it.
-- One worker owns it; the others read the dictionary. Pure but for that dictionary; time is given.

local credits = require("edge.credits")

local _M = {}
_M.__index = _M

-- A ledger for so many cores on this dictionary.
function _M.new(dict, cores)
    local self = { dict = dict, cores = {}, written = {}, issued = 0, revoked = 0 }
    for i = 1, cores do
        self.cores[i] = { products = {}, version = nil, until_ = 0, offset = 0 }
    end
    return setmetatable(self, _M)
end

-- Cores that have answered lately, and this one.
function _M:reached(core, now)
    local count = 0
    for i, other in ipairs(self.cores) do
        if i == core or other.until_ > now then
            count = count + 1
        end
    end
    return count
end

-- What must be known before the core is asked: calls spent so far, of every product that moves.
function _M:before(now)
    local spent = {}
    for product in pairs(self.written) do
        spent[product] = credits.spent(self.dict, product)
    end
    return { at = now, spent = spent }
end

-- Takes a core's answer to a question that was asked `before`. Answers false for one that cannot be: it counts for
-- nothing, and everything is asked for again.
function _M:take(core, answer, before)
    local one = self.cores[core]
    if type(answer) ~= "table" or type(answer.products) ~= "table" or type(answer.version) ~= "string"
        or type(answer.now_ms) ~= "number" or type(answer.age_ms) ~= "number"
        or not (answer.whole or one.version)
    then
        one.version = nil
        return false
    end
    if answer.whole then
        one.products = {}
    end
    for _, entry in ipairs(answer.products) do
        one.products[entry.product] = entry
    end
    for _, product in ipairs(answer.gone or {}) do
        one.products[product] = nil
    end
    one.version = answer.version
    -- By the time of the question: however long the answer took, nothing lives longer than a second.
    one.until_ = before.at + credits.LIFE - answer.age_ms / 1000
    one.offset = answer.now_ms / 1000 - before.at
    one.before = before
    return true
end

-- A core did not answer.
function _M:missed(core)
    -- What it said last ends by itself. Its next answer may be the first of another process.
    self.cores[core].version = nil
end

local DOORS = { open = 1, paused = 2, ended = 3 }

-- One text for each product, for all workers to read with one look: `door|sale|opens|closes|left`.
local function describe(entry, offset)
    return string.format("%s|%s|%.3f|%.3f|%s", entry.door, entry.sale, entry.opens_ms / 1000 - offset,
        entry.closes_ms / 1000 - offset, entry.left)
end

-- Joins what the living cores say: credits are summed; whoever says paused is believed; the freshest says the rest.
function _M:join(now)
    local joined, latest = {}, 0
    for _, core in ipairs(self.cores) do
        if core.until_ > now then
            latest = math.max(latest, core.until_)
            for product, entry in pairs(core.products) do
                local one = joined[product]
                if not one then
                    one = { granted = 0, before = core.before, until_ = 0 }
                    joined[product] = one
                end
                one.granted = one.granted + entry.credits
                if core.before.at < one.before.at then
                    one.before = core.before
                end
                local stricter = one.entry and DOORS[entry.door] > DOORS[one.entry.door]
                local fresher = core.until_ > one.until_
                if not one.entry or stricter or (fresher and DOORS[entry.door] == DOORS[one.entry.door]) then
                    one.entry, one.offset, one.until_ = entry, core.offset, core.until_
                end
            end
        end
    end
    return joined, latest
end

-- Brings the dictionary to what the cores say now.
function _M:write(now)
    local dict, written = self.dict, self.written
    local joined, latest = self:join(now)
    for product, one in pairs(joined) do
        local last = written[product]
        if not last then
            last = {}
            written[product] = last
        end
        -- Clocks drift by fractions of a millisecond from answer to answer: windows move only when that shows.
        if last.entry ~= one.entry or math.abs(last.offset - one.offset) > 0.05 then
            dict:set("p:" .. product, describe(one.entry, one.offset))
            last.entry, last.offset = one.entry, one.offset
        end
        local admitted = dict:get("a:" .. product) or 0
        -- Nothing has moved and nothing is under way: the balance is what it was.
        if last.granted ~= one.granted or last.admitted ~= admitted or last.going ~= 0 then
            local before = one.before.spent[product] or credits.spent(dict, product)
            local change, going = credits.level(dict, product, one.granted, before, now)
            if change > 0 then
                self.issued = self.issued + change
            else
                self.revoked = self.revoked - change
            end
            last.granted, last.admitted, last.going = one.granted, admitted, going
            if one.entry.left == "some" then
                dict:delete("h:" .. product)
            end
        end
    end
    for product in pairs(written) do
        if not joined[product] then
            if latest > 0 then
                dict:delete("p:" .. product)
                written[product] = nil
            end
            local balance = dict:get("c:" .. product) or 0
            if balance > 0 then
                dict:incr("c:" .. product, -balance)
                dict:incr("i:" .. product, -balance, 0)
                self.revoked = self.revoked + balance
            end
            if written[product] then
                -- When the core is back it gives what it gave; that is not nothing new.
                written[product].granted = nil
            end
        end
    end
    -- Said last: until here, workers went by what was said before.
    credits.live_until(dict, latest)
    return latest
end

return _M
