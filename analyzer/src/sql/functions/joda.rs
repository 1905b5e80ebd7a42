//! Joda's patterns for times (`yyyy-MM-dd HH:mm`), as `TIME_FORMAT` and `TIME_PARSE` take them: written and read with
//! English names. A letter that is not known is refused, never guessed.

use jiff::Zoned;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
/// Longest pattern: it is written for every row.
const LONGEST: usize = 200;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(char, usize),
}

/// A pattern that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Part>);

impl Pattern {
    /// Reads a pattern.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("a pattern of {} bytes; at most {LONGEST}", text.len()));
        }
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            if c == '\'' {
                // '' is a quote, 'text' is itself.
                if rest.next_if_eq(&'\'').is_some() {
                    plain.push('\'');
                    continue;
                }
                for quoted in rest.by_ref() {
                    if quoted == '\'' {
                        break;
                    }
                    plain.push(quoted);
                }
            } else if c.is_ascii_alphabetic() {
                if !"GyYxwMdDEeaHhKkmsSzZ".contains(c) {
                    return Err(format!("{text:?}: {c} means nothing in a pattern"));
                }
                let mut length = 1;
                while rest.next_if_eq(&c).is_some() {
                    length += 1;
                }
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(Part::Field(c, length));
            } else {
                plain.push(c);
            }
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// The time as text.
    pub(super) fn write(&self, at: &Zoned) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Field(letter, length) => field(&mut out, *letter, *length, at),
            }
        }
        out
    }

    /// A text as milliseconds, if it is what the pattern says; a zone in the text goes before `zone`.
    pub(super) fn read(&self, text: &str, zone: &TimeZone) -> Option<i64> {
        let mut read = Read { rest: text, ..Read::default() };
        for (at, part) in self.0.iter().enumerate() {
            match part {
                Part::Text(text) => read.rest = read.rest.strip_prefix(text.as_str())?,
                Part::Field(letter, length) => {
                    // Numbers that touch have exactly their letters' length.
                    let tight = matches!(self.0.get(at + 1), Some(Part::Field(..)));
                    read.field(*letter, *length, tight)?;
                }
            }
        }
        if read.rest.is_empty() { read.instant(zone) } else { None }
    }
}

fn field(out: &mut String, letter: char, length: usize, at: &Zoned) {
    let number = |out: &mut String, n: i64| out.push_str(&format!("{n:0length$}"));
    let name = |out: &mut String, full: &str| out.push_str(if length >= 4 { full } else { &full[..3] });
    let hour = i64::from(at.hour());
    match letter {
        'G' => out.push_str(if at.year() > 0 { "AD" } else { "BC" }),
        'y' | 'Y' if length == 2 => out.push_str(&format!("{:02}", at.year().rem_euclid(100))),
        'y' | 'Y' => number(out, at.year().into()),
        'x' => number(out, at.date().iso_week_date().year().into()),
        'w' => number(out, at.date().iso_week_date().week().into()),
        'M' if length >= 3 => name(out, MONTHS[usize::from(at.month().unsigned_abs() - 1)]),
        'M' => number(out, at.month().into()),
        'd' => number(out, at.day().into()),
        'D' => number(out, at.day_of_year().into()),
        'E' => name(out, DAYS[(at.weekday().to_monday_zero_offset()).unsigned_abs() as usize]),
        'e' => number(out, at.weekday().to_monday_one_offset().into()),
        'a' => out.push_str(if hour < 12 { "AM" } else { "PM" }),
        'H' => number(out, hour),
        'k' => number(out, if hour == 0 { 24 } else { hour }),
        'K' => number(out, hour % 12),
        'h' => number(out, if hour % 12 == 0 { 12 } else { hour % 12 }),
        'm' => number(out, at.minute().into()),
        's' => number(out, at.second().into()),
        'S' => {
            let digits = format!("{:03}", at.millisecond());
            out.extend(digits.chars().chain(std::iter::repeat('0')).take(length));
        }
        'z' => out.push_str(at.time_zone().to_offset_info(at.timestamp()).abbreviation()),
        _ if length >= 3 => out.push_str(at.time_zone().iana_name().unwrap_or("UTC")),
        _ => offset(out, at.offset().seconds(), length == 2),
    }
}

/// `+0800` or, with a colon, `+08:00`.
pub(super) fn offset(out: &mut String, seconds: i32, colon: bool) {
    let minutes = seconds.abs() / 60;
    let sign = if seconds < 0 { '-' } else { '+' };
    let colon = if colon { ":" } else { "" };
    out.push_str(&format!("{sign}{:02}{colon}{:02}", minutes / 60, minutes % 60));
}

#[derive(Debug, Default)]
struct Read<'a> {
    rest: &'a str,
    year: Option<i16>,
    month: Option<i8>,
    day: Option<i8>,
    of_year: Option<i64>,
    hour: i64,
    half: Option<i64>,
    minute: i8,
    second: i8,
    nanos: i32,
    offset: Option<i32>,
}

impl Read<'_> {
    fn number(&mut self, most: usize) -> Option<i64> {
        let digits = self.rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        number.parse().ok()
    }

    fn name(&mut self, names: &[&str]) -> Option<usize> {
        let found = names.iter().enumerate().find_map(|(i, full)| {
            [*full, &full[..3]].into_iter().find_map(|name| {
                let head = self.rest.get(..name.len())?;
                head.eq_ignore_ascii_case(name).then_some((i, name.len()))
            })
        });
        let (index, length) = found?;
        self.rest = &self.rest[length..];
        Some(index)
    }

    fn field(&mut self, letter: char, length: usize, tight: bool) -> Option<()> {
        let most = if tight { length } else { 9 };
        match letter {
            'y' | 'Y' | 'x' => {
                let before = self.rest.len();
                let year = self.number(most)?;
                // Two digits are of the century around the present, as Joda has it.
                let short = length == 2 && before - self.rest.len() == 2;
                self.year = i16::try_from(if short { 2000 + year } else { year }).ok();
            }
            'M' if length >= 3 => self.month = i8::try_from(self.name(&MONTHS)? + 1).ok(),
            'M' => self.month = i8::try_from(self.number(most)?).ok(),
            'd' => self.day = i8::try_from(self.number(most)?).ok(),
            'D' => self.of_year = Some(self.number(most)?),
            'E' => {
                self.name(&DAYS)?;
            }
            'a' => self.half = Some(self.half_day()?),
            'H' | 'k' => self.hour = self.number(most)? % 24,
            'h' | 'K' => self.hour = self.number(most)? % 12,
            'm' => self.minute = i8::try_from(self.number(most)?).ok()?,
            's' => self.second = i8::try_from(self.number(most)?).ok()?,
            'S' => {
                let before = self.rest.len();
                let fraction = self.number(if tight { length } else { 9 })?;
                let digits = u32::try_from(before - self.rest.len()).ok()?;
                self.nanos = i32::try_from(fraction.checked_mul(10_i64.checked_pow(9 - digits)?)?).ok()?;
            }
            'Z' => self.offset = Some(self.zone()?),
            _ => return None,
        }
        Some(())
    }

    fn half_day(&mut self) -> Option<i64> {
        let half = match self.rest.get(..2)?.to_ascii_uppercase().as_str() {
            "AM" => 0,
            "PM" => 1,
            _ => return None,
        };
        self.rest = &self.rest[2..];
        Some(half)
    }

    fn zone(&mut self) -> Option<i32> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Some(0);
        }
        let sign = if self.rest.starts_with('-') { -1 } else { 1 };
        self.rest = self.rest.strip_prefix(['+', '-'])?;
        let hours = self.number(2)?;
        self.rest = self.rest.strip_prefix(':').unwrap_or(self.rest);
        let minutes = self.number(2)?;
        i32::try_from(sign * (hours * 3600 + minutes * 60)).ok()
    }

    fn instant(&self, zone: &TimeZone) -> Option<i64> {
        let hour = self.hour + 12 * self.half.unwrap_or(0);
        let date = match self.of_year {
            Some(day) => {
                Date::new(self.year?, 1, 1).ok()?.checked_add(jiff::Span::new().try_days(day - 1).ok()?).ok()?
            }
            None => Date::new(self.year.unwrap_or(2000), self.month.unwrap_or(1), self.day.unwrap_or(1)).ok()?,
        };
        let time = Time::new(i8::try_from(hour).ok()?, self.minute, self.second, self.nanos).ok()?;
        let civil = DateTime::from_parts(date, time);
        let zone = match self.offset {
            Some(seconds) => TimeZone::fixed(jiff::tz::Offset::from_seconds(seconds).ok()?),
            None => zone.clone(),
        };
        zone.to_ambiguous_timestamp(civil).compatible().ok().map(|t| t.as_millisecond())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(text: &str, zone: &str) -> Zoned {
        text.parse::<jiff::Timestamp>().unwrap().to_zoned(TimeZone::get(zone).unwrap())
    }

    #[test]
    fn a_time_is_written_as_the_pattern_says() {
        let utc = at("2026-11-11T13:07:09.045Z", "UTC");
        for (pattern, expected) in [
            ("yyyy-MM-dd HH:mm:ss.SSS", "2026-11-11 13:07:09.045"),
            ("EEE, d MMM yy h:mm a", "Wed, 11 Nov 26 1:07 PM"),
            ("EEEE MMMM D 'at' kk''", "Wednesday November 315 at 13'"),
            ("xxxx-'W'ww-e Z ZZ ZZZ", "2026-W46-3 +0000 +00:00 UTC"),
        ] {
            assert_eq!(Pattern::new(pattern).unwrap().write(&utc), expected, "{pattern}");
        }
        assert!(Pattern::new("yyyy Q").is_err());
        assert!(Pattern::new(&"y".repeat(1000)).is_err());
    }

    #[test]
    fn a_text_is_read_as_the_pattern_says_or_not_at_all() {
        let read = |pattern: &str, text: &str| {
            let ms = Pattern::new(pattern).unwrap().read(text, &TimeZone::UTC)?;
            Some(jiff::Timestamp::from_millisecond(ms).unwrap().to_string())
        };
        assert_eq!(read("dd/MM/yyyy HH:mm", "11/11/2026 00:01").as_deref(), Some("2026-11-11T00:01:00Z"));
        assert_eq!(read("yyyyMMddHHmmss", "20261111000102").as_deref(), Some("2026-11-11T00:01:02Z"));
        assert_eq!(read("d MMM yy h:mm a", "1 Nov 26 12:05 AM").as_deref(), Some("2026-11-01T00:05:00Z"));
        assert_eq!(
            read("yyyy-MM-dd'T'HH:mm:ss.SSSZ", "2026-11-11T00:01:02.5+02:00").as_deref(),
            Some("2026-11-10T22:01:02.5Z")
        );
        for bad in ["", "11/11/2026", "11/11/2026 00:01 ", "31/02/2026 00:00", "a/11/2026 00:01", "11/11/2026 00:61"] {
            assert_eq!(read("dd/MM/yyyy HH:mm", bad), None, "{bad}");
        }
    }
}
