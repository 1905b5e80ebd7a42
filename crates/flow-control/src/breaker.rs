//! A circuit breaker: closed while calls end well, open when too many are slow or fail, and half open while one probe
//! finds out. Only the probe's own end closes or reopens it; a probe that is abandoned leaves it open.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;

use crate::rules::{BreakerRule, Trip};
use crate::time::Nanos;

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stand {
    /// Calls pass and are counted.
    Closed,
    /// Calls are refused.
    Open,
    /// One probe is on its way, the others are refused.
    HalfOpen,
}

/// A rule with its state.
#[derive(Debug)]
pub(crate) struct Breaker {
    pub(crate) rule: BreakerRule,
    stand: AtomicU8,
    retry_at: AtomicU64,
    /// The running interval: its number (24 bits), calls and bad calls (20 bits each).
    interval: AtomicU64,
}

const CLOSED: u8 = 0;
const OPEN: u8 = 1;
const HALF_OPEN: u8 = 2;

/// Calls of an interval that are counted; what comes after a million changes no ratio that matters.
const MOST_CALLS: u64 = (1 << 20) - 1;
const NUMBER: u64 = (1 << 24) - 1;

/// What a breaker says to one who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Closed,
    /// He is the probe.
    Probe,
    Refused(Duration),
}

impl Breaker {
    pub(crate) fn new(rule: &BreakerRule) -> Self {
        Self {
            rule: rule.clone(),
            stand: AtomicU8::new(CLOSED),
            retry_at: AtomicU64::new(0),
            interval: AtomicU64::new(0),
        }
    }

    pub(crate) fn stand(&self) -> Stand {
        match self.stand.load(Ordering::Acquire) {
            CLOSED => Stand::Closed,
            OPEN => Stand::Open,
            _ => Stand::HalfOpen,
        }
    }

    pub(crate) fn way(&self, now: Nanos) -> Way {
        match self.stand.load(Ordering::Acquire) {
            CLOSED => Way::Closed,
            OPEN => {
                let retry = Nanos::new(self.retry_at.load(Ordering::Acquire));
                if now < retry {
                    return Way::Refused(retry.since(now));
                }
                match self.stand.compare_exchange(OPEN, HALF_OPEN, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => Way::Probe,
                    Err(_) => Way::Refused(self.rule.open_for),
                }
            }
            _ => Way::Refused(self.rule.open_for),
        }
    }

    /// The probe never ran: the next one who asks is it.
    pub(crate) fn probe_abandoned(&self) {
        let _ = self.stand.compare_exchange(HALF_OPEN, OPEN, Ordering::AcqRel, Ordering::Acquire);
    }

    /// A call ended. `probe`: it was the one that was let through half open.
    pub(crate) fn ended(&self, took: Duration, ok: bool, probe: bool, now: Nanos) {
        let bad = match self.rule.trip {
            Trip::SlowRatio { slower_than, .. } => took > slower_than,
            Trip::ErrorRatio { .. } | Trip::ErrorCount { .. } => !ok,
        };
        if probe {
            if bad {
                self.open(HALF_OPEN, now);
            } else {
                self.interval.store(0, Ordering::Release);
                let _ = self.stand.compare_exchange(HALF_OPEN, CLOSED, Ordering::AcqRel, Ordering::Acquire);
            }
            return;
        }
        let (calls, bad_calls) = self.count(bad, now);
        if self.stand.load(Ordering::Acquire) == CLOSED && calls >= self.rule.min_calls && self.trips(calls, bad_calls)
        {
            self.open(CLOSED, now);
        }
    }

    fn trips(&self, calls: u64, bad: u64) -> bool {
        match self.rule.trip {
            Trip::SlowRatio { ratio, .. } | Trip::ErrorRatio { ratio } => {
                bad > 0 && (bad as f64 > ratio * calls as f64 || (ratio >= 1.0 && bad == calls))
            }
            Trip::ErrorCount { count } => bad > count,
        }
    }

    fn open(&self, from: u8, now: Nanos) {
        // First the time, so that nobody finds it open with an old one.
        self.retry_at.store(now.after(self.rule.open_for).get(), Ordering::Release);
        let _ = self.stand.compare_exchange(from, OPEN, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Counts a call into the running interval, and what that holds then.
    fn count(&self, bad: bool, now: Nanos) -> (u64, u64) {
        let number = (now.get() / (self.rule.interval.as_nanos() as u64).max(1) + 1) & NUMBER;
        let add = |held: u64| {
            let (mut calls, mut bad_calls) = if held >> 40 == number { split(held) } else { (0, 0) };
            if calls < MOST_CALLS {
                calls += 1;
                bad_calls += u64::from(bad);
            }
            (number << 40) | (calls << 20) | bad_calls
        };
        let before = self.interval.fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| Some(add(held)));
        split(add(before.unwrap_or_default()))
    }
}

fn split(held: u64) -> (u64, u64) {
    ((held >> 20) & MOST_CALLS, held & MOST_CALLS)
}
