//! The worker of refunds: asks the provider for every payment that is owed back, again and again with growing pauses,
//! until it says that the money has gone. What is owed stands in the store, so that a crash forgets no refund; asking
//! twice is harmless.

use std::time::Duration;

use futures::StreamExt as _;
use hashbrown::{HashMap, HashSet};
use tokio_util::sync::CancellationToken;
use types::{PaymentId, Timestamp};

use super::GivingBack;
use super::desk::PaymentDesk;
use crate::metrics;
use crate::shared::Shared;
use crate::stock::payment_store::PaymentRow;
use crate::stock::store::StoreError;

/// How often what is owed is looked at when nothing woke the worker: another core may have written it.
const EVERY: Duration = Duration::from_secs(1);
/// Rows of one read.
const PAGE: usize = 200;
/// Rows of one walk. Beyond it the longest owed come first, and the rest in the next walks.
const WALK: usize = 20_000;
/// Questions under way at once: a provider that answers late must not hold up the others.
const AT_ONCE: usize = 8;
/// Longest time of one question.
const ASK: Duration = Duration::from_secs(10);
/// First pause before the same refund is asked for again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause: a provider that was away for a day is asked again within a minute of its return.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How often a refund was asked for in vain, and when it is asked for next.
#[derive(Debug, Clone, Copy)]
struct Tried {
    times: u32,
    next: Timestamp,
}

impl Tried {
    fn after(before: Option<Self>, now: Timestamp) -> Self {
        let times = before.map_or(0, |tried| tried.times);
        let pause = FIRST_PAUSE.saturating_mul(1 << times.min(16)).min(LONGEST_PAUSE);
        Self { times: times.saturating_add(1), next: now.plus(pause) }
    }
}

/// Runs until `stop`.
pub(crate) async fn run(desk: &PaymentDesk, shared: &Shared, stop: CancellationToken) {
    // At most one entry per row of a walk.
    let mut tried: HashMap<PaymentId, Tried> = HashMap::new();
    while !stop.is_cancelled() {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            walked = walk(desk, shared, &mut tried) => {
                if let Err(error) = walked {
                    tracing::warn!(%error, "refunds that are due were not read");
                    metrics::retry("refunds");
                }
            }
        }
        tokio::select! {
            biased;
            () = desk.wake_refunds.notified() => {}
            () = shared.sleep(EVERY) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Looks at all that is owed, and asks for what it is time for.
async fn walk(desk: &PaymentDesk, shared: &Shared, tried: &mut HashMap<PaymentId, Tried>) -> Result<(), StoreError> {
    let (mut after, mut seen) = (None, HashSet::new());
    loop {
        let page = desk.sql.refunds_due(after, PAGE).await?;
        let full = page.len() == PAGE;
        after = page.last().map(|row| (row.at, row.payment));
        seen.extend(page.iter().map(|row| row.payment));
        let now = shared.now();
        let time_for = |row: &PaymentRow| tried.get(&row.payment).is_none_or(|tried| tried.next <= now);
        let asked: Vec<_> = page.into_iter().filter(time_for).collect();
        let ends: Vec<_> = futures::stream::iter(asked)
            .map(|row| async move { (row.payment, give_back(desk, shared, row).await) })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        for (payment, gone) in ends {
            if gone {
                seen.remove(&payment);
            } else {
                let before = tried.get(&payment).copied();
                tried.insert(payment, Tried::after(before, shared.now()));
            }
        }
        if !full || seen.len() >= WALK {
            break;
        }
    }
    // Those that are gone, by whichever core.
    tried.retain(|payment, _| seen.contains(payment));
    metrics::refunds_due(seen.len());
    Ok(())
}

/// Asks for one refund, then says in the store that the money has gone; whether both were done.
async fn give_back(desk: &PaymentDesk, shared: &Shared, row: PaymentRow) -> bool {
    let asked = tokio::time::timeout(ASK, desk.provider.refund(row.payment, row.amount)).await;
    match asked {
        Ok(Ok(GivingBack::Gone)) => {}
        Ok(Ok(GivingBack::Later)) => {
            metrics::refund_asked("later");
            return false;
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, payment = %row.payment, "a refund is due and was not made");
            metrics::refund_asked("failed");
            return false;
        }
        Err(_) => {
            tracing::warn!(payment = %row.payment, "the provider did not answer about a refund");
            metrics::refund_asked("no_answer");
            return false;
        }
    }
    metrics::refund_asked("gone");
    match desk.sql.refunded(row.payment, shared.now()).await {
        Ok(_) => {
            shared.wake_outbox.notify_one();
            true
        }
        Err(error) => {
            tracing::warn!(%error, payment = %row.payment, "a refund was made and not noted; it is asked for again");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pauses_grow_and_stay_bounded() {
        let now = Timestamp::default();
        let mut tried = None;
        let mut pauses = Vec::new();
        for _ in 0..40 {
            let next = Tried::after(tried, now);
            pauses.push(next.next.since(now).as_secs());
            tried = Some(next);
        }
        assert_eq!(pauses[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(pauses.iter().all(|pause| *pause <= 60));
    }
}
