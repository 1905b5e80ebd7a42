//! The outbox relay: order events that the store wrote with their cause go to the topic `order-events`, in their
//! order and at least once. It marks an event relayed only after the log has it.

use std::time::Duration;

use bytes::Bytes;
use eventlog::NewRecord;
use tokio_util::sync::CancellationToken;
use types::{OrderEvent, codec};

use crate::metrics;
use crate::shared::Shared;
use crate::stock::queue::record::REQUEST_ID;

/// Events in one append.
const BATCH: usize = 500;
/// Rest after a pass that found few events: those of the next group commits travel together. Live updates and shops
/// hear of them this much later.
const REST: Duration = Duration::from_millis(5);
/// How often the outbox is looked at when nothing woke the relay: another core may have written.
const EVERY: Duration = Duration::from_millis(100);
/// Rounds of the last relay at shutdown: enough for any backlog that one core leaves, and an end in any case.
const LAST_ROUNDS: usize = 200;

/// Runs until `stop`, then relays what is left.
pub(crate) async fn run(shared: &Shared, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let relayed = relay(shared).await;
        if relayed >= BATCH {
            continue;
        }
        if relayed > 0 {
            tokio::select! {
                biased;
                () = tokio::time::sleep(REST) => {}
                () = stop.cancelled() => {}
            }
        }
        tokio::select! {
            biased;
            () = shared.wake_outbox.notified() => {}
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => {}
        }
    }
    for _ in 0..LAST_ROUNDS {
        if relay(shared).await < BATCH {
            break;
        }
    }
}

/// Relays one batch; how many events it had.
async fn relay(shared: &Shared) -> usize {
    match try_relay(shared).await {
        Ok(relayed) => {
            if relayed > 0 {
                metrics::relayed(relayed as u64);
            }
            relayed
        }
        Err(error) => {
            tracing::warn!(error, "order events wait in the outbox");
            metrics::retry("outbox");
            0
        }
    }
}

async fn try_relay(shared: &Shared) -> Result<usize, String> {
    let events = shared.store.outbox(BATCH).await.map_err(|e| e.to_string())?;
    let Some(last) = events.last().map(|event| event.sequence) else { return Ok(0) };
    let records = events.iter().map(|event| record(shared, event)).collect::<Result<Vec<_>, _>>()?;
    let count = records.len();
    shared.log.append(&shared.topics.order_events, records).await.map_err(|e| e.to_string())?;
    shared.store.outbox_relayed(last).await.map_err(|e| e.to_string())?;
    Ok(count)
}

fn record(shared: &Shared, event: &OrderEvent) -> Result<NewRecord, String> {
    let value = codec::encode(event).map_err(|e| e.to_string())?;
    let record = NewRecord::keyed(Bytes::from(event.order.to_string()), value, shared.now());
    Ok(match &event.request {
        Some(id) => record.header(REQUEST_ID, Bytes::copy_from_slice(id.as_str().as_bytes())),
        None => record,
    })
}
