//! Attempts that the store could neither accept nor refuse on the path they came by: they are submitted again
//! through the current path, under the same key and deadline. Nothing is decided by a fence, and no partition
//! waits for any of this.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use types::{Phase, Tier, Timestamp};

use super::consumer::{apply, decide};
use super::path as queue_path;
use super::record::AttemptRecord;
use crate::metrics;
use crate::shared::Shared;
use crate::stock::redis::path::{self as redis_path, Sent};
use crate::stock::store::ProductRow;

/// Attempts that may wait for a path at once; one more is left to its deadline, where its reader decides it.
const MAX_WAITING: usize = 20_000;
/// How long an attempt waits before the next try: a move takes about this long.
const PAUSE: Duration = Duration::from_millis(25);
/// Attempts tried in one go, as in a consumer's batch.
const BATCH: usize = 500;

/// The attempts that wait.
#[derive(Default)]
pub(crate) struct Resubmissions(Mutex<VecDeque<AttemptRecord>>);

impl Resubmissions {
    /// Keeps attempts for later; those beyond the bound are left to their deadline.
    pub(crate) fn keep(&self, attempts: Vec<AttemptRecord>) {
        let mut waiting = self.0.lock();
        for attempt in attempts {
            if waiting.len() < MAX_WAITING {
                waiting.push_back(attempt);
            } else {
                metrics::left_to_deadline();
            }
        }
    }

    fn take(&self, most: usize) -> Vec<AttemptRecord> {
        let mut waiting = self.0.lock();
        let n = most.min(waiting.len());
        waiting.drain(..n).collect()
    }

    fn len(&self) -> usize {
        self.0.lock().len()
    }
}

/// The path by which an attempt is submitted again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// The store rules on it now, from `free`.
    FromFree,
    /// Behind the others in the queue.
    Queue,
    /// A grant of the present lease.
    Lease,
    /// None yet: it waits for the move to end.
    Wait,
}

/// Chooses the path for an attempt with this deadline; `row` is its product as this core knows it.
pub(crate) fn route(row: Option<&ProductRow>, deadline: Timestamp, now: Timestamp) -> Route {
    match row {
        // The sale is closed, or time is up: the store says so, for ever.
        None => Route::FromFree,
        Some(_) if now > deadline => Route::FromFree,
        Some(row) => match (row.state.phase, row.state.tier) {
            (Phase::Draining, _) => Route::Wait,
            (Phase::Active, Tier::Db) => Route::FromFree,
            (Phase::Active, Tier::Queue) => Route::Queue,
            (Phase::Active, Tier::Redis) => Route::Lease,
        },
    }
}

/// What is left to do for an attempt after the lease path; `None`: nothing, it is on its way.
pub(crate) const fn after_send(sent: Sent) -> Option<Route> {
    match sent {
        Sent::Appended => None,
        // Other body: two calls with one key; the store knows which counts.
        Sent::OtherBody | Sent::Short | Sent::Limit | Sent::OutsideWindow => Some(Route::FromFree),
        Sent::Stale | Sent::Failed => Some(Route::Wait),
    }
}

/// Submits attempts through the path that their product has now. Answers those that found none.
pub(crate) async fn submit_again(
    shared: &Shared,
    attempts: Vec<AttemptRecord>,
    stop: &CancellationToken,
) -> Vec<AttemptRecord> {
    let mut later = Vec::new();
    let mut from_free = Vec::new();
    for mut attempt in attempts {
        attempt.grant = None;
        let slot = shared.table.get(&attempt.product);
        if let Some(slot) = &slot
            && let Err(error) = shared.table.reread(slot).await
        {
            tracing::warn!(%error, product = %attempt.product, "a product was not read again");
        }
        let row = slot.map(|slot| slot.row());
        let mut way = Some(route(row.as_deref(), attempt.deadline, shared.now()));
        if way == Some(Route::Queue) {
            way = match queue_path::append(shared, attempt.clone()).await {
                Ok(()) => None,
                Err(error) => {
                    tracing::warn!(%error, product = %attempt.product, "an attempt was not queued again");
                    Some(Route::Wait)
                }
            };
        } else if let (Some(Route::Lease), Some(row)) = (way, &row) {
            way = after_send(redis_path::send(shared, row, attempt.clone()).await);
        }
        match way {
            None => {}
            Some(Route::FromFree) => from_free.push(attempt),
            Some(Route::Queue | Route::Lease | Route::Wait) => later.push(attempt),
        }
    }
    if !from_free.is_empty() {
        match decide(shared, &from_free, stop).await {
            Some(verdicts) => later.extend(apply(shared, from_free, verdicts)),
            None => later.extend(from_free),
        }
    }
    later
}

/// Tries waiting attempts again and again until each has found a path or its end.
pub(crate) async fn run(shared: &Shared, stop: CancellationToken) {
    while !stop.is_cancelled() {
        tokio::select! {
            biased;
            () = tokio::time::sleep(PAUSE) => {}
            () = stop.cancelled() => break,
        }
        // One round over those that wait now; what fails again waits for the next round.
        let mut left = shared.resubmissions.len();
        while left > 0 && !stop.is_cancelled() {
            let batch = shared.resubmissions.take(BATCH.min(left));
            left -= batch.len();
            if batch.is_empty() {
                break;
            }
            let later = submit_again(shared, batch, &stop).await;
            shared.resubmissions.keep(later);
        }
    }
    let waiting = shared.resubmissions.len();
    if waiting > 0 {
        tracing::info!(waiting, "attempts are left to their deadline");
    }
}
