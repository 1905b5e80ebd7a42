//! The bounds of the port as pure checks, the same for every provider, so that what one refuses all refuse.
//! Never touches a store.

use crate::{
    EventLogError, MAX_APPEND, MAX_PARTITIONS, MAX_VALUE, NewRecord, Retention, Subscription, TopicPartition,
    TopicSpec, partition_for,
};

/// Most bytes of a record's key and headers together: they name and describe the value, they do not carry it.
pub const MAX_KEY_AND_HEADERS: usize = 64 * 1024;
/// Most bytes of one append: four of the largest values. Bounds what one write holds in memory.
pub const MAX_APPEND_BYTES: usize = 4 * MAX_VALUE;
/// Most topics of one subscription: this house has nine.
pub const MAX_SUBSCRIBED: usize = 64;

fn refused<T>(why: String) -> Result<T, EventLogError> {
    Err(EventLogError::Refused(why))
}

/// Whether a topic may look like this.
pub(crate) fn spec(spec: &TopicSpec) -> Result<(), EventLogError> {
    if !(1..=MAX_PARTITIONS).contains(&spec.partitions) {
        return refused(format!(
            "topic {}: {} partitions; 1 to {MAX_PARTITIONS} are allowed",
            spec.topic, spec.partitions
        ));
    }
    Ok(())
}

/// Whether the topic has this partition.
pub(crate) fn partition(partition: &TopicPartition, partitions: u32) -> Result<(), EventLogError> {
    if partition.partition >= partitions {
        return refused(format!("topic {} has {partitions} partitions, not {}", partition.topic, partition.partition));
    }
    Ok(())
}

/// Whether the subscription names a bounded number of topics and at least one.
pub(crate) fn subscription(subscription: &Subscription) -> Result<(), EventLogError> {
    let count = subscription.topics.len();
    if !(1..=MAX_SUBSCRIBED).contains(&count) {
        return refused(format!("{count} topics; 1 to {MAX_SUBSCRIBED} are allowed"));
    }
    Ok(())
}

/// The partition of each record, or why the whole append is refused; nothing of a refused append is written.
pub(crate) fn places(records: &[NewRecord], partitions: u32, retention: Retention) -> Result<Vec<u32>, EventLogError> {
    if records.len() > MAX_APPEND {
        return refused(format!("{} records; at most {MAX_APPEND} fit one append", records.len()));
    }
    let bytes: usize = records.iter().map(size).sum();
    if bytes > MAX_APPEND_BYTES {
        return refused(format!("{bytes} bytes; at most {MAX_APPEND_BYTES} fit one append"));
    }
    records.iter().enumerate().map(|(i, record)| place(i, record, partitions, retention)).collect()
}

fn place(i: usize, record: &NewRecord, partitions: u32, retention: Retention) -> Result<u32, EventLogError> {
    let value = record.value.as_ref().map_or(0, |v| v.len());
    if value > MAX_VALUE {
        return refused(format!("record {i}: a value of {value} bytes; at most {MAX_VALUE} are allowed"));
    }
    // Many clients end a name there, and would show another one.
    if let Some((name, _)) = record.headers.iter().find(|(name, _)| name.contains('\0')) {
        return refused(format!("record {i}: a NUL in the header name {name:?}"));
    }
    let beside = beside(record);
    if beside > MAX_KEY_AND_HEADERS {
        return refused(format!(
            "record {i}: {beside} bytes of key and headers; at most {MAX_KEY_AND_HEADERS} are allowed"
        ));
    }
    if retention == Retention::Compacted && record.key.is_none() {
        return refused(format!("record {i}: no key; a compacted topic keeps the last value of a key"));
    }
    match (record.partition, &record.key) {
        (Some(p), _) if p >= partitions => refused(format!("record {i}: partition {p}; the topic has {partitions}")),
        (Some(p), _) => Ok(p),
        (None, Some(key)) => Ok(partition_for(key, partitions)),
        (None, None) => refused(format!("record {i}: neither key nor partition")),
    }
}

fn beside(record: &NewRecord) -> usize {
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    record.key.as_ref().map_or(0, |k| k.len()) + headers
}

/// Bytes of a record: what queues and polls are bounded by.
pub(crate) fn size(record: &NewRecord) -> usize {
    record.value.as_ref().map_or(0, |v| v.len()) + beside(record)
}
