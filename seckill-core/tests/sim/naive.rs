//! The two designs that are proposed most often, in the same virtual time: a counter in Redis that is decremented
//! before the order is written, and a distributed lock around the stock. Both break the promise (ADR 0010).

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::fate::Fate;

/// Units for sale.
const STOCK: i64 = 3;
/// Buyers who want one each.
const BUYERS: u64 = 8;
/// A lock's life without renewal: generous, as the text books have it.
const LOCK_LIFE: Duration = Duration::from_millis(200);
/// Seeds within which each must break.
const SEEDS: u64 = 300;

/// Which design.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Design {
    /// `DECR` in Redis; if the result is not negative, insert the order.
    DecrementThenInsert,
    /// Lock the product in Redis, read the stock, write it less one together with the order, unlock.
    LockReadWrite,
}

/// How the promise was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Harm {
    /// More orders than units.
    Oversold,
    /// Units left, buyers refused, and nobody will ever get them.
    Stranded,
}

struct Shop {
    fate: Fate,
    born: Instant,
    /// In Redis: the counter, its asynchronous replica, the lock with its owner and end.
    counter: Mutex<i64>,
    replica: Mutex<i64>,
    lock: Mutex<Option<(u64, Instant)>>,
    /// In SQL: the stock column and the orders.
    stock: Mutex<i64>,
    orders: Mutex<Vec<u64>>,
    refused: Mutex<u64>,
    story: Mutex<Vec<String>>,
}

impl Shop {
    fn say(&self, what: String) {
        self.story.lock().push(format!("{:>5} ms  {what}", self.born.elapsed().as_millis()));
    }

    /// Between two steps: mostly short, sometimes a collector, a scheduler or an operator stops the process.
    async fn between(&self) {
        let ms = if self.fate.coin(60) { self.fate.within(150..600) } else { self.fate.within(1..6) };
        sleep(Duration::from_millis(ms)).await;
    }
    /// Whether the process dies here.
    fn dies(&self) -> bool {
        self.fate.coin(20)
    }

    async fn by_decrement(&self, buyer: u64) {
        self.between().await;
        let left = {
            let mut counter = self.counter.lock();
            *counter -= 1;
            *counter
        };
        if left < 0 {
            *self.refused.lock() += 1;
            return self.say(format!("buyer {buyer}: DECR → {left}: sold out"));
        }
        self.say(format!("buyer {buyer}: DECR → {left}: granted"));
        self.between().await;
        if self.dies() {
            return self.say(format!("buyer {buyer}: his process dies before the INSERT"));
        }
        self.orders.lock().push(buyer);
        self.say(format!("buyer {buyer}: INSERT: accepted"));
    }

    async fn by_lock(&self, buyer: u64) {
        let mut tries = 0;
        loop {
            self.between().await;
            let mut lock = self.lock.lock();
            if lock.is_none_or(|(_, until)| Instant::now() >= until) {
                *lock = Some((buyer, Instant::now() + LOCK_LIFE));
                break;
            }
            tries += 1;
            if tries > 200 {
                return;
            }
        }
        self.say(format!("buyer {buyer}: has the lock"));
        self.between().await;
        let seen = *self.stock.lock();
        self.say(format!("buyer {buyer}: reads stock {seen}"));
        if seen > 0 {
            self.between().await;
            if self.dies() {
                return self.say(format!("buyer {buyer}: his process dies with the lock"));
            }
            *self.stock.lock() = seen - 1;
            self.orders.lock().push(buyer);
            self.say(format!("buyer {buyer}: writes stock {}, accepted", seen - 1));
        } else {
            *self.refused.lock() += 1;
            self.say(format!("buyer {buyer}: sold out"));
        }
        // Releases only his own lock, as he should.
        let mut lock = self.lock.lock();
        if lock.is_some_and(|(owner, _)| owner == buyer) {
            *lock = None;
        }
    }

    /// Redis: the replica follows; sometimes it is promoted with what it has.
    async fn redis(&self) {
        for _ in 0..20 {
            sleep(Duration::from_millis(self.fate.within(5..60))).await;
            if self.fate.coin(40) {
                let old = *self.replica.lock();
                *self.counter.lock() = old;
                self.say(format!("Redis fails over: its counter says {old}"));
            } else {
                *self.replica.lock() = *self.counter.lock();
            }
        }
    }
}

fn run(design: Design, seed: u64) -> (Option<Harm>, Vec<String>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("a runtime");
    runtime.block_on(async {
        let shop = Arc::new(Shop {
            fate: Fate::new(seed, 0, Arc::default()),
            born: Instant::now(),
            counter: Mutex::new(STOCK),
            replica: Mutex::new(STOCK),
            lock: Mutex::default(),
            stock: Mutex::new(STOCK),
            orders: Mutex::default(),
            refused: Mutex::default(),
            story: Mutex::default(),
        });
        let mut crowd = JoinSet::new();
        for buyer in 1..=BUYERS {
            let shop = shop.clone();
            crowd.spawn(async move {
                sleep(Duration::from_millis(shop.fate.within(0..300))).await;
                match design {
                    Design::DecrementThenInsert => shop.by_decrement(buyer).await,
                    Design::LockReadWrite => shop.by_lock(buyer).await,
                }
            });
        }
        if design == Design::DecrementThenInsert {
            let shop = shop.clone();
            crowd.spawn(async move { shop.redis().await });
        }
        while crowd.join_next().await.is_some() {}
        let sold = i64::try_from(shop.orders.lock().len()).expect("few");
        let (refused, mut story) = (*shop.refused.lock(), shop.story.lock().clone());
        let harm = match sold {
            n if n > STOCK => Some(Harm::Oversold),
            n if n < STOCK && refused > 0 => Some(Harm::Stranded),
            _ => None,
        };
        story.push(format!("          {STOCK} units, {sold} orders, {refused} refused: {harm:?}"));
        (harm, story)
    })
}

/// The shortest story in which the design does this harm.
fn shortest(design: Design, harm: Harm) -> (usize, u64, Vec<String>) {
    let mut found: Vec<(u64, Vec<String>)> = Vec::new();
    for seed in 1..=SEEDS {
        if let (Some(done), story) = run(design, seed)
            && done == harm
        {
            found.push((seed, story));
        }
    }
    let count = found.len();
    let (seed, story) =
        found.into_iter().min_by_key(|(_, story)| story.len()).expect("a design that never fails is not naive");
    (count, seed, story)
}

#[test]
fn a_counter_in_redis_and_a_distributed_lock_both_break_the_promise() {
    for (design, harm) in [
        (Design::DecrementThenInsert, Harm::Stranded),
        (Design::DecrementThenInsert, Harm::Oversold),
        (Design::LockReadWrite, Harm::Oversold),
    ] {
        let (count, seed, story) = shortest(design, harm);
        println!("{design:?}: {harm:?} in {count} of {SEEDS} seeds; seed {seed}:");
        println!("{}", story.join("\n"));
    }
}
