//! Provider of the plan store on SQLite: one connection on one thread does everything, in order. Several control
//! planes of one machine may share the file; the lease row tells which of them writes.

mod sql;

use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use types::{Generation, Sku, Term, Timestamp};

use super::{AuditRow, Change, GenerationRow, Leader, PlanStore, PolicyRow, Saved, Since, StoreError};
use crate::planner::Decision;

/// File name inside the data directory.
pub const FILE: &str = "control-plane.db";
/// Jobs that may wait for the writer thread: ticks come one at a time, the rest are readers.
const QUEUE: usize = 64;
/// How long a statement waits for another process before it fails.
const BUSY: Duration = Duration::from_secs(2);

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The store; clones share the one writer thread, which ends with the last clone.
#[derive(Clone)]
pub struct SqlitePlans {
    jobs: mpsc::Sender<Job>,
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        match error.sqlite_error_code() {
            Some(
                ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::DiskFull | ErrorCode::SystemIoFailure,
            ) => Self::Unavailable(error.to_string()),
            _ => Self::Unusable { place: "SQLite".to_owned(), why: error.to_string() },
        }
    }
}

impl SqlitePlans {
    /// Opens or makes the store in `data_dir`. Blocks: call it at start only.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let unusable = |path: &Path, why: String| StoreError::Unusable { place: path.display().to_string(), why };
        std::fs::create_dir_all(data_dir).map_err(|e| unusable(data_dir, format!("cannot be made: {e}")))?;
        let path = data_dir.join(FILE);
        let mut connection = Connection::open(&path).map_err(|e| unusable(&path, format!("cannot be opened: {e}")))?;
        prepare(&connection).map_err(|e| unusable(&path, format!("cannot be prepared: {e}")))?;
        let (jobs, mut queue) = mpsc::channel::<Job>(QUEUE);
        std::thread::Builder::new()
            .name("plan-store".to_owned())
            .spawn(move || {
                while let Some(job) = queue.blocking_recv() {
                    job(&mut connection);
                }
            })
            .map_err(|e| unusable(&path, format!("no thread for it: {e}")))?;
        Ok(Self { jobs })
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

fn prepare(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    // A generation that was pushed must survive the machine, not only the process.
    connection.pragma_update(None, "synchronous", "full")?;
    connection.execute_batch(include_str!("sqlite/schema.sql"))
}

#[async_trait]
impl PlanStore for SqlitePlans {
    async fn load(&self) -> Result<Saved, StoreError> {
        self.call(sql::load).await
    }
    async fn leader(&self) -> Result<Leader, StoreError> {
        self.call(|connection| sql::leader(connection)).await
    }
    async fn campaign(&self, me: &str, url: &str, seen: &Leader, now: Timestamp) -> Result<Option<Term>, StoreError> {
        let (me, url, seen) = (me.to_owned(), url.to_owned(), seen.clone());
        self.call(move |connection| sql::campaign(connection, &me, &url, &seen, now)).await
    }
    async fn renew(&self, term: Term, now: Timestamp) -> Result<bool, StoreError> {
        self.call(move |connection| sql::renew(connection, term, now)).await
    }
    async fn raise_term(&self, term: Term, above: Term) -> Result<Option<Term>, StoreError> {
        self.call(move |connection| sql::raise_term(connection, term, above)).await
    }
    async fn resign(&self, term: Term) -> Result<(), StoreError> {
        self.call(move |connection| sql::resign(connection, term)).await
    }
    async fn commit(&self, term: Term, change: Change) -> Result<(), StoreError> {
        self.call(move |connection| sql::commit(connection, term, &change)).await
    }
    async fn audit(&self, since: Since, limit: usize) -> Result<Vec<AuditRow>, StoreError> {
        self.call(move |connection| sql::audit(connection, since, limit)).await
    }
    async fn generations(&self, before: Option<Generation>, limit: usize) -> Result<Vec<GenerationRow>, StoreError> {
        self.call(move |connection| sql::generations(connection, before, limit)).await
    }
    async fn history(
        &self,
        product: Option<&Sku>,
        since: Timestamp,
        limit: usize,
    ) -> Result<Vec<(Sku, Decision)>, StoreError> {
        let product = product.cloned();
        self.call(move |connection| sql::history(connection, product.as_ref(), since, limit)).await
    }
    async fn policies(&self, limit: usize) -> Result<Vec<PolicyRow>, StoreError> {
        self.call(move |connection| sql::policies(connection, limit)).await
    }
    async fn compact(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.call(move |connection| sql::compact(connection, before)).await
    }
}
