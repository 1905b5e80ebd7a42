-- Programs that say that they are programs. Pure; it must never match what browsers and telephones call themselves (a
-- CUBOT is a telephone). Who hides is met by rates.

local _M = {}

-- Those that buy nothing by right: crawlers and HTTP libraries of scripts. The collector's list for analytics is longer.
local TOKENS = {
    "googlebot", "bingbot", "yandexbot", "baiduspider", "applebot", "petalbot", "ahrefsbot", "semrushbot", "mj12bot",
    "gptbot", "ccbot", "claudebot", "bytespider", "amazonbot", "facebookexternalhit", "spider", "crawler",
    "python-requests", "python-urllib", "aiohttp", "httpx/", "go-http-client", "libwww-perl", "scrapy", "wget/",
    "okhttp-bot", "headlesschrome", "phantomjs", "puppeteer", "selenium",
}

-- User agents are few; one that was looked through is remembered, and all are forgotten when they become many.
local MANY = 4096
local known, count = {}, 0

local function look(agent)
    local lower = agent:lower()
    for i = 1, #TOKENS do
        if lower:find(TOKENS[i], 1, true) then
            return true
        end
    end
    return false
end

-- Whether this user agent is a bot's. No user agent at all is one: every browser has one.
function _M.is_bot(agent)
    if not agent or agent == "" then
        return true
    end
    local answer = known[agent]
    if answer == nil then
        if count >= MANY then
            known, count = {}, 0
        end
        answer = look(agent)
        known[agent], count = answer, count + 1
    end
    return answer
end

return _M
