//! `seckill collect --explain FILE` and `seckill collect replay-dead-letters`. It prints what the collector's library
//! says; it must never print a dead line's bytes as they stand.

use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use collector::decode::envelope::MAX_LIST;
use collector::explain::{Explained, Explainer, Outcome, Summary};
use collector::{Decoder, Format, ReplayFilter, VisitorKey};
use types::{Clock, SystemClock};

use super::{say, top};
use crate::cli::{CollectArgs, ReplayArgs};
use crate::config::Config;
use crate::wire::Site;

/// Pages listed in the summary.
const TOP: usize = 20;

/// Explains a log, line by line as it is read.
pub fn explain(config: &Config, file: &Path, args: &CollectArgs) -> anyhow::Result<ExitCode> {
    let mut out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    let summary = read(config, file, |explained| {
        if args.summary {
            return Ok(());
        }
        if args.json {
            serde_json::to_writer(&mut out, &explained).map_err(io::Error::from)?;
            writeln!(out)
        } else {
            line(&mut out, &explained)
        }
    });
    let written = summary.and_then(|summary| {
        let written = if args.json {
            writeln!(out, "{}", serde_json::json!({ "summary": summary }))
        } else {
            show(&mut out, &summary)
        };
        written.and_then(|()| out.flush()).map_err(anyhow::Error::from)
    });
    match written {
        // The reader has seen enough, as with `| head`.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => {
            Ok(ExitCode::SUCCESS)
        }
        other => other.map(|()| ExitCode::SUCCESS),
    }
}

/// Reads a log to its end; answers what it came to.
pub(super) fn read(
    config: &Config,
    file: &Path,
    mut each: impl FnMut(Explained) -> io::Result<()>,
) -> anyhow::Result<Summary> {
    let format = Format::parse(&config.collector.log_format)?;
    let decoder = Decoder::of(format, &config.collector.classifier, &VisitorKey::public())?;
    let mut explainer = Explainer::new(Arc::new(decoder), SystemClock::new().now());
    let mut reader = top::open(file)?;
    let mut bytes = Vec::with_capacity(1024);
    let mut written = Ok(());
    let mut keep = |explained| {
        if written.is_ok() {
            written = each(explained);
        }
    };
    // A shipper's record may be longer than a line, and a list of records longer still.
    while let Some(taken) =
        top::next_line(&mut reader, &mut bytes, MAX_LIST).with_context(|| format!("cannot read {}", file.display()))?
    {
        explainer.line(&bytes, taken, &mut keep);
    }
    let summary = explainer.finish(TOP, keep);
    Ok(written.map(|()| summary)?)
}

fn line(out: &mut impl Write, explained: &Explained) -> io::Result<()> {
    let by = |name: &Option<Arc<str>>| name.as_ref().map_or_else(String::new, |name| format!(" ({name})"));
    write!(out, "{:>8}  ", explained.line)?;
    match &explained.outcome {
        Outcome::Event { kind, page, visitor_known, pattern, status, .. } => {
            let visitor = if *visitor_known { "visitor named by the edge" } else { "visitor by address and agent" };
            writeln!(out, "event {} {page} {status}, {visitor}{}", kind.as_str(), by(pattern))
        }
        Outcome::Filtered { reason, bot, pattern } => {
            writeln!(out, "filtered {reason}{}{}", by(bot), by(pattern))
        }
        Outcome::Dead { reason, place, text } => {
            let place = place.map_or_else(String::new, |place| format!(" at byte {place}"));
            writeln!(out, "dead {reason}{place}: {text}")
        }
        Outcome::Repeat => writeln!(out, "repeat: its shipper sent it before"),
    }
}

fn show(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    let books = &summary.books;
    write!(
        out,
        "lines {} = events {} + filtered {} + dead {}",
        books.lines,
        books.events,
        books.filtered_total(),
        books.dead_total()
    )?;
    if books.repeats > 0 {
        write!(out, " + repeats {}", books.repeats)?;
    }
    writeln!(out)?;
    if let (Some(first), Some(last)) = (summary.first, summary.last) {
        writeln!(out, "from {first} to {last}")?;
    }
    for (kind, count) in &summary.kinds {
        writeln!(out, "  event     {:<46} {count:>9}", kind.as_str())?;
    }
    for (reason, count) in &books.filtered {
        writeln!(out, "  filtered  {:<46} {count:>9}", reason.as_str())?;
    }
    for (reason, count) in &books.dead {
        writeln!(out, "  dead      {:<46} {count:>9}", reason.as_str())?;
    }
    for (name, count) in &books.patterns {
        writeln!(out, "  pattern   {name:<46} {count:>9}")?;
    }
    for (name, count) in &books.bots {
        writeln!(out, "  bot       {name:<46} {count:>9}")?;
    }
    for (page, count) in &summary.top {
        writeln!(out, "  page      {:<46} {count:>9}", page.as_str())?;
    }
    if summary.uncounted > 0 {
        writeln!(out, "  {} events of pages that were too many to be counted each", summary.uncounted)?;
    }
    for name in &summary.never_matched {
        writeln!(out, "  never matched: {name}")?;
    }
    Ok(())
}

/// Tries dead letters again.
pub async fn replay(config: Config, args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let site = Site::open(config, Arc::clone(&clock))?;
    let filter = ReplayFilter { reason: args.reason, since: args.since };
    let report = collector::replay_dead_letters(&site.config.collector, site.log, clock, filter, args.dry_run)
        .await
        .context("not finished; run it again, nothing is lost and nothing doubled")?;
    if args.json {
        say(serde_json::to_string(&report)?);
        return Ok(ExitCode::SUCCESS);
    }
    let would = if args.dry_run { "would be" } else { "are" };
    if report.finished_before > 0 {
        say(format!("{} events of a replay that was cut off are published now", report.finished_before));
    }
    say(format!(
        "{} dead letters tried: {} {would} events, {} {would} filtered",
        report.tried, report.events, report.filtered
    ));
    for (reason, count) in &report.still_dead {
        say(format!("  still dead of {reason}: {count}"));
    }
    if report.cut_short > 0 {
        say(format!("  not tried, as only their beginning was kept: {}", report.cut_short));
    }
    if report.events > 0 && !args.dry_run {
        say("those older than the analyzer's windows count there as late");
    }
    anyhow::ensure!(report.books.adds_up(), "the collector's accounting does not add up; this is a defect");
    Ok(ExitCode::SUCCESS)
}
