//! The loop: poll, take, tick, publish, say, keep, commit; in that order, so that progress is committed after its
//! effect. It tries again what may help later, and ends on what cannot.

use std::sync::Arc;
use std::time::Duration;

use eventlog::{
    Consumer, EventLog, EventLogError, Group, NewRecord, Polled, Progress, Retention, Start, Subscription, Topic,
    TopicPartition,
};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use types::{Clock, HeatReport, Timestamp, codec, topics};

use super::AnalyzerError;
use crate::analysis::{Analysis, KeptShard};
use crate::board::Note;
use crate::checkpoint::{Feed, ShardStore};
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
/// Notes of others that wait to be taken; behind them their reader waits.
const MAX_NOTES: usize = 256;
/// How long the board is kept: a shard that comes back finds the lines of all windows since it was kept.
const BOARD_KEPT: Duration = Duration::from_secs(3600);

pub(super) struct Worker {
    pub options: Options,
    pub log: Arc<dyn EventLog>,
    pub clock: Arc<dyn Clock>,
    pub live: Arc<LiveHeat>,
    /// The name of this process among those of the group.
    pub member: String,
    pub events: Topic,
    pub reports: Topic,
    pub board: Topic,
    pub group: Group,
}

// What exists only while it runs.
struct Running {
    consumer: Box<dyn Consumer>,
    store: ShardStore,
    notes: mpsc::Receiver<Note>,
    analysis: Analysis,
    kept_at: Timestamp,
    heard_at: Timestamp,
}

enum Next {
    Polled(Result<Polled, EventLogError>),
    Heard(Option<Note>),
}

impl Worker {
    fn partition(&self, partition: u32) -> TopicPartition {
        TopicPartition { topic: self.events.clone(), partition }
    }

    pub(super) async fn run(self, stop: &CancellationToken) -> Result<(), AnalyzerError> {
        let Some(mut running) = self.begin(stop).await? else { return Ok(()) };
        let tick = self.clock.real(self.options.tick);
        let mut next_tick = Instant::now() + tick;
        while !stop.is_cancelled() {
            let left = next_tick.saturating_duration_since(Instant::now()).min(POLL_WAIT);
            if running.analysis.outbox().len() >= MAX_WAITING {
                self.wait(left, stop).await;
            } else {
                let next = tokio::select! {
                    biased;
                    note = running.notes.recv() => Next::Heard(note),
                    polled = running.consumer.poll(POLL_RECORDS, left) => Next::Polled(polled),
                };
                match next {
                    Next::Heard(Some(note)) => running.analysis.hear(&note, self.clock.now()),
                    // Its reader has ended, which it does for an error that no retry can help.
                    Next::Heard(None) => return Err(EventLogError::Closed.into()),
                    Next::Polled(Ok(polled)) => self.polled(&mut running, polled, stop).await?,
                    Next::Polled(Err(error)) if error.retryable() => self.pause("poll", &error, stop).await,
                    Next::Polled(Err(error)) => return Err(error.into()),
                }
                if running.analysis.must_be_kept() {
                    self.keep_all(&mut running).await?;
                }
                // Others wait for it.
                self.say(&mut running, false).await?;
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
        self.keep_all(&mut running).await
    }

    /// Joins the group and reads what its members have said; `None` if it is stopped before.
    async fn begin(&self, stop: &CancellationToken) -> Result<Option<Running>, AnalyzerError> {
        while !stop.is_cancelled() {
            match self.try_begin(stop).await {
                Ok(running) => return Ok(Some(running)),
                // The topic is made by the collector, which may come after us.
                Err(AnalyzerError::Log(error))
                    if error.retryable() || matches!(error, EventLogError::NoSuchTopic(_)) =>
                {
                    self.pause("subscribe", &error, stop).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    async fn try_begin(&self, stop: &CancellationToken) -> Result<Running, AnalyzerError> {
        let partitions = self.log.partitions(&self.events).await?;
        let now = self.clock.now();
        // Numbers begin at the clock's milliseconds, above those of any run before: there are a few reports a second.
        let fresh = u64::try_from(now.millis()).unwrap_or(0).max(1);
        let mut analysis = Analysis::new(&self.options, Arc::clone(&self.live), &self.member, partitions, fresh)?;
        let log = || Arc::clone(&self.log);
        let store = ShardStore::open(log(), self.group.as_str(), &self.member).await?;
        let retention = Retention::Time(BOARD_KEPT);
        let mut board = Feed::open(log(), topics::ANALYZER_BOARD, retention, &self.member).await?;
        let group = self.group.as_str();
        board.read_to_end(|record| note_of(record, group).iter().for_each(|note| analysis.hear(note, now))).await?;
        let (send, notes) = mpsc::channel(MAX_NOTES);
        tokio::spawn(listen(board, group.to_owned(), send, stop.clone()));
        let wanted =
            Subscription { group: self.group.clone(), topics: vec![self.events.clone()], start: Start::Earliest };
        let consumer = self.log.subscribe(wanted).await?;
        Ok(Running { consumer, store, notes, analysis, kept_at: now, heard_at: now })
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

    async fn polled(
        &self,
        running: &mut Running,
        polled: Polled,
        stop: &CancellationToken,
    ) -> Result<(), AnalyzerError> {
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
                    // A log that is away for a moment is no reason to end: nothing is read of it meanwhile.
                    while let Err(error) = self.assigned(running, &partition).await {
                        match error {
                            AnalyzerError::Log(EventLogError::NotAssigned(_)) => break,
                            AnalyzerError::Log(error) if error.retryable() && !stop.is_cancelled() => {
                                self.pause("assign", &error, stop).await;
                            }
                            error => return Err(error),
                        }
                    }
                }
            }
            Polled::Revoked(partitions) => {
                tracing::info!(?partitions, "partitions revoked");
                self.publish(running).await?;
                self.say(running, true).await?;
                // Kept before they are let go of, if the log still lets us: otherwise as they were kept last.
                let partitions: Vec<u32> = partitions.iter().map(|p| p.partition).collect();
                let now = self.clock.now();
                let kept: Vec<KeptShard> =
                    partitions.iter().filter_map(|partition| running.analysis.revoke(*partition, now)).collect();
                if running.analysis.outbox().is_empty()
                    && let Err(error) = running.store.keep(&kept, now).await
                {
                    metrics::failed("checkpoint");
                    tracing::warn!(%error, "shards not kept as they left; their next owner reads a little more again");
                }
            }
        }
        Ok(())
    }

    async fn assigned(&self, running: &mut Running, partition: &TopicPartition) -> Result<(), AnalyzerError> {
        let number = partition.partition;
        let (end, committed) =
            (self.log.end_offset(partition).await?, self.log.committed(&self.group, partition).await?);
        let mut kept = running.store.find(number).await?;
        if let Some(other) = kept.as_ref().filter(|kept| kept.shard.next > end) {
            tracing::error!(
                partition = number,
                next = other.shard.next,
                end,
                "the kept shard is of another log; not used"
            );
            running.store.forget(number);
            kept = None;
        }
        let known = kept.is_some();
        let next = committed.unwrap_or(0).min(end);
        if !known && next > 0 {
            tracing::warn!(partition = number, next, "no kept shard; earlier events are not counted");
        }
        let from = running.analysis.assign(number, kept, next, self.clock.now());
        if Some(from) != committed {
            running.consumer.seek(&Progress { partition: partition.clone(), next: from }).await?;
        }
        // A partition that never had an event and has none waiting need not be waited for.
        if !known && end <= from {
            running.analysis.mark_idle(number);
        }
        tracing::info!(partition = number, from, known, "partition assigned");
        Ok(())
    }

    /// After a pause every partition may have records waiting, and a poll brings those of one before those of
    /// another: whoever is still called idle then would find windows closed before its own events. The log's own ends
    /// say who has, between separate appends to several partitions and through a rebalance as well.
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
        self.say(running, true).await?;
        if running.analysis.must_be_kept() || now.since(running.kept_at) >= self.options.checkpoint {
            self.keep_all(running).await?;
        }
        Ok(())
    }

    /// Appends the outbox, oldest first, in a few large appends.
    async fn publish(&self, running: &mut Running) -> Result<(), AnalyzerError> {
        let key = running.analysis.key().to_string();
        while !running.analysis.outbox().is_empty() {
            let (mut records, mut bytes, mut taken) = (Vec::new(), 0, 0);
            for report in running.analysis.outbox().iter().take(APPEND_REPORTS) {
                match codec::encode(report) {
                    Ok(value) if records.is_empty() || bytes + value.len() <= APPEND_BYTES => {
                        bytes += value.len();
                        records.push(NewRecord::keyed(key.clone().into_bytes(), value, report.made_at));
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

    /// Tells the others what they must know: what they wait for at once, lines that were drawn with the tick (`all`).
    async fn say(&self, running: &mut Running, all: bool) -> Result<(), AnalyzerError> {
        if running.analysis.must_be_kept() || !all && !running.analysis.is_waited_for() {
            return Ok(());
        }
        let Some(note) = running.analysis.take_note() else { return Ok(()) };
        let said = match codec::encode(&note) {
            Ok(value) => {
                let record = NewRecord::keyed(self.group.as_str().as_bytes().to_vec(), value, self.clock.now());
                self.log.append(&self.board, vec![record]).await.map(drop)
            }
            Err(error) => Err(EventLogError::Refused(error.to_string())),
        };
        match said {
            Ok(()) => Ok(()),
            Err(error) => {
                metrics::failed("note");
                tracing::warn!(%error, "the other analyzers were not told; will be tried again");
                running.analysis.not_said(note);
                if error.retryable() { Ok(()) } else { Err(error.into()) }
            }
        }
    }

    /// Keeps all shards, then commits what that covers. Only when everything of them is published and said: what is not
    /// must be made again after a crash.
    async fn keep_all(&self, running: &mut Running) -> Result<(), AnalyzerError> {
        self.publish(running).await?;
        self.say(running, true).await?;
        if running.analysis.outbox().is_empty() && (running.analysis.must_be_kept() || !running.analysis.has_to_say()) {
            self.keep(running).await;
        }
        Ok(())
    }

    async fn keep(&self, running: &mut Running) {
        let started = Instant::now();
        running.kept_at = self.clock.now();
        let assigned = running.analysis.assigned();
        let kept: Vec<KeptShard> = assigned.iter().filter_map(|p| running.analysis.keep(*p, running.kept_at)).collect();
        match running.store.keep(&kept, running.kept_at).await {
            Ok(bytes) => {
                running.analysis.kept(running.kept_at);
                metrics::set(metrics::CHECKPOINT_BYTES, bytes);
            }
            Err(error) => {
                metrics::failed("checkpoint");
                tracing::error!(%error, "shards not kept; will be tried again");
                return;
            }
        }
        ::metrics::histogram!(metrics::CHECKPOINT).record(started.elapsed().as_secs_f64());
        if let Err(error) = running.store.read_on().await {
            metrics::failed("board");
            tracing::warn!(%error, "kept shards cannot be read; will be tried again");
        }
        let assigned = running.consumer.assignment();
        let progress: Vec<Progress> = kept
            .iter()
            .map(|kept| Progress { partition: self.partition(kept.partition), next: kept.shard.next })
            .filter(|progress| assigned.contains(&progress.partition))
            .collect();
        if let Err(error) = running.consumer.commit(&progress).await {
            // The kept shard leads; a commit only tells others how far we are.
            metrics::failed("commit");
            tracing::warn!(%error, "progress not committed; the kept shards have it");
        }
    }
}

/// A note of this group's.
fn note_of(record: &eventlog::Record, group: &str) -> Option<Note> {
    if record.key.as_deref() != Some(group.as_bytes()) {
        return None;
    }
    codec::decode(record.value.as_deref()?).inspect_err(|error| tracing::warn!(%error, "a note was skipped")).ok()
}

/// Hands on what the members say until nobody listens; a log that is away is waited for.
async fn listen(mut board: Feed, group: String, notes: mpsc::Sender<Note>, stop: CancellationToken) {
    while !stop.is_cancelled() && !notes.is_closed() {
        let polled = tokio::select! {
            () = stop.cancelled() => return,
            polled = board.poll(POLL_WAIT) => polled,
        };
        match polled {
            Ok(records) => {
                for note in records.iter().filter_map(|record| note_of(record, &group)) {
                    if notes.send(note).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) if error.retryable() || matches!(error, EventLogError::NotAssigned(_)) => {
                metrics::failed("board");
                tracing::warn!(%error, "the other analyzers cannot be heard; will be tried again");
                tokio::time::sleep(RETRY_WAIT).await;
            }
            Err(error) => {
                tracing::error!(%error, "the other analyzers cannot be heard any more");
                return;
            }
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
