//! One partition of `access-log` that is being read: a run of its records to a batch of lines. It decides nothing about
//! who reads the partition, and never waits.
//!
//! A record is a line, or a list of lines. Line `n` of the record at `offset` is published under the offset
//! `offset * LINES_PER_RECORD + n`: rising from line to line, the same at each reading (ADR 0018).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use eventlog::{Record, TopicPartition};
use product_events::EncodeError;
use types::Timestamp;

use super::files::{Files, Key};
use crate::batch::{Batch, Builder, Place, Press};
use crate::decode::envelope::{self, Opener};
use crate::metrics;
use crate::store::{PartitionProgress, Progress};

/// Places for lines that each record has in the numbering of a partition's lines.
pub const LINES_PER_RECORD: u64 = envelope::MAX_RECORDS as u64;

/// One partition that is ours.
pub(super) struct Reading {
    pub partition: TopicPartition,
    /// Its name downstream; not known before its first record was seen.
    pub source: Option<Arc<str>>,
    pub next: u64,
    /// A record that this collector took before, and its hash: there must be the same one there.
    pub expected: Option<(u64, u64)>,
    /// Whether records before `next` are read on purpose.
    pub rereading: bool,
    /// Whether the record at `next` must be there, if any later one is.
    pub continuing: bool,
    pub end: u64,
    pub files: Files,
    pub opener: Opener,
}

/// What became of a run of records.
pub(super) enum Built {
    /// Lines to be published.
    Batch(Box<Batch>),
    /// All were only read for what they say about files.
    Nothing,
    /// The topic is another one than that which was read before.
    Another,
}

impl Reading {
    /// Gives a run of this partition's records their ends.
    pub fn build(
        &mut self,
        records: &[Record],
        press: &mut Press,
        now: Timestamp,
        topic: Arc<str>,
    ) -> Result<Built, EncodeError> {
        let (old, new) = records.split_at(records.partition_point(|record| record.offset < self.next));
        if let Some((offset, expected)) = self.expected
            && let Some(found) = old.iter().find(|record| record.offset == offset)
        {
            if mark(found) != expected {
                return Ok(Built::Another);
            }
            self.expected = None;
        }
        if let Some(last) = old.last() {
            // Counted when they were taken; here they only say what their files and visitors have shown so far.
            let source = self.source.clone().unwrap_or_default();
            self.read(old, &mut Builder::new(press, &source, now));
            self.rereading = last.offset + 1 < self.next;
        }
        let (Some(source), Some(first), Some(last)) = (self.source.clone(), new.first(), new.last()) else {
            return Ok(Built::Nothing);
        };
        self.rereading = false;
        if self.continuing && first.offset > self.next {
            let lost = first.offset - self.next;
            metrics::skipped_records(lost);
            tracing::error!(source = &*source, next = self.next, lost, "records were deleted before they were read");
        }
        let mut builder = Builder::new(press, &source, now);
        self.read(new, &mut builder);
        self.next = last.offset + 1;
        self.end = self.end.max(self.next);
        self.continuing = true;
        let progress = Progress::Partition(PartitionProgress {
            topic,
            partition: self.partition.partition,
            source: Arc::clone(&source),
            next: self.next,
            last_mark: Some(mark(last)),
        });
        Ok(Built::Batch(builder.finish(source, progress)?))
    }

    /// Gives each line of each record its end.
    fn read(&mut self, records: &[Record], builder: &mut Builder<'_>) {
        let mut doubted: Vec<Key> = Vec::new();
        for record in records {
            let value = record.value.as_deref().unwrap_or_default();
            let first = record.offset.saturating_mul(LINES_PER_RECORD);
            match envelope::list(value) {
                Ok(None) => self.line(first, value, builder, &mut doubted),
                Ok(Some(parts)) => {
                    for (number, part) in (0..).zip(parts) {
                        self.line(first + number, &value[part], builder, &mut doubted);
                    }
                }
                Err(reason) => builder.unreadable(first, reason, value, true),
            }
        }
        for key in doubted {
            if let Some(file) = self.files.get(key) {
                builder.settle(&mut file.timeline);
            }
        }
    }

    fn line(&mut self, offset: u64, bytes: &[u8], builder: &mut Builder<'_>, doubted: &mut Vec<Key>) {
        let opened = match self.opener.open_any(bytes) {
            Ok(opened) => opened,
            Err(reason) => return builder.unreadable(offset, reason, bytes, true),
        };
        let (key, gone) = self.files.admit(&opened);
        if let Some(mut gone) = gone {
            builder.settle(&mut gone.timeline);
        }
        let share = self.files.share();
        let Some(file) = self.files.get(key) else { return };
        if file.repeats(&opened, share) {
            return builder.repeat();
        }
        let place = || Place { file: file.name.clone(), offset: opened.offset };
        builder.message(&mut file.timeline, offset, &opened, place);
        if file.timeline.in_doubt() && !doubted.contains(&key) {
            doubted.push(key);
        }
    }
}

/// What tells a record from any other that could lie in its place.
pub(super) fn mark(record: &Record) -> u64 {
    let mut hasher = DefaultHasher::new();
    (record.offset, record.at.millis(), &record.value).hash(&mut hasher);
    hasher.finish()
}
