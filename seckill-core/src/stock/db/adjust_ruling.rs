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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use types::{IdempotencyKey, LeaseId, Phase, Sku, Tier, Timestamp};

    use super::*;
    use crate::handover::tests::row;
    use crate::stock::adjustment::Reason;
    use crate::stock::db::move_ruling::{StepRuling, rule_on_step};
    use crate::stock::db::ruling::{LeaseView, Ruling, View, rule};
    use crate::stock::store::{Claim, LeaseRow, MoveStep, SaleState};

    /// What may happen next.
    #[derive(Debug, Clone)]
    enum Next {
        Adjust(i64),
        TopUp(u64),
        Settle,
        Lend(u64),
        Load,
        Fence(Tier),
        Open,
        Switch(Tier),
        /// Units; from the living lease or from `free`.
        Buy(u32, bool),
        Release(u64),
    }

    fn next() -> impl Strategy<Value = Next> {
        let tier = || prop::sample::select(Tier::ALL.to_vec());
        prop_oneof![
            3 => (-6i64..=6).prop_map(Next::Adjust),
            2 => (0u64..3).prop_map(Next::TopUp),
            2 => Just(Next::Settle),
            2 => (0u64..3).prop_map(Next::Lend),
            2 => Just(Next::Load),
            1 => tier().prop_map(Next::Fence),
            2 => Just(Next::Open),
            1 => tier().prop_map(Next::Switch),
            4 => (1u32..3, any::<bool>()).prop_map(|(n, lease)| Next::Buy(n, lease)),
            1 => (1u64..3).prop_map(Next::Release),
        ]
    }

    fn rest(row: &ProductRow) -> u64 {
        row.lease.map_or(0, |l| l.granted - l.consumed)
    }

    fn adjust(row: &mut ProductRow, delta: NonZeroI64) {
        let before = (row.clone(), rest(row));
        match rule_on_adjustment(delta, row) {
            AdjustRuling::Add { units } => {
                row.free += units;
                row.state.total += units;
            }
            AdjustRuling::Remove { free, lent, fence } => {
                row.free -= free;
                row.state.total -= free + lent;
                assert_eq!(free + lent, delta.get().unsigned_abs(), "wholly or not at all");
                assert!(lent == 0 || row.free == 0, "free units go first");
                if lent > 0 {
                    row.lease.as_mut().expect("units of a lease").granted -= lent;
                }
                assert_eq!(fence.is_some(), lent > 0 && before.0.lease.is_some_and(|l| !l.fenced));
                if let Some(epoch) = fence {
                    row.lease.as_mut().expect("an open lease").fenced = true;
                    (row.state.phase, row.state.target, row.state.epoch) = (Phase::Draining, Some(Tier::Redis), epoch);
                }
            }
            AdjustRuling::TooFew { removable } => {
                assert_eq!(removable, before.0.state.total - before.0.state.reserved - before.0.sold);
                assert!(delta.get().unsigned_abs() > removable);
            }
            AdjustRuling::TooMany { room } => panic!("room for {room} only"),
        }
    }

    fn step(row: &mut ProductRow, next: Next, count: u128) {
        let (product, epoch) = (row.state.product.clone(), row.state.epoch);
        let here = row.lease.map_or(LeaseId::from_bits(0), |l| l.lease);
        let step = match next {
            Next::TopUp(keep) => MoveStep::TopUp { lease: here, keep },
            Next::Settle => MoveStep::Settle { lease: here },
            Next::Lend(keep) => MoveStep::OpenLease { product, epoch, lease: LeaseId::from_bits(count), keep },
            Next::Load => MoveStep::MarkLoaded { lease: here },
            Next::Fence(target) => MoveStep::Fence { product, epoch, target },
            Next::Open => MoveStep::Open { product, epoch },
            Next::Switch(target) => MoveStep::Switch { product, epoch, target },
            Next::Adjust(_) | Next::Buy(..) | Next::Release(_) => return,
        };
        match rule_on_step(&step, row) {
            StepRuling::Stale => {}
            StepRuling::Switch { epoch, target } => (row.state.epoch, row.state.tier) = (epoch, target),
            StepRuling::Lend { epoch, granted, .. } => {
                row.free -= granted;
                let lease = LeaseId::from_bits(count);
                row.lease = Some(LeaseRow { lease, epoch, granted, consumed: 0, fenced: false, loaded: false });
                (row.state.epoch, row.state.tier, row.state.phase) = (epoch, Tier::Redis, Phase::Active);
                row.state.target = None;
            }
            StepRuling::MarkLoaded => row.lease.as_mut().expect("a lease").loaded = true,
            StepRuling::Fence { epoch } => {
                row.lease.as_mut().expect("a lease").fenced = true;
                let MoveStep::Fence { target, .. } = step else { unreachable!("only this step fences") };
                (row.state.epoch, row.state.phase, row.state.target) = (epoch, Phase::Draining, Some(target));
            }
            StepRuling::Settle { back } => {
                row.free += back;
                row.lease = None;
            }
            StepRuling::TopUp { units } => {
                row.free -= units;
                row.lease.as_mut().expect("a lease").granted += units;
            }
            StepRuling::Open { tier } => {
                (row.state.tier, row.state.phase, row.state.target) = (tier, Phase::Active, None);
            }
        }
    }

    fn buy(row: &mut ProductRow, n: u32, from_lease: bool) {
        let at = Timestamp::from_seconds(1);
        let claim = match row.lease {
            Some(lease) if from_lease => Claim::Grant { lease: lease.lease, seq: 1 },
            _ => Claim::Queue,
        };
        let view = View {
            sale: SaleState::Active,
            opens: row.state.opens,
            closes: row.state.closes,
            held: 0,
            limit: 100,
            free: row.free,
            leased: rest(row),
            reserved: row.state.reserved,
            lease: row.lease.map_or(LeaseView::Gone, |l| LeaseView::Alive {
                granted: l.granted,
                consumed: l.consumed,
                fenced: l.fenced,
                sequence_used: false,
            }),
            token_used: false,
        };
        match rule(claim, n, at, at, &view) {
            Ruling::TakeFree => row.free -= u64::from(n),
            Ruling::TakeLease => row.lease.as_mut().expect("a lease").consumed += u64::from(n),
            _ => return,
        }
        row.state.reserved += u64::from(n);
    }

    proptest! {
        /// Whatever happens in whatever order, no unit comes into being or is lost but by an adjustment, no lease
        /// has more orders than units, and the product is always somewhere that a mover can bring to its end.
        #[test]
        fn no_order_of_things_loses_a_unit(steps in prop::collection::vec(next(), 1..60)) {
            let mut row = row(Tier::Db);
            for (count, next) in (1u128..).zip(steps) {
                let total = row.state.total;
                match next.clone() {
                    Next::Adjust(delta) => {
                        if let Some(delta) = NonZeroI64::new(delta) {
                            adjust(&mut row, delta);
                        }
                    }
                    Next::Buy(n, lease) => buy(&mut row, n, lease),
                    Next::Release(n) => {
                        let n = n.min(row.state.reserved);
                        row.state.reserved -= n;
                        row.free += n;
                    }
                    _ => step(&mut row, next.clone(), count),
                }
                if let Some(lease) = row.lease {
                    prop_assert!(lease.consumed <= lease.granted);
                }
                prop_assert_eq!(row.free + rest(&row) + row.state.reserved + row.sold, row.state.total, "{:?}", next);
                prop_assert!(total == row.state.total || matches!(next, Next::Adjust(_)));
                let sells_from_lease = row.state.phase == Phase::Active && row.state.tier == Tier::Redis;
                prop_assert_eq!(sells_from_lease, row.lease.is_some_and(|l| !l.fenced), "open exactly while it sells");
            }
        }

        /// At the ends of the numbers nothing overflows and the refusal is the whole truth.
        #[test]
        fn a_refusal_says_what_can_be_done(delta in any::<i64>(), free in 0u64..9, granted in 0u64..9, used in 0u64..9) {
            prop_assume!(delta != 0);
            let mut row = row(Tier::Redis);
            let used = used.min(granted);
            (row.free, row.state.total) = (free, free + granted);
            row.state.reserved = used;
            let lease = LeaseId::from_bits(1);
            row.lease =
                Some(LeaseRow { lease, epoch: row.state.epoch, granted, consumed: used, fenced: false, loaded: true });
            let max = |n: u64| NonZeroI64::new(i64::try_from(n).expect("a small number"));
            match rule_on_adjustment(NonZeroI64::new(delta).expect("not 0"), &row) {
                AdjustRuling::TooFew { removable } => {
                    prop_assert!(delta < 0);
                    if let Some(all) = max(removable) {
                        let ruling = rule_on_adjustment(-all, &row);
                        let takes_all = matches!(ruling, AdjustRuling::Remove { free, lent, .. } if free + lent == removable);
                        prop_assert!(takes_all, "{:?}", ruling);
                    }
                }
                AdjustRuling::TooMany { room } => {
                    prop_assert_eq!(rule_on_adjustment(max(room).expect("room"), &row), AdjustRuling::Add { units: room });
                }
                AdjustRuling::Add { units } => prop_assert_eq!(i64::try_from(units), Ok(delta)),
                AdjustRuling::Remove { free, lent, .. } => prop_assert_eq!(free + lent, delta.unsigned_abs()),
            }
        }
    }

    #[test]
    fn a_repeat_is_the_same_product_number_and_reason_by_whomever() {
        let asked = Adjustment {
            id: IdempotencyKey::new("a").expect("a key"),
            product: Sku::new("lamp").expect("a sku"),
            delta: NonZeroI64::new(2).expect("not 0"),
            reason: Reason::new("found").expect("a reason"),
            by: "m".into(),
        };
        let there = AdjustmentRow {
            id: asked.id.clone(),
            product: asked.product.clone(),
            delta: 2,
            total: 9,
            reason: "found".into(),
            by: "somebody else".into(),
            at: Timestamp::from_seconds(1),
        };
        let same = Adjusted::Done { row: there.clone(), product: None };
        assert_eq!(rule_on_repeat(there.clone(), &asked), same);
        for other in [
            AdjustmentRow { delta: -2, ..there.clone() },
            AdjustmentRow { reason: "lost".into(), ..there.clone() },
            AdjustmentRow { product: Sku::new("chair").expect("a sku"), ..there },
        ] {
            assert_eq!(rule_on_repeat(other, &asked), Adjusted::OtherBody);
        }
    }
}
