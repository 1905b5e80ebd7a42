//! Records as shippers write them, and as nobody should: each has its one end, whatever was read before.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// Exactly as Filebeat 8.1.3 wrote it.
const REAL: &str = r#"{"@timestamp":"2026-11-23T21:41:40.934Z","@metadata":{"beat":"filebeat","type":"_doc","version":"8.1.3"},"agent":{"version":"8.1.3","ephemeral_id":"d6c7f968-b30d-45c7-a82f-2198a6c8c446","id":"bfedc93c-58a2-42f3-b5d4-8f182644cad8","name":"vm","type":"filebeat"},"log":{"file":{"path":"/var/log/nginx/access.log"},"offset":598},"message":"10.0.0.2 - - [22/Jan/2019:03:56:16 +0330] \"GET /image/61474/productModel/200x200 HTTP/1.1\" 200 5379 \"-\" \"Mozilla/5.0\" \"-\"","input":{"type":"filestream"},"fields":{"log_topic":"ngx"},"ecs":{"version":"8.0.0"},"host":{"name":"vm"}}"#;

#[test]
fn a_real_record_opens() {
    let mut opener = Opener::default();
    for _ in 0..2 {
        let envelope = opener.open(REAL.as_bytes()).unwrap();
        assert_eq!(
            str::from_utf8(&envelope.message).unwrap(),
            r#"10.0.0.2 - - [22/Jan/2019:03:56:16 +0330] "GET /image/61474/productModel/200x200 HTTP/1.1" 200 5379 "-" "Mozilla/5.0" "-""#
        );
        assert_eq!(envelope.offset, Some(598));
        assert_eq!(envelope.origin.path.as_deref(), Some("/var/log/nginx/access.log"));
        assert_eq!(envelope.origin.agent.as_deref(), Some("bfedc93c-58a2-42f3-b5d4-8f182644cad8"));
        assert_eq!(envelope.origin.host.as_deref(), Some("vm"));
    }
}

#[test]
fn a_remembered_member_is_not_taken_for_a_longer_one() {
    let mut opener = Opener::default();
    opener.open(REAL.as_bytes()).unwrap();
    let longer = REAL.replace(r#""host":{"name":"vm"}"#, r#""host":{"name":"vm"},"agent":{"id":"other"}"#);
    assert_eq!(opener.open(longer.as_bytes()), Err(DeadReason::DuplicateKey));
    let behind = REAL.replace(r#"{"log_topic":"ngx"}"#, r#"{"log_topic":"ngx"}x"#);
    assert_eq!(opener.open(behind.as_bytes()), Err(DeadReason::BadJson));
    // What is known at one place means nothing at another.
    let moved = REAL.replace(r#""file":{"path":"/var/log/nginx/access.log"}"#, r#""agent":{"version":"8.1.3"}"#);
    assert_eq!(opener.open(moved.as_bytes()).unwrap().origin.path, None);
}

#[test]
fn nothing_of_a_refused_record_is_remembered() {
    let of = |beat: &str, agent: &str| {
        format!(
            r#"{{"@metadata":{{"beat":"filebeat","type":"_doc","version":"{beat}"}},"agent":{{"type":"filebeat","version":"{agent}"}},"message":"a"}}"#
        )
    };
    let mut opener = Opener::default();
    // Refused twice over: the second reason must not make its member look harmless.
    assert_eq!(opener.open(of("4.1.3", "4.1.3").as_bytes()), Err(DeadReason::UnknownVersion));
    assert_eq!(opener.open(of("8.1.3", "4.1.3").as_bytes()), Err(DeadReason::UnknownVersion));
    assert!(opener.open(of("8.1.3", "8.1.3").as_bytes()).is_ok());
}

/// What serde_json finds in the same bytes.
fn expected(record: &[u8]) -> Option<(String, Option<u64>, Option<String>)> {
    let value: Value = serde_json::from_slice(record).ok()?;
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    let offset = value.pointer("/log/offset").or(value.pointer("/offset")).and_then(Value::as_u64);
    let path = text("/log/file/path").or(text("/file")).filter(|path| !path.is_empty());
    Some((text("/message")?, offset, path))
}

fn agrees(opener: &mut Opener, record: &[u8]) -> Result<(), TestCaseError> {
    let fresh = open(record);
    let used = opener.open(record).map(Envelope::into_owned);
    prop_assert_eq!(&fresh, &used, "memory changes nothing: {}", String::from_utf8_lossy(record));
    if let Ok(envelope) = used {
        // Whoever reads the message looks at its UTF-8; serde_json does at once.
        let Ok(message) = String::from_utf8(envelope.message.into_owned()) else { return Ok(()) };
        let found = (message, envelope.offset, envelope.origin.path.map(Cow::into_owned));
        prop_assert_eq!(Some(found), expected(record), "{}", String::from_utf8_lossy(record));
    }
    Ok(())
}

fn shuffled() -> impl Strategy<Value = (Vec<usize>, String, u64, String)> {
    (Just((0..9).collect::<Vec<usize>>()).prop_shuffle(), any::<String>(), any::<u64>(), "[a-z/\\\\\"é]{0,12}")
}

fn record((order, message, offset, path): &(Vec<usize>, String, u64, String)) -> String {
    let members = [
        ("@timestamp", json!("2026-11-23T21:41:40.934Z")),
        ("@metadata", json!({"beat": "filebeat", "version": "7.17.3"})),
        ("agent", json!({"id": "a", "version": "7.17.3", "type": "filebeat", "nested": {"x": [1, {"y": null}]}})),
        ("log", json!({"offset": offset, "file": {"path": path}})),
        ("message", json!(message)),
        ("input", json!({"type": "filestream"})),
        ("fields", json!({"an unusually long name": "and a value of some length", "list": [1.5, -2e9, true]})),
        ("ecs", json!({"version": "1.12.0"})),
        ("host", json!({"name": "vm", "ip": ["10.0.0.1", "fe80::1"]})),
    ];
    let text: Vec<_> = order.iter().map(|i| format!("{}:{}", json!(members[*i].0), members[*i].1)).collect();
    format!("{{{}}}", text.join(","))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn records_read_as_serde_json_reads_them(all in proptest::collection::vec(shuffled(), 1..8)) {
        let mut opener = Opener::default();
        for parts in &all {
            let text = record(parts);
            agrees(&mut opener, text.as_bytes())?;
            let opened = opener.open(text.as_bytes());
            prop_assert!(opened.is_ok() || opened == Err(DeadReason::NestedEnvelope), "{opened:?}: {text}");
        }
    }

    #[test]
    fn damaged_records_never_pass_for_what_they_are_not(
        parts in shuffled(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0..4u8, prop_oneof![
            any::<u8>(), Just(b'"'), Just(b'\\'), Just(b'{'), Just(b'}'), Just(b','), Just(b':'), Just(b'u')
        ]), 0..5),
    ) {
        let mut opener = Opener::default();
        let whole = record(&parts);
        let _ = opener.open(whole.as_bytes());
        for text in [whole.into_bytes(), REAL.as_bytes().to_vec()] {
            let mut bytes = text;
            for (place, how, byte) in &edits {
                if bytes.is_empty() {
                    break;
                }
                let at = place.index(bytes.len());
                match how {
                    0 => bytes[at] = *byte,
                    1 => bytes.insert(at, *byte),
                    2 => drop(bytes.remove(at)),
                    _ => bytes.truncate(at),
                }
                agrees(&mut opener, &bytes)?;
            }
        }
    }
}
