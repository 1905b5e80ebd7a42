//! The bad-input table's row "Filebeat envelope": every record and its one expected end, by the decoder and by the
//! reader with a memory alike.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use collector::decode::envelope::MAX_ENVELOPE;
use collector::{ClassifierOptions, Decoder, Fate, Opener, Outcome, Reader};

const LINE: &str =
    r#"10.0.0.7 - - [22/Jan/2019:03:56:14 +0330] \"GET /product/42 HTTP/1.1\" 200 5 \"-\" \"Firefox/64.0\" \"-\""#;
const VIEW: &str = "view 42 200 2019-01-22T00:26:14.000Z";

/// A record of Filebeat 8.1.3 around `message`, which stands as it is in JSON.
fn around(message: &str) -> String {
    format!(
        concat!(
            r#"{{"@timestamp":"2026-11-23T21:41:40.934Z","@metadata":{{"beat":"filebeat","type":"_doc","version":"8.1.3"}},"#,
            r#""agent":{{"version":"8.1.3","id":"bfedc93c","name":"vm","type":"filebeat"}},"#,
            r#""log":{{"file":{{"path":"/var/log/nginx/access.log"}},"offset":598}},"message":{},"#,
            r#""input":{{"type":"filestream"}},"fields":{{"log_topic":"ngx"}},"ecs":{{"version":"8.0.0"}},"host":{{"name":"vm"}}}}"#
        ),
        message
    )
}

fn decoder() -> Arc<Decoder> {
    Arc::new(Decoder::new(ClassifierOptions::default()).unwrap())
}

/// The fate in a few words, the same whatever the reader has read before, and by way of the topic.
fn fate(reader: &mut Reader, record: &[u8]) -> String {
    let alone = Reader::new(decoder()).fate(record, 7);
    for _ in 0..2 {
        assert_eq!(reader.fate(record, 7), alone);
    }
    let mut opener = Opener::default();
    let shipped = match opener.open_any(record) {
        Ok(opened) => reader.message(&opened, 7, |_| {}),
        Err(reason) => Outcome::Dead(reason),
    };
    match (&alone, shipped) {
        (Fate::Event(_), Outcome::Event) => {}
        (Fate::Filtered(a), Outcome::Filtered(b)) => assert_eq!(*a, b),
        (Fate::Dead(a), Outcome::Dead(b)) => assert_eq!(*a, b),
        (a, b) => panic!("{a:?} as a line, {b:?} as a record"),
    }
    match alone {
        Fate::Event(e) => format!("{} {} {} {}", e.kind.as_str(), e.page, e.status, e.at),
        Fate::Filtered(reason) => format!("filtered {reason}"),
        Fate::Dead(reason) => format!("dead {reason}"),
    }
}

#[test]
fn every_case_of_an_envelope_has_its_end() {
    let quoted = format!("\"{LINE}\"");
    let good = around(&quoted);
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1)
    };
    let edge = r#"{\"time\":\"2026-11-11T00:01:00.123Z\",\"remote_addr\":\"10.0.0.1\",\"method\":\"GET\",\"uri\":\"/product/42\",\"status\":200}"#;
    let nested = around(&serde_json::to_string(&good).unwrap());
    let deep = |levels: usize| {
        format!("\"fields\":{{\"x\":{}{}}},\"more\":{{\"log_topic\"", "[".repeat(levels), "]".repeat(levels))
    };
    let topic = r#""fields":{"log_topic""#;
    let cases: Vec<(&str, String, &str)> = vec![
        ("good", good.clone(), VIEW),
        ("LF", format!("{good}\n"), VIEW),
        ("CRLF", format!("{good}\r\n"), VIEW),
        ("byte order mark", format!("\u{feff}{good}"), VIEW),
        ("version 7", good.replace("8.1.3", "7.17.28"), VIEW),
        ("version 8.19", good.replace("8.1.3", "8.19.0"), VIEW),
        ("version 9", good.replace("8.1.3", "9.2.1"), VIEW),
        ("version 6", good.replace("8.1.3", "6.8.23"), "dead unknown_version"),
        ("version 99", good.replace("8.1.3", "99.0.0"), "dead unknown_version"),
        ("version as text", good.replace("8.1.3", "latest"), "dead unknown_version"),
        ("version empty", good.replace("8.1.3", ""), "dead unknown_version"),
        ("only the agent's version unknown", with(r#""version":"8.1.3","id""#, r#""version":"10.0.0","id""#), "dead unknown_version"),
        ("version as a number", with(r#""version":"8.1.3"}"#, r#""version":8}"#), "dead wrong_type"),
        ("no metadata", with(r#""@metadata":{"beat":"filebeat","type":"_doc","version":"8.1.3"},"#, ""), VIEW),
        ("no message", with(&format!("\"message\":{quoted},"), ""), "dead missing_message"),
        ("message null", around("null"), "dead missing_message"),
        ("message empty", around("\"\""), "dead empty"),
        ("message blank", around("\"  \""), "dead empty"),
        ("message a number", around("5"), "dead wrong_type"),
        ("message an object", around(r#"{"a":1}"#), "dead wrong_type"),
        ("message an array", around(&format!("[{quoted}]")), "dead wrong_type"),
        ("message true", around("true"), "dead wrong_type"),
        ("edge's line within", around(&format!("\"{edge}\"")), "view 42 200 2026-11-11T00:01:00.123Z"),
        ("JSON string in a JSON string", around(r#""\"GET /product/42\"""#), "dead missing_field"),
        ("foreign JSON within", around(r#""{\"a\":1}""#), "dead missing_field"),
        ("JSON array within", around(r#""[1,2]""#), "dead missing_field"),
        ("record within a record", nested, "dead nested_envelope"),
        // In a line of a file; a record of the topic may be a list: `tests/access_log.rs`.
        ("array", format!("[{good}]"), "dead array"),
        ("array cut off", format!("[{good}"), "dead array"),
        ("array of numbers", "[1,2]".into(), "dead missing_field"),
        ("10 MiB", around(&format!("\"{}\"", "x".repeat(10 << 20))), "dead too_long"),
        ("just too long a line", around(&format!("\"{}\"", "x".repeat(65 * 1024))), "dead too_long"),
        ("just too long a record", with(topic, &format!("\"x\":\"{}\",{topic}", "x".repeat(MAX_ENVELOPE))), "dead too_long"),
        ("60 levels", with(topic, &deep(60)), VIEW),
        ("65 levels", with(topic, &deep(65)), "dead too_deep"),
        ("100,000 levels", with(topic, &deep(100_000)), "dead too_deep"),
        ("message twice", with(topic, &format!("\"message\":\"other\",{topic}")), "dead duplicate_key"),
        ("message twice, escaped", with(topic, &format!("\"m\\u0065ssage\":\"other\",{topic}")), "dead duplicate_key"),
        ("message named with escapes", with("\"message\"", "\"m\\u0065ssage\""), VIEW),
        ("log twice", with(topic, &format!("\"log\":{{}},{topic}")), "dead duplicate_key"),
        ("offset twice", with("\"offset\":598", "\"offset\":598,\"offset\":599"), "dead duplicate_key"),
        ("path twice", with(r#"{"path":"#, r#"{"path":"/x","path":"#), "dead duplicate_key"),
        ("agent twice", with(topic, &format!("\"agent\":{{}},{topic}")), "dead duplicate_key"),
        ("foreign member twice", with(topic, &format!("\"x\":1,\"x\":2,{topic}")), VIEW),
        ("offset a text", with("\"offset\":598", "\"offset\":\"598\""), "dead wrong_type"),
        ("offset negative", with("\"offset\":598", "\"offset\":-1"), "dead wrong_type"),
        ("offset a fraction", with("\"offset\":598", "\"offset\":1.5"), "dead wrong_type"),
        ("offset overflows", with("\"offset\":598", "\"offset\":18446744073709551616"), "dead wrong_type"),
        ("offset null", with("\"offset\":598", "\"offset\":null"), VIEW),
        ("log a text", with(r#""log":{"file":{"path":"/var/log/nginx/access.log"},"offset":598}"#, r#""log":"x""#), "dead wrong_type"),
        ("path a number", with(r#""/var/log/nginx/access.log""#, "5"), "dead wrong_type"),
        ("agent an array", with(topic, topic).replace(r#""agent":{"#, r#""agent":[],"x":{"#), "dead wrong_type"),
        ("escaped unicode", good.replace("GET", r"\u0047\u0045\u0054"), VIEW),
        ("surrogate pair", good.replace("Firefox", r"\ud83d\ude00"), VIEW),
        ("lone high surrogate", good.replace("Firefox", r"\ud83d"), "dead bad_json"),
        ("lone low surrogate", good.replace("Firefox", r"\ude00"), "dead bad_json"),
        ("swapped surrogates", good.replace("Firefox", r"\ude00\ud83d"), "dead bad_json"),
        ("unknown escape", good.replace("Firefox", r"\x46"), "dead bad_json"),
        ("raw control character", good.replace("Firefox", "\u{1}"), "dead bad_json"),
        ("escaped control character", good.replace("Firefox", r"\u0001"), "dead binary"),
        ("escaped NUL", good.replace("Firefox", r"\u0000"), "dead nul"),
        ("line break in the message", good.replace("Firefox", r"\n"), "dead binary"),
        ("escaped line end", good.replace(r#"\"-\"""#, r#"\"-\"\r\n""#), VIEW),
        ("bytes that Filebeat mended", good.replace("Firefox", r"\ufffd\ufffd"), VIEW),
        ("raw multi-byte", good.replace("Firefox", "کفش 😀"), VIEW),
        ("rsyslog's slashes", good.replace('/', "\\/"), VIEW),
        ("rsyslog's own record", format!(r#"{{"message":"{}","host":"web-1"}}"#, LINE.replace('/', "\\/")), VIEW),
        ("rsyslog 8.2302's record by the template of filebeat/README.md", r#"{"message":"10.0.0.9 - - [22\/Jan\/2019:03:56:14 +0330] \"GET \/product\/42?q=\\x22é HTTP\/1.1\" 200 5 \"-\" \"a\/b \\\\ c\" \"-\"","host":{"name":"web-1"},"log":{"offset":885,"file":{"path":"\/var\/log\/nginx\/access.log"}}}"#.into(), VIEW),
        ("Vector's record", format!(r#"{{"file":"/var/log/a.log","host":"web-1","message":"{LINE}","offset":5,"source_type":"file"}}"#), VIEW),
        ("other beat", with(r#""beat":"filebeat""#, r#""beat":"metricbeat""#), "dead other_record"),
        ("other agent", with(r#""type":"filebeat"}"#, r#""type":"heartbeat"}"#), "dead other_record"),
        ("metrics", r#"{"@timestamp":"2026-11-23T21:41:40.934Z","@metadata":{"beat":"metricbeat","version":"8.1.3"},"system":{"load":{"1":0.5}}}"#.into(), "dead other_record"),
        ("another module", with(topic, &format!(r#""event":{{"module":"system","dataset":"system.auth"}},{topic}"#)), "dead other_record"),
        ("Nginx's error log", with(topic, &format!(r#""event":{{"dataset":"nginx.error","module":"nginx"}},{topic}"#)), "dead other_record"),
        ("Nginx's access log", with(topic, &format!(r#""event":{{"dataset":"nginx.access","module":"nginx"}},{topic}"#)), VIEW),
        ("neither envelope nor line", r#"{"a":1}"#.into(), "dead missing_field"),
        ("cut off", good[..good.len() / 2].into(), "dead truncated"),
        ("cut off before its end", good[..good.len() - 1].into(), "dead truncated"),
        ("two records", format!("{good}{good}"), "dead bad_json"),
        ("trailing comma", format!("{},}}", &good[..good.len() - 1]), "dead bad_json"),
        ("single quotes", good.replace("\"ecs\"", "'ecs'"), "dead bad_json"),
        ("NaN", with(topic, &format!("\"x\":NaN,{topic}")), "dead bad_json"),
        ("leading zero", with(topic, &format!("\"x\":01,{topic}")), "dead bad_json"),
        ("blanks everywhere", good.replace("\":", "\" : ").replace(",\"", " ,\t\""), VIEW),
        // A user agent cannot forge a member.
        ("forged member", good.replace("Firefox", r#"x\\\",\\\"message\\\":\\\"y"#), VIEW),
    ];
    let mut reader = Reader::new(decoder());
    for (case, record, end) in &cases {
        assert_eq!(fate(&mut reader, record.as_bytes()), *end, "{case}: {}", &record[..record.len().min(600)]);
    }
    let broken = [good.replace("Firefox", "Fire").as_bytes(), b"\xff"].concat();
    assert_eq!(fate(&mut reader, &broken), "dead bad_json");
    let inside: Vec<u8> = good.replace("Firefox", "\u{1}").bytes().map(|b| if b == 1 { 0xff } else { b }).collect();
    assert_eq!(fate(&mut reader, &inside), "dead not_utf8");
    // Wrong in two ways: one end, whoever reads it (found by the fuzzer).
    let twice =
        good.replace("Firefox", "\u{1}\\u0002").bytes().map(|b| if b == 1 { 0xff } else { b }).collect::<Vec<_>>();
    assert_eq!(fate(&mut reader, &twice), "dead binary");
}

#[test]
fn every_case_of_a_record_of_the_topic_has_its_end() {
    let mut opener = Opener::default();
    for (case, record, end) in [
        ("empty", String::new(), Ok((String::new(), None))),
        ("a line without envelope", "10.0.0.7 - - x".into(), Ok(("10.0.0.7 - - x".into(), None))),
        ("an envelope", around("\"x\""), Ok(("x".into(), Some(598)))),
        ("the edge's line", r#"{"time":"x"}"#.into(), Ok((r#"{"time":"x"}"#.into(), None))),
        ("foreign JSON", r#"{"a":1}"#.into(), Ok((r#"{"a":1}"#.into(), None))),
        ("10 MiB", "x".repeat(10 << 20), Err("too_long")),
        ("broken envelope", around("\"x\"")[..80].to_owned(), Err("truncated")),
    ] {
        let opened = opener.open_any(record.as_bytes());
        let opened = opened
            .map(|e| (String::from_utf8_lossy(&e.message).into_owned(), e.offset))
            .map_err(|reason| reason.as_str());
        assert_eq!(opened, end, "{case}");
    }
    assert_eq!(opener.open_any(b"\xff").unwrap().message.as_ref(), b"\xff", "for the decoder to judge");
    assert_eq!(opener.open(b"[]").unwrap_err().as_str(), "array");
}
