//! `seckill top`: the rolling top 1 % of any access log, by the collector's decoder and the analyzer's
//! engine. It reads files and standard input, and writes to standard output only what was asked for.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use analyzer::engine::FinalWindow;
use analyzer::top::{Top, TopLine, TopOptions};
use anyhow::Context;
use collector::{ClassifierOptions, DeadReason, Decoder, Outcome, Reader};
use flate2::read::MultiGzDecoder;
use types::Timestamp;

use crate::cli::TopArgs;

/// Longest line that is looked at; the rest of a longer one is skipped and the line counts as undecodable.
const MAX_LINE: usize = 64 * 1024;
/// Read at once from a file.
const CHUNK: usize = 1024 * 1024;
/// Lines looked at to find a file's first time; a log that starts with more rubbish keeps its place.
const PEEK_LINES: usize = 1_000;
/// Rows of the table.
const ROWS: usize = 20;
/// Width of the longest bar in the table.
const BAR: u64 = 30;

/// What became of the lines.
#[derive(Default)]
struct Seen {
    lines: u64,
    events: u64,
    filtered: u64,
    dead: u64,
}

/// Reads the files and prints one JSON line per final window, or a table of the last one.
pub fn run(args: &TopArgs) -> anyhow::Result<ExitCode> {
    let base = if args.raw { TopOptions::raw() } else { TopOptions::default() };
    let options = TopOptions { window: args.window, slide: args.slide, lateness: args.lateness, ..base };
    let mut top = Top::new(&options)?;
    let classifier = if args.raw { ClassifierOptions::raw() } else { ClassifierOptions::default() };
    let decoder = Arc::new(Decoder::new(classifier)?);
    // All files are one log, the older ones before.
    let mut lines = Reader::new(Arc::clone(&decoder));

    let mut out = BufWriter::with_capacity(CHUNK, io::stdout().lock());
    let mut failed: io::Result<()> = Ok(());
    let mut newest = Timestamp::from_millis(i64::MIN);
    let mut last: Option<FinalWindow> = None;
    let mut seen = Seen::default();
    let json = args.json;
    let mut emit = |window: FinalWindow, newest: Timestamp| {
        if json {
            if failed.is_ok() {
                failed = writeln!(out, "{}", TopLine::from(window).render());
            }
        } else if window.end.second() <= newest.second().saturating_add(1) {
            // Later windows only watch the last events leave.
            last = Some(window);
        }
    };
    for path in in_order_of_time(&args.files, &decoder)? {
        let mut reader = open(&path)?;
        let mut line = Vec::with_capacity(1024);
        let mut offset = 0;
        while let Some(taken) =
            next_line(&mut reader, &mut line, MAX_LINE).with_context(|| format!("cannot read {}", path.display()))?
        {
            seen.lines += 1;
            let outcome = if line.len() > MAX_LINE {
                Outcome::Dead(DeadReason::TooLong)
            } else {
                lines.line(&line, offset, |event| {
                    newest = newest.max(event.at);
                    top.push(event.page, event.kind, event.visitor, event.at, |w| emit(w, newest));
                })
            };
            offset += taken;
            match outcome {
                Outcome::Event => seen.events += 1,
                Outcome::Filtered(_) => seen.filtered += 1,
                Outcome::Dead(_) => seen.dead += 1,
            }
        }
    }
    let end = top.finish(|w| emit(w, newest));
    if let Some(window) = last {
        failed = failed.and_then(|()| table(&mut out, &window, &seen));
    } else if !json {
        failed = failed.and_then(|()| writeln!(out, "no product event in {} lines", seen.lines));
    }
    match failed.and_then(|()| out.flush()) {
        // The reader has seen enough, as with `| head`.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
        other => other.context("cannot write the result")?,
    }
    let dropped = end.late + end.bad_pages;
    if dropped > 0 || seen.dead > 0 {
        tracing::warn!(
            lines = seen.lines,
            undecodable = seen.dead,
            late = end.late,
            bad_pages = end.bad_pages,
            "some lines were not counted; --lateness says how far out of order a line may be"
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn table(out: &mut impl Write, window: &FinalWindow, seen: &Seen) -> io::Result<()> {
    let standing = &window.standing;
    writeln!(
        out,
        "window ending {}: {} active pages, k {}, threshold {}, {} hot",
        window.end.to_second_string(),
        standing.active,
        standing.k,
        standing.threshold,
        window.hot.len()
    )?;
    let most = window.hot.first().map_or(1, |p| p.count.max(1));
    for (rank, page) in window.hot.iter().take(ROWS).enumerate() {
        let bar = "█".repeat(usize::try_from((page.count * BAR).div_ceil(most)).unwrap_or_default());
        writeln!(out, "{:>4}  {:<32} {:>9}  {bar}", rank + 1, page.page.as_str(), page.count)?;
    }
    if window.hot.len() > ROWS {
        writeln!(out, "      … and {} more (--json shows all)", window.hot.len() - ROWS)?;
    }
    writeln!(
        out,
        "lines {} = events {} + filtered {} + undecodable {}",
        seen.lines, seen.events, seen.filtered, seen.dead
    )
}

/// Rotated logs are usually named newest first; the engine wants the oldest first. Standard input keeps the
/// order given, as it cannot be looked at beforehand.
fn in_order_of_time(files: &[PathBuf], decoder: &Arc<Decoder>) -> anyhow::Result<Vec<PathBuf>> {
    if files.len() < 2 || files.iter().any(|f| !f.is_file()) {
        return Ok(files.to_vec());
    }
    let mut dated = Vec::with_capacity(files.len());
    for path in files {
        dated.push((first_time(path, decoder)?, path.clone()));
    }
    // A file without any time stays where it was put: the sort is stable and it counts nothing.
    dated.sort_by_key(|(time, _)| *time);
    Ok(dated.into_iter().map(|(_, path)| path).collect())
}

fn first_time(path: &Path, decoder: &Arc<Decoder>) -> anyhow::Result<Option<Timestamp>> {
    let mut reader = open(path)?;
    let mut line = Vec::new();
    let (mut lines, mut first) = (Reader::new(Arc::clone(decoder)), None);
    for _ in 0..PEEK_LINES {
        if next_line(&mut reader, &mut line, MAX_LINE)?.is_none() {
            break;
        }
        lines.line(&line, 0, |event| first = Some(event.at));
        if first.is_some() {
            break;
        }
    }
    Ok(first)
}

/// Opens a log: `-` is standard input, what ends in .gz is unpacked.
pub(super) fn open(path: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    if path == Path::new("-") {
        return Ok(Box::new(BufReader::with_capacity(CHUNK, io::stdin().lock())));
    }
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let plain: Box<dyn Read> =
        if path.extension().is_some_and(|e| e == "gz") { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
    Ok(Box::new(BufReader::with_capacity(CHUNK, plain)))
}

/// Reads one line without its end into `line`, at most one byte more than `most`; answers how many bytes it took in
/// all, or `None` at the end.
pub(super) fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>, most: usize) -> io::Result<Option<u64>> {
    line.clear();
    let mut taken = 0;
    loop {
        let buffer = match reader.fill_buf() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if buffer.is_empty() {
            return Ok((taken > 0).then_some(taken));
        }
        let end = buffer.iter().position(|b| *b == b'\n');
        let part = &buffer[..end.unwrap_or(buffer.len())];
        line.extend_from_slice(&part[..part.len().min((most + 1).saturating_sub(line.len()))]);
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        taken += used as u64;
        if end.is_some() {
            return Ok(Some(taken));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_bounded_and_the_last_needs_no_end() {
        let long = "x".repeat(3 * MAX_LINE);
        let text = format!("one\n\n{long}\nlast");
        let mut reader = BufReader::with_capacity(7, text.as_bytes());
        let mut line = Vec::new();
        let mut lines = Vec::new();
        while let Some(taken) = next_line(&mut reader, &mut line, MAX_LINE).expect("memory reads") {
            lines.push((line.len(), taken));
        }
        assert_eq!(lines, [(3, 4), (0, 1), (MAX_LINE + 1, 3 * MAX_LINE as u64 + 1), (4, 4)]);
    }
}
