//! The loop: poll, take, tick, publish, keep, commit; in that order, so that progress is committed after
//! its effect. It tries again what may help later, and ends on what cannot.

use std::sync::Arc;
use std::time::Duration;

use eventlog::{
    Consumer, EventLog, EventLogError, Group, NewRecord, Polled, Progress, Start, Subscription, Topic, TopicPartition,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use types::{Clock, HeatReport, Timestamp, codec, topics};

use super::AnalyzerError;
use crate::analysis::Analysis;
use crate::checkpoint::{CheckpointError, CheckpointStore};
use crate::live::LiveHeat;
use crate::metrics;
use crate::options::Options;

/// Records of one poll: the loop looks at the tick between polls, and a record holds up to some thousand events.
const POLL_RECORDS: usize = 256;
/// Longest wait in one poll, by the machine's time: shutdown is noticed within this.
const POLL_WAIT: Duration = Duration::from_millis(250);
/// Wait after a failed step, by the machine's time.
const RETRY_WAIT: Duration = Duration::from_millis(250);
/// Reports of one append.
const APPEND_REPORTS: usize = 500;
/// Bytes of one append beyond its first report.
const APPEND_BYTES: usize = 8 * 1024 * 1024;
/// While this many reports wait, no more records are read.
const MAX_WAITING: usize = 10_000;
/// A checkpoint is due when fewer report numbers than this are set aside.
const LEAST_NUMBERS: u64 = 200_000;
/// The one shard of this analyzer: the key of its reports.
const SHARD: &str = "0";

pub(super) struct Worker {
    options: Options,
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    store: CheckpointStore,
    live: Arc<LiveHeat>,
    events: Topic,
    reports: Topic,
    group: Group,
}

// What exists only while it runs.
struct Running {
    consumer: Box<dyn Consumer>,
    analysis: Analysis,
    // Report numbers below this may be published: a kept checkpoint goes on above.
    numbers_to: u64,
    kept_at: Timestamp,
    heard_at: Timestamp,
}

impl Worker {
    pub(super) fn new(
        options: Options,
        log: Arc<dyn EventLog>,
        clock: Arc<dyn Clock>,
        store: CheckpointStore,
        live: Arc<LiveHeat>,
    ) -> Result<Self, AnalyzerError> {
        let (events, reports) = (Topic::new(topics::PRODUCT_EVENTS)?, Topic::new(topics::HEAT_REPORTS)?);
        let group = Group::new(&options.group)?;
        Ok(Self { options, log, clock, store, live, events, reports, group })
    }

    fn partition(&self, partition: u32) -> TopicPartition {
        TopicPartition { topic: self.events.clone(), partition }
    }

    pub(super) async fn run(self, stop: &CancellationToken) -> Result<(), AnalyzerError> {
        let subscription =
            Subscription { group: self.group.clone(), topics: vec![self.events.clone()], start: Start::Earliest };
        let consumer = loop {
            match self.log.subscribe(subscription.clone()).await {
                Ok(consumer) => break consumer,
                // The topic is made by the collector, which may come after us.
                Err(error) if error.retryable() || matches!(error, EventLogError::NoSuchTopic(_)) => {
                    self.pause("subscribe", &error, stop).await;
                }
                Err(error) => return Err(error.into()),
            }
            if stop.is_cancelled() {
                return Ok(());
            }
        };
        let now = self.clock.now();
        let analysis = self.restore().await?;
        let mut running = Running { consumer, analysis, numbers_to: 0, kept_at: now, heard_at: now };
        let tick = self.clock.real(self.options.tick);
        let mut next_tick = Instant::now() + tick;
        while !stop.is_cancelled() {
            if !self.has_numbers(&mut running).await {
                self.wait(RETRY_WAIT, stop).await;
                continue;
            }
            let left = next_tick.saturating_duration_since(Instant::now()).min(POLL_WAIT);
            if running.analysis.outbox().len() >= MAX_WAITING {
                self.wait(left, stop).await;
            } else {
                match running.consumer.poll(POLL_RECORDS, left).await {
                    Ok(polled) => self.polled(&mut running, polled).await?,
                    Err(error) if error.retryable() => self.pause("poll", &error, stop).await,
                    Err(error) => return Err(error.into()),
                }
            }
            if running.analysis.outbox().len() >= APPEND_REPORTS {
                self.publish(&mut running).await?;
            }
            let now = Instant::now();
            if now >= next_tick {
                self.tick(&mut running).await?;
                // A tick that came late does not make the next ones come early.
                next_tick = (next_tick + tick).max(now);
            }
        }
        self.publish(&mut running).await?;
        self.keep(&mut running).await;
        Ok(())
    }

    async fn wait(&self, time: Duration, stop: &CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = tokio::time::sleep(time) => {}
        }
    }

    async fn pause(&self, step: &'static str, error: &EventLogError, stop: &CancellationToken) {
        metrics::failed(step);
        tracing::warn!(step, %error, "will be tried again");
        self.wait(RETRY_WAIT, stop).await;
    }

    /// The analysis as the last checkpoint left it. One that cannot be used is put aside, loudly: heat is
    /// rebuilt from the log within a minute, and a service that does not start would be worse.
    async fn restore(&self) -> Result<Analysis, AnalyzerError> {
        let now = self.clock.now();
        let kept = match self.store.load() {
            Ok(kept) => kept,
            Err(error @ CheckpointError::Broken { .. }) => {
                let aside = self.store.set_aside()?;
                tracing::error!(%error, aside = %aside.display(), "starting without a checkpoint");
                None
            }
            Err(error) => return Err(error.into()),
        };
        // Without a checkpoint numbers begin at the clock's milliseconds, above those of any run before.
        let fresh = u64::try_from(now.millis()).unwrap_or(0).max(1);
        let Some(mut kept) = kept else {
            return Ok(Analysis::new(&self.options, Arc::clone(&self.live), fresh)?);
        };
        let sequence = kept.sequence;
        for (partition, state) in &kept.partitions {
            let end = match self.log.end_offset(&self.partition(*partition)).await {
                Ok(end) => end,
                // The topic has fewer partitions than it had: another log as well.
                Err(error) if !error.retryable() => 0,
                Err(error) => return Err(error.into()),
            };
            if state.taken.next > end {
                tracing::error!(partition, next = state.taken.next, end, "the checkpoint is of another log; not used");
                let aside = self.store.set_aside()?;
                tracing::error!(aside = %aside.display(), "starting without a checkpoint");
                kept = crate::checkpoint::Checkpoint::default();
                kept.sequence = sequence;
                break;
            }
        }
        match Analysis::restore(&self.options, Arc::clone(&self.live), kept, now) {
            Ok(analysis) => Ok(analysis),
            Err(error) => {
                let aside = self.store.set_aside()?;
                tracing::error!(%error, aside = %aside.display(), "starting without a checkpoint");
                Ok(Analysis::new(&self.options, Arc::clone(&self.live), sequence)?)
            }
        }
    }

    async fn polled(&self, running: &mut Running, polled: Polled) -> Result<(), AnalyzerError> {
        match polled {
            Polled::Idle => {}
            Polled::Records(records) => {
                running.heard_at = self.clock.now();
                let mine: Vec<_> = records.into_iter().filter(|record| record.topic == self.events).collect();
                self.wake(running).await;
                running.analysis.take(&mine, running.heard_at);
            }
            Polled::Assigned(partitions) => {
                for partition in partitions {
                    self.assigned(running, &partition).await?;
                }
            }
            Polled::Revoked(partitions) => {
                tracing::info!(?partitions, "partitions revoked");
                self.publish(running).await?;
                for partition in &partitions {
                    running.analysis.revoke(partition.partition);
                }
                self.keep(running).await;
            }
        }
        Ok(())
    }

    async fn assigned(&self, running: &mut Running, partition: &TopicPartition) -> Result<(), AnalyzerError> {
        let committed = self.log.committed(&self.group, partition).await?;
        let counted = running.analysis.resumes_at(partition.partition);
        // Commits follow checkpoints: a commit beyond what was counted here is another member's.
        let next = counted.max(committed).unwrap_or(0);
        if counted.is_none() && committed.is_some_and(|next| next > 0) {
            tracing::warn!(%partition.topic, partition = partition.partition, next, "no checkpoint; earlier events are not counted");
        }
        running.analysis.assign(partition.partition, next, self.clock.now());
        if Some(next) != committed {
            running.consumer.seek(&Progress { partition: partition.clone(), next }).await?;
        }
        // A partition that never had an event and has none waiting need not be waited for.
        if counted.is_none() && self.log.end_offset(partition).await? <= next {
            running.analysis.mark_idle(partition.partition);
        }
        tracing::info!(partition = partition.partition, next, "partition assigned");
        Ok(())
    }

    /// After a pause every partition may have records waiting, and a poll brings those of one before those of
    /// another: whoever is still called idle then would find windows closed before its own events.
    async fn wake(&self, running: &mut Running) {
        for (partition, next) in running.analysis.idle() {
            match self.log.end_offset(&self.partition(partition)).await {
                Ok(end) if end > next => running.analysis.wake(partition, running.heard_at),
                Ok(_) => {}
                Err(error) => {
                    metrics::failed("end");
                    tracing::warn!(partition, %error, "cannot ask where the partition ends");
                }
            }
        }
    }

    async fn tick(&self, running: &mut Running) -> Result<(), AnalyzerError> {
        let started = Instant::now();
        let now = self.clock.now();
        for (partition, next) in running.analysis.silent(now) {
            // Some logs have offsets that are nobody's records, so that the end is never reached: if the
            // whole consumer has brought nothing for twice as long, nothing waits either.
            let silent = now.since(running.heard_at) >= 2 * self.options.idle;
            match self.log.end_offset(&self.partition(partition)).await {
                Ok(end) if end <= next || silent => running.analysis.mark_idle(partition),
                Ok(_) => {}
                Err(error) => {
                    metrics::failed("end");
                    tracing::warn!(partition, %error, "cannot ask where the partition ends");
                }
            }
        }
        for (partition, next) in running.analysis.may_go_on() {
            let to = Progress { partition: self.partition(partition), next };
            match running.consumer.seek(&to).await {
                Ok(()) => running.analysis.unpark(partition),
                Err(error) => {
                    metrics::failed("seek");
                    tracing::warn!(partition, %error, "cannot read on; will be tried again");
                }
            }
        }
        running.analysis.tick(now);
        ::metrics::histogram!(metrics::TICK).record(started.elapsed().as_secs_f64());
        self.publish(running).await?;
        if running.analysis.outbox().is_empty() && now.since(running.kept_at) >= self.options.checkpoint {
            self.keep(running).await;
        }
        Ok(())
    }

    /// Appends the outbox, oldest first, in a few large appends.
    async fn publish(&self, running: &mut Running) -> Result<(), AnalyzerError> {
        while !running.analysis.outbox().is_empty() {
            let (mut records, mut bytes, mut taken) = (Vec::new(), 0, 0);
            for report in running.analysis.outbox().iter().take(APPEND_REPORTS) {
                match codec::encode(report) {
                    Ok(value) if records.is_empty() || bytes + value.len() <= APPEND_BYTES => {
                        bytes += value.len();
                        records.push(NewRecord::keyed(SHARD.as_bytes(), value, report.made_at));
                    }
                    Ok(_) => break,
                    // Cannot happen within the bounds of entries; if it does, one report is lost, not all.
                    Err(error) => tracing::error!(sequence = report.sequence, %error, "report not published"),
                }
                count(report);
                taken += 1;
            }
            if !records.is_empty()
                && let Err(error) = self.log.append(&self.reports, records).await
            {
                metrics::failed("publish");
                running.analysis.not_published();
                if !error.retryable() {
                    return Err(error.into());
                }
                tracing::warn!(%error, waiting = running.analysis.outbox().len(), "reports not published; will be tried again");
                return Ok(());
            }
            running.analysis.published(taken);
        }
        Ok(())
    }

    /// Whether enough report numbers are set aside to go on; tries to set aside more.
    async fn has_numbers(&self, running: &mut Running) -> bool {
        let enough = |r: &Running| r.analysis.sequence() + LEAST_NUMBERS <= r.numbers_to;
        if !enough(running) && running.analysis.outbox().is_empty() {
            self.keep(running).await;
        }
        running.analysis.sequence() < running.numbers_to
    }

    /// Keeps a checkpoint, then commits what it covers. Only with an empty outbox: what is not published
    /// yet must be made again after a crash.
    async fn keep(&self, running: &mut Running) {
        if !running.analysis.outbox().is_empty() {
            return;
        }
        let started = Instant::now();
        running.kept_at = self.clock.now();
        let checkpoint = running.analysis.checkpoint(running.kept_at);
        let bytes = checkpoint.encode();
        let (size, store) = (bytes.len(), self.store.clone());
        let saved = tokio::task::spawn_blocking(move || store.save(&bytes)).await;
        match saved {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                metrics::failed("checkpoint");
                tracing::error!(%error, "checkpoint not kept; will be tried again");
                return;
            }
            Err(error) => {
                metrics::failed("checkpoint");
                tracing::error!(%error, "writing the checkpoint broke off");
                return;
            }
        }
        running.numbers_to = checkpoint.sequence;
        ::metrics::histogram!(metrics::CHECKPOINT).record(started.elapsed().as_secs_f64());
        metrics::set(metrics::CHECKPOINT_BYTES, size);
        let assigned = running.consumer.assignment();
        let progress: Vec<Progress> = assigned
            .into_iter()
            .filter_map(|partition| {
                let next = checkpoint.partitions.get(&partition.partition)?.taken.next;
                Some(Progress { partition, next })
            })
            .collect();
        if let Err(error) = running.consumer.commit(&progress).await {
            // The checkpoint leads; a commit only tells others how far we are.
            metrics::failed("commit");
            tracing::warn!(%error, "progress not committed; the checkpoint has it");
        }
    }
}

fn count(report: &HeatReport) {
    let kind = match (report.is_final, report.snapshot) {
        (true, _) => "final",
        (false, true) => "snapshot",
        (false, false) => "provisional",
    };
    ::metrics::counter!(metrics::REPORTS, "kind" => kind).increment(1);
}
