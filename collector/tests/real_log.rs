//! A real shop's log: every line accounted for, and the views equal a count made without our parser.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use collector::{ClassifierOptions, Decoder, Fate, Reader};
use common::{Shop, until};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/shop_access.log");

fn real_log() -> Option<String> {
    let text = std::fs::read_to_string(PATH).ok();
    if text.is_none() {
        println!("skipped: {PATH} is not there");
    }
    text
}

/// Views per page by splitting at quotes and blanks, bots left out by `bot` (a very short list will do here).
fn naive(text: &str, bot: impl Fn(&str) -> bool) -> BTreeMap<String, u64> {
    let mut views = BTreeMap::new();
    for line in text.lines() {
        let quoted: Vec<_> = line.split('"').collect();
        let [method, path, ..] = quoted[1].split(' ').collect::<Vec<_>>()[..] else { continue };
        let status = quoted[2].trim().split(' ').next().unwrap();
        let path = path.strip_prefix("/m").filter(|rest| rest.starts_with("/product/")).unwrap_or(path);
        let Some(rest) = path.strip_prefix("/product/") else { continue };
        let page = rest.split(['/', '?']).next().unwrap();
        let shown = status.starts_with('2') || status == "304";
        if method == "GET" && shown && !page.is_empty() && !bot(quoted[5]) {
            *views.entry(page.to_owned()).or_default() += 1;
        }
    }
    views
}

#[test]
fn raw_views_equal_a_naive_count() {
    let Some(text) = real_log() else { return };
    let mut reader = Reader::new(Arc::new(Decoder::new(ClassifierOptions::raw()).unwrap()));
    let mut views: BTreeMap<String, u64> = BTreeMap::new();
    let started = Instant::now();
    for line in text.lines() {
        match reader.fate(line.as_bytes(), 0) {
            Fate::Event(event) => *views.entry(event.page.to_string()).or_default() += 1,
            Fate::Filtered(_) => {}
            Fate::Dead(reason) => panic!("{reason}: {line}"),
        }
    }
    println!("{:.0} lines/s", text.lines().count() as f64 / started.elapsed().as_secs_f64());
    assert_eq!(views, naive(&text, |_| false));
}

#[tokio::test]
async fn every_line_of_the_real_log_is_accounted_for() {
    let Some(text) = real_log() else { return };
    let shop = Shop::new();
    shop.append("access.log", &text);
    let running = shop.start().await;
    until("the log is read", || running.handle.caught_up()).await;
    let books = running.handle.accounting();
    running.stop().await;
    println!("{}", serde_json::to_string(&books).unwrap());
    assert_eq!(books.lines, 10_018);
    assert!(books.adds_up());
    assert_eq!(books.dead_total(), 0);
    let bots = books.filtered[&collector::FilterReason::Bot] as f64 / books.lines as f64;
    assert!((0.38..0.41).contains(&bots), "about 39 % are bots, not {bots}");
    let bot = |agent: &str| {
        let agent = agent.to_lowercase();
        ["bot", "crawl", "spider", "http://", "https://", "python", "curl", "slurp"].iter().any(|t| agent.contains(t))
    };
    let (views, repeats) = shop.counted().await;
    assert_eq!((views, repeats), (naive(&text, bot), 0));
}

/// Prints how fast lines are decoded; asserts nothing, as machines differ.
#[test]
fn decoding_speed() {
    let mut reader = Reader::new(Arc::new(Decoder::new(ClassifierOptions::default().without_rates()).unwrap()));
    let combined = r#"10.0.0.7 - - [22/Jan/2019:03:56:14 +0330] "GET /product/42/19787/red-shoe-of-the-year HTTP/1.1" 200 30577 "https://shop.example/browse" "Mozilla/5.0 (Linux; Android 6.0; ALE-L21 Build/HuaweiALE-L21) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/66.0.3359.158 Mobile Safari/537.36" "-""#;
    let edge = r#"{"time":"2026-11-11T00:01:00.123Z","remote_addr":"10.0.0.1","method":"GET","uri":"/product/42?a=1","status":200,"bytes":5120,"request_time":0.003,"upstream_status":"200","upstream_time":"0.002","request_id":"0123456789abcdef0123456789abcdef","visitor":"5f2b6c1d","buyer":"","referer":"https://shop.example/","user_agent":"Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0","product":"42"}"#;
    let other = combined.replace("/product/42/", "/browse/42/");
    for (name, line) in [("combined view", combined), ("combined other", &other), ("edge view", edge)] {
        let started = Instant::now();
        let count = 100_000;
        for offset in 0..count {
            std::hint::black_box(reader.fate(std::hint::black_box(line.as_bytes()), offset));
        }
        println!("{name}: {:.0} lines/s, {} bytes each", count as f64 / started.elapsed().as_secs_f64(), line.len());
    }
}
