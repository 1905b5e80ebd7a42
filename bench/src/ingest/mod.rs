//! Area `ingest`: lines of a real log, as Filebeat writes them, to product events in Arrow columns, on one core.
//! Beside it, on the same files in the same run: DuckDB, Polars and chDB doing the same work.

mod input;
pub(crate) mod ours;
mod peers;
mod service;

use anyhow::ensure;

use crate::area::{Area, Settings};
use crate::figure::{Bar, Figure, median};
use crate::machine;
use input::Input;
use ours::{Depth, run};
use peers::Peer;
use service::Way;

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
        "Filebeat's records to product events in Arrow columns, on one core, beside DuckDB, Polars, chDB"
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
    let peers = settings.python.as_deref().map(peers::installed).unwrap_or_default();
    let lines = input.lines as f64;
    settings.say(&format!("input: {} lines made from {}", input.lines, input.origin));

    // First that all say the same: every view of every page, bots and all, counted by each.
    let ours = ours::raw_views(&input.whole)?;
    let (pages, views) = (ours.len() as u64, ours.values().sum::<u64>());
    for peer in &peers {
        let theirs = peer.run(&input.whole, "raw")?;
        ensure!(
            (theirs.pages, theirs.views) == (pages, views),
            "{} counts {} views of {} pages, we {views} of {pages}",
            peer.name,
            theirs.views,
            theirs.pages,
        );
        settings.say(&format!("{} and we count {views} views of {pages} pages", peer.name));
    }

    let mut seconds: Vec<(Depth, Vec<f64>)> = Depth::ALL.iter().map(|depth| (*depth, Vec::new())).collect();
    let (mut lean, mut plain) = (Vec::new(), Vec::new());
    let mut theirs: Vec<Theirs<'_>> = peers.iter().map(Theirs::new).collect();
    let (mut bytes, mut lean_bytes, mut plain_bytes) = (0, 0, 0);
    let (mut served, mut served_plain, mut shipped) = (Vec::new(), Vec::new(), Vec::new());
    // The log in memory holds every record: fewer of them.
    let topic = input::make(settings, QUICK_LINES)?;
    let topic_lines = topic.lines as f64;
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
        served.push(lines / service::run(settings, &input.whole, input.lines, Way::File)?.seconds);
        served_plain.push(lines / service::run(settings, &input.plain, input.lines, Way::File)?.seconds);
        shipped.push(topic_lines / service::run(settings, &topic.whole, topic.lines, Way::Topic)?.seconds);
        for theirs in &mut theirs {
            theirs.whole.push(lines / theirs.peer.run(&input.whole, "views")?.seconds);
            // Only who has a bar runs on both files: the whole run shall stay within four minutes.
            if theirs.peer.bar.is_some() {
                theirs.lean.push(lines / theirs.peer.run(&input.lean, "views")?.seconds);
            }
        }
    }

    let of = |depth: Depth| seconds.iter().find(|(d, _)| *d == depth).map(|(_, times)| times.as_slice());
    let of = |depth| of(depth).unwrap_or_default();
    let rates = |times: &[f64]| times.iter().map(|seconds| lines / seconds).collect::<Vec<_>>();
    let per_line = |total: u64| total as f64 / lines;
    let name = |what: &str, total: u64| format!("{what}, {:.0} B a line", per_line(total));
    let whole = rates(of(Depth::Encode));
    let lean_name = name("Filebeat 8 without agent and ecs", lean_bytes);
    let mut figures = vec![
        Figure::new(name("Filebeat 8 as it comes", bytes), "lines/s", whole.clone()).bar(Bar::AtLeast(1_500_000.0)),
    ];
    figures.extend(theirs.iter().map(|theirs| theirs.beside("as it comes", &whole, &theirs.whole)));
    figures.push(Figure::new(lean_name, "lines/s", lean.clone()).bar(Bar::AtLeast(1_500_000.0)));
    let with_lean = theirs.iter().filter(|theirs| !theirs.lean.is_empty());
    figures.extend(with_lean.map(|theirs| theirs.beside("without agent and ecs", &lean, &theirs.lean)));
    figures.push(Figure::new(name("plain combined lines", plain_bytes), "lines/s", plain));
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
    figures.push(Figure::new("service: topic of records to the memory log", "lines/s", shipped));
    // How far from the memory: the same bytes only looked at once for their line ends.
    let speed = |times: &[f64]| times.iter().map(|seconds| bytes as f64 / seconds / 1e9).collect::<Vec<_>>();
    figures.push(
        Figure::new("bytes through the whole way", "GB/s", speed(of(Depth::Encode)))
            .against("the same, read and cut into lines", speed(of(Depth::Cut))),
    );
    settings.say(&format!("median round: {:.2} s", median(of(Depth::Encode))));
    Ok(figures)
}

/// A peer's rounds.
struct Theirs<'a> {
    peer: &'a Peer,
    /// Lines a second of the file as it comes.
    whole: Vec<f64>,
    /// The same of the file without `agent` and `ecs`.
    lean: Vec<f64>,
}

impl<'a> Theirs<'a> {
    fn new(peer: &'a Peer) -> Self {
        Self { peer, whole: Vec::new(), lean: Vec::new() }
    }
    /// Our rate beside his on the same file.
    fn beside(&self, file: &str, ours: &[f64], theirs: &[f64]) -> Figure {
        let name = format!("  {file}, beside {}", self.peer.called);
        let figure = Figure::new(name, "lines/s", ours.to_vec()).against(self.peer.name.clone(), theirs.to_vec());
        match self.peer.bar {
            Some(bar) => figure.bar(Bar::RatioAtLeast(bar)),
            None => figure,
        }
    }
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
