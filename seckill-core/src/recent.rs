//! Recent ends of attempts in memory, of this core's own and of every order that it hears of, and those who wait for
//! one. A bounded cache: what is not here may still be decided in the store, so nothing is ever concluded from absence
//! alone.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hashbrown::HashMap;
use lru::LruCache;
use parking_lot::Mutex;
use rustc_hash::FxBuildHasher;
use tokio::sync::oneshot;
use tokio::time::Instant;
use types::{BuyerId, IdempotencyKey, Money, Tier};

use crate::bloom::Bloom;
use crate::stock::store::{BodyHash, Decision};

/// Decisions kept: a retry within a minute of a busy sale still finds its own without SQL (about 300 bytes each).
const DECISIONS: NonZeroUsize = NonZeroUsize::new(65_536).expect("above zero");
/// Requests that wait at once; one more gets its ticket without waiting.
const MAX_WAITING: usize = 20_000;
/// Bytes of the set of decisions that have left memory: only what may be among them is looked for in SQL. At ten
/// million of them one stranger in a hundred is taken for one, at twenty-five million one in ten.
const FORGOTTEN: usize = 16 * 1024 * 1024;
/// A retry of a decision from before this process's start is looked for in SQL this long, unless those of the last
/// minute are known sooner: clients that a crash cut off come back within seconds; whoever comes later asks by ticket
/// or by his orders.
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
    /// By an order that this core's own call to the store has just committed: nothing of it need be read back.
    Bought {
        /// The decision.
        decision: Decision,
        /// What it costs: the price is the store's.
        amount: Money,
        /// The path that accepted it.
        tier: Tier,
    },
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
    forgotten: Bloom,
}

impl Inner {
    fn remember(&mut self, buyer: &BuyerId, key: &IdempotencyKey, decision: Decision) {
        let pushed = self.decisions.push((buyer.clone(), key.clone()), decision);
        if let Some((old, _)) = pushed
            && (old.0 != *buyer || old.1 != *key)
        {
            self.forgotten.insert((&old.0, &old.1));
        }
    }

    fn wake(&mut self, name: &AttemptName, ended: &Ended) {
        let Some(waiting) = self.waiting.remove(name) else { return };
        self.waiters -= waiting.len();
        for waiter in waiting {
            // A waiter who has left takes nothing; the end stands in the store.
            let _gone = waiter.send(ended.clone());
        }
    }
}

/// The cache.
pub(crate) struct Recent {
    inner: Mutex<Inner>,
    born: Instant,
    /// Whether the accepted keys from right before the start are known.
    recalled: AtomicBool,
}

impl Recent {
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                decisions: LruCache::with_hasher(DECISIONS, FxBuildHasher),
                waiting: HashMap::default(),
                waiters: 0,
                forgotten: Bloom::new(FORGOTTEN),
            }),
            born: Instant::now(),
            recalled: AtomicBool::new(false),
        }
    }

    /// The decision of `(buyer, key)`, if it is still remembered.
    pub(crate) fn decision(&self, buyer: &BuyerId, key: &IdempotencyKey) -> Option<Decision> {
        self.inner.lock().decisions.get(&(buyer.clone(), key.clone())).cloned()
    }

    /// Whether a key that is not remembered may have been decided: soon after a restart, and where the cache has
    /// dropped it. Then the store must be asked before a refusal.
    pub(crate) fn may_have_forgotten(&self, buyer: &BuyerId, key: &IdempotencyKey) -> bool {
        if !self.recalled.load(Ordering::Acquire) && self.born.elapsed() < OLD_RETRIES {
            return true;
        }
        self.inner.lock().forgotten.may_have((buyer, key))
    }

    /// A key that was accepted so long ago that only this is kept of it.
    pub(crate) fn recall(&self, buyer: &BuyerId, key: &IdempotencyKey) {
        self.inner.lock().forgotten.insert((buyer, key));
    }

    /// The accepted keys from before the start are known, as far back as anybody tries again.
    pub(crate) fn recalled(&self) {
        self.recalled.store(true, Ordering::Release);
    }

    /// Takes note of a decision that another core may have made; `decision` is asked for what is not known yet.
    pub(crate) fn learn(&self, buyer: &BuyerId, key: &IdempotencyKey, decision: impl FnOnce() -> Decision) {
        let mut inner = self.inner.lock();
        if inner.decisions.peek(&(buyer.clone(), key.clone())).is_some() {
            return;
        }
        let decision = decision();
        inner.remember(buyer, key, decision.clone());
        if inner.waiters > 0 {
            let name = AttemptName { buyer: buyer.clone(), key: key.clone(), body_hash: decision.body_hash };
            inner.wake(&name, &Ended::Decided(decision));
        }
    }

    /// Remembers the end of an attempt and wakes those who wait for it.
    pub(crate) fn ended(&self, name: &AttemptName, ended: &Ended) {
        let mut inner = self.inner.lock();
        if let Ended::Decided(decision) | Ended::Bought { decision, .. } = ended {
            inner.remember(&name.buyer, &name.key, decision.clone());
        }
        inner.wake(name, ended);
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
