//! How long each leg of the loop takes, seen from outside: a reader of the event log compares when a record
//! came with the time that the log line or its maker gave it. It only reads, with a group of its own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use eventlog::{EventLog, Group, Polled, Record, Start, Subscription, Topic};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use types::{Clock, HeatReport, Timestamp, codec, topics};

use super::stats::Histogram;

/// Records of one poll.
const AT_ONCE: usize = 1_000;
/// How long one poll waits.
const WAIT: Duration = Duration::from_millis(200);

/// A part of the loop, in the loop's order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Leg {
    /// From the shopper's answer, when the line was written, to the shipper's record in the event log.
    LineToRecord,
    /// From the line to its product event in the event log: shipper and collector together.
    LineToEvent,
    /// From the analyzer's tick to its report in the event log.
    TickToReport,
    /// From the planner's decision to the move applied in the core.
    DecisionToMove,
}

impl fmt::Display for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::LineToRecord => "line written → shipped",
            Self::LineToEvent => "line written → product event",
            Self::TickToReport => "analyzer's tick → heat report",
            Self::DecisionToMove => "decision → move applied",
        })
    }
}

/// Times by leg, shared between those who measure and the report. Real time, whatever the demo's speed.
#[derive(Clone, Default)]
pub struct Legs(Arc<Mutex<BTreeMap<Leg, Histogram>>>);

impl Legs {
    /// Adds one passage.
    pub fn add(&self, leg: Leg, took: Duration) {
        self.0.lock().entry(leg).or_default().add(took);
    }
    /// All so far.
    pub fn snapshot(&self) -> BTreeMap<Leg, Histogram> {
        self.0.lock().clone()
    }

    /// Joins the event log, behind its newest records; `shipped` says whether there is a topic of raw lines.
    pub async fn follow(
        self,
        log: Arc<dyn EventLog>,
        clock: Arc<dyn Clock>,
        shipped: bool,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut names = vec![topics::PRODUCT_EVENTS, topics::HEAT_REPORTS];
        if shipped {
            names.push(topics::ACCESS_LOG);
        }
        let topics = names.into_iter().map(Topic::new).collect::<Result<_, _>>()?;
        let group = Group::new(format!("demo-legs-{:08x}", rand::random::<u32>()))?;
        let mut consumer = log.subscribe(Subscription { group, topics, start: Start::Latest }).await?;
        while !stop.is_cancelled() {
            if let Polled::Records(records) = consumer.poll(AT_ONCE, WAIT).await? {
                let now = clock.now();
                for record in &records {
                    self.note(record, now, &*clock).with_context(|| format!("a record of {}", record.topic))?;
                }
            }
        }
        Ok(())
    }

    fn note(&self, record: &Record, now: Timestamp, clock: &dyn Clock) -> anyhow::Result<()> {
        let value = record.value.as_deref().unwrap_or_default();
        let passed = |leg, since: Timestamp| self.add(leg, clock.real(now.since(since)));
        match record.topic.as_str() {
            topics::ACCESS_LOG => {
                if let Some(written) = line_time(value) {
                    passed(Leg::LineToRecord, written);
                }
            }
            topics::PRODUCT_EVENTS => {
                for event in product_events::decode(value)?.events {
                    passed(Leg::LineToEvent, event.at);
                }
            }
            topics::HEAT_REPORTS => passed(Leg::TickToReport, codec::decode::<HeatReport>(value)?.made_at),
            _ => {}
        }
        Ok(())
    }
}

/// The time that the edge's line in a shipper's record gives; none for the malformed lines that a log has too.
fn line_time(record: &[u8]) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Shipped {
        message: String,
    }
    #[derive(Deserialize)]
    struct Line {
        time: Timestamp,
    }
    let shipped: Shipped = serde_json::from_slice(record).ok()?;
    Some(serde_json::from_str::<Line>(&shipped.message).ok()?.time)
}
