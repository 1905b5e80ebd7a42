//! What is counted of a resource, as a whole and for each caller. At most so many callers have counts of their own; the
//! others share one, so that invented names cannot fill the memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use crate::time::Nanos;
use crate::window::Window;

/// Callers of a resource with counts of their own: far more than services call one another.
const MOST_CALLERS: usize = 1_000;

/// Counts of one resource, or of one caller of it.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(crate) entered: Window,
    pub(crate) ended: Window,
    /// Microseconds of the answers that ended.
    pub(crate) time: Window,
    pub(crate) inside: AtomicU64,
    pub(crate) ended_total: AtomicU64,
    pub(crate) failed_total: AtomicU64,
}

impl Node {
    /// Counts `n` in, before it is decided: what the last second holds and how many are inside, these included. So two
    /// who ask at once see each other, and no threshold is passed by a race.
    pub(crate) fn reserve(&self, n: u64, now: Nanos) -> Counts {
        self.entered.add(n, now);
        Counts { second: self.entered.last_second(now), inside: self.inside.fetch_add(n, Ordering::AcqRel) + n }
    }

    /// Takes a reservation back.
    pub(crate) fn undo(&self, n: u64, now: Nanos) {
        self.entered.take_back(n, now);
        self.inside.fetch_sub(n, Ordering::AcqRel);
    }

    /// The end of an entry; without a time it was abandoned and tells nothing about answers.
    pub(crate) fn leave(&self, n: u64, end: Option<(Nanos, Duration, bool)>) {
        self.inside.fetch_sub(n, Ordering::AcqRel);
        self.ended_total.fetch_add(n, Ordering::Relaxed);
        if let Some((now, took, ok)) = end {
            self.ended.add(n, now);
            self.time.add(n.saturating_mul(u64::try_from(took.as_micros()).unwrap_or(u64::MAX).min(MOST_MICROS)), now);
            if !ok {
                self.failed_total.fetch_add(n, Ordering::Relaxed);
            }
        }
    }

    /// Average time of the answers of the last second; none if there were none.
    pub(crate) fn average(&self, now: Nanos) -> Option<Duration> {
        let ended = self.ended.last_second(now);
        (ended > 0).then(|| Duration::from_micros(self.time.last_second(now) / ended))
    }

    /// What stands at `now`, for rules that look at another resource.
    pub(crate) fn counts(&self, now: Nanos) -> Counts {
        Counts { second: self.entered.last_second(now), inside: self.inside.load(Ordering::Acquire) }
    }
}

/// The longest answer that is added up: one minute. Longer ones count as this, so that sums stay within their buckets.
const MOST_MICROS: u64 = 60_000_000;

/// What a threshold is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) second: u64,
    pub(crate) inside: u64,
}

/// The callers of a resource.
#[derive(Debug, Default)]
pub(crate) struct Origins {
    nodes: RwLock<HashMap<Arc<str>, Arc<Node>>>,
    others: Arc<Node>,
}

impl Origins {
    /// The counts of a caller.
    pub(crate) fn of(&self, origin: &str) -> Arc<Node> {
        if let Some(node) = self.nodes.read().get(origin) {
            return node.clone();
        }
        let mut nodes = self.nodes.write();
        if nodes.len() >= MOST_CALLERS && !nodes.contains_key(origin) {
            return self.others.clone();
        }
        nodes.entry(origin.into()).or_default().clone()
    }
}
