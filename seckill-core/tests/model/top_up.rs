//! Top-up of an open lease: of the protocol's text only, the port has no such step yet.

use super::books::LeaseState;
use super::mutant::Mutant;
use super::state::{Config, Redis, Steps, World};
use types::Tier;

impl Config {
    pub(super) fn top_ups(&self, w: &World, out: &mut Steps) {
        let m = self.mutant;
        let may = w.luck.top_ups > 0 && w.b.tier == Tier::Redis && !w.b.draining && w.top_up.is_none() && w.b.free > 0;
        if may && let Some(l) = w.b.alive().filter(|l| w.b.leases[*l].state == LeaseState::Open) {
            let mut t = *w;
            t.luck.top_ups -= 1;
            if m == Mutant::TopUpInRedisFirst {
                if self.left(w, l as u8).is_some() {
                    t.redis.cap += 1;
                    t.top_up = Some((l as u8, 1));
                    out.push((("top-up in Redis first", l as u8, 1), t));
                }
            } else {
                t.b.free -= 1;
                t.b.leased += 1;
                t.b.leases[l].granted += 1;
                t.top_up = Some((l as u8, t.b.leases[l].granted));
                out.push((("top-up in SQL", l as u8, 1), t));
            }
        }
        if m == Mutant::TopUpOfAClosedLease && w.luck.top_ups > 0 && w.b.free > 0 {
            for l in 0..w.b.opened as usize {
                if w.b.leases[l].state != LeaseState::Open {
                    let mut t = *w;
                    t.luck.top_ups -= 1;
                    t.b.free -= 1;
                    t.b.leases[l].granted += 1;
                    out.push((("top-up of a lease that is not open", l as u8, 1), t));
                }
            }
        }
        let Some((lease, units)) = w.top_up else { return };
        let mut t = *w;
        t.top_up = None;
        out.push((("the core dies in a top-up", lease, 0), t));
        if m == Mutant::TopUpInRedisFirst {
            if w.b.free >= 1 && w.b.leases[lease as usize].state == LeaseState::Open {
                t.b.free -= 1;
                t.b.leased += 1;
                t.b.leases[lease as usize].granted += 1;
            }
            out.push((("top-up in SQL second", lease, 1), t));
            return;
        }
        let named = w.redis.lease == lease || m == Mutant::TopUpOfAnyLease;
        if w.redis.on && named && !w.redis.closed {
            if m == Mutant::TopUpByIncrement {
                t.redis.cap += 1;
                if w.luck.trick > 0 {
                    let mut u = t;
                    u.luck.trick -= 1;
                    u.top_up = w.top_up;
                    out.push((("top-up by INCR, the reply is lost", lease, 1), u));
                }
            } else {
                t.redis.cap = t.redis.cap.max(units);
            }
            out.push((("top-up in Redis", lease, units), t));
        } else if !w.redis.on && m == Mutant::TopUpCreatesTheKey {
            let epoch = w.b.leases[lease as usize].epoch;
            t.redis = Redis { on: true, lease, epoch, cap: units, ..Redis::default() };
            out.push((("top-up creates the key", lease, units), t));
        }
    }
}
