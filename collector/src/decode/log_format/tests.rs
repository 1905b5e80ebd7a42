//! Formats of shops: what each makes of its lines, and why some cannot be used.
#![allow(clippy::unwrap_used)]

use super::*;

fn read(format: &str, line: &str) -> String {
    let format = Format::parse(format).unwrap();
    match format.decode(line) {
        Ok(line) => format!(
            "{} {} {:?} {} {} agent={} visitor={}",
            line.at,
            line.remote_addr,
            line.method,
            line.target,
            line.status,
            line.user_agent,
            line.visitor.as_deref().unwrap_or("none")
        ),
        Err(reason) => reason.to_string(),
    }
}

const MAIN: &str = r#"log_format main '$remote_addr - $remote_user [$time_local] "$request" '
    '$status $body_bytes_sent "$http_referer" '
    '"$http_user_agent" "$http_x_forwarded_for"';"#;

#[test]
fn combined_with_more_fields_is_read_by_the_quick_way() {
    assert!(matches!(Format::parse(MAIN), Ok(Format::Combined)));
    assert!(matches!(Format::parse("auto"), Ok(Format::Auto)));
    assert!(matches!(Format::parse("edge"), Ok(Format::Edge)));
    let with_cookie = MAIN.replace("http_x_forwarded_for", "cookie_sid");
    assert!(matches!(Format::parse(&with_cookie), Ok(Format::Custom(_))));
}

#[test]
fn each_format_reads_its_lines() {
    let seen = "2019-01-22T00:26:14.000Z";
    let cookie = MAIN.replace("http_x_forwarded_for", "cookie_sid");
    let head = r#"2001:db8::7 - - [22/Jan/2019:03:56:14 +0330] "GET /p/1?a=b HTTP/2.0" 200 5 "-" "Firefox""#;
    let json = r#"escape=json {"ts":"$time_iso8601","ip":"$remote_addr","m":"$request_method","u":"$request_uri","s":$status,"ua":"$http_user_agent","x":"${upstream_addr}"}"#;
    let json_line = r#"{"ts":"2019-01-22T03:56:14+03:30","ip":"10.0.0.1","m":"POST","u":"/p/\"1\u00e9","s":503,"ua":"a \"q\" \\","x":"10.0.0.2:80, 10.0.0.3:80"}"#;
    let tabs = "$msec\t$http_x_forwarded_for\t$request_method\t$uri\t$args\t$status\t$upstream_response_time\t$http_user_agent";
    let spaced = r#"$remote_addr $time_iso8601 $upstream_response_time "$request" $status $request_time"#;
    for (format, line, end) in [
        (
            cookie.as_str(),
            format!(r#"{head} "abc""#),
            format!("{seen} 2001:db8::7 Get /p/1?a=b 200 agent=Firefox visitor=abc"),
        ),
        (&cookie, format!(r#"{head} "-""#), format!("{seen} 2001:db8::7 Get /p/1?a=b 200 agent=Firefox visitor=none")),
        (&cookie, format!(r#"{head} "abc"#), "truncated".into()),
        (&cookie, head.into(), "truncated".into()),
        (&cookie, format!(r#"{head} "abc" more"#), "malformed".into()),
        (&cookie, format!(r#"{head} "abc""#).replace("200", "2OO"), "bad_status".into()),
        (&cookie, format!(r#"{head} "abc""#).replace("22/Jan", "32/Jan"), "bad_time".into()),
        (&cookie, format!(r#"{head} "abc""#).replace("- - [", "- x [01/Jan/2030:00:00:00 +0000] ["), "bad_time".into()),
        (
            &cookie,
            format!(r#"{head} "abc""#).replace("Firefox", r#"a \"b\" c"#),
            format!("{seen} 2001:db8::7 Get /p/1?a=b 200 agent=a \\\"b\\\" c visitor=abc"),
        ),
        (json, json_line.into(), format!("{seen} 10.0.0.1 Post /p/\"1é 503 agent=a \"q\" \\ visitor=none")),
        (json, json_line.replace(r"\u00e9", r"\ud800"), "bad_json".into()),
        (json, json_line.replace("503", "-"), "bad_status".into()),
        (json, json_line[..60].into(), "truncated".into()),
        (json, "{}".into(), "malformed".into()),
        (
            tabs,
            "1548117374.123\t10.0.0.1, 10.0.0.2\tGET\t/p/1\ta=b\t304\t0.1, 0.2\tx y".into(),
            "2019-01-22T00:36:14.123Z 10.0.0.1 Get /p/1 304 agent=x y visitor=none".into(),
        ),
        (tabs, "1548117374.123\t-\tGET\t/p/1\t-\t304\t-\tx".into(), "missing_field".into()),
        (tabs, "-1.5\t1.1.1.1\tGET\t/p/1\t-\t304\t-\tx".into(), "bad_time".into()),
        (
            spaced,
            r#"10.0.0.1 2019-01-22T03:56:14+03:30 0.1, 0.2 : 0.3 "GET /p/1 HTTP/1.1" 200 0.3"#.into(),
            format!("{seen} 10.0.0.1 Get /p/1 200 agent= visitor=none"),
        ),
        (
            spaced,
            r#"10.0.0.1 2019-01-22T03:56:14+03:30 - "" 400 0.000"#.into(),
            format!("{seen} 10.0.0.1 Absent  400 agent= visitor=none"),
        ),
        (spaced, "".into(), "truncated".into()),
    ] {
        assert_eq!(read(format, &line), end, "{line}");
    }
}

#[test]
fn a_format_that_cannot_be_used_is_refused_in_words() {
    let rest = "$remote_addr $time_local $request $status";
    for (format, why) in [
        ("common", "neither auto, combined, edge nor a format with variables"),
        (&rest.replace("$time_local", ""), "no time"),
        (&rest.replace("$request", ""), "no path"),
        (&rest.replace("$request", "$uri"), "no method"),
        (&rest.replace("$status", ""), "no status"),
        (&rest.replace("$remote_addr", ""), "no visitor"),
        (&rest.replace("$request $", "$request$"), "$request and $status side by side"),
        (&format!("{rest} $"), "a $ without a variable's name"),
        (&format!("{rest} ${{x"), "without its }"),
        (&format!("escape=xml {rest}"), "Nginx knows default, json and none"),
        (&format!("log_format x '{rest}"), "a string without its end"),
        (&format!("log_format x '{rest}' y;"), "something between its strings"),
        (&format!("{rest} {}", "x".repeat(MAX_FORMAT)), "at most 4096"),
    ] {
        let error = Format::parse(format).unwrap_err();
        assert_eq!(error.what, "log_format");
        assert!(error.why.contains(why), "{format}: {}", error.why);
    }
}
