//! Topics and bounds: what exists, what is refused, what compaction keeps.

use std::collections::BTreeMap;

use eventlog::{MAX_APPEND, MAX_PARTITIONS, MAX_VALUE};

use super::*;

/// The same specification again changes nothing; another number of partitions is an error.
pub async fn a_topic_is_made_once_and_keeps_its_partitions<P: Provider>(provider: P) {
    let log = provider.log();
    let topic = made_topic(&*log, 3).await;
    append_numbered(&*log, &topic, 2, "kept", 1).await;
    let again = |partitions| TopicSpec {
        topic: topic.clone(),
        partitions,
        retention: Retention::Time(Duration::from_secs(86_400)),
    };
    log.ensure_topic(&again(3)).await.expect("the same topic again");
    assert_eq!(log.partitions(&topic).await.expect("partitions"), 3);
    assert!(log.end_offset(&at(&topic, 2)).await.expect("an end") >= 1, "its records are still there");
    match log.ensure_topic(&again(4)).await {
        Err(EventLogError::Partitions { topic: of, have: 3, want: 4 }) => assert_eq!(of, topic),
        other => panic!("another number of partitions: {other:?}"),
    }
    for partitions in [0, MAX_PARTITIONS + 1] {
        let bad = TopicSpec { topic: new_topic(), partitions, retention: Retention::Compacted };
        let answer = log.ensure_topic(&bad).await;
        assert!(matches!(answer, Err(EventLogError::Refused(_))), "{partitions} partitions: {answer:?}");
    }
}

/// Nothing comes into being by being asked for.
pub async fn what_does_not_exist_is_named<P: Provider>(provider: P) {
    let log = provider.log();
    let missing = new_topic();
    let names = |error: EventLogError, call: &str| match error {
        EventLogError::NoSuchTopic(topic) => assert_eq!(topic, missing, "{call}"),
        other => panic!("{call}: {other:?}"),
    };
    names(log.partitions(&missing).await.expect_err("no topic"), "partitions");
    let record = NewRecord::keyed("key", "value", AT);
    names(log.append(&missing, vec![record]).await.expect_err("no topic"), "append");
    names(log.end_offset(&at(&missing, 0)).await.expect_err("no topic"), "end_offset");
    names(log.committed(&new_group(), &at(&missing, 0)).await.expect_err("no topic"), "committed");
    let subscription = Subscription { group: new_group(), topics: vec![missing.clone()], start: Start::Earliest };
    let error = log.subscribe(subscription).await.err().expect("no topic");
    names(error, "subscribe");
}

/// A refused append leaves nothing behind, not even its good records.
pub async fn what_breaks_a_bound_is_refused_as_a_whole<P: Provider>(provider: P) {
    let log = provider.log();
    let topic = made_topic(&*log, 2).await;
    let good = || NewRecord::to_partition(0, "good", AT);
    let homeless = NewRecord { key: None, partition: None, ..good() };
    let cases = [
        ("too many records", vec![good(); MAX_APPEND + 1]),
        ("too large a value", vec![good(), NewRecord::to_partition(0, vec![0; MAX_VALUE + 1], AT)]),
        ("neither key nor partition", vec![good(), homeless]),
        ("a NUL in a header's name", vec![good(), good().header("a\0b", "")]),
        ("a partition that is not there", vec![good(), NewRecord::to_partition(2, "stray", AT)]),
    ];
    for (what, records) in cases {
        match log.append(&topic, records).await {
            Err(error @ EventLogError::Refused(_)) => assert!(!error.retryable(), "{what} stays refused"),
            other => panic!("{what}: {other:?}"),
        }
    }
    let answer = log.end_offset(&at(&topic, 2)).await;
    assert!(matches!(answer, Err(EventLogError::Refused(_))), "the end of a partition that is not there: {answer:?}");
    assert_eq!(log.append(&topic, Vec::new()).await.expect("an empty append"), Vec::new());
    append_numbered(&*log, &topic, 0, "only", 1).await;
    let mut member = Member::join(&*log, &new_group(), &topic, Start::Earliest).await;
    assert_eq!(values(&member.read(1).await), ["only-0"]);
}

/// However far compaction is: the last value of each key is there, what is there is in order, and offsets
/// stay what they were.
pub async fn a_compacted_topic_keeps_the_last_value_of_every_key<P: Provider>(provider: P) {
    let log = provider.log();
    let topic = new_topic();
    let spec = TopicSpec { topic: topic.clone(), partitions: 2, retention: Retention::Compacted };
    log.ensure_topic(&spec).await.expect("a compacted topic");
    let keyless = log.append(&topic, vec![NewRecord::to_partition(0, "keyless", AT)]).await;
    assert!(matches!(keyless, Err(EventLogError::Refused(_))), "a compacted topic needs keys: {keyless:?}");
    let mut last: BTreeMap<String, (Position, Option<Bytes>)> = BTreeMap::new();
    for round in 0..40 {
        let keys: Vec<String> = (0..50).filter(|k| round < 39 - k % 3).map(|k| format!("key-{k}")).collect();
        let value = |k: usize| (k % 10 != 9 || round % 2 == 1).then(|| Bytes::from(format!("{k} in {round}")));
        let record = |(k, key): (usize, &String)| NewRecord {
            value: value(k),
            ..NewRecord::keyed(key.clone().into_bytes(), "", AT)
        };
        let records: Vec<NewRecord> = keys.iter().enumerate().map(record).collect();
        let given: Vec<_> = records.iter().map(|r| r.value.clone()).collect();
        let positions = log.append(&topic, records).await.expect("an append");
        for ((key, value), position) in keys.into_iter().zip(given).zip(positions) {
            last.insert(key, (position, value));
        }
        if round % 13 == 0 {
            provider.clean().await;
        }
    }
    provider.clean().await;
    let mut member = Member::join(&*log, &new_group(), &topic, Start::Earliest).await;
    let mut found: BTreeMap<String, (Position, Option<Bytes>)> = BTreeMap::new();
    let mut seen: BTreeMap<u32, u64> = BTreeMap::new();
    let mut patience = Patience::new("the last value of every key");
    while found != last {
        patience.check(|| format!("{} of {} keys", found.len(), last.len()));
        for record in member.step(100).await {
            let before = seen.insert(record.partition, record.offset);
            assert!(before.is_none_or(|b| b < record.offset), "offsets rise");
            let key = String::from_utf8_lossy(record.key.as_ref().expect("a key")).into_owned();
            let position = Position { partition: record.partition, offset: record.offset };
            found.insert(key, (position, record.value));
        }
    }
    member.silence().await;
}
