//! What was already taken from the log, so that nothing counts twice: the next offset of each partition
//! and the last line of each source in it. It decodes records; what they mean it does not decide.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use eventlog::Record;
use lru::LruCache;
use product_events::DecodeError;
use types::EventBatch;

/// Sources (log files) remembered per partition. A collector writes few at a time; a source that was not
/// heard of for so many others cannot repeat itself, because it repeats only what it wrote last.
pub const MAX_SOURCES: NonZeroUsize = NonZeroUsize::new(1024).expect("not zero");

#[derive(Debug)]
struct Partition {
    next: u64,
    // For each source one past the offset of its last line taken.
    sources: LruCache<String, u64>,
}

/// One partition's progress as a checkpoint keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taken {
    /// The next record to read.
    pub next: u64,
    /// Sources, the one heard last at the end, each with one past its last line.
    pub sources: Vec<(String, u64)>,
}

/// Progress of all partitions that are or were ours.
#[derive(Debug, Default)]
pub struct Source {
    partitions: BTreeMap<u32, Partition>,
}

/// What a record is to us.
#[derive(Debug)]
pub enum Opened {
    /// It was taken before, or its partition is not ours.
    Repeated,
    /// It cannot be read.
    Malformed(DecodeError),
    /// Events, of which those before this line of the source were taken before.
    Events(EventBatch, u64),
}

impl Source {
    /// A partition is ours; progress from a checkpoint, or where the group stands.
    pub fn assign(&mut self, partition: u32, taken: Taken) {
        let mut sources = LruCache::new(MAX_SOURCES);
        for (source, next) in taken.sources {
            sources.put(source, next);
        }
        self.partitions.insert(partition, Partition { next: taken.next, sources });
    }

    /// The next record of a partition.
    pub fn next(&self, partition: u32) -> Option<u64> {
        self.partitions.get(&partition).map(|p| p.next)
    }

    /// Progress of all partitions.
    pub fn taken(&self) -> BTreeMap<u32, Taken> {
        let sources = |p: &Partition| p.sources.iter().rev().map(|(s, next)| (s.clone(), *next)).collect();
        self.partitions.iter().map(|(n, p)| (*n, Taken { next: p.next, sources: sources(p) })).collect()
    }

    /// Reads a record.
    pub fn open(&mut self, record: &Record) -> Opened {
        let Some(partition) = self.partitions.get_mut(&record.partition) else { return Opened::Repeated };
        if record.offset < partition.next {
            return Opened::Repeated;
        }
        let bytes = record.value.as_deref().unwrap_or_default();
        match product_events::decode(bytes) {
            Ok(batch) => {
                let from = partition.sources.get(batch.source.as_str()).copied().unwrap_or(0);
                Opened::Events(batch, from)
            }
            Err(error) => Opened::Malformed(error),
        }
    }

    /// Lines of `source` before `next` are taken.
    pub fn took_lines(&mut self, partition: u32, source: String, next: u64) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.sources.put(source, next);
        }
    }

    /// The record at `offset` is taken.
    pub fn took_record(&mut self, partition: u32, offset: u64) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.next = offset + 1;
        }
    }
}
