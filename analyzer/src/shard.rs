//! One shard: the engine of one partition, and how far its partition was taken. What it counts follows from the
//! records of its partition alone, so that anybody who reads them again from the right place has the same shard.
//! It does no I/O, reads no clock, and never decides where lines are drawn.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use eventlog::Record;
use lru::LruCache;
use product_events::Batch;
use serde::{Deserialize, Serialize};
use types::Timestamp;

use crate::engine::{Counters, Engine, Pushed, Rules};

/// Sources (log files) remembered per partition. A collector writes few at a time; a source that was not
/// heard of for so many others cannot repeat itself, because it repeats only what it wrote last.
pub const MAX_SOURCES: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

/// A place in a partition, and what had been counted before it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Place {
    /// The record.
    pub offset: u64,
    /// For each source one past the offset of its last line taken, the one heard last at the end.
    pub sources: Arc<[(Arc<str>, u64)]>,
    /// Newest event time before it.
    pub newest: Option<Timestamp>,
    /// Counters.
    pub counters: Counters,
    /// Events dropped as repeated.
    pub repeated: u64,
    /// Records that could not be read.
    pub malformed: u64,
}

/// What is kept of a shard: not its counts, but where to read to have them again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Kept {
    /// No event before this place is in a window that is not final yet, nor in the last one that is.
    pub place: Place,
    /// The next record.
    pub next: u64,
    /// Of the next record, lines before this are taken: it was too far ahead from there on. 0 if none is.
    pub line: u64,
    /// Windows that end here or before were reported.
    pub reported_to: Option<i64>,
    /// Seconds that were closed although the partition's own events had not come so far: behind which record, and to
    /// which second.
    pub closed: Vec<(u64, i64)>,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Took {
    /// All of it is taken.
    All,
    /// It is too far ahead, from an event of this second on; it has to be read again.
    Ahead(i64),
}

/// The shard of one partition.
#[derive(Debug)]
pub struct Shard {
    pub(crate) engine: Engine,
    lateness: Duration,
    window: i64,
    newest: Option<Timestamp>,
    next: u64,
    // Of the next record, lines before this are taken.
    line: u64,
    sources: LruCache<Arc<str>, u64>,
    // For each second that an event was the first to reach: the place before that event.
    places: VecDeque<(i64, Place)>,
    closed: Vec<(u64, i64)>,
    reported_to: Option<i64>,
    // While a kept shard reads again: the place it began at, the record it had come to, and closings still to be made.
    again: Option<Again>,
    repeated: u64,
    malformed: u64,
    pub(crate) heard: Timestamp,
    pub(crate) idle: bool,
    ids: Vec<u32>,
}

#[derive(Debug)]
struct Again {
    from: u64,
    to: (u64, u64),
    closed: VecDeque<(u64, i64)>,
}

impl Shard {
    /// A shard of which nothing is known, to be read from `next`.
    pub fn new(rules: Rules, lateness: Duration, next: u64, now: Timestamp) -> Self {
        Self {
            window: rules.window.into(),
            engine: Engine::new(rules),
            lateness,
            newest: None,
            next,
            line: 0,
            sources: LruCache::new(MAX_SOURCES),
            places: VecDeque::new(),
            closed: Vec::new(),
            reported_to: None,
            again: None,
            repeated: 0,
            malformed: 0,
            heard: now,
            idle: false,
            ids: Vec::new(),
        }
    }

    /// A shard as it was kept: it is read again from [`Shard::next`], and is the same when it has come to where it was.
    pub fn restore(rules: Rules, lateness: Duration, kept: Kept, now: Timestamp) -> Self {
        let Kept { place, next, line, reported_to, closed } = kept;
        let window = i64::from(rules.window);
        let engine = match reported_to {
            Some(end) => Engine::starting_at(rules.clone(), low(end, window, lateness), place.counters),
            None => Engine::new(rules.clone()),
        };
        let mut shard = Self { engine, reported_to, ..Self::new(rules, lateness, place.offset, now) };
        for (source, line) in place.sources.iter() {
            shard.sources.put(Arc::clone(source), *line);
        }
        (shard.newest, shard.repeated, shard.malformed) = (place.newest, place.repeated, place.malformed);
        shard.closed.clone_from(&closed);
        shard.again = Some(Again { from: place.offset, to: (next, line), closed: closed.into() });
        shard.caught_up();
        shard
    }

    /// What to keep of it.
    pub fn keep(&self) -> Kept {
        // What reads again has not come further than where it was.
        let from = self.reported_to.map(|end| end - self.window);
        let place = self.places.iter().find(|(second, _)| from.is_none_or(|from| *second >= from));
        let place = place.map_or_else(|| self.place(None), |(_, place)| place.clone());
        let here = (self.next, self.line);
        let (next, line) = self.again.as_ref().map_or(here, |again| again.to.max(here));
        let low = self.reported_to.map(|end| low(end, self.window, self.lateness));
        let closed = self.closed.iter().filter(|(_, to)| low.is_none_or(|low| *to > low)).copied().collect();
        Kept { place, next, line, reported_to: self.reported_to, closed }
    }

    fn place(&self, taken: Option<(&Arc<str>, u64)>) -> Place {
        let taken = taken.map(|(source, line)| (Arc::clone(source), line));
        let others = self.sources.iter().rev().filter(|(source, _)| taken.as_ref().is_none_or(|(s, _)| s != *source));
        Place {
            offset: self.next,
            sources: others.map(|(source, line)| (Arc::clone(source), *line)).chain(taken.clone()).collect(),
            newest: self.newest,
            counters: self.engine.counters(),
            repeated: self.repeated,
            malformed: self.malformed,
        }
    }

    /// The next record to read.
    pub const fn next(&self) -> u64 {
        self.next
    }
    /// Newest event time.
    pub const fn newest(&self) -> Option<Timestamp> {
        self.newest
    }
    /// Whether it is still reading again what had been counted before.
    pub const fn is_again(&self) -> bool {
        self.again.is_some()
    }
    /// Windows that end here or before were reported.
    pub const fn reported_to(&self) -> Option<i64> {
        self.reported_to
    }
    /// Events dropped as repeated, records that could not be read.
    pub const fn dropped(&self) -> (u64, u64) {
        (self.repeated, self.malformed)
    }
    /// Its own watermark: everything that ends at or before this second is final as far as its events tell.
    pub fn watermark(&self) -> Option<i64> {
        Some(self.newest?.minus(self.lateness).second())
    }

    /// For a shard that stands alone: settles every second that its own events have passed, and draws the lines.
    pub fn settle_alone(&mut self) {
        if let Some(watermark) = self.watermark() {
            self.engine.seal(Timestamp::from_seconds(watermark), drop);
        }
    }

    /// The window that ends here was reported.
    pub(crate) fn reported(&mut self, end: i64) {
        self.reported_to = Some(end);
        let from = end - self.window;
        while self.places.front().is_some_and(|(second, _)| *second < from) {
            self.places.pop_front();
        }
        let low = low(end, self.window, self.lateness);
        self.closed.retain(|(_, to)| *to > low);
    }

    /// Closes seconds before `to` although its own events have not come so far: it is idle.
    pub(crate) fn close(&mut self, to: i64) {
        if self.engine.closed_to().is_some_and(|closed| closed >= to) {
            return;
        }
        self.engine.close(to);
        if self.watermark().is_none_or(|own| own < to) {
            match self.closed.last_mut() {
                Some((next, closed)) if *next == self.next => *closed = to,
                _ => self.closed.push((self.next, to)),
            }
        }
    }

    /// Takes a record.
    pub fn take(&mut self, record: &Record) -> Took {
        if record.offset < self.next {
            self.repeated += 1;
            return Took::All;
        }
        // Offsets may leave gaps: the place of an event is its record's.
        self.next = record.offset;
        self.close_again(record.offset);
        let took = match product_events::decode_batch(record.value.as_deref().unwrap_or_default()) {
            Ok(batch) => self.take_batch(&batch),
            Err(error) => {
                self.malformed += 1;
                tracing::warn!(partition = record.partition, offset = record.offset, %error, "record skipped");
                Took::All
            }
        };
        if took == Took::All {
            (self.next, self.line) = (record.offset + 1, 0);
            self.caught_up();
        }
        took
    }

    fn take_batch(&mut self, batch: &Batch) -> Took {
        let mut ids = std::mem::take(&mut self.ids);
        self.engine.pin(&batch.pages, &mut ids);
        let took = self.take_events(batch, &ids);
        self.engine.unpin(&ids);
        self.ids = ids;
        took
    }

    fn take_events(&mut self, batch: &Batch, ids: &[u32]) -> Took {
        let (source, mut from) = match self.sources.get_key_value(batch.source.as_str()) {
            Some((known, line)) => (Arc::clone(known), *line),
            None => (Arc::from(batch.source.as_str()), 0),
        };
        // The lines before the place at which it began anew were counted as what they were.
        let counts_repeats = self.again.as_ref().is_none_or(|again| again.from != self.next);
        let mut took = Took::All;
        let mut newest = self.newest.map_or(i64::MIN, Timestamp::millis);
        for event in &batch.events {
            if event.offset < from {
                self.repeated += u64::from(counts_repeats);
                continue;
            }
            if self.again.as_ref().is_some_and(|again| (self.next, event.offset) >= again.to) {
                self.end_again();
            }
            let second = event.at.second();
            if event.at.millis() > newest {
                if newest == i64::MIN || second > Timestamp::from_millis(newest).second() {
                    let place = self.place(Some((&source, event.offset)));
                    self.places.push_back((second, place));
                }
                newest = event.at.millis();
                self.newest = Some(event.at);
                let closed = event.at.minus(self.lateness).second();
                if self.engine.closed_to().is_none_or(|known| closed > known) {
                    self.engine.close(closed);
                }
            }
            if self.engine.push_id(ids[event.page as usize], event.kind, event.visitor.0, second) == Pushed::Ahead {
                took = Took::Ahead(second);
                break;
            }
            from = event.offset.saturating_add(1);
        }
        if from > 0 {
            self.sources.put(source, from);
        }
        self.line = from;
        took
    }

    // What had been closed before this record.
    fn close_again(&mut self, offset: u64) {
        let Some(again) = &mut self.again else { return };
        while let Some((next, to)) = again.closed.front().copied()
            && next <= offset
        {
            again.closed.pop_front();
            self.engine.close(to);
        }
    }

    // Nothing is left to be read again.
    fn caught_up(&mut self) {
        if self.again.as_ref().is_some_and(|again| (self.next, 0) >= again.to) {
            self.end_again();
        }
    }

    fn end_again(&mut self) {
        self.close_again(u64::MAX);
        self.again = None;
    }
}

// The oldest second that may still get events when a window that ends at `end` begins.
fn low(end: i64, window: i64, lateness: Duration) -> i64 {
    let lateness = i64::try_from(lateness.as_secs()).unwrap_or(i64::MAX / 4);
    end - window - lateness - 2
}
