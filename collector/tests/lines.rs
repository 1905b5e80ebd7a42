//! Every kind of line and its one expected end: golden lines of both formats, and the bad-input table.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, LazyLock};

use collector::decode::{MAX_LINE, Method, decode};
use collector::{ClassifierOptions, Decoder, Fate, Reader};
use proptest::prelude::*;

const HEAD: &str = r#"10.0.0.7 - - [22/Jan/2019:03:56:14 +0330] "#;

fn combined(request: &str, status: &str, size: &str) -> String {
    format!(r#"{HEAD}"{request}" {status} {size} "https://shop.example/" "Firefox/64.0" "-""#)
}

/// The fate of a line in a few words.
fn fate(line: &[u8]) -> String {
    static DECODER: LazyLock<Arc<Decoder>> =
        LazyLock::new(|| Arc::new(Decoder::new(ClassifierOptions::default()).unwrap()));
    match Reader::new(Arc::clone(&DECODER)).fate(line, 7) {
        Fate::Event(e) => format!("{} {} {} {}", e.kind.as_str(), e.page, e.status, e.at),
        Fate::Filtered(reason) => format!("filtered {reason}"),
        Fate::Dead(reason) => format!("dead {reason}"),
    }
}

#[test]
fn a_combined_line_reads_field_by_field() {
    let text = r#"2001:db8::7 - a [b] "GET /m/product/42/%D9%88?x=\x22 HTTP/2.0" 304 - "-" "A \"quoted\" \x22agent\x22" "10.1.1.1, 10.2.2.2" 0.005"#
        .replace("a [b]", "a [b] [22/Jan/2019:03:56:14 +0330]");
    let line = decode(text.as_bytes()).unwrap();
    assert_eq!(line.at.to_string(), "2019-01-22T00:26:14.000Z");
    assert_eq!(line.remote_addr, "2001:db8::7");
    assert_eq!(line.method, Method::Get);
    assert_eq!(line.target, r"/m/product/42/%D9%88?x=\x22");
    assert_eq!(line.status, 304);
    assert_eq!(line.user_agent, r#"A \"quoted\" \x22agent\x22"#);
    assert_eq!(line.visitor, None);
}

#[test]
fn an_edge_line_reads_field_by_field() {
    let text = concat!(
        r#"{"time":"2026-11-11T00:01:00.123+00:00","remote_addr":"10.0.0.1","method":"POST","#,
        r#""uri":"/v1/sales/eleven/products/SKU\u002d1/purchases","status":"410","bytes":12,"request_time":0.003,"#,
        r#""upstream_status":"","upstream_time":null,"request_id":"r1","visitor":"v-1","buyer":"b","referer":"","#,
        r#""user_agent":"A \"quoted\" \uD83D\uDE00 agent","product":"SKU-1","later":{"a":[1,{"b":"}"}]},"x":true}"#
    );
    let line = decode(text.as_bytes()).unwrap();
    assert_eq!(line.at.to_string(), "2026-11-11T00:01:00.123Z");
    assert_eq!(line.remote_addr, "10.0.0.1");
    assert_eq!(line.method, Method::Post);
    assert_eq!(line.target, "/v1/sales/eleven/products/SKU-1/purchases");
    assert_eq!(line.status, 410);
    assert_eq!(line.user_agent, "A \"quoted\" 😀 agent");
    assert_eq!(line.visitor.as_deref(), Some("v-1"));
    assert_eq!(fate(text.as_bytes()), "attempt SKU-1 410 2026-11-11T00:01:00.123Z");
}

#[test]
fn every_case_of_a_combined_line_has_its_end() {
    let view = |request: &str| combined(request, "200", "5");
    let good = view("GET /product/42 HTTP/1.1");
    let huge = view(&format!("GET /product/42?{} HTTP/1.1", "x".repeat(MAX_LINE)));
    let at = |time: &str| good.replace("22/Jan/2019:03:56:14 +0330", time);
    let seen = "2019-01-22T00:26:14.000Z";
    let view_42 = format!("view 42 200 {seen}");
    let cases: Vec<(&str, Vec<u8>, String)> = vec![
        ("good", good.clone().into(), view_42.clone()),
        ("LF", format!("{good}\n").into(), view_42.clone()),
        ("CRLF", format!("{good}\r\n").into(), view_42.clone()),
        ("byte order mark", format!("\u{feff}{good}").into(), view_42.clone()),
        ("no trailing field", good.trim_end_matches(r#" "-""#).into(), view_42.clone()),
        ("empty", "".into(), "dead empty".into()),
        ("only a line end", "\r\n".into(), "dead empty".into()),
        ("blanks", " \t ".into(), "dead empty".into()),
        ("truncated in the time", good[..30].into(), "dead truncated".into()),
        ("truncated in the request", good[..60].into(), "dead truncated".into()),
        ("truncated behind the request", good[..good.find(" 200").unwrap()].into(), "dead missing_field".into()),
        ("truncated in the status", good[..good.find("00 5").unwrap()].into(), "dead bad_status".into()),
        ("truncated behind the status", good[..good.find(" 5 ").unwrap()].into(), "dead missing_field".into()),
        ("no user agent", good[..good.find(" \"Firefox").unwrap()].into(), "dead missing_field".into()),
        ("truncated in the agent", good[..good.find("/64.0").unwrap()].into(), "dead truncated".into()),
        ("truncated in the last field", good[..good.len() - 1].into(), "dead truncated".into()),
        ("escaped closing quote", good.replace(r#"64.0""#, r#"64.0\""#).into(), "dead malformed".into()),
        ("text", "hello world".into(), "dead missing_field".into()),
        ("no address", good.replace("10.0.0.7 - - ", "").into(), "dead missing_field".into()),
        ("no time", good.replace("[22/Jan/2019:03:56:14 +0330] ", "").into(), "dead missing_field".into()),
        ("quote runs on", good.replace(r#"64.0" "#, r#"64.0"x "#).into(), "dead malformed".into()),
        ("no quotes", good.replace(r#""https://shop.example/""#, "-").into(), "dead malformed".into()),
        ("two blanks", good.replace(" 200 ", "  200 ").into(), "dead bad_status".into()),
        ("binary", b"\x7fELF\x02\x01\x01\x03".into(), "dead binary".into()),
        ("terminal escape", good.replace("Firefox", "\u{1b}[31m").into(), "dead binary".into()),
        ("hole of NULs", vec![0; 300], "dead nul".into()),
        ("NUL", good.replace("Firefox", "Fire\0fox").into(), "dead nul".into()),
        ("invalid UTF-8", [good.as_bytes(), b" \xff\xfe"].concat(), "dead not_utf8".into()),
        ("overlong UTF-8", [good.as_bytes(), b" \xc0\xaf"].concat(), "dead not_utf8".into()),
        ("64 KiB and more", huge.into(), "dead too_long".into()),
        ("1 MiB", vec![b'a'; 1 << 20], "dead too_long".into()),
        ("IPv6", good.replace("10.0.0.7", "2001:db8::ff00:42:8329").into(), view_42.clone()),
        ("unix socket", good.replace("10.0.0.7", "unix:").into(), view_42.clone()),
        ("future", at("22/Jan/9998:03:56:14 +0330").into(), "view 42 200 9998-01-22T00:26:14.000Z".into()),
        ("ancient", at("02/Jan/1970:03:56:14 +0330").into(), "view 42 200 1970-01-02T00:26:14.000Z".into()),
        ("before the epoch", at("22/Jan/1969:03:56:14 +0330").into(), "dead bad_time".into()),
        ("leap second", at("31/Dec/2016:23:59:60 +0000").into(), "view 42 200 2016-12-31T23:59:59.000Z".into()),
        ("no such day", at("30/Feb/2019:03:56:14 +0330").into(), "dead bad_time".into()),
        ("no zone", at("22/Jan/2019:03:56:14").into(), "dead bad_time".into()),
        ("ISO time", at("2019-01-22T03:56:14+03:30").into(), view_42.clone()),
        ("non-ASCII behind the page", view("GET /product/42/کفش HTTP/1.1").into(), view_42.clone()),
        ("non-ASCII page", view("GET /product/کفش HTTP/1.1").into(), "filtered bad_page".into()),
        ("percent-encoded page", view("GET /product/%D9%88 HTTP/1.1").into(), format!("view %D9%88 200 {seen}")),
        ("..", view("GET /product/../admin HTTP/1.1").into(), "filtered bad_page".into()),
        ("negative id", view("GET /product/-1 HTTP/1.1").into(), format!("view -1 200 {seen}")),
        (
            "overflowing id",
            view("GET /product/18446744073709551616 HTTP/1.1").into(),
            format!("view 18446744073709551616 200 {seen}"),
        ),
        ("huge id", view(&format!("GET /product/{} HTTP/1.1", "9".repeat(4000))).into(), "filtered bad_page".into()),
        ("status 000", combined("GET /product/42 HTTP/1.1", "000", "0").into(), "filtered status".into()),
        ("status 499", combined("GET /product/42 HTTP/1.1", "499", "0").into(), "filtered status".into()),
        ("status -1", combined("GET /product/42 HTTP/1.1", "-1", "0").into(), "dead bad_status".into()),
        ("status 2000", combined("GET /product/42 HTTP/1.1", "2000", "0").into(), "dead bad_status".into()),
        ("status text", combined("GET /product/42 HTTP/1.1", "OK!", "0").into(), "dead bad_status".into()),
        ("size -", combined("GET /product/42 HTTP/1.1", "200", "-").into(), view_42.clone()),
        ("size -5", combined("GET /product/42 HTTP/1.1", "200", "-5").into(), "dead bad_size".into()),
        ("size overflows", combined("GET /product/42 HTTP/1.1", "200", &"9".repeat(30)).into(), "dead bad_size".into()),
        ("method garbage", view(r"\x16\x03\x01 /product/42 HTTP/1.1").into(), "dead bad_method".into()),
        ("TLS on a plain port", combined(r"\x16\x03\x01\x00\xF4", "400", "157").into(), "dead bad_method".into()),
        ("unknown method", view("BREW /product/42 HTTP/1.1").into(), "filtered method".into()),
        ("lower-case method", view("get /product/42 HTTP/1.1").into(), "filtered method".into()),
        ("no request, dash", combined("-", "400", "0").into(), "filtered no_request".into()),
        ("no request, nothing", combined("", "408", "0").into(), "filtered no_request".into()),
        ("only a method", view("GET").into(), "dead bad_request".into()),
        ("no target", view("GET  HTTP/1.1").into(), "dead bad_request".into()),
        ("blank in the target", view("GET /product/42/a b HTTP/1.1").into(), view_42.clone()),
        ("garbage version", view("GET /product/42 HTTPS/one").into(), "dead bad_request".into()),
        ("HTTP/0.9", view("GET /product/42").into(), view_42.clone()),
        ("HTTP/2", view("GET /product/42 HTTP/2.0").into(), view_42.clone()),
        ("HTTP/3", view("GET /product/42 HTTP/3.0").into(), view_42.clone()),
        ("JSON array", "[1,2]".into(), "dead missing_field".into()),
        // What a client writes cannot pose as a line's structure.
        (
            "forged fields in the agent",
            good.replace("Firefox/64.0", r#"x\x22 \x22[22/Jan/2030:00:00:00 +0000] \"GET /product/666 HTTP/1.1\" 200"#)
                .into(),
            view_42.clone(),
        ),
        (
            "forged time in the user's name",
            good.replace("- - ", "- [01/Jan/2030:00:00:00 +0000] ").into(),
            view_42.clone(),
        ),
    ];
    for (case, line, end) in cases {
        assert_eq!(fate(&line), end, "{case}: {}", String::from_utf8_lossy(&line[..line.len().min(300)]));
    }
}

#[test]
fn every_case_of_an_edge_line_has_its_end() {
    let good = concat!(
        r#"{"time":"2026-11-11T00:01:00.123Z","remote_addr":"10.0.0.1","method":"GET","uri":"/product/42?a=1","#,
        r#""status":200,"visitor":"v1","user_agent":"Firefox/64.0","product":"42"}"#
    );
    let view = "view 42 200 2026-11-11T00:01:00.123Z";
    let without = |field: &str| {
        let start = good.find(&format!("\"{field}\"")).unwrap();
        let end = start + good[start..].find(',').unwrap() + 1;
        format!("{}{}", &good[..start], &good[end..])
    };
    let with = |from: &str, to: &str| {
        assert!(good.contains(from));
        good.replace(from, to)
    };
    let cases: Vec<(&str, String, &str)> = vec![
        ("good", good.to_owned(), view),
        ("CRLF", format!("{good}\r\n"), view),
        ("blanks", good.replace(':', " :\t").replace("00 :\t01 :\t00", "00:01:00"), view),
        ("status as text", with("200", "\"200\""), view),
        ("unknown fields", with("\"status\"", r#""x":[{"y":[null,-1.5e3]}],"z":"\u0000","status""#), view),
        ("no visitor", without("visitor"), view),
        ("empty visitor", with("\"v1\"", "\"\""), view),
        ("null visitor", with("\"v1\"", "null"), view),
        ("no address but a visitor", without("remote_addr"), view),
        ("neither", without("visitor").replace("10.0.0.1", ""), "dead missing_field"),
        ("no agent", without("user_agent"), view),
        ("no time", without("time"), "dead missing_field"),
        ("no method", without("method"), "dead missing_field"),
        ("no uri", without("uri"), "dead missing_field"),
        ("no status", without("status"), "dead missing_field"),
        ("empty object", "{}".to_owned(), "dead missing_field"),
        ("bot", with("Firefox/64.0", "Mozilla/5.0 (compatible; Googlebot/2.1)"), "filtered bot"),
        ("no request", with("\"GET\"", "\"\"").replace("/product/42?a=1", ""), "filtered no_request"),
        ("method without target", with("/product/42?a=1", ""), "dead bad_request"),
        ("time as a number", with("\"2026-11-11T00:01:00.123Z\"", "1794355260.123"), "dead bad_time"),
        ("no time at all", with("2026-11-11T00:01:00.123Z", "yesterday"), "dead bad_time"),
        ("status 20", with(":200", ":20"), "dead bad_status"),
        ("status 2e2", with(":200", ":2e2"), "dead bad_status"),
        ("status null", with(":200", ":null"), "dead bad_status"),
        ("status -200", with(":200", ":-200"), "dead bad_status"),
        ("method garbage", with("\"GET\"", r#""\u0016\u0003""#), "dead bad_method"),
        ("uri as an object", with(r#""/product/42?a=1""#, "{}"), "dead bad_json"),
        ("field twice", with("\"status\"", r#""uri":"/product/43","status""#), "dead bad_json"),
        ("field twice, escaped", with("\"status\"", r#""\u0075ri":"/product/43","status""#), "dead bad_json"),
        ("bad escape", with("Firefox", r"\x22"), "dead bad_json"),
        ("lone surrogate", with("Firefox", r"\ud800"), "dead bad_json"),
        ("raw tab", with("Firefox", "\t"), "dead bad_json"),
        ("trailing comma", with("\"42\"}", "\"42\",}"), "dead bad_json"),
        ("trailing text", format!("{good} x"), "dead bad_json"),
        ("two objects", format!("{good}{good}"), "dead bad_json"),
        ("no colon", with("\"status\":", "\"status\" "), "dead bad_json"),
        ("deep nesting", with("\"status\"", &format!("\"x\":{},\"status\"", "[".repeat(30_000))), "dead bad_json"),
        ("cut in a key", good[..5].to_owned(), "dead truncated"),
        ("cut in a value", good[..20].to_owned(), "dead truncated"),
        ("cut behind a backslash", format!("{}\\", &good[..20]), "dead truncated"),
        ("cut before the end", good[..good.len() - 1].to_owned(), "dead truncated"),
        ("cut in a word", r#"{"a":tru"#.to_owned(), "dead truncated"),
        ("cut in an array", r#"{"a":[1,"#.to_owned(), "dead truncated"),
        ("only a brace", "{".to_owned(), "dead truncated"),
        ("non-ASCII page", with("42?a=1", "کفش"), "filtered bad_page"),
        ("control character in the page", with("42?a=1", r"4\u00002"), "filtered bad_page"),
        // A user agent cannot forge a field.
        ("forged field", with("Firefox", r#"x\",\"uri\":\"/product/666\",\"y\":\""#), view),
    ];
    for (case, line, end) in cases {
        assert_eq!(fate(line.as_bytes()), end, "{case}: {}", &line[..line.len().min(300)]);
    }
}

/// A good line of either format with some bytes changed, cut or put in.
fn mutilated() -> impl Strategy<Value = Vec<u8>> {
    let edge = r#"{"time":"2026-11-11T00:01:00.123Z","remote_addr":"10.0.0.1","method":"GET","uri":"/product/42","status":200,"visitor":"v1","user_agent":"F\u00e4\n","x":[{}]}"#;
    let lines = prop_oneof![Just(combined("GET /product/42 HTTP/1.1", "200", "5")), Just(edge.to_owned())];
    let bytes = prop_oneof![any::<u8>(), Just(b'"'), Just(b'\\'), Just(b' '), Just(b'{'), Just(b'['), Just(b']')];
    let edits = proptest::collection::vec((any::<prop::sample::Index>(), 0..4u8, bytes), 0..6);
    (lines, edits).prop_map(|(line, edits)| {
        let mut line = line.into_bytes();
        for (place, how, byte) in edits {
            if line.is_empty() {
                break;
            }
            let at = place.index(line.len());
            match how {
                0 => line[at] = byte,
                1 => line.insert(at, byte),
                2 => drop(line.remove(at)),
                _ => line.truncate(at),
            }
        }
        line
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn no_bytes_make_the_decoder_panic(line in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = fate(&line);
        let _ = fate(&[b"{".as_slice(), &line].concat());
        let _ = fate(&[HEAD.as_bytes(), b"\"", &line].concat());
    }

    #[test]
    fn no_damaged_line_makes_the_decoder_panic(line in mutilated()) {
        let _ = fate(&line);
    }

    /// What serde_json refuses as a whole is never an event, whatever the scanner skips over.
    #[test]
    fn a_line_cut_off_is_never_an_event(cut in 0usize..150) {
        let edge = r#"{"time":"2026-11-11T00:01:00.123Z","method":"GET","uri":"/product/42","status":200,"visitor":"v1","x":[{"a":"b"}],"y":"\"}"}"#;
        prop_assume!(cut < edge.len());
        prop_assert!(fate(&edge.as_bytes()[..cut]).starts_with("dead"));
    }
}
