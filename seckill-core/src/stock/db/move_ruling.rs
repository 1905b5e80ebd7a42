//! The rules by which a step of a move takes effect, as a pure function over the product's row that the step's
//! transaction has read. It reads and writes nothing; the SQL that follows is conditional all the same.

use types::{Epoch, Phase, Tier};

use crate::stock::store::{LeaseRow, MoveStep, ProductRow, SaleState};

/// What a step does to its product. Where it says nothing of a column, that column stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepRuling {
    /// Nothing: the row is not as the mover believed.
    Stale,
    /// The tier becomes `target`, at this epoch.
    Switch {
        /// The product's next epoch.
        epoch: Epoch,
        /// `db` or `queue`.
        target: Tier,
    },
    /// `granted` units go from `free` into a new OPEN lease that is not loaded; the tier is redis and active.
    Lend {
        /// The epoch of product and lease: the next one for a move in one step, the fence's own at its end.
        epoch: Epoch,
        /// Units lent; may be none.
        granted: u64,
        /// Whether this is a move in one step, whose history needs its fence written too.
        in_one_step: bool,
    },
    /// The lease counts as loaded.
    MarkLoaded,
    /// The product drains at this epoch; its open lease, if there is one, becomes FENCED.
    Fence {
        /// The product's next epoch.
        epoch: Epoch,
    },
    /// The FENCED lease becomes CLOSED and this many units return to `free`.
    Settle {
        /// `granted − consumed`, as the database counts.
        back: u64,
    },
    /// This many units more go from `free` into the OPEN lease.
    TopUp {
        /// At least one.
        units: u64,
    },
    /// The product is active on this tier, which is not redis.
    Open {
        /// Where it sells from now on.
        tier: Tier,
    },
}

/// Rules on a step. `row` is the product that the step, or the lease it names, belongs to.
///
/// - A step that names an epoch takes effect at that epoch only, so that a mover who slept cannot undo a later move.
/// - A lease opens only where none is alive; a fence leads out of redis only; a product opens only once its lease
///   is settled.
/// - A lease settles once, from FENCED, by the database's own count.
/// - Of a closed sale nothing is lent any more, by a mover who slept over the close either: no move to redis begins, and
///   one that had begun ends with an empty lease.
/// - A lease is topped up only while its store grants from it: active, OPEN and loaded. Before that its load says how
///   many it has; a fenced one gives back what it is given.
pub fn rule_on_step(step: &MoveStep, row: &ProductRow) -> StepRuling {
    match step {
        MoveStep::Switch { epoch, target, .. } => {
            if *target == Tier::Redis || !sells_from_free(row, *epoch) || row.state.tier == *target {
                return StepRuling::Stale;
            }
            StepRuling::Switch { epoch: epoch.next(), target: *target }
        }
        MoveStep::OpenLease { epoch, keep, .. } => {
            let ends_move = drains(row, *epoch) && row.state.target == Some(Tier::Redis);
            if !(ends_move || (sells_from_free(row, *epoch) && lends(row))) || row.lease.is_some() {
                return StepRuling::Stale;
            }
            StepRuling::Lend {
                epoch: if ends_move { *epoch } else { epoch.next() },
                granted: if lends(row) { row.free.saturating_sub(*keep) } else { 0 },
                in_one_step: !ends_move,
            }
        }
        MoveStep::MarkLoaded { lease } => match row.lease {
            Some(LeaseRow { lease: here, fenced: false, loaded: false, .. }) if here == *lease => {
                StepRuling::MarkLoaded
            }
            _ => StepRuling::Stale,
        },
        MoveStep::Fence { epoch, .. } => {
            if row.state.phase != Phase::Active || row.state.tier != Tier::Redis || row.state.epoch != *epoch {
                return StepRuling::Stale;
            }
            StepRuling::Fence { epoch: epoch.next() }
        }
        MoveStep::Settle { lease } => match row.lease {
            Some(LeaseRow { lease: here, fenced: true, granted, consumed, .. }) if here == *lease => {
                StepRuling::Settle { back: granted.saturating_sub(consumed) }
            }
            _ => StepRuling::Stale,
        },
        MoveStep::TopUp { lease, keep } => {
            let units = row.free.saturating_sub(*keep);
            match row.lease {
                Some(LeaseRow { lease: here, fenced: false, loaded: true, .. })
                    if here == *lease && units > 0 && sells_from_lease(row) && lends(row) =>
                {
                    StepRuling::TopUp { units }
                }
                _ => StepRuling::Stale,
            }
        }
        MoveStep::Open { epoch, .. } => match row.state.target {
            Some(tier) if tier != Tier::Redis && drains(row, *epoch) && row.lease.is_none() => {
                StepRuling::Open { tier }
            }
            _ => StepRuling::Stale,
        },
    }
}

fn sells_from_free(row: &ProductRow, epoch: Epoch) -> bool {
    row.state.phase == Phase::Active && row.state.epoch == epoch && row.state.tier != Tier::Redis
}

fn lends(row: &ProductRow) -> bool {
    row.sale_state != SaleState::Closed
}

fn sells_from_lease(row: &ProductRow) -> bool {
    row.state.phase == Phase::Active && row.state.tier == Tier::Redis
}

fn drains(row: &ProductRow, epoch: Epoch) -> bool {
    row.state.phase == Phase::Draining && row.state.epoch == epoch
}
