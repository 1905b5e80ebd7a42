//! Even spacing (a leaky bucket whose drops are entries): each entry gets the next place in time, or is refused if that
//! is too far away. Never gives one place twice.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::time::Nanos;

/// When the last entry was let in, or will be. 0: never.
#[derive(Debug, Default)]
pub(crate) struct Pacing {
    last: AtomicU64,
}

/// A place in the line.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    at: u64,
    before: u64,
    /// How long until then.
    pub(crate) wait: Duration,
}

impl Pacing {
    /// The place `cost` after the last one, if that is at most `max_wait` from now; else how long it would be.
    pub(crate) fn take(&self, cost: Duration, max_wait: Duration, now: Nanos) -> Result<Place, Duration> {
        let cost = u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX);
        let mut before = self.last.load(Ordering::Acquire);
        loop {
            let at = place(before, cost, now.get());
            let wait = Duration::from_nanos(at - now.get());
            if wait > max_wait {
                return Err(wait - max_wait);
            }
            // 0 means never, so the very start of time counts as one nanosecond later.
            match self.last.compare_exchange_weak(before, at.max(1), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(Place { at: at.max(1), before, wait }),
                Err(seen) => before = seen,
            }
        }
    }

    /// Gives a place back that is not used. Only the last one can be given to another; an earlier one stays empty.
    pub(crate) fn give_back(&self, place: Place) {
        let _ = self.last.compare_exchange(place.at, place.before, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// The next place: `cost` after the last, or now.
fn place(last: u64, cost: u64, now: u64) -> u64 {
    if last == 0 { now } else { last.saturating_add(cost).max(now) }
}

/// The time of `n` entries at `rate` a second; none if nothing may enter.
pub(crate) fn cost(n: u64, rate: f64) -> Option<Duration> {
    (rate > 0.0).then(|| Duration::try_from_secs_f64(n as f64 / rate).unwrap_or(Duration::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever comes, entries are at least `cost` apart, nobody waits too long, and nobody is refused who need not be.
        #[test]
        fn entries_are_spaced(gaps in proptest::collection::vec(0_u64..30, 1..200), rate in 1_u64..500, most in 0_u64..1000) {
            let pacing = Pacing::default();
            let each = cost(1, rate as f64).expect("a rate");
            let (mut now, mut last) = (5, None::<u64>);
            for gap in gaps {
                now += gap;
                let at = Nanos::from_millis(now);
                let due = last.map_or(at.get(), |last: u64| (last + each.as_nanos() as u64).max(at.get()));
                match pacing.take(each, Duration::from_millis(most), at) {
                    Ok(place) => {
                        prop_assert_eq!(at.get() + place.wait.as_nanos() as u64, due);
                        last = Some(due);
                    }
                    Err(_) => prop_assert!(due - at.get() > most * 1_000_000),
                }
            }
        }
    }

    #[test]
    fn a_place_that_is_given_back_goes_to_the_next() {
        let (pacing, now, each) = (Pacing::default(), Nanos::from_millis(1), Duration::from_millis(100));
        let most = Duration::from_secs(1);
        pacing.take(each, most, now).expect("the first");
        let second = pacing.take(each, most, now).expect("the second");
        pacing.give_back(second);
        assert_eq!(pacing.take(each, most, now).expect("its place").wait, each);
    }
}
