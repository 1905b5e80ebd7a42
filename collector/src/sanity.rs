//! Whether a line's time can be believed, judged against the log's own times. Pure; it must never let one wild
//! line move a log's time, nor refuse a log for being old.
//!
//! Downstream a second is closed by the greatest time seen, so a single line from next year would close every
//! window until then. What is near the log's newest time passes. What is far from it is doubted, and stands or
//! falls with its neighbour: after a night, or in a log that is replayed, the next line lies there too; after a
//! wild line it does not. So decisions depend on the lines and hardly on the clock, and a replay repeats them.

use std::time::Duration;

use types::Timestamp;

use crate::decode::DeadReason;

/// A step ahead of the log's newest time that needs no neighbour: the length of the longest heat window, so that
/// what passes unasked cannot push a whole window out.
pub const JUMP: Duration = Duration::from_secs(60);
/// How far behind the log's newest time a line may lie: longer than any buffer of a log writer (Nginx's `flush`)
/// and than one missed hand-over; what is older was written by another clock.
pub const ANCIENT: Duration = Duration::from_secs(24 * 3600);
/// How far a web server's clock may run ahead of ours before its times need a neighbour.
pub const SKEW: Duration = Duration::from_secs(5 * 60);
/// What lies further ahead of our clock than this (and ahead of its log) is refused, whatever its neighbours say:
/// a zone set wrong moves a log by less.
pub const FAR: Duration = Duration::from_secs(24 * 3600);

/// What one log's times have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pace {
    /// Its newest believed time; `None` before the first.
    pub newest: Option<Timestamp>,
    /// The time of the last line, if that was refused for want of a neighbour: its neighbour may come now.
    pub doubted: Option<Timestamp>,
}

/// What to think of a time before the next one is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    /// It is for the next line's time to say; refused with this reason if that lies elsewhere.
    Doubt(DeadReason),
    Refuse(DeadReason),
}

impl Pace {
    /// What `at` looks like at `now`.
    pub fn judge(&self, at: Timestamp, now: Timestamp) -> Verdict {
        let ahead = self.newest.is_none_or(|newest| at > newest.plus(JUMP));
        if ahead && at > now.plus(FAR) {
            return Verdict::Refuse(DeadReason::Future);
        }
        match self.newest {
            None if at <= now.plus(SKEW) => Verdict::Pass,
            _ if ahead => Verdict::Doubt(DeadReason::Future),
            Some(newest) if at < newest.minus(ANCIENT) => Verdict::Doubt(DeadReason::Ancient),
            _ => Verdict::Pass,
        }
    }

    /// Takes a time that passed.
    pub fn pass(&mut self, at: Timestamp) {
        self.newest = Some(self.newest.map_or(at, |newest| newest.max(at)));
        self.doubted = None;
    }

    /// Ends the doubt about `at`: `next` is the time of the log's next line, as far as it is there yet. Answers
    /// whether `at` stands; the log's time is then there.
    pub fn settle(&mut self, at: Timestamp, reason: DeadReason, next: Option<Timestamp>, now: Timestamp) -> bool {
        let neighbour = |other: Timestamp| match (reason, self.newest) {
            // A log may have been put back in time, to be read again; it then stays there.
            (DeadReason::Ancient, Some(newest)) => other >= at.minus(JUMP) && other < newest.minus(ANCIENT),
            _ => other >= at.minus(JUMP),
        };
        // A live log after a pause: its first line stands alone for a moment, and our clock vouches for it.
        let vouched = next.is_none() && reason == DeadReason::Future && at <= now.plus(SKEW);
        let before = self.doubted.is_some_and(|doubted| doubted <= at.plus(JUMP) && neighbour(doubted));
        let stands = vouched || before || next.is_some_and(neighbour);
        if stands {
            *self = Self { newest: Some(at), doubted: None };
        } else {
            self.doubted = Some(at);
        }
        stands
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    /// Judges whole seconds as one batch; `true` where a line is believed.
    fn run(pace: &mut Pace, times: &[i64], now: i64) -> Vec<bool> {
        let now = Timestamp::from_seconds(now);
        let mut believed = vec![false; times.len()];
        let mut held: Option<(usize, Timestamp, DeadReason)> = None;
        for (i, at) in times.iter().enumerate() {
            let at = Timestamp::from_seconds(*at);
            if let Some((which, doubted, reason)) = held
                && !matches!(pace.judge(at, now), Verdict::Refuse(_))
            {
                believed[which] = pace.settle(doubted, reason, Some(at), now);
                held = None;
            }
            match pace.judge(at, now) {
                Verdict::Pass => {
                    pace.pass(at);
                    believed[i] = true;
                }
                Verdict::Doubt(reason) => held = Some((i, at, reason)),
                Verdict::Refuse(_) => {}
            }
        }
        if let Some((which, doubted, reason)) = held {
            believed[which] = pace.settle(doubted, reason, None, now);
        }
        believed
    }

    fn all(times: &[i64], now: i64) -> Vec<bool> {
        run(&mut Pace::default(), times, now)
    }

    #[test]
    fn gaps_and_old_logs_pass_and_wild_lines_do_not() {
        let hour = 3600;
        // Live, after a night; replayed, years later; a log that begins.
        assert_eq!(all(&[NOW - 9 * hour, NOW - 1, NOW], NOW), [true; 3]);
        assert_eq!(all(&[1_000, 1_000 + 9 * hour, 1_001 + 9 * hour], NOW), [true; 3]);
        assert_eq!(all(&[1_000], NOW), [true]);
        // One line from the future, from next year, from the last century.
        assert_eq!(all(&[NOW, NOW + hour, NOW + 1], NOW), [true, false, true]);
        assert_eq!(all(&[NOW, NOW + 365 * 24 * hour, NOW + 1], NOW), [true, false, true]);
        assert_eq!(all(&[NOW, 1_000, NOW + 1], NOW), [true, false, true]);
        // The same in a log that is replayed.
        assert_eq!(all(&[50_000_000, 50_000_000 + hour, 50_000_001], NOW), [true, false, true]);
        // Next year's lines do not vouch for each other, nor for what came before.
        let year = 365 * 24 * hour;
        assert_eq!(all(&[NOW, NOW + year, NOW + year, NOW + 1], NOW), [true, false, false, true]);
        // A log put back to be read again.
        assert_eq!(all(&[NOW, 1_000, 1_001, 1_002], NOW), [true; 4]);
        // A server one hour ahead, line by line: its first line is doubted until the second comes.
        let mut pace = Pace::default();
        let ends: Vec<_> = (0..3).flat_map(|i| run(&mut pace, &[NOW + hour + i], NOW + i)).collect();
        assert_eq!(ends, [false, true, true]);
    }

    proptest! {
        /// In a log whose times rise by steps of any size up to now, every line passes, however it is cut into
        /// batches and whenever it is read.
        #[test]
        fn every_line_of_an_honest_log_passes(
            steps in proptest::collection::vec(prop_oneof![0..5i64, 0..200_000i64], 1..60),
            cuts in proptest::collection::vec(1..20usize, 1..60),
            later in 0..1_000_000_000i64,
        ) {
            let mut at = 1_000;
            let times: Vec<_> = steps.iter().map(|step| { at += step; at }).collect();
            let mut pace = Pace::default();
            let mut rest = times.as_slice();
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() { break; }
                let (batch, behind) = rest.split_at(cut.min(rest.len()));
                prop_assert!(run(&mut pace, batch, at + later).into_iter().all(|believed| believed));
                rest = behind;
            }
        }

        /// One wild line between lines a second apart is refused, its neighbours pass, and the log's time stays.
        #[test]
        fn one_wild_line_is_refused_and_changes_nothing(
            place in 1..49usize,
            wild in prop_oneof![61 + 50..10_000_000_000i64, -1_000_000_000..-86_400 - 50i64],
            age in 0..1_000_000_000i64,
        ) {
            let start = NOW - age - 50;
            let mut times: Vec<_> = (0..50).map(|i| start + i).collect();
            times.insert(place, start + wild);
            let mut pace = Pace::default();
            let believed = run(&mut pace, &times, NOW);
            prop_assert_eq!(believed.iter().filter(|b| !**b).count(), 1);
            prop_assert!(!believed[place]);
            prop_assert_eq!(pace.newest, Some(Timestamp::from_seconds(start + 49)));
        }
    }
}
