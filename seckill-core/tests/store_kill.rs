//! kill -9: a child process buys, pays, cancels and moves, and prints what the store acknowledged; it is killed
//! at a seeded moment. After a reopen everything that it printed is there, and every sum comes out.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod store_suite;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use futures::future::join_all;
use rand::Rng;
use rusqlite::Connection;
use seckill_core::stock::adjustment::Adjusted;
use seckill_core::stock::db::sqlite::{SqliteStore, SqliteStoreOptions};
use seckill_core::stock::sql_store::SqlStore;
use seckill_core::stock::store::{
    Attempt, Claim, MoveStep, Moved, OrderChange, OrderState, Outcome, Payment, PaymentEffect, StockStore,
};
use store_suite::*;
use types::Tier;

/// Where the child finds the database; unset in an ordinary run of the tests.
const DATABASE: &str = "STORE_KILL_DATABASE";
const LIFE: &str = "STORE_KILL_LIFE";
const BUYERS: usize = 24;

fn open(path: &Path) -> Arc<dyn SqlStore> {
    Arc::new(SqliteStore::open(path, SqliteStoreOptions::default()).unwrap())
}

/// The child. Does nothing unless the parent below started it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_trades_until_it_is_killed() {
    let Ok(path) = std::env::var(DATABASE) else { return };
    let life: usize = std::env::var(LIFE).unwrap().parse().unwrap();
    let store = open(Path::new(&path));
    let mover = tokio::spawn(keep_moving(store.clone(), life));
    let keeper = tokio::spawn(keep_counting(store.clone(), life));
    let traders = (0..BUYERS).map(|b| tokio::spawn(trade(store.clone(), life, b)));
    join_all(traders).await;
    mover.abort();
    keeper.abort();
}

/// Prints a line in one piece: the parent may kill between any two bytes, and reads whole lines only.
fn acknowledge(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("ack {line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

async fn trade(store: Arc<dyn StockStore>, life: usize, b: usize) {
    for i in 0..100_000usize {
        let n = (life * BUYERS + b) * 100_000 + i;
        let claim = match store.product(&sku("a")).await.unwrap().unwrap().lease {
            Some(lease) => Claim::Grant { lease: lease.lease, seq: n as u64 },
            None if i % 2 == 0 => Claim::Door,
            None => Claim::Queue,
        };
        let a = Attempt { buyer: buyer(b), claim, ..attempt(n) };
        let verdict = store.decide(vec![a.clone()], RESERVE, NOW).await.unwrap().pop().unwrap();
        let Some((Outcome::Accepted(order), _)) = outcome(&verdict) else { continue };
        acknowledge(&format!("accepted {n} {b}"));
        if i % 3 == 0 {
            let payment = Payment { payment: payment_id(n), order, amount: euros(PRICE) };
            assert_eq!(store.pay(payment, NOW).await.unwrap(), PaymentEffect::Paid);
            acknowledge(&format!("paid {n} {b}"));
        }
        if i % 4 == 0 {
            assert!(matches!(store.cancel(order, &a.buyer, NOW).await.unwrap(), OrderChange::Changed(_)));
            acknowledge(&format!("cancelled {n} {b}"));
        }
    }
}

async fn keep_moving(store: Arc<dyn StockStore>, life: usize) {
    for n in 0usize.. {
        let row = store.product(&sku("a")).await.unwrap().unwrap();
        let (product, epoch, draining) = (sku("a"), row.state.epoch, row.state.target.is_some());
        let step = match (row.lease, row.state.tier) {
            (Some(lease), _) if lease.fenced => MoveStep::Settle { lease: lease.lease },
            (Some(_), _) => MoveStep::Fence { product, epoch, target: Tier::ALL[n % 3] },
            (None, _) if draining && row.state.target != Some(Tier::Redis) => MoveStep::Open { product, epoch },
            (None, Tier::Db) if n % 2 == 0 => MoveStep::Switch { product, epoch, target: Tier::Queue },
            (None, _) => MoveStep::OpenLease { product, epoch, lease: lease_id(life * 1_000_000 + n), keep: 5 },
        };
        if let Moved::Done(row) = store.step(step, NOW).await.unwrap() {
            acknowledge(&format!("epoch {} 0", row.state.epoch));
        }
        tokio::task::yield_now().await;
    }
}

/// Units that adjustment `n` adds, or removes.
fn delta(n: usize) -> i64 {
    if n.is_multiple_of(2) { 3 } else { -4 }
}

async fn keep_counting(store: Arc<dyn StockStore>, life: usize) {
    for i in 0usize.. {
        let n = life * 1_000_000 + i;
        match store.adjust(adjustment(n, delta(n)), NOW).await.unwrap() {
            Adjusted::Done { product: Some(_), .. } => acknowledge(&format!("adjusted {n} 0")),
            other => panic!("adjustment {n}: {other:?}"),
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_9() {
    if std::env::var(DATABASE).is_ok() {
        return;
    }
    let mut random = races::seeded(9);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stock.db");
    open(&path).apply_sale(sale("sale", vec![spec("a", 1_000_000, 1_000)]), NOW).await.unwrap();
    let mut acknowledged = Vec::new();
    for life in 0..12 {
        let wanted = random.random_range(1..1_500);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_trades_until_it_is_killed", "--nocapture"])
            .env(DATABASE, &path)
            .env(LIFE, life.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut seen = 0;
        let mut line = String::new();
        while lines.read_line(&mut line).unwrap() > 0 {
            if let Some(ack) = line.strip_prefix("ack ").and_then(|l| l.strip_suffix('\n')) {
                acknowledged.push(ack.to_owned());
                seen += 1;
                if seen == wanted {
                    child.kill().unwrap();
                }
            }
            line.clear();
        }
        let status = child.wait().unwrap();
        assert!(!status.success() && seen >= wanted, "life {life} ended by itself: {status}");
        invariants::check(&Reader(path.clone()));
    }
    prove(open(&path).as_ref(), &acknowledged).await;
}

async fn prove(store: &dyn StockStore, acknowledged: &[String]) {
    let epoch = store.product(&sku("a")).await.unwrap().unwrap().state.epoch;
    let mut counted = std::collections::BTreeMap::new();
    for ack in acknowledged {
        let mut words = ack.split(' ');
        let (what, n, b) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let (n, b): (usize, usize) = (n.parse().unwrap(), b.parse().unwrap());
        *counted.entry(what).or_insert(0) += 1;
        if what == "epoch" {
            assert!(epoch.get() >= n as u64, "{ack}, and now the epoch is {epoch}");
            continue;
        }
        if what == "adjusted" {
            let again = store.adjust(adjustment(n, delta(n)), NOW).await.unwrap();
            assert!(matches!(again, Adjusted::Done { product: None, .. }), "{ack}, and it was done again: {again:?}");
            continue;
        }
        let order = store.order(order_id(n), &buyer(b)).await.unwrap();
        let state = order.unwrap_or_else(|| panic!("{ack}, and the order is gone")).state;
        use OrderState::{Accepted, Cancelled, Paid, RefundDue};
        let legal: &[OrderState] = match what {
            "accepted" => &[Accepted, Paid, Cancelled, RefundDue],
            "paid" => &[Paid, RefundDue],
            _ => &[Cancelled, RefundDue],
        };
        assert!(legal.contains(&state), "{ack}, and the order is {state:?}");
        let decision = store.decision(&buyer(b), &key(n)).await.unwrap().expect("it was decided");
        assert_eq!(decision.outcome, Outcome::Accepted(order_id(n)));
    }
    println!("{counted:?}");
}

struct Reader(PathBuf);
impl Place for Reader {
    fn open(&self) -> Arc<dyn SqlStore> {
        open(&self.0)
    }
    fn rows(&self, sql: &str) -> Vec<String> {
        let db = Connection::open(&self.0).unwrap();
        let mut find = db.prepare(sql).unwrap();
        let rows = find.query_map([], |row| row.get::<_, rusqlite::types::Value>(0)).unwrap();
        rows.map(|v| format!("{:?}", v.unwrap())).collect()
    }
}
