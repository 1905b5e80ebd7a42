//! Stories of stock that changes while it sells: adjustments in every tier and phase, and top-ups of an open lease.
//! What is sold or reserved is never touched, and nobody is promised a unit that has left.

use std::sync::Arc;

use seckill_core::stock::store::{MoveStep, Moved, Resubmit, SaleState};
use types::sale::MAX_STOCK;
use types::{Epoch, Phase, SaleName, Tier};

use super::*;

async fn adjust(shop: &Shop, n: usize, delta: i64) -> Adjusted {
    shop.store.adjust(adjustment(n, delta), NOW).await.unwrap()
}
/// Adjusts and answers the product right after it.
async fn adjusted(shop: &Shop, n: usize, delta: i64) -> ProductRow {
    match adjust(shop, n, delta).await {
        Adjusted::Done { row, product: Some(product) } => {
            assert_eq!((row.delta, row.total, row.at), (delta, product.state.total, NOW));
            assert_eq!(*product, shop.product().await);
            shop.check();
            *product
        }
        other => panic!("{other:?}"),
    }
}
async fn refused(shop: &Shop, n: usize, delta: i64, expected: Adjusted) {
    let before = shop.product().await;
    assert_eq!(adjust(shop, n, delta).await, expected, "{delta}");
    assert_eq!(shop.product().await, before, "{delta} changed nothing");
}
fn lent(row: &ProductRow) -> (u64, u64, bool) {
    row.lease.map(|l| (l.granted, l.consumed, l.fenced)).expect("a lease")
}

pub async fn units_come_and_go_where_free_sells(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 3, 5).await;
    shop.accept(attempt(1)).await;
    let paid = shop.accept(attempt(2)).await;
    shop.pay(1, &paid).await;
    assert_eq!(adjusted(&shop, 1, 4).await.state.total, 7);
    assert_eq!(shop.units().await, (5, 0, 1, 1));
    refused(&shop, 2, -6, Adjusted::TooFew { removable: 5 }).await;
    let epoch = shop.product().await.state.epoch;
    shop.moved(MoveStep::Switch { product: sku("a"), epoch, target: Tier::Queue }).await;
    let row = adjusted(&shop, 3, -5).await;
    assert_eq!((row.state.total, row.state.sellable, row.state.epoch), (2, 0, Epoch::new(1)), "free only: no fence");
    assert_eq!(outcome(&shop.decide(queued(3)).await), Some((Outcome::AllReserved, true)));
    refused(&shop, 4, -1, Adjusted::TooFew { removable: 0 }).await;
    adjusted(&shop, 5, 1).await;
    shop.accept(queued(4)).await;
    shop.check();
}

pub async fn an_adjustment_takes_effect_once(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 3, 5).await;
    let Adjusted::Done { row, .. } = adjust(&shop, 1, 2).await else { panic!("it was done") };
    adjusted(&shop, 2, -1).await;
    let shop = shop.restart();
    for by in ["m. keeper", "somebody else"] {
        let again = Adjustment { by: by.into(), ..adjustment(1, 2) };
        let repeat = shop.store.adjust(again, later(5_000)).await.unwrap();
        assert_eq!(repeat, Adjusted::Done { row: row.clone(), product: None }, "the first answer, word for word");
    }
    refused(&shop, 1, 3, Adjusted::OtherBody).await;
    refused(&shop, 1, -2, Adjusted::OtherBody).await;
    let other = Adjustment { reason: Reason::new("another reason").unwrap(), ..adjustment(1, 2) };
    assert_eq!(shop.store.adjust(other, NOW).await.unwrap(), Adjusted::OtherBody);
    shop.store.apply_sale(sale("two", vec![spec("b", 1, 1)]), NOW).await.unwrap();
    let other = Adjustment { product: sku("b"), ..adjustment(1, 2) };
    assert_eq!(shop.store.adjust(other, NOW).await.unwrap(), Adjusted::OtherBody);
    let unknown = Adjustment { product: sku("unknown"), ..adjustment(9, 2) };
    assert_eq!(shop.store.adjust(unknown, NOW).await.unwrap(), Adjusted::UnknownProduct);
    // A refusal bound nothing: the same id may succeed later.
    refused(&shop, 3, -9, Adjusted::TooFew { removable: 4 }).await;
    adjusted(&shop, 4, 5).await;
    assert_eq!(adjusted(&shop, 3, -9).await.state.total, 0);
    assert_eq!(shop.decide(attempt(9)).await, Verdict::SoldOutAtDoor);
}

pub async fn no_number_is_too_large_to_be_refused(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 3, 5).await;
    refused(&shop, 1, i64::MIN, Adjusted::TooFew { removable: 3 }).await;
    refused(&shop, 1, i64::MAX, Adjusted::TooMany { room: MAX_STOCK - 3 }).await;
    let room = i64::try_from(MAX_STOCK - 3).unwrap();
    refused(&shop, 1, room + 1, Adjusted::TooMany { room: MAX_STOCK - 3 }).await;
    adjusted(&shop, 1, room).await;
    refused(&shop, 2, 1, Adjusted::TooMany { room: 0 }).await;
    adjusted(&shop, 2, -i64::try_from(MAX_STOCK).unwrap()).await;
    assert_eq!(shop.units().await, (0, 0, 0, 0));
}

pub async fn lent_units_leave_at_once_and_their_grants_go_another_way(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 6, 6).await;
    let lease = shop.lend(1).await;
    shop.moved(MoveStep::MarkLoaded { lease }).await;
    shop.accept(granted(1, lease, 0)).await;
    let row = adjusted(&shop, 1, 2).await;
    assert_eq!((row.free, lent(&row), row.state.phase), (2, (6, 1, false), Phase::Active), "added units are free");
    // 2 of free and 3 of the 5 that are left of the lease.
    let row = adjusted(&shop, 2, -5).await;
    assert_eq!((row.free, lent(&row), row.state.total, row.state.sellable), (0, (3, 1, true), 3, 2));
    assert_eq!((row.state.phase, row.state.target), (Phase::Draining, Some(Tier::Redis)), "towards a new lease");
    assert_eq!(row.state.epoch, Epoch::new(2));
    assert_eq!(shop.step(MoveStep::TopUp { lease, keep: 0 }).await, Moved::Stale(Some(row)));
    // The lease store had promised 5: two find their unit, the others are submitted again, and it is no alarm.
    shop.accept(granted(2, lease, 1)).await;
    shop.accept(granted(3, lease, 2)).await;
    for n in 4..6 {
        assert_eq!(
            shop.decide(granted(n, lease, n as u64)).await,
            Verdict::Resubmit(Resubmit::LeaseClosed),
            "nothing is decided by an adjustment"
        );
    }
    refused(&shop, 3, -1, Adjusted::TooFew { removable: 0 }).await;
    let shop = shop.restart();
    shop.moved(MoveStep::Settle { lease }).await;
    // Half-way through the move, without any lease.
    let row = adjusted(&shop, 4, 3).await;
    assert_eq!((row.free, row.lease, row.state.phase), (3, None, Phase::Draining));
    let row = adjusted(&shop, 5, -1).await;
    assert_eq!(row.free, 2);
    let row =
        shop.moved(MoveStep::OpenLease { product: sku("a"), epoch: Epoch::new(2), lease: lease_id(2), keep: 0 }).await;
    assert_eq!(lent(&row), (2, 0, false));
    // Not loaded yet, but somebody may have read how much to load: it is fenced all the same.
    let row = adjusted(&shop, 6, -2).await;
    assert_eq!((lent(&row), row.state.epoch), ((0, 0, true), Epoch::new(3)));
    assert!(matches!(shop.step(MoveStep::MarkLoaded { lease: lease_id(2) }).await, Moved::Stale(_)));
    shop.moved(MoveStep::Settle { lease: lease_id(2) }).await;
    shop.check();
}

pub async fn a_draining_product_is_adjusted_in_its_epoch(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 5, 5).await;
    let lease = shop.lend(1).await;
    let epoch = shop.fence(Tier::Db).await;
    let row = adjusted(&shop, 1, -2).await;
    assert_eq!((lent(&row), row.state.epoch, row.state.target), ((3, 0, true), epoch, Some(Tier::Db)));
    adjusted(&shop, 2, 1).await;
    shop.moved(MoveStep::Settle { lease }).await;
    shop.moved(MoveStep::Open { product: sku("a"), epoch }).await;
    assert_eq!(shop.units().await, (4, 0, 0, 0));
    shop.store.set_sale_state(&SaleName::new("sale").unwrap(), SaleState::Closed, NOW).await.unwrap();
    assert_eq!(adjusted(&shop, 3, -4).await.state.total, 0, "what was not sold is written off after the sale");
    shop.check();
}

pub async fn a_top_up_lends_what_is_free(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 4, 5).await;
    let unknown = MoveStep::TopUp { lease: lease_id(7), keep: 0 };
    assert_eq!(shop.step(unknown).await, Moved::Stale(None));
    let lease = shop.lend(1).await;
    adjusted(&shop, 1, 3).await;
    let top_up = |keep| MoveStep::TopUp { lease, keep };
    assert!(matches!(shop.step(top_up(0)).await, Moved::Stale(_)), "its load will say how many it has");
    shop.moved(MoveStep::MarkLoaded { lease }).await;
    let row = shop.moved(top_up(1)).await;
    assert_eq!((row.free, lent(&row), row.state.sellable), (1, (6, 0, false), 7));
    assert_eq!(row.state.epoch, Epoch::new(1), "no move");
    for keep in [1, 2, u64::MAX] {
        assert_eq!(shop.step(top_up(keep)).await, Moved::Stale(Some(row.clone())), "nothing to lend");
    }
    for n in 0..6 {
        shop.accept(granted(n, lease, n as u64)).await;
    }
    assert_eq!(shop.decide(granted(6, lease, 6)).await, Verdict::Resubmit(Resubmit::OverGranted), "an open lease");
    assert_eq!(lent(&shop.moved(top_up(0)).await), (7, 6, false));
    shop.accept(granted(6, lease, 6)).await;
    shop.check();
    adjusted(&shop, 2, 2).await;
    shop.fence(Tier::Db).await;
    assert!(matches!(shop.step(top_up(0)).await, Moved::Stale(_)), "a fenced lease");
    shop.moved(MoveStep::Settle { lease }).await;
    assert!(matches!(shop.step(top_up(0)).await, Moved::Stale(_)), "a closed lease");
    assert_eq!(shop.units().await, (2, 0, 7, 0));
    shop.check();
}

pub async fn an_adjusted_product_stays_in_its_sale(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 1, 1).await;
    let both = |stock| sale("sale", vec![spec("a", 1, 1), spec("b", stock, 1)]);
    shop.store.apply_sale(both(5), NOW).await.unwrap();
    let of_b = |n, delta| Adjustment { product: sku("b"), ..adjustment(n, delta) };
    // Never adjusted, it may go and come back anew.
    let alone = sale("sale", vec![spec("a", 1, 1)]);
    assert_eq!(shop.store.apply_sale(alone.clone(), NOW).await.unwrap(), SaleApplied::Updated);
    shop.store.apply_sale(both(6), NOW).await.unwrap();
    shop.check();
    shop.store.adjust(of_b(1, -6), NOW).await.unwrap();
    let SaleApplied::Refused(why) = shop.store.apply_sale(alone, NOW).await.unwrap() else { panic!("refused") };
    assert!(why.contains("adjusted"), "{why}");
    // Its file still names the stock that it came with.
    assert_eq!(shop.store.apply_sale(both(6), NOW).await.unwrap(), SaleApplied::Updated);
    shop.store.set_sale_state(&SaleName::new("sale").unwrap(), SaleState::Closed, NOW).await.unwrap();
    shop.store.apply_sale(sale("next", vec![spec("b", 9, 1)]), NOW).await.unwrap();
    let row = shop.store.product(&sku("b")).await.unwrap().unwrap();
    assert_eq!((row.state.total, row.free), (9, 9));
    let history = shop.place.rows("SELECT total FROM stock_change WHERE product_id = 'b' ORDER BY seq");
    assert_eq!(history.len(), 3, "brought, adjusted, brought again: {history:?}");
    shop.check();
}
