//! The broker that the tests of one binary share: started once, gone with the process.
#![allow(dead_code, clippy::unwrap_used)]

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use eventlog::KafkaLog;
use eventlog::kafka::KafkaLogOptions;
use testkit::servers::Kafka;
use types::SystemClock;

/// An empty directory of this name in the target directory, for this process alone until it ends. Used again by later
/// runs: the broker of a static is never dropped, so nobody else could remove its data.
pub fn folder(name: &str) -> PathBuf {
    static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    for number in 0.. {
        let lock = File::create(target.join(format!("{name}-{number}.lock"))).unwrap();
        if lock.try_lock().is_err() {
            continue;
        }
        HELD.lock().unwrap().push(lock);
        let folder = target.join(format!("{name}-{number}"));
        if folder.exists() {
            std::fs::remove_dir_all(&folder).unwrap();
        }
        return folder;
    }
    unreachable!("numbers end")
}

/// The broker that all tests of this binary share.
pub fn shared_broker() -> &'static Kafka {
    static BROKER: OnceLock<Kafka> = OnceLock::new();
    BROKER.get_or_init(|| {
        let name = std::env::current_exe().unwrap().file_stem().unwrap().to_string_lossy().into_owned();
        Kafka::start(&folder(&format!("broker-{}", name.split('-').next().unwrap()))).unwrap()
    })
}

/// Its address.
pub fn shared() -> &'static str {
    static ADDRESS: OnceLock<String> = OnceLock::new();
    ADDRESS.get_or_init(|| shared_broker().bootstrap())
}

/// A log on that broker.
pub fn connect(bootstrap: &str) -> KafkaLog {
    let options = KafkaLogOptions { bootstrap: vec![bootstrap.to_owned()], ..KafkaLogOptions::default() };
    KafkaLog::connect(options, Arc::new(SystemClock::new())).unwrap()
}
