//! One to three analyzers of one group share the partitions; they are killed at any moment, partitions move, and what
//! they count is what an uninterrupted run by one would have counted. Here the log, the polls, the kills, the notes and
//! the clock are drawn at random and nothing is timed.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use analyzer::Options;
use analyzer::analysis::{Analysis, KeptShard};
use analyzer::board::Note;
use analyzer::engine::Counters;
use analyzer::live::LiveHeat;
use eventlog::{Record, Topic, partition_for};
use proptest::prelude::*;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use types::{AccessEvent, EventBatch, EventKind, HeatReport, HotPage, PageId, Timestamp, VisitorHash, codec};

const LATENESS_MS: i64 = 2000;
/// Kills of one run: a group in which nobody ever lives long enough to keep anything new would never come to the end.
const MOST_KILLS: u32 = 30;

/// The log: records of each partition; offsets leave gaps, some records are rubbish, some come twice.
fn log(random: &mut ChaCha8Rng, partitions: u32, seconds: i64) -> Vec<Vec<Record>> {
    let topic = Topic::new("product-events").unwrap();
    let start = random.random_range(0..2_000_000_000_i64) * 1000;
    let mut log = vec![Vec::new(); partitions as usize];
    let (mut now, mut line, mut offsets) = (start, 0u64, vec![0u64; partitions as usize]);
    while now < start + seconds * 1000 {
        // A batch of the collector: some seconds of lines, at times a gap that makes partitions wait.
        now += if random.random_bool(0.01) { random.random_range(10_000..400_000) } else { 0 };
        let mut batches: BTreeMap<u32, Vec<AccessEvent>> = BTreeMap::new();
        for _ in 0..random.random_range(1..30) {
            now += random.random_range(0..300);
            let back = if random.random_bool(0.1) { random.random_range(0..5_000) } else { 0 };
            let page = format!("p{}", (random.random::<f64>().powi(3) * 60.0) as u32);
            line += random.random_range(80..300);
            batches.entry(partition_for(page.as_bytes(), partitions)).or_default().push(AccessEvent {
                page: PageId::new(page).unwrap(),
                kind: *EventKind::ALL.choose(random).unwrap(),
                visitor: VisitorHash(random.random_range(0..9)),
                status: 200,
                at: Timestamp::from_millis(now - back),
                offset: line,
            });
        }
        for (partition, events) in batches {
            let batch = EventBatch { source: "log-1".to_owned(), events };
            let mut values = vec![codec::encode(&batch).unwrap()];
            if random.random_bool(0.1) {
                // The collector was killed between publishing and keeping its place: it sends them again.
                values.push(values[0].clone());
            }
            if random.random_bool(0.05) {
                values.insert(0, b"rubbish".to_vec());
            }
            for value in values {
                let offset = &mut offsets[partition as usize];
                log[partition as usize].push(Record {
                    topic: topic.clone(),
                    partition,
                    offset: *offset,
                    key: None,
                    value: Some(value.into()),
                    headers: Vec::new(),
                    at: Timestamp::default(),
                });
                *offset += random.random_range(1..4);
            }
        }
    }
    log
}

/// What the definition says of a log: each window's hot set, and how many events count and are too late.
fn recount(log: &[Vec<Record>], cap: usize) -> (BTreeMap<i64, Vec<HotPage>>, [u64; 4]) {
    let mut kept: Vec<AccessEvent> = Vec::new();
    let [mut late, mut capped, mut repeated] = [0; 3];
    for partition in log {
        let (mut newest, mut given, mut line) = (i64::MIN, BTreeMap::new(), 0);
        for record in partition {
            let Ok(batch) = codec::decode::<EventBatch>(record.value.as_ref().unwrap()) else { continue };
            for e in batch.events {
                if e.offset <= line {
                    repeated += 1;
                    continue;
                }
                line = e.offset;
                newest = newest.max(e.at.millis());
                if (e.at.second() + 1) * 1000 <= newest - LATENESS_MS {
                    late += 1;
                    continue;
                }
                let given = given.entry((e.visitor, e.page.clone(), e.at.second())).or_insert(0);
                if *given < cap {
                    *given += 1;
                    kept.push(e);
                } else {
                    capped += 1;
                }
            }
        }
    }
    let seconds = || kept.iter().map(|e| e.at.second());
    let (first, last) = (seconds().min().unwrap(), seconds().max().unwrap());
    let mut by_second: BTreeMap<i64, Vec<&AccessEvent>> = BTreeMap::new();
    kept.iter().for_each(|e| by_second.entry(e.at.second()).or_default().push(e));
    let mut windows = BTreeMap::new();
    for end in first + 1..=last + 60 {
        let mut counts: BTreeMap<&PageId, u64> = BTreeMap::new();
        for e in by_second.range(end - 60..end).flat_map(|(_, events)| events) {
            *counts.entry(&e.page).or_insert(0) += match e.kind {
                EventKind::View => 1,
                EventKind::Cart => 3,
                EventKind::Attempt => 5,
            };
        }
        let k = counts.len().div_ceil(100);
        let mut sorted: Vec<u64> = counts.values().copied().collect();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        let least = if k == 0 { u64::MAX } else { sorted[k - 1].max(12) };
        let mut hot: Vec<HotPage> = counts
            .into_iter()
            .filter(|(_, c)| *c >= least)
            .map(|(p, count)| HotPage { page: p.clone(), count })
            .collect();
        hot.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.page.cmp(&b.page)));
        windows.insert(end, hot);
    }
    (windows, [kept.len() as u64, late, capped, repeated])
}

/// What outlives everybody: kept shards, notes and reports.
#[derive(Default)]
struct Durable {
    kept: BTreeMap<u32, Vec<u8>>,
    notes: Vec<Vec<u8>>,
    reports: Vec<(usize, HeatReport)>,
}

/// The worker's part: polls, publishes, keeps; everything in memory here dies with a kill.
struct Member {
    analysis: Analysis,
    at: BTreeMap<u32, usize>,
    heard: usize,
}

struct World<'a> {
    options: Options,
    log: &'a [Vec<Record>],
    durable: Durable,
    members: Vec<Option<Member>>,
    born: usize,
    now: Timestamp,
}

impl World<'_> {
    fn place(&self, partition: u32, offset: u64) -> usize {
        self.log[partition as usize].partition_point(|r| r.offset < offset)
    }

    fn member(&mut self, m: usize) -> &mut Member {
        if self.members[m].is_none() {
            self.born += 1;
            let (live, name) = (Arc::new(LiveHeat::default()), format!("member-{}", self.born));
            let partitions = self.log.len() as u32;
            // Numbers begin at the clock, which here stands still: every life has its own.
            let fresh = self.born as u64 * 10_000_000_000;
            let mut analysis = Analysis::new(&self.options, live, &name, partitions, fresh).unwrap();
            for note in &self.durable.notes {
                analysis.hear(&codec::decode::<Note>(note).unwrap(), self.now);
            }
            let heard = self.durable.notes.len();
            self.members[m] = Some(Member { analysis, at: BTreeMap::new(), heard });
        }
        self.members[m].as_mut().unwrap()
    }

    fn hear(&mut self, m: usize) {
        let (now, Some(member)) = (self.now, self.members[m].as_mut()) else { return };
        for note in &self.durable.notes[member.heard..] {
            member.analysis.hear(&codec::decode::<Note>(note).unwrap(), now);
        }
        member.heard = self.durable.notes.len();
    }

    fn publish(&mut self, m: usize, n: usize) {
        let Some(member) = self.members[m].as_mut() else { return };
        self.durable.reports.extend(member.analysis.outbox().iter().take(n).map(|report| (m, report.clone())));
        member.analysis.published(n);
    }

    fn say(&mut self, m: usize) {
        if self.members[m].as_ref().is_some_and(|member| member.analysis.must_be_kept()) {
            return;
        }
        let note = self.members[m].as_mut().and_then(|member| member.analysis.take_note());
        self.durable.notes.extend(note.map(|note| codec::encode(&note).unwrap()));
    }

    fn keep(&mut self, m: usize) {
        self.publish(m, usize::MAX);
        self.say(m);
        let (now, Some(member)) = (self.now, self.members[m].as_mut()) else { return };
        for partition in member.analysis.assigned() {
            let kept = member.analysis.keep(partition, now).unwrap();
            self.durable.kept.insert(partition, codec::encode(&kept).unwrap());
        }
        member.analysis.kept(now);
    }

    /// The worker keeps at once what must be kept before anything else.
    fn keep_if_due(&mut self, m: usize) {
        if self.members[m].as_ref().is_some_and(|member| member.analysis.must_be_kept()) {
            self.keep(m);
        }
    }

    /// The group shares its partitions anew among those members.
    fn share(&mut self, among: &[usize]) {
        let owner = |partition: usize| among[partition % among.len()];
        for m in 0..self.members.len() {
            if self.members[m].is_none() {
                continue;
            }
            self.publish(m, usize::MAX);
            self.say(m);
            let now = self.now;
            let held = self.members[m].as_ref().unwrap().analysis.assigned();
            for partition in held.into_iter().filter(|p| owner(*p as usize) != m) {
                let member = self.members[m].as_mut().unwrap();
                let kept = member.analysis.revoke(partition, now).unwrap();
                member.at.remove(&partition);
                self.durable.kept.insert(partition, codec::encode(&kept).unwrap());
            }
        }
        for partition in 0..self.log.len() {
            let m = owner(partition);
            let now = self.now;
            let kept = self.durable.kept.get(&(partition as u32)).map(|b| codec::decode::<KeptShard>(b).unwrap());
            let partition = partition as u32;
            if self.member(m).analysis.assigned().contains(&partition) {
                continue;
            }
            let next = self.member(m).analysis.assign(partition, kept, 0, now);
            let place = self.place(partition, next);
            self.member(m).at.insert(partition, place);
        }
    }

    fn read(&mut self, m: usize, partition: u32, most: usize) {
        let (log, now) = (self.log, self.now);
        let Some(member) = self.members[m].as_mut() else { return };
        let Some(from) = member.at.get(&partition).copied() else { return };
        let records = &log[partition as usize];
        let to = from.saturating_add(most).min(records.len());
        member.analysis.take(&records[from..to], now);
        member.at.insert(partition, to);
    }

    fn go_on(&mut self, m: usize) {
        let Some(member) = self.members[m].as_ref() else { return };
        for (partition, next) in member.analysis.may_go_on() {
            let place = self.place(partition, next);
            let member = self.members[m].as_mut().unwrap();
            member.at.insert(partition, place);
            member.analysis.unpark(partition);
        }
    }

    fn finished(&self) -> bool {
        let read = |partition: u32| {
            let at = self.members.iter().flatten().filter_map(|member| member.at.get(&partition)).max();
            at.is_some_and(|at| *at == self.log[partition as usize].len())
        };
        (0..self.log.len() as u32).all(read)
    }
}

fn run(seed: u64, partitions: u32, members: usize, kills: f64) {
    println!("seed {seed}, {partitions} partitions, {members} members, kills {kills}");
    let random = &mut ChaCha8Rng::seed_from_u64(seed);
    let log = log(random, partitions, 150);
    let (options, now) = (Options::default(), Timestamp::from_seconds(4_000_000_000));
    let durable = Durable::default();
    let empty = (0..members).map(|_| None).collect();
    let mut world = World { options, log: &log, durable, members: empty, born: 0, now };
    let everybody: Vec<usize> = (0..members).collect();
    world.share(&everybody);
    let (mut killed, mut shared) = (0u32, 0);
    while !world.finished() {
        let m = random.random_range(0..members);
        match random.random_range(0..100) {
            0..60 => {
                // Often one partition far ahead of the others.
                let partition = if random.random_bool(0.5) { 0 } else { random.random_range(0..partitions) };
                let m = if random.random_bool(0.9) { partition as usize % members } else { m };
                world.read(m, partition, random.random_range(0..8));
            }
            60..75 => {
                (0..members).for_each(|m| world.go_on(m));
                if let Some(member) = world.members[m].as_mut() {
                    member.analysis.tick(now);
                }
            }
            75..82 => world.publish(m, random.random_range(0..200)),
            82..88 => world.say(m),
            88..94 => world.hear(m),
            94..98 => world.keep(m),
            _ => {
                shared += 1;
                let mut among: Vec<usize> = (0..members).filter(|_| random.random_bool(0.6)).collect();
                if among.is_empty() {
                    among.push(m);
                }
                world.share(&among);
            }
        }
        if random.random_bool(0.5) {
            world.keep_if_due(m);
        }
        if killed < MOST_KILLS && random.random_bool(kills) {
            // Whatever it had not published, said or kept is gone; the others take its partitions, or it comes again.
            killed += 1;
            world.members[m] = None;
            world.share(&everybody);
        }
    }
    // The log has ended: waiting partitions go on, all fall silent, event time runs on with the clock.
    let last = log.iter().flatten().filter_map(|r| codec::decode::<EventBatch>(r.value.as_ref().unwrap()).ok());
    let last = last.flat_map(|b| b.events).map(|e| e.at.second()).max().unwrap();
    for _ in 0..4000 {
        for m in 0..members {
            world.hear(m);
            world.go_on(m);
            (0..partitions).for_each(|partition| world.read(m, partition, usize::MAX));
            let Some(member) = world.members[m].as_mut() else { continue };
            for (partition, next) in member.analysis.silent(world.now) {
                assert!(log[partition as usize].last().is_none_or(|r| r.offset < next), "nothing is left to read");
                member.analysis.mark_idle(partition);
            }
            member.analysis.tick(world.now);
            world.keep_if_due(m);
            world.publish(m, usize::MAX);
            world.say(m);
        }
        let settled = |member: &Member| member.analysis.outbox().is_empty();
        let ends = world.durable.reports.iter().filter(|(_, r)| r.is_final).map(|(_, r)| r.window_end.second()).max();
        if ends.is_some_and(|end| end > last + 70) && world.members.iter().flatten().all(settled) {
            break;
        }
        world.now = world.now.plus(Duration::from_millis(1100));
    }
    let mut finals: BTreeMap<i64, BTreeMap<PageId, u64>> = BTreeMap::new();
    let mut lines = BTreeMap::new();
    for (_, report) in world.durable.reports.iter().filter(|(_, r)| r.is_final) {
        let end = report.window_end.second();
        let line = (report.active, report.k, report.thresholds.hot60, report.thresholds.warm60, report.total);
        assert_eq!(*lines.entry(end).or_insert(line), line, "the lines of {end}, drawn twice, differ");
        let window = finals.entry(end).or_default();
        for hot in &report.hot {
            let before = window.insert(hot.page.clone(), hot.count);
            assert!(before.is_none_or(|before| before == hot.count), "published twice, but not the same: {end}");
        }
    }
    let (windows, [counted, late, capped, repeated]) = recount(&log, 2);
    for (end, hot) in windows {
        let got = finals.get(&end).cloned().unwrap_or_default();
        let mut got: Vec<HotPage> = got.into_iter().map(|(page, count)| HotPage { page, count }).collect();
        got.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.page.cmp(&b.page)));
        assert!(lines.contains_key(&end), "no window ends at {end}");
        assert_eq!(got, hot, "window that ends at {end}, after {killed} kills and {shared} moves");
    }
    if killed == 0 && shared == 0 && members == 1 {
        let analysis = &world.members[0].as_ref().unwrap().analysis;
        let counters = analysis.counters();
        assert_eq!((counters.counted, counters.late, counters.capped), (counted, late, capped));
        assert!(analysis.dropped().0 >= repeated);
    }
    // Counters survive kills: of each shard once, as whoever holds it now has them.
    let holders: BTreeSet<usize> = (0..members).filter(|m| world.members[*m].is_some()).collect();
    if shared == 0 {
        let of = |m: &usize| world.members[*m].as_ref().unwrap().analysis.counters();
        let sum = holders.iter().map(of).fold(Counters::default(), Counters::plus);
        assert_eq!((sum.counted, sum.late, sum.capped), (counted, late, capped), "over {killed} kills");
    }
    for m in 0..members {
        let numbers: Vec<u64> =
            world.durable.reports.iter().filter(|(who, _)| *who == m).map(|(_, r)| r.sequence).collect();
        assert!(numbers.windows(2).all(|two| two[0] < two[1]), "numbers rise over {killed} kills");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn the_final_windows_are_those_of_an_uninterrupted_run(
        seed in any::<u64>(),
        partitions in prop::sample::select(vec![1u32, 4, 8]),
        members in 1usize..4,
        kills in prop::sample::select(vec![0.0, 0.01, 0.05]),
    ) {
        run(seed, partitions, members, kills);
    }
}

#[test]
fn the_partition_that_is_read_first_need_not_begin_first() {
    // Its first event lay four seconds after another partition's, and was read three hundred seconds ahead.
    run(15_049_030_971_203_238_688, 4, 1, 0.0);
    // And here the present in event time was beyond what was counted when the oldest came.
    run(13_345_292_794_850_821_977, 4, 1, 0.01);
}

/// One record of a partition: a view of its own page in every second from `from` to `to`.
fn views(partition: u32, offset: u64, from: i64, to: i64) -> Record {
    let event = |second: i64| AccessEvent {
        page: PageId::new(format!("p{partition}")).unwrap(),
        kind: EventKind::View,
        visitor: VisitorHash(second as u64),
        status: 200,
        at: Timestamp::from_seconds(second),
        offset: second as u64,
    };
    let batch = EventBatch { source: "log-1".to_owned(), events: (from..to).map(event).collect() };
    Record {
        topic: Topic::new("product-events").unwrap(),
        partition,
        offset,
        key: None,
        value: Some(codec::encode(&batch).unwrap().into()),
        headers: Vec::new(),
        at: Timestamp::default(),
    }
}

/// What is hot in the windows that are final when `records` have been taken, after a pause in which every
/// partition became idle; `woken` are seen to have records waiting before the others' are taken.
fn after_a_pause(polls: &[&[Record]], woken: &[u32]) -> BTreeMap<i64, Vec<HotPage>> {
    let live = Arc::new(LiveHeat::default());
    let options = Options { hot_floor: 0.0, warm_floor: 0.0, ..Options::default() };
    let mut analysis = Analysis::new(&options, live, "one", 2, 1).unwrap();
    let now = Timestamp::from_seconds(5_000);
    for partition in 0..2 {
        analysis.assign(partition, None, 0, now);
    }
    // Counting has begun: both have spoken, one after the other.
    analysis.mark_idle(1);
    analysis.take(&[views(0, 0, 990, 991)], now);
    analysis.take(&[views(1, 0, 990, 991)], now);
    (0..2).for_each(|partition| analysis.mark_idle(partition));
    assert!(!analysis.must_be_kept(), "nothing is final yet");
    for partition in woken {
        analysis.wake(*partition, now);
    }
    for records in polls {
        analysis.take(records, now);
        analysis.kept(now);
    }
    let finals = analysis.outbox().iter().filter(|r| r.is_final);
    finals.map(|r| (r.window_end.second(), r.hot.clone())).collect()
}

#[test]
fn after_a_pause_no_partition_is_passed_over_for_being_read_second() {
    let (one, other) = (views(0, 1, 1_000, 1_030), views(1, 1, 1_000, 1_030));
    let right = after_a_pause(&[&[one.clone(), other.clone()]], &[]);
    assert!(right.len() > 20, "windows became final: {}", right.len());
    for (end, hot) in &right {
        let counts: Vec<u64> = hot.iter().map(|p| p.count).collect();
        assert_eq!(counts, [1 + (end - 1_000).max(0) as u64; 2], "window that ends at {end}");
    }
    let second_poll = after_a_pause(&[&[one], &[other]], &[1]);
    assert_eq!(second_poll, right, "in a poll of its own, once it is known to wait there");
}

#[test]
fn long_gaps_are_walked_in_the_time_of_an_hour() {
    let mut analysis = Analysis::new(&Options::default(), Arc::new(LiveHeat::default()), "one", 1, 1).unwrap();
    let (now, year) = (Timestamp::from_seconds(0), 365 * 86_400);
    analysis.assign(0, None, 0, now);
    let records = [views(0, 0, 0, 1), views(0, 1, year, year + 1), views(0, 2, year + 100, year + 101)];
    for record in &records {
        analysis.take(std::slice::from_ref(record), now);
        analysis.kept(now);
        for (partition, next) in analysis.may_go_on() {
            analysis.unpark(partition);
            analysis.take(&records[next as usize..], now);
        }
    }
    let finals = analysis.outbox().iter().filter(|r| r.is_final).count();
    assert!((3600..4000).contains(&finals), "{finals} windows in a gap of a year");
    assert_eq!(analysis.counters().counted, 3);
}
