//! The whole of the stock protocol in virtual time: real cores over bad lines, thousands of seeds. A failing seed is
//! printed; `SIM_SEED=… cargo test -p seckill-core --lib sim:: -- --nocapture` replays it and tells its story.
#![allow(clippy::print_stdout)]

mod fate;
mod kill_points;
mod mutant;
mod naive;
mod ports;
mod shoppers;
mod walk;
mod witness;
mod world;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use mutant::Mutant;
use parking_lot::Mutex;
use world::{Ended, run};

/// Seeds of a test run; `SIM_SEEDS` asks for more.
const SEEDS: u64 = 3_000;
/// Seeds within which every mutant must be noticed.
const SEEDS_PER_MUTANT: u64 = 1_500;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|n| n.parse().ok())
}

/// Runs seeds on two threads; stops at the first that breaks something.
fn sweep(
    seeds: std::ops::Range<u64>,
    mutant: Mutant,
    mut each: impl FnMut(u64, Ended) + Send,
) -> Option<(u64, Vec<String>)> {
    let folder = tempfile::tempdir().expect("a folder");
    let (next, found) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let failed: Mutex<Option<(u64, Vec<String>)>> = Mutex::new(None);
    let each = Mutex::new(&mut each);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let folder = folder.path().join(thread.to_string());
            std::fs::create_dir(&folder).expect("a folder");
            let (next, found, failed, each, end) = (&next, &found, &failed, &each, seeds.end);
            scope.spawn(move || {
                while !found.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let ended = run(seed, mutant, false, &folder);
                    if ended.broken.is_empty() {
                        each.lock()(seed, ended);
                        continue;
                    }
                    found.store(true, Ordering::Relaxed);
                    let mut first = failed.lock();
                    if first.as_ref().is_none_or(|(other, _)| seed < *other) {
                        *first = Some((seed, ended.broken));
                    }
                }
            });
        }
    });
    failed.into_inner()
}

#[test]
fn the_promise_is_kept_in_any_weather() {
    if let Some(seed) = number("SIM_SEED") {
        let folder = tempfile::tempdir().expect("a folder");
        let ended = run(seed, Mutant::None, true, folder.path());
        assert!(ended.broken.is_empty(), "SIM_SEED={seed}: {:#?}", ended.broken);
        return;
    }
    let (first, seeds) = (number("SIM_FIRST").unwrap_or(1), number("SIM_SEEDS").unwrap_or(SEEDS));
    let begun = Instant::now();
    let (mut orders, mut late, mut moves, mut deaths, mut top_ups, mut adjusted) = ([0; 3], 0, 0, 0, 0, 0);
    let failed = sweep(first..first + seeds, Mutant::None, |_, ended| {
        for (sum, n) in orders.iter_mut().zip(ended.orders) {
            *sum += n;
        }
        late += ended.late;
        moves += ended.moves;
        deaths += ended.deaths;
        top_ups += ended.top_ups;
        adjusted += ended.adjustments;
    });
    println!(
        "{seeds} seeds from {first}: orders by db, redis, queue {orders:?}, {late} tickets ended by their deadline, \
         {moves} moves, {top_ups} top-ups, {adjusted} adjustments, {deaths} deaths of cores in {:.1} s ({:.0} seeds/s)",
        begun.elapsed().as_secs_f64(),
        seeds as f64 / begun.elapsed().as_secs_f64()
    );
    if let Some((seed, broken)) = failed {
        panic!("SIM_SEED={seed} replays this:\n{}", broken.join("\n"));
    }
}

#[test]
fn a_seed_replays() {
    let folder = tempfile::tempdir().expect("a folder");
    for seed in 1..=60 {
        let [one, two] = [(); 2].map(|()| run(seed, Mutant::None, false, folder.path()).trace);
        assert_eq!(one, two, "seed {seed}");
    }
}

#[test]
fn every_missing_rule_is_noticed() {
    let mut survivors = Vec::new();
    println!("{:<30} {:>6} {:>8}  killed by", "mutant", "seed", "seconds");
    for mutant in Mutant::ALL {
        let begun = Instant::now();
        let failed = sweep(1..1 + SEEDS_PER_MUTANT, mutant, |_, _| {});
        let seconds = begun.elapsed().as_secs_f64();
        match failed {
            Some((seed, broken)) => {
                let what: String = broken.first().map_or("", |b| b).chars().take(100).collect();
                println!("{:<30} {seed:>6} {seconds:>8.1}  {what}", format!("{mutant:?}"));
            }
            None => survivors.push(mutant),
        }
    }
    assert!(survivors.is_empty(), "not noticed within {SEEDS_PER_MUTANT} seeds: {survivors:?}");
}
