//! Between a record of the port and a message of Kafka. Pure.
//!
//! Kafka's own retention counts from a record's timestamp. A replayed trace is years old, so our topics are stamped
//! by the broker (`LogAppendTime`), and the producer's moment travels in a header of ours, which the reader never
//! sees.

use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use types::Timestamp;

use crate::{NewRecord, Record, Topic};

/// The header that carries the producer's moment: milliseconds since the epoch, 8 bytes, big end first.
const AT: &str = "_at";
/// What a header is called whose name is no text.
const NO_TEXT: &str = "?";

/// How a topic's records get their timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamps {
    /// By the broker, when it appends: the producer's moment needs the header.
    Broker,
    /// By the producer.
    Producer,
}

/// The timestamp and the headers with which a record travels. Kafka takes a timestamp of 0 for "now" and has none
/// before the epoch: those need the header too.
pub(super) fn envelope(record: &NewRecord, stamps: Stamps) -> (Option<i64>, Option<OwnedHeaders>) {
    let at = record.at.millis();
    let carried = stamps == Stamps::Broker || at <= 0;
    let stamp = (at > 0).then_some(at);
    let count = record.headers.len() + usize::from(carried);
    if count == 0 {
        return (stamp, None);
    }
    let mut headers = OwnedHeaders::new_with_capacity(count);
    for (name, value) in &record.headers {
        headers = headers.insert(Header { key: name, value: Some(&value[..]) });
    }
    if carried {
        headers = headers.insert(Header { key: AT, value: Some(&at.to_be_bytes()[..]) });
    }
    (stamp, Some(headers))
}

/// A message as the port gives it; `topic` spares looking the name up again.
pub(super) fn received(message: &impl Message, topic: Topic) -> Record {
    let mut headers = message.headers().map(named).unwrap_or_default();
    let carried = headers.last().filter(|(name, _)| name == AT).and_then(|(_, value)| value[..].try_into().ok());
    let at = match carried {
        Some(bytes) => {
            headers.pop();
            i64::from_be_bytes(bytes)
        }
        None => message.timestamp().to_millis().unwrap_or_default(),
    };
    Record {
        topic,
        partition: u32::try_from(message.partition()).unwrap_or_default(),
        offset: u64::try_from(message.offset()).unwrap_or_default(),
        key: message.key().map(Bytes::copy_from_slice),
        value: message.payload().map(Bytes::copy_from_slice),
        headers,
        at: Timestamp::from_millis(at),
    }
}

/// All headers. The library panics on a name that is no UTF-8; any producer can write one, so it counts as `?` here.
/// A header without a value is one with an empty value.
fn named(headers: &impl Headers) -> Vec<(String, Bytes)> {
    let get = |i| {
        let header = catch_unwind(AssertUnwindSafe(|| headers.try_get(i)));
        match header {
            Ok(Some(Header { key, value })) => (key.to_owned(), value.map(Bytes::copy_from_slice).unwrap_or_default()),
            _ => (NO_TEXT.to_owned(), Bytes::new()),
        }
    };
    (0..headers.count()).map(get).collect()
}

/// Bytes that a received record holds: what one poll is bounded by.
pub(super) fn size(record: &Record) -> usize {
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    record.key.as_ref().map_or(0, Bytes::len) + record.value.as_ref().map_or(0, Bytes::len) + headers
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rdkafka::Timestamp as Stamp;
    use rdkafka::message::OwnedMessage;

    fn there_and_back(given: &NewRecord, stamps: Stamps, broker: Stamp) -> Record {
        let (stamp, headers) = envelope(given, stamps);
        let time = if stamps == Stamps::Broker { broker } else { stamp.map_or(broker, Stamp::CreateTime) };
        let bytes = |b: &Option<Bytes>| b.as_ref().map(|b| b.to_vec());
        let message = OwnedMessage::new(bytes(&given.value), bytes(&given.key), "t".into(), time, 3, 7, headers);
        received(&message, Topic::new("t").unwrap())
    }

    #[test]
    fn a_record_comes_back_whoever_stamps_it_and_whenever_it_was_made() {
        let broker = Stamp::LogAppendTime(1_794_000_000_000);
        for at in [i64::MIN, -1, 0, 1, 1_574_000_000_123, i64::MAX] {
            let given = NewRecord::keyed("key", "value", Timestamp::from_millis(at))
                .header("trace", "a")
                .header("_at", "the caller's own")
                .header("trace", "");
            for stamps in [Stamps::Broker, Stamps::Producer] {
                let back = there_and_back(&given, stamps, broker);
                assert_eq!((back.partition, back.offset), (3, 7));
                assert_eq!((&back.key, &back.value, &back.headers), (&given.key, &given.value, &given.headers));
                assert_eq!(back.at, given.at, "{stamps:?}");
            }
        }
    }

    #[test]
    fn a_foreign_record_has_the_brokers_time_and_keeps_its_headers() {
        let headers = OwnedHeaders::new().insert(Header { key: "_at", value: Some("soon") });
        let time = Stamp::LogAppendTime(42);
        let message = OwnedMessage::new(None, None, "t".into(), time, 0, 0, Some(headers));
        let record = received(&message, Topic::new("t").unwrap());
        assert_eq!((record.at.millis(), record.headers.len()), (42, 1));
        let bare = OwnedMessage::new(None, None, "t".into(), Stamp::NotAvailable, 0, 0, None);
        assert_eq!(received(&bare, Topic::new("t").unwrap()).at, Timestamp::default());
    }

    struct Foul;
    impl Headers for Foul {
        fn count(&self) -> usize {
            2
        }
        fn try_get(&self, i: usize) -> Option<Header<'_, &[u8]>> {
            assert!(i > 0, "a name that is no text");
            Some(Header { key: "fair", value: None })
        }
    }

    #[test]
    fn a_header_whose_name_is_no_text_stops_nobody() {
        assert_eq!(named(&Foul), [("?".to_owned(), Bytes::new()), ("fair".to_owned(), Bytes::new())]);
    }
}
