//! How fast the engine counts, and what a tick costs, at several sizes of catalogue:
//! `cargo run --release -p analyzer --example engine_rate`. It prints figures and checks nothing.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::time::Instant;

use analyzer::engine::{Engine, Rules};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use types::{EventKind, Timestamp};

/// Events of one second of event time.
const PER_SECOND: usize = 20_000;
/// Seconds of event time: the window is full after sixty.
const SECONDS: usize = 120;
/// A fixed seed, so that runs can be compared.
const SEED: u64 = 7;

fn main() {
    println!("pages     events/s (live)  events/s (top)  lines p50/max us  list p50/max us  rebuilds");
    for pages in [10_000u32, 100_000, 1_000_000] {
        let mut random = ChaCha8Rng::seed_from_u64(SEED);
        let names: Vec<String> = (0..pages).map(|n| n.to_string()).collect();
        // Inverse-power sampling, close to Zipf with exponent 1.
        let draw = |r: &mut ChaCha8Rng| (f64::from(pages).powf(r.random::<f64>()) as u32).min(pages - 1);
        let stream: Vec<(u32, u64)> = (0..PER_SECOND * SECONDS).map(|_| (draw(&mut random), random.random())).collect();
        let mut figures = Vec::new();
        for live in [true, false] {
            let rules = Rules {
                window: 60,
                slide: 1,
                weights: [1, 3, 5],
                cap: if live { 2 } else { 0 },
                hot_floor_milli: 200,
                warm_floor_milli: 50,
                max_pages: 10_000_000,
                spread: 10,
                live,
                skip_empty_after: None,
            };
            let mut engine = Engine::new(rules);
            let (mut counting, mut ranking) = (0.0, Vec::new());
            for (second, events) in stream.chunks(PER_SECOND).enumerate() {
                let start = Instant::now();
                let at = Timestamp::from_seconds(second as i64);
                for (page, visitor) in events {
                    engine.push(&names[*page as usize], EventKind::View, *visitor, at);
                }
                engine.seal(Timestamp::from_seconds(second as i64 - 2), drop);
                counting += start.elapsed().as_secs_f64();
                if live {
                    let start = Instant::now();
                    engine.lines(at);
                    let lines = start.elapsed().as_micros();
                    let start = Instant::now();
                    engine.rank(at, 10_000);
                    ranking.push((lines, start.elapsed().as_micros()));
                }
            }
            figures.push((stream.len() as f64 / counting, ranking, engine.rebuilds()));
        }
        let mut lines: Vec<u128> = figures[0].1.iter().map(|r| r.0).collect();
        let mut lists: Vec<u128> = figures[0].1.iter().map(|r| r.1).collect();
        lines.sort_unstable();
        lists.sort_unstable();
        let of = |v: &[u128]| format!("{}/{}", v[v.len() / 2], v[v.len() - 1]);
        println!(
            "{pages:<9} {:>14.0} {:>15.0} {:>20} {:>16} {:>9}",
            figures[0].0,
            figures[1].0,
            of(&lines),
            of(&lists),
            figures[0].2
        );
    }
}
