//! Dead letters tried again, after a format or the decoder was put right: what is a line now is published, once,
//! and moves in the books. It must never run beside the collector of the same folder; the folder's lock sees to it.
//!
//! A replay gets a number that is durable, with its letters, before anything of it is published; the number is
//! part of the source's name, the letter's row its offset. Killed in between, the next call finishes the same
//! replay first, under the same names, and the analyzer drops what it had already. Lines that are older than the
//! analyzer's windows are late there, and counted as such: they still reach history.

use std::collections::BTreeMap;
use std::sync::Arc;

use eventlog::EventLog;
use serde::Serialize;
use tokio::task::spawn_blocking;
use types::Clock;

use crate::Error;
use crate::account::Accounting;
use crate::batch::{Builder, Press, Recipe};
use crate::decode::DeadReason;
use crate::decode::log_format::Format;
use crate::decoder::{Decoder, Outcome, Reader};
use crate::options::Options;
use crate::publish::Publisher;
use crate::store::{Progress, Replay, ReplayFilter, Revived, Store};

/// Letters of one replay: as many as a batch of lines has.
const LETTERS: u32 = 4_096;

/// What trying dead letters again has brought.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ReplayReport {
    /// Letters that were tried.
    pub tried: u64,
    /// Those that are events now; with a dry run, would be.
    pub events: u64,
    /// Those that are good lines now, and no product events.
    pub filtered: u64,
    /// Those that stay, by the reason of today.
    pub still_dead: BTreeMap<DeadReason, u64>,
    /// Those that stay because only their first bytes were kept.
    pub cut_short: u64,
    /// Events of an earlier replay that was cut off, and is finished now. Some may have been published then.
    pub finished_before: u64,
    /// The books afterwards.
    pub books: Accounting,
}

/// Tries the dead letters that `filter` lets through, oldest first. Lines whose time was not believed are left
/// alone unless they are asked for by their reason: each could close the windows of everybody else. With
/// `dry_run` nothing is published and nothing changes.
///
/// After an error the call can be repeated; nothing is lost and nothing doubled.
pub async fn replay_dead_letters(
    options: &Options,
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    filter: ReplayFilter,
    dry_run: bool,
) -> Result<ReplayReport, Error> {
    options.check()?;
    // A letter has lost its neighbours, and with them its visitor's rate.
    let classifier = options.classifier.clone().without_rates();
    let decoder = Arc::new(Decoder::of(Format::parse(&options.log_format)?, &classifier, &options.visitor_key)?);
    let mut reader = Reader::new(Arc::clone(&decoder));
    let mut press = Press::new(&Recipe { decoder, partitions: options.partitions, encoding: options.encoding });
    let (folder, now) = (options.state_dir.clone(), clock.now());
    let store = Arc::new(spawn_blocking(move || Store::open(&folder, now)).await??);
    let mut report = ReplayReport::default();
    let publisher = if dry_run {
        None
    } else {
        let publisher = Publisher::new(log, Arc::clone(&clock), options.partitions, options.encoding).await?;
        if let Some(replay) = store.unfinished_replay()? {
            tracing::warn!(replay = replay.id, "an earlier replay was cut off; finishing it first");
            report.finished_before = deliver(&store, &publisher, &mut press, replay, &*clock).await?;
        }
        Some(publisher)
    };
    let mut after = 0;
    loop {
        let letters = store.select(&filter, after, LETTERS)?;
        let Some((last, _)) = letters.last() else { break };
        after = *last;
        let mut alive = Vec::new();
        for (row, letter) in &letters {
            if filter.reason.is_none() && matches!(letter.reason, DeadReason::Future | DeadReason::Ancient) {
                *report.still_dead.entry(letter.reason).or_default() += 1;
                continue;
            }
            report.tried += 1;
            if !letter.is_whole() {
                report.cut_short += 1;
                continue;
            }
            match reader.line(&letter.bytes, row.cast_unsigned(), |_| {}) {
                Outcome::Dead(reason) => *report.still_dead.entry(reason).or_default() += 1,
                Outcome::Event => {
                    report.events += 1;
                    alive.push(*row);
                }
                Outcome::Filtered(_) => {
                    report.filtered += 1;
                    alive.push(*row);
                }
            }
        }
        if let (Some(publisher), false) = (&publisher, alive.is_empty()) {
            let replay = store.begin_replay(&alive, clock.now())?;
            deliver(&store, publisher, &mut press, replay, &*clock).await?;
        }
    }
    report.books = store.accounting()?;
    Ok(report)
}

/// Publishes a replay's events, then takes its letters out of the store; answers how many events.
async fn deliver(
    store: &Arc<Store>,
    publisher: &Publisher,
    press: &mut Press,
    replay: Replay,
    clock: &dyn Clock,
) -> Result<u64, Error> {
    let source: Arc<str> = Arc::from(format!("replay/{}/{}", store.identity()?, replay.id));
    let mut books = store.accounting()?;
    let (mut count, mut rows) = (0, Vec::new());
    let mut builder = Builder::new(press, &source, clock.now());
    for (row, letter) in replay.letters.iter().filter(|(_, letter)| letter.is_whole()) {
        let event = match builder.again(row.cast_unsigned(), &letter.bytes) {
            Outcome::Event => true,
            Outcome::Filtered(_) => false,
            // Only after the configuration was changed between two attempts.
            Outcome::Dead(_) => continue,
        };
        count += u64::from(event);
        rows.push(*row);
        books.revive(letter.reason, event);
    }
    let mut load = [*builder.finish(source, Progress::Replay(Revived { id: replay.id, rows }))?];
    publisher.send(&mut publisher.pack(&mut load)?).await?;
    let (store, now) = (Arc::clone(store), clock.now());
    spawn_blocking(move || store.commit(&load, books, now)).await??;
    Ok(count)
}
