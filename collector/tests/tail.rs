//! Many logs at once: patterns, rotated and gzip'd generations, changes heard and unheard, a thousand files with few
//! descriptors, and a death in the middle of it. Real files, and every line counted once.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use collector::LINGER;
use common::{Running, Shop, expected, lines, until};
use flate2::Compression;
use flate2::write::GzEncoder;
use types::{ManualClock, Timestamp};

/// A shop whose logs lie in `logs/` and are named by patterns.
fn shop(patterns: &[&str]) -> Shop {
    let mut shop = Shop::new();
    fs::create_dir(shop.path("logs")).unwrap();
    shop.options.paths = patterns.iter().map(|pattern| shop.path(pattern)).collect();
    shop
}

/// As `gzip` does: the file is replaced by its packed copy, which keeps its time.
fn gzip(shop: &Shop, name: &str) {
    let (from, to) = (shop.path(name), shop.path(&format!("{name}.gz")));
    let modified = fs::metadata(&from).unwrap().modified().unwrap();
    let mut pack = GzEncoder::new(File::create(&to).unwrap(), Compression::default());
    pack.write_all(&fs::read(&from).unwrap()).unwrap();
    pack.finish().unwrap().set_modified(modified).unwrap();
    fs::remove_file(from).unwrap();
}

/// Gives a file a time of its own, `ago` before now.
fn age(shop: &Shop, name: &str, ago: u64) {
    let file = File::options().append(true).open(shop.path(name)).unwrap();
    file.set_modified(std::time::SystemTime::now() - Duration::from_secs(ago)).unwrap();
}

/// When the lines of these tests were written, for clocks that are set by hand.
fn at_the_sale() -> Timestamp {
    "2026-11-11T00:00:10Z".parse().unwrap()
}

async fn counted(running: &Running, lines: u64) {
    until(&format!("{lines} lines are counted"), || running.handle.accounting().lines >= lines).await;
    assert_eq!(running.handle.accounting().lines, lines);
    assert!(running.handle.accounting().adds_up());
}

#[tokio::test]
async fn files_that_a_pattern_names_are_found_while_it_runs() {
    let mut shop = shop(&["logs/*.log", "logs/*/shop-*.log"]);
    shop.options.exclude = vec![shop.path("logs/**/*debug*")];
    shop.append("logs/a.log", &lines(0..10));
    shop.append("logs/debug.log", &lines(0..99));
    let running = shop.start().await;
    counted(&running, 10).await;

    shop.append("logs/b.log", &lines(10..20));
    shop.append("logs/notes.txt", &lines(0..99));
    counted(&running, 20).await;
    fs::create_dir(shop.path("logs/eu")).unwrap();
    shop.append("logs/eu/shop-1.log", &lines(20..30));
    shop.append("logs/eu/other.log", &lines(0..99));
    shop.append("logs/eu/shop-debug.log", &lines(0..99));
    counted(&running, 30).await;
    assert_eq!(running.handle.files().len(), 3);

    // A log that is deleted is read to its end and forgotten; another of its name is another.
    fs::remove_file(shop.path("logs/b.log")).unwrap();
    shop.append("logs/a.log", &lines(30..40));
    counted(&running, 40).await;
    running.stop().await;
    let running = shop.start().await;
    shop.append("logs/b.log", &lines(40..50));
    counted(&running, 50).await;
    running.stop().await;
    assert_eq!(shop.counted().await, (expected(0..50), 0));
}

#[tokio::test]
async fn what_was_there_before_is_left_alone_without_from_start_and_what_comes_is_read() {
    let mut shop = shop(&["logs/*.log*"]);
    shop.options.from_start = false;
    shop.append("logs/old.log", &lines(0..10));
    shop.append("logs/old.log.1", &lines(0..10));
    shop.append("logs/old.log.2", &lines(0..10));
    gzip(&shop, "logs/old.log.2");
    let running = shop.start().await;
    until("nothing is left to read", || running.handle.caught_up()).await;
    shop.append("logs/old.log", &lines(10..20));
    shop.append("logs/new.log", &lines(20..30));
    counted(&running, 20).await;
    running.stop().await;
    assert_eq!(shop.counted().await, (expected(10..30), 0));
}

#[tokio::test]
async fn older_generations_are_read_once_packed_or_not_and_never_again() {
    let shop = shop(&["logs/access.log*"]);
    for (name, from, ago) in [("access.log.3", 0, 300), ("access.log.2", 100, 200), ("access.log.1", 200, 100)] {
        shop.append(&format!("logs/{name}"), &lines(from..from + 100));
        age(&shop, &format!("logs/{name}"), ago);
    }
    shop.append("logs/access.log", &lines(300..400));
    for name in ["logs/access.log.3", "logs/access.log.2"] {
        gzip(&shop, name);
    }
    let clock = Arc::new(ManualClock::at(at_the_sale()));
    let running = shop.start_with(Arc::new(shop.log.clone()), clock.clone()).await;
    counted(&running, 400).await;
    assert_eq!(running.handle.files().len(), 1, "one log, whatever its files are called");

    // It is rotated as logrotate does it with delaycompress: everything moves up, the one before last is packed.
    for (from, to) in [("3.gz", "4.gz"), ("2.gz", "3.gz"), ("1", "2")] {
        shop.rename(&format!("logs/access.log.{from}"), &format!("logs/access.log.{to}"));
    }
    shop.rename("logs/access.log", "logs/access.log.1");
    shop.append("logs/access.log", &lines(400..450));
    counted(&running, 450).await;
    gzip(&shop, "logs/access.log.2");
    shop.append("logs/access.log", &lines(450..500));
    counted(&running, 500).await;
    clock.advance(LINGER);
    until("older files are done with", || running.handle.caught_up()).await;
    running.stop().await;

    let running = shop.start().await;
    until("nothing is left to read", || running.handle.caught_up()).await;
    counted(&running, 500).await;
    running.stop().await;
    assert_eq!(shop.counted().await, (expected(0..500), 0));
}

#[tokio::test]
async fn what_was_packed_during_an_outage_is_read_on_where_it_was_left() {
    let shop = Shop::new();
    shop.append("access.log", &lines(0..10_000));
    let running = shop.start().await;
    counted(&running, 10_000).await;
    running.stop().await;

    shop.append("access.log", &lines(10_000..20_000));
    shop.rename("access.log", "access.log.2");
    gzip(&shop, "access.log.2");
    shop.append("access.log.1", &lines(20_000..30_000));
    gzip(&shop, "access.log.1");
    shop.append("access.log", &lines(30_000..30_010));
    for _ in 0..2 {
        let running = shop.start().await;
        counted(&running, 30_010).await;
        running.stop().await;
    }
    assert_eq!(shop.counted().await, (expected(0..30_010), 0));
}

#[tokio::test]
async fn a_broken_gzip_is_waited_for_then_given_up_and_blocks_nothing() {
    let shop = shop(&["logs/access.log*"]);
    shop.append("logs/access.log.2", &lines(0..5_000));
    age(&shop, "logs/access.log.2", 200);
    gzip(&shop, "logs/access.log.2");
    let whole = fs::read(shop.path("logs/access.log.2.gz")).unwrap();
    fs::write(shop.path("logs/access.log.2.gz"), &whole[..whole.len() / 2]).unwrap();
    age(&shop, "logs/access.log.2.gz", 200);
    shop.append("logs/access.log", &lines(5_000..5_100));
    let clock = Arc::new(ManualClock::at(at_the_sale()));
    let running = shop.start_with(Arc::new(shop.log.clone()), clock.clone()).await;
    until("the trouble is shown", || running.handle.files()[0].trouble.is_some()).await;
    clock.advance(LINGER);
    until("the log behind it is read", || running.handle.files()[0].position > 0 && running.handle.caught_up()).await;
    let books = running.handle.accounting();
    assert!(books.adds_up() && books.events > 100 && books.events < 5_100, "{books:?}");
    assert!(running.handle.files()[0].trouble.is_none());
    running.stop().await;
}

#[tokio::test]
async fn an_archive_of_gzips_alone_is_read_once() {
    let shop = shop(&["logs/*.gz"]);
    for n in 0..3 {
        shop.append(&format!("logs/day-{n}.log"), &lines(n * 50..n * 50 + 50));
        gzip(&shop, &format!("logs/day-{n}.log"));
    }
    for _ in 0..2 {
        let running = shop.start().await;
        counted(&running, 150).await;
        until("nothing is left to read", || running.handle.files().iter().all(|file| file.behind == 0)).await;
        running.stop().await;
    }
    assert_eq!(shop.counted().await, (expected(0..150), 0));
}

#[tokio::test]
async fn two_rotations_between_two_looks_lose_nothing() {
    let mut shop = shop(&["logs/access.log"]);
    // Nothing is heard and the next look is far away.
    shop.options.watch = false;
    shop.options.poll = Duration::from_secs(1);
    shop.append("logs/access.log", &lines(0..10));
    let running = shop.start().await;
    counted(&running, 10).await;
    shop.append("logs/access.log", &lines(10..20));
    shop.rename("logs/access.log", "logs/access.log.2");
    tokio::time::sleep(Duration::from_millis(20)).await;
    shop.append("logs/access.log.1", &lines(20..30));
    tokio::time::sleep(Duration::from_millis(20)).await;
    shop.append("logs/access.log", &lines(30..40));
    counted(&running, 40).await;
    running.stop().await;
    assert_eq!(shop.counted().await, (expected(0..40), 0));
}

#[tokio::test]
async fn a_line_is_heard_of_long_before_the_next_look() {
    for watch in [true, false] {
        let mut shop = shop(&["logs/*.log"]);
        shop.options.poll = Duration::from_millis(if watch { 10_000 } else { 50 });
        shop.options.watch = watch;
        shop.append("logs/a.log", &lines(0..1));
        let running = shop.start().await;
        counted(&running, 1).await;
        let mut took = Vec::new();
        for n in 1..101 {
            let begin = Instant::now();
            shop.append("logs/a.log", &lines(n..n + 1));
            while running.handle.accounting().lines <= n {
                tokio::time::sleep(Duration::from_micros(200)).await;
                assert!(begin.elapsed() < Duration::from_secs(60));
            }
            took.push(begin.elapsed());
        }
        took.sort_unstable();
        println!("watch {watch}: from write to commit p50 {:?}, p99 {:?}", took[50], took[98]);
        running.stop().await;
        assert_eq!(shop.counted().await, (expected(0..101), 0));
    }
}

#[tokio::test]
async fn a_log_of_which_nothing_is_heard_is_polled() {
    // Changes behind a link to another folder are not told, as on a network file system.
    let mut shop = shop(&["logs/access.log"]);
    shop.options.poll = Duration::from_millis(20);
    fs::create_dir(shop.path("elsewhere")).unwrap();
    shop.append("elsewhere/real.log", &lines(0..10));
    std::os::unix::fs::symlink(shop.path("elsewhere/real.log"), shop.path("logs/access.log")).unwrap();
    let running = shop.start().await;
    counted(&running, 10).await;
    let begin = Instant::now();
    for n in 1..20 {
        shop.append("elsewhere/real.log", &lines(n * 10..n * 10 + 10));
        counted(&running, n * 10 + 10).await;
    }
    println!("19 unheard changes one after the other took {:?}", begin.elapsed());
    running.stop().await;
    assert_eq!(shop.counted().await, (expected(0..200), 0));
}

/// Descriptors of this process for files below `folder`.
fn descriptors(folder: &Path) -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
    links.filter(|target| target.starts_with(folder)).count()
}

/// Memory of this process, in MiB.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_files_with_few_descriptors_through_rotation_and_death() {
    const FILES: u64 = 1_000;
    let mut shop = shop(&["logs/*/*.log"]);
    shop.options.poll = Duration::from_millis(50);
    let name = |n: u64| format!("logs/{}/{n:03}.log", n % 10);
    for folder in 0..10 {
        fs::create_dir(shop.path(&format!("logs/{folder}"))).unwrap();
    }
    let mut written = 0;
    let mut round = |shop: &Shop| {
        for n in 0..FILES {
            shop.append(&name(n), &lines(written + n * 5..written + n * 5 + 5));
        }
        written += FILES * 5;
        written
    };
    let before = memory();
    let total = round(&shop);
    let begin = Instant::now();
    let running = shop.start().await;
    counted(&running, total).await;
    println!("1,000 files met and 5 lines of each committed in {:?}", begin.elapsed());
    let open = descriptors(&shop.path("logs"));
    assert!(open <= 256 + 10, "{open} files are open");

    // All grow at once; they take turns.
    let begin = Instant::now();
    let total = round(&shop);
    counted(&running, total).await;
    println!("all grown by 5 lines: the last is committed after {:?}; {open} files open", begin.elapsed());
    println!("memory grew by {} MiB", memory() - before);
    // A death in the middle, and meanwhile every third log is moved away, every seventh copied and truncated.
    let total = round(&shop);
    until("some are read", || running.handle.accounting().lines > total - FILES * 4).await;
    running.task.abort();
    let _ = running.task.await;
    for n in 0..FILES {
        let (path, old) = (name(n), format!("{}.1", name(n)));
        match n {
            n if n % 3 == 0 => shop.rename(&path, &old),
            n if n % 7 == 0 => {
                fs::copy(shop.path(&path), shop.path(&old)).unwrap();
                File::options().write(true).open(shop.path(&path)).unwrap().set_len(0).unwrap();
            }
            _ => {}
        }
    }
    let total = round(&shop);
    let running = shop.start().await;
    counted(&running, total).await;

    // The same while it runs, most of the files being closed.
    for n in (0..FILES).filter(|n| n % 3 == 1) {
        shop.rename(&name(n), &format!("{}.1", name(n)));
    }
    let total = round(&shop);
    counted(&running, total).await;
    let open = descriptors(&shop.path("logs"));
    assert!(open <= 256 + 10, "{open} files are open");
    running.stop().await;
    let (views, _) = shop.counted().await;
    assert_eq!(views, expected(0..total));
}
