//! Refusals at the edge: a real Nginx with the files of `edge/`, beside the same Nginx that does the same filtering and
//! logging and then answers a constant. Generator (wrk) and Nginx share the cores, so the generator is part of the limit.

mod issuer;

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bench::child::SECRET;
use bench::tokens::Tokens;
use servers::{Edge, EdgeCore, EdgeOptions};
use types::Role;

use crate::area::{Area, Settings};
use crate::figure::{Bar, Figure};
use issuer::CreditIssuer;

/// Different buyers, each with a token of his own, by turns.
const BUYERS: usize = 1_000;
/// Open connections of the generator.
const CONNECTIONS: &str = "64";
/// Share of the constant answer's rate that refusals must reach.
const SHARE: f64 = 0.8;

/// The other contestants, on the very same Nginx: after the same filter, and before any of it.
const SHOP: &str = r#"
location ~ "^/constant/v1/sales/(?<edge_sale>[^/]{1,64})/products/(?<edge_sku>[^/]{1,64})/purchases$" {
    client_max_body_size 1k;
    access_by_lua_block {
        local wrong = require("edge.purchase").filter(ngx.var, require("edge.init").settings, ngx.now())
        if wrong then
            return require("edge.problem").refuse(wrong)
        end
        return require("edge.problem").refuse("sold_out")
    }
    proxy_pass http://cores;
}
location /bare/ {
    return 410 "gone";
}
"#;

const SOLD_OUT: &str = "refusals, sold out";
const NO_CREDITS: &str = "refusals, out of credits";
const CONSTANT: &str = "constant answer after the same filter";
const BARE: &str = "constant answer of bare Nginx, same log";
/// What is asked for, under which name.
const CONTESTANTS: [(&str, &str, u16); 4] = [
    (SOLD_OUT, "/v1/sales/bench/products/gone/purchases", 410),
    (NO_CREDITS, "/v1/sales/bench/products/busy/purchases", 429),
    (CONSTANT, "/constant/v1/sales/bench/products/gone/purchases", 410),
    (BARE, "/bare/v1/sales/bench/products/gone/purchases", 410),
];

/// The area.
pub struct EdgeArea;

impl Area for EdgeArea {
    fn name(&self) -> &'static str {
        "edge"
    }
    fn about(&self) -> &'static str {
        "refusals at the edge beside the same Nginx answering a constant after the same filtering and logging"
    }
    fn run(&self, settings: &Settings) -> anyhow::Result<Vec<Figure>> {
        let folder = tempfile::tempdir_in(&settings.cache)?;
        let place = folder.path();
        let secret = |name: &str| -> anyhow::Result<_> {
            let file = place.join(name);
            std::fs::write(&file, SECRET)?;
            Ok(file)
        };
        let core = CreditIssuer::start()?;
        let options = EdgeOptions {
            name: "bench".to_owned(),
            cores: vec![EdgeCore { public: core.address(), private: core.address() }],
            token_file: secret("edge")?,
            hash_key_file: secret("visitor")?,
            issuer_file: secret("issuer")?,
            trusted: Vec::new(),
            certificate: None,
            // Counted, and never reached: what is refused for its rate would never come to its credit.
            client_calls: 1_000_000,
            buyer_calls: 1_000_000,
            workers: 1,
            refuse_bots: true,
            log: None,
            shop: SHOP.to_owned(),
        };
        let edge = Edge::start(&place.join("nginx"), &options)?;
        wait_for_credits(&edge)?;
        let script = place.join("purchases.lua");
        std::fs::write(&script, script_of(&Tokens::new(SECRET))?)?;
        let (rounds, seconds) = if settings.quick { (3, 2) } else { (5, 5) };
        // Once unmeasured, so that every token has been seen.
        measure(&edge, CONTESTANTS[0].1, 410, 1, &script)?;
        let mut rates = vec![Vec::new(); CONTESTANTS.len()];
        let mut tails = vec![Vec::new(); CONTESTANTS.len()];
        for round in 0..rounds {
            settings.say(&format!("round {} of {rounds}", round + 1));
            for step in 0..CONTESTANTS.len() {
                // Another one begins each round.
                let at = (step + round) % CONTESTANTS.len();
                let (name, path, status) = CONTESTANTS[at];
                let (rate, p99) = measure(&edge, path, status, seconds, &script)?;
                settings.say(&format!("  {name}: {rate:.0}/s, p99 {p99:.2} ms"));
                rates[at].push(rate);
                tails[at].push(p99);
            }
        }
        ensure!(core.purchases() == 0, "{} purchase calls went through the edge", core.purchases());
        let constant = rates[2].clone();
        let mut figures = Vec::new();
        for (at, (name, ..)) in CONTESTANTS.into_iter().enumerate() {
            let mut figure = Figure::new(name, "requests/s", rates[at].clone());
            if at < 2 {
                figure = figure.against(CONSTANT, constant.clone()).bar(Bar::RatioAtLeast(SHARE));
            }
            figures.push(figure);
            figures.push(Figure::new(format!("{name}, p99"), "ms", tails[at].clone()));
        }
        Ok(figures)
    }
}

fn wait_for_credits(edge: &Edge) -> anyhow::Result<()> {
    let begun = Instant::now();
    let ready = || {
        let ask = std::net::TcpStream::connect(("127.0.0.1", edge.private_port())).and_then(|mut stream| {
            use std::io::{Read, Write};
            stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        });
        ask.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    };
    while !ready() {
        ensure!(begun.elapsed() < Duration::from_secs(30), "the edge got no credits: {}", edge.said());
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// What the generator sends.
fn script_of(tokens: &Tokens) -> anyhow::Result<String> {
    let mut script = String::from("local tokens = {\n");
    for buyer in 0..BUYERS {
        let _ = writeln!(script, "  {:?},", tokens.issue(&format!("b{buyer}"), Role::Shopper)?);
    }
    script.push_str(
        r#"}
local calls = {}
init = function(args)
    wrk.method = "POST"
    wrk.body = '{"quantity":1}'
    wrk.headers["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0"
    wrk.headers["Content-Type"] = "application/json"
    for i, token in ipairs(tokens) do
        wrk.headers["Authorization"] = "Bearer " .. token
        wrk.headers["Idempotency-Key"] = "key-" .. i
        calls[i] = wrk.format()
    end
end
local at = 0
request = function()
    at = at % #calls + 1
    return calls[at]
end
"#,
    );
    Ok(script)
}

/// One run: answers a second and the 99th percentile in milliseconds.
fn measure(edge: &Edge, path: &str, status: u16, seconds: u64, script: &Path) -> anyhow::Result<(f64, f64)> {
    let before = statuses(edge, status)?;
    let output = Command::new("wrk")
        .args(["-t1", "-c", CONNECTIONS, "--latency", &format!("-d{seconds}"), "-s"])
        .arg(script)
        .arg(format!("{}{path}", edge.url()))
        .output()
        .context("wrk is not installed (Debian: wrk)")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let after =
        |name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name).map(|rest| rest.trim().to_owned()));
    let rate: f64 = after("Requests/sec:").and_then(|n| n.parse().ok()).with_context(|| format!("wrk said: {text}"))?;
    let p99 = after("99%").and_then(|n| milliseconds(&n)).with_context(|| format!("wrk said: {text}"))?;
    let sent: u64 = text
        .lines()
        .find_map(|line| line.split_once(" requests in ").and_then(|(n, _)| n.trim().parse().ok()))
        .with_context(|| format!("wrk said: {text}"))?;
    // By the edge's own count: a faster answer of another kind is no better one.
    let answered = statuses(edge, status)? - before;
    if answered < sent {
        bail!("{path}: {answered} of {sent} were answered with {status}");
    }
    Ok((rate, p99))
}

/// Answers with this status so far, by the edge's metrics.
fn statuses(edge: &Edge, status: u16) -> anyhow::Result<u64> {
    use std::io::{Read, Write};
    // Workers add what they counted four times a second.
    std::thread::sleep(Duration::from_millis(600));
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", edge.private_port()))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    let begin = format!("seckill_edge_requests_total{{status=\"{status}\"}} ");
    Ok(page.lines().find_map(|line| line.strip_prefix(&begin)?.parse().ok()).unwrap_or(0))
}

/// `1.23ms`, `450.00us` or `1.02s`.
fn milliseconds(text: &str) -> Option<f64> {
    let (number, factor) = if let Some(n) = text.strip_suffix("us") {
        (n, 0.001)
    } else if let Some(n) = text.strip_suffix("ms") {
        (n, 1.0)
    } else {
        (text.strip_suffix('s')?, 1_000.0)
    };
    Some(number.parse::<f64>().ok()? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_any_unit() {
        assert_eq!(milliseconds("1.50ms"), Some(1.5));
        assert_eq!(milliseconds("500.00us"), Some(0.5));
        assert_eq!(milliseconds("2.00s"), Some(2_000.0));
        assert_eq!(milliseconds("fast"), None);
    }
}
