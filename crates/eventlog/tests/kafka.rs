//! The kafka provider keeps the promises of the port, on a real broker.
#![cfg(feature = "kafka")]
#![allow(clippy::unwrap_used)]

mod kafka_broker;

use std::sync::Arc;

use async_trait::async_trait;
use eventlog::{EventLog, KafkaLog};
use testkit::contract::event_log::Provider;

struct Kafka {
    log: KafkaLog,
}

#[async_trait]
impl Provider for Kafka {
    async fn open() -> Self {
        Self { log: kafka_broker::connect(kafka_broker::shared()) }
    }
    fn log(&self) -> Arc<dyn EventLog> {
        Arc::new(self.log.clone())
    }
    async fn reopen(&mut self) -> bool {
        self.log = kafka_broker::connect(kafka_broker::shared());
        true
    }
}

testkit::event_log_contract!(Kafka);
