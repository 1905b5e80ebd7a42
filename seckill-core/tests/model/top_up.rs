//! Top-up of an open lease: both halves by the production rules (`rule_on_step`, `rules::top_up`), whoever takes them
//! may die between or be late; and the ways in which a broken protocol does it.

use super::books::{LeaseState, lease_id};
use super::mutant::Mutant;
use super::state::{Config, Redis, Steps, TopUp, World};
use crate::stock::redis::LeaseLook;
use crate::stock::redis::rules::{self, Lent};
use types::Tier;

impl Config {
    /// The Redis half, by whoever and whenever.
    fn raise(&self, w: &World, lease: u8, granted: u8, units: u8) -> World {
        let mut t = *w;
        let here = w.redis.on.then(|| Lent {
            lease: lease_id(if self.is(Mutant::TopUpOfAnyLease) { lease } else { w.redis.lease } as usize),
            closed: w.redis.closed,
            units: LeaseLook { granted: u64::from(w.redis.cap), left: u64::from(w.redis.left()) },
        });
        let by = if self.is(Mutant::TopUpByIncrement) { w.redis.cap.saturating_add(units) } else { granted };
        if let Some(units) = rules::top_up(here.as_ref(), lease_id(lease as usize), u64::from(by)) {
            t.redis.cap = units.granted as u8;
        } else if self.is(Mutant::TopUpCreatesTheKey) && !w.redis.on {
            let epoch = w.b.leases[lease as usize].epoch;
            t.redis = Redis { on: true, lease, epoch, cap: granted, ..Redis::default() };
        }
        t
    }

    /// A core found the lease behind what SQL has lent to it.
    pub(super) fn raise_again(&self, w: &World, lease: u8, out: &mut Steps) {
        let granted = w.b.leases[lease as usize].granted;
        let t = self.raise(w, lease, granted, granted.saturating_sub(w.redis.cap));
        out.push((("top-up in Redis, again", lease, granted), t));
    }

    pub(super) fn top_ups(&self, w: &World, out: &mut Steps) {
        self.broken_top_ups(w, out);
        let Some(TopUp { lease, granted, units }) = w.top_up else { return };
        let mut t = *w;
        t.top_up = None;
        out.push((("the core dies in a top-up", lease, 0), t));
        if self.is(Mutant::TopUpInRedisFirst) {
            if w.b.free >= units && w.b.leases[lease as usize].state == LeaseState::Open {
                t.b.free -= units;
                t.b.leased += units;
                t.b.leases[lease as usize].granted += units;
            }
            out.push((("top-up in SQL second", lease, units), t));
            return;
        }
        let mut t = self.raise(w, lease, granted, units);
        // The reply was lost, and the call is made again.
        if t.redis != w.redis && w.luck.trick > 0 {
            let mut u = t;
            u.luck.trick -= 1;
            out.push((("top-up in Redis, the reply is lost", lease, granted), u));
        }
        t.top_up = None;
        out.push((("top-up in Redis", lease, granted), t));
    }

    fn broken_top_ups(&self, w: &World, out: &mut Steps) {
        if w.luck.top_ups == 0 || w.b.free == 0 {
            return;
        }
        let mut t = *w;
        t.luck.top_ups -= 1;
        let open = w.b.alive().filter(|l| w.b.leases[*l].state == LeaseState::Open);
        match (self.mutant, open) {
            (Mutant::TopUpInRedisFirst, Some(l))
                if w.b.tier == Tier::Redis && w.top_up.is_none() && self.left(w, l as u8).is_some() =>
            {
                t.redis.cap += 1;
                t.top_up = Some(TopUp { lease: l as u8, granted: 0, units: 1 });
                out.push((("top-up in Redis first", l as u8, 1), t));
            }
            (Mutant::TopUpOfAClosedLease, _) => {
                for l in (0..w.b.opened as usize).filter(|l| w.b.leases[*l].state != LeaseState::Open) {
                    let mut t = t;
                    t.b.free -= 1;
                    t.b.leases[l].granted += 1;
                    out.push((("top-up of a lease that is not open", l as u8, 1), t));
                }
            }
            _ => {}
        }
    }
}
