//! Progress: what a commit keeps, what comes again, where reading starts.

use super::*;

/// Progress is the consumer's word, not the poll's.
pub async fn what_is_committed_does_not_come_again_and_the_rest_does<P: Provider>(provider: P) {
    let log = provider.log();
    let topic = made_topic(&*log, 1).await;
    let group = new_group();
    append_numbered(&*log, &topic, 0, "r", 10).await;
    let mut member = Member::join(&*log, &group, &topic, Start::Earliest).await;
    let read = member.read(10).await;
    drop(member);
    let mut member = Member::join(&*log, &group, &topic, Start::Earliest).await;
    assert_eq!(member.read(10).await, read, "nothing was committed");
    member.commit(&read[3]).await.expect("a commit");
    member.commit(&read[6]).await.expect("a commit");
    member.consumer.commit(&[]).await.expect("nothing to commit");
    drop(member);
    let mut member = Member::join(&*log, &group, &topic, Start::Earliest).await;
    assert_eq!(member.read(3).await, read[7..], "behind the last commit");
    member.silence().await;
}

/// The same after the log itself was away.
pub async fn a_restart_goes_on_at_the_committed_offset<P: Provider>(mut provider: P) {
    let log = provider.log();
    let topic = made_topic(&*log, 2).await;
    let group = new_group();
    for partition in 0..2 {
        append_numbered(&*log, &topic, partition, "r", 10).await;
    }
    let mut member = Member::join(&*log, &group, &topic, Start::Earliest).await;
    let read = member.read(20).await;
    let of_first: Vec<&Record> = read.iter().filter(|r| r.partition == 0).collect();
    member.commit(of_first[6]).await.expect("a commit");
    drop((member, log));
    if !provider.reopen().await {
        return;
    }
    let log = provider.log();
    let committed = log.committed(&group, &at(&topic, 0)).await.expect("committed");
    assert_eq!(committed, Some(of_first[6].offset + 1));
    let mut member = Member::join(&*log, &group, &topic, Start::Earliest).await;
    let read = member.read(13).await;
    assert_eq!(read.iter().filter(|r| r.partition == 0).count(), 3, "the rest of the committed partition");
    assert_eq!(read.iter().filter(|r| r.partition == 1).count(), 10, "all of the other");
}

/// Before the first record and between records; without moving what is committed.
pub async fn a_seek_goes_back_and_forth<P: Provider>(provider: P) {
    let log = provider.log();
    let topic = made_topic(&*log, 1).await;
    let group = new_group();
    append_numbered(&*log, &topic, 0, "r", 10).await;
    let mut member = Member::join(&*log, &group, &topic, Start::Earliest).await;
    let read = member.read(10).await;
    member.commit(&read[8]).await.expect("a commit");
    let seek = |i: usize| Progress { partition: at(&topic, 0), next: read[i].offset };
    member.consumer.seek(&seek(2)).await.expect("a seek");
    assert_eq!(member.read(8).await, read[2..]);
    member.consumer.seek(&seek(9)).await.expect("a seek");
    assert_eq!(member.read(1).await, read[9..]);
    drop(member);
    let mut member = Member::join(&*log, &group, &topic, Start::Earliest).await;
    member.until_assigned(1).await;
    member.consumer.seek(&seek(5)).await.expect("a seek before the first poll");
    assert_eq!(member.read(5).await, read[5..], "not at the committed offset");
    assert_eq!(log.committed(&group, &at(&topic, 0)).await.expect("committed"), Some(read[8].offset + 1));
}

/// Earliest: from the oldest. Latest: only what came after the member did. A commit goes before both.
pub async fn a_group_starts_where_it_asked_to<P: Provider>(provider: P) {
    let log = provider.log();
    let topic = made_topic(&*log, 1).await;
    append_numbered(&*log, &topic, 0, "old", 5).await;
    let mut earliest = Member::join(&*log, &new_group(), &topic, Start::Earliest).await;
    assert_eq!(values(&earliest.read(5).await), numbered("old", 0..5));
    let group = new_group();
    let mut latest = Member::join(&*log, &group, &topic, Start::Latest).await;
    latest.until_assigned(1).await;
    latest.silence().await;
    // A provider may find the end a little later: so more records, until one arrives.
    let mut patience = Patience::new("a new record");
    let mut read = Vec::new();
    let mut appended = 0;
    while read.is_empty() {
        patience.check(|| format!("{appended} appended"));
        append_numbered(&*log, &topic, 0, &format!("new{appended}"), 1).await;
        appended += 1;
        read = latest.step(100).await;
    }
    assert!(values(&read).iter().all(|v| v.starts_with("new")), "{:?}", values(&read));
    latest.commit(&read[0]).await.expect("a commit");
    drop(latest);
    append_numbered(&*log, &topic, 0, "between", 1).await;
    let mut again = Member::join(&*log, &group, &topic, Start::Latest).await;
    let mut patience = Patience::new("what came between");
    let mut last = String::new();
    while last != "between-0" {
        patience.check(|| last.clone());
        for record in again.step(100).await {
            assert!(record.offset > read[0].offset, "behind the commit");
            last = text(&record.value);
        }
    }
}

/// And a group that never committed has none.
pub async fn each_group_has_its_own_progress<P: Provider>(provider: P) {
    let log = provider.log();
    let topic = made_topic(&*log, 2).await;
    let (one, other) = (new_group(), new_group());
    append_numbered(&*log, &topic, 1, "r", 3).await;
    let mut member = Member::join(&*log, &one, &topic, Start::Earliest).await;
    let read = member.read(3).await;
    member.commit(&read[1]).await.expect("a commit");
    let committed =
        async |group: &Group, partition| log.committed(group, &at(&topic, partition)).await.expect("committed");
    assert_eq!(committed(&one, 1).await, Some(read[1].offset + 1));
    assert_eq!(committed(&one, 0).await, None);
    assert_eq!(committed(&other, 1).await, None);
}
