//! What the process as a whole bears: system rules over all inbound resources together, and the adaptive limiter. Load
//! and processor use are told from outside; nothing here measures them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::adaptive::{Adaptive, AdaptiveOptions};
use crate::entry::{Block, Kind, Priority};
use crate::origins::{Counts, Node};
use crate::rules::SystemRule;
use crate::time::Nanos;

/// What the machine says of itself, told about once a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SystemSample {
    /// Load average of one minute.
    pub load: f64,
    /// Share of the processors in use, 0 to 1.
    pub cpu: f64,
}

/// All inbound resources together.
#[derive(Debug)]
pub(crate) struct System {
    pub(crate) node: Node,
    rules: ArcSwap<Vec<SystemRule>>,
    adaptive: Option<(Arc<str>, Adaptive)>,
    load: AtomicU64,
    cpu: AtomicU64,
    /// Microseconds of the quickest answers, one for each of the last seconds.
    quickest: [AtomicU64; QUICKEST],
}

/// Over how many seconds the quickest answer is kept.
const QUICKEST: usize = 4;
/// The name that refusals of the adaptive limiter bear.
const ADAPTIVE: &str = "adaptive";

impl System {
    pub(crate) fn new(adaptive: Option<AdaptiveOptions>) -> Self {
        Self {
            node: Node::default(),
            rules: ArcSwap::default(),
            adaptive: adaptive.map(|options| (ADAPTIVE.into(), Adaptive::new(options))),
            load: AtomicU64::new(0),
            cpu: AtomicU64::new(0),
            quickest: Default::default(),
        }
    }

    pub(crate) fn rule(&self, rules: Vec<SystemRule>) {
        self.rules.store(Arc::new(rules));
    }

    pub(crate) fn observe(&self, sample: SystemSample) {
        self.load.store(sample.load.to_bits(), Ordering::Release);
        self.cpu.store(sample.cpu.to_bits(), Ordering::Release);
    }

    /// The adaptive limiter's limit; none if it is off.
    pub(crate) fn limit(&self) -> Option<f64> {
        self.adaptive.as_ref().map(|(_, adaptive)| adaptive.limit())
    }

    /// Judges entries that [`Node::reserve`] has counted.
    pub(crate) fn check(&self, counts: Counts, priority: Priority, now: Nanos) -> Result<(), Block> {
        for rule in self.rules.load().iter() {
            if self.exceeds(rule, counts, now) {
                return Err(block(Kind::System, &rule.id));
            }
        }
        match &self.adaptive {
            Some((name, adaptive)) if !adaptive.admits(counts.inside, priority) => Err(block(Kind::Adaptive, name)),
            _ => Ok(()),
        }
    }

    fn exceeds(&self, rule: &SystemRule, counts: Counts, now: Nanos) -> bool {
        let over = |limit: Option<f64>, it: f64| limit.is_some_and(|limit| it > limit);
        over(rule.max_qps, counts.second as f64)
            || rule.max_concurrency.is_some_and(|most| counts.inside > most)
            || rule.max_rt.is_some_and(|most| self.node.average(now).is_some_and(|average| average > most))
            || over(rule.max_cpu, f64::from_bits(self.cpu.load(Ordering::Acquire)))
            || (over(rule.max_load, f64::from_bits(self.load.load(Ordering::Acquire)))
                && counts.inside > 1
                && self.more_than_flows(counts.inside, now))
    }

    /// Whether more is inside than the quickest answers and the best rate of the last second sustain (Little's law, as
    /// BBR estimates it).
    fn more_than_flows(&self, inside: u64, now: Nanos) -> bool {
        let quickest = self.quickest(now).unwrap_or(Duration::ZERO).as_secs_f64();
        inside as f64 > self.node.ended.peak_rate(now) as f64 * quickest
    }

    fn quickest(&self, now: Nanos) -> Option<Duration> {
        let second = number(now);
        let held = self.quickest.iter().map(|it| it.load(Ordering::Acquire));
        let recent = held.filter(|it| *it != 0 && second.saturating_sub(it >> 40) < QUICKEST as u64);
        recent.map(|it| it & MICROS).min().map(Duration::from_micros)
    }

    /// An entry ended.
    pub(crate) fn leave(&self, n: u64, end: Option<(Nanos, Duration, bool)>) {
        if let Some((now, took, _)) = end {
            let second = number(now);
            let micros = u64::try_from(took.as_micros()).unwrap_or(MICROS).clamp(1, MICROS);
            let slot = &self.quickest[(second % QUICKEST as u64) as usize];
            let _ = slot.fetch_update(Ordering::AcqRel, Ordering::Acquire, |held| {
                (held >> 40 != second || held & MICROS > micros).then_some((second << 40) | micros)
            });
            if let Some((_, adaptive)) = &self.adaptive {
                adaptive.ended(took, self.node.inside.load(Ordering::Acquire), now);
            }
        }
        self.node.leave(n, end);
    }
}

const MICROS: u64 = (1 << 40) - 1;

/// Seconds are counted from 1 here, so that a slot of zeros belongs to none.
fn number(now: Nanos) -> u64 {
    now.seconds() + 1
}

fn block(kind: Kind, rule: &Arc<str>) -> Block {
    Block { kind, rule: rule.clone(), retry_after: Duration::from_secs(1) }
}
