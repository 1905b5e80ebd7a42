//! What the shoppers met, counted: answers, latencies, orders by tier. One lock, held for a few additions;
//! readers take a copy.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use super::journal::Told;

/// Buckets per doubling: a bucket is at most 1/8 wide, so a quantile is within 12.5 %.
const PER_DOUBLING: u64 = 8;
/// Enough for 2^40 µs, twelve days.
const BUCKETS: usize = 40 * PER_DOUBLING as usize;
/// Most different reasons that are told apart; the core's set is closed, a broken one must not fill memory.
const MAX_REASONS: usize = 64;

/// A histogram of durations with buckets that grow with the value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Histogram {
    #[serde(skip)]
    buckets: Vec<u64>,
    count: u64,
    max_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; BUCKETS], count: 0, max_us: 0 }
    }
}

impl Histogram {
    fn bucket(us: u64) -> usize {
        if us < PER_DOUBLING {
            return us as usize;
        }
        let doubling = u64::from(us.ilog2()) - u64::from(PER_DOUBLING.ilog2());
        let within = (us >> doubling) - PER_DOUBLING;
        (((doubling + 1) * PER_DOUBLING + within) as usize).min(BUCKETS - 1)
    }
    /// The largest value of a bucket.
    fn upper(bucket: usize) -> u64 {
        let bucket = bucket as u64;
        if bucket < PER_DOUBLING {
            return bucket;
        }
        let doubling = bucket / PER_DOUBLING - 1;
        ((PER_DOUBLING + bucket % PER_DOUBLING + 1) << doubling) - 1
    }
    /// Adds one.
    pub fn add(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.buckets[Self::bucket(us)] += 1;
        self.count += 1;
        self.max_us = self.max_us.max(us);
    }
    /// Adds all of another.
    pub fn merge(&mut self, other: &Self) {
        self.buckets.iter_mut().zip(&other.buckets).for_each(|(a, b)| *a += b);
        self.count += other.count;
        self.max_us = self.max_us.max(other.max_us);
    }
    /// How many.
    pub fn count(&self) -> u64 {
        self.count
    }
    /// The value that a share `q` (0 to 1) does not exceed, rounded up within its bucket; zero if empty.
    pub fn quantile(&self, q: f64) -> Duration {
        let rank = (q.clamp(0.0, 1.0) * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, n) in self.buckets.iter().enumerate() {
            seen += n;
            if seen >= rank {
                return Duration::from_micros(Self::upper(bucket).min(self.max_us));
            }
        }
        Duration::ZERO
    }
}

/// Everything counted since the start. Latencies are real time, as a shopper's watch shows it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Stats {
    /// Shoppers that opened a product's page.
    pub sessions: u64,
    /// Sessions not begun because too many were under way.
    pub shed: u64,
    /// Purchase calls sent, retries included.
    pub attempts: u64,
    /// Purchases that ended, by how.
    pub ends: BTreeMap<&'static str, u64>,
    /// Accepted orders by the tier that the core named.
    pub orders_by_tier: BTreeMap<String, u64>,
    /// Refusals by the name of the problem.
    pub refusals: BTreeMap<String, u64>,
    /// Time to the answer of one purchase call, by `tier/outcome` (the tier is `-` where none is named).
    pub answers: BTreeMap<String, Histogram>,
    /// Time from the first call to the definite end.
    pub to_the_end: Histogram,
    /// Orders paid.
    pub paid: u64,
    /// Payments that failed for good.
    pub payments_failed: u64,
    /// Orders their shoppers left unpaid.
    pub abandoned: u64,
    /// Orders cancelled.
    pub cancelled: u64,
    /// Repeats of a finished purchase with the same key that got the same answer.
    pub retries_equal: u64,
    /// … and those that did not: each is a broken promise.
    pub retries_unequal: u64,
    /// Calls without any answer.
    pub unanswered: u64,
    /// Tickets without an end past their deadline and skew.
    pub tickets_without_end: u64,
    /// Attempts of a killed run that were asked for again, and how many of them got an end.
    pub resumed: u64,
    /// …
    pub resumed_ended: u64,
}

impl Stats {
    /// All answers to purchase calls together.
    pub fn all_answers(&self) -> Histogram {
        let mut all = Histogram::default();
        self.answers.values().for_each(|h| all.merge(h));
        all
    }
    /// Accepted orders.
    pub fn orders(&self) -> u64 {
        self.orders_by_tier.values().sum()
    }
}

/// The counters, shared; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Counters(Arc<Mutex<Stats>>);

impl Counters {
    /// Changes them.
    pub(super) fn with(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.0.lock());
    }
    /// A copy as of now.
    pub fn snapshot(&self) -> Stats {
        self.0.lock().clone()
    }
    pub(super) fn answer(&self, tier: Option<&str>, told: Told, took: Duration) {
        let name = format!("{}/{}", tier.unwrap_or("-"), told.as_str());
        self.with(|s| {
            s.attempts += 1;
            s.answers.entry(name).or_default().add(took);
        });
    }
    pub(super) fn refusal(&self, reason: &str) {
        self.with(|s| {
            let known = s.refusals.len() < MAX_REASONS || s.refusals.contains_key(reason);
            *s.refusals.entry(if known { reason } else { "other" }.to_owned()).or_insert(0) += 1;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_right_within_its_bucket() {
        let mut h = Histogram::default();
        assert_eq!(h.quantile(0.99), Duration::ZERO);
        for ms in 1..=1_000 {
            h.add(Duration::from_millis(ms));
        }
        for (q, right) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let got = h.quantile(q).as_secs_f64() * 1_000.0;
            assert!((right..=right * 1.13).contains(&got), "{q}: {got} for {right}");
        }
        h.add(Duration::from_secs(u64::MAX));
        assert_eq!(h.count(), 1_001);
    }

    #[test]
    fn every_value_lies_in_its_own_bucket() {
        for us in (0..5_000).chain([1 << 20, (1 << 20) - 1, 123_456_789]) {
            let bucket = Histogram::bucket(us);
            assert!(us <= Histogram::upper(bucket), "{us}");
            assert!(bucket == 0 || us > Histogram::upper(bucket - 1), "{us}");
        }
    }
}
