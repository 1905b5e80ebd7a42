//! What answers SQL beside the service, and writes the seconds that are over to disk; nothing of both in a build without
//! the feature `sql`. It hands on what it is given and must never touch the analysis.

use std::sync::Arc;

use axum::Router;
use tokio_util::sync::CancellationToken;
use types::Clock;

use super::Handle;
use crate::options::Options;
use crate::tables::LiveTables;

/// Writes the history, if it is kept.
#[cfg(feature = "sql")]
pub(super) struct Keeper(Option<(Arc<crate::history::History>, std::time::Duration)>);

/// Nothing is kept on disk.
#[cfg(not(feature = "sql"))]
pub(super) struct Keeper;

/// The routes of SQL, over live seconds and those on disk.
#[cfg(feature = "sql")]
pub(super) fn open(options: &Options, clock: &Arc<dyn Clock>, handle: &Handle) -> std::io::Result<(Router, Keeper)> {
    let directory = options.history.directory.clone().unwrap_or_else(|| options.state_dir.join("history"));
    let history = match options.history.enabled {
        true => Some(Arc::new(crate::history::History::open(&directory, options.history.clone())?)),
        false => None,
    };
    let sql = crate::sql::SqlOptions {
        limits: options.sql.clone(),
        clock: Arc::clone(clock),
        host: Some(handle.address.to_string()),
        history: history.clone(),
    };
    let flush = clock.real(options.history.flush);
    Ok((crate::sql::router(handle.tables(), sql), Keeper(history.map(|history| (history, flush)))))
}

/// No routes.
#[cfg(not(feature = "sql"))]
pub(super) fn open(_: &Options, _: &Arc<dyn Clock>, _: &Handle) -> std::io::Result<(Router, Keeper)> {
    Ok((Router::new(), Keeper))
}

impl Keeper {
    /// Writes until `sealed`, and once more then.
    #[cfg(feature = "sql")]
    pub(super) async fn run(self, tables: Arc<dyn LiveTables>, sealed: CancellationToken) {
        if let Some((history, flush)) = self.0 {
            crate::history::keep(history, tables, flush, sealed).await;
        }
    }

    /// Nothing is to be written.
    #[cfg(not(feature = "sql"))]
    pub(super) async fn run(self, _: Arc<dyn LiveTables>, _: CancellationToken) {}
}
