//! Warming up: a bucket of tokens that is full when a resource is cold; the fuller it is, the slower entries are let in.
//! The formulas are those of Guava's `SmoothWarmingUp` as Sentinel uses them:
//! `warning = over · threshold / (cold − 1)`, `max = warning + 2 · over · threshold / (1 + cold)`,
//! `slope = (cold − 1) / threshold / (max − warning)`; above `warning` the rate is `1 / ((tokens − warning) · slope + 1 / threshold)`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::time::Nanos;

/// The bucket of one rule.
#[derive(Debug)]
pub(crate) struct WarmUp {
    curve: Curve,
    tokens: AtomicU64,
    /// The second, counted from 1, up to which tokens were added. 0: never, so the bucket is full.
    filled: AtomicU64,
}

/// Its numbers, which do not change.
#[derive(Debug, Clone, Copy)]
struct Curve {
    threshold: f64,
    cold: f64,
    warning: u64,
    max: u64,
    slope: f64,
}

impl Curve {
    fn new(threshold: f64, over: Duration, cold: f64) -> Self {
        let over = over.as_secs_f64();
        let warning = over * threshold / (cold - 1.0);
        let max = warning + 2.0 * over * threshold / (1.0 + cold);
        let (warning, max) = (warning as u64, max as u64);
        let slope = if max > warning { (cold - 1.0) / threshold / (max - warning) as f64 } else { 0.0 };
        Self { threshold, cold, warning, max, slope }
    }

    /// Entries a second at so many tokens.
    fn rate(&self, tokens: u64) -> f64 {
        if self.threshold <= 0.0 {
            return 0.0;
        }
        match tokens.checked_sub(self.warning) {
            Some(above) if above > 0 => 1.0 / (above as f64 * self.slope + 1.0 / self.threshold),
            _ => self.threshold,
        }
    }

    /// The tokens after `seconds` more, in the last of which `passed` entered. A bucket above the warning line is only
    /// filled while traffic is below the cold rate: else a resource under load would never warm up.
    fn refilled(&self, tokens: u64, seconds: u64, passed: u64) -> u64 {
        let more = (seconds as f64 * self.threshold) as u64;
        let filled = match tokens.cmp(&self.warning) {
            std::cmp::Ordering::Less => tokens.saturating_add(more),
            std::cmp::Ordering::Greater if (passed as f64) < (self.threshold / self.cold).floor() => {
                tokens.saturating_add(more)
            }
            _ => tokens,
        };
        filled.min(self.max).saturating_sub(passed)
    }
}

impl WarmUp {
    pub(crate) fn new(threshold: f64, over: Duration, cold: f64) -> Self {
        Self { curve: Curve::new(threshold, over, cold), tokens: AtomicU64::new(0), filled: AtomicU64::new(0) }
    }

    /// Entries a second that are let in now. `passed` are those of the calendar second before, asked for once a second.
    pub(crate) fn rate(&self, now: Nanos, passed: impl FnOnce() -> u64) -> f64 {
        let second = now.seconds() + 1;
        let filled = self.filled.load(Ordering::Acquire);
        if filled < second && self.filled.compare_exchange(filled, second, Ordering::AcqRel, Ordering::Acquire).is_ok()
        {
            let tokens = match filled {
                0 => self.curve.max,
                _ => self.curve.refilled(self.tokens.load(Ordering::Acquire), second - filled, passed()),
            };
            self.tokens.store(tokens, Ordering::Release);
        }
        self.curve.rate(self.tokens.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of Sentinel's own example: 100 a second, 10 s, cold factor 3.
    #[test]
    fn the_curve_of_the_documented_example() {
        let curve = Curve::new(100.0, Duration::from_secs(10), 3.0);
        assert_eq!((curve.warning, curve.max), (500, 1000));
        assert!((curve.rate(1000) - 100.0 / 3.0).abs() < 1e-9, "cold: a third");
        assert!((curve.rate(500) - 100.0).abs() < 1e-9, "warm: all");
        assert!((curve.rate(750) - 50.0).abs() < 1e-9, "half way: 1/(250·slope + 1/100) = 50");
    }

    #[test]
    fn it_takes_as_long_as_it_says_and_cools_down_again() {
        let warm = WarmUp::new(100.0, Duration::from_secs(10), 3.0);
        let mut passed = 0;
        let mut rates = Vec::new();
        for second in 0..25 {
            let rate = warm.rate(Nanos::from_millis(second * 1000 + 5), || passed);
            rates.push(rate);
            passed = rate as u64;
        }
        assert!((rates[0] - 33.3).abs() < 0.1, "{rates:?}");
        assert!(rates[5] < 60.0, "half way it is not warm: {rates:?}");
        assert!(rates[11] >= 99.0, "after ten seconds it is: {rates:?}");
        assert!(rates[24] >= 99.0, "and stays so: {rates:?}");
        // Nothing for 20 s: cold again.
        assert!((warm.rate(Nanos::from_millis(45_000), || 0) - 33.3).abs() < 0.1);
    }

    #[test]
    fn nothing_is_let_in_at_a_threshold_of_nothing() {
        let warm = WarmUp::new(0.0, Duration::from_secs(10), 3.0);
        assert_eq!(warm.rate(Nanos::from_millis(1), || 0), 0.0);
    }
}
