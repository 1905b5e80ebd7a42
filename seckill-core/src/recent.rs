//! Recent ends of attempts in memory, and those who wait for one. A bounded cache: what is not here may still be
//! decided in the store, so nothing is ever concluded from absence.

use std::hash::BuildHasher;
use std::num::NonZeroUsize;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use lru::LruCache;
use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;
use tokio::sync::oneshot;
use tokio::time::Instant;
use types::{BuyerId, IdempotencyKey};

use crate::stock::store::{BodyHash, Decision};

/// Decisions kept: a retry within a minute of a busy sale still finds its own without SQL (about 300 bytes each).
const DECISIONS: NonZeroUsize = NonZeroUsize::new(65_536).expect("above zero");
/// Requests that wait at once; one more gets its ticket without waiting.
const MAX_WAITING: usize = 20_000;
/// Fingerprints of forgotten decisions (8 bytes each): only what may be among them is looked for in SQL.
const FINGERPRINTS: usize = 2_000_000;
/// A retry of a decision from before this process's start is looked for in SQL this long: clients that a crash cut
/// off come back within seconds; whoever comes later asks by ticket or by his orders.
const OLD_RETRIES: Duration = Duration::from_secs(30);

/// Who asked for what under which name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AttemptName {
    pub(crate) buyer: BuyerId,
    pub(crate) key: IdempotencyKey,
    pub(crate) body_hash: BodyHash,
}

/// How an attempt ended, as a waiter learns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// By a decision.
    Decided(Decision),
    /// Its key is bound to another body.
    OtherBody,
    /// Its purchase token was used by another attempt.
    TokenUsed,
}

type Name = (BuyerId, IdempotencyKey);

struct Inner {
    decisions: LruCache<Name, Decision, FxBuildHasher>,
    waiting: HashMap<AttemptName, Vec<oneshot::Sender<Ended>>, FxBuildHasher>,
    waiters: usize,
    forgotten: HashSet<u64, FxBuildHasher>,
    overflowed: bool,
}

fn fingerprint(buyer: &BuyerId, key: &IdempotencyKey) -> u64 {
    FxBuildHasher.hash_one((buyer, key))
}

/// The cache.
pub(crate) struct Recent {
    inner: Mutex<Inner>,
    born: Instant,
}

impl Recent {
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                decisions: LruCache::with_hasher(DECISIONS, FxBuildHasher),
                waiting: HashMap::default(),
                waiters: 0,
                forgotten: HashSet::default(),
                overflowed: false,
            }),
            born: Instant::now(),
        }
    }

    /// The decision of `(buyer, key)`, if it is still remembered.
    pub(crate) fn decision(&self, buyer: &BuyerId, key: &IdempotencyKey) -> Option<Decision> {
        self.inner.lock().decisions.get(&(buyer.clone(), key.clone())).cloned()
    }

    /// Whether a key that is not remembered may have been decided: soon after a restart, and where the cache has
    /// dropped it. Then the store must be asked before a refusal.
    pub(crate) fn may_have_forgotten(&self, buyer: &BuyerId, key: &IdempotencyKey) -> bool {
        if self.born.elapsed() < OLD_RETRIES {
            return true;
        }
        let inner = self.inner.lock();
        inner.overflowed || inner.forgotten.contains(&fingerprint(buyer, key))
    }

    /// Remembers the end of an attempt and wakes those who wait for it.
    pub(crate) fn ended(&self, name: &AttemptName, ended: &Ended) {
        let mut inner = self.inner.lock();
        if let Ended::Decided(decision) = ended {
            let pushed = inner.decisions.push((name.buyer.clone(), name.key.clone()), decision.clone());
            if let Some(((buyer, key), _)) = pushed
                && (buyer != name.buyer || key != name.key)
            {
                if inner.forgotten.len() < FINGERPRINTS {
                    inner.forgotten.insert(fingerprint(&buyer, &key));
                } else {
                    inner.overflowed = true;
                }
            }
        }
        if let Some(waiting) = inner.waiting.remove(name) {
            inner.waiters -= waiting.len();
            for waiter in waiting {
                // A waiter who has left takes nothing; the end stands in the store.
                let _gone = waiter.send(ended.clone());
            }
        }
    }

    /// Registers a waiter, before the attempt is sent on its way; `None` if too many wait.
    pub(crate) fn wait_for(&self, name: AttemptName) -> Option<Waiter<'_>> {
        let (send, receive) = oneshot::channel();
        let mut inner = self.inner.lock();
        if inner.waiters >= MAX_WAITING {
            return None;
        }
        inner.waiters += 1;
        inner.waiting.entry(name.clone()).or_default().push(send);
        Some(Waiter { recent: self, name, receive })
    }
}

/// A registered wait; dropping it gives its place back.
pub(crate) struct Waiter<'a> {
    recent: &'a Recent,
    name: AttemptName,
    receive: oneshot::Receiver<Ended>,
}

impl Waiter<'_> {
    /// Waits at most `limit` (real time).
    pub(crate) async fn ended(mut self, limit: Duration) -> Option<Ended> {
        tokio::time::timeout(limit, &mut self.receive).await.ok()?.ok()
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.receive.close();
        let mut inner = self.recent.inner.lock();
        let inner = &mut *inner;
        if let Some(waiting) = inner.waiting.get_mut(&self.name) {
            let before = waiting.len();
            waiting.retain(|w| !w.is_closed());
            inner.waiters -= before - waiting.len();
            if waiting.is_empty() {
                inner.waiting.remove(&self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use types::{Sku, Timestamp};

    use super::*;
    use crate::stock::store::Outcome;

    fn name(key: &str) -> AttemptName {
        AttemptName {
            buyer: BuyerId::new("anna").expect("id"),
            key: IdempotencyKey::new(key).expect("key"),
            body_hash: BodyHash([0; 32]),
        }
    }
    fn sold_out() -> Decision {
        Decision {
            body_hash: BodyHash([0; 32]),
            product: Sku::new("lamp").expect("sku"),
            outcome: Outcome::SoldOut,
            at: Timestamp::default(),
        }
    }

    #[tokio::test]
    async fn everybody_who_waits_learns_the_same_end() {
        let recent = Recent::new();
        let (a, b) = (recent.wait_for(name("k")).expect("room"), recent.wait_for(name("k")).expect("room"));
        drop(recent.wait_for(name("k")).expect("room"));
        recent.ended(&name("k"), &Ended::Decided(sold_out()));
        let second = Duration::from_secs(1);
        assert_eq!(a.ended(second).await, Some(Ended::Decided(sold_out())));
        assert_eq!(b.ended(second).await, Some(Ended::Decided(sold_out())));
        assert_eq!(recent.decision(&name("k").buyer, &name("k").key), Some(sold_out()));
        assert_eq!(recent.inner.lock().waiters, 0);
        assert!(recent.inner.lock().waiting.is_empty());
    }

    #[test]
    fn waiting_is_bounded_and_a_place_is_given_back() {
        let recent = Recent::new();
        let mut all: Vec<_> = (0..MAX_WAITING).map(|_| recent.wait_for(name("k")).expect("room")).collect();
        assert!(recent.wait_for(name("other")).is_none());
        all.truncate(MAX_WAITING - 1);
        assert!(recent.wait_for(name("other")).is_some());
        // Each of these drops looks through the waiters of one key; forget them at once instead.
        recent.ended(&name("k"), &Ended::OtherBody);
    }
}
