//! Reads topic `heat-reports` and hands each report on. It commits nothing: the view lives in memory and
//! is rebuilt from the newest reports, so old progress would only bring old heat.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eventlog::{EventLog, EventLogError, Group, Polled, Progress, Start, Subscription, Topic};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use types::{Clock, HeatReport};

use crate::metrics as names;

/// Records read back from the end at a start: two snapshots' worth at four reports a second, so that the
/// view is whole at once.
const RECENT: u64 = 80;
/// Records in one poll; reports are large.
const BATCH: usize = 64;
/// Waiting time of a poll.
const WAIT: Duration = Duration::from_millis(500);
/// Between tries while the log is not reachable or the topic does not exist yet.
const RETRY: Duration = Duration::from_millis(500);

/// A decoded report with the key of its record (the analyzer's shard).
#[derive(Debug)]
pub(crate) struct ShardReport {
    /// The record's key.
    pub shard: Bytes,
    /// The report.
    pub report: HeatReport,
}

/// Consumes until `shutdown`, or until nobody listens. Only an error that no retry can help ends it early.
pub(crate) async fn run(
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    me: &str,
    reports: mpsc::Sender<ShardReport>,
    shutdown: CancellationToken,
) -> Result<(), EventLogError> {
    let mut said = false;
    while !shutdown.is_cancelled() {
        match follow(&log, me, &reports, &shutdown).await {
            Ok(()) => return Ok(()),
            Err(EventLogError::Closed) if shutdown.is_cancelled() => return Ok(()),
            // The topic is made by whoever writes to it; it may come after us. A lost assignment is given again.
            Err(e) if e.retryable() || matches!(e, EventLogError::NoSuchTopic(_) | EventLogError::NotAssigned(_)) => {
                // Once, not twice a second for as long as it lasts.
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(error = %e, "heat reports cannot be read yet; trying again until they can");
                }
            }
            Err(e) => return Err(e),
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(clock.real(RETRY)) => {}
        }
    }
    Ok(())
}

async fn follow(
    log: &Arc<dyn EventLog>,
    me: &str,
    reports: &mpsc::Sender<ShardReport>,
    shutdown: &CancellationToken,
) -> Result<(), EventLogError> {
    let refused = |e: types::Invalid| EventLogError::Refused(e.to_string());
    let topic = Topic::new(types::topics::HEAT_REPORTS).map_err(refused)?;
    // A group of its own: a stand-by reads everything too, so that it is warm when it takes over.
    let plain: String = me.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(64).collect();
    let group = Group::new(format!("control-plane-{plain}")).map_err(refused)?;
    let mut consumer = log.subscribe(Subscription { group, topics: vec![topic], start: Start::Latest }).await?;
    loop {
        let polled = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            polled = consumer.poll(BATCH, WAIT) => polled?,
        };
        match polled {
            Polled::Records(records) => {
                for record in records {
                    let Some(value) = record.value else { continue };
                    let report = match types::codec::decode::<HeatReport>(&value) {
                        Ok(report) => report,
                        Err(e) => {
                            metrics::counter!(names::HEAT_REPORTS, "fate" => "malformed").increment(1);
                            tracing::warn!(error = %e, partition = record.partition, offset = record.offset,
                                "a heat report cannot be read; skipped");
                            continue;
                        }
                    };
                    if reports.send(ShardReport { shard: record.key.unwrap_or_default(), report }).await.is_err() {
                        return Ok(());
                    }
                }
            }
            Polled::Assigned(partitions) => {
                for partition in partitions {
                    let end = log.end_offset(&partition).await?;
                    consumer.seek(&Progress { partition, next: end.saturating_sub(RECENT) }).await?;
                }
            }
            Polled::Revoked(_) | Polled::Idle => {}
        }
    }
}
