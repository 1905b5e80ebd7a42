//! Bots by behaviour: a visitor who opens more pages than a person can, in the log's own time. It must never ask the
//! clock, nor grow: what it remembers is a table of fixed size.
//!
//! Exact for each visitor it remembers: the views of ten seconds in a row, those left out included, so that a robot
//! stays left out until it is slower. Views alone are counted and left out: an attempt to buy is demand, whoever makes
//! it, and what one visitor can add of it is bounded where it is counted. Visitors are counted for each source by
//! itself, in the order of its lines, so that a log read again is judged again the same.

use types::{Timestamp, VisitorHash};

/// Seconds of the log's time that views are counted over.
pub const RATE_WINDOW: i64 = SECONDS as i64;
const SECONDS: usize = 10;
/// Highest limit: what one second's count can hold, with the ten of them still far from overflowing their sum.
pub const MAX_RATE: u32 = 60_000;
/// Visitors remembered, of all sources of one reader together: 2.6 MB. Who is needed are those of the last ten
/// seconds: at 100,000 views/s of people who look at a page every ten seconds a small part is forgotten too early, and
/// that only lets views pass.
pub const RATE_VISITORS: usize = 65_536;
/// Places that a visitor may have. Of these the one whose last view is oldest is given to a new visitor.
const WAYS: usize = 8;

/// One visitor's last ten seconds.
#[derive(Debug, Clone, Copy)]
struct Visitor {
    key: u64,
    /// The latest second with a view; [`NOBODY`] where there is none.
    newest: i64,
    /// Views of the second `s` at `s mod 10`.
    views: [u16; SECONDS],
}

const NOBODY: i64 = i64::MIN;

/// How fast visitors were of late.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    /// Empty before the first view, then of its full size for ever.
    visitors: Vec<Visitor>,
    forgotten: u64,
}

impl Rates {
    /// Counts a view of this source at this moment; whether it is one more than `most` in ten seconds.
    #[inline]
    pub fn is_over(&mut self, source: u64, visitor: VisitorHash, at: Timestamp, most: u32) -> bool {
        if self.visitors.is_empty() {
            self.visitors = vec![Visitor { key: 0, newest: NOBODY, views: [0; SECONDS] }; RATE_VISITORS];
        }
        let (key, second) = (mixed(source ^ visitor.0), at.second());
        let place = self.place(key, second);
        let visitor = &mut self.visitors[place];
        let ahead = second.saturating_sub(visitor.newest);
        if ahead >= RATE_WINDOW || ahead <= -RATE_WINDOW {
            // Nothing of it counts any more; or the log was put back in time.
            visitor.views = [0; SECONDS];
            visitor.newest = second;
        } else if ahead > 0 {
            for passed in visitor.newest + 1..=second {
                visitor.views[of(passed)] = 0;
            }
            visitor.newest = second;
        }
        let views = &mut visitor.views[of(second)];
        *views = views.saturating_add(1);
        visitor.views.iter().map(|views| u32::from(*views)).sum::<u32>() > most
    }

    /// Visitors that had to make room while they still counted, since it was last asked.
    pub fn take_forgotten(&mut self) -> u64 {
        std::mem::take(&mut self.forgotten)
    }

    /// Where this visitor stands, or stands from now on.
    fn place(&mut self, key: u64, second: i64) -> usize {
        let first = (key >> (64 - (RATE_VISITORS / WAYS).ilog2())) as usize * WAYS;
        let (mut oldest, mut since) = (first, i64::MAX);
        for place in first..first + WAYS {
            let visitor = &self.visitors[place];
            if visitor.key == key && visitor.newest != NOBODY {
                return place;
            }
            if visitor.newest < since {
                (oldest, since) = (place, visitor.newest);
            }
        }
        self.forgotten += u64::from(since != NOBODY && since.saturating_add(RATE_WINDOW) > second);
        self.visitors[oldest] = Visitor { key, newest: NOBODY, views: [0; SECONDS] };
        oldest
    }
}

/// Where a second is counted.
fn of(second: i64) -> usize {
    second.rem_euclid(RATE_WINDOW) as usize
}

/// Spreads the bits of a hash that somebody else may have chosen a part of; no two keys become one.
fn mixed(key: u64) -> u64 {
    let key = (key ^ (key >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let key = (key ^ (key >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    key ^ (key >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn over(rates: &mut Rates, visitor: u64, second: i64, most: u32) -> bool {
        rates.is_over(0, VisitorHash(visitor), Timestamp::from_seconds(second), most)
    }

    #[test]
    fn a_robot_is_left_out_until_it_is_slower_and_a_person_never_is() {
        let mut rates = Rates::default();
        // Thirty a second: three seconds and a bit pass, then none.
        let passed = (0..6_000).filter(|n| !over(&mut rates, 1, n / 30, 100)).count();
        assert_eq!(passed, 100);
        // Ten seconds of rest, then a page now and then.
        for n in 0..50 {
            assert!(!over(&mut rates, 1, 210 + 3 * n, 100));
            assert!(!over(&mut rates, 2, 210 + n, 100));
        }
    }

    #[test]
    fn a_log_put_back_in_time_begins_anew_and_sources_are_apart() {
        let mut rates = Rates::default();
        for _ in 0..100 {
            assert!(!over(&mut rates, 1, 1_000_000, 100));
        }
        assert!(over(&mut rates, 1, 1_000_009, 100));
        assert!(!over(&mut rates, 1, 500, 100));
        assert!(!rates.is_over(7, VisitorHash(1), Timestamp::from_seconds(500), 1));
        assert!(rates.is_over(7, VisitorHash(1), Timestamp::from_seconds(500), 1));
    }

    #[test]
    fn the_table_is_bounded_and_says_whom_it_forgot_too_early() {
        let mut rates = Rates::default();
        let crowd = RATE_VISITORS as u64 / 2;
        for visitor in 0..crowd {
            over(&mut rates, visitor, 100, 1);
        }
        let early = rates.take_forgotten();
        assert!(early < crowd / 100, "half full, {early} of {crowd}");
        for visitor in crowd..4 * crowd {
            over(&mut rates, visitor, 101, 1);
        }
        assert!(rates.take_forgotten() >= 2 * crowd - early - 1);
        for visitor in 0..crowd {
            over(&mut rates, visitor, 200, 1);
        }
        assert!(rates.take_forgotten() < crowd / 100, "whose ten seconds are over is nobody's loss");
        assert_eq!(rates.visitors.len(), RATE_VISITORS);
    }

    proptest! {
        /// Against all views kept and counted each time.
        #[test]
        fn counts_are_those_of_the_last_ten_seconds(
            views in proptest::collection::vec((0..4u64, 0..4i64), 1..300),
            most in 1..20u32,
        ) {
            let mut rates = Rates::default();
            let (mut all, mut second) = (Vec::new(), 0);
            for (visitor, step) in views {
                second += step;
                all.push((visitor, second));
                let recent = all.iter().filter(|(who, when)| *who == visitor && *when > second - RATE_WINDOW).count();
                prop_assert_eq!(over(&mut rates, visitor, second, most), recent > most as usize);
            }
        }

        /// A line that comes late within the window counts in its own second.
        #[test]
        fn any_order_of_times_is_harmless(times in proptest::collection::vec(any::<i32>(), 1..100)) {
            let mut rates = Rates::default();
            for time in times {
                over(&mut rates, 1, i64::from(time), 3);
            }
        }
    }
}
