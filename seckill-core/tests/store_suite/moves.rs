//! Stories of moves: every step is a compare-and-set, whoever finds a half-done move can finish it.

use std::sync::Arc;

use seckill_core::stock::store::{LeaseRow, MoveStep, Moved, SaleState};
use types::{Epoch, Phase, SaleName, Tier};

use super::*;

fn switch(epoch: u64, target: Tier) -> MoveStep {
    MoveStep::Switch { product: sku("a"), epoch: Epoch::new(epoch), target }
}
fn open_lease(epoch: u64, n: usize, keep: u64) -> MoveStep {
    MoveStep::OpenLease { product: sku("a"), epoch: Epoch::new(epoch), lease: lease_id(n), keep }
}
fn fence(epoch: u64, target: Tier) -> MoveStep {
    MoveStep::Fence { product: sku("a"), epoch: Epoch::new(epoch), target }
}
fn settle(n: usize) -> MoveStep {
    MoveStep::Settle { lease: lease_id(n) }
}
fn open(epoch: u64) -> MoveStep {
    MoveStep::Open { product: sku("a"), epoch: Epoch::new(epoch) }
}
async fn stale(shop: &Shop, step: MoveStep) {
    let before = shop.product().await;
    match shop.step(step.clone()).await {
        Moved::Stale(Some(row)) => assert_eq!(row, before, "{step:?} shows the row as it is"),
        other => panic!("{step:?} must be stale: {other:?}"),
    }
    assert_eq!(shop.product().await, before, "{step:?} changed nothing");
}

pub async fn db_and_queue_switch_in_one_step(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 5, 5).await;
    let row = shop.moved(switch(0, Tier::Queue)).await;
    assert_eq!((row.state.tier, row.state.phase, row.state.epoch), (Tier::Queue, Phase::Active, Epoch::new(1)));
    stale(&shop, switch(0, Tier::Db)).await;
    stale(&shop, switch(1, Tier::Queue)).await;
    stale(&shop, switch(1, Tier::Redis)).await;
    stale(&shop, switch(2, Tier::Db)).await;
    stale(&shop, fence(1, Tier::Db)).await;
    stale(&shop, open(1)).await;
    assert_eq!(shop.moved(switch(1, Tier::Db)).await.state.epoch, Epoch::new(2));
    let unknown = MoveStep::Switch { product: sku("unknown"), epoch: Epoch::new(0), target: Tier::Queue };
    assert_eq!(shop.step(unknown).await, Moved::Stale(None));
    shop.check();
}

pub async fn a_move_to_redis_and_back_loses_no_unit(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 10, 5).await;
    shop.moved(switch(0, Tier::Queue)).await;
    let row = shop.moved(open_lease(1, 1, 3)).await;
    let lease =
        LeaseRow { lease: lease_id(1), epoch: Epoch::new(2), granted: 7, consumed: 0, fenced: false, loaded: false };
    assert_eq!((row.state.tier, row.state.epoch, row.lease, row.free), (Tier::Redis, Epoch::new(2), Some(lease), 3));
    assert_eq!(row.state.sellable, 10, "a lease is still for sale");

    assert!(shop.moved(MoveStep::MarkLoaded { lease: lease_id(1) }).await.lease.is_some_and(|l| l.loaded));
    stale(&shop, MoveStep::MarkLoaded { lease: lease_id(1) }).await;
    stale(&shop, open_lease(2, 2, 0)).await;
    stale(&shop, settle(1)).await;
    stale(&shop, switch(2, Tier::Db)).await;
    stale(&shop, fence(1, Tier::Db)).await;
    shop.accept(granted(1, lease_id(1), 0)).await;
    shop.accept(queued(2)).await;

    let row = shop.moved(fence(2, Tier::Db)).await;
    assert_eq!((row.state.phase, row.state.target, row.state.epoch), (Phase::Draining, Some(Tier::Db), Epoch::new(3)));
    assert!(row.lease.is_some_and(|l| l.fenced));
    stale(&shop, fence(3, Tier::Queue)).await;
    stale(&shop, open(3)).await;
    shop.accept(granted(3, lease_id(1), 1)).await;

    let shop = shop.restart();
    let row = shop.moved(settle(1)).await;
    assert_eq!((row.free, row.state.sellable, row.lease), (7, 7, None), "5 of the lease and 2 of the 3 kept");
    stale(&shop, settle(1)).await;
    stale(&shop, open(2)).await;
    stale(&shop, open_lease(3, 2, 0)).await;
    let row = shop.moved(open(3)).await;
    assert_eq!((row.state.tier, row.state.phase, row.state.target), (Tier::Db, Phase::Active, None));
    stale(&shop, open(3)).await;
    assert_eq!(shop.units().await, (7, 0, 3, 0));
    shop.check();
}

pub async fn a_lost_lease_gives_way_to_a_new_one(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 5, 5).await;
    shop.moved(open_lease(0, 1, 0)).await;
    shop.accept(granted(1, lease_id(1), 0)).await;
    shop.moved(fence(1, Tier::Redis)).await;
    stale(&shop, open_lease(2, 2, 0)).await;
    shop.moved(settle(1)).await;
    stale(&shop, open(2)).await;
    stale(&shop, open_lease(1, 2, 0)).await;
    stale(&shop, open_lease(2, 1, 0)).await;
    let row = shop.moved(open_lease(2, 2, 0)).await;
    assert_eq!(row.state.epoch, Epoch::new(2), "H5 keeps the epoch of the fence");
    assert_eq!(row.lease.map(|l| (l.lease, l.epoch, l.granted)), Some((lease_id(2), Epoch::new(2), 4)));
    stale(&shop, MoveStep::MarkLoaded { lease: lease_id(1) }).await;
    assert_eq!(shop.step(MoveStep::MarkLoaded { lease: lease_id(8) }).await, Moved::Stale(None));
    assert_eq!(shop.step(settle(8)).await, Moved::Stale(None));
    shop.check();
}

pub async fn keep_never_takes_more_than_there_is(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 5, 5).await;
    let row = shop.moved(open_lease(0, 1, u64::MAX)).await;
    assert_eq!((row.free, row.lease.map(|l| l.granted)), (5, Some(0)), "an empty lease is a lease");
    shop.check();
}

/// A closed sale's lease must be found by whoever settles it, though its sale is over.
pub async fn a_closed_sale_is_shown_until_it_is_at_rest(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 5, 5).await;
    shop.moved(open_lease(0, 1, 0)).await;
    shop.store.set_sale_state(&SaleName::new("sale").unwrap(), SaleState::Closed, NOW).await.unwrap();
    let shown = |shop: &Shop| {
        let store = Arc::clone(&shop.store);
        async move { store.products().await.unwrap().len() }
    };
    assert_eq!(shown(&shop).await, 1);
    shop.moved(fence(1, Tier::Db)).await;
    shop.moved(settle(1)).await;
    assert_eq!(shown(&shop).await, 1, "half moved");
    shop.moved(open(2)).await;
    assert_eq!(shown(&shop).await, 0);
    assert_eq!(shop.product().await.sale_state, SaleState::Closed, "it can still be asked for");
    shop.check();
}
