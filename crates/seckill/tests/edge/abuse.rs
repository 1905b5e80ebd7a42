//! What clients do who mean no good: each is refused, each is counted, and none reaches a core or another's log line.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use types::Role;

use crate::crowd::{AGENT, answer, purchase};
use crate::place::{PRODUCT, SALE, has_credits, lines, metric, options, sell, start};
use crate::town::{PATIENCE, Town};

/// Sends bytes on a connection of their own; the statuses of all answers until it ends or falls silent.
async fn send(port: u16, bytes: &[u8]) -> Vec<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    // A server may refuse and close before it has read everything.
    let _cut = stream.write_all(bytes).await;
    let mut buffer = Vec::new();
    let mut statuses = Vec::new();
    while let Ok(Some((status, _))) =
        tokio::time::timeout(Duration::from_secs(3), answer(&mut stream, &mut buffer)).await
    {
        statuses.push(status);
    }
    statuses
}

fn path() -> String {
    format!("/v1/sales/{SALE}/products/{PRODUCT}/purchases")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_refused_and_counted() {
    let town = Town::embedded("");
    sell(&town, &[(PRODUCT, 5)]).await;
    let edge = start(&town, &options(&town, "edge-1"));
    has_credits(&town, &edge, PRODUCT).await;
    let token = town.token("ann", &[Role::Shopper]);
    let port = edge.port();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: shop\r\nUser-Agent: {AGENT}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n",
        path()
    );
    let get = "GET /v1/sales HTTP/1.1\r\nHost: shop\r\n\r\n";

    // Smuggling: two ways to say where the body ends. No second request comes out of any of them.
    let hidden = "GET /v1/products/hidden HTTP/1.1\r\nHost: shop\r\n\r\n";
    let pairs = [
        format!(
            "{head}Idempotency-Key: s1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
        ),
        format!(
            "{head}Idempotency-Key: s2\r\nContent-Length: 14\r\nContent-Length: 3\r\n\r\n{{\"quantity\":1}}{hidden}"
        ),
        format!(
            "{head}Idempotency-Key: s3\r\nTransfer-Encoding: xchunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n{hidden}"
        ),
        format!(
            "{head}Idempotency-Key: s4\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n{hidden}"
        ),
        format!("{head}Idempotency-Key: s5\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{hidden}"),
        format!("{head}Idempotency-Key: s6\r\nContent-Length: -1\r\n\r\n{hidden}"),
        format!("{head}Idempotency-Key: s7\r\nContent-Length: 99999999999999999999\r\n\r\n{hidden}"),
        format!("{head}Idempotency-Key: s8\r\nContent-Length : 3\r\n\r\nabc{hidden}"),
    ];
    for pair in &pairs {
        let statuses = send(port, pair.as_bytes()).await;
        eprintln!("{statuses:?} for {}", &pair[head.len()..].escape_debug());
        assert!(statuses.first().is_some_and(|s| matches!(s, 400 | 413 | 501)), "{statuses:?} for {pair}");
    }

    // Oversized: body, headers, request line, one header.
    let body = "x".repeat(2_000);
    let large = format!("{head}Idempotency-Key: l1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(send(port, large.as_bytes()).await, [413]);
    let header = format!("GET /v1/sales HTTP/1.1\r\nHost: shop\r\nX-Long: {}\r\n\r\n", "x".repeat(20_000));
    assert_eq!(send(port, header.as_bytes()).await, [400]);
    let many: String = (0..10_000).map(|n| format!("X-{n}: 1\r\n")).collect();
    assert_eq!(send(port, format!("GET /v1/sales HTTP/1.1\r\nHost: shop\r\n{many}\r\n").as_bytes()).await, [400]);
    let line = format!("GET /v1/sales?{} HTTP/1.1\r\nHost: shop\r\n\r\n", "x".repeat(20_000));
    assert_eq!(send(port, line.as_bytes()).await, [414]);

    // Forged log lines: whatever a client calls himself or asks for stays within its field.
    let forged =
        "x\\\",\\\"status\\\":200}\\n{\\\"time\\\":\\\"2026-01-01T00:00:00Z\\\",\\\"uri\\\":\\\"/product/forged";
    let agent = r#"a","status":200} {"time":"2026-01-01T00:00:00Z","uri":"/product/forged","x":""#;
    let call = format!(
        "GET /v1/sales/{forged} HTTP/1.1\r\nHost: shop\r\nUser-Agent: {agent}\r\nReferer: \u{1}\u{7f}{agent}\r\nConnection: close\r\n\r\n"
    );
    let statuses = send(port, call.as_bytes()).await;
    assert!(statuses.iter().all(|s| *s >= 400), "{statuses:?}");

    // An address that is only claimed.
    let spoofed = get.replace(
        "Host: shop",
        "Host: shop\r\nX-Forwarded-For: 203.0.113.9\r\nX-Real-IP: 203.0.113.9\r\nConnection: close",
    );
    assert_eq!(send(port, spoofed.as_bytes()).await, [200]);

    // Forged and foreign tokens, bots, wrong methods and paths.
    let bad = [
        (purchase(&format!("{token}x"), "t1"), 401),
        (purchase("a.b.c", "t2"), 401),
        (purchase(&town.token("vic", &[Role::Viewer]), "t3"), 403),
        (purchase(&token, "t4").replace(AGENT, "python-requests/2.31"), 403),
        (purchase(&token, "t5").replace("POST ", "PUT "), 405),
        (purchase(&token, "two words"), 400),
        (purchase(&token, "t6").replace("products/lamp", "products/l%61mp"), 400),
        (purchase(&token, "t7").replace("products/lamp", "products/yacht"), 404),
        (purchase(&token, "t8").replace("application/json", "text/plain"), 415),
    ];
    for (call, status) in &bad {
        assert_eq!(send(port, call.as_bytes()).await, [*status], "{call}");
    }
    for path in ["/internal/edge/credits", "/internal/plan", "/metrics"] {
        assert_eq!(send(port, format!("GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n").as_bytes()).await, [404], "{path}");
    }

    let all = lines(edge.access_log());
    let asked = all.iter().filter(|line| !line["upstream_status"].as_str().unwrap().is_empty());
    let asked: Vec<_> = asked.map(|line| line["uri"].as_str().unwrap().to_owned()).collect();
    assert!(!asked.iter().any(|uri| uri.ends_with("/purchases")), "no purchase reached the core: {asked:?}");
    assert!(all.iter().all(|line| line["uri"] != "/product/forged" && line["uri"] != "/v1/products/hidden"));
    assert!(all.iter().all(|line| line["remote_addr"] == "127.0.0.1"), "an address was believed");
    for (begin, least) in [
        ("seckill_edge_requests_total{status=\"400\"}", 8),
        ("seckill_edge_requests_total{status=\"413\"}", 1),
        ("seckill_edge_requests_total{status=\"414\"}", 1),
        ("seckill_edge_refusals_total{reason=\"token\"}", 2),
        ("seckill_edge_refusals_total{reason=\"role\"}", 1),
        ("seckill_edge_refusals_total{reason=\"bot\"}", 1),
        ("seckill_edge_refusals_total{reason=\"method\"}", 1),
        ("seckill_edge_ignored_claims_total", 1),
    ] {
        let counted = metric(&town, &edge, begin, least).await;
        eprintln!("{begin} {counted}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_let_go_while_others_are_served() {
    let town = Town::embedded("");
    sell(&town, &[(PRODUCT, 5)]).await;
    let edge = start(&town, &options(&town, "edge-1"));
    has_credits(&town, &edge, PRODUCT).await;
    // Slowloris: headers that never end, a byte at a time; and a body that never comes.
    let mut slow = Vec::new();
    for n in 0..200 {
        let mut stream = TcpStream::connect(("127.0.0.1", edge.port())).await.unwrap();
        let token = town.token("ann", &[Role::Shopper]);
        let start = if n % 2 == 0 {
            "GET /v1/sales HTTP/1.1\r\nHost: shop\r\nX-a: ".to_owned()
        } else {
            let call = purchase(&token, "slow");
            call[..call.len() - 10].to_owned()
        };
        stream.write_all(start.as_bytes()).await.unwrap();
        slow.push(tokio::spawn(async move {
            let began = Instant::now();
            let mut seen = Vec::new();
            while began.elapsed() < PATIENCE {
                if n % 2 == 0 && stream.write_all(b"x").await.is_err() {
                    return true;
                }
                let mut some = [0; 1024];
                match tokio::time::timeout(Duration::from_millis(500), stream.read(&mut some)).await {
                    Ok(Ok(0) | Err(_)) => return true,
                    Ok(Ok(read)) => seen.extend_from_slice(&some[..read]),
                    Err(_) => {}
                }
            }
            false
        }));
    }
    // Beside them the edge serves as if they were not there.
    for n in 0..20 {
        let answer = town.http.get(format!("{}/v1/sales?n={n}", edge.url())).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    for one in slow {
        assert!(one.await.unwrap(), "a slow client was never let go");
    }
    let refused = metric(&town, &edge, "seckill_edge_requests_total{status=\"408\"}", 100).await;
    let tired = metric(&town, &edge, "seckill_edge_refusals_total{reason=\"buyer_rate\"}", 1).await;
    eprintln!("{refused} with 408, {tired} with 429");
}
