//! The rules by which stock is adjusted, as pure functions over what one transaction has read. They read and write
//! nothing; the SQL that follows is conditional all the same. Why nothing has to be recalled: `docs/adr/0011`.

use std::num::NonZeroI64;

use types::Epoch;
use types::sale::MAX_STOCK;

use crate::stock::adjustment::{Adjusted, Adjustment, AdjustmentRow};
use crate::stock::store::ProductRow;

/// What an adjustment does to its product. Where it says nothing of a column, that column stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdjustRuling {
    /// The units come into `total` and `free`.
    Add {
        /// How many.
        units: u64,
    },
    /// The units leave `total`, at once and wholly.
    Remove {
        /// How many of them leave `free`.
        free: u64,
        /// How many leave the living lease: its `granted` and the product's `leased`.
        lent: u64,
        /// The lease is OPEN and its store may already have promised those units: the product drains towards a
        /// new lease, at this epoch, in the same transaction.
        fence: Option<Epoch>,
    },
    /// More than is neither sold nor reserved.
    TooFew {
        /// How many units can be removed now.
        removable: u64,
    },
    /// The total would be too large.
    TooMany {
        /// How many units can be added now.
        room: u64,
    },
}

/// Rules on an adjustment of the product in `row`.
///
/// - What is sold or reserved is never touched; all else may go, in any tier and phase.
/// - Free units go first: nobody asked for them yet. The rest is taken from what the living lease has not turned
///   into orders. Its grants are permission to ask: the consumer's `consumed + n <= granted` refuses those that have
///   lost their units, and they are submitted again.
/// - Added units are free, in any tier; a lease gets them by a top-up.
pub fn rule_on_adjustment(delta: NonZeroI64, row: &ProductRow) -> AdjustRuling {
    let units = delta.get().unsigned_abs();
    if delta.is_positive() {
        let room = MAX_STOCK.saturating_sub(row.state.total);
        return if units > room { AdjustRuling::TooMany { room } } else { AdjustRuling::Add { units } };
    }
    let rest = row.lease.map_or(0, |lease| lease.granted.saturating_sub(lease.consumed));
    let removable = row.free.saturating_add(rest);
    if units > removable {
        return AdjustRuling::TooFew { removable };
    }
    let free = units.min(row.free);
    let lent = units - free;
    let open = row.lease.is_some_and(|lease| !lease.fenced);
    AdjustRuling::Remove { free, lent, fence: (lent > 0 && open).then(|| row.state.epoch.next()) }
}

/// What asking again under an id is told: what stands in the books, if it is the same request.
pub fn rule_on_repeat(there: AdjustmentRow, asked: &Adjustment) -> Adjusted {
    let same =
        there.product == asked.product && there.delta == asked.delta.get() && there.reason == asked.reason.as_str();
    if same { Adjusted::Done { row: there, product: None } } else { Adjusted::OtherBody }
}
