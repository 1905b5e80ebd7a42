//! What other cores have decided of the attempts that were queued or granted here: the group's committed offsets tell, so that
//! a core whose partitions another one consumes does not take its own backlog for full. Decides nothing.

use std::time::Duration;

use eventlog::TopicPartition;
use tokio_util::sync::CancellationToken;

use super::consumer::group;
use crate::metrics;
use crate::shared::Shared;

/// How often the offsets are read while attempts wait: as often as the protocol would broadcast the backlog.
const EVERY: Duration = Duration::from_millis(100);

/// Runs until `stop`.
pub(crate) async fn run(shared: &Shared, stop: CancellationToken) {
    while !stop.is_cancelled() {
        tokio::select! {
            biased;
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
        look(shared).await;
    }
}

async fn look(shared: &Shared) {
    let Ok(group) = group() else { return };
    for (waiting, topic) in [(&shared.backlog, &shared.topics.queue), (&shared.granted, &shared.topics.grants)] {
        for partition in waiting.partitions() {
            let at = TopicPartition { topic: topic.clone(), partition };
            match shared.log.committed(&group, &at).await {
                Ok(Some(next)) => waiting.passed(partition, next),
                Ok(None) => {}
                // Failing is harmless: attempts leave the backlog at their deadline in any case.
                Err(error) => {
                    tracing::debug!(%error, %topic, partition, "committed offsets were not read");
                    metrics::retry("log");
                    return;
                }
            }
        }
    }
}
