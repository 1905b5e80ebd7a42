//! The memory provider keeps the promises of the port.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use async_trait::async_trait;
use eventlog::{EventLog, MemoryLog};
use testkit::contract::event_log::Provider;

struct Memory(MemoryLog);

#[async_trait]
impl Provider for Memory {
    async fn open() -> Self {
        Self(MemoryLog::new())
    }
    fn log(&self) -> Arc<dyn EventLog> {
        Arc::new(self.0.clone())
    }
    async fn reopen(&mut self) -> bool {
        false
    }
}

testkit::event_log_contract!(Memory);
