//! Retention: walks through orders, refusals, used tokens and counters again and again, and forgets whose they were
//! once they are older than the shop keeps buyers. Each step is small and followed by a pause, so that no purchase
//! waits for it; several cores that do the same find nothing left to do.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use types::{Invalid, Timestamp};

use crate::metrics;
use crate::shared::Shared;
use crate::stock::retention_store::Walked;
use crate::stock::sql_store::SqlStore;
use crate::stock::store::StoreError;

/// Orders' places in one step.
const SPAN: u64 = 500;
/// Rows of the other tables in one step.
const ROWS: usize = 500;
/// Pause between two steps: one step takes some milliseconds of the writer.
const PAUSE: Duration = Duration::from_millis(200);
/// Pause between two walks.
const EVERY: Duration = Duration::from_secs(3_600);
/// Shortest time that buyers are kept: a retry of a purchase, a live client's cursor and a late payment end far below.
const SHORTEST: Duration = Duration::from_secs(24 * 3_600);

/// How long buyers are remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionOptions {
    /// How long after its last change, and after the end of its sale, an order still names its buyer; and how long a
    /// refusal is kept. `0ms`: for ever.
    #[serde(with = "types::time::duration_text")]
    pub buyers: Duration,
}

impl Default for RetentionOptions {
    fn default() -> Self {
        Self { buyers: Duration::ZERO }
    }
}

impl RetentionOptions {
    /// Checks what serde cannot; the refusal names the field.
    pub fn check(&self) -> Result<(), Invalid> {
        if !self.buyers.is_zero() && self.buyers < SHORTEST {
            return Err(Invalid::new("retention.buyers", format!("is below {SHORTEST:?}; 0ms keeps them for ever")));
        }
        Ok(())
    }
}

/// Runs until `stop`.
pub(crate) async fn run(shared: Arc<Shared>, sql: Arc<dyn SqlStore>, stop: CancellationToken) {
    let keep = shared.options.retention.buyers;
    if keep.is_zero() {
        stop.cancelled().await;
        return;
    }
    while !stop.is_cancelled() {
        let walk = walk(&*sql, shared.now().minus(keep));
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            end = walk => match end {
                Ok(0) => {}
                Ok(rows) => tracing::info!(rows, "buyers were forgotten after their time"),
                Err(error) => {
                    tracing::warn!(%error, "buyers were not all forgotten; trying again");
                    metrics::retry("retention");
                }
            }
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// One walk through everything from before `before`; how many rows were changed or removed.
async fn walk(sql: &dyn SqlStore, before: Timestamp) -> Result<usize, StoreError> {
    let mut all = 0;
    let last = sql.last_arrival().await?;
    let mut place = 0;
    while place < last {
        let to = last.min(place + SPAN);
        all += noted("orders", sql.forget_orders(place, to, before).await?).await;
        place = to;
    }
    let mut walked: Option<Walked> = None;
    loop {
        let (forgotten, next) = sql.forget_refusals(walked, ROWS, before).await?;
        all += noted("refusals", forgotten).await;
        walked = next;
        if walked.is_none() {
            break;
        }
    }
    loop {
        let forgotten = noted("tokens", sql.forget_tokens(ROWS).await?).await;
        all += forgotten;
        if forgotten < ROWS {
            break;
        }
    }
    loop {
        let forgotten = noted("counters", sql.forget_counters(ROWS, before).await?).await;
        all += forgotten;
        if forgotten < ROWS {
            return Ok(all);
        }
    }
}

async fn noted(what: &'static str, rows: usize) -> usize {
    metrics::forgotten(what, rows as u64);
    tokio::time::sleep(PAUSE).await;
    rows
}
