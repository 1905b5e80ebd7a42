//! What is written is read again, once, whatever happened in between.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use parking_lot::RwLock;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::tables::TopRow;

#[derive(Default)]
struct Live(RwLock<Vec<HeatRow>>);

impl LiveTables for Live {
    fn product_heat(&self, from: Option<Timestamp>, to: Option<Timestamp>) -> Vec<HeatRow> {
        let rows = self.0.read();
        let within = |r: &&HeatRow| from.is_none_or(|f| f <= r.time) && to.is_none_or(|t| r.time < t);
        rows.iter().filter(within).cloned().collect()
    }
    fn top_products(&self) -> Vec<TopRow> {
        Vec::new()
    }
}

const START: i64 = 1_794_355_200;

/// Sorted rows of some seconds: `(second, page, kind)` once each.
fn rows(seconds: std::ops::Range<i64>, pages: u32, seed: u64) -> Vec<HeatRow> {
    println!("seed {seed}");
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut all = Vec::new();
    for second in seconds {
        let mut names: Vec<String> =
            (0..random.random_range(0..pages)).map(|_| format!("p{}", random.random_range(0..pages * 3))).collect();
        names.sort();
        names.dedup();
        for name in names {
            let mut kinds = EventKind::ALL;
            kinds.sort_by_key(|k| k.as_str());
            let kind = kinds[random.random_range(0..kinds.len())];
            let events = random.random_range(1..200);
            all.push(HeatRow {
                time: Timestamp::from_seconds(START + second),
                page: name.as_str().into(),
                kind,
                events,
                weighted: events * 5,
                visitors: events / 2,
            });
        }
    }
    all
}

fn read(history: &History) -> Vec<HeatRow> {
    let mut all = Vec::new();
    for footer in history.shelf().between(i64::MIN, i64::MAX) {
        read_all(footer, |row| {
            all.push(row);
            Ok(())
        })
        .unwrap();
    }
    all
}

#[test]
fn rows_come_back_as_they_went_through_restart_joining_and_replay() {
    let place = tempfile::tempdir().unwrap();
    let expected = rows(3500..3800, 60, 8);
    let live = Live::default();
    let open = || History::open(place.path(), HistoryOptions::default()).unwrap();
    let mut history = open();
    for (at, part) in expected.chunk_by(|a, b| a.time.second() / 7 == b.time.second() / 7).enumerate() {
        live.0.write().extend_from_slice(part);
        assert_eq!(history.flush(&live).unwrap(), part.len());
        assert_eq!(history.flush(&live).unwrap(), 0, "nothing is written twice");
        if at % 5 == 0 {
            history = open();
        }
    }
    assert_eq!(read(&history), expected);
    let many = history.files();
    history.tidy().unwrap();
    assert!(history.files() < many, "{many} files were joined");
    assert_eq!(read(&history), expected);
    assert_eq!(read(&open()), expected);

    // A replay from long before has its own files, and what is there already is not written again.
    let earlier = rows(-9000..-8900, 20, 9);
    *live.0.write() = [earlier.clone(), expected.clone()].concat();
    history.flush(&live).unwrap();
    *live.0.write() = earlier.clone();
    history.flush(&live).unwrap();
    assert_eq!(read(&history), [earlier, expected].concat());
}

#[test]
fn only_pages_of_the_asked_time_are_read() {
    let place = tempfile::tempdir().unwrap();
    let history = History::open(place.path(), HistoryOptions::default()).unwrap();
    let expected = rows(0..3600, 80, 10);
    history.append(expected.clone()).unwrap();
    let shelf = history.shelf();
    let footer = shelf.between(i64::MIN, i64::MAX).next().unwrap();
    let all_pages = expected.len().div_ceil(super::super::write::PAGE_ROWS);
    assert!(all_pages > 5, "{all_pages} pages");
    let (from, to) = ((START + 600) * 1000, (START + 660) * 1000);
    let mut seen = 0;
    let columns = [0, 3];
    let schema = Arc::new(schema().project(&columns).unwrap());
    let pages = footer
        .scan(&columns, (from, to), &schema, |batch| {
            let times = batch.column(0).as_primitive::<TimestampMillisecondType>();
            seen += times.values().iter().filter(|t| (from..to).contains(*t)).count();
            true
        })
        .unwrap();
    assert!(pages <= 2, "{pages} of {all_pages} pages");
    assert_eq!(seen, expected.iter().filter(|r| (from..to).contains(&r.time.millis())).count());
    assert_eq!(shelf.between(0, 1000).count(), 0, "no file of another time is opened");
}

#[test]
fn a_crash_while_joining_or_writing_leaves_nothing_twice() {
    let place = tempfile::tempdir().unwrap();
    let open = || History::open(place.path(), HistoryOptions::default()).unwrap();
    let history = open();
    let expected = rows(0..40, 30, 11);
    for part in expected.chunk_by(|a, b| a.time.second() / 20 == b.time.second() / 20) {
        history.append(part.to_vec()).unwrap();
    }
    // Joined, and the process ends before the old files are gone; another file was not whole.
    let (first, last) = (expected[0].time.second(), expected[expected.len() - 1].time.second());
    history.write(first, last + 1, |file| file.group(&expected)).unwrap();
    let hour = place.path().join(hour_name(START));
    fs::write(hour.join(format!("{UNFINISHED}1-2.parquet")), b"PAR1").unwrap();
    let again = open();
    assert_eq!(again.files(), 1);
    assert_eq!(read(&again), expected);
    assert_eq!(fs::read_dir(&hour).unwrap().count(), 1);

    // A broken file is put aside, not shown and not deleted.
    let path = again.shelf().parts[0].footer.path().to_owned();
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.len() - 6;
    bytes[at] ^= 0xff;
    fs::write(&path, bytes).unwrap();
    assert_eq!(open().files(), 0);
    assert!(path.with_extension("unusable").exists());
}

#[test]
fn old_hours_and_too_many_bytes_go() {
    let place = tempfile::tempdir().unwrap();
    let keep = std::time::Duration::from_secs(7200);
    let history =
        History::open(place.path(), HistoryOptions { keep, most_bytes: 1 << 20, ..HistoryOptions::default() }).unwrap();
    for hour in 0..5 {
        history.append(rows(hour * 3600..hour * 3600 + 20, 30, 12)).unwrap();
    }
    history.tidy().unwrap();
    assert_eq!(history.files(), 2, "those that end less than two hours before the newest");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 2);
}

#[test]
fn any_damage_is_an_error_or_harmless_never_a_panic() {
    let place = tempfile::tempdir().unwrap();
    let history = History::open(place.path(), HistoryOptions::default()).unwrap();
    history.append(rows(0..30, 30, 13)).unwrap();
    let path = history.shelf().parts[0].footer.path().to_owned();
    let whole = fs::read(&path).unwrap();
    let mut random = ChaCha8Rng::seed_from_u64(14);
    let mut refused = 0;
    for _ in 0..400 {
        let mut bytes = whole.clone();
        for _ in 0..random.random_range(1..4) {
            let at = random.random_range(0..bytes.len());
            bytes[at] ^= 1 << random.random_range(0..8);
        }
        bytes.truncate(random.random_range(whole.len() / 2..=whole.len() * 3 / 2).min(whole.len()));
        fs::write(&path, &bytes).unwrap();
        refused += usize::from(Footer::read(&path).and_then(|f| read_all(&f, |_| Ok(()))).is_err());
    }
    assert!(refused > 200, "{refused} of 400 were noticed");
}
