//! What others may see of the running collector: snapshots. It must never keep the collector's store open.

use std::sync::{Arc, Weak};

use tokio::sync::watch;

use crate::account::Accounting;
use crate::source::PartitionStatus;
use crate::store::{DeadLetter, Store, StoreError};
use crate::tail::FileStatus;

/// What the owner of the books last showed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Snapshot {
    pub books: Accounting,
    pub files: Vec<FileStatus>,
    pub partitions: Vec<PartitionStatus>,
    /// Whether the last look at the logs found no whole line more.
    pub idle: bool,
}

/// A view of a collector; cheap to clone, and harmless to keep.
#[derive(Debug, Clone)]
pub struct Handle {
    snapshot: watch::Receiver<Snapshot>,
    store: Weak<Store>,
}

impl Handle {
    pub(crate) fn new(snapshot: watch::Receiver<Snapshot>, store: &Arc<Store>) -> Self {
        Self { snapshot, store: Arc::downgrade(store) }
    }
    /// The books as they were last committed.
    pub fn accounting(&self) -> Accounting {
        self.snapshot.borrow().books.clone()
    }
    /// How far each log has been read.
    pub fn files(&self) -> Vec<FileStatus> {
        self.snapshot.borrow().files.clone()
    }
    /// Bytes of all logs that waited to be read when they were last looked at.
    pub fn behind_bytes(&self) -> u64 {
        self.snapshot.borrow().files.iter().map(|file| file.behind).sum()
    }
    /// How far each partition of `access-log` that is this collector's has been read.
    pub fn partitions(&self) -> Vec<PartitionStatus> {
        self.snapshot.borrow().partitions.clone()
    }
    /// Records of `access-log` that waited to be read when the log was last asked; it is asked once a second
    /// while nothing comes.
    pub fn behind_records(&self) -> u64 {
        self.snapshot.borrow().partitions.iter().map(PartitionStatus::behind).sum()
    }
    /// Whether the collector is still there to answer.
    pub(crate) fn is_running(&self) -> bool {
        self.store.strong_count() > 0
    }
    /// Whether every whole line that stands in the logs now has had its effect and no rotated file is still
    /// open. Asks the file system, so it does not lag behind a writer; of `access-log` it knows what the log
    /// last said.
    pub fn caught_up(&self) -> bool {
        // The sender is gone once the collector has ended; its last word then stands.
        let snapshot = self.snapshot.borrow();
        snapshot.idle
            && snapshot.files.iter().all(FileStatus::caught_up)
            && snapshot.partitions.iter().all(|partition| partition.behind() == 0)
    }
    /// Up to `most` dead letters with their bytes, newest first; none once the collector has ended.
    pub async fn dead_letters(&self, most: u32) -> Result<Vec<DeadLetter>, StoreError> {
        let Some(store) = self.store.upgrade() else { return Ok(Vec::new()) };
        tokio::task::spawn_blocking(move || store.dead_letters(most))
            .await
            .unwrap_or_else(|crash| Err(StoreError::Damaged(crash.to_string())))
    }
}
