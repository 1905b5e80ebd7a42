//! The heat of seconds that are over, on disk: Parquet by hour that DuckDB, Spark and our own SQL read as it lies. Files
//! are written beside their name and renamed when they are whole; what a file covers is in its name, so that nothing is
//! written or shown twice. It never writes what the engine has not sealed.

#[cfg(feature = "sql")]
mod read;
#[cfg(feature = "sql")]
mod runs;
#[cfg(feature = "sql")]
mod shelf;
#[cfg(feature = "sql")]
mod thrift;
#[cfg(feature = "sql")]
mod write;

use std::path::PathBuf;
#[cfg(feature = "sql")]
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
#[cfg(feature = "sql")]
use tokio_util::sync::CancellationToken;
use types::Invalid;

#[cfg(feature = "sql")]
pub use shelf::History;
#[cfg(feature = "sql")]
pub(crate) use shelf::Shelf;

#[cfg(feature = "sql")]
use crate::tables::LiveTables;

/// What the history is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HistoryOptions {
    /// Whether sealed seconds are kept on disk at all.
    pub enabled: bool,
    /// Where; `history` in the state directory if nothing is said.
    pub directory: Option<PathBuf>,
    /// From one write to the next, or sooner while a backlog is caught up. Less than a minute: what a crash leaves unwritten comes back with the window's
    /// last 60 seconds.
    #[serde(with = "types::time::duration_text")]
    pub flush: Duration,
    /// How long rows are kept, by the newest row's time.
    #[serde(with = "types::time::duration_text")]
    pub keep: Duration,
    /// Most bytes on disk; the oldest hours go first.
    pub most_bytes: u64,
}

impl Default for HistoryOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            directory: None,
            flush: Duration::from_secs(10),
            keep: Duration::from_secs(30 * 24 * 3600),
            // A month of a busy shop: about 200 bytes a minute and page.
            most_bytes: 20 * 1024 * 1024 * 1024,
        }
    }
}

impl HistoryOptions {
    /// Refuses what would lose rows, naming the field.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.flush < Duration::from_millis(100) || self.flush > Duration::from_secs(45) {
            return Err(Invalid::new("history.flush", "is not 100ms to 45s"));
        }
        if self.keep < Duration::from_secs(3600) {
            return Err(Invalid::new("history.keep", "is less than 1h"));
        }
        if self.most_bytes < 1024 * 1024 {
            return Err(Invalid::new("history.most_bytes", "is less than 1048576"));
        }
        Ok(())
    }
}

#[cfg(feature = "sql")]
/// While a backlog is caught up, event time runs faster than the clock: this far ahead of the last write nobody waits
/// for the next. A third of what live tables keep.
const AHEAD_SECONDS: i64 = crate::live::KEPT_SECONDS / 3;
/// How often that is looked at.
#[cfg(feature = "sql")]
const LOOK: Duration = Duration::from_millis(100);

/// Returns when the next write is due; whether it is the last.
#[cfg(feature = "sql")]
async fn due(tables: &dyn LiveTables, flush: Duration, mut written: Option<i64>, stop: &CancellationToken) -> bool {
    let end = tokio::time::Instant::now() + flush;
    loop {
        let wait = end.saturating_duration_since(tokio::time::Instant::now()).min(LOOK);
        if wait.is_zero() {
            return false;
        }
        tokio::select! {
            () = stop.cancelled() => return true,
            () = tokio::time::sleep(wait) => {}
        }
        // The first second that is seen begins the count.
        if let Some(newest) = tables.newest_second()
            && newest - *written.get_or_insert(newest) >= AHEAD_SECONDS
        {
            return false;
        }
    }
}

/// Writes what the live tables have sealed, now and then and once more at the end, until `stop`.
#[cfg(feature = "sql")]
pub async fn keep(history: Arc<History>, tables: Arc<dyn LiveTables>, flush: Duration, stop: CancellationToken) {
    let mut written = None;
    loop {
        let last = due(tables.as_ref(), flush, written, &stop).await;
        written = tables.newest_second().or(written);
        let (history, tables) = (Arc::clone(&history), Arc::clone(&tables));
        // Reading, sorting and fsync are not for a thread that answers requests.
        let done = tokio::task::spawn_blocking(move || {
            let rows = history.flush(tables.as_ref())?;
            history.tidy()?;
            Ok::<_, std::io::Error>(rows)
        });
        match done.await {
            Ok(Ok(rows)) => tracing::trace!(rows, "history written"),
            Ok(Err(error)) => {
                crate::metrics::failed("history");
                tracing::error!(%error, "history not written; will be tried again");
            }
            Err(error) => {
                crate::metrics::failed("history");
                tracing::error!(%error, "writing the history broke off");
            }
        }
        if last {
            return;
        }
    }
}
