//! Time in milliseconds since the Unix epoch, and the clock that everything asks. Nothing else in
//! the house reads the machine's clock for a decision, so that tests and `--speed` can turn it.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::Invalid;

/// A moment: milliseconds since 1970-01-01T00:00:00Z. Written as RFC 3339 in UTC with milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From milliseconds since the epoch.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }
    /// From whole seconds since the epoch.
    pub const fn from_seconds(s: i64) -> Self {
        Self(s.saturating_mul(1000))
    }
    /// Milliseconds since the epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }
    /// The second it lies in (floor, also before the epoch).
    pub const fn second(self) -> i64 {
        self.0.div_euclid(1000)
    }
    /// This moment plus `d`, saturating.
    pub fn plus(self, d: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }
    /// This moment minus `d`, saturating.
    pub fn minus(self, d: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(d.as_millis()).unwrap_or(i64::MAX)))
    }
    /// The time from `earlier` to this; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
    /// Whole seconds as RFC 3339 (`2026-11-11T00:01:00Z`), as window ends are written.
    pub fn to_second_string(self) -> String {
        jiff::Timestamp::from_second(self.second())
            .map_or_else(|_| format!("{}", self.second()), |t| t.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => f.write_str(&t.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}
impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for Timestamp {
    type Err = Invalid;
    fn from_str(text: &str) -> Result<Self, Invalid> {
        text.parse::<jiff::Timestamp>()
            .map(|t| Self(t.as_millisecond()))
            .map_err(|e| Invalid::new("time", format!("{text:?} is not an RFC 3339 time: {e}")))
    }
}
impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The one source of "now". Injected everywhere.
pub trait Clock: Send + Sync + 'static {
    /// The present moment.
    fn now(&self) -> Timestamp;
    /// How long to really wait so that `d` passes on this clock (they differ under `--speed`).
    fn real(&self, d: Duration) -> Duration {
        d
    }
}

/// The machine's clock, optionally running `speed` times as fast from the moment it was made.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
    origin: Timestamp,
    speed: f64,
}

impl SystemClock {
    /// The machine's clock at its own pace.
    pub fn new() -> Self {
        Self::with_speed(1.0)
    }
    /// A clock that starts at the machine's present and runs `speed` times as fast (0.01 to 1000).
    pub fn with_speed(speed: f64) -> Self {
        let origin = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            started: Instant::now(),
            origin: Timestamp::default().plus(origin),
            speed: if speed.is_finite() { speed.clamp(0.01, 1000.0) } else { 1.0 },
        }
    }
    /// A clock that starts at `origin` instead of the machine's present.
    pub fn starting_at(origin: Timestamp, speed: f64) -> Self {
        Self { origin, ..Self::with_speed(speed) }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.origin.plus(self.started.elapsed().mul_f64(self.speed))
    }
    fn real(&self, d: Duration) -> Duration {
        d.div_f64(self.speed)
    }
}

/// A clock that a test turns by hand.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// Starts at `at`.
    pub fn at(at: Timestamp) -> Self {
        Self(AtomicI64::new(at.millis()))
    }
    /// Moves on by `d`.
    pub fn advance(&self, d: Duration) {
        self.0.fetch_add(i64::try_from(d.as_millis()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
    /// Jumps to `at`.
    pub fn set(&self, at: Timestamp) {
        self.0.store(at.millis(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_reads_back_what_it_prints() {
        let t = Timestamp::from_millis(1_794_355_260_123);
        assert_eq!(t.to_string().parse::<Timestamp>(), Ok(t));
        assert_eq!(Timestamp::from_seconds(0).to_second_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Timestamp::from_millis(-1).second(), -1);
    }

    #[test]
    fn a_fast_clock_runs_ahead_and_waits_less() {
        let clock = SystemClock::with_speed(10.0);
        assert_eq!(clock.real(Duration::from_secs(10)), Duration::from_secs(1));
    }
}

/// Durations in configuration: a number with its unit, `250ms`, `2s`, `15m`, `24h`. A bare number is refused.
/// Use with `#[serde(with = "types::time::duration_text")]`.
pub mod duration_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

    /// Parses `250ms`, `2s`, `15m`, `24h`, `7d`.
    pub fn parse(text: &str) -> Result<Duration, crate::Invalid> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let scale = UNITS.iter().find(|(u, _)| *u == unit.trim_start()).map(|(_, ms)| *ms);
        number
            .parse::<u64>()
            .ok()
            .zip(scale)
            .and_then(|(n, ms)| n.checked_mul(ms))
            .map(Duration::from_millis)
            .ok_or_else(|| {
                crate::Invalid::new("duration", format!("{text:?} is not a whole number with a unit: ms, s, m, h or d"))
            })
    }
    /// Writes the largest unit that divides it.
    pub fn print(d: Duration) -> String {
        let ms = u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let (unit, scale) = UNITS.iter().rev().find(|(_, s)| ms != 0 && ms % s == 0).unwrap_or(&UNITS[0]);
        format!("{}{unit}", ms / scale)
    }
    /// For serde.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        parse(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
    /// For serde.
    pub fn serialize<S: Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&print(*d))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_duration_needs_its_unit() {
            assert_eq!(parse("250ms"), Ok(Duration::from_millis(250)));
            assert_eq!(parse("15m").map(print), Ok("15m".to_owned()));
            for bad in ["15", "", "-1s", "1.5s", "99999999999999999999s", "5 fortnights", "18446744073709551615d"] {
                assert!(parse(bad).is_err(), "{bad:?}");
            }
        }
    }
}
