//! The consumers of `purchase-grants` and `purchase-queue`: each poll's records are decided in order in one
//! call, then their offsets are committed. A consumer never waits for a product, a lease or a poison record.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use eventlog::{
    Consumer, EventLogError, Group, NewRecord, Polled, Progress, Record, Start, Subscription, TopicPartition,
};
use hashbrown::HashMap;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use types::{LeaseId, Sku, Tier, Timestamp, codec};

use super::record::{AttemptRecord, Poison, PurchaseRecord, Source};
use super::resubmit::submit_again;
use crate::metrics;
use crate::recent::Ended;
use crate::shared::Shared;
use crate::stock::store::{Attempt, Decision, MoveStep, Moved, Outcome, Resubmit, StoreError, Verdict};

/// The group of all cores: each partition has one of them.
const GROUP: &str = "seckill-core";
/// Records in one call: SQLite gains nothing beyond a few hundred, and the first waits for the last.
const BATCH: usize = 500;
/// Longest wait of one poll: also how often a consumer shows that it lives.
const POLL: Duration = Duration::from_millis(100);
/// Pause before a failed port is asked again.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Bytes of a poison record that its dead letter carries.
const DEAD_BYTES: usize = 4096;

/// The group of all cores.
pub(crate) fn group() -> Result<Group, types::Invalid> {
    Group::new(GROUP)
}

/// Consumes one topic until `stop`.
pub(crate) async fn run(shared: &Shared, source: Source, stop: CancellationToken) -> Result<(), EventLogError> {
    let topic = match source {
        Source::Grants => &shared.topics.grants,
        Source::Queue => &shared.topics.queue,
    };
    let group = group().map_err(|e| EventLogError::Refused(e.to_string()))?;
    let subscription = Subscription { group, topics: vec![topic.clone()], start: Start::Earliest };
    while !stop.is_cancelled() {
        let ended = match shared.log.subscribe(subscription.clone()).await {
            Ok(mut consumer) => consume(shared, source, consumer.as_mut(), &stop).await,
            Err(error) => Err(error),
        };
        note_held(shared, source, &[]);
        match ended {
            Ok(()) => return Ok(()),
            // What was not committed is delivered again, to whoever has the partition then.
            Err(error) if error.retryable() || matches!(error, EventLogError::NotAssigned(_)) => {
                tracing::warn!(%error, topic = %topic, "the consumer starts again");
                metrics::retry("consumer");
                pause(&stop).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn pause(stop: &CancellationToken) {
    tokio::select! {
        biased;
        () = tokio::time::sleep(BACK_OFF) => {}
        () = stop.cancelled() => {}
    }
}

async fn consume(
    shared: &Shared,
    source: Source,
    consumer: &mut dyn Consumer,
    stop: &CancellationToken,
) -> Result<(), EventLogError> {
    let (pulse, rate) = match source {
        Source::Grants => (&shared.grants_pulse, &shared.grants_rate),
        Source::Queue => (&shared.queue_pulse, &shared.queue_rate),
    };
    // Of records that have had their effect. It is committed while the next records are decided: a database and a
    // log that wait for each other would both be idle half of the time.
    let mut done: Vec<Progress> = Vec::new();
    while !stop.is_cancelled() {
        let wait = if done.is_empty() { POLL } else { Duration::ZERO };
        let polled = consumer.poll(BATCH, wait).await?;
        pulse.beat();
        let records = match polled {
            Polled::Records(records) => records,
            Polled::Idle => {
                consumer.commit(&std::mem::take(&mut done)).await?;
                continue;
            }
            Polled::Assigned(_) => {
                note_held(shared, source, &consumer.assignment());
                continue;
            }
            Polled::Revoked(lost) => {
                // Whoever has them now is told of them again, and finds the decisions.
                done.retain(|progress| !lost.contains(&progress.partition));
                note_held(shared, source, &consumer.assignment());
                continue;
            }
        };
        let (count, started) = (records.len() as u64, Instant::now());
        let progress = progress_of(&records);
        let (committed, handled) = tokio::join!(consumer.commit(&done), handle(shared, source, records, stop));
        committed?;
        if !handled {
            // Stopped in the middle: the offsets stay where they are.
            return Ok(());
        }
        done = progress;
        rate.observe(count, started.elapsed());
        metrics::rate(source.as_str(), rate.get());
        metrics::backlog(shared.backlog.len());
    }
    consumer.commit(&done).await
}

/// The queue's partitions that this core consumes itself: of those nobody else need be asked what was decided.
fn note_held(shared: &Shared, source: Source, held: &[TopicPartition]) {
    if source == Source::Queue {
        shared.backlog.held(held.iter().map(|p| p.partition));
    }
}

/// One past the last record of each partition.
fn progress_of(records: &[Record]) -> Vec<Progress> {
    let mut next: HashMap<_, u64> = HashMap::new();
    for record in records {
        let at = next.entry(record.topic_partition()).or_default();
        *at = (*at).max(record.offset + 1);
    }
    next.into_iter().map(|(partition, next)| Progress { partition, next }).collect()
}

/// Whether every record has had its effect.
async fn handle(shared: &Shared, source: Source, records: Vec<Record>, stop: &CancellationToken) -> bool {
    let mut attempts = Vec::with_capacity(records.len());
    let mut barriers = Vec::new();
    for record in records {
        match PurchaseRecord::decode(source, &record) {
            Ok(PurchaseRecord::Attempt(attempt)) => attempts.push(attempt),
            Ok(PurchaseRecord::Barrier { product, lease, .. }) => barriers.push((product, lease)),
            Err(poison) => {
                if !dead_letter(shared, source, &record, &poison, stop).await {
                    return false;
                }
            }
        }
    }
    if !attempts.is_empty() {
        let Some(verdicts) = decide(shared, &attempts, stop).await else { return false };
        let again = apply(shared, attempts, verdicts);
        if !again.is_empty() {
            // Tried once before the offset is committed; who finds no path now waits outside the partition.
            let later = submit_again(shared, again, stop).await;
            shared.resubmissions.keep(later);
        }
    }
    // Every grant before a barrier has been decided by now; one after it that was decided with them lost nothing.
    for (product, lease) in barriers {
        settle(shared, product, lease).await;
    }
    true
}

/// H4 at the barrier. Failing is harmless: the mover settles too.
async fn settle(shared: &Shared, product: Sku, lease: LeaseId) {
    match shared.store.step(MoveStep::Settle { lease }, shared.now()).await {
        Ok(Moved::Done(row) | Moved::Stale(Some(row))) => shared.table.put(row),
        Ok(Moved::Stale(None)) => {}
        Err(error) => tracing::warn!(%error, %product, "not settled at the barrier"),
    }
}

/// Has the store decide attempts, trying again while it is not reachable; `None` when stopped before that.
/// An attempt that the store cannot hold at all is taken out of the batch and never decided here.
pub(crate) async fn decide(
    shared: &Shared,
    records: &[AttemptRecord],
    stop: &CancellationToken,
) -> Option<Vec<Option<Verdict>>> {
    let now = shared.now();
    let attempts: Vec<Attempt> = records.iter().map(|r| r.attempt(shared.ids.order(now))).collect();
    if let Some(verdicts) = try_decide(shared, attempts.clone(), stop).await? {
        return Some(verdicts.into_iter().map(Some).collect());
    }
    // One of them is corrupt; alone, each shows whether it is the one.
    let mut verdicts = Vec::with_capacity(attempts.len());
    for attempt in attempts {
        let one = try_decide(shared, vec![attempt], stop).await?;
        verdicts.push(one.and_then(|v| v.into_iter().next()));
    }
    Some(verdicts)
}

/// `None`: stopped. `Some(None)`: the store says that it holds what it must not.
async fn try_decide(shared: &Shared, attempts: Vec<Attempt>, stop: &CancellationToken) -> Option<Option<Vec<Verdict>>> {
    let expected = attempts.len();
    loop {
        match shared.store.decide(attempts.clone(), shared.options.reserve_for, shared.now()).await {
            Ok(verdicts) if verdicts.len() == expected => return Some(Some(verdicts)),
            Ok(_) => {
                metrics::alarm("verdicts_missing");
                return Some(None);
            }
            // Deciding twice is harmless: the first decision is found.
            Err(error) if error.retryable() => {
                tracing::warn!(%error, "attempts were not decided; trying again");
                metrics::retry("store");
                pause(stop).await;
                if stop.is_cancelled() {
                    return None;
                }
            }
            Err(error @ StoreError::Corrupt(_)) => {
                tracing::error!(%error, attempts = expected, "attempts cannot be decided");
                metrics::alarm("store_corrupt");
                return Some(None);
            }
            Err(error) => {
                tracing::error!(%error, "attempts cannot be decided");
                return Some(None);
            }
        }
    }
}

/// What follows from a verdict for an attempt that came by a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// It has ended.
    End(Ended),
    /// It is submitted again through the path that its product has then.
    SubmitAgain {
        /// The grant contradicts the store: the lease store has lost or repeated something, and its lease must go.
        condemn: bool,
    },
    /// It stays undecided: the ticket's reader decides at its deadline.
    LeaveToDeadline,
}

/// Rules on what follows; `None` is a verdict that could not be had.
pub(crate) fn after_verdict(verdict: Option<Verdict>) -> Next {
    match verdict {
        Some(Verdict::Decided { decision, .. }) => Next::End(Ended::Decided(decision)),
        Some(Verdict::OtherBody) => Next::End(Ended::OtherBody),
        Some(Verdict::TokenUsed) => Next::End(Ended::TokenUsed),
        Some(Verdict::Resubmit(why)) => {
            Next::SubmitAgain { condemn: matches!(why, Resubmit::SequenceUsed | Resubmit::OverGranted) }
        }
        Some(Verdict::SoldOutAtDoor | Verdict::AllReservedAtDoor | Verdict::NotOnSale) | None => Next::LeaveToDeadline,
    }
}

/// Takes note of verdicts: wakes waiters, raises alarms. Answers the attempts to be submitted again.
pub(crate) fn apply(
    shared: &Shared,
    records: Vec<AttemptRecord>,
    verdicts: Vec<Option<Verdict>>,
) -> Vec<AttemptRecord> {
    let mut again = Vec::new();
    let mut accepted = false;
    for (record, verdict) in records.into_iter().zip(verdicts) {
        let name = record.name();
        let waiting = if record.grant.is_none() { &shared.backlog } else { &shared.granted };
        waiting.leave(&record.product, &name);
        let tier = if record.grant.is_some() { Tier::Redis } else { Tier::Queue };
        let mut bought = None;
        if let Some(Verdict::Decided {
            decision: Decision { outcome: Outcome::Accepted(_), .. },
            fresh: true,
            amount,
        }) = verdict
        {
            accepted = true;
            shared.meters.order_accepted(tier);
            bought = amount;
        }
        let label = if let Some(Verdict::Resubmit(why)) = verdict { resubmit_label(why) } else { "" };
        match after_verdict(verdict) {
            Next::End(ended) => {
                let ended = match (ended, bought) {
                    (Ended::Decided(decision), Some(amount)) => Ended::Bought { decision, amount, tier },
                    (ended, _) => ended,
                };
                shared.recent.ended(&name, &ended);
            }
            Next::SubmitAgain { condemn } => {
                metrics::resubmitted(label);
                if condemn {
                    condemn_lease(shared, &record, label);
                }
                again.push(record);
            }
            Next::LeaveToDeadline => metrics::left_to_deadline(),
        }
    }
    if accepted {
        shared.wake_outbox.notify_one();
    }
    again
}

/// The lease of a grant that contradicts the store is condemned: the mover fences it.
fn condemn_lease(shared: &Shared, record: &AttemptRecord, why: &'static str) {
    let Some(grant) = record.grant else { return };
    metrics::alarm(why);
    tracing::error!(product = %record.product, lease = %grant.lease, seq = grant.seq, why, "a grant contradicts the store");
    shared.condemned.lock().insert(record.product.clone(), grant.lease);
    shared.wake_mover.product(&record.product);
}

const fn resubmit_label(why: Resubmit) -> &'static str {
    match why {
        Resubmit::UnitsLeased => "units_leased",
        Resubmit::LeaseClosed => "lease_closed",
        Resubmit::SequenceUsed => "sequence_used",
        Resubmit::OverGranted => "over_granted",
    }
}

#[derive(Serialize)]
struct DeadLetter<'a> {
    source: &'a str,
    partition: u32,
    offset: u64,
    at: Timestamp,
    reason: &'static str,
    detail: String,
    /// The record's first bytes, base64.
    bytes: String,
}

/// Puts a poison record aside. Whether it lies there (else: stopped).
async fn dead_letter(
    shared: &Shared,
    source: Source,
    record: &Record,
    poison: &Poison,
    stop: &CancellationToken,
) -> bool {
    metrics::poison(source.as_str(), poison.label());
    tracing::warn!(topic = %record.topic, partition = record.partition, offset = record.offset, %poison, "poison record");
    let value = record.value.as_deref().unwrap_or_default();
    let letter = DeadLetter {
        source: record.topic.as_str(),
        partition: record.partition,
        offset: record.offset,
        at: record.at,
        reason: poison.label(),
        detail: poison.to_string(),
        bytes: STANDARD.encode(&value[..value.len().min(DEAD_BYTES)]),
    };
    let Ok(bytes) = codec::encode(&letter) else {
        metrics::alarm("dead_letter_unwritable");
        return true;
    };
    let key = format!("{}/{}", record.topic, record.partition);
    loop {
        let letter = NewRecord::keyed(Bytes::from(key.clone()), bytes.clone(), shared.now());
        match shared.append(&shared.topics.dead_letters, letter).await {
            Ok(()) => return true,
            Err(error) if error.retryable() && !stop.is_cancelled() => {
                tracing::warn!(%error, "a dead letter was not written; trying again");
                pause(stop).await;
            }
            Err(_) if stop.is_cancelled() => return false,
            Err(error) => {
                tracing::error!(%error, "a dead letter cannot be written; the record is skipped");
                metrics::alarm("dead_letter_unwritable");
                return true;
            }
        }
    }
}
