//! Everything the analyzer must know to go on as if it had never stopped, in one file that is replaced
//! whole or not at all. It stores and loads; when to do so, and what offsets to commit, others decide.

mod bytes;
mod wire;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use types::{PageId, Temperature, Timestamp};

use crate::engine::EngineState;
use crate::source::Taken;

/// The file's name.
pub const FILE: &str = "analyzer.checkpoint";
const LOCK: &str = "analyzer.lock";
const TEMPORARY: &str = "analyzer.checkpoint.new";
/// Largest file that is read: above what the largest configured page table can fill by far.
const MAX_FILE: u64 = 8 * 1024 * 1024 * 1024;

/// Progress in one partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartitionState {
    /// What was taken.
    pub taken: Taken,
    /// Newest event time.
    pub newest: Option<Timestamp>,
}

/// The state at one moment between two records.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checkpoint {
    /// The first report after a restart has a sequence of at least this; above all that was published.
    pub sequence: u64,
    /// Event time reached.
    pub reached: Option<Timestamp>,
    /// Progress by partition.
    pub partitions: BTreeMap<u32, PartitionState>,
    /// Events dropped as late by their own partition.
    pub late: u64,
    /// Events dropped as repeated.
    pub repeated: u64,
    /// Records that could not be read.
    pub malformed: u64,
    /// Pages in reports, with their temperature and since when they have it.
    pub since: Vec<(PageId, Temperature, Timestamp)>,
    /// The engine.
    pub engine: EngineState,
}

/// Why a checkpoint could not be used or written.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The disk refused.
    #[error("checkpoint {path}: {error}")]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Another analyzer works here; two would overwrite each other's progress.
    #[error("{path} is in use by another analyzer; give each its own state_dir")]
    InUse {
        /// Which directory.
        path: PathBuf,
    },
    /// The bytes are not a checkpoint that this program wrote whole.
    #[error("checkpoint {path} cannot be used: {why}")]
    Broken {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl CheckpointError {
    /// Whether trying again may help: a full disk may get room, broken bytes stay broken.
    pub const fn retryable(&self) -> bool {
        matches!(self, Self::Io { .. })
    }
}

/// The directory where the checkpoint lies.
#[derive(Debug, Clone)]
pub struct CheckpointStore {
    directory: PathBuf,
    // Held locked until the last clone is gone; the system lets it go when the process dies.
    _lock: Arc<File>,
}

impl CheckpointStore {
    /// Makes the directory if it is missing, and keeps others out while this store lives.
    pub fn open(directory: &Path) -> Result<Self, CheckpointError> {
        let io = |error| CheckpointError::Io { path: directory.to_owned(), error };
        fs::create_dir_all(directory).map_err(io)?;
        let lock = File::create(directory.join(LOCK)).map_err(io)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { directory: directory.to_owned(), _lock: Arc::new(lock) }),
            Err(TryLockError::WouldBlock) => Err(CheckpointError::InUse { path: directory.to_owned() }),
            Err(TryLockError::Error(error)) => Err(io(error)),
        }
    }

    /// Where the file lies.
    pub fn path(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// The checkpoint, if there is one.
    pub fn load(&self) -> Result<Option<Checkpoint>, CheckpointError> {
        let path = self.path();
        let io = |error| CheckpointError::Io { path: path.clone(), error };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        let broken = |why: String| CheckpointError::Broken { path: path.clone(), why };
        if file.metadata().map_err(io)?.len() > MAX_FILE {
            return Err(broken("it is larger than any checkpoint".to_owned()));
        }
        let mut bytes = Vec::new();
        { file }.read_to_end(&mut bytes).map_err(io)?;
        wire::decode(&bytes).map(Some).map_err(|e| broken(e.to_string()))
    }

    /// Puts a checkpoint that cannot be used aside, so that it can be looked at.
    pub fn set_aside(&self) -> Result<PathBuf, CheckpointError> {
        let (path, aside) = (self.path(), self.directory.join(format!("{FILE}.unusable")));
        fs::rename(&path, &aside).map_err(|error| CheckpointError::Io { path, error })?;
        Ok(aside)
    }

    /// Replaces the checkpoint: after a crash at any moment either the old or the new one is there, whole.
    pub fn save(&self, bytes: &[u8]) -> Result<(), CheckpointError> {
        let (temporary, path) = (self.directory.join(TEMPORARY), self.path());
        let write = || -> io::Result<()> {
            let mut file = File::create(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(&self.directory)?.sync_all()
        };
        write().map_err(|error| CheckpointError::Io { path: path.clone(), error })
    }
}

impl Checkpoint {
    /// Its bytes, with a checksum.
    pub fn encode(&self) -> Vec<u8> {
        wire::encode(self)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_half_written_successor_does_not_touch_the_checkpoint_and_broken_ones_are_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let store = CheckpointStore::open(folder.path()).unwrap();
        assert!(store.load().unwrap().is_none());
        let kept = Checkpoint { sequence: 7, ..Checkpoint::default() };
        store.save(&kept.encode()).unwrap();
        fs::write(folder.path().join(TEMPORARY), b"half").unwrap();
        assert_eq!(store.load().unwrap(), Some(kept));
        fs::write(store.path(), b"SKHEAT and then nonsense").unwrap();
        assert!(matches!(store.load(), Err(CheckpointError::Broken { .. })));
        assert!(store.set_aside().unwrap().exists());
        assert!(store.load().unwrap().is_none());
    }

    #[test]
    fn two_analyzers_never_share_a_directory() {
        let folder = tempfile::tempdir().unwrap();
        let store = CheckpointStore::open(folder.path()).unwrap();
        assert!(matches!(CheckpointStore::open(folder.path()), Err(CheckpointError::InUse { .. })));
        drop(store);
        assert!(CheckpointStore::open(folder.path()).is_ok());
    }
}
