//! Real logs against a naive recount of their raw lines: every window, every page. The shop's is not in the repository;
//! where it is absent its test says so and passes.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::PathBuf;

use analyzer::top::{Top, TopLine, TopOptions};
use types::{EventKind, Timestamp, VisitorHash};

fn data(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if !path.exists() {
        eprintln!("SKIPPED: {name} is not here");
        return None;
    }
    Some(path)
}

fn top_of(events: &[(i64, String)]) -> Vec<TopLine> {
    let mut top = Top::new(&TopOptions::raw()).unwrap();
    let mut lines = Vec::new();
    for (ms, page) in events {
        let at = Timestamp::from_millis(*ms);
        top.push(page, EventKind::View, VisitorHash(0), at, |w| lines.push(TopLine::from(w)));
    }
    let end = top.finish(|w| lines.push(TopLine::from(w)));
    assert_eq!((end.late, end.bad_pages), (0, 0));
    lines
}

/// Recounts every window from nothing.
fn check_every_window(events: &[(i64, String)], lines: &[TopLine]) {
    let mut by_second: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
    for (ms, page) in events {
        by_second.entry(ms.div_euclid(1000)).or_default().push(page);
    }
    let (first, last) = (*by_second.keys().next().unwrap(), *by_second.keys().last().unwrap());
    assert_eq!(lines.len() as i64, last + 60 - first);
    for (line, end) in lines.iter().zip(first + 1..) {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        by_second.range(end - 60..end).flat_map(|(_, pages)| pages).for_each(|p| *counts.entry(*p).or_insert(0) += 1);
        let active = counts.len();
        let k = active.div_ceil(100);
        let mut sorted: Vec<u64> = counts.values().copied().collect();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        let threshold = if k == 0 { 0 } else { sorted[k - 1] };
        let mut hot: Vec<(&str, u64)> = counts.into_iter().filter(|(_, c)| *c >= threshold).collect();
        hot.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        assert_eq!(line.window_end, Timestamp::from_seconds(end).to_second_string());
        assert_eq!((line.active, line.k, line.threshold), (active as u64, k as u64, threshold));
        let got: Vec<(&str, u64)> = line.hot.iter().map(|p| (p.page.as_str(), p.count)).collect();
        assert_eq!(got, hot, "window that ends at {}", line.window_end);
    }
}

#[test]
fn web07_as_a_log_at_three_rates() {
    // The trace is carried, in the same bytes with another packing.
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/data/web07.trace.gz");
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    let pages: Vec<i32> = bytes.chunks_exact(4).map(|b| i32::from_be_bytes([b[0], b[1], b[2], b[3]])).collect();
    assert_eq!((pages.len(), pages.iter().collect::<BTreeSet<_>>().len()), (76_118, 20_484));
    let start = "2026-11-11T00:00:00Z".parse::<Timestamp>().unwrap().second();
    for rate in [30, 100, 1000] {
        let at = |i: usize| (start + (i / rate) as i64) * 1000;
        let events: Vec<_> = pages.iter().enumerate().map(|(i, page)| (at(i), page.to_string())).collect();
        let lines = top_of(&events);
        check_every_window(&events, &lines);
        println!("web07 at {rate}/s: {} windows equal the recount", lines.len());
    }
}

#[test]
fn the_shops_own_log() {
    let Some(path) = data("shop_access.log") else { return };
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
    // Naive on purpose, and without a line of the collector's: the first quoted field is the request.
    let event = |line: &str| -> Option<(i64, String)> {
        let time = line.split_once('[')?.1.split_once(']')?.0;
        let at = jiff::Zoned::strptime("%d/%b/%Y:%H:%M:%S %z", time).ok()?.timestamp().as_millisecond();
        let mut quoted = line.split('"');
        let (request, after) = (quoted.nth(1)?, quoted.next()?);
        let mut words = request.split(' ');
        let (method, path) = (words.next()?, words.next()?);
        let status: u16 = after.split_whitespace().next()?.parse().ok()?;
        let rest = path.strip_prefix("/product/").or_else(|| path.strip_prefix("/m/product/"))?;
        let page = rest.split(['/', '?', '#']).next()?;
        let counts = method == "GET" && (status == 304 || (200..300).contains(&status)) && !page.is_empty();
        counts.then(|| (at, page.to_owned()))
    };
    let events: Vec<_> = text.lines().filter_map(event).collect();
    assert!(events.len() > 100, "{} product views", events.len());
    let lines = top_of(&events);
    check_every_window(&events, &lines);
    println!("shop_access.log: {} views, {} windows equal the recount", events.len(), lines.len());
}
