//! The analysis without its edges: records in, reports out, a state that can be kept. It does no I/O and
//! reads no clock, so that a test can stop it between any two steps and go on from what was kept.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use eventlog::Record;
use types::{EventBatch, HeatReport, Invalid, Timestamp};

use crate::checkpoint::{Checkpoint, PartitionState};
use crate::engine::{Engine, Pushed};
use crate::live::{HeatSnapshot, LiveHeat};
use crate::metrics;
use crate::options::Options;
use crate::publish::{MAX_ENTRIES, Reporter};
use crate::source::{Opened, Source, Taken};
use crate::watermark::{Arrival, Watermarks};

/// Contributions of visitors in all open panes beyond which partitions that are ahead wait (about 200 MB).
pub const MAX_OPEN: usize = 4_000_000;
/// Numbers set aside by each checkpoint: a restart begins above all that may have been published since.
/// At five reports a second this is two days without a checkpoint.
pub const SEQUENCE_RESERVE: u64 = 1 << 20;

/// The analysis.
#[derive(Debug)]
pub struct Analysis {
    engine: Engine,
    marks: Watermarks,
    source: Source,
    reporter: Reporter,
    live: Arc<LiveHeat>,
    outbox: VecDeque<HeatReport>,
    // Partitions that were read too far ahead, with the record to go on from.
    parked: BTreeMap<u32, u64>,
    // Progress of partitions that a checkpoint knows and that were not assigned yet.
    kept: BTreeMap<u32, PartitionState>,
    late: u64,
    repeated: u64,
    malformed: u64,
    cut: u64,
}

impl Analysis {
    /// Starts with nothing; the first report is numbered `sequence`.
    pub fn new(options: &Options, live: Arc<LiveHeat>, sequence: u64) -> Result<Self, Invalid> {
        Ok(Self::with(Engine::new(options.rules()?), options, live, sequence))
    }

    fn with(engine: Engine, options: &Options, live: Arc<LiveHeat>, sequence: u64) -> Self {
        Self {
            engine,
            marks: Watermarks::new(options.patience()),
            source: Source::default(),
            reporter: Reporter::new(sequence, options.snapshot),
            live,
            outbox: VecDeque::new(),
            parked: BTreeMap::new(),
            kept: BTreeMap::new(),
            late: 0,
            repeated: 0,
            malformed: 0,
            cut: 0,
        }
    }

    /// Goes on from a checkpoint, at `now` by the clock.
    pub fn restore(options: &Options, live: Arc<LiveHeat>, kept: Checkpoint, now: Timestamp) -> Result<Self, Invalid> {
        let engine = Engine::restore(options.rules()?, kept.engine)?;
        for (second, rows) in engine.sealed_rows() {
            live.join(second, rows);
        }
        let mut analysis = Self::with(engine, options, live, kept.sequence);
        if let Some(reached) = kept.reached {
            analysis.marks.resume(reached, now);
        }
        analysis.reporter.restore_since(kept.since);
        analysis.kept = kept.partitions;
        (analysis.late, analysis.repeated, analysis.malformed) = (kept.late, kept.repeated, kept.malformed);
        Ok(analysis)
    }

    /// The state between two records. Meant to be kept once everything in the outbox is published.
    pub fn checkpoint(&mut self, now: Timestamp) -> Checkpoint {
        let mut partitions = self.kept.clone();
        for (partition, taken) in self.source.taken() {
            // A parked partition's own record was taken in part; its lines say which part.
            partitions.insert(partition, PartitionState { taken, newest: self.marks.newest(partition) });
        }
        Checkpoint {
            sequence: self.reporter.sequence() + SEQUENCE_RESERVE,
            reached: self.marks.event_now(now),
            partitions,
            late: self.late,
            repeated: self.repeated,
            malformed: self.malformed,
            since: self.reporter.since(),
            engine: self.engine.state(),
        }
    }

    /// Where reading of a partition goes on if it is assigned now, by what this analysis has counted.
    pub fn resumes_at(&self, partition: u32) -> Option<u64> {
        self.source.next(partition).or_else(|| self.kept.get(&partition).map(|p| p.taken.next))
    }

    /// A partition is ours and is read from `next`.
    pub fn assign(&mut self, partition: u32, next: u64, now: Timestamp) {
        let mut state = self.kept.remove(&partition).unwrap_or_else(|| {
            let taken = self.source.taken().remove(&partition).unwrap_or_default();
            PartitionState { taken, newest: None }
        });
        state.taken = Taken { next, ..state.taken };
        self.marks.assign(partition, state.newest, now);
        self.source.assign(partition, state.taken);
    }

    /// A partition is another member's now. What it brought leaves the windows with time.
    pub fn revoke(&mut self, partition: u32) {
        self.marks.revoke(partition);
        self.parked.remove(&partition);
    }

    /// Takes records, in the order of their partitions, at `now` by the clock.
    pub fn take(&mut self, records: &[Record], now: Timestamp) {
        // All of them have spoken before the first is counted: none may be passed over as idle by another.
        for record in records.iter().filter(|r| !self.parked.contains_key(&r.partition)) {
            self.marks.heard(record.partition, now);
        }
        for record in records {
            if self.parked.contains_key(&record.partition) {
                // It will be read again.
                continue;
            }
            match self.source.open(record) {
                Opened::Repeated => self.repeated += 1,
                Opened::Malformed(error) => {
                    self.malformed += 1;
                    tracing::warn!(partition = record.partition, offset = record.offset, %error, "record skipped");
                    self.source.took_record(record.partition, record.offset);
                }
                Opened::Events(batch, from) => self.take_batch(record, batch, from, now),
            }
        }
        self.seal(now);
    }

    fn take_batch(&mut self, record: &Record, batch: EventBatch, mut from: u64, now: Timestamp) {
        let partition = record.partition;
        let mut parks = self.crowded() && self.is_ahead(partition, now);
        if !self.engine.has_begun() {
            // Only look when it begins here; counting begins once every partition has spoken or is idle.
            if let Some(event) = batch.events.iter().find(|event| event.offset >= from) {
                self.marks.observe(partition, event.at, now);
            }
            self.seal(now);
            parks = !self.engine.has_begun();
        }
        if !parks {
            for event in &batch.events {
                if event.offset < from {
                    self.repeated += 1;
                    continue;
                }
                let newest = self.marks.newest(partition);
                if self.marks.observe(partition, event.at, now) == Arrival::Late {
                    self.late += 1;
                    from = event.offset.saturating_add(1);
                    continue;
                }
                // The watermark can only have moved if this partition came to a new second.
                if newest.is_none_or(|newest| event.at.second() > newest.second()) {
                    self.seal(now);
                }
                let pushed = self.engine.push(event.page.as_str(), event.kind, event.visitor.0, event.at);
                if pushed == Pushed::Ahead {
                    parks = true;
                    break;
                }
                from = event.offset.saturating_add(1);
            }
        }
        if from > 0 {
            self.source.took_lines(partition, batch.source, from);
        }
        if parks {
            self.parked.insert(partition, record.offset);
        } else {
            self.source.took_record(partition, record.offset);
        }
    }

    fn crowded(&self) -> bool {
        self.engine.open_contributions() > MAX_OPEN
    }

    // Whether it is not this partition that holds the watermark.
    fn is_ahead(&mut self, partition: u32, now: Timestamp) -> bool {
        let newest = self.marks.newest(partition);
        let lateness = self.marks.lateness();
        match (newest, self.marks.watermark(now)) {
            (Some(newest), Some(watermark)) => newest.minus(lateness) > watermark,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    /// Partitions that waited and may go on: each with the record to seek. They are parked until
    /// [`Analysis::unpark`] says that the seek has been done.
    pub fn may_go_on(&self) -> Vec<(u32, u64)> {
        let crowded = self.engine.open_contributions() > MAX_OPEN / 2;
        let slowest = self.parked.keys().map(|p| self.marks.newest(*p)).min().flatten();
        let may = |partition: u32| {
            let newest = self.marks.newest(partition);
            // While it is crowded only those go on that hold the others, or nobody would.
            newest.is_none_or(|at| self.engine.fits(at.second())) && (!crowded || newest == slowest)
        };
        self.parked.iter().filter(|(partition, _)| may(**partition)).map(|(p, offset)| (*p, *offset)).collect()
    }

    /// A partition that waited is read on.
    pub fn unpark(&mut self, partition: u32) {
        self.parked.remove(&partition);
    }

    /// Partitions that have been silent for long, and are idle if their end is at or before this offset.
    pub fn silent(&self, now: Timestamp) -> Vec<(u32, u64)> {
        let silent = self.marks.silent(now).into_iter().filter(|p| !self.parked.contains_key(p));
        silent.map(|p| (p, self.source.next(p).unwrap_or(0))).collect()
    }

    /// Partitions that are called idle, each with the offset up to which it has been read.
    pub fn idle(&self) -> Vec<(u32, u64)> {
        self.marks.idle().into_iter().map(|p| (p, self.source.next(p).unwrap_or(0))).collect()
    }

    /// Something waits to be read from this partition after all.
    pub fn wake(&mut self, partition: u32, now: Timestamp) {
        self.marks.heard(partition, now);
    }

    /// Nothing waits to be read from this partition.
    pub fn mark_idle(&mut self, partition: u32) {
        self.marks.mark_idle(partition);
    }

    /// Makes every window final that the watermark has passed.
    fn seal(&mut self, now: Timestamp) {
        let Some(watermark) = self.marks.watermark(now) else { return };
        let (live, reporter, outbox, cut) = (&self.live, &mut self.reporter, &mut self.outbox, &mut self.cut);
        self.engine.seal(watermark, |sealed| {
            if let Some(first) = sealed.rows.first() {
                metrics::set(metrics::ROWS, live.join(first.time.second(), sealed.rows));
            }
            if let Some(window) = sealed.window {
                let (report, over) = reporter.settled(window, now);
                *cut += over as u64;
                outbox.push_back(report);
            }
        });
    }

    /// One tick at `now` by the clock: windows that are final, then the provisional standing.
    pub fn tick(&mut self, now: Timestamp) {
        self.seal(now);
        let Some(event_now) = self.marks.event_now(now) else { return };
        let ranking = self.engine.rank(event_now, MAX_ENTRIES);
        let (report, snapshot) = self.reporter.provisional(&self.engine, &ranking, event_now, now);
        self.cut += ranking.cut;
        self.outbox.push_back(report);
        self.show(&snapshot);
        self.live.publish(snapshot);
    }

    fn show(&self, snapshot: &HeatSnapshot) {
        let late = self.late + snapshot.counters.late;
        metrics::totals(&snapshot.counters, self.repeated, late, self.malformed, self.engine.rebuilds());
        metrics::set(metrics::PAGES, self.engine.known_pages());
        metrics::set(metrics::PARKED, self.parked.len());
        ::metrics::gauge!(metrics::ACTIVE).set(snapshot.active as f64);
        ::metrics::counter!(metrics::CUT).absolute(self.cut);
        if let Some(final_to) = snapshot.final_to {
            ::metrics::gauge!(metrics::FINAL_LAG).set(snapshot.window_end.since(final_to).as_secs_f64());
        }
    }

    /// Reports to be published, oldest first; taken from the front once they are.
    pub const fn outbox(&self) -> &VecDeque<HeatReport> {
        &self.outbox
    }

    /// The first `n` reports of the outbox are published.
    pub fn published(&mut self, n: usize) {
        self.outbox.drain(..n.min(self.outbox.len()));
    }

    /// Publishing failed: what readers missed must be said again, and provisional reports that wait are
    /// dropped, because the next tick makes a newer one.
    pub fn not_published(&mut self) {
        self.outbox.retain(|report| report.is_final);
        self.reporter.forget_readers();
    }

    /// The number of the next report.
    pub const fn sequence(&self) -> u64 {
        self.reporter.sequence()
    }
}
