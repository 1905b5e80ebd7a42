//! Hot parameters: a threshold for each value by itself, for at most so many values. A value is remembered by a keyed
//! hash of 64 bits, so that names cost no memory and nobody can choose two that collide.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::entry::Param;
use crate::rules::{HotParamRule, Measure};
use crate::time::Nanos;

/// A rule of many values is divided, so that threads seldom meet at one lock.
const SHARDS: usize = 16;
/// Below this a rule has one part: a bound of few values would be coarse in sixteen.
const UNDIVIDED: usize = 1_600;

/// A rule with its state.
#[derive(Debug)]
pub(crate) struct HotParam {
    pub(crate) rule: HotParamRule,
    exceptions: FxHashMap<u64, u64>,
    hasher: RandomState,
    shards: Vec<Mutex<LruCache<u64, Bucket, FxBuildHasher>>>,
    most_of_shard: usize,
}

/// What is known of a value: tokens and when they were last filled; or the last place in its line; or who is inside.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    held: u64,
    at: u64,
}

/// What the rule says of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    Pass,
    Wait(Duration),
    Block(Duration),
}

impl HotParam {
    pub(crate) fn new(rule: &HotParamRule) -> Self {
        let hasher = RandomState::new();
        let mut exceptions = FxHashMap::default();
        for (value, threshold) in &rule.exceptions {
            exceptions.insert(hasher.hash_one(Param::Text(value)), *threshold);
            if let Ok(number) = value.parse() {
                exceptions.insert(hasher.hash_one(Param::Number(number)), *threshold);
            }
        }
        let shards = if rule.values < UNDIVIDED { 1 } else { SHARDS };
        let caches = (0..shards).map(|_| Mutex::new(LruCache::unbounded_with_hasher(FxBuildHasher)));
        Self {
            rule: rule.clone(),
            exceptions,
            hasher,
            shards: caches.collect(),
            most_of_shard: rule.values.div_ceil(shards),
        }
    }

    /// The value's name in here.
    pub(crate) fn key(&self, value: Param<'_>) -> u64 {
        self.hasher.hash_one(value)
    }

    /// Judges `n` entries of a value, and takes what it gives.
    pub(crate) fn check(&self, key: u64, n: u64, now: Nanos) -> Said {
        let threshold = self.exceptions.get(&key).copied().unwrap_or(self.rule.threshold);
        let mut shard = self.shard(key).lock();
        let known = shard.get(&key).copied();
        let (said, bucket) = match (self.rule.measure, self.rule.pace) {
            (Measure::Concurrency, _) => inside(known, n, threshold),
            (Measure::Qps, None) => self.tokens(known, n, threshold, now),
            (Measure::Qps, Some(max_wait)) => self.line(known, n, threshold, max_wait, now),
        };
        if let Some(bucket) = bucket {
            shard.put(key, bucket);
            if shard.len() > self.most_of_shard {
                // Whoever is forgotten begins anew; of one who is inside, his end finds nothing and is nothing.
                shard.pop_lru();
            }
        }
        said
    }

    /// Takes back what [`HotParam::check`] took for an entry that another rule refused, or ends one that was inside.
    pub(crate) fn give_back(&self, key: u64, n: u64) {
        let mut shard = self.shard(key).lock();
        let Some(bucket) = shard.peek_mut(&key) else { return };
        match (self.rule.measure, self.rule.pace) {
            (Measure::Concurrency, _) => bucket.held = bucket.held.saturating_sub(n),
            (Measure::Qps, None) => bucket.held += n,
            // A place in a line is not given to another: those behind have theirs already.
            (Measure::Qps, Some(_)) => {}
        }
    }

    /// Values that are remembered.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// A bucket of tokens that is filled when its time is over, by as much as that time is worth (as Sentinel fills it).
    fn tokens(&self, known: Option<Bucket>, n: u64, threshold: u64, now: Nanos) -> (Said, Option<Bucket>) {
        let most = threshold + self.rule.burst;
        let per = self.rule.per.as_nanos() as u64;
        let (held, at) = match known {
            _ if threshold == 0 || n > most => return (Said::Block(self.rule.per), None),
            None => (most, now.get()),
            Some(bucket) => {
                let passed = now.get().saturating_sub(bucket.at);
                if passed > per {
                    let more = u128::from(passed) * u128::from(threshold) / u128::from(per);
                    let more = u64::try_from(more).unwrap_or(u64::MAX);
                    (bucket.held.saturating_add(more).min(most), now.get())
                } else {
                    (bucket.held, bucket.at)
                }
            }
        };
        match held.checked_sub(n) {
            Some(held) => (Said::Pass, Some(Bucket { held, at })),
            None => (Said::Block(Duration::from_nanos((at + per).saturating_sub(now.get()).max(1))), None),
        }
    }

    /// A line of its own for the value.
    fn line(
        &self,
        known: Option<Bucket>,
        n: u64,
        threshold: u64,
        most: Duration,
        now: Nanos,
    ) -> (Said, Option<Bucket>) {
        if threshold == 0 {
            return (Said::Block(self.rule.per), None);
        }
        let cost = u128::from(n) * self.rule.per.as_nanos() / u128::from(threshold);
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        let at = known.map_or(now.get(), |bucket| bucket.at.saturating_add(cost).max(now.get()));
        let wait = Duration::from_nanos(at - now.get());
        if wait > most {
            return (Said::Block(wait - most), None);
        }
        let said = if wait.is_zero() { Said::Pass } else { Said::Wait(wait) };
        (said, Some(Bucket { held: 0, at }))
    }

    fn shard(&self, key: u64) -> &Mutex<LruCache<u64, Bucket, FxBuildHasher>> {
        &self.shards[(key >> 60) as usize % self.shards.len()]
    }
}

/// How many of the value are inside.
fn inside(known: Option<Bucket>, n: u64, threshold: u64) -> (Said, Option<Bucket>) {
    let held = known.map_or(0, |bucket| bucket.held) + n;
    if held > threshold {
        (Said::Block(Duration::from_secs(1)), None)
    } else {
        (Said::Pass, Some(Bucket { held, at: 0 }))
    }
}
