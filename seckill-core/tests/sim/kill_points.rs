//! Three cores on one store, one lease store and one log; the first dies on either side of every one of its effects,
//! and the others finish what it has left.

use std::collections::{BTreeMap, BTreeSet};

use super::fate::Place;
use super::mutant::Mutant;
use super::world::{Setting, run_set};

/// Steps of the first core at which it dies, one run each.
const STEPS: u64 = 90;
/// Runs of each, with other moves and shoppers.
const SEEDS: u64 = 12;
/// What a move and a top-up consist of: each must have been met, before and after its effect.
const MUST_DIE_IN: [&str; 12] = [
    "switch",
    "open lease",
    "mark loaded",
    "load",
    "fence",
    "close",
    "append grants",
    "settle",
    "open",
    "append state",
    "top-up in SQL",
    "top-up in Redis",
];

#[test]
fn a_core_may_die_at_any_step_of_a_move() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut met: BTreeMap<Place, u64> = BTreeMap::new();
    let mut moves = 0;
    for seed in 1..=SEEDS {
        for step in 0..STEPS {
            let setting = Setting { mutant: Mutant::None, loud: false, dies_at: Some(step) };
            let ended = run_set(seed, setting, folder.path());
            assert!(ended.broken.is_empty(), "seed {seed}, dead at step {step} {:?}: {:#?}", ended.died, ended.broken);
            moves += ended.moves;
            if let Some(place) = ended.died {
                *met.entry(place).or_default() += 1;
            }
        }
    }
    let deaths: u64 = met.values().sum();
    println!("{deaths} deaths of one of three cores, {moves} moves; died in, before and after the effect:");
    for call in met.keys().map(|(call, _)| *call).collect::<BTreeSet<_>>() {
        let of = |done| met.get(&(call, done)).copied().unwrap_or(0);
        println!("{call:<16} {:>5} {:>5}", of(false), of(true));
    }
    for call in MUST_DIE_IN {
        assert!([false, true].iter().all(|done| met.contains_key(&(call, *done))), "nobody died at: {call}");
    }
}
