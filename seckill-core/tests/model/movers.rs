//! Movers: sound ones, slow ones, broken ones.

use super::books::{IN_TIME, LEASES, LeaseState, lease_id, lease_index, sku};
use super::mutant::Mutant;
use super::state::{Config, Kind, Record, Slow, Steps, TopUp, World};
use crate::handover::{Circumstances, LeaseHealth, LeaseWatch, NextStep, STUCK_AFTER, Why, Wish, next_step, wanted};
use crate::stock::store::{MoveStep, ProductRow};
use types::{Epoch, Tier};

impl Config {
    pub(super) fn health(&self, w: &World, row: &ProductRow) -> LeaseHealth {
        let Some(lease) = row.lease.filter(|l| l.loaded && !l.fenced && !w.b.draining) else {
            return LeaseHealth::Sound;
        };
        let index = lease_index(lease.lease) as u8;
        if w.condemned == Some(index) {
            return LeaseHealth::Replace(Why::Condemned);
        }
        let look = self.look(w, index);
        // Two seconds pass without an order: records may lie in the topic for that long.
        let mut watch = LeaseWatch::new(row, &lease, IN_TIME);
        let _first = watch.look(row, &lease, look, IN_TIME);
        watch.look(row, &lease, look, IN_TIME.plus(STUCK_AFTER))
    }

    pub(super) fn movers(&self, w: &World, out: &mut Steps) {
        if let Some(slow) = w.slow {
            let mut t = *w;
            t.slow = None;
            out.push((("the slow core dies", 0, 0), t));
            self.take(t, slow, out);
        }
        let row = w.b.row();
        let leak_over = w.b.over && w.b.tier == Tier::Redis && !w.b.draining;
        if leak_over
            && (self.is(Mutant::NoLeakRecovery)
                || (self.is(Mutant::LeakRecoveryOfDrainedLeasesOnly)
                    && row.lease.is_none_or(|l| self.left(w, lease_index(l.lease) as u8) != Some(0))))
        {
            return;
        }
        let mut seen: Vec<NextStep> = Vec::new();
        for plan in &self.tiers {
            let moves = !w.b.over && *plan != w.b.tier && !w.b.draining;
            if moves && w.luck.moves == 0 {
                continue;
            }
            let wish = Some(Wish { tier: *plan, taken: IN_TIME, ordered_until: None });
            let wish = wanted(&row, wish, Circumstances { closing: false, away: false, now: IN_TIME });
            for health in [LeaseHealth::Sound, self.health(w, &row)] {
                // What this core knows to be queued; another core may know of nothing.
                let Some(step) = next_step(&row, wish, health, 0) else { continue };
                if self.is(Mutant::TopUpInRedisFirst) && matches!(step, NextStep::TopUp { .. }) {
                    continue;
                }
                let replaces =
                    matches!(health, LeaseHealth::Replace(_)) && step == (NextStep::Fence { target: Tier::Redis });
                if (replaces && w.luck.replaces == 0) || seen.contains(&step) {
                    continue;
                }
                seen.push(step);
                let mut t = *w;
                if replaces {
                    t.luck.replaces -= 1;
                } else if moves && step.moves() {
                    t.luck.moves -= 1;
                }
                for slow in self.as_taken(w, &row, step) {
                    if w.luck.slow_steps > 0 && w.slow.is_none() {
                        let mut u = t;
                        u.luck.slow_steps -= 1;
                        u.slow = Some(slow);
                        out.push((("a core decides a step and is slow to take it", 0, 0), u));
                    }
                    self.take(t, slow, out);
                }
                self.on_the_way(w, step, out);
                if let NextStep::Raise { lease } = step {
                    self.raise_again(w, lease_index(lease.lease) as u8, out);
                }
            }
        }
        self.broken_moves(w, out);
    }

    /// The step as the mover takes it.
    pub(super) fn as_taken(&self, w: &World, row: &ProductRow, step: NextStep) -> Vec<Slow> {
        let epoch = row.state.epoch.get() as u8;
        match step {
            NextStep::Switch { target } => vec![Slow::Switch { epoch, target }],
            NextStep::OpenLease => {
                // What this core knows to be queued; another core may know of nothing.
                let queued = w.queue.units();
                let mut ways = vec![Slow::Lend { epoch, keep: 0 }];
                if queued > 0 {
                    ways.push(Slow::Lend { epoch, keep: queued });
                }
                ways
            }
            NextStep::TopUp { lease } => {
                let (lease, queued) = (lease_index(lease.lease) as u8, w.queue.units());
                let mut ways = vec![Slow::TopUp { lease, keep: 0 }];
                if queued > 0 {
                    ways.push(Slow::TopUp { lease, keep: queued });
                }
                ways
            }
            NextStep::Raise { .. } => Vec::new(),
            NextStep::Load { lease } => vec![Slow::Mark { lease: lease_index(lease.lease) as u8 }],
            NextStep::Fence { target } => vec![Slow::Fence { epoch, target }],
            NextStep::Settle { .. } if self.is(Mutant::OnlyTheConsumerSettles) => Vec::new(),
            NextStep::Settle { lease } => vec![Slow::Settle { lease: lease_index(lease) as u8 }],
            NextStep::Open => vec![Slow::Open { epoch }],
        }
    }

    /// H2 and H3: they may or may not happen before H4.
    pub(super) fn on_the_way(&self, w: &World, step: NextStep, out: &mut Steps) {
        let NextStep::Settle { lease } = step else { return };
        let lease = lease_index(lease) as u8;
        if w.redis.on && w.redis.lease == lease && !w.redis.closed {
            let mut t = *w;
            t.redis.closed = true;
            out.push((("H2 the lease is closed in its store", lease, 0), t));
        }
        if self.barrier && !w.grants.holds(Kind::Barrier) {
            let mut t = *w;
            if t.grants.push(Record { kind: Kind::Barrier, lease, ..Record::default() }) {
                out.push((("H3 barrier", lease, 0), t));
            }
        }
    }

    pub(super) fn take(&self, w: World, slow: Slow, out: &mut Steps) {
        let mut t = w;
        let epoch_of = |epoch: u8| Epoch::new(u64::from(epoch));
        let product = sku();
        let (name, step, lease) = match slow {
            Slow::Switch { epoch, target } => {
                ("switch", MoveStep::Switch { product, epoch: epoch_of(epoch), target }, 0)
            }
            Slow::Lend { epoch, keep } => {
                if w.b.opened as usize >= LEASES {
                    return;
                }
                let (lease, keep) = (w.b.opened, u64::from(keep));
                let step =
                    MoveStep::OpenLease { product, epoch: epoch_of(epoch), lease: lease_id(lease as usize), keep };
                ("a new lease", step, lease)
            }
            Slow::Mark { lease } => ("loaded = 1", MoveStep::MarkLoaded { lease: lease_id(lease as usize) }, lease),
            Slow::Fence { epoch, target } => {
                ("H1 fence", MoveStep::Fence { product, epoch: epoch_of(epoch), target }, 0)
            }
            Slow::Settle { lease } => ("H4 by the mover", MoveStep::Settle { lease: lease_id(lease as usize) }, lease),
            Slow::TopUp { lease, keep } => {
                let step = MoveStep::TopUp { lease: lease_id(lease as usize), keep: u64::from(keep) };
                ("top-up in SQL", step, lease)
            }
            Slow::Open { epoch } => ("H5 open", MoveStep::Open { product, epoch: epoch_of(epoch) }, 0),
        };
        let left = self.left(&t, lease);
        if !t.b.step(&step, left, self.mutant) {
            if w.slow.is_none() {
                out.push((("a step that comes too late", lease, 0), t));
            }
            return;
        }
        match slow {
            Slow::Mark { lease } => t.load = Some((lease, t.b.leases[lease as usize].granted)),
            Slow::Fence { .. } => t.condemned = None,
            Slow::TopUp { lease, .. } => {
                // With another one between its halves: that core dies, or this one does.
                if t.top_up.is_some() {
                    out.push(((name, lease, t.b.epoch), t));
                }
                let granted = t.b.leases[lease as usize].granted;
                let units = granted - w.b.leases[lease as usize].granted;
                t.top_up = Some(TopUp { lease, granted, units });
            }
            _ => {}
        }
        out.push(((name, lease, t.b.epoch), t));
    }

    /// Moves that only a broken mover makes.
    pub(super) fn broken_moves(&self, w: &World, out: &mut Steps) {
        let mut t = *w;
        match self.mutant {
            Mutant::OpenBeforeSettle if w.b.draining && w.b.alive().is_some() => {
                let Some(target) = w.b.target else { return };
                (t.b.draining, t.b.target) = (false, None);
                if target == Tier::Redis && !w.b.over && (w.b.opened as usize) < LEASES {
                    let l = w.b.opened as usize;
                    t.b.leases[l].granted = w.b.free;
                    t.b.leases[l].state = LeaseState::Open;
                    (t.b.leases[l].epoch, t.b.opened, t.b.free) = (w.b.epoch, w.b.opened + 1, 0);
                    t.b.leased += w.b.free;
                } else {
                    t.b.tier = if target == Tier::Redis { Tier::Db } else { target };
                }
                out.push((("opened before it was settled", 0, 0), t));
            }
            Mutant::SettleTwice if w.luck.trick > 0 => {
                for l in 0..w.b.opened {
                    if w.b.leases[l as usize].state == LeaseState::Closed {
                        t.luck.trick -= 1;
                        self.take(t, Slow::Settle { lease: l }, out);
                    }
                }
            }
            Mutant::LeakReturnsUnitsOfAnOpenLease if w.luck.trick > 0 && !w.b.draining => {
                let Some(l) = w.b.alive() else { return };
                if self.left(w, l as u8) == Some(0) && w.b.leases[l].rest() > 0 {
                    t.luck.trick -= 1;
                    t.b.free += w.b.leases[l].rest();
                    out.push((("leak: units come back, the lease stays open", l as u8, 0), t));
                }
            }
            Mutant::LeaseIsLoadedAgain if w.luck.trick > 0 && !w.redis.on && w.load.is_none() => {
                let Some(l) = w.b.alive().filter(|l| w.b.leases[*l].loaded) else { return };
                t.luck.trick -= 1;
                t.load = Some((l as u8, w.b.leases[l].granted));
                out.push((("the same lease is loaded again", l as u8, 0), t));
            }
            _ => {}
        }
    }
}
