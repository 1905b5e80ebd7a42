//! The collector as it runs: it follows a file, or reads records from topic `access-log` of the log in memory, publishes to
//! that log and commits to its own store on disk. What the stages cost by themselves is `ours.rs`; here nothing is left out.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use collector::{Collector, Options, Source};
use eventlog::{EventLog, MemoryLog, NewRecord, Retention, Topic, TopicSpec};
use tokio_util::sync::CancellationToken;
use types::{Clock, SystemClock, topics};

use super::ours::Done;
use crate::area::Settings;
use crate::machine;

/// How often the books are looked at.
const LOOK: Duration = Duration::from_millis(5);

/// How the lines come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In a file that is followed.
    File,
    /// Each as a record of one partition of `access-log`, whose repeats are told.
    Topic,
}

/// Records appended at once before the time counts.
const AT_ONCE: usize = 1_000;

/// Takes each line of the file, `lines` of them, and answers the time that all threads were on a core.
pub fn run(settings: &Settings, path: &Path, lines: u64, way: Way) -> anyhow::Result<Done> {
    let state_dir = settings.cache.join("ingest-service-state");
    if state_dir.exists() {
        fs::remove_dir_all(&state_dir)?;
    }
    let options = Options {
        paths: vec![path.to_owned()],
        source: if way == Way::File { Source::Files } else { Source::AccessLog },
        from_start: true,
        watch: false,
        state_dir: state_dir.clone(),
        visitor_key: "a key only for measuring".into(),
        ..Options::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seconds = runtime.block_on(async {
        let log = Arc::new(MemoryLog::new());
        if way == Way::Topic {
            fill(&log, path).await?;
        }
        let collector = Collector::new(options, log, Arc::new(SystemClock::new())).await?;
        let (handle, stop) = (collector.handle(), CancellationToken::new());
        let started = machine::computed_by("self");
        let running = tokio::spawn(collector.run(stop.clone()));
        while handle.accounting().lines < lines && !running.is_finished() {
            tokio::time::sleep(LOOK).await;
        }
        let seconds = (machine::computed_by("self") - started).as_secs_f64();
        stop.cancel();
        running.await??;
        let books = handle.accounting();
        let right = books.lines == lines && books.adds_up() && books.dead_total() + books.repeats == 0;
        anyhow::ensure!(right, "the books: {books:?}");
        Ok(seconds)
    })?;
    fs::remove_dir_all(&state_dir).context("the service's state stays behind")?;
    Ok(Done { seconds, bytes: fs::metadata(path)?.len() })
}

/// Puts each line of the file into the topic as a record.
async fn fill(log: &MemoryLog, path: &Path) -> anyhow::Result<()> {
    let topic = Topic::new(topics::ACCESS_LOG)?;
    let retention = Retention::Time(Duration::from_secs(24 * 3600));
    log.ensure_topic(&TopicSpec { topic: topic.clone(), partitions: 1, retention }).await?;
    let (at, text) = (SystemClock::new().now(), Bytes::from(fs::read(path)?));
    let mut records = Vec::with_capacity(AT_ONCE);
    let mut start = 0;
    for end in memchr::memchr_iter(b'\n', &text) {
        records.push(NewRecord::to_partition(0, text.slice(start..end), at));
        start = end + 1;
        if records.len() == AT_ONCE {
            log.append(&topic, std::mem::take(&mut records)).await?;
        }
    }
    log.append(&topic, records).await?;
    Ok(())
}
