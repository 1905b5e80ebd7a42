//! A whole log through what `seckill top --raw --json` does, beside DuckDB answering the same question from the same
//! file: the top 1 % of the last minute, for every second.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use analyzer::engine::FinalWindow;
use analyzer::top::{Top, TopLine, TopOptions};
use anyhow::{Context, ensure};
use collector::{ClassifierOptions, Decoder, Reader};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use types::Timestamp;

use crate::area::Settings;
use crate::figure::{Bar, Figure};
use crate::ingest::ours::{cut, each_chunk};
use crate::machine;

/// Lines of the log, whole and quick.
const LINES: u64 = 2_000_000;
const QUICK_LINES: u64 = 400_000;
/// Lines of one second.
const RATE: u64 = 2_000;
const ROUNDS: usize = 5;
const QUICK_ROUNDS: usize = 2;
/// What DuckDB runs.
const SCRIPT: &str = include_str!("duckdb_top.py");

/// What somebody found: windows, hot pages of all windows together, and the sum of their counts.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
struct Found {
    windows: u64,
    hot: u64,
    counts: u64,
}

#[derive(Debug, Deserialize)]
struct Answer {
    seconds: f64,
    version: String,
    #[serde(flatten)]
    found: Found,
}

pub fn run(settings: &Settings) -> anyhow::Result<Vec<Figure>> {
    let lines = settings.lines.unwrap_or(if settings.quick { QUICK_LINES } else { LINES });
    let path = log(settings, lines)?;
    if settings.lines.is_some() {
        return memory(settings, &path, lines);
    }
    let rounds = if settings.quick { QUICK_ROUNDS } else { ROUNDS };
    let (mut ours, mut theirs, mut version) = (Vec::new(), Vec::new(), String::new());
    for round in 0..rounds {
        settings.say(&format!("whole file: round {} of {rounds}", round + 1));
        let (found, seconds) = top(&path, |_| {})?;
        ours.push(lines as f64 / seconds);
        if let Some(python) = &settings.python {
            let answer = duckdb(python, &path)?;
            ensure!(answer.found == found, "DuckDB finds {:?}, we find {found:?}", answer.found);
            theirs.push(lines as f64 / answer.seconds);
            version = answer.version;
        }
    }
    let bytes = fs::metadata(&path)?.len();
    let figure = Figure::new(format!("whole log through top, {} B a line", bytes / lines), "lines/s", ours);
    let figure = match theirs.as_slice() {
        [] => figure,
        theirs => figure.against(format!("DuckDB {version}, one thread"), theirs.to_vec()),
    };
    Ok(vec![figure.bar(Bar::RatioAtLeast(2.0))])
}

/// A long log once, and the memory meanwhile.
fn memory(settings: &Settings, path: &Path, lines: u64) -> anyhow::Result<Vec<Figure>> {
    let mut seen = Vec::new();
    let (_, seconds) = top(path, |through| {
        if through.is_multiple_of((lines / 100).max(1)) {
            seen.push(machine::resident("self") / 1_048_576.0);
        }
    })?;
    let bytes = fs::metadata(path)?.len() as f64;
    settings.say(&format!("{lines} lines, {:.2} GB", bytes / 1e9));
    let (early, end) = (seen[seen.len() / 10], seen[seen.len() - 1]);
    let most = seen.iter().copied().fold(f64::MIN, f64::max);
    Ok(vec![
        Figure::new(format!("top over {:.1} GB", bytes / 1e9), "lines/s", vec![lines as f64 / seconds]),
        Figure::new("memory after a tenth", "MiB", vec![early]),
        Figure::new("memory at the end", "MiB", vec![end]).bar(Bar::AtMost(early * 1.1 + 1.0)),
        Figure::new("highest of all looks", "MiB", vec![most]),
    ])
}

/// Reads, decodes, counts and renders every window, as the command does.
fn top(path: &Path, mut look: impl FnMut(u64)) -> anyhow::Result<(Found, f64)> {
    let mut top = Top::new(&TopOptions::raw())?;
    let mut reader = Reader::new(Arc::new(Decoder::new(ClassifierOptions::raw())?));
    let mut found = Found::default();
    let mut sink = std::io::sink();
    let mut see = |window: FinalWindow| {
        found.windows += 1;
        found.hot += window.hot.len() as u64;
        found.counts += window.hot.iter().map(|page| page.count).sum::<u64>();
        let _written = writeln!(sink, "{}", TopLine::from(window).render());
    };
    let (mut offset, mut through) = (0, 0);
    let begun = machine::computed();
    each_chunk(path, |chunk| {
        for (at, line) in cut(chunk, offset) {
            reader.line(line, at, |event| {
                top.push(event.page, event.kind, event.visitor, event.at, &mut see);
            });
            through += 1;
            look(through);
        }
        offset += chunk.len() as u64;
        Ok(())
    })?;
    let end = top.finish(&mut see);
    let seconds = (machine::computed() - begun).as_secs_f64();
    ensure!(end.late == 0, "{} lines are late", end.late);
    Ok((found, seconds))
}

fn duckdb(python: &Path, path: &Path) -> anyhow::Result<Answer> {
    let out = Command::new(python).arg("-c").arg(SCRIPT).arg(path).output();
    let out = out.with_context(|| format!("cannot start {}", python.display()))?;
    ensure!(out.status.success(), "DuckDB failed: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).context("DuckDB's answer cannot be read")
}

/// A log of a shop in Nginx's combined form: 70 % product views over 50,000 pages by popularity, the rest pictures,
/// redirects and what is missing. Made once and kept in the cache.
fn log(settings: &Settings, lines: u64) -> anyhow::Result<PathBuf> {
    let path = settings.cache.join(format!("heat-{lines}-{}.log", settings.seed));
    if path.exists() {
        return Ok(path);
    }
    settings.say(&format!("making {}", path.display()));
    let draft = path.with_extension("draft");
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&draft)?);
    let mut random = ChaCha8Rng::seed_from_u64(settings.seed);
    let start = Timestamp::from_seconds(1_794_355_200);
    for n in 0..lines {
        let second = start.second() + (n / RATE) as i64;
        let (hour, minute) = (second / 3600 % 24, second / 60 % 60);
        let day = 11 + (second - start.second()) / 86_400;
        let page = 50_000f64.powf(random.random::<f64>()) as u32;
        let (path, status) = match random.random_range(0..100) {
            0..60 => (format!("/product/{page}"), 200),
            60..70 => (format!("/m/product/{page}?from=mail"), 304),
            70..75 => (format!("/product/{page}"), 404),
            75..80 => (format!("/product/{page}"), 301),
            _ => (format!("/image/{page}/productModel/200x200"), 200),
        };
        writeln!(
            out,
            "10.{}.{}.{} - - [{day:02}/Nov/2026:{hour:02}:{minute:02}:{:02} +0000] \"GET {path} HTTP/1.1\" {status} {} \
             \"https://shop.example/list\" \"Mozilla/5.0 (Linux; Android 14) AppleWebKit/537.36 Chrome/126.0 Mobile \
             Safari/537.36\"",
            random.random_range(0..256),
            random.random_range(0..256),
            random.random_range(1..255),
            second % 60,
            random.random_range(300..90_000),
        )?;
    }
    out.into_inner()?.sync_all()?;
    fs::rename(draft, &path)?;
    Ok(path)
}
