-- Bots name themselves; browsers and telephones are never taken for one.

local bots = require("edge.bots")

return {
    { "bots and the nameless are bots", function(check)
        for _, agent in ipairs { "Googlebot/2.1", "python-requests/2.31", "Mozilla/5.0 (compatible; bingbot/2.0)",
            "Go-http-client/1.1", "Mozilla/5.0 HeadlessChrome/126", "" } do
            check.same(bots.is_bot(agent), true, agent)
        end
        check.same(bots.is_bot(nil), true, "no user agent")
    end },
    { "browsers and telephones are not, however often they come", function(check)
        for i = 1, 10000 do
            local agent = "Mozilla/5.0 (Linux; Android 14; CUBOT P80) Chrome/126.0 Mobile Safari/537." .. i
            if bots.is_bot(agent) then
                check.same(agent, "no bot")
            end
        end
        check.same(bots.is_bot("Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X)"), false)
    end },
}
