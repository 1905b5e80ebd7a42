//! What each line is said to become, and what all of them came to, on small lines and on a real log.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::sync::Arc;

use collector::explain::{Explainer, Outcome, Summary};
use collector::{ClassifierOptions, Decoder, FilterReason};

const EDGE: &str = r#"{"time":"2026-11-11T00:01:00.123Z","remote_addr":"10.0.0.1","method":"GET","uri":"/product/42?x=1","status":200,"visitor":"v1","user_agent":"Firefox"}"#;

fn explain(lines: &[&str]) -> (Vec<String>, Summary) {
    let decoder = Arc::new(Decoder::new(ClassifierOptions::default()).unwrap());
    let mut explainer = Explainer::new(decoder);
    let explained = lines
        .iter()
        .map(|line| serde_json::to_string(&explainer.line(line.as_bytes(), line.len() as u64 + 1)).unwrap())
        .collect();
    (explained, explainer.finish(3))
}

#[test]
fn each_line_is_explained() {
    let combined = r#"10.0.0.7 - - [11/Nov/2026:00:01:02 +0000] "GET /product/7 HTTP/1.1" 404 5 "-" "Firefox" "-""#;
    let bot = combined.replace("Firefox", "Googlebot/2.1 (+http://www.google.com/bot.html)");
    let dead = combined.replace(" 404 ", " 4x4 ");
    let cut = &combined[..30];
    let enveloped = serde_json::json!({
        "@timestamp": "2026-11-11T00:01:03Z", "@metadata": {"beat": "filebeat", "version": "8.1.3"},
        "log": {"offset": 5, "file": {"path": "/a"}}, "message": EDGE,
    })
    .to_string();
    let (explained, summary) =
        explain(&[EDGE, combined, &bot, &dead, cut, &enveloped, &EDGE.replace("/product/42", "/about")]);
    for (line, words) in explained.iter().zip([
        r#"{"line":1,"offset":0,"outcome":"event","kind":"view","page":"42","at":"2026-11-11T00:01:00.123Z","status":200,"visitor_known":true,"pattern":"views /product/{id}"}"#,
        r#""outcome":"filtered","reason":"status","bot":null,"pattern":"views /product/{id}"}"#,
        r#""outcome":"filtered","reason":"bot","bot":"googlebot","pattern":null}"#,
        r#""outcome":"dead","reason":"bad_status","place":68,"text":"… - - [11/Nov/2026:00:01:02 +0000] \"GET /product/7 HTTP/1.1\" 4x4 5 \"-\" \"Firefox\" \"-\""}"#,
        r#""outcome":"dead","reason":"truncated""#,
        r#""outcome":"event","kind":"view","page":"42","at":"2026-11-11T00:01:00.123Z","status":200,"visitor_known":true"#,
        r#""outcome":"filtered","reason":"not_product","bot":null,"pattern":null}"#,
    ]) {
        assert!(line.ends_with(words) || line.contains(words), "{line}\n{words}");
    }
    assert!(summary.books.adds_up());
    assert_eq!((summary.books.lines, summary.books.events), (7, 2));
    assert_eq!(summary.top.iter().map(|(page, n)| (page.as_str(), *n)).collect::<Vec<_>>(), [("42", 2)]);
    let never: Vec<_> = summary.never_matched.iter().map(|name| &**name).collect();
    assert_eq!(
        never,
        ["views /m/product/{id}", "carts /cart/add/{id}", "attempts /v1/sales/{sale}/products/{id}/purchases"]
    );
}

#[test]
fn a_real_log_is_explained_to_the_last_line() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/shop_access.log");
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("skipped: {path} is not there");
        return;
    };
    let decoder = Arc::new(Decoder::new(ClassifierOptions::default()).unwrap());
    let mut explainer = Explainer::new(decoder);
    let mut bots = 0;
    for line in text.lines() {
        match explainer.line(line.as_bytes(), line.len() as u64 + 1).outcome {
            Outcome::Filtered { reason: FilterReason::Bot, bot, .. } => {
                assert!(bot.is_some(), "every bot has a name");
                bots += 1;
            }
            Outcome::Dead { reason, text, .. } => panic!("{reason}: {text}"),
            _ => {}
        }
    }
    let summary = explainer.finish(10);
    println!("{}", serde_json::to_string(&summary).unwrap());
    assert!(summary.books.adds_up());
    assert_eq!(summary.books.bots.values().sum::<u64>(), bots);
    assert!(summary.books.bots.contains_key("bingbot") || summary.books.bots.contains_key("googlebot"));
    assert_eq!(summary.top.len(), 10);
}
