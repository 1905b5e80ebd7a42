//! Times on a zone's clocks: moved by periods, taken apart, read from text and written as text, counted between.

use datafusion::common::{exec_datafusion_err, exec_err};
use datafusion::error::Result;
use jiff::Zoned;
use jiff::tz::TimeZone;

use super::super::period::{Parts, to_local, zone};
use super::joda::{Pattern, offset};
use super::row::{Ask, Is, Kind, Shape};
use Kind::{Flag, Text, Time, Whole};

/// All of them.
pub(in crate::sql) const ALL: &[Shape] = &[
    Shape::new("time_shift", &[Time, Text, Whole, Text], Time, shift).least(3),
    Shape::new("time_extract", &[Time, Text, Text], Whole, extract).least(2),
    Shape::new("time_parse", &[Text, Text, Text], Time, parse).least(1).lenient(),
    Shape::new("time_format", &[Time, Text, Text], Text, format).least(1).lenient(),
    Shape::new("time_in_interval", &[Time, Text], Flag, in_interval),
    // TIMESTAMPDIFF(unit, from, to) as the statement's rewriting writes it.
    Shape::new("timestampdiff", &[Text, Time, Time], Whole, difference),
];

fn named<'a>(what: &str, literals: &'a [Option<Is<'_>>], at: usize) -> Result<Option<&'a str>> {
    match literals.get(at) {
        None | Some(Some(Is::Null)) => Ok(None),
        Some(Some(Is::Text(text))) => Ok(Some(text)),
        Some(_) => exec_err!("argument {} of {what} must be a literal", at + 1),
    }
}

fn zone_of(what: &str, literals: &[Option<Is<'_>>], at: usize) -> Result<TimeZone> {
    match named(what, literals, at)? {
        None => Ok(TimeZone::UTC),
        Some(name) => zone(name).ok_or_else(|| exec_datafusion_err!("{what}: no time zone {name:?}")),
    }
}

fn zoned(at: i64, zone: &TimeZone) -> Option<Zoned> {
    jiff::Timestamp::from_millisecond(at).ok().map(|t| t.to_zoned(zone.clone()))
}

fn outside(what: &str, at: i64) -> datafusion::error::DataFusionError {
    exec_datafusion_err!("{what}: the time {at} ms is outside the calendar")
}

fn shift(literals: &[Option<Is<'_>>]) -> Result<Ask> {
    let Some(period) = named("TIME_SHIFT", literals, 1)? else {
        return exec_err!("the period of TIME_SHIFT must not be null");
    };
    let parts = Parts::parse(period).map_err(|e| exec_datafusion_err!("TIME_SHIFT: {e}"))?;
    let zone = zone_of("TIME_SHIFT", literals, 3)?;
    Ok(Box::new(move |a| {
        let (Some(at), Some(steps)) = (a[0].whole(), a[2].whole()) else { return Ok(Is::Null) };
        parts.shift(at, steps, &zone).map(Is::Time).ok_or_else(|| outside("TIME_SHIFT", at))
    }))
}

fn extract(literals: &[Option<Is<'_>>]) -> Result<Ask> {
    let unit = named("TIME_EXTRACT", literals, 1)?.unwrap_or("EPOCH").to_uppercase();
    let zone = zone_of("TIME_EXTRACT", literals, 2)?;
    type Part = fn(&Zoned) -> i64;
    let part: Part = match unit.as_str() {
        "EPOCH" => |t| t.timestamp().as_second(),
        "MILLISECOND" => |t| t.millisecond().into(),
        "SECOND" => |t| t.second().into(),
        "MINUTE" => |t| t.minute().into(),
        "HOUR" => |t| t.hour().into(),
        "DAY" => |t| t.day().into(),
        "DOW" | "ISODOW" => |t| t.weekday().to_monday_one_offset().into(),
        "DOY" => |t| t.day_of_year().into(),
        "WEEK" => |t| t.date().iso_week_date().week().into(),
        "MONTH" => |t| t.month().into(),
        "QUARTER" => |t| (i64::from(t.month()) - 1) / 3 + 1,
        "YEAR" => |t| t.year().into(),
        "ISOYEAR" => |t| t.date().iso_week_date().year().into(),
        "DECADE" => |t| i64::from(t.year()).div_euclid(10),
        "CENTURY" => |t| (i64::from(t.year()) + 99).div_euclid(100),
        "MILLENNIUM" => |t| (i64::from(t.year()) + 999).div_euclid(1000),
        other => return exec_err!("TIME_EXTRACT: {other:?} is no unit of time; use for example HOUR, DOW or EPOCH"),
    };
    Ok(Box::new(move |a| {
        let Some(at) = a[0].whole() else { return Ok(Is::Null) };
        Ok(Is::Whole(part(&zoned(at, &zone).ok_or_else(|| outside("TIME_EXTRACT", at))?)))
    }))
}

fn pattern(what: &str, literals: &[Option<Is<'_>>]) -> Result<Option<Pattern>> {
    let text = named(what, literals, 1)?;
    text.map(Pattern::new).transpose().map_err(|e| exec_datafusion_err!("{what}: {e}"))
}

fn parse(literals: &[Option<Is<'_>>]) -> Result<Ask> {
    let pattern = pattern("TIME_PARSE", literals)?;
    let zone = zone_of("TIME_PARSE", literals, 2)?;
    Ok(Box::new(move |a| {
        let Some(text) = a[0].text() else { return Ok(Is::Null) };
        let at = match &pattern {
            Some(pattern) => pattern.read(text, &zone),
            None => iso(text, &zone),
        };
        Ok(at.map_or(Is::Null, Is::Time))
    }))
}

/// ISO-8601, or SQL's with a space; what has no offset is on the clocks of `zone`.
pub(in crate::sql) fn iso(text: &str, zone: &TimeZone) -> Option<i64> {
    let text = text.trim();
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Some(at.as_millisecond());
    }
    let civil = match text.parse::<jiff::civil::DateTime>() {
        Ok(civil) => civil,
        Err(_) => text.parse::<jiff::civil::Date>().ok()?.at(0, 0, 0, 0),
    };
    zone.to_ambiguous_timestamp(civil).compatible().ok().map(|t| t.as_millisecond())
}

/// ISO-8601 with milliseconds and the zone's offset, as answers show times when a zone is set.
pub(in crate::sql) fn shown(at: i64, zone: &TimeZone, utc: &str) -> Option<String> {
    let t = zoned(at, zone)?;
    let mut out = t.strftime("%Y-%m-%dT%H:%M:%S").to_string();
    out.push_str(&format!(".{:03}", t.millisecond()));
    match t.offset().seconds() {
        0 => out.push_str(utc),
        seconds => offset(&mut out, seconds, true),
    }
    Some(out)
}

fn format(literals: &[Option<Is<'_>>]) -> Result<Ask> {
    let pattern = pattern("TIME_FORMAT", literals)?;
    let zone = zone_of("TIME_FORMAT", literals, 2)?;
    Ok(Box::new(move |a| {
        let Some(at) = a[0].whole() else { return Ok(Is::Null) };
        let text = match &pattern {
            Some(pattern) => zoned(at, &zone).map(|t| pattern.write(&t)),
            None => shown(at, &zone, "+00:00"),
        };
        text.map(|t| Is::Text(t.into())).ok_or_else(|| outside("TIME_FORMAT", at))
    }))
}

/// `from/to`, `from/period` or `period/to`, as milliseconds `[from, to)`.
pub(in crate::sql) fn interval(text: &str, zone: &TimeZone) -> Option<(i64, i64)> {
    let (from, to) = text.split_once('/')?;
    match (from.starts_with('P'), to.starts_with('P')) {
        (false, false) => Some((iso(from, zone)?, iso(to, zone)?)),
        (false, true) => {
            let start = iso(from, zone)?;
            Some((start, Parts::parse(to).ok()?.shift(start, 1, zone)?))
        }
        (true, false) => {
            let end = iso(to, zone)?;
            Some((Parts::parse(from).ok()?.shift(end, -1, zone)?, end))
        }
        (true, true) => None,
    }
}

fn in_interval(literals: &[Option<Is<'_>>]) -> Result<Ask> {
    let text = named("TIME_IN_INTERVAL", literals, 1)?.unwrap_or_default();
    let (from, to) = interval(text, &TimeZone::UTC)
        .ok_or_else(|| exec_datafusion_err!("TIME_IN_INTERVAL: {text:?} is not an ISO-8601 interval"))?;
    Ok(Box::new(move |a| Ok(a[0].whole().map_or(Is::Null, |t| Is::Flag(from <= t && t < to)))))
}

/// Whole units from the second argument to the third, cut towards zero.
fn difference(literals: &[Option<Is<'_>>]) -> Result<Ask> {
    let unit = named("TIMESTAMPDIFF", literals, 0)?.unwrap_or_default().to_uppercase();
    let (millis, months) = match unit.as_str() {
        "MICROSECOND" | "FRAC_SECOND" => return exec_err!("TIMESTAMPDIFF counts milliseconds at the finest"),
        "SECOND" | "SQL_TSI_SECOND" => (1000, 0),
        "MINUTE" | "SQL_TSI_MINUTE" => (60_000, 0),
        "HOUR" | "SQL_TSI_HOUR" => (3_600_000, 0),
        "DAY" | "SQL_TSI_DAY" => (86_400_000, 0),
        "WEEK" | "SQL_TSI_WEEK" => (7 * 86_400_000, 0),
        "MONTH" | "SQL_TSI_MONTH" => (0, 1),
        "QUARTER" | "SQL_TSI_QUARTER" => (0, 3),
        "YEAR" | "SQL_TSI_YEAR" => (0, 12),
        other => return exec_err!("TIMESTAMPDIFF: {other:?} is no unit of time"),
    };
    Ok(Box::new(move |a| {
        let (Some(from), Some(to)) = (a[1].whole(), a[2].whole()) else { return Ok(Is::Null) };
        if millis > 0 {
            return Ok(Is::Whole((to - from) / millis));
        }
        let (x, y) = if from <= to { (from, to) } else { (to, from) };
        let whole = months_between(x, y).ok_or_else(|| outside("TIMESTAMPDIFF", from))? / months;
        Ok(Is::Whole(if from <= to { whole } else { -whole }))
    }))
}

fn months_between(from: i64, to: i64) -> Option<i64> {
    let (a, b) = (zoned(to_local(from, &TimeZone::UTC)?, &TimeZone::UTC)?, zoned(to, &TimeZone::UTC)?);
    let months = (i64::from(b.year()) - i64::from(a.year())) * 12 + i64::from(b.month()) - i64::from(a.month());
    let rest = |t: &Zoned| (t.day(), t.time());
    Some(if rest(&b) < rest(&a) { months - 1 } else { months })
}
