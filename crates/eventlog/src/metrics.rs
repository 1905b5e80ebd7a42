//! The numbers that the event log shows, with their help texts. Labels are topics, groups, partitions and
//! providers: sets that the configuration closes. Never a key or a value.

use std::time::Duration;

use crate::{Group, Topic, TopicPartition};

/// Records that were appended and are durable; by topic.
pub const APPENDED_RECORDS: &str = "eventlog_appended_records_total";
/// Their bytes: keys, values and headers; by topic.
pub const APPENDED_BYTES: &str = "eventlog_appended_bytes_total";
/// From the call of append to its answer; by topic.
pub const APPEND_SECONDS: &str = "eventlog_append_seconds";
/// Records that one transaction of the embedded log's writer carried.
pub const TRANSACTION_RECORDS: &str = "eventlog_transaction_records";
/// Transactions of the embedded log's writer that failed and were rolled back.
pub const FAILED_TRANSACTIONS: &str = "eventlog_failed_transactions_total";
/// Records between what a group has committed and the end; by group, topic and partition.
pub const CONSUMER_LAG: &str = "eventlog_consumer_lag_records";
/// Records that retention or compaction removed; by topic.
pub const REMOVED_RECORDS: &str = "eventlog_removed_records_total";
/// Records that retention removed before a group had committed them; by topic.
pub const REMOVED_UNREAD: &str = "eventlog_removed_unread_records_total";
/// Appends that failed, of whose records all, some or none may be there; by topic. Kafka only.
pub const FAILED_APPENDS: &str = "eventlog_failed_appends_total";
/// Times that a reader found its offset gone (retention overtook it, the log was cut off or made anew) and went to the
/// oldest record kept; by group and topic. Kafka only.
pub const OFFSET_RESETS: &str = "eventlog_offset_resets_total";

/// Tells the recorder what the numbers mean; once, after it is installed.
pub fn describe() {
    use ::metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!(APPENDED_RECORDS, "Records appended and durable, by topic");
    describe_counter!(APPENDED_BYTES, Unit::Bytes, "Bytes of keys, values and headers appended, by topic");
    describe_histogram!(APPEND_SECONDS, Unit::Seconds, "From the call of append to its durable answer, by topic");
    describe_histogram!(TRANSACTION_RECORDS, "Records in one transaction of the embedded log's writer");
    describe_counter!(FAILED_TRANSACTIONS, "Transactions of the embedded log's writer that were rolled back");
    describe_gauge!(CONSUMER_LAG, "Records between a group's commit and the end, by group, topic and partition");
    describe_counter!(REMOVED_RECORDS, "Records removed by retention or compaction, by topic");
    describe_counter!(REMOVED_UNREAD, "Records removed by retention before a group had committed them, by topic");
    describe_counter!(FAILED_APPENDS, "Appends to Kafka that failed, by topic");
    describe_counter!(
        OFFSET_RESETS,
        "Times a reader's offset was gone and it went to the oldest record, by group and topic"
    );
}

fn label(text: &str) -> ::metrics::SharedString {
    text.to_owned().into()
}

/// What the appends of one topic count in, looked up once: a look-up costs more than the counting.
pub(crate) struct Appends {
    records: ::metrics::Counter,
    bytes: ::metrics::Counter,
    seconds: ::metrics::Histogram,
}

impl Appends {
    /// To be made with the topic's first append, when the process's recorder is there.
    pub(crate) fn of(topic: &Topic) -> Self {
        let topic = label(topic.as_str());
        Self {
            records: ::metrics::counter!(APPENDED_RECORDS, "topic" => topic.clone()),
            bytes: ::metrics::counter!(APPENDED_BYTES, "topic" => topic.clone()),
            seconds: ::metrics::histogram!(APPEND_SECONDS, "topic" => topic),
        }
    }

    pub(crate) fn count(&self, records: usize, bytes: usize, took: Duration) {
        self.records.increment(records as u64);
        self.bytes.increment(bytes as u64);
        self.seconds.record(took);
    }
}

pub(crate) fn lag(group: &Group, partition: &TopicPartition, records: u64) {
    ::metrics::gauge!(CONSUMER_LAG,
        "group" => label(group.as_str()),
        "topic" => label(partition.topic.as_str()),
        "partition" => partition.partition.to_string())
    .set(records as f64);
}

#[cfg(feature = "kafka")]
pub(crate) fn append_failed(topic: &Topic) {
    ::metrics::counter!(FAILED_APPENDS, "topic" => label(topic.as_str())).increment(1);
}

/// Says once that a reader's offset was gone. What lay between was removed unread, unless the log was made anew.
#[cfg(feature = "kafka")]
pub(crate) fn offset_reset(group: &Group, partition: &TopicPartition, from: u64, to: u64) {
    tracing::error!(%group, topic = %partition.topic, partition = partition.partition, from, to,
        "the reader's offset is gone; it goes on at the oldest record kept");
    let topic = label(partition.topic.as_str());
    ::metrics::counter!(OFFSET_RESETS, "group" => label(group.as_str()), "topic" => topic.clone()).increment(1);
    ::metrics::counter!(REMOVED_UNREAD, "topic" => topic).increment(to.saturating_sub(from));
}
