//! What each line is said to become, and what all of them came to, on small lines and on a real log.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::sync::Arc;

use collector::explain::{Explained, Explainer, Outcome, Summary};
use collector::{ClassifierOptions, Decoder, FilterReason};
use types::Timestamp;

const EDGE: &str = r#"{"time":"2026-11-11T00:01:00.123Z","remote_addr":"10.0.0.1","method":"GET","uri":"/product/42?x=1","status":200,"visitor":"v1","user_agent":"Firefox"}"#;

/// When everything here is explained.
fn now() -> Timestamp {
    "2026-11-11T12:00:00Z".parse().unwrap()
}

fn explain(lines: &[&str]) -> (Vec<String>, Summary) {
    let decoder = Arc::new(Decoder::new(ClassifierOptions::default()).unwrap());
    let mut explainer = Explainer::new(decoder, now());
    let mut explained = Vec::new();
    let mut keep = |line| explained.push(serde_json::to_string(&line).unwrap());
    for line in lines {
        explainer.line(line.as_bytes(), line.len() as u64 + 1, &mut keep);
    }
    let summary = explainer.finish(3, keep);
    (explained, summary)
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

/// Outcomes in a word each.
fn words(explained: &[String]) -> Vec<String> {
    let word = |line: &String| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let said = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
        format!("{} {}{}", line["line"], said("outcome"), said("reason"))
    };
    explained.iter().map(word).collect()
}

#[test]
fn times_are_judged_as_a_collector_would_judge_them() {
    let at = |time: &str| EDGE.replace("2026-11-11T00:01:00.123Z", time);
    let about = at("2026-11-11T00:01:03Z").replace("/product/42", "/about");
    let lines = [
        at("2026-11-11T00:01:00Z"),
        // Wild: nothing of the log lies there. What is no event waits for the word as well, in its place.
        at("2027-11-11T00:01:01Z"),
        about,
        at("2026-11-11T00:01:02Z"),
        at("1999-11-11T00:01:02Z"),
        at("2026-11-11T00:01:03Z"),
        // After a pause of eight hours the log goes on there.
        at("2026-11-11T08:01:03Z"),
        at("2026-11-11T08:01:04Z"),
        // The last line, alone in the future.
        at("2026-11-11T23:01:04Z"),
    ];
    let (explained, summary) = explain(&lines.each_ref().map(String::as_str));
    let expected = [
        "1 event",
        "2 deadfuture",
        "3 filterednot_product",
        "4 event",
        "5 deadancient",
        "6 event",
        "7 event",
        "8 event",
        "9 deadfuture",
    ];
    assert_eq!(words(&explained), expected);
    assert!(summary.books.adds_up());
    assert_eq!((summary.books.lines, summary.books.events), (9, 5));
    assert_eq!(summary.last.unwrap().to_string(), "2026-11-11T08:01:04.000Z");
}

#[test]
fn repeats_and_lists_of_a_shipper_are_told() {
    let record = |offset: u64, line: &str| {
        serde_json::json!({
            "@timestamp": "2026-11-11T00:01:03Z", "@metadata": {"beat": "filebeat", "version": "8.1.3"},
            "log": {"offset": offset, "file": {"path": "/a"}}, "host": {"name": "web-1"}, "message": line,
        })
        .to_string()
    };
    let (first, second) = (record(0, EDGE), record(300, EDGE));
    let other = record(0, EDGE).replace("web-1", "web-2");
    let list = format!("[{second},{first},{}]", record(600, "rubbish"));
    let (explained, summary) = explain(&[&first, &second, &first, &other, &list, EDGE, EDGE]);
    let expected = [
        "1 event",
        "2 event",
        "3 repeat",
        "4 event",
        "5 repeat",
        "5 repeat",
        "5 deadmissing_field",
        "6 event",
        "7 event",
    ];
    assert_eq!(words(&explained), expected);
    assert!(summary.books.adds_up());
    assert_eq!((summary.books.lines, summary.books.repeats), (9, 3));
}

#[test]
fn doubts_of_many_files_end_in_a_bounded_time() {
    // No later line vouches for any of these; the next log's lines are not held back for ever.
    let line = |host: usize, time: &str| {
        serde_json::json!({
            "@timestamp": "2026-11-11T00:01:03Z", "@metadata": {"beat": "filebeat", "version": "8.1.3"},
            "log": {"offset": 5, "file": {"path": "/a"}}, "host": {"name": host.to_string()},
            "message": EDGE.replace("2026-11-11T00:01:00.123Z", time),
        })
        .to_string()
    };
    let decoder = Arc::new(Decoder::new(ClassifierOptions::default()).unwrap());
    let mut explainer = Explainer::new(decoder, now());
    let (mut told, mut most) = (0, 0);
    for host in 0..10_000 {
        let text = line(host % 7_000, if host % 2 == 0 { "2026-11-11T13:00:00Z" } else { "2026-11-11T00:01:00Z" });
        explainer.line(text.as_bytes(), text.len() as u64 + 1, |_| told += 1);
        most = most.max(host + 1 - told);
    }
    assert!(most <= 4_096, "{most} lines waited");
    let summary = explainer.finish(1, |_| told += 1);
    assert_eq!((told, summary.books.lines), (10_000, 10_000));
    assert!(summary.books.adds_up() && summary.books.dead_total() > 0);
}

#[test]
fn a_real_log_is_explained_to_the_last_line() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/shop_access.log");
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("skipped: {path} is not there");
        return;
    };
    let decoder = Arc::new(Decoder::new(ClassifierOptions::default()).unwrap());
    let mut explainer = Explainer::new(decoder, now());
    let mut bots = 0;
    let mut look = |explained: Explained| match explained.outcome {
        Outcome::Filtered { reason: FilterReason::Bot, bot, .. } => {
            assert!(bot.is_some(), "every bot has a name");
            bots += 1;
        }
        Outcome::Dead { reason, text, .. } => panic!("{reason}: {text}"),
        _ => {}
    };
    for line in text.lines() {
        explainer.line(line.as_bytes(), line.len() as u64 + 1, &mut look);
    }
    let summary = explainer.finish(10, look);
    println!("{}", serde_json::to_string(&summary).unwrap());
    assert!(summary.books.adds_up());
    assert_eq!(summary.books.bots.values().sum::<u64>(), bots);
    assert!(summary.books.bots.contains_key("bingbot") || summary.books.bots.contains_key("googlebot"));
    assert_eq!(summary.top.len(), 10);
}
