//! `seckill top`: the rolling top 1 % of any access log, by the collector's decoder and the analyzer's
//! engine. It reads files and standard input, and writes to standard output only what was asked for.

mod input;
mod progress;
mod show;

use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

use analyzer::engine::FinalWindow;
use analyzer::top::{Top, TopOptions};
use anyhow::Context;
use collector::{ClassifierOptions, DeadReason, Decoder, Format, Outcome, Reader, VisitorKey};
use types::Timestamp;

use crate::cli::TopArgs;
use input::MAX_LINE;
pub(super) use input::{next_line, open};
use progress::Progress;
use show::{Form, History};

/// Written at once.
const WRITE: usize = 1024 * 1024;

/// What became of the lines.
#[derive(Default)]
struct Seen {
    lines: u64,
    events: u64,
    filtered: u64,
    dead: u64,
}

/// Where windows go.
struct Sink<W> {
    out: W,
    form: Form,
    at: Option<Timestamp>,
    // The window of the table, and what led to it.
    last: Option<FinalWindow>,
    history: History,
    written: u64,
    done: bool,
    failed: io::Result<()>,
}

impl<W: Write> Sink<W> {
    fn take(&mut self, window: FinalWindow, newest: Timestamp) {
        if self.done || self.failed.is_err() {
            return;
        }
        if let Some(at) = self.at {
            self.done = window.end >= at;
            if window.end != at {
                self.history.saw(&window);
                return;
            }
        }
        match self.form {
            Form::Json => self.failed = show::json(&mut self.out, window),
            Form::Csv => self.failed = show::csv(&mut self.out, &window),
            // Later windows only watch the last events leave.
            Form::Table if window.end.second() <= newest.second().saturating_add(1) || self.at.is_some() => {
                if let Some(before) = self.last.replace(window) {
                    self.history.saw(&before);
                }
            }
            Form::Table => return,
        }
        self.written += 1;
    }
}

/// Reads the files and prints each final window, or a table of one.
pub fn run(args: &TopArgs) -> anyhow::Result<ExitCode> {
    let base = if args.raw { TopOptions::raw() } else { TopOptions::default() };
    let options = TopOptions { window: args.window, slide: args.slide, lateness: args.lateness, ..base };
    let mut top = Top::new(&options)?;
    let classifier = if args.raw { ClassifierOptions::raw() } else { ClassifierOptions::default() };
    let format = Format::parse(&args.format).context("--format")?;
    let decoder = Arc::new(Decoder::of(format, &classifier, &VisitorKey::public())?);
    // All files are one log, the older ones before.
    let mut lines = Reader::new(Arc::clone(&decoder));

    let form = match (args.json, args.csv) {
        (true, _) => Form::Json,
        (false, true) => Form::Csv,
        (false, false) => Form::Table,
    };
    let seconds = |d: std::time::Duration| i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
    let mut sink = Sink {
        out: BufWriter::with_capacity(WRITE, io::stdout().lock()),
        form,
        at: args.at,
        last: None,
        history: History::new(seconds(args.window), seconds(args.slide)),
        written: 0,
        done: false,
        failed: Ok(()),
    };
    if form == Form::Csv {
        sink.failed = show::csv_head(&mut sink.out);
    }
    let mut newest = Timestamp::from_millis(i64::MIN);
    let mut seen = Seen::default();
    let files = input::in_order_of_time(&args.files, &decoder)?;
    let bytes = input::Bytes::default();
    let mut progress = Progress::new(&files, &bytes);
    for path in &files {
        let mut reader = input::open_counted(path, &bytes)?;
        let mut offset = 0;
        let whole = input::each_line(&mut *reader, |line, taken| {
            seen.lines += 1;
            progress.at(seen.lines);
            let outcome = if line.len() > MAX_LINE {
                Outcome::Dead(DeadReason::TooLong)
            } else {
                lines.line(line, offset, |event| {
                    newest = newest.max(event.at);
                    top.push(event.page, event.kind, event.visitor, event.at, |w| sink.take(w, newest));
                })
            };
            offset += taken;
            match outcome {
                Outcome::Event => seen.events += 1,
                Outcome::Filtered(_) => seen.filtered += 1,
                Outcome::Dead(_) => seen.dead += 1,
            }
            // The window that was asked for, or a reader that has seen enough, as with `| head`.
            !sink.done && sink.failed.is_ok()
        });
        if !whole.with_context(|| format!("cannot read {}", path.display()))? {
            break;
        }
    }
    drop(progress);
    let end = top.finish(|w| sink.take(w, newest));
    finish(sink, &seen, args)?;
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
    if end.counters.evicted > 0 || end.counters.full > 0 {
        tracing::warn!(
            evicted_pages = end.counters.evicted,
            events_beyond_a_second = end.counters.full,
            max_pages = options.max_pages,
            "more than can be held: the coldest pages were left out"
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn finish<W: Write>(mut sink: Sink<W>, seen: &Seen, args: &TopArgs) -> anyhow::Result<()> {
    let failed = std::mem::replace(&mut sink.failed, Ok(()));
    let shown = match &sink.last {
        Some(window) => {
            let terminal = io::stdout().is_terminal();
            failed.and_then(|()| show::table(&mut sink.out, window, &sink.history, seen, terminal))
        }
        None if sink.form == Form::Table && sink.at.is_none() => {
            failed.and_then(|()| writeln!(sink.out, "no product event in {} lines", seen.lines))
        }
        None => failed,
    };
    match shown.and_then(|()| sink.out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
        other => other.context("cannot write the result")?,
    }
    if let Some(at) = args.at.filter(|_| sink.written == 0) {
        anyhow::bail!(
            "no window ends at {}: ends are at each multiple of --slide, from the second after the first event to \
             --window after the last",
            at.to_second_string()
        );
    }
    Ok(())
}
