//! An order's life after its acceptance, and the lease store with its faults and loads.

use super::books::{Money3, Order, PAYMENTS};
use super::mutant::Mutant;
use super::state::{Config, Redis, Steps, World};
use crate::stock::redis::LeaseLook;
use crate::stock::redis::rules::{self};
use types::Epoch;

impl Config {
    pub(super) fn orders(&self, w: &World, out: &mut Steps) {
        for key in 0..self.buyers.len() as u8 {
            let (k, buyer, row) = (key as usize, self.buyer(key), &w.b.keys[key as usize]);
            if row.order == Order::None {
                continue;
            }
            if self.expiry {
                let mut t = *w;
                if t.b.expire(key, buyer, self.mutant) {
                    if self.is(Mutant::ReleaseByRedisIncrement) && w.redis.on && w.redis.taken >= row.quantity {
                        t.b.free -= row.quantity;
                        t.redis.taken -= row.quantity;
                    }
                    out.push((("expired", key, 0), t));
                }
            }
            if (self.cancel && row.order == Order::Accepted) || (self.refunds && row.order == Order::Paid) {
                let mut t = *w;
                if t.b.cancel(key, buyer, self.mutant) {
                    out.push((("cancelled", key, 0), t));
                }
            }
            if w.captured[k] < self.payments {
                let mut t = *w;
                t.captured[k] += 1;
                out.push((("the provider takes money", key, t.captured[k]), t));
            }
            if w.applied[k] < w.captured[k] {
                let mut t = *w;
                t.applied[k] += 1;
                t.b.pay(key, buyer, w.applied[k] as usize, self.mutant);
                out.push((("payment applied", key, t.applied[k]), t));
            }
            for payment in 0..PAYMENTS {
                if row.payments[payment] == Money3::RefundDue {
                    let mut t = *w;
                    t.b.refunded(key, buyer, payment, self.mutant);
                    out.push((("money went back", key, payment as u8), t));
                }
            }
        }
    }

    pub(super) fn left(&self, w: &World, lease: u8) -> Option<u8> {
        (w.redis.on && w.redis.lease == lease && !w.redis.closed).then(|| w.redis.left())
    }

    /// What a look at the lease store says.
    pub(super) fn look(&self, w: &World, lease: u8) -> Option<LeaseLook> {
        let left = self.left(w, lease)?;
        Some(LeaseLook { granted: u64::from(w.redis.cap), left: u64::from(left) })
    }

    pub(super) fn lease_store(&self, w: &World, out: &mut Steps) {
        if w.luck.resets > 0 && w.redis.on {
            let mut t = *w;
            t.redis = Redis::default();
            t.luck.resets -= 1;
            out.push((("the lease store is empty after a restart", 0, 0), t));
            if self.stale && w.snapshot.on && w.snapshot != w.redis {
                let mut t = *w;
                t.redis = w.snapshot;
                t.lied = true;
                t.luck.resets -= 1;
                out.push((("the lease store comes back with old data", 0, 0), t));
            }
            if self.stale && w.snapshot != w.redis {
                let mut t = *w;
                t.snapshot = w.redis;
                out.push((("the lease store's replica takes a copy", 0, 0), t));
            }
        }
        let Some((lease, units)) = w.load else { return };
        let mut t = *w;
        t.load = None;
        out.push((("the loader dies", lease, 0), t));
        t.condemned = Some(lease);
        out.push((("the load fails", lease, 0), t));
        t.condemned = w.condemned;
        let new = w.b.leases[lease as usize].epoch;
        let here = w.redis.on.then(|| Epoch::new(u64::from(w.redis.epoch)));
        if rules::may_load(here, Epoch::new(u64::from(new))) || self.is(Mutant::OlderLeaseMayBeLoaded) {
            t.redis = Redis { on: true, lease, epoch: new, cap: units, ..Redis::default() };
            out.push((("lease loaded", lease, units), t));
        } else {
            t.condemned = Some(lease);
            out.push((("the lease store holds a newer lease", lease, 0), t));
        }
    }
}
