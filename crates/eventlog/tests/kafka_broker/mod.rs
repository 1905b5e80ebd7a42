//! The broker that the tests of one binary share: started once, gone with the process.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use eventlog::KafkaLog;
use eventlog::kafka::KafkaLogOptions;
use testkit::servers::Kafka;
use types::SystemClock;

/// A directory of this name in the target directory, emptied: a static is never dropped, so the data of the last run
/// lies there until the next one.
pub fn folder(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).unwrap();
    }
    folder
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
