//! Expiry: releases unpaid orders when they are due, within a second. The store's compare-and-set decides
//! between expiry and payment; this only asks often enough.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::metrics;
use crate::shared::Shared;

/// How often due orders are looked for: a quarter of the second that the protocol allows.
const EVERY: Duration = Duration::from_millis(250);
/// Orders in one transaction: shares the writer with purchases.
const BATCH: usize = 500;

/// Runs until `stop`.
pub(crate) async fn run(shared: &Shared, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match shared.store.expire_due(shared.now(), BATCH).await {
            Ok(0) => {}
            Ok(expired) => {
                metrics::expired(expired as u64);
                tracing::debug!(expired, "unpaid orders expired");
                shared.wake_outbox.notify_one();
                if expired >= BATCH {
                    // More may be due: catch up without a pause.
                    continue;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "no orders were expired; trying again");
                metrics::retry("expiry");
            }
        }
        tokio::select! {
            biased;
            () = shared.sleep(EVERY) => {}
            () = stop.cancelled() => {}
        }
    }
}
