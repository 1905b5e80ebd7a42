//! Stories of orders as lists: pages that stay where they are, and steps that are read without a gap.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use seckill_core::stock::order_feed::PageEnd;
use seckill_core::stock::store::{OrderState, StockStore};

use super::*;

fn end(row: &OrderRow) -> PageEnd {
    PageEnd { accepted_at: row.accepted_at, order: row.order }
}

pub async fn pages_stay_where_they_are_while_orders_come(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 100, 100).await;
    // Two of each moment, so that a page may end between them.
    let order = |n: usize| Attempt { buyer: buyer(1), ..attempt(n) };
    for n in 0..10 {
        shop.decide_at(order(n), later(n as u64 / 2)).await;
    }
    shop.accept(attempt(50)).await;
    let whole = shop.store.orders_page(&buyer(1), None, 100).await.unwrap();
    assert_eq!(whole.len(), 10, "only his");
    let first = shop.store.orders_page(&buyer(1), None, 3).await.unwrap();
    shop.decide_at(order(11), later(9)).await;
    let mut seen = first.clone();
    loop {
        let page = shop.store.orders_page(&buyer(1), seen.last().map(end), 3).await.unwrap();
        if page.is_empty() {
            break;
        }
        seen.extend(page);
    }
    assert_eq!(seen, whole, "each once, in order, and not the one that came meanwhile");
    assert!(shop.store.orders_page(&buyer(9), None, 3).await.unwrap().is_empty());
}

pub async fn a_step_is_told_with_the_order_as_it_is_now(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 10, 5).await;
    assert_eq!(shop.store.newest_step().await.unwrap(), 0);
    let (one, two) = (shop.accept(attempt(1)).await, shop.accept(attempt(2)).await);
    shop.pay(1, &one).await;
    let steps = shop.store.steps(0, 10).await.unwrap();
    let told: Vec<_> = steps.iter().map(|s| (s.sequence, s.order.order, s.state, s.order.state)).collect();
    use OrderState::{Accepted, Paid};
    let first = told[0].0;
    assert_eq!(
        told,
        [
            (first, one.order, Accepted, Paid),
            (first + 1, two.order, Accepted, Accepted),
            (first + 2, one.order, Paid, Paid)
        ]
    );
    assert_eq!(steps[0].request, attempt(1).request);
    assert_eq!(shop.store.newest_step().await.unwrap(), first + 2);
    assert_eq!(shop.store.steps(first + 1, 10).await.unwrap(), steps[2..]);
    assert_eq!(shop.store.steps(0, 1).await.unwrap(), steps[..1]);

    let last = shop.store.last_arrival().await.unwrap();
    let name = SaleName::new("sale").unwrap();
    let arrived = shop.store.arrived(&name, 0, last).await.unwrap();
    assert_eq!(arrived.iter().map(|o| o.order).collect::<Vec<_>>(), [one.order, two.order]);
    assert_eq!(shop.store.arrived(&name, 0, last - 1).await.unwrap().len(), 1);
    assert!(shop.store.arrived(&SaleName::new("other").unwrap(), 0, last).await.unwrap().is_empty());
}

/// Several writers commit in any order; a reader who only ever goes on from the last number sees every step.
pub async fn whoever_goes_on_from_the_last_step_misses_none(place: Arc<dyn Place>) {
    const ORDERS: usize = 400;
    let shop = Arc::new(Shop::selling(place.clone(), ORDERS as u64, 5).await);
    let done = Arc::new(AtomicBool::new(false));
    let reading = {
        let (store, done) = (shop.store.clone(), done.clone());
        tokio::spawn(async move {
            let (mut steps, mut after) = (Vec::new(), 0);
            loop {
                let last_look = done.load(Ordering::SeqCst);
                let batch = store.steps(after, 37).await.unwrap();
                if let Some(step) = batch.last() {
                    after = step.sequence;
                } else if last_look {
                    return steps;
                }
                steps.extend(batch);
            }
        })
    };
    // Each writer has a store of its own where the place gives one: on a server, cores side by side.
    let writers: Vec<_> = (0..4)
        .map(|w| {
            let store = place.open();
            tokio::spawn(async move {
                for n in (0..ORDERS).filter(|n| n % 4 == w) {
                    store.decide(vec![attempt(n)], RESERVE, NOW).await.unwrap();
                    if n % 3 == 0 {
                        let payment = Payment { payment: payment_id(n), order: order_id(n), amount: euros(PRICE) };
                        store.pay(payment, later(1)).await.unwrap();
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    let steps = tokio::time::timeout(Duration::from_secs(120), reading).await.unwrap().unwrap();
    let mut states: BTreeMap<OrderId, Vec<OrderState>> = BTreeMap::new();
    for step in &steps {
        states.entry(step.order.order).or_default().push(step.state);
    }
    for n in 0..ORDERS {
        let expected: &[OrderState] =
            if n % 3 == 0 { &[OrderState::Accepted, OrderState::Paid] } else { &[OrderState::Accepted] };
        assert_eq!(states.get(&order_id(n)).map(Vec::as_slice), Some(expected), "order {n}");
    }
    assert!(steps.windows(2).all(|w| w[0].sequence + 1 == w[1].sequence), "numbers without a gap");
    shop.check();
}
