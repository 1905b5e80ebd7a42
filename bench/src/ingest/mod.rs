//! Area `ingest`: lines of a real log, as Filebeat writes them, to product events in Arrow columns, on one core.
//! Beside it, on the same files in the same run: DuckDB doing the same work.

mod input;
mod ours;
mod peers;
mod service;

use anyhow::ensure;

use crate::area::{Area, Settings};
use crate::figure::{Bar, Figure, median};
use crate::machine;
use input::Input;
use ours::{Depth, run};
use peers::DuckDb;

/// Lines of the comparison, whole and quick.
const LINES: u64 = 2_000_000;
const QUICK_LINES: u64 = 400_000;
/// Rounds, whole and quick; each contestant runs once in each.
const ROUNDS: usize = 5;
const QUICK_ROUNDS: usize = 3;

/// Bytes of a MiB.
const MIB: f64 = 1024.0 * 1024.0;

/// The area.
pub struct Ingest;

impl Area for Ingest {
    fn name(&self) -> &'static str {
        "ingest"
    }
    fn about(&self) -> &'static str {
        "Filebeat's records to product events in Arrow columns, on one core, beside DuckDB"
    }
    fn run(&self, settings: &Settings) -> anyhow::Result<Vec<Figure>> {
        let lines = if settings.quick { QUICK_LINES } else { LINES };
        let input = input::make(settings, lines)?;
        match settings.lines {
            Some(lines) => memory(settings, &input, lines),
            None => compare(settings, &input),
        }
    }
}

fn compare(settings: &Settings, input: &Input) -> anyhow::Result<Vec<Figure>> {
    let rounds = if settings.quick { QUICK_ROUNDS } else { ROUNDS };
    let duckdb = settings.python.as_ref().map(|python| DuckDb::new(python.clone()));
    let lines = input.lines as f64;
    settings.say(&format!("input: {} lines made from {}", input.lines, input.origin));

    // First that both say the same: every view of every page, bots and all, counted by both.
    let ours = ours::raw_views(&input.whole)?;
    if let Some(duckdb) = &duckdb {
        let theirs = duckdb.run(&input.whole, "raw")?;
        ensure!(
            (theirs.pages, theirs.views) == (ours.len() as u64, ours.values().sum::<u64>()),
            "DuckDB counts {} views of {} pages, we {} of {}",
            theirs.views,
            theirs.pages,
            ours.values().sum::<u64>(),
            ours.len()
        );
        settings.say(&format!("both count {} views of {} pages", theirs.views, theirs.pages));
    }

    let mut seconds: Vec<(Depth, Vec<f64>)> = Depth::ALL.iter().map(|depth| (*depth, Vec::new())).collect();
    let (mut lean, mut plain, mut peer, mut lean_peer) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut bytes, mut lean_bytes, mut plain_bytes) = (0, 0, 0);
    let (mut served, mut served_plain) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        settings.say(&format!("round {} of {rounds}", round + 1));
        for (depth, times) in &mut seconds {
            let done = run(&input.whole, *depth)?;
            bytes = done.bytes;
            times.push(done.seconds);
        }
        let done = run(&input.lean, Depth::Encode)?;
        lean_bytes = done.bytes;
        lean.push(lines / done.seconds);
        let done = run(&input.plain, Depth::Encode)?;
        plain_bytes = done.bytes;
        plain.push(lines / done.seconds);
        served.push(lines / service::run(settings, &input.whole, input.lines)?.seconds);
        served_plain.push(lines / service::run(settings, &input.plain, input.lines)?.seconds);
        if let Some(duckdb) = &duckdb {
            peer.push(lines / duckdb.run(&input.whole, "views")?.seconds);
            lean_peer.push(lines / duckdb.run(&input.lean, "views")?.seconds);
        }
    }

    let of = |depth: Depth| seconds.iter().find(|(d, _)| *d == depth).map(|(_, times)| times.as_slice());
    let of = |depth| of(depth).unwrap_or_default();
    let rates = |times: &[f64]| times.iter().map(|seconds| lines / seconds).collect::<Vec<_>>();
    let per_line = |total: u64| total as f64 / lines;
    let name = |what: &str, total: u64| format!("{what}, {:.0} B a line", per_line(total));
    let version = duckdb.as_ref().map_or_else(String::new, DuckDb::name);
    let beside = |figure: Figure, peer: &[f64]| match peer {
        [] => figure,
        peer => figure.against(version.clone(), peer.to_vec()),
    };

    let whole = rates(of(Depth::Encode));
    let lean_name = name("Filebeat 8 without agent and ecs", lean_bytes);
    let mut figures = vec![
        Figure::new(name("Filebeat 8 as it comes", bytes), "lines/s", whole.clone()).bar(Bar::AtLeast(1_500_000.0)),
        beside(Figure::new("  the same beside DuckDB", "lines/s", whole.clone()), &peer).bar(Bar::RatioAtLeast(2.0)),
        Figure::new(lean_name, "lines/s", lean.clone()).bar(Bar::AtLeast(1_500_000.0)),
        beside(Figure::new("  the same beside DuckDB", "lines/s", lean), &lean_peer).bar(Bar::RatioAtLeast(2.0)),
        Figure::new(name("plain combined lines", plain_bytes), "lines/s", plain),
    ];
    let mut before: Option<&[f64]> = None;
    for depth in Depth::ALL {
        let times = of(depth);
        let shares = times.iter().enumerate().map(|(i, time)| (time - before.map_or(0.0, |b| b[i])) / lines * 1e9);
        figures.push(Figure::new(format!("  of which {}", depth.name()), "ns/line", shares.collect()));
        before = Some(times);
    }
    figures.push(
        Figure::new("service: file of records to the memory log", "lines/s", served)
            .against("the same without the service", whole),
    );
    figures.push(Figure::new("service: combined lines to the memory log", "lines/s", served_plain));
    // How far from the memory: the same bytes only looked at once for their line ends.
    let speed = |times: &[f64]| times.iter().map(|seconds| bytes as f64 / seconds / 1e9).collect::<Vec<_>>();
    figures.push(
        Figure::new("bytes through the whole way", "GB/s", speed(of(Depth::Encode)))
            .against("the same, read and cut into lines", speed(of(Depth::Cut))),
    );
    settings.say(&format!("median round: {:.2} s", median(of(Depth::Encode))));
    Ok(figures)
}

/// So many lines through the whole way in one process, and how much memory it holds meanwhile.
fn memory(settings: &Settings, input: &Input, lines: u64) -> anyhow::Result<Vec<Figure>> {
    let mut seen = Vec::new();
    let done = ours::stream(&input.whole, lines, |so_far| {
        seen.push(machine::resident("self") / MIB);
        settings.say(&format!("{so_far} lines: {:.1} MiB", seen.last().copied().unwrap_or(f64::NAN)));
    })?;
    let (start, middle, end) = (seen[0], seen[seen.len() / 2], seen[seen.len() - 1]);
    Ok(vec![
        Figure::new("lines", "lines", vec![lines as f64]),
        Figure::new("rate over all of them", "lines/s", vec![lines as f64 / done.seconds]),
        Figure::new("memory near the start", "MiB", vec![start]),
        Figure::new("memory in the middle", "MiB", vec![middle]),
        Figure::new("memory at the end", "MiB", vec![end]).bar(Bar::AtMost(start * 1.1 + 1.0)),
        Figure::new("highest of all looks", "MiB", vec![seen.iter().copied().fold(f64::MIN, f64::max)]),
    ])
}
