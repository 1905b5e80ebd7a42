//! Shoppers who lose their connections again and again, at any moment, and come back with their cursor, here or at the
//! other core: each sees every step of his orders once and in order, while he and others buy and cancel.
//!
//! `LIVE_RECONNECTS=10000 LIVE_SEED=n cargo test --release -p seckill-core --test live reconnects -- --nocapture` is
//! the long form.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::house::{House, PATIENCE, Seen};

/// Reconnects of the short form.
const SHORT: usize = 300;
/// Shoppers at once.
const SHOPPERS: usize = 12;

fn told<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// What a shopper has seen of each order: its states, in order.
type Story = BTreeMap<String, Vec<String>>;

/// One shopper: reconnects so often, and answers what he has seen and what he knows to have happened.
async fn shopper(house: &House, n: usize, reconnects: usize, seed: u64) -> (Story, Story) {
    let mut chance = ChaCha8Rng::seed_from_u64(seed ^ (n as u64) << 32);
    let buyer = format!("b{n}");
    let (mut seen, mut happened) = (Story::new(), Story::new());
    let mut cursor = None;
    let mut open: Vec<String> = Vec::new();
    for round in 0..=reconnects {
        let mut socket = house.connect(chance.random_range(0..house.cores.len()), &buyer, cursor).await;
        let hello = socket.expect("hello").await;
        let expected = if round == 0 { "new" } else { "resumed" };
        assert_eq!(hello["begin"], expected, "{buyer}, round {round}");
        if round == 0 {
            socket.expect("snapshot").await;
        }
        // He does something now and then, at either core.
        if chance.random_bool(0.5) {
            let at = chance.random_range(0..house.cores.len());
            if open.is_empty() || chance.random_bool(0.6) {
                let order = house.buy(at, &buyer).await;
                happened.insert(order.clone(), vec!["accepted".to_owned()]);
                open.push(order);
            } else {
                let order = open.swap_remove(chance.random_range(0..open.len()));
                house.cancel(at, &buyer, &order).await;
                happened.get_mut(&order).unwrap().push("cancelled".to_owned());
            }
        }
        // And listens for a while; the last time until he has seen all.
        let (last, begun) = (round == reconnects, Instant::now());
        let patience = Duration::from_millis(chance.random_range(0..40));
        loop {
            if last && seen == happened {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "{buyer} has missed something: {seen:?} of {happened:?}");
            let left = if last { PATIENCE } else { patience.saturating_sub(begun.elapsed()) };
            match tokio::time::timeout(left, socket.next()).await {
                Err(_) => break,
                Ok(Seen::Message(said)) if said["type"] == "order" => {
                    let field = |name: &str| said[name].as_str().unwrap().to_owned();
                    seen.entry(field("order")).or_default().push(field("state"));
                }
                Ok(Seen::Message(_)) => {}
                Ok(Seen::Closed(why)) => panic!("{buyer}: closed: {why:?}"),
            }
        }
        cursor = socket.cursor;
        // Cut, not closed: whatever was on its way is lost.
        drop(socket);
    }
    (seen, happened)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_step_is_missed_or_told_twice_however_often_connections_are_lost() {
    let seed = told("LIVE_SEED").unwrap_or(20_261_130);
    let reconnects: usize = told("LIVE_RECONNECTS").unwrap_or(SHORT);
    println!("seed {seed}, {reconnects} reconnects of {SHOPPERS} shoppers");
    let house = House::open(2).await;
    house.sell(1_000_000).await;
    let each = reconnects.div_ceil(SHOPPERS);
    let all = futures::future::join_all((0..SHOPPERS).map(|n| shopper(&house, n, each, seed))).await;
    let mut steps = 0;
    for (n, (seen, happened)) in all.into_iter().enumerate() {
        assert_eq!(seen, happened, "shopper {n}");
        steps += seen.values().map(Vec::len).sum::<usize>();
    }
    println!("{} reconnects, {steps} steps, none missed, none twice", each * SHOPPERS);
    assert!(steps > SHOPPERS, "something happened");
}
