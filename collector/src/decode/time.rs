//! The two times that access logs write, to milliseconds since the epoch, by arithmetic alone. Must never
//! judge whether a time is ancient or in the future: the analyzer does, against the log's own watermark.

use types::Timestamp;

const DAY: i64 = 86_400;
/// The last millisecond of the year 9999.
const LAST: i64 = 253_402_300_799_999;

/// Nginx's `$time_local` and `$time_iso8601`: by the third byte, as only one of them has a `/` there.
pub(super) fn parse(text: &[u8]) -> Option<Timestamp> {
    if text.get(2) == Some(&b'/') { local(text) } else { iso(text) }
}

/// `22/Jan/2019:03:56:14 +0330`.
fn local(text: &[u8]) -> Option<Timestamp> {
    if text.len() != 26 || text[6] != b'/' || text[11] != b':' || text[20] != b' ' {
        return None;
    }
    let month = match &text[3..6] {
        b"Jan" => 1,
        b"Feb" => 2,
        b"Mar" => 3,
        b"Apr" => 4,
        b"May" => 5,
        b"Jun" => 6,
        b"Jul" => 7,
        b"Aug" => 8,
        b"Sep" => 9,
        b"Oct" => 10,
        b"Nov" => 11,
        b"Dec" => 12,
        _ => return None,
    };
    let day = day(digits(&text[7..11])?, month, digits(&text[0..2])?)?;
    moment(day, clock(&text[12..20])?, 0, offset(&text[21..])?)
}

/// `2026-11-11T00:01:00.123Z`, `2026-11-11T03:31:00+03:30` and their like (RFC 3339, ISO 8601 extended).
pub(super) fn iso(text: &[u8]) -> Option<Timestamp> {
    if text.len() < 20 || text[4] != b'-' || text[7] != b'-' || !matches!(text[10], b'T' | b't' | b' ') {
        return None;
    }
    let day = day(digits(&text[0..4])?, digits(&text[5..7])?, digits(&text[8..10])?)?;
    let seconds = clock(&text[11..19])?;
    let mut rest = &text[19..];
    let mut ms = 0;
    if let [b'.' | b',', fraction @ ..] = rest {
        let length = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        if length == 0 || length > 9 {
            return None;
        }
        for place in 0..3 {
            ms = ms * 10 + fraction[..length].get(place).map_or(0, |b| i64::from(b - b'0'));
        }
        rest = &fraction[length..];
    }
    moment(day, seconds, ms, offset(rest)?)
}

/// `$msec`: seconds since the epoch with three places, `1548117374.123`.
pub(super) fn seconds(text: &[u8]) -> Option<Timestamp> {
    let point = text.iter().position(|b| *b == b'.')?;
    let (seconds, ms) = (&text[..point], &text[point + 1..]);
    if seconds.is_empty() || seconds.len() > 12 || ms.len() != 3 {
        return None;
    }
    let at = Timestamp::from_millis(digits(seconds)? * 1000 + digits(ms)?);
    (at.millis() <= LAST).then_some(at)
}

/// Unsigned decimal digits and nothing else.
fn digits(text: &[u8]) -> Option<i64> {
    let mut value = 0;
    for b in text {
        if !b.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(b - b'0');
    }
    Some(value)
}

/// `03:56:14` as seconds of the day. A leap second (60) counts as the 59th, as RFC 3339 readers do.
fn clock(text: &[u8]) -> Option<i64> {
    if text.len() != 8 || text[2] != b':' || text[5] != b':' {
        return None;
    }
    let (hour, minute, second) = (digits(&text[0..2])?, digits(&text[3..5])?, digits(&text[6..8])?);
    (hour <= 23 && minute <= 59 && second <= 60).then(|| hour * 3600 + minute * 60 + second.min(59))
}

/// `Z`, `+0330` or `+03:30` as seconds east of UTC.
fn offset(text: &[u8]) -> Option<i64> {
    let (sign, hour, minute) = match *text {
        [b'Z' | b'z'] => return Some(0),
        [sign, a, b, c, d] | [sign, a, b, b':', c, d] => (sign, digits(&[a, b])?, digits(&[c, d])?),
        _ => return None,
    };
    let seconds = hour * 3600 + minute * 60;
    match sign {
        b'+' if hour <= 23 && minute <= 59 => Some(seconds),
        b'-' if hour <= 23 && minute <= 59 => Some(-seconds),
        _ => None,
    }
}

/// Days since 1970-01-01 of a date in the years 1970 to 9999 (Howard Hinnant, "chrono-compatible low-level
/// date algorithms", `days_from_civil`).
fn day(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1970..=9999).contains(&year) || !(1..=length).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let era = year / 400;
    let of_era = year - era * 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

fn moment(day: i64, seconds: i64, ms: i64, offset: i64) -> Option<Timestamp> {
    let at = (day * DAY + seconds - offset) * 1000 + ms;
    (at >= 0).then(|| Timestamp::from_millis(at))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_times_read_as_the_same_moment() {
        for (text, utc) in [
            ("22/Jan/2019:03:56:14 +0330", "2019-01-22T00:26:14.000Z"),
            ("2019-01-22T03:56:14+03:30", "2019-01-22T00:26:14.000Z"),
            ("2019-01-22T03:56:14.1239+0330", "2019-01-22T00:26:14.123Z"),
            ("29/Feb/2024:23:59:59 -0000", "2024-02-29T23:59:59.000Z"),
            ("31/Dec/2016:23:59:60 +0000", "2016-12-31T23:59:59.000Z"),
            ("2026-11-11T00:01:00.5Z", "2026-11-11T00:01:00.500Z"),
            ("01/Jan/9999:00:00:00 -1200", "9999-01-01T12:00:00.000Z"),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap().to_string(), utc, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "22/Jan/2019:03:56:14",
            "22/Jan/2019:24:00:00 +0000",
            "22/Jan/2019:03:61:14 +0000",
            "30/Feb/2024:00:00:00 +0000",
            "29/Feb/2023:00:00:00 +0000",
            "00/Jan/2019:00:00:00 +0000",
            "22/jan/2019:00:00:00 +0000",
            "22/Jan/1969:00:00:00 +0000",
            "01/Jan/1970:00:00:00 +0100",
            "22/Jan/2019:03:56:14 +03x0",
            "22/Jan/2019:03:56:14 00330",
            "2019-01-22T03:56:14",
            "2019-01-22T03:56:14.Z",
            "2019-13-22T03:56:14Z",
            "1790000000.123 and more",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn arithmetic_agrees_with_the_calendar_library(seconds in 0i64..253_402_300_799, east in -23i32..=23) {
            let at = jiff::Timestamp::from_second(seconds).unwrap();
            let zone = jiff::tz::TimeZone::fixed(jiff::tz::offset(east as i8));
            let there = at.to_zoned(zone);
            prop_assume!((1970..=9999).contains(&there.year()));
            let text = there.strftime("%d/%b/%Y:%H:%M:%S %z").to_string();
            prop_assert_eq!(parse(text.as_bytes()), Some(Timestamp::from_seconds(seconds)), "{}", text);
            let text = there.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
            prop_assert_eq!(parse(text.as_bytes()), Some(Timestamp::from_seconds(seconds)), "{}", text);
        }
    }
}
