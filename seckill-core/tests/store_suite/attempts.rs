//! Stories of single attempts: what is accepted, refused, bound, said again.

use std::sync::Arc;
use std::time::Duration;

use seckill_core::stock::store::{
    Attempt, BodyHash, Claim, OrderState, Outcome, Resubmit, SaleState, StockStore, Verdict,
};
use types::{OrderEventKind, SaleName, Tier};

use super::*;

pub async fn the_first_decision_is_the_answer(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 5, 5).await;
    let first = Attempt { quantity: 2, ..attempt(1) };
    let order = shop.accept(first.clone()).await;
    assert_eq!((order.quantity, order.amount, order.tier), (2, euros(2 * PRICE), Tier::Db));
    assert_eq!((order.state, order.accepted_at, order.expires_at), (OrderState::Accepted, NOW, NOW.plus(RESERVE)));

    let again = Attempt { order: order_id(99), ..first.clone() };
    assert_eq!(outcome(&shop.decide_at(again, later(99_000)).await), Some((Outcome::Accepted(order.order), false)));
    let other = Attempt { body_hash: BodyHash([7; 32]), quantity: 1, ..first.clone() };
    assert_eq!(shop.decide(other).await, Verdict::OtherBody);
    assert_eq!(shop.units().await, (3, 0, 2, 0), "only the first took units");

    let decision = shop.store.decision(&first.buyer, &first.key).await.unwrap().expect("it is bound");
    assert_eq!((decision.outcome, decision.body_hash), (Outcome::Accepted(order.order), first.body_hash));
    assert_eq!(shop.store.order(order.order, &buyer(2)).await.unwrap(), None, "another's order is not shown");
    let events = shop.store.outbox(10).await.unwrap();
    assert_eq!(events.len(), 1);
    assert_eq!((events[0].kind, events[0].amount), (OrderEventKind::Accepted, order.amount));
    assert_eq!(events[0].request.as_ref().map(|r| r.as_str()), Some("request-1"));
    shop.check();

    let shop = shop.restart();
    assert_eq!(outcome(&shop.decide(first).await), Some((Outcome::Accepted(order.order), false)), "also for ever");
}

pub async fn the_door_says_sold_out_only_when_nothing_can_come_back(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 3, 3).await;
    let two = |n| Attempt { quantity: 2, ..attempt(n) };
    let order = shop.accept(two(1)).await;
    assert_eq!(shop.decide(two(2)).await, Verdict::AllReservedAtDoor, "one is left, two were asked for");
    let one = shop.accept(attempt(3)).await;
    assert_eq!(shop.decide(attempt(4)).await, Verdict::AllReservedAtDoor, "both orders may still expire");
    shop.pay(1, &order).await;
    assert_eq!(shop.decide(attempt(4)).await, Verdict::AllReservedAtDoor);
    shop.pay(2, &one).await;
    assert_eq!(shop.decide(attempt(4)).await, Verdict::SoldOutAtDoor);
    assert_eq!(shop.store.decision(&buyer(4), &key(4)).await.unwrap(), None, "the door's refusal binds nothing");
    shop.store.cancel(order.order, &order.buyer, NOW).await.unwrap();
    shop.accept(attempt(4)).await;
    shop.check();
}

pub async fn the_queue_refuses_for_ever_but_only_what_nobody_could_sell(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 2, 2).await;
    let order = shop.accept(queued(1)).await;
    assert_eq!(order.tier, Tier::Queue);
    shop.lend(1).await;
    assert_eq!(shop.decide(queued(2)).await, Verdict::Resubmit(Resubmit::UnitsLeased), "a unit is only lent");
    assert_eq!(shop.decide(attempt(2)).await, Verdict::Resubmit(Resubmit::UnitsLeased), "at the door too");
    assert_eq!(shop.store.decision(&buyer(2), &key(2)).await.unwrap(), None);
    let two = Attempt { quantity: 2, ..queued(3) };
    assert_eq!(outcome(&shop.decide(two.clone()).await), Some((Outcome::AllReserved, true)));
    assert_eq!(outcome(&shop.decide(two).await), Some((Outcome::AllReserved, false)));

    let other = shop.accept(granted(4, lease_id(1), 0)).await;
    assert_eq!(other.tier, Tier::Redis);
    shop.pay(1, &order).await;
    shop.pay(2, &other).await;
    assert_eq!(outcome(&shop.decide(queued(5)).await), Some((Outcome::SoldOut, true)));
    shop.store.cancel(order.order, &order.buyer, NOW).await.unwrap();
    assert_eq!(outcome(&shop.decide(queued(5)).await), Some((Outcome::SoldOut, false)), "a decision stays");
    shop.check();
}

pub async fn over_the_limit_is_an_end_for_every_claim(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 10, 2).await;
    let of_one = |n: usize, a: Attempt| Attempt { buyer: buyer(1), key: key(n), ..a };
    let first = shop.accept(Attempt { quantity: 2, ..attempt(1) }).await;
    assert_eq!(outcome(&shop.decide(of_one(2, attempt(2))).await), Some((Outcome::Limit, true)));
    assert_eq!(outcome(&shop.decide(of_one(3, queued(3))).await), Some((Outcome::Limit, true)));
    let lease = shop.lend(1).await;
    assert_eq!(outcome(&shop.decide(of_one(4, granted(4, lease, 0))).await), Some((Outcome::Limit, true)));
    let huge = Attempt { quantity: u32::MAX, ..attempt(5) };
    assert_eq!(outcome(&shop.decide(huge).await), Some((Outcome::Limit, true)), "and nothing overflows");

    shop.store.cancel(first.order, &first.buyer, NOW).await.unwrap();
    shop.accept(of_one(6, granted(6, lease, 0))).await;
    assert_eq!(outcome(&shop.decide(of_one(2, attempt(2))).await), Some((Outcome::Limit, false)));
    shop.check();
}

pub async fn the_window_binds_the_door_and_the_close_binds_all(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 10, 2).await;
    let name = SaleName::new("sale").unwrap();
    let long = |a: Attempt| Attempt { deadline: CLOSES.plus(Duration::from_secs(60)), ..a };
    for moment in [OPENS.minus(Duration::from_millis(1)), CLOSES] {
        assert_eq!(shop.decide_at(long(attempt(1)), moment).await, Verdict::NotOnSale, "{moment}");
    }
    shop.accept(attempt(1)).await;
    let last = CLOSES.plus(Duration::from_millis(1));
    assert!(matches!(outcome(&shop.decide_at(long(queued(2)), last).await), Some((Outcome::Accepted(_), true))));

    assert_eq!(shop.store.set_sale_state(&name, SaleState::Paused, NOW).await.unwrap(), Some(SaleState::Paused));
    assert_eq!(shop.decide(attempt(3)).await, Verdict::NotOnSale);
    shop.accept(queued(3)).await;
    assert_eq!(shop.store.set_sale_state(&name, SaleState::Active, NOW).await.unwrap(), Some(SaleState::Active));
    shop.accept(attempt(4)).await;

    let lease = shop.lend(1).await;
    assert_eq!(shop.store.set_sale_state(&name, SaleState::Closed, NOW).await.unwrap(), Some(SaleState::Closed));
    assert_eq!(shop.decide(attempt(5)).await, Verdict::NotOnSale);
    assert_eq!(outcome(&shop.decide(queued(6)).await), Some((Outcome::Closed, true)));
    assert_eq!(outcome(&shop.decide(granted(7, lease, 0)).await), Some((Outcome::Closed, true)));
    assert_eq!(outcome(&shop.decide(attempt(1)).await), Some((Outcome::Accepted(order_id(1)), false)));
    assert_eq!(
        shop.store.set_sale_state(&name, SaleState::Active, NOW).await.unwrap(),
        Some(SaleState::Closed),
        "closed is for ever"
    );
    let unknown = SaleName::new("nowhere").unwrap();
    assert_eq!(shop.store.set_sale_state(&unknown, SaleState::Paused, NOW).await.unwrap(), None);
    shop.check();
}

pub async fn past_its_deadline_an_attempt_is_decided_so(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 10, 2).await;
    let lease = shop.lend(1).await;
    let late = later(10_001);
    for (n, a) in [(1, attempt(1)), (2, queued(2)), (3, granted(3, lease, 0))] {
        assert_eq!(outcome(&shop.decide_at(a, late).await), Some((Outcome::Deadline, true)), "attempt {n}");
    }
    assert!(matches!(outcome(&shop.decide_at(granted(4, lease, 0), later(10_000)).await), Some((_, true))));
    assert_eq!(shop.units().await, (0, 9, 1, 0));

    let conclude = |a: Attempt| {
        let store = Arc::clone(&shop.store);
        async move { store.conclude(&a.buyer, &a.key, a.body_hash, &a.product, later(11_001)).await.unwrap().outcome }
    };
    assert_eq!(conclude(attempt(4)).await, Outcome::Accepted(order_id(4)), "the reader finds what was decided");
    assert_eq!(conclude(attempt(5)).await, Outcome::Deadline, "or decides");
    assert_eq!(conclude(attempt(5)).await, Outcome::Deadline);
    assert_eq!(
        outcome(&shop.decide(granted(5, lease, 1)).await),
        Some((Outcome::Deadline, false)),
        "and a consumer with a slow clock commits nothing after that"
    );
    shop.check();
}

pub async fn a_used_token_is_good_only_for_its_own_key(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 10, 5).await;
    let with = |n: usize, token: &str| Attempt { buyer: buyer(1), token: Some(token.into()), ..attempt(n) };
    shop.accept(with(1, "t1")).await;
    assert_eq!(outcome(&shop.decide(with(1, "t1")).await), Some((Outcome::Accepted(order_id(1)), false)));
    assert_eq!(shop.decide(with(2, "t1")).await, Verdict::TokenUsed);
    let stolen = Attempt { token: Some("t1".into()), ..attempt(3) };
    assert_eq!(shop.decide(stolen).await, Verdict::TokenUsed);
    assert_eq!(shop.store.decision(&buyer(1), &key(2)).await.unwrap(), None, "nothing is bound");
    shop.accept(with(2, "t2")).await;
    let refused = Attempt { quantity: 6, ..with(4, "t3") };
    assert_eq!(outcome(&shop.decide(refused).await), Some((Outcome::Limit, true)));
    shop.accept(with(5, "t3")).await;
    shop.check();
}

pub async fn a_grant_is_worth_one_order_while_its_lease_lives(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 4, 2).await;
    let lease = shop.lend(1).await;
    shop.accept(granted(1, lease, 0)).await;
    assert_eq!(outcome(&shop.decide(granted(1, lease, 0)).await), Some((Outcome::Accepted(order_id(1)), false)));
    assert_eq!(shop.decide(granted(2, lease, 0)).await, Verdict::Resubmit(Resubmit::SequenceUsed));
    shop.accept(Attempt { quantity: 2, ..granted(2, lease, 1) }).await;
    assert_eq!(
        shop.decide(Attempt { quantity: 2, ..granted(3, lease, 2) }).await,
        Verdict::Resubmit(Resubmit::OverGranted)
    );
    assert_eq!(shop.decide(granted(3, lease_id(9), 0)).await, Verdict::Resubmit(Resubmit::LeaseClosed), "unknown");
    let foreign = Attempt { product: sku("b"), ..granted(3, lease, 2) };
    assert_eq!(shop.decide(foreign.clone()).await, Verdict::NotOnSale);
    shop.store.apply_sale(sale("other", vec![spec("b", 5, 5)]), NOW).await.unwrap();
    assert_eq!(shop.decide(foreign).await, Verdict::Resubmit(Resubmit::LeaseClosed), "a lease is of one product");
    assert_eq!(shop.decide(granted(3, lease, u64::MAX)).await, Verdict::Resubmit(Resubmit::LeaseClosed));

    shop.fence(Tier::Db).await;
    shop.accept(granted(3, lease, 3)).await;
    assert_eq!(shop.units().await, (0, 0, 4, 0), "a fenced lease honours its grants");
    shop.moved(MoveStep::Settle { lease }).await;
    assert_eq!(shop.decide(granted(4, lease, 4)).await, Verdict::Resubmit(Resubmit::LeaseClosed));
    assert_eq!(shop.store.decision(&buyer(4), &key(4)).await.unwrap(), None, "a fence decides nothing");
    shop.check();
}

pub async fn each_attempt_of_a_batch_stands_alone(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 2, 1).await;
    let batch = vec![
        queued(1),
        Attempt { product: sku("unknown"), ..queued(2) },
        Attempt { quantity: 0, ..queued(3) },
        Attempt { body_hash: BodyHash([9; 32]), ..queued(1) },
        Attempt { quantity: 2, ..queued(4) },
        queued(5),
        queued(6),
        queued(5),
    ];
    let verdicts = shop.store.decide(batch, RESERVE, NOW).await.unwrap();
    assert_eq!(outcome(&verdicts[0]), Some((Outcome::Accepted(order_id(1)), true)));
    assert_eq!(verdicts[1], Verdict::NotOnSale);
    assert_eq!(verdicts[2], Verdict::NotOnSale, "nobody sells no unit");
    assert_eq!(verdicts[3], Verdict::OtherBody);
    assert_eq!(outcome(&verdicts[4]), Some((Outcome::Limit, true)));
    assert_eq!(outcome(&verdicts[5]), Some((Outcome::Accepted(order_id(5)), true)));
    assert_eq!(outcome(&verdicts[6]), Some((Outcome::AllReserved, true)));
    assert_eq!(outcome(&verdicts[7]), Some((Outcome::Accepted(order_id(5)), false)), "twice in one batch");
    assert!(shop.store.decide(vec![], RESERVE, NOW).await.unwrap().is_empty());
    assert_eq!(shop.units().await, (0, 0, 2, 0));
    assert_eq!(claims_of(&shop).await, [Tier::Queue, Tier::Queue]);
    shop.check();
}

async fn claims_of(shop: &Shop) -> Vec<Tier> {
    shop.store.outbox(10).await.unwrap().into_iter().map(|e| e.tier).collect()
}

/// Two calls that hold the same order id are a defect of the caller: the second is refused and nothing of it
/// stays, while what shares its transaction goes through.
pub async fn a_contradiction_fails_alone(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 100, 2).await;
    shop.accept(attempt(1)).await;
    let calls = (2..40).map(|n| {
        let order = if n == 20 { order_id(1) } else { order_id(n) };
        let store: Arc<dyn StockStore> = shop.store.clone();
        tokio::spawn(async move { store.decide(vec![Attempt { order, ..attempt(n) }], RESERVE, NOW).await })
    });
    let mut failed = Vec::new();
    for (i, call) in futures::future::join_all(calls).await.into_iter().enumerate() {
        if call.unwrap().is_err_and(|e| !e.retryable()) {
            failed.push(i + 2);
        }
    }
    assert_eq!(failed, [20]);
    assert_eq!(shop.units().await, (62, 0, 38, 0));
    assert_eq!(shop.store.decision(&buyer(20), &key(20)).await.unwrap(), None);
    assert!(matches!(shop.decide(Attempt { claim: Claim::Queue, ..attempt(20) }).await, Verdict::Decided { .. }));
    shop.check();
}
