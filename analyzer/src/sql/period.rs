//! ISO-8601 periods and the floor and ceiling of a moment by them, in UTC, as Druid's granularities
//! count. Pure arithmetic; it knows no table and no clock.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span};

const SECOND: i64 = 1000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const WEEK: i64 = 7 * DAY;
/// 1969-12-29, a Monday: a single week begins on Monday, not on the epoch's Thursday.
const A_MONDAY: i64 = -3 * DAY;

/// A length of time: whole months (whose length varies) or milliseconds, never both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Period {
    /// Calendar months; a year is twelve.
    Months(i64),
    /// A fixed length, in ms.
    Millis(i64),
}

impl Period {
    /// Parses `PT1M`, `P1D`, `P1W`, `P3M`, `P1Y`, `PT1H30M`. Years or months together with shorter
    /// units are refused: such a period has no fixed grid.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("{text:?} is not a usable ISO-8601 period: {why}"));
        let Some(rest) = text.strip_prefix('P') else { return refuse("it must begin with P") };
        let (date, time) = match rest.split_once('T') {
            Some((_, "")) => return refuse("nothing follows T"),
            Some((date, time)) => (date, time),
            None => (rest, ""),
        };
        let (mut months, mut millis) = (0_i64, 0_i64);
        let date_units = [('Y', 12, true), ('M', 1, true), ('W', WEEK, false), ('D', DAY, false)];
        let time_units = [('H', HOUR, false), ('M', MINUTE, false), ('S', SECOND, false)];
        for (mut part, units) in [(date, &date_units[..]), (time, &time_units[..])] {
            let mut allowed = units.iter();
            while !part.is_empty() {
                let digits = part.bytes().take_while(u8::is_ascii_digit).count();
                let (number, tail) = part.split_at(digits);
                let unit = tail.chars().next();
                // Each unit once and in this order, as ISO-8601 has it.
                let found = allowed.by_ref().find(|(name, ..)| Some(*name) == unit);
                let (Ok(number), Some((_, scale, calendar))) = (number.parse::<i64>(), found) else {
                    return refuse("expected numbers with the units Y M W D, then T and H M S");
                };
                let sum = if *calendar { &mut months } else { &mut millis };
                match number.checked_mul(*scale).and_then(|n| sum.checked_add(n)) {
                    Some(n) => *sum = n,
                    None => return refuse("it is too long"),
                }
                part = &tail[1..];
            }
        }
        match (months, millis) {
            (0, 0) => refuse("it is empty"),
            (months, 0) => Ok(Self::Months(months)),
            (0, millis) => Ok(Self::Millis(millis)),
            _ => refuse("years or months cannot be combined with shorter units"),
        }
    }

    /// The last grid point at or before `t` (ms). The grid runs through `origin`; without one it is
    /// the calendar's: a week begins on Monday, everything else counts from 1970-01-01. `None` if the
    /// answer is outside the calendar.
    pub(super) fn floor(self, t: i64, origin: Option<i64>) -> Option<i64> {
        match self {
            Self::Millis(length) => {
                let origin = origin.unwrap_or(if length == WEEK { A_MONDAY } else { 0 });
                let steps = t.checked_sub(origin)?.div_euclid(length);
                steps.checked_mul(length)?.checked_add(origin)
            }
            Self::Months(length) => {
                let from = civil(origin.unwrap_or(0))?;
                let to = civil(t)?;
                let months = (i64::from(to.year()) - i64::from(from.year())) * 12 + i64::from(to.month())
                    - i64::from(from.month());
                let at = |n: i64| Some(millis(from.checked_add(Span::new().try_months(n).ok()?).ok()?));
                let start = months.div_euclid(length) * length;
                // Within the origin's month the day decides.
                if at(start)?? <= t { at(start)? } else { at(start - length)? }
            }
        }
    }

    /// The first grid point at or after `t` (ms).
    pub(super) fn ceil(self, t: i64, origin: Option<i64>) -> Option<i64> {
        let floor = self.floor(t, origin)?;
        if floor == t {
            return Some(t);
        }
        match self {
            Self::Millis(length) => floor.checked_add(length),
            Self::Months(length) => {
                // From the origin, not from the floor: the 31st must not shrink to the 28th on its way.
                let base = origin.unwrap_or(0);
                let from = civil(base)?;
                let at = civil(floor)?;
                let months = (i64::from(at.year()) - i64::from(from.year())) * 12 + i64::from(at.month())
                    - i64::from(from.month());
                millis(from.checked_add(Span::new().try_months(months.checked_add(length)?).ok()?).ok()?)
            }
        }
    }
}

fn civil(ms: i64) -> Option<DateTime> {
    jiff::Timestamp::from_millisecond(ms).ok().map(|t| TimeZone::UTC.to_datetime(t))
}

fn millis(at: DateTime) -> Option<i64> {
    let epoch = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
    let since: SignedDuration = at.duration_since(epoch);
    i64::try_from(since.as_millis()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
    }

    #[test]
    fn a_moment_falls_to_the_beginning_of_its_period() {
        let t = ms("2026-11-11T13:47:31.250Z");
        for (period, floor, ceil) in [
            ("PT1S", "2026-11-11T13:47:31Z", "2026-11-11T13:47:32Z"),
            ("PT1M", "2026-11-11T13:47:00Z", "2026-11-11T13:48:00Z"),
            ("PT15M", "2026-11-11T13:45:00Z", "2026-11-11T14:00:00Z"),
            ("PT1H", "2026-11-11T13:00:00Z", "2026-11-11T14:00:00Z"),
            ("P1D", "2026-11-11T00:00:00Z", "2026-11-12T00:00:00Z"),
            ("P1W", "2026-11-09T00:00:00Z", "2026-11-16T00:00:00Z"),
            ("P1M", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
            ("P3M", "2026-10-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("P1Y", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ] {
            let p = Period::parse(period).unwrap();
            assert_eq!(p.floor(t, None), Some(ms(floor)), "{period}");
            assert_eq!(p.ceil(t, None), Some(ms(ceil)), "{period}");
            assert_eq!(p.ceil(ms(floor), None), Some(ms(floor)), "{period}");
        }
    }

    #[test]
    fn an_origin_moves_the_grid() {
        let p = Period::parse("P1M").unwrap();
        let origin = Some(ms("2026-01-15T06:00:00Z"));
        assert_eq!(p.floor(ms("2026-11-11T00:00:00Z"), origin), Some(ms("2026-10-15T06:00:00Z")));
        assert_eq!(p.floor(ms("2025-11-20T00:00:00Z"), origin), Some(ms("2025-11-15T06:00:00Z")));
        let end = Some(ms("2026-01-31T00:00:00Z"));
        assert_eq!(p.floor(ms("2026-03-30T00:00:00Z"), end), Some(ms("2026-02-28T00:00:00Z")));
        assert_eq!(p.ceil(ms("2026-03-01T00:00:00Z"), end), Some(ms("2026-03-31T00:00:00Z")));
    }

    #[test]
    fn what_is_no_period_is_refused() {
        for bad in [
            "",
            "P",
            "PT",
            "1M",
            "P1",
            "P1H",
            "PT1D",
            "P-1D",
            "P1M1D",
            "P1D1D",
            "PT0S",
            "P1.5D",
            "P1DT",
            "P9999999999999999D",
            "PT1Mé",
            "Pé",
        ] {
            assert!(Period::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(Period::parse("PT1H30M"), Ok(Period::Millis(90 * MINUTE)));
        assert_eq!(Period::parse("P1Y2M"), Ok(Period::Months(14)));
        assert_eq!(Period::Millis(1000).floor(i64::MIN, None), None);
        assert_eq!(Period::Months(1).floor(i64::MAX, None), None);
    }

    proptest! {
        #[test]
        fn a_moment_lies_between_its_floor_and_its_ceiling(
            t in -60_000_000_000_000_i64..200_000_000_000_000,
            origin in proptest::option::of(-2_000_000_000_000_i64..4_000_000_000_000),
            months in 1_i64..30,
            length in 1_i64..100_000_000_000,
        ) {
            for p in [Period::Months(months), Period::Millis(length)] {
                let (floor, ceil) = (p.floor(t, origin).unwrap(), p.ceil(t, origin).unwrap());
                prop_assert!(floor <= t && t <= ceil, "{p:?} {floor} {t} {ceil}");
                prop_assert_eq!(p.floor(floor, origin), Some(floor));
                prop_assert_eq!(p.floor(ceil, origin), Some(ceil));
            }
        }
    }
}
