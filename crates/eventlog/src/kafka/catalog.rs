//! Which topics there are and what they look like: asked of the cluster, made when told to, remembered for the
//! appends. Never makes a topic in passing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::RDKafkaErrorCode as Code;
use tokio::time::Instant;
use types::Clock;

use super::client::{self, Asking, Locked, MAX_MESSAGE, blocking, patiently};
use super::errors::{self, About};
use super::options::KafkaLogOptions;
use super::record::Stamps;
use crate::metrics::Appends;
use crate::{EventLogError, Retention, Topic, TopicPartition, TopicSpec, check};

/// Most topics that are remembered; this house has nine. Beyond, all are forgotten and asked for again.
const MAX_REMEMBERED: usize = 1024;
/// Pause between two looks at whether a new topic has arrived everywhere.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Segments of a compacted topic, in bytes: only closed segments are compacted, and a reader of the whole topic reads
/// the open one in full.
const COMPACTED_SEGMENT: usize = 64 * 1024 * 1024;

/// What an append has to know of a topic.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) partitions: u32,
    /// Of `Time`, only that it is so: how long is the broker's matter.
    pub(super) retention: Retention,
    pub(super) stamps: Stamps,
    /// What its appends count in.
    pub(super) appends: Arc<Appends>,
}

pub(super) struct Catalog {
    admin: Arc<AdminClient<Asking>>,
    known: Mutex<HashMap<Topic, Known>>,
    options: KafkaLogOptions,
    locked: Locked,
    clock: Arc<dyn Clock>,
}

impl Catalog {
    pub(super) fn new(options: KafkaLogOptions, locked: Locked, clock: Arc<dyn Clock>) -> Result<Self, EventLogError> {
        let about = About { doing: "making a client", topic: None };
        let admin = client::base(&options)?.create_with_context(Asking).map_err(|e| errors::of(&e, about))?;
        Ok(Self { admin: Arc::new(admin), known: Mutex::default(), options, locked, clock })
    }

    /// Number of partitions, asked of the cluster.
    pub(super) async fn partitions(&self, topic: &Topic) -> Result<u32, EventLogError> {
        let (admin, topic, wait) = (self.admin.clone(), topic.clone(), self.options.request_timeout);
        self.locked.explain(blocking(move || Ok(look(&admin, &topic, wait)?.partitions)).await)
    }

    /// What is remembered of a topic, or else asked of the cluster.
    pub(super) async fn known(&self, topic: &Topic) -> Result<Known, EventLogError> {
        if let Some(known) = self.known.lock().get(topic) {
            return Ok(known.clone());
        }
        let partitions = self.partitions(topic).await?;
        let settings = self.settings(topic).await?;
        let appends = Arc::new(Appends::of(topic));
        let known = Known { partitions, retention: settings.retention, stamps: settings.stamps, appends };
        let mut all = self.known.lock();
        if all.len() >= MAX_REMEMBERED {
            all.clear();
        }
        all.insert(topic.clone(), known.clone());
        Ok(known)
    }

    /// The next append asks again: something was not as remembered.
    pub(super) fn forget(&self, topic: &Topic) {
        self.known.lock().remove(topic);
    }

    /// Fails unless the topic has this partition.
    pub(super) async fn has(&self, partition: &TopicPartition) -> Result<(), EventLogError> {
        check::partition(partition, self.partitions(&partition.topic).await?)
    }

    /// The oldest offset kept and the end.
    pub(super) async fn ends(&self, partition: &TopicPartition) -> Result<(u64, u64), EventLogError> {
        let (admin, partition, wait) = (self.admin.clone(), partition.clone(), self.options.request_timeout);
        blocking(move || ends(&admin, &partition, wait)).await
    }

    pub(super) fn admin(&self) -> Arc<AdminClient<Asking>> {
        self.admin.clone()
    }

    /// Makes the topic, or checks it.
    pub(super) async fn ensure(&self, spec: &TopicSpec) -> Result<(), EventLogError> {
        match self.partitions(&spec.topic).await {
            Err(EventLogError::NoSuchTopic(_)) => {}
            have => return self.compare(spec, have?).await,
        }
        match self.make(spec).await? {
            Made::Here => tracing::info!(topic = %spec.topic, partitions = spec.partitions, "made a topic"),
            Made::ByAnother => {}
        }
        let have = self.arrival(&spec.topic).await?;
        self.compare(spec, have).await
    }

    async fn make(&self, spec: &TopicSpec) -> Result<Made, EventLogError> {
        let copies = self.options.replication_factor;
        let settings = new_settings(spec.retention, copies, self.clock.as_ref());
        let mut topic =
            NewTopic::new(spec.topic.as_str(), spec.partitions as i32, TopicReplication::Fixed(i32::from(copies)));
        for (name, value) in &settings {
            topic = topic.set(name, value);
        }
        let about = About { doing: "making a topic", topic: Some(&spec.topic) };
        let made = self.admin.create_topics([&topic], &self.asking()).await.map_err(|e| errors::of(&e, about))?;
        match made.into_iter().next() {
            Some(Err((_, Code::TopicAlreadyExists))) => Ok(Made::ByAnother),
            Some(Err((_, code))) => Err(errors::of_code(code, about)),
            Some(Ok(_)) | None => Ok(Made::Here),
        }
    }

    /// Waits until every partition of a new topic has a leader.
    async fn arrival(&self, topic: &Topic) -> Result<u32, EventLogError> {
        let until = Instant::now() + self.options.request_timeout;
        loop {
            let (admin, name, wait) = (self.admin.clone(), topic.clone(), self.options.request_timeout);
            let seen = blocking(move || look(&admin, &name, wait)).await;
            match seen {
                Ok(Seen { partitions, led: true }) => return Ok(partitions),
                Err(error) if !error.retryable() && !matches!(error, EventLogError::NoSuchTopic(_)) => {
                    return Err(error);
                }
                _ if Instant::now() >= until => {
                    return Err(EventLogError::Unavailable(format!("kafka: topic {topic} was made but has no leader")));
                }
                _ => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
    }

    /// Holds a topic that is there against what it must look like. Its number of partitions and its kind of retention
    /// are promises; how long it keeps records and how large they may be is its operator's word, and is only said.
    async fn compare(&self, spec: &TopicSpec, have: u32) -> Result<(), EventLogError> {
        if have != spec.partitions {
            return Err(EventLogError::Partitions { topic: spec.topic.clone(), have, want: spec.partitions });
        }
        let settings = self.settings(&spec.topic).await?;
        let compacted = settings.retention == Retention::Compacted;
        if settings.told && compacted != (spec.retention == Retention::Compacted) {
            let (is, shall) = if compacted { ("compacted", "kept by time") } else { ("kept by time", "compacted") };
            return Err(EventLogError::Refused(format!(
                "topic {} is {is} but shall be {shall}; change the configuration or the topic's cleanup.policy",
                spec.topic
            )));
        }
        if let (Retention::Time(have), Retention::Time(want)) = (settings.retention, spec.retention)
            && settings.told
            && have < self.clock.real(want)
        {
            tracing::warn!(topic = %spec.topic, ?have, ?want, "the topic keeps its records for less than is configured");
        }
        if settings.largest < MAX_MESSAGE {
            tracing::warn!(topic = %spec.topic, largest = settings.largest, "the topic refuses larger records than this");
        }
        self.forget(&spec.topic);
        Ok(())
    }

    fn asking(&self) -> AdminOptions {
        let wait = self.options.request_timeout;
        AdminOptions::new().request_timeout(Some(wait)).operation_timeout(Some(wait))
    }

    /// The settings of a topic that matter here. A cluster that does not let us read them gets the benefit of the
    /// doubt: kept by time, stamped by the broker.
    async fn settings(&self, topic: &Topic) -> Result<Settings, EventLogError> {
        let about = About { doing: "asking for a topic's settings", topic: Some(topic) };
        let resource = ResourceSpecifier::Topic(topic.as_str());
        let answer = self.admin.describe_configs([&resource], &self.asking()).await;
        match answer.map_err(|e| errors::of(&e, about))?.into_iter().next() {
            Some(Ok(resource)) => {
                let value = |name: &str| resource.get(name).and_then(|entry| entry.value.as_deref());
                Ok(Settings::read(value))
            }
            Some(Err(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed)) => {
                tracing::info!(%topic, "may not read the topic's settings; taken as kept by time");
                Ok(Settings::UNTOLD)
            }
            Some(Err(code)) => Err(errors::of_code(code, about)),
            None => Err(EventLogError::Unavailable(format!("kafka: no answer about topic {topic}"))),
        }
    }
}

enum Made {
    Here,
    ByAnother,
}

struct Seen {
    partitions: u32,
    /// Whether each has a leader.
    led: bool,
}

fn look(admin: &AdminClient<Asking>, topic: &Topic, wait: Duration) -> Result<Seen, EventLogError> {
    let about = About { doing: "asking for a topic", topic: Some(topic) };
    let metadata = admin.inner().fetch_metadata(Some(topic.as_str()), wait).map_err(|e| errors::of(&e, about))?;
    let found = metadata.topics().iter().find(|t| t.name() == topic.as_str());
    let found = found.ok_or_else(|| EventLogError::NoSuchTopic(topic.clone()))?;
    if let Some(error) = found.error() {
        return Err(errors::of_code(error.into(), about));
    }
    let partitions = u32::try_from(found.partitions().len()).unwrap_or(u32::MAX);
    if partitions == 0 {
        return Err(EventLogError::NoSuchTopic(topic.clone()));
    }
    Ok(Seen { partitions, led: found.partitions().iter().all(|p| p.leader() >= 0) })
}

/// The oldest offset kept and the end; blocks.
pub(super) fn ends(
    admin: &AdminClient<Asking>,
    partition: &TopicPartition,
    wait: Duration,
) -> Result<(u64, u64), EventLogError> {
    let about = About { doing: "asking for a partition's end", topic: Some(&partition.topic) };
    let name = partition.topic.as_str();
    // A new topic is known to its leader a little later than to the cluster.
    let passes = |code| match code {
        Code::UnknownTopicOrPartition => look(admin, &partition.topic, wait).is_ok(),
        other => errors::passes(other),
    };
    let ask = || admin.inner().fetch_watermarks(name, partition.partition as i32, wait);
    let (low, high) = patiently(wait, passes, ask).map_err(|e| errors::of(&e, about))?;
    Ok((u64::try_from(low).unwrap_or(0), u64::try_from(high).unwrap_or(0)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Settings {
    retention: Retention,
    stamps: Stamps,
    /// Largest batch in bytes.
    largest: usize,
    /// Whether the broker told.
    told: bool,
}

impl Settings {
    const UNTOLD: Self =
        Self { retention: Retention::Time(Duration::MAX), stamps: Stamps::Broker, largest: MAX_MESSAGE, told: false };

    fn read<'a>(value: impl Fn(&str) -> Option<&'a str>) -> Self {
        let kept =
            value("retention.ms").and_then(|ms| ms.parse::<u64>().ok()).map_or(Duration::MAX, Duration::from_millis);
        let compacted = value("cleanup.policy").is_some_and(|policy| policy.contains("compact"));
        let by_producer = value("message.timestamp.type") == Some("CreateTime");
        Self {
            retention: if compacted { Retention::Compacted } else { Retention::Time(kept) },
            stamps: if by_producer { Stamps::Producer } else { Stamps::Broker },
            largest: value("max.message.bytes").and_then(|bytes| bytes.parse().ok()).unwrap_or(MAX_MESSAGE),
            told: true,
        }
    }
}

/// The settings of a topic that is made here. Time counts from when the broker appended, on the broker's clock: so a
/// retention on a clock that runs faster is shorter there.
fn new_settings(retention: Retention, copies: u16, clock: &dyn Clock) -> Vec<(&'static str, String)> {
    let mut settings = vec![
        ("max.message.bytes", MAX_MESSAGE.to_string()),
        ("message.timestamp.type", "LogAppendTime".to_owned()),
        // With three copies one may be missing; with fewer there is no other choice.
        ("min.insync.replicas", copies.saturating_sub(1).max(1).to_string()),
    ];
    match retention {
        Retention::Time(kept) => {
            let ms = i64::try_from(clock.real(kept).as_millis()).unwrap_or(i64::MAX);
            settings.push(("cleanup.policy", "delete".to_owned()));
            settings.push(("retention.ms", ms.to_string()));
        }
        Retention::Compacted => {
            settings.push(("cleanup.policy", "compact".to_owned()));
            settings.push(("segment.bytes", COMPACTED_SEGMENT.to_string()));
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use types::SystemClock;

    #[test]
    fn settings_are_read_as_the_broker_writes_them() {
        let of = |pairs: &'static [(&str, &str)]| {
            Settings::read(move |name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| *v))
        };
        let plain =
            of(&[("cleanup.policy", "delete"), ("retention.ms", "60000"), ("message.timestamp.type", "CreateTime")]);
        assert_eq!((plain.retention, plain.stamps), (Retention::Time(Duration::from_secs(60)), Stamps::Producer));
        let for_ever = of(&[("cleanup.policy", "delete"), ("retention.ms", "-1")]);
        assert_eq!(for_ever.retention, Retention::Time(Duration::MAX));
        assert_eq!(of(&[("cleanup.policy", "compact,delete")]).retention, Retention::Compacted);
        assert_eq!(of(&[("max.message.bytes", "1048588")]).largest, 1_048_588);
    }

    #[test]
    fn retention_on_a_faster_clock_is_shorter_on_the_brokers() {
        let clock = SystemClock::with_speed(10.0);
        let settings = new_settings(Retention::Time(Duration::from_secs(3600)), 3, &clock);
        assert!(settings.contains(&("retention.ms", "360000".to_owned())), "{settings:?}");
        assert!(settings.contains(&("min.insync.replicas", "2".to_owned())), "{settings:?}");
    }
}
