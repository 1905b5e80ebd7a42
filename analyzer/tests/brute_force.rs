//! The engine against a recount of everything, written as plainly as the definition: random streams with
//! ties, events out of order and late, gaps, caps, evictions.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use analyzer::engine::{BURST_SECONDS, Engine, FinalWindow, Pushed, Ranked, Rules, bounded};
use analyzer::rank::Counts as _;
use analyzer::top::{Top, TopLine, TopOptions};
use analyzer::window::{Standing, lines};
use proptest::prelude::*;
use types::{EventKind, Timestamp, VisitorHash};

#[derive(Debug, Clone, Copy)]
struct Event {
    page: u32,
    kind: EventKind,
    visitor: u64,
    at: i64,
}

type Hot = Vec<(String, u64)>;

/// The definition, word by word: `(active, k, T, hot)` of counts.
fn definition(counts: &BTreeMap<u32, u64>, floor_milli: u64, seconds: u64) -> (u64, u64, u64, Hot) {
    let active = counts.len() as u64;
    let k = active.div_ceil(100);
    let reach = |t: u64| counts.values().filter(|c| **c >= t).count() as u64;
    let threshold = if active == 0 { 0 } else { counts.values().copied().filter(|t| reach(*t) >= k).max().unwrap() };
    let is_hot = |c: u64| c >= threshold && c * 1000 >= floor_milli * seconds;
    let mut hot: Hot = counts.iter().filter(|(_, c)| is_hot(**c)).map(|(p, c)| (p.to_string(), *c)).collect();
    hot.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    (active, k, threshold, hot)
}

/// Events that count: not late by the newest event before them, at most `cap` per visitor, page and second.
fn counted(events: &[Event], lateness_ms: i64, cap: usize) -> Vec<Event> {
    let (mut newest, mut given, mut kept) = (i64::MIN, BTreeMap::new(), Vec::new());
    for e in events {
        newest = newest.max(e.at);
        let second = e.at.div_euclid(1000);
        if (second + 1) * 1000 <= newest.saturating_sub(lateness_ms) {
            continue;
        }
        let given = given.entry((e.visitor, e.page, second)).or_insert(0usize);
        if cap == 0 || *given < cap {
            *given += 1;
            kept.push(*e);
        }
    }
    kept
}

fn counts(events: &[Event], weights: [u64; 3], from: i64, to: i64) -> BTreeMap<u32, u64> {
    let mut counts = BTreeMap::new();
    for e in events.iter().filter(|e| (from * 1000..to * 1000).contains(&e.at)) {
        *counts.entry(e.page).or_insert(0) += weights[EventKind::ALL.iter().position(|k| *k == e.kind).unwrap()];
    }
    counts
}

fn kind() -> impl Strategy<Value = EventKind> {
    prop_oneof![8 => Just(EventKind::View), 1 => Just(EventKind::Cart), 1 => Just(EventKind::Attempt)]
}

/// Steps of time are mostly small, at times back by up to six seconds, at times a gap.
fn stream(pages: u32, len: usize) -> impl Strategy<Value = Vec<Event>> {
    let step = prop_oneof![20 => 0i64..400, 3 => -6_000i64..0, 1 => 5_000i64..20_000, 1 => 60_000i64..200_000];
    // Squaring a uniform number gives few pages most of the traffic and many ties in the tail.
    let one = (0.0f64..1.0, kind(), 0u64..6, step);
    (prop::collection::vec(one, 1..len), -50_000i64..2_000_000_000_000).prop_map(move |(steps, start)| {
        let mut now = start;
        let event = |(skew, kind, visitor, step): (f64, EventKind, u64, i64)| {
            let at = now + step;
            now = now.max(at);
            Event { page: (skew * skew * skew * f64::from(pages)) as u32, kind, visitor, at }
        };
        steps.into_iter().map(event).collect()
    })
}

fn rules(cap: u8, live: bool) -> Rules {
    Rules {
        window: 60,
        slide: 1,
        weights: [1, 3, 5],
        cap,
        hot_floor_milli: 120,
        warm_floor_milli: 30,
        max_pages: 1_000_000,
        spread: 310,
        live,
    }
}

/// The lines of both provisional windows, and the pages above them.
fn rank(engine: &mut Engine, now: Timestamp) -> ([Standing; 2], Vec<Ranked>) {
    engine.advance(now.second());
    let [floors, burst_floors] = rules(0, true).floors();
    let (live, burst) = engine.live_windows();
    let standing = [lines(std::iter::once(live), &[], floors), lines(std::iter::once(burst), &[], burst_floors)];
    let (leasts, _) = bounded(std::iter::once(&*engine), standing, 100_000);
    (standing, engine.rank(now, leasts))
}

fn line(window: FinalWindow) -> (i64, u64, u64, u64, Hot) {
    let hot = window.hot.iter().map(|p| (p.page.to_string(), p.count)).collect();
    (window.end.second(), window.standing.active, window.standing.k, window.standing.threshold.into(), hot)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn top_equals_a_recount_of_every_window(
        events in stream(300, 600),
        lateness in prop::sample::select(vec![0u64, 1, 2, 5]),
        window in prop::sample::select(vec![1u64, 5, 60]),
    ) {
        let (lateness, seconds) = (Duration::from_secs(lateness), Duration::from_secs(window));
        let options = TopOptions { lateness, window: seconds, ..TopOptions::raw() };
        let mut top = Top::new(&options).unwrap();
        let mut lines = Vec::new();
        for e in &events {
            let at = Timestamp::from_millis(e.at);
            top.push(&e.page.to_string(), e.kind, VisitorHash(e.visitor), at, |w| lines.push(TopLine::from(w)));
        }
        let end = top.finish(|w| lines.push(TopLine::from(w)));
        let kept = counted(&events, lateness.as_millis() as i64, 0);
        prop_assert_eq!(end.late, (events.len() - kept.len()) as u64);
        let seconds = || kept.iter().map(|e| e.at.div_euclid(1000));
        let (first, last) = (seconds().min().unwrap(), seconds().max().unwrap());
        let ends: Vec<i64> = (first + 1..=last + window as i64).collect();
        prop_assert_eq!(lines.len(), ends.len());
        for (line, end) in lines.iter().zip(ends) {
            let (active, k, threshold, hot) = definition(&counts(&kept, [1, 1, 1], end - window as i64, end), 0, window);
            let got: Hot = line.hot.iter().map(|p| (p.page.to_string(), p.count)).collect();
            prop_assert_eq!(&line.window_end, &Timestamp::from_seconds(end).to_second_string());
            prop_assert_eq!((line.active, line.k, line.threshold, got), (active, k, threshold, hot));
        }
    }

    #[test]
    fn both_provisional_windows_and_every_final_one_equal_a_recount(
        events in stream(120, 400),
        cap in prop::sample::select(vec![0u8, 1, 2, 3]),
        look in prop::collection::vec(0usize..400, 1..25),
    ) {
        const LATENESS: i64 = 2_000;
        let mut engine = Engine::new(rules(cap, true));
        let (mut finals, mut newest) = (Vec::new(), i64::MIN);
        let look: BTreeSet<usize> = look.into_iter().collect();
        for (n, e) in events.iter().enumerate() {
            newest = newest.max(e.at);
            let is_late = (e.at.div_euclid(1000) + 1) * 1000 <= newest - LATENESS;
            let watermark = Timestamp::from_millis(newest - LATENESS);
            engine.close(watermark.second());
            engine.seal(watermark, |w| finals.push(line(w)));
            let pushed = engine.push(&e.page.to_string(), e.kind, e.visitor, Timestamp::from_millis(e.at));
            let expected = if is_late { pushed == Pushed::Late } else { matches!(pushed, Pushed::Counted | Pushed::Capped) };
            prop_assert!(expected, "{:?}", pushed);
            if look.contains(&n) {
                let so_far = counted(&events[..=n], LATENESS, cap.into());
                let head = newest.div_euclid(1000);
                let weights = [1, 3, 5];
                let c60 = counts(&so_far, weights, head - 59, head + 1);
                let c5 = counts(&so_far, weights, head + 1 - i64::from(BURST_SECONDS), head + 1);
                let (standing, ranked) = rank(&mut engine, Timestamp::from_millis(newest));
                for (lines, counts, seconds) in [(standing[0], &c60, 60u64), (standing[1], &c5, 5)] {
                    let (active, k, threshold, _) = definition(counts, 0, seconds);
                    prop_assert_eq!((lines.active, lines.k, u64::from(lines.threshold)), (active, k, threshold));
                    prop_assert_eq!(lines.total, counts.values().sum::<u64>());
                }
                // Warm or hot by either window, and nobody else, with the right counts and visitors.
                let warm = |counts: &BTreeMap<u32, u64>, seconds: u64| -> BTreeSet<u32> {
                    let k = (counts.len() as u64).div_ceil(10);
                    let reach = |t: u64| counts.values().filter(|c| **c >= t).count() as u64;
                    let t = counts.values().copied().filter(|t| reach(*t) >= k).max().unwrap_or(0);
                    counts.iter().filter(|(_, c)| **c >= t && **c * 1000 >= 30 * seconds).map(|(p, _)| *p).collect()
                };
                let want: BTreeSet<u32> = warm(&c60, 60).union(&warm(&c5, 5)).copied().collect();
                let got: BTreeSet<u32> = ranked.iter().map(|r| r.page.as_str().parse().unwrap()).collect();
                prop_assert_eq!(got, want);
                for r in &ranked {
                    let page: u32 = r.page.as_str().parse().unwrap();
                    prop_assert_eq!(u64::from(r.count60), c60.get(&page).copied().unwrap_or(0));
                    prop_assert_eq!(u64::from(r.count5), c5.get(&page).copied().unwrap_or(0));
                    // Visitors slide by ten seconds.
                    let from = (head.div_euclid(10) - 5) * 10;
                    let visitors: BTreeSet<u64> =
                        so_far.iter().filter(|e| e.page == page && e.at >= from * 1000).map(|e| e.visitor).collect();
                    prop_assert_eq!(r.visitors, visitors.len() as u64);
                }
            }
        }
        let kept = counted(&events, LATENESS, cap.into());
        let last = kept.iter().map(|e| e.at.div_euclid(1000)).max().unwrap();
        engine.seal(Timestamp::from_seconds(last + 60), |w| finals.push(line(w)));
        let first = kept.iter().map(|e| e.at.div_euclid(1000)).min().unwrap();
        prop_assert_eq!(finals.len() as i64, last + 60 - first);
        for (n, got) in finals.into_iter().enumerate() {
            let end = first + 1 + n as i64;
            let (active, k, threshold, hot) = definition(&counts(&kept, [1, 3, 5], end - 60, end), 120, 60);
            prop_assert_eq!(got, (end, active, k, threshold, hot));
        }
        engine.seal(Timestamp::from_seconds(last + 70), |_| {});
        prop_assert_eq!(engine.known_pages(), 0, "pages leave when the last pane that names them does");
    }

    #[test]
    fn at_the_bound_of_pages_the_coldest_go_and_the_counts_of_the_rest_stay_right(
        hits in prop::collection::vec((0u32..200, 0i64..90), 1..800),
    ) {
        let mut engine = Engine::new(Rules { max_pages: 40, ..rules(0, true) });
        for (page, second) in &hits {
            engine.push(&page.to_string(), EventKind::View, 1, Timestamp::from_seconds(*second));
        }
        prop_assert!(engine.known_pages() <= 40);
        let newest = hits.iter().map(|(_, s)| *s).max().unwrap();
        let (standing, _) = rank(&mut engine, Timestamp::from_seconds(newest));
        let counts: Vec<u64> =
            (0..200u32).filter_map(|p| engine.counts(&p.to_string())).map(|(_, count)| u64::from(count)).collect();
        prop_assert_eq!(standing[0].total, counts.iter().sum::<u64>());
        prop_assert_eq!(standing[0].active, counts.iter().filter(|count| **count > 0).count() as u64);
        prop_assert_eq!(engine.live_windows().0.histogram().active(), standing[0].active);
        engine.seal(Timestamp::from_seconds(1000), |_| {});
        prop_assert_eq!(engine.known_pages(), 0);
    }
}

#[test]
fn a_page_that_jumps_from_nothing_is_hot_in_the_very_next_standing_with_its_visitors() {
    let mut engine = Engine::new(rules(2, true));
    let at = |ms: i64| Timestamp::from_millis(1_700_000_000_000 + ms);
    for n in 0..20_000i64 {
        engine.push(&format!("quiet-{}", n % 500), EventKind::View, n as u64, at(n * 2));
    }
    rank(&mut engine, at(40_000));
    for n in 0..60u64 {
        engine.push("flash", EventKind::View, n % 30, at(40_000 + n as i64));
    }
    let (standing, ranked) = rank(&mut engine, at(40_060));
    let flash = ranked.iter().find(|r| r.page.as_str() == "flash").unwrap();
    assert_eq!(flash.count5, 60);
    assert!(flash.count5 >= standing[1].hot);
    assert!((29..=31).contains(&flash.visitors), "30 visitors within the sketch's error: {}", flash.visitors);
}

#[test]
fn one_script_cannot_make_a_product_hot() {
    let mut engine = Engine::new(rules(2, true));
    for n in 0..1000 {
        engine.push("scripted", EventKind::Attempt, 7, Timestamp::from_millis(n));
    }
    assert_eq!(engine.counts("scripted"), Some((10, 10)), "two attempts of weight 5");
    assert_eq!(engine.counters().capped, 998);
}
