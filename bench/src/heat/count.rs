//! Events into one shard on one core: what is made up before is not timed, only what the shard does with it.

use std::hint::black_box;
use std::time::Instant;

use analyzer::engine::{Engine, Rules};
use analyzer::shard::Shard;
use analyzer::window::lines;
use eventlog::{Record, Topic};
use product_events::{Columns, Event};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use types::{EventKind, PageId, Timestamp, VisitorHash, topics};

use crate::area::Settings;
use crate::machine;

/// Events of one second of event time that fall by popularity.
const POPULAR: usize = 200_000;
/// Beside them each page has one event a minute, so that the window holds all of them.
const MINUTE: u32 = 60;
/// Seconds of event time; the window is full after sixty, and measured from then on.
const SECONDS: i64 = 90;
const QUICK_SECONDS: i64 = 75;
/// Events of one record, as a busy collector batches them.
const BATCH: usize = 40_000;
/// The first second.
const START: i64 = 1_790_000_000;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Batches as they lie in a record, counted: windows, thresholds, final windows.
    Counts,
    /// Records: decoded, repeats told apart, counted with the cap per visitor and the visitors of pages.
    Records,
}

/// What a run came to, from the moment the window was full.
#[derive(Debug)]
pub struct Done {
    pub events: f64,
    pub seconds: f64,
    pub memory: f64,
    pub active: f64,
    /// Microseconds of each drawing of the lines.
    pub ticks: Vec<f64>,
}

/// The value below which this share lies.
pub fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = ((sorted.len() as f64 * share) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

struct Made {
    random: ChaCha8Rng,
    pages: u32,
    line: u64,
    names: Vec<PageId>,
}

impl Made {
    fn batches(&mut self, second: i64) -> Vec<Vec<(u32, EventKind, u64)>> {
        let sweep = (0..self.pages).skip((second % i64::from(MINUTE)) as usize).step_by(MINUTE as usize);
        let mut events: Vec<u32> = sweep.collect();
        for _ in 0..POPULAR {
            // Inverse-power sampling: Zipf with exponent 1.
            let page = f64::from(self.pages).powf(self.random.random::<f64>()) as u32;
            events.push(page.min(self.pages - 1));
        }
        // In any order: a shuffle by swaps.
        for at in (1..events.len()).rev() {
            let other = self.random.random_range(0..=at);
            events.swap(at, other);
        }
        let kind = |random: &mut ChaCha8Rng| match random.random_range(0..100) {
            0 => EventKind::Attempt,
            1..4 => EventKind::Cart,
            _ => EventKind::View,
        };
        let random = &mut self.random;
        events.chunks(BATCH).map(|some| some.iter().map(|p| (*p, kind(random), random.random())).collect()).collect()
    }
}

fn rules(load: Load) -> Rules {
    Rules {
        window: 60,
        slide: 1,
        weights: [1, 3, 5],
        cap: if load == Load::Records { 2 } else { 0 },
        hot_floor_milli: 200,
        warm_floor_milli: 50,
        max_pages: 20_000_000,
        spread: 10,
        live: true,
    }
}

/// Ninety seconds of events; answers what the last thirty cost.
pub fn run(settings: &Settings, pages: u32, load: Load) -> anyhow::Result<Done> {
    let names: Vec<PageId> = (0..pages).map(|n| PageId::new(n.to_string())).collect::<Result<_, _>>()?;
    let mut made = Made { random: ChaCha8Rng::seed_from_u64(settings.seed), pages, line: 0, names };
    let before = machine::resident("self");
    let done = match load {
        Load::Counts => counts(settings, &mut made),
        Load::Records => records(settings, &mut made)?,
    };
    Ok(Done { memory: done.memory - before, ..done })
}

fn seconds(settings: &Settings) -> i64 {
    if settings.quick { QUICK_SECONDS } else { SECONDS }
}

fn counts(settings: &Settings, made: &mut Made) -> Done {
    // Without visitors: what they cost is the difference to the other load.
    let mut engine = Engine::without_visitors(rules(Load::Counts));
    let floors = rules(Load::Counts).floors();
    let mut done = Done { events: 0.0, seconds: 0.0, memory: 0.0, active: 0.0, ticks: Vec::new() };
    let (mut ids, mut number) = (Vec::new(), vec![u32::MAX; made.pages as usize]);
    for second in START..START + seconds(settings) {
        for batch in made.batches(second) {
            // As it lies in a record: each page once, events by its number.
            let mut dictionary = Vec::new();
            let numbered: Vec<(u32, EventKind, u64)> = batch
                .iter()
                .map(|(page, kind, visitor)| {
                    let place = &mut number[*page as usize];
                    if *place == u32::MAX {
                        *place = dictionary.len() as u32;
                        dictionary.push(made.names[*page as usize].clone());
                    }
                    (*place, *kind, *visitor)
                })
                .collect();
            batch.iter().for_each(|(page, ..)| number[*page as usize] = u32::MAX);
            let begun = machine::computed();
            engine.pin(&dictionary, &mut ids);
            for (page, kind, visitor) in &numbered {
                black_box(engine.push_id(ids[*page as usize], *kind, *visitor, second));
            }
            engine.unpin(&ids);
            if second >= START + i64::from(MINUTE) {
                done.seconds += (machine::computed() - begun).as_secs_f64();
                done.events += batch.len() as f64;
            }
            // A tick, four times a second or more.
            let begun = Instant::now();
            let (live, burst) = engine.live_windows();
            let standing = lines(std::iter::once(live), &[], floors[0]);
            black_box(lines(std::iter::once(burst), &[], floors[1]));
            if second >= START + i64::from(MINUTE) {
                done.ticks.push(begun.elapsed().as_secs_f64() * 1e6);
                done.active = standing.active as f64;
            }
        }
        let begun = machine::computed();
        for end in engine.settled_to().unwrap_or(START)..second - 2 {
            engine.settle(end + 1);
            let line = lines(std::iter::once(engine.final_window()), &[], floors[0]);
            black_box(engine.hot(line.hot));
        }
        if second >= START + i64::from(MINUTE) {
            done.seconds += (machine::computed() - begun).as_secs_f64();
        }
    }
    done.memory = machine::resident("self");
    done
}

fn records(settings: &Settings, made: &mut Made) -> anyhow::Result<Done> {
    let lateness = std::time::Duration::from_secs(2);
    let mut shard = Shard::new(rules(Load::Records), lateness, 0, Timestamp::default());
    let topic = Topic::new(topics::PRODUCT_EVENTS)?;
    let mut done = Done { events: 0.0, seconds: 0.0, memory: 0.0, active: 0.0, ticks: Vec::new() };
    let (mut columns, mut offset) = (Columns::default(), 0);
    for second in START..START + seconds(settings) {
        for batch in made.batches(second) {
            for (page, kind, visitor) in &batch {
                made.line += 1;
                columns.push(&Event {
                    page: made.names[*page as usize].as_str(),
                    kind: *kind,
                    visitor: VisitorHash(*visitor),
                    status: 200,
                    at: Timestamp::from_seconds(second),
                    offset: made.line,
                });
            }
            let value = columns.finish("2049:1234:00112233445566778899aabbccddeeff")?;
            let record = Record {
                topic: topic.clone(),
                partition: 0,
                offset,
                key: None,
                value: Some(value.into()),
                headers: Vec::new(),
                at: Timestamp::default(),
            };
            offset += 1;
            let begun = machine::computed();
            black_box(shard.take(&record));
            if second >= START + i64::from(MINUTE) {
                done.seconds += (machine::computed() - begun).as_secs_f64();
                done.events += batch.len() as f64;
            }
        }
        let begun = machine::computed();
        shard.settle_alone();
        if second >= START + i64::from(MINUTE) {
            done.seconds += (machine::computed() - begun).as_secs_f64();
        }
    }
    done.memory = machine::resident("self");
    Ok(done)
}
