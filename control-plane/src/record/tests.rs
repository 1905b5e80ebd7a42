//! What was recorded is what is read, and a replay under the same policy makes the same moves.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::fixtures::{core_state, entry, product, report, seconds, sku};
use crate::observe::{CoreSeen, HeatView};
use crate::planner::{Due, PlanInput, plan};

/// Plans a small sale as the owner does, records it, and answers the file with the moves that were made.
fn recorded(folder: &Path, policy: &Policy) -> (PathBuf, Vec<(Sku, Tier, Tier)>) {
    let mut now = seconds(60);
    let mut recorder = Recorder::begin(folder, now, policy).unwrap();
    let names = ["a", "b"];
    let mut states: Vec<_> = names.iter().map(|n| product(n, Tier::Db)).collect();
    let mut heat = HeatView::new(now);
    let (mut last, mut moves) = (Decisions::default(), Vec::new());
    let mut desk = crate::desk::Desk::new(now);
    let overrides = std::collections::BTreeMap::new();
    for tick in 0..400u64 {
        let entries = match tick {
            0..40 => vec![],
            40..120 => vec![entry("a", 150, 900, 80, 400.0), entry("elsewhere", 9, 9, 9, 0.0)],
            120..200 => vec![entry("a", 30, 200, 20, 5.0), entry("b", 30, 200, 20, 1.0)],
            _ => vec![],
        };
        let mut heard = report(tick + 1, now, entries);
        heard.snapshot = true;
        let cores = [CoreSeen { state: Some(Arc::new(core_state("core", states.clone()))), at: now }];
        desk.prepare(&cores, now, policy.core_silence, false);
        recorder.report(now, &heard, &desk.products);
        desk.reported(&heard);
        heat.apply(b"0", heard, now);
        let out = plan(&PlanInput {
            now,
            policy,
            last: &last,
            heat: &heat,
            overrides: &overrides,
            products: &desk.products,
            moves_left: policy.moves_per_tick,
            due: Due::All,
        });
        recorder.plan(now, &last, &out, &desk.products);
        moves.extend(out.moves.iter().map(|m| (m.product.clone(), m.from, m.to)));
        last = out.applied_to(&last);
        for state in &mut states {
            state.tier = last[&state.product].tier;
            state.sellable = state.sellable.saturating_sub(u64::from(state.tier > Tier::Db));
        }
        now = now.plus(Duration::from_millis(250));
    }
    drop(recorder);
    let path = folder.join(format!("sale-{}.arrows", seconds(60).millis()));
    // The writing thread ends by itself; the file has its end when it is there.
    for _ in 0..3_000 {
        if read::read(&path).is_ok_and(|(_, whole)| whole) {
            return (path, moves);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("the record was not finished within 30 s");
}

#[test]
fn a_sale_is_replayed_as_it_was_and_tried_under_another_policy() {
    let folder = tempfile::tempdir().unwrap();
    let policy = Policy::default();
    let (path, moves) = recorded(folder.path(), &policy);
    let (rows, whole) = read::read(&path).unwrap();
    assert!(whole);
    assert_eq!(replay::recorded_policy(&rows).unwrap(), policy);
    let told = rows.iter().filter(|row| row.kind == Kind::Move).count();
    assert_eq!(told, moves.len());
    assert!(rows.iter().all(|row| row.product.as_ref().is_none_or(|p| *p == sku("a") || *p == sku("b"))));

    let same = replay::replay(&rows, &policy).unwrap();
    assert_eq!(same, replay::replay(&rows, &policy).unwrap(), "the same record and policy give the same answer");
    let again: Vec<_> = same.moves.iter().map(|m| (m.product.clone(), m.from, m.to)).collect();
    assert_eq!(again, moves, "the moves that were made");
    assert_eq!(same.reactions_ms.len(), 1, "one product became hot");

    let slow = Policy { promote_ticks: 20, ..policy };
    let slower = replay::replay(&rows, &slow).unwrap();
    assert!(slower.longest_reaction_ms() > same.longest_reaction_ms(), "{slower:?}");
    assert!(slower.attempts[0] > same.attempts[0], "more attempts meet SQL");
    assert_eq!(slower.attempts.iter().sum::<u64>(), same.attempts.iter().sum::<u64>(), "shoppers are the same");
}

#[test]
fn a_record_that_was_cut_off_is_read_as_far_as_it_goes_and_another_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = recorded(folder.path(), &Policy::default());
    let bytes = std::fs::read(&path).unwrap();
    let all = read::read(&path).unwrap().0.len();
    let cut = folder.path().join("cut.arrows");
    std::fs::write(&cut, &bytes[..bytes.len() - 100]).unwrap();
    let (rows, whole) = read::read(&cut).unwrap();
    assert!(!whole && rows.len() <= all);
    std::fs::write(&cut, b"PAR1 is another format").unwrap();
    assert!(read::read(&cut).is_err());
    assert!(matches!(replay::replay(&[], &Policy::default()), Err(replay::ReplayError::NoPolicy)));
}
