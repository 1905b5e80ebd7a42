//! Stories of forgetting: money and units stay, names go, and every invariant holds as before.

use std::time::Duration;

use seckill_core::stock::admin_store::Actor;
use seckill_core::stock::retention_store::{ERASED, Forgotten};
use seckill_core::stock::store::{Outcome, SaleState};

use super::*;

fn ada() -> Actor {
    Actor { subject: "ada".parse().unwrap(), roles: [types::Role::Admin].into(), request: None }
}

/// Who the orders' rows and all that belongs to them name.
fn names(place: &dyn Place) -> String {
    ["SELECT buyer, `key` FROM orders", "SELECT buyer, `key` FROM decision", "SELECT buyer FROM buyer_limit"]
        .map(|sql| place.rows(sql).join("\n"))
        .join("\n")
}

pub async fn an_erased_buyer_leaves_his_money_and_no_name(place: Arc<dyn Place>) {
    let shop = Shop::selling(place.clone(), 5, 2).await;
    let own = |n: usize| Attempt { buyer: buyer(1), ..attempt(n) };
    let (paid, left) = (shop.accept(own(1)).await, shop.accept(own(2)).await);
    // Over his limit, by the queue: a refusal that is his, too.
    shop.decide(Attempt { claim: Claim::Queue, ..own(3) }).await;
    let other = shop.accept(attempt(4)).await;
    shop.pay(1, &paid).await;

    assert_eq!(shop.store.forget_buyer(&buyer(1), &ada(), NOW).await.unwrap(), Forgotten::OpenOrders(1));
    assert_eq!(shop.store.orders_page(&buyer(1), None, 9).await.unwrap().len(), 2, "nothing was changed");
    shop.store.expire_due(later(1 + RESERVE.as_millis() as u64), 1).await.unwrap();
    let due = shop.store.orders_page(&buyer(1), None, 9).await.unwrap();
    if due.iter().any(|o| o.order == left.order && o.state == seckill_core::stock::store::OrderState::Accepted) {
        // The other one was due first.
        shop.store.cancel(left.order, &buyer(1), NOW).await.unwrap();
    }
    assert_eq!(
        shop.store.forget_buyer(&buyer(1), &ada(), NOW).await.unwrap(),
        Forgotten::Done { orders: 2, more: false }
    );
    assert_eq!(
        shop.store.forget_buyer(&buyer(1), &ada(), NOW).await.unwrap(),
        Forgotten::Done { orders: 0, more: false }
    );

    let named = names(place.as_ref());
    for gone in ["buyer-1\"", "buyer-1 ", "key-1", "key-2", "key-3"] {
        assert!(!named.contains(gone), "{gone} in {named}");
    }
    assert!(named.contains("buyer-4") && named.contains(ERASED), "{named}");
    assert!(shop.store.orders_page(&buyer(1), None, 9).await.unwrap().is_empty());
    assert!(shop.store.order(other.order, &buyer(4)).await.unwrap().is_some());
    let steps = shop.store.steps(0, 99).await.unwrap();
    assert!(steps.iter().all(|s| s.order.buyer != buyer(1)), "also what is told later names nobody");
    shop.check();

    // Money still moves: it is a name that changed, not an order.
    let shop = shop.restart();
    let nobody = steps.iter().find(|s| s.order.order == paid.order).unwrap().order.buyer.clone();
    shop.store.cancel(paid.order, &nobody, later(9)).await.unwrap();
    assert!(shop.store.refunded(payment_id(1), later(10)).await.unwrap());
    shop.check();
    assert_eq!(
        shop.store.forget_buyer(&nobody, &ada(), NOW).await.unwrap(),
        Forgotten::Done { orders: 0, more: false },
        "nobody is nobody"
    );
    let lines = shop.store.audit_lines(0, 9).await.unwrap();
    let told: Vec<_> = lines.iter().map(|l| (l.action.as_str(), l.subject.as_str(), l.end.as_str())).collect();
    let line = |end| ("erase_buyer", "ada", end);
    assert_eq!(told, [line("refused"), line("done"), line("unchanged"), line("unchanged")]);
    assert!(lines.iter().all(|l| !l.detail.to_string().contains("buyer-1")), "the log names nobody");
}

pub async fn buyers_are_forgotten_after_their_time_and_not_before(place: Arc<dyn Place>) {
    let shop = Shop::selling(place.clone(), 2, 9).await;
    let (paid, open) = (shop.accept(attempt(1)).await, shop.accept(attempt(2)).await);
    shop.pay(1, &paid).await;
    let token = Attempt { token: Some("used".into()), ..attempt(3) };
    assert_eq!(outcome(&shop.decide(Attempt { claim: Claim::Queue, ..token }).await).unwrap().0, Outcome::AllReserved);
    let last = shop.store.last_arrival().await.unwrap();
    let forget = async |before: Timestamp| {
        let orders = shop.store.forget_orders(0, last, before).await.unwrap();
        let (refusals, next) = shop.store.forget_refusals(None, 100, before).await.unwrap();
        assert_eq!(next, None);
        (orders, refusals, shop.store.forget_counters(100, before).await.unwrap())
    };
    assert_eq!(forget(NOW).await, (0, 0, 0), "nothing is older");
    assert_eq!(forget(CLOSES).await, (0, 1, 0), "the sale goes on; a refusal is nobody's right");
    let after = CLOSES.plus(Duration::from_secs(1));
    assert_eq!(forget(after).await, (1, 0, 0), "what is open keeps its name");
    shop.store.cancel(open.order, &buyer(2), later(1)).await.unwrap();
    // The order's name goes, and with it the counter that counts nothing.
    assert_eq!(forget(after).await, (1, 0, 0));
    assert_eq!(forget(after).await, (0, 0, 0), "once");
    let named = names(place.as_ref());
    assert!(!named.contains("buyer-") && !named.contains("key-"), "{named}");
    shop.check();
    shop.store.set_sale_state(&SaleName::new("sale").unwrap(), SaleState::Closed, after).await.unwrap();
    shop.check();
}

pub async fn a_walk_over_refusals_goes_on_where_it_was(place: Arc<dyn Place>) {
    let shop = Shop::selling(place.clone(), 1, 9).await;
    shop.accept(attempt(1)).await;
    for n in 2..=8 {
        shop.decide(queued(n)).await;
    }
    let token = Attempt { token: Some("a-token".into()), ..attempt(9) };
    shop.decide(token).await;
    let (mut walked, mut all, mut rounds) = (None, 0, 0);
    loop {
        let (forgotten, next) = shop.store.forget_refusals(walked, 3, later(1)).await.unwrap();
        (all, rounds, walked) = (all + forgotten, rounds + 1, next);
        if walked.is_none() {
            break;
        }
    }
    assert_eq!((all, rounds), (7, 3));
    assert_eq!(shop.store.forget_tokens(9).await.unwrap(), 0);
    shop.check();
}
