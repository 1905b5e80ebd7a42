//! The durable memory of the control plane, in SQLite: generation, plan, overrides, policy versions, audit
//! log. One connection on one thread writes; a generation is on disk before anybody hears of it.

pub mod audit;
mod sql;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use types::{Generation, Sku, Timestamp};

pub use audit::{Action, AuditRow, NewAuditRow, Since};

use crate::planner::{Decision, Override};
use crate::policy::Policy;

/// File name inside the data directory.
pub const FILE: &str = "control-plane.db";
/// Jobs that may wait for the writer thread: ticks come one at a time, the rest are audit readers.
const QUEUE: usize = 64;

/// What the store could not do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// SQLite failed.
    #[error("plan store: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The file or its directory cannot be used.
    #[error("plan store {path}: {why}")]
    Unusable {
        /// The path.
        path: PathBuf,
        /// Why, and what would help.
        why: String,
    },
    /// A row does not hold what this program writes.
    #[error("plan store: row {row} of {table} is damaged: {why}")]
    Damaged {
        /// The table.
        table: &'static str,
        /// Its key.
        row: String,
        /// What is wrong.
        why: String,
    },
    /// Another process wrote a generation: this one no longer owns the data directory.
    #[error("plan store: the generation on disk is {found}, not {expected}: another control plane uses this directory")]
    NotOwner {
        /// What this process wrote last.
        expected: Generation,
        /// What is there.
        found: Generation,
    },
    /// The writer thread has ended.
    #[error("plan store: closed")]
    Closed,
}

impl StoreError {
    /// Whether the same call may succeed later.
    pub fn retryable(&self) -> bool {
        match self {
            Self::Sqlite(e) => matches!(
                e.sqlite_error_code(),
                Some(
                    rusqlite::ErrorCode::DatabaseBusy
                        | rusqlite::ErrorCode::DatabaseLocked
                        | rusqlite::ErrorCode::DiskFull
                        | rusqlite::ErrorCode::SystemIoFailure
                )
            ),
            Self::Unusable { .. } | Self::Damaged { .. } | Self::NotOwner { .. } | Self::Closed => false,
        }
    }
}

/// What a start finds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Saved {
    /// The last generation that may have been pushed.
    pub generation: Generation,
    /// The plan.
    pub decisions: BTreeMap<Sku, Decision>,
    /// Overrides, ended ones included.
    pub overrides: BTreeMap<Sku, Override>,
    /// The newest policy.
    pub policy: Option<Policy>,
}

/// One atomic step of the plan.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// The generation on which this step was decided; anything else on disk refuses it.
    pub base: Generation,
    /// The generation after it; equal to `base` if no tier and no override changes.
    pub generation: Generation,
    /// Decisions to be written.
    pub decisions: Vec<(Sku, Decision)>,
    /// Products that are planned no more.
    pub dropped: Vec<Sku>,
    /// Overrides that are new or changed.
    pub overrides: Vec<(Sku, Override)>,
    /// Overrides that are over.
    pub overrides_gone: Vec<Sku>,
    /// A new version of the policy.
    pub policy: Option<(Timestamp, Policy)>,
    /// What is told about it.
    pub audit: Vec<NewAuditRow>,
}

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The store; clones share the one writer thread, which ends with the last clone.
#[derive(Clone)]
pub struct PlanStore {
    jobs: mpsc::Sender<Job>,
}

impl PlanStore {
    /// Opens or makes the store in `data_dir` and reads what is there. Blocks: call it at start only.
    pub fn open(data_dir: &Path) -> Result<(Self, Saved), StoreError> {
        std::fs::create_dir_all(data_dir)
            .map_err(|e| StoreError::Unusable { path: data_dir.to_owned(), why: format!("cannot be made: {e}") })?;
        let path = data_dir.join(FILE);
        let mut connection = Connection::open(&path)
            .map_err(|e| StoreError::Unusable { path: path.clone(), why: format!("cannot be opened: {e}") })?;
        sql::prepare(&connection)
            .map_err(|e| StoreError::Unusable { path: path.clone(), why: format!("cannot be prepared: {e}") })?;
        let saved = sql::load(&connection)?;
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        std::thread::Builder::new()
            .name("plan-store".to_owned())
            .spawn(move || {
                while let Some(job) = queue.blocking_recv() {
                    job(&mut connection);
                }
            })
            .map_err(|e| StoreError::Unusable { path, why: format!("no thread for it: {e}") })?;
        Ok((Self { jobs }, saved))
    }

    /// Makes one step durable, wholly or not at all.
    pub async fn commit(&self, change: Change) -> Result<(), StoreError> {
        self.call(move |connection| sql::commit(connection, &change)).await
    }

    /// Audit rows after `since`, oldest first, at most `limit`.
    pub async fn audit(&self, since: Since, limit: usize) -> Result<Vec<AuditRow>, StoreError> {
        self.call(move |connection| sql::audit(connection, since, limit)).await
    }

    async fn call<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Whoever asked may have gone; the work is done all the same.
            let _ = answer.send(work(connection));
        });
        self.jobs.send(job).await.map_err(|_| StoreError::Closed)?;
        answered.await.map_err(|_| StoreError::Closed)?
    }
}
