//! The server killed, paused, cut off in the middle of a commit. Whatever happens, what was answered is so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures::future::join_all;
use rand::Rng;
use seckill_core::stock::db::mariadb::{MariaStore, MariaStoreOptions};
use seckill_core::stock::sql_store::SqlStore;
use seckill_core::stock::store::{Attempt, MoveStep, Outcome, StockStore, Verdict};
use testkit::servers::MariaDb;
use types::Tier;

use crate::place::{Database, Server};
use crate::proxy::{Next, Proxy};
use crate::store_suite::*;

/// Asks until there is an answer, as a client does: the same key, whatever the error was.
async fn insist(store: &dyn StockStore, attempt: &Attempt) -> Verdict {
    loop {
        match store.decide(vec![attempt.clone()], RESERVE, NOW).await {
            Ok(mut verdicts) => return verdicts.pop().unwrap(),
            Err(e) if e.retryable() => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(e) => panic!("{e}"),
        }
    }
}

fn hasty(database: &Database) -> MariaStoreOptions {
    MariaStoreOptions {
        connect_limit: Duration::from_millis(500),
        read_limit: Duration::from_millis(500),
        statement_limit: Duration::from_millis(1_500),
        patience: Duration::from_secs(1),
        ..database.options()
    }
}

/// Buys with many clients through two cores until nothing is left, while the server is killed again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_the_servers_kill_9() {
    const UNITS: u64 = 1_500;
    const CLIENTS: usize = 24;
    let mut random = races::seeded(11);
    let mut server = Server::start();
    let place = Database::at(server.db.create_database().unwrap());
    let stores = [place.connect().await, place.connect().await];
    stores[0].apply_sale(sale("sale", vec![spec("a", UNITS, 1_000)]), NOW).await.unwrap();
    let answered = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|c| {
            let (store, answered) = (Arc::clone(&stores[c % 2]), Arc::clone(&answered));
            tokio::spawn(async move {
                let mut seen = BTreeMap::new();
                for i in 0.. {
                    let n = c * 10_000 + i;
                    let verdict = insist(store.as_ref(), &Attempt { buyer: buyer(c), ..queued(n) }).await;
                    let Some((end, _)) = outcome(&verdict) else { panic!("{verdict:?}") };
                    seen.insert(n, end);
                    answered.fetch_add(1, Ordering::SeqCst);
                    if end == Outcome::AllReserved {
                        return (c, seen);
                    }
                }
                unreachable!("a client ends when nothing is left")
            })
        })
        .collect();
    for _ in 0..4 {
        let until = answered.load(Ordering::SeqCst) + random.random_range(1..300);
        while answered.load(Ordering::SeqCst) < until && !clients.iter().all(|c| c.is_finished()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        println!("killed after {} answers", answered.load(Ordering::SeqCst));
        tokio::task::block_in_place(|| server.db.restart()).unwrap();
    }
    let mut accepted = 0;
    for client in join_all(clients).await {
        let (c, seen) = client.unwrap();
        for (n, end) in seen {
            let there = insist(stores[(c + 1) % 2].as_ref(), &Attempt { buyer: buyer(c), ..queued(n) }).await;
            assert_eq!(outcome(&there), Some((end, false)), "client {c} attempt {n}: the same answer for ever");
            if let Outcome::Accepted(order) = end {
                accepted += 1;
                assert!(stores[0].order(order, &buyer(c)).await.unwrap().is_some(), "order {order} was accepted");
            }
        }
    }
    let shop = Shop { store: Arc::clone(&stores[0]), place: place.clone() };
    assert_eq!((accepted, shop.units().await), (UNITS, (0, 0, UNITS, 0)), "exactly all, each once");
    shop.check();
    let report = place.audit();
    assert!(report.holds(), "{report}");
}

/// A paused server keeps its connections and answers nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_server_is_an_error_to_retry_and_never_a_decision() {
    let server = Server::start();
    let place = Database::at(server.db.create_database().unwrap());
    let store: Arc<dyn SqlStore> = Arc::new(MariaStore::connect(hasty(&place)).await.unwrap());
    store.apply_sale(sale("sale", vec![spec("a", 10, 1)]), NOW).await.unwrap();
    let shop = Shop { store: Arc::clone(&store), place: place.clone() };
    shop.accept(attempt(0)).await;
    server.db.pause();
    let asked = (1..=20).map(|n| {
        let store = Arc::clone(&store);
        async move { store.decide(vec![attempt(n)], RESERVE, NOW).await }
    });
    for end in join_all(asked).await {
        assert!(end.as_ref().is_err_and(|e| e.retryable()), "{end:?}");
    }
    assert!(store.product(&sku("a")).await.is_err_and(|e| e.retryable()));
    server.db.resume();
    for n in 1..=9 {
        let verdict = insist(store.as_ref(), &queued(n)).await;
        assert!(matches!(outcome(&verdict), Some((Outcome::Accepted(_), _))), "{n}: {verdict:?}");
    }
    let verdict = insist(store.as_ref(), &attempt(20)).await;
    assert_eq!(verdict, Verdict::AllReservedAtDoor, "ten units, ten orders, none of them twice");
    shop.check();
}

/// The answer to a commit is lost in three ways; each time the caller gets the one true answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_cleared_up() {
    let server = Server::start();
    let place = Database::at(server.db.create_database().unwrap());
    let proxy = Proxy::start(server.db.port()).await;
    let url = place.url.replace(&format!(":{}/", server.db.port()), &format!(":{}/", proxy.port));
    let options = MariaStoreOptions { url: Some(url), ..place.options() };
    let store: Arc<dyn SqlStore> = Arc::new(MariaStore::connect(options).await.unwrap());
    store.apply_sale(sale("sale", vec![spec("a", 100, 1)]), NOW).await.unwrap();
    let shop = Shop { store: Arc::clone(&store), place: place.clone() };
    for (i, next) in [Next::LoseAnswer, Next::LoseCommit, Next::Freeze].into_iter().enumerate() {
        let lost = proxy.lost();
        proxy.set(next);
        let order = shop.accept(attempt(i)).await;
        assert_eq!(proxy.lost(), lost + 1, "{next:?} happened");
        assert_eq!(shop.units().await.0, 99 - i as u64, "{next:?}: one unit, once");

        let epoch = shop.product().await.state.epoch;
        let target = if i % 2 == 0 { Tier::Queue } else { Tier::Db };
        proxy.set(next);
        let row = shop.moved(MoveStep::Switch { product: sku("a"), epoch, target }).await;
        assert_eq!(row.state.epoch, epoch.next(), "{next:?}: the mover knows that it was he");

        proxy.set(next);
        shop.pay(i, &order).await;
        assert_eq!(proxy.lost(), lost + 3, "{next:?} happened each time");
        shop.check();
    }
    let kinds: Vec<_> = store.outbox(100).await.unwrap().iter().map(|e| e.sequence).collect();
    assert_eq!(kinds, (1..=6).collect::<Vec<_>>(), "each event once");
    assert!(!place.rows("SELECT writer FROM writer_mark WHERE last >= 10").is_empty());
}

/// While the server cannot be asked, the end of a commit stays unknown: an error, and the key tells later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_cannot_be_cleared_up_is_an_error_and_the_key_tells() {
    let mut server = Server::start();
    let place = Database::at(server.db.create_database().unwrap());
    let proxy = Proxy::start(server.db.port()).await;
    let url = place.url.replace(&format!(":{}/", server.db.port()), &format!(":{}/", proxy.port));
    let options = MariaStoreOptions { url: Some(url), ..hasty(&place) };
    let store: Arc<dyn SqlStore> = Arc::new(MariaStore::connect(options).await.unwrap());
    store.apply_sale(sale("sale", vec![spec("a", 100, 1)]), NOW).await.unwrap();
    proxy.set(Next::LoseAnswer);
    let asking = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.decide(vec![attempt(1)], RESERVE, NOW).await })
    };
    while proxy.lost() == 0 {
        tokio::task::yield_now().await;
    }
    // It is committed as soon as the proxy has its answer; only then may the server die.
    while place.rows("SELECT 1 FROM orders").is_empty() {
        tokio::task::yield_now().await;
    }
    tokio::task::block_in_place(|| server.db.kill());
    let end = asking.await.unwrap();
    match &end {
        // The store may have been quicker than the kill.
        Ok(verdicts) => assert_eq!(outcome(&verdicts[0]), Some((Outcome::Accepted(order_id(1)), true))),
        Err(e) => assert!(e.retryable(), "{e}"),
    }
    println!("told: {end:?}");
    tokio::task::block_in_place(|| server.db.restart()).unwrap();
    let again = insist(store.as_ref(), &Attempt { order: order_id(77), ..attempt(1) }).await;
    assert_eq!(outcome(&again), Some((Outcome::Accepted(order_id(1)), false)), "the first decision is the answer");
    Shop { store, place: Database::at(place.url.clone()) }.check();
}

/// The writer loses its connection while the server takes no more: an error to retry, and it comes back by itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_many_connections_are_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let server = MariaDb::start_with(folder.path(), &["max_connections=10"]).unwrap();
    let place = Database::at(server.create_database().unwrap());
    let store: Arc<dyn SqlStore> = Arc::new(MariaStore::connect(hasty(&place)).await.unwrap());
    store.apply_sale(sale("sale", vec![spec("a", 10, 1)]), NOW).await.unwrap();
    let writer = "SELECT CAST(id AS SIGNED) FROM information_schema.processlist WHERE user = 'root' \
                  AND id <> CONNECTION_ID() AND db IS NOT NULL";
    let writer = place.rows(writer).pop().expect("the writer is connected");
    let mut others = Vec::new();
    loop {
        let other = Database::at(place.url.clone());
        if other.sql("SELECT 1").await.is_err() {
            break;
        }
        others.push(other);
    }
    place.rows(&format!("KILL CONNECTION {writer}"));
    // Somebody else takes the place that the writer's connection leaves.
    let taker = Database::at(place.url.clone());
    while taker.sql("SELECT 1").await.is_err() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let end = store.decide(vec![attempt(1)], RESERVE, NOW).await;
    assert!(end.as_ref().is_err_and(|e| e.retryable()), "{end:?}");
    println!("told: {end:?}");
    drop((others, taker));
    let verdict = insist(store.as_ref(), &attempt(1)).await;
    assert_eq!(outcome(&verdict), Some((Outcome::Accepted(order_id(1)), true)));
    invariants::check(place.as_ref());
}
