//! Takes the few fields that heat needs out of one raw log line, by plain string search. Deliberately not a
//! parser and not the collector's: clear first, so that it can be believed.

/// Longest page id that counts, in bytes, as the interfaces say.
const MAX_PAGE: usize = 128;

/// The fields of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawLine<'a> {
    /// Second since the epoch (floor).
    pub second: i64,
    /// The request's method.
    pub method: &'a str,
    /// The request's target as it stands in the line.
    pub target: &'a str,
    /// The answer's status.
    pub status: u16,
    /// Who: the edge's keyed hash if the line has one, else empty.
    pub visitor: &'a str,
    /// The client's address.
    pub address: &'a str,
    /// The client's name for itself.
    pub agent: &'a str,
}

/// What a line counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A product page was looked at.
    View,
    /// A product was put into the cart.
    Cart,
    /// A purchase was attempted.
    Attempt,
}

/// The fields of an edge's JSON line or of a combined line; `None` for anything else.
pub fn fields(line: &str) -> Option<RawLine<'_>> {
    let line = line.trim_end_matches(['\n', '\r']);
    if line.starts_with('{') { edge(line) } else { combined(line) }
}

fn edge(line: &str) -> Option<RawLine<'_>> {
    // Half a line lacks its end, whatever else can still be found in it.
    if !line.ends_with('}') {
        return None;
    }
    Some(RawLine {
        second: iso_second(text_of(line, "\"time\":\"")?)?,
        method: text_of(line, "\"method\":\"")?,
        target: text_of(line, "\"uri\":\"")?,
        status: number_of(line, "\"status\":")?,
        visitor: text_of(line, "\"visitor\":\"").unwrap_or(""),
        address: text_of(line, "\"remote_addr\":\"").unwrap_or(""),
        agent: text_of(line, "\"user_agent\":\"").unwrap_or(""),
    })
}

/// The text between `name` and the next quote that is not escaped. A quote inside another field's text is
/// escaped, so `name` cannot be found inside it.
fn text_of<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let start = line.find(name)? + name.len();
    Some(&line[start..start + end_of_text(&line[start..])?])
}

fn end_of_text(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at),
            _ => {}
        }
    }
    None
}

fn number_of(line: &str, name: &str) -> Option<u16> {
    let start = line.find(name)? + name.len();
    let digits = line[start..].trim_start_matches('"');
    let end = digits.find(|c: char| !c.is_ascii_digit())?;
    digits[..end].parse().ok()
}

/// `address - user [22/Jan/2019:03:56:14 +0330] "GET /x HTTP/1.1" 200 5 "referer" "agent" …`
fn combined(line: &str) -> Option<RawLine<'_>> {
    let address = line.split(' ').next()?;
    let open = line.find('[')?;
    let close = open + line[open..].find(']')?;
    let second = combined_second(&line[open + 1..close])?;
    let rest = line[close + 1..].strip_prefix(" \"")?;
    let end = end_of_text(rest)?;
    let mut request = rest[..end].split(' ');
    let (method, target, version) = (request.next()?, request.next()?, request.next()?);
    if !version.starts_with("HTTP/") || request.next().is_some() {
        return None;
    }
    let mut after = rest[end + 1..].trim_start().splitn(3, ' ');
    let status = after.next()?.parse().ok()?;
    after.next()?;
    let quoted = after.next()?.strip_prefix('"')?;
    let referer = end_of_text(quoted)?;
    let agent = quoted[referer + 1..].trim_start().strip_prefix('"')?;
    Some(RawLine { second, method, target, status, visitor: "", address, agent: &agent[..end_of_text(agent)?] })
}

/// What a line counts as, and for which page, by the default patterns.
pub fn product<'a>(line: &RawLine<'a>) -> Option<(Kind, &'a str)> {
    let target = line.target;
    let (kind, page) = if let Some(rest) =
        target.strip_prefix("/product/").or_else(|| target.strip_prefix("/m/product/"))
    {
        if line.method != "GET" || !((200..300).contains(&line.status) || line.status == 304) {
            return None;
        }
        (Kind::View, segment(rest))
    } else if let Some(rest) = target.strip_prefix("/cart/add/") {
        (Kind::Cart, segment(rest))
    } else {
        let (sale, rest) = target.strip_prefix("/v1/sales/")?.split_once("/products/")?;
        let page = segment(rest);
        if sale.is_empty() || sale.contains(['/', '?']) || segment(rest[page.len()..].strip_prefix('/')?) != "purchases"
        {
            return None;
        }
        (Kind::Attempt, page)
    };
    if kind != Kind::View && line.method != "POST" {
        return None;
    }
    let valid = !page.is_empty() && page.len() <= MAX_PAGE && page.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    valid.then_some((kind, page))
}

/// Up to the next `/`, `?` or the end.
fn segment(text: &str) -> &str {
    &text[..text.find(['/', '?']).unwrap_or(text.len())]
}

/// `2026-11-11T00:01:00.123Z` or with an offset `+02:00`, in seconds since the epoch (floor).
pub(super) fn iso_second(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| digits(text.get(range)?);
    let shape = text.get(4..5)? == "-" && text.get(10..11)? == "T" && text.get(13..14)? == ":";
    if !shape {
        return None;
    }
    let local =
        seconds(number(0..4)?, number(5..7)?, number(8..10)?, number(11..13)?, number(14..16)?, number(17..19)?)?;
    let zone = text[19..].trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    Some(local - offset(zone)?)
}

/// `22/Jan/2019:03:56:14 +0330` in seconds since the epoch.
fn combined_second(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let number = |range: std::ops::Range<usize>| digits(text.get(range)?);
    let month = MONTHS.iter().position(|m| text.get(3..6) == Some(m))? as i64 + 1;
    let local = seconds(number(7..11)?, month, number(0..2)?, number(12..14)?, number(15..17)?, number(18..20)?)?;
    Some(local - offset(text.get(21..)?)?)
}

/// `Z`, `+03:30` or `+0330` in seconds.
fn offset(text: &str) -> Option<i64> {
    if text == "Z" {
        return Some(0);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let rest = text[1..].replace(':', "");
    if rest.len() != 4 {
        return None;
    }
    Some(sign * (digits(rest.get(0..2)?)? * 3600 + digits(rest.get(2..4)?)? * 60))
}

fn digits(text: &str) -> Option<i64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn seconds(year: i64, month: i64, day: i64, hour: i64, minute: i64, second: i64) -> Option<i64> {
    let valid = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    valid.then(|| days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days from 1970-01-01 in the Gregorian calendar, by counting leap days.
pub(super) fn days(year: i64, month: i64, day: i64) -> i64 {
    const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let leaps_until = |y: i64| y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400);
    let leap_days = leaps_until(year - 1) - leaps_until(1969) + i64::from(leap && month > 2);
    (year - 1970) * 365 + leap_days + BEFORE[(month - 1) as usize] + day - 1
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn both_kinds_of_line_give_their_fields() {
        let line =
            r#"10.0.0.1 - - [22/Jan/2019:03:56:14 +0330] "GET /m/product/12?x=1 HTTP/1.1" 304 0 "-" "Moz \"x\"" "-""#;
        let raw = fields(line).unwrap();
        assert_eq!((raw.second, raw.status, raw.agent), (1_548_116_774, 304, r#"Moz \"x\""#));
        assert_eq!(product(&raw), Some((Kind::View, "12")));

        let line = r#"{"time":"2026-11-11T00:01:00.999Z","remote_addr":"10.0.0.1","method":"POST","uri":"/v1/sales/s/products/phone-x1/purchases","status":410,"bytes":1,"visitor":"ab","user_agent":"\"uri\":\"/product/9\""}"#;
        let raw = fields(line).unwrap();
        assert_eq!((raw.second, raw.visitor), (1_794_355_260, "ab"));
        assert_eq!(product(&raw), Some((Kind::Attempt, "phone-x1")));
        assert_eq!(fields(&line[..line.len() - 1]), None, "half a line is no line");
    }

    #[test]
    fn only_what_the_patterns_name_counts() {
        let of = |method, target, status| {
            let line = RawLine { second: 0, method, target, status, visitor: "", address: "", agent: "" };
            product(&line).map(|(kind, _)| kind)
        };
        assert_eq!(of("GET", "/product/1", 200), Some(Kind::View));
        assert_eq!(of("GET", "/product/1/photos", 200), Some(Kind::View));
        assert_eq!(of("POST", "/cart/add/1", 500), Some(Kind::Cart));
        for (method, target, status) in [
            ("GET", "/product/", 200),
            ("GET", "/products/1", 200),
            ("HEAD", "/product/1", 200),
            ("GET", "/product/1", 302),
            ("GET", "/cart/add/1", 200),
            ("POST", "/v1/sales/s/products/1/token", 200),
            ("POST", "/v1/sales//products/1/purchases", 200),
            ("GET", "/image/1/x", 200),
        ] {
            assert_eq!(of(method, target, status), None, "{method} {target} {status}");
        }
    }

    #[test]
    fn days_follow_the_calendar() {
        assert_eq!(days(1970, 1, 1), 0);
        assert_eq!(days(2000, 3, 1), 11_017);
        assert_eq!(days(2019, 1, 22), 17_918);
        assert_eq!(days(2100, 3, 1) - days(2100, 2, 28), 1, "2100 is no leap year");
    }
}
