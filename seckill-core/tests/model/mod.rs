//! The stock protocol under an exhaustive checker. Small bounds, every interleaving, and every decision taken by the
//! functions that run in production. Then each rule is taken out once, and the checker must notice.
#![allow(clippy::print_stdout)]

mod adjust;
mod around;
mod books;
mod clients;
mod configs;
mod consumers;
mod equal;
mod invariants;
mod movers;
mod mutant;
mod search;
mod state;
mod top_up;
mod world;

use std::sync::Mutex;

use configs::{Expected, bases, mutants, wide};
use search::explore;
use state::{Config, Label};

/// Runs every configuration on two threads; the answers keep their order.
fn run<T: Send>(all: Vec<Config>, look: impl Fn(&Config) -> T + Sync) -> Vec<(Config, T)> {
    let jobs = Mutex::new(all.into_iter().enumerate().collect::<Vec<_>>());
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some((n, config)) = jobs.lock().expect("no panic").pop() else { return };
                    let found = look(&config);
                    done.lock().expect("no panic").push((n, config, found));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no panic");
    done.sort_by_key(|(n, _, _)| *n);
    done.into_iter().map(|(_, config, found)| (config, found)).collect()
}

#[test]
fn the_protocol_keeps_its_promise_in_every_state() {
    all_sound(bases());
}

/// Minutes and gigabytes: `cargo test -p seckill-core --lib --release model:: -- --ignored --nocapture`.
#[test]
#[ignore = "a long run by hand; docs/evidence keeps its result"]
fn the_protocol_keeps_its_promise_in_wider_bounds() {
    all_sound(wide());
}

fn all_sound(configs: Vec<Config>) {
    let mut bad = Vec::new();
    let (mut states, mut steps) = (0, 0);
    println!("{:<44} {:>9} {:>10} {:>6} {:>8}", "configuration", "states", "steps", "rests", "seconds");
    for (config, found) in run(configs, explore) {
        let seconds = found.took.as_secs_f64();
        println!("{:<44} {:>9} {:>10} {:>6} {seconds:>8.2}", config.name, found.states, found.steps, found.rests);
        states += found.states;
        steps += found.steps;
        if let Some((what, trace)) = found.violation {
            bad.push(format!("{}: {what}\n{}", config.name, story(&trace)));
        }
    }
    println!("{:<44} {states:>9} {steps:>10}", "all, explored completely");
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

#[test]
fn every_missing_rule_is_noticed() {
    let all = mutants();
    let configs = all.iter().map(|(config, _)| config.clone()).collect();
    let mut bad = Vec::new();
    println!("{:<34} {:<28} {:>9} {:>6}  killed by", "mutant", "configuration", "states", "trace");
    for ((config, found), (_, expected)) in run(configs, explore).into_iter().zip(all) {
        let (name, what) = (format!("{:?}", config.mutant), found.violation.as_ref().map(|(what, _)| what.as_str()));
        let trace = found.violation.as_ref().map_or(0, |(_, trace)| trace.len());
        println!("{name:<34} {:<28} {:>9} {trace:>6}  {}", config.name, found.states, what.unwrap_or("-"));
        if std::env::var_os("TRACES").is_some()
            && let Some((_, trace)) = &found.violation
        {
            println!("{}", story(trace));
        }
        match (expected, what) {
            (Expected::Killed, None) => bad.push(format!("{name} survives {}", config.name)),
            (Expected::Harmless, Some(what)) => bad.push(format!("{name} was said to be harmless: {what}")),
            _ => {}
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

fn story(trace: &[Label]) -> String {
    trace.iter().map(|(what, a, b)| format!("      > {what} [{a}, {b}]\n")).collect()
}
