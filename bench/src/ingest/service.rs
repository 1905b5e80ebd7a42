//! The collector as it runs: it follows a file, publishes to the log in memory and commits to its own store on disk.
//! What the stages cost by themselves is `ours.rs`; here nothing is left out.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use collector::{Collector, Options};
use eventlog::MemoryLog;
use tokio_util::sync::CancellationToken;
use types::SystemClock;

use super::ours::Done;
use crate::area::Settings;
use crate::machine;

/// How often the books are looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Takes each line of the file, `lines` of them, and answers the time that all threads were on a core.
pub fn run(settings: &Settings, path: &Path, lines: u64) -> anyhow::Result<Done> {
    let state_dir = settings.cache.join("ingest-service-state");
    if state_dir.exists() {
        fs::remove_dir_all(&state_dir)?;
    }
    let options = Options {
        paths: vec![path.to_owned()],
        from_start: true,
        watch: false,
        state_dir: state_dir.clone(),
        visitor_key: "a key only for measuring".into(),
        ..Options::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seconds = runtime.block_on(async {
        let log = Arc::new(MemoryLog::new());
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
        anyhow::ensure!(books.lines == lines && books.adds_up() && books.dead_total() == 0, "the books: {books:?}");
        Ok(seconds)
    })?;
    fs::remove_dir_all(&state_dir).context("the service's state stays behind")?;
    Ok(Done { seconds, bytes: fs::metadata(path)?.len() })
}
