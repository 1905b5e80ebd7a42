-- What the edge's Lua needs to know. Files are relative to Nginx's prefix; secrets are readable by root only: the master
-- reads them.
return {
    -- This edge's name: each edge its own.
    edge = "edge-1",
    -- Private listeners of all cores.
    cores = { "127.0.0.1:8081" },
    -- The secret by which the cores know the edges (`secrets.edge_file` of the cores).
    token_file = "secrets/edge",
    -- Keys the hashes of visitors and buyers in the log.
    hash_key_file = "secrets/visitor",
    -- Shoppers' tokens: `hs256` is verified here, of others (`shape`) only form, issuer and time; the core verifies all.
    tokens = {
        kind = "shape",
        algorithms = { "RS256", "ES256" },
        issuer = "https://login.example.com/",
        audience = "shop",
    },
    -- Calls a second of one address (IPv6: one /64), and purchase calls of one buyer.
    client_calls = 500,
    buyer_calls = 5,
}
