//! Records: their order, their place, their content, their durability.

use std::collections::{BTreeMap, BTreeSet};

use eventlog::partition_for;

use super::*;

/// Across appends and within one, whatever goes to other partitions meanwhile.
pub async fn records_of_a_partition_keep_their_order<P: Provider>(provider: P) {
    let log = provider.log();
    let topic = made_topic(&*log, 2).await;
    let mut given = Vec::new();
    for batch in 0..20 {
        let records: Vec<NewRecord> =
            (0..30).map(|i| NewRecord::to_partition(i % 2, format!("{batch}-{i}"), AT)).collect();
        let positions = log.append(&topic, records.clone()).await.expect("an append");
        assert_eq!(positions.len(), records.len());
        given.extend(records.into_iter().zip(positions));
    }
    let mut member = Member::join(&*log, &new_group(), &topic, Start::Earliest).await;
    let read = member.read(600).await;
    for partition in 0..2 {
        let of_given = given.iter().filter(|(_, p)| p.partition == partition).map(|(r, p)| (p.offset, r.value.clone()));
        let of_read = read.iter().filter(|r| r.partition == partition).map(|r| (r.offset, r.value.clone()));
        let of_read: Vec<_> = of_read.collect();
        assert_eq!(of_given.collect::<Vec<_>>(), of_read, "partition {partition}");
        assert!(of_read.windows(2).all(|w| w[0].0 < w[1].0), "offsets rise");
        let end = log.end_offset(&at(&topic, partition)).await.expect("an end");
        assert!(of_read.iter().all(|(offset, _)| *offset < end), "the end is behind all");
    }
}

/// Every producer in every language finds the same partition; a given partition goes first.
pub async fn a_key_decides_the_partition_as_the_port_says<P: Provider>(provider: P) {
    let log = provider.log();
    let topic = made_topic(&*log, 7).await;
    let keys: Vec<String> = (0..200).map(|i| format!("sku-{}", i * i)).collect();
    let records = keys.iter().map(|k| NewRecord::keyed(k.clone().into_bytes(), k.clone().into_bytes(), AT)).collect();
    let positions = log.append(&topic, records).await.expect("an append");
    for (key, position) in keys.iter().zip(&positions) {
        assert_eq!(position.partition, partition_for(key.as_bytes(), 7), "{key}");
    }
    let elsewhere = (positions[0].partition + 1) % 7;
    let record =
        NewRecord { partition: Some(elsewhere), ..NewRecord::keyed(keys[0].clone().into_bytes(), "moved", AT) };
    let moved = log.append(&topic, vec![record]).await.expect("an append");
    assert_eq!(moved[0].partition, elsewhere, "a given partition decides");
    let mut member = Member::join(&*log, &new_group(), &topic, Start::Earliest).await;
    for record in member.read(201).await.iter().filter(|r| r.value.as_deref() != Some(b"moved")) {
        assert_eq!(record.partition, partition_for(record.key.as_ref().expect("a key"), 7));
    }
}

/// Nothing, empty and something are three things; headers keep their order; bytes are bytes.
pub async fn a_record_comes_back_as_it_was_given<P: Provider>(provider: P) {
    let log = provider.log();
    let topic = made_topic(&*log, 1).await;
    let all_bytes: Vec<u8> = (0..=255).collect();
    let plain = |value: Option<&[u8]>| NewRecord {
        key: None,
        partition: Some(0),
        value: value.map(Bytes::copy_from_slice),
        headers: Vec::new(),
        at: AT,
    };
    let given = vec![
        plain(None),
        plain(Some(b"")),
        plain(Some(&all_bytes)),
        NewRecord { key: Some(Bytes::new()), ..plain(Some(b"empty key")) },
        NewRecord { key: Some(all_bytes.clone().into()), at: Timestamp::from_millis(1), ..plain(None) },
        plain(Some(b"headers")).header("trace", "first").header("empty", "").header("trace", all_bytes.clone()),
        plain(Some(&vec![7; 1_000_000 - 1_000])),
    ];
    log.append(&topic, given.clone()).await.expect("an append");
    let mut member = Member::join(&*log, &new_group(), &topic, Start::Earliest).await;
    let read = member.read(given.len()).await;
    for (given, read) in given.iter().zip(&read) {
        assert_eq!(given.key, read.key);
        assert!(given.value == read.value, "the value {:?}", given.value.as_ref().map(|v| v.len()));
        assert_eq!(given.headers, read.headers);
        assert_eq!(given.at, read.at);
        assert_eq!((&read.topic, read.partition), (&topic, 0));
    }
    assert_eq!(read[5].header("trace").map(|h| h.len()), Some(256), "the last of a name counts");
}

/// Many append at once to the same partitions; each one's own records stay in its order, and every
/// position answered is where the record lies.
pub async fn each_producers_records_keep_their_order_among_many<P: Provider>(provider: P) {
    const PRODUCERS: usize = 16;
    const APPENDS: usize = 15;
    const EACH: usize = 10;
    let log = provider.log();
    let topic = made_topic(&*log, 3).await;
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let (log, topic) = (log.clone(), topic.clone());
            tokio::spawn(async move {
                let mut given = Vec::new();
                for append in 0..APPENDS {
                    let value = |i: usize| format!("{producer}:{:06}", append * EACH + i);
                    let records = (0..EACH).map(|i| NewRecord::to_partition((i % 3) as u32, value(i), AT)).collect();
                    let positions = log.append(&topic, records).await.expect("an append");
                    given.extend(positions.into_iter().enumerate().map(|(i, p)| ((p.partition, p.offset), value(i))));
                }
                given
            })
        })
        .collect();
    let mut given = BTreeMap::new();
    for producer in producers {
        given.extend(producer.await.expect("a producer"));
    }
    assert_eq!(given.len(), PRODUCERS * APPENDS * EACH, "no position is given twice");
    let mut member = Member::join(&*log, &new_group(), &topic, Start::Earliest).await;
    let read = member.read(given.len()).await;
    let mut last: BTreeMap<(u32, String), String> = BTreeMap::new();
    for record in &read {
        let value = text(&record.value);
        assert_eq!(given.get(&(record.partition, record.offset)), Some(&value), "where the answer said");
        let (producer, number) = value.split_once(':').expect("producer:number");
        let before = last.insert((record.partition, producer.to_owned()), number.to_owned());
        assert!(before.is_none_or(|b| *b < *number), "producer {producer} out of order at {number}");
    }
}

/// The bound of a poll holds, and the next poll goes on behind it.
pub async fn a_poll_brings_at_most_what_was_asked_for<P: Provider>(provider: P) {
    let log = provider.log();
    let topic = made_topic(&*log, 1).await;
    append_numbered(&*log, &topic, 0, "r", 50).await;
    let mut member = Member::join(&*log, &new_group(), &topic, Start::Earliest).await;
    let mut read = Vec::new();
    let mut patience = Patience::new("50 records, 7 at a time");
    while read.len() < 50 {
        patience.check(|| format!("{} came", read.len()));
        read.extend(values(&member.step(7).await));
    }
    assert_eq!(read, numbered("r", 0..50));
}

/// No shutdown, no flush: what `append` answered is there, and new records come behind it.
pub async fn what_was_acknowledged_survives_a_restart<P: Provider>(mut provider: P) {
    let log = provider.log();
    let topic = made_topic(&*log, 2).await;
    for batch in 0..10 {
        append_numbered(&*log, &topic, batch % 2, &format!("batch{batch}"), 20).await;
    }
    drop(log);
    if !provider.reopen().await {
        return;
    }
    let log = provider.log();
    assert_eq!(log.partitions(&topic).await.expect("the topic"), 2);
    append_numbered(&*log, &topic, 0, "after", 20).await;
    let mut member = Member::join(&*log, &new_group(), &topic, Start::Earliest).await;
    let read = member.read(220).await;
    let offsets: BTreeSet<(u32, u64)> = read.iter().map(|r| (r.partition, r.offset)).collect();
    assert_eq!(offsets.len(), 220, "no offset is given twice");
    let of_first: Vec<Record> = read.into_iter().filter(|r| r.partition == 0).collect();
    assert_eq!(values(&of_first[100..]), numbered("after", 0..20));
}
