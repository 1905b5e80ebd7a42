//! Groups: who gets which partition, how partitions move, how a poll waits.

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// Groups do not take records from each other.
pub async fn every_group_sees_every_record<P: Provider>(provider: P) {
    let log = provider.log();
    let topic = made_topic(&*log, 1).await;
    append_numbered(&*log, &topic, 0, "r", 20).await;
    let mut first = Member::join(&*log, &new_group(), &topic, Start::Earliest).await;
    let mut second = Member::join(&*log, &new_group(), &topic, Start::Earliest).await;
    let (of_first, of_second) = (first.read(20).await, second.read(20).await);
    assert_eq!(of_first, of_second);
    assert_eq!(values(&of_first), numbered("r", 0..20));
}

/// Polls both in turn until each has as many partitions as given.
async fn until_shared(a: &mut Member, b: &mut Member, counts: (usize, usize)) {
    let mut patience = Patience::new(format!("shares of {counts:?}"));
    while (a.assigned.len(), b.assigned.len()) != counts {
        patience.check(|| format!("{:?} and {:?}", a.assigned, b.assigned));
        a.step(1).await;
        b.step(1).await;
    }
}

/// Each partition has one member; the assignment that a consumer shows is what it was told.
pub async fn members_share_the_partitions<P: Provider>(provider: P) {
    let log = provider.log();
    let topic = made_topic(&*log, 4).await;
    let group = new_group();
    let mut a = Member::join(&*log, &group, &topic, Start::Earliest).await;
    a.until_assigned(4).await;
    let mut b = Member::join(&*log, &group, &topic, Start::Earliest).await;
    until_shared(&mut a, &mut b, (2, 2)).await;
    assert!(a.assigned.is_disjoint(&b.assigned), "{:?} and {:?}", a.assigned, b.assigned);
    for member in [&a, &b] {
        let shown: BTreeSet<_> = member.consumer.assignment().into_iter().collect();
        assert_eq!(shown, member.assigned);
    }
    for partition in 0..4 {
        append_numbered(&*log, &topic, partition, "r", 5).await;
    }
    let (of_a, of_b) = (a.read(10).await, b.read(10).await);
    let all: BTreeSet<_> = of_a.iter().chain(&of_b).map(|r| (r.partition, r.offset)).collect();
    assert_eq!(all.len(), 20, "together they have every record once");
}

/// What it read but did not commit comes again to who takes over.
pub async fn a_leaving_members_partitions_go_to_the_others<P: Provider>(provider: P) {
    let log = provider.log();
    let topic = made_topic(&*log, 2).await;
    let group = new_group();
    let mut a = Member::join(&*log, &group, &topic, Start::Earliest).await;
    let mut b = Member::join(&*log, &group, &topic, Start::Earliest).await;
    until_shared(&mut a, &mut b, (1, 1)).await;
    let of_b = b.assigned.first().expect("one partition").partition;
    append_numbered(&*log, &topic, of_b, "r", 10).await;
    let read = b.read(10).await;
    b.commit(&read[5]).await.expect("a commit of what is assigned");
    drop(b);
    let read = a.read(4).await;
    assert_eq!(values(&read), numbered("r", 6..10));
    a.until_assigned(2).await;
}

/// Once told that a partition is gone, a member's commits and seeks there are void; the others are not.
pub async fn a_revoked_partition_can_be_neither_committed_nor_sought<P: Provider>(provider: P) {
    let log = provider.log();
    let topic = made_topic(&*log, 2).await;
    let group = new_group();
    for partition in 0..2 {
        append_numbered(&*log, &topic, partition, "r", 3).await;
    }
    let mut a = Member::join(&*log, &group, &topic, Start::Earliest).await;
    let foreign = Progress { partition: at(&topic, 0), next: 1 };
    let early = a.consumer.commit(std::slice::from_ref(&foreign)).await;
    assert!(matches!(early, Err(EventLogError::NotAssigned(_))), "before it is assigned: {early:?}");
    let read = a.read(6).await;
    let mut b = Member::join(&*log, &group, &topic, Start::Earliest).await;
    let mut patience = Patience::new("one partition each");
    let mut of_b = Vec::new();
    while (a.assigned.len(), b.assigned.len()) != (1, 1) || of_b.is_empty() {
        patience.check(|| format!("{:?} and {:?}", a.assigned, b.assigned));
        a.step(10).await;
        of_b.extend(b.step(10).await);
    }
    for record in &read {
        let mine = a.assigned.contains(&record.topic_partition());
        let committed = a.commit(record).await;
        let sought = a.consumer.seek(&next_after(record)).await;
        match (mine, committed, sought) {
            (true, Ok(()), Ok(())) => {}
            (false, Err(EventLogError::NotAssigned(p)), Err(EventLogError::NotAssigned(q))) => {
                assert_eq!((&p, &q), (&record.topic_partition(), &record.topic_partition()));
            }
            (mine, committed, sought) => panic!("assigned {mine}: commit {committed:?}, seek {sought:?}"),
        }
    }
    let lost = b.assigned.first().expect("one partition");
    assert_eq!(log.committed(&group, lost).await.expect("committed"), None, "void means without effect");
}

/// A seeded story of appends, polls, commits, joins and leaves. Every record has its effect at least once,
/// and none comes again after its commit.
pub async fn nothing_is_lost_and_nothing_committed_comes_again_while_members_come_and_go<P: Provider>(provider: P) {
    const PARTITIONS: u32 = 5;
    let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(20_261_111);
    eprintln!("SEED={seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let log = provider.log();
    let topic = made_topic(&*log, PARTITIONS).await;
    let group = new_group();
    let mut story = Story::default();
    let mut members = vec![Member::join(&*log, &group, &topic, Start::Earliest).await];
    for _ in 0..200 {
        match random.random_range(0..100) {
            0..25 => {
                let count = random.random_range(1..20);
                let partition = random.random_range(0..PARTITIONS);
                let positions = append_numbered(&*log, &topic, partition, "r", count).await;
                story.appended.extend(positions.iter().map(|p| (p.partition, p.offset)));
            }
            25..32 if members.len() < 4 => members.push(Member::join(&*log, &group, &topic, Start::Earliest).await),
            32..37 if members.len() > 1 => {
                let leaver = random.random_range(0..members.len());
                drop(members.remove(leaver));
            }
            _ => {
                let who = random.random_range(0..members.len());
                let commits = random.random_bool(0.7);
                story.turn(&mut members[who], commits).await;
            }
        }
    }
    let mut patience = Patience::new("every record");
    while story.effects != story.appended {
        patience.check(|| format!("{} of {}", story.effects.len(), story.appended.len()));
        for member in &mut members {
            story.turn(member, true).await;
        }
    }
}

#[derive(Default)]
struct Story {
    appended: BTreeSet<(u32, u64)>,
    effects: BTreeSet<(u32, u64)>,
    committed: BTreeMap<u32, u64>,
}

impl Story {
    /// One poll, its effects, and then perhaps the commit.
    async fn turn(&mut self, member: &mut Member, commits: bool) {
        let records = member.step(8).await;
        let mut progress = BTreeMap::new();
        for record in &records {
            let committed = self.committed.get(&record.partition).copied().unwrap_or(0);
            assert!(record.offset >= committed, "offset {} came again after {committed}", record.offset);
            self.effects.insert((record.partition, record.offset));
            progress.insert(record.partition, next_after(record));
        }
        for (partition, progress) in progress.into_iter().filter(|_| commits) {
            match member.consumer.commit(std::slice::from_ref(&progress)).await {
                Ok(()) => drop(self.committed.insert(partition, progress.next)),
                // It may wait for another member's poll, which only comes after this.
                Err(error) if error.retryable() => {}
                Err(EventLogError::NotAssigned(_)) => {}
                Err(error) => panic!("a commit: {error}"),
            }
        }
    }
}

/// It waits, and then says so.
pub async fn a_poll_without_records_is_idle_after_its_wait<P: Provider>(provider: P) {
    let log = provider.log();
    let topic = made_topic(&*log, 1).await;
    let mut member = Member::join(&*log, &new_group(), &topic, Start::Earliest).await;
    member.until_assigned(1).await;
    let wait = Duration::from_millis(300);
    let started = Instant::now();
    assert_eq!(member.consumer.poll(10, wait).await.expect("a poll"), Polled::Idle);
    // Timers count in milliseconds.
    assert!(started.elapsed() + Duration::from_millis(2) >= wait, "idle after {:?}", started.elapsed());
    assert_eq!(member.consumer.poll(10, Duration::ZERO).await.expect("a poll"), Polled::Idle);
}

/// A poll that would wait for an hour ends when a record comes.
pub async fn a_waiting_poll_wakes_when_a_record_comes<P: Provider>(provider: P) {
    let log = provider.log();
    let topic = made_topic(&*log, 2).await;
    let mut member = Member::join(&*log, &new_group(), &topic, Start::Earliest).await;
    member.until_assigned(2).await;
    let polling = tokio::spawn(async move { member.consumer.poll(10, Duration::from_secs(3600)).await });
    // Lets the poll begin to wait. If it has not, the test still holds.
    tokio::task::yield_now().await;
    append_numbered(&*log, &topic, 1, "r", 1).await;
    let polled = tokio::time::timeout(BOUND, polling).await.expect("woken").expect("no panic").expect("a poll");
    match polled {
        Polled::Records(records) => assert_eq!(values(&records), ["r-0"]),
        other => panic!("{other:?}"),
    }
}
