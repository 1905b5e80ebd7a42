//! The adaptive limiter: how many may be inside at once, learnt from how long answers take. It needs no threshold of the
//! machine: while answers take as long as on an idle one the limit rises, when they take longer entries are waiting
//! somewhere, and it falls. [`step`] is the whole decision, once for each sample of a tenth of a second.
//!
//! The rule is a gradient (as of TCP Vegas and of Netflix's concurrency limits):
//! `limit' = limit · clamp(tolerance · baseline / time, ½, 1) + √limit`, smoothed where it falls; `baseline` is the least average seen.
//! A baseline that is long ago may be of a faster world: every `remeasure` samples the limit is halved for two samples, so
//! that what waits drains and the baseline is measured anew (as BBR probes the round trip).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::entry::Priority;
use crate::time::Nanos;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaptiveOptions {
    /// Entries at once before anything is known.
    pub initial: f64,
    /// It never falls below this.
    pub least: f64,
    /// It never rises above this: what the process has memory for.
    pub most: f64,
    /// How much longer than the baseline answers may take before the limit falls.
    pub tolerance: f64,
    /// The share of the limit that entries of normal priority may fill; the rest is for what finishes begun work.
    pub normal_share: f64,
    /// Samples between two measurements of the baseline.
    pub remeasure: u32,
}

impl Default for AdaptiveOptions {
    fn default() -> Self {
        Self { initial: 256.0, least: 8.0, most: 100_000.0, tolerance: 1.5, normal_share: 0.9, remeasure: 100 }
    }
}

/// A tenth of a second of answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// Average time of the answers.
    pub time: Duration,
    /// How many ended.
    pub ended: u64,
    /// The most that were inside at once.
    pub inside: u64,
}

/// What it has learnt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Learnt {
    /// Entries at once.
    pub limit: f64,
    /// Seconds that an answer takes when nothing waits; none yet.
    pub baseline: Option<f64>,
    /// Samples since the baseline was measured.
    pub age: u32,
    /// Samples of the measurement that are left, and the least average within it.
    pub measuring: Option<(u32, f64)>,
}

impl Learnt {
    /// Nothing yet.
    pub const fn start(options: &AdaptiveOptions) -> Self {
        Self { limit: options.initial, baseline: None, age: 0, measuring: None }
    }

    /// The limit that holds now: half of it while the baseline is measured.
    pub fn holds(&self, options: &AdaptiveOptions) -> f64 {
        let limit = if self.measuring.is_some() { self.limit / 2.0 } else { self.limit };
        limit.max(options.least)
    }
}

/// Fewer answers than this in a sample say nothing about the average.
const ENOUGH: u64 = 10;
/// Samples of a measurement: the first still sees what was inside before.
const MEASURING: u32 = 2;
/// How much a lower limit counts against the old one.
const SMOOTH: f64 = 0.2;

/// What is learnt from one more sample.
pub fn step(old: Learnt, sample: Sample, options: &AdaptiveOptions) -> Learnt {
    if sample.ended < ENOUGH {
        return old;
    }
    let time = sample.time.as_secs_f64().max(1e-6);
    if let Some((left, least)) = old.measuring {
        let least = if left < MEASURING { least.min(time) } else { least };
        return match left - 1 {
            0 => Learnt { baseline: Some(least), age: 0, measuring: None, ..old },
            left => Learnt { measuring: Some((left, least)), ..old },
        };
    }
    let baseline = old.baseline.map_or(time, |known| known.min(time));
    if old.age >= options.remeasure {
        return Learnt { baseline: Some(baseline), measuring: Some((MEASURING, f64::MAX)), ..old };
    }
    let gradient = (options.tolerance * baseline / time).clamp(0.5, 1.0);
    let wanted = old.limit * gradient + old.limit.sqrt();
    // A limit that is not used must not grow: the sample says nothing about it.
    let wanted = if (sample.inside as f64) < old.limit / 2.0 { wanted.min(old.limit) } else { wanted };
    // Rising is slow by itself (a root a sample); falling is smoothed, since one sample may be an accident.
    let limit = if wanted > old.limit { wanted } else { old.limit * (1.0 - SMOOTH) + wanted * SMOOTH };
    let limit = limit.clamp(options.least, options.most);
    Learnt { limit, baseline: Some(baseline), age: old.age + 1, measuring: None }
}

/// The limiter at work.
#[derive(Debug)]
pub(crate) struct Adaptive {
    options: AdaptiveOptions,
    learnt: Mutex<Learnt>,
    /// The limit that holds, as the bits of a floating point number.
    limit: AtomicU64,
    micros: AtomicU64,
    ended: AtomicU64,
    inside: AtomicU64,
    /// When the running sample is over.
    over: AtomicU64,
}

/// A sample's length.
const SAMPLE: Duration = Duration::from_millis(100);

impl Adaptive {
    pub(crate) fn new(options: AdaptiveOptions) -> Self {
        let learnt = Learnt::start(&options);
        Self {
            limit: AtomicU64::new(learnt.holds(&options).to_bits()),
            learnt: Mutex::new(learnt),
            options,
            micros: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            inside: AtomicU64::new(0),
            over: AtomicU64::new(0),
        }
    }

    /// The limit that holds.
    pub(crate) fn limit(&self) -> f64 {
        f64::from_bits(self.limit.load(Ordering::Acquire))
    }

    /// Whether there is room, with this entry among the `inside`.
    pub(crate) fn admits(&self, inside: u64, priority: Priority) -> bool {
        let limit = self.limit();
        let share = match priority {
            Priority::Normal => (limit * self.options.normal_share).max(1.0),
            Priority::High => limit,
        };
        inside as f64 <= share
    }

    /// An answer ended; `inside` were there with it.
    pub(crate) fn ended(&self, took: Duration, inside: u64, now: Nanos) {
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX >> 16), Ordering::AcqRel);
        self.ended.fetch_add(1, Ordering::AcqRel);
        self.inside.fetch_max(inside, Ordering::AcqRel);
        let over = self.over.load(Ordering::Acquire);
        if now.get() < over {
            return;
        }
        let next = now.after(SAMPLE).get();
        if self.over.compare_exchange(over, next, Ordering::AcqRel, Ordering::Acquire).is_ok() && over != 0 {
            self.learn();
        }
    }

    fn learn(&self) {
        let ended = self.ended.swap(0, Ordering::AcqRel);
        let micros = self.micros.swap(0, Ordering::AcqRel);
        let inside = self.inside.swap(0, Ordering::AcqRel);
        let sample = Sample { time: Duration::from_micros(micros / ended.max(1)), ended, inside };
        let mut learnt = self.learnt.lock();
        *learnt = step(*learnt, sample, &self.options);
        self.limit.store(learnt.holds(&self.options).to_bits(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: AdaptiveOptions =
        AdaptiveOptions { initial: 100.0, least: 8.0, most: 1000.0, tolerance: 1.5, normal_share: 0.9, remeasure: 100 };

    fn sample(millis: u64, inside: u64) -> Sample {
        Sample { time: Duration::from_millis(millis), ended: 100, inside }
    }

    fn after(start: Learnt, n: usize, sample: Sample) -> Learnt {
        (0..n).fold(start, |learnt, _| step(learnt, sample, &OPTIONS))
    }

    #[test]
    fn it_rises_while_answers_are_quick_and_falls_when_they_wait() {
        let quick = after(Learnt::start(&OPTIONS), 50, sample(10, 1000));
        assert!(quick.limit > 150.0, "{quick:?}");
        let slow = after(quick, 30, sample(100, 1000));
        assert!(slow.limit < quick.limit / 2.0, "{slow:?}");
        assert_eq!(slow.baseline, Some(0.01), "the baseline stays that of the quick ones");
    }

    #[test]
    fn an_unused_limit_does_not_grow_and_few_answers_say_nothing() {
        let idle = after(Learnt::start(&OPTIONS), 50, sample(10, 3));
        assert!(idle.limit <= 100.0);
        let few = step(idle, Sample { ended: 9, ..sample(500, 90) }, &OPTIONS);
        assert_eq!(few, idle);
    }

    #[test]
    fn a_slower_world_is_measured_anew() {
        let quick = after(Learnt::start(&OPTIONS), 40, sample(10, 1000));
        // From now on the work itself takes 30 ms. With the old baseline it would stay throttled for ever.
        let slow = after(quick, 58, sample(30, 1000));
        let measuring = after(slow, 3, sample(30, 1000));
        assert!(measuring.measuring.is_some(), "{measuring:?}");
        assert_eq!(measuring.holds(&OPTIONS), (measuring.limit / 2.0).max(8.0));
        let later = after(measuring, 40, sample(30, 1000));
        assert_eq!(later.baseline, Some(0.03));
        assert!(later.limit > slow.limit, "{later:?}");
    }

    #[test]
    fn it_keeps_its_bounds() {
        assert_eq!(after(Learnt::start(&OPTIONS), 95, sample(1, 100_000)).limit, 1000.0);
        let start = step(Learnt::start(&OPTIONS), sample(1, 100), &OPTIONS);
        assert!(after(start, 95, sample(10_000, 100_000)).limit >= 8.0);
    }
}
