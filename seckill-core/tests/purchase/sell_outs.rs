//! Contended sell-outs: of each product fewer units than are wanted, by many buyers at once with repeats, over all
//! tiers and with moves while it sells. Exactly all units are sold, each once; the auditor agrees.
//!
//! `SELL_OUTS=n` makes it n in all, over the eight combinations in turn (`script/test --sell-outs n`), `PLACES=m-n`
//! over those of these numbers only, `SEED=n` repeats a run.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use types::Tier;

use crate::client::{Clients, End, Wish, orders};
use crate::place::Kind;
use crate::shop::Shop;

/// Sell-outs in one shop, after which the auditor judges it.
const PER_SHOP: usize = 25;
/// Products that sell at the same time.
const AT_ONCE: usize = 3;
/// Buyers of one product who call at the same time; the others stand behind them.
const CALLERS: usize = 60;
/// Most units of one product.
const MOST_UNITS: f64 = 1_000.0;

/// What one product's sell-out came to.
#[derive(Debug, Default, Clone, Copy)]
struct Sold {
    units: u64,
    orders: u64,
    calls: u64,
}

/// What many came to.
#[derive(Debug, Default)]
struct Tally {
    sell_outs: u64,
    sold: Sold,
    answers: u64,
    moves: u64,
    took: Duration,
}

/// One to a thousand units, small numbers as likely as large ones: the end of the stock is where it can go wrong.
fn draw_units(rng: &mut StdRng) -> u64 {
    MOST_UNITS.powf(rng.random_range(0.0..=1.0)).round() as u64
}

/// Everybody who wants the product: more units than there are, in ones to `limit`s, a fifth of the calls twice, and
/// some buyers under several keys, for more than they may have.
fn wishes(rng: &mut StdRng, sale: &str, product: &str, units: u64, limit: u32) -> Vec<Wish> {
    let wanted = units as f64 * rng.random_range(1.3..2.0) + 5.0;
    let (mut all, mut asked, mut n) = (Vec::new(), 0, 0);
    while (asked as f64) < wanted {
        n += 1;
        let keys = if rng.random_bool(0.1) { 2 } else { 1 };
        for key in 0..keys {
            let quantity = rng.random_range(1..=limit);
            let wish = Wish {
                sale: sale.into(),
                buyer: format!("{product}-b{n}"),
                product: product.into(),
                key: format!("k{key}"),
                quantity,
                wait: rng.random_bool(0.6),
                core: rng.random_range(0..2),
            };
            asked += if key == 0 { u64::from(quantity) } else { 0 };
            for _ in 0..=u32::from(rng.random_bool(0.2)) {
                all.push(wish.clone());
            }
        }
    }
    all.shuffle(rng);
    all
}

/// All wishes, at most so many calls at once.
async fn crowd(clients: &Clients, wishes: Vec<Wish>) -> Vec<(Wish, End)> {
    let (places, mut calls) = (Arc::new(tokio::sync::Semaphore::new(CALLERS)), tokio::task::JoinSet::new());
    for wish in wishes {
        let (clients, place) = (clients.clone(), places.clone().acquire_owned().await.unwrap());
        calls.spawn(async move {
            let end = clients.buy(wish.clone()).await;
            drop(place);
            (wish, end)
        });
    }
    calls.join_all().await
}

/// Sells one product out, and looks whether exactly its units were sold, within the limit.
async fn sell_out(
    clients: Clients,
    store: &Shop,
    sale: &str,
    product: &str,
    seed: u64,
    units: u64,
    limit: u32,
) -> Sold {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut ends = crowd(&clients, wishes(&mut rng, sale, product, units, limit)).await;
    // Who wanted two was refused the last one, and a ticket may have ended at its deadline: ones buy what is left.
    for round in 0.. {
        let left = store.row(product).await.state.sellable;
        if left == 0 {
            break;
        }
        assert!(round < 20, "{left} of {units} units of {product} find no buyer");
        let late = (0..left.min(100)).map(|n| Wish {
            sale: sale.into(),
            buyer: format!("{product}-late{round}-{n}"),
            wait: true,
            ..Wish::one("", product)
        });
        ends.extend(crowd(&clients, late.collect()).await);
    }
    let orders = orders(&ends);
    let quantities: HashMap<&String, u64> =
        ends.iter().filter_map(|(w, end)| Some((end.as_ref().ok()?, u64::from(w.quantity)))).collect();
    let mut by_buyer: BTreeMap<&String, u64> = BTreeMap::new();
    for (order, buyer) in &orders {
        *by_buyer.entry(buyer).or_default() += quantities[order];
    }
    assert_eq!(
        by_buyer.values().sum::<u64>(),
        units,
        "{product}: exactly its units were sold, to those who were told so"
    );
    assert!(by_buyer.values().all(|held| *held <= u64::from(limit)), "{product}: nobody has more than {limit}");
    let row = store.row(product).await;
    assert_eq!((row.free, row.state.sellable, row.state.reserved), (0, 0, units), "{product}");
    Sold { units, orders: orders.len() as u64, calls: ends.len() as u64 }
}

/// Sells so many products out in one shop with two cores.
async fn in_one_shop(kind: Kind, count: usize, seed: u64, tally: &mut Tally) {
    let started = Instant::now();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut shop = Shop::open_two(kind).await;
    let names: Vec<String> = (0..count).map(|n| format!("p{n}")).collect();
    let terms: Vec<(u64, u32)> = names.iter().map(|_| (draw_units(&mut rng), rng.random_range(1..=3))).collect();
    let products: Vec<(&str, u64, u32)> = names.iter().zip(&terms).map(|(p, (u, l))| (p.as_str(), *u, *l)).collect();
    shop.sell(&products).await;
    // Each begins on another tier.
    let tiers: Vec<(&str, Tier)> = names.iter().map(|p| (p.as_str(), Tier::ALL[rng.random_range(0..3)])).collect();
    shop.plan(&tiers).await;
    let seeds: Vec<u64> = names.iter().map(|_| rng.random()).collect();
    let (clients, generation) = (shop.clients.clone(), AtomicU64::new(shop.generation));
    let over = AtomicBool::new(false);
    let selling = async {
        let next = AtomicU64::new(0);
        let teller = async || {
            let mut sum = Sold::default();
            loop {
                let n = next.fetch_add(1, Ordering::SeqCst) as usize;
                let Some(&(product, units, limit)) = products.get(n) else { return sum };
                let sold = sell_out(clients.clone(), &shop, crate::shop::SALE, product, seeds[n], units, limit).await;
                sum = Sold {
                    units: sum.units + sold.units,
                    orders: sum.orders + sold.orders,
                    calls: sum.calls + sold.calls,
                };
            }
        };
        let sums = futures::future::join_all((0..AT_ONCE).map(|_| teller())).await;
        over.store(true, Ordering::SeqCst);
        sums
    };
    let moving = async {
        // Every product is somewhere else again and again, by a plan that only says where all shall be.
        let mut rng = StdRng::seed_from_u64(seed ^ 1);
        while !over.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(rng.random_range(50..250))).await;
            let tiers: Vec<_> = names.iter().map(|p| (p.as_str(), Tier::ALL[rng.random_range(0..3)])).collect();
            shop.push_as(generation.fetch_add(1, Ordering::SeqCst) + 1, &tiers).await;
        }
    };
    let (sums, ()) = tokio::join!(selling, moving);
    for sold in sums {
        tally.sold.units += sold.units;
        tally.sold.orders += sold.orders;
        tally.sold.calls += sold.calls;
    }
    shop.generation = generation.load(Ordering::SeqCst);
    shop.plan(&names.iter().map(|p| (p.as_str(), Tier::Db)).collect::<Vec<_>>()).await;
    tally.sell_outs += count as u64;
    tally.answers += shop.clients.journal.len() as u64;
    tally.moves += shop.moves_made();
    let report = shop.close().await;
    assert_eq!(report.oversold, 0);
    tally.took += started.elapsed();
}

/// So many at places of this kind.
async fn at_places(kind: Kind, count: usize, seed: u64) -> Tally {
    let mut tally = Tally::default();
    let mut rng = StdRng::seed_from_u64(seed);
    let mut left = count;
    while left > 0 {
        let here = left.min(PER_SHOP);
        let seed = rng.random();
        println!("{kind:?}: {here} sell-outs, seed {seed}");
        in_one_shop(kind, here, seed, &mut tally).await;
        left -= here;
    }
    println!("{kind:?}: {tally:?}, oversold 0");
    tally
}

fn seed() -> u64 {
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random);
    println!("SEED={seed}");
    seed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_on_embedded_parts() {
    at_places(Kind::ALL[0], 100, seed()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dozen_on_real_servers() {
    at_places(Kind::ALL[7], 12, seed()).await;
}

/// The long run: `SELL_OUTS` of them (1,000 unless told otherwise), shared among the combinations.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes long; script/test --sell-outs 1000"]
async fn on_every_combination() {
    let count: usize = std::env::var("SELL_OUTS").map_or(1_000, |n| n.parse().expect("SELL_OUTS is a number"));
    let places = std::env::var("PLACES").unwrap_or_else(|_| "0-7".into());
    let (first, last) = places.split_once('-').expect("PLACES is m-n");
    let kinds = &Kind::ALL[first.parse().expect("a number")..=last.parse().expect("a number")];
    let mut rng = StdRng::seed_from_u64(seed());
    let mut sum = Tally::default();
    for (n, kind) in kinds.iter().copied().enumerate() {
        let here = count / kinds.len() + usize::from(n < count % kinds.len());
        let tally = at_places(kind, here, rng.random()).await;
        sum.sell_outs += tally.sell_outs;
        sum.sold.units += tally.sold.units;
        sum.sold.orders += tally.sold.orders;
        sum.sold.calls += tally.sold.calls;
        sum.answers += tally.answers;
        sum.moves += tally.moves;
        sum.took += tally.took;
    }
    println!("in all: {sum:?}, oversold 0");
}
