//! Appends: hands records to the one idempotent producer and answers when all of an append are acknowledged. Its
//! memory is bounded before the library's is: what waits for acknowledgement holds places, whoever still listens.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::client::{self, Locked};
use super::errors::{self, About};
use super::options::KafkaLogOptions;
use super::record::{Stamps, envelope};
use crate::{EventLogError, NewRecord, Position, Topic};

/// The unit in which the queue is counted, in bytes; a record counts at least an eighth of it.
const QUEUE_UNIT: usize = 1024;
/// Rest before another try when the library's own queue is full. Ours is smaller, so that hardly happens.
const FULL_AGAIN: Duration = Duration::from_millis(5);

/// The producer. After an error that it cannot recover from it is replaced.
pub(super) struct Producer {
    config: ClientConfig,
    locked: Locked,
    current: Mutex<Arc<Sender>>,
    places: Arc<Semaphore>,
    all_places: u32,
}

type Sender = ThreadedProducer<Deliveries>;

impl Producer {
    pub(super) fn new(options: &KafkaLogOptions, locked: Locked) -> Result<Self, EventLogError> {
        let config = client::producer(options)?;
        let current = Mutex::new(Arc::new(sender(&config, &locked)?));
        let all_places = options.queue_mib * (1024 * 1024 / QUEUE_UNIT) as u32;
        Ok(Self { config, locked, current, places: Arc::new(Semaphore::new(all_places as usize)), all_places })
    }

    /// Appends records to the partitions found for them.
    pub(super) async fn append(
        &self,
        topic: &Topic,
        records: Vec<NewRecord>,
        partitions: &[u32],
        bytes: usize,
        stamps: Stamps,
    ) -> Result<Vec<Position>, EventLogError> {
        let units = u32::try_from(1 + bytes / QUEUE_UNIT + records.len() / 8).unwrap_or(u32::MAX);
        let places = self.places.clone().acquire_many_owned(units.min(self.all_places));
        let places = places.await.map_err(|_| EventLogError::Closed)?;
        let sender = self.current.lock().clone();
        let (batch, answer) = Batch::new(records.len(), places);
        for (index, (record, partition)) in records.into_iter().zip(partitions).enumerate() {
            tokio::task::coop::consume_budget().await;
            if let Err(code) = send(&sender, topic, &record, *partition, stamps, &batch, index).await {
                batch.give_up(index, code);
                break;
            }
        }
        let answer = answer.await.unwrap_or(Err(Code::PurgeQueue));
        answer.map_err(|code| {
            self.replace_if_broken(&sender);
            errors::of_code(code, About { doing: "append", topic: Some(topic) })
        })
    }

    /// An idempotent producer that meets a gap it cannot explain stops for good, so that order is never broken in
    /// silence. What it still held has failed; the next append uses a new one.
    fn replace_if_broken(&self, sender: &Arc<Sender>) {
        let Some((code, why)) = sender.client().fatal_error() else { return };
        let mut current = self.current.lock();
        if !Arc::ptr_eq(&current, sender) {
            return;
        }
        match self::sender(&self.config, &self.locked) {
            Ok(fresh) => {
                tracing::error!(%code, why, "the kafka producer broke and was replaced");
                *current = Arc::new(fresh);
            }
            Err(error) => tracing::error!(%code, why, %error, "the kafka producer broke and cannot be replaced"),
        }
    }

    /// Takes no more, and waits for what is on its way.
    pub(super) fn close(&self, wait: Duration) {
        self.places.close();
        let sender = self.current.lock().clone();
        if let Err(error) = sender.flush(wait) {
            tracing::warn!(%error, "closed with appends on their way");
        }
    }
}

fn sender(config: &ClientConfig, locked: &Locked) -> Result<Sender, EventLogError> {
    let about = About { doing: "making a producer", topic: None };
    config.create_with_context(Deliveries(locked.clone())).map_err(|e| errors::of(&e, about))
}

async fn send(
    sender: &Sender,
    topic: &Topic,
    record: &NewRecord,
    partition: u32,
    stamps: Stamps,
    batch: &Arc<Batch>,
    index: usize,
) -> Result<(), Code> {
    let (timestamp, headers) = envelope(record, stamps);
    let mut message = BaseRecord {
        topic: topic.as_str(),
        partition: Some(partition as i32),
        payload: record.value.as_deref(),
        key: record.key.as_deref(),
        timestamp,
        headers,
        delivery_opaque: Box::new((batch.clone(), index)),
    };
    loop {
        match sender.send(message) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(Code::QueueFull), back)) => message = back,
            Err((error, _)) => return Err(errors::code(&error).unwrap_or(Code::Fail)),
        }
        tokio::time::sleep(FULL_AGAIN).await;
    }
}

type Answer = Result<Vec<Position>, Code>;

/// One append on its way. Holds its places in the queue until the last of its records is reported, even when
/// nobody waits for the answer any more: until then the library holds the records.
struct Batch {
    state: Mutex<State>,
    _places: OwnedSemaphorePermit,
}

struct State {
    positions: Vec<Position>,
    left: usize,
    failed: Option<Code>,
    answer: Option<oneshot::Sender<Answer>>,
}

impl Batch {
    fn new(records: usize, places: OwnedSemaphorePermit) -> (Arc<Self>, oneshot::Receiver<Answer>) {
        let (answer, answered) = oneshot::channel();
        let positions = vec![Position { partition: 0, offset: 0 }; records];
        let state = State { positions, left: records, failed: None, answer: Some(answer) };
        (Arc::new(Self { state: Mutex::new(state), _places: places }), answered)
    }

    fn report(&self, index: usize, report: Result<Position, Code>) {
        let mut state = self.state.lock();
        match report {
            Ok(position) => state.positions[index] = position,
            // The first failure says most; what follows it is often only purged.
            Err(code) => drop(state.failed.get_or_insert(code)),
        }
        state.left -= 1;
        state.answer_if_done();
    }

    /// The records from this one on were not handed over.
    fn give_up(&self, from: usize, code: Code) {
        let mut state = self.state.lock();
        state.failed.get_or_insert(code);
        state.left -= state.positions.len() - from;
        state.answer_if_done();
    }
}

impl State {
    fn answer_if_done(&mut self) {
        if self.left > 0 {
            return;
        }
        let Some(answer) = self.answer.take() else { return };
        let positions = std::mem::take(&mut self.positions);
        // Fails only if nobody waits any more.
        let _ = answer.send(self.failed.map_or(Ok(positions), Err));
    }
}

/// Takes the library's reports to their appends.
struct Deliveries(Locked);

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }
    fn error(&self, error: KafkaError, reason: &str) {
        self.0.hear(&error, reason);
        client::error(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<(Arc<Batch>, usize)>;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: Self::DeliveryOpaque) {
        let (batch, index) = *opaque;
        let report = match result {
            Ok(message) => position(message),
            Err((error, _)) => Err(errors::code(error).unwrap_or(Code::Fail)),
        };
        batch.report(index, report);
    }
}

/// Where it lies. Acknowledged without an offset (a repeat that the broker remembers too vaguely) is no answer that
/// the port allows: the caller repeats it.
fn position(message: &impl Message) -> Result<Position, Code> {
    match (u32::try_from(message.partition()), u64::try_from(message.offset())) {
        (Ok(partition), Ok(offset)) => Ok(Position { partition, offset }),
        _ => Err(Code::DuplicateSequenceNumber),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    async fn batch(records: usize) -> (Arc<Batch>, oneshot::Receiver<Answer>, Arc<Semaphore>) {
        let places = Arc::new(Semaphore::new(1));
        let (batch, answer) = Batch::new(records, places.clone().acquire_owned().await.unwrap());
        (batch, answer, places)
    }

    #[tokio::test]
    async fn an_append_is_answered_when_its_last_record_is_reported_in_whatever_order() {
        let (batch, answer, places) = batch(2).await;
        let at = |offset| Position { partition: 0, offset };
        batch.report(1, Ok(at(8)));
        assert_eq!(places.available_permits(), 0);
        batch.report(0, Ok(at(7)));
        assert_eq!(answer.await.unwrap(), Ok(vec![at(7), at(8)]));
        drop(batch);
        assert_eq!(places.available_permits(), 1);
    }

    #[tokio::test]
    async fn the_first_failure_is_the_answer_and_what_was_not_sent_is_not_waited_for() {
        let (batch, mut answer, _places) = batch(4).await;
        batch.report(0, Err(Code::MessageTimedOut));
        batch.give_up(2, Code::PurgeQueue);
        assert!(answer.try_recv().is_err(), "record 1 is on its way");
        batch.report(1, Ok(Position { partition: 0, offset: 1 }));
        assert_eq!(answer.await.unwrap(), Err(Code::MessageTimedOut));
    }
}
