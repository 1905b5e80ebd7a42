//! Several cores on one database: races to the last unit, locks in each other's way, an outbox without gaps.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use rand::Rng;
use seckill_core::stock::db::mariadb::{MariaStore, MariaStoreOptions};
use seckill_core::stock::store::{Attempt, BodyHash, Outcome, SaleState, StockStore, StoreError, Verdict};
use types::SaleName;

use crate::place::{Database, Server};
use crate::store_suite::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_cores_sell_exactly_all_of_many_products() {
    let mut random = races::seeded(21);
    let place = Database::fresh();
    let stores = [place.connect().await, place.connect().await, place.connect().await];
    let names = ["a", "b", "c", "d", "e"];
    stores[0].apply_sale(sale("sale", names.map(|n| spec(n, 60, 4)).to_vec()), NOW).await.unwrap();
    let calls: Vec<_> = (0..240)
        .map(|call| {
            let batch: Vec<_> = (0..8)
                .map(|i| Attempt {
                    buyer: buyer(random.random_range(0..80)),
                    product: sku(names[random.random_range(0..names.len())]),
                    quantity: random.random_range(1..=2),
                    ..queued(call * 8 + i)
                })
                .collect();
            let (first, second) = (random.random_range(0..3), random.random_range(0..3));
            let stores = stores.clone();
            tokio::spawn(async move {
                let ends = stores[first].decide(batch.clone(), RESERVE, NOW).await.unwrap();
                let again = stores[second].decide(batch, RESERVE, NOW).await.unwrap();
                for (end, again) in ends.iter().zip(&again) {
                    let same = matches!((end, again), (Verdict::Decided { decision: a, .. }, Verdict::Decided { decision: b, fresh: false, .. }) if a == b);
                    assert!(same, "{end:?}, later {again:?}");
                }
            })
        })
        .collect();
    for call in join_all(calls).await {
        call.unwrap();
    }
    let left: u64 = place.rows("SELECT free FROM stock").iter().map(|n| n.parse::<u64>().unwrap()).sum();
    println!("{left} units left, because their buyers hold as many as they may");
    for (i, name) in names.into_iter().enumerate() {
        for n in 0..60 {
            let one = Attempt { product: sku(name), ..queued(10_000 + i * 100 + n) };
            stores[n % 3].decide(vec![one], RESERVE, NOW).await.unwrap();
        }
    }
    let ends = place.rows("SELECT free, reserved FROM stock");
    assert_eq!(ends, vec!["0 60"; 5], "not one more, not one less");
    invariants::check(place.as_ref());
}

/// The same key on two cores, for two products or with two bodies: no lock orders these, the primary key does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_key_for_two_products_on_two_cores_is_decided_once() {
    let place = Database::fresh();
    let stores = [place.connect().await, place.connect().await];
    stores[0].apply_sale(sale("sale", vec![spec("a", 1_000, 9), spec("b", 1_000, 9)]), NOW).await.unwrap();
    let calls = (0..400usize).map(|n| {
        let core = n % 2;
        let store = Arc::clone(&stores[core]);
        let attempt = Attempt {
            product: sku(if core == 0 { "a" } else { "b" }),
            body_hash: BodyHash([core as u8; 32]),
            order: order_id(n),
            ..queued(n / 2)
        };
        tokio::spawn(async move { (n / 2, store.decide(vec![attempt], RESERVE, NOW).await.unwrap().pop().unwrap()) })
    });
    let mut winners = vec![0; 200];
    for call in join_all(calls).await {
        match call.unwrap() {
            (n, Verdict::Decided { fresh: true, .. }) => winners[n] += 1,
            (_, Verdict::OtherBody) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(winners.iter().all(|n| *n == 1));
    invariants::check(place.as_ref());
}

/// Another program holds the second product and then wants the first: the server must kill one of the two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_is_tried_again() {
    let place = Database::fresh();
    let store = place.connect().await;
    store.apply_sale(sale("sale", vec![spec("a", 5, 5), spec("b", 5, 5)]), NOW).await.unwrap();
    place.sql("START TRANSACTION; UPDATE stock SET epoch = epoch WHERE product_id = 'b'").await.unwrap();
    place.sql("UPDATE sale SET updated_at = updated_at + 1 WHERE name = 'nowhere'").await.unwrap();
    let both = vec![attempt(1), Attempt { product: sku("b"), ..attempt(2) }];
    let asking = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.decide(both, RESERVE, NOW).await })
    };
    let watch = Database::at(place.url.clone());
    while watch
        .rows("SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT' AND trx_query LIKE '%''b''%'")
        .is_empty()
    {
        // The server renews this table only for who has not asked for 100 ms.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let other = place.sql("UPDATE stock SET epoch = epoch WHERE product_id = 'a'").await;
    println!("the other program: {:?}", other.as_ref().map(|_| "went on").map_err(ToString::to_string));
    place.sql("COMMIT").await.unwrap();
    let verdicts = asking.await.unwrap().unwrap();
    for (i, verdict) in verdicts.iter().enumerate() {
        assert_eq!(outcome(verdict), Some((Outcome::Accepted(order_id(i + 1)), true)));
    }
    invariants::check(place.as_ref());
}

/// A lock that is held for too long is an error to retry; nothing is decided by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_held_for_too_long_decides_nothing() {
    let place = Database::fresh();
    let options = MariaStoreOptions { patience: Duration::from_millis(1_500), ..place.options() };
    let store = MariaStore::connect(options).await.unwrap();
    store.apply_sale(sale("sale", vec![spec("a", 5, 5)]), NOW).await.unwrap();
    place.sql("START TRANSACTION; UPDATE stock SET epoch = epoch WHERE product_id = 'a'").await.unwrap();
    let end = store.decide(vec![attempt(1)], RESERVE, NOW).await;
    assert!(matches!(&end, Err(e @ StoreError::Unavailable(_)) if e.retryable()), "{end:?}");
    assert_eq!(store.decision(&buyer(1), &key(1)).await.unwrap(), None);
    place.sql("ROLLBACK").await.unwrap();
    let verdicts = store.decide(vec![attempt(1)], RESERVE, NOW).await.unwrap();
    assert_eq!(outcome(&verdicts[0]), Some((Outcome::Accepted(order_id(1)), true)));
    invariants::check(place.as_ref());
}

/// A relay on one core loses no event of the other: numbers become visible in their order, without gaps.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_outbox_has_no_gaps_for_a_relay_that_runs_meanwhile() {
    let place = Database::fresh();
    let stores = [place.connect().await, place.connect().await];
    stores[0].apply_sale(sale("sale", vec![spec("a", 9_000, 9), spec("b", 9_000, 9)]), NOW).await.unwrap();
    let buying: Vec<_> = (0..16)
        .map(|c| {
            let store = Arc::clone(&stores[c % 2]);
            let product = sku(if c % 2 == 0 { "a" } else { "b" });
            tokio::spawn(async move {
                for i in 0..60 {
                    let one = Attempt { product: product.clone(), ..attempt(c * 1_000 + i) };
                    store.decide(vec![one], RESERVE, NOW).await.unwrap();
                }
            })
        })
        .collect();
    let mut relayed = Vec::new();
    loop {
        let done = buying.iter().all(|b| b.is_finished());
        let events = stores[0].outbox(50).await.unwrap();
        relayed.extend(events.iter().map(|e| e.sequence));
        match events.last() {
            Some(last) => stores[1].outbox_relayed(last.sequence).await.unwrap(),
            None if done => break,
            None => tokio::task::yield_now().await,
        }
    }
    assert_eq!(relayed, (1..=16 * 60).collect::<Vec<u64>>());
}

/// A sale that was closed is closed for a purchase that another core has under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_accepted_after_another_core_has_closed_the_sale() {
    let place = Database::fresh();
    let stores = [place.connect().await, place.connect().await];
    stores[0].apply_sale(sale("sale", vec![spec("a", 9_000, 9)]), NOW).await.unwrap();
    let buying: Vec<_> = (0..8)
        .map(|c| {
            let store = Arc::clone(&stores[0]);
            tokio::spawn(async move {
                for i in 0.. {
                    let verdict =
                        store.decide(vec![attempt(c * 1_000 + i)], RESERVE, NOW).await.unwrap().pop().unwrap();
                    if verdict == Verdict::NotOnSale {
                        return;
                    }
                }
            })
        })
        .collect();
    while place.rows("SELECT 1 FROM orders LIMIT 1").is_empty() {
        tokio::task::yield_now().await;
    }
    stores[1].set_sale_state(&SaleName::new("sale").unwrap(), SaleState::Closed, NOW).await.unwrap();
    let sold = place.rows("SELECT COUNT(*) FROM orders");
    join_all(buying).await.into_iter().for_each(Result::unwrap);
    assert_eq!(place.rows("SELECT COUNT(*) FROM orders"), sold, "not one after the close was answered");
    invariants::check(place.as_ref());
}

/// A large batch costs few statements, as the server counts them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_batch_is_at_most_a_tenth_of_a_statement_an_order() {
    let server = Server::start();
    let place = Database::at(server.db.create_database().unwrap());
    let store = place.connect().await;
    store.apply_sale(sale("sale", vec![spec("a", 9_000, 9), spec("b", 9_000, 9)]), NOW).await.unwrap();
    let count =
        || place.rows("SHOW GLOBAL STATUS LIKE 'Questions'")[0].split(' ').nth(1).unwrap().parse::<u64>().unwrap();
    let before = count();
    for batch in 0..5 {
        let product = |n: usize| sku(if n < 250 { "a" } else { "b" });
        let batch = (0..500).map(|i| Attempt { product: product(i), ..attempt(batch * 500 + i) });
        store.decide(batch.collect(), RESERVE, NOW).await.unwrap();
    }
    let statements = count() - before;
    println!("{statements} statements for 2,500 orders");
    assert!(statements <= 250, "{statements}");
    invariants::check(place.as_ref());
}

/// While the database is in the way, a bounded number of calls waits; one more is told so at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_is_said_at_once() {
    let place = Database::fresh();
    let options = MariaStoreOptions { queue: 3, patience: Duration::from_secs(20), ..place.options() };
    let store: Arc<dyn StockStore> = Arc::new(MariaStore::connect(options).await.unwrap());
    store.apply_sale(sale("sale", vec![spec("a", 50, 5)]), NOW).await.unwrap();
    place.sql("START TRANSACTION; UPDATE stock SET epoch = epoch WHERE product_id = 'a'").await.unwrap();
    let ask = |n: usize| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.decide(vec![attempt(n)], RESERVE, NOW).await })
    };
    let mut waiting = vec![ask(0)];
    let watch = Database::at(place.url.clone());
    while watch.rows("SELECT 1 FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'").is_empty() {
        // The server renews this table only for who has not asked for 100 ms.
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    let more: Vec<_> = (1..=8).map(ask).collect();
    let mut refused = 0;
    for call in more {
        // The refused ones answer while the lock is still held.
        tokio::time::sleep(Duration::from_millis(20)).await;
        if call.is_finished() {
            assert!(matches!(call.await.unwrap(), Err(StoreError::Overloaded)));
            refused += 1;
        } else {
            waiting.push(call);
        }
    }
    assert_eq!((refused, waiting.len()), (5, 4), "one at work, three in the queue");
    place.sql("ROLLBACK").await.unwrap();
    for call in waiting {
        assert!(outcome(&call.await.unwrap().unwrap()[0]).is_some(), "what was queued is done");
    }
    invariants::check(place.as_ref());
}
