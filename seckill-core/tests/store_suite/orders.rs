//! Stories of an order's life: payment, expiry, cancellation, refund, and what returns with them.

use std::sync::Arc;
use std::time::Duration;

use seckill_core::stock::store::{Attempt, OrderChange, OrderState, Outcome, Payment, PaymentEffect, SaleState};
use types::{Money, OrderEventKind, SaleName};

use super::*;

pub async fn a_paid_order_is_sold_and_its_refund_gives_the_unit_back(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 5, 2).await;
    let order = shop.accept(Attempt { quantity: 2, ..attempt(1) }).await;
    assert_eq!(shop.pay(1, &order).await, PaymentEffect::Paid);
    assert_eq!(shop.pay(1, &order).await, PaymentEffect::Paid, "the same payment again");
    assert_eq!(shop.units().await, (3, 0, 0, 2));
    assert!(!shop.store.refunded(payment_id(1), NOW).await.unwrap(), "no refund is due");

    assert!(matches!(shop.store.cancel(order.order, &buyer(2), NOW).await.unwrap(), OrderChange::Unknown));
    match shop.store.cancel(order.order, &order.buyer, NOW).await.unwrap() {
        OrderChange::Changed(row) => assert_eq!(row.state, OrderState::RefundDue),
        other => panic!("{other:?}"),
    }
    assert_eq!(shop.units().await, (5, 0, 0, 0));
    assert_eq!(shop.pay(1, &order).await, PaymentEffect::RefundDue, "its money is owed now");
    shop.check();
    assert!(shop.store.refunded(payment_id(1), NOW).await.unwrap());
    assert!(!shop.store.refunded(payment_id(1), NOW).await.unwrap(), "once");
    assert_eq!(shop.state(&order).await, OrderState::Refunded);
    assert_eq!(shop.units().await, (5, 0, 0, 0), "a refund moves money only");
    assert!(matches!(
        shop.store.cancel(order.order, &order.buyer, NOW).await.unwrap(),
        OrderChange::InState(row) if row.state == OrderState::Refunded
    ));
    assert!(!shop.store.refunded(payment_id(9), NOW).await.unwrap());
    let kinds: Vec<_> = shop.store.outbox(10).await.unwrap().into_iter().map(|e| e.kind).collect();
    use OrderEventKind::{Accepted, Paid, RefundDue, Refunded};
    assert_eq!(kinds, [Accepted, Paid, RefundDue, Refunded]);
    shop.check();
}

pub async fn an_unpaid_order_expires_in_its_time(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 5, 1).await;
    for n in 1..=3 {
        shop.accept(attempt(n)).await;
    }
    let due = NOW.plus(RESERVE);
    assert_eq!(shop.store.expire_due(due.minus(Duration::from_millis(1)), 10).await.unwrap().orders, 0);
    assert_eq!(shop.store.expire_due(due, 2).await.unwrap().orders, 2, "bounded");
    assert_eq!(shop.store.expire_due(due, 2).await.unwrap().orders, 1);
    assert_eq!(shop.store.expire_due(due, 2).await.unwrap().orders, 0);
    assert_eq!(shop.store.expire_due(due, 0).await.unwrap().orders, 0);
    assert_eq!(shop.units().await, (5, 0, 0, 0));
    let again = Attempt { key: key(50), order: order_id(50), ..attempt(1) };
    shop.accept(again).await;
    let mine = shop.store.orders(&buyer(1), 10).await.unwrap();
    assert_eq!(mine.len(), 2);
    assert_eq!(shop.store.orders(&buyer(1), 1).await.unwrap().len(), 1);
    shop.check();
}

async fn expire(shop: &Shop) {
    while shop.store.expire_due(NOW.plus(RESERVE), 100).await.unwrap().orders > 0 {}
}

pub async fn a_late_payment_takes_unit_and_limit_again_or_is_owed(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 2, 1).await;
    let lucky = shop.accept(attempt(1)).await;
    let unlucky = shop.accept(attempt(2)).await;
    expire(&shop).await;
    assert_eq!(shop.units().await, (2, 0, 0, 0));
    assert_eq!(shop.pay(1, &lucky).await, PaymentEffect::Paid);
    assert_eq!((shop.state(&lucky).await, shop.units().await), (OrderState::Paid, (1, 0, 0, 1)));
    let over = Attempt { key: key(60), order: order_id(60), ..attempt(1) };
    assert_eq!(outcome(&shop.decide(over).await), Some((Outcome::Limit, true)), "the limit was taken again");

    shop.accept(attempt(3)).await;
    assert_eq!(shop.pay(2, &unlucky).await, PaymentEffect::RefundDue, "no unit is free");
    assert_eq!(shop.state(&unlucky).await, OrderState::RefundDue);
    assert_eq!(shop.pay(3, &unlucky).await, PaymentEffect::RefundDue, "a second one by its own row");
    assert!(shop.store.refunded(payment_id(3), NOW).await.unwrap());
    assert_eq!(shop.state(&unlucky).await, OrderState::RefundDue, "which moves no order");
    assert!(shop.store.refunded(payment_id(2), NOW).await.unwrap());
    assert_eq!(shop.state(&unlucky).await, OrderState::Refunded);
    shop.check();
}

pub async fn a_late_payment_does_not_take_what_is_lent_or_over_the_limit(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 3, 1).await;
    let first = shop.accept(attempt(1)).await;
    let second = shop.accept(attempt(2)).await;
    expire(&shop).await;
    let newer = Attempt { key: key(50), order: order_id(50), ..attempt(1) };
    shop.accept(newer).await;
    assert_eq!(shop.pay(1, &first).await, PaymentEffect::RefundDue, "he has bought again since");
    shop.lend(1).await;
    assert_eq!(shop.units().await, (0, 2, 1, 0));
    assert_eq!(shop.pay(2, &second).await, PaymentEffect::RefundDue, "a unit that is only leased does not count");
    shop.check();
}

pub async fn every_payment_is_kept_and_only_the_right_one_pays(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 5, 5).await;
    let order = shop.accept(attempt(1)).await;
    let other = shop.accept(attempt(2)).await;
    let pay = |n: usize, amount: Money, order: OrderId| {
        let store = Arc::clone(&shop.store);
        async move { store.pay(Payment { payment: payment_id(n), order, amount }, NOW).await.unwrap() }
    };
    let yen = Money::new(PRICE, "JPY".parse().unwrap()).unwrap();
    assert_eq!(pay(1, euros(PRICE - 1), order.order).await, PaymentEffect::RefundDue);
    assert_eq!(pay(2, yen, order.order).await, PaymentEffect::RefundDue);
    assert_eq!(shop.state(&order).await, OrderState::Accepted, "a wrong amount moves nothing");
    assert_eq!(pay(3, euros(PRICE), order_id(77)).await, PaymentEffect::UnknownOrder);
    assert_eq!(pay(3, euros(PRICE), order.order).await, PaymentEffect::Paid, "an unknown order recorded nothing");
    assert_eq!(pay(4, euros(PRICE), order.order).await, PaymentEffect::RefundDue, "the second payment");
    assert_eq!(pay(1, euros(PRICE), order.order).await, PaymentEffect::RefundDue, "its first record stands");
    assert_eq!(pay(3, euros(PRICE), other.order).await, PaymentEffect::UnknownOrder, "an id names one payment");
    assert_eq!(shop.state(&other).await, OrderState::Accepted);
    assert_eq!(shop.place.rows("SELECT payment_id FROM payment").len(), 4);
    assert_eq!(shop.units().await, (3, 0, 1, 1));

    shop.store.cancel(other.order, &other.buyer, NOW).await.unwrap();
    assert_eq!(shop.pay(5, &other).await, PaymentEffect::RefundDue);
    assert_eq!((shop.state(&other).await, shop.units().await), (OrderState::RefundDue, (4, 0, 0, 1)));
    shop.check();
}

pub async fn the_relay_keeps_its_place(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 9, 1).await;
    for n in 1..=3 {
        shop.accept(attempt(n)).await;
    }
    let events = shop.store.outbox(2).await.unwrap();
    assert_eq!(events.iter().map(|e| e.order).collect::<Vec<_>>(), [order_id(1), order_id(2)]);
    shop.store.outbox_relayed(events[1].sequence).await.unwrap();
    shop.store.outbox_relayed(events[0].sequence).await.unwrap();
    let shop = shop.restart();
    let rest = shop.store.outbox(10).await.unwrap();
    assert_eq!(rest.iter().map(|e| e.order).collect::<Vec<_>>(), [order_id(3)], "never back");
    shop.store.outbox_relayed(u64::MAX).await.unwrap();
    assert!(shop.store.outbox(10).await.unwrap().is_empty());
    shop.accept(attempt(4)).await;
    assert_eq!(shop.store.outbox(10).await.unwrap().len(), 1, "never beyond the last event");
    assert!(shop.store.outbox(0).await.unwrap().is_empty());
}

pub async fn money_and_units_of_a_closed_sale_still_move(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 5, 5).await;
    let (a, b) = (shop.accept(attempt(1)).await, shop.accept(attempt(2)).await);
    shop.store.set_sale_state(&SaleName::new("sale").unwrap(), SaleState::Closed, NOW).await.unwrap();
    assert_eq!(shop.pay(1, &a).await, PaymentEffect::Paid);
    expire(&shop).await;
    assert_eq!(shop.state(&b).await, OrderState::Expired);
    assert_eq!(shop.pay(2, &b).await, PaymentEffect::Paid);
    shop.store.cancel(a.order, &a.buyer, NOW).await.unwrap();
    assert_eq!(shop.units().await, (4, 0, 0, 1));
    shop.check();
}
