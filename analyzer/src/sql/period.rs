//! ISO-8601 periods and the floor and ceiling of a moment by them, in UTC or on a zone's clocks, as
//! Druid's granularities count. Pure arithmetic; it knows no table and no clock.

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
        match Parts::parse(text)? {
            Parts { months, days: 0, millis: 0 } => Ok(Self::Months(months)),
            Parts { months: 0, days, millis } => match days.checked_mul(DAY).and_then(|d| d.checked_add(millis)) {
                Some(length) => Ok(Self::Millis(length)),
                None => Err(format!("{text:?} is not a usable ISO-8601 period: it is too long")),
            },
            _ => Err(format!(
                "{text:?} is not a usable ISO-8601 period: years or months cannot be combined with shorter units"
            )),
        }
    }

    /// The same as `floor`, on the clocks of `zone`: days, weeks and months begin there, hours do not care.
    pub(super) fn floor_in(self, t: i64, origin: Option<i64>, zone: &TimeZone) -> Option<i64> {
        match self {
            Self::Millis(length) if length % DAY != 0 => {
                // The grid of a single unit is the local clock's, of several the local epoch's.
                let single = [SECOND, MINUTE, HOUR].contains(&length) && origin.is_none();
                let base = if single { -local_offset(t, zone)? } else { to_instant(0, zone)? };
                self.floor(t, Some(origin.unwrap_or(base)))
            }
            _ => {
                let origin = origin.map(|o| to_local(o, zone)).map_or(Some(None), |o| Some(Some(o?)))?;
                to_instant(self.floor(to_local(t, zone)?, origin)?, zone)
            }
        }
    }

    /// The same as `ceil`, on the clocks of `zone`.
    pub(super) fn ceil_in(self, t: i64, origin: Option<i64>, zone: &TimeZone) -> Option<i64> {
        let floor = self.floor_in(t, origin, zone)?;
        if floor == t {
            return Some(t);
        }
        match self {
            Self::Millis(length) if length % DAY != 0 => floor.checked_add(length),
            _ => {
                let origin = origin.map(|o| to_local(o, zone)).map_or(Some(None), |o| Some(Some(o?)))?;
                to_instant(self.ceil(to_local(t, zone)?, origin)?, zone)
            }
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

/// What a period is made of; what a moment is moved by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts {
    months: i64,
    days: i64,
    millis: i64,
}

impl Parts {
    /// Parses an ISO-8601 period of whole numbers, each unit once and in order.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let refuse = |why: &str| Err(format!("{text:?} is not a usable ISO-8601 period: {why}"));
        let Some(rest) = text.strip_prefix('P') else { return refuse("it must begin with P") };
        let (date, time) = match rest.split_once('T') {
            Some((_, "")) => return refuse("nothing follows T"),
            Some((date, time)) => (date, time),
            None => (rest, ""),
        };
        let mut sums = [0_i64; 3];
        let date_units = [('Y', 12, 0), ('M', 1, 0), ('W', 7, 1), ('D', 1, 1)];
        let time_units = [('H', HOUR, 2), ('M', MINUTE, 2), ('S', SECOND, 2)];
        for (mut part, units) in [(date, &date_units[..]), (time, &time_units[..])] {
            let mut allowed = units.iter();
            while !part.is_empty() {
                let digits = part.bytes().take_while(u8::is_ascii_digit).count();
                let (number, tail) = part.split_at(digits);
                let unit = tail.chars().next();
                // Each unit once and in this order, as ISO-8601 has it.
                let found = allowed.by_ref().find(|(name, ..)| Some(*name) == unit);
                let (Ok(number), Some((_, scale, sum))) = (number.parse::<i64>(), found) else {
                    return refuse("expected numbers with the units Y M W D, then T and H M S");
                };
                match number.checked_mul(*scale).and_then(|n| sums[*sum].checked_add(n)) {
                    Some(n) => sums[*sum] = n,
                    None => return refuse("it is too long"),
                }
                part = &tail[1..];
            }
        }
        let [months, days, millis] = sums;
        if sums == [0; 3] { refuse("it is empty") } else { Ok(Self { months, days, millis }) }
    }

    /// `t` moved by `steps` of it: months and days on the clocks of `zone`, the rest exactly. `None` if that is
    /// outside the calendar.
    pub(super) fn shift(self, t: i64, steps: i64, zone: &TimeZone) -> Option<i64> {
        let (months, days) = (self.months.checked_mul(steps)?, self.days.checked_mul(steps)?);
        let exact = self.millis.checked_mul(steps)?;
        if months == 0 && days == 0 {
            return t.checked_add(exact);
        }
        let local = civil(to_local(t, zone)?)?;
        let moved = local.checked_add(Span::new().try_months(months).ok()?).ok()?;
        let moved = moved.checked_add(Span::new().try_days(days).ok()?).ok()?;
        to_instant(millis(moved)?, zone)?.checked_add(exact)
    }
}

/// What the clocks of `zone` show at `t`, as if they were in UTC.
pub(super) fn to_local(t: i64, zone: &TimeZone) -> Option<i64> {
    t.checked_add(local_offset(t, zone)?)
}

/// When the clocks of `zone` show `local`; in a gap the later, twice the earlier, as Java's calendars do.
pub(super) fn to_instant(local: i64, zone: &TimeZone) -> Option<i64> {
    zone.to_ambiguous_timestamp(civil(local)?).compatible().ok().map(|t| t.as_millisecond())
}

fn local_offset(t: i64, zone: &TimeZone) -> Option<i64> {
    let at = jiff::Timestamp::from_millisecond(t).ok()?;
    Some(i64::from(zone.to_offset(at).seconds()) * 1000)
}

/// A zone by its IANA name, or an offset as `+08:00`.
pub(super) fn zone(name: &str) -> Option<TimeZone> {
    if ["UTC", "Etc/UTC", "Z", "Zulu", "GMT"].contains(&name) {
        return Some(TimeZone::UTC);
    }
    if let Some(rest) = name.strip_prefix(['+', '-']) {
        let (hours, minutes) = rest.split_once(':')?;
        let seconds = hours.parse::<i32>().ok()?.checked_mul(3600)? + minutes.parse::<i32>().ok()?.checked_mul(60)?;
        let seconds = if name.starts_with('-') { -seconds } else { seconds };
        return jiff::tz::Offset::from_seconds(seconds).ok().map(TimeZone::fixed);
    }
    TimeZone::get(name).ok()
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
