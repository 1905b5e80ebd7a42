//! How each kind of client of the library is set up, and where its talk goes. Never connects by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};

use super::errors;
use super::options::{Compression, KafkaLogOptions};
use crate::{EventLogError, Group, MAX_KEY_AND_HEADERS, MAX_VALUE, Subscription};

/// Largest record on the wire in bytes: value, key, headers, and 256 KiB for the lengths between them (each header
/// has two, and there may be many short ones).
pub(super) const MAX_MESSAGE: usize = MAX_VALUE + MAX_KEY_AND_HEADERS + 256 * 1024;
/// Most bytes of one answer to a fetch, unless its first record is larger.
const MAX_FETCH: usize = 32 * 1024 * 1024;
/// Most bytes of one partition in it, unless its first record is larger: so that one full partition does not
/// starve the others.
const MAX_FETCH_OF_ONE: usize = 4 * 1024 * 1024;
/// Most records that the library holds back from its own bound; ours (`queue_mib`) is met long before.
const LIBRARY_RECORDS: usize = 10_000_000;
/// Rest before the same question or commit again.
pub(super) const REST: Duration = Duration::from_millis(50);

fn refused(what: impl std::fmt::Display) -> EventLogError {
    EventLogError::Refused(format!("kafka: {what}"))
}

/// What all clients have in common.
pub(super) fn base(options: &KafkaLogOptions) -> Result<ClientConfig, EventLogError> {
    let mut config = ClientConfig::new();
    for (name, value) in options.security().map_err(refused)? {
        config.set(name, value);
    }
    config
        .set("bootstrap.servers", options.bootstrap.join(","))
        .set("client.id", &options.client_id)
        // Nothing comes into being by being asked for, whatever the broker would allow.
        .set("allow.auto.create.topics", "false")
        .set("message.max.bytes", MAX_MESSAGE.to_string())
        .set("receive.message.max.bytes", (2 * MAX_FETCH + MAX_MESSAGE).to_string())
        .set("socket.timeout.ms", options.request_timeout.as_millis().to_string())
        .set("socket.keepalive.enable", "true")
        .set("socket.nagle.disable", "true")
        // A broker is back within seconds; ten seconds of waiting on top of that help nobody.
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000");
    Ok(config)
}

/// The one producer of a process.
pub(super) fn producer(options: &KafkaLogOptions) -> Result<ClientConfig, EventLogError> {
    let mut config = base(options)?;
    let kbytes = options.queue_mib as usize * 1024 + (crate::MAX_APPEND_BYTES + MAX_MESSAGE) / 1024;
    let compression = match options.compression {
        Compression::None => "none",
        Compression::Lz4 => "lz4",
        Compression::Zstd => "zstd",
    };
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.codec", compression)
        .set("linger.ms", options.linger.as_millis().to_string())
        .set("message.timeout.ms", options.append_timeout.as_millis().to_string())
        .set("queue.buffering.max.kbytes", kbytes.to_string())
        .set("queue.buffering.max.messages", LIBRARY_RECORDS.to_string())
        .set("retry.backoff.ms", "50");
    Ok(config)
}

/// A client of this group that is no member: asks what is committed.
pub(super) fn onlooker(options: &KafkaLogOptions, group: &Group) -> Result<ClientConfig, EventLogError> {
    let mut config = base(options)?;
    config.set("group.id", group.as_str()).set("enable.auto.commit", "false");
    Ok(config)
}

/// A member of a group.
pub(super) fn member(options: &KafkaLogOptions, subscription: &Subscription) -> Result<ClientConfig, EventLogError> {
    let mut config = onlooker(options, &subscription.group)?;
    let session = options.session_timeout.as_millis();
    config
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("enable.auto.offset.store", "false")
        .set("session.timeout.ms", session.to_string())
        .set("heartbeat.interval.ms", (session / 6).to_string())
        .set("max.poll.interval.ms", options.poll_patience.as_millis().to_string())
        // Partitions that somebody adds to a topic are found so soon; the default is five minutes.
        .set("topic.metadata.refresh.interval.ms", "10000")
        // Where to start is decided here (`begin`); the library only when records vanish under the reader, and then
        // it shall skip nothing that is left.
        .set("auto.offset.reset", "earliest")
        .set("fetch.max.bytes", MAX_FETCH.to_string())
        .set("fetch.message.max.bytes", MAX_FETCH_OF_ONE.to_string())
        .set("queued.max.messages.kbytes", (options.fetch_mib * 1024).to_string())
        // With its defaults it rests a second when the queue is full or a leader has moved.
        .set("fetch.queue.backoff.ms", "20")
        .set("fetch.error.backoff.ms", "100")
        .set("statistics.interval.ms", "5000");
    Ok(config)
}

/// Takes what the library says into our log.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
            tracing::error!(facility, "kafka: {message}");
        }
        RDKafkaLogLevel::Warning => tracing::warn!(facility, "kafka: {message}"),
        // It thinks of every lost connection as a notice.
        _ => tracing::debug!(facility, "kafka: {message}"),
    }
}

/// Takes what went wrong with a client as a whole into our log; the library goes on by itself.
pub(super) fn error(error: &KafkaError, reason: &str) {
    tracing::warn!(%error, "kafka: {reason}");
}

/// Why no broker lets us in, if that is so. The library says it to whoever listens, and to a caller only that nobody
/// answered; the next success takes it back.
#[derive(Clone, Default)]
pub(super) struct Locked(Arc<Mutex<Option<String>>>);

impl Locked {
    /// Keeps the word if it is about who we are, or who the broker is.
    pub(super) fn hear(&self, error: &KafkaError, reason: &str) {
        if matches!(errors::code(error), Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL)) {
            *self.0.lock() = Some(reason.to_owned());
        }
    }
    /// An answer, with that word beside it where it is that nobody answered.
    pub(super) fn explain<T>(&self, answer: Result<T, EventLogError>) -> Result<T, EventLogError> {
        let mut heard = self.0.lock();
        match (answer, &*heard) {
            (Err(EventLogError::Unavailable(why)), Some(reason)) => {
                Err(EventLogError::Unavailable(format!("{why}; {reason}")))
            }
            (Ok(value), _) => {
                *heard = None;
                Ok(value)
            }
            (other, _) => other,
        }
    }
}

/// The context of clients that only ask.
pub(super) struct Asking;

impl ClientContext for Asking {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }
    fn error(&self, kafka_error: KafkaError, reason: &str) {
        error(&kafka_error, reason);
    }
}

impl rdkafka::consumer::ConsumerContext for Asking {}

/// Asks until the answer is not one of those that pass by themselves, for at most `wait`; blocks.
pub(super) fn patiently<T>(
    wait: Duration,
    mut passes: impl FnMut(Code) -> bool,
    mut ask: impl FnMut() -> KafkaResult<T>,
) -> KafkaResult<T> {
    let until = Instant::now() + wait;
    loop {
        match ask() {
            Err(error) if errors::code(&error).is_some_and(&mut passes) && Instant::now() < until => {
                std::thread::sleep(REST);
            }
            answer => return answer,
        }
    }
}

/// Runs a call that blocks where blocking is harmless.
pub(super) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, EventLogError> + Send + 'static,
) -> Result<T, EventLogError> {
    // The run time is going, or the call panicked: neither leaves an answer.
    tokio::task::spawn_blocking(call).await.unwrap_or(Err(EventLogError::Closed))
}
