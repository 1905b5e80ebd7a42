//! Batches into the event log: one record per batch and partition, and what could not be decoded without its
//! bytes. It must never split a batch's events of one partition, as readers drop repeats by rising offsets.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use eventlog::{EventLog, EventLogError, NewRecord, Retention, Topic, TopicSpec};
use types::access::{DeadLetterBatch, DeadLetterNote};
use types::{Clock, codec, topics};

use crate::Error;
use crate::batch::{Batch, Sheet};
use crate::options::Encoding;

/// How long product events are kept: a day of replay.
pub const KEEP_EVENTS: Duration = Duration::from_secs(24 * 3600);
/// How long notes of dead letters are kept: a week, so that a broken format is seen after a holiday.
pub const KEEP_DEAD_LETTERS: Duration = Duration::from_secs(7 * 24 * 3600);
/// Header that repeats the source's name, so that a record's origin is seen without decoding it.
pub const SOURCE_HEADER: &str = "source";
/// Events appended as JSON in one call: with the longest pages and sources some 5 MB, below what a log takes at once.
const JSON_AT_ONCE: usize = 5_000;

pub(crate) struct Publisher {
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    events: Topic,
    dead: Topic,
    /// Where each event goes as JSON too, if that is wanted.
    json: Option<Topic>,
}

/// Batches as records; the same again at each attempt.
pub(crate) struct Parcel {
    events: Vec<NewRecord>,
    json: Vec<NewRecord>,
    dead: Vec<NewRecord>,
}

impl Publisher {
    /// Makes sure of the topics.
    pub async fn new(
        log: Arc<dyn EventLog>,
        clock: Arc<dyn Clock>,
        partitions: u32,
        encoding: Encoding,
    ) -> Result<Self, Error> {
        let events = Topic::new(topics::PRODUCT_EVENTS)?;
        let dead = Topic::new(topics::DEAD_LETTERS)?;
        let json = match encoding {
            Encoding::Arrow => None,
            Encoding::Json => Some(Topic::new(topics::PRODUCT_EVENTS_JSON)?),
        };
        let spec = |topic: &Topic, partitions, kept| TopicSpec {
            topic: topic.clone(),
            partitions,
            retention: Retention::Time(kept),
        };
        log.ensure_topic(&spec(&events, partitions, KEEP_EVENTS)).await?;
        log.ensure_topic(&spec(&dead, 1, KEEP_DEAD_LETTERS)).await?;
        if let Some(json) = &json {
            log.ensure_topic(&spec(json, partitions, KEEP_EVENTS)).await?;
        }
        Ok(Self { log, clock, events, dead, json })
    }

    /// The batches as records; takes their values.
    pub fn pack(&self, load: &mut [Batch]) -> Result<Parcel, Error> {
        let at = self.clock.now();
        let mut parcel = Parcel { events: Vec::new(), json: Vec::new(), dead: Vec::new() };
        for batch in load {
            let source = Bytes::copy_from_slice(batch.source.as_bytes());
            let record = |Sheet { partition, value }| NewRecord::to_partition(partition, value, at);
            let events = std::mem::take(&mut batch.events);
            parcel.events.extend(events.into_iter().map(|sheet| record(sheet).header(SOURCE_HEADER, source.clone())));
            parcel.json.extend(std::mem::take(&mut batch.json).into_iter().map(record));
            if !batch.dead.is_empty() {
                let note =
                    |d: &crate::store::Dead| DeadLetterNote { offset: d.offset, reason: d.reason.as_str().to_owned() };
                let letters = batch.dead.iter().map(note).collect();
                let value = codec::encode(&DeadLetterBatch { source: batch.source.to_string(), letters })?;
                parcel.dead.push(NewRecord::to_partition(0, value, at).header(SOURCE_HEADER, source));
            }
        }
        Ok(parcel)
    }

    /// Sends what has not been sent yet. After an error the rest can be sent again; readers drop repeats.
    pub async fn send(&self, parcel: &mut Parcel) -> Result<(), EventLogError> {
        for (topic, records) in [(&self.events, &mut parcel.events), (&self.dead, &mut parcel.dead)] {
            if !records.is_empty() {
                self.log.append(topic, records.clone()).await?;
                records.clear();
            }
        }
        let Some(topic) = &self.json else { return Ok(()) };
        while !parcel.json.is_empty() {
            let now = parcel.json.len().min(JSON_AT_ONCE);
            self.log.append(topic, parcel.json[..now].to_vec()).await?;
            parcel.json.drain(..now);
        }
        Ok(())
    }
}
