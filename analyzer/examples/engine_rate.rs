//! How fast one shard's engine counts, at several sizes of catalogue, with visitors and without:
//! `cargo run --release -p analyzer --no-default-features --example engine_rate [PAGES…]`. It prints and checks nothing;
//! `script/bench heat` is what is held to bars.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::time::Instant;

use analyzer::engine::{Engine, Rules};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use types::{EventKind, PageId};

/// Events of one second of event time, in batches.
const PER_SECOND: usize = 100_000;
const BATCH: usize = 20_000;
/// Seconds of event time: the window is full after sixty.
const SECONDS: usize = 80;

fn main() {
    let wanted: Vec<u32> = std::env::args().skip(1).map(|n| n.parse().unwrap()).collect();
    for pages in if wanted.is_empty() { vec![10_000, 1_000_000] } else { wanted } {
        let mut random = ChaCha8Rng::seed_from_u64(7);
        let names: Vec<PageId> = (0..pages).map(|n| PageId::new(n.to_string()).unwrap()).collect();
        let draw = |r: &mut ChaCha8Rng| (f64::from(pages).powf(r.random::<f64>()) as u32).min(pages - 1);
        for live in [true, false] {
            let rules = Rules {
                window: 60,
                slide: 1,
                weights: [1, 3, 5],
                cap: if live { 2 } else { 0 },
                hot_floor_milli: 200,
                warm_floor_milli: 50,
                max_pages: 20_000_000,
                spread: 10,
                live,
            };
            let mut engine = Engine::new(rules);
            let (mut seconds, mut events, mut ids) = (0.0, 0usize, Vec::new());
            for second in 0..SECONDS as i64 {
                for _ in 0..PER_SECOND / BATCH {
                    let drawn: Vec<u32> = (0..BATCH).map(|_| draw(&mut random)).collect();
                    let mut unique = drawn.clone();
                    unique.sort_unstable();
                    unique.dedup();
                    let dictionary: Vec<PageId> = unique.iter().map(|n| names[*n as usize].clone()).collect();
                    let numbers: Vec<(u32, u64)> =
                        drawn.iter().map(|n| (unique.binary_search(n).unwrap() as u32, random.random())).collect();
                    let start = Instant::now();
                    engine.pin(&dictionary, &mut ids);
                    for (page, visitor) in &numbers {
                        engine.push_id(ids[*page as usize], EventKind::View, *visitor, second);
                    }
                    engine.unpin(&ids);
                    seconds += start.elapsed().as_secs_f64();
                    events += BATCH;
                }
                let start = Instant::now();
                for end in engine.settled_to().unwrap_or(0)..(second - 2).max(0) {
                    engine.settle(end + 1);
                }
                seconds += start.elapsed().as_secs_f64();
            }
            println!("{pages} pages, live {live}: {:.2} M events/s", events as f64 / seconds / 1e6);
        }
    }
}
