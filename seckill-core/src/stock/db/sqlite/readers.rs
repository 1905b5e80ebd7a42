//! A few read-only connections used off the async threads. They never wait for the writer, nor it for them.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::SqliteStoreOptions;
use super::connect;
use super::fault::Fault;
use crate::stock::store::StoreError;

/// Reads that may wait for a connection: a tenth of a second's worth at 50 µs each on two connections.
const MAX_WAITING: usize = 4_096;

#[derive(Debug)]
pub(super) struct Readers {
    idle: Arc<Mutex<Vec<Connection>>>,
    connections: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Readers {
    pub(super) fn open(path: &Path, options: &SqliteStoreOptions) -> Result<Self, StoreError> {
        let idle = (0..options.readers).map(|_| connect::reader(path, options)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            idle: Arc::new(Mutex::new(idle)),
            connections: Arc::new(Semaphore::new(options.readers)),
            waiting: Semaphore::new(MAX_WAITING),
        })
    }

    /// Runs a read on an idle connection. It sees every commit that was answered before.
    pub(super) async fn call<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        let closed = || StoreError::Unavailable("the readers have stopped".into());
        let _place = self.waiting.try_acquire().map_err(|_| StoreError::Overloaded)?;
        let permit = Arc::clone(&self.connections).acquire_owned().await.map_err(|_| closed())?;
        let idle = Arc::clone(&self.idle);
        tokio::task::spawn_blocking(move || {
            let db = idle.lock().pop().ok_or_else(closed)?;
            let answer = work(&db);
            idle.lock().push(db);
            drop(permit);
            answer.map_err(StoreError::from)
        })
        .await
        .map_err(|e| StoreError::Unavailable(format!("a read did not finish: {e}")))?
    }
}
