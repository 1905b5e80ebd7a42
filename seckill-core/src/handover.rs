//! Moves of a product between tiers, as decisions: from a product's row and the wanted tier to the next step.
//! Pure: it reads no clock and no store, and it never skips a step.

use std::time::Duration;

use types::{Epoch, LeaseId, Phase, Sku, Tier, Timestamp};

use crate::stock::store::{LeaseRow, ProductRow, SaleState};

/// A lease that has too few units and whose grants stopped becoming orders for this long is settled, so that grants
/// that got lost come back.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(2);

/// A move that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveDone {
    /// Which product.
    pub product: Sku,
    /// The tier it left.
    pub from: Tier,
    /// The tier it sells on now (the same tier: a new lease).
    pub to: Tier,
    /// Its epoch now.
    pub epoch: Epoch,
    /// When it sold again.
    pub at: Timestamp,
    /// Time from the fence (or the only step) until then: how long requests may have waited.
    pub took: Duration,
}

/// How the open, loaded lease of a product is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseHealth {
    /// It grants.
    Sound,
    /// It must be replaced: its store lost it, an alarm condemned it, its terms changed, or its grants leaked.
    Replace,
}

/// The next step of a product's move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// `db ↔ queue` in one step.
    Switch { target: Tier },
    /// A new lease out of `free`: from db or queue, or the end of a move towards redis.
    OpenLease,
    /// Win the right to load the lease, then load it.
    Load { lease: LeaseRow },
    /// H1.
    Fence { target: Tier },
    /// H2 to H4: close the lease in its store, pass the barrier, settle.
    Settle { lease: LeaseId },
    /// H5 towards db or queue.
    Open,
}

/// The tier that a product should have: the plan's wish, unless its sale is over. Then nothing may stay lent.
pub(crate) fn wanted(row: &ProductRow, plan: Option<Tier>, closing: bool, now: Timestamp) -> Tier {
    if closing || row.sale_state == SaleState::Closed || now >= row.state.closes {
        return Tier::Db;
    }
    plan.unwrap_or(row.state.tier)
}

/// The next step from `row` towards `wanted`; `None` when there is nothing to do. A move that has begun is first
/// brought to its own end, whatever is wanted by now.
pub(crate) fn next_step(row: &ProductRow, wanted: Tier, health: LeaseHealth) -> Option<NextStep> {
    match (row.state.phase, row.lease) {
        (Phase::Draining, Some(lease)) => Some(NextStep::Settle { lease: lease.lease }),
        (Phase::Draining, None) if row.state.target == Some(Tier::Redis) => Some(NextStep::OpenLease),
        (Phase::Draining, None) => Some(NextStep::Open),
        (Phase::Active, lease) => match (row.state.tier, lease) {
            // The store makes neither: redis without a lease, or an active product whose lease is fenced. A fence
            // leads out of both.
            (Tier::Redis, None) => Some(NextStep::Fence { target: wanted }),
            (Tier::Redis, Some(lease)) if wanted != Tier::Redis || lease.fenced => {
                Some(NextStep::Fence { target: wanted })
            }
            (Tier::Redis, Some(lease)) if !lease.loaded => Some(NextStep::Load { lease }),
            (Tier::Redis, Some(_)) => match health {
                LeaseHealth::Sound => None,
                LeaseHealth::Replace => Some(NextStep::Fence { target: Tier::Redis }),
            },
            (from, _) if from == wanted => None,
            (_, _) if wanted == Tier::Redis => Some(NextStep::OpenLease),
            (_, _) => Some(NextStep::Switch { target: wanted }),
        },
    }
}

/// What was seen of one loaded lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeaseWatch {
    lease: LeaseId,
    consumed: u64,
    unchanged_since: Timestamp,
    missing_before: bool,
    terms: (Timestamp, Timestamp, u32),
}

impl LeaseWatch {
    /// A watch over the lease that was seen in `row` at `now`.
    pub(crate) fn new(row: &ProductRow, lease: &LeaseRow, now: Timestamp) -> Self {
        Self {
            lease: lease.lease,
            consumed: lease.consumed,
            unchanged_since: now,
            missing_before: false,
            terms: terms(row),
        }
    }

    /// Whether this is the watch of that lease.
    pub(crate) fn is_of(&self, lease: LeaseId) -> bool {
        self.lease == lease
    }

    /// Looks again: `left` is what the lease store said (`None`: it does not have the lease).
    pub(crate) fn look(
        &mut self,
        row: &ProductRow,
        lease: &LeaseRow,
        left: Option<u64>,
        now: Timestamp,
    ) -> LeaseHealth {
        if lease.consumed != self.consumed {
            self.consumed = lease.consumed;
            self.unchanged_since = now;
        }
        let stuck = now.since(self.unchanged_since) >= STUCK_AFTER;
        let Some(left) = left else {
            // Seen twice: another core may be loading it just now.
            let twice = std::mem::replace(&mut self.missing_before, true);
            return if twice { LeaseHealth::Replace } else { LeaseHealth::Sound };
        };
        self.missing_before = false;
        // Fewer than one buyer may ask for: somebody may be told "short" though units are to be had elsewhere.
        let too_few = left < u64::from(row.limit);
        let leaked = lease.granted.saturating_sub(lease.consumed) > left;
        let idle = row.free > 0;
        if (stuck && too_few && (leaked || idle)) || self.terms != terms(row) {
            return LeaseHealth::Replace;
        }
        LeaseHealth::Sound
    }
}

/// What a lease was loaded with and cannot learn later.
fn terms(row: &ProductRow) -> (Timestamp, Timestamp, u32) {
    (row.state.opens, row.state.closes, row.limit)
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use types::plan::ProductState;
    use types::{Currency, Money, SaleName};

    use super::*;

    pub(crate) fn row(tier: Tier) -> ProductRow {
        ProductRow {
            state: ProductState {
                product: Sku::new("lamp").expect("sku"),
                sale: SaleName::new("s").expect("name"),
                pages: Vec::new(),
                tier,
                phase: Phase::Active,
                target: None,
                epoch: Epoch::new(4),
                sellable: 10,
                reserved: 0,
                total: 10,
                opens: Timestamp::from_seconds(0),
                closes: Timestamp::from_seconds(1_000),
                initial_tier: None,
            },
            sale_state: SaleState::Active,
            name: "Lamp".into(),
            price: Money::new(100, "EUR".parse::<Currency>().expect("a currency")).expect("money"),
            limit: 2,
            free: 10,
            sold: 0,
            lease: None,
        }
    }
    fn lease(loaded: bool, fenced: bool) -> LeaseRow {
        LeaseRow { lease: LeaseId::from_bits(1), epoch: Epoch::new(4), granted: 10, consumed: 0, fenced, loaded }
    }

    /// What the store does, so that the steps can be run to their end.
    fn take(row: &mut ProductRow, step: NextStep) {
        match step {
            NextStep::Switch { target } => {
                row.state.tier = target;
                row.state.epoch = row.state.epoch.next();
            }
            NextStep::OpenLease => {
                if row.state.phase == Phase::Active {
                    row.state.epoch = row.state.epoch.next();
                }
                let bits = u128::from(row.state.epoch.get());
                let epoch = row.state.epoch;
                row.lease =
                    Some(LeaseRow { lease: LeaseId::from_bits(bits), epoch, granted: row.free, ..lease(false, false) });
                row.free = 0;
                (row.state.tier, row.state.phase, row.state.target) = (Tier::Redis, Phase::Active, None);
            }
            NextStep::Load { .. } => row.lease.as_mut().expect("a lease").loaded = true,
            NextStep::Fence { target } => {
                if let Some(lease) = row.lease.as_mut() {
                    lease.fenced = true;
                }
                row.state.epoch = row.state.epoch.next();
                (row.state.phase, row.state.target) = (Phase::Draining, Some(target));
            }
            NextStep::Settle { .. } => {
                let lease = row.lease.take().expect("a lease");
                row.free += lease.granted - lease.consumed;
            }
            NextStep::Open => {
                row.state.tier = row.state.target.take().expect("a target");
                row.state.phase = Phase::Active;
            }
        }
    }

    proptest! {
        /// From every state that the store can be in, the steps end at the wanted tier, with every unit in place.
        #[test]
        fn every_move_comes_to_its_end(
            from in 0usize..3, to in 0usize..3, state in 0u8..5, target in 0usize..3, lost in any::<bool>(),
        ) {
            let wanted = Tier::ALL[to];
            let mut row = row(Tier::ALL[from]);
            if row.state.tier == Tier::Redis {
                row.free = 0;
                row.lease = Some(lease(state > 0, state > 1));
                if state > 1 {
                    row.state.phase = Phase::Draining;
                    row.state.target = Some(Tier::ALL[target]);
                }
                if state > 2 {
                    row.lease = None;
                    row.free = 10;
                }
            }
            let mut health = if lost { LeaseHealth::Replace } else { LeaseHealth::Sound };
            let mut epochs = vec![row.state.epoch];
            for _ in 0..12 {
                let Some(step) = next_step(&row, wanted, health) else { break };
                if matches!(step, NextStep::Load { .. }) {
                    health = LeaseHealth::Sound;
                }
                take(&mut row, step);
                epochs.push(row.state.epoch);
            }
            prop_assert_eq!(next_step(&row, wanted, health), None);
            prop_assert_eq!((row.state.tier, row.state.phase), (wanted, Phase::Active));
            prop_assert_eq!(row.free + row.lease.map_or(0, |l| l.granted - l.consumed), 10);
            prop_assert!(epochs.is_sorted());
        }
    }

    #[test]
    fn a_sale_that_is_over_lends_nothing() {
        let row = row(Tier::Redis);
        assert_eq!(wanted(&row, Some(Tier::Redis), false, Timestamp::from_seconds(999)), Tier::Redis);
        assert_eq!(wanted(&row, Some(Tier::Redis), false, Timestamp::from_seconds(1_000)), Tier::Db);
        assert_eq!(wanted(&row, Some(Tier::Queue), true, Timestamp::from_seconds(1)), Tier::Db);
        assert_eq!(wanted(&row, None, false, Timestamp::from_seconds(1)), Tier::Redis);
    }

    #[test]
    fn a_lease_is_replaced_when_lost_leaked_or_outdated() {
        let at = Timestamp::from_seconds;
        let open = LeaseRow { consumed: 7, ..lease(true, false) };
        let mut redis = ProductRow { free: 0, lease: Some(open), ..row(Tier::Redis) };
        let watch = LeaseWatch::new(&redis, &open, at(0));
        let look = |left, now| watch.clone().look(&redis, &open, left, now);
        assert_eq!(look(Some(3), at(60)), LeaseHealth::Sound, "idle, but nothing is missing");
        assert_eq!(look(Some(1), at(1)), LeaseHealth::Sound, "grants may be on their way");
        assert_eq!(look(Some(1), at(2)), LeaseHealth::Replace, "two grants never became orders");
        let mut seen = watch.clone();
        assert_eq!(seen.look(&redis, &open, None, at(1)), LeaseHealth::Sound);
        assert_eq!(seen.look(&redis, &open, None, at(1)), LeaseHealth::Replace);
        let drained = LeaseRow { consumed: 10, ..open };
        redis.lease = Some(drained);
        let mut seen = LeaseWatch::new(&redis, &drained, at(0));
        assert_eq!(seen.look(&redis, &drained, Some(0), at(60)), LeaseHealth::Sound, "sold, nothing to lend");
        redis.free = 1;
        assert_eq!(seen.look(&redis, &drained, Some(0), at(60)), LeaseHealth::Replace, "a unit came back");
        redis.limit = 3;
        assert_eq!(watch.clone().look(&redis, &open, Some(3), at(0)), LeaseHealth::Replace, "another limit");
    }
}
