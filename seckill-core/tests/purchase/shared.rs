//! The real servers of this test binary: each started once, when a story first needs it, and shared by all. They end
//! with the process. A story that harms one has all of them to itself meanwhile.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock};

use testkit::servers::{Kafka, MariaDb, Redis};
use tokio::sync::RwLock;

/// Held for reading by every story that needs a server, for writing by one that kills servers.
pub static UNHARMED: RwLock<()> = RwLock::const_new(());
/// Runs of this binary that may go on at once.
const SLOTS: u32 = 16;

/// A folder that no other running process uses; what a run before has left there is wiped.
fn folder() -> &'static Path {
    static FOLDER: OnceLock<(PathBuf, File)> = OnceLock::new();
    let (path, _lock) = FOLDER.get_or_init(|| {
        let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let free = |slot| {
            let lock = File::create(base.join(format!("purchase-{slot}.lock"))).unwrap();
            lock.try_lock().is_ok().then(|| (base.join(format!("purchase-{slot}")), lock))
        };
        let (path, lock) = (0..SLOTS).find_map(free).expect("too many runs at once");
        let _absent = std::fs::remove_dir_all(&path);
        (path, lock)
    });
    path
}

/// Starts a server once and answers it; whoever comes meanwhile waits.
fn shared<S>(server: &'static OnceLock<Mutex<S>>, start: impl FnOnce(&Path) -> S) -> MutexGuard<'static, S> {
    let server = tokio::task::block_in_place(|| server.get_or_init(|| Mutex::new(start(folder()))));
    // A story that failed while it held one has not broken the server.
    server.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

pub fn mariadb() -> MutexGuard<'static, MariaDb> {
    static SERVER: OnceLock<Mutex<MariaDb>> = OnceLock::new();
    shared(&SERVER, |folder| MariaDb::start(&folder.join("mariadb")).unwrap())
}

/// Without a memory of its own, as the protocol wants it.
pub fn redis() -> MutexGuard<'static, Redis> {
    static SERVER: OnceLock<Mutex<Redis>> = OnceLock::new();
    shared(&SERVER, |folder| Redis::start_with(&folder.join("redis"), &["appendonly no"]).unwrap())
}

pub fn kafka() -> MutexGuard<'static, Kafka> {
    static SERVER: OnceLock<Mutex<Kafka>> = OnceLock::new();
    shared(&SERVER, |folder| Kafka::start(&folder.join("kafka")).unwrap())
}
