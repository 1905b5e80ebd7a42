//! Stories of many callers at once on few units. Whatever the order of things, the sums must come out.

use std::sync::Arc;

use futures::future::join_all;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use seckill_core::stock::store::{Attempt, MoveStep, Moved, OrderState, Outcome, Resubmit, Verdict};
use types::Tier;

use super::*;

/// The seed of this run: `SEED` from the environment, or the given one. Printed, so that a failure replays.
pub fn seeded(default: u64) -> ChaCha8Rng {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(default);
    println!("SEED={seed}");
    ChaCha8Rng::seed_from_u64(seed)
}

async fn all_at_once(shop: &Shop, attempts: Vec<Attempt>) -> Vec<Verdict> {
    let calls = attempts.into_iter().map(|attempt| {
        let store = Arc::clone(&shop.store);
        tokio::spawn(async move { store.decide(vec![attempt], RESERVE, NOW).await.unwrap().pop().unwrap() })
    });
    join_all(calls).await.into_iter().map(Result::unwrap).collect()
}

pub async fn many_buyers_few_units_exactly_all_sold(place: Arc<dyn Place>) {
    let mut random = seeded(1);
    let shop = Shop::selling(place, 101, 4).await;
    let mut attempts: Vec<_> = (0..600)
        .map(|n| Attempt {
            buyer: buyer(random.random_range(0..60)),
            quantity: random.random_range(1..=3),
            claim: if random.random_bool(0.5) { Claim::Door } else { Claim::Queue },
            ..attempt(n)
        })
        .collect();
    let repeats: Vec<_> = (0..200).map(|_| attempts[random.random_range(0..600)].clone()).collect();
    attempts.extend(repeats);
    attempts.shuffle(&mut random);
    all_at_once(&shop, attempts).await;
    shop.check();
    let singles = (1_000..1_400).map(|n| Attempt { buyer: buyer(n), ..attempt(n) }).collect();
    all_at_once(&shop, singles).await;
    assert_eq!(shop.units().await, (0, 0, 101, 0), "not one more, not one less");
    shop.check();
}

pub async fn one_key_at_once_is_one_order(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 50, 50).await;
    let same = (0..40).map(|n| Attempt { order: order_id(100 + n), ..attempt(1) }).collect();
    let verdicts = all_at_once(&shop, same).await;
    let orders: std::collections::BTreeSet<_> = verdicts
        .iter()
        .map(|v| match outcome(v) {
            Some((Outcome::Accepted(order), _)) => order,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(orders.len(), 1, "everybody reads the first decision");
    assert_eq!(verdicts.iter().filter(|v| matches!(v, Verdict::Decided { fresh: true, .. })).count(), 1);
    assert_eq!(shop.units().await, (49, 0, 1, 0));
    shop.check();
}

/// Grants arrive while two movers drain their lease; what comes after the close is submitted again.
pub async fn late_grants_against_settlement(place: Arc<dyn Place>) {
    let mut random = seeded(2);
    let shop = Shop::selling(place, 60, 1).await;
    for round in 0..4 {
        let lease = shop.lend(round).await;
        let base = round * 1_000;
        let epoch = shop.product().await.state.epoch;
        let mut calls: Vec<_> = (0..40u64).map(|seq| Some(granted(base + seq as usize, lease, seq))).collect();
        calls.extend([None, None]);
        calls.shuffle(&mut random);
        let calls = calls.into_iter().map(|call| {
            let store = Arc::clone(&shop.store);
            tokio::spawn(async move {
                if let Some(attempt) = call {
                    let verdict = store.decide(vec![attempt.clone()], RESERVE, NOW).await.unwrap().pop().unwrap();
                    return matches!(verdict, Verdict::Resubmit(Resubmit::LeaseClosed)).then_some(attempt);
                }
                let fence = MoveStep::Fence { product: sku("a"), epoch, target: Tier::Db };
                store.step(fence, NOW).await.unwrap();
                store.step(MoveStep::Settle { lease }, NOW).await.unwrap();
                store.step(MoveStep::Open { product: sku("a"), epoch: epoch.next() }, NOW).await.unwrap();
                None
            })
        });
        let late: Vec<_> = join_all(calls).await.into_iter().filter_map(Result::unwrap).collect();
        println!("round {round}: {} grants were late", late.len());
        shop.check();
        let again = late.into_iter().map(|a| Attempt { claim: Claim::Queue, ..a }).collect();
        for verdict in all_at_once(&shop, again).await {
            assert!(outcome(&verdict).is_some(), "{verdict:?}");
        }
        assert_eq!(shop.product().await.state.tier, Tier::Db);
        shop.check();
        if round == 0 {
            assert_eq!(shop.units().await, (20, 0, 40, 0));
        }
        if round == 1 {
            assert_eq!(shop.units().await, (0, 0, 60, 0), "all 20 that were left");
        }
        if round == 2 {
            shop.store.expire_due(NOW.plus(RESERVE), 1_000).await.unwrap();
        }
    }
    shop.check();
}

pub async fn of_many_movers_one_wins_each_step(place: Arc<dyn Place>) {
    let shop = Shop::selling(place, 10, 1).await;
    let epoch = shop.product().await.state.epoch;
    let product = || sku("a");
    let race = |steps: Vec<MoveStep>| {
        let calls: Vec<_> = steps
            .into_iter()
            .map(|step| {
                let store = Arc::clone(&shop.store);
                tokio::spawn(async move { store.step(step, NOW).await.unwrap() })
            })
            .collect();
        async move { join_all(calls).await.into_iter().filter(|m| matches!(m.as_ref().unwrap(), Moved::Done(_))).count() }
    };
    let lend = (0..8).map(|n| MoveStep::OpenLease { product: product(), epoch, lease: lease_id(n), keep: 2 });
    let switch = (0..8).map(|_| MoveStep::Switch { product: product(), epoch, target: Tier::Queue });
    assert_eq!(race(lend.chain(switch).collect()).await, 1);
    shop.check();
    let mut row = shop.product().await;
    if row.state.tier == Tier::Queue {
        let epoch = row.state.epoch;
        row = shop.moved(MoveStep::OpenLease { product: product(), epoch, lease: lease_id(99), keep: 0 }).await;
    }
    let lease = row.lease.expect("lent").lease;
    assert_eq!(race((0..16).map(|_| MoveStep::MarkLoaded { lease }).collect()).await, 1);
    let epoch = row.state.epoch;
    let targets = [Tier::Db, Tier::Queue, Tier::Redis];
    let fence = (0..15).map(|n| MoveStep::Fence { product: product(), epoch, target: targets[n % 3] });
    assert_eq!(race(fence.collect()).await, 1);
    assert_eq!(race((0..16).map(|_| MoveStep::Settle { lease }).collect()).await, 1);
    let epoch = epoch.next();
    let finish = (0..16).map(|n| match n % 2 {
        0 => MoveStep::Open { product: product(), epoch },
        _ => MoveStep::OpenLease { product: product(), epoch, lease: lease_id(200 + n), keep: 0 },
    });
    let target = shop.product().await.state.target;
    let won = race(finish.collect()).await;
    assert!(won == 1 || (won == 2 && target != Some(Tier::Redis)), "{won}: a lease may follow the open to db");
    shop.check();
}

pub async fn payment_against_expiry_against_cancellation(place: Arc<dyn Place>) {
    let mut random = seeded(3);
    let shop = Shop::selling(place, 100, 1).await;
    let mut orders = Vec::new();
    for n in 0..100 {
        orders.push(shop.accept(attempt(n)).await);
    }
    let mut calls: Vec<(usize, u8)> = (0..100).flat_map(|n| [(n, 0), (n, 0), (n, 1), (n, 2)]).collect();
    calls.shuffle(&mut random);
    let calls = calls.into_iter().map(|(n, what)| {
        let (store, order) = (Arc::clone(&shop.store), orders[n].clone());
        tokio::spawn(async move {
            match what {
                0 => {
                    let payment = Payment { payment: payment_id(n), order: order.order, amount: order.amount };
                    store.pay(payment, NOW).await.map(|_| ())
                }
                1 => store.cancel(order.order, &order.buyer, NOW).await.map(|_| ()),
                _ => store.expire_due(NOW.plus(RESERVE), 1).await.map(|_| ()),
            }
        })
    });
    for call in join_all(calls).await {
        call.unwrap().unwrap();
    }
    shop.check();
    assert_eq!(shop.place.rows("SELECT payment_id FROM payment").len(), 100, "each payment is there once");
    let mut ends = std::collections::BTreeMap::new();
    for order in &orders {
        *ends.entry(format!("{:?}", shop.state(order).await)).or_insert(0) += 1;
    }
    println!("{ends:?}");
    let paid = ends.get("Paid").copied().unwrap_or(0);
    assert_eq!(shop.units().await, (100 - paid, 0, 0, paid));
    assert!(!ends.contains_key(&format!("{:?}", OrderState::Accepted)), "all were paid, cancelled or due");
}

pub async fn adjustments_against_grants_and_moves(place: Arc<dyn Place>) {
    let mut random = seeded(4);
    let shop = Shop::selling(place, 60, 1).await;
    let mut expected = 60i64;
    for round in 0..4usize {
        let lease = shop.lend(round).await;
        shop.moved(MoveStep::MarkLoaded { lease }).await;
        let row = shop.product().await;
        let epoch = row.state.epoch;
        // A sound lease store grants no more than it was lent; later rounds lend fewer than thirty.
        let lent = row.lease.map_or(0, |l| l.granted);
        let base = round * 1_000;
        // 0..30: grants; 30..40: from free; 40..60: ten adjustments, each asked twice; 60..66: movers and top-ups.
        let mut calls: Vec<usize> = (0..66).collect();
        calls.shuffle(&mut random);
        let calls = calls.into_iter().map(|call| {
            let store = Arc::clone(&shop.store);
            tokio::spawn(async move {
                match call {
                    0..30 if call as u64 >= lent => {}
                    0..30 => {
                        let a = granted(base + call, lease, call as u64);
                        let verdict = store.decide(vec![a], RESERVE, NOW).await.unwrap().pop().unwrap();
                        let over = matches!(verdict, Verdict::Resubmit(Resubmit::OverGranted | Resubmit::SequenceUsed));
                        assert!(!over, "an adjustment is no alarm: {verdict:?}");
                    }
                    30..40 => drop(store.decide(vec![queued(base + call)], RESERVE, NOW).await.unwrap()),
                    40..60 => {
                        let n = call % 10;
                        let delta = if n < 6 { -3 } else { 2 };
                        let adjusted = store.adjust(adjustment(base + n, delta), NOW).await.unwrap();
                        return match adjusted {
                            Adjusted::Done { row, product } => {
                                assert_eq!(row.delta, delta);
                                Some((n, product.is_some(), delta))
                            }
                            Adjusted::TooFew { removable } => {
                                assert!(removable < 3);
                                None
                            }
                            other => panic!("{other:?}"),
                        };
                    }
                    60 => drop(
                        store.step(MoveStep::Fence { product: sku("a"), epoch, target: Tier::Db }, NOW).await.unwrap(),
                    ),
                    61 | 62 => drop(store.step(MoveStep::Settle { lease }, NOW).await.unwrap()),
                    _ => drop(store.step(MoveStep::TopUp { lease, keep: 1 }, NOW).await.unwrap()),
                }
                None
            })
        });
        let done: Vec<_> = join_all(calls).await.into_iter().filter_map(Result::unwrap).collect();
        let fresh: Vec<_> = done.iter().filter(|(_, fresh, _)| *fresh).collect();
        let mut names: Vec<_> = fresh.iter().map(|(n, ..)| n).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), fresh.len(), "each took effect once");
        expected += fresh.iter().map(|(.., delta)| delta).sum::<i64>();
        println!("round {round}: {} adjustments, total {expected}", fresh.len());
        let row = shop.product().await;
        assert_eq!(i64::try_from(row.state.total), Ok(expected));
        shop.check();
        finish(&shop).await;
    }
}

/// Brings whatever move is half done to its end on db.
async fn finish(shop: &Shop) {
    for _ in 0..8 {
        let row = shop.product().await;
        let (product, epoch) = (sku("a"), row.state.epoch);
        let fresh = lease_id(900 + usize::try_from(epoch.get()).unwrap());
        let step = match (row.lease, row.state.target) {
            (Some(lease), _) if lease.fenced => MoveStep::Settle { lease: lease.lease },
            (Some(_), _) => MoveStep::Fence { product, epoch, target: Tier::Db },
            (None, Some(Tier::Redis)) => MoveStep::OpenLease { product, epoch, lease: fresh, keep: 0 },
            (None, Some(_)) => MoveStep::Open { product, epoch },
            (None, None) => return,
        };
        shop.moved(step).await;
        shop.check();
    }
    panic!("it came to no end");
}
