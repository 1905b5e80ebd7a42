//! Loads of many logs at once, and a store that cannot take a word of them: no line is lost or read twice.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use types::SystemClock;

use super::*;
use crate::Decoder;
use crate::account::Accounting;
use crate::classify::ClassifierOptions;
use crate::options::Encoding;

const FILES: usize = 400;
/// Longest wait for a condition; only a broken run ever waits so long.
const PATIENCE: Duration = Duration::from_secs(60);

fn line(file: usize, number: usize) -> String {
    format!(
        r#"{{"time":"2026-11-11T00:00:{number:02}Z","remote_addr":"10.0.0.1","method":"GET","uri":"/product/{file}-{number}","status":200,"user_agent":"F"}}"#
    ) + "\n"
}

struct Place {
    folder: tempfile::TempDir,
    store: Arc<Store>,
    recipe: Recipe,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("logs")).unwrap();
        let store = Arc::new(Store::open(&folder.path().join("state"), SystemClock::new().now()).unwrap());
        let decoder = Arc::new(Decoder::new(ClassifierOptions::default()).unwrap());
        Self { folder, store, recipe: Recipe { decoder, partitions: 2, encoding: Encoding::Arrow } }
    }
    fn tail(&self) -> Tail {
        let options = TailOptions {
            paths: vec![self.folder.path().join("logs/*.log")],
            from_start: true,
            poll: Duration::from_millis(10),
            watch: true,
            ..TailOptions::default()
        };
        Tail::open(options, Arc::clone(&self.store), &self.recipe, Arc::new(SystemClock::new())).unwrap()
    }
    fn append(&self, lines: std::ops::Range<usize>) {
        use std::io::Write;
        for file in 0..FILES {
            let path = self.folder.path().join(format!("logs/{file:03}.log"));
            let mut log = fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
            lines.clone().for_each(|number| log.write_all(line(file, number).as_bytes()).unwrap());
        }
    }
    /// What the service does with a load; answers the pages of its events.
    fn commit(&self, load: &[Batch]) -> BTreeSet<String> {
        let books = self.store.accounting().unwrap();
        let tally = load.iter().fold(Accounting::default(), |sum, batch| sum.plus(&batch.tally));
        self.store.commit(load, books.plus(&tally), SystemClock::new().now()).unwrap();
        let sheets = load.iter().flat_map(|batch| &batch.events);
        let events = sheets.flat_map(|sheet| product_events::decode(&sheet.value).unwrap().events);
        events.map(|event| event.page.to_string()).collect()
    }
}

/// Reads loads until all lines of all files came, and says how many loads that took.
fn read(place: &Place, tail: &mut Tail, seen: &mut BTreeSet<String>, lines: usize) -> usize {
    let (started, mut loads) = (Instant::now(), 0);
    while seen.len() < FILES * lines {
        assert!(started.elapsed() < PATIENCE, "{} of {} lines came", seen.len(), FILES * lines);
        let load = tail.next_load().unwrap();
        loads += usize::from(!load.is_empty());
        for page in place.commit(&load) {
            assert!(seen.insert(page), "no line comes twice");
        }
    }
    loads
}

#[test]
fn many_logs_that_grew_a_little_are_a_few_loads() {
    let place = Place::new();
    place.append(0..2);
    let mut tail = place.tail();
    let mut seen = BTreeSet::new();
    let loads = read(&place, &mut tail, &mut seen, 2);
    assert_eq!(loads, FILES.div_ceil(LOAD_CHUNKS), "a commit for each of {LOAD_CHUNKS} logs");
    place.append(2..3);
    read(&place, &mut tail, &mut seen, 3);
    assert!(place.store.accounting().unwrap().adds_up());
    // From what is remembered there is nothing more to read.
    drop(tail);
    assert!(place.tail().next_load().unwrap().is_empty());
}

#[test]
fn a_store_that_cannot_take_the_names_of_new_logs_costs_no_line() {
    let place = Place::new();
    let mut tail = place.tail();
    let mut seen = BTreeSet::new();
    place.store.leave_room(Some(2));
    place.append(0..3);
    let (started, mut failures) = (Instant::now(), 0);
    while failures < 3 {
        assert!(started.elapsed() < PATIENCE, "the store was never full");
        match tail.next_load() {
            Ok(load) => assert!(load.is_empty(), "nothing can be published under a name that is not remembered"),
            Err(error) => {
                assert!(error.retryable(), "{error}");
                failures += 1;
            }
        }
    }
    place.append(3..4);
    place.store.leave_room(None);
    read(&place, &mut tail, &mut seen, 4);
    assert_eq!(place.store.accounting().unwrap().lines, (FILES * 4) as u64);
    drop(tail);
    assert!(place.tail().next_load().unwrap().is_empty());
}
