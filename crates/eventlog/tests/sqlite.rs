//! The sqlite provider keeps the promises of the port.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use async_trait::async_trait;
use eventlog::{EventLog, SqliteLog, SqliteLogOptions};
use tempfile::TempDir;
use testkit::contract::event_log::Provider;

struct Sqlite {
    log: Option<SqliteLog>,
    folder: TempDir,
}

fn open(folder: &TempDir) -> SqliteLog {
    SqliteLog::open(&folder.path().join("log.db"), SqliteLogOptions::default()).unwrap()
}

#[async_trait]
impl Provider for Sqlite {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { log: Some(open(&folder)), folder }
    }
    fn log(&self) -> Arc<dyn EventLog> {
        Arc::new(self.log.clone().unwrap())
    }
    async fn reopen(&mut self) -> bool {
        self.log = None;
        self.log = Some(open(&self.folder));
        true
    }
    async fn clean(&self) {
        self.log.as_ref().unwrap().clean().await.unwrap();
    }
}

testkit::event_log_contract!(Sqlite);
