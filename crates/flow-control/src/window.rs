//! Counts over the last second, in buckets of 100 ms, without a lock: each bucket is one number that holds which tenth
//! of a second it counts and how much. It must never report more than was added, nor keep what is older than its ring.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::time::Nanos;

/// Length of a bucket. Ten make the second that thresholds speak of: a limit is then kept over every second that ends
/// at a tenth, where two buckets of 500 ms (Sentinel's default) let nearly one and a half through.
pub(crate) const BUCKET: u64 = 100_000_000;
/// Buckets of a second.
const SECOND: u64 = 10;
/// Twenty buckets: the running second and the whole calendar second before it, which warming up asks for.
const RING: usize = 20;
/// Low bits of a bucket hold the count: 2^40 a tenth of a second is beyond any machine.
const COUNT_BITS: u32 = 40;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
/// High bits hold the tenth of a second, modulo 2^24 (19 days): a bucket that was not touched for exactly that long
/// would be taken for the present one.
const EPOCH: u64 = (1 << 24) - 1;

/// Sums of the last second.
#[derive(Debug, Default)]
pub(crate) struct Window {
    ring: [AtomicU64; RING],
}

impl Window {
    /// Adds `n` at `now`.
    pub(crate) fn add(&self, n: u64, now: Nanos) {
        let epoch = epoch(now);
        let bucket = self.bucket(epoch);
        loop {
            let seen = bucket.load(Ordering::Acquire);
            if seen >> COUNT_BITS == epoch & EPOCH {
                bucket.fetch_add(n, Ordering::AcqRel);
                return;
            }
            if newer(seen >> COUNT_BITS, epoch) {
                // The bucket belongs to a later time already: what comes this late is in no window any more.
                return;
            }
            let fresh = ((epoch & EPOCH) << COUNT_BITS) | (n & COUNT);
            if bucket.compare_exchange(seen, fresh, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return;
            }
        }
    }

    /// Takes back what [`Window::add`] added at `now`, if its bucket still stands.
    pub(crate) fn take_back(&self, n: u64, now: Nanos) {
        let epoch = epoch(now);
        let bucket = self.bucket(epoch);
        let _ = bucket.fetch_update(Ordering::AcqRel, Ordering::Acquire, |seen| {
            (seen >> COUNT_BITS == epoch & EPOCH).then(|| seen - n.min(seen & COUNT))
        });
    }

    /// The sum over the second that ends with the bucket of `now`.
    pub(crate) fn last_second(&self, now: Nanos) -> u64 {
        let end = epoch(now);
        self.between((end + 1).saturating_sub(SECOND), end)
    }

    /// The sum over the calendar second before that of `now`.
    pub(crate) fn previous_second(&self, now: Nanos) -> u64 {
        match now.seconds().checked_sub(1) {
            Some(second) => self.between(second * SECOND, second * SECOND + SECOND - 1),
            None => 0,
        }
    }

    /// The largest single bucket of the last second, as a rate for one second.
    pub(crate) fn peak_rate(&self, now: Nanos) -> u64 {
        let end = epoch(now);
        let from = (end + 1).saturating_sub(SECOND);
        (from..=end).map(|epoch| self.count(epoch)).max().unwrap_or(0) * SECOND
    }

    fn between(&self, from: u64, to: u64) -> u64 {
        (from..=to).map(|epoch| self.count(epoch)).sum()
    }

    fn count(&self, epoch: u64) -> u64 {
        let seen = self.bucket(epoch).load(Ordering::Acquire);
        if seen >> COUNT_BITS == epoch & EPOCH { seen & COUNT } else { 0 }
    }

    fn bucket(&self, epoch: u64) -> &AtomicU64 {
        &self.ring[(epoch % RING as u64) as usize]
    }
}

/// The tenth of a second of `now`. A bucket of zeros bears the first one, and counts nothing.
fn epoch(now: Nanos) -> u64 {
    now.get() / BUCKET
}

/// By how many tenths of a second threads may disagree about the time. Beyond it a bucket that looks later is an old one
/// whose number has come round.
const DISAGREE: u64 = 600;

/// Whether the epoch that a bucket bears is later than `epoch`, both modulo 2^24.
fn newer(held: u64, epoch: u64) -> bool {
    (1..=DISAGREE).contains(&(held.wrapping_sub(epoch & EPOCH) & EPOCH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a list of everything that was ever added.
        #[test]
        fn sums_are_those_of_a_list(steps in proptest::collection::vec((0_u64..400, 1_u64..5, any::<bool>()), 1..300)) {
            let window = Window::default();
            let mut list: Vec<(u64, u64)> = Vec::new();
            let mut now = 0;
            for (wait, n, back) in steps {
                now += wait;
                let at = Nanos::from_millis(now);
                window.add(n, at);
                if back { window.take_back(n, at) } else { list.push((now / 100, n)) }
                let tenth = now / 100;
                let sum: u64 = list.iter().filter(|(t, _)| t + 10 > tenth).map(|(_, n)| n).sum();
                prop_assert_eq!(window.last_second(at), sum);
                let second = now / 1000;
                let before: u64 = list.iter().filter(|(t, _)| t / 10 + 1 == second).map(|(_, n)| n).sum();
                prop_assert_eq!(window.previous_second(at), before);
            }
        }
    }

    #[test]
    fn what_comes_too_late_is_in_no_window() {
        let window = Window::default();
        window.add(3, Nanos::from_millis(5_000));
        window.add(7, Nanos::from_millis(3_000));
        assert_eq!(window.last_second(Nanos::from_millis(5_000)), 3);
    }

    #[test]
    fn a_bucket_that_was_idle_for_weeks_counts_again() {
        let window = Window::default();
        for days in [0, 9, 10, 11, 25, 40] {
            let now = Nanos::from_millis(days * 86_400_000 + 50);
            window.add(2, now);
            assert_eq!(window.last_second(now), 2, "after {days} days");
        }
    }

    #[test]
    fn threads_lose_nothing() {
        let window = Window::default();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| window.add(1, Nanos::from_millis(950))));
            }
        });
        assert_eq!(window.last_second(Nanos::from_millis(999)), 40_000);
    }
}
