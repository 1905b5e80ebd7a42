//! A line's bytes as they may be shown: without addresses, query values, tokens, cookies and users. It must never
//! let one through to spare a harmless text: what may be a secret is hidden.

use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Longest text shown, in characters: enough to see what is wrong with a line.
pub const MAX_SHOWN: usize = 512;
/// What stands for what is hidden.
const HIDDEN: char = '…';
/// A run of letters and digits as long as this is a token, not a word.
const TOKEN: usize = 24;
/// Members of JSON records whose values are hidden whole.
const MEMBERS: [&str; 12] = [
    "remote_addr",
    "remote_user",
    "visitor",
    "buyer",
    "cookie",
    "authorization",
    "token",
    "x_forwarded_for",
    "http_x_forwarded_for",
    "client_ip",
    "ip",
    "request_id",
];

/// The text of a line without what could name a person or open a door. Cut at [`MAX_SHOWN`].
pub fn redact(bytes: &[u8]) -> String {
    // More than is shown, so that what is cut is still seen as what it is.
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(8 * MAX_SHOWN)]);
    let mut shown = String::with_capacity(MAX_SHOWN);
    let mut rest: &str = &text;
    let mut query = false;
    let mut words_hidden = 0u8;
    while let Some(c) = rest.chars().next() {
        if shown.chars().count() >= MAX_SHOWN {
            shown.push_str(" [cut]");
            break;
        }
        if let Some(behind) = member(rest) {
            shown.push_str(&rest[..rest.len() - behind.len()]);
            shown.push(HIDDEN);
            rest = &behind[string_end(behind)..];
            continue;
        }
        if c.is_alphanumeric() || matches!(c, ':' | '_' | '%' | '.' | '-' | '+' | '=' | '~' | '@') {
            let end = rest
                .find(|c: char| {
                    !(c.is_alphanumeric() || matches!(c, ':' | '_' | '%' | '.' | '-' | '+' | '=' | '~' | '@'))
                })
                .unwrap_or(rest.len());
            let (run, behind) = rest.split_at(end);
            if words_hidden > 0 && run != "-" {
                shown.push(HIDDEN);
            } else if query {
                show_query(run, &mut shown);
            } else {
                show_run(run, &mut shown);
            }
            // Behind a scheme stands a credential.
            words_hidden = match run.to_ascii_lowercase().as_str() {
                "bearer" | "basic" | "cookie:" | "authorization:" | "set-cookie:" => 2,
                _ => words_hidden.saturating_sub(1),
            };
            rest = behind;
            continue;
        }
        query = match c {
            '?' | ';' => true,
            ' ' | '"' | '\'' | '\t' => false,
            _ => query,
        };
        if c.is_control() || c == char::REPLACEMENT_CHARACTER {
            let _ = write!(shown, "\\x{:02x}", u32::from(c) & 0xff);
        } else {
            shown.push(c);
        }
        rest = &rest[c.len_utf8()..];
    }
    shown
}

/// If a member stands here whose value is to be hidden: what stands behind the value's opening quote.
fn member(text: &str) -> Option<&str> {
    // A shipper's record holds the edge's line with its quotes escaped.
    for quote in ["\"", "\\\""] {
        let Some(rest) = text.strip_prefix(quote) else { continue };
        for name in MEMBERS {
            let behind = rest.get(..name.len()).filter(|n| n.eq_ignore_ascii_case(name)).map(|_| &rest[name.len()..]);
            let value = behind.and_then(|rest| rest.strip_prefix(quote)).map(str::trim_start);
            let value = value.and_then(|rest| rest.strip_prefix(':')).map(str::trim_start);
            if let Some(value) = value.and_then(|rest| rest.strip_prefix(quote)) {
                return Some(value);
            }
        }
    }
    None
}

/// Where a string's value ends: at its closing quote, escaped or not; it may hold neither.
fn string_end(text: &str) -> usize {
    text.find(['"', '\\']).unwrap_or(text.len())
}

/// A run of the characters that words, numbers, addresses and tokens are made of.
fn show_run(run: &str, shown: &mut String) {
    let bare = run.trim_matches(['.', ':', '-', '=', '+']);
    let address = |text: &str| {
        text.parse::<Ipv4Addr>().is_ok()
            || text.parse::<Ipv6Addr>().is_ok()
            // With a port, or several joined.
            || text.rsplit_once(':').is_some_and(|(host, port)| {
                port.bytes().all(|b| b.is_ascii_digit()) && host.parse::<Ipv4Addr>().is_ok()
            })
    };
    let digits = bare.bytes().filter(u8::is_ascii_digit).count();
    let token = bare.len() >= TOKEN && digits > 0 && bare.bytes().any(|b| b.is_ascii_alphabetic());
    // Four numbers with points between them are hidden wherever they stand: `x-10.1.2.3`, `10.1.2.3.example`.
    let parts: Vec<_> = bare.split(['.', '-', ':', '=', '_', '%', '@', '+', '~']).collect();
    let small = |part: &str| !part.is_empty() && part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit());
    let hides_address = parts.windows(4).any(|four| four.iter().all(|part| small(part))) && bare.contains('.');
    if address(run) || address(bare) || token || hides_address || bare.contains("::") || run.contains('@') {
        shown.push(HIDDEN);
    } else {
        shown.push_str(run);
    }
}

/// A part of a query: names are shown, values are not.
fn show_query(run: &str, shown: &mut String) {
    match run.split_once('=') {
        Some((name, _)) if name.len() < TOKEN => {
            shown.push_str(name);
            shown.push('=');
            shown.push(HIDDEN);
        }
        _ => shown.push(HIDDEN),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_names_a_person_is_hidden_and_the_rest_can_be_read() {
        for (line, shown) in [
            (
                r#"10.0.0.7 - - [22/Jan/2019:03:56:14 +0330] "GET /product/42?token=abc&a HTTP/1.1" 200 5 "-" "Firefox/64.0" "10.1.1.1, 2001:db8::7""#,
                r#"… - - [22/Jan/2019:03:56:14 +0330] "GET /product/42?token=…&… HTTP/1.1" 200 5 "-" "Firefox/64.0" "…, …""#,
            ),
            (
                r#"{"time":"2026-11-11T00:00:00Z","remote_addr":"unix:","uri":"/p","buyer":"b 1","cookie":"a=b"}"#,
                r#"{"time":"2026-11-11T00:00:00Z","remote_addr":"…","uri":"/p","buyer":"…","cookie":"…"}"#,
            ),
            (
                r#"{"message":"{\"remote_addr\":\"10.0.0.1\",\"visitor\":\"v1\"}"}"#,
                r#"{"message":"{\"remote_addr\":\"…\",\"visitor\":\"…\"}"}"#,
            ),
            ("Authorization: Bearer eyJ.x/y", "Authorization: … …/…"),
            ("[::1]:8080 x\u{1}", "[…]:8080 x\\x01"),
            ("GET /0123456789abcdef0123456789abcdef", "GET /…"),
            ("mail me@shop.example", "mail …"),
        ] {
            assert_eq!(redact(line.as_bytes()), shown);
        }
        assert!(redact(&[b'a'; 100_000]).chars().count() < MAX_SHOWN * 9);
    }

    proptest! {
        /// Wherever an address stands, it is not shown.
        #[test]
        fn no_address_is_shown(
            four in any::<[u8; 4]>(), six in any::<[u16; 8]>(), before in "[ -~]{0,40}", behind in "[ \",\\]:;]",
        ) {
            for address in [Ipv4Addr::from(four).to_string(), Ipv6Addr::from(six).to_string()] {
                let shown = redact(format!("{before} {address}{behind}").as_bytes());
                prop_assert!(!shown.contains(&address), "{shown}");
            }
        }

        #[test]
        fn any_bytes_can_be_shown(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let shown = redact(&bytes);
            prop_assert!(!shown.chars().any(char::is_control));
        }
    }
}
